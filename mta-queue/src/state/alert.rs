//! Open alerts: what the administrator was told and has not ended, so that it is told once over any number of restarts.
//!
//! Bounded by whoever writes them (`mta_core::alert`), and here by [`MAX_ALERTS`]: beyond it those go that were seen last
//! the longest ago.

use std::time::SystemTime;

use rusqlite::{Row, params};

use crate::error::QueueError;
use crate::reader::Reader;
use crate::store::Queue;
use crate::time::{from_unix, unix_seconds};
use crate::writer::Tx;

/// Alerts kept, at most.
const MAX_ALERTS: i64 = 1_000;

/// An open alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAlert {
    /// The word for its kind.
    pub kind: String,
    /// What it is about; empty where there is only one of its kind.
    pub subject: String,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub remedy: String,
    /// When it opened.
    pub first_at: SystemTime,
    /// When its cause was seen last.
    pub last_at: SystemTime,
    /// How often it was seen.
    pub count: u64,
    /// When it closes by itself.
    pub until: Option<SystemTime>,
    /// When the postmaster was told by mail.
    pub mailed_at: Option<SystemTime>,
}

const COLUMNS: &str = "kind, subject, text, remedy, first_at, last_at, count, until, mailed_at";

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredAlert> {
    Ok(StoredAlert {
        kind: row.get(0)?,
        subject: row.get(1)?,
        text: row.get(2)?,
        remedy: row.get(3)?,
        first_at: from_unix(row.get(4)?),
        last_at: from_unix(row.get(5)?),
        count: u64::try_from(row.get::<_, i64>(6)?).unwrap_or(0),
        until: row.get::<_, Option<i64>>(7)?.map(from_unix),
        mailed_at: row.get::<_, Option<i64>>(8)?.map(from_unix),
    })
}

impl Queue {
    /// Keeps an alert in place of the one of its kind and subject.
    pub fn put_alert(&self, alert: StoredAlert) {
        self.write_state("alert", move |tx| put(tx, &alert), |_| {});
    }

    /// Forgets an alert that closed.
    pub fn remove_alert(&self, kind: &str, subject: &str) {
        let (kind, subject) = (kind.to_owned(), subject.to_owned());
        let remove = move |tx: &mut Tx<'_>| {
            tx.connection
                .prepare_cached("DELETE FROM alert WHERE kind = ?1 AND subject = ?2")?
                .execute(params![kind, subject])?;
            Ok(())
        };
        self.write_state("alert", remove, |_| {});
    }
}

fn put(tx: &mut Tx<'_>, alert: &StoredAlert) -> Result<(), QueueError> {
    tx.connection
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO alert ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
        ))?
        .execute(params![
            alert.kind,
            alert.subject,
            alert.text,
            alert.remedy,
            unix_seconds(alert.first_at),
            unix_seconds(alert.last_at),
            i64::try_from(alert.count).unwrap_or(i64::MAX),
            alert.until.map(unix_seconds),
            alert.mailed_at.map(unix_seconds),
        ])?;
    tx.connection
        .prepare_cached(
            "DELETE FROM alert WHERE rowid IN (SELECT rowid FROM alert ORDER BY last_at DESC LIMIT -1 OFFSET ?1)",
        )?
        .execute([MAX_ALERTS])?;
    Ok(())
}

impl Reader {
    /// The open alerts, oldest first.
    ///
    /// # Errors
    /// What the database reports.
    pub fn alerts(&self) -> Result<Vec<StoredAlert>, QueueError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached(&format!("SELECT {COLUMNS} FROM alert ORDER BY first_at, subject"))?;
        Ok(statement.query_map([], stored)?.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::store::Options;

    fn alert(subject: &str, last: u64) -> StoredAlert {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        StoredAlert {
            kind: "provider".into(),
            subject: subject.into(),
            text: "text".into(),
            remedy: "remedy".into(),
            first_at: at(5),
            last_at: at(last),
            count: 3,
            until: Some(at(last + 100)),
            mailed_at: (last > 10).then(|| at(last)),
        }
    }

    #[test]
    fn an_alert_is_kept_replaced_and_forgotten() {
        let directory = tempfile::tempdir().expect("directory");
        let queue =
            Queue::open(directory.path(), Options { reserve_bytes: 0, ..Options::default() }).expect("open");
        queue.put_alert(alert("a", 10));
        queue.put_alert(alert("b", 11));
        queue.put_alert(alert("a", 12));
        queue.remove_alert("provider", "b");
        queue.remove_alert("disk", "a");
        let reader = queue.reader();
        queue.close();
        assert_eq!(reader.alerts().expect("alerts"), [alert("a", 12)]);
    }
}
