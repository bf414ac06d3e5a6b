//! Honest answers of every shape come out with the verdict that unbound gives.

use hickory_proto::dnssec::Algorithm;
use hickory_proto::rr::RecordType::{self, A, CNAME, DS, MX, TLSA, TXT};

use crate::dnssec::{Kind, Status};
use crate::validator::testing::*;

/// The records that every test zone holds.
const COMMON: [&str; 14] = [
    "@ MX mail",
    "mail A 192.0.2.1",
    "_25._tcp.mail TLSA 1",
    "a.ent.deep TXT x",
    "*.wild A 192.0.2.2",
    "*.wild MX mail",
    "*._tcp.host TLSA 2",
    "host A 192.0.2.3",
    "*.cw CNAME mail",
    "alias CNAME mail",
    "_25._tcp.alias CNAME _25._tcp.mail",
    "old DNAME new",
    "x.new A 192.0.2.4",
    "dangling CNAME nothing",
];

/// Name below the zone, type, kind: the verdicts of an ordinary zone.
const CASES: [(&str, RecordType, Kind); 26] = [
    ("@", MX, Kind::Data),
    ("@", RecordType::SOA, Kind::Data),
    ("@", RecordType::NS, Kind::Data),
    ("@", TLSA, Kind::NoData),
    ("mail", A, Kind::Data),
    ("mail", TLSA, Kind::NoData),
    ("_25._tcp.mail", TLSA, Kind::Data),
    ("_26._tcp.mail", TLSA, Kind::NxDomain),
    ("_tcp.mail", TLSA, Kind::NoData),
    ("ent.deep", TXT, Kind::NoData),
    ("deep", TXT, Kind::NoData),
    ("none", A, Kind::NxDomain),
    ("zzz.none", A, Kind::NxDomain),
    ("0", A, Kind::NxDomain),
    ("x.wild", A, Kind::Data),
    ("y.x.wild", A, Kind::Data),
    ("x.wild", TLSA, Kind::NoData),
    ("y.x.wild", TLSA, Kind::NoData),
    ("*.wild", A, Kind::Data),
    ("_25._tcp.host", TLSA, Kind::Data),
    ("_25._tcp.host", MX, Kind::NoData),
    ("x.cw", A, Kind::Data),
    ("alias", A, Kind::Data),
    ("_25._tcp.alias", TLSA, Kind::Data),
    ("x.old", A, Kind::Data),
    ("dangling", A, Kind::NxDomain),
];

fn world(zone: Zone) -> World {
    World::new(vec![Zone::signed("."), Zone::signed("test."), zone.with(&COMMON)])
}

fn below(name: &str) -> String {
    if name == "@" { "example.test.".into() } else { format!("{name}.example.test.") }
}

#[track_caller]
fn check(world: &World, label: &str, status: Status) {
    for (name, rtype, kind) in CASES {
        let answer = ask(world, &below(name), rtype);
        assert_eq!(answer.status, status, "{label}: {name} {rtype}: {:?}", answer.reason);
        assert_eq!(answer.kind, kind, "{label}: {name} {rtype}");
        assert_eq!(answer.records.is_empty(), kind != Kind::Data, "{label}: {name} {rtype}");
    }
}

/// A1, A2, RFC 7672 2.1.1: what a signed zone says and denies is secure.
#[test]
fn nsec_zone() {
    check(&world(Zone::signed("example.test.")), "NSEC", Status::Secure);
}

#[test]
fn keys_and_delegations_themselves_can_be_asked() {
    let world = world(Zone::signed("example.test."));
    for (name, rtype) in
        [("example.test.", RecordType::DNSKEY), ("example.test.", DS), (".", RecordType::DNSKEY)]
    {
        let answer = ask(&world, name, rtype);
        assert_eq!(
            (answer.status, answer.kind),
            (Status::Secure, Kind::Data),
            "{name} {rtype}: {:?}",
            answer.reason
        );
    }
    let answer = ask(&world, "mail.example.test.", DS);
    assert_eq!((answer.status, answer.kind), (Status::Secure, Kind::NoData));
    let answer = ask(&world, "x.old.example.test.", CNAME);
    assert_eq!((answer.status, answer.kind, answer.records.len()), (Status::Secure, Kind::Data, 1));
}

#[test]
fn nsec3_zones() {
    check(&world(Zone::signed("example.test.").nsec3(0, b"", false)), "NSEC3", Status::Secure);
    check(&world(Zone::signed("example.test.").nsec3(10, b"salt", false)), "NSEC3, salt", Status::Secure);
    check(&world(Zone::signed("example.test.").nsec3(150, b"", false)), "NSEC3, 150", Status::Secure);
}

#[test]
fn other_algorithms() {
    for algorithm in [Algorithm::ECDSAP384SHA384, Algorithm::ED25519] {
        check(&world(Zone::signed_with("example.test.", algorithm)), "algorithm", Status::Secure);
    }
}

#[test]
fn two_algorithms_and_two_keys() {
    let mut zone = Zone::signed("example.test.");
    zone.keys.push(std::sync::Arc::new(Key::new(Algorithm::ED25519, 256)));
    check(&world(zone), "two algorithms", Status::Secure);
}

#[test]
fn unsigned_zones() {
    check(&world(Zone::unsigned("example.test.")), "unsigned", Status::Insecure);
}

#[test]
fn the_order_of_responses_does_not_matter() {
    let world = world(Zone::signed("example.test.").nsec3(1, b"s", false));
    for (name, rtype, _) in CASES {
        let name = below(name);
        let mut upstream = |name: &_, rtype| Ok(world.respond(name, rtype));
        let last = drive(&world.validator(), NOW, &name, rtype, &mut upstream);
        let first = drive_in_order(&world.validator(), NOW, &name, rtype, &mut upstream, &mut |_| 0);
        let middle =
            drive_in_order(&world.validator(), NOW, &name, rtype, &mut upstream, &mut |many| many / 2);
        assert_eq!(last, first, "{name} {rtype}");
        assert_eq!(last, middle, "{name} {rtype}");
    }
}
