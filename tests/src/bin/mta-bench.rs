//! `mta-bench`: this server and Postfix measured side by side. See `mta_lab::bench`.
//!
//! Run the release build, as root (strace and Postfix need it):
//! `cargo build --release --workspace --bins && target/release/mta-bench`

use std::process::ExitCode;
use std::time::Duration;

use argh::FromArgs;
use mta_lab::bench::{self, Figure, Plan, Section, server::Kind};

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
    /// a table in Markdown at the end, as the README has it
    #[argh(switch)]
    markdown: bool,
    /// only this server (mta, postfix) or this part (accept, connections, relay, memory, idle, dkim, checks, tls, login,
    /// queues); may be given several times
    #[argh(option)]
    only: Vec<String>,
    /// seconds an idle server is watched (default 100)
    #[argh(option, default = "100")]
    idle: u64,
    /// one JSON object a line instead of text
    #[argh(switch)]
    json: bool,
}

/// What is to be measured.
fn plan(args: &Args) -> Result<Plan, String> {
    let mut kinds: Vec<Kind> = Vec::new();
    let mut sections: Vec<Section> = Vec::new();
    for word in &args.only {
        match (word.as_str(), Section::ALL.iter().find(|section| section.word() == word)) {
            ("mta", _) => kinds.push(Kind::Mta),
            ("postfix", _) => kinds.push(Kind::Postfix),
            (_, Some(&section)) => sections.push(section),
            _ => {
                let parts = Section::ALL.map(Section::word).join(", ");
                return Err(format!("--only {word}: neither a server (mta, postfix) nor a part ({parts})"));
            }
        }
    }
    if kinds.is_empty() {
        kinds = vec![Kind::Postfix, Kind::Mta];
    }
    if sections.is_empty() {
        sections = Section::ALL.to_vec();
    }
    let mut deferred = vec![0, 20_000];
    deferred.extend(args.long_queues.then_some(1_000_000));
    let idle = Duration::from_secs(args.idle.max(1));
    Ok(Plan { kinds, sections, messages: args.messages, repeats: args.repeats, deferred, idle })
}

fn main() -> ExitCode {
    let args: Args = argh::from_env();
    let plan = match plan(&args) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("mta-bench: {error}");
            return ExitCode::from(64);
        }
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
    let done = bench::run(&plan, show);
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
