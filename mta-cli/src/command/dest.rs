//! `dest`, `pause`, `resume`: destinations as a whole, and what stands still.

use std::path::Path;
use std::time::SystemTime;

use mta_core::control::{AnswerView, DestinationArguments, DestinationView, PauseArguments, Request};
use serde_json::json;

use super::queue::ahead;
use super::{Ended, load};
use crate::args::{DestForget, DestRecipients, DestShow, DestVerb, Pause, Resume};
use crate::client::Client;
use crate::exit::Exit;
use crate::output::{self, Table, relative};

pub(super) fn run(file: Option<&Path>, verb: &DestVerb) -> Ended {
    match verb {
        DestVerb::Show(verb) => show(file, verb),
        DestVerb::Pause(verb) => {
            let name = format!("dest:{}", verb.name);
            set(file, &name, &verb.name, (verb.reason.as_ref(), verb.until.as_ref()), verb.json)
        }
        DestVerb::Resume(verb) => clear(file, &format!("dest:{}", verb.name), &verb.name, verb.json),
        DestVerb::Reset(verb) => {
            let (config, _) = load(file)?;
            let mut client = Client::connect(&config, true)?;
            let known = client.ask(&Request::DestinationReset(verb.name.clone()), &mut |_| ())?.count > 0;
            let text =
                if known { "is tried again as if it had not failed" } else { "is not known to have failed" };
            told(&verb.name, "reset", text, verb.json);
            Ok(if known { Exit::DONE } else { Exit::NOTHING })
        }
        DestVerb::Recipients(verb) => recipients(file, verb),
        DestVerb::Forget(verb) => forget(file, verb),
    }
}

pub(super) fn pause(file: Option<&Path>, verb: &Pause) -> Ended {
    set(file, &verb.what, &verb.what, (verb.reason.as_ref(), verb.until.as_ref()), verb.json)
}

pub(super) fn resume(file: Option<&Path>, verb: &Resume) -> Ended {
    clear(file, &verb.what, &verb.what, verb.json)
}

fn set(
    file: Option<&Path>,
    name: &str,
    shown: &str,
    (reason, until): (Option<&String>, Option<&String>),
    json: bool,
) -> Ended {
    let until = until.map(|text| ahead("--until", text)).transpose()?;
    let (config, _) = load(file)?;
    let mut client = Client::connect(&config, true)?;
    let end =
        until.as_ref().map_or_else(|| "until it is resumed".to_owned(), |until| format!("until {until}"));
    let reason = reason.cloned().unwrap_or_default();
    client.ask(&Request::Pause(PauseArguments { name: name.to_owned(), reason, until }), &mut |_| ())?;
    told(shown, "paused", &format!("is paused {end}"), json);
    Ok(Exit::DONE)
}

fn clear(file: Option<&Path>, name: &str, shown: &str, json: bool) -> Ended {
    let (config, _) = load(file)?;
    let mut client = Client::connect(&config, true)?;
    let was_paused = client.ask(&Request::Resume(name.to_owned()), &mut |_| ())?.count > 0;
    told(shown, "resumed", if was_paused { "moves on" } else { "was not paused" }, json);
    Ok(if was_paused { Exit::DONE } else { Exit::NOTHING })
}

fn told(name: &str, action: &str, text: &str, json: bool) {
    if json {
        output::print_json(json!({ "action": action, "name": name }));
    } else {
        output::print(&format!("{} {text}\n", mta_core::log::visible(name)));
    }
}

fn show(file: Option<&Path>, verb: &DestShow) -> Ended {
    let (config, _) = load(file)?;
    let mut client = Client::connect(&config, false)?;
    let request =
        Request::DestinationShow(DestinationArguments { name: verb.name.clone(), limit: verb.limit });
    let mut found: Vec<DestinationView> = Vec::new();
    let done = client.ask_all(&request, &mut |destination| found.push(destination))?;
    if verb.jsonl {
        output::print_lines(&found);
    } else if verb.json {
        output::print_json(json!({ "destinations": found, "more": done.more }));
    } else if verb.name.is_some() && output::for_person() {
        output::print(&found.iter().map(story).collect::<Vec<_>>().join("\n"));
    } else {
        table(&found).print();
        if done.more {
            eprintln!("mta-cli: there are more; ask for them with --limit");
        }
        if found.is_empty() && output::for_person() {
            eprintln!("mta-cli: nothing waits");
        }
    }
    Ok(Exit::DONE)
}

fn recipients(file: Option<&Path>, verb: &DestRecipients) -> Ended {
    let (config, _) = load(file)?;
    let mut client = Client::connect(&config, false)?;
    let request =
        Request::DestinationRecipients(DestinationArguments { name: verb.name.clone(), limit: verb.limit });
    let mut found: Vec<AnswerView> = Vec::new();
    let done = client.ask_all(&request, &mut |recipient| found.push(recipient))?;
    if verb.jsonl {
        output::print_lines(&found);
    } else if verb.json {
        output::print_json(json!({ "recipients": found, "more": done.more }));
    } else {
        let (person, now) = (output::for_person(), SystemTime::now());
        let mut table = Table::new(&["ADDRESS", "EXISTS", "ASKED", "REPLY"]);
        for recipient in &found {
            table.row(vec![
                recipient.address.clone(),
                if recipient.exists { "yes" } else { "no" }.to_owned(),
                if person { relative(&recipient.asked_at, now) } else { recipient.asked_at.clone() },
                recipient.reply.clone(),
            ]);
        }
        table.print();
        if done.more {
            eprintln!("mta-cli: there are more; ask for them with --limit");
        }
        if found.is_empty() && output::for_person() {
            eprintln!("mta-cli: no answer of a next hop is kept");
        }
    }
    Ok(if found.is_empty() { Exit::NOTHING } else { Exit::DONE })
}

fn forget(file: Option<&Path>, verb: &DestForget) -> Ended {
    let (config, _) = load(file)?;
    let mut client = Client::connect(&config, true)?;
    let count = client.ask(&Request::DestinationForget(verb.name.clone()), &mut |_| ())?.count;
    if verb.json {
        output::print_json(json!({ "action": "forgotten", "name": verb.name, "answers": count }));
    } else {
        let name = mta_core::log::visible(&verb.name);
        let text = match count {
            0 => format!("nothing was known of {name}\n"),
            1 => format!("what was said about {name} is forgotten\n"),
            count => format!("{count} answers about {name} are forgotten\n"),
        };
        output::print(&text);
    }
    Ok(if count > 0 { Exit::DONE } else { Exit::NOTHING })
}

/// One destination for a person.
fn story(destination: &DestinationView) -> String {
    let now = SystemTime::now();
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        out.push_str(&format!("{name:<12} {}\n", mta_core::log::visible(value)));
    };
    line("destination", &destination.destination);
    if destination.paused {
        line("PAUSED", "nothing is delivered until it is resumed; see mta-cli status");
    }
    if let Some(hop) = &destination.next_hop {
        line("next hop", hop);
    }
    line("recipients", &format!("{} wait, {} held", destination.waiting, destination.held));
    let at_once = destination.at_once.map(|limit| format!(", at most {limit} at once")).unwrap_or_default();
    let counted = destination.counted_for.as_ref().filter(|name| **name != destination.destination);
    let counted = counted.map(|name| format!(" for {name}")).unwrap_or_default();
    line("deliveries", &format!("{} under way{at_once}{counted}", destination.under_way));
    if let Some(class) = &destination.slowed_by {
        line("slowed by", &format!("its replies: {class}"));
    }
    if let Some(until) = &destination.held_back_until {
        line("held back", &format!("until {until} ({})", relative(until, now)));
    }
    if let Some(until) = &destination.ipv4_only_until {
        line("IPv4 only", &format!("until {until} ({})", relative(until, now)));
    }
    if destination.failures > 0 {
        line("failures", &format!("{} in a row", destination.failures));
    }
    if let Some(until) = &destination.back_off_until {
        line("back-off", &format!("until {until} ({})", relative(until, now)));
    }
    if let Some(due) = &destination.due_at {
        line("next", &format!("{due} ({})", relative(due, now)));
    }
    if let Some(reply) = &destination.last_reply {
        line("last reply", reply);
    }
    out
}

/// Destinations as a table.
pub(super) fn table(found: &[DestinationView]) -> Table {
    let (person, now) = (output::for_person(), SystemTime::now());
    let time = |t: &Option<String>| {
        let t = t.as_deref().unwrap_or_default();
        if person && !t.is_empty() { relative(t, now) } else { t.to_owned() }
    };
    let mut table = Table::new(&[
        "WAITING",
        "HELD",
        "OUT",
        "FAILURES",
        "BACK-OFF",
        "NEXT",
        "PAUSED",
        "DESTINATION",
        "REPLY",
    ])
    .folding_at(7);
    for destination in found {
        table.row(vec![
            destination.waiting.to_string(),
            destination.held.to_string(),
            destination.under_way.to_string(),
            destination.failures.to_string(),
            time(&destination.back_off_until),
            time(&destination.due_at),
            if destination.paused { "paused" } else { "" }.to_owned(),
            destination.destination.clone(),
            destination.last_reply.clone().unwrap_or_default(),
        ]);
    }
    table
}
