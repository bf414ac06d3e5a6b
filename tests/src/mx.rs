//! Scripted MX hosts: SMTP servers that behave well, or badly in exactly one way, and keep what they receive.
//!
//! Each listens at a loopback address of its own. A [`Behaviour`] starts as a well-behaved host without TLS; tests
//! change what they need. Everything runs on plain threads and is written apart from the daemon's own SMTP code.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::cert::Identity;

/// How long a connection may be idle before the host gives it up.
const IDLE: Duration = Duration::from_secs(60);
/// How often a silent host looks whether it shall stop.
const STOP_POLL: Duration = Duration::from_millis(50);

/// A moment of a session at which a host can be told to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The connection is open; the banner is due.
    Banner,
    /// EHLO or HELO.
    Ehlo,
    /// STARTTLS.
    StartTls,
    /// Right after `220` to STARTTLS, instead of a handshake.
    Handshake,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The dot that ends the content has arrived; the content is kept before this.
    AfterDot,
    /// QUIT.
    Quit,
}

/// What a host does at a moment instead of its good manners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// This reply, lines separated by LF; it is sent with CR LF.
    Reply(String),
    /// These bytes, nothing else, and on with the session.
    Raw(Vec<u8>),
    /// Nothing, ever; the connection stays open.
    Silence,
    /// The connection is closed.
    Close,
    /// The same line again and again until the client is gone.
    Endless(String),
    /// This reply, one byte per pause.
    Drip(String, Duration),
}

/// How a host behaves.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// The name in banner and EHLO reply.
    pub host_name: String,
    /// STARTTLS is offered, with this identity.
    pub identity: Option<Identity>,
    /// The extensions offered besides STARTTLS.
    pub extensions: Vec<String>,
    /// What it does differently, and when.
    pub actions: BTreeMap<Moment, Action>,
    /// Replies to RCPT by forward-path.
    pub recipients: BTreeMap<String, String>,
    /// For how many sessions the actions and replies above hold; for ever where `None`.
    pub bad_sessions: Option<usize>,
}

impl Behaviour {
    /// A well-behaved host without TLS.
    pub fn plain(host_name: &str) -> Self {
        Self {
            host_name: host_name.to_owned(),
            identity: None,
            extensions: ["PIPELINING", "8BITMIME", "SIZE 10485760", "ENHANCEDSTATUSCODES"]
                .map(str::to_owned)
                .to_vec(),
            actions: BTreeMap::new(),
            recipients: BTreeMap::new(),
            bad_sessions: None,
        }
    }

    /// A well-behaved host that offers STARTTLS with this identity.
    pub fn with_tls(host_name: &str, identity: &Identity) -> Self {
        Self { identity: Some(identity.clone()), ..Self::plain(host_name) }
    }

    /// The same host, doing this at that moment.
    #[must_use]
    pub fn at(mut self, moment: Moment, action: Action) -> Self {
        self.actions.insert(moment, action);
        self
    }

    /// The same host, replying this at that moment.
    #[must_use]
    pub fn reply_at(self, moment: Moment, reply: &str) -> Self {
        self.at(moment, Action::Reply(reply.to_owned()))
    }

    /// The same host, with a reply of its own for one recipient.
    #[must_use]
    pub fn reply_to(mut self, recipient: &str, reply: &str) -> Self {
        self.recipients.insert(recipient.to_owned(), reply.to_owned());
        self
    }

    /// The same host, misbehaving in its first sessions only.
    #[must_use]
    pub fn for_sessions(mut self, sessions: usize) -> Self {
        self.bad_sessions = Some(sessions);
        self
    }
}

/// The TLS of a session, as the host saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSeen {
    /// The protocol version, `TLSv1_3` for example.
    pub version: String,
    /// The name the client asked for (SNI).
    pub server_name: Option<String>,
}

/// One message that a host took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The client's name in EHLO.
    pub helo: String,
    /// The TLS it came over; plaintext where `None`.
    pub tls: Option<TlsSeen>,
    /// The argument of MAIL, after `FROM:`.
    pub reverse_path: String,
    /// The arguments of each accepted RCPT, after `TO:`.
    pub forward_paths: Vec<String>,
    /// The content without dot-stuffing, lines as they came.
    pub content: Vec<u8>,
}

/// What a host has seen so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// How many connections were opened.
    pub connections: usize,
    /// How many connections have ended.
    pub ended: usize,
    /// How many TLS handshakes were completed.
    pub handshakes: usize,
    /// Every message, in order.
    pub messages: Vec<Received>,
    /// Every line, `C: ` before the client's and `S: ` before the host's.
    pub transcript: Vec<String>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    /// How often the behaviour of open sessions was changed.
    changes: AtomicUsize,
    seen: Mutex<Seen>,
    changed: Condvar,
    stopped: AtomicBool,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen());
        self.changed.notify_all();
    }
}

/// A running MX host. Dropping it stops it.
pub struct MxHost {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl MxHost {
    /// Starts a host; port 0 chooses a free one.
    pub fn start(address: Ipv4Addr, port: u16, behaviour: Behaviour) -> io::Result<Self> {
        let listener = TcpListener::bind((address, port))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            changes: AtomicUsize::new(0),
            seen: Mutex::new(Seen::default()),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || listen(&listener, &for_thread));
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Behaves differently in the sessions to come.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    /// Behaves differently from the next command on, in the sessions that are open too.
    pub fn change_open_sessions(&self, behaviour: Behaviour) {
        self.set_behaviour(behaviour);
        self.shared.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        self.shared.seen().clone()
    }

    /// The messages it has taken so far.
    pub fn messages(&self) -> Vec<Received> {
        self.shared.seen().messages.clone()
    }

    /// Waits until what it has seen fulfils a condition; `false` when the time is over.
    pub fn wait_until(&self, within: Duration, mut condition: impl FnMut(&Seen) -> bool) -> bool {
        let deadline = Instant::now() + within;
        let mut seen = self.shared.seen();
        while !condition(&seen) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            seen = self.shared.changed.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for MxHost {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect_timeout(&self.address, STOP_POLL));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let mut number = 0;
            shared.note(|seen| {
                seen.connections += 1;
                number = seen.connections;
            });
            let behaviour = shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // The client may end a session in any way; what counts is what the host has kept.
            drop(Session::new(stream, behaviour, number, Arc::clone(&shared)).and_then(Session::run));
            shared.note(|seen| seen.ended += 1);
        });
    }
}

/// Plain or encrypted.
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// One connection.
struct Session {
    stream: BufReader<Stream>,
    behaviour: Behaviour,
    /// The changes that the behaviour holds.
    changes: usize,
    shared: Arc<Shared>,
    helo: String,
    tls: Option<TlsSeen>,
    reverse_path: Option<String>,
    forward_paths: Vec<String>,
}

/// Whether the session goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Continue,
    End,
}

impl Session {
    fn new(
        stream: TcpStream,
        mut behaviour: Behaviour,
        number: usize,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_write_timeout(Some(IDLE))?;
        stream.set_nodelay(true)?;
        if behaviour.bad_sessions.is_some_and(|sessions| number > sessions) {
            behaviour.actions.clear();
            behaviour.recipients.clear();
        }
        Ok(Self {
            stream: BufReader::new(Stream::Plain(stream)),
            behaviour,
            changes: shared.changes.load(Ordering::SeqCst),
            shared,
            helo: String::new(),
            tls: None,
            reverse_path: None,
            forward_paths: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        let banner = format!("220 {} ESMTP laboratory", self.behaviour.host_name);
        if self.act(Moment::Banner, &banner)? == Next::End {
            return Ok(());
        }
        while let Some(line) = self.line()? {
            self.hear_of_changes();
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let argument = line.get(verb.len()..).unwrap_or_default().trim();
            let next = match verb.as_str() {
                "EHLO" | "HELO" => self.ehlo(&verb, argument)?,
                "STARTTLS" if self.behaviour.identity.is_some() && self.tls.is_none() => self.start_tls()?,
                "MAIL" => {
                    let refuses = self.behaviour.actions.contains_key(&Moment::Mail);
                    self.reverse_path = (!refuses).then(|| path_of(argument, "FROM:"));
                    self.forward_paths.clear();
                    self.act(Moment::Mail, "250 2.1.0 ok")?
                }
                "RCPT" if self.reverse_path.is_none() => self.send("503 5.5.1 MAIL first")?,
                "RCPT" => self.rcpt(&path_of(argument, "TO:"))?,
                "DATA" => self.data()?,
                "RSET" => {
                    self.reverse_path = None;
                    self.forward_paths.clear();
                    self.send("250 2.0.0 ok")?
                }
                "NOOP" => self.send("250 2.0.0 ok")?,
                "QUIT" => {
                    self.act(Moment::Quit, "221 2.0.0 bye")?;
                    Next::End
                }
                _ => self.send("500 5.5.1 what?")?,
            };
            if next == Next::End {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes over a behaviour that was set for open sessions too.
    fn hear_of_changes(&mut self) {
        let changes = self.shared.changes.load(Ordering::SeqCst);
        if changes > self.changes {
            self.changes = changes;
            self.behaviour = self.shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner).clone();
        }
    }

    fn ehlo(&mut self, verb: &str, argument: &str) -> io::Result<Next> {
        argument.clone_into(&mut self.helo);
        let mut lines = vec![self.behaviour.host_name.clone()];
        if verb == "EHLO" {
            lines.extend(self.behaviour.extensions.iter().cloned());
            if self.behaviour.identity.is_some() && self.tls.is_none() {
                lines.push("STARTTLS".to_owned());
            }
        }
        let last = lines.len() - 1;
        let lines: Vec<String> = lines
            .iter()
            .enumerate()
            .map(|(index, line)| format!("250{}{line}", if index == last { ' ' } else { '-' }))
            .collect();
        self.act(Moment::Ehlo, &lines.join("\n"))
    }

    fn rcpt(&mut self, path: &str) -> io::Result<Next> {
        let address = path.split('>').next().unwrap_or_default().trim_start_matches('<');
        if let Some(reply) = self.behaviour.recipients.get(address).cloned() {
            if reply.starts_with('2') {
                self.forward_paths.push(path.to_owned());
            }
            return self.send(&reply);
        }
        if !self.behaviour.actions.contains_key(&Moment::Rcpt) {
            self.forward_paths.push(path.to_owned());
        }
        self.act(Moment::Rcpt, "250 2.1.5 ok")
    }

    fn start_tls(&mut self) -> io::Result<Next> {
        if let Some(Action::Reply(_)) = self.behaviour.actions.get(&Moment::StartTls) {
            return self.act(Moment::StartTls, "");
        }
        if self.act(Moment::StartTls, "220 2.0.0 go on")? == Next::End {
            return Ok(Next::End);
        }
        if let Some(action) = self.behaviour.actions.get(&Moment::Handshake).cloned() {
            return self.perform(&action);
        }
        let Some(identity) = self.behaviour.identity.as_ref() else { return Ok(Next::End) };
        let connection =
            ServerConnection::new(Arc::new(server_config(identity))).map_err(io::Error::other)?;
        let Stream::Plain(plain) = self.stream.get_ref() else { return Ok(Next::End) };
        let mut tls = StreamOwned::new(connection, plain.try_clone()?);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        let version = tls.conn.protocol_version().map(|it| format!("{it:?}")).unwrap_or_default();
        let server_name = tls.conn.server_name().map(str::to_owned);
        self.shared.note(|seen| {
            seen.handshakes += 1;
            seen.transcript.push(format!("-- {version} sni={server_name:?}"));
        });
        self.tls = Some(TlsSeen { version, server_name });
        self.stream = BufReader::new(Stream::Tls(Box::new(tls)));
        Ok(Next::Continue)
    }

    fn data(&mut self) -> io::Result<Next> {
        if self.forward_paths.is_empty() {
            return self.send("554 5.5.1 no recipients");
        }
        let is_go_on = match self.behaviour.actions.get(&Moment::Data) {
            None => true,
            Some(Action::Reply(reply)) => reply.starts_with('3'),
            Some(_) => false,
        };
        if self.act(Moment::Data, "354 go on")? == Next::End {
            return Ok(Next::End);
        }
        if !is_go_on {
            return Ok(Next::Continue);
        }
        let mut content = Vec::new();
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line)? == 0 {
                return Ok(Next::End);
            }
            if line == b".\r\n" {
                break;
            }
            content.extend(line.strip_prefix(b".").unwrap_or(&line));
        }
        let received = Received {
            helo: self.helo.clone(),
            tls: self.tls.clone(),
            reverse_path: self.reverse_path.take().unwrap_or_default(),
            forward_paths: std::mem::take(&mut self.forward_paths),
            content,
        };
        let refuses = matches!(
            self.behaviour.actions.get(&Moment::AfterDot), Some(Action::Reply(reply)) if !reply.starts_with('2')
        );
        self.shared.note(|seen| {
            seen.transcript.push(format!("C: ({} bytes of content)", received.content.len()));
            if !refuses {
                seen.messages.push(received);
            }
        });
        self.act(Moment::AfterDot, "250 2.0.0 taken")
    }

    /// The next line without its end; nothing when the client has closed.
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut bytes = Vec::new();
        if self.stream.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
        self.shared.note(|seen| seen.transcript.push(format!("C: {text}")));
        Ok(Some(text))
    }

    /// Does what is set for the moment; else sends the good reply.
    fn act(&mut self, moment: Moment, good: &str) -> io::Result<Next> {
        match self.behaviour.actions.get(&moment).cloned() {
            Some(action) => self.perform(&action),
            None => self.send(good),
        }
    }

    fn perform(&mut self, action: &Action) -> io::Result<Next> {
        match action {
            Action::Reply(reply) => self.send(reply),
            Action::Raw(bytes) => {
                self.stream.get_mut().write_all(bytes)?;
                Ok(Next::Continue)
            }
            Action::Close => Ok(Next::End),
            Action::Silence => self.stay_silent(),
            Action::Endless(line) => loop {
                self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
                if self.shared.stopped.load(Ordering::SeqCst) {
                    return Ok(Next::End);
                }
            },
            Action::Drip(reply, pause) => {
                for byte in format!("{reply}\r\n").bytes() {
                    self.stream.get_mut().write_all(&[byte])?;
                    std::thread::sleep(*pause);
                }
                Ok(Next::Continue)
            }
        }
    }

    /// Reads and says nothing until the client is gone or the host is stopped.
    fn stay_silent(&mut self) -> io::Result<Next> {
        let plain = match self.stream.get_ref() {
            Stream::Plain(plain) => plain.try_clone()?,
            Stream::Tls(tls) => tls.sock.try_clone()?,
        };
        plain.set_read_timeout(Some(STOP_POLL))?;
        let mut plain = plain;
        let mut buffer = [0; 4096];
        while !self.shared.stopped.load(Ordering::SeqCst) {
            match plain.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
                _ => {}
            }
        }
        Ok(Next::End)
    }

    fn send(&mut self, reply: &str) -> io::Result<Next> {
        for line in reply.split('\n') {
            self.shared.note(|seen| seen.transcript.push(format!("S: {line}")));
        }
        let wire = reply.replace('\n', "\r\n") + "\r\n";
        self.stream.get_mut().write_all(wire.as_bytes())?;
        self.stream.get_mut().flush()?;
        Ok(Next::Continue)
    }
}

fn server_config(identity: &Identity) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certified = |identity: &Identity| {
        CertifiedKey::from_der(identity.rustls_chain(), identity.rustls_key(), &provider)
            .expect("a certificate with its key")
    };
    let keys = std::iter::once(identity).chain(identity.second.as_deref()).map(certified).map(Arc::new);
    let by_kind = ByKind(keys.collect());
    ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(by_kind))
}

/// The first certificate whose key the client can verify.
#[derive(Debug)]
struct ByKind(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByKind {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|it| it.key.choose_scheme(hello.signature_schemes()).is_some()).cloned()
    }
}

/// The argument of MAIL or RCPT without its keyword.
fn path_of(argument: &str, keyword: &str) -> String {
    let has_keyword = argument.get(..keyword.len()).is_some_and(|start| start.eq_ignore_ascii_case(keyword));
    let path = if has_keyword { &argument[keyword.len()..] } else { argument };
    path.trim().to_owned()
}
