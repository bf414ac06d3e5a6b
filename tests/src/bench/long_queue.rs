//! What a long queue of deferred messages costs: from start to listening, memory, the list, the summary, a claim.
//!
//! The queue is filled through `mta-queue` itself, not by SMTP, and then the server is started on it.

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

use mta_queue::{Due, NewMessage, Options, Origin, Planner, Queue, Reader, Slot};
use mta_smtp::address::{Mailbox, ReversePath};
use mta_smtp::envelope::{Envelope, Recipient};

use super::measure::{Usage, sync_probe};
use super::server::Server;
use super::{BenchError, Result, Say};

/// Destinations the messages go to.
const DESTINATIONS: usize = 5_000;

/// Messages handed in before their answers are awaited.
const AT_ONCE: usize = 250;

/// Deferred by so much: nothing of it falls due while the server is looked at.
const LATER: Duration = Duration::from_secs(86_400);

/// Starts the server on a queue of `count` deferred messages and measures.
pub(super) fn measure(count: usize, say: Say<'_>) -> Result<()> {
    let probe = sync_probe(&std::env::temp_dir())?;
    let mut claim_ms = 0.0;
    let mut summary_ms = 0.0;
    let (server, seconds) = Server::start_filled(|state| {
        fill(state, count)?;
        (claim_ms, summary_ms) = in_process(state)?;
        Ok(())
    })?;
    let name = |what: &str| format!("{count} deferred, {what}");
    say(&name("start to listening"), seconds * 1000.0, "ms", probe);
    say(&name("memory"), Usage::of(server.pid())?.pss_kib / 1024.0, "MiB PSS", probe);
    say(
        &name("first page of the list"),
        server.time_cli(&["queue", "list", "--limit", "50"])? * 1000.0,
        "ms",
        probe,
    );
    say(&name("memory after it"), Usage::of(server.pid())?.pss_kib / 1024.0, "MiB PSS", probe);
    say(&name("claim of what is due"), claim_ms, "ms", probe);
    say(&name("summary, in the library"), summary_ms, "ms", probe);
    Ok(())
}

fn failed(error: impl std::fmt::Display) -> BenchError {
    BenchError(error.to_string())
}

fn fill(state: &Path, count: usize) -> Result<()> {
    let queue = Queue::open(state, Options { reserve_bytes: 0, ..Options::default() }).map_err(failed)?;
    let later = SystemTime::now() + LATER;
    for first in (0..count).step_by(AT_ONCE) {
        let (done, answers) = channel();
        let last = count.min(first + AT_ONCE);
        for n in first..last {
            let done = done.clone();
            queue.accept(message(&queue, n, later)?, move |result| drop(done.send(result)));
        }
        for _ in first..last {
            answers.recv().map_err(failed)?.map_err(failed)?;
        }
    }
    // One that is due, for the claim.
    let (done, answer) = channel();
    let now = SystemTime::now();
    queue.accept(message(&queue, 0, now)?, move |result| drop(done.send(result)));
    answer.recv().map_err(failed)?.map_err(failed)?;
    queue.close();
    Ok(())
}

fn message(queue: &Queue, n: usize, due: SystemTime) -> Result<NewMessage> {
    let mut envelope = Envelope::new(ReversePath::Null);
    let mailbox = Mailbox::parse(&format!("user{n}@d{}.example", n % DESTINATIONS));
    envelope.recipients.push(Recipient::new(mailbox.map_err(|_| BenchError("a mailbox".into()))?));
    let mut content = queue.content();
    std::io::Write::write_all(&mut content, &[b'x'; 1_000])?;
    let content = content.finish()?;
    Ok(NewMessage {
        id: queue.new_id(),
        envelope,
        received_at: due,
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
        Slot::Take { room: 50, in_hand: 0 }
    }

    fn claimed(&mut self, _: &String) {}
}

/// A claim and a summary on the closed queue, in milliseconds.
fn in_process(state: &Path) -> Result<(f64, f64)> {
    let queue = Queue::open(state, Options { reserve_bytes: 0, ..Options::default() }).map_err(failed)?;
    let started = Instant::now();
    let claimed = queue.claim(SystemTime::now(), 50, &mut Everything).map_err(failed)?;
    let claim = started.elapsed();
    if claimed.claims.len() != 1 {
        return Err(BenchError(format!("{} claims instead of the one that is due", claimed.claims.len())));
    }
    drop(claimed);
    queue.close();
    let reader = Reader::open(state).map_err(failed)?;
    let started = Instant::now();
    reader.summary(SystemTime::now(), 20).map_err(failed)?;
    Ok((claim.as_secs_f64() * 1000.0, started.elapsed().as_secs_f64() * 1000.0))
}
