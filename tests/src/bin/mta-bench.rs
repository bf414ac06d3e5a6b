//! `mta-bench`: this server and Postfix measured side by side. See `mta_lab::bench`.
//!
//! Run the release build, as root (strace and Postfix need it):
//! `cargo build --release --workspace --bins && target/release/mta-bench`

use std::process::ExitCode;

use argh::FromArgs;
use mta_lab::bench::{self, Figure, server::Kind};

/// Measures accept and relay rates, CPU, syncs and memory of this server and of Debian's Postfix in one run.
#[derive(FromArgs)]
struct Args {
    /// messages for each measurement (default 1000)
    #[argh(option, default = "1000")]
    messages: usize,
    /// repeats of each rate, of which the median is shown (default 3)
    #[argh(option, default = "3")]
    repeats: usize,
    /// also start on queues of 20,000 and 1,000,000 deferred messages; filling them takes minutes
    #[argh(switch)]
    long_queues: bool,
    /// nothing but the long queues
    #[argh(switch)]
    only_queues: bool,
    /// a table in Markdown at the end, as the README has it
    #[argh(switch)]
    markdown: bool,
    /// only this server: mta or postfix
    #[argh(option)]
    only: Option<String>,
    /// one JSON object a line instead of text
    #[argh(switch)]
    json: bool,
}

fn main() -> ExitCode {
    let args: Args = argh::from_env();
    let kinds: &[Kind] = match args.only.as_deref() {
        Some("mta") => &[Kind::Mta],
        Some("postfix") => &[Kind::Postfix],
        _ => &[Kind::Postfix, Kind::Mta],
    };
    let mut figures: Vec<Figure> = Vec::new();
    let show = |figure: &Figure| {
        figures.push(figure.clone());
        if args.json {
            println!("{}", serde_json::to_string(figure).unwrap_or_default());
        } else {
            println!(
                "{:8} {:38} {:>10.2} {:10} (disk {:.0} syncs/s)",
                figure.server.to_string(),
                figure.measure,
                figure.value,
                figure.unit,
                figure.sync_probe_per_second
            );
        }
    };
    let long = args.long_queues || args.only_queues;
    let deferred: &[usize] = if long { &[0, 20_000, 1_000_000] } else { &[0, 20_000] };
    let done = if args.only_queues {
        bench::run_queues(deferred, show)
    } else {
        bench::run(kinds, args.messages, args.repeats, deferred, show)
    };
    if args.markdown {
        print!("{}", bench::table::markdown(&figures));
    }
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mta-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
