//! Faults injected into the writer: a database that may not grow, an operation that panics, one that fails.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::SystemTime;

use mta_smtp::address::{Mailbox, ReversePath};
use mta_smtp::envelope::{Envelope, Recipient};
use mta_smtp::reply::EnhancedStatus;

use crate::claim::{Claim, Due, Planner, Slot};
use crate::error::QueueError;
use crate::message::{NewMessage, Origin};
use crate::record::{AttemptRecord, DestinationResult, RecipientOutcome, RecipientResult};
use crate::store::{Options, Queue};
use crate::writer::{Operation, Tx};

type Answer = Result<(), QueueError>;

/// Does to the database what a test wants.
struct Inject {
    act: fn(&Tx<'_>) -> Answer,
    done: Sender<Answer>,
}

impl Operation for Inject {
    fn apply(&mut self, tx: &mut Tx<'_>) -> Answer {
        (self.act)(tx)
    }

    fn finish(self: Box<Self>, result: Answer) {
        let _ = self.done.send(result);
    }
}

fn inject(queue: &Queue, act: fn(&Tx<'_>) -> Answer) -> Receiver<Answer> {
    let (done, answer) = channel();
    queue.send(Box::new(Inject { act, done }));
    answer
}

/// From now on the database may not grow, as on a full disk.
fn fill(tx: &Tx<'_>) -> Answer {
    let pages: i64 = tx.connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    tx.connection.pragma_update(None, "max_page_count", pages)?;
    Ok(())
}

fn empty(tx: &Tx<'_>) -> Answer {
    tx.connection.pragma_update(None, "max_page_count", 1_000_000)?;
    Ok(())
}

fn open(directory: &Path) -> Queue {
    Queue::open(directory, Options { reserve_bytes: 0, ..Options::default() }).expect("open")
}

fn accept(queue: &Queue, size: usize) -> Receiver<Answer> {
    use std::io::Write;

    let mut envelope = Envelope::new(ReversePath::Null);
    envelope.recipients.push(Recipient::new(Mailbox::parse("a@one.example").expect("mailbox")));
    let mut content = queue.content();
    content.write_all(&vec![b'x'; size]).expect("write");
    let content = content.finish().expect("finish");
    let (id, received_at) = (queue.new_id(), SystemTime::now());
    let (done, answer) = channel();
    let message = NewMessage { id, envelope, received_at, origin: Origin::default(), content, hold: None };
    queue.accept(message, move |result| done.send(result).expect("test waits"));
    answer
}

struct All;

impl Planner for All {
    type NextHop = ();

    fn next_hop(&mut self, _: &str) {}

    fn slot(&mut self, (): &(), _: Due<'_>) -> Slot {
        Slot::Take { room: 100, in_hand: 0 }
    }

    fn claimed(&mut self, (): &()) {}
}

fn claims(queue: &Queue) -> Vec<Claim<()>> {
    queue.claim(SystemTime::now(), 100, &mut All).expect("claim").claims
}

/// Records a delivery with a long reply, which a full database cannot take.
fn deliver(queue: &Queue, claim: Claim<()>) -> Receiver<Answer> {
    let at = SystemTime::now();
    let result = RecipientResult {
        key: claim.recipients[0].key,
        outcome: RecipientOutcome::Delivered,
        status: EnhancedStatus::new(2, 0, 0),
        reply: "r".repeat(1_000),
        remote: None,
    };
    let decision = Some("d".repeat(15_000));
    let (destination, notifications) = (DestinationResult::Works, Vec::new());
    let record = AttemptRecord {
        at,
        results: vec![result],
        decision,
        destination,
        notifications,
        handed: Vec::new(),
        unreported: Vec::new(),
        tls_sessions: Vec::new(),
    };
    let (done, answer) = channel();
    queue.record(claim, record, move |result| done.send(result).expect("test waits"));
    answer
}

#[test]
fn a_full_disk_refuses_mail_and_takes_it_again_when_there_is_space() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = open(directory.path());
    inject(&queue, fill).recv().expect("answered").expect("filled");
    for _ in 0..3 {
        assert_eq!(accept(&queue, 60_000).recv().expect("answered"), Err(QueueError::NoSpace));
    }
    assert!(claims(&queue).is_empty(), "nothing of it is there");
    assert_eq!(queue.reader().counts().expect("counts").messages, 0);
    inject(&queue, empty).recv().expect("answered").expect("space");
    assert_eq!(accept(&queue, 60_000).recv().expect("answered"), Ok(()));
    assert_eq!(claims(&queue).len(), 1);
}

#[test]
fn large_content_of_a_message_that_did_not_fit_leaves_no_file() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = open(directory.path());
    inject(&queue, fill).recv().expect("answered").expect("filled");
    // Free pages may take some.
    let answers: Vec<Answer> = (0..200).map(|_| accept(&queue, 70_000).recv().expect("answered")).collect();
    let stored = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(answers.contains(&Err(QueueError::NoSpace)));
    let files = std::fs::read_dir(directory.path().join("content")).expect("directory").count();
    assert_eq!(files, stored);
}

#[test]
fn a_delivery_that_cannot_be_written_down_is_kept_and_not_claimed_again() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = open(directory.path());
    accept(&queue, 10).recv().expect("answered").expect("accepted");
    let claim = claims(&queue).remove(0);
    inject(&queue, fill).recv().expect("answered").expect("filled");
    let recorded = deliver(&queue, claim);
    // Whatever comes after it has been tried together with it.
    for _ in 0..3 {
        assert_eq!(accept(&queue, 60_000).recv().expect("answered"), Err(QueueError::NoSpace));
        assert_eq!(recorded.try_recv(), Err(TryRecvError::Empty), "it is not given up");
        assert!(claims(&queue).is_empty(), "it is delivered, whatever the disk says");
    }
    inject(&queue, empty).recv().expect("answered").expect("space");
    accept(&queue, 10).recv().expect("answered").expect("accepted");
    assert_eq!(recorded.recv().expect("answered"), Ok(()));
    assert_eq!(queue.reader().counts().expect("counts").delivered_total, 1);
}

#[test]
fn an_operation_that_fails_or_panics_takes_no_other_with_it() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = open(directory.path());
    let half_done = |tx: &Tx<'_>| -> Answer {
        tx.connection.execute("DELETE FROM recipient", [])?;
        Err(QueueError::Invalid("as the test wants"))
    };
    // Blocks the writer, so that what follows is one batch.
    let (entered, blocked) = channel();
    let (release, gate) = channel::<()>();
    struct Block(Sender<()>, Receiver<()>);
    impl Operation for Block {
        fn apply(&mut self, _: &mut Tx<'_>) -> Answer {
            Ok(())
        }
        fn finish(self: Box<Self>, _: Answer) {
            self.0.send(()).expect("test waits");
            let _ = self.1.recv();
        }
    }
    queue.send(Box::new(Block(entered, gate)));
    blocked.recv().expect("the writer is in it");
    let before = queue.statistics();
    let first = accept(&queue, 10);
    let failed = inject(&queue, half_done);
    let panicked = inject(&queue, |_| panic!("as the test wants"));
    let last = accept(&queue, 10);
    drop(release);
    assert_eq!(first.recv().expect("answered"), Ok(()));
    assert_eq!(failed.recv().expect("answered"), Err(QueueError::Invalid("as the test wants")));
    assert!(matches!(panicked.recv().expect("answered"), Err(QueueError::Storage(_))));
    assert_eq!(last.recv().expect("answered"), Ok(()));
    assert_eq!(queue.statistics().full_commits - before.full_commits, 1, "all in one commit");
    assert_eq!(claims(&queue).len(), 2);
}
