//! SIGHUP takes the new configuration, or keeps the old one and says why; SIGTERM ends sessions with 421.

use mta_lab::client::{self, SmtpClient};
use mta_lab::lab::{OWN_DOMAIN, Plan, WITHIN};

fn rcpt(lab: &mta_lab::lab::Lab, recipient: &str) -> u16 {
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    client.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
    client.command(&format!("RCPT TO:<{recipient}>")).expect("a reply").code
}

#[test]
fn a_new_mailbox_exists_after_a_reload() {
    let mut lab = Plan::new().start().expect("a laboratory");
    assert_eq!(rcpt(&lab, "carol@own.example"), 550);
    let key = format!("domain.\"{OWN_DOMAIN}\".mailboxes");
    lab.daemon_mut()
        .change_settings(|settings| settings.set(&key, "[\"alice\", \"carol\"]"))
        .expect("a file");
    lab.daemon().reload();
    let reloaded = lab.daemon().wait_for_log(WITHIN, |line| line.contains("reload"));
    assert!(reloaded.is_some(), "the reload is logged");
    assert_eq!(rcpt(&lab, "carol@own.example"), 250);
    assert_eq!(rcpt(&lab, "bob@own.example"), 550);
}

#[test]
fn a_broken_configuration_is_refused_and_the_old_one_stays() {
    let mut lab = Plan::new().start().expect("a laboratory");
    lab.daemon_mut().change_settings(|settings| settings.set("smtp.max_errors", "\"many\"")).expect("a file");
    lab.daemon().reload();
    let said = lab.daemon().wait_for_log(WITHIN, |line| line.contains("max_errors"));
    assert!(said.is_some(), "the reason names the key");
    assert_eq!(rcpt(&lab, "alice@own.example"), 250);
    assert_eq!(rcpt(&lab, "bob@own.example"), 250);
}

#[test]
fn the_administrator_reloads_and_hears_what_came_of_it() {
    let mut lab = Plan::new().start().expect("a laboratory");
    let key = format!("domain.\"{OWN_DOMAIN}\".mailboxes");
    let change = |lab: &mut mta_lab::lab::Lab, key: &str, value: &str| {
        lab.daemon_mut().change_settings(|settings| settings.set(key, value)).expect("a file");
    };
    change(&mut lab, &key, "[\"alice\", \"carol\"]");
    change(&mut lab, "report.tls_days", "3");
    let said = lab.daemon().cli(["reload", "--json"]).expect("a run");
    assert!(said.status.success(), "{said:?}");
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!(said["needs_restart"], serde_json::json!(["report.tls_days"]));
    assert_eq!(rcpt(&lab, "carol@own.example"), 250, "it is in force when the answer comes");
    change(&mut lab, "smtp.max_errors", "\"many\"");
    let said = lab.daemon().cli(["reload"]).expect("a run");
    assert_eq!(said.status.code(), Some(78), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stderr).contains("max_errors"), "{said:?}");
    assert_eq!(rcpt(&lab, "carol@own.example"), 250, "the configuration in force stays");
    change(&mut lab, "smtp.max_errors", "5");
    // What only the daemon finds wrong, because it reads further files.
    change(&mut lab, "tls.certificate_file", "\"/nowhere/certificate\"");
    change(&mut lab, "tls.key_file", "\"/nowhere/key\"");
    let said = lab.daemon().cli(["reload"]).expect("a run");
    assert_eq!(said.status.code(), Some(78), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stderr).contains("the configuration in force stays"), "{said:?}");
    lab.daemon_mut().stop().expect("an end");
    let said = lab.daemon().cli(["reload"]).expect("a run");
    assert_eq!(said.status.code(), Some(69), "{said:?}");
}

#[test]
fn a_broken_configuration_is_no_start() {
    let mut lab = Plan::new().start().expect("a laboratory");
    lab.daemon_mut().stop().expect("an end");
    lab.daemon_mut().change_settings(|settings| settings.set("smtp.max_errors", "\"many\"")).expect("a file");
    let error = lab.daemon_mut().launch().expect_err("no start").to_string();
    for part in ["exit status: 78", "max_errors", "mta.toml"] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
}

#[test]
fn stopping_ends_an_idle_session_with_421_and_loses_nothing() {
    let mut lab = Plan::new().start().expect("a laboratory");
    let mut idle = SmtpClient::open(lab.daemon().address()).expect("a session");
    let id = lab.send("carol@else.example", &["alice@own.example"]);
    lab.settled(&id);
    let status = lab.daemon_mut().stop().expect("an end");
    assert!(status.success(), "{status}");
    assert_eq!(idle.reply().expect("a reply").code, 421);
    assert_eq!(lab.maildir(OWN_DOMAIN, "alice").len(), 1);
    lab.daemon_mut().launch().expect("another start");
    let content = client::message("carol@else.example", "alice@own.example", "again", "x\n");
    let again = lab.send_content("carol@else.example", &["alice@own.example"], &content);
    lab.wait_for(&again, |message| message.status == "delivered");
    assert_eq!(lab.maildir(OWN_DOMAIN, "alice").len(), 2);
}

#[test]
fn stopping_in_the_middle_of_content_ends_no_message_half_way() {
    let mut lab = Plan::new().start().expect("a laboratory");
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    client.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
    client.ask("RCPT TO:<alice@own.example>").expect("RCPT");
    client.ask("DATA").expect("DATA");
    let content =
        client::message("carol@else.example", "alice@own.example", "half-way", &"line\n".repeat(1000));
    let (first, second) = content.split_at(content.len() / 2);
    client.send(first).expect("content");
    lab.daemon().signal(rustix::process::Signal::TERM);
    let stopping = lab.daemon().wait_for_log(WITHIN, |line| line.contains("event=stop"));
    assert!(stopping.is_some(), "the stop is logged: {:?}", lab.daemon().log());
    // The rest may be taken or refused, by then; what counts is that both sides agree on it.
    let sent = client.send(second).and_then(|()| client.send(b".\r\n"));
    let acknowledged = sent.and_then(|()| client.reply()).is_ok_and(|reply| reply.code == 250);
    lab.daemon_mut().stop().expect("an end");
    lab.daemon_mut().launch().expect("another start");
    let marker = lab.send("carol@else.example", &["bob@own.example"]);
    lab.wait_for(&marker, |message| message.status == "delivered");
    if acknowledged {
        assert!(lab.wait_for_files(|| lab.maildir(OWN_DOMAIN, "alice").len() == 1), "it was answered 250");
    } else {
        assert!(lab.maildir(OWN_DOMAIN, "alice").is_empty(), "it was not answered 250");
    }
}
