//! A recipient of a stored message: its state, its attempts, and how it is written to the database.

use std::time::SystemTime;

use mta_smtp::envelope::Recipient;

/// The database's name for one recipient of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecipientKey {
    pub(crate) message: i64,
    pub(crate) n: i64,
}

/// What state a recipient is in. `lib.rs` says what each guarantees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecipientState {
    /// Waits for its next attempt: new, or deferred.
    Waiting,
    /// Waits for the administrator.
    Held,
    /// Somebody else is responsible now.
    Delivered,
    /// Given up after a permanent failure.
    Failed,
    /// Given up at the end of the queue lifetime.
    Expired,
    /// Taken out by the administrator, without notification.
    Dropped,
    /// Its row, or its message's, cannot be read. Set aside for the administrator.
    Damaged,
}

impl RecipientState {
    /// All states, in the order in which they are shown.
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Held,
        Self::Delivered,
        Self::Failed,
        Self::Expired,
        Self::Dropped,
        Self::Damaged,
    ];

    /// The word for it in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
            Self::Damaged => "damaged",
        }
    }

    /// True where nothing will happen with the recipient any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Waiting | Self::Held | Self::Damaged)
    }

    /// The number in the database. Numbers are never given a new meaning.
    pub(crate) fn code(self) -> i64 {
        match self {
            Self::Waiting => 0,
            Self::Held => 1,
            Self::Delivered => 2,
            Self::Failed => 3,
            Self::Expired => 4,
            Self::Dropped => 5,
            Self::Damaged => 6,
        }
    }

    /// The state for a number in the database; one we do not know counts as damaged.
    pub(crate) fn from_code(code: i64) -> Self {
        Self::ALL.into_iter().find(|state| state.code() == code).unwrap_or(Self::Damaged)
    }
}

/// A recipient as the queue shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecipient {
    /// Its key.
    pub key: RecipientKey,
    /// The mailbox with the parameters of RCPT.
    pub recipient: Recipient,
    /// The destination under which it waits: its domain, lower case, or its address literal; `domain via next-hop`
    /// where the administrator chose the next hop.
    pub destination: String,
    /// Why it is held.
    pub note: Option<String>,
    /// Its state.
    pub state: RecipientState,
    /// Attempts that were made for it.
    pub attempts: u32,
    /// When it is tried next, where it waits. The destination's own back-off may make it later.
    pub next_attempt_at: Option<SystemTime>,
    /// When it was last tried.
    pub last_attempt_at: Option<SystemTime>,
    /// The enhanced status code of the last attempt, `4.7.5`.
    pub last_status: Option<String>,
    /// The remote reply, or our reason, of the last attempt.
    pub last_reply: Option<String>,
    /// The MX host or relay host that gave it.
    pub last_remote: Option<String>,
}
