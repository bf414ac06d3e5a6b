//! The question itself: from its name along the aliases to records or to a denial, with a status for every hop
//! (RFC 7672 2.1.3, RFC 6672).
//!
//! Only records on that path are looked at; whatever else a response holds does not exist.

use std::sync::Arc;

use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::cache::ZoneKeys;
use super::chain::{Zone, fault_stop, zone_text};
use super::lookup::{Eval, Lookup, Section, Stop};
use super::names;
use super::reply::Reply;
use super::rrset::{RrSet, holder, sane_ttl};
use super::signature::Fault;
use crate::dnssec::{Answer, Hop, Kind, Status};

/// How long an insecure denial without SOA record is reused, in seconds.
const BARE_DENIAL_TTL: u32 = 30;

/// What one record set or denial is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Secure or insecure; errors travel as [`Stop`].
    pub(super) status: Status,
    pub(super) ttl: u32,
    pub(super) reason: Option<String>,
}

impl Verdict {
    fn insecure(reason: impl Into<String>, ttl: u32) -> Self {
        Self { status: Status::Insecure, ttl, reason: Some(reason.into()) }
    }
}

/// The aliases followed so far and what they are worth together.
#[derive(Debug)]
pub(super) struct Trail {
    hops: Vec<Hop>,
    worth: Verdict,
}

impl Default for Trail {
    fn default() -> Self {
        Self { hops: Vec::new(), worth: Verdict { status: Status::Secure, ttl: u32::MAX, reason: None } }
    }
}

impl Trail {
    pub(super) fn into_hops(self) -> Vec<Hop> {
        self.hops
    }

    fn add(&mut self, verdict: &Verdict) {
        self.worth.status = self.worth.status.weakest(verdict.status);
        self.worth.ttl = self.worth.ttl.min(verdict.ttl);
        if self.worth.reason.is_none() {
            self.worth.reason.clone_from(&verdict.reason);
        }
    }
}

/// What a response holds for a name.
enum Found {
    Data(Vec<Record>, Verdict),
    Alias(Name, Verdict),
    Nothing,
}

impl Lookup {
    /// The whole evaluation: an answer, or why there is none yet.
    pub(super) fn evaluate(&mut self) -> Eval<Answer> {
        self.trail = Trail::default();
        if !may_be_asked(self.rtype) {
            return Err(Stop::unavailable(format!("{} records cannot be looked up", self.rtype)));
        }
        let mut name = self.name.clone();
        let mut reply = self.fetch(&name, self.rtype)?;
        loop {
            match self.find(&reply, &name)? {
                Found::Data(records, verdict) => return Ok(self.finish(Kind::Data, records, &verdict)),
                Found::Alias(target, verdict) => name = self.follow(name, target, &verdict)?,
                Found::Nothing if name == reply.question.0 => {
                    let (kind, verdict) = self.judge_denial(&reply, &name)?;
                    return Ok(self.finish(kind, Vec::new(), &verdict));
                }
                Found::Nothing => {
                    if let Some((kind, verdict)) = self.denied_on_the_way(&reply, &name)? {
                        return Ok(self.finish(kind, Vec::new(), &verdict));
                    }
                    reply = self.fetch(&name, self.rtype)?;
                }
            }
        }
    }

    fn finish(&mut self, kind: Kind, records: Vec<Record>, verdict: &Verdict) -> Answer {
        self.trail.add(verdict);
        let limits = self.validator.limits();
        let cap = if kind == Kind::Data { limits.max_ttl } else { limits.max_negative_ttl };
        let worth = &self.trail.worth;
        Answer {
            name: self.name.clone(),
            rtype: self.rtype,
            status: worth.status,
            kind,
            hops: Vec::new(),
            records,
            ttl_seconds: worth.ttl.min(cap),
            reason: worth.reason.clone(),
        }
    }

    /// Takes one hop, within the limit and never in a circle (RFC 7672 2.1.3; both are lookup errors).
    fn follow(&mut self, owner: Name, target: Name, verdict: &Verdict) -> Eval<Name> {
        let limit = self.validator.limits().alias_hops;
        if target == self.name || self.trail.hops.iter().any(|hop| hop.target == target) {
            return Err(Stop::unavailable(format!(
                "the aliases of {} run in a circle at {target}",
                self.name
            )));
        }
        if self.trail.hops.len() >= limit {
            return Err(Stop::unavailable(format!("{} has more than {limit} aliases in a row", self.name)));
        }
        self.trail.add(verdict);
        self.trail.hops.push(Hop { owner, target: target.clone(), status: verdict.status });
        Ok(target)
    }

    /// Looks for the asked type at `name`, then for a DNAME above it, then for a CNAME.
    fn find(&mut self, reply: &Arc<Reply>, name: &Name) -> Eval<Found> {
        if let Some(set) = RrSet::collect(&reply.answers, name, self.rtype)
            && self.rtype != RecordType::CNAME
        {
            let verdict = self.judge(reply, &set)?;
            return Ok(Found::Data(copies(&set, verdict.ttl), verdict));
        }
        if let Some((target, verdict)) = self.dname_above(reply, name)? {
            if self.rtype != RecordType::CNAME {
                return Ok(Found::Alias(target, verdict));
            }
            let record = Record::from_rdata(name.clone(), verdict.ttl, RData::CNAME(CNAME(target)));
            return Ok(Found::Data(vec![record], verdict));
        }
        let Some(set) = RrSet::collect(&reply.answers, name, RecordType::CNAME) else {
            return Ok(Found::Nothing);
        };
        let target = only_target(&set)?;
        let verdict = self.judge(reply, &set)?;
        if self.rtype == RecordType::CNAME {
            return Ok(Found::Data(copies(&set, verdict.ttl), verdict));
        }
        Ok(Found::Alias(target, verdict))
    }

    /// The alias that a DNAME above `name` makes of it. The CNAME that a server synthesised must say the same
    /// (RFC 6672 5.3.1), and is not signed, so it is used for nothing else.
    fn dname_above(&mut self, reply: &Arc<Reply>, name: &Name) -> Eval<Option<(Name, Verdict)>> {
        let owners = RrSet::owners(&reply.answers, RecordType::DNAME);
        let deepest =
            owners.iter().filter(|owner| names::is_below(name, owner)).max_by_key(|o| names::labels(o));
        let Some(set) = deepest.and_then(|owner| RrSet::collect(&reply.answers, owner, RecordType::DNAME))
        else {
            return Ok(None);
        };
        let verdict = self.judge(reply, &set)?;
        let target = match set.rdata.as_slice() {
            [only] => names::from_wire(only).and_then(|target| names::substitute(name, &set.owner, &target)),
            _ => None,
        };
        let Some(target) = target.map(|target| names::normal(&target)) else {
            return Err(Stop::Bogus(format!(
                "the DNAME of {} gives {name} no valid name (RFC 6672 2.2)",
                set.owner
            )));
        };
        if let Some(synthesised) = RrSet::collect(&reply.answers, name, RecordType::CNAME)
            && only_target(&synthesised)? != target
        {
            return Err(Stop::Bogus(format!(
                "the CNAME of {name} is not the one that the DNAME of {} makes (RFC 6672 5.3.1)",
                set.owner
            )));
        }
        Ok(Some((target, verdict)))
    }

    /// Secure or insecure, or why neither can be said, for one record set of the answer.
    fn judge(&mut self, reply: &Arc<Reply>, set: &RrSet<'_>) -> Eval<Verdict> {
        let mut trouble = None;
        for signer in set.signers().into_iter().take(self.validator.limits().signers_per_set) {
            match self.judge_by(reply, set, &signer) {
                Ok(Ok(verdict)) => return Ok(verdict),
                Ok(Err(stop)) => trouble = trouble.or(Some(stop)),
                Err(Stop::Need) => return Err(Stop::Need),
                Err(stop) => trouble = trouble.or(Some(stop)),
            }
        }
        // No signature holds, so the delegations decide whether one is owed.
        let holder = holder(&set.owner, set.rtype);
        match self.zone(&holder, false) {
            // What is insecure today may be signed as soon as the proof of that ends.
            Ok(Zone::Insecure(how, ttl)) => Ok(Verdict::insecure(&*how, set.ttl().min(ttl))),
            // A delegation may have been made since the cache learned that there is none.
            Ok(Zone::Secure(keys)) if self.refresh_below(&keys.zone, &holder) => self.judge(reply, set),
            Ok(Zone::Secure(keys)) => {
                Err(trouble.unwrap_or_else(|| fault_stop(set, &keys.zone, &Fault::Missing)))
            }
            Err(Stop::Bogus(why)) => Err(trouble.unwrap_or_else(|| {
                Stop::Bogus(format!(
                    "the {} records of {} carry no signature, and {why}",
                    set.rtype, set.owner
                ))
            })),
            Err(stop) => Err(stop),
        }
    }

    /// The same by the signature of one zone; the inner error says why that zone does not vouch for the set.
    fn judge_by(
        &mut self,
        reply: &Arc<Reply>,
        set: &RrSet<'_>,
        signer: &Name,
    ) -> Eval<Result<Verdict, Stop>> {
        let keys = match self.zone(signer, true)? {
            Zone::Insecure(how, ttl) => return Ok(Ok(Verdict::insecure(&*how, set.ttl().min(ttl)))),
            Zone::Secure(keys) if keys.zone == *signer => keys,
            // A delegation may have been made since the cache learned that there is none.
            Zone::Secure(_) if self.refresh(signer) => return self.judge_by(reply, set, signer),
            Zone::Secure(_) => {
                return Ok(Err(Stop::Bogus(format!(
                    "the {} records of {} are signed by {signer}, where no zone begins (RFC 4035 5.3.1)",
                    set.rtype, set.owner
                ))));
            }
        };
        match self.verify(reply, Section::Answer, set, &keys) {
            Ok(verified) => {
                let mut verdict = Verdict { status: Status::Secure, ttl: verified.ttl, reason: None };
                if let Some(encloser) = verified.wildcard
                    && let Err(stop) = self.prove_wildcard(reply, set, encloser, &keys, &mut verdict)
                {
                    return if stop == Stop::Need { Err(stop) } else { Ok(Err(stop)) };
                }
                Ok(Ok(verdict))
            }
            // Keys from the cache may be older than the zone's.
            Err(Fault::NoKey(_) | Fault::Mismatch(_)) if self.refresh(signer) => {
                self.judge_by(reply, set, signer)
            }
            Err(fault) => Ok(Err(fault_stop(set, signer, &fault))),
        }
    }

    /// What an answer from a wildcard owes: that the name itself does not exist (RFC 4035 5.3.4).
    fn prove_wildcard(
        &mut self,
        reply: &Arc<Reply>,
        set: &RrSet<'_>,
        encloser: usize,
        keys: &Arc<ZoneKeys>,
        verdict: &mut Verdict,
    ) -> Eval<()> {
        match self.wildcard_proof(&set.owner, encloser, reply, keys)? {
            Some((false, ttl)) => verdict.ttl = verdict.ttl.min(ttl),
            Some((true, ttl)) => {
                *verdict = Verdict::insecure(
                    format!(
                        "{} answers {} from a wildcard, and leaves out unsigned names (NSEC3 opt-out, RFC 5155 9.2)",
                        zone_text(&keys.zone),
                        set.owner
                    ),
                    verdict.ttl.min(ttl),
                );
            }
            None => {
                return Err(Stop::Bogus(format!(
                    "the {} records of {} come from a wildcard, without proof that the name itself does not exist \
                     (RFC 4035 5.3.4)",
                    set.rtype, set.owner
                )));
            }
        }
        Ok(())
    }

    /// A denial of an alias target that came along with the alias. `None` where the target has to be asked for itself.
    fn denied_on_the_way(&mut self, reply: &Arc<Reply>, name: &Name) -> Eval<Option<(Kind, Verdict)>> {
        let speaks_of_it =
            reply.authorities.iter().any(|r| r.record_type() == RecordType::SOA && r.name.zone_of(name));
        if !speaks_of_it {
            return Ok(None);
        }
        match self.judge_denial(reply, name) {
            Ok(denied) => Ok(Some(denied)),
            Err(Stop::Bogus(_)) => Ok(None),
            Err(stop) => Err(stop),
        }
    }

    /// Secure or insecure, or why neither can be said, for the absence of records at `name`.
    fn judge_denial(&mut self, reply: &Arc<Reply>, name: &Name) -> Eval<(Kind, Verdict)> {
        let mut trouble = None;
        for signer in self.denial_signers(reply, name) {
            match self.zone(&signer, true) {
                Ok(Zone::Insecure(how, ttl)) => return Ok(insecure_denial(reply, name, &how, ttl)),
                Ok(Zone::Secure(keys)) if keys.zone == signer => match self.denial_by(reply, name, &keys) {
                    Ok(Some(denied)) => return Ok(denied),
                    Ok(None) => {}
                    Err(Stop::Need) => return Err(Stop::Need),
                    Err(stop) => trouble = trouble.or(Some(stop)),
                },
                Ok(Zone::Secure(_)) => {}
                Err(Stop::Need) => return Err(Stop::Need),
                Err(stop) => trouble = trouble.or(Some(stop)),
            }
        }
        let holder = holder(name, self.rtype);
        match self.zone(&holder, false) {
            Ok(Zone::Insecure(how, ttl)) => Ok(insecure_denial(reply, name, &how, ttl)),
            Ok(Zone::Secure(keys)) if self.refresh_below(&keys.zone, &holder) => {
                self.judge_denial(reply, name)
            }
            Ok(Zone::Secure(keys)) => Err(match trouble {
                Some(stop) => stop,
                None => self.unproven(name, self.rtype, reply, &keys),
            }),
            Err(Stop::Bogus(why)) => Err(trouble.unwrap_or_else(|| {
                Stop::Bogus(format!(
                    "there is no valid proof that {name} has no {} records, and {why}",
                    self.rtype
                ))
            })),
            Err(stop) => Err(stop),
        }
    }

    fn denial_by(
        &mut self,
        reply: &Arc<Reply>,
        name: &Name,
        keys: &Arc<ZoneKeys>,
    ) -> Eval<Option<(Kind, Verdict)>> {
        let rtype = self.rtype;
        match self.proven_denial(name, rtype, reply, keys)? {
            Some((proven, ttl)) => {
                let mut verdict = Verdict { status: Status::Secure, ttl, reason: None };
                if proven.opt_out {
                    let why = "leaves out unsigned names, so that its denials are not signed (NSEC3 opt-out, RFC 5155 9.2)";
                    verdict = Verdict::insecure(format!("{} {why}", zone_text(&keys.zone)), ttl);
                }
                Ok(Some((proven.kind(), verdict)))
            }
            None if self.refresh(&keys.zone) => match self.zone(&keys.zone, true)? {
                Zone::Secure(fresh) if fresh.zone == keys.zone => self.denial_by(reply, name, &fresh),
                _ => Ok(None),
            },
            None => Ok(None),
        }
    }
}

/// A denial out of a zone that is proven to be unsigned is believed as it is, and no longer than that proof holds.
fn insecure_denial(reply: &Reply, name: &Name, how: &str, proof_ttl: u32) -> (Kind, Verdict) {
    let soa_ttl = reply.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) if record.name.zone_of(name) => Some(sane_ttl(record.ttl).min(soa.minimum)),
        _ => None,
    });
    let kind = if reply.nxdomain { Kind::NxDomain } else { Kind::NoData };
    (kind, Verdict::insecure(how, soa_ttl.unwrap_or(BARE_DENIAL_TTL).min(proof_ttl)))
}

/// The one target of a CNAME; two are no alias (RFC 2181 10.1).
fn only_target(set: &RrSet<'_>) -> Eval<Name> {
    match set.records.as_slice() {
        [Record { data: RData::CNAME(CNAME(target)), .. }] => Ok(names::normal(target)),
        _ => Err(Stop::Bogus(format!("{} has several CNAME records (RFC 2181 10.1)", set.owner))),
    }
}

/// The records with the TTL that the verdict allows.
fn copies(set: &RrSet<'_>, ttl: u32) -> Vec<Record> {
    set.records
        .iter()
        .map(|record| {
            let mut record = Record::clone(record);
            record.ttl = ttl;
            record
        })
        .collect()
}

/// Types that are no data of their own: the proofs themselves, transfers, and questions for everything at once.
fn may_be_asked(rtype: RecordType) -> bool {
    !matches!(
        rtype,
        RecordType::ANY
            | RecordType::AXFR
            | RecordType::IXFR
            | RecordType::OPT
            | RecordType::TSIG
            | RecordType::SIG
            | RecordType::RRSIG
            | RecordType::NSEC
            | RecordType::NSEC3
            | RecordType::ZERO
    )
}
