//! `explain` and `probe`: the arguments.

use argh::{ArgsInfo, FromArgs};

/// Tell what would happen to mail, rule by rule, from DNS alone.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "explain",
    example = "{command_name} bob@example.org",
    note = "Exit 0: mail would leave. 1: it would wait or be returned. 2: there is no such domain. 75: DNS does not answer now."
)]
pub struct Explain {
    /// a domain, an address, or an IP address in brackets
    #[argh(positional)]
    pub subject: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// As explain, and connect to every host; no mail is sent.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "probe",
    example = "{command_name} example.org",
    note = "Every host and address: STARTTLS, verification, EHLO, QUIT; nothing else is said, no login is tried. Exit codes as for explain."
)]
pub struct Probe {
    /// a domain, an address, or an IP address in brackets
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
