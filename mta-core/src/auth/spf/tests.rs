//! Cases that the public suite (`tests/tests/spf_suite.rs`) has not, or that show one rule alone.

use std::collections::HashMap;
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, MX, PTR, TXT};
use hickory_proto::rr::{Name, RData, RecordType};
use proptest::prelude::*;

use super::*;

/// A small DNS: text records by name, and addresses.
#[derive(Default)]
struct Zone(HashMap<Question, Vec<RData>>);

impl Zone {
    fn with(mut self, owner: &str, rtype: RecordType, data: &str) -> Self {
        let data = match rtype {
            RecordType::A => RData::A(A(data.parse().expect("an address"))),
            RecordType::AAAA => RData::AAAA(AAAA(data.parse().expect("an address"))),
            RecordType::MX => RData::MX(MX::new(10, name(data).unwrap_or_else(Name::root))),
            RecordType::PTR => RData::PTR(PTR(name(data).expect("a name"))),
            _ => RData::TXT(TXT::new(vec![data.to_owned()])),
        };
        let key = (name(owner).expect("a name"), rtype);
        self.0.entry(key).or_default().push(data);
        self
    }

    /// Runs to the end; with how many questions.
    fn check(&self, client: &str, sender: &str) -> (Checked, usize) {
        let mut facts = Facts::default();
        loop {
            let client: IpAddr = client.parse().expect("an address");
            let request =
                Request { client, helo: "mail.example", sender, receiver: "mx.example", now_seconds: 0 };
            match check(&facts, &request) {
                Ok(checked) => return (checked, facts.len()),
                Err(question) => {
                    let found = self.0.get(&question).cloned().map_or(Found::NoName, Found::Records);
                    facts.learn(question, found);
                }
            }
        }
    }

    fn result(&self, client: &str) -> SpfResult {
        self.check(client, "ann@a.example").0.result
    }
}

fn txt(owner: &str, text: &str) -> Zone {
    Zone::default().with(owner, RecordType::TXT, text)
}

#[test]
fn records_and_expansions_are_bounded() {
    let long = |octets: usize| format!("v=spf1 {}-all", "a:x.example ".repeat(octets / 12));
    assert_eq!(txt("a.example", &long(5_000)).result("192.0.2.9"), SpfResult::PermError);
    assert_ne!(txt("a.example", "v=spf1 -all").result("192.0.2.9"), SpfResult::PermError);
    // A domain that is cut to its last 253 octets is none the worse for it; one that grows without end is.
    for (times, expected) in [(20, SpfResult::Fail), (900, SpfResult::PermError)] {
        let record = format!("v=spf1 a:{}.x.example -all", "%{s}.".repeat(times).trim_end_matches('.'));
        assert_eq!(txt("a.example", &record).result("192.0.2.9"), expected, "{times}");
    }
}

#[test]
fn what_a_small_domain_publishes() {
    let zone = txt("a.example", "v=spf1 mx ip6:2001:db8::/32 include:b.example ~all")
        .with("a.example", RecordType::MX, "mx.a.example")
        .with("mx.a.example", RecordType::A, "192.0.2.1")
        .with("b.example", RecordType::TXT, "v=spf1 a:out.b.example -all")
        .with("out.b.example", RecordType::A, "192.0.2.9");
    for (client, expected) in [
        ("192.0.2.1", SpfResult::Pass),
        ("::ffff:192.0.2.1", SpfResult::Pass),
        ("2001:db8::77", SpfResult::Pass),
        ("192.0.2.9", SpfResult::Pass),
        ("192.0.2.8", SpfResult::SoftFail),
        ("2001:db9::1", SpfResult::SoftFail),
    ] {
        assert_eq!(zone.result(client), expected, "{client}");
    }
}

#[test]
fn errors_say_why() {
    let zone = txt("a.example", "v=spf1 include:nowhere.example -all");
    let (checked, _) = zone.check("192.0.2.1", "ann@a.example");
    assert_eq!(checked.result, SpfResult::PermError);
    assert_eq!(checked.reason.as_deref(), Some("include of nowhere.example, which has no record"));
    let zone = txt("a.example", "v=spf1 ipv4:192.0.2.1 -all");
    let (checked, _) = zone.check("192.0.2.1", "ann@a.example");
    assert_eq!(checked.reason.as_deref(), Some("a.example: cannot read the term \"ipv4:192.0.2.1\""));
}

#[test]
fn the_work_of_a_hostile_record_is_bounded() {
    // Each record includes itself many times over: the terms are counted over all of them.
    let zone = txt("a.example", &format!("v=spf1 {} -all", "include:a.example ".repeat(12)));
    let (checked, questions) = zone.check("192.0.2.1", "ann@a.example");
    assert_eq!((checked.result, questions), (SpfResult::PermError, 1));
    let mut zone = txt("a.example", "v=spf1 mx mx:b.example mx:c.example -all");
    for domain in ["a", "b", "c"] {
        for n in 0..10 {
            zone = zone.with(&format!("{domain}.example"), RecordType::MX, &format!("h{n}.{domain}.example"));
        }
    }
    // Ten hosts each, none of which has an address: the bound of RFC 7208 4.6.4 on hosts, not on queries that find nothing.
    let (checked, questions) = zone.check("192.0.2.1", "ann@a.example");
    assert_eq!((checked.result, questions), (SpfResult::Fail, 34));
}

#[test]
fn an_explanation_never_brings_control_characters_or_length() {
    let zone = |text: &str| {
        let zone = txt("a.example", "v=spf1 -all exp=e.a.example").with("e.a.example", RecordType::TXT, text);
        zone.check("192.0.2.1", "ann@a.example").0.explanation
    };
    assert_eq!(zone("see %{d} for %{i}").as_deref(), Some("see a.example for 192.0.2.1"));
    assert_eq!(zone("a\r\nb"), None);
    assert_eq!(zone(&"x%{d}".repeat(50)), None);
    let zone = txt("a.example", "v=spf1 -all exp=e.a.example").with("e.a.example", RecordType::TXT, "%{l}");
    assert_eq!(zone.check("192.0.2.1", "\"a\r\nb\"@a.example").0.explanation, None);
}

#[test]
fn ptr_holds_only_where_the_name_leads_back() {
    let zone = txt("a.example", "v=spf1 ptr -all")
        .with("1.2.0.192.in-addr.arpa", RecordType::PTR, "evil.example")
        .with("1.2.0.192.in-addr.arpa", RecordType::PTR, "fake.a.example")
        .with("fake.a.example", RecordType::A, "192.0.2.99");
    assert_eq!(zone.result("192.0.2.1"), SpfResult::Fail);
    let zone = zone.with("fake.a.example", RecordType::A, "192.0.2.1");
    assert_eq!(zone.result("192.0.2.1"), SpfResult::Pass);
    assert!(!is_within("evila.example", "a.example"));
}

proptest! {
    #[test]
    fn no_record_panics_or_runs_for_ever(
        text in "(v=spf1 )?([-+~?]?(a|mx|ptr|all|exists|include|ip4|ip6|redirect|exp)[:=/]?|%\\{[sloditpvhcrx][0-9]{0,3}r?[.+-]?\\}|a\\.example|/[0-9]{1,3}| |\u{e9}|%|\\.){0,20}",
        sender in ".{0,20}(@[a-z.]{0,12})?",
    ) {
        let zone = txt("a.example", &text);
        let (_, questions) = zone.check("192.0.2.1", "x@a.example");
        prop_assert!(questions <= 60);
        zone.check("2001:db8::1", &sender);
    }
}
