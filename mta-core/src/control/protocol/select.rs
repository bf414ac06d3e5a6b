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
    /// The reverse-path, or part of it; `<>` for notifications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A recipient's status: queued, deferred, held, delivered, failed, expired, dropped, damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
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
