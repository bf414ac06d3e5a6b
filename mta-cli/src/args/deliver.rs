//! `deliver`: the arguments.

use argh::{ArgsInfo, FromArgs};

/// Run the delivery process, which puts mail into the mailboxes of this system's users. Started by root, beside serve.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "deliver",
    example = "{command_name} --config /etc/mta/mta.toml",
    note = "It listens on local.socket, or on the socket that the service manager hands over, and answers the service user alone. For each delivery it executes itself anew and becomes the user before any file is opened."
)]
pub struct Deliver {
    /// a single delivery; for the delivery process itself
    #[argh(switch)]
    pub child: bool,
}
