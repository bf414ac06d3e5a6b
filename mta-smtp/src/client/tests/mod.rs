//! Dialogs with scripted servers, good and bad. No socket, no sleep: time is a number here.

mod bounds;
mod envelope;
mod lmtp;
mod misbehaviour;
mod tls;

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::address::{Mailbox, ReversePath};
use crate::envelope::{Body, MailParameters, Notify, Recipient, Ret};
use crate::sasl::Credentials;

/// Commands as they are expected (a prefix each) and the bytes answered to each. The first entry is the greeting.
type Script<'a> = Vec<(&'a str, &'a str)>;

/// Says whether a failure's cause is the one a case wants.
type IsCause = fn(&Cause) -> bool;
/// What a case does to a message, and why it is not sent then.
type Change = fn(&mut Transaction);

const HELLO: &str = "250-mx.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-DSN\r\n250 SIZE 100000\r\n";
const PLAIN_HELLO: &str = "250 mx.example\r\n";

/// A driver that plays the server from a script and logs what the session put out.
struct Dialog<'a> {
    session: Session,
    script: Script<'a>,
    content: &'a [u8],
    transactions: Vec<Transaction>,
    verified: bool,
    now: Instant,
    cuts: Vec<usize>,
    /// What the client wrote, and `<TLS>` where the handshake stood.
    wire: String,
    reports: Vec<TransactionReport>,
    failure: Option<Failure>,
    in_content: bool,
}

impl<'a> Dialog<'a> {
    fn new(settings: Settings, script: Script<'a>) -> Self {
        let now = Instant::now();
        Self {
            session: Session::new(settings, now),
            script,
            content: b"Subject: hi\r\n\r\n.dot\r\n",
            transactions: vec![transaction(&["a@example.org"])],
            verified: false,
            now,
            cuts: Vec::new(),
            wire: String::new(),
            reports: Vec::new(),
            failure: None,
            in_content: false,
        }
    }

    fn to(mut self, recipients: &[&str]) -> Self {
        self.transactions = vec![transaction(recipients)];
        self
    }

    fn run(mut self) -> Self {
        let mut pending = vec![self.script.remove(0).1.as_bytes().to_vec()];
        loop {
            match self.session.poll() {
                Output::Send { bytes, .. } => pending.extend(self.serve(&bytes)),
                Output::Replied { .. } => {}
                Output::StartTls => {
                    self.wire.push_str("<TLS>\r\n");
                    self.session.handle(self.now, Input::TlsStarted { verified: self.verified });
                }
                Output::Ready if self.transactions.is_empty() => self.session.handle(self.now, Input::Quit),
                Output::Ready => {
                    let next = Box::new(self.transactions.remove(0));
                    self.session.handle(self.now, Input::Transaction(next));
                }
                Output::NeedContent => {
                    let content = self.content;
                    self.session.handle(self.now, Input::Content { bytes: content, last: true });
                }
                Output::Done(report) => self.reports.push(*report),
                Output::Failed(failure) => self.failure = Some(failure),
                Output::Close => return self,
                Output::Wait { until } => match (!pending.is_empty()).then(|| pending.remove(0)) {
                    Some(bytes) if bytes == b"<EOF>" => self.session.handle(self.now, Input::Eof),
                    Some(bytes) => self.feed(&bytes),
                    None => {
                        self.now = until;
                        self.session.handle(until, Input::Tick);
                    }
                },
            }
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        for cut in &self.cuts {
            let (piece, behind) = rest.split_at(cut % (rest.len() + 1));
            self.session.handle(self.now, Input::Bytes(piece));
            rest = behind;
        }
        self.session.handle(self.now, Input::Bytes(rest));
    }

    /// Answers the commands in these bytes.
    fn serve(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.wire.push_str(&text);
        let mut replies = Vec::new();
        for line in text.split_inclusive("\r\n") {
            if self.in_content {
                if line != ".\r\n" {
                    continue;
                }
                self.in_content = false;
            }
            if self.script.is_empty() {
                continue;
            }
            let (expected, reply) = self.script.remove(0);
            assert!(line.starts_with(expected), "expected {expected}, got {line}");
            self.in_content = reply.starts_with("354");
            if !reply.is_empty() {
                replies.push(reply.as_bytes().to_vec());
            }
        }
        replies
    }

    fn decided(&self) -> &Decided {
        &self.reports.last().expect("a transaction was reported").decided
    }

    fn broken(&self) -> &Failure {
        match self.decided() {
            Decided::Broken(failure) => failure,
            other => panic!("not broken: {other:?}"),
        }
    }
}

fn transaction(recipients: &[&str]) -> Transaction {
    Transaction {
        reverse_path: ReversePath::parse("<s@example.net>").unwrap(),
        parameters: MailParameters::default(),
        recipients: recipients.iter().map(|text| Recipient::new(Mailbox::parse(text).unwrap())).collect(),
        size_bytes: 21,
        envelope_only: false,
    }
}

fn settings(tls: TlsUse) -> Settings {
    Settings {
        protocol: Protocol::Smtp,
        host_name: "client.example".to_owned(),
        tls,
        credentials: None,
        eight_bit: EightBit::Send,
        limits: Limits::default(),
    }
}

fn plain<'a>(rest: &[(&'a str, &'a str)]) -> Dialog<'a> {
    let mut script = vec![("", "220 mx.example\r\n"), ("EHLO client.example\r\n", PLAIN_HELLO)];
    script.extend_from_slice(rest);
    Dialog::new(settings(TlsUse::IfOffered), script)
}

fn pipelined<'a>(rest: &[(&'a str, &'a str)]) -> Dialog<'a> {
    let mut script = vec![("", "220 mx.example\r\n"), ("EHLO", HELLO)];
    script.extend_from_slice(rest);
    Dialog::new(settings(TlsUse::IfOffered), script)
}

const OK: &str = "250 ok\r\n";
