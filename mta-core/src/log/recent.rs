//! The latest log lines in memory, for whoever follows the log through the daemon.
//!
//! What it does: keeps a bounded number of lines and octets, and wakes who waits for the next. What it does not: it waits
//! for nobody. A reader that is slower than the log misses lines and is told how many.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::log::Level;

/// Lines kept at most.
const MAX_LINES: usize = 2_000;

/// Octets of text kept at most.
const MAX_OCTETS: usize = 512 << 10;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Counts the lines since the start; the first is 1.
    pub number: u64,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// Its level.
    pub level: Level,
    /// The event: `key=value`, one line.
    pub text: Arc<str>,
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<Entry>,
    octets: usize,
    last: u64,
}

/// The latest lines.
#[derive(Debug, Default)]
pub struct Recent {
    lines: Mutex<Lines>,
    grown: Condvar,
}

/// The lines of this process.
pub static RECENT: Recent = Recent::new();

impl Recent {
    /// Without lines.
    pub const fn new() -> Self {
        Self {
            lines: Mutex::new(Lines { lines: VecDeque::new(), octets: 0, last: 0 }),
            grown: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line; the oldest make room.
    pub fn push(&self, at: String, level: Level, text: &str) {
        let mut lines = self.lock();
        lines.last += 1;
        let number = lines.last;
        lines.octets += text.len();
        lines.lines.push_back(Entry { number, at, level, text: text.into() });
        while lines.lines.len() > MAX_LINES || lines.octets > MAX_OCTETS {
            let Some(oldest) = lines.lines.pop_front() else { break };
            lines.octets -= oldest.text.len();
        }
        drop(lines);
        self.grown.notify_all();
    }

    /// The number of the newest line.
    pub fn last(&self) -> u64 {
        self.lock().last
    }

    /// Lines behind number `after`, at most `limit`. Where there are none, waits for one so long. The second value counts
    /// lines that are gone already.
    pub fn read(&self, after: u64, limit: usize, wait: Duration) -> (Vec<Entry>, u64) {
        let mut lines = self.lock();
        if lines.last <= after && !wait.is_zero() {
            let woken = self.grown.wait_timeout_while(lines, wait, |lines| lines.last <= after);
            lines = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let oldest = lines.lines.front().map_or(lines.last + 1, |entry| entry.number);
        let lost = oldest.saturating_sub(after + 1);
        let skip = usize::try_from((after + 1).saturating_sub(oldest)).unwrap_or(usize::MAX);
        (lines.lines.iter().skip(skip).take(limit).cloned().collect(), lost)
    }
}

/// The facts of a line, as `Line` writes them: keys and values, quotes and escapes taken away. What is no fact is left out.
pub fn facts(text: &str) -> Vec<(&str, String)> {
    let mut facts = Vec::new();
    let mut rest = text;
    while let Some((key, behind)) = rest.split_once('=') {
        let key = key.rsplit(' ').next().unwrap_or(key);
        let (value, behind) = match behind.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let (value, behind) = behind.split_once(' ').unwrap_or((behind, ""));
                (value.to_owned(), behind)
            }
        };
        facts.push((key, value));
        rest = behind;
    }
    facts
}

/// A value up to its closing quote, and what stands behind it.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, text.get(at + 1..).unwrap_or_default()),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some('t') => value.push('\t'),
                Some('0') => value.push('\0'),
                Some('u') => {
                    let digits: String =
                        chars.by_ref().map(|(_, c)| c).skip(1).take_while(|c| *c != '}').collect();
                    let c = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                    value.push(c.unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                Some(other) => value.push(other),
                None => {}
            },
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::Line;

    #[test]
    fn a_slow_reader_is_told_what_it_missed() {
        let recent = Recent::new();
        for n in 0..MAX_LINES + 10 {
            recent.push(String::new(), Level::Info, &n.to_string());
        }
        let (lines, lost) = recent.read(0, 3, Duration::ZERO);
        assert_eq!((lost, lines.len(), lines[0].number), (10, 3, 11));
        let (lines, lost) = recent.read(lines[2].number, usize::MAX, Duration::ZERO);
        assert_eq!((lost, lines.len()), (0, MAX_LINES - 3));
        assert_eq!(recent.read(recent.last(), 9, Duration::ZERO), (Vec::new(), 0));
        // Octets are bounded too.
        for _ in 0..200 {
            recent.push(String::new(), Level::Info, &"x".repeat(7_000));
        }
        assert!(recent.lock().octets <= MAX_OCTETS);
    }

    #[test]
    fn who_waits_is_woken() {
        let recent = Arc::new(Recent::new());
        let other = Arc::clone(&recent);
        let waiting = std::thread::spawn(move || other.read(0, 1, Duration::from_secs(60)));
        recent.push(String::new(), Level::Warn, "event=x");
        assert_eq!(waiting.join().expect("ended").0.len(), 1);
    }

    proptest! {
        #[test]
        fn what_a_line_says_is_read_back(qid in "[a-z0-9]{1,9}", reply in "\\PC*", odd in ".*") {
            prop_assume!(reply.chars().count() < 900 && odd.chars().count() < 900);
            let line = Line::new("deferred").with("qid", &qid).with("reply", &reply).with("odd", &odd);
            let text = line.to_string();
            let facts = facts(&text);
            let wanted = vec![
                ("qid", qid), ("event", "deferred".to_owned()), ("reply", reply), ("odd", odd),
            ];
            prop_assert_eq!(facts, wanted);
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = facts(&text);
        }
    }
}
