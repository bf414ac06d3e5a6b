//! From the verdicts on messages to the counters: gathered in memory, added to the database a minute later at most.
//!
//! Counting a message takes no write and no sync of its own; a killed process loses a minute's counts, which are statistics.
//! Memory is bounded by [`MAX_GATHERED`] kinds: with more the gathered ones are handed on at once.
//!
//! Not counted is mail of a domain that asks for no reports, and mail that is such a report itself and proved to be its
//! author's: two servers would report to each other for ever about nothing but reports.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use mta_queue::{DmarcCounts, Queue, QueueError, day_of};
use smol::Timer;

use super::row::{PublishedPolicy, Row};
use crate::auth::policy::Evaluated;
use crate::auth::verdict::{Verdicts, Word};
use crate::content::header::Header;

/// Kinds of messages held in memory.
const MAX_GATHERED: usize = 500;

/// How long they are held.
const GATHER: Duration = Duration::from_secs(60);

/// How the subject of a report begins (RFC 9990 3.5, RFC 8460 5.3).
const REPORT_SUBJECT: &str = "report domain:";

/// What was counted for one domain on one day.
#[derive(Debug, Default)]
struct Gathered {
    policy: String,
    rows: HashMap<String, u64>,
}

/// Counts messages. One for the process.
pub struct Counter {
    queue: Queue,
    gathered: Mutex<BTreeMap<(i64, String), Gathered>>,
    wake: (async_channel::Sender<()>, async_channel::Receiver<()>),
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counter").finish_non_exhaustive()
    }
}

impl Counter {
    /// Into this queue's database.
    pub fn new(queue: Queue) -> Arc<Self> {
        Arc::new(Self { queue, gathered: Mutex::default(), wake: async_channel::bounded(1) })
    }

    fn gathered(&self) -> MutexGuard<'_, BTreeMap<(i64, String), Gathered>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a message that was verified.
    pub(crate) fn count(
        &self,
        client: IpAddr,
        envelope_from: Option<&str>,
        header: &Header,
        verdicts: &Verdicts,
        evaluated: &Evaluated,
        now: SystemTime,
    ) {
        let Some(published) = &verdicts.dmarc.published else { return };
        if published.rua.is_empty() || is_report(header, verdicts) {
            return;
        }
        let row = Row::of(client, envelope_from, verdicts, evaluated);
        // Plain data, which always is JSON.
        let (Ok(data), Ok(policy)) =
            (serde_json::to_string(&row), serde_json::to_string(&PublishedPolicy::from(published)))
        else {
            return;
        };
        self.add(day_of(now), published.domain.clone(), policy, data);
    }

    fn add(&self, day: i64, domain: String, policy: String, data: String) {
        let full = {
            let mut gathered = self.gathered();
            let of_domain = gathered.entry((day, domain)).or_default();
            of_domain.policy = policy;
            *of_domain.rows.entry(data).or_default() += 1;
            gathered.values().map(|it| it.rows.len()).sum::<usize>() >= MAX_GATHERED
        };
        if full {
            self.flush(|_| {});
        }
        // A full channel holds the news already.
        let _ = self.wake.0.try_send(());
    }

    /// Hands on what was gathered; `done` is called on the writer's thread after the commit and must not block.
    pub fn flush(&self, done: impl FnOnce(Result<(), QueueError>) + Send + 'static) {
        let gathered = std::mem::take(&mut *self.gathered());
        let counts = gathered.into_iter().map(|((day, domain), it)| DmarcCounts {
            day,
            domain,
            policy: it.policy,
            rows: it.rows.into_iter().collect(),
            left_out: 0,
        });
        let counts: Vec<DmarcCounts> = counts.collect();
        if counts.is_empty() { done(Ok(())) } else { self.queue.count_dmarc(counts, done) }
    }

    /// Works for as long as it is let: sleeps while nothing is counted.
    pub async fn run(self: Arc<Self>) {
        while self.wake.1.recv().await.is_ok() {
            Timer::after(GATHER).await;
            self.flush(|_| {});
        }
    }
}

/// Whether the message is a report to us, from whom it says.
fn is_report(header: &Header, verdicts: &Verdicts) -> bool {
    let subject = |field: crate::content::header::Field<'_>| {
        let text = String::from_utf8_lossy(field.value).to_ascii_lowercase();
        text.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(REPORT_SUBJECT)
    };
    verdicts.dmarc.word == Word::Pass && header.all("subject").any(subject)
}
