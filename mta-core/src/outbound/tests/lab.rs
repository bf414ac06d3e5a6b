//! A scripted SMTP server in this process, and a scenario around it whose every part is in order until a test changes it.

use std::io::{self, Cursor};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use futures_rustls::TlsAcceptor;
use hickory_proto::rr::RecordType::{A, MX, TLSA};
use mta_smtp::address::{Domain, Host, Mailbox, ReversePath};
use mta_smtp::envelope::{MailParameters, Recipient};
use ring::{digest, hmac, pbkdf2};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use smol::net::{TcpListener, TcpStream};

use crate::dns::FakeResolver;
use crate::outbound::dane_memory::DaneMemory;
use crate::outbound::{AttemptReport, ContentSource, Context, Job, Options, Pool, Verdict, attempt};
use crate::routing::{RelayAuth, RelayHost, RelayTls, Route};
use crate::tls::client::Client;

pub(super) const CONTENT: &[u8] = b"Subject: marker-of-the-message\r\n\r\n.a dot\r\n";
pub(super) const SECRET: &str = "very-secret-pencil";

/// What the server does with STARTTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum StartTls {
    #[default]
    Offered,
    NotOffered,
    Refused,
    /// Says 220 and then talks nonsense.
    Garbage,
    /// Says 220 and closes.
    Close,
    /// Puts a second reply behind the 220.
    Injected,
}

/// How the server behaves; the default is well.
#[derive(Debug, Clone, Default)]
pub(super) struct Behaviour {
    pub(super) starttls: StartTls,
    /// The mechanisms offered; a login is then demanded before MAIL.
    pub(super) auth: Option<&'static str>,
    /// Replies leave one byte at a time.
    pub(super) drip: bool,
    pub(super) implicit: bool,
    /// Refuses after the first line of content, and reads on.
    pub(super) refuse_early: bool,
    /// Names in its certificate besides the right ones.
    pub(super) more_names: usize,
    /// Speaks nothing newer than TLS 1.2.
    pub(super) old_tls: bool,
    /// Closes as soon as TLS stands.
    pub(super) close_in_tls: bool,
    /// A line of the offer.
    pub(super) limits: &'static str,
    /// The replies below hold from this message of a session on; from the greeting where 0.
    pub(super) from_message: usize,
    /// Command prefix (the empty one is the greeting, `.` the end of data) and what is answered to it.
    pub(super) replies: Vec<(&'static str, &'static str)>,
}

impl Behaviour {
    pub(super) fn reply(mut self, to: &'static str, reply: &'static str) -> Self {
        self.replies.push((to, reply));
        self
    }
}

type Hook = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Log {
    text: String,
    content: Vec<u8>,
    messages: usize,
    connections: usize,
    resumed: usize,
    hook: Option<Hook>,
}

/// A server on a thread-pool task; it stops when dropped.
pub(super) struct Server {
    log: Arc<Mutex<Log>>,
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    _task: smol::Task<()>,
}

impl Server {
    pub(super) fn start(behaviour: Behaviour) -> Self {
        Self::start_at([127, 0, 0, 1], 0, behaviour)
    }

    pub(super) fn start_at(ip: [u8; 4], port: u16, behaviour: Behaviour) -> Self {
        let mut names = vec!["mx.test".to_owned(), "relay.test".to_owned()];
        names.extend((0..behaviour.more_names).map(|number| format!("name{number}.example")));
        let identity = rcgen::generate_simple_self_signed(names).unwrap();
        let certificate = identity.cert.der().clone();
        let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut versions = vec![&rustls::version::TLS12];
        if !behaviour.old_tls {
            versions.push(&rustls::version::TLS13);
        }
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = smol::block_on(TcpListener::bind((Ipv4Addr::from(ip), port))).unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        let task = smol::spawn(accept(listener, acceptor, behaviour, log.clone()));
        Self { log, address, certificate, _task: task }
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Everything the client said, in the clear or inside TLS; `<TLS>` where a handshake was done.
    pub(super) fn log(&self) -> String {
        self.log.lock().unwrap().text.clone()
    }

    /// The content of the last message, dots removed.
    pub(super) fn received(&self) -> Vec<u8> {
        self.log.lock().unwrap().content.clone()
    }

    /// How many messages came whole, whatever was answered.
    pub(super) fn messages(&self) -> usize {
        self.log.lock().unwrap().messages
    }

    pub(super) fn connections(&self) -> usize {
        self.log.lock().unwrap().connections
    }

    /// Handshakes that resumed an earlier session.
    pub(super) fn resumed(&self) -> usize {
        self.log.lock().unwrap().resumed
    }

    pub(super) fn on_connect(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.log.lock().unwrap().hook = Some(Arc::new(hook));
    }

    /// The `3 1 1` record of its key.
    pub(super) fn tlsa(&self) -> String {
        let spki = mta_dane::der::Certificate::parse(&self.certificate).unwrap().spki;
        let hash = digest::digest(&digest::SHA256, spki);
        let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("3 1 1 {hex}")
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, behaviour: Behaviour, log: Arc<Mutex<Log>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let hook = {
            let mut log = log.lock().unwrap();
            log.connections += 1;
            log.hook.clone()
        };
        if let Some(hook) = hook {
            hook();
        }
        let talk = Talk {
            behaviour: behaviour.clone(),
            log: log.clone(),
            authenticated: false,
            mails: 0,
            refused: false,
        };
        smol::spawn(talk.connection(stream, acceptor.clone())).detach();
    }
}

/// What follows a line.
enum Then {
    GoOn,
    StartTls,
    Close,
}

struct Talk {
    behaviour: Behaviour,
    log: Arc<Mutex<Log>>,
    authenticated: bool,
    /// MAIL commands so far.
    mails: usize,
    /// The last MAIL was refused.
    refused: bool,
}

impl Talk {
    async fn connection(mut self, stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<()> {
        if self.behaviour.implicit {
            let mut tls = acceptor.accept(stream).await?;
            self.note("<TLS>\r\n");
            self.greet(&mut tls).await?;
            return self.lines(&mut tls, true).await.map(|_| ());
        }
        let mut stream = stream;
        self.greet(&mut stream).await?;
        if !self.lines(&mut stream, false).await? {
            return Ok(());
        }
        let mut tls = acceptor.accept(stream).await?;
        let resumed = tls.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        self.log.lock().unwrap().resumed += usize::from(resumed);
        self.note("<TLS>\r\n");
        if self.behaviour.close_in_tls {
            return tls.close().await;
        }
        self.lines(&mut tls, true).await.map(|_| ())
    }

    fn note(&self, text: &str) {
        self.log.lock().unwrap().text.push_str(text);
    }

    async fn greet<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<()> {
        let greeting = self.scripted("").unwrap_or("220 mx.test ESMTP\r\n");
        self.say(stream, greeting).await
    }

    fn scripted(&self, line: &str) -> Option<&'static str> {
        if self.mails < self.behaviour.from_message {
            return None;
        }
        let fits = |to: &str| if to.is_empty() { line.is_empty() } else { line.starts_with(to) };
        self.behaviour.replies.iter().find(|(to, _)| fits(to)).map(|(_, reply)| *reply)
    }

    /// Answers lines until the connection ends (false) or STARTTLS was taken (true).
    async fn lines<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        tls: bool,
    ) -> io::Result<bool> {
        let mut buffer = Vec::new();
        while let Some(line) = read_line(stream, &mut buffer).await? {
            self.note(&line);
            match self.line(stream, &mut buffer, &line, tls).await? {
                Then::GoOn => {}
                Then::StartTls => return Ok(true),
                Then::Close => return Ok(false),
            }
        }
        Ok(false)
    }

    async fn line<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        buffer: &mut Vec<u8>,
        line: &str,
        tls: bool,
    ) -> io::Result<Then> {
        let verb = line.split([' ', '\r']).next().unwrap_or_default();
        self.mails += usize::from(verb == "MAIL");
        let reply = self.scripted(line);
        if verb == "MAIL" {
            self.refused = reply.is_some_and(|reply| !reply.starts_with('2'));
        }
        if let Some(reply) = reply {
            self.say(stream, reply).await?;
        } else {
            match verb {
                "EHLO" => {
                    let offer = self.offer(tls);
                    self.say(stream, &offer).await?;
                }
                "STARTTLS" => return self.starttls(stream).await,
                "AUTH" => self.auth(stream, buffer, line).await?,
                "MAIL" if self.behaviour.auth.is_some() && !self.authenticated => {
                    self.say(stream, "530 5.7.0 log in first\r\n").await?;
                }
                "DATA" if self.refused && self.behaviour.from_message > 0 => {
                    self.say(stream, "503 5.5.1 MAIL first\r\n").await?;
                }
                "DATA" => {
                    self.say(stream, "354 go on\r\n").await?;
                    if self.behaviour.refuse_early {
                        self.say(stream, "552 5.3.4 too much\r\n<HANG>").await?;
                    }
                    self.content(stream, buffer).await?;
                    let reply = self.scripted(".").unwrap_or("250 2.0.0 queued as X\r\n");
                    self.say(stream, reply).await?;
                }
                "QUIT" => {
                    self.say(stream, "221 2.0.0 bye\r\n").await?;
                    return Ok(Then::Close);
                }
                _ => self.say(stream, "250 2.0.0 ok\r\n").await?,
            }
        }
        Ok(Then::GoOn)
    }

    fn offer(&self, tls: bool) -> String {
        let mut offer = "250-mx.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n".to_owned();
        if !tls && self.behaviour.starttls != StartTls::NotOffered {
            offer.push_str("250-STARTTLS\r\n");
        }
        if let Some(mechanisms) = self.behaviour.auth {
            // Offered in the clear too, to tempt.
            offer.push_str(&format!("250-AUTH {mechanisms}\r\n"));
        }
        if !self.behaviour.limits.is_empty() {
            offer.push_str(&format!("250-{}\r\n", self.behaviour.limits));
        }
        offer + "250 SIZE 100000000\r\n"
    }

    async fn starttls<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<Then> {
        match self.behaviour.starttls {
            StartTls::Offered | StartTls::NotOffered => {
                self.say(stream, "220 go ahead\r\n").await?;
                return Ok(Then::StartTls);
            }
            StartTls::Refused => self.say(stream, "454 4.7.0 not now\r\n").await?,
            StartTls::Garbage => self.say(stream, "220 go ahead\r\n<HELLO>").await?,
            StartTls::Close => {
                self.say(stream, "220 go ahead\r\n").await?;
                // Wait for the hello, so that the end does not overtake the reply.
                let _ = stream.read(&mut [0; 512]).await?;
                return Ok(Then::Close);
            }
            StartTls::Injected => {
                self.say(stream, "220 go ahead\r\n250-mx.test\r\n250 AUTH PLAIN\r\n").await?
            }
        }
        Ok(Then::GoOn)
    }

    async fn content<S: AsyncRead + Unpin>(&self, stream: &mut S, buffer: &mut Vec<u8>) -> io::Result<()> {
        let mut content = Vec::new();
        while let Some(line) = read_line(stream, buffer).await? {
            // A long message would make a long log.
            if content.len() < 4096 {
                self.note(&line);
            }
            if line == ".\r\n" {
                let mut log = self.log.lock().unwrap();
                log.content = content;
                log.messages += 1;
                return Ok(());
            }
            content.extend_from_slice(line.strip_prefix('.').unwrap_or(&line).as_bytes());
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    async fn auth<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        buffer: &mut Vec<u8>,
        line: &str,
    ) -> io::Result<()> {
        let mut words = line.split_ascii_whitespace().skip(1);
        let good = match (words.next(), words.next()) {
            (Some("PLAIN"), Some(initial)) => decode(initial) == format!("\0user\0{SECRET}"),
            (Some("LOGIN"), None) => {
                self.say(stream, "334 VXNlcm5hbWU6\r\n").await?;
                let name = read_line(stream, buffer).await?.unwrap_or_default();
                self.say(stream, "334 UGFzc3dvcmQ6\r\n").await?;
                let password = read_line(stream, buffer).await?.unwrap_or_default();
                decode(&name) == "user" && decode(&password) == SECRET
            }
            (Some("SCRAM-SHA-256"), Some(initial)) => self.scram(stream, buffer, initial).await?,
            _ => false,
        };
        self.authenticated = good;
        self.say(stream, if good { "235 2.7.0 welcome\r\n" } else { "535 5.7.8 no\r\n" }).await
    }

    async fn scram<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        buffer: &mut Vec<u8>,
        initial: &str,
    ) -> io::Result<bool> {
        let first = decode(initial);
        let bare = first.strip_prefix("n,,").unwrap_or_default().to_owned();
        let nonce = bare.split(",r=").nth(1).unwrap_or_default().to_owned();
        let server_first = format!("r={nonce}server,s={},i=4096", BASE64.encode("salt"));
        self.say(stream, &format!("334 {}\r\n", BASE64.encode(&server_first))).await?;
        let last = decode(&read_line(stream, buffer).await?.unwrap_or_default());
        let (without_proof, proof) = last.split_once(",p=").unwrap_or_default();
        let mut salted = [0; 32];
        let iterations = 4096.try_into().unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, b"salt", SECRET.as_bytes(), &mut salted);
        let message = format!("{bare},{server_first},{without_proof}");
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        let client_key = sign(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, client_key.as_ref());
        let signature = sign(stored.as_ref(), message.as_bytes());
        let expected: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let server_key = sign(&salted, b"Server Key");
        let proof_of_ours = BASE64.encode(sign(server_key.as_ref(), message.as_bytes()));
        self.say(stream, &format!("334 {}\r\n", BASE64.encode(format!("v={proof_of_ours}")))).await?;
        read_line(stream, buffer).await?;
        Ok(proof == BASE64.encode(expected))
    }

    /// Says a reply; `<CLOSE>`, `<HANG>`, `<ENDLESS>` and `<HELLO>` in it are done instead of said.
    async fn say<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S, reply: &str) -> io::Result<()> {
        let (text, act) =
            reply.split_at(reply.find('<').filter(|_| reply.ends_with('>')).unwrap_or(reply.len()));
        if self.behaviour.drip {
            for byte in text.as_bytes() {
                stream.write_all(&[*byte]).await?;
                stream.flush().await?;
            }
        } else {
            stream.write_all(text.as_bytes()).await?;
            stream.flush().await?;
        }
        match act {
            "<CLOSE>" => Err(io::ErrorKind::ConnectionAborted.into()),
            "<HANG>" => {
                // Until the client gives up.
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await? > 0 {}
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            "<ENDLESS>" => loop {
                stream.write_all(b"220-and so on and so on and so on and so on\r\n").await?;
            },
            "<HELLO>" => {
                let _ = stream.read(&mut [0; 512]).await?;
                stream.write_all(b"this is not the TLS you are looking for\r\n").await
            }
            _ => Ok(()),
        }
    }
}

fn decode(text: &str) -> String {
    String::from_utf8(BASE64.decode(text.trim()).unwrap_or_default()).unwrap_or_default()
}

async fn read_line<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
        }
        let mut chunk = [0; 16 * 1024];
        match stream.read(&mut chunk).await? {
            0 => return Ok(None),
            count => buffer.extend_from_slice(&chunk[..count]),
        }
    }
}

/// A scenario: one server, DNS that leads to it, a message for it.
pub(super) struct Lab {
    pub(super) server: Server,
    pub(super) resolver: FakeResolver,
    pub(super) options: Options,
    pub(super) job: Job,
    pub(super) pool: Pool,
    client: Client,
    pub(super) memory: DaneMemory,
    secret: Option<tempfile::NamedTempFile>,
}

impl Lab {
    /// Signed zones and a matching TLSA record.
    pub(super) fn dane(behaviour: Behaviour) -> Self {
        let lab = Self::new(behaviour);
        lab.resolver.secure("example.test", MX, &["10 mx.test."]).secure("mx.test", A, &["127.0.0.1"]);
        lab.tlsa(&[&lab.server.tlsa()]);
        lab
    }

    /// Unsigned zones.
    pub(super) fn unsigned(behaviour: Behaviour) -> Self {
        let lab = Self::new(behaviour);
        lab.resolver.insecure("example.test", MX, &["10 mx.test."]).insecure("mx.test", A, &["127.0.0.1"]);
        lab
    }

    /// A relay host whose certificate the client trusts, and a login there.
    pub(super) fn relay(behaviour: Behaviour, tls: RelayTls) -> Self {
        let mut lab = Self::new(Behaviour { implicit: tls == RelayTls::Implicit, ..behaviour });
        lab.resolver.secure("relay.test", A, &["127.0.0.1"]);
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), format!("{SECRET}\n")).unwrap();
        let auth = RelayAuth { username: "user".into(), secret_file: secret.path().to_owned() };
        let port = lab.server.port();
        lab.job.route =
            Route::Relay(Arc::new(RelayHost { host: "relay.test".into(), port, tls, auth: Some(auth) }));
        lab.secret = Some(secret);
        let mut roots = RootCertStore::empty();
        roots.add(lab.server.certificate.clone()).unwrap();
        lab.client = Client::with_roots(roots);
        lab
    }

    fn new(behaviour: Behaviour) -> Self {
        let server = Server::start(behaviour);
        let options = Options {
            host_name: "client.test".into(),
            port: server.port(),
            ipv6: false,
            allow_loopback: true,
            ..Options::default()
        };
        let job = Job {
            queue_id: "Q1".into(),
            destination: "example.test".into(),
            route: Route::Mx { next_hop: Host::Domain(Domain::parse("example.test").unwrap()) },
            reverse_path: ReversePath::parse("<s@sender.test>").unwrap(),
            parameters: MailParameters::default(),
            size_bytes: CONTENT.len() as u64,
            recipients: vec![Recipient::new(Mailbox::parse("a@example.test").unwrap())],
            content: Arc::new(Bytes(CONTENT.to_vec())),
            accepted_at_unix: 0,
        };
        // Trust nobody, and read no file of this system, unless a test says so.
        let client = Client::with_roots(RootCertStore::empty());
        Self {
            server,
            resolver: FakeResolver::new(),
            options,
            job,
            pool: Pool::default(),
            client,
            memory: DaneMemory::default(),
            secret: None,
        }
    }

    pub(super) fn owner(&self) -> String {
        let host = if self.job.relay().is_some() { "relay.test" } else { "mx.test" };
        format!("_{}._tcp.{host}", self.server.port())
    }

    pub(super) fn tlsa(&self, records: &[&str]) {
        self.resolver.secure(&self.owner(), TLSA, records);
    }

    pub(super) fn job_to(&mut self, domain: &str) {
        self.job.route = Route::Mx { next_hop: Host::Domain(Domain::parse(domain).unwrap()) };
        self.job.destination = domain.to_owned();
    }

    pub(super) fn recipients(&mut self, recipients: &[&str]) {
        self.job.recipients =
            recipients.iter().map(|text| Recipient::new(Mailbox::parse(text).unwrap())).collect();
    }

    pub(super) fn content(&mut self, content: Vec<u8>) {
        self.job.size_bytes = content.len() as u64;
        self.job.content = Arc::new(Bytes(content));
    }

    pub(super) fn broken_content(&mut self) {
        self.job.content = Arc::new(Broken);
    }

    /// The client trusts another authority than the one the server has.
    pub(super) fn distrust(&mut self) {
        let other = rcgen::generate_simple_self_signed(["relay.test".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(other.cert.der().clone()).unwrap();
        self.client = Client::with_roots(roots);
    }

    pub(super) fn change_secret(&self, secret: &str) {
        std::fs::write(self.secret.as_ref().unwrap().path(), secret).unwrap();
    }

    pub(super) fn lose_secret(&mut self) {
        self.secret = None;
    }

    pub(super) fn no_login(&mut self) {
        if let Route::Relay(relay) = &self.job.route {
            self.job.route = Route::Relay(Arc::new(RelayHost { auth: None, ..(**relay).clone() }));
        }
    }

    /// Waits are short: for servers that keep silent.
    pub(super) fn hurry(&mut self) {
        let short = Duration::from_secs(1);
        let limits = &mut self.options.smtp;
        for limit in [&mut limits.greeting, &mut limits.data_start, &mut limits.data_end] {
            *limit = short;
        }
    }

    pub(super) fn run(&self) -> AttemptReport {
        smol::block_on(attempt(&self.context(), &self.job))
    }

    pub(super) fn context(&self) -> Context {
        Context {
            resolver: Arc::new(self.resolver.clone()),
            options: Arc::new(self.options.clone()),
            tls: Arc::new(self.client.clone()),
            sts: None,
            pool: self.pool.clone(),
            providers: Arc::default(),
            dane_memory: self.memory.clone(),
        }
    }
}

struct Bytes(Vec<u8>);

impl ContentSource for Bytes {
    fn open(&self) -> io::Result<Box<dyn io::Read + Send>> {
        Ok(Box::new(Cursor::new(self.0.clone())))
    }
}

/// Breaks after the first part.
struct Broken;

impl ContentSource for Broken {
    fn open(&self) -> io::Result<Box<dyn io::Read + Send>> {
        Ok(Box::new(io::Read::chain(io::repeat(b'x').take_bytes(70_000), Fails)))
    }
}

struct Fails;

impl io::Read for Fails {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("disk on fire"))
    }
}

trait TakeBytes: io::Read + Sized {
    fn take_bytes(self, count: u64) -> io::Take<Self> {
        io::Read::take(self, count)
    }
}

impl<R: io::Read> TakeBytes for R {}

/// Verdict and status of each recipient.
pub(super) fn seen(report: &AttemptReport) -> Vec<(Verdict, String)> {
    let outcomes = report.outcomes.iter();
    outcomes.map(|outcome| (outcome.outcome.verdict, outcome.outcome.status.to_string())).collect()
}

/// Not an address, not a byte of content.
#[track_caller]
pub(super) fn assert_nothing_of_the_message(server: &Server) {
    let log = server.log();
    for part in ["MAIL", "RCPT", "DATA", "s@sender.test", "@example.test", "marker-of-the-message", SECRET] {
        assert!(!log.contains(part), "{part} reached the server: {log}");
    }
    let coded = BASE64.encode(format!("\0user\0{SECRET}"));
    assert!(!log.contains(&coded) && server.received().is_empty());
}
