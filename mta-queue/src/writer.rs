//! The one writer: a thread that owns the only writing connection and commits together what waits.
//!
//! There is no timer. While one commit waits for the disk, the next batch collects; alone, an operation is committed at
//! once; where other clients are at work, it waits for them within bounds that `inbox` names. A batch with an operation that must survive power loss before somebody is told (`Operation::durable`) commits
//! with `synchronous=FULL`, any other with `NORMAL`: it survives a killed process at once and power loss with the next
//! full commit. Each operation runs in a savepoint, so that one that fails takes no other with it; if the batch as a
//! whole fails, its operations are tried one by one.
//!
//! Results of deliveries are never given up because the disk is full: they are kept and tried again (`must_succeed`).
//!
//! The write-ahead log is folded into the database by this thread too, after the answers to a batch have left: nobody
//! waits for a checkpoint who does not come while it runs.
//!
//! After a commit or a checkpoint that failed, what the log holds on the disk is in doubt. Nothing is committed or folded
//! until it was made good (`log_file`), and nobody is told of a failure before that was tried: whoever is told 451 leaves
//! nothing behind. Where it cannot be made good, what the failed commit names is kept: it may be found after a kill.
//!
//! What it does not: it knows no operation. It reads no clock but to count the wait before such a new try.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;

use crate::content::ContentStore;
use crate::crash;
use crate::error::{Damage, QueueError};
use crate::inbox::{Inbox, Next};
use crate::log_file::{self, NotGood, SYNC};
use crate::store::{DATABASE, Options, Statistics};
use crate::totals::Totals;

/// How long to wait before results that could not be written are tried again, where nothing else comes.
const RETRY_UNWRITTEN: Duration = Duration::from_secs(5);

/// Every so many batches the writer looks whether the database should give space back.
const SHRINK_EVERY: u64 = 256;

/// Free pages that are never given back: new mail wants them again.
const KEEP_FREE_PAGES: i64 = 2_048;

/// Pages given back in one turn.
const SHRINK_PAGES: i64 = 512;

/// Exit status of a process that another one should follow (`EX_TEMPFAIL` of sysexits).
const EXIT_TEMPORARY: i32 = 75;

/// Octets of a page of the database.
pub(crate) const PAGE_BYTES: u64 = 4_096;

/// Octets of a page in the write-ahead log, with the head of its frame.
const FRAME_BYTES: u64 = PAGE_BYTES + 24;

/// Something the writer does. `apply` may be called more than once, if the commit fails; `finish` is called once.
pub(crate) trait Operation: Send {
    /// The commit must be on stable storage before `finish`.
    fn durable(&self) -> bool {
        false
    }

    /// Kept and tried again where it cannot be written.
    fn must_succeed(&self) -> bool {
        false
    }

    /// Content that goes through the log, octets.
    fn weight_bytes(&self) -> u64 {
        0
    }

    /// Makes the changes.
    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), QueueError>;

    /// Its commit failed, and what of it is on the disk is in doubt: the files it names must stay.
    fn keep_files(&mut self) {}

    /// The changes are committed, or nothing of them happened.
    fn finish(self: Box<Self>, result: Result<(), QueueError>);
}

/// What an operation works with.
pub(crate) struct Tx<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) options: &'a Options,
    /// Changed along with the rows; written once per batch.
    pub(crate) totals: Totals,
    pub(crate) effects: Effects,
}

/// A small change by the administrator.
pub(crate) struct Write<W> {
    pub(crate) work: W,
    pub(crate) count: u64,
    pub(crate) done: Option<Sender<Result<u64, QueueError>>>,
}

impl<W: Fn(&mut Tx<'_>) -> Result<u64, QueueError> + Send> Operation for Write<W> {
    fn durable(&self) -> bool {
        self.done.is_some()
    }

    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), QueueError> {
        self.count = (self.work)(tx)?;
        Ok(())
    }

    fn finish(self: Box<Self>, result: Result<(), QueueError>) {
        if let Some(done) = self.done {
            let _ = done.send(result.map(|()| self.count));
        }
    }
}

/// What follows from a commit.
#[derive(Debug, Default, Clone)]
pub(crate) struct Effects {
    /// Work may be due earlier than the scheduler knows.
    pub(crate) wake: bool,
    /// Content files that no row names any more.
    pub(crate) unneeded_files: Vec<i64>,
}

/// What is called when work may be due.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

/// What is called when something is found damaged.
pub(crate) type OnDamage = Arc<dyn Fn(&Damage) + Send + Sync>;

/// What the writer shares with the handles of the queue.
pub(crate) struct Shared {
    pub(crate) statistics: Mutex<Statistics>,
    pub(crate) wake: Mutex<Option<Wake>>,
    pub(crate) on_damage: Mutex<Option<OnDamage>>,
}

impl Shared {
    /// Something is damaged: whoever asked for it hears of it.
    pub(crate) fn tell(&self, damage: &Damage) {
        let heard = self.on_damage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(heard) = heard {
            heard(damage);
        }
    }

    /// The same of an error, where it is one of the database itself.
    pub(crate) fn tell_of(&self, error: &QueueError) {
        if let QueueError::Storage(reason) = error {
            self.tell(&Damage::Storage(reason.clone()));
        }
    }
}

/// The state of the writer's thread.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) state_directory: PathBuf,
    pub(crate) options: Options,
    pub(crate) store: Arc<ContentStore>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) totals: Totals,
    /// The pragma as it is set now.
    pub(crate) full: bool,
    /// Files to delete once the commit that gave them up is on stable storage. Before that, power loss could bring
    /// back the row, and it must find its content.
    pub(crate) give_up: Vec<i64>,
    /// Results that could not be written.
    pub(crate) unwritten: Vec<Box<dyn Operation>>,
    pub(crate) batches: u64,
    /// Pages in the write-ahead log, as SQLite says after each commit.
    pub(crate) log_pages: Arc<AtomicUsize>,
    /// The same after the commit before.
    pub(crate) log_pages_before: usize,
    /// How long a commit with a sync takes, of late.
    pub(crate) commit_time: Duration,
    /// A sync may have failed: the log has to be made good before anything is committed.
    pub(crate) log_in_doubt: bool,
}

/// Tells the others when the writer's thread ends, even by a panic.
struct Abandoned(Arc<Inbox>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Writer {
    /// The thread's body. Ends when closed.
    pub(crate) fn run(mut self, inbox: Arc<Inbox>) {
        let abandoned = Abandoned(inbox);
        let inbox = &abandoned.0;
        while let Some(batch) = self.collect(inbox) {
            self.process(batch);
        }
        let unwritten = std::mem::take(&mut self.unwritten);
        self.process(unwritten);
        for operation in std::mem::take(&mut self.unwritten) {
            finish(operation, Err(QueueError::Closed));
        }
        self.sync_and_delete();
        if self.make_log_good().is_err() {
            // Folding it now could spoil the database: the next start makes it good, or takes what the disk has of it.
            let keep = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            log::error!("event=log-left-behind reason=\"it could not be synced\" kept={}", keep.is_ok());
            return;
        }
        // The database alone is the whole queue while nobody has it open.
        let folded = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = folded {
            log::warn!("event=no-checkpoint reason={:?}", error.to_string());
        }
    }

    /// Waits for the next operations. `None` when closed.
    fn collect(&mut self, inbox: &Inbox) -> Option<Vec<Box<dyn Operation>>> {
        let mut batch = std::mem::take(&mut self.unwritten);
        let at_most = (!batch.is_empty()).then_some(RETRY_UNWRITTEN);
        if at_most.is_none() && inbox.is_empty() {
            // About to be idle: files of delivered mail are not kept until the next message comes.
            self.sync_and_delete();
        }
        match inbox.next(at_most, self.commit_time) {
            Next::Batch(more) => batch.extend(more),
            Next::Nothing => {}
            Next::Close => {
                self.unwritten = batch;
                return None;
            }
        }
        Some(batch)
    }

    /// Commits a batch and answers everybody in it.
    fn process(&mut self, mut batch: Vec<Box<dyn Operation>>) {
        if batch.is_empty() {
            return;
        }
        match self.commit(&mut batch) {
            Ok(results) => self.answer(batch, results),
            Err(error) if batch.len() == 1 || self.log_in_doubt => {
                let results = batch.iter().map(|_| Err(error.clone())).collect();
                self.answer(batch, results);
            }
            Err(_) => {
                for operation in batch {
                    let mut alone = vec![operation];
                    let results = self.commit(&mut alone).unwrap_or_else(|error| vec![Err(error)]);
                    self.answer(alone, results);
                }
            }
        }
        self.batches += 1;
        if self.log_in_doubt {
            return;
        }
        self.checkpoint_if_due();
        self.make_room();
        if self.batches.is_multiple_of(SHRINK_EVERY) {
            self.shrink();
        }
    }

    fn answer(&mut self, batch: Vec<Box<dyn Operation>>, results: Vec<Result<(), QueueError>>) {
        for (operation, result) in batch.into_iter().zip(results) {
            if let Err(error) = &result {
                self.shared.tell_of(error);
            }
            match result {
                Err(error) if operation.must_succeed() && is_temporary(&error) => {
                    log::error!("event=result-not-written error={:?}", error.to_string());
                    self.unwritten.push(operation);
                }
                result => finish(operation, result),
            }
        }
    }

    /// One transaction. The outer error means that nothing of the batch happened.
    fn commit(
        &mut self,
        batch: &mut [Box<dyn Operation>],
    ) -> Result<Vec<Result<(), QueueError>>, QueueError> {
        let full = batch.iter().any(|operation| operation.durable());
        let began = Instant::now();
        self.make_log_good()?;
        self.set_synchronous(full)?;
        let before = self.totals.clone();
        let effects = Effects::default();
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut tx =
            Tx { connection: &self.connection, options: &self.options, totals: self.totals.clone(), effects };
        let outcome = apply_all(&mut tx, batch).and_then(|results| {
            tx.totals.save(tx.connection, &before)?;
            crash::point("batch-applied");
            tx.connection.prepare_cached("COMMIT")?.execute([])?;
            crash::point("batch-committed");
            Ok(results)
        });
        match outcome {
            Ok(results) => {
                let (totals, effects) = (tx.totals, tx.effects);
                if full {
                    self.commit_time = (self.commit_time * 3 + began.elapsed()) / 4;
                }
                self.committed(totals, effects, full, batch.len());
                Ok(results)
            }
            Err(error) => {
                if !self.connection.is_autocommit() {
                    let _ = self.connection.execute_batch("ROLLBACK");
                }
                self.failed(&error);
                if self.make_log_good().is_err() {
                    batch.iter_mut().for_each(|operation| operation.keep_files());
                }
                Err(error)
            }
        }
    }

    /// A commit or a checkpoint failed. On a full disk the failed one did not come to its sync.
    fn failed(&mut self, error: &QueueError) {
        if matches!(error, QueueError::Storage(_)) {
            log::error!("event=log-in-doubt error={:?}", error.to_string());
            self.log_in_doubt = true;
            self.shared.tell_of(error);
        }
    }

    /// Makes the log good where it is in doubt, and ends a transaction that could not be rolled back. The process ends where
    /// only the next one can go on: its supervisor starts it again, and what was acknowledged is on the disk.
    fn make_log_good(&mut self) -> Result<(), QueueError> {
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        if !self.log_in_doubt {
            return Ok(());
        }
        self.set_synchronous(true)?;
        let log = log_file::path_of(&self.state_directory.join(DATABASE));
        match log_file::make_good(&self.connection, &log, &self.log_pages) {
            Ok(()) => {
                self.totals.last_id += 1;
                self.log_pages_before = self.log_pages.load(Ordering::Relaxed);
                self.log_in_doubt = false;
                log::warn!("event=log-made-good");
                Ok(())
            }
            Err(NotGood::Disk(error)) => {
                log::error!("event=log-not-made-good error={:?}", error.to_string());
                Err(error)
            }
            Err(NotGood::Broken) => {
                log::error!(
                    "event=log-broken log={} text=\"the disk did not keep what was written to it; the process ends, so \
                     that its supervisor starts it again with what the disk has; look at the disk\"",
                    log.display()
                );
                std::process::exit(EXIT_TEMPORARY)
            }
        }
    }

    fn committed(&mut self, totals: Totals, effects: Effects, full: bool, operations: usize) {
        self.totals = totals;
        self.give_up.extend(effects.unneeded_files);
        {
            let grown = self.log_grown();
            let mut statistics = self.shared.statistics.lock().unwrap_or_else(PoisonError::into_inner);
            statistics.operations += operations as u64;
            if full {
                statistics.full_commits += 1;
            } else {
                statistics.normal_commits += 1;
            }
            statistics.log_bytes += grown * FRAME_BYTES;
        }
        if full {
            self.delete_given_up();
        }
        if effects.wake {
            let wake = self.shared.wake.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(wake) = wake {
                wake();
            }
        }
    }

    fn set_synchronous(&mut self, full: bool) -> Result<(), QueueError> {
        if self.full != full {
            self.connection.pragma_update(None, "synchronous", if full { "FULL" } else { "NORMAL" })?;
            self.full = full;
        }
        Ok(())
    }

    /// Makes everything committed so far survive power loss, where files wait for that, and deletes these.
    fn sync_and_delete(&mut self) {
        if self.give_up.is_empty() {
            return;
        }
        let sync = self
            .make_log_good()
            .and_then(|()| self.set_synchronous(true))
            .and_then(|()| Ok(self.connection.execute(SYNC, [])?));
        match sync {
            Ok(_) => {
                self.totals.last_id += 1;
                self.delete_given_up();
            }
            Err(error) => {
                self.failed(&error);
                log::warn!("event=content-kept reason={:?}", error.to_string());
            }
        }
    }

    fn delete_given_up(&mut self) {
        if !self.give_up.is_empty() {
            crash::point("files-given-up");
        }
        for file in self.give_up.drain(..) {
            self.store.delete(file);
            crash::point("file-deleted");
        }
    }

    /// Pages that the last commit wrote to the log. After a checkpoint the log begins again from its start.
    fn log_grown(&mut self) -> u64 {
        let now = self.log_pages.load(Ordering::Relaxed);
        let before = std::mem::replace(&mut self.log_pages_before, now);
        (if now >= before { now - before } else { now }) as u64
    }

    /// Folds the write-ahead log into the database where it has reached its size. A reader that holds an old snapshot
    /// keeps the log from beginning again; the next batch tries again.
    fn checkpoint_if_due(&mut self) {
        let limit = self.options.wal_bytes as u64 / PAGE_BYTES;
        if (self.log_pages.load(Ordering::Relaxed) as u64) < limit.max(16) {
            return;
        }
        crash::point("checkpoint-due");
        let folded =
            self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(2));
        crash::point("checkpoint-done");
        match folded {
            Ok(pages) => {
                let mut statistics = self.shared.statistics.lock().unwrap_or_else(PoisonError::into_inner);
                statistics.checkpoints += 1;
                statistics.database_bytes += u64::try_from(pages).unwrap_or(0) * PAGE_BYTES;
            }
            Err(error) => {
                log::warn!("event=no-checkpoint reason={:?}", error.to_string());
                self.failed(&error.into());
            }
        }
    }

    /// Gives free pages back to the file system where it has too little space for new mail. What keeps mail out must not
    /// be a database that is empty inside: after its messages left, nothing else would ever make it smaller.
    fn make_room(&mut self) {
        let mut before = i64::MAX;
        while self.store.check_space(0).is_err() {
            let free = self.connection.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0));
            match free {
                Ok(free) if free > 0 && free < before => before = free,
                // Nothing to give, no progress (a reader holds the log), or the disk does not even take this.
                _ => return,
            }
            let step = vacuum(&self.connection, SHRINK_PAGES)
                .and_then(|()| self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())));
            if let Err(error) = step {
                self.failed(&error.into());
                return;
            }
        }
    }

    /// Gives free pages back to the file system, a few at a time.
    fn shrink(&mut self) {
        let pages = |pragma| self.connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let (Ok(free), Ok(all)) = (pages("freelist_count"), pages("page_count")) else { return };
        if free > KEEP_FREE_PAGES && free > all / 4 {
            let count = SHRINK_PAGES.min(free - KEEP_FREE_PAGES);
            if let Err(error) = vacuum(&self.connection, count) {
                log::warn!(
                    "event=queue-not-shrunk reason={:?} dir={}",
                    error.to_string(),
                    self.state_directory.display()
                );
                self.failed(&error.into());
            }
        }
    }
}

/// Gives back so many free pages. Each row of this pragma is a page: it has to be read to its end.
fn vacuum(connection: &Connection, pages: i64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Runs each operation in its savepoint. An error here means that the transaction as a whole is lost.
fn apply_all(
    tx: &mut Tx<'_>,
    batch: &mut [Box<dyn Operation>],
) -> Result<Vec<Result<(), QueueError>>, QueueError> {
    let mut results = Vec::with_capacity(batch.len());
    for operation in batch {
        let (totals, effects) = (tx.totals.clone(), tx.effects.clone());
        tx.connection.prepare_cached("SAVEPOINT operation")?.execute([])?;
        let result = catch_unwind(AssertUnwindSafe(|| operation.apply(tx)))
            .unwrap_or_else(|_| Err(QueueError::Storage("a queue operation panicked".to_owned())));
        if result.is_err() {
            (tx.totals, tx.effects) = (totals, effects);
            if tx.connection.is_autocommit() {
                // SQLite rolled back everything (disk full, I/O error).
                return result.map(|()| Vec::new());
            }
            tx.connection.prepare_cached("ROLLBACK TO operation")?.execute([])?;
        }
        tx.connection.prepare_cached("RELEASE operation")?.execute([])?;
        results.push(result);
    }
    Ok(results)
}

/// Answers; a callback that panics ends nothing but itself.
fn finish(operation: Box<dyn Operation>, result: Result<(), QueueError>) {
    if catch_unwind(AssertUnwindSafe(|| operation.finish(result))).is_err() {
        log::error!("event=queue-callback-panicked");
    }
}

fn is_temporary(error: &QueueError) -> bool {
    matches!(error, QueueError::NoSpace | QueueError::Storage(_))
}

/// Sets up a connection that was just opened for writing.
///
/// Returns where SQLite says, after each commit, how many pages the write-ahead log has.
pub(crate) fn configure(
    connection: &mut Connection,
    options: &Options,
) -> rusqlite::Result<Arc<AtomicUsize>> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(
        None,
        "cache_size",
        -i64::try_from(options.cache_bytes / 1024).unwrap_or(2_048),
    )?;
    let log_pages = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&log_pages);
    // Takes the place of SQLite's own checkpoint, which would run inside a commit.
    connection.wal_hook(Some(move |_: &mut Wal, pages: std::ffi::c_int| {
        seen.store(usize::try_from(pages).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }))?;
    let wal_bytes = i64::try_from(options.wal_bytes).unwrap_or(4 << 20);
    connection.pragma_update(None, "journal_size_limit", wal_bytes)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    keep_plans(connection)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(log_pages)
}

/// A statement is compiled once. Without this SQLite compiles it again for each new value that might have made a partial
/// index useful; ours name the conditions of these indexes in their text.
pub(crate) fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(|_| ())
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;
    use crate::schema;

    #[test]
    fn no_statement_is_compiled_again_for_another_value() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("queue.db");
        let mut connection = Connection::open(&path).expect("a database");
        schema::prepare(&mut connection, &path, schema::MIGRATIONS).expect("a schema");
        let again = |connection: &Connection| {
            let mut statement = connection
                .prepare(
                    "SELECT id, name, failures FROM destination WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2",
                )
                .expect("a statement");
            for value in 0..10_i64 {
                let mut rows = statement.query([value, value + 5]).expect("rows");
                assert!(rows.next().expect("no error").is_none());
            }
            statement.get_status(StatementStatus::RePrepare)
        };
        assert!(again(&connection) > 0, "as SQLite is built, it would");
        keep_plans(&connection).expect("an option");
        assert_eq!(again(&connection), 0);
    }

    struct Nothing;

    impl Operation for Nothing {
        fn apply(&mut self, _: &mut Tx<'_>) -> Result<(), QueueError> {
            Ok(())
        }

        fn finish(self: Box<Self>, _: Result<(), QueueError>) {}
    }

    /// A rollback that fails leaves the connection in its transaction.
    #[test]
    fn a_transaction_that_could_not_be_rolled_back_is_so_before_the_next_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(DATABASE);
        let mut connection = Connection::open(&path).expect("a database");
        schema::prepare(&mut connection, &path, schema::MIGRATIONS).expect("a schema");
        let options = Options::default();
        let log_pages = configure(&mut connection, &options).expect("configured");
        let ids = Arc::new(crate::id::IdSource::new(0));
        let store = ContentStore::open(directory.path(), 1000, 0, ids).expect("a store");
        let (wake, on_damage) = (Mutex::new(None), Mutex::new(None));
        let shared = Arc::new(Shared { statistics: Mutex::default(), wake, on_damage });
        let mut writer = Writer {
            totals: Totals::load(&connection).expect("totals"),
            connection,
            state_directory: directory.path().to_owned(),
            options,
            store,
            shared,
            full: true,
            give_up: Vec::new(),
            unwritten: Vec::new(),
            batches: 0,
            log_pages,
            log_pages_before: 0,
            commit_time: Duration::ZERO,
            log_in_doubt: false,
        };
        writer.connection.execute_batch("BEGIN IMMEDIATE; UPDATE totals SET waiting = 99").expect("stuck");
        let mut batch: Vec<Box<dyn Operation>> = vec![Box::new(Nothing)];
        assert_eq!(writer.commit(&mut batch), Ok(vec![Ok(())]), "the next one is not in its way");
        assert!(writer.connection.is_autocommit());
        assert_eq!(Totals::load(&writer.connection).expect("totals").waiting, 0, "nothing of it happened");
    }

    /// Files wait for this: what is not synced could bring back their rows.
    #[test]
    fn files_are_deleted_behind_a_commit_that_is_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(DATABASE);
        let mut connection = Connection::open(&path).expect("a database");
        schema::prepare(&mut connection, &path, schema::MIGRATIONS).expect("a schema");
        let pages = configure(&mut connection, &Options::default()).expect("configured");
        let grows_by = |sql: &str| {
            let before = pages.load(Ordering::Relaxed);
            connection.execute(sql, []).expect("changed");
            pages.load(Ordering::Relaxed) - before
        };
        assert!(grows_by(SYNC) > 0);
        assert!(grows_by(SYNC) > 0);
        assert_eq!(grows_by("UPDATE totals SET last_id = last_id"), 0, "as SQLite is built, that is none");
    }

    #[test]
    fn as_many_pages_are_given_back_as_were_asked_for() {
        let connection = Connection::open_in_memory().expect("a database");
        connection
            .execute_batch(
                "PRAGMA auto_vacuum = INCREMENTAL; CREATE TABLE t (x);
                 INSERT INTO t VALUES (zeroblob(400000)); DELETE FROM t;",
            )
            .expect("filled and emptied");
        let free = || {
            connection
                .pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0))
                .expect("the free pages")
        };
        let before = free();
        assert!(before > 50);
        vacuum(&connection, 40).expect("given back");
        assert_eq!(free(), before - 40);
    }
}
