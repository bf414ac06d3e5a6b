//! What the administrator is told of a running server: damage in the queue, a full disk, DANE that was lost.

use std::fs::{self, File};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

use mta_lab::client;
use mta_lab::lab::{Lab, OWN_DOMAIN, Plan, WITHIN, queue_id};
use mta_lab::mx::{Behaviour, Moment};
use mta_lab::zone::Zone;
use mta_queue::{Options, Queue, StoredDane};
use serde_json::Value;

/// The open alerts of a kind, as `status` tells them.
fn alerts(lab: &Lab, kind: &str) -> Vec<Value> {
    let status = lab.daemon().cli_json(["status", "--json"]).expect("a status");
    let open = status["status"]["alerts"].as_array().cloned().unwrap_or_default();
    open.into_iter().filter(|alert| alert["kind"] == kind).collect()
}

/// Waits until an alert of this kind is open, or none.
fn wait_for_alert(lab: &Lab, kind: &str, is_open: bool) {
    let deadline = Instant::now() + WITHIN;
    loop {
        let lines = lab.daemon().log().len();
        if alerts(lab, kind).is_empty() != is_open {
            return;
        }
        assert!(Instant::now() < deadline, "alert {kind} open: {}", !is_open);
        lab.daemon().wait_for_growth(lines, Duration::from_millis(200));
    }
}

/// What `status` prints, which must end so.
fn status(lab: &Lab, exit: i32) -> String {
    let output = lab.daemon().cli(["status"]).expect("the tool runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(exit), "{told}");
    told
}

/// What the log says of alerts of a kind.
fn logged(lab: &Lab, event: &str, kind: &str) -> usize {
    let (event, kind) = (format!("event={event} "), format!("kind={kind}"));
    lab.daemon().log().iter().filter(|line| line.contains(&event) && line.contains(&kind)).count()
}

#[test]
fn content_that_is_spoilt_is_told_with_what_to_do_and_no_more_once_it_is_dealt_with() {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1h\"]");
    // A session that rests would behave as before.
    plan.set("outbound.idle_timeout", "\"0s\"");
    let busy = Behaviour::plain("mx.busy.example").reply_at(Moment::Rcpt, "450 4.7.1 later");
    plan.site_with("busy.example", Some(busy), &[], Zone::unsigned);
    let lab = plan.start().expect("a laboratory");
    let text = "x".repeat(70) + "\n";
    let content = client::message("alice@own.example", "u@busy.example", "large", &text.repeat(3_000));
    let id = lab.send_content("alice@own.example", &["u@busy.example"], &content);
    lab.wait_for(&id, |message| message.status == "deferred");
    assert!(alerts(&lab, "queue").is_empty());

    // Half of its file is gone, as a bad disk or a careless hand would have it.
    let directory = lab.directory().join("state/content");
    let files: Vec<_> = fs::read_dir(directory).expect("content").flatten().collect();
    assert_eq!(files.len(), 1, "the large message");
    File::options().write(true).open(files[0].path()).and_then(|file| file.set_len(1_000)).expect("spoilt");
    lab.mx("mx.busy.example").set_behaviour(Behaviour::plain("mx.busy.example"));
    assert!(lab.daemon().cli(["queue", "retry", &id]).expect("the tool runs").status.success());
    lab.wait_for(&id, |message| message.status == "damaged");
    wait_for_alert(&lab, "queue", true);
    let told = status(&lab, 1);
    for part in [&format!("message {id} was set aside"), "verify", "--repair", "restore"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(logged(&lab, "alert", "queue"), 1);
    assert!(lab.mx("mx.busy.example").messages().is_empty(), "half a message is not sent");

    assert!(lab.daemon().cli(["queue", "drop", &id, "--yes"]).expect("the tool runs").status.success());
    wait_for_alert(&lab, "queue", false);
    status(&lab, 0);
    assert_eq!(logged(&lab, "alert-cleared", "queue"), 1);
}

#[test]
fn a_full_disk_is_told_also_over_a_restart_until_there_is_room() {
    let mut plan = Plan::new();
    // More than any disk has.
    plan.set("queue.min_free_space", "\"1000000GB\"");
    plan.set("alerts.mail", "true");
    let mut lab = plan.start().expect("a laboratory");
    let content = client::message("alice@own.example", "bob@own.example", "no room", "Hello.\n");
    let send = |lab: &Lab| {
        let (to, server) = (["bob@own.example"], lab.daemon().address());
        client::send_message(server, "alice@own.example", &to, &content).expect("a session")
    };
    let reply = send(&lab);
    assert!(!reply.is_positive(), "{reply:?}");
    wait_for_alert(&lab, "disk", true);
    assert!(status(&lab, 1).contains("queue.min_free_space"));
    send(&lab);
    assert_eq!(logged(&lab, "alert", "disk"), 1, "once");
    // The postmaster hears of it all the same, by mail that goes into the space kept free.
    let mails = |lab: &Lab| lab.maildir(OWN_DOMAIN, "postmaster");
    assert!(lab.wait_for_files(|| !mails(&lab).is_empty()), "a mail about it");
    let mail = String::from_utf8_lossy(&mails(&lab)[0]).into_owned();
    for part in [
        "Return-Path: <>",
        "Auto-Submitted: auto-generated",
        "Subject: alert disk on mail.own.example",
        "What is wrong: so little space",
        "What to do: make room",
        "mta-cli status",
    ] {
        assert!(mail.contains(part), "{part}: {mail}");
    }

    lab.daemon_mut().stop().expect("stopped");
    lab.daemon_mut().change_settings(|s| s.set("queue.min_free_space", "\"1MB\"")).expect("written");
    lab.daemon_mut().launch().expect("started");
    wait_for_alert(&lab, "disk", false);
    assert_eq!(logged(&lab, "alert-cleared", "disk"), 1);
    let id = queue_id(&send(&lab)).expect("there is room");
    lab.wait_for(&id, |message| message.status == "delivered");
    assert_eq!(mails(&lab).len(), 1, "one mail, over the restart too, and none of an end so soon");
}

#[test]
fn dane_that_was_there_for_weeks_and_is_gone_is_told() {
    let mut plan = Plan::new();
    plan.site_with("lost.example", Some(Behaviour::plain("mx.lost.example")), &[], Zone::unsigned);
    let mut lab = plan.start().expect("a laboratory");
    lab.daemon_mut().stop().expect("stopped");
    // The daemon is made to remember, as if it had seen DANE for a month until yesterday.
    let day = Duration::from_secs(86_400);
    let (first_at, last_at) = (SystemTime::now() - 31 * day, SystemTime::now() - day);
    let known = StoredDane { domain: "lost.example".into(), first_at, last_at, lost_at: None };
    let options = Options { reserve_bytes: 0, ..Options::default() };
    let queue = Queue::open(&lab.directory().join("state"), options).expect("the queue");
    let (done, written) = channel();
    queue.put_dane(known, move |result| drop(done.send(result)));
    written.recv().expect("answered").expect("written");
    queue.close();
    drop(queue);

    lab.daemon_mut().launch().expect("started");
    let id = lab.send("alice@own.example", &["u@lost.example"]);
    lab.wait_for(&id, |message| message.finished_at.is_some());
    wait_for_alert(&lab, "dane", true);
    assert_eq!(alerts(&lab, "dane")[0]["subject"], "lost.example");
    let told = status(&lab, 1);
    assert!(told.contains("lost.example had DANE since ") && told.contains("\"mandatory\""), "{told}");
}
