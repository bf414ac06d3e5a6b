//! The reading side: lists, one message in full, counts, content. It changes nothing and takes no lock, so it works beside
//! the daemon and, opened by itself, while the daemon is down.
//!
//! A list is read a page at a time, each in a snapshot of its own, so that a slow reader never keeps the write-ahead log
//! from being folded back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::admin::{
    Counts, DestinationSummary, HoldRule, Listed, Page, Pause, Selector, Shown, StoredAttempt, StoredEvent,
};
use crate::change::Kind;
use crate::content::{ContentReader, stored_path};
use crate::error::{OpenError, QueueError, is_damage};
use crate::id::QueueId;
use crate::recipient::{RecipientKey, StoredRecipient};
use crate::rows::{self, MESSAGE_COLUMNS, RECIPIENT_COLUMNS};
use crate::rules;
use crate::schema::{self, MIGRATIONS};
use crate::select::{Conditions, RECIPIENT_FITS, select};
use crate::store::DATABASE;
use crate::time::from_unix;
use crate::totals::Totals;

/// SQLite's page cache of a reading connection, KiB.
const CACHE_KIB: i64 = 512;

/// How long to wait for another process that has the database locked, as it does while it opens or closes it.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Recipients, each with its destination.
pub(crate) type Keys = Vec<(RecipientKey, i64)>;

/// The reading side of the queue. Opened by itself (`Reader::open`) it works while the daemon is down, and beside it.
#[derive(Debug, Clone)]
pub struct Reader {
    state_directory: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

impl Reader {
    /// Opens the queue in `directory` for reading. Changes nothing and takes no lock.
    ///
    /// # Errors
    /// `OpenError`, each a sentence for the administrator.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join(DATABASE);
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(OpenError::Missing { path }),
            Err(error) => {
                return Err(OpenError::Directory { path: directory.to_owned(), reason: error.to_string() });
            }
        }
        let connection = open_connection(&path)?;
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        match schema::identify(&connection, &path)? {
            Some(found) if found > known => Err(OpenError::Newer { path, found, known }),
            Some(found) if found < known => Err(OpenError::Older { path, found, known }),
            None => Err(OpenError::Missing { path }),
            Some(_) => Ok(Self::new(directory, connection)),
        }
    }

    pub(crate) fn new(directory: &Path, connection: Connection) -> Self {
        Self { state_directory: directory.to_owned(), connection: Arc::new(Mutex::new(connection)) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The selected messages behind `page.after`, oldest first, each with all its recipients, `page.limit` at most. A message
    /// whose rows cannot be read is logged and left out; `RecipientState::Damaged` in `counts` says that there are such.
    ///
    /// # Errors
    /// What the database reports.
    pub fn list(&self, which: &Selector, mut page: Page) -> Result<Vec<Listed>, QueueError> {
        let mut listed = Vec::new();
        loop {
            let (more, last) = self.list_step(which, page)?;
            page.limit = page.limit.saturating_sub(more.len());
            listed.extend(more);
            if last.is_none() || page.limit == 0 {
                return Ok(listed);
            }
            page.after = last;
        }
    }

    /// As `list`, but no more of the queue is looked through than a bounded step, which may find nothing. With what was
    /// found the id to go on behind; `None` at the end.
    ///
    /// # Errors
    /// What the database reports.
    pub fn list_step(
        &self,
        which: &Selector,
        page: Page,
    ) -> Result<(Vec<Listed>, Option<QueueId>), QueueError> {
        let connection = self.lock();
        let snapshot = connection.unchecked_transaction()?;
        let (ids, last) = select(&snapshot, which, page)?;
        let mut listed = Vec::new();
        for id in ids {
            listed.extend(load(&snapshot, id)?);
        }
        Ok((listed, last.map(QueueId::from_i64)))
    }

    /// One message in full, in the queue or in its history.
    ///
    /// # Errors
    /// What the database reports.
    pub fn show(&self, id: QueueId) -> Result<Option<Shown>, QueueError> {
        let connection = self.lock();
        let snapshot = connection.unchecked_transaction()?;
        let Some(listed) = load(&snapshot, id.as_i64())? else { return Ok(None) };
        let mut statement = snapshot.prepare_cached(
            "SELECT at, results, decision, first_at, times FROM attempt WHERE message = ?1 ORDER BY n",
        )?;
        let attempts = statement.query_map([id.as_i64()], |row| {
            let results: String = row.get(1)?;
            Ok(StoredAttempt {
                at: from_unix(row.get(0)?),
                results: serde_json::from_str(&results).unwrap_or_default(),
                decision: row.get(2)?,
                first_at: row.get::<_, Option<i64>>(3)?.map(from_unix),
                times: row.get(4)?,
            })
        })?;
        let attempts = attempts.collect::<Result<_, _>>()?;
        let mut statement = snapshot
            .prepare_cached("SELECT at, what, who, detail FROM event WHERE message = ?1 ORDER BY n")?;
        let events = statement.query_map([id.as_i64()], |row| {
            Ok(StoredEvent {
                at: from_unix(row.get(0)?),
                what: row.get(1)?,
                who: row.get(2)?,
                detail: row.get(3)?,
            })
        })?;
        Ok(Some(Shown { listed, attempts, events: events.collect::<Result<_, _>>()? }))
    }

    /// The content of a stored message; `None` where there is no such message or its content is gone with its delivery.
    ///
    /// # Errors
    /// What the database or the disk reports; `Damaged` where the content should be there and is not whole.
    pub fn content(&self, id: QueueId) -> Result<Option<ContentReader>, QueueError> {
        let connection = self.lock();
        let mut find = connection.prepare_cached(
            "SELECT m.size, m.content_file, c.data FROM message m LEFT JOIN content c ON c.id = m.id
             WHERE m.id = ?1 AND m.finished_at IS NULL",
        )?;
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let found: Option<(i64, Option<i64>, Option<Vec<u8>>)> =
            match find.query_row([id.as_i64()], row).optional() {
                Err(error) if is_damage(&error) => {
                    return Err(QueueError::Damaged("the database is damaged where its content lies"));
                }
                found => found?,
            };
        let Some((size, file, inline)) = found else { return Ok(None) };
        let size = u64::try_from(size).unwrap_or(0);
        match (file, inline) {
            (Some(file), front) => {
                let path = stored_path(&self.state_directory, file);
                match ContentReader::from_file(front.unwrap_or_default().into(), &path, size) {
                    Ok(reader) => Ok(Some(reader)),
                    Err(error)
                        if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) =>
                    {
                        Err(QueueError::Damaged("the content file is missing or cut"))
                    }
                    Err(error) => Err(error.into()),
                }
            }
            (None, Some(data)) if data.len() as u64 == size => {
                Ok(Some(ContentReader::from_memory(data.into())))
            }
            (None, _) => Err(QueueError::Damaged("the content row is missing or cut")),
        }
    }

    /// The ids of one step; with them the id to go on behind, `None` at the end.
    ///
    /// # Errors
    /// What the database reports.
    pub fn ids_step(
        &self,
        which: &Selector,
        page: Page,
    ) -> Result<(Vec<QueueId>, Option<QueueId>), QueueError> {
        let (ids, last) = select(&self.lock(), which, page)?;
        Ok((ids.into_iter().map(QueueId::from_i64).collect(), last.map(QueueId::from_i64)))
    }

    /// The rules that hold mail to come.
    ///
    /// # Errors
    /// What the database reports.
    pub fn hold_rules(&self) -> Result<Vec<HoldRule>, QueueError> {
        rules::rules(&self.lock())
    }

    /// What stands still by the administrator's wish; also what has ended by itself since.
    ///
    /// # Errors
    /// What the database reports.
    pub fn pauses(&self) -> Result<Vec<Pause>, QueueError> {
        rules::pauses(&self.lock())
    }

    /// What waits for one destination, under each next hop that was chosen for it.
    ///
    /// # Errors
    /// What the database reports.
    pub fn destination(&self, name: &str) -> Result<Vec<DestinationSummary>, QueueError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT name, waiting, held, failures, not_before, due_at, last_reply FROM destination
             WHERE name = ?1 OR name >= ?1 || ' via ' AND name < ?1 || ' via!'",
        )?;
        let rows = statement.query_map([name], summary)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How much is in the queue.
    ///
    /// # Errors
    /// What the database reports.
    pub fn counts(&self) -> Result<Counts, QueueError> {
        Ok(Totals::load(&self.lock())?.counts())
    }

    /// The destinations with the most waiting, at most `limit`.
    ///
    /// # Errors
    /// What the database reports.
    pub fn destinations(&self, limit: usize) -> Result<Vec<DestinationSummary>, QueueError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT name, waiting, held, failures, not_before, due_at, last_reply FROM destination
             ORDER BY waiting DESC, held DESC, name LIMIT ?1",
        )?;
        let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], summary)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many recipients a change by this selector concerns in one step: those that fit and to which it applies. With it
    /// the id to go on behind; `None` at the end.
    ///
    /// # Errors
    /// What the database reports.
    pub fn count(
        &self,
        kind: Kind,
        which: &Selector,
        page: Page,
    ) -> Result<(u64, Option<QueueId>), QueueError> {
        if *which == Selector::default() {
            return Ok((kind.of_all(&self.counts()?), None));
        }
        let (keys, last) = self.keys(kind, which, page)?;
        Ok((keys.len() as u64, last))
    }

    /// The recipients that a change by this selector concerns, each with its destination, and the last message looked at;
    /// `None` at the end.
    pub(crate) fn keys(
        &self,
        kind: Kind,
        which: &Selector,
        page: Page,
    ) -> Result<(Keys, Option<QueueId>), QueueError> {
        let connection = self.lock();
        let snapshot = connection.unchecked_transaction()?;
        let (ids, last) = select(&snapshot, which, page)?;
        let mut statement = snapshot.prepare_cached(&format!(
            "SELECT r.message, r.n, r.destination FROM recipient r
             WHERE r.message = ?4 AND r.state IN ({}) {RECIPIENT_FITS}",
            kind.states()
        ))?;
        let conditions = Conditions::of(which);
        let mut keys = Vec::new();
        for id in &ids {
            conditions.bind(&mut statement)?;
            statement.raw_bind_parameter(4, id)?;
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next()? {
                keys.push((RecipientKey { message: row.get(0)?, n: row.get(1)? }, row.get(2)?));
            }
        }
        Ok((keys, last.map(QueueId::from_i64)))
    }
}

/// A destination from its row.
fn summary(row: &rusqlite::Row<'_>) -> rusqlite::Result<DestinationSummary> {
    let not_before: i64 = row.get(4)?;
    Ok(DestinationSummary {
        destination: row.get(0)?,
        waiting: u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0),
        held: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
        failures: row.get(3)?,
        not_before: (not_before > 0).then(|| from_unix(not_before)),
        due_at: row.get::<_, Option<i64>>(5)?.map(from_unix),
        last_reply: row.get(6)?,
    })
}

/// Opens a connection that can only read.
pub(crate) fn open_connection(path: &Path) -> Result<Connection, OpenError> {
    let map = |error| schema::database_error(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(map)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(map)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(map)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(map)?;
    crate::writer::keep_plans(&connection).map_err(map)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// A message with its recipients; `None` where it is not there or cannot be read.
fn load(connection: &Connection, id: i64) -> Result<Option<Listed>, QueueError> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {MESSAGE_COLUMNS} FROM message m WHERE m.id = ?1"))?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let finished_at: Option<i64> = row.get(11)?;
    let message = match rows::message(row) {
        Ok(message) => message,
        Err(damage) => {
            log::warn!("qid={} event=unreadable field={damage:?}", QueueId::from_i64(id));
            return Ok(None);
        }
    };
    let recipients = recipients(connection, id)?;
    Ok(Some(Listed { message, finished_at: finished_at.map(from_unix), recipients }))
}

fn recipients(connection: &Connection, id: i64) -> Result<Vec<StoredRecipient>, QueueError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {RECIPIENT_COLUMNS} FROM recipient r WHERE r.message = ?1 ORDER BY r.n"
    ))?;
    let mut rows = statement.query([id])?;
    let mut recipients = Vec::new();
    while let Some(row) = rows.next()? {
        match rows::stored_recipient(row) {
            Ok(recipient) => recipients.push(recipient),
            Err(damage) => log::warn!("qid={} event=unreadable field={damage:?}", QueueId::from_i64(id)),
        }
    }
    Ok(recipients)
}
