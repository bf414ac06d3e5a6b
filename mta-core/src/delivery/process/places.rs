//! Who may have how many deliveries under way at once.
//!
//! Places are few, and what holds one may depend on the user: a lock that he holds, a command of his, a file system of
//! his. So nobody gets more than a third of them, and whoever finds none free waits for a time only. What it does not: it ends no
//! delivery; that is the deadline's part.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::log::Line;

/// How often at most the log says that all places are taken.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// Bounds the deliveries at once.
pub(super) struct Places {
    most: usize,
    /// Of one user.
    share: usize,
    held: Mutex<Held>,
    freed: Condvar,
}

#[derive(Default)]
struct Held {
    by_user: BTreeMap<String, usize>,
    said_at: Option<Instant>,
}

impl Held {
    fn all(&self) -> usize {
        self.by_user.values().sum()
    }

    fn of(&self, user: &str) -> usize {
        self.by_user.get(user).copied().unwrap_or(0)
    }

    /// Who holds how many.
    fn shown(&self) -> String {
        let parts: Vec<_> = self.by_user.iter().map(|(user, count)| format!("{user}:{count}")).collect();
        parts.join(",")
    }
}

/// Why there is no place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// This user has as many as anybody may have.
    OfUser(usize),
    /// All are taken, by those named.
    AtAll(usize, String),
}

impl Places {
    /// So many in all; at least one.
    pub(super) fn new(most: usize) -> Arc<Self> {
        let most = most.max(1);
        let (held, freed) = (Mutex::default(), Condvar::new());
        Arc::new(Self { most, share: (most / 3).max(1), held, freed })
    }

    /// Takes a place for a user. Blocking, for as long as `wait` at most.
    pub(super) fn take(self: &Arc<Self>, user: &str, wait: Duration) -> Result<Taken, NoPlace> {
        let until = Instant::now() + wait;
        let mut held = self.held();
        loop {
            let why = match (held.all() >= self.most, held.of(user) >= self.share) {
                (false, false) => break,
                (_, true) => NoPlace::OfUser(self.share),
                (true, false) => {
                    self.say(&mut held);
                    NoPlace::AtAll(self.most, held.shown())
                }
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(why);
            }
            held = self.freed.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *held.by_user.entry(user.to_owned()).or_default() += 1;
        drop(held);
        Ok(Taken { places: Arc::clone(self), user: user.to_owned() })
    }

    /// Puts it in the log that somebody waits because all places are taken, now and then.
    fn say(&self, held: &mut Held) {
        if held.said_at.is_none_or(|at| at.elapsed() >= SAID_AGAIN) {
            held.said_at = Some(Instant::now());
            ::log::warn!(
                "{}",
                Line::new("deliver-full").with("places", self.most).with("held", held.shown())
            );
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, given back when this goes.
pub(super) struct Taken {
    places: Arc<Places>,
    user: String,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut held = self.places.held();
        if let Some(count) = held.by_user.get_mut(&self.user) {
            *count -= 1;
        }
        held.by_user.retain(|_, count| *count > 0);
        drop(held);
        // Those who wait wait for different users' places.
        self.places.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn nobody_has_more_than_a_third() {
        for (most, share) in [(0, 1), (1, 1), (2, 1), (3, 1), (10, 3), (30, 10)] {
            let places = Places::new(most);
            let mut of_anna = Vec::new();
            while let Ok(taken) = places.take("anna", NOW) {
                of_anna.push(taken);
            }
            assert_eq!(of_anna.len(), share, "{most}");
            assert_eq!(places.take("anna", NOW).err(), Some(NoPlace::OfUser(share)));
            assert_eq!(places.take("ben", NOW).is_ok(), most > 1, "{most}");
        }
    }

    #[test]
    fn all_taken_says_by_whom_and_ends() {
        let places = Places::new(3);
        let mut taken: Vec<_> =
            ["anna", "ben", "eve"].iter().map(|user| places.take(user, NOW).ok().unwrap()).collect();
        let full = NoPlace::AtAll(3, "anna:1,ben:1,eve:1".into());
        assert_eq!(places.take("gil", NOW).err(), Some(full));
        // Who waits gets the one that is given back.
        let waiting = {
            let places = Arc::clone(&places);
            std::thread::spawn(move || {
                places.take("gil", Duration::from_secs(60)).map(|taken| taken.user.clone())
            })
        };
        drop(taken.pop());
        assert_eq!(waiting.join().unwrap(), Ok("gil".to_owned()));
        drop(taken);
        assert_eq!(places.held().all(), 0);
    }
}
