//! MTA-STS policies that were fetched (RFC 8461 3.3), one for each recipient domain that has one.
//!
//! Bounded by `Options::max_sts_policies`: beyond it expired ones go first, then those that were used longest ago. An
//! attacker who makes us learn many policies of his own thus drives out only what nobody sends to.

use std::time::SystemTime;

use rusqlite::{OptionalExtension, Row, params};

use crate::error::QueueError;
use crate::reader::Reader;
use crate::store::Queue;
use crate::time::{from_unix, unix_seconds};
use crate::writer::Tx;

/// A policy as it was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredStsPolicy {
    /// The recipient domain, A-labels, lower case.
    pub domain: String,
    /// The `id` of the TXT record that was there when it was fetched; empty where there was none.
    pub id: String,
    /// The policy's text.
    pub policy: String,
    /// When it was fetched; `max_age` counts from here.
    pub fetched_at: SystemTime,
    /// When it ends.
    pub expires_at: SystemTime,
    /// When it was last used, give or take a day.
    pub used_at: SystemTime,
}

const COLUMNS: &str = "domain, id, policy, fetched_at, expires_at, used_at";

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredStsPolicy> {
    Ok(StoredStsPolicy {
        domain: row.get(0)?,
        id: row.get(1)?,
        policy: row.get(2)?,
        fetched_at: from_unix(row.get(3)?),
        expires_at: from_unix(row.get(4)?),
        used_at: from_unix(row.get(5)?),
    })
}

impl Queue {
    /// Keeps a policy in place of the one known for its domain. `done` as for all state (`state`).
    pub fn put_sts_policy(
        &self,
        policy: StoredStsPolicy,
        done: impl FnOnce(Result<(), QueueError>) + Send + 'static,
    ) {
        self.write_state("sts-policy", move |tx| put(tx, &policy), done);
    }

    /// Notes that the policy of a domain was used.
    pub fn touch_sts_policy(&self, domain: &str, at: SystemTime) {
        let domain = domain.to_owned();
        let touch = move |tx: &mut Tx<'_>| {
            tx.connection
                .prepare_cached("UPDATE sts_policy SET used_at = max(used_at, ?2) WHERE domain = ?1")?
                .execute(params![domain, unix_seconds(at)])?;
            Ok(())
        };
        self.write_state("sts-policy-use", touch, |_| {});
    }
}

fn put(tx: &mut Tx<'_>, policy: &StoredStsPolicy) -> Result<(), QueueError> {
    let fetched_at = unix_seconds(policy.fetched_at);
    tx.connection
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO sts_policy ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
        ))?
        .execute(params![
            policy.domain,
            policy.id,
            policy.policy,
            fetched_at,
            unix_seconds(policy.expires_at),
            unix_seconds(policy.used_at),
        ])?;
    let count: i64 =
        tx.connection.prepare_cached("SELECT count(*) FROM sts_policy")?.query_row([], |row| row.get(0))?;
    let beyond = count.saturating_sub(i64::try_from(tx.options.max_sts_policies).unwrap_or(i64::MAX));
    if beyond > 0 {
        tx.connection
            .prepare_cached(
                "DELETE FROM sts_policy WHERE domain IN (SELECT domain FROM sts_policy WHERE domain <> ?1
                 ORDER BY expires_at > ?2, used_at LIMIT ?3)",
            )?
            .execute(params![policy.domain, fetched_at, beyond])?;
    }
    Ok(())
}

impl Reader {
    /// Every policy that is kept. Bounded by `Options::max_sts_policies`.
    ///
    /// # Errors
    /// What the database reports.
    pub fn sts_policies(&self) -> Result<Vec<StoredStsPolicy>, QueueError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached(&format!("SELECT {COLUMNS} FROM sts_policy ORDER BY domain"))?;
        Ok(statement.query_map([], stored)?.collect::<Result<_, _>>()?)
    }

    /// The policy that is kept for a domain (A-labels, lower case), expired or not.
    ///
    /// # Errors
    /// What the database reports.
    pub fn sts_policy(&self, domain: &str) -> Result<Option<StoredStsPolicy>, QueueError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached(&format!("SELECT {COLUMNS} FROM sts_policy WHERE domain = ?1"))?;
        Ok(statement.query_row([domain], stored).optional()?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::store::Options;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn policy(domain: &str, fetched: u64, expires: u64, used: u64) -> StoredStsPolicy {
        StoredStsPolicy {
            domain: domain.into(),
            id: "1".into(),
            policy: "version: STSv1\n".into(),
            fetched_at: at(fetched),
            expires_at: at(expires),
            used_at: at(used),
        }
    }

    fn put(queue: &Queue, policy: StoredStsPolicy) {
        let (done, written) = channel();
        queue.put_sts_policy(policy, move |result| done.send(result).expect("test waits"));
        written.recv().expect("answered").expect("written");
    }

    fn domains(queue: &Queue) -> Vec<String> {
        queue.reader().sts_policies().expect("read").into_iter().map(|policy| policy.domain).collect()
    }

    #[test]
    fn policies_survive_a_restart_and_a_new_one_replaces_the_old() {
        let directory = tempfile::tempdir().expect("directory");
        let queue = Queue::open(directory.path(), Options::default()).expect("open");
        put(&queue, policy("a.example", 10, 100, 10));
        let newer = StoredStsPolicy { id: "2".into(), ..policy("a.example", 20, 200, 20) };
        put(&queue, newer.clone());
        queue.touch_sts_policy("a.example", at(15));
        queue.touch_sts_policy("a.example", at(30));
        queue.close();
        drop(queue);
        let reader = Reader::open(directory.path()).expect("read while the daemon is down");
        let expected = StoredStsPolicy { used_at: at(30), ..newer };
        assert_eq!(reader.sts_policy("a.example"), Ok(Some(expected)));
        assert_eq!(reader.sts_policy("b.example"), Ok(None));
    }

    #[test]
    fn beyond_the_bound_expired_ones_go_first_then_the_least_used() {
        let directory = tempfile::tempdir().expect("directory");
        let options = Options { max_sts_policies: 3, ..Options::default() };
        let queue = Queue::open(directory.path(), options).expect("open");
        put(&queue, policy("old.example", 10, 1000, 10));
        put(&queue, policy("expired.example", 10, 20, 20));
        put(&queue, policy("busy.example", 10, 1000, 90));
        put(&queue, policy("new1.example", 100, 1000, 100));
        assert_eq!(domains(&queue), ["busy.example", "new1.example", "old.example"]);
        put(&queue, policy("new2.example", 100, 1000, 5));
        assert_eq!(domains(&queue), ["busy.example", "new1.example", "new2.example"], "never the new one");
    }
}
