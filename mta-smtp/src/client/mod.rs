//! The client session: one connection to one SMTP or LMTP server, without I/O (RFC 5321, 2920, 3207, 4954, 2033).
//!
//! The driver owns socket, TLS and clock. It feeds [`Input`]s to [`Session::handle`] and does what [`Session::poll`]
//! says until that is [`Output::Wait`]. What the session does: greeting, EHLO, STARTTLS, AUTH, any number of
//! transactions, QUIT; it matches each reply to its command and bounds all of them in octets, lines and time. What it
//! does not: it chooses no host, verifies no certificate, and classifies no reply as "try again" or "give up": it
//! reports what happened, step by step.

mod capabilities;
mod command;
mod failure;
mod limits;
mod session;
mod transaction;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Instant;

pub use crate::parse::reply::{ReplyError, ReplyReader};
pub use capabilities::Capabilities;
pub use failure::{Cause, Failure, NotSent};
pub use limits::Limits;
pub use session::Session;
pub use transaction::{Decided, Transaction, TransactionReport};

use crate::reply::Reply;
use crate::sasl::Credentials;

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

/// Which of the two protocols is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// SMTP: one verdict on a message.
    #[default]
    Smtp,
    /// LMTP (RFC 2033): LHLO, and a verdict for each recipient that was taken.
    Lmtp,
}

/// How the session uses TLS. The session only keeps order; whether a certificate is good is the driver's to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsUse {
    /// TLS from the first byte: the driver did the handshake before it made the session.
    Implicit {
        /// Whether the server's identity was proved.
        verified: bool,
    },
    /// STARTTLS or nothing.
    Required,
    /// STARTTLS where it is offered and accepted, plaintext else.
    IfOffered,
    /// Plaintext, whatever is offered.
    Never,
}

/// What a session is made with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// The name we give in EHLO.
    pub host_name: String,
    /// Use of TLS.
    pub tls: TlsUse,
    /// The login, where one is wanted. Used inside verified TLS only; the session fails where that is not to be had.
    pub credentials: Option<Credentials>,
    /// What happens to 8-bit content when the server does not offer 8BITMIME.
    pub eight_bit: EightBit,
    /// Deadlines and bounds.
    pub limits: Limits,
}

/// What the driver tells the session.
#[derive(Debug)]
pub enum Input<'a> {
    /// Bytes from the server.
    Bytes(&'a [u8]),
    /// The server closed the connection, or reading failed.
    Eof,
    /// Writing failed or passed its deadline.
    WriteFailed,
    /// The time that `Output::Wait` named has come.
    Tick,
    /// The handshake asked for by `Output::StartTls` succeeded.
    TlsStarted {
        /// Whether the server's identity was proved by what the policy asks for.
        verified: bool,
    },
    /// Begin a transaction; taken at `Output::Ready`.
    Transaction(Box<Transaction>),
    /// The next part of the content; taken at `Output::NeedContent`.
    Content {
        /// The part, any number of octets.
        bytes: &'a [u8],
        /// Whether it was the last one.
        last: bool,
    },
    /// The content cannot be read further. The session ends without the end of data, so nothing is delivered.
    ContentFailed,
    /// Say goodbye; taken at `Output::Ready` and after a refusal.
    Quit,
}

/// What the driver is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Write all of this, and drop the connection if that is not done by the deadline.
    Send {
        /// The bytes.
        bytes: Vec<u8>,
        /// The deadline.
        until: Instant,
    },
    /// For the record: the server answered this step.
    Replied {
        /// What was answered.
        step: Step,
        /// The answer.
        reply: Reply,
    },
    /// Do the TLS handshake now, then give `Input::TlsStarted`; drop the session if it fails. Asked until answered.
    StartTls,
    /// Nothing is under way: give `Input::Transaction` or `Input::Quit`. Said until answered.
    Ready,
    /// Give `Input::Content` or `Input::ContentFailed`. Asked until answered.
    NeedContent,
    /// A transaction is over. If it broke, so is the session.
    Done(Box<TransactionReport>),
    /// The session failed outside any transaction.
    Failed(Failure),
    /// Read from the server; give `Input::Tick` at this time.
    Wait {
        /// The time.
        until: Instant,
    },
    /// The session is over: close the connection. `Input::Quit` is still taken once after a refusal.
    Close,
}

/// The steps of a session that a server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The greeting.
    Greeting,
    /// EHLO; the second one, inside TLS, too.
    Ehlo,
    /// HELO, after EHLO was refused.
    Helo,
    /// STARTTLS.
    StartTls,
    /// AUTH and its responses.
    Auth,
    /// RSET before another transaction.
    Rset,
    /// MAIL.
    Mail,
    /// RCPT of the recipient with this index.
    Rcpt(usize),
    /// DATA.
    Data,
    /// The content itself, while it is being sent.
    Content,
    /// The end of data.
    EndOfData,
    /// QUIT.
    Quit,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "greeting",
            Self::Ehlo => "EHLO",
            Self::Helo => "HELO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Rset => "RSET",
            Self::Mail => "MAIL",
            Self::Rcpt(_) => "RCPT",
            Self::Data => "DATA",
            Self::Content => "content",
            Self::EndOfData => "end of data",
            Self::Quit => "QUIT",
        })
    }
}

/// How STARTTLS came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartTlsResult {
    /// TLS was there from the first byte.
    Implicit,
    /// It was done.
    Done,
    /// The server did not offer it.
    NotOffered,
    /// The server offered it and refused it.
    Refused,
    /// We did not get so far, or did not want it.
    #[default]
    NotUsed,
}
