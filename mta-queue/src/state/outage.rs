//! Outages: the times in which this host itself could send nothing. No message grows older in them.
//!
//! The latest [`MAX_OUTAGES`] are kept; one without an end is the present. A message that has waited through more than
//! these has had its share.

use std::time::SystemTime;

use rusqlite::params;

use crate::error::QueueError;
use crate::reader::Reader;
use crate::store::Queue;
use crate::time::{from_unix, unix_seconds};
use crate::writer::Tx;

/// Outages kept.
const MAX_OUTAGES: i64 = 64;

/// One outage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// When it began.
    pub began_at: SystemTime,
    /// When it ended; `None` while it lasts.
    pub ended_at: Option<SystemTime>,
    /// The word for what was wrong.
    pub fault: String,
}

impl Queue {
    /// Keeps an outage in place of the one that began at the same time.
    pub fn put_outage(&self, outage: Outage) {
        self.write_state("outage", move |tx| put(tx, &outage), |_| {});
    }
}

fn put(tx: &mut Tx<'_>, outage: &Outage) -> Result<(), QueueError> {
    tx.connection
        .prepare_cached("INSERT OR REPLACE INTO outage (began_at, ended_at, fault) VALUES (?1, ?2, ?3)")?
        .execute(params![unix_seconds(outage.began_at), outage.ended_at.map(unix_seconds), outage.fault])?;
    tx.connection
        .prepare_cached(
            "DELETE FROM outage WHERE began_at IN
                 (SELECT began_at FROM outage ORDER BY began_at DESC LIMIT -1 OFFSET ?1)",
        )?
        .execute([MAX_OUTAGES])?;
    Ok(())
}

impl Reader {
    /// The outages that are kept, oldest first.
    ///
    /// # Errors
    /// What the database reports.
    pub fn outages(&self) -> Result<Vec<Outage>, QueueError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT began_at, ended_at, fault FROM outage ORDER BY began_at")?;
        let outage = |row: &rusqlite::Row<'_>| {
            Ok(Outage {
                began_at: from_unix(row.get(0)?),
                ended_at: row.get::<_, Option<i64>>(1)?.map(from_unix),
                fault: row.get(2)?,
            })
        };
        Ok(statement.query_map([], outage)?.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::store::Options;

    #[test]
    fn an_outage_gets_its_end_and_only_the_latest_are_kept() {
        let directory = tempfile::tempdir().expect("directory");
        let queue =
            Queue::open(directory.path(), Options { reserve_bytes: 0, ..Options::default() }).expect("open");
        let at = |seconds: i64| UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
        for n in 1..=MAX_OUTAGES + 6 {
            queue.put_outage(Outage { began_at: at(n * 10), ended_at: None, fault: "no-route".into() });
            let ended_at = Some(at(n * 10 + 5));
            queue.put_outage(Outage { began_at: at(n * 10), ended_at, fault: "no-route".into() });
        }
        let reader = queue.reader();
        queue.close();
        let outages = reader.outages().expect("outages");
        assert_eq!(outages.len(), 64);
        assert_eq!((outages[0].began_at, outages[0].ended_at), (at(70), Some(at(75))));
    }
}
