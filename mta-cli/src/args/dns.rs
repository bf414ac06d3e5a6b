//! `dns`: the arguments.

use argh::{ArgsInfo, FromArgs};

/// Ask DNS as the daemon does.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "dns", example = "{command_name} lookup example.org MX")]
pub struct Dns {
    /// what to do
    #[argh(subcommand)]
    pub verb: DnsVerb,
}

/// The verbs of DNS.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum DnsVerb {
    /// One question.
    Lookup(DnsLookup),
}

/// Look up a name and validate the answer: exit 0 if secure or insecure, 1 if bogus, 75 if unavailable.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "lookup", example = "{command_name} _25._tcp.mx.example.org TLSA")]
pub struct DnsLookup {
    /// the name
    #[argh(positional)]
    pub name: String,
    /// the type: MX, A, AAAA, TLSA, TXT...
    #[argh(positional)]
    pub rtype: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}
