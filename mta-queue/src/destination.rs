//! Destinations: what waits for one recipient domain, and its back-off as a whole.
//!
//! One failure of a destination changes one row, and everything that waits for it is later: nothing is found due before
//! `due_at`, the later of the destination's `not_before` and the earliest next attempt among its recipients. What it does
//! not: it knows no routes and no schedule; the times are given.

use mta_smtp::address::{Host, Mailbox};
use rusqlite::{OptionalExtension, params};

use crate::error::QueueError;
use crate::writer::Tx;

/// A destination without anything waiting is forgotten so many seconds after its back-off ended.
const FORGET_IDLE_SECONDS: i64 = 86_400;

/// Idle destinations that are forgotten in one turn.
const FORGET_AT_ONCE: i64 = 4;

/// The destination of a mailbox: its domain, lower case, or its address literal.
pub(crate) fn name_of(mailbox: &Mailbox) -> String {
    match mailbox.host() {
        Host::Domain(domain) => domain.as_str().to_lowercase(),
        literal @ Host::Literal(_) => literal.to_string(),
    }
}

/// The destination of a mailbox whose next hop the administrator may have chosen: it waits, fails and works apart from
/// the other mail for the domain.
pub(crate) fn name_with(mailbox: &Mailbox, via: Option<&str>) -> String {
    let name = name_of(mailbox);
    via.map_or_else(|| name.clone(), |via| format!("{name}{VIA}{via}"))
}

/// Between the domain of a destination and the next hop that the administrator chose. A domain holds no space.
const VIA: &str = " via ";

/// A destination's name as its domain and the next hop that the administrator chose, if he did.
pub fn parts(name: &str) -> (&str, Option<&str>) {
    name.split_once(VIA).map_or((name, None), |(domain, via)| (domain, Some(via)))
}

/// The row of a destination, made where there is none.
pub(crate) fn intern(tx: &Tx<'_>, name: &str) -> Result<i64, QueueError> {
    let mut find = tx.connection.prepare_cached("SELECT id FROM destination WHERE name = ?1")?;
    if let Some(id) = find.query_row([name], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    tx.connection.prepare_cached("INSERT INTO destination (name) VALUES (?1)")?.execute([name])?;
    Ok(tx.connection.last_insert_rowid())
}

/// How the numbers of a destination change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) waiting: i64,
    pub(crate) held: i64,
}

/// Applies a change of numbers and finds the new `due_at`. Call once for each destination whose recipients changed,
/// after they did.
pub(crate) fn refresh(tx: &Tx<'_>, id: i64, change: Change) -> Result<(), QueueError> {
    tx.connection
        .prepare_cached(
            "UPDATE destination SET waiting = waiting + ?2, held = held + ?3,
                    due_at = max(not_before,
                                 (SELECT min(next_at) FROM recipient WHERE destination = ?1 AND state = 0))
             WHERE id = ?1",
        )?
        .execute(params![id, change.waiting, change.held])?;
    // A destination that works and has nothing waiting needs no row.
    tx.connection
        .prepare_cached(
            "DELETE FROM destination WHERE id = ?1 AND waiting = 0 AND held = 0 AND failures = 0",
        )?
        .execute([id])?;
    Ok(())
}

/// The destination answers, or the administrator wants it tried: its failures are forgotten, and that its next-hop was
/// not to be tried.
pub(crate) fn works(tx: &Tx<'_>, id: i64) -> Result<(), QueueError> {
    tx.connection
        .prepare_cached(
            "UPDATE destination SET failures = 0, not_before = 0, last_reply = NULL
             WHERE id = ?1 AND (failures > 0 OR not_before > 0)",
        )?
        .execute([id])?;
    Ok(())
}

/// The destination failed as a whole.
pub(crate) fn failed(
    tx: &Tx<'_>,
    id: i64,
    failures: u32,
    not_before: i64,
    reply: &str,
) -> Result<(), QueueError> {
    tx.connection
        .prepare_cached(
            "UPDATE destination SET failures = max(failures, ?4), not_before = max(not_before, ?2), last_reply = ?3
             WHERE id = ?1",
        )?
        .execute(params![id, not_before, reply, failures])?;
    Ok(())
}

/// Its next-hop is not to be tried before a time.
pub(crate) fn postpone(tx: &Tx<'_>, id: i64, not_before: i64) -> Result<(), QueueError> {
    tx.connection
        .prepare_cached(
            "UPDATE destination SET not_before = max(not_before, ?2), due_at = max(due_at, ?2) WHERE id = ?1",
        )?
        .execute(params![id, not_before])?;
    Ok(())
}

/// Nothing for it is looked for before a time; unlike `postpone` its back-off stays as it is, so that `refresh` undoes it.
pub(crate) fn sleep(tx: &Tx<'_>, id: i64, until: i64) -> Result<(), QueueError> {
    tx.connection
        .prepare_cached("UPDATE destination SET due_at = max(due_at, ?2) WHERE id = ?1")?
        .execute(params![id, until])?;
    Ok(())
}

/// Destinations woken in one turn.
const WAKE_AT_ONCE: i64 = 500;

/// Looks again when something for the destinations behind `after` is due, a few of them. Returns the last, 0 at the end.
pub(crate) fn wake(tx: &mut Tx<'_>, after: i64) -> Result<u64, QueueError> {
    let mut find = tx.connection.prepare_cached(
        "SELECT max(id) FROM (SELECT id FROM destination WHERE id > ?1 ORDER BY id LIMIT ?2)",
    )?;
    let last: Option<i64> = find.query_row(params![after, WAKE_AT_ONCE], |row| row.get(0))?;
    let Some(last) = last else { return Ok(0) };
    tx.connection
        .prepare_cached(
            "UPDATE destination SET due_at = max(not_before,
                 (SELECT min(next_at) FROM recipient WHERE destination = destination.id AND state = 0))
             WHERE id > ?1 AND id <= ?2 AND waiting > 0",
        )?
        .execute(params![after, last])?;
    tx.effects.wake = true;
    Ok(u64::try_from(last).unwrap_or(0))
}

/// Forgets the failures of a destination by its name, and of what was sent another way by hand.
pub(crate) fn reset(tx: &mut Tx<'_>, name: &str) -> Result<u64, QueueError> {
    let mut find = tx.connection.prepare_cached(
        "SELECT id FROM destination WHERE name = ?1 OR name >= ?1 || ' via ' AND name < ?1 || ' via!'",
    )?;
    let found = find.query_map([name], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    for id in &found {
        works(tx, *id)?;
        refresh(tx, *id, Change::default())?;
    }
    tx.effects.wake |= !found.is_empty();
    Ok(found.len() as u64)
}

/// Forgets a few destinations that failed once and for which nothing came since.
pub(crate) fn forget_idle(tx: &Tx<'_>, now: i64) -> Result<(), QueueError> {
    tx.connection
        .prepare_cached(
            "DELETE FROM destination WHERE id IN (SELECT id FROM destination
                 WHERE waiting = 0 AND held = 0 AND not_before < ?1 ORDER BY not_before LIMIT ?2)",
        )?
        .execute(params![now - FORGET_IDLE_SECONDS, FORGET_AT_ONCE])?;
    Ok(())
}
