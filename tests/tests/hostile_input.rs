//! What a client sends to hurt: dots at the edges of buffers, an end of data within a chunk, TLS that ends within one, lines
//! without end, replies that are never read, connections that are reset, headers and parts without measure.
//!
//! The table `HOSTILE.md` says which other tests belong to these.

use std::io::Write as _;
use std::net::TcpStream;

use mta_lab::client::{self, SmtpClient};
use mta_lab::lab::{Lab, OWN_DOMAIN, Plan, WITHIN, queue_id};
use mta_lab::mx::Behaviour;
use mta_lab::zone::Zone;

/// The largest memory the daemon may use, in KiB, while clients send far more than that.
const MAX_RSS_KIB: u64 = 120 * 1024;
/// What a client sends without end, in octets.
const ENDLESS: usize = 200 << 20;

fn lab(settings: &[(&str, &str)]) -> Lab {
    let mut plan = Plan::new();
    for (key, value) in settings {
        plan.set(key, value);
    }
    plan.site_with("away.example", Some(Behaviour::plain("mx.away.example")), &[], Zone::unsigned);
    plan.start().expect("a laboratory")
}

fn memory_kib(lab: &Lab) -> u64 {
    let pid = lab.daemon().pid().expect("a running daemon");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line of its memory");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// An honest client is served.
fn assert_served(lab: &Lab) {
    let id = lab.send("carol@else.example", &["alice@own.example"]);
    assert_eq!(lab.wait_for(&id, |message| message.finished_at.is_some()).status, "delivered");
}

/// A session in which content is awaited.
fn awaiting_content(lab: &Lab) -> SmtpClient {
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    client.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
    client.ask("RCPT TO:<alice@own.example>").expect("RCPT");
    client.ask("DATA").expect("DATA");
    client
}

#[test]
fn dots_at_the_edge_of_every_buffer_and_long_lines_come_through_unchanged() {
    let lab = lab(&[]);
    let mut content = b"Subject: edges\r\n\r\n".to_vec();
    // A line that begins with dots, and one that is a dot, so that each of their octets meets each edge once.
    for edge in [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536_usize] {
        for before in 0..8 {
            // Whatever is in front, in content and on the wire, the edge is met at one of eight places.
            let filled = (content.len() + 2).div_ceil(edge) * edge - before;
            let room = filled.saturating_sub(content.len() + 2);
            content.extend(vec![b'x'; room]);
            content.extend(b"\r\n.\r\n..\r\n.x\r\n");
        }
    }
    content.extend([vec![b'y'; 400_000].as_slice(), b"\r\n.\r\n"].concat());
    let id = lab.send_content("carol@else.example", &["alice@own.example", "x@away.example"], &content);
    lab.wait_for(&id, |message| message.finished_at.is_some());
    let remote = &lab.mx("mx.away.example").messages()[0].content;
    assert!(remote.ends_with(&content), "changed on its way to the next server");
    let unix: Vec<u8> = content.iter().copied().filter(|octet| *octet != b'\r').collect();
    let stored = lab.maildir(OWN_DOMAIN, "alice").pop().expect("a message");
    let stored: Vec<u8> = stored.into_iter().filter(|octet| *octet != b'\r').collect();
    assert!(stored.ends_with(&unix), "changed on its way to the mailbox");
}

#[test]
fn an_end_of_data_within_a_chunk_is_content_here_and_at_the_next_server() {
    let lab = lab(&[]);
    let content =
        b"Subject: outer\r\n\r\nx\r\n.\r\nMAIL FROM:<evil@else.example>\r\nRCPT TO:<bob@own.example>\r\n\
                    DATA\r\nSubject: smuggled\r\n\r\nevil\r\n.\r\nQUIT\r\n";
    for cut in [0, content.len() / 3, content.len()] {
        let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
        client.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
        client.ask("RCPT TO:<alice@own.example>").expect("RCPT");
        client.ask("RCPT TO:<x@away.example>").expect("RCPT");
        let (one, two) = content.split_at(cut);
        for (part, last) in [(one, ""), (two, " LAST")] {
            client.send(format!("BDAT {}{last}\r\n", part.len()).as_bytes()).expect("a command");
            client.send(part).expect("a chunk");
            let reply = client.reply().expect("a reply");
            assert_eq!(reply.code, 250, "{reply:?}");
            if let Some(id) = queue_id(&reply) {
                lab.wait_for(&id, |message| message.finished_at.is_some());
            }
        }
        client.ask("NOOP").expect("in step");
    }
    assert!(lab.maildir(OWN_DOMAIN, "bob").is_empty(), "the smuggled message");
    assert_eq!(lab.maildir(OWN_DOMAIN, "alice").len(), 3);
    let remote = lab.mx("mx.away.example").messages();
    assert_eq!(remote.len(), 3);
    for message in remote {
        assert!(message.content.ends_with(content), "{}", message.content.escape_ascii());
        assert!(message.reverse_path.starts_with("<carol@else.example>"), "{message:?}");
    }
}

/// The class of CVE-2026-45185: what is left of a buffer when TLS ends within BDAT.
#[test]
fn tls_that_ends_within_a_chunk_ends_the_session_and_leaves_nothing() {
    let lab = lab(&[]);
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    client.ask("STARTTLS").expect("STARTTLS");
    client.start_tls("mail.own.example").expect("TLS");
    client.ask("EHLO client.example").expect("EHLO");
    client.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
    client.ask("RCPT TO:<alice@own.example>").expect("RCPT");
    client.send(b"BDAT 100 LAST\r\nSubject: half\r\n").expect("a part of a chunk");
    let rest = [vec![b'z'; 85].as_slice(), b"NOOP\r\nRSET\r\n"].concat();
    // The server may be gone already.
    let _ = client.end_tls(&rest);
    assert!(client.reply().is_err(), "nothing is answered once TLS has ended");
    assert_served(&lab);
    let stored = lab.maildir(OWN_DOMAIN, "alice");
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert_eq!(lab.list(), []);
}

#[test]
fn lines_without_end_have_one_answer_and_cost_no_memory() {
    let lab = lab(&[]);
    let piece = vec![b'x'; 1 << 16];
    let flood = |client: &mut SmtpClient| {
        // The server may close before all of it was written.
        let _ = (0..ENDLESS / piece.len()).try_for_each(|_| client.send(&piece));
    };
    let mut command = SmtpClient::open(lab.daemon().address()).expect("a session");
    flood(&mut command);
    let mut text = awaiting_content(&lab);
    flood(&mut text);
    let mut header = awaiting_content(&lab);
    header.send(b"Subject: ").expect("sent");
    flood(&mut header);
    let mut login = SmtpClient::open(lab.daemon().address()).expect("a session");
    login.send(b"AUTH PLAIN ").expect("sent");
    flood(&mut login);
    assert_served(&lab);
    let memory = memory_kib(&lab);
    assert!(memory < MAX_RSS_KIB, "{memory} KiB");
    // What never ended is nowhere.
    drop((command, text, header, login));
    assert_served(&lab);
    assert_eq!(lab.maildir(OWN_DOMAIN, "alice").len(), 2);
}

#[test]
fn clients_that_never_read_or_reset_their_connections_keep_nobody_out() {
    let lab = lab(&[
        ("smtp.write_timeout", "\"1s\""),
        ("smtp.max_idle_commands", "100000"),
        ("smtp.max_sessions", "20"),
        ("smtp.max_sessions_per_client", "20"),
    ]);
    let server = lab.daemon().address();
    // As many as there may be; none ever reads what it is told.
    let deaf: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(server).expect("a connection");
            stream.write_all(b"EHLO c.example\r\n").expect("written");
            stream.set_nonblocking(true).expect("a socket");
            while stream.write(&b"NOOP\r\n".repeat(1000)).is_ok() {}
            stream
        })
        .collect();
    // Each is dropped after its time, so that there is room for somebody else.
    let is_open = || SmtpClient::open(server).is_ok();
    assert!(lab.wait_for_files(is_open), "the deaf are dropped");
    drop(deaf);
    for _ in 0..300 {
        let mut stream = TcpStream::connect(server).expect("a connection");
        stream.write_all(b"EHLO c.example\r\nNOOP\r\n").expect("written");
        // What was not read makes the close a reset.
        drop(stream);
    }
    assert!(lab.wait_for_files(is_open), "those that reset are gone");
    assert_served(&lab);
    assert!(memory_kib(&lab) < MAX_RSS_KIB, "{} KiB", memory_kib(&lab));
}

#[test]
fn headers_and_parts_without_measure_have_one_answer() {
    let lab = lab(&[("smtp.relay_networks", "[]")]);
    let send = |content: &[u8]| {
        client::send_message(lab.daemon().address(), "carol@else.example", &["alice@own.example"], content)
            .expect("a session")
            .code
    };
    let front = "From: carol@else.example\r\nSubject: x\r\n";
    let many = format!("{front}{}\r\nx\r\n", "X-Field: y\r\n".repeat(20_000));
    assert_eq!(send(many.as_bytes()), 552, "20,000 fields");
    let long = format!("{front}X-Field: {}\r\n\r\nx\r\n", "y".repeat(100_000));
    assert_eq!(send(long.as_bytes()), 250, "a field of 100 kB");
    let folded = format!("{front}X-Field: y{}\r\n\r\nx\r\n", "\r\n z".repeat(60_000));
    assert_eq!(send(folded.as_bytes()), 552, "a field of 60,000 lines");
    let signatures =
        "DKIM-Signature: v=1; a=rsa-sha256; d=x.example; s=s; h=from; bh=eHh4; b=eHh4\r\n".repeat(500);
    assert_eq!(send(format!("{signatures}{front}\r\nx\r\n").as_bytes()), 250, "500 signatures");
    let mut nested = format!("{front}MIME-Version: 1.0\r\n");
    for depth in 0..100 {
        nested
            .push_str(&format!("Content-Type: multipart/mixed; boundary=\"b{depth}\"\r\n\r\n--b{depth}\r\n"));
    }
    nested.push_str("\r\nx\r\n");
    assert_eq!(send(nested.as_bytes()), 250, "100 nested parts are content like any other");
    assert!(lab.wait_for_files(|| lab.maildir(OWN_DOMAIN, "alice").len() == 3));
    let says = |line: &str| line.contains("event=rejected") && line.contains("header section");
    assert!(lab.daemon().wait_for_log(WITHIN, says).is_some(), "the log says why");
}
