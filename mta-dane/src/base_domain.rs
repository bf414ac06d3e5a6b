//! Which names may be the TLSA base domain of a host, from its address answers (RFC 7672 2.2.2, 2.2.3).
//!
//! What it does not: it asks nothing. `discovery::host` collects the answers and asks for the TLSA records.

use hickory_proto::rr::Name;

use crate::dnssec::{Answer, Kind, Status};
use crate::failure::NoDane;
use crate::reference::normal;

/// What the address answers allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidates {
    /// Ask for TLSA at these names, in this order; the first with secure records is the base domain.
    Ask(Vec<Name>),
    /// The host is an alias whose end is not secure; whether its first hop is has to be asked (type CNAME, A10).
    NeedAliasStatus,
    /// DANE does not apply.
    None(NoDane),
}

/// Decides from the host's name and its address answers that hold data (none of them an error).
///
/// `hops_known` says whether each hop carries its own status; where a resolver has only one bit for the whole answer,
/// the first hop's status must be asked separately.
pub fn candidates(host: &Name, answers: &[&Answer], hops_known: bool) -> Candidates {
    let host = normal(host);
    let insecure = || Candidates::None(NoDane::InsecureAddress { host: host.clone() });
    // C11: one secure address RRset is enough. Answers come in a fixed order, so the choice does not depend on timing.
    let Some(answer) =
        answers.iter().find(|answer| whole_status(answer) == Status::Secure).or_else(|| answers.first())
    else {
        return insecure();
    };
    if whole_status(answer) == Status::Secure {
        // C4 without aliases, C5 with: the end of the chain first, then the host's own name, never one between (C8).
        let mut names = vec![normal(answer.final_name())];
        if names.first() != Some(&host) {
            names.push(host);
        }
        return Candidates::Ask(names);
    }
    let mut aliases = answers.iter().filter_map(|answer| answer.hops.first()).peekable();
    if aliases.peek().is_none() {
        return insecure();
    }
    if aliases.any(|first| first.status == Status::Secure) {
        return Candidates::Ask(vec![host]);
    }
    if hops_known { Candidates::None(NoDane::InsecureAlias { host }) } else { Candidates::NeedAliasStatus }
}

/// The weakest of the answer and all its hops: one insecure hop spoils what follows, one error spoils all (A7, A8).
pub fn whole_status(answer: &Answer) -> Status {
    answer.hops.iter().fold(answer.status, |status, hop| status.weakest(hop.status))
}

/// Whether the answer is sound in itself: aliases that form one chain from the asked name without a loop and not too long
/// (A12), and records exactly where it says there is data. A sound answer of an error status is still an error.
///
/// # Errors
/// What is wrong with it.
pub fn check_shape(answer: &Answer) -> Result<(), &'static str> {
    if whole_status(answer).is_error() {
        return Ok(());
    }
    if answer.hops.len() > MAX_ALIASES {
        return Err("the chain of aliases is too long");
    }
    let mut at = normal(&answer.name);
    let mut seen = vec![at.clone()];
    for hop in &answer.hops {
        if normal(&hop.owner) != at {
            return Err("the aliases do not form a chain");
        }
        at = normal(&hop.target);
        if seen.contains(&at) {
            return Err("the aliases form a loop");
        }
        seen.push(at.clone());
    }
    let matching = answer.records.iter().filter(|record| record.record_type() == answer.rtype).count();
    match (answer.kind, matching) {
        (Kind::Data, 0) => Err("the answer has no record of the type asked for"),
        (Kind::NoData | Kind::NxDomain, 1..) => Err("the answer denies records that it holds"),
        _ => Ok(()),
    }
}

/// Longest alias chain that is followed for one name (A12).
pub const MAX_ALIASES: usize = 10;
