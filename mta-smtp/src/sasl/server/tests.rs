//! The examples of the RFCs, the client against the server, and what hostile clients send.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::sasl::{Client, Credentials, Mechanism};

const NO_BINDINGS: ChannelBindings = ChannelBindings { exporter: None, server_end_point: None };

fn all() -> MechanismSet {
    MechanismSet::of(&ServerMechanism::ALL)
}

fn bindings() -> ChannelBindings {
    ChannelBindings { exporter: Some(vec![0xab; 32]), server_end_point: Some(vec![0xcd; 32]) }
}

fn server(mechanism: ServerMechanism) -> Server {
    Server::new(mechanism, all().without(ServerMechanism::ScramSha256Plus), &NO_BINDINGS)
        .expect("random numbers")
}

fn asked(user: &str, password: &str) -> Step {
    Step::Ask(Query::Password { user: user.to_owned(), password: Password::new(password) })
}

fn keys(password: &str) -> ScramKeys {
    ScramKeys::of(password, b"salt".to_vec(), NonZeroU32::new(4096).expect("not zero"))
}

#[test]
fn plain_by_rfc4616() {
    for (message, expected) in [
        (&b"\0tim\0tanstaaftanstaaf"[..], asked("tim", "tanstaaftanstaaf")),
        (b"tim\0tim\0x", asked("tim", "x")),
        (b"TIM\0tim\0x", asked("tim", "x")),
        (b"Ursel\0Kurt\0xipj3plmq", Step::Failed(SaslError::ActsForAnother)),
        (b"\0tim\0", Step::Failed(SaslError::UnusableCredentials)),
        (b"\0\0x", Step::Failed(SaslError::UnusableCredentials)),
        (b"\0tim\0x\0y", Step::Failed(SaslError::Malformed)),
        (b"tim\0x", Step::Failed(SaslError::Malformed)),
        (b"", Step::Failed(SaslError::Malformed)),
        (b"\0t\xffm\0x", Step::Failed(SaslError::Malformed)),
        (b"\0t\r\nm\0x", Step::Failed(SaslError::Malformed)),
        (b"\0t\xc2\x85m\0x", Step::Failed(SaslError::Malformed)),
    ] {
        let mut one = server(ServerMechanism::Plain);
        assert_eq!(one.begin(Some(message)), expected, "{message:?}");
        let mut two = server(ServerMechanism::Plain);
        assert_eq!(two.begin(None), Step::Challenge(Vec::new()));
        assert_eq!(two.response(message), expected, "{message:?}");
    }
    let long = [b"\0", &[b'a'; 321][..], b"\0x"].concat();
    assert_eq!(
        server(ServerMechanism::Plain).begin(Some(&long)),
        Step::Failed(SaslError::UnusableCredentials)
    );
    let long = [b"\0a\0", &[b'a'; 1025][..]].concat();
    assert_eq!(
        server(ServerMechanism::Plain).begin(Some(&long)),
        Step::Failed(SaslError::UnusableCredentials)
    );
}

#[test]
fn the_answer_decides_and_nothing_follows() {
    for (answer, expected) in [
        (Answer::LoggedIn("tim@x".to_owned()), Step::LoggedIn("tim@x".to_owned())),
        (Answer::Refused, Step::Refused),
        (Answer::Keys(keys("x")), Step::Refused),
    ] {
        let mut server = server(ServerMechanism::Plain);
        server.begin(Some(b"\0tim\0x"));
        assert_eq!(server.answer(answer), expected);
        assert_eq!(server.answer(Answer::LoggedIn("tim".to_owned())), Step::Refused);
        assert_eq!(server.response(b"\0tim\0x"), Step::Failed(SaslError::TooManySteps));
    }
}

#[test]
fn login_in_two_steps_and_with_the_name_in_the_command() {
    let mut one = server(ServerMechanism::Login);
    assert_eq!(one.begin(None), Step::Challenge(b"Username:".to_vec()));
    assert_eq!(one.response(b"tim"), Step::Challenge(b"Password:".to_vec()));
    assert_eq!(one.response(b"x y"), asked("tim", "x y"));
    let mut two = server(ServerMechanism::Login);
    assert_eq!(two.begin(Some(b"tim")), Step::Challenge(b"Password:".to_vec()));
    assert_eq!(two.response(b""), Step::Failed(SaslError::UnusableCredentials));
}

#[test]
fn external_takes_a_name_or_none() {
    for (message, user) in [(&b""[..], ""), (b"tim", "tim")] {
        let expected = Step::Ask(Query::Certificate { user: user.to_owned() });
        assert_eq!(server(ServerMechanism::External).begin(Some(message)), expected);
    }
    assert_eq!(server(ServerMechanism::External).begin(Some(b"a\0b")), Step::Failed(SaslError::Malformed));
}

/// The exchange printed in RFC 7677 3.
#[test]
fn the_example_of_rfc7677() {
    let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned();
    let mut server =
        Server::with_nonce(ServerMechanism::ScramSha256, MechanismSet::default(), &NO_BINDINGS, nonce);
    let asked = server.begin(Some(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"));
    assert_eq!(asked, Step::Ask(Query::Keys { user: "user".to_owned() }));
    let salt = b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81".to_vec();
    let keys = ScramKeys::of("pencil", salt, NonZeroU32::new(4096).expect("not zero"));
    let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    assert_eq!(server.answer(Answer::Keys(keys)), Step::Challenge(first.into()));
    let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                 p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let proof = Query::Proof { user: "user".to_owned(), proven: true };
    assert_eq!(server.response(last), Step::Ask(proof));
    let end = server.answer(Answer::LoggedIn("user".to_owned()));
    assert_eq!(end, Step::Challenge(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_vec()));
    assert_eq!(server.response(b""), Step::LoggedIn("user".to_owned()));
}

/// Our own client against our own server.
fn scram(password: &str, kept: &str) -> Step {
    let credentials = Credentials::new("a,b=c", password).expect("usable");
    let mut client = Client::new(Mechanism::ScramSha256, credentials).expect("random numbers");
    let mut server = server(ServerMechanism::ScramSha256);
    let first = client.initial().expect("the client begins");
    assert_eq!(server.begin(Some(&first)), Step::Ask(Query::Keys { user: "a,b=c".to_owned() }));
    let Step::Challenge(challenge) = server.answer(Answer::Keys(keys(kept))) else { panic!("no challenge") };
    let last = client.step(&challenge).expect("well-formed");
    let Step::Ask(Query::Proof { proven, .. }) = server.response(&last) else { panic!("no verdict asked") };
    assert_eq!(proven, password == kept);
    // A defect in the answer lets nobody in.
    match server.answer(Answer::LoggedIn("abc".to_owned())) {
        Step::Challenge(proof) => {
            client.step(&proof).expect("the server proves itself");
            server.response(b"")
        }
        other => other,
    }
}

#[test]
fn scram_lets_in_whoever_knows_the_password_and_nobody_else() {
    assert_eq!(scram("pencil", "pencil"), Step::LoggedIn("abc".to_owned()));
    assert_eq!(scram("pencil", "pencils"), Step::Refused);
}

fn first_message(mechanism: ServerMechanism, offered: MechanismSet, message: &str) -> Step {
    Server::with_nonce(mechanism, offered, &bindings(), "x".to_owned()).begin(Some(message.as_bytes()))
}

/// RFC 5802 6.
#[test]
fn channel_binding_flags_fit_the_offer() {
    use ServerMechanism::{ScramSha256, ScramSha256Plus};
    let without = all().without(ScramSha256Plus);
    let fits = Step::Ask(Query::Keys { user: "u".to_owned() });
    let wrong = Step::Failed(SaslError::ChannelBinding);
    for (mechanism, offered, header, expected) in [
        (ScramSha256, without, "n,,", &fits),
        (ScramSha256, without, "y,,", &fits),
        (ScramSha256, all(), "n,,", &fits),
        (ScramSha256, all(), "y,,", &wrong),
        (ScramSha256, all(), "p=tls-exporter,,", &wrong),
        (ScramSha256Plus, all(), "p=tls-exporter,,", &fits),
        (ScramSha256Plus, all(), "p=tls-server-end-point,a=u,", &fits),
        (ScramSha256Plus, all(), "p=tls-unique,,", &wrong),
        (ScramSha256Plus, all(), "p=,,", &wrong),
        (ScramSha256Plus, all(), "n,,", &wrong),
        (ScramSha256Plus, all(), "y,,", &wrong),
    ] {
        let step = first_message(mechanism, offered, &format!("{header}n=u,r=abc"));
        assert_eq!(step, *expected, "{mechanism} {header}");
    }
}

/// The proof covers what the client saw of the channel: with another certificate in between it does not fit.
#[test]
fn a_binding_to_another_channel_is_refused() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    for (data, expected) in [(vec![0xab; 32], None), (vec![0xac; 32], Some(SaslError::ChannelBinding))] {
        let mut server =
            Server::with_nonce(ServerMechanism::ScramSha256Plus, all(), &bindings(), "x".to_owned());
        server.begin(Some(b"p=tls-exporter,,n=u,r=abc"));
        server.answer(Answer::Keys(keys("p")));
        let binding = BASE64.encode([b"p=tls-exporter,,".to_vec(), data].concat());
        let step = server.response(format!("c={binding},r=abcx,p={}", BASE64.encode([0; 32])).as_bytes());
        match expected {
            Some(error) => assert_eq!(step, Step::Failed(error)),
            None => assert_eq!(step, Step::Ask(Query::Proof { user: "u".to_owned(), proven: false })),
        }
    }
}

#[test]
fn hostile_scram_messages() {
    use SaslError::{ActsForAnother, Malformed, UnknownExtension, UnusableCredentials};
    for (message, error) in [
        ("", Malformed),
        ("n", Malformed),
        ("n,", Malformed),
        ("n,,", Malformed),
        ("x,,n=u,r=abc", Malformed),
        ("n,u,n=u,r=abc", Malformed),
        ("n,a=v,n=u,r=abc", ActsForAnother),
        ("n,,m=x,n=u,r=abc", UnknownExtension),
        ("n,,n=,r=abc", UnusableCredentials),
        ("n,,n=u=,r=abc", Malformed),
        ("n,,n=u=2c,r=abc", Malformed),
        ("n,,n=u\u{7},r=abc", Malformed),
        ("n,,n=u,r=", Malformed),
        ("n,,n=u,r=a b", Malformed),
        ("n,,r=abc,n=u", Malformed),
    ] {
        let step = first_message(ServerMechanism::ScramSha256, MechanismSet::default(), message);
        assert_eq!(step, Step::Failed(error), "{message:?}");
    }
    for (message, error) in [
        ("", Malformed),
        ("c=biws,r=abcx", Malformed),
        ("c=biws,r=abc,p=AAAA", SaslError::NonceMismatch),
        ("c=biws,r=abcx,p=AAAA", Malformed),
        ("c=biws,r=abcx,p=!", Malformed),
        ("c=eSws,r=abcx,p=AAAA", SaslError::ChannelBinding),
        ("c=!,r=abcx,p=AAAA", Malformed),
        ("r=abcx,c=biws,p=AAAA", Malformed),
    ] {
        let mechanism = ServerMechanism::ScramSha256;
        let mut server = Server::with_nonce(mechanism, MechanismSet::default(), &NO_BINDINGS, "x".to_owned());
        server.begin(Some(b"n,,n=u,r=abc"));
        server.answer(Answer::Keys(keys("p")));
        assert_eq!(server.response(message.as_bytes()), Step::Failed(error), "{message:?}");
    }
}

proptest! {
    /// Whatever a client sends: nobody is let in whom no answer let in, and nothing panics.
    #[test]
    fn no_message_lets_anybody_in(
        which in 0..ServerMechanism::ALL.len(),
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..6),
        grammar in proptest::collection::vec("(n|y|p=tls-exporter),(a=u)?,n=[a-c=,]{0,6},r=[a-z]{0,4}", 0..2),
    ) {
        let mechanism = ServerMechanism::ALL[which];
        let mut server = Server::new(mechanism, all(), &bindings()).expect("random numbers");
        let mut step = server.begin(None);
        for message in grammar.iter().map(String::as_bytes).chain(messages.iter().map(Vec::as_slice)) {
            prop_assert!(!matches!(step, Step::LoggedIn(_)));
            step = match step {
                Step::Ask(Query::Keys { .. }) => server.answer(Answer::Keys(keys("p"))),
                Step::Ask(Query::Proof { proven, .. }) => {
                    prop_assert!(!proven);
                    server.answer(Answer::LoggedIn("u".to_owned()))
                }
                Step::Ask(_) => server.answer(Answer::Refused),
                _ => server.response(message),
            };
        }
        prop_assert!(!matches!(step, Step::LoggedIn(_)));
    }

    /// A name that leaves the machine holds no control and is of bounded length.
    #[test]
    fn a_name_is_text(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(user) = name(&octets) {
            prop_assert!(user.len() <= MAX_NAME_OCTETS && !user.chars().any(char::is_control));
        }
    }
}
