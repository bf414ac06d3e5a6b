//! DSN and SMTPUTF8 with software that speaks them: Debian's Postfix both ways, and Python's smtplib as a client.

use mta_lab::cert::Identity;
use mta_lab::client::{self, SmtpClient};
use mta_lab::lab::{Lab, OWN_DOMAIN, Plan, WITHIN, queue_id};
use mta_lab::mx::Behaviour;
use mta_lab::peers::{Postfix, free_address, missing, needs_root, run};
use mta_lab::zone::Zone;

fn expect(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

/// The message in alice's Maildir that holds this text, once it is there.
fn arrived(lab: &Lab, marker: &str, log: impl Fn() -> String) -> String {
    let read = || -> Option<String> {
        let stored = lab.maildir(OWN_DOMAIN, "alice");
        stored.iter().map(|it| String::from_utf8_lossy(it).into_owned()).find(|text| text.contains(marker))
    };
    assert!(lab.wait_for_files(|| read().is_some()), "nothing about {marker}\n{}", log());
    read().unwrap_or_default()
}

fn submit(lab: &Lab, mail: &str, rcpt: &str, content: &[u8]) -> String {
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    client.ask(&format!("MAIL FROM:{mail}")).expect("MAIL");
    client.ask(&format!("RCPT TO:{rcpt}")).expect("RCPT");
    client.ask("DATA").expect("DATA");
    client.send(&client::stuffed(content)).expect("content");
    let reply = client.command(".").expect("a reply");
    queue_id(&reply).unwrap_or_else(|| panic!("not accepted: {reply:?}"))
}

#[test]
fn postfix_takes_our_wishes_and_internationalized_mail() {
    if missing(&["postfix"]).is_some() || needs_root() {
        return;
    }
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1h\"]");
    let identity = Identity::self_signed(&["whatever"]);
    let domain = "postfix.example";
    plan.site(domain, None, &[identity.leaf().tlsa(3, 1, 1)]);
    let address = (plan.address_of("mx.postfix.example"), plan.ports.smtp).into();
    let own = (std::net::Ipv4Addr::LOCALHOST, plan.ports.own).into();
    let folder = tempfile::Builder::new().prefix("mta-postfix-").tempdir().expect("a directory");
    let postfix =
        Postfix::start(folder.path(), address, &[domain], Some(&identity), Some(own)).expect("Postfix");
    let lab = plan.start().expect("a laboratory");
    let content = client::message("alice@own.example", "box@postfix.example", "with wishes", "x\n");
    let rcpt = "<box@postfix.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first@else.example";
    let id = submit(&lab, "<alice@own.example> RET=HDRS ENVID=toPostfix1", rcpt, &content);
    let shown = lab.settled(&id);
    assert_eq!(shown.status, "delivered", "{shown:#?}\n{}", postfix.log());
    // Postfix delivers, and reports by way of us: nobody but Postfix does.
    let told = arrived(&lab, "Original-Envelope-Id: toPostfix1", || postfix.log());
    expect(&told, &["Original-Recipient: rfc822;first@else.example", "Action: delivered", "Postfix"]);
    assert_eq!(lab.maildir(OWN_DOMAIN, "alice").len(), 1);

    let content = "From: <alice@own.example>\r\nSubject: привет\r\n\r\nтекст\r\n".as_bytes();
    let id = submit(&lab, "<alice@own.example> SMTPUTF8 BODY=8BITMIME", "<ящик@postfix.example>", content);
    let shown = lab.settled(&id);
    assert_eq!(shown.status, "delivered", "{shown:#?}\n{}", postfix.log());
    let wide = || postfix.messages().iter().any(|it| String::from_utf8_lossy(it).contains("привет"));
    assert!(lab.wait_for_files(wide), "{}", postfix.log());
}

#[test]
fn wishes_that_postfix_passes_on_are_honoured_here() {
    if missing(&["postfix", "sendmail"]).is_some() || needs_root() {
        return;
    }
    let mut plan = Plan::new();
    plan.site_with("else.example", Some(Behaviour::plain("mx.else.example")), &[], Zone::unsigned);
    let lab = plan.start().expect("a laboratory");
    let folder = tempfile::Builder::new().prefix("mta-postfix-").tempdir().expect("a directory");
    let postfix = Postfix::start(folder.path(), free_address(26), &[], None, Some(lab.daemon().address()))
        .expect("Postfix");
    let content = b"Subject: from Postfix with wishes\n\nx\n";
    let wishes = ["-N", "success,failure", "-V", "fromPostfix1", "-R", "hdrs"];
    postfix.sendmail_with(&wishes, "carol@else.example", "bob@own.example", content).expect("sendmail");
    let told = lab.mx("mx.else.example").wait_until(WITHIN, |seen| !seen.messages.is_empty());
    assert!(told, "no report\n{}", postfix.log());
    let report = &lab.mx("mx.else.example").messages()[0];
    assert_eq!(report.reverse_path.split(' ').next(), Some("<>"));
    expect(
        &String::from_utf8_lossy(&report.content),
        &[
            "Original-Envelope-Id: fromPostfix1",
            "Original-Recipient: rfc822; bob@own.example",
            "Final-Recipient: rfc822; bob@own.example",
            "Action: delivered",
        ],
    );
}

#[test]
fn python_sends_internationalized_mail_which_goes_on_only_where_it_can() {
    if missing(&["python3"]).is_some() {
        return;
    }
    let mut plan = Plan::new();
    let mut wide = Behaviour::plain("mx.wide.example");
    wide.extensions.push("SMTPUTF8".to_owned());
    plan.site_with("wide.example", Some(wide), &[], Zone::unsigned);
    plan.site_with("narrow.example", Some(Behaviour::plain("mx.narrow.example")), &[], Zone::unsigned);
    let lab = plan.start().expect("a laboratory");
    let program = "import sys, smtplib\n\
        server, port, subject, *to = sys.argv[1:]\n\
        with smtplib.SMTP(server, int(port)) as smtp:\n    \
            smtp.ehlo()\n    \
            assert smtp.has_extn('smtputf8') and smtp.has_extn('dsn') and smtp.has_extn('chunking'), smtp.esmtp_features\n    \
            content = f'Subject: {subject}\\r\\n\\r\\nx\\r\\n'.encode()\n    \
            options = ['SMTPUTF8', 'BODY=8BITMIME', 'RET=HDRS', 'ENVID=py1']\n    \
            refused = smtp.sendmail('alice@own.example', to, content, options, ['NOTIFY=FAILURE'])\n    \
            assert not refused, refused\n";
    let address = lab.daemon().address();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let send = |subject: &str, to: &str| {
        let arguments = ["-c", program, &host, &port, subject, to];
        run("python3", &arguments, lab.directory()).expect("Python");
    };
    send("привет wide", "пользователь@wide.example");
    send("привет narrow", "plain@narrow.example");
    send("ascii after all", "plain@narrow.example");
    send("to a wide address", "пользователь@narrow.example");
    assert!(lab.mx("mx.wide.example").wait_until(WITHIN, |seen| !seen.messages.is_empty()));
    let got = &lab.mx("mx.wide.example").messages()[0];
    assert!(got.reverse_path.contains(" SMTPUTF8"), "{got:?}");
    assert!(got.forward_paths[0].starts_with("<пользователь@wide.example>"), "{got:?}");
    // RFC 6531 3.2: what needs no extension goes without it, all else comes back.
    assert!(lab.mx("mx.narrow.example").wait_until(WITHIN, |seen| !seen.messages.is_empty()));
    for (marker, code) in [("привет narrow", "Status: 5.6.9"), ("to a wide address", "Status: 5.6.7")] {
        let told = arrived(&lab, marker, String::new);
        expect(&told, &[code, "Original-Envelope-Id: py1", "SMTPUTF8"]);
    }
    let got = lab.mx("mx.narrow.example").messages();
    assert_eq!(got.len(), 1);
    assert!(String::from_utf8_lossy(&got[0].content).contains("Subject: ascii after all"));
    assert!(!got[0].reverse_path.contains("SMTPUTF8"), "{got:?}");
}
