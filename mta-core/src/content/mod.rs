//! What is done with a message between its last octet and the queue: the content stage.
//!
//! The header section is in memory, apart from the body, which streams by (`header`). When all of it is here, [`process`]
//! runs the stages in their fixed order:
//!
//! 1. addresses of our own mail made whole (`addresses`), then the fix-up of what our own users submit;
//! 2. verification of what strangers send;
//! 3. the trace line (`trace`);
//! 4. the DKIM signature, which has to come last.
//!
//! Each stage sees what those before it left, and may end the matter by a [`Disposition`]. Every door goes through here:
//! SMTP, submission, and the local socket. What it does not: it holds no body and writes nothing to disk.

pub(crate) mod addresses;
pub(crate) mod fixup;
pub(crate) mod header;
pub(crate) mod message_id;
pub(crate) mod own;
mod trace;

use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use mta_queue::QueueId;
use mta_smtp::address::{Domain, ReversePath};
use mta_smtp::envelope::Envelope;
use mta_smtp::reply::Reply;
use mta_smtp::server::TlsInfo;

use crate::auth::dkim::KeyRing;
use crate::auth::policy::{Judgement, evaluated, judge};
use crate::auth::{BodyHashes, Subject, Verifier, results};
use crate::content::addresses::AddressRules;
use crate::content::header::Header;
use crate::content::trace::Trace;
use crate::inbound::Source;

/// How a message came: what the stages go by.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// The queue id.
    pub(crate) id: QueueId,
    /// When it began to come.
    pub(crate) received_at: SystemTime,
    /// Who sent it.
    pub(crate) source: Source,
    /// The name the client gave itself.
    pub(crate) client_name: String,
    /// The protocol, as the trace line names it: `ESMTPS`.
    pub(crate) protocol: &'static str,
    /// TLS, if the session had it.
    pub(crate) tls: Option<TlsInfo>,
    /// Our name.
    pub(crate) hostname: Domain,
    /// Who verifies it; nobody where it is from our own networks or users.
    pub(crate) verifier: Option<Arc<Verifier>>,
    /// What is changed in the addresses of its header.
    pub(crate) addresses: AddressRules,
    /// The keys to sign it with, where it is ours.
    pub(crate) keys: Option<Arc<KeyRing>>,
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// Into the queue.
    Accept,
    /// Into the queue, and held there until the administrator releases it; for this reason.
    Hold(String),
    /// Not taken; the client hears this.
    Refuse(Reply),
}

/// What the stages came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Processed {
    /// What becomes of the message.
    pub(crate) disposition: Disposition,
    /// The results of verification in a few words; absent where there was none.
    pub(crate) auth: Option<String>,
}

/// Runs the stages.
pub(crate) async fn process(
    header: &mut Header,
    bodies: &BodyHashes,
    envelope: &Envelope,
    arrival: &Arrival,
) -> Processed {
    let mut auth = None;
    // Security decision: nothing of a stranger goes on where a field of ours ends (RFC 5322 2.2.3).
    if header.begins_folded() {
        let reply = Reply::with_status(
            550,
            (5, 6, 0),
            "the first header line begins with a blank, as if it went on from a line before (RFC 5322 2.2.3)",
        );
        return Processed { disposition: Disposition::Refuse(reply), auth };
    }
    addresses::apply(header, &arrival.addresses, envelope.parameters.smtputf8);
    if let Some(login) = &arrival.source.login
        && let Err(reply) = fixup::submitted(header, envelope, arrival, login)
    {
        return Processed { disposition: Disposition::Refuse(reply), auth };
    }
    match &arrival.verifier {
        Some(verifier) => {
            let (judgement, summary) = verified(verifier, header, bodies, envelope, arrival).await;
            auth = Some(summary);
            if let Judgement::Refuse(reply) = judgement {
                return Processed { disposition: Disposition::Refuse(reply), auth };
            }
        }
        None => {
            results::remove_forged(header, &arrival.hostname.to_string());
        }
    }
    header.prepend(&Trace::of(envelope, arrival).field());
    if let (Some(keys), Some(hash)) = (&arrival.keys, &bodies.relaxed) {
        let signatures = keys.sign(header, hash).await;
        header.prepend(&signatures);
    }
    let disposition = match arrival.source.login.as_ref().and_then(|login| login.hold.clone()) {
        Some(reason) => Disposition::Hold(reason),
        None => Disposition::Accept,
    };
    Processed { disposition, auth }
}

/// Verification of what a stranger sends. The header section gets our results, and loses what claims to be our results.
async fn verified(
    verifier: &Verifier,
    header: &mut Header,
    bodies: &BodyHashes,
    envelope: &Envelope,
    arrival: &Arrival,
) -> (Judgement, String) {
    let (client, helo) = (arrival.source.client, arrival.client_name.as_str());
    let reverse_path = &envelope.reverse_path;
    let verdicts =
        verifier.verify(&Subject { client, helo, reverse_path, header: header.octets(), bodies }).await;
    let judgement = judge(verifier.options(), &verdicts, *reverse_path == ReversePath::Null);
    if let Some(counter) = verifier.counter() {
        let evaluated = evaluated(verifier.options(), &verdicts, &judgement);
        let sender = reverse_path.mailbox().map(|mailbox| mailbox.host().to_string());
        counter.count(client, sender.as_deref(), header, &verdicts, &evaluated, SystemTime::now());
    }
    let server = arrival.hostname.to_string();
    results::remove_forged(header, &server);
    let mail_from = reverse_path.mailbox().map(ToString::to_string);
    let mut fields = results::field(&server, &verdicts, client, mail_from.as_deref());
    if let Judgement::Mark(mark) = judgement {
        fields.push_str(mark);
    }
    header.prepend(&fields);
    (judgement, verdicts.summary())
}

/// The time as RFC 5322 3.3 writes it, in UTC.
pub(crate) fn date(time: SystemTime) -> String {
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
}
