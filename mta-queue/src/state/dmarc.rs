//! Counters for DMARC aggregate reports (RFC 9990): how many messages came that look alike to a domain's owner, by day (UTC).
//!
//! A row is one kind of message: a text that says everything about it but the number. Strangers make the rows, so that there
//! are bounds on how many, for one domain and for a day; what is beyond is counted as left out, which the report tells. Days
//! beyond `Options::dmarc_report_days` go a few rows at a time. What it does not: it knows no DMARC.

use rusqlite::{OptionalExtension, params};

use crate::error::QueueError;
use crate::reader::Reader;
use crate::store::Queue;
use crate::writer::Tx;

/// Rows of one domain on one day, at most.
pub const MAX_DMARC_ROWS_PER_DOMAIN: i64 = 1_000;

/// Octets of one row that are kept; a longer one is left out.
pub const MAX_DMARC_ROW_BYTES: usize = 2_000;

/// Octets of a policy that are kept.
pub const MAX_DMARC_POLICY_BYTES: usize = 4_000;

/// Rows of old days that leave in one turn; more than enter in it.
const EXPIRE_AT_ONCE: i64 = 2_000;

/// Messages for a report about one domain on one day.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DmarcCounts {
    /// Days since 1970-01-01, UTC.
    pub day: i64,
    /// The domain that publishes the policy. A-labels, lower case.
    pub domain: String,
    /// The policy; the one that was seen last stands.
    pub policy: String,
    /// Kinds of messages, and how many of each.
    pub rows: Vec<(String, u64)>,
    /// Messages that found no room.
    pub left_out: u64,
}

impl Queue {
    /// Adds to the counters. Shares a commit with whatever else waits; nothing is synced for it.
    pub fn count_dmarc(
        &self,
        counts: Vec<DmarcCounts>,
        done: impl FnOnce(Result<(), QueueError>) + Send + 'static,
    ) {
        self.write_state("dmarc-counts", move |tx| counts.iter().try_for_each(|it| count(tx, it)), done);
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(tx: &mut Tx<'_>, counts: &DmarcCounts) -> Result<(), QueueError> {
    if tx.options.dmarc_report_days == 0 {
        return Ok(());
    }
    let mut left_out = counts.left_out;
    let Some(policy) = find_or_add(tx, counts)? else {
        let all = counts.rows.iter().map(|(_, messages)| messages).sum::<u64>().saturating_add(left_out);
        tx.connection
            .prepare_cached("UPDATE dmarc_day SET left_out = left_out + ?2 WHERE day = ?1")?
            .execute([counts.day, number(all)])?;
        return Ok(());
    };
    for (data, messages) in &counts.rows {
        if !count_row(tx, counts.day, policy, data, *messages)? {
            left_out = left_out.saturating_add(*messages);
        }
    }
    tx.connection
        .prepare_cached("UPDATE dmarc_policy SET policy = ?2, left_out = left_out + ?3 WHERE id = ?1")?
        .execute(params![policy, counts.policy, number(left_out)])?;
    Ok(())
}

/// The row of a domain on a day; `None` where there is no room for another.
fn find_or_add(tx: &mut Tx<'_>, counts: &DmarcCounts) -> Result<Option<i64>, QueueError> {
    let found = tx
        .connection
        .prepare_cached("SELECT id FROM dmarc_policy WHERE day = ?1 AND domain = ?2")?
        .query_row(params![counts.day, counts.domain], |row| row.get(0))
        .optional()?;
    if found.is_some() {
        return Ok(found);
    }
    expire(tx, counts.day)?;
    if counts.policy.len() > MAX_DMARC_POLICY_BYTES || !has_room(tx, counts.day)? {
        return Ok(None);
    }
    tx.connection
        .prepare_cached("INSERT INTO dmarc_policy (day, domain, policy) VALUES (?1, ?2, ?3)")?
        .execute(params![counts.day, counts.domain, counts.policy])?;
    Ok(Some(tx.connection.last_insert_rowid()))
}

/// Adds to a kind of message; false where there is no room for another.
fn count_row(tx: &mut Tx<'_>, day: i64, policy: i64, data: &str, messages: u64) -> Result<bool, QueueError> {
    let counted = tx
        .connection
        .prepare_cached("UPDATE dmarc_row SET messages = messages + ?3 WHERE policy = ?1 AND data = ?2")?
        .execute(params![policy, data, number(messages)])?;
    if counted > 0 {
        return Ok(true);
    }
    let of_domain = tx
        .connection
        .prepare_cached("SELECT rows FROM dmarc_policy WHERE id = ?1")?
        .query_row([policy], |row| row.get::<_, i64>(0))?;
    if data.len() > MAX_DMARC_ROW_BYTES || of_domain >= MAX_DMARC_ROWS_PER_DOMAIN || !has_room(tx, day)? {
        return Ok(false);
    }
    tx.connection
        .prepare_cached("INSERT INTO dmarc_row (policy, data, messages) VALUES (?1, ?2, ?3)")?
        .execute(params![policy, data, number(messages)])?;
    tx.connection
        .prepare_cached("UPDATE dmarc_policy SET rows = rows + 1 WHERE id = ?1")?
        .execute([policy])?;
    Ok(true)
}

/// Takes a place among a day's rows, where there is one.
fn has_room(tx: &Tx<'_>, day: i64) -> Result<bool, QueueError> {
    tx.connection.prepare_cached("INSERT OR IGNORE INTO dmarc_day (day) VALUES (?1)")?.execute([day])?;
    let bound = i64::try_from(tx.options.dmarc_report_rows_per_day).unwrap_or(i64::MAX);
    let taken = tx
        .connection
        .prepare_cached("UPDATE dmarc_day SET rows = rows + 1 WHERE day = ?1 AND rows < ?2")?
        .execute([day, bound])?;
    Ok(taken > 0)
}

/// Deletes some of what is older than is kept.
fn expire(tx: &Tx<'_>, today: i64) -> Result<(), QueueError> {
    let oldest = today.saturating_sub(i64::from(tx.options.dmarc_report_days)).saturating_add(1);
    let old = "SELECT id FROM dmarc_policy WHERE day < ?1";
    let gone = tx
        .connection
        .prepare_cached(&format!(
            "DELETE FROM dmarc_row WHERE (policy, data) IN
             (SELECT policy, data FROM dmarc_row WHERE policy IN ({old}) LIMIT ?2)"
        ))?
        .execute([oldest, EXPIRE_AT_ONCE])?;
    if gone == 0 {
        tx.connection.prepare_cached("DELETE FROM dmarc_policy WHERE day < ?1")?.execute([oldest])?;
        tx.connection.prepare_cached("DELETE FROM dmarc_day WHERE day < ?1")?.execute([oldest])?;
    }
    Ok(())
}

impl Reader {
    /// The newest day (days since 1970-01-01, UTC) with counters of DMARC.
    ///
    /// # Errors
    /// What the database reports.
    pub fn dmarc_newest_day(&self) -> Result<Option<i64>, QueueError> {
        let connection = self.lock();
        Ok(connection.query_row("SELECT max(day) FROM dmarc_policy", [], |row| row.get(0))?)
    }

    /// Messages of a day that belong to domains for which there was no room.
    ///
    /// # Errors
    /// What the database reports.
    pub fn dmarc_left_out(&self, day: i64) -> Result<u64, QueueError> {
        let connection = self.lock();
        let found = connection
            .query_row("SELECT left_out FROM dmarc_day WHERE day = ?1", [day], |row| row.get::<_, i64>(0))
            .optional()?;
        Ok(found.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
    }

    /// What was counted on a day, for all domains or for one, the most frequent kind first. Bounded by
    /// `Options::dmarc_report_rows_per_day`.
    ///
    /// # Errors
    /// What the database reports.
    pub fn dmarc_counts(&self, day: i64, domain: Option<&str>) -> Result<Vec<DmarcCounts>, QueueError> {
        let connection = self.lock();
        let snapshot = connection.unchecked_transaction()?;
        let mut find = snapshot.prepare_cached(
            "SELECT id, domain, policy, left_out FROM dmarc_policy WHERE day = ?1 AND (?2 IS NULL OR domain = ?2)
             ORDER BY domain",
        )?;
        let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
        let mut rows = find.query(params![day, domain])?;
        let mut counts = Vec::new();
        while let Some(row) = rows.next()? {
            let mut kinds = snapshot.prepare_cached(
                "SELECT data, messages FROM dmarc_row WHERE policy = ?1 ORDER BY messages DESC, data",
            )?;
            let kinds = kinds.query_map([row.get::<_, i64>(0)?], |row| {
                Ok((row.get::<_, String>(0)?, unsigned(row.get(1)?)))
            })?;
            counts.push(DmarcCounts {
                day,
                domain: row.get(1)?,
                policy: row.get(2)?,
                rows: kinds.collect::<Result<_, _>>()?,
                left_out: unsigned(row.get(3)?),
            });
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::store::Options;

    fn counted(options: Options, counts: Vec<DmarcCounts>) -> (tempfile::TempDir, Queue) {
        let directory = tempfile::tempdir().expect("directory");
        let queue = Queue::open(directory.path(), Options { reserve_bytes: 0, ..options }).expect("open");
        let (done, result) = channel();
        queue.count_dmarc(counts, move |outcome| drop(done.send(outcome)));
        result.recv().expect("an answer").expect("counted");
        (directory, queue)
    }

    fn of(day: i64, domain: &str, policy: &str, rows: &[(&str, u64)]) -> DmarcCounts {
        let rows = rows.iter().map(|(data, messages)| ((*data).to_owned(), *messages)).collect();
        DmarcCounts { day, domain: domain.into(), policy: policy.into(), rows, left_out: 0 }
    }

    #[test]
    fn kinds_of_messages_add_up_and_the_last_policy_stands() {
        let counts = vec![
            of(5, "a.example", "p=none", &[("x", 2), ("y", 1)]),
            of(5, "b.example", "p=none", &[("x", 1)]),
            of(5, "a.example", "p=reject", &[("x", 3)]),
            of(6, "a.example", "p=none", &[("x", 1)]),
        ];
        let (_directory, queue) = counted(Options::default(), counts);
        let reader = queue.reader();
        let all = reader.dmarc_counts(5, None).expect("read");
        assert_eq!(all[0], of(5, "a.example", "p=reject", &[("x", 5), ("y", 1)]));
        assert_eq!(all[1..], [of(5, "b.example", "p=none", &[("x", 1)])]);
        assert_eq!(reader.dmarc_counts(6, Some("b.example")), Ok(Vec::new()));
        assert_eq!((reader.dmarc_newest_day(), reader.dmarc_left_out(5)), (Ok(Some(6)), Ok(0)));
    }

    #[test]
    fn what_is_beyond_the_bounds_is_only_counted() {
        let long = "x".repeat(MAX_DMARC_ROW_BYTES + 1);
        let options = Options { dmarc_report_rows_per_day: 4, ..Options::default() };
        let counts = vec![
            of(5, "a.example", "p", &[("r1", 1), (&long, 7), ("r2", 2)]),
            of(5, "b.example", "p", &[("r1", 5), ("r1", 5)]),
            of(5, "c.example", "p", &[("r1", 9)]),
            of(5, "a.example", "p", &[("r1", 1)]),
        ];
        let (_directory, queue) = counted(options, counts);
        let all = queue.reader().dmarc_counts(5, None).expect("read");
        let seen: Vec<_> = all.iter().map(|it| (it.domain.as_str(), it.rows.len(), it.left_out)).collect();
        assert_eq!(seen, [("a.example", 2, 7), ("b.example", 0, 10)]);
        assert_eq!(all[0].rows[0], ("r1".to_owned(), 2));
        assert_eq!(queue.reader().dmarc_left_out(5), Ok(9));
        let many: Vec<_> = (0..MAX_DMARC_ROWS_PER_DOMAIN + 5).map(|n| (n.to_string(), 1)).collect();
        let one = DmarcCounts { rows: many, ..of(5, "a.example", "p", &[]) };
        let (_directory, queue) = counted(Options::default(), vec![one]);
        let all = queue.reader().dmarc_counts(5, None).expect("read");
        assert_eq!((all[0].rows.len() as i64, all[0].left_out), (MAX_DMARC_ROWS_PER_DOMAIN, 5));
    }

    #[test]
    fn old_days_go_and_nothing_is_counted_where_it_is_switched_off() {
        let days = |days| Options { dmarc_report_days: days, ..Options::default() };
        let counts = vec![
            of(1, "a.example", "p", &[("x", 1)]),
            of(3, "b.example", "p", &[("x", 1)]),
            of(3, "c.example", "p", &[("x", 1)]),
        ];
        let (_directory, queue) = counted(days(2), counts.clone());
        let reader = queue.reader();
        assert_eq!(reader.dmarc_counts(1, None), Ok(Vec::new()));
        let left: i64 =
            reader.lock().query_row("SELECT count(*) FROM dmarc_row", [], |row| row.get(0)).expect("count");
        assert_eq!(left, 2);
        let (_directory, queue) = counted(days(0), counts);
        assert_eq!(queue.reader().dmarc_newest_day(), Ok(None));
    }
}
