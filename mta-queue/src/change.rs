//! Changes by the administrator, and setting damage aside: states of many recipients, a piece of the queue at a time, and
//! what is kept of it in the history of each message.
//!
//! What it does not: it selects nothing (`reader`); it is given the recipients.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use rusqlite::{OptionalExtension, params};

use crate::admin::Counts;
use crate::claim::Claims;
use crate::crash;
use crate::destination::{self, Change};
use crate::error::{Damage, QueueError};
use crate::id::QueueId;
use crate::lost::PLACEHOLDER;
use crate::recipient::{RecipientKey, RecipientState};
use crate::record::{finish_if_done, moved};
use crate::writer::{Operation, Shared, Tx};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Due now.
    Retry,
    /// Out of the queue.
    Drop,
    /// Not until released.
    Hold,
    /// No longer held.
    Release,
    /// Changed by `Queue::edit_step`, or ended by whoever claims it by `Queue::claim_selected`.
    Edit,
    /// Given another mailbox by `Queue::edit_step`: what is set aside, too.
    Redirect,
}

impl Kind {
    /// The states it applies to, as a list for SQL.
    pub(crate) fn states(self) -> &'static str {
        match self {
            Self::Retry => "0, 6",
            Self::Drop => "0, 1, 6",
            Self::Hold => "0",
            Self::Release => "1",
            Self::Edit => "0, 1",
            Self::Redirect => "0, 1, 6",
        }
    }

    /// How many recipients of the whole queue it applies to.
    pub(crate) fn of_all(self, counts: &Counts) -> u64 {
        match self {
            Self::Retry => counts.waiting + counts.damaged,
            Self::Drop | Self::Redirect => counts.waiting + counts.held + counts.damaged,
            Self::Hold => counts.waiting,
            Self::Release => counts.held,
            Self::Edit => counts.waiting + counts.held,
        }
    }

    /// The word in the history; a new attempt speaks for itself.
    fn word(self) -> Option<&'static str> {
        match self {
            Self::Retry | Self::Edit | Self::Redirect => None,
            Self::Drop => Some("dropped"),
            Self::Hold => Some("held"),
            Self::Release => Some("released"),
        }
    }
}

/// Events kept for each message, at most; further ones are in the log alone.
const MAX_EVENTS: i64 = 100;

/// Keeps what the administrator did to a message.
pub(crate) fn store_event(
    tx: &Tx<'_>,
    message: i64,
    at: i64,
    what: &str,
    who: &str,
    detail: Option<&str>,
) -> Result<(), QueueError> {
    tx.connection
        .prepare_cached(
            "INSERT INTO event (message, n, at, what, who, detail)
             SELECT ?1, ifnull(max(n), 0) + 1, ?2, ?3, ?4, ?5 FROM event WHERE message = ?1 HAVING count(*) < ?6",
        )?
        .execute(params![message, at, what, who, detail, MAX_EVENTS])?;
    Ok(())
}

/// Why a recipient is held.
pub(crate) fn set_note(tx: &Tx<'_>, key: RecipientKey, note: Option<&str>) -> Result<(), QueueError> {
    tx.connection
        .prepare_cached("UPDATE recipient SET note = ?3 WHERE message = ?1 AND n = ?2")?
        .execute(params![key.message, key.n, note])?;
    Ok(())
}

/// Changes some recipients.
pub(crate) struct ChangeRecipients {
    pub(crate) kind: Kind,
    pub(crate) keys: Vec<RecipientKey>,
    pub(crate) now: i64,
    pub(crate) who: String,
    pub(crate) reason: String,
    /// It is the last piece: who is told "dropped" must not find the message delivered after a power cut. The pieces
    /// before it are made durable with it.
    pub(crate) is_last: bool,
    pub(crate) changed: u64,
    pub(crate) done: Sender<Result<u64, QueueError>>,
}

impl Operation for ChangeRecipients {
    fn durable(&self) -> bool {
        self.is_last
    }

    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), QueueError> {
        self.changed = 0;
        let mut destinations: BTreeMap<i64, Change> = BTreeMap::new();
        let mut messages = BTreeMap::new();
        for key in &self.keys {
            let mut find = tx.connection.prepare_cached(
                "SELECT state, destination, mailbox = ?3 FROM recipient WHERE message = ?1 AND n = ?2",
            )?;
            let row = find.query_row(params![key.message, key.n, PLACEHOLDER], |row| {
                Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get::<_, bool>(2)?))
            });
            let Some((code, destination, is_placeholder)) = row.optional()? else { continue };
            let from = RecipientState::from_code(code);
            if is_placeholder && self.kind == Kind::Retry {
                // Nobody is there: an attempt would end the message, and what was lost of it would be forgotten.
                continue;
            }
            let Some(to) = new_state(self.kind, from) else { continue };
            set_state(tx, *key, to, (self.kind == Kind::Retry).then_some(self.now))?;
            if self.kind == Kind::Release || self.kind == Kind::Hold && !self.reason.is_empty() {
                let note = Some(&self.reason).filter(|_| self.kind == Kind::Hold);
                set_note(tx, *key, note.map(String::as_str))?;
            }
            destinations.entry(destination).or_default().moved(from, to);
            moved(tx, key.message, from, to)?;
            *messages.entry(key.message).or_insert(0u64) += 1;
            self.changed += 1;
            crash::point("change-applied");
        }
        for (destination, change) in destinations {
            if self.kind == Kind::Retry {
                destination::works(tx, destination)?;
            }
            destination::refresh(tx, destination, change)?;
        }
        for (message, recipients) in messages {
            if let Some(what) = self.kind.word() {
                let detail = match (recipients, self.reason.as_str()) {
                    (1, "") => None,
                    (1, reason) => Some(reason.to_owned()),
                    (n, "") => Some(format!("{n} recipients")),
                    (n, reason) => Some(format!("{n} recipients: {reason}")),
                };
                store_event(tx, message, self.now, what, &self.who, detail.as_deref())?;
            }
            if self.kind == Kind::Drop {
                finish_if_done(tx, message, self.now)?;
            }
        }
        tx.effects.wake |= self.changed > 0;
        Ok(())
    }

    fn finish(self: Box<Self>, result: Result<(), QueueError>) {
        let _ = self.done.send(result.map(|()| self.changed));
    }
}

/// What a change makes of a state; `None` where it does not apply.
fn new_state(kind: Kind, from: RecipientState) -> Option<RecipientState> {
    use RecipientState::{Damaged, Dropped, Held, Waiting};

    match (kind, from) {
        (Kind::Retry, Waiting) | (Kind::Release, Held) => Some(Waiting),
        // Damage that was repaired by hand is tried again on request.
        (Kind::Retry, Damaged) => Some(Waiting),
        (Kind::Hold, Waiting) => Some(Held),
        (Kind::Drop, Waiting | Held | Damaged) => Some(Dropped),
        _ => None,
    }
}

fn set_state(
    tx: &Tx<'_>,
    key: RecipientKey,
    to: RecipientState,
    next_at: Option<i64>,
) -> Result<(), QueueError> {
    tx.connection
        .prepare_cached(
            "UPDATE recipient SET state = ?3, next_at = ifnull(?4, next_at) WHERE message = ?1 AND n = ?2",
        )?
        .execute(params![key.message, key.n, to.code(), next_at])?;
    Ok(())
}

/// Takes a message that cannot be read out of the way of the others. It stays for the administrator to see.
pub(crate) struct SetAside {
    pub(crate) message: QueueId,
    pub(crate) reason: String,
    /// Where it is passed over if not even this can be written.
    pub(crate) claims: Arc<Claims>,
    /// Through which it is told.
    pub(crate) shared: Arc<Shared>,
}

impl Operation for SetAside {
    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), QueueError> {
        let id = self.message.as_i64();
        let mut find = tx.connection.prepare_cached(
            "SELECT n, state, destination FROM recipient WHERE message = ?1 AND state IN (0, 1)",
        )?;
        let found = find
            .query_map([id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))?
            .collect::<Result<Vec<_>, _>>()?;
        let mut destinations: BTreeMap<i64, Change> = BTreeMap::new();
        for (n, code, destination) in found {
            let from = RecipientState::from_code(code);
            set_state(tx, RecipientKey { message: id, n }, RecipientState::Damaged, None)?;
            destinations.entry(destination).or_default().moved(from, RecipientState::Damaged);
            moved(tx, id, from, RecipientState::Damaged)?;
        }
        for (destination, change) in destinations {
            destination::refresh(tx, destination, change)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, result: Result<(), QueueError>) {
        let (qid, reason) = (self.message, &self.reason);
        self.shared.tell(&Damage::SetAside { message: qid, reason: reason.clone() });
        match result {
            Ok(()) => log::error!("qid={qid} event=set-aside reason={reason:?}"),
            Err(error) => {
                self.claims.pass_over(qid);
                log::error!("qid={qid} event=not-set-aside reason={reason:?} error={:?}", error.to_string())
            }
        }
    }
}

/// Postpones destinations whose next-hop is not to be tried yet, and lets those sleep that stand still.
pub(crate) struct Postpone {
    pub(crate) destinations: Vec<(i64, i64)>,
    pub(crate) paused: Vec<(i64, i64)>,
}

impl Operation for Postpone {
    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), QueueError> {
        for (destination, not_before) in &self.destinations {
            destination::postpone(tx, *destination, *not_before)?;
        }
        for (destination, until) in &self.paused {
            destination::sleep(tx, *destination, *until)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, result: Result<(), QueueError>) {
        if let Err(error) = result {
            // Harmless: the destinations are asked about again.
            log::debug!("event=not-postponed error={:?}", error.to_string());
        }
    }
}
