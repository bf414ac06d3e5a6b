//! Mail coming in over real sockets: a plain client on one side, a queue in a temporary directory on the other.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use mta_core::account::{Accounts, LocalDomain};
use mta_core::inbound::{Options, Server, Service, Settings};
use mta_core::net::Listener;
use mta_core::stop::{Stopper, stop};
use mta_core::tls::server::Identity;
use mta_dane::policy::Authenticate;
use mta_dane::verifier::{DaneVerifier, client_config};
use mta_queue::{Page, Queue, Selector};
use mta_smtp::address::Domain;
use mta_smtp::server::Limits;

/// No test waits longer than this for the server; it bounds a failure, no success depends on it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server with its queue, and what it takes to talk to it.
struct Fixture {
    queue: Queue,
    server: Arc<Server>,
    address: SocketAddr,
    identity: Identity,
    stopper: Stopper,
    running: smol::Task<()>,
    _state: tempfile::TempDir,
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).expect("a domain")
}

/// The options of `our.example`; clients on loopback are strangers to it.
fn options() -> Options {
    Options { relay_networks: Vec::new(), ..Options::new(domain("mx.our.example")) }
}

fn settings(options: Options, identity: &Identity) -> Arc<Settings> {
    let local = LocalDomain {
        mailboxes: HashSet::from(["alice".to_owned()]),
        maildir: "/nowhere".to_owned(),
        ..LocalDomain::default()
    };
    let accounts = Accounts::new(HashMap::from([(domain("our.example"), local)]), None);
    Settings::new(options, Arc::new(accounts), Some(identity.server_config().expect("usable")))
}

fn start_with(options: Options, queue_options: mta_queue::Options) -> Fixture {
    start_with_grace(options, queue_options, PATIENCE)
}

fn start_with_grace(options: Options, queue_options: mta_queue::Options, grace: Duration) -> Fixture {
    let state = tempfile::tempdir().expect("a directory");
    let identity = Identity::load_or_make(state.path(), &options.hostname).expect("made");
    let queue = Queue::open(state.path(), queue_options).expect("a queue");
    let server = Server::new(settings(options, &identity), queue.clone());
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let address = listener.address();
    let (stopper, stop) = stop();
    let running = smol::spawn(Arc::clone(&server).run(vec![(Service::Relay, listener)], None, stop, grace));
    Fixture { queue, server, address, identity, stopper, running, _state: state }
}

fn start(options: Options) -> Fixture {
    // A small test machine may have little space: the reserve is not what is tested here.
    start_with(options, mta_queue::Options { reserve_bytes: 0, ..mta_queue::Options::default() })
}

impl Fixture {
    fn connect(&self) -> Client<TcpStream> {
        let mut client = Client { stream: socket(self.address), unread: Vec::new() };
        assert_eq!(client.reply(), "220 mx.our.example ESMTP\r\n");
        client
    }

    /// The envelope and the content of each message in the queue, oldest first.
    fn messages(&self) -> Vec<(String, Vec<u8>)> {
        let reader = self.queue.reader();
        let listed = reader.list(&Selector::default(), Page { after: None, limit: 100 }).expect("a list");
        let messages = listed.into_iter().map(|listed| {
            let mut content = Vec::new();
            let mut stored = reader.content(listed.message.id).expect("readable").expect("there");
            stored.read_to_end(&mut content).expect("readable");
            let recipients: Vec<_> =
                listed.recipients.iter().map(|r| r.recipient.mailbox.to_string()).collect();
            (format!("{} {}", listed.message.reverse_path, recipients.join(",")), content)
        });
        messages.collect()
    }

    /// Waits until this many sessions are open.
    fn until_open(&self, sessions: usize) {
        while self.server.open_sessions() != sessions {
            std::thread::yield_now();
        }
    }
}

fn socket(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.set_nodelay(true).expect("set");
    stream
}

/// A client that waits for each reply.
struct Client<S> {
    stream: S,
    unread: Vec<u8>,
}

impl<S: Read + Write> Client<S> {
    fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).expect("sent");
        self.stream.flush().expect("sent");
    }

    /// Sends a command and returns the whole reply.
    fn command(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n"));
        self.reply()
    }

    /// Sends commands and compares the beginning of each reply.
    fn dialog(&mut self, dialog: &[(&str, &str)]) {
        for (line, expected) in dialog {
            let reply = self.command(line);
            assert!(reply.starts_with(expected), "{line}: {reply}");
        }
    }

    /// The next reply, with all its lines.
    fn reply(&mut self) -> String {
        loop {
            if let Some(reply) = self.whole_reply() {
                return reply;
            }
            let mut piece = [0; 4096];
            let octets = self.stream.read(&mut piece).expect("a reply");
            assert!(octets > 0, "closed after {:?}", String::from_utf8_lossy(&self.unread));
            self.unread.extend_from_slice(&piece[..octets]);
        }
    }

    fn whole_reply(&mut self) -> Option<String> {
        let text = std::str::from_utf8(&self.unread).expect("ASCII");
        let mut end = 0;
        for line in text.split_inclusive("\r\n").filter(|line| line.ends_with("\r\n")) {
            end += line.len();
            if line.as_bytes().get(3) == Some(&b' ') {
                let reply = text[..end].to_owned();
                self.unread.drain(..end);
                return Some(reply);
            }
        }
        None
    }

    /// Everything until the server closes.
    fn rest(&mut self) -> String {
        let mut rest = std::mem::take(&mut self.unread);
        // A reset after the last reply is an end like any other.
        let _ = self.stream.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Goes up to where the content begins.
    fn envelope(&mut self) {
        self.dialog(&[
            ("EHLO client.example", "250-mx.our.example\r\n250-PIPELINING"),
            ("MAIL FROM:<bob@other.example>", "250 2.1.0"),
            ("RCPT TO:<alice@our.example>", "250 2.1.5"),
            ("DATA", "354"),
        ]);
    }
}

#[test]
fn a_message_lies_in_the_queue_once_it_is_acknowledged() {
    let fixture = start(options());
    let mut client = fixture.connect();
    client.envelope();
    client.send("Subject: hello\r\n\r\n..one dot\r\n.\r\n");
    let reply = client.reply();
    let id = reply.strip_prefix("250 2.0.0 queued as ").expect("accepted").trim_end().to_owned();
    let messages = fixture.messages();
    assert_eq!(messages.len(), 1);
    let (envelope, content) = &messages[0];
    assert_eq!(envelope, "<bob@other.example> alice@our.example");
    let content = String::from_utf8(content.clone()).expect("ASCII");
    let expected = format!(
        "Received: from client.example ([127.0.0.1])\r\n\tby mx.our.example with ESMTP id {id}\r\n\tfor \
         <alice@our.example>;\r\n\t"
    );
    assert!(content.starts_with(&expected), "{content}");
    assert!(content.ends_with(" +0000\r\nSubject: hello\r\n\r\n.one dot\r\n"), "{content}");
    client.dialog(&[("QUIT", "221 2.0.0")]);
    assert_eq!(client.rest(), "");
}

#[test]
fn several_recipients_do_not_learn_of_each_other() {
    let fixture = start(options());
    let mut client = fixture.connect();
    client.dialog(&[
        ("EHLO c", "250"),
        ("MAIL FROM:<>", "250"),
        ("RCPT TO:<alice@our.example>", "250"),
        ("RCPT TO:<Postmaster>", "250"),
        ("RCPT TO:<nobody@our.example>", "550 5.1.1"),
        ("RCPT TO:<alice@other.example>", "550 5.7.1"),
        ("DATA", "354"),
    ]);
    client.send("\r\nx\r\n.\r\n");
    assert!(client.reply().starts_with("250 2.0.0"));
    let (envelope, content) = fixture.messages().remove(0);
    assert_eq!(envelope, "<> alice@our.example,postmaster@our.example");
    assert!(!String::from_utf8_lossy(&content).contains("alice"));
}

#[test]
fn the_published_record_vouches_for_the_tls_session() {
    let fixture = start(options());
    let mut client = fixture.connect();
    client.dialog(&[("EHLO client.example", "250"), ("STARTTLS", "220 2.0.0")]);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let demand = Authenticate {
        base_domain: "mx.our.example.".parse().expect("a name"),
        records: vec![fixture.identity.tlsa_record()],
        unusable: Vec::new(),
        reference_ids: Vec::new(),
        host_only: false,
    };
    let verifier = DaneVerifier::new(&demand, &provider);
    let config = Arc::new(client_config(provider, verifier).expect("usable"));
    let unknown = "some.other.name".to_owned().try_into().expect("a name");
    let connection = rustls::ClientConnection::new(config, unknown).expect("usable");
    let stream = rustls::StreamOwned::new(connection, client.stream);
    let mut client = Client { stream, unread: Vec::new() };
    assert!(client.command("MAIL FROM:<a@b>").starts_with("503"), "what was said in the clear is forgotten");
    client.envelope();
    client.send("\r\nx\r\n.\r\n");
    assert!(client.reply().starts_with("250 2.0.0"));
    let (_, content) = fixture.messages().remove(0);
    let content = String::from_utf8_lossy(&content).into_owned();
    let (tls, protocol) = ("(using TLSv1.3 with cipher TLS_AES_", " with ESMTPS id ");
    assert!(content.contains(tls) && content.contains(protocol), "{content}");
}

#[test]
fn plaintext_behind_starttls_is_never_answered() {
    let fixture = start(options());
    let mut client = fixture.connect();
    client.dialog(&[("EHLO client.example", "250")]);
    client.send("STARTTLS\r\nEHLO injected\r\nMAIL FROM:<a@b>\r\n");
    let rest = client.rest();
    assert!(rest.starts_with("503 5.5.0") && rest.matches("\r\n").count() == 1, "{rest}");
}

#[test]
fn a_large_message_arrives_whole() {
    let fixture = start(options());
    let mut client = fixture.connect();
    client.envelope();
    // Lines of every length up to 80, each with a dot in front: dots and line ends fall on every edge of a buffer.
    let lines = (0..60_000usize).map(|line| format!(".{}\r\n", "x".repeat(line * 7 % 80)));
    let body = std::iter::once("Subject: large\r\n\r\n".to_owned()).chain(lines).collect::<String>();
    client.send(body.replace("\r\n.", "\r\n.."));
    client.send(".\r\n");
    assert!(client.reply().starts_with("250 2.0.0"));
    let (_, content) = fixture.messages().remove(0);
    assert!(content.ends_with(body.as_bytes()), "{} of {} octets", content.len(), body.len());
}

#[test]
fn a_message_whose_end_did_not_come_leaves_nothing() {
    let fixture = start(options());
    let mut client = fixture.connect();
    client.envelope();
    client.send("Subject: x\r\n\r\nx\r\n.\r");
    drop(client);
    let mut client = fixture.connect();
    client.envelope();
    client.send("a\nb\r\n.\r\n");
    assert!(client.reply().starts_with("550 5.6.0"));
    assert!(fixture.messages().is_empty());
}

#[test]
fn a_full_disk_leaves_the_mail_with_the_client() {
    let full = mta_queue::Options { reserve_bytes: u64::MAX / 2, ..mta_queue::Options::default() };
    let fixture = start_with(options(), full);
    let mut client = fixture.connect();
    client.dialog(&[("EHLO c", "250"), ("MAIL FROM:<a@b> SIZE=1000", "452 4.3.1"), ("NOOP", "250")]);
}

#[test]
fn one_client_too_many_is_told_so() {
    let fixture = start(Options { sessions_per_client: 2, ..options() });
    let (first, _second) = (fixture.connect(), fixture.connect());
    let mut third = Client { stream: socket(fixture.address), unread: Vec::new() };
    assert!(third.rest().starts_with("421 4.7.0 too many connections from your address"));
    drop(first);
    fixture.until_open(1);
    fixture.connect();
}

#[test]
fn a_reload_is_for_the_sessions_that_follow() {
    let fixture = start(options());
    let mut old = fixture.connect();
    let smaller = Options { message_size_limit: 12_345, ..options() };
    fixture.server.reload(settings(smaller, &fixture.identity));
    assert!(old.command("EHLO c").contains("SIZE 35000000\r\n"));
    assert!(fixture.connect().command("EHLO c").contains("SIZE 12345\r\n"));
}

#[test]
fn stopping_answers_421_and_cuts_no_message_short() {
    let fixture = start(options());
    let (mut idle, mut sending) = (fixture.connect(), fixture.connect());
    sending.envelope();
    sending.send("Subject: x\r\n");
    fixture.stopper.fire();
    assert!(idle.rest().starts_with("421 4.3.2"));
    sending.send("\r\nx\r\n.\r\n");
    assert!(sending.reply().starts_with("250 2.0.0"));
    assert!(sending.reply().starts_with("421 4.3.2"));
    drop((idle, sending));
    smol::block_on(fixture.running);
    assert_eq!(fixture.queue.reader().counts().expect("counts").messages, 1);
}

#[test]
fn a_client_too_slow_for_the_stop_hears_421_and_keeps_its_message() {
    let queue_options = mta_queue::Options { reserve_bytes: 0, ..mta_queue::Options::default() };
    let fixture = start_with_grace(options(), queue_options, Duration::from_millis(50));
    let mut slow = fixture.connect();
    slow.envelope();
    slow.send("Subject: x\r\n");
    fixture.stopper.fire();
    assert_eq!(slow.rest(), "421 4.3.2 service is stopping\r\n");
    smol::block_on(fixture.running);
    assert_eq!(fixture.queue.reader().counts().expect("counts").messages, 0);
}

#[test]
fn a_client_that_never_reads_is_dropped() {
    let limits = Limits { idle_commands: usize::MAX, ..Limits::default() };
    let fixture = start(Options { write_timeout: Duration::from_millis(50), limits, ..options() });
    let mut deaf = fixture.connect();
    let noops = "NOOP\r\n".repeat(1000);
    // Ends when the server has dropped the connection, and only then.
    while deaf.stream.write_all(noops.as_bytes()).is_ok() {}
    fixture.until_open(0);
    fixture.connect();
}

#[test]
fn clients_that_idle_vanish_or_stop_half_way_do_not_delay_an_honest_one() {
    const EACH: usize = 30;
    let fixture = start(options());
    let mut kept = Vec::new();
    for _ in 0..EACH {
        kept.push(fixture.connect());
        // Stops in the middle of a TLS handshake: the beginning of a record that never ends.
        let mut half = fixture.connect();
        half.dialog(&[("EHLO c", "250"), ("STARTTLS", "220")]);
        half.send([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]);
        kept.push(half);
        // Vanishes with a reset, within content.
        let mut gone = fixture.connect();
        gone.envelope();
        gone.send("half a line");
        socket2::SockRef::from(&gone.stream).set_linger(Some(Duration::ZERO)).expect("set");
    }
    let mut honest = fixture.connect();
    honest.envelope();
    honest.send("\r\nx\r\n.\r\n");
    assert!(honest.reply().starts_with("250 2.0.0"));
    fixture.until_open(2 * EACH + 1);
    assert_eq!(fixture.messages().len(), 1);
    drop(kept);
    fixture.until_open(1);
}
