//! The driver's part that only a user's session needs: questions about logins, senders and counts.

use std::sync::Arc;

use mta_smtp::address::{ForwardPath, ReversePath};
use mta_smtp::reply::Reply;
use mta_smtp::sasl::server::{Answer, Query};
use mta_smtp::server::{TlsInfo, Verdict};
use rustls::ServerConnection;

use crate::inbound::Login;
use crate::inbound::driver::Driver;
use crate::inbound::policy::RcptDecision;
use crate::inbound::receive::Receiving;
use crate::tls::client_certificate::ClientCertificate;

/// The label of the exporter and its length (RFC 9266 2).
const EXPORTER: &[u8] = b"EXPORTER-Channel-Binding";
const EXPORTER_OCTETS: usize = 32;

impl Driver {
    /// The refusal of a client that has guessed too often.
    pub(super) fn blocked(&self) -> Option<Reply> {
        self.submission.as_ref()?.blocked(self.source.client)
    }

    /// Answers a question of a login.
    pub(super) async fn authenticate(&mut self, query: Query) -> Verdict {
        match &self.submission {
            Some(submission) => {
                submission.authenticate(self.source.client, query, self.certificate.clone()).await
            }
            // Not offered here.
            None => Verdict::Auth(Answer::Refused),
        }
    }

    /// Why the client may not begin this message, if it may not. Fails closed: without a login nobody is a user.
    pub(super) async fn sender_refusal(&self, path: &ReversePath) -> Option<Reply> {
        if let Some(user) = &self.source.local {
            let refusal = self.settings.sender_refusal(user, path);
            return refusal.or_else(|| self.local_rates.refusal(user, &self.settings.options.local));
        }
        let submission = self.submission.as_ref()?;
        match self.session.login() {
            Some(login) => submission.mail(login, path).await.err(),
            None => Some(Reply::with_status(530, (5, 7, 0), "log in first")),
        }
    }

    /// The refusal of a recipient, unless it is taken.
    pub(super) async fn recipient(&self, path: &ForwardPath) -> Option<Reply> {
        if self.source.local.is_some() {
            // Who does not exist comes back as a notification, as it would from the maildrop.
            return None;
        }
        if let Some(refusal) = self.returned(path) {
            return refusal;
        }
        let may_relay = self.submission.is_some() || self.source.trusted;
        let decision = if self.settings.may_block(path) {
            let (settings, path) = (Arc::clone(&self.settings), path.clone());
            let size = self.announced_octets;
            smol::unblock(move || settings.recipient_for(may_relay, &path, size)).await
        } else {
            self.settings.recipient_for(may_relay, path, self.announced_octets)
        };
        let decision = Box::pin(self.settings.asked(decision, path)).await;
        let Some(submission) = &self.submission else {
            return decision.refusal();
        };
        let Some(login) = self.session.login() else {
            return Some(Reply::with_status(530, (5, 7, 0), "log in first"));
        };
        submission.users.tried(login, decision != RcptDecision::Unknown);
        match decision.refusal() {
            None => submission.more(login, self.recipients).await.err(),
            refusal => refusal,
        }
    }

    /// Counts a user's message, and says who sends it and whether it is held.
    pub(super) async fn sign_in(&self, receiving: &mut Receiving) {
        let (Some(submission), Some(user)) = (&self.submission, self.session.login()) else {
            return;
        };
        let recipients = receiving.envelope().recipients.len() as u64;
        let hold = submission.users.count(user, recipients, &submission.options.limits).await;
        receiving.sent_by(Login {
            user: user.to_owned(),
            roster: submission.users.users.now(),
            check_sender: submission.options.check_sender,
            hide_client: !submission.options.received_client,
            hold,
        });
    }
}

/// What a login can be bound to in this session, and the certificate that the client has shown.
pub(super) fn bind(connection: &ServerConnection, tls: &mut TlsInfo) -> Option<Arc<ClientCertificate>> {
    // RFC 9266 4.2: in older versions the exporter is unique only under conditions that nobody here can see.
    if connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) {
        let octets = vec![0; EXPORTER_OCTETS];
        tls.bindings.exporter = connection.export_keying_material(octets, EXPORTER, Some(b"")).ok();
    }
    let certificate = ClientCertificate::of(connection.peer_certificates()?)?;
    tls.client_certificate = true;
    Some(Arc::new(certificate))
}
