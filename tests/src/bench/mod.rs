//! The benchmark: this server and Postfix on the same machine, in the same run, with the same generator and sink.
//!
//! What it does: starts one server after the other on loopback, sends through it with Postfix's own `smtp-source`,
//! receives with `smtp-sink`, and reads time, CPU, memory and sync calls from the kernel. What it does not: it asserts
//! nothing. Figures are for people; the machine's weather is printed beside them.

mod long_queue;
pub mod measure;
mod people;
pub mod server;
pub mod table;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use measure::{Usage, sync_probe};
use server::{Kind, Server};

use crate::daemon::Settings;
use crate::dns::{DnsServers, Internet};
use crate::zone::Zone;

/// Where the servers under test listen.
pub const SERVER: &str = "127.0.0.1:2625";
/// Where the sink listens.
pub const SINK: &str = "127.0.0.1:2725";

/// One measured line.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// Which server.
    pub server: Kind,
    /// What was measured.
    pub measure: String,
    /// The value, in `unit`.
    pub value: f64,
    /// The unit of `value`.
    pub unit: &'static str,
    /// 4 KiB append + fdatasync a second, just before: the disk's weather.
    pub sync_probe_per_second: f64,
}

/// Something that kept the benchmark from measuring.
#[derive(Debug)]
pub struct BenchError(pub String);

impl std::fmt::Display for BenchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BenchError {}

impl From<std::io::Error> for BenchError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

fn failed(error: impl std::fmt::Display) -> BenchError {
    BenchError(error.to_string())
}

/// Result of the benchmark's own steps.
pub type Result<T> = std::result::Result<T, BenchError>;

/// What one load run is made of.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Sessions at once.
    pub connections: usize,
    /// Messages in all.
    pub messages: usize,
    /// Bytes of each message.
    pub size_bytes: usize,
    /// Sessions stay open from message to message.
    pub lasting: bool,
}

impl Load {
    /// Runs `smtp-source` against the server and waits for it; the seconds it took.
    fn send(self) -> Result<f64> {
        self.send_to(SERVER)
    }

    /// The same, to another address.
    fn send_to(self, to: &str) -> Result<f64> {
        let started = Instant::now();
        let mut command = Command::new(program("smtp-source")?);
        if self.lasting {
            command.arg("-d");
        }
        let output = command
            .args(["-s", &self.connections.to_string()])
            .args(["-m", &self.messages.to_string()])
            .args(["-l", &self.size_bytes.to_string()])
            .args(["-f", "sender@bench.example", "-t", "rcpt@sink.example"])
            .arg(to)
            .output()?;
        if !output.status.success() {
            return Err(BenchError(format!(
                "smtp-source: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )));
        }
        Ok(started.elapsed().as_secs_f64())
    }
}

/// Where Debian keeps Postfix's programs, beside the ordinary PATH.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| BenchError(format!("{name} is not installed: apt-get install postfix strace")))
}

/// `smtp-sink`, which takes everything and keeps nothing.
struct Sink(Child);

impl Sink {
    fn start() -> Result<Self> {
        let child = Command::new(program("smtp-sink")?)
            .args(["-u", "nobody", SINK, "1024"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let sink = Self(child);
        wait_for_port(SINK)?;
        Ok(sink)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something listens at `address`.
pub fn wait_for_port(address: &str) -> Result<()> {
    let address: SocketAddr = address.parse().map_err(|_| BenchError(format!("{address} is no address")))?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(BenchError(format!("nothing listens at {address} after 20 s")))
}

/// Waits until a server greets: one that only listens may still be starting.
pub fn wait_for_greeting(address: &str) -> Result<()> {
    wait_for_port(address)?;
    measure::greeted_sessions(address, 1).map(drop)
}

/// A part of the benchmark that can be run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Accepting: rate, CPU, syncs.
    Accept,
    /// Accepting, each message over a connection of its own.
    Connections,
    /// Accepting and relaying.
    Relay,
    /// Memory with sessions, and while large messages pass.
    Memory,
    /// Wake-ups of a server with nothing to do.
    Idle,
    /// DKIM signatures.
    Dkim,
    /// SPF, DKIM and DMARC of mail from outside.
    Checks,
    /// TLS handshakes.
    Tls,
    /// Logins.
    Login,
    /// Long queues of deferred messages.
    Queues,
}

impl Section {
    /// All of them, in the order in which they are run.
    pub const ALL: [Self; 10] = [
        Self::Accept,
        Self::Connections,
        Self::Relay,
        Self::Memory,
        Self::Idle,
        Self::Dkim,
        Self::Checks,
        Self::Tls,
        Self::Login,
        Self::Queues,
    ];

    /// Its name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Connections => "connections",
            Self::Relay => "relay",
            Self::Memory => "memory",
            Self::Idle => "idle",
            Self::Dkim => "dkim",
            Self::Checks => "checks",
            Self::Tls => "tls",
            Self::Login => "login",
            Self::Queues => "queues",
        }
    }

    /// Whether Postfix is measured beside this project's server.
    fn compares(self) -> bool {
        matches!(self, Self::Accept | Self::Connections | Self::Relay | Self::Memory)
    }
}

/// What is measured, and how thoroughly.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The servers, one after the other.
    pub kinds: Vec<Kind>,
    /// The parts.
    pub sections: Vec<Section>,
    /// Messages of each rate.
    pub messages: usize,
    /// Repeats of each rate, of which the median counts.
    pub repeats: usize,
    /// Lengths of the queue of deferred messages.
    pub deferred: Vec<usize>,
    /// How long an idle server is watched.
    pub idle: Duration,
}

/// Measures what is planned.
///
/// # Errors
/// The first step that could not be done, in words.
pub fn run(plan: &Plan, mut report: impl FnMut(&Figure)) -> Result<()> {
    for &kind in &plan.kinds {
        let mut say = |measure: &str, value: f64, unit: &'static str, probe: f64| {
            report(&Figure {
                server: kind,
                measure: measure.into(),
                value,
                unit,
                sync_probe_per_second: probe,
            });
        };
        for &section in plan.sections.iter().filter(|section| kind == Kind::Mta || section.compares()) {
            match section {
                Section::Accept => accept(kind, plan.messages, plan.repeats, &mut say)?,
                Section::Connections => new_connections(kind, plan.messages, plan.repeats, &mut say)?,
                Section::Relay => relay(kind, plan.messages, plan.repeats, &mut say)?,
                Section::Memory => memory(kind, &mut say)?,
                Section::Idle => idle(plan.idle, &mut say)?,
                Section::Dkim => people::dkim(plan.messages, &mut say)?,
                Section::Checks => people::checks(plan.messages, &mut say)?,
                Section::Tls => people::tls(plan.messages, &mut say)?,
                Section::Login => people::login(plan.messages.div_ceil(5), &mut say)?,
                Section::Queues => {
                    plan.deferred.iter().try_for_each(|&count| long_queue::measure(count, &mut say))?;
                }
            }
        }
    }
    Ok(())
}

/// How long a server is left alone before it is watched: what it does once after its start is over then.
const REST: Duration = Duration::from_secs(20);

type Say<'a> = &'a mut dyn FnMut(&str, f64, &'static str, f64);

/// Accepting only: the next hop is a port that takes connections and never greets, so nothing leaves.
fn accept(kind: Kind, messages: usize, repeats: usize, say: Say<'_>) -> Result<()> {
    for connections in [1, 10, 50] {
        let load = Load { connections, messages, size_bytes: 4096, lasting: true };
        let mut rates = Vec::new();
        let mut cpu = Vec::new();
        let probe = sync_probe(&std::env::temp_dir())?;
        for _ in 0..repeats {
            let silent = TcpListener::bind(SINK)?;
            let server = Server::start(kind)?;
            let before = Usage::of(server.pid())?;
            let seconds = load.send()?;
            let used = Usage::of(server.pid())?.cpu_ms - before.cpu_ms;
            rates.push(messages as f64 / seconds);
            cpu.push(used / messages as f64);
            drop(server);
            drop(silent);
        }
        say(&format!("accept, {connections} connections"), median(rates), "msg/s", probe);
        say(&format!("accept, {connections} connections, CPU"), median(cpu), "ms/msg", probe);
        let syncs = syncs_of_accept(kind, load)?;
        say(
            &format!("accept, {connections} connections, syncs"),
            syncs as f64 / messages as f64,
            "syncs/msg",
            probe,
        );
    }
    Ok(())
}

/// The sync calls while a load is accepted.
fn syncs_of_accept(kind: Kind, load: Load) -> Result<usize> {
    let _silent = TcpListener::bind(SINK)?;
    syncs(kind, |_| load.send().map(drop))
}

/// The sync calls of a server during some work.
fn syncs(kind: Kind, work: impl FnOnce(&Server) -> Result<()>) -> Result<usize> {
    if kind == Kind::Mta {
        let folder = tempfile::tempdir()?;
        let calls = folder.path().join("calls");
        let server = Server::start_traced(&calls)?;
        let from = SystemTime::now();
        work(&server)?;
        let to = SystemTime::now();
        // The tracer writes in pieces; it is complete when the server has ended.
        drop(server);
        return measure::syncs_between(&calls, from, to);
    }
    let server = Server::start(kind)?;
    let counter = measure::SyncCounter::attach(server.pid())?;
    work(&server)?;
    counter.stop()
}

/// Accepting only, each message over a connection of its own.
fn new_connections(kind: Kind, messages: usize, repeats: usize, say: Say<'_>) -> Result<()> {
    for connections in [10, 50] {
        let load = Load { connections, messages, size_bytes: 4096, lasting: false };
        let probe = sync_probe(&std::env::temp_dir())?;
        let mut rates = Vec::new();
        for _ in 0..repeats {
            let _silent = TcpListener::bind(SINK)?;
            let _server = Server::start(kind)?;
            rates.push(messages as f64 / load.send()?);
        }
        say(&format!("accept, a new connection each, {connections} at once"), median(rates), "msg/s", probe);
    }
    Ok(())
}

/// Accept and relay, until the queue is empty.
fn relay(kind: Kind, messages: usize, repeats: usize, say: Say<'_>) -> Result<()> {
    let load = Load { connections: 10, messages, size_bytes: 4096, lasting: true };
    let probe = sync_probe(&std::env::temp_dir())?;
    let (mut rates, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..repeats {
        let _sink = Sink::start()?;
        let server = Server::start(kind)?;
        let before = Usage::of(server.pid())?;
        let started = Instant::now();
        load.send()?;
        server.wait_until_empty(Duration::from_secs(120))?;
        rates.push(messages as f64 / started.elapsed().as_secs_f64());
        cpu.push((Usage::of(server.pid())?.cpu_ms - before.cpu_ms) / messages as f64);
    }
    say("relay, 10 connections", median(rates), "msg/s", probe);
    say("relay, 10 connections, CPU", median(cpu), "ms/msg", probe);
    let _sink = Sink::start()?;
    let calls = syncs(kind, |server| {
        load.send()?;
        server.wait_until_empty(Duration::from_secs(120))
    })?;
    say("relay, 10 connections, syncs", calls as f64 / messages as f64, "syncs/msg", probe);
    Ok(())
}

/// Idle, with 50 sessions that said EHLO, and while 25 MB messages pass.
fn memory(kind: Kind, say: Say<'_>) -> Result<()> {
    let probe = sync_probe(&std::env::temp_dir())?;
    let _sink = Sink::start()?;
    let server = Server::start(kind)?;
    say("memory idle", Usage::of(server.pid())?.pss_kib / 1024.0, "MiB PSS", probe);
    let sessions = measure::greeted_sessions(SERVER, 50)?;
    say("memory, 50 sessions", Usage::of(server.pid())?.pss_kib / 1024.0, "MiB PSS", probe);
    drop(sessions);
    let peak = measure::Peak::watch(server.pid());
    let load = Load { connections: 4, messages: 8, size_bytes: 25_000_000, lasting: true };
    let started = Instant::now();
    load.send()?;
    server.wait_until_empty(Duration::from_secs(120))?;
    let seconds = started.elapsed().as_secs_f64();
    say("memory, 4 x 25 MB passing", peak.stop() / 1024.0, "MiB PSS", probe);
    say("relay 8 x 25 MB", 8.0 * 25.0 / seconds, "MB/s", probe);
    drop(server);
    let bare = load.send_to(SINK)?;
    say("the same into the sink directly", 8.0 * 25.0 / bare, "MB/s", probe);
    // Postfix as installed takes no more than 100 sessions.
    if kind == Kind::Mta {
        let server = Server::start(kind)?;
        let idle = Usage::of(server.pid())?.pss_kib;
        let sessions = measure::greeted_sessions(SERVER, 500)?;
        let busy = Usage::of(server.pid())?.pss_kib;
        say("memory, 500 sessions", busy / 1024.0, "MiB PSS", probe);
        say("memory, each of 500 sessions", (busy - idle) / 500.0, "KiB PSS", probe);
        drop((sessions, server));
        let server = Server::start_with(&people::settings())?;
        let idle = Usage::of(server.pid())?.pss_kib;
        let _sessions = people::greeted_sessions(500)?;
        let each = (Usage::of(server.pid())?.pss_kib - idle) / 500.0;
        say("memory, each of 500 sessions with TLS", each, "KiB PSS", probe);
    }
    Ok(())
}

/// Wake-ups of a server that has nothing to do, and whose DNS works: while no resolver does, the clock is looked at every
/// few seconds, by design.
fn idle(watched: Duration, say: Say<'_>) -> Result<()> {
    let probe = sync_probe(&std::env::temp_dir())?;
    let dns = Dns::start([])?;
    let server = Server::start_with(&dns.settings)?;
    std::thread::sleep(REST.min(watched));
    let before = measure::Waits::of(server.pid())?;
    std::thread::sleep(watched);
    let waits = measure::Waits::of(server.pid())?.since(&before);
    let minutes = watched.as_secs_f64() / 60.0;
    say("wake-ups while idle", waits as f64 / minutes, "a minute", probe);
    Ok(())
}

/// A resolver that works: the laboratory's, in this process.
struct Dns {
    servers: DnsServers,
    /// The root's key.
    anchor: PathBuf,
    /// What the server under test has to know of it.
    settings: Settings,
    _folder: tempfile::TempDir,
}

impl Dns {
    fn start(zones: impl IntoIterator<Item = Zone>) -> Result<Self> {
        let own = Zone::new("bench.example").address("@", std::net::Ipv4Addr::LOCALHOST);
        let internet = Internet::new(std::iter::once(own).chain(zones));
        let servers = DnsServers::start(internet.tree(), 0)?;
        let folder = tempfile::tempdir()?;
        let anchor = folder.path().join("root.key");
        std::fs::write(&anchor, internet.trust_anchor())?;
        let mut settings = Settings::default();
        settings.set("dns.servers", &format!("[\"{}\"]", servers.forwarder()));
        settings.set("dns.recursion", "false");
        settings.set_text("dns.trust_anchor_file", &anchor.display().to_string());
        Ok(Self { servers, anchor, settings, _folder: folder })
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
