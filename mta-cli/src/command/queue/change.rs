//! `queue retry|hold|release|drop|bounce|redirect|reroute`: count, ask where it cannot be undone, do, and say how many.

use std::io::{BufRead, IsTerminal};
use std::time::{Duration, Instant};

use mta_core::control::{ChangeArguments, ChangeWord, CountArguments, Done, EditArguments, Request, Select};
use serde_json::{Value, json};

use super::super::Ended;
use super::select::some_selection;
use crate::args::{
    QueueBounce, QueueDrop, QueueHold, QueueRedirect, QueueRelease, QueueReroute, QueueRetry, Selection,
};
use crate::client::{Client, Problem};
use crate::exit::Exit;
use crate::output;

/// Progress is shown for what takes longer.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// A change and how it is to be done.
pub(super) struct Change {
    name: &'static str,
    select: Select,
    request: Request,
    count: ChangeWord,
    /// Behind "3 recipients".
    would: String,
    did: String,
    /// Before and behind "3 recipients", where it is asked.
    question: Option<(&'static str, String)>,
    dry_run: bool,
    yes: bool,
    json: bool,
    /// Behind it, while the daemon is down.
    later: Option<&'static str>,
}

impl Change {
    pub(super) fn retry(verb: &QueueRetry) -> Result<Self, Problem> {
        let select = some_selection(verb.selection(), verb.all, "queue retry")?;
        Ok(Self {
            name: "retry",
            request: Request::QueueRetry(arguments(&select, None)),
            select,
            count: ChangeWord::Retry,
            would: "would be tried again".into(),
            did: "will be tried again now".into(),
            question: None,
            dry_run: verb.dry_run,
            yes: false,
            json: verb.json,
            later: Some("the daemon will try as soon as it is started"),
        })
    }

    pub(super) fn hold(verb: &QueueHold) -> Result<Self, Problem> {
        let select = some_selection(verb.selection(), verb.all, "queue hold")?;
        Ok(Self {
            name: "hold",
            request: Request::QueueHold(arguments(&select, verb.note.as_ref())),
            select,
            count: ChangeWord::Hold,
            would: "would be held".into(),
            did: "held".into(),
            question: None,
            dry_run: verb.dry_run,
            yes: false,
            json: verb.json,
            later: None,
        })
    }

    pub(super) fn release(verb: &QueueRelease) -> Result<Self, Problem> {
        let select = some_selection(verb.selection(), verb.all, "queue release")?;
        Ok(Self {
            name: "release",
            request: Request::QueueRelease(arguments(&select, None)),
            select,
            count: ChangeWord::Release,
            would: "would be released".into(),
            did: "released".into(),
            question: None,
            dry_run: verb.dry_run,
            yes: false,
            json: verb.json,
            later: None,
        })
    }

    pub(super) fn drop(verb: &QueueDrop) -> Result<Self, Problem> {
        let select = some_selection(verb.selection(), verb.all, "queue drop")?;
        Ok(Self {
            name: "drop",
            request: Request::QueueDrop(arguments(&select, verb.note.as_ref())),
            select,
            count: ChangeWord::Drop,
            would: "would be dropped".into(),
            did: "dropped".into(),
            question: Some(("Drop", "? Nobody will be notified.".into())),
            dry_run: verb.dry_run,
            yes: verb.yes,
            json: verb.json,
            later: None,
        })
    }

    pub(super) fn bounce(verb: &QueueBounce) -> Result<Self, Problem> {
        let select = some_selection(verb.selection(), verb.all, "queue bounce")?;
        Ok(Self {
            name: "bounce",
            request: Request::QueueBounce(arguments(&select, verb.note.as_ref())),
            select,
            count: ChangeWord::Edit,
            would: "would be returned".into(),
            did: "returned to their senders".into(),
            question: Some(("Return", " to their senders as failed?".into())),
            dry_run: verb.dry_run,
            yes: verb.yes,
            json: verb.json,
            later: Some("the notifications leave as soon as the daemon is started"),
        })
    }

    pub(super) fn redirect(verb: &QueueRedirect) -> Result<Self, Problem> {
        let selection = Selection { ids: verb.ids.clone(), to: verb.rcpt.clone(), ..Selection::default() };
        if selection == Selection::default() {
            let text = "queue redirect: say which messages: ids, or --rcpt with the old address";
            return Err(Problem::new(Exit::USAGE, text));
        }
        let select = some_selection(selection, false, "queue redirect")?;
        let reason = verb.note.clone().unwrap_or_default();
        let new = verb.to.clone();
        let count = if new.starts_with('@') { ChangeWord::Edit } else { ChangeWord::Redirect };
        Ok(Self {
            name: "redirect",
            request: Request::QueueRedirect(EditArguments { select: select.clone(), new, reason }),
            select,
            count,
            would: format!("would be redirected to {}", verb.to),
            did: format!("redirected to {}", verb.to),
            question: Some(("Redirect", format!(" to {}?", verb.to))),
            dry_run: verb.dry_run,
            yes: verb.yes,
            json: verb.json,
            later: None,
        })
    }

    pub(super) fn reroute(verb: &QueueReroute) -> Result<Self, Problem> {
        let select = some_selection(verb.selection(), verb.all, "queue reroute")?;
        let (new, way) = match verb.via.as_str() {
            "default" => (String::new(), "the usual way".to_owned()),
            via => (via.to_owned(), format!("via {via}")),
        };
        let reason = String::new();
        Ok(Self {
            name: "reroute",
            request: Request::QueueReroute(EditArguments { select: select.clone(), new, reason }),
            select,
            count: ChangeWord::Edit,
            would: format!("would be sent {way}"),
            did: format!("will be sent {way}"),
            question: Some(("Send", format!(" {way}?"))),
            dry_run: verb.dry_run,
            yes: verb.yes,
            json: verb.json,
            later: None,
        })
    }
}

fn arguments(select: &Select, note: Option<&String>) -> ChangeArguments {
    ChangeArguments { select: select.clone(), reason: note.cloned().unwrap_or_default() }
}

/// Counts, asks, does.
pub(super) fn run(change: Change, connect: impl FnOnce(bool) -> Result<Client, Problem>) -> Ended {
    let mut client = connect(!change.dry_run)?;
    if change.dry_run || change.question.is_some() {
        let request =
            Request::QueueCount(CountArguments { select: change.select.clone(), change: change.count });
        let done = ask(&mut client, &request, "counted")?;
        if change.dry_run || done.count == 0 {
            return Ok(tell(&change, &done, true));
        }
        if !change.yes && !confirmed(&change, done.count)? {
            eprintln!("mta-cli: nothing was changed");
            return Ok(Exit::PROBLEMS);
        }
    }
    let done = ask(&mut client, &change.request, "so far")?;
    if let Some(later) = change.later.filter(|_| !client.is_daemon() && done.count > 0) {
        eprintln!("mta-cli: {later}");
    }
    if done.busy > 0 {
        eprintln!(
            "mta-cli: {} left alone: a delivery is under way; repeat the command for them",
            recipients(done.busy)
        );
    }
    Ok(tell(&change, &done, false))
}

/// Asks the daemon, and shows on a terminal how far it is.
fn ask(client: &mut Client, request: &Request, word: &str) -> Result<Done, Problem> {
    let begun = Instant::now();
    let is_terminal = std::io::stderr().is_terminal();
    let mut shown = false;
    let done = client.ask(request, &mut |row| {
        let progress = row.get("progress").and_then(Value::as_u64);
        if let Some(progress) = progress.filter(|_| is_terminal && begun.elapsed() > PROGRESS_AFTER) {
            eprint!("\r{} {word}", recipients(progress));
            shown = true;
        }
    });
    if shown {
        eprint!("\r{:40}\r", "");
    }
    done
}

/// Asks the person at the terminal; without one, `--yes` is needed.
fn confirmed(change: &Change, count: u64) -> Result<bool, Problem> {
    let Some((before, behind)) = &change.question else { return Ok(true) };
    let input = std::io::stdin();
    if !input.is_terminal() {
        let text =
            format!("queue {}: {} {}; give --yes to do it", change.name, recipients(count), change.would);
        return Err(Problem::new(Exit::USAGE, text));
    }
    eprint!("{before} {}{} [y/N] ", recipients(count), mta_core::log::visible(behind));
    let mut answer = String::new();
    let read = input.lock().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Says how many it were.
fn tell(change: &Change, done: &Done, dry_run: bool) -> Exit {
    if change.json {
        output::print_json(json!({
            "action": change.name, "recipients": done.count, "busy": done.busy, "dry_run": dry_run,
        }));
    } else {
        let what = if dry_run { &change.would } else { &change.did };
        output::print(&format!("{} {}\n", recipients(done.count), mta_core::log::visible(what)));
    }
    match (done.count, done.busy) {
        (0, 0) => Exit::NOTHING,
        (0, _) => Exit::TEMPORARY,
        _ => Exit::DONE,
    }
}

/// "1 recipient", "2 recipients".
fn recipients(count: u64) -> String {
    if count == 1 { "1 recipient".to_owned() } else { format!("{count} recipients") }
}
