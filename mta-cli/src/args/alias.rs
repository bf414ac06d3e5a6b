//! `alias`: the arguments.

use argh::{ArgsInfo, FromArgs};

/// Keep the aliases of the database: addresses that stand for others, catch-alls, forwards.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "alias", example = "{command_name} add info@example.org alice@example.org")]
pub struct Alias {
    /// what to do
    #[argh(subcommand)]
    pub verb: AliasVerb,
}

/// The verbs of aliases.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum AliasVerb {
    /// A new one.
    Add(AliasAdd),
    /// Away with one.
    Delete(AliasDelete),
    /// All.
    List(AliasList),
    /// Where one leads.
    Show(AliasShow),
    /// What is wrong with the files.
    Check(AliasCheck),
}

/// Let an address of an own domain stand for others, in place of what it stood for.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "add",
    example = "{command_name} anna@example.org anna@elsewhere.net --keep",
    note = "@example.org is the catch-all: every address of the domain that is nothing else. @old.org @example.org lets a whole domain stand for another, name by name."
)]
pub struct AliasAdd {
    /// the address, or @domain
    #[argh(positional)]
    pub address: String,
    /// whom it stands for
    #[argh(positional)]
    pub targets: Vec<String>,
    /// the mailbox of the address keeps a copy
    #[argh(switch)]
    pub keep: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Delete an alias.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "delete", example = "{command_name} info@example.org")]
pub struct AliasDelete {
    /// the address, or @domain
    #[argh(positional)]
    pub address: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// List the aliases of the database.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "list", example = "{command_name} --json")]
pub struct AliasList {
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Show where mail for an address goes, aliases followed to the end.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "show", example = "{command_name} postmaster@example.org")]
pub struct AliasShow {
    /// the address
    #[argh(positional)]
    pub address: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Check the alias files of the configuration; the running daemon reads them again where they are right.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "check",
    example = "{command_name} --file /etc/aliases",
    note = "newaliases does the same. With a mistake in a file the aliases that were in force before stay."
)]
pub struct AliasCheck {
    /// this file in place of those of the configuration; nothing is read again then
    #[argh(option, arg_name = "file")]
    pub file: Option<std::path::PathBuf>,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}
