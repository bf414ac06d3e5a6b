//! A queue under mixed load in a process of its own, the journal of what it was told and did, and the judge of what is left
//! after it was killed.
//!
//! The load: small and large messages, messages that never end, deliveries, retries, failures with their notification,
//! holds and releases, drops, a write-ahead log so small that it is folded all the time, a history so short that it is
//! trimmed all the time. The contract: what was acknowledged is delivered, or reported, or was dropped by the
//! administrator, each at least once and whole; what was not wholly received is never delivered; extra copies are no more
//! than kills times parallel deliveries; nothing is left over, and `verify` finds nothing.

#![allow(dead_code, unreachable_pub)]

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime};

use mta_queue::*;

use super::*;

/// Names the state directory; set in a child.
pub const CHILD: &str = "MTA_QUEUE_CRASH_CHILD";
/// What the child does: `load` or one of the other modes.
pub const MODE: &str = "MTA_QUEUE_CRASH_MODE";
/// The child's number: names are unique by it, and its choices follow from it.
pub const NUMBER: &str = "MTA_QUEUE_CRASH_NUMBER";

/// Deliveries in flight at once in the child.
pub const IN_FLIGHT: usize = 4;

const DESTINATIONS: [&str; 2] = ["one.example", "two.example"];

/// A generator of random numbers that a failing round can be repeated with.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        // Xorshift: no dependency, and good enough to choose instants.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Everything small, so that every path is taken often.
pub fn small_options() -> Options {
    Options {
        reserve_bytes: 0,
        inline_bytes: 8 << 10,
        history_messages: 20,
        wal_bytes: 64 << 10,
        ..Options::default()
    }
}

/// Content that says whose it is.
pub fn body(name: &str, size: usize) -> Vec<u8> {
    let mut bytes = format!("X-Name: {name}\r\nX-Size: {size}\r\n\r\n").into_bytes();
    bytes.extend(name.bytes().cycle().take(size));
    bytes
}

/// The name, where the content is whole.
pub fn is_whole(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8(bytes.to_vec()).ok()?;
    let name = text.strip_prefix("X-Name: ")?.split("\r\n").next()?.to_owned();
    let size = text.split("X-Size: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
    (bytes == body(&name, size)).then_some(name)
}

/// One line of the journal, in one write: a kill falls before or after it, never inside.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("\n@ {line}\n").as_bytes());
    let _ = out.flush();
}

/// The child's part: call it in a test named `child_process`. Comes back at once where this is no child.
pub fn child() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    let directory = Path::new(&directory);
    let number = std::env::var(NUMBER).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    match std::env::var(MODE).as_deref() {
        Ok("backup-file") => drop(backup(directory, &directory.join("../copy.db"), true, &mut |_, _, _| {})),
        Ok("backup-directory") => {
            drop(backup(directory, &directory.join("../copy"), true, &mut |_, _, _| {}))
        }
        Ok("restore") => drop(restore(&directory.join("../copy.db"), directory, true, &mut |_, _, _| {})),
        Ok("open") => drop(Queue::open(directory, small_options())),
        // So many messages, and then the end.
        Ok("some") => load(directory, number, Some(12)),
        Ok("failing") => load_while_syncs_fail(directory),
        _ => load(directory, number, None),
    }
    say("end");
}

/// Accepts in this thread and delivers in another.
fn load(directory: &Path, number: u64, rounds: Option<u64>) {
    let queue = Queue::open(directory, small_options()).expect("open");
    say("open");
    let over = Arc::new(AtomicBool::new(false));
    let deliveries = {
        let (queue, over) = (queue.clone(), Arc::clone(&over));
        std::thread::spawn(move || {
            let mut random = Random(number * 2 + 1);
            while !over.load(Ordering::SeqCst) {
                deliver_some(&queue, &mut random);
            }
        })
    };
    let mut random = Random(number * 0x9e37_79b9 + 1);
    for round in 0u64..rounds.unwrap_or(u64::MAX) {
        accept_some(&queue, number, round, &mut random);
        administer(&queue, number, round, &mut random);
    }
    over.store(true, Ordering::SeqCst);
    deliveries.join().expect("no delivery panics");
    queue.close();
}

/// A load for which some calls fail: what is refused is not acknowledged, and that is all. One thread, so that the calls come
/// in an order that is nearly the same each time.
fn load_while_syncs_fail(directory: &Path) {
    // A log that is not begun again soon: what is wrong in it stays.
    let options = Options { wal_bytes: 1 << 20, ..small_options() };
    let queue = Queue::open(directory, options).expect("open");
    say("open");
    for n in 0..24 {
        let name = format!("m{n}");
        let size = [10, 30_000, 2_000][n % 3];
        match accept_or_not(&queue, &body(&name, size)) {
            Ok(()) => say(&format!("acknowledged {name}")),
            Err(()) => say(&format!("refused {name}")),
        }
        let claimed = queue.claim(SystemTime::now() + MINUTE, 1, &mut Plan::new(1)).expect("claim");
        for claim in claimed.claims {
            let name = is_whole(&read(queue.content_reader(claim.message.id).expect("content")));
            say(&format!("delivered {}/{}", name.as_deref().unwrap_or("BROKEN"), claim.next_hop));
            let what = record_of(&claim, now(), RecipientOutcome::Delivered);
            // Not waited for: where it cannot be written it is kept until it can.
            queue.record(claim, what, drop);
        }
    }
    queue.close();
}

fn accept_or_not(queue: &Queue, bytes: &[u8]) -> Result<(), ()> {
    let mut content = queue.content();
    content.write_all(bytes).map_err(drop)?;
    let content = content.finish().map_err(drop)?;
    let empty = message(queue, &["a@one.example", "b@two.example"], now(), b"");
    accept(queue, NewMessage { content, ..empty }).map(drop).map_err(drop)
}

fn accept_some(queue: &Queue, number: u64, round: u64, random: &mut Random) {
    let (done, results) = channel();
    let mut waiting = 0;
    for n in 0..=random.below(6) {
        let name = format!("m{number}-{round}-{n}");
        let size = [10, 10, 2_000, 4_000, 30_000, 100_000][random.below(6) as usize];
        let one = message(queue, &["a@one.example", "b@two.example"], now(), &body(&name, size));
        let done = done.clone();
        queue.accept(one, move |result| drop(done.send((name, result))));
        waiting += 1;
    }
    // An arriving message that never ends: the kill finds it at any size.
    let mut unfinished = queue.content();
    unfinished.write_all(&body("unfinished", 20_000)).expect("write");
    for _ in 0..waiting {
        let (name, result) = results.recv().expect("answered");
        result.expect("accepted");
        say(&format!("acknowledged {name}"));
    }
}

/// Holds, releases and drops some of what waits.
fn administer(queue: &Queue, number: u64, round: u64, random: &mut Random) {
    let only = |id: QueueId| Selector { ids: vec![id], ..Selector::default() };
    match random.below(8) {
        0 => {
            let name = format!("m{number}-{round}-d");
            let one = message(queue, &["x@drop.example"], now(), &body(&name, 12_000));
            let id = accept(queue, one).expect("accepted");
            let dropped = queue.drop_messages(&only(id), now()).expect("dropped");
            if dropped > 0 {
                say(&format!("dropped {name}"));
            }
        }
        1 => {
            let name = format!("m{number}-{round}-h");
            let recipients = ["a@one.example", "b@two.example"];
            let id = accept(queue, message(queue, &recipients, now(), &body(&name, 500)));
            let id = id.expect("accepted");
            say(&format!("acknowledged {name}"));
            queue.hold(&only(id), now()).expect("held");
        }
        2 => {
            let held = Selector { state: Some(RecipientState::Held), ..Selector::default() };
            queue.release(&held, now()).expect("released");
        }
        3 => drop(queue.retry(&Selector::default(), now()).expect("retried")),
        _ => {}
    }
}

/// Delivers, as far as the journal is concerned: the name of what was read, whole, and then the record.
fn deliver_some(queue: &Queue, random: &mut Random) {
    let at = SystemTime::now() + Duration::from_secs(5);
    let claimed = queue.claim(at, IN_FLIGHT, &mut Plan::new(IN_FLIGHT)).expect("claim");
    let (done, results) = channel();
    let mut waiting = 0;
    for claim in claimed.claims {
        if claim.next_hop == "drop.example" {
            // The administrator drops these; nobody delivers them.
            continue;
        }
        let name = is_whole(&read(queue.content_reader(claim.message.id).expect("content")));
        let name = name.unwrap_or_else(|| "BROKEN".to_owned());
        let key = format!("{name}/{}", claim.next_hop);
        let mut what = record_of(&claim, now(), RecipientOutcome::Deferred { next_attempt_at: now() });
        match random.below(8) {
            0 | 1 => {}
            2 if !name.starts_with("note") => {
                say(&format!("failing {key}"));
                what = record_of(&claim, now(), RecipientOutcome::Failed);
                let note = body(&format!("note-{key}"), if random.below(3) == 0 { 10_000 } else { 600 });
                what.notifications = vec![message(queue, &["sender@one.example"], now(), &note)];
            }
            _ => {
                say(&format!("delivered {key}"));
                what = record_of(&claim, now(), RecipientOutcome::Delivered);
            }
        }
        let failed = !what.notifications.is_empty();
        let done = done.clone();
        queue.record(claim, what, move |result| drop(done.send((failed.then_some(key), result))));
        waiting += 1;
    }
    for _ in 0..waiting {
        let (failed, result) = results.recv().expect("answered");
        result.expect("recorded");
        if let Some(key) = failed {
            say(&format!("failed {key}"));
        }
    }
}

/// What the journals of all children say.
#[derive(Default)]
pub struct Journal {
    pub acknowledged: HashSet<String>,
    pub dropped: HashSet<String>,
    /// By message and destination; notifications by what they are about.
    pub delivered: HashMap<String, usize>,
    pub failed: HashSet<String>,
    /// A kill fell between such a line and the commit that follows, or after it.
    pub failing: HashSet<String>,
    pub kills: usize,
    /// Results of deliveries may be lost.
    pub power_loss: bool,
}

impl Journal {
    pub fn read(&mut self, line: &str) {
        let Some((what, name)) = line.strip_prefix("@ ").and_then(|line| line.split_once(' ')) else {
            return;
        };
        let name = name.to_owned();
        match what {
            "acknowledged" => drop(self.acknowledged.insert(name)),
            "dropped" => drop(self.dropped.insert(name)),
            "failed" => drop(self.failed.insert(name)),
            "failing" => drop(self.failing.insert(name)),
            "delivered" => {
                assert!(!name.starts_with("BROKEN") && !name.starts_with("unfinished"), "delivered {name}");
                let message = name.rsplit_once('/').map_or("", |(message, _)| message);
                assert!(!self.dropped.contains(message), "{name} was dropped and is delivered");
                *self.delivered.entry(name).or_default() += 1;
            }
            _ => {}
        }
    }

    /// Reads what is left of a child's output.
    pub fn read_rest(&mut self, output: impl Read) {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            self.read(&line);
        }
    }

    fn times(&self, key: &str) -> usize {
        self.delivered.get(key).copied().unwrap_or(0)
    }

    /// Whether what was acknowledged has come to its end, and how many copies were too many.
    pub fn judge(&self) -> usize {
        for name in &self.acknowledged {
            for destination in DESTINATIONS {
                let key = format!("{name}/{destination}");
                let reported = self.times(&format!("note-{key}/one.example"));
                assert!(
                    self.times(&key) + reported >= 1,
                    "{name} was acknowledged, and neither delivered to {destination} nor reported"
                );
            }
        }
        for key in &self.failed {
            // A failure that was forgotten is an attempt that is made again.
            let again = self.power_loss && self.times(key) > 0;
            assert!(
                again || self.times(&format!("note-{key}/one.example")) >= 1,
                "{key} failed and nobody was told"
            );
        }
        for key in self.delivered.keys() {
            let about =
                key.strip_prefix("note-").and_then(|rest| rest.rsplit_once('/')).map(|(about, _)| about);
            assert!(about.is_none_or(|about| self.failing.contains(about)), "{key}: nothing failed");
        }
        let extra: usize = self.delivered.values().map(|times| times - 1).sum();
        assert!(extra <= self.kills * IN_FLIGHT, "{extra} duplicates after {} kills", self.kills);
        extra
    }
}

/// Starts the child of this test binary.
pub fn spawn(directory: &Path, mode: &str, number: u64, crash_at: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("test binary"));
    command
        .args(["child_process", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, directory)
        .env(MODE, mode)
        .env(NUMBER, number.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    if let Some(point) = crash_at {
        command.env("MTA_CRASH_AT", point);
    }
    command.spawn().expect("child")
}

/// Waits for a child that ends by itself, or by its crash point, and reads its journal.
pub fn wait(child: &mut Child, journal: &mut Journal) -> ExitStatus {
    journal.read_rest(child.stdout.take().expect("piped"));
    child.wait().expect("wait")
}

/// After a kill, before anything was opened: nothing is wrong but files that were arriving.
pub fn verify_killed(directory: &Path) {
    match verify(directory, &mut |_| {}) {
        Ok(verified) => {
            let bad: Vec<&Problem> =
                verified.problems.iter().filter(|problem| problem.kind != ProblemKind::Orphan).collect();
            assert!(bad.is_empty(), "{bad:#?}");
        }
        // Killed while the database was being made, or migrated: the next start goes on.
        Err(OpenError::Missing { .. } | OpenError::Older { .. }) => {}
        // The same: what was half made is rolled back by whoever may write.
        Err(OpenError::Database { reason, .. }) if reason.contains("readonly") => {}
        Err(error) => panic!("{error}"),
    }
}

/// Opens the queue, delivers all that is left, and judges the whole journal. Nothing is left over afterwards.
pub fn drain_and_judge(directory: &Path, journal: &mut Journal) -> usize {
    let queue = Queue::open(directory, small_options()).expect("open");
    let held = Selector { state: Some(RecipientState::Held), ..Selector::default() };
    queue.release(&held, now()).expect("released");
    let later = now() + Duration::from_secs(60);
    loop {
        let claims = claim_all(&queue, later);
        if claims.is_empty() {
            break;
        }
        for claim in claims {
            if claim.next_hop != "drop.example" {
                let name = is_whole(&read(queue.content_reader(claim.message.id).expect("content")));
                let name = name.as_deref().unwrap_or("BROKEN").to_owned();
                journal.read(&format!("@ delivered {name}/{}", claim.next_hop));
            }
            end(&queue, claim, later, RecipientOutcome::Delivered);
        }
    }
    let counts = queue.reader().counts().expect("counts");
    assert_eq!((counts.messages, counts.waiting, counts.content_bytes, counts.damaged), (0, 0, 0, 0));
    queue.close();
    drop(queue);
    let verified = verify(directory, &mut |_| {}).expect("verified");
    assert_eq!(verified.problems, []);
    let left = std::fs::read_dir(directory.join("content")).expect("directory").count();
    assert_eq!(left, 0, "files left over");
    journal.judge()
}
