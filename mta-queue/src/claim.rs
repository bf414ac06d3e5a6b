//! Claims: due work in the hands of the scheduler.
//!
//! What it does: finds by index the destinations whose time has come and, in each, the due recipients, grouped by message
//! and next-hop. What it does not: it decides nothing about how many at once or where to; the caller says so for each
//! destination (`Slot`). A claim is in memory only: a killed process forgets it and the recipients are due again.

use std::time::SystemTime;

use mta_smtp::envelope::Recipient;

use crate::message::Message;
use crate::recipient::RecipientKey;

/// A due destination, as the caller is asked about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due<'a> {
    /// The recipient domain, lower case, or an address literal in brackets.
    pub destination: &'a str,
    /// Attempts in a row in which the destination as a whole failed.
    pub failures: u32,
}

/// What the caller answers about a due destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot<K> {
    /// Up to so many messages may be claimed for it, at least one. Recipients of one message whose destinations lead to
    /// an equal next-hop come in one claim.
    Take {
        /// The next-hop all this leads to.
        next_hop: K,
        /// How many messages.
        messages: usize,
    },
    /// Not now; it is asked about again at the next call.
    Busy,
    /// Its next-hop is not to be tried before this time. Written down, so that it is not asked about before.
    NotBefore(SystemTime),
}

/// One message's due recipients for one next-hop. Dropping it releases the recipients as they were: they are due again.
#[derive(Debug)]
pub struct Claim<K> {
    /// The message.
    pub message: Message,
    /// Where its recipients lead.
    pub next_hop: K,
    /// The recipients, at least one.
    pub recipients: Vec<ClaimedRecipient>,
    /// Keeps others from claiming the same.
    pub(crate) guard: ClaimGuard,
}

/// A recipient in a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedRecipient {
    /// Its key, for the record of the attempt.
    pub key: RecipientKey,
    /// The mailbox with the parameters of RCPT.
    pub recipient: Recipient,
    /// The destination under which it waits.
    pub destination: String,
    /// Attempts made before.
    pub attempts: u32,
    /// Failures in a row of its destination as a whole.
    pub destination_failures: u32,
}

/// What a call for due work gave.
#[derive(Debug)]
pub struct Claimed<K> {
    /// The claims, the longest due destination first.
    pub claims: Vec<Claim<K>>,
    /// There is more due than was asked for.
    pub more: bool,
    /// When the next work falls due, of what is not due now.
    pub next_due: Option<SystemTime>,
}

/// Releases recipients when dropped.
#[derive(Debug)]
pub(crate) struct ClaimGuard {}
