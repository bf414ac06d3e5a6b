//! DKIM signing (RFC 6376): keys, their records, their rotation, and the signature.
//!
//! What it does: `key` makes and reads keys, `store` keeps them, `publish` compares them with DNS, `sign` signs, `arc` seals
//! what is forwarded. [`KeyRing`] is what the daemon signs with; it notices when the tool changed a key. Verification is `auth`'s.

mod arc;
mod key;
mod publish;
mod rsa;
mod sign;
mod store;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_io::Timer;

pub(crate) use self::arc::{ArcSet, Sealer, Unsealed};
pub use self::key::{Algorithm, Key, zone_strings};
pub use self::publish::{KEEP_OLD_SECONDS, Published, activate, published};
pub use self::store::{State, Store, Stored};
use crate::auth::body::BodyDigest;
use crate::content::header::Header;
use crate::dns::Resolver;
use crate::log::Line;

/// How often the folder of keys is looked at, at most.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How often the records of new keys are looked for.
const LOOK_FOR_RECORDS: Duration = Duration::from_secs(600);

/// The keys that the daemon signs with.
#[derive(Debug)]
pub struct KeyRing {
    store: Store,
    loaded: Mutex<Loaded>,
    sign: AtomicBool,
    seal: AtomicBool,
}

#[derive(Debug, Default)]
struct Loaded {
    looked_at: Option<Instant>,
    stamp: Option<(i64, i64, usize)>,
    signing: Arc<Vec<Stored>>,
}

impl KeyRing {
    /// The keys of a state directory, which sign and seal.
    pub fn new(state_directory: &Path) -> Arc<Self> {
        let (sign, seal) = (AtomicBool::new(true), AtomicBool::new(true));
        Arc::new(Self { store: Store::new(state_directory), loaded: Mutex::default(), sign, seal })
    }

    /// Whether messages of ours are signed, and forwarded ones sealed, from now on.
    pub fn allow(&self, sign: bool, seal: bool) {
        self.sign.store(sign, Ordering::Relaxed);
        self.seal.store(seal, Ordering::Relaxed);
    }

    /// Whether forwarded messages are sealed.
    fn seals(&self) -> bool {
        self.seal.load(Ordering::Relaxed)
    }

    /// The keys that sign now; none where nothing is to be signed.
    pub fn signing(&self) -> Arc<Vec<Stored>> {
        if self.sign.load(Ordering::Relaxed) { self.in_use() } else { Arc::default() }
    }

    /// The keys whose records were seen.
    fn in_use(&self) -> Arc<Vec<Stored>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.looked_at.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return Arc::clone(&loaded.signing);
        }
        let (first, stamp) = (loaded.looked_at.is_none(), self.store.stamp());
        loaded.looked_at = Some(Instant::now());
        if first || stamp != loaded.stamp {
            loaded.stamp = stamp;
            let (keys, problems) = self.store.load();
            for problem in problems {
                ::log::error!("{}", Line::new("dkim-key").with("status", "unusable").with("reason", problem));
            }
            let signing = keys.into_iter().filter(|key| key.state == State::Signing).collect();
            loaded.signing = Arc::new(signing);
        }
        Arc::clone(&loaded.signing)
    }

    /// The keys for an author's domain: its own, else those of the nearest domain above it, whose signature DMARC counts as
    /// the author's own (RFC 9989 4.4.1).
    fn keys_for(&self, author: &str) -> Vec<Stored> {
        let keys = self.in_use();
        let mut domain = author;
        loop {
            let found: Vec<Stored> = keys.iter().filter(|key| key.domain == domain).cloned().collect();
            match domain.split_once('.') {
                Some((_, above)) if found.is_empty() => domain = above,
                _ => return found,
            }
        }
    }

    /// Whether mail of an author's domain (lower case) is signed now.
    pub fn signs_for(&self, author: &str) -> bool {
        !self.signing_for(author).is_empty()
    }

    fn signing_for(&self, author: &str) -> Vec<Stored> {
        if self.signing().is_empty() { Vec::new() } else { self.keys_for(author) }
    }

    /// Signs a message with every key of its author's domain: the fields to put at the top. None where there is no key, or
    /// no one author.
    pub(crate) async fn sign(&self, header: &Header, body_hash: &[u8]) -> String {
        let Some(author) = crate::auth::author(header.octets()) else { return String::new() };
        let keys = self.signing_for(&author);
        if keys.is_empty() {
            return String::new();
        }
        let (header, body_hash) = (header.clone(), body_hash.to_vec());
        // RSA takes milliseconds on a router.
        smol::unblock(move || sign_with(&keys, &header, &body_hash)).await
    }

    /// The same, on this thread, which may block.
    pub(crate) fn sign_here(&self, header: &Header, body_hash: &[u8]) -> String {
        let keys = crate::auth::author(header.octets()).map(|author| self.signing_for(&author));
        sign_with(&keys.unwrap_or_default(), header, body_hash)
    }

    /// The fields for a whole message in memory (the daemon signs what streams by). On this thread: RSA takes
    /// milliseconds on a router.
    pub fn sign_message(&self, message: &[u8]) -> String {
        let (header, body) = Header::split(message);
        let mut digest = BodyDigest::new(true, false);
        digest.update(body);
        digest.finish().relaxed.map(|hash| self.sign_here(&header, &hash)).unwrap_or_default()
    }

    /// Looks after new keys for as long as the daemon runs.
    pub async fn watch(self: Arc<Self>, resolver: Arc<dyn Resolver>) {
        loop {
            for key in publish::look_after(&resolver, &self.store, now_seconds()).await {
                let line = Line::new("dkim-key").with("key", key.owner()).with("status", key.state.word());
                ::log::info!("{line}");
            }
            Timer::after(LOOK_FOR_RECORDS).await;
        }
    }
}

/// Signs with each key. One that fails costs its own signature.
fn sign_with(keys: &[Stored], header: &Header, body_hash: &[u8]) -> String {
    let mut fields = String::new();
    for stored in keys {
        let signer = sign::Signer { domain: &stored.domain, selector: &stored.selector, key: &stored.key };
        match sign::signature(&signer, header, body_hash, now_seconds()) {
            Ok(field) => fields.push_str(&field),
            Err(why) => {
                ::log::error!("{}", Line::new("dkim-key").with("key", stored.owner()).with("reason", why))
            }
        }
    }
    fields
}

/// Today in UTC, as selectors have it: `20261125`.
pub fn today() -> String {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    format!("{:04}{:02}{:02}", now.year(), now.month(), now.day())
}

/// Seconds since 1970.
pub fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
