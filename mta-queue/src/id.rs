//! Queue ids: short, printable, unique, and made before anything is written.
//!
//! An id is handed out when a transaction begins, because the `Received:` line names it; the commit comes later. It is
//! the time in microseconds, pushed forward where two ids would meet, so ids sort by age. A clock that was set back
//! gives no id twice: the last committed one is kept in the database and new ones start above it.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::time::unix_micros;

/// Digits of an id: no `i`, `l`, `o`, `u`, so that none is mistaken for another on paper or on the telephone.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Characters of an id as text. 55 bits, enough until the year 3111.
const LENGTH: usize = 11;

/// The id of a message in the queue. As text eleven lower-case letters and digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(i64);

/// A text is no queue id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidQueueId;

impl fmt::Display for InvalidQueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a queue id: eleven letters and digits are expected")
    }
}

impl std::error::Error for InvalidQueueId {}

impl QueueId {
    /// The id as the database keeps it.
    pub(crate) fn as_i64(self) -> i64 {
        self.0
    }

    /// An id read from the database.
    pub(crate) fn from_i64(value: i64) -> Self {
        Self(value)
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'0'; LENGTH];
        let mut rest = self.0.unsigned_abs();
        for digit in text.iter_mut().rev() {
            *digit = DIGITS[(rest & 31) as usize];
            rest >>= 5;
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl FromStr for QueueId {
    type Err = InvalidQueueId;

    fn from_str(text: &str) -> Result<Self, InvalidQueueId> {
        if text.len() != LENGTH {
            return Err(InvalidQueueId);
        }
        let mut value: i64 = 0;
        for byte in text.bytes() {
            let digit = DIGITS.iter().position(|&d| d == byte.to_ascii_lowercase()).ok_or(InvalidQueueId)?;
            value = value << 5 | digit as i64;
        }
        Ok(Self(value))
    }
}

/// Hands out ids, each once.
#[derive(Debug)]
pub(crate) struct IdSource {
    /// The last id handed out.
    last: Mutex<i64>,
}

impl IdSource {
    /// A source that starts above `last`, the highest id ever committed.
    pub(crate) fn new(last: i64) -> Self {
        Self { last: Mutex::new(last) }
    }

    /// The next id: the time, or one above the last where that is later.
    pub(crate) fn next(&self, now: SystemTime) -> QueueId {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = unix_micros(now).max(last.saturating_add(1));
        QueueId(*last)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_written_is_read_back(value in 0i64..(1 << 55)) {
            let id = QueueId(value);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<QueueId>();
        }

        #[test]
        fn ids_rise_whatever_the_clock_does(times in proptest::collection::vec(0u64..1_000, 1..50), start in 0i64..2_000) {
            let source = IdSource::new(start);
            let mut last = start;
            for time in times {
                let id = source.next(UNIX_EPOCH + Duration::from_micros(time));
                prop_assert!(id.as_i64() > last);
                last = id.as_i64();
            }
        }
    }

    #[test]
    fn text_order_is_age_order() {
        assert!(QueueId(31).to_string() < QueueId(32).to_string());
        assert_eq!(QueueId(0).to_string().len(), LENGTH);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "0", "0000000000", "000000000000", "0000000000u", "0000000000\u{e9}", "../../../../"]
        {
            assert_eq!(text.parse::<QueueId>(), Err(InvalidQueueId), "{text:?}");
        }
    }
}
