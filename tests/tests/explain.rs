//! What the administrator is told: `probe`, `explain`, `tlsa check` and `tlsa make` in the laboratory.
//!
//! The texts in `tests/explain/` are read by people: read a changed one before it is kept. To write them anew:
//! `UPDATE=1 cargo test -p mta-lab --test explain`. Digests, dates and ports are taken out, and line breaks do not count.

use std::path::{Path, PathBuf};
use std::process::Output;

use mta_lab::cert::{Ca, Identity};
use mta_lab::lab::{Lab, Plan};
use mta_lab::mx::Behaviour;
use mta_lab::show;
use serde_json::Value;

/// The domains of the show, and some whose failures have other classes.
fn laboratory() -> Lab {
    let mut plan = Plan::new();
    let ca = Ca::new("Laboratory CA");
    let tls = |host: &str, identity: &Identity| Some(Behaviour::with_tls(host, identity));

    // The issuer's certificate is named by its digest, and only the server's own is sent.
    let mut alone = ca.issue(&["mx.no-anchor.example"]);
    alone.chain.truncate(1);
    plan.site("no-anchor.example", tls("mx.no-anchor.example", &alone), &[ca.certificate.tlsa(2, 0, 1)]);

    let other = ca.issue(&["mail.elsewhere.example"]);
    plan.site("wrong-name.example", tls("mx.wrong-name.example", &other), &[ca.certificate.tlsa(2, 0, 1)]);

    let own = Identity::self_signed(&["mx.unusable.example"]);
    plan.site("unusable.example", tls("mx.unusable.example", &own), &[own.leaf().tlsa(1, 1, 1)]);

    // One host, two addresses, and only one of them has the key that is published.
    let (good, bad) = (Identity::self_signed(&["good"]), Identity::self_signed(&["bad"]));
    let second = plan.host("second.two-servers.example", tls("mx.two-servers.example", &bad));
    plan.site_with(
        "two-servers.example",
        tls("mx.two-servers.example", &good),
        &[good.leaf().tlsa(3, 1, 1)],
        |zone| zone.address("mx", second),
    );

    for (key, value) in
        [("dane", "off"), ("until", "2099-12-31"), ("reason", "their TLSA is stale, ticket 4711")]
    {
        plan.set(&format!("destination.\"excepted.example\".{key}"), &format!("\"{value}\""));
    }
    plan.site("excepted.example", tls("mx.excepted.example", &bad), &[good.leaf().tlsa(3, 1, 1)]);
    show::start_on(plan).expect("a laboratory").0
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("explain")
}

fn run(lab: &Lab, words: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = lab.daemon().cli(words.iter().copied()).expect("mta-cli");
    assert!(stderr.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&stderr));
    (status.code().unwrap_or(-1), String::from_utf8(stdout).expect("text"))
}

/// Takes out what differs from run to run.
fn normal(lab: &Lab, text: &str) -> String {
    let port = lab.ports.smtp.to_string();
    let text = text.replace(&format!(":{port}"), ":25").replace(&format!("_{port}._tcp"), "_25._tcp");
    let text = text.replace(&format!("port {port}"), "port 25");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let run: String = rest.chars().take_while(|it| it.is_ascii_hexdigit() || *it == '-').collect();
        let is_date = run.len() == 10 && run.matches('-').count() == 2;
        if is_date || (run.len() >= 12 && !run.contains('-')) {
            out.push_str(if is_date { "DATE" } else { "HEX" });
            rest = &rest[run.len()..];
        } else {
            let taken = run.len().max(first.len_utf8());
            out.push_str(&rest[..taken]);
            rest = &rest[taken..];
        }
    }
    // The tag of a zone's key: "a signature by key 55062".
    let mut words: Vec<String> = out.split(' ').map(str::to_owned).collect();
    for index in 1..words.len() {
        if words[index - 1].ends_with("key") && words[index].parse::<u16>().is_ok() {
            words[index] = "TAG".to_owned();
        }
    }
    words.join(" ")
}

/// Compares with the kept text, word by word; what is wrong, in words.
fn compare(name: &str, text: &str) -> Result<(), String> {
    let file = folder().join(format!("{name}.txt"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, text).expect("written");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    let same = kept.split_whitespace().eq(text.split_whitespace());
    if same { Ok(()) } else { Err(format!("---- {name} is not what is kept ----\n{text}")) }
}

#[test]
fn each_domain_reads_like_an_explanation() {
    let lab = laboratory();
    let mut wrong = Vec::new();
    for (verb, subject, code) in [
        ("probe", "dane-ee.example", 0),
        ("probe", "dane-ta.example", 0),
        ("probe", "wrong-key.example", 1),
        ("probe", "no-tls.example", 1),
        ("probe", "forged.example", 1),
        ("probe", "unsigned.example", 0),
        ("probe", "no-mail.example", 1),
        ("probe", "down.example", 1),
        ("probe", "no-anchor.example", 1),
        ("probe", "wrong-name.example", 1),
        ("probe", "unusable.example", 0),
        ("probe", "two-servers.example", 0),
        ("probe", "excepted.example", 0),
        ("probe", "nonesuch.example", 2),
        ("explain", "dane-ee.example", 0),
        ("explain", "bob@own.example", 0),
        ("explain", "nobody@own.example", 1),
    ] {
        let (exit, text) = run(&lab, &[verb, subject]);
        let text = normal(&lab, &text).replace(&lab.directory().display().to_string(), "DIRECTORY");
        if exit != code {
            wrong.push(format!("{verb} {subject}: exit {exit}, not {code}\n{text}"));
        }
        wrong.extend(compare(&format!("{verb}-{subject}"), &text).err());
    }
    for (target, code) in [
        ("mx.dane-ee.example", 0),
        ("mx.wrong-key.example", 1),
        ("mx.no-anchor.example", 1),
        ("mx.two-servers.example", 1),
        ("mx.unsigned.example", 2),
        ("mx.down.example", 75),
    ] {
        let (exit, text) = run(&lab, &["tlsa", "check", target]);
        let text = normal(&lab, &text);
        if exit != code {
            wrong.push(format!("tlsa check {target}: exit {exit}, not {code}\n{text}"));
        }
        wrong.extend(compare(&format!("tlsa-check-{target}"), &text).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Nobody got mail from any of this.
    for (name, host) in &lab.hosts {
        let seen = host.seen();
        assert!(!seen.transcript.iter().any(|line| line.contains("MAIL")), "{name}: {:?}", seen.transcript);
    }
}

#[test]
fn json_has_its_stable_fields() {
    let lab = laboratory();
    let told = lab.daemon().cli_json(["probe", "wrong-key.example", "--json"]).expect("JSON");
    assert_eq!(
        (&told["schema"], &told["fate"], &told["probed"]),
        (&Value::from(1), &Value::from("delay"), &Value::from(true))
    );
    let rule = |rules: &Value, name: &str| {
        let rules = rules.as_array().expect("rules");
        rules
            .iter()
            .find(|rule| rule["rule"] == name)
            .unwrap_or_else(|| panic!("no rule {name}: {rules:#?}"))
            .clone()
    };
    let mx = rule(&told["rules"], "mx");
    assert_eq!((&mx["verdict"], &mx["source"]), (&Value::from("ok"), &Value::from("RFC 7672 2.2.1")));
    let host = &told["hosts"][0];
    assert_eq!((&host["host"], &host["usable"]), (&Value::from("mx.wrong-key.example"), &Value::from(false)));
    assert_eq!(host["triage"]["class"], "stale-tlsa");
    let certificate = rule(&host["addresses"][0]["rules"], "certificate");
    assert_eq!(certificate["verdict"], "fail");
    assert!(told["exception"].as_array().is_some_and(|lines| lines.len() == 4), "{told:#}");
    assert_eq!(told["decision"]["hosts"][0]["tries"][0]["reason_code"], "stale-tlsa");

    let checked = lab.daemon().cli_json(["tlsa", "check", "mx.wrong-key.example", "--json"]).expect("JSON");
    assert_eq!(checked["records"][0]["matches"], Value::Array(Vec::new()));
    // What it says is served is what would be right to publish.
    let key = checked["served"][0]["spki_sha256"].as_str().expect("a key").to_owned();
    assert!(host["triage"]["operator"].to_string().contains(&key), "{host:#}");
    let made = lab.daemon().cli_json(["tlsa", "make", "--json"]).expect("JSON");
    assert!(
        made["line"]
            .as_str()
            .is_some_and(|line| line.starts_with("_25._tcp.mail.own.example. 3600 IN TLSA 3 1 1 ")),
        "{made:#}"
    );
}

/// The lines that are offered as an exception are taken by the configuration and do what they say.
#[test]
fn the_offered_exception_works() {
    let mut lab = laboratory();
    let told = lab.daemon().cli_json(["probe", "wrong-key.example", "--json"]).expect("JSON");
    let lines: Vec<String> = told["exception"]
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| line.as_str().expect("text").to_owned())
        .collect();
    for line in &lines[1..] {
        let (key, value) = line.split_once(" = ").expect("a key and a value");
        let (key, value) = (format!("destination.\"wrong-key.example\".{key}"), value.to_owned());
        lab.daemon_mut().change_settings(|settings| settings.set(&key, &value)).expect("written");
    }
    assert_eq!(lines[0], "[destination.\"wrong-key.example\"]");
    let (exit, text) = run(&lab, &["probe", "wrong-key.example"]);
    assert_eq!(exit, 0, "{text}");
    assert!(
        text.contains("DANE is switched off") && text.contains("stale-tlsa at mx.wrong-key.example"),
        "{text}"
    );
}

/// The notice about a delay, and the log line, name host, record, certificate and what can be done.
#[test]
fn a_stuck_message_says_everything_wherever_it_is_looked_at() {
    let mut plan = Plan::new();
    let (published, served) = (Identity::self_signed(&["old"]), Identity::self_signed(&["new"]));
    let host = Some(Behaviour::with_tls("mx.stuck.example", &served));
    plan.site("stuck.example", host, &[published.leaf().tlsa(3, 1, 1)]);
    plan.set("queue.delay_notice", "\"1s\"");
    plan.set("queue.retry", "[\"1s\"]");
    let lab = plan.start().expect("a laboratory");
    lab.send("alice@own.example", &["bob@stuck.example"]);
    assert!(lab.wait_for_files(|| !lab.maildir("own.example", "alice").is_empty()), "no notice");
    let notice = lab.maildir("own.example", "alice").remove(0);
    let notice = String::from_utf8_lossy(&notice).into_owned();
    let words = notice.split_whitespace().collect::<Vec<_>>().join(" ");
    for wanted in [
        "stale-tlsa",
        "mx.stuck.example",
        "IN TLSA 3 1 1 ",
        "[destination.\"stuck.example\"]",
        "dane = \"off\"",
    ] {
        assert!(words.contains(wanted), "{wanted} in\n{notice}");
    }
    let line = lab.daemon().log().into_iter().find(|line| line.contains("event=deferred")).expect("a line");
    assert!(line.contains(" class=stale-tlsa ") && line.contains("TLSA at _"), "{line}");
}
