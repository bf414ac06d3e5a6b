//! Making an RSA-2048 key, which ring signs with and does not make.
//!
//! The primes come from crypto-primes; what is put together here (RFC 8017 3.2, A.1.2) is checked as a whole by the
//! library that signs with it before anybody sees it.

use crypto_bigint::{NonZero, Odd, U1024, U2048};
use crypto_primes::{Flavor, random_prime};
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;

/// The public exponent.
const E: u32 = 65_537;

/// Bits of each prime.
const PRIME_BITS: u32 = 1024;

/// The least first octet of a prime: with both so large the modulus has all its bits (FIPS 186-5 A.1.1).
const LEAST_FIRST_OCTET: u8 = 0xC0;

/// Primes that do not fit before the random source is taken to be broken.
const MAX_TRIES: usize = 1000;

/// A private key in PKCS #1 form (DER). Takes up to some seconds.
pub(super) fn make() -> Option<Vec<u8>> {
    let (mut p, mut q) = (prime()?, prime()?);
    if p < q {
        std::mem::swap(&mut p, &mut q);
    }
    let (e, less) = (U1024::from(E), |x: &U1024| x.wrapping_sub(&U1024::ONE));
    let n: U2048 = p.concatenating_mul(&q);
    let totient: U2048 = less(&p).concatenating_mul(&less(&q));
    let d = U2048::from(E).invert_mod(&Option::from(NonZero::new(totient))?);
    let d: U2048 = Option::from(d)?;
    let inverse = |of: &U1024, modulus: U1024| -> Option<U1024> {
        let modulus: NonZero<U1024> = Option::from(NonZero::new(modulus))?;
        Option::from(of.invert_mod(&modulus))
    };
    let (dp, dq) = (inverse(&e, less(&p))?, inverse(&e, less(&q))?);
    let modulus: Odd<U1024> = Option::from(Odd::new(p))?;
    let qinv: U1024 = Option::from(q.invert_odd_mod(&modulus))?;
    let large = [n.to_be_bytes(), U2048::from(E).to_be_bytes(), d.to_be_bytes()];
    let small = [p, q, dp, dq, qinv].map(|number| number.to_be_bytes());
    let mut content = tlv(0x02, &[0]);
    large.iter().for_each(|number| content.extend(integer(number.as_ref())));
    small.iter().for_each(|number| content.extend(integer(number.as_ref())));
    Some(tlv(0x30, &content))
}

/// A prime that is large enough and fits the exponent.
fn prime() -> Option<U1024> {
    let mut random = UnwrapErr(SysRng);
    for _ in 0..MAX_TRIES {
        let prime: U1024 = random_prime(&mut random, Flavor::Any, PRIME_BITS);
        let less: NonZero<U1024> = Option::from(NonZero::new(prime.wrapping_sub(&U1024::ONE)))?;
        let fits: Option<U1024> = Option::from(U1024::from(E).invert_mod(&less));
        let octets = prime.to_be_bytes();
        let first = octets.as_ref().first().copied().unwrap_or_default();
        if first >= LEAST_FIRST_OCTET && fits.is_some() {
            return Some(prime);
        }
    }
    None
}

/// A positive INTEGER of DER (X.690 8.3).
fn integer(octets: &[u8]) -> Vec<u8> {
    let start = octets.iter().position(|octet| *octet != 0).unwrap_or(octets.len());
    let mut value = octets.get(start..).unwrap_or_default().to_vec();
    if value.first().is_none_or(|first| first & 0x80 != 0) {
        value.insert(0, 0);
    }
    tlv(0x02, &value)
}

/// Tag, length, value (X.690 8.1.3).
pub(super) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut octets = vec![tag];
    match length {
        [0, short @ ..0x80] => octets.push(short),
        [0, one] => octets.extend([0x81, one]),
        [high, low] => octets.extend([0x82, high, low]),
    }
    octets.extend_from_slice(value);
    octets
}
