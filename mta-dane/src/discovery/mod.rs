//! The walk from a next-hop to what DANE demands of each of its hosts (RFC 7672 2.2), as two machines without I/O:
//! `MxDiscovery` ends in an ordered list of hosts; `HostDiscovery`, one per host and only when that host's turn comes,
//! ends in its addresses and its `HostPolicy`. A stuck second host thus never delays the first (B17).
//!
//! Both have one shape: `poll()` says `Ask` (any number of questions may be outstanding), `Wait`, or `Done`; `answer()`
//! takes answers in any order. What they do not: follow aliases, validate, retry, cache, or keep time.

mod host;
mod mx;

pub use host::{Candidate, CandidateResult, HostDiscovery, HostResult, tlsa_owner};
pub use mx::{Ignored, MxDiscovery, MxHost, MxList, NextHopKind};

use std::net::IpAddr;

use hickory_proto::rr::{Name, RecordType};

use crate::base_domain::{check_shape, whole_status};
use crate::dnssec::{Answer, Status};
use crate::failure::LookupError;
use crate::policy::Requirement;
use crate::reference::normal;
use crate::tlsa::DigestOrder;

/// Where the message shall go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextHop {
    /// To the MX hosts of this domain.
    MxOf(Name),
    /// To this host, configured as relay: trusted as if a secure MX had named it (B13).
    Host(Name),
    /// To this address: DANE does not apply (B10).
    Address(IpAddr),
}

/// A question for the resolver.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// The name, fully qualified and lower case.
    pub name: Name,
    /// The type.
    pub rtype: RecordType,
}

/// What a machine wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<T> {
    /// Ask this; more may follow at once.
    Ask(Question),
    /// Nothing to do until an answer comes.
    Wait,
    /// The end. Every further poll says the same.
    Done(T),
}

/// What the walk must know of us and of the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Our own names as they may stand in MX records: they and all worse preferences are dropped (B15).
    pub own_names: Vec<Name>,
    /// Our own addresses: a host with one of them is refused as a loop.
    pub own_addresses: Vec<IpAddr>,
    /// Ask for A records.
    pub ipv4: bool,
    /// Ask for AAAA records.
    pub ipv6: bool,
    /// How many MX hosts are kept, best first.
    pub max_mx_hosts: usize,
    /// How many addresses of one host are kept.
    pub max_addresses: usize,
    /// How many TLSA records are processed; more make the host unavailable, never unusable (D10).
    pub max_tlsa_records: usize,
    /// Decides the order among equals: same seed, same order. Draw a new one for each attempt.
    pub seed: u64,
    /// How the destination stands to DANE.
    pub requirement: Requirement,
    /// The digests in use and their order.
    pub digests: DigestOrder,
    /// Whether each alias hop in an answer carries its own status. False where one bit covers the whole answer
    /// (`trust-ad`): then the first hop is asked separately when it matters (A10).
    pub hops_known: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            own_names: Vec::new(),
            own_addresses: Vec::new(),
            ipv4: true,
            ipv6: true,
            max_mx_hosts: 32,
            max_addresses: 16,
            max_tlsa_records: 512,
            seed: 0,
            requirement: Requirement::Opportunistic,
            digests: DigestOrder::default(),
            hops_known: true,
        }
    }
}

/// Questions to be asked, asked, and answered.
#[derive(Debug, Clone, Default)]
struct Questions {
    entries: Vec<(Question, Progress)>,
}

#[derive(Debug, Clone)]
enum Progress {
    ToAsk,
    Asked,
    Answered(Box<Result<Answer, LookupError>>),
}

impl Questions {
    fn add(&mut self, name: &Name, rtype: RecordType) {
        let question = Question { name: normal(name), rtype };
        if !self.entries.iter().any(|(known, _)| *known == question) {
            self.entries.push((question, Progress::ToAsk));
        }
    }

    /// The next question nobody asked yet; from now on it counts as asked.
    fn next(&mut self) -> Option<Question> {
        let (question, progress) = self.entries.iter_mut().find(|(_, p)| matches!(p, Progress::ToAsk))?;
        *progress = Progress::Asked;
        Some(question.clone())
    }

    /// Takes an answer if its question is open. Anything else (late, doubled, never asked) is ignored.
    fn take(&mut self, answer: Answer) {
        let name = normal(&answer.name);
        let open = self
            .entries
            .iter_mut()
            .find(|(question, _)| question.name == name && question.rtype == answer.rtype)
            .filter(|(_, progress)| !matches!(progress, Progress::Answered(_)));
        if let Some((_, progress)) = open {
            *progress = Progress::Answered(Box::new(judged(answer)));
        }
    }

    fn answered(&self, name: &Name, rtype: RecordType) -> Option<&Result<Answer, LookupError>> {
        let name = normal(name);
        self.entries.iter().find_map(|(question, progress)| match progress {
            Progress::Answered(answer) if question.rtype == rtype && question.name == name => Some(&**answer),
            _ => None,
        })
    }

    fn all_answered(&self) -> bool {
        self.entries.iter().all(|(_, progress)| matches!(progress, Progress::Answered(_)))
    }
}

/// Sorts an answer into usable (secure or insecure, data or denial) and error (A3, A4, A8); its status becomes that of the
/// weakest hop (A7).
fn judged(mut answer: Answer) -> Result<Answer, LookupError> {
    let status = whole_status(&answer);
    let error = |status: Status, reason: String| LookupError {
        name: normal(&answer.name),
        rtype: answer.rtype,
        status,
        reason,
    };
    if status.is_error() {
        return Err(error(status, answer.reason.clone().unwrap_or_default()));
    }
    if let Err(reason) = check_shape(&answer) {
        return Err(error(Status::Unavailable, reason.to_owned()));
    }
    answer.status = status;
    Ok(answer)
}

/// SplitMix64: enough to shuffle a few hosts, and reproducible.
#[derive(Debug, Clone)]
struct Shuffle(u64);

impl Shuffle {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Puts the items into an order that depends on the seed and on the set, not on the order they came in.
    fn order<T: Ord>(&mut self, items: &mut [T]) {
        items.sort_unstable();
        for last in (1..items.len()).rev() {
            let bound = u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1);
            let other = usize::try_from(self.next() % bound).unwrap_or(0);
            items.swap(last, other);
        }
    }
}
