//! What the administrator sees of the deliveries under way, and mail that he returns to its sender.
//!
//! What it does not: it selects and claims nothing; the caller does.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::SystemTime;

use mta_queue::{By, Claim, QueueError};
use mta_smtp::reply::EnhancedStatus;

use super::settle::Part;
use super::{AttemptReport, Decision, Outcome, Reach, RecipientOutcome, Scheduler, Verdict};
use crate::log::Line;
use crate::routing::Route;

impl Scheduler {
    /// Ends the recipients of a claim as failed and tells the sender so, as a delivery that failed does. Returns how many.
    /// Blocks.
    ///
    /// # Errors
    /// The queue's own; also where the notification cannot be written: the recipients stay as they were then.
    pub fn bounce(self: &Arc<Self>, claim: Claim<Route>, by: By<'_>) -> Result<u64, QueueError> {
        let options = self.options();
        let (id, now) = (claim.message.id, SystemTime::now());
        let text = match by.reason {
            "" => "the administrator returned the message".to_owned(),
            reason => format!("the administrator returned the message: {reason}"),
        };
        let outcome = Outcome {
            verdict: Verdict::Failed,
            reach: Reach::Message,
            // RFC 3463 3.4: other mail system status.
            status: EnhancedStatus::new(5, 3, 0),
            text,
            reply: None,
            remote: None,
            reports_passed_on: false,
        };
        let outcomes = claim
            .recipients
            .iter()
            .map(|r| RecipientOutcome { recipient: r.recipient.clone(), outcome: outcome.clone() })
            .collect();
        let decision = Decision {
            route: "none".to_owned(),
            ended_early: Some("no further attempt is made".to_owned()),
            result: "failed".to_owned(),
            ..Decision::default()
        };
        let report = AttemptReport { outcomes, decision, ..AttemptReport::default() };
        let count = claim.recipients.len() as u64;
        let (record, complete) = self.record(&claim, &report, &options, now, &Part::ByHand);
        if !complete {
            return Err(QueueError::Storage("the notification cannot be written".to_owned()));
        }
        let owes_digest = !record.unreported.is_empty();
        let (sender, result) = channel();
        self.queue.record(claim, record, move |answer| {
            let _ = sender.send(answer);
        });
        result.recv().unwrap_or(Err(QueueError::Closed))?;
        if owes_digest {
            self.expect_digest();
            self.notify();
        }
        self.queue.note(id, "bounced", by, now);
        let line = Line::new("bounced").with("qid", id).with("nrcpt", count).with("by", by.who);
        ::log::info!("{}", line.with("reason", by.reason));
        Ok(count)
    }

    /// Deliveries under way by their next hop, those with most first.
    pub fn under_way(&self) -> Vec<(String, usize)> {
        let mut hops: Vec<(String, usize)> =
            self.hops().routes_under_way().map(|(route, count)| (route.to_string(), count)).collect();
        hops.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        hops
    }

    /// Where a destination's mail goes now.
    pub fn route(&self, destination: &str) -> Route {
        self.deliver.route(destination)
    }
}
