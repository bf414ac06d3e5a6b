//! The persistent mail queue: one SQLite database, one writer thread, group commit.

pub mod admin;
pub mod claim;
pub mod content;
pub mod error;
pub mod id;
pub mod message;
pub mod recipient;
pub mod record;
pub mod store;

mod time;

pub use admin::{Counts, DestinationSummary, Listed, Page, Selector, Shown, StoredAttempt, StoredResult};
pub use claim::{Claim, Claimed, ClaimedRecipient, Due, Slot};
pub use content::{Content, ContentReader, ContentWriter};
pub use error::{OpenError, QueueError};
pub use id::QueueId;
pub use message::{Message, NewMessage, Origin, OriginKind};
pub use recipient::{RecipientKey, RecipientState, StoredRecipient};
pub use record::{AttemptRecord, DestinationResult, RecipientOutcome, RecipientResult};
pub use store::{Options, Queue, Reader, Statistics};
