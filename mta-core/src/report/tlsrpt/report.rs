//! A day's counters as reports: the JSON of RFC 8460 4.4, one report for each domain that could want one.
//!
//! A domain hears of the sessions for its own mail; the operator of a host with TLSA records hears of all sessions with
//! it, whatever domain the mail was for, and is not told which (L11).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use mta_queue::{TlsFailure, TlsPolicyCount, TlsPolicyType, day_of, start_of};
use serde::{Deserialize, Serialize};

use crate::control::rfc3339;

/// The last second of a day.
const LAST_SECOND: Duration = Duration::from_secs(86_399);

/// Who reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Our host name; stands for the organisation, too.
    pub hostname: String,
    /// Whom to ask about a report: an address.
    pub contact: String,
}

/// A report (RFC 8460 4.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Who reports.
    pub organization_name: String,
    /// The day.
    pub date_range: DateRange,
    /// Whom to ask.
    pub contact_info: String,
    /// Unique for domain and day.
    pub report_id: String,
    /// What was counted, by policy.
    pub policies: Vec<PolicyEntry>,
}

/// From when to when, both included (RFC 3339).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DateRange {
    /// The first second.
    pub start_datetime: String,
    /// The last second.
    pub end_datetime: String,
}

/// What was counted under one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PolicyEntry {
    /// The policy.
    pub policy: Policy,
    /// How many sessions.
    pub summary: Summary,
    /// How the failed ones failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failure_details: Vec<FailureDetail>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// `tlsa`, `sts` or `no-policy-found`.
    pub policy_type: String,
    /// TLSA records, or the lines of the policy file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy_string: Vec<String>,
    /// Who publishes it: the TLSA base domain, or the recipient domain.
    pub policy_domain: String,
    /// The patterns of an MTA-STS policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mx_host: Vec<String>,
}

/// Sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    /// With TLS as the policy demands.
    pub total_successful_session_count: u64,
    /// Without.
    pub total_failure_session_count: u64,
}

/// Sessions that failed alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FailureDetail {
    /// RFC 8460 4.3.
    pub result_type: String,
    /// Our address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sending_mta_ip: Option<String>,
    /// The MX host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiving_mx_hostname: Option<String>,
    /// What it called itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiving_mx_helo: Option<String>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiving_ip: Option<String>,
    /// How many.
    pub failed_session_count: u64,
    /// What exactly was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason_code: Option<String>,
}

/// What was counted for one recipient domain under one policy: a row of the control protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Days since 1970-01-01 (UTC).
    pub day: i64,
    /// The recipient domain.
    pub domain: String,
    /// Sessions of that day, over all domains, that found no room in the table.
    #[serde(default)]
    pub left_out: u64,
    /// The counters.
    #[serde(flatten)]
    pub entry: PolicyEntry,
}

/// A report, and the domain whose operator should get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addressed {
    /// The domain whose `_smtp._tls` record says where to.
    pub domain: String,
    /// The report.
    pub report: Report,
}

/// The rows of a day.
pub fn rows(day: i64, left_out: u64, counts: Vec<TlsPolicyCount>) -> impl Iterator<Item = Row> {
    counts.into_iter().map(move |count| {
        let policy = Policy {
            policy_type: count.policy.policy_type.as_str().to_owned(),
            policy_string: count.policy.policy,
            policy_domain: count.policy.policy_domain,
            mx_host: count.policy.mx_patterns,
        };
        let summary = Summary {
            total_successful_session_count: count.successes,
            total_failure_session_count: count.failures,
        };
        let failure_details = count.details.into_iter().map(|(failure, n)| detail(failure, n)).collect();
        let entry = PolicyEntry { policy, summary, failure_details };
        Row { day, domain: count.policy.domain, left_out, entry }
    })
}

/// A day as text: `2026-11-25`.
pub fn day_text(day: i64) -> String {
    rfc3339(start_of(day)).split('T').next().unwrap_or_default().to_owned()
}

/// The day that a text means, days since 1970-01-01: a date, `today` or `yesterday` (UTC).
///
/// # Errors
/// What is expected.
pub fn parse_day(text: &str, now: SystemTime) -> Result<i64, String> {
    match text {
        "today" => Ok(day_of(now)),
        "yesterday" => Ok(day_of(now).saturating_sub(1)),
        _ => {
            let date: jiff::civil::Date = text
                .parse()
                .map_err(|_| format!("{text:?} is no day: expected today, yesterday or 2026-11-25"))?;
            let start = date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|error| error.to_string())?;
            Ok(start.timestamp().as_second().div_euclid(86_400))
        }
    }
}

fn detail(failure: TlsFailure, failed_session_count: u64) -> FailureDetail {
    FailureDetail {
        result_type: failure.result_type,
        sending_mta_ip: failure.sending_ip,
        receiving_mx_hostname: failure.mx_host,
        receiving_mx_helo: failure.helo,
        receiving_ip: failure.receiving_ip,
        failed_session_count,
        failure_reason_code: failure.reason_code,
    }
}

/// The last second of a day; of one that is not over, the last that has passed.
pub fn end_of(day: i64, now: SystemTime) -> SystemTime {
    let start = start_of(day);
    start.checked_add(LAST_SECOND).unwrap_or(start).min(now).max(start)
}

/// The reports of a day, one for each recipient domain and one for each other domain that publishes TLSA records.
pub fn reports(day: i64, rows: &[Row], identity: &Identity, now: SystemTime) -> Vec<Addressed> {
    let mut by_domain: BTreeMap<&str, BTreeMap<&Policy, PolicyEntry>> = BTreeMap::new();
    for row in rows {
        let policy = &row.entry.policy;
        let mut targets = vec![row.domain.as_str()];
        if policy.policy_type == TlsPolicyType::Tlsa.as_str() && policy.policy_domain != row.domain {
            targets.push(&policy.policy_domain);
        }
        for target in targets {
            let entries = by_domain.entry(target).or_default();
            match entries.get_mut(policy) {
                Some(known) => add(known, &row.entry),
                None => drop(entries.insert(policy, row.entry.clone())),
            }
        }
    }
    by_domain
        .into_iter()
        .map(|(domain, entries)| Addressed {
            domain: domain.to_owned(),
            report: report(day, domain, entries.into_values().collect(), identity, now),
        })
        .collect()
}

fn report(
    day: i64,
    domain: &str,
    policies: Vec<PolicyEntry>,
    identity: &Identity,
    now: SystemTime,
) -> Report {
    let (start, end) = (start_of(day), end_of(day, now));
    // The same day's report is the same one, however often it is sent; one made before the day was over is another.
    let part = match end.duration_since(start) {
        Ok(passed) if passed < LAST_SECOND => format!("-{}", passed.as_secs()),
        _ => String::new(),
    };
    Report {
        organization_name: identity.hostname.clone(),
        date_range: DateRange { start_datetime: rfc3339(start), end_datetime: rfc3339(end) },
        contact_info: identity.contact.clone(),
        report_id: format!("{day}{part}.{domain}@{}", identity.hostname),
        policies,
    }
}

/// Adds sessions counted for another recipient domain.
fn add(known: &mut PolicyEntry, more: &PolicyEntry) {
    known.summary.total_successful_session_count += more.summary.total_successful_session_count;
    known.summary.total_failure_session_count += more.summary.total_failure_session_count;
    for detail in &more.failure_details {
        let same = |other: &FailureDetail| {
            FailureDetail { failed_session_count: detail.failed_session_count, ..other.clone() } == *detail
        };
        match known.failure_details.iter_mut().find(|other| same(other)) {
            Some(other) => other.failed_session_count += detail.failed_session_count,
            None => known.failure_details.push(detail.clone()),
        }
    }
}
