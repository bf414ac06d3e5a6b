//! Rules that hold mail to come, and what stands still: small tables that the administrator changes.
//!
//! What it does not: it stops nothing by itself. A rule is applied by `accept`; a pause is the caller's to obey.

use rusqlite::{Connection, params};

use crate::admin::{HoldRule, Pause};
use crate::error::QueueError;
use crate::message::NewMessage;
use crate::time::{from_unix, unix_seconds};
use crate::writer::Tx;

/// Rules at most: each is looked at for every message that comes.
pub(crate) const MAX_RULES: i64 = 100;

/// Pauses at most: they are held in memory.
pub(crate) const MAX_PAUSES: i64 = 1_000;

/// All rules.
pub(crate) fn rules(connection: &Connection) -> Result<Vec<HoldRule>, QueueError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, recipient, reverse_path, reason, who, created_at, until FROM hold_rule ORDER BY id",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(HoldRule {
            id: row.get(0)?,
            recipient: row.get(1)?,
            reverse_path: row.get(2)?,
            reason: row.get(3)?,
            who: row.get(4)?,
            created_at: Some(from_unix(row.get(5)?)),
            until: row.get::<_, Option<i64>>(6)?.map(from_unix),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds a rule; returns its number.
pub(crate) fn add(tx: &Tx<'_>, rule: &HoldRule, now: i64) -> Result<u64, QueueError> {
    if rule.recipient.is_none() && rule.reverse_path.is_none() {
        return Err(QueueError::Invalid("a rule that holds everything; use a pause"));
    }
    // Rules that are over make room.
    tx.connection.execute("DELETE FROM hold_rule WHERE until <= ?1", [now])?;
    let count: i64 = tx.connection.query_row("SELECT count(*) FROM hold_rule", [], |row| row.get(0))?;
    if count >= MAX_RULES {
        return Err(QueueError::Invalid("too many hold rules; remove some"));
    }
    let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_ascii_lowercase());
    tx.connection.execute(
        "INSERT INTO hold_rule (recipient, reverse_path, reason, who, created_at, until)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            lower(&rule.recipient),
            lower(&rule.reverse_path),
            rule.reason,
            rule.who,
            now,
            rule.until.map(unix_seconds)
        ],
    )?;
    Ok(u64::try_from(tx.connection.last_insert_rowid()).unwrap_or(0))
}

/// Removes a rule; 0 where there is none of that number.
pub(crate) fn remove(tx: &Tx<'_>, id: i64) -> Result<u64, QueueError> {
    Ok(tx.connection.execute("DELETE FROM hold_rule WHERE id = ?1", [id])? as u64)
}

/// All pauses.
pub(crate) fn pauses(connection: &Connection) -> Result<Vec<Pause>, QueueError> {
    let mut statement =
        connection.prepare_cached("SELECT name, reason, who, since, until FROM pause ORDER BY name")?;
    let rows = statement.query_map([], |row| {
        Ok(Pause {
            name: row.get(0)?,
            reason: row.get(1)?,
            who: row.get(2)?,
            since: from_unix(row.get(3)?),
            until: row.get::<_, Option<i64>>(4)?.map(from_unix),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Pauses something, or changes why and how long.
pub(crate) fn pause(tx: &Tx<'_>, pause: &Pause) -> Result<u64, QueueError> {
    let since = unix_seconds(pause.since);
    tx.connection.execute("DELETE FROM pause WHERE until <= ?1", [since])?;
    let count: i64 = tx.connection.query_row("SELECT count(*) FROM pause", [], |row| row.get(0))?;
    if count >= MAX_PAUSES {
        return Err(QueueError::Invalid("too much is paused; resume some"));
    }
    let until = pause.until.map(unix_seconds);
    let changed = tx.connection.execute(
        "INSERT INTO pause (name, reason, who, since, until) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (name) DO UPDATE SET reason = excluded.reason, who = excluded.who, until = excluded.until",
        params![pause.name, pause.reason, pause.who, since, until],
    )?;
    Ok(changed as u64)
}

/// Ends a pause; 0 where there is none of that name.
pub(crate) fn resume(tx: &Tx<'_>, name: &str) -> Result<u64, QueueError> {
    Ok(tx.connection.execute("DELETE FROM pause WHERE name = ?1", [name])? as u64)
}

/// Why each recipient of a new message is held; `None` for those that are not.
pub(crate) fn held(tx: &Tx<'_>, message: &NewMessage) -> Result<Vec<Option<String>>, QueueError> {
    if let Some(reason) = &message.hold {
        return Ok(vec![Some(reason.clone()); message.envelope.recipients.len()]);
    }
    let now = message.received_at;
    let mut rules = rules(tx.connection)?;
    rules.retain(|rule| rule.until.is_none_or(|until| until > now));
    if rules.is_empty() {
        return Ok(Vec::new());
    }
    let path = message.envelope.reverse_path.mailbox().map_or_else(|| "<>".to_owned(), ToString::to_string);
    let path = path.to_ascii_lowercase();
    rules.retain(|rule| rule.reverse_path.as_deref().is_none_or(|wanted| fits(&path, wanted)));
    let held = message.envelope.recipients.iter().map(|recipient| {
        let mailbox = recipient.mailbox.to_string().to_ascii_lowercase();
        let rule = rules
            .iter()
            .find(|rule| rule.recipient.as_deref().is_none_or(|wanted| fits(&mailbox, wanted)))?;
        Some(format!("rule {}: {}", rule.id, rule.reason))
    });
    Ok(held.collect())
}

/// Whether an address is the wanted one, ends in the wanted `@domain`, or contains the wanted part. Both lower case.
fn fits(address: &str, wanted: &str) -> bool {
    match wanted.find('@') {
        Some(0) => address.ends_with(wanted),
        Some(_) => address == wanted,
        None => address.contains(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_fit_by_whole_domain_or_part() {
        for (address, wanted, expected) in [
            ("bob@example.org", "bob@example.org", true),
            ("bob@example.org", "@example.org", true),
            ("bob@example.org", "exam", true),
            ("bob@evil-example.org", "@example.org", false),
            ("bob@sub.example.org", "@example.org", false),
            ("notbob@example.org", "bob@example.org", false),
            ("<>", "<>", true),
            ("bob@example.org", "<>", false),
        ] {
            assert_eq!(fits(address, wanted), expected, "{address} {wanted}");
        }
    }
}
