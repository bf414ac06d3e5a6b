//! What can be set about mail coming in.

use std::sync::Arc;
use std::time::Duration;

use mta_smtp::address::{Domain, Mailbox};
use mta_smtp::extension::Extensions;
use mta_smtp::server::{Limits, Options as SessionOptions};
use rustls::ServerConfig;

use crate::account::{Accounts, Recipient};
use crate::auth::Verifier;
use crate::auth::dkim::KeyRing;
use crate::auth::srs::Srs;
use crate::config::Network;
use crate::inbound::recipients::Relayed;
use crate::inbound::{LocalOptions, SenderRewrite, Submission, SubmissionOptions, SubmissionTls};
use crate::pause::Pauses;
use crate::user;

/// The options of the relay service.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name we give ourselves.
    pub hostname: Domain,
    /// Who receives what is sent to `<Postmaster>` without a domain; unset is the postmaster of the host name, and
    /// where that is no domain of ours, of the first of our domains.
    pub postmaster: Option<Mailbox>,
    /// Clients that may send to any domain. Everybody else reaches our own domains only. Loopback.
    pub relay_networks: Vec<Network>,
    /// The largest message taken, in octets; 0 is no limit. 35 000 000.
    pub message_size_limit: u64,
    /// Whether DSN (RFC 3461) is offered to clients outside the relay networks too: reports of success go to whomever the
    /// client names, so a stranger could make us write to anybody. No.
    pub dsn_for_strangers: bool,
    /// The bounds of one session.
    pub limits: Limits,
    /// Connections at a time. 500.
    pub sessions: usize,
    /// Connections at a time from one client; an IPv6 client counts by its /64. 100.
    pub sessions_per_client: usize,
    /// How long a client may leave a reply unread. 1 minute.
    pub write_timeout: Duration,
    /// How long the greeting waits for clients that speak before it, which are then refused. Clients in the relay
    /// networks do not wait. 0.
    pub greeting_wait: Duration,
    /// Domains of reverse-paths that are replaced in what the relay networks send. None.
    pub sender_rewrite: Option<SenderRewrite>,
    /// Whether they are replaced in the header too. Yes.
    pub rewrite_header: bool,
    /// Mail from programs on this machine.
    pub local: LocalOptions,
    /// What stands still by the administrator's wish.
    pub pauses: Pauses,
    /// Who verifies strangers' mail. Nobody.
    pub verifier: Option<Arc<Verifier>>,
    /// The keys that sign what our own networks and users send. None.
    pub keys: Option<Arc<KeyRing>>,
    /// Reads the rewritten senders that bounces come back to. Nobody.
    pub srs: Option<Arc<Srs>>,
    /// Knows who exists in relayed domains. Nobody.
    pub relayed: Option<Relayed>,
}

impl Options {
    /// The defaults, for a host of this name.
    pub fn new(hostname: Domain) -> Self {
        Self {
            local: LocalOptions::new(hostname.clone()),
            hostname,
            postmaster: None,
            relay_networks: ["127.0.0.0/8", "::1/128"]
                .iter()
                .filter_map(|network| Network::parse(network).ok())
                .collect(),
            message_size_limit: 35_000_000,
            dsn_for_strangers: false,
            limits: Limits::default(),
            sessions: 500,
            sessions_per_client: 100,
            write_timeout: Duration::from_secs(60),
            greeting_wait: Duration::ZERO,
            sender_rewrite: None,
            rewrite_header: true,
            pauses: Pauses::default(),
            verifier: None,
            keys: None,
            srs: None,
            relayed: None,
        }
    }
}

/// Everything a session is made with. A reload makes new ones for the sessions that follow.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) options: Options,
    /// For clients in the relay networks.
    pub(super) session: Arc<SessionOptions>,
    /// For programs on this machine.
    pub(super) local_session: Arc<SessionOptions>,
    /// For everybody else.
    pub(super) stranger_session: Arc<SessionOptions>,
    pub(super) accounts: Arc<Accounts>,
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// For users; without it nobody can log in.
    pub(super) submission: Option<Arc<Submission>>,
}

impl Settings {
    /// Settings from the options, our domains, and TLS if it is to be offered.
    pub fn new(options: Options, accounts: Arc<Accounts>, tls: Option<Arc<ServerConfig>>) -> Arc<Self> {
        let extensions = Extensions {
            starttls: tls.is_some(),
            size_limit: options.message_size_limit,
            dsn: true,
            smtputf8: true,
            // Offered inside TLS only.
            require_tls: tls.is_some(),
            ..Extensions::default()
        };
        let session = SessionOptions {
            hostname: options.hostname.clone(),
            postmaster: postmaster_mailbox(&options, &accounts),
            extensions,
            require_auth: false,
            limits: options.limits.clone(),
        };
        let mut stranger_session = session.clone();
        stranger_session.extensions.dsn = options.dsn_for_strangers;
        let mut local_session = session.clone();
        local_session.extensions.starttls = false;
        // What is between such a program and us needs no TLS.
        local_session.extensions.require_tls = true;
        let (session, stranger_session) = (Arc::new(session), Arc::new(stranger_session));
        let local_session = Arc::new(local_session);
        let submission = None;
        Arc::new(Self { options, session, local_session, stranger_session, accounts, tls, submission })
    }

    /// The same, with the service for users.
    #[must_use]
    pub fn with_submission(
        self: Arc<Self>,
        options: SubmissionOptions,
        tls: Option<SubmissionTls>,
        users: Arc<user::Service>,
    ) -> Arc<Self> {
        let submission = Submission::new(options, &self.session, tls, users);
        let settings = Arc::unwrap_or_clone(self);
        Arc::new(Self { submission: Some(Arc::new(submission)), ..settings })
    }
}

/// Who is meant by `<Postmaster>`, where somebody stands behind the name.
pub fn postmaster(options: &Options, accounts: &Accounts) -> Option<Mailbox> {
    let mailbox = postmaster_mailbox(options, accounts);
    let found = accounts.recipient(&mailbox);
    // Where it cannot be said now the mail is taken, and waits.
    let ours = found.is_taken() || matches!(found, Recipient::Unclear(_));
    (ours || options.postmaster.is_some()).then_some(mailbox)
}

/// Who is meant by `<Postmaster>`.
fn postmaster_mailbox(options: &Options, accounts: &Accounts) -> Mailbox {
    let configured = options.postmaster.clone();
    configured.unwrap_or_else(|| {
        let own = accounts.domains().min();
        let domain = if accounts.is_local(&options.hostname) {
            &options.hostname
        } else {
            own.unwrap_or(&options.hostname)
        };
        Mailbox::postmaster(domain.clone())
    })
}
