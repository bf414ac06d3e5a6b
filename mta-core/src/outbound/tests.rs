//! Attempts against scripted servers in this process: what each kind of server and DNS leads to, and above all what
//! reaches a server that must get nothing.

mod examined;
mod explained;
mod lab;
mod matrix;
mod reuse;

use hickory_proto::rr::RecordType::{A, MX, TLSA};
use mta_dane::dnssec::Status;
use mta_smtp::address::Host;
use mta_smtp::envelope::Body;

use self::lab::{Behaviour, Lab, StartTls, assert_nothing_of_the_message};
use super::tls_policy::{DestinationRule, TlsRule};
use super::{Reach, Verdict};
use crate::routing::{RelayTls, Route};

/// F1, F3, RFC 7672 2.2, 8.1.
#[test]
fn dane_ee_matches_and_the_message_goes_out_whole() {
    let lab = Lab::dane(Behaviour::default());
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Delivered, "2.0.0".to_owned())]);
    assert_eq!(lab.server.received(), lab::CONTENT);
    let host = &report.decision.hosts[0];
    assert_eq!((host.requirement.as_str(), host.address_status.as_str()), ("dane", "secure"));
    let tls = host.tries[0].tls.as_ref().unwrap();
    assert_eq!(tls.version.as_deref(), Some("TLSv1.3"));
    assert_eq!(tls.sni.as_deref(), Some("mx.test"));
    assert!(tls.authenticated_by.as_deref().unwrap().contains("3 1 1"), "{tls:?}");
    let log = lab.server.log();
    assert!(
        log.starts_with(
            "EHLO client.test\r\nSTARTTLS\r\n<TLS>\r\nEHLO client.test\r\nMAIL FROM:<s@sender.test>"
        ),
        "{log}"
    );
}

#[test]
fn tls_1_2_and_a_certificate_of_1500_names_are_well() {
    let lab = Lab::dane(Behaviour { old_tls: true, more_names: 1500, ..Behaviour::default() });
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Delivered, "2.0.0".to_owned())]);
    assert_eq!(report.decision.hosts[0].tries[0].tls.as_ref().unwrap().version.as_deref(), Some("TLSv1.2"));
    assert!(report.decision.to_json().len() < 4096);
}

/// F1, J1, J2.
#[test]
fn wrong_key_delays_and_nothing_of_the_message_leaves_rfc7672_2_2() {
    let lab = Lab::dane(Behaviour::default());
    lab.tlsa(&["3 1 1 00000000000000000000000000000000000000000000000000000000000000aa"]);
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Deferred, "4.7.5".to_owned())]);
    assert_nothing_of_the_message(&lab.server);
    assert_eq!(report.decision.hosts[0].tries[0].result_type.as_deref(), Some("validation-failure"));
    let story = report.decision.story().join("\n");
    assert!(story.contains("did not match the certificate it served (SPKI sha256 "), "{story}");
    assert!(story.contains("MX of example.test secure"), "{story}");
    // One mismatch asks for the records once more before the host is given up.
    assert_eq!(lab.resolver.forgotten().len(), 1);
    assert_eq!(lab.server.connections(), 1);
}

/// J5.
#[test]
fn records_replaced_behind_our_cache_are_asked_for_again() {
    let lab = Lab::dane(Behaviour::default());
    lab.tlsa(&["3 1 1 00000000000000000000000000000000000000000000000000000000000000aa"]);
    let (resolver, record, owner) = (lab.resolver.clone(), lab.server.tlsa(), lab.owner());
    // The right record appears as soon as the server was spoken to.
    lab.server.on_connect(move || {
        resolver.secure(&owner, TLSA, &[&record]);
    });
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Delivered, "2.0.0".to_owned())]);
    assert_eq!(lab.server.connections(), 2);
}

/// F2, F7, RFC 7672 2.2, RFC 3207 4.2.
#[test]
fn without_starttls_a_host_with_tlsa_gets_nothing() {
    for (starttls, words) in [
        (StartTls::NotOffered, "does not offer STARTTLS"),
        (StartTls::Refused, "refused STARTTLS"),
        (StartTls::Garbage, "TLS handshake"),
        (StartTls::Close, "TLS handshake"),
        (StartTls::Injected, "plaintext behind the reply to STARTTLS"),
    ] {
        let lab = Lab::dane(Behaviour { starttls, ..Behaviour::default() });
        let report = lab.run();
        assert_eq!(lab::seen(&report), [(Verdict::Deferred, "4.7.5".to_owned())], "{starttls:?}");
        assert_nothing_of_the_message(&lab.server);
        assert_eq!(lab.server.connections(), 1, "{starttls:?}: no second try");
        let text = &report.outcomes[0].outcome.text;
        assert!(text.contains(words), "{starttls:?}: {text}");
    }
}

#[test]
fn what_dns_leaves_unknown_is_never_taken_for_no_dane_rfc7672_2_1_2() {
    let lab = Lab::dane(Behaviour::default());
    lab.resolver.bogus(&lab.owner(), TLSA);
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Deferred, "4.7.5".to_owned())]);
    assert_eq!(lab.server.connections(), 0);
    lab.resolver.unavailable(&lab.owner(), TLSA);
    assert_eq!(lab.run().outcomes[0].outcome.verdict, Verdict::Deferred);
    lab.resolver.bogus("mx.test", A);
    assert_eq!(lab.run().outcomes[0].outcome.verdict, Verdict::Deferred);
    lab.resolver.unavailable("example.test", MX);
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Deferred, "4.4.3".to_owned())]);
    assert_eq!(report.outcomes[0].outcome.reach, Reach::NextHop);
    assert_eq!(lab.server.connections(), 0);
}

/// D8, RFC 7672 2.2: while TLSA is not known, nobody is connected to.
#[test]
fn a_stuck_resolver_ends_with_the_time_allowed() {
    let mut lab = Lab::dane(Behaviour::default());
    lab.options.discovery_timeout = std::time::Duration::from_millis(20);
    let _held = lab.resolver.hold(&lab.owner(), TLSA);
    let report = lab.run();
    assert_eq!(report.outcomes[0].outcome.verdict, Verdict::Deferred);
    assert_eq!(lab.server.connections(), 0);
}

#[test]
fn all_tlsa_unusable_means_tls_without_a_name_rfc7672_2_2() {
    let lab = Lab::dane(Behaviour::default());
    lab.tlsa(&["1 1 1 00000000000000000000000000000000000000000000000000000000000000aa"]);
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Delivered, "2.0.0".to_owned())]);
    assert!(lab.server.log().contains("<TLS>"));
    let lab = Lab::dane(Behaviour { starttls: StartTls::NotOffered, ..Behaviour::default() });
    lab.tlsa(&["1 1 1 00000000000000000000000000000000000000000000000000000000000000aa"]);
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Deferred, "4.7.5".to_owned())]);
    assert_nothing_of_the_message(&lab.server);
}

/// J6, RFC 7672 2.2.
#[test]
fn opportunistic_tls_falls_back_on_a_new_connection() {
    for (starttls, connections, verdict) in [
        (StartTls::Offered, 1, Verdict::Delivered),
        (StartTls::NotOffered, 1, Verdict::Delivered),
        (StartTls::Refused, 1, Verdict::Delivered),
        (StartTls::Garbage, 2, Verdict::Delivered),
        (StartTls::Close, 2, Verdict::Delivered),
        (StartTls::Injected, 2, Verdict::Delivered),
    ] {
        let lab = Lab::unsigned(Behaviour { starttls, ..Behaviour::default() });
        let report = lab.run();
        assert_eq!(
            report.outcomes[0].outcome.verdict,
            verdict,
            "{starttls:?}: {:?}",
            report.decision.story()
        );
        assert_eq!(lab.server.connections(), connections, "{starttls:?}");
        assert_eq!(lab.server.log().contains("<TLS>"), starttls == StartTls::Offered);
        if connections == 2 {
            assert_eq!(lab.server.log().matches("STARTTLS").count(), 1, "the new connection goes without");
        }
    }
}

#[test]
fn next_host_is_tried_after_a_dane_failure_and_order_is_kept() {
    let bad = Lab::dane(Behaviour { starttls: StartTls::NotOffered, ..Behaviour::default() });
    let good = lab::Server::start(Behaviour::default());
    bad.resolver.secure("example.test", MX, &["10 mx.test.", "20 mx2.test."]).secure(
        "mx2.test",
        A,
        &["127.0.0.2"],
    );
    // The second host listens at another address of the same port; its records match.
    let second = lab::Server::start_at([127, 0, 0, 2], bad.server.port(), Behaviour::default());
    let owner = format!("_{}._tcp.mx2.test", bad.server.port());
    bad.resolver.secure(&owner, TLSA, &[&second.tlsa()]);
    let report = bad.run();
    assert_eq!(lab::seen(&report), [(Verdict::Delivered, "2.0.0".to_owned())]);
    assert_nothing_of_the_message(&bad.server);
    assert_eq!(second.received(), lab::CONTENT);
    assert_eq!(report.decision.hosts.len(), 2);
    assert_eq!(good.connections(), 0);
}

/// J3, B12, B15, B16.
#[test]
fn next_hops_that_never_work_rfc7505_4_1() {
    let lab = Lab::dane(Behaviour::default());
    lab.resolver.secure("example.test", MX, &["0 ."]);
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Failed, "5.1.10".to_owned())]);
    let mut lab = Lab::dane(Behaviour::default());
    lab.job_to("nowhere.test");
    lab.resolver.nxdomain("nowhere.test", Status::Insecure);
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Failed, "5.1.2".to_owned())]);
    let mut lab = Lab::dane(Behaviour::default());
    lab.options.own_ports = vec![lab.server.port()];
    lab.options.host_name = "mx.test".to_owned();
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Failed, "5.4.6".to_owned())]);
    let mut lab = Lab::dane(Behaviour::default());
    lab.options.own_ports = vec![lab.server.port()];
    lab.options.own_addresses = vec!["127.0.0.1".parse().unwrap()];
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Failed, "5.4.6".to_owned())]);
    assert_eq!(lab.server.connections(), 0);
}

#[test]
fn no_connection_to_loopback_unless_configured() {
    let mut lab = Lab::dane(Behaviour::default());
    lab.options.allow_loopback = false;
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Deferred, "4.4.4".to_owned())]);
    assert_eq!(lab.server.connections(), 0);
}

#[test]
fn each_recipient_has_its_own_outcome() {
    let behaviour = Behaviour::default()
        .reply("RCPT TO:<b@example.test>", "550 5.1.1 no such user\r\n")
        .reply("RCPT TO:<c@example.test>", "450 4.2.1 busy\r\n");
    let mut lab = Lab::dane(behaviour);
    lab.recipients(&["a@example.test", "b@example.test", "c@example.test"]);
    let report = lab.run();
    assert_eq!(
        lab::seen(&report),
        [
            (Verdict::Delivered, "2.0.0".to_owned()),
            (Verdict::Failed, "5.1.1".to_owned()),
            (Verdict::Deferred, "4.2.1".to_owned())
        ]
    );
    assert_eq!(report.decision.result, "delivered 1, deferred 1, failed 1");
    let said = &report.decision.hosts[0].tries[0].replies;
    assert!(
        said.iter().any(|reply| reply.to == "RCPT <b@example.test>" && reply.reply.starts_with("550 5.1.1"))
    );
}

#[test]
fn a_refused_mail_decides_whatever_is_said_of_pipelined_recipients() {
    for (mail, verdict, status) in [
        ("451 4.7.1 later\r\n", Verdict::Deferred, "4.7.1"),
        ("550 5.7.1 never\r\n", Verdict::Failed, "5.7.1"),
    ] {
        let behaviour = Behaviour::default()
            .reply("MAIL", mail)
            .reply("RCPT", "503 5.5.1 MAIL first\r\n")
            .reply("DATA", "503 5.5.1 MAIL first\r\n");
        assert_eq!(lab::seen(&Lab::dane(behaviour).run()), [(verdict, status.to_owned())]);
    }
}

#[test]
fn many_recipients_go_in_several_transactions_on_one_connection() {
    let mut lab = Lab::dane(Behaviour::default());
    lab.options.max_recipients = 2;
    lab.recipients(&[
        "a@example.test",
        "b@example.test",
        "c@example.test",
        "d@example.test",
        "e@example.test",
    ]);
    let report = lab.run();
    assert!(report.outcomes.iter().all(|outcome| outcome.outcome.verdict == Verdict::Delivered));
    assert_eq!((lab.server.connections(), lab.server.log().matches("MAIL FROM").count()), (1, 3));
}

/// F11.
#[test]
fn servers_that_misbehave_delay_the_mail_and_nothing_else() {
    let cases = [
        ("421 at the greeting", Behaviour::default().reply("", "421 4.3.2 busy\r\n"), "4.3.2"),
        ("554 at the greeting", Behaviour::default().reply("", "554 5.7.1 blocked\r\n"), "4.7.1"),
        ("silence", Behaviour::default().reply("", "<HANG>"), "4.4.2"),
        ("endless greeting", Behaviour::default().reply("", "<ENDLESS>"), "4.5.0"),
        ("close at MAIL", Behaviour::default().reply("MAIL", "<CLOSE>"), "4.4.2"),
        ("421 at RCPT", Behaviour::default().reply("RCPT", "421 4.7.0 slow down\r\n"), "4.7.0"),
        ("hang at DATA", Behaviour::default().reply("DATA", "<HANG>"), "4.4.2"),
        ("endless DATA", Behaviour::default().reply("DATA", "<ENDLESS>"), "4.5.0"),
        ("250 to DATA", Behaviour::default().reply("DATA", "250 ok\r\n"), "4.5.0"),
        ("close after the dot", Behaviour::default().reply(".", "<CLOSE>"), "4.4.2"),
        ("hang after the dot", Behaviour::default().reply(".", "<HANG>"), "4.4.2"),
        ("half a reply after the dot", Behaviour::default().reply(".", "250-queued\r\n<HANG>"), "4.4.2"),
        ("421 after the dot", Behaviour::default().reply(".", "421 4.3.2 going\r\n"), "4.3.2"),
        ("4yz after the dot", Behaviour::default().reply(".", "451 4.3.0 later\r\n"), "4.3.0"),
    ];
    for (name, behaviour, status) in cases {
        let mut lab = Lab::unsigned(behaviour);
        lab.hurry();
        let report = lab.run();
        let outcome = &report.outcomes[0].outcome;
        assert_eq!(
            (outcome.verdict, outcome.status.to_string().as_str()),
            (Verdict::Deferred, status),
            "{name}: {outcome:?}"
        );
        assert!(report.decision.to_json().len() < 16 * 1024, "{name}: the record is bounded");
    }
}

#[test]
fn a_body_goes_out_once_per_attempt_when_the_final_reply_is_lost_g5() {
    let lab = Lab::unsigned(Behaviour::default().reply(".", "<CLOSE>"));
    lab.resolver.insecure("example.test", MX, &["10 mx.test.", "20 mx2.test."]).insecure(
        "mx2.test",
        A,
        &["127.0.0.2"],
    );
    let second = lab::Server::start_at([127, 0, 0, 2], lab.server.port(), Behaviour::default());
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Deferred, "4.4.2".to_owned())]);
    assert_eq!((lab.server.connections(), second.connections()), (1, 0));
}

#[test]
fn a_250_before_a_broken_quit_is_sent_g5() {
    for quit in ["<CLOSE>", "<HANG>", "garbage\r\n"] {
        let lab = Lab::unsigned(Behaviour::default().reply("QUIT", quit));
        assert_eq!(lab::seen(&lab.run()), [(Verdict::Delivered, "2.0.0".to_owned())], "{quit}");
    }
}

#[test]
fn one_byte_at_a_time_is_slow_but_right() {
    let lab = Lab::dane(Behaviour { drip: true, ..Behaviour::default() });
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Delivered, "2.0.0".to_owned())]);
    assert_eq!(lab.server.received(), lab::CONTENT);
}

#[test]
fn big_content_streams_and_keeps_its_dots() {
    let mut lab = Lab::dane(Behaviour::default());
    let content = b"..two dots\r\n.\r\nand a line\r\n".repeat(20_000);
    lab.content(content.clone());
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Delivered, "2.0.0".to_owned())]);
    assert!(lab.server.received() == content, "content changed on the way");
}

#[test]
fn an_early_refusal_ends_the_content() {
    let mut lab = Lab::dane(Behaviour { refuse_early: true, ..Behaviour::default() });
    lab.content(b"a line of sixty-four octets, again and again and again and so on\r\n".repeat(100_000));
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Failed, "5.3.4".to_owned())], "{:?}", report.decision.story());
    assert!(!lab.server.log().contains("\r\n.\r\n"));
}

#[test]
fn an_address_literal_is_connected_to_without_dns_rfc7672_2_2() {
    let mut lab = Lab::unsigned(Behaviour::default());
    lab.job.route = Route::Mx { next_hop: Host::parse("[127.0.0.1]").unwrap() };
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Delivered, "2.0.0".to_owned())]);
    assert!(lab.resolver.asked().is_empty());
    let story = report.decision.story();
    assert!(
        story.iter().any(|sentence| sentence.contains("an address literal; TLS where it works")),
        "{story:?}"
    );
}

#[test]
fn unreadable_content_is_our_fault_and_ends_without_a_dot() {
    let mut lab = Lab::dane(Behaviour::default());
    lab.broken_content();
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Deferred, "4.3.0".to_owned())]);
    assert_eq!(report.outcomes[0].outcome.reach, Reach::Site);
    assert!(!lab.server.log().contains("\r\n.\r\n"));
}

#[test]
fn nobody_listens() {
    let lab = Lab::dane(Behaviour::default());
    lab.resolver.secure("mx.test", A, &["127.0.0.3"]);
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Deferred, "4.4.1".to_owned())]);
    assert!(report.decision.hosts[0].tries[0].result.starts_with("no connection"), "{:?}", report.decision);
}

/// F10.
#[test]
fn the_next_address_of_a_host_is_tried() {
    let lab = Lab::dane(Behaviour::default());
    lab.resolver.secure("mx.test", A, &["127.0.0.3", "127.0.0.1", "127.0.0.4", "127.0.0.5"]);
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Delivered, "2.0.0".to_owned())]);
}

#[test]
fn local_rules_require_tls_or_switch_dane_off() {
    let rule = |tls| {
        vec![DestinationRule { domain: "example.test".into(), tls, until: None, reason: "test".into() }]
    };
    let mut lab = Lab::unsigned(Behaviour { starttls: StartTls::NotOffered, ..Behaviour::default() });
    lab.options.destinations = rule(TlsRule::Encrypt);
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Deferred, "4.7.5".to_owned())]);
    assert_nothing_of_the_message(&lab.server);

    let mut lab = Lab::unsigned(Behaviour::default());
    lab.options.destinations = rule(TlsRule::DaneMandatory);
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Deferred, "4.7.5".to_owned())]);
    assert_eq!(lab.server.connections(), 0);

    let mut lab = Lab::dane(Behaviour::default());
    lab.tlsa(&["3 1 1 00000000000000000000000000000000000000000000000000000000000000aa"]);
    lab.options.destinations = rule(TlsRule::DaneOff);
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Delivered, "2.0.0".to_owned())]);
    assert!(report.decision.story()[0].contains("DANE is switched off for example.test: test"));
    let line = super::record::log_line(&report.decision, &lab.job, &report.outcomes[0]).to_string();
    assert!(line.contains(" rule=\"DANE is switched off for example.test: test\""), "{line}");

    // A self-signed certificate satisfies nobody who wants it verified.
    let mut lab = Lab::unsigned(Behaviour::default());
    lab.options.destinations = rule(TlsRule::Verify);
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Deferred, "4.7.5".to_owned())]);
    assert_nothing_of_the_message(&lab.server);
}

#[test]
fn require_tls_goes_nowhere_without_a_proof_rfc8689_4_2_1() {
    let mut lab = Lab::unsigned(Behaviour::default());
    lab.job.parameters.require_tls = true;
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Failed, "5.7.10".to_owned())]);
    assert_eq!(lab.server.connections(), 0);
    let mut lab = Lab::dane(Behaviour::default());
    lab.job.parameters.require_tls = true;
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Failed, "5.7.30".to_owned())], "the host does not offer it");
    assert_nothing_of_the_message(&lab.server);
}

#[test]
fn eight_bit_content_goes_as_it_is() {
    let mut lab = Lab::dane(Behaviour::default());
    lab.job.parameters.body = Body::EightBitMime;
    lab.content("Subject: ä\r\n".as_bytes().to_vec());
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Delivered, "2.0.0".to_owned())]);
    assert_eq!(lab.server.received(), "Subject: ä\r\n".as_bytes());
}

#[test]
fn a_host_behind_an_insecure_mx_is_verified_but_the_domain_is_not_rfc7672_2_2_1() {
    let lab = Lab::dane(Behaviour::default());
    lab.resolver.insecure("example.test", MX, &["10 mx.test."]);
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Delivered, "2.0.0".to_owned())]);
    let line = super::record::log_line(&report.decision, &lab.job, &report.outcomes[0]).to_string();
    assert!(line.contains(" dnssec=insecure/secure ") && line.contains(" dane=host-only "), "{line}");
    assert!(report.decision.story().iter().any(|sentence| sentence.contains("the domain is not")));
    // And a wrong key there still stops the mail.
    lab.tlsa(&["3 1 1 00000000000000000000000000000000000000000000000000000000000000aa"]);
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Deferred, "4.7.5".to_owned())]);
}

#[test]
fn log_lines_have_their_keys_in_order() {
    let lab = Lab::dane(Behaviour::default().reply("RCPT", "550 5.1.1 no\u{7}such=\"user\"\r\n"));
    let report = lab.run();
    let line = super::record::log_line(&report.decision, &lab.job, &report.outcomes[0]).to_string();
    let port = lab.server.port();
    let begin = format!(
        "qid=Q1 event=failed mailfrom=<s@sender.test> rcpt=<a@example.test> mx=mx.test[127.0.0.1]:{port} \
         dnssec=secure/secure tls=TLSv1.3:"
    );
    assert!(line.starts_with(&begin), "{line}");
    assert!(line.contains(" dane=verified status=failed dsn=5.1.1 delay="), "{line}");
    assert!(line.ends_with("reason=\"server answered RCPT: 550 5.1.1 no?such=\\\"user\\\"\""), "{line}");
    let lab = Lab::unsigned(Behaviour { starttls: StartTls::NotOffered, ..Behaviour::default() });
    let report = lab.run();
    let line = super::record::log_line(&report.decision, &lab.job, &report.outcomes[0]).to_string();
    assert!(line.contains(" dnssec=insecure/insecure tls=none dane=none status=sent "), "{line}");
}

#[test]
fn a_refusal_of_sixty_kilobytes_is_a_refusal_in_a_few_words() {
    let text: &'static str =
        Box::leak(format!("550-{}\r\n550 \u{1b}[31m\r\n", "x\u{9b}".repeat(20_000)).into_boxed_str());
    for step in ["RCPT", "MAIL", "."] {
        let report = Lab::unsigned(Behaviour::default().reply(step, text)).run();
        let outcome = &report.outcomes[0].outcome;
        assert_eq!(outcome.verdict, Verdict::Failed, "{step}: {outcome:?}");
        assert!(outcome.text.len() < 1000 && !outcome.text.chars().any(char::is_control), "{step}");
        assert!(report.decision.to_json().len() < 8 * 1024, "{step}");
    }
}

#[test]
fn a_server_that_leaves_after_the_handshake() {
    for (lab, verdict) in [
        (Lab::dane(Behaviour { close_in_tls: true, ..Behaviour::default() }), Verdict::Deferred),
        (Lab::unsigned(Behaviour { close_in_tls: true, ..Behaviour::default() }), Verdict::Deferred),
    ] {
        let report = lab.run();
        assert_eq!(lab::seen(&report), [(verdict, "4.4.2".to_owned())]);
        assert_nothing_of_the_message(&lab.server);
    }
}

#[test]
fn a_relay_host_gets_the_login_inside_verified_tls_only() {
    for mechanism in ["SCRAM-SHA-256 PLAIN LOGIN", "PLAIN", "LOGIN"] {
        for tls in [RelayTls::StartTls, RelayTls::Implicit] {
            let lab = Lab::relay(Behaviour { auth: Some(mechanism), ..Behaviour::default() }, tls);
            let report = lab.run();
            let seen = lab::seen(&report);
            assert_eq!(
                seen,
                [(Verdict::Delivered, "2.0.0".to_owned())],
                "{mechanism} {tls:?}: {:?}",
                report.decision
            );
            if mechanism.starts_with("SCRAM") {
                assert!(
                    !lab.server.log().contains("AUTH PLAIN")
                        && lab.server.log().contains("AUTH SCRAM-SHA-256")
                );
            }
            assert!(!format!("{report:?}").contains(lab::SECRET), "no secret in any record");
        }
    }
}

#[test]
fn the_secret_never_leaves_without_verified_tls() {
    for tls in [RelayTls::StartTls, RelayTls::Implicit, RelayTls::Opportunistic, RelayTls::Never] {
        for (name, behaviour, trusted) in [
            ("untrusted certificate", Behaviour::default(), false),
            ("no STARTTLS", Behaviour { starttls: StartTls::NotOffered, ..Behaviour::default() }, true),
            ("STARTTLS refused", Behaviour { starttls: StartTls::Refused, ..Behaviour::default() }, true),
            ("injection", Behaviour { starttls: StartTls::Injected, ..Behaviour::default() }, true),
        ] {
            if tls == RelayTls::Implicit && trusted {
                continue;
            }
            let mut lab = Lab::relay(Behaviour { auth: Some("PLAIN LOGIN"), ..behaviour }, tls);
            if !trusted {
                lab.distrust();
            }
            let report = lab.run();
            assert_eq!(report.outcomes[0].outcome.verdict, Verdict::Deferred, "{tls:?} {name}");
            assert!(!lab.server.log().contains("AUTH"), "{tls:?} {name}: {}", lab.server.log());
            assert_nothing_of_the_message(&lab.server);
        }
    }
}

#[test]
fn a_relay_host_with_secure_tlsa_is_verified_by_it() {
    let mut lab = Lab::relay(Behaviour { auth: Some("PLAIN"), ..Behaviour::default() }, RelayTls::StartTls);
    lab.distrust();
    lab.resolver.secure(&lab.owner(), TLSA, &[&lab.server.tlsa()]);
    let report = lab.run();
    assert_eq!(
        lab::seen(&report),
        [(Verdict::Delivered, "2.0.0".to_owned())],
        "{:?}",
        report.decision.story()
    );
    // And a record that does not match beats any certificate authority.
    let lab = Lab::relay(Behaviour { auth: Some("PLAIN"), ..Behaviour::default() }, RelayTls::StartTls);
    lab.resolver.secure(
        &lab.owner(),
        TLSA,
        &["3 1 1 00000000000000000000000000000000000000000000000000000000000000aa"],
    );
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Deferred, "4.7.5".to_owned())]);
    assert!(!lab.server.log().contains("AUTH"));
}

#[test]
fn a_login_that_fails_delays() {
    let lab = Lab::relay(
        Behaviour { auth: Some("PLAIN"), ..Behaviour::default() }.reply("AUTH", "535 5.7.8 no\r\n"),
        RelayTls::StartTls,
    );
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Deferred, "4.7.8".to_owned())]);
    let mut lab = Lab::relay(Behaviour { auth: Some("PLAIN"), ..Behaviour::default() }, RelayTls::StartTls);
    lab.lose_secret();
    let report = lab.run();
    assert_eq!(lab::seen(&report), [(Verdict::Deferred, "4.3.5".to_owned())]);
    assert_eq!(report.outcomes[0].outcome.reach, Reach::Site);
    assert_eq!(lab.server.connections(), 0);
    // A server that skips its own proof is not believed.
    let lab = Lab::relay(
        Behaviour { auth: Some("SCRAM-SHA-256"), ..Behaviour::default() }.reply("AUTH", "235 ok\r\n"),
        RelayTls::StartTls,
    );
    assert_eq!(lab.run().outcomes[0].outcome.verdict, Verdict::Deferred);
    assert_nothing_of_the_message(&lab.server);
}

#[test]
fn plaintext_relay_on_this_host() {
    let mut lab =
        Lab::relay(Behaviour { starttls: StartTls::Offered, ..Behaviour::default() }, RelayTls::Never);
    lab.no_login();
    lab.options.allow_loopback = false;
    assert_eq!(lab::seen(&lab.run()), [(Verdict::Delivered, "2.0.0".to_owned())]);
    assert!(!lab.server.log().contains("STARTTLS\r\n"));
}

/// One message, one relay host, and domains under different rules: each under its own and no other.
#[test]
fn at_a_shared_relay_host_each_recipient_stands_under_its_own_rule() {
    let rule = |domain: &str, tls| DestinationRule {
        domain: domain.into(),
        tls,
        until: None,
        reason: "test".into(),
    };
    for tls in [RelayTls::Opportunistic, RelayTls::Never] {
        for order in [["a@plain.test", "b@strict.test"], ["b@strict.test", "a@plain.test"]] {
            let mut lab = Lab::relay(Behaviour::default(), tls);
            lab.no_login();
            lab.options.destinations =
                vec![rule("plain.test", TlsRule::DaneOff), rule("strict.test", TlsRule::DaneMandatory)];
            lab.recipients(&order);
            lab.job.destination = order[0].rsplit('@').next().unwrap().to_owned();
            let report = lab.run();
            for (outcome, wanted) in report.outcomes.iter().zip(order) {
                assert_eq!(outcome.recipient.mailbox.to_string(), wanted);
                let (verdict, status) = if wanted.starts_with('a') {
                    (Verdict::Delivered, "2.0.0")
                } else {
                    (Verdict::Deferred, "4.7.5")
                };
                let outcome = &outcome.outcome;
                assert_eq!(
                    (outcome.verdict, outcome.status.to_string().as_str()),
                    (verdict, status),
                    "{outcome:?}"
                );
            }
            assert_eq!(report.outcomes.len(), 2);
            assert!(!lab.server.log().contains("strict.test"), "{}", lab.server.log());
            let told = report.decision.rule.unwrap();
            assert!(told.contains("switched off") && told.contains("mandatory"), "{told}");
            assert!(report.decision.result.contains("delivered 1, deferred 1"), "{}", report.decision.result);
        }
    }
}

/// Guarantee: nothing bounces because we had no DNS. What is bogus stays the destination's affair.
#[test]
fn no_dns_on_this_host_is_no_fault_of_the_destination() {
    for (name, rtype) in [("example.test", MX), ("mx.test", A), ("tlsa", TLSA)] {
        let lab = Lab::dane(Behaviour::default());
        let name = if rtype == TLSA { lab.owner() } else { name.to_owned() };
        lab.resolver.unavailable(&name, rtype);
        let outcome = lab.run().outcomes.remove(0).outcome;
        assert!(matches!(outcome.reach, Reach::NextHop | Reach::Host), "{outcome:?}");
        lab.resolver.break_site("the clock is wrong");
        let outcome = lab.run().outcomes.remove(0).outcome;
        assert_eq!((outcome.verdict, outcome.reach), (Verdict::Deferred, Reach::Site), "{outcome:?}");
        assert_eq!(outcome.status.to_string(), "4.4.3");
        assert!(outcome.text.contains("the clock is wrong"), "{outcome:?}");
        lab.resolver.bogus(&name, rtype);
        let outcome = lab.run().outcomes.remove(0).outcome;
        assert!(matches!(outcome.reach, Reach::NextHop | Reach::Host), "{outcome:?}");
        assert_nothing_of_the_message(&lab.server);
    }
}

#[test]
fn a_relay_host_that_is_ourselves_keeps_the_mail_waiting() {
    for own in ["127.0.0.1", "0.0.0.0"] {
        let mut lab = Lab::relay(Behaviour::default(), RelayTls::StartTls);
        lab.options.own_ports = vec![lab.server.port()];
        lab.options.own_addresses = vec![own.parse().unwrap()];
        let outcome = lab.run().outcomes.remove(0).outcome;
        assert_eq!((outcome.verdict, outcome.reach), (Verdict::Deferred, Reach::Site), "{outcome:?}");
        assert!(outcome.text.contains("relay host relay.test is this server itself"), "{outcome:?}");
        assert_eq!(lab.server.connections(), 0);
    }
}
