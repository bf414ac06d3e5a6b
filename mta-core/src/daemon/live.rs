//! The daemon while it runs: its tasks, its signals, what a reload changes, and the order in which it stops.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_signal::{Signal, Signals};
use futures_lite::StreamExt;
use mta_queue::Queue;
use mta_smtp::address::Mailbox;

use super::start::{Prepared, Tls};
use super::watch::Watch;
use super::{CONFIGURATION, INTERNAL, StartError};
use crate::account::Directory;
use crate::alert::{self, Alerts};
use crate::auth::Verifier;
use crate::auth::dkim::KeyRing;
use crate::auth::srs::Srs;
use crate::clock::SystemClock;
use crate::config::{Applied, Config};
use crate::control::{self, AlertView, Daemon, QueueOperations, StatusView};
use crate::delivery::local::{self, Turns};
use crate::dns;
use crate::inbound::recipients::{Ask, Asking, Recipients, Relayed};
use crate::inbound::{self, SubmissionTls};
use crate::log::Line;
use crate::outbound::ask::ask;
use crate::outbound::dane_memory::DaneMemory;
use crate::outbound::provider::{self, Providers};
use crate::outbound::scheduler::{self, Deliver, Delivery, Scheduler, Site};
use crate::outbound::{self, Job};
use crate::pause::Pauses;
use crate::report::dmarc::Counter;
use crate::report::send;
use crate::routing::Route;
use crate::stop::stop;
use crate::sts::Sts;
use crate::tls::client::Client;
use crate::user;

/// How long open sessions and deliveries may go on after the signal to stop. Below the 90 s that service managers give.
const GRACE: Duration = Duration::from_secs(20);

/// The signals the daemon listens to. From here on they wait for it.
pub(super) fn signals() -> Result<Signals, StartError> {
    Signals::new([Signal::Term, Signal::Int, Signal::Hup])
        .map_err(|error| StartError::new(INTERNAL, format!("signals: {error}")))
}

/// The resolver. Reads its files and checks its options; asks nothing yet.
pub(super) fn dns(config: &Config) -> Result<dns::Service, StartError> {
    dns::Service::new(config.dns_options(), SystemClock::shared())
        .map_err(|error| StartError::new(CONFIGURATION, error))
}

/// Runs everything until SIGTERM or SIGINT.
pub(super) fn run(
    prepared: Prepared,
    signals: Signals,
    dns: dns::Service,
    config: Config,
    path: Option<PathBuf>,
) -> Result<(), StartError> {
    let Prepared { listeners, control, local, access, tls, queue, providers } = prepared;
    let alerts = Alerts::kept_in(Box::new(alert::QueueStore(queue.clone())));
    watch_space(&queue, &alerts);
    let keys = Some(KeyRing::new(&config.state_dir));
    let srs_secret = config.srs_secret(&queue).map_err(|error| StartError::new(INTERNAL, error))?;
    let site = Site { alerts, providers: Arc::new(Providers::new(providers)), keys, users: None };
    let sts = sts(&config, &dns, &queue);
    let dane_memory = DaneMemory::kept_in(&queue, site.alerts.clone());
    let directory = Directory::default();
    directory.read_database(&queue.reader()).map_err(|error| {
        StartError::new(INTERNAL, format!("the aliases of the queue's database: {error}"))
    })?;
    directory.tell(site.alerts.clone());
    // What is wrong in them is in the log and in alerts; mail for a broken alias waits.
    let _ = directory.read_files(config.alias_files());
    let watched = (site.clone(), dane_memory, Watch::new(&queue, &site.alerts), directory);
    let kept = queue.reader().pauses().map_err(|error| StartError::new(INTERNAL, error))?;
    let checks = config.login_options().checks;
    let users = user::Service::new(watched.3.users(), &queue, site.alerts.clone(), checks)
        .map_err(|error| StartError::new(INTERNAL, error))?;
    let site = Site { users: Some(Arc::clone(&users)), ..site };
    let watched = (watched, users, (Recipients::new(queue.clone()), srs_secret));
    tls.identities.tell(site.alerts.clone());
    let mut shared = Shared::new(&config, tls, dns.clone(), sts, path, &listeners, watched);
    shared.pauses = Pauses::new(kept);
    let counter = Counter::new(queue.clone());
    shared.counter = Some(Arc::clone(&counter));
    shared.allow_keys(&config);
    let shared = Arc::new(shared);
    shared.warn_of_pauses();
    let options = shared.scheduler_options(&config);
    let scheduler = Scheduler::new(queue.clone(), Arc::new(Deliverer(Arc::clone(&shared))), options, site);
    let inbound = inbound::Server::new(shared.inbound_settings(&config), queue.clone());
    let resolver = Arc::new(dns.clone());
    let (tls_client, keys) = (Arc::clone(&shared.tls_client), shared.site.keys.clone());
    let gathered = (queue.clone(), Arc::clone(&counter));
    let reports = send::Sender::new(gathered, resolver, tls_client, keys, config.report_options());
    let parts = Arc::new(Parts { shared, scheduler, inbound, reports, reloading: Mutex::default() });
    let operations = QueueOperations::live(queue.clone(), Arc::clone(&parts.scheduler), controlled(&parts));
    let watching = parts.shared.watch.clone().run(parts.shared.pauses.clone());

    let key_watch = parts.shared.site.keys.clone().map(|keys| keys.watch(Arc::new(dns.clone())));

    let (stopper, stopping) = stop();
    let tasks = (
        smol::spawn(async move { dns.run().await }),
        smol::spawn(Arc::clone(&parts.shared.sts).run({
            let shared = Arc::clone(&parts.shared);
            move || Arc::clone(&shared.live().applied.outbound)
        })),
        smol::spawn(Arc::clone(&parts.scheduler).run(stopping.clone(), GRACE)),
        smol::spawn(Arc::clone(&parts.inbound).run(listeners, Some(local), stopping, GRACE)),
        smol::spawn(control::serve(control, access, Arc::new(operations))),
        smol::spawn(watching),
        (smol::spawn(Arc::clone(&parts.reports).run()), smol::spawn(Arc::clone(&counter).run())),
        key_watch.map(smol::spawn),
    );
    smol::block_on(async {
        parts.ready();
        parts.signals(signals).await;
        notify(&[sd_notify::NotifyState::Stopping]);
        ::log::info!("{}", Line::new("stopping"));
        stopper.fire();
        parts.shared.pool.close();
        let (dns, sts, scheduler, inbound, control, watching, reports, key_watch) = tasks;
        inbound.await;
        scheduler.await;
        control.cancel().await;
        watching.cancel().await;
        reports.0.cancel().await;
        reports.1.cancel().await;
        // The last minute's counts; the queue's end waits for them.
        counter.flush(|_| {});
        if let Some(task) = key_watch {
            task.cancel().await;
        }
        sts.cancel().await;
        dns.cancel().await;
        close(queue).await;
    });
    ::log::info!("{}", Line::new("stopped"));
    Ok(())
}

/// The MTA-STS policies, and the TLS client that mail out shares with them.
fn sts(config: &Config, dns: &dns::Service, queue: &Queue) -> Arc<Sts> {
    let client = Arc::new(Client::with_ca_file(config.outbound.ca_file.clone()));
    Sts::new(Arc::new(dns.clone()), client, Some(queue.clone()))
}

/// The administrator hears when no mail is taken for want of space, and when it is again.
fn watch_space(queue: &Queue, alerts: &Alerts) {
    let alerts = alerts.clone();
    queue.on_space(Arc::new(move |short| {
        if short {
            let text = "so little space or so few inodes are left that no mail is taken in (452)";
            let remedy = "make room on the file system of state_dir, or lower queue.min_free_space";
            alerts.raise(alert::Kind::Disk, "", text, remedy);
        } else {
            alerts.clear(alert::Kind::Disk, "");
        }
    }));
}

/// The writer finishes what it was given.
async fn close(queue: Queue) {
    smol::unblock(move || queue.close()).await;
}

/// What watches and remembers beside the mail, and who the users are.
type Watched = ((Site, DaneMemory, Watch, Directory), Arc<user::Service>, (Arc<Recipients>, Vec<u8>));

/// What a reload reaches.
struct Parts {
    shared: Arc<Shared>,
    scheduler: Arc<Scheduler>,
    inbound: Arc<inbound::Server>,
    reports: Arc<send::Sender>,
    /// Held while the configuration is read: a signal and an administrator may ask at the same time.
    reloading: Mutex<()>,
}

impl Parts {
    /// Says that the server is ready, and the record that makes it trustworthy to others.
    fn ready(&self) {
        let live = self.shared.live();
        let line = Line::new("ready").with("version", env!("CARGO_PKG_VERSION")).with("host", &live.hostname);
        ::log::info!("{}", line.with("listen", self.shared.listen.join(",")));
        for record in self.shared.tls.identities.tlsa() {
            let publish = format!("_25._tcp.{}. IN TLSA {record}", live.hostname);
            ::log::info!("{}", Line::new("tlsa").with("publish", publish));
        }
        notify(&[sd_notify::NotifyState::Ready]);
    }

    /// Handles signals until one says stop.
    async fn signals(&self, mut signals: Signals) {
        while let Some(signal) = signals.next().await {
            match signal {
                // Who sends it reads the log.
                Ok(Signal::Hup) => drop(self.reload()),
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Reads the configuration again. All of it takes effect, or none of it and the log says why. The keys that wait
    /// for a restart.
    fn reload(&self) -> Result<Vec<&'static str>, String> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        notify(&[sd_notify::NotifyState::Reloading]);
        let ended = self.try_reload();
        match &ended {
            Ok(_) => ::log::info!("{}", Line::new("reloaded")),
            Err(reason) => {
                let line = Line::new("reload-failed").with("reason", reason);
                ::log::error!("{}", line.with("effect", "the configuration in force stays"));
            }
        }
        notify(&[sd_notify::NotifyState::Ready]);
        ended
    }

    fn try_reload(&self) -> Result<Vec<&'static str>, String> {
        let path = self.shared.path.as_ref().ok_or("there is no configuration file: nothing to read")?;
        let config = Config::load(path).map_err(|errors| errors.to_string())?;
        let providers = provider::load(config.outbound.provider_replies_file.as_deref())
            .map_err(|error| format!("outbound.provider_replies_file: {error}"))?;
        self.shared.tls.identities.reload(config.tls_sources()).map_err(|error| error.to_string())?;
        let waiting = self.shared.waiting_for_restart(&config);
        for key in &waiting {
            ::log::warn!("{}", Line::new("reload").with("key", key).with("effect", "needs a restart"));
        }
        let _ = self.shared.directory.read_files(config.alias_files());
        self.shared.allow_keys(&config);
        self.inbound.reload(self.shared.inbound_settings(&config));
        self.shared.site.providers.reload(providers);
        self.shared.apply(&config);
        self.scheduler.reload(self.shared.scheduler_options(&config));
        self.reports.reload(config.report_options());
        crate::log::init(config.log.target, config.log.level)?;
        Ok(waiting)
    }
}

/// What all tasks share, and what a reload changes of it.
struct Shared {
    dns: dns::Service,
    /// What clients are shown.
    tls: Tls,
    tls_client: Arc<Client>,
    sts: Arc<Sts>,
    /// Sessions to other servers that rest between two messages.
    pool: outbound::Pool,
    path: Option<PathBuf>,
    listen: Vec<String>,
    started_at: SystemTime,
    /// The configuration at start, for the keys that only a restart changes.
    at_start: Config,
    /// What the administrator has to know, and what is known of providers.
    site: Site,
    /// Which destinations had DANE for weeks.
    dane_memory: DaneMemory,
    /// Damage in the queue, and what stands still for long.
    watch: Watch,
    /// What stands still by the administrator's wish.
    pauses: Pauses,
    /// Aliases.
    directory: Directory,
    /// Who logs in.
    users: Arc<user::Service>,
    /// What rewritten senders are made with.
    srs_secret: Vec<u8>,
    /// Who exists in relayed domains.
    recipients: Arc<Recipients>,
    /// Counts strangers' mail for DMARC reports.
    counter: Option<Arc<Counter>>,
    live: Mutex<Arc<Live>>,
}

/// What is in force now.
struct Live {
    applied: Applied,
    hands: local::Hands,
    hostname: String,
}

impl Live {
    fn new(config: &Config, directory: &Directory, alerts: &Alerts, turns: Turns) -> Arc<Self> {
        let applied = Applied::with_directory(config, directory);
        let hostname = config.effective_hostname().to_string();
        let hands = local::Hands {
            accounts: Arc::clone(&applied.accounts),
            hostname: hostname.clone(),
            process: config.delivery_process(),
            lmtp_limits: applied.outbound.smtp,
            alerts: alerts.clone(),
            turns,
            deliveries: config.outbound.max_deliveries_per_destination as usize,
        };
        Arc::new(Self { applied, hands, hostname })
    }
}

impl Shared {
    fn new(
        config: &Config,
        tls: Tls,
        dns: dns::Service,
        sts: Arc<Sts>,
        path: Option<PathBuf>,
        listeners: &[(inbound::Service, crate::net::Listener)],
        ((site, dane_memory, watch, directory), users, (recipients, srs_secret)): Watched,
    ) -> Self {
        let live = Live::new(config, &directory, &site.alerts, Turns::default());
        Self {
            dns,
            tls,
            tls_client: sts.tls_client(),
            sts,
            pool: outbound::Pool::default(),
            path,
            listen: listeners.iter().map(|(_, listener)| listener.address().to_string()).collect(),
            started_at: SystemTime::now(),
            at_start: config.clone(),
            site,
            dane_memory,
            watch,
            pauses: Pauses::default(),
            live: Mutex::new(live),
            directory,
            users,
            srs_secret,
            recipients,
            counter: None,
        }
    }

    /// Rewriting of senders.
    fn srs(&self, config: &Config) -> Option<Arc<Srs>> {
        config.srs(&self.srs_secret)
    }

    /// What the keys may be used for.
    fn allow_keys(&self, config: &Config) {
        if let Some(keys) = &self.site.keys {
            keys.allow(config.dkim.sign, config.dkim.arc_seal);
        }
    }

    /// What an attempt needs, in force now.
    fn context(&self, live: &Live) -> outbound::Context {
        outbound::Context {
            resolver: Arc::new(self.dns.clone()),
            options: Arc::clone(&live.applied.outbound),
            tls: Arc::clone(&self.tls_client),
            sts: Some(Arc::clone(&self.sts)),
            pool: self.pool.clone(),
            providers: Arc::clone(&self.site.providers),
            dane_memory: self.dane_memory.clone(),
        }
    }

    fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says at the start what stands still: nobody should have to guess.
    fn warn_of_pauses(&self) {
        for pause in self.pauses.active(SystemTime::now()) {
            let line = Line::new("paused").with("what", &pause.name).with("by", &pause.who);
            ::log::warn!("{}", line.with("reason", &pause.reason));
        }
    }

    /// What is open now. While no lookup works nobody may have tried one.
    fn open_alerts(&self) -> Vec<AlertView> {
        self.watch.look(&self.pauses, SystemTime::now());
        self.directory.refresh();
        let open = self.site.alerts.open();
        let is_told = open.iter().any(|open| open.kind == alert::Kind::SiteFault && open.subject != "dns");
        if self.dns.is_site_fault() && !is_told {
            let text = format!("no mail leaves: {}", self.dns.report().reason);
            let remedy =
                "see to it that this host reaches a resolver that passes DNSSEC on, or the root servers";
            self.site.alerts.raise(alert::Kind::SiteFault, "dns", &text, remedy);
        } else {
            self.site.alerts.clear(alert::Kind::SiteFault, "dns");
        }
        self.site.alerts.open().iter().map(AlertView::from).collect()
    }

    fn apply(&self, config: &Config) {
        // What is under way goes on.
        let turns = self.live().hands.turns.clone();
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) =
            Live::new(config, &self.directory, &self.site.alerts, turns);
        // Nothing rides on what another configuration allowed.
        self.pool.clear();
    }

    fn inbound_settings(self: &Arc<Self>, config: &Config) -> Arc<inbound::Settings> {
        let accounts = Arc::new(config.accounts().with_directory(self.directory.clone()));
        let verifier = config.auth.verify.then(|| {
            let receiver = config.host_domain().to_string();
            let verifier = Verifier::new(Arc::new(self.dns.clone()), config.auth_options(), receiver);
            // What is kept for no day is not counted.
            Arc::new(verifier.counting(self.counter.clone().filter(|_| self.at_start.report.dmarc_days > 0)))
        });
        let options = inbound::Options {
            pauses: self.pauses.clone(),
            verifier,
            keys: self.site.keys.clone(),
            srs: self.srs(config),
            relayed: Some(Relayed {
                recipients: Arc::clone(&self.recipients),
                ask: Arc::new(Asker(Arc::clone(self))),
                options: config.recipient_options(),
            }),
            ..config.inbound_options()
        };
        let settings = inbound::Settings::new(options, accounts, Some(Arc::clone(&self.tls.server)));
        let tls = if config.submission.asks_for_certificates() { &self.tls.asking } else { &self.tls.server };
        let tls = SubmissionTls { config: Arc::clone(tls), identities: self.tls.identities.clone() };
        settings.with_submission(config.submission_options(), Some(tls), Arc::clone(&self.users))
    }

    fn scheduler_options(&self, config: &Config) -> scheduler::Options {
        scheduler::Options {
            pauses: self.pauses.clone(),
            srs: self.srs(config),
            ..config.scheduler_options()
        }
    }

    /// The keys that were changed and that only a restart changes.
    fn waiting_for_restart(&self, config: &Config) -> Vec<&'static str> {
        let start = &self.at_start;
        let changed = [
            ("smtp.listen", config.smtp.listen != start.smtp.listen),
            ("submission.listen", config.submission.listen != start.submission.listen),
            ("submission.listen_tls", config.submission.listen_tls != start.submission.listen_tls),
            ("submission.hash_parallel", config.submission.hash_parallel != start.submission.hash_parallel),
            ("state_dir", config.state_dir != start.state_dir),
            ("runtime_dir", config.runtime_dir != start.runtime_dir),
            ("user", config.user != start.user),
            ("admin_group", config.admin_group != start.admin_group),
            ("dns", config.dns != start.dns),
            ("queue.min_free_space", config.queue.min_free_space != start.queue.min_free_space),
            ("outbound.ca_file", config.outbound.ca_file != start.outbound.ca_file),
            ("recipients.max_answers", config.recipients.max_answers != start.recipients.max_answers),
            ("sts.max_policies", config.sts.max_policies != start.sts.max_policies),
            ("report.tls_days", config.report.tls_days != start.report.tls_days),
            ("report.dmarc_days", config.report.dmarc_days != start.report.dmarc_days),
            ("queue.history", config.queue.history != start.queue.history),
        ];
        changed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
    }
}

/// The scheduler's hands: our own domains here, everything else by SMTP.
struct Deliverer(Arc<Shared>);

impl Deliver for Deliverer {
    fn route(&self, destination: &str) -> Route {
        self.0.live().applied.route(destination)
    }

    fn deliver(&self, job: Job) -> Delivery {
        let live = self.0.live();
        if job.route == Route::Local {
            return Box::pin(local::attempt(live.hands.clone(), job));
        }
        let context = self.0.context(&live);
        Box::pin(async move { outbound::attempt(&context, &job).await })
    }
}

/// Asks the next hops of relayed domains, by the way that their mail goes.
struct Asker(Arc<Shared>);

impl Ask for Asker {
    fn ask(&self, mailbox: &Mailbox, within: Duration) -> Asking {
        let live = self.0.live();
        let destination = mailbox.domain().map(ToString::to_string).unwrap_or_default();
        let (context, route) = (self.0.context(&live), live.applied.route(&destination));
        let mailbox = mailbox.clone();
        Box::pin(async move { ask(&context, route, &mailbox, within).await })
    }
}

/// What administrators see of the daemon and do with it.
fn controlled(parts: &Arc<Parts>) -> Daemon {
    let Parts { shared, scheduler, inbound, .. } = &**parts;
    let (shared, inbound, scheduler) = (Arc::clone(shared), Arc::clone(inbound), Arc::clone(scheduler));
    let (pauses, directory) = (shared.pauses.clone(), shared.directory.clone());
    let users = Arc::clone(&shared.users);
    let (parts, reports) = (Arc::clone(parts), Arc::clone(&parts.reports));
    Daemon {
        reload: Box::new(move || parts.reload()),
        status: Box::new(move || {
            let live = shared.live();
            StatusView {
                pid: Some(std::process::id()),
                started_at: Some(control::rfc3339(shared.started_at)),
                config: shared.path.as_ref().map(|path| path.display().to_string()),
                hostname: live.hostname.clone(),
                listen: shared.listen.clone(),
                sessions: inbound.open_sessions() as u64,
                deliveries: scheduler.deliveries() as u64,
                dns: shared.dns.report().reason,
                tlsa: shared
                    .tls
                    .identities
                    .tlsa()
                    .first()
                    .map(|record| format!("_25._tcp.{}. IN TLSA {record}", live.hostname)),
                alerts: shared.open_alerts(),
                ..StatusView::default()
            }
        }),
        pauses,
        directory,
        users,
        reports,
    }
}

/// Tells systemd, where it listens. Nothing depends on it.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        ::log::debug!("{}", Line::new("sd-notify").with("error", error));
    }
}
