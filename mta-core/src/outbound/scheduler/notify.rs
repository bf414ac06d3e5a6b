//! Notifications as messages of the queue: envelope, what comes back of the message they are about, content.
//!
//! What it does not: it does not decide who is told (`report::told`) and stores nothing itself; the notification goes to the queue
//! with the record that calls for it.

use std::io::{Read, Write};
use std::sync::PoisonError;
use std::time::SystemTime;

use mta_queue::{
    Claim, ClaimedRecipient, Content, Message, NewMessage, Origin, OriginKind, QueueError, QueueId,
    RecipientOutcome, Unreported,
};
use mta_smtp::address::{Mailbox, ReversePath};
use mta_smtp::envelope::{Body, Envelope, HeaderFacts, MailParameters, Notify, Recipient, Ret};

use super::alert_mail::ALERT;
use super::settle::{News, State};
use super::{Options, Scheduler};
use crate::auth::dkim::now_seconds;
use crate::content::own::OwnContent;
use crate::log::Line;
use crate::outbound::{AttemptReport, Outcome};
use crate::report::dsn::{Action, MAX_RETURNED_HEADER_BYTES, Notification, RecipientReport, Returned};
use crate::report::send::REPORT;
use crate::report::told::{Facts, Told, told};
use crate::routing::Route;

/// What a digest is "about", in place of a queue id.
pub(super) const DIGEST: &str = "digest";

impl Scheduler {
    /// Who hears of a recipient's new state. Asked once for each: a report to a stranger counts.
    pub(super) fn news(
        &self,
        message: &Message,
        claimed: &ClaimedRecipient,
        outcome: &Outcome,
        result: RecipientOutcome,
        options: &Options,
        now: SystemTime,
    ) -> News {
        let Some(action) = action_of(result, outcome) else { return News::None };
        let told = told(Facts {
            reverse_path: &message.reverse_path,
            origin: message.origin.kind,
            notify: claimed.recipient.notify,
            action,
            remote: outcome.reply.is_some(),
            is_digest: matches!(message.origin.about.as_deref(), Some(DIGEST | ALERT | REPORT)),
        });
        match told {
            Told::Sender => News::Sender(action),
            Told::SenderWithinBound => {
                let mut reports = self.stranger_reports.lock().unwrap_or_else(PoisonError::into_inner);
                match reports.take(now, options.stranger_reports_per_hour) {
                    true => News::Sender(action),
                    false if action == Action::Failed => News::Postmaster,
                    false => News::None,
                }
            }
            Told::Postmaster => News::Postmaster,
            Told::Nobody => News::None,
        }
    }

    /// The notification of one kind, where a recipient calls for it.
    ///
    /// # Errors
    /// It is called for and cannot be written: the disk is full.
    pub(super) fn notification(
        &self,
        claim: &Claim<Route>,
        report: &AttemptReport,
        states: &[State<'_>],
        action: Action,
        options: &Options,
        now: SystemTime,
    ) -> Result<Option<NewMessage>, QueueError> {
        let told = states.iter().filter(|state| state.news == News::Sender(action));
        let about: Vec<RecipientReport> = told.map(|state| recipient_report(state, report, now)).collect();
        if about.is_empty() {
            return Ok(None);
        }
        self.write_notification(&claim.message, action, &about, options, now).map(Some)
    }

    /// Mail to the postmaster as a message of the queue: a digest, or about an alert.
    ///
    /// # Errors
    /// It cannot be written: the disk is full.
    pub(super) fn postmaster_message(
        &self,
        id: QueueId,
        to: &Mailbox,
        about: &str,
        now: SystemTime,
        write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<NewMessage, QueueError> {
        let mut content = OwnContent::new(self.queue.content(), self.site.keys.as_deref());
        let mut text = std::io::BufWriter::new(&mut content);
        write(&mut text)?;
        text.flush()?;
        drop(text);
        let mut envelope = Envelope::new(ReversePath::Null);
        let smtputf8 = !to.is_ascii();
        let header = HeaderFacts { eight_bit: smtputf8, ..HeaderFacts::default() };
        envelope.parameters =
            MailParameters { body: Body::EightBitMime, smtputf8, header, ..MailParameters::default() };
        envelope.recipients.push(Recipient::new(to.clone()));
        let about = Some(about.to_owned());
        let origin = Origin { kind: OriginKind::Notification, about, ..Origin::default() };
        Ok(NewMessage { id, envelope, received_at: now, origin, content: content.finish()?, hold: None })
    }

    /// A notification about some recipients of a message.
    ///
    /// # Errors
    /// It cannot be written: the disk is full.
    pub(super) fn write_notification(
        &self,
        message: &Message,
        action: Action,
        about: &[RecipientReport],
        options: &Options,
        now: SystemTime,
    ) -> Result<NewMessage, QueueError> {
        let id = self.queue.new_id();
        let to = message.reverse_path.mailbox().cloned();
        let Some(to) = to else { return Err(QueueError::Invalid("a null reverse-path is not notified")) };
        // What was forwarded here has an address of ours for its sender, which takes mail from outside only.
        let to = match options.srs.as_deref() {
            Some(srs) => srs.behind(to, now_seconds()),
            None => to,
        };
        let (own_id, queue_id, address) = (id.to_string(), message.id.to_string(), to.to_string());
        let notification = Notification {
            hostname: &options.hostname,
            own_id: &own_id,
            nonce: fastrand::u64(..),
            queue_id: &queue_id,
            to: &address,
            arrival: message.received_at,
            now,
            envid: message.parameters.envid.as_deref(),
            smtputf8: message.parameters.smtputf8,
            action,
            recipients: about,
        };
        let (content, body) = self.content_of(&notification, message, options)?;
        let mut envelope = Envelope::new(ReversePath::Null);
        envelope.parameters = MailParameters {
            body,
            smtputf8: notification.needs_smtputf8(),
            // RFC 8689 5: what the message was protected by protects what is said of it.
            require_tls: message.parameters.require_tls,
            header: HeaderFacts { eight_bit: !address.is_ascii(), ..HeaderFacts::default() },
            ..MailParameters::default()
        };
        // RFC 3461 5.2.1: nobody may answer a notification with another.
        let notify = Some(Notify { never: true, ..Notify::default() });
        envelope.recipients.push(Recipient { notify, ..Recipient::new(to) });
        let origin =
            Origin { kind: OriginKind::Notification, about: Some(queue_id.clone()), ..Origin::default() };
        let line = Line::new("notification").with("qid", message.id).with("action", format!("{action:?}"));
        ::log::info!("{}", line.with("notification", id));
        Ok(NewMessage { id, envelope, received_at: now, origin, content, hold: None })
    }

    /// The content, and whether it is 8-bit.
    fn content_of(
        &self,
        notification: &Notification<'_>,
        message: &Message,
        options: &Options,
    ) -> Result<(Content, Body), QueueError> {
        let mut content = OwnContent::new(self.queue.content(), self.site.keys.as_deref());
        let mut full = None;
        let mut header = Vec::new();
        // Where the content cannot be read the notification goes out without it: it is worth more than its attachment.
        match self.queue.content_reader(message.id) {
            Ok(reader) if is_returned_whole(message, notification.action, options) => full = Some(reader),
            Ok(reader) => {
                let bound = MAX_RETURNED_HEADER_BYTES as u64 + 1;
                let _ = reader.take(bound).read_to_end(&mut header);
            }
            Err(_) => {}
        }
        let returned = full.as_mut().map_or(Returned::Headers(&header), |reader| Returned::Full(reader));
        let body = if notification.is_eight_bit(&returned) { Body::EightBitMime } else { Body::SevenBit };
        let mut text = std::io::BufWriter::new(&mut content);
        notification.write(returned, &mut text)?;
        text.flush()?;
        drop(text);
        Ok((content.finish()?, body))
    }
}

/// RET=FULL is honoured for failures (RFC 3461 4.3), up to a size, and not where the message came with REQUIRETLS: its
/// content must not travel back on a path that nobody asked about (RFC 8689 5).
fn is_returned_whole(message: &Message, action: Action, options: &Options) -> bool {
    let parameters = &message.parameters;
    action == Action::Failed
        && parameters.ret == Some(Ret::Full)
        && !parameters.require_tls
        && message.size_bytes <= options.max_returned_bytes
}

/// The kind of notification that a new state may call for; of delays `notices` tells.
fn action_of(result: RecipientOutcome, outcome: &Outcome) -> Option<Action> {
    match result {
        RecipientOutcome::Failed | RecipientOutcome::Expired => Some(Action::Failed),
        RecipientOutcome::Deferred { .. } | RecipientOutcome::PutOff { .. } => None,
        // RFC 3461 5.2.1 to 5.2.3: reported by whoever took the wish over, by us where the next hop knows nothing of it,
        // and by us for our own mailboxes.
        RecipientOutcome::Delivered => match &outcome.remote {
            _ if outcome.reports_passed_on => None,
            Some(_) => Some(Action::Relayed),
            None => Some(Action::Delivered),
        },
    }
}

/// The failures among these that only the postmaster hears of.
pub(super) fn unreported(message: &Message, states: &[State<'_>]) -> Vec<Unreported> {
    let kept = states.iter().filter(|state| state.news == News::Postmaster);
    kept.map(|state| Unreported {
        message: message.id,
        reverse_path: message.reverse_path.to_string(),
        recipient: state.claimed.recipient.mailbox.to_string(),
        status: state.outcome.status.to_string(),
        reason: state.outcome.text.clone(),
    })
    .collect()
}

fn recipient_report(settled: &State<'_>, report: &AttemptReport, now: SystemTime) -> RecipientReport {
    let outcome = settled.outcome;
    let mut story = vec![outcome.text.clone()];
    story.extend(report.decision.story());
    if settled.result == RecipientOutcome::Expired {
        story.push("This went on until the end of the time that messages may wait here.".into());
    }
    RecipientReport {
        final_recipient: settled.claimed.recipient.mailbox.to_string(),
        original_recipient: settled.claimed.recipient.orcpt.clone(),
        status: outcome.status,
        remote_reply: outcome.reply.as_ref().map(|reply| format!("{} {}", reply.code, reply.lines.join(" "))),
        remote_mta: outcome.remote.as_ref().map(|remote| remote.host.clone()),
        last_attempt: Some(now),
        will_retry_until: None,
        reason: outcome.text.clone(),
        story,
    }
}
