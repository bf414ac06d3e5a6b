//! The server's side of a session (RFC 5321), without I/O.
//!
//! What it does: takes what the client sent, in any pieces, and tells the driver what to write, what to decide, when
//! to start TLS, what the content is and when to give up. What it does not: it decides no policy (`Output::Ask`),
//! keeps no message, and reads no clock: time comes with each input, deadlines leave by `Output::Wait`.
//!
//! The driver's loop: `handle` one input, then `poll` until it answers `Output::Wait`. A question is answered at
//! once, before the next `poll`; the driver does not read from the client while one is open, so that what a client
//! can make us buffer is what the driver reads in one piece. Replies to a pipelined group leave in one `Send`.
//!
//! What a client may not do: speak before the greeting, send anything behind EHLO, STARTTLS or DATA before the reply
//! (RFC 2920 3.1), end a line by anything but CR LF. Each of these ends the session, so that content is never read
//! as commands and nothing said in the clear is answered within TLS.

mod auth;
mod common;
mod content;
mod event;
mod guard;
mod options;
mod state;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::command::{Command, CommandError};
use crate::extension::AUTH_LINE_OCTETS;
use crate::line::{Framed, Framer};
use crate::reply::Reply;
use common::Common;
use content::End;
pub use event::{Input, Output, Question, TlsInfo, Verdict};
pub use options::{Limits, Options};
use state::{ExpectHelo, ExpectMail, ExpectVerdict, State};

/// Replies of a pipelined group are handed over when they come to this many octets, or when the group ends.
const REPLIES_OCTETS: usize = 4096;

/// A buffer larger than this is given back once it is empty.
const KEPT_BUFFER_OCTETS: usize = 1024;

/// One client's session.
#[derive(Debug)]
pub struct Session {
    common: Common,
    state: State,
    /// What the client sent and we did not use yet.
    input: Vec<u8>,
    framer: Framer,
    /// What the driver has to do, in order.
    outputs: VecDeque<Output>,
}

impl Session {
    /// A session that begins now. `tls` is given where TLS is active from the start (implicit TLS, RFC 8314).
    pub fn new(now: Instant, options: Arc<Options>, tls: Option<TlsInfo>) -> Self {
        Self {
            common: Common::new(now, options, tls),
            state: State::ExpectVerdict(ExpectVerdict::Connect),
            input: Vec::new(),
            framer: Framer::default(),
            outputs: VecDeque::from([Output::Ask(Question::Connect)]),
        }
    }

    /// Takes an input. Then `poll` until it answers `Output::Wait` or `Output::Close`.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.common.now = now;
        if matches!(self.state, State::Closing | State::Closed) {
            return;
        }
        match input {
            Input::Bytes(bytes) => self.bytes(bytes),
            Input::Verdict(verdict) => self.verdict(verdict),
            Input::TlsStarted(tls) => self.tls_started(tls),
            Input::Tick => self.check_deadline(),
            Input::Eof => self.state = State::Closed,
            Input::Shutdown => self.common.stopping = true,
        }
    }

    /// What to do next.
    pub fn poll(&mut self) -> Output {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return output;
            }
            if self.common.replies.len() >= REPLIES_OCTETS {
                return Output::Send(std::mem::take(&mut self.common.replies));
            }
            if self.step() {
                continue;
            }
            if let Some(refusal) = pop_front(&mut self.common.refusals) {
                return Output::Refused(refusal);
            }
            if !self.common.replies.is_empty() {
                return Output::Send(std::mem::take(&mut self.common.replies));
            }
            return self.at_rest();
        }
    }

    /// The client's name as given by EHLO or HELO.
    pub fn client_name(&self) -> Option<&str> {
        self.common.client.as_ref().map(|client| client.name.as_str())
    }

    /// What TLS agreed on, once it is active.
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.common.tls.as_ref()
    }

    /// Who the client has proven to be.
    pub fn login(&self) -> Option<&str> {
        self.common.login.as_deref()
    }

    /// The protocol's name for the trace line (RFC 5321 4.4, RFC 3848): `SMTP`, `ESMTP`, `ESMTPS`, `ESMTPA` or `ESMTPSA`.
    pub fn protocol(&self) -> &'static str {
        let esmtp = self.common.client.as_ref().is_some_and(|client| client.esmtp);
        match (esmtp, self.common.tls.is_some(), self.common.login.is_some()) {
            (true, true, true) => "ESMTPSA",
            (true, true, false) => "ESMTPS",
            (true, false, true) => "ESMTPA",
            (true, false, false) => "ESMTP",
            (false, ..) => "SMTP",
        }
    }

    /// Whether content is being taken: the driver reads in larger pieces then.
    pub fn is_taking_content(&self) -> bool {
        matches!(self.state, State::ExpectContentEnd(_) | State::Swallow(_))
    }

    /// What the driver does when there is nothing left to do.
    fn at_rest(&mut self) -> Output {
        if self.input.is_empty() && self.input.capacity() > KEPT_BUFFER_OCTETS {
            self.input = Vec::new();
        }
        match self.state {
            State::ExpectTls => Output::StartTls,
            State::Closing | State::Closed => {
                self.state = State::Closed;
                Output::Close
            }
            _ => Output::Wait { until: self.deadline() },
        }
    }

    /// Takes octets from the client. During a handshake there must be none: they would be plaintext behind STARTTLS.
    fn bytes(&mut self, bytes: &[u8]) {
        self.check_deadline();
        match &self.state {
            State::ExpectTls | State::Closing | State::Closed => self.state = State::Closed,
            State::ExpectContentEnd(_) | State::Swallow(_) => {
                self.common.wait_until = self.common.now + self.common.options.limits.content_block_timeout;
                self.input.extend_from_slice(bytes);
            }
            _ => self.input.extend_from_slice(bytes),
        }
    }

    fn verdict(&mut self, verdict: Verdict) {
        let State::ExpectVerdict(_) = self.state else {
            return;
        };
        let State::ExpectVerdict(state) = std::mem::replace(&mut self.state, State::Closed) else {
            return;
        };
        self.state = state.verdict(verdict, !self.input.is_empty(), &mut self.common);
    }

    /// Everything the client said before is forgotten (RFC 3207 4.2).
    fn tls_started(&mut self, tls: TlsInfo) {
        if !matches!(self.state, State::ExpectTls) {
            self.state = State::Closed;
            return;
        }
        self.input = Vec::new();
        self.framer = Framer::default();
        self.common.client = None;
        self.common.login = None;
        self.common.tls = Some(tls);
        self.common.wait_until = self.common.now + self.common.options.limits.command_timeout;
        self.state = State::ExpectHelo(ExpectHelo);
    }

    /// When the driver has to come back.
    fn deadline(&self) -> Instant {
        match &self.state {
            State::ExpectContentEnd(state) | State::ExpectChunk(state) => {
                self.common.wait_until.min(state.end_by)
            }
            State::ExpectTls => self.common.wait_until,
            _ => self.common.wait_until.min(self.common.end_by),
        }
    }

    /// Ends the session when its time is over.
    fn check_deadline(&mut self) {
        let waits = !matches!(self.state, State::ExpectVerdict(_) | State::Closing | State::Closed);
        if !waits || self.common.now < self.deadline() {
            return;
        }
        if matches!(self.state, State::ExpectTls) {
            self.state = State::Closed;
            return;
        }
        self.common.refuse(Reply::with_status(421, (4, 4, 2), "waited too long"));
        self.state = State::Closing;
    }

    /// Does the next thing the buffered input allows. False when there is none.
    fn step(&mut self) -> bool {
        match &self.state {
            State::ExpectContentEnd(_) => self.step_content(),
            State::Swallow(_) => self.swallow(),
            State::ExpectAuth(_) => self.step_auth(),
            state if state.reads_commands() => self.step_command(),
            _ => false,
        }
    }

    fn step_command(&mut self) -> bool {
        let half_taken = matches!(self.state, State::ExpectChunk(_));
        if let Some(reply) = self.common.must_end(half_taken) {
            self.common.refuse(reply);
            self.state = State::Closing;
            return true;
        }
        let limit = self.line_limit();
        match self.framer.next(&self.input, limit) {
            Framed::Incomplete { discard } => {
                self.consume(discard);
                false
            }
            Framed::Line { text, consumed } => {
                let command = Command::parse(self.input.get(text).unwrap_or_default());
                self.consume(consumed);
                self.command(command);
                true
            }
            Framed::TooLong { consumed } => {
                self.consume(consumed);
                self.common.refuse(Reply::with_status(500, (5, 5, 2), "line too long"));
                true
            }
            Framed::BareLf => {
                self.give_up(Reply::with_status(500, (5, 5, 2), "a line ends with CR LF, not with LF"))
            }
            Framed::Endless => self.give_up(Reply::with_status(421, (4, 7, 0), "a line without end")),
        }
    }

    /// The longest command line taken now. AUTH has room for its initial response while it may come.
    fn line_limit(&self) -> usize {
        let offered = state::offered(&self.common);
        let may_log_in = !offered.auth.is_empty() && self.common.login.is_none();
        if may_log_in { AUTH_LINE_OCTETS } else { offered.command_line_limit() }
    }

    fn command(&mut self, command: Result<Command, CommandError>) {
        let command = match command {
            Ok(command) => command,
            // After these nobody knows what the next octets are.
            Err(error @ (CommandError::OtherProtocol | CommandError::Chunk)) => {
                self.give_up(error.reply());
                return;
            }
            Err(error) => {
                self.common.refuse(error.reply());
                return;
            }
        };
        let state = std::mem::replace(&mut self.state, State::Closed);
        let (state, question) = state.command(command, !self.input.is_empty(), &mut self.common);
        self.state = state;
        if std::mem::take(&mut self.common.dropped) {
            self.outputs.push_back(Output::ContentDropped);
        }
        self.outputs.extend(question.map(Output::Ask));
    }

    /// Reads on over a chunk that is refused: it must never be read as commands.
    fn swallow(&mut self) -> bool {
        let State::Swallow(state) = &mut self.state else {
            return false;
        };
        let octets = usize::try_from(state.left).map_or(self.input.len(), |left| left.min(self.input.len()));
        state.left -= octets as u64;
        let is_over = state.left == 0;
        self.consume(octets);
        if !is_over {
            return false;
        }
        if let State::Swallow(state) = std::mem::replace(&mut self.state, State::Closed) {
            self.common.refuse(state.reply);
            self.state = *state.next;
        }
        true
    }

    /// Refuses and closes.
    fn give_up(&mut self, reply: Reply) -> bool {
        self.common.refuse(reply);
        self.state = State::Closing;
        true
    }

    fn step_content(&mut self) -> bool {
        let State::ExpectContentEnd(state) = &mut self.state else {
            return false;
        };
        if self.input.is_empty() && !state.needs_no_input() {
            return false;
        }
        let step = state.step(&self.input, &self.common.options);
        let (size_octets, refusal, header) = (state.size_octets, state.refusal.clone(), state.header());
        self.consume(step.consumed);
        if !step.content.is_empty() {
            self.outputs.push_back(Output::Content(step.content));
        }
        self.outputs.extend(step.refused.map(Output::ContentRefused));
        match (step.end, refusal) {
            (End::NotYet, _) => {}
            (End::Chunk, None) => {
                if let State::ExpectContentEnd(state) = std::mem::replace(&mut self.state, State::Closed) {
                    let text = format!("{} octets received", state.chunk_octets());
                    self.common.reply(&Reply::with_status(250, (2, 0, 0), text));
                    self.common.idle_commands += usize::from(state.chunk_octets() == 0);
                    self.state = State::ExpectChunk(state);
                }
            }
            (End::Found, None) => {
                self.state = State::ExpectVerdict(ExpectVerdict::ContentEnd);
                self.outputs.push_back(Output::Ask(Question::ContentEnd { size_octets, header }));
            }
            (End::Found | End::Chunk, Some(refusal)) => {
                self.common.reply(&refusal);
                self.state = State::ExpectMail(ExpectMail);
            }
            (End::Overrun, refusal) => {
                let reply = refusal.unwrap_or_else(|| CommandError::TooBig.reply());
                self.give_up(reply);
            }
        }
        true
    }

    fn consume(&mut self, octets: usize) {
        if octets >= self.input.len() {
            self.input.clear();
        } else {
            self.input.drain(..octets);
        }
    }
}

fn pop_front(refusals: &mut Vec<Reply>) -> Option<Reply> {
    if refusals.is_empty() { None } else { Some(refusals.remove(0)) }
}
