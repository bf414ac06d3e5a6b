//! Passwords: how they become what is kept, and how a password is checked against it.
//!
//! What it does: argon2id hashes and SCRAM keys for new passwords, argon2id and imported sha-crypt hashes at the check, keys
//! that belong to nobody for those who do not exist. What it does not: it knows no users and no limits. Everything here
//! takes time and memory on purpose: call it from a thread that may block, few at a time.
//!
//! Names and passwords are prepared by SASLprep (RFC 4013) where that can be done, else used as they are, so that the same
//! password from another keyboard is the same.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use argon2::Params;
use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use mta_queue::{StoredScram, StoredSecret};
use mta_smtp::sasl::server::{MAX_PASSWORD_OCTETS, ScramKeys};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use sha_crypt::ShaCrypt;

use super::argon2id;

/// The salt of a new hash, in octets (RFC 9106 3.1).
const SALT_OCTETS: usize = 16;

/// The most memory that an imported hash may ask for: 256 MiB, in KiB.
const MAX_MEMORY_KIB: u32 = 256 * 1024;

/// The most passes over its memory.
const MAX_PASSES: u32 = 64;

/// The most rounds that an imported hash may ask for.
const MAX_ROUNDS: u32 = 1_000_000;

/// The rounds of sha-crypt where a hash names none.
const DEFAULT_ROUNDS: u32 = 5_000;

/// The longest imported hash, in octets.
const MAX_HASH_OCTETS: usize = 512;

/// The longest line in which a password is read, in octets.
pub const MAX_LINE_OCTETS: u64 = 4096;

/// What a new hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// The memory of argon2id, in KiB; 19 MiB.
    pub memory_kib: u32,
    /// Its passes over the memory; 2.
    pub passes: u32,
    /// The iterations of SCRAM-SHA-256, which the client has to compute at each login; 65 536.
    pub scram_iterations: NonZeroU32,
}

impl Cost {
    /// The memory times the passes: what time goes by.
    fn work(self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }
}

impl Default for Cost {
    fn default() -> Self {
        let scram_iterations = NonZeroU32::MIN.saturating_add(65_535);
        Self { memory_kib: 19 * 1024, passes: 2, scram_iterations }
    }
}

/// Why a password or a hash cannot be used. One sentence for the administrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordError {
    /// It is empty.
    Empty,
    /// It is longer than is taken at a login.
    TooLong,
    /// It holds a control character, which no client sends.
    Control,
    /// The costs are out of bounds, or there are no random numbers.
    Hash,
    /// The imported text is no hash that can be checked here.
    UnknownHash,
    /// The imported hash is too expensive to check.
    TooExpensive,
}

impl fmt::Display for PasswordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the password is empty"),
            Self::TooLong => write!(f, "the password is longer than {MAX_PASSWORD_OCTETS} octets"),
            Self::Control => f.write_str("the password holds a control character"),
            Self::Hash => f.write_str("no hash can be made: see submission.hash_memory, hash_passes"),
            Self::UnknownHash => f.write_str(
                "not a hash that can be checked here: argon2id ($argon2id$) or sha-crypt ($5$, $6$)",
            ),
            Self::TooExpensive => write!(
                f,
                "the hash costs too much to check: at most {} MiB in {MAX_PASSES} passes, or {MAX_ROUNDS} rounds",
                MAX_MEMORY_KIB / 1024
            ),
        }
    }
}

impl std::error::Error for PasswordError {}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// It is the password.
    Good,
    /// It is the password, and what is kept is to be made anew: an imported hash, one of other costs, or SCRAM keys that are
    /// missing.
    Renew,
    /// It is not.
    Wrong,
}

/// What is kept of a new password.
///
/// # Errors
/// `PasswordError`.
pub fn secret(password: &str, cost: Cost, with_scram: bool) -> Result<StoredSecret, PasswordError> {
    if password.is_empty() {
        return Err(PasswordError::Empty);
    }
    if password.len() > MAX_PASSWORD_OCTETS {
        return Err(PasswordError::TooLong);
    }
    if password.chars().any(char::is_control) {
        return Err(PasswordError::Control);
    }
    let password = prepared(password);
    let salt = random::<SALT_OCTETS>()?;
    let hash = argon2id::hash(password.as_bytes(), &salt, parameters(cost)?).ok_or(PasswordError::Hash)?;
    let scram = with_scram.then(|| scram(&password, cost)).transpose()?;
    Ok(StoredSecret { password: Some(hash.to_string()), scram })
}

/// A hash from elsewhere, once it is known that it can be checked at a bounded cost. `{SHA512-CRYPT}` and the like in front,
/// as Dovecot writes it, is taken away.
///
/// # Errors
/// `PasswordError::UnknownHash` or `TooExpensive`.
pub fn imported(hash: &str) -> Result<StoredSecret, PasswordError> {
    let hash = match hash.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        Some((scheme, hash))
            if ["SHA256-CRYPT", "SHA512-CRYPT", "CRYPT", "ARGON2ID"]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(scheme)) =>
        {
            hash
        }
        Some(_) => return Err(PasswordError::UnknownHash),
        None => hash,
    };
    if hash.len() > MAX_HASH_OCTETS {
        return Err(PasswordError::UnknownHash);
    }
    match Kind::of(hash)? {
        kind if kind.is_beyond_bounds() => Err(PasswordError::TooExpensive),
        _ => Ok(StoredSecret { password: Some(hash.to_owned()), scram: None }),
    }
}

/// What a hash that is kept costs, beside one that would be made now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weight {
    /// As much, less, or nothing.
    Usual,
    /// More: each check takes longer and more memory than the configuration says. Both costs, for the log.
    More(String),
    /// More than any check may cost, or nothing that can be checked. It is of no password.
    Beyond,
}

/// Weighs a hash that is kept.
pub fn weigh(kept: &StoredSecret, cost: Cost) -> Weight {
    let Some(hash) = &kept.password else { return Weight::Usual };
    match Kind::of(hash) {
        Ok(kind) if kind.is_beyond_bounds() => Weight::Beyond,
        Ok(Kind::Argon2 { memory_kib, passes })
            if u64::from(memory_kib) * u64::from(passes) > cost.work() || memory_kib > cost.memory_kib =>
        {
            Weight::More(format!(
                "{memory_kib} KiB in {passes} passes, where {} KiB in {} are configured",
                cost.memory_kib, cost.passes
            ))
        }
        Ok(_) => Weight::Usual,
        Err(_) => Weight::Beyond,
    }
}

/// Checks a password. Where nothing is kept it takes as long and is wrong.
pub fn check(kept: &StoredSecret, password: &str, cost: Cost, scram_wanted: bool) -> Checked {
    let password = prepared(password);
    let Some(hash) = &kept.password else {
        nobody(&password, cost);
        return Checked::Wrong;
    };
    let octets = password.as_bytes();
    let (good, current) = match Kind::of(hash) {
        Ok(kind) if kind.is_beyond_bounds() => (false, true),
        Ok(Kind::Argon2 { memory_kib, passes }) => {
            let parsed = PasswordHash::new(hash);
            let current = (memory_kib, passes) == (cost.memory_kib, cost.passes);
            (parsed.is_ok_and(|hash| argon2id::is_of(&hash, octets)), current)
        }
        Ok(Kind::ShaCrypt { .. }) => {
            (ShaCrypt::default().verify_password(octets, hash.as_str()).is_ok(), false)
        }
        Err(_) => (false, true),
    };
    match (good, current && (kept.scram.is_some() || !scram_wanted)) {
        (true, true) => Checked::Good,
        (true, false) => Checked::Renew,
        (false, _) => Checked::Wrong,
    }
}

/// Takes as long as a check of a password that was set here.
pub fn nobody(password: &str, cost: Cost) {
    if let Ok(parameters) = parameters(cost) {
        // Only its time matters.
        let _ = std::hint::black_box(argon2id::hash(password.as_bytes(), &[0; SALT_OCTETS], parameters));
    }
}

/// What was computed on this thread, in KiB times passes.
#[cfg(test)]
pub(super) fn work() -> u64 {
    argon2id::WORK.get()
}

/// SCRAM keys of somebody who has none: the same ones each time for the same name, so that asking twice does not tell that
/// there is nobody (RFC 5802 5.1), and made from a secret of this server, so that nobody can tell them from real ones.
pub fn keys_of_nobody(server_secret: &[u8], name: &str, cost: Cost) -> ScramKeys {
    let key = hmac::Key::new(hmac::HMAC_SHA256, server_secret);
    let derive = |what: &str| hmac::sign(&key, format!("{what}\0{name}").as_bytes()).as_ref().to_vec();
    let mut salt = derive("salt");
    salt.truncate(SALT_OCTETS);
    ScramKeys {
        salt,
        iterations: cost.scram_iterations.get(),
        stored_key: derive("stored key"),
        server_key: derive("server key"),
    }
}

/// The keys that are kept, as the exchange takes them.
pub fn keys(scram: &StoredScram) -> ScramKeys {
    let StoredScram { salt, iterations, stored_key, server_key } = scram.clone();
    ScramKeys { salt, iterations, stored_key, server_key }
}

fn scram(password: &str, cost: Cost) -> Result<StoredScram, PasswordError> {
    let salt = random::<SALT_OCTETS>()?.to_vec();
    let ScramKeys { salt, iterations, stored_key, server_key } =
        ScramKeys::of(password, salt, cost.scram_iterations);
    Ok(StoredScram { salt, iterations, stored_key, server_key })
}

fn parameters(cost: Cost) -> Result<Params, PasswordError> {
    Params::new(cost.memory_kib, cost.passes, 1, None).map_err(|_| PasswordError::Hash)
}

/// What a hash is, and what it costs.
enum Kind {
    Argon2 { memory_kib: u32, passes: u32 },
    ShaCrypt { rounds: u32 },
}

impl Kind {
    /// Security decision: no hash is checked that costs more than this, wherever it came from.
    fn is_beyond_bounds(&self) -> bool {
        match self {
            Self::Argon2 { memory_kib, passes } => *memory_kib > MAX_MEMORY_KIB || *passes > MAX_PASSES,
            Self::ShaCrypt { rounds } => *rounds > MAX_ROUNDS,
        }
    }

    fn of(hash: &str) -> Result<Self, PasswordError> {
        if hash.starts_with("$5$") || hash.starts_with("$6$") {
            let rounds = hash.get(3..).and_then(|rest| rest.strip_prefix("rounds="));
            let rounds = match rounds.and_then(|rest| rest.split('$').next()) {
                Some(rounds) => rounds.parse().map_err(|_| PasswordError::UnknownHash)?,
                None => DEFAULT_ROUNDS,
            };
            let whole = hash.rsplit('$').next().is_some_and(|tail| tail.len() >= 43);
            return if whole { Ok(Self::ShaCrypt { rounds }) } else { Err(PasswordError::UnknownHash) };
        }
        if !hash.starts_with("$argon2id$") {
            return Err(PasswordError::UnknownHash);
        }
        let parsed = PasswordHash::new(hash).map_err(|_| PasswordError::UnknownHash)?;
        let parameters = Params::try_from(&parsed).map_err(|_| PasswordError::UnknownHash)?;
        Ok(Self::Argon2 { memory_kib: parameters.m_cost(), passes: parameters.t_cost() })
    }
}

fn prepared(text: &str) -> Cow<'_, str> {
    stringprep::saslprep(text).unwrap_or(Cow::Borrowed(text))
}

fn random<const N: usize>() -> Result<[u8; N], PasswordError> {
    let mut octets = [0; N];
    SystemRandom::new().fill(&mut octets).map_err(|_| PasswordError::Hash)?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap, for tests.
    fn cost() -> Cost {
        let scram_iterations = NonZeroU32::new(4096).expect("not zero");
        Cost { memory_kib: 64, passes: 1, scram_iterations }
    }

    #[test]
    fn a_password_is_known_again_and_no_other() {
        let kept = secret("pa ss wörd", cost(), true).expect("made");
        assert!(
            kept.password.as_deref().is_some_and(|hash| hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"))
        );
        assert_eq!(check(&kept, "pa ss wörd", cost(), true), Checked::Good);
        // The same word, typed as a letter and a diaeresis.
        assert_eq!(check(&kept, "pa ss wo\u{308}rd", cost(), true), Checked::Good);
        for wrong in ["", "pa ss word", "Pa ss wörd", "pa ss wörd "] {
            assert_eq!(check(&kept, wrong, cost(), true), Checked::Wrong, "{wrong:?}");
        }
        assert_ne!(secret("pa ss wörd", cost(), true).expect("made"), kept, "salted");
    }

    #[test]
    fn scram_keys_are_those_of_the_password() {
        let kept = secret("x", cost(), true).expect("made").scram.expect("there");
        let again = ScramKeys::of("x", kept.salt.clone(), cost().scram_iterations);
        assert_eq!(keys(&kept), again);
        let without = secret("x", cost(), false).expect("made");
        assert!(without.scram.is_none());
        assert_eq!(check(&without, "x", cost(), false), Checked::Good);
        assert_eq!(check(&without, "x", cost(), true), Checked::Renew);
    }

    /// Examples of the specification of SHA-crypt.
    #[test]
    fn imported_hashes_are_checked_and_made_anew() {
        for (hash, password) in [
            ("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!"),
            ("$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA", "Hello world!"),
            (
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
                "Hello world!",
            ),
            (
                "{SHA512-CRYPT}$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
                "Hello world!",
            ),
        ] {
            let kept = imported(hash).expect("known");
            assert_eq!(check(&kept, "wrong", cost(), true), Checked::Wrong);
            assert_eq!(check(&kept, password, cost(), false), Checked::Renew, "{hash}");
        }
        let argon2 = secret("x", cost(), false).expect("made").password.expect("there");
        assert_eq!(check(&imported(&argon2).expect("known"), "x", cost(), true), Checked::Renew);
    }

    #[test]
    fn a_hash_of_other_costs_is_weighed_and_made_anew() {
        let kept = secret("x", cost(), true).expect("made");
        assert_eq!(weigh(&kept, cost()), Weight::Usual);
        for (other, more) in [
            (Cost { memory_kib: 32, ..cost() }, true),
            (Cost { memory_kib: 128, ..cost() }, false),
            (Cost { passes: 2, ..cost() }, false),
        ] {
            assert_eq!(check(&kept, "x", other, true), Checked::Renew);
            assert_eq!(check(&kept, "y", other, true), Checked::Wrong);
            assert_eq!(matches!(weigh(&kept, other), Weight::More(_)), more, "{other:?}");
        }
        let password = |hash: &str| StoredSecret { password: Some(hash.to_owned()), scram: None };
        for hash in [
            "$argon2id$v=19$m=4000000,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA",
            "$argon2id$v=19$m=64,t=1000000,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA",
            "nothing",
        ] {
            // Nothing of it is computed: this would take minutes.
            assert_eq!(weigh(&password(hash), cost()), Weight::Beyond, "{hash}");
            assert_eq!(check(&password(hash), "x", cost(), true), Checked::Wrong, "{hash}");
        }
    }

    #[test]
    fn hashes_that_cannot_be_checked_are_refused_at_once() {
        use PasswordError::{TooExpensive, UnknownHash};
        for (hash, error) in [
            ("", UnknownHash),
            ("x", UnknownHash),
            ("*", UnknownHash),
            ("!", UnknownHash),
            ("$1$salt$hash", UnknownHash),
            ("$2y$10$abcdefghijklmnopqrstuv", UnknownHash),
            ("$y$j9T$abc", UnknownHash),
            ("{PLAIN}x", UnknownHash),
            ("$6$salt$short", UnknownHash),
            ("$argon2id$v=19$m=64,t=1,p=1$bad", UnknownHash),
            ("$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA", UnknownHash),
            ("$argon2id$v=19$m=4000000,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA", TooExpensive),
            (
                "$6$rounds=999999999$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
                TooExpensive,
            ),
        ] {
            assert_eq!(imported(hash), Err(error), "{hash}");
        }
        for (password, error) in
            [("", PasswordError::Empty), ("a\nb", PasswordError::Control), ("a\0b", PasswordError::Control)]
        {
            assert_eq!(secret(password, cost(), true), Err(error));
        }
        assert_eq!(secret(&"x".repeat(2000), cost(), true), Err(PasswordError::TooLong));
    }

    #[test]
    fn keys_of_nobody_are_the_same_each_time_and_of_this_server() {
        let keys = |secret: &[u8], name: &str| keys_of_nobody(secret, name, cost());
        assert_eq!(keys(b"one", "a"), keys(b"one", "a"));
        assert_ne!(keys(b"one", "a").salt, keys(b"one", "b").salt);
        assert_ne!(keys(b"one", "a").salt, keys(b"two", "a").salt);
        let kept = secret("x", cost(), true).expect("made").scram.expect("there");
        let nobody = keys(b"one", "a");
        assert_eq!((nobody.salt.len(), nobody.iterations), (kept.salt.len(), kept.iterations));
    }
}
