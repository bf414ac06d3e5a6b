//! Wall-clock time behind a seam, so that tests can move it.
//!
//! Signatures, certificates and queue times are judged by the wall clock, which may be wrong (a router without a battery
//! boots in 1970). It is not for deadlines: those use `Instant` and the runtime's timers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the wall-clock time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Seconds since 1970-01-01 00:00:00 UTC; 0 where the system's clock stands before that.
    fn unix_seconds(&self) -> u64;
}

/// The clock of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The system's clock, ready to be shared.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    fn unix_seconds(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }
}

/// A clock that stands where it is put. For tests, of this crate and of others.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that stands at this time, in seconds since 1970.
    pub fn at(unix_seconds: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(unix_seconds)))
    }

    /// Puts the clock to this time, in seconds since 1970.
    pub fn set(&self, unix_seconds: u64) {
        self.0.store(unix_seconds, Ordering::SeqCst);
    }

    /// Moves the clock forward.
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn unix_seconds(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stands_until_it_is_moved() {
        let clock = ManualClock::at(100);
        assert_eq!(clock.unix_seconds(), 100);
        clock.advance(5);
        assert_eq!(clock.unix_seconds(), 105);
        clock.set(7);
        assert_eq!(clock.unix_seconds(), 7);
    }
}
