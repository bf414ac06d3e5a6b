//! The clients: messages of all sizes, to one end or several, over connections that may break at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fastrand::Rng;
use mta_lab::client::{self, SmtpClient};
use mta_lab::lab;

/// Clients that send at the same time.
const CLIENTS: usize = 6;
/// Between two messages of a client: the load is mixed, not the heaviest there could be.
const PAUSE: Duration = Duration::from_millis(5);
/// A recipient whose host refuses it for good.
pub(crate) const REFUSED: &str = "gone@away.example";
/// Who sends; his mailbox gets nothing but notifications.
const SENDER: &str = "bob@own.example";
/// Lines of large and of small messages, about 60 bytes each. Content above 64 KiB is kept in a file.
const LINES_OF_A_MEGABYTE: usize = 18_000;
const LINES_OF_A_FILE: std::ops::Range<usize> = 1_000..4_000;
const LINES_OF_A_ROW: std::ops::Range<usize> = 1..100;

/// Where a message can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// Alice's mailbox.
    Mailbox,
    /// A host that is always ready.
    Away,
    /// A host that is busy every other round.
    Moody,
    /// A host whose domain's mail a rule holds.
    Kept,
    /// A notification in the sender's mailbox: a recipient was refused.
    Notification,
}

impl End {
    pub(crate) fn domain(self) -> &'static str {
        match self {
            Self::Mailbox | Self::Notification => lab::OWN_DOMAIN,
            Self::Away => "away.example",
            Self::Moody => "moody.example",
            Self::Kept => "kept.example",
        }
    }

    pub(crate) fn host(self) -> &'static str {
        match self {
            Self::Away => "mx.away.example",
            Self::Moody => "mx.moody.example",
            Self::Kept => "mx.kept.example",
            Self::Mailbox | Self::Notification => "mail.own.example",
        }
    }

    fn recipient(self) -> &'static str {
        match self {
            Self::Mailbox => "alice@own.example",
            Self::Away => "someone@away.example",
            Self::Moody => "someone@moody.example",
            Self::Kept => "someone@kept.example",
            Self::Notification => REFUSED,
        }
    }
}

/// A message that was answered 250.
pub(crate) struct Acknowledged {
    /// The queue id in the answer.
    pub(crate) id: String,
    /// Where it belongs.
    pub(crate) ends: Vec<End>,
    /// Length and SHA2-256 of its content.
    pub(crate) content: (usize, Vec<u8>),
}

/// What the clients did, by subject.
#[derive(Default)]
pub(crate) struct Sent {
    /// The end of data was answered 250.
    pub(crate) acknowledged: BTreeMap<String, Acknowledged>,
    /// The end of data was sent, and no reply came.
    pub(crate) unanswered: BTreeSet<String>,
    /// The end of data was never sent.
    pub(crate) unfinished: BTreeSet<String>,
}

pub(crate) fn digest(content: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, content).as_ref().to_vec()
}

/// The clients while they send.
pub(crate) struct Clients {
    threads: Vec<JoinHandle<()>>,
    sent: Arc<Mutex<Sent>>,
}

impl Clients {
    pub(crate) fn start(server: SocketAddr, rng: &mut Rng, stop: &Arc<AtomicBool>) -> Self {
        let sent = Arc::new(Mutex::new(Sent::default()));
        let threads = (0..CLIENTS)
            .map(|name| {
                let (stop, sent, rng) = (Arc::clone(stop), Arc::clone(&sent), rng.fork());
                std::thread::spawn(move || send_until_stopped(server, name, rng, &stop, &sent))
            })
            .collect();
        Self { threads, sent }
    }

    /// Waits for their end.
    pub(crate) fn join(self) -> Sent {
        for thread in self.threads {
            thread.join().expect("no client panics");
        }
        std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A message of random size whose subject is its identity.
fn message(subject: &str, rng: &mut Rng) -> Vec<u8> {
    let lines = match rng.u8(..) {
        0..6 => LINES_OF_A_MEGABYTE,
        6..32 => rng.usize(LINES_OF_A_FILE),
        _ => rng.usize(LINES_OF_A_ROW),
    };
    let mut body = String::new();
    for line in 0..lines {
        let dot = if line % 7 == 0 { "." } else { "" };
        body.push_str(&format!("{dot}{line} {:032x} {:016x}\n", rng.u128(..), rng.u64(..)));
    }
    client::message(SENDER, "x@own.example", subject, &body)
}

/// One end or several.
fn ends(rng: &mut Rng) -> Vec<End> {
    match rng.u8(0..10) {
        0..3 => vec![End::Away],
        3..5 => vec![End::Mailbox],
        5 => vec![End::Moody],
        6 => vec![End::Kept],
        7 => vec![End::Mailbox, End::Away, End::Moody],
        8 => vec![End::Notification, End::Away],
        _ => vec![End::Notification],
    }
}

fn send_until_stopped(server: SocketAddr, name: usize, mut rng: Rng, stop: &AtomicBool, sent: &Mutex<Sent>) {
    let mut count = 0;
    let mut client: Option<SmtpClient> = None;
    while !stop.load(Ordering::SeqCst) {
        let Some(open) = client.as_mut() else {
            client = SmtpClient::open(server).ok();
            if client.is_none() {
                // The daemon is down and comes back; there is nothing to wait for but time.
                std::thread::sleep(Duration::from_millis(20));
            }
            continue;
        };
        count += 1;
        let subject = format!("crash-{name}-{count}");
        let content = message(&subject, &mut rng);
        let ends = ends(&mut rng);
        let told = if rng.u8(..) < 32 { rng.usize(..content.len()) } else { content.len() };
        let outcome = send_one(open, &ends, &content, told);
        if !matches!(outcome, Outcome::Acknowledged(_) | Outcome::Refused) {
            client = None;
        }
        let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Outcome::Acknowledged(id) => {
                let content = (content.len(), digest(&content));
                sent.acknowledged.insert(subject, Acknowledged { id, ends, content });
            }
            Outcome::Unanswered => drop(sent.unanswered.insert(subject)),
            Outcome::Unfinished | Outcome::Refused => drop(sent.unfinished.insert(subject)),
        }
        drop(sent);
        std::thread::sleep(PAUSE);
    }
}

enum Outcome {
    /// With this queue id.
    Acknowledged(String),
    Unanswered,
    Unfinished,
    Refused,
}

/// One transaction. Where not all of the content is `told`, the client goes away without an end of data.
fn send_one(client: &mut SmtpClient, ends: &[End], content: &[u8], told: usize) -> Outcome {
    let begun = client.ask(&format!("MAIL FROM:<{SENDER}>")).is_ok()
        && ends.iter().all(|end| client.ask(&format!("RCPT TO:<{}>", end.recipient())).is_ok())
        && client.ask("DATA").is_ok();
    if !begun || client.send(&client::stuffed(&content[..told])).is_err() || told < content.len() {
        return Outcome::Unfinished;
    }
    if client.send(b".\r\n").is_err() {
        // Some of it may have gone out.
        return Outcome::Unanswered;
    }
    match client.reply() {
        Ok(reply) => lab::queue_id(&reply).map_or(Outcome::Refused, Outcome::Acknowledged),
        Err(_) => Outcome::Unanswered,
    }
}
