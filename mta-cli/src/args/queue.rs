//! `queue`: the arguments.

use argh::{ArgsInfo, FromArgs};

/// Look at the queue and change it.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "queue", example = "{command_name} list --to @example.org")]
pub struct Queue {
    /// what to do
    #[argh(subcommand)]
    pub verb: QueueVerb,
}

/// The verbs of the queue.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum QueueVerb {
    /// A list.
    List(QueueList),
    /// One message.
    Show(QueueShow),
    /// Due now.
    Retry(QueueRetry),
    /// Away.
    Drop(QueueDrop),
}

/// List the messages that wait, oldest first; with --status, also those of the past.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "list", example = "{command_name} --to @example.org --status deferred")]
pub struct QueueList {
    /// ids or beginnings of ids
    #[argh(positional)]
    pub ids: Vec<String>,
    /// a recipient, part of one, or @domain
    #[argh(option, arg_name = "address")]
    pub to: Option<String>,
    /// the sender (reverse-path) or part of it; <> for notifications
    #[argh(option, arg_name = "address")]
    pub from: Option<String>,
    /// queued, deferred, held, delivered, failed, expired, dropped, damaged
    #[argh(option, arg_name = "status")]
    pub status: Option<String>,
    /// messages at most (1000)
    #[argh(option, arg_name = "count", default = "0")]
    pub limit: usize,
    /// begin behind this id
    #[argh(option, arg_name = "id")]
    pub after: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Show one message: where it stands, what was tried, and why each attempt ended as it did.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "show", example = "{command_name} 1k3v9")]
pub struct QueueShow {
    /// the id, or enough of its beginning
    #[argh(positional)]
    pub id: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Try the recipients that fit again now.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "retry", example = "{command_name} --to @example.org")]
pub struct QueueRetry {
    /// ids or beginnings of ids
    #[argh(positional)]
    pub ids: Vec<String>,
    /// a recipient, part of one, or @domain
    #[argh(option, arg_name = "address")]
    pub to: Option<String>,
    /// the sender (reverse-path) or part of it; <> for notifications
    #[argh(option, arg_name = "address")]
    pub from: Option<String>,
    /// queued or deferred
    #[argh(option, arg_name = "status")]
    pub status: Option<String>,
    /// everything that waits
    #[argh(switch)]
    pub all: bool,
    /// only say how many it would be
    #[argh(switch)]
    pub dry_run: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Take the recipients that fit out of the queue. Nobody is notified, and it cannot be undone.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "drop", example = "{command_name} --from '<>' --dry-run")]
pub struct QueueDrop {
    /// ids or beginnings of ids
    #[argh(positional)]
    pub ids: Vec<String>,
    /// a recipient, part of one, or @domain
    #[argh(option, arg_name = "address")]
    pub to: Option<String>,
    /// the sender (reverse-path) or part of it; <> for notifications
    #[argh(option, arg_name = "address")]
    pub from: Option<String>,
    /// queued, deferred, held or damaged
    #[argh(option, arg_name = "status")]
    pub status: Option<String>,
    /// everything that waits
    #[argh(switch)]
    pub all: bool,
    /// only say how many it would be
    #[argh(switch)]
    pub dry_run: bool,
    /// do not ask
    #[argh(switch)]
    pub yes: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}
