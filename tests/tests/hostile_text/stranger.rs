//! The places in which a stranger writes: commands, their parameters, logins, the TLS handshake, content, replies of servers
//! and DNS.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hickory_proto::rr::rdata::{MX, PTR, TXT};
use hickory_proto::rr::{Name, RData, Record};
use mta_lab::cert::Identity;
use mta_lab::client::{REPLY_WITHIN, stuffed};
use mta_lab::lab::Plan;
use mta_lab::mx::{Action, Behaviour, Moment};
use mta_lab::zone::Zone;

use crate::texts::{framed, is_hostile, texts, xtext};

/// Strangers at a time.
const WRITERS: usize = 16;

/// Commands with a text in them, each list a session of its own.
fn commands(text: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let line = |before: &str, place: &str, after: &str| {
        [before.as_bytes(), &framed(place, text), after.as_bytes()].concat()
    };
    let coded = |place: &str| xtext(&framed(place, text));
    let mail = || b"MAIL FROM:<a@else.example>".to_vec();
    let rcpt = || b"RCPT TO:<alice@own.example>".to_vec();
    let ehlo = || b"EHLO c.example".to_vec();
    vec![
        vec![line("EHLO ", "zqehlo", ""), mail(), rcpt()],
        vec![line("HELO ", "zqhelo", ""), mail(), rcpt()],
        vec![ehlo(), line("", "zqverb", " x")],
        vec![ehlo(), line("VRFY ", "zqvrfy", "")],
        vec![ehlo(), line("MAIL FROM:<", "zqfrom", "@else.example>"), rcpt()],
        vec![ehlo(), line("MAIL FROM:<\"", "zqquoted", "\"@else.example>"), rcpt()],
        vec![ehlo(), line("MAIL FROM:<", "zqutf", "@else.example> SMTPUTF8"), rcpt()],
        vec![ehlo(), line("MAIL FROM:<a@", "zqdomain", ".example>"), rcpt()],
        vec![ehlo(), line("MAIL FROM:<a@", "zqidn", ".example> SMTPUTF8"), rcpt()],
        vec![ehlo(), line("MAIL FROM:<a@else.example> ", "ZQPARAM", "=1"), rcpt()],
        vec![ehlo(), line("MAIL FROM:<a@else.example> SIZE=", "", ""), rcpt()],
        vec![ehlo(), line("MAIL FROM:<a@else.example> BODY=", "zqbody", ""), rcpt()],
        vec![ehlo(), line("MAIL FROM:<a@else.example> RET=HDRS ENVID=", "zqenvid", ""), rcpt()],
        vec![
            ehlo(),
            format!("MAIL FROM:<a@else.example> ENVID={}", coded("zqxenvid")).into_bytes(),
            format!("RCPT TO:<alice@own.example> ORCPT=rfc822;{}", coded("zqxorcpt")).into_bytes(),
        ],
        vec![ehlo(), mail(), line("RCPT TO:<", "zqrcpt", "@own.example>"), rcpt()],
        vec![ehlo(), mail(), line("RCPT TO:<alice+\"", "zqdetail", "\"@own.example>"), rcpt()],
        vec![ehlo(), mail(), line("RCPT TO:<alice@own.example> ORCPT=", "zqorcpt", ";x"), rcpt()],
        vec![ehlo(), mail(), line("BDAT ", "zqbdat", "")],
    ]
}

/// A session: each command by itself, then content where the server asks for it, and QUIT; everything the server said.
fn exchange(server: SocketAddr, commands: &[Vec<u8>], content: &[u8]) -> Vec<u8> {
    converse(TcpStream::connect(server).expect("a connection"), commands, content)
}

/// A connection from another loopback address.
fn connect_from(client: Ipv4Addr, server: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketAddrV4, SocketType, bind, connect, socket};

    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddrV4::new(client, 0)).expect("an address");
    connect(&socket, &server).expect("a connection");
    socket.into()
}

fn converse(mut stream: TcpStream, commands: &[Vec<u8>], content: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(REPLY_WITHIN)).expect("a timeout");
    stream.set_nodelay(true).expect("a socket");
    let mut said = Vec::new();
    let mut last = reply(&mut stream, &mut said);
    // The server may have had enough before the end.
    for command in commands {
        let _ = stream.write_all(&[command, b"\r\n".as_slice()].concat());
        last = reply(&mut stream, &mut said);
    }
    if last == Some(*b"354") {
        let _ = stream.write_all(&[content, b".\r\n"].concat());
        reply(&mut stream, &mut said);
    } else if commands.iter().any(|command| command.contains(&b'\n')) {
        // What seemed one command may have been several, and DATA answered already.
        let _ = stream.write_all(b"\r\n.\r\n");
    }
    let _ = stream.write_all(b"QUIT\r\n");
    let ended = stream.read_to_end(&mut said);
    if let Err(error) = ended
        && error.kind() == std::io::ErrorKind::WouldBlock
    {
        let commands: Vec<String> = commands.iter().map(|it| it.escape_ascii().to_string()).collect();
        panic!("no end of {commands:?}: {}", said.escape_ascii());
    }
    said
}

/// Reads one reply; its code, and nothing where the server has closed.
fn reply(stream: &mut TcpStream, said: &mut Vec<u8>) -> Option<[u8; 3]> {
    let mut from = said.len();
    let mut octet = [0];
    loop {
        match stream.read(&mut octet) {
            Ok(1) => said.push(octet[0]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("no reply after {}", said.escape_ascii());
            }
            _ => return None,
        }
        if octet[0] == b'\n' {
            if let [a, b, c, b' ', ..] = said[from..] {
                return Some([a, b, c]);
            }
            from = said.len();
        }
    }
}

/// Writes every text in every place of a session; what the server said.
pub(crate) fn talk(server: SocketAddr) -> Vec<u8> {
    at_once(|text| {
        let sessions = commands(text).into_iter().map(|mut lines| {
            lines.push(b"DATA".to_vec());
            exchange(server, &lines, b"X-Begin: talk\r\n\r\nx\r\n")
        });
        sessions.flatten().collect()
    })
}

/// Does something with every text, with several at a time.
fn at_once(work: impl Fn(&[u8]) -> Vec<u8> + Sync) -> Vec<u8> {
    let texts = texts();
    let said = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for texts in texts.chunks(texts.len().div_ceil(WRITERS)) {
            let (said, work) = (&said, &work);
            scope.spawn(move || {
                for text in texts {
                    let answers = work(text);
                    said.lock().expect("no fault").extend(answers);
                }
            });
        }
    });
    said.into_inner().expect("no fault")
}

/// A message whose header holds a text wherever something of it is copied, shown or judged.
pub(crate) fn content(text: &[u8]) -> Vec<u8> {
    let fields: [(&str, &str, &str); 15] = [
        ("Received: from ", "zqreceived", " by x.example; Mon, 23 Nov 2026 12:00:00 +0000"),
        ("Return-Path: <", "zqreturn", "@else.example>"),
        ("Delivered-To: ", "zqdelivered", ""),
        ("Authentication-Results: mail.own.example; ", "zqresults", "=pass"),
        ("DKIM-Signature: v=1; a=rsa-sha256; d=", "zqsigner", ".example; s=x; h=from; bh=eHh4; b=eHh4"),
        ("DKIM-Signature: v=1; a=rsa-sha256; d=key.example; s=", "zqselector", "; h=from; bh=eHh4; b=eHh4"),
        ("DKIM-Signature: v=1; a=rsa-sha256; d=key.example; s=x; h=from; bh=eHh4; b=eHh4; i=", "zqagent", ""),
        ("ARC-Seal: i=1; a=rsa-sha256; cv=", "zqarc", "; d=arc.example; s=x; b=eHh4"),
        ("From: <a@", "zqauthor", ".dmarc.example>"),
        ("Subject: ", "zqsubject", ""),
        ("Message-ID: <", "zqmessage", "@else.example>"),
        ("Date: ", "zqdate", ""),
        ("", "zqfield", ": x"),
        ("Auto-Submitted: ", "zqauto", ""),
        ("TLS-Required: ", "zqrequired", ""),
    ];
    let mut content = b"X-Begin: content\r\nTo: alice@own.example\r\n".to_vec();
    for (before, place, after) in fields {
        content.extend([before.as_bytes(), &framed(place, text), after.as_bytes(), b"\r\n"].concat());
    }
    content.extend(b"\r\nx\r\n");
    content
}

/// Sends every such message as a stranger; what the server said.
pub(crate) fn write(server: SocketAddr) -> Vec<u8> {
    at_once(|text| {
        let content = stuffed(&content(text));
        let sessions = ["else.example", "spf.example"].map(|domain| {
            let mail = format!("MAIL FROM:<a@{domain}>");
            let commands = ["EHLO client.example", &mail, "RCPT TO:<alice@own.example>", "DATA"];
            exchange(server, &commands.map(|it| it.as_bytes().to_vec()), &content)
        });
        sessions.concat()
    })
}

/// Tries to log in with every text as name, authorization name, mechanism and SCRAM message; what the server said.
pub(crate) fn log_in(server: SocketAddr) -> Vec<u8> {
    let coded = |parts: &[&[u8]]| BASE64.encode(parts.concat());
    let mut said = Vec::new();
    let mut attempts = 0_u16;
    let mut attempt = |lines: &[Vec<u8>]| {
        // Each comes from an address of its own: whoever guesses again has to wait.
        attempts += 1;
        let [high, low] = attempts.to_be_bytes();
        let stream = connect_from(Ipv4Addr::new(127, 99, high, low.max(1)), server);
        let commands = [&[b"EHLO client.example".to_vec()], lines].concat();
        said.extend(converse(stream, &commands, b""));
    };
    for text in texts() {
        let (name, other) = (framed("zqlogin", &text), framed("zqauthz", &text));
        let scram = [b"n,,n=", framed("zqscram", &text).as_slice(), b",r=abc"].concat();
        attempt(&[format!("AUTH PLAIN {}", coded(&[b"\0", &name, b"\0x"])).into_bytes()]);
        attempt(&[format!("AUTH PLAIN {}", coded(&[&other, b"\0b@own.example\0x"])).into_bytes()]);
        attempt(&[b"AUTH LOGIN".to_vec(), coded(&[&name]).into_bytes(), coded(&[b"x"]).into_bytes()]);
        attempt(&[format!("AUTH SCRAM-SHA-256 {}", coded(&[&scram])).into_bytes(), b"*".to_vec()]);
        attempt(&[[b"AUTH ", framed("zqmechanism", &text).as_slice(), b" ", &text].concat()]);
    }
    said
}

/// Asks for every text as server name in a TLS handshake.
pub(crate) fn greet_tls(server: SocketAddr) {
    let roots = rustls::RootCertStore::empty();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    for text in texts() {
        let room = "q".repeat(text.len());
        let name = format!("zqsni{room}end.example").try_into().expect("a name");
        let mut connection = rustls::ClientConnection::new(Arc::clone(&config), name).expect("a connection");
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).expect("a hello");
        let needle = format!("zqsni{room}");
        let at = hello.windows(needle.len()).position(|it| it == needle.as_bytes()).expect("the name");
        hello[at + 5..at + needle.len()].copy_from_slice(&text);
        let mut stream = TcpStream::connect(server).expect("a connection");
        stream.set_read_timeout(Some(REPLY_WITHIN)).expect("a timeout");
        let mut said = Vec::new();
        reply(&mut stream, &mut said);
        for command in [b"EHLO c.example\r\n".as_slice(), b"STARTTLS\r\n"] {
            stream.write_all(command).expect("written");
            reply(&mut stream, &mut said);
        }
        stream.write_all(&hello).expect("written");
        // Its answer, and no more from here: the server hears of the end.
        let _ = stream.read(&mut [0; 16]);
    }
}

/// Every octet but those that end a line.
fn all_octets() -> Vec<u8> {
    (0..=0xff).filter(|octet| !b"\r\n".contains(octet)).collect()
}

/// Domains whose servers say hostile things, each at its own moment; the recipients to write to.
pub(crate) fn servers(plan: &mut Plan) -> Vec<String> {
    let mut recipients = Vec::new();
    let moments = [
        (Moment::Banner, "554", "banner"),
        (Moment::Ehlo, "550", "ehlo"),
        (Moment::Mail, "550", "mail"),
        (Moment::Rcpt, "550", "rcpt"),
        (Moment::Data, "550", "data"),
        (Moment::AfterDot, "550", "dot"),
    ];
    let ends: [(&str, &[u8]); 3] = [("lines", b"\r\n"), ("cr", b"\r"), ("lf", b"\n")];
    for (moment, code, word) in moments {
        for (kind, end) in ends {
            let domain = format!("{word}-{kind}.example");
            let place = format!("zqreply{word}");
            let mut reply = Vec::new();
            for separator in ["-", " "] {
                let line = [code.as_bytes(), separator.as_bytes(), b"5.1.1 ", &framed(&place, &all_octets())]
                    .concat();
                reply.extend(line);
                reply.extend(if separator == " " { b"\r\n" } else { end });
            }
            let host = Behaviour::plain(&format!("mx.{domain}")).at(moment, Action::Raw(reply));
            plan.site_with(&domain, Some(host), &[], Zone::unsigned);
            recipients.push(format!("x@{domain}"));
        }
    }
    // A server that calls itself so, and offers such things, and then takes the message.
    let mut host = Behaviour::plain(&format!("zqname{}", String::from_utf8_lossy(&all_octets())));
    host.extensions
        .extend(["DSN".to_owned(), format!("ZQKEYWORD{}", String::from_utf8_lossy(&all_octets()))]);
    plan.site_with("named.example", Some(host), &[], Zone::unsigned);
    recipients.push("x@named.example".to_owned());
    // One reply for each text; those that are no UTF-8 are in the replies above.
    let mut host = Behaviour::plain("mx.replies.example");
    for (n, text) in texts().into_iter().filter_map(|text| String::from_utf8(text).ok()).enumerate() {
        let text = text.replace('\n', "\n550 5.1.1 ");
        host = host.reply_to(&format!("r{n}@replies.example"), &format!("550 5.1.1 zqrefusal{text}end"));
        recipients.push(format!("r{n}@replies.example"));
    }
    plan.site_with("replies.example", Some(host), &[], Zone::unsigned);
    recipients.push(certificate(plan));
    recipients
}

/// A server whose certificate is called so, and is not the one that DNS names.
fn certificate(plan: &mut Plan) -> String {
    let named = Identity::self_signed_with(&["mx.certificate.example"], |params| {
        let text: String = texts().iter().map(|text| String::from_utf8_lossy(text)).collect();
        let text: String = text.chars().filter(|c| is_hostile(*c)).take(50).collect();
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("zqcertificate{text}"));
    });
    let other = Identity::self_signed(&["mx.certificate.example"]);
    let host = Behaviour::with_tls("mx.certificate.example", &named);
    plan.site("certificate.example", Some(host), &[other.leaf().tlsa(3, 1, 1)]);
    "x@certificate.example".to_owned()
}

/// DNS whose names and texts are such; the recipients to write to.
pub(crate) fn zones(plan: &mut Plan) -> Vec<String> {
    let octets = all_octets();
    let name = |place: &str, part: &[u8], zone: &str| {
        let label = [place.as_bytes(), part].concat();
        let labels = std::iter::once(label.as_slice()).chain(zone.split('.').map(str::as_bytes));
        let mut name = Name::from_labels(labels).expect("a name");
        name.set_fqdn(true);
        name
    };
    let txt = |octets: &[u8]| RData::TXT(TXT::from_bytes(octets.chunks(200).collect()));
    let with = |start: &str, place: &str, end: &str| {
        [start.as_bytes(), &framed(place, &octets), end.as_bytes()].concat()
    };
    // Hosts whose names hold every octet, and whose address refuses connections.
    let mut zone = Zone::new("hosts.example").unsigned();
    for part in octets.chunks(40) {
        let host = name("zqhost", part, "hosts.example");
        let lower = host.to_lowercase();
        zone = zone.record("@", RData::MX(MX::new(10, lower.clone())));
        zone.records.push(Record::from_rdata(lower, 300, RData::A(Ipv4Addr::new(127, 25, 9, 9).into())));
    }
    plan.zone(zone);
    // The client's name, which leads back to it.
    let mut names = Zone::new("names.example").unsigned();
    let mut reverse = Zone::new("0.0.127.in-addr.arpa").unsigned();
    let client = name("zqclient", &octets[..40], "names.example");
    names.records.push(Record::from_rdata(client.clone(), 300, RData::A(Ipv4Addr::LOCALHOST.into())));
    reverse = reverse.record("1", RData::PTR(PTR(client)));
    plan.zone(names);
    plan.zone(reverse);
    // SPF with an explanation, DMARC, a DKIM key, MTA-STS and TLSRPT.
    plan.zone(
        Zone::new("spf.example")
            .unsigned()
            .txt("@", "v=spf1 ip4:192.0.2.1 exp=why.spf.example -all")
            .record("why", txt(&with("", "zqwhy", "")))
            .record("_dmarc", txt(&with("v=DMARC1; p=", "zqpolicy", ";"))),
    );
    plan.zone(
        Zone::new("dmarc.example")
            .unsigned()
            .record("_dmarc", txt(&with("v=DMARC1; p=none; rua=mailto:", "zqrua", ""))),
    );
    plan.zone(
        Zone::new("key.example")
            .unsigned()
            .record("x._domainkey", txt(&with("v=DKIM1; n=", "zqkey", "; p=x"))),
    );
    let id = txt(&with("v=STSv1; id=", "zqid", ";"));
    let report = txt(&with("v=TLSRPTv1; rua=mailto:", "zqreport", ""));
    plan.site_with("sts.example", Some(Behaviour::plain("mx.sts.example")), &[], |zone| {
        zone.unsigned().record("_mta-sts", id).record("_smtp._tls", report)
    });
    vec!["x@hosts.example".to_owned(), "x@sts.example".to_owned()]
}
