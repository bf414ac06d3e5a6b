//! What would happen to mail for a destination, told rule by rule: from DNS alone, or after a look at every host.
//!
//! It has no engine of its own. The walk is a delivery's (`examine`), and what is told is read from the decision record
//! that it left: so an explanation can never say anything else than a delivery would do. What it does not: it sends no
//! envelope and changes nothing.

mod addresses;
mod conclusion;
mod hosts;
mod nexthop;
mod text;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mta_smtp::address::{Host, Mailbox};
use serde::Serialize;

pub(super) use self::text::Out;
use super::attempt::Purpose;
use super::decision::{Decision, TriageRecord};
use super::examine::{Examined, examine};
use super::provider::{self, Providers};
use super::tls_policy::{DestinationRule, nearest};
use super::{Context, Options, Pool, parts};
use crate::account::{Accounts, Recipient};
use crate::config::Config;
use crate::outbound::dane_memory::DaneMemory;
use crate::routing::Route;
use crate::routing::table::RoutingTable;
use crate::sts::Sts;
use crate::tls::client::Client;

/// How a rule came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Mark {
    /// As it should be.
    #[serde(rename = "ok")]
    Ok,
    /// It stops the mail here.
    #[serde(rename = "fail")]
    Fail,
    /// It stops nothing, and somebody should know.
    #[serde(rename = "warn")]
    Warn,
    /// It asks for nothing here.
    #[serde(rename = "n/a")]
    NotApplicable,
}

/// One rule and how it came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its name, stable: `mx`, `address`, `tlsa`, `certificate`...
    pub rule: &'static str,
    /// Where it is written: `RFC 7672 2.2.1`. `None` for what only this server's configuration says.
    pub source: Option<&'static str>,
    /// How it came out.
    pub verdict: Mark,
    /// What was found and what follows from it, a sentence or two.
    pub text: String,
}

/// One address of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AddressPart {
    /// Address and port.
    pub address: String,
    /// Its rules.
    pub rules: Vec<Rule>,
    /// Whether mail could have been sent over it; `None` where nobody connected.
    pub ready: Option<bool>,
}

/// One host of the destination, in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostPart {
    /// Its name.
    pub host: String,
    /// Its preference; `None` where the domain is its own host, and for a relay host.
    pub preference: Option<u16>,
    /// Its rules.
    pub rules: Vec<Rule>,
    /// Its addresses.
    pub addresses: Vec<AddressPart>,
    /// What most likely lies behind its failure.
    pub triage: Option<TriageRecord>,
    /// Whether it would take mail: as far as DNS tells, or as its addresses have shown.
    pub usable: bool,
}

/// What would become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It would leave.
    Deliver,
    /// It would wait and be tried again.
    Delay,
    /// It would be returned at once.
    Refuse,
    /// There is no such domain.
    Nothing,
    /// It would wait, because a lookup got no answer at the moment.
    Temporary,
}

impl Fate {
    /// The exit code of the verb.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Deliver => 0,
            Self::Delay | Self::Refuse => 1,
            Self::Nothing => 2,
            Self::Temporary => 75,
        }
    }
}

/// The whole of it. The fields are those of `--json` and stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What was asked about.
    pub subject: String,
    /// Whether hosts were connected to.
    pub probed: bool,
    /// What would become of a message.
    pub fate: Fate,
    /// Why, in a sentence or two.
    pub conclusion: String,
    /// Where the mail goes: `local`, `mx:example.org`, `relay:smtp.example.net:587`.
    pub route: String,
    /// The rules about the domain.
    pub rules: Vec<Rule>,
    /// Its hosts.
    pub hosts: Vec<HostPart>,
    /// What those who run the other side can do, where the mail would not leave.
    pub operator: Vec<String>,
    /// What can be done here.
    pub here: Vec<String>,
    /// The lines for the configuration that except the domain, where that is possible.
    pub exception: Vec<String>,
    /// The decision record; none for mail that stays here.
    pub decision: Option<Decision>,
}

/// A question about a destination.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// A domain, an address literal, or a mailbox.
    pub subject: &'a str,
    /// Whether to connect to the hosts, or only to look at DNS.
    pub probe: bool,
    /// The longest that one step of a probe may take: to connect, a handshake, a reply.
    pub step_timeout: Duration,
    /// When no further connection is begun.
    pub deadline: Duration,
}

impl Question<'_> {
    fn purpose(&self) -> Purpose {
        if self.probe { Purpose::Probe } else { Purpose::Look }
    }
}

/// What is needed to answer, besides the resolver: the same that deliveries have.
pub(super) struct Site<'a> {
    pub(super) accounts: &'a Accounts,
    pub(super) routing: &'a RoutingTable,
    /// How long mail waits before it is returned.
    pub(super) lifetime: Duration,
}

/// Answers a question with this server's configuration.
///
/// # Errors
/// The subject is neither domain nor address.
pub async fn explain(
    config: &Config,
    resolver: Arc<dyn crate::dns::Resolver>,
    question: &Question<'_>,
) -> Result<Explanation, String> {
    let (accounts, routing) = (config.accounts(), config.routing_table());
    let site = Site { accounts: &accounts, routing: &routing, lifetime: config.queue.lifetime };
    let tls = Arc::new(Client::with_ca_file(config.outbound.ca_file.clone()));
    // Without what the daemon knows: a policy is fetched as by somebody who never sent there.
    let sts = Some(Sts::new(Arc::clone(&resolver), Arc::clone(&tls), None));
    let providers = provider::load(config.outbound.provider_replies_file.as_deref())
        .map_err(|error| format!("outbound.provider_replies_file: {error}"))?;
    let context = Context {
        resolver,
        options: Arc::new(config.outbound_options()),
        tls,
        sts,
        pool: Pool::none(),
        providers: Arc::new(Providers::new(providers)),
        dane_memory: DaneMemory::default(),
    };
    answer(&site, context, question).await
}

/// The same, from parts.
pub(super) async fn answer(
    site: &Site<'_>,
    mut context: Context,
    question: &Question<'_>,
) -> Result<Explanation, String> {
    let (host, mailbox) = subject(question.subject)?;
    let destination = match &host {
        Host::Domain(domain) => domain.to_string(),
        literal @ Host::Literal(_) => literal.to_string(),
    };
    let route = site.routing.route(site.accounts, &host);
    if route == Route::Local {
        return Ok(conclusion::local(
            question.subject,
            &destination,
            mailbox.map(|it| site.accounts.recipient(&it)),
        ));
    }
    bound(&mut context, question);
    let options = Arc::clone(&context.options);
    let rule = nearest(&options.destinations, &parts::rule_name(&destination), SystemTime::now());
    let relay = matches!(route, Route::Relay(_));
    let examined = examine(&context, &destination, route, question.purpose()).await;
    Ok(told(site, question, rule, relay, examined, &options))
}

fn told(
    site: &Site<'_>,
    question: &Question<'_>,
    rule: Option<&DestinationRule>,
    relay: bool,
    examined: Examined,
    options: &Options,
) -> Explanation {
    let Examined { decision, ended } = examined;
    let rules = nexthop::rules(&decision, rule, ended.as_ref());
    let hosts: Vec<HostPart> =
        decision.hosts.iter().map(|host| hosts::part(host, &decision, question.purpose(), options)).collect();
    let facts =
        conclusion::Facts { question, decision: &decision, ended: ended.as_ref(), hosts: &hosts, relay };
    let ending = conclusion::reach(&facts, site.lifetime);
    Explanation {
        subject: question.subject.to_owned(),
        probed: question.probe,
        fate: ending.fate,
        conclusion: ending.text,
        route: decision.route.clone(),
        rules,
        hosts,
        operator: ending.operator,
        here: ending.here,
        exception: ending.exception,
        decision: Some(decision),
    }
}

/// Reads what a person gives: `example.org`, `bob@example.org`, `[192.0.2.1]`.
pub(super) fn subject(text: &str) -> Result<(Host, Option<Mailbox>), String> {
    let shown = crate::log::visible(text);
    if text.contains('@') {
        let mailbox =
            Mailbox::parse(text).map_err(|error| format!("\"{shown}\" is no mail address: {error}"))?;
        return Ok((mailbox.host().clone(), Some(mailbox)));
    }
    let trimmed = text.strip_suffix('.').unwrap_or(text);
    let host = Host::parse(trimmed)
        .map_err(|error| format!("\"{shown}\" is neither a domain nor an address: {error}"))?;
    Ok((host, None))
}

/// A person waits: every step is bounded by what they allow, where the configuration allows more.
fn bound(context: &mut Context, question: &Question<'_>) {
    let mut options = (*context.options).clone();
    let step = question.step_timeout;
    options.attempt_timeout = options.attempt_timeout.min(question.deadline);
    options.connect_timeout = options.connect_timeout.min(step);
    options.handshake_timeout = options.handshake_timeout.min(step);
    options.smtp.greeting = options.smtp.greeting.min(step);
    options.smtp.command = options.smtp.command.min(step);
    context.options = Arc::new(options);
}

/// Whether a recipient of ours exists.
fn is_known(recipient: &Recipient) -> bool {
    recipient.is_taken()
}

pub(super) fn rule(name: &'static str, source: &'static str, verdict: Mark, text: impl Into<String>) -> Rule {
    let source = (!source.is_empty()).then_some(source);
    Rule { rule: name, source, verdict, text: text.into() }
}
