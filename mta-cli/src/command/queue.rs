//! `queue`: look at what waits, try it again, take it out.

use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::time::SystemTime;

use mta_core::control::{ListArguments, MessageView, Request, Select};
use serde_json::{Value, json};

use super::{Ended, load};
use crate::args::{QueueDrop, QueueList, QueueRetry, QueueShow, QueueVerb};
use crate::client::{Client, Problem};
use crate::exit::Exit;
use crate::output::{self, Table, bytes, relative};

pub(super) fn run(file: Option<&Path>, verb: QueueVerb) -> Ended {
    let (config, _) = load(file)?;
    let writing = match &verb {
        QueueVerb::Retry(verb) => !verb.dry_run,
        QueueVerb::Drop(verb) => !verb.dry_run,
        QueueVerb::List(_) | QueueVerb::Show(_) => false,
    };
    let connect = || Client::connect(&config, writing);
    match verb {
        QueueVerb::List(verb) => list(&mut connect()?, verb),
        QueueVerb::Show(verb) => show(&mut connect()?, &verb),
        QueueVerb::Retry(verb) => {
            let (select, dry_run, json) = retry_select(verb)?;
            retry(&mut connect()?, select, dry_run, json)
        }
        QueueVerb::Drop(verb) => {
            let how = Drop { dry_run: verb.dry_run, yes: verb.yes, json: verb.json };
            let select = drop_select(verb)?;
            drop_messages(&mut connect()?, select, how)
        }
    }
}

// ---- list --------------------------------------------------------------------------------------------------------

/// Lists messages; for `mailq` too.
pub(super) fn list(client: &mut Client, verb: QueueList) -> Ended {
    let select = Select { ids: verb.ids, to: verb.to, from: verb.from, status: verb.status };
    let selected = select != Select::default();
    let request = Request::QueueList(ListArguments { select, limit: verb.limit, after: verb.after });
    let mut rows: Vec<Value> = Vec::new();
    let done = client.ask(&request, &mut |row| rows.push(row))?;
    if verb.json {
        output::print_json(json!({ "messages": rows, "more": done.more }));
    } else {
        print_list(&rows)?;
        if done.more {
            let last = rows.last().and_then(|row| row.get("id")).and_then(Value::as_str).unwrap_or_default();
            eprintln!("mta-cli: there are more; go on with --after {last}, or ask for more with --limit");
        }
    }
    if rows.is_empty() {
        if !verb.json && output::for_person() {
            eprintln!("mta-cli: {}", if selected { "nothing matches" } else { "the queue is empty" });
        }
        return Ok(if selected { Exit::NOTHING } else { Exit::DONE });
    }
    Ok(Exit::DONE)
}

/// One line for each recipient.
fn print_list(rows: &[Value]) -> Result<(), Problem> {
    let person = output::for_person();
    let now = SystemTime::now();
    let mut table = Table::new(&["ID", "RECEIVED", "SIZE", "STATUS", "TRIES", "NEXT", "FROM", "TO", "REPLY"]);
    for row in rows {
        let message = view(row.clone())?;
        let time = |t: &str| if person { relative(t, now) } else { t.to_owned() };
        let size = if person { bytes(message.size_bytes) } else { message.size_bytes.to_string() };
        for recipient in &message.recipients {
            table.row(vec![
                message.id.clone(),
                time(&message.received_at),
                size.clone(),
                recipient.status.clone(),
                recipient.attempts.to_string(),
                recipient.next_attempt_at.as_deref().map(time).unwrap_or_default(),
                message.from.clone(),
                recipient.address.clone(),
                recipient.last_reply.clone().unwrap_or_default(),
            ]);
        }
    }
    if !rows.is_empty() {
        output::print(&if person { table.for_person() } else { table.for_pipe() });
    }
    Ok(())
}

/// A row as a message.
fn view(row: Value) -> Result<MessageView, Problem> {
    serde_json::from_value(row)
        .map_err(|e| Problem::new(Exit::INTERNAL, format!("cannot read the answer: {e}")))
}

// ---- show --------------------------------------------------------------------------------------------------------

fn show(client: &mut Client, verb: &QueueShow) -> Ended {
    let mut found: Option<Value> = None;
    client.ask(&Request::QueueShow(verb.id.clone()), &mut |row| found = Some(row))?;
    let row = found.ok_or_else(|| Problem::new(Exit::INTERNAL, "the answer is empty"))?;
    if verb.json {
        output::print_json(json!({ "message": row }));
    } else {
        output::print(&story::tell(&view(row)?, SystemTime::now()));
    }
    Ok(Exit::DONE)
}

/// A message told to a person.
mod story {
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
        let _ = writeln!(out, "  size      {}", bytes(message.size_bytes));
        if let Some(at) = &message.finished_at {
            let _ = writeln!(out, "  finished  {at} ({})", relative(at, now));
        }
        for recipient in &message.recipients {
            recipient_lines(&mut out, recipient, now);
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
        if let Some(reply) = &recipient.last_reply {
            let status = recipient.last_status.as_deref().unwrap_or_default();
            let remote =
                recipient.last_remote.as_deref().map(|r| format!("{}: ", visible(r))).unwrap_or_default();
            let _ = writeln!(out, "            {remote}{} {}", visible(status), visible(reply));
        }
    }

    fn attempt_lines(out: &mut String, number: usize, attempt: &AttemptView) {
        let _ = writeln!(out, "\nAttempt {number}, {}:", attempt.at);
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
}

// ---- retry and drop ----------------------------------------------------------------------------------------------

/// Refuses a change without any selection.
fn some_selection(select: Select, all: bool, verb: &str) -> Result<Select, Problem> {
    if all == (select != Select::default()) {
        let text = format!("{verb}: say which messages: ids, --to, --from or --status; or --all, alone");
        return Err(Problem::new(Exit::USAGE, text));
    }
    Ok(select)
}

fn retry_select(verb: QueueRetry) -> Result<(Select, bool, bool), Problem> {
    let select = Select { ids: verb.ids, to: verb.to, from: verb.from, status: verb.status };
    Ok((some_selection(select, verb.all, "queue retry")?, verb.dry_run, verb.json))
}

fn drop_select(verb: QueueDrop) -> Result<Select, Problem> {
    let select = Select { ids: verb.ids, to: verb.to, from: verb.from, status: verb.status };
    some_selection(select, verb.all, "queue drop")
}

fn retry(client: &mut Client, select: Select, dry_run: bool, json: bool) -> Ended {
    let request = if dry_run { Request::QueueCount(select) } else { Request::QueueRetry(select) };
    let count = client.ask(&request, &mut |_| ())?.count;
    let did = if dry_run { "would be tried again" } else { "will be tried again now" };
    if !dry_run && !client.is_daemon() {
        eprintln!("mta-cli: the daemon will try as soon as it is started");
    }
    Ok(changed(count, "retry", did, dry_run, json))
}

/// How messages are dropped.
struct Drop {
    dry_run: bool,
    yes: bool,
    json: bool,
}

fn drop_messages(client: &mut Client, select: Select, how: Drop) -> Ended {
    let count = client.ask(&Request::QueueCount(select.clone()), &mut |_| ())?.count;
    if how.dry_run || count == 0 {
        return Ok(changed(count, "drop", "would be dropped", true, how.json));
    }
    if !how.yes && !confirmed(count)? {
        eprintln!("mta-cli: nothing was dropped");
        return Ok(Exit::PROBLEMS);
    }
    let count = client.ask(&Request::QueueDrop(select), &mut |_| ())?.count;
    Ok(changed(count, "drop", "dropped", false, how.json))
}

/// Asks the person at the terminal; without one, `--yes` is needed.
fn confirmed(count: u64) -> Result<bool, Problem> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        let text = format!("queue drop: {} would be dropped; give --yes to do it", recipients(count));
        return Err(Problem::new(Exit::USAGE, text));
    }
    eprint!("Drop {}? Nobody will be notified. [y/N] ", recipients(count));
    let mut answer = String::new();
    let read = input.lock().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Says how many it were.
fn changed(count: u64, action: &str, did: &str, dry_run: bool, json: bool) -> Exit {
    if json {
        output::print_json(json!({ "action": action, "recipients": count, "dry_run": dry_run }));
    } else {
        output::print(&format!("{} {did}\n", recipients(count)));
    }
    if count == 0 { Exit::NOTHING } else { Exit::DONE }
}

/// "1 recipient", "2 recipients".
fn recipients(count: u64) -> String {
    if count == 1 { "1 recipient".to_owned() } else { format!("{count} recipients") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mta_core::control::{AttemptView, RecipientView, ResultView};

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
            tls: None,
            attempts: 1,
            next_attempt_at: Some("2026-11-23T22:10:00Z".into()),
            last_reply: Some("not sent".into()),
            recipients: vec![RecipientView {
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
            story::tell(&message(), now),
            "Message 0abcdefghjk: deferred\n  \
             from      alice@example.org\n  \
             received  2026-11-23T22:00:00Z (5m ago) from [192.0.2.1], which called itself evil\\u{1b}[31m\n  \
             size      4321 B\n  \
             to        bob@example.net: deferred after 1 attempt, next attempt in 5m\n            \
             mx1.example.net: 4.7.5 no TLSA record matched\n\n\
             Attempt 1, 2026-11-23T22:00:01Z:\n  \
             MX secure.\n  \
             bob@example.net: deferred by mx1.example.net, 4.7.5: no TLSA record matched\n"
        );
    }

    #[test]
    fn a_change_needs_a_selection_or_all_but_not_both() {
        let to = Select { to: Some("x".into()), ..Select::default() };
        assert!(some_selection(to.clone(), false, "v").is_ok());
        assert!(some_selection(Select::default(), true, "v").is_ok());
        assert_eq!(some_selection(to, true, "v").unwrap_err().exit, Exit::USAGE);
        assert_eq!(some_selection(Select::default(), false, "v").unwrap_err().exit, Exit::USAGE);
    }
}
