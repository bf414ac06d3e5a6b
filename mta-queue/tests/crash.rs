//! Kill -9 at random instants under mixed load (`common/load.rs`): what was acknowledged is there and whole, what was not
//! wholly received is not, duplicates stay within the deliveries in flight, nothing is left over.
//!
//! `MTA_QUEUE_CRASH_ROUNDS` sets the number of kills (12), `MTA_QUEUE_CRASH_SEED` repeats a run's choices.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::load::{self, Journal, Random};

const ROUNDS: &str = "MTA_QUEUE_CRASH_ROUNDS";
const SEED: &str = "MTA_QUEUE_CRASH_SEED";

/// Kills after which everything is delivered and judged.
const JUDGE_EVERY: u64 = 50;

#[test]
fn child_process() {
    load::child();
}

/// Runs a child and kills it: while it opens the queue, or after some lines of its journal and a little later.
fn kill_one(directory: &Path, journal: &mut Journal, number: u64, random: &mut Random) {
    let mut child = load::spawn(directory, "load", number, None);
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let lines = if random.below(4) == 0 { 0 } else { 1 + random.below(40) };
    let mut seen = 0;
    let mut line = String::new();
    while seen < lines {
        line.clear();
        assert!(output.read_line(&mut line).expect("text") > 0, "the child ends only by the kill");
        seen += u64::from(line.starts_with("@ "));
        journal.read(line.trim_end());
    }
    // Not a wait for anything: it moves the instant of the kill off the instant of the line.
    std::thread::sleep(Duration::from_micros(random.below(if lines == 0 { 25_000 } else { 4_000 })));
    child.kill().expect("kill");
    child.wait().expect("wait");
    journal.read_rest(output);
    journal.kills += 1;
}

#[test]
fn nothing_acknowledged_is_lost_whenever_the_process_is_killed() {
    if std::env::var(load::CHILD).is_ok() {
        return;
    }
    let number = |key: &str| std::env::var(key).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number(ROUNDS).unwrap_or(12);
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
    let seed = number(SEED).unwrap_or(nanos) | 1;
    println!("{SEED}={seed} {ROUNDS}={rounds}");
    let mut random = Random(seed);
    let directory = tempfile::tempdir().expect("directory");
    let (mut done, mut acknowledged, mut delivered, mut extra) = (0, 0, 0, 0);
    while done < rounds {
        let mut journal = Journal::default();
        for _ in 0..JUDGE_EVERY.min(rounds - done) {
            done += 1;
            kill_one(directory.path(), &mut journal, done, &mut random);
            load::verify_killed(directory.path());
        }
        extra += load::drain_and_judge(directory.path(), &mut journal);
        acknowledged += journal.acknowledged.len();
        delivered += journal.delivered.values().sum::<usize>();
        println!("{done} kills: {acknowledged} acknowledged, {delivered} delivered, {extra} extra copies");
    }
    assert!(acknowledged > 0, "the test did something");
}
