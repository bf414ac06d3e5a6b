//! What is remembered, for how long, and what it saves.

use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Name;
use hickory_proto::rr::RecordType::{self, A, MX, TLSA};

use crate::dnssec::{Kind, Status};
use crate::validator::testing::*;
use crate::validator::{CacheLimits, ClockVerdict, Limits, Validator, clock_verdict};

fn world() -> World {
    let zone = Zone::signed("example.test.").with(&[
        "@ MX mail",
        "mail A 192.0.2.1",
        "_25._tcp.mail TLSA 1",
        "mx2 A 192.0.2.2",
        "_25._tcp.mx2 TLSA 2",
        "*.wild A 192.0.2.2",
    ]);
    let unsigned = Zone::unsigned("plain.test.").with(&["@ MX mail", "mail A 192.0.2.1", "mx2 A 192.0.2.1"]);
    World::new(vec![Zone::signed("."), Zone::signed("test."), zone, unsigned])
}

/// Status, kind, and the number of queries it took.
fn look(
    world: &World,
    validator: &Arc<Validator>,
    now: u64,
    name: &str,
    rtype: RecordType,
) -> (Status, Kind, usize) {
    let mut upstream = |name: &Name, rtype: RecordType| Ok(world.respond(name, rtype));
    let (answer, queries) = drive(validator, now, name, rtype, &mut upstream);
    (answer.status, answer.kind, queries)
}

#[test]
fn a_warm_zone_costs_one_query_and_a_known_answer_none() {
    let (world, secure) = (world(), Status::Secure);
    let validator = world.validator();
    let cost = |name: &str, rtype| look(&world, &validator, NOW, name, rtype);
    // The question, and DNSKEY and DS of the zone, its parent and the root.
    assert_eq!(cost("_25._tcp.mail.example.test.", TLSA), (secure, Kind::Data, 6));
    assert_eq!(cost("_25._tcp.mail.example.test.", TLSA), (secure, Kind::Data, 0));
    assert_eq!(cost("_25._TCP.Mail.example.test.", TLSA), (secure, Kind::Data, 0));
    assert_eq!(cost("_25._tcp.mx2.example.test.", TLSA), (secure, Kind::Data, 1));
    assert_eq!(cost("_25._tcp.none.example.test.", TLSA), (secure, Kind::NxDomain, 1));
    assert_eq!(cost("_25._tcp.none.example.test.", TLSA), (secure, Kind::NxDomain, 0));
    assert_eq!(cost("x.wild.example.test.", A), (secure, Kind::Data, 1));
    // An unsigned sibling: its DS denial and the question; afterwards only questions.
    assert_eq!(cost("plain.test.", MX), (Status::Insecure, Kind::Data, 2));
    assert_eq!(cost("mx2.plain.test.", A), (Status::Insecure, Kind::Data, 1));
    assert_eq!(cost("none.plain.test.", A), (Status::Insecure, Kind::NxDomain, 1));
    assert_eq!(cost("none.plain.test.", A), (Status::Insecure, Kind::NxDomain, 0));
    assert_eq!(validator.cache_stats().hits, 4);
}

/// A14, RFC 4035 5.3.3.
#[test]
fn nothing_secure_outlives_its_signature_or_ttl() {
    let mut world = world();
    world.zone("example.test.").expiration = NOW + 100;
    let validator = world.validator();
    let mut upstream = |name: &Name, rtype: RecordType| Ok(world.respond(name, rtype));
    let (answer, _) = drive(&validator, NOW, "_25._tcp.mail.example.test.", TLSA, &mut upstream);
    assert_eq!((answer.status, answer.ttl_seconds), (Status::Secure, 100));
    assert_eq!(answer.records[0].ttl, 100);
    let (answer, queries) = drive(&validator, NOW + 99, "_25._tcp.mail.example.test.", TLSA, &mut upstream);
    assert_eq!((answer.status, answer.ttl_seconds, queries), (Status::Secure, 1, 0));
    // At the end of the signature the answer is asked for again; a second later it is not valid any more.
    let (answer, queries) = drive(&validator, NOW + 100, "_25._tcp.mail.example.test.", TLSA, &mut upstream);
    assert_eq!((answer.status, answer.ttl_seconds), (Status::Secure, 0));
    assert!(queries > 0);
    let (answer, _) = drive(&validator, NOW + 101, "_25._tcp.mail.example.test.", TLSA, &mut upstream);
    assert_eq!(answer.status, Status::Bogus);
}

#[test]
fn denials_are_kept_for_minutes_and_bogus_for_seconds() {
    let mut world = world();
    let validator = world.validator();
    let mut upstream = |name: &Name, rtype: RecordType| Ok(world.respond(name, rtype));
    let (answer, _) = drive(&validator, NOW, "none.example.test.", TLSA, &mut upstream);
    assert_eq!(answer.ttl_seconds, 300);
    let (answer, _) = drive(&validator, NOW, "none.plain.test.", TLSA, &mut upstream);
    assert_eq!(answer.ttl_seconds, 300);
    world.zone("example.test.").unsigned_names.insert(n("example.test."));
    let fresh = world.validator();
    assert_eq!(look(&world, &fresh, NOW, "example.test.", MX).0, Status::Bogus);
    assert_eq!(look(&world, &fresh, NOW, "example.test.", MX).2, 0);
    assert!(look(&world, &fresh, NOW + 30, "example.test.", MX).2 > 0);
}

#[test]
fn failures_are_not_kept() {
    let world = world();
    let validator = world.validator();
    let mut broken = |name: &Name, rtype: RecordType| {
        let mut message = world.respond(name, rtype);
        message.metadata.response_code = ResponseCode::ServFail;
        Ok(message)
    };
    assert_eq!(drive(&validator, NOW, "example.test.", MX, &mut broken).0.status, Status::Unavailable);
    assert_eq!(look(&world, &validator, NOW, "example.test.", MX).0, Status::Secure);
}

#[test]
fn keys_that_were_rolled_are_fetched_again() {
    let mut world = world();
    let validator = world.validator();
    assert_eq!(look(&world, &validator, NOW, "example.test.", MX).0, Status::Secure);
    for apex in ["example.test.", "test."] {
        let key = Key::new(hickory_proto::dnssec::Algorithm::ECDSAP256SHA256, 257);
        world.zone(apex).keys = vec![Arc::new(key)];
    }
    // Positive, negative, delegation of another zone: all by keys that the cache does not know.
    assert_eq!(look(&world, &validator, NOW, "_25._tcp.mail.example.test.", TLSA).0, Status::Secure);
    let validator = world.validator();
    assert_eq!(look(&world, &validator, NOW, "example.test.", MX).0, Status::Secure);
    let key = Key::new(hickory_proto::dnssec::Algorithm::ECDSAP256SHA256, 257);
    world.zone("example.test.").keys = vec![Arc::new(key)];
    assert_eq!(look(&world, &validator, NOW, "none.example.test.", TLSA).0, Status::Secure);
    let key = Key::new(hickory_proto::dnssec::Algorithm::ECDSAP256SHA256, 257);
    world.zone("test.").keys = vec![Arc::new(key)];
    assert_eq!(look(&world, &validator, NOW, "plain.test.", MX).0, Status::Insecure);
}

#[test]
fn memory_stays_within_its_limit_for_any_number_of_names() {
    let world = world();
    let limits = CacheLimits { answer_bytes: 50_000, zone_bytes: 50_000 };
    let validator = Arc::new(Validator::new(world.anchors(), Limits::default(), limits));
    for i in 0..500 {
        look(&world, &validator, NOW, &format!("x{i}.wild.example.test."), A);
        assert!(validator.cache_stats().bytes <= 150_000);
    }
    assert!(validator.cache_stats().answers > 50);
    assert_eq!(
        look(&world, &validator, NOW, "_25._tcp.mx2.example.test.", TLSA).2,
        1,
        "the zone's keys are still there"
    );
    validator.clear_cache();
    assert_eq!(validator.cache_stats().bytes, 0);
}

#[test]
fn a_forgotten_answer_is_asked_again() {
    let world = world();
    let validator = world.validator();
    look(&world, &validator, NOW, "example.test.", MX);
    validator.forget(&n("example.test."), MX);
    assert_eq!(look(&world, &validator, NOW, "example.test.", MX).2, 1);
}

#[test]
fn a_wrong_clock_is_named_and_not_taken_for_a_bogus_world() {
    let world = world();
    for (now, reads) in [(5, "1970-01-01"), (NOW + 10 * 365 * 86_400, "2036-11-2")] {
        for name in ["example.test.", "plain.test."] {
            let mut upstream = |name: &Name, rtype: RecordType| Ok(world.respond(name, rtype));
            let (answer, _) = drive(&world.validator(), now, name, MX, &mut upstream);
            assert_eq!(answer.status, Status::Unavailable, "{:?}", answer.reason);
            let reason = answer.reason.unwrap();
            assert!(reason.contains(&format!("system clock reads {reads}")), "{reason}");
        }
    }
    let root = over_the_wire(&world.respond(&Name::root(), RecordType::DNSKEY));
    let judge = |now| clock_verdict(&world.validator(), &Name::root(), &root, now);
    assert_eq!(judge(NOW), ClockVerdict::Plausible);
    assert_eq!(judge(0), ClockVerdict::Behind { reads: 0, at_least: NOW - 86_400 });
    assert_eq!(judge(NOW * 2 - 1), ClockVerdict::Ahead { reads: NOW * 2 - 1, at_most: NOW + 864_000 });
    let mut forged = root;
    forged.answers.retain(|r| rrsig_of(r).is_none());
    assert_eq!(clock_verdict(&world.validator(), &Name::root(), &forged, 0), ClockVerdict::Unknown);
}

#[test]
fn delegations_that_changed_since_they_were_cached_are_asked_for_again() {
    let parent = || Zone::signed("example.test.").with(&["@ MX mail", "x.sub MX mail"]);
    let before = World::new(vec![Zone::signed("."), Zone::signed("test."), parent()]);
    let validator = before.validator();
    // The walk to an unsigned name leaves "no zone begins at sub.example.test." in the cache.
    let mut strip = |name: &Name, rtype: RecordType| {
        let mut message = before.respond(name, rtype);
        if rtype == MX {
            message.answers.retain(|r| rrsig_of(r).is_none());
        }
        Ok(message)
    };
    assert_eq!(drive(&validator, NOW, "x.sub.example.test.", MX, &mut strip).0.status, Status::Bogus);
    let mut zones: Vec<Zone> = before.zones.into_values().collect();
    zones.iter_mut().for_each(|zone| {
        zone.records.retain(|name, _| *name != n("x.sub.example.test."));
        zone.records.iter_mut().for_each(|(name, sets)| {
            if *name != zone.apex {
                sets.remove(&RecordType::NS);
            }
        });
    });
    zones.push(Zone::signed("sub.example.test.").with(&["@ MX mail", "x MX mail"]));
    let mut after = World::new(zones);
    assert_eq!(look(&after, &validator, NOW + 31, "x.sub.example.test.", MX).0, Status::Secure);
    // A zone that changed its keys together with the DS records: the cached DS records are dropped too.
    let key = Key::new(hickory_proto::dnssec::Algorithm::ECDSAP256SHA256, 257);
    after.zone("sub.example.test.").keys = vec![Arc::new(key)];
    validator.cache().forget_keys_only(&n("sub.example.test."));
    assert_eq!(look(&after, &validator, NOW + 31, "sub.example.test.", MX).0, Status::Secure);
}
