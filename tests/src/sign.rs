//! Signing zones in process: keys, canonical form, RRSIG, NSEC and NSEC3 chains (RFC 4034, 4035, 5155).
//!
//! The bytes to be signed are put together here, by the RFC's text, and not by the library that the daemon validates
//! with: so each side checks the other. Faults of [`crate::zone`] that concern signatures and records are applied here.

use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::dnssec::crypto::{EcdsaSigningKey, Ed25519SigningKey};
use hickory_proto::dnssec::rdata::sig::SigInput;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, NSEC, NSEC3, NSEC3PARAM, RRSIG};
use hickory_proto::dnssec::{Algorithm, DigestType, Nsec3HashAlgorithm, SigningKey, TBS};
use hickory_proto::rr::rdata::{A, MX};
use hickory_proto::rr::{Name, RData, Record, RecordType, SerialNumber};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};

use crate::zone::{Denial, FaultKind, ParentDs, Signing, Zone, wire_name};

/// How long before now signatures begin, in seconds.
const INCEPTION_BEFORE_SECONDS: u64 = 3600;
/// How long after now signatures end, in seconds.
const EXPIRATION_AFTER_SECONDS: u64 = 14 * 86_400;
/// How far an expired signature lies in the past, and a future one in the future, in seconds. Validators forgive up
/// to a day.
const OUT_OF_VALIDITY_SECONDS: u64 = 10 * 86_400;

/// The key of a zone: it signs its own DNSKEY set and everything else.
pub struct ZoneKey {
    signer: Box<dyn SigningKey>,
    dnskey: DNSKEY,
    tag: u16,
}

impl ZoneKey {
    /// A new random key. ECDSA P-256, P-384 and Ed25519 are known.
    pub fn generate(algorithm: Algorithm) -> Self {
        let signer: Box<dyn SigningKey> = match algorithm {
            Algorithm::ED25519 => {
                let der = Ed25519SigningKey::generate_pkcs8().expect("a random key");
                Box::new(Ed25519SigningKey::from_pkcs8(&der).expect("the key just made"))
            }
            algorithm => {
                let der = EcdsaSigningKey::generate_pkcs8(algorithm).expect("an algorithm we can sign with");
                Box::new(EcdsaSigningKey::from_pkcs8(&der, algorithm).expect("the key just made"))
            }
        };
        let public = signer.to_public_key().expect("a public key");
        let dnskey = DNSKEY::new(true, true, false, public);
        let tag = dnskey.calculate_key_tag().expect("a key tag");
        Self { signer, dnskey, tag }
    }

    /// The DNSKEY record's data.
    pub fn dnskey(&self) -> &DNSKEY {
        &self.dnskey
    }

    /// The key tag.
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// The DS record's data for this key as the key of `apex` (SHA-256).
    pub fn ds(&self, apex: &Name) -> DS {
        let digest = self.dnskey.to_digest(apex, DigestType::SHA256).expect("a digest");
        DS::new(self.tag, self.signer.algorithm(), DigestType::SHA256, digest.as_ref().to_vec())
    }
}

/// One record set with its signatures.
#[derive(Debug, Clone)]
pub struct RrSet {
    /// The records; all of one owner and type.
    pub records: Vec<Record>,
    /// The RRSIG records.
    pub signatures: Vec<Record>,
}

impl RrSet {
    /// Its owner.
    pub fn owner(&self) -> &Name {
        &self.records[0].name
    }
}

/// The record sets of one name. Empty for an empty non-terminal.
pub type Node = BTreeMap<RecordType, RrSet>;

/// A zone ready to be served.
pub struct SignedZone {
    /// What it was made from.
    pub zone: Zone,
    /// Every name of the zone, empty non-terminals and glue too, in canonical order.
    pub nodes: BTreeMap<Name, Node>,
    /// The NSEC3 records by the hash of the name they stand for.
    pub nsec3: BTreeMap<Vec<u8>, RrSet>,
    /// The delegations.
    pub cuts: BTreeSet<Name>,
}

impl SignedZone {
    /// Whether the name lies at or below a delegation, and where that is.
    pub fn cut_above(&self, name: &Name) -> Option<&Name> {
        self.cuts.iter().find(|cut| cut.zone_of(name))
    }

    /// The NSEC3 hash of a name by the zone's parameters.
    pub fn hash(&self, name: &Name) -> Option<Vec<u8>> {
        match &self.zone.denial {
            Denial::Nsec => None,
            Denial::Nsec3 { iterations, salt, .. } => Some(nsec3_hash(name, salt, *iterations)),
        }
    }
}

/// A delegation that the zone has to hold: where, its server, and the child's key as the parent shall vouch for it.
pub struct Child<'a> {
    /// The zone below.
    pub zone: &'a Zone,
    /// The address of its server.
    pub server: std::net::Ipv4Addr,
    /// Its key, if it has one.
    pub key: Option<&'a ZoneKey>,
}

/// Signs a zone (or only arranges it, where it is unsigned).
///
/// `now` is in Unix seconds. `server` is the address of the zone's own name server.
pub fn sign_zone(
    zone: &Zone,
    key: Option<&ZoneKey>,
    server: std::net::Ipv4Addr,
    children: &[Child<'_>],
    now: u64,
) -> SignedZone {
    let mut records = zone.records.clone();
    records.push(zone.soa());
    add_server(&mut records, &zone.apex, &zone.server_name(), server, zone.ttl_seconds);
    for child in children {
        add_server(&mut records, &child.zone.apex, &child.zone.server_name(), child.server, zone.ttl_seconds);
        if let Some(ds) = child_ds(child) {
            records.push(dnssec(&child.zone.apex, zone.ttl_seconds, DNSSECRData::DS(ds)));
        }
    }
    let key = key.filter(|_| zone.signing != Signing::Unsigned);
    if let Some(key) = key {
        let data = DNSSECRData::DNSKEY(key.dnskey.clone());
        records.push(dnssec(&zone.apex, zone.ttl_seconds, data));
        if let Denial::Nsec3 { iterations, salt, .. } = &zone.denial {
            let data = NSEC3PARAM::new(Nsec3HashAlgorithm::SHA1, false, *iterations, salt.clone());
            records.push(dnssec(&zone.apex, 0, DNSSECRData::NSEC3PARAM(data)));
        }
    }
    let (nodes, cuts) = arrange(zone, records);
    let mut signed = SignedZone { zone: zone.clone(), nodes, nsec3: BTreeMap::new(), cuts };
    if let Some(key) = key {
        match zone.denial.clone() {
            Denial::Nsec => add_nsec(&mut signed),
            Denial::Nsec3 { iterations, salt, opt_out } => add_nsec3(&mut signed, iterations, &salt, opt_out),
        }
        sign_all(&mut signed, key, now);
    }
    signed
}

/// A DNSSEC record.
fn dnssec(owner: &Name, ttl_seconds: u32, data: DNSSECRData) -> Record {
    Record::from_rdata(owner.clone(), ttl_seconds, RData::DNSSEC(data))
}

/// NS and address of a zone's server: in the zone itself authoritative data, in its parent delegation and glue.
fn add_server(records: &mut Vec<Record>, apex: &Name, host: &Name, address: std::net::Ipv4Addr, ttl: u32) {
    let ns = RData::NS(hickory_proto::rr::rdata::NS(host.clone()));
    records.push(Record::from_rdata(apex.clone(), ttl, ns));
    records.push(Record::from_rdata(host.clone(), ttl, RData::A(A(address))));
}

/// What the parent publishes as the child's DS.
fn child_ds(child: &Child<'_>) -> Option<DS> {
    let right = child.key?.ds(&child.zone.apex);
    match child.zone.parent_ds {
        ParentDs::Missing => None,
        ParentDs::Right => Some(right),
        ParentDs::Wrong => {
            let mut digest = right.digest().to_vec();
            digest[0] ^= 1;
            Some(DS::new(right.key_tag(), right.algorithm(), right.digest_type(), digest))
        }
        ParentDs::UnknownAlgorithm => Some(DS::new(
            right.key_tag(),
            Algorithm::Unknown(200),
            right.digest_type(),
            right.digest().to_vec(),
        )),
    }
}

/// Groups records into sets by owner and type, adds the empty non-terminals and finds the delegations.
fn arrange(zone: &Zone, records: Vec<Record>) -> (BTreeMap<Name, Node>, BTreeSet<Name>) {
    let mut nodes: BTreeMap<Name, Node> = BTreeMap::new();
    let mut cuts = BTreeSet::new();
    for record in records {
        assert!(zone.apex.zone_of(&record.name), "{} lies outside {}", record.name, zone.apex);
        if record.record_type() == RecordType::NS && record.name != zone.apex {
            cuts.insert(record.name.clone());
        }
        let set = nodes
            .entry(record.name.clone())
            .or_default()
            .entry(record.record_type())
            .or_insert_with(|| RrSet { records: Vec::new(), signatures: Vec::new() });
        if !set.records.iter().any(|known| known.data == record.data) {
            set.records.push(record);
        }
    }
    let owners: Vec<Name> = nodes.keys().cloned().collect();
    for owner in owners {
        let mut above = owner.base_name();
        while above.num_labels() > zone.apex.num_labels() {
            nodes.entry(above.clone()).or_default();
            above = above.base_name();
        }
    }
    (nodes, cuts)
}

/// Whether the zone speaks with authority at this name: not below a delegation.
fn is_authoritative(cuts: &BTreeSet<Name>, name: &Name) -> bool {
    !cuts.iter().any(|cut| cut != name && cut.zone_of(name))
}

/// The types a denial record lists for a node: at a delegation only NS and DS belong to this zone.
fn types_of(node: &Node, is_cut: bool) -> Vec<RecordType> {
    let types = node.keys().copied();
    if is_cut {
        types.filter(|it| matches!(it, RecordType::NS | RecordType::DS)).collect()
    } else {
        types.collect()
    }
}

/// One NSEC record at each authoritative name that holds records, in a ring (RFC 4034 4).
fn add_nsec(signed: &mut SignedZone) {
    let owners: Vec<Name> = signed
        .nodes
        .iter()
        .filter(|(owner, node)| !node.is_empty() && is_authoritative(&signed.cuts, owner))
        .map(|(owner, _)| owner.clone())
        .collect();
    for (index, owner) in owners.iter().enumerate() {
        let next = &owners[(index + 1) % owners.len()];
        let is_cut = signed.cuts.contains(owner);
        let node = signed.nodes.get_mut(owner).expect("an owner just listed");
        let data = NSEC::new_cover_self(next.clone(), types_of(node, is_cut));
        let record = dnssec(owner, signed.zone.ttl_seconds, DNSSECRData::NSEC(data));
        node.insert(RecordType::NSEC, RrSet { records: vec![record], signatures: Vec::new() });
    }
}

/// One NSEC3 record for each authoritative name and empty non-terminal, in a ring of hashes (RFC 5155 7.1).
fn add_nsec3(signed: &mut SignedZone, iterations: u16, salt: &[u8], opt_out: bool) {
    let is_unsigned_cut =
        |owner: &Name, node: &Node| signed.cuts.contains(owner) && !node.contains_key(&RecordType::DS);
    let mut covered: BTreeSet<Name> = signed
        .nodes
        .iter()
        .filter(|(owner, node)| {
            !node.is_empty()
                && is_authoritative(&signed.cuts, owner)
                && !(opt_out && is_unsigned_cut(owner, node))
        })
        .map(|(owner, _)| owner.clone())
        .collect();
    // Empty non-terminals above a name that is in the chain are in it too.
    for owner in covered.clone() {
        let mut above = owner.base_name();
        while above.num_labels() > signed.zone.apex.num_labels() {
            covered.insert(above.clone());
            above = above.base_name();
        }
    }
    let hashes: BTreeMap<Vec<u8>, Name> =
        covered.into_iter().map(|owner| (nsec3_hash(&owner, salt, iterations), owner)).collect();
    let ring: Vec<&Vec<u8>> = hashes.keys().collect();
    for (index, (hash, owner)) in hashes.iter().enumerate() {
        let next = ring[(index + 1) % ring.len()].clone();
        let node = &signed.nodes[owner];
        let is_cut = signed.cuts.contains(owner);
        let mut types = types_of(node, is_cut);
        // Only names with something to sign carry RRSIGs: no empty non-terminal, no unsigned delegation.
        if types.iter().any(|it| *it == RecordType::DS || !is_cut) {
            types.push(RecordType::RRSIG);
        }
        let data = NSEC3::new(Nsec3HashAlgorithm::SHA1, opt_out, iterations, salt.to_vec(), next, types);
        let label = base32hex(hash);
        let owner = signed.zone.full_name(&label);
        let record = dnssec(&owner, signed.zone.ttl_seconds, DNSSECRData::NSEC3(data));
        signed.nsec3.insert(hash.clone(), RrSet { records: vec![record], signatures: Vec::new() });
    }
}

/// The NSEC3 hash of a name (RFC 5155 5).
pub fn nsec3_hash(name: &Name, salt: &[u8], iterations: u16) -> Vec<u8> {
    let digest = |bytes: &[u8]| {
        let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
        context.update(bytes);
        context.update(salt);
        context.finish().as_ref().to_vec()
    };
    (0..iterations).fold(digest(&wire_name(name)), |hash, _| digest(&hash))
}

/// Base 32 with the extended hex alphabet, lower case and unpadded (RFC 4648 7), as NSEC3 owner names use it.
pub fn base32hex(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let bits = bytes.len() * 8;
    (0..bits.div_ceil(5))
        .map(|group| {
            let value = (0..5).fold(0_usize, |value, offset| {
                let bit = group * 5 + offset;
                let set = bytes.get(bit / 8).is_some_and(|byte| byte & (0x80 >> (bit % 8)) != 0);
                value << 1 | usize::from(set)
            });
            char::from(ALPHABET[value])
        })
        .collect()
}

/// Signs every authoritative set, and lets the zone's faults strike.
fn sign_all(signed: &mut SignedZone, key: &ZoneKey, now: u64) {
    let zone = &signed.zone;
    for (owner, node) in &mut signed.nodes {
        if !is_authoritative(&signed.cuts, owner) {
            continue;
        }
        let is_cut = signed.cuts.contains(owner);
        for (rtype, set) in node {
            if !is_cut || matches!(*rtype, RecordType::DS | RecordType::NSEC) {
                sign_set(zone, set, *rtype, key, now);
            }
        }
    }
    for set in signed.nsec3.values_mut() {
        sign_set(zone, set, RecordType::NSEC3, key, now);
    }
}

/// Signs one set, as its faults demand.
fn sign_set(zone: &Zone, set: &mut RrSet, rtype: RecordType, key: &ZoneKey, now: u64) {
    let owner = set.owner().clone();
    let struck = |kind| zone.faults.iter().any(|fault| fault.kind == kind && fault.strikes(&owner, rtype));
    let (mut inception, mut expiration) = (now - INCEPTION_BEFORE_SECONDS, now + EXPIRATION_AFTER_SECONDS);
    if struck(FaultKind::Expired) {
        expiration = now - OUT_OF_VALIDITY_SECONDS;
        inception = expiration - EXPIRATION_AFTER_SECONDS;
    }
    if struck(FaultKind::NotYetValid) {
        inception = now + OUT_OF_VALIDITY_SECONDS;
    }
    if !struck(FaultKind::Stripped) {
        let tag = if struck(FaultKind::WrongKeyTag) { key.tag.wrapping_add(1) } else { key.tag };
        let mut signature = signature(zone, set, rtype, key, tag, inception, expiration);
        if struck(FaultKind::BrokenSignature) {
            flip_signature(&mut signature);
        }
        set.signatures.push(signature);
    }
    if struck(FaultKind::Tampered) {
        set.records.iter_mut().for_each(tamper);
    }
}

/// The RRSIG record of a set (RFC 4034 3.1.8.1).
fn signature(
    zone: &Zone,
    set: &RrSet,
    rtype: RecordType,
    key: &ZoneKey,
    key_tag: u16,
    inception: u64,
    expiration: u64,
) -> Record {
    let owner = set.owner();
    let ttl = set.records[0].ttl;
    let serial = |seconds: u64| SerialNumber::new(u32::try_from(seconds).expect("a time before 2106"));
    let input = SigInput {
        type_covered: rtype,
        algorithm: key.signer.algorithm(),
        // Name::num_labels leaves a leading asterisk out, as the RRSIG field does.
        num_labels: owner.num_labels(),
        original_ttl: ttl,
        sig_expiration: serial(expiration),
        sig_inception: serial(inception),
        key_tag,
        signer_name: zone.apex.clone(),
    };
    let bytes = signed_bytes(&input, set);
    let signature = key.signer.sign(&TBS::from(bytes.as_slice())).expect("a signature");
    dnssec(owner, ttl, DNSSECRData::RRSIG(RRSIG::from_sig(input, signature)))
}

/// RRSIG data without the signature, then each record in canonical form and order (RFC 4034 6.2, 6.3).
fn signed_bytes(input: &SigInput, set: &RrSet) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(u16::from(input.type_covered).to_be_bytes());
    bytes.push(u8::from(input.algorithm));
    bytes.push(input.num_labels);
    bytes.extend(input.original_ttl.to_be_bytes());
    bytes.extend(input.sig_expiration.get().to_be_bytes());
    bytes.extend(input.sig_inception.get().to_be_bytes());
    bytes.extend(input.key_tag.to_be_bytes());
    bytes.extend(wire_name(&input.signer_name));
    let mut datas: Vec<Vec<u8>> = set.records.iter().map(canonical_data).collect();
    datas.sort();
    datas.dedup();
    for data in datas {
        bytes.extend(wire_name(set.owner()));
        bytes.extend(u16::from(input.type_covered).to_be_bytes());
        bytes.extend(1_u16.to_be_bytes());
        bytes.extend(input.original_ttl.to_be_bytes());
        bytes.extend(u16::try_from(data.len()).expect("record data of at most 64 KiB").to_be_bytes());
        bytes.extend(data);
    }
    bytes
}

/// A record's data in canonical form. Every name the laboratory puts into data is lower case already.
fn canonical_data(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    encoder.set_canonical_form(true);
    record.data.emit(&mut encoder).expect("record data that can be written");
    bytes
}

/// Flips one bit of a signature.
fn flip_signature(record: &mut Record) {
    if let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &record.data {
        let mut bytes = rrsig.sig().to_vec();
        bytes[5] ^= 0x10;
        let input = rrsig.input().clone();
        record.data = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, bytes)));
    }
}

/// Changes the data of a record as somebody on the path might.
fn tamper(record: &mut Record) {
    use hickory_proto::rr::rdata::{CNAME, TLSA, TXT};

    record.data = match &record.data {
        RData::A(A(address)) => RData::A(A((u32::from(*address) ^ 1).into())),
        RData::MX(mx) => RData::MX(MX::new(mx.preference ^ 1, mx.exchange.clone())),
        RData::CNAME(CNAME(target)) => {
            RData::CNAME(CNAME(target.prepend_label("evil").expect("room for another label")))
        }
        RData::TLSA(tlsa) => {
            let mut bytes = tlsa.cert_data.clone();
            if let Some(first) = bytes.first_mut() {
                *first ^= 1;
            }
            RData::TLSA(TLSA::new(tlsa.cert_usage, tlsa.selector, tlsa.matching, bytes))
        }
        RData::TXT(_) => RData::TXT(TXT::new(vec!["tampered".to_owned()])),
        other => panic!("the laboratory cannot tamper with {}", other.record_type()),
    };
}
