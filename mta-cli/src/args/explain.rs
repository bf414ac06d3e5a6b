//! `explain` and `probe`: the arguments.

use argh::{ArgsInfo, FromArgs};

/// Tell what would happen to mail for a domain or address, rule by rule, from DNS alone: exit 0 if it would leave, 1 if it would wait or be returned, 2 if there is no such domain, 75 if DNS does not answer now.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "explain", example = "{command_name} bob@example.org")]
pub struct Explain {
    /// a domain, an address, or [IP]
    #[argh(positional)]
    pub subject: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// As explain, and connect to every host and address: STARTTLS, verification, EHLO, QUIT. No mail is sent, nothing is logged in to.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "probe", example = "{command_name} example.org")]
pub struct Probe {
    /// a domain, an address, or [IP]
    #[argh(positional)]
    pub subject: String,
    /// seconds for each step: connection, handshake, reply (20)
    #[argh(option, arg_name = "seconds", default = "20")]
    pub timeout: u64,
    /// seconds after which no further connection is begun (120)
    #[argh(option, arg_name = "seconds", default = "120")]
    pub deadline: u64,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}
