//! AUTH within a session (RFC 4954): the command, the lines of the exchange, and how it ends.
//!
//! What it does: base64, line limits, cancelling, and the replies. What it does not: the mechanisms (`sasl::server`), and
//! the decision who somebody is (`Output::Ask`).
//!
//! Security decisions: no AUTH where it is not offered, and it is offered under TLS only unless the options say otherwise;
//! one login in a session; what was proven in the clear ends with STARTTLS; few attempts, then the connection ends.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::Session;
use crate::command::CommandError;
use crate::extension::AUTH_LINE_OCTETS;
use crate::line::Framed;
use crate::reply::Reply;
use crate::sasl::SaslError;
use crate::sasl::server::{Answer, Password, Server, ServerMechanism, Step};
use crate::server::common::Common;
use crate::server::state::{ExpectMail, ExpectVerdict, Next, State, offered};
use crate::server::{Output, Question, Verdict};

/// A login is under way.
#[derive(Debug)]
pub(crate) struct ExpectAuth {
    exchange: Server,
}

impl State {
    /// The command AUTH.
    pub(crate) fn auth(self, mechanism: &str, initial: Option<&Password>, common: &mut Common) -> Next {
        if common.options.extensions.auth.is_empty() {
            return self.refuse(common, CommandError::NotImplemented.reply());
        }
        match &self {
            Self::ExpectMail(_) if common.client.as_ref().is_some_and(|client| client.esmtp) => {}
            Self::ExpectMail(_) | Self::ExpectHelo(_) => return self.out_of_order(common, "EHLO first"),
            _ => return self.out_of_order(common, "not within a transaction"),
        }
        if common.login.is_some() {
            return self.out_of_order(common, "you are logged in");
        }
        let offered = offered(common).auth;
        if offered.is_empty() {
            let reply = Reply::with_status(538, (5, 7, 11), "encryption required: STARTTLS first");
            return self.refuse(common, reply);
        }
        let Some(mechanism) = ServerMechanism::parse(mechanism).filter(|known| offered.has(*known)) else {
            let reply = Reply::with_status(504, (5, 5, 4), "this mechanism is not offered");
            return self.refuse(common, reply);
        };
        let initial = match initial.map(|text| decoded(text.reveal().as_bytes())).transpose() {
            Ok(initial) => initial,
            Err(reply) => return self.refuse(common, reply),
        };
        let bindings = common.tls.as_ref().map(|tls| tls.bindings.clone()).unwrap_or_default();
        match Server::new(mechanism, offered, &bindings) {
            Ok(mut exchange) => {
                let step = exchange.begin(initial.as_deref());
                ExpectAuth { exchange }.step(step, common)
            }
            Err(error) => self.refuse(common, failed(error)),
        }
    }
}

impl ExpectAuth {
    fn step(self, step: Step, common: &mut Common) -> Next {
        match step {
            Step::Challenge(challenge) => {
                common.challenge(&challenge);
                (State::ExpectAuth(Box::new(self)), None)
            }
            Step::Ask(query) => {
                let question = Question::Auth(query);
                (State::ExpectVerdict(ExpectVerdict::Auth(Box::new(self))), Some(question))
            }
            Step::LoggedIn(user) => {
                common.login = Some(user);
                common.reply(&Reply::with_status(235, (2, 7, 0), "logged in"));
                (State::ExpectMail(ExpectMail), None)
            }
            Step::Refused => (refused(failed(SaslError::UnusableCredentials), common), None),
            Step::Failed(error) => (refused(failed(error), common), None),
        }
    }

    /// Takes the answer to what was asked.
    pub(crate) fn verdict(mut self, verdict: Verdict, common: &mut Common) -> State {
        let step = match verdict {
            Verdict::Auth(answer) => self.exchange.answer(answer),
            // No answer is no.
            Verdict::Accept => self.exchange.answer(Answer::Refused),
            Verdict::Reply(reply) => {
                common.auth_failures += 1;
                common.reply(&reply);
                return ended(common);
            }
            Verdict::Close(reply) => {
                common.reply(&reply);
                return State::Closing;
            }
        };
        // An answer leads to no further question.
        self.step(step, common).0
    }
}

impl Session {
    /// Takes the next line of a login.
    pub(super) fn step_auth(&mut self) -> bool {
        if let Some(reply) = self.common.must_end(false) {
            return self.give_up(reply);
        }
        match self.framer.next(&self.input, AUTH_LINE_OCTETS) {
            Framed::Incomplete { discard } => {
                self.consume(discard);
                false
            }
            Framed::Line { text, consumed } => {
                let line = decoded_line(self.input.get(text).unwrap_or_default());
                self.consume(consumed);
                self.auth_line(line);
                true
            }
            Framed::TooLong { consumed } => {
                self.consume(consumed);
                self.auth_line(Err(Reply::with_status(500, (5, 5, 6), "line too long")));
                true
            }
            Framed::BareLf => {
                self.give_up(Reply::with_status(500, (5, 5, 2), "a line ends with CR LF, not with LF"))
            }
            Framed::Endless => self.give_up(Reply::with_status(421, (4, 7, 0), "a line without end")),
        }
    }

    fn auth_line(&mut self, line: Result<Vec<u8>, Reply>) {
        let State::ExpectAuth(mut state) = std::mem::replace(&mut self.state, State::Closed) else {
            return;
        };
        let (state, question) = match line {
            Ok(message) => {
                let step = state.exchange.response(&message);
                state.step(step, &mut self.common)
            }
            Err(reply) => (refused(reply, &mut self.common), None),
        };
        self.state = state;
        self.outputs.extend(question.map(Output::Ask));
    }
}

/// A line of the exchange: base64, or `*` to cancel it (RFC 4954 4).
fn decoded_line(line: &[u8]) -> Result<Vec<u8>, Reply> {
    match line {
        b"*" => Err(Reply::with_status(501, (5, 7, 0), "login cancelled")),
        b"" => Ok(Vec::new()),
        line => BASE64.decode(line).map_err(|_| no_base64()),
    }
}

/// An initial response, in which `=` stands for an empty one.
fn decoded(text: &[u8]) -> Result<Vec<u8>, Reply> {
    if text == b"=" { Ok(Vec::new()) } else { BASE64.decode(text).map_err(|_| no_base64()) }
}

fn no_base64() -> Reply {
    Reply::with_status(501, (5, 5, 2), "cannot decode this as base64")
}

/// The reply to an exchange that failed. It does not tell a wrong password from a user that does not exist.
fn failed(error: SaslError) -> Reply {
    match error {
        SaslError::Malformed | SaslError::TooManySteps | SaslError::UnknownExtension => {
            Reply::with_status(501, (5, 5, 2), error.to_string())
        }
        SaslError::NoRandom => Reply::with_status(454, (4, 7, 0), "cannot log anybody in now"),
        SaslError::ChannelBinding => Reply::with_status(535, (5, 7, 8), error.to_string()),
        _ => Reply::with_status(535, (5, 7, 8), "user name or password is wrong"),
    }
}

fn refused(reply: Reply, common: &mut Common) -> State {
    common.auth_failures += 1;
    common.refuse(reply);
    ended(common)
}

/// After a login that failed: another attempt, or none.
fn ended(common: &mut Common) -> State {
    if common.auth_failures < common.options.limits.auth_failures {
        return State::ExpectMail(ExpectMail);
    }
    common.refuse(Reply::with_status(421, (4, 7, 0), "too many failed logins"));
    State::Closing
}
