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
    /// The record to publish.
    Make(TlsaMake),
    /// Does a chain match?
    Verify(TlsaVerify),
    /// Does a host serve what it publishes?
    Check(TlsaCheck),
}

/// Print the record to publish, 3 1 1 unless told otherwise, for a certificate, a key, or what this server serves.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "make", example = "{command_name} --cert chain.pem --host mx.example.org")]
pub struct TlsaMake {
    /// PEM file with the chain as served, the server's certificate first
    #[argh(option, arg_name = "file")]
    pub cert: Option<PathBuf>,
    /// PEM file with a private or public key
    #[argh(option, arg_name = "file")]
    pub key: Option<PathBuf>,
    /// the MX host's name (this server's)
    #[argh(option, arg_name = "name")]
    pub host: Option<String>,
    /// its port (25)
    #[argh(option, arg_name = "number", default = "25")]
    pub port: u16,
    /// usage: 3 the server's own certificate or key, 2 an issuer's (3)
    #[argh(option, arg_name = "number", default = "3")]
    pub usage: u8,
    /// selector: 0 the certificate, 1 its public key (1)
    #[argh(option, arg_name = "number", default = "1")]
    pub selector: u8,
    /// matching type: 0 in full, 1 SHA-256, 2 SHA-512 (1)
    #[argh(option, arg_name = "number", default = "1")]
    pub matching: u8,
    /// print it even if no sender could use it
    #[argh(switch)]
    pub force: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Compare what a host publishes with what it serves, at every address and for every kind of key. Without a host: ourselves.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "check",
    example = "{command_name} mx.example.org",
    note = "Exit 0: all in order. 1: problems found. 2: no secure TLSA record is published. 75: DNS or the host does not answer."
)]
pub struct TlsaCheck {
    /// HOST or HOST:PORT (port 25; 465 begins with TLS)
    #[argh(positional)]
    pub host: Option<String>,
    /// seconds for each step (20)
    #[argh(option, arg_name = "seconds", default = "20")]
    pub timeout: u64,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
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
