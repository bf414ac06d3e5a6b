//! The driver of one session: reads, writes, asks, and does what the session says.
//!
//! What it does: one loop over `Session::poll`. What it does not: no protocol and no policy. Only the plain read is
//! raced against the clock and the wish to stop; writes carry their own deadline; the queue's commit is never raced.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_io::Timer;
use futures_lite::future::{or, poll_once};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use futures_rustls::TlsAcceptor;
use mta_queue::{Presence, Queue};
use mta_smtp::address::{ForwardPath, ReversePath};
use mta_smtp::envelope::{Envelope, HeaderFacts};
use mta_smtp::reply::Reply;
use mta_smtp::server::{Input, Output, Question, Session, TlsInfo, Verdict};

use crate::inbound::local::LocalRates;
use crate::inbound::receive::{Failure, Receiving, Source, refusal};
use crate::inbound::{Service, Settings, Submission, login};
use crate::log::Line;
use crate::net::{Stream, within, write_all};
use crate::pause;
use crate::stop::Stop;
use crate::tls::client_certificate::ClientCertificate;

/// What is read in one piece while commands come.
const COMMAND_BUFFER_OCTETS: usize = 2 * 1024;

/// What is read in one piece while content comes; given back afterwards.
const CONTENT_BUFFER_OCTETS: usize = 16 * 1024;

/// After the last reply we read on for so long, so that the client reads it before the system resets the connection.
const LINGER: Duration = Duration::from_secs(2);

/// The same when the server stops: our 421 comes unasked, so there is hardly anything to read.
const LINGER_STOPPING: Duration = Duration::from_millis(200);

/// And for so many octets.
const LINGER_OCTETS: usize = 64 * 1024;

/// How many recipients a log line names.
const LOGGED_RECIPIENTS: usize = 5;

/// One connection and its session.
pub(super) struct Driver {
    /// Absent only while the TLS handshake has it.
    stream: Option<Stream>,
    pub(super) session: Session,
    pub(super) settings: Arc<Settings>,
    queue: Queue,
    pub(super) source: Source,
    /// The service for users.
    pub(super) submission: Option<Arc<Submission>>,
    /// TLS is still to begin, before anything is said.
    /// What programs here hand in.
    pub(super) local_rates: LocalRates,
    implicit_tls: bool,
    /// The certificate that the client has shown.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// Recipients of the message at hand.
    pub(super) recipients: u64,
    /// Its size as the client has announced it (RFC 1870), 0 where it has not.
    pub(super) announced_octets: u64,
    stop: Stop,
    /// The time that open sessions have to end after `stop` is over.
    cut_off: Stop,
    /// The session knows that we want to stop.
    stopping: bool,
    buffer: Vec<u8>,
    /// Who is told of failures, in the transaction that is open; for the log.
    reverse_path: Option<ReversePath>,
    /// Boxed: only while a message comes is there anything to keep.
    pub(super) receiving: Option<Box<Receiving>>,
    /// Tells the queue when a message may be near.
    presence: Presence,
    /// When this is over.
    finished: bool,
}

/// What a wait ended with.
enum Event {
    Read(io::Result<usize>),
    Time,
    Stop,
    CutOff,
}

impl Driver {
    pub(super) fn new(
        stream: Stream,
        source: Source,
        settings: Arc<Settings>,
        queue: Queue,
        (stop, cut_off): (Stop, Stop),
    ) -> Self {
        let (offer, tls) = match (&source.local, source.trusted) {
            (Some(_), _) => (&settings.local_session, Some(local_socket())),
            (None, true) => (&settings.session, None),
            (None, false) => (&settings.stranger_session, None),
        };
        Self {
            stream: Some(stream),
            session: Session::new(Instant::now(), Arc::clone(offer), tls),
            settings,
            presence: queue.presence(),
            queue,
            source,
            submission: None,
            local_rates: LocalRates::default(),
            implicit_tls: false,
            certificate: None,
            recipients: 0,
            announced_octets: 0,
            stop,
            cut_off,
            stopping: false,
            buffer: Vec::new(),
            reverse_path: None,
            receiving: None,
            finished: false,
        }
    }

    /// The same, where the messages of a program's user are counted.
    pub(super) fn counting(mut self, rates: LocalRates) -> Self {
        self.local_rates = rates;
        self
    }

    /// The same for another service than the relay's.
    pub(super) fn serving(mut self, service: Service) -> Self {
        if service == Service::Relay {
            return self;
        }
        // On the service for users nobody is trusted for where he is.
        self.source.trusted = false;
        self.submission.clone_from(&self.settings.submission);
        let offer = match &self.submission {
            Some(submission) => submission.session(self.source.client),
            None => &self.settings.stranger_session,
        };
        self.session = Session::new(Instant::now(), Arc::clone(offer), None);
        self.implicit_tls = service == Service::SubmissionTls;
        self
    }

    /// Serves the client to the end of the session.
    ///
    /// # Errors
    /// What ended the connection early.
    pub(super) async fn run(mut self) -> io::Result<()> {
        if self.implicit_tls {
            Box::pin(self.begin_within_tls()).await?;
        }
        while !self.finished {
            match self.session.poll() {
                Output::Send(bytes) => self.send(&bytes).await?,
                Output::Ask(question) => {
                    let verdict = self.decide(question).await?;
                    self.session.handle(Instant::now(), Input::Verdict(verdict));
                }
                // Boxed: what happens rarely or briefly does not make every idle task larger.
                Output::StartTls => Box::pin(self.start_tls()).await?,
                Output::Content(bytes) => {
                    if let Some(receiving) = self.receiving.take() {
                        self.receiving = Some(Box::pin(receiving.write(bytes)).await);
                    }
                }
                Output::ContentDropped => self.receiving = None,
                Output::ContentRefused(reply) => {
                    let refused = self.receiving.take();
                    self.log_message("rejected", refused.as_deref(), None, &reply);
                }
                Output::Refused(reply) => self.log_refusal(&reply),
                Output::Close => Box::pin(self.close()).await,
                Output::Wait { until } => self.wait(until).await?,
            }
        }
        Ok(())
    }

    fn stream(&mut self) -> io::Result<&mut Stream> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let time = self.settings.options.write_timeout;
        write_all(self.stream()?, bytes, time).await
    }

    /// Waits for input, the deadline or the wish to stop, and tells the session.
    async fn wait(&mut self, until: Instant) -> io::Result<()> {
        let event = self.event(until).await;
        let now = Instant::now();
        match event {
            Event::Read(Ok(octets)) if octets > 0 => {
                if self.receiving.as_ref().is_some_and(|receiving| receiving.is_large()) {
                    self.presence.rest();
                } else {
                    self.presence.heard();
                }
                let bytes = self.buffer.get(..octets).unwrap_or_default();
                self.session.handle(now, Input::Bytes(bytes));
            }
            Event::Read(_) => self.session.handle(now, Input::Eof),
            Event::Time => self.session.handle(now, Input::Tick),
            Event::Stop => {
                self.stopping = true;
                self.session.handle(now, Input::Shutdown);
            }
            Event::CutOff => Box::pin(self.cut_short()).await?,
        }
        Ok(())
    }

    /// The client was too slow for the time we have to stop in. It hears that it keeps the message.
    async fn cut_short(&mut self) -> io::Result<()> {
        let reply = Reply::with_status(421, (4, 3, 2), "service is stopping");
        let refused = self.receiving.take();
        self.log_message("rejected", refused.as_deref(), None, &reply);
        self.send(&reply.to_bytes()).await?;
        self.close().await;
        Ok(())
    }

    async fn event(&mut self, until: Instant) -> Event {
        self.size_buffer();
        let Some(stream) = self.stream.as_mut() else {
            return Event::Read(Ok(0));
        };
        let read = async { Event::Read(stream.read(&mut self.buffer).await) };
        let time = async {
            Timer::at(until).await;
            Event::Time
        };
        if self.stopping {
            let cut_off = async {
                self.cut_off.wait().await;
                Event::CutOff
            };
            return or(cut_off, or(read, time)).await;
        }
        let stop = async {
            self.stop.wait().await;
            Event::Stop
        };
        or(stop, or(read, time)).await
    }

    /// A small buffer for commands, a larger one for content.
    fn size_buffer(&mut self) {
        let wanted =
            if self.session.is_taking_content() { CONTENT_BUFFER_OCTETS } else { COMMAND_BUFFER_OCTETS };
        if self.buffer.len() != wanted {
            self.buffer = vec![0; wanted];
        }
    }

    /// Answers the session's question.
    async fn decide(&mut self, question: Question) -> io::Result<Verdict> {
        Ok(match question {
            // RFC 5321 3.8: the client keeps its mail and comes again.
            Question::Connect if self.is_paused() => Verdict::Close(self.paused(421)),
            Question::Connect => match self.blocked() {
                Some(reply) => Verdict::Close(reply),
                None => {
                    self.hear_early_talker().await;
                    Verdict::Accept
                }
            },
            Question::Helo { .. } => Verdict::Accept,
            Question::Auth(query) => Box::pin(self.authenticate(query)).await,
            Question::Mail { reverse_path, .. } if self.is_paused() => {
                self.reverse_path = Some(reverse_path);
                Verdict::Reply(self.paused(451))
            }
            Question::Mail { reverse_path, parameters } => {
                self.recipients = 0;
                self.announced_octets = parameters.size_bytes.unwrap_or_default();
                let refusal = Box::pin(self.sender_refusal(&reverse_path)).await;
                self.reverse_path = Some(reverse_path);
                match refusal {
                    Some(reply) => {
                        ::log::info!("{}", self.line("mail-refused", &reply));
                        Verdict::Reply(reply)
                    }
                    None => self.check_space(parameters.size_bytes.unwrap_or_default()),
                }
            }
            Question::Rcpt { path, .. } => match Box::pin(self.recipient(&path)).await {
                None => {
                    self.recipients += 1;
                    Verdict::Accept
                }
                Some(reply) => {
                    ::log::info!("{}", self.line("recipient-refused", &reply).with("rcpt", &path));
                    Verdict::Reply(reply)
                }
            },
            Question::Data { mut envelope } => {
                if let Some(rewrite) = &self.settings.options.sender_rewrite
                    && self.source.trusted
                {
                    envelope.reverse_path = rewrite.apply(envelope.reverse_path);
                }
                self.settings.unwrap_senders(&mut envelope);
                let receiving =
                    Receiving::begin(&self.queue, envelope, &self.session, &self.source, &self.settings);
                self.receiving = Some(Box::new(receiving));
                Verdict::Accept
            }
            Question::ContentEnd { size_octets, header } => Box::pin(self.commit(size_octets, header)).await,
        })
    }

    /// Whether a recipient is a rewritten sender of ours, and if so the refusal, if it is refused.
    pub(super) fn returned(&self, path: &ForwardPath) -> Option<Option<Reply>> {
        let null = self.reverse_path.as_ref().is_some_and(ReversePath::is_null);
        self.settings.returned(path, null)
    }

    /// What a client sends before the greeting goes to the session, which then refuses it.
    async fn hear_early_talker(&mut self) {
        let time = if self.source.trusted { Duration::ZERO } else { self.settings.options.greeting_wait };
        self.size_buffer();
        let Some(stream) = self.stream.as_mut() else {
            return;
        };
        let read = stream.read(&mut self.buffer);
        let heard =
            if time.is_zero() { poll_once(read).await } else { within(time, read).await.ok().map(Ok) };
        if let Some(Ok(octets)) = heard
            && let Some(bytes) = self.buffer.get(..octets)
            && !bytes.is_empty()
        {
            self.session.handle(Instant::now(), Input::Bytes(bytes));
        }
    }

    /// Whether the administrator wants no mail now. Messages that have begun are taken.
    fn is_paused(&self) -> bool {
        self.settings.options.pauses.is_paused(pause::IN, SystemTime::now())
    }

    fn paused(&self, code: u16) -> Reply {
        let reply = Reply::with_status(
            code,
            (4, 3, 2),
            "mail is not taken now, by the administrator; try again later",
        );
        ::log::info!("{}", self.line("mail-refused", &reply).with("reason", "paused"));
        reply
    }

    fn check_space(&self, size_octets: u64) -> Verdict {
        match self.queue.check_space(size_octets) {
            Ok(()) => Verdict::Accept,
            Err(error) => {
                let reply = refusal(&error);
                ::log::warn!("{}", self.line("mail-refused", &reply).with("reason", error));
                Verdict::Reply(reply)
            }
        }
    }

    /// Takes responsibility for the message, or says why not. Never raced: what is committed is answered.
    async fn commit(&mut self, size_octets: u64, header: HeaderFacts) -> Verdict {
        let Some(mut receiving) = self.receiving.take() else {
            return Verdict::Reply(Reply::with_status(451, (4, 3, 0), "no message"));
        };
        self.sign_in(&mut receiving).await;
        let line = self.message_line("accepted", &receiving).with("size", size_octets);
        let received = receiving.commit(header, &mut self.presence).await;
        self.reverse_path = None;
        let line = line.with_some("auth", received.auth.as_ref());
        match &received.result {
            Ok(()) => ::log::info!("{}", line.with("status", "queued")),
            Err(Failure::Storage(error)) => {
                ::log::error!(
                    "{}",
                    line.renamed("rejected")
                        .with("status", "deferred")
                        .with("reply", &received.reply)
                        .with("reason", error)
                );
            }
            Err(Failure::Refused(reply)) => {
                ::log::info!("{}", line.renamed("rejected").with("status", "refused").with("reply", reply));
            }
        }
        Verdict::Reply(received.reply)
    }

    /// Does the handshake. A client that fails it is gone; nothing of the session before lives on.
    async fn start_tls(&mut self) -> io::Result<()> {
        if let Some(tls) = self.handshake().await? {
            self.session.handle(Instant::now(), Input::TlsStarted(tls));
        }
        Ok(())
    }

    /// TLS before anything is said (RFC 8314 3.3); the session begins within it.
    async fn begin_within_tls(&mut self) -> io::Result<()> {
        if let Some(reply) = self.blocked() {
            // Nobody is told who does not speak TLS yet: the line is in the log.
            ::log::info!("{}", self.line("refused", &reply));
            self.finished = true;
            return Ok(());
        }
        if let (Some(tls), Some(submission)) = (self.handshake().await?, &self.submission) {
            let offer = Arc::clone(submission.session(self.source.client));
            self.session = Session::new(Instant::now(), offer, Some(tls));
        }
        Ok(())
    }

    /// Does the handshake. `None` where it failed: the session is over.
    async fn handshake(&mut self) -> io::Result<Option<TlsInfo>> {
        let config = match &self.submission {
            Some(submission) => submission.tls.as_ref().map(|tls| &tls.config),
            None => self.settings.tls.as_ref(),
        };
        let (Some(Stream::Plain(stream)), Some(config)) = (self.stream.take(), config) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let acceptor = TlsAcceptor::from(Arc::clone(config));
        let time = self.settings.options.limits.tls_timeout;
        let stream = match within(time, acceptor.accept(stream)).await {
            Ok(stream) => stream,
            Err(error) => {
                let line = Line::new("tls-failed").with("client", self.source.name());
                ::log::info!("{}", line.with_some("helo", self.session.client_name()).with("reason", error));
                self.finished = true;
                return Ok(None);
            }
        };
        let mut tls = tls_info(stream.get_ref().1);
        if let Some(submission) = self.submission.as_ref().and_then(|submission| submission.tls.as_ref()) {
            tls.bindings.server_end_point = submission.identities.end_point();
            self.certificate = login::bind(stream.get_ref().1, &mut tls);
        }
        self.stream = Some(Stream::Tls(Box::new(stream)));
        Ok(Some(tls))
    }

    /// Ends the connection so that the client can read our last reply.
    async fn close(&mut self) {
        self.finished = true;
        let Some(mut stream) = self.stream.take() else {
            return;
        };
        let read_on = async {
            if let Stream::Tls(_) = stream {
                stream.close().await?; // close_notify
            }
            stream.shutdown();
            let mut left = LINGER_OCTETS;
            while left > 0 {
                match stream.read(&mut self.buffer).await? {
                    0 => break,
                    octets => left = left.saturating_sub(octets),
                }
            }
            Ok(())
        };
        // Whatever goes wrong here, the session is over.
        let time = if self.stopping { LINGER_STOPPING } else { LINGER };
        let _ = within(time, read_on).await;
    }

    /// The beginning of a log line about this session.
    pub(super) fn line(&self, event: &'static str, reply: &Reply) -> Line {
        Line::new(event)
            .with("client", self.source.name())
            .with_some("helo", self.session.client_name())
            .with_some("mailfrom", self.reverse_path.as_ref())
            .with("status", "refused")
            .with("reply", reply)
    }

    fn log_refusal(&self, reply: &Reply) {
        ::log::info!("{}", self.line("refused", reply));
    }

    fn log_message(
        &self,
        event: &'static str,
        message: Option<&Receiving>,
        size_octets: Option<u64>,
        reply: &Reply,
    ) {
        let Some(message) = message else {
            return self.log_refusal(reply);
        };
        let line = self.message_line(event, message).with_some("size", size_octets);
        ::log::info!("{}", line.with("status", "refused").with("reply", reply));
    }

    /// The beginning of a log line about a message.
    fn message_line(&self, event: &'static str, message: &Receiving) -> Line {
        let envelope = message.envelope();
        Line::new(event)
            .with("qid", message.id())
            .with("client", self.source.name())
            .with_some("helo", self.session.client_name())
            .with("mailfrom", &envelope.reverse_path)
            .with("rcpt", recipients(envelope))
            .with("nrcpt", envelope.recipients.len())
            .with_some("user", self.session.login())
            .with("tls", self.session.tls().map_or("none", |tls| tls.version.as_str()))
    }
}

/// What stands in for TLS between a program on this machine and us: nobody else can read what goes over the socket.
fn local_socket() -> TlsInfo {
    TlsInfo { version: "local".to_owned(), ..TlsInfo::default() }
}

/// The first recipients, for the log.
fn recipients(envelope: &Envelope) -> String {
    let named = envelope
        .recipients
        .iter()
        .take(LOGGED_RECIPIENTS)
        .map(|recipient| format!("<{}>", recipient.mailbox));
    let mut text = named.collect::<Vec<_>>().join(",");
    if envelope.recipients.len() > LOGGED_RECIPIENTS {
        text.push_str(",...");
    }
    text
}

/// What was agreed on, in the names of the IANA registries.
fn tls_info(connection: &rustls::ServerConnection) -> TlsInfo {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLS",
    };
    let cipher =
        connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str().map(str::to_owned));
    TlsInfo {
        version: version.to_owned(),
        // rustls marks the suites of TLS 1.3 in its own way.
        cipher: cipher.unwrap_or_default().replacen("TLS13_", "TLS_", 1),
        sni: connection.server_name().map(str::to_owned),
        ..TlsInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use async_io::Async;

    use super::*;
    use crate::account::Accounts;
    use crate::inbound::Options;
    use crate::stop::stop;
    use mta_smtp::address::Domain;

    /// The bound on an idle connection's memory: its task and its buffer. The socket and the session's few short
    /// strings come to less than 1 KiB beside it.
    const IDLE_OCTETS: usize = 6 * 1024;

    #[test]
    fn an_idle_connection_is_small() {
        let state = tempfile::tempdir().expect("a directory");
        let queue = Queue::open(state.path(), mta_queue::Options::default()).expect("a queue");
        let options = Options::new(Domain::parse("mx.example").expect("a domain"));
        let settings = Settings::new(options, Arc::new(Accounts::default()), None);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let stream = Stream::Plain(Async::new(socket).expect("non-blocking"));
        let client: std::net::IpAddr = "127.0.0.1".parse().expect("an address");
        let session =
            Driver::new(stream, Source::network(client, true), settings, queue, (stop().1, stop().1)).run();
        let octets = size_of_val(&session) + COMMAND_BUFFER_OCTETS;
        assert!(octets <= IDLE_OCTETS, "{octets} octets");
    }
}
