//! How many deliveries one mail store or one user has under way: those that hang hold up nobody else.
//!
//! All mail for this host shares one number of deliveries at once. Each owner of places has a share of it; whoever comes
//! when that is taken waits a moment, and is sent away where those before him have been at it for long. Mail that is sent
//! away is put off, which counts as no attempt. What it does not: it ends no delivery; each has times of its own.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Deliveries that take longer than this are slow, and nobody waits for them.
const SLOW: Duration = Duration::from_secs(10);

/// Nobody waits for a turn for longer than this.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// The deliveries under way. All handles share them.
#[derive(Debug, Clone, Default)]
pub struct Turns(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// When those under way began, oldest first, by owner.
    under_way: Mutex<HashMap<String, VecDeque<Instant>>>,
    ended: Condvar,
}

/// The owner's share is taken, and not for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy {
    /// Deliveries under way.
    pub(super) count: usize,
    /// For how long the oldest has been.
    pub(super) oldest: Duration,
}

/// One delivery under way; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    owner: String,
    began: Instant,
}

impl Turns {
    /// Begins a delivery to a place of `owner`, who may have `most` at once. Blocks up to [`MAX_WAIT`].
    ///
    /// # Errors
    /// The owner's deliveries are slow, or nobody ends.
    pub(super) fn take(&self, owner: &str, most: usize) -> Result<Turn, Busy> {
        self.take_within(owner, most.max(1), (SLOW, MAX_WAIT))
    }

    fn take_within(&self, owner: &str, most: usize, times: (Duration, Duration)) -> Result<Turn, Busy> {
        let (slow, longest) = times;
        let came = Instant::now();
        let mut under_way = self.lock();
        loop {
            let now = Instant::now();
            let of_owner = under_way.get(owner);
            let oldest = of_owner.and_then(VecDeque::front).map(|began| now.duration_since(*began));
            match (of_owner.map_or(0, VecDeque::len), oldest) {
                (count, Some(oldest)) if count >= most => {
                    let left =
                        slow.saturating_sub(oldest).min(longest.saturating_sub(now.duration_since(came)));
                    if left.is_zero() {
                        return Err(Busy { count, oldest });
                    }
                    let woken = self.0.ended.wait_timeout(under_way, left);
                    under_way = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
                _ => {
                    under_way.entry(owner.to_owned()).or_default().push_back(now);
                    return Ok(Turn { turns: self.clone(), owner: owner.to_owned(), began: now });
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Instant>>> {
        self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Whether it is not slow so far.
    pub(super) fn is_quick(&self) -> bool {
        self.began.elapsed() < SLOW
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut under_way = self.turns.lock();
        if let Some(of_owner) = under_way.get_mut(&self.owner) {
            if let Some(at) = of_owner.iter().position(|began| *began == self.began) {
                of_owner.remove(at);
            }
            if of_owner.is_empty() {
                under_way.remove(&self.owner);
            }
        }
        drop(under_way);
        self.turns.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Turns {
        /// A delivery that has been under way for long.
        pub(in super::super) fn hang(&self, owner: &str) -> Turn {
            let began = Instant::now() - 2 * SLOW;
            self.lock().entry(owner.to_owned()).or_default().push_front(began);
            Turn { turns: self.clone(), owner: owner.to_owned(), began }
        }
    }

    const FOR_EVER: Duration = Duration::from_secs(3_600);

    #[test]
    fn who_hangs_holds_up_nobody_else() {
        let turns = Turns::default();
        let hanging = [turns.take("store", 2), turns.take("store", 2)].map(Result::unwrap);
        let busy = turns.take_within("store", 2, (Duration::ZERO, FOR_EVER)).unwrap_err();
        assert_eq!(busy.count, 2);
        assert!(turns.take_within("store", 2, (FOR_EVER, Duration::ZERO)).is_err(), "nobody waits for ever");
        assert!(turns.take("anna", 1).is_ok());
        drop(hanging);
        assert!(turns.lock().is_empty());
        assert!(turns.take_within("store", 2, (Duration::ZERO, FOR_EVER)).is_ok());
    }

    #[test]
    fn who_waits_goes_on_when_one_ends() {
        let turns = Turns::default();
        let first = turns.take("store", 1).unwrap();
        let waiting = std::thread::spawn(move || turns.take_within("store", 1, (FOR_EVER, FOR_EVER)).is_ok());
        drop(first);
        assert!(waiting.join().unwrap());
    }
}
