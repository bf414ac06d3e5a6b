//! The resolver of the daemon: chooses its transport by a self-test, watches it, and changes it when it stops carrying
//! DNSSEC.
//!
//! Until the first self-test has ended lookups wait; where none passes they are unavailable, with the reason, and mail is
//! deferred. The test is repeated with growing waits. Validated answers in the cache serve on meanwhile.
//!
//! It validates nothing: `validating` does, over the [`Switch`] that stands for whichever transport is in use.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use async_io::Timer;
use futures_lite::FutureExt as _;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use mta_dane::dnssec::{Answer, Status};
use mta_dane::validator::{AnchorError, CacheStats, KnownZone, TransportFailure, TrustAnchors, Validator};

use super::ad_trust::{AdTrust, may_be_trusted};
use super::client::{Client, Flags};
use super::forward::{Forward, system_resolvers};
use super::options::{Mode, Options};
use super::pending::Pending;
use super::recurse::{Recurse, root_servers};
use super::selftest::{Candidate, Problem, SelfTestReport, Tester, Verdict, carries_keys, has_signatures};
use super::transport::{Budget, Question, Transport, TransportFuture};
use super::validating::ValidatingResolver;
use super::{LookupFuture, Resolver};
use crate::clock::Clock;
use crate::log::Line;

/// The wait after a failed self-test, doubled up to the last one.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LAST_WAIT: Duration = Duration::from_secs(120);

/// The least time between a test that passed and a further one.
const MIN_BETWEEN_TESTS: Duration = Duration::from_secs(30);

/// While nothing works: how often the system clock is looked at, and by how many seconds it has to be off to count as set.
const CLOCK_POLL: Duration = Duration::from_secs(5);
const CLOCK_SET: u64 = 60;

/// Responses in a row without what they need (signatures, or any answer at all) before the transport is tested again.
const SUSPICIOUS: u32 = 4;

/// Options that cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// `trust-ad` with a resolver that is not on this host.
    NotLoopback(SocketAddr),
    /// A trust anchor file that cannot be read.
    AnchorFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A trust anchor file that makes no sense.
    Anchors {
        /// The file.
        path: PathBuf,
        /// Line and reason.
        error: AnchorError,
    },
    /// Root hints that cannot be used.
    Hints(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoopback(address) => write!(
                f,
                "mode trust-ad: resolver {address} is not on a loopback address, so anybody on the way could forge the AD \
                 bit; name a resolver on this host, or use mode auto"
            ),
            Self::AnchorFile { path, why } => write!(f, "trust anchor file {}: {why}", path.display()),
            Self::Anchors { path, error } => write!(f, "trust anchor file {}: {error}", path.display()),
            Self::Hints(why) => write!(f, "root hints: {why}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The daemon's resolver. Cheap to clone; clones are one resolver.
#[derive(Debug, Clone)]
pub struct Service(Arc<Shared>);

struct Shared {
    options: Options,
    clock: Arc<dyn Clock>,
    client: Arc<Client>,
    tester: Tester,
    root_servers: Vec<SocketAddr>,
    switch: Arc<Switch>,
    validating: ValidatingResolver,
    report: Mutex<SelfTestReport>,
    suspect: (Sender<()>, Receiver<()>),
    /// One test at a time.
    testing: async_lock::Mutex<()>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("options", &self.options).field("report", &self.report).finish()
    }
}

impl Service {
    /// Reads the files that the options name and checks the options. Sends nothing yet: that begins with
    /// [`Service::run`] or [`Service::self_test`].
    ///
    /// # Errors
    /// Options that cannot work. That no resolver is configured is none: the self-test says so, and mail waits.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Result<Self, ConfigError> {
        let anchors = match &options.trust_anchor_file {
            None => TrustAnchors::built_in(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|e| ConfigError::AnchorFile { path: path.clone(), why: e.to_string() })?;
                TrustAnchors::parse(&text)
                    .map_err(|error| ConfigError::Anchors { path: path.clone(), error })?
            }
        };
        if options.mode == Mode::TrustAd
            && let Some(address) =
                forwarders(&options).unwrap_or_default().into_iter().find(|a| !may_be_trusted(*a))
        {
            return Err(ConfigError::NotLoopback(address));
        }
        let root_servers = root_servers(&options).map_err(ConfigError::Hints)?;
        let suspect = async_channel::bounded(1);
        let switch = Arc::new(Switch::new(suspect.0.clone()));
        let validator = Validator::new(anchors.clone(), options.limits.clone(), options.cache);
        let validating = ValidatingResolver::new(
            Arc::new(validator),
            switch.clone(),
            clock.clone(),
            options.upstream_queries,
            options.lookup_timeout,
        );
        let tester = Tester { anchors, limits: options.limits.clone(), clock: clock.clone() };
        Ok(Self(Arc::new(Shared {
            client: Arc::new(Client::new(&options)),
            options,
            clock,
            tester,
            root_servers,
            switch,
            validating,
            report: Mutex::new(SelfTestReport::pending()),
            suspect,
            testing: async_lock::Mutex::new(()),
        })))
    }

    /// Tests, and tests again whenever there is a reason to. Never returns: spawn it, and drop the task to end it.
    pub async fn run(&self) {
        let mut wait = FIRST_WAIT;
        loop {
            let report = self.self_test().await;
            if report.verdict == Verdict::Failed {
                self.0.wait_or_clock_set(wait).await;
                wait = (wait * 2).min(LAST_WAIT);
            } else {
                wait = FIRST_WAIT;
                Timer::after(MIN_BETWEEN_TESTS).await;
                self.suspicion().await;
            }
        }
    }

    /// Waits for a reason to test again and does so, once. For tools and tests; [`Service::run`] does it for ever.
    pub async fn watch(&self) -> SelfTestReport {
        self.suspicion().await;
        self.self_test().await
    }

    async fn suspicion(&self) {
        // The service holds a sender, so this ends only with a suspicion.
        let _ = self.0.suspect.1.recv().await;
        let why = "responses in a row carried no DNSSEC, or none came: testing the transport again";
        log::warn!("{}", Line::new("dns-suspect").with("reason", why));
    }

    /// Tests once and uses what passed. For tools that look up a name or two; the daemon uses [`Service::run`].
    pub async fn self_test(&self) -> SelfTestReport {
        let shared = &self.0;
        let _one = shared.testing.lock().await;
        let (mut report, state) = match shared.options.mode {
            Mode::Auto => shared.test_auto().await,
            Mode::TrustAd => shared.test_trust_ad().await,
        };
        report.at = shared.clock.unix_seconds();
        let changed = {
            let mut last = shared.report.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = (last.verdict, &last.reason) != (report.verdict, &report.reason);
            *last = report.clone();
            changed
        };
        if changed {
            log_report(&report);
        }
        shared.switch.set(state);
        if changed {
            // What was bogus over the old transport may not be over the new one.
            shared.validating.validator().clear_cache();
        }
        while shared.suspect.1.try_recv().is_ok() {}
        report
    }

    /// The result of the last self-test.
    pub fn report(&self) -> SelfTestReport {
        self.0.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True while no lookup can work for a reason that lies on this host: retry counters of messages should stand still.
    pub fn is_site_fault(&self) -> bool {
        matches!(self.report().verdict, Verdict::Failed)
    }

    /// Whether the system knows no way to any server that could be asked: the self-test need not have noticed yet. Looks
    /// into the routing table and sends nothing.
    fn has_no_route(&self) -> bool {
        let mut servers = forwarders(&self.0.options).unwrap_or_default();
        if self.0.options.recursion {
            servers.extend(&self.0.root_servers);
        }
        let no_route = |server: &SocketAddr| {
            let from = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            std::net::UdpSocket::bind(from).and_then(|socket| socket.connect(server)).is_err()
        };
        !servers.is_empty() && servers.iter().all(no_route)
    }

    /// The zones at and above a name as far as they were proven, the root first. None in the mode `trust-ad`, where somebody
    /// else proves.
    pub fn zones(&self, name: &Name) -> Vec<KnownZone> {
        match self.0.options.mode {
            Mode::Auto => self.0.validating.validator().zones(name, self.0.clock.unix_seconds()),
            Mode::TrustAd => Vec::new(),
        }
    }

    /// How full the cache of validated answers is.
    pub fn cache_stats(&self) -> CacheStats {
        self.0.validating.validator().cache_stats()
    }
}

impl Resolver for Service {
    fn lookup(&self, name: Name, rtype: RecordType) -> LookupFuture<'_> {
        Box::pin(async move {
            let answer = match self.0.options.mode {
                Mode::Auto => self.0.validating.lookup(name, rtype).await,
                Mode::TrustAd => self.0.trust_ad(name, rtype).await,
            };
            if answer.status == Status::Bogus {
                self.0.switch.suspect();
            }
            answer
        })
    }

    fn forget(&self, name: &Name, rtype: RecordType) {
        self.0.validating.forget(name, rtype);
    }

    fn site_fault(&self) -> Option<String> {
        if self.is_site_fault() {
            return Some(self.report().reason);
        }
        self.has_no_route().then(|| "there is no route to any server that could be asked".to_owned())
    }
}

/// The forwarders of the options, or those of the system.
fn forwarders(options: &Options) -> Result<Vec<SocketAddr>, String> {
    if options.forwarders.is_empty() {
        system_resolvers(&options.resolv_conf)
    } else {
        Ok(options.forwarders.clone())
    }
}

fn log_report(report: &SelfTestReport) {
    let line = Line::new("dns-self-test")
        .with("status", format!("{:?}", report.verdict).to_lowercase())
        .with("reason", &report.reason);
    if report.verdict == Verdict::Failed {
        log::error!("{line}");
    } else {
        log::info!("{line}");
    }
}

impl Shared {
    /// Waits; less where the system clock is set meanwhile, which may be what was missing.
    async fn wait_or_clock_set(&self, wait: Duration) {
        let (started, read) = (Instant::now(), self.clock.unix_seconds());
        while started.elapsed() < wait {
            Timer::after(CLOCK_POLL.min(wait)).await;
            let expected = read.saturating_add(started.elapsed().as_secs());
            if self.clock.unix_seconds().abs_diff(expected) > CLOCK_SET {
                return;
            }
        }
    }

    fn forward(&self, servers: Vec<SocketAddr>) -> Arc<dyn Transport> {
        Arc::new(Forward::new(self.client.clone(), servers, self.options.attempts, Flags::FORWARDER))
    }

    /// Forwarders that pass are used; else own recursion, if it is allowed and passes.
    async fn test_auto(&self) -> (SelfTestReport, State) {
        let mut report = SelfTestReport { verdict: Verdict::Failed, ..SelfTestReport::pending() };
        let (servers, none) = match forwarders(&self.options) {
            Ok(servers) => (servers, None),
            Err(why) => (Vec::new(), Some(format!("no resolver is configured ({why})"))),
        };
        let results = self.test_forwarders(&servers).await;
        let good: Vec<SocketAddr> = results.iter().filter(|(_, r)| r.is_ok()).map(|(s, _)| *s).collect();
        let clock = results.iter().find_map(|(_, r)| match r {
            Err(Problem::Clock(why)) => Some(why.clone()),
            _ => None,
        });
        report.candidates =
            results.into_iter().map(|(server, result)| candidate(Some(server), result)).collect();
        if !good.is_empty() {
            report.verdict = Verdict::Forwarders;
            report.reason = format!("{} carries DNSSEC{}", list(&good), others(&report.candidates));
            return (report, State::Ready(self.forward(good)));
        }
        let why_not = none.unwrap_or_else(|| problems(&report.candidates));
        if let Some(why) = clock {
            report.wrong_clock = true;
            report.reason = why;
        } else if self.options.recursion {
            return self.test_recursion(report, why_not).await;
        } else {
            report.reason = format!("{why_not}; own recursion is not allowed");
        }
        let state = State::Failed(report.reason.clone());
        (report, state)
    }

    async fn test_recursion(&self, mut report: SelfTestReport, why_not: String) -> (SelfTestReport, State) {
        let recurse: Arc<dyn Transport> = Arc::new(Recurse::new(
            self.client.clone(),
            self.root_servers.clone(),
            self.options.authoritative_port,
        ));
        let result = self.tester.test(recurse.clone()).await;
        report.wrong_clock = matches!(result, Err(Problem::Clock(_)));
        let candidate = candidate(None, result.map(|()| None));
        let problem = candidate.problem.clone();
        report.candidates.push(candidate);
        match problem {
            None => {
                report.verdict = Verdict::Recursion;
                report.reason = format!("own recursion, since {why_not}");
                (report, State::Ready(recurse))
            }
            Some(_) if report.wrong_clock => {
                report.reason = problem.unwrap_or_default();
                let state = State::Failed(report.reason.clone());
                (report, state)
            }
            Some(problem) => {
                report.reason = format!("{why_not}; own recursion: {problem}");
                let state = State::Failed(report.reason.clone());
                (report, state)
            }
        }
    }

    async fn test_forwarders(
        &self,
        servers: &[SocketAddr],
    ) -> Vec<(SocketAddr, Result<Option<String>, Problem>)> {
        let mut pending = Pending::new();
        for (i, server) in servers.iter().copied().enumerate() {
            pending.push(async move { (i, server, self.test_forwarder(server).await) });
        }
        let mut results = Vec::new();
        while let Some(result) = pending.next().await {
            results.push(result);
        }
        results.sort_by_key(|(i, ..)| *i);
        results.into_iter().map(|(_, server, result)| (server, result)).collect()
    }

    /// A warning where it passes but TCP does not work.
    async fn test_forwarder(&self, server: SocketAddr) -> Result<Option<String>, Problem> {
        if !self.client.uses(server.ip()) {
            return Err(Problem::Transport("its address family is switched off".to_owned()));
        }
        self.tester.test(self.forward(vec![server])).await?;
        let Some(zone) = self.tester.zone() else { return Ok(None) };
        let question = Question::new(zone, RecordType::DNSKEY);
        let budget = Budget::new(1, self.options.query_timeout);
        let tcp = self.client.tcp(server, &question, Flags::FORWARDER, &budget).await;
        let tcp = tcp.map_err(|failure| failure.to_string()).and_then(|message| carries_keys(&message));
        Ok(tcp
            .err()
            .map(|why| format!("TCP does not work ({why}), so large record sets will be unavailable")))
    }

    async fn test_trust_ad(&self) -> (SelfTestReport, State) {
        let mut report = SelfTestReport { verdict: Verdict::Failed, ..SelfTestReport::pending() };
        let servers = match forwarders(&self.options) {
            Ok(servers) => servers,
            Err(why) => {
                report.reason = format!("no resolver is configured ({why})");
                let state = State::Failed(report.reason.clone());
                return (report, state);
            }
        };
        let mut good = Vec::new();
        for server in servers {
            let result = self.test_ad(server).await;
            if result.is_ok() {
                good.push(server);
            }
            report.candidates.push(candidate(Some(server), result.map(|()| None)));
        }
        if good.is_empty() {
            report.reason = problems(&report.candidates);
            let state = State::Failed(report.reason.clone());
            return (report, state);
        }
        report.verdict = Verdict::TrustAd;
        report.reason = format!("the AD bit of {} is believed, as configured", list(&good));
        let trust = AdTrust::new(self.client.clone(), good, &self.options);
        (report, State::TrustAd(Arc::new(trust)))
    }

    /// A resolver that does not call the root zone authentic validates nothing.
    async fn test_ad(&self, server: SocketAddr) -> Result<(), Problem> {
        if !may_be_trusted(server) {
            return Err(Problem::Transport("is not on a loopback address".to_owned()));
        }
        let trust = AdTrust::new(self.client.clone(), vec![server], &self.options);
        let zone = self.tester.zone().unwrap_or_else(Name::root);
        let soa = trust.lookup(zone, RecordType::SOA).await;
        match soa.status {
            Status::Secure => Ok(()),
            Status::Insecure => {
                Err(Problem::Transport(format!("does not validate: no AD bit on {} SOA", soa.name)))
            }
            _ => Err(Problem::Transport(soa.reason.clone().unwrap_or_default())),
        }
    }

    async fn trust_ad(&self, name: Name, rtype: RecordType) -> Arc<Answer> {
        let late = async {
            Timer::after(self.options.lookup_timeout).await;
            Err("the self-test has not ended".to_owned())
        };
        match self.switch.trust_ad().or(late).await {
            Ok(trust) => trust.lookup(name, rtype).await,
            Err(why) => Arc::new(Answer::error(name, rtype, Status::Unavailable, why)),
        }
    }
}

fn candidate(address: Option<SocketAddr>, result: Result<Option<String>, Problem>) -> Candidate {
    let (problem, warning) = match result {
        Ok(warning) => (None, warning),
        Err(Problem::Transport(why) | Problem::Clock(why)) => (Some(why), None),
    };
    Candidate { address, problem, warning }
}

fn list(servers: &[SocketAddr]) -> String {
    servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// `resolver 192.0.2.1:53: strips DNSSEC signatures; …`
fn problems(candidates: &[Candidate]) -> String {
    let one = |c: &Candidate| Some(format!("resolver {}: {}", c.address?, c.problem.as_deref()?));
    candidates.iter().filter_map(one).collect::<Vec<_>>().join("; ")
}

/// What to say of the others where some candidates are used.
fn others(candidates: &[Candidate]) -> String {
    let mut out = problems(candidates);
    for candidate in candidates {
        if let (Some(address), Some(warning)) = (candidate.address, &candidate.warning) {
            out.push_str(&format!("{}resolver {address}: {warning}", if out.is_empty() { "" } else { "; " }));
        }
    }
    if out.is_empty() { out } else { format!("; {out}") }
}

/// What lookups go through at the moment.
#[derive(Clone)]
enum State {
    Testing,
    Ready(Arc<dyn Transport>),
    TrustAd(Arc<AdTrust>),
    Failed(String),
}

/// Stands for the transport in use, and watches it: what the self-test demanded must go on.
struct Switch {
    state: Mutex<State>,
    suspicious: Mutex<u32>,
    suspect: Sender<()>,
    /// Closed when the first test has ended.
    tested: (Sender<()>, Receiver<()>),
}

impl Switch {
    fn new(suspect: Sender<()>) -> Self {
        Self {
            state: Mutex::new(State::Testing),
            suspicious: Mutex::new(0),
            suspect,
            tested: async_channel::bounded(1),
        }
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        *self.suspicious() = 0;
        self.tested.0.close();
    }

    fn suspicious(&self) -> MutexGuard<'_, u32> {
        self.suspicious.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, once the first test has ended.
    async fn state(&self) -> State {
        loop {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if !matches!(state, State::Testing) {
                return state;
            }
            // Ends when the channel is closed; nothing is ever sent.
            let _ = self.tested.1.recv().await;
        }
    }

    async fn trust_ad(&self) -> Result<Arc<AdTrust>, String> {
        match self.state().await {
            State::TrustAd(trust) => Ok(trust),
            State::Failed(why) => Err(format!("DNS does not work on this host: {why}")),
            State::Testing | State::Ready(_) => Err("DNS is not ready".to_owned()),
        }
    }

    /// One more sign that the transport stopped carrying DNSSEC.
    fn suspect(&self) {
        let mut suspicious = self.suspicious();
        *suspicious = suspicious.saturating_add(1);
        if *suspicious >= SUSPICIOUS {
            *suspicious = 0;
            // Full means that it was said already.
            let _ = self.suspect.try_send(());
        }
    }

    fn watch(&self, question: &Question, response: &Result<Message, TransportFailure>) {
        let signed_zone = matches!(question.rtype, RecordType::DNSKEY | RecordType::DS);
        match response {
            Ok(m) if has_signatures(m) => *self.suspicious() = 0,
            Ok(m) if m.response_code == ResponseCode::ServFail || signed_zone => self.suspect(),
            Ok(_) | Err(TransportFailure::GivenUp(_)) => {}
            Err(_) => self.suspect(),
        }
    }
}

impl Transport for Switch {
    fn ask<'a>(&'a self, question: Question, budget: &'a Budget) -> TransportFuture<'a> {
        Box::pin(async move {
            match self.state().await {
                State::Ready(transport) => {
                    let response = transport.ask(question.clone(), budget).await;
                    self.watch(&question, &response);
                    response
                }
                State::Failed(why) => {
                    Err(TransportFailure::GivenUp(format!("DNS does not work on this host: {why}")))
                }
                State::Testing | State::TrustAd(_) => {
                    Err(TransportFailure::GivenUp("DNS is not ready".to_owned()))
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
