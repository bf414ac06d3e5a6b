//! One message to one place, blocking: the last step of local delivery.
//!
//! What it does: writes into a Maildir of ours, or asks the delivery process. What it does not: it knows no alias, and never asks twice; the result is
//! a value.

use mta_smtp::address::ReversePath;
use mta_smtp::reply::EnhancedStatus;

use super::maildir::{self, Item, MaildirError};
use super::process::Process;
use super::process::protocol::{self, Answer, Place, Request, VERSION};
use super::quota;
use super::spread::Placed;
use crate::account::Target;
use crate::account::alias::parse;
use crate::alert::{Alerts, Kind};
use crate::log::visible;
use crate::outbound::{ContentSource, Outcome, Reach, Verdict};

/// The alert for a delivery process that is not there.
const PROCESS: &str = "delivery process";

/// What to do about it.
const PROCESS_REMEDY: &str = "start it (systemctl start mta-deliver.socket, or mta-cli deliver as root) and see that \
     local.socket names its socket; what waits is delivered then";

/// The alert for one that is busy with deliveries that do not end.
const PLACES: &str = "places for deliveries";

/// What to do about it.
const PLACES_REMEDY: &str = "find out what the deliveries named wait for: a locked mailbox, a stopped command, a file \
     system; or raise local.max_processes";

/// The message, as every place is told of it.
pub(super) struct Letter<'a> {
    /// The queue id.
    pub(super) queue_id: &'a str,
    /// The reverse-path, for `Return-Path`.
    pub(super) reverse_path: &'a ReversePath,
    /// When it was accepted, seconds since 1970.
    pub(super) accepted_at_unix: u64,
    /// The size of the content in octets.
    pub(super) size_bytes: u64,
    /// Whom it was sent to, for `Delivered-To`.
    pub(super) address: &'a str,
    /// Our name.
    pub(super) hostname: &'a str,
    /// The content.
    pub(super) content: &'a dyn ContentSource,
}

impl Letter<'_> {
    /// RFC 5321 4.4: the final delivery puts the reverse-path on record.
    fn trace(&self) -> String {
        format!("Return-Path: {}\nDelivered-To: {}\n", self.reverse_path, self.address)
    }

    /// Tells the places of one message apart in a file name, the same at every attempt.
    fn unique(&self, place: &str) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, place.as_bytes());
        let short: String = digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{short}", self.queue_id)
    }
}

/// Delivers into a Maildir that the service itself writes.
pub(super) fn maildir(
    letter: &Letter<'_>,
    target: &Target,
    path: &std::path::Path,
    quota: Option<u64>,
) -> Outcome {
    if let Some(full) = quota.and_then(|quota| full(letter, path, quota)) {
        return full;
    }
    let (trace, unique) = (letter.trace(), letter.unique(&target.key()));
    let item = Item {
        unique: &unique,
        received_at: letter.accepted_at_unix,
        hostname: letter.hostname,
        trace: &trace,
    };
    let mut content = match letter.content.open() {
        Ok(content) => content,
        Err(error) => return failed(&MaildirError::Content { error: error.to_string() }),
    };
    match maildir::deliver(path, &item, &mut *content) {
        Ok(_) => {
            if quota.is_some() {
                quota::added(path, letter.size_bytes);
            }
            outcome(Verdict::Delivered, (2, 0, 0), format!("delivered to {}", path.display()))
        }
        Err(error) => failed(&error),
    }
}

/// Why a message does not fit into a Maildir (RFC 3463 3.3).
fn full(letter: &Letter<'_>, path: &std::path::Path, quota: u64) -> Option<Outcome> {
    if letter.size_bytes > quota {
        let text = format!("the message is larger than the mailbox may ever be ({quota} octets)");
        // RFC 3463 3.3: no room that anybody makes will do.
        return Some(outcome(Verdict::Failed, (5, 2, 3), text));
    }
    match quota::used(path, quota) {
        Ok(used) if used.saturating_add(letter.size_bytes) > quota => {
            let text = format!("the mailbox is full: {used} of {quota} octets");
            Some(outcome(Verdict::Deferred, (4, 2, 2), text))
        }
        Ok(_) => None,
        Err(error) => {
            let text = format!("{}: {error}", path.display());
            Some(outcome(Verdict::Deferred, (4, 2, 0), text))
        }
    }
}

/// Asks the delivery process for a place that we may not write ourselves.
pub(super) fn by_process(letter: &Letter<'_>, target: &Target, process: &Process, alerts: &Alerts) -> Placed {
    let (user, place) = match target {
        Target::System { user, forward, .. } => (&user.name, Place::Mailbox { forward: *forward }),
        Target::File { path, as_user, of_forward } => {
            // What everybody means by it: nobody wants the mail.
            if path == std::path::Path::new("/dev/null") {
                return Placed::Outcome(outcome(
                    Verdict::Delivered,
                    (2, 0, 0),
                    "discarded: /dev/null".into(),
                ));
            }
            (as_user, Place::File { path: path.clone(), of_forward: *of_forward })
        }
        Target::Pipe { command, as_user, of_forward } => {
            (as_user, Place::Pipe { command: command.clone(), of_forward: *of_forward })
        }
        Target::Maildir { .. } | Target::Lmtp { .. } | Target::Remote { .. } => {
            let text = "not a place of the delivery process".to_owned();
            return Placed::Outcome(outcome(Verdict::Deferred, (4, 3, 5), text));
        }
    };
    let request = Request {
        version: VERSION,
        user: user.clone(),
        place,
        letter: protocol::Letter {
            unique: letter.unique(&target.key()),
            reverse_path: letter.reverse_path.to_string(),
            recipient: letter.address.to_owned(),
            received_at: letter.accepted_at_unix,
            hostname: letter.hostname.to_owned(),
        },
    };
    let answer = match process.deliver(&request, &|| letter.content.open()) {
        Ok(Answer::Deferred { status, text }) if status == protocol::ALL_TAKEN => {
            alerts.clear(Kind::Local, PROCESS);
            return our_fault(alerts, (PLACES, PLACES_REMEDY), status, visible(&text));
        }
        Ok(answer) => {
            alerts.clear(Kind::Local, PROCESS);
            alerts.clear(Kind::Local, PLACES);
            answer
        }
        Err(text) => return our_fault(alerts, (PROCESS, PROCESS_REMEDY), (3, 0), text),
    };
    let outcome = match answer {
        Answer::Delivered(text) => outcome(Verdict::Delivered, (2, 0, 0), visible(&text)),
        Answer::Deferred { status: (subject, detail), text } => {
            outcome(Verdict::Deferred, (4, subject, detail), visible(&text))
        }
        Answer::Failed { status: (subject, detail), text } => {
            outcome(Verdict::Failed, (5, subject, detail), visible(&text))
        }
        Answer::Go => outcome(Verdict::Deferred, (4, 3, 0), "the delivery process: no last answer".into()),
        Answer::Forward(text) => return forward(target, &text),
    };
    Placed::Outcome(outcome)
}

/// A fault of our own: it is told and ends no message.
fn our_fault(
    alerts: &Alerts,
    (of, remedy): (&str, &str),
    (subject, detail): (u16, u16),
    text: String,
) -> Placed {
    alerts.raise(Kind::Local, of, &text, remedy);
    let waits = outcome(Verdict::Deferred, (4, subject, detail), text);
    Placed::Outcome(Outcome { reach: Reach::Site, ..waits })
}

/// Where a user's `.forward` leads.
fn forward(target: &Target, text: &str) -> Placed {
    let Target::System { user, address, .. } = target else {
        let text = "the delivery process: a forward of nobody".to_owned();
        return Placed::Outcome(outcome(Verdict::Deferred, (4, 3, 0), text));
    };
    match parse::list(&user.home.join(".forward"), text) {
        Ok(members) => Placed::Forward { user: user.clone(), address: address.clone(), members },
        Err(error) => Placed::Outcome(outcome(Verdict::Deferred, (4, 3, 5), visible(&error.to_string()))),
    }
}

/// Every trouble of our own disk is transient and ours: the sender did nothing wrong (RFC 3463 3.3, 3.4).
fn failed(error: &MaildirError) -> Outcome {
    let status = match error {
        MaildirError::Full { .. } => (4, 3, 1),
        MaildirError::OverQuota { .. } => (4, 2, 2),
        MaildirError::NotAllowed { .. } | MaildirError::Io { .. } => (4, 2, 0),
        MaildirError::Content { .. } => (4, 3, 0),
    };
    outcome(Verdict::Deferred, status, error.to_string())
}

/// An outcome of our own for one recipient.
pub(super) fn outcome(verdict: Verdict, (class, subject, detail): (u8, u16, u16), text: String) -> Outcome {
    let status = EnhancedStatus::new(class, subject, detail);
    Outcome {
        verdict,
        reach: Reach::Recipient,
        status,
        text,
        reply: None,
        remote: None,
        reports_passed_on: false,
    }
}
