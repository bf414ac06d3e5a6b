//! What one client may take of the server: recipients, sessions, messages, idle commands. An honest client is still served.

use std::time::Duration;

use mta_lab::client::{self, SmtpClient};
use mta_lab::lab::{Lab, Plan};

fn with(settings: &[(&str, &str)]) -> Lab {
    let mut plan = Plan::new();
    for (key, value) in settings {
        plan.set(key, value);
    }
    plan.start().expect("a laboratory")
}

#[test]
fn further_recipients_are_for_another_transaction() {
    let lab = with(&[("smtp.max_recipients", "100"), ("smtp.relay_networks", "[\"127.0.0.0/8\"]")]);
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    client.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
    for number in 0..100 {
        client.ask(&format!("RCPT TO:<x{number}@away.example>")).expect("RCPT");
    }
    let reply = client.command("RCPT TO:<one.more@away.example>").expect("a reply");
    assert_eq!((reply.code, reply.lines[0].starts_with("4.5.3")), (452, true), "{reply:?}");
    client.ask("RSET").expect("RSET");
    client.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
    client.ask("RCPT TO:<one.more@away.example>").expect("RCPT");
}

#[test]
fn one_client_has_so_many_sessions_and_gets_them_back() {
    let lab = with(&[("smtp.max_sessions_per_client", "3")]);
    let server = lab.daemon().address();
    let mut open: Vec<SmtpClient> = (0..3).map(|_| SmtpClient::open(server).expect("a session")).collect();
    let mut one_more = SmtpClient::connect(server).expect("a connection");
    assert_eq!(one_more.reply().expect("a reply").code, 421);
    let mut last = open.pop().expect("a session");
    last.command("QUIT").expect("a reply");
    assert!(last.line().is_err(), "closed");
    // The server counts the session down some time after the client has seen its end.
    let again = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        SmtpClient::open(server).is_ok()
    });
    assert!(again, "a session that ended makes room");
    for session in &mut open {
        session.ask("NOOP").expect("the others go on");
    }
}

#[test]
fn commands_that_lead_nowhere_end_the_session() {
    let lab = with(&[("smtp.max_idle_commands", "5")]);
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    let mut codes = Vec::new();
    while let Ok(reply) = client.command("NOOP") {
        codes.push(reply.code);
        assert!(codes.len() < 50, "{codes:?}");
        if reply.code == 421 {
            break;
        }
    }
    assert_eq!(codes.last(), Some(&421), "{codes:?}");
    let id = lab.send("carol@else.example", &["alice@own.example"]);
    assert_eq!(lab.settled(&id).status, "delivered", "others are served");
}

#[test]
fn silent_and_half_open_clients_keep_nobody_out() {
    let lab = with(&[("smtp.max_sessions_per_client", "100")]);
    let server = lab.daemon().address();
    let mut idle: Vec<SmtpClient> = (0..40).filter_map(|_| SmtpClient::connect(server).ok()).collect();
    let half: Vec<SmtpClient> = (0..20)
        .map(|number| {
            let mut client = SmtpClient::open(server).expect("a session");
            client.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
            client.ask("RCPT TO:<alice@own.example>").expect("RCPT");
            client.ask("DATA").expect("DATA");
            client.send(format!("Subject: half {number}\r\n\r\nno end").as_bytes()).expect("content");
            client
        })
        .collect();
    let content = client::message("carol@else.example", "alice@own.example", "honest", "x\n");
    let id = lab.send_content("carol@else.example", &["alice@own.example"], &content);
    assert_eq!(lab.settled(&id).status, "delivered");
    drop(half);
    idle.truncate(0);
    // What was never finished is nowhere (guarantee G3).
    let id = lab.send("carol@else.example", &["bob@own.example"]);
    lab.settled(&id);
    assert_eq!(lab.maildir("own.example", "alice").len(), 1);
    assert_eq!(lab.list(), []);
}
