//! The rules about one host: its addresses, its TLSA records, and what follows for a connection.

use mta_dane::tlsa::{Matching, Selector, TlsaRecord, Usage};

use super::super::Options;
use super::super::attempt::Purpose;
use super::super::decision::{Decision, HostRecord, TlsaLookup};
use super::{HostPart, Mark, Rule, addresses, rule};

/// Hexadecimal digits of a record's data that are enough to tell it from another.
const DIGITS: usize = 16;

pub(super) fn part(host: &HostRecord, decision: &Decision, purpose: Purpose, options: &Options) -> HostPart {
    let mut rules = address_rules(host);
    rules.extend(host.tlsa.iter().flat_map(tlsa_rules));
    rules.extend(name_rules(host));
    rules.push(requirement(host));
    let addresses = addresses::parts(host, purpose, options);
    let usable = host.skipped.is_none()
        && match purpose {
            Purpose::Probe => addresses.iter().any(|address| address.ready == Some(true)),
            _ => addresses.iter().any(|address| address.ready != Some(false)),
        };
    let known = decision.mx.as_ref().and_then(|mx| mx.hosts.iter().find(|known| known.host == host.host));
    HostPart {
        host: host.host.clone(),
        preference: known.and_then(|known| known.preference),
        rules,
        addresses,
        triage: host.triage.clone(),
        usable,
    }
}

fn address_rules(host: &HostRecord) -> Vec<Rule> {
    let mut rules = Vec::new();
    for hop in &host.hops {
        let mark = if hop.status == "secure" { Mark::Ok } else { Mark::Warn };
        let text = format!("{} is an alias of {} ({})", hop.owner, hop.target, hop.status);
        rules.push(rule("alias", "RFC 7672 2.2.2", mark, text));
    }
    let list = host.addresses.join(", ");
    match host.address_status.as_str() {
        "literal" => rules.push(rule(
            "address",
            "RFC 7672 2.2",
            Mark::NotApplicable,
            "an address without a name: there is nothing that DNSSEC or DANE could say of it",
        )),
        "secure" if !host.addresses.is_empty() => {
            rules.push(rule("address", "RFC 7672 2.2.2", Mark::Ok, format!("{list}; secured by DNSSEC")));
        }
        "insecure" if !host.addresses.is_empty() => {
            let text = if host.tlsa.is_empty() {
                format!(
                    "{list}; not secured by DNSSEC, so TLSA records are not even asked for: DANE does not apply"
                )
            } else {
                format!("{list}; not secured by DNSSEC, but the alias leading there is")
            };
            rules.push(rule("address", "RFC 7672 2.2.2", Mark::Warn, text));
        }
        _ => {
            let why = host.skipped.clone().unwrap_or_else(|| "no address could be learnt".to_owned());
            rules.push(rule("address", "RFC 7672 2.1.2", Mark::Fail, why));
        }
    }
    if let Some(error) = &host.family_error {
        let text = format!("{error}; the other address family has an answer, and with that one it goes on");
        rules.push(rule("address-family", "RFC 7672 2.2.2", Mark::Warn, text));
    }
    rules
}

/// One lookup and each of its records.
fn tlsa_rules(lookup: &TlsaLookup) -> Vec<Rule> {
    let owner = &lookup.owner;
    let mut rules = Vec::new();
    match lookup.status.as_str() {
        "secure" => {
            let count = lookup.records.len();
            let s = if count == 1 { "" } else { "s" };
            let text = format!(
                "{count} record{s} at {owner}, secured by DNSSEC: the host promises TLS, so nothing is sent to it without"
            );
            rules.push(rule("tlsa", "RFC 7672 2.2.3", Mark::Ok, text));
        }
        "insecure" => rules.push(rule(
            "tlsa",
            "RFC 7672 2.2.3",
            Mark::Warn,
            format!("the records at {owner} are not secured by DNSSEC and count for nothing"),
        )),
        "bogus" | "unavailable" => {
            let reason = lookup.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            let what = if lookup.status == "bogus" { "are bogus" } else { "could not be had" };
            let text = format!(
                "the records at {owner} {what}{reason}. They may say that this host must be verified, so it is not used"
            );
            rules.push(rule("tlsa", "RFC 7672 2.1.2", Mark::Fail, text));
        }
        absent => {
            let proof = absent.strip_prefix("absent ").unwrap_or_default();
            let text = format!("there is no record at {owner} {proof}");
            rules.push(rule("tlsa", "RFC 7672 2.2.3", Mark::NotApplicable, text.trim_end().to_owned()));
        }
    }
    rules.extend(lookup.records.iter().map(|record| record_rule(record)));
    rules
}

/// One record, in words.
fn record_rule(record: &str) -> Rule {
    let (fields, unusable) = match record.split_once(" (unusable: ") {
        Some((fields, why)) => (fields, Some(why.strip_suffix(')').unwrap_or(why))),
        None => (record, None),
    };
    let Ok(parsed) = fields.parse::<TlsaRecord>() else {
        // Whole certificates are cut in the record.
        return match unusable {
            Some(why) => {
                rule("tlsa-record", "RFC 6698 4.1", Mark::Warn, format!("{fields}: cannot be used: {why}"))
            }
            None => rule(
                "tlsa-record",
                "RFC 7672 3.1",
                Mark::Ok,
                format!("{fields}: the whole of it stands in DNS"),
            ),
        };
    };
    let short = short(&parsed);
    if let Some(why) = unusable {
        let source = if matches!(parsed.usage, Usage::PkixTa | Usage::PkixEe) {
            "RFC 7672 3.1.3"
        } else {
            "RFC 6698 4.1"
        };
        return rule("tlsa-record", source, Mark::Warn, format!("{short}: cannot be used: {why}"));
    }
    let part = match parsed.selector {
        Selector::Cert => "certificate",
        _ => "public key",
    };
    let form = match parsed.matching {
        Matching::Full => "in full",
        Matching::Sha256 => "by its SHA-256 digest",
        _ => "by its SHA-512 digest",
    };
    match parsed.usage {
        Usage::DaneEe => {
            let text =
                format!("{short}: names the server's own {part}, {form}; its name and dates do not matter");
            rule("tlsa-record", "RFC 7672 3.1.1", Mark::Ok, text)
        }
        _ => {
            let text = format!(
                "{short}: names the {part} of an issuer, {form}; the server's certificate must lead to it, be in date and \
                 carry the right name"
            );
            rule("tlsa-record", "RFC 7672 3.1.2", Mark::Ok, text)
        }
    }
}

fn short(record: &TlsaRecord) -> String {
    let text = record.to_string();
    let end = "3 1 1 ".len() + DIGITS;
    match text.get(..end) {
        Some(head) if text.len() > end => format!("{head}\u{2026}"),
        _ => text,
    }
}

/// Names: what goes into SNI, and what a certificate must carry.
fn name_rules(host: &HostRecord) -> Vec<Rule> {
    let mut rules = Vec::new();
    if let Some(base) = &host.base_domain {
        let text = format!("{base} is the TLSA base domain, and the name the TLS handshake asks for (SNI)");
        rules.push(rule("sni", "RFC 7672 8.1", Mark::Ok, text));
    }
    if !host.reference_ids.is_empty() {
        let text = format!("under usage 2 the certificate must be for {}", host.reference_ids.join(" or "));
        rules.push(rule("names", "RFC 7672 3.2.2", Mark::Ok, text));
    }
    rules
}

/// What all of it demands of a connection.
fn requirement(host: &HostRecord) -> Rule {
    let why = &host.requirement_reason;
    match host.requirement.as_str() {
        "dane" if host.host_only => rule(
            "requirement",
            "RFC 7672 2.2.1",
            Mark::Warn,
            "TLS, and a certificate that matches a TLSA record, or nothing is sent. It proves the host; as the MX records are \
             not secured, it does not prove that the host is the domain's",
        ),
        "dane" => rule(
            "requirement",
            "RFC 7672 2.2",
            Mark::Ok,
            "TLS, and a certificate that matches a TLSA record, or nothing is sent",
        ),
        "encrypt" => rule(
            "requirement",
            "RFC 7672 2.2",
            Mark::Warn,
            format!("TLS, or nothing is sent; but no certificate is checked ({why})"),
        ),
        "verify" => rule(
            "requirement",
            "",
            Mark::Ok,
            format!("TLS, and a certificate that the system's certification authorities vouch for ({why})"),
        ),
        "opportunistic" => rule(
            "requirement",
            "RFC 7672 2.2",
            Mark::NotApplicable,
            format!(
                "DANE does not apply ({why}): TLS if it is offered, with whatever certificate, else plain text"
            ),
        ),
        "plaintext" => rule("requirement", "", Mark::Warn, format!("no TLS ({why})")),
        _ => {
            let why = host.skipped.clone().unwrap_or_else(|| "it cannot be used".to_owned());
            rule("requirement", "RFC 7672 2.2", Mark::Fail, format!("the host is not used: {why}"))
        }
    }
}
