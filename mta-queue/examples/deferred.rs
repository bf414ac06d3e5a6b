//! What a long queue costs: fills it with deferred messages and measures opening, looking for work, listing, changes to
//! all of it and memory.
//!
//!     cargo run --release -p mta-queue --example deferred -- DIRECTORY [MESSAGES]
//!
//! The directory stays, so that a second run measures the same queue from a cold process; memory is that of this process
//! after the measurements, so compare with a run of 0 messages.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

use mta_queue::{
    AttemptRecord, By, ChangeKind, DestinationResult, Due, GroupBy, NewMessage, Options, Origin, Page,
    Planner, Queue, QueueError, RecipientOutcome, RecipientResult, Selector, Slot,
};
use mta_smtp::address::{Mailbox, ReversePath};
use mta_smtp::envelope::{Envelope, Recipient};
use mta_smtp::reply::EnhancedStatus;

/// Destinations the messages go to.
const DESTINATIONS: usize = 5_000;

/// Operations handed in before their answers are awaited.
const AT_ONCE: usize = 500;

struct Everything;

impl Planner for Everything {
    type NextHop = String;

    fn next_hop(&mut self, destination: &str) -> String {
        destination.to_owned()
    }

    fn slot(&mut self, _: &String, _: Due<'_>) -> Slot {
        Slot::Take { room: AT_ONCE, in_hand: 0 }
    }

    fn claimed(&mut self, _: &String) {}
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().unwrap_or_else(|| "./deferred-bench".to_owned()));
    let messages: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let start = Instant::now();
    let queue = Queue::open(&directory, Options { reserve_bytes: 0, ..Options::default() }).expect("open");
    println!("open                        {:>9.1} ms", millis(start));
    let counts = queue.reader().counts().expect("counts");
    if counts.messages < messages as u64 {
        fill(&queue, messages - counts.messages as usize);
        defer(&queue);
        println!(
            "filled in {:.0} s; run again to measure from a cold process",
            start.elapsed().as_secs_f64()
        );
        return;
    }
    measure(&queue);
    for (what, kind) in [("all held", ChangeKind::Hold), ("all released", ChangeKind::Release)] {
        change_all(&queue, what, kind);
    }
    println!("memory (RSS)                {:>9.1} MiB", rss_mib());
    println!("database                    {:>9.1} MiB", size_mib(&directory));
    queue.close();
}

fn measure(queue: &Queue) {
    let now = SystemTime::now();
    let time = |what: &str, act: &mut dyn FnMut() -> usize| {
        let start = Instant::now();
        let found = act();
        println!("{what:<27} {:>9.2} ms, {found} found", millis(start));
    };
    time("nothing is due", &mut || queue.claim(now, 50, &mut Everything).expect("claim").claims.len());
    put(queue, 1, "new.example").recv().expect("answered").expect("accepted");
    time("one is due", &mut || {
        queue.claim(now + Duration::from_secs(1), 50, &mut Everything).expect("claim").claims.len()
    });
    let later = now + Duration::from_secs(86_400);
    time("all are due, 50 claimed", &mut || {
        queue.claim(later, 50, &mut Everything).expect("claim").claims.len()
    });
    let page = Page { after: None, limit: 50 };
    let all = Selector::default();
    time("first page of the list", &mut || queue.reader().list(&all, page).expect("list").len());
    let one = Selector { destination: Some("d77.example".to_owned()), ..Selector::default() };
    time("page of one destination", &mut || queue.reader().list(&one, page).expect("list").len());
    time("20 largest destinations", &mut || queue.reader().destinations(20).expect("destinations").len());
    for (what, by) in [
        ("summary by domain", GroupBy::Domain),
        ("summary by host", GroupBy::Host),
        ("summary by reason", GroupBy::Reason),
        ("summary by age", GroupBy::Age),
        ("summary by sender", GroupBy::Sender),
    ] {
        time(what, &mut || queue.reader().groups(by, now, 50).expect("summary").len());
    }
    time("counts", &mut || queue.reader().counts().expect("counts").messages as usize);
}

/// Changes everything, while somebody else hands in a message after the other.
fn change_all(queue: &Queue, what: &str, kind: ChangeKind) {
    let (over, written) = (AtomicBool::new(false), written_mib());
    let start = Instant::now();
    std::thread::scope(|scope| {
        let accepts = scope.spawn(|| {
            let mut waits = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let start = Instant::now();
                put(queue, waits.len(), "new.example").recv().expect("answered").expect("accepted");
                waits.push(millis(start));
                std::thread::sleep(Duration::from_millis(20));
            }
            waits
        });
        let which = Selector { up_to: Some(queue.new_id()), ..Selector::default() };
        let mut change = queue.piecewise(kind, &which, By::default(), SystemTime::now());
        let (mut changed, mut pieces) = (0, 0);
        while let Some(step) = change.step().expect("changed") {
            changed += step.recipients;
            pieces += 1;
        }
        let took = millis(start);
        over.store(true, Ordering::Relaxed);
        let mut waits = accepts.join().expect("thread");
        waits.sort_by(f64::total_cmp);
        let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize];
        println!(
            "{what:<27} {took:>9.2} ms, {changed} in {pieces} pieces, {:.0} MiB written; accepts meanwhile took {:.0} ms, \
             99% up to {:.0} ms, all up to {:.0} ms",
            written_mib() - written,
            at(0.5),
            at(0.99),
            at(1.0)
        );
    });
}

fn written_mib() -> f64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find(|line| line.starts_with("wchar:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1_048_576.0
}

fn put(queue: &Queue, n: usize, domain: &str) -> Receiver<Result<(), QueueError>> {
    use std::io::Write;

    let mut envelope = Envelope::new(ReversePath::Null);
    envelope.recipients.push(Recipient::new(Mailbox::parse(&format!("user{n}@{domain}")).expect("mailbox")));
    let mut content = queue.content();
    content.write_all(&[b'x'; 1_000]).expect("write");
    let content = content.finish().expect("finish");
    let (id, received_at) = (queue.new_id(), SystemTime::now());
    let (done, answer) = channel();
    let message = NewMessage { id, envelope, received_at, origin: Origin::default(), content, hold: None };
    queue.accept(message, move |result| drop(done.send(result)));
    answer
}

fn fill(queue: &Queue, messages: usize) {
    for first in (0..messages).step_by(AT_ONCE) {
        let waiting: Vec<_> = (first..messages.min(first + AT_ONCE))
            .map(|n| put(queue, n, &format!("d{}.example", n % DESTINATIONS)))
            .collect();
        for answer in waiting {
            answer.recv().expect("answered").expect("accepted");
        }
    }
}

fn defer(queue: &Queue) {
    loop {
        let now = SystemTime::now();
        let claims = queue.claim(now, AT_ONCE, &mut Everything).expect("claim").claims;
        if claims.is_empty() {
            return;
        }
        let mut waiting = Vec::new();
        for claim in claims {
            let result = RecipientResult {
                key: claim.recipients[0].key,
                outcome: RecipientOutcome::Deferred { next_attempt_at: now + Duration::from_secs(43_200) },
                status: EnhancedStatus::new(4, 4, 1),
                // In words of its own, as many hosts have.
                reply: format!(
                    "450 4.2.1 <{}>: busy, try again later ({})",
                    claim.recipients[0].recipient.mailbox, claim.message.id
                ),
                remote: Some("mx.example".to_owned()),
            };
            let record = AttemptRecord {
                at: now,
                results: vec![result],
                decision: Some("x".repeat(600)),
                destination: DestinationResult::Unknown,
                notifications: Vec::new(),
                handed: Vec::new(),
                unreported: Vec::new(),
                tls_sessions: Vec::new(),
            };
            let (done, answer) = channel();
            queue.record(claim, record, move |result| drop(done.send(result)));
            waiting.push(answer);
        }
        for answer in waiting {
            answer.recv().expect("answered").expect("recorded");
        }
    }
}

fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

fn rss_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn size_mib(directory: &std::path::Path) -> f64 {
    let size = |name: &str| fs::metadata(directory.join(name)).map_or(0, |m| m.len());
    (size("queue.db") + size("queue.db-wal")) as f64 / 1_048_576.0
}
