//! `queue list|summary|show|hold-rule`: the arguments.

use argh::{ArgsInfo, FromArgs};

use super::selecting;

selecting! {
    /// List the messages that wait, oldest first.
    #[argh(
        subcommand,
        name = "list",
        example = "{command_name} --to @example.org --status deferred",
        note = "With a final --status (delivered, failed, expired, dropped) or ids, also those of the past."
    )]
    pub struct QueueList {
        /// messages at most (1000)
        #[argh(option, arg_name = "count", default = "0")]
        pub limit: usize,
        /// begin behind this id
        #[argh(option, arg_name = "id")]
        pub after: Option<String>,
        /// print JSON
        #[argh(switch)]
        pub json: bool,
        /// print a JSON object a line
        #[argh(switch)]
        pub jsonl: bool,
    }
}

/// Count what waits, in groups.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "summary",
    example = "{command_name} --by reason",
    note = "How much, since when, and when it is tried next. Replies that differ in ids, addresses and numbers only are one reason."
)]
pub struct QueueSummary {
    /// domain, mx, reason, age or sender (domain)
    #[argh(option, arg_name = "word", default = "String::from(\"domain\")")]
    pub by: String,
    /// groups at most (50)
    #[argh(option, arg_name = "count", default = "0")]
    pub limit: usize,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
    /// print a JSON object a line
    #[argh(switch)]
    pub jsonl: bool,
}

/// Show one message, what was tried, and why it ended so.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "show", example = "{command_name} 1k3v9")]
pub struct QueueShow {
    /// the id, or enough of its beginning
    #[argh(positional)]
    pub id: String,
    /// print the header section instead
    #[argh(switch)]
    pub headers: bool,
    /// print the content instead, made harmless for a terminal
    #[argh(switch)]
    pub body: bool,
    /// print the content instead, byte for byte
    #[argh(switch)]
    pub raw: bool,
    /// bytes of content at most (65536 with --body, else all)
    #[argh(option, arg_name = "bytes")]
    pub max_bytes: Option<u64>,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Rules that hold mail to come.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "hold-rule", example = "{command_name} list")]
pub struct HoldRule {
    /// what to do
    #[argh(subcommand)]
    pub verb: HoldRuleVerb,
}

/// The verbs of hold rules.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum HoldRuleVerb {
    /// A new one.
    Add(HoldRuleAdd),
    /// All.
    List(HoldRuleList),
    /// One less.
    Remove(HoldRuleRemove),
}

/// Hold mail that comes from now on; what it holds waits for queue release, also when the rule is gone.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "add",
    example = "{command_name} --to @example.org --reason \"they move\" --until 2d"
)]
pub struct HoldRuleAdd {
    /// a recipient, part of one, or @domain
    #[argh(option, arg_name = "address")]
    pub to: Option<String>,
    /// the sender, part of it, @domain, or <> for notifications
    #[argh(option, arg_name = "address")]
    pub from: Option<String>,
    /// why, for whoever finds the mail held
    #[argh(option, arg_name = "text")]
    pub reason: String,
    /// it ends after a time (2h, 3d) or at one (RFC 3339)
    #[argh(option, arg_name = "time")]
    pub until: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// List the rules.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "list", example = "{command_name} --json")]
pub struct HoldRuleList {
    /// print JSON
    #[argh(switch)]
    pub json: bool,
    /// print a JSON object a line
    #[argh(switch)]
    pub jsonl: bool,
}

/// Remove a rule. What it has held stays held.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "remove", example = "{command_name} 3")]
pub struct HoldRuleRemove {
    /// its number
    #[argh(positional)]
    pub id: i64,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}
