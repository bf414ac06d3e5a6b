//! Proofs by NSEC records (RFC 4034 4, RFC 4035 5.4, RFC 6840 4). Pure: every record given here was validated with the
//! keys of `zone`, and was not expanded from a wildcard.

use hickory_proto::dnssec::rdata::NSEC;
use hickory_proto::rr::{Name, RecordType};

use super::denial::{Proof, Proven};
use super::names;

/// One validated NSEC record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nsec<'a> {
    pub(super) owner: &'a Name,
    pub(super) data: &'a NSEC,
}

/// What the records prove about records of `rtype` at `name`, if anything.
pub(super) fn prove(name: &Name, rtype: RecordType, zone: &Name, records: &[Nsec<'_>]) -> Option<Proven> {
    if let Some(at_name) = records.iter().find(|r| r.owner == name) {
        return at_name
            .denies(rtype, name)
            .map(|delegation| Proven { proof: Proof::NoData { delegation }, opt_out: false });
    }
    let cover = records.iter().find(|r| r.covers(name, zone))?;
    if names::is_below(cover.data.next_domain_name(), name) {
        // Names exist below it, so the name exists and has no records: an empty non-terminal.
        return Some(Proven { proof: Proof::NoData { delegation: false }, opt_out: false });
    }
    let encloser = names::ancestor(name, cover.encloser_labels(name));
    let wildcard = names::wildcard_below(&encloser)?;
    if let Some(at_wildcard) = records.iter().find(|r| *r.owner == wildcard) {
        // The wildcard would have answered, and does not have the type (RFC 4035 3.1.3.4).
        at_wildcard.denies(rtype, &wildcard)?;
        return Some(Proven { proof: Proof::NoData { delegation: false }, opt_out: false });
    }
    let wildcard_cover = records.iter().find(|r| r.covers(&wildcard, zone))?;
    let empty = names::is_below(wildcard_cover.data.next_domain_name(), &wildcard);
    let proof = if empty { Proof::NoData { delegation: false } } else { Proof::NxDomain };
    Some(Proven { proof, opt_out: false })
}

/// Whether the records prove that `name` does not exist and that nothing is closer to it than the name with
/// `encloser` labels: what an answer from the wildcard below that name owes (RFC 4035 5.3.4).
pub(super) fn proves_wildcard(name: &Name, encloser: usize, zone: &Name, records: &[Nsec<'_>]) -> bool {
    records.iter().any(|r| {
        r.covers(name, zone)
            && !names::is_below(r.data.next_domain_name(), name)
            && r.encloser_labels(name) == encloser
    })
}

impl Nsec<'_> {
    /// Whether this record, standing at `name`, denies the type there. `Some(true)` where the name is a delegation to an
    /// unsigned zone, which only a question for DS may learn (RFC 6840 4.1).
    fn denies(&self, rtype: RecordType, name: &Name) -> Option<bool> {
        super::denial::bitmap_denies(self.data.type_set(), rtype, name)
    }

    /// Whether `name` lies strictly between this record's owner and the next name, and this record may speak of it.
    fn covers(&self, name: &Name, zone: &Name) -> bool {
        let next = self.data.next_domain_name();
        if !zone.zone_of(name) || !zone.zone_of(next) {
            return false;
        }
        // Below a delegation another zone begins, below a DNAME nothing is (RFC 6840 4.1).
        if names::is_below(name, self.owner) && self.data.is_ancestor_delegation() {
            return false;
        }
        if self.owner < next {
            self.owner < name && name < next
        } else {
            // The last record of a zone points back to the apex; any other that points backwards is no NSEC of this zone.
            next == zone && self.owner < name
        }
    }

    /// How many labels the closest encloser of a covered name has: the deepest name that this record shows to exist.
    fn encloser_labels(&self, name: &Name) -> usize {
        names::shared_labels(name, self.owner).max(names::shared_labels(name, self.data.next_domain_name()))
    }
}
