//! What a proof of non-existence says, and the rule for type bitmaps that NSEC and NSEC3 share.

use std::sync::Arc;

use hickory_proto::dnssec::rdata::{DNSSECRData, NSEC, NSEC3};
use hickory_proto::rr::{Name, RData, RecordType, RecordTypeSet};

use super::cache::ZoneKeys;
use super::lookup::{Eval, Lookup, Section, Stop};
use super::nsec::{self, Nsec};
use super::nsec3::{self, Nsec3, Refused};
use super::reply::Reply;
use super::rrset::{self, RrSet};
use super::signature::{Fault, Verified};
use super::{Limits, chain, names};
use crate::dnssec::Kind;

/// What was proven not to exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// The name does not exist.
    NxDomain,
    /// The type does not exist at the name.
    NoData {
        /// The name is, or under opt-out may be, a delegation without DS records. Only a question for DS learns this.
        delegation: bool,
    },
}

/// A validated proof of non-existence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proven {
    pub(super) proof: Proof,
    /// An NSEC3 record with the opt-out flag was needed, so an unsigned delegation may lie there: the denial is insecure
    /// (RFC 5155 9.2).
    pub(super) opt_out: bool,
}

impl Proven {
    pub(super) fn kind(self) -> Kind {
        match self.proof {
            Proof::NxDomain => Kind::NxDomain,
            Proof::NoData { .. } => Kind::NoData,
        }
    }
}

/// Whether the types listed at `name` deny `rtype` there. `Some(true)` where the name is a delegation without DS.
///
/// A record of the parent's side of a delegation (NS without SOA) speaks of DS alone, and one of the child's apex (SOA) of
/// everything but DS (RFC 4035 5.2, RFC 6840 4.1 and 4.4). A name that is an alias denies nothing but the type CNAME
/// (RFC 6840 4.3).
pub(super) fn bitmap_denies(types: &RecordTypeSet, rtype: RecordType, name: &Name) -> Option<bool> {
    if types.contains(rtype) || (types.contains(RecordType::CNAME) && rtype != RecordType::CNAME) {
        return None;
    }
    let parent_side = types.contains(RecordType::NS) && !types.contains(RecordType::SOA);
    if rtype == RecordType::DS {
        let child_side = types.contains(RecordType::SOA) && !name.is_root();
        return (!child_side).then_some(parent_side);
    }
    (!parent_side).then_some(false)
}

impl Lookup {
    /// The zones that claim to have signed proofs for `name`, the deepest first.
    pub(super) fn denial_signers(&self, reply: &Reply, name: &Name) -> Vec<Name> {
        let mut found = Vec::new();
        for rrsig in reply.authorities.iter().filter_map(rrset::signature) {
            let covered = rrsig.input().type_covered;
            let signer = names::normal(&rrsig.input().signer_name);
            if matches!(covered, RecordType::NSEC | RecordType::NSEC3 | RecordType::SOA)
                && rrset::may_sign(&signer, name, self.rtype)
                && !found.contains(&signer)
            {
                found.push(signer);
            }
        }
        found.sort_by_key(|signer| std::cmp::Reverse(names::labels(signer)));
        found.truncate(self.validator.limits().signers_per_set);
        found
    }

    /// What the zone's validated NSEC or NSEC3 records prove about `rtype` at `name`, and for how many seconds.
    pub(super) fn proven_denial(
        &mut self,
        name: &Name,
        rtype: RecordType,
        reply: &Arc<Reply>,
        zone: &Arc<ZoneKeys>,
    ) -> Eval<Option<(Proven, u32)>> {
        let (evidence, ttl) = self.evidence(reply, zone)?;
        if let Some(proven) = nsec::prove(name, rtype, &zone.zone, &evidence.nsec()) {
            return Ok(Some((proven, ttl)));
        }
        let records = evidence.nsec3(&zone.zone);
        let limits = self.validator.limits().clone();
        let refuse = |refused| refused_stop(name, &zone.zone, refused, &limits);
        let Some(mut chain) =
            nsec3::Chain::new(&zone.zone, &records, &limits, &mut self.work).map_err(refuse)?
        else {
            return Ok(None);
        };
        Ok(chain.prove(name, rtype).map_err(refuse)?.map(|proven| (proven, ttl)))
    }

    /// Whether the zone proves that nothing is closer to `name` than its ancestor with `encloser` labels. True with it
    /// where that rests on an opt-out record; and for how many seconds.
    pub(super) fn wildcard_proof(
        &mut self,
        name: &Name,
        encloser: usize,
        reply: &Arc<Reply>,
        zone: &Arc<ZoneKeys>,
    ) -> Eval<Option<(bool, u32)>> {
        let (evidence, ttl) = self.evidence(reply, zone)?;
        if nsec::proves_wildcard(name, encloser, &zone.zone, &evidence.nsec()) {
            return Ok(Some((false, ttl)));
        }
        let records = evidence.nsec3(&zone.zone);
        let limits = self.validator.limits().clone();
        let refuse = |refused| refused_stop(name, &zone.zone, refused, &limits);
        let Some(mut chain) =
            nsec3::Chain::new(&zone.zone, &records, &limits, &mut self.work).map_err(refuse)?
        else {
            return Ok(None);
        };
        Ok(chain.proves_wildcard(name, encloser).map_err(refuse)?.map(|opt_out| (opt_out, ttl)))
    }

    /// The zone's own NSEC and NSEC3 records in a response whose signatures hold. Others do not exist.
    fn evidence(&mut self, reply: &Arc<Reply>, zone: &Arc<ZoneKeys>) -> Eval<(Evidence, u32)> {
        let mut evidence = Evidence::default();
        let mut ttl = self.soa_ttl(reply, zone)?.unwrap_or(u32::MAX);
        for rtype in [RecordType::NSEC, RecordType::NSEC3] {
            for owner in self.proof_owners(reply, rtype, zone) {
                let Some(set) = RrSet::collect(&reply.authorities, &owner, rtype) else { continue };
                let Some(verified) = self.verified_proof(reply, &set, zone)? else { continue };
                ttl = ttl.min(verified.ttl);
                for record in &set.records {
                    evidence.add(&owner, &record.data);
                }
            }
        }
        Ok((evidence, if ttl == u32::MAX { 0 } else { ttl }))
    }

    /// The owners of the zone's NSEC or NSEC3 records in a response, no more than are looked at.
    fn proof_owners(&self, reply: &Reply, rtype: RecordType, zone: &ZoneKeys) -> Vec<Name> {
        let mut owners = RrSet::owners(&reply.authorities, rtype);
        owners.retain(|owner| zone.zone.zone_of(owner));
        owners.truncate(self.validator.limits().proofs_per_response);
        owners
    }

    /// Verifies a set of the authority section; `None` where it does not hold or was expanded from a wildcard.
    fn verified_proof(
        &mut self,
        reply: &Arc<Reply>,
        set: &RrSet<'_>,
        zone: &Arc<ZoneKeys>,
    ) -> Eval<Option<Verified>> {
        match self.verify(reply, Section::Authority, set, zone) {
            Ok(verified) if verified.wildcard.is_none() => Ok(Some(verified)),
            Err(fault @ Fault::Limit(_)) => Err(chain::fault_stop(set, &zone.zone, &fault)),
            _ => Ok(None),
        }
    }

    /// How long the zone lets its denials be kept (RFC 2308 5), if its SOA record is there and holds.
    fn soa_ttl(&mut self, reply: &Arc<Reply>, zone: &Arc<ZoneKeys>) -> Eval<Option<u32>> {
        let Some(set) = RrSet::collect(&reply.authorities, &zone.zone, RecordType::SOA) else {
            return Ok(None);
        };
        let minimum = set.records.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(soa.minimum),
            _ => None,
        });
        let verified = self.verified_proof(reply, &set, zone)?;
        Ok(verified.and_then(|verified| minimum.map(|minimum| verified.ttl.min(minimum))))
    }

    /// Why a denial that the zone owes is not proven: a broken signature if there is one, else that the records do not fit.
    pub(super) fn unproven(
        &mut self,
        name: &Name,
        rtype: RecordType,
        reply: &Arc<Reply>,
        zone: &Arc<ZoneKeys>,
    ) -> Stop {
        for proof_type in [RecordType::NSEC, RecordType::NSEC3] {
            for owner in self.proof_owners(reply, proof_type, zone) {
                let Some(set) = RrSet::collect(&reply.authorities, &owner, proof_type) else { continue };
                if let Err(fault) = self.verify(reply, Section::Authority, &set, zone)
                    && fault > Fault::Malformed
                {
                    return chain::fault_stop(&set, &zone.zone, &fault);
                }
            }
        }
        Stop::Bogus(format!(
            "{} is signed, but there is no valid proof that {name} has no {rtype} records (RFC 4035 5.4): the zone's \
             signing is broken, or a resolver on the way strips the proofs",
            chain::zone_text(&zone.zone)
        ))
    }
}

/// Validated NSEC and NSEC3 records, owned so that the lookup stays free for the proofs.
#[derive(Debug, Default)]
struct Evidence {
    nsec: Vec<(Name, NSEC)>,
    nsec3: Vec<(Name, NSEC3)>,
}

impl Evidence {
    fn add(&mut self, owner: &Name, data: &RData) {
        match data {
            RData::DNSSEC(DNSSECRData::NSEC(nsec)) => self.nsec.push((owner.clone(), nsec.clone())),
            RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => self.nsec3.push((owner.clone(), nsec3.clone())),
            _ => {}
        }
    }

    fn nsec(&self) -> Vec<Nsec<'_>> {
        self.nsec.iter().map(|(owner, data)| Nsec { owner, data }).collect()
    }

    fn nsec3(&self, zone: &Name) -> Vec<Nsec3<'_>> {
        self.nsec3.iter().filter_map(|(owner, data)| Nsec3::new(owner, data, zone)).collect()
    }
}

/// A proof that is not looked at makes the answer unavailable: were it taken for insecure, whoever can raise the iterations of a
/// zone could switch DANE off (RFC 9276 3.2 leaves the choice).
fn refused_stop(name: &Name, zone: &Name, refused: Refused, limits: &Limits) -> Stop {
    let zone = chain::zone_text(zone);
    Stop::Unavailable(match refused {
        Refused::Iterations(count) => format!(
            "{zone} denies {name} with {count} NSEC3 iterations, more than the {} that are computed (RFC 9276 3.2): its \
             operator should set them to 0",
            limits.nsec3_iterations
        ),
        Refused::Work => {
            format!("the NSEC3 proof about {name} in {zone} costs more work than one lookup may do")
        }
    })
}
