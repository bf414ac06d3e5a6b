//! Properties of the discovery walk over random worlds, sound and unsound: nothing turns an error into "no DANE"
//! (RFC 7672 2.1.2), nothing insecure into authentication (2.2.3), and the order of answers does not matter.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use hickory_proto::rr::rdata::{A, AAAA, MX, TLSA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use mta_dane::base_domain::whole_status;
use mta_dane::discovery::{
    HostDiscovery, HostResult, MxDiscovery, NextHop, Options, Question, Step, tlsa_owner,
};
use mta_dane::dnssec::{Answer, Hop, Kind, Status};
use mta_dane::failure::{HostFault, NextHopFailure};
use mta_dane::policy::{HostPolicy, Requirement};
use proptest::prelude::*;
use proptest::sample::{Index, select};

const NAMES: [&str; 5] =
    ["example.org.", "mx1.example.net.", "hop.example.com.", "end.example.com.", "tlsa.example."];

fn n(name: &str) -> Name {
    Name::from_ascii(name).unwrap()
}

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![
        6 => Just(Status::Secure),
        2 => Just(Status::Insecure),
        1 => Just(Status::Bogus),
        1 => Just(Status::Unavailable),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![4 => Just(Kind::Data), 1 => Just(Kind::NoData), 1 => Just(Kind::NxDomain)]
}

fn rdata(rtype: RecordType) -> BoxedStrategy<RData> {
    match rtype {
        RecordType::A => any::<[u8; 4]>().prop_map(|octets| RData::A(A(octets.into()))).boxed(),
        RecordType::AAAA => any::<[u8; 16]>().prop_map(|octets| RData::AAAA(AAAA(octets.into()))).boxed(),
        RecordType::MX => (any::<u16>(), select(vec![".", "mx1.example.net.", "192.0.2.1."]))
            .prop_map(|(preference, host)| RData::MX(MX::new(preference, n(host))))
            .boxed(),
        RecordType::CNAME => {
            Just(RData::CNAME(hickory_proto::rr::rdata::CNAME(n("hop.example.com.")))).boxed()
        }
        _ => (0..5_u8, 0..3_u8, 0..4_u8, select(vec![0_usize, 31, 32, 64]))
            .prop_map(|(u, s, m, len)| RData::TLSA(TLSA::new(u.into(), s.into(), m.into(), vec![5; len])))
            .boxed(),
    }
}

/// A sound answer: the aliases are a chain, there are records exactly where it says so.
fn sound(name: Name, rtype: RecordType) -> BoxedStrategy<Answer> {
    let hops = prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(status(), 1..3)];
    (status(), kind(), hops, prop::collection::vec(rdata(rtype), 1..4))
        .prop_map(move |(status, kind, hop_statuses, data)| {
            let mut owner = name.clone();
            let mut hops = Vec::new();
            for (status, target) in hop_statuses.into_iter().zip(["hop.example.com.", "end.example.com."]) {
                hops.push(Hop { owner, target: n(target), status });
                owner = n(target);
            }
            let kind = if status.is_error() { Kind::NoData } else { kind };
            let records = if kind == Kind::Data { data } else { vec![] };
            let records =
                records.into_iter().map(|data| Record::from_rdata(owner.clone(), 60, data)).collect();
            Answer { name: name.clone(), rtype, status, kind, hops, records, ttl_seconds: 60, reason: None }
        })
        .boxed()
}

/// Anything that has the type: aliases from anywhere to anywhere, records of any type, contradictions.
fn unsound(name: Name, rtype: RecordType) -> BoxedStrategy<Answer> {
    let any_name = || select(NAMES.to_vec()).prop_map(n);
    let hop =
        (any_name(), any_name(), status()).prop_map(|(owner, target, status)| Hop { owner, target, status });
    let types = select(vec![RecordType::A, RecordType::AAAA, RecordType::MX, RecordType::TLSA]);
    let data = types.prop_flat_map(rdata);
    (status(), kind(), prop::collection::vec(hop, 0..13), prop::collection::vec(data, 0..4))
        .prop_map(move |(status, kind, hops, data)| {
            let records = data.into_iter().map(|data| Record::from_rdata(name.clone(), 60, data)).collect();
            Answer { name: name.clone(), rtype, status, kind, hops, records, ttl_seconds: 60, reason: None }
        })
        .boxed()
}

type World = HashMap<(Name, RecordType), Answer>;

fn world(make: fn(Name, RecordType) -> BoxedStrategy<Answer>) -> impl Strategy<Value = World> {
    let mut questions = vec![(n("example.org."), RecordType::MX)];
    for host in ["example.org.", "mx1.example.net."] {
        for rtype in [RecordType::A, RecordType::AAAA, RecordType::CNAME] {
            questions.push((n(host), rtype));
        }
    }
    for base in NAMES {
        questions.push((tlsa_owner(&n(base), 25).unwrap(), RecordType::TLSA));
    }
    let answers: Vec<BoxedStrategy<Answer>> =
        questions.into_iter().map(|(name, rtype)| make(name, rtype)).collect();
    answers.prop_map(|answers| {
        answers.into_iter().map(|answer| ((answer.name.clone(), answer.rtype), answer)).collect()
    })
}

fn resolve(world: &World, question: &Question) -> Answer {
    let missing =
        || Answer::error(question.name.clone(), question.rtype, Status::Unavailable, "not in this world");
    world.get(&(question.name.clone(), question.rtype)).cloned().unwrap_or_else(missing)
}

/// The walk of the best host; `picks` chooses which outstanding question is answered next. With all answers it took.
fn walk(
    world: &World,
    options: &Options,
    picks: &[Index],
) -> Result<(HostResult, Vec<Answer>), NextHopFailure> {
    let mut mx = MxDiscovery::new(&NextHop::MxOf(n("example.org.")), options.clone());
    let list = loop {
        match mx.poll() {
            Step::Ask(question) => mx.answer(resolve(world, &question)),
            Step::Wait => panic!("waits for nothing"),
            Step::Done(result) => break result?,
        }
    };
    let mut host = HostDiscovery::new(&list, &list.hosts[0], 25, options.clone());
    let (mut open, mut taken): (Vec<Question>, Vec<Answer>) = Default::default();
    let mut picks = picks.iter().cycle();
    for _ in 0..100 {
        match host.poll() {
            Step::Ask(question) => open.push(question),
            Step::Wait => {
                let question = open.remove(picks.next().unwrap().index(open.len()));
                let answer = resolve(world, &question);
                taken.push(answer.clone());
                host.answer(answer);
            }
            Step::Done(result) => return Ok((result, taken)),
        }
    }
    panic!("the walk does not end");
}

/// What must hold of any result, given the answers that led to it.
fn check(result: &HostResult, taken: &[Answer], options: &Options) -> Result<(), TestCaseError> {
    let tlsa: Vec<&Answer> = taken.iter().filter(|answer| answer.rtype == RecordType::TLSA).collect();
    let secure_data = |answer: &&&Answer| whole_status(answer) == Status::Secure && answer.kind == Kind::Data;
    if tlsa.iter().any(|answer| whole_status(answer).is_error()) {
        // D5, whatever the requirement.
        prop_assert!(
            matches!(&result.policy, HostPolicy::Unavailable(HostFault::Tlsa(_))),
            "{:?}",
            result.policy
        );
    }
    match &result.policy {
        HostPolicy::NotApplicable(_) => {
            prop_assert!(options.requirement != Requirement::Mandatory);
            prop_assert!(!tlsa.iter().any(|answer| secure_data(&answer)), "secure records were ignored");
            prop_assert!(!result.addresses.is_empty());
            let cname = taken.iter().find(|answer| answer.rtype == RecordType::CNAME);
            prop_assert!(!cname.is_some_and(|answer| whole_status(answer).is_error()));
        }
        HostPolicy::Authenticate(_) | HostPolicy::EncryptOnly { .. } => {
            let base = result.policy.base_domain().unwrap();
            let owner = tlsa_owner(base, 25).unwrap();
            prop_assert!(
                tlsa.iter().filter(|answer| answer.name == owner).any(|answer| secure_data(&answer))
            );
            // The base domain was reached securely: as the end of a secure chain, or as a name whose own data is secure.
            let justified = taken.iter().any(|answer| {
                let address =
                    matches!(answer.rtype, RecordType::A | RecordType::AAAA) && answer.kind == Kind::Data;
                let whole = whole_status(answer) == Status::Secure;
                let first = answer.hops.first().is_some_and(|hop| hop.status == Status::Secure);
                let alias = answer.rtype == RecordType::CNAME && whole && answer.kind == Kind::Data;
                let own = *base == result.host.name;
                (address && whole && (own || answer.final_name() == base))
                    || (own && ((address && first) || alias))
            });
            prop_assert!(justified, "{base} was not reached securely");
            prop_assert!(
                *base == result.host.name || *base == n("hop.example.com.") || *base == n("end.example.com.")
            );
        }
        HostPolicy::Unavailable(fault) => prop_assert!(!fault.to_string().is_empty()),
    }
    Ok(())
}

fn options() -> impl Strategy<Value = Options> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<u64>()).prop_map(
        |(hops_known, mandatory, ipv6, seed)| {
            let requirement = if mandatory { Requirement::Mandatory } else { Requirement::Opportunistic };
            Options { hops_known, requirement, ipv6, seed, ..Options::default() }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A4, A7, A8, C3 to C11, D2 to D7, K: over sound worlds.
    #[test]
    fn sound_worlds(world in world(sound), options in options(), picks: [Index; 4], others: [Index; 4]) {
        let first = walk(&world, &options, &picks);
        let second = walk(&world, &options, &others);
        let result = |walked: &Result<(HostResult, Vec<Answer>), NextHopFailure>| walked.clone().map(|(result, _)| result);
        prop_assert_eq!(result(&first), result(&second), "the order of answers matters");
        if let Ok((result, taken)) = first {
            check(&result, &taken, &options)?;
        }
    }

    /// The same over answers that contradict themselves, and no panic.
    #[test]
    fn unsound_worlds(world in world(unsound), options in options(), picks: [Index; 4], others: [Index; 4]) {
        let first = walk(&world, &options, &picks);
        let second = walk(&world, &options, &others);
        let result = |walked: &Result<(HostResult, Vec<Answer>), NextHopFailure>| walked.clone().map(|(result, _)| result);
        prop_assert_eq!(result(&first), result(&second), "the order of answers matters");
        if let Ok((result, taken)) = first {
            check(&result, &taken, &options)?;
        }
    }

    /// B1, B12, B16: an error on MX is never anything but a delay.
    #[test]
    fn mx_errors_delay(world in world(sound), options in options(), picks: [Index; 4]) {
        let mx = &world[&(n("example.org."), RecordType::MX)];
        let error = whole_status(mx).is_error();
        match walk(&world, &options, &picks) {
            Err(NextHopFailure::Lookup(found)) => prop_assert!(error && found.status.is_error()),
            Err(failure) => prop_assert!(!error, "{failure}"),
            Ok(_) => prop_assert!(!error),
        }
    }
}
