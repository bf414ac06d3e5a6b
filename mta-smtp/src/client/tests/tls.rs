//! STARTTLS and the login behind it.

use super::*;

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
