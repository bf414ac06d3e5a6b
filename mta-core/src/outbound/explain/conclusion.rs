//! What would become of a message, why, and what can be done.

use std::time::Duration;

use super::super::Outcome;
use super::super::decision::Decision;
use super::super::outcome::{Reach, Verdict};
use super::{Explanation, Fate, HostPart, Mark, Question, Rule, is_known, rule};
use crate::account::Recipient;

/// What a conclusion is drawn from.
pub(super) struct Facts<'a> {
    pub(super) question: &'a Question<'a>,
    pub(super) decision: &'a Decision,
    pub(super) ended: Option<&'a Outcome>,
    pub(super) hosts: &'a [HostPart],
    pub(super) relay: bool,
}

/// The conclusion.
pub(super) struct Ending {
    pub(super) fate: Fate,
    pub(super) text: String,
    pub(super) operator: Vec<String>,
    pub(super) here: Vec<String>,
    pub(super) exception: Vec<String>,
}

impl Ending {
    fn new(fate: Fate, text: impl Into<String>) -> Self {
        Self { fate, text: text.into(), operator: Vec::new(), here: Vec::new(), exception: Vec::new() }
    }
}

/// Mail for a domain of ours.
pub(super) fn local(subject: &str, domain: &str, recipient: Option<Recipient>) -> Explanation {
    let mut rules = vec![rule("routing", "", Mark::Ok, format!("{domain} is a domain of this server"))];
    let (fate, text) = match &recipient {
        None => (
            Fate::Deliver,
            format!("Mail for the mailboxes of {domain} is delivered here; it never leaves this host."),
        ),
        Some(Recipient::Maildir(path)) => {
            rules.push(rule("mailbox", "", Mark::Ok, format!("the mailbox lies in {}", path.display())));
            (Fate::Deliver, format!("A message would be delivered to {}.", path.display()))
        }
        Some(Recipient::Lmtp(server)) => {
            rules.push(rule("mailbox", "RFC 2033", Mark::Ok, format!("the mailbox lies behind {server}")));
            (Fate::Deliver, format!("A message would be handed to {server}."))
        }
        Some(Recipient::Alias(places)) => {
            let text = format!("it is an alias; its mail goes to {}", places.join(", "));
            rules.push(rule("alias", "", Mark::Ok, text));
            (Fate::Deliver, format!("A message would go to {}.", places.join(", ")))
        }
        Some(Recipient::Unclear(reason)) => {
            rules.push(rule("alias", "", Mark::Fail, reason.clone()));
            (Fate::Delay, format!("A message would be put off (451 4.3.5): {reason}."))
        }
        Some(other) if is_known(other) => {
            rules.push(rule("mailbox", "", Mark::Ok, "it is known here"));
            (Fate::Deliver, "A message would be delivered here.".to_owned())
        }
        Some(_) => {
            rules.push(rule("mailbox", "RFC 5321 3.3", Mark::Fail, "there is no mailbox of that name"));
            (Fate::Refuse, format!("A message would be refused: {subject} is not known here (550 5.1.1)."))
        }
    };
    Explanation {
        subject: subject.to_owned(),
        probed: false,
        fate,
        conclusion: text,
        route: "local".to_owned(),
        rules,
        hosts: Vec::new(),
        operator: Vec::new(),
        here: Vec::new(),
        exception: Vec::new(),
        decision: None,
    }
}

/// Mail that leaves.
pub(super) fn reach(facts: &Facts<'_>, lifetime: Duration) -> Ending {
    if let Some(outcome) = facts.ended {
        return without_hosts(facts, outcome, lifetime);
    }
    match facts.hosts.iter().position(|host| host.usable) {
        Some(index) => delivered(facts, index),
        None => delayed(facts, lifetime),
    }
}

fn without_hosts(facts: &Facts<'_>, outcome: &Outcome, lifetime: Duration) -> Ending {
    let mx_status = facts.decision.mx.as_ref().map(|mx| mx.status.as_str()).unwrap_or_default();
    let fate = match (outcome.verdict, outcome.status.to_string().as_str(), mx_status) {
        (Verdict::Failed, "5.1.2", _) => Fate::Nothing,
        (Verdict::Failed, ..) => Fate::Refuse,
        (_, _, "bogus") => Fate::Delay,
        (_, _, "unavailable") => Fate::Temporary,
        _ if outcome.reach == Reach::Site => Fate::Temporary,
        _ => Fate::Delay,
    };
    let what = match fate {
        Fate::Nothing | Fate::Refuse => "A message would be returned at once".to_owned(),
        _ => format!("A message would wait, and be tried again for {}", days(lifetime)),
    };
    // The rule above has the words of the validator; here is what they mean.
    let why = facts.decision.triage.as_ref().map_or(&outcome.text, |triage| &triage.cause);
    let mut ending = Ending::new(fate, format!("{what}: {why}."));
    if let Some(triage) = &facts.decision.triage {
        ending.operator.clone_from(&triage.operator);
        ending.here.clone_from(&triage.here);
    }
    ending
}

/// The first host that would take it, with what proves it.
fn delivered(facts: &Facts<'_>, index: usize) -> Ending {
    let Some(host) = facts.hosts.get(index) else { return Ending::new(Fate::Delay, "no host") };
    let record = facts.decision.hosts.get(index);
    let requirement = record.map(|host| host.requirement.as_str()).unwrap_or_default();
    let host_only = record.is_some_and(|host| host.host_only);
    let mut text = if facts.question.probe {
        let good = host.addresses.iter().find(|address| address.ready == Some(true));
        let at = good.map(|address| format!(" at {}", address.address)).unwrap_or_default();
        let clear = good.is_some_and(|address| {
            address.rules.iter().any(|it| it.rule == "starttls" && it.verdict == Mark::Warn)
        });
        let how = match requirement {
            "dane" if host_only => {
                "over TLS, the host's identity proved by DANE, the domain's not (its MX records are not secured)"
            }
            "dane" => "over TLS, its identity proved by DANE",
            "verify" => "over TLS, its identity vouched for by a certification authority",
            "encrypt" => "over TLS, its identity not checked",
            _ if clear => "in the clear",
            "plaintext" => "in the clear, as configured",
            _ => "over TLS, its identity not checked",
        };
        format!("A message would be delivered to {}{at}, {how}.", host.host)
    } else {
        let how = match requirement {
            "dane" => "and leave only if that host matches its TLSA records",
            "verify" => "and leave only if its certificate is vouched for",
            "encrypt" => "and leave only over TLS",
            "plaintext" => "without TLS",
            _ => "with TLS if it is offered",
        };
        format!(
            "As far as DNS tells, a message would go to {} {how}. Whether that works shows \"mta-cli probe {}\".",
            host.host, facts.question.subject
        )
    };
    let passed_over: Vec<&str> = facts.hosts.iter().take(index).map(|host| host.host.as_str()).collect();
    if !passed_over.is_empty() {
        text.push_str(&format!(
            " That is not its first choice: {} cannot be used now.",
            passed_over.join(", ")
        ));
    }
    if let Some(triage) = &host.triage {
        text.push_str(&format!(" But not everything is well there ({}): {}.", triage.class, triage.cause));
    }
    let mut ending = Ending::new(Fate::Deliver, text);
    // A host that fails while another takes the mail is for its operator to know.
    if let Some(triage) = facts.hosts.iter().find_map(|host| host.triage.as_ref()) {
        ending.operator.clone_from(&triage.operator);
    }
    ending
}

fn delayed(facts: &Facts<'_>, lifetime: Duration) -> Ending {
    let statuses = facts.decision.hosts.iter().map(|host| {
        let tlsa = host.tlsa.last().map(|lookup| lookup.status.as_str());
        host.address_status == "unavailable" || tlsa == Some("unavailable")
    });
    let (count, unavailable) = statuses.fold((0, 0), |(count, bad), one| (count + 1, bad + usize::from(one)));
    let fate = if count > 0 && count == unavailable { Fate::Temporary } else { Fate::Delay };
    let why = match facts.hosts {
        [] => "no host could be tried in the time allowed".to_owned(),
        [host] => reason(host, facts),
        several => {
            let reasons: Vec<String> =
                several.iter().map(|host| format!("{}: {}", host.host, reason(host, facts))).collect();
            format!("none of its {} hosts can be used ({})", several.len(), reasons.join("; "))
        }
    };
    let whose = if facts.relay { "the relay host" } else { "the domain" };
    let text = format!(
        "A message would wait, because {why}. It would be tried again for {}, and leave as soon as {whose} is in order.",
        days(lifetime)
    );
    let mut ending = Ending::new(fate, text);
    if let Some(triage) = facts.hosts.iter().find_map(|host| host.triage.as_ref()) {
        ending.operator.clone_from(&triage.operator);
        ending.here.clone_from(&triage.here);
        ending.exception.clone_from(&triage.exception);
    } else if facts.hosts.iter().any(is_silent) {
        ending.operator.push("Start the mail server, or open its port to the world.".to_owned());
        ending.here.push(
            "Nothing has to be done: the mail waits. If no other host answers either, see whether this server may connect to \
             port 25 at all; many providers block it."
                .to_owned(),
        );
    }
    ending
}

/// Whether a host has addresses and none of them takes a connection.
fn is_silent(host: &HostPart) -> bool {
    let failed =
        |rules: &[Rule]| rules.iter().any(|rule| rule.rule == "connection" && rule.verdict == Mark::Fail);
    !host.addresses.is_empty() && host.addresses.iter().all(|address| failed(&address.rules))
}

/// Why a host would not take mail, in a clause.
fn reason(host: &HostPart, facts: &Facts<'_>) -> String {
    if let Some(triage) = &host.triage {
        return format!("{} ({})", triage.cause, triage.class);
    }
    if is_silent(host) {
        let rules = host.addresses.iter().flat_map(|address| &address.rules);
        let why = rules.map(|rule| rule.text.as_str()).next().unwrap_or_default();
        return format!(
            "{} cannot be connected to ({})",
            host.host,
            why.trim_start_matches("no connection: ")
        );
    }
    let record = facts.decision.hosts.iter().find(|record| record.host == host.host);
    if let Some(skipped) = record.and_then(|record| record.skipped.clone()) {
        return skipped;
    }
    let failed =
        host.addresses.iter().flat_map(|address| &address.rules).find(|rule| rule.verdict == Mark::Fail);
    failed.map_or_else(|| "it has no address that may be connected to".to_owned(), |rule| rule.text.clone())
}

fn days(lifetime: Duration) -> String {
    let seconds = lifetime.as_secs();
    match (seconds / 86_400, seconds / 3600) {
        (0, 0) => format!("{seconds} seconds"),
        (0, 1) => "an hour".to_owned(),
        (0, hours) => format!("{hours} hours"),
        (1, _) => "a day".to_owned(),
        (days, _) => format!("{days} days"),
    }
}
