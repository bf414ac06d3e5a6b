//! Rows of the DANE matrix (`mta-dane/MATRIX.md`) that only the whole server can show: every failure of every lookup on the way to
//! a host, sets too large for UDP, hosts with several addresses and certificates, and the end of a message's lifetime.
//!
//! Each case is a good host with a matching `3 1 1` record in a signed zone, with one thing changed.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{self, A, AAAA, CNAME, MX, TLSA as TLSA_TYPE};
use hickory_proto::rr::rdata::TLSA;
use mta_lab::cert::Identity;
use mta_lab::lab::{Lab, Plan};
use mta_lab::mx::Behaviour;
use mta_lab::zone::{FaultKind, Zone};

/// What must become of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// Delivered over TLS that DANE authenticated.
    Dane,
    /// Still queued, and no host has seen anything of it.
    Deferred,
}

fn good(domain: &str) -> (Behaviour, TLSA) {
    let host = format!("mx.{domain}");
    let identity = Identity::self_signed(&[&host]);
    (Behaviour::with_tls(&host, &identity), identity.leaf().tlsa(3, 1, 1))
}

/// A signed domain whose `mx` is in order.
fn site(plan: &mut Plan, domain: &str, change: impl FnOnce(Zone) -> Zone) {
    let (host, tlsa) = good(domain);
    plan.site_with(domain, Some(host), &[tlsa], change);
}

/// Sends a message to each domain at once; what is not as expected, in words.
fn wrong(lab: &Lab, cases: &[(String, Expect)]) -> Vec<String> {
    let sent: Vec<_> = cases
        .iter()
        .map(|(domain, expect)| (domain, *expect, lab.send("alice@own.example", &[&format!("x@{domain}")])))
        .collect();
    let mut wrong = Vec::new();
    for (domain, expect, id) in sent {
        let shown = lab.settled(&id);
        let addressed = |path: &String| path.ends_with(&format!("@{domain}>"));
        let got: Vec<bool> = lab
            .hosts
            .values()
            .flat_map(|host| host.messages())
            .filter(|message| message.forward_paths.iter().any(addressed))
            .map(|message| message.tls.is_some())
            .collect();
        let attempt = shown.history.as_ref().and_then(|history| history.last().cloned());
        let decision = attempt.and_then(|attempt| attempt.decision).map(|decision| decision.to_string());
        let decision = decision.unwrap_or_default();
        let authenticated = decision.contains("\"authenticated_by\":\"");
        let found = match (shown.status.as_str(), got.as_slice()) {
            ("deferred", []) => Expect::Deferred,
            ("delivered", [true]) if authenticated => Expect::Dane,
            (status, got) => {
                wrong.push(format!("{domain}: {status}, got {got:?}: {decision}"));
                continue;
            }
        };
        if found != expect {
            wrong.push(format!("{domain}: {found:?}, not {expect:?}: {decision}"));
        }
    }
    wrong
}

/// What a server can do wrong, whatever is asked.
const SERVER_FAULTS: [(&str, FaultKind); 9] = [
    ("servfail", FaultKind::Rcode(ResponseCode::ServFail)),
    ("refused", FaultKind::Rcode(ResponseCode::Refused)),
    ("formerr", FaultKind::Rcode(ResponseCode::FormErr)),
    ("notimp", FaultKind::Rcode(ResponseCode::NotImp)),
    ("yxdomain", FaultKind::Rcode(ResponseCode::YXDomain)),
    ("notauth", FaultKind::Rcode(ResponseCode::NotAuth)),
    ("notzone", FaultKind::Rcode(ResponseCode::NotZone)),
    ("silence", FaultKind::Silence),
    ("wrongid", FaultKind::WrongId),
];

/// What can be wrong with records and signatures.
const RECORD_FAULTS: [(&str, FaultKind); 6] = [
    ("expired", FaultKind::Expired),
    ("future", FaultKind::NotYetValid),
    ("stripped", FaultKind::Stripped),
    ("broken", FaultKind::BrokenSignature),
    ("tampered", FaultKind::Tampered),
    ("wrongtag", FaultKind::WrongKeyTag),
];

/// A3, A4, A8, B1, C10, D5, RFC 7672 2.1.1, 2.1.2: the cross product of every failure and every lookup. An error on MX, on the
/// address, on an alias or on TLSA delays and connects to nobody; one on AAAA beside a good A does no harm.
#[test]
fn a4_every_failure_of_every_lookup() {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1h\"]");
    // So many domains that fail alike would be taken for a fault of this host, and wait together.
    plan.set("outbound.site_fault_destinations", "60");
    plan.set("dns.query_timeout", "\"2s\"");
    plan.set("dns.lookup_timeout", "\"6s\"");
    let mut cases = Vec::new();
    let places: [(&str, RecordType, &str); 3] = [("mx", MX, "@"), ("a", A, "mx"), ("tlsa", TLSA_TYPE, "")];
    for (place, rtype, owner) in places {
        for (what, kind) in SERVER_FAULTS.into_iter().chain(RECORD_FAULTS) {
            let domain = format!("{what}-{place}.example");
            site(&mut plan, &domain, |zone| match owner {
                "" => zone.fault_of_type(rtype, kind),
                owner => zone.fault_at(owner, rtype, kind),
            });
            cases.push((domain, Expect::Deferred));
        }
    }
    for (what, kind) in SERVER_FAULTS.into_iter().chain([("nodenial", FaultKind::MissingDenial)]) {
        let domain = format!("{what}-aaaa.example");
        site(&mut plan, &domain, |zone| zone.fault_of_type(AAAA, kind));
        cases.push((domain, Expect::Dane));
    }
    // The MX host is an alias whose signature is at fault, or whose target cannot be had.
    for (what, kind) in SERVER_FAULTS.into_iter().chain(RECORD_FAULTS) {
        let domain = format!("{what}-cname.example");
        let (host, tlsa) = good(&domain);
        let port = plan.ports.smtp;
        let address = plan.host(&format!("mx.{domain}"), Some(host));
        let mut zone = Zone::new(&domain).mx("@", 10, "mx").cname("mx", "real").address("real", address);
        zone = zone.tlsa("real", port, tlsa);
        let at_the_alias = RECORD_FAULTS.iter().any(|(_, of_records)| *of_records == kind);
        zone = if at_the_alias { zone.fault_at("mx", CNAME, kind) } else { zone.fault_at("mx", A, kind) };
        plan.zone(zone);
        cases.push((domain, Expect::Deferred));
    }
    site(&mut plan, "control.example", |zone| zone);
    cases.push(("control.example".to_owned(), Expect::Dane));
    let lab = plan.start().expect("a laboratory");
    let wrong = wrong(&lab, &cases);
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// D10, A13, F10, D9, B18, RFC 7671 10.1.1: sets of forty records that come over TCP alone, a host with several addresses and a
/// certificate each, a wildcard under a wildcard, a domain by its A-labels.
#[test]
fn the_table_of_hard_cases() {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1h\"]");
    let port = plan.ports.smtp;
    let mut cases = Vec::new();
    // Forty records, the right one among them or not; with a server that truncates everything over UDP too.
    for (domain, with_right, truncate) in [
        ("forty.example", true, false),
        ("forty-tcp.example", true, true),
        ("forty-wrong.example", false, true),
    ] {
        let (host, right) = good(domain);
        let wrong = |i: u8| TLSA::new(3.into(), 1.into(), 1.into(), vec![i; 32]);
        let mut set: Vec<TLSA> = (0..39).map(wrong).collect();
        set.push(if with_right { right } else { wrong(200) });
        plan.site_with(domain, Some(host), &set, |zone| {
            if truncate { zone.fault(FaultKind::Truncate) } else { zone }
        });
        cases.push((domain.to_owned(), if with_right { Expect::Dane } else { Expect::Deferred }));
    }
    // Three addresses with three certificates; the records name the last, or none.
    for (domain, named) in [("balanced.example", true), ("balanced-wrong.example", false)] {
        let mut zone = Zone::new(domain).mx("@", 10, "mx");
        let mut last = None;
        for number in 0..3 {
            let (host, tlsa) = good(domain);
            zone = zone.address("mx", plan.host(&format!("mx-{number}.{domain}"), Some(host)));
            last = Some(tlsa);
        }
        let other = Identity::self_signed(&["other"]).leaf().tlsa(3, 1, 1);
        plan.zone(zone.tlsa("mx", port, last.filter(|_| named).unwrap_or(other)));
        cases.push((domain.to_owned(), if named { Expect::Dane } else { Expect::Deferred }));
    }
    // TLSA for every host and port of the domain, synthesised two labels deep.
    let (host, tlsa) = good("wildest.example");
    plan.site_with("wildest.example", Some(host), &[], |zone| {
        zone.record("*.hosts", hickory_proto::rr::RData::TLSA(tlsa))
            .cname(&format!("_{port}._tcp.mx"), "a.b.hosts")
    });
    cases.push(("wildest.example".to_owned(), Expect::Dane));
    site(&mut plan, "xn--bcher-kva.example", Zone::nsec3);
    cases.push(("xn--bcher-kva.example".to_owned(), Expect::Dane));
    let lab = plan.start().expect("a laboratory");
    let wrong = wrong(&lab, &cases);
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// J2, RFC 7672 2.2, 6: a DANE failure is a delay for as long as the message lives; only then it is returned, with the reason.
#[test]
fn j2_a_dane_failure_bounces_only_at_the_end_of_the_lifetime() {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1s\"]");
    plan.set("queue.lifetime", "\"4s\"");
    let (host, _) = good("stale.example");
    let old = Identity::self_signed(&["old"]).leaf().tlsa(3, 1, 1);
    plan.site("stale.example", Some(host), &[old]);
    let lab = plan.start().expect("a laboratory");
    let id = lab.send("alice@own.example", &["x@stale.example"]);
    let first = lab.settled(&id);
    assert_eq!(first.status, "deferred", "{first:#?}");
    let last = lab.wait_for(&id, |shown| shown.finished_at.is_some());
    assert!(last.attempts > 1 && last.status == "expired", "{last:#?}");
    assert!(lab.mx("mx.stale.example").messages().is_empty());
    let read = || lab.maildir("own.example", "alice");
    assert!(lab.wait_for_files(|| !read().is_empty()), "no notification");
    let notice = String::from_utf8_lossy(&read()[0]).into_owned();
    assert!(notice.contains("TLSA") && notice.contains("mx.stale.example"), "{notice}");
}
