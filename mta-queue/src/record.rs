//! What an attempt led to, written in one transaction: states, next attempts, the decision record, the destination's
//! back-off and the notifications that follow from it.
//!
//! A message whose recipients are all final gives up its content and becomes history; history is bounded, and each
//! message that enters it pushes out what is beyond the bound.

use std::collections::BTreeMap;
use std::time::SystemTime;

use mta_smtp::reply::EnhancedStatus;
use rusqlite::{OptionalExtension, params};

use crate::accept::{self, Done};
use crate::admin::StoredResult;
use crate::claim::ClaimGuard;
use crate::crash;
use crate::destination::{self, Change};
use crate::error::QueueError;
use crate::id::QueueId;
use crate::message::NewMessage;
use crate::notice::{self, Unreported};
use crate::recipient::{RecipientKey, RecipientState};
use crate::state::handed;
use crate::state::tls_report::{self, TlsSession};
use crate::time::{unix_seconds, unix_seconds_up};
use crate::writer::{Operation, Tx};

/// Messages that leave the history in one turn; more than enter it, so that a lowered bound is reached.
const TRIM_AT_ONCE: i64 = 4;

/// The record of one attempt for the recipients of one claim.
#[derive(Debug)]
pub struct AttemptRecord {
    /// When the attempt ended.
    pub at: SystemTime,
    /// What became of each recipient. Recipients of the claim that are not named stay as they were.
    pub results: Vec<RecipientResult>,
    /// The decision record as JSON. Longer ones than `Options::max_decision_bytes` are left out.
    pub decision: Option<String>,
    /// What it says about the destinations of these recipients as a whole.
    pub destination: DestinationResult,
    /// Notifications that enter the queue together with this record, and what is forwarded.
    pub notifications: Vec<NewMessage>,
    /// Places the message was handed to for recipients that still wait (an alias of several).
    pub handed: Vec<String>,
    /// Failures that no sender is told of, for the postmaster's digest.
    pub unreported: Vec<Unreported>,
    /// The TLS sessions of the attempt, to be counted for reports.
    pub tls_sessions: Vec<TlsSession>,
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientResult {
    /// Which.
    pub key: RecipientKey,
    /// Its new state.
    pub outcome: RecipientOutcome,
    /// The enhanced status code.
    pub status: EnhancedStatus,
    /// The remote reply, or our reason, without control characters; cut at `Options::max_reply_bytes`.
    pub reply: String,
    /// The MX host or relay host, where one was spoken to.
    pub remote: Option<String>,
}

/// The new state of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecipientOutcome {
    /// Somebody else is responsible now.
    Delivered,
    /// Tried again, not before the given time.
    Deferred {
        /// The earliest next attempt.
        next_attempt_at: SystemTime,
    },
    /// Tried again, and what happened does not count as an attempt: the cause was ours. The recipient's reply changes, its
    /// number of attempts does not; in the message's history all such in a row are one.
    PutOff {
        /// The earliest next attempt.
        next_attempt_at: SystemTime,
    },
    /// Given up after a permanent failure.
    Failed,
    /// Given up at the end of the queue lifetime.
    Expired,
}

/// What an attempt says about its destination as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestinationResult {
    /// Nothing: the cause was the message, a recipient, or ourselves.
    Unknown,
    /// It answers: its failures are forgotten and all that waited for it is due by its own time.
    Works,
    /// It failed as a whole: nothing is tried before the given time.
    Failed {
        /// Failures in a row, this one included, as counted when the attempt began: attempts that fail side by side are
        /// one failure.
        failures: u32,
        /// The earliest next attempt for anything to it.
        not_before: SystemTime,
    },
}

/// The operation.
pub(crate) struct Record {
    pub(crate) message: QueueId,
    pub(crate) record: AttemptRecord,
    /// Released after the commit, before `done` is called.
    pub(crate) guard: ClaimGuard,
    pub(crate) done: Done,
}

impl Operation for Record {
    fn must_succeed(&self) -> bool {
        true
    }

    fn weight_bytes(&self) -> u64 {
        self.record.notifications.iter().map(accept::weight_bytes).sum()
    }

    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), QueueError> {
        let id = self.message.as_i64();
        let at = unix_seconds(self.record.at);
        let changes = self.move_recipients(tx, at)?;
        crash::point("record-moved");
        for (destination, (change, reply)) in changes {
            match self.record.destination {
                DestinationResult::Unknown => {}
                DestinationResult::Works => destination::works(tx, destination)?,
                DestinationResult::Failed { failures, not_before } => {
                    destination::failed(tx, destination, failures, unix_seconds_up(not_before), &reply)?;
                }
            }
            destination::refresh(tx, destination, change)?;
        }
        self.store_attempt(tx, at)?;
        crash::point("record-attempt");
        handed::keep(tx, id, &self.record.handed)?;
        for notification in &self.record.notifications {
            accept::store(tx, notification)?;
            crash::point("record-notified");
        }
        for unreported in &self.record.unreported {
            notice::collect(tx, unreported, at, cut(&unreported.reason, tx.options.max_reply_bytes))?;
        }
        tls_report::count(tx, self.record.at, &self.record.tls_sessions)?;
        finish_if_done(tx, id, at)
    }

    fn keep_files(&mut self) {
        self.record.notifications.iter_mut().for_each(|notification| notification.content.keep_file());
    }

    fn finish(self: Box<Self>, result: Result<(), QueueError>) {
        drop(self.guard);
        for notification in self.record.notifications {
            if result.is_ok() {
                notification.content.keep();
            }
        }
        (self.done)(result);
    }
}

impl Record {
    /// Moves each recipient to its new state. Returns how the destinations changed, each with a reply.
    fn move_recipients(
        &self,
        tx: &mut Tx<'_>,
        at: i64,
    ) -> Result<BTreeMap<i64, (Change, String)>, QueueError> {
        let mut changes: BTreeMap<i64, (Change, String)> = BTreeMap::new();
        for result in &self.record.results {
            let RecipientKey { message, n } = result.key;
            let mut find = tx.connection.prepare_cached(
                "SELECT state, destination, next_at FROM recipient WHERE message = ?1 AND n = ?2",
            )?;
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            let found: Option<(i64, i64, i64)> = find.query_row(params![message, n], row).optional()?;
            let Some((code, destination, old_next)) = found else { continue };
            let from = RecipientState::from_code(code);
            let reply = cut(&result.reply, tx.options.max_reply_bytes);
            let change = changes.entry(destination).or_insert_with(|| (Change::default(), reply.to_owned()));
            // An administrator may have dropped it meanwhile; what was delivered counts all the same.
            if !matches!(from, RecipientState::Waiting | RecipientState::Held) {
                continue;
            }
            let (to, next_at) = match result.outcome {
                RecipientOutcome::Deferred { next_attempt_at }
                | RecipientOutcome::PutOff { next_attempt_at } => (from, unix_seconds_up(next_attempt_at)),
                RecipientOutcome::Delivered => (RecipientState::Delivered, old_next),
                RecipientOutcome::Failed => (RecipientState::Failed, old_next),
                RecipientOutcome::Expired => (RecipientState::Expired, old_next),
            };
            let counted = i64::from(!matches!(result.outcome, RecipientOutcome::PutOff { .. }));
            tx.connection
                .prepare_cached(
                    "UPDATE recipient SET state = ?3, attempts = attempts + ?9, next_at = ?4, last_at = ?5, status = ?6,
                            reply = ?7, remote = ?8 WHERE message = ?1 AND n = ?2",
                )?
                .execute(params![
                    message,
                    n,
                    to.code(),
                    next_at,
                    at,
                    result.status.to_string(),
                    reply,
                    result.remote,
                    counted,
                ])?;
            change.0.moved(from, to);
            moved(tx, message, from, to)?;
        }
        Ok(changes)
    }

    /// Keeps the attempt, and of many the first and the latest. One that was put off takes the place of one before it that
    /// was too, so that an outage of days is one row.
    fn store_attempt(&self, tx: &Tx<'_>, at: i64) -> Result<(), QueueError> {
        let id = self.message.as_i64();
        let mut results = Vec::with_capacity(self.record.results.len());
        for result in &self.record.results {
            let mut find = tx
                .connection
                .prepare_cached("SELECT mailbox FROM recipient WHERE message = ?1 AND n = ?2")?;
            let key = params![result.key.message, result.key.n];
            let Some(recipient) = find.query_row(key, |row| row.get(0)).optional()? else { continue };
            results.push(StoredResult {
                recipient,
                outcome: result.outcome.as_str().to_owned(),
                status: result.status.to_string(),
                reply: cut(&result.reply, tx.options.max_reply_bytes).to_owned(),
                remote: result.remote.clone(),
            });
        }
        if results.is_empty() {
            return Ok(());
        }
        let results = serde_json::to_string(&results).map_err(|_| QueueError::Invalid("attempt"))?;
        let decision =
            self.record.decision.as_ref().filter(|text| text.len() <= tx.options.max_decision_bytes);
        let is_put_off = self.is_put_off();
        if is_put_off && self.repeat_put_off(tx, at, &results, decision)? {
            return Ok(());
        }
        let mut last =
            tx.connection.prepare_cached("SELECT ifnull(max(n), 0) FROM attempt WHERE message = ?1")?;
        let n: i64 = last.query_row([id], |row| row.get(0))?;
        tx.connection
            .prepare_cached(
                "INSERT INTO attempt (message, n, at, results, decision, first_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![id, n + 1, at, results, decision, is_put_off.then_some(at)])?;
        let latest = i64::try_from(tx.options.attempts_kept.max(2) - 1).unwrap_or(i64::MAX);
        tx.connection
            .prepare_cached("DELETE FROM attempt WHERE message = ?1 AND n > 1 AND n <= ?2")?
            .execute(params![id, (n + 1).saturating_sub(latest)])?;
        Ok(())
    }
}

impl Record {
    /// Nothing of it counts as an attempt.
    fn is_put_off(&self) -> bool {
        let mut results = self.record.results.iter();
        results.all(|result| matches!(result.outcome, RecipientOutcome::PutOff { .. }))
    }

    /// Puts it in the place of the last attempt, where that was put off too: `first_at` says so. Whether it was.
    fn repeat_put_off(
        &self,
        tx: &Tx<'_>,
        at: i64,
        results: &str,
        decision: Option<&String>,
    ) -> Result<bool, QueueError> {
        let changed = tx
            .connection
            .prepare_cached(
                "UPDATE attempt SET at = ?2, results = ?3, decision = ?4, times = times + 1
                 WHERE message = ?1 AND first_at IS NOT NULL
                   AND n = (SELECT max(n) FROM attempt WHERE message = ?1)",
            )?
            .execute(params![self.message.as_i64(), at, results, decision])?;
        Ok(changed > 0)
    }
}

impl RecipientOutcome {
    /// The word for it in the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Deferred { .. } => "deferred",
            Self::PutOff { .. } => "put-off",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }
}

impl Change {
    /// A recipient goes from one state to another.
    pub(crate) fn moved(&mut self, from: RecipientState, to: RecipientState) {
        for (state, by) in [(from, -1), (to, 1)] {
            match state {
                RecipientState::Waiting => self.waiting += by,
                // Damaged ones keep their destination's row, too: they may be repaired and retried.
                RecipientState::Held | RecipientState::Damaged => self.held += by,
                _ => {}
            }
        }
    }
}

/// Counts a recipient's change of state, in the totals and in its message.
pub(crate) fn moved(
    tx: &mut Tx<'_>,
    message: i64,
    from: RecipientState,
    to: RecipientState,
) -> Result<(), QueueError> {
    tx.totals.moved(Some(from), to);
    if !from.is_final() && to.is_final() {
        tx.connection
            .prepare_cached("UPDATE message SET open = open - 1 WHERE id = ?1")?
            .execute([message])?;
    }
    Ok(())
}

/// A message whose recipients are all final gives up its content and becomes history.
pub(crate) fn finish_if_done(tx: &mut Tx<'_>, id: i64, at: i64) -> Result<(), QueueError> {
    let done: Option<(i64, Option<i64>)> = tx
        .connection
        .prepare_cached(
            "UPDATE message SET finished_at = ?2 WHERE id = ?1 AND open <= 0 AND finished_at IS NULL
             RETURNING size, content_file",
        )?
        .query_row(params![id, at], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((size, file)) = done else { return Ok(()) };
    tx.effects.unneeded_files.extend(file);
    tx.connection.prepare_cached("DELETE FROM content WHERE id = ?1")?.execute([id])?;
    handed::forget(tx, id)?;
    tx.totals.messages -= 1;
    tx.totals.content_bytes -= size;
    tx.totals.finished += 1;
    crash::point("record-finished");
    trim_history(tx, at)?;
    destination::forget_idle(tx, at)
}

/// Deletes the oldest of the history where it is beyond its bounds.
fn trim_history(tx: &mut Tx<'_>, now: i64) -> Result<(), QueueError> {
    let beyond = tx.totals.finished - i64::try_from(tx.options.history_messages).unwrap_or(i64::MAX);
    let age = i64::try_from(tx.options.history_age.as_secs()).unwrap_or(i64::MAX);
    let mut oldest = tx.connection.prepare_cached(
        "SELECT id, finished_at FROM message WHERE finished_at IS NOT NULL ORDER BY finished_at, id LIMIT ?1",
    )?;
    let oldest = oldest
        .query_map([TRIM_AT_ONCE], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?
        .collect::<Result<Vec<_>, _>>()?;
    for (n, (id, finished_at)) in (0i64..).zip(oldest) {
        if n >= beyond && finished_at > now.saturating_sub(age) {
            break;
        }
        for table in ["recipient", "attempt", "event"] {
            let delete = format!("DELETE FROM {table} WHERE message = ?1");
            tx.connection.prepare_cached(&delete)?.execute([id])?;
        }
        tx.connection.prepare_cached("DELETE FROM message WHERE id = ?1")?.execute([id])?;
        tx.totals.finished -= 1;
    }
    Ok(())
}

/// The text, cut to so many octets at a character.
fn cut(text: &str, max_bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(max_bytes)).unwrap_or_default()
}
