//! Aliases of the database, sub-addresses and relayed domains, in the whole server.

use mta_lab::client::{self, SmtpClient};
use mta_lab::lab::{Lab, OWN_DOMAIN, Plan, WITHIN};
use mta_lab::mx::Behaviour;

const OLD_DOMAIN: &str = "old.example";
const BACKED_UP: &str = "primary.example";

fn started() -> Lab {
    let mut plan = Plan::new();
    plan.site("far.example", Some(Behaviour::plain("mx.far.example")), &[]);
    let primary = plan.host("mx.primary.example", Some(Behaviour::plain("mx.primary.example")));
    plan.set(&format!("domain.\"{OLD_DOMAIN}\".mailboxes"), "[]");
    plan.set(&format!("domain.\"{BACKED_UP}\".kind"), "\"relay\"");
    plan.set(&format!("domain.\"{BACKED_UP}\".mailboxes"), "[\"carol\"]");
    let next_hop = format!("\"{primary}:{}\"", plan.ports.smtp);
    plan.set(&format!("domain.\"{BACKED_UP}\".next_hop"), &next_hop);
    plan.set("smtp.relay_networks", "[]");
    plan.start().expect("a laboratory")
}

fn alias(lab: &Lab, words: &[&str]) -> i32 {
    let output = lab.daemon().cli(["alias"].iter().chain(words).copied()).expect("the tool runs");
    output.status.code().unwrap_or(-1)
}

/// The code that RCPT is answered with.
fn rcpt(lab: &Lab, recipient: &str) -> u16 {
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    client.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
    client.command(&format!("RCPT TO:<{recipient}>")).expect("a reply").code
}

#[test]
fn an_alias_reaches_each_of_its_members_once() {
    let lab = started();
    assert_eq!(
        alias(&lab, &["add", "all@own.example", "alice@own.example", "two@own.example", "x@far.example"]),
        0
    );
    assert_eq!(
        alias(&lab, &["add", "two@own.example", "alice@own.example", "bob@own.example", "x@far.example"]),
        0
    );
    let id = lab.send("carol@else.example", &["all@own.example", "bob+detail@own.example"]);
    let shown = lab.settled(&id);
    assert_eq!(shown.status, "delivered");
    assert!(lab.mx("mx.far.example").wait_until(WITHIN, |seen| seen.messages.len() == 1));
    let received = lab.mx("mx.far.example").messages().remove(0);
    let text = String::from_utf8_lossy(&received.content).into_owned();
    assert!(text.starts_with("Delivered-To: all@own.example\r\n"), "{text}");
    // An address of ours, which leads back to the sender (SRS).
    assert!(received.reverse_path.starts_with("<SRS0="), "{}", received.reverse_path);
    assert!(received.reverse_path.contains("=else.example=carol@own.example>"), "{}", received.reverse_path);
    for mailbox in ["alice", "bob"] {
        assert_eq!(lab.maildir(OWN_DOMAIN, mailbox).len(), 1, "{mailbox}");
    }
    // Nothing else was queued but the one that was forwarded.
    assert!(lab.list().iter().all(|message| message.status == "delivered"));
}

#[test]
fn catch_alls_whole_domains_and_what_is_deleted() {
    let lab = started();
    assert_eq!(rcpt(&lab, "anything@own.example"), 550);
    assert_eq!(alias(&lab, &["add", "@own.example", "bob@own.example"]), 0);
    assert_eq!(alias(&lab, &["add", "@old.example", "@own.example"]), 0);
    assert_eq!((rcpt(&lab, "anything@own.example"), rcpt(&lab, "anything@old.example")), (250, 250));
    let id = lab.send("carol@else.example", &["alice@old.example", "other%far.example@own.example"]);
    assert_eq!(lab.settled(&id).status, "delivered");
    assert_eq!((lab.maildir(OWN_DOMAIN, "alice").len(), lab.maildir(OWN_DOMAIN, "bob").len()), (1, 1));
    assert_eq!(alias(&lab, &["delete", "@own.example"]), 0);
    assert_eq!(alias(&lab, &["delete", "@own.example"]), 2);
    assert_eq!((rcpt(&lab, "anything@own.example"), rcpt(&lab, "anything@old.example")), (550, 550));
    assert_eq!((rcpt(&lab, "alice@old.example"), rcpt(&lab, "alice+x@old.example")), (250, 250));
    assert_eq!(alias(&lab, &["add", "x@far.example", "alice@own.example"]), 64, "no domain of ours");
    assert_eq!(alias(&lab, &["add", "x@own.example", "|/bin/sh"]), 64);
    assert_eq!(alias(&lab, &["add", "dead@own.example", "nobody@own.example"]), 1);
    assert_eq!(rcpt(&lab, "dead@own.example"), 550);
    assert_eq!(alias(&lab, &["show", "alice+x@old.example"]), 0);
    assert_eq!(lab.mx("mx.far.example").messages().len(), 0);
}

#[test]
fn aliases_survive_a_restart() {
    let mut lab = started();
    assert_eq!(alias(&lab, &["add", "info@own.example", "alice@own.example"]), 0);
    lab.daemon_mut().kill();
    let listed = lab.daemon().cli_json(["alias", "list", "--json"]).expect("JSON");
    assert_eq!(listed["aliases"][0]["address"], "info@own.example");
    lab.daemon_mut().launch().expect("started");
    assert_eq!(rcpt(&lab, "info@own.example"), 250);
}

#[test]
fn a_forward_that_comes_back_is_returned() {
    let lab = started();
    assert_eq!(alias(&lab, &["add", "alice@own.example", "alice@far.example", "--keep"]), 0);
    let mut content = b"Delivered-To: alice@own.example\r\n".to_vec();
    content.extend(client::message("carol@else.example", "alice@own.example", "round", "x\n"));
    let id = lab.send_content("carol@else.example", &["alice@own.example"], &content);
    let shown = lab.settled(&id);
    assert_eq!(
        (shown.status.as_str(), shown.recipients[0].last_status.as_deref()),
        ("failed", Some("5.4.6"))
    );
    assert_eq!(lab.mx("mx.far.example").messages().len(), 0);
    let id = lab.send("carol@else.example", &["alice@own.example"]);
    assert_eq!(lab.settled(&id).status, "delivered");
    assert!(lab.mx("mx.far.example").wait_until(WITHIN, |seen| seen.messages.len() == 1));
}

#[test]
fn a_relayed_domain_goes_to_its_next_hop() {
    let lab = started();
    assert_eq!((rcpt(&lab, "nobody@primary.example"), rcpt(&lab, "postmaster@primary.example")), (550, 250));
    let id = lab.send("dora@else.example", &["Carol@primary.example"]);
    assert_eq!(lab.settled(&id).status, "delivered");
    assert_eq!(lab.mx("mx.primary.example").messages().len(), 1);
    assert_eq!(rcpt(&lab, "x@far.example"), 550);
}

#[test]
fn a_full_mailbox_is_answered_452_until_there_is_room() {
    let mut plan = Plan::new();
    plan.set("domain.\"own.example\".quota", "\"4kB\"");
    let lab = plan.start().expect("a laboratory");
    let body = "0123456789abcdefghijklmnopqrstuvwxyz\n".repeat(70);
    let content = client::message("carol@else.example", "alice@own.example", "quota", &body);
    let id = lab.send_content("carol@else.example", &["alice@own.example"], &content);
    assert_eq!(lab.settled(&id).status, "delivered");
    // It was not full yet, and this one does not fit.
    let id = lab.send_content("carol@else.example", &["alice@own.example"], &content);
    let shown = lab.settled(&id);
    assert_eq!(shown.recipients[0].last_status.as_deref(), Some("4.2.2"), "{:?}", shown.recipients);
    let maildir = lab.directory().join("mail/own.example/alice");
    let counter = std::fs::OpenOptions::new().append(true).open(maildir.join("maildirsize"));
    std::io::Write::write_all(&mut counter.expect("a counter"), b"3000 1\n").expect("written");
    assert_eq!((rcpt(&lab, "alice@own.example"), rcpt(&lab, "bob@own.example")), (452, 250));
    // Its owner makes room.
    for file in std::fs::read_dir(maildir.join("new")).expect("a Maildir").flatten() {
        std::fs::remove_file(file.path()).expect("removed");
    }
    std::fs::remove_file(maildir.join("maildirsize")).expect("removed");
    assert_eq!(rcpt(&lab, "alice@own.example"), 250);
    assert!(lab.daemon().cli(["queue", "retry", &id]).expect("the tool runs").status.success());
    assert_eq!(lab.wait_for(&id, |message| message.status == "delivered").status, "delivered");
    // What can never fit comes back.
    let large = client::message("carol@else.example", "bob@own.example", "large", &body.repeat(3));
    let id = lab.send_content("carol@else.example", &["bob@own.example"], &large);
    assert_eq!(lab.settled(&id).recipients[0].last_status.as_deref(), Some("5.2.3"));
}

#[test]
fn a_size_that_is_announced_is_held_against_the_mailbox_at_once() {
    let mut plan = Plan::new();
    plan.set("domain.\"own.example\".quota", "\"4kB\"");
    let lab = plan.start().expect("a laboratory");
    assert_eq!(
        alias(&lab, &["add", "all@own.example", "alice@own.example", "bob@own.example", "x@far.example"]),
        0
    );
    let body = "0123456789abcdefghijklmnopqrstuvwxyz\n".repeat(70);
    let content = client::message("carol@else.example", "alice@own.example", "quota", &body);
    let id = lab.send_content("carol@else.example", &["alice@own.example"], &content);
    assert_eq!(lab.settled(&id).status, "delivered");
    for (size, recipient, code, status) in [
        (1000, "alice", 250, "2.1.5"),
        (2000, "alice", 452, "4.2.2"),
        (2000, "bob", 250, "2.1.5"),
        (5000, "alice", 550, "5.2.3"),
        (5000, "bob+detail", 550, "5.2.3"),
        // Somebody else behind the alias has room.
        (5000, "all", 250, "2.1.5"),
    ] {
        let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
        client.ask(&format!("MAIL FROM:<carol@else.example> SIZE={size}")).expect("MAIL");
        let reply = client.command(&format!("RCPT TO:<{recipient}@own.example>")).expect("a reply");
        assert_eq!(
            (reply.code, reply.lines[0].get(..5)),
            (code, Some(status)),
            "{size} {recipient}: {reply:?}"
        );
    }
}
