//! `config`: the arguments.

use argh::{ArgsInfo, FromArgs};

/// Check the configuration and show what is in force.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "config", example = "{command_name} show --diff")]
pub struct Config {
    /// what to do
    #[argh(subcommand)]
    pub verb: ConfigVerb,
}

/// The verbs of the configuration.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum ConfigVerb {
    /// Is it right?
    Check(ConfigCheck),
    /// What is in force?
    Show(ConfigShow),
}

/// Read the configuration and everything it names, and say what is wrong: exit 78 if it cannot be started with, 1 for warnings.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "check", example = "{command_name} --config ./mta.toml")]
pub struct ConfigCheck {
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Print the configuration in force, and which file and line set each value.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "show", example = "{command_name} --diff")]
pub struct ConfigShow {
    /// only what differs from the defaults
    #[argh(switch)]
    pub diff: bool,
    /// the defaults themselves
    #[argh(switch)]
    pub defaults: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}
