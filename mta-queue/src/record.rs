//! What an attempt led to, written in one transaction: states, next attempts, the decision record, the destination's
//! back-off and the notifications that follow from it.

use std::time::SystemTime;

use mta_smtp::reply::EnhancedStatus;

use crate::message::NewMessage;
use crate::recipient::RecipientKey;

/// The record of one attempt for the recipients of one claim.
#[derive(Debug)]
pub struct AttemptRecord {
    /// When the attempt ended.
    pub at: SystemTime,
    /// What became of each recipient. Recipients of the claim that are not named stay as they were.
    pub results: Vec<RecipientResult>,
    /// The decision record as JSON. Longer ones than `Options::max_decision_bytes` are left out.
    pub decision: Option<String>,
    /// What it says about the destinations of these recipients as a whole.
    pub destination: DestinationResult,
    /// The sender was told of the delay: the notification is among `notifications`.
    pub delay_notified: bool,
    /// Notifications that enter the queue together with this record.
    pub notifications: Vec<NewMessage>,
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientResult {
    /// Which.
    pub key: RecipientKey,
    /// Its new state.
    pub outcome: RecipientOutcome,
    /// The enhanced status code.
    pub status: EnhancedStatus,
    /// The remote reply, or our reason, without control characters; cut at `Options::max_reply_bytes`.
    pub reply: String,
    /// The MX host or relay host, where one was spoken to.
    pub remote: Option<String>,
}

/// The new state of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecipientOutcome {
    /// Somebody else is responsible now.
    Delivered,
    /// Tried again, not before the given time.
    Deferred {
        /// The earliest next attempt.
        next_attempt_at: SystemTime,
    },
    /// Given up after a permanent failure.
    Failed,
    /// Given up at the end of the queue lifetime.
    Expired,
}

/// What an attempt says about its destination as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestinationResult {
    /// Nothing: the cause was the message, a recipient, or ourselves.
    Unknown,
    /// It answers: its failures are forgotten and all that waited for it is due by its own time.
    Works,
    /// It failed as a whole: one more failure, and nothing is tried before the given time.
    Failed {
        /// The earliest next attempt for anything to it.
        not_before: SystemTime,
    },
}
