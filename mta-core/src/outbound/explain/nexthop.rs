//! The rules about the destination as a whole: where its mail goes, which rules of this server concern it, its MX records.

use std::time::Duration;

use super::super::Outcome;
use super::super::decision::{Decision, MxRecord, StsRecord};
use super::super::tls_policy::{DestinationRule, TlsRule};
use super::{Mark, Rule, rule};
use crate::control::rfc3339;

/// MX hosts named in one line.
const MAX_NAMED: usize = 8;

pub(super) fn rules(
    decision: &Decision,
    local: Option<&DestinationRule>,
    ended: Option<&Outcome>,
) -> Vec<Rule> {
    let mut rules = vec![routing(decision), local_rule(local)];
    match (&decision.mx, &decision.ended_early) {
        (mx, Some(reason)) => rules.push(no_hosts(mx.as_ref(), reason, ended)),
        (Some(mx), None) => rules.extend(mx_rules(mx)),
        (None, None) => {}
    }
    rules.extend(decision.sts.as_ref().map(sts_rule));
    rules
}

/// The domain's MTA-STS policy, where a host that DANE does not prove made us look for it.
fn sts_rule(sts: &StsRecord) -> Rule {
    let hosts = sts.mx.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
    let (mark, source, text) = match (sts.mode.as_str(), &sts.fault) {
        ("enforce", _) => {
            (Mark::Ok, "RFC 8461 5", format!("policy with mode enforce: verified TLS, and only to {hosts}"))
        }
        ("testing", _) => {
            let text =
                format!("policy with mode testing lists {hosts}: failures are counted and stop nothing");
            (Mark::NotApplicable, "RFC 8461 5", text)
        }
        ("", Some(fault)) => (Mark::Warn, "RFC 8461 3.3", format!("no policy: {fault}")),
        _ => (Mark::NotApplicable, "RFC 8461 5", "policy with mode none: the domain has none".to_owned()),
    };
    rule("mta-sts", source, mark, text)
}

fn routing(decision: &Decision) -> Rule {
    match decision.route.split_once(':') {
        Some(("relay", host)) => rule(
            "routing",
            "",
            Mark::Ok,
            format!(
                "by the configuration of this server all mail for it goes to {host}; its MX records are not looked at"
            ),
        ),
        Some(("mx", literal)) if literal.starts_with('[') => rule(
            "routing",
            "RFC 5321 4.1.3",
            Mark::Ok,
            format!("straight to the address {literal}, without DNS"),
        ),
        _ => rule(
            "routing",
            "RFC 5321 5.1",
            Mark::Ok,
            "to the MX hosts of the domain; nothing in the configuration of this server routes it elsewhere",
        ),
    }
}

fn local_rule(local: Option<&DestinationRule>) -> Rule {
    let Some(local) = local else {
        let text =
            "no rule of this server concerns the TLS of this domain: DANE where the domain publishes it";
        return rule("local-rule", "", Mark::NotApplicable, text);
    };
    // The rule holds up to, not including, that moment.
    let last = local.until.and_then(|until| until.checked_sub(Duration::from_secs(1)));
    let until = last.map(rfc3339).and_then(|last| Some(format!(" until the end of {}", last.get(..10)?)));
    let until = until.unwrap_or_default();
    let (verdict, what, source) = match local.tls {
        TlsRule::DaneOff => (
            Mark::Warn,
            "DANE is switched off: no TLSA record is looked at, and nobody's identity is checked",
            "RFC 7672 9.1",
        ),
        TlsRule::DaneMandatory => {
            (Mark::Ok, "DANE is mandatory: without a match with a TLSA record nothing is sent", "RFC 7672 6")
        }
        TlsRule::StsOff => {
            (Mark::Warn, "MTA-STS is switched off: no policy of the domain is looked at", "RFC 8461 5")
        }
        TlsRule::DaneAndStsOff => {
            (Mark::Warn, "DANE and MTA-STS are switched off: nobody's identity is checked", "RFC 7672 9.1")
        }
        TlsRule::Encrypt => (Mark::Ok, "TLS is required", ""),
        TlsRule::Verify => (Mark::Ok, "verified TLS is required", ""),
    };
    let reason =
        if local.reason.is_empty() { String::new() } else { format!("; reason given: {}", local.reason) };
    rule("local-rule", source, verdict, format!("{what}, by the rule for {}{until}{reason}", local.domain))
}

/// No host came of it.
fn no_hosts(mx: Option<&MxRecord>, reason: &str, ended: Option<&Outcome>) -> Rule {
    let status = mx.map(|mx| mx.status.as_str()).unwrap_or_default();
    match status {
        "bogus" | "unavailable" => rule(
            "mx",
            "RFC 7672 2.1.2",
            Mark::Fail,
            format!("{reason}. An error is never taken for \"no MX\" or \"no DANE\""),
        ),
        _ => {
            let source = match ended.map(|outcome| outcome.status.to_string()) {
                Some(status) if status == "5.1.10" => "RFC 7505 3",
                Some(status) if status == "5.4.6" => "RFC 5321 5.1",
                _ => "RFC 5321 5.1",
            };
            rule("mx", source, Mark::Fail, reason)
        }
    }
}

fn mx_rules(mx: &MxRecord) -> Vec<Rule> {
    let mut rules = Vec::new();
    if let Some(expanded) = &mx.expanded {
        let text = format!("{} is an alias of {expanded}, whose MX records count", mx.domain);
        rules.push(rule("mx-alias", "RFC 7672 2.2.1", Mark::Ok, text));
    }
    if mx.status == "literal" {
        return rules;
    }
    let implicit = mx.hosts.first().is_some_and(|host| host.preference.is_none());
    let hosts: Vec<String> = mx
        .hosts
        .iter()
        .take(MAX_NAMED)
        .map(|host| match host.preference {
            Some(preference) => format!("{} (preference {preference})", host.host),
            None => host.host.clone(),
        })
        .collect();
    let found = if implicit {
        "there are no MX records, so the domain is its own and only host".to_owned()
    } else {
        hosts.join(", ")
    };
    let source = if implicit { "RFC 7672 2.2.2" } else { "RFC 7672 2.2.1" };
    rules.push(if mx.status == "secure" {
        rule("mx", source, Mark::Ok, format!("{found}; secured by DNSSEC, so nobody can name other hosts"))
    } else {
        rule(
            "mx",
            source,
            Mark::Warn,
            format!(
                "{found}; not secured by DNSSEC: whoever can forge DNS answers can name another host. DANE can prove a host \
                 then, but not that it is the domain's"
            ),
        )
    });
    rules
}
