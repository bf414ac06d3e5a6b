//! `report tls`: how TLS went with other servers, as a table or as the reports about it; `report list` and `report send`: what
//! the operators of other domains are told.

use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use mta_core::config::Config;
use mta_core::control::{
    DmarcView, ReportListArguments, ReportRow, ReportSendArguments, ReportSendingView, ReportTlsArguments,
    ReportView, Request,
};
use mta_core::inspect::{self, ReportAddresses};
use mta_core::log::visible;
use mta_core::report::tlsrpt::{self, FailureDetail, Identity, Row, parse_day};
use serde_json::json;

use super::{Ended, load};
use crate::args::{ReportDmarc, ReportList, ReportSend, ReportTls, ReportVerb};
use crate::client::{Client, Problem};
use crate::exit::Exit;
use crate::output::{self, Table};

/// Domains that DNS is asked about at most; the others are named without their addresses.
const MAX_LOOKUPS: usize = 100;

pub(super) fn run(file: Option<&Path>, verb: &ReportVerb) -> Ended {
    match verb {
        ReportVerb::Tls(verb) => tls(file, verb),
        ReportVerb::Dmarc(verb) => dmarc(file, verb),
        ReportVerb::List(verb) => list(file, verb),
        ReportVerb::Send(verb) => send(file, verb),
    }
}

/// What was counted of mail from outside.
fn dmarc(file: Option<&Path>, verb: &ReportDmarc) -> Ended {
    let (config, _) = load(file)?;
    let day = verb.day.as_deref().map(|text| parse_day(text, SystemTime::now())).transpose();
    let day = day.map_err(|why| Problem::new(Exit::USAGE, format!("report dmarc: {why}")))?;
    let domain = verb.domain.as_ref().map(|domain| domain.to_ascii_lowercase());
    let mut found: Vec<DmarcView> = Vec::new();
    let request = Request::ReportDmarc(ReportTlsArguments { day, domain });
    Client::connect(&config, false)?.ask_all(&request, &mut |domain| found.push(domain))?;
    if verb.json {
        output::print_json(json!({ "domains": found }));
    } else {
        let mut table =
            Table::new(&["day", "policy of", "client", "messages", "author", "spf", "dkim", "done"]);
        let word = |passed| if passed { "pass" } else { "fail" }.to_owned();
        for domain in &found {
            for record in &domain.records {
                let row = &record.row;
                table.row(vec![
                    domain.day.clone(),
                    visible(&domain.domain),
                    row.source_ip.to_string(),
                    record.messages.to_string(),
                    visible(&row.header_from),
                    word(row.spf),
                    word(row.dkim),
                    row.disposition.clone(),
                ]);
            }
        }
        table.print();
    }
    let failed = found.iter().flat_map(|domain| &domain.records).any(|it| !it.row.spf && !it.row.dkim);
    Ok(match () {
        () if found.is_empty() => Exit::NOTHING,
        () if failed => Exit::PROBLEMS,
        () => Exit::DONE,
    })
}

/// What was sent, and whether anything is.
fn list(file: Option<&Path>, verb: &ReportList) -> Ended {
    let (config, _) = load(file)?;
    let request = Request::ReportList(ReportListArguments { kind: verb.kind.clone(), limit: verb.limit });
    let (mut sending, mut reports): (Vec<ReportSendingView>, Vec<ReportView>) = (Vec::new(), Vec::new());
    Client::connect(&config, false)?.ask_all(&request, &mut |row| match row {
        ReportRow::Sending(kind) => sending.push(kind),
        ReportRow::Report(report) if verb.all || report.state != "unwanted" => reports.push(*report),
        ReportRow::Report(_) => {}
    })?;
    if verb.json {
        output::print_json(json!({ "sending": sending, "reports": reports }));
    } else {
        table(&reports).print();
        for kind in &sending {
            if let Some(why) = &kind.not_sent_because {
                eprintln!("mta-cli: no {} reports are sent: {}", kind.sending, visible(why));
            }
        }
    }
    let silent = sending.iter().any(|kind| kind.not_sent_because.is_some());
    let failed = |report: &ReportView| {
        let lost =
            |status: &Option<String>| matches!(status.as_deref(), Some("failed" | "expired" | "damaged"));
        report.state == "given-up" || report.to.iter().any(|to| lost(&to.status))
    };
    Ok(match () {
        () if silent || reports.iter().any(failed) => Exit::PROBLEMS,
        () if reports.is_empty() => Exit::NOTHING,
        () => Exit::DONE,
    })
}

/// Sends a day's reports, or shows them.
fn send(file: Option<&Path>, verb: &ReportSend) -> Ended {
    let (config, _) = load(file)?;
    let day = parse_day(&verb.day, SystemTime::now())
        .map_err(|why| Problem::new(Exit::USAGE, format!("report send: {why}")))?;
    let domain = verb.domain.as_ref().map(|domain| domain.to_ascii_lowercase());
    let arguments = ReportSendArguments { kind: verb.kind.clone(), day, domain, dry_run: verb.dry_run };
    let mut reports: Vec<ReportView> = Vec::new();
    let mut client = Client::connect(&config, false)?;
    let done = client.ask_all(&Request::ReportSend(arguments), &mut |report| reports.push(report))?;
    let day = tlsrpt::day_text(day);
    match (verb.json, verb.dry_run) {
        (true, _) => output::print_json(json!({ "day": day, "count": done.count, "reports": reports })),
        (false, true) => table(&reports).print(),
        (false, false) => drop(output::print(&format!("reports of {day} on their way: {}\n", done.count))),
    }
    Ok(if done.count == 0 { Exit::NOTHING } else { Exit::DONE })
}

/// Reports as a table, a line for each place.
fn table(reports: &[ReportView]) -> Table {
    let mut table = Table::new(&["day", "kind", "domain", "state", "to", "why"]);
    for report in reports {
        let mut row = |state: String, to: String, why: String| {
            let (day, kind, domain) = (report.day.clone(), report.kind.clone(), visible(&report.domain));
            table.row(vec![day, kind, domain, state, to, why]);
        };
        let waits = report.next_try_at.as_ref().map(|at| format!("next try {at}"));
        let why = [report.reason.clone(), waits].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let dash = |text: String| if text.is_empty() { "-".to_owned() } else { visible(&text) };
        if report.to.is_empty() || report.state == "due" {
            row(report.state.clone(), "-".to_owned(), dash(why.clone()));
        }
        for to in &report.to {
            let state = match (&to.refused_because, &to.status) {
                (Some(_), _) => "refused".to_owned(),
                (None, Some(status)) => format!("{}, {status}", report.state),
                (None, None) => report.state.clone(),
            };
            let why = to.refused_because.clone().or_else(|| to.message.clone()).unwrap_or_default();
            row(state, visible(&to.address), dash(why));
        }
    }
    table
}

fn tls(file: Option<&Path>, verb: &ReportTls) -> Ended {
    let (config, _) = load(file)?;
    let now = SystemTime::now();
    let day = verb.day.as_deref().map(|text| parse_day(text, now)).transpose();
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
    let reports = tlsrpt::reports(day, &rows, &identity(&config), now);
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
    let options = config.report_options();
    Identity { hostname: options.hostname, contact: options.contact.to_string() }
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
        out.push_str("\nWho wants a report (what was sent: report list):\n");
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
