//! The table of operations.

use serde::{Deserialize, Serialize};

use super::{ListArguments, Select};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", content = "args")]
pub enum Request {
    /// One row: what the daemon is doing.
    #[serde(rename = "status")]
    Status,
    /// A row for each message.
    #[serde(rename = "queue.list")]
    QueueList(ListArguments),
    /// One row: a message with its attempts. The text is an id or the beginning of one.
    #[serde(rename = "queue.show")]
    QueueShow(String),
    /// How many recipients a change would concern; no row.
    #[serde(rename = "queue.count")]
    QueueCount(Select),
    /// Makes the recipients that fit due now.
    #[serde(rename = "queue.retry")]
    QueueRetry(Select),
    /// Takes the recipients that fit out of the queue; nobody is notified.
    #[serde(rename = "queue.drop")]
    QueueDrop(Select),
    /// A row for each policy under which TLS sessions were counted on a day.
    #[serde(rename = "report.tls")]
    ReportTls(ReportTlsArguments),
}

impl Request {
    /// Whether it changes anything.
    pub fn changes(&self) -> bool {
        matches!(self, Self::QueueRetry(_) | Self::QueueDrop(_))
    }
}

/// Which counters of TLS sessions are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportTlsArguments {
    /// The day, days since 1970-01-01 (UTC); the newest with counters where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<i64>,
    /// Only what concerns this domain: as recipient domain, or as the one that publishes the policy. Lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}
