//! What damage took of messages that were acknowledged: each is named, and set aside for the administrator with all that is
//! left of it.
//!
//! What it finds, before the books are counted again: messages that had more open recipients than are there, those whose own
//! row is gone, and those whose content in the database is gone or cut. A recipient that is gone is stood for by
//! `PLACEHOLDER`, so that its message is not taken for finished and keeps its content; to the placeholder nothing is ever
//! sent, the administrator redirects or drops it. A message without its own row gets one again: who its sender was is not
//! known then.
//!
//! What it does not: content files are compared with their rows by `verify`.

use std::collections::{BTreeMap, BTreeSet};

use mta_smtp::address::ReversePath;
use mta_smtp::envelope::Body;
use rusqlite::{Connection, params};

use crate::id::QueueId;
use crate::message::Origin;
use crate::recipient::RecipientState;

/// Stands for recipients whose rows are gone. RFC 6761 6.4: nothing is ever there.
pub(crate) const PLACEHOLDER: &str = "recipients-lost@unknown.invalid";

/// A message that lost something.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Lost {
    /// The message.
    pub message: String,
    /// What of it is gone: a sentence for the administrator.
    pub what: String,
}

/// How far rows may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// Every row is there: where a number of open recipients differs from them, it is the number that is wrong.
    Whole,
    /// Some could not be read. Of content files without a message some may then be the rest of one without its row.
    Missing {
        /// There are such files.
        loose_files: bool,
    },
}

/// Sets aside what lost something, and names it, oldest first. `recount` must follow.
pub(crate) fn set_aside(connection: &Connection, rows: Rows) -> rusqlite::Result<Vec<Lost>> {
    let mut lost: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    if let Rows::Missing { loose_files } = rows {
        for id in without_row(connection)? {
            let content = make_row(connection, id, loose_files)?;
            let what = format!("its sender and what it asked for are lost{content}");
            set_all_aside(connection, id)?;
            lost.entry(id).or_default().insert(what);
        }
    }
    for (id, missing) in without_recipients(connection, rows)? {
        let what = match missing {
            1 => "a recipient of it is lost".to_owned(),
            2.. => format!("{missing} recipients of it are lost"),
            _ => "its recipients are lost".to_owned(),
        };
        stand_in(connection, id, &what)?;
        lost.entry(id).or_default().insert(what);
    }
    for id in without_content(connection)? {
        set_all_aside(connection, id)?;
        lost.entry(id).or_default().insert("its content is lost or cut".to_owned());
    }
    let named = |(id, what): (i64, BTreeSet<String>)| Lost {
        message: QueueId::from_i64(id).to_string(),
        what: what.into_iter().collect::<Vec<_>>().join("; "),
    };
    Ok(lost.into_iter().map(named).collect())
}

fn ids(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<i64>> {
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// Messages with a recipient that is not final, or with content, and without their own row.
fn without_row(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    ids(
        connection,
        "SELECT message FROM recipient WHERE state NOT BETWEEN 2 AND 5 AND message NOT IN (SELECT id FROM message)
         UNION SELECT id FROM content WHERE id NOT IN (SELECT id FROM message)",
    )
}

/// Messages that lack recipients, each with their number; 0 where that is not known.
fn without_recipients(connection: &Connection, rows: Rows) -> rusqlite::Result<Vec<(i64, i64)>> {
    let mut find = connection.prepare(
        "SELECT id, missing FROM
             (SELECT m.id, r.open, CAST(m.open AS INTEGER) - r.open AS missing
              FROM (SELECT id, open FROM message WHERE finished_at IS NULL) m
              JOIN (SELECT m.id, count(r.n) AS open FROM message m
                    LEFT JOIN recipient r ON r.message = m.id AND r.state NOT BETWEEN 2 AND 5
                    WHERE m.finished_at IS NULL GROUP BY m.id) r ON r.id = m.id)
         WHERE open = 0 OR ?1 AND missing > 0",
    )?;
    find.query_map([rows != Rows::Whole], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Messages whose content lies in the database and is not there as it was.
fn without_content(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    ids(
        connection,
        "SELECT m.id FROM message m LEFT JOIN content c ON c.id = m.id
         WHERE m.finished_at IS NULL AND m.content_file IS NULL AND (c.id IS NULL OR length(c.data) != m.size)",
    )
}

/// Gives a message a row again. Returns what is to be said of its content.
fn make_row(connection: &Connection, id: i64, loose_files: bool) -> rusqlite::Result<&'static str> {
    let content: Vec<Vec<u8>> = connection
        .prepare("SELECT data FROM content WHERE id = ?1")?
        .query_map([id], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let data = content.first().map(Vec::as_slice).unwrap_or_default();
    let length = i64::try_from(data.len()).unwrap_or(i64::MAX);
    // Of large content only the header section lies here. Which file is the rest of it nobody knows any more: with the
    // size of another octet it is never taken for the whole.
    let may_be_front = loose_files && !has_body(data);
    let size = length.saturating_add(i64::from(may_be_front));
    connection
        .prepare_cached(
            "INSERT INTO message (id, reverse_path, body, smtputf8, require_tls, size, received_at, origin, open)
             VALUES (?1, ?2, ?3, 0, 0, ?4, ?5, ?6, 0)",
        )?
        .execute(params![
            id,
            ReversePath::Null.to_string(),
            Body::EightBitMime.as_str(),
            size,
            // Ids are times.
            id / 1_000_000,
            serde_json::to_string(&Origin::default()).unwrap_or_default(),
        ])?;
    Ok(if may_be_front { ", and the rest of its content lies with the old database" } else { "" })
}

/// Whether there is something behind the header section.
fn has_body(data: &[u8]) -> bool {
    let empty_line = data.windows(4).position(|window| window == b"\r\n\r\n");
    empty_line.is_some_and(|at| at + 4 < data.len())
}

/// Takes the recipients of a message that are there out of the way of the others.
fn set_all_aside(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE recipient SET state = ?2 WHERE message = ?1 AND state NOT BETWEEN 2 AND 5")?
        .execute(params![id, RecipientState::Damaged.code()])?;
    Ok(())
}

/// Puts a recipient in the place of those that are gone. Its destination is named by `recount`.
fn stand_in(connection: &Connection, id: i64, what: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO recipient (message, n, destination, mailbox, state, next_at, reply)
             SELECT ?1, ifnull(max(n), -1) + 1, -1, ?2, ?3, 0, ?4 FROM recipient WHERE message = ?1",
        )?
        .execute(params![id, PLACEHOLDER, RecipientState::Damaged.code(), what])?;
    Ok(())
}
