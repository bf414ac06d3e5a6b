//! Rows of the DANE matrix (`mta-dane/MATRIX.md`) that need a server at the other end. Each starts from a world in order and
//! changes one thing.

use std::time::{Duration, SystemTime};

use hickory_proto::rr::RecordType::{A, MX, TLSA};
use mta_dane::dnssec::Status;

use super::lab::{self, Behaviour, Lab, Server, StartTls, assert_nothing_of_the_message};
use crate::alert::{Alerts, Kind};
use crate::outbound::dane_memory::{DaneMemory, Sight};
use crate::outbound::{Pool, Reach, Verdict, record};

const WRONG: &str = "3 1 1 00000000000000000000000000000000000000000000000000000000000000aa";

fn deferred(status: &str) -> Vec<(Verdict, String)> {
    vec![(Verdict::Deferred, status.to_owned())]
}

/// B8, B7, RFC 7672 2.2.1: behind an insecure MX the log names the host as the MX record does, not what it expands to, and
/// does not call the domain authenticated.
#[test]
fn b8_the_unexpanded_host_is_logged_behind_an_insecure_mx() {
    let lab = Lab::dane(Behaviour::default());
    let expanded = format!("_{}._tcp.host.test", lab.server.port());
    lab.resolver.insecure("example.test", MX, &["10 mx.test."]).cname("mx.test", "host.test", Status::Secure);
    lab.resolver.secure("host.test", A, &["127.0.0.1"]).secure(&expanded, TLSA, &[&lab.server.tlsa()]);
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Delivered, "2.0.0".to_owned())]);
    let tls = report.decision.hosts[0].tries[0].tls.as_ref().unwrap();
    assert_eq!(tls.sni.as_deref(), Some("host.test"), "the base domain is the expanded name");
    let line = record::log_line(&report.decision, &lab.job, &report.outcomes[0]).to_string();
    assert!(line.contains(" mx=mx.test[127.0.0.1]") && line.contains(" dane=host-only "), "{line}");
}

/// F10, J1, RFC 7672 2.2: several addresses with different certificates: one that does not match is no proof against the
/// others, gets nothing, and is passed over.
#[test]
fn f10_another_address_with_the_right_certificate_gets_the_mail() {
    // Addresses of one host come in any order, so both orders are seen after a few rounds.
    for _ in 0..4 {
        let lab = Lab::dane(Behaviour::default());
        let right = Server::start_at([127, 0, 0, 2], lab.server.port(), Behaviour::default());
        lab.resolver.secure("mx.test", A, &["127.0.0.1", "127.0.0.2"]);
        lab.tlsa(&[&right.tlsa()]);
        assert_eq!(lab::seen(&lab.run()), [(Verdict::Delivered, "2.0.0".to_owned())]);
        assert_eq!((right.received(), right.connections()), (lab::CONTENT.to_vec(), 1));
        assert_nothing_of_the_message(&lab.server);
    }
    // With no address right, every address is tried once, and only then the next host.
    let lab = Lab::dane(Behaviour::default());
    let port = lab.server.port();
    let other = Server::start_at([127, 0, 0, 2], port, Behaviour::default());
    let backup = Server::start_at([127, 0, 0, 3], port, Behaviour::default());
    lab.resolver.secure("example.test", MX, &["10 mx.test.", "20 mx2.test."]);
    lab.resolver.secure("mx.test", A, &["127.0.0.1", "127.0.0.2"]).secure("mx2.test", A, &["127.0.0.3"]);
    lab.resolver.secure(&format!("_{port}._tcp.mx2.test"), TLSA, &[&backup.tlsa()]);
    lab.tlsa(&[WRONG]);
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Delivered, "2.0.0".to_owned())]);
    assert_eq!((lab.server.connections(), other.connections(), backup.connections()), (1, 1, 1));
    for server in [&lab.server, &other] {
        assert_nothing_of_the_message(server);
    }
}

/// F11, F2: a handshake that never ends is a delay of the host, never of the message's worth, and never plaintext.
#[test]
fn f11_a_handshake_without_end_is_transient() {
    let mut lab = Lab::dane(Behaviour::default().reply("STARTTLS", "220 go ahead\r\n<HANG>"));
    lab.options.handshake_timeout = Duration::from_millis(200);
    let report = lab.run();
    assert_eq!(lab::seen(&report), deferred("4.7.5"));
    assert_eq!(report.outcomes[0].outcome.reach, Reach::Host);
    assert_nothing_of_the_message(&lab.server);
    assert_eq!(lab.server.connections(), 1, "no second try in the clear");
}

/// J4, F2, RFC 7672 2.2: whatever code refuses STARTTLS, under DANE it delays; so does every refusal before TLS.
#[test]
fn j4_every_refusal_of_starttls_delays() {
    for reply in [
        "454 4.7.0 TLS not available\r\n",
        "421 4.3.2 closing\r\n",
        "500 5.5.1 what?\r\n",
        "501 5.5.4 no arguments\r\n",
        "502 5.5.1 not implemented\r\n",
        "503 5.5.1 bad sequence\r\n",
        "530 5.7.0 authenticate first\r\n",
        "550 5.7.1 never\r\n",
        "554 5.7.1 go away\r\n",
        "250 2.0.0 ok, but no\r\n",
        "354 go on\r\n",
        "no code at all\r\n",
    ] {
        let mut lab = Lab::dane(Behaviour::default().reply("STARTTLS", reply));
        lab.hurry();
        let report = lab.run();
        assert_eq!(report.outcomes[0].outcome.verdict, Verdict::Deferred, "{reply}");
        assert_nothing_of_the_message(&lab.server);
        assert_eq!(lab.server.connections(), 1, "{reply}");
    }
}

/// F7, RFC 3207 4.2: a server that offers STARTTLS again inside TLS is not taken at its word; the message goes inside the
/// first TLS session, and nothing said before it counts.
#[test]
fn f7_starttls_offered_again_inside_tls_is_ignored() {
    let offer = "250-mx.test\r\n250-STARTTLS\r\n250 SIZE 1000000\r\n";
    let lab = Lab::dane(Behaviour::default().reply("EHLO", offer));
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Delivered, "2.0.0".to_owned())]);
    assert_eq!(lab.server.log().matches("STARTTLS").count(), 1);
}

/// F8: two deliveries to one server are two full handshakes; a resumed session would skip the verifier.
#[test]
fn f8_every_delivery_is_a_full_handshake() {
    let mut lab = Lab::dane(Behaviour::default());
    // Each on a connection of its own.
    lab.pool = Pool::none();
    for _ in 0..3 {
        assert_eq!(lab::seen(&lab.run()), [(Verdict::Delivered, "2.0.0".to_owned())]);
    }
    // The right key once is no passport: with other records the same server is refused.
    lab.tlsa(&[WRONG]);
    assert_eq!(lab::seen(&lab.run()), deferred("4.7.5"));
    assert_eq!((lab.server.resumed(), lab.server.connections()), (0, 4));
}

/// A4, A8, B1, C10, D5, RFC 7672 2.1.2: every kind of lookup error at every place of the walk delays, connects to nobody where
/// the place binds, and never turns into "no DANE". (Which failures become which status is the business of the resolver's
/// own table; here each status meets each place.)
#[test]
fn a4_b1_c10_d5_each_lookup_error_at_each_place() {
    type Break = fn(&Lab, &str);
    let places: [(&str, Break); 5] = [
        ("bogus MX", |lab, _| drop(lab.resolver.bogus("example.test", MX).clone())),
        ("no MX answer", |lab, _| drop(lab.resolver.unavailable("example.test", MX).clone())),
        ("bogus A", |lab, _| drop(lab.resolver.bogus("mx.test", A).clone())),
        ("no A answer", |lab, _| drop(lab.resolver.unavailable("mx.test", A).clone())),
        ("bogus TLSA", |lab, owner| drop(lab.resolver.bogus(owner, TLSA).clone())),
    ];
    for (what, damage) in places {
        for starttls in [StartTls::Offered, StartTls::NotOffered] {
            let lab = Lab::dane(Behaviour { starttls, ..Behaviour::default() });
            damage(&lab, &lab.owner());
            assert_eq!(lab.run().outcomes[0].outcome.verdict, Verdict::Deferred, "{what}");
            assert_eq!(lab.server.connections(), 0, "{what}");
        }
    }
}

/// Local policy beside RFC 7672: a domain that had DANE for weeks and has none now is told once; its mail goes on, or waits once
/// where that is configured, and a lookup error is no loss.
#[test]
fn the_loss_of_dane_is_told_and_its_mail_waits_once_if_so_configured() {
    let directory = tempfile::tempdir().unwrap();
    let queue = mta_queue::Queue::open(directory.path(), mta_queue::Options::default()).unwrap();
    let alerts = Alerts::default();
    let hours_ago = |hours: u64| SystemTime::now() - Duration::from_secs(3600 * hours);
    let memory = DaneMemory::kept_in(&queue, alerts.clone());
    let with_memory = |mut lab: Lab| {
        lab.memory = memory.clone();
        lab
    };
    memory.seen("example.test", &Sight::Dane, hours_ago(20 * 24));
    memory.seen("example.test", &Sight::Dane, hours_ago(24));

    let lab = with_memory(Lab::dane(Behaviour::default()));
    lab.resolver.bogus(&lab.owner(), TLSA);
    assert_eq!(lab::seen(&lab.run()), deferred("4.7.5"));
    assert!(alerts.open().is_empty(), "an error is no loss");

    let mut lab = with_memory(Lab::unsigned(Behaviour::default()));
    lab.options.dane_loss_delay = Duration::from_secs(3600);
    let report = lab.run();
    assert_eq!((lab::seen(&report), lab.server.connections()), (deferred("4.7.5"), 0));
    let text = &report.outcomes[0].outcome.text;
    assert!(text.contains("had DANE since") && text.contains("MX records are not secure"), "{text}");
    assert!(alerts.is_open(Kind::Dane, "example.test"));
    lab.options.dane_loss_delay = Duration::ZERO;
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Delivered, "2.0.0".to_owned())]);
    assert_eq!(alerts.open().len(), 1);

    let lab = with_memory(Lab::dane(Behaviour::default()));
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Delivered, "2.0.0".to_owned())]);
    assert!(alerts.open().is_empty(), "it is back");
    // Lost again, and longer ago than the mail is to wait.
    memory.seen("example.test", &Sight::None("test".into()), hours_ago(2));
    let mut lab = with_memory(Lab::unsigned(Behaviour::default()));
    lab.options.dane_loss_delay = Duration::from_secs(3600);
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Delivered, "2.0.0".to_owned())]);
}
