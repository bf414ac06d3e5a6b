//! This host loses its network for longer than messages may wait: nothing is returned, and when it comes back all is
//! delivered.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use mta_core::control::MessageView;
use mta_lab::lab::{Lab, OWN_DOMAIN, Plan, WITHIN, lab_binary};
use mta_lab::mx::{Behaviour, Moment};
use mta_lab::netns;
use mta_lab::zone::Zone;
use serde_json::Value;

const DOMAINS: usize = 12;

/// How long a message may wait here, in seconds.
const LIFETIME: u64 = 12;

fn host(n: usize) -> String {
    format!("mx.d{n}.example")
}

fn status(lab: &Lab) -> Value {
    let status = lab.daemon().cli_json(["status", "--json"]).expect("a status");
    status["status"].clone()
}

/// Whether the site-fault alert is open.
fn is_told(lab: &Lab) -> bool {
    let status = status(lab);
    status["alerts"].as_array().is_some_and(|alerts| alerts.iter().any(|alert| alert["kind"] == "site-fault"))
}

/// Gives the namespace's only interface its address, or takes it away, and with it every route.
fn route(there: bool) {
    let change = if there { "add 127.0.0.1/8" } else { "flush" };
    let words = ["addr"].into_iter().chain(change.split(' ')).chain(["dev", "lo"]);
    let status = Command::new("ip").args(words).status().expect("iproute2");
    assert!(status.success(), "ip addr {change} dev lo");
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < WITHIN, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_final(message: &MessageView) -> bool {
    message.finished_at.is_some()
}

/// Runs this test again in a network namespace of its own, as its administrator.
#[test]
fn an_outage_longer_than_the_lifetime_returns_nothing_and_ends_with_all_mail_delivered() {
    if netns::is_inside() {
        return offline_and_back();
    }
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: only root may take the route away in a network namespace");
    }
    let lab = lab_binary().expect("the laboratory's program");
    let this = std::env::current_exe().expect("this test");
    let mut command = netns::command_inside(&lab, &this);
    let name = "an_outage_longer_than_the_lifetime_returns_nothing_and_ends_with_all_mail_delivered";
    let output = command.args(["--exact", name, "--nocapture"]).output().expect("started");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("network namespace") && !said.contains("running") {
        return eprintln!("skipped: {errors}");
    }
    assert!(output.status.success(), "{said}\n{errors}");
}

fn offline_and_back() {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"4s\"]");
    plan.set("queue.delay_notice", "\"0s\"");
    plan.set("queue.lifetime", &format!("\"{LIFETIME}s\""));
    plan.set("outbound.site_fault_probe", "\"1s\"");
    // A session that was left open would wait for the route instead of noticing that there is none.
    plan.set("outbound.idle_timeout", "\"0s\"");
    for n in 0..DOMAINS {
        // What is sent stays in the queue at first.
        let busy = Behaviour::plain(&host(n)).reply_at(Moment::Rcpt, "450 4.3.0 later");
        plan.site_with(&format!("d{n}.example"), Some(busy), &[], Zone::unsigned);
    }
    let lab = plan.start().expect("a laboratory");
    let sent = SystemTime::now();
    let ids: Vec<String> =
        (0..DOMAINS).map(|n| lab.send("alice@own.example", &[&format!("u@d{n}.example")])).collect();

    // No session is under way when the route goes: it would only wait.
    ids.iter().for_each(|id| drop(lab.wait_for(id, |message| message.attempts > 0)));
    route(false);
    (0..DOMAINS).for_each(|n| lab.mx(&host(n)).set_behaviour(Behaviour::plain(&host(n))));
    wait_until("the fault is noticed and told", || is_told(&lab));
    assert_eq!(status(&lab)["alerts"].as_array().map(Vec::len), Some(1), "once");
    let over = Duration::from_secs(LIFETIME + 2);
    wait_until("the lifetime is over by the clock", || sent.elapsed().is_ok_and(|age| age > over));
    for id in &ids {
        let shown = lab.show(id);
        assert!(!is_final(&shown) || shown.status == "delivered", "{shown:#?}");
    }
    assert!(ids.iter().any(|id| !is_final(&lab.show(id))), "mail was caught by the outage");

    route(true);
    for id in &ids {
        let shown = lab.wait_for(id, is_final);
        assert_eq!(shown.status, "delivered", "{shown:#?}");
    }
    wait_until("the alert has closed by itself", || !is_told(&lab));
    assert!(lab.maildir(OWN_DOMAIN, "alice").is_empty(), "nothing was returned, and no delay claimed");
    for n in 0..DOMAINS {
        assert_eq!(lab.mx(&host(n)).messages().len(), 1);
    }
    let log = lab.daemon().log();
    let alerts = log.iter().filter(|line| line.contains("event=alert ")).count();
    assert_eq!(alerts, 1, "one line when it opened");
}
