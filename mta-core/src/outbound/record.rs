//! Fills in the decision record from what discovery, TLS and the session found, and draws the facts of the log line
//! from it. What it does not: no judgement; each function is a translation.

use std::time::Instant;

use mta_dane::discovery::{Candidate, CandidateResult, HostResult, MxList, NextHop, NextHopKind};
use mta_dane::dnssec::{Hop, Status};
use mta_dane::failure::{HostFault, NextHopFailure, ResultType};
use mta_dane::policy::HostPolicy;
use mta_dane::reference::text;
use mta_dane::tlsa::{TlsaRecord, Usage};
use mta_dane::verify::SeenCertificate;
use mta_smtp::client::{Decided, StartTlsResult, Step, TransactionReport};
use mta_smtp::envelope::Recipient;

use super::attempt::{Job, millis};
use super::decision::{
    CertificateRecord, Decision, HopRecord, HostRecord, MxHost, MxRecord, ReplyRecord, StsRecord, TlsRecord,
    TlsaLookup, TryRecord,
};
use super::outcome::{Outcome, RecipientOutcome, Remote, Verdict, short, told};
use super::session::Said;
use crate::log::Line;
use crate::sts::{Finding, Mode, Policy};
use crate::tls::client::{Demand, HandshakeError, Seen};

/// MX hosts, addresses and TLSA records that one record keeps; a domain with thousands must not fill the database.
const MAX_KEPT: usize = 16;
/// Certificates of a chain and names of a certificate that are described where the server was not accepted.
const MAX_DESCRIBED: usize = 4;
/// Octets of a distinguished name that are kept.
const MAX_NAME_BYTES: usize = 120;
/// TLSA data longer than a SHA2-512 digest is cut: it is a whole certificate.
const MAX_WHOLE_DATA_BYTES: usize = 64;

/// The MX lookup that gave hosts.
pub(super) fn mx(list: &MxList) -> MxRecord {
    let named = list.kind == NextHopKind::Mx;
    let hosts = list.hosts.iter().take(MAX_KEPT);
    let literal = matches!(list.kind, NextHopKind::Address(_));
    MxRecord {
        domain: text(&list.next_hop),
        status: if literal { "literal".to_owned() } else { list.status.to_string() },
        hosts: hosts
            .map(|host| MxHost { preference: named.then_some(host.preference), host: text(&host.name) })
            .collect(),
        expanded: list.expanded.as_ref().map(text),
        reason: None,
    }
}

/// A next-hop without hosts.
pub(super) fn next_hop_failure(decision: &mut Decision, next_hop: &NextHop, failure: &NextHopFailure) {
    decision.ended_early = Some(failure.to_string());
    decision.result_type = failure.result_type().map(|kind| kind.to_string());
    let NextHop::MxOf(domain) = next_hop else { return };
    let (status, reason) = match failure {
        NextHopFailure::NxDomain { status, .. } | NextHopFailure::NullMx { status, .. } => {
            (status.to_string(), None)
        }
        NextHopFailure::Lookup(error) => (error.status.to_string(), Some(error.reason.clone())),
        // The walk keeps no status for these; they are refusals either way.
        _ => (String::new(), None),
    };
    decision.mx = Some(MxRecord { domain: text(domain), status, reason, ..MxRecord::default() });
}

/// What was found out about a host.
pub(super) fn host(found: &HostResult) -> HostRecord {
    let expanded = found.hops.last().map(|hop| text(&hop.target));
    let literal = found.policy == HostPolicy::NotApplicable(mta_dane::failure::NoDane::AddressLiteral);
    HostRecord {
        host: text(&found.host.name),
        address_status: if literal { "literal".to_owned() } else { found.address_status.to_string() },
        addresses: found.addresses.iter().take(MAX_KEPT).map(ToString::to_string).collect(),
        expanded,
        hops: found.hops.iter().take(MAX_KEPT).map(hop).collect(),
        family_error: found.family_error.as_ref().map(ToString::to_string),
        reference_ids: reference_ids(&found.policy),
        host_only: matches!(&found.policy, HostPolicy::Authenticate(demand) if demand.host_only),
        tlsa: found.candidates.iter().map(|candidate| tlsa_lookup(candidate, &found.policy)).collect(),
        base_domain: found.policy.base_domain().map(text),
        result_type: found.policy.result_type().map(|kind| kind.to_string()),
        ..HostRecord::default()
    }
}

fn hop(hop: &Hop) -> HopRecord {
    HopRecord { owner: text(&hop.owner), target: text(&hop.target), status: hop.status.to_string() }
}

/// Only DANE-TA(2) looks at names (RFC 7672 3.2).
fn reference_ids(policy: &HostPolicy) -> Vec<String> {
    match policy {
        HostPolicy::Authenticate(demand)
            if demand.records.iter().any(|record| record.usage == Usage::DaneTa) =>
        {
            demand.reference_ids.iter().map(ToString::to_string).collect()
        }
        _ => Vec::new(),
    }
}

fn tlsa_lookup(candidate: &Candidate, policy: &HostPolicy) -> TlsaLookup {
    let status = match &candidate.result {
        CandidateResult::Secure { .. } => Status::Secure.to_string(),
        CandidateResult::Insecure => Status::Insecure.to_string(),
        CandidateResult::Absent(status) => format!("absent ({status})"),
        CandidateResult::NameTooLong => "absent (the name would be too long)".to_owned(),
        CandidateResult::Error(status) => status.to_string(),
    };
    let records = match &candidate.result {
        CandidateResult::Secure { .. } => records(policy),
        _ => Vec::new(),
    };
    let reason = match (&candidate.result, policy) {
        (CandidateResult::Error(_), HostPolicy::Unavailable(HostFault::Tlsa(error))) => {
            Some(error.reason.clone())
        }
        _ => None,
    };
    TlsaLookup { owner: text(&candidate.owner), status, records, reason }
}

fn records(policy: &HostPolicy) -> Vec<String> {
    let (usable, unusable) = match policy {
        HostPolicy::Authenticate(demand) => (demand.records.as_slice(), demand.unusable.as_slice()),
        HostPolicy::EncryptOnly { unusable, .. } => (&[][..], unusable.as_slice()),
        HostPolicy::NotApplicable(_) | HostPolicy::Unavailable(_) => (&[][..], &[][..]),
    };
    let usable = usable.iter().map(tlsa);
    let unusable = unusable.iter().map(|(record, why)| format!("{} (unusable: {why})", tlsa(record)));
    usable.chain(unusable).take(MAX_KEPT).collect()
}

fn tlsa(record: &TlsaRecord) -> String {
    if record.data.len() <= MAX_WHOLE_DATA_BYTES { record.to_string() } else { record.short() }
}

/// Whether a policy that has a say about the host lists it.
pub(super) fn sts_listed(policy: &Policy, found: &HostResult, host: &str) -> Option<String> {
    let unproven = matches!(found.policy, HostPolicy::NotApplicable(_) | HostPolicy::EncryptOnly { .. });
    let word = if policy.allows(host) { "listed" } else { "not listed" };
    (unproven && policy.mode != Mode::None).then(|| word.to_owned())
}

/// A TLS session or an attempt at one.
pub(super) fn tls(demand: &Demand, error: Option<&HandshakeError>, seen: &Seen) -> TlsRecord {
    let host_only = matches!(demand, Demand::Dane(demand) if demand.host_only);
    let describe = |(index, certificate): (usize, &SeenCertificate)| {
        let plain = CertificateRecord {
            spki_sha256: certificate.spki_sha256.clone(),
            sha256: certificate.cert_sha256.clone(),
            ..CertificateRecord::default()
        };
        if error.is_some() && index < MAX_DESCRIBED { described(plain, certificate) } else { plain }
    };
    let looked_at = seen.webpki.as_ref().filter(|_| matches!(demand, Demand::Observed { .. }));
    let untrusted = looked_at.and_then(|verdict| verdict.as_ref().err());
    TlsRecord {
        version: seen.version.clone(),
        cipher: seen.cipher.clone(),
        sni: seen.sni.clone(),
        chain: seen.chain.iter().enumerate().map(describe).collect(),
        authenticated_by: seen.authenticated_by.clone(),
        host_only: host_only && seen.authenticated_by.is_some(),
        failure: error.map(ToString::to_string),
        untrusted: untrusted.map(|fault| fault.reason.clone()),
        untrusted_type: untrusted.map(|fault| fault.result_type.to_string()),
    }
}

/// The domain's MTA-STS policy.
pub(super) fn sts(finding: &Finding) -> StsRecord {
    let fault = finding.fault.as_ref();
    let fault_record = StsRecord {
        fault: fault.map(ToString::to_string),
        result_type: fault.and_then(|fault| fault.kind.result_type()).map(str::to_owned),
        ..StsRecord::default()
    };
    let Some(found) = &finding.policy else { return fault_record };
    let fetched = found.fetched_at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    StsRecord {
        mode: found.policy.mode.as_str().to_owned(),
        id: found.id.clone(),
        mx: found.policy.mx.iter().take(MAX_KEPT).map(ToString::to_string).collect(),
        max_age: Some(found.policy.max_age.as_secs()),
        fetched_at_unix: Some(fetched.as_secs()),
        ..fault_record
    }
}

/// What a person needs to recognise a certificate.
fn described(plain: CertificateRecord, certificate: &SeenCertificate) -> CertificateRecord {
    CertificateRecord {
        subject: Some(cut(&certificate.subject)),
        issuer: Some(cut(&certificate.issuer)),
        names: certificate.names.iter().take(MAX_DESCRIBED).map(|name| cut(name)).collect(),
        not_before: certificate.dates.map(|(from, _)| from),
        not_after: certificate.dates.map(|(_, to)| to),
        ..plain
    }
}

/// A stranger's text, no longer than it needs to be.
fn cut(text: &str) -> String {
    match text.get(..text.floor_char_boundary(MAX_NAME_BYTES)) {
        Some(head) if head.len() < text.len() => format!("{head}..."),
        _ => text.to_owned(),
    }
}

/// What kind of TLS failure this was (RFC 8460 4.3).
pub(super) fn result_type(seen: &Seen) -> ResultType {
    match (&seen.mismatch, &seen.webpki) {
        (Some(mismatch), _) => mismatch.result_type(),
        (None, Some(Err(fault))) => fault.result_type,
        (None, _) => ResultType::ValidationFailure,
    }
}

/// How STARTTLS came out, as a word.
pub(super) fn starttls(result: StartTlsResult) -> &'static str {
    match result {
        StartTlsResult::Implicit => "implicit",
        StartTlsResult::Done => "done",
        StartTlsResult::NotOffered => "not offered",
        StartTlsResult::Refused => "refused",
        StartTlsResult::NotUsed => "not used",
    }
}

/// A reply; `current` are the recipients of the transaction it belongs to.
pub(super) fn reply(
    said: &Said,
    current: &[usize],
    recipients: &[Recipient],
    started: Instant,
) -> ReplyRecord {
    let to = match said.step {
        Step::Rcpt(position) => {
            let recipient = current.get(position).and_then(|index| recipients.get(*index));
            recipient.map_or_else(|| "RCPT".to_owned(), |recipient| format!("RCPT <{}>", recipient.mailbox))
        }
        step => step.to_string(),
    };
    let at_ms = millis(said.at.saturating_duration_since(started));
    ReplyRecord { to, reply: short(&said.reply), at_ms }
}

/// What a transaction came to, in words.
pub(super) fn transaction(report: &TransactionReport) -> String {
    match &report.decided {
        Decided::Accepted(reply) => {
            let refused = report.recipients.iter().flatten().filter(|reply| !reply.is_positive()).count();
            match refused {
                0 => format!("accepted: {}", short(reply)),
                _ => format!("accepted: {}; {refused} recipients refused", short(reply)),
            }
        }
        Decided::Refused { step, reply } => format!("{step} answered with {}", short(reply)),
        Decided::NoRecipients => match report.recipients.iter().flatten().next() {
            Some(reply) => format!("no recipient accepted: {}", short(reply)),
            None => "no recipient accepted".to_owned(),
        },
        Decided::Asked => match report.recipients.iter().flatten().next() {
            Some(reply) => format!("asked: {}", short(reply)),
            None => "asked".to_owned(),
        },
        Decided::NotSent(why) => why.to_string(),
        Decided::Broken(failure) => told(failure),
    }
}

/// What an attempt came to: one word, or a count of each.
pub(super) fn summary(outcomes: &[RecipientOutcome]) -> String {
    let words =
        [(Verdict::Delivered, "delivered"), (Verdict::Deferred, "deferred"), (Verdict::Failed, "failed")];
    let counts = words.map(|(verdict, word)| {
        (word, outcomes.iter().filter(|outcome| outcome.outcome.verdict == verdict).count())
    });
    let present: Vec<_> = counts.iter().filter(|(_, count)| *count > 0).collect();
    match present.as_slice() {
        [(word, _)] => (*word).to_owned(),
        several => {
            several.iter().map(|(word, count)| format!("{word} {count}")).collect::<Vec<_>>().join(", ")
        }
    }
}

/// The log line about one recipient.
pub(super) fn log_line(decision: &Decision, job: &Job, of: &RecipientOutcome) -> Line {
    let outcome = &of.outcome;
    let (event, status) = match outcome.verdict {
        Verdict::Delivered => ("delivered", "sent"),
        Verdict::Deferred => ("deferred", "deferred"),
        Verdict::Failed => ("failed", "failed"),
    };
    let facts = log_facts(decision, outcome.remote.as_ref());
    let now = decision.started_at_unix.saturating_add(decision.elapsed_ms / 1000);
    Line::new(event)
        .with("qid", &job.queue_id)
        .with("mailfrom", &job.reverse_path)
        .with("rcpt", format_args!("<{}>", of.recipient.mailbox))
        .with_some("mx", outcome.remote.as_ref().map(mx_text))
        .with("dnssec", facts.dnssec)
        .with("tls", facts.tls)
        .with("dane", facts.dane)
        .with_some("sts", facts.sts)
        .with_some("message", facts.message)
        .with("status", status)
        .with("dsn", outcome.status)
        .with("delay", now.saturating_sub(job.accepted_at_unix))
        .with("route", &job.route)
        .with_some("class", facts.class)
        .with_some("means", class_of(decision, outcome))
        .with_some("rule", decision.rule.as_ref())
        .with("reason", &outcome.text)
}

/// What the table of known replies makes of the reply that decided.
fn class_of<'d>(decision: &'d Decision, outcome: &Outcome) -> Option<&'d str> {
    let reply = short(outcome.reply.as_ref()?);
    decision.explained.iter().find(|known| known.reply == reply).map(|known| known.class.as_str())
}

/// Host, address and port as the log has them.
pub(super) fn mx_text(remote: &Remote) -> String {
    match remote.address {
        Some(address) => format!("{}[{}]:{}", remote.host, address.ip(), address.port()),
        None => remote.host.clone(),
    }
}

/// What the log line says about security.
struct LogFacts {
    /// MX status and address status, `secure/secure`; `-` for what was not asked.
    dnssec: String,
    /// TLS version and cipher, or `none`.
    tls: String,
    /// `verified`, `host-only` (the MX was not secure: the host is proved, the domain is not, RFC 7672 2.2.1), `failed`,
    /// `unusable`, `none`, or `error`.
    dane: &'static str,
    /// The class of the failure (`outbound::triage`).
    class: Option<String>,
    /// `verified`, `failed`, `not-listed`, `testing-ok` or `testing-failed`; nothing where no MTA-STS policy had a say.
    sts: Option<&'static str>,
    /// Which message on its session, where it was not the first.
    message: Option<u32>,
}

/// The facts about the server that decided, or about the last one tried.
fn log_facts(decision: &Decision, remote: Option<&Remote>) -> LogFacts {
    let host = remote.and_then(|remote| decision.hosts.iter().rfind(|host| host.host == remote.host));
    let address = remote.and_then(|remote| remote.address).map(|address| address.to_string());
    let last = host.and_then(|host| {
        host.tries.iter().rfind(|last| address.as_ref().is_none_or(|address| last.address == *address))
    });
    let tls = last.and_then(|last| last.tls.as_ref());
    let or_dash = |status: Option<&String>| match status {
        Some(status) if !status.is_empty() => status.clone(),
        _ => "-".to_owned(),
    };
    let mx = or_dash(decision.mx.as_ref().map(|mx| &mx.status));
    let addresses = or_dash(host.map(|host| &host.address_status));
    LogFacts {
        dnssec: format!("{mx}/{addresses}"),
        tls: match tls.and_then(|tls| tls.version.as_ref()) {
            Some(version) => match tls.and_then(|tls| tls.cipher.as_ref()) {
                Some(cipher) => format!("{version}:{cipher}"),
                None => version.clone(),
            },
            None => "none".to_owned(),
        },
        dane: dane_word(host, last),
        sts: host.and_then(|host| sts_word(decision, host, last)),
        message: last.and_then(|last| last.reused.as_ref()).map(|reused| reused.message),
        class: class(decision, host, last),
    }
}

/// The class of the connection that decided, of its host, or of the next-hop.
fn class(decision: &Decision, host: Option<&HostRecord>, last: Option<&TryRecord>) -> Option<String> {
    match (host, last) {
        (_, Some(last)) => last.reason_code.clone(),
        (Some(host), None) => host.triage.as_ref().map(|triage| triage.class.clone()),
        (None, None) => decision.triage.as_ref().map(|triage| triage.class.clone()),
    }
}

fn sts_word(decision: &Decision, host: &HostRecord, last: Option<&TryRecord>) -> Option<&'static str> {
    let listed = host.sts.as_deref()? == "listed";
    let mode = decision.sts.as_ref().map(|sts| sts.mode.as_str());
    let tls = last.and_then(|last| last.tls.as_ref());
    Some(match mode {
        Some("testing") => {
            let sound = tls.is_some_and(|tls| tls.failure.is_none() && tls.untrusted.is_none());
            if listed && sound { "testing-ok" } else { "testing-failed" }
        }
        _ if !listed => "not-listed",
        _ if tls.is_some_and(|tls| tls.failure.is_none() && tls.authenticated_by.is_some()) => "verified",
        _ => "failed",
    })
}

fn dane_word(host: Option<&HostRecord>, last: Option<&TryRecord>) -> &'static str {
    let Some(host) = host else { return "none" };
    match (host.requirement.as_str(), last.and_then(|last| last.tls.as_ref())) {
        ("dane", Some(tls)) if tls.authenticated_by.is_some() && tls.failure.is_none() => {
            if tls.host_only {
                "host-only"
            } else {
                "verified"
            }
        }
        ("dane", _) => "failed",
        // The domain's MTA-STS policy forbids the host, not DANE.
        ("none-possible", _) if host.sts.is_none() => "error",
        ("", _) => "error",
        _ if host.base_domain.is_some() => "unusable",
        _ => "none",
    }
}
