//! The verbs, one file for each group. A verb returns how the program ends; a [`Problem`] is told on standard error.

mod alias;
mod backup;
mod config;
mod deliver;
mod dest;
mod dkim;
mod dns;
pub mod doc;
mod explain;
mod log;
pub mod names;
mod queue;
mod report;
mod serve;
mod status;
mod tlsa;
mod top;
mod trace;
mod user;

use std::path::{Path, PathBuf};

use mta_core::config::Config;

use crate::args::{Top, Verb};
use crate::client::Problem;
use crate::exit::Exit;

/// Where the configuration is unless told otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/mta/mta.toml";

/// How a verb ends.
type Ended = Result<Exit, Problem>;

/// Runs the verb.
pub fn run(top: Top) -> Exit {
    let file = top.config.as_deref();
    let ended = match top.verb {
        Some(Verb::Serve(_)) => serve::run(file),
        Some(Verb::Deliver(verb)) => deliver::run(file, &verb),
        Some(Verb::Status(verb)) => status::run(file, &verb),
        Some(Verb::Reload(verb)) => status::reload(file, &verb),
        Some(Verb::Queue(verb)) => queue::run(file, verb.verb),
        Some(Verb::Dest(verb)) => dest::run(file, &verb.verb),
        Some(Verb::Pause(verb)) => dest::pause(file, &verb),
        Some(Verb::Resume(verb)) => dest::resume(file, &verb),
        Some(Verb::Trace(verb)) => trace::run(file, &verb),
        Some(Verb::Watch(verb)) => top::run(file, &verb),
        Some(Verb::Log(verb)) => log::run(file, &verb),
        Some(Verb::Alias(verb)) => alias::run(file, &verb.verb),
        Some(Verb::Backup(verb)) => backup::backup(file, &verb),
        Some(Verb::Restore(verb)) => backup::restore(file, &verb),
        Some(Verb::Verify(verb)) => backup::verify(file, &verb),
        Some(Verb::Config(verb)) => config::run(file, &verb.verb),
        Some(Verb::Explain(verb)) => explain::explain(file, &verb),
        Some(Verb::Probe(verb)) => explain::probe(file, &verb),
        Some(Verb::User(verb)) => user::run(file, &verb.verb),
        Some(Verb::Tlsa(verb)) => tlsa::run(file, &verb.verb),
        Some(Verb::Dns(verb)) => dns::run(file, &verb.verb),
        Some(Verb::Dkim(verb)) => dkim::run(file, &verb.verb),
        Some(Verb::Report(verb)) => report::run(file, &verb.verb),
        Some(Verb::Doc(verb)) => doc::run(&verb.verb),
        None => Ok(Exit::USAGE),
    };
    tell(ended)
}

/// Tells a problem on standard error.
fn tell(ended: Ended) -> Exit {
    ended.unwrap_or_else(|problem| {
        eprintln!("mta-cli: {}", problem.text);
        problem.exit
    })
}

/// The configuration: from `file`, else from its usual place, else the development default. With the file it came from.
fn load(file: Option<&Path>) -> Result<(Config, Option<PathBuf>), Problem> {
    let usual = Path::new(DEFAULT_CONFIG);
    let file = match file {
        Some(file) => file,
        None if usual.exists() => usual,
        None => return Ok((Config::development_default(), None)),
    };
    match Config::load(file) {
        Ok(config) => Ok((config, Some(file.to_owned()))),
        Err(errors) => {
            Err(Problem::new(Exit::CONFIGURATION, format!("the configuration is wrong\n{errors}")))
        }
    }
}
