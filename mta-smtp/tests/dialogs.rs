//! Plays the dialogs in `dialogs/` against the server session. Each is a text a mail administrator can read:
//!
//! ```text
//! # A comment.
//! C: what the client sends, with CR LF behind it; \r \n \0 \\ stand for themselves
//! C+ more in the same packet; alone, an empty line
//! S: what the server must answer, the whole line
//! S~ how its answer must begin
//! TLS               the handshake is done
//! MESSAGE n         so many messages were accepted so far
//! CLOSED            the server closed
//! ```
//!
//! The policy behind the server: `our.example` has a mailbox `alice`; strangers may not relay.

#![allow(clippy::disallowed_methods)] // A test needs a time to begin at.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use mta_smtp::address::{Domain, ForwardPath, Mailbox};
use mta_smtp::extension::Extensions;
use mta_smtp::reply::Reply;
use mta_smtp::server::{Input, Limits, Options, Output, Question, Session, TlsInfo, Verdict};

struct Player {
    session: Session,
    now: Instant,
    sent: String,
    messages: usize,
    closed: bool,
    wants_tls: bool,
}

impl Player {
    fn new() -> Self {
        let options = Options {
            hostname: Domain::parse("mx.our.example").expect("a domain"),
            postmaster: Mailbox::parse("postmaster@our.example").expect("a mailbox"),
            extensions: Extensions { starttls: true, size_limit: 10_000, ..Extensions::default() },
            require_auth: false,
            limits: Limits::default(),
        };
        let now = Instant::now();
        let session = Session::new(now, Arc::new(options), None);
        let mut player =
            Self { session, now, sent: String::new(), messages: 0, closed: false, wants_tls: false };
        player.drain();
        player
    }

    fn input(&mut self, input: Input<'_>) {
        self.session.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.session.poll() {
                Output::Send(bytes) => self.sent.push_str(&String::from_utf8(bytes).expect("UTF-8")),
                Output::Ask(question) => {
                    let verdict = self.decide(&question);
                    self.session.handle(self.now, Input::Verdict(verdict));
                }
                Output::Content(_)
                | Output::ContentRefused(_)
                | Output::ContentDropped
                | Output::Refused(_) => {}
                Output::StartTls => return self.wants_tls = true,
                Output::Close => return self.closed = true,
                Output::Wait { .. } => return,
            }
        }
    }

    fn decide(&mut self, question: &Question) -> Verdict {
        match question {
            Question::Rcpt { path: ForwardPath::Mailbox(mailbox), .. } => {
                match mailbox.to_string().as_str() {
                    "alice@our.example" => Verdict::Accept,
                    text if text.ends_with("@our.example") => {
                        Verdict::Reply(Reply::with_status(550, (5, 1, 1), "no such mailbox here"))
                    }
                    _ => Verdict::Reply(Reply::with_status(550, (5, 7, 1), "relaying denied")),
                }
            }
            Question::ContentEnd { .. } => {
                self.messages += 1;
                Verdict::Accept
            }
            _ => Verdict::Accept,
        }
    }

    /// The next line the server sent.
    fn line(&mut self) -> Option<String> {
        let end = self.sent.find("\r\n")?;
        let line = self.sent[..end].to_owned();
        self.sent.drain(..end + 2);
        Some(line)
    }

    /// Checks one line of a dialog that is no client's.
    fn check(&mut self, line: &str, place: &str) {
        if let Some(expected) = line.strip_prefix("S: ") {
            assert_eq!(self.line().as_deref(), Some(expected), "{place}");
        } else if let Some(expected) = line.strip_prefix("S~ ") {
            let line = self.line();
            assert!(line.as_ref().is_some_and(|line| line.starts_with(expected)), "{place}: {line:?}");
        } else if let Some(count) = line.strip_prefix("MESSAGE ") {
            assert_eq!(self.messages.to_string(), count, "{place}");
        } else if line == "CLOSED" {
            assert!(self.closed && self.sent.is_empty(), "{place}: {}", self.sent);
        } else if line == "TLS" {
            assert!(self.wants_tls, "{place}");
            let (version, cipher) = ("TLSv1.3".to_owned(), "TLS_AES_256_GCM_SHA384".to_owned());
            self.input(Input::TlsStarted(TlsInfo { version, cipher, ..TlsInfo::default() }));
        } else {
            panic!("{place}: not a line of a dialog: {line}");
        }
    }
}

/// What a client's line says, escapes resolved.
fn octets(text: &str) -> Vec<u8> {
    let text = text.replace("\\\\", "\u{1}").replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0");
    format!("{}\r\n", text.replace('\u{1}', "\\")).into_bytes()
}

fn play(path: &Path) {
    let text = std::fs::read_to_string(path).expect("readable");
    let (mut player, mut packet) = (Player::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let place = format!("{}:{}", path.display(), number + 1);
        if let Some(more) = if line == "C+" { Some("") } else { line.strip_prefix("C+ ") } {
            packet.extend(octets(more));
            continue;
        }
        if !packet.is_empty() {
            player.input(Input::Bytes(&std::mem::take(&mut packet)));
        }
        if let Some(sent) = line.strip_prefix("C: ") {
            assert!(player.sent.is_empty() && !player.closed, "{place}: before it {:?}", player.sent);
            packet = octets(sent);
        } else if !line.is_empty() && !line.starts_with('#') {
            player.check(line, &place);
        }
    }
    assert!(packet.is_empty() && player.sent.is_empty(), "{}: {}", path.display(), player.sent);
}

#[test]
fn every_dialog() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs");
    let mut played = 0;
    for entry in std::fs::read_dir(directory).expect("a directory") {
        play(&entry.expect("an entry").path());
        played += 1;
    }
    assert!(played >= 7, "only {played} dialogs");
}
