//! Thousands of damaged responses: the verdict is the genuine one, bogus or unavailable, and no record appears that is not
//! genuine. `MTA_MUTATIONS=100000` does more of them; the seed of a failure is printed.

use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType::{self, A, DS, MX, TLSA};
use hickory_proto::rr::{Name, Record};

use crate::dnssec::{Answer, Status};
use crate::validator::Validator;
use crate::validator::testing::*;

/// Rounds for each question without the environment variable.
const ROUNDS: u64 = 60;

fn world(nsec3: Option<bool>) -> World {
    let mut zone = Zone::signed("example.test.").with(&[
        "@ MX mail",
        "mail A 192.0.2.1",
        "_25._tcp.mail TLSA 1",
        "_25._tcp.mail TLSA 2",
        "*._tcp.host TLSA 3",
        "*.wild A 192.0.2.2",
        "alias CNAME mail.other.test.",
        "to-plain CNAME mail.plain.test.",
        "a.ent TXT x",
        "old DNAME new",
        "x.new A 192.0.2.7",
    ]);
    if let Some(opt_out) = nsec3 {
        zone = zone.nsec3(1, b"s", opt_out);
    }
    let sub = Zone::unsigned("sub.example.test.").with(&["@ MX mail"]);
    let other = Zone::signed("other.test.").with(&["mail A 192.0.2.3"]);
    let plain =
        Zone::unsigned("plain.test.").with(&["@ MX mail", "mail A 192.0.2.66", "_25._tcp.mail TLSA 66"]);
    World::new(vec![Zone::signed("."), Zone::signed("test."), zone, sub, other, plain])
}

const QUESTIONS: [(&str, RecordType); 15] = [
    ("example.test.", MX),
    ("_25._tcp.mail.example.test.", TLSA),
    ("_25._tcp.host.example.test.", TLSA),
    ("mail.example.test.", TLSA),
    ("ent.example.test.", A),
    ("none.example.test.", A),
    ("_25._tcp.none.example.test.", TLSA),
    ("x.wild.example.test.", A),
    ("x.wild.example.test.", TLSA),
    ("alias.example.test.", A),
    ("to-plain.example.test.", A),
    ("x.old.example.test.", A),
    ("sub.example.test.", MX),
    ("sub.example.test.", DS),
    ("_25._tcp.mail.plain.test.", TLSA),
];

/// A small generator (xorshift), so that a run can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % sides.max(1)
    }
}

/// Records to throw in: genuine ones from elsewhere, signed or not.
fn strangers(world: &World) -> Vec<Record> {
    let mut all = Vec::new();
    for (name, rtype) in QUESTIONS.iter().copied().chain([
        ("test.", RecordType::DNSKEY),
        ("plain.test.", DS),
        ("zzz.", A),
        ("zzz.plain.test.", A),
        ("mail.other.test.", A),
    ]) {
        let message = world.respond(&n(name), rtype);
        all.extend(message.answers);
        all.extend(message.authorities);
    }
    all
}

fn mutate(message: &mut Message, dice: &mut Dice, strangers: &[Record]) {
    for _ in 0..=dice.roll(3) {
        let section = if dice.roll(2) == 0 { &mut message.answers } else { &mut message.authorities };
        let len = section.len();
        match dice.roll(9) {
            0 if len > 0 => drop(section.remove(dice.roll(len))),
            1 => section.push(strangers[dice.roll(strangers.len())].clone()),
            2 if len > 0 => section[dice.roll(len)].name = strangers[dice.roll(strangers.len())].name.clone(),
            3 if len > 0 => section[dice.roll(len)].ttl = [0, 1, u32::MAX, 1 << 31][dice.roll(4)],
            4 => section.retain(|r| rrsig_of(r).is_none()),
            5 => section.clear(),
            6 => std::mem::swap(&mut message.answers, &mut message.authorities),
            7 if len > 0 => {
                let record = &mut section[dice.roll(len)];
                record.name = [n("_25._tcp.mail.example.test."), n("plain.test."), n("example.test.")]
                    [dice.roll(3)]
                .clone();
            }
            _ => {
                let codes = [ResponseCode::NoError, ResponseCode::NXDomain, ResponseCode::ServFail];
                message.metadata.response_code = codes[dice.roll(3)];
            }
        }
    }
}

/// Every signed record set that the world can be made to give out, each with its signatures: what an attacker without
/// keys can collect and replay.
fn collected(world: &World) -> Vec<Vec<Record>> {
    let mut names: Vec<Name> = world.zones.values().flat_map(|zone| zone.records.keys().cloned()).collect();
    for zone in world.zones.keys() {
        names.extend(["0", "mm", "zzz", "*", "_tcp.mail"].iter().filter_map(|label| {
            let below = if zone.is_root() { format!("{label}.") } else { format!("{label}.{zone}") };
            Name::from_ascii(below).ok()
        }));
    }
    let mut sets: Vec<Vec<Record>> = Vec::new();
    for name in &names {
        for rtype in [A, MX, TLSA, DS, RecordType::DNSKEY, RecordType::CNAME] {
            let message = world.respond(name, rtype);
            let records: Vec<Record> = message.answers.into_iter().chain(message.authorities).collect();
            for record in records.iter().filter(|r| rrsig_of(r).is_none()) {
                let of_set = |r: &&Record| {
                    let covered = rrsig_of(r).map_or_else(|| r.record_type(), |sig| sig.input().type_covered);
                    r.name == record.name && covered == record.record_type()
                };
                let set: Vec<Record> = records.iter().filter(of_set).cloned().collect();
                let key = |set: &[Record]| (set[0].name.clone(), set[0].record_type(), set.len());
                if !sets.iter().any(|known| key(known) == key(&set) && known[0].data == set[0].data) {
                    sets.push(set);
                }
            }
        }
    }
    sets
}

/// A response put together from genuine record sets, those near the question more often than others.
fn composed(message: &mut Message, dice: &mut Dice, sets: &[Vec<Record>]) {
    let name = message.queries[0].name.clone();
    let near: Vec<&Vec<Record>> =
        sets.iter().filter(|set| set[0].name.zone_of(&name) || set[0].record_type().is_dnssec()).collect();
    if dice.roll(2) == 0 {
        message.answers.clear();
    }
    if dice.roll(3) > 0 {
        message.authorities.clear();
    }
    for _ in 0..=dice.roll(5) {
        let set = if dice.roll(4) == 0 { &sets[dice.roll(sets.len())] } else { near[dice.roll(near.len())] };
        let mut set = set.clone();
        if dice.roll(6) == 0 {
            // As if it had been expanded from a wildcard.
            set.iter_mut().for_each(|record| record.name = name.clone());
        }
        if dice.roll(3) == 0 { message.answers.extend(set) } else { message.authorities.extend(set) }
    }
    message.metadata.response_code = [ResponseCode::NoError, ResponseCode::NXDomain][dice.roll(2)];
}

/// The message with some bytes changed on the wire, if it can still be read.
fn damaged(message: &Message, dice: &mut Dice) -> Option<Message> {
    let mut bytes = message.to_vec().ok()?;
    for _ in 0..=dice.roll(4) {
        let at = 12 + dice.roll(bytes.len().saturating_sub(12));
        if let Some(byte) = bytes.get_mut(at) {
            *byte = match dice.roll(3) {
                0 => *byte ^ 1 << dice.roll(8),
                1 => byte.wrapping_add(1),
                _ => u8::try_from(dice.roll(256)).unwrap(),
            };
        }
    }
    Message::from_vec(&bytes).ok().filter(|m| m.to_vec().is_ok())
}

/// What the attacker has to work with.
struct Pool {
    strangers: Vec<Record>,
    sets: Vec<Vec<Record>>,
}

/// One lookup in which some responses are damaged.
fn attacked(
    world: &World,
    validator: &Arc<Validator>,
    question: (&str, RecordType),
    dice: &mut Dice,
    pool: &Pool,
) -> Answer {
    // Mostly one damaged response in a lookup: several together nearly always end as bogus.
    let victim = dice.roll(6);
    let mut index = 0;
    let mut upstream = |name: &Name, rtype: RecordType| {
        let mut message = world.respond(name, rtype);
        index += 1;
        if index - 1 == victim || dice.roll(12) == 0 {
            match dice.roll(3) {
                0 => mutate(&mut message, dice, &pool.strangers),
                1 => composed(&mut message, dice, &pool.sets),
                _ => message = damaged(&message, dice).unwrap_or(message),
            }
        }
        Ok(message)
    };
    drive(validator, NOW, question.0, question.1, &mut upstream).0
}

#[track_caller]
fn judge(genuine: &Answer, got: &Answer, insecure_zone: bool, what: &str) {
    if got.status.is_error() {
        return;
    }
    if insecure_zone && got.status == Status::Insecure {
        // Nothing protects what is insecure, so anything may stand there; it must not be called secure.
        return;
    }
    assert_eq!((got.status, got.kind), (genuine.status, genuine.kind), "{what}: {:?}", got.reason);
    let data = |a: &Answer| a.records.iter().map(|r| (r.name.clone(), r.data.clone())).collect::<Vec<_>>();
    for record in data(got) {
        assert!(data(genuine).contains(&record), "{what}: {record:?} is not genuine");
    }
    assert!(got.ttl_seconds <= 86_400);
}

#[expect(clippy::disallowed_methods, reason = "how long a test runs is no option of the product")]
fn rounds() -> u64 {
    std::env::var("MTA_MUTATIONS").ok().and_then(|v| v.parse().ok()).unwrap_or(ROUNDS)
}

fn run(world: &World, label: &str) {
    let rounds = rounds();
    let pool = Pool { strangers: strangers(world), sets: collected(world) };
    let mut survived = 0;
    for question in QUESTIONS {
        let genuine = ask(world, question.0, question.1);
        assert!(!genuine.status.is_error(), "{label} {question:?}: {:?}", genuine.reason);
        for round in 1..=rounds {
            let mut dice = Dice(round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let validator = world.validator();
            let what = format!("{label} {question:?} round {round}");
            let got = attacked(world, &validator, question, &mut dice, &pool);
            judge(&genuine, &got, genuine.status == Status::Insecure, &what);
            survived += u64::from(!got.status.is_error());
            // Whatever the attack left in the cache must not spoil a later honest lookup into a wrong verdict.
            let later = drive(&validator, NOW + 31, question.0, question.1, &mut |name: &Name, t| {
                Ok(world.respond(name, t))
            })
            .0;
            judge(&genuine, &later, genuine.status == Status::Insecure, &format!("{what}, afterwards"));
        }
    }
    let total = rounds * QUESTIONS.len() as u64;
    let sound = survived > total / 5 && survived < total * 4 / 5;
    assert!(
        sound || rounds < ROUNDS,
        "{label}: {survived} of {total} survived: the mutations are too weak or too strong"
    );
}

/// The worlds as the fuzzer (`tests/fuzz`) has them: for each world the digest of its trust anchor's key, and every response of
/// every question to it, in wire form. `MTA_WRITE_WORLDS=1` writes the file anew.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/worlds.bin");

fn record(world: &World) -> Vec<u8> {
    let root = Name::root();
    let ds = ds_of(&root, &world.zones[&root].keys[0].dnskey, hickory_proto::dnssec::DigestType::SHA256);
    let mut parts: Vec<Vec<u8>> = vec![[&ds.key_tag().to_be_bytes()[..], ds.digest()].concat()];
    let mut seen: Vec<(Name, RecordType)> = Vec::new();
    let names = world.zones.values().flat_map(|zone| zone.records.keys().cloned());
    let asked = QUESTIONS.iter().map(|(name, rtype)| (n(name), *rtype));
    let all = names.flat_map(|name| [A, MX, TLSA, DS].map(|rtype| (name.clone(), rtype)));
    for (name, rtype) in asked.chain(all) {
        let mut upstream = |name: &Name, rtype: RecordType| {
            let message = world.respond(name, rtype);
            if !seen.contains(&(name.clone(), rtype)) {
                seen.push((name.clone(), rtype));
                parts.push(message.to_vec().unwrap());
            }
            Ok(message)
        };
        drive(&world.validator(), NOW, &name.to_ascii(), rtype, &mut upstream);
    }
    let count = u16::try_from(parts.len()).unwrap().to_be_bytes().to_vec();
    let framed =
        parts.iter().flat_map(|part| [&u16::try_from(part.len()).unwrap().to_be_bytes()[..], part].concat());
    count.into_iter().chain(framed).collect()
}

/// What the fuzzer starts from is what a lookup accepts: from the recorded responses alone every question gets its verdict.
#[test]
#[expect(clippy::disallowed_methods, reason = "a file of the fuzzer's, read or made by a test")]
fn the_recorded_worlds_of_the_fuzzer_are_sound() {
    let worlds = [world(None), world(Some(false)), world(Some(true))];
    if std::env::var_os("MTA_WRITE_WORLDS").is_some() {
        std::fs::write(RECORDED, worlds.iter().flat_map(record).collect::<Vec<u8>>()).unwrap();
    }
    let bytes = std::fs::read(RECORDED).unwrap();
    let mut rest = bytes.as_slice();
    let mut take = |length: usize| {
        let (part, after) = rest.split_at(length);
        rest = after;
        part.to_vec()
    };
    let number = |two: Vec<u8>| usize::from(u16::from_be_bytes([two[0], two[1]]));
    for world in &worlds {
        let count = number(take(2));
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for _ in 0..count {
            let length = number(take(2));
            parts.push(take(length));
        }
        let anchor = parts.remove(0);
        let mut anchors = crate::validator::TrustAnchors::empty();
        let tag = u16::from_be_bytes([anchor[0], anchor[1]]);
        let (algorithm, digest) =
            (hickory_proto::dnssec::Algorithm::ECDSAP256SHA256, hickory_proto::dnssec::DigestType::SHA256);
        let ds = hickory_proto::dnssec::rdata::DS::new(tag, algorithm, digest, anchor[2..].to_vec());
        anchors.add_ds(Name::root(), ds);
        let limits = (crate::validator::Limits::default(), crate::validator::CacheLimits::default());
        let validator = Arc::new(Validator::new(anchors, limits.0, limits.1));
        let messages: Vec<Message> = parts.iter().map(|part| Message::from_vec(part).unwrap()).collect();
        for (name, rtype) in QUESTIONS {
            let mut upstream = |name: &Name, rtype: RecordType| {
                let of = |m: &&Message| m.queries[0].name == *name && m.queries[0].query_type == rtype;
                Ok(messages.iter().find(of).unwrap_or_else(|| panic!("{name} {rtype} is not there")).clone())
            };
            let (answer, _) = drive(&validator, NOW, name, rtype, &mut upstream);
            let genuine = ask(world, name, rtype);
            assert_eq!((answer.status, answer.kind), (genuine.status, genuine.kind), "{name} {rtype}");
        }
    }
}

#[test]
fn damaged_responses_never_downgrade_nsec() {
    run(&world(None), "NSEC");
}

#[test]
fn damaged_responses_never_downgrade_nsec3() {
    run(&world(Some(false)), "NSEC3");
}

#[test]
fn damaged_responses_never_downgrade_opt_out() {
    run(&world(Some(true)), "opt-out");
}
