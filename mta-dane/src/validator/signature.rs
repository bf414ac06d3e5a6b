//! Whether a record set carries a signature that holds, by the keys of one zone (RFC 4035 5.3, RFC 6840 5).
//!
//! It decides nothing about where the keys came from, nor what follows from a set without a valid signature.

use std::fmt;

use hickory_proto::dnssec::rdata::{DNSKEY, RRSIG};
use hickory_proto::dnssec::{Algorithm, Verifier};
use hickory_proto::rr::Name;

use super::limits::{Limits, Work};
use super::rrset::RrSet;
use super::{canonical, clock};

/// A set whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verified {
    /// Seconds for which it may be reused: bounded by TTL, original TTL and expiry (RFC 4035 5.3.3).
    pub(super) ttl: u32,
    /// Where the set was expanded from a wildcard: the label count of the wildcard's parent. The proof that
    /// nothing closer exists is still owed (RFC 4035 5.3.4).
    pub(super) wildcard: Option<usize>,
}

/// Why no signature of a set holds. Ordered: of several signatures the greatest fault is reported.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// There is no signature of this zone over the set.
    Missing,
    /// The signature's fields contradict the set or the zone.
    Malformed,
    /// Signed with an algorithm that is not supported here.
    Unsupported(u8),
    /// No key of the zone has this tag and algorithm.
    NoKey(u16),
    /// The signature does not match the data.
    Mismatch(u16),
    /// The signature's time has not come; from when it is valid, in Unix seconds.
    NotYetValid(u64),
    /// The signature's time is over; since when, in Unix seconds.
    Expired(u64),
    /// Too many keys share the tag, or the work for one lookup is used up.
    Limit(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no signature"),
            Self::Malformed => f.write_str("a signature that contradicts the record set"),
            Self::Unsupported(number) => write!(f, "only signatures of unsupported algorithm {number}"),
            Self::NoKey(tag) => write!(f, "a signature by key {tag}, which the zone does not have"),
            Self::Mismatch(tag) => write!(f, "a signature by key {tag} that does not match the data"),
            Self::NotYetValid(from) => write!(f, "a signature that is valid only from {}", clock::utc(*from)),
            Self::Expired(since) => write!(f, "a signature that expired at {}", clock::utc(*since)),
            Self::Limit(what) => f.write_str(what),
        }
    }
}

/// Tries the signatures of a set with the keys of `zone`, at `now` (Unix seconds).
pub(super) fn verify(
    set: &RrSet<'_>,
    zone: &Name,
    keys: &[(u16, DNSKEY)],
    now: u64,
    limits: &Limits,
    work: &mut Work,
) -> Result<Verified, Fault> {
    let mut candidates: Vec<&RRSIG> =
        set.signatures.iter().copied().filter(|rrsig| rrsig.input().signer_name == *zone).collect();
    // A signature over the name itself needs no further proof, so it goes before one over a wildcard.
    candidates.sort_by_key(|rrsig| std::cmp::Reverse(rrsig.input().num_labels));
    let mut fault = Fault::Missing;
    let mut tried = 0;
    for rrsig in candidates {
        let (matching, expires_at) = match precheck(set, zone, rrsig, keys, now, limits) {
            Ok(fit) => fit,
            Err(Fault::Limit(what)) => return Err(Fault::Limit(what)),
            Err(worse) => {
                fault = fault.max(worse);
                continue;
            }
        };
        // Only what costs a public-key operation counts; what is worthless at sight does not.
        if tried == limits.signatures_per_set {
            break;
        }
        tried += 1;
        match check(set, rrsig, &matching, work) {
            Ok(()) => return Ok(verified(set, rrsig, expires_at - now, limits)),
            Err(Fault::Limit(what)) => return Err(Fault::Limit(what)),
            Err(worse) => fault = fault.max(worse),
        }
    }
    Err(fault)
}

/// Everything about a signature but the cryptography (RFC 4035 5.3.1): the keys to try, and when the signature ends.
fn precheck<'k>(
    set: &RrSet<'_>,
    zone: &Name,
    rrsig: &RRSIG,
    keys: &'k [(u16, DNSKEY)],
    now: u64,
    limits: &Limits,
) -> Result<(Vec<&'k DNSKEY>, u64), Fault> {
    let input = rrsig.input();
    if input.type_covered != set.rtype
        || input.num_labels > set.owner.num_labels()
        || !zone.zone_of(&set.owner)
    {
        return Err(Fault::Malformed);
    }
    // A wildcard above the zone would be another zone's.
    if input.num_labels < zone.num_labels() {
        return Err(Fault::Malformed);
    }
    if !supported(input.algorithm) {
        return Err(Fault::Unsupported(input.algorithm.into()));
    }
    let expires_at = in_time(rrsig, now)?;
    Ok((matching_keys(rrsig, keys, limits)?, expires_at))
}

fn verified(set: &RrSet<'_>, rrsig: &RRSIG, seconds_left: u64, limits: &Limits) -> Verified {
    let input = rrsig.input();
    let left = u32::try_from(seconds_left).unwrap_or(u32::MAX);
    let ttl = set.ttl().min(super::rrset::sane_ttl(input.original_ttl)).min(left).min(limits.max_ttl);
    let wildcard = (input.num_labels < set.owner.num_labels()).then(|| usize::from(input.num_labels));
    Verified { ttl, wildcard }
}

/// Whether an algorithm can be verified here. Everything else makes a zone insecure (RFC 4035 5.2): of the
/// algorithms in use that is Ed448 alone.
pub(super) fn supported(algorithm: Algorithm) -> bool {
    algorithm.is_supported()
}

/// The time window in serial arithmetic (RFC 4034 3.1.5); answers when the signature ends, in Unix seconds.
pub(super) fn in_time(rrsig: &RRSIG, now: u64) -> Result<u64, Fault> {
    let inception = clock::near(now, rrsig.input().sig_inception.get());
    let expiration = clock::near(now, rrsig.input().sig_expiration.get());
    if expiration < inception {
        return Err(Fault::Malformed);
    }
    if now < inception {
        return Err(Fault::NotYetValid(inception));
    }
    if now > expiration {
        return Err(Fault::Expired(expiration));
    }
    Ok(expiration)
}

/// The keys that a signature may be by: those of its tag and algorithm.
fn matching_keys<'k>(
    rrsig: &RRSIG,
    keys: &'k [(u16, DNSKEY)],
    limits: &Limits,
) -> Result<Vec<&'k DNSKEY>, Fault> {
    let input = rrsig.input();
    let fits =
        |(tag, key): &&(u16, DNSKEY)| *tag == input.key_tag && Verifier::algorithm(key) == input.algorithm;
    let matching: Vec<&DNSKEY> = keys.iter().filter(fits).map(|(_, key)| key).collect();
    if matching.is_empty() {
        return Err(Fault::NoKey(input.key_tag));
    }
    if matching.len() > limits.keys_per_tag {
        return Err(Fault::Limit("more keys of one tag than are tried"));
    }
    Ok(matching)
}

/// The cryptographic part.
fn check(set: &RrSet<'_>, rrsig: &RRSIG, keys: &[&DNSKEY], work: &mut Work) -> Result<(), Fault> {
    let data = canonical::signed_data(&set.owner, rrsig, &set.rdata).ok_or(Fault::Malformed)?;
    for key in keys {
        if !work.signature_check() {
            return Err(Fault::Limit("more signature checks than one lookup may cost"));
        }
        if key.verify(&data, rrsig.sig()).is_ok() {
            return Ok(());
        }
    }
    Err(Fault::Mismatch(rrsig.input().key_tag))
}

/// Whether a signature is by one of these keys, whatever the time is.
pub(super) fn is_by(
    set: &RrSet<'_>,
    rrsig: &RRSIG,
    keys: &[(u16, DNSKEY)],
    limits: &Limits,
    work: &mut Work,
) -> bool {
    matching_keys(rrsig, keys, limits).is_ok_and(|keys| check(set, rrsig, &keys, work).is_ok())
}
