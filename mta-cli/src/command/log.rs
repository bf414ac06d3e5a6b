//! `log`: the latest lines of the daemon's log, and those that come.

use std::path::Path;

use mta_core::control::{LogArguments, LogView, Request};
use serde_json::Value;

use super::{Ended, load};
use crate::args::Log;
use crate::client::Client;
use crate::exit::Exit;
use crate::output;

pub(super) fn run(file: Option<&Path>, verb: &Log) -> Ended {
    let (config, _) = load(file)?;
    let mut client = Client::connect(&config, false)?;
    let arguments = LogArguments {
        qid: verb.qid.clone(),
        event: verb.event.clone(),
        level: verb.level.clone(),
        lines: verb.lines,
        follow: verb.follow,
    };
    client.ask(&Request::Log(arguments), &mut |row| {
        if let Some(lost) = row.get("lost").and_then(Value::as_u64) {
            eprintln!("mta-cli: {lost} lines were gone before they could be read");
            return;
        }
        let Ok(line) = serde_json::from_value::<LogView>(row) else { return };
        if line.text.is_empty() {
            return;
        }
        let written = if verb.json || verb.jsonl {
            output::print_line(&line)
        } else {
            output::print(&format!("{} {} {}\n", line.at, line.level, line.text))
        };
        if !written {
            // Nobody reads any more, and nothing else is to be done.
            std::process::exit(i32::from(Exit::DONE.0));
        }
    })?;
    Ok(Exit::DONE)
}
