//! What became of each recipient in one attempt: a value, typed by reach and permanence, never an error.
//!
//! The classification is here and nowhere else. Whoever reads an outcome (queue, log line, DSN) needs no text parsing.

use std::net::SocketAddr;

use mta_smtp::envelope::Recipient;
use mta_smtp::reply::{EnhancedStatus, Reply};

/// What is to happen with the recipient now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The remote server took responsibility for this recipient.
    Delivered,
    /// Try again later.
    Deferred,
    /// It will never work: tell the sender.
    Failed,
}

/// How far the cause reaches. A cause that reaches further concerns other mail too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reach {
    /// This recipient alone.
    Recipient,
    /// This message, for all its recipients here.
    Message,
    /// This connection: the next one may fare better.
    Session,
    /// This MX host or relay host.
    Host,
    /// The next-hop as a whole: all its hosts, or its DNS.
    NextHop,
    /// We ourselves: no resolver, no network, an unreadable secret. Says nothing about the destination.
    Site,
}

/// Which remote server was spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// The MX host or relay host, A-labels without a trailing dot.
    pub host: String,
    /// The address and port, where a connection was tried.
    pub address: Option<SocketAddr>,
}

/// The outcome for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Delivered, deferred or failed.
    pub verdict: Verdict,
    /// How far the cause reaches.
    pub reach: Reach,
    /// The enhanced status code for DSN and log: the remote one where it fits the verdict, else ours.
    pub status: EnhancedStatus,
    /// One sentence without control characters: why.
    pub text: String,
    /// The remote reply that decided, where one did.
    pub reply: Option<Reply>,
    /// The remote server that decided, where one did.
    pub remote: Option<Remote>,
}

/// One recipient and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientOutcome {
    /// The recipient as the job named it.
    pub recipient: Recipient,
    /// What became of it.
    pub outcome: Outcome,
}
