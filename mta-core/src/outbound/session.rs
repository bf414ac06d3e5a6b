//! Drives one `mta_smtp::client` session over a stream: one loop that does what the machine says.
//!
//! A write has its own deadline, after which the connection is dropped; only a plain read is raced against a timer; content
//! is read on a thread that may block. What it does not: it decides nothing; TLS and what follows a transaction are the
//! caller's (`attempt`).

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use futures_rustls::client::TlsStream;
use mta_smtp::client::{Failure, Input, Output, Session, Settings, Step, Transaction, TransactionReport};
use mta_smtp::reply::Reply;
use smol::net::TcpStream;

use super::ContentSource;

/// Content is read and sent in parts of this size, in octets.
const CHUNK_BYTES: usize = 128 * 1024;
/// Octets read from the server at once.
const READ_BYTES: usize = 4096;
/// After a failed write: how long what the server still said is looked for.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Replies kept for the record; a message to a thousand recipients does not fill it with a thousand lines.
const MAX_KEPT_REPLIES: usize = 24;

/// A connection, in the clear or inside TLS.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Given away for a handshake.
    Gone,
}

impl Stream {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer).await,
            Self::Tls(stream) => stream.read(buffer).await,
            Self::Gone => Ok(0),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// What the caller must see to.
pub(super) enum Event {
    /// Do the handshake on the stream that `take_plain` gives.
    StartTls,
    /// Nothing is under way.
    Ready,
    /// A transaction is over.
    Done(TransactionReport),
    /// The session failed outside any transaction.
    Failed(Failure),
    /// The connection is of no more use.
    Closed,
}

/// What a connection is for at a time.
pub(super) struct Message {
    pub(super) content: Arc<dyn ContentSource>,
    pub(super) size_bytes: u64,
    /// When all is over, save for the verdict on content that was sent whole.
    pub(super) until: Instant,
}

/// A reply for the record.
pub(super) struct Said {
    pub(super) step: Step,
    pub(super) reply: Reply,
    pub(super) at: Instant,
}

/// One connection with its session.
pub(super) struct Connection {
    session: Session,
    stream: Stream,
    content: Content,
    said: Vec<Said>,
}

impl Connection {
    /// A connection that was just opened, for one message.
    pub(super) fn new(stream: Stream, settings: Settings, message: &Message) -> Self {
        let mut session = Session::new(settings, Instant::now());
        session.end_at(message.until);
        Self { session, stream, content: Content::of(message), said: Vec::new() }
    }

    /// Takes another message; nothing of the one before is left.
    pub(super) fn renew(&mut self, message: &Message) {
        self.session.renew();
        self.session.end_at(message.until);
        self.content = Content::of(message);
        self.said.clear();
    }

    /// Lets go of the message.
    pub(super) fn rest(&mut self) {
        self.content = Content::default();
        self.said = Vec::new();
    }

    /// Whether the server has kept silent and is still there, as far as is known at this moment. A read that has nothing
    /// yet is dropped, which loses nothing.
    pub(super) async fn is_quiet(&mut self) -> bool {
        let mut buffer = [0; 1];
        futures_lite::future::poll_once(self.stream.read(&mut buffer)).await.is_none()
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// The replies since this was last asked.
    pub(super) fn take_said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }

    /// The stream for a handshake. What was read from it before was seen by the session, which tolerates no remainder.
    pub(super) fn take_plain(&mut self) -> Option<TcpStream> {
        match std::mem::replace(&mut self.stream, Stream::Gone) {
            Stream::Plain(stream) => Some(stream),
            Stream::Tls(_) | Stream::Gone => None,
        }
    }

    pub(super) fn tls_started(&mut self, stream: Box<TlsStream<TcpStream>>, verified: bool) {
        self.stream = Stream::Tls(stream);
        self.session.handle(Instant::now(), Input::TlsStarted { verified });
    }

    /// Begins a transaction; `next` says how it ends.
    pub(super) fn begin(&mut self, transaction: Transaction) {
        self.session.handle(Instant::now(), Input::Transaction(Box::new(transaction)));
    }

    /// Says goodbye where that is still possible. Nobody waits for it: what was delivered is delivered.
    pub(super) fn quit(self) {
        smol::spawn(self.goodbye()).detach();
    }

    /// The same, waited for.
    pub(super) async fn goodbye(mut self) {
        self.session.handle(Instant::now(), Input::Quit);
        while !matches!(self.next().await, Event::Closed) {}
    }

    /// Says goodbye where the system takes it at once, and is gone.
    pub(super) fn leave(mut self) {
        self.session.handle(Instant::now(), Input::Quit);
        if let Output::Send { bytes, .. } = self.session.poll() {
            let write = std::pin::pin!(self.stream.write(&bytes));
            let _ = write.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        }
    }

    /// Does what the session says until the caller is needed.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            match self.session.poll() {
                Output::Send { bytes, until } => self.send(&bytes, until).await,
                Output::Replied { step, reply } => self.keep(step, reply),
                Output::NeedContent => self.send_content().await,
                Output::Wait { until } => self.receive(until).await,
                Output::StartTls => return Event::StartTls,
                Output::Ready => return Event::Ready,
                Output::Done(report) => return Event::Done(*report),
                Output::Failed(failure) => return Event::Failed(failure),
                Output::Close => return Event::Closed,
            }
        }
    }

    fn keep(&mut self, step: Step, reply: Reply) {
        // Of the recipients the refusals matter.
        let dull = matches!(step, Step::Rcpt(_)) && reply.is_positive();
        if !dull && self.said.len() < MAX_KEPT_REPLIES {
            self.said.push(Said { step, reply, at: Instant::now() });
        }
    }

    async fn send(&mut self, bytes: &[u8], until: Instant) {
        let late = async {
            smol::Timer::at(until).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        // If the timer wins, part of the bytes may be out: the session ends, and the connection with it.
        if futures_lite::future::or(self.stream.write(bytes), late).await.is_err() {
            self.last_words().await;
            self.session.handle(Instant::now(), Input::WriteFailed);
        }
    }

    /// A server that refuses in the middle says why before it closes.
    async fn last_words(&mut self) {
        let until = Instant::now() + LAST_WORDS;
        let mut buffer = [0; READ_BYTES];
        if let Ok(count @ 1..) = read_until(&mut self.stream, &mut buffer, until).await
            && let Some(bytes) = buffer.get(..count)
        {
            self.session.handle(Instant::now(), Input::Bytes(bytes));
        }
    }

    async fn receive(&mut self, until: Instant) {
        let mut buffer = [0; READ_BYTES];
        let input = match read_until(&mut self.stream, &mut buffer, until).await {
            Ok(0) => Input::Eof,
            Ok(count) => buffer.get(..count).map_or(Input::Eof, Input::Bytes),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Input::Tick,
            Err(_) => Input::Eof,
        };
        self.session.handle(Instant::now(), input);
    }

    async fn send_content(&mut self) {
        if self.heard_early().await {
            return;
        }
        match self.content.next().await {
            Ok((bytes, last)) => {
                self.session.handle(Instant::now(), Input::Content { bytes: &bytes, last });
            }
            Err(error) => {
                log::error!("{}", crate::log::Line::new("content-unreadable").with("error", error));
                self.session.handle(Instant::now(), Input::ContentFailed);
            }
        }
    }

    /// Whether something came before the end of data: a server that refuses early, or went away, is heard before the
    /// next part is sent. A read that has nothing yet is dropped, which loses nothing.
    async fn heard_early(&mut self) -> bool {
        let mut buffer = [0; READ_BYTES];
        let Some(read) = futures_lite::future::poll_once(self.stream.read(&mut buffer)).await else {
            return false;
        };
        let input = match read {
            Ok(count @ 1..) => buffer.get(..count).map_or(Input::Eof, Input::Bytes),
            Ok(0) | Err(_) => Input::Eof,
        };
        self.session.handle(Instant::now(), input);
        true
    }
}

/// A read that ends at a time, with `TimedOut`. A timeout of the system's own is none of ours, it ends the connection.
async fn read_until(stream: &mut Stream, buffer: &mut [u8], until: Instant) -> io::Result<usize> {
    let read = async {
        stream.read(buffer).await.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => io::ErrorKind::ConnectionAborted.into(),
            _ => error,
        })
    };
    let late = async {
        smol::Timer::at(until).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    futures_lite::future::or(read, late).await
}

/// The content of the message, opened when a server is ready for it. While one part is sent the next is read.
#[derive(Default)]
struct Content {
    /// None between two messages.
    source: Option<Arc<dyn ContentSource>>,
    /// Octets that are still expected; only a hint for the size of buffers.
    size_bytes: u64,
    ahead: Option<smol::Task<io::Result<Part>>>,
}

/// A part that was read, and what the next is read from.
struct Part {
    bytes: Vec<u8>,
    reader: Box<dyn io::Read + Send>,
}

impl Content {
    fn of(message: &Message) -> Self {
        let (source, size_bytes) = (Some(Arc::clone(&message.content)), message.size_bytes);
        Self { source, size_bytes, ahead: None }
    }

    /// The next part, and whether it is the last.
    async fn next(&mut self) -> io::Result<(Vec<u8>, bool)> {
        let part = match (self.ahead.take(), &self.source) {
            (Some(ahead), _) => ahead,
            (None, Some(source)) => {
                let source = Arc::clone(source);
                read_part(self.size_bytes, move || source.open())
            }
            (None, None) => return Err(io::Error::other("no message is in hand")),
        };
        let Part { bytes, reader } = part.await?;
        let last = bytes.len() < CHUNK_BYTES;
        self.size_bytes = self.size_bytes.saturating_sub(bytes.len() as u64);
        self.ahead = (!last).then(|| read_part(self.size_bytes, move || Ok(reader)));
        Ok((bytes, last))
    }
}

/// Begins to read a part on a thread that may block.
fn read_part(
    expected_bytes: u64,
    open: impl FnOnce() -> io::Result<Box<dyn io::Read + Send>> + Send + 'static,
) -> smol::Task<io::Result<Part>> {
    smol::unblock(move || {
        let mut reader = open()?;
        // One more than expected, so that the end is seen without another buffer.
        let expected = usize::try_from(expected_bytes).unwrap_or(CHUNK_BYTES).saturating_add(1);
        let mut bytes = Vec::with_capacity(expected.min(CHUNK_BYTES));
        io::Read::read_to_end(&mut io::Read::take(&mut reader, CHUNK_BYTES as u64), &mut bytes)?;
        Ok(Part { bytes, reader })
    })
}
