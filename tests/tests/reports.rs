//! Reports to the operators of other domains over the whole server: counted, made, signed, sent, taken; by mail and by HTTPS.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use hickory_proto::op::ResponseCode;
use mta_lab::cert::Identity;
use mta_lab::client;
use mta_lab::dkimpy;
use mta_lab::lab::{Lab, Plan};
use mta_lab::mx::{Behaviour, Received};
use mta_lab::peers;
use mta_lab::policy_host::PolicyHost;
use mta_lab::zone::{FaultKind, Zone};
use serde_json::Value;

/// Where reports are posted.
const COLLECTOR: Ipv4Addr = Ipv4Addr::new(127, 25, 1, 9);

/// Reads a mail that carries a report, as software of others would: the header, the parts, and the report's text.
const READER: &str = r#"
import email, email.policy, gzip, json, sys
message = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
text, report = list(message.iter_parts())
print(json.dumps({
    "header": {name.lower(): str(value) for name, value in message.items()},
    "type": message.get_content_type(),
    "report_type": message.get_param("report-type"),
    "text": text.get_content(),
    "media_type": report.get_content_type(),
    "file": report.get_filename(),
    "report": gzip.decompress(report.get_content()).decode(),
}))
"#;

/// Unpacks what was posted.
const UNPACKER: &str =
    "import gzip, sys; sys.stdout.write(gzip.decompress(sys.stdin.buffer.read()).decode())";

fn python(program: &str, input: &[u8]) -> Value {
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python");
    child.stdin.take().expect("a pipe").write_all(input).expect("written");
    let output = child.wait_with_output().expect("ended");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(input));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What `report list` says of all reports of a kind.
fn listed(lab: &Lab, kind: &str) -> Vec<Value> {
    let output =
        lab.daemon().cli(["report", "list", "--all", "--kind", kind, "--json"]).expect("report list");
    let mut listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    match listed["reports"].take() {
        Value::Array(reports) => reports,
        other => panic!("no list of reports: {other}"),
    }
}

/// The report about this domain, once it was tried.
fn tried(lab: &Lab, kind: &str, domain: &str) -> Value {
    let find = || listed(lab, kind).into_iter().find(|it| it["domain"] == domain && it["tries"] != 0);
    assert!(lab.wait_for_files(|| find().is_some()), "{:#?}", listed(lab, kind));
    find().expect("a report")
}

/// The mail at a host, once so many are there.
fn arrived(lab: &Lab, host: &str, count: usize) -> Vec<Received> {
    let mx = lab.mx(host);
    assert!(mx.wait_until(mta_lab::lab::WITHIN, |seen| seen.messages.len() >= count), "{:?}", mx.seen());
    mx.messages()
}

/// A domain whose one host takes mail under TLS, with this record for reports.
fn site(plan: &mut Plan, domain: &str, record: &str) {
    let host = format!("mx.{domain}");
    let behaviour = Behaviour::with_tls(&host, &Identity::self_signed(&[&host]));
    plan.site_with(domain, Some(behaviour), &[], |zone| zone.txt("_smtp._tls", record));
}

#[test]
fn tls_reports_leave_signed_and_by_https() {
    if peers::missing(&["dkimsign"]).is_some() {
        return;
    }
    let mut plan = Plan::new();
    plan.set("report.delay", "\"0s\"");
    // Each message has a session of its own.
    plan.set("outbound.max_messages_per_session", "1");
    let collector = PolicyHost::start(COLLECTOR, 0, &Identity::self_signed(&["x"])).expect("a host");
    let port = collector.address().port();
    plan.set("sts.port", &port.to_string());
    let https = format!("https://collect.rua.example:{port}/v1?x=1");
    site(
        &mut plan,
        "both.example",
        &format!("v=TLSRPTv1; rua=mailto:tls@rua.example, {https},https://collect.rua.example:26/"),
    );
    site(&mut plan, "broken.example", &format!("v=TLSRPTv1; rua=https://refuses.rua.example:{port}/"));
    site(&mut plan, "silent.example", "v=spf1 -all");
    // The reports' own host has a key that its TLSA record does not know: mail waits there, and reports do not.
    let stale = Identity::self_signed(&["x"]).leaf().tlsa(3, 1, 1);
    let behaviour = Behaviour::with_tls("mx.rua.example", &Identity::self_signed(&["mx.rua.example"]));
    plan.site_with("rua.example", Some(behaviour), &[stale], |zone: Zone| {
        zone.address("collect", COLLECTOR).address("refuses", COLLECTOR)
    });
    let mut lab = plan.start().expect("a laboratory");
    collector.answer_posts("refuses.rua.example", "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    for (domain, count) in [("both.example", 2), ("broken.example", 1), ("silent.example", 1)] {
        for _ in 0..count {
            let id = lab.send("alice@own.example", &[&format!("bob@{domain}")]);
            assert_eq!(lab.settled(&id).status, "delivered");
        }
    }

    // Without a key nothing leaves, and whoever looks is told.
    let listed = dkimpy::tool(&lab, &["report", "list", "--json"], 1);
    let why = listed["sending"][0]["not_sent_because"].as_str().expect("a reason");
    assert!(why.contains("mta-cli dkim make own.example"), "{why}");
    dkimpy::tool(&lab, &["report", "send", "tls", "--day", "today", "--json"], 78);
    let records = dkimpy::sign(&mut lab);
    assert!(lab.wait_for_files(|| {
        lab.daemon().cli(["report", "list", "--json"]).is_ok_and(|o| o.status.code() == Some(2))
    }));

    let shown = dkimpy::tool(&lab, &["report", "send", "tls", "--day", "today", "--dry-run", "--json"], 0);
    let states: Vec<_> =
        shown["reports"].as_array().expect("reports").iter().map(|r| (&r["domain"], &r["state"])).collect();
    assert_eq!(format!("{states:?}").matches("\"ready\"").count(), 2, "{shown:#}");
    assert_eq!(lab.mx("mx.rua.example").messages().len() + collector.posted().len(), 0, "only shown");

    let sent = dkimpy::tool(&lab, &["report", "send", "tls", "--day", "today", "--json"], 0);
    assert_eq!(sent["count"], 3);
    let mail = arrived(&lab, "mx.rua.example", 1).remove(0);
    assert!(mail.reverse_path.starts_with("<>"), "{mail:?}");
    assert_eq!(mail.forward_paths, ["<tls@rua.example>"]);
    assert_eq!(dkimpy::verified(&mail.content, &records), ["ed25519-sha256 True", "rsa-sha256 True"]);
    let read = python(READER, &mail.content);
    let header = &read["header"];
    let report: Value = serde_json::from_str(read["report"].as_str().expect("text")).expect("JSON");
    let id = report["report-id"].as_str().expect("an id");
    let subject = format!("Report Domain: both.example Submitter: own.example Report-ID: <{id}>");
    assert_eq!(
        header["subject"].as_str().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")),
        Some(subject)
    );
    for (name, value) in [
        ("tls-report-domain", "both.example"),
        ("tls-report-submitter", "own.example"),
        ("tls-required", "No"),
        ("auto-submitted", "auto-generated"),
        ("to", "tls@rua.example"),
    ] {
        assert_eq!(header[name], value, "{name}");
    }
    assert_eq!((&read["type"], &read["report_type"]), (&"multipart/report".into(), &"tlsrpt".into()));
    assert_eq!(read["media_type"], "application/tlsrpt+gzip");
    let file = read["file"].as_str().expect("a name");
    assert!(file.starts_with("own.example!both.example!") && file.ends_with(".json.gz"), "{file}");
    let policy = &report["policies"][0];
    assert_eq!(policy["summary"]["total-successful-session-count"], 2, "{report:#}");
    assert_eq!(
        (&report["contact-info"], policy["policy"]["policy-type"].as_str()),
        (&"postmaster@own.example".into(), Some("no-policy-found"))
    );

    let both = tried(&lab, "tls", "both.example");
    assert_eq!((&both["state"], both["to"].as_array().map(Vec::len)), (&"sent".into(), Some(2)), "{both:#}");
    let posted = collector.posted().into_iter().find(|it| it.host == "collect.rua.example").expect("posted");
    assert_eq!(
        (posted.request.as_str(), posted.media_type.as_str()),
        ("POST /v1?x=1 HTTP/1.1", "application/tlsrpt+gzip")
    );
    assert_eq!(python(UNPACKER, &posted.body), report);
    let broken = tried(&lab, "tls", "broken.example");
    assert_eq!(broken["state"], "due", "it is tried again: {broken:#}");
    assert!(broken["reason"].as_str().is_some_and(|why| why.contains("status 503")), "{broken:#}");
    let silent = tried(&lab, "tls", "silent.example");
    assert_eq!(
        (&silent["state"], &silent["reason"]),
        (&"unwanted".into(), &"it publishes no _smtp._tls record".into())
    );

    // Reports are not reported: nothing was counted for the domain that takes them.
    let counted = lab.daemon().cli_json(["report", "tls", "--no-dns", "--json"]).expect("report tls");
    assert!(!counted.to_string().contains("rua.example"), "{counted:#}");
    assert_eq!(lab.mx("mx.rua.example").messages().len(), 1);
}

/// The text of each element of a DMARC report, by its path.
const DMARC_READER: &str = r#"
import json, sys, xml.etree.ElementTree as tree
found = {}
def walk(element, path):
    path = path + "/" + element.tag.replace("{urn:ietf:params:xml:ns:dmarc-2.0}", "")
    if len(element) == 0:
        found.setdefault(path, []).append(element.text or "")
    for child in element:
        walk(child, path)
walk(tree.fromstring(sys.stdin.buffer.read()), "")
print(json.dumps(found))
"#;

/// A domain that 127.0.0.1 may send for, with these addresses for reports.
fn author(plan: &mut Plan, domain: &str, rua: &str) {
    let policy = format!("v=DMARC1; p=quarantine; sp=none; adkim=s;{rua}");
    plan.zone(Zone::new(domain).txt("@", "v=spf1 ip4:127.0.0.1 -all").txt("_dmarc", &policy));
}

/// A domain that asks for reports to all kinds of places, one that wants a victim to get them, and one that asks for none.
fn dmarc_laboratory() -> Lab {
    let mut plan = Plan::new();
    // 127.0.0.1 is a stranger here.
    plan.set("smtp.relay_networks", "[]");
    let places = "rua=mailto:own@mail.author.example,mailto:r@agreed.example!10m,mailto:x@victim.example,\
                  mailto:s@agreed.example!1k,mailto:t@broken.example";
    author(&mut plan, "author.example", places);
    author(&mut plan, "bomber.example", "rua=mailto:x@victim.example");
    author(&mut plan, "silent.example", "");
    plan.site_with("agreed.example", Some(Behaviour::plain("mx.agreed.example")), &[], |zone| {
        zone.txt("author.example._report._dmarc", "v=DMARC1;")
    });
    plan.site("victim.example", Some(Behaviour::plain("mx.victim.example")), &[]);
    plan.site("mail.author.example", Some(Behaviour::plain("mx.mail.author.example")), &[]);
    plan.zone(Zone::new("broken.example").fault(FaultKind::Rcode(ResponseCode::ServFail)));
    plan.start().expect("a laboratory")
}

/// Sends a message as a stranger, which must be taken.
fn stranger(lab: &Lab, from: &str, author: &str, subject: &str) {
    let content =
        format!("From: <x@{author}>\r\nTo: <alice@own.example>\r\nSubject: {subject}\r\n\r\nText.\r\n");
    let reply =
        client::send_message(lab.daemon().address(), from, &["alice@own.example"], content.as_bytes());
    assert_eq!(reply.expect("a session").code, 250);
}

#[test]
fn dmarc_reports_leave_to_who_agreed_and_to_nobody_else() {
    if peers::missing(&["dkimsign"]).is_some() {
        return;
    }
    let mut lab = dmarc_laboratory();
    let records = dkimpy::sign(&mut lab);
    for (from, author, subject) in [
        ("x@author.example", "author.example", "a"),
        ("x@author.example", "author.example", "b"),
        ("y@elsewhere.example", "author.example", "forged"),
        ("y@elsewhere.example", "sub.author.example", "below"),
        ("x@author.example", "author.example", "Report domain: own.example Submitter: author.example"),
        ("x@bomber.example", "bomber.example", "a"),
        ("x@silent.example", "silent.example", "a"),
    ] {
        stranger(&lab, from, author, subject);
    }
    let counted = dkimpy::tool(&lab, &["report", "dmarc", "--day", "today", "--json"], 1);
    let domains: Vec<_> =
        counted["domains"].as_array().expect("domains").iter().map(|it| &it["domain"]).collect();
    assert_eq!(domains, ["author.example", "bomber.example"], "{counted:#}");
    let sent = dkimpy::tool(&lab, &["report", "send", "dmarc", "--day", "today", "--json"], 0);
    assert_eq!(sent["count"], 2);

    let mail = arrived(&lab, "mx.agreed.example", 1).remove(0);
    assert!(mail.reverse_path.starts_with("<>"), "{mail:?}");
    assert_eq!(mail.forward_paths, ["<r@agreed.example>"]);
    assert_eq!(dkimpy::verified(&mail.content, &records), ["ed25519-sha256 True", "rsa-sha256 True"]);
    let read = python(READER, &mail.content);
    let file = read["file"].as_str().expect("a name");
    assert!(file.starts_with("own.example!author.example!") && file.ends_with(".xml.gz"), "{file}");
    assert_eq!(
        (&read["media_type"], &read["header"]["tls-required"]),
        (&"application/gzip".into(), &Value::Null)
    );
    let subject = read["header"]["subject"].as_str().expect("a subject");
    assert!(subject.starts_with("Report Domain: author.example"), "{subject}");
    told(&python(DMARC_READER, read["report"].as_str().expect("text").as_bytes()));

    // Below the domain itself nobody has to agree; the victim did not, one place takes less, and one cannot be asked now.
    arrived(&lab, "mx.mail.author.example", 1);
    let author = tried(&lab, "dmarc", "author.example");
    assert_eq!(
        (&author["state"], author["to"].as_array().map(Vec::len)),
        (&"due".into(), Some(2)),
        "{author:#}"
    );
    let why = author["reason"].as_str().expect("a reason");
    for part in ["victim.example did not agree", "no more than 1024 are wanted", "t@broken.example"] {
        assert!(why.contains(part), "{part} is not in {why}");
    }
    let bomber = tried(&lab, "dmarc", "bomber.example");
    assert_eq!(
        (&bomber["state"], bomber["to"].as_array().map(Vec::len)),
        (&"unwanted".into(), Some(0)),
        "{bomber:#}"
    );
    assert_eq!(lab.mx("mx.victim.example").seen().connections, 0, "the third party hears nothing");
    assert_eq!(lab.mx("mx.agreed.example").messages().len(), 1);
}

/// Whether the report says what came.
fn told(report: &Value) {
    let texts = |path: &str| report[format!("/feedback{path}")].as_array().cloned().unwrap_or_default();
    for (path, expected) in [
        ("/policy_published/domain", &["author.example"][..]),
        ("/policy_published/p", &["quarantine"]),
        ("/policy_published/sp", &["none"]),
        ("/policy_published/adkim", &["s"]),
        ("/record/row/count", &["2", "1", "1"]),
        ("/record/row/source_ip", &["127.0.0.1", "127.0.0.1", "127.0.0.1"]),
        ("/record/auth_results/spf/scope", &["mfrom", "mfrom", "mfrom"]),
    ] {
        assert_eq!(texts(path), expected, "{path} in {report:#}");
    }
    let mut kinds: Vec<String> = texts("/record/identifiers/header_from")
        .iter()
        .zip(texts("/record/row/policy_evaluated/disposition"))
        .zip(texts("/record/row/policy_evaluated/spf"))
        .map(|((from, done), spf)| format!("{from} {done} {spf}").replace('"', ""))
        .collect();
    kinds.sort();
    let expected =
        ["author.example pass pass", "author.example quarantine fail", "sub.author.example none fail"];
    assert_eq!(kinds, expected, "{report:#}");
}
