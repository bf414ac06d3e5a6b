//! The server side of a SASL exchange: PLAIN, LOGIN, SCRAM-SHA-256 and -PLUS, EXTERNAL.
//!
//! What it does: reads the client's messages by each mechanism's grammar and says what to answer, what to ask, and how it
//! ended. What it does not: it knows no user and no secret (it asks for them, [`Query`]), no base64 and no SMTP framing,
//! which are the session's (RFC 4954), and no decision whether a mechanism may be offered.
//!
//! Nobody may act for somebody else: an authorisation identity is empty or the user himself.

mod scram;
#[cfg(test)]
mod tests;

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};

pub use scram::{ScramKeys, client_and_server_keys};

use super::SaslError;

/// The longest user name taken, in octets: an address (RFC 5321 4.5.3.1).
pub const MAX_NAME_OCTETS: usize = 320;

/// The longest password taken, in octets.
pub const MAX_PASSWORD_OCTETS: usize = 1024;

/// A mechanism as a server offers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerMechanism {
    /// SCRAM-SHA-256-PLUS (RFC 7677) with channel binding.
    ScramSha256Plus,
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256,
    /// PLAIN (RFC 4616).
    Plain,
    /// LOGIN: the password in the clear, in two steps. Never standardised; some clients know nothing else.
    Login,
    /// EXTERNAL (RFC 4422 A): by the certificate shown in the TLS handshake.
    External,
}

impl ServerMechanism {
    /// All, in the order in which they are offered.
    pub const ALL: [Self; 5] =
        [Self::ScramSha256Plus, Self::ScramSha256, Self::Plain, Self::Login, Self::External];

    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::External => "EXTERNAL",
        }
    }

    /// The mechanism of this name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| name.eq_ignore_ascii_case(mechanism.name()))
    }
}

impl fmt::Display for ServerMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MechanismSet(u8);

impl MechanismSet {
    /// The set of these.
    pub fn of(mechanisms: &[ServerMechanism]) -> Self {
        Self(mechanisms.iter().fold(0, |set, mechanism| set | 1 << *mechanism as u8))
    }

    /// Whether this one is in it.
    pub fn has(self, mechanism: ServerMechanism) -> bool {
        self.0 & 1 << mechanism as u8 != 0
    }

    /// Without this one.
    #[must_use]
    pub fn without(self, mechanism: ServerMechanism) -> Self {
        Self(self.0 & !(1 << mechanism as u8))
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it, in the order in which they are offered.
    pub fn iter(self) -> impl Iterator<Item = ServerMechanism> {
        ServerMechanism::ALL.into_iter().filter(move |mechanism| self.has(*mechanism))
    }
}

/// What the TLS session can be bound to (RFC 5056), by the type's registered name. Empty in the clear.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChannelBindings {
    /// `tls-exporter` (RFC 9266): TLS 1.3 only, because an older session need not be unique.
    pub exporter: Option<Vec<u8>>,
    /// `tls-server-end-point` (RFC 5929 4): the hash of our certificate.
    pub server_end_point: Option<Vec<u8>>,
}

impl ChannelBindings {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.exporter.is_none() && self.server_end_point.is_none()
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        match name {
            "tls-exporter" => self.exporter.as_deref(),
            "tls-server-end-point" => self.server_end_point.as_deref(),
            _ => None,
        }
    }
}

/// A password on its way to the check. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// A password.
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    /// The password itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// What an exchange cannot know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Is this the user's password? Answered by `Answer::LoggedIn` or `Answer::Refused`.
    Password {
        /// The name as the client gave it.
        user: String,
        /// The password as the client gave it.
        password: Password,
    },
    /// The user's keys; those of nobody where there is no such user, so that no guess tells who exists. Answered by
    /// `Answer::Keys`.
    Keys {
        /// The name as the client gave it.
        user: String,
    },
    /// The client has proven that it knows the password, or has not. Answered as `Password` is.
    Proof {
        /// The name as the client gave it.
        user: String,
        /// Whether it has. If not, the answer is `Refused`.
        proven: bool,
    },
    /// Whose certificate was shown in the handshake? Answered as `Password` is.
    Certificate {
        /// The name that the client asks for; empty leaves it to the certificate.
        user: String,
    },
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The user's keys.
    Keys(ScramKeys),
    /// Yes; this is the user's name as it is known here.
    LoggedIn(String),
    /// No.
    Refused,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this to the client and wait for its answer.
    Challenge(Vec<u8>),
    /// Answer this.
    Ask(Query),
    /// The client is this user.
    LoggedIn(String),
    /// The answer was no.
    Refused,
    /// The client breaks the mechanism's rules.
    Failed(SaslError),
}

/// One exchange.
#[derive(Debug)]
pub struct Server {
    mechanism: ServerMechanism,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The client's first message.
    Start(Box<Start>),
    LoginName,
    LoginPassword(String),
    /// The answer to a last query.
    Verdict,
    ScramKeys(Box<scram::AwaitKeys>),
    ScramFinal(Box<scram::AwaitFinal>),
    ScramVerdict(Box<scram::AwaitVerdict>),
    /// The client has to take note of our proof.
    ScramEnd(String),
    Over,
}

/// What a SCRAM exchange has to know beforehand.
struct Start {
    bindings: ChannelBindings,
    /// Whether SCRAM-SHA-256-PLUS was offered as well.
    plus_offered: bool,
    nonce: String,
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Start")
    }
}

impl Server {
    /// Begins an exchange by a mechanism out of those that were `offered`.
    ///
    /// # Errors
    /// When the system gives no random numbers for a nonce.
    pub fn new(
        mechanism: ServerMechanism,
        offered: MechanismSet,
        bindings: &ChannelBindings,
    ) -> Result<Self, SaslError> {
        let mut random = [0; scram::NONCE_OCTETS];
        SystemRandom::new().fill(&mut random).map_err(|_| SaslError::NoRandom)?;
        Ok(Self::with_nonce(mechanism, offered, bindings, scram::nonce(&random)))
    }

    fn with_nonce(
        mechanism: ServerMechanism,
        offered: MechanismSet,
        bindings: &ChannelBindings,
        nonce: String,
    ) -> Self {
        let plus_offered = offered.has(ServerMechanism::ScramSha256Plus);
        let start = Start { bindings: bindings.clone(), plus_offered, nonce };
        Self { mechanism, state: State::Start(Box::new(start)) }
    }

    /// The mechanism.
    pub fn mechanism(&self) -> ServerMechanism {
        self.mechanism
    }

    /// Begins. Without an initial response the client is asked for its first message by an empty challenge (RFC 4954 4).
    pub fn begin(&mut self, initial: Option<&[u8]>) -> Step {
        match (self.mechanism, initial) {
            (ServerMechanism::Login, None) => {
                self.state = State::LoginName;
                Step::Challenge(b"Username:".to_vec())
            }
            // Some clients give the name along with the command.
            (ServerMechanism::Login, Some(name)) => {
                self.state = State::LoginName;
                self.response(name)
            }
            (_, None) => Step::Challenge(Vec::new()),
            (_, Some(message)) => self.response(message),
        }
    }

    /// Takes the client's next message.
    pub fn response(&mut self, message: &[u8]) -> Step {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Start(start) => self.first(*start, message),
            State::LoginName => match name(message) {
                Ok(user) => {
                    self.state = State::LoginPassword(user);
                    Step::Challenge(b"Password:".to_vec())
                }
                Err(error) => Step::Failed(error),
            },
            State::LoginPassword(user) => match password(message) {
                Ok(password) => self.ask(Query::Password { user, password }),
                Err(error) => Step::Failed(error),
            },
            State::ScramFinal(state) => match state.message(message) {
                Ok((next, proven)) => {
                    let user = next.user().to_owned();
                    self.state = State::ScramVerdict(Box::new(next));
                    Step::Ask(Query::Proof { user, proven })
                }
                Err(error) => Step::Failed(error),
            },
            State::ScramEnd(user) if message.is_empty() => Step::LoggedIn(user),
            State::ScramEnd(_) => Step::Failed(SaslError::Malformed),
            _ => Step::Failed(SaslError::TooManySteps),
        }
    }

    /// Takes the answer to the query that is open.
    pub fn answer(&mut self, answer: Answer) -> Step {
        match (std::mem::replace(&mut self.state, State::Over), answer) {
            (State::Verdict, Answer::LoggedIn(user)) => Step::LoggedIn(user),
            (State::ScramKeys(state), Answer::Keys(keys)) => {
                let (message, next) = state.keys(keys);
                self.state = State::ScramFinal(Box::new(next));
                Step::Challenge(message)
            }
            // Whoever did not prove it is not let in, whatever the answer.
            (State::ScramVerdict(state), Answer::LoggedIn(user)) => match state.server_final() {
                // RFC 4954 4: what the mechanism says at its end goes as one more challenge.
                Some(message) => {
                    self.state = State::ScramEnd(user);
                    Step::Challenge(message)
                }
                None => Step::Refused,
            },
            _ => Step::Refused,
        }
    }

    fn ask(&mut self, query: Query) -> Step {
        self.state = State::Verdict;
        Step::Ask(query)
    }

    fn first(&mut self, start: Start, message: &[u8]) -> Step {
        let plus = self.mechanism == ServerMechanism::ScramSha256Plus;
        let asked = match self.mechanism {
            ServerMechanism::Plain => {
                plain(message).map(|(user, password)| self.ask(Query::Password { user, password }))
            }
            ServerMechanism::External => external(message).map(|user| self.ask(Query::Certificate { user })),
            ServerMechanism::ScramSha256 | ServerMechanism::ScramSha256Plus => {
                scram::first(start, plus, message).map(|state| {
                    let user = state.user().to_owned();
                    self.state = State::ScramKeys(Box::new(state));
                    Step::Ask(Query::Keys { user })
                })
            }
            ServerMechanism::Login => Err(SaslError::Malformed),
        };
        asked.unwrap_or_else(Step::Failed)
    }
}

/// `[authzid] NUL authcid NUL passwd` (RFC 4616 2).
fn plain(message: &[u8]) -> Result<(String, Password), SaslError> {
    let mut parts = message.split(|byte| *byte == 0);
    let (Some(authzid), Some(authcid), Some(secret), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(SaslError::Malformed);
    };
    let user = name(authcid)?;
    authorised(authzid, &user)?;
    Ok((user, password(secret)?))
}

/// The authorisation identity, or nothing (RFC 4422 A.1).
fn external(message: &[u8]) -> Result<String, SaslError> {
    if message.is_empty() { Ok(String::new()) } else { name(message) }
}

/// Nobody acts for somebody else.
fn authorised(authzid: &[u8], user: &str) -> Result<(), SaslError> {
    let himself = authzid.is_empty() || authzid.eq_ignore_ascii_case(user.as_bytes());
    if himself { Ok(()) } else { Err(SaslError::ActsForAnother) }
}

/// A user name: text without controls, of bounded length.
fn name(octets: &[u8]) -> Result<String, SaslError> {
    if octets.is_empty() || octets.len() > MAX_NAME_OCTETS {
        return Err(SaslError::UnusableCredentials);
    }
    let text = std::str::from_utf8(octets).map_err(|_| SaslError::Malformed)?;
    if text.chars().any(char::is_control) { Err(SaslError::Malformed) } else { Ok(text.to_owned()) }
}

fn password(octets: &[u8]) -> Result<Password, SaslError> {
    if octets.is_empty() || octets.len() > MAX_PASSWORD_OCTETS || octets.contains(&0) {
        return Err(SaslError::UnusableCredentials);
    }
    std::str::from_utf8(octets).map(Password::new).map_err(|_| SaslError::Malformed)
}
