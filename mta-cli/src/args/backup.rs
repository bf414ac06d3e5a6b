//! `backup`, `restore`, `verify`: the arguments.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};

/// Copy the whole queue, while mail flows.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "backup",
    example = "{command_name} /var/backups/queue.db",
    note = "A directory is one that exists or a name that ends with a slash. The copy is consistent, complete and synced when its name appears. It holds mail: it can be read by its owner only. The configuration and the server's TLS key are not in it."
)]
pub struct Backup {
    /// the file or directory to make
    #[argh(positional)]
    pub target: PathBuf,
    /// replace a file that is there
    #[argh(switch)]
    pub force: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Put a backup in place of the queue.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "restore",
    example = "{command_name} /var/backups/queue.db",
    note = "The daemon must be down. The backup is verified first; the queue that was there is kept aside. Mail that was delivered after the backup was made is delivered again."
)]
pub struct Restore {
    /// the file or directory that backup made
    #[argh(positional)]
    pub source: PathBuf,
    /// replace a queue that has mail in it
    #[argh(switch)]
    pub force: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Check that the queue is whole: exit 1 if something is wrong.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "verify",
    example = "{command_name} --json",
    note = "Checks the database, its books, and the content against the rows. Works beside the daemon and while it is down. With --repair, while it is down, the books are counted again and what can be read of a damaged database is put into a new one; the old one is kept aside, and each message that lost something is named and set aside with what is left of it. Exit status 1 where anything is wrong or was lost."
)]
pub struct Verify {
    /// a backup in a directory, or another state directory; the queue itself, if not given
    #[argh(positional)]
    pub directory: Option<PathBuf>,
    /// repair what can be repaired
    #[argh(switch)]
    pub repair: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}
