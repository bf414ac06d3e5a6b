//! One message on its way into the queue: content, stages, commit, reply.
//!
//! What it does: keeps the header section, streams the body to the queue's writer, with memory bounded whatever the size,
//! lets the stages of `content` decide at the end, and turns the queue's answer into the reply to the end of data. 250 is
//! said only after the queue's commit is on stable storage. What it does not: it never looks into the content. Dropped at
//! any point, it leaves nothing behind.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::SystemTime;

use mta_queue::{ContentWriter, NewMessage, Origin, OriginKind, Presence, Queue, QueueError, QueueId};
use mta_smtp::envelope::{Envelope, HeaderFacts};
use mta_smtp::reply::Reply;
use mta_smtp::server::Session;

use crate::auth::body::BodyDigest;
use crate::auth::{self, BodyHashes};
use crate::content::header::{Splitter, TooLong};
use crate::content::message_id::message_id;
use crate::content::{self, Arrival, Disposition};
use crate::inbound::{LocalUser, Settings};
use crate::user::Roster;

/// Content up to this size stays in memory at the queue's writer, and writing it does not block.
const IN_MEMORY_OCTETS: u64 = 32 * 1024;

/// Where a message comes from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The client's address.
    pub(crate) client: IpAddr,
    /// Whether the client may relay.
    pub(crate) trusted: bool,
    /// The user of the system, where it is a program on this machine.
    pub(crate) local: Option<LocalUser>,
    /// Who has logged in.
    pub(crate) login: Option<Arc<Login>>,
}

/// A user who has logged in, and what holds for the message that he sends.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    /// The login name.
    pub(crate) user: String,
    /// As whom he may send.
    pub(crate) roster: Arc<Roster>,
    /// Whether that is checked.
    pub(crate) check_sender: bool,
    /// The trace line does not tell where he is.
    pub(crate) hide_client: bool,
    /// Why what he sends is held.
    pub(crate) hold: Option<String>,
}

impl Source {
    /// A client on the network.
    pub(crate) fn network(client: IpAddr, trusted: bool) -> Self {
        Self { client, trusted, local: None, login: None }
    }

    /// A program on this machine.
    pub(crate) fn local(user: LocalUser) -> Self {
        Self { client: IpAddr::V4(Ipv4Addr::LOCALHOST), trusted: true, local: Some(user), login: None }
    }

    /// The client, for the log.
    pub(crate) fn name(&self) -> String {
        match &self.local {
            Some(user) => format!("local:{}", user.name),
            None => self.client.to_string(),
        }
    }

    /// Whether the trace line is not to tell where the message came from.
    pub(crate) fn hides_client(&self) -> bool {
        self.login.as_ref().is_some_and(|login| login.hide_client)
    }
}

/// A message whose content is arriving.
#[derive(Debug)]
pub(super) struct Receiving {
    queue: Queue,
    envelope: Envelope,
    arrival: Arrival,
    header: Splitter,
    /// Hashes the body for whoever needs that, once the header section is whole.
    digest: Option<BodyDigest>,
    /// The body, or why there will be none; the client hears of it at the end of data.
    body: Result<ContentWriter, Failure>,
}

/// Why a message cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The queue cannot store it.
    Storage(QueueError),
    /// A stage of the content refuses it.
    Refused(Reply),
}

impl Failure {
    /// What the client is told.
    fn reply(&self) -> Reply {
        match self {
            Self::Storage(error) => refusal(error),
            Self::Refused(reply) => reply.clone(),
        }
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        Self::Storage(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// How taking a message ended.
#[derive(Debug)]
pub(super) struct Received {
    /// Whether the queue has the message.
    pub(super) result: Result<(), Failure>,
    /// The results of verification, for the log.
    pub(super) auth: Option<String>,
    /// What the client is told.
    pub(super) reply: Reply,
}

impl Receiving {
    /// Begins a message: takes an id.
    pub(super) fn begin(
        queue: &Queue,
        envelope: Envelope,
        session: &Session,
        source: &Source,
        settings: &Settings,
    ) -> Self {
        // Of our own networks, of a program here, or of a user who has logged in.
        let ours = source.trusted || session.login().is_some();
        let arrival = Arrival {
            id: queue.new_id(),
            received_at: SystemTime::now(),
            source: source.clone(),
            client_name: session.client_name().unwrap_or_default().to_owned(),
            protocol: protocol(session.protocol(), envelope.parameters.smtputf8),
            tls: session.tls().cloned(),
            hostname: settings.options.hostname.clone(),
            verifier: settings.options.verifier.clone().filter(|_| !ours),
            addresses: settings.address_rules(source, session.login()),
            keys: settings.options.keys.clone().filter(|_| ours),
        };
        let header = Splitter::new(settings.options.limits.header_octets);
        Self { queue: queue.clone(), envelope, arrival, header, digest: None, body: Ok(queue.content()) }
    }

    /// The queue id.
    pub(super) fn id(&self) -> QueueId {
        self.arrival.id
    }

    /// The envelope.
    pub(super) fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Takes the next part of the content. A failure is remembered and what follows is dropped.
    pub(super) async fn write(mut self: Box<Self>, bytes: Vec<u8>) -> Box<Self> {
        self.body = match self.body {
            Ok(body) => {
                let in_section = !self.header.is_over();
                let of_body = self.header.take(&bytes).map(<[u8]>::len);
                if in_section && self.header.is_over() {
                    self.digest = digest(&self.arrival, self.header.octets());
                }
                match of_body {
                    Ok(octets) => write(body, self.digest.as_mut(), bytes, octets).await,
                    Err(TooLong) => {
                        let reply = Reply::with_status(552, (5, 3, 4), "header section too big");
                        Err(Failure::Refused(reply))
                    }
                }
            }
            Err(failure) => Err(failure),
        };
        self
    }

    /// Whether its content is so large that nobody should wait for it.
    pub(super) fn is_large(&self) -> bool {
        self.body.as_ref().is_ok_and(|body| body.size_bytes() > IN_MEMORY_OCTETS)
    }

    /// Says who sends this, and what holds for it.
    pub(super) fn sent_by(&mut self, login: Login) {
        self.arrival.source.login = Some(Arc::new(login));
    }

    /// Lets the stages decide, hands the whole message to the queue and waits for its commit.
    pub(super) async fn commit(
        mut self: Box<Self>,
        header: HeaderFacts,
        presence: &mut Presence,
    ) -> Received {
        let id = self.id();
        self.envelope.parameters.header = header;
        let mut auth = None;
        let result = self.accept(&mut auth, presence).await;
        let reply = match &result {
            Ok(()) => Reply::with_status(250, (2, 0, 0), format!("queued as {id}")),
            Err(failure) => failure.reply(),
        };
        Received { result, auth, reply }
    }

    async fn accept(self, auth: &mut Option<String>, presence: &mut Presence) -> Result<(), Failure> {
        let Self { queue, envelope, arrival, header, digest, body } = self;
        let (body, mut header) = (body?, header.finish());
        let bodies = digest.map_or_else(BodyHashes::default, BodyDigest::finish);
        if arrival.verifier.is_some() {
            // Who asks the DNS is not waited for.
            presence.rest();
        }
        let processed = content::process(&mut header, &bodies, &envelope, &arrival).await;
        *auth = processed.auth;
        let hold = match processed.disposition {
            Disposition::Accept => None,
            Disposition::Hold(reason) => Some(reason),
            Disposition::Refuse(reply) => return Err(Failure::Refused(reply)),
        };
        let origin = Origin { message_id: message_id(&header), auth: auth.clone(), ..origin(&arrival) };
        let front = header.into_front();
        let content = if body.size_bytes() > IN_MEMORY_OCTETS {
            smol::unblock(move || body.finish_behind(front)).await?
        } else {
            body.finish_behind(front)?
        };
        let (id, received_at) = (arrival.id, arrival.received_at);
        let message = NewMessage { id, envelope, received_at, origin, content, hold };
        let (done, committed) = async_channel::bounded(1);
        queue.accept_from(presence, message, move |result| {
            // The session may be gone; the message is the queue's all the same.
            let _ = done.try_send(result);
        });
        let result = committed.recv().await.unwrap_or(Err(QueueError::Closed));
        presence.heard();
        Ok(result?)
    }
}

/// What hashes the body, once the header section is whole: for the signatures in it, or for ours.
fn digest(arrival: &Arrival, header: &[u8]) -> Option<BodyDigest> {
    match (&arrival.verifier, &arrival.keys) {
        (Some(_), _) => Some(auth::digest_for(header)),
        (None, Some(keys)) if !keys.signing().is_empty() => Some(BodyDigest::new(true, false)),
        _ => None,
    }
}

/// What the history keeps of how a message came.
fn origin(arrival: &Arrival) -> Origin {
    let Arrival { source, tls, client_name, .. } = arrival;
    if let Some(user) = &source.local {
        return Origin { kind: OriginKind::Local, user: Some(user.name.clone()), ..Origin::default() };
    }
    Origin {
        kind: if source.trusted || source.login.is_some() {
            OriginKind::Submission
        } else {
            OriginKind::Smtp
        },
        client: Some(source.client),
        user: source.login.as_ref().map(|login| login.user.clone()),
        helo: Some(client_name.clone()),
        tls: tls.as_ref().map(|tls| format!("{} {}", tls.version, tls.cipher)),
        ..Origin::default()
    }
}

/// The protocol's name for the trace line, which says so where a message came with SMTPUTF8 (RFC 6531 4.3).
fn protocol(plain: &'static str, smtputf8: bool) -> &'static str {
    match (plain, smtputf8) {
        ("ESMTPS", true) => "UTF8SMTPS",
        ("ESMTPA", true) => "UTF8SMTPA",
        ("ESMTPSA", true) => "UTF8SMTPSA",
        (_, true) => "UTF8SMTP",
        (plain, false) => plain,
    }
}

/// The reply to a failure of storage: always temporary, so that the mail stays with the client.
pub(super) fn refusal(error: &QueueError) -> Reply {
    match error {
        QueueError::NoSpace => Reply::with_status(452, (4, 3, 1), "no space left, try again later"),
        _ => Reply::with_status(451, (4, 3, 0), "cannot store the message, try again later"),
    }
}

/// Writes the last octets of a piece, which are of the body, on a thread that may block once the content outgrows the
/// memory of the queue's writer.
async fn write(
    mut body: ContentWriter,
    digest: Option<&mut BodyDigest>,
    bytes: Vec<u8>,
    octets: usize,
) -> Result<ContentWriter, Failure> {
    let from = bytes.len().saturating_sub(octets);
    let of_body = bytes.get(from..).unwrap_or_default();
    if let Some(digest) = digest {
        digest.update(of_body);
    }
    if body.size_bytes() + (octets as u64) <= IN_MEMORY_OCTETS {
        body.write_all(of_body)?;
        return Ok(body);
    }
    let write = move || body.write_all(bytes.get(from..).unwrap_or_default()).map(|()| body);
    Ok(smol::unblock(write).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_of_storage_leaves_the_mail_with_the_client() {
        let failures = [
            QueueError::NoSpace,
            QueueError::Closed,
            QueueError::Invalid("x"),
            QueueError::Storage("y".to_owned()),
        ];
        for failure in failures {
            assert_eq!(refusal(&failure).code / 100, 4);
        }
        assert_eq!(refusal(&QueueError::NoSpace).to_string(), "452 4.3.1 no space left, try again later");
    }
}
