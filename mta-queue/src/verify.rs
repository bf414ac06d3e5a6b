//! Verifying a queue: the database's own structure, the books against the rows, the content against the rows.
//!
//! It reads one snapshot, changes nothing and takes no lock: it works beside the daemon, on the files of a daemon that is
//! down, and on a backup in a directory. What it does not: it repairs nothing (`repair` does).

use std::collections::HashSet;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use crate::content::{self, Entry};
use crate::error::{OpenError, QueueError};
use crate::id::QueueId;
use crate::reader::Reader;
use crate::rows::{self, MESSAGE_COLUMNS, RECIPIENT_COLUMNS};
use crate::store;
use crate::totals::Totals;

/// Problems named one by one, of each kind of check. Where there are more, `Verified::more` says so.
const NAMED_OF_EACH: usize = 50;

/// What `verify` found.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Verified {
    /// Messages with a recipient that is not final.
    pub messages: u64,
    /// Their recipients and those of the history.
    pub recipients: u64,
    /// Files of large content that a row names.
    pub files: u64,
    /// What is wrong; empty where all is well.
    pub problems: Vec<Problem>,
    /// There are more problems than are named.
    pub more: bool,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Of which kind.
    pub kind: ProblemKind,
    /// The message it concerns, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// A sentence for the administrator.
    pub text: String,
}

/// Kinds of problems, by what can be done about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The database file itself is damaged: repair, or restore a backup.
    Database,
    /// A number does not agree with the rows it counts, or a row has lost its other half: repair.
    Books,
    /// A row of a message that waits cannot be read; the message is set aside when its turn comes.
    Row,
    /// The content of a message that waits is missing or cut; the message is set aside when its turn comes.
    Content,
    /// A recipient was set aside: look at it, then retry or drop.
    SetAside,
    /// A content file that no row names, deleted at the next start.
    Orphan,
    /// A file in the content directory that is not ours.
    Foreign,
}

impl ProblemKind {
    /// The word for it in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Books => "books",
            Self::Row => "row",
            Self::Content => "content",
            Self::SetAside => "set-aside",
            Self::Orphan => "orphan",
            Self::Foreign => "foreign",
        }
    }
}

/// Verifies the queue in `directory`. `progress` hears what is looked at next. Blocks for as long as it takes to read all of
/// the database.
///
/// # Errors
/// The queue cannot be opened for reading, or the disk reports something else than damage.
pub fn verify(directory: &Path, progress: &mut dyn FnMut(&str)) -> Result<Verified, OpenError> {
    let reader = Reader::open(directory)?;
    let connection = reader.lock();
    let mut check = Check { connection: &connection, directory, verified: Verified::default() };
    let failed = |error: QueueError| OpenError::Database {
        path: directory.join(store::DATABASE),
        reason: error.to_string(),
    };
    let snapshot = connection.unchecked_transaction().map_err(|error| failed(error.into()))?;
    for (name, step) in Check::STEPS {
        progress(name);
        if let Err(error) = step(&mut check) {
            // What cannot be read is a finding, not the end of the others.
            check.found(ProblemKind::Database, None, format!("{name}: {error}"));
        }
    }
    drop(snapshot);
    progress("content files");
    check.files().map_err(failed)?;
    Ok(check.verified)
}

type Step<'a> = fn(&mut Check<'a>) -> Result<(), QueueError>;

struct Check<'a> {
    connection: &'a Connection,
    directory: &'a Path,
    verified: Verified,
}

impl<'a> Check<'a> {
    /// What is done in the snapshot.
    const STEPS: [(&'static str, Step<'a>); 6] = [
        ("structure of the database", Self::structure),
        ("totals", Self::totals),
        ("halves of rows", Self::halves),
        ("destinations", Self::destinations),
        ("messages and recipients", Self::rows),
        ("content in the database", Self::inline_content),
    ];

    fn found(&mut self, kind: ProblemKind, message: Option<i64>, text: String) {
        if self.verified.problems.iter().filter(|problem| problem.kind == kind).count() >= NAMED_OF_EACH {
            self.verified.more = true;
            return;
        }
        let message = message.map(|id| QueueId::from_i64(id).to_string());
        self.verified.problems.push(Problem { kind, message, text });
    }

    fn structure(&mut self) -> Result<(), QueueError> {
        let mut statement = self.connection.prepare(&format!("PRAGMA integrity_check({NAMED_OF_EACH})"))?;
        let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
        for line in lines.collect::<Result<Vec<_>, _>>()? {
            if line != "ok" {
                self.found(ProblemKind::Database, None, line);
            }
        }
        Ok(())
    }

    fn totals(&mut self) -> Result<(), QueueError> {
        let totals = Totals::load(self.connection)?;
        let number = |sql: &str| self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let counted = [
            ("messages", totals.messages, number("SELECT count(*) FROM message WHERE finished_at IS NULL")?),
            (
                "octets of content",
                totals.content_bytes,
                number("SELECT ifnull(sum(size), 0) FROM message WHERE finished_at IS NULL")?,
            ),
            (
                "finished messages",
                totals.finished,
                number("SELECT count(*) FROM message WHERE finished_at IS NOT NULL")?,
            ),
            ("waiting recipients", totals.waiting, number("SELECT count(*) FROM recipient WHERE state = 0")?),
            ("held recipients", totals.held, number("SELECT count(*) FROM recipient WHERE state = 1")?),
            (
                "damaged recipients",
                totals.damaged,
                number("SELECT count(*) FROM recipient WHERE state NOT BETWEEN 0 AND 5")?,
            ),
        ];
        let last = number("SELECT ifnull(max(id), 0) FROM message")?;
        for (what, booked, real) in counted {
            if booked != real {
                self.found(ProblemKind::Books, None, format!("{booked} {what} are booked, {real} are there"));
            }
        }
        if totals.last_id < last {
            self.found(ProblemKind::Books, Some(last), "a newer message than the last id".to_owned());
        }
        self.verified.messages = u64::try_from(totals.messages).unwrap_or(0);
        Ok(())
    }

    /// Rows that belong together.
    fn halves(&mut self) -> Result<(), QueueError> {
        const OPEN: &str =
            "(SELECT count(*) FROM recipient r WHERE r.message = m.id AND r.state NOT BETWEEN 2 AND 5)";
        let queries = [
            (
                "recipients without their message",
                "SELECT DISTINCT message FROM recipient WHERE message NOT IN (SELECT id FROM message)"
                    .to_owned(),
            ),
            (
                "attempts without their message",
                "SELECT DISTINCT message FROM attempt WHERE message NOT IN (SELECT id FROM message)"
                    .to_owned(),
            ),
            (
                "content without a message that waits",
                "SELECT id FROM content WHERE id NOT IN (SELECT id FROM message WHERE finished_at IS NULL)"
                    .to_owned(),
            ),
            (
                "a wrong number of open recipients",
                format!("SELECT m.id FROM message m WHERE m.open != {OPEN}"),
            ),
            (
                "no open recipient, and not finished",
                format!("SELECT m.id FROM message m WHERE m.finished_at IS NULL AND {OPEN} = 0"),
            ),
            (
                "an open recipient, and finished",
                format!("SELECT m.id FROM message m WHERE m.finished_at IS NOT NULL AND {OPEN} > 0"),
            ),
            (
                "a recipient whose destination is not there",
                "SELECT DISTINCT message FROM recipient WHERE state NOT BETWEEN 2 AND 5
                 AND destination NOT IN (SELECT id FROM destination)"
                    .to_owned(),
            ),
        ];
        for (text, sql) in queries {
            self.each(&sql, ProblemKind::Books, text)?;
        }
        self.each(
            "SELECT DISTINCT message FROM recipient WHERE state NOT BETWEEN 0 AND 5",
            ProblemKind::SetAside,
            "a recipient was set aside",
        )
    }

    /// Names each message that a query finds.
    fn each(&mut self, sql: &str, kind: ProblemKind, text: &str) -> Result<(), QueueError> {
        let mut statement = self.connection.prepare(&format!("{sql} LIMIT {}", NAMED_OF_EACH + 1))?;
        let found = statement.query_map([], |row| row.get::<_, i64>(0))?;
        for id in found.collect::<Result<Vec<_>, _>>()? {
            self.found(kind, Some(id), text.to_owned());
        }
        Ok(())
    }

    fn destinations(&mut self) -> Result<(), QueueError> {
        let mut statement = self.connection.prepare(&format!(
            "SELECT d.name, d.waiting, d.held, d.due_at, ifnull(r.waiting, 0), ifnull(r.held, 0),
                    max(d.not_before, r.next_at)
             FROM destination d LEFT JOIN
                  (SELECT destination, sum(state = 0) AS waiting, sum(state NOT IN (0, 2, 3, 4, 5)) AS held,
                          min(CASE state WHEN 0 THEN next_at END) AS next_at
                   FROM recipient GROUP BY destination) r ON r.destination = d.id
             WHERE d.waiting != ifnull(r.waiting, 0) OR d.held != ifnull(r.held, 0)
                OR ifnull(r.waiting, 0) > 0 AND (d.due_at IS NULL OR d.due_at > max(d.not_before, r.next_at)
                                                   AND NOT EXISTS (SELECT 1 FROM pause))
             LIMIT {}",
            NAMED_OF_EACH + 1
        ))?;
        let found = statement.query_map([], |row| {
            let name: String = row.get(0)?;
            let numbers: [i64; 4] = [row.get(1)?, row.get(2)?, row.get(4)?, row.get(5)?];
            let due: [Option<i64>; 2] = [row.get(3)?, row.get(6)?];
            Ok((name, numbers, due))
        })?;
        for (name, [waiting, held, real_waiting, real_held], [due, real_due]) in
            found.collect::<Result<Vec<_>, _>>()?
        {
            let text = if (waiting, held) == (real_waiting, real_held) {
                format!("{name}: due at {due:?}, should be {real_due:?}")
            } else {
                format!(
                    "{name}: {waiting} wait and {held} are held by the books, {real_waiting} and {real_held} are there"
                )
            };
            self.found(ProblemKind::Books, None, text);
        }
        Ok(())
    }

    /// Every row of a message that waits makes a value.
    fn rows(&mut self) -> Result<(), QueueError> {
        let mut statement = self
            .connection
            .prepare(&format!("SELECT {MESSAGE_COLUMNS} FROM message m WHERE m.finished_at IS NULL"))?;
        let mut messages = statement.query([])?;
        while let Some(row) = messages.next()? {
            if let Err(damage) = rows::message(row) {
                self.found(ProblemKind::Row, row.get(0).ok(), format!("its {damage} cannot be read"));
            }
        }
        let mut statement =
            self.connection.prepare(&format!("SELECT {RECIPIENT_COLUMNS} FROM recipient r"))?;
        let mut recipients = statement.query([])?;
        while let Some(row) = recipients.next()? {
            self.verified.recipients += 1;
            if let Err(damage) = rows::stored_recipient(row) {
                let text = format!("the {damage} of a recipient cannot be read");
                self.found(ProblemKind::Row, row.get(0).ok(), text);
            }
        }
        Ok(())
    }

    fn inline_content(&mut self) -> Result<(), QueueError> {
        self.each(
            "SELECT m.id FROM message m LEFT JOIN content c ON c.id = m.id
             WHERE m.finished_at IS NULL AND m.content_file IS NULL
               AND (c.id IS NULL OR length(c.data) != m.size)",
            ProblemKind::Content,
            "its content row is missing or cut",
        )
    }

    /// Files against rows. Beside a running daemon both change: what looks wrong is looked up again, and files that no row
    /// names are then none of our business, since they may be mail that is arriving.
    fn files(&mut self) -> Result<(), QueueError> {
        let mut statement = self.connection.prepare(
            "SELECT m.id, m.content_file, m.size - ifnull(length(c.data), 0)
             FROM message m LEFT JOIN content c ON c.id = m.id
             WHERE m.content_file IS NOT NULL AND m.finished_at IS NULL",
        )?;
        let named = statement
            .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))?;
        let named = named.collect::<Result<Vec<_>, _>>()?;
        self.verified.files = named.len() as u64;
        for &(message, file, size) in &named {
            let path = content::stored_path(self.directory, file);
            let length = std::fs::metadata(&path).map(|found| i64::try_from(found.len()).unwrap_or(i64::MAX));
            if length.as_ref().ok() != Some(&size) && self.still_waits(message)? {
                let state = length.map_or_else(
                    |error| error.to_string(),
                    |length| format!("it has {length} octets of {size}"),
                );
                let text = format!("its content file {}: {state}", path.display());
                self.found(ProblemKind::Content, Some(message), text);
            }
        }
        let alive = store::is_in_use(self.directory);
        let named: HashSet<i64> = named.iter().map(|(_, file, _)| *file).collect();
        for entry in content::entries(self.directory)? {
            match entry {
                Entry::Content(file) if !alive && !named.contains(&file) => {
                    let path = content::stored_path(self.directory, file);
                    self.found(ProblemKind::Orphan, None, format!("no message names {}", path.display()));
                }
                Entry::Incomplete(path) if !alive => {
                    self.found(ProblemKind::Orphan, None, format!("{} was never finished", path.display()));
                }
                Entry::Foreign(path) => {
                    self.found(ProblemKind::Foreign, None, format!("{} is not of the queue", path.display()));
                }
                Entry::Content(_) | Entry::Incomplete(_) => {}
            }
        }
        Ok(())
    }

    fn still_waits(&self, message: i64) -> Result<bool, QueueError> {
        let mut find =
            self.connection.prepare_cached("SELECT 1 FROM message WHERE id = ?1 AND finished_at IS NULL")?;
        Ok(find.query_row(params![message], |_| Ok(())).optional()?.is_some())
    }
}
