//! One host of a next-hop: what is required of it, its addresses, a connection to each, TLS, the transactions.
//!
//! The order of things is what keeps mail safe: the requirement is decided before the first byte, the session is told
//! whether TLS is mandatory, and `may_send` is asked once more before the envelope leaves. What it does not: it chooses
//! no host, and it classifies nothing itself (see `outcome`).

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use hickory_proto::rr::RecordType;
use mta_dane::discovery::{self, HostDiscovery, HostResult, MxHost, MxList, tlsa_owner};
use mta_dane::failure::{HostFault, ResultType};
use mta_dane::reference::text;
use mta_smtp::client::{
    Cause, Decided, Failure, Session, Settings, StartTlsResult, Step, TlsUse, Transaction, TransactionReport,
};
use mta_smtp::reply::EnhancedStatus;
use mta_smtp::sasl::Credentials;
use smol::net::TcpStream;

use super::attempt::{Flow, Run, millis};
use super::connect::{self, Forbidden};
use super::decision::{HostRecord, TryRecord};
use super::outcome::{self, Outcome, Reach, Remote};
use super::session::{Connection, Event, Stream};
use super::tls_policy::{Facts, Refusal, Requirement, require};
use super::{discover, record};
use crate::log::Line;
use crate::routing::{RelayAuth, RelayTls};
use crate::tls::client::{Demand, HandshakeError, Seen};

/// The largest secret file read, in octets.
const MAX_SECRET_BYTES: u64 = 4096;

/// One try: where to, and under what requirement.
struct Target<'t> {
    remote: Remote,
    address: SocketAddr,
    requirement: &'t Requirement,
    tls: TlsUse,
}

/// How one connection ended.
enum Ended {
    /// As it may: go on like this.
    Flow(Flow),
    /// The TLS handshake failed.
    NoTls(HandshakeError),
    /// The server's certificate does not match the TLSA records.
    Mismatch(HandshakeError),
}

impl Run<'_> {
    /// Tries one host.
    pub(super) async fn host(
        &mut self,
        list: &MxList,
        host: &MxHost,
        port: u16,
        options: &discovery::Options,
    ) -> Flow {
        let name = text(&host.name);
        let remote = Remote { host: name.clone(), address: None };
        let found = match self.discover(list, host, port, options).await {
            Ok(found) => found,
            Err(fault) => {
                let skipped = Some(fault.to_string());
                let result_type = fault.result_type().map(|kind| kind.to_string());
                let record = HostRecord { host: name, skipped, result_type, ..HostRecord::default() };
                self.decision.hosts.push(record);
                return self.refused(&Refusal::Dns(fault), &remote);
            }
        };
        self.decision.hosts.push(record::host(&found));
        let requirement = match self.required(list, &found) {
            Ok(requirement) => requirement,
            Err(refusal) => {
                self.host_record().skipped = Some(refusal.to_string());
                return self.refused(&refusal, &remote);
            }
        };
        self.addresses(list, found, requirement, options).await
    }

    async fn discover(
        &self,
        list: &MxList,
        host: &MxHost,
        port: u16,
        options: &discovery::Options,
    ) -> Result<HostResult, HostFault> {
        let machine = HostDiscovery::new(list, host, port, options.clone());
        discover::host(&*self.context.resolver, machine, self.context.options.discovery_timeout).await
    }

    /// What is required of the host; written down in its record.
    fn required(&mut self, list: &MxList, found: &HostResult) -> Result<Requirement, Refusal> {
        let result = require(Facts {
            host: &text(&found.host.name),
            dane: &found.policy,
            mx_status: list.status,
            next_hop: &text(&list.next_hop),
            relay: self.job.relay(),
            rule: self.rule.map(|rule| rule.tls),
            require_tls: self.job.parameters.require_tls,
        });
        let record = self.host_record();
        match result {
            Ok((requirement, why)) => {
                requirement.word().clone_into(&mut record.requirement);
                record.requirement_reason = why;
                Ok(requirement)
            }
            Err(refusal) => {
                "none-possible".clone_into(&mut record.requirement);
                Err(refusal)
            }
        }
    }

    /// A host that is not connected to.
    fn refused(&mut self, refusal: &Refusal, remote: &Remote) -> Flow {
        let reason = refusal.to_string();
        self.log_refusal(remote, &reason);
        match refusal {
            // Loop prevention beats all else: what comes after us in the list would only send it back.
            Refusal::Dns(HostFault::OwnAddress { .. }) => return self.own_address(&reason, remote),
            Refusal::Dns(HostFault::Addresses(error) | HostFault::Alias(error) | HostFault::Tlsa(error))
                if let Some(ours) = self.site_fault(error) =>
            {
                self.settle_open(&ours);
                return Flow::Stop;
            }
            Refusal::Dns(fault) => {
                let status = EnhancedStatus::parse(fault.enhanced_status());
                let status = status.map_or((4, 0), |status| (status.subject, status.detail));
                self.settle_open(&Outcome::deferred(Reach::Host, status, reason).at(remote));
            }
            Refusal::RequireTls => {
                self.settle_open(&Outcome::failed(Reach::Host, (7, 30), reason).at(remote))
            }
        }
        Flow::NextHost
    }

    /// A host that failed a check is worth a line of its own: another host may take the mail, and nobody would know.
    fn log_refusal(&self, remote: &Remote, reason: &str) {
        let line =
            Line::new("host-refused").with("qid", &self.job.queue_id).with("mx", record::mx_text(remote));
        log::warn!("{}", line.with("route", &self.job.route).with("reason", reason));
    }

    /// RFC 5321 5.1: with nobody better than us on the list, the mail has nowhere to go; else it waits for the better ones.
    /// A relay host that is ourselves is a mistake in the configuration, for which no mail is returned.
    fn own_address(&mut self, reason: &str, remote: &Remote) -> Flow {
        if self.job.relay().is_some() {
            let why = format!("the relay host {} is this server itself: {reason}", remote.host);
            self.settle_open(&Outcome::deferred(Reach::Site, (3, 5), why).at(remote));
            return Flow::Stop;
        }
        if !self.has_provisional() {
            self.settle_open(&Outcome::failed(Reach::NextHop, (4, 6), reason).at(remote));
        }
        Flow::Stop
    }

    /// Tries the host's addresses in turn.
    async fn addresses(
        &mut self,
        list: &MxList,
        mut found: HostResult,
        mut requirement: Requirement,
        options: &discovery::Options,
    ) -> Flow {
        let mut refreshed = false;
        let mut index = 0;
        while let Some(address) = found.addresses.get(index).copied() {
            if index >= self.context.options.max_addresses_per_host || !self.may_connect() {
                break;
            }
            let target = match self.target(&found, address, &requirement) {
                Ok(target) => target,
                Err(Flow::NextAddress) => {
                    index += 1;
                    continue;
                }
                Err(flow) => return flow,
            };
            match self.address(target).await {
                Ended::Flow(Flow::NextAddress) => index += 1,
                Ended::Flow(flow) => return flow,
                // The records may have been replaced since we remembered them: ask once more before the host is given
                // up, and only then take a match with the new ones for good.
                Ended::Mismatch(_) if !refreshed => {
                    refreshed = true;
                    self.forget_tlsa(&found);
                    match self.discover(list, &found.host.clone(), found.port, options).await {
                        Ok(fresh) if fresh.policy != found.policy => {
                            let tries = std::mem::take(&mut self.host_record().tries);
                            *self.host_record() = HostRecord { tries, ..record::host(&fresh) };
                            found = fresh;
                            match self.required(list, &found) {
                                Ok(fresh) => requirement = fresh,
                                Err(refusal) => {
                                    self.host_record().skipped = Some(refusal.to_string());
                                    let remote = Remote { host: text(&found.host.name), address: None };
                                    return self.refused(&refusal, &remote);
                                }
                            }
                        }
                        _ => index += 1,
                    }
                }
                Ended::Mismatch(_) | Ended::NoTls(_) => index += 1,
            }
        }
        Flow::NextHost
    }

    fn forget_tlsa(&self, found: &HostResult) {
        if let Some(owner) = found.policy.base_domain().and_then(|base| tlsa_owner(base, found.port)) {
            self.context.resolver.forget(&owner, RecordType::TLSA);
        }
    }

    /// Whether and how to connect to an address.
    fn target<'t>(
        &mut self,
        found: &HostResult,
        address: IpAddr,
        requirement: &'t Requirement,
    ) -> Result<Target<'t>, Flow> {
        let address = SocketAddr::new(address, found.port);
        let remote = Remote { host: text(&found.host.name), address: Some(address) };
        let configured = self.job.relay().is_some();
        if let Err(forbidden) =
            connect::check(address.ip(), address.port(), &self.context.options, configured)
        {
            let reason = format!("{} {forbidden}", address.ip());
            self.host_record().tries.push(TryRecord {
                address: address.to_string(),
                result: format!("not connected: {reason}"),
                ..TryRecord::default()
            });
            if forbidden == Forbidden::Own {
                return Err(self.own_address(&reason, &remote));
            }
            self.settle_open(&Outcome::deferred(Reach::Host, (4, 4), reason).at(&remote));
            return Err(Flow::NextAddress);
        }
        let tls = match (requirement, self.job.relay().map(|relay| relay.tls)) {
            (Requirement::Plaintext, _) => TlsUse::Never,
            // Whether it is verified is known after the handshake; see `open`.
            (_, Some(RelayTls::Implicit)) => TlsUse::Implicit { verified: false },
            (Requirement::Opportunistic(_), _) => TlsUse::IfOffered,
            _ => TlsUse::Required,
        };
        Ok(Target { remote, address, requirement, tls })
    }

    /// Tries one address: with TLS as required, and without it on a new connection where TLS was only an offer of ours
    /// and the handshake failed (RFC 7672 2.2, the case of no secure TLSA).
    async fn address(&mut self, target: Target<'_>) -> Ended {
        let ended = self.connection(&target, target.tls).await;
        if let Ended::NoTls(error) = &ended
            && matches!(target.requirement, Requirement::Opportunistic(_))
        {
            let reason = format!("{error}; tried again without TLS");
            self.try_record().result = reason;
            return self.connection(&target, TlsUse::Never).await;
        }
        ended
    }

    /// One connection, from opening to goodbye.
    async fn connection(&mut self, target: &Target<'_>, tls: TlsUse) -> Ended {
        let started = Instant::now();
        self.host_record().tries.push(TryRecord {
            address: target.address.to_string(),
            starttls: "not used".to_owned(),
            ..TryRecord::default()
        });
        let ended = self.open_and_use(target, tls, started).await;
        let reason = match &ended {
            Ended::NoTls(error) | Ended::Mismatch(error) => Some(error.to_string()),
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
        let file = auth.secret_file.display().to_string();
        let read = smol::unblock(move || read_secret(&auth)).await;
        read.map(Some).map_err(|error| {
            let why = format!("the relay host's secret file {file}: {error}");
            Box::new(Outcome::deferred(Reach::Site, (3, 5), why))
        })
    }

    /// The record of the host in hand.
    fn host_record(&mut self) -> &mut HostRecord {
        if self.decision.hosts.is_empty() {
            self.decision.hosts.push(HostRecord::default());
        }
        let last = self.decision.hosts.len() - 1;
        &mut self.decision.hosts[last]
    }

    /// The record of the connection in hand.
    fn try_record(&mut self) -> &mut TryRecord {
        let tries = &mut self.host_record().tries;
        if tries.is_empty() {
            tries.push(TryRecord::default());
        }
        let last = tries.len() - 1;
        &mut tries[last]
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
