//! `user`: the arguments.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};

/// Manage the users who log in to send mail, and their mailboxes.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "user", example = "{command_name} add anna@example.org")]
pub struct User {
    /// what to do
    #[argh(subcommand)]
    pub verb: UserVerb,
}

/// The verbs of users.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum UserVerb {
    /// A new one.
    Add(UserAdd),
    /// Another password.
    Passwd(UserPasswd),
    /// From elsewhere.
    Import(UserImport),
    /// All.
    List(UserList),
    /// One.
    Show(UserShow),
    /// Not for now.
    Disable(UserDisable),
    /// Again.
    Enable(UserEnable),
    /// No more.
    Delete(UserDelete),
    /// As whom.
    Allow(UserAllow),
    /// The brake off.
    Release(UserRelease),
}

/// Add a user; an address is also its mailbox. The password is asked for, or read from standard input.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "add", example = "{command_name} anna@example.org --quota 2GB")]
pub struct UserAdd {
    /// the login name: an address, or a word (with --no-mailbox)
    #[argh(positional)]
    pub name: String,
    /// it only sends and has no mailbox here
    #[argh(switch)]
    pub no_mailbox: bool,
    /// how much the mailbox may hold, such as 2GB
    #[argh(option, arg_name = "size")]
    pub quota: Option<String>,
    /// keep no SCRAM keys: only PLAIN and LOGIN work
    #[argh(switch)]
    pub no_scram: bool,
    /// without a password: it logs in with a certificate
    #[argh(switch)]
    pub no_password: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Give a user another password, asked for or read from standard input.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "passwd", example = "{command_name} anna@example.org")]
pub struct UserPasswd {
    /// the login name
    #[argh(positional)]
    pub name: String,
    /// keep no SCRAM keys
    #[argh(switch)]
    pub no_scram: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Add users with the hashes ($5$, $6$) they have elsewhere: lines of name:hash, as in /etc/shadow.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "import", example = "{command_name} /etc/shadow --domain example.org")]
pub struct UserImport {
    /// the file; /dev/stdin is standard input
    #[argh(positional)]
    pub file: PathBuf,
    /// the domain of names that have none
    #[argh(option, arg_name = "domain")]
    pub domain: Option<String>,
    /// they only send and have no mailboxes here
    #[argh(switch)]
    pub no_mailbox: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// List the users.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "list", example = "{command_name} --json")]
pub struct UserList {
    /// print JSON
    #[argh(switch)]
    pub json: bool,
    /// print a JSON object a line
    #[argh(switch)]
    pub jsonl: bool,
}

/// Show a user: what it may, when it logged in last, how much it sent.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "show", example = "{command_name} anna@example.org")]
pub struct UserShow {
    /// the login name
    #[argh(positional)]
    pub name: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Let a user log in no more; its mailbox goes on.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "disable", example = "{command_name} anna@example.org")]
pub struct UserDisable {
    /// the login name
    #[argh(positional)]
    pub name: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Let a user log in again.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "enable", example = "{command_name} anna@example.org")]
pub struct UserEnable {
    /// the login name
    #[argh(positional)]
    pub name: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Remove a user; the mail in its mailbox stays where it lies.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "delete", example = "{command_name} anna@example.org")]
pub struct UserDelete {
    /// the login name
    #[argh(positional)]
    pub name: String,
    /// do not ask
    #[argh(switch)]
    pub yes: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Let a user send as another address, as a whole @domain or as anybody ('*'), or log in with a certificate.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "allow", example = "{command_name} anna@example.org info@example.org")]
pub struct UserAllow {
    /// the login name
    #[argh(positional)]
    pub name: String,
    /// an address, @domain or '*' to send as
    #[argh(positional)]
    pub sender: Option<String>,
    /// the SHA-256 fingerprint of a certificate to log in with
    #[argh(option, arg_name = "fingerprint")]
    pub certificate: Option<String>,
    /// take it away again
    #[argh(switch)]
    pub remove: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Let a user send again whom the brake held, and let go what is held of him.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "release", example = "{command_name} anna@example.org")]
pub struct UserRelease {
    /// the login name
    #[argh(positional)]
    pub name: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}
