//! From the decision record of an attempt to the sessions that count (RFC 8460 4).
//!
//! A session counts once under each policy that it was subject to: DANE, MTA-STS, or neither (L10). One that did not get
//! as far as STARTTLS counts for nobody: an overloaded server or a broken network says nothing about TLS (RFC 8460 4.3.4,
//! L12). What could not begin because DNSSEC or the policy forbade it counts as a failed session (L8).

use mta_queue::{TlsFailure, TlsPolicy, TlsPolicyType, TlsSession};

use crate::outbound::decision::{Decision, HostRecord, StsRecord, TryRecord};

/// No TLSA record could be used.
const TLSA_INVALID: &str = "tlsa-invalid";
/// The result type of everything that has none of its own; a reason code says what it was.
const VALIDATION_FAILURE: &str = "validation-failure";
/// The reason code of a host that the policy of the domain does not list.
const NOT_LISTED: &str = "mx-not-listed-in-sts-policy";

/// The sessions of an attempt.
pub fn sessions(decision: &Decision) -> Vec<TlsSession> {
    let mx = decision.mx.as_ref();
    if mx.is_some_and(|mx| mx.status == "literal") {
        // An address has no operator who could publish a policy.
        return Vec::new();
    }
    let domain = mx.map(|mx| mx.domain.clone());
    let mut sessions = Vec::new();
    if let (Some(result_type), Some(domain)) = (&decision.result_type, &domain) {
        let failure = TlsFailure {
            result_type: result_type.clone(),
            reason_code: decision.triage.as_ref().map(|triage| triage.class.clone()),
            ..TlsFailure::default()
        };
        sessions.push(TlsSession { policy: tlsa(domain, domain, Vec::new()), failure: Some(failure) });
    }
    for host in &decision.hosts {
        // A relay host stands for itself.
        let domain = domain.as_ref().unwrap_or(&host.host);
        of_host(domain, host, decision.sts.as_ref(), &mut sessions);
    }
    sessions
}

/// A policy, and what it makes of a session by itself.
struct Subject {
    policy: TlsPolicy,
    /// The failure of every session, whatever TLS came to.
    always: Option<(String, Option<String>)>,
    /// The certificate counts.
    authenticates: bool,
    /// Whether the system's authorities vouch for the certificate counts.
    judged: bool,
}

fn of_host(domain: &str, host: &HostRecord, sts: Option<&StsRecord>, sessions: &mut Vec<TlsSession>) {
    if host.skipped.is_some() {
        sessions.extend(skipped(domain, host, sts));
        return;
    }
    let subjects = subjects(domain, host, sts);
    for attempt in host.tries.iter().filter(|attempt| came_to_tls(attempt)) {
        for subject in &subjects {
            let failure = failure(subject, attempt).map(|(result_type, reason_code)| TlsFailure {
                result_type,
                reason_code,
                mx_host: Some(host.host.clone()),
                helo: attempt.greeting.clone(),
                sending_ip: attempt.source.clone(),
                receiving_ip: ip_of(&attempt.address),
            });
            sessions.push(TlsSession { policy: subject.policy.clone(), failure });
        }
    }
}

/// A host that was not connected to, where security was the cause.
fn skipped(domain: &str, host: &HostRecord, sts: Option<&StsRecord>) -> Option<TlsSession> {
    let failure = |result_type: &str, reason: Option<String>| TlsFailure {
        result_type: result_type.to_owned(),
        mx_host: Some(host.host.clone()),
        reason_code: reason,
        ..TlsFailure::default()
    };
    if let Some(result_type) = host.result_type.as_ref().filter(|kind| *kind != TLSA_INVALID) {
        let base = host.base_domain.as_ref().unwrap_or(&host.host);
        let reason = host.triage.as_ref().map(|triage| triage.class.clone());
        let policy = tlsa(domain, base, records(host));
        return Some(TlsSession { policy, failure: Some(failure(result_type, reason)) });
    }
    let not_listed = host.sts.as_deref() == Some("not listed");
    let policy = sts.filter(|_| not_listed).map(|sts| sts_policy(domain, sts))?;
    Some(TlsSession { policy, failure: Some(failure(VALIDATION_FAILURE, Some(NOT_LISTED.to_owned()))) })
}

/// The policies that sessions with a host are subject to.
fn subjects(domain: &str, host: &HostRecord, sts: Option<&StsRecord>) -> Vec<Subject> {
    let subject = |policy| Subject { policy, always: None, authenticates: true, judged: false };
    let mut subjects = Vec::new();
    if let Some(base) = &host.base_domain {
        let unusable = host.result_type.as_deref() == Some(TLSA_INVALID);
        let always = unusable.then(|| (TLSA_INVALID.to_owned(), None));
        let policy = tlsa(domain, base, records(host));
        subjects.push(Subject { always, authenticates: !unusable, ..subject(policy) });
    }
    match (host.sts.as_deref(), sts) {
        (Some(listed), Some(sts)) => {
            let always =
                (listed != "listed").then(|| (VALIDATION_FAILURE.to_owned(), Some(NOT_LISTED.to_owned())));
            subjects.push(Subject { always, judged: true, ..subject(sts_policy(domain, sts)) });
        }
        // Announced, and could not be had: the domain's operator is the one to know.
        (None, Some(sts)) if sts.mode.is_empty() && host.requirement != "dane" => {
            if let Some(result_type) = &sts.result_type {
                let always = Some((result_type.clone(), sts.fault.clone()));
                subjects.push(Subject { always, ..subject(sts_policy(domain, sts)) });
            }
        }
        _ => {}
    }
    if subjects.is_empty() {
        let policy = TlsPolicy {
            domain: domain.to_owned(),
            policy_type: TlsPolicyType::NoPolicyFound,
            policy_domain: domain.to_owned(),
            policy: Vec::new(),
            mx_patterns: Vec::new(),
        };
        subjects.push(subject(policy));
    }
    subjects
}

/// How a session failed under a policy: result type and reason code.
fn failure(subject: &Subject, attempt: &TryRecord) -> Option<(String, Option<String>)> {
    let tls = attempt.tls.as_ref();
    if matches!(attempt.starttls.as_str(), "not offered" | "refused") {
        return Some(("starttls-not-supported".to_owned(), None));
    }
    if subject.always.is_some() {
        return subject.always.clone();
    }
    let failed = tls.and_then(|tls| tls.failure.clone());
    // A certificate that another policy refused is no failure under one that asks for none.
    let by_certificate = tls.is_some_and(|tls| !tls.chain.is_empty());
    if let Some(why) = failed
        && (subject.authenticates || !by_certificate)
    {
        let result_type = attempt.result_type.clone().unwrap_or_else(|| VALIDATION_FAILURE.to_owned());
        return Some((result_type, attempt.reason_code.clone().or(Some(why))));
    }
    let untrusted = tls.filter(|_| subject.judged).and_then(|tls| tls.untrusted_type.clone())?;
    Some((untrusted, tls.and_then(|tls| tls.untrusted.clone())))
}

/// Whether a connection came as far as to show whether there is TLS. A message over a session that an earlier one opened is
/// no session of its own.
fn came_to_tls(attempt: &TryRecord) -> bool {
    attempt.reused.is_none()
        && matches!(attempt.starttls.as_str(), "implicit" | "done" | "not offered" | "refused" | "failed")
}

fn tlsa(domain: &str, base: &str, records: Vec<String>) -> TlsPolicy {
    TlsPolicy {
        domain: domain.to_owned(),
        policy_type: TlsPolicyType::Tlsa,
        policy_domain: base.to_owned(),
        policy: records,
        mx_patterns: Vec::new(),
    }
}

/// The secure TLSA records of a host: four fields each, the data in one piece (L7).
fn records(host: &HostRecord) -> Vec<String> {
    let secure = host.tlsa.iter().filter(|lookup| lookup.status == "secure");
    let records = secure.flat_map(|lookup| &lookup.records);
    records.map(|record| record.split(" (").next().unwrap_or(record).to_owned()).collect()
}

fn sts_policy(domain: &str, sts: &StsRecord) -> TlsPolicy {
    let mut policy = Vec::new();
    if !sts.mode.is_empty() {
        policy.push("version: STSv1".to_owned());
        policy.push(format!("mode: {}", sts.mode));
        policy.extend(sts.mx.iter().map(|pattern| format!("mx: {pattern}")));
        policy.extend(sts.max_age.map(|seconds| format!("max_age: {seconds}")));
    }
    TlsPolicy {
        domain: domain.to_owned(),
        policy_type: TlsPolicyType::Sts,
        policy_domain: domain.to_owned(),
        policy,
        mx_patterns: sts.mx.clone(),
    }
}

fn ip_of(address: &str) -> Option<String> {
    address.parse::<std::net::SocketAddr>().ok().map(|address| address.ip().to_string())
}
