//! The persistent mail queue: one SQLite database, one writer thread, group commit.

pub mod admin;
pub mod claim;
pub mod content;
pub mod error;
pub mod id;
pub mod message;
pub mod reader;
pub mod recipient;
pub mod record;
pub mod schedule;
pub mod store;

mod accept;
mod change;
mod destination;
mod rows;
mod schema;
mod time;
mod totals;
mod writer;

pub use admin::{Counts, DestinationSummary, Listed, Page, Selector, Shown, StoredAttempt, StoredResult};
pub use claim::{Claim, Claimed, ClaimedRecipient, Due, Planner, Slot};
pub use content::{Content, ContentReader, ContentWriter};
pub use error::{OpenError, QueueError};
pub use id::QueueId;
pub use message::{Message, NewMessage, Origin, OriginKind};
pub use reader::Reader;
pub use recipient::{RecipientKey, RecipientState, StoredRecipient};
pub use record::{AttemptRecord, DestinationResult, RecipientOutcome, RecipientResult};
pub use schedule::Schedule;
pub use store::{Options, Queue, Statistics};
