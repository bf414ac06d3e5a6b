//! From the configuration to the options of each module. The modules define their options; this file fills them.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mta_queue::{Queue, QueueError};
use mta_smtp::address::{Domain, Mailbox};
use ring::rand::{SecureRandom, SystemRandom};

use super::AuthAction;
use super::{
    Config, DaneMode, Destination, DnsMode, DomainKind, HostPort, MboxFormat, Relay, RelayRecipients,
    RelayTls, Unasked,
};
use crate::account::{self, Accounts, Directory, LocalDomain};
use crate::auth::srs::Srs;
use crate::delivery::process::{self, Process};
use crate::inbound::recipients;
use crate::outbound::tls_policy::{DestinationRule, TlsRule};
use crate::outbound::{breaker, scheduler};
use crate::privilege::ServiceUser;
use crate::routing::table::RoutingTable;
use crate::routing::{self, RelayAuth, RelayHost, Route};
use crate::tls::identities;
use crate::user::{external, guard, login, password, rate};
use crate::{auth, dns, inbound, outbound};

impl Config {
    /// The name this host gives itself, as SMTP has it.
    pub fn host_domain(&self) -> Domain {
        let name = self.effective_hostname();
        // A name that the configuration takes is a domain; what the system says may not be.
        Domain::parse(&name)
            .or_else(|_| Domain::parse("localhost"))
            .unwrap_or_else(|_| unreachable!("localhost is a domain"))
    }

    /// The options of mail coming in.
    pub fn inbound_options(&self) -> inbound::Options {
        let smtp = &self.smtp;
        let mut options = inbound::Options::new(self.host_domain());
        options.postmaster = self.postmaster_mailbox();
        options.relay_networks.clone_from(&smtp.relay_networks);
        options.message_size_limit = smtp.message_size_limit.0;
        options.dsn_for_strangers = smtp.dsn_for_strangers;
        options.sessions = size(smtp.max_sessions);
        options.sessions_per_client = size(smtp.max_sessions_per_client);
        options.write_timeout = smtp.write_timeout;
        options.greeting_wait = smtp.greeting_wait;
        options.sender_rewrite = self.sender_rewrite();
        options.rewrite_header = self.rewrite.header;
        options.local = inbound::LocalOptions {
            maildrop: self.maildrop(),
            origin: self.origin(),
            any_sender: self.sendmail.any_sender,
            trusted_users: self.sendmail.trusted_users.clone(),
            sessions_per_user: size(self.sendmail.max_sessions_per_user),
            messages_per_hour: u64::from(self.sendmail.max_messages_per_hour),
        };
        let limits = &mut options.limits;
        limits.recipients = size(smtp.max_recipients);
        limits.transactions = size(smtp.max_transactions);
        limits.errors = size(smtp.max_errors);
        limits.idle_commands = size(smtp.max_idle_commands);
        limits.content_line_octets = bytes(smtp.max_line.0);
        limits.header_octets = bytes(smtp.max_header.0);
        limits.header_lines = size(smtp.max_header_lines);
        limits.received_lines = size(smtp.max_received);
        limits.command_timeout = smtp.command_timeout;
        limits.content_block_timeout = smtp.block_timeout;
        limits.content_timeout = smtp.content_timeout;
        limits.tls_timeout = smtp.tls_timeout;
        limits.session_lifetime = smtp.session_timeout;
        options
    }

    /// Sender rewriting, where it is wanted.
    fn sender_rewrite(&self) -> Option<inbound::SenderRewrite> {
        let to = Domain::parse(self.rewrite.sender_domain.as_deref()?).ok()?;
        let mut from: Vec<Domain> =
            self.rewrite.from_domains.iter().filter_map(|d| Domain::parse(d).ok()).collect();
        if from.is_empty() {
            from =
                ["localhost", "localhost.localdomain"].iter().filter_map(|d| Domain::parse(d).ok()).collect();
            from.push(self.host_domain());
        }
        Some(inbound::SenderRewrite { from, to })
    }

    /// The domain that senders of forwarded mail are rewritten into: the one that is set, else the host's name where it is a
    /// domain delivered here, else the nearest such domain above it, else the first. None where it is off, or where no
    /// bounce could come back; a domain that is relayed does not count, its bounces go elsewhere.
    pub fn srs_domain(&self) -> Option<Domain> {
        if !self.srs.enabled {
            return None;
        }
        let host = self.host_domain().to_string();
        let here = self.domains.iter().filter(|(_, domain)| domain.kind != DomainKind::Relay);
        let ours: Vec<String> = here.map(|(name, _)| name.to_string()).collect();
        let above = |name: &&String| host == **name || host.ends_with(&format!(".{name}"));
        let name = match &self.srs.domain {
            Some(set) => set.to_string(),
            None => ours.iter().filter(above).max_by_key(|name| name.len()).or_else(|| ours.first())?.clone(),
        };
        Domain::parse(&name).ok()
    }

    /// The secret of rewritten senders, which the queue's database keeps; made where there is none.
    ///
    /// # Errors
    /// The system gives no random numbers, or what the database reports.
    pub fn srs_secret(&self, queue: &Queue) -> Result<Vec<u8>, QueueError> {
        let mut secret = [0; 32];
        SecureRandom::fill(&SystemRandom::new(), &mut secret)
            .map_err(|_| QueueError::Storage("the system gives no random numbers".to_owned()))?;
        queue.secret("srs", secret.to_vec())
    }

    /// Rewriting of senders with this secret, where it is wanted and possible.
    pub fn srs(&self, secret: &[u8]) -> Option<Arc<Srs>> {
        Some(Arc::new(Srs::new(&[secret.to_vec()], self.srs_domain()?)))
    }

    /// The options of verification.
    pub fn auth_options(&self) -> auth::Options {
        let action = |action| match action {
            AuthAction::Accept => auth::Action::Accept,
            AuthAction::Mark => auth::Action::Mark,
            AuthAction::Reject => auth::Action::Reject,
        };
        let set = &self.auth;
        auth::Options {
            verify: set.verify,
            spf: action(set.spf),
            dkim: action(set.dkim),
            dmarc: action(set.dmarc),
            arc: action(set.arc),
            iprev: action(set.iprev),
            trusted_sealers: set.trusted_sealers.iter().map(ToString::to_string).collect(),
            max_signatures: size(set.max_signatures),
            max_lookups: size(set.max_lookups),
            timeout: set.timeout,
        }
    }

    /// The options of asking the next hops of relayed domains.
    pub fn recipient_options(&self) -> recipients::Options {
        let set = &self.recipients;
        recipients::Options {
            keep_known: set.keep_known,
            refresh_known: set.refresh_known,
            keep_unknown: set.keep_unknown,
            refresh_unknown: set.refresh_unknown,
            parallel: size(set.max_questions),
            wait: set.wait,
            timeout: set.timeout,
        }
    }

    /// The own domains.
    pub fn accounts(&self) -> Accounts {
        let domains = self.domains.iter().filter_map(|(name, domain)| {
            let mailboxes = domain.mailboxes.iter().map(ToString::to_string).collect();
            let maildir = domain.maildir.replace("{state_dir}", &self.state_dir.to_string_lossy());
            let kind = match (domain.kind, domain.recipients) {
                (DomainKind::Virtual, _) => account::DomainKind::Virtual,
                (DomainKind::Local, _) => account::DomainKind::Local,
                (DomainKind::Relay, RelayRecipients::Listed) => {
                    account::DomainKind::Relay(account::RelayRecipients::Listed)
                }
                (DomainKind::Relay, RelayRecipients::Any) => {
                    account::DomainKind::Relay(account::RelayRecipients::Any)
                }
                (DomainKind::Relay, RelayRecipients::Verified) => {
                    let unasked = match domain.unasked {
                        Unasked::Accept => account::Unasked::Accept,
                        Unasked::Defer => account::Unasked::Defer,
                    };
                    account::DomainKind::Relay(account::RelayRecipients::Verified(unasked))
                }
            };
            Some((
                Domain::parse(name).ok()?,
                LocalDomain {
                    kind,
                    mailboxes,
                    maildir,
                    lmtp: domain.deliver.clone(),
                    quota: Some(domain.quota.0).filter(|quota| *quota > 0),
                },
            ))
        });
        let mut domains: HashMap<_, _> = domains.collect();
        if self.local.enable {
            let names =
                [self.host_domain().to_string(), "localhost".to_owned(), "localhost.localdomain".to_owned()];
            for domain in names.iter().filter_map(|name| Domain::parse(name).ok()) {
                let users = || LocalDomain { kind: account::DomainKind::Local, ..LocalDomain::default() };
                domains.entry(domain).or_insert_with(users);
            }
        }
        let accounts = Accounts::new(domains, self.postmaster_mailbox());
        accounts.with_rules(self.account_rules())
    }

    fn account_rules(&self) -> account::Rules {
        account::Rules {
            delimiter: self.recipient_delimiter.as_ref().and_then(|text| text.chars().next()),
            min_uid: self.local.min_uid,
            allowed_users: self.local.allowed_users.iter().cloned().collect(),
            root_maildir: self
                .local
                .root_maildir
                .replace("{state_dir}", &self.state_dir.to_string_lossy())
                .into(),
            alias_user: self.alias.user.clone(),
            allow_pipes: self.alias.allow_pipes,
            max_targets: size(self.alias.max_targets),
            max_depth: size(self.alias.max_depth),
        }
    }

    /// Whether any domain has the users of this system.
    pub fn has_local_users(&self) -> bool {
        self.local.enable || self.domains.values().any(|domain| domain.kind == DomainKind::Local)
    }

    /// The alias files that count: none where no domain has names of this host.
    pub fn alias_files(&self) -> &[PathBuf] {
        if self.has_local_users() { &self.alias.files } else { &[] }
    }

    /// The way to the delivery process.
    pub fn delivery_process(&self) -> Process {
        Process { socket: self.local.socket.clone(), timeout: self.local.timeout }
    }

    /// What the delivery process is started with.
    ///
    /// # Errors
    /// One sentence: the service user is not known.
    pub fn delivery_settings(&self) -> Result<process::Settings, String> {
        let peer = match &self.user {
            Some(name) => ServiceUser::find(name).map(|user| user.uid()).map_err(|error| error.to_string())?,
            None => process::owner_of(&self.state_dir).map_err(|error| {
                let folder = self.state_dir.display();
                format!("{folder} (state_dir) says who the mail server is, but: {error}; start the server first, or set user")
            })?,
        };
        Ok(process::Settings {
            socket: self.local.socket.clone(),
            peer,
            mailbox: self.local.mailbox.clone(),
            mbox_format: match self.local.mbox_format {
                MboxFormat::Mboxrd => process::MboxFormat::Mboxrd,
                MboxFormat::Mboxo => process::MboxFormat::Mboxo,
            },
            mbox_group: self.local.mbox_group.clone(),
            forward: self.local.forward,
            min_uid: self.local.min_uid,
            allowed_users: self.local.allowed_users.iter().cloned().collect(),
            max_processes: size(self.local.max_processes),
            timeout: self.local.timeout,
            alias_files: self.alias_files().to_vec(),
            alias_user: self.alias.user.clone(),
            allow_pipes: self.alias.allow_pipes,
        })
    }

    /// The configured postmaster.
    pub fn postmaster_mailbox(&self) -> Option<Mailbox> {
        self.postmaster.as_ref().and_then(|address| Mailbox::parse(address).ok())
    }

    /// The options of DNS.
    pub fn dns_options(&self) -> dns::Options {
        let dns = &self.dns;
        let mut options = dns::Options {
            mode: match dns.mode {
                DnsMode::Auto => dns::Mode::Auto,
                DnsMode::TrustAd => dns::Mode::TrustAd,
            },
            forwarders: dns.servers.iter().map(|server| server.0).collect(),
            recursion: dns.recursion,
            root_hints: self.root_hints(),
            authoritative_port: dns.authoritative_port,
            trust_anchor_file: dns.trust_anchor_file.clone(),
            query_timeout: dns.query_timeout,
            lookup_timeout: dns.lookup_timeout,
            ipv4: self.outbound.ipv4,
            ipv6: self.outbound.ipv6,
            source_ipv4: self.outbound.source_ipv4,
            source_ipv6: self.outbound.source_ipv6,
            ..dns::Options::default()
        };
        // Half for answers, a quarter each for keys and zone cuts.
        options.cache.answer_bytes = bytes(dns.cache_size.0 / 2);
        options.cache.zone_bytes = bytes(dns.cache_size.0 / 4);
        options
    }

    fn root_hints(&self) -> dns::RootHints {
        if !self.dns.root_servers.is_empty() {
            return dns::RootHints::Servers(self.dns.root_servers.iter().map(|server| server.0).collect());
        }
        self.dns.root_hints_file.clone().map_or(dns::RootHints::BuiltIn, dns::RootHints::File)
    }

    /// What a new password hash costs.
    pub fn password_cost(&self) -> password::Cost {
        let submission = &self.submission;
        password::Cost {
            memory_kib: u32::try_from(submission.hash_memory.0 / 1024).unwrap_or(u32::MAX),
            passes: submission.hash_passes,
            scram_iterations: NonZeroU32::new(submission.scram_iterations).unwrap_or(NonZeroU32::MIN),
        }
    }

    /// The options of logins.
    pub fn login_options(&self) -> login::Options {
        let submission = &self.submission;
        login::Options {
            cost: self.password_cost(),
            checks: size(submission.hash_parallel),
            guard: guard::Options {
                client_failures: submission.max_failures_per_client,
                user_failures: submission.max_failures_per_user,
                block: submission.block_time,
                ..guard::Options::default()
            },
            external: submission
                .external_auth
                .clone()
                .map(|socket| external::External { socket, timeout: submission.external_timeout }),
            client_ca_file: submission.client_ca_file.clone(),
        }
    }

    /// Where the certificates lie that clients are shown.
    pub fn tls_sources(&self) -> identities::Sources {
        let tls = &self.tls;
        let first = tls.certificate_file.clone().zip(tls.key_file.clone());
        let more =
            tls.certificate_dirs.iter().map(|dir| (dir.join("fullchain.pem"), dir.join("privkey.pem")));
        identities::Sources {
            files: first.into_iter().chain(more).collect(),
            state_dir: self.state_dir.clone(),
            hostname: self.host_domain(),
            watch: tls.watch_interval,
        }
    }

    /// The options of the service for users.
    pub fn submission_options(&self) -> inbound::SubmissionOptions {
        let submission = &self.submission;
        inbound::SubmissionOptions {
            auth_in_clear: submission.auth_in_clear,
            client_certificates: submission.asks_for_certificates(),
            check_sender: submission.check_sender,
            received_client: submission.received_client,
            login: self.login_options(),
            limits: self.sending_limits(),
        }
    }

    /// How much one user may send.
    pub fn sending_limits(&self) -> rate::Limits {
        let submission = &self.submission;
        rate::Limits {
            messages_per_hour: submission.max_messages_per_hour.into(),
            recipients_per_hour: submission.max_recipients_per_hour.into(),
            recipients_per_day: submission.max_recipients_per_day.into(),
            brake_recipients: submission.brake_recipients.into(),
            brake_factor: submission.brake_factor.into(),
        }
    }

    /// The options of mail going out.
    pub fn outbound_options(&self) -> outbound::Options {
        let out = &self.outbound;
        let mut options = outbound::Options {
            host_name: self.host_domain().to_string(),
            port: out.port,
            ipv4: out.ipv4,
            ipv6: out.ipv6,
            source_ipv4: out.source_ipv4,
            source_ipv6: out.source_ipv6,
            allow_loopback: out.allow_loopback,
            allow_private: out.allow_private,
            own_addresses: self.smtp.listen.iter().map(std::net::SocketAddr::ip).collect(),
            own_ports: self.smtp.listen.iter().map(std::net::SocketAddr::port).collect(),
            honour_tls_required_no: out.honour_tls_required_no,
            max_addresses_per_host: size(out.max_addresses_per_host),
            max_hosts: size(out.max_hosts),
            max_transactions: size(out.max_transactions),
            // One bit covers the whole of such an answer.
            alias_status_known: self.dns.mode != DnsMode::TrustAd,
            connect_timeout: out.connect_timeout,
            handshake_timeout: out.tls_timeout,
            discovery_timeout: out.discovery_timeout,
            sts: crate::sts::Options {
                enabled: self.sts.enabled,
                port: self.sts.port,
                fetch_timeout: self.sts.fetch_timeout,
                refresh: self.sts.refresh,
                retry: self.sts.retry,
                max_policies: size(self.sts.max_policies),
            },
            attempt_timeout: out.attempt_timeout,
            reuse: outbound::Reuse {
                messages: out.max_messages_per_session,
                idle: out.idle_timeout,
                age: out.session_lifetime,
                sessions: size(out.max_idle_sessions),
                sessions_per_host: size(out.max_idle_sessions_per_host),
            },
            retry_blocked: out.retry_blocked,
            dane_loss_delay: out.dane_loss_delay,
            destinations: self.destinations.iter().filter_map(|(name, rule)| tls_rule(name, rule)).collect(),
            ..outbound::Options::default()
        };
        let smtp = &mut options.smtp;
        smtp.greeting = out.greeting_timeout;
        smtp.command = out.command_timeout;
        smtp.mail = out.command_timeout;
        smtp.rcpt = out.command_timeout;
        smtp.data_start = out.data_timeout;
        smtp.data_block = out.block_timeout;
        smtp.data_end = out.end_of_data_timeout;
        smtp.total_wait = out.session_timeout;
        smtp.reply_bytes = bytes(out.max_reply.0);
        smtp.min_bytes_per_second = out.min_rate.0;
        options
    }

    /// The routes of mail that is not for own domains.
    pub fn routing_table(&self) -> RoutingTable {
        let mut table = RoutingTable::new(relay_host(&self.relay));
        for (pattern, rule) in &self.destinations {
            if let Some(relay) = relay_host(&rule.relay).or_else(|| self.next_hop(rule)) {
                table.insert(pattern, relay);
            }
        }
        for (name, domain) in self.domains.iter().filter(|(_, domain)| domain.kind == DomainKind::Relay) {
            if let Some(relay) = self.hop_of(domain.next_hop.as_ref()) {
                table.insert(name, relay);
            }
        }
        table
    }

    /// A next hop is a relay host as any MX host would be: TLS as DANE demands, else as it comes.
    fn next_hop(&self, rule: &Destination) -> Option<RelayHost> {
        self.hop_of(rule.next_hop.as_ref())
    }

    fn hop_of(&self, hop: Option<&HostPort>) -> Option<RelayHost> {
        let hop = hop?;
        Some(RelayHost {
            host: hop.host.to_string(),
            port: hop.port.unwrap_or(self.outbound.port),
            tls: routing::RelayTls::Opportunistic,
            auth: None,
        })
    }

    /// When deliveries are tried, and how many at once.
    pub fn scheduler_options(&self) -> scheduler::Options {
        scheduler::Options {
            deliveries: self.outbound.max_deliveries as usize,
            deliveries_per_next_hop: self.outbound.max_deliveries_per_destination as usize,
            first_deliveries_per_next_hop: self.outbound.first_deliveries_per_destination as usize,
            breaker: breaker::Settings {
                destinations: size(self.outbound.site_fault_destinations),
                probe: self.outbound.site_fault_probe,
                ..breaker::Settings::default()
            },
            outbound: self.outbound_options(),
            schedule: scheduler::Schedule {
                waits: self.queue.retry.clone(),
                lifetime: self.queue.lifetime,
                notification_lifetime: self.queue.notification_lifetime,
                delay_notice: self.queue.delay_notice,
                ..scheduler::Schedule::default()
            },
            hostname: self.effective_hostname().to_string(),
            max_returned_bytes: self.queue.max_returned.0,
            stranger_reports_per_hour: self.queue.reports_to_strangers,
            postmaster: inbound::postmaster(&self.inbound_options(), &self.accounts()),
            digest_interval: self.queue.digest,
            alert_mail: self.alerts.mail,
            ..scheduler::Options::default()
        }
    }

    /// A next hop that the administrator names, `host` or `host:port`: the configured relay host of that name with its
    /// login, else as a `next_hop` of a rule is.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn hop(&self, text: &str) -> Result<RelayHost, String> {
        let hop = HostPort::parse(text).map_err(|why| format!("{text:?} is no next hop: {why}"))?;
        let host = hop.host.to_string();
        let is_meant =
            |relay: &RelayHost| relay.host == host && hop.port.is_none_or(|port| port == relay.port);
        let configured =
            std::iter::once(&self.relay).chain(self.destinations.values().map(|rule| &rule.relay));
        if let Some(relay) = configured.filter_map(relay_host).find(is_meant) {
            return Ok(relay);
        }
        let port = hop.port.unwrap_or(self.outbound.port);
        Ok(RelayHost { host, port, tls: routing::RelayTls::Opportunistic, auth: None })
    }

    /// The options of the queue.
    pub fn queue_options(&self) -> mta_queue::Options {
        let modules = mta_queue::Options::default();
        mta_queue::Options {
            reserve_bytes: self.queue.min_free_space.0,
            wal_bytes: log_bytes(self.queue.min_free_space.0, modules.wal_bytes),
            history_age: self.queue.history,
            history_messages: u64::from(self.queue.history_messages),
            max_sts_policies: size(self.sts.max_policies),
            max_recipient_answers: size(self.recipients.max_answers),
            tls_report_days: self.report.tls_days,
            dmarc_report_days: self.report.dmarc_days,
            ..modules
        }
    }
}

/// A relay host, where one is configured.
fn relay_host(relay: &Relay) -> Option<RelayHost> {
    let host = relay.host.as_ref()?;
    let secret = relay.secret_path();
    let auth =
        relay.user.clone().zip(secret).map(|(username, secret_file)| RelayAuth { username, secret_file });
    let tls = match relay.tls {
        RelayTls::Starttls => routing::RelayTls::StartTls,
        RelayTls::Implicit => routing::RelayTls::Implicit,
        RelayTls::Opportunistic => routing::RelayTls::Opportunistic,
        RelayTls::Never => routing::RelayTls::Never,
    };
    Some(RelayHost { host: host.to_string(), port: relay.effective_port(), tls, auth })
}

/// What a rule changes about TLS. "Off" without an end cannot be had from a checked configuration, and would end in 1970.
fn tls_rule(name: &str, rule: &Destination) -> Option<DestinationRule> {
    let until = Some(rule.until.map_or(UNIX_EPOCH, end_of_day));
    let (tls, until) = match (rule.dane, rule.sts) {
        (DaneMode::Opportunistic, true) => return None,
        (DaneMode::Mandatory, _) => (TlsRule::DaneMandatory, None),
        (DaneMode::Off, true) => (TlsRule::DaneOff, until),
        (DaneMode::Opportunistic, false) => (TlsRule::StsOff, until),
        (DaneMode::Off, false) => (TlsRule::DaneAndStsOff, until),
    };
    Some(DestinationRule {
        domain: name.to_owned(),
        tls,
        until,
        reason: rule.reason.clone().unwrap_or_default(),
    })
}

/// The last instant of a day, in UTC.
fn end_of_day(day: jiff::civil::Date) -> SystemTime {
    let next = day.tomorrow().unwrap_or(day).to_zoned(jiff::tz::TimeZone::UTC);
    let seconds = next.map_or(0, |start| start.timestamp().as_second());
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// A count as an index type.
fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// A number of bytes as an index type; on a small machine, as much as it can have.
fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// Shared by the tasks of the daemon: what a reload makes anew.
#[derive(Debug, Clone)]
pub struct Applied {
    /// Our domains and mailboxes.
    pub accounts: Arc<Accounts>,
    /// Routes.
    pub routing: Arc<RoutingTable>,
    /// Options of mail out.
    pub outbound: Arc<outbound::Options>,
    /// For next hops that the administrator names.
    config: Arc<Config>,
}

impl Applied {
    /// From a configuration.
    pub fn new(config: &Config) -> Self {
        Self::with_directory(config, &Directory::default())
    }

    /// From a configuration, with these aliases.
    pub fn with_directory(config: &Config, directory: &Directory) -> Self {
        Self {
            accounts: Arc::new(config.accounts().with_directory(directory.clone())),
            routing: Arc::new(config.routing_table()),
            outbound: Arc::new(config.outbound_options()),
            config: Arc::new(config.clone()),
        }
    }

    /// The route of a destination of the queue: the way that the administrator chose for it, else by the routing table.
    pub fn route(&self, destination: &str) -> Route {
        let (domain, via) = mta_queue::destination_parts(destination);
        if let Some(via) = via {
            let unknown = |_| RelayHost {
                host: via.to_owned(),
                port: 25,
                tls: routing::RelayTls::StartTls,
                auth: None,
            };
            return Route::Relay(Arc::new(self.config.hop(via).unwrap_or_else(unknown)));
        }
        match mta_smtp::address::Host::parse(domain) {
            Ok(host) => self.routing.route(&self.accounts, &host),
            // A destination is made of a parsed address, so this is a damaged row: local delivery refuses it.
            Err(_) => Route::Local,
        }
    }
}

/// How large the queue's log may get: small where the disk is, as the space that is to stay free tells. The queue keeps
/// room for its log besides that space.
fn log_bytes(min_free_bytes: u64, largest: usize) -> usize {
    const SMALLEST: usize = 256 << 10;

    usize::try_from(min_free_bytes / 8).unwrap_or(largest).clamp(SMALLEST.min(largest), largest)
}

#[cfg(test)]
mod tests {
    use super::super::load::load_text;
    use super::*;

    #[test]
    fn the_log_is_small_where_little_space_is_kept() {
        let largest = mta_queue::Options::default().wal_bytes;
        assert_eq!(log_bytes(100_000_000, largest), largest);
        assert_eq!(log_bytes(u64::MAX, largest), largest);
        assert_eq!(log_bytes(8 << 20, largest), 1 << 20);
        assert_eq!(log_bytes(0, largest), 256 << 10);
    }

    #[test]
    fn the_defaults_are_those_of_the_modules() {
        let config = Config { hostname: None, ..Config::default() };
        let mut modules = inbound::Options::new(config.host_domain());
        modules.relay_networks.clear();
        modules.message_size_limit = config.smtp.message_size_limit.0;
        assert_eq!(format!("{:?}", config.inbound_options()), format!("{modules:?}"));
        assert_eq!(config.dns_options(), dns::Options::default());
        assert_eq!(config.login_options(), login::Options::default());
        assert_eq!(config.sending_limits(), rate::Limits::default());
        let modules = outbound::Options {
            host_name: config.host_domain().to_string(),
            own_ports: vec![25, 25],
            own_addresses: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
            ..outbound::Options::default()
        };
        assert_eq!(format!("{:?}", config.outbound_options()), format!("{modules:?}"));
    }

    #[test]
    fn rules_reach_routing_and_policy() {
        let text = "[relay]\nhost = \"smart.example\"\nuser = \"u\"\nsecret_file = \"/s\"\n\
                    [destination.\"a.example\"]\nnext_hop = \"[2001:db8::1]:2525\"\n\
                    [destination.\".b.example\"]\ndane = \"off\"\nuntil = \"2027-01-31\"\nreason = \"why\"\n\
                    [destination.\"c.example\"]\ndane = \"mandatory\"\n\
                    [destination.\"d.example\"]\nsts = false\nuntil = \"2027-01-31\"\nreason = \"why\"\n\
                    [destination.\"e.example\"]\ndane = \"off\"\nsts = false\nuntil = \"2027-01-31\"\nreason = \"why\"\n";
        let config = load_text("t.toml", text).unwrap();
        let table = config.routing_table();
        let route = |host: &str| {
            let host = mta_smtp::address::Host::parse(host).unwrap();
            table.route(&config.accounts(), &host).to_string()
        };
        assert_eq!(route("a.example"), "relay:2001:db8::1:2525");
        assert_eq!(route("x.b.example"), "relay:smart.example:587");
        let rules = config.outbound_options().destinations;
        let off = rules.iter().find(|r| r.domain == ".b.example").unwrap();
        assert_eq!((off.tls, off.reason.as_str()), (TlsRule::DaneOff, "why"));
        let end = "2027-02-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap();
        assert_eq!(off.until, Some(end.into()));
        assert!(rules.iter().any(|r| r.tls == TlsRule::DaneMandatory && r.until.is_none()));
        let rule =
            |domain: &str| rules.iter().find(|r| r.domain == domain).map(|r| (r.tls, r.until.is_some()));
        assert_eq!(rule("a.example"), None);
        assert_eq!(rule("d.example"), Some((TlsRule::StsOff, true)));
        assert_eq!(rule("e.example"), Some((TlsRule::DaneAndStsOff, true)));
    }

    #[test]
    fn a_mailbox_lies_below_the_state_directory() {
        let text = "state_dir = \"/srv/mta\"\n[domain.\"one.example\"]\nmailboxes = [\"Anna\"]\n";
        let accounts = load_text("t.toml", text).unwrap().accounts();
        let found = accounts.recipient(&Mailbox::parse("anna@one.example").unwrap());
        assert_eq!(found, account::Recipient::Maildir("/srv/mta/mail/one.example/anna".into()));
    }

    #[test]
    fn a_login_without_its_secret_fails_when_it_is_used_and_is_never_left_out() {
        let text = "[relay]\nhost = \"smart.example\"\nuser = \"u\"\nsecret_credential = \"relay\"\n";
        let relay = relay_host(&load_text("t.toml", text).unwrap().relay).unwrap();
        assert!(relay.auth.unwrap().secret_file.ends_with("relay"));
    }
}
