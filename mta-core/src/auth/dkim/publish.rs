//! Keys against DNS: what is published of each, and what follows.
//!
//! A new key signs nothing before its record is seen in DNS, so no signature is ever made that nobody can verify. When one
//! begins to sign, the keys of its kind before it stop; their records stay for mail that is under way.

use std::sync::Arc;

use hickory_proto::rr::RecordType;

use super::store::{State, Store, Stored};
use crate::auth::facts::{Found, name};
use crate::dns::Resolver;

/// How long the record of a key that signs no more has to stay: longer than any queue keeps mail.
pub const KEEP_OLD_SECONDS: u64 = 8 * 86_400;

/// What DNS has of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// Its record.
    Right,
    /// Nothing.
    Missing,
    /// A record of another key, or one that cannot be read; what is there.
    Other(String),
    /// It cannot be known now; why.
    Unknown(String),
}

/// Looks a key's record up.
pub async fn published(resolver: &dyn Resolver, stored: &Stored) -> Published {
    let Some(owner) = name(&stored.owner()) else {
        return Published::Unknown("no name that DNS could have".to_owned());
    };
    let answer = resolver.lookup(owner, RecordType::TXT).await;
    match Found::of(&answer) {
        Found::Failed(why) => Published::Unknown(why),
        Found::NoData | Found::NoName => Published::Missing,
        found => {
            let wanted = public_key(&stored.key.record());
            let texts: Vec<String> =
                found.texts().iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
            match texts.iter().any(|text| public_key(text) == wanted) {
                true => Published::Right,
                false => Published::Other(texts.join(" | ").chars().take(500).collect()),
            }
        }
    }
}

/// `p=` of a record, without blanks; nothing where there is none, or where it is revoked.
fn public_key(record: &str) -> Option<String> {
    let tags = record.split(';').filter_map(|tag| tag.split_once('='));
    let (_, key) = tags.into_iter().find(|(tag, _)| tag.trim() == "p")?;
    let key: String = key.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    (!key.is_empty()).then_some(key)
}

/// Lets a key sign whose record was seen, and those of its kind before it no more. What was changed.
///
/// # Errors
/// What the file system reports.
pub fn activate(
    store: &Store,
    keys: &[Stored],
    seen: &Stored,
    now_seconds: u64,
) -> std::io::Result<Vec<Stored>> {
    let mut changed = Vec::new();
    let before = keys.iter().filter(|key| {
        key.domain == seen.domain
            && key.selector != seen.selector
            && key.key.algorithm() == seen.key.algorithm()
            && key.state == State::Signing
    });
    // The new one first: a domain never stands without a key that signs.
    let new = Stored { state: State::Signing, since: now_seconds, ..seen.clone() };
    store.save(&new)?;
    changed.push(new);
    for key in before {
        let old = Stored { state: State::Old, since: now_seconds, ..key.clone() };
        store.save(&old)?;
        changed.push(old);
    }
    Ok(changed)
}

/// Looks after all keys once: those that are new and published begin to sign.
pub(super) async fn look_after(resolver: &Arc<dyn Resolver>, store: &Store, now_seconds: u64) -> Vec<Stored> {
    let (keys, _) = store.load();
    let mut changed = Vec::new();
    for key in keys.iter().filter(|key| key.state == State::New) {
        if published(&**resolver, key).await != Published::Right {
            continue;
        }
        let (keys, _) = store.load();
        match activate(store, &keys, key, now_seconds) {
            Ok(now) => changed.extend(now),
            Err(error) => {
                let line = crate::log::Line::new("dkim-key").with("key", key.owner());
                ::log::error!("{}", line.with("status", "cannot be changed").with("reason", error));
            }
        }
    }
    changed
}
