//! What the next hops of relayed domains said about their recipients.
//!
//! Bounded by `Options::max_recipient_answers`: beyond it the oldest of those that do not exist go first, so that who
//! guesses addresses drives out none that exists. What it does not: it does not know how long an answer is good for.

use std::time::SystemTime;

use rusqlite::{OptionalExtension, Row, params};

use crate::error::QueueError;
use crate::reader::Reader;
use crate::store::Queue;
use crate::time::{from_unix, unix_seconds};
use crate::writer::Tx;

/// An answer as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The address; its domain in lower case and A-labels.
    pub address: String,
    /// Whether the next hop takes mail for it.
    pub known: bool,
    /// Its reply, cut to `Options::max_reply_bytes`.
    pub reply: String,
    /// When it was asked.
    pub asked_at: SystemTime,
}

const COLUMNS: &str = "address, known, reply, asked_at";

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredAnswer> {
    Ok(StoredAnswer {
        address: row.get(0)?,
        known: row.get(1)?,
        reply: row.get(2)?,
        asked_at: from_unix(row.get(3)?),
    })
}

impl Queue {
    /// Keeps an answer in place of the one for its address. `done` as for all state (`state`).
    pub fn put_recipient_answer(
        &self,
        answer: StoredAnswer,
        done: impl FnOnce(Result<(), QueueError>) + Send + 'static,
    ) {
        self.write_state("recipient-answer", move |tx| put(tx, &answer), done);
    }

    /// Forgets the answer for an address, or those for all addresses of `@domain`; how many. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn forget_recipient_answers(&self, name: &str) -> Result<u64, QueueError> {
        let name = name.to_owned();
        self.write(move |tx| {
            let forgotten = match name.strip_prefix('@') {
                Some(domain) => {
                    tx.connection.execute("DELETE FROM recipient_answer WHERE domain = ?1", [domain])?
                }
                None => tx.connection.execute("DELETE FROM recipient_answer WHERE address = ?1", [&name])?,
            };
            Ok(forgotten as u64)
        })
    }
}

fn put(tx: &mut Tx<'_>, answer: &StoredAnswer) -> Result<(), QueueError> {
    let domain = answer.address.rsplit_once('@').map_or("", |(_, domain)| domain);
    let cut = answer.reply.floor_char_boundary(tx.options.max_reply_bytes);
    tx.connection
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO recipient_answer ({COLUMNS}, domain) VALUES (?1, ?2, ?3, ?4, ?5)"
        ))?
        .execute(params![
            answer.address,
            answer.known,
            answer.reply.get(..cut).unwrap_or_default(),
            unix_seconds(answer.asked_at),
            domain
        ])?;
    let count: i64 = tx
        .connection
        .prepare_cached("SELECT count(*) FROM recipient_answer")?
        .query_row([], |row| row.get(0))?;
    let beyond = count.saturating_sub(i64::try_from(tx.options.max_recipient_answers).unwrap_or(i64::MAX));
    if beyond > 0 {
        tx.connection
            .prepare_cached(
                "DELETE FROM recipient_answer WHERE address IN (SELECT address FROM recipient_answer
                 WHERE address <> ?1 ORDER BY known, asked_at LIMIT ?2)",
            )?
            .execute(params![answer.address, beyond])?;
    }
    Ok(())
}

impl Reader {
    /// The answer that is kept for an address.
    ///
    /// # Errors
    /// What the database reports.
    pub fn recipient_answer(&self, address: &str) -> Result<Option<StoredAnswer>, QueueError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM recipient_answer WHERE address = ?1"))?;
        Ok(statement.query_row([address], stored).optional()?)
    }

    /// The answers that are kept, of one domain (A-labels, lower case) or of all, at most so many, by address.
    ///
    /// # Errors
    /// What the database reports.
    pub fn recipient_answers(
        &self,
        domain: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StoredAnswer>, QueueError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM recipient_answer WHERE ?1 IS NULL OR domain = ?1 ORDER BY address LIMIT ?2"
        ))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(statement.query_map(params![domain, limit], stored)?.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::store::Options;

    fn answer(address: &str, known: bool, asked: u64) -> StoredAnswer {
        let (address, reply) = (address.to_owned(), "250 2.1.5 ok".to_owned());
        StoredAnswer { address, known, reply, asked_at: UNIX_EPOCH + Duration::from_secs(asked) }
    }

    fn put(queue: &Queue, answer: StoredAnswer) {
        let (done, written) = channel();
        queue.put_recipient_answer(answer, move |result| done.send(result).expect("test waits"));
        written.recv().expect("answered").expect("written");
    }

    fn addresses(queue: &Queue, domain: Option<&str>) -> Vec<String> {
        let answers = queue.reader().recipient_answers(domain, 100).expect("read");
        answers.into_iter().map(|answer| answer.address).collect()
    }

    #[test]
    fn answers_survive_a_restart_are_replaced_and_forgotten() {
        let directory = tempfile::tempdir().expect("directory");
        let queue = Queue::open(directory.path(), Options::default()).expect("open");
        put(&queue, answer("a@x.example", false, 10));
        put(&queue, answer("a@x.example", true, 20));
        put(&queue, answer("b@x.example", true, 20));
        put(&queue, answer("c@y.example", true, 20));
        queue.close();
        drop(queue);
        let reader = Reader::open(directory.path()).expect("read while the daemon is down");
        assert_eq!(reader.recipient_answer("a@x.example"), Ok(Some(answer("a@x.example", true, 20))));
        assert_eq!(reader.recipient_answer("z@x.example"), Ok(None));
        drop(reader);
        let queue = Queue::open(directory.path(), Options::default()).expect("open");
        assert_eq!(addresses(&queue, Some("x.example")), ["a@x.example", "b@x.example"]);
        assert_eq!(queue.forget_recipient_answers("a@x.example"), Ok(1));
        assert_eq!(queue.forget_recipient_answers("a@x.example"), Ok(0));
        assert_eq!(queue.forget_recipient_answers("@y.example"), Ok(1));
        assert_eq!(addresses(&queue, None), ["b@x.example"]);
    }

    #[test]
    fn guessed_addresses_drive_out_none_that_exists() {
        let directory = tempfile::tempdir().expect("directory");
        let options = Options { max_recipient_answers: 3, max_reply_bytes: 4, ..Options::default() };
        let queue = Queue::open(directory.path(), options).expect("open");
        put(&queue, answer("old@x.example", true, 1));
        put(&queue, answer("older@x.example", true, 0));
        for number in 10..30 {
            put(&queue, answer(&format!("g{number}@x.example"), false, number));
        }
        assert_eq!(addresses(&queue, None), ["g29@x.example", "old@x.example", "older@x.example"]);
        put(&queue, answer("new@x.example", true, 50));
        put(&queue, answer("newer@x.example", true, 60));
        assert_eq!(addresses(&queue, None), ["new@x.example", "newer@x.example", "old@x.example"]);
        let kept = queue.reader().recipient_answer("new@x.example").expect("read").expect("there");
        assert_eq!(kept.reply, "250 ", "a reply is cut");
    }
}
