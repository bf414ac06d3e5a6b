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
    assert!(shown.attempts.is_empty());
    assert!(shown.listed.recipients[0].last_reply.is_some(), "and yet one can see why");
    let again = claim_all(&queue, now() + 2 * MINUTE);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].recipients[0].attempts, 0);
}
