//! The configuration: typed values, and the one table of options they come from.
//!
//! One TOML file is the source of truth, with `conf.d/*.toml` beside it (sorted by name, later wins). Every key is an
//! entry of [`table`]: its name, type, default, text and example stand there once, and the parser, the checks,
//! `mta-cli config show`, the example file and the manual page `mta.toml(5)` all come from it.
//!
//! Nothing here opens a socket, changes a user or starts anything: a wrong configuration is found before anything runs.
//! It does not know the other modules' option structs either; `apply` maps these values into theirs.

mod apply;
mod check;
mod error;
mod load;
mod options;
pub mod render;
mod report;
mod sendmail;
pub mod table;
mod types;
pub(crate) mod value;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::apply::Applied;
pub use self::error::{ConfigError, ConfigErrors, Origin, Origins, nearest};
pub use self::report::Report;
pub use self::sendmail::Sendmail;
pub use self::types::AuthAction;
pub use self::types::{
    DaneMode, DnsMode, DnsServer, DomainKind, DomainName, DomainPattern, HostName, HostPort, LmtpAddress,
    LogLevel, LogTarget, MailAddress, MailboxName, MboxFormat, Network, RelayRecipients, RelayTls, Size,
    Unasked,
};

/// The whole configuration of one server.
///
/// [`Config::default`] is what the table of options says. The sections' own `Default` is blank and only a start for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The name this host gives itself in the greeting, EHLO and Received; unset means the system's host name.
    pub hostname: Option<DomainName>,
    /// Who gets mail for `postmaster` where a domain lists no such mailbox, and reports that nobody else can get.
    pub postmaster: Option<MailAddress>,
    /// Where the queue, own keys and temporary files lie.
    pub state_dir: PathBuf,
    /// Where the control socket lies; unset means the state directory.
    pub runtime_dir: Option<PathBuf>,
    /// The user the daemon becomes after it has bound its ports, when started by root.
    pub user: Option<String>,
    /// Members of this group may use the control socket besides root and the service user.
    pub admin_group: Option<String>,
    /// Log output.
    pub log: Log,
    /// Mail coming in by SMTP on the relay service (port 25).
    pub smtp: Smtp,
    /// Mail from programs on this machine.
    pub sendmail: Sendmail,
    /// Mail coming in from own users.
    pub submission: Submission,
    /// The certificate shown to clients.
    pub tls: Tls,
    /// What stands between a mailbox and its detail in a sub-address; unset means there are none.
    pub recipient_delimiter: Option<String>,
    /// Own domains, by name.
    pub domains: BTreeMap<DomainName, OwnDomain>,
    /// Asking the next hops of relayed domains who exists.
    pub recipients: Recipients,
    /// Mail for the users of this system.
    pub local: Local,
    /// Alias files.
    pub alias: Alias,
    /// Rewriting of reverse-paths, for a null client.
    pub rewrite: Rewrite,
    /// How names are looked up and validated.
    pub dns: Dns,
    /// Mail going out.
    pub outbound: Outbound,
    /// MTA-STS.
    pub sts: Sts,
    /// Verification of strangers' mail.
    pub auth: Auth,
    /// Signing of our own.
    pub dkim: Dkim,
    /// The senders of forwarded mail.
    pub srs: Srs,
    /// Reports to other domains.
    pub report: Report,
    /// How the administrator hears of alerts.
    pub alerts: Alerts,
    /// The relay host for everything that no destination rule routes elsewhere.
    pub relay: Relay,
    /// Rules for single destinations, by recipient domain or `.domain` for its subdomains.
    pub destinations: BTreeMap<DomainPattern, Destination>,
    /// The queue: retries, lifetime, notices.
    pub queue: Queue,
    /// Which file and line set what.
    pub origins: Origins,
}

/// Log output.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Log {
    /// Where lines go.
    pub target: LogTarget,
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// Mail coming in by SMTP on the relay service.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Smtp {
    /// Addresses and ports to listen on.
    pub listen: Vec<SocketAddr>,
    /// Clients that may send to any domain. Everybody else reaches own domains only.
    pub relay_networks: Vec<Network>,
    /// Largest content accepted, in bytes; announced with SIZE (RFC 1870).
    pub message_size_limit: Size,
    /// Whether DSN is offered to clients outside the relay networks too.
    pub dsn_for_strangers: bool,
    /// Recipients accepted in one transaction (RFC 5321 4.5.3.1.8: at least 100).
    pub max_recipients: u32,
    /// Sessions at a time over all clients.
    pub max_sessions: u32,
    /// Sessions at a time from one client address (an IPv6 client counts by its /64).
    pub max_sessions_per_client: u32,
    /// Transactions in one session.
    pub max_transactions: u32,
    /// Rejected commands after which the session is ended.
    pub max_errors: u32,
    /// Commands without progress (NOOP, RSET, VRFY, EHLO...) after which the session is ended.
    pub max_idle_commands: u32,
    /// `Received` lines after which a message counts as looping (RFC 5321 6.3).
    pub max_received: u32,
    /// Longest line of content passed on unchanged, in bytes.
    pub max_line: Size,
    /// Longest header section, in bytes.
    pub max_header: Size,
    /// Most lines of a header section.
    pub max_header_lines: u32,
    /// How long the server waits for a command (RFC 5321 4.5.3.2.7: at least 5 minutes).
    pub command_timeout: Duration,
    /// How long it waits for the next part of the content.
    pub block_timeout: Duration,
    /// How long the content of one message may take in all.
    pub content_timeout: Duration,
    /// How long one write of a reply may take.
    pub write_timeout: Duration,
    /// How long a TLS handshake may take.
    pub tls_timeout: Duration,
    /// How long a session may last in all.
    pub session_timeout: Duration,
    /// How long the greeting waits for clients that speak too early.
    pub greeting_wait: Duration,
}

/// Mail coming in from own users, who log in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Submission {
    /// Addresses and ports with STARTTLS.
    pub listen: Vec<SocketAddr>,
    /// Addresses and ports with TLS from the first octet.
    pub listen_tls: Vec<SocketAddr>,
    /// Whether clients on loopback may log in without TLS.
    pub auth_in_clear: bool,
    /// Whether clients are asked for a certificate.
    pub client_certificates: bool,
    /// The authorities that vouch for them.
    pub client_ca_file: Option<PathBuf>,
    /// Whether a user may send only as what is his.
    pub check_sender: bool,
    /// Whether the trace line names the user's machine.
    pub received_client: bool,
    /// Failed logins after which a client is refused.
    pub max_failures_per_client: u32,
    /// Failed logins after which a user is let in only from where he logged in before.
    pub max_failures_per_user: u32,
    /// How long both last.
    pub block_time: Duration,
    /// Who else knows users: a Unix socket.
    pub external_auth: Option<PathBuf>,
    /// How long its answer may take.
    pub external_timeout: Duration,
    /// The memory of a password hash.
    pub hash_memory: Size,
    /// Its passes.
    pub hash_passes: u32,
    /// Passwords checked at a time.
    pub hash_parallel: u32,
    /// The iterations of SCRAM.
    pub scram_iterations: u32,
    /// Messages of a user within an hour.
    pub max_messages_per_hour: u32,
    /// Recipients within an hour.
    pub max_recipients_per_hour: u32,
    /// Recipients within a day.
    pub max_recipients_per_day: u32,
    /// Recipients within an hour from which on the brake may pull.
    pub brake_recipients: u32,
    /// How many times the busiest hour is too many.
    pub brake_factor: u32,
}

impl Submission {
    /// Whether clients are asked for a certificate: without one no authority can vouch for it.
    pub fn asks_for_certificates(&self) -> bool {
        self.client_certificates || self.client_ca_file.is_some()
    }
}

/// The certificate shown to clients. Without one the server makes its own key and self-signed certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// PEM file with the certificate chain, leaf first.
    pub certificate_file: Option<PathBuf>,
    /// PEM file with the private key.
    pub key_file: Option<PathBuf>,
    /// Folders with further certificates: fullchain.pem and privkey.pem in each.
    pub certificate_dirs: Vec<PathBuf>,
    /// How often, at most, the files are looked at.
    pub watch_interval: Duration,
}

/// A domain whose mail is delivered here, or taken for another host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnDomain {
    /// Where its recipients come from.
    pub kind: DomainKind,
    /// Octets that each mailbox may hold; zero means no bound.
    pub quota: Size,
    /// The LMTP server that its mail is handed to in place of Maildirs.
    pub deliver: Option<LmtpAddress>,
    /// Of a relayed domain: which recipients are taken.
    pub recipients: RelayRecipients,
    /// Of a relayed domain whose next hop is asked who exists: what follows where it cannot be asked.
    pub unasked: Unasked,
    /// Of a relayed domain: the host that its mail is handed to; unset means its MX hosts.
    pub next_hop: Option<HostPort>,
    /// Local-parts that exist, lower case. `postmaster` always exists besides.
    pub mailboxes: Vec<MailboxName>,
    /// Path of a mailbox's Maildir; `{state_dir}`, `{domain}` and `{mailbox}` are filled in.
    pub maildir: String,
}

/// Asking the next hops of relayed domains who exists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recipients {
    /// How long it is believed that an address exists.
    pub keep_known: Duration,
    /// After which time that is asked anew.
    pub refresh_known: Duration,
    /// How long it is believed that an address does not exist.
    pub keep_unknown: Duration,
    /// After which time that is asked anew.
    pub refresh_unknown: Duration,
    /// Answers kept.
    pub max_answers: u32,
    /// Questions at a time about one domain.
    pub max_questions: u32,
    /// How long a client waits for an answer.
    pub wait: Duration,
    /// How long one question may take.
    pub timeout: Duration,
}

/// Mail for the users of this system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Local {
    /// Whether the host name and localhost are domains of the system's users.
    pub enable: bool,
    /// The socket of the delivery process.
    pub socket: PathBuf,
    /// Where a mailbox lies; `{user}` and `{home}` are filled in.
    pub mailbox: String,
    /// How lines that begin with `From ` are marked.
    pub mbox_format: MboxFormat,
    /// The group that may write the folder of mailboxes.
    pub mbox_group: Option<String>,
    /// Whether `.forward` is looked at.
    pub forward: bool,
    /// Users with smaller numbers have no mailbox.
    pub min_uid: u32,
    /// Users who have one all the same.
    pub allowed_users: Vec<String>,
    /// The Maildir of root's mail as long as no alias says whose it is; `{state_dir}` is filled in.
    pub root_maildir: String,
    /// Deliveries at once.
    pub max_processes: u32,
    /// How long one delivery to a user may take.
    pub timeout: Duration,
}

/// Alias files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alias {
    /// The files.
    pub files: Vec<PathBuf>,
    /// The user as whom files and commands of aliases are opened and run.
    pub user: String,
    /// Whether commands are run.
    pub allow_pipes: bool,
    /// How deep aliases lead to aliases.
    pub max_depth: u32,
    /// Recipients that one address stands for.
    pub max_targets: u32,
}

/// Rewriting of senders, for a null client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// In the header too.
    pub header: bool,
    /// The domain put in place of those in `from_domains`; unset rewrites nothing.
    pub sender_domain: Option<DomainName>,
    /// Domains that are replaced; empty means the host name, `localhost` and `localhost.localdomain`.
    pub from_domains: Vec<DomainName>,
}

/// How names are looked up and validated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dns {
    /// Validate here, or trust the AD bit of a loopback resolver.
    pub mode: DnsMode,
    /// Resolvers to forward to; empty means those of /etc/resolv.conf.
    pub servers: Vec<DnsServer>,
    /// Whether the daemon may ask authoritative servers itself where the resolvers cannot carry DNSSEC.
    pub recursion: bool,
    /// Root trust anchors in place of the built-in ones.
    pub trust_anchor_file: Option<PathBuf>,
    /// Root server names and addresses in place of the built-in ones (a hints file in zone file format).
    pub root_hints_file: Option<PathBuf>,
    /// Root servers as plain addresses and ports; takes the place of `root_hints_file`.
    pub root_servers: Vec<DnsServer>,
    /// The port of authoritative servers other than the root's, for own recursion.
    pub authoritative_port: u16,
    /// How long one query to one server may take.
    pub query_timeout: Duration,
    /// How long a whole lookup may take, validation included.
    pub lookup_timeout: Duration,
    /// Memory for answers and keys.
    pub cache_size: Size,
}

/// Mail going out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outbound {
    /// Whether IPv4 is used.
    pub ipv4: bool,
    /// Whether IPv6 is used.
    pub ipv6: bool,
    /// The address connections come from, for IPv4; unset leaves it to the system.
    pub source_ipv4: Option<Ipv4Addr>,
    /// The address connections come from, for IPv6; unset leaves it to the system.
    pub source_ipv6: Option<Ipv6Addr>,
    /// The port of MX hosts. The TLSA owner name follows it.
    pub port: u16,
    /// Whether `TLS-Required: No` in a message counts.
    pub honour_tls_required_no: bool,
    /// Whether MX hosts may have loopback addresses.
    pub allow_loopback: bool,
    /// Whether MX hosts may have private addresses.
    pub allow_private: bool,
    /// Deliveries at a time over all destinations.
    pub max_deliveries: u32,
    /// Deliveries at a time to one destination.
    pub max_deliveries_per_destination: u32,
    /// Deliveries at a time to one destination to begin with.
    pub first_deliveries_per_destination: u32,
    /// Own rows for the table of known replies.
    pub provider_replies_file: Option<PathBuf>,
    /// How old mail may get that a provider refuses by a block of this host.
    pub retry_blocked: Duration,
    /// Unrelated destinations that must fail alike before the fault is thought to be here.
    pub site_fault_destinations: u32,
    /// The time between the first probes then.
    pub site_fault_probe: Duration,
    /// MX hosts tried in one attempt.
    pub max_hosts: u32,
    /// Addresses tried of one MX host.
    pub max_addresses_per_host: u32,
    /// Transactions begun in one attempt.
    pub max_transactions: u32,
    /// Largest reply taken from a server, in bytes, over all its lines.
    pub max_reply: Size,
    /// Messages over one session to a server.
    pub max_messages_per_session: u32,
    /// How long a session rests between two messages.
    pub idle_timeout: Duration,
    /// How old a session may be when it takes a message.
    pub session_lifetime: Duration,
    /// Sessions at rest in all.
    pub max_idle_sessions: u32,
    /// Sessions at rest with one host at one address.
    pub max_idle_sessions_per_host: u32,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
    /// Octets a second that content must leave at, on the whole.
    pub min_rate: Size,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long to wait for the greeting.
    pub greeting_timeout: Duration,
    /// How long to wait for the reply to EHLO, MAIL, RCPT and the like.
    pub command_timeout: Duration,
    /// How long a TLS handshake may take.
    pub tls_timeout: Duration,
    /// How long to wait for the reply to DATA.
    pub data_timeout: Duration,
    /// How long one block of content may take to be written.
    pub block_timeout: Duration,
    /// How long to wait for the reply after the end of data.
    pub end_of_data_timeout: Duration,
    /// How long one session may make us wait for replies, all waits added up.
    pub session_timeout: Duration,
    /// How long the lookups for a destination or one of its hosts may take in all.
    pub discovery_timeout: Duration,
    /// How long mail waits where the DANE of weeks is gone; zero: not at all.
    pub dane_loss_delay: Duration,
    /// Certificate authorities in place of the system's.
    pub ca_file: Option<PathBuf>,
}

/// MTA-STS (RFC 8461).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sts {
    /// Whether policies are looked for and applied.
    pub enabled: bool,
    /// The port of policy hosts.
    pub port: u16,
    /// How long fetching a policy may take in all.
    pub fetch_timeout: Duration,
    /// How long a policy is used before it is fetched anew.
    pub refresh: Duration,
    /// How long a failure to fetch is remembered.
    pub retry: Duration,
    /// Policies kept.
    pub max_policies: u32,
}

/// Verification of strangers' mail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// Whether it is done.
    pub verify: bool,
    /// What follows where SPF fails.
    pub spf: AuthAction,
    /// What follows where DKIM fails.
    pub dkim: AuthAction,
    /// What follows where DMARC fails.
    pub dmarc: AuthAction,
    /// What follows where the ARC chain is broken.
    pub arc: AuthAction,
    /// What follows where the client has no name.
    pub iprev: AuthAction,
    /// Domains whose ARC seals make up for a failure of DMARC.
    pub trusted_sealers: Vec<DomainName>,
    /// DKIM signatures that are looked at.
    pub max_signatures: u32,
    /// DNS lookups for one message.
    pub max_lookups: u32,
    /// How long they may take in all.
    pub timeout: Duration,
}

/// Signing of our own mail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dkim {
    /// Whether it is signed where there is a key.
    pub sign: bool,
    /// Whether forwarded mail is sealed where there is a key.
    pub arc_seal: bool,
}

/// The senders of forwarded mail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Srs {
    /// Whether they are rewritten.
    pub enabled: bool,
    /// Into which domain.
    pub domain: Option<DomainName>,
}

/// How the administrator hears of alerts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alerts {
    /// Whether the postmaster gets mail about each.
    pub mail: bool,
}

/// A relay host: where mail goes instead of the MX hosts of its domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relay {
    /// Host name or address; unset means no relay host.
    pub host: Option<HostName>,
    /// Its port; unset means 587 with STARTTLS, 465 with implicit TLS, else 25.
    pub port: Option<u16>,
    /// How TLS begins.
    pub tls: RelayTls,
    /// User name for AUTH; unset means no AUTH.
    pub user: Option<String>,
    /// File whose first line is the secret.
    pub secret_file: Option<PathBuf>,
    /// Name of a systemd credential that holds the secret.
    pub secret_credential: Option<String>,
}

/// Rules for one destination.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Destination {
    /// A host, with port if not the usual one, that is asked instead of the domain's MX. DANE applies to its name.
    pub next_hop: Option<HostPort>,
    /// A relay host for this destination; takes the place of the global one.
    pub relay: Relay,
    /// DANE for this destination, if other than by what DNS says.
    pub dane: DaneMode,
    /// Whether MTA-STS is applied.
    pub sts: bool,
    /// The last day on which an "off" of these two holds. Needed for it.
    pub until: Option<jiff::civil::Date>,
    /// Why it is off, for whoever reads it later. Needed for it.
    pub reason: Option<String>,
}

/// The queue: retries, lifetime, notices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Queue {
    /// Waits between attempts, first to last; the last one repeats.
    pub retry: Vec<Duration>,
    /// How long a message may wait before it fails.
    pub lifetime: Duration,
    /// How long a notification (null reverse-path) may wait before it is dropped.
    pub notification_lifetime: Duration,
    /// When the sender is told that a message waits; zero means never.
    pub delay_notice: Duration,
    /// Largest message that comes back whole with the notice of its failure, in bytes.
    pub max_returned: Size,
    /// Notifications an hour about mail from outside the relay networks.
    pub reports_to_strangers: u32,
    /// How long failures that no sender is told of are collected for the postmaster; zero means never.
    pub digest: Duration,
    /// Free space below which no mail is accepted (452).
    pub min_free_space: Size,
    /// How long finished messages and their attempts can still be looked up.
    pub history: Duration,
    /// How many of them at most.
    pub history_messages: u32,
}

impl Config {
    /// What the server uses without any configuration: 127.0.0.1:2525, and its state in `./mta-state`.
    pub fn development_default() -> Self {
        let mut config = Self { state_dir: PathBuf::from("./mta-state"), ..Self::default() };
        config.smtp.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 2525))];
        config
    }

    /// Reads `path` and `conf.d/*.toml` beside it, and checks all of it.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the files; nothing may be started then (exit status 78).
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        load::load(path)
    }

    /// What is allowed and yet probably not meant; for the log at start and `mta-cli config check`.
    pub fn warnings(&self) -> Vec<ConfigError> {
        check::warnings(self)
    }

    /// Every section blank: the start that the table's defaults are written into.
    fn blank() -> Self {
        Self {
            hostname: None,
            postmaster: None,
            state_dir: PathBuf::new(),
            runtime_dir: None,
            user: None,
            admin_group: None,
            log: Log::default(),
            smtp: Smtp::default(),
            sendmail: Sendmail::default(),
            submission: Submission::default(),
            tls: Tls::default(),
            recipient_delimiter: None,
            domains: BTreeMap::new(),
            recipients: Recipients::default(),
            local: Local::default(),
            alias: Alias::default(),
            rewrite: Rewrite::default(),
            dns: Dns::default(),
            outbound: Outbound::default(),
            sts: Sts::default(),
            auth: Auth::default(),
            dkim: Dkim::default(),
            srs: Srs::default(),
            report: Report::default(),
            alerts: Alerts::default(),
            relay: Relay::default(),
            destinations: BTreeMap::new(),
            queue: Queue::default(),
            origins: Origins::default(),
        }
    }

    /// The path of the control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.runtime_dir.as_deref().unwrap_or(&self.state_dir).join("control.sock")
    }

    /// The name this host gives itself: as configured, else /etc/mailname, else the
    /// kernel's, else /etc/hostname (a service may see no /proc/sys), else `localhost`.
    pub fn effective_hostname(&self) -> DomainName {
        if let Some(name) = &self.hostname {
            return name.clone();
        }
        ["/etc/mailname", "/proc/sys/kernel/hostname", "/etc/hostname"]
            .iter()
            .find_map(|file| system_name(Path::new(file)))
            .unwrap_or_else(DomainName::localhost)
    }
}

impl Default for Config {
    fn default() -> Self {
        table::defaults()
    }
}

impl OwnDomain {
    /// The Maildir of `mailbox` in `domain`.
    pub fn maildir(&self, state_dir: &Path, domain: &str, mailbox: &str) -> PathBuf {
        let path = self.maildir.replace("{domain}", domain).replace("{mailbox}", mailbox);
        match path.strip_prefix("{state_dir}") {
            Some(rest) => state_dir.join(rest.trim_start_matches('/')),
            None => PathBuf::from(path),
        }
    }
}

impl Destination {
    /// The DANE mode that holds on `today`: an exception ends with its last day.
    pub fn dane_on(&self, today: jiff::civil::Date) -> DaneMode {
        match self.dane {
            DaneMode::Off if self.until.is_none_or(|until| today > until) => DaneMode::Opportunistic,
            mode => mode,
        }
    }
}

impl Relay {
    /// The port, with the default of the TLS mode (RFC 6409, RFC 8314).
    pub fn effective_port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            RelayTls::Starttls => 587,
            RelayTls::Implicit => 465,
            RelayTls::Opportunistic | RelayTls::Never => 25,
        })
    }

    /// The file that holds the secret, where one is configured. A credential is a file in a folder that systemd makes for
    /// the service (systemd.exec(5)); where it made none, reading the secret fails and nothing is sent.
    pub fn secret_path(&self) -> Option<PathBuf> {
        self.secret_file.clone().or_else(|| {
            let folder =
                std::env::var_os("CREDENTIALS_DIRECTORY").unwrap_or_else(|| "/run/credentials".into());
            Some(PathBuf::from(folder).join(self.secret_credential.as_ref()?))
        })
    }
}

/// The first line of `file` as a domain name, if it is one.
fn system_name(file: &Path) -> Option<DomainName> {
    let text = std::fs::read_to_string(file).ok()?;
    DomainName::parse(text.lines().next()?.trim()).ok()
}
