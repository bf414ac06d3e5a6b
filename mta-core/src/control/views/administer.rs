//! Destinations, groups of what waits, hold rules, pauses, log lines, and the screen that shows all at once.

use std::collections::BTreeMap;

use mta_queue::{HoldRule, Pause};
use serde::{Deserialize, Serialize};

use super::{CountsView, StatusView, rfc3339};
use crate::log::recent::{Entry, facts};

/// A destination as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DestinationView {
    /// The domain; `domain via next-hop` where that was chosen by hand.
    pub destination: String,
    /// Where its mail goes now; not known while the queue is open for reading only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<String>,
    /// Recipients that wait.
    pub waiting: u64,
    /// Recipients that are held or set aside.
    pub held: u64,
    /// Deliveries to its next hop under way now.
    pub under_way: u64,
    /// Deliveries at once that its next hop is given now, as found out so far; nothing where it was not spoken to lately.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u64>,
    /// For whom that is counted: the provider, the set of MX hosts, the relay host or the domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_for: Option<String>,
    /// What slowed it down: the kind of a provider's reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowed_by: Option<String>,
    /// Nothing is tried there before this time, for all that lead there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_back_until: Option<String>,
    /// It is spoken to over IPv4 only until this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_only_until: Option<String>,
    /// Failures in a row of the destination as a whole.
    pub failures: u32,
    /// Nothing is tried before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_off_until: Option<String>,
    /// When the next work for it falls due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<String>,
    /// Why it last failed as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reply: Option<String>,
    /// Whether it stands still by the administrator's wish.
    pub paused: bool,
}

/// What the next hop of a relayed domain said about a recipient.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AnswerView {
    /// The address.
    pub address: String,
    /// Whether the next hop takes mail for it.
    pub exists: bool,
    /// Its reply.
    pub reply: String,
    /// When it was asked.
    pub asked_at: String,
}

impl From<mta_queue::StoredAnswer> for AnswerView {
    fn from(answer: mta_queue::StoredAnswer) -> Self {
        let mta_queue::StoredAnswer { address, known, reply, asked_at } = answer;
        Self { address, exists: known, reply, asked_at: rfc3339(asked_at) }
    }
}

/// An alias of the database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AliasView {
    /// The address, or `@domain`.
    pub address: String,
    /// Whom it stands for.
    pub targets: Vec<String>,
    /// When it was last changed.
    pub changed_at: String,
    /// By whom.
    pub who: String,
}

impl From<mta_queue::StoredAlias> for AliasView {
    fn from(alias: mta_queue::StoredAlias) -> Self {
        let changed_at = rfc3339(alias.changed_at);
        Self { address: alias.address, targets: alias.targets, changed_at, who: alias.who }
    }
}

/// A group of what waits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupView {
    /// The domain, host, reason, age or sender.
    pub key: String,
    /// Recipients that wait.
    pub recipients: u64,
    /// Recipients that are held or set aside.
    pub held: u64,
    /// When the oldest of them arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_at: Option<String>,
    /// The earliest next attempt by its own time; the destination's back-off may make it later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<String>,
}

/// A rule that holds mail to come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HoldRuleView {
    /// Its number.
    pub id: i64,
    /// The recipient that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The reverse-path that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Why.
    pub reason: String,
    /// Who made it.
    pub by: String,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// It ends then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl From<HoldRule> for HoldRuleView {
    fn from(rule: HoldRule) -> Self {
        Self {
            id: rule.id,
            to: rule.recipient,
            from: rule.reverse_path,
            reason: rule.reason,
            by: rule.who,
            since: rule.created_at.map(rfc3339),
            until: rule.until.map(rfc3339),
        }
    }
}

/// Something that stands still.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PauseView {
    /// `in`, `out`, `local`, `dest:NAME`.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Who wished it.
    pub by: String,
    /// Since when.
    pub since: String,
    /// It moves on then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl From<Pause> for PauseView {
    fn from(pause: Pause) -> Self {
        Self {
            name: pause.name,
            reason: pause.reason,
            by: pause.who,
            since: rfc3339(pause.since),
            until: pause.until.map(rfc3339),
        }
    }
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogView {
    /// When.
    pub at: String,
    /// error, warn, info, debug or trace.
    pub level: String,
    /// The line.
    pub text: String,
    /// Its facts.
    pub facts: BTreeMap<String, String>,
}

impl From<&Entry> for LogView {
    fn from(entry: &Entry) -> Self {
        Self {
            at: entry.at.clone(),
            level: entry.level.to_string().to_lowercase(),
            text: entry.text.to_string(),
            facts: facts(&entry.text).into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        }
    }
}

/// Everything at once, for a screen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TopView {
    /// When.
    pub at: String,
    /// Whether the daemon itself answered.
    pub running: bool,
    /// What it is doing.
    pub status: StatusView,
    /// The queue.
    pub queue: CountsView,
    /// Deliveries under way: next hop and number, most first.
    pub under_way: Vec<(String, u64)>,
    /// Destinations with the most waiting.
    pub destinations: Vec<DestinationView>,
    /// Why most of it waits; gathered now and then.
    pub reasons: Vec<GroupView>,
    /// They are being gathered for the first time: a moment later there may be more.
    pub reasons_pending: bool,
}
