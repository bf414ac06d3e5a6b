//! Sender rewriting (SRS) for mail that is forwarded: the next host checks SPF against us, and a bounce finds back.
//!
//! `ann@a.example` becomes `SRS0=HASH=DAY=a.example=ann@our.example`. What another forwarder has rewritten before becomes
//! `SRS1=HASH=other.example==REST@our.example`, which keeps the first forwarder's own address, so that addresses do not grow
//! with each hop. The hash is an HMAC over everything else with a key of this host, so nobody else can make an address that
//! we would send on: without it every forwarder were an open relay for bounces. What it does not: it says nothing about who
//! may send to such an address; that is the RCPT policy's, which takes only what decodes here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mta_smtp::address::{Domain, Host, Mailbox};
use ring::hmac;

/// How long a bounce may take: longer than any queue keeps mail.
const VALID_DAYS: u64 = 21;

/// Days are counted modulo this, in two characters of base 32.
const DAY_CYCLE: u64 = 32 * 32;

/// Characters of the hash. 48 bits, of an address that anybody may try once a session: far beyond guessing.
const HASH_CHARACTERS: usize = 8;

const SECONDS_PER_DAY: u64 = 86_400;

/// The digits of days; no letter differs from another by case alone.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The longest local-part (RFC 5321 4.5.3.1.1). Others take more; whoever does not would lose the bounce alone.
const MAX_LOCAL_OCTETS: usize = 64;

/// Makes and reads rewritten addresses.
#[derive(Debug, Clone)]
pub struct Srs {
    /// The newest first; all are read by, the first is written with.
    keys: Vec<hmac::Key>,
    domain: Domain,
}

/// What an address of ours that looks rewritten is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// Not a rewritten address.
    No,
    /// Whom the bounce goes to.
    Mailbox(Mailbox),
    /// It was not made here, or was changed.
    Forged,
    /// It is too old.
    Expired,
}

impl Srs {
    /// Rewrites into this domain, with these secrets, the newest first.
    pub fn new(secrets: &[Vec<u8>], domain: Domain) -> Self {
        let keys = secrets.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret)).collect();
        Self { keys, domain }
    }

    /// The domain that addresses are rewritten into.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The address for mail of this sender that we forward. `None` where it cannot be rewritten: then it is left as it is.
    pub fn encode(&self, sender: &Mailbox, now_seconds: u64) -> Option<Mailbox> {
        let Host::Domain(domain) = sender.host() else { return None };
        if *domain == self.domain {
            return None;
        }
        let local = sender.local_part();
        let rewritten = match split(local) {
            // Another forwarder's: its own address is kept, and where it was the second hop, that of the first.
            Some(("SRS0", rest)) => self.second_hop(&domain.to_string(), rest)?,
            Some(("SRS1", rest)) => {
                let (_, rest) = rest.split_once('=')?;
                let (first, rest) = rest.split_once('=')?;
                self.second_hop(first, rest)?
            }
            _ => {
                let day = day_word(now_seconds / SECONDS_PER_DAY);
                let tail = format!("{day}={domain}={local}");
                format!("SRS0={}={tail}", self.hash(&tail)?)
            }
        };
        let fits = rewritten.len() <= MAX_LOCAL_OCTETS * 3;
        if !fits {
            return None;
        }
        Mailbox::new(&rewritten, self.domain.clone()).ok()
    }

    /// What an address given in RCPT stands for.
    pub fn decode(&self, address: &Mailbox, now_seconds: u64) -> Decoded {
        let of_domain = matches!(address.host(), Host::Domain(domain) if *domain == self.domain);
        let parts = split(address.local_part()).filter(|_| of_domain);
        let decoded = match parts {
            Some(("SRS0", rest)) => self.decode_first(rest, now_seconds),
            Some(("SRS1", rest)) => self.decode_second(rest),
            _ => return Decoded::No,
        };
        decoded.unwrap_or(Decoded::Forged)
    }

    /// Who is told what became of mail from this sender: himself, or whom the sender stands for, where it was rewritten
    /// here.
    pub fn behind(&self, sender: Mailbox, now_seconds: u64) -> Mailbox {
        match self.decode(&sender, now_seconds) {
            Decoded::Mailbox(behind) => behind,
            Decoded::No | Decoded::Forged | Decoded::Expired => sender,
        }
    }

    fn decode_first(&self, rest: &str, now_seconds: u64) -> Option<Decoded> {
        let (hash, tail) = rest.split_once('=')?;
        if !self.is_ours(hash, tail) {
            return None;
        }
        let (day, address) = tail.split_once('=')?;
        let (domain, local) = address.split_once('=')?;
        let age = (now_seconds / SECONDS_PER_DAY + DAY_CYCLE - day_number(day)?) % DAY_CYCLE;
        if age > VALID_DAYS {
            return Some(Decoded::Expired);
        }
        Mailbox::new(local, Domain::parse(domain).ok()?).ok().map(Decoded::Mailbox)
    }

    fn decode_second(&self, rest: &str) -> Option<Decoded> {
        let (hash, tail) = rest.split_once('=')?;
        if !self.is_ours(hash, tail) {
            return None;
        }
        // The first forwarder looks at the age.
        let (domain, rest) = tail.split_once('=')?;
        Mailbox::new(&format!("SRS0{rest}"), Domain::parse(domain).ok()?).ok().map(Decoded::Mailbox)
    }

    /// `rest` begins with the separator that the first forwarder chose.
    fn second_hop(&self, first: &str, rest: &str) -> Option<String> {
        let rest = if rest.starts_with(['=', '+', '-']) { rest.to_owned() } else { format!("={rest}") };
        let tail = format!("{first}={rest}");
        Some(format!("SRS1={}={tail}", self.hash(&tail)?))
    }

    fn hash(&self, tail: &str) -> Option<String> {
        self.keys.first().map(|key| hash(key, tail))
    }

    /// Whether the hash is right. Some hosts change the case of a local-part, so case does not count (its loss costs eight
    /// bits).
    fn is_ours(&self, given: &str, tail: &str) -> bool {
        let matches = |key: &hmac::Key| {
            let (made, given) = (hash(key, tail).to_ascii_lowercase(), given.to_ascii_lowercase());
            // Constant time, as for any code that proves something.
            made.len() == given.len()
                && made.bytes().zip(given.bytes()).fold(0, |found, (a, b)| found | (a ^ b)) == 0
        };
        self.keys.iter().any(matches)
    }
}

fn hash(key: &hmac::Key, tail: &str) -> String {
    let tag = hmac::sign(key, tail.to_ascii_lowercase().as_bytes());
    let text = STANDARD.encode(tag.as_ref()).replace('/', "-").replace('+', "_");
    text.chars().take(HASH_CHARACTERS).collect()
}

/// The tag and what comes behind its separator.
fn split(local: &str) -> Option<(&'static str, &str)> {
    let (tag, rest) = local.split_at_checked(4)?;
    let tag = ["SRS0", "SRS1"].into_iter().find(|known| known.eq_ignore_ascii_case(tag))?;
    let rest = rest.strip_prefix(['=', '+', '-'])?;
    Some((tag, rest))
}

fn day_word(day: u64) -> String {
    let digit = |n: u64| usize::try_from(n % 32).ok().and_then(|n| BASE32.get(n)).copied().unwrap_or(b'A');
    [digit(day / 32), digit(day)].map(char::from).into_iter().collect()
}

fn day_number(word: &str) -> Option<u64> {
    let digit = |c: u8| BASE32.iter().position(|known| *known == c.to_ascii_uppercase());
    match word.as_bytes() {
        [high, low] => u64::try_from(digit(*high)? * 32 + digit(*low)?).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_795_471_428;

    fn srs(secret: &str, domain: &str) -> Srs {
        Srs::new(&[secret.as_bytes().to_vec()], Domain::parse(domain).expect("a domain"))
    }

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).expect("a mailbox")
    }

    #[test]
    fn there_and_back_over_three_forwarders() {
        let hops = [srs("a", "one.example"), srs("b", "two.example"), srs("c", "three.example")];
        let sender = mailbox("Ann.B@a.example");
        let first = hops[0].encode(&sender, NOW).expect("rewritten");
        assert!(
            first.to_string().starts_with("SRS0=")
                && first.to_string().ends_with("=a.example=Ann.B@one.example")
        );
        let second = hops[1].encode(&first, NOW).expect("rewritten");
        assert!(second.to_string().starts_with("SRS1="), "{second}");
        let third = hops[2].encode(&second, NOW).expect("rewritten");
        assert!(third.to_string().len() < second.to_string().len() + 6, "addresses do not grow: {third}");
        // A bounce goes to the last, from there to the first, and from there home.
        let Decoded::Mailbox(back) = hops[2].decode(&third, NOW) else { panic!("decoded") };
        assert_eq!(back, first);
        assert_eq!(hops[0].decode(&back, NOW), Decoded::Mailbox(sender));
        let Decoded::Mailbox(back) = hops[1].decode(&second, NOW) else { panic!("decoded") };
        assert_eq!(back, first);
    }

    #[test]
    fn only_what_was_made_here_and_lately_is_read() {
        let ours = srs("secret", "our.example");
        let made = ours.encode(&mailbox("ann@a.example"), NOW).expect("rewritten");
        let day = SECONDS_PER_DAY;
        assert!(matches!(ours.decode(&made, NOW + VALID_DAYS * day), Decoded::Mailbox(_)));
        assert_eq!(ours.decode(&made, NOW + (VALID_DAYS + 1) * day), Decoded::Expired);
        assert_eq!(srs("other", "our.example").decode(&made, NOW), Decoded::Forged);
        let text = made.to_string();
        for forged in [
            text.replace("=ann@", "=bob@"),
            text.replace("a.example=", "b.example="),
            text.replacen("SRS0=", "SRS0=x", 1),
            "SRS0=AAAA@our.example".to_owned(),
            "SRS1=AAAAAAAA=a.example==x@our.example".to_owned(),
            "SRS0===@our.example".to_owned(),
        ] {
            assert_eq!(ours.decode(&mailbox(&forged), NOW), Decoded::Forged, "{forged}");
        }
        for foreign in ["ann@our.example", "SRS0@our.example", "SRS2=x@our.example", "srs@our.example"] {
            assert_eq!(ours.decode(&mailbox(foreign), NOW), Decoded::No, "{foreign}");
        }
        assert_eq!(ours.decode(&mailbox(&text.replace("@our.example", "@b.example")), NOW), Decoded::No);
        let lower = mailbox(&text.to_ascii_lowercase());
        assert!(matches!(ours.decode(&lower, NOW), Decoded::Mailbox(_)), "case does not count");
    }

    #[test]
    fn an_older_secret_is_still_read() {
        let old = srs("old", "our.example");
        let made = old.encode(&mailbox("ann@a.example"), NOW).expect("rewritten");
        let both =
            Srs::new(&[b"new".to_vec(), b"old".to_vec()], Domain::parse("our.example").expect("a domain"));
        assert!(matches!(both.decode(&made, NOW), Decoded::Mailbox(_)));
        assert_ne!(both.encode(&mailbox("ann@a.example"), NOW), Some(made));
    }

    proptest! {
        #[test]
        fn whatever_is_rewritten_comes_back(local in "[a-zA-Z0-9.=+_-]{1,30}", later in 0u64..2_000_000) {
            let (ours, text) = (srs("secret", "our.example"), format!("{local}@a.example"));
            if let Ok(sender) = Mailbox::parse(&text)
                && let Some(made) = ours.encode(&sender, NOW)
                && split(&local).is_none()
            {
                let expected = if later / SECONDS_PER_DAY < VALID_DAYS { Decoded::Mailbox(sender) } else { ours.decode(&made, NOW + later) };
                prop_assert_eq!(ours.decode(&made, NOW + later), expected);
            }
        }

        #[test]
        fn no_address_panics(local in "(SRS[01]|srs0|=|\\+|-|[A-Z2-7]{1,4}|a\\.example){0,12}") {
            if let Ok(address) = Mailbox::parse(&format!("{local}@our.example")) {
                let ours = srs("secret", "our.example");
                let _ = (ours.decode(&address, NOW), srs("x", "other.example").encode(&address, NOW));
            }
        }
    }
}
