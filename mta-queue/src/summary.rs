//! A summary of what waits: by domain, by the host spoken to, by reason and by age, in one pass over the recipients.
//!
//! Domains come from the numbers that are kept for each; the other groups are counted while the rows are read, with memory
//! bounded by `MAX_GROUPS`. A million recipients take about a second. What it does not: it lists no message.

use std::collections::HashMap;
use std::time::SystemTime;

use crate::admin::Counts;
use crate::error::QueueError;
use crate::reader::Reader;
use crate::time::{from_unix, unix_seconds};
use crate::totals::Totals;

/// Groups of one kind that are told apart; the rest is counted together as `OTHERS`.
const MAX_GROUPS: usize = 10_000;

/// Octets of a reason that make its group.
const MAX_REASON_BYTES: usize = 160;

/// The name of what is not told apart any more.
pub const OTHERS: &str = "(others)";

/// The name of the host, or of the reason, where nothing was tried yet.
pub const NOT_TRIED: &str = "(not tried yet)";

/// Ages that are told apart: up to so many seconds, and the word.
const AGES: [(i64, &str); 6] =
    [(300, "5m"), (3_600, "1h"), (21_600, "6h"), (86_400, "1d"), (259_200, "3d"), (i64::MAX, "older")];

/// What waits, is held or was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The totals.
    pub counts: Counts,
    /// By recipient domain, the largest first.
    pub domains: Vec<Group>,
    /// By the MX or relay host that was spoken to last, the largest first.
    pub hosts: Vec<Group>,
    /// By the last reply or reason, numbers and names of one's own left out, the largest first.
    pub reasons: Vec<Group>,
    /// By age, the youngest first: `5m`, `1h`, `6h`, `1d`, `3d`, `older`.
    pub ages: Vec<Group>,
}

/// Recipients that have something in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they have in common.
    pub name: String,
    /// How many: waiting, held and set aside.
    pub recipients: u64,
    /// When the oldest of them was accepted; not known for domains.
    pub oldest: Option<SystemTime>,
}

/// Recipients counted, and the smallest message id among them.
#[derive(Clone, Copy)]
struct Count {
    recipients: u64,
    oldest: i64,
}

/// Counts by name, bounded.
#[derive(Default)]
struct Groups(HashMap<String, Count>);

impl Groups {
    fn add(&mut self, name: &str, message: i64) {
        let full = self.0.len() >= MAX_GROUPS;
        let name = if full && !self.0.contains_key(name) { OTHERS } else { name };
        match self.0.get_mut(name) {
            Some(count) => {
                count.recipients += 1;
                count.oldest = count.oldest.min(message);
            }
            None => drop(self.0.insert(name.to_owned(), Count { recipients: 1, oldest: message })),
        }
    }

    fn largest(self, limit: usize) -> Vec<Group> {
        let mut all: Vec<Group> = self.0.into_iter().map(|(name, count)| group(name, count)).collect();
        all.sort_by(|a, b| b.recipients.cmp(&a.recipients).then_with(|| a.name.cmp(&b.name)));
        all.truncate(limit);
        all
    }
}

fn group(name: String, count: Count) -> Group {
    // Ids are times, in microseconds.
    let oldest = Some(from_unix(count.oldest / 1_000_000));
    Group { name, recipients: count.recipients, oldest }
}

impl Reader {
    /// The summary, at most `limit` groups of each kind. Reads every recipient that waits: about a second for a million.
    ///
    /// # Errors
    /// What the database reports.
    pub fn summary(&self, now: SystemTime, limit: usize) -> Result<Summary, QueueError> {
        let connection = self.lock();
        let snapshot = connection.unchecked_transaction()?;
        let counts = Totals::load(&snapshot)?.counts();
        let mut find = snapshot.prepare_cached(
            "SELECT name, waiting + held FROM destination WHERE waiting + held > 0
             ORDER BY waiting + held DESC, name LIMIT ?1",
        )?;
        let domains = find.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            let recipients = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
            Ok(Group { name: row.get(0)?, recipients, oldest: None })
        })?;
        let domains = domains.collect::<Result<Vec<_>, _>>()?;
        let now = unix_seconds(now);
        let (mut hosts, mut reasons) = (Groups::default(), Groups::default());
        let mut ages: [Option<Count>; AGES.len()] = [None; AGES.len()];
        // Reasons come in long runs of the same one: each is reduced to its group once.
        let (mut last_reply, mut last_reason) = (String::new(), reason(None));
        let mut read = snapshot
            .prepare_cached("SELECT message, reply, remote FROM recipient WHERE state NOT BETWEEN 2 AND 5")?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()? {
            let message: i64 = row.get(0)?;
            // A value of the wrong type is damage, which is no reason to count nothing.
            let text = |column| row.get_ref(column).ok().and_then(|value| value.as_str().ok());
            let reply = text(1);
            if reply.unwrap_or_default() != last_reply {
                reply.unwrap_or_default().clone_into(&mut last_reply);
                last_reason = reason(reply);
            }
            reasons.add(&last_reason, message);
            hosts.add(text(2).unwrap_or(NOT_TRIED), message);
            let age = now - message / 1_000_000;
            let place = AGES.iter().position(|(up_to, _)| age < *up_to).unwrap_or(AGES.len() - 1);
            if let Some(slot) = ages.get_mut(place) {
                let count = slot.get_or_insert(Count { recipients: 0, oldest: message });
                count.recipients += 1;
                count.oldest = count.oldest.min(message);
            }
        }
        let ages = AGES.iter().zip(ages);
        let ages = ages.filter_map(|((_, word), count)| count.map(|count| group((*word).to_owned(), count)));
        Ok(Summary {
            counts,
            domains,
            hosts: hosts.largest(limit),
            reasons: reasons.largest(limit),
            ages: ages.collect(),
        })
    }
}

/// The group of a reply: words with digits or an at sign, which differ from message to message, are left out, but for the
/// codes at its beginning.
fn reason(reply: Option<&str>) -> String {
    let Some(reply) = reply.filter(|reply| !reply.is_empty()) else { return NOT_TRIED.to_owned() };
    let mut group = String::new();
    for (n, word) in reply.split_whitespace().enumerate() {
        let own = word.contains('@') || word.bytes().any(|byte| byte.is_ascii_digit());
        let code = n < 2 && word.bytes().all(|byte| byte.is_ascii_digit() || b".-".contains(&byte));
        let word = if own && !code { "…" } else { word };
        if group.len() + word.len() > MAX_REASON_BYTES {
            break;
        }
        if !(word == "…" && group.ends_with('…')) {
            if !group.is_empty() {
                group.push(' ');
            }
            group.push_str(word);
        }
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_that_differ_only_in_their_own_numbers_are_one_reason() {
        for (reply, group) in [
            (None, NOT_TRIED),
            (Some("connection timed out"), "connection timed out"),
            (
                Some("450 4.2.1 <a@one.example>: try again in 300 seconds"),
                "450 4.2.1 … try again in … seconds",
            ),
            (
                Some("450 4.2.1 <b@one.example>: try again in 17 seconds"),
                "450 4.2.1 … try again in … seconds",
            ),
            (Some("451 gsmtp a1b2 c3d4 5e6f"), "451 gsmtp …"),
        ] {
            assert_eq!(reason(reply), group);
        }
    }

    #[test]
    fn groups_are_bounded() {
        let mut groups = Groups::default();
        (0..MAX_GROUPS as i64 + 50).for_each(|n| groups.add(&n.to_string(), n));
        assert_eq!(groups.0.len(), MAX_GROUPS + 1);
        assert_eq!(groups.largest(1)[0].name, OTHERS);
    }
}
