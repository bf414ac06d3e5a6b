//! Proofs by NSEC records (RFC 4034 4, RFC 4035 5.4, RFC 6840 4). Pure: every record given here was validated with the
//! keys of `zone`, and was not expanded from a wildcard.

use hickory_proto::dnssec::rdata::NSEC;
use hickory_proto::rr::{Name, RecordType};

use super::denial::{Proof, Proven};
use super::names;

/// The pseudo-type by which a server that signs on the fly says that the name does not exist, in a record made for that
/// very name (RFC 9824 3).
const NXNAME: RecordType = RecordType::Unknown(128);

/// One validated NSEC record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nsec<'a> {
    pub(super) owner: &'a Name,
    pub(super) data: &'a NSEC,
}

/// What the records prove about records of `rtype` at `name`, if anything.
pub(super) fn prove(name: &Name, rtype: RecordType, zone: &Name, records: &[Nsec<'_>]) -> Option<Proven> {
    if let Some(at_name) = records.iter().find(|r| r.owner == name) {
        if at_name.data.type_set().contains(NXNAME) {
            return Some(Proven { proof: Proof::NxDomain, opt_out: false });
        }
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

#[cfg(test)]
mod tests {
    use hickory_proto::rr::RecordType::{A, CNAME, DNAME, DS, MX, NS, RRSIG, SOA, TLSA};

    use super::*;

    fn n(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    /// Judges a question by records "owner next types".
    fn judge(name: &str, rtype: RecordType, records: &[(&str, &str, &[RecordType])]) -> Option<Proof> {
        let owned: Vec<(Name, NSEC)> = records
            .iter()
            .map(|(owner, next, types)| (n(owner), NSEC::new(n(next), types.iter().copied())))
            .collect();
        let records: Vec<Nsec<'_>> = owned.iter().map(|(owner, data)| Nsec { owner, data }).collect();
        prove(&n(name), rtype, &n("z."), &records).map(|proven| proven.proof)
    }

    const NODATA: Option<Proof> = Some(Proof::NoData { delegation: false });
    const DELEGATION: Option<Proof> = Some(Proof::NoData { delegation: true });

    #[test]
    fn a_record_at_the_name_denies_what_it_does_not_list() {
        assert_eq!(judge("a.z.", TLSA, &[("a.z.", "b.z.", &[A, MX])]), NODATA);
        assert_eq!(judge("a.z.", MX, &[("a.z.", "b.z.", &[A, MX])]), None);
        assert_eq!(
            judge("a.z.", MX, &[("a.z.", "b.z.", &[CNAME])]),
            None,
            "an alias denies nothing (RFC 6840 4.3)"
        );
        assert_eq!(judge("a.z.", CNAME, &[("a.z.", "b.z.", &[A])]), NODATA);
        assert_eq!(
            judge("a.z.", A, &[("a.z.", "b.z.", &[DNAME])]),
            NODATA,
            "a DNAME's owner is a name like others"
        );
        assert_eq!(
            judge("a.z.", MX, &[("a.z.", "b.z.", &[NXNAME, RRSIG])]),
            Some(Proof::NxDomain),
            "RFC 9824 3"
        );
    }

    #[test]
    fn each_side_of_a_delegation_speaks_for_itself() {
        let cut: (&str, &str, &[RecordType]) = ("a.z.", "b.z.", &[NS, RRSIG]);
        assert_eq!(judge("a.z.", MX, &[cut]), None, "the parent does not deny what the child holds");
        assert_eq!(judge("a.z.", DS, &[cut]), DELEGATION);
        assert_eq!(judge("x.a.z.", MX, &[cut]), None, "nor what lies below (RFC 6840 4.1)");
        assert_eq!(judge("x.a.z.", DS, &[cut]), None);
        assert_eq!(
            judge("a.z.", DS, &[("a.z.", "b.z.", &[NS, SOA])]),
            None,
            "the child does not deny the DS"
        );
        assert_eq!(judge("a.z.", DS, &[("a.z.", "b.z.", &[NS, DS])]), None);
        assert_eq!(judge("a.z.", DS, &[("a.z.", "b.z.", &[A])]), NODATA);
        assert_eq!(judge("x.a.z.", MX, &[("a.z.", "b.z.", &[DNAME])]), None, "nothing is below a DNAME");
    }

    #[test]
    fn a_name_error_needs_name_and_wildcard_covered() {
        let apex: (&str, &str, &[RecordType]) = ("z.", "a.z.", &[NS, SOA]);
        let gap: (&str, &str, &[RecordType]) = ("b.z.", "d.z.", &[A]);
        assert_eq!(judge("c.z.", A, &[gap, apex]), Some(Proof::NxDomain));
        assert_eq!(judge("c.z.", A, &[gap]), None, "the wildcard may exist");
        assert_eq!(judge("c.z.", A, &[apex]), None);
        assert_eq!(judge("c.z.", A, &[gap, ("*.z.", "b.z.", &[MX])]), NODATA, "the wildcard lacks the type");
        assert_eq!(
            judge("c.z.", A, &[gap, ("*.z.", "b.z.", &[A])]),
            None,
            "the wildcard would have answered"
        );
        assert_eq!(judge("x.c.z.", A, &[gap, apex]), Some(Proof::NxDomain));
        assert_eq!(judge("b.z.", A, &[("a.z.", "x.b.z.", &[A])]), NODATA, "an empty non-terminal");
        assert_eq!(judge("c.z.", A, &[gap, ("z.", "x.*.z.", &[NS, SOA])]), NODATA, "an empty wildcard");
    }

    #[test]
    fn the_last_record_points_to_the_apex_and_no_other_points_back() {
        let last: (&str, &str, &[RecordType]) = ("m.z.", "z.", &[A]);
        let apex: (&str, &str, &[RecordType]) = ("z.", "a.z.", &[NS, SOA]);
        assert_eq!(judge("x.z.", A, &[last, apex]), Some(Proof::NxDomain));
        assert_eq!(judge("x.z.", A, &[("m.z.", "b.z.", &[A]), apex]), None, "backwards");
        assert_eq!(judge("c.z.", A, &[last, apex]), None, "before its owner");
        assert_eq!(
            judge("x.z.", A, &[("z.", "z.", &[NS, SOA])]),
            Some(Proof::NxDomain),
            "a zone of one name"
        );
        assert_eq!(judge("x.z.", A, &[("m.z.", "q.y.", &[A]), apex]), None, "a next name outside the zone");
        assert_eq!(judge("x.y.", A, &[("m.y.", "z.", &[A]), apex]), None, "a name outside the zone");
        assert_eq!(judge("x.z.", A, &[("m.z.", "q.zz.", &[A]), apex]), None, "a next name behind the zone");
        assert_eq!(judge("x.zz.", A, &[last, apex]), None, "a name behind the zone");
    }

    #[test]
    fn a_wildcard_answer_needs_the_very_encloser() {
        let proves = |name: &str, labels, owner: &str, next: &str, types: &[RecordType]| {
            let (owner, data) = (n(owner), NSEC::new(n(next), types.iter().copied()));
            proves_wildcard(&n(name), labels, &n("z."), &[Nsec { owner: &owner, data: &data }])
        };
        assert!(proves("x.w.z.", 2, "*.w.z.", "y.w.z.", &[A]));
        assert!(proves("q.x.w.z.", 2, "*.w.z.", "y.w.z.", &[A]));
        assert!(!proves("x.w.z.", 2, "*.w.z.", "q.x.w.z.", &[A]), "the name exists, empty");
        assert!(!proves("x.w.z.", 2, "x.w.z.", "y.w.z.", &[A]), "the name exists");
        assert!(!proves("q.x.w.z.", 2, "x.w.z.", "y.w.z.", &[A]), "something closer exists");
        assert!(!proves("q.x.w.z.", 2, "a.x.w.z.", "y.w.z.", &[A]), "something closer exists, empty");
        assert!(!proves("q.x.w.z.", 2, "*.w.z.", "z.x.w.z.", &[A]), "something closer exists after it");
    }
}
