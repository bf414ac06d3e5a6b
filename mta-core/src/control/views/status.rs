//! What the daemon is doing, and how much is in the queue.

use mta_queue::Counts;
use serde::{Deserialize, Serialize};

use super::PauseView;

use super::rfc3339;
use crate::alert::Alert;

/// How much is in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CountsView {
    /// Messages that are not finished.
    pub messages: u64,
    /// Their content in bytes.
    pub content_bytes: u64,
    /// Recipients that wait.
    pub waiting: u64,
    /// Recipients that are held.
    pub held: u64,
    /// Recipients set aside as damaged.
    pub damaged: u64,
    /// Finished messages that can still be looked up.
    pub finished: u64,
    /// Messages accepted since the queue was made.
    pub accepted_total: u64,
    /// Recipients delivered since the queue was made.
    pub delivered_total: u64,
    /// Recipients failed or expired since the queue was made.
    pub failed_total: u64,
}

/// What the daemon is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusView {
    /// Whether the daemon itself answered.
    pub running: bool,
    /// The program's version.
    pub version: String,
    /// Its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// The configuration file; nothing for the development default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// What the host calls itself.
    pub hostname: String,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Sessions open now.
    pub sessions: u64,
    /// Deliveries under way now.
    pub deliveries: u64,
    /// Who validates, over which transport, and why.
    pub dns: String,
    /// The TLSA record to publish for the own certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tlsa: Option<String>,
    /// What stands still by the administrator's wish.
    pub paused: Vec<PauseView>,
    /// What needs somebody to act, oldest first.
    pub alerts: Vec<AlertView>,
    /// The queue.
    pub queue: CountsView,
    /// Octets that the queue wrote to the disk since the daemon started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<u64>,
}

impl From<Counts> for CountsView {
    fn from(c: Counts) -> Self {
        Self {
            messages: c.messages,
            content_bytes: c.content_bytes,
            waiting: c.waiting,
            held: c.held,
            damaged: c.damaged,
            finished: c.finished,
            accepted_total: c.accepted_total,
            delivered_total: c.delivered_total,
            failed_total: c.failed_total,
        }
    }
}

/// An open alert.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertView {
    /// `site-fault`, `provider`, `paused`, `disk`, `dane` or `queue`.
    pub kind: String,
    /// Which destination, provider or directory; empty where there is only one.
    pub subject: String,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
    /// When it opened.
    pub first_at: String,
    /// When its cause was seen last.
    pub last_at: String,
    /// How often its cause was seen.
    pub count: u64,
}

impl From<&Alert> for AlertView {
    fn from(alert: &Alert) -> Self {
        Self {
            kind: alert.kind.word().to_owned(),
            subject: alert.subject.clone(),
            text: alert.text.clone(),
            remedy: alert.remedy.clone(),
            first_at: rfc3339(alert.first_at),
            last_at: rfc3339(alert.last_at),
            count: alert.count,
        }
    }
}
