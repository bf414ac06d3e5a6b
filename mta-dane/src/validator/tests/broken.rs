//! Zones that are broken, insecure or odd by themselves, with an honest upstream.

use std::sync::Arc;

use hickory_proto::dnssec::rdata::{DNSKEY, DS};
use hickory_proto::dnssec::{Algorithm, DigestType};
use hickory_proto::rr::RecordType::{A, MX, TLSA};

use crate::dnssec::{Answer, Kind, Status};
use crate::validator::testing::*;

const RECORDS: [&str; 6] = [
    "@ MX mail",
    "mail A 192.0.2.1",
    "_25._tcp.mail TLSA 1",
    "*.wild A 192.0.2.2",
    "alias CNAME mail",
    "h.other A 192.0.2.5",
];

fn world(change: impl FnOnce(&mut Zone)) -> World {
    let mut zone = Zone::signed("example.test.").with(&RECORDS);
    change(&mut zone);
    World::new(vec![Zone::signed("."), Zone::signed("test."), zone])
}

/// Positive, wildcard, NODATA and NXDOMAIN: they all have this status; the last answer is given back for its reason.
#[track_caller]
fn all_are(world: &World, status: Status) -> Answer {
    let mut last = None;
    for (name, rtype) in
        [("@", MX), ("_25._tcp.mail", TLSA), ("x.wild", A), ("mail", TLSA), ("none", A), ("alias", A)]
    {
        let name = if name == "@" { "example.test.".into() } else { format!("{name}.example.test.") };
        let answer = ask(world, &name, rtype);
        assert_eq!(answer.status, status, "{name} {rtype}: {:?}", answer.reason);
        assert!(status != Status::Bogus || answer.records.is_empty());
        last = Some(answer);
    }
    last.unwrap()
}

fn digests(zone: &mut Zone, which: &[(DigestType, bool)]) {
    let key = zone.keys[0].dnskey.clone();
    let ds = which.iter().map(|(digest, right)| {
        let ds = ds_of(&zone.apex, &key, *digest);
        let mut bytes = ds.digest().to_vec();
        bytes[0] ^= u8::from(!right);
        DS::new(ds.key_tag(), ds.algorithm(), *digest, bytes)
    });
    zone.ds = Some(ds.collect());
}

#[test]
fn ds_digests_as_rfc_4509_and_unbound_take_them() {
    use DigestType::{SHA1, SHA256, SHA384};
    all_are(&world(|z| digests(z, &[(SHA1, true)])), Status::Secure);
    all_are(&world(|z| digests(z, &[(SHA384, true)])), Status::Secure);
    all_are(&world(|z| digests(z, &[(SHA1, false), (SHA256, true)])), Status::Secure);
    all_are(&world(|z| digests(z, &[(SHA1, true), (SHA256, false)])), Status::Bogus);
    all_are(&world(|z| digests(z, &[(SHA256, false)])), Status::Bogus);
}

#[test]
fn unknown_algorithms_and_digests_make_a_zone_insecure() {
    for (algorithm, digest) in [
        (Algorithm::Unknown(16), DigestType::SHA256),
        (Algorithm::Unknown(99), DigestType::SHA256),
        (Algorithm::ECDSAP256SHA256, DigestType::Unknown(99)),
    ] {
        let answer = all_are(
            &world(|z| z.ds = Some(vec![DS::new(1, algorithm, digest, vec![1; 32])])),
            Status::Insecure,
        );
        assert!(answer.reason.unwrap().contains("not supported"));
    }
    // One that is supported among others that are not still binds.
    let mixed = world(|z| {
        let good = ds_of(&z.apex, &z.keys[0].dnskey, DigestType::SHA256);
        z.ds = Some(vec![DS::new(1, Algorithm::Unknown(16), DigestType::SHA256, vec![1; 32]), good]);
    });
    all_are(&mixed, Status::Secure);
}

#[test]
fn times_bound_signatures() {
    let expired = all_are(&world(|z| z.expiration = NOW - 1), Status::Bogus);
    assert!(expired.reason.unwrap().contains("expired at 2026-11-2"));
    let future = all_are(&world(|z| z.inception = NOW + 1), Status::Bogus);
    assert!(future.reason.unwrap().contains("valid only from"));
    all_are(&world(|z| (z.inception, z.expiration) = (NOW, NOW)), Status::Secure);
}

#[test]
fn a_zone_signed_in_another_century_is_read_by_serial_arithmetic() {
    let world = world(|_| {});
    let far = NOW + (1 << 32);
    let upstream = &mut |name: &_, rtype| Ok(world.respond(name, rtype));
    // The low 32 bits are the same, so serial arithmetic must call these signatures valid.
    let (answer, _) = drive(&world.validator(), far, "example.test.", MX, upstream);
    assert_eq!(answer.status, Status::Secure, "{:?}", answer.reason);
}

#[test]
fn a_delegation_whose_keys_do_not_fit_is_bogus() {
    all_are(
        &world(|z| {
            z.ds = Some(vec![ds_of(
                &z.apex,
                &Key::new(Algorithm::ECDSAP256SHA256, 257).dnskey,
                DigestType::SHA256,
            )])
        }),
        Status::Bogus,
    );
    // An unsigned zone under DS records.
    let unsigned = world(|z| {
        digests(z, &[(DigestType::SHA256, true)]);
        z.keys.clear();
    });
    all_are(&unsigned, Status::Bogus);
    // Keys that may not sign: revoked, without zone flag.
    for flags in [257 | 128, 1] {
        all_are(
            &world(|z| z.keys = vec![Arc::new(Key::new(Algorithm::ECDSAP256SHA256, flags))]),
            Status::Bogus,
        );
    }
}

#[test]
fn a_key_that_is_only_published_signs_nothing_and_harms_nothing() {
    all_are(&world(|z| z.more_keys.push(DNSKEY::with_flags(257, foreign_key()))), Status::Secure);
}

#[test]
fn sets_without_signature_are_bogus_one_by_one() {
    let world = world(|z| {
        z.unsigned_names.insert(n("_25._tcp.mail.example.test."));
    });
    let answer = ask(&world, "_25._tcp.mail.example.test.", TLSA);
    assert_eq!(answer.status, Status::Bogus);
    let reason = answer.reason.unwrap();
    assert!(
        reason.contains("TLSA records of _25._tcp.mail.example.test.") && reason.contains("strips"),
        "{reason}"
    );
    assert_eq!(ask(&world, "example.test.", MX).status, Status::Secure);
}

#[test]
fn what_lies_under_an_insecure_delegation_is_insecure() {
    let child = || Zone::signed("sub.example.test.").with(&["@ MX mail", "mail A 192.0.2.1"]);
    // The child of an unsigned zone, and a signed island under it.
    for child in [child(), Zone::unsigned("sub.example.test.").with(&["@ MX mail", "mail A 192.0.2.1"])] {
        let parent = Zone::unsigned("example.test.").with(&RECORDS);
        let world = World::new(vec![Zone::signed("."), Zone::signed("test."), parent, child]);
        for (name, kind) in [("sub.example.test.", Kind::Data), ("none.sub.example.test.", Kind::NxDomain)] {
            let answer = ask(&world, name, MX);
            assert_eq!((answer.status, answer.kind), (Status::Insecure, kind), "{:?}", answer.reason);
            assert!(answer.reason.unwrap().contains("delegates example.test. without DS"));
        }
    }
    // An unsigned child of a signed zone; by NSEC, NSEC3 and opt-out.
    for parent in [
        Zone::signed("example.test."),
        Zone::signed("example.test.").nsec3(1, b"s", false),
        Zone::signed("example.test.").nsec3(1, b"s", true),
    ] {
        let child = Zone::unsigned("sub.example.test.").with(&["@ MX mail", "mail A 192.0.2.1"]);
        let world = World::new(vec![Zone::signed("."), Zone::signed("test."), parent.with(&RECORDS), child]);
        for name in ["sub.example.test.", "mail.sub.example.test.", "none.sub.example.test."] {
            assert_eq!(ask(&world, name, A).status, Status::Insecure, "{name}");
        }
        assert_eq!(ask(&world, "example.test.", MX).status, Status::Secure);
    }
}

#[test]
fn opt_out_denials_and_wildcards_are_insecure() {
    let zone = Zone::signed("example.test.").nsec3(1, b"s", true).with(&RECORDS);
    let world = World::new(vec![Zone::signed("."), Zone::signed("test."), zone]);
    for (name, rtype, status, kind) in [
        ("mail.example.test.", A, Status::Secure, Kind::Data),
        ("mail.example.test.", TLSA, Status::Secure, Kind::NoData),
        ("none.example.test.", A, Status::Insecure, Kind::NxDomain),
        ("x.wild.example.test.", A, Status::Insecure, Kind::Data),
        ("x.wild.example.test.", TLSA, Status::Insecure, Kind::NoData),
    ] {
        let answer = ask(&world, name, rtype);
        assert_eq!((answer.status, answer.kind), (status, kind), "{name} {rtype}: {:?}", answer.reason);
    }
}

#[test]
fn iterations_above_the_limit_are_unavailable_and_never_insecure() {
    let zone = Zone::signed("example.test.").nsec3(151, b"", false).with(&RECORDS);
    let world = World::new(vec![Zone::signed("."), Zone::signed("test."), zone]);
    for (name, rtype) in [("mail", TLSA), ("none", A), ("x.wild", A)] {
        let answer = ask(&world, &format!("{name}.example.test."), rtype);
        assert_eq!(answer.status, Status::Unavailable, "{name}");
        assert!(answer.reason.unwrap().contains("151 NSEC3 iterations"));
    }
    assert_eq!(ask(&world, "_25._tcp.mail.example.test.", TLSA).status, Status::Secure);
    // A parent zone like that cannot prove a delegation insecure.
    let parent = Zone::signed("test.").nsec3(151, b"", true);
    let world = World::new(vec![Zone::signed("."), parent, Zone::unsigned("example.test.").with(&RECORDS)]);
    assert_eq!(ask(&world, "example.test.", MX).status, Status::Unavailable);
}

#[test]
fn aliases_across_zones_carry_the_status_of_each_hop() {
    let secure = Zone::signed("secure.test.").with(&[
        "to-secure CNAME host.other.test.",
        "to-insecure CNAME host.insecure.test.",
        "to-bogus CNAME host.bogus.test.",
        "to-nothing CNAME none.other.test.",
        "to-insecure-nothing CNAME none.insecure.test.",
        "_25._tcp.host CNAME _dane.other.test.",
        "via DNAME insecure.test.",
    ]);
    let other = Zone::signed("other.test.").nsec3(1, b"", false).with(&["host A 192.0.2.1", "_dane TLSA 3"]);
    let insecure =
        Zone::unsigned("insecure.test.").with(&["host A 192.0.2.2", "back CNAME host.other.test."]);
    let mut bogus = Zone::signed("bogus.test.").with(&["host A 192.0.2.3"]);
    bogus.expiration = NOW - 5;
    let world = World::new(vec![Zone::signed("."), Zone::signed("test."), secure, other, insecure, bogus]);
    for (name, rtype, status, hops) in [
        ("to-secure.secure.test.", A, Status::Secure, vec![Status::Secure]),
        ("to-insecure.secure.test.", A, Status::Insecure, vec![Status::Secure]),
        ("to-bogus.secure.test.", A, Status::Bogus, vec![Status::Secure]),
        ("to-nothing.secure.test.", A, Status::Secure, vec![Status::Secure]),
        ("to-insecure-nothing.secure.test.", A, Status::Insecure, vec![Status::Secure]),
        ("_25._tcp.host.secure.test.", TLSA, Status::Secure, vec![Status::Secure]),
        ("back.insecure.test.", A, Status::Insecure, vec![Status::Insecure]),
        ("host.via.secure.test.", A, Status::Insecure, vec![Status::Secure]),
        ("back.via.secure.test.", A, Status::Insecure, vec![Status::Secure, Status::Insecure]),
    ] {
        let answer = ask(&world, name, rtype);
        assert_eq!(answer.status, status, "{name}: {:?}", answer.reason);
        assert_eq!(answer.hops.iter().map(|hop| hop.status).collect::<Vec<_>>(), hops, "{name}");
    }
    assert_eq!(ask(&world, "to-nothing.secure.test.", A).kind, Kind::NxDomain);
    assert_eq!(ask(&world, "to-insecure-nothing.secure.test.", A).kind, Kind::NxDomain);
}

/// A9, RFC 7672 2.1.3.
#[test]
fn an_alias_without_its_target_is_followed_by_a_question_of_its_own() {
    let world = world(|_| {});
    for (keep_authority, rtype, kind) in
        [(false, A, Kind::Data), (false, TLSA, Kind::NoData), (true, TLSA, Kind::NoData)]
    {
        let answer = ask_with(&world, "alias.example.test.", rtype, |name, _, message| {
            if *name == n("alias.example.test.") {
                message.answers.retain(|r| r.name == *name);
                if !keep_authority {
                    message.authorities.clear();
                }
            }
        });
        assert_eq!((answer.status, answer.kind), (Status::Secure, kind), "{:?}", answer.reason);
    }
}

#[test]
fn a_large_set_and_a_name_at_a_dname_and_a_wildcard_at_the_apex() {
    let many: Vec<String> = (0..60).map(|i| format!("_25._tcp.mail TLSA {i}")).collect();
    let mut lines: Vec<&str> = many.iter().map(String::as_str).collect();
    lines.extend(["* A 192.0.2.9", "old DNAME new"]);
    let zone = Zone::signed("example.test.").with(&lines);
    let world = World::new(vec![Zone::signed("."), Zone::signed("test."), zone]);
    let answer = ask(&world, "_25._tcp.mail.example.test.", TLSA);
    assert_eq!((answer.status, answer.records.len()), (Status::Secure, 60));
    let answer = ask(&world, "anything.example.test.", A);
    assert_eq!((answer.status, answer.kind), (Status::Secure, Kind::Data), "{:?}", answer.reason);
    let answer = ask(&world, "old.example.test.", A);
    assert_eq!((answer.status, answer.kind), (Status::Secure, Kind::NoData), "{:?}", answer.reason);
}
