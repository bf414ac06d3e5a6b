//! `trace`: what became of messages, from their arrival to their end.

use std::fmt::Write;
use std::path::Path;

use mta_core::control::{AttemptView, MessageView, Request, Select, TraceArguments};
use mta_core::log::visible;
use serde_json::{Value, json};

use super::queue::view;
use super::{Ended, load};
use crate::args::Trace;
use crate::client::{Client, Problem};
use crate::exit::Exit;
use crate::output::{self, bytes};

pub(super) fn run(file: Option<&Path>, verb: &Trace) -> Ended {
    let select =
        Select { ids: verb.ids.clone(), to: verb.rcpt.clone(), from: verb.from.clone(), ..Select::default() };
    if select == Select::default() && verb.msgid.is_none() {
        return Err(Problem::new(Exit::USAGE, "trace: say what: an id, --rcpt, --from or --msgid"));
    }
    let (config, _) = load(file)?;
    let mut client = Client::connect(&config, false)?;
    let arguments = TraceArguments { select, message_id: verb.msgid.clone(), limit: verb.limit };
    let mut rows: Vec<Value> = Vec::new();
    let done = client.ask(&Request::Trace(arguments), &mut |row| rows.push(row))?;
    if verb.jsonl {
        output::print_lines(&rows);
    } else if verb.json {
        output::print_json(json!({ "messages": rows, "more": done.more }));
    } else {
        for (i, row) in rows.iter().enumerate() {
            let text = timeline(&view(row.clone())?);
            output::print_text(&if i > 0 { format!("\n{text}") } else { text });
        }
        if done.more {
            eprintln!("mta-cli: these are the latest; ask for more with --limit");
        }
    }
    if rows.is_empty() {
        eprintln!("mta-cli: nothing matches; history goes back as far as queue.history says");
        return Ok(Exit::NOTHING);
    }
    Ok(Exit::DONE)
}

/// Everything that happened to a message, in its order, a time before each event.
pub(super) fn timeline(message: &MessageView) -> String {
    let mut events: Vec<(String, String)> = vec![(message.received_at.clone(), arrival(message))];
    events
        .extend(message.history.iter().flatten().map(|attempt| (attempt.at.clone(), attempt_text(attempt))));
    for event in &message.events {
        let detail =
            event.detail.as_deref().map(|detail| format!(": {}", visible(detail))).unwrap_or_default();
        events.push((
            event.at.clone(),
            format!("{} by {}{detail}\n", visible(&event.what), visible(&event.by)),
        ));
    }
    // Times are whole seconds of one form: what came first in one second stays first.
    events.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = String::new();
    let _ = writeln!(out, "{}  {} -> {}", message.id, visible(&message.from), recipients(message));
    for (at, text) in events {
        let mut lines = text.lines();
        let _ = writeln!(out, "{at}  {}", lines.next().unwrap_or_default());
        lines.for_each(|line| {
            let _ = writeln!(out, "{:20}    {line}", "");
        });
    }
    let (at, end) = end(message);
    let _ = writeln!(out, "{at:<20}  {end}");
    out
}

/// Recipients that are named in the first line.
const NAMED: usize = 3;

fn recipients(message: &MessageView) -> String {
    let named: Vec<String> = message.recipients.iter().take(NAMED).map(|r| visible(&r.address)).collect();
    let more = message.recipients.len().saturating_sub(NAMED);
    named.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
}

fn arrival(message: &MessageView) -> String {
    let mut text = format!("arrived, {}", bytes(message.size_bytes));
    if let Some(client) = &message.client {
        let _ = write!(text, ", from [{client}]");
    }
    if let Some(helo) = &message.helo {
        let _ = write!(text, " called {}", visible(helo));
    }
    match &message.tls {
        Some(tls) => {
            let _ = write!(text, ", {}", visible(tls));
        }
        None if message.client.is_some() => text.push_str(", no TLS"),
        None => {}
    }
    if let Some(user) = &message.user {
        let _ = write!(text, ", by {}", visible(user));
    }
    if let Some(about) = &message.about {
        let _ = write!(text, ", a notification about {}", visible(about));
    }
    if let Some(id) = &message.message_id {
        let _ = write!(text, "\nMessage-ID {}", visible(id));
    }
    text
}

fn attempt_text(attempt: &AttemptView) -> String {
    let mut outcomes: Vec<&str> = attempt.results.iter().map(|result| result.outcome.as_str()).collect();
    outcomes.sort_unstable();
    outcomes.dedup();
    let mut text = format!("attempt: {}", outcomes.join(", "));
    for sentence in &attempt.story {
        let _ = write!(text, "\n{}", visible(sentence));
    }
    for result in &attempt.results {
        let remote = result.remote.as_deref().map(|r| format!(" by {}", visible(r))).unwrap_or_default();
        let _ = write!(
            text,
            "\n{}: {}{remote}, {} {}",
            visible(&result.recipient),
            result.outcome,
            visible(&result.status),
            visible(&result.reply)
        );
    }
    text
}

/// Where it stands now.
fn end(message: &MessageView) -> (String, String) {
    if let Some(at) = &message.finished_at {
        return (at.clone(), format!("finished: {}", message.status));
    }
    let next =
        message.next_attempt_at.as_deref().map(|at| format!(", next attempt {at}")).unwrap_or_default();
    (String::new(), format!("now: {}{next}", message.status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mta_core::control::EventView;

    #[test]
    fn events_are_told_in_their_order() {
        let message: MessageView = serde_json::from_value(json!({
            "id": "0abcdefghjk", "status": "deferred", "from": "a@example.org", "size_bytes": 10,
            "received_at": "2026-11-23T22:00:00Z", "attempts": 1, "client": "192.0.2.1", "helo": "h\u{1b}[1m",
            "message_id": "m@example.org", "next_attempt_at": "2026-11-23T22:09:00Z",
            "recipients": [{"address": "b@example.net", "status": "deferred", "destination": "example.net", "attempts": 1}],
            "history": [{"at": "2026-11-23T22:00:05Z", "story": ["MX secure."], "results": [
                {"recipient": "b@example.net", "outcome": "deferred", "status": "4.2.0", "reply": "later"}]}],
        }))
        .unwrap();
        let event = EventView {
            at: "2026-11-23T22:00:03Z".into(),
            what: "rerouted".into(),
            by: "root".into(),
            detail: Some("b@example.net via mx".into()),
        };
        let text = timeline(&MessageView { events: vec![event], ..message });
        assert_eq!(
            text,
            "0abcdefghjk  a@example.org -> b@example.net\n\
             2026-11-23T22:00:00Z  arrived, 10 B, from [192.0.2.1] called h\\u{1b}[1m, no TLS\n\
             \u{20}                       Message-ID m@example.org\n\
             2026-11-23T22:00:03Z  rerouted by root: b@example.net via mx\n\
             2026-11-23T22:00:05Z  attempt: deferred\n\
             \u{20}                       MX secure.\n\
             \u{20}                       b@example.net: deferred, 4.2.0 later\n\
             \u{20}                     now: deferred, next attempt 2026-11-23T22:09:00Z\n"
        );
    }
}
