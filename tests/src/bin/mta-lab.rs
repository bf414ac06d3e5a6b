//! The laboratory for a newcomer: sets up a private Internet, runs the daemon in it, shows what happened and why.
//!
//! Called as `mta-cli` (or by another name of the server), it is that very program: so the laboratory always runs the
//! server it was built with.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use argh::FromArgs;
use mta_lab::{lab, netns, show};

/// The names by which this program is the server.
const SERVER_NAMES: [&str; 4] = ["mta-cli", "sendmail", "mailq", "newaliases"];

/// Run the server in a private Internet on loopback, send one message to each of a handful of domains, and show what
/// happened to each and why. Exits with 1 if a verdict is not the expected one.
#[derive(FromArgs)]
struct Arguments {
    /// stay up afterwards, to be explored with mta-cli
    #[argh(switch)]
    keep: bool,
    /// print JSON instead of the table
    #[argh(switch)]
    json: bool,
    /// use high ports and no network namespace
    #[argh(switch)]
    no_namespace: bool,
    #[argh(subcommand)]
    command: Option<Verb>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Inside(Inside),
    Shell(Shell),
}

/// Run a command in a new network namespace with nothing but loopback.
#[derive(FromArgs)]
#[argh(subcommand, name = "inside")]
struct Inside {
    /// the command and its arguments
    #[argh(positional, greedy)]
    command: Vec<String>,
}

/// Open a shell (or run a command) in the namespace of a laboratory that was started with --keep.
#[derive(FromArgs)]
#[argh(subcommand, name = "shell")]
struct Shell {
    /// the process id that the laboratory printed
    #[argh(positional)]
    pid: u32,
    /// the command; your shell unless given
    #[argh(positional, greedy)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let called_as = std::env::args_os().next();
    let called_as = called_as.as_deref().map(Path::new).and_then(Path::file_name);
    if called_as.is_some_and(|name| SERVER_NAMES.iter().any(|known| name == *known)) {
        return as_server();
    }
    let arguments: Arguments = argh::from_env();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mta-lab: {error}");
            ExitCode::from(70)
        }
    }
}

/// The server itself; ended together with the laboratory that started it, however that ends.
fn as_server() -> ExitCode {
    if std::env::var_os(mta_lab::daemon::CHILD_MARK).is_some() {
        // Without it the server would outlive a laboratory that is killed; nothing else depends on it.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    }
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    mta_cli::run(arguments).into()
}

fn run(arguments: Arguments) -> Result<ExitCode, String> {
    match arguments.command {
        Some(Verb::Inside(inside)) => return netns::run_inside(&inside.command).map(|()| ExitCode::SUCCESS),
        Some(Verb::Shell(shell)) => {
            let user_shell = || vec![std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned())];
            let command = if shell.command.is_empty() { user_shell() } else { shell.command };
            return netns::join(shell.pid, &command).map(|()| ExitCode::SUCCESS);
        }
        None => {}
    }
    let network = if arguments.no_namespace { Err("not wanted".to_owned()) } else { netns::enter() };
    let place = match &network {
        Ok(()) => "in a network namespace of its own: DNS on port 53, MX hosts on port 25".to_owned(),
        Err(why) => format!("on high ports of this host's loopback (no network namespace: {why})"),
    };
    let (lab, exhibits) = show::start(network.is_ok()).map_err(|error| error.to_string())?;
    let rows = show::run(&lab, &exhibits).map_err(|error| error.to_string())?;
    let all_right = rows.iter().all(|row| row.as_expected);
    let mut out = io::stdout().lock();
    let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let print = |out: &mut dyn Write| -> io::Result<()> {
        if arguments.json {
            serde_json::to_writer_pretty(&mut *out, &rows)?;
            return writeln!(out);
        }
        writeln!(out, "A private Internet {place}.")?;
        writeln!(out, "One message from {} to each domain:\n", show::SENDER)?;
        show::print(&rows, colours, &mut &mut *out)?;
        let right = rows.iter().filter(|row| row.as_expected).count();
        writeln!(out, "\n{right} of {} verdicts as expected.", rows.len())
    };
    print(&mut out).map_err(|error| error.to_string())?;
    if arguments.keep {
        keep(&lab, network.is_ok(), &rows, &mut out).map_err(|error| error.to_string())?;
    }
    Ok(if all_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells how to explore, and waits until somebody presses Enter.
fn keep(lab: &lab::Lab, in_namespace: bool, rows: &[show::Row], out: &mut impl Write) -> io::Result<()> {
    let program = lab::program(lab.directory())?;
    let config = lab.daemon().config_file();
    let mta_cli = format!("{} --config {}", program.display(), config.display());
    writeln!(out, "\nThe laboratory stays up.")?;
    if in_namespace {
        writeln!(out, "  a shell inside:    cargo lab shell {}", std::process::id())?;
        let user = if rustix::process::geteuid().is_root() { "" } else { " --user --preserve-credentials" };
        writeln!(out, "  (or)               nsenter --target {}{user} --net", std::process::id())?;
    }
    writeln!(out, "  everything is in   {}", lab.directory().display())?;
    writeln!(out, "  the queue:         {mta_cli} queue list")?;
    if let Some(row) = rows.iter().find(|row| row.verdict == show::Verdict::Delayed) {
        writeln!(out, "  why one is late:   {mta_cli} queue show {}", row.queue_id)?;
        writeln!(out, "  look at a domain:  {mta_cli} probe {}", row.domain)?;
    }
    writeln!(out, "  send more to       {}", lab.daemon().address())?;
    writeln!(out, "  ask its DNS at     {}", lab.dns.forwarder())?;
    writeln!(out, "Press Enter to take it down.")?;
    out.flush()?;
    let mut line = String::new();
    if io::stdin().read_line(&mut line)? == 0 {
        // Nobody is there to press Enter: stay until a signal ends us.
        loop {
            std::thread::park();
        }
    }
    Ok(())
}
