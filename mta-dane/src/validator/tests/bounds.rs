//! Work that a stranger can cause is bounded, and hitting a bound is unavailable.

use std::sync::Arc;

use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, RRSIG};
use hickory_proto::dnssec::{PublicKey, PublicKeyBuf};
use hickory_proto::rr::RecordType::{self, A, TLSA};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record};

use crate::dnssec::Status;
use crate::validator::testing::*;
use crate::validator::{CacheLimits, Limits, Validator};

fn world(zone: Zone) -> World {
    World::new(vec![Zone::signed("."), Zone::signed("test."), zone])
}

#[test]
fn aliases_end_at_the_limit_and_in_circles() {
    let mut lines: Vec<String> = (0..400).map(|i| format!("a{i} CNAME a{}", i + 1)).collect();
    lines.extend([
        "end A 192.0.2.1".into(),
        "b0 CNAME b1".into(),
        "b1 CNAME b0".into(),
        "self CNAME self".into(),
    ]);
    lines.extend(
        (0..10).map(|i| format!("c{i} CNAME {}", if i == 9 { "end".into() } else { format!("c{}", i + 1) })),
    );
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for zone in [Zone::signed("example.test."), Zone::unsigned("example.test.")] {
        let world = world(zone.with(&lines));
        for name in ["a0", "b0", "self"] {
            let answer = ask(&world, &format!("{name}.example.test."), A);
            assert_eq!(answer.status, Status::Unavailable, "{name}: {:?}", answer.reason);
            assert!(answer.hops.len() <= 10);
        }
        assert!(!ask(&world, "c0.example.test.", A).status.is_error(), "ten aliases are allowed");
    }
}

#[test]
fn a_lookup_ends_after_its_queries_whatever_the_names() {
    // Every alias leads into another zone that needs its own walk, one hop for each response.
    let mut zones = vec![Zone::signed("."), Zone::signed("test.")];
    for i in 0..12 {
        let line = format!("x CNAME x.z{}.test.", i + 1);
        zones.push(Zone::signed(&format!("z{i}.test.")).with(&[&line]));
    }
    let world = World::new(zones);
    let mut upstream = |name: &Name, rtype: RecordType| {
        let mut message = world.respond(name, rtype);
        message.answers.retain(|r| r.name == *name);
        Ok(message)
    };
    let (answer, queries) = drive(&world.validator(), NOW, "x.z0.test.", A, &mut upstream);
    assert_eq!(answer.status, Status::Unavailable);
    assert!(queries <= 40, "{queries}");
    let long = format!("{}example.test.", "a.".repeat(60));
    let mut upstream = |name: &Name, rtype: RecordType| Ok(world.respond(name, rtype));
    let (_, queries) = drive(&world.validator(), NOW, &long, A, &mut upstream);
    assert!(queries <= 40, "{queries}");
}

/// Other keys with the tag of the given one, made by changing bytes that sum up the same.
fn colliding(key: &DNSKEY, count: u16) -> Vec<DNSKEY> {
    let bytes = key.public_key().public_bytes();
    (1..=count)
        .map(|i| {
            let mut bytes = bytes.to_vec();
            let word = |b: &[u8], at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
            // Move `i` from one 16-bit word to another that can take it: the sum stays.
            let from = (0..32).step_by(2).find(|at| word(&bytes, *at) > i).unwrap();
            let to = (32..64).step_by(2).find(|at| word(&bytes, *at) < u16::MAX - i).unwrap();
            let (less, more) = (word(&bytes, from) - i, word(&bytes, to) + i);
            bytes[from..from + 2].copy_from_slice(&less.to_be_bytes());
            bytes[to..to + 2].copy_from_slice(&more.to_be_bytes());
            let algorithm = hickory_proto::dnssec::Verifier::algorithm(key);
            DNSKEY::with_flags(257, PublicKeyBuf::new(bytes, algorithm))
        })
        .collect()
}

#[test]
fn many_keys_of_one_tag_with_many_signatures_end_early() {
    let mut zone = Zone::signed("example.test.").with(&["_25._tcp.mail TLSA 1"]);
    let own = zone.keys[0].dnskey.clone();
    let tag = own.calculate_key_tag().unwrap();
    zone.more_keys = colliding(&own, 30);
    assert!(zone.more_keys.iter().all(|k| k.calculate_key_tag().unwrap() == tag));
    let world = world(zone);
    let answer = ask_with(&world, "_25._tcp.mail.example.test.", TLSA, |name, rtype, message| {
        if rtype == TLSA {
            let false_signatures: Vec<Record> = (0..200_u8).map(|i| spoiled(message, name, i)).collect();
            message.answers.splice(0..0, false_signatures);
        }
    });
    assert_eq!(answer.status, Status::Unavailable, "{:?}", answer.reason);
    assert!(answer.reason.unwrap().contains("one tag"));
}

/// A signature of the response with changed bytes.
fn spoiled(message: &hickory_proto::op::Message, name: &Name, i: u8) -> Record {
    let rrsig = message.answers.iter().find_map(rrsig_of).unwrap();
    let mut bytes = rrsig.sig().to_vec();
    bytes[3] ^= i.max(1);
    let rrsig = RRSIG::from_sig(rrsig.input().clone(), bytes);
    Record::from_rdata(name.clone(), 300, RData::DNSSEC(DNSSECRData::RRSIG(rrsig)))
}

#[test]
fn the_signature_budget_covers_the_whole_lookup() {
    let zone = Zone::signed("example.test.").with(&["_25._tcp.mail TLSA 1"]);
    let world = world(zone);
    for (budget, status) in [(5, Status::Unavailable), (6, Status::Secure)] {
        let limits = Limits { signature_checks: budget, ..Limits::default() };
        let validator = Arc::new(Validator::new(world.anchors(), limits, CacheLimits::default()));
        let mut upstream = |name: &Name, rtype: RecordType| Ok(world.respond(name, rtype));
        let (answer, _) = drive(&validator, NOW, "_25._tcp.mail.example.test.", TLSA, &mut upstream);
        assert_eq!(answer.status, status, "{budget}: {:?}", answer.reason);
    }
}

#[test]
fn a_few_false_signatures_before_the_true_one_do_no_harm() {
    let world = world(Zone::signed("example.test.").with(&["_25._tcp.mail TLSA 1"]));
    let answer = ask_with(&world, "_25._tcp.mail.example.test.", TLSA, |name, rtype, message| {
        if rtype == TLSA {
            let false_signatures: Vec<Record> = (0..4_u8).map(|i| spoiled(message, name, i)).collect();
            message.answers.splice(0..0, false_signatures);
        }
    });
    assert_eq!(answer.status, Status::Secure, "{:?}", answer.reason);
}

#[test]
fn hashes_of_long_names_are_counted() {
    let zone = Zone::signed("example.test.").nsec3(150, b"saltsalt", false).with(&["mail A 192.0.2.1"]);
    let world = world(zone);
    let limits = Limits { nsec3_hashes: 500, ..Limits::default() };
    let validator = Arc::new(Validator::new(world.anchors(), limits, CacheLimits::default()));
    let name = format!("{}example.test.", "a.".repeat(30));
    let mut upstream = |name: &Name, rtype: RecordType| Ok(world.respond(name, rtype));
    let (answer, _) = drive(&validator, NOW, &name, A, &mut upstream);
    assert_eq!(answer.status, Status::Unavailable, "{:?}", answer.reason);
    assert_eq!(ask(&world, &name, A).status, Status::Secure, "the default is enough for an honest long name");
}

#[test]
fn oversized_responses_and_unaskable_types_are_refused() {
    let world = world(Zone::signed("example.test.").with(&["mail A 192.0.2.1"]));
    let answer = ask_with(&world, "mail.example.test.", A, |_, rtype, message| {
        if rtype == A {
            for i in 0..1001 {
                let to = RData::CNAME(CNAME(n("x.")));
                message.add_answer(Record::from_rdata(n(&format!("x{i}.")), 1, to));
            }
        }
    });
    assert_eq!(answer.status, Status::Unavailable);
    for rtype in [RecordType::ANY, RecordType::RRSIG, RecordType::NSEC, RecordType::NSEC3, RecordType::AXFR] {
        let mut upstream = |_: &Name, _| panic!("asked");
        assert_eq!(
            drive(&world.validator(), NOW, "example.test.", rtype, &mut upstream).0.status,
            Status::Unavailable
        );
    }
}

/// The cost of one lookup while `tamper` changes what comes back.
fn cost(
    world: &World,
    name: &str,
    rtype: RecordType,
    mut tamper: impl FnMut(&Name, RecordType, &mut hickory_proto::op::Message),
) -> (Status, Cost) {
    let mut upstream = |name: &Name, rtype: RecordType| {
        let mut message = world.respond(name, rtype);
        tamper(name, rtype, &mut message);
        Ok(message)
    };
    let (answer, cost) = counted(&world.validator(), name, rtype, &mut upstream);
    (answer.status, cost)
}

/// KeyTrap (CVE-2023-50387), counted in public-key operations: what an attack costs beyond the honest lookup is a handful, however
/// many keys and signatures it brings, and wherever it brings them.
#[test]
fn keytrap_costs_a_handful_of_operations() {
    let target = "_25._tcp.mail.example.test.";
    let plain = world(Zone::signed("example.test.").with(&["_25._tcp.mail TLSA 1"]));
    // The set itself; DNSKEY and DS of the zone and of its parent; DNSKEY of the root.
    let honest = Cost { queries: 6, signature_checks: 6, nsec3_hashes: 0 };
    assert_eq!(cost(&plain, target, TLSA, |_, _, _| {}), (Status::Secure, honest));

    let spoil = |message: &mut hickory_proto::op::Message, name: &Name| {
        let false_signatures: Vec<Record> = (0..200_u8).map(|i| spoiled(message, name, i)).collect();
        message.answers.splice(0..0, false_signatures);
    };
    // Colliding keys with many signatures over the set; none is tried.
    let mut zone = Zone::signed("example.test.").with(&["_25._tcp.mail TLSA 1"]);
    zone.more_keys = colliding(&zone.keys[0].dnskey.clone(), 30);
    let colliding_world = world(zone);
    let (status, spent) = cost(&colliding_world, target, TLSA, |name, rtype, message| {
        if rtype == TLSA {
            spoil(message, name);
        }
    });
    assert_eq!((status, spent.signature_checks), (Status::Unavailable, 5));
    // Two keys of one tag are tried, for eight signatures.
    let mut zone = Zone::signed("example.test.").with(&["_25._tcp.mail TLSA 1"]);
    zone.more_keys = colliding(&zone.keys[0].dnskey.clone(), 1);
    let pair_world = world(zone);
    let (status, spent) = cost(&pair_world, target, TLSA, |name, rtype, message| {
        if rtype == TLSA {
            spoil(message, name);
        }
    });
    // Then the walk for a delegation that would excuse it: three names, their denials signed once, each by one of two keys.
    assert!(status.is_error() && spent.signature_checks <= 5 + 2 * 8 + 3 * 2 * 2, "{status:?} {spent:?}");
    // The same signatures without colliding keys, over every set of the lookup at once.
    let (status, spent) = cost(&plain, target, TLSA, |name, _, message| {
        if !message.answers.is_empty() {
            spoil(message, name);
        }
    });
    assert!(status.is_error() && spent.signature_checks <= 100, "{status:?} {spent:?}");
    // Many DS records that all name one tag, and many keys of that tag.
    let mut zone = Zone::signed("example.test.").with(&["_25._tcp.mail TLSA 1"]);
    let own = zone.keys[0].dnskey.clone();
    zone.more_keys = colliding(&own, 30);
    let digests = zone.more_keys.iter().chain([&own]);
    let of = |key| ds_of(&n("example.test."), key, hickory_proto::dnssec::DigestType::SHA256);
    zone.ds = Some(digests.map(of).collect());
    let (status, spent) = cost(&world(zone), target, TLSA, |_, _, _| {});
    assert!(status == Status::Unavailable && spent.signature_checks <= 5, "{status:?} {spent:?}");
}

/// NSEC3 (CVE-2023-50868), counted in hash operations: an honest denial costs a few, an attack by iterations none at all, an attack
/// by labels never more than the limit.
#[test]
fn nsec3_hashing_is_counted_and_ends() {
    let hashes = |iterations: u16, name: &str| {
        let zone =
            Zone::signed("example.test.").nsec3(iterations, b"salt", false).with(&["mail A 192.0.2.1"]);
        cost(&world(zone), name, A, |_, _, _| {})
    };
    let (status, spent) = hashes(0, "none.example.test.");
    assert!(status == Status::Secure && spent.nsec3_hashes <= 10, "{spent:?}");
    let (status, spent) = hashes(2_000, "none.example.test.");
    assert_eq!((status, spent.nsec3_hashes), (Status::Unavailable, 0), "too many iterations are not begun");
    let deep = format!("{}example.test.", "a.".repeat(110));
    let (status, spent) = hashes(150, &deep);
    assert!(!matches!(status, Status::Insecure | Status::Bogus), "{status:?}");
    assert!(spent.nsec3_hashes <= 20_000, "{spent:?}");
}

/// A response full of records costs no operation more than one that holds what was asked for.
#[test]
fn records_that_nobody_asked_for_cost_nothing() {
    let plain = world(Zone::signed("example.test.").with(&["_25._tcp.mail TLSA 1"]));
    let other = world(Zone::signed("other.test.").with(&["x A 192.0.2.1"]));
    let stuffing = other.respond(&n("x.other.test."), A).answers;
    let (status, spent) = cost(&plain, "_25._tcp.mail.example.test.", TLSA, |_, _, message| {
        for _ in 0..200 {
            message.add_answers(stuffing.clone());
            message.add_authorities(stuffing.clone());
        }
    });
    assert_eq!((status, spent.signature_checks, spent.queries), (Status::Secure, 6, 6));
}
