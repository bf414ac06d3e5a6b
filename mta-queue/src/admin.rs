//! What the administrator sees and does: lists with selectors, one message in full, retry, drop, hold, release, counts.
//!
//! Reading needs only the database file (`Reader`); changes go through the open queue. Changes to many messages are made
//! in pieces, so that they never hold up the mail.

use std::time::SystemTime;

use crate::id::QueueId;
use crate::message::Message;
use crate::recipient::{RecipientState, StoredRecipient};

/// Which messages. Every field that is set must fit; the default fits all that are still in the queue. Conditions on a
/// recipient are about one that is not final, unless a final state or the history is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// These ids only, where not empty.
    pub ids: Vec<QueueId>,
    /// A recipient in this state. Without it only messages that still wait or are held or damaged fit.
    pub state: Option<RecipientState>,
    /// A recipient of this destination (domain, lower case).
    pub destination: Option<String>,
    /// A recipient whose mailbox is this, or contains it where it has no `@`; letters of ASCII in either case.
    pub recipient: Option<String>,
    /// The reverse-path is this, or contains it where it has no `@`; `<>` is the null reverse-path.
    pub reverse_path: Option<String>,
    /// Arrived before this time.
    pub received_before: Option<SystemTime>,
    /// Arrived at this time or later.
    pub received_since: Option<SystemTime>,
    /// The last reply or reason of a recipient contains this; or its enhanced status code is this or begins with it
    /// (`4.7`), or is of this class of RFC 3463: address, mailbox, system, network, protocol, content, policy.
    pub reason: Option<String>,
    /// A recipient whose last reply came from this host, or from one whose name contains it; or whose next hop the
    /// administrator chose so.
    pub next_hop: Option<String>,
    /// A recipient that was (or was not) tried before.
    pub attempted: Option<bool>,
    /// Its Message-ID is this, without brackets.
    pub message_id: Option<String>,
    /// None behind this id: what came later is not meant.
    pub up_to: Option<QueueId>,
    /// What this system user handed in on this machine, and nothing else.
    pub owner: Option<String>,
    /// History too: messages whose recipients are all final. Only as many as are kept.
    pub finished: bool,
}

/// Part of a list: ids above `after`, at most `limit` of them, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The last id of the page before.
    pub after: Option<QueueId>,
    /// Messages at most.
    pub limit: usize,
}

/// A message with its recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The message.
    pub message: Message,
    /// When its last recipient became final.
    pub finished_at: Option<SystemTime>,
    /// Its recipients in the order of the envelope.
    pub recipients: Vec<StoredRecipient>,
}

/// A message in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The message and its recipients.
    pub listed: Listed,
    /// Attempts, oldest first; of many the first and the latest.
    pub attempts: Vec<StoredAttempt>,
    /// What the administrator did to it, oldest first.
    pub events: Vec<StoredEvent>,
}

/// Something the administrator did to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// When.
    pub at: SystemTime,
    /// `held`, `released`, `dropped`, `redirected`, `rerouted` or `bounced`.
    pub what: String,
    /// Who did it.
    pub who: String,
    /// For whom, to where, and why.
    pub detail: Option<String>,
}

/// Who changes something, and why: kept in the message's history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct By<'a> {
    /// The user.
    pub who: &'a str,
    /// The reason; empty where none was given.
    pub reason: &'a str,
}

/// How many recipients a change concerned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// Changed.
    pub recipients: u64,
    /// Left alone, because a delivery is under way.
    pub busy: u64,
    /// The message to go on behind; `None` at the end.
    pub last: Option<QueueId>,
}

/// What an edit makes of recipients that are not final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Another mailbox.
    Mailbox(mta_smtp::address::Mailbox),
    /// The same local-part at another domain.
    Domain(mta_smtp::address::Domain),
    /// Another next hop, as text that the caller's planner understands; `None` is the usual one. Without spaces.
    Via(Option<String>),
}

/// A rule that holds mail to come. What is set must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HoldRule {
    /// Its number; given when it is added.
    pub id: i64,
    /// A recipient: an address, `@domain`, or part of an address.
    pub recipient: Option<String>,
    /// The reverse-path: an address, `@domain`, part of an address, or `<>`.
    pub reverse_path: Option<String>,
    /// Why.
    pub reason: String,
    /// Who made it.
    pub who: String,
    /// When it was made; set when it is added.
    pub created_at: Option<SystemTime>,
    /// It holds nothing from this time on.
    pub until: Option<SystemTime>,
}

/// Something that stands still by the administrator's wish, across restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// `in`, `out`, `local`, or `dest:NAME`.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Who wished it.
    pub who: String,
    /// Since when.
    pub since: SystemTime,
    /// It ends by itself at this time.
    pub until: Option<SystemTime>,
}

/// One attempt of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAttempt {
    /// When it ended; of several the last.
    pub at: SystemTime,
    /// When the first of several ended.
    pub first_at: Option<SystemTime>,
    /// How many of the same kind in a row it stands for: more than one only of those that were put off.
    pub times: u32,
    /// The mailboxes it was made for, with state word, status and reply.
    pub results: Vec<StoredResult>,
    /// The decision record as JSON.
    pub decision: Option<String>,
}

/// What an attempt of the past led to for one recipient.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StoredResult {
    /// The mailbox.
    pub recipient: String,
    /// `delivered`, `deferred`, `put-off`, `failed` or `expired`.
    pub outcome: String,
    /// The enhanced status code.
    pub status: String,
    /// The reply or reason.
    pub reply: String,
    /// The remote host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
}

/// How much is in the queue. Kept up to date with each transaction; reading them costs the same at any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages with a recipient that is not final.
    pub messages: u64,
    /// Content of these in octets.
    pub content_bytes: u64,
    /// Recipients that wait.
    pub waiting: u64,
    /// Recipients that are held.
    pub held: u64,
    /// Recipients set aside as damaged.
    pub damaged: u64,
    /// Messages kept as history.
    pub finished: u64,
    /// Messages accepted since the queue was made.
    pub accepted_total: u64,
    /// Recipients delivered since the queue was made.
    pub delivered_total: u64,
    /// Recipients failed or expired since the queue was made.
    pub failed_total: u64,
}

/// What waits for one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationSummary {
    /// The domain or address literal.
    pub destination: String,
    /// Recipients that wait.
    pub waiting: u64,
    /// Recipients that are held or set aside.
    pub held: u64,
    /// Failures in a row of the destination as a whole.
    pub failures: u32,
    /// Nothing is tried before this time.
    pub not_before: Option<SystemTime>,
    /// When the next work for it falls due.
    pub due_at: Option<SystemTime>,
    /// Why it last failed as a whole.
    pub last_reply: Option<String>,
}
