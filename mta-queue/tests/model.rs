//! Any order of operations keeps the books right: the running totals, the numbers and due times of each destination, and
//! each message's open recipients always equal what the rows say, also after the queue was closed and opened again.

mod common;

use std::path::Path;
use std::time::{Duration, SystemTime};

use common::*;
use mta_queue::*;
use proptest::prelude::*;
use rusqlite::Connection;

/// One step.
#[derive(Debug, Clone)]
enum Step {
    /// Accepts a message for these destinations.
    Accept(Vec<u8>, bool),
    /// Claims so many and records these outcomes, in turn, for destinations that work, fail or say nothing.
    Deliver(usize, Vec<u8>, u8),
    /// Claims and lets go.
    Abandon(usize),
    Hold(u8),
    Release,
    Retry(u8),
    Drop(u8),
    /// Time goes on, in minutes.
    Wait(u8),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let destination = 0u8..4;
    let step = prop_oneof![
        4 => (prop::collection::vec(destination.clone(), 1..5), any::<bool>()).prop_map(|(d, large)| Step::Accept(d, large)),
        4 => (1usize..5, prop::collection::vec(0u8..4, 1..5), 0u8..3).prop_map(|(n, o, d)| Step::Deliver(n, o, d)),
        1 => (1usize..5).prop_map(Step::Abandon),
        1 => destination.clone().prop_map(Step::Hold),
        1 => Just(Step::Release),
        1 => destination.clone().prop_map(Step::Retry),
        1 => destination.prop_map(Step::Drop),
        2 => (0u8..30).prop_map(Step::Wait),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

fn domain(n: u8) -> String {
    format!("d{n}.example")
}

fn to(n: u8) -> Selector {
    Selector { destination: Some(domain(n)), ..Selector::default() }
}

fn bounded() -> Options {
    Options { history_messages: 3, inline_bytes: 500, ..options() }
}

fn deliver(queue: &Queue, at: SystemTime, limit: usize, outcomes: &[u8], destination: u8) {
    let claims = queue.claim(at, limit, &mut Plan::new(3)).expect("claim").claims;
    for claim in claims {
        assert!(!read(queue.content_reader(claim.message.id).expect("content")).is_empty());
        let later = at + Duration::from_secs(600);
        let mut what = record_of(&claim, at, RecipientOutcome::Delivered);
        for (result, outcome) in what.results.iter_mut().zip(outcomes.iter().cycle()) {
            result.outcome = match outcome {
                0 => RecipientOutcome::Delivered,
                1 => RecipientOutcome::Deferred { next_attempt_at: later },
                2 => RecipientOutcome::Failed,
                _ => RecipientOutcome::Expired,
            };
        }
        what.destination = match destination {
            0 => DestinationResult::Works,
            1 => DestinationResult::Failed { failures: 1, not_before: later },
            _ => DestinationResult::Unknown,
        };
        record(queue, claim, what).expect("recorded");
    }
}

/// Queries that must find nothing, each a broken rule.
const RULES: [(&str, &str); 9] = [
    (
        "totals of recipients",
        "SELECT 1 FROM totals WHERE
        waiting <> (SELECT count(*) FROM recipient WHERE state = 0)
        OR held <> (SELECT count(*) FROM recipient WHERE state = 1)
        OR damaged <> (SELECT count(*) FROM recipient WHERE state = 6)",
    ),
    (
        "totals of messages",
        "SELECT 1 FROM totals WHERE
        messages <> (SELECT count(*) FROM message WHERE finished_at IS NULL)
        OR finished <> (SELECT count(*) FROM message WHERE finished_at IS NOT NULL)
        OR content_bytes <> (SELECT ifnull(sum(size), 0) FROM message WHERE finished_at IS NULL)",
    ),
    (
        "open recipients",
        "SELECT 1 FROM message m WHERE
        open <> (SELECT count(*) FROM recipient r WHERE r.message = m.id AND r.state IN (0, 1, 6))",
    ),
    ("finished when none is open", "SELECT 1 FROM message WHERE (open = 0) <> (finished_at IS NOT NULL)"),
    (
        "numbers of destinations",
        "SELECT 1 FROM destination d WHERE
        waiting <> (SELECT count(*) FROM recipient r WHERE r.destination = d.id AND r.state = 0)
        OR held <> (SELECT count(*) FROM recipient r WHERE r.destination = d.id AND r.state IN (1, 6))",
    ),
    (
        "due times of destinations",
        "SELECT 1 FROM destination d WHERE due_at IS NOT
        max(not_before, (SELECT min(next_at) FROM recipient r WHERE r.destination = d.id AND r.state = 0))",
    ),
    (
        "every open recipient has its destination",
        "SELECT 1 FROM recipient r WHERE r.state IN (0, 1, 6)
        AND NOT EXISTS (SELECT 1 FROM destination d WHERE d.id = r.destination)",
    ),
    (
        "content of what is open and of nothing else",
        "SELECT 1 FROM message m WHERE
        (m.finished_at IS NULL) <> EXISTS (SELECT 1 FROM content c WHERE c.id = m.id)",
    ),
    (
        "recipients and attempts have their message",
        "SELECT 1 FROM recipient r
        WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.id = r.message)
        UNION ALL SELECT 1 FROM attempt a WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.id = a.message)",
    ),
];

fn check(directory: &Path) {
    let database = Connection::open(directory.join("queue.db")).expect("open");
    for (rule, query) in RULES {
        let broken = database.prepare(query).and_then(|mut found| found.exists([])).expect("query");
        assert!(!broken, "{rule}");
    }
}

fn run(steps: &[Step]) {
    let directory = tempfile::tempdir().expect("directory");
    let mut queue = Queue::open(directory.path(), bounded()).expect("open");
    let mut at = now();
    for step in steps {
        match step {
            Step::Accept(destinations, large) => {
                let names: Vec<String> =
                    destinations.iter().enumerate().map(|(n, d)| format!("u{n}@{}", domain(*d))).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let size = if *large { 2_000 } else { 20 };
                accept(&queue, message(&queue, &names, at, &vec![b'x'; size])).expect("accepted");
            }
            Step::Deliver(limit, outcomes, destination) => {
                deliver(&queue, at, *limit, outcomes, *destination)
            }
            Step::Abandon(limit) => drop(queue.claim(at, *limit, &mut Plan::new(3)).expect("claim")),
            Step::Hold(n) => drop(queue.hold(&to(*n), at).expect("hold")),
            Step::Release => drop(queue.release(&Selector::default(), at).expect("release")),
            Step::Retry(n) => drop(queue.retry(&to(*n), at).expect("retry")),
            Step::Drop(n) => drop(queue.drop_messages(&to(*n), at).expect("drop")),
            Step::Wait(minutes) => at += Duration::from_secs(60 * u64::from(*minutes)),
            Step::Reopen => {
                drop(queue);
                queue = Queue::open(directory.path(), bounded()).expect("reopen");
            }
        }
        check(directory.path());
    }
    let open = queue.reader().list(&Selector::default(), Page { after: None, limit: 1000 }).expect("list");
    let large = open.iter().filter(|listed| listed.message.size_bytes > 500).count();
    queue.close();
    let files = std::fs::read_dir(directory.path().join("content")).expect("directory").count();
    assert_eq!(files, large, "a file for each large message that is open, and no other");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_books_are_right_after_any_order_of_operations(steps in steps()) {
        run(&steps);
    }
}
