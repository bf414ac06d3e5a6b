//! The rules about one address of a host: connection, STARTTLS, TLS, certificate.

use super::super::Options;
use super::super::attempt::Purpose;
use super::super::decision::{HostRecord, TlsRecord, TryRecord};
use super::super::examine::READY;
use super::super::triage::Class;
use super::{AddressPart, Mark, Rule, rule};

/// What the record says of an address that is not connected to.
const NOT_CONNECTED: &str = "not connected: ";

/// Every address: those that were tried as they showed themselves, the others as DNS names them.
pub(super) fn parts(host: &HostRecord, purpose: Purpose, options: &Options) -> Vec<AddressPart> {
    let mut parts: Vec<AddressPart> = Vec::new();
    for attempt in &host.tries {
        let part = tried(host, attempt);
        match parts.iter_mut().find(|known| known.address == part.address) {
            // The second connection to an address is the one that counts.
            Some(known) => *known = part,
            None => parts.push(part),
        }
    }
    for address in &host.addresses {
        let is_known = parts.iter().any(|known| ip_of(&known.address) == address.as_str());
        if is_known || host.skipped.is_some() {
            continue;
        }
        let most = options.max_addresses_per_host;
        if purpose != Purpose::Probe {
            // Nothing is known of it but what the host's rules say already.
            if parts.len() < most {
                parts.push(AddressPart { address: address.clone(), rules: Vec::new(), ready: None });
            }
            continue;
        }
        let text = format!("not tried: a delivery tries {most} addresses of a host, within its time");
        let rules = vec![rule("connection", "", Mark::NotApplicable, text)];
        parts.push(AddressPart { address: address.clone(), rules, ready: Some(false) });
    }
    parts
}

fn ip_of(address: &str) -> &str {
    let ip = address.rsplit_once(':').map_or(address, |(ip, _)| ip);
    ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip)
}

fn tried(host: &HostRecord, attempt: &TryRecord) -> AddressPart {
    let ready = attempt.result == READY;
    let mut rules = vec![connection(attempt)];
    if attempt.connect_ms.is_some() {
        rules.extend(starttls(host, attempt));
        if let Some(tls) = &attempt.tls {
            rules.extend(session(tls));
            rules.push(certificate(host, attempt, tls));
        }
        rules.extend(last_word(attempt, ready, &rules));
    }
    AddressPart { address: attempt.address.clone(), rules, ready: Some(ready) }
}

fn connection(attempt: &TryRecord) -> Rule {
    match attempt.connect_ms {
        Some(_) => {
            let name = attempt
                .greeting
                .as_deref()
                .map(|name| format!("; it calls itself {name}"))
                .unwrap_or_default();
            rule("connection", "RFC 5321 3.1", Mark::Ok, format!("the server answers{name}"))
        }
        None => {
            let why = attempt.result.strip_prefix(NOT_CONNECTED).unwrap_or(&attempt.result);
            // The number of the error is for programmers.
            rule("connection", "RFC 5321 5.1", Mark::Fail, why.split(" (os error").next().unwrap_or(why))
        }
    }
}

fn starttls(host: &HostRecord, attempt: &TryRecord) -> Option<Rule> {
    let mandatory = matches!(host.requirement.as_str(), "dane" | "encrypt" | "verify");
    match (attempt.starttls.as_str(), mandatory) {
        ("done" | "failed", _) => {
            Some(rule("starttls", "RFC 3207 4", Mark::Ok, "STARTTLS is offered and accepted"))
        }
        ("implicit", _) => Some(rule("starttls", "RFC 8314 3.3", Mark::Ok, "TLS from the first byte")),
        (how @ ("not offered" | "refused"), true) => Some(rule(
            "starttls",
            "RFC 7672 2.2",
            Mark::Fail,
            format!(
                "STARTTLS is {how}. The host promises TLS in its TLSA records, so nothing is sent in the clear"
            ),
        )),
        (how @ ("not offered" | "refused"), false) => Some(rule(
            "starttls",
            "RFC 3207 4",
            Mark::Warn,
            format!("STARTTLS is {how}: mail would travel in the clear"),
        )),
        _ => None,
    }
}

fn session(tls: &TlsRecord) -> Option<Rule> {
    let version = tls.version.as_ref()?;
    let cipher = tls.cipher.as_deref().map(|cipher| format!(" with {cipher}")).unwrap_or_default();
    let sni = tls.sni.as_deref().map(|name| format!(", asked for {name}")).unwrap_or_default();
    Some(rule("tls", "RFC 7672 8", Mark::Ok, format!("{version}{cipher}{sni}")))
}

fn certificate(host: &HostRecord, attempt: &TryRecord, tls: &TlsRecord) -> Rule {
    if let Some(failure) = &tls.failure {
        let class = attempt.reason_code.as_deref().and_then(Class::parse);
        if host.requirement == "opportunistic" {
            let text = format!("{failure}; a delivery would try again without TLS");
            return rule("certificate", "RFC 7672 2.2", Mark::Warn, text);
        }
        return rule("certificate", source_of(class), Mark::Fail, failure.clone());
    }
    match &tls.authenticated_by {
        Some(by) if by.starts_with("TLSA 2") => {
            rule("certificate", "RFC 7672 3.1.2", Mark::Ok, shortened(by))
        }
        Some(by) if by.starts_with("TLSA") => rule("certificate", "RFC 7672 3.1.1", Mark::Ok, shortened(by)),
        Some(by) => rule("certificate", "RFC 5280 6", Mark::Ok, format!("vouched for by {by}")),
        None => rule(
            "certificate",
            "RFC 7672 2.2",
            Mark::NotApplicable,
            "not checked: nothing says which one would be right. TLS keeps listeners out, but not somebody who pretends to \
             be the server",
        ),
    }
}

/// Where the rule is written that a certificate of this class breaks.
fn source_of(class: Option<Class>) -> &'static str {
    match class {
        Some(Class::NameMismatch) => "RFC 7672 3.2.2",
        Some(Class::AnchorNotSent) => "RFC 7671 5.2.2",
        Some(Class::Expired | Class::NotYetValid | Class::BrokenChain | Class::OtherIssuer) => {
            "RFC 7672 3.1.2"
        }
        Some(Class::StaleTlsa | Class::OtherServer | Class::PublishingSlip) => "RFC 7672 3.1",
        Some(Class::NotTrusted) => "RFC 5280 6",
        _ => "RFC 7672 2.2",
    }
}

/// A record's data cut to what tells it from another.
fn shortened(by: &str) -> String {
    let words = by.split(' ').map(|word| {
        let is_data = word.len() > 16 && word.trim_end_matches('.').chars().all(|c| c.is_ascii_hexdigit());
        match word.get(..16) {
            Some(head) if is_data => format!("{head}\u{2026}"),
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What is not said by any rule above.
fn last_word(attempt: &TryRecord, ready: bool, above: &[Rule]) -> Option<Rule> {
    if ready {
        let text = "ready for mail: here a delivery would begin; nothing was sent but EHLO and QUIT";
        return Some(rule("session", "RFC 5321 3.3", Mark::Ok, text));
    }
    let told = above.iter().any(|rule| rule.verdict == Mark::Fail) || attempt.result.is_empty();
    (!told).then(|| rule("session", "RFC 5321 4.2", Mark::Fail, attempt.result.clone()))
}
