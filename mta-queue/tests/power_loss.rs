//! Power loss: the calls of the real program under mixed load, cut at any instant, with any mixture of what was not synced
//! (`common/disk.rs`). Whatever the disk holds then, the queue opens, has every message that was acknowledged, whole, and
//! nothing that was not wholly received; only deliveries may be repeated. And each kind of sync is proved to be needed:
//! without it the same cuts find a loss.
//!
//! `MTA_QUEUE_POWER_CUTS` sets the number of cuts (60). Needs strace; says SKIPPED where it may not trace.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};

use common::disk::{self, Disk, Event, Fate, Trace};
use common::load::{self, Journal, Random};
use common::*;
use mta_queue::*;

#[test]
fn child_process() {
    load::child();
}

/// What one child did, call by call.
fn trace(top: &Path, mode: &str) -> Option<Trace> {
    trace_with(top, mode, &[])
}

/// The same, with more arguments for strace.
fn trace_with(top: &Path, mode: &str, more: &[String]) -> Option<Trace> {
    let strace = disk::strace()?;
    let state = top.join("state");
    let before = disk::snapshot(top);
    let file = top.with_extension("trace");
    let status = Command::new(strace)
        .args(disk::arguments(&file))
        .args(more)
        .arg(std::env::current_exe().expect("test binary"))
        .args(["child_process", "--exact", "--nocapture", "--test-threads=1"])
        .env(load::CHILD, &state)
        .env(load::MODE, mode)
        .stdout(Stdio::null())
        .status()
        .expect("strace");
    assert!(status.success(), "{status}");
    let text = std::fs::read_to_string(&file).expect("a trace");
    std::fs::remove_file(file).expect("removed");
    Some(Trace::read(&text, top, before))
}

/// The journal as far as the program had written it at the cut.
fn journal(trace: &Trace, count: usize) -> Journal {
    // What was delivered may be delivered again: any number of copies is within the bound.
    let mut journal = Journal { kills: 1_000_000, power_loss: true, ..Journal::default() };
    for event in trace.events.iter().take(count) {
        if let Event::Said(line) = event {
            journal.read(line);
        }
    }
    journal
}

/// Cuts the power after `count` events and judges what is left.
fn cut(
    trace: &Trace,
    top: &Path,
    count: usize,
    fate: Fate,
    random: &mut Random,
    ignored: &dyn Fn(&Event) -> bool,
) {
    let left = tempfile::tempdir().expect("directory");
    let state = left.path().join("state");
    Disk::after(trace, count, ignored).leave(top, left.path(), fate, random);
    let mut journal = journal(trace, count);
    load::verify_killed(&state);
    load::drain_and_judge(&state, &mut journal);
}

/// Instants and fates, the same for every run with the same number.
fn cuts(trace: &Trace, number: u64, random: &mut Random) -> Vec<(usize, Fate)> {
    (0..number)
        .map(|n| {
            let count = 1 + random.below(trace.events.len() as u64) as usize;
            (count, [Fate::Mixed, Fate::Lost, Fate::Mixed, Fate::Kept][(n % 4) as usize])
        })
        .collect()
}

#[test]
fn nothing_acknowledged_is_lost_whenever_the_power_fails_and_every_sync_is_needed() {
    if std::env::var(load::CHILD).is_ok() {
        return;
    }
    let number = std::env::var("MTA_QUEUE_POWER_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let directory = tempfile::tempdir().expect("directory");
    let top = directory.path().join("top");
    std::fs::create_dir(&top).expect("directory");
    let Some(trace) = trace(&top, "some") else {
        println!("SKIPPED: no strace that may trace");
        return;
    };
    let syncs = trace.events.iter().filter(|event| matches!(event, Event::Sync { .. })).count();
    println!("{} events, {syncs} syncs of files", trace.events.len());
    let mut random = Random(0x5eed);
    for (count, fate) in cuts(&trace, number, &mut random) {
        println!("cut after {count}, {fate:?}");
        cut(&trace, &top, count, fate, &mut random, &|_| false);
    }
    proved_needed(&trace, &top, number);
}

/// Syncs that fail, by their number in each thread: single ones, some in a row, so that the repair fails, too, and one after the
/// other to the end.
const FAILING: [&str; 5] = ["5", "6..7", "8..13", "9+4", "13+"];

#[test]
fn nothing_acknowledged_is_lost_where_a_sync_failed_before_the_power_did() {
    if std::env::var(load::CHILD).is_ok() {
        return;
    }
    let mut failed = 0;
    for which in FAILING {
        let directory = tempfile::tempdir().expect("directory");
        let top = directory.path().join("top");
        std::fs::create_dir_all(top.join("state")).expect("directory");
        Queue::open(&top.join("state"), load::small_options()).expect("open").close();
        let inject = ["-e".to_owned(), format!("inject=fsync,fdatasync:error=EIO:when={which}")];
        let Some(trace) = trace_with(&top, "failing", &inject) else {
            println!("SKIPPED: no strace that may trace");
            return;
        };
        let at = |event: &Event| matches!(event, Event::SyncFailed { .. });
        let first = trace.events.iter().position(at).unwrap_or_else(|| panic!("{which}: none failed"));
        failed += trace.events.iter().filter(|event| at(event)).count();
        let mut random = Random(0x5eed);
        let mut cut_at = |count, fate| {
            println!("{which}: cut after {count} of {}, {fate:?}", trace.events.len());
            cut(&trace, &top, count, fate, &mut random, &|_| false);
        };
        // Behind each that was acknowledged since.
        let said =
            |n: &usize| matches!(&trace.events[*n], Event::Said(said) if said.contains("acknowledged"));
        for n in (first..trace.events.len()).filter(said).take(10) {
            [Fate::Lost, Fate::Mixed].into_iter().for_each(|fate| cut_at(n + 1, fate));
        }
        // Killed right when a failure is told.
        for count in (0..trace.events.len()).filter(|count| at(&trace.events[*count])).take(4) {
            (1..4).for_each(|more| cut_at((count + more).min(trace.events.len()), Fate::Kept));
        }
        let refusals =
            trace.events.iter().filter(|e| matches!(e, Event::Said(said) if said.contains("refused")));
        println!("{which}: {} refused", refusals.count());
    }
    assert!(failed > 20, "{failed}");
}

type Kind<'a> = (&'static str, Box<dyn Fn(&Event) -> bool + 'a>);

/// Leaves out one kind of sync after the other: each time some cut must find a loss, or this test could not fail.
fn proved_needed(trace: &Trace, top: &Path, number: u64) {
    let named = |event: &Event, end: &str| match event {
        Event::Sync { inode, .. } => trace.names[*inode].to_string_lossy().ends_with(end),
        _ => false,
    };
    let content = top.join("state/content");
    let in_content = |inode: &usize| trace.names[*inode].starts_with(&content);
    let kinds: [Kind<'_>; 4] = [
        ("of the log", Box::new(|event| named(event, "queue.db-wal"))),
        ("of the database", Box::new(|event| named(event, "queue.db"))),
        ("of content", Box::new(|event| matches!(event, Event::Sync { inode, .. } if in_content(inode)))),
        (
            "of the content's directory",
            Box::new(|event| matches!(event, Event::SyncDirectory { path, .. } if *path == content)),
        ),
    ];
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found: Vec<(&str, bool)> = kinds
        .iter()
        .map(|(name, ignored)| {
            let mut random = Random(0x5eed);
            let all = cuts(trace, number.max(200), &mut random);
            let lost = all.into_iter().filter(|(_, fate)| *fate != Fate::Kept).any(|(count, fate)| {
                catch_unwind(AssertUnwindSafe(|| cut(trace, top, count, fate, &mut random, ignored))).is_err()
            });
            (*name, lost)
        })
        .collect();
    std::panic::set_hook(hook);
    println!("{found:?}");
    for (name, lost) in found {
        assert!(lost, "without the sync {name} nothing was lost: the cuts prove nothing");
    }
}

/// Cuts a program that begins with what `prepare` makes, again and again, and has `judge` look at what is left.
fn cut_everywhere(mode: &str, prepare: impl FnOnce(&Path), judge: impl Fn(&Path)) {
    if std::env::var(load::CHILD).is_ok() {
        return;
    }
    let directory = tempfile::tempdir().expect("directory");
    let top = directory.path().join("top");
    std::fs::create_dir_all(top.join("state")).expect("directory");
    prepare(&top);
    let Some(trace) = trace(&top, mode) else {
        println!("SKIPPED: no strace that may trace");
        return;
    };
    let mut random = Random(0x5eed);
    let number = trace.events.len().min(150) as u64;
    for n in 0..number {
        let count = usize::try_from(n).expect("small") * trace.events.len()
            / usize::try_from(number).expect("small")
            + 1;
        for fate in [Fate::Mixed, Fate::Lost] {
            let left = tempfile::tempdir().expect("directory");
            Disk::after(&trace, count, &|_| false).leave(&top, left.path(), fate, &mut random);
            println!("{mode}: cut after {count} of {}, {fate:?}", trace.events.len());
            judge(left.path());
        }
    }
}

#[test]
fn a_migration_that_the_power_ends_loses_nothing() {
    cut_everywhere(
        "open",
        |top| {
            let database = rusqlite::Connection::open(top.join("state/queue.db")).expect("open");
            database.execute_batch(include_str!("data/version1.sql")).expect("version 1");
        },
        |left| {
            let queue = Queue::open(&left.join("state"), options()).expect("the next start goes on");
            let claims = claim_all(&queue, now());
            assert_eq!(claims.len(), 1);
            let content = read(queue.content_reader(claims[0].message.id).expect("content"));
            assert_eq!(content, b"Subject: old\r\n\r\nfrom version 1\r\n");
        },
    );
}

/// A queue of a small and a large message.
fn fill(top: &Path) {
    let queue = Queue::open(&top.join("state"), load::small_options()).expect("open");
    put(&queue, &["a@one.example"], now());
    let large = message(&queue, &["b@two.example"], now(), &load::body("large", 50_000));
    accept(&queue, large).expect("accepted");
    queue.close();
}

/// How many messages wait, each with its whole content.
fn whole_messages(state: &Path) -> usize {
    let queue = Queue::open(state, load::small_options()).expect("open");
    let ids = list(&queue, &Selector::default());
    ids.iter().for_each(|id| drop(queue.content_reader(*id).expect("whole")));
    ids.len()
}

#[test]
fn a_backup_that_has_its_name_is_whole_after_a_power_loss() {
    cut_everywhere("backup-file", fill, |left| {
        let copy = left.join("copy.db");
        if copy.exists() {
            restore(&copy, &left.join("other"), false, &mut |_, _, _| {}).expect("restored");
            assert_eq!(whole_messages(&left.join("other")), 2);
        }
    });
}

#[test]
fn a_restore_that_the_power_ends_leaves_the_old_queue_or_the_new_one() {
    let prepare = |top: &Path| {
        fill(top);
        backup(&top.join("state"), &top.join("copy.db"), false, &mut |_, _, _| {}).expect("backup");
        let queue = Queue::open(&top.join("state"), load::small_options()).expect("open");
        put(&queue, &["c@one.example"], now());
        queue.close();
    };
    cut_everywhere("restore", prepare, |left| {
        let there = whole_messages(&left.join("state"));
        assert!(there == 3 || there == 2, "{there}");
    });
}
