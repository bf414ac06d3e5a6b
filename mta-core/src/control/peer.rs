//! Who asks, and what he may.

use nix::unistd::{Uid, User};

/// Somebody who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// His name on this system, or his number where he has none: kept with what he changes.
    pub user: String,
    /// Root, the service user, or a member of the administrators' group. Everybody else sees his own mail alone.
    pub is_administrator: bool,
}

impl Peer {
    /// The user of this process, who works on the files that he can open: the system has decided what he may.
    pub fn here() -> Self {
        let user = name(nix::unistd::geteuid().as_raw());
        // For the history only; nothing is allowed by it.
        let by = std::env::var("SUDO_USER").ok().filter(|by| user == "root" && is_name(by));
        let user = by.map_or_else(|| user.clone(), |by| format!("{user} (sudo by {by})"));
        Self { user, is_administrator: true }
    }

    /// A user of the system by his number.
    pub(super) fn of(uid: u32, is_administrator: bool) -> Self {
        Self { user: name(uid), is_administrator }
    }
}

/// Whether a text from the environment looks like a user's name.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 32
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// The name of a user.
fn name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| format!("uid {uid}"), |user| user.name)
}
