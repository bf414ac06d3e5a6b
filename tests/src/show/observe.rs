//! From the daemon's record of a message, and from what really arrived, to one line of the table.

use mta_core::control::MessageView;
use mta_core::outbound::decision::{Decision, HostRecord};

use super::{Exhibit, Protection, Row, SENDER, Verdict};
use crate::lab::{Lab, OWN_DOMAIN};
use crate::mx::Received;

/// Waits for the message's first attempt and makes its line.
pub(super) fn row(lab: &Lab, exhibit: &Exhibit, id: &str, content: &[u8]) -> Row {
    let message = lab.settled(id);
    let decision = decision(&message);
    let host = decision.as_ref().and_then(|decision| decision.hosts.first());
    let arrived = arrived(lab, exhibit, content);
    let protection = protection(exhibit, host, &arrived);
    let verdict = verdict(lab, &message, &arrived);
    let story = message.history.iter().flatten().flat_map(|attempt| attempt.story.clone()).collect();
    Row {
        domain: exhibit.domain,
        shows: exhibit.shows,
        dnssec: dnssec(decision.as_ref()),
        tls: tls(exhibit, host),
        protection,
        verdict,
        why: why(lab, &message, decision.as_ref()),
        as_expected: verdict == exhibit.verdict && protection == exhibit.protection,
        queue_id: id.to_owned(),
        story,
    }
}

/// The decision record of the last attempt.
fn decision(message: &MessageView) -> Option<Decision> {
    let attempt = message.history.as_ref()?.last()?;
    serde_json::from_value(attempt.decision.clone()?).ok()
}

/// What really arrived for this message.
struct Arrived {
    /// At the MX host, with all that it saw.
    at_host: Option<Received>,
    /// In the mailbox of our own domain.
    in_mailbox: bool,
}

impl Arrived {
    fn anywhere(&self) -> bool {
        self.at_host.is_some() || self.in_mailbox
    }
}

/// Looks for the message where it may have arrived: each byte of it must be there, behind the trace lines.
fn arrived(lab: &Lab, exhibit: &Exhibit, content: &[u8]) -> Arrived {
    let host = lab.hosts.get(&format!("mx.{}", exhibit.domain));
    let at_host = host.and_then(|host| host.messages().into_iter().find(|it| it.content.ends_with(content)));
    let stored: Vec<u8> = content.iter().copied().filter(|byte| *byte != b'\r').collect();
    let is_it = |found: &Vec<u8>| found.ends_with(&stored) || found.ends_with(content);
    let in_mailbox = exhibit.domain == OWN_DOMAIN && lab.maildir(OWN_DOMAIN, "bob").iter().any(is_it);
    Arrived { at_host, in_mailbox }
}

/// The daemon's verdict, unless what arrived says otherwise.
fn verdict(lab: &Lab, message: &MessageView, arrived: &Arrived) -> Verdict {
    match (message.status.as_str(), arrived.anywhere()) {
        ("delivered", true) => Verdict::Delivered,
        ("deferred", false) => Verdict::Delayed,
        ("failed", false) if is_returned(lab, message) => Verdict::Returned,
        _ => Verdict::Unclear,
    }
}

/// Whether the sender has a notification that names the recipient.
fn is_returned(lab: &Lab, message: &MessageView) -> bool {
    let Some(recipient) = message.recipients.first() else { return false };
    let names_it = || {
        let mailbox = SENDER.split('@').next().unwrap_or_default();
        let notices = lab.maildir(OWN_DOMAIN, mailbox);
        notices.iter().any(|notice| String::from_utf8_lossy(notice).contains(&recipient.address))
    };
    lab.wait_for_files(names_it)
}

/// How the message was protected: by the host's own account where it arrived there.
fn protection(exhibit: &Exhibit, host: Option<&HostRecord>, arrived: &Arrived) -> Protection {
    let last = host.and_then(|host| host.tries.last());
    let authenticated = last.and_then(|it| it.tls.as_ref()).is_some_and(|tls| tls.authenticated_by.is_some());
    match &arrived.at_host {
        Some(received) if received.tls.is_none() => Protection::Plain,
        Some(_) if authenticated => Protection::Dane,
        Some(_) => Protection::Encrypted,
        None if exhibit.domain == OWN_DOMAIN => Protection::Local,
        None => Protection::None,
    }
}

/// What DNSSEC said, in a word or two.
fn dnssec(decision: Option<&Decision>) -> String {
    let known = |status: &str| Some(status.to_owned()).filter(|status| !status.is_empty());
    let mx = decision.and_then(|decision| known(&decision.mx.as_ref()?.status));
    let address = decision.and_then(|decision| known(&decision.hosts.first()?.address_status));
    match (mx, address) {
        (Some(mx), Some(address)) if mx != address => format!("MX {mx}, host {address}"),
        (Some(status), _) | (None, Some(status)) => status,
        (None, None) => "-".to_owned(),
    }
}

/// What TLS and DANE came to, in a few words.
fn tls(exhibit: &Exhibit, host: Option<&HostRecord>) -> String {
    if exhibit.domain == OWN_DOMAIN {
        return "local".to_owned();
    }
    let Some(last) = host.and_then(|host| host.tries.last()) else { return "-".to_owned() };
    let Some(tls) = &last.tls else {
        return match (last.connect_ms, last.starttls.as_str()) {
            (None, _) => "no connection".to_owned(),
            (_, "not offered") => "STARTTLS not offered".to_owned(),
            (_, other) => other.to_owned(),
        };
    };
    let version = tls.version.as_deref().unwrap_or("TLS");
    match (&tls.authenticated_by, &tls.failure) {
        (Some(by), _) => format!("{version}, {} matches", without_data(by).0),
        (None, Some(_)) => format!("{version}, no TLSA record matches"),
        (None, None) => format!("{version}, not verified"),
    }
}

/// `TLSA 3 1 1 0123abcd... rest` as `TLSA 3 1 1` and `rest`: the table has no room for digests.
fn without_data(by: &str) -> (String, String) {
    let words: Vec<&str> = by.split_whitespace().collect();
    let at = words
        .iter()
        .position(|word| word.len() > 8 && word.chars().all(|it| it.is_ascii_hexdigit() || it == '.'));
    let at = at.unwrap_or(words.len());
    (words[..at].join(" "), words.get(at + 1..).unwrap_or_default().join(" "))
}

/// Why, in the daemon's words: what proved or failed to prove the peer, else what the attempt left for the recipient.
fn why(lab: &Lab, message: &MessageView, decision: Option<&Decision>) -> String {
    let early = decision.and_then(|decision| decision.ended_early.clone());
    let last = message.recipients.first().and_then(|recipient| recipient.last_reply.clone());
    let host = decision.and_then(|decision| decision.hosts.last());
    let last_try = host.and_then(|host| host.tries.last());
    let proved = last_try.and_then(|it| it.tls.as_ref()?.authenticated_by.as_deref()).map(|by| {
        let (record, what) = without_data(by);
        format!("{record} {what}")
    });
    let unproved = host.map(|host| host.requirement_reason.clone());
    let why = match (message.status.as_str(), early) {
        (_, Some(early)) => Some(early),
        ("delivered", None) => proved.or(unproved).or(last),
        _ => last,
    };
    let why = why.unwrap_or_else(|| "no reason given".to_owned());
    why.replace(&format!("{}/", lab.directory().display()), "")
}
