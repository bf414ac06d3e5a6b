//! What size must not change: large messages beside small ones, a long queue, a flood that has passed. By counting, never by
//! the clock.

mod common;

use std::path::Path;
use std::sync::mpsc::channel;

use common::*;
use mta_queue::*;

#[test]
fn a_large_message_holds_up_no_small_one() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    // It arrives all the while: its session is somewhere in its 25 MB.
    let mut large = queue.content();
    let piece = vec![b'x'; 1 << 20];
    for n in 0..25 {
        std::io::Write::write_all(&mut large, &piece).expect("write");
        put(&queue, &[&format!("small{n}@one.example")], now());
    }
    let before = queue.statistics();
    let large = large.finish().expect("finish");
    assert_eq!(queue.statistics().full_commits, before.full_commits, "its sync is not the writer's");
    put(&queue, &["small@one.example"], now());
    let mut one = message(&queue, &["large@one.example"], now(), b"");
    one.content = large;
    accept(&queue, one).expect("accepted");
    let statistics = queue.statistics();
    assert!(statistics.content_bytes >= 25 << 20);
    assert!(statistics.log_bytes < 5 << 20, "no octet of it went through the log: {}", statistics.log_bytes);
}

#[test]
fn what_waits_while_a_commit_runs_is_committed_together() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    let (done, answers) = channel();
    let (go, wait) = channel::<()>();
    let first = message(&queue, &["first@one.example"], now(), b"x");
    // The writer is held in the answer to the first one while the others come.
    queue.accept(first, move |result| {
        result.expect("accepted");
        wait.recv().expect("go on");
    });
    for n in 0..50 {
        let done = done.clone();
        let one = message(&queue, &[&format!("user{n}@one.example")], now(), b"x");
        queue.accept(one, move |result| done.send(result).expect("waits"));
    }
    let before = queue.statistics();
    go.send(()).expect("the writer waits");
    for _ in 0..50 {
        answers.recv().expect("answered").expect("accepted");
    }
    assert!(queue.statistics().full_commits <= before.full_commits + 2, "{:?}", queue.statistics());
}

/// Octets of the files of the database.
fn size(directory: &Path) -> u64 {
    ["queue.db", "queue.db-wal"]
        .iter()
        .map(|name| std::fs::metadata(directory.join(name)).map_or(0, |metadata| metadata.len()))
        .sum()
}

#[test]
fn the_log_is_bounded_and_shrinks_again_after_a_flood() {
    let directory = tempfile::tempdir().expect("directory");
    let small = Options { wal_bytes: 256 << 10, history_messages: 10, ..options() };
    let queue = Queue::open(directory.path(), small).expect("open");
    let log = directory.path().join("queue.db-wal");
    let mut longest = 0;
    for _ in 0..20 {
        let (done, answers) = channel();
        for _ in 0..40 {
            let done = done.clone();
            let one = message(&queue, &["a@one.example"], now(), &[b'x'; 30_000]);
            queue.accept(one, move |result| done.send(result).expect("waits"));
        }
        (0..40).for_each(|_| answers.recv().expect("answered").expect("accepted"));
        longest = longest.max(std::fs::metadata(&log).expect("log").len());
    }
    assert!(longest < 8 << 20, "a batch and a little more: {longest}");
    let flooded = size(directory.path());
    assert!(flooded > 24_000_000, "{flooded}");
    for claim in claim_all(&queue, now()) {
        end(&queue, claim, now(), RecipientOutcome::Delivered);
    }
    // Ordinary traffic gives the space back, a little with every so many commits.
    let mut commits = 0;
    while size(directory.path()) > flooded / 2 && commits < 20_000 {
        put(&queue, &["b@one.example"], now());
        for claim in claim_all(&queue, now()) {
            end(&queue, claim, now(), RecipientOutcome::Delivered);
        }
        commits += 2;
    }
    assert!(size(directory.path()) <= flooded / 2, "after {commits} commits: {}", size(directory.path()));
}

/// How many octets the calls of `act` read from files, in this thread's process.
fn octets_read(act: impl FnOnce()) -> u64 {
    let read = || {
        let io = std::fs::read_to_string("/proc/thread-self/io").expect("counters");
        let line = io.lines().find(|line| line.starts_with("rchar:")).expect("rchar");
        line.split(' ').nth(1).and_then(|text| text.parse::<u64>().ok()).expect("a number")
    };
    let before = read();
    act();
    read() - before
}

#[test]
fn opening_and_looking_for_work_read_no_more_of_a_long_queue() {
    let cost = |messages: usize| {
        let directory = tempfile::tempdir().expect("directory");
        let queue = Queue::open(directory.path(), options()).expect("open");
        let (done, answers) = channel();
        for n in 0..messages {
            let done = done.clone();
            let mut one = message(&queue, &[&format!("u@d{}.example", n % 50)], now(), &[b'x'; 500]);
            one.received_at = now() + 600 * MINUTE;
            queue.accept(one, move |result| done.send(result).expect("waits"));
        }
        (0..messages).for_each(|_| answers.recv().expect("answered").expect("accepted"));
        put(&queue, &["due@one.example"], now());
        queue.close();
        drop(queue);
        octets_read(|| {
            let queue = Queue::open(directory.path(), options()).expect("open");
            assert_eq!(claim_all(&queue, now()).len(), 1);
            queue.reader().counts().expect("counts");
            queue.reader().destinations(20).expect("destinations");
        })
    };
    // A tree of the database grows by a level now and then, and by no more.
    let (short, long) = (cost(1_000), cost(6_000));
    assert!(long < short + short / 4, "{short} octets are read of a short queue, {long} of a long one");
}

#[test]
fn who_asked_hears_once_when_space_runs_short() {
    use std::sync::{Arc, Mutex};

    let directory = tempfile::tempdir().expect("directory");
    let greedy = Options { reserve_bytes: u64::MAX / 4, ..options() };
    let queue = Queue::open(directory.path(), greedy).expect("open");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    queue.on_space(Arc::new(move |short| told.lock().expect("alive").push(short)));
    for _ in 0..3 {
        assert_eq!(queue.check_space(0), Err(QueueError::NoSpace));
    }
    assert_eq!(*heard.lock().expect("alive"), [true]);
}
