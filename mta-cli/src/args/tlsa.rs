//! `tlsa`: the arguments.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};

/// Judge certificates by TLSA records.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "tlsa", example = "{command_name} verify --tlsa \"3 1 1 HEX\" --chain chain.pem")]
pub struct Tlsa {
    /// what to do
    #[argh(subcommand)]
    pub verb: TlsaVerb,
}

/// The verbs of TLSA records.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum TlsaVerb {
    /// Does a chain match?
    Verify(TlsaVerify),
}

/// Judge a certificate chain offline: exit 0 if it matches, 1 if not, 3 if no record is usable.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "verify",
    example = "{command_name} --tlsa \"2 0 1 HEX\" --chain chain.pem --reference-id mx.example.org"
)]
pub struct TlsaVerify {
    /// a record: usage, selector, matching type, hexadecimal data; may be repeated
    #[argh(option, arg_name = "record")]
    pub tlsa: Vec<String>,
    /// PEM file with the chain, the server's certificate first
    #[argh(option, arg_name = "file")]
    pub chain: PathBuf,
    /// a name the certificate may have, for usage 2; may be repeated
    #[argh(option, arg_name = "name")]
    pub reference_id: Vec<String>,
    /// judge as at this time (RFC 3339); now, if not given
    #[argh(option, arg_name = "time")]
    pub time: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}
