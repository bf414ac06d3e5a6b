//! The walk from a next-hop to its hosts' policies: rows A, B, C, D, I and K of the requirement matrix. Each scenario starts
//! from a happy world and changes one thing. Answers are handed over in every order the walk allows.
#![allow(clippy::unwrap_used, clippy::type_complexity)]

use std::collections::HashMap;
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, MX, TLSA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use mta_dane::discovery::{
    CandidateResult, HostDiscovery, HostResult, Ignored, MxDiscovery, MxList, NextHop, NextHopKind, Options,
    Question, Step, tlsa_owner,
};
use mta_dane::dnssec::{Answer, Hop, Kind, Status};
use mta_dane::failure::{HostFault, NextHopFailure, NoDane, RequiredFault, ResultType};
use mta_dane::policy::{HostPolicy, Requirement};
use mta_dane::reference::a_labels;

fn n(name: &str) -> Name {
    if name == "." { Name::root() } else { a_labels(name).unwrap() }
}

/// A DNS in a table. What is not in it is a secure NODATA.
#[derive(Clone, Default)]
struct World {
    answers: HashMap<(Name, RecordType), Answer>,
    asked: Vec<Question>,
}

fn answer(name: &Name, rtype: RecordType, status: Status, kind: Kind) -> Answer {
    Answer {
        name: name.clone(),
        rtype,
        status,
        kind,
        hops: Vec::new(),
        records: Vec::new(),
        ttl_seconds: 300,
        reason: None,
    }
}

impl World {
    fn entry(&mut self, name: &str, rtype: RecordType) -> &mut Answer {
        let name =
            if name.starts_with('_') { Name::from_ascii(format!("{name}.")).unwrap() } else { n(name) };
        self.answers
            .entry((name.clone(), rtype))
            .or_insert_with(|| answer(&name, rtype, Status::Secure, Kind::NoData))
    }

    fn put(&mut self, name: &str, status: Status, data: Vec<RData>) {
        let rtype = data.first().unwrap().record_type();
        let entry = self.entry(name, rtype);
        entry.status = status;
        entry.kind = Kind::Data;
        let owner = entry.hops.last().map_or_else(|| entry.name.clone(), |hop| hop.target.clone());
        entry.records = data.into_iter().map(|data| Record::from_rdata(owner.clone(), 300, data)).collect();
    }

    fn mx(&mut self, domain: &str, status: Status, hosts: &[(u16, &str)]) {
        self.put(domain, status, hosts.iter().map(|(p, host)| RData::MX(MX::new(*p, n(host)))).collect());
    }

    fn address(&mut self, host: &str, status: Status, addresses: &[&str]) {
        for address in addresses {
            match address.parse().unwrap() {
                IpAddr::V4(four) => self.put(host, status, vec![RData::A(A(four))]),
                IpAddr::V6(six) => self.put(host, status, vec![RData::AAAA(AAAA(six))]),
            }
        }
    }

    fn tlsa(&mut self, owner: &str, status: Status, records: &[(u8, u8, u8, usize)]) {
        let data = records
            .iter()
            .map(|(u, s, m, len)| {
                RData::TLSA(TLSA::new((*u).into(), (*s).into(), (*m).into(), vec![9; *len]))
            })
            .collect();
        self.put(owner, status, data);
    }

    fn error(&mut self, name: &str, rtype: RecordType, status: Status) {
        let entry = self.entry(name, rtype);
        *entry = Answer::error(entry.name.clone(), rtype, status, "because");
    }

    fn deny(&mut self, name: &str, rtype: RecordType, status: Status, kind: Kind) {
        let entry = self.entry(name, rtype);
        *entry = answer(&entry.name.clone(), rtype, status, kind);
    }

    /// Puts alias hops in front of what this name answers.
    fn alias(&mut self, name: &str, rtype: RecordType, hops: &[(&str, Status)]) {
        let entry = self.entry(name, rtype);
        let mut owner = entry.name.clone();
        entry.hops.clear();
        for (target, status) in hops {
            entry.hops.push(Hop { owner, target: n(target), status: *status });
            owner = n(target);
        }
    }

    fn resolve(&mut self, question: &Question) -> Answer {
        self.asked.push(question.clone());
        let key = (question.name.clone(), question.rtype);
        let found = self.answers.get(&key).cloned();
        found.unwrap_or_else(|| answer(&question.name, question.rtype, Status::Secure, Kind::NoData))
    }

    fn hosts(&mut self, next_hop: &NextHop, options: &Options) -> Result<MxList, NextHopFailure> {
        let mut walk = MxDiscovery::new(next_hop, options.clone());
        loop {
            match walk.poll() {
                Step::Ask(question) => {
                    let answer = self.resolve(&question);
                    walk.answer(answer);
                }
                Step::Wait => panic!("waits for nothing"),
                Step::Done(result) => return result,
            }
        }
    }

    /// Walks one host; outstanding questions are answered in order, or newest first.
    fn host_walk(
        &mut self,
        list: &MxList,
        index: usize,
        options: &Options,
        newest_first: bool,
    ) -> HostResult {
        let mut walk = HostDiscovery::new(list, &list.hosts[index], PORT, options.clone());
        let mut open: Vec<Question> = Vec::new();
        loop {
            match walk.poll() {
                Step::Ask(question) => open.push(question),
                Step::Wait => {
                    let question = if newest_first { open.pop().unwrap() } else { open.remove(0) };
                    let answer = self.resolve(&question);
                    walk.answer(answer);
                }
                Step::Done(result) => return result,
            }
        }
    }

    fn host(&mut self, list: &MxList, index: usize, options: &Options) -> HostResult {
        let backwards = self.clone().host_walk(list, index, options, true);
        let result = self.host_walk(list, index, options, false);
        assert_eq!(result, backwards, "the order of answers changed the result");
        result
    }

    /// The result for the best host of example.org.
    fn best(&mut self, options: &Options) -> HostResult {
        let list = self.hosts(&NextHop::MxOf(n("example.org")), options).unwrap();
        self.host(&list, 0, options)
    }

    fn policy(&mut self) -> HostPolicy {
        self.best(&Options::default()).policy
    }

    fn asked_types(&self) -> Vec<RecordType> {
        self.asked.iter().map(|question| question.rtype).collect()
    }
}

const PORT: u16 = 25;
const OWNER: &str = "_25._tcp.mx1.example.net";

/// example.org MX 10 mx1.example.net, with an IPv4 and an IPv6 address and one `3 1 1` record, all secure.
fn happy() -> World {
    let mut world = World::default();
    world.mx("example.org", Status::Secure, &[(10, "mx1.example.net")]);
    world.address("mx1.example.net", Status::Secure, &["192.0.2.1", "2001:db8::1"]);
    world.tlsa(OWNER, Status::Secure, &[(3, 1, 1, 32)]);
    world
}

/// The happy host behind aliases: mx1.example.net -> hop.example.com -> end.example.com, TLSA at both ends.
fn aliased(hops: [Status; 2], end: Status) -> World {
    let mut world = happy();
    for rtype in [RecordType::A, RecordType::AAAA] {
        world.alias("mx1.example.net", rtype, &[("hop.example.com", hops[0]), ("end.example.com", hops[1])]);
        world.entry("mx1.example.net", rtype).status = end;
    }
    world.tlsa("_25._tcp.end.example.com", Status::Secure, &[(2, 1, 1, 32)]);
    world.tlsa("_25._tcp.hop.example.com", Status::Secure, &[(2, 0, 1, 32)]);
    world
}

fn base(policy: &HostPolicy) -> String {
    policy.sni().unwrap_or_else(|| panic!("no base domain: {policy:?}"))
}

fn references(policy: &HostPolicy) -> Vec<String> {
    match policy {
        HostPolicy::Authenticate(demand) => demand.reference_ids.iter().map(ToString::to_string).collect(),
        other => panic!("not authenticated: {other:?}"),
    }
}

#[track_caller]
fn no_dane(policy: &HostPolicy) -> NoDane {
    match policy {
        HostPolicy::NotApplicable(why) => why.clone(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn fault(policy: &HostPolicy) -> HostFault {
    match policy {
        HostPolicy::Unavailable(fault) => {
            assert!(!policy.plaintext_allowed() && !fault.to_string().is_empty());
            fault.clone()
        }
        other => panic!("{other:?}"),
    }
}

/// C4, I1, I2, I3; The happy default, RFC 7672 2.2: everything secure ends in authentication of the host for the domain.
#[test]
fn happy_world_authenticates() {
    let mut world = happy();
    let result = world.best(&Options::default());
    let HostPolicy::Authenticate(demand) = &result.policy else { panic!("{:?}", result.policy) };
    assert!(!demand.host_only);
    assert_eq!(demand.records.len(), 1);
    assert_eq!(base(&result.policy), "mx1.example.net");
    assert_eq!(references(&result.policy), ["mx1.example.net", "example.org"]);
    assert_eq!(result.addresses.len(), 2);
    assert_eq!(result.address_status, Status::Secure);
    assert!(!result.policy.plaintext_allowed());
}

/// A3, A4, B1, RFC 7672 2.1.2: any error on MX delays; addresses of the domain are never asked.
#[test]
fn b1_mx_error_delays() {
    for status in [Status::Bogus, Status::Unavailable] {
        let mut world = happy();
        world.error("example.org", RecordType::MX, status);
        world.address("example.org", Status::Secure, &["192.0.2.9"]);
        let failure = world.hosts(&NextHop::MxOf(n("example.org")), &Options::default()).unwrap_err();
        assert!(matches!(&failure, NextHopFailure::Lookup(error) if error.status == status));
        assert!(!failure.is_permanent());
        assert!(failure.enhanced_status().starts_with('4'));
        assert_eq!(world.asked_types(), [RecordType::MX]);
    }
}

/// A7, A8, RFC 7672 2.1.3: the weakest hop decides; an error at a hop fails the whole lookup.
#[test]
fn a7_a8_weakest_hop_decides() {
    for (hop, expected) in
        [(Status::Insecure, Some(Status::Insecure)), (Status::Bogus, None), (Status::Unavailable, None)]
    {
        let mut world = happy();
        world.alias("example.org", RecordType::MX, &[("example.com", hop)]);
        let list = world.hosts(&NextHop::MxOf(n("example.org")), &Options::default());
        match expected {
            Some(status) => assert_eq!(list.unwrap().status, status),
            None => assert!(matches!(list.unwrap_err(), NextHopFailure::Lookup(_))),
        }
    }
}

/// A5, RFC 7672 2.1.1: no such data and no such name are answers, secure or not: no DANE here.
#[test]
fn a5_denials_are_answers() {
    for status in [Status::Secure, Status::Insecure] {
        for kind in [Kind::NoData, Kind::NxDomain] {
            let mut world = happy();
            world.deny(OWNER, RecordType::TLSA, status, kind);
            let policy = world.policy();
            assert!(matches!(no_dane(&policy), NoDane::NoTlsa { .. }));
            assert!(policy.plaintext_allowed());
        }
    }
}

/// A12, RFC 7672 2.1.3: loops, broken chains and chains over the limit are lookup errors, not answers.
#[test]
fn a12_alias_loops_and_limits() {
    let long: Vec<String> = (0..11).map(|i| format!("a{i}.example")).collect();
    let long: Vec<(&str, Status)> = long.iter().map(|name| (name.as_str(), Status::Secure)).collect();
    let chains = [
        vec![("example.com", Status::Secure), ("example.org", Status::Secure)],
        vec![("example.org", Status::Secure)],
        long.clone(),
    ];
    for chain in chains {
        let mut world = happy();
        world.alias("example.org", RecordType::MX, &chain);
        let failure = world.hosts(&NextHop::MxOf(n("example.org")), &Options::default()).unwrap_err();
        assert!(matches!(failure, NextHopFailure::Lookup(_)) && !failure.is_permanent());
    }
    let mut world = happy();
    world.alias("example.org", RecordType::MX, &long[..10]);
    assert!(world.hosts(&NextHop::MxOf(n("example.org")), &Options::default()).is_ok());
    world.entry("example.org", RecordType::MX).hops.remove(3);
    assert!(world.hosts(&NextHop::MxOf(n("example.org")), &Options::default()).is_err());
}

/// A4: an answer that contradicts itself is an error, never "none".
#[test]
fn a4_contradictory_answers_are_errors() {
    let mut world = happy();
    world.entry(OWNER, RecordType::TLSA).records.clear();
    assert!(matches!(fault(&world.policy()), HostFault::Tlsa(_)));
    let mut world = happy();
    world.entry(OWNER, RecordType::TLSA).kind = Kind::NoData;
    assert!(matches!(fault(&world.policy()), HostFault::Tlsa(_)));
}

/// B2, B3, RFC 7672 2.2.1, RFC 5321 5.1: preference is kept, equals are shuffled by the seed alone.
#[test]
fn b2_b3_order_of_hosts() {
    let hosts = [
        (20, "c.example"),
        (10, "a.example"),
        (10, "b.example"),
        (10, "d.example"),
        (5, "dane-less.example"),
    ];
    let order = |seed, hosts: &[(u16, &str)]| {
        let mut world = World::default();
        world.mx("example.org", Status::Secure, hosts);
        let options = Options { seed, ..Options::default() };
        let list = world.hosts(&NextHop::MxOf(n("example.org")), &options).unwrap();
        list.hosts.iter().map(|host| host.name.to_string()).collect::<Vec<_>>()
    };
    let mut firsts = std::collections::HashSet::new();
    for seed in 0..40 {
        let names = order(seed, &hosts);
        assert_eq!((names[0].as_str(), names[4].as_str()), ("dane-less.example.", "c.example."));
        let mut reversed = hosts;
        reversed.reverse();
        assert_eq!(names, order(seed, &reversed), "the order of the answer does not matter");
        firsts.insert(names[1].clone());
    }
    assert_eq!(firsts.len(), 3, "each of the equals comes first for some seed");
}

/// B17; B5 with mixed hosts, RFC 7672 2.2.1: each MX host is examined on its own.
#[test]
fn b5_mixed_mx_set() {
    let mut world = happy();
    world.mx(
        "example.org",
        Status::Secure,
        &[(10, "plain.example"), (20, "mx1.example.net"), (30, "broken.example")],
    );
    world.address("plain.example", Status::Insecure, &["192.0.2.3"]);
    world.error("broken.example", RecordType::A, Status::Bogus);
    world.error("broken.example", RecordType::AAAA, Status::Bogus);
    let options = Options::default();
    let list = world.hosts(&NextHop::MxOf(n("example.org")), &options).unwrap();
    assert!(matches!(world.host(&list, 0, &options).policy, HostPolicy::NotApplicable(_)));
    assert!(matches!(world.host(&list, 1, &options).policy, HostPolicy::Authenticate(_)));
    assert!(matches!(world.host(&list, 2, &options).policy, HostPolicy::Unavailable(_)));
}

/// B6, B7, I4, RFC 7672 2.2.1, 3.2.2: behind an insecure MX the host is authenticated, the domain is not.
#[test]
fn b6_b7_i4_insecure_mx() {
    let mut world = happy();
    world.entry("example.org", RecordType::MX).status = Status::Insecure;
    let policy = world.policy();
    let HostPolicy::Authenticate(demand) = &policy else { panic!("{policy:?}") };
    assert!(demand.host_only);
    assert_eq!(references(&policy), ["mx1.example.net"]);
    // An aliased host: its unexpanded name is the MX host name of the RFC, the base domain its expansion.
    let mut world = aliased([Status::Secure; 2], Status::Secure);
    world.entry("example.org", RecordType::MX).status = Status::Insecure;
    assert_eq!(references(&world.policy()), ["end.example.com", "mx1.example.net"]);
}

/// B9, I5, RFC 7672 2.2.2, 3.2.2: no MX means the domain itself; an alias adds the original name.
#[test]
fn b9_i5_implicit_mx() {
    for (status, host_only) in [(Status::Secure, false), (Status::Insecure, true)] {
        let mut world = World::default();
        world.deny("example.org", RecordType::MX, status, Kind::NoData);
        world.address("example.org", Status::Secure, &["192.0.2.1"]);
        world.tlsa("_25._tcp.example.org", Status::Secure, &[(2, 1, 1, 32)]);
        let options = Options::default();
        let list = world.hosts(&NextHop::MxOf(n("example.org")), &options).unwrap();
        assert_eq!((list.kind, list.hosts.len()), (NextHopKind::ImplicitMx, 1));
        let result = world.host(&list, 0, &options);
        let HostPolicy::Authenticate(demand) = &result.policy else { panic!("{:?}", result.policy) };
        assert_eq!(demand.host_only, host_only);
        assert_eq!(references(&result.policy), ["example.org"]);
        for rtype in [RecordType::A, RecordType::AAAA] {
            world.alias("example.org", rtype, &[("end.example.com", Status::Secure)]);
        }
        world.tlsa("_25._tcp.end.example.com", Status::Secure, &[(2, 1, 1, 32)]);
        let result = world.host(&list, 0, &options);
        assert_eq!(references(&result.policy), ["end.example.com", "example.org"]);
    }
}

/// B10, RFC 7672 2.2: an address literal needs no DNS and knows no DANE.
#[test]
fn b10_address_literal() {
    let mut world = happy();
    let address: IpAddr = "192.0.2.77".parse().unwrap();
    let options = Options::default();
    let list = world.hosts(&NextHop::Address(address), &options).unwrap();
    let result = world.host(&list, 0, &options);
    assert_eq!(result.addresses, [address]);
    assert_eq!(no_dane(&result.policy), NoDane::AddressLiteral);
    assert!(world.asked.is_empty());
}

/// B11: an MX that holds an IP address is skipped; with nothing else, the message waits.
#[test]
fn b11_address_as_mx_name() {
    let mut world = happy();
    world.mx("example.org", Status::Secure, &[(5, "192.0.2.1"), (10, "mx1.example.net")]);
    let list = world.hosts(&NextHop::MxOf(n("example.org")), &Options::default()).unwrap();
    assert_eq!(list.hosts.len(), 1);
    assert!(matches!(list.ignored[..], [Ignored::IpAddress { preference: 5, .. }]));
    world.mx("example.org", Status::Secure, &[(5, "192.0.2.1")]);
    let failure = world.hosts(&NextHop::MxOf(n("example.org")), &Options::default()).unwrap_err();
    assert!(!failure.is_permanent());
}

/// B12, RFC 7505 3, 4.1: null MX is final, and only alone.
#[test]
fn b12_null_mx() {
    let mut world = happy();
    world.mx("example.org", Status::Insecure, &[(0, ".")]);
    world.address("example.org", Status::Secure, &["192.0.2.1"]);
    let failure = world.hosts(&NextHop::MxOf(n("example.org")), &Options::default()).unwrap_err();
    assert!(failure.is_permanent());
    assert_eq!(failure.enhanced_status(), "5.1.10");
    assert_eq!(world.asked_types(), [RecordType::MX]);
    world.mx("example.org", Status::Secure, &[(0, "."), (10, "mx1.example.net")]);
    let list = world.hosts(&NextHop::MxOf(n("example.org")), &Options::default()).unwrap();
    assert_eq!(list.hosts.len(), 1);
    assert_eq!(list.ignored, [Ignored::Root { preference: 0 }]);
}

/// B13, B14, D1, RFC 7672 2.2.2, 2.2.3: a configured relay host is trusted as named, at its own port.
#[test]
fn b13_relay_host() {
    let mut world = happy();
    world.tlsa("_587._tcp.mx1.example.net", Status::Secure, &[(2, 1, 1, 32)]);
    let options = Options::default();
    let list = world.hosts(&NextHop::Host(n("MX1.example.net")), &options).unwrap();
    assert_eq!((list.kind, list.status), (NextHopKind::Configured, Status::Secure));
    let mut walk = HostDiscovery::new(&list, &list.hosts[0], 587, options);
    let result = loop {
        match walk.poll() {
            Step::Ask(question) => walk.answer(world.resolve(&question)),
            Step::Wait => panic!(),
            Step::Done(result) => break result,
        }
    };
    assert_eq!(references(&result.policy), ["mx1.example.net"]);
    assert_eq!(result.candidates[0].owner.to_string(), "_587._tcp.mx1.example.net.");
    assert!(!world.asked_types().contains(&RecordType::MX));
}

/// B15, RFC 5321 5.1: our own name and everything not better goes before security is looked at.
#[test]
fn b15_loop_prevention() {
    let options = Options { own_names: vec![n("Us.example.net")], ..Options::default() };
    let mut world = happy();
    let hosts =
        [(10, "mx1.example.net"), (20, "us.example.net"), (20, "peer.example"), (30, "worse.example")];
    world.mx("example.org", Status::Secure, &hosts);
    let list = world.hosts(&NextHop::MxOf(n("example.org")), &options).unwrap();
    assert_eq!(list.hosts.iter().map(|host| host.name.to_string()).collect::<Vec<_>>(), ["mx1.example.net."]);
    assert_eq!(list.ignored.len(), 3);
    world.mx("example.org", Status::Secure, &hosts[1..]);
    let failure = world.hosts(&NextHop::MxOf(n("example.org")), &options).unwrap_err();
    assert!(matches!(failure, NextHopFailure::OwnMx { .. }) && failure.is_permanent());
    assert_eq!(failure.enhanced_status(), "5.4.6");
    // An address of ours under a foreign name.
    let options = Options { own_addresses: vec!["192.0.2.1".parse().unwrap()], ..Options::default() };
    assert!(matches!(fault(&happy().best(&options).policy), HostFault::OwnAddress { .. }));
}

/// B16: a next-hop that does not exist is final, secure or not; a bogus denial is not.
#[test]
fn b16_nxdomain() {
    for status in [Status::Secure, Status::Insecure] {
        let mut world = World::default();
        world.deny("example.org", RecordType::MX, status, Kind::NxDomain);
        let failure = world.hosts(&NextHop::MxOf(n("example.org")), &Options::default()).unwrap_err();
        assert!(failure.is_permanent());
        assert_eq!(failure.enhanced_status(), "5.1.2");
    }
    let mut world = World::default();
    world.deny("example.org", RecordType::MX, Status::Bogus, Kind::NxDomain);
    let failure = world.hosts(&NextHop::MxOf(n("example.org")), &Options::default()).unwrap_err();
    assert!(!failure.is_permanent());
    assert_eq!(failure.result_type(), Some(ResultType::DnssecInvalid));
}

/// B18, RFC 7671, RFC 8460 4.4: U-labels are A-labels before they are asked, sent or compared.
#[test]
fn b18_idn() {
    let name = a_labels("Bücher.Example").unwrap();
    assert_eq!(name.to_ascii(), "xn--bcher-kva.example.");
    assert_eq!(tlsa_owner(&name, 25).unwrap().to_ascii(), "_25._tcp.xn--bcher-kva.example.");
    for bad in ["", ".", "a b.example", "a..example", "ex\u{0}ample.org", &"a".repeat(64)] {
        assert!(a_labels(bad).is_err(), "{bad:?}");
    }
}

/// C1, RFC 7672 2.2.2: addresses come before TLSA; TLSA waits for all of them.
#[test]
fn c1_addresses_before_tlsa() {
    let mut world = happy();
    world.best(&Options::default());
    let types = world.asked_types();
    assert_eq!(types, [RecordType::MX, RecordType::A, RecordType::AAAA, RecordType::TLSA]);
    let mut world = happy();
    world.best(&Options { ipv6: false, ..Options::default() });
    assert_eq!(world.asked_types(), [RecordType::MX, RecordType::A, RecordType::TLSA]);
}

/// C2, RFC 7672 2.2.2: no address, no host.
#[test]
fn c2_no_address() {
    for kind in [Kind::NoData, Kind::NxDomain] {
        let mut world = happy();
        world.deny("mx1.example.net", RecordType::A, Status::Secure, kind);
        world.deny("mx1.example.net", RecordType::AAAA, Status::Secure, kind);
        let fault = fault(&world.policy());
        assert!(
            matches!(fault, HostFault::NoAddress { nxdomain, .. } if nxdomain == (kind == Kind::NxDomain))
        );
        assert!(!world.asked_types().contains(&RecordType::TLSA));
    }
    let no_family = Options { ipv4: false, ipv6: false, ..Options::default() };
    assert!(matches!(fault(&happy().best(&no_family).policy), HostFault::NoAddress { .. }));
}

/// C3, RFC 7672 2.2.2: an insecure address means no TLSA question at all, whatever that question would bring.
#[test]
fn c3_insecure_address_asks_no_tlsa() {
    let mut world = happy();
    world.address("mx1.example.net", Status::Insecure, &["192.0.2.1", "2001:db8::1"]);
    world.error(OWNER, RecordType::TLSA, Status::Unavailable);
    let policy = world.policy();
    assert!(matches!(no_dane(&policy), NoDane::InsecureAddress { .. }));
    assert!(policy.plaintext_allowed());
    assert!(!world.asked_types().contains(&RecordType::TLSA));
}

/// I11; C5, C8, D4, RFC 7672 2.2.2, 2.2.3: expanded name first, original second, intermediate never.
#[test]
fn c5_c8_d4_candidates_of_an_alias() {
    let mut world = aliased([Status::Secure; 2], Status::Secure);
    let result = world.best(&Options::default());
    assert_eq!(base(&result.policy), "end.example.com");
    assert_eq!(references(&result.policy), ["end.example.com", "example.org"]);
    assert_eq!(result.candidates.len(), 1, "the second is asked only when the first has none");
    world.deny("_25._tcp.end.example.com", RecordType::TLSA, Status::Insecure, Kind::NxDomain);
    let result = world.best(&Options::default());
    assert_eq!(base(&result.policy), "mx1.example.net");
    assert_eq!(result.candidates.len(), 2);
    world.deny(OWNER, RecordType::TLSA, Status::Secure, Kind::NxDomain);
    let result = world.best(&Options::default());
    assert!(matches!(no_dane(&result.policy), NoDane::NoTlsa { owners } if owners.len() == 2));
    assert!(
        !world
            .asked
            .iter()
            .any(|question| question.name == n("hop.example.com").prepend_label("_tcp").unwrap())
    );
}

/// C6, C7, A10, RFC 7672 2.1.3, 2.2.2: an insecure end leaves the original name, if the first hop is secure.
#[test]
fn c6_c7_alias_with_insecure_end() {
    use Status::{Insecure, Secure};
    let cases = [
        ([Secure, Secure], Insecure, Some("mx1.example.net")),
        ([Secure, Insecure], Insecure, Some("mx1.example.net")),
        ([Insecure, Insecure], Insecure, None),
        ([Insecure, Secure], Insecure, None),
    ];
    for (hops, end, expected) in cases {
        let mut world = aliased(hops, end);
        let policy = world.policy();
        match expected {
            Some(name) => {
                assert_eq!(base(&policy), name);
                assert_eq!(references(&policy), ["mx1.example.net", "example.org"]);
            }
            None => {
                assert!(matches!(no_dane(&policy), NoDane::InsecureAlias { .. }));
                assert!(!world.asked_types().contains(&RecordType::TLSA));
            }
        }
        assert!(!world.asked_types().contains(&RecordType::CNAME), "each hop carries its status");
    }
}

/// A10, RFC 7672 2.1.3: where one bit covers a whole answer, the alias is asked for by itself.
#[test]
fn a10_alias_status_is_asked_where_unknown() {
    let options = Options { hops_known: false, ..Options::default() };
    let blurred = || aliased([Status::Insecure; 2], Status::Insecure);
    let mut world = blurred();
    world.deny("mx1.example.net", RecordType::CNAME, Status::Insecure, Kind::Data);
    world.entry("mx1.example.net", RecordType::CNAME).kind = Kind::NoData;
    assert!(matches!(no_dane(&world.best(&options).policy), NoDane::InsecureAlias { .. }));
    let mut world = blurred();
    let target = RData::CNAME(hickory_proto::rr::rdata::CNAME(n("hop.example.com")));
    world.put("mx1.example.net", Status::Secure, vec![target.clone()]);
    let result = world.best(&options);
    assert_eq!(base(&result.policy), "mx1.example.net");
    assert!(world.asked_types().contains(&RecordType::CNAME));
    let mut world = blurred();
    world.put("mx1.example.net", Status::Insecure, vec![target]);
    assert!(matches!(no_dane(&world.best(&options).policy), NoDane::InsecureAlias { .. }));
    for status in [Status::Bogus, Status::Unavailable] {
        let mut world = blurred();
        world.error("mx1.example.net", RecordType::CNAME, status);
        assert!(matches!(fault(&world.best(&options).policy), HostFault::Alias(_)));
    }
    let mut world = blurred();
    world.deny("mx1.example.net", RecordType::CNAME, Status::Secure, Kind::NoData);
    assert!(
        matches!(fault(&world.best(&options).policy), HostFault::Alias(_)),
        "one of the two answers lies"
    );
    let mut world = aliased([Status::Secure; 2], Status::Secure);
    world.best(&options);
    assert!(!world.asked_types().contains(&RecordType::CNAME), "secure to the end needs no more questions");
}

/// C10, C11: one good family is enough, and one secure one makes DANE apply; two bad ones end the host.
#[test]
fn c10_c11_address_families() {
    use Status::{Bogus, Insecure, Secure, Unavailable};
    for (bad, good) in [(RecordType::AAAA, RecordType::A), (RecordType::A, RecordType::AAAA)] {
        for status in [Bogus, Unavailable] {
            let mut world = happy();
            world.error("mx1.example.net", bad, status);
            let result = world.best(&Options::default());
            assert!(matches!(result.policy, HostPolicy::Authenticate(_)));
            assert_eq!(result.addresses.len(), 1);
            assert_eq!(result.family_error.unwrap().rtype, bad);
            // The other family says "none": the error may hide the only address.
            world.deny("mx1.example.net", good, Secure, Kind::NoData);
            assert!(matches!(fault(&world.policy()), HostFault::Addresses(error) if error.rtype == bad));
        }
        let mut world = happy();
        world.entry("mx1.example.net", bad).status = Insecure;
        assert!(matches!(world.policy(), HostPolicy::Authenticate(_)));
    }
    let mut world = happy();
    world.error("mx1.example.net", RecordType::A, Bogus);
    world.error("mx1.example.net", RecordType::AAAA, Unavailable);
    let fault = fault(&world.policy());
    assert_eq!(fault.result_type(), Some(ResultType::DnssecInvalid));
}

/// D2, D3, RFC 7672 2.2.3: an alias at the TLSA owner is followed, and changes neither base domain nor names.
#[test]
fn d2_d3_alias_at_the_tlsa_owner() {
    let mut world = happy();
    world.alias(OWNER, RecordType::TLSA, &[("tlsa.example.com", Status::Secure)]);
    let policy = world.policy();
    assert_eq!(base(&policy), "mx1.example.net");
    assert_eq!(references(&policy), ["mx1.example.net", "example.org"]);
    world.alias(OWNER, RecordType::TLSA, &[("tlsa.example.com", Status::Insecure)]);
    assert!(matches!(no_dane(&world.policy()), NoDane::InsecureTlsa { .. }));
    // With a second candidate, that one is tried.
    let mut world = aliased([Status::Secure; 2], Status::Secure);
    world.alias("_25._tcp.end.example.com", RecordType::TLSA, &[("tlsa.example.com", Status::Insecure)]);
    assert_eq!(base(&world.policy()), "mx1.example.net");
}

/// D5, RFC 7672 2.1.2: an error at the first candidate ends the host; the second is not asked.
#[test]
fn d5_tlsa_error_ends_the_host() {
    for status in [Status::Bogus, Status::Unavailable] {
        let mut world = happy();
        world.error(OWNER, RecordType::TLSA, status);
        let fault_ = fault(&world.policy());
        assert!(matches!(&fault_, HostFault::Tlsa(error) if error.status == status));
        assert_eq!(
            (fault_.enhanced_status(), fault_.result_type()),
            ("4.7.5", Some(ResultType::DnssecInvalid))
        );
        let mut world = aliased([Status::Secure; 2], Status::Secure);
        world.error("_25._tcp.end.example.com", RecordType::TLSA, status);
        let result = world.best(&Options::default());
        assert!(matches!(fault(&result.policy), HostFault::Tlsa(_)));
        assert_eq!(result.candidates.len(), 1);
        assert_eq!(result.candidates[0].result, CandidateResult::Error(status));
    }
}

/// D6, RFC 7672 2.2: insecure TLSA records are no DANE.
#[test]
fn d6_insecure_tlsa() {
    let mut world = happy();
    world.entry(OWNER, RecordType::TLSA).status = Status::Insecure;
    assert!(matches!(no_dane(&world.policy()), NoDane::InsecureTlsa { .. }));
}

/// D7, E9, RFC 7672 2.2: secure records, none usable: TLS is mandatory, authentication is not.
#[test]
fn d7_e9_all_unusable() {
    for records in
        [vec![(0, 1, 1, 32)], vec![(3, 1, 1, 31), (1, 0, 1, 32)], vec![(3, 1, 0, 5)], vec![(3, 1, 1, 0)]]
    {
        let mut world = happy();
        world.tlsa(OWNER, Status::Secure, &records);
        let policy = world.policy();
        let HostPolicy::EncryptOnly { unusable, .. } = &policy else { panic!("{policy:?}") };
        assert_eq!(unusable.len(), records.len());
        assert!(!policy.plaintext_allowed());
        assert_eq!(policy.result_type(), Some(ResultType::TlsaInvalid));
        assert_eq!(base(&policy), "mx1.example.net");
    }
    let mut world = happy();
    world.tlsa(OWNER, Status::Secure, &[(0, 1, 1, 32), (3, 1, 1, 32)]);
    let HostPolicy::Authenticate(demand) = world.policy() else { panic!() };
    assert_eq!((demand.records.len(), demand.unusable.len()), (1, 1));
}

/// D10: forty records are processed; beyond the limit the host is an error, never unusable.
#[test]
fn d10_large_sets() {
    let records: Vec<(u8, u8, u8, usize)> = (0..40).map(|_| (3, 1, 1, 32)).collect();
    let mut world = happy();
    world.tlsa(OWNER, Status::Secure, &records);
    assert!(matches!(world.policy(), HostPolicy::Authenticate(_)));
    let options = Options { max_tlsa_records: 39, ..Options::default() };
    assert!(matches!(fault(&world.best(&options).policy), HostFault::TlsaTooLarge { records: 40, .. }));
}

/// D1: an owner name that cannot exist holds no records.
#[test]
fn d1_owner_too_long() {
    let label = "a".repeat(63);
    let long = format!("{label}.{label}.{label}.{}", "b".repeat(58));
    assert!(tlsa_owner(&n(&long), 25).is_none());
    let mut world = happy();
    world.mx("example.org", Status::Secure, &[(10, &long)]);
    world.address(&long, Status::Secure, &["192.0.2.1"]);
    let result = world.best(&Options::default());
    assert_eq!(result.candidates[0].result, CandidateResult::NameTooLong);
    assert!(matches!(result.policy, HostPolicy::NotApplicable(NoDane::NoTlsa { .. })));
}

/// B4, C9, I2, I3; I6: the worked example of RFC 7672 3.2.2, names and base domains as printed there.
#[test]
fn i6_worked_example() {
    let mut world = World::default();
    let hosts = [(10, "mx10.example.com"), (15, "mx15.example.com"), (20, "mx20.example.com")];
    world.alias(
        "exchange.example.org",
        RecordType::MX,
        &[("mail.example.org", Status::Secure), ("example.com", Status::Secure)],
    );
    world.mx("exchange.example.org", Status::Secure, &hosts);
    world.address("mx10.example.com", Status::Secure, &["192.0.2.10"]);
    world.tlsa("_25._tcp.mx10.example.com", Status::Secure, &[(2, 0, 1, 32)]);
    world.alias("mx15.example.com", RecordType::A, &[("mxbackup.example.com", Status::Secure)]);
    world.address("mx15.example.com", Status::Secure, &["192.0.2.15"]);
    world.deny("_25._tcp.mxbackup.example.com", RecordType::TLSA, Status::Secure, Kind::NxDomain);
    world.tlsa("_25._tcp.mx15.example.com", Status::Secure, &[(2, 0, 1, 32)]);
    world.alias("mx20.example.com", RecordType::A, &[("mxbackup.example.net", Status::Secure)]);
    world.address("mx20.example.com", Status::Secure, &["198.51.100.20"]);
    world.tlsa("_25._tcp.mxbackup.example.net", Status::Secure, &[(2, 0, 1, 32)]);
    let options = Options::default();
    let list = world.hosts(&NextHop::MxOf(n("exchange.example.org")), &options).unwrap();
    assert_eq!(list.expanded, Some(n("example.com")));
    for (index, expected) in
        ["mx10.example.com", "mx15.example.com", "mxbackup.example.net"].into_iter().enumerate()
    {
        let result = world.host(&list, index, &options);
        assert_eq!(base(&result.policy), expected);
        assert_eq!(references(&result.policy), [expected, "exchange.example.org", "example.com"]);
    }
}

/// K1, K2, K3, K4, RFC 7672 2.2.1, 6, RFC 8460 4.3.2.1: mandatory DANE makes everything less than it a delay.
#[test]
fn k_mandatory_dane() {
    let options = Options { requirement: Requirement::Mandatory, ..Options::default() };
    assert!(matches!(happy().best(&options).policy, HostPolicy::Authenticate(_)));
    type Change = fn(&mut World);
    let cases: [(&str, Change, fn(&RequiredFault) -> bool); 6] = [
        (
            "K1 insecure MX",
            |w| w.entry("example.org", RecordType::MX).status = Status::Insecure,
            |f| matches!(f, RequiredFault::InsecureMx),
        ),
        (
            "K1 insecure MX, no TLSA either",
            |w| {
                w.entry("example.org", RecordType::MX).status = Status::Insecure;
                w.deny(OWNER, RecordType::TLSA, Status::Secure, Kind::NoData);
            },
            |f| matches!(f, RequiredFault::InsecureMx),
        ),
        (
            "K2 no TLSA",
            |w| w.deny(OWNER, RecordType::TLSA, Status::Secure, Kind::NoData),
            |f| matches!(f, RequiredFault::NotApplicable(NoDane::NoTlsa { .. })),
        ),
        (
            "K2 insecure TLSA",
            |w| w.entry(OWNER, RecordType::TLSA).status = Status::Insecure,
            |f| matches!(f, RequiredFault::NotApplicable(NoDane::InsecureTlsa { .. })),
        ),
        (
            "K2 insecure address",
            |w| w.address("mx1.example.net", Status::Insecure, &["192.0.2.1", "2001:db8::1"]),
            |f| matches!(f, RequiredFault::NotApplicable(NoDane::InsecureAddress { .. })),
        ),
        (
            "K3 all unusable",
            |w| w.tlsa(OWNER, Status::Secure, &[(1, 1, 1, 32)]),
            |f| matches!(f, RequiredFault::AllUnusable(records) if records.len() == 1),
        ),
    ];
    for (what, change, expected) in cases {
        let mut world = happy();
        change(&mut world);
        let fault = fault(&world.best(&options).policy);
        assert_eq!(
            (fault.enhanced_status(), fault.result_type()),
            ("4.7.5", Some(ResultType::DaneRequired)),
            "{what}"
        );
        assert!(matches!(&fault, HostFault::DaneRequired(why) if expected(why)), "{what}: {fault:?}");
    }
    let list = World::default().hosts(&NextHop::Address("192.0.2.1".parse().unwrap()), &options).unwrap();
    assert!(matches!(fault(&World::default().host(&list, 0, &options).policy), HostFault::DaneRequired(_)));
    // Errors stay what they are.
    let mut world = happy();
    world.error(OWNER, RecordType::TLSA, Status::Bogus);
    assert!(matches!(fault(&world.best(&options).policy), HostFault::Tlsa(_)));
}

/// J9: switched off for a destination, nothing of DANE is asked.
#[test]
fn j9_switched_off() {
    let options = Options { requirement: Requirement::Off, ..Options::default() };
    let mut world = happy();
    assert_eq!(no_dane(&world.best(&options).policy), NoDane::SwitchedOff);
    assert!(!world.asked_types().contains(&RecordType::TLSA));
}

/// Bounds: hosts and addresses that a stranger may make us keep.
#[test]
fn bounded_hosts_and_addresses() {
    let names: Vec<String> = (0..200).map(|i| format!("mx{i}.example.net")).collect();
    let hosts: Vec<(u16, &str)> =
        names.iter().enumerate().map(|(i, name)| (i as u16, name.as_str())).collect();
    let mut world = happy();
    world.mx("example.org", Status::Secure, &hosts);
    let options = Options { max_mx_hosts: 7, max_addresses: 3, ..Options::default() };
    let list = world.hosts(&NextHop::MxOf(n("example.org")), &options).unwrap();
    assert_eq!((list.hosts.len(), list.ignored.len()), (7, 193));
    assert_eq!(list.hosts[6].preference, 6);
    let mut world = happy();
    let many = (0..100).map(|i| RData::A(A(std::net::Ipv4Addr::new(192, 0, 2, i)))).collect();
    world.put("mx1.example.net", Status::Secure, many);
    let result = world.best(&options);
    assert_eq!(result.addresses.len(), 3);
    assert!(result.addresses[0].is_ipv6() && result.addresses[1].is_ipv4());
}

/// Answers that nobody asked for, late or doubled, change nothing.
#[test]
fn unasked_answers_are_ignored() {
    let mut world = happy();
    let options = Options::default();
    let list = world.hosts(&NextHop::MxOf(n("example.org")), &options).unwrap();
    let mut walk = HostDiscovery::new(&list, &list.hosts[0], PORT, options);
    let forged = {
        let mut other = happy();
        other.tlsa(OWNER, Status::Secure, &[(2, 1, 1, 32)]);
        other.entry(OWNER, RecordType::TLSA).clone()
    };
    walk.answer(forged.clone());
    walk.answer(answer(&n("other.example"), RecordType::A, Status::Secure, Kind::NxDomain));
    let result = loop {
        match walk.poll() {
            Step::Ask(question) => {
                let answer = world.resolve(&question);
                walk.answer(answer.clone());
                let mut doubled = answer;
                doubled.status = Status::Bogus;
                walk.answer(doubled);
            }
            Step::Wait => panic!(),
            Step::Done(result) => break result,
        }
    };
    walk.answer(forged);
    assert_eq!(walk.poll(), Step::Done(result.clone()));
    assert_eq!((result.addresses.len(), &result.family_error), (2, &None));
    let HostPolicy::Authenticate(demand) = result.policy else { panic!() };
    assert_eq!(demand.records[0].numbers(), (3, 1, 1));
}
