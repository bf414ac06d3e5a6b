//! The session as a whole: dialogs, smuggling, order of verdicts, limits, deadlines. No sockets and no sleeps.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::address::{Domain, ForwardPath, Mailbox};
use crate::extension::Extensions;

mod auth;
mod bdat;

/// A message the server took responsibility for.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    recipients: usize,
    content: Vec<u8>,
}

/// The driver's part in these tests.
struct Client {
    session: Session,
    now: Instant,
    sent: Vec<u8>,
    /// How many pieces `sent` was made of.
    writes: usize,
    questions: Vec<String>,
    recipients: usize,
    content: Vec<u8>,
    messages: Vec<Message>,
    closed: bool,
    start_tls: bool,
    until: Option<Instant>,
}

fn options() -> Options {
    Options {
        hostname: Domain::parse("mx.example").expect("a domain"),
        postmaster: Mailbox::parse("postmaster@mx.example").expect("a mailbox"),
        extensions: Extensions { starttls: true, size_limit: 100_000, ..Extensions::default() },
        require_auth: false,
        limits: Limits::default(),
    }
}

/// A time to begin at.
fn some_time() -> Instant {
    Instant::now()
}

impl Client {
    fn new(options: Options) -> Self {
        let now = some_time();
        let mut client = Self {
            session: Session::new(now, Arc::new(options), None),
            now,
            sent: Vec::new(),
            writes: 0,
            questions: Vec::new(),
            recipients: 0,
            content: Vec::new(),
            messages: Vec::new(),
            closed: false,
            start_tls: false,
            until: None,
        };
        client.drain();
        client
    }

    fn send(&mut self, bytes: &[u8]) -> &mut Self {
        self.input(Input::Bytes(bytes))
    }

    fn input(&mut self, input: Input<'_>) -> &mut Self {
        if !self.closed {
            self.session.handle(self.now, input);
            self.drain();
        }
        self
    }

    fn drain(&mut self) {
        loop {
            match self.session.poll() {
                Output::Send(bytes) => {
                    self.writes += 1;
                    self.sent.extend(bytes);
                }
                Output::Ask(question) => {
                    let verdict = self.decide(question);
                    self.session.handle(self.now, Input::Verdict(verdict));
                }
                Output::Content(content) => self.content.extend(content),
                Output::ContentRefused(_) | Output::ContentDropped => self.content.clear(),
                Output::Refused(_) => {}
                Output::StartTls => {
                    self.start_tls = true;
                    return;
                }
                Output::Close => {
                    self.closed = true;
                    return;
                }
                Output::Wait { until } => {
                    self.until = Some(until);
                    return;
                }
            }
        }
    }

    /// Refuses recipients called `nobody`, takes all else.
    fn decide(&mut self, question: Question) -> Verdict {
        let text = match &question {
            Question::Connect => "connect".to_owned(),
            Question::Helo { name } => format!("helo {name}"),
            Question::Auth(query) => format!("auth {query:?}"),
            Question::Mail { reverse_path, .. } => format!("mail {reverse_path}"),
            Question::Rcpt { path, .. } => format!("rcpt {path}"),
            Question::Data { envelope } => {
                self.recipients = envelope.recipients.len();
                format!("data {}", envelope.recipients.len())
            }
            Question::ContentEnd { size_octets, .. } => {
                assert_eq!(*size_octets, self.content.len() as u64);
                let content = std::mem::take(&mut self.content);
                self.messages.push(Message { recipients: self.recipients, content });
                "end".to_owned()
            }
        };
        self.questions.push(text);
        match question {
            Question::Rcpt { path: ForwardPath::Mailbox(mailbox), .. }
                if mailbox.local_part() == "nobody" =>
            {
                Verdict::Reply(Reply::with_status(550, (5, 1, 1), "no such mailbox"))
            }
            _ => Verdict::Accept,
        }
    }

    /// The codes of the replies so far, each once.
    fn codes(&self) -> Vec<u16> {
        let text = String::from_utf8_lossy(&self.sent).into_owned();
        text.lines()
            .filter(|line| line.as_bytes().get(3) == Some(&b' '))
            .filter_map(|line| line.get(..3)?.parse().ok())
            .collect()
    }

    fn pass(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.input(Input::Tick)
    }
}

const OPEN: &[u8] = b"EHLO client.example\r\n";
const ENVELOPE: &[u8] = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n";

/// A client that stands before the content of its first message.
fn before_content(options: Options) -> Client {
    let mut client = Client::new(options);
    client.send(OPEN).send(ENVELOPE);
    assert_eq!(client.codes(), [220, 250, 250, 250, 354]);
    client
}

#[test]
fn a_message_in_one_session() {
    let mut client = before_content(options());
    client.send(b"Subject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n");
    assert_eq!(client.messages, [Message { recipients: 1, content: b"Subject: x\r\n\r\n.dot\r\n".to_vec() }]);
    assert_eq!(client.codes(), [220, 250, 250, 250, 354, 250, 221]);
    assert!(client.closed);
    let sent = String::from_utf8(client.sent).expect("ASCII");
    assert!(
        sent.starts_with("220 mx.example ESMTP\r\n250-mx.example\r\n250-PIPELINING\r\n250-SIZE 100000\r\n")
    );
    assert!(sent.contains("250-STARTTLS\r\n") && sent.contains("354 end with"));
}

#[test]
fn pipelined_commands_wait_for_each_verdict_in_turn_and_leave_in_one_write() {
    let mut client = Client::new(options());
    client.send(OPEN);
    let writes = client.writes;
    client.send(b"MAIL FROM:<>\r\nRCPT TO:<nobody@d>\r\nRCPT TO:<x@d>\r\nRCPT TO:<Postmaster>\r\nDATA\r\n");
    assert_eq!(client.codes(), [220, 250, 250, 550, 250, 250, 354]);
    assert_eq!(client.writes, writes + 1);
    assert_eq!(
        client.questions,
        [
            "connect",
            "helo client.example",
            "mail <>",
            "rcpt <nobody@d>",
            "rcpt <x@d>",
            "rcpt <Postmaster>",
            "data 2"
        ]
    );
}

#[test]
fn commands_out_of_order() {
    let cases: [(&[u8], u16); 9] = [
        (b"MAIL FROM:<a@b>\r\n", 503),
        (b"RCPT TO:<a@b>\r\n", 503),
        (b"DATA\r\n", 503),
        (b"STARTTLS\r\n", 503),
        (b"NOOP\r\n", 250),
        (b"RSET\r\n", 250),
        (b"HELP\r\n", 214),
        (b"VRFY a\r\n", 252),
        (b"WHAT\r\n", 500),
    ];
    for (line, code) in cases {
        let mut client = Client::new(options());
        assert_eq!(client.send(line).codes(), [220, code], "{line:?}");
        assert!(!client.closed);
    }
    let mut client = Client::new(options());
    client.send(OPEN).send(b"MAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\nSTARTTLS\r\n");
    assert_eq!(client.codes(), [220, 250, 250, 503, 503]);
    client.send(b"DATA\r\n").send(b"RCPT TO:<nobody@d>\r\nDATA\r\n").send(b"RSET\r\nDATA\r\n");
    assert_eq!(client.codes()[5..], [554, 550, 554, 250, 503]);
}

#[test]
fn helo_ends_a_transaction_and_offers_nothing() {
    let mut client = Client::new(options());
    client.send(b"HELO x\r\n").send(b"MAIL FROM:<a@b>\r\nHELO y\r\n").send(b"RCPT TO:<a@b>\r\n");
    assert_eq!(client.codes(), [220, 250, 250, 250, 503]);
    assert!(!String::from_utf8_lossy(&client.sent).contains("PIPELINING"));
    assert_eq!((client.session.protocol(), client.session.client_name()), ("SMTP", Some("y")));
}

#[test]
fn what_comes_too_early_ends_the_session() {
    let mut client = Client::new(options());
    client.send(b"EHLO x\r\nMAIL FROM:<a@b>\r\n");
    assert_eq!((client.codes(), client.closed), (vec![220, 503], true));

    let mut client = Client::new(options());
    client.send(OPEN).send(b"STARTTLS\r\nEHLO injected\r\n");
    assert_eq!((client.codes(), client.closed, client.start_tls), (vec![220, 250, 503], true, false));

    let mut client = Client::new(options());
    client.send(OPEN).send(&[ENVELOPE, b"Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n"].concat());
    assert_eq!((client.codes(), client.closed), (vec![220, 250, 250, 250, 503], true));
    assert!(client.messages.is_empty());
}

#[test]
fn who_speaks_before_the_greeting_is_not_served() {
    let now = some_time();
    let mut session = Session::new(now, Arc::new(options()), None);
    assert_eq!(session.poll(), Output::Ask(Question::Connect));
    session.handle(now, Input::Bytes(b"EHLO x\r\n"));
    session.handle(now, Input::Verdict(Verdict::Accept));
    assert!(matches!(session.poll(), Output::Refused(_)));
    assert!(matches!(session.poll(), Output::Send(bytes) if bytes.starts_with(b"554 5.5.0")));
    assert_eq!(session.poll(), Output::Close);
}

#[test]
fn starttls_forgets_everything() {
    let mut client = Client::new(options());
    client.send(OPEN).send(b"STARTTLS\r\n");
    assert!(client.start_tls && client.codes() == [220, 250, 220]);
    let tls = TlsInfo { version: "TLSv1.3".to_owned(), cipher: "X".to_owned(), ..TlsInfo::default() };
    client.input(Input::TlsStarted(tls)).send(b"MAIL FROM:<a@b>\r\n");
    assert_eq!(client.codes()[3..], [503]);
    client.sent.clear();
    client.send(OPEN).send(b"STARTTLS\r\n");
    assert!(!String::from_utf8_lossy(&client.sent).contains("250-STARTTLS"));
    assert_eq!((client.codes(), client.session.protocol()), (vec![250, 503], "ESMTPS"));
}

#[test]
fn plaintext_during_the_handshake_ends_the_session() {
    let mut client = Client::new(options());
    client.send(OPEN).send(b"STARTTLS\r\n");
    let sent = client.sent.len();
    client.send(b"EHLO injected\r\n");
    assert!(client.closed);
    assert_eq!(client.sent.len(), sent);
}

/// What is put around the dot of an attack: the line ends that some software takes for CR LF.
const LINE_ENDS: [&[u8]; 9] =
    [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\0\n", b"\0\r\n", b"\r\n\0", b"\n\n"];

#[test]
fn no_smuggled_transaction() {
    let smuggled = b"MAIL FROM:<evil@b>\r\nRCPT TO:<victim@d>\r\nDATA\r\nevil\r\n.\r\n";
    for before in LINE_ENDS {
        for after in LINE_ENDS {
            if before.ends_with(b"\r\n") && after.starts_with(b"\r\n") {
                continue;
            }
            let attack = [b"a: b\r\n\r\ntext", before, b".", after, smuggled].concat();
            for cut in [1, 3, attack.len()] {
                let mut client = before_content(options());
                attack.chunks(cut).for_each(|piece| {
                    client.send(piece);
                });
                let mails = client.questions.iter().filter(|question| question.starts_with("mail")).count();
                assert_eq!((mails, client.messages.len()), (1, 0), "{before:?} . {after:?}");
                assert_eq!(client.codes()[5..], [550], "{before:?} . {after:?}");
            }
        }
    }
}

#[test]
fn refused_content_leaves_the_session_in_step() {
    let mut client = before_content(options());
    client.send(b"a\nb\r\n.\r\n").send(ENVELOPE).send(b"good\r\n.\r\n");
    assert_eq!(client.codes()[5..], [550, 250, 250, 354, 250]);
    assert_eq!(client.messages, [Message { recipients: 1, content: b"good\r\n".to_vec() }]);
}

#[test]
fn content_beyond_a_limit_is_refused_once() {
    let mut small = options();
    small.extensions.size_limit = 100;
    small.limits.content_line_octets = 50;
    small.limits.received_lines = 3;
    small.limits.header_lines = 10;
    let cases = [
        ("x\r\n".repeat(40), "552 5.3.4"),
        (format!("\r\n{}\r\n", "x".repeat(51)), "550 5.6.0"),
        ("Received: x\r\n".repeat(3), "554 5.4.6"),
        ("a:b\r\n".repeat(11), "552 5.3.4"),
    ];
    for (content, reply) in cases {
        let mut client = before_content(small.clone());
        let answered = client.sent.len();
        client.send(format!("{content}.\r\nNOOP\r\n").as_bytes());
        let sent = String::from_utf8_lossy(&client.sent[answered..]).into_owned();
        assert!(sent.starts_with(reply) && sent.ends_with("250 2.0.0 ok\r\n"), "{sent}");
        assert!(client.messages.is_empty());
    }
    let mut client = before_content(small);
    client.send(&vec![b'x'; 2_000_000]);
    assert!(client.closed && client.codes()[5..] == [550]);
}

#[test]
fn floods_end_the_session() {
    let mut client = Client::new(options());
    client.send(OPEN).send(&b"NOOP\r\n".repeat(150));
    assert_eq!((client.codes().last(), client.closed), (Some(&421), true));
    assert_eq!(client.codes().len(), 2 + 101 + 1);

    let mut client = Client::new(options());
    client.send(OPEN).send(&b"BOO\r\n".repeat(150));
    assert_eq!((client.codes().last(), client.closed), (Some(&421), true));
    assert_eq!(client.codes().len(), 2 + 21 + 1);

    let mut client = Client::new(options());
    for _ in 0..150 {
        client.send(OPEN);
    }
    assert_eq!((client.codes().last(), client.closed), (Some(&421), true));

    let mut few = options();
    few.limits.transactions = 2;
    let mut client = Client::new(few);
    client.send(OPEN).send(&b"MAIL FROM:<a@b>\r\nRSET\r\n".repeat(3));
    assert_eq!(client.codes(), [220, 250, 250, 250, 250, 250, 421]);
}

#[test]
fn recipients_beyond_the_limit_may_come_again() {
    let mut few = options();
    few.limits.recipients = 2;
    let mut client = Client::new(few);
    client.send(OPEN).send(b"MAIL FROM:<a@b>\r\n").send(&b"RCPT TO:<a@b>\r\n".repeat(4)).send(b"DATA\r\n");
    assert_eq!(client.codes(), [220, 250, 250, 250, 250, 452, 452, 354]);
    client.send(b"x\r\n.\r\n");
    assert_eq!(client.messages[0].recipients, 2);
}

#[test]
fn lines_that_are_no_commands() {
    let mut client = Client::new(options());
    client.send(&[b"NOOP ".as_slice(), &[b'x'; 600], b"\r\nNOOP\r\n"].concat());
    assert_eq!(client.codes(), [220, 500, 250]);
    client.send(b"NOOP \0\r\nNOOP a\rb\r\nNOOP \xff\r\n");
    assert_eq!(client.codes()[3..], [500, 500, 500]);
    client.send(b"NOOP\nNOOP\r\n");
    assert_eq!((client.codes()[6..].to_vec(), client.closed), (vec![500], true));

    let mut client = Client::new(options());
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n");
    assert_eq!((client.codes(), client.closed), (vec![220, 500], true));

    let mut client = Client::new(options());
    for _ in 0..20 {
        client.send(&[b'x'; 10_000]);
    }
    assert_eq!((client.codes(), client.closed), (vec![220, 421], true));
}

#[test]
fn deadlines_fire_without_sleeping() {
    let limits = Limits::default();
    let mut client = Client::new(options());
    assert_eq!(client.until, Some(client.now + limits.command_timeout));
    client.pass(limits.command_timeout - Duration::from_secs(1)).send(b"NO");
    client.pass(Duration::from_secs(1));
    assert_eq!((client.codes(), client.closed), (vec![220, 421], true));

    let mut client = before_content(options());
    for _ in 0..19 {
        client.pass(limits.content_block_timeout - Duration::from_secs(1)).send(b"x\r\n");
        assert!(!client.closed);
    }
    client.pass(Duration::from_secs(3600 - 19 * 179));
    assert_eq!((client.codes()[5..].to_vec(), client.closed), (vec![421], true));

    let mut client = before_content(options());
    client.pass(limits.content_block_timeout);
    assert_eq!((client.codes()[5..].to_vec(), client.closed), (vec![421], true));

    let mut client = Client::new(options());
    client.send(OPEN).send(b"STARTTLS\r\n");
    client.pass(limits.tls_timeout);
    assert_eq!((client.codes(), client.closed), (vec![220, 250, 220], true));

    let mut client = Client::new(options());
    for _ in 0..60 {
        client.pass(Duration::from_secs(240)).send(OPEN);
    }
    assert_eq!((client.codes().last(), client.closed), (Some(&421), true));
}

#[test]
fn shutdown_cuts_no_message_short() {
    let mut client = Client::new(options());
    client.send(OPEN).input(Input::Shutdown);
    assert_eq!((client.codes(), client.closed), (vec![220, 250, 421], true));

    let mut client = before_content(options());
    client.send(b"x\r\n").input(Input::Shutdown).send(b"y\r\n.");
    assert!(!client.closed);
    client.send(b"\r\n");
    assert_eq!((client.codes()[5..].to_vec(), client.closed), (vec![250, 421], true));
    assert_eq!(client.messages.len(), 1);
}

#[test]
fn end_of_input_within_content_leaves_nothing() {
    let wire = b"Subject: x\r\n\r\nx\r\n.\r\n";
    for cut in 0..wire.len() {
        let mut client = before_content(options());
        client.send(&wire[..cut]).input(Input::Eof);
        assert!(client.closed && client.messages.is_empty(), "{cut}");
    }
}

/// Whole dialogs in which the client waits where it must: each entry is sent at once, in any pieces.
fn dialog() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let group = prop_oneof![
        Just(b"MAIL FROM:<a@b>\r\nRCPT TO:<nobody@d>\r\nRCPT TO:<c@d>\r\n".to_vec()),
        Just(b"MAIL FROM:<a b@c>\r\nRSET\r\nNOOP x\r\n".to_vec()),
        Just(b"NOOP \0\r\n\r\nVRFY x\r\n".to_vec()),
        Just([b"NOOP ".as_slice(), &[b'x'; 700], b"\r\n"].concat()),
        Just(b"DATA\r\n".to_vec()),
        Just(b"Received: x\r\n\r\n..\r\n.\r\n".to_vec()),
        Just(b"x\r\n.\nMAIL FROM:<a@b>\r\n.\r\n".to_vec()),
        Just(b"NOOP\nQUIT\r\n".to_vec()),
        Just(b"QUIT\r\n".to_vec()),
    ];
    proptest::collection::vec(group, 0..8)
}

proptest! {
    #[test]
    fn any_split_gives_the_same_outputs(dialog in dialog(), cut in 1usize..40) {
        let mut whole = Client::new(options());
        let mut pieces = Client::new(options());
        for group in std::iter::once(OPEN).chain(dialog.iter().map(Vec::as_slice)) {
            whole.send(group);
            group.chunks(cut).for_each(|piece| {
                pieces.send(piece);
            });
        }
        prop_assert_eq!(String::from_utf8_lossy(&whole.sent), String::from_utf8_lossy(&pieces.sent));
        prop_assert_eq!(&whole.questions, &pieces.questions);
        prop_assert_eq!(&whole.messages, &pieces.messages);
        prop_assert_eq!(whole.closed, pieces.closed);
    }

    #[test]
    fn nothing_a_client_sends_makes_it_panic(pieces in proptest::collection::vec(
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..50),
            Just(b"EHLO x\r\n".to_vec()), Just(b"MAIL FROM:<a@b>\r\n".to_vec()), Just(b"RCPT TO:<a@b>\r\n".to_vec()),
            Just(b"DATA\r\n".to_vec()), Just(b"\r\n.\r\n".to_vec()), Just(b"STARTTLS\r\n".to_vec()),
        ], 0..20)) {
        let mut client = Client::new(options());
        for piece in &pieces {
            client.send(piece);
        }
        prop_assert!(client.messages.len() <= pieces.len());
    }
}
