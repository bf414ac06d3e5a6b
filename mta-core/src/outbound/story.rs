//! Tells a decision record as sentences for a person, in the order in which things happened.
//!
//! All text of strangers in the record is free of control characters already; the sentences add none.

use super::decision::{
    COPIED, Decision, ExplainedReply, HostRecord, MxRecord, ReuseRecord, StsRecord, TlsRecord, TriageRecord,
    TryRecord,
};

/// Hosts named in the sentence about the MX.
const MAX_NAMED_HOSTS: usize = 6;
/// Hexadecimal digits of a digest that are enough to tell two apart.
const DIGEST_DIGITS: usize = 12;

impl Decision {
    /// The attempt as sentences, one each.
    pub fn story(&self) -> Vec<String> {
        let mut story = Vec::new();
        if let Some(rule) = &self.rule {
            story.push(format!("Local rule: {rule}."));
        }
        match &self.mx {
            Some(mx) if self.ended_early.is_none() => story.push(mx_sentence(mx)),
            None if self.route == "local" => story.push("The domain is ours.".to_owned()),
            None if self.ended_early.is_none() => story.push(format!("By configuration to {}.", self.route)),
            _ => {}
        }
        story.extend(self.sts.as_ref().and_then(sts_sentence));
        if let Some(reason) = &self.ended_early {
            story.push(format!("{}.", capital(reason)));
        }
        if let Some(triage) = &self.triage {
            triage_sentences(triage, true, &mut story);
        }
        for (index, host) in self.hosts.iter().enumerate() {
            host_sentences(host, &mut story);
            if let Some(triage) = &host.triage {
                // What can be done here is said once, and not where the mail went out after all.
                let wanted = index + 1 == self.hosts.len() && !self.result.starts_with("delivered");
                triage_sentences(triage, wanted, &mut story);
            }
        }
        for explained in &self.explained {
            let who = explained.provider.as_ref().map_or_else(|| explained.host.clone(), Clone::clone);
            let kept = if explained.kept { "; by outbound.retry_blocked it is tried again" } else { "" };
            let ExplainedReply { class, meaning, advice, .. } = explained;
            story.push(format!("What {who} means ({class}): {meaning}{kept}. What to do: {advice}."));
        }
        if !self.result.is_empty() {
            story.push(format!("Result: {}.", self.result));
        }
        story
    }
}

fn mx_sentence(mx: &MxRecord) -> String {
    let hosts: Vec<String> = mx
        .hosts
        .iter()
        .take(MAX_NAMED_HOSTS)
        .map(|host| match host.preference {
            Some(preference) => format!("{} ({preference})", host.host),
            None => host.host.clone(),
        })
        .collect();
    let more = mx.hosts.len().saturating_sub(hosts.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let alias = mx.expanded.as_ref().map(|name| format!(", an alias of {name}")).unwrap_or_default();
    let hosts = hosts.join(", ");
    match (mx.status.as_str(), mx.hosts.first().is_some_and(|host| host.preference.is_none())) {
        ("literal", _) => format!("To the address {hosts}, without DNS."),
        (status, true) => format!("{}{alias} has no MX ({status}); it is its own host.", mx.domain),
        (status, false) => format!("MX of {}{alias} {status}: {hosts}{more}.", mx.domain),
    }
}

fn sts_sentence(sts: &StsRecord) -> Option<String> {
    let hosts = sts.mx.iter().take(MAX_NAMED_HOSTS).cloned().collect::<Vec<_>>().join(", ");
    let more = sts.mx.len().saturating_sub(MAX_NAMED_HOSTS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(match (sts.mode.as_str(), &sts.fault) {
        ("", None) => return None,
        ("", Some(fault)) => format!("No MTA-STS policy: {fault}."),
        ("none", _) => "The MTA-STS policy says that the domain has none (mode none).".to_owned(),
        (mode, None) => format!("MTA-STS policy (mode {mode}) lists {hosts}{more}."),
        (mode, Some(fault)) => {
            format!(
                "MTA-STS policy (mode {mode}, known from before) lists {hosts}{more}; no newer one: {fault}."
            )
        }
    })
}

fn host_sentences(host: &HostRecord, story: &mut Vec<String>) {
    let mut facts = Vec::new();
    match host.address_status.as_str() {
        "" => {}
        "literal" => facts.push("an address literal".to_owned()),
        status => facts.push(format!("address {status}")),
    }
    if let Some(expanded) = &host.expanded {
        facts.push(format!("an alias of {expanded}"));
    }
    for lookup in &host.tlsa {
        let reason = lookup.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        facts.push(match lookup.records.as_slice() {
            [] => format!("TLSA at {} {}{reason}", lookup.owner, lookup.status),
            records => format!(
                "TLSA at {} {}: {}",
                lookup.owner,
                lookup.status,
                records.iter().map(|record| short_record(record)).collect::<Vec<_>>().join(", ")
            ),
        });
    }
    if let Some(listed) = &host.sts {
        facts.push(format!("{listed} by the MTA-STS policy"));
    }
    let requirement = match host.requirement.as_str() {
        "dane" => "the server must match a TLSA record".to_owned(),
        "verify" => "the certificate must be verified".to_owned(),
        "encrypt" => "TLS is mandatory, the certificate is not checked".to_owned(),
        "opportunistic" => "TLS where it works".to_owned(),
        "plaintext" => "no TLS".to_owned(),
        _ => String::new(),
    };
    if !requirement.is_empty() {
        facts.push(format!("{requirement} ({})", host.requirement_reason));
    }
    if !facts.is_empty() {
        story.push(format!("{}: {}.", host.host, facts.join("; ")));
    }
    if let Some(reason) = &host.skipped {
        story.push(format!("{} was not connected to: {reason}.", host.host));
    }
    for attempt in &host.tries {
        story.push(try_sentence(host, attempt));
    }
}

/// What lies behind a failure, and what either side can do.
fn triage_sentences(triage: &TriageRecord, remedies: bool, story: &mut Vec<String>) {
    story.push(format!("Most likely ({}): {}.", triage.class, triage.cause));
    story.extend(triage.evidence.iter().map(|evidence| format!("Evidence: {evidence}.")));
    if !triage.operator.is_empty() {
        story.push("What the operator of that host can do:".to_owned());
        story.extend(triage.operator.iter().map(|step| listed(step)));
    }
    if remedies && !triage.here.is_empty() {
        story.push("What the administrator of this server can do:".to_owned());
        story.extend(triage.here.iter().map(|step| listed(step)));
        story.extend(triage.exception.iter().map(|line| format!("{COPIED}{line}")));
    }
}

/// One of several steps. A line to be copied stands alone.
fn listed(step: &str) -> String {
    if step.starts_with(COPIED) { step.to_owned() } else { format!("- {step}") }
}

fn try_sentence(host: &HostRecord, attempt: &TryRecord) -> String {
    let mut facts = Vec::new();
    if let Some(reused) = &attempt.reused {
        let ReuseRecord { age_seconds, message, .. } = reused;
        facts.push(format!("message {message} on a session that was opened {age_seconds} s before"));
    }
    if let Some(connect_ms) = attempt.connect_ms {
        facts.push(format!("connected in {connect_ms} ms"));
    }
    if attempt.connect_ms.is_some() || attempt.reused.is_some() {
        match attempt.starttls.as_str() {
            "not offered" => facts.push("STARTTLS not offered".to_owned()),
            "refused" => facts.push("STARTTLS refused".to_owned()),
            _ if attempt.tls.is_none() => facts.push("no TLS".to_owned()),
            _ => {}
        }
    }
    if let Some(tls) = &attempt.tls {
        facts.push(tls_fact(host, tls));
    }
    let failure = attempt.tls.as_ref().and_then(|tls| tls.failure.as_deref());
    if failure.is_some_and(|failure| attempt.result.starts_with(failure)) {
        facts.push("not sent".to_owned());
    } else if !attempt.result.is_empty() {
        facts.push(attempt.result.clone());
    }
    format!("{} [{}]: {}.", host.host, attempt.address, facts.join("; "))
}

fn tls_fact(host: &HostRecord, tls: &TlsRecord) -> String {
    let version = tls.version.as_deref().unwrap_or("TLS");
    let served = tls.chain.first().map(|leaf| {
        let (kind, digest) = match &leaf.spki_sha256 {
            Some(spki) => ("SPKI", spki),
            None => ("certificate", &leaf.sha256),
        };
        format!("{kind} sha256 {}\u{2026}", digest.get(..DIGEST_DIGITS).unwrap_or(digest))
    });
    let served = served.map(|served| format!(" ({served})")).unwrap_or_default();
    match (&tls.failure, &tls.authenticated_by) {
        (Some(_), _) if host.requirement == "dane" && !tls.chain.is_empty() => {
            let records =
                host.tlsa.iter().flat_map(|lookup| &lookup.records).filter(|r| !r.contains("unusable"));
            let numbers: Vec<&str> = records.filter_map(|record| record.get(..5)).collect();
            let failure = tls.failure.as_deref().unwrap_or_default();
            // What it may come from is told behind it.
            let failure = failure.split("; ").next().unwrap_or(failure);
            format!("TLSA {} did not match the certificate it served{served}: {failure}", numbers.join(", "))
        }
        (Some(failure), _) => format!("{failure}{served}"),
        (None, Some(by)) if tls.host_only => {
            format!("{version}, the host is verified by {by}{served}, the domain is not (MX not secure)")
        }
        (None, Some(by)) => format!("{version}, verified by {by}{served}"),
        (None, None) if let Some(untrusted) = &tls.untrusted => {
            format!("{version}, certificate not trusted ({untrusted}), which is only counted{served}")
        }
        (None, None) => format!("{version}, certificate not checked{served}"),
    }
}

/// Usage, selector, matching type and the beginning of the data.
fn short_record(record: &str) -> String {
    let (fields, note) = match record.split_once(" (") {
        Some((fields, note)) => (fields, format!(" ({note}")),
        None => (record, String::new()),
    };
    let end = "3 1 1 ".len() + DIGEST_DIGITS;
    match fields.get(..end) {
        Some(head) if fields.len() > end => format!("{head}\u{2026}{note}"),
        _ => record.to_owned(),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::decision::{CertificateRecord, MxHost, TlsaLookup};
    use super::*;

    fn wrong_key() -> Decision {
        let failure = "no TLSA record matches".to_owned();
        Decision {
            route: "mx:example".into(),
            mx: Some(MxRecord {
                domain: "example".into(),
                status: "secure".into(),
                hosts: vec![MxHost { preference: Some(10), host: "mx1.example".into() }],
                ..MxRecord::default()
            }),
            hosts: vec![HostRecord {
                host: "mx1.example".into(),
                address_status: "secure".into(),
                tlsa: vec![TlsaLookup {
                    owner: "_25._tcp.mx1.example".into(),
                    status: "secure".into(),
                    records: vec![format!("3 1 1 {}", "ab".repeat(32))],
                    reason: None,
                }],
                base_domain: Some("mx1.example".into()),
                requirement: "dane".into(),
                requirement_reason: "secure TLSA records".into(),
                tries: vec![TryRecord {
                    address: "192.0.2.1:25".into(),
                    connect_ms: Some(3),
                    starttls: "failed".into(),
                    tls: Some(TlsRecord {
                        chain: vec![CertificateRecord {
                            spki_sha256: Some("cd".repeat(32)),
                            sha256: "ef".repeat(32),
                            ..CertificateRecord::default()
                        }],
                        failure: Some(failure.clone()),
                        ..TlsRecord::default()
                    }),
                    result: failure,
                    ..TryRecord::default()
                }],
                ..HostRecord::default()
            }],
            result: "deferred".into(),
            ..Decision::default()
        }
    }

    #[test]
    fn a_wrong_key_is_told_so_that_somebody_can_act_on_it() {
        assert_eq!(
            wrong_key().story(),
            [
                "MX of example secure: mx1.example (10).",
                "mx1.example: address secure; TLSA at _25._tcp.mx1.example secure: 3 1 1 abababababab\u{2026}; the server \
                 must match a TLSA record (secure TLSA records).",
                "mx1.example [192.0.2.1:25]: connected in 3 ms; TLSA 3 1 1 did not match the certificate it served (SPKI \
                 sha256 cdcdcdcdcdcd\u{2026}): no TLSA record matches; not sent.",
                "Result: deferred.",
            ]
        );
    }

    #[test]
    fn the_record_survives_json_and_older_records_are_read() {
        let decision = wrong_key();
        assert_eq!(Decision::from_json(&decision.to_json()).unwrap(), decision);
        let old = Decision::from_json("{\"version\":1,\"route\":\"mx:x\",\"unknown\":1}").unwrap();
        assert_eq!(old.route, "mx:x");
        assert!(Decision::from_json("deferred").is_err());
    }
}
