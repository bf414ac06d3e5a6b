//! The queue's handle for the administrator: changes to what is selected (those of states in pieces:
//! `piecewise`); hold rules; pauses.

use std::sync::mpsc::channel;
use std::time::SystemTime;

use super::Queue;
use crate::admin::{By, Changed, Edit, HoldRule, Page, Pause, Selector};
use crate::by_hand::{EditRecipients, claim_selected};
use crate::change::{Kind, store_event};
use crate::claim::Claim;
use crate::error::QueueError;
use crate::id::QueueId;
use crate::time::unix_seconds;
use crate::writer::{Tx, Write};
use crate::{destination, rules};

/// Messages looked at for one piece of an edit by the administrator.
const CHANGE_PIECE: usize = 256;

/// Messages claimed at once to be ended by hand: each may come with a notification.
const CLAIM_PIECE: usize = 32;

impl Queue {
    /// Makes the selected messages due now, whatever their next attempt was, and forgets the failures of their
    /// destinations. Returns how many recipients. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn retry(&self, which: &Selector, now: SystemTime) -> Result<u64, QueueError> {
        self.change(Kind::Retry, which, now)
    }

    /// Takes the selected messages out of the queue; nobody is notified. Returns how many recipients. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn drop_messages(&self, which: &Selector, now: SystemTime) -> Result<u64, QueueError> {
        self.change(Kind::Drop, which, now)
    }

    /// Holds the waiting recipients of the selected messages. Returns how many. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn hold(&self, which: &Selector, now: SystemTime) -> Result<u64, QueueError> {
        self.change(Kind::Hold, which, now)
    }

    /// Releases the held recipients of the selected messages; they are due by their own time. Returns how many. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn release(&self, which: &Selector, now: SystemTime) -> Result<u64, QueueError> {
        self.change(Kind::Release, which, now)
    }

    /// A change to everything selected, in pieces.
    fn change(&self, kind: Kind, which: &Selector, now: SystemTime) -> Result<u64, QueueError> {
        let mut change = self.piecewise(kind, which, By::default(), now);
        let mut changed = 0;
        while let Some(step) = change.step()? {
            changed += step.recipients;
        }
        Ok(changed)
    }

    /// One piece of an edit of what is selected and not final, behind the message `after`. What a delivery holds is left
    /// alone and counted. What is set aside waits again where it gets another mailbox; no other edit changes it. Blocks.
    ///
    /// # Errors
    /// What the database reports; `Invalid` where an address cannot be changed so.
    pub fn edit_step(
        &self,
        edit: &Edit,
        which: &Selector,
        after: Option<QueueId>,
        by: By<'_>,
        now: SystemTime,
    ) -> Result<Changed, QueueError> {
        let kind = if matches!(edit, Edit::Mailbox(_)) { Kind::Redirect } else { Kind::Edit };
        let (keys, last) = self.inner.admin.keys(kind, which, Page { after, limit: CHANGE_PIECE })?;
        if keys.is_empty() {
            return Ok(Changed { last, ..Changed::default() });
        }
        let (guard, busy) = self.inner.claims.take_idle(&keys);
        let (done, result) = channel();
        self.send(Box::new(EditRecipients {
            guard,
            edit: edit.clone(),
            now: unix_seconds(now),
            who: by.who.to_owned(),
            reason: by.reason.to_owned(),
            changed: Changed { recipients: 0, busy: busy as u64, last },
            done,
        }));
        result.recv().unwrap_or(Err(QueueError::Closed))
    }

    /// Claims a piece of what is selected and not final, due or not, held or not, behind the message `after`: for whoever
    /// ends it by hand. `Changed::recipients` is zero; what a delivery holds is left alone and counted. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn claim_selected<K: Clone>(
        &self,
        which: &Selector,
        after: Option<QueueId>,
        next_hop: &K,
    ) -> Result<(Vec<Claim<K>>, Changed), QueueError> {
        let (keys, last) = self.inner.admin.keys(Kind::Edit, which, Page { after, limit: CLAIM_PIECE })?;
        let connection = self.inner.claiming.lock();
        let (claims, busy) = claim_selected(&connection, &self.inner.claims, &keys, next_hop)?;
        Ok((claims, Changed { recipients: 0, busy, last }))
    }

    /// Keeps something the administrator did in a message's history. Does not wait for it.
    pub fn note(&self, message: QueueId, what: &'static str, by: By<'_>, now: SystemTime) {
        let (who, reason) = (by.who.to_owned(), by.reason.to_owned());
        let work = move |tx: &mut Tx<'_>| {
            let detail = Some(reason.as_str()).filter(|reason| !reason.is_empty());
            store_event(tx, message.as_i64(), unix_seconds(now), what, &who, detail).map(|()| 1)
        };
        self.send(Box::new(Write { work, count: 0, done: None }));
    }

    /// Adds a rule that holds mail to come; returns its number. Blocks.
    ///
    /// # Errors
    /// `Invalid` for a rule that holds everything or one too many; what the database reports.
    pub fn add_hold_rule(&self, rule: HoldRule, now: SystemTime) -> Result<u64, QueueError> {
        self.write(move |tx| rules::add(tx, &rule, unix_seconds(now)))
    }

    /// Removes a rule; what it holds stays held. Returns false where there is none of that number. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn remove_hold_rule(&self, id: i64) -> Result<bool, QueueError> {
        self.write(move |tx| rules::remove(tx, id)).map(|count| count > 0)
    }

    /// Keeps that something stands still. Blocks.
    ///
    /// # Errors
    /// `Invalid` for one too many; what the database reports.
    pub fn pause(&self, pause: Pause) -> Result<(), QueueError> {
        self.write(move |tx| rules::pause(tx, &pause)).map(|_| ())
    }

    /// Keeps that something no longer stands still; false where it did not. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn resume(&self, name: &str) -> Result<bool, QueueError> {
        let name = name.to_owned();
        self.write(move |tx| rules::resume(tx, &name)).map(|count| count > 0)
    }

    /// Forgets that a destination failed: what waits for it is due by its own time. False where nothing is known of it.
    /// Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn reset_destination(&self, name: &str) -> Result<bool, QueueError> {
        let name = name.to_owned();
        self.write(move |tx| destination::reset(tx, &name)).map(|count| count > 0)
    }

    /// Lets everything that slept because it stood still be looked for again, a piece at a time. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn wake_destinations(&self) -> Result<(), QueueError> {
        let mut after = 0;
        loop {
            let next = self.write(move |tx| destination::wake(tx, after))?;
            if next == 0 {
                return Ok(());
            }
            after = i64::try_from(next).unwrap_or(i64::MAX);
        }
    }

    /// Some work of the writer, synced before it is answered.
    pub(crate) fn write(
        &self,
        work: impl Fn(&mut Tx<'_>) -> Result<u64, QueueError> + Send + 'static,
    ) -> Result<u64, QueueError> {
        let (done, result) = channel();
        self.send(Box::new(Write { work, count: 0, done: Some(done) }));
        result.recv().unwrap_or(Err(QueueError::Closed))
    }
}
