//! What all sessions of own users share: logins, counters, the brake.
//!
//! What it does: puts the roster, the logins and the counters together, writes down what is sent, and holds a runaway. What
//! it does not: no protocol.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use mta_queue::{Queue, QueueError, SentHour, StoredUser, UserChange};

use super::login::Logins;
use super::rate::{Exceeded, Limits, Rates};
use super::roster::Users;
use crate::alert::{Alerts, Kind};
use crate::log::Line;

/// The shared part.
pub struct Service {
    /// The users.
    pub users: Users,
    /// Their logins.
    pub logins: Arc<Logins>,
    queue: Queue,
    alerts: Alerts,
    rates: Mutex<Rates>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("users", &self.users).finish_non_exhaustive()
    }
}

/// The beginning of the reason why mail of a user is held; what `user release` looks for.
pub fn hold_reason(user: &str) -> String {
    format!("user {user} is held:")
}

impl Service {
    /// The users of this queue's database. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn new(users: Users, queue: &Queue, alerts: Alerts, checks: usize) -> Result<Arc<Self>, QueueError> {
        users.refresh(&queue.reader())?;
        let logins = Logins::new(users.clone(), queue.clone(), checks)?;
        let rates = Mutex::default();
        Ok(Arc::new(Self { users, logins, queue: queue.clone(), alerts, rates }))
    }

    /// Whether a user may begin a message, or give it one more recipient when it has `recipients` already.
    ///
    /// # Errors
    /// What would be exceeded.
    pub async fn ask(&self, user: &str, recipients: u64, limits: &Limits) -> Result<(), Exceeded> {
        self.load(user).await;
        self.rates().ask(user, recipients, limits, hour())
    }

    /// Counts a recipient that was tried, and whether there is such a mailbox.
    pub fn tried(&self, user: &str, exists: bool) {
        self.rates().tried(user, exists, hour());
    }

    /// A server elsewhere says that there is no such recipient of a user's message.
    pub fn refused_elsewhere(&self, user: &str) {
        self.rates().refused_elsewhere(user, hour());
    }

    /// Counts a message that is about to be taken. Why it is to be held, where it is: because its sender was held before, or
    /// is from now on.
    pub async fn count(&self, user: &str, recipients: u64, limits: &Limits) -> Option<String> {
        self.load(user).await;
        let brake = self.rates().count(user, recipients, limits, hour());
        self.queue.count_sent(user, SentHour { hour: hour(), messages: 1, recipients });
        let held = self.users.now().get(user).and_then(|user| user.held.clone());
        let reason = match (held, brake) {
            (Some(reason), _) => reason,
            (None, Some(reason)) => {
                self.hold(user, &reason).await;
                reason
            }
            (None, None) => return None,
        };
        Some(format!("{} {reason}", hold_reason(user)))
    }

    /// Lets a user send again who was held. The mail that is held is the caller's to release.
    pub fn released(&self, user: &str) {
        self.rates().forgive(user, hour());
        self.alerts.clear(Kind::Runaway, user);
    }

    async fn hold(&self, user: &str, reason: &str) {
        let line = Line::new("user-held").with("user", user).with("reason", reason);
        ::log::warn!("{}", line);
        let text = format!("mail of {user} is held: {reason}");
        let remedy = format!(
            "if that was not him, give him another password (mta-cli user passwd {user}) and drop what is held \
             (mta-cli queue drop --reason \"{}\"); then mta-cli user release {user}",
            hold_reason(user)
        );
        self.alerts.raise(Kind::Runaway, user, &text, &remedy);
        let (queue, users) = (self.queue.clone(), self.users.clone());
        let (name, held) = (user.to_owned(), Some((SystemTime::now(), reason.to_owned())));
        let kept = smol::unblock(move || {
            let change = UserChange { held: Some(held.clone()), ..UserChange::default() };
            if !queue.change_user(&name, change)? {
                // Known outside alone until now (`external`); from now on here too, so that he can be held and released.
                let created_at = Some(SystemTime::now());
                queue.add_user(StoredUser {
                    name,
                    outside: true,
                    held,
                    created_at,
                    ..StoredUser::default()
                })?;
            }
            users.refresh(&queue.reader())
        });
        if let Err(error) = kept.await {
            // The message at hand is held all the same, and the next one pulls the brake again.
            ::log::error!("{}", Line::new("user-held").with("user", user).with("error", error));
        }
    }

    /// Reads what a user sent before, once.
    async fn load(&self, user: &str) {
        if self.rates().knows(user) {
            return;
        }
        let (reader, name) = (self.queue.reader(), user.to_owned());
        let hours = smol::unblock(move || reader.sent(&name)).await.unwrap_or_default();
        let mut rates = self.rates();
        if !rates.knows(user) {
            rates.load(user, hours);
        }
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hours since 1970.
fn hour() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs() / 3600).unwrap_or(i64::MAX)
}
