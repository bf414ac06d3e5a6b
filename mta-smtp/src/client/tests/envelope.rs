//! What is sent of an envelope, and what each extension changes in it.

use super::*;

#[test]
fn a_message_without_extensions() {
    let dialog = plain(&[
        ("MAIL FROM:<s@example.net>\r\n", OK),
        ("RCPT TO:<a@example.org>\r\n", OK),
        ("DATA\r\n", "354 go\r\n"),
        (".", "250 2.0.0 queued\r\n"),
        ("QUIT\r\n", "221 bye\r\n"),
    ])
    .run();
    assert!(matches!(dialog.decided(), Decided::Accepted(reply) if reply.code == 250));
    assert!(dialog.wire.contains("DATA\r\nSubject: hi\r\n\r\n..dot\r\n.\r\nQUIT\r\n"), "{}", dialog.wire);
}

#[test]
fn pipelining_sends_the_envelope_in_one_write_rfc2920() {
    let mut dialog = pipelined(&[
        ("MAIL FROM:<s@example.net> SIZE=21 BODY=8BITMIME RET=HDRS ENVID=x+2B1\r\n", OK),
        ("RCPT TO:<a@example.org> NOTIFY=FAILURE ORCPT=rfc822;a+2Bb@example.org\r\n", OK),
        // None came with it: ours (RFC 3461 5.2.1 e).
        ("RCPT TO:<b@example.org> ORCPT=rfc822;b@example.org\r\n", "550 5.1.1 no\r\n"),
        ("DATA\r\n", "354 go\r\n"),
        (".", OK),
    ])
    .to(&["a@example.org", "b@example.org"]);
    let parameters = &mut dialog.transactions[0].parameters;
    *parameters = MailParameters {
        body: Body::EightBitMime,
        ret: Some(Ret::Headers),
        envid: Some("x+1".to_owned()),
        ..MailParameters::default()
    };
    dialog.transactions[0].recipients[0].notify = Some(Notify { failure: true, ..Notify::default() });
    dialog.transactions[0].recipients[0].orcpt = Some("rfc822;a+b@example.org".to_owned());
    let dialog = dialog.run();
    let codes: Vec<_> = dialog.reports[0].recipients.iter().map(|r| r.as_ref().map(|r| r.code)).collect();
    assert_eq!(codes, [Some(250), Some(550)]);
    assert!(matches!(dialog.decided(), Decided::Accepted(_)));
}

#[test]
fn extensions_are_used_only_where_offered() {
    let mut dialog = plain(&[("MAIL FROM:<s@example.net>\r\n", "451 later\r\n")]);
    dialog.transactions[0].parameters =
        MailParameters { body: Body::EightBitMime, ret: Some(Ret::Full), ..MailParameters::default() };
    let dialog = dialog.run();
    assert!(matches!(dialog.decided(), Decided::Refused { step: Step::Mail, reply } if reply.code == 451));
}

#[test]
fn what_cannot_go_to_this_server_is_not_begun() {
    let needs = |change: Change| {
        let mut dialog = pipelined(&[("QUIT", "221 bye\r\n")]);
        dialog.session.shared_eight_bit(EightBit::Refuse);
        change(&mut dialog.transactions[0]);
        let dialog = dialog.run();
        assert!(dialog.wire.ends_with("QUIT\r\n") && !dialog.wire.contains("MAIL"), "{}", dialog.wire);
        dialog.decided().clone()
    };
    let cases: [(Change, NotSent); 6] = [
        (|t| t.size_bytes = 100_001, NotSent::TooLarge { limit_bytes: 100_000 }),
        (
            |t| {
                t.parameters.smtputf8 = true;
                t.parameters.header.eight_bit = true;
            },
            NotSent::NeedsSmtpUtf8 { addresses: false },
        ),
        (|t| t.parameters.require_tls = true, NotSent::NeedsRequireTls),
        (|t| t.parameters.body = Body::BinaryMime, NotSent::Binary),
        (|t| t.recipients.clear(), NotSent::Unrepresentable),
        (|t| t.parameters.envid = Some("x".repeat(3000)), NotSent::Unrepresentable),
    ];
    for (change, expected) in cases {
        assert_eq!(needs(change), Decided::NotSent(expected));
    }
}

#[test]
fn eight_bit_to_a_seven_bit_host_is_refused_only_when_told_so_rfc6152_3() {
    for (setting, sent) in [(EightBit::Send, true), (EightBit::Refuse, false)] {
        let mut dialog = plain(&[(if sent { "MAIL" } else { "QUIT" }, "451 x\r\n")]);
        dialog.session.shared_eight_bit(setting);
        dialog.transactions[0].parameters.body = Body::EightBitMime;
        let refused = Decided::NotSent(NotSent::NeedsEightBitMime);
        assert_eq!(*dialog.run().decided() == refused, !sent);
    }
}

#[test]
fn data_taken_without_a_recipient_gets_a_lone_dot_rfc2920_3_1() {
    let dialog = pipelined(&[
        ("MAIL", OK),
        ("RCPT", "550 no\r\n"),
        ("DATA", "354 go\r\n"),
        (".\r\n", "250 took nothing\r\n"),
        ("QUIT", "221 bye\r\n"),
    ])
    .run();
    assert_eq!(*dialog.decided(), Decided::NoRecipients);
    assert!(dialog.wire.ends_with("DATA\r\n.\r\nQUIT\r\n"), "{}", dialog.wire);

    let refused_mail = [("MAIL", "450 no\r\n"), ("RCPT", OK), ("DATA", "354 go\r\n"), (".\r\n", OK)];
    let dialog = pipelined(&refused_mail).run();
    assert!(matches!(dialog.decided(), Decided::Refused { step: Step::Mail, .. }), "{:?}", dialog.decided());
    assert!(!dialog.wire.contains("Subject"));
}

#[test]
fn who_only_asks_sends_neither_data_nor_content() {
    let replies = |dialog: &Dialog<'_>| -> Vec<Option<u16>> {
        dialog.reports[0].recipients.iter().map(|reply| reply.as_ref().map(|reply| reply.code)).collect()
    };
    type Open = for<'a> fn(&[(&'a str, &'a str)]) -> Dialog<'a>;
    for open in [plain as Open, pipelined as Open] {
        let mut dialog = open(&[
            ("MAIL", OK),
            ("RCPT TO:<a@example.org>", OK),
            ("RCPT TO:<b@example.org>", "550 5.1.1 no\r\n"),
            // The next message finds the session as if nothing had been asked.
            ("RSET", OK),
            ("MAIL", OK),
            ("RCPT", OK),
            ("DATA", "354 go\r\n"),
            (".", OK),
            ("QUIT", "221 bye\r\n"),
        ]);
        let asking = Transaction { envelope_only: true, ..transaction(&["a@example.org", "b@example.org"]) };
        dialog.transactions = vec![asking, transaction(&["a@example.org"])];
        let dialog = dialog.run();
        assert_eq!(dialog.reports[0].decided, Decided::Asked);
        assert_eq!(replies(&dialog), [Some(250), Some(550)]);
        assert!(matches!(dialog.reports[1].decided, Decided::Accepted(_)));
        assert_eq!(dialog.wire.matches("DATA").count(), 1, "{}", dialog.wire);
    }
    for (script, expected) in [
        (vec![("MAIL", OK), ("RCPT", "550 no\r\n"), ("QUIT", "221 x\r\n")], Decided::Asked),
        (
            vec![("MAIL", "550 no\r\n"), ("RCPT", OK), ("QUIT", "221 x\r\n")],
            Decided::Refused { step: Step::Mail, reply: Reply::new(550, None, "no") },
        ),
    ] {
        let mut dialog = pipelined(&script);
        dialog.transactions = vec![Transaction { envelope_only: true, ..transaction(&["a@example.org"]) }];
        let dialog = dialog.run();
        assert_eq!(*dialog.decided(), expected);
        assert!(!dialog.wire.contains("DATA"), "{}", dialog.wire);
    }
}

#[test]
fn a_second_transaction_after_an_open_one_is_reset_first() {
    let mut dialog = pipelined(&[
        ("MAIL", OK),
        ("RCPT", "450 no\r\n"),
        ("DATA", "503 no\r\n"),
        ("RSET", OK),
        ("MAIL", OK),
        ("RCPT", OK),
        ("DATA", "354 go\r\n"),
        (".", OK),
        ("MAIL", OK),
        ("RCPT", OK),
        ("DATA", "354 go\r\n"),
        (".", "554 5.6.0 content\r\n"),
        ("QUIT", "221 bye\r\n"),
    ]);
    dialog.transactions = vec![transaction(&["a@example.org"]); 3];
    let dialog = dialog.run();
    assert_eq!(dialog.reports.len(), 3);
    assert_eq!(dialog.reports[0].decided, Decided::NoRecipients);
    assert!(matches!(dialog.reports[1].decided, Decided::Accepted(_)));
    assert!(matches!(dialog.reports[2].decided, Decided::Refused { step: Step::EndOfData, .. }));
}

#[test]
fn a_long_recipient_list_goes_in_bounded_groups() {
    let names: Vec<String> = (0..600).map(|n| format!("recipient{n}@example.org")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut script = vec![("MAIL", OK)];
    script.extend(std::iter::repeat_n(("RCPT", OK), 600));
    script.extend([("DATA", "354 go\r\n"), (".", OK), ("QUIT", "221 x\r\n")]);
    let dialog = pipelined(&script).to(&names).run();
    assert!(matches!(dialog.decided(), Decided::Accepted(_)), "{:?}", dialog.decided());
    assert!(dialog.reports[0].recipients.iter().all(|reply| reply.as_ref().is_some_and(|r| r.code == 250)));
}
