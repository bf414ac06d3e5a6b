//! A host's TLSA records against what it really serves: at every address, for every kind of key, with and without SNI.
//!
//! Discovery, connections and the judge are a delivery's; what is added is that each record is judged alone, so that one
//! that names nothing any more is found although another matches. What it does not: it sends no envelope, and it learns
//! nothing of the domain whose MX the host is.

mod findings;
mod handshake;
mod text;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use mta_dane::discovery::{self, CandidateResult, HostDiscovery, HostResult, MxDiscovery, NextHop};
use mta_dane::dnssec::Answer;
use mta_dane::failure::Mismatch;
use mta_dane::policy::HostPolicy;
use mta_dane::reference::{ReferenceId, a_labels, text};
use mta_dane::tlsa::TlsaRecord;
use mta_dane::verify::{self, SeenCertificate, Verdict};
use rustls_pki_types::CertificateDer;
use serde::Serialize;

use super::explain::{Mark, Rule};
use super::{Options, connect, discover};
use crate::config::Config;
use crate::dns::Resolver;
use crate::inspect::own_certificate;

use self::handshake::{Key, Shown};

/// Addresses of the host that are looked at.
const MAX_ADDRESSES: usize = 8;
/// The port at which TLS begins with the first byte (RFC 8314 7.3).
const IMPLICIT_TLS_PORT: u16 = 465;

/// What is to be checked.
#[derive(Debug, Clone, Copy)]
pub struct CheckQuestion<'a> {
    /// `HOST` or `HOST:PORT`; this server itself if not given.
    pub target: Option<&'a str>,
    /// The longest that one step may take.
    pub step_timeout: Duration,
}

/// One record and what it matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedRecord {
    /// The record's data.
    pub record: String,
    /// Why no sender can use it.
    pub unusable: Option<String>,
    /// Where what is served matches it, as `ADDRESS KEY` each.
    pub matches: Vec<String>,
}

/// One chain that is served at an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedChain {
    /// Address and port.
    pub address: String,
    /// `ECDSA` or `RSA`: the signatures that were offered.
    pub key: &'static str,
    /// The name asked for; none for the handshake without SNI.
    pub sni: Option<String>,
    /// What came in place of a chain.
    pub failure: Option<String>,
    /// Subject of the server's certificate.
    pub subject: Option<String>,
    /// The data of its `3 1 1` record.
    pub spki_sha256: Option<String>,
    /// Until when it is valid.
    pub not_after: Option<String>,
    /// The record that a sender would find it to match.
    pub matched: Option<String>,
}

/// The result. The fields are those of `--json` and stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Where its records are.
    pub owner: Option<String>,
    /// The records.
    pub records: Vec<CheckedRecord>,
    /// What is served.
    pub served: Vec<CheckedChain>,
    /// The rules and how they came out.
    pub rules: Vec<Rule>,
    /// What it comes to.
    pub conclusion: String,
    /// Records that would match what is served and matches nothing now; to be published if those keys are the host's own.
    pub suggested: Vec<String>,
    /// How the verb ends.
    #[serde(skip)]
    pub exit_code: u8,
}

/// What was found out, for `findings`.
struct Facts {
    host: String,
    port: u16,
    ids: Vec<ReferenceId>,
    owner: Option<Name>,
    /// Every record as published, with its time to live.
    records: Vec<(TlsaRecord, u32)>,
    /// What each handshake showed.
    shown: Vec<Shown>,
    /// Our own certificate, where it is this server that is checked.
    own: Option<Result<Vec<CertificateDer<'static>>, String>>,
}

impl Facts {
    /// How one record alone judges a chain.
    fn judge(&self, record: &TlsaRecord, chain: &[CertificateDer<'static>]) -> Result<(), Mismatch> {
        match verify::judge(std::slice::from_ref(record), chain, &self.ids, now()).verdict {
            Verdict::Match(_) => Ok(()),
            Verdict::NoMatch(why) => Err(why),
        }
    }
}

/// Checks a host.
///
/// # Errors
/// The target is no host.
pub(crate) async fn check(
    config: &Config,
    resolver: &dyn Resolver,
    question: &CheckQuestion<'_>,
) -> Result<Checked, String> {
    let mut options = config.outbound_options();
    options.connect_timeout = options.connect_timeout.min(question.step_timeout);
    options.handshake_timeout = options.handshake_timeout.min(question.step_timeout);
    options.smtp.greeting = options.smtp.greeting.min(question.step_timeout);
    options.smtp.command = options.smtp.command.min(question.step_timeout);
    let own_host = config.host_domain().to_string();
    let (name, port) = match question.target {
        Some(target) => host_port(target, options.port)?,
        None => (own_host.as_str(), options.port),
    };
    let host = a_labels(name).map_err(|error| error.to_string())?;
    let found = walk(resolver, &host, port, &options).await?;
    let own = question.target.is_none().then(|| own_chain(config));
    let mut facts = Facts {
        host: text(&host),
        port,
        ids: vec![ReferenceId::from_name(&host)],
        owner: None,
        records: Vec::new(),
        shown: Vec::new(),
        own,
    };
    if let Some(base) = found.policy.base_domain()
        && text(base) != facts.host
    {
        facts.ids.insert(0, ReferenceId::from_name(base));
    }
    let secure = found.candidates.iter().find(|it| matches!(it.result, CandidateResult::Secure { .. }));
    if let Some(candidate) = secure {
        facts.owner = Some(candidate.owner.clone());
        let answer = resolver.lookup(candidate.owner.clone(), RecordType::TLSA).await;
        facts.records = records(&answer);
    }
    let sni = found.policy.sni().unwrap_or_else(|| facts.host.clone());
    if !matches!(found.policy, HostPolicy::Unavailable(_)) {
        for address in found.addresses.iter().take(MAX_ADDRESSES) {
            serve(&mut facts, *address, &sni, &options).await;
        }
    }
    Ok(findings::draw(&facts, &found))
}

/// Everything that DNS says of the host, as for a relay host: no MX is looked up.
async fn walk(
    resolver: &dyn Resolver,
    host: &Name,
    port: u16,
    options: &Options,
) -> Result<HostResult, String> {
    let walk = discovery::Options {
        ipv4: options.ipv4,
        ipv6: options.ipv6,
        seed: 0,
        hops_known: options.alias_status_known,
        ..discovery::Options::default()
    };
    let machine = MxDiscovery::new(&NextHop::Host(host.clone()), walk.clone());
    let list = discover::hosts(resolver, machine, options.discovery_timeout).await;
    let list = list.map_err(|failure| failure.to_string())?;
    let entry = list.hosts.first().ok_or("no host")?;
    let machine = HostDiscovery::new(&list, entry, port, walk);
    discover::host(resolver, machine, options.discovery_timeout).await.map_err(|fault| fault.to_string())
}

/// Every handshake at one address.
async fn serve(facts: &mut Facts, address: IpAddr, sni: &str, options: &Options) {
    let address = SocketAddr::new(address, facts.port);
    for name in [Some(sni), None] {
        for key in [Key::Ecdsa, Key::Rsa] {
            let implicit = facts.port == IMPLICIT_TLS_PORT;
            facts.shown.push(handshake::show(address, key, name, implicit, options).await);
        }
    }
}

/// All records of the set, those that nobody can use too.
fn records(answer: &Arc<Answer>) -> Vec<(TlsaRecord, u32)> {
    let of = |record: &hickory_proto::rr::Record| match &record.data {
        hickory_proto::rr::RData::TLSA(data) => Some((TlsaRecord::from(data), record.ttl)),
        _ => None,
    };
    answer.records.iter().filter_map(of).collect()
}

fn own_chain(config: &Config) -> Result<Vec<CertificateDer<'static>>, String> {
    use rustls_pki_types::pem::PemObject;
    let file = own_certificate(config);
    let chain = CertificateDer::pem_file_iter(&file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    chain.map_err(|error| format!("{}: {error}", file.display()))
}

/// `mx.example.org`, `mx.example.org:465`.
fn host_port(target: &str, port: u16) -> Result<(&str, u16), String> {
    match target.rsplit_once(':') {
        None => Ok((target, port)),
        Some((host, number)) => match number.parse() {
            Ok(number) => Ok((host, number)),
            Err(_) => Err(format!("\"{}\": expected HOST or HOST:PORT", crate::log::visible(target))),
        },
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The server's own certificate of a chain.
fn leaf(chain: &[CertificateDer<'static>]) -> Option<SeenCertificate> {
    verify::seen(chain).into_iter().next()
}

/// Whether a rule asks somebody to act.
fn is_problem(rule: &Rule) -> bool {
    matches!(rule.verdict, Mark::Fail | Mark::Warn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_people_write_them() {
        assert_eq!(host_port("mx.example.org", 25).unwrap(), ("mx.example.org", 25));
        assert_eq!(host_port("mx.example.org:465", 25).unwrap(), ("mx.example.org", 465));
        for wrong in ["mx:", "mx:port", "mx:70000"] {
            assert!(host_port(wrong, 25).is_err(), "{wrong}");
        }
    }
}
