//! Dialogs with scripted servers, good and bad. No socket, no sleep: time is a number here.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::address::{Mailbox, ReversePath};
use crate::envelope::{Body, MailParameters, Notify, Recipient, Ret};
use crate::sasl::Credentials;

/// Commands as they are expected (a prefix each) and the bytes answered to each. The first entry is the greeting.
type Script<'a> = Vec<(&'a str, &'a str)>;

/// Says whether a failure's cause is the one a case wants.
type IsCause = fn(&Cause) -> bool;
/// What a case does to a message, and why it is not sent then.
type Change = fn(&mut Transaction);

const HELLO: &str = "250-mx.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-DSN\r\n250 SIZE 100000\r\n";
const PLAIN_HELLO: &str = "250 mx.example\r\n";

/// A driver that plays the server from a script and logs what the session put out.
struct Dialog<'a> {
    session: Session,
    script: Script<'a>,
    content: &'a [u8],
    transactions: Vec<Transaction>,
    verified: bool,
    now: Instant,
    cuts: Vec<usize>,
    /// What the client wrote, and `<TLS>` where the handshake stood.
    wire: String,
    reports: Vec<TransactionReport>,
    failure: Option<Failure>,
    in_content: bool,
}

impl<'a> Dialog<'a> {
    fn new(settings: Settings, script: Script<'a>) -> Self {
        let now = Instant::now();
        Self {
            session: Session::new(settings, now),
            script,
            content: b"Subject: hi\r\n\r\n.dot\r\n",
            transactions: vec![transaction(&["a@example.org"])],
            verified: false,
            now,
            cuts: Vec::new(),
            wire: String::new(),
            reports: Vec::new(),
            failure: None,
            in_content: false,
        }
    }

    fn to(mut self, recipients: &[&str]) -> Self {
        self.transactions = vec![transaction(recipients)];
        self
    }

    fn run(mut self) -> Self {
        let mut pending = vec![self.script.remove(0).1.as_bytes().to_vec()];
        loop {
            match self.session.poll() {
                Output::Send { bytes, .. } => pending.extend(self.serve(&bytes)),
                Output::Replied { .. } => {}
                Output::StartTls => {
                    self.wire.push_str("<TLS>\r\n");
                    self.session.handle(self.now, Input::TlsStarted { verified: self.verified });
                }
                Output::Ready if self.transactions.is_empty() => self.session.handle(self.now, Input::Quit),
                Output::Ready => {
                    let next = Box::new(self.transactions.remove(0));
                    self.session.handle(self.now, Input::Transaction(next));
                }
                Output::NeedContent => {
                    let content = self.content;
                    self.session.handle(self.now, Input::Content { bytes: content, last: true });
                }
                Output::Done(report) => self.reports.push(*report),
                Output::Failed(failure) => self.failure = Some(failure),
                Output::Close => return self,
                Output::Wait { until } => match (!pending.is_empty()).then(|| pending.remove(0)) {
                    Some(bytes) if bytes == b"<EOF>" => self.session.handle(self.now, Input::Eof),
                    Some(bytes) => self.feed(&bytes),
                    None => {
                        self.now = until;
                        self.session.handle(until, Input::Tick);
                    }
                },
            }
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        for cut in &self.cuts {
            let (piece, behind) = rest.split_at(cut % (rest.len() + 1));
            self.session.handle(self.now, Input::Bytes(piece));
            rest = behind;
        }
        self.session.handle(self.now, Input::Bytes(rest));
    }

    /// Answers the commands in these bytes.
    fn serve(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.wire.push_str(&text);
        let mut replies = Vec::new();
        for line in text.split_inclusive("\r\n") {
            if self.in_content {
                if line != ".\r\n" {
                    continue;
                }
                self.in_content = false;
            }
            if self.script.is_empty() {
                continue;
            }
            let (expected, reply) = self.script.remove(0);
            assert!(line.starts_with(expected), "expected {expected}, got {line}");
            self.in_content = reply.starts_with("354");
            if !reply.is_empty() {
                replies.push(reply.as_bytes().to_vec());
            }
        }
        replies
    }

    fn decided(&self) -> &Decided {
        &self.reports.last().expect("a transaction was reported").decided
    }

    fn broken(&self) -> &Failure {
        match self.decided() {
            Decided::Broken(failure) => failure,
            other => panic!("not broken: {other:?}"),
        }
    }
}

fn transaction(recipients: &[&str]) -> Transaction {
    Transaction {
        reverse_path: ReversePath::parse("<s@example.net>").unwrap(),
        parameters: MailParameters::default(),
        recipients: recipients.iter().map(|text| Recipient::new(Mailbox::parse(text).unwrap())).collect(),
        size_bytes: 21,
    }
}

fn settings(tls: TlsUse) -> Settings {
    Settings {
        protocol: Protocol::Smtp,
        host_name: "client.example".to_owned(),
        tls,
        credentials: None,
        eight_bit: EightBit::Send,
        limits: Limits::default(),
    }
}

fn plain<'a>(rest: &[(&'a str, &'a str)]) -> Dialog<'a> {
    let mut script = vec![("", "220 mx.example\r\n"), ("EHLO client.example\r\n", PLAIN_HELLO)];
    script.extend_from_slice(rest);
    Dialog::new(settings(TlsUse::IfOffered), script)
}

fn pipelined<'a>(rest: &[(&'a str, &'a str)]) -> Dialog<'a> {
    let mut script = vec![("", "220 mx.example\r\n"), ("EHLO", HELLO)];
    script.extend_from_slice(rest);
    Dialog::new(settings(TlsUse::IfOffered), script)
}

const OK: &str = "250 ok\r\n";

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

const TLS_HELLO: &str = "250-mx\r\n250-SIZE 5000\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n";

#[test]
fn starttls_forgets_what_was_offered_before_rfc3207_4_2() {
    let script = vec![
        ("", "220 x\r\n"),
        ("EHLO", "250-mx\r\n250-PIPELINING\r\n250-SIZE 5\r\n250 STARTTLS\r\n"),
        ("STARTTLS\r\n", "220 go\r\n"),
        ("<TLS>", ""),
        ("EHLO", "250-mx\r\n250 STARTTLS\r\n"),
        ("MAIL FROM:<s@example.net>\r\n", "450 x\r\n"),
    ];
    let mut script = script;
    script.remove(3);
    let dialog = Dialog::new(settings(TlsUse::Required), script).run();
    assert_eq!(dialog.session.starttls(), StartTlsResult::Done);
    assert!(dialog.wire.contains("STARTTLS\r\n<TLS>\r\nEHLO client.example\r\nMAIL"), "{}", dialog.wire);
    assert_eq!(dialog.wire.matches("STARTTLS").count(), 1);
}

#[test]
fn without_tls_where_it_is_required_nothing_is_sent() {
    for (script, expected) in [
        (vec![("", "220 x\r\n"), ("EHLO", HELLO)], Cause::StartTlsNotOffered),
        (
            vec![("", "220 x\r\n"), ("EHLO", TLS_HELLO), ("STARTTLS", "220 x\r\n250 injected\r\n")],
            Cause::InjectedPlaintext,
        ),
        (vec![("", "220 x\r\n"), ("EHLO", TLS_HELLO), ("STARTTLS", "220 x\r\n2")], Cause::InjectedPlaintext),
        (vec![("", "220 x\r\n"), ("EHLO", TLS_HELLO), ("STARTTLS", "220 x\r\n\n")], Cause::InjectedPlaintext),
    ] {
        let dialog = Dialog::new(settings(TlsUse::Required), script).run();
        assert_eq!(dialog.failure.map(|f| f.cause), Some(expected));
        assert!(!dialog.wire.contains("MAIL") && !dialog.wire.contains("<TLS>"));
    }
    let refused = vec![("", "220 x\r\n"), ("EHLO", TLS_HELLO), ("STARTTLS", "454 not now\r\n")];
    let dialog = Dialog::new(settings(TlsUse::Required), refused.clone()).run();
    assert!(matches!(dialog.failure, Some(Failure { step: Step::StartTls, cause: Cause::Refused(_) })));
    let mut refused = refused;
    refused.extend([("MAIL", "450 x\r\n")]);
    let dialog = Dialog::new(settings(TlsUse::IfOffered), refused).run();
    assert_eq!(dialog.session.starttls(), StartTlsResult::Refused);
    assert!(matches!(dialog.decided(), Decided::Refused { .. }));
}

#[test]
fn injected_plaintext_fails_the_opportunistic_session_too() {
    let script = vec![("", "220 x\r\n"), ("EHLO", TLS_HELLO), ("STARTTLS", "220 x\r\n250 injected\r\n")];
    let dialog = Dialog::new(settings(TlsUse::IfOffered), script).run();
    assert_eq!(dialog.failure.map(|f| f.cause), Some(Cause::InjectedPlaintext));
}

fn with_login(tls: TlsUse) -> Settings {
    Settings { credentials: Some(Credentials::new("user", "secret").unwrap()), ..settings(tls) }
}

#[test]
fn no_login_without_verified_tls() {
    let script = vec![("", "220 x\r\n"), ("EHLO", TLS_HELLO), ("STARTTLS", "220 x\r\n"), ("EHLO", TLS_HELLO)];
    let plain = vec![("", "220 x\r\n"), ("EHLO", "250-mx\r\n250 AUTH PLAIN\r\n")];
    for (tls, script) in [
        (TlsUse::Required, script.clone()),
        (TlsUse::IfOffered, script),
        (TlsUse::IfOffered, plain.clone()),
        (TlsUse::Never, plain.clone()),
        (TlsUse::Implicit { verified: false }, plain),
    ] {
        let dialog = Dialog::new(with_login(tls), script).run();
        assert_eq!(dialog.failure.map(|f| f.cause), Some(Cause::LoginUnprotected), "{tls:?}");
        assert!(!dialog.wire.contains("AUTH"));
    }
}

#[test]
fn login_by_plain_and_login() {
    for (offer, exchange) in [
        ("250-mx\r\n250 AUTH PLAIN LOGIN\r\n", vec![("AUTH PLAIN AHVzZXIAc2VjcmV0\r\n", "235 ok\r\n")]),
        (
            "250-mx\r\n250 AUTH LOGIN\r\n",
            vec![
                ("AUTH LOGIN\r\n", "334 VXNlcm5hbWU6\r\n"),
                ("dXNlcg==\r\n", "334 Password:\r\n"),
                ("c2VjcmV0\r\n", "235 ok\r\n"),
            ],
        ),
    ] {
        let mut script = vec![("", "220 x\r\n"), ("EHLO", offer)];
        script.extend(exchange);
        script.push(("MAIL", "450 x\r\n"));
        let dialog = Dialog::new(with_login(TlsUse::Implicit { verified: true }), script).run();
        assert!(dialog.failure.is_none(), "{:?}", dialog.failure);
        assert!(dialog.wire.contains("MAIL"));
    }
}

#[test]
fn login_failures() {
    let scram = "250-mx\r\n250 AUTH SCRAM-SHA-256 PLAIN\r\n";
    let cases: Vec<(&str, Script<'_>, IsCause)> = vec![
        ("no mechanism", vec![("EHLO", "250-mx\r\n250 AUTH GSSAPI\r\n")], |c| *c == Cause::NoMechanism),
        ("refused", vec![("EHLO", "250-mx\r\n250 AUTH PLAIN\r\n"), ("AUTH", "535 5.7.8 no\r\n")], |c| {
            matches!(c, Cause::Refused(_))
        }),
        ("SCRAM without proof", vec![("EHLO", scram), ("AUTH SCRAM-SHA-256 ", "235 ok\r\n")], |c| {
            matches!(c, Cause::Sasl(_))
        }),
        ("SCRAM garbage", vec![("EHLO", scram), ("AUTH SCRAM-SHA-256 ", "334 !!!\r\n")], |c| {
            matches!(c, Cause::Sasl(_))
        }),
        ("250", vec![("EHLO", scram), ("AUTH", "250 ok\r\n")], |c| matches!(c, Cause::Unexpected(_))),
    ];
    for (name, rest, cause) in cases {
        let mut script = vec![("", "220 x\r\n")];
        script.extend(rest);
        let dialog = Dialog::new(with_login(TlsUse::Implicit { verified: true }), script).run();
        let failure = dialog.failure.unwrap_or_else(|| panic!("{name}"));
        assert!(failure.step == Step::Auth && cause(&failure.cause), "{name}: {failure:?}");
        assert!(!dialog.wire.contains("MAIL"), "{name}");
    }
}

#[test]
fn a_trickling_server_meets_the_deadline_of_the_reply() {
    let start = Instant::now();
    let mut session = Session::new(settings(TlsUse::IfOffered), start);
    let mut now = start;
    for _ in 0..1000 {
        now += Duration::from_secs(1);
        session.handle(now, Input::Bytes(b"2"));
        if let Output::Failed(failure) = session.poll() {
            // One byte a second keeps nothing alive: the first line is not even a code after three bytes.
            assert!(now <= start + Duration::from_secs(300), "{failure:?}");
            return;
        }
    }
    panic!("fed for ever");
}

#[test]
fn the_session_as_a_whole_is_bounded_in_time_and_octets() {
    // Each reply comes just in time, and yet the sum of the waits ends it.
    let start = Instant::now();
    let mut session = Session::new(settings(TlsUse::IfOffered), start);
    let mut now = start;
    let failure = loop {
        match session.poll() {
            Output::Wait { until } if now + Duration::from_secs(299) >= until => {
                now = until;
                session.handle(now, Input::Tick);
            }
            Output::Wait { .. } => {
                now += Duration::from_secs(299);
                let reply: &[u8] = if session.step() == Step::Greeting { b"220 x\r\n" } else { b"250 x\r\n" };
                session.handle(now, Input::Bytes(reply));
            }
            Output::Ready => {
                session.handle(now, Input::Transaction(Box::new(transaction(&["a@example.org"; 50]))))
            }
            Output::Done(report) => break report.decided,
            Output::Failed(failure) => break Decided::Broken(failure),
            _ => {}
        }
    };
    assert!(matches!(failure, Decided::Broken(Failure { cause: Cause::WaitedTooLong, .. })), "{failure:?}");
    assert!(now <= start + Limits::default().total_wait + Duration::from_secs(1));

    let big = format!("{}250 x\r\n", "250-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(1000));
    let mut script = vec![("MAIL", big.as_str())];
    script.extend(std::iter::repeat_n(("RCPT", big.as_str()), 20));
    let dialog = plain(&script).to(&["a@example.org"; 20]).run();
    assert_eq!(dialog.broken().cause, Cause::TooManyReplyBytes);
}

#[test]
fn content_that_leaves_too_slowly_has_an_end() {
    let start = Instant::now();
    let mut session = Session::new(settings(TlsUse::IfOffered), start);
    session.handle(start, Input::Bytes(b"220 x\r\n250 mx\r\n"));
    let (mut now, mut sent) = (start, 0);
    while sent < 1 << 20 {
        match session.poll() {
            Output::Ready => {
                session.handle(now, Input::Transaction(Box::new(transaction(&["a@example.org"]))))
            }
            Output::NeedContent => session.handle(now, Input::Content { bytes: &[b'x'; 1024], last: false }),
            Output::Wait { .. } if session.step() == Step::Data => {
                session.handle(now, Input::Bytes(b"354 x\r\n"))
            }
            Output::Wait { .. } => session.handle(now, Input::Bytes(b"250 x\r\n")),
            Output::Send { bytes, until } if bytes.len() == 1024 => {
                // The server takes each block at the last moment, and so gains no more than the least rate allows.
                sent += 1024;
                let earned = Duration::from_secs(sent / Limits::default().min_bytes_per_second);
                assert!(until <= start + Limits::default().data_block + earned);
                now = until;
            }
            _ => {}
        }
    }
}

#[test]
fn content_that_cannot_be_read_ends_the_session_without_a_dot() {
    let mut session = plain(&[]).session;
    let now = Instant::now();
    session.handle(now, Input::Bytes(b"220 x\r\n250 mx\r\n"));
    let mut wire = Vec::new();
    for _ in 0..20 {
        match session.poll() {
            Output::Send { bytes, .. } => wire.extend(bytes),
            Output::Ready => {
                session.handle(now, Input::Transaction(Box::new(transaction(&["a@example.org"]))))
            }
            Output::Wait { .. } if wire.ends_with(b"DATA\r\n") => {
                session.handle(now, Input::Bytes(b"354 x\r\n"))
            }
            Output::Wait { .. } => session.handle(now, Input::Bytes(b"250 x\r\n")),
            Output::NeedContent if wire.ends_with(b"half a li") => session.handle(now, Input::ContentFailed),
            Output::NeedContent => session.handle(now, Input::Content { bytes: b"half a li", last: false }),
            Output::Done(report) => {
                assert!(matches!(
                    report.decided,
                    Decided::Broken(Failure { cause: Cause::ContentFailed, .. })
                ));
                assert!(wire.ends_with(b"half a li") && session.poll() == Output::Close);
                return;
            }
            _ => {}
        }
    }
    panic!("not over");
}

#[test]
fn a_broken_quit_changes_nothing() {
    for last in ["", "<EOF>", "garbage\r\n", "500 what\r\n"] {
        let script = [("MAIL", OK), ("RCPT", OK), ("DATA", "354 x\r\n"), (".", OK), ("QUIT", last)];
        let dialog = plain(&script).run();
        assert!(matches!(dialog.decided(), Decided::Accepted(_)), "{last}");
        assert!(dialog.failure.is_none(), "{last}");
    }
}

#[test]
fn a_refused_session_says_goodbye() {
    let now = Instant::now();
    let mut session = Session::new(settings(TlsUse::IfOffered), now);
    session.handle(now, Input::Bytes(b"554 no\r\n"));
    while session.poll() != Output::Close {}
    session.handle(now, Input::Quit);
    assert!(matches!(session.poll(), Output::Send { bytes, .. } if bytes == b"QUIT\r\n"));
    session.handle(now, Input::Eof);
    assert_eq!(session.poll(), Output::Close);
}

proptest! {
    /// Any cut of the server's bytes gives the same wire, the same reports and the same failure.
    #[test]
    fn any_split_gives_the_same_session(
        cuts in proptest::collection::vec(0usize..40, 0..6),
        replies in proptest::collection::vec(
            prop_oneof![
                4 => Just("250 2.1.0 ok\r\n"), 1 => Just("250-a\r\n250 b\r\n"), 1 => Just("550 5.1.1 no\r\n"),
                1 => Just("354 go\r\n"), 1 => Just("421 bye\r\n"), 1 => Just("x\r\n"), 1 => Just("451 a\r\n451 b\r\n"),
                1 => Just("<EOF>"), 1 => Just(""),
            ], 6),
        pipelining in any::<bool>(),
    ) {
        let run = |cuts: &[usize]| {
            let offer = if pipelining { HELLO } else { PLAIN_HELLO };
            let mut script = vec![("", "220 x\r\n"), ("", offer)];
            script.extend(replies.iter().map(|reply| ("", *reply)));
            let mut dialog = Dialog::new(settings(TlsUse::IfOffered), script).to(&["a@example.org", "b@example.org"]);
            dialog.cuts = cuts.to_vec();
            let dialog = dialog.run();
            (dialog.wire, dialog.reports, dialog.failure)
        };
        prop_assert_eq!(run(&[]), run(&cuts));
    }

    /// Whatever a server sends: no panic, an end, and "accepted" only after a 2yz reply to the end of data.
    #[test]
    fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let script = vec![("", "220 x\r\n"), ("", text.as_str())];
        let dialog = Dialog::new(settings(TlsUse::IfOffered), script).run();
        prop_assert!(!dialog.reports.iter().any(|report| matches!(report.decided, Decided::Accepted(_))));
    }
}

/// A session between two messages: `ready`, with nothing under way.
fn ready(now: Instant, hello: &str) -> Session {
    let mut session = Session::new(settings(TlsUse::Never), now);
    session.handle(now, Input::Bytes(b"220 mx.example\r\n"));
    session.handle(now, Input::Bytes(hello.as_bytes()));
    while !matches!(session.poll(), Output::Ready) {}
    session
}

#[test]
fn a_session_rests_only_where_nothing_is_under_way() {
    let now = Instant::now();
    assert!(ready(now, HELLO).may_rest());
    for bytes in ["2", "421 4.4.2 bye\r\n", "250 what for\r\n", "nonsense\r\n"] {
        let mut session = ready(now, HELLO);
        session.handle(now, Input::Bytes(bytes.as_bytes()));
        assert!(!session.may_rest(), "{bytes:?}");
    }
    let mut session = ready(now, HELLO);
    session.handle(now, Input::Eof);
    assert!(!session.may_rest());
    let mut session = ready(now, HELLO);
    session.handle(now, Input::Transaction(Box::new(transaction(&["a@example.org"]))));
    assert!(!session.may_rest());
}

#[test]
fn transactions_are_counted_against_the_servers_limit_rfc9422_4_1() {
    let now = Instant::now();
    let mut session = ready(now, "250-mx.example\r\n250 LIMITS MAILMAX=2\r\n");
    for number in 1..=2 {
        assert!(session.may_begin());
        session.handle(now, Input::Transaction(Box::new(transaction(&["a@example.org"]))));
        session.handle(now, Input::Bytes(b"550 5.7.1 no\r\n"));
        assert_eq!(session.transactions(), number);
        while !matches!(session.poll(), Output::Ready) {}
    }
    assert!(!session.may_begin());
}

/// The next message on a session has bounds of its own.
#[test]
fn each_message_has_its_own_budget() {
    let now = Instant::now();
    let mut session = ready(now, HELLO);
    let limits = Limits::default();
    let mut time = now;
    for _ in 0..50 {
        session.renew();
        session.handle(time, Input::Transaction(Box::new(transaction(&["a@example.org"]))));
        time += limits.mail - Duration::from_secs(1);
        session.handle(time, Input::Bytes(b"550 5.7.1 no\r\n"));
        session.handle(time, Input::Bytes(b"503 5.5.1 no\r\n503 5.5.1 no\r\n"));
        while !matches!(session.poll(), Output::Ready) {}
    }
    assert!(time - now > limits.total_wait);
}

#[test]
fn the_end_that_the_driver_sets_bounds_everything_but_the_verdict_rfc5321_4_5_3_2_6() {
    let now = Instant::now();
    let end = now + Duration::from_secs(30);
    let waits = |session: &mut Session| loop {
        match session.poll() {
            Output::Wait { until } => return until,
            Output::Send { until, .. } => assert!(until <= end),
            _ => {}
        }
    };
    // Before the greeting, and for each reply but the last.
    let mut session = Session::new(settings(TlsUse::Never), now);
    session.end_at(end);
    assert_eq!(waits(&mut session), end);
    session.handle(now, Input::Bytes(b"220 mx.example\r\n"));
    assert_eq!(waits(&mut session), end);
    let mut session = ready(now, HELLO);
    session.end_at(end);
    session.handle(now, Input::Transaction(Box::new(transaction(&["a@example.org"]))));
    assert_eq!(waits(&mut session), end);
    session.handle(now, Input::Bytes(b"250 ok\r\n250 ok\r\n354 go\r\n"));
    while !matches!(session.poll(), Output::NeedContent) {}
    session.handle(now, Input::Content { bytes: b"x\r\n", last: true });
    assert_eq!(waits(&mut session), now + Limits::default().data_end);
    session.handle(end + Duration::from_secs(1), Input::Tick);
    session.handle(end + Duration::from_secs(2), Input::Bytes(b"250 taken\r\n"));
    let decided = loop {
        if let Output::Done(report) = session.poll() {
            break report.decided;
        }
    };
    assert!(matches!(decided, Decided::Accepted(_)));
    // And the cause is named.
    let mut session = ready(now, HELLO);
    session.end_at(end);
    session.handle(now, Input::Transaction(Box::new(transaction(&["a@example.org"]))));
    session.handle(end, Input::Tick);
    let decided = loop {
        if let Output::Done(report) = session.poll() {
            break report.decided;
        }
    };
    assert!(matches!(decided, Decided::Broken(Failure { cause: Cause::TimeIsUp, .. })));
}

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
