//! From outcomes to the queue's record: the next attempt or the end, what the destination is thought of, and the
//! notifications that follow. All of it is written in one transaction.

use std::sync::Arc;
use std::time::SystemTime;

use mta_queue::{
    AttemptRecord, Claim, ClaimedRecipient, DestinationResult, Message, OriginKind, QueueError,
    RecipientResult,
};
use mta_smtp::reply::EnhancedStatus;

use super::limit::Wave;
use super::notify::unreported;
use super::signs::{self, Seen};
use super::{Options, Scheduler};
use crate::log::Line;
use crate::outbound::provider::Consequence;
use crate::outbound::{AttemptReport, Outcome, Reach, RecipientOutcome, Verdict};
use crate::report::dsn::Action;
use crate::report::send::{PATIENCE, REPORT};
use crate::report::tlsrpt;
use crate::routing::Route;

/// Overdue messages of a failed destination that are ended at once.
const EXPIRE_AT_ONCE: usize = 16;

/// What the queue is told of one recipient, and what its sender is.
pub(super) struct State<'a> {
    pub(super) claimed: &'a ClaimedRecipient,
    pub(super) outcome: &'a Outcome,
    pub(super) result: mta_queue::RecipientOutcome,
    pub(super) news: News,
}

/// Who hears of a recipient's new state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Nobody. Of delays `notices` tells.
    None,
    /// The sender, by a notification.
    Sender(Action),
    /// The postmaster, by the digest.
    Postmaster,
}

/// Which part of the mail a record is about.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// What was attempted.
    Attempt(Box<Attempted>),
    /// What was not, because its time is over and its destination just failed.
    Overdue,
    /// What the administrator returns to its sender.
    ByHand,
}

/// What a settled attempt means for the rest of its destinations' mail.
pub(super) struct Settled {
    /// They failed as a whole, so that what is overdue ends with them.
    failed: Vec<String>,
    /// Nothing had to be kept because its notification could not be written.
    complete: bool,
    route: Route,
}

impl Scheduler {
    /// Writes down what came of a claim.
    ///
    /// # Errors
    /// The queue's own, where it could not be written. The recipients are due again then.
    pub(super) async fn settle(
        self: &Arc<Self>,
        claim: Claim<Route>,
        report: AttemptReport,
        part: Part,
    ) -> Result<Settled, QueueError> {
        let scheduler = Arc::clone(self);
        let (sender, receiver) = async_channel::bounded(1);
        // Notifications read the message's header and write content: that blocks.
        let settled = smol::unblock(move || {
            let options = scheduler.options();
            let now = SystemTime::now();
            let mut report = report;
            let forwarded = scheduler.forwards(&claim, &mut report, now);
            let (mut record, complete) = scheduler.record(&claim, &report, &options, now, &part);
            record.notifications.extend(forwarded);
            let settled = scheduler.judge(&claim, &record, &part, complete);
            let waits = waits_long(&claim.message, &record, &options, now).then_some(claim.message.id);
            let owes_digest = !record.unreported.is_empty();
            let record = for_queue(&claim.next_hop, record);
            scheduler.queue.record(claim, record, move |result| {
                let _ = sender.try_send(result);
            });
            (settled, waits, owes_digest)
        })
        .await;
        let (settled, waits, owes_digest) = settled;
        receiver.recv().await.unwrap_or(Err(QueueError::Closed))?;
        if let Some(id) = waits {
            self.look_again_at(id);
        }
        if owes_digest {
            self.expect_digest();
        }
        Ok(settled)
    }

    /// Ends what is overdue at destinations that failed: it will not get an attempt of its own.
    ///
    /// # Errors
    /// The queue's own.
    pub(super) async fn expire(
        self: &Arc<Self>,
        settled: Settled,
        report: AttemptReport,
    ) -> Result<(), QueueError> {
        let Some(cause) = report.outcomes.first().cloned() else { return Ok(()) };
        let Settled { failed, route, .. } = settled;
        for destination in failed {
            loop {
                let (scheduler, name, route) = (Arc::clone(self), destination.clone(), route.clone());
                let overdue = smol::unblock(move || {
                    let schedule = &scheduler.options().schedule;
                    // Past both: what is claimed here is over, whatever its sender; and what did not count besides.
                    let lifetime = schedule.lifetime.max(schedule.notification_lifetime);
                    let now = SystemTime::now();
                    let since = now.checked_sub(lifetime.saturating_mul(4)).unwrap_or(SystemTime::UNIX_EPOCH);
                    let lifetime = lifetime.saturating_add(scheduler.outages().frozen(since, now));
                    let Some(before) = now.checked_sub(lifetime) else { return Ok(Vec::new()) };
                    scheduler.queue.claim_older(&name, before, EXPIRE_AT_ONCE, &route)
                })
                .await?;
                let mut last = overdue.len() < EXPIRE_AT_ONCE;
                for claim in overdue {
                    let outcome = cause.outcome.clone();
                    let outcomes = claim
                        .recipients
                        .iter()
                        .map(|r| RecipientOutcome {
                            recipient: r.recipient.clone(),
                            outcome: outcome.clone(),
                        })
                        .collect();
                    let report = AttemptReport {
                        outcomes,
                        decision: report.decision.clone(),
                        ..AttemptReport::default()
                    };
                    // What had to stay would be claimed again at once.
                    last |= !self.settle(claim, report, Part::Overdue).await?.complete;
                }
                if last {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Remembers what an attempt says of its next-hop.
    fn judge(&self, claim: &Claim<Route>, record: &AttemptRecord, part: &Part, complete: bool) -> Settled {
        let route = claim.next_hop.clone();
        let Part::Attempt(attempt) = part else {
            return Settled { failed: Vec::new(), complete, route };
        };
        self.learn(&route, attempt, record.destination, record.at);
        self.tell_of_unknown(claim, record);
        let mut failed = Vec::new();
        if matches!(record.destination, DestinationResult::Failed { .. }) {
            failed.extend(claim.recipients.iter().map(|r| r.destination.clone()));
            failed.sort();
            failed.dedup();
        }
        Settled { failed, complete, route }
    }

    /// Users whose recipients other servers do not know are counted for the brake on what they send.
    fn tell_of_unknown(&self, claim: &Claim<Route>, record: &AttemptRecord) {
        let origin = &claim.message.origin;
        let (Some(users), Some(user)) = (&self.site.users, &origin.user) else { return };
        if origin.kind != OriginKind::Submission || origin.about.is_some() {
            return;
        }
        // RFC 3463 3.2: no such mailbox, or it has moved; as a server said, not as DNS or we did.
        let is_unknown = |it: &&RecipientResult| {
            let EnhancedStatus { class, subject, detail } = it.status;
            it.outcome == mta_queue::RecipientOutcome::Failed
                && it.remote.is_some()
                && (class, subject) == (5, 1)
                && matches!(detail, 1 | 6)
        };
        for _ in record.results.iter().filter(is_unknown) {
            users.refused_elsewhere(user);
        }
    }

    pub(super) fn record(
        &self,
        claim: &Claim<Route>,
        report: &AttemptReport,
        options: &Options,
        now: SystemTime,
        part: &Part,
    ) -> (AttemptRecord, bool) {
        let random = fastrand::u64(..);
        let destination = match part {
            Part::Attempt(attempt) => {
                let result =
                    destination_result(options, claim, &report.outcomes, attempt.failures, now, random);
                attempt.tempered(result)
            }
            Part::Overdue | Part::ByHand => DestinationResult::Unknown,
        };
        let arrived = self.outages().arrival(claim.message.received_at, now);
        let mut states: Vec<State<'_>> = claim
            .recipients
            .iter()
            .zip(&report.outcomes)
            .map(|(claimed, outcome)| {
                let outcome = &outcome.outcome;
                let result = match part {
                    Part::Attempt(attempt) => attempt.put_off(outcome).unwrap_or_else(|| {
                        let times = Times { arrived, now, random };
                        next_state(options, &claim.message, claimed, outcome, destination, times)
                    }),
                    Part::Overdue => mta_queue::RecipientOutcome::Expired,
                    Part::ByHand => mta_queue::RecipientOutcome::Failed,
                };
                let news = self.news(&claim.message, claimed, outcome, result, options, now);
                State { claimed, outcome, result, news }
            })
            .collect();
        let (mut notifications, mut complete) = (Vec::new(), true);
        for action in [Action::Failed, Action::Delivered, Action::Relayed] {
            match self.notification(claim, report, &states, action, options, now) {
                Ok(notification) => notifications.extend(notification),
                Err(error) => {
                    let line = Line::new("notification-failed").with("qid", claim.message.id);
                    ::log::error!("{}", line.with("error", error));
                    // A success need not be told; a failure that nobody was told of is lost mail.
                    if action == Action::Failed {
                        keep_trying(&mut states, options, now, random);
                        complete = false;
                    }
                }
            }
        }
        states.iter().for_each(|state| log_expiry(&claim.message, state, now));
        let record = AttemptRecord {
            at: now,
            results: states.iter().map(recipient_result).collect(),
            decision: serde_json::to_string(&report.decision).ok(),
            destination,
            notifications,
            handed: report.local.handed.clone(),
            unreported: unreported(&claim.message, &states),
            tls_sessions: match part {
                // RFC 8460 3: what carries reports is not reported.
                Part::Attempt { .. } if !is_report(&claim.message) => tlsrpt::sessions(&report.decision),
                Part::Attempt { .. } => Vec::new(),
                Part::Overdue | Part::ByHand => Vec::new(),
            },
        };
        (record, complete)
    }
}

/// The times by which a recipient's fate is decided.
#[derive(Debug, Clone, Copy)]
struct Times {
    arrived: SystemTime,
    now: SystemTime,
    random: u64,
}

/// What the scheduler made of an attempt before it is written down.
#[derive(Debug, Clone)]
pub(super) struct Attempted {
    /// Failures in a row of the next-hop or its destinations, when the attempt began.
    pub(super) failures: u32,
    /// What it showed; nothing for mail of our own domains.
    pub(super) seen: Option<Seen>,
    /// When it began, by the limit of its next-hop.
    pub(super) wave: Wave,
    /// There were other deliveries to the same hosts.
    pub(super) others_under_way: bool,
    /// What a known reply led to.
    pub(super) consequence: Consequence,
    /// It does not count as an attempt, and is due again then.
    pub(super) put_off_until: Option<SystemTime>,
    /// The fault is ours.
    pub(super) ours: bool,
}

impl Attempted {
    /// A delivery to our own domains; put off where the mail store or user was busy.
    pub(super) fn local(failures: u32, put_off_until: Option<SystemTime>) -> Self {
        Self {
            failures,
            seen: None,
            wave: Wave::default(),
            others_under_way: false,
            consequence: Consequence::Nothing,
            put_off_until,
            ours: false,
        }
    }

    /// What is thought of the destination, given what its outcomes say.
    fn tempered(&self, result: DestinationResult) -> DestinationResult {
        let Some(seen) = &self.seen else { return result };
        if self.ours {
            return DestinationResult::Unknown;
        }
        let held = seen.held_until.and(self.put_off_until);
        match (self.consequence, held) {
            (Consequence::Pause(not_before), _) => {
                DestinationResult::Failed { failures: self.failures.saturating_add(1), not_before }
            }
            (_, Some(not_before)) => DestinationResult::Failed { failures: self.failures, not_before },
            (Consequence::WithoutIpv6(_), _) => DestinationResult::Unknown,
            _ => signs::tempered(result, seen, self.others_under_way),
        }
    }

    /// The new state of a recipient for whom nothing counts.
    fn put_off(&self, outcome: &Outcome) -> Option<mta_queue::RecipientOutcome> {
        let next_attempt_at = self.put_off_until.filter(|_| outcome.verdict == Verdict::Deferred)?;
        Some(mta_queue::RecipientOutcome::PutOff { next_attempt_at })
    }
}

/// What becomes of a recipient. The one place that gives up on mail.
///
/// A fault of our own site never ends a message: nothing bounces because we were offline.
fn next_state(
    options: &Options,
    message: &Message,
    claimed: &ClaimedRecipient,
    outcome: &Outcome,
    destination: DestinationResult,
    times: Times,
) -> mta_queue::RecipientOutcome {
    let Times { arrived, now, random } = times;
    let is_notification = message.reverse_path.is_null();
    match outcome.verdict {
        Verdict::Delivered => mta_queue::RecipientOutcome::Delivered,
        Verdict::Failed => mta_queue::RecipientOutcome::Failed,
        Verdict::Deferred
            if outcome.reach != Reach::Site
                && (options.schedule.is_over(now, arrived, is_notification)
                    || is_report(message) && now >= arrived + PATIENCE) =>
        {
            mta_queue::RecipientOutcome::Expired
        }
        Verdict::Deferred => {
            let failures = claimed.attempts.saturating_add(1);
            let own = options.schedule.next_attempt(now, arrived, is_notification, failures, random);
            // A destination that failed as a whole has its own back-off; when that ends, all its mail has its turn.
            let next_attempt_at = match destination {
                DestinationResult::Failed { not_before, .. } => not_before.min(own),
                DestinationResult::Works | DestinationResult::Unknown => own,
            };
            mta_queue::RecipientOutcome::Deferred { next_attempt_at }
        }
    }
}

/// Whether the message carries a report to another domain.
fn is_report(message: &Message) -> bool {
    message.origin.kind == OriginKind::Notification && message.origin.about.as_deref() == Some(REPORT)
}

/// Whether the message still waits although its sender should have been told that it does: it was in hand when its time
/// came.
fn waits_long(message: &Message, record: &AttemptRecord, options: &Options, now: SystemTime) -> bool {
    message.delay_notified_at.is_none()
        && options.schedule.is_delay_notice_due(now, message.received_at)
        && record.results.iter().any(|r| {
            use mta_queue::RecipientOutcome::{Deferred, PutOff};
            matches!(r.outcome, Deferred { .. } | PutOff { .. })
        })
}

/// Those who would be final without their sender being told stay in the queue: a notification that cannot be written
/// now can be later.
fn keep_trying(states: &mut [State<'_>], options: &Options, now: SystemTime, random: u64) {
    use mta_queue::RecipientOutcome::{Deferred, Expired, Failed};

    for state in states {
        if matches!(state.result, Failed | Expired) {
            state.result = Deferred { next_attempt_at: now + options.schedule.wait(1, random) };
            state.news = News::None;
        }
    }
}

/// A shared next-hop's back-off is not that of the destinations that lead to it now.
fn for_queue(route: &Route, mut record: AttemptRecord) -> AttemptRecord {
    if matches!(route, Route::Relay(_)) && matches!(record.destination, DestinationResult::Failed { .. }) {
        record.destination = DestinationResult::Unknown;
    }
    record
}

/// What the outcomes say of the destination as a whole: it works if anything got through to a mailbox decision there;
/// it failed if all failed before that.
fn destination_result(
    options: &Options,
    claim: &Claim<Route>,
    outcomes: &[RecipientOutcome],
    failures: u32,
    now: SystemTime,
    random: u64,
) -> DestinationResult {
    if claim.next_hop == Route::Local || outcomes.iter().any(|o| o.outcome.reach == Reach::Site) {
        return DestinationResult::Unknown;
    }
    if outcomes.iter().any(|o| signs::answered(&o.outcome)) {
        return DestinationResult::Works;
    }
    if outcomes.iter().any(|o| o.outcome.verdict == Verdict::Failed) {
        // Null MX, no such domain: final for these recipients; others to it find out the same way.
        return DestinationResult::Unknown;
    }
    let failures = failures.saturating_add(1);
    let wait = options.schedule.wait(failures, random);
    DestinationResult::Failed { failures, not_before: now + wait }
}

/// The log line of mail that is given up because its time is over; the attempt itself has its own.
fn log_expiry(message: &Message, state: &State<'_>, now: SystemTime) {
    if state.result != mta_queue::RecipientOutcome::Expired {
        return;
    }
    let line = Line::new("expired")
        .with("qid", message.id)
        .with("mailfrom", &message.reverse_path)
        .with("rcpt", format!("<{}>", state.claimed.recipient.mailbox))
        .with("status", "expired")
        .with("dsn", state.outcome.status)
        .with("delay", now.duration_since(message.received_at).unwrap_or_default().as_secs());
    ::log::warn!("{}", line.with("reason", &state.outcome.text));
}

fn recipient_result(settled: &State<'_>) -> RecipientResult {
    let outcome = settled.outcome;
    let reply = outcome
        .reply
        .as_ref()
        .map_or_else(|| outcome.text.clone(), |reply| format!("{} {}", reply.code, reply.lines.join(" ")));
    RecipientResult {
        key: settled.claimed.key,
        outcome: settled.result,
        status: outcome.status,
        reply,
        remote: outcome.remote.as_ref().map(|remote| remote.host.clone()),
    }
}
