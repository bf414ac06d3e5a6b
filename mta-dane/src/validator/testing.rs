//! For tests alone: small signed zones in memory, and an authority that answers for them the way a resolver with CD set does.
//!
//! Signing uses hickory-proto's own canonical form, so that a fault in ours does not cancel out.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use hickory_proto::dnssec::crypto::{EcdsaSigningKey, Ed25519SigningKey};
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, NSEC, NSEC3, RRSIG, SigInput};
use hickory_proto::dnssec::{Algorithm, DigestType, Nsec3HashAlgorithm, PublicKeyBuf, SigningKey, TBS};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, MX, NS, NULL, SOA, TLSA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, SerialNumber};

use super::{CacheLimits, Limits, Lookup, Step, TransportFailure, TrustAnchors, Validator, names};
use crate::dnssec::Answer;

/// When the tests take place: 2026-11-23.
pub(super) const NOW: u64 = 1_795_400_000;

pub(super) fn n(text: &str) -> Name {
    Name::from_str(&text.to_ascii_lowercase()).map(|name| names::normal(&name)).expect("a name")
}

/// How a zone denies.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Denial {
    Nsec,
    Nsec3 { iterations: u16, salt: Vec<u8>, opt_out: bool },
}

/// One key pair.
pub(super) struct Key {
    pub(super) dnskey: DNSKEY,
    signer: Box<dyn SigningKey>,
}

impl Key {
    /// The n-th key of an algorithm, always the same one: making keys is slow.
    pub(super) fn new(algorithm: Algorithm, flags: u16) -> Self {
        let signer: Box<dyn SigningKey> = if algorithm == Algorithm::ED25519 {
            let der = Ed25519SigningKey::generate_pkcs8().unwrap();
            Box::new(Ed25519SigningKey::from_pkcs8(&der).unwrap())
        } else {
            let der = EcdsaSigningKey::generate_pkcs8(algorithm).unwrap();
            Box::new(EcdsaSigningKey::from_pkcs8(&der, algorithm).unwrap())
        };
        let public = signer.to_public_key().unwrap();
        Self { dnskey: DNSKEY::with_flags(flags, public), signer }
    }

    pub(super) fn tag(&self) -> u16 {
        self.dnskey.calculate_key_tag().unwrap()
    }
}

/// A zone and how it is signed. Change the fields to break it.
pub(super) struct Zone {
    pub(super) apex: Name,
    pub(super) records: BTreeMap<Name, BTreeMap<RecordType, Vec<Record>>>,
    /// Empty for an unsigned zone. The first is the key that the DS names; all sign everything.
    pub(super) keys: Vec<Arc<Key>>,
    /// Keys that are published without signing.
    pub(super) more_keys: Vec<DNSKEY>,
    pub(super) denial: Denial,
    pub(super) inception: u64,
    pub(super) expiration: u64,
    /// Replaces the true DS records in the parent.
    pub(super) ds: Option<Vec<DS>>,
    /// Names whose record sets carry no signature.
    pub(super) unsigned_names: BTreeSet<Name>,
    pub(super) ttl: u32,
}

impl Zone {
    pub(super) fn unsigned(apex: &str) -> Self {
        let mut zone = Self {
            apex: n(apex),
            records: BTreeMap::new(),
            keys: Vec::new(),
            more_keys: Vec::new(),
            denial: Denial::Nsec,
            inception: NOW - 86_400,
            expiration: NOW + 10 * 86_400,
            ds: None,
            unsigned_names: BTreeSet::new(),
            ttl: 3600,
        };
        let soa = SOA::new(n("ns."), n("admin."), 1, 3600, 600, 86_400, 900);
        let apex = zone.apex.clone();
        zone.add(&apex, RData::SOA(soa));
        zone.add(&apex, RData::NS(NS(n("ns."))));
        zone
    }

    pub(super) fn signed(apex: &str) -> Self {
        Self::signed_with(apex, Algorithm::ECDSAP256SHA256)
    }

    pub(super) fn signed_with(apex: &str, algorithm: Algorithm) -> Self {
        let mut zone = Self::unsigned(apex);
        zone.keys.push(Arc::new(Key::new(algorithm, 257)));
        zone
    }

    pub(super) fn nsec3(mut self, iterations: u16, salt: &[u8], opt_out: bool) -> Self {
        self.denial = Denial::Nsec3 { iterations, salt: salt.to_vec(), opt_out };
        self
    }

    pub(super) fn add(&mut self, owner: &Name, data: RData) {
        let record = Record::from_rdata(owner.clone(), self.ttl, data);
        self.records.entry(owner.clone()).or_default().entry(record.record_type()).or_default().push(record);
    }

    /// Adds records given as "owner TYPE value" relative to the apex (`@`), or absolute with a final dot.
    pub(super) fn with(mut self, lines: &[&str]) -> Self {
        for line in lines {
            let (owner, data) = self.line(line);
            self.add(&owner, data);
        }
        self
    }

    fn absolute(&self, text: &str) -> Name {
        match text {
            "@" => self.apex.clone(),
            _ if text.ends_with('.') => n(text),
            _ if self.apex.is_root() => n(&format!("{text}.")),
            _ => n(&format!("{text}.{}", self.apex)),
        }
    }

    fn line(&self, line: &str) -> (Name, RData) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = |text: &str| self.absolute(text);
        let data = match (words[1], words[2]) {
            ("A", ip) => RData::A(A(ip.parse().unwrap())),
            ("NS", to) => RData::NS(NS(name(to))),
            ("MX", to) => RData::MX(MX::new(10, name(to))),
            ("CNAME", to) => RData::CNAME(CNAME(name(to))),
            ("DNAME", to) => RData::Unknown { code: RecordType::DNAME, rdata: NULL::with(wire(&name(to))) },
            ("TXT", text) => RData::TXT(TXT::new(vec![text.to_owned()])),
            ("TLSA", byte) => {
                let digest = vec![byte.parse().unwrap(); 32];
                RData::TLSA(TLSA::new(3.into(), 1.into(), 1.into(), digest))
            }
            other => panic!("{other:?}"),
        };
        (name(words[0]), data)
    }

    pub(super) fn is_signed(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The DS records that the parent publishes.
    pub(super) fn parent_ds(&self) -> Vec<DS> {
        if let Some(ds) = &self.ds {
            return ds.clone();
        }
        self.keys.iter().take(1).map(|key| ds_of(&self.apex, &key.dnskey, DigestType::SHA256)).collect()
    }

    fn dnskeys(&self) -> Vec<Record> {
        let own = self.keys.iter().map(|key| key.dnskey.clone()).chain(self.more_keys.iter().cloned());
        own.map(|key| {
            Record::from_rdata(self.apex.clone(), self.ttl, RData::DNSSEC(DNSSECRData::DNSKEY(key)))
        })
        .collect()
    }

    /// Whether a zone cut lies at or above this name and below the apex; the cut.
    fn cut_above(&self, name: &Name) -> Option<Name> {
        (names::labels(&self.apex) + 1..=names::labels(name))
            .map(|count| names::ancestor(name, count))
            .find(|at| self.records.get(at).is_some_and(|types| types.contains_key(&RecordType::NS)))
    }

    /// Names that have an NSEC record: owners that are not below a cut.
    fn authoritative_names(&self) -> Vec<Name> {
        self.records
            .keys()
            .filter(|name| self.cut_above(name).is_none_or(|cut| cut == **name))
            .cloned()
            .collect()
    }

    fn exists(&self, name: &Name) -> bool {
        self.authoritative_names().iter().any(|owner| name.zone_of(owner))
    }

    /// Types at a name as the bitmap lists them.
    fn types(&self, name: &Name, world: &World) -> BTreeSet<RecordType> {
        let mut types: BTreeSet<RecordType> =
            self.records.get(name).map(|sets| sets.keys().copied().collect()).unwrap_or_default();
        let is_cut = *name != self.apex && types.contains(&RecordType::NS);
        if is_cut {
            types.retain(|t| *t == RecordType::NS);
            if world.zones.get(name).is_some_and(|child| !child.parent_ds().is_empty()) {
                types.insert(RecordType::DS);
            }
        }
        if *name == self.apex {
            types.insert(RecordType::DNSKEY);
        }
        types
    }

    /// Signs a set for its owner, by every key; `expand` renames the signed set's owner.
    pub(super) fn sign(&self, set: &[Record]) -> Vec<Record> {
        let Some(first) = set.first() else { return Vec::new() };
        if self.unsigned_names.contains(&first.name) {
            return Vec::new();
        }
        self.keys.iter().map(|key| self.sign_by(key, set, self.inception, self.expiration)).collect()
    }

    pub(super) fn sign_by(&self, key: &Key, set: &[Record], inception: u64, expiration: u64) -> Record {
        let first = &set[0];
        let input = SigInput {
            type_covered: first.record_type(),
            algorithm: key.signer.algorithm(),
            num_labels: first.name.num_labels(),
            original_ttl: first.ttl,
            sig_expiration: SerialNumber::new(expiration as u32),
            sig_inception: SerialNumber::new(inception as u32),
            key_tag: key.tag(),
            signer_name: self.apex.clone(),
        };
        let tbs = TBS::from_input(&first.name, DNSClass::IN, &input, set.iter()).unwrap();
        let sig = RRSIG::from_sig(input, key.signer.sign(&tbs).unwrap());
        Record::from_rdata(first.name.clone(), first.ttl, RData::DNSSEC(DNSSECRData::RRSIG(sig)))
    }

    /// The set and its signatures, with the owner changed to `owner` afterwards (wildcard expansion).
    fn signed_set(&self, set: &[Record], owner: &Name) -> Vec<Record> {
        let mut out: Vec<Record> = set.iter().cloned().chain(self.sign(set)).collect();
        for record in &mut out {
            record.name = owner.clone();
        }
        out
    }

    fn nsec_at(&self, index: usize, chain: &[Name], world: &World) -> Vec<Record> {
        let next = chain.get(index + 1).unwrap_or(&self.apex);
        let mut types = self.types(&chain[index], world);
        types.extend([RecordType::NSEC, RecordType::RRSIG]);
        let record = Record::from_rdata(
            chain[index].clone(),
            900,
            RData::DNSSEC(DNSSECRData::NSEC(NSEC::new(next.clone(), types))),
        );
        self.signed_set(&[record], &chain[index])
    }

    /// The NSEC record that matches or covers a name.
    pub(super) fn nsec_for(&self, name: &Name, world: &World) -> Vec<Record> {
        let mut chain = self.authoritative_names();
        chain.sort();
        let index = chain.iter().rposition(|owner| owner <= name).unwrap_or(chain.len() - 1);
        self.nsec_at(index, &chain, world)
    }

    fn hash(&self, name: &Name) -> Vec<u8> {
        let Denial::Nsec3 { iterations, salt, .. } = &self.denial else { panic!("no NSEC3 zone") };
        Nsec3HashAlgorithm::SHA1.hash(salt, name, *iterations).unwrap().as_ref().to_vec()
    }

    fn nsec3_chain(&self, world: &World) -> BTreeMap<Vec<u8>, Name> {
        let Denial::Nsec3 { opt_out, .. } = &self.denial else { panic!("no NSEC3 zone") };
        let mut owners = BTreeSet::new();
        for name in self.authoritative_names() {
            let insecure_cut = name != self.apex
                && self.records[&name].contains_key(&RecordType::NS)
                && !self.types(&name, world).contains(&RecordType::DS);
            if *opt_out && insecure_cut {
                continue;
            }
            // The name, and every empty non-terminal above it.
            for count in names::labels(&self.apex)..=names::labels(&name) {
                owners.insert(names::ancestor(&name, count));
            }
        }
        owners.into_iter().map(|name| (self.hash(&name), name)).collect()
    }

    /// The NSEC3 record that matches or covers a name.
    pub(super) fn nsec3_for(&self, name: &Name, world: &World) -> Vec<Record> {
        let Denial::Nsec3 { iterations, salt, opt_out } = &self.denial else { panic!("no NSEC3 zone") };
        let chain = self.nsec3_chain(world);
        let hash = self.hash(name);
        let (owner_hash, owner) =
            chain.range(..=hash).next_back().or_else(|| chain.iter().next_back()).expect("a chain");
        let next =
            chain.range(owner_hash.clone()..).nth(1).or_else(|| chain.iter().next()).expect("a chain").0;
        let mut types = self.types(owner, world);
        let delegation = types.contains(&RecordType::NS) && *owner != self.apex;
        if !types.is_empty() && (!delegation || types.contains(&RecordType::DS)) {
            types.insert(RecordType::RRSIG);
        }
        let data =
            NSEC3::new(Nsec3HashAlgorithm::SHA1, *opt_out, *iterations, salt.clone(), next.clone(), types);
        let label = base32hex(owner_hash);
        let at = self.apex.prepend_label(label.as_str()).unwrap();
        let record = Record::from_rdata(at.clone(), 900, RData::DNSSEC(DNSSECRData::NSEC3(data)));
        self.signed_set(&[record], &at)
    }

    fn closest_encloser(&self, name: &Name) -> Name {
        (names::labels(&self.apex)..names::labels(name))
            .rev()
            .map(|count| names::ancestor(name, count))
            .find(|candidate| self.exists(candidate))
            .unwrap_or_else(|| self.apex.clone())
    }

    /// Proof that a name has no record of the type: `existing` names are matched, others covered.
    fn denial_records(&self, name: &Name, rtype: RecordType, world: &World) -> Vec<Record> {
        if !self.is_signed() {
            return Vec::new();
        }
        let encloser = self.closest_encloser(name);
        let wildcard = names::wildcard_below(&encloser).unwrap();
        let exists = self.exists(name);
        let mut out = Vec::new();
        match &self.denial {
            Denial::Nsec => {
                out.extend(self.nsec_for(name, world));
                if !exists {
                    out.extend(self.nsec_for(&wildcard, world));
                }
            }
            Denial::Nsec3 { opt_out, .. } => {
                let left_out = *opt_out && rtype == RecordType::DS && self.hash_missing(name, world);
                if exists && !left_out {
                    out.extend(self.nsec3_for(name, world));
                } else {
                    let encloser = self.provable_encloser(name, world);
                    let next_closer = names::ancestor(name, names::labels(&encloser) + 1);
                    out.extend(self.nsec3_for(&encloser, world));
                    out.extend(self.nsec3_for(&next_closer, world));
                    out.extend(self.nsec3_for(&names::wildcard_below(&encloser).unwrap(), world));
                }
            }
        }
        dedup(out)
    }

    fn hash_missing(&self, name: &Name, world: &World) -> bool {
        !self.nsec3_chain(world).contains_key(&self.hash(name))
    }

    fn provable_encloser(&self, name: &Name, world: &World) -> Name {
        (names::labels(&self.apex)..names::labels(name))
            .rev()
            .map(|count| names::ancestor(name, count))
            .find(|candidate| !self.hash_missing(candidate, world))
            .unwrap_or_else(|| self.apex.clone())
    }

    /// What an answer from a wildcard owes.
    fn wildcard_records(&self, name: &Name, world: &World) -> Vec<Record> {
        if !self.is_signed() {
            return Vec::new();
        }
        match self.denial {
            Denial::Nsec => self.nsec_for(name, world),
            Denial::Nsec3 { .. } => {
                let encloser = self.closest_encloser(name);
                self.nsec3_for(&names::ancestor(name, names::labels(&encloser) + 1), world)
            }
        }
    }

    fn soa(&self) -> Vec<Record> {
        self.signed_set(&self.records[&self.apex][&RecordType::SOA], &self.apex)
    }
}

fn dedup(records: Vec<Record>) -> Vec<Record> {
    let mut out: Vec<Record> = Vec::new();
    for record in records {
        let twin = |r: &Record| {
            r.name == record.name && r.record_type() == record.record_type() && r.data == record.data
        };
        let signed_already = rrsig_of(&record).is_some_and(|sig| {
            out.iter().any(|r| r.name == record.name && rrsig_of(r).is_some_and(|s| s.input() == sig.input()))
        });
        if !out.iter().any(twin) && !signed_already {
            out.push(record);
        }
    }
    out
}

pub(super) fn rrsig_of(record: &Record) -> Option<&RRSIG> {
    super::rrset::signature(record)
}

pub(super) fn ds_of(apex: &Name, key: &DNSKEY, digest: DigestType) -> DS {
    use hickory_proto::dnssec::Verifier as _;
    DS::new(
        key.calculate_key_tag().unwrap(),
        key.algorithm(),
        digest,
        key.to_digest(apex, digest).unwrap().as_ref().to_vec(),
    )
}

fn wire(name: &Name) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name {
        out.push(label.len() as u8);
        out.extend_from_slice(label);
    }
    out.push(0);
    out
}

fn base32hex(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"0123456789abcdefghijklmnopqrstuv";
    let mut out = String::new();
    for chunk in bytes.chunks(5) {
        let mut group = [0_u8; 8];
        group[3..3 + chunk.len()].copy_from_slice(chunk);
        let value = u64::from_be_bytes(group);
        for i in 0..8 {
            out.push(ALPHABET[(value >> (35 - 5 * i) & 31) as usize] as char);
        }
    }
    out
}

/// All zones, and the resolver that answers from them.
pub(super) struct World {
    pub(super) zones: BTreeMap<Name, Zone>,
}

impl World {
    /// Delegations and DS records come from the zones' own names.
    pub(super) fn new(zones: Vec<Zone>) -> Self {
        let mut world = Self { zones: zones.into_iter().map(|zone| (zone.apex.clone(), zone)).collect() };
        let apexes: Vec<Name> = world.zones.keys().cloned().collect();
        for apex in apexes.iter().filter(|apex| !apex.is_root()) {
            let parent = world.zone_of(&names::parent(apex));
            let ns = RData::NS(NS(n("ns.")));
            world.zones.get_mut(&parent).unwrap().add(apex, ns);
        }
        world
    }

    pub(super) fn zone_of(&self, name: &Name) -> Name {
        self.zones
            .keys()
            .filter(|apex| apex.zone_of(name))
            .max_by_key(|apex| names::labels(apex))
            .unwrap()
            .clone()
    }

    pub(super) fn zone(&mut self, apex: &str) -> &mut Zone {
        self.zones.get_mut(&n(apex)).unwrap()
    }

    /// The first record of a set.
    pub(super) fn zone_record(&self, apex: &str, owner: &str, rtype: RecordType) -> Record {
        self.zones[&n(apex)].records[&n(owner)][&rtype][0].clone()
    }

    /// The root's key as the only trust anchor.
    pub(super) fn anchors(&self) -> TrustAnchors {
        let mut anchors = TrustAnchors::empty();
        if let Some(key) = self.zones[&Name::root()].keys.first() {
            anchors.add_ds(Name::root(), ds_of(&Name::root(), &key.dnskey, DigestType::SHA256));
        }
        anchors
    }

    pub(super) fn validator(&self) -> Arc<Validator> {
        Arc::new(Validator::new(self.anchors(), Limits::default(), CacheLimits::default()))
    }

    /// A response as a resolver gives it that was asked with DO and CD.
    pub(super) fn respond(&self, name: &Name, rtype: RecordType) -> Message {
        let mut message = Message::new(7, MessageType::Response, OpCode::Query);
        message.add_query(Query::query(name.clone(), rtype));
        let mut at = name.clone();
        for _ in 0..30 {
            match self.step(&mut message, &at, rtype) {
                Some(target) => at = target,
                None => break,
            }
        }
        message
    }

    /// Answers for one name from its zone; the alias target to go on with.
    fn step(&self, message: &mut Message, name: &Name, rtype: RecordType) -> Option<Name> {
        let parent_side = rtype == RecordType::DS && !name.is_root();
        let apex = self.zone_of(&if parent_side { names::parent(name) } else { name.clone() });
        let zone = &self.zones[&apex];
        if rtype == RecordType::DNSKEY && *name == apex && zone.is_signed() {
            message.add_answers(zone.signed_set(&zone.dnskeys(), name));
            return None;
        }
        if rtype == RecordType::DS
            && let Some(child) = self.zones.get(name)
        {
            let ds: Vec<Record> = child
                .parent_ds()
                .into_iter()
                .map(|ds| Record::from_rdata(name.clone(), 3600, RData::DNSSEC(DNSSECRData::DS(ds))))
                .collect();
            if !ds.is_empty() {
                message.add_answers(zone.signed_set(&ds, name));
                return None;
            }
        }
        self.step_in(zone, message, name, rtype)
    }

    fn step_in(&self, zone: &Zone, message: &mut Message, name: &Name, rtype: RecordType) -> Option<Name> {
        let dname = zone.records.iter().find_map(|(owner, sets)| {
            sets.get(&RecordType::DNAME).filter(|_| names::is_below(name, owner)).map(|set| (owner, set))
        });
        if let Some((owner, set)) = dname {
            message.add_answers(zone.signed_set(set, owner));
            let RData::Unknown { rdata, .. } = &set[0].data else { panic!("no DNAME") };
            let target = names::substitute(name, owner, &names::from_wire(&rdata.anything).unwrap()).unwrap();
            message.add_answer(Record::from_rdata(name.clone(), 3600, RData::CNAME(CNAME(target.clone()))));
            return (rtype != RecordType::CNAME).then_some(target);
        }
        let exact = zone.records.get(name).filter(|_| zone.exists(name));
        let wildcard = names::wildcard_below(&zone.closest_encloser(name)).unwrap();
        let (sets, expanded) = match exact {
            Some(sets) => (Some(sets), false),
            None if zone.exists(name) => (None, false),
            None => (zone.records.get(&wildcard), true),
        };
        let sets_of = |t: RecordType| sets.and_then(|sets| sets.get(&t));
        if let Some(set) = sets_of(rtype) {
            message.add_answers(zone.signed_set(set, name));
            if expanded {
                message.add_authorities(zone.wildcard_records(name, self));
            }
            return None;
        }
        if let Some(set) = sets_of(RecordType::CNAME) {
            message.add_answers(zone.signed_set(set, name));
            if expanded {
                message.add_authorities(zone.wildcard_records(name, self));
            }
            let RData::CNAME(CNAME(target)) = &set[0].data else { panic!("no CNAME") };
            return Some(target.clone());
        }
        if sets.is_none() && !zone.exists(name) {
            message.metadata.response_code = ResponseCode::NXDomain;
        }
        message.add_authorities(zone.soa());
        message.add_authorities(zone.denial_records(name, rtype, self));
        None
    }
}

/// The bytes as they would cross the wire.
pub(super) fn over_the_wire(message: &Message) -> Message {
    Message::from_vec(&message.to_vec().expect("encodes")).expect("decodes")
}

/// What the network does with a response.
pub(super) type Upstream<'a> = dyn FnMut(&Name, RecordType) -> Result<Message, TransportFailure> + 'a;

/// Runs one lookup to its end; the answer and the number of queries.
pub(super) fn drive(
    validator: &Arc<Validator>,
    now: u64,
    name: &str,
    rtype: RecordType,
    upstream: &mut Upstream<'_>,
) -> (Answer, usize) {
    drive_in_order(validator, now, name, rtype, upstream, &mut |waiting| waiting - 1)
}

/// The same with a choice of which outstanding query is answered next, given how many there are.
pub(super) fn drive_in_order(
    validator: &Arc<Validator>,
    now: u64,
    name: &str,
    rtype: RecordType,
    upstream: &mut Upstream<'_>,
    choose: &mut dyn FnMut(usize) -> usize,
) -> (Answer, usize) {
    let mut lookup = Lookup::new(Arc::clone(validator), n(name), rtype);
    let mut waiting = Vec::new();
    let mut queries = 0;
    loop {
        match lookup.poll(now) {
            Step::Query { id, name, rtype } => {
                queries += 1;
                assert!(queries <= 1000, "the lookup never ends");
                waiting.push((id, name, rtype));
            }
            Step::Wait => {
                assert!(!waiting.is_empty(), "the lookup waits for nothing");
                let (id, name, rtype) = waiting.remove(choose(waiting.len()));
                match upstream(&name, rtype) {
                    Ok(message) => lookup.handle(now, id, Ok(&over_the_wire(&message))),
                    Err(failure) => lookup.handle(now, id, Err(failure)),
                }
            }
            Step::Done(answer) => return (*answer, queries),
        }
    }
}

/// What a lookup cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) queries: u32,
    pub(super) signature_checks: u32,
    pub(super) nsec3_hashes: u32,
}

/// Runs one lookup to its end and counts its work.
pub(super) fn counted(
    validator: &Arc<Validator>,
    name: &str,
    rtype: RecordType,
    upstream: &mut Upstream<'_>,
) -> (Answer, Cost) {
    let mut lookup = Lookup::new(Arc::clone(validator), n(name), rtype);
    loop {
        match lookup.poll(NOW) {
            Step::Query { id, name, rtype } => match upstream(&name, rtype) {
                Ok(message) => lookup.handle(NOW, id, Ok(&over_the_wire(&message))),
                Err(failure) => lookup.handle(NOW, id, Err(failure)),
            },
            Step::Wait => panic!("the lookup waits for nothing"),
            Step::Done(answer) => {
                let (limits, (checks, hashes)) = (validator.limits(), lookup.work.left());
                let cost = Cost {
                    queries: lookup.queries(),
                    signature_checks: limits.signature_checks - checks,
                    nsec3_hashes: limits.nsec3_hashes - hashes,
                };
                return (*answer, cost);
            }
        }
    }
}

/// One lookup with a fresh cache against an honest upstream.
pub(super) fn ask(world: &World, name: &str, rtype: RecordType) -> Answer {
    ask_with(world, name, rtype, |_, _, _| {})
}

/// The same with a hand that changes responses.
pub(super) fn ask_with(
    world: &World,
    name: &str,
    rtype: RecordType,
    mut tamper: impl FnMut(&Name, RecordType, &mut Message),
) -> Answer {
    let mut upstream = |name: &Name, rtype: RecordType| {
        let mut message = world.respond(name, rtype);
        tamper(name, rtype, &mut message);
        Ok(message)
    };
    drive(&world.validator(), NOW, name, rtype, &mut upstream).0
}

/// A public key that nobody signs with.
pub(super) fn foreign_key() -> PublicKeyBuf {
    static KEY: OnceLock<Key> = OnceLock::new();
    use hickory_proto::dnssec::PublicKey as _;
    let key = KEY.get_or_init(|| Key::new(Algorithm::ECDSAP256SHA256, 257));
    PublicKeyBuf::new(key.dnskey.public_key().public_bytes().to_vec(), Algorithm::ECDSAP256SHA256)
}
