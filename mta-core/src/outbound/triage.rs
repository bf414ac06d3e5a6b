//! Triage: what most likely lies behind a failure of security or of DNS, what speaks for that, and what either side can
//! do about it. One class for each host, in the decision record; log line, story, notification and TLSRPT read it there.
//!
//! It judges nothing: the host was given up before it is asked, and no class makes a host acceptable. What it says of a
//! cause is a reading of the evidence and says how far that goes; a certificate's dates, say, are its owner's word.

mod remedy;
#[cfg(test)]
mod tests;

use std::fmt;

use mta_dane::failure::{HostFault, Mismatch, NextHopFailure, RequiredFault};
use mta_smtp::client::StartTlsResult;

use super::decision::{HostRecord, TriageRecord, TryRecord};
use super::tls_policy::Refusal;
use crate::tls::client::Seen;

pub(super) use remedy::{About, told};

/// What a failure is an instance of. The words are stable: they are the `failure-reason-code` of RFC 8460 4.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Only DANE-EE(3) records, and none names the key served: most often the key was renewed and the record was not.
    StaleTlsa,
    /// A DANE-TA(2) digest names an issuer, and the chain ends before any issuer that it could be (RFC 7671 5.2.2).
    AnchorNotSent,
    /// The chain is complete, up to another issuer than the DANE-TA(2) record names.
    OtherIssuer,
    /// The record holds the right data in the wrong fields.
    PublishingSlip,
    /// The chain holds, the name does not (RFC 7672 3.2.2).
    NameMismatch,
    /// A certificate of the path is past its date.
    Expired,
    /// A certificate of the path is not valid yet.
    NotYetValid,
    /// The path to the anchor does not hold for another reason.
    BrokenChain,
    /// The chain cannot be read, or is larger than is looked at.
    UnreadableChain,
    /// No certificate came.
    NoCertificate,
    /// One address of the host matches, another does not.
    OtherServer,
    /// There are secure TLSA records and none of them can be used.
    TlsaUnusable,
    /// STARTTLS is not offered, or is refused, where TLS is mandatory.
    NoStartTls,
    /// No TLS session came about.
    TlsFailed,
    /// The system's certificate authorities do not vouch for the server.
    NotTrusted,
    /// The TLSA records could not be had, or are bogus.
    TlsaLookup,
    /// The addresses, or the alias leading to them, could not be had or are bogus.
    AddressLookup,
    /// The MX records could not be had, or are bogus.
    MxLookup,
    /// The domain's MTA-STS policy does not list the host (RFC 8461 4.1).
    StsNotListed,
    /// DANE is mandatory here and cannot be had there.
    DaneRequired,
}

/// All classes with their words.
const WORDS: &[(Class, &str)] = &[
    (Class::StaleTlsa, "stale-tlsa"),
    (Class::AnchorNotSent, "anchor-not-sent"),
    (Class::OtherIssuer, "other-issuer"),
    (Class::PublishingSlip, "publishing-slip"),
    (Class::NameMismatch, "name-mismatch"),
    (Class::Expired, "expired"),
    (Class::NotYetValid, "not-yet-valid"),
    (Class::BrokenChain, "broken-chain"),
    (Class::UnreadableChain, "unreadable-chain"),
    (Class::NoCertificate, "no-certificate"),
    (Class::OtherServer, "other-server"),
    (Class::TlsaUnusable, "tlsa-unusable"),
    (Class::NoStartTls, "no-starttls"),
    (Class::TlsFailed, "tls-failed"),
    (Class::NotTrusted, "not-trusted"),
    (Class::TlsaLookup, "tlsa-lookup"),
    (Class::AddressLookup, "address-lookup"),
    (Class::MxLookup, "mx-lookup"),
    (Class::StsNotListed, "sts-not-listed"),
    (Class::DaneRequired, "dane-required"),
];

impl Class {
    /// The class of a word that a record holds.
    pub fn parse(word: &str) -> Option<Self> {
        WORDS.iter().find(|(_, known)| *known == word).map(|(class, _)| *class)
    }

    /// Whether it says that the certificate served is not what the TLSA records name.
    fn is_mismatch(self) -> bool {
        use Class::{
            AnchorNotSent, BrokenChain, Expired, NameMismatch, NotYetValid, OtherIssuer, PublishingSlip,
            StaleTlsa,
        };
        matches!(
            self,
            StaleTlsa
                | AnchorNotSent
                | OtherIssuer
                | PublishingSlip
                | NameMismatch
                | Expired
                | NotYetValid
                | BrokenChain
        )
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WORDS.iter().find(|(class, _)| class == self).map_or("", |(_, word)| word))
    }
}

/// The class of a handshake that failed.
pub(super) fn of_handshake(host: &HostRecord, seen: &Seen) -> Class {
    match &seen.mismatch {
        None if host.requirement == "verify" && !seen.chain.is_empty() => Class::NotTrusted,
        None => Class::TlsFailed,
        Some(Mismatch::NoCertificate) => Class::NoCertificate,
        Some(Mismatch::ChainTooLarge { .. } | Mismatch::Unreadable { .. } | Mismatch::TooMuchWork) => {
            Class::UnreadableChain
        }
        Some(Mismatch::NothingMatches { hint: Some(_), .. }) => Class::PublishingSlip,
        Some(Mismatch::NothingMatches { only_dane_ee: true, .. }) => Class::StaleTlsa,
        Some(Mismatch::NothingMatches { .. }) => match seen.chain.last() {
            // Who issued itself has nobody above that could have been left out.
            Some(top) if top.subject == top.issuer => Class::OtherIssuer,
            _ => Class::AnchorNotSent,
        },
        Some(Mismatch::Name { .. }) => Class::NameMismatch,
        Some(Mismatch::Expired { .. }) => Class::Expired,
        Some(Mismatch::NotYetValid { .. }) => Class::NotYetValid,
        Some(_) => Class::BrokenChain,
    }
}

/// The class of STARTTLS that was not to be had, where TLS is mandatory.
pub(super) fn of_starttls(result: StartTlsResult) -> Option<Class> {
    matches!(result, StartTlsResult::NotOffered | StartTlsResult::Refused).then_some(Class::NoStartTls)
}

/// The class of a host that is not connected to.
pub(super) fn of_refusal(refusal: &Refusal) -> Option<Class> {
    let fault = match refusal {
        Refusal::Dns(fault) => fault,
        Refusal::Sts { .. } => return Some(Class::StsNotListed),
        Refusal::RequireTls(_) => return None,
    };
    match fault {
        HostFault::Addresses(_) | HostFault::Alias(_) => Some(Class::AddressLookup),
        HostFault::Tlsa(_) | HostFault::TlsaTooLarge { .. } => Some(Class::TlsaLookup),
        HostFault::DaneRequired(RequiredFault::AllUnusable(_)) => Some(Class::TlsaUnusable),
        HostFault::DaneRequired(_) => Some(Class::DaneRequired),
        HostFault::NoAddress { .. } | HostFault::OwnAddress { .. } => None,
    }
}

/// The triage of a next-hop whose hosts could not be learnt.
pub(super) fn next_hop(failure: &NextHopFailure, about: &About<'_>) -> Option<TriageRecord> {
    let NextHopFailure::Lookup(error) = failure else { return None };
    Some(remedy::lookup(Class::MxLookup, error.status, &error.name, about))
}

/// The class of a whole host, from its record: `None` where nothing of security failed.
pub(super) fn class_of(host: &HostRecord) -> Option<Class> {
    if let Some(known) = host.triage.as_ref().and_then(|triage| Class::parse(&triage.class)) {
        return Some(known);
    }
    let first = failures(host).find_map(|failed| Class::parse(failed.reason_code.as_deref()?))?;
    let proven = host.tries.iter().any(is_proven);
    Some(if first.is_mismatch() && proven { Class::OtherServer } else { first })
}

/// The triage of a host, from its record.
pub(super) fn of_host(host: &HostRecord, about: &About<'_>) -> Option<TriageRecord> {
    class_of(host).map(|class| remedy::host(class, host, about))
}

/// The connections that failed by security, in order.
fn failures(host: &HostRecord) -> impl Iterator<Item = &TryRecord> {
    host.tries.iter().filter(|one| one.reason_code.is_some())
}

/// Whether a connection proved who the server is.
fn is_proven(one: &TryRecord) -> bool {
    one.tls.as_ref().is_some_and(|tls| tls.authenticated_by.is_some() && tls.failure.is_none())
}
