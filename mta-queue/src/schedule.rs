//! When to try again: a pure function of the configuration, the number of attempts and a random number.
//!
//! What it does not: it reads no clock, draws no random number and stores nothing. Times of a recipient and times of a
//! destination follow the same back-off, counted apart.

use std::time::{Duration, SystemTime};

/// The retry schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The waits after the first failure, the second, and so on; the last one repeats. Empty means an hour each.
    pub waits: Vec<Duration>,
    /// By how much a wait may be longer than computed, at random, in percent: keeps what failed together from coming back
    /// together.
    pub jitter_percent: u32,
    /// How long a message may wait before it is given up, from its arrival.
    pub lifetime: Duration,
    /// The same for notifications (null reverse-path), which nobody waits for.
    pub notification_lifetime: Duration,
    /// After this time the sender is told that the message still waits. Zero: never.
    pub delay_notice: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            waits: [5, 10, 20, 40, 80, 120].map(|minutes| Duration::from_secs(minutes * 60)).to_vec(),
            jitter_percent: 20,
            lifetime: Duration::from_secs(5 * 86_400),
            notification_lifetime: Duration::from_secs(2 * 86_400),
            delay_notice: Duration::from_secs(4 * 3_600),
        }
    }
}

impl Schedule {
    /// The wait after so many failures in a row (1 is the first). `random` is a number drawn anew for each call.
    pub fn wait(&self, failures: u32, random: u64) -> Duration {
        const UNSET: Duration = Duration::from_secs(3_600);

        let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
        let wait = self.waits.get(index).or_else(|| self.waits.last()).copied().unwrap_or(UNSET);
        let spread = percent(wait, u128::from(self.jitter_percent));
        let spread = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
        wait.saturating_add(Duration::from_millis(random % spread.saturating_add(1)))
    }

    /// The next attempt for a recipient after `failures` failed ones, the last one now. Never later than the end of the
    /// message's lifetime, at which a last attempt is due.
    pub fn next_attempt(
        &self,
        now: SystemTime,
        received_at: SystemTime,
        is_notification: bool,
        failures: u32,
        random: u64,
    ) -> SystemTime {
        let next = later(now, self.wait(failures, random));
        let end = self.end(received_at, is_notification);
        if end > now { next.min(end) } else { next }
    }

    /// When the message's time in the queue is over.
    pub fn end(&self, received_at: SystemTime, is_notification: bool) -> SystemTime {
        later(received_at, if is_notification { self.notification_lifetime } else { self.lifetime })
    }

    /// Whether the time in the queue is over: an attempt that fails now was the last.
    pub fn is_over(&self, now: SystemTime, received_at: SystemTime, is_notification: bool) -> bool {
        now >= self.end(received_at, is_notification)
    }

    /// Whether the sender should be told now that the message waits.
    pub fn is_delay_notice_due(&self, now: SystemTime, received_at: SystemTime) -> bool {
        !self.delay_notice.is_zero() && now >= later(received_at, self.delay_notice)
    }
}

/// A time after another; a time the system cannot express is a far one that it can.
fn later(time: SystemTime, wait: Duration) -> SystemTime {
    const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);

    time.checked_add(wait.min(FAR)).unwrap_or(time)
}

/// So many percent of a duration, in whole milliseconds.
fn percent(duration: Duration, percent: u128) -> Duration {
    let millis = duration.as_millis().saturating_mul(percent) / 100;
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    fn schedules() -> impl Strategy<Value = Schedule> {
        (prop::collection::vec(0u64..1_000_000, 0..9), 0u32..200, 0u64..10_000_000).prop_map(
            |(waits, jitter_percent, lifetime)| Schedule {
                waits: waits.into_iter().map(Duration::from_secs).collect(),
                jitter_percent,
                lifetime: Duration::from_secs(lifetime),
                ..Schedule::default()
            },
        )
    }

    proptest! {
        #[test]
        fn a_wait_is_one_of_the_list_with_jitter(schedule in schedules(), failures: u32, random: u64) {
            let wait = schedule.wait(failures, random);
            let fits = |listed: &Duration| {
                *listed <= wait && wait <= percent(*listed, 100 + u128::from(schedule.jitter_percent))
            };
            prop_assert!(schedule.waits.iter().any(fits) || schedule.waits.is_empty());
        }

        #[test]
        fn the_next_attempt_is_later_and_the_last_one_at_the_end(
            schedule in schedules(), failures in 1u32..60, random: u64, age in 0u64..20_000_000, note: bool,
        ) {
            let received = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            let now = received + Duration::from_secs(age);
            let next = schedule.next_attempt(now, received, note, failures, random);
            prop_assert!(next >= now);
            if !schedule.is_over(now, received, note) {
                prop_assert!(next <= schedule.end(received, note), "no attempt is planned beyond the end");
            }
        }
    }

    #[test]
    fn by_default_waits_grow_to_two_hours_which_repeat() {
        let schedule = Schedule::default();
        let minutes: Vec<u64> = (1..=7).map(|n| schedule.wait(n, 0).as_secs() / 60).collect();
        assert_eq!(minutes, [5, 10, 20, 40, 80, 120, 120]);
        assert_eq!(schedule.wait(1, 60_000), Duration::from_secs(360), "a minute of jitter is the most");
        assert_eq!(schedule.wait(1, 60_001), Duration::from_secs(300));
    }

    #[test]
    fn absurd_times_do_not_panic() {
        let schedule = Schedule { waits: vec![Duration::MAX], ..Schedule::default() };
        let _ = schedule.wait(u32::MAX, u64::MAX);
        let _ = schedule.next_attempt(UNIX_EPOCH, UNIX_EPOCH, false, u32::MAX, 7);
        assert!(
            !Schedule { delay_notice: Duration::ZERO, ..schedule }
                .is_delay_notice_due(UNIX_EPOCH, UNIX_EPOCH)
        );
    }
}
