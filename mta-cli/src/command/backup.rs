//! `backup`, `restore`, `verify`: the queue's files as a whole. They need no daemon.

use std::fmt::Write;
use std::io::{IsTerminal, Write as _};
use std::path::Path;

use mta_core::log::visible;
use mta_queue::{BackupError, Moved, Problem as Found, Verified};
use serde_json::json;

use super::{Ended, load};
use crate::args::{Backup, Restore, Verify};
use crate::client::{Problem, open_problem};
use crate::exit::Exit;
use crate::output::{self, bytes};

pub(super) fn backup(file: Option<&Path>, verb: &Backup) -> Ended {
    let (config, _) = load(file)?;
    let mut line = ProgressLine::default();
    let moved = mta_queue::backup(&config.state_dir, &verb.target, verb.force, &mut |step, done, total| {
        line.show(step, done, total);
    });
    line.end();
    let moved = moved.map_err(|error| problem(error, "give another name, or --force for a file"))?;
    say(verb.json, &moved, &format!("{} backed up", what(&moved)));
    Ok(Exit::DONE)
}

pub(super) fn restore(file: Option<&Path>, verb: &Restore) -> Ended {
    let (config, _) = load(file)?;
    let mut line = ProgressLine::default();
    let moved = mta_queue::restore(&verb.source, &config.state_dir, verb.force, &mut |step, done, total| {
        line.show(step, done, total);
    });
    line.end();
    let moved = moved.map_err(|error| problem(error, "with --force it is replaced and kept aside"))?;
    let mut text = format!("{} restored", what(&moved));
    if let Some(aside) = &moved.aside {
        let _ = write!(text, "; the queue that was there is in {}", aside.display());
    }
    say(verb.json, &moved, &text);
    Ok(Exit::DONE)
}

pub(super) fn verify(file: Option<&Path>, verb: &Verify) -> Ended {
    let directory = match &verb.directory {
        Some(directory) => directory.clone(),
        None => load(file)?.0.state_dir,
    };
    let mut line = ProgressLine::default();
    let mut progress = |step: &str| line.show(step, 0, 0);
    let repaired = if verb.repair {
        let options = mta_queue::Options::default();
        Some(mta_queue::repair(&directory, &options, &mut progress).map_err(|e| problem(e, ""))?)
    } else {
        None
    };
    let verified = mta_queue::verify(&directory, &mut progress);
    line.end();
    let verified = verified.map_err(open_problem)?;
    let lost = repaired.as_ref().is_some_and(mta_queue::Repaired::has_losses);
    if verb.json {
        output::print_json(json!({ "verified": verified, "repaired": repaired }));
    } else {
        let before = repaired.map_or_else(String::new, |repaired| repaired_text(&repaired));
        output::print(&format!("{before}{}", text(&verified)));
    }
    let is_well = verified.problems.is_empty() && !lost;
    Ok(if is_well { Exit::DONE } else { Exit::PROBLEMS })
}

fn problem(error: BackupError, remedy: &str) -> Problem {
    let text = error.to_string();
    match error {
        BackupError::Open(error) => open_problem(error),
        BackupError::Exists(_) => Problem::new(Exit::USAGE, format!("{text}: {remedy}")),
        BackupError::Damaged(..) => Problem::new(Exit::PROBLEMS, text),
        BackupError::Disk(..) => Problem::new(Exit::TEMPORARY, text),
    }
}

fn what(moved: &Moved) -> String {
    let plural = if moved.messages == 1 { "message" } else { "messages" };
    format!("{} {plural}, {}", moved.messages, bytes(moved.bytes))
}

fn say(json: bool, moved: &Moved, text: &str) {
    if json {
        output::print_json(json!({ "moved": moved }));
    } else {
        output::print(&format!("{text}\n"));
    }
}

fn repaired_text(repaired: &mta_queue::Repaired) -> String {
    let mut text = match (&repaired.aside, repaired.rows_lost) {
        (None, _) => "repaired: the books were counted again\n".to_owned(),
        (Some(aside), false) => {
            format!(
                "repaired: every row was put into a new database; the old one is in {}\n",
                aside.display()
            )
        }
        (Some(aside), true) => format!(
            "repaired: what could be read was put into a new database, which is not all; the old one is in {}\n",
            aside.display()
        ),
    };
    for lost in &repaired.messages_lost {
        let _ = writeln!(text, "  {} {}", lost.message, lost.what);
    }
    if !repaired.messages_lost.is_empty() {
        text.push_str(
            "these are set aside with what is left of them (queue list --status damaged): queue show ID --body shows the\n\
             content, trace ID what the log says of the recipients; then queue redirect or queue drop\n",
        );
    }
    text
}

/// The findings for a person.
fn text(verified: &Verified) -> String {
    let counted = format!(
        "{} messages, {} recipients, {} content files",
        verified.messages, verified.recipients, verified.files
    );
    if verified.problems.is_empty() {
        return format!("all is well: {counted}\n");
    }
    let mut text = format!("{} problems in {counted}:\n", verified.problems.len());
    for Found { kind, message, text: found } in &verified.problems {
        let about = message.as_deref().unwrap_or("-");
        let _ = writeln!(text, "  {:<9} {about:<11} {}", kind.as_str(), visible(found));
    }
    if verified.more {
        text.push_str("  and more of these kinds\n");
    }
    text
}

/// One line on standard error that says what is going on, where a person watches.
#[derive(Default)]
struct ProgressLine {
    shown: bool,
    said: String,
}

impl ProgressLine {
    fn show(&mut self, step: &str, done: u64, total: u64) {
        let text = match (done * 100).checked_div(total) {
            Some(percent) => format!("{step}: {percent} %"),
            None => step.to_owned(),
        };
        if text != self.said && std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K{text}");
            let _ = std::io::stderr().flush();
            self.shown = true;
        }
        self.said = text;
    }

    fn end(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}
