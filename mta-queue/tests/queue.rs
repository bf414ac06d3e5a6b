//! The queue from outside: what is accepted, claimed, recorded and shown, and what survives closing it.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use common::*;
use mta_queue::*;
use mta_smtp::address::ReversePath;
use mta_smtp::envelope::{Body, Envelope, HeaderFacts, MailParameters, Notify, Recipient, Ret};

fn open() -> (tempfile::TempDir, Queue) {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    (directory, queue)
}

#[test]
fn envelope_and_content_come_back_as_they_were() {
    let (directory, queue) = open();
    let recipient = |text: &str, notify: Option<&str>, orcpt: Option<&str>| Recipient {
        mailbox: mailbox(text),
        notify: notify.map(|text| Notify::parse(text).expect("notify")),
        orcpt: orcpt.map(str::to_owned),
    };
    let recipients = vec![
        recipient("\"odd \\\" one\"@example.net", Some("SUCCESS,DELAY"), Some("rfc822;a b@example.com")),
        recipient("p\u{f6}st@ex\u{e4}mple.net", Some("NEVER"), None),
        recipient("x'; DROP TABLE message --@[192.0.2.1]".replace(['\'', ';', ' '], "").as_str(), None, None),
    ];
    let parameters = MailParameters {
        size_bytes: None,
        body: Body::EightBitMime,
        smtputf8: true,
        require_tls: true,
        ret: Some(Ret::Headers),
        envid: Some("id'\";--".to_owned()),
        header: HeaderFacts { eight_bit: true, tls_required_no: true },
    };
    let envelope = Envelope {
        reverse_path: ReversePath::parse("<\"a b\"@example.org>").expect("path"),
        parameters: parameters.clone(),
        recipients: recipients.clone(),
    };
    let origin = Origin {
        message_id: Some("1@example.org".into()),
        kind: OriginKind::Submission,
        client: Some("2001:db8::1".parse().expect("address")),
        helo: Some("client.example".to_owned()),
        user: Some("anna".to_owned()),
        tls: None,
        auth: Some("spf=pass,dkim=none".to_owned()),
        about: None,
    };
    let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    for size in [0, 1, 65_536, 65_537, 200_000] {
        let message = NewMessage {
            id: queue.new_id(),
            envelope: envelope.clone(),
            received_at: now(),
            origin: origin.clone(),
            content: content(&queue, &bytes[..size]),
            hold: None,
        };
        let id = accept(&queue, message).expect("accepted");
        assert_eq!(read(queue.content_reader(id).expect("content")), &bytes[..size]);
    }
    queue.close();
    drop(queue);
    let queue = Queue::open(directory.path(), options()).expect("reopen");
    let claims = claim_all(&queue, now());
    assert_eq!(claims.len(), 15, "five messages, three destinations each");
    for claim in &claims {
        assert_eq!(claim.message.reverse_path, envelope.reverse_path);
        assert_eq!(claim.message.parameters, parameters);
        assert_eq!(claim.message.origin, origin);
        assert!(recipients.contains(&claim.recipients[0].recipient));
        let whole = read(queue.content_reader(claim.message.id).expect("content"));
        assert_eq!(whole, &bytes[..claim.message.size_bytes as usize]);
    }
}

#[test]
fn recipients_of_one_next_hop_come_in_one_claim() {
    let (_directory, queue) = open();
    put(&queue, &["a@one.example", "b@two.example", "c@ONE.example", "d@three.example"], now());
    let mut plan = Plan::new(10);
    plan.relays.insert("two.example".to_owned(), "one.example".to_owned());
    let claimed = queue.claim(now(), 10, &mut plan).expect("claim");
    let mut groups: Vec<Vec<String>> = claimed
        .claims
        .iter()
        .map(|claim| claim.recipients.iter().map(|r| r.recipient.mailbox.to_string()).collect())
        .collect();
    groups.sort();
    assert_eq!(groups, [vec!["a@one.example", "b@two.example", "c@one.example"], vec!["d@three.example"]]);
    assert!(claim_all(&queue, now()).is_empty(), "what is in hand is not claimed again");
    drop(claimed);
    assert_eq!(claim_all(&queue, now()).len(), 3, "what was let go is due again");
}

/// A planner whose routes change at every question, as when the configuration is read anew.
struct Fickle(u32);

impl Planner for Fickle {
    type NextHop = u32;

    fn next_hop(&mut self, _: &str) -> u32 {
        self.0 += 1;
        self.0
    }

    fn slot(&mut self, _: &u32, _: Due<'_>) -> Slot {
        Slot::Take { room: 10, in_hand: 0 }
    }

    fn claimed(&mut self, _: &u32) {}
}

#[test]
fn routes_that_change_meanwhile_damage_nothing() {
    let (_directory, queue) = open();
    put(&queue, &["a@one.example", "b@two.example"], now());
    assert_eq!(queue.claim(now(), 10, &mut Fickle(0)).expect("claim").claims.len(), 2);
    assert_eq!(claim_all(&queue, now()).len(), 2);
    assert_eq!(queue.reader().counts().expect("counts").damaged, 0);
}

#[test]
fn a_hundred_recipients_at_most_are_in_a_claim_and_the_rest_follows() {
    let (_directory, queue) = open();
    let names: Vec<String> = (0..250).map(|n| format!("user{n}@one.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    put(&queue, &names, now());
    let sizes: Vec<usize> = claim_all(&queue, now()).iter().map(|claim| claim.recipients.len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
}

#[test]
fn work_is_shared_between_destinations_and_a_full_one_holds_up_nobody() {
    let (_directory, queue) = open();
    for n in 0..50 {
        put(&queue, &[&format!("u{n}@big.example")], now() - MINUTE);
    }
    put(&queue, &["a@small.example"], now());
    let mut plan = Plan::new(5);
    let first = queue.claim(now(), 4, &mut plan).expect("claim");
    assert!(first.more);
    assert!(
        first.claims.iter().any(|claim| claim.next_hop == "small.example"),
        "the small one is among the first"
    );
    let second = queue.claim(now(), 100, &mut plan).expect("claim");
    assert_eq!(second.claims.len(), 2, "big.example is at its limit then");
    assert!(second.more, "and has more");
    put(&queue, &["b@later.example"], now());
    let third = queue.claim(now(), 1, &mut plan).expect("claim");
    assert_eq!(third.claims.len(), 1);
    assert_eq!(third.claims[0].next_hop, "later.example");
}

#[test]
fn a_deferred_recipient_waits_for_its_time_and_the_next_due_time_is_known() {
    let (_directory, queue) = open();
    let start = now();
    put(&queue, &["a@one.example", "b@two.example"], start);
    for claim in claim_all(&queue, start) {
        let wait = if claim.next_hop == "one.example" { MINUTE } else { 5 * MINUTE };
        end(&queue, claim, start, RecipientOutcome::Deferred { next_attempt_at: start + wait });
    }
    let idle = queue.claim(start, 10, &mut Plan::new(10)).expect("claim");
    assert!(idle.claims.is_empty() && !idle.more);
    assert_eq!(idle.next_due, Some(start + MINUTE));
    let one = queue.claim(start + MINUTE, 10, &mut Plan::new(10)).expect("claim");
    assert_eq!(one.claims.len(), 1);
    assert_eq!(one.claims[0].recipients[0].attempts, 1);
    assert_eq!(one.next_due, Some(start + 5 * MINUTE));
}

#[test]
fn work_that_falls_due_behind_something_in_hand_is_not_forgotten() {
    let (_directory, queue) = open();
    let start = now();
    put(&queue, &["a@one.example"], start);
    let claim = claim_all(&queue, start).remove(0);
    end(&queue, claim, start, RecipientOutcome::Deferred { next_attempt_at: start + MINUTE });
    put(&queue, &["b@one.example"], start);
    let claimed = queue.claim(start, 10, &mut Plan::new(10)).expect("claim");
    assert_eq!(claimed.claims.len(), 1);
    assert_eq!(claimed.next_due, Some(start + MINUTE), "although its destination has something in hand");
}

#[test]
fn a_failed_destination_moves_all_that_waits_for_it() {
    let (_directory, queue) = open();
    let start = now();
    for n in 0..20 {
        put(&queue, &[&format!("u{n}@down.example"), &format!("u{n}@up.example")], start);
    }
    let mut plan = Plan::new(1);
    let claimed = queue.claim(start, 2, &mut plan).expect("claim");
    for claim in claimed.claims {
        let down = claim.next_hop == "down.example";
        let later = start + 10 * MINUTE;
        let outcome = if down {
            RecipientOutcome::Deferred { next_attempt_at: later }
        } else {
            RecipientOutcome::Delivered
        };
        let mut what = record_of(&claim, start, outcome);
        what.destination = if down {
            DestinationResult::Failed { failures: 1, not_before: later }
        } else {
            DestinationResult::Works
        };
        record(&queue, claim, what).expect("recorded");
    }
    let claimed = claim_all(&queue, start + 9 * MINUTE);
    assert_eq!(claimed.len(), 19);
    assert!(claimed.iter().all(|claim| claim.next_hop == "up.example"));
    drop(claimed);
    let later = claim_all(&queue, start + 10 * MINUTE);
    let mut down = later.into_iter().filter(|claim| claim.next_hop == "down.example");
    let claim = down.next().expect("due again");
    assert_eq!(claim.recipients[0].destination_failures, 1);
    assert_eq!(claim.recipients[0].last_reply.as_deref(), Some("250 2.0.0 said the test"));
    assert_eq!(down.count(), 19);
    let mut what = record_of(&claim, start, RecipientOutcome::Delivered);
    what.destination = DestinationResult::Works;
    record(&queue, claim, what).expect("recorded");
    assert_eq!(
        claim_all(&queue, start).len(),
        37,
        "everything is due by its own time, all but the one that was tried"
    );
}

#[test]
fn a_new_message_to_a_failed_destination_waits_with_the_others() {
    let (_directory, queue) = open();
    let start = now();
    put(&queue, &["a@down.example"], start);
    let claim = claim_all(&queue, start).remove(0);
    let later = start + 10 * MINUTE;
    let mut what = record_of(&claim, start, RecipientOutcome::Deferred { next_attempt_at: later });
    what.destination = DestinationResult::Failed { failures: 1, not_before: later };
    record(&queue, claim, what).expect("recorded");
    put(&queue, &["b@down.example"], start + MINUTE);
    assert!(claim_all(&queue, start + MINUTE).is_empty());
    assert_eq!(claim_all(&queue, later).len(), 2);
}

#[test]
fn a_postponed_next_hop_is_written_down_and_not_asked_about_again() {
    let (_directory, queue) = open();
    let start = now();
    for n in 0..30 {
        put(&queue, &[&format!("a@d{n}.example")], start);
    }
    let mut plan = Plan::new(10);
    for n in 0..30 {
        plan.relays.insert(format!("d{n}.example"), "relay".to_owned());
    }
    plan.not_before.insert("relay".to_owned(), start + 10 * MINUTE);
    let claimed = queue.claim(start, 10, &mut plan).expect("claim");
    assert!(claimed.claims.is_empty());
    // The writer works in order: this accept comes after the postponing.
    put(&queue, &["a@else.example"], start);
    plan.asked = 0;
    let claimed = queue.claim(start + MINUTE, 10, &mut plan).expect("claim");
    assert_eq!((claimed.claims.len(), claimed.next_due), (1, Some(start + 10 * MINUTE)));
    assert!(plan.asked < 5, "asked about {} destinations", plan.asked);
    drop(claimed);
    assert_eq!(queue.retry(&Selector::default(), start), Ok(31));
    assert_eq!(claim_all(&queue, start).len(), 31, "a retry by hand waits for nothing");
}

#[test]
fn what_is_over_is_found_oldest_first_whether_due_or_not() {
    let (_directory, queue) = open();
    let start = now();
    let late = start + 60 * MINUTE;
    let old = put(&queue, &["a@down.example", "b@down.example", "c@else.example"], start);
    let claim = claim_all(&queue, start).into_iter().find(|c| c.next_hop == "down.example").expect("claim");
    end(&queue, claim, start, RecipientOutcome::Deferred { next_attempt_at: late });
    assert!(queue.claim_older("down.example", start, 10, &()).expect("none is older").is_empty());
    assert!(queue.claim_older("unknown.example", late, 10, &()).expect("no such").is_empty());
    let over = queue.claim_older("down.example", start + MINUTE, 10, &()).expect("claim");
    assert_eq!(over.len(), 1);
    assert_eq!((over[0].message.id, over[0].recipients.len()), (old, 2));
    assert!(queue.claim_older("down.example", start + MINUTE, 10, &()).expect("in hand").is_empty());
    put(&queue, &["d@down.example"], start);
    let next = queue.claim_older("down.example", start + MINUTE, 1, &()).expect("behind what is in hand");
    assert_eq!(next.len(), 1);
}

#[test]
fn a_delivered_message_becomes_history_and_its_content_goes() {
    let (directory, queue) = open();
    let start = now();
    let id = accept(&queue, message(&queue, &["a@one.example"], start, &[b'x'; 100_000])).expect("accepted");
    let files = || std::fs::read_dir(directory.path().join("content")).expect("directory").count();
    assert_eq!(files(), 1);
    let claim = claim_all(&queue, start).remove(0);
    end(&queue, claim, start, RecipientOutcome::Delivered);
    assert!(claim_all(&queue, start + 60 * MINUTE).is_empty());
    let shown = queue.reader().show(id).expect("show").expect("in history");
    assert_eq!(shown.listed.finished_at, Some(start));
    assert_eq!(shown.listed.recipients[0].state, RecipientState::Delivered);
    assert_eq!(shown.attempts.len(), 1);
    assert_eq!(shown.attempts[0].decision.as_deref(), Some(r#"{"version":1}"#));
    assert_eq!(shown.attempts[0].results[0].outcome, "delivered");
    assert!(list(&queue, &Selector::default()).is_empty(), "it is no longer in the queue");
    assert_eq!(list(&queue, &Selector { finished: true, ..Selector::default() }), [id]);
    assert!(matches!(queue.content_reader(id), Err(QueueError::Invalid(_))));
    queue.close();
    assert_eq!(files(), 0);
    let counts = queue.reader().counts().expect("counts");
    assert_eq!((counts.messages, counts.content_bytes, counts.waiting), (0, 0, 0));
    assert_eq!((counts.accepted_total, counts.delivered_total, counts.finished), (1, 1, 1));
    assert!(queue.reader().destinations(10).expect("destinations").is_empty(), "nothing waits");
}

#[test]
fn history_is_bounded() {
    let directory = tempfile::tempdir().expect("directory");
    let bounded = Options { history_messages: 5, attempts_kept: 3, ..options() };
    let queue = Queue::open(directory.path(), bounded).expect("open");
    let start = now();
    let id = put(&queue, &["a@slow.example"], start);
    for n in 1..=10 {
        let at = start + n * MINUTE;
        let claim = claim_all(&queue, at).remove(0);
        end(&queue, claim, at, RecipientOutcome::Deferred { next_attempt_at: at + MINUTE });
    }
    let attempts = queue.reader().show(id).expect("show").expect("there").attempts;
    let minutes: Vec<u64> = attempts
        .iter()
        .map(|attempt| attempt.at.duration_since(start).expect("later").as_secs() / 60)
        .collect();
    assert_eq!(minutes, [1, 9, 10], "the first and the latest");
    for n in 0..20 {
        put(&queue, &[&format!("u{n}@fast.example")], start);
    }
    for claim in claim_all(&queue, start) {
        end(&queue, claim, start, RecipientOutcome::Delivered);
    }
    let finished = Selector { finished: true, state: Some(RecipientState::Delivered), ..Selector::default() };
    assert_eq!(list(&queue, &finished).len(), 5);
    assert_eq!(queue.reader().counts().expect("counts").finished, 5);
    assert_eq!(list(&queue, &Selector::default()), [id], "what waits is no history");
}

#[test]
fn a_notification_enters_with_the_record_that_caused_it() {
    let (_directory, queue) = open();
    let start = now();
    put(&queue, &["a@one.example"], start);
    let claim = claim_all(&queue, start).remove(0);
    let notification = message(&queue, &["sender@example.org"], start, b"it failed");
    let id = notification.id;
    let mut what = record_of(&claim, start, RecipientOutcome::Failed);
    what.notifications.push(notification);
    record(&queue, claim, what).expect("recorded");
    let claims = claim_all(&queue, start);
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].message.id, id);
    assert_eq!(queue.reader().counts().expect("counts").failed_total, 1);
}

#[test]
fn a_record_that_cannot_be_written_as_a_whole_is_not_written_in_part() {
    let (_directory, queue) = open();
    let start = now();
    let id = put(&queue, &["a@one.example"], start);
    let claim = claim_all(&queue, start).remove(0);
    let mut notification = message(&queue, &["sender@example.org"], start, b"it failed");
    notification.id = id;
    let mut what = record_of(&claim, start, RecipientOutcome::Failed);
    what.notifications.push(notification);
    assert_eq!(record(&queue, claim, what), Err(QueueError::Invalid("the queue id is taken")));
    let counts = queue.reader().counts().expect("counts");
    assert_eq!((counts.waiting, counts.failed_total, counts.accepted_total), (1, 0, 1));
    assert_eq!(claim_all(&queue, start).len(), 1, "and the recipient is due again");
}

#[test]
fn bad_messages_are_refused_alone() {
    let (directory, queue) = open();
    assert!(matches!(accept(&queue, message(&queue, &[], now(), b"x")), Err(QueueError::Invalid(_))));
    let id = put(&queue, &["a@one.example"], now());
    let mut again = message(&queue, &["b@one.example"], now(), &[b'x'; 100_000]);
    again.id = id;
    assert_eq!(accept(&queue, again), Err(QueueError::Invalid("the queue id is taken")));
    assert_eq!(std::fs::read_dir(directory.path().join("content")).expect("directory").count(), 0);
    assert_eq!(list(&queue, &Selector::default()), [id]);
}

#[test]
fn nobody_else_reads_the_files() {
    use std::os::unix::fs::PermissionsExt;

    let (directory, queue) = open();
    put(&queue, &["a@one.example"], now());
    accept(&queue, message(&queue, &["a@one.example"], now(), &[b'x'; 100_000])).expect("large");
    let mut files = 0;
    for folder in [directory.path().to_owned(), directory.path().join("content")] {
        for entry in std::fs::read_dir(folder).expect("directory") {
            let entry = entry.expect("entry");
            if entry.file_type().expect("type").is_file() {
                let mode = entry.metadata().expect("metadata").permissions().mode();
                assert_eq!(mode & 0o077, 0, "{:?} {mode:o}", entry.path());
                files += 1;
            }
        }
    }
    assert_eq!(files, 5, "database, log, index of the log, lock, content");
}

#[test]
fn where_space_is_short_what_left_the_queue_gives_its_space_back() {
    let (directory, queue) = open();
    let ids: Vec<_> = (0..60)
        .map(|_| {
            let message = message(&queue, &["a@one.example"], now(), &[b'x'; 40_000]);
            let id = message.id;
            accept(&queue, message).expect("accepted");
            id
        })
        .collect();
    queue.close();
    drop(queue);
    let size = || std::fs::metadata(directory.path().join("queue.db")).expect("database").len();
    let before = size();
    let short = Options { reserve_bytes: u64::MAX, ..options() };
    let queue = Queue::open(directory.path(), short).expect("open");
    let all = Selector { ids, ..Selector::default() };
    assert_eq!(queue.drop_messages(&all, now()), Ok(60));
    queue.close();
    drop(queue);
    assert!(before > 2_000_000 && size() < before / 4, "{before} became {}", size());
}

#[test]
fn the_reserve_is_kept_free() {
    let directory = tempfile::tempdir().expect("directory");
    let queue =
        Queue::open(directory.path(), Options { reserve_bytes: u64::MAX, ..options() }).expect("open");
    assert_eq!(queue.check_space(0), Err(QueueError::NoSpace));
    assert_eq!(accept(&queue, message(&queue, &["a@one.example"], now(), b"x")), Err(QueueError::NoSpace));
    assert!(list(&queue, &Selector::default()).is_empty());
}

#[test]
fn a_second_daemon_is_refused_and_a_reader_is_not() {
    let (directory, queue) = open();
    let id = put(&queue, &["a@one.example"], now());
    assert!(matches!(Queue::open(directory.path(), options()), Err(OpenError::InUse { .. })));
    let beside = Reader::open(directory.path()).expect("reader");
    assert!(beside.show(id).expect("show").is_some());
    drop(queue);
    let alone = Reader::open(directory.path()).expect("reader");
    assert_eq!(read(alone.content(id).expect("content").expect("there")), b"Subject: test\r\n\r\ntext\r\n");
    assert_eq!(alone.counts().expect("counts").waiting, 1);
    let empty = tempfile::tempdir().expect("directory");
    assert!(matches!(Reader::open(empty.path()), Err(OpenError::Missing { .. })));
    assert_eq!(std::fs::read_dir(empty.path()).expect("directory").count(), 0, "reading makes nothing");
}

#[test]
fn a_closed_queue_says_so() {
    let (_directory, queue) = open();
    let message = message(&queue, &["a@one.example"], now(), b"x");
    queue.close();
    queue.close();
    assert_eq!(accept(&queue, message), Err(QueueError::Closed));
    assert_eq!(queue.retry(&Selector { finished: true, ..Selector::default() }, now()), Ok(0));
}

#[test]
fn waiting_accepts_share_a_commit_and_results_alone_are_not_synced() {
    let (_directory, queue) = open();
    put(&queue, &["warm@up.example"], now());
    let before = queue.statistics();
    // The first accept blocks the writer in its callback until all others wait behind it.
    let gate = Arc::new(Barrier::new(2));
    let behind = Arc::clone(&gate);
    let (entered, blocked) = channel();
    queue.accept(message(&queue, &["a@one.example"], now(), b"x"), move |result| {
        result.expect("accepted");
        entered.send(()).expect("test waits");
        behind.wait();
    });
    blocked.recv().expect("the writer is in the callback");
    let (done, results) = channel();
    for n in 0..50 {
        let done = done.clone();
        let one = message(&queue, &[&format!("u{n}@one.example")], now(), b"x");
        queue.accept(one, move |result| done.send(result).expect("test waits"));
    }
    gate.wait();
    for _ in 0..50 {
        results.recv().expect("answered").expect("accepted");
    }
    let after = queue.statistics();
    assert_eq!(after.full_commits - before.full_commits, 2, "one for the first, one for the fifty");
    let before = after;
    for claim in claim_all(&queue, now()) {
        end(&queue, claim, now(), RecipientOutcome::Delivered);
    }
    let after = queue.statistics();
    assert_eq!(after.full_commits, before.full_commits);
    assert_eq!(after.normal_commits - before.normal_commits, 52, "each was waited for");
}

#[test]
fn what_makes_work_due_wakes() {
    let (_directory, queue) = open();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    queue.on_work(Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    let mut expected = 0;
    let mut woken = |more: usize| {
        expected += more;
        assert_eq!(count.load(Ordering::SeqCst), expected);
    };
    let start = now();
    put(&queue, &["a@one.example"], start);
    woken(1);
    let claim = claim_all(&queue, start).remove(0);
    end(&queue, claim, start, RecipientOutcome::Deferred { next_attempt_at: start + MINUTE });
    woken(0);
    assert_eq!(queue.hold(&Selector::default(), start), Ok(1));
    assert!(claim_all(&queue, start + 60 * MINUTE).is_empty(), "held");
    expected_held(&queue, 1);
    woken(1);
    assert_eq!(queue.release(&Selector::default(), start), Ok(1));
    woken(1);
    assert!(claim_all(&queue, start).is_empty(), "released, but not due");
    assert_eq!(queue.retry(&Selector::default(), start), Ok(1));
    woken(1);
    assert_eq!(claim_all(&queue, start).len(), 1);
}

fn expected_held(queue: &Queue, held: u64) {
    assert_eq!(queue.reader().counts().expect("counts").held, held);
    assert_eq!(queue.reader().destinations(1).expect("destinations")[0].held, held);
}

#[test]
fn retry_forgets_the_failures_of_the_destination() {
    let (_directory, queue) = open();
    let start = now();
    put(&queue, &["a@down.example"], start);
    let claim = claim_all(&queue, start).remove(0);
    let later = start + 600 * MINUTE;
    let mut what = record_of(&claim, start, RecipientOutcome::Deferred { next_attempt_at: later });
    what.destination = DestinationResult::Failed { failures: 1, not_before: later };
    record(&queue, claim, what).expect("recorded");
    let summary = queue.reader().destinations(10).expect("destinations");
    assert_eq!((summary[0].failures, summary[0].not_before), (1, Some(later)));
    let which = Selector { destination: Some("DOWN.example".to_owned()), ..Selector::default() };
    assert_eq!(queue.retry(&which, start), Ok(1));
    assert_eq!(claim_all(&queue, start).len(), 1);
}

#[test]
fn selectors_select() {
    let (_directory, queue) = open();
    let start = now();
    let one = put(&queue, &["anna@one.example", "bob@two.example"], start - 10 * MINUTE);
    let two = put(&queue, &["bob@one.example"], start);
    let mut bounce = message(&queue, &["carl@sub.one.example"], start, b"x");
    bounce.envelope.reverse_path = ReversePath::Null;
    let three = accept(&queue, bounce).expect("accepted");
    let text = |text: &str| Some(text.to_owned());
    let all = Selector::default();
    let cases = [
        (all.clone(), vec![one, two, three]),
        (Selector { ids: vec![three, one], ..all.clone() }, vec![one, three]),
        (Selector { destination: text("one.example"), ..all.clone() }, vec![one, two]),
        (Selector { recipient: text("bob@one.example"), ..all.clone() }, vec![two]),
        (Selector { recipient: text("BOB"), ..all.clone() }, vec![one, two]),
        (Selector { reverse_path: text("<>"), ..all.clone() }, vec![three]),
        (Selector { reverse_path: text("Sender@example.org"), ..all.clone() }, vec![one, two]),
        (Selector { reverse_path: text("example.org"), ..all.clone() }, vec![one, two]),
        (Selector { reverse_path: text("ender@example.org"), ..all.clone() }, vec![]),
        (Selector { received_before: Some(start), ..all.clone() }, vec![one]),
        (Selector { received_since: Some(start), ..all.clone() }, vec![two, three]),
        (Selector { state: Some(RecipientState::Held), ..all.clone() }, vec![]),
        (Selector { reason: text("x' OR 1=1 --"), ..all.clone() }, vec![]),
    ];
    for (selector, expected) in cases {
        assert_eq!(list(&queue, &selector), expected, "{selector:?}");
    }
    let page = queue.reader().list(&all, Page { after: Some(one), limit: 1 }).expect("list");
    assert_eq!(page.len(), 1);
    assert_eq!(page[0].message.id, two);

    let which = Selector { destination: text("one.example"), ..all.clone() };
    assert_eq!(queue.drop_messages(&which, start), Ok(2));
    assert_eq!(list(&queue, &all), [one, three], "the other recipient of the first stays");
    let states: Vec<_> = queue.reader().show(one).expect("show").expect("there").listed.recipients;
    assert_eq!(
        states.iter().map(|r| r.state).collect::<Vec<_>>(),
        [RecipientState::Dropped, RecipientState::Waiting]
    );
}

#[test]
fn what_was_dropped_during_its_attempt_stays_dropped_and_counts_are_right() {
    let (_directory, queue) = open();
    let start = now();
    let id = put(&queue, &["a@one.example"], start);
    let claim = claim_all(&queue, start).remove(0);
    assert_eq!(queue.drop_messages(&Selector::default(), start), Ok(1));
    end(&queue, claim, start, RecipientOutcome::Deferred { next_attempt_at: start });
    assert!(claim_all(&queue, start).is_empty());
    let counts = queue.reader().counts().expect("counts");
    assert_eq!((counts.messages, counts.waiting, counts.finished), (0, 0, 1));
    assert_eq!(
        queue.reader().show(id).expect("show").expect("history").attempts.len(),
        1,
        "what happened is told"
    );
}

#[test]
fn many_are_changed_in_pieces() {
    let (_directory, queue) = open();
    let start = now();
    for n in 0..600 {
        let done = |result: Result<(), QueueError>| result.expect("accepted");
        queue.accept(message(&queue, &[&format!("u{n}@one.example")], start, b"x"), done);
    }
    put(&queue, &["last@two.example"], start);
    assert_eq!(queue.hold(&Selector::default(), start), Ok(601));
    assert_eq!(queue.drop_messages(&Selector::default(), start), Ok(601));
    assert_eq!(queue.reader().counts().expect("counts").messages, 0);
}

#[test]
fn damage_is_set_aside_and_stops_nothing_else() {
    let (directory, queue) = open();
    let start = now();
    let bad_row = put(&queue, &["a@one.example"], start);
    let no_content = put(&queue, &["b@one.example"], start);
    let cut = accept(&queue, message(&queue, &["c@one.example"], start, &[b'x'; 100_000])).expect("accepted");
    let no_message = put(&queue, &["d@one.example"], start);
    let good = put(&queue, &["e@one.example"], start);
    drop(queue);
    let database = rusqlite::Connection::open(directory.path().join("queue.db")).expect("by hand");
    let number = |id: QueueId| -> i64 {
        let mut ids = database.prepare("SELECT id FROM message ORDER BY id").expect("sql");
        let ids: Vec<i64> =
            ids.query_map([], |row| row.get(0)).expect("ids").map(|id| id.expect("id")).collect();
        let all = [bad_row, no_content, cut, no_message, good];
        ids[all.iter().position(|other| *other == id).expect("known")]
    };
    let (bad, empty, gone) = (number(bad_row), number(no_content), number(no_message));
    database.execute("UPDATE recipient SET mailbox = x'ff00' WHERE message = ?1", [bad]).expect("damage");
    database.execute("DELETE FROM content WHERE id = ?1", [empty]).expect("damage");
    database.execute("DELETE FROM message WHERE id = ?1", [gone]).expect("damage");
    drop(database);
    for file in std::fs::read_dir(directory.path().join("content")).expect("directory") {
        let file = std::fs::File::options().write(true).open(file.expect("entry").path()).expect("open");
        file.set_len(10).expect("cut");
    }
    let queue = Queue::open(directory.path(), options()).expect("open");
    let claims = claim_all(&queue, start);
    let claimed: Vec<QueueId> = claims.iter().map(|claim| claim.message.id).collect();
    assert_eq!(claimed, [no_content, cut, good]);
    for id in [no_content, cut] {
        assert!(matches!(queue.content_reader(id), Err(QueueError::Damaged(_))));
    }
    assert!(queue.content_reader(good).is_ok());
    drop(claims);
    put(&queue, &["f@two.example"], start);
    assert_eq!(queue.reader().counts().expect("counts").damaged, 4);
    assert_eq!(claim_all(&queue, start).len(), 2, "the good one and the new one");
    assert!(
        queue.retry(&Selector { ids: vec![no_content], ..Selector::default() }, start).is_ok_and(|n| n == 1)
    );
}

#[test]
fn ids_stay_unique_when_the_clock_was_set_back() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    let mut future = message(&queue, &["a@one.example"], now(), b"x");
    future.id = "zzzzzzzzzzz".parse::<QueueId>().map(|_| "3zzzzzzzzzz".parse().expect("id")).expect("id");
    let last = accept(&queue, future).expect("accepted");
    drop(queue);
    let queue = Queue::open(directory.path(), options()).expect("open");
    assert!(queue.new_id() > last);
}

#[test]
fn the_last_handle_may_go_inside_a_callback() {
    let (directory, queue) = open();
    let (done, result) = channel();
    let handle = queue.clone();
    let one = message(&queue, &["a@one.example"], now(), b"x");
    drop(queue);
    let last = handle.clone();
    handle.accept(one, move |answer| {
        drop(last);
        done.send(answer).expect("test waits");
    });
    drop(handle);
    result.recv_timeout(Duration::from_secs(60)).expect("answered").expect("accepted");
    drop(directory);
}
