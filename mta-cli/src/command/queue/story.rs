//! A message told to a person.

use std::fmt::Write;
use std::time::SystemTime;

use mta_core::control::{AttemptView, MessageView, RecipientView};
use mta_core::log::visible;

use crate::output::{bytes, relative};

/// Everything about the message, attempts last.
pub(super) fn tell(message: &MessageView, now: SystemTime) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "Message {}: {}", message.id, message.status);
    let _ = writeln!(out, "  from      {}", visible(&message.from));
    let _ = writeln!(
        out,
        "  received  {} ({}){}",
        message.received_at,
        relative(&message.received_at, now),
        client(message)
    );
    if let Some(auth) = &message.auth {
        let _ = writeln!(out, "  auth      {}", visible(auth));
    }
    let _ = writeln!(out, "  size      {}", bytes(message.size_bytes));
    if let Some(at) = &message.finished_at {
        let _ = writeln!(out, "  finished  {at} ({})", relative(at, now));
    }
    for recipient in &message.recipients {
        recipient_lines(&mut out, recipient, now);
    }
    for event in &message.events {
        let detail =
            event.detail.as_deref().map(|detail| format!(": {}", visible(detail))).unwrap_or_default();
        let _ = writeln!(out, "  {:<9} {} by {}{detail}", visible(&event.what), event.at, visible(&event.by));
    }
    let history = message.history.as_deref().unwrap_or_default();
    for (i, attempt) in history.iter().enumerate() {
        attempt_lines(&mut out, i + 1, attempt);
    }
    if history.is_empty() {
        out.push_str("\nNo attempt was made yet.\n");
    }
    out
}

/// Where it came from.
fn client(message: &MessageView) -> String {
    let mut text = String::new();
    if let Some(client) = &message.client {
        let _ = write!(text, " from [{client}]");
    }
    if let Some(helo) = &message.helo {
        let _ = write!(text, ", which called itself {}", visible(helo));
    }
    if let Some(tls) = &message.tls {
        let _ = write!(text, ", over {}", visible(tls));
    }
    text
}

fn recipient_lines(out: &mut String, recipient: &RecipientView, now: SystemTime) {
    let _ = write!(out, "  to        {}: {}", visible(&recipient.address), recipient.status);
    match recipient.attempts {
        0 => {}
        1 => out.push_str(" after 1 attempt"),
        n => {
            let _ = write!(out, " after {n} attempts");
        }
    }
    if let Some(next) = &recipient.next_attempt_at {
        let _ = write!(out, ", next attempt {}", relative(next, now));
    }
    out.push('\n');
    if let Some(note) = recipient.note.as_ref().filter(|_| recipient.status == "held") {
        let _ = writeln!(out, "            held: {}", visible(note));
    }
    if let Some((_, via)) = recipient.destination.split_once(" via ") {
        let _ = writeln!(out, "            by way of {}", visible(via));
    }
    if let Some(reply) = &recipient.last_reply {
        let status = recipient.last_status.as_deref().unwrap_or_default();
        let remote =
            recipient.last_remote.as_deref().map(|r| format!("{}: ", visible(r))).unwrap_or_default();
        let _ = writeln!(out, "            {remote}{} {}", visible(status), visible(reply));
    }
}

fn attempt_lines(out: &mut String, number: usize, attempt: &AttemptView) {
    let _ = match &attempt.first_at {
        Some(first) => writeln!(
            out,
            "\nAttempt {number}, {}: put off {} times in a row since {first}, the last time:",
            attempt.at, attempt.times
        ),
        None => writeln!(out, "\nAttempt {number}, {}:", attempt.at),
    };
    for sentence in &attempt.story {
        let _ = writeln!(out, "  {}", visible(sentence));
    }
    for result in &attempt.results {
        let remote = result.remote.as_deref().map(|r| format!(" by {}", visible(r))).unwrap_or_default();
        let (recipient, reply) = (visible(&result.recipient), visible(&result.reply));
        let outcome = format!("{recipient}: {}{remote}, {}", result.outcome, visible(&result.status));
        // The story often gave the reply already.
        if attempt.story.iter().any(|sentence| sentence.contains(&result.reply)) {
            let _ = writeln!(out, "  {outcome}");
        } else {
            let _ = writeln!(out, "  {outcome}: {reply}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mta_core::control::{EventView, ResultView};

    fn message() -> MessageView {
        MessageView {
            id: "0abcdefghjk".into(),
            status: "deferred".into(),
            from: "alice@example.org".into(),
            size_bytes: 4321,
            received_at: "2026-11-23T22:00:00Z".into(),
            finished_at: None,
            client: Some("192.0.2.1".into()),
            helo: Some("evil\u{1b}[31m".into()),
            auth: Some("spf=pass,dkim=none,dmarc=none,iprev=fail".into()),
            tls: None,
            attempts: 1,
            next_attempt_at: Some("2026-11-23T22:10:00Z".into()),
            last_reply: Some("not sent".into()),
            origin: "smtp".into(),
            user: None,
            message_id: None,
            about: None,
            events: vec![EventView {
                at: "2026-11-23T22:00:02Z".into(),
                what: "held".into(),
                by: "root".into(),
                detail: Some("a loop?".into()),
            }],
            recipients: vec![RecipientView {
                note: None,
                address: "bob@example.net".into(),
                status: "deferred".into(),
                destination: "example.net".into(),
                attempts: 1,
                next_attempt_at: Some("2026-11-23T22:10:00Z".into()),
                last_attempt_at: Some("2026-11-23T22:00:01Z".into()),
                last_status: Some("4.7.5".into()),
                last_reply: Some("no TLSA record matched".into()),
                last_remote: Some("mx1.example.net".into()),
            }],
            history: Some(vec![AttemptView {
                at: "2026-11-23T22:00:01Z".into(),
                first_at: None,
                times: 1,
                results: vec![ResultView {
                    recipient: "bob@example.net".into(),
                    outcome: "deferred".into(),
                    status: "4.7.5".into(),
                    reply: "no TLSA record matched".into(),
                    remote: Some("mx1.example.net".into()),
                }],
                decision: None,
                story: vec!["MX secure.".into()],
            }]),
        }
    }

    #[test]
    fn a_message_is_told_as_a_story() {
        let now = "2026-11-23T22:05:00Z".parse::<jiff::Timestamp>().unwrap().into();
        assert_eq!(
            tell(&message(), now),
            "Message 0abcdefghjk: deferred\n  \
             from      alice@example.org\n  \
             received  2026-11-23T22:00:00Z (5m ago) from [192.0.2.1], which called itself evil\\u{1b}[31m\n  \
             auth      spf=pass,dkim=none,dmarc=none,iprev=fail\n  \
             size      4321 B\n  \
             to        bob@example.net: deferred after 1 attempt, next attempt in 5m\n            \
             mx1.example.net: 4.7.5 no TLSA record matched\n  \
             held      2026-11-23T22:00:02Z by root: a loop?\n\n\
             Attempt 1, 2026-11-23T22:00:01Z:\n  \
             MX secure.\n  \
             bob@example.net: deferred by mx1.example.net, 4.7.5: no TLSA record matched\n"
        );
    }
}
