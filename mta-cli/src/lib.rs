//! The command line: arguments, output and exit codes. No mail logic; every verb calls `mta-core`, by the control socket
//! where the daemon is needed and directly where it is not.
//!
//! `args` is the table of verbs, from which the completions and the manual page come too; `command` has one file for
//! each group of verbs; `client` speaks to the daemon; `output` prints.

pub mod args;
pub mod client;
pub mod command;
pub mod exit;
pub mod output;

pub use self::exit::Exit;

use self::args::{Invocation, Parsed};

/// Runs the program with these arguments, the program's own name first.
pub fn run(arguments: Vec<String>) -> Exit {
    let mut arguments = arguments.into_iter();
    let name = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let (invocation, config, rest) = args::under_name(args::invocation(&name), rest);
    match invocation {
        Invocation::Tool => match args::parse(rest) {
            Parsed::Run(top) => command::run(*top),
            Parsed::Stop { text, exit: Exit::DONE } => {
                output::print(&text);
                Exit::DONE
            }
            Parsed::Stop { text, exit } => {
                eprintln!("{}", text.trim_end());
                exit
            }
        },
        name => command::names::run(name, config.as_deref(), &rest),
    }
}
