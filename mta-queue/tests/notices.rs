//! Notices of delay and the digest: each message is looked at once, told of once, and what is in hand is left alone.

mod common;

use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime};

use common::*;
use mta_queue::*;

fn give(queue: &Queue, about: QueueId, at: SystemTime) {
    let notice = message(queue, &["sender@example.org"], at, b"Subject: it waits\r\n\r\n");
    let (done, result) = channel();
    queue.give_notice(about, at, notice, move |r| done.send(r).expect("test waits"));
    result.recv().expect("answered").expect("stored");
}

fn found(walk: &Walk) -> Vec<QueueId> {
    walk.found.iter().map(|unnoticed| unnoticed.message.id).collect()
}

#[test]
fn the_walk_meets_each_waiting_message_once_and_a_notice_is_given_once() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    let at = now();
    let ids: Vec<QueueId> =
        ["one", "two", "three"].iter().map(|name| put(&queue, &[&format!("a@{name}.example")], at)).collect();
    let later = at + Duration::from_secs(5);
    let walk = queue.unnoticed(None, later).expect("walk");
    assert_eq!((found(&walk), walk.last, walk.more), (ids.clone(), Some(ids[2]), false));
    assert_eq!(queue.unnoticed(walk.last, later).expect("walk").found, []);

    // Delivered, in hand, told of: none of these is found any more.
    let mut claims = claim_all(&queue, later);
    assert_eq!(queue.unnoticed(None, later).expect("walk").found, [], "all are in hand");
    end(&queue, claims.remove(0), later, RecipientOutcome::Delivered);
    let held = claims.remove(0);
    drop(claims);
    let left = queue.unnoticed(None, later).expect("walk");
    assert_eq!(left.found.len(), 1);
    give(&queue, left.found[0].message.id, later);
    let accepted = queue.reader().counts().expect("counts").accepted_total;
    give(&queue, left.found[0].message.id, later);
    let counts = queue.reader().counts().expect("counts");
    assert_eq!(counts.accepted_total, accepted, "the second notice is not stored");
    assert_eq!(queue.unnoticed_message(held.message.id).expect("message"), None);
    let id = held.message.id;
    let again = RecipientOutcome::Deferred { next_attempt_at: later + MINUTE };
    end(&queue, held, later, again);
    let unnoticed = queue.unnoticed_message(id).expect("message").expect("it waits again");
    assert_eq!(unnoticed.decision.as_deref(), Some(r#"{"version":1}"#));
    assert_eq!(unnoticed.recipients[0].last_reply.as_deref(), Some("250 2.0.0 said the test"));
}

#[test]
fn what_arrives_later_is_announced_and_not_found() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    let before = SystemTime::now() - Duration::from_secs(1);
    let at = now();
    put(&queue, &["a@one.example"], at);
    let walk = queue.unnoticed(None, before).expect("walk");
    assert_eq!((walk.found, walk.last, walk.next_arrival), (Vec::new(), None, Some(at)));
}

#[test]
fn the_digest_keeps_counts_and_a_bounded_number_of_samples() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    let at = now();
    assert_eq!(queue.pending_digest().expect("digest"), None);
    let failed = |count: usize, at| {
        let id = put(&queue, &["a@one.example"], at);
        let claim = claim_all(&queue, at).remove(0);
        let unreported = Unreported {
            message: id,
            reverse_path: "<>".to_owned(),
            recipient: "a'\"@one.example".to_owned(),
            status: "5.1.1".to_owned(),
            reason: "r".repeat(100_000),
        };
        let unreported = vec![unreported; count];
        let record_of = AttemptRecord { unreported, ..record_of(&claim, at, RecipientOutcome::Failed) };
        record(&queue, claim, record_of).expect("recorded");
    };
    failed(30, at);
    failed(30, at + MINUTE);
    let pending = queue.pending_digest().expect("digest").expect("something waits");
    assert_eq!((pending.count, pending.since, pending.samples.len()), (60, at, notice::MAX_SAMPLES));
    assert!(pending.samples[0].1.reason.len() <= options().max_reply_bytes);
    assert_eq!(pending.samples[0].1.recipient, "a'\"@one.example");

    failed(1, at + 2 * MINUTE);
    let digest = message(&queue, &["postmaster@example.org"], at, b"Subject: digest\r\n\r\n");
    let (done, result) = channel();
    queue.store_digest(pending.count, at + 3 * MINUTE, digest, move |r| done.send(r).expect("test waits"));
    result.recv().expect("answered").expect("stored");
    let pending = queue.pending_digest().expect("digest").expect("what came meanwhile");
    assert_eq!((pending.count, pending.since), (1, at + 3 * MINUTE));
}
