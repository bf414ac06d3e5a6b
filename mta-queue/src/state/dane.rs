//! Destinations that have, or had, DANE: since when, and since when no more (`mta_dane::memory` says what that means).
//!
//! Bounded by `Options::max_dane_destinations`: beyond it those go first that were known for the shortest time, so that what is
//! learnt of strangers' domains drives out nothing that was known for weeks.

use std::time::SystemTime;

use rusqlite::params;

use crate::error::QueueError;
use crate::reader::Reader;
use crate::store::Queue;
use crate::time::{from_unix, unix_seconds};
use crate::writer::Tx;

/// One destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDane {
    /// The domain whose MX is looked up, A-labels, lower case.
    pub domain: String,
    /// Since when it was seen with DANE and never without.
    pub first_at: SystemTime,
    /// When it was seen with DANE last, give or take a day.
    pub last_at: SystemTime,
    /// When it was first seen without, after it had it for long.
    pub lost_at: Option<SystemTime>,
}

impl Queue {
    /// Keeps what is known of a destination in place of what was. `done` as for all state (`state`).
    pub fn put_dane(&self, known: StoredDane, done: impl FnOnce(Result<(), QueueError>) + Send + 'static) {
        self.write_state("dane", move |tx| put(tx, &known), done);
    }

    /// Forgets a destination.
    pub fn forget_dane(&self, domain: &str, done: impl FnOnce(Result<(), QueueError>) + Send + 'static) {
        let domain = domain.to_owned();
        let forget = move |tx: &mut Tx<'_>| {
            tx.connection.prepare_cached("DELETE FROM dane WHERE domain = ?1")?.execute([&domain])?;
            Ok(())
        };
        self.write_state("dane", forget, done);
    }
}

fn put(tx: &mut Tx<'_>, known: &StoredDane) -> Result<(), QueueError> {
    tx.connection
        .prepare_cached(
            "INSERT OR REPLACE INTO dane (domain, first_at, last_at, lost_at) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            known.domain,
            unix_seconds(known.first_at),
            unix_seconds(known.last_at),
            known.lost_at.map(unix_seconds)
        ])?;
    let count: i64 =
        tx.connection.prepare_cached("SELECT count(*) FROM dane")?.query_row([], |row| row.get(0))?;
    let beyond = count.saturating_sub(i64::try_from(tx.options.max_dane_destinations).unwrap_or(i64::MAX));
    if beyond > 0 {
        tx.connection
            .prepare_cached(
                "DELETE FROM dane WHERE domain IN (SELECT domain FROM dane
                 ORDER BY last_at - first_at, last_at LIMIT ?1)",
            )?
            .execute([beyond])?;
    }
    Ok(())
}

impl Reader {
    /// Every destination that is remembered, those known longest first. Bounded by `Options::max_dane_destinations`.
    ///
    /// # Errors
    /// What the database reports.
    pub fn dane_memory(&self) -> Result<Vec<StoredDane>, QueueError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT domain, first_at, last_at, lost_at FROM dane ORDER BY last_at - first_at DESC, domain",
        )?;
        let stored = |row: &rusqlite::Row<'_>| {
            Ok(StoredDane {
                domain: row.get(0)?,
                first_at: from_unix(row.get(1)?),
                last_at: from_unix(row.get(2)?),
                lost_at: row.get::<_, Option<i64>>(3)?.map(from_unix),
            })
        };
        Ok(statement.query_map([], stored)?.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::store::Options;

    fn known(domain: &str, first: u64, last: u64) -> StoredDane {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        StoredDane { domain: domain.into(), first_at: at(first), last_at: at(last), lost_at: None }
    }

    fn put(queue: &Queue, known: StoredDane) {
        let (done, written) = channel();
        queue.put_dane(known, move |result| done.send(result).expect("test waits"));
        written.recv().expect("answered").expect("written");
    }

    #[test]
    fn destinations_survive_a_restart() {
        let directory = tempfile::tempdir().expect("directory");
        let queue = Queue::open(directory.path(), Options::default()).expect("open");
        put(&queue, known("a.example", 10, 20));
        put(&queue, known("b.example", 10, 15));
        let lost =
            StoredDane { lost_at: Some(UNIX_EPOCH + Duration::from_secs(30)), ..known("a.example", 10, 25) };
        put(&queue, lost.clone());
        let (done, written) = channel();
        queue.forget_dane("b.example", move |result| done.send(result).expect("test waits"));
        written.recv().expect("answered").expect("written");
        queue.close();
        drop(queue);
        let reader = Reader::open(directory.path()).expect("read while the daemon is down");
        assert_eq!(reader.dane_memory(), Ok(vec![lost]));
    }

    #[test]
    fn strangers_drive_out_nothing_that_was_known_for_long() {
        let directory = tempfile::tempdir().expect("directory");
        let options = Options { max_dane_destinations: 3, ..Options::default() };
        let queue = Queue::open(directory.path(), options).expect("open");
        put(&queue, known("old.example", 0, 1_000_000));
        for number in 0..20 {
            put(&queue, known(&format!("s{number}.example"), 2_000_000, 2_000_000 + number));
        }
        let kept = queue.reader().dane_memory().expect("read");
        let domains: Vec<&str> = kept.iter().map(|known| known.domain.as_str()).collect();
        assert_eq!(domains, ["old.example", "s19.example", "s18.example"]);
    }
}
