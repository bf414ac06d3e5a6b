//! Time in signatures, and whether the system clock can be believed.
//!
//! A router without a battery begins in 1970, and then every signature of the world is "not yet valid". That is a fault of this
//! host and not of the world's zones, so it is recognised by the trust anchor's own signature, which nobody can forge.

use std::fmt;

/// What the signatures of the trust anchor say about the system clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockVerdict {
    /// A signature of the trust anchor is valid now.
    Plausible,
    /// The clock is behind every signature of the trust anchor.
    Behind {
        /// What the clock reads, Unix seconds.
        reads: u64,
        /// The earliest time that can be true, Unix seconds.
        at_least: u64,
    },
    /// The clock is ahead of every signature of the trust anchor: it is wrong, or the responses are replayed from the past.
    Ahead {
        /// What the clock reads, Unix seconds.
        reads: u64,
        /// When the latest signature ended, Unix seconds.
        at_most: u64,
    },
    /// No signature by a trusted key was seen, so nothing can be said.
    Unknown,
}

impl fmt::Display for ClockVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plausible => f.write_str("the system clock agrees with the trust anchor's signatures"),
            Self::Behind { reads, at_least } => write!(
                f,
                "the system clock reads {}, but the trust anchor's signatures begin at {}: set the clock (NTP)",
                utc(*reads),
                utc(*at_least)
            ),
            Self::Ahead { reads, at_most } => write!(
                f,
                "the system clock reads {}, but the trust anchor's signatures ended at {}: set the clock (NTP), or find \
                 out which resolver answers with old data",
                utc(*reads),
                utc(*at_most)
            ),
            Self::Unknown => f.write_str("no signature by the trust anchor was seen"),
        }
    }
}

/// The Unix time nearest to `now` whose low 32 bits are `serial` (RFC 4034 3.1.5, RFC 1982).
pub(super) fn near(now: u64, serial: u32) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "serial arithmetic is about the low 32 bits")]
    let low = now as u32;
    let ahead = serial.wrapping_sub(low);
    if ahead <= i32::MAX.unsigned_abs() {
        now.saturating_add(u64::from(ahead))
    } else {
        now.saturating_sub(u64::from(low.wrapping_sub(serial)))
    }
}

/// Unix seconds as an administrator reads them: `2026-11-23 22:01:57 UTC`.
pub(super) fn utc(unix: u64) -> String {
    let (days, seconds) = (unix / 86_400, unix % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Year, month and day of a count of days since 1970-01-01, by counting years from March.
fn civil(days: u64) -> (u64, u64, u64) {
    // Day 0 of this count is 0000-03-01; 400 years have 146,097 days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_like_a_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_471_317), "2026-11-23 22:01:57 UTC");
        assert_eq!(utc(4_107_542_399), "2100-02-28 23:59:59 UTC");
    }

    #[test]
    fn serial_times_are_taken_near_now() {
        let now = 1_795_471_317;
        assert_eq!(near(now, 1_795_471_318), now + 1);
        assert_eq!(near(now, 1_795_471_316), now - 1);
        // After the 32 bits have wrapped in 2106, a signature of that year is near, not 136 years old.
        let later = (1_u64 << 32) + 5;
        assert_eq!(near(later, 10), later + 5);
        assert_eq!(near(later, u32::MAX), later - 6);
        assert_eq!(near(0, u32::MAX), 0);
    }
}
