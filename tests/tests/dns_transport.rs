//! Where the answers come from, and what happens to the mail when a resolver takes the signatures out of them.

use mta_core::control::MessageView;
use mta_lab::cert::Identity;
use mta_lab::dns::{ForwarderMode, ROOT_SERVER};
use mta_lab::lab::{Lab, Plan, WITHIN};
use mta_lab::mx::Behaviour;
use mta_lab::zone::Zone;

/// A good domain, one with the wrong key, and an unsigned one.
fn plan() -> Plan {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1s\"]");
    plan.set("outbound.site_fault_probe", "\"1s\"");
    let identity = Identity::self_signed(&["mx"]);
    let other = Identity::self_signed(&["mx"]);
    let tlsa = [identity.leaf().tlsa(3, 1, 1)];
    plan.site("good.example", Some(Behaviour::with_tls("mx.good.example", &identity)), &tlsa);
    plan.site("wrong.example", Some(Behaviour::with_tls("mx.wrong.example", &other)), &tlsa);
    plan.site_with("plain.example", Some(Behaviour::plain("mx.plain.example")), &[], Zone::unsigned);
    plan
}

fn allow_recursion(plan: &mut Plan) {
    plan.set("dns.recursion", "true");
}

fn outcomes(lab: &Lab) -> [String; 3] {
    let ids =
        ["good", "wrong", "plain"].map(|it| lab.send("alice@own.example", &[&format!("x@{it}.example")]));
    ids.map(|id| state(&lab.settled(&id)))
}

/// The fault is this host's, so that an attempt does not count.
const PUT_OFF: &str = "put off";

fn state(message: &MessageView) -> String {
    if message.attempts == 0 { PUT_OFF.to_owned() } else { message.status.clone() }
}

#[test]
fn own_recursion_from_the_root_down() {
    let mut plan = plan();
    plan.with_own_recursion();
    let lab = plan.start().expect("a laboratory");
    assert_eq!(outcomes(&lab), ["delivered", "deferred", "delivered"]);
    let asked_root = |query: &mta_lab::dns::LoggedQuery| query.server.ip() == ROOT_SERVER;
    assert!(lab.dns.wait_for_query(WITHIN, asked_root), "the root was asked");
}

#[test]
fn a_forwarder_that_strips_signatures_is_passed_by() {
    let mut plan = plan();
    plan.forwarder_mode(ForwarderMode::Stripping);
    allow_recursion(&mut plan);
    let lab = plan.start().expect("a laboratory");
    assert_eq!(outcomes(&lab), ["delivered", "deferred", "delivered"]);
    let good = lab.mx("mx.good.example").messages();
    assert!(good[0].tls.is_some());
}

#[test]
fn a_forwarder_that_strips_signatures_delays_the_mail_where_nothing_else_is_allowed() {
    let mut plan = plan();
    plan.forwarder_mode(ForwarderMode::Stripping);
    let lab = plan.start().expect("a laboratory");
    assert_eq!(outcomes(&lab), [PUT_OFF; 3]);
    for host in lab.hosts.values() {
        assert!(host.messages().is_empty(), "nothing was sent");
    }
    lab.dns.set_mode(ForwarderMode::Plain);
    let id = lab.send("alice@own.example", &["x@good.example"]);
    assert_eq!(lab.wait_for(&id, |message| message.finished_at.is_some()).status, "delivered");
}

#[test]
fn a_forwarder_that_begins_to_strip_is_noticed() {
    let lab = plan().start().expect("a laboratory");
    assert_eq!(outcomes(&lab), ["delivered", "deferred", "delivered"]);
    lab.dns.set_mode(ForwarderMode::Stripping);
    // Names that no cache knows: nothing may be called insecure because its signatures are gone.
    let id = lab.send("alice@own.example", &["x@elsewhere.good.example"]);
    assert_eq!(lab.settled(&id).status, "deferred");
}

#[test]
fn a_forwarder_that_lies_with_ad_convinces_nobody() {
    let mut plan = plan();
    plan.forwarder_mode(ForwarderMode::AlwaysAd);
    plan.site_with("forged.example", Some(Behaviour::plain("mx.forged.example")), &[], |zone| {
        zone.fault(mta_lab::zone::FaultKind::BrokenSignature)
    });
    let lab = plan.start().expect("a laboratory");
    let id = lab.send("alice@own.example", &["x@forged.example"]);
    assert_eq!(lab.settled(&id).status, "deferred");
    assert!(lab.mx("mx.forged.example").messages().is_empty());
}

#[test]
fn a_dead_resolver_freezes_the_queue_and_bounces_nothing() {
    let lab = plan().start().expect("a laboratory");
    lab.dns.set_mode(ForwarderMode::Failing);
    let id = lab.send("alice@own.example", &["x@good.example"]);
    assert_eq!(state(&lab.settled(&id)), PUT_OFF);
    lab.dns.set_mode(ForwarderMode::Plain);
    assert_eq!(lab.wait_for(&id, |message| message.finished_at.is_some()).status, "delivered");
}
