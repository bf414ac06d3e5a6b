//! A whole laboratory: DNS, MX hosts and the daemon on loopback, planned first and then started.
//!
//! ```no_run
//! use mta_lab::cert::Identity;
//! use mta_lab::lab::Plan;
//! use mta_lab::mx::Behaviour;
//!
//! let mut plan = Plan::new();
//! let identity = Identity::self_signed(&["mx.good.example"]);
//! let tlsa = identity.leaf().tlsa(3, 1, 1);
//! plan.site("good.example", Some(Behaviour::with_tls("mx.good.example", &identity)), &[tlsa]);
//! let lab = plan.start().expect("a laboratory");
//! let id = lab.send("alice@own.example", &["bob@good.example"]);
//! assert_eq!(lab.settled(&id).status, "delivered");
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hickory_proto::rr::rdata::TLSA;
use mta_core::control::MessageView;

use crate::client;
use crate::daemon::{Daemon, Settings, quoted};
use crate::dns::{DnsServers, ForwarderMode, Internet};
use crate::mx::{Behaviour, MxHost};
use crate::netns;
use crate::zone::Zone;

/// The daemon's own domain in the laboratory.
pub const OWN_DOMAIN: &str = "own.example";
/// The mailboxes of the own domain, besides postmaster.
pub const MAILBOXES: [&str; 2] = ["alice", "bob"];
/// How long anything may take before a test fails.
pub const WITHIN: Duration = Duration::from_secs(30);

/// A message is looked at again after this time even if the daemon logs nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The ports of a laboratory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The DNS servers' port; 0 lets them choose.
    pub dns: u16,
    /// The MX hosts' port.
    pub smtp: u16,
    /// Where the daemon listens on 127.0.0.1.
    pub own: u16,
}

impl Ports {
    /// DNS on 53, MX hosts on 25, the daemon on 2525: for a namespace of our own.
    pub const REAL: Self = Self { dns: 53, smtp: 25, own: 2525 };

    /// High ports that nobody uses now.
    pub fn free() -> Self {
        Self { dns: 0, smtp: free_port(), own: free_port() }
    }
}

/// A laboratory that is not running yet.
pub struct Plan {
    /// The ports.
    pub ports: Ports,
    zones: Vec<Zone>,
    hosts: BTreeMap<String, (Ipv4Addr, Option<Behaviour>)>,
    settings: Settings,
    next_host: u8,
    recursion: bool,
    mode: ForwarderMode,
    program: Option<PathBuf>,
}

impl Default for Plan {
    fn default() -> Self {
        Self::new()
    }
}

impl Plan {
    /// A plan with the daemon's own domain and nothing else. Inside a namespace of the laboratory the ports are the
    /// real ones, 53 and 25; elsewhere free high ones.
    pub fn new() -> Self {
        Self::on_ports(if netns::is_inside() { Ports::REAL } else { Ports::free() })
    }

    /// The same, on these ports.
    pub fn on_ports(ports: Ports) -> Self {
        let mut plan = Self {
            ports,
            zones: Vec::new(),
            hosts: BTreeMap::new(),
            settings: Settings::default(),
            next_host: 10,
            recursion: false,
            mode: ForwarderMode::Plain,
            program: None,
        };
        plan.zone(Zone::new(OWN_DOMAIN).mx("@", 10, "mail").address("mail", Ipv4Addr::LOCALHOST));
        plan
    }

    /// Adds a zone.
    pub fn zone(&mut self, zone: Zone) {
        self.zones.push(zone);
    }

    /// Sets a key of the daemon's configuration to a value in TOML.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.set(key, value);
    }

    /// The daemon finds everything from the root down by itself, instead of asking the forwarder.
    pub fn with_own_recursion(&mut self) {
        self.recursion = true;
    }

    /// The forwarder behaves like this from the start.
    pub fn forwarder_mode(&mut self, mode: ForwarderMode) {
        self.mode = mode;
    }

    /// The daemon is started by this program in place of its own: something that runs it elsewhere.
    pub fn started_by(&mut self, program: PathBuf) {
        self.program = Some(program);
    }

    /// Adds an MX host at an address of its own. Without behaviour nothing listens there.
    pub fn host(&mut self, name: &str, behaviour: Option<Behaviour>) -> Ipv4Addr {
        let address = Ipv4Addr::new(127, 25, 0, self.next_host);
        self.next_host += 1;
        self.hosts.insert(name.to_owned(), (address, behaviour));
        address
    }

    /// The address of an MX host of the plan.
    pub fn address_of(&self, host: &str) -> Ipv4Addr {
        self.hosts[host].0
    }

    /// Adds a domain in a zone of its own with the MX host `mx.DOMAIN` and these TLSA records.
    pub fn site(&mut self, domain: &str, behaviour: Option<Behaviour>, tlsa: &[TLSA]) {
        self.site_with(domain, behaviour, tlsa, |zone| zone);
    }

    /// The same, with a zone that is changed first.
    pub fn site_with(
        &mut self,
        domain: &str,
        behaviour: Option<Behaviour>,
        tlsa: &[TLSA],
        change: impl FnOnce(Zone) -> Zone,
    ) {
        let address = self.host(&format!("mx.{domain}"), behaviour);
        let mut zone = Zone::new(domain).mx("@", 10, "mx").address("mx", address);
        for record in tlsa {
            zone = zone.tlsa("mx", self.ports.smtp, record.clone());
        }
        self.zone(change(zone));
    }

    /// Starts everything.
    ///
    /// # Errors
    ///
    /// A port is taken, or the daemon does not start; its last words are in the error.
    pub fn start(self) -> io::Result<Lab> {
        let other = self.program.clone();
        let (mut servers, settings) = self.start_servers()?;
        let daemon_directory = servers.directory.path().join("daemon");
        let program = match other {
            Some(program) => program,
            None => program(servers.directory.path())?,
        };
        let own = SocketAddr::from((Ipv4Addr::LOCALHOST, servers.ports.own));
        servers.daemon = Some(Daemon::start(&program, &daemon_directory, settings, own)?);
        Ok(servers)
    }

    /// Starts everything but the daemon; the settings are those the daemon would get.
    ///
    /// # Errors
    ///
    /// A port is taken.
    pub fn start_servers(mut self) -> io::Result<(Lab, Settings)> {
        let directory = tempfile::Builder::new().prefix("mta-lab-").tempdir()?;
        let internet = Internet::new(self.zones.drain(..));
        let dns = DnsServers::start(internet.tree(), self.ports.dns)?;
        dns.set_mode(self.mode);
        let mut hosts = BTreeMap::new();
        for (name, (address, behaviour)) in std::mem::take(&mut self.hosts) {
            if let Some(behaviour) = behaviour {
                hosts.insert(name, MxHost::start(address, self.ports.smtp, behaviour)?);
            }
        }
        let settings = self.settings_for(directory.path(), &internet, &dns)?;
        let ports = Ports { dns: dns.port(), ..self.ports };
        Ok((Lab { ports, internet, dns, hosts, daemon: None, directory }, settings))
    }

    /// The daemon's configuration: the laboratory's needs first, then what the test has set.
    fn settings_for(&self, directory: &Path, internet: &Internet, dns: &DnsServers) -> io::Result<Settings> {
        let anchor = directory.join("root.key");
        std::fs::write(&anchor, internet.trust_anchor())?;
        let mut settings = Settings::default();
        settings.set_text("hostname", "mail.own.example");
        settings.set_text("state_dir", &directory.join("state").display().to_string());
        settings.set("smtp.listen", &format!("[\"127.0.0.1:{}\"]", self.ports.own));
        settings.set("smtp.relay_networks", "[\"127.0.0.0/8\"]");
        let mailboxes: Vec<String> = MAILBOXES.iter().map(|mailbox| quoted(mailbox)).collect();
        settings.set(&format!("domain.\"{OWN_DOMAIN}\".mailboxes"), &format!("[{}]", mailboxes.join(", ")));
        let maildir = directory.join("mail/{domain}/{mailbox}");
        settings.set_text(&format!("domain.\"{OWN_DOMAIN}\".maildir"), &maildir.display().to_string());
        settings.set_text("dns.trust_anchor_file", &anchor.display().to_string());
        settings.set("dns.root_servers", &format!("[\"{}:{}\"]", crate::dns::ROOT_SERVER, dns.port()));
        settings.set("dns.authoritative_port", &dns.port().to_string());
        // For own recursion a forwarder that is none, so that recursion is the only way.
        let forwarder =
            if self.recursion { format!("127.53.0.99:{}", dns.port()) } else { dns.forwarder().to_string() };
        settings.set("dns.servers", &format!("[\"{forwarder}\"]"));
        settings.set("dns.recursion", &self.recursion.to_string());
        settings.set("outbound.port", &self.ports.smtp.to_string());
        settings.set("outbound.allow_loopback", "true");
        settings.set("outbound.ipv6", "false");
        settings.set("queue.min_free_space", "\"1MB\"");
        // Mailboxes and counts are the test's own, but where it is about these mails.
        settings.set("alerts.mail", "false");
        settings.merge(&self.settings);
        Ok(settings)
    }
}

/// A running laboratory.
pub struct Lab {
    /// The ports in use.
    pub ports: Ports,
    /// The zones; change them and call [`Lab::publish`].
    pub internet: Internet,
    /// The DNS servers.
    pub dns: DnsServers,
    /// The MX hosts by name.
    pub hosts: BTreeMap<String, MxHost>,
    daemon: Option<Daemon>,
    directory: tempfile::TempDir,
}

impl Lab {
    /// The daemon.
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("a laboratory that was started with its daemon")
    }

    /// The daemon, to be changed or stopped.
    pub fn daemon_mut(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("a laboratory that was started with its daemon")
    }

    /// An MX host.
    pub fn mx(&self, name: &str) -> &MxHost {
        &self.hosts[name]
    }

    /// Where everything lies: `daemon/mta.toml`, `state`, `mail`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Serves the zones as they are described now.
    pub fn publish(&self) {
        self.dns.reload(self.internet.tree());
    }

    /// Sends a short message to the daemon and returns its queue id.
    pub fn send(&self, from: &str, to: &[&str]) -> String {
        let content = client::message(from, to[0], "From the laboratory", "Hello.\n");
        self.send_content(from, to, &content)
    }

    /// Sends a message to the daemon, which must take it, and returns its queue id.
    pub fn send_content(&self, from: &str, to: &[&str], content: &[u8]) -> String {
        let reply =
            client::send_message(self.daemon().address(), from, to, content).expect("an SMTP session");
        queue_id(&reply).unwrap_or_else(|| panic!("not accepted: {reply:?}"))
    }

    /// `queue show ID --json` as it is now.
    pub fn show(&self, id: &str) -> MessageView {
        let mut value = self.daemon().cli_json(["queue", "show", id, "--json"]).expect("queue show");
        serde_json::from_value(value["message"].take()).expect("a message as the protocol describes it")
    }

    /// `queue list --json`: the messages that are not finished.
    pub fn list(&self) -> Vec<MessageView> {
        let mut value = self.daemon().cli_json(["queue", "list", "--json"]).expect("queue list");
        serde_json::from_value(value["messages"].take()).expect("messages as the protocol describes them")
    }

    /// Waits until every recipient of a message has been tried, and shows it. An attempt that does not count, since the fault
    /// is this host's, is one.
    pub fn settled(&self, id: &str) -> MessageView {
        self.wait_for(id, |message| {
            message.recipients.iter().all(|recipient| recipient.last_attempt_at.is_some())
        })
    }

    /// Waits until a message fulfils a condition, and shows it. It is looked at again whenever the daemon logs something.
    pub fn wait_for(&self, id: &str, condition: impl Fn(&MessageView) -> bool) -> MessageView {
        let deadline = Instant::now() + WITHIN;
        loop {
            let lines = self.daemon().log().len();
            let message = self.show(id);
            if condition(&message) {
                return message;
            }
            assert!(Instant::now() < deadline, "not within {WITHIN:?}: {message:#?}");
            self.daemon().wait_for_growth(lines, LOOK_AGAIN);
        }
    }

    /// Waits until files fulfil a condition; looked at again whenever the daemon logs something.
    pub fn wait_for_files(&self, condition: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + WITHIN;
        loop {
            let lines = self.daemon().log().len();
            if condition() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            self.daemon().wait_for_growth(lines, LOOK_AGAIN);
        }
    }

    /// The messages in a mailbox's Maildir, oldest first.
    pub fn maildir(&self, domain: &str, mailbox: &str) -> Vec<Vec<u8>> {
        let new = self.directory.path().join("mail").join(domain).join(mailbox).join("new");
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(new).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.sort();
        files.iter().filter_map(|file| std::fs::read(file).ok()).collect()
    }
}

/// The queue id in the reply to the end of data.
pub fn queue_id(reply: &client::Reply) -> Option<String> {
    let text = reply.lines.first()?;
    (reply.code == 250).then(|| text.split_once("queued as ").map(|(_, id)| id.trim().to_owned()))?
}

/// The program under test: what `MTA_CLI` names, else this very build under the name `mta-cli`, in `directory`.
///
/// The laboratory's binary is `mta-cli` when it is called so; thus a test can never run against an old build.
///
/// # Errors
///
/// The laboratory's own binary was not built.
pub fn program(directory: &Path) -> io::Result<PathBuf> {
    if let Some(program) = std::env::var_os("MTA_CLI") {
        return Ok(PathBuf::from(program));
    }
    let bin = directory.join("bin");
    let link = bin.join("mta-cli");
    if !link.exists() {
        std::fs::create_dir_all(&bin)?;
        std::os::unix::fs::symlink(lab_binary()?, &link)?;
    }
    Ok(link)
}

/// The laboratory's own binary: this process, or the one built beside this test.
///
/// # Errors
///
/// It was not built.
pub fn lab_binary() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let candidates = own.ancestors().skip(1).take(2).map(|directory| directory.join("mta-lab"));
    candidates
        .into_iter()
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| io::Error::other("the binary mta-lab was not built"))
}

/// A port that is free on loopback now, by UDP and TCP, and that the kernel gives to no connection meanwhile: below its
/// own range.
pub(crate) fn free_port() -> u16 {
    let is_free = |port: u16| {
        let address = (Ipv4Addr::LOCALHOST, port);
        TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
    };
    std::iter::repeat_with(|| fastrand::u16(10_000..30_000))
        .find(|port| is_free(*port))
        .expect("an endless supply of numbers")
}
