//! The server session on any octets: no panic, and the same words however the octets are split.
#![no_main]

use std::sync::Arc;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use mta_smtp::address::{Domain, Mailbox};
use mta_smtp::extension::Extensions;
use mta_smtp::server::{Input, Limits, Options, Output, Session, Verdict};

/// Everything the session sends and passes on as content, when the input comes in pieces of `piece` octets.
fn spoken(data: &[u8], piece: usize, options: &Arc<Options>, now: Instant) -> (Vec<u8>, Vec<u8>) {
    let mut session = Session::new(now, Arc::clone(options), None);
    let (mut sent, mut content) = (Vec::new(), Vec::new());
    let mut pieces = data.chunks(piece.max(1));
    loop {
        match session.poll() {
            Output::Send(bytes) => sent.extend(bytes),
            Output::Content(bytes) => content.extend(bytes),
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

fuzz_target!(|data: &[u8]| {
    let Some((&piece, data)) = data.split_first() else { return };
    let Ok(hostname) = Domain::parse("mx.example") else { return };
    let options = Arc::new(Options {
        postmaster: Mailbox::postmaster(hostname.clone()),
        hostname,
        extensions: Extensions { dsn: true, smtputf8: true, size_limit: 100_000, ..Extensions::default() },
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
