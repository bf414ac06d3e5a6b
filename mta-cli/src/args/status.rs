//! `status`, `reload`: the arguments.

use argh::{ArgsInfo, FromArgs};

/// Show what the daemon does and how much waits.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "status", example = "{command_name} --json")]
pub struct Status {
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Have the daemon read its configuration, its certificates and the alias files again. All of it takes effect, or none
/// of it; what waits for a restart is named.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "reload", example = "{command_name}")]
pub struct Reload {
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}
