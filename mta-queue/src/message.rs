//! A message as it comes into the queue and as it is read from it: envelope, origin, times. The content is apart
//! (`content`), and so are the recipients once they are stored (`recipient`).

use std::net::IpAddr;
use std::time::SystemTime;

use mta_smtp::address::ReversePath;
use mta_smtp::envelope::{Envelope, MailParameters};
use serde::{Deserialize, Serialize};

use crate::content::Content;
use crate::id::QueueId;

/// A message to be accepted.
#[derive(Debug)]
pub struct NewMessage {
    /// The id, from `Queue::new_id`; the content's `Received:` line names it.
    pub id: QueueId,
    /// Reverse-path, parameters and at least one recipient.
    pub envelope: Envelope,
    /// When it arrived. The queue lifetime counts from here.
    pub received_at: SystemTime,
    /// Where it came from.
    pub origin: Origin,
    /// The content, as written to `Queue::content`.
    pub content: Content,
    /// Why all its recipients are held from the start, if they are.
    pub hold: Option<String>,
}

/// How a message came to us. Fields that are unknown are absent; text holds no control characters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// By which door.
    pub kind: OriginKind,
    /// The address of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// What the client called itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
    /// Who it proved to be: the login, or the system user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// TLS version and cipher of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// Its Message-ID, without the brackets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// What verifying it gave, in a few words: `spf=pass,dkim=pass(example.org),dmarc=pass(p=reject),iprev=pass`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// The message this one is a notification about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// By which door a message came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OriginKind {
    /// SMTP from another server.
    #[default]
    Smtp,
    /// SMTP from a network that may relay, or after a login.
    Submission,
    /// A local program.
    Local,
    /// Made by this server: a delivery status notification or a report.
    Notification,
    /// A word of a later version, read back by an earlier one.
    #[serde(other)]
    Other,
}

/// A stored message, without recipients and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The id.
    pub id: QueueId,
    /// Who is told of failures.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// The size of the content in octets.
    pub size_bytes: u64,
    /// When it arrived.
    pub received_at: SystemTime,
    /// Where it came from.
    pub origin: Origin,
    /// When the sender was told that it waits.
    pub delay_notified_at: Option<SystemTime>,
}
