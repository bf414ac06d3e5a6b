//! Servers that break the rules, and failures before anything is sent.

use super::*;

#[test]
fn misbehaviour_breaks_the_transaction_and_never_counts_as_sent() {
    let silence = "";
    let cases: Vec<(&str, Script<'_>, Step, IsCause)> = vec![
        ("silence at MAIL", vec![("MAIL", silence)], Step::Mail, |c| *c == Cause::Timeout),
        ("silence at RCPT", vec![("MAIL", OK), ("RCPT", silence)], Step::Rcpt(0), |c| *c == Cause::Timeout),
        ("close at RCPT", vec![("MAIL", OK), ("RCPT", "<EOF>")], Step::Rcpt(0), |c| *c == Cause::Closed),
        ("421 to MAIL", vec![("MAIL", "421 bye\r\n")], Step::Mail, |c| matches!(c, Cause::ServiceClosing(_))),
        ("421 to DATA", vec![("MAIL", OK), ("RCPT", OK), ("DATA", "421 x\r\n")], Step::Data, |c| {
            matches!(c, Cause::ServiceClosing(_))
        }),
        ("250 to DATA", vec![("MAIL", OK), ("RCPT", OK), ("DATA", OK)], Step::Data, |c| {
            matches!(c, Cause::Unexpected(_))
        }),
        ("354 to RCPT", vec![("MAIL", OK), ("RCPT", "354 x\r\n")], Step::Rcpt(0), |c| {
            matches!(c, Cause::Unexpected(_))
        }),
        ("no code", vec![("MAIL", "hello\r\n")], Step::Mail, |c| {
            matches!(c, Cause::Malformed(ReplyError::NoCode(_)))
        }),
        ("codes disagree", vec![("MAIL", "250-a\r\n550 b\r\n")], Step::Mail, |c| {
            matches!(c, Cause::Malformed(ReplyError::CodesDisagree { first: 250, then: 550 }))
        }),
        (
            "silence after the dot",
            vec![("MAIL", OK), ("RCPT", OK), ("DATA", "354 x\r\n"), (".", silence)],
            Step::EndOfData,
            |c| *c == Cause::Timeout,
        ),
        (
            "close after the dot",
            vec![("MAIL", OK), ("RCPT", OK), ("DATA", "354 x\r\n"), (".", "<EOF>")],
            Step::EndOfData,
            |c| *c == Cause::Closed,
        ),
        (
            "half a reply after the dot",
            vec![("MAIL", OK), ("RCPT", OK), ("DATA", "354 x\r\n"), (".", "250-x\r\n")],
            Step::EndOfData,
            |c| *c == Cause::Timeout,
        ),
        (
            "354 after the dot",
            vec![("MAIL", OK), ("RCPT", OK), ("DATA", "354 x\r\n"), (".", "354 x\r\n")],
            Step::EndOfData,
            |c| matches!(c, Cause::Unexpected(_)),
        ),
        (
            "421 after the dot",
            vec![("MAIL", OK), ("RCPT", OK), ("DATA", "354 x\r\n"), (".", "421 x\r\n")],
            Step::EndOfData,
            |c| matches!(c, Cause::ServiceClosing(_)),
        ),
        (
            "250 before the dot",
            vec![("MAIL", OK), ("RCPT", OK), ("DATA", "354 x\r\n250 done\r\n")],
            Step::Content,
            |c| matches!(c, Cause::Unexpected(_)),
        ),
        (
            "refusal before the dot",
            vec![("MAIL", OK), ("RCPT", OK), ("DATA", "354 x\r\n552 big\r\n")],
            Step::Content,
            |c| matches!(c, Cause::Refused(_)),
        ),
    ];
    for (name, script, step, cause) in cases {
        let dialog = plain(&script).run();
        let failure = dialog.broken();
        assert!(failure.step == step && cause(&failure.cause), "{name}: {failure:?}");
        assert!(dialog.failure.is_none() && !dialog.session.is_ready(), "{name}");
    }
}

#[test]
fn what_is_said_of_recipients_after_mail_was_refused_counts_for_nothing() {
    for (last, broken) in [("503 no\r\n", false), ("<EOF>", true)] {
        let dialog =
            pipelined(&[("MAIL", "451 later\r\n"), ("RCPT", "503 MAIL first\r\n"), ("DATA", last)]).run();
        assert_eq!(dialog.reports[0].recipients, [None], "{last}");
        assert_eq!(matches!(dialog.decided(), Decided::Broken(_)), broken, "{:?}", dialog.decided());
    }
}

#[test]
fn refusals_known_before_the_session_broke_are_kept() {
    let dialog = pipelined(&[("MAIL", OK), ("RCPT", "550 no\r\n"), ("RCPT", "421 busy\r\n")])
        .to(&["a@example.org", "b@example.org"])
        .run();
    assert_eq!(
        dialog.reports[0].recipients.iter().map(|r| r.as_ref().map(|r| r.code)).collect::<Vec<_>>(),
        [Some(550), None]
    );
    assert_eq!(dialog.broken().step, Step::Rcpt(1));
}

#[test]
fn failures_before_any_transaction() {
    let endless = "220-hello\r\n".repeat(2000);
    let unended = "2".repeat(200_000);
    let cases: Vec<(&str, Script<'_>, Step, IsCause)> = vec![
        ("silence", vec![("", "")], Step::Greeting, |c| *c == Cause::Timeout),
        ("close", vec![("", "<EOF>")], Step::Greeting, |c| *c == Cause::Closed),
        (
            "554",
            vec![("", "554 no SMTP here\r\n")],
            Step::Greeting,
            |c| matches!(c, Cause::Refused(r) if r.code == 554),
        ),
        ("421", vec![("", "421 busy\r\n")], Step::Greeting, |c| matches!(c, Cause::ServiceClosing(_))),
        ("250", vec![("", "250 hm\r\n")], Step::Greeting, |c| matches!(c, Cause::Unexpected(_))),
        ("HTTP", vec![("", "HTTP/1.1 400 Bad Request\r\n")], Step::Greeting, |c| {
            matches!(c, Cause::Malformed(_))
        }),
        ("endless", vec![("", &endless)], Step::Greeting, |c| {
            *c == Cause::Malformed(ReplyError::TooManyLines)
        }),
        ("unended", vec![("", &unended)], Step::Greeting, |c| *c == Cause::Malformed(ReplyError::TooLong)),
        ("EHLO 4xx", vec![("", "220 x\r\n"), ("EHLO", "450 x\r\n")], Step::Ehlo, |c| {
            matches!(c, Cause::Refused(_))
        }),
        (
            "HELO too",
            vec![("", "220 x\r\n"), ("EHLO", "502 x\r\n"), ("HELO", "502 x\r\n")],
            Step::Helo,
            |c| matches!(c, Cause::Refused(_)),
        ),
        ("silence at EHLO", vec![("", "220 x\r\n"), ("EHLO", "")], Step::Ehlo, |c| *c == Cause::Timeout),
    ];
    for (name, script, step, cause) in cases {
        let dialog = Dialog::new(settings(TlsUse::IfOffered), script).run();
        let failure = dialog.failure.unwrap_or_else(|| panic!("{name}: no failure"));
        assert!(failure.step == step && cause(&failure.cause), "{name}: {failure:?}");
        assert!(dialog.reports.is_empty(), "{name}");
    }
}

#[test]
fn helo_serves_where_ehlo_is_unknown_rfc5321_3_2() {
    let script = vec![
        ("", "220 x\r\n"),
        ("EHLO", "500 what\r\n"),
        ("HELO client.example\r\n", OK),
        ("MAIL", OK),
        ("RCPT", OK),
        ("DATA", "354 x\r\n"),
        (".", OK),
    ];
    let dialog = Dialog::new(settings(TlsUse::IfOffered), script.clone()).run();
    assert!(matches!(dialog.decided(), Decided::Accepted(_)));
    let dialog = Dialog::new(settings(TlsUse::Required), script).run();
    assert!(matches!(dialog.failure, Some(Failure { step: Step::Ehlo, cause: Cause::Refused(_) })));
}
