//! `report tls`: how TLS went with other servers, as a table or as the reports that would be sent.

use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use mta_core::config::Config;
use mta_core::control::{ReportTlsArguments, Request};
use mta_core::inspect::{self, ReportAddresses};
use mta_core::log::visible;
use mta_core::report::tlsrpt::{self, FailureDetail, Identity, Row};
use serde_json::json;

use super::{Ended, load};
use crate::args::{ReportTls, ReportVerb};
use crate::client::{Client, Problem};
use crate::exit::Exit;
use crate::output::{self, Table};

/// Domains that DNS is asked about at most; the others are named without their addresses.
const MAX_LOOKUPS: usize = 100;

pub(super) fn run(file: Option<&Path>, verb: &ReportVerb) -> Ended {
    let ReportVerb::Tls(verb) = verb;
    tls(file, verb)
}

fn tls(file: Option<&Path>, verb: &ReportTls) -> Ended {
    let (config, _) = load(file)?;
    let now = SystemTime::now();
    let day = verb.day.as_deref().map(|text| tlsrpt::parse_day(text, now)).transpose();
    let day = day.map_err(|why| Problem::new(Exit::USAGE, format!("report tls: {why}")))?;
    let domain = verb.domain.as_ref().map(|domain| domain.to_ascii_lowercase());
    let mut rows: Vec<Row> = Vec::new();
    let mut unreadable = 0;
    let request = Request::ReportTls(ReportTlsArguments { day, domain });
    Client::connect(&config, false)?.ask(&request, &mut |value| match serde_json::from_value(value) {
        Ok(row) => rows.push(row),
        Err(_) => unreadable += 1,
    })?;
    if unreadable > 0 {
        return Err(Problem::new(Exit::INTERNAL, format!("{unreadable} rows of the answer cannot be read")));
    }
    let Some(day) = rows.first().map(|row| row.day) else {
        let what = verb.day.as_deref().map_or_else(|| "so far".to_owned(), |day| format!("on {day}"));
        return Err(Problem::new(Exit::NOTHING, format!("no TLS session was counted {what}")));
    };
    let reports = tlsrpt::reports(day, &rows, &identity(&config));
    let domains: Vec<String> =
        reports.iter().take(MAX_LOOKUPS).map(|addressed| addressed.domain.clone()).collect();
    let addresses = if verb.no_dns {
        Vec::new()
    } else {
        let found = inspect::report_addresses(&config, &domains);
        found.map_err(|why| Problem::new(Exit::CONFIGURATION, format!("report tls: {why}")))?
    };
    if verb.json {
        let reports: Vec<_> = reports
            .iter()
            .map(|addressed| {
                let to = addresses.iter().find(|found| found.domain == addressed.domain);
                json!({ "domain": addressed.domain, "addresses": to, "report": addressed.report })
            })
            .collect();
        output::print_json(json!({ "day": tlsrpt::day_text(day), "reports": reports }));
    } else {
        output::print(&text(day, &rows, &addresses));
    }
    let failed = rows.iter().any(|row| row.entry.summary.total_failure_session_count > 0);
    Ok(if failed { Exit::PROBLEMS } else { Exit::DONE })
}

/// Who reports.
fn identity(config: &Config) -> Identity {
    let hostname = config.effective_hostname().to_string();
    let contact = config.postmaster_mailbox().map(|mailbox| mailbox.to_string());
    Identity { contact: contact.unwrap_or_else(|| format!("postmaster@{hostname}")), hostname }
}

/// The day for a person.
fn text(day: i64, rows: &[Row], addresses: &[ReportAddresses]) -> String {
    let mut table = Table::new(&["domain", "policy", "published by", "ok", "failed", "why"]);
    for row in rows {
        let (policy, summary) = (&row.entry.policy, row.entry.summary);
        let mut why = row.entry.failure_details.iter().map(reason);
        table.row(vec![
            visible(&row.domain),
            policy_word(&policy.policy_type).to_owned(),
            if policy.policy_type == "no-policy-found" {
                "-".to_owned()
            } else {
                visible(&policy.policy_domain)
            },
            summary.total_successful_session_count.to_string(),
            summary.total_failure_session_count.to_string(),
            why.next().unwrap_or_else(|| "-".to_owned()),
        ]);
        for more in why {
            let nothing = || "-".to_owned();
            table.row(vec![visible(&row.domain), nothing(), nothing(), nothing(), nothing(), more]);
        }
    }
    if !output::for_person() {
        return table.for_pipe();
    }
    let mut out = format!("TLS sessions with other servers on {} (UTC):\n\n", tlsrpt::day_text(day));
    out.push_str(&table.for_person());
    if let Some(left_out) = rows.first().map(|row| row.left_out).filter(|count| *count > 0) {
        let _ = writeln!(out, "\n{left_out} further sessions found no room in the table.");
    }
    if !addresses.is_empty() {
        out.push_str("\nWho would be told (reports are not sent yet, only shown):\n");
        for found in addresses {
            let to = match &found.none_because {
                None => found.rua.join(", "),
                Some(why) => format!("nobody: {why}"),
            };
            let _ = writeln!(out, "  {}: {}", visible(&found.domain), visible(&to));
        }
    }
    out
}

fn policy_word(policy_type: &str) -> &str {
    match policy_type {
        "tlsa" => "DANE",
        "sts" => "MTA-STS",
        _ => "none",
    }
}

/// One kind of failure in a line.
fn reason(detail: &FailureDetail) -> String {
    let mut text = format!("{} x {}", detail.failed_session_count, detail.result_type);
    if let Some(code) = &detail.failure_reason_code {
        let _ = write!(text, " ({code})");
    }
    if let Some(host) = &detail.receiving_mx_hostname {
        let _ = write!(text, " at {host}");
    }
    if let Some(ip) = &detail.receiving_ip {
        let _ = write!(text, " [{ip}]");
    }
    visible(&text)
}
