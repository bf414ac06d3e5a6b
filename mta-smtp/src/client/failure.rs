//! Why a session or a transaction did not come to its end: comparable values, told as text only at the edge.

use std::fmt;

use super::{ReplyError, Step};
use crate::reply::Reply;
use crate::sasl::SaslError;

/// A session failed: at which step, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The step.
    pub step: Step,
    /// The cause.
    pub cause: Cause,
}

impl Failure {
    /// The remote reply behind it, where there is one.
    pub fn reply(&self) -> Option<&Reply> {
        match &self.cause {
            Cause::Refused(reply) | Cause::ServiceClosing(reply) | Cause::Unexpected(reply) => Some(reply),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Refused(reply) => write!(f, "{} refused: {reply}", self.step),
            Cause::ServiceClosing(reply) => write!(f, "server closed the service at {}: {reply}", self.step),
            Cause::Unexpected(reply) => write!(f, "reply to {} makes no sense: {reply}", self.step),
            Cause::Malformed(error) => write!(f, "no SMTP reply to {}: {error}", self.step),
            Cause::Timeout => write!(f, "no reply to {} in time", self.step),
            Cause::WaitedTooLong => write!(f, "replies took too long in all, at {}", self.step),
            Cause::TimeIsUp => write!(f, "the time for one attempt was over at {}", self.step),
            Cause::TooManyReplyBytes => write!(f, "replies too long in all, at {}", self.step),
            Cause::Closed => write!(f, "server closed the connection at {}", self.step),
            Cause::WriteFailed => write!(f, "server took no more data at {}", self.step),
            Cause::StartTlsNotOffered => f.write_str("server does not offer STARTTLS"),
            Cause::InjectedPlaintext => f.write_str("plaintext behind the reply to STARTTLS"),
            Cause::NoMechanism => f.write_str("server offers no login mechanism we speak"),
            Cause::LoginUnprotected => f.write_str("login not sent: the server's identity was not verified"),
            Cause::Sasl(error) => write!(f, "login failed: {error}"),
            Cause::ContentFailed => f.write_str("the message's content could not be read"),
        }
    }
}

/// Why a session failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The server said no to a step without which nothing can follow.
    Refused(Reply),
    /// 421 (RFC 5321 3.8): the server is going away.
    ServiceClosing(Reply),
    /// A well-formed reply whose code makes no sense at that step.
    Unexpected(Reply),
    /// What came is no reply.
    Malformed(ReplyError),
    /// The step's deadline passed.
    Timeout,
    /// The session's bound on waiting was reached.
    WaitedTooLong,
    /// The time came that the driver had set as the end (`Session::end_at`).
    TimeIsUp,
    /// The session's bound on reply octets was reached.
    TooManyReplyBytes,
    /// The connection ended.
    Closed,
    /// A write failed or passed its deadline.
    WriteFailed,
    /// STARTTLS is required and was not offered.
    StartTlsNotOffered,
    /// Something stood behind the reply to STARTTLS that was not protected by TLS (CVE-2021-38371 class).
    InjectedPlaintext,
    /// No mechanism in common.
    NoMechanism,
    /// A login is wanted, but the connection is not a verified TLS connection.
    LoginUnprotected,
    /// The SASL exchange failed on our side.
    Sasl(SaslError),
    /// The driver could not read the content.
    ContentFailed,
}

/// Why a transaction was not even begun. Nothing was said to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotSent {
    /// The message is larger than the server's SIZE (RFC 1870 6.1).
    TooLarge {
        /// The server's limit, octets.
        limit_bytes: u64,
    },
    /// The message needs SMTPUTF8, which the server does not offer (RFC 6531 3.5).
    NeedsSmtpUtf8 {
        /// Its addresses need it; else its header fields do.
        addresses: bool,
    },
    /// The message needs REQUIRETLS, which the server does not offer (RFC 8689 4.2.1).
    NeedsRequireTls,
    /// The message is 8-bit, the server does not offer 8BITMIME, and we were told not to send it all the same.
    NeedsEightBitMime,
    /// BINARYMIME needs CHUNKING at both ends; we do not speak it.
    Binary,
    /// There is no recipient, or an address or parameter cannot be written on a command line.
    Unrepresentable,
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit_bytes } => {
                write!(f, "the message exceeds the server's limit of {limit_bytes} octets")
            }
            Self::NeedsSmtpUtf8 { addresses } => {
                let what = if *addresses { "addresses" } else { "header fields" };
                write!(f, "the message has internationalized {what}, and the server does not offer SMTPUTF8")
            }
            Self::NeedsRequireTls => {
                f.write_str("the message needs REQUIRETLS, which the server does not offer")
            }
            Self::NeedsEightBitMime => {
                f.write_str("the message is 8-bit, and the server does not offer 8BITMIME")
            }
            Self::Binary => f.write_str("the message is binary, which cannot be passed on"),
            Self::Unrepresentable => f.write_str("the envelope cannot be written as SMTP commands"),
        }
    }
}
