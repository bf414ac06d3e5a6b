//! A message, its recipients and its attempts.

use mta_queue::{Listed, OriginKind, RecipientState, Shown, StoredAttempt, StoredEvent, StoredRecipient};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{bare, rfc3339};
use crate::outbound::decision::Decision;

/// A message as lists and `queue show` give it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// The queue id.
    pub id: String,
    /// The least finished status among its recipients.
    pub status: String,
    /// The reverse-path; `<>` for a notification.
    pub from: String,
    /// Size of the content in bytes.
    pub size_bytes: u64,
    /// When it was accepted.
    pub received_at: String,
    /// When its last recipient became final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// The client it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// What that client called itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
    /// What verifying it gave, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// The TLS session it came over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// By which door it came: smtp, submission, local, notification.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// The login or system user that handed it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its Message-ID, without brackets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The message it is a notification about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The attempts of the recipient that had most of them.
    pub attempts: u32,
    /// The earliest next attempt of a recipient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<String>,
    /// The last reply that a recipient got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reply: Option<String>,
    /// Its recipients.
    pub recipients: Vec<RecipientView>,
    /// Its attempts, oldest first; only in `queue show`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<AttemptView>>,
    /// What the administrator did to it, oldest first; only in `queue show`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventView>,
}

/// Something the administrator did to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// When.
    pub at: String,
    /// held, released, dropped, redirected, rerouted or bounced.
    pub what: String,
    /// Who did it.
    pub by: String,
    /// For whom, to where, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A recipient of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientView {
    /// The forward-path.
    pub address: String,
    /// queued, deferred, held, delivered, failed, expired, dropped or damaged.
    pub status: String,
    /// What it waits for: its domain.
    pub destination: String,
    /// Why it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Attempts made.
    pub attempts: u32,
    /// When it is tried next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<String>,
    /// When it was last tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt_at: Option<String>,
    /// The enhanced status code of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_status: Option<String>,
    /// The reply or reason of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reply: Option<String>,
    /// Who gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_remote: Option<String>,
}

/// One attempt of the past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptView {
    /// When it ended; of several the last.
    pub at: String,
    /// When the first of several ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_at: Option<String>,
    /// How many in a row it stands for: more than one only of those that were put off for a fault of this host.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u32,
    /// What it led to for each recipient.
    pub results: Vec<ResultView>,
    /// The decision record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Value>,
    /// The decision record in sentences.
    pub story: Vec<String>,
}

/// What an attempt led to for one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultView {
    /// The mailbox.
    pub recipient: String,
    /// delivered, deferred, put-off, failed or expired.
    pub outcome: String,
    /// The enhanced status code.
    pub status: String,
    /// The reply or reason.
    pub reply: String,
    /// Who gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
}

fn once() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_once(times: &u32) -> bool {
    *times == 1
}

/// The status word of a recipient.
fn status_word(recipient: &StoredRecipient) -> &'static str {
    match recipient.state {
        RecipientState::Waiting if recipient.attempts == 0 => "queued",
        RecipientState::Waiting => "deferred",
        state => state.as_str(),
    }
}

/// How far from finished a status is; the message shows the one that is furthest.
fn unfinished(status: &str) -> usize {
    const WORDS: [&str; 8] =
        ["dropped", "delivered", "expired", "failed", "queued", "deferred", "held", "damaged"];
    WORDS.iter().position(|word| *word == status).unwrap_or(WORDS.len())
}

impl From<&StoredRecipient> for RecipientView {
    fn from(r: &StoredRecipient) -> Self {
        Self {
            address: bare(&r.recipient.mailbox.to_string()),
            status: status_word(r).to_owned(),
            destination: r.destination.clone(),
            note: r.note.clone(),
            attempts: r.attempts,
            next_attempt_at: r.next_attempt_at.map(rfc3339),
            last_attempt_at: r.last_attempt_at.map(rfc3339),
            last_status: r.last_status.clone(),
            last_reply: r.last_reply.clone(),
            last_remote: r.last_remote.clone(),
        }
    }
}

impl From<&Listed> for MessageView {
    fn from(listed: &Listed) -> Self {
        let message = &listed.message;
        let recipients: Vec<RecipientView> = listed.recipients.iter().map(RecipientView::from).collect();
        let status =
            recipients.iter().map(|r| r.status.as_str()).max_by_key(|s| unfinished(s)).unwrap_or("damaged");
        let latest = listed.recipients.iter().max_by_key(|r| r.last_attempt_at);
        Self {
            id: message.id.to_string(),
            status: status.to_owned(),
            from: bare(&message.reverse_path.to_string()),
            size_bytes: message.size_bytes,
            received_at: rfc3339(message.received_at),
            finished_at: listed.finished_at.map(rfc3339),
            client: message.origin.client.map(|c| c.to_string()),
            helo: message.origin.helo.clone(),
            auth: message.origin.auth.clone(),
            tls: message.origin.tls.clone(),
            origin: match message.origin.kind {
                OriginKind::Smtp => "smtp",
                OriginKind::Submission => "submission",
                OriginKind::Local => "local",
                OriginKind::Notification => "notification",
                OriginKind::Other => "",
            }
            .to_owned(),
            user: message.origin.user.clone(),
            message_id: message.origin.message_id.clone(),
            about: message.origin.about.clone(),
            attempts: listed.recipients.iter().map(|r| r.attempts).max().unwrap_or(0),
            next_attempt_at: listed.recipients.iter().filter_map(|r| r.next_attempt_at).min().map(rfc3339),
            last_reply: latest.and_then(|r| r.last_reply.clone()),
            recipients,
            history: None,
            events: Vec::new(),
        }
    }
}

impl From<&Shown> for MessageView {
    fn from(shown: &Shown) -> Self {
        let history = shown.attempts.iter().map(AttemptView::from).collect();
        let event = |event: &StoredEvent| EventView {
            at: rfc3339(event.at),
            what: event.what.clone(),
            by: event.who.clone(),
            detail: event.detail.clone(),
        };
        let events = shown.events.iter().map(event).collect();
        Self { history: Some(history), events, ..Self::from(&shown.listed) }
    }
}

impl From<&StoredAttempt> for AttemptView {
    fn from(attempt: &StoredAttempt) -> Self {
        let text = attempt.decision.as_deref();
        let story = text.and_then(|t| Decision::from_json(t).ok()).map(|d| d.story()).unwrap_or_default();
        Self {
            at: rfc3339(attempt.at),
            first_at: attempt.first_at.filter(|_| attempt.times > 1).map(rfc3339),
            times: attempt.times,
            results: attempt
                .results
                .iter()
                .map(|r| ResultView {
                    recipient: r.recipient.clone(),
                    outcome: r.outcome.clone(),
                    status: r.status.clone(),
                    reply: r.reply.clone(),
                    remote: r.remote.clone(),
                })
                .collect(),
            decision: text.and_then(|t| serde_json::from_str(t).ok()),
            story,
        }
    }
}
