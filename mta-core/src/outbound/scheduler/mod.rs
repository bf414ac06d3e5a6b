//! The scheduler: takes due work out of the queue, hands it on, writes down what came of it.
//!
//! What it does: keeps the bounds on deliveries at once, in all and for each next-hop, so that a stuck destination
//! never holds up another; sleeps until something is due, something ends, or somebody says there is work. What it does
//! not: it knows no SMTP and no mailbox (`Deliver` does), and it holds no queue in memory: only the claims under way.

mod alert_mail;
mod by_hand;
mod forward;
mod hops;
mod learn;
mod limit;
mod notices;
mod notify;
mod settle;
mod signs;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_io::Timer;
use futures_lite::FutureExt;
use futures_lite::future::{or, pending};
use mta_queue::{Claim, ContentReader, Due, Planner, Queue, QueueError, QueueId, Slot};
use mta_smtp::address::Mailbox;
use mta_smtp::reply::EnhancedStatus;

use super::{AttemptReport, ContentSource, Decision, Job, Outcome, Reach, RecipientOutcome, Verdict};
use crate::alert::Alerts;
use crate::auth::dkim::KeyRing;
use crate::auth::srs::Srs;
use crate::log::Line;
use crate::pause::Pauses;
use crate::report::told::StrangerReports;
use crate::routing::Route;
use crate::stop::Stop;
use crate::user::Service as Users;

pub use mta_queue::schedule::Schedule;

pub use hops::HopView;

use super::breaker::{self, Breaker, Outages};
use super::provider::Providers;
use hops::{Ask, Hops, Key, Keys};
use limit::{Bounds, Wave};
use notices::Notices;
use settle::Part;

/// After the queue could not be read or written, so long until it is asked again: a result that cannot be written down
/// would otherwise be delivered again and again.
const STORAGE_PAUSE: Duration = Duration::from_secs(60);

/// The longest sleep. Nothing depends on it but a clock that was set: work is announced.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// A delivery under way.
pub type Delivery = Pin<Box<dyn Future<Output = AttemptReport> + Send>>;

/// What the scheduler hands work to.
pub trait Deliver: Send + Sync {
    /// Where the mail for a recipient domain goes now.
    fn route(&self, destination: &str) -> Route;

    /// Delivers. Every recipient of the job has an outcome afterwards.
    fn deliver(&self, job: Job) -> Delivery;
}

/// What can be set about it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Deliveries at once.
    pub deliveries: usize,
    /// Deliveries at once to one next-hop, at most; how many it takes is found out.
    pub deliveries_per_next_hop: usize,
    /// Where that begins.
    pub first_deliveries_per_next_hop: usize,
    /// When the fault is ours.
    pub breaker: breaker::Settings,
    /// Those of the attempts, as far as the scheduler needs them: the address families in use.
    pub outbound: super::Options,
    /// When to try again, and for how long.
    pub schedule: Schedule,
    /// Our host name, for notifications.
    pub hostname: String,
    /// What stands still by the administrator's wish.
    pub pauses: Pauses,
    /// The largest message that comes back whole with the notification of its failure, where its sender wants that, octets.
    pub max_returned_bytes: u64,
    /// Notifications that may go to strangers within an hour.
    pub stranger_reports_per_hour: u32,
    /// Who gets the digest of failures that no sender is told of; nobody where unset.
    pub postmaster: Option<Mailbox>,
    /// How long failures are collected for a digest, from the first. Zero: none is sent.
    pub digest_interval: Duration,
    /// Whether the postmaster gets mail about alerts.
    pub alert_mail: bool,
    /// Rewrites the sender of what is forwarded. Nobody.
    pub srs: Option<Arc<Srs>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            deliveries: 100,
            deliveries_per_next_hop: 20,
            first_deliveries_per_next_hop: 5,
            breaker: breaker::Settings::default(),
            outbound: super::Options::default(),
            schedule: Schedule::default(),
            hostname: "localhost".into(),
            pauses: Pauses::default(),
            max_returned_bytes: 1 << 20,
            stranger_reports_per_hour: 20,
            postmaster: None,
            digest_interval: Duration::from_secs(86_400),
            alert_mail: true,
            srs: None,
        }
    }
}

impl Options {
    fn bounds(&self) -> Bounds {
        let of = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Bounds { initial: of(self.first_deliveries_per_next_hop), max: of(self.deliveries_per_next_hop) }
    }
}

/// What the scheduler shares with others.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// Where the administrator is told.
    pub alerts: Alerts,
    /// What is known of mail providers; the attempts have the same.
    pub providers: Arc<Providers>,
    /// The keys that sign what we write ourselves, and seal what is forwarded.
    pub keys: Option<Arc<KeyRing>>,
    /// Who is told which recipients of our users do not exist elsewhere.
    pub users: Option<Arc<Users>>,
}

/// The scheduler. One for the process; shared by its tasks.
pub struct Scheduler {
    queue: Queue,
    deliver: Arc<dyn Deliver>,
    options: Mutex<Arc<Options>>,
    /// What is under way, by next-hop. Held for a moment only, never across a wait.
    hops: Mutex<Hops>,
    breaker: Mutex<Breaker>,
    outages: Mutex<Outages>,
    site: Site,
    wake: (async_channel::Sender<()>, async_channel::Receiver<()>),
    /// Nothing is claimed before this time.
    paused_until: Mutex<Option<SystemTime>>,
    /// Notifications that went to strangers of late.
    stranger_reports: Mutex<StrangerReports>,
    /// What falls due by the clock alone.
    notices: Mutex<Notices>,
    /// When the postmaster had mail about alerts, within the last day.
    alert_mails: Mutex<Vec<SystemTime>>,
}

impl Scheduler {
    /// A scheduler for this queue; nothing happens before `run`.
    pub fn new(queue: Queue, deliver: Arc<dyn Deliver>, options: Options, site: Site) -> Arc<Self> {
        let scheduler = Arc::new(Self {
            queue,
            deliver,
            options: Mutex::new(Arc::new(options)),
            hops: Mutex::default(),
            breaker: Mutex::default(),
            outages: Mutex::default(),
            site,
            wake: async_channel::bounded(1),
            paused_until: Mutex::new(None),
            stranger_reports: Mutex::default(),
            notices: Mutex::default(),
            alert_mails: Mutex::default(),
        });
        scheduler.recall(SystemTime::now());
        let sender = scheduler.wake.0.clone();
        scheduler.queue.on_work(Arc::new(move || {
            // A full channel holds the news already.
            let _ = sender.try_send(());
        }));
        let sender = scheduler.wake.0.clone();
        scheduler.site.alerts.on_news(Arc::new(move || {
            let _ = sender.try_send(());
        }));
        scheduler
    }

    /// Says that work may have become due.
    pub fn notify(&self) {
        let _ = self.wake.0.try_send(());
    }

    /// Tries relay hosts again that are in back-off: an administrator asked for a retry.
    pub fn retry_next_hops(&self) {
        self.hops().forgive();
        self.site.providers.memory().forget_all();
        self.breaker().try_now(SystemTime::now());
        self.notify();
    }

    /// From now on these options.
    pub fn reload(&self, options: Options) {
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(options);
        self.look_at_once();
        self.retry_next_hops();
    }

    /// How many deliveries are under way.
    pub fn deliveries(&self) -> usize {
        self.hops().total()
    }

    fn hops(&self) -> MutexGuard<'_, Hops> {
        self.hops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn options(&self) -> Arc<Options> {
        Arc::clone(&self.options.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Works until the signal to stop; then claims nothing more, gives up what has sent no content yet, and waits for the
    /// rest, at most `grace`. What is cut off then was not acknowledged by its next-hop, or its acknowledgement is lost: it
    /// is tried again.
    pub async fn run(self: Arc<Self>, stop: Stop, grace: Duration) {
        let executor = smol::Executor::new();
        executor.run(self.work(&executor, &stop)).await;
        let drained = async {
            while self.deliveries() > 0 {
                let _ = self.wake.1.recv().await;
            }
        };
        let late = async {
            Timer::after(grace).await;
        };
        executor.run(or(drained, late)).await;
        if self.deliveries() > 0 {
            ::log::warn!("{}", Line::new("deliveries-cut").with("deliveries", self.deliveries()));
        }
    }

    async fn work<'a>(self: &Arc<Self>, executor: &smol::Executor<'a>, stop: &Stop) {
        while !stop.is_fired() {
            let next = self.claim_and_start(executor, stop).await;
            // After the claims: what is in hand now is told of when it comes back.
            let notices = self.give_notices().await.min(self.mail_alerts().await);
            let sleep = async {
                match next {
                    Next::At(time) => drop(Timer::after(until(time.min(notices))).await),
                    Next::WhenSomethingEnds => drop(Timer::after(until(notices)).await),
                    Next::Now => {}
                }
            };
            let woken = async {
                let _ = self.wake.1.recv().await;
            };
            or(stop.wait(), or(woken, sleep)).await;
        }
    }

    /// One round: as much due work as there is room for.
    async fn claim_and_start<'a>(self: &Arc<Self>, executor: &smol::Executor<'a>, stop: &Stop) -> Next {
        let now = SystemTime::now();
        if let Some(until) = self.paused(now) {
            return Next::At(until);
        }
        let options = self.options();
        let room = options.deliveries.saturating_sub(self.deliveries());
        if room == 0 {
            return Next::WhenSomethingEnds;
        }
        let scheduler = Arc::clone(self);
        let claimed = smol::unblock(move || {
            let given = HashMap::new();
            let (remote, _) = scheduler.remote_room(now);
            let mut slots = Slots { scheduler: &scheduler, options: &options, now, given, room, remote };
            scheduler.queue.claim(now, room, &mut slots)
        })
        .await;
        match claimed {
            Ok(claimed) => {
                for claim in claimed.claims {
                    self.start(claim, executor, stop.clone());
                }
                // What had no room has it when something ends, which wakes; or when the breaker has the next probe.
                let probe = self.remote_room(now).1.filter(|_| claimed.more);
                match [claimed.next_due, probe].into_iter().flatten().min() {
                    _ if claimed.unfinished => Next::Now,
                    Some(time) => Next::At(time),
                    None => Next::WhenSomethingEnds,
                }
            }
            Err(error) => Next::At(self.pause(&error, now)),
        }
    }

    fn start<'a>(self: &Arc<Self>, claim: Claim<Route>, executor: &smol::Executor<'a>, stop: Stop) {
        let place = Place::take(Arc::clone(self), &claim.next_hop);
        let scheduler = Arc::clone(self);
        executor
            .spawn(async move {
                scheduler.attempt(claim, &place, &stop).await;
                drop(place);
            })
            .detach();
    }

    /// One claim from its delivery to its record, and what else its failure ends.
    async fn attempt(self: &Arc<Self>, claim: Claim<Route>, place: &Place, stop: &Stop) {
        // A delivery of our own goes on where nobody waits for it any more: it is never given up.
        let begun = Arc::new(AtomicBool::new(claim.next_hop == Route::Local));
        let job = self.job(&claim, Arc::clone(&begun));
        let own = claim.recipients.iter().map(|r| r.destination_failures).max().unwrap_or_default();
        let failures = own.max(self.hops().failures(&claim.next_hop));
        let recipients = job.recipients.clone();
        let delivery = AssertUnwindSafe(self.deliver.deliver(job)).catch_unwind();
        let mut report = match unless_stopped(delivery, &begun, stop).await {
            Some(Ok(report)) => report,
            // The claim is dropped as it was: due again.
            None => {
                self.breaker().cut_off(SystemTime::now());
                return ::log::info!("{}", Line::new("put-off").with("qid", claim.message.id));
            }
            Some(Err(_)) => {
                ::log::error!("{}", Line::new("delivery-panicked").with("qid", claim.message.id));
                AttemptReport::default()
            }
        };
        // Every recipient has an outcome, or it would be due again at once.
        let missing = recipients.iter().skip(report.outcomes.len()).map(without_outcome);
        report.outcomes.extend(missing);
        let others = self.hops().under_way(&place.keys) > 1;
        let attempted = self.attempted(&claim, &report, failures, place.wave, others);
        let settled = match self.settle(claim, report.clone(), Part::Attempt(Box::new(attempted))).await {
            Ok(settled) => self.expire(settled, report).await,
            Err(error) => Err(error),
        };
        if let Err(error) = settled {
            self.pause(&error, SystemTime::now());
        }
    }

    fn job(&self, claim: &Claim<Route>, begun: Arc<AtomicBool>) -> Job {
        let message = &claim.message;
        // Rules go by the domain, whatever way was chosen for it.
        let domain = |destination: &str| mta_queue::destination_parts(destination).0.to_owned();
        let first = claim.recipients.first().map(|r| domain(&r.destination));
        Job {
            queue_id: message.id.to_string(),
            destination: first.unwrap_or_default(),
            route: claim.next_hop.clone(),
            reverse_path: message.reverse_path.clone(),
            parameters: message.parameters.clone(),
            size_bytes: message.size_bytes,
            recipients: claim.recipients.iter().map(|r| r.recipient.clone()).collect(),
            content: Arc::new(QueueContent { queue: self.queue.clone(), id: message.id, begun }),
            accepted_at_unix: unix(message.received_at),
        }
    }

    fn paused(&self, now: SystemTime) -> Option<SystemTime> {
        self.paused_until.lock().unwrap_or_else(PoisonError::into_inner).filter(|&until| until > now)
    }

    /// Stops claiming for a while, loudly.
    fn pause(&self, error: &QueueError, now: SystemTime) -> SystemTime {
        let until = now + STORAGE_PAUSE;
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        let line =
            Line::new("deliveries-paused").with("reason", format!("the queue cannot be used: {error}"));
        ::log::error!("{}", line.with("seconds", STORAGE_PAUSE.as_secs()));
        until
    }
}

/// The delivery's end; or nothing, when the wish to stop came before any of the content was asked for: giving up then
/// repeats nothing, and a next-hop that does not answer delays no stop.
async fn unless_stopped<T>(delivery: impl Future<Output = T>, begun: &AtomicBool, stop: &Stop) -> Option<T> {
    let stopped = async {
        stop.wait().await;
        if begun.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        None
    };
    or(async { Some(delivery.await) }, stopped).await
}

/// When the next round is.
enum Next {
    Now,
    At(SystemTime),
    WhenSomethingEnds,
}

/// Answers the queue's questions in one round: what is under way counts, and what this round gave away.
struct Slots<'a> {
    scheduler: &'a Scheduler,
    options: &'a Options,
    now: SystemTime,
    given: HashMap<Key, usize>,
    /// Deliveries that may still begin in this round.
    room: usize,
    /// Of these, to other hosts; nothing where there is no bound but the others.
    remote: Option<usize>,
}

impl Planner for Slots<'_> {
    type NextHop = Route;

    fn next_hop(&mut self, destination: &str) -> Route {
        self.scheduler.deliver.route(destination)
    }

    fn paused(&mut self, destination: &str, next_hop: &Route) -> Option<SystemTime> {
        self.options.pauses.until(destination, next_hop, self.now)
    }

    fn slot(&mut self, next_hop: &Route, due: Due<'_>) -> Slot {
        let is_remote = *next_hop != Route::Local;
        if is_remote && self.remote == Some(0) {
            return Slot::Busy;
        }
        let group = self.scheduler.group(next_hop);
        let hold = group.and_then(|group| self.scheduler.site.providers.memory().hold(&group).copied());
        let ask = Ask {
            route: next_hop,
            failures: due.failures,
            given: &self.given,
            bounds: self.options.bounds(),
            free: self.room,
            held_until: hold.and_then(|hold| hold.paused_until),
            recovering: hold.is_some_and(|hold| hold.paused_until.is_some()),
            now: self.now,
        };
        self.scheduler.hops().slot(ask)
    }

    fn claimed(&mut self, next_hop: &Route) {
        self.scheduler.hops().give(&mut self.given, next_hop);
        self.room = self.room.saturating_sub(1);
        if *next_hop != Route::Local {
            self.remote = self.remote.map(|remote| remote.saturating_sub(1));
        }
    }
}

/// A delivery's place in the bounds; given back when it ends, however it ends.
struct Place {
    scheduler: Arc<Scheduler>,
    keys: Keys,
    wave: Wave,
}

impl Place {
    fn take(scheduler: Arc<Scheduler>, next_hop: &Route) -> Self {
        if *next_hop != Route::Local {
            scheduler.breaker().started();
        }
        let bounds = scheduler.options().bounds();
        let (keys, wave) = scheduler.hops().started(next_hop, bounds, SystemTime::now());
        Self { scheduler, keys, wave }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.scheduler.hops().ended(&self.keys, SystemTime::now());
        self.scheduler.notify();
    }
}

/// The content of a queued message, opened again for each host.
struct QueueContent {
    queue: Queue,
    id: QueueId,
    /// Set once the content was asked for.
    begun: Arc<AtomicBool>,
}

impl ContentSource for QueueContent {
    fn open(&self) -> std::io::Result<Box<dyn std::io::Read + Send>> {
        self.begun.store(true, Ordering::SeqCst);
        let reader: ContentReader = self.queue.content_reader(self.id).map_err(std::io::Error::other)?;
        Ok(Box::new(reader))
    }

    fn handed(&self) -> std::io::Result<Vec<String>> {
        self.queue.reader().handed(self.id).map_err(std::io::Error::other)
    }
}

/// A delivery that ended without a word (a defect of ours, it panicked): the mail waits.
fn without_outcome(recipient: &mta_smtp::envelope::Recipient) -> RecipientOutcome {
    let outcome = Outcome {
        verdict: Verdict::Deferred,
        reach: Reach::Message,
        status: EnhancedStatus::new(4, 3, 0),
        text: "internal error while delivering; see the log of this server".into(),
        reply: None,
        remote: None,
        reports_passed_on: false,
    };
    RecipientOutcome { recipient: recipient.clone(), outcome }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How long until then, and never longer than the longest sleep.
fn until(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO).min(LONGEST_SLEEP)
}
