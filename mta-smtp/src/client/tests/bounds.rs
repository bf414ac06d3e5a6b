//! Bounds in time and octets, content that fails on the way, and sessions that rest between messages.

use super::*;

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
