//! Record sets: the records of one owner and type in a section of a response, with the signatures over them.

use hickory_proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::{canonical, names};

/// One record set, borrowed from a response.
#[derive(Debug)]
pub(super) struct RrSet<'a> {
    pub(super) owner: Name,
    pub(super) rtype: RecordType,
    /// The records in the order of their canonical data, each once (RFC 4034 6.3).
    pub(super) records: Vec<&'a Record>,
    /// The same records' canonical data.
    pub(super) rdata: Vec<Vec<u8>>,
    pub(super) signatures: Vec<&'a RRSIG>,
}

impl<'a> RrSet<'a> {
    /// The set of this owner and type; `None` where there is no record of it (signatures alone are nothing), or where a
    /// record cannot be written in canonical form.
    pub(super) fn collect(section: &'a [Record], owner: &Name, rtype: RecordType) -> Option<Self> {
        let mut records = Vec::new();
        let mut signatures = Vec::new();
        for record in section.iter().filter(|r| r.name == *owner) {
            match signature(record) {
                Some(rrsig) if rrsig.input().type_covered == rtype => signatures.push(rrsig),
                _ if record.record_type() == rtype => records.push((canonical::rdata(&record.data)?, record)),
                _ => {}
            }
        }
        if records.is_empty() {
            return None;
        }
        records.sort_by(|a, b| a.0.cmp(&b.0));
        records.dedup_by(|a, b| a.0 == b.0);
        let (rdata, records) = records.into_iter().unzip();
        Some(Self { owner: owner.clone(), rtype, records, rdata, signatures })
    }

    /// Every owner of records of this type in a section, each once.
    pub(super) fn owners(section: &'a [Record], rtype: RecordType) -> Vec<Name> {
        let mut owners: Vec<Name> =
            section.iter().filter(|r| r.record_type() == rtype).map(|r| names::normal(&r.name)).collect();
        owners.sort();
        owners.dedup();
        owners
    }

    /// The zones that claim to have signed this set, the deepest first. A signer that is not at or above the owner is no
    /// signer, and a DS record belongs to the parent zone (RFC 4035 5.3.1, 5.2).
    pub(super) fn signers(&self) -> Vec<Name> {
        let mut found = Vec::new();
        for rrsig in &self.signatures {
            let signer = names::normal(&rrsig.input().signer_name);
            if may_sign(&signer, &self.owner, self.rtype) && !found.contains(&signer) {
                found.push(signer);
            }
        }
        found.sort_by_key(|signer| std::cmp::Reverse(names::labels(signer)));
        found
    }

    /// The shortest TTL of the records. One with the top bit set counts as zero (RFC 2181 8).
    pub(super) fn ttl(&self) -> u32 {
        self.records.iter().map(|r| sane_ttl(r.ttl)).min().unwrap_or(0)
    }
}

/// A TTL as received, with the values that RFC 2181 8 declares invalid taken as zero.
pub(super) fn sane_ttl(ttl: u32) -> u32 {
    if ttl > i32::MAX.unsigned_abs() { 0 } else { ttl }
}

/// The signature in a record, if it is one.
pub(super) fn signature(record: &Record) -> Option<&RRSIG> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => Some(rrsig),
        _ => None,
    }
}

/// Whether `signer` may be the zone that holds records of this type at `owner`.
pub(super) fn may_sign(signer: &Name, owner: &Name, rtype: RecordType) -> bool {
    if rtype == RecordType::DS && !owner.is_root() {
        names::is_below(owner, signer)
    } else {
        signer.zone_of(owner)
    }
}

/// The name whose zone holds records of this type at `owner`: the parent for a DS record.
pub(super) fn holder(owner: &Name, rtype: RecordType) -> Name {
    if rtype == RecordType::DS { names::parent(owner) } else { owner.clone() }
}
