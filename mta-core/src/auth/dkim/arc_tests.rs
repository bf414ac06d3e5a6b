//! Chains over several hops, verified by mail-auth the way strangers' mail is, and the chains that get no set.

use std::sync::Arc;

use hickory_proto::rr::RecordType;
use mta_smtp::address::ReversePath;

use super::*;
use crate::auth::body::BodyDigest;
use crate::auth::dkim::{Key, State, Store};
use crate::auth::verdict::Verdicts;
use crate::auth::{BodyHashes, Subject, Verifier};
use crate::dns::FakeResolver;

const MESSAGE: &str =
    "From: Ann <ann@a.example>\r\nTo: b@one.example\r\nSubject: x\r\n\r\nSome  text \r\n\r\n";

fn hashes(body: &[u8]) -> BodyHashes {
    let mut digest = BodyDigest::new(true, true);
    digest.update(body);
    digest.finish()
}

/// A hop with a key of its own.
struct Hop {
    ring: Arc<KeyRing>,
    key: Stored,
    server: String,
    _folder: tempfile::TempDir,
}

impl Hop {
    fn new(domain: &str, algorithm: Algorithm) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = Arc::new(Key::make(algorithm).expect("a key"));
        let (domain, selector) = (domain.to_owned(), "s".to_owned());
        let key = Stored { domain, selector, state: State::Signing, since: 1, key };
        Store::new(folder.path()).save(&key).expect("saved");
        let server = format!("mx.{}", key.domain);
        Self { ring: KeyRing::new(folder.path()), key, server, _folder: folder }
    }

    /// The message as this hop keeps it: with its own results in front.
    fn taken(&self, message: &str, hops: &[&Self]) -> String {
        let field = results::field(&self.server, &verified(message, hops), address(), None);
        format!("Received: by {}\r\n{field}{message}", self.server)
    }

    fn sealed(&self, message: &str) -> Result<ArcSet, Unsealed> {
        let (header, body) = Header::split(message.as_bytes());
        let domains = ["none.example".to_owned(), format!("lists.{}", self.key.domain)];
        let sealer = Sealer { server: &self.server, domains: &domains };
        self.ring.seal_here(&sealer, &header, &hashes(body).relaxed.expect("hashed"))
    }

    /// The message on its way from this hop.
    fn forwarded(&self, message: &str, hops: &[&Self]) -> String {
        let taken = self.taken(message, hops);
        format!("{}{taken}", self.sealed(&taken).expect("sealed").fields)
    }
}

fn address() -> std::net::IpAddr {
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1))
}

fn verified(message: &str, hops: &[&Hop]) -> Verdicts {
    let dns = FakeResolver::new();
    for hop in hops {
        dns.insecure(&hop.key.owner(), RecordType::TXT, &[&hop.key.key.record()]);
    }
    let verifier = Verifier::new(Arc::new(dns), crate::auth::Options::default(), "mx.example".to_owned());
    let (header, body) = Header::split(message.as_bytes());
    let bodies = hashes(body);
    let (client, helo, reverse_path) = (address(), "mail.a.example", &ReversePath::Null);
    let subject = Subject { client, helo, reverse_path, header: header.octets(), bodies: &bodies };
    smol::block_on(verifier.verify(&subject))
}

#[test]
fn a_chain_holds_over_three_hops_and_tells_of_a_change() {
    let one = Hop::new("one.example", Algorithm::Ed25519);
    let two = Hop::new("two.example", Algorithm::Rsa);
    let three = Hop::new("three.example", Algorithm::Ed25519);
    let hops = [&one, &two, &three];
    let mut message = MESSAGE.to_owned();
    for (index, hop) in hops.iter().enumerate() {
        message = hop.forwarded(&message, &hops);
        let arc = verified(&message, &hops).arc;
        assert_eq!((arc.word, arc.sets), (Word::Pass, index + 1), "{}\n{message}", arc.reason);
        assert_eq!(arc.sealer, hop.key.domain);
    }
    assert!(message.lines().all(|line| line.len() <= 120), "{message}");
    let saw = verified(&message, &hops).arc.saw;
    assert!(
        String::from_utf8_lossy(&saw).contains("arc=pass header.d=two.example"),
        "the words of the last hop"
    );
    for (from, to) in [
        ("Some  text", "Other text"),
        ("Subject: x", "Subject: y"),
        ("\r\nTo: b", "\r\nFrom: eve@e.example\r\nTo: b"),
        ("dkim=none", "dkim=pass"),
        ("i=1; a=ed25519", "i=1; a=rsa"),
        ("cv=none", "cv=pass"),
    ] {
        let changed = message.replace(from, to);
        assert_ne!(changed, message, "{from}");
        assert_eq!(verified(&changed, &hops).arc.word, Word::Fail, "{from} to {to}");
    }
}

#[test]
fn a_broken_chain_gets_one_set_that_says_so_and_nothing_after_it() {
    let hops = ["one.example", "two.example", "three.example"].map(|name| Hop::new(name, Algorithm::Ed25519));
    let hops = hops.each_ref();
    let changed = hops[0].forwarded(MESSAGE, &hops).replace("Some  text", "Other text");
    let taken = hops[1].taken(&changed, &hops);
    let set = hops[1].sealed(&taken).expect("sealed");
    assert_eq!((set.instance, set.chain), (2, "fail"));
    assert!(set.fields.contains("cv=fail"), "{}", set.fields);
    // RFC 8617 5.1.2: it covers itself alone, so it is the same without the sets before it.
    let (own, _) = Header::split(set.fields.as_bytes());
    let mut data = Vec::new();
    for name in ["ARC-Authentication-Results", "ARC-Message-Signature"] {
        relaxed(&own.first(name).expect("there"), &mut data);
    }
    let (start, _) = set.fields.split_once("b=").expect("a signature");
    let again = sign::seal(&format!("{start}b="), &hops[1].key.key, data).expect("signed");
    assert!(set.fields.starts_with(&again), "{again}\n{}", set.fields);
    let sent = format!("{}{taken}", set.fields);
    assert_eq!(verified(&sent, &hops).arc.word, Word::Fail);
    assert_eq!(hops[2].sealed(&hops[2].taken(&sent, &hops)), Err(Unsealed::Ended));
    assert_eq!(hops[1].sealed(&sent), Err(Unsealed::Ended), "forwarded once more by the same host");
}

#[test]
fn what_was_forwarded_here_before_is_known_to_hold() {
    let (hop, other) = (Hop::new("one.example", Algorithm::Rsa), Hop::new("two.example", Algorithm::Rsa));
    let hops = [&hop, &other];
    for came in [MESSAGE.to_owned(), other.forwarded(MESSAGE, &hops)] {
        let first = hop.forwarded(&came, &hops);
        let set = hop.sealed(&first).expect("sealed");
        assert_eq!(set.chain, "pass");
        let arc = verified(&format!("{}{first}", set.fields), &hops).arc;
        assert_eq!((arc.word, arc.sets), (Word::Pass, set.instance as usize), "{}", arc.reason);
    }
}

/// A set of these numbers, as a stranger could write it.
fn set(instance: &str, cv: &str) -> String {
    format!(
        "ARC-Seal: i={instance}; cv={cv}; b=x\r\nARC-Message-Signature: i={instance}; b=x\r\n\
         ARC-Authentication-Results: i={instance}; x.example; none\r\n"
    )
}

#[test]
fn which_set_comes_next() {
    let hop = Hop::new("one.example", Algorithm::Ed25519);
    let ours = |words: &str| format!("Authentication-Results: mx.one.example; {words}\r\n");
    let many = |count: u32| -> String {
        (1..=count).rev().map(|i| set(&i.to_string(), if i == 1 { "none" } else { "pass" })).collect()
    };
    let (none, pass, fail) = (ours("spf=none"), ours("spf=none;\r\n\tarc=pass header.d=x"), ours("arc=fail"));
    for (header, expected) in [
        (String::new(), Ok((1, "none"))),
        (none.clone(), Ok((1, "none"))),
        (pass.clone() + &many(1), Ok((2, "pass"))),
        (pass.clone() + &many(49), Ok((50, "pass"))),
        (pass.clone() + &many(50), Err(Unsealed::Long)),
        (fail.clone() + &many(3), Ok((4, "fail"))),
        (fail.clone() + &many(50), Err(Unsealed::Long)),
        (fail.clone() + &set("2", "fail") + &many(1), Err(Unsealed::Ended)),
        (fail.clone() + &set("51", "pass"), Ok((2, "fail"))),
        (fail + "ARC-Seal: i=x; b=x\r\n", Ok((2, "fail"))),
        // A seal without the rest, of which the verifier says nothing at all.
        (none + "ARC-Seal: i=1; cv=none; b=x\r\n", Ok((2, "fail"))),
        (ours("arc=permerror") + &many(1), Ok((2, "fail"))),
        (ours("arc=temperror") + &many(1), Err(Unsealed::Unverified)),
        (many(1), Err(Unsealed::Unverified)),
        // Others' words, and ours in a comment, count for nothing.
        (
            "Authentication-Results: mx.two.example; arc=pass\r\n".to_owned() + &many(1),
            Err(Unsealed::Unverified),
        ),
        (ours("spf=fail (x; arc=pass y); arc=fail") + &many(1), Ok((2, "fail"))),
        // It passed, and yet cannot be put in order here.
        (pass.clone() + &set("2", "pass"), Err(Unsealed::Unverified)),
        (pass.clone() + &many(2) + &set("2", "pass"), Err(Unsealed::Unverified)),
        (pass + "ARC-Seal: i=1; cv=none; b=x\r\n", Err(Unsealed::Unverified)),
    ] {
        let made = hop.sealed(&format!("{header}{MESSAGE}")).map(|set| (set.instance, set.chain));
        assert_eq!(made, expected, "{header}");
    }
}

#[test]
fn without_a_key_or_where_it_is_off_there_is_no_set() {
    let hop = Hop::new("one.example", Algorithm::Ed25519);
    let (header, _) = Header::split(MESSAGE.as_bytes());
    let seal = |domains: &[&str]| {
        let domains: Vec<String> = domains.iter().map(ToString::to_string).collect();
        hop.ring
            .seal_here(&Sealer { server: "mx", domains: &domains }, &header, &[0; 32])
            .map(|set| set.domain)
    };
    assert_eq!(seal(&["a.example", "one.example"]), Ok("one.example".to_owned()));
    assert_eq!(seal(&["a.example"]), Err(Unsealed::NoKey));
    assert_eq!(seal(&[]), Err(Unsealed::NoKey));
    hop.ring.allow(false, true);
    assert!(seal(&["one.example"]).is_ok(), "signing is another matter");
    assert!(hop.ring.signing().is_empty());
    hop.ring.allow(true, false);
    assert_eq!(seal(&["one.example"]), Err(Unsealed::Off));
    assert_eq!(hop.ring.signing().len(), 1);
}
