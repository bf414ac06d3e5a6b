//! An attacker without any key, but with every record that the zones ever signed: replays of wildcards, denials, delegations
//! and aliases where they do not belong, and what such answers leave in the cache.

use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType::{self, A, CNAME, DNSKEY, DS, MX, SOA, TLSA};
use hickory_proto::rr::{Name, Record};

use super::hostile::{TARGET, assert_bogus, authorities, both, forged, forged_at, renamed, response};
use crate::dnssec::{Kind, Status};
use crate::validator::testing::*;

/// A parent that leaves unsigned delegations out of its NSEC3 chain, a signed and an unsigned child, wildcards above both.
fn opt_out_parent() -> World {
    let parent = Zone::signed("test.").nsec3(0, b"", true).with(&[
        "*.test. A 192.0.2.66",
        "*.test. TLSA 66",
        "*.test. MX mail.evil.test.",
    ]);
    let target =
        Zone::signed("example.test.").with(&["@ MX mail", "mail A 192.0.2.1", "_25._tcp.mail TLSA 1"]);
    let evil =
        Zone::unsigned("evil.test.").with(&["@ MX mail", "mail A 192.0.2.66", "_25._tcp.mail TLSA 66"]);
    World::new(vec![Zone::signed("."), parent, target, evil])
}

/// Every proof that a zone can be made to sign, with its SOA record: for names that exist, that do not, and for its children.
fn all_proofs(world: &World, zone: &str) -> Vec<Record> {
    let zone = &world.zones[&n(zone)];
    let mut names: Vec<Name> = zone.records.keys().cloned().collect();
    names.extend(["0", "m", "zzz", "*"].iter().filter_map(|label| zone.apex.prepend_label(*label).ok()));
    let mut records: Vec<Record> = Vec::new();
    for name in names {
        let proofs = match zone.denial {
            Denial::Nsec => zone.nsec_for(&name, world),
            Denial::Nsec3 { .. } => zone.nsec3_for(&name, world),
        };
        for record in proofs {
            if !records.iter().any(|r| r.name == record.name && r.data == record.data) {
                records.push(record);
            }
        }
    }
    records.extend(zone.sign(&zone.records[&zone.apex][&SOA]));
    records.extend(zone.records[&zone.apex][&SOA].iter().cloned());
    records
}

/// Insecure-delegation replay: with all of its parent's proofs at hand, opt-out ones too, nobody makes a signed child insecure.
#[test]
fn an_opt_out_parent_does_not_make_its_signed_child_insecure() {
    let world = opt_out_parent();
    assert_eq!(ask(&world, TARGET, TLSA).status, Status::Secure);
    assert_eq!(ask(&world, "_25._tcp.mail.evil.test.", TLSA).status, Status::Insecure);
    let proofs = all_proofs(&world, "test.");
    for code in [ResponseCode::NoError, ResponseCode::NXDomain] {
        let forgery = response("example.test.", DS, code, vec![], proofs.clone());
        assert_bogus(&forged_at(&world, TARGET, TLSA, &n("example.test."), DS, &forgery), "no DS");
        for (name, rtype) in [(TARGET, TLSA), ("example.test.", MX), ("mail.example.test.", A)] {
            let forgery = response(name, rtype, code, vec![], proofs.clone());
            assert_bogus(&forged(&world, name, rtype, &forgery), name);
        }
    }
}

/// D9, RFC 4035 5.3.4: a wildcard of the parent zone does not reach below a delegation, whatever proofs come along; below an
/// unsigned delegation it is at best insecure.
#[test]
fn a_wildcard_of_the_parent_does_not_reach_into_the_child() {
    let world = opt_out_parent();
    let parent = &world.zones[&n("test.")];
    let proofs = all_proofs(&world, "test.");
    for (name, rtype) in [("mail.example.test.", A), (TARGET, TLSA), ("example.test.", MX)] {
        let set = &parent.records[&n("*.test.")][&rtype];
        let replay: Vec<Record> =
            set.iter().cloned().chain(parent.sign(set)).map(|record| renamed(&record, name)).collect();
        for proofs in [vec![], proofs.clone()] {
            let forgery = response(name, rtype, ResponseCode::NoError, replay.clone(), proofs);
            assert_bogus(&forged(&world, name, rtype, &forgery), name);
        }
        let under = name.replace("example", "evil");
        let replay: Vec<Record> = replay.iter().map(|record| renamed(record, &under)).collect();
        let forgery = response(&under, rtype, ResponseCode::NoError, replay, proofs.clone());
        assert_ne!(forged(&world, &under, rtype, &forgery).status, Status::Secure, "{under}");
    }
}

/// D9: wildcards of the types that matter for mail, replayed for names that exist, alias wildcards too.
#[test]
fn wildcard_aliases_and_tlsa_do_not_answer_for_names_that_exist() {
    for nsec3 in [false, true] {
        let mut zone = Zone::signed("example.test.").with(&[
            "mail A 192.0.2.1",
            "_25._tcp.mail TLSA 1",
            "*._tcp.mail TLSA 66",
            "*.mail CNAME x.evil.test.",
            "* CNAME x.evil.test.",
            "* MX x.evil.test.",
            "host.deep A 192.0.2.3",
            "*.deep A 192.0.2.66",
        ]);
        if nsec3 {
            zone = zone.nsec3(0, b"", false);
        }
        let evil = Zone::unsigned("evil.test.").with(&["x A 192.0.2.66", "x TLSA 66"]);
        let world = World::new(vec![Zone::signed("."), Zone::signed("test."), zone, evil]);
        let zone = &world.zones[&n("example.test.")];
        let proofs = all_proofs(&world, "example.test.");
        for (wildcard, set_type, name, rtype) in [
            ("*._tcp.mail.example.test.", TLSA, TARGET, TLSA),
            ("*.mail.example.test.", CNAME, TARGET, TLSA),
            ("*.mail.example.test.", CNAME, "_tcp.mail.example.test.", A),
            ("*.example.test.", CNAME, "mail.example.test.", A),
            ("*.example.test.", CNAME, TARGET, TLSA),
            ("*.example.test.", MX, "deep.example.test.", MX),
            ("*.deep.example.test.", A, "host.deep.example.test.", A),
        ] {
            let set = &zone.records[&n(wildcard)][&set_type];
            let replay: Vec<Record> =
                set.iter().cloned().chain(zone.sign(set)).map(|record| renamed(&record, name)).collect();
            for proofs in [vec![], proofs.clone()] {
                let forgery = response(name, rtype, ResponseCode::NoError, replay.clone(), proofs);
                assert_bogus(&forged(&world, name, rtype, &forgery), &format!("{wildcard} for {name}"));
            }
        }
    }
}

/// Forged denial: with every proof of the zone and of all zones above it at hand, nothing that exists is denied.
#[test]
fn all_proofs_together_deny_nothing_that_exists() {
    both(|world| {
        let mut proofs = Vec::new();
        for zone in [".", "test.", "example.test."] {
            proofs.extend(all_proofs(world, zone));
        }
        let subzone = all_proofs(world, "sub.example.test.");
        for (name, rtype) in [
            (TARGET, TLSA),
            ("example.test.", MX),
            ("mail.example.test.", A),
            ("exact.wild.example.test.", MX),
            ("alias.example.test.", A),
            ("x.old.example.test.", A),
            ("_25._tcp.mail.sub.example.test.", TLSA),
            ("x.wild.example.test.", A),
        ] {
            for code in [ResponseCode::NoError, ResponseCode::NXDomain] {
                for proofs in [proofs.clone(), [subzone.clone(), proofs.clone()].concat()] {
                    if name.contains("sub.") && proofs.len() > subzone.len() + 30 {
                        continue;
                    }
                    let forgery = response(name, rtype, code, vec![], proofs);
                    assert_bogus(&forged(world, name, rtype, &forgery), &format!("{name} {rtype}"));
                }
            }
        }
        // And nothing that is delegated without being so.
        for zone in ["example.test.", "sub.example.test.", "mail.example.test."] {
            let mut upstream = |name: &Name, rtype: RecordType| {
                let mut message = world.respond(name, rtype);
                if rtype == DS && *name == n(zone) {
                    message.answers.clear();
                    message.authorities.clone_from(&proofs);
                }
                Ok(message)
            };
            let name = if zone.starts_with("sub") { "_25._tcp.mail.sub.example.test." } else { TARGET };
            let (answer, _) = drive(&world.validator(), NOW, name, TLSA, &mut upstream);
            assert_ne!(answer.status, Status::Insecure, "{zone}: {:?}", answer.reason);
        }
    });
}

/// An alias out of a wildcard, given as the answer to the DS question, hides a delegation for nobody, and above all not for the
/// lookups after it.
#[test]
fn a_wildcard_alias_hides_no_delegation() {
    let zone = Zone::signed("example.test.").with(&["* CNAME mail", "mail A 192.0.2.1"]);
    let child = Zone::unsigned("child.example.test.").with(&["@ MX mail"]);
    let world = World::new(vec![Zone::signed("."), Zone::signed("test."), zone, child]);
    let zone = &world.zones[&n("example.test.")];
    let at = n("child.example.test.");
    let set = &zone.records[&n("*.example.test.")][&CNAME];
    let replay: Vec<Record> = set
        .iter()
        .cloned()
        .chain(zone.sign(set))
        .map(|record| renamed(&record, "child.example.test."))
        .collect();
    let forgery = response("child.example.test.", DS, ResponseCode::NoError, replay, vec![]);
    let validator = world.validator();
    let mut lying = |name: &Name, rtype: RecordType| {
        Ok(if *name == at && rtype == DS { forgery.clone() } else { world.respond(name, rtype) })
    };
    let (answer, _) = drive(&validator, NOW, "child.example.test.", MX, &mut lying);
    assert_bogus(&answer, "a hidden delegation");
    assert!(answer.reason.unwrap().contains("wildcard"));
    let mut honest = |name: &Name, rtype: RecordType| Ok(world.respond(name, rtype));
    let (answer, _) = drive(&validator, NOW + 31, "child.example.test.", MX, &mut honest);
    assert_eq!((answer.status, answer.kind), (Status::Insecure, Kind::Data), "{:?}", answer.reason);
}

/// A replayed denial of a delegation that has been made since, remembered, is asked for again before the unsigned child is
/// called bogus.
#[test]
fn a_delegation_made_since_is_found() {
    let parent = || Zone::signed("example.test.").with(&["mail A 192.0.2.1"]);
    let before = World::new(vec![Zone::signed("."), Zone::signed("test."), parent()]);
    let validator = before.validator();
    let mut old = |name: &Name, rtype: RecordType| Ok(before.respond(name, rtype));
    // The question for an unsigned-looking name leaves "no zone begins here" in the cache.
    let mut strip = |name: &Name, rtype: RecordType| {
        let mut message = before.respond(name, rtype);
        if rtype == MX {
            message.authorities.clear();
        }
        Ok(message)
    };
    assert!(drive(&validator, NOW, "x.child.example.test.", MX, &mut strip).0.status.is_error());
    assert_eq!(drive(&validator, NOW, "mail.example.test.", A, &mut old).0.status, Status::Secure);
    let mut zones: Vec<Zone> = before.zones.into_values().collect();
    for zone in &mut zones {
        let apex = zone.apex.clone();
        zone.records.iter_mut().filter(|(name, _)| **name != apex).for_each(|(_, sets)| {
            sets.remove(&RecordType::NS);
        });
        zone.records.retain(|_, sets| !sets.is_empty());
    }
    zones.push(Zone::unsigned("child.example.test.").with(&["x MX mail"]));
    let mut after = World::new(zones);
    after.zone("example.test.").ttl = 60;
    let mut new = |name: &Name, rtype: RecordType| Ok(after.respond(name, rtype));
    let (answer, _) = drive(&validator, NOW + 31, "x.child.example.test.", MX, &mut new);
    assert_eq!((answer.status, answer.kind), (Status::Insecure, Kind::Data), "{:?}", answer.reason);
}

/// Stale-cache trick: what is insecure is kept no longer than the proof of its insecurity, whatever TTL it gives itself; after
/// that a zone that was signed meanwhile is secure.
#[test]
fn insecurity_does_not_outlive_its_proof() {
    let mut unsigned = Zone::unsigned("example.test.");
    unsigned.ttl = 86_400;
    let unsigned = unsigned.with(&["mail A 192.0.2.1", "_25._tcp.mail TLSA 66"]);
    let before = World::new(vec![Zone::signed("."), Zone::signed("test."), unsigned]);
    let validator = before.validator();
    let mut old = |name: &Name, rtype: RecordType| Ok(before.respond(name, rtype));
    // The world's denials are signed with a TTL of 900.
    for (name, rtype) in [("mail.example.test.", A), (TARGET, TLSA), ("none.example.test.", A)] {
        let (answer, _) = drive(&validator, NOW, name, rtype, &mut old);
        assert_eq!(answer.status, Status::Insecure);
        assert!(answer.ttl_seconds <= 900, "{name} {}", answer.ttl_seconds);
    }
    let signed = Zone::signed("example.test.").with(&["mail A 192.0.2.1", "_25._tcp.mail TLSA 1"]);
    let mut zones: Vec<Zone> = before.zones.into_values().filter(|zone| zone.apex != signed.apex).collect();
    zones.iter_mut().for_each(|zone| drop(zone.records.remove(&signed.apex)));
    zones.push(signed);
    let after = World::new(zones);
    let mut new = |name: &Name, rtype: RecordType| Ok(after.respond(name, rtype));
    assert_eq!(drive(&validator, NOW + 901, TARGET, TLSA, &mut new).0.status, Status::Secure);
}

/// A child whose delegation was withdrawn is not trusted for longer than the DS records that vouched for it, however long a TTL
/// it gives its keys.
#[test]
fn keys_do_not_outlive_the_delegation() {
    let mut child = Zone::signed("example.test.");
    child.ttl = 80_000;
    let child = child.with(&["mail A 192.0.2.1", "x A 192.0.2.1", "y A 192.0.2.1"]);
    let mut world = World::new(vec![Zone::signed("."), Zone::signed("test."), child]);
    let validator = world.validator();
    let look = |world: &World, now, name| {
        let mut upstream = |name: &Name, rtype: RecordType| Ok(world.respond(name, rtype));
        drive(&validator, now, name, A, &mut upstream).0.status
    };
    assert_eq!(look(&world, NOW, "mail.example.test."), Status::Secure);
    // The parent names another key now; its DS records had a TTL of 3600.
    let other = Arc::new(Key::new(hickory_proto::dnssec::Algorithm::ECDSAP256SHA256, 257));
    let ds = ds_of(&n("example.test."), &other.dnskey, hickory_proto::dnssec::DigestType::SHA256);
    world.zone("example.test.").ds = Some(vec![ds]);
    assert_eq!(look(&world, NOW + 3599, "x.example.test."), Status::Secure, "within the TTL");
    assert_eq!(look(&world, NOW + 3601, "y.example.test."), Status::Bogus);
}

/// A TTL is not signed: one that was raised on the way counts for no more than the original.
#[test]
fn raised_ttls_do_not_prolong_anything() {
    both(|world| {
        for (name, rtype) in [(TARGET, TLSA), ("none.example.test.", TLSA), ("x.wild.example.test.", A)] {
            let answer = ask_with(world, name, rtype, |_, _, message| {
                for record in message.answers.iter_mut().chain(&mut message.authorities) {
                    record.ttl = i32::MAX.unsigned_abs();
                }
            });
            assert_eq!(answer.status, Status::Secure, "{name}: {:?}", answer.reason);
            assert!(answer.ttl_seconds <= 3600, "{name}: {}", answer.ttl_seconds);
        }
    });
}

/// CNAME splice: an alias that is genuine elsewhere, in front of data of the attacker's own zone or of nobody's.
#[test]
fn aliases_from_elsewhere_lead_nowhere() {
    both(|world| {
        let genuine: Vec<Record> = world.respond(&n("alias.example.test."), A).answers;
        let alias: Vec<Record> =
            genuine.iter().filter(|r| r.name == n("alias.example.test.")).cloned().collect();
        assert_eq!(alias.len(), 2, "the alias and its signature");
        for (name, rtype) in [(TARGET, TLSA), ("mail.example.test.", A), ("example.test.", MX)] {
            // Renamed, or as it is, with unsigned data behind it.
            for replay in [alias.iter().map(|r| renamed(r, name)).collect::<Vec<_>>(), alias.clone()] {
                let evil = authorities(world, "none.evil.test.", A);
                let forgery = response(name, rtype, ResponseCode::NoError, replay, evil);
                assert_bogus(&forged(world, name, rtype, &forgery), name);
            }
        }
        // The true alias, its target's data replaced by unsigned data, or its target's existence denied.
        let target = |records: Vec<Record>| [alias.clone(), records].concat();
        let evil = world.respond(&n("mail.evil.test."), A).answers;
        let replaced = evil.iter().map(|r| renamed(r, "mail.example.test.")).collect();
        let forgery = response("alias.example.test.", A, ResponseCode::NoError, target(replaced), vec![]);
        assert_bogus(&forged(world, "alias.example.test.", A, &forgery), "data behind an alias");
        let denial = authorities(world, "none.evil.test.", A);
        let forgery = response("alias.example.test.", A, ResponseCode::NXDomain, target(vec![]), denial);
        let answer = forged(world, "alias.example.test.", A, &forgery);
        assert_eq!(
            (answer.status, answer.kind),
            (Status::Secure, Kind::Data),
            "the target is asked for itself"
        );
    });
}

/// The answer to one question is none to another: every genuine response of the world, given for the question under attack.
#[test]
fn no_response_to_another_question_is_an_answer_to_this_one() {
    both(|world| {
        let names: Vec<Name> = world.zones.values().flat_map(|zone| zone.records.keys().cloned()).collect();
        let genuine = ask(world, TARGET, TLSA);
        for other in &names {
            for rtype in [A, MX, TLSA, DS, DNSKEY, CNAME] {
                let from = world.respond(other, rtype);
                let (answers, authorities) = (from.answers.clone(), from.authorities.clone());
                let rename = |records: &[Record]| -> Vec<Record> {
                    records
                        .iter()
                        .map(|r| if r.name == *other { renamed(r, TARGET) } else { r.clone() })
                        .collect()
                };
                for (answers, authorities) in
                    [(answers.clone(), authorities.clone()), (rename(&answers), rename(&authorities))]
                {
                    let forgery: Message =
                        response(TARGET, TLSA, from.metadata.response_code, answers, authorities);
                    let answer = forged(world, TARGET, TLSA, &forgery);
                    let is_genuine = answer.status == Status::Secure && answer.records == genuine.records;
                    assert!(answer.status.is_error() || is_genuine, "{other} {rtype}: {answer:?}");
                }
            }
        }
    });
}
