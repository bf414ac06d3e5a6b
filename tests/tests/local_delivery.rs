//! Mail for our own domains: into the Maildir, byte-whole, with its trace; strangers' mail nowhere.

use mta_lab::client::{self, SmtpClient};
use mta_lab::lab::{Lab, OWN_DOMAIN, Plan, WITHIN, queue_id};

fn started() -> Lab {
    Plan::new().start().expect("a laboratory")
}

/// The message as stored, with the line ends it was sent with.
fn with_crlf(stored: &[u8]) -> Vec<u8> {
    let text: Vec<u8> = stored.iter().copied().filter(|byte| *byte != b'\r').collect();
    let mut wire = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        wire.extend(line.strip_suffix(b"\n").unwrap_or(line));
        wire.extend(b"\r\n");
    }
    wire
}

#[test]
fn a_message_lies_in_the_maildir_byte_whole_behind_its_trace() {
    let lab = started();
    let body = ".dot at the start\r\n..two\r\nplain\r\n.\u{e4}\u{f6}\r\n";
    let mut content = client::message("carol@else.example", "alice@own.example", "whole", "");
    content.extend(body.as_bytes());
    let id = lab.send_content("carol@else.example", &["alice@own.example"], &content);
    assert_eq!(lab.settled(&id).status, "delivered");
    let stored = lab.maildir(OWN_DOMAIN, "alice");
    assert_eq!(stored.len(), 1);
    let stored = with_crlf(&stored[0]);
    assert!(stored.ends_with(&content), "{}", String::from_utf8_lossy(&stored));
    let trace = String::from_utf8_lossy(&stored[..stored.len() - content.len()]).into_owned();
    assert!(trace.starts_with("Return-Path: <carol@else.example>\r\n"), "{trace}");
    for part in ["Received: from client.lab.example", "by mail.own.example", "127.0.0.1", &format!("id {id}")]
    {
        assert!(trace.contains(part), "no {part:?} in {trace}");
    }
}

#[test]
fn every_mailbox_gets_its_copy_and_strangers_none() {
    let lab = started();
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    client.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
    for (recipient, code) in [
        ("alice@own.example", 250),
        ("BOB@Own.Example", 250),
        ("nobody@own.example", 550),
        ("postmaster@own.example", 250),
    ] {
        let reply = client.command(&format!("RCPT TO:<{recipient}>")).expect("a reply");
        assert_eq!(reply.code, code, "{recipient}: {reply:?}");
    }
    client.ask("DATA").expect("DATA");
    client.send(&client::message("carol@else.example", "all@own.example", "copies", "x\n")).expect("content");
    let reply = client.command(".").expect("a reply");
    let id = queue_id(&reply).expect("a queue id");
    let shown = lab.wait_for(&id, |message| message.status == "delivered");
    assert_eq!(shown.recipients.len(), 3);
    for mailbox in ["alice", "bob", "postmaster"] {
        assert_eq!(lab.maildir(OWN_DOMAIN, mailbox).len(), 1, "{mailbox}");
    }
}

#[test]
fn nobody_relays_who_is_not_listed() {
    let mut plan = Plan::new();
    plan.set("smtp.relay_networks", "[]");
    let lab = plan.start().expect("a laboratory");
    for recipient in [
        "someone@else.example",
        "someone%else.example@own.example",
        "else.example!someone@own.example",
        "@own.example:someone@else.example",
        "\"someone@else.example\"@own.example",
        "someone@own.example.else.example",
        "someone@xown.example",
    ] {
        let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
        client.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
        let reply = client.command(&format!("RCPT TO:<{recipient}>")).expect("a reply");
        assert!(reply.code >= 500, "{recipient}: {reply:?}");
    }
    assert_eq!(lab.list(), []);
}

#[test]
fn a_looping_message_is_refused() {
    let mut plan = Plan::new();
    plan.set("smtp.max_received", "10");
    let lab = plan.start().expect("a laboratory");
    let received = "Received: from a.example by b.example; Mon, 23 Nov 2026 12:00:00 +0000\r\n";
    let mut content = received.repeat(11).into_bytes();
    content.extend(client::message("carol@else.example", "alice@own.example", "loop", "x\n"));
    let reply =
        client::send_message(lab.daemon().address(), "carol@else.example", &["alice@own.example"], &content)
            .expect("a session");
    assert_eq!(reply.code, 554, "{reply:?}");
    assert!(lab.maildir(OWN_DOMAIN, "alice").is_empty());
}

#[test]
fn a_large_message_arrives_whole() {
    let lab = started();
    let line = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz\n";
    let content = client::message("carol@else.example", "alice@own.example", "large", &line.repeat(60_000));
    let id = lab.send_content("carol@else.example", &["alice@own.example"], &content);
    let delivered = lab.wait_for(&id, |message| message.status == "delivered");
    assert!(delivered.size_bytes > 4_000_000);
    assert!(with_crlf(&lab.maildir(OWN_DOMAIN, "alice")[0]).ends_with(&content));
    assert!(lab.daemon().wait_for_log(WITHIN, |line| line.contains(&id)).is_some());
}
