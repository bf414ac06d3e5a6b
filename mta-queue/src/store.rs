//! The open queue.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::admin::{Counts, DestinationSummary, Listed, Page, Selector, Shown};
use crate::claim::{Claim, Claimed, Due, Slot};
use crate::content::{ContentReader, ContentWriter};
use crate::error::{OpenError, QueueError};
use crate::id::QueueId;
use crate::message::NewMessage;
use crate::record::AttemptRecord;

/// Bounds and sizes of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Free space the file system keeps: below it nothing is accepted (`QueueError::NoSpace`). Octets.
    pub reserve_bytes: u64,
    /// Content up to this size lies in the database, larger in a file beside it; also the memory one incoming message
    /// takes. Octets.
    pub inline_bytes: usize,
    /// Finished messages that are kept as history.
    pub history_messages: u64,
    /// How long finished messages are kept as history.
    pub history_age: Duration,
    /// Attempts kept for each message: the first and the latest.
    pub attempts_kept: usize,
    /// A decision record longer than this is left out. Octets.
    pub max_decision_bytes: usize,
    /// A reply or reason longer than this is cut. Octets.
    pub max_reply_bytes: usize,
    /// SQLite's page cache for the writer. Octets.
    pub cache_bytes: usize,
    /// The write-ahead log is folded into the database at this size. Octets.
    pub wal_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reserve_bytes: 64 << 20,
            inline_bytes: 64 << 10,
            history_messages: 10_000,
            history_age: Duration::from_secs(14 * 86_400),
            attempts_kept: 10,
            max_decision_bytes: 16 << 10,
            max_reply_bytes: 1_024,
            cache_bytes: 2 << 20,
            wal_bytes: 4 << 20,
        }
    }
}

/// What the writer did since the queue was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Commits that were synced before anybody was answered.
    pub full_commits: u64,
    /// Commits without a sync.
    pub normal_commits: u64,
    /// Operations in all of them.
    pub operations: u64,
    /// Files of large content that were synced (each with its directory).
    pub files_synced: u64,
}

/// The queue, open for reading and writing. Cheap to clone; all clones share one writer thread.
#[derive(Debug, Clone)]
pub struct Queue {}

impl Queue {
    /// Opens the queue in `directory`, making both where they do not exist, and recovers what a killed process left.
    ///
    /// # Errors
    /// `OpenError`, each a sentence for the administrator.
    pub fn open(_directory: &Path, _options: Options) -> Result<Self, OpenError> {
        todo!()
    }

    /// A new id, unique for this queue.
    pub fn new_id(&self) -> QueueId {
        todo!()
    }

    /// A place for the content of a message that is arriving.
    pub fn content(&self) -> ContentWriter {
        todo!()
    }

    /// Whether a message of this size fits beside the reserve; asked at MAIL.
    ///
    /// # Errors
    /// `QueueError::NoSpace` where it does not.
    pub fn check_space(&self, _size_bytes: u64) -> Result<(), QueueError> {
        todo!()
    }

    /// Takes responsibility for a message. `done` is called on the writer's thread: with `Ok` after the commit that holds
    /// the message is on stable storage, otherwise nothing was stored. It must not block.
    pub fn accept(&self, _message: NewMessage, _done: impl FnOnce(Result<(), QueueError>) + Send + 'static) {
        todo!()
    }

    /// Claims due work: up to `limit` claims. `slot` is asked about each due destination.
    ///
    /// # Errors
    /// What the database reports.
    pub fn claim<K: Clone + PartialEq>(
        &self,
        _now: SystemTime,
        _limit: usize,
        _slot: &mut dyn FnMut(Due<'_>) -> Slot<K>,
    ) -> Result<Claimed<K>, QueueError> {
        todo!()
    }

    /// Writes what the attempt for a claim led to, and releases it. `done` is called on the writer's thread after the
    /// commit. That commit is synced only where notifications came with it.
    pub fn record<K>(
        &self,
        _claim: Claim<K>,
        _record: AttemptRecord,
        _done: impl FnOnce(Result<(), QueueError>) + Send + 'static,
    ) {
        todo!()
    }

    /// Calls `wake` (on the writer's thread, after the commit) whenever work may have become due earlier than the last
    /// `claim` said: an accept, a retry, a release. It must not block.
    pub fn on_work(&self, _wake: Arc<dyn Fn() + Send + Sync>) {
        todo!()
    }

    /// The content of a stored message.
    ///
    /// # Errors
    /// What the database or the disk reports; `Invalid` where there is no such message or its content is gone.
    pub fn content_reader(&self, _id: QueueId) -> Result<ContentReader, QueueError> {
        todo!()
    }

    /// The reading side, for lists and counts.
    pub fn reader(&self) -> Reader {
        todo!()
    }

    /// Makes the selected messages due now, whatever their next attempt was, and forgets the failures of their
    /// destinations. Returns how many recipients. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn retry(&self, _which: &Selector, _now: SystemTime) -> Result<u64, QueueError> {
        todo!()
    }

    /// Takes the selected messages out of the queue; nobody is notified. Returns how many recipients. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn drop_messages(&self, _which: &Selector, _now: SystemTime) -> Result<u64, QueueError> {
        todo!()
    }

    /// Holds the waiting recipients of the selected messages. Returns how many. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn hold(&self, _which: &Selector) -> Result<u64, QueueError> {
        todo!()
    }

    /// Releases the held recipients of the selected messages; they are due by their own time. Returns how many. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn release(&self, _which: &Selector) -> Result<u64, QueueError> {
        todo!()
    }

    /// What the writer did since the queue was opened.
    pub fn statistics(&self) -> Statistics {
        todo!()
    }

    /// Finishes what was handed in, syncs, and ends the writer. Later calls answer `QueueError::Closed`. Blocks.
    pub fn close(&self) {
        todo!()
    }
}

/// The reading side of the queue. Opened by itself (`Reader::open`) it works while the daemon is down, and beside it.
#[derive(Debug, Clone)]
pub struct Reader {}

impl Reader {
    /// Opens the queue in `directory` for reading. Changes nothing and takes no lock.
    ///
    /// # Errors
    /// `OpenError`, each a sentence for the administrator.
    pub fn open(_directory: &Path) -> Result<Self, OpenError> {
        todo!()
    }

    /// One page of the selected messages, oldest first.
    ///
    /// # Errors
    /// What the database reports.
    pub fn list(&self, _which: &Selector, _page: Page) -> Result<Vec<Listed>, QueueError> {
        todo!()
    }

    /// One message in full, in the queue or in its history.
    ///
    /// # Errors
    /// What the database reports.
    pub fn show(&self, _id: QueueId) -> Result<Option<Shown>, QueueError> {
        todo!()
    }

    /// The content of a stored message; `None` where the message is not there or its content is gone.
    ///
    /// # Errors
    /// What the database or the disk reports.
    pub fn content(&self, _id: QueueId) -> Result<Option<ContentReader>, QueueError> {
        todo!()
    }

    /// How much is in the queue.
    ///
    /// # Errors
    /// What the database reports.
    pub fn counts(&self) -> Result<Counts, QueueError> {
        todo!()
    }

    /// The destinations with the most waiting, at most `limit`.
    ///
    /// # Errors
    /// What the database reports.
    pub fn destinations(&self, _limit: usize) -> Result<Vec<DestinationSummary>, QueueError> {
        todo!()
    }
}
