//! Mail from own users: who they are, as whom they send, how much.
//!
//! What it does: answers the session's questions about logins, checks the sender of the envelope, and counts. What it does
//! not: no protocol, and no look into the content (`content` checks and completes the header).

use std::net::IpAddr;
use std::sync::Arc;

use mta_smtp::address::ReversePath;
use mta_smtp::extension::Extensions;
use mta_smtp::reply::Reply;
use mta_smtp::sasl::server::{Answer, MechanismSet, Query, ServerMechanism};
use mta_smtp::server::{Options as SessionOptions, Verdict};
use rustls::ServerConfig;

use crate::tls::client_certificate::ClientCertificate;
use crate::tls::identities::Identities;
use crate::user::Service;
use crate::user::login::{Attempt, Options as LoginOptions, Outcome};
use crate::user::rate::Limits;

/// What can be set about submission.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether clients on loopback may log in without TLS.
    pub auth_in_clear: bool,
    /// Whether clients are asked for a certificate.
    pub client_certificates: bool,
    /// Whether a user may send only as what is his.
    pub check_sender: bool,
    /// Whether the trace line names the user's machine.
    pub received_client: bool,
    /// Logins.
    pub login: LoginOptions,
    /// How much one user may send.
    pub limits: Limits,
}

/// TLS for users.
#[derive(Debug, Clone)]
pub struct Tls {
    /// What it is done with.
    pub config: Arc<ServerConfig>,
    /// What clients are shown, which a login may be bound to.
    pub identities: Identities,
}

/// Everything a session of a user is made with.
#[derive(Debug)]
pub struct Submission {
    pub(super) options: Options,
    /// For everybody.
    session: Arc<SessionOptions>,
    /// For clients on loopback.
    local_session: Arc<SessionOptions>,
    pub(super) tls: Option<Tls>,
    pub(super) users: Arc<Service>,
}

impl Submission {
    /// From the options, and what the sessions of the relay service offer.
    pub(super) fn new(
        options: Options,
        relay: &SessionOptions,
        tls: Option<Tls>,
        users: Arc<Service>,
    ) -> Self {
        let auth = MechanismSet::of(&ServerMechanism::ALL);
        let auth = if options.client_certificates { auth } else { auth.without(ServerMechanism::External) };
        let extensions = Extensions { auth, auth_in_clear: false, ..relay.extensions.clone() };
        let session = SessionOptions { extensions, require_auth: true, ..relay.clone() };
        let mut local_session = session.clone();
        local_session.extensions.auth_in_clear = options.auth_in_clear;
        let (session, local_session) = (Arc::new(session), Arc::new(local_session));
        Self { options, session, local_session, tls, users }
    }

    /// What a session with this client offers.
    pub(super) fn session(&self, client: IpAddr) -> &Arc<SessionOptions> {
        if client.is_loopback() { &self.local_session } else { &self.session }
    }

    /// The refusal of a client that has guessed too often.
    pub(super) fn blocked(&self, client: IpAddr) -> Option<Reply> {
        let blocked = self.users.logins.is_blocked(client, &self.options.login);
        blocked.then(|| Reply::with_status(421, (4, 7, 0), "too many failed logins, try again later"))
    }

    /// Answers a question of a login. `certificate` is the one that the client has shown.
    pub(super) async fn authenticate(
        &self,
        client: IpAddr,
        query: Query,
        certificate: Option<Arc<ClientCertificate>>,
    ) -> Verdict {
        let (logins, options) = (&self.users.logins, &self.options.login);
        let outcome = match &query {
            Query::Password { user, password } => {
                let attempt = Attempt { client, user, mechanism: "password" };
                logins.password(attempt, password, options).await
            }
            Query::Keys { user } => {
                match logins.keys(Attempt { client, user, mechanism: "scram-sha-256" }, options).await {
                    Ok(keys) => return Verdict::Auth(Answer::Keys(keys)),
                    Err(outcome) => outcome,
                }
            }
            Query::Proof { user, proven } => {
                let attempt = Attempt { client, user, mechanism: "scram-sha-256" };
                logins.proof(attempt, *proven, options).await
            }
            Query::Certificate { user } => {
                let attempt = Attempt { client, user, mechanism: "external" };
                logins.certificate(attempt, certificate, options).await
            }
        };
        let later = |text| Verdict::Reply(Reply::with_status(454, (4, 7, 0), text));
        match outcome {
            Outcome::LoggedIn(user) => Verdict::Auth(Answer::LoggedIn(user)),
            Outcome::Refused => Verdict::Auth(Answer::Refused),
            Outcome::Blocked => later("too many failed logins, try again later"),
            Outcome::Unavailable => later("cannot log anybody in now, try again later"),
        }
    }

    /// Whether this user may send as that, and whether another message.
    pub(super) async fn mail(&self, login: &str, path: &ReversePath) -> Result<(), Reply> {
        self.still_valid(login)?;
        self.sender(login, path)?;
        self.more(login, 0).await
    }

    /// Security decision: a session that is open goes on for nobody who was disabled or deleted since. Whom only the
    /// external check knows is none of our users.
    fn still_valid(&self, login: &str) -> Result<(), Reply> {
        let roster = self.users.users.now();
        let valid = match roster.get(login) {
            Some(user) => !user.disabled,
            None => self.options.login.external.is_some(),
        };
        let text = || format!("{login} was disabled or deleted, and may not send any more");
        if valid { Ok(()) } else { Err(Reply::with_status(550, (5, 7, 1), text())) }
    }

    /// Security decision: who may use which sender in the envelope. The null reverse-path is anybody's: it names nobody.
    fn sender(&self, login: &str, path: &ReversePath) -> Result<(), Reply> {
        match path {
            ReversePath::Mailbox(mailbox) if self.options.check_sender => {
                let roster = self.users.users.now();
                if roster.may_send_as(login, mailbox) { Ok(()) } else { Err(not_yours(login)) }
            }
            _ => Ok(()),
        }
    }

    /// Whether the message at hand may have one more recipient.
    pub(super) async fn more(&self, login: &str, recipients: u64) -> Result<(), Reply> {
        self.users.ask(login, recipients, &self.options.limits).await.map_err(|exceeded| {
            let text = format!("too many {}, try again later", exceeded.text());
            Reply::with_status(450, (4, 7, 1), text)
        })
    }
}

fn not_yours(login: &str) -> Reply {
    Reply::with_status(553, (5, 7, 1), format!("{login} may not send as that address"))
}
