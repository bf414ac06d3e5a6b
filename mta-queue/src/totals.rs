//! The running totals: one row, written with every batch that changes it, so that counting costs nothing.

use rusqlite::{Connection, params};

use crate::admin::Counts;
use crate::error::QueueError;
use crate::recipient::RecipientState;

/// The totals as the writer keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    /// The highest message id ever committed.
    pub(crate) last_id: i64,
    pub(crate) messages: i64,
    pub(crate) content_bytes: i64,
    pub(crate) waiting: i64,
    pub(crate) held: i64,
    pub(crate) damaged: i64,
    pub(crate) finished: i64,
    pub(crate) accepted_total: i64,
    pub(crate) delivered_total: i64,
    pub(crate) failed_total: i64,
}

impl Totals {
    /// Reads the row.
    pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare_cached(
            "SELECT last_id, messages, content_bytes, waiting, held, damaged, finished, accepted_total,
                    delivered_total, failed_total FROM totals",
        )?;
        statement.query_row([], |row| {
            Ok(Self {
                last_id: row.get(0)?,
                messages: row.get(1)?,
                content_bytes: row.get(2)?,
                waiting: row.get(3)?,
                held: row.get(4)?,
                damaged: row.get(5)?,
                finished: row.get(6)?,
                accepted_total: row.get(7)?,
                delivered_total: row.get(8)?,
                failed_total: row.get(9)?,
            })
        })
    }

    /// Writes the row where it differs from `before`.
    pub(crate) fn save(&self, connection: &Connection, before: &Self) -> Result<(), QueueError> {
        if self == before {
            return Ok(());
        }
        let mut statement = connection.prepare_cached(
            "UPDATE totals SET last_id = ?1, messages = ?2, content_bytes = ?3, waiting = ?4, held = ?5, damaged = ?6,
                    finished = ?7, accepted_total = ?8, delivered_total = ?9, failed_total = ?10",
        )?;
        statement.execute(params![
            self.last_id,
            self.messages,
            self.content_bytes,
            self.waiting,
            self.held,
            self.damaged,
            self.finished,
            self.accepted_total,
            self.delivered_total,
            self.failed_total,
        ])?;
        Ok(())
    }

    /// A recipient goes from one state to another; `None` is before it was stored.
    pub(crate) fn moved(&mut self, from: Option<RecipientState>, to: RecipientState) {
        if let Some(from) = from
            && let Some(count) = self.current(from)
        {
            *count -= 1;
        }
        if let Some(count) = self.current(to) {
            *count += 1;
        }
        match to {
            _ if from == Some(to) => {}
            RecipientState::Delivered => self.delivered_total += 1,
            RecipientState::Failed | RecipientState::Expired => self.failed_total += 1,
            _ => {}
        }
    }

    fn current(&mut self, state: RecipientState) -> Option<&mut i64> {
        match state {
            RecipientState::Waiting => Some(&mut self.waiting),
            RecipientState::Held => Some(&mut self.held),
            RecipientState::Damaged => Some(&mut self.damaged),
            _ => None,
        }
    }

    /// The totals as they are shown.
    pub(crate) fn counts(&self) -> Counts {
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        Counts {
            messages: count(self.messages),
            content_bytes: count(self.content_bytes),
            waiting: count(self.waiting),
            held: count(self.held),
            damaged: count(self.damaged),
            finished: count(self.finished),
            accepted_total: count(self.accepted_total),
            delivered_total: count(self.delivered_total),
            failed_total: count(self.failed_total),
        }
    }
}
