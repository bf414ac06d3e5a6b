//! What was put off for a fault of our own site counts for nothing.

mod common;

use common::*;
use mta_queue::*;

#[test]
fn what_is_put_off_is_due_later_and_no_attempt_was_made() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    let id = put(&queue, &["a@one.example"], now());
    for claim in claim_all(&queue, now()) {
        end(&queue, claim, now(), RecipientOutcome::PutOff { next_attempt_at: now() + MINUTE });
    }
    assert!(claim_all(&queue, now()).is_empty());
    let shown = queue.reader().show(id).expect("show").expect("there");
    assert_eq!(shown.listed.recipients[0].attempts, 0);
    assert_eq!((shown.attempts.len(), shown.attempts[0].times), (1, 1));
    assert_eq!(shown.attempts[0].results[0].outcome, "put-off");
    assert!(shown.attempts[0].decision.is_some());
    assert!(shown.listed.recipients[0].last_reply.is_some(), "and yet one can see why");
    let again = claim_all(&queue, now() + 2 * MINUTE);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].recipients[0].attempts, 0);
}

#[test]
fn an_outage_of_days_is_one_row_of_the_history() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    let id = put(&queue, &["a@one.example"], now());
    let mut at = now();
    let mut step = |outcome: &dyn Fn(std::time::SystemTime) -> RecipientOutcome| {
        for claim in claim_all(&queue, at) {
            end(&queue, claim, at, outcome(at + MINUTE));
        }
        at += 2 * MINUTE;
    };
    let put_off = |next_attempt_at| RecipientOutcome::PutOff { next_attempt_at };
    let deferred = |next_attempt_at| RecipientOutcome::Deferred { next_attempt_at };
    step(&deferred);
    (0..30).for_each(|_| step(&put_off));
    step(&deferred);
    (0..2).for_each(|_| step(&put_off));
    let shown = queue.reader().show(id).expect("show").expect("there");
    let rows: Vec<(u32, bool)> =
        shown.attempts.iter().map(|row| (row.times, row.first_at.is_some())).collect();
    assert_eq!(rows, [(1, false), (30, true), (1, false), (2, true)]);
    let outage = &shown.attempts[1];
    assert_eq!(outage.at.duration_since(outage.first_at.expect("known")).expect("later"), 58 * MINUTE);
    assert_eq!(shown.listed.recipients[0].attempts, 2, "what was put off is not counted");
}
