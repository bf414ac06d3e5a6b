//! What one attempt says of its next-hop and of this host, read off its outcomes and its decision record. Pure.

use std::net::SocketAddr;

use mta_queue::DestinationResult;

use crate::outbound::breaker::{Evidence, Fault};
use crate::outbound::connect::{NO_ROUTE, RESOURCES};
use crate::outbound::decision::TryRecord;
use crate::outbound::provider::{Row, Table, host_set};
use crate::outbound::{AttemptReport, Decision, Outcome, Reach, Verdict};

/// What it says of how much the next-hop takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// It took mail, or spoke of a message or a mailbox.
    Took,
    /// It said that it was too much, or refused on connecting.
    TooMuch,
    /// It could not be connected to.
    Broken,
    /// Neither.
    Nothing,
}

/// What was read.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) sign: Sign,
    /// The host set and the group that the route led to.
    pub(super) hosts: Option<(String, String)>,
    /// The known reply with the gravest consequence, and whether the host that gave it was reached over IPv6.
    pub(super) heard: Option<(Row, bool)>,
    /// For the breaker.
    pub(super) evidence: Evidence,
    /// At least one recipient's mail was taken.
    pub(super) delivered: bool,
    /// By which unrelated destinations are told apart.
    pub(super) key: String,
    /// It was put off before any connection, because its group is held back until then, seconds since 1970.
    pub(super) held_until: Option<u64>,
}

/// Reads an attempt. `fresh`: its destination had not failed before. `has_route` asks the system whether it knows a way to
/// anywhere; it is asked only where it matters.
pub(super) fn read(table: &Table, report: &AttemptReport, fresh: bool, has_route: impl Fn() -> bool) -> Seen {
    let decision = &report.decision;
    let outcomes: Vec<&Outcome> = report.outcomes.iter().map(|of| &of.outcome).collect();
    let heard = heard(table, &outcomes);
    let sign = match &heard {
        Some((row, _)) if row.slow() => Sign::TooMuch,
        _ => sign(&outcomes, decision),
    };
    Seen {
        sign,
        hosts: hosts(table, decision),
        heard,
        evidence: evidence(&outcomes, decision, fresh, has_route),
        delivered: outcomes.iter().any(|outcome| outcome.verdict == Verdict::Delivered),
        key: key(decision),
        held_until: decision.held_until_unix,
    }
}

fn sign(outcomes: &[&Outcome], decision: &Decision) -> Sign {
    let code = |outcome: &&Outcome| outcome.reply.as_ref().map(|reply| reply.code);
    if outcomes.iter().any(|outcome| outcome.verdict != Verdict::Delivered && code(outcome) == Some(421)) {
        return Sign::TooMuch;
    }
    if outcomes.iter().any(|outcome| answered(outcome)) {
        return Sign::Took;
    }
    let host = |outcome: &&Outcome| matches!(outcome.reach, Reach::Session | Reach::Host);
    if outcomes.iter().any(|outcome| host(outcome) && matches!(code(outcome), Some(400..=599))) {
        return Sign::TooMuch;
    }
    let mut tries = tries(decision).peekable();
    let security = outcomes.iter().any(|outcome| outcome.is_security());
    if tries.peek().is_some() && !security && outcomes.iter().any(host) {
        Sign::Broken
    } else {
        Sign::Nothing
    }
}

/// Whether an outcome shows that mail gets through to where it is decided upon.
pub(super) fn answered(outcome: &Outcome) -> bool {
    outcome.verdict == Verdict::Delivered || matches!(outcome.reach, Reach::Recipient | Reach::Message)
}

fn hosts(table: &Table, decision: &Decision) -> Option<(String, String)> {
    let mx = decision.mx.as_ref().filter(|mx| mx.status != "literal")?;
    let mut listed: Vec<(Option<u16>, &str)> =
        mx.hosts.iter().map(|host| (host.preference, host.host.as_str())).collect();
    // Hosts of one preference are tried in any order; the group must not depend on it.
    listed.sort_unstable();
    let names: Vec<&str> = listed.into_iter().map(|(_, name)| name).collect();
    Some((host_set(&names), table.group(&names)?))
}

/// Of several replies that are known the one that concerns most: a pause longer than another's.
fn heard(table: &Table, outcomes: &[&Outcome]) -> Option<(Row, bool)> {
    let known = outcomes.iter().filter(|outcome| outcome.reply.is_some()).filter_map(|outcome| {
        let remote = outcome.remote.as_ref()?;
        let row = table.classify(&remote.host, outcome.reply.as_ref()?)?;
        let over_ipv6 = remote.address.is_some_and(|address| address.is_ipv6());
        Some((row.clone(), over_ipv6))
    });
    known.max_by_key(|(row, _)| (row.pause(), row.alert()))
}

fn tries(decision: &Decision) -> impl Iterator<Item = &TryRecord> {
    decision.hosts.iter().flat_map(|host| &host.tries)
}

fn evidence(
    outcomes: &[&Outcome],
    decision: &Decision,
    fresh: bool,
    has_route: impl Fn() -> bool,
) -> Evidence {
    let fault = |fault, certain| Evidence::Fault { fault, fresh, certain };
    let tls_stood =
        |one: &TryRecord| one.tls.as_ref().is_some_and(|tls| tls.version.is_some() && tls.failure.is_none());
    let tls = tries(decision).any(tls_stood);
    if outcomes.iter().any(|outcome| outcome.verdict == Verdict::Delivered) {
        return Evidence::Works { tls };
    }
    if tries(decision).next().is_none() {
        let no_names = |outcome: &&Outcome| {
            outcome.verdict == Verdict::Deferred && (outcome.status.subject, outcome.status.detail) == (4, 3)
        };
        return match outcomes.iter().find(|outcome| no_names(outcome)) {
            Some(outcome) => fault(Fault::Resolver, outcome.reach == Reach::Site),
            None => Evidence::Nothing,
        };
    }
    let spoke = |one: &TryRecord| {
        !one.replies.is_empty()
            || one.greeting.is_some()
            || one.tls.as_ref().is_some_and(|tls| tls.version.is_some())
    };
    if tries(decision).any(spoke) {
        let insecure = outcomes.iter().any(|outcome| outcome.is_security() && outcome.reach >= Reach::Host);
        let broken = |one: &TryRecord| one.tls.as_ref().is_some_and(|tls| tls.failure.is_some());
        return match insecure && !tls && tries(decision).any(broken) {
            true => fault(Fault::Tls, false),
            false => Evidence::Works { tls },
        };
    }
    let said =
        |word: &str| tries(decision).filter(move |one| one.connect_error.as_deref() == Some(word)).count();
    if said(RESOURCES) > 0 {
        return fault(Fault::Resources, true);
    }
    if said(NO_ROUTE) == tries(decision).count() {
        let over_ipv4 = tries(decision)
            .any(|one| one.address.parse::<SocketAddr>().is_ok_and(|address| address.is_ipv4()));
        return match (has_route(), over_ipv4) {
            (false, _) => fault(Fault::NoRoute, true),
            (true, true) => fault(Fault::Unreachable, false),
            // Hosts that have IPv6 only, which this host has not.
            (true, false) => Evidence::Nothing,
        };
    }
    if tries(decision).all(|one| one.connect_ms.is_none() && one.connect_error.is_none()) {
        // Addresses that may not be connected to.
        return Evidence::Nothing;
    }
    fault(Fault::Unreachable, false)
}

/// The network of the first address tried, or the domain.
fn key(decision: &Decision) -> String {
    let address = tries(decision).find_map(|one| one.address.parse::<SocketAddr>().ok());
    match address {
        Some(SocketAddr::V4(v4)) => {
            let [a, b, ..] = v4.ip().octets();
            format!("{a}.{b}.0.0/16")
        }
        Some(SocketAddr::V6(v6)) => {
            let [a, b, ..] = v6.ip().segments();
            format!("{a:x}:{b:x}::/32")
        }
        None => decision.destination.clone(),
    }
}

/// What is thought of the destination after a reply that asks to be left alone, or where the reply only says that there
/// were too many deliveries at once while others are under way.
pub(super) fn tempered(result: DestinationResult, seen: &Seen, others_under_way: bool) -> DestinationResult {
    match (result, seen.sign) {
        (DestinationResult::Failed { .. }, Sign::TooMuch) if others_under_way => DestinationResult::Unknown,
        _ => result,
    }
}

#[cfg(test)]
mod tests;
