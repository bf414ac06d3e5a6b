//! Delivery to the mailboxes of our own domains: one outcome per recipient, in the same types as mail out.
//!
//! What it does: asks [`Accounts`] where a recipient lies, delivers there, and turns every result into an [`Outcome`].
//! What it does not: it does not decide when to try again, and it never runs on the executor (all of it blocks).

use std::sync::Arc;
use std::time::Instant;

use mta_smtp::address::ReversePath;
use mta_smtp::envelope::Recipient;
use mta_smtp::reply::EnhancedStatus;

use super::maildir::{self, Item, MaildirError};
use crate::account::{self, Accounts};
use crate::clock::{Clock, SystemClock};
use crate::log::Line;
use crate::outbound::{
    AttemptReport, ContentSource, Decision, Job, Outcome, Reach, RecipientOutcome, Verdict,
};

/// One message to deliver here.
pub struct LocalJob<'a> {
    /// The queue id.
    pub queue_id: &'a str,
    /// The reverse-path, for `Return-Path`.
    pub reverse_path: &'a ReversePath,
    /// When it was accepted, seconds since 1970.
    pub accepted_at_unix: u64,
    /// Who receives.
    pub recipients: &'a [Recipient],
    /// The content.
    pub content: &'a dyn ContentSource,
}

/// Delivers a job of the scheduler on a thread that may block, and writes one log line for each recipient.
pub async fn attempt(accounts: Arc<Accounts>, hostname: String, job: Job) -> AttemptReport {
    let started = Instant::now();
    let (job, outcomes) = smol::unblock(move || {
        let local = LocalJob {
            queue_id: &job.queue_id,
            reverse_path: &job.reverse_path,
            accepted_at_unix: job.accepted_at_unix,
            recipients: &job.recipients,
            content: &*job.content,
        };
        let outcomes = deliver(&accounts, &hostname, &local);
        (job, outcomes)
    })
    .await;
    let now = SystemClock.unix_seconds();
    for outcome in &outcomes {
        ::log::info!("{}", log_line(&job, outcome, now));
    }
    let decision = Decision {
        started_at_unix: now,
        elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        route: job.route.to_string(),
        destination: job.destination,
        result: outcomes.iter().map(|o| o.outcome.text.clone()).collect::<Vec<_>>().join("; "),
        ..Decision::default()
    };
    AttemptReport { outcomes, decision }
}

/// The same keys as mail out has, in the same order.
fn log_line(job: &Job, of: &RecipientOutcome, now_unix: u64) -> Line {
    let (event, status) = match of.outcome.verdict {
        Verdict::Delivered => ("delivered", "sent"),
        Verdict::Deferred => ("deferred", "deferred"),
        Verdict::Failed => ("failed", "failed"),
    };
    Line::new(event)
        .with("qid", &job.queue_id)
        .with("mailfrom", &job.reverse_path)
        .with("rcpt", format_args!("<{}>", of.recipient.mailbox))
        .with("status", status)
        .with("dsn", of.outcome.status)
        .with("delay", now_unix.saturating_sub(job.accepted_at_unix))
        .with("route", &job.route)
        .with("reason", &of.outcome.text)
}

/// Delivers to each recipient in turn. Blocking.
pub fn deliver(accounts: &Accounts, hostname: &str, job: &LocalJob<'_>) -> Vec<RecipientOutcome> {
    job.recipients
        .iter()
        .map(|recipient| RecipientOutcome {
            recipient: recipient.clone(),
            outcome: deliver_one(accounts, hostname, job, recipient),
        })
        .collect()
}

fn deliver_one(accounts: &Accounts, hostname: &str, job: &LocalJob<'_>, recipient: &Recipient) -> Outcome {
    let path = match accounts.recipient(&recipient.mailbox) {
        account::Recipient::Maildir(path) => path,
        // Accepted while it existed, and taken out of the configuration since.
        account::Recipient::Unknown | account::Recipient::Foreign => {
            return outcome(
                Verdict::Failed,
                Reach::Recipient,
                (5, 1, 1),
                format!("no mailbox {} is configured here any more", recipient.mailbox),
            );
        }
    };
    let address = recipient.mailbox.to_string();
    // RFC 5321 4.4: the final delivery puts the reverse-path on record.
    let trace = format!("Return-Path: {}\nDelivered-To: {address}\n", job.reverse_path);
    let unique = format!("{}-{}", job.queue_id, short_hash(&address));
    let item = Item { unique: &unique, received_at: job.accepted_at_unix, hostname, trace: &trace };
    let mut content = match job.content.open() {
        Ok(content) => content,
        Err(error) => return failed(&MaildirError::Content { error: error.to_string() }),
    };
    match maildir::deliver(&path, &item, &mut *content) {
        Ok(path) => outcome(
            Verdict::Delivered,
            Reach::Recipient,
            (2, 0, 0),
            format!("delivered to {}", path.parent().and_then(|new| new.parent()).unwrap_or(&path).display()),
        ),
        Err(error) => failed(&error),
    }
}

/// Every trouble of our own disk is transient and ours: the sender did nothing wrong (RFC 3463 3.3, 3.4).
fn failed(error: &MaildirError) -> Outcome {
    let status = match error {
        MaildirError::Full { .. } => (4, 3, 1),
        MaildirError::NotAllowed { .. } | MaildirError::Io { .. } => (4, 2, 0),
        MaildirError::Content { .. } => (4, 3, 0),
    };
    outcome(Verdict::Deferred, Reach::Recipient, status, error.to_string())
}

fn outcome(
    verdict: Verdict,
    reach: Reach,
    (class, subject, detail): (u8, u16, u16),
    text: String,
) -> Outcome {
    let status = EnhancedStatus::new(class, subject, detail);
    Outcome { verdict, reach, status, text, reply: None, remote: None, reports_passed_on: false }
}

/// Tells the recipients of one message apart in a file name, the same at every attempt.
fn short_hash(address: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, address.to_lowercase().as_bytes());
    digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::io::{self, Read};

    use mta_smtp::address::{Domain, Mailbox};

    use super::*;
    use crate::account::LocalDomain;

    struct Content(&'static [u8]);

    impl ContentSource for Content {
        fn open(&self) -> io::Result<Box<dyn Read + Send>> {
            Ok(Box::new(self.0))
        }
    }

    #[test]
    fn each_recipient_has_its_own_outcome() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("broken"), "a file where a Maildir should be").unwrap();
        let domain = LocalDomain {
            mailboxes: HashSet::from(["anna".into(), "broken".into()]),
            maildir: format!("{}/{{mailbox}}", folder.path().display()),
        };
        let accounts = Accounts::new(HashMap::from([(Domain::parse("one.example").unwrap(), domain)]), None);
        let recipients = ["anna@one.example", "gone@one.example", "broken@one.example"]
            .map(|a| Recipient::new(Mailbox::parse(a).unwrap()));
        let job = LocalJob {
            queue_id: "abc",
            reverse_path: &ReversePath::Null,
            accepted_at_unix: 1_700_000_000,
            recipients: &recipients,
            content: &Content(b"Subject: x\r\n\r\nhello\r\n"),
        };
        let outcomes = deliver(&accounts, "mx.example", &job);
        let verdicts: Vec<_> =
            outcomes.iter().map(|o| (o.outcome.verdict, o.outcome.status.to_string())).collect();
        assert_eq!(
            verdicts,
            [
                (Verdict::Delivered, "2.0.0".into()),
                (Verdict::Failed, "5.1.1".into()),
                (Verdict::Deferred, "4.2.0".into())
            ]
        );
        let new = folder.path().join("anna/new");
        let file = std::fs::read_dir(new).unwrap().next().unwrap().unwrap().path();
        let text = std::fs::read_to_string(file).unwrap();
        assert_eq!(text, "Return-Path: <>\nDelivered-To: anna@one.example\nSubject: x\n\nhello\n");
    }
}
