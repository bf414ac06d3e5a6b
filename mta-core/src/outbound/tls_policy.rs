//! What is required of the connection to one host: one function, [`require`], joins what DNS says (DANE) with the relay
//! settings, the local rules and what the message itself demands.
//!
//! It fails closed: what it does not know how to weigh is not connected to. It only ever adds to what DANE demands. What it
//! does not: no DNS (see `mta_dane::discovery`), no handshake (see `tls::client`). MTA-STS will be one more argument: it
//! counts where `HostPolicy` is `NotApplicable` (RFC 8461 2), and never repairs a DANE failure.

use std::fmt;
use std::time::SystemTime;

use mta_dane::dnssec::Status;
use mta_dane::failure::HostFault;
use mta_dane::policy::{HostPolicy, Requirement as DaneRequirement};

use crate::routing::{RelayHost, RelayTls};
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
}

/// How discovery is to look at DANE for a destination.
pub fn dane_requirement(relay: Option<&RelayHost>, rule: Option<TlsRule>) -> DaneRequirement {
    match (relay, rule) {
        // Before all else: a relay host without TLS is no way around it.
        (_, Some(TlsRule::DaneMandatory)) => DaneRequirement::Mandatory,
        // Plaintext was configured: there is no certificate to match anything.
        (Some(RelayHost { tls: RelayTls::Never, .. }), _) | (_, Some(TlsRule::DaneOff)) => {
            DaneRequirement::Off
        }
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
    /// Whether the message came with REQUIRETLS (RFC 8689).
    pub require_tls: bool,
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
    /// The message demands REQUIRETLS, and nothing proves who this host is (RFC 8689 4.2.1).
    RequireTls,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(fault) => fault.fmt(f),
            Self::RequireTls => f.write_str(
                "the message demands REQUIRETLS, and nothing in DNS proves the identity of this host",
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
    let (requirement, why) = match facts.dane {
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
            let (requirement, why) = without_dane(facts, &sni);
            match requirement {
                Requirement::Authenticated(_) => (requirement, why),
                // Whatever else is configured: secure TLSA records forbid plaintext (RFC 7672 2.2).
                _ => {
                    let why = "there are secure TLSA records, none of them usable";
                    (Requirement::Encrypted(Demand::Any { sni }), why.to_owned())
                }
            }
        }
        HostPolicy::NotApplicable(no_dane) => {
            let (requirement, why) = without_dane(facts, facts.host);
            (requirement, if why.is_empty() { no_dane.to_string() } else { format!("{why}; {no_dane}") })
        }
    };
    if facts.require_tls && !satisfies_require_tls(&requirement, facts) {
        return Err(Refusal::RequireTls);
    }
    Ok((requirement, why))
}

/// What is required where no usable TLSA record decides.
fn without_dane(facts: Facts<'_>, sni: &str) -> (Requirement, String) {
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
        Some(TlsRule::DaneOff) | None => (Requirement::Opportunistic(any()), String::new()),
    }
}

/// RFC 8689 4.2.1: the host must be named by a secure MX and prove its identity. A relay host is named by us.
fn satisfies_require_tls(requirement: &Requirement, facts: Facts<'_>) -> bool {
    matches!(requirement, Requirement::Authenticated(_)) && facts.mx_status == Status::Secure
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
            require_tls: false,
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

    #[test]
    fn require_tls_needs_a_secure_mx_and_a_proof_rfc8689_4_2_1() {
        for (dane, mx_status, allowed) in [
            (authenticate(false), Status::Secure, true),
            (authenticate(true), Status::Insecure, false),
            (unusable(), Status::Secure, false),
            (none(), Status::Secure, false),
        ] {
            let facts = Facts {
                host: "mx.example",
                dane: &dane,
                mx_status,
                next_hop: "example",
                relay: None,
                rule: None,
                require_tls: true,
            };
            assert_eq!(require(facts).is_ok(), allowed, "{dane:?}");
        }
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
