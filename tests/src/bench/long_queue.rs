//! What a long queue of deferred messages costs: from start to greeting, memory, each look at it, a change to all of it.
//!
//! The queue is filled through `mta-queue` itself, not by SMTP, and then the server is started on it and asked by its own
//! verbs over the control socket, as an administrator asks; the start of `mta-cli` is in the time.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

use mta_queue::{
    AttemptRecord, Claim, DestinationResult, Due, NewMessage, Options, Origin, Planner, Queue,
    RecipientOutcome, RecipientResult, Slot,
};
use mta_smtp::address::{Mailbox, ReversePath};
use mta_smtp::envelope::{Envelope, Recipient};
use mta_smtp::reply::EnhancedStatus;

use super::measure::{Usage, sync_probe};
use super::server::Server;
use super::{BenchError, Result, SERVER, Say, failed};

/// Destinations the messages go to.
const DESTINATIONS: usize = 5_000;

/// Messages handed in before their answers are awaited.
const AT_ONCE: usize = 500;

/// Deferred by so much: nothing of it falls due while the server is looked at.
const LATER: Duration = Duration::from_secs(86_400);

/// What is looked at, and how.
const LOOKS: [(&str, &[&str]); 12] = [
    ("first page of the list", &["queue", "list", "--limit", "50"]),
    ("list of an address", &["queue", "list", "--to", "user77@d77.example"]),
    ("list of a domain", &["queue", "list", "--domain", "d77.example", "--limit", "50"]),
    ("list of a sender nobody has", &["queue", "list", "--from", "nobody@nowhere.example"]),
    ("list of a reason nobody has", &["queue", "list", "--reason", "no such reply"]),
    ("list of what is held", &["queue", "list", "--status", "held"]),
    ("list of what is older than 30 days", &["queue", "list", "--older-than", "30d"]),
    ("summary by domain", &["queue", "summary", "--by", "domain"]),
    ("summary by MX host", &["queue", "summary", "--by", "mx"]),
    ("summary by reason", &["queue", "summary", "--by", "reason"]),
    ("summary by age", &["queue", "summary", "--by", "age"]),
    ("top, once, with its reasons", &["top", "--once"]),
];

/// Starts the server on a queue of `count` deferred messages and measures.
pub(super) fn measure(count: usize, say: Say<'_>) -> Result<()> {
    let probe = sync_probe(&std::env::temp_dir())?;
    let mut claim_ms = 0.0;
    let (server, seconds) = Server::start_filled(|state| {
        fill(state, count)?;
        claim_ms = claim(state)?;
        Ok(())
    })?;
    let name = |what: &str| format!("{count} deferred, {what}");
    say(&name("start to greeting"), seconds * 1000.0, "ms", probe);
    say(&name("memory"), Usage::of(server.pid())?.pss_kib / 1024.0, "MiB PSS", probe);
    say(&name("claim of what is due"), claim_ms, "ms", probe);
    for (what, words) in LOOKS {
        say(&name(what), server.time_cli(words)? * 1000.0, "ms", probe);
    }
    if count > 0 {
        let (seconds, longest) = while_accepting(|| server.time_cli(&["queue", "hold", "--all"]))?;
        say(&name("hold of all"), seconds, "s", probe);
        say(&name("longest accept meanwhile"), longest * 1000.0, "ms", probe);
        let (seconds, longest) = while_accepting(|| server.time_cli(&["queue", "drop", "--all", "--yes"]))?;
        say(&name("drop of all"), seconds, "s", probe);
        say(&name("longest accept meanwhile"), longest * 1000.0, "ms", probe);
    }
    say(&name("memory after all that"), Usage::of(server.pid())?.pss_kib / 1024.0, "MiB PSS", probe);
    Ok(())
}

/// Does some work while small messages are handed in, one after the other; with what it gives, the longest time from the
/// end of a message to its 250, in seconds.
fn while_accepting<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let longest = scope.spawn(|| longest_accept(&over));
        let result = work();
        over.store(true, Ordering::Relaxed);
        let longest = longest.join().map_err(|_| BenchError("the sender panicked".into()))??;
        Ok((result?, longest))
    })
}

fn longest_accept(over: &AtomicBool) -> Result<f64> {
    let mut stream = TcpStream::connect(SERVER)?;
    stream.set_nodelay(true)?;
    let mut replies = BufReader::new(stream.try_clone()?);
    let mut say = |text: &str| -> Result<()> {
        stream.write_all(text.as_bytes())?;
        Ok(())
    };
    let mut hear = || -> Result<()> {
        let mut line = String::new();
        while replies.read_line(&mut line)? > 0 {
            if line.as_bytes().get(3) != Some(&b'-') {
                return if line.starts_with(['2', '3']) { Ok(()) } else { Err(BenchError(line)) };
            }
            line.clear();
        }
        Err(BenchError("the server closed the connection".into()))
    };
    hear()?;
    say("EHLO client.example\r\n")?;
    hear()?;
    let mut longest: f64 = 0.0;
    while !over.load(Ordering::Relaxed) {
        say("MAIL FROM:<a@bench.example>\r\nRCPT TO:<b@meanwhile.example>\r\nDATA\r\n")?;
        (0..3).try_for_each(|_| hear())?;
        let started = Instant::now();
        say("Subject: x\r\n\r\nx\r\n.\r\n")?;
        hear()?;
        longest = longest.max(started.elapsed().as_secs_f64());
    }
    Ok(longest)
}

fn fill(state: &Path, count: usize) -> Result<()> {
    let queue = Queue::open(state, Options { reserve_bytes: 0, ..Options::default() }).map_err(failed)?;
    for first in (0..count).step_by(AT_ONCE) {
        let last = count.min(first + AT_ONCE);
        put(&queue, first..last)?;
        let (done, answers) = channel();
        let claimed = queue.claim(SystemTime::now(), AT_ONCE, &mut Everything).map_err(failed)?;
        for claim in claimed.claims {
            let (record, done) = (deferred(&claim), done.clone());
            queue.record(claim, record, move |result| drop(done.send(result)));
        }
        drop(done);
        answers.iter().try_for_each(|result| result.map_err(failed))?;
    }
    // One that is due, for the claim.
    put(&queue, 0..1)?;
    queue.close();
    Ok(())
}

/// An attempt that found the host busy, in words of its own as many hosts have.
fn deferred(claim: &Claim<String>) -> AttemptRecord {
    let now = SystemTime::now();
    let id = claim.message.id;
    let result = |recipient: &mta_queue::ClaimedRecipient| RecipientResult {
        key: recipient.key,
        outcome: RecipientOutcome::Deferred { next_attempt_at: now + LATER },
        status: EnhancedStatus::new(4, 2, 1),
        reply: format!("450 4.2.1 <{}>: busy, try again later ({id})", recipient.recipient.mailbox),
        remote: Some("mx.example".to_owned()),
    };
    AttemptRecord {
        at: now,
        results: claim.recipients.iter().map(result).collect(),
        decision: Some(format!("{{\"note\":\"{}\"}}", "x".repeat(600))),
        destination: DestinationResult::Unknown,
        notifications: Vec::new(),
        unreported: Vec::new(),
        tls_sessions: Vec::new(),
        handed: Vec::new(),
    }
}

fn put(queue: &Queue, numbers: std::ops::Range<usize>) -> Result<()> {
    let (done, answers) = channel();
    for n in numbers {
        let done = done.clone();
        queue.accept(message(queue, n)?, move |result| drop(done.send(result)));
    }
    drop(done);
    answers.iter().try_for_each(|result| result.map_err(failed))
}

fn message(queue: &Queue, n: usize) -> Result<NewMessage> {
    let mut envelope = Envelope::new(ReversePath::Null);
    let mailbox = Mailbox::parse(&format!("user{n}@d{}.example", n % DESTINATIONS));
    envelope.recipients.push(Recipient::new(mailbox.map_err(|_| BenchError("a mailbox".into()))?));
    let mut content = queue.content();
    content.write_all(&[b'x'; 1_000])?;
    let content = content.finish()?;
    Ok(NewMessage {
        id: queue.new_id(),
        envelope,
        received_at: SystemTime::now(),
        origin: Origin::default(),
        content,
        hold: None,
    })
}

/// Everything due may be taken.
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

/// A claim on the closed queue, in milliseconds; what it finds is put out of the way.
fn claim(state: &Path) -> Result<f64> {
    let queue = Queue::open(state, Options { reserve_bytes: 0, ..Options::default() }).map_err(failed)?;
    let started = Instant::now();
    let mut claimed =
        queue.claim(SystemTime::now() + Duration::from_secs(1), 50, &mut Everything).map_err(failed)?;
    let took = started.elapsed().as_secs_f64() * 1000.0;
    let (Some(claim), true) = (claimed.claims.pop(), claimed.claims.is_empty()) else {
        return Err(BenchError("not the one message that is due".into()));
    };
    let (record, (done, answer)) = (deferred(&claim), channel());
    queue.record(claim, record, move |result| drop(done.send(result)));
    answer.recv().map_err(failed)?.map_err(failed)?;
    queue.close();
    Ok(took)
}
