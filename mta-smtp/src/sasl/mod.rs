//! SASL (RFC 4422) as small state machines without I/O: PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 (RFC 7677).
//!
//! What it does: the client side of each exchange, and the choice among the mechanisms a server offers; the server side is
//! `server`. What it does not: no base64 and no SMTP framing, which are the session's (RFC 4954), and no decision whether a password may be
//! sent at all: PLAIN and LOGIN hand it to whoever asks, so the session starts them only inside verified TLS.

/// Shows the type's name, never what it holds.
macro_rules! opaque_debug {
    ($($state:ident),*) => {$(
        impl std::fmt::Debug for $state {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($state))
            }
        }
    )*};
}

mod scram;
pub mod server;

use std::fmt;

pub use scram::MAX_ITERATIONS;

/// A mechanism, weakest first: `Ord` is the order of choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mechanism {
    /// LOGIN: the password in the clear, in two steps. Never standardised; some servers offer nothing else.
    Login,
    /// PLAIN: the password in the clear, in one step.
    Plain,
    /// SCRAM-SHA-256: the password stays here, and the server proves that it knows it too.
    ScramSha256,
}

impl Mechanism {
    /// Reads a mechanism name as servers list it; `None` for those we do not speak.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Login, Self::Plain, Self::ScramSha256]
            .into_iter()
            .find(|mechanism| name.eq_ignore_ascii_case(mechanism.name()))
    }

    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "LOGIN",
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A user name and a password. Its `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    username: String,
    password: String,
}

impl Credentials {
    /// The pair as given. SASLprep (RFC 4013) is not applied: names and passwords are used octet for octet.
    ///
    /// # Errors
    ///
    /// When one of them is empty or holds NUL, which no mechanism can carry.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Result<Self, SaslError> {
        let (username, password) = (username.into(), password.into());
        let unusable = |text: &str| text.is_empty() || text.contains('\0');
        if unusable(&username) || unusable(&password) {
            return Err(SaslError::UnusableCredentials);
        }
        Ok(Self { username, password })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Why an exchange cannot go on. All of these mean: do not trust this server with anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslError {
    /// User name or password is empty or holds NUL.
    UnusableCredentials,
    /// The server's message does not follow the mechanism's grammar.
    Malformed,
    /// The server asks for more steps than the mechanism has.
    TooManySteps,
    /// The server's nonce does not begin with ours (RFC 5802 5.1).
    NonceMismatch,
    /// The iteration count is below 4096 (RFC 7677 4) or above what we are ready to compute.
    IterationCount(u64),
    /// The server asks for a mandatory extension that does not exist (RFC 5802 5.1, `m=`).
    UnknownExtension,
    /// The server's signature is wrong: it does not know the password (RFC 5802 5).
    ServerNotAuthenticated,
    /// The server reported an error inside the exchange.
    ServerError,
    /// No random numbers were to be had.
    NoRandom,
    /// The client asks to act for somebody else (RFC 4422 2).
    ActsForAnother,
    /// The channel binding is not that of this connection, or was left out although it was offered (RFC 5802 6).
    ChannelBinding,
}

impl fmt::Display for SaslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnusableCredentials => f.write_str("user name or password is empty or holds NUL"),
            Self::Malformed => f.write_str("a message of the exchange is malformed"),
            Self::TooManySteps => f.write_str("the server asks for more steps than the mechanism has"),
            Self::NonceMismatch => f.write_str("the server's nonce does not continue ours"),
            Self::IterationCount(count) => write!(f, "the server's iteration count {count} is out of bounds"),
            Self::UnknownExtension => f.write_str("the server demands an unknown extension"),
            Self::ServerNotAuthenticated => {
                f.write_str("the server could not prove that it knows the password")
            }
            Self::ServerError => f.write_str("the server reported an error in the exchange"),
            Self::NoRandom => f.write_str("no random numbers available"),
            Self::ActsForAnother => f.write_str("the client asks to act for another user"),
            Self::ChannelBinding => f.write_str("the channel binding is not that of this connection"),
        }
    }
}

impl std::error::Error for SaslError {}

/// Channel binding for the -PLUS mechanisms (RFC 5929, RFC 9266).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelBinding {
    /// We do not support it: the GS2 flag is `n`.
    #[default]
    Unsupported,
}

/// The client side of one exchange.
#[derive(Debug)]
pub struct Client {
    mechanism: Mechanism,
    state: State,
}

#[derive(Debug)]
enum State {
    PlainStart(Credentials),
    LoginName(Credentials),
    LoginPassword(Credentials),
    ScramStart(scram::Start),
    ScramFirst(scram::ClientFirst),
    ScramFinal(scram::ClientFinal),
    /// Everything was said, and what the server had to prove is proven.
    Finished,
    /// Something went wrong: no success is believed any more.
    Failed,
}

impl Client {
    /// Begins an exchange.
    ///
    /// # Errors
    ///
    /// When the system gives no random numbers for a nonce.
    pub fn new(mechanism: Mechanism, credentials: Credentials) -> Result<Self, SaslError> {
        let state = match mechanism {
            Mechanism::Plain => State::PlainStart(credentials),
            Mechanism::Login => State::LoginName(credentials),
            Mechanism::ScramSha256 => {
                State::ScramStart(scram::Start::new(credentials, ChannelBinding::Unsupported)?)
            }
        };
        Ok(Self { mechanism, state })
    }

    /// The mechanism of this exchange.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The initial response, for mechanisms in which the client speaks first.
    pub fn initial(&mut self) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.state, State::Finished) {
            State::PlainStart(credentials) => Some(plain(&credentials)),
            State::ScramStart(start) => {
                let (message, next) = start.first();
                self.state = State::ScramFirst(next);
                Some(message)
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// The answer to a challenge, already decoded from base64.
    ///
    /// # Errors
    ///
    /// When the challenge breaks the mechanism's rules; the exchange is to be cancelled then.
    pub fn step(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslError> {
        // Fails closed: whatever goes wrong here, `finish` says so.
        match std::mem::replace(&mut self.state, State::Failed) {
            // A server that ignored the initial response and asks with an empty challenge gets it now (RFC 4954 4).
            State::PlainStart(credentials) if challenge.is_empty() => {
                self.state = State::Finished;
                Ok(plain(&credentials))
            }
            // Servers word and translate these prompts as they like; only their order is known.
            State::LoginName(credentials) => {
                let name = credentials.username.clone().into_bytes();
                self.state = State::LoginPassword(credentials);
                Ok(name)
            }
            State::LoginPassword(credentials) => {
                self.state = State::Finished;
                Ok(credentials.password.into_bytes())
            }
            State::ScramFirst(first) => {
                let (message, next) = first.challenge(challenge)?;
                self.state = State::ScramFinal(next);
                Ok(message)
            }
            State::ScramFinal(last) => {
                last.verify(challenge)?;
                self.state = State::Finished;
                Ok(Vec::new())
            }
            State::PlainStart(_) | State::ScramStart(_) => Err(SaslError::Malformed),
            State::Finished | State::Failed => Err(SaslError::TooManySteps),
        }
    }

    /// Whether everything the mechanism demands of the server was seen. Asked when the server reports success: a SCRAM
    /// server that skipped its own proof is not to be believed.
    ///
    /// # Errors
    ///
    /// When the exchange is not at its end.
    pub fn finish(&self) -> Result<(), SaslError> {
        match self.state {
            State::Finished => Ok(()),
            _ => Err(SaslError::ServerNotAuthenticated),
        }
    }
}

/// `authzid NUL authcid NUL passwd` with an empty authorisation identity (RFC 4616 2).
fn plain(credentials: &Credentials) -> Vec<u8> {
    format!("\0{}\0{}", credentials.username, credentials.password).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials::new("user", "pencil").unwrap()
    }

    #[test]
    fn after_an_error_no_success_is_believed() {
        let exchange = |mechanism, challenges: &[&[u8]]| {
            let mut client = Client::new(mechanism, credentials()).unwrap();
            let _ = client.initial();
            let last = challenges.iter().map(|challenge| client.step(challenge).is_ok()).last();
            (last, client.finish())
        };
        let not_proven = Err(SaslError::ServerNotAuthenticated);
        for challenges in
            [&[&b""[..]][..], &[b"e=other-error"], &[b"r=x,s=AA==,i=4096"], &[b"", b""], &[b"", b"v=x"]]
        {
            assert_eq!(exchange(Mechanism::ScramSha256, challenges), (Some(false), not_proven));
        }
        assert_eq!(exchange(Mechanism::Login, &[b"Name", b"Word"]), (Some(true), Ok(())));
        assert_eq!(exchange(Mechanism::Login, &[b"Name", b"Word", b"more"]), (Some(false), not_proven));
    }

    #[test]
    fn strongest_mechanism_is_the_greatest() {
        assert!(Mechanism::ScramSha256 > Mechanism::Plain && Mechanism::Plain > Mechanism::Login);
        assert_eq!(Mechanism::parse("scram-sha-256"), Some(Mechanism::ScramSha256));
        assert_eq!(Mechanism::parse("SCRAM-SHA-256-PLUS"), None);
        assert_eq!(Mechanism::parse("CRAM-MD5"), None);
    }

    #[test]
    fn plain_by_rfc4616() {
        let mut client = Client::new(Mechanism::Plain, credentials()).unwrap();
        assert_eq!(client.initial().unwrap(), b"\0user\0pencil");
        assert_eq!(client.finish(), Ok(()));
        assert_eq!(client.step(b"more"), Err(SaslError::TooManySteps));
    }

    #[test]
    fn login_answers_by_order_not_by_wording() {
        let mut client = Client::new(Mechanism::Login, credentials()).unwrap();
        assert_eq!(client.initial(), None);
        assert_eq!(client.finish(), Err(SaslError::ServerNotAuthenticated));
        assert_eq!(client.step(b"Benutzername:").unwrap(), b"user");
        assert_eq!(client.step(b"").unwrap(), b"pencil");
        assert_eq!(client.finish(), Ok(()));
    }

    #[test]
    fn debug_shows_no_password() {
        let client = Client::new(Mechanism::ScramSha256, credentials()).unwrap();
        assert!(!format!("{:?} {client:?}", credentials()).contains("pencil"));
        assert_eq!(Credentials::new("user", ""), Err(SaslError::UnusableCredentials));
        assert_eq!(Credentials::new("us\0er", "x"), Err(SaslError::UnusableCredentials));
    }
}
