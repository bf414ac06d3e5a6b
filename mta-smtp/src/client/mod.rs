//! The client session: one connection to one SMTP server, without I/O.

mod limits;

pub use limits::Limits;

/// What to do with 8-bit content when the server does not offer 8BITMIME (RFC 6152 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EightBit {
    /// Send it as it is, without the BODY parameter, as Exim, qmail and OpenSMTPD do. Every server of the last twenty
    /// years is 8-bit clean, and a conversion would break the signatures of the author's domain. The default.
    #[default]
    Send,
    /// Refuse with 5.6.3, as the letter of the RFC has it for a client that does not convert.
    Refuse,
}
