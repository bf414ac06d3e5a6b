//! DNSSEC validation without I/O (RFC 4033 to 4035, 5155, 6840, 9276): one question in, sub-queries out, raw responses
//! in, and at the end one [`Answer`] that says secure, insecure, bogus or unavailable, and why.
//!
//! What it does not: it sends nothing, knows no clock and picks no server. The transport compares the id and the question
//! of a response with what it sent, repeats over TCP what came truncated, and asks with the DO bit and, of a forwarder, the CD
//! bit (so that what is bogus arrives and can be explained). Whatever the transport hands over is judged here, whoever sent it.
//!
//! How it works. [`Lookup`] keeps every response of the lookup and evaluates the question anew whenever one arrives; an
//! evaluation that lacks a response says which and stops. Nothing is half done, so there is no state to get wrong:
//!
//! * `alias` follows the CNAME and DNAME chain from the question, so records that are off the chain are never looked at;
//! * `chain` walks from the trust anchor to a zone, one label at a time, and finds each zone cut (secure, insecure, none);
//! * `rrset` and `signature` judge one record set with the keys of its zone; `canonical` is the form that was signed;
//! * `denial`, `nsec` and `nsec3` judge proofs that something does not exist;
//! * `cache` keeps what was proven: keys, zone cuts, answers; `limits` bounds every kind of work a stranger can cause.
//!
//! The direction of every doubt: insecure is said only where a validated record of the parent proves that the
//! delegation is insecure; everything else that cannot be proven is bogus (it came and does not hold) or unavailable (it did
//! not come), and for DANE both delay the mail (RFC 7672 2.1.2).

//!
//! Where the verdict differs from unbound's on purpose:
//!
//! * Ed448 (algorithm 16) is not supported by the cryptography underneath, so such a zone is insecure (RFC 4035 5.2).
//! * A denial with more NSEC3 iterations than [`Limits::nsec3_iterations`] is unavailable, not insecure: whoever can raise the
//!   iterations of a zone could otherwise switch DANE off (RFC 9276 3.2 leaves the choice).
//! * Signature times are taken as they stand (RFC 4035 5.3.1), without unbound's tolerance of up to a day.
//! * A name outside of every trust anchor is unavailable: without an anchor nothing is proven, not even insecurity.
//! * A SHA-1 digest in a DS record counts for nothing where there is a better one (RFC 4509 3).
//! * A denial is proven by its NSEC or NSEC3 records; a SOA record beside them without signature makes it no worse.
//! * A denial is what its proof says; the response code counts only where nothing is signed.

mod alias;
mod anchors;
mod cache;
mod canonical;
mod chain;
mod clock;
mod denial;
mod known;
mod limits;
mod lookup;
mod names;
mod nsec;
mod nsec3;
mod reply;
mod rrset;
mod signature;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

use hickory_proto::rr::{Name, RecordType};

pub use self::anchors::{AnchorError, TrustAnchors};
pub use self::cache::{Cache, CacheLimits, CacheStats};
pub use self::chain::clock_verdict;
pub use self::clock::ClockVerdict;
pub use self::known::{KnownZone, ZoneProof};
pub use self::limits::Limits;
pub use self::lookup::Lookup;
use crate::dnssec::Answer;

/// What all lookups share: trust anchors, limits and the cache. Put it into an `Arc`.
#[derive(Debug)]
pub struct Validator {
    anchors: TrustAnchors,
    limits: Limits,
    cache: Mutex<Cache>,
}

impl Validator {
    /// A validator with an empty cache.
    pub fn new(anchors: TrustAnchors, limits: Limits, cache: CacheLimits) -> Self {
        Self { anchors, limits, cache: Mutex::new(Cache::new(cache)) }
    }

    /// The trust anchors in use.
    pub fn anchors(&self) -> &TrustAnchors {
        &self.anchors
    }

    /// The limits in use.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How full the cache is and how often it served.
    pub fn cache_stats(&self) -> CacheStats {
        self.cache().stats()
    }

    /// Forgets everything: after the clock was set, or at an administrator's word.
    pub fn clear_cache(&self) {
        self.cache().clear();
    }

    /// Forgets one answer, so that the next lookup asks again (a TLSA set that did not match what the host served).
    pub fn forget(&self, name: &Name, rtype: RecordType) {
        self.cache().forget_answer(name, rtype);
    }

    /// The cache; a panic of another holder leaves it usable, since every entry is complete when it goes in.
    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names one sub-query of one lookup; unique within that lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryId(pub u32);

/// What a lookup wants next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Ask this (class IN, DO bit set) and hand the response to [`Lookup::handle`] under this id. Several may be
    /// outstanding at once; ask [`Lookup::poll`] again until it answers something else.
    Query {
        /// To be given back with the response.
        id: QueryId,
        /// The name to ask for.
        name: Name,
        /// The type to ask for.
        rtype: RecordType,
    },
    /// Nothing to do until a response to an outstanding query arrives.
    Wait,
    /// The lookup is over; every further poll gives the same.
    Done(Box<Answer>),
}

/// Why no response came that could be read. Each makes what depends on it unavailable, never insecure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportFailure {
    /// No response in time, from any server that was tried.
    Timeout,
    /// The network or the socket said no.
    Network(String),
    /// What came is no DNS message, or larger than the transport takes.
    Malformed(String),
    /// The transport gave up for its own reason: no server configured, the lookup's deadline, shutting down.
    GivenUp(String),
}

impl std::fmt::Display for TransportFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout => f.write_str("no response in time"),
            Self::Network(why) => write!(f, "network error: {why}"),
            Self::Malformed(why) => write!(f, "unreadable response: {why}"),
            Self::GivenUp(why) => f.write_str(why),
        }
    }
}
