//! What the validator has proven of the zones above a name, for whoever wants to see the chain of trust.
//!
//! It reads the cache and asks nothing: what was not needed yet, or did not hold, is not there.

use hickory_proto::rr::Name;

use super::Validator;
use super::cache::Cut;
use super::names;

/// One zone on the way from the root to a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownZone {
    /// Its apex.
    pub zone: Name,
    /// What is proven of it.
    pub proof: ZoneProof,
}

/// What is proven of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ZoneProof {
    /// Its keys are validated; their tags.
    Keys(Vec<u16>),
    /// Its DS records are, with these key tags; no key of it is yet, or none held.
    Delegated(Vec<u16>),
    /// It is proven to be unsigned; how.
    Insecure(String),
}

impl Validator {
    /// The zones at and above a name as far as they are known at a time in unix seconds, the root first.
    pub fn zones(&self, name: &Name, now_unix: u64) -> Vec<KnownZone> {
        let name = names::normal(name);
        let mut cache = self.cache();
        let mut found = Vec::new();
        for count in 0..=names::labels(&name) {
            let zone = names::ancestor(&name, count);
            let proof = match (cache.keys(&zone, now_unix), cache.cut(&zone, now_unix)) {
                (Some(keys), _) => ZoneProof::Keys(keys.keys.iter().map(|(tag, _)| *tag).collect()),
                (None, Some((Cut::Secure(ds), _))) => {
                    ZoneProof::Delegated(ds.iter().map(hickory_proto::dnssec::rdata::DS::key_tag).collect())
                }
                (None, Some((Cut::Insecure(how), _))) => ZoneProof::Insecure(how.to_string()),
                (None, Some((Cut::None, _)) | None) => continue,
            };
            let is_end = matches!(proof, ZoneProof::Insecure(_));
            found.push(KnownZone { zone, proof });
            if is_end {
                break;
            }
        }
        found
    }
}
