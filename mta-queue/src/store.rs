//! The open queue: its files, its lock, its writer, and the handle that everybody clones.
//!
//! What it does not: the rows are written by `accept`, `record` and `change`, and read by `claim` and `reader`. What the
//! administrator changes is `administer`.

mod administer;
mod piecewise;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

pub use piecewise::Piecewise;

use rusqlite::{Connection, OptionalExtension};
use rustix::fs::{FlockOperation, flock};

use crate::accept::Accept;
use crate::backup;
use crate::change::{Postpone, SetAside};
use crate::claim::{self, Claim, Claimed, Claims, Planner};
use crate::content::{ContentReader, ContentStore, ContentWriter, OnSpace};
use crate::error::{Damage, OpenError, QueueError};
use crate::id::{IdSource, QueueId};
use crate::inbox::{Inbox, Presence};
use crate::log_file;
use crate::message::NewMessage;
use crate::reader::{self, Reader};
use crate::record::{AttemptRecord, Record};
use crate::schema::{self, MIGRATIONS};
use crate::totals::Totals;
use crate::writer::{self, Operation, Shared, Writer};

/// The database inside the state directory.
pub(crate) const DATABASE: &str = "queue.db";

/// Locked while the queue is open for writing.
const LOCK: &str = "queue.lock";

/// How often the lock is tried, and how long after each try.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Bounds and sizes of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Free space the file system keeps: below it, and some room for the write-ahead log, nothing is accepted
    /// (`QueueError::NoSpace`). Octets.
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
    /// MTA-STS policies that are kept.
    pub max_sts_policies: usize,
    /// Destinations whose DANE is remembered.
    pub max_dane_destinations: usize,
    /// Answers of next hops about recipients that are kept.
    pub max_recipient_answers: usize,
    /// Days (UTC) for which sessions are counted for TLS reports, today included; 0 counts none.
    pub tls_report_days: u32,
    /// Policies, and kinds of failure, that are told apart on one day; beyond it sessions are counted as left out.
    pub tls_report_rows_per_day: usize,
    /// Days (UTC) for which messages are counted for DMARC reports, today included; 0 counts none.
    pub dmarc_report_days: u32,
    /// Domains, and kinds of messages, that are told apart on one day; beyond it messages are counted as left out.
    pub dmarc_report_rows_per_day: usize,
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
            max_sts_policies: 2_000,
            max_dane_destinations: 5_000,
            max_recipient_answers: 20_000,
            tls_report_days: 30,
            tls_report_rows_per_day: 10_000,
            dmarc_report_days: 7,
            dmarc_report_rows_per_day: 10_000,
        }
    }
}

impl Options {
    /// What has to stay free for a message to be taken: the reserve, and room for the write-ahead log to grow to its
    /// size and for its pages to go into the database. Without that room the queue would eat the reserve by itself, and
    /// on a full disk not even a delivery can be written down or a message dropped.
    pub(crate) fn kept_free_bytes(&self) -> u64 {
        let log_bytes = u64::try_from(self.wal_bytes).unwrap_or(u64::MAX);
        self.reserve_bytes.saturating_add(log_bytes.saturating_mul(2))
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
    /// How often the write-ahead log was folded into the database.
    pub checkpoints: u64,
    /// Octets written to the write-ahead log.
    pub log_bytes: u64,
    /// Octets written to the database by folding the log into it, at most.
    pub database_bytes: u64,
    /// Octets of large content written to files.
    pub content_bytes: u64,
}

impl Statistics {
    /// Octets written to the disk in all.
    pub fn written_bytes(&self) -> u64 {
        self.log_bytes + self.database_bytes + self.content_bytes
    }
}

/// The queue, open for reading and writing. Cheap to clone; all clones share one writer thread.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

struct Inner {
    state_directory: PathBuf,
    ids: Arc<IdSource>,
    store: Arc<ContentStore>,
    shared: Arc<Shared>,
    claims: Arc<Claims>,
    /// For `claim`.
    claiming: Reader,
    /// For content, so that a long list never holds up a delivery.
    contents: Reader,
    /// For the administrator.
    admin: Reader,
    /// Recipients in the next piece of a change by the administrator.
    piece: AtomicUsize,
    inbox: Arc<Inbox>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Holds the lock until the last clone is gone.
    _lock: File,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("state_directory", &self.inner.state_directory).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        close(self);
    }
}

impl Queue {
    /// Opens the queue in `directory`, making both where they do not exist, and recovers what a killed process left.
    ///
    /// # Errors
    /// `OpenError`, each a sentence for the administrator.
    pub fn open(directory: &Path, options: Options) -> Result<Self, OpenError> {
        let in_directory =
            |error: io::Error| OpenError::Directory { path: directory.to_owned(), reason: error.to_string() };
        if !directory.is_dir() {
            fs::create_dir_all(directory).map_err(in_directory)?;
            schema::sync_parent(directory).map_err(in_directory)?;
        }
        let lock = lock(directory)?;
        backup::finish_restore(directory).map_err(in_directory)?;
        let path = directory.join(DATABASE);
        let map = |error| schema::database_error(&path, &error);
        private_file(&path).map_err(in_directory)?;
        let log = log_file::path_of(&path);
        let is_log_used = log_file::is_used(&log);
        let mut connection = Connection::open(&path).map_err(map)?;
        // Another process may be reading: it holds short locks only.
        connection.busy_timeout(Duration::from_secs(10)).map_err(map)?;
        schema::prepare(&mut connection, &path, MIGRATIONS)?;
        let log_pages = writer::configure(&mut connection, &options).map_err(map)?;
        // A process that was killed may have seen a sync fail, or not have synced at all. Only what is synced now is
        // certain: from the files of messages that end in the log the disk may still have to get their row back.
        let log_in_doubt = is_log_used && !is_log_good(&connection, &log, &log_pages);
        let totals = Totals::load(&connection).map_err(map)?;
        let ids = Arc::new(IdSource::new(totals.last_id.max(last_file(&connection).map_err(map)?)));
        let store =
            ContentStore::open(directory, options.inline_bytes, options.kept_free_bytes(), Arc::clone(&ids))
                .map_err(in_directory)?;
        if !log_in_doubt {
            sweep(&connection, &store, directory)?;
        }
        let statistics = Mutex::new(Statistics::default());
        let shared = Arc::new(Shared { statistics, wake: Mutex::new(None), on_damage: Mutex::new(None) });
        let reading = || Ok(Reader::new(directory, reader::open_connection(&path)?));
        let (claiming, contents, admin) = (reading()?, reading()?, reading()?);
        let inbox = Arc::new(Inbox::default());
        let writer = Writer {
            connection,
            state_directory: directory.to_owned(),
            options,
            store: Arc::clone(&store),
            shared: Arc::clone(&shared),
            totals,
            full: true,
            give_up: Vec::new(),
            unwritten: Vec::new(),
            batches: 0,
            log_pages,
            log_pages_before: 0,
            commit_time: Duration::ZERO,
            log_in_doubt,
        };
        let thread = std::thread::Builder::new()
            .name("queue-writer".to_owned())
            .spawn({
                let inbox = Arc::clone(&inbox);
                move || writer.run(inbox)
            })
            .map_err(in_directory)?;
        let inner = Inner {
            state_directory: directory.to_owned(),
            ids,
            store,
            shared,
            claims: Arc::default(),
            claiming,
            contents,
            admin,
            piece: AtomicUsize::new(piecewise::FIRST_PIECE),
            inbox,
            thread: Mutex::new(Some(thread)),
            _lock: lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A new id, unique for this queue.
    pub fn new_id(&self) -> QueueId {
        self.inner.ids.next(SystemTime::now())
    }

    /// A place for the content of a message that is arriving.
    pub fn content(&self) -> ContentWriter {
        ContentWriter::new(Arc::clone(&self.inner.store))
    }

    /// Whether a message of this size fits beside the reserve; asked at MAIL.
    ///
    /// # Errors
    /// `QueueError::NoSpace` where it does not; `Storage` where the file system does not say.
    pub fn check_space(&self, size_bytes: u64) -> Result<(), QueueError> {
        Ok(self.inner.store.check_space(size_bytes)?)
    }

    /// Takes responsibility for a message. `done` is called on the writer's thread: with `Ok` after the commit that holds
    /// the message is on stable storage, otherwise nothing was stored. It must not block. If the writer dies, `done` is
    /// dropped without a call.
    pub fn accept(&self, message: NewMessage, done: impl FnOnce(Result<(), QueueError>) + Send + 'static) {
        if let Err(error) = self.check_space(0) {
            return done(Err(error));
        }
        self.send(Box::new(Accept { message, done: Box::new(done) }));
    }

    /// The same for the message of a client, which from here on waits for the answer.
    pub fn accept_from(
        &self,
        presence: &mut Presence,
        message: NewMessage,
        done: impl FnOnce(Result<(), QueueError>) + Send + 'static,
    ) {
        if let Err(error) = self.check_space(0) {
            return done(Err(error));
        }
        let accept = Box::new(Accept { message, done: Box::new(done) });
        if let Err(operation) = self.inner.inbox.send_from(presence, accept) {
            operation.finish(Err(QueueError::Closed));
        }
    }

    /// For one that serves a client: while several are at work, their messages are committed together.
    pub fn presence(&self) -> Presence {
        Presence::new(Arc::clone(&self.inner.inbox))
    }

    /// The same as `accept` for mail of our own that must be stored even where only the reserve is left, as that which says so. The
    /// caller bounds it.
    pub fn accept_into_reserve(
        &self,
        message: NewMessage,
        done: impl FnOnce(Result<(), QueueError>) + Send + 'static,
    ) {
        self.send(Box::new(Accept { message, done: Box::new(done) }));
    }

    /// Claims due work: up to `limit` claims, those destinations first that have the least in hand. Blocks on the disk.
    ///
    /// # Errors
    /// What the database reports.
    pub fn claim<P: Planner>(
        &self,
        now: SystemTime,
        limit: usize,
        planner: &mut P,
    ) -> Result<Claimed<P::NextHop>, QueueError> {
        let connection = self.inner.claiming.lock();
        let (claimed, findings) = claim::claim(&connection, &self.inner.claims, now, limit, planner)
            .inspect_err(|error| self.inner.shared.tell_of(error))?;
        drop(connection);
        if !findings.postponed.is_empty() || !findings.paused.is_empty() {
            self.send(Box::new(Postpone { destinations: findings.postponed, paused: findings.paused }));
        }
        for (message, damage) in findings.damaged {
            self.set_aside(message, damage);
        }
        Ok(claimed)
    }

    /// Claims what waits for `destination` and arrived before `received_before`, oldest first, whether it is due or not:
    /// for mail whose time is over and whose destination just failed. Blocks on the disk.
    ///
    /// # Errors
    /// What the database reports.
    pub fn claim_older<K: Clone>(
        &self,
        destination: &str,
        received_before: SystemTime,
        limit: usize,
        next_hop: &K,
    ) -> Result<Vec<Claim<K>>, QueueError> {
        let connection = self.inner.claiming.lock();
        claim::claim_older(&connection, &self.inner.claims, destination, received_before, limit, next_hop)
    }

    /// Writes what the attempt for a claim led to, and releases it. `done` is called on the writer's thread after the
    /// commit; it must not block. The commit is not synced by itself: a killed process keeps it, and power loss can at worst
    /// repeat the attempt. Where the disk is full it is tried again until it is written or the queue is closed.
    pub fn record<K>(
        &self,
        claim: Claim<K>,
        record: AttemptRecord,
        done: impl FnOnce(Result<(), QueueError>) + Send + 'static,
    ) {
        let Claim { message, guard, .. } = claim;
        self.send(Box::new(Record { message: message.id, record, guard, done: Box::new(done) }));
    }

    /// Calls `wake` (on the writer's thread, after the commit) whenever work may have become due earlier than the last
    /// `claim` said: an accept, a retry, a release. It must not block.
    pub fn on_work(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        *self.inner.shared.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }

    /// Calls `heard` (on any thread) with `true` when the reserve of the file system is touched and no mail is taken any
    /// more, and with `false` when there is space again. It is looked at with every message. It must not block.
    pub fn on_space(&self, heard: Arc<dyn Fn(bool) + Send + Sync>) {
        self.inner.store.on_space(OnSpace(heard));
    }

    /// Calls `heard` (on any thread) when a message was set aside for its damage, and when the database cannot be read for
    /// work, or written for another reason than a full disk: with every operation that fails so. It must not block.
    pub fn on_damage(&self, heard: Arc<dyn Fn(&Damage) + Send + Sync>) {
        *self.inner.shared.on_damage.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
    }

    /// The content of a stored message. Content that is not whole sets the message aside. Blocks on the disk.
    ///
    /// # Errors
    /// What the database or the disk reports; `Damaged` for content that is not whole; `Invalid` where there is no such
    /// message in the queue.
    pub fn content_reader(&self, id: QueueId) -> Result<ContentReader, QueueError> {
        match self.inner.contents.content(id) {
            Ok(Some(reader)) => Ok(reader),
            Ok(None) => Err(QueueError::Invalid("no such message")),
            Err(QueueError::Damaged(damage)) => {
                self.set_aside(id, damage);
                Err(QueueError::Damaged(damage))
            }
            Err(error) => {
                self.inner.shared.tell_of(&error);
                Err(error)
            }
        }
    }

    /// The reading side, for lists and counts.
    pub fn reader(&self) -> Reader {
        self.inner.admin.clone()
    }

    /// What the writer did since the queue was opened.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = *self.inner.shared.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        statistics.files_synced = self.inner.store.synced.load(Ordering::Relaxed) as u64;
        statistics.content_bytes = *self.inner.store.written.lock().unwrap_or_else(PoisonError::into_inner);
        statistics
    }

    /// Finishes what was handed in, syncs, and ends the writer. Later calls answer `QueueError::Closed`. Blocks.
    pub fn close(&self) {
        close(&self.inner);
    }

    /// What is in hand.
    pub(crate) fn claims(&self) -> &Claims {
        &self.inner.claims
    }

    fn set_aside(&self, message: QueueId, reason: &str) {
        let (claims, shared) = (Arc::clone(&self.inner.claims), Arc::clone(&self.inner.shared));
        self.send(Box::new(SetAside { message, reason: reason.to_owned(), claims, shared }));
    }

    /// Hands an operation to the writer, or tells it that there is none.
    pub(crate) fn send(&self, operation: Box<dyn Operation>) {
        if let Err(operation) = self.inner.inbox.send(operation) {
            operation.finish(Err(QueueError::Closed));
        }
    }
}

fn close(inner: &Inner) {
    if !inner.inbox.close() {
        return;
    }
    let thread = inner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
    // The last handle may be dropped on the writer's own thread, inside a callback: it cannot wait for itself.
    let Some(thread) = thread else { return };
    if thread.thread().id() != std::thread::current().id() {
        let _ = thread.join();
    }
}

/// Opens a file that nobody else may read, making it where it does not exist. SQLite gives its log the same mode.
fn private_file(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Takes the lock that keeps a second daemon away. It goes with the process, however that ends.
pub(crate) fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK);
    let failed = |error: io::Error| OpenError::Directory { path: path.clone(), reason: error.to_string() };
    let file = private_file(&path).map_err(failed)?;
    for _ in 0..LOCK_TRIES {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            // A tool that asks whether a daemon runs has it for a moment.
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(error) => return Err(failed(error.into())),
        }
    }
    Err(OpenError::InUse { path })
}

/// Whether a process has the queue open for writing now.
pub(crate) fn is_in_use(directory: &Path) -> bool {
    let Ok(file) = File::open(directory.join(LOCK)) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

/// The highest number of a content file that a message names. A large message's file is numbered after the message.
fn last_file(connection: &Connection) -> rusqlite::Result<i64> {
    let last = "SELECT max(content_file) FROM message WHERE content_file IS NOT NULL";
    Ok(connection.query_row(last, [], |row| row.get::<_, Option<i64>>(0))?.unwrap_or(0))
}

/// Makes a log that was there before good. Where that is not possible yet, the writer tries again before each commit.
fn is_log_good(connection: &Connection, log: &Path, pages: &AtomicUsize) -> bool {
    log_file::make_good(connection, log, pages)
        .inspect_err(|error| log::error!("event=log-not-made-good error={error:?}"))
        .is_ok()
}

/// Deletes content files that no message names.
fn sweep(connection: &Connection, store: &ContentStore, directory: &Path) -> Result<(), OpenError> {
    let path = directory.join(DATABASE);
    let map = |error| schema::database_error(&path, &error);
    // Few messages are large; their files are read from the directory, and each is looked up once.
    let mut named = connection
        .prepare("SELECT 1 FROM message WHERE content_file = ?1 AND finished_at IS NULL")
        .map_err(map)?;
    let mut trouble = None;
    let known = |file: i64| match named.query_row([file], |_| Ok(())).optional() {
        Ok(found) => found.is_some(),
        Err(error) => {
            trouble = Some(error);
            true
        }
    };
    let deleted = store
        .sweep(known)
        .map_err(|error| OpenError::Directory { path: directory.to_owned(), reason: error.to_string() })?;
    if deleted > 0 {
        log::info!("event=orphans-deleted files={deleted}");
    }
    trouble.map_or(Ok(()), |error| Err(schema::database_error(&path, &error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As after the clock went back.
    #[test]
    fn no_number_of_a_content_file_is_given_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = Options { reserve_bytes: 0, ..Options::default() };
        let before = {
            let queue = Queue::open(directory.path(), options.clone()).expect("open");
            queue.close();
            queue.new_id().as_i64() + 86_400_000_000
        };
        let connection = Connection::open(directory.path().join(DATABASE)).expect("a database");
        connection
            .execute(
                "INSERT INTO message (id, reverse_path, body, smtputf8, require_tls, size, content_file, received_at,
                                      origin, open, finished_at)
                 VALUES (1, '<>', '7BIT', 0, 0, 70000, ?1, 0, '{}', 0, 1)",
                [before],
            )
            .expect("inserted");
        drop(connection);
        let queue = Queue::open(directory.path(), options).expect("open");
        assert!(queue.new_id().as_i64() > before);
    }

    #[test]
    fn the_log_does_not_eat_the_reserve() {
        let options = Options { reserve_bytes: 10, wal_bytes: 100, ..Options::default() };
        assert_eq!(options.kept_free_bytes(), 210);
        assert_eq!(Options { reserve_bytes: u64::MAX, ..options }.kept_free_bytes(), u64::MAX);
    }
}
