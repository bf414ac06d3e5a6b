//! Servers that misbehave at each step of a session: the message stays queued, nobody else waits, memory stays small.
//!
//! The list of guarantees: endless, silent, slow, closing, code-less and contradicting servers, `421` anywhere, `250` to
//! DATA, junk in EHLO, controls and 60 kB in a refusal, certificates of 1500 names.

use std::time::Duration;

use mta_core::control::MessageView;
use mta_lab::cert::Identity;
use mta_lab::lab::{Lab, Plan};
use mta_lab::mx::{Action, Behaviour, Moment};
use mta_lab::zone::Zone;

/// The largest memory the daemon may use meanwhile, in KiB. It is far below what the servers try to make it keep.
const MAX_RSS_KIB: u64 = 200 * 1024;

const STEPS: [(Moment, &str); 6] = [
    (Moment::Banner, "banner"),
    (Moment::Ehlo, "ehlo"),
    (Moment::Mail, "mail"),
    (Moment::Rcpt, "rcpt"),
    (Moment::Data, "data"),
    (Moment::AfterDot, "dot"),
];

fn misdeeds() -> Vec<(&'static str, Action)> {
    let reply = |text: &str| Action::Reply(text.to_owned());
    vec![
        ("silence", Action::Silence),
        ("close", Action::Close),
        ("endless-line", Action::Raw(vec![b'x'; 2_000_000])),
        ("endless-reply", Action::Endless("250-and on".to_owned())),
        ("drip", Action::Drip("250 slowly".repeat(10), Duration::from_millis(500))),
        ("closing", reply("421 4.3.2 bye")),
        ("no-code", reply("hello there")),
        ("disagree", reply("250-one\n550 two")),
        ("odd-code", reply("999 what")),
        ("intermediate", reply("399 more")),
        ("controls", reply("450 4.0.0 \u{1b}[2J\u{7} red\u{85}\u{2028} \u{0}end")),
        ("long", reply(&format!("450 4.0.0 {}", "x".repeat(60_000)))),
        ("binary", Action::Raw(vec![0xff, 0xfe, 0x00, b'\r', b'\n'])),
    ]
}

fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running daemon");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line of its memory");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

fn impatient() -> Plan {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1h\"]");
    for key in ["connect", "greeting", "command", "tls", "data", "block", "end_of_data"] {
        plan.set(&format!("outbound.{key}_timeout"), "\"3s\"");
    }
    plan
}

fn assert_clean_log(lab: &Lab) {
    for line in lab.daemon().log() {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.len() < 8192, "{} bytes", line.len());
    }
}

#[test]
fn every_misdeed_at_every_step_defers_the_message_and_delays_nobody() {
    let mut plan = impatient();
    let mut cases = Vec::new();
    for (moment, step) in STEPS {
        for (what, action) in misdeeds() {
            if (what, moment) == ("intermediate", Moment::Data) {
                // Any 3yz is a yes to DATA (RFC 5321 4.3.2 lists 354 alone; the first digit decides).
                continue;
            }
            let domain = format!("{what}-{step}.example");
            let host = Behaviour::plain(&format!("mx.{domain}")).at(moment, action);
            plan.site_with(&domain, Some(host), &[], Zone::unsigned);
            cases.push((domain, moment));
        }
    }
    plan.site_with("good.example", Some(Behaviour::plain("mx.good.example")), &[], Zone::unsigned);
    // RFC 5321 3.3: only 3yz invites the content.
    let yes = Behaviour::plain("mx.yes.example").reply_at(Moment::Data, "250 2.0.0 taken unseen");
    plan.site_with("yes.example", Some(yes), &[], Zone::unsigned);
    cases.push(("yes.example".to_owned(), Moment::Data));
    let lab = plan.start().expect("a laboratory");
    let sent: Vec<String> =
        cases.iter().map(|(domain, _)| lab.send("alice@own.example", &[&format!("x@{domain}")])).collect();
    let good = lab.send("alice@own.example", &["x@good.example"]);
    let is_final = |message: &MessageView| message.finished_at.is_some();
    assert_eq!(lab.wait_for(&good, is_final).status, "delivered");
    let mut wrong = Vec::new();
    for ((domain, moment), id) in cases.iter().zip(&sent) {
        let shown = lab.settled(id);
        let taken = lab.mx(&format!("mx.{domain}")).messages().len();
        if shown.status != "deferred" || (taken > 0 && *moment != Moment::AfterDot) {
            let reply = shown.last_reply.clone().unwrap_or_default();
            wrong.push(format!("{domain}: {}, {taken} taken: {}", shown.status, reply.escape_debug()));
        }
        let text = serde_json::to_string(&shown).expect("JSON");
        assert!(text.len() < 64 * 1024, "{domain}: a record of {} bytes", text.len());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let memory = memory_kib(lab.daemon().pid().expect("a running daemon"));
    assert!(memory < MAX_RSS_KIB, "{memory} KiB");
    assert_clean_log(&lab);
}

#[test]
fn junk_in_the_offer_of_a_server_does_no_harm() {
    let mut plan = impatient();
    for (domain, extensions) in [
        ("many.example", (0..200).map(|number| format!("X-JUNK-{number}")).collect::<Vec<String>>()),
        (
            "odd.example",
            ["SIZE", "SIZE=", "8BITMIME yes", "", "\u{7}", "PIPELINING "].map(str::to_owned).to_vec(),
        ),
        ("lying.example", vec!["SIZE 99999999999999999999999999".to_owned()]),
        ("bare.example", Vec::new()),
    ] {
        let host = Behaviour { extensions, ..Behaviour::plain(domain) };
        plan.site_with(domain, Some(host), &[], Zone::unsigned);
    }
    let small = Behaviour { extensions: vec!["SIZE 10".to_owned()], ..Behaviour::plain("small") };
    plan.site_with("small.example", Some(small), &[], Zone::unsigned);
    let lab = plan.start().expect("a laboratory");
    let ids = ["many", "odd", "lying", "bare"]
        .map(|it| lab.send("alice@own.example", &[&format!("x@{it}.example")]));
    for id in &ids {
        let shown = lab.settled(id);
        assert_eq!(shown.status, "delivered", "{shown:#?}");
    }
    let small = lab.send("alice@own.example", &["x@small.example"]);
    let shown = lab.settled(&small);
    assert_eq!(shown.status, "failed", "{shown:#?}");
    assert!(lab.mx("mx.small.example").messages().is_empty());
    assert_clean_log(&lab);
}

#[test]
fn tls_that_goes_wrong_sends_nothing_under_dane() {
    let mut plan = impatient();
    let mut domains = Vec::new();
    let identity = Identity::self_signed(&["mx"]);
    let reply = |text: &str| Action::Reply(text.to_owned());
    for (name, moment, action) in [
        ("tls-silent", Moment::Handshake, Action::Silence),
        ("tls-endless", Moment::Handshake, Action::Raw(vec![0x16; 4_000_000])),
        ("tls-alert", Moment::Handshake, Action::Raw(vec![0x15, 3, 3, 0, 2, 2, 40])),
        ("tls-closed", Moment::Handshake, Action::Close),
        ("tls-silent-command", Moment::StartTls, Action::Silence),
        ("tls-refused", Moment::StartTls, reply("454 4.7.0 not now")),
        ("tls-denied", Moment::StartTls, reply("501 5.5.4 never")),
        ("tls-garbage", Moment::StartTls, Action::Raw(b"\xff\xfe\x00\x16\x03\x01 what\r\n".to_vec())),
        // Replies that came before the handshake must not count inside it (the class of CVE-2021-38371).
        ("tls-injected", Moment::StartTls, reply("220 2.0.0 go\n250-mx\n250 2.1.0 ok\n250 2.1.5 ok")),
    ] {
        let domain = format!("{name}.example");
        let host = Behaviour::with_tls(&domain, &identity).at(moment, action);
        plan.site(&domain, Some(host), &[identity.leaf().tlsa(3, 1, 1)]);
        domains.push(domain);
    }
    let names: Vec<String> = (0..1500).map(|number| format!("name-{number}.huge.example")).collect();
    let huge = Identity::self_signed(&names.iter().map(String::as_str).collect::<Vec<&str>>());
    let host = Behaviour::with_tls("mx.huge.example", &huge);
    plan.site("huge.example", Some(host), &[huge.leaf().tlsa(3, 1, 1)]);
    let closing = Behaviour::with_tls("mx.after.example", &identity).at(Moment::Mail, Action::Close);
    plan.site("after.example", Some(closing), &[identity.leaf().tlsa(3, 1, 1)]);
    let lab = plan.start().expect("a laboratory");
    let after = lab.send("alice@own.example", &["x@after.example"]);
    let huge = lab.send("alice@own.example", &["x@huge.example"]);
    let ids: Vec<String> =
        domains.iter().map(|domain| lab.send("alice@own.example", &[&format!("x@{domain}")])).collect();
    assert_eq!(lab.settled(&huge).status, "delivered");
    assert_eq!(lab.settled(&after).status, "deferred");
    let seen = lab.mx("mx.after.example").seen();
    assert!(seen.messages.is_empty() && seen.connections == seen.handshakes, "{:?}", seen.transcript);
    for (domain, id) in domains.iter().zip(&ids) {
        let shown = lab.settled(id);
        assert_eq!(shown.status, "deferred", "{shown:#?}");
        let seen = lab.mx(&format!("mx.{domain}")).seen();
        assert!(seen.messages.is_empty());
        assert!(!seen.transcript.iter().any(|line| line.starts_with("C: MAIL")), "{:?}", seen.transcript);
    }
    assert_clean_log(&lab);
}
