//! What is tried again and when, what is returned to its sender, and that one stuck host holds up nobody else.

use std::time::Duration;

use mta_core::control::MessageView;
use mta_lab::cert::Identity;
use mta_lab::client;
use mta_lab::lab::{Lab, OWN_DOMAIN, Plan, WITHIN};
use mta_lab::mx::{Action, Behaviour, Moment};
use mta_lab::zone::Zone;

/// A plan that tries again after a second.
fn hasty() -> Plan {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1s\"]");
    plan
}

fn plain(plan: &mut Plan, domain: &str, behaviour: Behaviour) {
    plan.site_with(domain, Some(behaviour), &[], Zone::unsigned);
}

fn is_final(message: &MessageView) -> bool {
    message.finished_at.is_some()
}

/// The notifications in alice's Maildir, once there is at least one.
fn notices(lab: &Lab) -> Vec<String> {
    let read = || -> Vec<String> {
        let stored = lab.maildir(OWN_DOMAIN, "alice");
        stored.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    };
    assert!(lab.wait_for_files(|| !read().is_empty()), "no notification");
    read()
}

#[test]
fn a_host_that_is_busy_first_gets_the_message_later_and_once() {
    let mut plan = hasty();
    // A session of its own for each attempt: the host is busy for two of them.
    plan.set("outbound.max_messages_per_session", "1");
    let busy = Behaviour::plain("mx.busy.example")
        .reply_at(Moment::Rcpt, "450 4.2.0 come back later")
        .for_sessions(2);
    plain(&mut plan, "busy.example", busy);
    let lab = plan.start().expect("a laboratory");
    let id = lab.send("alice@own.example", &["someone@busy.example"]);
    let shown = lab.wait_for(&id, is_final);
    assert_eq!((shown.status.as_str(), shown.attempts), ("delivered", 3), "{shown:#?}");
    let history = shown.history.unwrap_or_default();
    let outcomes: Vec<&str> =
        history.iter().flat_map(|attempt| &attempt.results).map(|result| result.outcome.as_str()).collect();
    assert_eq!(outcomes, ["deferred", "deferred", "delivered"]);
    assert_eq!(lab.mx("mx.busy.example").messages().len(), 1);
}

#[test]
fn a_refused_recipient_is_returned_with_the_reason_and_others_are_delivered() {
    let mut plan = hasty();
    let picky =
        Behaviour::plain("mx.picky.example").reply_to("gone@picky.example", "550 5.1.1 no such user here");
    plain(&mut plan, "picky.example", picky);
    let lab = plan.start().expect("a laboratory");
    let id = lab.send("alice@own.example", &["someone@picky.example", "gone@picky.example"]);
    let shown = lab.wait_for(&id, is_final);
    let mut states: Vec<(&str, &str)> =
        shown.recipients.iter().map(|it| (it.address.as_str(), it.status.as_str())).collect();
    states.sort_unstable();
    assert_eq!(states, [("gone@picky.example", "failed"), ("someone@picky.example", "delivered")]);
    let messages = lab.mx("mx.picky.example").messages();
    assert_eq!(messages.len(), 1, "both recipients in one transaction");
    assert_eq!(messages[0].forward_paths, ["<someone@picky.example>"]);

    let notices = notices(&lab);
    assert_eq!(notices.len(), 1);
    let notice = &notices[0];
    for part in [
        "Return-Path: <>",
        "multipart/report",
        "message/delivery-status",
        "Final-Recipient: rfc822; gone@picky.example",
        "Action: failed",
        "Status: 5.1.1",
        "no such user here",
        "Reporting-MTA: dns; mail.own.example",
    ] {
        assert!(notice.contains(part), "no {part:?} in\n{notice}");
    }
    assert!(!notice.contains("Final-Recipient: rfc822; someone@picky.example"), "{notice}");
}

#[test]
fn a_message_whose_lifetime_is_over_is_returned() {
    let mut plan = hasty();
    plan.set("queue.lifetime", "\"2s\"");
    let never = Behaviour::plain("mx.never.example").reply_at(Moment::Mail, "451 4.3.0 not today");
    plain(&mut plan, "never.example", never);
    let lab = plan.start().expect("a laboratory");
    let id = lab.send("alice@own.example", &["someone@never.example"]);
    let shown = lab.wait_for(&id, is_final);
    assert_eq!(shown.status, "expired", "{shown:#?}");
    let notice = &notices(&lab)[0];
    assert!(notice.contains("Action: failed") && notice.contains("not today"), "{notice}");
}

#[test]
fn a_notification_that_cannot_be_delivered_makes_no_other() {
    let mut plan = hasty();
    let refusing = Behaviour::plain("mx.refusing.example").reply_at(Moment::Rcpt, "550 5.7.1 no");
    plain(&mut plan, "refusing.example", refusing);
    let lab = plan.start().expect("a laboratory");
    let id = lab.send("", &["someone@refusing.example"]);
    let shown = lab.wait_for(&id, is_final);
    assert_eq!(shown.status, "failed");
    assert_eq!(lab.list(), []);
    assert!(lab.maildir(OWN_DOMAIN, "alice").is_empty());
}

#[test]
fn a_reply_lost_after_the_dot_means_again_and_a_broken_quit_does_not() {
    let mut plan = hasty();
    let lost = Behaviour::plain("mx.lost.example").at(Moment::AfterDot, Action::Close).for_sessions(1);
    plain(&mut plan, "lost.example", lost);
    let rude = Behaviour::plain("mx.rude.example").at(Moment::Quit, Action::Close);
    plain(&mut plan, "rude.example", rude);
    let lab = plan.start().expect("a laboratory");
    let (lost, rude) = (
        lab.send("alice@own.example", &["someone@lost.example"]),
        lab.send("alice@own.example", &["someone@rude.example"]),
    );
    let lost = lab.wait_for(&lost, is_final);
    assert_eq!((lost.status.as_str(), lost.attempts), ("delivered", 2));
    assert_eq!(lab.mx("mx.lost.example").messages().len(), 2, "the first copy's fate was unknown");
    let rude = lab.wait_for(&rude, is_final);
    assert_eq!((rude.status.as_str(), rude.attempts), ("delivered", 1));
    assert_eq!(lab.mx("mx.rude.example").messages().len(), 1);
}

#[test]
fn silent_and_endless_hosts_hold_up_nobody_else() {
    let mut plan = hasty();
    for (domain, moment, action) in [
        ("silent-banner.example", Moment::Banner, Action::Silence),
        ("silent-ehlo.example", Moment::Ehlo, Action::Silence),
        ("silent-dot.example", Moment::AfterDot, Action::Silence),
        ("endless-banner.example", Moment::Banner, Action::Endless("220-again".to_owned())),
        ("endless-ehlo.example", Moment::Ehlo, Action::Endless("250-again".to_owned())),
        ("drip.example", Moment::Ehlo, Action::Drip("250 slowly".repeat(20), Duration::from_millis(200))),
    ] {
        plain(&mut plan, domain, Behaviour::plain(domain).at(moment, action));
    }
    plain(&mut plan, "good.example", Behaviour::plain("mx.good.example"));
    let lab = plan.start().expect("a laboratory");
    let mut ids = Vec::new();
    for domain in ["silent-banner", "silent-ehlo", "silent-dot", "endless-banner", "endless-ehlo", "drip"] {
        ids.push(lab.send("alice@own.example", &[&format!("someone@{domain}.example")]));
    }
    let good = lab.send("alice@own.example", &["someone@good.example"]);
    assert_eq!(lab.wait_for(&good, is_final).status, "delivered");
    // An endless reply ends by its size, long before any timeout.
    for id in &ids[3..5] {
        let shown = lab.wait_for(id, |message| message.attempts > 0);
        assert_eq!(shown.status, "deferred", "{shown:#?}");
    }
    for name in ["mx.silent-banner.example", "mx.silent-ehlo.example"] {
        assert!(lab.mx(name).wait_until(WITHIN, |seen| seen.connections > 0));
        assert!(lab.mx(name).messages().is_empty());
    }
}

#[test]
fn a_new_key_stops_the_mail_and_a_new_record_lets_it_flow_again() {
    let mut plan = hasty();
    let (old, new) = (Identity::self_signed(&["mx"]), Identity::self_signed(&["mx"]));
    let behaviour = Behaviour::with_tls("mx.rolled.example", &new);
    let port = plan.ports.smtp;
    plan.site_with("rolled.example", Some(behaviour), &[], |zone| {
        zone.ttl(1).tlsa("mx", port, old.leaf().tlsa(3, 1, 1))
    });
    let mut lab = plan.start().expect("a laboratory");
    let id = lab.send("alice@own.example", &["someone@rolled.example"]);
    let shown = lab.settled(&id);
    assert_eq!(shown.status, "deferred", "{shown:#?}");
    assert!(lab.mx("mx.rolled.example").messages().is_empty());
    lab.internet.change("rolled.example", |mut zone| {
        zone.records.retain(|record| record.record_type() != hickory_proto::rr::RecordType::TLSA);
        zone.tlsa("mx", port, new.leaf().tlsa(3, 1, 1))
    });
    lab.publish();
    let shown = lab.wait_for(&id, is_final);
    assert_eq!(shown.status, "delivered", "{shown:#?}");
    assert!(lab.mx("mx.rolled.example").messages()[0].tls.is_some());
}

#[test]
fn the_administrator_can_retry_and_drop() {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1h\"]");
    let busy = Behaviour::plain("mx.busy.example").reply_at(Moment::Mail, "451 4.3.0 later").for_sessions(1);
    plain(&mut plan, "busy.example", busy);
    let never = Behaviour::plain("mx.never.example").reply_at(Moment::Mail, "451 4.3.0 later");
    plain(&mut plan, "never.example", never);
    let lab = plan.start().expect("a laboratory");
    let busy = lab.send("alice@own.example", &["someone@busy.example"]);
    let never = lab.send("alice@own.example", &["someone@never.example"]);
    assert_eq!(lab.settled(&busy).status, "deferred");
    assert_eq!(lab.settled(&never).status, "deferred");
    assert!(lab.daemon().cli(["queue", "retry", &busy]).expect("queue retry").status.success());
    assert_eq!(lab.wait_for(&busy, is_final).status, "delivered");
    assert!(lab.daemon().cli(["queue", "drop", &never, "--yes"]).expect("queue drop").status.success());
    assert_eq!(lab.wait_for(&never, is_final).status, "dropped");
    assert!(
        client::send_message(lab.daemon().address(), "", &["alice@own.example"], b"x: y\r\n\r\n").is_ok()
    );
}
