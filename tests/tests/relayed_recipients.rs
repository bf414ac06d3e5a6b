//! Relayed domains: the next hop is asked who exists before a client is answered, and a backup MX hands on to better ones
//! alone.

use mta_lab::cert::Identity;
use mta_lab::client::{Reply, SmtpClient};
use mta_lab::lab::{Lab, Plan, Ports, WITHIN};
use mta_lab::mx::{Action, Behaviour, Moment, MxHost};
use mta_lab::zone::Zone;
use serde_json::Value;

const DOMAIN: &str = "primary.example";
const HOST: &str = "mx.primary.example";

/// A laboratory that is the backup of a domain, for strangers, and asks the domain's own host.
fn laboratory(behaviour: Behaviour, change: impl FnOnce(&mut Plan)) -> Lab {
    let mut plan = Plan::new();
    plan.site(DOMAIN, Some(behaviour), &[]);
    backup_of_it(&mut plan);
    change(&mut plan);
    plan.start().expect("a laboratory")
}

fn backup_of_it(plan: &mut Plan) {
    plan.set("smtp.relay_networks", "[]");
    plan.set(&format!("domain.\"{DOMAIN}\".kind"), "\"relay\"");
    plan.set(&format!("domain.\"{DOMAIN}\".recipients"), "\"verified\"");
}

fn primary() -> Behaviour {
    Behaviour::plain(HOST)
        .reply_to("ghost@primary.example", "550 5.1.1 no such user")
        .reply_to("policy@primary.example", "550 5.7.1 not from you")
        .reply_to("later@primary.example", "450 4.2.0 greylisted")
}

fn rcpt(lab: &Lab, recipient: &str) -> Reply {
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    client.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
    client.command(&format!("RCPT TO:<{recipient}>")).expect("a reply")
}

fn codes(lab: &Lab, local_parts: &[&str]) -> Vec<u16> {
    local_parts.iter().map(|name| rcpt(lab, &format!("{name}@{DOMAIN}")).code).collect()
}

/// The lines of clients that the domain's host has seen.
fn heard(lab: &Lab) -> Vec<String> {
    lab.mx(HOST).seen().transcript.into_iter().filter(|line| line.starts_with("C: ")).collect()
}

fn count(lines: &[String], wanted: &str) -> usize {
    lines.iter().filter(|line| line.contains(wanted)).count()
}

fn logged(lab: &Lab, parts: &[&str]) -> bool {
    lab.daemon().wait_for_log(WITHIN, |line| parts.iter().all(|part| line.contains(part))).is_some()
}

fn down(lab: &mut Lab) -> std::net::SocketAddr {
    let host = lab.hosts.remove(HOST).expect("it ran");
    // Sessions that rest end, too.
    host.change_open_sessions(Behaviour::plain(HOST).at(Moment::Mail, Action::Close));
    let address = host.address();
    drop(host);
    address
}

fn up(lab: &mut Lab, address: std::net::SocketAddr, behaviour: Behaviour) {
    let std::net::IpAddr::V4(ip) = address.ip() else { panic!("IPv4") };
    lab.hosts
        .insert(HOST.to_owned(), MxHost::start(ip, address.port(), behaviour).expect("its port is free"));
}

#[test]
fn the_next_hop_is_asked_once_and_its_answer_is_kept() {
    let lab =
        laboratory(primary(), |plan| plan.set(&format!("domain.\"{DOMAIN}\".mailboxes"), "[\"listed\"]"));
    assert_eq!(codes(&lab, &["listed", "postmaster"]), [250, 250]);
    assert!(heard(&lab).is_empty(), "nobody has to be asked about these");
    for _ in 0..3 {
        assert_eq!(codes(&lab, &["anna", "ghost"]), [250, 550]);
    }
    assert_eq!(rcpt(&lab, "ghost@primary.example").lines[0].get(..5), Some("5.1.1"));
    let lines = heard(&lab);
    assert_eq!((count(&lines, "RCPT TO:<anna@"), count(&lines, "RCPT TO:<ghost@")), (1, 1), "{lines:?}");
    assert_eq!(
        (count(&lines, "MAIL FROM:<>"), count(&lines, "MAIL"), count(&lines, "DATA")),
        (2, 2, 0),
        "{lines:?}"
    );
    // What is said of us, or for now, says nothing of the address, and is not kept.
    for _ in 0..2 {
        assert_eq!(codes(&lab, &["policy", "later"]), [250, 250]);
    }
    assert!(logged(&lab, &["event=recipient-asked", "<policy@primary.example>", "status=undecided"]));

    let shown = |name: &[&str]| -> Value {
        let words = ["dest", "recipients", "--json"].iter().chain(name).copied();
        lab.daemon().cli_json(words).expect("JSON")["recipients"].take()
    };
    let all = shown(&[]);
    let exists: Vec<_> = all
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| (row["address"].as_str(), row["exists"].as_bool()))
        .collect();
    assert_eq!(
        exists,
        [(Some("anna@primary.example"), Some(true)), (Some("ghost@primary.example"), Some(false))]
    );
    assert_eq!(shown(&["ghost@primary.example"])[0]["reply"], "550 5.1.1 no such user");
    assert_eq!(shown(&[DOMAIN]), all);
    let tool = |words: &[&str]| lab.daemon().cli(words.iter().copied()).expect("the tool").status.code();
    assert_eq!(tool(&["dest", "recipients", "else.example"]), Some(2));

    // The address is made; who cannot wait says so.
    lab.mx(HOST).change_open_sessions(Behaviour::plain(HOST));
    assert_eq!(codes(&lab, &["ghost"]), [550]);
    assert_eq!(tool(&["dest", "forget", "ghost@primary.example"]), Some(0));
    assert_eq!(tool(&["dest", "forget", "ghost@primary.example"]), Some(2));
    assert_eq!(codes(&lab, &["ghost"]), [250]);
    let id = lab.send("carol@else.example", &["ghost@primary.example"]);
    assert_eq!(lab.settled(&id).status, "delivered");
    assert_eq!(lab.mx(HOST).messages().len(), 1);
}

#[test]
fn while_the_next_hop_is_down_its_answers_count_and_the_rest_is_taken() {
    let mut lab = laboratory(primary(), |plan| plan.set("queue.retry", "[\"200ms\"]"));
    assert_eq!(codes(&lab, &["anna", "ghost"]), [250, 550]);
    let address = down(&mut lab);
    // Also after a restart.
    assert!(lab.daemon_mut().stop().expect("an end").success());
    lab.daemon_mut().launch().expect("another start");
    assert_eq!(codes(&lab, &["anna", "ghost", "new", "newer"]), [250, 550, 250, 250]);
    assert!(logged(&lab, &["event=recipient-asked", "status=unreachable"]));
    let id = lab.send("carol@else.example", &["anna@primary.example", "new@primary.example"]);
    lab.settled(&id);
    up(&mut lab, address, primary());
    assert_eq!(lab.wait_for(&id, |message| message.status == "delivered").status, "delivered");
    assert!(lab.mx(HOST).wait_until(WITHIN, |seen| !seen.messages.is_empty()));
    assert_eq!(codes(&lab, &["ghost"]), [550]);
}

#[test]
fn who_wants_it_takes_nothing_that_nobody_was_asked_about() {
    let mut lab =
        laboratory(primary(), |plan| plan.set(&format!("domain.\"{DOMAIN}\".unasked"), "\"defer\""));
    assert_eq!(codes(&lab, &["anna", "later", "policy"]), [250, 450, 450]);
    down(&mut lab);
    assert_eq!(codes(&lab, &["anna", "new", "postmaster"]), [250, 450, 250]);
    let reply = rcpt(&lab, "new@primary.example");
    assert!(reply.lines[0].contains("cannot be found out now"), "{reply:?}");
}

#[test]
fn nobody_waits_long_for_a_host_that_is_silent() {
    let lab = laboratory(Behaviour::plain(HOST).at(Moment::Banner, Action::Silence), |plan| {
        plan.set("recipients.wait", "\"100ms\"");
        plan.set("recipients.timeout", "\"1s\"");
    });
    let reply = rcpt(&lab, "anna@primary.example");
    assert_eq!((reply.code, reply.lines[0].get(..5)), (450, Some("4.1.1")), "{reply:?}");
    assert!(logged(&lab, &["event=recipient-asked", "status=unreachable"]));
    assert_eq!(codes(&lab, &["anna", "bob"]), [250, 250], "from now on it is known to be down");
}

#[test]
fn a_host_that_fails_its_dane_check_is_not_believed_and_one_that_passes_is_asked_inside_tls() {
    let (right, wrong) = (Identity::self_signed(&[HOST]), Identity::self_signed(&[HOST]));
    for (published, expected) in [(&right, [250, 550]), (&wrong, [450, 450])] {
        let mut plan = Plan::new();
        let behaviour = Behaviour { identity: Some(right.clone()), ..primary() };
        plan.site(DOMAIN, Some(behaviour), &[published.leaf().tlsa(3, 1, 1)]);
        backup_of_it(&mut plan);
        plan.set(&format!("domain.\"{DOMAIN}\".unasked"), "\"defer\"");
        let lab = plan.start().expect("a laboratory");
        assert_eq!(codes(&lab, &["anna", "ghost"]), expected);
        let asked = count(&heard(&lab), "RCPT");
        if expected[0] == 250 {
            assert!(lab.mx(HOST).seen().handshakes > 0 && asked == 2, "{:?}", heard(&lab));
        } else {
            assert_eq!(asked, 0, "{:?}", heard(&lab));
        }
    }
}

#[test]
fn a_backup_mx_hands_on_to_better_hosts_alone() {
    let mut plan = Plan::on_ports(if mta_lab::netns::is_inside() {
        Ports { own: 25, ..Ports::REAL }
    } else {
        // The daemon listens where MX hosts do, on an address of its own.
        let ports = Ports::free();
        Ports { own: ports.smtp, ..ports }
    });
    let better = plan.host(HOST, Some(Behaviour::plain(HOST)));
    let worse = plan.host("mx.worse.example", Some(Behaviour::plain("mx.worse.example")));
    plan.zone(
        Zone::new(DOMAIN)
            .mx("@", 10, "mx")
            .mx("@", 20, "mail.own.example.")
            .mx("@", 30, "worse")
            .address("mx", better)
            .address("worse", worse),
    );
    backup_of_it(&mut plan);
    plan.set(&format!("domain.\"{DOMAIN}\".recipients"), "\"any\"");
    plan.set("queue.retry", "[\"200ms\"]");
    let mut lab = plan.start().expect("a laboratory");
    let id = lab.send("carol@else.example", &["anna@primary.example"]);
    assert_eq!(lab.settled(&id).status, "delivered");
    assert_eq!(lab.mx(HOST).messages().len(), 1);
    let address = down(&mut lab);
    let id = lab.send("carol@else.example", &["anna@primary.example"]);
    let shown = lab.settled(&id);
    assert_ne!(shown.status, "delivered", "{shown:#?}");
    assert_ne!(shown.status, "failed", "it waits for the better one: {shown:#?}");
    assert_eq!(
        lab.mx("mx.worse.example").seen().connections,
        0,
        "never to a worse one, which would send it back"
    );
    let accepted = lab.daemon().log().iter().filter(|line| line.contains("event=accepted")).count();
    assert_eq!(accepted, 2, "never to itself");
    up(&mut lab, address, Behaviour::plain(HOST));
    assert_eq!(lab.wait_for(&id, |message| message.status == "delivered").status, "delivered");
}
