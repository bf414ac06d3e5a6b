//! Several messages over one session, with the whole server: few connections, each message once; no message over a session
//! that was verified for something else; and what a kill or a stop does to sessions at rest.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use mta_lab::cert::Identity;
use mta_lab::client::{self, SmtpClient};
use mta_lab::lab::{Lab, Plan, WITHIN};
use mta_lab::mx::{Action, Behaviour, Moment, Received, Seen};
use mta_lab::zone::Zone;

const HOST: &str = "mx.many.example";

/// The zone of the domain. Nothing of it is remembered longer than it takes to use it.
fn zone(address: Ipv4Addr, port: u16, identity: &Identity) -> Zone {
    let zone = Zone::new("many.example").ttl(0).mx("@", 10, "mx").address("mx", address);
    zone.tlsa("mx", port, identity.leaf().tlsa(3, 1, 1))
}

fn plan(host: Behaviour, identity: &Identity) -> Plan {
    let mut plan = Plan::new();
    plan.set("outbound.idle_timeout", "\"1m\"");
    let address = plan.host(HOST, Some(host));
    plan.zone(zone(address, plan.ports.smtp, identity));
    plan
}

/// Hands in messages over one connection, as fast as they are taken.
fn send(lab: &Lab, names: impl Iterator<Item = String>) {
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    for name in names {
        let content = client::message("alice@own.example", "x@many.example", &name, "Hello.\n");
        let reply = client.deliver("alice@own.example", &["x@many.example"], &content).expect("a reply");
        assert_eq!(reply.code, 250, "{reply:?}");
    }
}

/// How often each message arrived.
fn copies(messages: &[Received]) -> BTreeMap<String, usize> {
    let mut copies = BTreeMap::new();
    for message in messages {
        let text = String::from_utf8_lossy(&message.content);
        let subject = text.lines().find_map(|line| line.strip_prefix("Subject: ")).expect("a subject");
        *copies.entry(subject.trim().to_owned()).or_default() += 1;
    }
    copies
}

fn wait(lab: &Lab, condition: impl FnMut(&Seen) -> bool) {
    let host = lab.mx(HOST);
    assert!(host.wait_until(WITHIN, condition), "{:?}", host.seen().transcript);
}

#[test]
fn fifty_messages_to_one_dane_host_go_over_few_connections_each_once() {
    let identity = Identity::self_signed(&[HOST]);
    let mut lab = plan(Behaviour::with_tls(HOST, &identity), &identity).start().expect("a laboratory");
    send(&lab, (0..50).map(|number| format!("number {number}")));
    wait(&lab, |seen| seen.messages.len() >= 50);
    let seen = lab.mx(HOST).seen();
    let copies = copies(&seen.messages);
    assert!(copies.len() == 50 && copies.values().all(|count| *count == 1), "{copies:?}");
    assert!(seen.connections <= 10, "{} connections", seen.connections);
    assert_eq!(seen.handshakes, seen.connections);
    assert!(seen.messages.iter().all(|message| message.tls.is_some()));
    // Each message that rode says when the proof was made.
    let rode = lab
        .daemon()
        .log()
        .iter()
        .filter(|line| line.contains("event=delivered"))
        .cloned()
        .collect::<Vec<_>>();
    assert!(rode.iter().filter(|line| line.contains(" message=")).all(|line| line.contains("dane=verified")));
    // A stop waits for none of those at rest, and says goodbye to each.
    let begun = Instant::now();
    assert!(lab.daemon_mut().stop().expect("an end").success());
    assert!(begun.elapsed() < WITHIN);
    wait(&lab, |seen| seen.ended == seen.connections);
    let transcript = lab.mx(HOST).seen().transcript;
    let count = |wanted: &str| transcript.iter().filter(|line| *line == wanted).count();
    assert_eq!(count("C: QUIT"), seen.connections);
}

/// F9, with the whole server.
#[test]
fn a_changed_tlsa_set_gets_a_session_of_its_own() {
    let (old, new) = (Identity::self_signed(&[HOST]), Identity::self_signed(&[HOST]));
    let mut lab = plan(Behaviour::with_tls(HOST, &old), &old).start().expect("a laboratory");
    send(&lab, ["first".to_owned()].into_iter());
    wait(&lab, |seen| seen.messages.len() == 1);
    // The server has a new key, and its records say so; the session at rest was proved by the old one.
    lab.mx(HOST).set_behaviour(Behaviour::with_tls(HOST, &new));
    let address = lab.mx(HOST).address();
    let std::net::IpAddr::V4(ip) = address.ip() else { panic!("{address}") };
    lab.internet.set(zone(ip, address.port(), &new));
    lab.publish();
    let id = lab.send("alice@own.example", &["x@many.example"]);
    assert_eq!(lab.settled(&id).status, "delivered");
    let seen = lab.mx(HOST).seen();
    assert_eq!((seen.messages.len(), seen.connections, seen.handshakes), (2, 2, 2));
}

#[test]
fn a_kill_loses_nothing_of_what_was_to_ride() {
    let identity = Identity::self_signed(&[HOST]);
    let mut plan = plan(Behaviour::with_tls(HOST, &identity), &identity);
    plan.set("outbound.max_deliveries_per_destination", "4");
    let mut lab = plan.start().expect("a laboratory");
    send(&lab, (0..40).map(|number| format!("number {number}")));
    wait(&lab, |seen| seen.messages.len() >= 10);
    lab.daemon_mut().kill();
    lab.daemon_mut().launch().expect("a daemon");
    wait(&lab, |seen| copies(&seen.messages).len() == 40);
    let seen = lab.mx(HOST).seen();
    let extra = seen.messages.len() - 40;
    assert!(extra <= 4, "{extra} extra copies after one kill with four deliveries at a time");
}

#[test]
fn what_a_server_says_after_it_took_a_message_is_not_about_that_message_and_not_an_answer_to_the_next() {
    let identity = Identity::self_signed(&[HOST]);
    let host = Behaviour::with_tls(HOST, &identity);
    for after in ["250 taken\n421 4.4.2 enough", "250 taken\n250 and again", "250 taken\n\u{7f}nonsense"] {
        let lab =
            plan(host.clone().reply_at(Moment::AfterDot, after), &identity).start().expect("a laboratory");
        for number in 1..=3 {
            let id = lab.send("alice@own.example", &["x@many.example"]);
            assert_eq!(lab.settled(&id).status, "delivered", "{after:?}");
            assert_eq!(lab.mx(HOST).messages().len(), number, "{after:?}");
        }
        assert_eq!(lab.mx(HOST).seen().connections, 3, "{after:?}");
    }
}

#[test]
fn a_second_message_that_goes_wrong_does_not_touch_the_first() {
    let identity = Identity::self_signed(&[HOST]);
    let host = Behaviour::with_tls(HOST, &identity);
    for (moment, action, taken) in [
        (Moment::Mail, Action::Close, 1),
        (Moment::Rcpt, Action::Reply("421 4.4.2 enough".to_owned()), 1),
        (Moment::Data, Action::Raw(b"\xff\xfe\r\n".to_vec()), 1),
        (Moment::AfterDot, Action::Close, 2),
        (Moment::AfterDot, Action::Reply("451 4.3.0 later".to_owned()), 1),
    ] {
        let mut plan = plan(host.clone(), &identity);
        plan.set("queue.retry", "[\"1h\"]");
        let lab = plan.start().expect("a laboratory");
        let first = lab.send("alice@own.example", &["x@many.example"]);
        assert_eq!(lab.settled(&first).status, "delivered");
        lab.mx(HOST).change_open_sessions(host.clone().at(moment, action.clone()));
        let second = lab.send("alice@own.example", &["x@many.example"]);
        assert_eq!(lab.settled(&second).status, "deferred", "{moment:?} {action:?}");
        assert_eq!(lab.show(&first).status, "delivered");
        assert_eq!(lab.mx(HOST).messages().len(), taken, "{moment:?} {action:?}");
    }
}

/// A server that reads, but never fast enough: the attempt has an end, and others do not wait for it.
#[test]
fn a_server_that_drips_does_not_hold_a_delivery_beyond_the_time_of_one_attempt() {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1h\"]");
    plan.set("outbound.attempt_timeout", "\"2s\"");
    plan.set("outbound.max_deliveries", "2");
    let slow = Action::Drip("250 slowly and more slowly".repeat(20), Duration::from_millis(200));
    for moment in [Moment::Ehlo, Moment::Mail, Moment::Rcpt, Moment::Data] {
        let domain = format!("{}.example", format!("{moment:?}").to_lowercase());
        let host = Behaviour::plain(&domain).at(moment, slow.clone());
        plan.site_with(&domain, Some(host), &[], Zone::unsigned);
    }
    plan.site_with("good.example", Some(Behaviour::plain("good")), &[], Zone::unsigned);
    let lab = plan.start().expect("a laboratory");
    let ids = ["ehlo", "mail", "rcpt", "data"]
        .map(|name| lab.send("alice@own.example", &[&format!("x@{name}.example")]));
    let good = lab.send("alice@own.example", &["x@good.example"]);
    assert_eq!(lab.settled(&good).status, "delivered");
    for id in &ids {
        let shown = lab.settled(id);
        assert_eq!(shown.status, "deferred");
        let reply = shown.last_reply.unwrap_or_default();
        assert!(reply.contains("the time for one attempt was over"), "{reply}");
    }
}
