//! Against Debian's Postfix: as the MX host that only a TLSA record vouches for, and as the client that sends to us.

use std::fs;

use mta_lab::cert::Identity;
use mta_lab::client;
use mta_lab::lab::{OWN_DOMAIN, Plan};
use mta_lab::peers::{Postfix, find, missing, needs_root, run};

#[test]
fn swaks_through_us_reaches_the_postfix_that_tlsa_vouches_for_and_not_after_its_key_changed() {
    if missing(&["postfix", "swaks"]).is_some() || needs_root() {
        return;
    }
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1h\"]");
    let (right, wrong) = (Identity::self_signed(&["whatever"]), Identity::self_signed(&["whatever"]));
    let domain = "postfix.example";
    plan.site(domain, None, &[right.leaf().tlsa(3, 1, 1)]);
    let address = (plan.address_of("mx.postfix.example"), plan.ports.smtp).into();
    let folder = tempfile::Builder::new().prefix("mta-postfix-").tempdir().expect("a directory");
    let postfix = Postfix::start(folder.path(), address, &[domain], Some(&right), None).expect("Postfix");
    let lab = plan.start().expect("a laboratory");
    let swaks = |subject: &str| {
        let server = lab.daemon().address();
        let (host, port) = (server.ip().to_string(), server.port().to_string());
        let header = format!("Subject: {subject}");
        let arguments = [
            "--server",
            &host,
            "--port",
            &port,
            "--from",
            "alice@own.example",
            "--to",
            "box@postfix.example",
            "--header",
            &header,
            "--body",
            "Hello from swaks.",
        ];
        let output = run("swaks", &arguments, folder.path()).expect("swaks");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (_, id) = said.split_once("queued as ").unwrap_or_else(|| panic!("no queue id in {said}"));
        id.split_whitespace().next().unwrap_or_default().to_owned()
    };
    let first = lab.settled(&swaks("while the key is right"));
    assert_eq!(first.status, "delivered", "{first:#?}\n{}", postfix.log());
    let arrived = || -> Vec<String> {
        postfix.messages().iter().map(|it| String::from_utf8_lossy(it).into_owned()).collect()
    };
    assert!(lab.wait_for_files(|| !arrived().is_empty()), "{}", postfix.log());
    let message = &arrived()[0];
    assert!(message.contains("Subject: while the key is right"), "{message}");
    assert!(message.contains("TLSv1."), "Postfix saw TLS: {message}");

    postfix.set_identity(&wrong).expect("another key");
    let second = lab.settled(&swaks("after the key changed"));
    assert_eq!(second.status, "deferred", "{second:#?}");
    assert_eq!(arrived().len(), 1, "nothing more has arrived");
    let explained = second.history.iter().flatten().any(|attempt| !attempt.story.is_empty());
    assert!(explained, "the refusal is explained");
}

#[test]
fn mail_from_postfix_lies_in_our_maildir() {
    if missing(&["postfix", "sendmail"]).is_some() || needs_root() {
        return;
    }
    let lab = Plan::new().start().expect("a laboratory");
    let folder = tempfile::Builder::new().prefix("mta-postfix-").tempdir().expect("a directory");
    let address = mta_lab::peers::free_address(25);
    let postfix =
        Postfix::start(folder.path(), address, &[], None, Some(lab.daemon().address())).expect("Postfix");
    let content =
        client::message("carol@else.example", "alice@own.example", "from Postfix", ".dots\n..\nend\n");
    let unix: Vec<u8> = content.iter().copied().filter(|byte| *byte != b'\r').collect();
    postfix.sendmail("carol@else.example", "alice@own.example", &unix).expect("sendmail");
    assert!(lab.wait_for_files(|| !lab.maildir(OWN_DOMAIN, "alice").is_empty()), "{}", postfix.log());
    let stored: Vec<u8> =
        lab.maildir(OWN_DOMAIN, "alice").remove(0).into_iter().filter(|byte| *byte != b'\r').collect();
    assert!(stored.ends_with(&unix), "{}", String::from_utf8_lossy(&stored));
    assert!(find("postfix").is_some() && fs::exists(folder.path().join("log")).unwrap_or(false));
}
