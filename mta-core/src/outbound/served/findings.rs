//! From what was published and what was served to rules, records and a conclusion.

use std::collections::BTreeSet;

use mta_dane::discovery::HostResult;
use mta_dane::failure::{HostFault, Mismatch};
use mta_dane::policy::HostPolicy;
use mta_dane::reference::text;
use mta_dane::tlsa::TlsaRecord;
use rustls_pki_types::CertificateDer;

use super::super::explain::{Mark, Rule, rule};
use super::handshake::{Missing, Shown};
use super::{Checked, CheckedChain, CheckedRecord, Facts, is_problem, leaf};
use crate::control::rfc3339_of;

/// A time to live of so much keeps a mistake alive for too long. The validator keeps nothing longer, so it is all that can be
/// seen.
const LONG_TTL_SECONDS: u32 = 86_400;

pub(super) fn draw(facts: &Facts, found: &HostResult) -> Checked {
    let mut rules = published(facts, found);
    rules.extend(records(facts));
    rules.extend(own(facts));
    rules.extend(served(facts));
    rules.extend(roll_over(facts));
    let (exit_code, conclusion) = conclude(facts, found, &rules);
    Checked {
        host: facts.host.clone(),
        port: facts.port,
        owner: facts.owner.as_ref().map(text),
        records: facts.records.iter().map(|(record, _)| checked_record(facts, record)).collect(),
        served: facts.shown.iter().map(|shown| checked_chain(facts, shown)).collect(),
        rules,
        conclusion,
        suggested: suggested(facts),
        exit_code,
    }
}

/// What DNS says before any record is looked at.
fn published(facts: &Facts, found: &HostResult) -> Vec<Rule> {
    let mut rules = Vec::new();
    let addresses: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
    if !addresses.is_empty() {
        let secure = found.address_status.to_string();
        let mark = if secure == "secure" { Mark::Ok } else { Mark::Fail };
        let text = match mark {
            Mark::Ok => format!("{}; secured by DNSSEC", addresses.join(", ")),
            _ => format!(
                "{}; {secure}: senders do not even ask for TLSA records where the address is not secured by DNSSEC",
                addresses.join(", ")
            ),
        };
        rules.push(rule("address", "RFC 7672 2.2.2", mark, text));
    }
    match (&facts.owner, &found.policy) {
        (Some(owner), _) => {
            let ttl = facts.records.iter().map(|(_, ttl)| *ttl).max().unwrap_or(0);
            let count = facts.records.len();
            let s = if count == 1 { "" } else { "s" };
            let at = text(owner);
            rules.push(rule(
                "tlsa",
                "RFC 7672 2.2.3",
                Mark::Ok,
                format!("{count} record{s} at {at}, secured by DNSSEC"),
            ));
            if ttl >= LONG_TTL_SECONDS {
                let text = format!(
                    "the records may be kept for {ttl} seconds or more: a mistake would stay for as long. An hour is enough"
                );
                rules.push(rule("ttl", "RFC 7671 13", Mark::Warn, text));
            }
        }
        (None, HostPolicy::Unavailable(fault)) => {
            rules.push(rule("tlsa", "RFC 7672 2.1.2", Mark::Fail, fault.to_string()));
        }
        (None, HostPolicy::NotApplicable(why)) => {
            rules.push(rule("tlsa", "RFC 7672 2.2.3", Mark::Fail, format!("no DANE: {why}")));
        }
        (None, _) => {}
    }
    rules
}

/// Each record alone: what does it match?
fn records(facts: &Facts) -> Vec<Rule> {
    let chains = chains(facts);
    facts.records.iter().map(|(record, _)| record_rule(facts, record, &chains)).collect()
}

fn record_rule(facts: &Facts, record: &TlsaRecord, chains: &[(&Shown, &[CertificateDer<'static>])]) -> Rule {
    let short = record.short();
    if let Err(why) = record.usable() {
        let source = if record.numbers().0 < 2 { "RFC 7672 3.1.3" } else { "RFC 6698 4.1" };
        return rule("tlsa-record", source, Mark::Warn, format!("{short}: no sender can use it: {why}"));
    }
    let matched: BTreeSet<&str> = chains
        .iter()
        .filter(|(_, chain)| facts.judge(record, chain).is_ok())
        .map(|(shown, _)| shown.key.word())
        .collect();
    if !matched.is_empty() {
        let keys: Vec<&str> = matched.into_iter().collect();
        let text = format!("{short}: matches the {} certificate that is served", keys.join(" and the "));
        return rule("tlsa-record", "RFC 7672 3.1", Mark::Ok, text);
    }
    if chains.is_empty() {
        let text = format!("{short}: nothing was served that it could be compared with");
        return rule("tlsa-record", "RFC 7672 3.1", Mark::NotApplicable, text);
    }
    let why = chains.iter().find_map(|(_, chain)| facts.judge(record, chain).err());
    let (source, why) = match (record.numbers(), why) {
        ((2, _, 1 | 2), Some(Mismatch::NothingMatches { hint: None, .. })) => (
            "RFC 7671 5.2.2",
            "the issuer that it names by its digest is not in the chain that is served; it has to be, even if it is a root"
                .to_owned(),
        ),
        ((3, ..), Some(Mismatch::NothingMatches { hint: None, .. })) => (
            "RFC 7671 8.1",
            "names nothing that is served: an old record to remove, or the next key's, published in advance".to_owned(),
        ),
        (_, Some(why)) => ("RFC 7672 3.1", why.to_string()),
        (_, None) => ("RFC 7672 3.1", "names nothing that is served".to_owned()),
    };
    rule("tlsa-record", source, Mark::Warn, format!("{short}: {why}"))
}

/// This server's certificate, as it lies in its file.
fn own(facts: &Facts) -> Option<Rule> {
    Some(match facts.own.as_ref()? {
        Err(why) => {
            rule("own-file", "", Mark::NotApplicable, format!("the own certificate cannot be read: {why}"))
        }
        Ok(chain) => {
            let good = facts.records.iter().any(|(record, _)| facts.judge(record, chain).is_ok());
            let key = leaf(chain).and_then(|leaf| leaf.spki_sha256).unwrap_or_default();
            if good {
                rule(
                    "own-file",
                    "RFC 7672 3.1",
                    Mark::Ok,
                    "the certificate of this server matches what is published",
                )
            } else {
                let text = format!(
                    "the certificate of this server matches no published record; publish _{}._tcp.{}. IN TLSA 3 1 1 {key}",
                    facts.port, facts.host
                );
                rule("own-file", "RFC 7672 3.1", Mark::Fail, text)
            }
        }
    })
}

/// Each address and kind of key: would a sender take it?
fn served(facts: &Facts) -> Vec<Rule> {
    let mut rules = Vec::new();
    let addresses: BTreeSet<_> = facts.shown.iter().map(|shown| shown.address).collect();
    for address in addresses {
        let here: Vec<&Shown> = facts.shown.iter().filter(|shown| shown.address == address).collect();
        if let Some(why) = unreachable(&here) {
            rules.push(rule("served", "RFC 7672 2.2", Mark::Fail, format!("{address}: {why}")));
            continue;
        }
        if here.iter().all(|shown| shown.chain.is_err()) {
            let why = here.iter().find_map(|shown| match &shown.chain {
                Err(Missing::NoneOfThisKind(why)) => Some(why.as_str()),
                _ => None,
            });
            let text = format!("{address}: no TLS session came about: {}", why.unwrap_or("no reason given"));
            rules.push(rule("served", "RFC 7672 2.2", Mark::Fail, text));
            continue;
        }
        rules.extend(here.iter().filter_map(|shown| shown_rule(facts, shown)));
    }
    rules
}

fn unreachable<'a>(here: &[&'a Shown]) -> Option<&'a str> {
    let mut reasons = here.iter().map(|shown| match &shown.chain {
        Err(Missing::Unreachable(why)) => Some(why.as_str()),
        _ => None,
    });
    let first = reasons.next()??;
    reasons.all(|reason| reason.is_some()).then_some(first)
}

fn shown_rule(facts: &Facts, shown: &Shown) -> Option<Rule> {
    let how = match &shown.sni {
        Some(name) => format!("asked for {name}"),
        None => "without SNI".to_owned(),
    };
    let (address, key) = (shown.address, shown.key.word());
    let chain = match &shown.chain {
        Ok(chain) => chain,
        Err(Missing::Unreachable(why)) => {
            return Some(rule(
                "served",
                "RFC 7672 2.2",
                Mark::Fail,
                format!("{address} {key}, {how}: {why}"),
            ));
        }
        // Most hosts have one certificate. That they have no other is worth a word once.
        Err(Missing::NoneOfThisKind(_)) => {
            return shown.sni.as_ref().map(|_| {
                let text = format!("{address}: serves no {key} certificate, which nobody needs");
                rule("served", "RFC 7671 8.4", Mark::NotApplicable, text)
            });
        }
    };
    let digest = leaf(chain).and_then(|leaf| leaf.spki_sha256).unwrap_or_else(|| "unreadable".to_owned());
    let short = digest.get(..16).unwrap_or(&digest);
    let usable: Vec<&TlsaRecord> =
        facts.records.iter().map(|(record, _)| record).filter(|record| record.usable().is_ok()).collect();
    if usable.is_empty() {
        return Some(rule(
            "served",
            "RFC 7672 2.2",
            Mark::NotApplicable,
            format!("{address} {key}, {how}: key {short}\u{2026}; no usable record to compare it with"),
        ));
    }
    let matched: Vec<&&TlsaRecord> =
        usable.iter().filter(|record| facts.judge(record, chain).is_ok()).collect();
    let source = if shown.sni.is_some() { "RFC 7672 3.1" } else { "RFC 7672 8.1" };
    Some(match matched.first() {
        Some(record) => {
            let text = format!("{address} {key}, {how}: key {short}\u{2026}, matches {}", record.short());
            match lonely(&usable, &matched) {
                None => rule("served", source, Mark::Ok, text),
                Some(combination) => rule(
                    "served",
                    "RFC 7671 8.4",
                    Mark::Warn,
                    format!(
                        "{text}; but no record of kind {combination} does, and a sender may look at that kind alone"
                    ),
                ),
            }
        }
        None => rule(
            "served",
            source,
            if shown.sni.is_some() { Mark::Fail } else { Mark::Warn },
            format!("{address} {key}, {how}: key {digest} matches no published record"),
        ),
    })
}

/// A combination of parameters that is published and of which no record matches (RFC 7671 8.4: each must, by itself).
fn lonely(usable: &[&TlsaRecord], matched: &[&&TlsaRecord]) -> Option<String> {
    let kinds: BTreeSet<(u8, u8, u8)> = usable.iter().map(|record| record.numbers()).collect();
    let found = kinds.into_iter().find(|kind| matched.iter().all(|record| record.numbers() != *kind))?;
    Some(format!("{} {} {}", found.0, found.1, found.2))
}

/// Whether the next key is announced.
fn roll_over(facts: &Facts) -> Option<Rule> {
    let chains = chains(facts);
    let ee: Vec<&TlsaRecord> = facts
        .records
        .iter()
        .map(|(record, _)| record)
        .filter(|record| record.numbers().0 == 3 && record.usable().is_ok())
        .collect();
    if ee.is_empty() || chains.is_empty() {
        return None;
    }
    let next = ee.iter().any(|record| chains.iter().all(|(_, chain)| facts.judge(record, chain).is_err()));
    let text = if next {
        "a record names a key that is not served: fine if it is the next one"
    } else {
        "no record for a next key is published. That is well as long as the key stays; before it changes, publish the new \
         record and wait for two TTLs"
    };
    Some(rule("next-key", "RFC 7671 8.1", Mark::NotApplicable, text))
}

fn chains(facts: &Facts) -> Vec<(&Shown, &[CertificateDer<'static>])> {
    facts.shown.iter().filter_map(|shown| Some((shown, shown.chain.as_ref().ok()?.as_slice()))).collect()
}

fn conclude(facts: &Facts, found: &HostResult, rules: &[Rule]) -> (u8, String) {
    let host = &facts.host;
    if let HostPolicy::Unavailable(fault) = &found.policy {
        return match fault {
            HostFault::NoAddress { .. } => (2, format!("{fault}.")),
            HostFault::Addresses(error) | HostFault::Alias(error) | HostFault::Tlsa(error)
                if error.status.to_string() == "unavailable" =>
            {
                (75, format!("DNS does not answer now: {fault}."))
            }
            _ => (1, format!("Senders that enforce DANE do not use {host} now: {fault}.")),
        };
    }
    if facts.owner.is_none() {
        return (
            2,
            format!(
                "{host} publishes no TLSA records that a sender could trust: nobody can verify it by DANE."
            ),
        );
    }
    let failed = rules.iter().any(|rule| rule.verdict == Mark::Fail);
    if facts.shown.iter().all(|shown| matches!(shown.chain, Err(Missing::Unreachable(_)))) {
        return (
            75,
            format!("{host} could not be spoken to; what it publishes cannot be compared with anything."),
        );
    }
    match (failed, rules.iter().any(is_problem)) {
        (true, _) => (
            1,
            format!(
                "Mail from senders that enforce DANE waits, at least at times, until {host} is repaired."
            ),
        ),
        (false, true) => (
            1,
            format!("Mail to {host} flows; the warnings above deserve a look before they become failures."),
        ),
        (false, false) => {
            (0, format!("{host} serves what it publishes, at every address and in every way that was tried."))
        }
    }
}

/// The records that are missing.
fn suggested(facts: &Facts) -> Vec<String> {
    let Some(owner) = &facts.owner else { return Vec::new() };
    let unmatched = chains(facts)
        .into_iter()
        .filter(|(_, chain)| facts.records.iter().all(|(record, _)| facts.judge(record, chain).is_err()));
    let keys: BTreeSet<String> = unmatched.filter_map(|(_, chain)| leaf(chain)?.spki_sha256).collect();
    keys.into_iter().map(|key| format!("{}. IN TLSA 3 1 1 {key}", text(owner))).collect()
}

fn checked_record(facts: &Facts, record: &TlsaRecord) -> CheckedRecord {
    let matches = chains(facts).into_iter().filter(|(_, chain)| facts.judge(record, chain).is_ok());
    let mut places: Vec<String> =
        matches.map(|(shown, _)| format!("{} {}", shown.address, shown.key.word())).collect();
    places.dedup();
    CheckedRecord {
        record: record.to_string(),
        unusable: record.usable().err().map(|why| why.to_string()),
        matches: places,
    }
}

fn checked_chain(facts: &Facts, shown: &Shown) -> CheckedChain {
    let leaf = shown.chain.as_ref().ok().and_then(|chain| leaf(chain));
    let matched = shown.chain.as_ref().ok().and_then(|chain| {
        facts.records.iter().map(|(record, _)| record).find(|record| facts.judge(record, chain).is_ok())
    });
    CheckedChain {
        address: shown.address.to_string(),
        key: shown.key.word(),
        sni: shown.sni.clone(),
        failure: shown.chain.as_ref().err().map(|missing| match missing {
            Missing::Unreachable(why) | Missing::NoneOfThisKind(why) => why.clone(),
        }),
        subject: leaf.as_ref().map(|leaf| leaf.subject.clone()),
        spki_sha256: leaf.as_ref().and_then(|leaf| leaf.spki_sha256.clone()),
        not_after: leaf.as_ref().and_then(|leaf| leaf.dates).map(|(_, to)| rfc3339_of(to)),
        matched: matched.map(ToString::to_string),
    }
}
