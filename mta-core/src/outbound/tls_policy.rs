//! What is required of the connection to one host: one function, [`require`], joins what DNS says (DANE) with the domain's
//! MTA-STS policy, the relay settings, the local rules and what the message itself demands.
//!
//! It fails closed: what it does not know how to weigh is not connected to. It only ever adds to what DANE demands.
//! MTA-STS is judged for each host by itself, and counts where DANE leaves the host unproven: where there is no secure TLSA
//! record, and where none is usable. A host with usable records is judged by these alone, so a policy never repairs a
//! DANE failure (RFC 8461 2). What it does not: no DNS (see `mta_dane::discovery`), no policy is fetched (see `sts`), no
//! handshake (see `tls::client`).

use std::fmt;
use std::time::SystemTime;

use mta_dane::dnssec::Status;
use mta_dane::failure::HostFault;
use mta_dane::policy::{HostPolicy, Requirement as DaneRequirement};

use crate::routing::{RelayHost, RelayTls};
use crate::sts::{Mode, Policy};
use crate::tls::client::Demand;

/// A rule for one destination, from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationRule {
    /// The recipient domain, lower case, A-labels; a leading dot means all its subdomains.
    pub domain: String,
    /// What is changed about TLS.
    pub tls: TlsRule,
    /// When the rule ends by itself.
    pub until: Option<SystemTime>,
    /// Why the rule exists; shown wherever it takes effect.
    pub reason: String,
}

impl DestinationRule {
    /// Whether it is for this domain (lower case) and still holds.
    pub fn applies(&self, domain: &str, now: SystemTime) -> bool {
        let fits = match self.domain.strip_prefix('.') {
            Some(parent) => domain.strip_suffix(parent).is_some_and(|below| below.ends_with('.')),
            None => self.domain == domain,
        };
        fits && self.until.is_none_or(|until| now < until)
    }
}

/// The rule that counts for a domain (lower case): its own, else that of its nearest parent, as for routes. An exception
/// for a wide domain never undoes what was said of a narrow one.
pub fn nearest<'r>(
    rules: &'r [DestinationRule],
    domain: &str,
    now: SystemTime,
) -> Option<&'r DestinationRule> {
    let fits = rules.iter().filter(|rule| rule.applies(domain, now));
    fits.max_by_key(|rule| (!rule.domain.starts_with('.'), rule.domain.len()))
}

impl fmt::Display for DestinationRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.tls {
            TlsRule::DaneMandatory => "DANE is mandatory",
            TlsRule::DaneOff => "DANE is switched off",
            TlsRule::Encrypt => "TLS is required",
            TlsRule::Verify => "verified TLS is required",
            TlsRule::StsOff => "MTA-STS is switched off",
            TlsRule::DaneAndStsOff => "DANE and MTA-STS are switched off",
        };
        write!(f, "{what} for {}: {}", self.domain, self.reason)
    }
}

/// What a rule changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsRule {
    /// DANE is mandatory: without usable secure TLSA records behind a secure MX the mail waits (RFC 7672 6).
    DaneMandatory,
    /// DANE is not applied; TLS stays opportunistic (RFC 7672 9.1).
    DaneOff,
    /// TLS is required, any certificate will do where DANE asks for nothing more.
    Encrypt,
    /// TLS is required, and the certificate must be vouched for by DANE or by the system's roots.
    Verify,
    /// MTA-STS is not applied.
    StsOff,
    /// Neither DANE nor MTA-STS is applied.
    DaneAndStsOff,
}

/// Whether MTA-STS has a say for a destination. Not for a relay host, which the administrator named; and where DANE is
/// mandatory nothing else proves a host.
pub fn sts_counts(relay: Option<&RelayHost>, rule: Option<TlsRule>) -> bool {
    let off = [TlsRule::StsOff, TlsRule::DaneAndStsOff, TlsRule::DaneMandatory];
    relay.is_none() && rule.is_none_or(|rule| !off.contains(&rule))
}

/// How discovery is to look at DANE for a destination.
pub fn dane_requirement(relay: Option<&RelayHost>, rule: Option<TlsRule>) -> DaneRequirement {
    match (relay, rule) {
        // Before all else: a relay host without TLS is no way around it.
        (_, Some(TlsRule::DaneMandatory)) => DaneRequirement::Mandatory,
        // Plaintext was configured: there is no certificate to match anything.
        (Some(RelayHost { tls: RelayTls::Never, .. }), _)
        | (_, Some(TlsRule::DaneOff | TlsRule::DaneAndStsOff)) => DaneRequirement::Off,
        _ => DaneRequirement::Opportunistic,
    }
}

/// All that counts for the connection to one host.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The host's name, A-labels.
    pub host: &'a str,
    /// What DANE demands of the host.
    pub dane: &'a HostPolicy,
    /// The status of the MX records; secure for a relay host.
    pub mx_status: Status,
    /// The domain whose MX was looked up.
    pub next_hop: &'a str,
    /// The relay host's settings, where it is one.
    pub relay: Option<&'a RelayHost>,
    /// The local rule for the destination.
    pub rule: Option<TlsRule>,
    /// The MTA-STS policy of the domain, where one is in force.
    pub sts: Option<&'a Policy>,
    /// Whether the message came with REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// Whether the message says `TLS-Required: No` (RFC 8689 3), and the operator lets that count.
    pub tls_required_no: bool,
}

/// What is required of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// TLS, authenticated by TLSA records or by the system's roots; or nothing is sent.
    Authenticated(Demand),
    /// TLS with whatever certificate; or nothing is sent.
    Encrypted(Demand),
    /// TLS where it works, plaintext where it does not.
    Opportunistic(Demand),
    /// Plaintext, by configuration.
    Plaintext,
}

impl Requirement {
    /// Whether nothing may be sent without TLS.
    pub fn is_tls_mandatory(&self) -> bool {
        matches!(self, Self::Authenticated(_) | Self::Encrypted(_))
    }

    /// The demand on the certificate, where TLS is used.
    pub fn demand(&self) -> Option<&Demand> {
        match self {
            Self::Authenticated(demand) | Self::Encrypted(demand) | Self::Opportunistic(demand) => {
                Some(demand)
            }
            Self::Plaintext => None,
        }
    }

    /// The same, where any certificate will do, with another look at that certificate.
    fn observing(self, demand: Demand) -> Self {
        match self {
            Self::Opportunistic(_) => Self::Opportunistic(demand),
            Self::Encrypted(_) => Self::Encrypted(demand),
            other => other,
        }
    }

    /// One word for the decision record.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Authenticated(Demand::Dane(_)) => "dane",
            Self::Authenticated(_) => "verify",
            Self::Encrypted(_) => "encrypt",
            Self::Opportunistic(_) => "opportunistic",
            Self::Plaintext => "plaintext",
        }
    }
}

/// Why a host is not connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// DNS says that it cannot or must not be used now.
    Dns(HostFault),
    /// The message demands REQUIRETLS, and this host cannot satisfy it (RFC 8689 4.2.1).
    RequireTls(RequireTlsFault),
    /// The domain's MTA-STS policy does not allow this host (RFC 8461 4.1, 5).
    Sts {
        /// The host.
        host: String,
        /// The domain.
        domain: String,
    },
}

/// Why a host cannot satisfy REQUIRETLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequireTlsFault {
    /// Nothing proves that it is a host of the domain: the MX records are not secure, and no MTA-STS policy lists it.
    UnprovenHost,
    /// There are TLSA records, and none by which it could be authenticated.
    NoUsableTlsa,
    /// Plaintext is configured for it.
    Plaintext,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(fault) => fault.fmt(f),
            Self::RequireTls(fault) => write!(
                f,
                "the message demands REQUIRETLS, and {}",
                match fault {
                    RequireTlsFault::UnprovenHost => "nothing proves that this is a mail host of the domain",
                    RequireTlsFault::NoUsableTlsa =>
                        "no TLSA record of this host is usable to authenticate it",
                    RequireTlsFault::Plaintext => "this relay host is configured without TLS",
                }
            ),
            Self::Sts { host, domain } => write!(
                f,
                "the MTA-STS policy of {domain} (mode enforce) does not list {host}; either the policy is not up to date or \
                 somebody changed the MX records"
            ),
        }
    }
}

/// Decides what is required of the connection to a host, and says why in a few words.
///
/// # Errors
///
/// Why the host is not to be used at this attempt.
pub fn require(facts: Facts<'_>) -> Result<(Requirement, String), Refusal> {
    match by_policy(facts) {
        Ok((requirement, why)) if facts.require_tls => {
            require_tls(requirement, why, facts).map_err(Refusal::RequireTls)
        }
        Ok((requirement, why)) if is_relaxed(facts) => Ok(relaxed(requirement, why)),
        Err(refusal) if is_relaxed(facts) && leaves_addresses(&refusal) => {
            let demand = Demand::Any { sni: facts.host.to_owned() };
            Ok((Requirement::Opportunistic(demand), format!("{RELAXED}; {refusal}")))
        }
        decided => decided,
    }
}

/// What DANE, MTA-STS and the local settings require, whatever the message says of itself.
fn by_policy(facts: Facts<'_>) -> Result<(Requirement, String), Refusal> {
    Ok(match facts.dane {
        HostPolicy::Unavailable(fault) => return Err(Refusal::Dns(fault.clone())),
        HostPolicy::Authenticate(demand) => {
            let why = if demand.host_only {
                "secure TLSA records of the host (the MX records are not secure)"
            } else {
                "secure TLSA records"
            };
            (Requirement::Authenticated(Demand::Dane(Box::new(demand.clone()))), why.to_owned())
        }
        HostPolicy::EncryptOnly { base_domain, .. } => {
            let sni = mta_dane::reference::text(base_domain);
            let (requirement, why) = without_dane(facts, &sni)?;
            match requirement {
                Requirement::Authenticated(_) => (requirement, why),
                // Whatever else is configured: secure TLSA records forbid plaintext (RFC 7672 2.2).
                other => {
                    let why = "there are secure TLSA records, none of them usable";
                    let demand = other.demand().cloned().unwrap_or(Demand::Any { sni });
                    (Requirement::Encrypted(demand), why.to_owned())
                }
            }
        }
        HostPolicy::NotApplicable(no_dane) => {
            let (requirement, why) = without_dane(facts, facts.host)?;
            (requirement, if why.is_empty() { no_dane.to_string() } else { format!("{why}; {no_dane}") })
        }
    })
}

/// What is required where no usable TLSA record decides.
fn without_dane(facts: Facts<'_>, sni: &str) -> Result<(Requirement, String), Refusal> {
    match sts_demand(facts) {
        StsDemand::Verified => {
            let demand = Demand::WebPki { name: facts.host.to_owned() };
            let why = format!("MTA-STS policy of {}, which lists the host", facts.next_hop);
            Ok((Requirement::Authenticated(demand), why))
        }
        StsDemand::Forbidden => {
            Err(Refusal::Sts { host: facts.host.to_owned(), domain: facts.next_hop.to_owned() })
        }
        StsDemand::Observed => {
            let (requirement, why) = local(facts, sni);
            let observed = Demand::Observed { sni: sni.to_owned(), name: facts.host.to_owned() };
            Ok((requirement.observing(observed), why))
        }
        StsDemand::Nothing => Ok(local(facts, sni)),
    }
}

/// What the domain's MTA-STS policy demands of a host (RFC 8461 4, 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StsDemand {
    /// TLS with a certificate that the system's roots vouch for, for the host's name.
    Verified,
    /// The host is not to be used.
    Forbidden,
    /// Nothing, but whether the certificate would do is counted.
    Observed,
    /// Nothing.
    Nothing,
}

fn sts_demand(facts: Facts<'_>) -> StsDemand {
    let Some(policy) = facts.sts.filter(|_| sts_counts(facts.relay, facts.rule)) else {
        return StsDemand::Nothing;
    };
    match policy.mode {
        Mode::Enforce if policy.allows(facts.host) => StsDemand::Verified,
        Mode::Enforce => StsDemand::Forbidden,
        Mode::Testing => StsDemand::Observed,
        Mode::None => StsDemand::Nothing,
    }
}

/// What the local settings require where neither DANE nor MTA-STS decides.
fn local(facts: Facts<'_>, sni: &str) -> (Requirement, String) {
    let any = || Demand::Any { sni: sni.to_owned() };
    if let Some(relay) = facts.relay {
        let verified = Requirement::Authenticated(Demand::WebPki { name: relay.host.clone() });
        return match relay.tls {
            // As below: should discovery ever let it pass, nothing is sent in the clear.
            RelayTls::Opportunistic | RelayTls::Never if facts.rule == Some(TlsRule::DaneMandatory) => {
                (Requirement::Encrypted(any()), "local rule".to_owned())
            }
            RelayTls::Implicit | RelayTls::StartTls => (verified, "relay host by configuration".to_owned()),
            // A login goes to a proven host or nowhere, however the relay host is configured.
            _ if relay.auth.is_some() => (verified, "relay host with a login".to_owned()),
            RelayTls::Opportunistic => (Requirement::Opportunistic(any()), String::new()),
            RelayTls::Never => (Requirement::Plaintext, "plaintext by configuration".to_owned()),
        };
    }
    match facts.rule {
        // The name of a host that an insecure MX gave proves nothing about the domain: then the domain's own counts.
        Some(TlsRule::Verify) => {
            let name = if facts.mx_status == Status::Secure { facts.host } else { facts.next_hop };
            let demand = Demand::WebPki { name: name.to_owned() };
            (Requirement::Authenticated(demand), "local rule".to_owned())
        }
        // Discovery has turned everything but DANE into a refusal; should that ever fail, nothing is sent in the clear.
        Some(TlsRule::Encrypt | TlsRule::DaneMandatory) => {
            (Requirement::Encrypted(any()), "local rule".to_owned())
        }
        Some(TlsRule::DaneOff | TlsRule::StsOff | TlsRule::DaneAndStsOff) | None => {
            (Requirement::Opportunistic(any()), String::new())
        }
    }
}

/// RFC 8689 4.2.1: the host must be one of the domain for sure, and prove who it is: by TLSA records, else by a certificate
/// that the system's roots vouch for. That it offers REQUIRETLS is seen inside TLS (`mta_smtp::client`).
fn require_tls(
    requirement: Requirement,
    why: String,
    facts: Facts<'_>,
) -> Result<(Requirement, String), RequireTlsFault> {
    if !is_host_proven(facts) {
        return Err(RequireTlsFault::UnprovenHost);
    }
    match (requirement, facts.dane) {
        (proof @ Requirement::Authenticated(_), _) => Ok((proof, why)),
        (Requirement::Plaintext, _) => Err(RequireTlsFault::Plaintext),
        (_, HostPolicy::NotApplicable(_)) => {
            let demand = Demand::WebPki { name: facts.host.to_owned() };
            Ok((Requirement::Authenticated(demand), "the message demands REQUIRETLS".to_owned()))
        }
        _ => Err(RequireTlsFault::NoUsableTlsa),
    }
}

/// Whether the host is one of the domain's for sure: named by a secure MX or by the domain's MTA-STS policy. A relay host is
/// named by us.
fn is_host_proven(facts: Facts<'_>) -> bool {
    facts.mx_status == Status::Secure || sts_demand(facts) == StsDemand::Verified
}

/// Why less is required than DANE or MTA-STS demand.
const RELAXED: &str = "the message says TLS-Required: No";

/// Whether what DANE and MTA-STS demand counts for nothing with this message (RFC 8689 4.2.2). REQUIRETLS overrides the header, and
/// what this server's operator demands is not the recipient's policy: it stands.
fn is_relaxed(facts: Facts<'_>) -> bool {
    facts.tls_required_no
        && !facts.require_tls
        && facts.relay.is_none()
        && matches!(facts.rule, None | Some(TlsRule::DaneOff | TlsRule::StsOff | TlsRule::DaneAndStsOff))
}

/// Whether the host can be connected to in spite of a refusal: its addresses are known.
fn leaves_addresses(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Dns(fault) => {
            matches!(fault, HostFault::Tlsa(_) | HostFault::TlsaTooLarge { .. } | HostFault::Alias(_))
        }
        Refusal::Sts { .. } => true,
        Refusal::RequireTls(_) => false,
    }
}

/// The same demand on the certificate, tried first, and no failure for want of it.
fn relaxed(requirement: Requirement, why: String) -> (Requirement, String) {
    match requirement {
        Requirement::Authenticated(demand) | Requirement::Encrypted(demand) => {
            (Requirement::Opportunistic(demand), format!("{RELAXED}; {why}"))
        }
        other => (other, why),
    }
}

#[cfg(test)]
mod tests;
