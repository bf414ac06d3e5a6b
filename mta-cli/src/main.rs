//! `mta-cli`: the daemon, the administrator's tool, and `sendmail`, `mailq` and `newaliases` by name.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    mta_cli::run(arguments).into()
}
