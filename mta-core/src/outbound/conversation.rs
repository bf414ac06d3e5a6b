//! One connection to one address of a host: opened, secured, used, left.
//!
//! `may_send` is asked once more before the envelope leaves. What it does not: it chooses no host and no address (`host`),
//! and it classifies nothing itself (see `outcome`).

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use mta_dane::failure::ResultType;
use mta_dane::reference::{a_labels, text};
use mta_smtp::address::{Domain, Host, Mailbox, ReversePath};
use mta_smtp::client::{
    Capabilities, Cause, Decided, Failure, Protocol, Session, Settings, StartTlsResult, Step, TlsUse,
    Transaction, TransactionReport,
};
use mta_smtp::envelope::Recipient;
use mta_smtp::reply::ReplyClass;
use mta_smtp::sasl::Credentials;
use smol::net::TcpStream;

use super::attempt::{Flow, Purpose, Run, millis, unix};
use super::connect::{self, Forbidden};
use super::decision::{ReuseRecord, TryRecord};
use super::host::{Ended, Target};
use super::outcome::{self, Outcome, Reach};
use super::pool::{Parked, Terms};
use super::session::{Connection, Event, Message, Stream};
use super::tls_policy::Requirement;
use super::{examine, record, triage};
use crate::routing::RelayAuth;
use crate::tls::client::{Demand, HandshakeError, Seen};

/// A session in hand, new or used before.
struct Open {
    connection: Connection,
    /// When its connection was begun.
    opened: Instant,
    opened_at_unix: u64,
    /// Messages it carried before this one.
    messages: u32,
    /// It is without TLS because that failed on a connection before. The next message tries TLS again.
    fallback: bool,
}

/// The largest secret file read, in octets.
const MAX_SECRET_BYTES: u64 = 4096;

impl Run<'_> {
    /// One connection, from opening to goodbye.
    pub(super) async fn connection(&mut self, target: &Target<'_>, tls: TlsUse) -> Ended {
        let started = Instant::now();
        self.host_record().tries.push(TryRecord {
            address: target.address.to_string(),
            starttls: "not used".to_owned(),
            ..TryRecord::default()
        });
        let ended = self.open_and_use(target, tls, started).await;
        let reason = match &ended {
            Ended::NoTls(error) => Some(error.to_string()),
            Ended::Mismatch(error) => Some(triage::told(&error.to_string(), self.host_record())),
            Ended::Flow(_) | Ended::Gone => None,
        };
        if let Some(reason) = reason {
            // Where TLS was only an offer of ours, the connection without it decides.
            if target.requirement.is_tls_mandatory() {
                self.log_refusal(&target.remote, &reason);
                self.settle_open(&self.without_tls(&reason).at(&target.remote));
            }
            self.try_record().result = reason;
        }
        self.try_record().elapsed_ms = millis(started.elapsed());
        ended
    }

    async fn open_and_use(&mut self, target: &Target<'_>, tls: TlsUse, started: Instant) -> Ended {
        let timeout = self.left(self.context.options.connect_timeout);
        let tcp = match connect::connect_within(target.address, &self.context.options, timeout).await {
            Ok(tcp) => tcp,
            Err(error) => {
                let reason = format!("no connection: {error}");
                self.try_record().result.clone_from(&reason);
                self.try_record().connect_error = Some(connect::error_word(&error).to_owned());
                self.settle_open(&Outcome::deferred(Reach::Host, (4, 1), reason).at(&target.remote));
                return Ended::Flow(Flow::NextAddress);
            }
        };
        self.try_record().connect_ms = Some(millis(started.elapsed()));
        self.try_record().source = tcp.local_addr().ok().map(|address| address.ip().to_string());
        if connect::is_own(&tcp, &self.context.options) {
            let reason = format!("{} {}", target.address.ip(), Forbidden::Own);
            self.try_record().result.clone_from(&reason);
            return Ended::Flow(self.own_address(&reason, &target.remote));
        }
        let fallback = tls != target.tls;
        let (stream, tls) = match tls {
            TlsUse::Implicit { .. } => match self.handshake(tcp, target).await {
                Ok((stream, verified)) => (stream, TlsUse::Implicit { verified }),
                Err(ended) => return ended,
            },
            _ => (Stream::Plain(tcp), tls),
        };
        let options = &self.context.options;
        let settings = Settings {
            protocol: Protocol::Smtp,
            host_name: options.host_name.clone(),
            tls,
            credentials: target.login.clone(),
            eight_bit: options.eight_bit,
            limits: options.smtp,
        };
        let connection = Connection::new(stream, settings, &self.message());
        let opened_at_unix = unix(SystemTime::now());
        let open = Open { connection, opened: started, opened_at_unix, messages: 0, fallback };
        self.converse(open, target, started).await
    }

    fn message(&self) -> Message {
        let (content, size_bytes) = (Arc::clone(&self.job.content), self.job.size_bytes);
        Message { content, size_bytes, until: self.ends() }
    }

    /// All that the message demands of a connection to the target.
    pub(super) fn terms(&self, target: &Target<'_>) -> Terms {
        let options = &self.context.options;
        let mut requirement = target.requirement.clone();
        // A set has no order, and servers change it from answer to answer.
        if let Requirement::Authenticated(Demand::Dane(demand)) = &mut requirement {
            demand.records.sort_unstable();
            demand.unusable.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        }
        let reason = self.decision.hosts.last().map(|host| host.requirement_reason.clone());
        Terms {
            host: target.remote.host.clone(),
            address: target.address,
            source: connect::source(target.address, options).map(|source| source.ip()),
            host_name: options.host_name.clone(),
            requirement,
            reason: reason.unwrap_or_default(),
            implicit: matches!(target.tls, TlsUse::Implicit { .. }),
            login: target.login.clone(),
            require_tls: self.job.parameters.require_tls,
        }
    }

    /// The conversation on a session that rested. Where it turns out to be of no use before the server saw any of the
    /// content, that says nothing about the host, and a new connection decides.
    pub(super) async fn again(&mut self, parked: Parked, target: &Target<'_>) -> Ended {
        let started = Instant::now();
        let Parked { mut connection, opened, opened_at_unix, tls, messages, .. } = parked;
        let age_seconds = opened.elapsed().as_secs();
        self.host_record().tries.push(TryRecord {
            address: target.address.to_string(),
            reused: Some(ReuseRecord { opened_at_unix, age_seconds, message: messages.saturating_add(1) }),
            tls,
            ..TryRecord::default()
        });
        connection.renew(&self.message());
        let open = Open { connection, opened, opened_at_unix, messages, fallback: false };
        let ended = self.converse(open, target, started).await;
        self.try_record().elapsed_ms = millis(started.elapsed());
        ended
    }

    /// The conversation on an open connection.
    async fn converse(&mut self, mut open: Open, target: &Target<'_>, started: Instant) -> Ended {
        // Each recipient is named once on a connection, in transactions of bounded size.
        let mut waiting = self.not_asked();
        let mut current: Vec<usize> = Vec::new();
        let mut flow = Flow::NextHost;
        let mut content_with_us = true;
        let mut is_first = true;
        loop {
            let event = open.connection.next().await;
            self.note(&mut open.connection, &current, started);
            match event {
                Event::StartTls => {
                    let Some(tcp) = open.connection.take_plain() else {
                        return Ended::Flow(Flow::NextAddress);
                    };
                    match self.handshake(tcp, target).await {
                        Ok((Stream::Tls(stream), verified)) => open.connection.tls_started(stream, verified),
                        Ok(_) => return Ended::Flow(Flow::NextAddress),
                        Err(ended) => return ended,
                    }
                }
                Event::Ready if self.purpose == Purpose::Probe => {
                    examine::READY.clone_into(&mut self.try_record().result);
                    open.connection.goodbye().await;
                    return Ended::Flow(Flow::NextAddress);
                }
                Event::Ready => {
                    let session = open.connection.session();
                    let count = self.group(&waiting, session.offer());
                    if count == 0 || flow == Flow::Stop {
                        self.part(open, target, content_with_us);
                        return Ended::Flow(flow);
                    }
                    if !session.may_begin() {
                        return self.not_more(open, waiting);
                    }
                    if !may_send(target.requirement, session) {
                        // Cannot be: the session enforces it. Should it ever be, nothing is sent.
                        let reason = "TLS is mandatory and is not there";
                        self.settle_open(&Outcome::deferred(Reach::Host, (7, 5), reason).at(&target.remote));
                        reason.clone_into(&mut self.try_record().result);
                        return Ended::Flow(Flow::NextHost);
                    }
                    self.transactions += usize::from(is_first);
                    current = waiting.drain(..count).collect();
                    open.connection.begin(self.transaction(&current));
                }
                Event::Done(report) if is_first && open.messages > 0 && is_gone(&report.decided) => {
                    return self.gone(open, &report);
                }
                Event::Done(report) => {
                    let reports_passed_on = open.connection.session().offer().dsn;
                    flow = self.settle_transaction(&report, &current, target, reports_passed_on);
                    (is_first, content_with_us) = (false, is_content(&report.decided));
                }
                // What comes after the last word about the message is no longer about it.
                Event::Failed(_) if !is_first && self.open().is_empty() => return Ended::Flow(flow),
                Event::Failed(failure) => {
                    let said = self.failed(&failure, &open.connection, target);
                    open.connection.quit();
                    return said;
                }
                Event::Closed => return Ended::Flow(flow),
            }
        }
    }

    /// How many of those who wait go into one transaction: as many as we like and the server takes (RFC 9422 4.2, 4.3).
    fn group(&self, waiting: &[usize], offer: &Capabilities) -> usize {
        let limit = |limit: Option<u32>| limit.map_or(usize::MAX, |limit| limit as usize);
        let count = self.context.options.max_recipients.max(1).min(limit(offer.rcpt_max));
        let mut domains: Vec<&Host> = Vec::new();
        let fits = waiting.iter().take(count).take_while(|index| {
            let recipient = self.job.recipients.get(**index);
            if let Some(host) = recipient.map(|recipient| recipient.mailbox.host())
                && !domains.contains(&host)
            {
                domains.push(host);
            }
            domains.len() <= limit(offer.rcpt_domain_max)
        });
        fits.count()
    }

    /// The server takes no more transactions in this session, and there are more recipients.
    fn not_more(&mut self, open: Open, waiting: Vec<usize>) -> Ended {
        self.transactions = self.transactions.saturating_sub(1);
        self.put_off(waiting);
        open.connection.quit();
        Ended::Flow(Flow::SameAddress)
    }

    /// A session that rested was of no use; a new connection decides. Nothing was noted for any recipient.
    fn gone(&mut self, open: Open, report: &TransactionReport) -> Ended {
        self.transactions = self.transactions.saturating_sub(1);
        let told = record::transaction(report);
        self.try_record().result =
            format!("{told}; the session was no longer good, so another one was opened");
        open.connection.quit();
        Ended::Gone
    }

    /// Leaves a session that has done its work to the next message, where it may.
    fn part(&mut self, mut open: Open, target: &Target<'_>, content_with_us: bool) {
        let session = open.connection.session();
        if !content_with_us || open.fallback || session.transactions() == 0 {
            return open.connection.quit();
        }
        open.connection.rest();
        let Open { connection, opened, opened_at_unix, messages, .. } = open;
        let (terms, tls) = (self.terms(target), self.try_record().tls.clone());
        let messages = messages.saturating_add(1);
        let parked = Parked { connection, terms, opened, opened_at_unix, tls, messages };
        self.context.pool.park(parked, &self.context.options.reuse);
    }

    fn transaction(&self, recipients: &[usize]) -> Transaction {
        let recipients = recipients.iter().filter_map(|index| self.job.recipients.get(*index));
        let reverse_path = match &self.job.reverse_path {
            ReversePath::Mailbox(mailbox) => ReversePath::Mailbox(on_the_wire(mailbox)),
            ReversePath::Null => ReversePath::Null,
        };
        Transaction {
            reverse_path,
            parameters: self.job.parameters.clone(),
            recipients: recipients
                .map(|one| Recipient { mailbox: on_the_wire(&one.mailbox), ..one.clone() })
                .collect(),
            size_bytes: self.job.size_bytes,
            envelope_only: self.purpose == Purpose::Ask,
        }
    }

    /// Notes what a transaction meant for its recipients, and says what is next.
    fn settle_transaction(
        &mut self,
        report: &TransactionReport,
        current: &[usize],
        target: &Target<'_>,
        reports_passed_on: bool,
    ) -> Flow {
        for (position, index) in current.iter().enumerate() {
            let rcpt = report.recipients.get(position).and_then(Option::as_ref);
            let outcome = outcome::of_transaction(&report.decided, rcpt).at(&target.remote);
            self.settle(*index, Outcome { reports_passed_on, ..outcome });
        }
        self.try_record().result = record::transaction(report);
        match &report.decided {
            // The server may have taken the message: to give it to another host now would make it two. The same after
            // content was sent in vain: once is enough for one attempt.
            Decided::Broken(Failure { step: Step::Content | Step::EndOfData, .. }) => Flow::Stop,
            Decided::Broken(Failure { cause: Cause::ContentFailed, .. }) => Flow::Stop,
            _ => Flow::NextHost,
        }
    }

    /// A session that failed before any transaction.
    fn failed(&mut self, failure: &Failure, connection: &Connection, target: &Target<'_>) -> Ended {
        if failure.cause == Cause::InjectedPlaintext && !target.requirement.is_tls_mandatory() {
            // As good as a handshake that failed, whether these bytes came in one packet with the reply or later. Who can
            // inject them can also strip STARTTLS from the offer, so plaintext loses nothing here; but nothing said
            // before is ever believed inside TLS.
            return Ended::NoTls(HandshakeError::Protocol(failure.to_string()));
        }
        let encrypted = tls_is_on(connection.session());
        let no_starttls = matches!(failure.cause, Cause::StartTlsNotOffered | Cause::Refused(_));
        if failure.step == Step::StartTls && no_starttls {
            self.try_record().result_type = Some(ResultType::StarttlsNotSupported.to_string());
            if target.requirement.is_tls_mandatory() {
                let class = triage::of_starttls(connection.session().starttls());
                self.try_record().reason_code = class.map(|class| class.to_string());
            }
        }
        let trusted = encrypted || !target.requirement.is_tls_mandatory();
        let mut outcome = outcome::of_failure(failure, trusted).at(&target.remote);
        if failure.step == Step::StartTls && no_starttls && self.job.parameters.require_tls {
            outcome = self.without_tls(&outcome.text).at(&target.remote);
        }
        if !trusted && failure.step == Step::StartTls {
            self.log_refusal(&target.remote, &outcome.text);
        }
        self.try_record().result = outcome::told(failure);
        self.settle_open(&outcome);
        // A password that was refused once is not offered again and again.
        let refused_login = failure.step == Step::Auth;
        Ended::Flow(if refused_login { Flow::Stop } else { Flow::NextAddress })
    }

    /// A host with which mandatory TLS is not to be had. DANE delays the mail (RFC 7672 2.2); with REQUIRETLS it is returned
    /// where no other host does better (RFC 8689 4.2.1).
    fn without_tls(&self, reason: &str) -> Outcome {
        if self.job.parameters.require_tls {
            Outcome::failed(Reach::Host, (7, 10), format!("{reason} (the message demands REQUIRETLS)"))
        } else {
            Outcome::deferred(Reach::Host, (7, 5), reason)
        }
    }

    /// Does the handshake and writes down what was seen.
    async fn handshake(&mut self, tcp: TcpStream, target: &Target<'_>) -> Result<(Stream, bool), Ended> {
        let Some(demand) = target.requirement.demand() else {
            return Err(Ended::NoTls(HandshakeError::Setup("no TLS is wanted".to_owned())));
        };
        let timeout = self.left(self.context.options.handshake_timeout);
        let (result, seen) = self.context.tls.handshake(tcp, demand, timeout).await;
        self.note_tls(demand, &result.as_ref().err().cloned(), &seen);
        if result.is_err() && target.requirement.is_tls_mandatory() {
            let class = triage::of_handshake(self.host_record(), &seen);
            self.try_record().reason_code = Some(class.to_string());
        }
        match result {
            Ok(stream) => Ok((Stream::Tls(stream), demand.authenticates())),
            Err(error) if seen.mismatch.is_some() => Err(Ended::Mismatch(error)),
            Err(error) => Err(Ended::NoTls(error)),
        }
    }

    fn note_tls(&mut self, demand: &Demand, error: &Option<HandshakeError>, seen: &Seen) {
        let record = self.try_record();
        if error.is_some() {
            "failed".clone_into(&mut record.starttls);
        }
        record.result_type = error.as_ref().map(|_| record::result_type(seen).to_string());
        record.tls = Some(record::tls(demand, error.as_ref(), seen));
    }

    /// Writes down what was said since the last time.
    fn note(&mut self, connection: &mut Connection, current: &[usize], started: Instant) {
        let recipients = &self.job.recipients;
        let replies: Vec<_> = connection
            .take_said()
            .into_iter()
            .map(|said| record::reply(&said, current, recipients, started))
            .collect();
        let (session, record) = (connection.session(), self.try_record());
        record.replies.extend(replies);
        if !session.offer().name.is_empty() {
            record.greeting = Some(session.offer().name.clone());
        }
        record::starttls(session.starttls()).clone_into(&mut record.starttls);
    }

    /// The login, its secret read now.
    pub(super) async fn credentials(&self) -> Result<Option<Credentials>, Box<Outcome>> {
        let Some(auth) = self.job.relay().and_then(|relay| relay.auth.clone()) else { return Ok(None) };
        if self.purpose == Purpose::Probe {
            return Ok(None);
        }
        let file = auth.secret_file.display().to_string();
        let read = smol::unblock(move || read_secret(&auth)).await;
        read.map(Some).map_err(|error| {
            let why = format!("the relay host's secret file {file}: {error}");
            Box::new(Outcome::deferred(Reach::Site, (3, 5), why))
        })
    }
}

/// Whether a session that rested turned out to be of no use, with nothing at stake: the server has seen no content, so no
/// message can come of it, and it refused nothing for good. 4yz to MAIL is how some say that a session had enough.
fn is_gone(decided: &Decided) -> bool {
    match decided {
        Decided::Broken(Failure { step: Step::Content | Step::EndOfData, .. }) => false,
        Decided::Broken(Failure { cause, .. }) => *cause != Cause::TimeIsUp,
        Decided::Refused { step: Step::Mail, reply } => reply.class() == ReplyClass::TransientNegative,
        _ => false,
    }
}

/// Whether a server may be asked again at once: not where it told us to come back later.
fn is_content(decided: &Decided) -> bool {
    match decided {
        Decided::Accepted(_) | Decided::NoRecipients | Decided::Asked | Decided::NotSent(_) => true,
        Decided::Refused { reply, .. } => reply.class() == ReplyClass::PermanentNegative,
        Decided::Broken(_) => false,
    }
}

/// An address whose domain alone is internationalized has the same meaning with A-labels (RFC 5890 2.3.2.1), which every
/// server understands.
fn on_the_wire(mailbox: &Mailbox) -> Mailbox {
    let ascii = || {
        let domain =
            mailbox.domain().filter(|domain| !domain.is_ascii() && mailbox.local_part().is_ascii())?;
        let domain = Domain::parse(&text(&a_labels(domain.as_str()).ok()?)).ok()?;
        Mailbox::new(mailbox.local_part(), domain).ok()
    };
    ascii().unwrap_or_else(|| mailbox.clone())
}

/// The last gate before the envelope leaves.
fn may_send(requirement: &Requirement, session: &Session) -> bool {
    !requirement.is_tls_mandatory() || tls_is_on(session)
}

fn tls_is_on(session: &Session) -> bool {
    matches!(session.starttls(), StartTlsResult::Implicit | StartTlsResult::Done)
}

/// The first line of the secret file.
fn read_secret(auth: &RelayAuth) -> Result<Credentials, String> {
    let file = std::fs::File::open(&auth.secret_file).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let mut bounded = std::io::Read::take(file, MAX_SECRET_BYTES);
    std::io::Read::read_to_string(&mut bounded, &mut text).map_err(|error| error.to_string())?;
    let secret = text.lines().next().unwrap_or_default();
    Credentials::new(auth.username.clone(), secret).map_err(|error| error.to_string())
}
