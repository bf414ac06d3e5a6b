//! Several messages over one session: who rides, who does not, and that nothing is lost or sent twice where a server fails
//! between two messages.

use hickory_proto::rr::RecordType::{A, MX};

use super::lab::{Behaviour, Lab, StartTls};
use crate::outbound::Verdict::{Deferred, Delivered};
use crate::outbound::{AttemptReport, Pool, Reuse};
use crate::routing::RelayTls;

fn ok(report: &AttemptReport) {
    assert_eq!(report.outcomes[0].outcome.verdict, Delivered, "{:#?}", report.decision.story());
}

#[test]
fn the_second_message_rides_and_its_record_says_so() {
    let lab = Lab::dane(Behaviour::default());
    ok(&lab.run());
    let second = lab.run();
    ok(&second);
    assert_eq!(lab.server.connections(), 1);
    assert_eq!(lab.server.log().matches("<TLS>").count(), 1);
    assert_eq!(lab.server.messages(), 2);
    let last = &second.decision.hosts[0].tries[0];
    assert_eq!(last.reused.as_ref().map(|reused| reused.message), Some(2));
    assert!(last.connect_ms.is_none() && last.starttls == "done");
    assert!(last.tls.as_ref().is_some_and(|tls| tls.authenticated_by.is_some()), "{last:?}");
    let story = second.decision.story().join("\n");
    assert!(
        story.contains("message 2 on a session that was opened 0 s before; TLSv1.3, verified by "),
        "{story}"
    );
    let third = lab.run();
    assert_eq!(third.decision.hosts[0].tries[0].reused.as_ref().map(|reused| reused.message), Some(3));
}

/// F9: the TLSA set is part of what a session is for.
#[test]
fn changed_tlsa_records_end_the_ride() {
    let lab = Lab::dane(Behaviour::default());
    ok(&lab.run());
    // One more record, and the one that matched is still there: another set all the same.
    let spare = "3 1 1 00000000000000000000000000000000000000000000000000000000000000aa";
    lab.tlsa(&[&lab.server.tlsa(), spare]);
    ok(&lab.run());
    assert_eq!(lab.server.connections(), 2);
    // In another order it is the same set.
    lab.tlsa(&[spare, &lab.server.tlsa()]);
    ok(&lab.run());
    assert_eq!(lab.server.connections(), 2);
    // None that matches: the good sessions at rest do not help.
    lab.tlsa(&[spare]);
    let messages = lab.server.messages();
    assert_eq!(lab.run().outcomes[0].outcome.verdict, Deferred);
    assert_eq!((lab.server.connections(), lab.server.messages()), (3, messages));
}

/// F9: so is the requirement, and what came of it.
#[test]
fn a_stronger_or_another_demand_opens_a_session_of_its_own() {
    // From no DANE to DANE.
    let lab = Lab::unsigned(Behaviour::default());
    ok(&lab.run());
    lab.resolver.secure("example.test", MX, &["10 mx.test."]).secure("mx.test", A, &["127.0.0.1"]);
    lab.tlsa(&[&lab.server.tlsa()]);
    let report = lab.run();
    ok(&report);
    assert_eq!(lab.server.connections(), 2);
    assert_eq!(report.decision.hosts[0].requirement, "dane");
    // The MX is no longer secure: the host is proved, the domain is not.
    lab.resolver.insecure("example.test", MX, &["10 mx.test."]);
    ok(&lab.run());
    assert_eq!(lab.server.connections(), 3);
    // A message with REQUIRETLS, which this server does not offer.
    let mut lab = Lab::dane(Behaviour::default());
    ok(&lab.run());
    lab.job.parameters.require_tls = true;
    assert_ne!(lab.run().outcomes[0].outcome.verdict, Delivered);
    assert_eq!((lab.server.connections(), lab.server.messages()), (2, 1));
    // In the clear, because STARTTLS is not offered; then DANE.
    let lab = Lab::unsigned(Behaviour { starttls: StartTls::NotOffered, ..Behaviour::default() });
    ok(&lab.run());
    lab.resolver.secure("example.test", MX, &["10 mx.test."]).secure("mx.test", A, &["127.0.0.1"]);
    lab.tlsa(&[&lab.server.tlsa()]);
    assert_eq!(lab.run().outcomes[0].outcome.verdict, Deferred);
    assert_eq!(lab.server.messages(), 1);
}

/// F9: never by the address alone.
#[test]
fn another_host_at_the_same_address_is_another_host() {
    let mut lab = Lab::unsigned(Behaviour::default());
    ok(&lab.run());
    lab.resolver.insecure("other.test", MX, &["10 mx2.test."]).insecure("mx2.test", A, &["127.0.0.1"]);
    lab.job_to("other.test");
    ok(&lab.run());
    assert_eq!(lab.server.connections(), 2);
    // Another domain with the same MX host and the same demand is welcome on its session.
    lab.resolver.insecure("third.test", MX, &["10 mx.test."]);
    lab.job_to("third.test");
    ok(&lab.run());
    assert_eq!(lab.server.connections(), 2);
}

#[test]
fn without_tls_after_a_failed_handshake_nobody_rides() {
    let lab = Lab::unsigned(Behaviour { starttls: StartTls::Garbage, ..Behaviour::default() });
    ok(&lab.run());
    ok(&lab.run());
    assert_eq!(lab.server.connections(), 4, "each message tries TLS first");
}

#[test]
fn one_login_serves_many_and_a_changed_secret_none() {
    let behaviour = Behaviour { auth: Some("PLAIN"), ..Behaviour::default() };
    let lab = Lab::relay(behaviour, RelayTls::StartTls);
    ok(&lab.run());
    ok(&lab.run());
    assert_eq!(lab.server.log().matches("AUTH PLAIN").count(), 1);
    lab.change_secret("something else");
    assert_eq!(lab.run().outcomes[0].outcome.status.to_string(), "4.7.8");
    assert_eq!(lab.server.messages(), 2);
}

/// What a server does after it took a message is not about that message, and costs the next one a connection at most.
#[test]
fn a_server_that_goes_wrong_between_two_messages() {
    for after in [
        "250 2.0.0 queued as X\r\n<CLOSE>",
        "250 2.0.0 queued as X\r\n421 4.4.2 enough\r\n",
        "250 2.0.0 queued as X\r\n250 2.0.0 twice\r\n",
        "250 2.0.0 queued as X\r\n25",
        "250 2.0.0 queued as X\r\n\0\u{7}nonsense\r\n",
    ] {
        let lab = Lab::dane(Behaviour::default().reply(".", after));
        for number in 1..=2 {
            let report = lab.run();
            ok(&report);
            let tries = &report.decision.hosts[0].tries;
            assert!(tries.last().unwrap().result.starts_with("accepted"), "{after:?}: {tries:#?}");
            assert_eq!(lab.server.messages(), number, "{after:?}");
        }
        assert_eq!(lab.server.connections(), 2, "{after:?}");
    }
}

/// A session that turns out dead or closing at the next MAIL: a new connection, no failure, no second copy.
#[test]
fn a_session_that_ends_with_the_next_message_costs_a_connection() {
    for (command, reply) in [
        ("MAIL", "<CLOSE>"),
        ("MAIL", "421 4.4.2 enough\r\n<CLOSE>"),
        ("MAIL", "452 4.5.3 too many messages in this session\r\n"),
        ("RCPT", "421 4.4.2 enough\r\n<CLOSE>"),
        ("DATA", "421 4.4.2 enough\r\n<CLOSE>"),
        ("DATA", "<CLOSE>"),
        ("MAIL", "nonsense\r\n"),
    ] {
        let lab = Lab::dane(Behaviour { from_message: 2, ..Behaviour::default() }.reply(command, reply));
        for number in 1..=3 {
            let report = lab.run();
            ok(&report);
            assert_eq!(lab.server.messages(), number, "{command} {reply:?}");
            assert_eq!(report.outcomes[0].outcome.verdict, Delivered);
            if number > 1 {
                let tries = &report.decision.hosts[0].tries;
                assert_eq!(tries.len(), 2, "{tries:#?}");
                assert!(tries[0].result.contains("no longer good"), "{tries:#?}");
            }
        }
        assert_eq!(lab.server.connections(), 3, "{command} {reply:?}");
    }
}

/// From the first octet of content on, what becomes of the message is not known: it waits, as it would on a new session.
#[test]
fn a_session_that_breaks_in_the_content_is_not_tried_again_at_once() {
    for reply in ["<CLOSE>", "421 4.4.2 enough\r\n<CLOSE>"] {
        let lab = Lab::dane(Behaviour { from_message: 2, ..Behaviour::default() }.reply(".", reply));
        ok(&lab.run());
        let second = lab.run();
        assert_eq!(second.outcomes[0].outcome.verdict, Deferred);
        assert_eq!((lab.server.connections(), lab.server.messages()), (1, 2));
    }
}

/// A refusal of one message is not one of the next; a server that said "later" is asked on a new session.
#[test]
fn after_a_refusal() {
    for (reply, connections) in [("550 5.7.1 not this one\r\n", 1), ("451 4.7.1 later\r\n", 2)] {
        let lab = Lab::dane(Behaviour::default().reply(".", reply));
        lab.run();
        lab.run();
        assert_eq!(lab.server.connections(), connections, "{reply:?}");
        assert_eq!(lab.server.messages(), 2);
    }
}

#[test]
fn the_number_of_messages_on_a_session_is_bounded_by_both_sides() {
    let mut lab = Lab::dane(Behaviour::default());
    lab.options.reuse = Reuse { messages: 2, ..Reuse::default() };
    (0..5).for_each(|_| ok(&lab.run()));
    assert_eq!(lab.server.connections(), 3);
    let lab = Lab::dane(Behaviour { limits: "LIMITS MAILMAX=2 RCPTMAX=1", ..Behaviour::default() });
    (0..5).for_each(|_| ok(&lab.run()));
    assert_eq!(lab.server.connections(), 3);
    let mut lab = Lab::dane(Behaviour::default());
    lab.pool = Pool::none();
    (0..2).for_each(|_| ok(&lab.run()));
    assert_eq!(lab.server.connections(), 2);
}

/// RFC 9422: so many recipients in a transaction, so many transactions in a session; each recipient is named once.
#[test]
fn recipients_that_do_not_fit_into_one_session_go_in_further_ones() {
    for (limits, transactions, connections) in [
        ("LIMITS RCPTMAX=2", 3, 1),
        ("LIMITS RCPTMAX=2 MAILMAX=1", 3, 3),
        ("LIMITS RCPTDOMAINMAX=1", 2, 1),
        ("LIMITS RCPTDOMAINMAX=1 MAILMAX=1", 2, 2),
        ("LIMITS RCPTMAX=100 MAILMAX=1", 1, 1),
    ] {
        let mut lab = Lab::dane(Behaviour { limits, ..Behaviour::default() });
        lab.pool = Pool::none();
        lab.recipients(&["a@a.test", "b@a.test", "c@a.test", "d@b.test", "e@b.test"]);
        let report = lab.run();
        assert!(report.outcomes.iter().all(|outcome| outcome.outcome.verdict == Delivered), "{limits}");
        assert_eq!(
            (lab.server.messages(), lab.server.connections()),
            (transactions, connections),
            "{limits}"
        );
        assert_eq!(lab.server.log().matches("RCPT TO").count(), 5, "{limits}");
    }
    // Refused for now in each: asked once in this attempt all the same.
    let behaviour = Behaviour { limits: "LIMITS RCPTMAX=1 MAILMAX=1", ..Behaviour::default() };
    let mut lab = Lab::dane(behaviour.reply("RCPT", "450 4.2.1 later\r\n"));
    lab.recipients(&["a@a.test", "b@a.test", "c@a.test"]);
    assert!(lab.run().outcomes.iter().all(|outcome| outcome.outcome.verdict == Deferred));
    assert_eq!(lab.server.log().matches("RCPT TO").count(), 3);
}

#[test]
fn an_attempt_is_over_when_its_time_is_whatever_the_server_does() {
    for command in ["", "EHLO", "MAIL", "RCPT", "DATA"] {
        let behaviour = Behaviour { starttls: StartTls::NotOffered, ..Behaviour::default() };
        let mut lab = Lab::unsigned(behaviour.reply(command, "<HANG>"));
        lab.options.attempt_timeout = std::time::Duration::from_millis(300);
        let report = lab.run();
        assert_eq!(report.outcomes[0].outcome.verdict, Deferred);
        let text = &report.outcomes[0].outcome.text;
        assert!(text.contains("the time for one attempt was over"), "{command}: {text}");
    }
}
