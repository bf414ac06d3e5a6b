//! Keys and signatures, verified by mail-auth through the same way as strangers' mail.

use super::*;
use crate::auth::body::BodyDigest;
use crate::auth::verdict::Word;
use crate::auth::{Subject, Verifier};
use crate::dns::FakeResolver;
use hickory_proto::rr::RecordType;
use mta_smtp::address::ReversePath;

const MESSAGE: &str = "From: Ann  <ann@news.a.example>\r\nTo: b@b.example\r\nSubject: =?utf-8?q?h=C3=A4?=\r\n folded\r\n\
                       Received: one\r\nReceived: two\r\n\r\nSome  text \r\n\r\n\r\n";

fn stored(algorithm: Algorithm, state: State) -> Stored {
    let key = Arc::new(Key::make(algorithm).expect("a key"));
    let selector = format!("{}1", algorithm.word());
    Stored { domain: "a.example".to_owned(), selector, state, since: 1, key }
}

fn hashes(body: &[u8]) -> crate::auth::BodyHashes {
    let mut digest = BodyDigest::new(true, true);
    digest.update(body);
    digest.finish()
}

/// The results of the signatures of a message.
fn verified(message: &str, keys: &[Stored]) -> Vec<Word> {
    let dns = FakeResolver::new();
    for key in keys {
        dns.insecure(&key.owner(), RecordType::TXT, &[&key.key.record()]);
    }
    let verifier = Verifier::new(Arc::new(dns), crate::auth::Options::default(), "mx.example".to_owned());
    let (header, body) = Header::split(message.as_bytes());
    let bodies = hashes(body);
    let subject = Subject {
        client: "192.0.2.1".parse().expect("an address"),
        helo: "mail.a.example",
        reverse_path: &ReversePath::Null,
        header: header.octets(),
        bodies: &bodies,
    };
    smol::block_on(verifier.verify(&subject)).dkim.iter().map(|it| it.word).collect()
}

#[test]
fn both_kinds_of_signature_hold_and_break_when_anything_is_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::new(folder.path());
    let keys = Algorithm::ALL.map(|algorithm| stored(algorithm, State::Signing));
    keys.iter().for_each(|key| store.save(key).expect("saved"));
    let ring = KeyRing::new(folder.path());
    let (header, body) = Header::split(MESSAGE.as_bytes());
    let fields = smol::block_on(ring.sign(&header, &hashes(body).relaxed.expect("hashed")));
    assert_eq!(fields.matches("DKIM-Signature:").count(), 2);
    assert!(fields.lines().all(|line| line.len() <= 78), "{fields}");
    let signed = format!("{fields}{MESSAGE}");
    assert_eq!(verified(&signed, &keys), [Word::Pass, Word::Pass]);
    let at_once = format!("{}{MESSAGE}", ring.sign_message(MESSAGE.as_bytes()));
    assert_eq!(verified(&at_once, &keys), [Word::Pass, Word::Pass], "the same of a whole message");
    // Refolding, blanks and new trace lines are what relaxed is for.
    let travelled = format!("Received: three\r\n{}", signed.replace("?=\r\n folded", "?=   folded"));
    assert_eq!(verified(&travelled, &keys), [Word::Pass, Word::Pass]);
    for (from, to) in [
        ("Some  text", "Other text"),
        ("To: b@", "To: c@"),
        ("\r\n\r\nSome", "\r\nSubject: another\r\n\r\nSome"),
        ("\r\nReceived: one", "\r\nFrom: eve@e.example\r\nReceived: one"),
        ("\r\nReceived: one", "\r\nReply-To: eve@e.example\r\nReceived: one"),
        ("d=a.example", "d=b.example"),
    ] {
        let changed = signed.replace(from, to);
        assert_ne!(changed, signed);
        let words = verified(&changed, &keys);
        assert!(!words.contains(&Word::Pass), "{from:?} to {to:?}: {words:?}");
    }
}

#[test]
fn only_the_domain_of_one_author_signs() {
    let folder = tempfile::tempdir().expect("a folder");
    Store::new(folder.path()).save(&stored(Algorithm::Ed25519, State::Signing)).expect("saved");
    let ring = KeyRing::new(folder.path());
    for (from, signs) in [
        ("From: x@a.example", true),
        ("From: x@A.Example", true),
        ("From: x@deep.sub.a.example", true),
        ("From: x@b.example", false),
        ("From: x@nota.example", false),
        ("From: x@example", false),
        ("From: x@a.example, y@b.example", false),
        ("From: x@a.example\r\nFrom: y@b.example", false),
        ("Subject: no author", false),
    ] {
        let (header, _) = Header::split(format!("{from}\r\n\r\n").as_bytes());
        assert_eq!(!ring.sign_here(&header, &[0; 32]).is_empty(), signs, "{from}");
    }
}

#[test]
fn keys_are_kept_closed_and_read_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::new(folder.path());
    let key = stored(Algorithm::Ed25519, State::New);
    store.save(&key).expect("saved");
    let path = folder.path().join("dkim/a.example/ed255191.pem");
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
    let (keys, problems) = store.load();
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!((keys[0].state, keys[0].since), (State::New, 1));
    assert_eq!(keys[0].key.record(), key.key.record());
    // A key that others may read, and what is no key, are told and not used.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("changed");
    std::fs::write(path.with_file_name("junk.pem"), "no key").expect("written");
    let (keys, problems) = store.load();
    assert_eq!((keys.len(), problems.len()), (0, 2), "{problems:?}");
}

#[test]
fn a_new_key_signs_once_its_record_is_seen_and_the_one_before_it_no_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::new(folder.path());
    let old = stored(Algorithm::Ed25519, State::Signing);
    let new =
        Stored { selector: "next".to_owned(), state: State::New, ..stored(Algorithm::Ed25519, State::New) };
    store.save(&old).expect("saved");
    store.save(&new).expect("saved");
    let states = || -> Vec<(String, State)> {
        store.load().0.into_iter().map(|key| (key.selector, key.state)).collect()
    };
    let look = |dns: FakeResolver| {
        let dns: Arc<dyn Resolver> = Arc::new(dns);
        smol::block_on(publish::look_after(&dns, &store, 99)).len()
    };
    assert_eq!(look(FakeResolver::new()), 0, "not published");
    let dns = |text: &str| {
        let dns = FakeResolver::new();
        dns.insecure(&new.owner(), RecordType::TXT, &[text]);
        dns
    };
    let foreign = dns(&old.key.record());
    assert_eq!(look(foreign), 0, "another key's record");
    let revoked = dns("v=DKIM1; k=ed25519; p=");
    assert_eq!(look(revoked), 0, "revoked");
    assert_eq!(states(), [("ed255191".to_owned(), State::Signing), ("next".to_owned(), State::New)]);
    assert_eq!(look(dns(&new.key.record())), 2);
    assert_eq!(states(), [("ed255191".to_owned(), State::Old), ("next".to_owned(), State::Signing)]);
}
