//! What goes into a server session and what comes out of it.

use std::time::Instant;

use crate::address::ForwardPath;
use crate::address::ReversePath;
use crate::envelope::{Envelope, HeaderFacts, MailParameters, RcptParameters};
use crate::reply::Reply;
use crate::sasl::server::{Answer, ChannelBindings, Query};

/// What the driver tells the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<'a> {
    /// Octets from the client, in whatever pieces they came.
    Bytes(&'a [u8]),
    /// The answer to the question that is open.
    Verdict(Verdict),
    /// The TLS handshake asked for by `Output::StartTls` is done.
    TlsStarted(TlsInfo),
    /// Nothing came, but time passed.
    Tick,
    /// The client closed its side, the connection broke, or the TLS handshake failed.
    Eof,
    /// The server stops: end the session as soon as no message is cut short by it.
    Shutdown,
}

/// What TLS agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsInfo {
    /// The protocol version, `TLSv1.3`.
    pub version: String,
    /// The cipher suite, by its IANA name.
    pub cipher: String,
    /// The server name the client asked for, if any.
    pub sni: Option<String>,
    /// What a login can be bound to.
    pub bindings: ChannelBindings,
    /// Whether the client has shown a certificate.
    pub client_certificate: bool,
}

/// What the driver has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write these octets, all of them, before anything else.
    Send(Vec<u8>),
    /// Decide, and answer by `Input::Verdict` before polling again.
    Ask(Question),
    /// Do the TLS handshake, then answer by `Input::TlsStarted` or `Input::Eof`.
    StartTls,
    /// The next part of the content: dots removed, CR LF line ends throughout.
    Content(Vec<u8>),
    /// The content is refused: drop what was taken of it. The client hears of it at the end of data.
    ContentRefused(Reply),
    /// The client gave the message up between two chunks: drop what was taken of it.
    ContentDropped,
    /// The session refused something by itself; for the log only, the client is told by `Send`.
    Refused(Reply),
    /// Close the connection. The session is over.
    Close,
    /// Nothing to do before input comes or this time is reached (then `Input::Tick`).
    Wait {
        /// When to come back at the latest.
        until: Instant,
    },
}

/// What the session cannot decide by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A client connected. The positive verdict's reply is the greeting.
    Connect,
    /// The client gave its name.
    Helo {
        /// The name, as it came.
        name: String,
    },
    /// A login needs to know something. Answered by `Verdict::Auth`, or by a reply that ends the attempt.
    Auth(Query),
    /// A transaction begins.
    Mail {
        /// Who is told of failures.
        reverse_path: ReversePath,
        /// The parameters given.
        parameters: MailParameters,
    },
    /// A recipient.
    Rcpt {
        /// Who receives.
        path: ForwardPath,
        /// The parameters given.
        parameters: RcptParameters,
    },
    /// The content is about to come. The envelope is complete and now the driver's.
    Data {
        /// The envelope; it has at least one recipient.
        envelope: Envelope,
    },
    /// The content is complete and without fault: take responsibility, or refuse.
    ContentEnd {
        /// The size of the content, in octets.
        size_octets: u64,
        /// What its header section says; it belongs to the envelope that came with `Data`.
        header: HeaderFacts,
    },
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Yes, with the usual reply.
    Accept,
    /// Yes or no by the class of the reply.
    Reply(Reply),
    /// No, and close the connection after this reply.
    Close(Reply),
    /// The answer to `Question::Auth`.
    Auth(Answer),
}
