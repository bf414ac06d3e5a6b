//! The four DNSSEC statuses, and the answer type that everything above DNS reads.

use std::fmt;

use hickory_proto::rr::{Name, Record, RecordType};

/// What DNSSEC says of an answer (RFC 4033 5, RFC 7672 2.1.1). "Indeterminate" of RFC 4035 is `Unavailable` here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// A chain of signatures from a trust anchor covers all of it.
    Secure,
    /// It is proven that no such chain exists.
    Insecure,
    /// A chain should exist and does not hold.
    Bogus,
    /// No usable answer: error code, timeout, malformed or oversized reply, a limit was hit.
    Unavailable,
}

impl Status {
    /// Bogus and unavailable are one class for DANE: a lookup error (RFC 7672 2.1.2). Never "no DANE here".
    pub fn is_error(self) -> bool {
        matches!(self, Self::Bogus | Self::Unavailable)
    }

    /// The weaker of two: a chain of aliases is as strong as its weakest hop (RFC 7672 2.1.3).
    #[must_use]
    pub fn weakest(self, other: Self) -> Self {
        self.max(other)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secure => "secure",
            Self::Insecure => "insecure",
            Self::Bogus => "bogus",
            Self::Unavailable => "unavailable",
        })
    }
}

/// What kind of answer it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Records of the asked type exist.
    Data,
    /// The name exists (or may), the type does not.
    NoData,
    /// The name does not exist.
    NxDomain,
}

/// One alias that was followed: a CNAME, or a CNAME synthesised from a DNAME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The name that is an alias.
    pub owner: Name,
    /// What it stands for.
    pub target: Name,
    /// The status of this hop alone.
    pub status: Status,
}

/// The answer to one question, with every alias hop and its DNSSEC status.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The name that was asked for.
    pub name: Name,
    /// The type that was asked for.
    pub rtype: RecordType,
    /// The status of the whole: the weakest of the hops and the final records or denial.
    pub status: Status,
    /// Data, nodata or nxdomain. Meaningless (and `NoData`) where the status is an error.
    pub kind: Kind,
    /// The aliases followed from `name`, in order; empty where `name` is no alias.
    pub hops: Vec<Hop>,
    /// The records of the asked type at the end of the chain. Empty unless `kind` is `Data`.
    pub records: Vec<Record>,
    /// How long this may be reused, in seconds: bounded by TTLs and signature expiry (RFC 4035 5.3.3).
    pub ttl_seconds: u32,
    /// For errors, and for insecure answers where it helps: which record set, which rule, what to do.
    pub reason: Option<String>,
}

impl Answer {
    /// An answer that is an error, with its reason.
    pub fn error(name: Name, rtype: RecordType, status: Status, reason: impl Into<String>) -> Self {
        debug_assert!(status.is_error());
        Self {
            name,
            rtype,
            status,
            kind: Kind::NoData,
            hops: Vec::new(),
            records: Vec::new(),
            ttl_seconds: 0,
            reason: Some(reason.into()),
        }
    }

    /// The name at the end of the alias chain; the asked name where there is no alias.
    pub fn final_name(&self) -> &Name {
        self.hops.last().map_or(&self.name, |hop| &hop.target)
    }
}
