//! The arguments of the operations.

use serde::{Deserialize, Serialize};

use super::Select;

/// A change to what is selected.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeArguments {
    /// Which messages.
    pub select: Select,
    /// Why; empty where nobody says.
    pub reason: String,
}

/// An edit of what is selected.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EditArguments {
    /// Which messages.
    pub select: Select,
    /// The new address or `@domain`; the next hop as `host` or `host:port`, empty for the usual way.
    pub new: String,
    /// Why; empty where nobody says.
    pub reason: String,
}

/// What a change would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeWord {
    /// `queue.retry`
    Retry,
    /// `queue.hold`
    Hold,
    /// `queue.release`
    Release,
    /// `queue.drop`
    #[default]
    Drop,
    /// `queue.bounce`, `queue.reroute`, or `queue.redirect` to another domain
    Edit,
    /// `queue.redirect` to another mailbox
    Redirect,
}

/// How many recipients a change would concern.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CountArguments {
    /// Which messages.
    pub select: Select,
    /// Which change.
    pub change: ChangeWord,
}

/// By what a summary groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SummaryBy {
    /// The recipients' domain.
    #[default]
    Domain,
    /// The host that was last spoken to.
    Mx,
    /// The last reply, without what differs from copy to copy.
    Reason,
    /// The time since arrival.
    Age,
    /// The reverse-path.
    Sender,
}

/// A summary of what waits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SummaryArguments {
    /// Grouped by this.
    pub by: SummaryBy,
    /// Groups at most; 0 means the default of 50.
    pub limit: usize,
}

/// A part of a message's content.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContentArguments {
    /// The id or its beginning.
    pub id: String,
    /// Only the header section.
    pub headers: bool,
    /// Octets at most; 0 is all.
    pub max_bytes: u64,
}

/// A rule that holds mail to come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HoldRuleArguments {
    /// A recipient: an address, part of one, or `@domain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The reverse-path, part of one, `@domain`, or `<>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Why.
    pub reason: String,
    /// It ends then, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// Which destinations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DestinationArguments {
    /// This one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Those with the most waiting, so many; 0 means the default of 50.
    pub limit: usize,
}

/// Something stands still.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PauseArguments {
    /// `in`, `out`, `local`, `dest:NAME`.
    pub name: String,
    /// Why.
    pub reason: String,
    /// It moves on then, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// Which messages are traced. What is set must fit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceArguments {
    /// Which messages.
    pub select: Select,
    /// Their Message-ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Messages at most, the latest of them; 0 means the default of 10.
    pub limit: usize,
}

/// An alias of the database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AliasArguments {
    /// The address, or `@domain`.
    pub address: String,
    /// Whom it stands for: addresses, or one `@domain`.
    pub targets: Vec<String>,
}

/// Which lines of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogArguments {
    /// Lines of this queue id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qid: Option<String>,
    /// Lines of this event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Lines of this level or a graver one: error, warn, info, debug, trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// So many of the latest lines to begin with.
    pub lines: usize,
    /// Go on with those that come.
    pub follow: bool,
}
