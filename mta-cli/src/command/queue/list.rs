//! `queue list` and `queue summary`.

use std::time::SystemTime;

use mta_core::control::{GroupView, ListArguments, Request, SummaryArguments, SummaryBy};
use serde_json::Value;

use super::super::Ended;
use super::select::select;
use super::view;
use crate::args::{QueueList, QueueSummary, Selection};
use crate::client::{Client, Problem};
use crate::exit::Exit;
use crate::output::{self, Table, bytes, relative};

/// What is asked.
pub(in crate::command) fn request(verb: &QueueList) -> Result<Request, Problem> {
    let select = select(verb.selection())?;
    Ok(Request::QueueList(ListArguments { select, limit: verb.limit, after: verb.after.clone() }))
}

/// Lists messages; for `mailq` too.
pub(in crate::command) fn list(client: &mut Client, request: &Request, verb: &QueueList) -> Ended {
    let selected = verb.selection() != Selection::default();
    let mut rows: Vec<Value> = Vec::new();
    let mut count = 0u64;
    let done = client.ask(request, &mut |row| {
        count += 1;
        if verb.jsonl {
            output::print_line(&row);
        } else {
            rows.push(row);
        }
    })?;
    if verb.json {
        output::print_json(serde_json::json!({ "messages": rows, "more": done.more }));
    } else if !verb.jsonl {
        print_list(&rows)?;
    }
    if done.more && !verb.json {
        let last = rows.last().and_then(|row| row.get("id")).and_then(Value::as_str);
        let after = last.map(|id| format!(" go on with --after {id}, or")).unwrap_or_default();
        eprintln!("mta-cli: there are more;{after} ask for more with --limit");
    }
    if count == 0 {
        if !verb.json && !verb.jsonl && output::for_person() {
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
    let header = ["ID", "RECEIVED", "SIZE", "STATUS", "TRIES", "NEXT", "FROM", "TO", "REPLY"];
    let mut table = Table::new(&header).folding_at(6);
    for row in rows {
        let message = view(row.clone())?;
        let time = |t: &str| if person { relative(t, now) } else { t.to_owned() };
        let size = if person { bytes(message.size_bytes) } else { message.size_bytes.to_string() };
        for recipient in &message.recipients {
            let held = recipient.note.as_ref().filter(|_| recipient.status == "held");
            table.row(vec![
                message.id.clone(),
                time(&message.received_at),
                size.clone(),
                recipient.status.clone(),
                recipient.attempts.to_string(),
                recipient.next_attempt_at.as_deref().map(time).unwrap_or_default(),
                message.from.clone(),
                recipient.address.clone(),
                held.or(recipient.last_reply.as_ref()).cloned().unwrap_or_default(),
            ]);
        }
    }
    table.print();
    Ok(())
}

/// What is asked.
pub(super) fn summary_request(verb: &QueueSummary) -> Result<Request, Problem> {
    let by = match verb.by.as_str() {
        "domain" => SummaryBy::Domain,
        "mx" => SummaryBy::Mx,
        "reason" => SummaryBy::Reason,
        "age" => SummaryBy::Age,
        "sender" => SummaryBy::Sender,
        other => {
            let text =
                format!("queue summary: unknown --by {other:?}; expected domain, mx, reason, age or sender");
            return Err(Problem::new(Exit::USAGE, text));
        }
    };
    Ok(Request::QueueSummary(SummaryArguments { by, limit: verb.limit }))
}

/// Prints the groups.
pub(super) fn summary(client: &mut Client, request: &Request, verb: &QueueSummary) -> Ended {
    let mut groups: Vec<GroupView> = Vec::new();
    let done = client.ask_all(request, &mut |group| groups.push(group))?;
    if verb.jsonl {
        output::print_lines(&groups);
    } else if verb.json {
        output::print_json(serde_json::json!({ "by": verb.by, "groups": groups, "more": done.more }));
    } else {
        groups_table(&groups, &verb.by.to_uppercase()).print();
        if done.more {
            eprintln!("mta-cli: there are more; ask for them with --limit");
        }
        if groups.is_empty() && output::for_person() {
            eprintln!("mta-cli: the queue is empty");
        }
    }
    Ok(Exit::DONE)
}

fn groups_table(groups: &[GroupView], _by: &str) -> Table {
    let person = output::for_person();
    let now = SystemTime::now();
    let time = |t: &Option<String>| {
        let t = t.as_deref().unwrap_or_default();
        if person && !t.is_empty() { relative(t, now) } else { t.to_owned() }
    };
    let mut table = Table::new(&["WAITING", "HELD", "OLDEST", "NEXT", "GROUP"]);
    for group in groups {
        table.row(vec![
            group.recipients.to_string(),
            group.held.to_string(),
            time(&group.oldest_at),
            time(&group.next_attempt_at),
            group.key.clone(),
        ]);
    }
    table
}
