//! What senders and the postmaster are still to be told: mail that has waited long, and failures that no sender hears of.
//!
//! - [`Queue::unnoticed`] walks the messages in the order of their arrival, each once, so that a notice of delay comes at its
//!   time whether or not an attempt falls due; [`Queue::give_notice`] stores the notice and the mark in one transaction.
//! - A record may carry failures that its sender is not told of ([`Unreported`]). They are counted, a bounded number of
//!   them kept as samples, until [`Queue::store_digest`] takes them out in the transaction that stores their digest.
//!
//! What it does not: it decides neither when something is due nor who is told, and writes no text.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, params};

use crate::accept::{self, Done};
use crate::error::QueueError;
use crate::id::QueueId;
use crate::message::{Message, NewMessage};
use crate::recipient::{RecipientState, StoredRecipient};
use crate::rows::{self, MESSAGE_COLUMNS, RECIPIENT_COLUMNS};
use crate::store::Queue;
use crate::time::{from_unix, unix_micros, unix_seconds};
use crate::writer::{Operation, Tx};

/// Messages looked at in one call: most of them are delivered long since.
const LOOKED_AT: usize = 1_000;

/// Recipients held by one call, give or take one message.
const MAX_RECIPIENTS: usize = 2_000;

/// Failures kept word for word for a digest; the others are only counted.
pub const MAX_SAMPLES: usize = 50;

/// A message that still waits, and of whose delay its sender was told nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unnoticed {
    /// The message.
    pub message: Message,
    /// Its recipients that wait and are not in hand, at least one.
    pub recipients: Vec<StoredRecipient>,
    /// Why the destination of each last failed as a whole, in the same order.
    pub destination_replies: Vec<Option<String>>,
    /// The decision record of the latest attempt, as JSON.
    pub decision: Option<String>,
}

/// Part of the walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// What was found.
    pub found: Vec<Unnoticed>,
    /// The last message looked at: where to go on.
    pub last: Option<QueueId>,
    /// There is more to look at now.
    pub more: bool,
    /// When the next message arrived, of those that came too late for this walk.
    pub next_arrival: Option<SystemTime>,
}

/// A failure that its sender is not told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreported {
    /// The message.
    pub message: QueueId,
    /// Its reverse-path in angle brackets.
    pub reverse_path: String,
    /// The recipient.
    pub recipient: String,
    /// The enhanced status code.
    pub status: String,
    /// Why, without control characters; cut at `Options::max_reply_bytes`.
    pub reason: String,
}

/// Failures that wait for a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// When the first of them happened.
    pub since: SystemTime,
    /// How many there are.
    pub count: u64,
    /// The first of them, at most [`MAX_SAMPLES`], with the time of each.
    pub samples: Vec<(SystemTime, Unreported)>,
}

impl Queue {
    /// Messages behind `after` that arrived before `arrived_before`, still wait, and whose senders were not told so. Blocks
    /// on the disk.
    ///
    /// # Errors
    /// What the database reports.
    pub fn unnoticed(&self, after: Option<QueueId>, arrived_before: SystemTime) -> Result<Walk, QueueError> {
        let reader = self.reader();
        let connection = reader.lock();
        let snapshot = connection.unchecked_transaction()?;
        let after = after.map_or(-1, QueueId::as_i64);
        let last = unix_micros(arrived_before);
        let mut rows = snapshot.prepare_cached(
            "SELECT id, finished_at IS NULL AND delay_notified_at IS NULL FROM message
             WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
        )?;
        let looked_at = rows
            .query_map(params![after, last, LOOKED_AT as i64], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        let (mut found, mut recipients, mut last_id) = (Vec::new(), 0, None);
        let mut more = looked_at.len() == LOOKED_AT;
        for (id, open) in looked_at {
            if recipients >= MAX_RECIPIENTS {
                more = true;
                break;
            }
            last_id = Some(QueueId::from_i64(id));
            let one = if open { self.one_unnoticed(&snapshot, id) } else { Ok(None) };
            match one {
                Ok(None) => {}
                Ok(Some(one)) => {
                    recipients += one.recipients.len();
                    found.push(one);
                }
                // What cannot be read is set aside by whoever claims it, and must not stop the walk.
                Err(error) => {
                    let (id, reason) = (QueueId::from_i64(id), error.to_string());
                    log::warn!("qid={id} event=unreadable reason={reason:?}");
                }
            }
        }
        let mut next =
            snapshot.prepare_cached("SELECT received_at FROM message WHERE id > ?1 ORDER BY id LIMIT 1")?;
        let next: Option<i64> = next.query_row([last], |row| row.get(0)).optional()?;
        Ok(Walk { found, last: last_id, more, next_arrival: next.map(from_unix) })
    }

    /// The same for one message, where it still waits untold. Blocks on the disk.
    ///
    /// # Errors
    /// What the database reports.
    pub fn unnoticed_message(&self, id: QueueId) -> Result<Option<Unnoticed>, QueueError> {
        let reader = self.reader();
        let connection = reader.lock();
        let snapshot = connection.unchecked_transaction()?;
        self.one_unnoticed(&snapshot, id.as_i64())
    }

    fn one_unnoticed(&self, snapshot: &Connection, id: i64) -> Result<Option<Unnoticed>, QueueError> {
        let mut statement = snapshot.prepare_cached(&format!(
            "SELECT {MESSAGE_COLUMNS} FROM message m
             WHERE m.id = ?1 AND m.finished_at IS NULL AND m.delay_notified_at IS NULL"
        ))?;
        let mut rows = statement.query([id])?;
        // What cannot be read is set aside by whoever claims it.
        let Some(message) = rows.next()?.and_then(|row| rows::message(row).ok()) else { return Ok(None) };
        let mut statement = snapshot.prepare_cached(&format!(
            "SELECT {RECIPIENT_COLUMNS}, d.last_reply AS destination_reply
             FROM recipient r LEFT JOIN destination d ON d.id = r.destination
             WHERE r.message = ?1 AND r.state = ?2 ORDER BY r.n"
        ))?;
        let mut rows = statement.query(params![id, RecipientState::Waiting.code()])?;
        let (mut recipients, mut destination_replies) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next()? {
            let Ok(recipient) = rows::stored_recipient(row) else { continue };
            if !self.claims().is_in_hand(recipient.key) {
                recipients.push(recipient);
                destination_replies.push(row.get("destination_reply")?);
            }
        }
        if recipients.is_empty() {
            return Ok(None);
        }
        let mut decision = snapshot
            .prepare_cached("SELECT decision FROM attempt WHERE message = ?1 ORDER BY n DESC LIMIT 1")?;
        let decision = decision.query_row([id], |row| row.get(0)).optional()?.flatten();
        Ok(Some(Unnoticed { message, recipients, destination_replies, decision }))
    }

    /// Stores the notice of a message's delay, unless its sender was told meanwhile or the message is finished; `Ok` either
    /// way. `done` is called on the writer's thread after the commit; it must not block.
    pub fn give_notice(
        &self,
        about: QueueId,
        at: SystemTime,
        notice: NewMessage,
        done: impl FnOnce(Result<(), QueueError>) + Send + 'static,
    ) {
        self.send(Box::new(GiveNotice { about, at, notice, stored: false, done: Box::new(done) }));
    }

    /// The failures that wait for a digest; `None` where there are none. Blocks on the disk.
    ///
    /// # Errors
    /// What the database reports.
    pub fn pending_digest(&self) -> Result<Option<Pending>, QueueError> {
        let reader = self.reader();
        let connection = reader.lock();
        let snapshot = connection.unchecked_transaction()?;
        let mut totals = snapshot.prepare_cached("SELECT count, since FROM digest WHERE count > 0")?;
        let totals = totals.query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
        let Some((count, since)) = totals.optional()? else { return Ok(None) };
        let mut samples = snapshot.prepare_cached(
            "SELECT at, message, reverse_path, recipient, status, reason FROM unreported ORDER BY n",
        )?;
        let samples = samples.query_map([], |row| {
            let unreported = Unreported {
                message: QueueId::from_i64(row.get(1)?),
                reverse_path: row.get(2)?,
                recipient: row.get(3)?,
                status: row.get(4)?,
                reason: row.get(5)?,
            };
            Ok((from_unix(row.get(0)?), unreported))
        })?;
        let samples = samples.collect::<Result<Vec<_>, _>>()?;
        let count = u64::try_from(count).unwrap_or(0);
        Ok(Some(Pending { since: from_unix(since), count, samples }))
    }

    /// Stores a digest and forgets what it tells: so many failures, and all samples. `done` as for [`Queue::give_notice`].
    pub fn store_digest(
        &self,
        told: u64,
        at: SystemTime,
        digest: NewMessage,
        done: impl FnOnce(Result<(), QueueError>) + Send + 'static,
    ) {
        self.send(Box::new(StoreDigest { told, at, digest, done: Box::new(done) }));
    }
}

/// The operation of `Queue::give_notice`.
struct GiveNotice {
    about: QueueId,
    at: SystemTime,
    notice: NewMessage,
    /// The notice is among the rows of the transaction.
    stored: bool,
    done: Done,
}

impl Operation for GiveNotice {
    fn weight_bytes(&self) -> u64 {
        accept::weight_bytes(&self.notice)
    }

    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), QueueError> {
        let marked = tx
            .connection
            .prepare_cached(
                "UPDATE message SET delay_notified_at = ?2
                 WHERE id = ?1 AND finished_at IS NULL AND delay_notified_at IS NULL",
            )?
            .execute(params![self.about.as_i64(), unix_seconds(self.at)])?;
        self.stored = marked > 0;
        if self.stored { accept::store(tx, &self.notice) } else { Ok(()) }
    }

    fn keep_files(&mut self) {
        self.notice.content.keep_file();
    }

    fn finish(self: Box<Self>, result: Result<(), QueueError>) {
        if result.is_ok() && self.stored {
            self.notice.content.keep();
        }
        (self.done)(result);
    }
}

/// The operation of `Queue::store_digest`.
struct StoreDigest {
    told: u64,
    at: SystemTime,
    digest: NewMessage,
    done: Done,
}

impl Operation for StoreDigest {
    fn weight_bytes(&self) -> u64 {
        accept::weight_bytes(&self.digest)
    }

    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), QueueError> {
        let told = i64::try_from(self.told).unwrap_or(i64::MAX);
        tx.connection
            .prepare_cached("UPDATE digest SET count = max(count - ?1, 0), since = ?2")?
            .execute(params![told, unix_seconds(self.at)])?;
        tx.connection.prepare_cached("DELETE FROM unreported")?.execute([])?;
        accept::store(tx, &self.digest)
    }

    fn keep_files(&mut self) {
        self.digest.content.keep_file();
    }

    fn finish(self: Box<Self>, result: Result<(), QueueError>) {
        if result.is_ok() {
            self.digest.content.keep();
        }
        (self.done)(result);
    }
}

/// Counts a failure for the digest, and keeps it as a sample while there are few.
pub(crate) fn collect(tx: &Tx<'_>, unreported: &Unreported, at: i64, reason: &str) -> Result<(), QueueError> {
    tx.connection
        .prepare_cached("UPDATE digest SET since = iif(count = 0, ?1, since), count = count + 1")?
        .execute([at])?;
    tx.connection
        .prepare_cached(
            "INSERT INTO unreported (at, message, reverse_path, recipient, status, reason)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE (SELECT count(*) FROM unreported) < ?7",
        )?
        .execute(params![
            at,
            unreported.message.as_i64(),
            unreported.reverse_path,
            unreported.recipient,
            unreported.status,
            reason,
            MAX_SAMPLES as i64,
        ])?;
    Ok(())
}
