//! From one host to its addresses and what DANE demands of it (RFC 7672 2.2.2, 2.2.3).

use std::net::IpAddr;

use hickory_proto::rr::{Name, RData, RecordType};

use super::mx::{MxHost, MxList, NextHopKind};
use super::{Options, Question, Questions, Shuffle, Step};
use crate::base_domain::{Candidates, candidates};
use crate::dnssec::{Answer, Hop, Kind, Status};
use crate::failure::{HostFault, LookupError, NoDane};
use crate::policy::{Authenticate, HostPolicy, Requirement};
use crate::reference::{normal, reference_ids};
use crate::tlsa::{TlsaRecord, select};

/// A name that was considered as TLSA base domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The candidate base domain.
    pub base_domain: Name,
    /// `_PORT._tcp.BASE`, what was asked for (D1).
    pub owner: Name,
    /// What came of it.
    pub result: CandidateResult,
}

/// What a TLSA question brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CandidateResult {
    /// Secure records: this is the base domain (D4).
    Secure {
        /// How many.
        records: usize,
    },
    /// Records that are not secure: as if there were none (D2, D6).
    Insecure,
    /// No records, or no such name; secure or not makes no difference (A5).
    Absent(Status),
    /// The owner name would be longer than a DNS name can be: nothing can be there.
    NameTooLong,
    /// An error: the host is not used (D5).
    Error(Status),
}

/// What was found out about one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostResult {
    /// The host.
    pub host: MxHost,
    /// The port that will be connected to.
    pub port: u16,
    /// Its addresses in the order to try them: families alternate, IPv6 first. Empty where none could be learnt.
    pub addresses: Vec<IpAddr>,
    /// The best status among its address answers; an error status only where all were errors.
    pub address_status: Status,
    /// The aliases from the host's name to its addresses.
    pub hops: Vec<Hop>,
    /// An address family whose lookup failed while the other was good (C10).
    pub family_error: Option<LookupError>,
    /// The TLSA questions asked, in order.
    pub candidates: Vec<Candidate>,
    /// What DANE demands.
    pub policy: HostPolicy,
}

/// The machine for one host.
#[derive(Debug, Clone)]
pub struct HostDiscovery {
    list: MxList,
    host: MxHost,
    port: u16,
    options: Options,
    questions: Questions,
    stage: Stage,
    found: HostResult,
}

#[derive(Debug, Clone)]
enum Stage {
    /// Waiting for A and AAAA.
    Addresses,
    /// Waiting for the CNAME at the host's name.
    Alias,
    /// Waiting for TLSA of the first of these names; the rest come after it.
    Tlsa {
        current: Name,
        owner: Name,
        rest: Vec<Name>,
    },
    Done,
}

impl HostDiscovery {
    /// Starts the walk for one of the list's hosts, to be reached at `port` (25 unless a route says otherwise).
    pub fn new(list: &MxList, host: &MxHost, port: u16, options: Options) -> Self {
        let mut questions = Questions::default();
        let mut found = HostResult {
            host: host.clone(),
            port,
            addresses: Vec::new(),
            address_status: Status::Unavailable,
            hops: Vec::new(),
            family_error: None,
            candidates: Vec::new(),
            policy: HostPolicy::NotApplicable(NoDane::AddressLiteral),
        };
        let mut stage = Stage::Addresses;
        if let NextHopKind::Address(address) = list.kind {
            found.addresses.push(address);
            found.address_status = Status::Secure;
            found.policy = found.policy.under(options.requirement, list.status);
            stage = Stage::Done;
        } else {
            if options.ipv4 {
                questions.add(&host.name, RecordType::A);
            }
            if options.ipv6 {
                questions.add(&host.name, RecordType::AAAA);
            }
            if !options.ipv4 && !options.ipv6 {
                let fault = HostFault::NoAddress { host: host.name.clone(), nxdomain: false };
                found.policy = HostPolicy::Unavailable(fault);
                stage = Stage::Done;
            }
        }
        Self { list: list.clone(), host: host.clone(), port, options, questions, stage, found }
    }

    /// What to do next.
    pub fn poll(&mut self) -> Step<HostResult> {
        if matches!(self.stage, Stage::Done) {
            return Step::Done(self.found.clone());
        }
        match self.questions.next() {
            Some(question) => Step::Ask(question),
            None => Step::Wait,
        }
    }

    /// Takes an answer; one that was not asked for is ignored.
    pub fn answer(&mut self, answer: Answer) {
        if matches!(self.stage, Stage::Done) {
            return;
        }
        self.questions.take(answer);
        if !self.questions.all_answered() {
            return;
        }
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Addresses => self.addresses_known(),
            Stage::Alias => self.alias_known(),
            Stage::Tlsa { current, owner, rest } => self.tlsa_known(current, &owner, rest),
            Stage::Done => {}
        }
    }

    fn end(&mut self, policy: HostPolicy) {
        self.stage = Stage::Done;
        self.found.policy = policy.under(self.options.requirement, self.list.status);
    }

    /// A and AAAA are in: one class for both families (C2, C10), then the candidates (C3 to C8, C11).
    fn addresses_known(&mut self) {
        let mut good: Vec<Answer> = Vec::new();
        let mut denied: Vec<Kind> = Vec::new();
        let mut errors: Vec<LookupError> = Vec::new();
        for rtype in [RecordType::A, RecordType::AAAA] {
            match self.questions.answered(&self.host.name, rtype) {
                Some(Ok(answer)) if answer.kind == Kind::Data => good.push(answer.clone()),
                Some(Ok(answer)) => denied.push(answer.kind),
                Some(Err(error)) => errors.push(error.clone()),
                None => {}
            }
        }
        let Some(best) = good.iter().min_by_key(|answer| answer.status) else {
            // Nothing to connect to. An error hides an address that may well exist, so it is what is reported.
            let nxdomain = denied.contains(&Kind::NxDomain);
            let fault = match errors.into_iter().next() {
                Some(error) => {
                    self.found.address_status = error.status;
                    HostFault::Addresses(error)
                }
                None => HostFault::NoAddress { host: self.host.name.clone(), nxdomain },
            };
            return self.end(HostPolicy::Unavailable(fault));
        };
        self.found.address_status = best.status;
        self.found.hops = best.hops.clone();
        self.found.family_error = errors.into_iter().next();
        self.found.addresses = self.ordered_addresses(&good);
        if let Some(address) = self.found.addresses.iter().find(|a| self.options.own_addresses.contains(a)) {
            return self.end(HostPolicy::Unavailable(HostFault::OwnAddress { address: *address }));
        }
        if self.options.requirement == Requirement::Off {
            return self.end(HostPolicy::NotApplicable(NoDane::SwitchedOff));
        }
        let good: Vec<&Answer> = good.iter().collect();
        match candidates(&self.host.name, &good, self.options.hops_known) {
            Candidates::Ask(names) => self.ask_tlsa(names),
            Candidates::None(why) => self.end(HostPolicy::NotApplicable(why)),
            Candidates::NeedAliasStatus => {
                self.questions.add(&self.host.name, RecordType::CNAME);
                self.stage = Stage::Alias;
            }
        }
    }

    /// Bounded, without doubles, families alternating, shuffled within a family.
    fn ordered_addresses(&self, answers: &[Answer]) -> Vec<IpAddr> {
        let (mut six, mut four): (Vec<IpAddr>, Vec<IpAddr>) = answers
            .iter()
            .flat_map(|answer| &answer.records)
            .filter_map(|record| match &record.data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                _ => None,
            })
            .partition(IpAddr::is_ipv6);
        let mut shuffle = Shuffle(self.options.seed);
        for family in [&mut six, &mut four] {
            shuffle.order(family);
            // Equal addresses may stand apart after the shuffle.
            let mut seen = Vec::new();
            family.retain(|address| {
                let new = !seen.contains(address);
                seen.push(*address);
                new
            });
        }
        let (mut six, mut four) = (six.into_iter(), four.into_iter());
        let mut ordered = Vec::new();
        while ordered.len() < self.options.max_addresses.max(1) {
            let pair = [six.next(), four.next()];
            if pair == [None, None] {
                break;
            }
            ordered.extend(pair.into_iter().flatten());
        }
        ordered.truncate(self.options.max_addresses.max(1));
        ordered
    }

    /// The CNAME answer is in: a secure first hop makes the host's own name a candidate (C6), an insecure one ends DANE (C7).
    fn alias_known(&mut self) {
        let host = self.host.name.clone();
        let answer = match self.questions.answered(&host, RecordType::CNAME) {
            Some(Ok(answer)) => answer.clone(),
            Some(Err(error)) => {
                let error = error.clone();
                return self.end(HostPolicy::Unavailable(HostFault::Alias(error)));
            }
            None => return,
        };
        match (answer.status, answer.kind) {
            (Status::Secure, Kind::Data) => self.ask_tlsa(vec![host]),
            // The address answers went through an alias that securely does not exist: one of them lies.
            (Status::Secure, _) => self.end(HostPolicy::Unavailable(HostFault::Alias(LookupError {
                name: host,
                rtype: RecordType::CNAME,
                status: Status::Unavailable,
                reason: "the address answers follow an alias whose existence is denied".to_owned(),
            }))),
            _ => self.end(HostPolicy::NotApplicable(NoDane::InsecureAlias { host })),
        }
    }

    /// Asks for TLSA at the first of these names; without any left, DANE does not apply (D4).
    fn ask_tlsa(&mut self, names: Vec<Name>) {
        let mut names = names.into_iter();
        for current in names.by_ref() {
            let Some(owner) = tlsa_owner(&current, self.port) else {
                let owner = current.clone();
                let result = CandidateResult::NameTooLong;
                self.found.candidates.push(Candidate { base_domain: current, owner, result });
                continue;
            };
            self.questions.add(&owner, RecordType::TLSA);
            self.stage = Stage::Tlsa { current, owner, rest: names.collect() };
            return;
        }
        let candidates = &self.found.candidates;
        let insecure = candidates.iter().find(|candidate| candidate.result == CandidateResult::Insecure);
        let why = match insecure {
            Some(candidate) => NoDane::InsecureTlsa { owner: candidate.owner.clone() },
            None => NoDane::NoTlsa {
                owners: candidates.iter().map(|candidate| candidate.owner.clone()).collect(),
            },
        };
        self.end(HostPolicy::NotApplicable(why));
    }

    /// A TLSA answer is in: an error ends the host (D5), secure records decide it (D4), everything else is "none here".
    fn tlsa_known(&mut self, current: Name, owner: &Name, rest: Vec<Name>) {
        let (result, policy) = match self.questions.answered(owner, RecordType::TLSA) {
            Some(Err(error)) => {
                let fault = HostFault::Tlsa(error.clone());
                (CandidateResult::Error(error.status), Some(HostPolicy::Unavailable(fault)))
            }
            Some(Ok(answer)) if answer.kind != Kind::Data => (CandidateResult::Absent(answer.status), None),
            Some(Ok(answer)) if answer.status != Status::Secure => (CandidateResult::Insecure, None),
            Some(Ok(answer)) => {
                let records = tlsa_records(answer);
                (
                    CandidateResult::Secure { records: records.len() },
                    Some(self.demand(&current, owner, &records)),
                )
            }
            None => return,
        };
        self.found.candidates.push(Candidate { base_domain: current, owner: owner.clone(), result });
        match policy {
            Some(policy) => self.end(policy),
            None => self.ask_tlsa(rest),
        }
    }

    /// What a secure, non-empty TLSA RRset demands: authentication, or at least TLS (D7, E9).
    fn demand(&self, base_domain: &Name, owner: &Name, records: &[TlsaRecord]) -> HostPolicy {
        if records.len() > self.options.max_tlsa_records {
            return HostPolicy::Unavailable(HostFault::TlsaTooLarge {
                owner: owner.clone(),
                records: records.len(),
            });
        }
        let selection = select(records, &self.options.digests);
        if selection.records.is_empty() {
            return HostPolicy::EncryptOnly {
                base_domain: base_domain.clone(),
                unusable: selection.unusable,
            };
        }
        HostPolicy::Authenticate(Authenticate {
            base_domain: base_domain.clone(),
            records: selection.records,
            unusable: selection.unusable,
            reference_ids: reference_ids(base_domain, self.list.origin(&self.host.name)),
            host_only: self.list.status != Status::Secure,
        })
    }

    /// The questions asked so far: for callers that show the walk.
    pub fn questions(&self) -> impl Iterator<Item = &Question> {
        self.questions.entries.iter().map(|(question, _)| question)
    }
}

/// `_PORT._tcp.BASE` (D1), or `None` where that is longer than a name can be.
pub fn tlsa_owner(base_domain: &Name, port: u16) -> Option<Name> {
    let owner =
        base_domain.prepend_label("_tcp").and_then(|name| name.prepend_label(format!("_{port}"))).ok()?;
    Some(normal(&owner))
}

/// The TLSA data of an answer. A record whose data our DNS library could not read as TLSA is kept as an unusable one: it
/// still says that TLS is mandatory (D7).
fn tlsa_records(answer: &Answer) -> Vec<TlsaRecord> {
    answer
        .records
        .iter()
        .filter(|record| record.record_type() == RecordType::TLSA)
        .map(|record| match &record.data {
            RData::TLSA(rdata) => TlsaRecord::from(rdata),
            _ => TlsaRecord::new(u8::MAX, u8::MAX, u8::MAX, Vec::new()),
        })
        .collect()
}
