//! Times as the database keeps them: whole seconds since 1970. Nothing here reads a clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970, rounded down; 0 for a time before that.
pub(crate) fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Seconds since 1970, rounded up, for times before which something must not happen.
pub(crate) fn unix_seconds_up(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let up = u64::from(since.subsec_nanos() > 0);
    i64::try_from(since.as_secs().saturating_add(up)).unwrap_or(i64::MAX)
}

/// Microseconds since 1970.
pub(crate) fn unix_micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The time that many seconds after 1970. What the system cannot express becomes 1970: it comes from a damaged row.
pub(crate) fn from_unix(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_not_to_be_early_is_rounded_up() {
        let time = UNIX_EPOCH + Duration::from_millis(1_001);
        assert_eq!(unix_seconds(time), 1);
        assert_eq!(unix_seconds_up(time), 2);
        assert_eq!(unix_seconds_up(UNIX_EPOCH + Duration::from_secs(1)), 1);
    }

    #[test]
    fn absurd_times_do_not_panic() {
        assert_eq!(from_unix(i64::MIN), UNIX_EPOCH);
        assert_eq!(from_unix(i64::MAX), UNIX_EPOCH + Duration::from_secs(i64::MAX as u64));
        assert_eq!(unix_seconds(UNIX_EPOCH - Duration::from_secs(5)), 0);
    }
}
