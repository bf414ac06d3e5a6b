use mta_smtp::address::Mailbox;
use mta_smtp::envelope::Recipient;
use mta_smtp::reply::{EnhancedStatus, Reply};

use super::*;
use crate::outbound::RecipientOutcome;
use crate::outbound::decision::{HostRecord, MxHost, MxRecord, ReplyRecord, TlsRecord};
use crate::outbound::outcome::Remote;

const HOST: &str = "mx.x.example";

fn outcome(verdict: Verdict, reach: Reach, status: (u8, u16, u16), said: Option<&str>) -> Outcome {
    let reply = said.map(|text| {
        let (status, words) = EnhancedStatus::split(&text[4..]);
        Reply::new(text[..3].parse().expect("a code"), status, words)
    });
    Outcome {
        verdict,
        reach,
        status: EnhancedStatus::new(status.0, status.1, status.2),
        text: String::new(),
        reply,
        remote: Some(Remote { host: HOST.into(), address: None }),
        reports_passed_on: false,
    }
}

fn deferred(reach: Reach, said: Option<&str>) -> Outcome {
    outcome(Verdict::Deferred, reach, (4, 4, 1), said)
}

fn tried(address: &str, error: Option<&str>) -> TryRecord {
    TryRecord {
        address: address.into(),
        connect_error: error.map(ToOwned::to_owned),
        connect_ms: error.is_none().then_some(1),
        ..TryRecord::default()
    }
}

fn spoke(address: &str) -> TryRecord {
    let reply = ReplyRecord { to: "greeting".into(), reply: "220 hello".into(), at_ms: 1 };
    TryRecord { replies: vec![reply], ..tried(address, None) }
}

fn tls(address: &str, failure: Option<&str>) -> TryRecord {
    let failure = failure.map(ToOwned::to_owned);
    TryRecord {
        tls: Some(TlsRecord { version: Some("TLSv1.3".into()), failure, ..TlsRecord::default() }),
        ..spoke(address)
    }
}

fn seen(outcome: Outcome, tries: Vec<TryRecord>, has_route: bool) -> Seen {
    let hosts = vec![HostRecord { host: HOST.into(), tries, ..HostRecord::default() }];
    let mx = [(20, "mx2.x.example"), (10, HOST)];
    let listed = mx.map(|(preference, host)| MxHost { preference: Some(preference), host: host.into() });
    let mx = Some(MxRecord { hosts: listed.to_vec(), ..MxRecord::default() });
    let decision = Decision { mx, hosts, destination: "x.example".into(), ..Decision::default() };
    let recipient = Recipient::new(Mailbox::parse("a@x.example").expect("mailbox"));
    let report = AttemptReport {
        outcomes: vec![RecipientOutcome { recipient, outcome }],
        decision,
        ..AttemptReport::default()
    };
    read(&Table::default(), &report, true, || has_route)
}

fn fault(fault: Fault, certain: bool) -> Evidence {
    Evidence::Fault { fault, fresh: true, certain }
}

const V4: &str = "192.0.2.1:25";
const V6: &str = "[2001:db8::1]:25";

#[test]
fn what_an_attempt_says_of_the_next_hop_and_of_this_host() {
    use Sign::{Broken, Nothing, TooMuch, Took};
    let works = |tls| Evidence::Works { tls };
    let delivered = || outcome(Verdict::Delivered, Reach::Recipient, (2, 0, 0), Some("250 2.0.0 ok"));
    let refused = || outcome(Verdict::Failed, Reach::Recipient, (5, 1, 1), Some("550 5.1.1 no such user"));
    let insecure = || outcome(Verdict::Deferred, Reach::Host, (4, 7, 5), None);
    let no_names = |reach| outcome(Verdict::Deferred, reach, (4, 4, 3), None);
    let connect = || deferred(Reach::Host, None);
    for (what, outcome, tries, route, sign, evidence) in [
        ("delivered", delivered(), vec![tls(V4, None)], true, Took, works(true)),
        ("in plain text", delivered(), vec![spoke(V4)], true, Took, works(false)),
        ("on a connection of before", delivered(), vec![], true, Took, works(false)),
        ("no such user", refused(), vec![spoke(V4)], true, Took, works(false)),
        (
            "421",
            deferred(Reach::Session, Some("421 4.3.2 bye")),
            vec![spoke(V4)],
            true,
            TooMuch,
            works(false),
        ),
        (
            "greeted with 4yz",
            deferred(Reach::Host, Some("450 4.3.2 no")),
            vec![spoke(V4)],
            true,
            TooMuch,
            works(false),
        ),
        (
            "rate",
            deferred(Reach::Message, Some("451 4.7.1 rate limit")),
            vec![spoke(V4)],
            true,
            TooMuch,
            works(false),
        ),
        (
            "timeout",
            connect(),
            vec![tried(V4, Some("timeout"))],
            true,
            Broken,
            fault(Fault::Unreachable, false),
        ),
        (
            "silent",
            deferred(Reach::Session, None),
            vec![tried(V4, None)],
            true,
            Broken,
            fault(Fault::Unreachable, false),
        ),
        (
            "no route at all",
            connect(),
            vec![tried(V4, Some("no-route"))],
            false,
            Broken,
            fault(Fault::NoRoute, true),
        ),
        (
            "no route there",
            connect(),
            vec![tried(V4, Some("no-route"))],
            true,
            Broken,
            fault(Fault::Unreachable, false),
        ),
        (
            "IPv6 only, and we have none",
            connect(),
            vec![tried(V6, Some("no-route"))],
            true,
            Broken,
            Evidence::Nothing,
        ),
        (
            "IPv6 first",
            connect(),
            vec![tried(V6, Some("no-route")), tried(V4, Some("timeout"))],
            true,
            Broken,
            fault(Fault::Unreachable, false),
        ),
        (
            "descriptors",
            connect(),
            vec![tried(V4, Some("resources"))],
            true,
            Broken,
            fault(Fault::Resources, true),
        ),
        ("TLS broken", insecure(), vec![tls(V4, Some("alert"))], true, Nothing, fault(Fault::Tls, false)),
        (
            "TLS good at one host",
            insecure(),
            vec![tls(V4, Some("alert")), tls(V4, None)],
            true,
            Nothing,
            works(true),
        ),
        ("no names", no_names(Reach::NextHop), vec![], true, Nothing, fault(Fault::Resolver, false)),
        ("no resolver", no_names(Reach::Site), vec![], true, Nothing, fault(Fault::Resolver, true)),
        (
            "no such domain",
            outcome(Verdict::Failed, Reach::NextHop, (5, 1, 2), None),
            vec![],
            true,
            Nothing,
            Evidence::Nothing,
        ),
        (
            "forbidden address",
            deferred(Reach::Host, None),
            vec![TryRecord { address: V4.into(), ..TryRecord::default() }],
            true,
            Broken,
            Evidence::Nothing,
        ),
    ] {
        let seen = seen(outcome, tries, route);
        assert_eq!((seen.sign, seen.evidence), (sign, evidence), "{what}");
    }
}

#[test]
fn unrelated_destinations_are_told_apart_by_their_networks() {
    let key =
        |address: &str| seen(deferred(Reach::Host, None), vec![tried(address, Some("timeout"))], true).key;
    assert_eq!(key("192.0.2.1:25"), key("192.0.99.7:25"));
    assert_ne!(key("192.0.2.1:25"), key("192.1.2.1:25"));
    assert_eq!(key(V6), "2001:db8::/32");
    assert_eq!(seen(deferred(Reach::NextHop, None), vec![], true).key, "x.example");
}

#[test]
fn the_group_does_not_depend_on_the_order_of_the_records() {
    let seen = seen(deferred(Reach::Host, None), vec![], true);
    let hosts = "mx.x.example,mx2.x.example".to_owned();
    assert_eq!(seen.hosts, Some((hosts.clone(), hosts)));
}

#[test]
fn fewer_deliveries_are_the_answer_where_others_are_under_way() {
    let busy = seen(deferred(Reach::Session, Some("421 4.3.2 too many")), vec![spoke(V4)], true);
    let failed = DestinationResult::Failed { failures: 1, not_before: std::time::UNIX_EPOCH };
    assert_eq!(tempered(failed, &busy, true), DestinationResult::Unknown);
    assert_eq!(tempered(failed, &busy, false), failed);
    let broken = seen(deferred(Reach::Host, None), vec![tried(V4, Some("refused"))], true);
    assert_eq!(tempered(failed, &broken, true), failed);
}
