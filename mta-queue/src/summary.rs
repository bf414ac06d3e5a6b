//! What waits, in groups: by domain, by the host spoken to, by reason, by age, by sender.
//!
//! Domains come from the numbers that are kept for each and from indexes: they cost the same however much waits. The other
//! groups are counted while what waits is read once, a bounded step at a time, each in a snapshot of its own, so that
//! neither the write-ahead log nor another reader waits for the whole; a million recipients take one to two seconds. Groups are
//! bounded by `MAX_GROUPS`. What it does not: it lists no message.

use std::collections::HashMap;
use std::time::SystemTime;

use rusqlite::{Connection, Row, params};

use crate::destination;
use crate::error::QueueError;
use crate::reader::Reader;
use crate::reason::write_reason;
use crate::recipient::RecipientState;
use crate::time::{from_unix, unix_seconds};

/// Groups that are told apart; the rest is counted together as `OTHERS`.
const MAX_GROUPS: usize = 10_000;

/// Texts whose group is remembered.
const MAX_KNOWN: usize = 10_000;

/// Recipients read in one step.
const STEP: usize = 20_000;

/// The name of what is not told apart any more.
pub const OTHERS: &str = "(other)";

/// The reason of what was not tried yet.
pub const NOT_TRIED: &str = "(not tried yet)";

/// The host where none was spoken to.
pub const NO_HOST: &str = "(none yet)";

/// Ages from young to old: seconds below which they are, and their names.
const AGES: [(i64, &str); 8] = [
    (300, "under 5m"),
    (1_800, "5m to 30m"),
    (3_600, "30m to 1h"),
    (14_400, "1h to 4h"),
    (43_200, "4h to 12h"),
    (86_400, "12h to 1d"),
    (259_200, "1d to 3d"),
    (i64::MAX, "over 3d"),
];

/// What recipients are put together by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// Their domain.
    Domain,
    /// The MX or relay host that answered last.
    Host,
    /// The last reply or reason, without what belongs to one copy; the note of what is held.
    Reason,
    /// The time since their message arrived.
    Age,
    /// The reverse-path.
    Sender,
}

/// Recipients that have something in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they have in common.
    pub name: String,
    /// How many wait.
    pub waiting: u64,
    /// How many are held or set aside.
    pub held: u64,
    /// When the oldest of them arrived.
    pub oldest: Option<SystemTime>,
    /// The earliest next attempt of those that wait.
    pub next_attempt_at: Option<SystemTime>,
}

/// Recipients counted; times in seconds since 1970, ids of messages in microseconds.
#[derive(Debug, Clone, Copy)]
struct Count {
    waiting: u64,
    held: u64,
    oldest: i64,
    next_at: i64,
}

impl Count {
    const NONE: Self = Self { waiting: 0, held: 0, oldest: i64::MAX, next_at: i64::MAX };

    fn add(&mut self, message: i64, state: i64, next_at: i64) {
        if state == RecipientState::Waiting.code() {
            self.waiting += 1;
            self.next_at = self.next_at.min(next_at);
        } else {
            self.held += 1;
        }
        self.oldest = self.oldest.min(message);
    }

    fn group(self, name: String) -> Group {
        let known = |time: i64| (time != i64::MAX).then_some(time);
        Group {
            name,
            waiting: self.waiting,
            held: self.held,
            // Ids are times, in microseconds.
            oldest: known(self.oldest).map(|id| from_unix(id / 1_000_000)),
            next_attempt_at: known(self.next_at).map(from_unix),
        }
    }
}

/// Groups by name, bounded.
#[derive(Default)]
struct Groups {
    places: HashMap<String, usize>,
    counts: Vec<(String, Count)>,
    /// The groups of texts that came before.
    known: HashMap<String, usize>,
    /// The name that is looked for.
    name: String,
    /// The text before, which is often the next one too.
    last: Option<(String, usize)>,
}

impl Groups {
    /// The group of a text whose name `name` writes.
    fn of(&mut self, text: &str, name: impl FnOnce(&mut String)) -> usize {
        if let Some((last, place)) = &self.last
            && last == text
        {
            return *place;
        }
        let place = match self.known.get(text) {
            Some(place) => *place,
            None => {
                let place = self.place(name);
                if self.known.len() < MAX_KNOWN {
                    self.known.insert(text.to_owned(), place);
                }
                place
            }
        };
        let (last, at) = self.last.get_or_insert_default();
        last.clear();
        last.push_str(text);
        *at = place;
        place
    }

    /// The group of the name that is written; a new one where there is none yet.
    fn place(&mut self, name: impl FnOnce(&mut String)) -> usize {
        self.name.clear();
        name(&mut self.name);
        if let Some(place) = self.places.get(&self.name) {
            return *place;
        }
        if self.counts.len() >= MAX_GROUPS {
            self.name.clear();
            self.name.push_str(OTHERS);
            if let Some(place) = self.places.get(OTHERS) {
                return *place;
            }
        }
        self.counts.push((self.name.clone(), Count::NONE));
        self.places.insert(self.name.clone(), self.counts.len() - 1);
        self.counts.len() - 1
    }

    fn add(&mut self, place: usize, message: i64, state: i64, next_at: i64) {
        if let Some((_, count)) = self.counts.get_mut(place) {
            count.add(message, state, next_at);
        }
    }

    fn largest(self, limit: usize) -> Vec<Group> {
        let mut all = self.counts;
        let size = |count: &Count| count.waiting + count.held;
        all.sort_by(|(a_name, a), (b_name, b)| size(b).cmp(&size(a)).then_with(|| a_name.cmp(b_name)));
        all.truncate(limit);
        all.into_iter().map(|(name, count)| count.group(name)).collect()
    }
}

/// What waits or is held, behind a message: the key's columns, state, next attempt, and what it is grouped by.
fn statement(by: GroupBy) -> &'static str {
    match by {
        GroupBy::Host => {
            "SELECT message, state, next_at, remote FROM recipient
             WHERE message > ?1 AND state NOT BETWEEN 2 AND 5 ORDER BY message, n"
        }
        GroupBy::Reason => {
            "SELECT message, state, next_at, reply, note FROM recipient
             WHERE message > ?1 AND state NOT BETWEEN 2 AND 5 ORDER BY message, n"
        }
        GroupBy::Sender => {
            "SELECT r.message, r.state, r.next_at, m.reverse_path FROM recipient r CROSS JOIN message m ON m.id = r.message
             WHERE r.message > ?1 AND r.state NOT BETWEEN 2 AND 5 ORDER BY r.message, r.n"
        }
        GroupBy::Age | GroupBy::Domain => {
            "SELECT message, state, next_at FROM recipient
             WHERE message > ?1 AND state NOT BETWEEN 2 AND 5 ORDER BY message, n"
        }
    }
}

impl Reader {
    /// What waits, is held or was set aside, in groups: `limit` at most, the largest first; ages from young to old.
    ///
    /// # Errors
    /// What the database reports.
    pub fn groups(&self, by: GroupBy, now: SystemTime, limit: usize) -> Result<Vec<Group>, QueueError> {
        if by == GroupBy::Domain {
            return domains(&self.lock(), limit);
        }
        let now = unix_seconds(now);
        let mut groups = Groups::default();
        let mut ages = AGES.map(|_| Count::NONE);
        let mut after = Some(-1);
        while let Some(behind) = after {
            after = self.step(statement(by), behind, |row, message, state, next_at| match by {
                GroupBy::Age => {
                    let age = now - message / 1_000_000;
                    let place = AGES.iter().position(|(below, _)| age < *below).unwrap_or(AGES.len() - 1);
                    if let Some(count) = ages.get_mut(place) {
                        count.add(message, state, next_at);
                    }
                }
                _ => {
                    let place = place_of(&mut groups, by, row);
                    groups.add(place, message, state, next_at);
                }
            })?;
        }
        if by == GroupBy::Age {
            let ages = AGES.iter().zip(ages).filter(|(_, count)| count.waiting + count.held > 0);
            return Ok(ages.take(limit).map(|((_, name), count)| count.group((*name).to_owned())).collect());
        }
        Ok(groups.largest(limit))
    }

    /// Reads a step; the message to go on behind, `None` at the end.
    fn step(
        &self,
        statement: &str,
        after: i64,
        mut each: impl FnMut(&Row<'_>, i64, i64, i64),
    ) -> Result<Option<i64>, QueueError> {
        let connection = self.lock();
        let mut read = connection.prepare_cached(statement)?;
        let mut rows = read.query([after])?;
        let (mut count, mut last) = (0, after);
        while let Some(row) = rows.next()? {
            let message: i64 = row.get(0)?;
            // A message is never parted: its recipients beyond a step would be passed over.
            if count >= STEP && message != last {
                return Ok(Some(last));
            }
            last = message;
            count += 1;
            // A value of the wrong type is damage, which is no reason to count nothing.
            each(row, message, row.get(1).unwrap_or(6), row.get(2).unwrap_or(i64::MAX));
        }
        Ok(None)
    }
}

/// The group of a row.
fn place_of(groups: &mut Groups, by: GroupBy, row: &Row<'_>) -> usize {
    let text = |column| row.get_ref(column).ok().and_then(|value| value.as_str().ok());
    match by {
        GroupBy::Host => {
            let host = text(3).unwrap_or(NO_HOST);
            groups.of(host, |name| name.push_str(host))
        }
        GroupBy::Sender => {
            let path = text(3).unwrap_or_default();
            let bare = path.strip_prefix('<').and_then(|path| path.strip_suffix('>'));
            let path = bare.filter(|bare| !bare.is_empty()).unwrap_or(path);
            groups.of(path, |name| name.push_str(path))
        }
        GroupBy::Reason => match (text(4), text(3)) {
            (Some(note), _) => groups.place(|name| {
                name.push_str("(held) ");
                write_reason(note, name);
            }),
            (None, Some(reply)) if !reply.is_empty() => groups.of(reply, |name| write_reason(reply, name)),
            _ => groups.of("", |name| name.push_str(NOT_TRIED)),
        },
        GroupBy::Domain | GroupBy::Age => groups.place(|name| name.push_str(OTHERS)),
    }
}

/// The oldest message that waits for a destination or is held; ?2 where there is none.
const OLDEST_OF: &str = "SELECT min(
    (SELECT ifnull(min(message), ?2) FROM recipient WHERE destination = ?1 AND state = 0),
    (SELECT ifnull(min(message), ?2) FROM recipient WHERE destination = ?1 AND state IN (1, 6)))";

/// The domains with the most waiting; what goes another way by the administrator's wish is counted with its domain.
fn domains(connection: &Connection, limit: usize) -> Result<Vec<Group>, QueueError> {
    let mut find = connection.prepare_cached(
        "SELECT id, name, waiting, held, due_at FROM destination WHERE waiting + held > 0
         ORDER BY waiting + held DESC, name LIMIT ?1",
    )?;
    // By index: the first entry of each.
    let mut oldest = connection.prepare_cached(OLDEST_OF)?;
    let mut groups = Groups::default();
    let mut rows = find.query([i64::try_from(limit.min(MAX_GROUPS)).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        let (id, name): (i64, String) = (row.get(0)?, row.get(1)?);
        let count = |column| row.get::<_, i64>(column).map(|n| u64::try_from(n).unwrap_or(0));
        let place = groups.place(|out| out.push_str(destination::parts(&name).0));
        let oldest: i64 = oldest.query_row(params![id, i64::MAX], |row| row.get(0))?;
        if let Some((_, all)) = groups.counts.get_mut(place) {
            all.waiting += count(2)?;
            all.held += count(3)?;
            all.oldest = all.oldest.min(oldest);
            all.next_at = all.next_at.min(row.get::<_, Option<i64>>(4)?.unwrap_or(i64::MAX));
        }
    }
    Ok(groups.largest(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_bounded() {
        let mut groups = Groups::default();
        for n in 0..MAX_GROUPS as i64 + 50 {
            let place = groups.of(&n.to_string(), |name| name.push_str(&n.to_string()));
            groups.add(place, n, 0, 7);
        }
        assert_eq!(groups.counts.len(), MAX_GROUPS + 1);
        let largest = groups.largest(1);
        assert_eq!((largest[0].name.as_str(), largest[0].waiting), (OTHERS, 50));
    }

    #[test]
    fn the_oldest_of_a_domain_is_found_by_index() {
        let plan = crate::schema::tests::plan(OLDEST_OF);
        for index in ["recipient_age", "recipient_held"] {
            assert!(plan.iter().any(|step| step.contains(index)), "{plan:?}");
        }
    }
}
