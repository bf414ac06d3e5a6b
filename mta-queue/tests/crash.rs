//! Kill -9 at any instant: what was acknowledged is there and whole, what was not wholly received is not, duplicates
//! stay within the deliveries in flight, and no file is left over.
//!
//! The test starts itself as a child process (`MTA_QUEUE_CRASH_CHILD` names the state directory). The child accepts,
//! delivers and defers as fast as it can and writes to its standard output what it was told and what it did; the parent
//! kills it after a random number of lines, judges, and starts the next one on the same directory. Rounds:
//! `MTA_QUEUE_CRASH_ROUNDS` (default 8).

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime};

use common::*;
use mta_queue::*;

const CHILD: &str = "MTA_QUEUE_CRASH_CHILD";
const ROUNDS: &str = "MTA_QUEUE_CRASH_ROUNDS";

/// Deliveries in flight at once in the child.
const IN_FLIGHT: usize = 4;

/// A generator of random numbers that a failing round can be repeated with.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // Xorshift: no dependency, and good enough to choose instants.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Content that says whose it is, of a size on either side of what lies in the database.
fn body(name: &str, size: usize) -> Vec<u8> {
    let mut bytes = format!("X-Name: {name}\r\nX-Size: {size}\r\n\r\n").into_bytes();
    bytes.extend(name.bytes().cycle().take(size));
    bytes
}

fn is_whole(bytes: &[u8]) -> Option<String> {
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

/// The child: accepts and delivers until it is killed.
#[test]
fn child_process() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    let queue = Queue::open(Path::new(&directory), options()).expect("open");
    let mut random = Random(std::process::id().into());
    say("open");
    for round in 0u64.. {
        let (done, results) = channel();
        let mut waiting = 0;
        for n in 0..=random.below(6) {
            let name = format!("m{}-{round}-{n}", std::process::id());
            let size = [10, 4_000, 70_000, 300_000][random.below(4) as usize];
            let at = now();
            let one = message(&queue, &["a@one.example", "b@two.example"], at, &body(&name, size));
            let done = done.clone();
            queue.accept(one, move |result| done.send((name, result)).expect("waits"));
            waiting += 1;
        }
        // An arriving message that never ends: the kill finds it at any size.
        let mut unfinished = queue.content();
        unfinished.write_all(&body("unfinished", 80_000)).expect("write");
        for _ in 0..waiting {
            let (name, result) = results.recv().expect("answered");
            result.expect("accepted");
            say(&format!("acknowledged {name}"));
        }
        deliver_some(&queue, &mut random);
    }
}

/// Delivers, as far as the journal is concerned: the name of what was read, whole, and then the record.
fn deliver_some(queue: &Queue, random: &mut Random) {
    let at = SystemTime::now() + Duration::from_secs(5);
    let claimed = queue.claim(at, IN_FLIGHT, &mut Plan::new(IN_FLIGHT)).expect("claim");
    let (done, results) = channel();
    let mut waiting = 0;
    for claim in claimed.claims {
        let done = done.clone();
        let answer = move |result: Result<(), QueueError>| done.send(result).expect("waits");
        waiting += 1;
        if random.below(4) == 0 {
            let what = record_of(&claim, now(), RecipientOutcome::Deferred { next_attempt_at: now() });
            queue.record(claim, what, answer);
            continue;
        }
        let name = is_whole(&read(queue.content_reader(claim.message.id).expect("content")));
        let name = name.unwrap_or_else(|| "BROKEN".to_owned());
        say(&format!("delivered {name}/{}", claim.next_hop));
        let what = record_of(&claim, now(), RecipientOutcome::Delivered);
        queue.record(claim, what, answer);
    }
    for _ in 0..waiting {
        results.recv().expect("answered").expect("recorded");
    }
}

/// What the journals of all children say.
#[derive(Default)]
struct Journal {
    acknowledged: Vec<String>,
    delivered: HashMap<String, usize>,
    kills: usize,
}

impl Journal {
    fn read(&mut self, line: &str) {
        let Some(line) = line.strip_prefix("@ ") else { return };
        if let Some(name) = line.strip_prefix("acknowledged ") {
            self.acknowledged.push(name.to_owned());
        }
        if let Some(name) = line.strip_prefix("delivered ") {
            assert!(!name.starts_with("BROKEN") && !name.starts_with("unfinished"), "delivered {name}");
            *self.delivered.entry(name.to_owned()).or_default() += 1;
        }
    }

    /// Runs a child, kills it after so many lines of its journal and a little later, and reads the rest of the journal.
    fn run_child(&mut self, directory: &Path, lines: u64, then: Duration) {
        let mut child = Command::new(std::env::current_exe().expect("test binary"))
            .args(["child_process", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("child");
        let output = child.stdout.take().expect("piped");
        let mut journal = BufReader::new(output).lines();
        let mut seen = 0;
        while seen < lines {
            let line = journal.next().expect("the child ends only by the kill").expect("text");
            seen += u64::from(line.starts_with("@ "));
            self.read(&line);
        }
        // Not a wait for anything: it moves the instant of the kill off the instant of the line.
        std::thread::sleep(then);
        child.kill().expect("kill");
        child.wait().expect("wait");
        for line in journal.map_while(Result::ok) {
            self.read(&line);
        }
        self.kills += 1;
    }
}

#[test]
fn nothing_acknowledged_is_lost_whenever_the_process_is_killed() {
    if std::env::var(CHILD).is_ok() {
        return;
    }
    let rounds = std::env::var(ROUNDS).ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let seed =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64 | 1);
    eprintln!("seed {seed}, {rounds} rounds");
    let mut random = Random(seed);
    let directory = tempfile::tempdir().expect("directory");
    let mut journal = Journal::default();
    for _ in 0..rounds {
        let (lines, micros) = (1 + random.below(120), random.below(4_000));
        journal.run_child(directory.path(), lines, Duration::from_micros(micros));
        // Looking at what the kill left changes nothing, and works.
        let reader = Reader::open(directory.path()).expect("what was left can be read");
        let listed = reader.list(&Selector::default(), Page { after: None, limit: 10_000 }).expect("list");
        assert_eq!(listed.len() as u64, reader.counts().expect("counts").messages);
    }
    drain_and_judge(directory.path(), journal);
}

/// Delivers what is left and compares everything with the journal.
fn drain_and_judge(directory: &Path, mut journal: Journal) {
    let queue = Queue::open(directory, options()).expect("open");
    let later = now() + Duration::from_secs(60);
    loop {
        let claims = claim_all(&queue, later);
        if claims.is_empty() {
            break;
        }
        for claim in claims {
            let name = is_whole(&read(queue.content_reader(claim.message.id).expect("content")));
            journal.read(&format!("@ delivered {}/{}", name.as_deref().unwrap_or("BROKEN"), claim.next_hop));
            end(&queue, claim, later, RecipientOutcome::Delivered);
        }
    }
    assert!(!journal.acknowledged.is_empty(), "the test did something");
    for name in &journal.acknowledged {
        for destination in ["one.example", "two.example"] {
            let times = journal.delivered.get(&format!("{name}/{destination}")).copied().unwrap_or(0);
            assert!(times >= 1, "{name} was acknowledged and not delivered to {destination}");
        }
    }
    let extra: usize = journal.delivered.values().map(|times| times - 1).sum();
    assert!(extra <= journal.kills * IN_FLIGHT, "{extra} duplicates after {} kills", journal.kills);
    let counts = queue.reader().counts().expect("counts");
    assert_eq!((counts.messages, counts.waiting, counts.content_bytes, counts.damaged), (0, 0, 0, 0));
    queue.close();
    drop(queue);
    let left = std::fs::read_dir(directory.join("content")).expect("directory").count();
    assert_eq!(left, 0, "files left over");
    let database = rusqlite::Connection::open(directory.join("queue.db")).expect("open");
    let check: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("check");
    assert_eq!(check, "ok");
    eprintln!(
        "{} acknowledged, {} delivered, {extra} twice, {} kills",
        journal.acknowledged.len(),
        journal.delivered.len(),
        journal.kills
    );
}
