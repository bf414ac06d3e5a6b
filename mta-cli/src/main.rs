//! `mta-cli`: the daemon, the administrator's tool, and `sendmail`, `mailq` and `newaliases` by name.

use std::process::ExitCode;

use mta_cli::Exit;

fn main() -> ExitCode {
    let arguments = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    // A panic was told by its own message already.
    std::panic::catch_unwind(|| mta_cli::run(arguments)).unwrap_or(Exit::INTERNAL).into()
}
