//! The envelope (RFC 5321 2.3.1): reverse-path, forward-paths, and the parameters that travel with them.
//!
//! Values only. Reading the parameters of MAIL and RCPT is `command`; keeping an envelope is the queue's.

use std::fmt;

use crate::address::{Mailbox, ReversePath};
use crate::parse::dsn as grammar;

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

impl Body {
    /// Reads the value of the BODY parameter, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        let known = [Self::SevenBit, Self::EightBitMime, Self::BinaryMime];
        known.into_iter().find(|body| body.as_str().eq_ignore_ascii_case(text))
    }

    /// The value of the BODY parameter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SevenBit => "7BIT",
            Self::EightBitMime => "8BITMIME",
            Self::BinaryMime => "BINARYMIME",
        }
    }
}

/// What a DSN about this message returns (the RET parameter, RFC 3461 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// The full message.
    Full,
    /// The header section only.
    Headers,
}

impl Ret {
    /// Reads the value of the RET parameter, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        grammar::whole(text, grammar::ret)
    }

    /// The value of the RET parameter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        }
    }
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

impl Notify {
    /// Reads the value of the NOTIFY parameter: `NEVER`, or a list of the others, each once.
    pub fn parse(text: &str) -> Option<Self> {
        grammar::whole(text, grammar::notify)
    }
}

/// The value of the NOTIFY parameter. A `Notify` that names nothing is written as `NEVER`.
impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let wanted: Vec<_> =
            words.iter().filter(|(wanted, _)| *wanted && !self.never).map(|(_, word)| *word).collect();
        if wanted.is_empty() { f.write_str("NEVER") } else { f.write_str(&wanted.join(",")) }
    }
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
    /// What the header section says; known once the content has come.
    pub header: HeaderFacts,
}

/// What the header section of a message says about how it may travel. Not a parameter, but it stays with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeaderFacts {
    /// It holds octets outside ASCII: with SMTPUTF8 these are internationalized fields (RFC 6532).
    pub eight_bit: bool,
    /// `TLS-Required: No` (RFC 8689 3): the sender would rather have it delivered than protected.
    pub tls_required_no: bool,
}

/// The parameters of RCPT.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RcptParameters {
    /// NOTIFY (RFC 3461 4.1).
    pub notify: Option<Notify>,
    /// ORCPT as `type;address`, address decoded from xtext (RFC 3461 4.2).
    pub orcpt: Option<String>,
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

impl Recipient {
    /// A recipient without parameters.
    pub fn new(mailbox: Mailbox) -> Self {
        Self { mailbox, notify: None, orcpt: None }
    }
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

impl Envelope {
    /// An envelope without parameters and recipients.
    pub fn new(reverse_path: ReversePath) -> Self {
        Self { reverse_path, parameters: MailParameters::default(), recipients: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notify_by_rfc3461_4_1() {
        for good in ["NEVER", "SUCCESS", "SUCCESS,FAILURE,DELAY", "DELAY"] {
            assert_eq!(Notify::parse(good).map(|n| n.to_string()), Some(good.to_owned()));
        }
        for bad in [
            "",
            "NEVER,DELAY",
            "DELAY,NEVER",
            "NEVER,NEVER",
            "DELAY,DELAY",
            "ALWAYS",
            "DELAY,",
            ",DELAY",
            "DELAY, FAILURE",
            "DELAYED",
        ] {
            assert_eq!(Notify::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn body_and_ret_in_any_case() {
        assert_eq!(Body::parse("8bitmime"), Some(Body::EightBitMime));
        assert_eq!(Body::parse("9BIT"), None);
        assert_eq!(Ret::parse("hdrs"), Some(Ret::Headers));
    }
}
