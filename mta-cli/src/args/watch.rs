//! `trace`, `top`, `log`: the arguments.

use argh::{ArgsInfo, FromArgs};

/// Tell what became of messages, from their arrival over each attempt to their end; also of those that are gone, as long as
/// queue.history keeps them.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "trace", example = "{command_name} --rcpt bob@example.net")]
pub struct Trace {
    /// ids or beginnings of ids
    #[argh(positional)]
    pub ids: Vec<String>,
    /// a recipient, part of one, or @domain
    #[argh(option, arg_name = "address")]
    pub rcpt: Option<String>,
    /// the sender, part of it, @domain, or <>
    #[argh(option, arg_name = "address")]
    pub from: Option<String>,
    /// the Message-ID
    #[argh(option, arg_name = "id")]
    pub msgid: Option<String>,
    /// the latest messages, so many (10)
    #[argh(option, arg_name = "count", default = "0")]
    pub limit: usize,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
    /// print a JSON object a line
    #[argh(switch)]
    pub jsonl: bool,
}

/// Watch the server: rates, deliveries under way, what waits and why. q or ^C ends it.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "top", example = "{command_name} --once")]
pub struct Watch {
    /// seconds between two looks (2)
    #[argh(option, arg_name = "seconds", default = "2")]
    pub interval: u64,
    /// print one screen and end
    #[argh(switch)]
    pub once: bool,
    /// print JSON, once
    #[argh(switch)]
    pub json: bool,
}

/// Print the latest lines of the daemon's log, and with -f those that come.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "log", example = "{command_name} -f --event deferred")]
pub struct Log {
    /// go on with the lines that come
    #[argh(switch, short = 'f')]
    pub follow: bool,
    /// lines of this queue id
    #[argh(option, arg_name = "id")]
    pub qid: Option<String>,
    /// lines of this event
    #[argh(option, arg_name = "word")]
    pub event: Option<String>,
    /// lines of this level or a graver one: error, warn, info, debug
    #[argh(option, arg_name = "word")]
    pub level: Option<String>,
    /// so many of the latest lines first (20)
    #[argh(option, arg_name = "count", short = 'n', default = "20")]
    pub lines: usize,
    /// print a JSON object a line
    #[argh(switch)]
    pub jsonl: bool,
    /// the same
    #[argh(switch)]
    pub json: bool,
}
