//! What is known of policies, in memory: those in force, recent failures, and whose turn it is to fetch.
//!
//! What it does not: it reads no clock and does no I/O.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use mta_queue::StoredStsPolicy;

use super::Found;
use super::fetch::Fault;
use super::policy::Policy;

/// Failures that are remembered at most.
const MAX_FAILURES: usize = 1000;

/// One at a time fetches the policy of a domain.
pub(super) type Turn = Arc<async_lock::Mutex<()>>;

#[derive(Debug)]
struct Kept {
    found: Found,
    used_at: SystemTime,
}

#[derive(Debug)]
struct Failure {
    id: String,
    fault: Fault,
    until: SystemTime,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known {
    policies: HashMap<String, Kept>,
    failures: HashMap<String, Failure>,
    turns: HashMap<String, Weak<async_lock::Mutex<()>>>,
}

impl Known {
    /// What the database holds and is not over. What cannot be read any more is fetched again when it is needed.
    pub(super) fn from_stored(stored: Vec<StoredStsPolicy>, now: SystemTime) -> Self {
        let mut known = Self::default();
        for stored in stored {
            let Ok(policy) = Policy::parse(stored.policy.as_bytes()) else { continue };
            let found = Found {
                policy: Arc::new(policy),
                id: stored.id,
                fetched_at: stored.fetched_at,
                expires_at: stored.expires_at,
            };
            if !found.is_over(now) {
                known.policies.insert(stored.domain, Kept { found, used_at: stored.used_at });
            }
        }
        known
    }

    /// The policy in force.
    pub(super) fn get(&mut self, domain: &str, now: SystemTime) -> Option<Found> {
        if self.policies.get(domain)?.found.is_over(now) {
            self.policies.remove(domain);
            return None;
        }
        self.policies.get(domain).map(|kept| kept.found.clone())
    }

    /// Puts a policy in force; true where it differs from the one before. Beyond `max` those go first that are over, then
    /// those that were used longest ago, as in the database.
    pub(super) fn put(&mut self, domain: &str, found: Found, now: SystemTime, max: usize) -> bool {
        self.failures.remove(domain);
        let policy = Arc::clone(&found.policy);
        let before = self.policies.insert(domain.to_owned(), Kept { found, used_at: now });
        while self.policies.len() > max.max(1) {
            let others = self.policies.iter().filter(|(name, _)| *name != domain);
            let first = others.min_by_key(|(_, kept)| (!kept.found.is_over(now), kept.used_at));
            let Some(first) = first.map(|(name, _)| name.clone()) else { break };
            self.policies.remove(&first);
        }
        before.is_none_or(|before| before.found.policy != policy)
    }

    /// Notes a use; true where that is to be written down.
    pub(super) fn touch(&mut self, domain: &str, now: SystemTime, every: Duration) -> bool {
        let Some(kept) = self.policies.get_mut(domain) else { return false };
        let old = now.duration_since(kept.used_at).is_ok_and(|since| since >= every);
        if old {
            kept.used_at = now;
        }
        old
    }

    /// Why the file of this version could not be had a short while ago.
    pub(super) fn failure(&mut self, domain: &str, id: &str, now: SystemTime) -> Option<Fault> {
        if self.failures.get(domain)?.until <= now {
            self.failures.remove(domain);
            return None;
        }
        self.failures.get(domain).filter(|failure| failure.id == id).map(|failure| failure.fault.clone())
    }

    /// Remembers a failure.
    pub(super) fn failed(&mut self, domain: &str, id: &str, fault: Fault, until: SystemTime) {
        if self.failures.len() >= MAX_FAILURES {
            let first = self.failures.iter().min_by_key(|(_, failure)| failure.until);
            if let Some(first) = first.map(|(name, _)| name.clone()) {
                self.failures.remove(&first);
            }
        }
        self.failures.insert(domain.to_owned(), Failure { id: id.to_owned(), fault, until });
    }

    /// Whose turn it is to fetch for a domain.
    pub(super) fn turn(&mut self, domain: &str) -> Turn {
        if let Some(turn) = self.turns.get(domain).and_then(Weak::upgrade) {
            return turn;
        }
        // As many are alive as deliveries are under way.
        self.turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Turn::default();
        self.turns.insert(domain.to_owned(), Arc::downgrade(&turn));
        turn
    }

    /// The policies that should be fetched anew, with their ids; without those that nobody used for `unused`.
    pub(super) fn due(&self, now: SystemTime, refresh: Duration, unused: Duration) -> Vec<(String, String)> {
        let due = self.policies.iter().filter(|(_, kept)| {
            let idle = now.duration_since(kept.used_at).is_ok_and(|since| since >= unused);
            !idle && !kept.found.is_over(now) && kept.found.is_due(now, refresh)
        });
        due.map(|(domain, kept)| (domain.clone(), kept.found.id.clone())).collect()
    }
}
