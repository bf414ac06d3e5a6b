//! The server session on any octets: no panic, and the same words however the octets are split.
#![no_main]

use std::sync::Arc;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use mta_smtp::address::{Domain, Mailbox};
use mta_smtp::extension::Extensions;
use mta_smtp::sasl::server::{Answer, ChannelBindings, MechanismSet, Query, ScramKeys, ServerMechanism};
use mta_smtp::server::{Input, Limits, Options, Output, Question, Session, TlsInfo, Verdict};

/// Everything the session sends and passes on as content, when the input comes in pieces of `piece` octets.
fn spoken(data: &[u8], piece: usize, options: &Arc<Options>, now: Instant) -> (Vec<u8>, Vec<u8>) {
    let bindings = ChannelBindings { exporter: Some(vec![1; 32]), server_end_point: None };
    let tls = TlsInfo { bindings, client_certificate: true, ..TlsInfo::default() };
    let mut session = Session::new(now, Arc::clone(options), options.require_auth.then_some(tls));
    let (mut sent, mut content) = (Vec::new(), Vec::new());
    let mut pieces = data.chunks(piece.max(1));
    loop {
        match session.poll() {
            Output::Send(bytes) => sent.extend(bytes),
            Output::Content(bytes) => content.extend(bytes),
            Output::Ask(Question::Auth(query)) => {
                session.handle(now, Input::Verdict(Verdict::Auth(answer(query))));
            }
            Output::Ask(_) => session.handle(now, Input::Verdict(Verdict::Accept)),
            Output::StartTls => session.handle(now, Input::Eof),
            // What was passed on of it is none of a message's content.
            Output::ContentDropped => content.extend(b"<dropped>"),
            Output::ContentRefused(_) | Output::Refused(_) => {}
            Output::Close => return (sent, content),
            Output::Wait { .. } => match pieces.next() {
                Some(bytes) => session.handle(now, Input::Bytes(bytes)),
                None => return (sent, content),
            },
        }
    }
}

/// One user, `u` with the password `p`.
fn answer(query: Query) -> Answer {
    match query {
        Query::Password { user, password } if user == "u" && password.reveal() == "p" => Answer::LoggedIn(user),
        Query::Keys { .. } => Answer::Keys(ScramKeys {
            salt: vec![0; 16],
            iterations: 4096,
            stored_key: vec![0; 32],
            server_key: vec![0; 32],
        }),
        Query::Proof { user, .. } => Answer::LoggedIn(user),
        _ => Answer::Refused,
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&piece, data)) = data.split_first() else { return };
    let Ok(hostname) = Domain::parse("mx.example") else { return };
    // Odd: the submission service within TLS.
    let submission = piece % 2 == 1;
    let auth = if submission { MechanismSet::of(&ServerMechanism::ALL) } else { MechanismSet::default() };
    let options = Arc::new(Options {
        postmaster: Mailbox::postmaster(hostname.clone()),
        hostname,
        extensions: Extensions { dsn: true, smtputf8: true, size_limit: 100_000, auth, ..Extensions::default() },
        require_auth: submission,
        limits: Limits::default(),
    });
    let now = Instant::now();
    let (_, whole) = spoken(data, data.len(), &options, now);
    let (_, split) = spoken(data, usize::from(piece), &options, now);
    // Early talkers are recognised by what comes in one piece; content, once it is taken, never depends on that.
    if !whole.is_empty() && !split.is_empty() {
        assert!(whole.starts_with(&split) || split.starts_with(&whole), "the content depends on the split");
    }
});
