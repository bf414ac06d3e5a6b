//! `queue summary` and `top`: what waits, in groups. The queue counts; here is how it is asked and shown.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use mta_queue::{Group, GroupBy, Reader};
use serde_json::Value;

use super::{QueueOperations, Rows, failed, to_value};
use crate::control::protocol::{Done, Failure, SummaryArguments, SummaryBy};
use crate::control::views::{GroupView, TopView, rfc3339};

/// Groups where no limit is asked for.
const DEFAULT_LIMIT: usize = 50;

/// Reasons and destinations on a screen.
const TOP_ROWS: usize = 10;

/// The reasons are gathered again after this time at the earliest, and after so many times what it took.
const GATHER_AGAIN: Duration = Duration::from_secs(5);
const GATHER_SHARE: u32 = 20;

/// A screen waits so long for the reasons; those of a long queue come with one of the next.
const GATHER_WAIT: Duration = Duration::from_millis(50);

/// The reasons of what waits, and when they were gathered.
#[derive(Default)]
pub(super) struct Reasons {
    kept: Mutex<Gathered>,
    done: Condvar,
}

#[derive(Default)]
struct Gathered {
    running: bool,
    again_at: Option<Instant>,
    groups: Vec<GroupView>,
}

impl QueueOperations {
    /// A row for each group, the largest first; the ages from young to old.
    pub(super) fn summary(&self, arguments: &SummaryArguments, row: Rows<'_>) -> Result<Done, Failure> {
        let limit = if arguments.limit == 0 { DEFAULT_LIMIT } else { arguments.limit };
        let by = match arguments.by {
            SummaryBy::Domain => GroupBy::Domain,
            SummaryBy::Mx => GroupBy::Host,
            SummaryBy::Reason => GroupBy::Reason,
            SummaryBy::Age => GroupBy::Age,
            SummaryBy::Sender => GroupBy::Sender,
        };
        let groups = self.reader.groups(by, SystemTime::now(), limit.saturating_add(1)).map_err(failed)?;
        let mut done = Done { more: groups.len() > limit, ..Done::default() };
        for group in groups.into_iter().take(limit) {
            done.count += 1;
            if !row(to_value(&GroupView::from(group))?) {
                break;
            }
        }
        Ok(done)
    }

    /// What a screen shows that is drawn again and again. The reasons are not gathered anew each time.
    pub(super) fn top(&self) -> Result<Value, Failure> {
        let status = self.status_view()?;
        let destinations = self.reader.destinations(TOP_ROWS).map_err(failed)?;
        let under_way = self.scheduler().map(|scheduler| scheduler.under_way()).unwrap_or_default();
        let now = SystemTime::now();
        let hops = self.next_hops();
        let (reasons, reasons_pending) = Reasons::recent(&self.reasons, &self.reader);
        let view = TopView {
            at: rfc3339(now),
            running: self.daemon.is_some(),
            queue: status.queue.clone(),
            status,
            under_way: under_way.into_iter().take(TOP_ROWS).map(|(hop, count)| (hop, count as u64)).collect(),
            destinations: destinations.iter().map(|found| self.destination_view(found, &hops, now)).collect(),
            reasons,
            reasons_pending,
        };
        to_value(&view)
    }
}

impl Reasons {
    /// The reasons as they were last gathered, and whether that is still to come. Where it is long ago they are gathered
    /// anew by a thread that ends with it, so that no screen waits for a long queue.
    fn recent(this: &Arc<Self>, reader: &Reader) -> (Vec<GroupView>, bool) {
        let mut kept = this.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.running && kept.again_at.is_none_or(|at| at <= Instant::now()) {
            let (all, reader) = (Arc::clone(this), reader.clone());
            let gather = move || all.gather(&reader);
            kept.running = std::thread::Builder::new().name("reasons".to_owned()).spawn(gather).is_ok();
        }
        let waited = this.done.wait_timeout_while(kept, GATHER_WAIT, |kept| kept.running);
        let kept = waited.unwrap_or_else(PoisonError::into_inner).0;
        (kept.groups.clone(), kept.running && kept.again_at.is_none())
    }

    fn gather(&self, reader: &Reader) {
        let begun = Instant::now();
        let groups = reader.groups(GroupBy::Reason, SystemTime::now(), TOP_ROWS + 1);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(groups) = groups {
            let tried = groups.into_iter().filter(|group| group.name != mta_queue::summary::NOT_TRIED);
            kept.groups = tried.take(TOP_ROWS).map(GroupView::from).collect();
        }
        kept.running = false;
        kept.again_at = Some(Instant::now() + GATHER_AGAIN.max(begun.elapsed() * GATHER_SHARE));
        self.done.notify_all();
    }
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        Self {
            key: group.name,
            recipients: group.waiting,
            held: group.held,
            oldest_at: group.oldest.map(rfc3339),
            next_attempt_at: group.next_attempt_at.map(rfc3339),
        }
    }
}
