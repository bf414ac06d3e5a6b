//! Putting the books right: every number that is kept beside the rows is counted again, and halves of rows go.
//!
//! What it does not: it finds nothing (`verify` does) and decides nothing about mail. Rows of a message that is not whole
//! stay where a recipient still waits: they are set aside when their turn comes.

use rusqlite::{Connection, params};

use crate::destination;
use crate::error::QueueError;

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
pub(crate) fn recount(connection: &Connection) -> Result<(), QueueError> {
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
             last_id = max(last_id, (SELECT ifnull(max(id), 0) FROM message)),
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
fn name_destinations(connection: &Connection) -> Result<(), QueueError> {
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
