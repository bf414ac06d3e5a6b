//! Reports on their way to the operators of other domains: planned when a day is over, made, addressed, sent, tried again.
//!
//! - `mod`: the task. It plans yesterday's reports once a day, takes what is due, and writes down what became of it.
//! - `tls`: a TLS report (RFC 8460) ready to leave; `dmarc`: a DMARC aggregate report (RFC 9990).
//! - `external`: whether a third party wants DMARC reports.
//! - `destination`: the places that a domain names; `mail`: the form of the mail; `post`: the way by HTTPS.
//!
//! What it promises: a report leaves only where a DKIM key of the author's domain signs it (RFC 8460 3); to each place once,
//! over any number of restarts; at a time of its own within [`Options::delay`] after midnight (RFC 8460 4.1); and no longer
//! than a day after the first try (RFC 8460 5.5). Nothing loops: the mail has a null reverse-path, nobody is told of its
//! failure, and its sessions are not counted (`outbound::scheduler`). What it does not: it counts nothing.

mod destination;
mod dmarc;
mod external;
mod mail;
mod post;
mod tls;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use mta_queue::{
    NewMessage, Origin, OriginKind, Queue, QueueError, ReportKind, ReportPlan, ReportState, StoredReport,
    day_of, start_of,
};
use mta_smtp::address::{Mailbox, ReversePath};
use mta_smtp::envelope::{Envelope, HeaderFacts, MailParameters, Notify, Recipient};
use smol::Timer;

use self::destination::Destination;
pub use self::destination::MAX_DESTINATIONS;
use self::mail::Form;
use crate::auth::dkim::KeyRing;
use crate::content::own::OwnContent;
use crate::dns::Resolver;
use crate::log::Line;
use crate::outbound;
use crate::report::dmarc::Counter;
use crate::tls::client::Client;

/// What such mail is "about", in place of a queue id.
pub const REPORT: &str = "report";

/// Reports that are taken up in one round.
const AT_ONCE: usize = 20;

/// How long it is tried, from the first try (RFC 8460 5.5).
pub const PATIENCE: Duration = Duration::from_secs(86_400);

/// Between the first try and the second; doubled each time, to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(900);
const LONGEST_PAUSE: Duration = Duration::from_secs(4 * 3_600);

/// While nothing can be sent at all, so long until it is looked at again.
const BLOCKED_PAUSE: Duration = Duration::from_secs(600);

/// Days before today that are planned: what ended while the server was down is told, too.
const DAYS_BACK: i64 = 2;

/// What can be set.
#[derive(Debug, Clone)]
pub struct Options {
    /// Our host name.
    pub hostname: String,
    /// The author of reports by mail.
    pub from: Mailbox,
    /// Whom to ask about them.
    pub contact: Mailbox,
    /// Whether TLS reports are sent.
    pub tls: bool,
    /// Whether DMARC aggregate reports are.
    pub dmarc: bool,
    /// Reports leave within this time after midnight (UTC).
    pub delay: Duration,
    /// Those of mail out: which addresses may be connected to.
    pub outbound: Arc<outbound::Options>,
}

impl Options {
    /// The domain that reports: that of the contact.
    pub(crate) fn submitter(&self) -> String {
        self.contact
            .domain()
            .map_or_else(|| self.hostname.clone(), |domain| domain.as_str().to_ascii_lowercase())
    }

    fn sends(&self, kind: ReportKind) -> bool {
        match kind {
            ReportKind::Tls => self.tls,
            ReportKind::Dmarc => self.dmarc,
        }
    }
}

/// One place of a report.
#[derive(Debug, Clone)]
pub struct Place {
    /// The URI, as the domain has it.
    pub uri: String,
    /// Whether the report goes there.
    pub way: Way,
}

/// Whether a report goes to a place.
#[derive(Debug, Clone)]
pub enum Way {
    /// It does, here.
    To(Destination),
    /// Never, in words.
    Refused(String),
    /// It cannot be known now, in words.
    Unknown(String),
}

/// A report that can leave.
#[derive(Debug, Clone)]
pub struct Ready {
    form: Form,
    gzip: Vec<u8>,
    /// Where to.
    pub places: Vec<Place>,
    tls_required_no: bool,
}

impl Ready {
    /// The file's name.
    pub fn file_name(&self) -> &str {
        &self.form.file_name
    }

    /// Its size, compressed, in octets.
    pub fn size_bytes(&self) -> usize {
        self.gzip.len()
    }
}

/// What making a report gave.
#[derive(Debug, Clone)]
pub enum Preparing {
    /// It can leave.
    Ready(Box<Ready>),
    /// Nobody wants it, in words.
    Unwanted(String),
    /// It cannot be known now, in words.
    Later(String),
}

/// What sends. One for the process.
pub struct Sender {
    queue: Queue,
    counter: Arc<Counter>,
    resolver: Arc<dyn Resolver>,
    tls: Arc<Client>,
    keys: Option<Arc<KeyRing>>,
    options: Mutex<Arc<Options>>,
    /// Up to which day all was planned.
    planned: Mutex<BTreeMap<ReportKind, i64>>,
    wake: (async_channel::Sender<()>, async_channel::Receiver<()>),
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Sender {
    /// Sends nothing before `run`.
    pub fn new(
        (queue, counter): (Queue, Arc<Counter>),
        resolver: Arc<dyn Resolver>,
        tls: Arc<Client>,
        keys: Option<Arc<KeyRing>>,
        options: Options,
    ) -> Arc<Self> {
        let (options, wake) = (Mutex::new(Arc::new(options)), async_channel::bounded(1));
        Arc::new(Self { queue, counter, resolver, tls, keys, options, planned: Mutex::default(), wake })
    }

    /// From now on these options.
    pub fn reload(&self, options: Options) {
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(options);
        self.notify();
    }

    fn options(&self) -> Arc<Options> {
        Arc::clone(&self.options.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn notify(&self) {
        // A full channel holds the news already.
        let _ = self.wake.0.try_send(());
    }

    /// Why no report of a kind leaves; nothing where they do.
    pub fn blocked(&self, kind: ReportKind) -> Option<String> {
        let options = self.options();
        if !options.sends(kind) {
            return Some(format!("report.{}_send is false", kind.as_str()));
        }
        let domain = options.from.domain().map(|domain| domain.as_str().to_ascii_lowercase());
        let signs = |domain: &String| self.keys.as_ref().is_some_and(|keys| keys.signs_for(domain));
        match domain {
            Some(domain) if signs(&domain) => None,
            // RFC 8460 3, RFC 9990 3.5: whoever gets one unsigned has to ignore it.
            Some(domain) => Some(format!(
                "no DKIM key signs for {domain}, the domain of report.from: mta-cli dkim make {domain}, publish its \
                 record, mta-cli dkim check"
            )),
            None => Some("report.from has no domain".to_owned()),
        }
    }

    /// Makes a day's reports due now, because an administrator wants them; how many. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn send_now(&self, kind: ReportKind, day: i64, domain: Option<String>) -> Result<u64, QueueError> {
        self.gathered()?;
        let now = SystemTime::now();
        let whole = day < day_of(now);
        let plan = ReportPlan { kind, day, domain, whole, again: true, from: now, within: Duration::ZERO };
        let planned = self.queue.plan_reports(plan)?;
        self.notify();
        Ok(planned)
    }

    /// Lets everything be in the database that was counted before now. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn gathered(&self) -> Result<(), QueueError> {
        let (done, written) = std::sync::mpsc::channel();
        self.counter.flush(move |result| drop(done.send(result)));
        written.recv().unwrap_or(Err(QueueError::Closed))
    }

    /// A report as it would be sent now.
    pub async fn prepare(&self, report: &StoredReport, now: SystemTime) -> Preparing {
        if report.day > day_of(now) {
            return Preparing::Unwanted("the day is still to come".to_owned());
        }
        let options = self.options();
        let (resolver, reader) = (&*self.resolver, self.queue.reader());
        let mut made = match report.kind {
            ReportKind::Tls => tls::prepare(resolver, reader, report, &options, now).await,
            ReportKind::Dmarc => dmarc::prepare(resolver, reader, report, &options, now).await,
        };
        if let Preparing::Ready(ready) = &mut made {
            let mut usable = 0;
            for place in &mut ready.places {
                let is_usable = !matches!(place.way, Way::Refused(_));
                usable += usize::from(is_usable);
                if usable > MAX_DESTINATIONS && is_usable {
                    place.way = Way::Refused(format!("more than {MAX_DESTINATIONS} places for one report"));
                }
            }
        }
        made
    }

    /// Works for as long as it is let.
    pub async fn run(self: Arc<Self>) {
        let mut told = None;
        loop {
            let (next, blocked) = self.round(SystemTime::now()).await;
            if blocked != told {
                // Once for each cause, not for each round.
                match &blocked {
                    Some(why) => ::log::info!("{}", Line::new("reports-not-sent").with("reason", why)),
                    None => ::log::info!("{}", Line::new("reports-are-sent")),
                }
                told = blocked;
            }
            let pause = next.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO).min(BLOCKED_PAUSE);
            let sleep = async {
                Timer::after(pause).await;
            };
            let woken = async {
                let _ = self.wake.1.recv().await;
            };
            futures_lite::future::or(woken, sleep).await;
        }
    }

    /// Plans and sends what is due. When to come back, and why a kind that is switched on is not sent.
    async fn round(self: &Arc<Self>, now: SystemTime) -> (SystemTime, Option<String>) {
        let mut next = start_of(day_of(now).saturating_add(1));
        let mut why = None;
        for kind in ReportKind::ALL {
            if !self.options().sends(kind) {
                continue;
            }
            if let Some(blocked) = self.blocked(kind) {
                why = Some(blocked);
                continue;
            }
            match self.send_due(kind, now).await {
                Ok(due) => next = next.min(due),
                Err(error) => {
                    ::log::warn!("{}", Line::new("reports-delayed").with("reason", error));
                    next = now + BLOCKED_PAUSE;
                }
            }
        }
        (next, why)
    }

    async fn send_due(self: &Arc<Self>, kind: ReportKind, now: SystemTime) -> Result<SystemTime, QueueError> {
        let sender = Arc::clone(self);
        let due = smol::unblock(move || {
            sender.plan(kind, now)?;
            sender.queue.reader().due_reports(kind, now, AT_ONCE)
        })
        .await?;
        if !due.is_empty() && self.resolver.site_fault().is_some() {
            // It lies on us: no report is to blame.
            return Ok(now + BLOCKED_PAUSE);
        }
        for report in due {
            self.attempt(report).await?;
        }
        let reader = self.queue.reader();
        let next = smol::unblock(move || reader.next_report(kind)).await?;
        Ok(next.unwrap_or(now + PATIENCE))
    }

    /// Yesterday's reports, and those of the day before where nobody planned them.
    fn plan(&self, kind: ReportKind, now: SystemTime) -> Result<(), QueueError> {
        let today = day_of(now);
        let planned =
            |sender: &Self| sender.planned.lock().unwrap_or_else(PoisonError::into_inner).get(&kind).copied();
        if planned(self) == Some(today) {
            return Ok(());
        }
        self.gathered()?;
        for day in today.saturating_sub(DAYS_BACK)..today {
            if !self.queue.reader().has_unplanned(kind, day)? {
                continue;
            }
            let within = self.options().delay;
            let plan = ReportPlan { kind, day, domain: None, whole: true, again: false, from: now, within };
            let planned = self.queue.plan_reports(plan)?;
            if planned > 0 {
                let line = Line::new("reports-planned").with("kind", kind.as_str());
                ::log::info!("{}", line.with("day", super::tlsrpt::day_text(day)).with("count", planned));
            }
        }
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, today);
        Ok(())
    }

    /// One try of one report.
    async fn attempt(self: &Arc<Self>, mut report: StoredReport) -> Result<(), QueueError> {
        let now = SystemTime::now();
        report.tries = report.tries.saturating_add(1);
        let since = *report.first_try.get_or_insert(now);
        report.error.clear();
        let mut mail = Vec::new();
        match self.prepare(&report, now).await {
            Preparing::Ready(ready) => {
                mail = self.hand_over(&ready, &mut report, now).await?;
                if report.error.is_empty() {
                    report.state =
                        if report.told.is_empty() { ReportState::Unwanted } else { ReportState::Sent };
                }
            }
            Preparing::Unwanted(why) => (report.state, report.error) = (ReportState::Unwanted, why),
            Preparing::Later(why) => report.error = why,
        }
        if report.state == ReportState::Due {
            if now.duration_since(since).unwrap_or_default() >= PATIENCE {
                report.state = if report.told.is_empty() { ReportState::GivenUp } else { ReportState::Sent };
            } else {
                report.next_try = now + pause(report.tries);
            }
        }
        log(&report);
        let (done, settled) = async_channel::bounded(1);
        self.queue.settle_report(report, mail, move |result| drop(done.try_send(result)));
        settled.recv().await.unwrap_or(Err(QueueError::Closed))
    }

    /// Hands a report to each place that has not had it: the mail to be stored. What went wrong is in `report.error`; the
    /// report stays due where another try can mend it.
    async fn hand_over(
        self: &Arc<Self>,
        ready: &Ready,
        report: &mut StoredReport,
        now: SystemTime,
    ) -> Result<Vec<NewMessage>, QueueError> {
        let mut mail = Vec::new();
        let (mut failed, mut refused) = (Vec::new(), Vec::new());
        for place in &ready.places {
            let to = match &place.way {
                Way::To(to) => to,
                Way::Refused(why) => {
                    let line = Line::new("report-place-refused").with("kind", report.kind.as_str());
                    let line = line.with("domain", &report.domain).with("to", &place.uri);
                    ::log::info!("{}", line.with("reason", why));
                    refused.push(format!("{}: {why}", place.uri));
                    continue;
                }
                Way::Unknown(why) => {
                    failed.push(format!("{}: {why}", place.uri));
                    continue;
                }
            };
            let name = to.to_string();
            if report.told.iter().any(|(told, _)| *told == name) {
                continue;
            }
            match to {
                Destination::Mail(mailbox) => {
                    let (sender, ready, mailbox) = (Arc::clone(self), ready.clone(), mailbox.clone());
                    let message = smol::unblock(move || sender.message(&ready, &mailbox, now)).await?;
                    report.told.push((name, message.id.to_string()));
                    mail.push(message);
                }
                Destination::Https { host, port, path } => {
                    let options = self.options();
                    let posting = post::Post {
                        host,
                        port: *port,
                        path,
                        media_type: ready.form.media_type,
                        document: &ready.gzip,
                    };
                    match post::post(&*self.resolver, &self.tls, &posting, &options.outbound).await {
                        Ok(()) => report.told.push((name, String::new())),
                        Err(why) => failed.push(format!("{name}: {why}")),
                    }
                }
            }
        }
        let is_over = failed.is_empty();
        failed.extend(refused);
        report.error = failed.join("; ");
        if is_over {
            report.state = if report.told.is_empty() { ReportState::Unwanted } else { ReportState::Sent };
        }
        Ok(mail)
    }

    /// The mail to one place, as a message of the queue. Blocks.
    fn message(&self, ready: &Ready, to: &Mailbox, now: SystemTime) -> Result<NewMessage, QueueError> {
        let options = self.options();
        let id = self.queue.new_id();
        let mut content = OwnContent::new(self.queue.content(), self.keys.as_deref());
        let mut text = std::io::BufWriter::new(&mut content);
        let (hostname, own_id) = (&options.hostname, id.to_string());
        let envelope = mail::Envelope { from: &options.from, to, hostname, id: &own_id, now };
        ready.form.write(&envelope, &ready.gzip, &mut text)?;
        text.flush()?;
        drop(text);
        let mut envelope = Envelope::new(ReversePath::Null);
        let header = HeaderFacts { tls_required_no: ready.tls_required_no, ..HeaderFacts::default() };
        envelope.parameters = MailParameters { header, ..MailParameters::default() };
        let notify = Some(Notify { never: true, ..Notify::default() });
        envelope.recipients.push(Recipient { notify, ..Recipient::new(to.clone()) });
        let origin =
            Origin { kind: OriginKind::Notification, about: Some(REPORT.to_owned()), ..Origin::default() };
        Ok(NewMessage { id, envelope, received_at: now, origin, content: content.finish()?, hold: None })
    }
}

/// Between a try and the next.
fn pause(tries: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}

fn log(report: &StoredReport) {
    let to: Vec<&str> = report.told.iter().map(|(to, _)| to.as_str()).collect();
    let line = Line::new("report").with("kind", report.kind.as_str()).with("domain", &report.domain);
    let line = line.with("day", super::tlsrpt::day_text(report.day)).with("status", report.state.as_str());
    let line = line.with_some("to", (!to.is_empty()).then(|| to.join(",")));
    let line = line.with_some("reason", (!report.error.is_empty()).then_some(&report.error));
    match report.state {
        // That nobody wants one is the rule.
        ReportState::Unwanted => ::log::debug!("{line}"),
        _ => ::log::info!("{line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_end_within_a_day_and_pauses_grow() {
        let pauses: Vec<u64> = (1..=8).map(|tries| pause(tries).as_secs() / 60).collect();
        assert_eq!(pauses, [15, 30, 60, 120, 240, 240, 240, 240]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
