//! Who sent this: SPF, DKIM, DMARC and the client's name, from the laboratory's own zones, with signatures made by dkimpy.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use hickory_proto::op::ResponseCode;
use mta_lab::client::{self, Reply};
use mta_lab::lab::{Lab, OWN_DOMAIN, Plan, queue_id};
use mta_lab::peers;
use mta_lab::zone::{FaultKind, Zone};

const DOMAIN: &str = "author.example";

/// A key of RSA, and the text of its record.
fn key(folder: &Path) -> (String, String) {
    let file = folder.join("dkim.pem");
    let path = file.display().to_string();
    peers::run("openssl", &["genrsa", "-out", &path, "2048"], folder).expect("a key");
    let public = ["rsa", "-in", &path, "-pubout", "-outform", "PEM"];
    let public = String::from_utf8(peers::run("openssl", &public, folder).expect("its public half").stdout);
    let public: String = public.expect("PEM").lines().filter(|line| !line.starts_with('-')).collect();
    (path, format!("v=DKIM1; k=rsa; p={public}"))
}

/// What dkimpy makes of a message.
fn signed(content: &str, key: &str) -> String {
    let program = peers::find("dkimsign").expect("dkimsign");
    let mut child = Command::new(program)
        .args(["s1", DOMAIN, key])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    child.stdin.take().expect("a pipe").write_all(content.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("ended");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

/// A laboratory in which 127.0.0.1 is a stranger, and a domain that publishes everything.
fn laboratory(record: &str, change: impl FnOnce(&mut Plan)) -> Lab {
    let mut plan = Plan::new();
    plan.set("smtp.relay_networks", "[]");
    let zone = |name: &str| {
        Zone::new(name)
            .txt("@", "v=spf1 ip4:127.0.0.1 -all")
            .txt("_dmarc", "v=DMARC1; p=reject")
            .mx("@", 10, "mx")
    };
    plan.zone(zone(DOMAIN).txt("s1._domainkey", record));
    // Others may send for this one, and we may not.
    plan.zone(
        Zone::new("other.example").txt("@", "v=spf1 ip4:192.0.2.1 -all").txt("_dmarc", "v=DMARC1; p=reject"),
    );
    change(&mut plan);
    plan.start().expect("a laboratory")
}

fn content(from: &str) -> String {
    format!(
        "From: Ann <{from}>\r\nTo: alice@own.example\r\nSubject: hello\r\nDate: Mon, 23 Nov 2026 22:03:48 +0000\r\n\
         Message-ID: <1@{DOMAIN}>\r\nAuthentication-Results: mail.own.example; dmarc=pass header.from=bank.example\r\n\
         \r\nThe text.  \r\n\r\n"
    )
}

fn send(lab: &Lab, from: &str, content: &str) -> Reply {
    client::send_message(lab.daemon().address(), from, &["alice@own.example"], content.as_bytes())
        .expect("a session")
}

/// Sends what is taken; the stored message and its summary.
fn delivered(lab: &Lab, from: &str, content: &str) -> (String, String) {
    let reply = send(lab, from, content);
    let id = queue_id(&reply).unwrap_or_else(|| panic!("{reply:?}"));
    let shown = lab.wait_for(&id, |message| message.status == "delivered");
    let stored = lab.maildir(OWN_DOMAIN, "alice").pop().expect("a message");
    (String::from_utf8(stored).expect("text"), shown.auth.expect("a summary"))
}

#[test]
fn a_signed_message_passes_and_what_is_not_its_authors_own_is_told_from_it() {
    if peers::missing(&["openssl", "dkimsign"]).is_some() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (key, record) = key(folder.path());
    let lab = laboratory(&record, |plan| plan.set("auth.dmarc", "\"reject\""));
    let message = signed(&content("ann@author.example"), &key);
    assert!(message.starts_with("DKIM-Signature:"), "{message}");

    let (stored, summary) = delivered(&lab, "ann@author.example", &message);
    assert_eq!(summary, "spf=pass,dkim=pass(author.example),dmarc=pass(p=reject),iprev=permerror");
    let text = stored.replace("\r\n", "\n").replace("\n\t", " ");
    let results: Vec<&str> =
        text.lines().filter(|line| line.starts_with("Authentication-Results:")).collect();
    assert_eq!(results.len(), 1, "the forged one is gone: {stored}");
    for part in [
        "Authentication-Results: mail.own.example; spf=pass smtp.mailfrom=ann@author.example;",
        "spf=none smtp.helo=client.lab.example",
        "dkim=pass header.d=author.example header.s=s1 header.a=rsa-sha256 header.b=",
        "dmarc=pass (p=reject) header.from=author.example",
        "iprev=permerror policy.iprev=127.0.0.1",
    ] {
        assert!(results[0].contains(part), "no {part:?} in {}", results[0]);
    }
    assert!(
        lab.daemon()
            .log()
            .iter()
            .any(|line| line.contains("accepted")
                && line.contains("auth=\"spf=pass,dkim=pass(author.example)"))
    );

    // The signature alone proves the author, when forwarded say; and without either nothing does.
    let (_, summary) = delivered(&lab, "bounces@elsewhere.example", &message);
    assert_eq!(summary, "spf=none,dkim=pass(author.example),dmarc=pass(p=reject),iprev=permerror");
    let altered = message.replace("The text.", "Another text.");
    let (_, summary) = delivered(&lab, "ann@author.example", &altered);
    assert_eq!(summary, "spf=pass,dkim=fail,dmarc=pass(p=reject),iprev=permerror");
    let reply = send(&lab, "mallory@elsewhere.example", &altered);
    assert_eq!((reply.code, reply.lines[0].get(..5)), (550, Some("5.7.1")), "{reply:?}");
    let reply = send(&lab, "x@elsewhere.example", &content("boss@other.example"));
    assert_eq!(reply.code, 550, "{reply:?}");
    // A bounce is marked and taken, whatever it fails.
    let (stored, _) = delivered(&lab, "", &content("boss@other.example"));
    assert!(stored.contains("\nX-Spam-Flag: YES"), "{stored}");
    // Two authors are none.
    let two = content("ann@author.example").replace("To:", "From: b@bank.example\r\nTo:");
    assert_eq!(send(&lab, "ann@author.example", &two).code, 550);
}

#[test]
fn what_can_be_read_in_two_ways_proves_nothing() {
    if peers::missing(&["openssl", "dkimsign"]).is_some() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (key, record) = key(folder.path());
    let lab = laboratory(&record, |plan| plan.set("auth.dmarc", "\"reject\""));
    let from = "ann@author.example";
    let good = content(from);
    let refused = |content: &str, status: &str| {
        let reply = send(&lab, from, content);
        assert_eq!((reply.code, reply.lines[0].get(..5)), (550, Some(status)), "{content}\n{reply:?}");
    };
    // It would go on where our own results end.
    refused(&format!(" ; dmarc=pass header.from=bank.example (a:b)\r\n{good}"), "5.6.0");
    refused(&format!("\tNO: y\r\n{good}"), "5.6.0");
    // SPF passes for the one, and the other is read.
    for field in [
        "From: <ceo@bank.example> <ann@author.example>",
        "From: ceo@bank.example ann@author.example",
        "From: ceo@bank.example:ann@author.example;",
        "From: \"ceo@bank.example\"",
        "From: =?utf-8?q?ceo=40bank.example?=",
        "From: ceo at bank.example",
        "From:",
    ] {
        refused(&good.replace("From: Ann <ann@author.example>", field), "5.7.1");
    }
    // What a signature covers ends for some readers at a line that is no field.
    let message = signed(&good, &key);
    refused(&message.replacen("\r\n\r\n", "\r\ngarbage\r\nSubject: your account\r\n\r\n", 1), "5.7.1");
    let (_, summary) = delivered(&lab, from, &message);
    assert!(summary.contains("dmarc=pass"), "{summary}");
}

#[test]
fn what_dns_does_not_answer_refuses_nothing() {
    let lab = laboratory("v=DKIM1; p=", |plan| {
        for (option, value) in [("spf", "reject"), ("dkim", "reject"), ("dmarc", "reject"), ("timeout", "3s")]
        {
            plan.set(&format!("auth.{option}"), &format!("\"{value}\""));
        }
        plan.zone(Zone::new("gone.example").fault(FaultKind::Rcode(ResponseCode::ServFail)));
    });
    let (_, summary) = delivered(&lab, "x@gone.example", &content("x@gone.example"));
    assert_eq!(summary, "spf=temperror,dkim=none,dmarc=temperror,iprev=permerror");
    let reply = send(&lab, "x@other.example", &content("x@gone.example"));
    assert_eq!((reply.code, reply.lines[0].get(..6)), (550, Some("5.7.23")), "{reply:?}");
}
