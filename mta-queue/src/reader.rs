//! The reading side: lists, one message in full, counts, content. It changes nothing and takes no lock, so it works beside
//! the daemon and, opened by itself, while the daemon is down.
//!
//! A list is read a page at a time, each in a snapshot of its own, so that a slow reader never keeps the write-ahead log
//! from being folded back.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::admin::{Counts, DestinationSummary, Listed, Page, Selector, Shown, StoredAttempt};
use crate::content::{ContentReader, stored_path};
use crate::error::{OpenError, QueueError};
use crate::id::QueueId;
use crate::recipient::{RecipientKey, RecipientState, StoredRecipient};
use crate::rows::{self, MESSAGE_COLUMNS, RECIPIENT_COLUMNS};
use crate::schema::{self, MIGRATIONS};
use crate::store::DATABASE;
use crate::time::{from_unix, unix_seconds};
use crate::totals::Totals;

/// SQLite's page cache of a reading connection, KiB.
const CACHE_KIB: i64 = 512;

/// How long to wait for another process that has the database locked, as it does while it opens or closes it.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

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

    /// One page of the selected messages, oldest first, each with all its recipients. A message whose rows cannot be read
    /// is logged and left out; `RecipientState::Damaged` in `counts` says that there are such.
    ///
    /// # Errors
    /// What the database reports.
    pub fn list(&self, which: &Selector, page: Page) -> Result<Vec<Listed>, QueueError> {
        let connection = self.lock();
        let snapshot = connection.unchecked_transaction()?;
        let mut listed = Vec::new();
        for id in select(&snapshot, which, page)? {
            listed.extend(load(&snapshot, id)?);
        }
        Ok(listed)
    }

    /// One message in full, in the queue or in its history.
    ///
    /// # Errors
    /// What the database reports.
    pub fn show(&self, id: QueueId) -> Result<Option<Shown>, QueueError> {
        let connection = self.lock();
        let snapshot = connection.unchecked_transaction()?;
        let Some(listed) = load(&snapshot, id.as_i64())? else { return Ok(None) };
        let mut statement = snapshot
            .prepare_cached("SELECT at, results, decision FROM attempt WHERE message = ?1 ORDER BY n")?;
        let attempts = statement.query_map([id.as_i64()], |row| {
            let results: String = row.get(1)?;
            Ok(StoredAttempt {
                at: from_unix(row.get(0)?),
                results: serde_json::from_str(&results).unwrap_or_default(),
                decision: row.get(2)?,
            })
        })?;
        Ok(Some(Shown { listed, attempts: attempts.collect::<Result<_, _>>()? }))
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
            find.query_row([id.as_i64()], row).optional()?;
        let Some((size, file, inline)) = found else { return Ok(None) };
        let size = u64::try_from(size).unwrap_or(0);
        match (file, inline) {
            (Some(file), _) => {
                match ContentReader::from_file(&stored_path(&self.state_directory, file), size) {
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
        let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
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
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The recipients that a change by this selector concerns, and the last message looked at; `None` at the end.
    pub(crate) fn keys(
        &self,
        which: &Selector,
        page: Page,
    ) -> Result<(Vec<RecipientKey>, Option<QueueId>), QueueError> {
        let connection = self.lock();
        let snapshot = connection.unchecked_transaction()?;
        let ids = select(&snapshot, which, page)?;
        let mut statement = snapshot.prepare_cached(&format!(
            "SELECT r.message, r.n FROM recipient r WHERE r.message = ?4 {RECIPIENT_FITS}"
        ))?;
        let text = Conditions::of(which);
        let mut keys = Vec::new();
        for id in &ids {
            let bound = params![text.destination, text.recipient, text.reason, id, text.state];
            let rows = statement
                .query_map(bound, |row| Ok(RecipientKey { message: row.get(0)?, n: row.get(1)? }))?;
            for key in rows {
                keys.push(key?);
            }
        }
        Ok((keys, ids.last().copied().map(QueueId::from_i64)))
    }
}

/// Opens a connection that can only read.
pub(crate) fn open_connection(path: &Path) -> Result<Connection, OpenError> {
    let map = |error| schema::database_error(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(map)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(map)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(map)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(map)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Conditions on one recipient `r`: ?1 destination, ?2 mailbox, ?3 reason, ?5 state; each NULL where it does not matter.
/// A destination is compared with the mailbox, which is there in history too.
const RECIPIENT_FITS: &str = "
    AND (?1 IS NULL OR lower(substr(r.mailbox, -length(?1) - 1)) = '@' || ?1)
    AND (?2 IS NULL OR instr(lower(r.mailbox), ?2) > 0 AND (instr(?2, '@') = 0 OR lower(r.mailbox) = ?2))
    AND (?3 IS NULL OR instr(lower(r.reply), ?3) > 0)
    AND (?5 IS NULL OR r.state = ?5)";

/// The recipients' conditions of a selector as they are bound.
struct Conditions {
    destination: Option<String>,
    recipient: Option<String>,
    reason: Option<String>,
    state: Option<i64>,
}

impl Conditions {
    fn of(which: &Selector) -> Self {
        let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_ascii_lowercase());
        Self {
            destination: lower(&which.destination),
            recipient: lower(&which.recipient),
            reason: lower(&which.reason),
            state: which.state.map(RecipientState::code),
        }
    }

    fn any(&self) -> bool {
        self.destination.is_some()
            || self.recipient.is_some()
            || self.reason.is_some()
            || self.state.is_some()
    }
}

/// The ids of one page.
fn select(connection: &Connection, which: &Selector, page: Page) -> Result<Vec<i64>, QueueError> {
    let after = page.after.map_or(-1, QueueId::as_i64);
    if !which.ids.is_empty() {
        let sorted: BTreeMap<i64, ()> = which.ids.iter().map(|id| (id.as_i64(), ())).collect();
        let mut found = Vec::new();
        for (id, ()) in sorted.into_iter().filter(|(id, ())| *id > after) {
            if found.len() < page.limit {
                found.extend(matching(connection, which, id - 1, id, 1)?);
            }
        }
        return Ok(found);
    }
    matching(connection, which, after, i64::MAX, page.limit)
}

/// Ids above `after` up to `last` that fit.
fn matching(
    connection: &Connection,
    which: &Selector,
    after: i64,
    last: i64,
    limit: usize,
) -> Result<Vec<i64>, QueueError> {
    let conditions = Conditions::of(which);
    // A final state is found in history; so is a message that is named.
    let finished =
        which.finished || !which.ids.is_empty() || which.state.is_some_and(RecipientState::is_final);
    let path = which.reverse_path.as_ref().map(|path| path.to_ascii_lowercase());
    let mut sql = String::from(
        "SELECT m.id FROM message m WHERE m.id > ?4 AND m.id <= ?6 AND (?7 OR m.finished_at IS NULL)
         AND (?8 IS NULL OR m.received_at < ?8) AND (?9 IS NULL OR m.received_at >= ?9)
         AND (?10 IS NULL OR lower(m.reverse_path) = ?10 OR lower(m.reverse_path) = '<' || ?10 || '>'
              OR instr(?10, '@') = 0 AND instr(?10, '<') = 0 AND instr(lower(m.reverse_path), ?10) > 0)",
    );
    if conditions.any() {
        sql.push_str(" AND EXISTS (SELECT 1 FROM recipient r WHERE r.message = m.id");
        sql.push_str(RECIPIENT_FITS);
        sql.push(')');
    } else {
        // The numbers must be there for the binding.
        sql.push_str(" AND (?1 IS NULL AND ?2 IS NULL AND ?3 IS NULL AND ?5 IS NULL)");
    }
    sql.push_str(" ORDER BY m.id LIMIT ?11");
    let mut statement = connection.prepare_cached(&sql)?;
    let bound = params![
        conditions.destination,
        conditions.recipient,
        conditions.reason,
        after,
        conditions.state,
        last,
        finished,
        which.received_before.map(unix_seconds),
        which.received_since.map(unix_seconds),
        path,
        i64::try_from(limit).unwrap_or(i64::MAX),
    ];
    let ids = statement.query_map(bound, |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
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
