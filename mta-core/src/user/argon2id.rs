//! argon2id (RFC 9106) whose memory goes back to the system after each hash.
//!
//! What it does: makes and checks hashes through the library, in memory that is handed to it. What it does not: it sets no
//! cost. glibc learns from a large block that is freed to keep the next ones, in one heap for each thread: with 19 MiB a hash,
//! a server on which sixteen threads once checked a password would hold 300 MiB for as long as it runs. Blocks beyond
//! 32 MiB are always mapped for themselves and given back (mallopt(3), `M_MMAP_THRESHOLD`), so a smaller one is reserved that
//! large; what is reserved and never touched costs nothing.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};

/// Blocks beyond what the allocator may keep: 33 MiB.
const ALWAYS_MAPPED: usize = (33 << 20) / Block::SIZE;

#[cfg(test)]
thread_local! {
    /// What was computed on this thread, in KiB times passes.
    pub(super) static WORK: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// The memory of one hash.
fn memory(blocks: usize) -> Vec<Block> {
    let mut memory = Vec::with_capacity(blocks.max(ALWAYS_MAPPED));
    memory.resize(blocks, Block::new());
    memory
}

/// The octets of a hash. `None` where the library refuses what it is made of.
fn derive(argon2: &Argon2<'_>, password: &[u8], salt: &[u8]) -> Option<Output> {
    let octets = argon2.params().output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
    let mut out = vec![0; octets];
    #[cfg(test)]
    WORK.set(WORK.get() + u64::from(argon2.params().m_cost()) * u64::from(argon2.params().t_cost()));
    let memory = memory(argon2.params().block_count());
    argon2.hash_password_into_with_memory(password, salt, &mut out, memory).ok()?;
    Output::new(&out).ok()
}

/// The hash of a password. `None` where the library refuses the salt or the cost.
pub(super) fn hash(password: &[u8], salt: &[u8], params: Params) -> Option<PasswordHash> {
    let described = ParamsString::try_from(&params).ok()?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    Some(PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: described,
        salt: Some(Salt::new(salt).ok()?),
        hash: Some(derive(&argon2, password, salt)?),
    })
}

/// Whether a hash is of this password, compared in constant time. A hash that cannot be checked is of none.
pub(super) fn is_of(hash: &PasswordHash, password: &[u8]) -> bool {
    let computed = || {
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        let version = hash.version.map(Version::try_from).transpose().ok()?.unwrap_or_default();
        let params = Params::try_from(hash).ok()?;
        derive(&Argon2::new(algorithm, version, params), password, hash.salt.as_ref()?)
    };
    // Two that are missing are not the same.
    hash.hash.as_ref().is_some_and(|kept| computed().is_some_and(|computed| computed == *kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::PasswordVerifier as _;

    #[test]
    fn the_hashes_are_those_of_the_library() {
        let params = || Params::new(64, 2, 1, None).expect("parameters");
        let made = hash(b"x", b"saltsaltsaltsalt", params()).expect("a hash");
        let mut out = [0; 32];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params());
        argon2.hash_password_into(b"x", b"saltsaltsaltsalt", &mut out).expect("a hash");
        assert_eq!(made.hash.as_ref().map(AsRef::as_ref), Some(&out[..]));
        assert!(Argon2::default().verify_password(b"x", &made).is_ok(), "{made}");
        assert!(is_of(&made, b"x") && !is_of(&made, b"y"));
        let read = PasswordHash::new(&made.to_string()).expect("as it is kept");
        assert!(is_of(&read, b"x") && !is_of(&read, b""));
        assert!(!is_of(&PasswordHash { hash: None, ..read }, b"x"), "without a hash nothing is right");
    }

    #[test]
    fn small_memory_is_reserved_beyond_what_the_allocator_keeps() {
        assert!(memory(64).capacity() * Block::SIZE > 32 << 20);
        assert_eq!(memory(64).len(), 64);
    }
}
