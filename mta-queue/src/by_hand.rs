//! What the administrator does to single recipients that a delivery must not hold at the same time: another mailbox,
//! another next hop, an end. They are claimed as a delivery claims them, so that no result of an attempt to the old place
//! is ever written to the new one.
//!
//! What it does not: it selects nothing (`reader`); how a bounce is told to the sender is the caller's (`Queue::record`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use mta_smtp::address::{Host, Mailbox};
use rusqlite::{Connection, OptionalExtension, params};

use crate::admin::{Changed, Edit};
use crate::change::store_event;
use crate::claim::{self, Claim, ClaimGuard, Claims};
use crate::destination::{self, Change};
use crate::error::QueueError;
use crate::lost::PLACEHOLDER;
use crate::recipient::{RecipientKey, RecipientState};
use crate::record::moved;
use crate::rows::RECIPIENT_COLUMNS;
use crate::writer::{Operation, Tx};

/// An edit of claimed recipients.
pub(crate) struct EditRecipients {
    pub(crate) guard: ClaimGuard,
    pub(crate) edit: Edit,
    pub(crate) now: i64,
    pub(crate) who: String,
    pub(crate) reason: String,
    pub(crate) changed: Changed,
    pub(crate) done: Sender<Result<Changed, QueueError>>,
}

/// A recipient's row, as far as an edit needs it.
struct Row {
    state: RecipientState,
    destination: i64,
    mailbox: Mailbox,
    via: Option<String>,
    orcpt: Option<String>,
}

/// What a recipient became.
struct Edited {
    state: RecipientState,
    destination: i64,
}

impl Operation for EditRecipients {
    fn durable(&self) -> bool {
        true
    }

    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), QueueError> {
        self.changed.recipients = 0;
        let mut destinations: BTreeMap<i64, Change> = BTreeMap::new();
        for (key, _) in self.guard.keys() {
            let Some(old) = row(tx.connection, *key)? else { continue };
            if let Some(edited) = self.edit_one(tx, *key, &old)? {
                // Moves within one destination come to nothing.
                destinations.entry(old.destination).or_default().moved(old.state, RecipientState::Dropped);
                destinations
                    .entry(edited.destination)
                    .or_default()
                    .moved(RecipientState::Dropped, edited.state);
                moved(tx, key.message, old.state, edited.state)?;
                self.changed.recipients += 1;
            }
        }
        for (destination, change) in destinations {
            destination::refresh(tx, destination, change)?;
        }
        tx.effects.wake |= self.changed.recipients > 0;
        Ok(())
    }

    fn finish(self: Box<Self>, result: Result<(), QueueError>) {
        drop(self.guard);
        let _ = self.done.send(result.map(|()| self.changed));
    }
}

impl EditRecipients {
    /// Edits one recipient. `None` where there is nothing to do.
    fn edit_one(&self, tx: &Tx<'_>, key: RecipientKey, old: &Row) -> Result<Option<Edited>, QueueError> {
        let state = match (old.state, &self.edit) {
            (RecipientState::Waiting | RecipientState::Held, _) => old.state,
            // What was set aside goes on where the administrator says where to; what else is wrong is found at its turn.
            (RecipientState::Damaged, Edit::Mailbox(_)) => RecipientState::Waiting,
            _ => return Ok(None),
        };
        let mailbox = match &self.edit {
            Edit::Mailbox(mailbox) => mailbox.clone(),
            Edit::Domain(domain) => Mailbox::new(old.mailbox.local_part(), Host::Domain(domain.clone()))
                .map_err(|_| QueueError::Invalid("the address cannot be had at that domain"))?,
            Edit::Via(_) => old.mailbox.clone(),
        };
        let via = match &self.edit {
            Edit::Via(via) => via.clone(),
            // What was chosen for the old address says nothing about the new one.
            _ => None,
        };
        if mailbox == old.mailbox && via == old.via {
            return Ok(None);
        }
        // RFC 3461 5.2.7 keeps the original recipient when an address is changed on the way.
        let orcpt = match &old.orcpt {
            None if old.mailbox.to_string() == PLACEHOLDER => None,
            None if mailbox != old.mailbox && old.mailbox.is_ascii() => {
                Some(format!("rfc822;{}", old.mailbox))
            }
            other => other.clone(),
        };
        let destination = destination::intern(tx, &destination::name_with(&mailbox, via.as_deref()))?;
        tx.connection
            .prepare_cached(
                "UPDATE recipient SET mailbox = ?3, via = ?4, orcpt = ?5, destination = ?6, next_at = ?7, state = ?8
                 WHERE message = ?1 AND n = ?2",
            )?
            .execute(params![
                key.message,
                key.n,
                mailbox.to_string(),
                via,
                orcpt,
                destination,
                self.now,
                state.code()
            ])?;
        let (what, mut detail) = match &self.edit {
            Edit::Via(Some(via)) => ("rerouted", format!("{} via {via}", old.mailbox)),
            Edit::Via(None) => ("rerouted", format!("{} the usual way", old.mailbox)),
            _ => ("redirected", format!("{} to {mailbox}", old.mailbox)),
        };
        if !self.reason.is_empty() {
            detail = format!("{detail}: {}", self.reason);
        }
        store_event(tx, key.message, self.now, what, &self.who, Some(&detail))?;
        Ok(Some(Edited { state, destination }))
    }
}

fn row(connection: &Connection, key: RecipientKey) -> Result<Option<Row>, QueueError> {
    let mut find = connection.prepare_cached(
        "SELECT state, destination, mailbox, via, orcpt FROM recipient WHERE message = ?1 AND n = ?2",
    )?;
    let found = find
        .query_row(params![key.message, key.n], |row| {
            let mailbox: String = row.get(2)?;
            Ok((row.get::<_, i64>(0)?, row.get(1)?, mailbox, row.get(3)?, row.get(4)?))
        })
        .optional()?;
    Ok(found.and_then(|(code, destination, mailbox, via, orcpt)| {
        let mailbox = Mailbox::parse(&mailbox).ok()?;
        Some(Row { state: RecipientState::from_code(code), destination, mailbox, via, orcpt })
    }))
}

/// Claims selected recipients, due or not, waiting or held, one claim for each message. The second value counts those that
/// a delivery holds.
pub(crate) fn claim_selected<K: Clone>(
    connection: &Connection,
    claims: &Arc<Claims>,
    keys: &[(RecipientKey, i64)],
    next_hop: &K,
) -> Result<(Vec<Claim<K>>, u64), QueueError> {
    let (mut rest, busy) = claims.take_idle(keys);
    // Read after they are ours: nobody changes them now.
    let snapshot = connection.unchecked_transaction()?;
    let messages: BTreeSet<i64> = rest.keys().iter().map(|(key, _)| key.message).collect();
    let mut found = Vec::new();
    for message in messages {
        let Some(stored) = claim::load_message(&snapshot, message)? else { continue };
        let mut statement = snapshot.prepare_cached(&format!(
            "SELECT {RECIPIENT_COLUMNS}, d.name, d.failures FROM recipient r JOIN destination d ON d.id = r.destination
             WHERE r.message = ?1 AND r.state IN (0, 1)"
        ))?;
        let mut rows = statement.query([message])?;
        let mut recipients = Vec::new();
        while let Some(row) = rows.next()? {
            let (name, failures): (String, u32) = (row.get(14)?, row.get(15)?);
            let Ok(recipient) = claim::claimed_recipient(row, &name, failures) else { continue };
            if rest.keys().iter().any(|(key, _)| *key == recipient.key) {
                recipients.push(recipient);
            }
        }
        let guard = rest.split(|key| key.message != message);
        if !recipients.is_empty() {
            found.push(Claim { message: stored, next_hop: next_hop.clone(), recipients, guard });
        }
    }
    Ok((found, busy as u64))
}
