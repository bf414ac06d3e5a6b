//! Who sent this: SPF, DKIM, DMARC, ARC and iprev of strangers' mail.
//!
//! What it does: `verify` drives the evaluators over the daemon's own resolver, `policy` says what follows, `results` writes
//! Authentication-Results (RFC 8601) and finds forged ones. The evaluators do no I/O: `spf` is ours, DKIM, ARC and DMARC
//! are mail-auth's behind `library`, and all of them read [`facts`] and name what they miss, so that there is one view of
//! DNS. Bodies are hashed while they stream by (`body`). [`dkim`] signs what is ours, [`srs`] rewrites the sender of
//! what is forwarded. `author` says whether there is one author at all. What it does not: it never verifies mail of our own
//! networks.

mod author;
pub(crate) mod body;
pub mod dkim;
pub mod facts;
mod library;
pub(crate) mod policy;
pub(crate) mod results;
pub mod spf;
pub mod srs;
pub mod verdict;
mod verify;

use std::time::Duration;

pub use self::body::BodyHashes;
pub use self::verify::{Subject, Verifier};

/// What follows where a check fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Nothing but the word in Authentication-Results.
    #[default]
    Accept,
    /// A mark in the header section, for filters.
    Mark,
    /// The message is refused in the session.
    Reject,
}

/// What can be set about verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether strangers' mail is verified at all. Yes.
    pub verify: bool,
    /// SPF. Accept.
    pub spf: Action,
    /// DKIM. Accept.
    pub dkim: Action,
    /// DMARC. Mark.
    pub dmarc: Action,
    /// ARC. Accept.
    pub arc: Action,
    /// The client's name. Accept.
    pub iprev: Action,
    /// Domains whose ARC seals make up for a failure of DMARC. None.
    pub trusted_sealers: Vec<String>,
    /// DKIM signatures that are looked at in one message. 10.
    pub max_signatures: usize,
    /// DNS lookups for the client, and as many again for the signatures. 100.
    pub max_lookups: usize,
    /// How long all lookups for one message may take. 20 s.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            verify: true,
            spf: Action::Accept,
            dkim: Action::Accept,
            dmarc: Action::Mark,
            arc: Action::Accept,
            iprev: Action::Accept,
            trusted_sealers: Vec::new(),
            max_signatures: 10,
            max_lookups: 100,
            timeout: Duration::from_secs(20),
        }
    }
}

/// What hashes the body of a stranger's message, by what its signatures need.
pub(crate) fn digest_for(header: &[u8]) -> body::BodyDigest {
    let (relaxed, simple) = library::canonicalizations(header);
    body::BodyDigest::new(relaxed, simple)
}

/// The one domain of the authors of a message, lower case; `None` where there is none or more than one.
pub(crate) fn author(header: &[u8]) -> Option<String> {
    match library::authors(header).as_slice() {
        [one] => Some(one.to_ascii_lowercase()),
        _ => None,
    }
}
