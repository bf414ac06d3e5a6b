//! What a selector means in SQL: conditions on messages and on their recipients, looked through a bounded step at a time.

use std::collections::BTreeSet;
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, params};

use crate::admin::{Page, Selector};
use crate::error::QueueError;
use crate::id::QueueId;
use crate::recipient::RecipientState;
use crate::time::{unix_micros, unix_seconds};

/// Conditions on one recipient `r`: ?1 destination, ?2 mailbox, ?3 reason, ?5 state, ?6 pattern of the status code,
/// ?7 next hop, ?8 tried before; each NULL where it does not matter. A destination is compared with the mailbox, which is
/// there in history too.
pub(crate) const RECIPIENT_FITS: &str = "
    AND (?1 IS NULL OR lower(substr(r.mailbox, -length(?1) - 1)) = '@' || ?1)
    AND (?2 IS NULL OR instr(lower(r.mailbox), ?2) > 0 AND (instr(?2, '@') = 0 OR lower(r.mailbox) = ?2))
    AND (?3 IS NULL OR instr(lower(r.reply), ?3) > 0 OR instr(lower(r.note), ?3) > 0
        OR r.status GLOB ?6)
    AND (?5 IS NULL OR r.state = ?5)
    AND (?7 IS NULL OR instr(lower(r.remote), ?7) > 0 OR instr(r.via, ?7) > 0)
    AND (?8 IS NULL OR (r.attempts > 0) = ?8)";

/// Messages looked through in one step: bounds the time for which a snapshot is held.
const STEP: i64 = 8_192;

/// Messages that an index names, read in one step.
const INDEXED_STEP: i64 = 1_024;

/// By how much the clock may have been wrong when an id was given, seconds.
const CLOCK_MARGIN: i64 = 86_400;

/// What waits for a destination, by index.
const WAITING_OF: &str = "SELECT DISTINCT message FROM recipient
    WHERE destination = ?1 AND state = 0 AND message > ?2 ORDER BY message LIMIT ?3";

/// What is held or set aside of a destination, by index.
const HELD_OF: &str = "SELECT DISTINCT message FROM recipient
    WHERE destination = ?1 AND state IN (1, 6) AND message > ?2 ORDER BY message LIMIT ?3";

/// What is held or set aside, as it comes.
const HELD: &str = "SELECT message FROM recipient INDEXED BY recipient_held WHERE state IN (1, 6) LIMIT ?1";

/// The classes of status codes by RFC 3463 3.1 to 3.8, by their second number.
const CLASSES: [(&str, u8); 8] = [
    ("address", 1),
    ("mailbox", 2),
    ("system", 3),
    ("network", 4),
    ("protocol", 5),
    ("content", 6),
    ("policy", 7),
    ("security", 7),
];

/// The status codes that a reason may mean besides the text of replies.
fn status_pattern(reason: &str) -> Option<String> {
    if let Some((_, class)) = CLASSES.iter().find(|(name, _)| *name == reason) {
        return Some(format!("*.{class}.*"));
    }
    let digits =
        reason.starts_with(['2', '4', '5']) && reason.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let stem = reason.trim_end_matches('.');
    match stem.matches('.').count() {
        2 if digits => Some(stem.to_owned()),
        1 if digits => Some(format!("{stem}.*")),
        _ => None,
    }
}

/// The recipients' conditions of a selector as they are bound.
pub(crate) struct Conditions {
    destination: Option<String>,
    recipient: Option<String>,
    reason: Option<String>,
    state: Option<i64>,
    status: Option<String>,
    next_hop: Option<String>,
    attempted: Option<bool>,
}

impl Conditions {
    pub(crate) fn of(which: &Selector) -> Self {
        let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_ascii_lowercase());
        let reason = lower(&which.reason);
        Self {
            destination: lower(&which.destination),
            recipient: lower(&which.recipient),
            status: reason.as_deref().and_then(status_pattern),
            reason,
            state: which.state.map(RecipientState::code),
            next_hop: lower(&which.next_hop),
            attempted: which.attempted,
        }
    }

    fn any(&self) -> bool {
        self.destination.is_some()
            || self.recipient.is_some()
            || self.reason.is_some()
            || self.state.is_some()
            || self.next_hop.is_some()
            || self.attempted.is_some()
    }

    /// Binds them to a statement with `RECIPIENT_FITS`.
    pub(crate) fn bind(&self, statement: &mut rusqlite::Statement<'_>) -> rusqlite::Result<()> {
        statement.raw_bind_parameter(1, &self.destination)?;
        statement.raw_bind_parameter(2, &self.recipient)?;
        statement.raw_bind_parameter(3, &self.reason)?;
        statement.raw_bind_parameter(5, self.state)?;
        statement.raw_bind_parameter(6, &self.status)?;
        statement.raw_bind_parameter(7, &self.next_hop)?;
        statement.raw_bind_parameter(8, self.attempted)
    }
}

/// The ids of one step that fit, and the id up to which was looked; `None` where that is the end.
pub(crate) fn select(
    connection: &Connection,
    which: &Selector,
    page: Page,
) -> Result<(Vec<i64>, Option<i64>), QueueError> {
    let after = page.after.map_or(-1, QueueId::as_i64);
    if !which.ids.is_empty() {
        let sorted: BTreeSet<i64> = which.ids.iter().map(|id| id.as_i64()).filter(|id| *id > after).collect();
        let mut found = Vec::new();
        for id in sorted {
            found.extend(matching(connection, which, id - 1, id, 1)?);
            if found.len() >= page.limit {
                return Ok((found, Some(id)));
            }
        }
        return Ok((found, None));
    }
    // Ids are times: what is too young or too old is not looked through.
    let margin = |time: SystemTime, seconds: i64| unix_micros(time).saturating_add(seconds * 1_000_000);
    let after = which.received_since.map_or(after, |since| after.max(margin(since, -CLOCK_MARGIN)));
    let before = which.received_before.map_or(i64::MAX, |before| margin(before, CLOCK_MARGIN));
    let up_to = which.up_to.map_or(i64::MAX, QueueId::as_i64).min(before);
    if let Some(candidates) = indexed(connection, which, after)? {
        return among(connection, which, candidates, up_to, page.limit);
    }
    let mut step = connection.prepare_cached(
        "SELECT id FROM message WHERE id > ?1 AND (?2 OR finished_at IS NULL) ORDER BY id LIMIT 1 OFFSET ?3",
    )?;
    let last: Option<i64> =
        step.query_row(params![after, with_finished(which), STEP - 1], |row| row.get(0)).optional()?;
    let found = matching(connection, which, after, last.unwrap_or(i64::MAX).min(up_to), page.limit)?;
    let go_on = if found.len() >= page.limit { found.last().copied() } else { last };
    Ok((found, go_on.filter(|last| *last < up_to)))
}

/// Messages that an index names for a selection, and whether there are more behind them.
struct Candidates {
    ids: BTreeSet<i64>,
    more: bool,
}

/// Finds by index what a selection can fit, a step of it: by destination, and what is held where that is little. `None`
/// where no index helps.
fn indexed(connection: &Connection, which: &Selector, after: i64) -> Result<Option<Candidates>, QueueError> {
    if with_finished(which) {
        return Ok(None);
    }
    let limit = usize::try_from(INDEXED_STEP).unwrap_or(usize::MAX);
    let mut ids = BTreeSet::new();
    let mut more = false;
    let domain = which.recipient.as_deref().and_then(|mailbox| Some(mailbox.rsplit_once('@')?.1));
    let name = which.destination.as_deref().or(domain);
    if name.is_some_and(|name| name.starts_with('[')) {
        // Address literals have more than one spelling.
        return Ok(None);
    }
    if let Some(name) = name {
        let mut find = connection.prepare_cached(
            "SELECT id FROM destination WHERE name = ?1 OR name >= ?1 || ' via ' AND name < ?1 || ' via!'",
        )?;
        let found = find.query_map([name.to_lowercase()], |row| row.get(0))?;
        for destination in found.collect::<Result<Vec<i64>, _>>()? {
            for sql in [WAITING_OF, HELD_OF] {
                let mut read = connection.prepare_cached(sql)?;
                let read = read.query_map(params![destination, after, INDEXED_STEP], |row| row.get(0))?;
                let part = read.collect::<Result<Vec<i64>, _>>()?;
                more |= part.len() >= limit;
                ids.extend(part);
            }
        }
    } else if matches!(which.state, Some(RecipientState::Held | RecipientState::Damaged)) {
        let mut read = connection.prepare_cached(HELD)?;
        let read = read.query_map(params![INDEXED_STEP], |row| row.get(0))?;
        let part = read.collect::<Result<Vec<i64>, _>>()?;
        if part.len() >= limit {
            return Ok(None);
        }
        ids.extend(part.into_iter().filter(|id| *id > after));
    } else {
        return Ok(None);
    }
    // Each index was read up to a message of its own: only what all were read up to is complete.
    while ids.len() > limit {
        ids.pop_last();
        more = true;
    }
    Ok(Some(Candidates { ids, more }))
}

/// Those of the candidates that fit, and the id to go on behind.
fn among(
    connection: &Connection,
    which: &Selector,
    candidates: Candidates,
    up_to: i64,
    limit: usize,
) -> Result<(Vec<i64>, Option<i64>), QueueError> {
    let mut found = Vec::new();
    let mut last = None;
    for id in candidates.ids.into_iter().filter(|id| *id <= up_to) {
        found.extend(matching(connection, which, id - 1, id, 1)?);
        last = Some(id);
        if found.len() >= limit {
            return Ok((found, last));
        }
    }
    Ok((found, last.filter(|_| candidates.more)))
}

/// A final state is found in history; so is a message that is named.
fn with_finished(which: &Selector) -> bool {
    which.finished || !which.ids.is_empty() || which.state.is_some_and(RecipientState::is_final)
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
    let path = which.reverse_path.as_ref().map(|path| path.to_ascii_lowercase());
    let mut sql = String::from(
        "SELECT m.id FROM message m WHERE m.id > ?4 AND m.id <= ?9 AND (?10 OR m.finished_at IS NULL)
         AND (?11 IS NULL OR m.received_at < ?11) AND (?12 IS NULL OR m.received_at >= ?12)
         AND (?13 IS NULL OR lower(m.reverse_path) = ?13 OR lower(m.reverse_path) = '<' || ?13 || '>'
              OR ?15 IS NULL AND instr(?13, '@') = 0 AND instr(?13, '<') = 0
                 AND instr(lower(m.reverse_path), ?13) > 0
              OR ?15 IS NOT NULL AND substr(lower(m.reverse_path), -length(?15)) = ?15)
         AND (?17 IS NULL OR m.origin ->> '$.message_id' = ?17)
         AND (?14 IS NULL OR m.origin ->> '$.user' = ?14 AND m.origin ->> '$.kind' = 'local')",
    );
    if conditions.any() {
        sql.push_str(" AND EXISTS (SELECT 1 FROM recipient r WHERE r.message = m.id");
        sql.push_str(RECIPIENT_FITS);
        if !with_finished(which) {
            sql.push_str(" AND r.state NOT BETWEEN 2 AND 5");
        }
        sql.push(')');
    } else {
        // The numbers must be there for the binding.
        sql.push_str(" AND (?1 IS NULL AND ?2 IS NULL AND ?3 IS NULL AND ?5 IS NULL AND ?6 IS NULL AND ?7 IS NULL AND ?8 IS NULL)");
    }
    sql.push_str(" ORDER BY m.id LIMIT ?16");
    let mut statement = connection.prepare_cached(&sql)?;
    conditions.bind(&mut statement)?;
    statement.raw_bind_parameter(4, after)?;
    statement.raw_bind_parameter(9, last)?;
    statement.raw_bind_parameter(10, with_finished(which))?;
    statement.raw_bind_parameter(11, which.received_before.map(unix_seconds))?;
    statement.raw_bind_parameter(12, which.received_since.map(unix_seconds))?;
    statement.raw_bind_parameter(13, &path)?;
    statement.raw_bind_parameter(14, &which.owner)?;
    // `@domain` is the end of a path.
    let domain = path.as_deref().filter(|path| path.starts_with('@')).map(|path| format!("{path}>"));
    statement.raw_bind_parameter(15, domain)?;
    statement.raw_bind_parameter(16, i64::try_from(limit).unwrap_or(i64::MAX))?;
    statement.raw_bind_parameter(17, &which.message_id)?;
    let mut rows = statement.raw_query();
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        ids.push(row.get(0)?);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests::plan;

    #[test]
    fn what_an_index_names_is_neither_scanned_nor_sorted() {
        for (sql, index) in [(WAITING_OF, "recipient_age"), (HELD_OF, "recipient_held")] {
            let plan = plan(sql);
            assert!(plan.iter().all(|step| step.starts_with("SEARCH") && step.contains(index)), "{plan:?}");
        }
        assert!(plan(HELD).iter().all(|step| step.contains("recipient_held")));
    }
}
