//! A user, as the administrator sees it: never a secret.

use mta_queue::{GrantKind, SentHour, StoredGrant, StoredUser};
use serde::{Deserialize, Serialize};

use super::rfc3339;

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UserView {
    /// The login name.
    pub name: String,
    /// How the password is kept: `argon2id`, `sha-crypt`, `none`; `outside` where somebody else knows it.
    pub password: String,
    /// Whether SCRAM keys are kept.
    pub scram: bool,
    /// No SCRAM keys are made.
    pub scram_off: bool,
    /// May not log in.
    pub disabled: bool,
    /// The name is also a mailbox.
    pub mailbox: bool,
    /// How many octets it may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// When it logged in last, give or take a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_login_at: Option<String>,
    /// Since when its mail is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_at: Option<String>,
    /// And why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// As whom it may send besides itself.
    pub senders: Vec<String>,
    /// The certificates it may log in with.
    pub certificates: Vec<String>,
    /// Messages of this hour.
    pub messages_hour: u64,
    /// Their recipients.
    pub recipients_hour: u64,
    /// Recipients of the last 24 hours.
    pub recipients_day: u64,
}

impl UserView {
    /// Of a user, what it was granted, and what it sent by hour.
    pub(crate) fn of<'a>(
        user: &StoredUser,
        granted: impl Iterator<Item = &'a StoredGrant>,
        sent: &[SentHour],
        hour: i64,
    ) -> Self {
        let password = match user.secret.password.as_deref() {
            Some(hash) if hash.starts_with("$argon2id$") => "argon2id",
            Some(_) => "sha-crypt",
            None if user.outside => "outside",
            None => "none",
        };
        let (mut senders, mut certificates) = (Vec::new(), Vec::new());
        for grant in granted {
            let list = if grant.kind == GrantKind::Sender { &mut senders } else { &mut certificates };
            list.push(grant.value.clone());
        }
        let this_hour = sent.iter().find(|sent| sent.hour == hour).copied().unwrap_or_default();
        Self {
            name: user.name.clone(),
            password: password.to_owned(),
            scram: user.secret.scram.is_some(),
            scram_off: user.scram_off,
            disabled: user.disabled,
            mailbox: user.mailbox,
            quota: user.quota,
            created_at: user.created_at.map(rfc3339),
            last_login_at: user.last_login_at.map(rfc3339),
            held_at: user.held.as_ref().map(|(at, _)| rfc3339(*at)),
            held: user.held.as_ref().map(|(_, reason)| reason.clone()),
            senders,
            certificates,
            messages_hour: this_hour.messages,
            recipients_hour: this_hour.recipients,
            recipients_day: sent
                .iter()
                .filter(|sent| sent.hour > hour - 24)
                .map(|sent| sent.recipients)
                .sum(),
        }
    }
}
