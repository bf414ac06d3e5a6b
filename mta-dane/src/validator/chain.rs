//! The chain of trust: from a trust anchor down to the zone of a name, one label at a time (RFC 4035 5.1 and 5.2).
//!
//! Only one outcome of this walk weakens anything: an insecure delegation, and that is said only on a validated record of
//! the parent zone. A name that is wrongly taken for "no zone cut" can lead to bogus, never to insecure.

use std::sync::Arc;

use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS};
use hickory_proto::dnssec::{DigestType, PublicKey, Verifier};
use hickory_proto::rr::{Name, RData, RecordType};

use super::anchors::ZoneAnchors;
use super::cache::{Cut, ZoneKeys};
use super::clock::ClockVerdict;
use super::denial::Proof;
use super::lookup::{Eval, Lookup, Section, Stop};
use super::reply::Reply;
use super::rrset::RrSet;
use super::signature::{self, Fault, Verified};
use super::{Limits, names};

/// The zone that holds a name, as far as the chain of trust reaches.
#[derive(Debug, Clone)]
pub(super) enum Zone {
    /// A secure zone with its keys: the deepest zone at or above the name.
    Secure(Arc<ZoneKeys>),
    /// The name lies under a delegation that is proven insecure; how, and for how many seconds that holds.
    Insecure(Arc<str>, u32),
}

impl Lookup {
    /// Finds the zone that holds `name`. `is_zone` says that the name is believed to be a zone's apex (a signature
    /// names it as its signer), so that the queries on the way may go out at once.
    pub(super) fn zone(&mut self, name: &Name, is_zone: bool) -> Eval<Zone> {
        let Some((anchor, anchors)) =
            self.validator.anchors().closest(name).map(|(n, a)| (n.clone(), a.clone()))
        else {
            return Err(Stop::unavailable(format!(
                "no trust anchor covers {name}, so nothing about it can be proven secure or insecure"
            )));
        };
        let top = names::labels(&anchor);
        if let Some(insecure) = self.known_insecure(name, top) {
            return Ok(insecure);
        }
        let mut zone = self.nearest_keys(name, &anchor, &anchors, is_zone)?;
        for count in names::labels(&zone.zone) + 1..=names::labels(name) {
            let here = names::ancestor(name, count);
            match self.descend(&here, &zone, is_zone.then_some(name))? {
                None => {}
                Some(Zone::Secure(keys)) => zone = keys,
                Some(insecure) => return Ok(insecure),
            }
        }
        Ok(Zone::Secure(zone))
    }

    /// One step of the walk: the zone that begins at `here`, if one does.
    fn descend(&mut self, here: &Name, zone: &Arc<ZoneKeys>, target: Option<&Name>) -> Eval<Option<Zone>> {
        match self.cut(here, zone, target)? {
            (Cut::None, _) => Ok(None),
            (Cut::Insecure(how), ttl) => Ok(Some(Zone::Insecure(how, ttl))),
            (Cut::Secure(ds), ttl) => match self.child_keys(here, &ds, ttl) {
                // DS records from the cache may be older than the parent's.
                Err(Stop::Bogus(_)) if self.refresh(here) => self.descend(here, zone, target),
                other => other.map(Some),
            },
        }
    }

    /// An insecure delegation that is already known at or above `name` and below the trust anchor.
    fn known_insecure(&mut self, name: &Name, top: usize) -> Option<Zone> {
        (top + 1..=names::labels(name)).find_map(|count| {
            match self.known_cut(&names::ancestor(name, count)) {
                Some((Cut::Insecure(how), ttl)) => Some(Zone::Insecure(how, ttl)),
                _ => None,
            }
        })
    }

    /// The keys of the deepest zone at or above `name` that is already known, or else of the trust anchor's zone.
    fn nearest_keys(
        &mut self,
        name: &Name,
        anchor: &Name,
        anchors: &ZoneAnchors,
        is_zone: bool,
    ) -> Eval<Arc<ZoneKeys>> {
        for count in (names::labels(anchor) + 1..=names::labels(name)).rev() {
            if let Some(keys) = self.known_keys(&names::ancestor(name, count)) {
                return Ok(keys);
            }
        }
        if is_zone && self.known_keys(anchor).is_none() {
            self.ask_ahead(anchor, name);
        }
        self.anchor_keys(anchor, anchors)
    }

    /// Asks at once for what the walk from `zone` down to the zone `target` is going to need.
    fn ask_ahead(&mut self, zone: &Name, target: &Name) {
        for count in names::labels(zone) + 1..=names::labels(target) {
            let here = names::ancestor(target, count);
            if self.known_cut(&here).is_none() {
                self.ask(&here, RecordType::DS);
            }
        }
        self.ask(target, RecordType::DNSKEY);
    }

    /// What `here` is within `zone`: a secure delegation, an insecure one, or none. With the seconds for which that holds.
    fn cut(&mut self, here: &Name, zone: &Arc<ZoneKeys>, target: Option<&Name>) -> Eval<(Cut, u32)> {
        if let Some(known) = self.known_cut(here) {
            return Ok(known);
        }
        if let Some(target) = target {
            self.ask_ahead(&names::parent(here), target);
        }
        let reply = self.fetch(here, RecordType::DS)?;
        let (cut, ttl) = match self.judge_cut(here, &reply, zone) {
            Err(Stop::Bogus(_)) if self.refresh(&zone.zone) => return self.cut_again(here),
            other => other?,
        };
        self.keep_cut(here, &cut, ttl);
        Ok((cut, ttl))
    }

    /// After the keys of the zone above were dropped: walk to it anew, then judge the same response with fresh keys.
    fn cut_again(&mut self, here: &Name) -> Eval<(Cut, u32)> {
        match self.zone(&names::parent(here), true)? {
            Zone::Secure(fresh) => self.cut(here, &fresh, None),
            Zone::Insecure(how, ttl) => Ok((Cut::Insecure(how), ttl)),
        }
    }

    fn judge_cut(&mut self, here: &Name, reply: &Arc<Reply>, zone: &Arc<ZoneKeys>) -> Eval<(Cut, u32)> {
        if let Some(set) = RrSet::collect(&reply.answers, here, RecordType::DS) {
            let verified = self.must_verify(reply, &set, zone)?;
            if verified.wildcard.is_some() {
                return Err(Stop::Bogus(format!("the DS records of {here} are expanded from a wildcard")));
            }
            let ds = ds_records(&set);
            return Ok((Cut::Secure(Arc::new(ds)), verified.ttl));
        }
        if let Some(ttl) = self.alias_at(here, reply, zone)? {
            return Ok((Cut::None, ttl));
        }
        let Some((proven, ttl)) = self.proven_denial(here, RecordType::DS, reply, zone)? else {
            return Err(self.unproven(here, RecordType::DS, reply, zone));
        };
        if proven.proof != (Proof::NoData { delegation: true }) {
            return Ok((Cut::None, ttl));
        }
        let how = if proven.opt_out {
            format!("{} proves that {here} has no signed delegation (NSEC3 opt-out)", zone_text(&zone.zone))
        } else {
            format!("{} delegates {here} without DS records, so it is not signed", zone_text(&zone.zone))
        };
        Ok((Cut::Insecure(how.into()), ttl))
    }

    /// An alias at `here`, or a DNAME above it within the zone, shows that no zone begins at `here`; for how many seconds.
    fn alias_at(&mut self, here: &Name, reply: &Arc<Reply>, zone: &Arc<ZoneKeys>) -> Eval<Option<u32>> {
        let dname = RrSet::owners(&reply.answers, RecordType::DNAME)
            .into_iter()
            .find(|owner| names::is_below(here, owner) && zone.zone.zone_of(owner));
        let (owner, rtype) = match dname {
            Some(owner) => (owner, RecordType::DNAME),
            None => (here.clone(), RecordType::CNAME),
        };
        let Some(set) = RrSet::collect(&reply.answers, &owner, rtype) else { return Ok(None) };
        let verified = self.must_verify(reply, &set, zone)?;
        let Some(encloser) = verified.wildcard else { return Ok(Some(verified.ttl)) };
        // An alias out of a wildcard, replayed for a name that exists, would hide the delegation there.
        match self.wildcard_proof(&owner, encloser, reply, zone)? {
            Some((_, ttl)) => Ok(Some(verified.ttl.min(ttl))),
            None => Err(Stop::Bogus(format!(
                "the {rtype} of {owner} comes from a wildcard, without proof that the name itself does not exist \
                 (RFC 4035 5.3.4)"
            ))),
        }
    }

    /// Verifies a set that the zone must have signed.
    fn must_verify(&mut self, reply: &Arc<Reply>, set: &RrSet<'_>, zone: &Arc<ZoneKeys>) -> Eval<Verified> {
        self.verify(reply, Section::Answer, set, zone).map_err(|fault| fault_stop(set, &zone.zone, &fault))
    }

    /// The keys of a zone whose DS records are validated; insecure where none of them can be used here.
    fn child_keys(&mut self, zone: &Name, ds: &[DS], ds_ttl: u32) -> Eval<Zone> {
        if let Some(keys) = self.known_keys(zone) {
            return Ok(Zone::Secure(keys));
        }
        let usable = usable_ds(ds, self.validator.limits());
        if usable.is_empty() {
            let how: Arc<str> = format!(
                "{zone} is signed, but only with algorithms or digests that are not supported here ({}): it counts as \
                 unsigned (RFC 4035 5.2)",
                ds.iter()
                    .map(|ds| format!("{}/{}", u8::from(ds.algorithm()), u8::from(ds.digest_type())))
                    .collect::<Vec<_>>()
                    .join(" ")
            )
            .into();
            self.keep_cut(zone, &Cut::Insecure(how.clone()), ds_ttl);
            return Ok(Zone::Insecure(how, ds_ttl));
        }
        let reply = self.fetch(zone, RecordType::DNSKEY)?;
        let keys = zone_keys(zone, &reply, self.validator.limits());
        let trusted = keys.iter().filter(|(tag, key)| usable.iter().any(|ds| names_key(ds, zone, *tag, key)));
        let trusted: Vec<_> = trusted.cloned().collect();
        let from = ("the DS records of its parent", ds_ttl);
        self.establish(zone, &reply, keys, &trusted, from).map(Zone::Secure)
    }

    /// The keys of the zone of a trust anchor.
    fn anchor_keys(&mut self, zone: &Name, anchors: &ZoneAnchors) -> Eval<Arc<ZoneKeys>> {
        if let Some(keys) = self.known_keys(zone) {
            return Ok(keys);
        }
        let reply = self.fetch(zone, RecordType::DNSKEY)?;
        let keys = zone_keys(zone, &reply, self.validator.limits());
        let trusted = keys
            .iter()
            .filter(|(tag, key)| is_anchored(anchors, zone, *tag, key))
            .cloned()
            .collect::<Vec<_>>();
        match self.establish(zone, &reply, keys, &trusted, ("the trust anchor", u32::MAX)) {
            Err(Stop::Bogus(why)) if zone.is_root() => match self.clock_by(zone, &reply, &trusted) {
                verdict @ (ClockVerdict::Behind { .. } | ClockVerdict::Ahead { .. }) => {
                    Err(Stop::unavailable(verdict.to_string()))
                }
                _ => Err(Stop::Bogus(why)),
            },
            other => other,
        }
    }

    /// Validates a DNSKEY set by those of its keys that are trusted from above, and keeps the zone's usable keys for as
    /// long as both the set and what vouches for it hold: a delegation that was withdrawn ends with the DS records' TTL,
    /// however long the child lets its keys be kept.
    fn establish(
        &mut self,
        zone: &Name,
        reply: &Arc<Reply>,
        keys: Vec<(u16, DNSKEY)>,
        trusted: &[(u16, DNSKEY)],
        (from, from_ttl): (&str, u32),
    ) -> Eval<Arc<ZoneKeys>> {
        let Some(set) = RrSet::collect(&reply.answers, zone, RecordType::DNSKEY) else {
            return Err(Stop::Bogus(format!(
                "{} has no DNSKEY records, though {from} demands them",
                zone_text(zone)
            )));
        };
        if trusted.is_empty() {
            return Err(Stop::Bogus(format!("no DNSKEY of {} matches {from}", zone_text(zone))));
        }
        let (now, limits) = (self.now, self.validator.limits().clone());
        let verified = signature::verify(&set, zone, trusted, now, &limits, &mut self.work)
            .map_err(|fault| fault_stop(&set, zone, &fault))?;
        if verified.wildcard.is_some() {
            return Err(Stop::Bogus(format!(
                "the DNSKEY records of {} are expanded from a wildcard",
                zone_text(zone)
            )));
        }
        let keys = keys.into_iter().filter(|(_, key)| is_usable(key)).collect();
        let expires_at = now.saturating_add(u64::from(verified.ttl.min(from_ttl)));
        Ok(self.keep_keys(ZoneKeys { zone: zone.clone(), keys, expires_at }))
    }

    /// What the trust anchor's own signatures say about the clock.
    fn clock_by(&mut self, zone: &Name, reply: &Arc<Reply>, trusted: &[(u16, DNSKEY)]) -> ClockVerdict {
        let Some(set) = RrSet::collect(&reply.answers, zone, RecordType::DNSKEY) else {
            return ClockVerdict::Unknown;
        };
        let limits = self.validator.limits().clone();
        let mut verdict = ClockVerdict::Unknown;
        for rrsig in set.signatures.iter().take(limits.signatures_per_set) {
            if rrsig.input().signer_name != *zone
                || !signature::is_by(&set, rrsig, trusted, &limits, &mut self.work)
            {
                continue;
            }
            verdict = match (signature::in_time(rrsig, self.now), verdict) {
                (Ok(_), _) => return ClockVerdict::Plausible,
                (Err(Fault::NotYetValid(from)), ClockVerdict::Behind { at_least, .. }) => {
                    ClockVerdict::Behind { reads: self.now, at_least: at_least.min(from) }
                }
                (Err(Fault::NotYetValid(from)), _) => {
                    ClockVerdict::Behind { reads: self.now, at_least: from }
                }
                (Err(Fault::Expired(since)), ClockVerdict::Ahead { at_most, .. }) => {
                    ClockVerdict::Ahead { reads: self.now, at_most: at_most.max(since) }
                }
                (Err(Fault::Expired(since)), ClockVerdict::Unknown) => {
                    ClockVerdict::Ahead { reads: self.now, at_most: since }
                }
                (_, verdict) => verdict,
            };
        }
        verdict
    }
}

/// Why a set that must be signed by `zone` does not hold.
pub(super) fn fault_stop(set: &RrSet<'_>, zone: &Name, fault: &Fault) -> Stop {
    let text = format!("the {} records of {}: {}", set.rtype, set.owner, fault_text(zone, fault));
    if matches!(fault, Fault::Limit(_)) { Stop::unavailable(text) } else { Stop::Bogus(text) }
}

/// A fault with what an administrator can do about it.
fn fault_text(zone: &Name, fault: &Fault) -> String {
    let zone = zone_text(zone);
    match fault {
        Fault::Missing => format!(
            "{zone} is signed, but there is no signature (RFC 4035 5.5): the zone's signing is broken, or a resolver on the \
             way strips signatures"
        ),
        Fault::Expired(_) | Fault::NotYetValid(_) => {
            format!("{fault} (RFC 4035 5.3.1): the operator of {zone} must sign it anew")
        }
        other => format!("{other} (RFC 4035 5.3), in {zone}"),
    }
}

/// A zone as people call it.
pub(super) fn zone_text(zone: &Name) -> String {
    if zone.is_root() { "the root zone".into() } else { format!("the zone {zone}") }
}

fn ds_records(set: &RrSet<'_>) -> Vec<DS> {
    set.records
        .iter()
        .filter_map(|record| match &record.data {
            RData::DNSSEC(DNSSECRData::DS(ds)) => Some(ds.clone()),
            _ => None,
        })
        .collect()
}

/// The DS records that can vouch for a key here. One with a SHA-1 digest counts only where there is no better one for
/// a supported algorithm (RFC 4509 3).
fn usable_ds<'d>(ds: &'d [DS], limits: &Limits) -> Vec<&'d DS> {
    let mut usable: Vec<&DS> = ds
        .iter()
        .filter(|ds| signature::supported(ds.algorithm()) && ds.digest_type().is_supported())
        .collect();
    if usable.iter().any(|ds| ds.digest_type() != DigestType::SHA1) {
        usable.retain(|ds| ds.digest_type() != DigestType::SHA1);
    }
    // Cut only now: whether a zone is insecure is decided by all of its DS records.
    usable.truncate(limits.ds_per_delegation);
    usable
}

/// Whether a DS record names this key.
fn names_key(ds: &DS, zone: &Name, tag: u16, key: &DNSKEY) -> bool {
    ds.key_tag() == tag
        && ds.algorithm() == Verifier::algorithm(key)
        && is_usable(key)
        && ds.covers(zone, key).unwrap_or(false)
}

fn is_anchored(anchors: &ZoneAnchors, zone: &Name, tag: u16, key: &DNSKEY) -> bool {
    let same = |anchor: &DNSKEY| {
        anchor.public_key().public_bytes() == key.public_key().public_bytes()
            && Verifier::algorithm(anchor) == Verifier::algorithm(key)
    };
    is_usable(key)
        && (anchors.keys.iter().any(same) || anchors.ds.iter().any(|ds| names_key(ds, zone, tag, key)))
}

/// Whether a key may sign the zone's data: zone flag, not revoked, supported algorithm (RFC 4034 2.1.1, RFC 5011 2.1). A
/// protocol field other than 3 does not survive the reading of the message.
fn is_usable(key: &DNSKEY) -> bool {
    key.zone_key() && !key.revoke() && signature::supported(Verifier::algorithm(key))
}

/// The keys in a response with their tags.
fn zone_keys(zone: &Name, reply: &Reply, limits: &Limits) -> Vec<(u16, DNSKEY)> {
    let Some(set) = RrSet::collect(&reply.answers, zone, RecordType::DNSKEY) else { return Vec::new() };
    set.records
        .iter()
        .filter_map(|record| match &record.data {
            RData::DNSSEC(DNSSECRData::DNSKEY(key)) => Some((key.calculate_key_tag().ok()?, key.clone())),
            _ => None,
        })
        .take(limits.keys_per_zone)
        .collect()
}

/// What a response to `DNSKEY` for a trust anchor's zone says about the system clock: for the self-test at start.
///
/// `reads` is the clock, in Unix seconds. A zone without trust anchor gives [`ClockVerdict::Unknown`].
pub fn clock_verdict(
    validator: &Arc<super::Validator>,
    zone: &Name,
    response: &hickory_proto::op::Message,
    reads: u64,
) -> ClockVerdict {
    let mut lookup = Lookup::new(Arc::clone(validator), zone.clone(), RecordType::DNSKEY);
    lookup.now = reads;
    let zone = names::normal(zone);
    let Some((_, anchors)) = validator.anchors().closest(&zone).filter(|(anchor, _)| **anchor == zone) else {
        return ClockVerdict::Unknown;
    };
    let Ok(reply) = super::reply::read((zone.clone(), RecordType::DNSKEY), Ok(response), validator.limits())
    else {
        return ClockVerdict::Unknown;
    };
    let keys = zone_keys(&zone, &reply, validator.limits());
    let trusted: Vec<_> =
        keys.into_iter().filter(|(tag, key)| is_anchored(anchors, &zone, *tag, key)).collect();
    lookup.clock_by(&zone, &Arc::new(reply), &trusted)
}
