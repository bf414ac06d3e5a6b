//! Delivery by LMTP (RFC 2033) to a mail store such as Dovecot, over a Unix socket or TCP. Blocking.
//!
//! One transaction for all recipients of a message behind one socket, and a verdict for each of them after the end of data.
//! The session is that of mail out (`mta_smtp::client`), told to speak LMTP. Nothing is encrypted: the other end is this host or
//! a network of our own. This is final delivery, so what SMTP demands of the way (REQUIRETLS) ends here.
//!
//! What it does not: it keeps no session for the next message.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mta_smtp::address::ReversePath;
use mta_smtp::client::{
    Decided, EightBit, Failure, Input, Limits, Output, Protocol, Session, Settings, TlsUse, Transaction,
    TransactionReport,
};
use mta_smtp::envelope::{MailParameters, Recipient};
use mta_smtp::reply::{EnhancedStatus, Reply, ReplyClass};

use super::socket::{self, PATIENCE};
use crate::config::LmtpAddress;
use crate::outbound::outcome::{of_failure, of_transaction};
use crate::outbound::{ContentSource, Outcome, Reach, Verdict};

/// What is read of the content at once, octets.
const CHUNK: usize = 32 * 1024;

/// No connection (RFC 3463 3.5: no answer from host).
pub(super) const AWAY: EnhancedStatus = EnhancedStatus::new(4, 4, 1);

/// What is delivered.
pub struct Message<'a> {
    /// The reverse-path.
    pub reverse_path: &'a ReversePath,
    /// The parameters of MAIL as they came in.
    pub parameters: &'a MailParameters,
    /// The size of the content in octets.
    pub size_bytes: u64,
    /// The content.
    pub content: &'a dyn ContentSource,
}

/// Delivers to these recipients; an outcome for each, in their order. Never fails: what went wrong is in the outcomes.
pub fn deliver(
    address: &LmtpAddress,
    host_name: &str,
    limits: Limits,
    message: &Message<'_>,
    recipients: &[Recipient],
) -> Vec<Outcome> {
    let all = |outcome: Outcome| vec![outcome; recipients.len()];
    let stream = match connect(address, limits.command) {
        Ok(stream) => stream,
        Err(error) => {
            let text = format!("no connection to {address} by LMTP: {error}");
            // A mail store of our own that is down: it ends no message.
            return all(Outcome::deferred(Reach::Site, (AWAY.subject, AWAY.detail), text));
        }
    };
    let settings = Settings {
        protocol: Protocol::Lmtp,
        host_name: host_name.to_owned(),
        tls: TlsUse::Never,
        credentials: None,
        eight_bit: EightBit::Send,
        limits,
    };
    let wide = recipients.iter().any(|recipient| !recipient.mailbox.is_ascii())
        || message.reverse_path.mailbox().is_some_and(|mailbox| !mailbox.is_ascii());
    let transaction = Transaction {
        reverse_path: message.reverse_path.clone(),
        // Octets beyond ASCII in a header are stored as they are; only addresses have to be understood.
        parameters: MailParameters { require_tls: false, smtputf8: wide, ..message.parameters.clone() },
        recipients: recipients.to_vec(),
        size_bytes: message.size_bytes,
        envelope_only: false,
    };
    let mut dialog = Dialog { session: Session::new(settings, Instant::now()), stream, content: None };
    match dialog.run(transaction, message.content) {
        Ok(report) => outcomes(address, &report, recipients.len()),
        Err(failure) => all(of_failure(&failure, true)),
    }
}

/// A stream of either kind.
trait Stream: Read + Write {
    fn timeouts(&self, time: Duration) -> io::Result<()>;
}

impl Stream for UnixStream {
    fn timeouts(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time)).and_then(|()| self.set_write_timeout(Some(time)))
    }
}

impl Stream for TcpStream {
    fn timeouts(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time)).and_then(|()| self.set_write_timeout(Some(time)))
    }
}

fn connect(address: &LmtpAddress, time: Duration) -> io::Result<Box<dyn Stream>> {
    match address {
        LmtpAddress::Unix(path) => Ok(Box::new(socket::connect(path, PATIENCE)?)),
        LmtpAddress::Tcp { host, port } => {
            let mut last = io::Error::from(io::ErrorKind::NotFound);
            for address in (host.as_str(), *port).to_socket_addrs()? {
                match TcpStream::connect_timeout(&address, time) {
                    Ok(stream) => return Ok(Box::new(stream)),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

/// One session over its stream.
struct Dialog {
    session: Session,
    stream: Box<dyn Stream>,
    content: Option<Box<dyn Read + Send>>,
}

impl Dialog {
    fn run(
        &mut self,
        transaction: Transaction,
        content: &dyn ContentSource,
    ) -> Result<TransactionReport, Failure> {
        let mut transaction = Some(Box::new(transaction));
        let mut done = None;
        loop {
            match self.session.poll() {
                Output::Send { bytes, until } => {
                    let sent = self.times(until).and_then(|()| self.stream.write_all(&bytes));
                    if sent.is_err() {
                        self.session.handle(Instant::now(), Input::WriteFailed);
                    }
                }
                Output::Replied { .. } | Output::StartTls => {}
                Output::Ready => {
                    let input = transaction.take().map_or(Input::Quit, Input::Transaction);
                    self.session.handle(Instant::now(), input);
                }
                Output::NeedContent => self.give_content(content),
                Output::Done(report) => {
                    // What the server is told now changes nothing any more.
                    if done.is_none() {
                        done = Some(*report);
                    }
                }
                Output::Failed(failure) => return done.ok_or(failure),
                Output::Wait { until } => self.read(until),
                Output::Close => {
                    let closed =
                        || Failure { step: self.session.step(), cause: mta_smtp::client::Cause::Closed };
                    return done.ok_or_else(closed);
                }
            }
        }
    }

    /// The time until then, for reads and writes; never nothing, which would mean for ever.
    fn times(&self, until: Instant) -> io::Result<()> {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.timeouts(left)
    }

    fn read(&mut self, until: Instant) {
        let mut buffer = [0; 4096];
        let read = self.times(until).and_then(|()| self.stream.read(&mut buffer));
        let now = Instant::now();
        match read {
            Ok(0) => self.session.handle(now, Input::Eof),
            Ok(count) => self.session.handle(now, Input::Bytes(buffer.get(..count).unwrap_or_default())),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                ) =>
            {
                self.session.handle(now, Input::Tick);
            }
            Err(_) => self.session.handle(now, Input::Eof),
        }
    }

    fn give_content(&mut self, source: &dyn ContentSource) {
        let mut buffer = vec![0; CHUNK];
        let count = match &mut self.content {
            Some(content) => read_some(&mut **content, &mut buffer),
            None => source.open().and_then(|mut content| {
                let count = read_some(&mut *content, &mut buffer);
                self.content = Some(content);
                count
            }),
        };
        let input = match count {
            Ok(count) => Input::Content { bytes: buffer.get(..count).unwrap_or_default(), last: count == 0 },
            Err(_) => Input::ContentFailed,
        };
        self.session.handle(Instant::now(), input);
    }
}

fn read_some(content: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match content.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// What the report means for each recipient.
fn outcomes(address: &LmtpAddress, report: &TransactionReport, count: usize) -> Vec<Outcome> {
    let nothing = None;
    (0..count)
        .map(|index| {
            let rcpt = report.recipients.get(index).unwrap_or(&nothing).as_ref();
            match (rcpt, report.verdicts.get(index).unwrap_or(&nothing)) {
                // RFC 2033 4.2: this recipient's own verdict, whatever became of the session afterwards.
                (_, Some(verdict)) => of_reply("end of data", verdict, address),
                // A mail store means by 552 what it says: this mailbox is full (RFC 3463 3.3).
                (Some(reply), None) if !reply.is_positive() => of_reply("RCPT", reply, address),
                (rcpt, None) if !matches!(report.decided, Decided::Accepted(_)) => {
                    of_transaction(&report.decided, rcpt)
                }
                _ => Outcome::deferred(Reach::Session, (5, 0), "the LMTP server gave no verdict"),
            }
        })
        .map(|outcome| Outcome { reach: Reach::Recipient, ..outcome })
        .collect()
}

fn of_reply(step: &str, reply: &Reply, address: &LmtpAddress) -> Outcome {
    let verdict = match reply.class() {
        ReplyClass::PositiveCompletion => Verdict::Delivered,
        ReplyClass::PermanentNegative => Verdict::Failed,
        _ => Verdict::Deferred,
    };
    let outcome = Outcome::replied(verdict, Reach::Recipient, step, reply);
    match verdict {
        // This is the end of the way; nobody further on reports.
        Verdict::Delivered => {
            Outcome { text: format!("delivered by LMTP to {address}"), reply: None, ..outcome }
        }
        _ => outcome,
    }
}
