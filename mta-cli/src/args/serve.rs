//! `serve`: the arguments.

use argh::{ArgsInfo, FromArgs};

/// Run the daemon in the foreground, until SIGTERM. SIGHUP reloads the configuration.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "serve", example = "{command_name} --config ./mta.toml")]
pub struct Serve {}
