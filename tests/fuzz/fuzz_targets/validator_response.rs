//! The DNSSEC validator against an upstream that gives one false response. `worlds.bin` holds every response of three small
//! signed worlds (NSEC, NSEC3, opt-out; `mta-dane/src/validator/tests/mutation.rs` writes and checks it). The input chooses the
//! world, the question, which response is false, and how: other bytes, the genuine bytes with some changed, or a response put
//! together from genuine records of everywhere. The verdict must be the genuine one or an error, with genuine records only, also
//! for the honest lookup after it.
#![no_main]

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use hickory_proto::dnssec::rdata::DS;
use hickory_proto::dnssec::{Algorithm, DigestType};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType::{self, A, MX, TLSA};
use hickory_proto::rr::{Name, Record};
use libfuzzer_sys::fuzz_target;
use mta_dane::dnssec::{Answer, Status};
use mta_dane::validator::{CacheLimits, Limits, Lookup, Step, TransportFailure, TrustAnchors, Validator};

/// When the worlds' signatures are valid.
const NOW: u64 = 1_795_400_000;

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
    ("sub.example.test.", RecordType::DS),
    ("_25._tcp.mail.plain.test.", TLSA),
];

struct World {
    anchor: DS,
    responses: HashMap<(Name, RecordType), (Vec<u8>, Message)>,
    /// Every record of every response.
    records: Vec<Record>,
    genuine: Vec<Answer>,
}

fn number(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn read_worlds() -> Vec<World> {
    let mut rest: &[u8] = include_bytes!("../worlds.bin");
    let mut worlds = Vec::new();
    while !rest.is_empty() {
        let count = number(rest);
        rest = &rest[2..];
        let mut parts = Vec::new();
        for _ in 0..count {
            let (part, after) = rest[2..].split_at(number(rest));
            parts.push(part);
            rest = after;
        }
        let tag = u16::from_be_bytes([parts[0][0], parts[0][1]]);
        let anchor = DS::new(tag, Algorithm::ECDSAP256SHA256, DigestType::SHA256, parts[0][2..].to_vec());
        let (mut responses, mut records) = (HashMap::new(), Vec::new());
        for bytes in &parts[1..] {
            let message = Message::from_vec(bytes).expect("a recorded message");
            for record in message.answers.iter().chain(&message.authorities) {
                if !records.contains(record) {
                    records.push(record.clone());
                }
            }
            let question = (message.queries[0].name.to_lowercase(), message.queries[0].query_type);
            responses.insert(question, (bytes.to_vec(), message));
        }
        let mut world = World { anchor, responses, records, genuine: Vec::new() };
        world.genuine = QUESTIONS
            .iter()
            .map(|question| {
                let answer = world.look(&world.validator(), NOW, *question, |_, _| None);
                assert!(!answer.status.is_error(), "{question:?}: {answer:?}");
                answer
            })
            .collect();
        worlds.push(world);
    }
    worlds
}

impl World {
    fn validator(&self) -> Arc<Validator> {
        let mut anchors = TrustAnchors::empty();
        anchors.add_ds(Name::root(), self.anchor.clone());
        Arc::new(Validator::new(anchors, Limits::default(), CacheLimits::default()))
    }

    /// One lookup; `instead` may replace the n-th response.
    fn look(
        &self,
        validator: &Arc<Validator>,
        now: u64,
        question: (&str, RecordType),
        mut instead: impl FnMut(usize, &(Vec<u8>, Message)) -> Option<Message>,
    ) -> Answer {
        let name = Name::from_ascii(question.0).expect("a name");
        let mut lookup = Lookup::new(Arc::clone(validator), name, question.1);
        let mut index = 0;
        loop {
            match lookup.poll(now) {
                Step::Query { id, name, rtype } => match self.responses.get(&(name.to_lowercase(), rtype)) {
                    Some(genuine) => {
                        let message = instead(index, genuine).unwrap_or_else(|| genuine.1.clone());
                        index += 1;
                        lookup.handle(now, id, Ok(&message));
                    }
                    None => lookup.handle(now, id, Err(TransportFailure::Timeout)),
                },
                Step::Wait => panic!("it waits although every query was answered"),
                Step::Done(answer) => return *answer,
            }
        }
    }

    /// A false response.
    fn forge(&self, genuine: &(Vec<u8>, Message), how: &[u8]) -> Option<Message> {
        let (mode, rest) = how.split_first()?;
        match mode % 3 {
            0 => Message::from_vec(rest).ok(),
            1 => {
                let mut bytes = genuine.0.clone();
                for patch in rest.chunks_exact(3) {
                    let at = number(patch) % bytes.len();
                    bytes[at] ^= patch[2];
                }
                Message::from_vec(&bytes).ok()
            }
            _ => {
                let mut message = genuine.1.clone();
                let (flags, rest) = rest.split_first()?;
                if flags & 1 != 0 {
                    message.answers.clear();
                }
                if flags & 2 != 0 {
                    message.authorities.clear();
                }
                if flags & 4 != 0 {
                    message.metadata.response_code = ResponseCode::NXDomain;
                }
                for pick in rest.chunks_exact(3).take(40) {
                    let mut record = self.records[number(pick) % self.records.len()].clone();
                    if pick[2] & 1 != 0 {
                        record.name = message.queries[0].name.clone();
                    }
                    if pick[2] & 2 != 0 {
                        message.add_answer(record)
                    } else {
                        message.add_authority(record)
                    };
                }
                Some(message)
            }
        }
    }
}

fn check(genuine: &Answer, got: &Answer) {
    if got.status.is_error() || (genuine.status == Status::Insecure && got.status == Status::Insecure) {
        return;
    }
    assert_eq!((got.status, got.kind), (genuine.status, genuine.kind), "{}: {:?}", got.name, got.reason);
    for record in &got.records {
        assert!(genuine.records.iter().any(|r| r.name == record.name && r.data == record.data), "{record:?}");
    }
}

fuzz_target!(|data: &[u8]| {
    static WORLDS: OnceLock<Vec<World>> = OnceLock::new();
    let worlds = WORLDS.get_or_init(read_worlds);
    let [which, question, position, how @ ..] = data else { return };
    let world = &worlds[usize::from(*which) % worlds.len()];
    let question = usize::from(*question) % QUESTIONS.len();
    let validator = world.validator();
    let got = world.look(&validator, NOW, QUESTIONS[question], |index, genuine| {
        (index == usize::from(*position) % 8).then(|| world.forge(genuine, how)).flatten()
    });
    check(&world.genuine[question], &got);
    // Whatever the attack left in the cache, the honest lookup after it (and after the short memory of bogus answers) is not
    // misled.
    let later = world.look(&validator, NOW + 31, QUESTIONS[question], |_, _| None);
    check(&world.genuine[question], &later);
});
