//! AUTH within a session (RFC 4954).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::*;
use crate::sasl::server::{Answer, ChannelBindings, MechanismSet, Query, ServerMechanism};

/// A session of the submission service, whose user `tim` has the password `secret`.
struct Submission {
    session: Session,
    now: Instant,
    sent: String,
    closed: bool,
}

fn submission_options(in_clear: bool) -> Options {
    let extensions = Extensions {
        starttls: true,
        auth: MechanismSet::of(&ServerMechanism::ALL),
        auth_in_clear: in_clear,
        ..Extensions::default()
    };
    Options { extensions, require_auth: true, ..options() }
}

fn tls() -> TlsInfo {
    let bindings = ChannelBindings { exporter: Some(vec![1; 32]), server_end_point: None };
    TlsInfo { version: "TLSv1.3".to_owned(), bindings, ..TlsInfo::default() }
}

impl Submission {
    fn new(tls: Option<TlsInfo>, in_clear: bool) -> Self {
        let now = some_time();
        let session = Session::new(now, Arc::new(submission_options(in_clear)), tls);
        let mut submission = Self { session, now, sent: String::new(), closed: false };
        submission.drain();
        submission.say("EHLO client.example");
        submission
    }

    /// Under TLS.
    fn secure() -> Self {
        Self::new(Some(tls()), false)
    }

    /// Says a line; the last line of the reply.
    fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes())
    }

    fn send(&mut self, bytes: &[u8]) -> String {
        self.sent.clear();
        if !self.closed {
            self.session.handle(self.now, Input::Bytes(bytes));
            self.drain();
        }
        self.sent.trim_end_matches("\r\n").rsplit("\r\n").next().unwrap_or_default().to_owned()
    }

    fn drain(&mut self) {
        loop {
            match self.session.poll() {
                Output::Send(bytes) => self.sent.push_str(&String::from_utf8(bytes).expect("UTF-8")),
                Output::Ask(question) => {
                    let verdict = match question {
                        Question::Auth(Query::Password { user, password }) => {
                            let good = user == "tim" && password.reveal() == "secret";
                            let answer = Answer::LoggedIn("tim@x".to_owned());
                            Verdict::Auth(if good { answer } else { Answer::Refused })
                        }
                        Question::Auth(_) => Verdict::Auth(Answer::Refused),
                        _ => Verdict::Accept,
                    };
                    self.session.handle(self.now, Input::Verdict(verdict));
                }
                Output::StartTls => self.session.handle(self.now, Input::TlsStarted(tls())),
                Output::Close => return self.closed = true,
                Output::Wait { .. } => return,
                _ => {}
            }
        }
    }
}

fn plain(user: &str, password: &str) -> String {
    BASE64.encode(format!("\0{user}\0{password}"))
}

#[test]
fn nobody_sends_before_he_has_logged_in() {
    let mut client = Submission::secure();
    assert_eq!(client.say("MAIL FROM:<a@b>"), "530 5.7.0 log in first");
    assert!(client.say("RCPT TO:<a@b>").starts_with("503 "));
    assert!(client.say("DATA").starts_with("503 "));
    assert_eq!(client.say(&format!("AUTH PLAIN {}", plain("tim", "secret"))), "235 2.7.0 logged in");
    assert_eq!(client.session.login(), Some("tim@x"));
    assert_eq!(client.session.protocol(), "ESMTPSA");
    assert!(client.say("MAIL FROM:<a@b> AUTH=tim+40x").starts_with("250 "));
    assert!(client.say("RSET").starts_with("250 "));
    client.say("EHLO again.example");
    assert_eq!(client.session.login(), Some("tim@x"), "EHLO and RSET end no login");
    assert!(client.say("MAIL FROM:<a@b>").starts_with("250 "));
}

#[test]
fn login_comes_once_and_not_within_a_transaction() {
    let mut client = Submission::secure();
    client.say(&format!("AUTH PLAIN {}", plain("tim", "secret")));
    let again = format!("AUTH PLAIN {}", plain("tim", "secret"));
    assert_eq!(client.say(&again), "503 5.5.1 you are logged in");
    client.say("MAIL FROM:<a@b>");
    assert_eq!(client.say(&again), "503 5.5.1 not within a transaction");
    let mut early = Submission::secure();
    early.say("HELO client.example");
    assert_eq!(early.say(&again), "503 5.5.1 EHLO first", "AUTH belongs to ESMTP");
}

/// Guarantee: AUTH guesses - never before TLS.
#[test]
fn nobody_logs_in_in_the_clear() {
    let mut client = Submission::new(None, false);
    assert!(!client.sent.contains("AUTH"), "{}", client.sent);
    let line = format!("AUTH PLAIN {}", plain("tim", "secret"));
    assert_eq!(client.say(&line), "538 5.7.11 encryption required: STARTTLS first");
    assert_eq!(client.session.login(), None);
    client.say("STARTTLS");
    client.say("EHLO client.example");
    assert!(client.sent.contains("AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN\r\n"), "{}", client.sent);
    assert!(client.say(&line).starts_with("235 "));
}

/// RFC 3207 4.2: what was proven in the clear is forgotten.
#[test]
fn starttls_ends_a_login() {
    let mut client = Submission::new(None, true);
    assert!(
        client.sent.contains("AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n"),
        "no binding in the clear: {}",
        client.sent
    );
    assert!(client.say(&format!("AUTH PLAIN {}", plain("tim", "secret"))).starts_with("235 "));
    client.say("STARTTLS");
    assert_eq!(client.session.login(), None);
    client.say("EHLO client.example");
    assert!(client.say("MAIL FROM:<a@b>").starts_with("530 "));
}

#[test]
fn where_it_is_not_offered_it_is_not_known() {
    let mut client = Client::new(options());
    client.send(b"EHLO x\r\n").send(b"AUTH PLAIN AHRpbQBzZWNyZXQ=\r\n");
    assert!(String::from_utf8_lossy(&client.sent).ends_with("502 5.5.1 command not implemented\r\n"));
    client.send(b"MAIL FROM:<a@b> AUTH=<>\r\n");
    assert!(String::from_utf8_lossy(&client.sent).ends_with("555 5.5.4 parameter not recognized\r\n"));
}

/// Guarantee: the AUTH command and the exchange by their grammar.
#[test]
fn every_mistake_has_its_reply() {
    for (lines, reply) in [
        (&["AUTH"][..], "501 5.5.4"),
        (&["AUTH PLAIN  AHRpbQBzZWNyZXQ="], "501 5.5.4"),
        (&["AUTH PLAIN AHRp bQ=="], "501 5.5.4"),
        (&["AUTH PLAIN !"], "501 5.5.4"),
        (&["AUTH PLAIN AHR"], "501 5.5.2"),
        (&["AUTH CRAM-MD5"], "504 5.5.4"),
        (&["AUTH EXTERNAL ="], "504 5.5.4"),
        (&["AUTH X234567890123456789012345"], "501 5.5.4"),
        (&["AUTH PLAIN =="], "501 5.5.2"),
        (&["AUTH PLAIN ="], "501 5.5.2"),
        (&["AUTH PLAIN", "*"], "501 5.7.0"),
        (&["AUTH PLAIN", "no base64"], "501 5.5.2"),
        (&["AUTH PLAIN", ""], "501 5.5.2"),
        (&["AUTH LOGIN", "dGlt", "d3Jvbmc="], "535 5.7.8"),
        (&["AUTH LOGIN", "bm9ib2R5", "c2VjcmV0"], "535 5.7.8"),
        (&["AUTH LOGIN", "dGlt", "c2VjcmV0"], "235 2.7.0"),
        (&["AUTH LOGIN dGlt", "c2VjcmV0"], "235 2.7.0"),
        (&["auth plain", "AHRpbQBzZWNyZXQ="], "235 2.7.0"),
    ] {
        let mut client = Submission::secure();
        let mut last = String::new();
        for line in lines {
            last = client.say(line);
        }
        assert!(last.starts_with(reply), "{lines:?}: {last}");
        assert_eq!(client.session.login().is_some(), reply.starts_with("235"));
        assert!(client.say("NOOP").starts_with("250 "), "in step after {lines:?}");
    }
}

#[test]
fn challenges_are_base64() {
    let mut client = Submission::secure();
    assert_eq!(client.say("AUTH PLAIN"), "334 ");
    assert!(client.say("*").starts_with("501 "));
    assert_eq!(client.say("AUTH LOGIN"), "334 VXNlcm5hbWU6");
    assert_eq!(client.say("dGlt"), "334 UGFzc3dvcmQ6");
}

/// Guarantee: a line of AUTH may have 12,288 octets, and none more (RFC 4954 4.3).
#[test]
fn lines_of_a_login_are_bounded() {
    for within in [true, false] {
        let octets = if within { 12_286 } else { 12_287 };
        let mut client = Submission::secure();
        client.say("AUTH PLAIN");
        let reply = client.say(&"A".repeat(octets));
        assert_eq!(reply.starts_with("500 5.5.6"), !within, "{reply}");
        assert!(client.say("NOOP").starts_with("250 "));
        let reply = client.say(&format!("AUTH PLAIN {}", "A".repeat(octets - 11)));
        assert_eq!(reply.starts_with("500 5.5.2 line too long"), !within, "{reply}");
        assert!(client.say("NOOP").starts_with("250 "));
    }
    let mut client = Submission::secure();
    client.say("AUTH PLAIN");
    client.send(&[b'A'; 100_000]);
    assert!(client.closed, "a line without end");
}

/// Guarantee: AUTH guesses are cut after few, and the reply does not tell who exists.
#[test]
fn few_guesses_then_the_connection_ends() {
    let mut client = Submission::secure();
    let (known, unknown) = (plain("tim", "x"), plain("nobody", "x"));
    let first = client.say(&format!("AUTH PLAIN {known}"));
    let second = client.say(&format!("AUTH PLAIN {unknown}"));
    assert_eq!(
        (first.as_str(), second.as_str()),
        ("535 5.7.8 user name or password is wrong", first.as_str())
    );
    assert_eq!(client.say(&format!("AUTH PLAIN {known}")), "421 4.7.0 too many failed logins");
    assert!(client.closed);
}

/// What comes behind AUTH in one piece came before its reply.
#[test]
fn nothing_is_pipelined_behind_auth() {
    let mut client = Submission::secure();
    client.send(format!("AUTH PLAIN {}\r\nMAIL FROM:<a@b>\r\n", plain("tim", "secret")).as_bytes());
    assert!(client.closed && client.sent.starts_with("503 5.5.0"), "{}", client.sent);
}

/// Guarantee: STARTTLS injection, on submission: commands behind STARTTLS are never answered inside TLS.
#[test]
fn nothing_said_behind_starttls_is_answered_within_tls() {
    let mut client = Submission::new(None, false);
    client.send(format!("STARTTLS\r\nAUTH PLAIN {}\r\n", plain("tim", "secret")).as_bytes());
    assert!(client.closed && client.sent.starts_with("503 5.5.0"), "{}", client.sent);
    assert_eq!(client.session.login(), None);
}

#[test]
fn a_bare_line_feed_ends_a_login_with_the_session() {
    let mut client = Submission::secure();
    client.say("AUTH PLAIN");
    client.send(format!("{}\nMAIL FROM:<a@b>\r\n", plain("tim", "secret")).as_bytes());
    assert!(client.closed && client.session.login().is_none());
}

#[test]
fn a_login_has_its_time() {
    let mut client = Submission::secure();
    client.say("AUTH PLAIN");
    client.now += Limits::default().command_timeout;
    client.sent.clear();
    client.session.handle(client.now, Input::Tick);
    client.drain();
    assert!(client.sent.starts_with("421 4.4.2") && client.closed, "{}", client.sent);
}

#[test]
fn mail_auth_parameter_by_rfc4954_5() {
    for (parameter, good) in [
        ("AUTH=<>", true),
        ("AUTH=tim@x.example", true),
        ("AUTH=e+3Dmc2@x.example", true),
        ("AUTH=nobody", false),
        ("AUTH=", false),
        ("AUTH", false),
        ("AUTH=+zz", false),
        ("AUTH=<> AUTH=<>", false),
    ] {
        let mut client = Submission::secure();
        client.say(&format!("AUTH PLAIN {}", plain("tim", "secret")));
        let reply = client.say(&format!("MAIL FROM:<a@b> {parameter}"));
        assert_eq!(reply.starts_with("250 "), good, "{parameter}: {reply}");
    }
}

proptest! {
    /// Any octets, in any pieces: nobody is logged in without the password, and no control leaves in a reply.
    #[test]
    fn no_octets_log_anybody_in(
        lines in proptest::collection::vec(prop_oneof![
            "AUTH (PLAIN|LOGIN|EXTERNAL|SCRAM-SHA-256)( [A-Za-z0-9+/=]{0,12})?",
            "[A-Za-z0-9+/=*]{0,16}",
            "(NOOP|RSET|EHLO x|MAIL FROM:<a@b>|STARTTLS)",
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(|b| String::from_utf8_lossy(&b).into_owned()),
        ], 0..8),
        secure in any::<bool>(),
    ) {
        let mut client = Submission::new(secure.then(tls), false);
        for line in lines {
            client.say(&line);
            prop_assert!(client.session.login().is_none());
            prop_assert!(!client.sent.replace("\r\n", "").chars().any(char::is_control));
        }
    }
}
