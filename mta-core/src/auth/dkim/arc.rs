//! Sealing of mail that is forwarded (RFC 8617): one ARC set, made with the DKIM keys.
//!
//! The set repeats what we said of the message when we took it, so that the next host may go by our word where
//! forwarding broke SPF. It never judges a chain itself: that was done when the message came (`library`), and what came of
//! it stands in the one field Authentication-Results that is ours. Without that field nothing is said of a chain that
//! others began. mail-auth's sealer is not used: it cannot be given these words, and for a broken chain it signs all sets,
//! which RFC 8617 5.1.2 forbids.

use std::collections::BTreeMap;

use super::sign::{self, Signer, relaxed};
use super::{Algorithm, KeyRing, Stored, now_seconds};
use crate::auth::results;
use crate::auth::verdict::Word;
use crate::content::header::{Field, Header};

/// Sets of a chain at most (RFC 8617 4.2.1).
const MAX_SETS: u32 = 50;

/// Fields that a reader does not see and that the message signature covers besides those of a DKIM signature (RFC 8617
/// 4.1.2).
const ALSO_COVERED: [&str; 1] = ["dkim-signature"];

/// Whose words are sealed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sealer<'a> {
    /// Our name in Authentication-Results.
    pub(crate) server: &'a str,
    /// Domains whose keys may seal; the first that has one does.
    pub(crate) domains: &'a [String],
}

/// An ARC set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArcSet {
    /// The three fields, to be put at the top.
    pub(crate) fields: String,
    /// Its number.
    pub(crate) instance: u32,
    /// `cv=`.
    pub(crate) chain: &'static str,
    /// `d=`.
    pub(crate) domain: String,
}

/// Why there is no new set. The chain stays as it was, and forwarding breaks none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unsealed {
    /// It is not wanted.
    Off,
    /// None of the domains has a key that signs.
    NoKey,
    /// The last sealer found the chain broken: nothing may follow (RFC 8617 5.1).
    Ended,
    /// It has as many sets as there may be.
    Long,
    /// We did not verify the chain when the message came, or could not.
    Unverified,
    /// The key does not sign; why.
    Key(String),
}

impl std::fmt::Display for Unsealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::NoKey => "no key",
            Self::Ended => "the chain ended with cv=fail",
            Self::Long => "the chain has as many sets as there may be",
            Self::Unverified => "the chain was not verified here",
            Self::Key(why) => why,
        })
    }
}

impl KeyRing {
    /// The ARC set for a message as it is stored, whose body has this relaxed hash. May block for milliseconds.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn seal_here(
        &self,
        sealer: &Sealer<'_>,
        header: &Header,
        body_hash: &[u8],
    ) -> Result<ArcSet, Unsealed> {
        let stored = self.sealing_key(sealer.domains)?;
        seal(&stored, sealer.server, header, body_hash, now_seconds())
    }

    /// Why nothing can be sealed, whatever the message is.
    pub(crate) fn cannot_seal(&self, sealer: &Sealer<'_>) -> Option<Unsealed> {
        self.sealing_key(sealer.domains).err()
    }

    /// Everybody verifies RSA, and a set has room for one signature.
    fn sealing_key(&self, domains: &[String]) -> Result<Stored, Unsealed> {
        if !self.seals() {
            return Err(Unsealed::Off);
        }
        let mut keys = domains.iter().map(|domain| self.keys_for(domain)).find(|keys| !keys.is_empty());
        let keys = keys.get_or_insert_default();
        keys.sort_by_key(|stored| stored.key.algorithm() != Algorithm::Rsa);
        keys.first().cloned().ok_or(Unsealed::NoKey)
    }
}

/// What is known of the chain in front of the new set (RFC 8617 4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Validation {
    None,
    Pass,
    Fail,
}

impl Validation {
    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

/// The chain of a message, and what the next set has to say of it.
#[derive(Debug)]
struct Chain<'a> {
    /// The fields of each set in the order in which seals cover them: results, signature, seal.
    sets: BTreeMap<u32, [Option<Field<'a>>; 3]>,
    /// There is a field that belongs to no set, or to one that has such a field.
    broken: bool,
    validation: Validation,
    /// Our own results.
    results: Option<Field<'a>>,
}

/// The fields of a set, in the order in which seals cover them (RFC 8617 5.1.1).
const NAMES: [&str; 3] = ["ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal"];

impl<'a> Chain<'a> {
    fn of(header: &'a Header, server: &str) -> Result<Self, Unsealed> {
        let mut chain =
            Self { sets: BTreeMap::new(), broken: false, validation: Validation::None, results: None };
        // What stands above our results was put there by us, when we forwarded the message before.
        let mut sealed_here = false;
        for field in header.fields() {
            if chain.results.is_none() && results::is_of(&field, server) {
                chain.results = Some(field);
            }
            let Some(place) = NAMES.iter().position(|name| field.is(name)) else { continue };
            sealed_here |= place == 2 && chain.results.is_none();
            chain.take(place, field);
        }
        chain.validation = chain.validate(sealed_here)?;
        Ok(chain)
    }

    fn take(&mut self, place: usize, field: Field<'a>) {
        let Some(instance) = instance(place, &field.text()) else {
            self.broken = true;
            return;
        };
        match self.sets.entry(instance).or_default().get_mut(place) {
            Some(empty @ None) => *empty = Some(field),
            _ => self.broken = true,
        }
    }

    fn validate(&self, sealed_here: bool) -> Result<Validation, Unsealed> {
        if self.sets.is_empty() && !self.broken {
            return Ok(Validation::None);
        }
        let last = self.sets.last_key_value().and_then(|(_, [_, _, seal])| seal.as_ref());
        if last.is_some_and(|seal| tag(&seal.text(), "cv").as_deref() == Some("fail")) {
            return Err(Unsealed::Ended);
        }
        // RFC 8617 4.2.1: numbered from 1, each complete.
        let complete = !self.broken
            && self.sets.values().flatten().all(Option::is_some)
            && self.sets.keys().copied().eq(1..=self.last());
        match self.results.as_ref().map(results::arc_word) {
            None => Err(Unsealed::Unverified),
            Some(Word::Pass) | Some(Word::None) if sealed_here && complete => Ok(Validation::Pass),
            Some(Word::Pass) if complete => Ok(Validation::Pass),
            // Whoever judged it read it otherwise than we do here.
            Some(Word::Pass | Word::TempError) => Err(Unsealed::Unverified),
            Some(_) => Ok(Validation::Fail),
        }
    }

    /// The number of the last set.
    fn last(&self) -> u32 {
        self.sets.last_key_value().map_or(0, |(instance, _)| *instance)
    }

    /// The number of the next.
    fn next(&self) -> Result<u32, Unsealed> {
        // cv=fail is never the first (RFC 8617 4.1.3).
        let last = if self.validation == Validation::Fail { self.last().max(1) } else { self.last() };
        if last >= MAX_SETS { Err(Unsealed::Long) } else { Ok(last + 1) }
    }
}

/// The number of a field's set. In the results it comes first, and elsewhere it is a tag.
fn instance(place: usize, text: &str) -> Option<u32> {
    let digits = match place {
        0 => text
            .split(';')
            .next()?
            .trim()
            .strip_prefix("i")?
            .trim_start()
            .strip_prefix('=')?
            .trim()
            .to_owned(),
        _ => tag(text, "i")?,
    };
    let is_number = (1..=2).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
    digits.parse().ok().filter(|number| is_number && (1..=MAX_SETS).contains(number))
}

/// The value of a tag (RFC 6376 3.2).
fn tag(text: &str, name: &str) -> Option<String> {
    let mut tags = text.split(';').filter_map(|tag| tag.split_once('='));
    tags.find(|(tag, _)| tag.trim() == name).map(|(_, value)| value.trim().to_owned())
}

fn seal(
    stored: &Stored,
    server: &str,
    header: &Header,
    body_hash: &[u8],
    now_seconds: u64,
) -> Result<ArcSet, Unsealed> {
    let chain = Chain::of(header, server)?;
    let instance = chain.next()?;
    let signer = Signer { domain: &stored.domain, selector: &stored.selector, key: &stored.key };
    let results = results_field(&chain, instance, server);
    // The message as we send it on (RFC 8617 4.1.2).
    let begins = format!("ARC-Message-Signature: i={instance}");
    let signature = sign::message_signature(&begins, &signer, header, &ALSO_COVERED, body_hash, now_seconds)
        .map_err(Unsealed::Key)?;
    let mut data = Vec::new();
    // RFC 8617 5.1.2: of a broken chain nothing is covered but the set that says so.
    if chain.validation == Validation::Pass {
        let before = chain.sets.values().flatten().flatten();
        before.for_each(|field| relaxed(field, &mut data));
    }
    let (own, _) = Header::split(format!("{results}{signature}").as_bytes());
    own.fields().for_each(|field| relaxed(&field, &mut data));
    let start = format!(
        "ARC-Seal: i={instance}; a={}; t={now_seconds}; cv={};\r\n\td={}; s={};\r\n\tb=",
        signer.key.algorithm().tag(),
        chain.validation.word(),
        signer.domain,
        signer.selector,
    );
    let seal = sign::seal(&start, signer.key, data).map_err(Unsealed::Key)?;
    let fields = format!("{seal}{signature}{results}");
    Ok(ArcSet { fields, instance, chain: chain.validation.word(), domain: stored.domain.clone() })
}

/// What we said of the message (RFC 8617 4.1.1), or that we said nothing (RFC 8601 2.2).
fn results_field(chain: &Chain<'_>, instance: u32, server: &str) -> String {
    let none = || format!(" {server}; none\r\n");
    let said = |field: &Field<'_>| String::from_utf8_lossy(field.value).into_owned();
    let value = chain.results.as_ref().map_or_else(none, said);
    format!("ARC-Authentication-Results: i={instance};{value}")
}

#[cfg(test)]
#[path = "arc_tests.rs"]
mod tests;
