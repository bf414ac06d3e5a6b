//! `queue summary` and `top`: what waits, in groups.
//!
//! Everything but the domains is found by looking through all that waits, a bounded step at a time; the number of groups
//! is bounded, what comes beyond it is counted together.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use mta_queue::{Open, RecipientState};
use serde_json::Value;

use super::normal::normal;
use super::{QueueOperations, Rows, failed, to_value};
use crate::control::protocol::{Done, Failure, SummaryArguments, SummaryBy};
use crate::control::views::{GroupView, TopView, rfc3339};

/// Groups where no limit is asked for.
const DEFAULT_LIMIT: usize = 50;

/// Groups kept apart, at most.
const MAX_GROUPS: usize = 10_000;

/// Where everything goes that found no room.
const OTHER: &str = "(other)";

/// Recipients looked at in one step.
const STEP: usize = 5_000;

/// Reasons and destinations on a screen.
const TOP_ROWS: usize = 10;

/// The reasons are gathered again after this time at the earliest, and after so many times what it took.
const GATHER_AGAIN: Duration = Duration::from_secs(5);
const GATHER_SHARE: u32 = 20;

/// What waits under one word.
#[derive(Debug, Clone, Default)]
struct Group {
    recipients: u64,
    held: u64,
    oldest: Option<SystemTime>,
    next: Option<SystemTime>,
}

impl Group {
    fn add(&mut self, open: &Open) {
        match open.state {
            RecipientState::Waiting => {
                self.recipients += 1;
                self.next = [self.next, Some(open.next_attempt_at)].into_iter().flatten().min();
            }
            _ => self.held += 1,
        }
        self.oldest = [self.oldest, Some(open.received_at)].into_iter().flatten().min();
    }

    fn view(self, key: String) -> GroupView {
        GroupView {
            key,
            recipients: self.recipients,
            held: self.held,
            oldest_at: self.oldest.map(rfc3339),
            next_attempt_at: self.next.map(rfc3339),
        }
    }
}

/// The reasons of what waits, and when they were gathered.
pub(super) struct Gathered {
    at: Instant,
    took: Duration,
    groups: Vec<GroupView>,
}

impl QueueOperations {
    /// A row for each group, the largest first; the ages from young to old.
    pub(super) fn summary(&self, arguments: &SummaryArguments, row: Rows<'_>) -> Result<Done, Failure> {
        let limit = if arguments.limit == 0 { DEFAULT_LIMIT } else { arguments.limit };
        let groups = self.groups(arguments.by)?;
        let mut done = Done { more: groups.len() > limit, ..Done::default() };
        for group in groups.iter().take(limit) {
            done.count += 1;
            if !row(to_value(group)?) {
                break;
            }
        }
        Ok(done)
    }

    fn groups(&self, by: SummaryBy) -> Result<Vec<GroupView>, Failure> {
        let now = SystemTime::now();
        let mut groups: HashMap<String, Group> = HashMap::new();
        // The normal form costs more than all else; copies of one reply often follow one another.
        let mut known: HashMap<String, String> = HashMap::new();
        let mut after = None;
        loop {
            let (open, last) = self.reader.open_recipients(after, STEP).map_err(failed)?;
            for open in &open {
                let key = match by {
                    SummaryBy::Domain => open.destination.clone(),
                    SummaryBy::Mx => open.remote.clone().unwrap_or_else(|| "(none yet)".to_owned()),
                    SummaryBy::Reason => reason(open, &mut known),
                    SummaryBy::Age => age(open.received_at, now).to_owned(),
                    SummaryBy::Sender => open.reverse_path.clone(),
                };
                let room = groups.len() < MAX_GROUPS || groups.contains_key(&key);
                groups.entry(if room { key } else { OTHER.to_owned() }).or_default().add(open);
            }
            if last.is_none() {
                break;
            }
            after = last;
        }
        let mut groups: Vec<GroupView> = groups.into_iter().map(|(key, group)| group.view(key)).collect();
        let place = |key: &str| AGES.iter().position(|(_, name)| *name == key);
        groups.sort_by(|a, b| match by {
            SummaryBy::Age => place(&a.key).cmp(&place(&b.key)),
            _ => (b.recipients + b.held).cmp(&(a.recipients + a.held)).then_with(|| a.key.cmp(&b.key)),
        });
        Ok(groups)
    }

    /// What a screen shows that is drawn again and again. The reasons are not gathered anew each time.
    pub(super) fn top(&self) -> Result<Value, Failure> {
        let status = self.status_view()?;
        let destinations = self.reader.destinations(TOP_ROWS).map_err(failed)?;
        let under_way = self.scheduler().map(|scheduler| scheduler.under_way()).unwrap_or_default();
        let now = SystemTime::now();
        let view = TopView {
            at: rfc3339(now),
            running: self.daemon.is_some(),
            queue: status.queue.clone(),
            status,
            under_way: under_way.into_iter().take(TOP_ROWS).map(|(hop, count)| (hop, count as u64)).collect(),
            destinations: destinations.iter().map(|found| self.destination_view(found, now)).collect(),
            reasons: self.reasons()?,
        };
        to_value(&view)
    }

    fn reasons(&self) -> Result<Vec<GroupView>, Failure> {
        let mut kept = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gathered) = kept.as_ref()
            && gathered.at.elapsed() < GATHER_AGAIN.max(gathered.took.saturating_mul(GATHER_SHARE))
        {
            return Ok(gathered.groups.clone());
        }
        let begun = Instant::now();
        let mut groups = self.groups(SummaryBy::Reason)?;
        groups.retain(|group| group.key != NOT_TRIED);
        groups.truncate(TOP_ROWS);
        *kept = Some(Gathered { at: Instant::now(), took: begun.elapsed(), groups: groups.clone() });
        Ok(groups)
    }
}

/// The reason of what was not tried yet.
const NOT_TRIED: &str = "(not tried yet)";

/// Why a recipient waits, in its normal form.
fn reason(open: &Open, known: &mut HashMap<String, String>) -> String {
    if let Some(note) = &open.note {
        return format!("(held) {}", normal(note));
    }
    let Some(reply) = &open.reply else { return NOT_TRIED.to_owned() };
    if let Some(normal) = known.get(reply) {
        return normal.clone();
    }
    let normal = normal(reply);
    if known.len() >= MAX_GROUPS {
        known.clear();
    }
    known.insert(reply.clone(), normal.clone());
    normal
}

/// Ages from young to old: seconds below which they are, and their names.
const AGES: [(u64, &str); 8] = [
    (300, "under 5m"),
    (1_800, "5m to 30m"),
    (3_600, "30m to 1h"),
    (14_400, "1h to 4h"),
    (43_200, "4h to 12h"),
    (86_400, "12h to 1d"),
    (259_200, "1d to 3d"),
    (u64::MAX, "over 3d"),
];

fn age(received_at: SystemTime, now: SystemTime) -> &'static str {
    let seconds = now.duration_since(received_at).map_or(0, |age| age.as_secs());
    AGES.iter().find(|(below, _)| seconds < *below).map_or("over 3d", |(_, name)| name)
}
