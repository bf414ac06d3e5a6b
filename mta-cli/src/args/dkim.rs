//! `dkim`: the arguments.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};

/// Keys that sign outgoing mail (DKIM), and their records.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "dkim", example = "{command_name} make example.org")]
pub struct Dkim {
    /// what to do
    #[argh(subcommand)]
    pub verb: DkimVerb,
}

/// The verbs of keys.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum DkimVerb {
    /// New keys.
    Make(DkimMake),
    /// A key from elsewhere.
    Import(DkimImport),
    /// All keys.
    List(DkimList),
    /// What to publish.
    Record(DkimRecord),
    /// New keys in place of those that sign.
    Rotate(DkimRotate),
    /// An end.
    Retire(DkimRetire),
    /// Keys against DNS.
    Check(DkimCheck),
}

/// Make keys for a domain and print the records to publish. They sign once these are seen in DNS.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "make", example = "{command_name} example.org")]
pub struct DkimMake {
    /// the domain of the From field
    #[argh(positional)]
    pub domain: String,
    /// rsa, ed25519 or both (default: both)
    #[argh(option, default = "String::from(\"both\")", arg_name = "kind")]
    pub algorithm: String,
    /// the selector (default: from the date and the kind)
    #[argh(option, arg_name = "name")]
    pub selector: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Take over a key in PEM, as OpenDKIM and others keep it, with its selector.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "import", example = "{command_name} example.org mail /etc/dkimkeys/mail.private")]
pub struct DkimImport {
    /// the domain
    #[argh(positional)]
    pub domain: String,
    /// its selector
    #[argh(positional)]
    pub selector: String,
    /// the file
    #[argh(positional)]
    pub file: PathBuf,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// List all keys: domain, selector, kind, and whether each signs.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "list", example = "{command_name}")]
pub struct DkimList {
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Print the DNS records of a domain's keys, for a zone file.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "record", example = "{command_name} example.org")]
pub struct DkimRecord {
    /// the domain
    #[argh(positional)]
    pub domain: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Make a new key for each that signs, and print the records to publish. The old ones sign until these are seen in DNS.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "rotate", example = "{command_name} example.org")]
pub struct DkimRotate {
    /// the domain
    #[argh(positional)]
    pub domain: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Delete a key that signs no more; its record can be removed then. Asks for --yes where the key signs or was used lately.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "retire", example = "{command_name} example.org r20261125")]
pub struct DkimRetire {
    /// the domain
    #[argh(positional)]
    pub domain: String,
    /// the selector
    #[argh(positional)]
    pub selector: String,
    /// also where it still signs, or signed in the last days
    #[argh(switch)]
    pub yes: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Compare keys with DNS through the validating resolver; new keys that are published begin to sign. Exit 1 on problems.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "check", example = "{command_name}")]
pub struct DkimCheck {
    /// only this domain
    #[argh(positional)]
    pub domain: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}
