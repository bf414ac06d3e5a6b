//! LMTP: a verdict for each recipient (RFC 2033).

use super::*;

/// A dialog in LMTP (RFC 2033): a verdict for each recipient that was taken.
fn lmtp<'a>(recipients: &[&str], rest: &[(&'a str, &'a str)]) -> Dialog<'a> {
    let mut script = vec![("", "220 store\r\n"), ("LHLO client.example\r\n", HELLO)];
    script.extend_from_slice(rest);
    let settings = Settings { protocol: Protocol::Lmtp, ..settings(TlsUse::Never) };
    Dialog::new(settings, script).to(recipients).run()
}

fn codes(replies: &[Option<Reply>]) -> Vec<u16> {
    replies.iter().map(|reply| reply.as_ref().map_or(0, |reply| reply.code)).collect()
}

#[test]
fn lmtp_has_a_verdict_for_each_recipient() {
    let all = ["a@example.org", "b@example.org", "c@example.org", "d@example.org"];
    let done = lmtp(
        &all,
        &[
            ("MAIL", "250 ok\r\n"),
            ("RCPT TO:<a", "250 ok\r\n"),
            ("RCPT TO:<b", "550 5.1.1 nobody\r\n"),
            ("RCPT TO:<c", "250 ok\r\n"),
            ("RCPT TO:<d", "250 ok\r\n"),
            ("DATA", "354 go\r\n"),
            (".\r\n", "250 2.0.0 a\r\n552 5.2.2 full\r\n451 4.3.0 d\r\n"),
            ("QUIT", "221 bye\r\n"),
        ],
    );
    let report = done.reports.last().expect("a report");
    assert!(matches!(report.decided, Decided::Accepted(_)), "{report:?}");
    assert_eq!(codes(&report.recipients), [250, 550, 250, 250]);
    assert_eq!(codes(&report.verdicts), [250, 0, 552, 451]);
}

#[test]
fn lmtp_verdicts_that_came_stand_whatever_follows() {
    for (last, known) in [
        ("250 2.0.0 a\r\n", [250, 0]),
        ("250 2.0.0 a\r\n421 going down\r\n", [250, 0]),
        ("250 2.0.0 a\r\n354 what\r\n", [250, 0]),
        ("354 what\r\n", [0, 0]),
    ] {
        let done = lmtp(
            &["a@example.org", "b@example.org"],
            &[
                ("MAIL", "250 ok\r\n"),
                ("RCPT", "250 ok\r\n"),
                ("RCPT", "250 ok\r\n"),
                ("DATA", "354 go\r\n"),
                (".\r\n", last),
            ],
        );
        let report = done.reports.last().expect("a report");
        assert!(matches!(report.decided, Decided::Broken(_)), "{report:?}");
        assert_eq!(codes(&report.verdicts), known, "{last}");
    }
}

#[test]
fn lmtp_never_falls_back_to_helo() {
    let settings = Settings { protocol: Protocol::Lmtp, ..settings(TlsUse::Never) };
    let script = vec![("", "220 store\r\n"), ("LHLO", "500 what\r\n"), ("QUIT", "221 bye\r\n")];
    let done = Dialog::new(settings, script).run();
    assert!(done.failure.is_some() && !done.wire.contains("HELO c"), "{}", done.wire);
}
