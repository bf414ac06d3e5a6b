//! Reports to other domains, and whether they are sent.

use serde::{Deserialize, Serialize};

use crate::report::dmarc::{PublishedPolicy, Row};

/// A row of `report.list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ReportRow {
    /// Whether reports of a kind are sent.
    Sending(ReportSendingView),
    /// A report.
    Report(Box<ReportView>),
}

/// Whether reports of a kind are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportSendingView {
    /// The kind.
    pub sending: String,
    /// Why they are not; nothing where they are.
    pub not_sent_because: Option<String>,
}

/// What was counted for one domain on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DmarcView {
    /// The day, as a date.
    pub day: String,
    /// The domain that publishes the policy.
    pub domain: String,
    /// The policy, and where reports go.
    pub policy: PublishedPolicy,
    /// The messages, by kind.
    pub records: Vec<DmarcRecordView>,
    /// Messages that found no room.
    pub left_out: u64,
}

/// Messages of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DmarcRecordView {
    /// How many.
    pub messages: u64,
    /// What they have in common.
    #[serde(flatten)]
    pub row: Row,
}

/// A place of a report.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportToView {
    /// Its address.
    pub address: String,
    /// The queue id of the mail to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What became of the mail, or of the document handed over by HTTPS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Why no report goes there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_because: Option<String>,
}

/// A report.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportView {
    /// `tls` or `dmarc`.
    pub kind: String,
    /// The day, as a date.
    pub day: String,
    /// The domain that it is about.
    pub domain: String,
    /// `due`, `sent`, `unwanted` or `given-up`; `ready` where it is only shown.
    pub state: String,
    /// Whether the day was over when it was made.
    pub whole_day: bool,
    /// Tries so far.
    pub tries: u32,
    /// When the next is, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<String>,
    /// The places that got it, or would.
    pub to: Vec<ReportToView>,
    /// What went wrong, or why nobody wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The name of the file, where it is only shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Its size, compressed, in octets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}
