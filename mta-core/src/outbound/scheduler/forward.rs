//! What is forwarded as messages of the queue: a recipient here stands for somebody elsewhere.
//!
//! The message enters the queue in the transaction that records the delivery, as notifications do: a kill between the two
//! loses nothing and repeats nothing. Above its header stands `Delivered-To`, by which a forward that comes back is known.
//! [`outgoing`] is the place where the sender and the header are made fit for the way out. For the seal (ARC) the content is
//! read twice, once to be hashed and once to be copied, so that memory is bounded whatever the size.

use std::io::{self, Read, Write};
use std::time::SystemTime;

use mta_queue::{Claim, NewMessage, Origin, QueueError};
use mta_smtp::address::{Mailbox, ReversePath};
use mta_smtp::envelope::{Envelope, MailParameters, Recipient};

use super::{Options, Scheduler};
use crate::auth::body::BodyDigest;
use crate::auth::dkim::{ArcSet, Sealer, Unsealed, now_seconds};
use crate::auth::srs::Srs;
use crate::content::header::Splitter;
use crate::log::Line;
use crate::outbound::attempt::Forward;
use crate::outbound::{AttemptReport, ContentSource, Outcome, Reach};
use crate::routing::Route;

/// The largest header section that is read for the seal; a message with a larger one goes on without. What is taken in has
/// at most smtp.max_header.
const MAX_HEADER_OCTETS: usize = 1 << 20;

/// A forwarded message as it leaves.
pub(super) struct Outgoing {
    /// Who is told of failures.
    pub(super) sender: ReversePath,
    /// Header fields in front of the message, each with its CR LF.
    pub(super) fields: Vec<u8>,
}

/// Makes a message fit for being forwarded: the sender as the next server shall see it, and fields in front of its header.
/// The sender becomes an address of ours (SRS), so that the next server finds that we may send for it, and a bounce finds
/// back; one that cannot be rewritten stays. The seal, where there is one, repeats what we found when we took the message.
pub(super) fn outgoing(
    sender: ReversePath,
    delivered_to: &Mailbox,
    srs: Option<&Srs>,
    seal: Option<&ArcSet>,
) -> Outgoing {
    let sender = match (&sender, srs) {
        (ReversePath::Mailbox(mailbox), Some(srs)) => {
            srs.encode(mailbox, now_seconds()).map_or(sender, ReversePath::Mailbox)
        }
        _ => sender,
    };
    let seal = seal.map(|set| set.fields.as_str()).unwrap_or_default();
    Outgoing { sender, fields: format!("Delivered-To: {delivered_to}\r\n{seal}").into_bytes() }
}

impl Scheduler {
    /// The messages that a delivery here forwards. A recipient whose message cannot be written waits.
    pub(super) fn forwards(
        &self,
        claim: &Claim<Route>,
        report: &mut AttemptReport,
        now: SystemTime,
    ) -> Vec<NewMessage> {
        let mut messages = Vec::new();
        for forward in std::mem::take(&mut report.local.forwards) {
            match self.forward_message(claim, &forward, now) {
                Ok(message) => messages.push(message),
                Err(error) => {
                    report.local.handed.retain(|place| !forward.places.contains(place));
                    let status = if error == QueueError::NoSpace { (3, 1) } else { (3, 0) };
                    let text = format!("cannot be forwarded now: {error}");
                    if let Some(of) = report.outcomes.get_mut(forward.index) {
                        of.outcome = Outcome::deferred(Reach::Recipient, status, text);
                    }
                }
            }
        }
        messages
    }

    fn forward_message(
        &self,
        claim: &Claim<Route>,
        forward: &Forward,
        now: SystemTime,
    ) -> Result<NewMessage, QueueError> {
        let message = &claim.message;
        let source =
            super::QueueContent { queue: self.queue.clone(), id: message.id, begun: Default::default() };
        let sender = match &forward.owner {
            // A notification never gets a sender: it would be answered.
            Some(owner) if !message.reverse_path.is_null() => ReversePath::Mailbox(owner.clone()),
            _ => message.reverse_path.clone(),
        };
        // The owner of a list is an address of ours.
        let options = self.options();
        let srs = options.srs.as_deref();
        let sealed = self.sealed(&source, forward, &options)?;
        let rewriter = srs.filter(|_| forward.owner.is_none());
        let outgoing = outgoing(sender, &forward.recipient.mailbox, rewriter, sealed.as_ref().ok());
        let mut content = self.queue.content();
        content.write_all(&outgoing.fields)?;
        let mut from = source.open()?;
        copy(&mut *from, &mut content)?;
        let mut envelope = Envelope::new(outgoing.sender);
        envelope.parameters = parameters(&message.parameters, forward);
        envelope.recipients = forward.to.iter().map(|to| recipient(to, forward)).collect();
        let id = self.queue.new_id();
        let line = Line::new("forwarded").with("qid", message.id).with("new_qid", id);
        let line = line.with("rcpt", format_args!("<{}>", forward.recipient.mailbox));
        let line = line.with("to", forward.to.len()).with("mailfrom", &envelope.reverse_path);
        ::log::info!("{}", line.with("arc", summary(&sealed)));
        let origin = Origin { about: Some(message.id.to_string()), ..message.origin.clone() };
        Ok(NewMessage { id, envelope, received_at: now, origin, content: content.finish()?, hold: None })
    }

    /// The ARC set for a message, made with the key of the address that forwards, or else of the domain that senders are
    /// rewritten into, or of this host.
    fn sealed(
        &self,
        source: &super::QueueContent,
        forward: &Forward,
        options: &Options,
    ) -> io::Result<Result<ArcSet, Unsealed>> {
        let Some(keys) = &self.site.keys else { return Ok(Err(Unsealed::Off)) };
        let of_address = forward.recipient.mailbox.domain().map(ToString::to_string);
        let of_sender = options.srs.as_deref().map(|srs| srs.domain().to_string());
        let domains: Vec<String> =
            of_address.into_iter().chain(of_sender).chain([options.hostname.clone()]).collect();
        let sealer = Sealer { server: &options.hostname, domains: &domains };
        if let Some(why) = keys.cannot_seal(&sealer) {
            return Ok(Err(why));
        }
        let (mut header, mut digest) = (Splitter::new(MAX_HEADER_OCTETS), BodyDigest::new(true, false));
        let mut too_long = false;
        read(&mut *source.open()?, |octets| {
            match header.take(octets) {
                Ok(body) => digest.update(body),
                Err(_) => too_long = true,
            }
            Ok(())
        })?;
        match digest.finish().relaxed {
            Some(hash) if !too_long => Ok(keys.seal_here(&sealer, &header.finish(), &hash)),
            _ => Ok(Err(Unsealed::Unverified)),
        }
    }
}

/// What was sealed, for the log.
fn summary(sealed: &Result<ArcSet, Unsealed>) -> String {
    match sealed {
        Ok(set) => format!("i={},cv={},d={}", set.instance, set.chain, set.domain),
        Err(why) => why.to_string(),
    }
}

/// What the sender asked for goes on with an alias; a list answers for itself (RFC 3461 5.2.7.1, 5.2.7.2).
fn parameters(asked: &MailParameters, forward: &Forward) -> MailParameters {
    let smtputf8 = asked.smtputf8 || forward.to.iter().any(|to| !to.is_ascii());
    let parameters = MailParameters { size_bytes: None, smtputf8, ..asked.clone() };
    match forward.owner {
        Some(_) => MailParameters { ret: None, envid: None, ..parameters },
        None => parameters,
    }
}

fn recipient(to: &Mailbox, forward: &Forward) -> Recipient {
    let asked = &forward.recipient;
    if forward.owner.is_some() {
        return Recipient::new(to.clone());
    }
    let original = || asked.mailbox.is_ascii().then(|| format!("rfc822;{}", asked.mailbox));
    Recipient { mailbox: to.clone(), notify: asked.notify, orcpt: asked.orcpt.clone().or_else(original) }
}

fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    read(from, |octets| to.write_all(octets))
}

/// Reads to the end, piece by piece.
fn read(from: &mut dyn Read, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
