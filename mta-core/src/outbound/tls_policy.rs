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
mod tests {
    use std::time::Duration;

    use hickory_proto::rr::{Name, RecordType};
    use mta_dane::failure::{LookupError, NoDane};
    use mta_dane::policy::Authenticate;
    use mta_dane::tlsa::TlsaRecord;

    use super::*;
    use crate::routing::RelayAuth;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn authenticate(host_only: bool) -> HostPolicy {
        HostPolicy::Authenticate(Authenticate {
            base_domain: name("mx.example."),
            records: vec![TlsaRecord::new(3, 1, 1, [7; 32])],
            unusable: Vec::new(),
            reference_ids: Vec::new(),
            host_only,
        })
    }

    fn none() -> HostPolicy {
        HostPolicy::NotApplicable(NoDane::InsecureAddress { host: name("mx.example.") })
    }

    fn unusable() -> HostPolicy {
        HostPolicy::EncryptOnly { base_domain: name("mx.example."), unusable: Vec::new() }
    }

    fn error() -> HostPolicy {
        HostPolicy::Unavailable(HostFault::Tlsa(LookupError {
            name: name("_25._tcp.mx.example."),
            rtype: RecordType::TLSA,
            status: Status::Bogus,
            reason: String::new(),
        }))
    }

    fn relay(tls: RelayTls, auth: bool) -> RelayHost {
        let auth = auth.then(|| RelayAuth { username: "u".into(), secret_file: "/nowhere".into() });
        RelayHost { host: "relay.example".into(), port: 587, tls, auth }
    }

    fn word(dane: &HostPolicy, relay: Option<&RelayHost>, rule: Option<TlsRule>) -> &'static str {
        let facts = Facts {
            host: "mx.example",
            dane,
            mx_status: Status::Secure,
            next_hop: "example",
            relay,
            rule,
            sts: None,
            require_tls: false,
            tls_required_no: false,
        };
        require(facts).map_or("refused", |(requirement, _)| requirement.word())
    }

    /// RFC 7672 2.2 and the local settings: the whole table.
    #[test]
    fn the_truth_table() {
        use RelayTls::{Implicit, Never, Opportunistic, StartTls};
        use TlsRule::{DaneMandatory, DaneOff, Encrypt, Verify};
        let rules = [None, Some(DaneOff), Some(Encrypt), Some(Verify), Some(DaneMandatory)];
        for (dane, expected) in [
            (authenticate(false), ["dane"; 5]),
            (authenticate(true), ["dane"; 5]),
            (unusable(), ["encrypt", "encrypt", "encrypt", "verify", "encrypt"]),
            (none(), ["opportunistic", "opportunistic", "encrypt", "verify", "encrypt"]),
            (error(), ["refused"; 5]),
        ] {
            assert_eq!(rules.map(|rule| word(&dane, None, rule)), expected, "{dane:?}");
        }
        let relays = [
            relay(Implicit, false),
            relay(StartTls, true),
            relay(Opportunistic, false),
            relay(Opportunistic, true),
            relay(Never, false),
            relay(Never, true),
        ];
        for (dane, expected) in [
            (authenticate(false), ["dane"; 6]),
            (unusable(), ["verify", "verify", "encrypt", "verify", "encrypt", "verify"]),
            (none(), ["verify", "verify", "opportunistic", "verify", "plaintext", "verify"]),
            (error(), ["refused"; 6]),
        ] {
            let words: Vec<_> = relays.iter().map(|relay| word(&dane, Some(relay), None)).collect();
            assert_eq!(words, expected, "{dane:?}");
        }
    }

    /// Row L4: a policy that nobody can forge names a host as well as a secure MX does.
    #[test]
    fn l4_require_tls_with_mta_sts() {
        let listed = policy("enforce", "mx.example");
        for (dane, sts, allowed) in [
            (none(), &listed, true),
            (unusable(), &listed, true),
            (none(), &policy("enforce", "other.example"), false),
            (none(), &policy("testing", "mx.example"), false),
            // The host is proved by DANE, and named by a policy that nobody can forge.
            (authenticate(true), &listed, true),
        ] {
            let facts = Facts { require_tls: true, mx_status: Status::Insecure, ..facts(&dane, Some(sts)) };
            assert_eq!(require(facts).is_ok(), allowed, "{dane:?} {sts:?}");
        }
    }

    fn policy(mode: &str, mx: &str) -> Policy {
        let file = format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n");
        Policy::parse(file.as_bytes()).unwrap()
    }

    fn facts<'a>(dane: &'a HostPolicy, sts: Option<&'a Policy>) -> Facts<'a> {
        Facts {
            host: "mx.example",
            dane,
            mx_status: Status::Secure,
            next_hop: "example",
            relay: None,
            rule: None,
            sts,
            require_tls: false,
            tls_required_no: false,
        }
    }

    /// E10, L1, L2, L3 (RFC 8461 2): DANE, MTA-STS and the local rules, the whole table.
    #[test]
    fn dane_decides_where_it_can_and_mta_sts_elsewhere() {
        use TlsRule::{DaneAndStsOff, DaneMandatory, DaneOff, Encrypt, StsOff, Verify};
        let rules = [
            None,
            Some(DaneOff),
            Some(StsOff),
            Some(DaneAndStsOff),
            Some(Encrypt),
            Some(Verify),
            Some(DaneMandatory),
        ];
        let listed = policy("enforce", "mx.example");
        let unlisted = policy("enforce", "mx.elsewhere.example");
        let testing = policy("testing", "mx.elsewhere.example");
        let off = policy("none", "mx.elsewhere.example");
        let usual = [
            "opportunistic",
            "opportunistic",
            "opportunistic",
            "opportunistic",
            "encrypt",
            "verify",
            "encrypt",
        ];
        let encrypted = ["encrypt", "encrypt", "encrypt", "encrypt", "encrypt", "verify", "encrypt"];
        let verified = ["verify", "verify", "opportunistic", "opportunistic", "verify", "verify", "encrypt"];
        let forbidden =
            ["refused", "refused", "opportunistic", "opportunistic", "refused", "refused", "encrypt"];
        for (dane, sts, expected) in [
            // With usable TLSA records DANE alone decides, whatever the policy lists (L2).
            (authenticate(false), &listed, ["dane"; 7]),
            (authenticate(false), &unlisted, ["dane"; 7]),
            (authenticate(true), &unlisted, ["dane"; 7]),
            // An error of DANE is not repaired by a policy (L1).
            (error(), &listed, ["refused"; 7]),
            (none(), &listed, verified),
            (none(), &unlisted, forbidden),
            (none(), &testing, usual),
            (none(), &off, usual),
            // E10: the records forbid plaintext, the policy proves the host.
            (unusable(), &listed, ["verify", "verify", "encrypt", "encrypt", "verify", "verify", "encrypt"]),
            (
                unusable(),
                &unlisted,
                ["refused", "refused", "encrypt", "encrypt", "refused", "refused", "encrypt"],
            ),
            (unusable(), &testing, encrypted),
            (unusable(), &off, encrypted),
        ] {
            let words = rules.map(|rule| {
                let facts = Facts { rule, ..facts(&dane, Some(sts)) };
                require(facts).map_or("refused", |(requirement, _)| requirement.word())
            });
            assert_eq!(words, expected, "{dane:?} {sts:?}");
        }
    }

    #[test]
    fn a_policy_demands_the_name_of_the_host_and_testing_only_looks() {
        let listed = policy("enforce", "mx.example");
        let (dane, insecure) = (none(), Status::Insecure);
        let facts_now =
            Facts { mx_status: insecure, rule: Some(TlsRule::Verify), ..facts(&dane, Some(&listed)) };
        let (requirement, why) = require(facts_now).unwrap();
        assert_eq!(requirement.demand(), Some(&Demand::WebPki { name: "mx.example".into() }));
        assert!(why.contains("MTA-STS policy of example"), "{why}");
        let testing = policy("testing", "mx.example");
        let observed = Demand::Observed { sni: "mx.example".into(), name: "mx.example".into() };
        let (requirement, _) = require(facts(&dane, Some(&testing))).unwrap();
        assert_eq!(requirement, Requirement::Opportunistic(observed));
        let base = HostPolicy::EncryptOnly { base_domain: name("base.example."), unusable: Vec::new() };
        let (requirement, _) = require(facts(&base, Some(&testing))).unwrap();
        let observed = Demand::Observed { sni: "base.example".into(), name: "mx.example".into() };
        assert_eq!(requirement, Requirement::Encrypted(observed));
    }

    #[test]
    fn a_policy_says_nothing_about_a_relay_host() {
        let unlisted = policy("enforce", "other.example");
        let relay = relay(RelayTls::Opportunistic, false);
        let dane = none();
        let facts = Facts { relay: Some(&relay), ..facts(&dane, Some(&unlisted)) };
        assert_eq!(require(facts).map(|(requirement, _)| requirement.word()), Ok("opportunistic"));
    }

    #[test]
    fn a_host_that_a_policy_does_not_list_is_refused_in_words() {
        let (dane, unlisted) = (none(), policy("enforce", "other.example"));
        let refusal = require(facts(&dane, Some(&unlisted))).unwrap_err().to_string();
        assert!(refusal.contains("MTA-STS policy of example") && refusal.contains("mx.example"), "{refusal}");
    }

    fn asked<'a>(dane: &'a HostPolicy, mx_status: Status, rule: Option<TlsRule>) -> Facts<'a> {
        Facts { mx_status, rule, ..facts(dane, None) }
    }

    const RULES: [Option<TlsRule>; 5] = [
        None,
        Some(TlsRule::DaneOff),
        Some(TlsRule::Encrypt),
        Some(TlsRule::Verify),
        Some(TlsRule::DaneMandatory),
    ];

    /// Row L4 (RFC 8689 4.2.1): a proven host that is authenticated, by TLSA or by the system's roots, or none at all;
    /// whatever else is configured, and whatever the header says.
    #[test]
    fn l4_require_tls_needs_a_proven_host_and_a_proof() {
        use RequireTlsFault::{NoUsableTlsa, UnprovenHost};
        for (dane, mx_status, expected) in [
            (authenticate(false), Status::Secure, Ok("dane")),
            (none(), Status::Secure, Ok("verify")),
            (unusable(), Status::Secure, Err(NoUsableTlsa)),
            (authenticate(true), Status::Insecure, Err(UnprovenHost)),
            (none(), Status::Insecure, Err(UnprovenHost)),
            (unusable(), Status::Insecure, Err(UnprovenHost)),
        ] {
            for rule in RULES {
                for tls_required_no in [false, true] {
                    let facts = Facts { require_tls: true, tls_required_no, ..asked(&dane, mx_status, rule) };
                    let found = require(facts).map(|(requirement, _)| {
                        assert!(
                            requirement.is_tls_mandatory()
                                && requirement.demand().is_some_and(Demand::authenticates)
                        );
                        requirement.word()
                    });
                    // A local rule that verifies by the system's roots is a proof, TLSA or not.
                    let verified = rule == Some(TlsRule::Verify) && mx_status == Status::Secure;
                    match found {
                        Ok(word) if verified && expected == Err(NoUsableTlsa) => assert_eq!(word, "verify"),
                        found => {
                            assert_eq!(found, expected.map_err(Refusal::RequireTls), "{dane:?} {rule:?}")
                        }
                    }
                }
            }
        }
        assert!(matches!(
            require(Facts { require_tls: true, ..asked(&error(), Status::Secure, None) }),
            Err(Refusal::Dns(_))
        ));
    }

    #[test]
    fn l4_require_tls_holds_for_relay_hosts() {
        use RelayTls::{Implicit, Never, Opportunistic, StartTls};
        let expected = [Ok("verify"), Ok("verify"), Ok("verify"), Err(RequireTlsFault::Plaintext)];
        for (tls, expected) in [Implicit, StartTls, Opportunistic, Never].into_iter().zip(expected) {
            let relay = relay(tls, false);
            let dane = none();
            let facts =
                Facts { require_tls: true, relay: Some(&relay), ..asked(&dane, Status::Secure, None) };
            let found = require(facts).map(|(requirement, _)| requirement.word());
            assert_eq!(found, expected.map_err(Refusal::RequireTls), "{tls:?}");
        }
    }

    /// Rows L5 and L6 (RFC 8689 4.2.2): the policy is tried and not failed on, for this message; local rules stand.
    #[test]
    fn l5_l6_tls_required_no_relaxes_what_dns_demands_and_nothing_else() {
        for (dane, expected) in [
            (authenticate(false), ["opportunistic", "opportunistic", "dane", "dane", "dane"]),
            (unusable(), ["opportunistic", "opportunistic", "encrypt", "verify", "encrypt"]),
            (none(), ["opportunistic", "opportunistic", "encrypt", "verify", "encrypt"]),
            (error(), ["opportunistic", "opportunistic", "refused", "refused", "refused"]),
        ] {
            let words = RULES.map(|rule| {
                let facts = Facts { tls_required_no: true, ..asked(&dane, Status::Secure, rule) };
                require(facts).map_or("refused", |(requirement, _)| requirement.word())
            });
            assert_eq!(words, expected, "{dane:?}");
        }
        // The TLSA records are still what is tried first.
        let dane = authenticate(false);
        let tried = require(Facts { tls_required_no: true, ..asked(&dane, Status::Secure, None) });
        assert!(
            matches!(tried, Ok((Requirement::Opportunistic(Demand::Dane(_)), why)) if why.contains("TLS-Required"))
        );
        // A policy of MTA-STS is passed by in the same way.
        for mx in ["mx.example", "mx.elsewhere.example"] {
            let (dane, policy) = (none(), policy("enforce", mx));
            let found = require(Facts { tls_required_no: true, ..facts(&dane, Some(&policy)) });
            assert!(
                matches!(found, Ok((Requirement::Opportunistic(_), why)) if why.contains("TLS-Required")),
                "{mx}"
            );
        }
        // Without a login nothing is known of a relay host but what is configured; that stands, too.
        let relay = relay(RelayTls::StartTls, true);
        let with_relay =
            Facts { tls_required_no: true, relay: Some(&relay), ..asked(&dane, Status::Secure, None) };
        assert_eq!(require(with_relay).map(|(requirement, _)| requirement.word()), Ok("dane"));
        // What leaves no address to connect to is no matter of TLS.
        let fault =
            HostPolicy::Unavailable(HostFault::NoAddress { host: name("mx.example."), nxdomain: false });
        let facts = Facts { tls_required_no: true, ..asked(&fault, Status::Secure, None) };
        assert!(matches!(require(facts), Err(Refusal::Dns(_))));
    }

    #[test]
    fn a_rule_names_a_domain_or_what_is_below_it_and_ends() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let rule = |domain: &str| DestinationRule {
            domain: domain.into(),
            tls: TlsRule::DaneOff,
            until: Some(at(100)),
            reason: "broken".into(),
        };
        assert!(rule("a.example").applies("a.example", at(99)));
        assert!(!rule("a.example").applies("a.example", at(100)));
        assert!(!rule("a.example").applies("b.a.example", at(1)));
        assert!(rule(".a.example").applies("b.a.example", at(1)));
        assert!(!rule(".a.example").applies("a.example", at(1)));
        assert!(!rule(".a.example").applies("xa.example", at(1)));
    }

    #[test]
    fn the_nearest_rule_counts_in_whatever_order_they_stand() {
        let rule = |domain: &str, until| DestinationRule {
            domain: domain.into(),
            tls: TlsRule::DaneOff,
            until: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(until)),
            reason: String::new(),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(50);
        let mut rules = vec![
            rule(".example", 99),
            rule(".sub.example", 99),
            rule("a.sub.example", 99),
            rule("b.sub.example", 1),
        ];
        for _ in 0..rules.len() {
            rules.rotate_left(1);
            for (domain, expected) in [
                ("x.example", Some(".example")),
                ("sub.example", Some(".example")),
                ("x.sub.example", Some(".sub.example")),
                ("a.sub.example", Some("a.sub.example")),
                // Its own has ended.
                ("b.sub.example", Some(".sub.example")),
                ("example", None),
            ] {
                let found = nearest(&rules, domain, now).map(|rule| rule.domain.as_str());
                assert_eq!(found, expected, "{domain}");
            }
        }
    }

    #[test]
    fn discovery_is_told() {
        assert_eq!(dane_requirement(None, None), DaneRequirement::Opportunistic);
        assert_eq!(dane_requirement(None, Some(TlsRule::DaneOff)), DaneRequirement::Off);
        assert_eq!(dane_requirement(None, Some(TlsRule::DaneMandatory)), DaneRequirement::Mandatory);
        assert_eq!(dane_requirement(Some(&relay(RelayTls::Never, false)), None), DaneRequirement::Off);
        let never = relay(RelayTls::Never, false);
        assert_eq!(dane_requirement(Some(&never), Some(TlsRule::DaneMandatory)), DaneRequirement::Mandatory);
        assert_eq!(word(&none(), Some(&never), Some(TlsRule::DaneMandatory)), "encrypt");
        assert_eq!(
            dane_requirement(Some(&relay(RelayTls::StartTls, true)), None),
            DaneRequirement::Opportunistic
        );
    }
}
