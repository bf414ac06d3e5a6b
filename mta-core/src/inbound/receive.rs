//! One message on its way into the queue: trace line, content, commit, reply.
//!
//! What it does: streams content to the queue's writer, with memory bounded whatever the size, and turns the queue's
//! answer into the reply to the end of data. 250 is said only after the queue's commit is on stable storage. What it
//! does not: it never looks into the content. Dropped at any point, it leaves nothing behind.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use mta_queue::{ContentWriter, NewMessage, Origin, OriginKind, Queue, QueueError, QueueId};
use mta_smtp::address::Domain;
use mta_smtp::envelope::{Envelope, HeaderFacts};
use mta_smtp::reply::Reply;
use mta_smtp::server::Session;

use crate::inbound::message_id::MessageId;
use crate::inbound::trace::Trace;

/// Content up to this size stays in memory at the queue's writer, and writing it does not block.
const IN_MEMORY_OCTETS: u64 = 32 * 1024;

/// Where a message comes from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The client's address.
    pub(super) client: IpAddr,
    /// Whether the client may relay.
    pub(super) trusted: bool,
}

/// A message whose content is arriving.
#[derive(Debug)]
pub(super) struct Receiving {
    queue: Queue,
    id: QueueId,
    envelope: Envelope,
    origin: Origin,
    received_at: SystemTime,
    message_id: MessageId,
    /// Empty after storage failed; the client hears of it at the end of data.
    content: Result<ContentWriter, QueueError>,
}

/// How taking a message ended.
#[derive(Debug)]
pub(super) struct Received {
    /// Whether the queue has the message.
    pub(super) result: Result<(), QueueError>,
    /// What the client is told.
    pub(super) reply: Reply,
}

impl Receiving {
    /// Begins a message: takes an id and writes the trace line.
    pub(super) fn begin(
        queue: &Queue,
        envelope: Envelope,
        session: &Session,
        source: &Source,
        hostname: &Domain,
    ) -> Self {
        let (id, received_at) = (queue.new_id(), SystemTime::now());
        let recipient = match envelope.recipients.as_slice() {
            [only] => Some(&only.mailbox),
            _ => None,
        };
        let client_name = session.client_name().unwrap_or_default();
        let trace = Trace {
            client_name,
            client: source.client,
            hostname,
            protocol: protocol(session.protocol(), envelope.parameters.smtputf8),
            tls: session.tls(),
            id: &id.to_string(),
            recipient,
            date: &date(received_at),
        };
        let mut content = queue.content();
        let written = content.write_all(trace.field().as_bytes());
        let origin = Origin {
            kind: if source.trusted { OriginKind::Submission } else { OriginKind::Smtp },
            client: Some(source.client),
            helo: Some(client_name.to_owned()),
            tls: session.tls().map(|tls| format!("{} {}", tls.version, tls.cipher)),
            ..Origin::default()
        };
        let content = written.map(|()| content).map_err(QueueError::from);
        let message_id = MessageId::default();
        Self { queue: queue.clone(), id, envelope, origin, received_at, message_id, content }
    }

    /// The queue id.
    pub(super) fn id(&self) -> QueueId {
        self.id
    }

    /// The envelope.
    pub(super) fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Takes the next part of the content. A failure of storage is remembered and what follows is dropped.
    pub(super) async fn write(mut self, bytes: Vec<u8>) -> Self {
        self.message_id.read(&bytes);
        self.content = match self.content {
            Ok(content) => write(content, bytes).await.map_err(QueueError::from),
            Err(error) => Err(error),
        };
        self
    }

    /// Hands the whole message to the queue and waits for its commit.
    pub(super) async fn commit(mut self, header: HeaderFacts) -> Received {
        let id = self.id;
        self.envelope.parameters.header = header;
        let result = self.accept().await;
        let reply = match &result {
            Ok(()) => Reply::with_status(250, (2, 0, 0), format!("queued as {id}")),
            Err(error) => refusal(error),
        };
        Received { result, reply }
    }

    async fn accept(self) -> Result<(), QueueError> {
        let content = self.content?;
        let content = if content.size_bytes() > IN_MEMORY_OCTETS {
            smol::unblock(move || content.finish()).await?
        } else {
            content.finish()?
        };
        let message = NewMessage {
            id: self.id,
            envelope: self.envelope,
            received_at: self.received_at,
            origin: Origin { message_id: self.message_id.finish(), ..self.origin },
            content,
        };
        let (done, committed) = async_channel::bounded(1);
        self.queue.accept(message, move |result| {
            // The session may be gone; the message is the queue's all the same.
            let _ = done.try_send(result);
        });
        committed.recv().await.unwrap_or(Err(QueueError::Closed))
    }
}

/// The protocol's name for the trace line, which says so where a message came with SMTPUTF8 (RFC 6531 4.3).
fn protocol(plain: &'static str, smtputf8: bool) -> &'static str {
    match (plain, smtputf8) {
        ("ESMTPS", true) => "UTF8SMTPS",
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

/// Writes on a thread that may block once the content outgrows the memory of the queue's writer.
async fn write(mut content: ContentWriter, bytes: Vec<u8>) -> io::Result<ContentWriter> {
    if content.size_bytes() + (bytes.len() as u64) <= IN_MEMORY_OCTETS {
        content.write_all(&bytes)?;
        return Ok(content);
    }
    smol::unblock(move || content.write_all(&bytes).map(|()| content)).await
}

/// The time as RFC 5322 3.3 writes it, in UTC.
fn date(time: SystemTime) -> String {
    let timestamp = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    jiff::fmt::rfc2822::to_string(&timestamp.to_zoned(TimeZone::UTC)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn dates_by_rfc5322_3_3() {
        assert_eq!(date(UNIX_EPOCH + Duration::from_secs(1_795_471_428)), "Mon, 23 Nov 2026 22:03:48 +0000");
    }

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
