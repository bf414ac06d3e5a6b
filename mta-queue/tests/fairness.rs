//! Fairness between destinations, by the order of claims: whatever waits, and however much of it, each destination has
//! its turn.

mod common;

use std::time::{Duration, SystemTime};

use common::*;
use mta_queue::*;

fn open() -> (tempfile::TempDir, Queue) {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    (directory, queue)
}

/// As with a single slot: claims one, delivers it, claims the next.
fn serve_one(queue: &Queue, at: SystemTime) -> Option<String> {
    let mut claims = queue.claim(at, 1, &mut Plan::new(5)).expect("claim").claims;
    assert!(claims.len() <= 1);
    let claim = claims.pop()?;
    let next_hop = claim.next_hop.clone();
    end(queue, claim, now(), RecipientOutcome::Delivered);
    Some(next_hop)
}

#[test]
fn a_destination_with_very_many_messages_never_keeps_one_with_a_single_message_waiting() {
    let (_directory, queue) = open();
    for n in 0..300 {
        put(&queue, &[&format!("u{n}@big.example")], now() - MINUTE);
    }
    for _ in 0..10 {
        assert_eq!(serve_one(&queue, now() + MINUTE).as_deref(), Some("big.example"));
    }
    put(&queue, &["a@small.example"], now());
    let order: Vec<_> = (0..3).filter_map(|_| serve_one(&queue, now() + MINUTE)).collect();
    assert!(order.contains(&"small.example".to_owned()), "{order:?}");
    assert_eq!(serve_one(&queue, now() + MINUTE).as_deref(), Some("big.example"), "and it goes on");
}

#[test]
fn many_backlogs_share_one_slot_and_a_newcomer_has_its_turn_in_one_round() {
    let (_directory, queue) = open();
    for n in 0..6 {
        let recipients: Vec<String> = (0..40).map(|d| format!("u{n}@backlog{d}.example")).collect();
        let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
        put(&queue, &recipients, now() - MINUTE);
    }
    let first: std::collections::HashSet<_> =
        (0..40).filter_map(|_| serve_one(&queue, now() + MINUTE)).collect();
    assert_eq!(first.len(), 40, "one each before anybody has two");
    put(&queue, &["a@new.example"], now());
    let mut order = (0..41).filter_map(|_| serve_one(&queue, now() + MINUTE));
    assert!(order.any(|name| name == "new.example"));
}

#[test]
fn an_endless_stream_of_new_destinations_does_not_starve_the_old_ones() {
    let (_directory, queue) = open();
    for n in 0..20 {
        put(&queue, &[&format!("u{n}@old.example")], now() - MINUTE);
    }
    let mut old = 0;
    for n in 0..40 {
        let second = now() + Duration::from_secs(n);
        put(&queue, &[&format!("a@new{n}.example")], second);
        old += usize::from(serve_one(&queue, second).as_deref() == Some("old.example"));
    }
    assert!(old >= 5, "{old} of 40 turns");
}

#[test]
fn thousands_of_destinations_behind_a_busy_next_hop_hide_nobody() {
    let (_directory, queue) = open();
    let mut plan = Plan::new(1);
    for n in 0..6 {
        let names: Vec<String> = (0..900).map(|d| format!("u@d{n}x{d}.example")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        put(&queue, &names, now() - MINUTE);
        plan.relays.extend(names.iter().map(|name| (name[2..].to_owned(), "relay".to_owned())));
    }
    put(&queue, &["a@elsewhere.example"], now());
    plan.in_hand.insert("relay".into(), 1);
    let mut calls = 0;
    let found = loop {
        calls += 1;
        let claimed = queue.claim(now() + MINUTE, 10, &mut plan).expect("claim");
        if !claimed.claims.is_empty() {
            break claimed.claims;
        }
        assert!(claimed.unfinished, "it says that there is more to look at");
        assert!(calls < 5);
    };
    assert_eq!(found[0].next_hop, "elsewhere.example");
    // When all were looked at in vain, it does not ask to be called again at once.
    let mut calls = 0;
    while queue.claim(now() + MINUTE, 10, &mut plan).expect("claim").unfinished {
        calls += 1;
        assert!(calls < 5);
    }
}
