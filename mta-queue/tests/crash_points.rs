//! Kill -9 at every named step of the state table: accept, claim, deliver, record, report, change, checkpoint, giving up
//! files, migration, backup, restore. The contract is that of `common/load.rs`.
//!
//! The points are read from the sources (`crash::point("...")`): one that no test comes by fails here.

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use common::load::{self, Journal};
use common::*;
use mta_queue::*;

#[test]
fn child_process() {
    load::child();
}

/// The points that the sources name.
fn points() -> Vec<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut points = Vec::new();
    for entry in std::fs::read_dir(sources).expect("sources") {
        let text = std::fs::read_to_string(entry.expect("entry").path()).unwrap_or_default();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let named = code.flat_map(|line| line.split("crash::point(\"").skip(1));
        points.extend(named.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    }
    points.sort();
    points.dedup();
    points
}

fn is_child() -> bool {
    std::env::var(load::CHILD).is_ok()
}

fn killed_at(directory: &Path, journal: &mut Journal, mode: &str, number: u64, point: &str) {
    let mut child = load::spawn(directory, mode, number, Some(point));
    let status = load::wait(&mut child, journal);
    assert_eq!(status.signal(), Some(9), "{mode} never came by {point}");
    journal.kills += 1;
}

#[test]
fn at_every_step_of_a_message() {
    if is_child() {
        return;
    }
    let elsewhere = ["migration-", "backup-", "restore-", "repair-"];
    let points = points();
    assert!(points.len() > 15, "{points:?}");
    let directory = tempfile::tempdir().expect("directory");
    let mut journal = Journal::default();
    let of_messages = points.iter().filter(|point| !elsewhere.iter().any(|other| point.starts_with(other)));
    let mut number = 0;
    for point in of_messages {
        for times in [1, 4] {
            number += 1;
            if point == "orphan-deleted" {
                leave_orphans(directory.path());
            }
            let point = format!("{point}:{times}");
            killed_at(directory.path(), &mut journal, "load", number, &point);
            load::verify_killed(directory.path());
        }
    }
    let extra = load::drain_and_judge(directory.path(), &mut journal);
    println!("{} kills, {} acknowledged, {extra} extra copies", journal.kills, journal.acknowledged.len());
}

/// Files that a killed process would have left.
fn leave_orphans(directory: &Path) {
    for n in 0..4 {
        std::fs::write(directory.join(format!("content/0000000000{n}")), "left over").expect("written");
    }
    std::fs::write(directory.join("content/00000000009.tmp"), "cut off").expect("written");
}

/// A queue of the first version with mail in it.
fn old_queue(directory: &Path) {
    let database = rusqlite::Connection::open(directory.join("queue.db")).expect("open");
    database.execute_batch(include_str!("data/version1.sql")).expect("version 1");
}

#[test]
fn at_every_step_of_making_and_migrating_a_queue() {
    if is_child() {
        return;
    }
    for point in points().iter().filter(|point| point.starts_with("migration-")) {
        for old in [false, true] {
            let directory = tempfile::tempdir().expect("directory");
            if old {
                old_queue(directory.path());
            }
            let mut child = load::spawn(directory.path(), "open", 1, Some(point));
            let status = load::wait(&mut child, &mut Journal::default());
            // A new queue is not copied first.
            let comes_by = old || point != "migration-copied";
            assert_eq!(status.signal() == Some(9), comes_by, "{point}, old: {old}");
            load::verify_killed(directory.path());
            let queue = Queue::open(directory.path(), options()).expect("the next start goes on");
            if old {
                let claims = claim_all(&queue, now());
                let whole: Vec<Vec<u8>> = claims
                    .iter()
                    .map(|claim| read(queue.content_reader(claim.message.id).expect("content")))
                    .collect();
                assert_eq!(whole, [b"Subject: old\r\n\r\nfrom version 1\r\n".to_vec()], "{point}");
            }
            put(&queue, &["a@one.example"], now());
            queue.close();
            drop(queue);
            let verified = verify(directory.path(), &mut |_| {}).expect("verified");
            assert_eq!(verified.problems, [], "{point}");
        }
    }
}

/// A queue with a small and a large message, in `state` below the directory.
fn filled(top: &Path) -> Vec<QueueId> {
    let queue = Queue::open(&top.join("state"), load::small_options()).expect("open");
    let small = put(&queue, &["a@one.example"], now());
    let large = message(&queue, &["b@two.example"], now(), &load::body("large", 100_000));
    let large = accept(&queue, large).expect("accepted");
    queue.close();
    vec![small, large]
}

#[test]
fn at_every_step_of_a_backup() {
    if is_child() {
        return;
    }
    for point in points().iter().filter(|point| point.starts_with("backup-")) {
        for (mode, target) in [("backup-file", "copy.db"), ("backup-directory", "copy")] {
            let top = tempfile::tempdir().expect("directory");
            let ids = filled(top.path());
            let state = top.path().join("state");
            killed_at(&state, &mut Journal::default(), mode, 1, point);
            assert!(!top.path().join(target).exists(), "{point}: no half backup has the name of a whole one");
            let mut child = load::spawn(&state, mode, 1, None);
            assert!(load::wait(&mut child, &mut Journal::default()).success());
            let other = top.path().join("other");
            restore(&top.path().join(target), &other, false, &mut |_, _, _| {}).expect("restored");
            let queue = Queue::open(&other, load::small_options()).expect("open");
            assert_eq!(list(&queue, &Selector::default()), ids, "{point}");
        }
    }
}

#[test]
fn at_every_step_of_a_restore() {
    if is_child() {
        return;
    }
    for point in points().iter().filter(|point| point.starts_with("restore-")) {
        let top = tempfile::tempdir().expect("directory");
        let ids = filled(top.path());
        let state = top.path().join("state");
        backup(&state, &top.path().join("copy.db"), false, &mut |_, _, _| {}).expect("backup");
        // Meanwhile the queue went on: one left, one came.
        let queue = Queue::open(&state, load::small_options()).expect("open");
        let claim = claim_all(&queue, now()).remove(0);
        end(&queue, claim, now(), RecipientOutcome::Delivered);
        let newer = put(&queue, &["c@one.example"], now());
        queue.close();
        drop(queue);
        killed_at(&state, &mut Journal::default(), "restore", 1, point);
        let queue = Queue::open(&state, load::small_options()).expect("open");
        let there = list(&queue, &Selector::default());
        let before = point == "restore-built";
        assert_eq!(there, if before { vec![ids[1], newer] } else { ids.clone() }, "{point}");
        for id in there {
            queue.content_reader(id).expect("whole");
        }
        queue.close();
        drop(queue);
        let verified = verify(&state, &mut |_| {}).expect("verified");
        assert_eq!(verified.problems, [], "{point}");
        let aside = std::fs::read_dir(&state).expect("state").filter(|entry| {
            entry.as_ref().expect("entry").file_name().to_string_lossy().starts_with("replaced-")
        });
        assert_eq!(aside.count(), usize::from(!before), "{point}: the old queue is kept");
    }
}
