//! Places that a message was handed to although the recipient that leads there still waits for others: what an alias
//! stands for is delivered once, however often the rest is tried.
//!
//! Rows are written with the record of an attempt and go when the message is finished, so they are bounded by what waits.

use rusqlite::params;

use crate::error::QueueError;
use crate::id::QueueId;
use crate::reader::Reader;
use crate::writer::Tx;

/// Keeps places.
pub(crate) fn keep(tx: &Tx<'_>, message: i64, places: &[String]) -> Result<(), QueueError> {
    for place in places {
        tx.connection
            .prepare_cached("INSERT OR IGNORE INTO handed (message, place) VALUES (?1, ?2)")?
            .execute(params![message, place])?;
    }
    Ok(())
}

/// Forgets those of a finished message.
pub(crate) fn forget(tx: &Tx<'_>, message: i64) -> Result<(), QueueError> {
    tx.connection.prepare_cached("DELETE FROM handed WHERE message = ?1")?.execute([message])?;
    Ok(())
}

impl Reader {
    /// Where a message that waits was handed to already.
    ///
    /// # Errors
    /// What the database reports.
    pub fn handed(&self, message: QueueId) -> Result<Vec<String>, QueueError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT place FROM handed WHERE message = ?1")?;
        let rows = statement.query_map([message.as_i64()], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
