//! The envelope (RFC 5321 2.3.1): reverse-path, forward-paths, and the parameters that travel with them.

use crate::address::{Mailbox, ReversePath};

/// How the content is encoded (the BODY parameter, RFC 6152 and RFC 3030).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Body {
    /// `7BIT`, the default.
    #[default]
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
    /// `BINARYMIME`, passed on only by BDAT.
    BinaryMime,
}

/// What a DSN about this message returns (the RET parameter, RFC 3461 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// The full message.
    Full,
    /// The header section only.
    Headers,
}

/// When the sender wants a DSN about a recipient (the NOTIFY parameter, RFC 3461 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notify {
    /// `NEVER`; then all others are false.
    pub never: bool,
    /// `SUCCESS`.
    pub success: bool,
    /// `FAILURE`.
    pub failure: bool,
    /// `DELAY`.
    pub delay: bool,
}

/// The parameters of MAIL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MailParameters {
    /// SIZE as the client declared it, in octets (RFC 1870). A hint, never an allocation.
    pub size_bytes: Option<u64>,
    /// BODY.
    pub body: Body,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// RET (RFC 3461).
    pub ret: Option<Ret>,
    /// ENVID, decoded from xtext (RFC 3461 4.4).
    pub envid: Option<String>,
}

/// One recipient with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Where the message goes. A bare `<Postmaster>` was given our own domain before it came here.
    pub mailbox: Mailbox,
    /// NOTIFY (RFC 3461); `None` is the default behaviour: failure and delay.
    pub notify: Option<Notify>,
    /// ORCPT as `type;address`, address decoded from xtext (RFC 3461 4.2).
    pub orcpt: Option<String>,
}

/// An envelope: who is told of failures, and who receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The reverse-path.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// The recipients, in the order given.
    pub recipients: Vec<Recipient>,
}
