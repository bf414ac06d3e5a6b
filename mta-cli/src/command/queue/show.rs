//! `queue show`: one message, or its content.

use std::time::SystemTime;

use mta_core::control::{ContentArguments, Request};
use mta_core::log::visible;
use serde_json::{Value, json};

use super::super::Ended;
use super::{story, view};
use crate::args::QueueShow;
use crate::client::{Client, Problem};
use crate::exit::Exit;
use crate::output;

/// Octets of a body that are shown unless more are asked for.
const BODY_OCTETS: u64 = 64 << 10;

pub(super) fn run(client: &mut Client, verb: &QueueShow) -> Ended {
    match (verb.headers, verb.body, verb.raw) {
        (false, false, false) => show(client, verb),
        (true, false, false) | (false, true, false) | (false, false, true) => content(client, verb),
        _ => Err(Problem::new(Exit::USAGE, "queue show: --headers, --body and --raw exclude each other")),
    }
}

fn show(client: &mut Client, verb: &QueueShow) -> Ended {
    let mut found: Option<Value> = None;
    client.ask(&Request::QueueShow(verb.id.clone()), &mut |row| found = Some(row))?;
    let row = found.ok_or_else(|| Problem::new(Exit::INTERNAL, "the answer is empty"))?;
    if verb.json {
        output::print_json(json!({ "message": row }));
    } else {
        let text = story::tell(&view(row)?, SystemTime::now());
        output::print_text(&text);
    }
    Ok(Exit::DONE)
}

fn content(client: &mut Client, verb: &QueueShow) -> Ended {
    let max_bytes = verb.max_bytes.unwrap_or(if verb.body { BODY_OCTETS } else { 0 });
    // One more tells whether there is more.
    let asked = if max_bytes == 0 { 0 } else { max_bytes.saturating_add(1) };
    let arguments = ContentArguments { id: verb.id.clone(), headers: verb.headers, max_bytes: asked };
    let mut octets: Vec<u8> = Vec::new();
    client.ask(&Request::QueueContent(arguments), &mut |row| {
        let text = row.get("octets").and_then(Value::as_str).unwrap_or_default();
        octets.extend(text.chars().filter_map(|c| u8::try_from(u32::from(c)).ok()));
        if verb.raw && max_bytes == 0 {
            output::print_bytes(&octets);
            octets.clear();
        }
    })?;
    let limit = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let is_cut = max_bytes > 0 && octets.len() > limit;
    if is_cut {
        octets.truncate(limit);
    }
    if verb.raw {
        output::print_bytes(&octets);
    } else if verb.json {
        output::print_json(json!({ "content": String::from_utf8_lossy(&octets), "cut": is_cut }));
    } else {
        output::print(&harmless(&octets));
    }
    if is_cut {
        eprintln!("mta-cli: cut after {max_bytes} bytes; ask for more with --max-bytes");
    }
    Ok(Exit::DONE)
}

/// Content with everything escaped that a terminal would obey or not show, line by line.
fn harmless(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets);
    text.split_inclusive('\n')
        .map(|line| {
            let bare = line.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
            let end = if bare.is_some() { "\n" } else { "" };
            let shown: Vec<String> = bare.unwrap_or(line).split('\t').map(visible).collect();
            shown.join("\t") + end
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_cannot_reach_the_terminal() {
        let octets = b"Subject: \x1b[31mred\r\n\tfolded \x9b\x07\r\nbare\rCR \xe2\x80\xae\nlast";
        let shown = harmless(octets);
        assert!(shown.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()), "{shown:?}");
        assert!(
            shown.contains("\\u{1b}[31mred\n\tfolded ") && shown.contains("bare\\rCR \\u{202e}\nlast"),
            "{shown:?}"
        );
    }
}
