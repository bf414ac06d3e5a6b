//! One delivery attempt: the recipients of one message that share a next-hop, from routing to outcomes.
//!
//! What it does: the stages discover, policy, addresses, connect, TLS, transaction, host by host (`host`), and what a
//! failure at each stage means for the next. What it does not: no queue, no schedule, no retry across attempts.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mta_dane::discovery::{self, MxDiscovery, MxList, NextHop};
use mta_dane::dnssec::Status;
use mta_dane::failure::{LookupError, NextHopFailure};
use mta_dane::reference::{a_labels, text as name_text};
use mta_smtp::address::{Host, Mailbox, ReversePath};
use mta_smtp::envelope::{MailParameters, Recipient};
use mta_smtp::reply::EnhancedStatus;

use super::dane_memory::DaneMemory;
use super::outcome::{self, Outcome, Reach};
use super::provider::Providers;
use super::tls_policy::{self, DestinationRule};
use super::{Decision, Options, Pool, RecipientOutcome, discover, parts, record, triage};
use crate::dns::Resolver;
use crate::routing::{RelayHost, Route};
use crate::sts::{Finding, Sts};
use crate::tls::client::Client;

/// Where the content of a message is read from. It may be opened several times: another host gets it from the start.
pub trait ContentSource: Send + Sync {
    /// Opens the content at its first byte. Called on a thread that may block, as are the reads.
    ///
    /// # Errors
    ///
    /// What the store reports; the recipients are deferred then.
    fn open(&self) -> io::Result<Box<dyn io::Read + Send>>;

    /// The places of this host that have the message from attempts before. Called on a thread that may block.
    ///
    /// # Errors
    ///
    /// What the store reports.
    fn handed(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// One attempt's work: the recipients of one message that share a route.
#[derive(Clone)]
pub struct Job {
    /// The queue id, for log lines and the decision record.
    pub queue_id: String,
    /// The domain for which per-destination rules are looked up: that of the recipients.
    pub destination: String,
    /// Where to. `Route::Local` is not for us: the recipients are deferred with a site fault.
    pub route: Route,
    /// The reverse-path.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL as they came in.
    pub parameters: MailParameters,
    /// Content size in octets, as stored.
    pub size_bytes: u64,
    /// Who receives.
    pub recipients: Vec<Recipient>,
    /// The content, opened only when a server is ready for it.
    pub content: Arc<dyn ContentSource>,
    /// When the message was accepted, seconds since 1970, for `delay=` in the log line.
    pub accepted_at_unix: u64,
}

impl Job {
    pub(super) fn relay(&self) -> Option<&RelayHost> {
        match &self.route {
            Route::Relay(relay) => Some(relay),
            Route::Local | Route::Mx { .. } => None,
        }
    }
}

/// What an attempt needs besides its job. Shared by all attempts; rebuilt when the configuration changes.
#[derive(Clone)]
pub struct Context {
    /// Names to records, with their DNSSEC status.
    pub resolver: Arc<dyn Resolver>,
    /// The options.
    pub options: Arc<Options>,
    /// TLS provider and roots.
    pub tls: Arc<Client>,
    /// MTA-STS policies; `None` where they are not to be looked for.
    pub sts: Option<Arc<Sts>>,
    /// Sessions that other attempts have left open.
    pub pool: Pool,
    /// What is known of mail providers, and what is held against whom.
    pub providers: Arc<Providers>,
    /// Which destinations had DANE for weeks.
    pub dane_memory: DaneMemory,
}

/// What an attempt led to.
#[derive(Debug, Clone, Default)]
pub struct AttemptReport {
    /// One outcome per recipient, in the order of the job.
    pub outcomes: Vec<RecipientOutcome>,
    /// Why, for `queue show`, the log, DSN and `explain`.
    pub decision: Decision,
    /// What delivery on this host leaves behind.
    pub local: LocalResult,
}

/// What delivery on this host leaves behind besides outcomes; kept in the same transaction.
#[derive(Debug, Clone, Default)]
pub struct LocalResult {
    /// Places that have the message now: while any of its recipients waits, none of them gets it again.
    pub handed: Vec<String>,
    /// What goes elsewhere.
    pub forwards: Vec<Forward>,
}

/// A message that goes elsewhere because a recipient here stands for somebody there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The recipient's place among the outcomes.
    pub index: usize,
    /// The recipient here.
    pub recipient: Recipient,
    /// Who is told of failures in place of the sender.
    pub owner: Option<Mailbox>,
    /// The recipients there.
    pub to: Vec<Mailbox>,
    /// Their names as places.
    pub places: Vec<String>,
}

/// Tries to hand the job's message to its next-hop. Never fails: what went wrong is in the outcomes. Writes one log line
/// for each recipient.
///
/// Bounded in time by the options; dropping the future drops the connection, and nothing is sent then that was not
/// sent before.
pub async fn attempt(context: &Context, job: &Job) -> AttemptReport {
    let mut parts = parts::parts(job, &context.options.destinations, SystemTime::now());
    if parts.len() < 2 {
        return part(context, job).await;
    }
    let mut reports = Vec::new();
    for one in parts.drain(..) {
        let report = part(context, &parts::job_of(job, &one)).await;
        reports.push((one, report));
    }
    parts::join(job, reports)
}

/// An attempt for recipients that all stand under the same rule.
async fn part(context: &Context, job: &Job) -> AttemptReport {
    let mut run = Run::new(context, job, Purpose::Deliver);
    if let Err(outcome) = run.deliver().await {
        run.settle_rest(&outcome);
    }
    run.finish()
}

/// What the walk to a destination is for. There is one walk: what an administrator is shown is what a delivery does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To deliver a message.
    Deliver,
    /// To ask whether a recipient would be taken: as far as RCPT, with a null reverse-path, and never to DATA.
    Ask,
    /// To see what a delivery would find in DNS; nobody is connected to.
    Look,
    /// To see what every host and address shows, as far as EHLO inside TLS; no envelope is ever sent.
    Probe,
}

impl Purpose {
    /// Whether the first host that says something final ends the walk.
    pub(super) fn wants_an_end(self) -> bool {
        matches!(self, Self::Deliver | Self::Ask)
    }
}

/// An attempt under way.
pub(super) struct Run<'a> {
    pub(super) context: &'a Context,
    pub(super) job: &'a Job,
    /// What the walk is for.
    pub(super) purpose: Purpose,
    /// The local rule in force.
    pub(super) rule: Option<&'a DestinationRule>,
    pub(super) decision: Decision,
    /// The MTA-STS policy of the domain, once it was looked for.
    pub(super) sts: Option<Finding>,
    /// For each recipient of the job.
    slots: Vec<Slot>,
    /// How many connections came as far as MAIL.
    pub(super) transactions: usize,
    /// Recipients that a session at this host had no room for.
    put_off: Vec<usize>,
    /// A host of the domain had secure TLSA records.
    pub(super) dane_seen: bool,
    started: Instant,
}

/// What is known of one recipient so far.
#[derive(Debug, Clone, Default)]
struct Slot {
    /// The last word.
    settled: Option<Outcome>,
    /// What stands if no other host does better.
    provisional: Option<Outcome>,
}

/// What to do after a host or address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Try the same address on a new connection: the session could carry no more, and there is more.
    SameAddress,
    /// Try the host's next address.
    NextAddress,
    /// Try the next host.
    NextHost,
    /// No further host at this attempt.
    Stop,
}

impl<'a> Run<'a> {
    pub(super) fn new(context: &'a Context, job: &'a Job, purpose: Purpose) -> Self {
        let now = SystemTime::now();
        let destination = parts::rule_name(&job.destination);
        let rule = tls_policy::nearest(&context.options.destinations, &destination, now);
        let decision = Decision {
            started_at_unix: unix(now),
            route: job.route.to_string(),
            destination,
            rule: rule.map(ToString::to_string),
            ..Decision::default()
        };
        let slots = vec![Slot::default(); job.recipients.len()];
        Self {
            context,
            job,
            purpose,
            rule,
            decision,
            sts: None,
            slots,
            transactions: 0,
            put_off: Vec::new(),
            dane_seen: false,
            started: Instant::now(),
        }
    }

    /// All hosts in their order. An error speaks for every recipient that has no outcome yet.
    pub(super) async fn deliver(&mut self) -> Result<(), Box<Outcome>> {
        let (next_hop, port) = self.next_hop()?;
        let options = self.discovery_options(port);
        let resolver = &*self.context.resolver;
        let timeout = self.context.options.discovery_timeout;
        let machine = MxDiscovery::new(&next_hop, options.clone());
        let list = match discover::hosts(resolver, machine, timeout).await {
            Ok(list) => list,
            Err(failure) => {
                record::next_hop_failure(&mut self.decision, &next_hop, &failure);
                self.decision.triage = triage::next_hop(&failure, &self.about());
                let ours = match &failure {
                    NextHopFailure::Lookup(error) => self.site_fault(error),
                    _ => None,
                };
                return Err(Box::new(ours.unwrap_or_else(|| of_next_hop(&failure))));
            }
        };
        if self.job.relay().is_none() {
            self.decision.mx = Some(record::mx(&list));
        }
        let options = self.held_back(&list, options)?;
        self.all_hosts(&list, port, &options).await;
        Ok(())
    }

    /// What is held against the group of these hosts: nothing is tried before its time, or IPv4 only.
    fn held_back(
        &mut self,
        list: &MxList,
        mut options: discovery::Options,
    ) -> Result<discovery::Options, Box<Outcome>> {
        let mut hosts: Vec<(u16, String)> =
            list.hosts.iter().map(|host| (host.preference, name_text(&host.name))).collect();
        hosts.sort_unstable();
        let hosts: Vec<&str> = hosts.iter().map(|(_, name)| name.as_str()).collect();
        if self.job.relay().is_some() {
            return Ok(options);
        }
        let Some(group) = self.context.providers.table().group(&hosts) else { return Ok(options) };
        self.decision.group = Some(group.clone());
        let now = SystemTime::now();
        let Some(hold) = self.context.providers.hold(&group, now) else { return Ok(options) };
        let lasts = |until: Option<SystemTime>| until.filter(|until| *until > now);
        if let Some(until) = lasts(hold.paused_until)
            && self.purpose.wants_an_end()
        {
            self.decision.held_until_unix = Some(until.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()));
            let why = format!(
                "mail for {group} is held back, because of an earlier reply: {}",
                hold.class.meaning()
            );
            self.decision.ended_early = Some(why.clone());
            return Err(Box::new(Outcome::deferred(Reach::NextHop, (4, 5), why)));
        }
        if lasts(hold.ipv4_until).is_some() && options.ipv4 {
            options.ipv6 = false;
        }
        Ok(options)
    }

    async fn all_hosts(&mut self, list: &MxList, port: u16, options: &discovery::Options) {
        for host in list.hosts.iter().take(self.context.options.max_hosts) {
            let is_done = self.purpose.wants_an_end() && self.open().is_empty();
            if is_done || !self.may_connect() {
                return;
            }
            if self.host(list, host, port, options).await == Flow::Stop {
                return;
            }
        }
    }

    /// What discovery starts from, and the port.
    fn next_hop(&self) -> Result<(NextHop, u16), Box<Outcome>> {
        let named = |name: &str| {
            a_labels(name)
                .map_err(|error| Box::new(Outcome::failed(Reach::NextHop, (1, 2), error.to_string())))
        };
        match &self.job.route {
            Route::Local => {
                let why = "local mail came to the wrong place in this server";
                Err(Box::new(Outcome::deferred(Reach::Site, (3, 5), why)))
            }
            Route::Mx { next_hop: Host::Literal(address) } => {
                Ok((NextHop::Address(*address), self.context.options.port))
            }
            Route::Mx { next_hop: Host::Domain(domain) } => {
                Ok((NextHop::MxOf(named(domain.as_str())?), self.context.options.port))
            }
            Route::Relay(relay) => match relay.host.parse::<IpAddr>() {
                Ok(address) => Ok((NextHop::Address(address), relay.port)),
                Err(_) => Ok((NextHop::Host(named(&relay.host)?), relay.port)),
            },
        }
    }

    fn discovery_options(&self, port: u16) -> discovery::Options {
        let options = &self.context.options;
        // In a laboratory other servers live on our own addresses, at other ports.
        let own = options.own_ports.contains(&port);
        discovery::Options {
            own_names: a_labels(&options.host_name).into_iter().filter(|_| own).collect(),
            own_addresses: if own { options.own_addresses.clone() } else { Vec::new() },
            ipv4: options.ipv4,
            ipv6: options.ipv6,
            // Who explains the same thing twice tells it in the same order.
            seed: if self.purpose.wants_an_end() { fastrand::u64(..) } else { 0 },
            requirement: tls_policy::dane_requirement(self.job.relay(), self.rule.map(|rule| rule.tls)),
            hops_known: options.alias_status_known,
            ..discovery::Options::default()
        }
    }

    /// A lookup without an answer while no lookup can work: our own fault, which never ends a message and says nothing
    /// about its destination. What was found out to be bogus is not excused so.
    pub(super) fn site_fault(&self, error: &LookupError) -> Option<Outcome> {
        if error.status != Status::Unavailable {
            return None;
        }
        let why = self.context.resolver.site_fault()?;
        Some(Outcome::deferred(Reach::Site, (4, 3), format!("no DNS on this host: {why}")))
    }

    /// What a triage has to know.
    pub(super) fn about(&self) -> triage::About<'_> {
        let decision = &self.decision;
        triage::About {
            domain: &decision.destination,
            relay: self.job.relay().is_some(),
            now_unix: decision.started_at_unix,
        }
    }

    /// The recipients that still need a host, as indices into the job's.
    pub(super) fn open(&self) -> Vec<usize> {
        let open = self.slots.iter().enumerate().filter(|(_, slot)| slot.settled.is_none());
        open.map(|(index, _)| index).collect()
    }

    /// So long, but not beyond the end of the attempt.
    pub(super) fn left(&self, bound: Duration) -> Duration {
        bound.min(self.ends().saturating_duration_since(Instant::now()))
    }

    /// Keeps recipients for the next session at the same host.
    pub(super) fn put_off(&mut self, recipients: Vec<usize>) {
        self.put_off = recipients;
    }

    /// Those to name in a session that begins: what another one at the same host was too short for, else all.
    pub(super) fn not_asked(&mut self) -> Vec<usize> {
        let put_off = std::mem::take(&mut self.put_off);
        if put_off.is_empty() { self.open() } else { put_off }
    }

    /// Whether another connection may be begun.
    pub(super) fn may_connect(&self) -> bool {
        let options = &self.context.options;
        self.transactions < options.max_transactions && self.started.elapsed() < options.attempt_timeout
    }

    /// When the attempt is over.
    pub(super) fn ends(&self) -> Instant {
        self.started + self.context.options.attempt_timeout
    }

    /// Notes an outcome for one recipient.
    pub(super) fn settle(&mut self, index: usize, outcome: Outcome) {
        let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.settled.is_none()) else { return };
        if outcome::is_final(&outcome) {
            slot.settled = Some(outcome);
        } else {
            slot.provisional = Some(outcome::stronger(slot.provisional.take(), outcome));
        }
    }

    /// Notes an outcome for all recipients that still need a host.
    pub(super) fn settle_open(&mut self, outcome: &Outcome) {
        for index in self.open() {
            self.settle(index, outcome.clone());
        }
    }

    /// Ends the matter for all recipients that still need a host.
    fn settle_rest(&mut self, outcome: &Outcome) {
        for slot in self.slots.iter_mut().filter(|slot| slot.settled.is_none()) {
            slot.settled = Some(outcome.clone());
        }
    }

    /// What is known of the first recipient so far, and the record.
    pub(super) fn first_outcome(self) -> (Option<Outcome>, Decision) {
        let slot = self.slots.into_iter().next().unwrap_or_default();
        (slot.settled.or(slot.provisional), self.decision)
    }

    /// Whether some host already had a say.
    pub(super) fn has_provisional(&self) -> bool {
        self.slots.iter().any(|slot| slot.provisional.is_some())
    }

    fn finish(mut self) -> AttemptReport {
        let no_host =
            || Outcome::deferred(Reach::NextHop, (4, 1), "no host could be tried in the time allowed");
        let mut outcomes: Vec<RecipientOutcome> = self
            .slots
            .iter_mut()
            .zip(&self.job.recipients)
            .map(|(slot, recipient)| RecipientOutcome {
                recipient: recipient.clone(),
                outcome: slot.settled.take().or_else(|| slot.provisional.take()).unwrap_or_else(no_host),
            })
            .collect();
        self.decision.elapsed_ms = millis(self.started.elapsed());
        let age = self.decision.started_at_unix.saturating_sub(self.job.accepted_at_unix);
        let (age, retry_blocked) = (Duration::from_secs(age), self.context.options.retry_blocked);
        self.context.providers.table().explain(&mut outcomes, &mut self.decision, age, retry_blocked);
        self.decision.result = record::summary(&outcomes);
        for outcome in &outcomes {
            log::info!("{}", record::log_line(&self.decision, self.job, outcome));
        }
        AttemptReport { outcomes, decision: self.decision, ..AttemptReport::default() }
    }
}

/// What a next-hop without hosts means.
fn of_next_hop(failure: &NextHopFailure) -> Outcome {
    let status = EnhancedStatus::parse(failure.enhanced_status()).unwrap_or(EnhancedStatus::new(4, 4, 0));
    let status = (status.subject, status.detail);
    if failure.is_permanent() {
        Outcome::failed(Reach::NextHop, status, failure.to_string())
    } else {
        Outcome::deferred(Reach::NextHop, status, failure.to_string())
    }
}

/// Seconds since 1970.
pub(super) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
