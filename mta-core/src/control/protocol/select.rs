//! Which messages a request means.

use serde::{Deserialize, Serialize};

/// Which messages: every field that is set must fit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Select {
    /// Ids or beginnings of ids.
    pub ids: Vec<String>,
    /// A recipient's address, or part of it; a domain as `@domain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The reverse-path, or part of it; a domain as `@domain`; `<>` for notifications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A recipient's status: queued, deferred, held, delivered, failed, expired, dropped, damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// A recipient's domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Arrived before this time, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Arrived at this time or later, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Part of the last reply, a status code or its beginning, or a class of status codes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The host last spoken to, or part of its name, or the next hop chosen by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<String>,
}

/// What of the list is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListArguments {
    /// Which messages.
    pub select: Select,
    /// Rows at most; 0 means the default of 1000.
    pub limit: usize,
    /// Begin behind this id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}
