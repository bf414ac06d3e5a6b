//! The daemon: start order, signals, reload, stop.
//!
//! What it does: puts the parts together and runs them until it is told to stop. What it does not: no mail logic; each
//! part knows its own.
//!
//! The order at start is a matter of rights and of promises. First everything that may need root: ports, keys, the
//! state directory. Then the change to the service user, for good. Then everything that strangers reach: queue,
//! resolver, scheduler, and last the listeners. At the end the other way round: listeners first, so that nothing comes
//! in that could not be kept, the queue last.

mod live;
mod start;
mod watch;

use std::path::PathBuf;

use crate::config::Config;
use crate::log::{self, Line};

/// Exit status 0: stopped as asked.
const DONE: u8 = 0;
/// Exit status 70: a fault of this program.
const INTERNAL: u8 = 70;
/// Exit status 75: something is not there right now (a port in use, a full disk); starting again later may help.
const TEMPORARY: u8 = 75;
/// Exit status 77: not allowed.
const NOT_ALLOWED: u8 = 77;
/// Exit status 78: the configuration has to change before starting again can help.
const CONFIGURATION: u8 = 78;

/// Why the daemon did not start: one sentence that names cause and remedy, and what a service manager should make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StartError {
    exit: u8,
    text: String,
}

impl StartError {
    fn new(exit: u8, text: impl std::fmt::Display) -> Self {
        Self { exit, text: text.to_string() }
    }
}

/// Runs the daemon until SIGTERM or SIGINT; SIGHUP reloads `path`. The exit status, as the manual lists them.
///
/// Without a path the configuration is the development default, and a reload has nothing to read.
pub fn run(config: Config, path: Option<PathBuf>) -> u8 {
    if let Err(error) = log::init(config.log.target, config.log.level) {
        ::log::warn!("{}", Line::new("log").with("error", error));
    }
    for warning in config.warnings() {
        ::log::warn!("{}", Line::new("config").with("warning", warning));
    }
    match start_and_run(config, path) {
        Ok(()) => DONE,
        Err(error) => {
            ::log::error!("{}", Line::new("not-started").with("reason", &error.text));
            error.exit
        }
    }
}

/// The stages in order: what can be wrong in words alone comes before anything is made or opened.
fn start_and_run(config: Config, path: Option<PathBuf>) -> Result<(), StartError> {
    // First of all: a SIGHUP that comes while the rest starts must not be the default one, which kills.
    let signals = live::signals()?;
    let dns = live::dns(&config)?;
    let prepared = start::prepare(&config)?;
    live::run(prepared, signals, dns, config, path)
}
