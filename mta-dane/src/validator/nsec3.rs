//! Proofs by NSEC3 records (RFC 5155 8, RFC 6840 4, RFC 9276). Pure: every record given here was validated with the keys of
//! `zone`, and was not expanded from a wildcard.

use std::collections::HashMap;

use hickory_proto::dnssec::Nsec3HashAlgorithm;
use hickory_proto::dnssec::rdata::NSEC3;
use hickory_proto::rr::{Name, RecordType};

use super::denial::{Proof, Proven, bitmap_denies};
use super::limits::{Limits, Work};
use super::names;

/// The length of a SHA-1 hash in bytes, the only one there is.
const HASH_LENGTH: usize = 20;

/// One validated NSEC3 record with the hash that its owner name is.
#[derive(Debug, Clone)]
pub(super) struct Nsec3<'a> {
    hash: Vec<u8>,
    data: &'a NSEC3,
}

impl<'a> Nsec3<'a> {
    /// Reads the hash from the owner name, which lies directly below the zone's apex. `None` where it does not, or where
    /// the hashes have the wrong length.
    pub(super) fn new(owner: &Name, data: &'a NSEC3, zone: &Name) -> Option<Self> {
        if names::parent(owner) != *zone || owner.is_root() {
            return None;
        }
        let hash = base32hex(owner.iter().next()?)?;
        (hash.len() == HASH_LENGTH && data.next_hashed_owner_name().len() == HASH_LENGTH)
            .then_some(Self { hash, data })
    }
}

/// Why nothing can be said, rather than that nothing is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// More iterations than the limit (RFC 9276 3.2).
    Iterations(u16),
    /// The lookup's budget of hash operations is used up.
    Work,
}

/// The records of one zone in one response, with the hashes that were computed already.
pub(super) struct Chain<'r, 'a> {
    zone: &'r Name,
    /// Only records with the parameters of the first: a response uses one set of them (RFC 5155 8.2).
    records: Vec<&'r Nsec3<'a>>,
    iterations: u16,
    salt: &'r [u8],
    hashes: HashMap<Name, Vec<u8>>,
    work: &'r mut Work,
}

impl<'r, 'a> Chain<'r, 'a> {
    /// # Errors
    /// Too many iterations. `Ok(None)` where there is no record.
    pub(super) fn new(
        zone: &'r Name,
        records: &'r [Nsec3<'a>],
        limits: &Limits,
        work: &'r mut Work,
    ) -> Result<Option<Self>, Refused> {
        if let Some(high) = records.iter().map(|r| r.data.iterations()).find(|i| *i > limits.nsec3_iterations)
        {
            return Err(Refused::Iterations(high));
        }
        let Some(first) = records.first() else { return Ok(None) };
        let (iterations, salt) = (first.data.iterations(), first.data.salt());
        let records =
            records.iter().filter(|r| r.data.iterations() == iterations && r.data.salt() == salt).collect();
        Ok(Some(Self { zone, records, iterations, salt, hashes: HashMap::new(), work }))
    }

    /// What the records prove about records of `rtype` at `name`, if anything.
    pub(super) fn prove(&mut self, name: &Name, rtype: RecordType) -> Result<Option<Proven>, Refused> {
        if let Some(at_name) = self.matching(name)? {
            let denied = bitmap_denies(at_name.data.type_set(), rtype, name);
            return Ok(
                denied.map(|delegation| Proven { proof: Proof::NoData { delegation }, opt_out: false })
            );
        }
        let Some((encloser, next_closer)) = self.encloser(name)? else { return Ok(None) };
        let opt_out = next_closer.data.opt_out();
        if opt_out && rtype == RecordType::DS {
            // The name may be an unsigned delegation that was left out (RFC 5155 8.6).
            return Ok(Some(Proven { proof: Proof::NoData { delegation: true }, opt_out }));
        }
        let Some(wildcard) = names::wildcard_below(&encloser) else { return Ok(None) };
        if let Some(at_wildcard) = self.matching(&wildcard)? {
            let denied = bitmap_denies(at_wildcard.data.type_set(), rtype, &wildcard);
            return Ok(denied.map(|_| Proven { proof: Proof::NoData { delegation: false }, opt_out }));
        }
        Ok(self.covering(&wildcard)?.map(|_| Proven { proof: Proof::NxDomain, opt_out }))
    }

    /// Whether the records prove that nothing is closer to `name` than the name with `encloser` labels (RFC 5155 8.8):
    /// the next closer name is covered. `Some(true)` where the covering record has the opt-out flag.
    pub(super) fn proves_wildcard(&mut self, name: &Name, encloser: usize) -> Result<Option<bool>, Refused> {
        let next_closer = names::ancestor(name, encloser + 1);
        Ok(self.covering(&next_closer)?.map(|cover| cover.data.opt_out()))
    }

    /// The closest provable encloser of `name` and the record that covers the next closer name (RFC 5155 8.3).
    fn encloser(&mut self, name: &Name) -> Result<Option<(Name, &'r Nsec3<'a>)>, Refused> {
        let apex = names::labels(self.zone);
        for count in (apex..names::labels(name)).rev() {
            let candidate = names::ancestor(name, count);
            let Some(found) = self.matching(&candidate)? else { continue };
            if found.data.is_ancestor_delegation() {
                // Another zone begins there, or nothing is below it.
                return Ok(None);
            }
            let next_closer = names::ancestor(name, count + 1);
            return Ok(self.covering(&next_closer)?.map(|cover| (candidate, cover)));
        }
        Ok(None)
    }

    fn matching(&mut self, name: &Name) -> Result<Option<&'r Nsec3<'a>>, Refused> {
        let hash = self.hash(name)?;
        Ok(self.records.iter().find(|r| r.hash == hash).copied())
    }

    fn covering(&mut self, name: &Name) -> Result<Option<&'r Nsec3<'a>>, Refused> {
        let hash = self.hash(name)?;
        Ok(self.records.iter().find(|r| covers(&r.hash, r.data.next_hashed_owner_name(), &hash)).copied())
    }

    fn hash(&mut self, name: &Name) -> Result<Vec<u8>, Refused> {
        if let Some(hash) = self.hashes.get(name) {
            return Ok(hash.clone());
        }
        if !self.work.nsec3_hash(self.iterations) {
            return Err(Refused::Work);
        }
        let hash = Nsec3HashAlgorithm::SHA1
            .hash(self.salt, name, self.iterations)
            .map(|digest| digest.as_ref().to_vec())
            .map_err(|_| Refused::Work)?;
        self.hashes.insert(name.clone(), hash.clone());
        Ok(hash)
    }
}

/// Whether `hash` lies strictly between two neighbours on the ring of hashes.
fn covers(owner: &[u8], next: &[u8], hash: &[u8]) -> bool {
    if owner < next { owner < hash && hash < next } else { owner < hash || hash < next }
}

/// Base32 with the extended hex alphabet and without padding (RFC 4648 7, RFC 5155 3.3), in either case.
fn base32hex(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 5 / 8);
    let mut bits = 0_u32;
    let mut count = 0_u32;
    for c in text {
        let value = match c.to_ascii_lowercase() {
            digit @ b'0'..=b'9' => digit - b'0',
            letter @ b'a'..=b'v' => letter - b'a' + 10,
            _ => return None,
        };
        bits = (bits << 5 | u32::from(value)) & 0xfff;
        count += 5;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32hex_reads_the_vectors_of_rfc_4648() {
        for (text, bytes) in [
            ("", ""),
            ("CO", "f"),
            ("CPNG", "fo"),
            ("CPNMU", "foo"),
            ("cpnmuog", "foob"),
            ("CPNMUOJ1E8", "foobar"),
        ] {
            assert_eq!(base32hex(text.as_bytes()), Some(bytes.as_bytes().to_vec()), "{text}");
        }
        assert_eq!(base32hex(b"W"), None);
    }

    #[test]
    fn only_a_hash_directly_below_the_apex_is_an_owner() {
        let data = NSEC3::new(Nsec3HashAlgorithm::SHA1, false, 0, vec![], vec![0; HASH_LENGTH], []);
        let short = NSEC3::new(Nsec3HashAlgorithm::SHA1, false, 0, vec![], vec![0; 19], []);
        let zone = Name::from_ascii("z.").unwrap();
        let accepted =
            |owner: &str, data| Nsec3::new(&Name::from_ascii(owner).unwrap(), data, &zone).is_some();
        let hash = "0".repeat(32);
        assert!(accepted(&format!("{hash}.z."), &data));
        assert!(
            !accepted(&format!("{hash}.a.z."), &data)
                && !accepted(&format!("{hash}."), &data)
                && !accepted("z.", &data)
        );
        assert!(!accepted(&format!("{hash}.z."), &short) && !accepted(&format!("{}.z.", &hash[1..]), &data));
    }

    #[test]
    fn the_ring_of_hashes_wraps_and_its_ends_are_not_covered() {
        assert!(covers(&[1], &[5], &[3]));
        assert!(!covers(&[1], &[5], &[1]) && !covers(&[1], &[5], &[5]) && !covers(&[1], &[5], &[6]));
        assert!(covers(&[5], &[1], &[6]) && covers(&[5], &[1], &[0]) && !covers(&[5], &[1], &[3]));
        // A single record covers everything except itself.
        assert!(covers(&[5], &[5], &[6]) && !covers(&[5], &[5], &[5]));
    }
}
