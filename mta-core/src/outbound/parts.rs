//! A job whose recipients stand under different local rules, as it happens where several domains share a relay host.
//!
//! What it does: splits such a job, so that the rule of one recipient's domain is never that of another's, and joins the
//! reports. What it does not: it looks at no rule beyond telling whether two are the same.

use std::time::SystemTime;

use mta_dane::reference::{a_labels, text};
use mta_smtp::address::Host;

use super::attempt::{AttemptReport, Job};
use super::tls_policy::{DestinationRule, nearest};
use super::{Decision, RecipientOutcome, record};

/// The recipients that stand under one rule, as indices into the job's.
pub(super) struct Part {
    destination: String,
    recipients: Vec<usize>,
}

/// The name by which rules are looked up: A-labels, lower case.
pub(super) fn rule_name(destination: &str) -> String {
    a_labels(destination).map_or_else(|_| destination.to_owned(), |name| text(&name))
}

/// The job's recipients by their rules. A single part wherever all stand under the same.
pub(super) fn parts(job: &Job, rules: &[DestinationRule], now: SystemTime) -> Vec<Part> {
    let whole = || vec![Part { destination: job.destination.clone(), recipients: Vec::new() }];
    // Mail to the MX hosts of a domain is for that domain alone.
    if job.relay().is_none() || rules.is_empty() {
        return whole();
    }
    let mut parts: Vec<(Option<&DestinationRule>, Part)> = Vec::new();
    for (index, recipient) in job.recipients.iter().enumerate() {
        let destination = match recipient.mailbox.host() {
            Host::Domain(domain) => domain.to_string(),
            literal @ Host::Literal(_) => literal.to_string(),
        };
        let rule = nearest(rules, &rule_name(&destination), now);
        match parts.iter_mut().find(|(known, _)| *known == rule) {
            Some((_, part)) => part.recipients.push(index),
            None => parts.push((rule, Part { destination, recipients: vec![index] })),
        }
    }
    if parts.len() < 2 { whole() } else { parts.into_iter().map(|(_, part)| part).collect() }
}

/// The job of one part.
pub(super) fn job_of(job: &Job, part: &Part) -> Job {
    let recipients = part.recipients.iter().filter_map(|index| job.recipients.get(*index).cloned());
    Job { destination: part.destination.clone(), recipients: recipients.collect(), ..job.clone() }
}

/// One report of several: outcomes in the order of the job, all hosts in the record.
pub(super) fn join(job: &Job, reports: Vec<(Part, AttemptReport)>) -> AttemptReport {
    let mut slots: Vec<Option<RecipientOutcome>> = vec![None; job.recipients.len()];
    let mut joined: Option<Decision> = None;
    let mut rules = Vec::new();
    for (part, report) in reports {
        for (index, outcome) in part.recipients.iter().zip(report.outcomes) {
            if let Some(slot) = slots.get_mut(*index) {
                *slot = Some(outcome);
            }
        }
        rules.extend(report.decision.rule.clone());
        match &mut joined {
            None => joined = Some(report.decision),
            Some(decision) => {
                decision.elapsed_ms = decision.elapsed_ms.saturating_add(report.decision.elapsed_ms);
                decision.destination.push_str(&format!(", {}", report.decision.destination));
                decision.hosts.extend(report.decision.hosts);
                decision.ended_early = decision.ended_early.take().or(report.decision.ended_early);
            }
        }
    }
    // Each recipient is in one part; who is missing would show as a recipient without an outcome, which the scheduler
    // defers.
    let outcomes: Vec<RecipientOutcome> = slots.into_iter().flatten().collect();
    let mut decision = joined.unwrap_or_default();
    decision.rule = (!rules.is_empty()).then(|| rules.join("; "));
    decision.result = record::summary(&outcomes);
    AttemptReport { outcomes, decision, ..AttemptReport::default() }
}
