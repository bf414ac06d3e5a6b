//! One host of a next-hop: what is required of it, its addresses, and a connection to each in turn (`conversation`).
//!
//! The order of things is what keeps mail safe: the requirement is decided before the first byte, and the session is told
//! whether TLS is mandatory. What it does not: it chooses no host, and it classifies nothing itself (see `outcome`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_proto::rr::RecordType;
use mta_dane::discovery::{self, HostDiscovery, HostResult, MxHost, MxList, NextHopKind, tlsa_owner};
use mta_dane::failure::HostFault;
use mta_dane::policy::HostPolicy;
use mta_dane::reference::text;
use mta_smtp::client::TlsUse;
use mta_smtp::reply::EnhancedStatus;
use mta_smtp::sasl::Credentials;

use super::attempt::{Flow, Purpose, Run};
use super::connect::{self, Forbidden};
use super::decision::{HostRecord, TriageRecord, TryRecord};
use super::outcome::{Outcome, Reach, Remote};
use super::tls_policy::{self, Facts, Refusal, Requirement, require};
use super::{discover, record, triage};
use crate::log::Line;
use crate::routing::RelayTls;
use crate::tls::client::{Demand, HandshakeError};

/// One try: where to, and under what requirement.
pub(super) struct Target<'t> {
    pub(super) remote: Remote,
    pub(super) address: SocketAddr,
    pub(super) requirement: &'t Requirement,
    pub(super) tls: TlsUse,
    pub(super) login: Option<Credentials>,
}

/// How one connection ended.
pub(super) enum Ended {
    /// As it may: go on like this.
    Flow(Flow),
    /// A session that rested was of no more use, and the server has not seen the content.
    Gone,
    /// The TLS handshake failed.
    NoTls(HandshakeError),
    /// The server's certificate does not match the TLSA records.
    Mismatch(HandshakeError),
}

impl Run<'_> {
    /// Tries one host, and says what is wrong with it where something is.
    pub(super) async fn host(
        &mut self,
        list: &MxList,
        host: &MxHost,
        port: u16,
        options: &discovery::Options,
    ) -> Flow {
        let flow = self.try_host(list, host, port, options).await;
        let triage = self.decision.hosts.last().and_then(|host| triage::of_host(host, &self.about()));
        self.host_record().triage = triage;
        flow
    }

    async fn try_host(
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
        self.find_sts(list, &found).await;
        if let Some(outcome) = self.remember_dane(list, &found) {
            self.host_record().skipped = Some(outcome.text.clone());
            self.settle_open(&outcome.at(&remote));
            return Flow::Stop;
        }
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

    /// Looks for the domain's MTA-STS policy, once for all hosts, where it could count for this one: a lookup and perhaps a
    /// fetch are saved for every domain whose hosts DANE proves.
    async fn find_sts(&mut self, list: &MxList, found: &HostResult) {
        let Some(sts) = &self.context.sts else { return };
        let unproven = matches!(found.policy, HostPolicy::NotApplicable(_) | HostPolicy::EncryptOnly { .. });
        let counts = unproven
            && self.context.options.sts.enabled
            && tls_policy::sts_counts(self.job.relay(), self.rule.map(|rule| rule.tls))
            // An address literal is no domain that could have a policy.
            && !matches!(list.kind, NextHopKind::Address(_));
        if counts && self.sts.is_none() {
            let finding = sts.policy(&text(&list.next_hop), &self.context.options).await;
            if finding.policy.is_some() || finding.fault.is_some() {
                self.decision.sts = Some(record::sts(&finding));
            }
            self.sts = Some(finding);
        }
    }

    /// What is required of the host; written down in its record.
    fn required(&mut self, list: &MxList, found: &HostResult) -> Result<Requirement, Refusal> {
        let policy = self
            .sts
            .as_ref()
            .and_then(|finding| finding.policy.as_ref())
            .map(|found| Arc::clone(&found.policy));
        let host = text(&found.host.name);
        self.host_record().sts =
            policy.as_deref().and_then(|policy| record::sts_listed(policy, found, &host));
        let result = require(Facts {
            host: &host,
            dane: &found.policy,
            mx_status: list.status,
            next_hop: &text(&list.next_hop),
            relay: self.job.relay(),
            rule: self.rule.map(|rule| rule.tls),
            sts: policy.as_deref(),
            require_tls: self.job.parameters.require_tls,
            tls_required_no: self.job.parameters.header.tls_required_no
                && self.context.options.honour_tls_required_no,
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
        self.host_record().triage = triage::of_refusal(refusal)
            .map(|class| TriageRecord { class: class.to_string(), ..TriageRecord::default() });
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
            // RFC 8689 4.2.1: returned where no other host does better.
            Refusal::RequireTls(_) => {
                self.settle_open(&Outcome::failed(Reach::Host, (7, 10), reason).at(remote));
            }
            Refusal::Sts { .. } => {
                self.settle_open(&Outcome::deferred(Reach::Host, (7, 5), reason).at(remote))
            }
        }
        Flow::NextHost
    }

    /// A host that failed a check is worth a line of its own: another host may take the mail, and nobody would know.
    pub(super) fn log_refusal(&self, remote: &Remote, reason: &str) {
        let line =
            Line::new("host-refused").with("qid", &self.job.queue_id).with("mx", record::mx_text(remote));
        log::warn!("{}", line.with("route", &self.job.route).with("reason", reason));
    }

    /// RFC 5321 5.1: with nobody better than us on the list, the mail has nowhere to go; else it waits for the better ones.
    /// A relay host that is ourselves is a mistake in the configuration, for which no mail is returned.
    pub(super) fn own_address(&mut self, reason: &str, remote: &Remote) -> Flow {
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
        let login = match self.credentials().await {
            Ok(login) => login,
            Err(outcome) => {
                self.host_record().skipped = Some(outcome.text.clone());
                self.settle_open(&outcome);
                return Flow::Stop;
            }
        };
        match self.ride(&found, &requirement, login.as_ref()).await {
            None | Some(Ended::Gone) => {}
            Some(Ended::Flow(Flow::SameAddress | Flow::NextAddress)) if self.may_connect() => {}
            Some(Ended::Flow(flow)) => return flow,
            Some(Ended::Mismatch(_) | Ended::NoTls(_)) => {}
        }
        let mut refreshed = false;
        let mut index = 0;
        while let Some(address) = found.addresses.get(index).copied() {
            if index >= self.context.options.max_addresses_per_host || !self.may_connect() {
                break;
            }
            let target = match self.target(&found, address, &requirement, login.clone()) {
                Ok(target) => target,
                Err(Flow::NextAddress) => {
                    index += 1;
                    continue;
                }
                Err(flow) => return flow,
            };
            if self.purpose == Purpose::Look {
                index += 1;
                continue;
            }
            match self.address(target).await {
                Ended::Flow(Flow::SameAddress) => {}
                Ended::Flow(Flow::NextAddress) | Ended::Gone => index += 1,
                Ended::Flow(flow) => return flow,
                // The records may have been replaced since we remembered them: ask once more before the host is given
                // up, and only then take a match with the new ones for good.
                Ended::Mismatch(_) if !refreshed => {
                    refreshed = true;
                    self.forget_tlsa(&found);
                    match self.discover(list, &found.host.clone(), found.port, options).await {
                        Ok(fresh) if fresh.policy != found.policy => {
                            let tries = std::mem::take(&mut self.host_record().tries);
                            let asked_again = Some("changed".to_owned());
                            *self.host_record() = HostRecord { tries, asked_again, ..record::host(&fresh) };
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
                        same => {
                            if same.is_ok() {
                                self.host_record().asked_again = Some("same".to_owned());
                            }
                            index += 1;
                        }
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

    /// Over a session that rests, where there is one that was opened for just what is required now, to an address that DNS
    /// names now. Without one there is `None`.
    async fn ride(
        &mut self,
        found: &HostResult,
        requirement: &Requirement,
        login: Option<&Credentials>,
    ) -> Option<Ended> {
        let context = self.context;
        if context.pool.is_empty() || !self.purpose.wants_an_end() {
            return None;
        }
        let (options, configured) = (&context.options, self.job.relay().is_some());
        for address in found.addresses.iter().take(options.max_addresses_per_host) {
            if connect::check(*address, found.port, options, configured).is_err() {
                continue;
            }
            let address = SocketAddr::new(*address, found.port);
            let target = self.target_at(found, address, requirement, login.cloned());
            let terms = self.terms(&target);
            if let Some(parked) = context.pool.take(&terms, &options.reuse).await {
                return Some(self.again(parked, &target).await);
            }
        }
        None
    }

    /// Whether and how to connect to an address.
    fn target<'t>(
        &mut self,
        found: &HostResult,
        address: IpAddr,
        requirement: &'t Requirement,
        login: Option<Credentials>,
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
        Ok(self.target_at(found, address, requirement, login))
    }

    /// How to connect to an address that may be connected to.
    fn target_at<'t>(
        &self,
        found: &HostResult,
        address: SocketAddr,
        requirement: &'t Requirement,
        login: Option<Credentials>,
    ) -> Target<'t> {
        let remote = Remote { host: text(&found.host.name), address: Some(address) };
        let tls = match (requirement, self.job.relay().map(|relay| relay.tls)) {
            (Requirement::Plaintext, _) => TlsUse::Never,
            // Whether it is verified is known after the handshake; see `open`.
            (_, Some(RelayTls::Implicit)) => TlsUse::Implicit { verified: false },
            (Requirement::Opportunistic(_), _) => TlsUse::IfOffered,
            _ => TlsUse::Required,
        };
        Target { remote, address, requirement, tls, login }
    }

    /// Tries one address: with TLS as required, and without it on a new connection where TLS was only an offer of ours
    /// and the handshake failed (RFC 7672 2.2, the case of no secure TLSA).
    async fn address(&mut self, target: Target<'_>) -> Ended {
        let ended = self.connection(&target, target.tls).await;
        let Requirement::Opportunistic(demand) = target.requirement else { return ended };
        let (Ended::NoTls(error) | Ended::Mismatch(error)) = &ended else { return ended };
        if !demand.authenticates() {
            self.try_record().result = format!("{error}; tried again without TLS");
            return self.connection(&target, TlsUse::Never).await;
        }
        // TLS-Required: No (RFC 8689 4.2.2): the policy was tried; now TLS with whatever certificate, and only then none.
        self.try_record().result = format!("{error}; tried again with any certificate (TLS-Required: No)");
        let lowered = Requirement::Opportunistic(Demand::Any { sni: target.remote.host.clone() });
        let target = Target { requirement: &lowered, ..target };
        let ended = self.connection(&target, target.tls).await;
        let Ended::NoTls(error) = &ended else { return ended };
        self.try_record().result = format!("{error}; tried again without TLS");
        self.connection(&target, TlsUse::Never).await
    }

    /// The record of the host in hand.
    pub(super) fn host_record(&mut self) -> &mut HostRecord {
        if self.decision.hosts.is_empty() {
            self.decision.hosts.push(HostRecord::default());
        }
        let last = self.decision.hosts.len() - 1;
        &mut self.decision.hosts[last]
    }

    /// The record of the connection in hand.
    pub(super) fn try_record(&mut self) -> &mut TryRecord {
        let tries = &mut self.host_record().tries;
        if tries.is_empty() {
            tries.push(TryRecord::default());
        }
        let last = tries.len() - 1;
        &mut tries[last]
    }
}
