//! Explanations of destinations: each rule's mark, the fate of a message, and what the person is told.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use hickory_proto::rr::RecordType::{A, MX, TLSA};
use mta_dane::dnssec::Status;
use mta_smtp::address::Domain;

use super::lab::{Behaviour, Lab, StartTls};
use crate::account::{Accounts, LocalDomain};
use crate::outbound::explain::{Explanation, Fate, Mark, Question, Rule, Site, answer, subject};
use crate::routing::Route;
use crate::routing::table::RoutingTable;

const WRONG: &str = "3 1 1 00000000000000000000000000000000000000000000000000000000000000aa";

fn ask(lab: &Lab, subject: &str, probe: bool) -> Explanation {
    let ours = LocalDomain {
        mailboxes: HashSet::from(["bob".to_owned()]),
        maildir: "/m/{mailbox}".into(),
        ..LocalDomain::default()
    };
    let accounts = Accounts::new(HashMap::from([(Domain::parse("own.test").unwrap(), ours)]), None);
    let mut routing = RoutingTable::new(None);
    if let Route::Relay(relay) = &lab.job.route {
        routing.insert("example.test", (**relay).clone());
    }
    let site = Site { accounts: &accounts, routing: &routing, lifetime: Duration::from_secs(5 * 86_400) };
    let second = Duration::from_secs(5);
    let question = Question { subject, probe, step_timeout: second, deadline: second * 4 };
    smol::block_on(answer(&site, lab.context(), &question)).unwrap()
}

fn marks(rules: &[Rule]) -> Vec<(&str, Mark)> {
    rules.iter().map(|rule| (rule.rule, rule.verdict)).collect()
}

#[test]
fn a_good_destination_is_ok_line_by_line() {
    let lab = Lab::dane(Behaviour::default());
    for probe in [false, true] {
        let told = ask(&lab, "example.test", probe);
        assert_eq!((told.fate, told.fate.exit_code()), (Fate::Deliver, 0), "{}", told.text(100));
        assert_eq!(
            marks(&told.rules),
            [("routing", Mark::Ok), ("local-rule", Mark::NotApplicable), ("mx", Mark::Ok)]
        );
        let rules = marks(&told.hosts[0].rules);
        let expected = ["address", "tlsa", "tlsa-record", "sni", "requirement"].map(|rule| (rule, Mark::Ok));
        assert_eq!(rules, expected, "{}", told.text(100));
        let address = &told.hosts[0].addresses[0];
        assert_eq!(address.ready, probe.then_some(true));
        if probe {
            let expected =
                ["connection", "starttls", "tls", "certificate", "session"].map(|rule| (rule, Mark::Ok));
            assert_eq!(marks(&address.rules), expected, "{}", told.text(100));
        }
    }
}

#[test]
fn what_fails_a_delivery_fails_the_probe_and_says_why() {
    let lab = Lab::dane(Behaviour::default());
    lab.tlsa(&[WRONG]);
    assert_eq!(ask(&lab, "example.test", false).fate, Fate::Deliver, "DNS alone cannot know");
    let told = ask(&lab, "bob@example.test", true);
    assert_eq!((told.fate.exit_code(), told.hosts[0].usable), (1, false));
    let text = told.text(100);
    for wanted in ["FAIL  certificate", "stale-tlsa", "[destination.\"example.test\"]", "IN TLSA 3 1 1 "] {
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }
    assert!(!lab.server.log().contains("MAIL"));
}

#[test]
fn errors_of_dns_have_their_codes() {
    let lab = Lab::dane(Behaviour::default());
    for rtype in [MX, A, TLSA] {
        let fresh = Lab::dane(Behaviour::default());
        let name = match rtype {
            MX => "example.test".to_owned(),
            A => "mx.test".to_owned(),
            _ => fresh.owner(),
        };
        fresh.resolver.bogus(&name, rtype);
        let told = ask(&fresh, "example.test", false);
        assert_eq!(told.fate.exit_code(), 1, "{}", told.text(100));
        assert!(!told.here.is_empty() && !told.operator.is_empty(), "{}", told.text(100));
        fresh.resolver.unavailable(&name, rtype);
        let told = ask(&fresh, "example.test", false);
        assert_eq!(told.fate.exit_code(), 75, "{}", told.text(100));
    }
    lab.resolver.nxdomain("gone.test", Status::Secure);
    assert_eq!(ask(&lab, "gone.test", true).fate.exit_code(), 2);
    lab.resolver.secure("null.test", MX, &["0 ."]);
    let told = ask(&lab, "null.test", true);
    assert_eq!((told.fate, told.rules[2].source), (Fate::Refuse, Some("RFC 7505 3")));
}

#[test]
fn without_dane_it_is_said_what_that_means() {
    let lab = Lab::unsigned(Behaviour { starttls: StartTls::NotOffered, ..Behaviour::default() });
    let told = ask(&lab, "example.test", true);
    assert_eq!(told.fate, Fate::Deliver);
    assert!(told.conclusion.contains("in the clear"), "{}", told.text(100));
    let lab = Lab::unsigned(Behaviour::default());
    let told = ask(&lab, "example.test", true);
    assert!(told.conclusion.contains("its identity not checked"), "{}", told.text(100));
}

#[test]
fn own_domains_stay_here() {
    let lab = Lab::dane(Behaviour::default());
    for (subject, fate) in
        [("own.test", Fate::Deliver), ("bob@own.test", Fate::Deliver), ("eve@own.test", Fate::Refuse)]
    {
        let told = ask(&lab, subject, true);
        assert_eq!((told.fate, told.route.as_str()), (fate, "local"), "{subject}");
    }
    assert_eq!(lab.server.connections(), 0);
}

#[test]
fn what_is_no_destination_is_refused() {
    for wrong in ["", "a b", "@", "a@b@c", "ex ample.org"] {
        assert!(subject(wrong).is_err(), "{wrong}");
    }
    assert!(subject("example.org.").is_ok());
    assert!(subject("[192.0.2.1]").is_ok());
}

#[test]
fn no_line_is_wider_than_asked_except_for_what_cannot_be_broken() {
    let lab = Lab::dane(Behaviour::default());
    lab.tlsa(&[WRONG]);
    let text = ask(&lab, "example.test", true).text(80);
    for line in text.lines() {
        let longest = line.split(' ').map(str::len).max().unwrap_or(0);
        assert!(line.chars().count() <= 80 || longest > 40, "{line}");
    }
}
