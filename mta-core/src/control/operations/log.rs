//! `log`: the latest lines of the daemon's log, and those that come. The daemon never waits for who reads them.

use std::time::Duration;

use ::log::Level;
use serde_json::json;

use super::{QueueOperations, Rows, to_value};
use crate::control::protocol::{Code, Done, Failure, LogArguments};
use crate::control::views::LogView;
use crate::log::recent::{Entry, RECENT, facts};

/// Lines read at a time.
const LINES: usize = 200;

/// An empty row after this time tells that the daemon is there, and finds out whether the peer is.
const HEARTBEAT: Duration = Duration::from_secs(5);

impl QueueOperations {
    /// A row for each line that fits; `{"lost": n}` where lines are gone before they were read; `{}` as a sign of life.
    pub(super) fn log(&self, arguments: &LogArguments, row: Rows<'_>) -> Result<Done, Failure> {
        if self.daemon.is_none() {
            let message = "the daemon does not run, and only it keeps the latest lines; see the journal or the log file";
            return Err(Failure::new(Code::Unreachable, message));
        }
        let level = arguments.level.as_deref().map(level).transpose()?;
        let mut done = Done::default();
        let newest = RECENT.last();
        // The latest lines first, as many as are wanted.
        let (kept, _) = RECENT.read(0, usize::MAX, Duration::ZERO);
        let fitting: Vec<&Entry> =
            kept.iter().filter(|e| e.number <= newest && fits(arguments, level, e)).collect();
        for entry in fitting.iter().skip(fitting.len().saturating_sub(arguments.lines)) {
            done.count += 1;
            if !row(to_value(&LogView::from(*entry))?) {
                return Ok(done);
            }
        }
        let mut after = newest;
        if !arguments.follow {
            return Ok(done);
        }
        loop {
            let (entries, lost) = RECENT.read(after, LINES, HEARTBEAT);
            if lost > 0 && !row(json!({ "lost": lost })) || entries.is_empty() && !row(json!({})) {
                return Ok(done);
            }
            after = entries.last().map_or(after + lost, |entry| entry.number);
            for entry in entries.iter().filter(|entry| fits(arguments, level, entry)) {
                done.count += 1;
                if !row(to_value(&LogView::from(entry))?) {
                    return Ok(done);
                }
            }
        }
    }
}

fn level(text: &str) -> Result<Level, Failure> {
    text.parse().map_err(|_| {
        let shown = crate::log::visible(text);
        let message = format!("unknown level {shown:?}; expected error, warn, info, debug or trace");
        Failure::new(Code::BadRequest, message)
    })
}

/// Whether a line is wanted.
fn fits(arguments: &LogArguments, level: Option<Level>, entry: &Entry) -> bool {
    if level.is_some_and(|level| entry.level > level) {
        return false;
    }
    if arguments.qid.is_none() && arguments.event.is_none() {
        return true;
    }
    let facts = facts(&entry.text);
    let has = |key: &str, wanted: &Option<String>| {
        let is = |wanted: &String| facts.iter().any(|(k, value)| *k == key && value == wanted);
        wanted.as_ref().is_none_or(is)
    };
    has("qid", &arguments.qid) && has("event", &arguments.event)
}
