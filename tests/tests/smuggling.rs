//! No second message is smuggled in behind a lookalike of the end of data, into us or through us to the next server
//! (CVE-2023-51764, -51765, -51766). The next server here is one that would fall for it: it takes a lone LF as a line end.

use mta_lab::client::SmtpClient;
use mta_lab::lab::{Lab, OWN_DOMAIN, Plan};
use mta_lab::mx::Behaviour;
use mta_lab::zone::Zone;

/// What some server somewhere takes, or took, for a line end.
const LINE_ENDS: [&str; 9] = ["\r\n", "\n", "\r", "\r\r\n", "\n\r", "\r\n\0", "\0\r\n", "\u{85}", "\r\0\n"];

/// Sends a message with a lookalike in its middle and commands behind it; the replies after DATA.
fn smuggle(lab: &Lab, before: &str, after: &str) -> Vec<u16> {
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    client.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
    client.ask("RCPT TO:<x@away.example>").expect("RCPT");
    client.ask("RCPT TO:<alice@own.example>").expect("RCPT");
    client.ask("DATA").expect("DATA");
    let content = format!(
        "Subject: outer\r\n\r\nbody{before}.{after}MAIL FROM:<evil@else.example>\r\nRCPT TO:<bob@own.example>\r\n\
         RCPT TO:<y@away.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nevil\r\n.\r\nQUIT\r\n"
    );
    client.send(content.as_bytes()).expect("content");
    let mut codes = Vec::new();
    while let Ok(reply) = client.reply() {
        codes.push(reply.code);
    }
    codes
}

#[test]
fn every_pair_of_lookalikes_around_a_dot_makes_one_message_at_most() {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1s\"]");
    plan.site_with("away.example", Some(Behaviour::plain("mx.away.example")), &[], Zone::unsigned);
    let lab = plan.start().expect("a laboratory");
    let mut taken = 0;
    for before in LINE_ENDS {
        for after in LINE_ENDS {
            if before.ends_with("\r\n") && after.starts_with("\r\n") {
                // That is the end of data, whatever stands around it.
                continue;
            }
            let codes = smuggle(&lab, before, after);
            // One reply to one end of data, perhaps one to QUIT; commands from inside would be answered too.
            assert!(codes.len() <= 2, "{before:?} {after:?}: {codes:?}");
            taken += usize::from(codes.first() == Some(&250));
        }
    }
    // A marker behind them all: once it has arrived, nothing else is on its way.
    let marker = lab.send("carol@else.example", &["alice@own.example", "x@away.example"]);
    lab.wait_for(&marker, |message| message.finished_at.is_some());
    assert!(lab.wait_for_files(|| lab.list().is_empty()));
    let remote = lab.mx("mx.away.example").messages();
    assert_eq!(remote.len(), taken + 1, "as many as were answered 250, and the marker");
    assert_eq!(lab.maildir(OWN_DOMAIN, "alice").len(), taken + 1);
    assert!(lab.maildir(OWN_DOMAIN, "bob").is_empty(), "the smuggled message's recipient");
    for message in &remote {
        assert!(!message.reverse_path.contains("evil"), "{message:?}");
        let text = String::from_utf8_lossy(&message.content).replace("\r\n", "");
        assert!(!text.contains(['\r', '\n']), "a bare CR or LF was passed on: {text:?}");
    }
}

#[test]
fn the_proper_end_of_data_is_found_however_it_is_cut() {
    let lab = Plan::new().start().expect("a laboratory");
    let content = b"Subject: cut\r\n\r\n..stuffed\r\n..\r\nlast\r\n.\r\n";
    for at in 0..content.len() {
        let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
        client.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
        client.ask("RCPT TO:<alice@own.example>").expect("RCPT");
        client.ask("DATA").expect("DATA");
        client.send(&content[..at]).expect("the first part");
        client.send(&content[at..]).expect("the second part");
        assert_eq!(client.reply().expect("a reply").code, 250, "cut at {at}");
        client.ask("NOOP").expect("the session goes on in step");
    }
    assert!(lab.wait_for_files(|| lab.maildir(OWN_DOMAIN, "alice").len() == content.len()));
    for stored in lab.maildir(OWN_DOMAIN, "alice") {
        let text: Vec<u8> = stored.into_iter().filter(|byte| *byte != b'\r').collect();
        assert!(text.ends_with(b"Subject: cut\n\n.stuffed\n.\nlast\n"), "{}", String::from_utf8_lossy(&text));
    }
}
