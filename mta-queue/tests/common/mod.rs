//! What the tests of the queue share: messages, a planner, calls that wait for their answer.

#![allow(dead_code, unreachable_pub)]

pub mod disk;
pub mod load;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime};

use mta_queue::*;
use mta_smtp::address::{Mailbox, ReversePath};
use mta_smtp::envelope::{Envelope, Recipient};
use mta_smtp::reply::EnhancedStatus;

pub const MINUTE: Duration = Duration::from_secs(60);

pub fn options() -> Options {
    Options { reserve_bytes: 0, ..Options::default() }
}

/// Now, without the part of a second that the database does not keep.
pub fn now() -> SystemTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("clock");
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

pub fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).expect("mailbox")
}

pub fn content(queue: &Queue, bytes: &[u8]) -> Content {
    let mut writer = queue.content();
    writer.write_all(bytes).expect("write");
    writer.finish().expect("finish")
}

pub fn message(queue: &Queue, recipients: &[&str], at: SystemTime, bytes: &[u8]) -> NewMessage {
    let mut envelope = Envelope::new(ReversePath::Mailbox(mailbox("sender@example.org")));
    envelope.recipients = recipients.iter().map(|text| Recipient::new(mailbox(text))).collect();
    let content = content(queue, bytes);
    NewMessage {
        id: queue.new_id(),
        envelope,
        received_at: at,
        origin: Origin::default(),
        content,
        hold: None,
    }
}

pub fn accept(queue: &Queue, message: NewMessage) -> Result<QueueId, QueueError> {
    let id = message.id;
    let (done, result) = channel();
    queue.accept(message, move |r| done.send(r).expect("test waits"));
    result.recv().expect("answered").map(|()| id)
}

/// Accepts a small message and returns its id.
pub fn put(queue: &Queue, recipients: &[&str], at: SystemTime) -> QueueId {
    accept(queue, message(queue, recipients, at, b"Subject: test\r\n\r\ntext\r\n")).expect("accepted")
}

/// A planner with one limit for all; next-hop is the destination unless mapped.
#[derive(Default)]
pub struct Plan {
    pub limit: usize,
    pub in_hand: HashMap<String, usize>,
    pub relays: HashMap<String, String>,
    pub not_before: HashMap<String, SystemTime>,
    pub asked: usize,
}

impl Plan {
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }
}

impl Planner for Plan {
    type NextHop = String;

    fn next_hop(&mut self, destination: &str) -> String {
        self.relays.get(destination).cloned().unwrap_or_else(|| destination.to_owned())
    }

    fn slot(&mut self, next_hop: &String, _due: Due<'_>) -> Slot {
        self.asked += 1;
        if let Some(time) = self.not_before.get(next_hop) {
            return Slot::NotBefore(*time);
        }
        let in_hand = self.in_hand.get(next_hop).copied().unwrap_or(0);
        if in_hand >= self.limit { Slot::Busy } else { Slot::Take { room: self.limit - in_hand, in_hand } }
    }

    fn claimed(&mut self, next_hop: &String) {
        *self.in_hand.entry(next_hop.clone()).or_default() += 1;
    }
}

/// Everything due, with room for all.
pub fn claim_all(queue: &Queue, at: SystemTime) -> Vec<Claim<String>> {
    queue.claim(at, 1000, &mut Plan::new(1000)).expect("claim").claims
}

pub fn results<K>(claim: &Claim<K>, outcome: RecipientOutcome) -> Vec<RecipientResult> {
    let result = |recipient: &ClaimedRecipient| RecipientResult {
        key: recipient.key,
        outcome,
        status: EnhancedStatus::new(2, 0, 0),
        reply: "250 2.0.0 said the test".to_owned(),
        remote: Some("mx.example.net".to_owned()),
    };
    claim.recipients.iter().map(result).collect()
}

pub fn record_of<K>(claim: &Claim<K>, at: SystemTime, outcome: RecipientOutcome) -> AttemptRecord {
    AttemptRecord {
        at,
        results: results(claim, outcome),
        decision: Some(r#"{"version":1}"#.to_owned()),
        destination: DestinationResult::Unknown,
        notifications: Vec::new(),
        handed: Vec::new(),
        unreported: Vec::new(),
        tls_sessions: Vec::new(),
    }
}

pub fn record<K>(queue: &Queue, claim: Claim<K>, record: AttemptRecord) -> Result<(), QueueError> {
    let (done, result) = channel();
    queue.record(claim, record, move |r| done.send(r).expect("test waits"));
    result.recv().expect("answered")
}

/// Records one outcome for all recipients of a claim.
pub fn end(queue: &Queue, claim: Claim<String>, at: SystemTime, outcome: RecipientOutcome) {
    let what = record_of(&claim, at, outcome);
    record(queue, claim, what).expect("recorded");
}

pub fn read(mut reader: ContentReader) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("read");
    bytes
}

pub fn list(queue: &Queue, which: &Selector) -> Vec<QueueId> {
    let page = Page { after: None, limit: 1000 };
    queue.reader().list(which, page).expect("list").into_iter().map(|listed| listed.message.id).collect()
}
