//! One connection to one address of a host: opened, secured, used, left.
//!
//! `may_send` is asked once more before the envelope leaves. What it does not: it chooses no host and no address (`host`),
//! and it classifies nothing itself (see `outcome`).

use std::time::Instant;

use mta_dane::failure::ResultType;
use mta_smtp::client::{
    Cause, Decided, Failure, Session, Settings, StartTlsResult, Step, TlsUse, Transaction, TransactionReport,
};
use mta_smtp::sasl::Credentials;
use smol::net::TcpStream;

use super::attempt::{Flow, Purpose, Run, millis};
use super::connect::{self, Forbidden};
use super::decision::TryRecord;
use super::host::{Ended, Target};
use super::outcome::{self, Outcome, Reach};
use super::session::{Connection, Event, Stream};
use super::tls_policy::Requirement;
use super::{examine, record, triage};
use crate::routing::RelayAuth;
use crate::tls::client::{Demand, HandshakeError, Seen};

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
            Ended::Flow(_) => None,
        };
        if let Some(reason) = reason {
            // Where TLS was only an offer of ours, the connection without it decides.
            if target.requirement.is_tls_mandatory() {
                self.log_refusal(&target.remote, &reason);
                self.settle_open(&Outcome::deferred(Reach::Host, (7, 5), reason.clone()).at(&target.remote));
            }
            self.try_record().result = reason;
        }
        self.try_record().elapsed_ms = millis(started.elapsed());
        ended
    }

    async fn open_and_use(&mut self, target: &Target<'_>, tls: TlsUse, started: Instant) -> Ended {
        let credentials = match self.credentials().await {
            Ok(credentials) => credentials,
            Err(outcome) => {
                self.try_record().result.clone_from(&outcome.text);
                self.settle_open(&outcome);
                return Ended::Flow(Flow::Stop);
            }
        };
        let tcp = match connect::connect(target.address, &self.context.options).await {
            Ok(tcp) => tcp,
            Err(error) => {
                let reason = format!("no connection: {error}");
                self.try_record().result.clone_from(&reason);
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
        let (stream, tls) = match tls {
            TlsUse::Implicit { .. } => match self.handshake(tcp, target).await {
                Ok((stream, verified)) => (stream, TlsUse::Implicit { verified }),
                Err(ended) => return ended,
            },
            _ => (Stream::Plain(tcp), tls),
        };
        let options = &self.context.options;
        let settings = Settings {
            host_name: options.host_name.clone(),
            tls,
            credentials,
            eight_bit: options.eight_bit,
            limits: options.smtp,
        };
        let connection = Connection::new(stream, settings, self.job.content.clone());
        self.converse(connection, target, started).await
    }

    /// The conversation on an open connection.
    async fn converse(&mut self, mut connection: Connection, target: &Target<'_>, started: Instant) -> Ended {
        // Each recipient is named once on a connection, in transactions of bounded size.
        let mut waiting = self.open();
        let mut current: Vec<usize> = Vec::new();
        let mut flow = Flow::NextHost;
        loop {
            let event = connection.next().await;
            self.note(&mut connection, &current, started);
            match event {
                Event::StartTls => {
                    let Some(tcp) = connection.take_plain() else { return Ended::Flow(Flow::NextAddress) };
                    match self.handshake(tcp, target).await {
                        Ok((Stream::Tls(stream), verified)) => connection.tls_started(stream, verified),
                        Ok(_) => return Ended::Flow(Flow::NextAddress),
                        Err(ended) => return ended,
                    }
                }
                Event::Ready if self.purpose == Purpose::Probe => {
                    examine::READY.clone_into(&mut self.try_record().result);
                    connection.goodbye().await;
                    return Ended::Flow(Flow::NextAddress);
                }
                Event::Ready => {
                    let count = waiting.len().min(self.context.options.max_recipients.max(1));
                    if count == 0 || flow == Flow::Stop {
                        connection.quit();
                        return Ended::Flow(flow);
                    }
                    if !may_send(target.requirement, connection.session()) {
                        // Cannot be: the session enforces it. Should it ever be, nothing is sent.
                        let reason = "TLS is mandatory and is not there";
                        self.settle_open(&Outcome::deferred(Reach::Host, (7, 5), reason).at(&target.remote));
                        reason.clone_into(&mut self.try_record().result);
                        return Ended::Flow(Flow::NextHost);
                    }
                    self.transactions += usize::from(current.is_empty());
                    current = waiting.drain(..count).collect();
                    connection.begin(self.transaction(&current));
                }
                Event::Done(report) => flow = self.settle_transaction(&report, &current, target),
                Event::Failed(failure) => {
                    let said = self.failed(&failure, &connection, target);
                    connection.quit();
                    return said;
                }
                Event::Closed => return Ended::Flow(flow),
            }
        }
    }

    fn transaction(&self, recipients: &[usize]) -> Transaction {
        let recipients = recipients.iter().filter_map(|index| self.job.recipients.get(*index).cloned());
        Transaction {
            reverse_path: self.job.reverse_path.clone(),
            parameters: self.job.parameters.clone(),
            recipients: recipients.collect(),
            size_bytes: self.job.size_bytes,
        }
    }

    /// Notes what a transaction meant for its recipients, and says what is next.
    fn settle_transaction(
        &mut self,
        report: &TransactionReport,
        current: &[usize],
        target: &Target<'_>,
    ) -> Flow {
        for (position, index) in current.iter().enumerate() {
            let rcpt = report.recipients.get(position).and_then(Option::as_ref);
            let outcome = outcome::of_transaction(&report.decided, rcpt).at(&target.remote);
            self.settle(*index, outcome);
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
        let outcome = outcome::of_failure(failure, trusted).at(&target.remote);
        if !trusted && failure.step == Step::StartTls {
            self.log_refusal(&target.remote, &outcome.text);
        }
        self.try_record().result = outcome::told(failure);
        self.settle_open(&outcome);
        // A password that was refused once is not offered again and again.
        let refused_login = failure.step == Step::Auth;
        Ended::Flow(if refused_login { Flow::Stop } else { Flow::NextAddress })
    }

    /// Does the handshake and writes down what was seen.
    async fn handshake(&mut self, tcp: TcpStream, target: &Target<'_>) -> Result<(Stream, bool), Ended> {
        let Some(demand) = target.requirement.demand() else {
            return Err(Ended::NoTls(HandshakeError::Setup("no TLS is wanted".to_owned())));
        };
        let timeout = self.context.options.handshake_timeout;
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
    async fn credentials(&self) -> Result<Option<Credentials>, Box<Outcome>> {
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
