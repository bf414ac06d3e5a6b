//! `status`: the arguments.

use argh::{ArgsInfo, FromArgs};

/// Show what the daemon does and how much waits.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "status", example = "{command_name} --json")]
pub struct Status {
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}
