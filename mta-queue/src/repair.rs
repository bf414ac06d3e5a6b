//! Repair: the books are counted again, and what can be read of a damaged database is put into a new one.
//!
//! A database whose structure is whole is repaired in place, in one transaction. From one that is damaged every row that can
//! be read is copied: forwards to the first damaged page, backwards to the last one, and in between by the ids that other
//! tables name. The new database takes the old one's place as a restored one does (`backup`), and the old one is kept aside.
//!
//! Of mail nothing is given up: what lost something is named and set aside (`lost`).
//!
//! What it does not: it finds nothing (`verify` does) and decides nothing about mail.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use crate::backup::{self, BackupError, at, in_database};
use crate::content::{self, Entry};
use crate::destination;
use crate::error::{OpenError, is_damage};
use crate::lost::{self, Lost, Rows};
use crate::schema::{self, MIGRATIONS};
use crate::store::{DATABASE, Options, lock};
use crate::writer;

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Repaired {
    /// The database was damaged: a new one took its place, and the old one lies here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aside: Option<PathBuf>,
    /// Some rows of it could not be read.
    pub rows_lost: bool,
    /// Messages that were not finished and lost something. They are set aside.
    pub messages_lost: Vec<Lost>,
}

impl Repaired {
    /// Something that was there is there no more.
    pub fn has_losses(&self) -> bool {
        self.rows_lost || !self.messages_lost.is_empty()
    }
}

/// Repairs the queue in `directory`, which no daemon may have open. Blocks.
///
/// # Errors
/// `BackupError`; the queue is then as it was before.
pub fn repair(
    directory: &Path,
    options: &Options,
    progress: &mut dyn FnMut(&str),
) -> Result<Repaired, BackupError> {
    let path = directory.join(DATABASE);
    if !path.exists() {
        return Err(OpenError::Missing { path }.into());
    }
    let _lock = lock(directory)?;
    backup::finish_restore(directory).map_err(at(directory))?;
    let mut old = Connection::open(&path).map_err(in_database(&path))?;
    schema::refuse_foreign(&old, &path)?;
    progress("structure of the database");
    let whole = old
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0))
        .is_ok_and(|answer| answer == "ok");
    if whole {
        progress("counting again");
        schema::prepare(&mut old, &path, MIGRATIONS)?;
        match recount_in_place(&mut old, options) {
            Err(error) if is_damage(&error) => {}
            Err(error) => return Err(in_database(&path)(error)),
            Ok(messages_lost) => return Ok(Repaired { messages_lost, ..Repaired::default() }),
        }
    }
    salvage(directory, &old, progress)
}

fn recount_in_place(connection: &mut Connection, options: &Options) -> rusqlite::Result<Vec<Lost>> {
    writer::configure(connection, options)?;
    let transaction = connection.transaction()?;
    let lost = lost::set_aside(&transaction, Rows::Whole)?;
    recount(&transaction)?;
    transaction.commit()?;
    Ok(lost)
}

/// Puts what can be read into a new database and that in the place of the old one.
fn salvage(
    directory: &Path,
    old: &Connection,
    progress: &mut dyn FnMut(&str),
) -> Result<Repaired, BackupError> {
    let building = backup::begin(directory)?;
    let path = building.join(DATABASE);
    let mut new = Connection::open(&path).map_err(in_database(&path))?;
    new.execute_batch("PRAGMA synchronous = OFF").map_err(in_database(&path))?;
    schema::prepare(&mut new, &path, MIGRATIONS)?;
    let transaction = new.transaction().map_err(in_database(&path))?;
    let mut rows_lost = false;
    let mut damaged = Vec::new();
    for table in tables(&transaction).map_err(in_database(&path))? {
        progress(&table.name);
        let copied = table.copy(old, &transaction).map_err(in_database(&path))?;
        rows_lost |= copied != Copied::All;
        if copied == Copied::Part {
            damaged.push(table);
        }
    }
    let ids = known_ids(&transaction).map_err(in_database(&path))?;
    for table in damaged {
        progress(&table.name);
        table.copy_by_id(old, &transaction, &ids).map_err(in_database(&path))?;
    }
    let named = named_files(&transaction).map_err(in_database(&path))?;
    let loose_files = has_loose_files(directory, &named).map_err(at(directory))?;
    let rows = if rows_lost { Rows::Missing { loose_files } } else { Rows::Whole };
    let messages_lost = lost::set_aside(&transaction, rows).map_err(in_database(&path))?;
    recount(&transaction).map_err(in_database(&path))?;
    transaction.commit().map_err(in_database(&path))?;
    let named = named_files(&new).map_err(in_database(&path))?;
    new.close().map_err(|(_, error)| in_database(&path)(error))?;
    File::open(&path).and_then(|file| file.sync_all()).map_err(at(&path))?;
    let aside = backup::put_in_place(directory, "damaged")?;
    keep_unnamed(directory, &aside, &named).map_err(at(&aside))?;
    Ok(Repaired { aside: Some(aside), rows_lost, messages_lost })
}

fn named_files(new: &Connection) -> rusqlite::Result<HashSet<i64>> {
    let mut find = new
        .prepare("SELECT content_file FROM message WHERE content_file IS NOT NULL AND finished_at IS NULL")?;
    find.query_map([], |row| row.get(0))?.collect()
}

fn has_loose_files(directory: &Path, named: &HashSet<i64>) -> std::io::Result<bool> {
    let loose = |entry: &Entry| matches!(entry, Entry::Content(file) if !named.contains(file));
    Ok(content::entries(directory)?.iter().any(loose))
}

/// Content whose message was lost is kept with the old database: the next start would delete it.
fn keep_unnamed(directory: &Path, aside: &Path, named: &HashSet<i64>) -> std::io::Result<()> {
    for entry in content::entries(directory)? {
        let Entry::Content(file) = entry else { continue };
        if named.contains(&file) {
            continue;
        }
        let path = content::stored_path(directory, file);
        let kept = aside.join(content::DIRECTORY);
        fs::create_dir_all(&kept)?;
        if let Some(name) = path.file_name() {
            fs::rename(&path, kept.join(name))?;
        }
    }
    Ok(())
}

/// A table of the new database, as both databases know it.
struct Table {
    name: String,
    key: Vec<String>,
    columns: Vec<String>,
}

fn tables(new: &Connection) -> rusqlite::Result<Vec<Table>> {
    let mut find =
        new.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")?;
    let names = find.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    names
        .into_iter()
        .map(|name| {
            let mut key = columns(new, &name)?;
            let columns = key.iter().map(|(column, _)| column.clone()).collect();
            key.retain(|(_, place)| *place > 0);
            key.sort_by_key(|(_, place)| *place);
            Ok(Table { name, key: key.into_iter().map(|(column, _)| column).collect(), columns })
        })
        .collect()
}

/// The columns of a table, each with its place in the key.
fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut find = connection.prepare("SELECT name, pk FROM pragma_table_info(?1) ORDER BY cid")?;
    find.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// How much of a query's rows is in the new database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copied {
    /// Every row.
    All,
    /// Every row but those that break a rule of the new database: they were damaged.
    Readable,
    /// There may be more: the query met damage.
    Part,
}

impl Table {
    /// Copies forwards and, where that ends at damage, backwards. Errors are those of the new database.
    fn copy(&self, old: &Connection, new: &Connection) -> rusqlite::Result<Copied> {
        let order = |direction: &str| {
            let key: Vec<String> = self.key.iter().map(|column| format!("{column} {direction}")).collect();
            if key.is_empty() {
                format!("ORDER BY rowid {direction}")
            } else {
                format!("ORDER BY {}", key.join(", "))
            }
        };
        let forwards = self.copy_rows(old, new, &order("ASC"), None)?;
        if forwards == Copied::Part {
            self.copy_rows(old, new, &order("DESC"), None)?;
        }
        Ok(forwards)
    }

    /// Copies the rows of these messages, one message at a time.
    fn copy_by_id(&self, old: &Connection, new: &Connection, ids: &[i64]) -> rusqlite::Result<()> {
        if !["message", "content", "recipient", "attempt"].contains(&self.name.as_str()) {
            return Ok(());
        }
        let Some(first) = self.key.first() else { return Ok(()) };
        for id in ids {
            self.copy_rows(old, new, &format!("WHERE {first} = ?1"), Some(*id))?;
        }
        Ok(())
    }

    /// Copies the rows of one query until it ends or meets damage.
    fn copy_rows(
        &self,
        old: &Connection,
        new: &Connection,
        which: &str,
        id: Option<i64>,
    ) -> rusqlite::Result<Copied> {
        // Columns that a later version added keep their defaults.
        let Ok(there) = columns(old, &self.name) else { return Ok(Copied::Part) };
        let both: Vec<&str> = self
            .columns
            .iter()
            .map(String::as_str)
            .filter(|column| there.iter().any(|(name, _)| name == column))
            .collect();
        if both.is_empty() {
            return Ok(Copied::All);
        }
        let list = both.join(", ");
        let marks = vec!["?"; both.len()].join(", ");
        let mut insert =
            new.prepare_cached(&format!("INSERT OR REPLACE INTO {} ({list}) VALUES ({marks})", self.name))?;
        let Ok(mut read) = old.prepare(&format!("SELECT {list} FROM {} {which}", self.name)) else {
            return Ok(Copied::Part);
        };
        let Ok(mut rows) = read.query(params_from_iter(id)) else { return Ok(Copied::Part) };
        let mut copied = Copied::All;
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(copied),
                Err(_) => return Ok(Copied::Part),
            };
            let values: rusqlite::Result<Vec<Value>> =
                (0..both.len()).map(|column| row.get(column)).collect();
            let Ok(values) = values else { return Ok(Copied::Part) };
            match insert.execute(params_from_iter(values)) {
                Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
                    copied = Copied::Readable;
                }
                other => drop(other?),
            }
        }
    }
}

/// Ids of messages that any table names.
fn known_ids(new: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut find = new.prepare(
        "SELECT id FROM message UNION SELECT id FROM content UNION SELECT message FROM recipient
         UNION SELECT message FROM attempt",
    )?;
    find.query_map([], |row| row.get(0))?.collect()
}

/// Takes a message out with all its rows. Call `recount` afterwards.
pub(crate) fn forget_message(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    for table in ["recipient", "attempt", "event"] {
        connection.prepare_cached(&format!("DELETE FROM {table} WHERE message = ?1"))?.execute([id])?;
    }
    for table in ["content", "message"] {
        connection.prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?.execute([id])?;
    }
    Ok(())
}

/// Counts again: open recipients of each message, numbers and due time of each destination, the totals.
pub(crate) fn recount(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "DELETE FROM attempt WHERE message NOT IN (SELECT id FROM message);
         DELETE FROM event WHERE message NOT IN (SELECT id FROM message);
         DELETE FROM recipient WHERE message NOT IN (SELECT id FROM message);
         UPDATE message SET open = (SELECT count(*) FROM recipient r
                                    WHERE r.message = message.id AND r.state NOT BETWEEN 2 AND 5);
         UPDATE message SET finished_at = received_at WHERE open = 0 AND finished_at IS NULL;
         UPDATE message SET finished_at = NULL WHERE open > 0;
         DELETE FROM content WHERE id NOT IN (SELECT id FROM message WHERE finished_at IS NULL);",
    )?;
    name_destinations(connection)?;
    connection.execute_batch(
        "UPDATE destination SET
             waiting = (SELECT count(*) FROM recipient WHERE destination = destination.id AND state = 0),
             held = (SELECT count(*) FROM recipient
                     WHERE destination = destination.id AND state NOT IN (0, 2, 3, 4, 5)),
             due_at = max(not_before, (SELECT min(next_at) FROM recipient
                                       WHERE destination = destination.id AND state = 0));
         DELETE FROM destination WHERE waiting = 0 AND held = 0 AND failures = 0;
         UPDATE totals SET
             last_id = max(last_id, (SELECT ifnull(max(id), 0) FROM message),
                           (SELECT ifnull(max(content_file), 0) FROM message WHERE content_file IS NOT NULL)),
             messages = (SELECT count(*) FROM message WHERE finished_at IS NULL),
             content_bytes = (SELECT ifnull(sum(size), 0) FROM message WHERE finished_at IS NULL),
             waiting = (SELECT count(*) FROM recipient WHERE state = 0),
             held = (SELECT count(*) FROM recipient WHERE state = 1),
             damaged = (SELECT count(*) FROM recipient WHERE state NOT BETWEEN 0 AND 5),
             finished = (SELECT count(*) FROM message WHERE finished_at IS NOT NULL);",
    )?;
    Ok(())
}

/// Gives a destination to recipients whose own is not there.
fn name_destinations(connection: &Connection) -> rusqlite::Result<()> {
    let mut find = connection.prepare(
        "SELECT message, n, mailbox, via FROM recipient
         WHERE state NOT BETWEEN 2 AND 5 AND destination NOT IN (SELECT id FROM destination)",
    )?;
    let lost = find.query_map([], |row| {
        let via: Option<String> = row.get(3)?;
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?, via))
    })?;
    for (message, n, mailbox, via) in lost.collect::<Result<Vec<_>, _>>()? {
        let name = mta_smtp::address::Mailbox::parse(&mailbox)
            .map(|mailbox| destination::name_with(&mailbox, via.as_deref()));
        let name = name.unwrap_or_else(|_| "unknown.invalid".to_owned());
        connection
            .prepare_cached("INSERT INTO destination (name) VALUES (?1) ON CONFLICT (name) DO NOTHING")?
            .execute([&name])?;
        connection
            .prepare_cached(
                "UPDATE recipient SET destination = (SELECT id FROM destination WHERE name = ?3)
                 WHERE message = ?1 AND n = ?2",
            )?
            .execute(params![message, n, name])?;
    }
    Ok(())
}
