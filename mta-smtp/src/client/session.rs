//! The session's machine: one struct per state, the bookkeeping they share, and the dispatch between them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::transaction::{Content, EndOfData, Envelope};
use super::{
    Capabilities, Cause, Decided, Failure, Input, Output, Protocol, ReplyReader, Settings, StartTlsResult,
    Step, TlsUse, TransactionReport,
};
use crate::reply::{Reply, ReplyClass};
use crate::sasl;

/// Reply octets allowed for each recipient of a transaction, beside the session's own bound.
const REPLY_BYTES_PER_RECIPIENT: u64 = 1024;
/// Challenges answered in one login.
const MAX_AUTH_STEPS: u8 = 8;

/// One connection to one SMTP server.
#[derive(Debug)]
pub struct Session {
    shared: Shared,
    state: State,
}

/// What all states share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    /// The offer that counts now. What was offered before TLS is forgotten with the rest (RFC 3207 4.2).
    pub(super) offer: Capabilities,
    /// Whether TLS is on.
    pub(super) tls: bool,
    /// Whether a transaction stands half open.
    pub(super) needs_rset: bool,
    verified: bool,
    starttls: StartTlsResult,
    reader: ReplyReader,
    outputs: VecDeque<Output>,
    deadline: Option<Instant>,
    waiting_since: Option<Instant>,
    waited: Duration,
    reply_bytes: u64,
    reply_bytes_allowed: u64,
    /// The end of all waiting and writing, save for the verdict on a message that was sent whole.
    until: Option<Instant>,
    /// MAIL commands sent.
    pub(super) transactions: u32,
}

/// Where the session is.
#[derive(Debug)]
pub(super) enum State {
    /// Waits for the greeting.
    Greeting,
    /// Waits for the reply to EHLO.
    Ehlo,
    /// Waits for the reply to HELO.
    Helo,
    /// Waits for the reply to STARTTLS.
    StartTls,
    /// Waits for the driver's handshake.
    Handshake,
    /// Waits for the reply to AUTH or to a response.
    Auth(Auth),
    /// Waits for the driver to say what is next.
    Ready,
    /// Waits for replies to MAIL, RCPT, DATA.
    Envelope(Envelope),
    /// Waits for content from the driver.
    Content(Content),
    /// Waits for the final reply.
    EndOfData(EndOfData),
    /// Was refused in good order: QUIT is still possible.
    Refused,
    /// Waits for the reply to QUIT.
    Quit,
    /// Nothing more happens.
    Closed,
}

/// A login under way.
#[derive(Debug)]
pub(super) struct Auth {
    client: sasl::Client,
    steps: u8,
}

/// What a state makes of an event.
#[derive(Debug)]
pub(super) enum Next {
    /// Goes on in this state.
    State(State),
    /// The session failed.
    Fail(Step, Cause),
    /// The session failed within a transaction.
    Over(TransactionReport),
}

impl Session {
    /// A session on a connection that was just opened.
    pub fn new(settings: Settings, now: Instant) -> Self {
        let limits = settings.limits;
        let implicit = if let TlsUse::Implicit { verified } = settings.tls { Some(verified) } else { None };
        let starttls = if implicit.is_some() { StartTlsResult::Implicit } else { StartTlsResult::NotUsed };
        let mut shared = Shared {
            settings,
            offer: Capabilities::default(),
            tls: implicit.is_some(),
            needs_rset: false,
            verified: implicit.unwrap_or(false),
            starttls,
            reader: ReplyReader::new(limits.reply_bytes, limits.reply_lines),
            outputs: VecDeque::new(),
            deadline: None,
            waiting_since: None,
            waited: Duration::ZERO,
            reply_bytes: 0,
            reply_bytes_allowed: limits.session_reply_bytes,
            until: None,
            transactions: 0,
        };
        shared.expect(now, limits.greeting);
        Self { shared, state: State::Greeting }
    }

    /// What the server offers now.
    pub fn offer(&self) -> &Capabilities {
        &self.shared.offer
    }

    /// How STARTTLS came out so far.
    pub fn starttls(&self) -> StartTlsResult {
        self.shared.starttls
    }

    /// Whether another transaction may follow.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Whether TLS is on.
    pub fn is_encrypted(&self) -> bool {
        self.shared.tls
    }

    /// Whether TLS is on and the server's identity was proved in its handshake.
    pub fn is_verified(&self) -> bool {
        self.shared.tls && self.shared.verified
    }

    /// How many transactions were begun.
    pub fn transactions(&self) -> u32 {
        self.shared.transactions
    }

    /// Whether the server's own limit allows one more transaction (MAILMAX, RFC 9422 4.1).
    pub fn may_begin(&self) -> bool {
        self.shared.offer.mail_max.is_none_or(|max| self.shared.transactions < max)
    }

    /// Whether the session may rest until another message comes: both sides agree that nothing is under way, and not one
    /// octet came that nobody asked for.
    pub fn may_rest(&self) -> bool {
        matches!(self.state, State::Ready) && self.shared.outputs.is_empty() && self.shared.reader.is_empty()
    }

    /// The session is for another message now, with bounds of its own: what the messages before it cost in waiting and
    /// octets is forgotten.
    pub fn renew(&mut self) {
        let shared = &mut self.shared;
        (shared.waited, shared.reply_bytes) = (Duration::ZERO, 0);
        shared.reply_bytes_allowed = shared.settings.limits.session_reply_bytes;
        shared.until = None;
    }

    /// All waiting and writing is over at this time. One wait may go beyond it: that for the reply to the end of data,
    /// which has its own deadline, because to give it up early makes duplicates (RFC 5321 4.5.3.2.6).
    pub fn end_at(&mut self, until: Instant) {
        let shared = &mut self.shared;
        shared.until = Some(until);
        shared.deadline = shared.deadline.map(|deadline| deadline.min(until));
    }

    #[cfg(test)]
    pub(super) fn shared_eight_bit(&mut self, eight_bit: super::EightBit) {
        self.shared.settings.eight_bit = eight_bit;
    }

    /// What to do next; asked until it answers `Wait` or `Close`.
    pub fn poll(&mut self) -> Output {
        if let Some(output) = self.shared.outputs.pop_front() {
            return output;
        }
        match self.state {
            State::Handshake => Output::StartTls,
            State::Ready => Output::Ready,
            State::Content(_) => Output::NeedContent,
            State::Closed | State::Refused => Output::Close,
            _ => self.shared.deadline.map_or(Output::Close, |until| Output::Wait { until }),
        }
    }

    /// Takes one input. Inputs that make no sense in the present state are ignored.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Bytes(bytes) => self.bytes(now, bytes),
            Input::Eof => self.break_off(Cause::Closed),
            Input::WriteFailed => self.break_off(Cause::WriteFailed),
            Input::Tick => self.tick(now),
            Input::TlsStarted { verified } => self.tls_started(now, verified),
            Input::Transaction(transaction) => {
                if self.take_state(|state| matches!(state, State::Ready)).is_some() {
                    self.state = Envelope::begin(&mut self.shared, now, *transaction);
                }
            }
            Input::Content { bytes, last } => {
                if let Some(State::Content(content)) =
                    self.take_state(|state| matches!(state, State::Content(_)))
                {
                    self.state = content.part(&mut self.shared, now, bytes, last);
                }
            }
            Input::ContentFailed => {
                if matches!(self.state, State::Content(_)) {
                    self.break_off(Cause::ContentFailed);
                }
            }
            Input::Quit => self.quit(now),
        }
    }

    /// Takes the state out if it is the wanted one, leaving `Closed` until the next is set.
    fn take_state(&mut self, wanted: impl FnOnce(&State) -> bool) -> Option<State> {
        wanted(&self.state).then(|| std::mem::replace(&mut self.state, State::Closed))
    }

    fn bytes(&mut self, now: Instant, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.state {
                State::Closed | State::Refused => return,
                // Between the reply to STARTTLS and the handshake nothing may come: it would be taken for an answer
                // given inside TLS (CVE-2021-38371, RFC 3207 4.2).
                State::Handshake => return self.break_off(Cause::InjectedPlaintext),
                _ => {}
            }
            let before = bytes.len();
            let (reply, rest) = match self.shared.reader.read(bytes) {
                Ok(read) => read,
                Err(error) => return self.break_off(Cause::Malformed(error)),
            };
            bytes = rest;
            self.shared.reply_bytes += (before - rest.len()) as u64;
            if self.shared.reply_bytes > self.shared.reply_bytes_allowed {
                return self.break_off(Cause::TooManyReplyBytes);
            }
            if let Some(reply) = reply {
                self.replied(now, reply);
            }
        }
        self.tick(now);
    }

    fn tick(&mut self, now: Instant) {
        if self.shared.deadline.is_some_and(|deadline| now >= deadline) {
            let spent = self
                .shared
                .waiting_since
                .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            let in_all = self.shared.waited.saturating_add(spent) >= self.shared.settings.limits.total_wait;
            let over = self.shared.until.is_some_and(|until| now >= until);
            self.break_off(match self.state {
                State::EndOfData(_) => Cause::Timeout,
                _ if over => Cause::TimeIsUp,
                _ if in_all => Cause::WaitedTooLong,
                _ => Cause::Timeout,
            });
        }
    }

    fn replied(&mut self, now: Instant, reply: Reply) {
        let step = self.step();
        self.shared.stop_waiting(now);
        self.shared.outputs.push_back(Output::Replied { step, reply: reply.clone() });
        let shared = &mut self.shared;
        let next = match std::mem::replace(&mut self.state, State::Closed) {
            State::Envelope(envelope) => envelope.replied(shared, now, reply),
            State::Content(content) => content.replied(reply),
            State::EndOfData(end) => end.replied(shared, now, reply),
            State::Quit | State::Closed | State::Refused => Next::State(State::Closed),
            // Nothing was asked, so nothing can be answered; a server that goes away says so unasked.
            State::Ready | State::Handshake if reply.code != 421 => {
                Next::Fail(step, Cause::Unexpected(reply))
            }
            _ if reply.code == 421 => Next::Fail(step, Cause::ServiceClosing(reply)),
            State::Greeting => greeting(shared, now, reply),
            State::Ehlo => ehlo(shared, now, reply),
            State::Helo => helo(shared, now, reply),
            State::StartTls => starttls(shared, now, reply),
            State::Auth(auth) => auth.replied(shared, now, reply),
            State::Ready | State::Handshake => Next::Fail(step, Cause::Unexpected(reply)),
        };
        self.enter(next);
    }

    fn enter(&mut self, next: Next) {
        match next {
            Next::State(state) => {
                self.state = state;
                if matches!(self.state, State::Ready | State::Handshake | State::Content(_) | State::Closed) {
                    self.shared.deadline = None;
                }
                // The reader stands between two replies here, or plaintext was injected in pieces.
                if matches!(self.state, State::Handshake) && !self.shared.reader.is_empty() {
                    self.break_off(Cause::InjectedPlaintext);
                }
            }
            Next::Fail(step, cause) => {
                self.state = if matches!(cause, Cause::Refused(_)) { State::Refused } else { State::Closed };
                self.shared.deadline = None;
                self.shared.outputs.push_back(Output::Failed(Failure { step, cause }));
            }
            Next::Over(report) => {
                self.state = State::Closed;
                self.shared.deadline = None;
                self.shared.done(report);
            }
        }
    }

    /// The connection is of no more use.
    fn break_off(&mut self, cause: Cause) {
        let step = self.step();
        let next = match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed | State::Refused | State::Quit => Next::State(State::Closed),
            State::Envelope(envelope) => envelope.broken(step, cause),
            State::Content(content) => content.broken(cause),
            State::EndOfData(end) => end.broken(cause),
            _ => Next::Fail(step, cause),
        };
        self.enter(next);
    }

    /// The step whose reply is awaited, or that would be next.
    pub fn step(&self) -> Step {
        match &self.state {
            State::Greeting => Step::Greeting,
            State::Ehlo => Step::Ehlo,
            State::Helo => Step::Helo,
            State::StartTls | State::Handshake => Step::StartTls,
            State::Auth(_) => Step::Auth,
            State::Envelope(envelope) => envelope.step(),
            State::Content(_) => Step::Content,
            State::EndOfData(_) => Step::EndOfData,
            State::Ready => Step::Rset,
            State::Refused | State::Quit | State::Closed => Step::Quit,
        }
    }

    fn tls_started(&mut self, now: Instant, verified: bool) {
        if self.take_state(|state| matches!(state, State::Handshake)).is_none() {
            return;
        }
        let shared = &mut self.shared;
        shared.tls = true;
        shared.verified = verified;
        shared.starttls = StartTlsResult::Done;
        // Everything learned before the handshake could be forged (RFC 3207 4.2).
        shared.offer = Capabilities::default();
        self.state = send_ehlo(shared, now);
    }

    fn quit(&mut self, now: Instant) {
        if self.take_state(|state| matches!(state, State::Ready | State::Refused)).is_some() {
            self.shared.send(now, b"QUIT\r\n".to_vec(), self.shared.settings.limits.quit);
            self.shared.expect(now, self.shared.settings.limits.quit);
            self.state = State::Quit;
        }
    }
}

impl Shared {
    pub(super) fn send(&mut self, now: Instant, bytes: Vec<u8>, limit: Duration) {
        self.send_until(bytes, now + limit);
    }

    pub(super) fn send_until(&mut self, bytes: Vec<u8>, until: Instant) {
        let until = self.until.map_or(until, |end| end.min(until));
        self.outputs.push_back(Output::Send { bytes, until });
    }

    /// Begins to wait for a reply.
    pub(super) fn expect(&mut self, now: Instant, limit: Duration) {
        self.stop_waiting(now);
        let left = self.settings.limits.total_wait.saturating_sub(self.waited);
        self.waiting_since = Some(now);
        let deadline = now + limit.min(left);
        self.deadline = Some(self.until.map_or(deadline, |end| end.min(deadline)));
    }

    /// Begins to wait for the verdict on a message that was sent whole: no bound but its own counts.
    pub(super) fn expect_verdict(&mut self, now: Instant) {
        self.stop_waiting(now);
        self.waiting_since = Some(now);
        self.deadline = Some(now + self.settings.limits.data_end);
    }

    pub(super) fn stop_waiting(&mut self, now: Instant) {
        if let Some(since) = self.waiting_since.take() {
            self.waited = self.waited.saturating_add(now.saturating_duration_since(since));
        }
        self.deadline = None;
    }

    pub(super) fn allow_replies_of(&mut self, recipients: usize) {
        let more = REPLY_BYTES_PER_RECIPIENT.saturating_mul(recipients as u64);
        self.reply_bytes_allowed = self.reply_bytes_allowed.saturating_add(more);
    }

    pub(super) fn done(&mut self, report: TransactionReport) {
        if matches!(report.decided, Decided::Broken(_)) {
            self.deadline = None;
        }
        self.outputs.push_back(Output::Done(Box::new(report)));
    }
}

fn greeting(shared: &mut Shared, now: Instant, reply: Reply) -> Next {
    match reply.class() {
        ReplyClass::PositiveCompletion if reply.code == 220 => Next::State(send_ehlo(shared, now)),
        ReplyClass::TransientNegative | ReplyClass::PermanentNegative => {
            Next::Fail(Step::Greeting, Cause::Refused(reply))
        }
        _ => Next::Fail(Step::Greeting, Cause::Unexpected(reply)),
    }
}

fn send_ehlo(shared: &mut Shared, now: Instant) -> State {
    let word = match shared.settings.protocol {
        Protocol::Smtp => "EHLO",
        Protocol::Lmtp => "LHLO",
    };
    let line = format!("{word} {}\r\n", shared.settings.host_name);
    let limit = shared.settings.limits.command;
    shared.send(now, line.into_bytes(), limit);
    shared.expect(now, limit);
    State::Ehlo
}

fn ehlo(shared: &mut Shared, now: Instant, reply: Reply) -> Next {
    match reply.class() {
        ReplyClass::PositiveCompletion => {
            shared.offer = Capabilities::from_ehlo(&reply);
            after_hello(shared, now)
        }
        ReplyClass::PermanentNegative if may_helo(shared) => {
            let line = format!("HELO {}\r\n", shared.settings.host_name);
            let limit = shared.settings.limits.command;
            shared.send(now, line.into_bytes(), limit);
            shared.expect(now, limit);
            Next::State(State::Helo)
        }
        ReplyClass::PositiveIntermediate => Next::Fail(Step::Ehlo, Cause::Unexpected(reply)),
        _ => Next::Fail(Step::Ehlo, Cause::Refused(reply)),
    }
}

/// HELO offers no extension, so it is only for sessions that need none (RFC 5321 3.2).
fn may_helo(shared: &Shared) -> bool {
    matches!(shared.settings.tls, TlsUse::IfOffered | TlsUse::Never)
        && !shared.tls
        && shared.settings.credentials.is_none()
        && shared.settings.protocol == Protocol::Smtp
}

fn helo(shared: &mut Shared, now: Instant, reply: Reply) -> Next {
    match reply.class() {
        ReplyClass::PositiveCompletion => {
            shared.offer = Capabilities::from_helo(&reply);
            after_hello(shared, now)
        }
        ReplyClass::PositiveIntermediate => Next::Fail(Step::Helo, Cause::Unexpected(reply)),
        _ => Next::Fail(Step::Helo, Cause::Refused(reply)),
    }
}

/// The server has named its offer: STARTTLS, login or the first transaction is next.
fn after_hello(shared: &mut Shared, now: Instant) -> Next {
    // Inside TLS no second one is expected, whatever the server offers (RFC 3207 4.2).
    let wanted = !shared.tls && shared.settings.tls != TlsUse::Never;
    if wanted && shared.offer.starttls {
        let limit = shared.settings.limits.command;
        shared.send(now, b"STARTTLS\r\n".to_vec(), limit);
        shared.expect(now, limit);
        return Next::State(State::StartTls);
    }
    if wanted {
        shared.starttls = StartTlsResult::NotOffered;
        if shared.settings.tls == TlsUse::Required {
            return Next::Fail(Step::StartTls, Cause::StartTlsNotOffered);
        }
    }
    login(shared, now)
}

fn starttls(shared: &mut Shared, now: Instant, reply: Reply) -> Next {
    match reply.class() {
        ReplyClass::PositiveCompletion => Next::State(State::Handshake),
        ReplyClass::PositiveIntermediate => Next::Fail(Step::StartTls, Cause::Unexpected(reply)),
        _ => {
            shared.starttls = StartTlsResult::Refused;
            if shared.settings.tls == TlsUse::Required {
                return Next::Fail(Step::StartTls, Cause::Refused(reply));
            }
            login(shared, now)
        }
    }
}

/// Begins the login where one is wanted. It happens inside verified TLS or not at all.
fn login(shared: &mut Shared, now: Instant) -> Next {
    let Some(credentials) = shared.settings.credentials.clone() else {
        return Next::State(State::Ready);
    };
    if !(shared.tls && shared.verified) {
        return Next::Fail(Step::Auth, Cause::LoginUnprotected);
    }
    let Some(mechanism) = shared.offer.strongest_mechanism() else {
        return Next::Fail(Step::Auth, Cause::NoMechanism);
    };
    let mut client = match sasl::Client::new(mechanism, credentials) {
        Ok(client) => client,
        Err(error) => return Next::Fail(Step::Auth, Cause::Sasl(error)),
    };
    let line = match client.initial() {
        Some(initial) => format!("AUTH {mechanism} {}\r\n", BASE64.encode(initial)),
        None => format!("AUTH {mechanism}\r\n"),
    };
    let limit = shared.settings.limits.command;
    shared.send(now, line.into_bytes(), limit);
    shared.expect(now, limit);
    Next::State(State::Auth(Auth { client, steps: 0 }))
}

impl Auth {
    fn replied(mut self, shared: &mut Shared, now: Instant, reply: Reply) -> Next {
        match (reply.code, reply.class()) {
            (235, _) => match self.client.finish() {
                Ok(()) => Next::State(State::Ready),
                Err(error) => Next::Fail(Step::Auth, Cause::Sasl(error)),
            },
            (334, _) => {
                self.steps += 1;
                match self.answer(&reply) {
                    Ok(line) => {
                        let limit = shared.settings.limits.command;
                        shared.send(now, line.into_bytes(), limit);
                        shared.expect(now, limit);
                        Next::State(State::Auth(self))
                    }
                    Err(error) => Next::Fail(Step::Auth, Cause::Sasl(error)),
                }
            }
            (_, ReplyClass::TransientNegative | ReplyClass::PermanentNegative) => {
                Next::Fail(Step::Auth, Cause::Refused(reply))
            }
            _ => Next::Fail(Step::Auth, Cause::Unexpected(reply)),
        }
    }

    fn answer(&mut self, reply: &Reply) -> Result<String, sasl::SaslError> {
        if self.steps > MAX_AUTH_STEPS {
            return Err(sasl::SaslError::TooManySteps);
        }
        let text = reply.lines.first().map_or("", |line| line.trim());
        let challenge = match BASE64.decode(text) {
            Ok(challenge) => challenge,
            // The wording of LOGIN's prompts carries nothing; some servers do not even encode them.
            Err(_) if self.client.mechanism() == sasl::Mechanism::Login => Vec::new(),
            Err(_) => return Err(sasl::SaslError::Malformed),
        };
        Ok(format!("{}\r\n", BASE64.encode(self.client.step(&challenge)?)))
    }
}
