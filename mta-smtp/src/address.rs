//! Parts of an address (RFC 5321 4.1.2): domain, local-part, mailbox, reverse-path and forward-path.
//!
//! These are values that were already checked; the grammar lives in `parse`. Nothing here looks anything up.

use std::fmt;
use std::net::IpAddr;

/// A domain name as SMTP uses it: lower case, no trailing dot, each label at most 63 octets, at most 253 in all.
///
/// A name that came in as U-labels (RFC 6531) is kept as U-labels; the caller converts before DNS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(pub(crate) String);

impl Domain {
    /// The name, lower case and without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What stands behind the `@`: a domain or an address literal (RFC 5321 4.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A domain name.
    Domain(Domain),
    /// An address literal, `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
    Literal(IpAddr),
}

/// A mailbox, `local-part@domain`. The local-part is held unquoted; writing it out quotes it where needed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mailbox {
    pub(crate) local_part: String,
    pub(crate) host: Host,
}

impl Mailbox {
    /// The local-part, unquoted.
    pub fn local_part(&self) -> &str {
        &self.local_part
    }

    /// What stands behind the `@`.
    pub fn host(&self) -> &Host {
        &self.host
    }
}

/// The argument of MAIL: a mailbox, or the null reverse-path `<>` of a notification (RFC 5321 4.5.5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: a notification; nobody is told when it cannot be delivered.
    Null,
    /// Where notifications about this message go.
    Mailbox(Mailbox),
}

/// The argument of RCPT.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ForwardPath {
    /// `<Postmaster>` without a domain, which every server must accept (RFC 5321 4.5.1).
    Postmaster,
    /// An ordinary recipient.
    Mailbox(Mailbox),
}
