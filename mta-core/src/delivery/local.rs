//! Delivery to the recipients of our own domains: one outcome per recipient, in the same types as mail out.
//!
//! What it does: asks [`Accounts`] for the places that a recipient's mail goes to, and delivers there.
//! What it does not: it does not decide when to try again, and it never runs on the executor (all of it blocks).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use mta_smtp::address::{Domain, ReversePath};
use mta_smtp::client::Limits;
use mta_smtp::envelope::{MailParameters, Recipient};
use mta_smtp::reply::EnhancedStatus;

use super::lmtp;
use super::place::{self, Letter, outcome};
use super::process::Process;
use super::spread::{Placed, Spread};
pub use super::turns::Turns;
use crate::account::{Accounts, Target};
use crate::alert::{self, Alerts};
use crate::clock::{Clock, SystemClock};
use crate::config::LmtpAddress;
use crate::log::Line;
use crate::outbound::attempt::LocalResult;
use crate::outbound::{
    AttemptReport, ContentSource, Decision, Job, Outcome, Reach, RecipientOutcome, Verdict,
};

/// What delivery on this host works with.
#[derive(Debug, Clone)]
pub struct Hands {
    /// Who receives here.
    pub accounts: Arc<Accounts>,
    /// Our name.
    pub hostname: String,
    /// The way to users of the system.
    pub process: Process,
    /// How long LMTP servers may take.
    pub lmtp_limits: Limits,
    /// Where the administrator is told that a disk is full, or who does not answer.
    pub alerts: Alerts,
    /// What is under way to each mail store and user.
    pub turns: Turns,
    /// Deliveries to this host at once, at most.
    pub deliveries: usize,
}

/// When mail is looked at again whose mail store or user is busy, seconds.
const BUSY_FOR_SECONDS: u64 = 30;

/// One message to deliver here.
pub struct LocalJob<'a> {
    /// The queue id.
    pub queue_id: &'a str,
    /// The reverse-path, for `Return-Path`.
    pub reverse_path: &'a ReversePath,
    /// The parameters of MAIL as they came in.
    pub parameters: &'a MailParameters,
    /// The size of the content in octets.
    pub size_bytes: u64,
    /// When it was accepted, seconds since 1970.
    pub accepted_at_unix: u64,
    /// Who receives.
    pub recipients: &'a [Recipient],
    /// The content.
    pub content: &'a dyn ContentSource,
}

/// Delivers a job of the scheduler on a thread that may block, and writes one log line for each recipient.
pub async fn attempt(hands: Hands, job: Job) -> AttemptReport {
    let (started, alerts) = (Instant::now(), hands.alerts.clone());
    let (job, (outcomes, local)) = smol::unblock(move || {
        let local = LocalJob {
            queue_id: &job.queue_id,
            reverse_path: &job.reverse_path,
            parameters: &job.parameters,
            size_bytes: job.size_bytes,
            accepted_at_unix: job.accepted_at_unix,
            recipients: &job.recipients,
            content: &*job.content,
        };
        let delivered = deliver(&hands, &local);
        (job, delivered)
    })
    .await;
    tell_of_space(&alerts, &outcomes);
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
        held_until_unix: is_put_off(&outcomes).then_some(now + BUSY_FOR_SECONDS),
        ..Decision::default()
    };
    AttemptReport { outcomes, decision, local }
}

/// Whether nothing was tried for those who wait: their attempt does not count.
fn is_put_off(outcomes: &[RecipientOutcome]) -> bool {
    let mut waiting = outcomes.iter().map(|of| &of.outcome).filter(|of| of.verdict == Verdict::Deferred);
    let is_busy = |of: &Outcome| of.status == BUSY && of.reply.is_none() && of.reach == Reach::Site;
    waiting.clone().next().is_some() && waiting.all(is_busy)
}

/// Too many deliveries under way to one place (RFC 3463 3.4: system not accepting messages now).
const BUSY: EnhancedStatus = EnhancedStatus::new(4, 3, 2);

/// Does something that goes to a mail store or user as one of those under way to it; `Err` where there are too many, and
/// slow ones, already.
fn in_turn<T>(
    hands: &Hands,
    owner: &str,
    most: usize,
    deliver: impl FnOnce() -> T,
) -> Result<T, Box<Outcome>> {
    let subject = format!("deliveries to {owner}");
    match hands.turns.take(owner, most) {
        Ok(turn) => {
            let done = deliver();
            if turn.is_quick() {
                hands.alerts.clear(alert::Kind::Local, &subject);
            }
            Ok(done)
        }
        Err(busy) => {
            let text = format!(
                "{} deliveries to {owner} are under way, the oldest for {} s: more wait for one of them to end",
                busy.count,
                busy.oldest.as_secs()
            );
            let remedy = "find out what it waits for: a mail store that hangs, a mailbox that another program has \
                          locked, a stopped command; mail for others is delivered meanwhile";
            hands.alerts.raise(alert::Kind::Local, &subject, &text, remedy);
            let waits = outcome(Verdict::Deferred, (4, 3, 2), text);
            Err(Box::new(Outcome { reach: Reach::Site, ..waits }))
        }
    }
}

/// A full disk is the administrator's to know of; the mail waits meanwhile.
fn tell_of_space(alerts: &Alerts, outcomes: &[RecipientOutcome]) {
    const MAILBOXES: &str = "mailboxes";

    let is_full = |of: &&RecipientOutcome| {
        of.outcome.verdict == Verdict::Deferred && of.outcome.status == EnhancedStatus::new(4, 3, 1)
    };
    if let Some(full) = outcomes.iter().find(is_full) {
        let remedy = "make room on the file system of the mailboxes; what waits is delivered then";
        alerts.raise(alert::Kind::Disk, MAILBOXES, &full.outcome.text, remedy);
    } else if outcomes.iter().any(|of| of.outcome.verdict == Verdict::Delivered) {
        alerts.clear(alert::Kind::Disk, MAILBOXES);
    }
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
pub fn deliver(hands: &Hands, job: &LocalJob<'_>) -> (Vec<RecipientOutcome>, LocalResult) {
    let accounts = &*hands.accounts;
    let handed = match job.content.handed() {
        Ok(handed) => handed,
        // Without it a place might get the message again: it waits rather.
        Err(error) => {
            let text = format!("the queue cannot be read: {error}");
            let waits = |recipient: &Recipient| RecipientOutcome {
                recipient: recipient.clone(),
                outcome: outcome(Verdict::Deferred, (4, 3, 0), text.clone()),
            };
            return (job.recipients.iter().map(waits).collect(), LocalResult::default());
        }
    };
    let mut by_lmtp = by_lmtp(hands, job, &handed);
    let mut spread = Spread::new(accounts, job.content, handed);
    let outcomes = job.recipients.iter().enumerate().map(|(index, recipient)| {
        let address = recipient.mailbox.to_string();
        let letter = Letter {
            queue_id: job.queue_id,
            reverse_path: job.reverse_path,
            accepted_at_unix: job.accepted_at_unix,
            size_bytes: job.size_bytes,
            address: &address,
            hostname: &hands.hostname,
            content: job.content,
        };
        let outcome = match still_ours(accounts, recipient) {
            Some(refused) => refused,
            None => {
                let mut put = |target: &Target| put(hands, job, &mut by_lmtp, &letter, (recipient, target));
                spread.recipient(index, recipient, &mut put)
            }
        };
        RecipientOutcome { recipient: recipient.clone(), outcome }
    });
    let outcomes = outcomes.collect();
    (outcomes, spread.into_result())
}

/// Accepted while it existed, and taken out of the configuration since.
fn still_ours(accounts: &Accounts, recipient: &Recipient) -> Option<Outcome> {
    let gone = |domain: &Domain| !accounts.is_local(domain);
    recipient.mailbox.domain().is_none_or(gone).then(|| {
        let text = format!("{} is no mailbox of this server any more", recipient.mailbox);
        outcome(Verdict::Failed, (5, 1, 1), text)
    })
}

/// Delivers to all mailboxes behind LMTP servers: one transaction for each server, so that it stores the content once. What
/// came of each, by the name of the place.
fn by_lmtp(hands: &Hands, job: &LocalJob<'_>, handed: &[String]) -> HashMap<String, Outcome> {
    let mut servers: Vec<(LmtpAddress, Vec<(String, Recipient)>)> = Vec::new();
    for recipient in
        job.recipients.iter().filter(|recipient| still_ours(&hands.accounts, recipient).is_none())
    {
        for target in hands.accounts.expand(&recipient.mailbox).targets {
            let key = target.key();
            let Target::Lmtp { server, address } = target else { continue };
            let known = servers.iter().flat_map(|(_, list)| list).any(|(known, _)| *known == key);
            if known || handed.contains(&key) {
                continue;
            }
            let of = (key, Recipient { mailbox: address, ..recipient.clone() });
            match servers.iter_mut().find(|(known, _)| *known == server) {
                Some((_, list)) => list.push(of),
                None => servers.push((server, vec![of])),
            }
        }
    }
    let mut done = HashMap::new();
    for (server, list) in servers {
        let (keys, recipients): (Vec<String>, Vec<Recipient>) = list.into_iter().unzip();
        done.extend(keys.into_iter().zip(to_server(hands, job, &server, &recipients)));
    }
    done
}

/// One transaction with an LMTP server.
fn to_server(
    hands: &Hands,
    job: &LocalJob<'_>,
    server: &LmtpAddress,
    recipients: &[Recipient],
) -> Vec<Outcome> {
    let message = lmtp::Message {
        reverse_path: job.reverse_path,
        parameters: job.parameters,
        size_bytes: job.size_bytes,
        content: job.content,
    };
    let owner = format!("LMTP server {server}");
    let deliver = || lmtp::deliver(server, &hands.hostname, hands.lmtp_limits, &message, recipients);
    // Often all mailboxes are behind it: most of the deliveries, but not all.
    let done = in_turn(hands, &owner, hands.deliveries * 3 / 4, deliver);
    let outcomes = done.unwrap_or_else(|busy| vec![*busy; recipients.len()]);
    match outcomes.first() {
        Some(away) if away.reach == Reach::Site && away.status == lmtp::AWAY => {
            let remedy =
                "see that it runs and listens where domain.*.deliver says; what waits is delivered then";
            hands.alerts.raise(alert::Kind::Local, &owner, &away.text, remedy);
        }
        Some(done) if done.reach != Reach::Site => hands.alerts.clear(alert::Kind::Local, &owner),
        _ => {}
    }
    outcomes
}

/// Delivers to one place of a recipient.
fn put(
    hands: &Hands,
    job: &LocalJob<'_>,
    by_lmtp: &mut HashMap<String, Outcome>,
    letter: &Letter<'_>,
    (recipient, target): (&Recipient, &Target),
) -> Placed {
    match target {
        Target::Maildir { path, quota, .. } => Placed::Outcome(place::maildir(letter, target, path, *quota)),
        Target::Lmtp { server, address } => {
            // Only a forward leads to one that no alias told of before: it has a transaction of its own.
            let ask = || {
                let recipient = Recipient { mailbox: address.clone(), ..recipient.clone() };
                to_server(hands, job, server, &[recipient]).pop()
            };
            let done = by_lmtp.remove(&target.key()).or_else(ask);
            Placed::Outcome(done.unwrap_or_else(|| {
                outcome(Verdict::Deferred, (4, 3, 0), "the LMTP server was not asked".to_owned())
            }))
        }
        Target::System { .. } | Target::File { .. } | Target::Pipe { .. } | Target::Remote { .. } => {
            let deliver = || place::by_process(letter, target, &hands.process, &hands.alerts);
            match target.user() {
                Some(user) => in_turn(hands, &format!("user {user}"), hands.deliveries / 3, deliver)
                    .unwrap_or_else(|busy| Placed::Outcome(*busy)),
                None => deliver(),
            }
        }
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod with_servers;

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::io::{self, Read};

    use mta_smtp::address::Mailbox;

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
            ..LocalDomain::default()
        };
        let accounts = Accounts::new(HashMap::from([(Domain::parse("one.example").unwrap(), domain)]), None);
        let recipients = ["anna@one.example", "gone@one.example", "broken@one.example"]
            .map(|a| Recipient::new(Mailbox::parse(a).unwrap()));
        let job = LocalJob {
            queue_id: "abc",
            reverse_path: &ReversePath::Null,
            parameters: &MailParameters::default(),
            size_bytes: 10,
            accepted_at_unix: 1_700_000_000,
            recipients: &recipients,
            content: &Content(b"Subject: x\r\n\r\nhello\r\n"),
        };
        let hands = Hands {
            accounts: Arc::new(accounts),
            hostname: "mx.example".into(),
            process: Process { socket: "/nowhere".into(), timeout: std::time::Duration::from_secs(1) },
            lmtp_limits: Limits::default(),
            alerts: Alerts::default(),
            turns: Turns::default(),
            deliveries: 20,
        };
        let (outcomes, _) = deliver(&hands, &job);
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
