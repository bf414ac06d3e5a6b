//! What falls due by the clock alone: notices of delay, and the postmaster's digest.
//!
//! A notice of delay comes at its time whether or not an attempt falls due then: the queue is walked in the order of
//! arrival, each message once. What is in hand at that moment is looked at again when its attempt has ended. What it does
//! not: who is told is `report::told`'s question.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use mta_queue::{QueueError, QueueId, RecipientState, StoredRecipient, Unnoticed};
use mta_smtp::reply::EnhancedStatus;

use super::notify::DIGEST;
use super::{Options, Scheduler};
use crate::log::Line;
use crate::outbound::Decision;
use crate::report::digest::Digest;
use crate::report::dsn::{Action, RecipientReport};
use crate::report::told::{Facts, Told, told};

/// The most that a look for what waits too long comes after its time; shorter where notices come sooner.
const COARSEST_LOOK: Duration = Duration::from_secs(60);

/// By how much a look is finer than the time after which notices come.
const LOOKS_PER_DELAY: u32 = 240;

/// Recipients of one notice whose attempt is told in full.
const MAX_STORIES: usize = 20;

/// After the queue could not be read, or a notice not be written, so long until the next look.
const PAUSE: Duration = Duration::from_secs(60);

/// Where the walk stands.
#[derive(Debug)]
pub(super) struct Notices {
    /// Everything up to this message was looked at.
    after: Option<QueueId>,
    /// Nothing can be due before this time.
    next_look: SystemTime,
    /// Messages that were in hand when they were looked at.
    again: Vec<QueueId>,
    /// No digest can be due before this time.
    next_digest: SystemTime,
}

impl Default for Notices {
    fn default() -> Self {
        let begin = SystemTime::UNIX_EPOCH;
        Self { after: None, next_look: begin, again: Vec::new(), next_digest: begin }
    }
}

impl Scheduler {
    pub(super) fn notices(&self) -> MutexGuard<'_, Notices> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on other times count.
    pub(super) fn look_at_once(&self) {
        let mut notices = self.notices();
        notices.next_look = SystemTime::UNIX_EPOCH;
        notices.next_digest = SystemTime::UNIX_EPOCH;
    }

    /// An attempt for this message has ended, and it still waits.
    pub(super) fn look_again_at(&self, id: QueueId) {
        self.notices().again.push(id);
    }

    /// A failure is to be told in a digest.
    pub(super) fn expect_digest(&self) {
        self.notices().next_digest = SystemTime::UNIX_EPOCH;
    }

    /// Gives the notices and the digest that are due; when to come back.
    pub(super) async fn give_notices(self: &Arc<Self>) -> SystemTime {
        let options = self.options();
        let now = SystemTime::now();
        let (due, again) = {
            let mut notices = self.notices();
            let digest = notices.next_digest <= now;
            (notices.next_look <= now || digest, std::mem::take(&mut notices.again))
        };
        if due || !again.is_empty() {
            let scheduler = Arc::clone(self);
            let given = smol::unblock(move || scheduler.give_due(&options, again, now)).await;
            if let Err(error) = given {
                ::log::error!("{}", Line::new("notices-delayed").with("reason", error));
                let mut notices = self.notices();
                notices.next_look = notices.next_look.max(now + PAUSE);
                notices.next_digest = notices.next_digest.max(now + PAUSE);
            }
        }
        let notices = self.notices();
        notices.next_look.min(notices.next_digest)
    }

    fn give_due(&self, options: &Options, again: Vec<QueueId>, now: SystemTime) -> Result<(), QueueError> {
        for id in again {
            if let Some(unnoticed) = self.queue.unnoticed_message(id)? {
                self.give_notice(&unnoticed, options, now)?;
            }
        }
        if self.notices().next_look <= now {
            self.walk(options, now)?;
        }
        if self.notices().next_digest <= now {
            let next = self.give_digest(options, now)?;
            self.notices().next_digest = next;
        }
        Ok(())
    }

    /// Goes through what arrived long enough ago.
    fn walk(&self, options: &Options, now: SystemTime) -> Result<(), QueueError> {
        let delay = options.schedule.delay_notice;
        let far = now + Duration::from_secs(86_400);
        // Zero: no notices. A time before all mail: none is due.
        let Some(before) = now.checked_sub(delay).filter(|_| !delay.is_zero()) else {
            self.notices().next_look = far;
            return Ok(());
        };
        loop {
            let after = self.notices().after;
            let walk = self.queue.unnoticed(after, before)?;
            for unnoticed in &walk.found {
                self.give_notice(unnoticed, options, now)?;
            }
            let mut notices = self.notices();
            notices.after = walk.last.or(after);
            if !walk.more {
                let next = walk.next_arrival.unwrap_or(now) + delay;
                let finest = (delay / LOOKS_PER_DELAY).clamp(Duration::from_secs(1), COARSEST_LOOK);
                notices.next_look = next.clamp(now + finest, far.max(now + delay));
                return Ok(());
            }
        }
    }

    /// Tells the sender of one message that it waits. Blocks until it is stored.
    fn give_notice(
        &self,
        unnoticed: &Unnoticed,
        options: &Options,
        now: SystemTime,
    ) -> Result<(), QueueError> {
        let message = &unnoticed.message;
        let arrived = self.outages().arrival(message.received_at, now);
        let end = options.schedule.end(arrived, message.reverse_path.is_null());
        let about: Vec<RecipientReport> = unnoticed
            .recipients
            .iter()
            .zip(&unnoticed.destination_replies)
            .filter(|(recipient, _)| {
                let facts = Facts {
                    reverse_path: &message.reverse_path,
                    origin: message.origin.kind,
                    notify: recipient.recipient.notify,
                    action: Action::Delayed,
                    remote: false,
                    is_digest: false,
                };
                recipient.state == RecipientState::Waiting && told(facts) == Told::Sender
            })
            .enumerate()
            .map(|(index, (recipient, reply))| {
                let mut report = report(recipient, reply.as_deref(), unnoticed, end);
                // The story is that of one attempt; a thousand times told it would be no clearer.
                report.story.truncate(if index < MAX_STORIES { usize::MAX } else { 1 });
                report
            })
            .collect();
        if about.is_empty() {
            return Ok(());
        }
        let notice = self.write_notification(message, Action::Delayed, &about, options, now)?;
        let (done, stored) = std::sync::mpsc::channel();
        self.queue.give_notice(message.id, now, notice, move |result| {
            let _ = done.send(result);
        });
        stored.recv().unwrap_or(Err(QueueError::Closed))
    }

    /// Sends the digest if its time has come; when to look again.
    fn give_digest(&self, options: &Options, now: SystemTime) -> Result<SystemTime, QueueError> {
        let far = now + Duration::from_secs(86_400);
        let interval = options.digest_interval;
        let Some(postmaster) = options.postmaster.as_ref().filter(|_| !interval.is_zero()) else {
            return Ok(far);
        };
        let Some(pending) = self.queue.pending_digest()? else { return Ok(far) };
        let due = pending.since + interval;
        if due > now {
            return Ok(due);
        }
        let id = self.queue.new_id();
        let digest = Digest {
            hostname: &options.hostname,
            id: &id.to_string(),
            to: postmaster,
            pending: &pending,
            now,
        };
        let message = self.postmaster_message(id, postmaster, DIGEST, now, |out| digest.write(out))?;
        let (done, stored) = std::sync::mpsc::channel();
        self.queue.store_digest(pending.count, now, message, move |result| {
            let _ = done.send(result);
        });
        stored.recv().unwrap_or(Err(QueueError::Closed))?;
        let line = Line::new("digest").with("qid", id).with("failures", pending.count);
        ::log::info!("{}", line.with("rcpt", format!("<{postmaster}>")));
        Ok(far)
    }
}

/// What is known of a recipient that waits.
fn report(
    recipient: &StoredRecipient,
    destination_reply: Option<&str>,
    unnoticed: &Unnoticed,
    end: SystemTime,
) -> RecipientReport {
    let tried = recipient.last_attempt_at.is_some();
    let said = recipient.last_reply.as_deref().filter(|_| tried);
    let reason = said.or(destination_reply).unwrap_or("it has not been its turn yet").to_owned();
    // A reply of a server begins with its code; all else is a sentence of ours.
    let is_reply = said.is_some_and(|text| text.get(..3).is_some_and(|code| code.parse::<u16>().is_ok()));
    let mut story = if is_reply { Vec::new() } else { vec![reason.clone()] };
    let decision = unnoticed.decision.as_deref().filter(|_| tried);
    story.extend(decision.and_then(|text| Decision::from_json(text).ok()).iter().flat_map(Decision::story));
    let status = recipient.last_status.as_deref().and_then(EnhancedStatus::parse);
    RecipientReport {
        final_recipient: recipient.recipient.mailbox.to_string(),
        original_recipient: recipient.recipient.orcpt.clone(),
        status: status.filter(|status| status.class == 4).unwrap_or(EnhancedStatus::new(4, 4, 0)),
        remote_reply: is_reply.then(|| reason.clone()),
        remote_mta: recipient.last_remote.clone(),
        last_attempt: recipient.last_attempt_at,
        will_retry_until: Some(end),
        reason,
        story,
    }
}
