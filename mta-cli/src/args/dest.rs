//! `dest`, `pause`, `resume`: the arguments.

use argh::{ArgsInfo, FromArgs};

/// Look at destinations and next hops as a whole.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "dest", example = "{command_name} show example.org")]
pub struct Dest {
    /// what to do
    #[argh(subcommand)]
    pub verb: DestVerb,
}

/// The verbs of destinations.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum DestVerb {
    /// How it stands.
    Show(DestShow),
    /// Nothing to it.
    Pause(DestPause),
    /// Again.
    Resume(DestResume),
    /// As if it had not failed.
    Reset(DestReset),
    /// Who exists there.
    Recipients(DestRecipients),
    /// Ask anew.
    Forget(DestForget),
}

/// Show how much waits for a destination, what it answered last, and until when it is left alone; without a name, those with
/// the most waiting.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "show", example = "{command_name} example.org")]
pub struct DestShow {
    /// the domain, or a relay host
    #[argh(positional)]
    pub name: Option<String>,
    /// destinations at most (50)
    #[argh(option, arg_name = "count", default = "0")]
    pub limit: usize,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
    /// print a JSON object a line
    #[argh(switch)]
    pub jsonl: bool,
}

/// Deliver nothing to a destination or over a relay host until it is resumed, also after a restart. Mail for it is taken
/// and waits.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "pause",
    example = "{command_name} example.org --reason \"they ask for it\" --until 2h"
)]
pub struct DestPause {
    /// the domain, or a relay host
    #[argh(positional)]
    pub name: String,
    /// why
    #[argh(option, arg_name = "text")]
    pub reason: Option<String>,
    /// it ends after a time (2h, 3d) or at one (RFC 3339)
    #[argh(option, arg_name = "time")]
    pub until: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Deliver to a destination again.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "resume", example = "{command_name} example.org")]
pub struct DestResume {
    /// the domain, or a relay host
    #[argh(positional)]
    pub name: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Forget that a destination failed: what waits for it is due by its own time.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "reset", example = "{command_name} example.org")]
pub struct DestReset {
    /// the domain
    #[argh(positional)]
    pub name: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Show which recipients of a relayed domain exist, as its next hop said when it was asked (domain.*.recipients =
/// "verified").
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "recipients", example = "{command_name} example.org")]
pub struct DestRecipients {
    /// the domain, or an address; all without it
    #[argh(positional)]
    pub name: Option<String>,
    /// addresses at most (100)
    #[argh(option, arg_name = "count", default = "0")]
    pub limit: usize,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
    /// print a JSON object a line
    #[argh(switch)]
    pub jsonl: bool,
}

/// Forget what the next hop of a relayed domain said about a recipient, or about all of them: it is asked anew when mail
/// comes.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "forget", example = "{command_name} anna@example.org")]
pub struct DestForget {
    /// the address, or the domain
    #[argh(positional)]
    pub name: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Let mail coming in, mail going out or local delivery stand still until it is resumed, also after a restart. What is under
/// way goes on.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "pause",
    example = "{command_name} out --reason \"new address, no PTR yet\" --until 1h"
)]
pub struct Pause {
    /// in, out or local
    #[argh(positional)]
    pub what: String,
    /// why
    #[argh(option, arg_name = "text")]
    pub reason: Option<String>,
    /// it ends after a time (2h, 3d) or at one (RFC 3339)
    #[argh(option, arg_name = "time")]
    pub until: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Let what was paused move on.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "resume", example = "{command_name} out")]
pub struct Resume {
    /// in, out or local
    #[argh(positional)]
    pub what: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}
