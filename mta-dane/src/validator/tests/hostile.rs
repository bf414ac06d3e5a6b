//! An upstream that lies. Whatever it does, the verdict is the true one, bogus or unavailable.

use std::sync::Arc;

use hickory_proto::dnssec::rdata::{DNSKEY as KeyData, DNSSECRData, NSEC, NSEC3};
use hickory_proto::dnssec::{DigestType, Nsec3HashAlgorithm};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::RecordType::{self, A, DNSKEY, DS, MX, SOA, TLSA};
use hickory_proto::rr::rdata::{CNAME, NS};
use hickory_proto::rr::{Name, RData, Record};

use crate::dnssec::{Answer, Kind, Status};
use crate::validator::TransportFailure;
use crate::validator::testing::*;

pub(super) const TARGET: &str = "_25._tcp.mail.example.test.";

/// The zone under attack, an unsigned one, a signed island below it, and a subzone.
pub(super) fn world(nsec3: bool) -> World {
    let mut zone = Zone::signed("example.test.").with(&[
        "@ MX mail",
        "mail A 192.0.2.1",
        "_25._tcp.mail TLSA 1",
        "*.wild A 192.0.2.2",
        "exact.wild A 192.0.2.3",
        "exact.wild MX mail",
        "b.deep.wild A 192.0.2.3",
        "alias CNAME mail",
        "old DNAME new",
        "x.new A 192.0.2.7",
    ]);
    if nsec3 {
        zone = zone.nsec3(1, b"s", false);
    }
    let sub =
        Zone::signed("sub.example.test.").with(&["@ MX mail", "mail A 192.0.2.4", "_25._tcp.mail TLSA 4"]);
    let evil =
        Zone::unsigned("evil.test.").with(&["@ MX mail", "mail A 192.0.2.66", "_25._tcp.mail TLSA 66"]);
    let island = Zone::signed("island.evil.test.").with(&["@ MX mail"]);
    World::new(vec![Zone::signed("."), Zone::signed("test."), zone, sub, evil, island])
}

pub(super) fn both(mut f: impl FnMut(&World)) {
    f(&world(false));
    f(&world(true));
}

/// A response to the target question with these sections.
pub(super) fn response(
    name: &str,
    rtype: RecordType,
    code: ResponseCode,
    answers: Vec<Record>,
    authorities: Vec<Record>,
) -> Message {
    let mut message = Message::new(7, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(n(name), rtype));
    message.metadata.response_code = code;
    message.add_answers(answers);
    message.add_authorities(authorities);
    message
}

/// The answer when one question gets this response and all others the true one.
pub(super) fn forged(world: &World, name: &str, rtype: RecordType, forgery: &Message) -> Answer {
    forged_at(world, name, rtype, &n(name), rtype, forgery)
}

pub(super) fn forged_at(
    world: &World,
    name: &str,
    rtype: RecordType,
    at: &Name,
    at_type: RecordType,
    forgery: &Message,
) -> Answer {
    ask_with(world, name, rtype, |asked, asked_type, message| {
        if asked == at && asked_type == at_type {
            *message = forgery.clone();
        }
    })
}

pub(super) fn authorities(world: &World, name: &str, rtype: RecordType) -> Vec<Record> {
    world.respond(&n(name), rtype).authorities
}

pub(super) fn answers(world: &World, name: &str, rtype: RecordType) -> Vec<Record> {
    world.respond(&n(name), rtype).answers
}

#[track_caller]
pub(super) fn assert_bogus(answer: &Answer, what: &str) {
    assert_eq!(answer.status, Status::Bogus, "{what}: {:?} {:?}", answer.kind, answer.reason);
    assert!(answer.records.is_empty());
}

pub(super) fn renamed(record: &Record, owner: &str) -> Record {
    let mut record = record.clone();
    record.name = n(owner);
    record
}

pub(super) fn unsigned(owner: &str, data: RData) -> Record {
    Record::from_rdata(n(owner), 300, data)
}

/// Authority sections that prove nothing about the target, by what they pretend to be.
fn useless_authorities(world: &World) -> Vec<(&'static str, Vec<Record>)> {
    let soa = |zone: &str| {
        let record = world.zones[&n(zone)].records[&n(zone)][&SOA][0].clone();
        vec![record]
    };
    let bare_nsec = |owner: &str, next: &str| {
        let nsec = NSEC::new(n(next), [A, RecordType::RRSIG, RecordType::NSEC]);
        unsigned(owner, RData::DNSSEC(DNSSECRData::NSEC(nsec)))
    };
    vec![
        ("nothing", vec![]),
        ("the zone's own unsigned SOA", soa("example.test.")),
        ("the root's unsigned SOA", soa(".")),
        ("an unrelated insecure zone's SOA", soa("evil.test.")),
        ("an unrelated insecure zone's NS", vec![unsigned("evil.test.", RData::NS(NS(n("ns.evil.test."))))]),
        ("a fake zone cut", vec![unsigned("mail.example.test.", RData::NS(NS(n("ns.evil.test."))))]),
        ("a fake zone cut with SOA", {
            let mut soa = soa("evil.test.");
            soa[0].name = n("mail.example.test.");
            soa
        }),
        ("an unsigned NSEC at the name", vec![bare_nsec(TARGET, "z.example.test.")]),
        ("an unsigned NSEC of an insecure zone", vec![bare_nsec("evil.test.", "z.evil.test.")]),
        ("a signed island's denial", authorities(world, "none.island.evil.test.", A)),
        ("an insecure zone's denial", authorities(world, "none.evil.test.", A)),
        ("the denial of another name", authorities(world, "zzz.example.test.", TLSA)),
        ("the denial of another type at the name", authorities(world, TARGET, MX)),
        ("the parent's denial of another name", authorities(world, "zzz.test.", TLSA)),
        ("the root's denial of another name", authorities(world, "zzz.", TLSA)),
        ("the insecure delegation of another zone", authorities(world, "evil.test.", DS)),
        ("the subzone's denial", authorities(world, "zzz.sub.example.test.", TLSA)),
        ("the delegation's denial", authorities(world, "mail.example.test.", DS)),
    ]
}

#[test]
fn no_borrowed_authority_section_denies_a_signed_name() {
    both(|world| {
        for code in [ResponseCode::NoError, ResponseCode::NXDomain] {
            for (what, authority) in useless_authorities(world) {
                for answer in
                    [vec![], vec![unsigned("www.evil.test.", RData::CNAME(CNAME(n("mail.evil.test."))))]]
                {
                    let forgery = response(TARGET, TLSA, code, answer, authority.clone());
                    assert_bogus(&forged(world, TARGET, TLSA, &forgery), what);
                }
            }
        }
    });
}

#[test]
fn no_borrowed_proof_makes_a_delegation_insecure() {
    // The same denials given for the DS question of the zone itself and of a subzone.
    both(|world| {
        for zone in ["example.test.", "sub.example.test.", "test."] {
            for (what, authority) in useless_authorities(world) {
                let at = n(zone);
                let forgery = response(zone, DS, ResponseCode::NoError, vec![], authority);
                let name = format!("_25._tcp.mail.{}", if zone == "test." { "example.test." } else { zone });
                let answer = forged_at(world, &name, TLSA, &at, DS, &forgery);
                assert_bogus(&answer, &format!("{zone}: {what}"));
            }
        }
    });
}

#[test]
fn forged_data_is_bogus_whatever_signature_it_borrows() {
    both(|world| {
        let true_set = answers(world, TARGET, TLSA);
        let evil: Vec<Record> = answers(world, "_25._tcp.mail.evil.test.", TLSA)
            .into_iter()
            .map(|mut r| {
                r.name = n(TARGET);
                r
            })
            .collect();
        let signature = true_set.iter().filter(|r| rrsig_of(r).is_some()).cloned();
        let stripped: Vec<Record> = true_set.iter().filter(|r| rrsig_of(r).is_none()).cloned().collect();
        let cases = [
            ("stripped", stripped),
            ("forged", evil.clone()),
            ("forged with the true signature", evil.iter().cloned().chain(signature).collect()),
            ("one record more", true_set.iter().cloned().chain(evil).collect()),
            ("signatures alone", true_set.iter().filter(|r| rrsig_of(r).is_some()).cloned().collect()),
        ];
        for (what, records) in cases {
            for authentic_data in [false, true] {
                let mut forgery = response(TARGET, TLSA, ResponseCode::NoError, records.clone(), vec![]);
                forgery.metadata.authentic_data = authentic_data;
                assert_bogus(&forged(world, TARGET, TLSA, &forgery), what);
            }
        }
    });
}

#[test]
fn records_off_the_path_are_dropped_and_duplicates_count_once() {
    both(|world| {
        let mut message = world.respond(&n(TARGET), TLSA);
        let twice = message.answers.clone();
        message.add_answers(twice);
        for i in 0..300 {
            message.add_answer(unsigned(&format!("x{i}.evil.test."), RData::CNAME(CNAME(n("y.evil.test.")))));
            message.add_authority(unsigned(&format!("x{i}.evil.test."), RData::NS(NS(n("y.evil.test.")))));
        }
        let mut upstream = |name: &Name, rtype: RecordType| {
            Ok(if *name == n(TARGET) { message.clone() } else { world.respond(name, rtype) })
        };
        let (answer, queries) = drive(&world.validator(), NOW, TARGET, TLSA, &mut upstream);
        assert_eq!((answer.status, answer.records.len()), (Status::Secure, 1), "{:?}", answer.reason);
        assert_eq!(queries, 6);
    });
}

/// A11, RFC 6672 5.3.1: a DNAME counts, and the CNAME made of it must agree.
#[test]
fn forged_aliases_are_bogus() {
    both(|world| {
        let to_evil = unsigned(TARGET, RData::CNAME(CNAME(n("_25._tcp.mail.evil.test."))));
        let mut with_data = vec![to_evil.clone()];
        with_data.extend(answers(world, "_25._tcp.mail.evil.test.", TLSA));
        for records in [vec![to_evil], with_data] {
            let forgery = response(TARGET, TLSA, ResponseCode::NoError, records, vec![]);
            assert_bogus(&forged(world, TARGET, TLSA, &forgery), "an alias into an insecure zone");
        }
        // A synthesised CNAME that is not what its DNAME says.
        let name = "x.old.example.test.";
        let mut message = world.respond(&n(name), A);
        for record in &mut message.answers {
            if record.record_type() == RecordType::CNAME {
                record.data = RData::CNAME(CNAME(n("mail.evil.test.")));
            }
        }
        message.add_answers(answers(world, "mail.evil.test.", A));
        assert_bogus(&forged(world, name, A, &message), "a false synthesised CNAME");
        // An unsigned DNAME above the name.
        let data = world.zone_record("example.test.", "old.example.test.", RecordType::DNAME);
        let dname = renamed(&data, "mail.example.test.");
        let forgery = response(TARGET, TLSA, ResponseCode::NoError, vec![dname], vec![]);
        assert_bogus(&forged(world, TARGET, TLSA, &forgery), "an unsigned DNAME");
    });
}

#[test]
fn a_wildcard_does_not_answer_for_names_that_exist() {
    both(|world| {
        let wildcard = answers(world, "x.wild.example.test.", A);
        let replay = |name: &str| -> Vec<Record> { wildcard.iter().map(|r| renamed(r, name)).collect() };
        let proofs: Vec<Vec<Record>> =
            ["x.wild.example.test.", "b.wild.example.test.", "zz.wild.example.test."]
                .iter()
                .map(|name| authorities(world, name, A))
                .chain(useless_authorities(world).into_iter().map(|(_, records)| records))
                .collect();
        // The exact name; a name below one that exists between it and the wildcard (next closer name).
        for name in [
            "exact.wild.example.test.",
            "b.deep.wild.example.test.",
            "q.exact.wild.example.test.",
            "q.deep.wild.example.test.",
        ] {
            for proof in &proofs {
                let forgery = response(name, A, ResponseCode::NoError, replay(name), proof.clone());
                assert_bogus(&forged(world, name, A, &forgery), name);
            }
        }
    });
}

/// D9, RFC 4035 5.3.4.
#[test]
fn the_proofs_of_a_wildcard_answer_are_owed() {
    both(|world| {
        let answer = ask_with(world, "x.wild.example.test.", A, |name, _, message| {
            if *name == n("x.wild.example.test.") {
                message.authorities.clear();
            }
        });
        assert_bogus(&answer, "wildcard without proof");
        assert!(answer.reason.unwrap().contains("wildcard"));
    });
}

#[test]
fn a_question_for_ds_is_not_answered_by_the_child() {
    both(|world| {
        let sub = n("sub.example.test.");
        let zone = &world.zones[&sub];
        let mut child_side = zone.nsec_for(&sub, world);
        child_side.extend(zone.records[&sub][&SOA].iter().cloned());
        let forgery = response("sub.example.test.", DS, ResponseCode::NoError, vec![], child_side);
        assert_bogus(&forged(world, "sub.example.test.", DS, &forgery), "DS denied by the child");
        let answer = forged_at(world, "_25._tcp.mail.sub.example.test.", TLSA, &sub, DS, &forgery);
        assert_bogus(&answer, "the walk's DS question denied by the child");
        // DS records that the child made and signed itself.
        let own = ds_of(&sub, &KeyData::with_flags(257, foreign_key()), DigestType::SHA256);
        let ds = unsigned("sub.example.test.", RData::DNSSEC(DNSSECRData::DS(own)));
        let signed = signed_as("sub.example.test.", &zone.keys[0], &[ds]);
        let forgery = response("sub.example.test.", DS, ResponseCode::NoError, signed, vec![]);
        assert_bogus(&forged(world, "sub.example.test.", DS, &forgery), "DS made by the child");
        // Nor when the child's keys are known already.
        let warm = world.validator();
        let honest = &mut |name: &Name, rtype: RecordType| Ok(world.respond(name, rtype));
        assert_eq!(drive(&warm, NOW, "sub.example.test.", MX, honest).0.status, Status::Secure);
        let lying = &mut |name: &Name, rtype: RecordType| {
            Ok(if rtype == DS { forgery.clone() } else { world.respond(name, rtype) })
        };
        assert_bogus(&drive(&warm, NOW, "sub.example.test.", DS, lying).0, "DS made by the child, warm");
    });
}

#[test]
fn the_parent_does_not_deny_what_the_child_holds() {
    both(|world| {
        // The parent's record at the delegation lists NS and DS, not MX; the records around it cover nothing below.
        let parent = &world.zones[&n("example.test.")];
        let mut records = Vec::new();
        for name in [
            "sub.example.test.",
            "example.test.",
            "mail.example.test.",
            "*.example.test.",
            "*.sub.example.test.",
            "mail.sub.example.test.",
            "_tcp.mail.sub.example.test.",
        ] {
            records.extend(match parent.denial {
                Denial::Nsec => parent.nsec_for(&n(name), world),
                Denial::Nsec3 { .. } => parent.nsec3_for(&n(name), world),
            });
        }
        records.extend(parent.records[&n("example.test.")][&SOA].iter().cloned());
        for name in ["sub.example.test.", "mail.sub.example.test.", "_25._tcp.mail.sub.example.test."] {
            for rtype in [A, MX, TLSA] {
                for code in [ResponseCode::NoError, ResponseCode::NXDomain] {
                    let forgery = response(name, rtype, code, vec![], records.clone());
                    assert_bogus(&forged(world, name, rtype, &forgery), name);
                }
            }
        }
    });
}

#[test]
fn every_error_code_and_failure_is_unavailable_wherever_it_strikes() {
    let world = world(false);
    let questions = [
        (n(TARGET), TLSA),
        (n("example.test."), DS),
        (n("example.test."), DNSKEY),
        (n("test."), DS),
        (Name::root(), DNSKEY),
    ];
    let codes = [
        ResponseCode::ServFail,
        ResponseCode::Refused,
        ResponseCode::FormErr,
        ResponseCode::NotImp,
        ResponseCode::YXDomain,
        ResponseCode::NotAuth,
    ];
    for (at, at_type) in &questions {
        for code in codes {
            let forgery = response(&at.to_ascii(), *at_type, code, vec![], vec![]);
            let answer = forged_at(&world, TARGET, TLSA, at, *at_type, &forgery);
            assert_eq!(answer.status, Status::Unavailable, "{code} for {at} {at_type}: {:?}", answer.reason);
        }
        for failure in [
            TransportFailure::Timeout,
            TransportFailure::Network("x".into()),
            TransportFailure::Malformed("x".into()),
        ] {
            let mut upstream = |name: &Name, rtype: RecordType| {
                if name == at && rtype == *at_type {
                    Err(failure.clone())
                } else {
                    Ok(world.respond(name, rtype))
                }
            };
            let (answer, _) = drive(&world.validator(), NOW, TARGET, TLSA, &mut upstream);
            assert_eq!(answer.status, Status::Unavailable, "{failure} for {at} {at_type}");
            assert!(answer.reason.unwrap().contains(&at.to_ascii()));
        }
    }
}

#[test]
fn responses_to_other_questions_and_queries_are_no_answers() {
    let world = world(false);
    let honest = world.respond(&n(TARGET), TLSA);
    let spoil: [fn(&mut Message); 6] = [
        |m| m.queries.clear(),
        |m| m.queries[0].name = n("_25._tcp.mail.evil.test."),
        |m| m.queries[0].query_type = A,
        |m| m.metadata.truncation = true,
        |m| m.metadata.message_type = MessageType::Query,
        |m| m.metadata.op_code = OpCode::Notify,
    ];
    for spoil in spoil {
        let mut message = honest.clone();
        spoil(&mut message);
        let answer = forged(&world, TARGET, TLSA, &message);
        assert_eq!(answer.status, Status::Unavailable, "{:?}", answer.reason);
    }
}

#[test]
fn a_resolver_that_strips_everything_is_bogus_for_signed_and_unsigned_zones() {
    let world = world(false);
    for name in [TARGET, "_25._tcp.mail.evil.test."] {
        let answer = ask_with(&world, name, TLSA, |_, _, message| {
            message.answers.retain(|r| !r.record_type().is_dnssec());
            message.authorities.retain(|r| !r.record_type().is_dnssec());
        });
        assert_bogus(&answer, name);
        assert_eq!(answer.kind, Kind::NoData);
    }
}

/// A record set with a signature by a key under the name of a signer, whoever owns the key.
pub(super) fn signed_as(signer: &str, key: &Arc<Key>, set: &[Record]) -> Vec<Record> {
    let mut zone = Zone::unsigned(signer);
    zone.keys.push(Arc::clone(key));
    let mut records = set.to_vec();
    records.push(zone.sign_by(key, set, NOW - 100, NOW + 100));
    records
}

fn nsec(owner: &str, next: &str, types: &[RecordType]) -> Vec<Record> {
    vec![unsigned(owner, RData::DNSSEC(DNSSECRData::NSEC(NSEC::new(n(next), types.iter().copied()))))]
}

/// One NSEC3 record below a zone that covers every hash but its own.
fn nsec3(zone: &str, opt_out: bool) -> Vec<Record> {
    let data = NSEC3::new(Nsec3HashAlgorithm::SHA1, opt_out, 1, b"s".to_vec(), vec![0; 20], [A]);
    vec![unsigned(&format!("{}.{zone}", "0".repeat(32)), RData::DNSSEC(DNSSECRData::NSEC3(data)))]
}

#[test]
fn keys_of_other_zones_vouch_for_nothing() {
    // The attacker owns a signed sibling and a signed child of the zone, and signs what it likes, under any name.
    both(|world| {
        let child = &world.zones[&n("sub.example.test.")].keys[0];
        let island = &world.zones[&n("island.evil.test.")].keys[0];
        let signers = [
            "sub.example.test.",
            "island.evil.test.",
            "evil.test.",
            "mail.example.test.",
            TARGET,
            "example.test.",
            "test.",
            ".",
        ];
        for (signer, key) in signers.iter().flat_map(|signer| [(signer, child), (signer, island)]) {
            let sign = |set: &[Record]| signed_as(signer, key, set);
            let what = format!("signer {signer}, key {}", key.tag());
            let data = sign(
                &answers(world, "_25._tcp.mail.evil.test.", TLSA)
                    .iter()
                    .map(|r| renamed(r, TARGET))
                    .collect::<Vec<_>>(),
            );
            let forgery = response(TARGET, TLSA, ResponseCode::NoError, data, vec![]);
            assert_bogus(&forged(world, TARGET, TLSA, &forgery), &what);
            let alias = sign(&[unsigned(TARGET, RData::CNAME(CNAME(n("_25._tcp.mail.evil.test."))))]);
            let forgery = response(TARGET, TLSA, ResponseCode::NoError, alias, vec![]);
            assert_bogus(&forged(world, TARGET, TLSA, &forgery), &what);
            let denials = [
                nsec(TARGET, "z.example.test.", &[A]),
                nsec("example.test.", "example.test.", &[RecordType::NS, SOA]),
                nsec("test.", "test.", &[RecordType::NS, SOA]),
                nsec3("example.test.", true),
                nsec3("sub.example.test.", true),
            ];
            for denial in denials {
                let forgery = response(TARGET, TLSA, ResponseCode::NXDomain, vec![], sign(&denial));
                assert_bogus(&forged(world, TARGET, TLSA, &forgery), &what);
            }
            let no_ds = [
                nsec("example.test.", "z.test.", &[RecordType::NS]),
                nsec3("test.", true),
                nsec3("example.test.", true),
            ];
            for denial in no_ds {
                let at = n("example.test.");
                let forgery = response("example.test.", DS, ResponseCode::NoError, vec![], sign(&denial));
                assert_bogus(&forged_at(world, TARGET, TLSA, &at, DS, &forgery), &what);
            }
        }
    });
}

#[test]
fn a_child_cannot_slip_its_key_into_the_parent() {
    both(|world| {
        // The DNSKEY response for the zone holds the attacker's key beside the true ones, signed by the attacker's.
        let child = &world.zones[&n("sub.example.test.")].keys[0];
        let at = n("example.test.");
        let mut keys: Vec<Record> =
            answers(world, "example.test.", DNSKEY).into_iter().filter(|r| rrsig_of(r).is_none()).collect();
        keys.push(unsigned("example.test.", RData::DNSSEC(DNSSECRData::DNSKEY(child.dnskey.clone()))));
        let forgery = response(
            "example.test.",
            DNSKEY,
            ResponseCode::NoError,
            signed_as("example.test.", child, &keys),
            vec![],
        );
        assert_bogus(&forged_at(world, TARGET, TLSA, &at, DNSKEY, &forgery), "added key");
    });
}

#[test]
fn a_wildcard_proof_does_not_stand_for_another_name() {
    // `*.wild NSEC`, expanded to a name: as a record of that name it would deny everything there, or a delegation.
    let world = world(false);
    let wild: Vec<Record> = world.zones[&n("example.test.")].nsec_for(&n("*.wild.example.test."), &world);
    let name = "exact.wild.example.test.";
    let expanded = wild.iter().map(|r| renamed(r, name)).collect();
    let forgery = response(name, MX, ResponseCode::NoError, vec![], expanded);
    assert_bogus(&forged(&world, name, MX, &forgery), name);
}
