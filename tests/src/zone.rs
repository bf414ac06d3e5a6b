//! What a zone of the laboratory holds, as a person would write it down: records, how it is signed, how its parent
//! vouches for it, and which faults it shall show.
//!
//! This module only describes. [`crate::sign`] turns the description into signed record sets, [`crate::dns`] serves
//! them. A description that makes no sense (a name that is none) panics: it is written by a test's author.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::dnssec::Algorithm;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, NULL, SOA, TLSA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// The TTL of every record unless the zone says otherwise, in seconds.
pub const DEFAULT_TTL_SECONDS: u32 = 300;

/// A name from text, with or without the final dot, in lower case.
pub fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).expect("a domain name");
    name.set_fqdn(true);
    name.to_lowercase()
}

/// Whether and how a zone is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// No DNSSEC at all.
    Unsigned,
    /// Every authoritative record set is signed by one key of this algorithm.
    With(Algorithm),
}

/// How a signed zone proves that something is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// NSEC (RFC 4034 4).
    Nsec,
    /// NSEC3 (RFC 5155).
    Nsec3 {
        /// Additional hash iterations; anything but 0 is discouraged (RFC 9276), large values are an attack.
        iterations: u16,
        /// The salt.
        salt: Vec<u8>,
        /// Leave out delegations to unsigned zones, and say so in the flag.
        opt_out: bool,
    },
}

/// What the parent zone says of this zone's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParentDs {
    /// A DS record of the key, where there is a key.
    Right,
    /// No DS record: the zone is an island, insecure for the rest of the world.
    Missing,
    /// A DS record that no key of the zone matches.
    Wrong,
    /// A DS record of an algorithm nobody implements: the zone counts as insecure (RFC 4035 5.2).
    UnknownAlgorithm,
}

/// A fault and where it strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The owner name it strikes; every name where `None`.
    pub owner: Option<Name>,
    /// The record type it strikes (of a question, for faults of the server); every type where `None`.
    pub rtype: Option<RecordType>,
    /// What goes wrong.
    pub kind: FaultKind,
}

impl Fault {
    /// Whether the fault strikes this name and type.
    pub fn strikes(&self, owner: &Name, rtype: RecordType) -> bool {
        self.owner.as_ref().is_none_or(|name| name == owner) && self.rtype.is_none_or(|it| it == rtype)
    }
}

/// What can go wrong with a zone or with its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The signature's end lies in the past.
    Expired,
    /// The signature's start lies in the future.
    NotYetValid,
    /// The records come without their signatures.
    Stripped,
    /// One bit of the signature is flipped.
    BrokenSignature,
    /// The records were changed after they had been signed.
    Tampered,
    /// The signature names another key than any the zone has.
    WrongKeyTag,
    /// Denials come without their NSEC or NSEC3 records.
    MissingDenial,
    /// The server answers with this code.
    Rcode(ResponseCode),
    /// The server does not answer.
    Silence,
    /// The server truncates every answer over UDP.
    Truncate,
    /// The server answers with another id.
    WrongId,
}

/// A zone of the private Internet.
#[derive(Debug, Clone)]
pub struct Zone {
    /// Where the zone begins.
    pub apex: Name,
    /// The records, apart from SOA, NS of the apex, DNSSEC records and delegations of zones the Internet knows.
    pub records: Vec<Record>,
    /// The TTL given to records added from now on, in seconds.
    pub ttl_seconds: u32,
    /// Whether and how it is signed.
    pub signing: Signing,
    /// How it proves absence.
    pub denial: Denial,
    /// What its parent says of its key.
    pub parent_ds: ParentDs,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// The address of its name server; one is chosen by the zone's depth where `None`.
    pub server: Option<Ipv4Addr>,
}

impl Zone {
    /// A zone signed with ECDSA P-256 and NSEC, vouched for by its parent, without records and without faults.
    pub fn new(apex: &str) -> Self {
        Self {
            apex: name(apex),
            records: Vec::new(),
            ttl_seconds: DEFAULT_TTL_SECONDS,
            signing: Signing::With(Algorithm::ECDSAP256SHA256),
            denial: Denial::Nsec,
            parent_ds: ParentDs::Right,
            faults: Vec::new(),
            server: None,
        }
    }

    /// The same zone without DNSSEC.
    #[must_use]
    pub fn unsigned(mut self) -> Self {
        self.signing = Signing::Unsigned;
        self
    }

    /// The same zone signed with this algorithm.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.signing = Signing::With(algorithm);
        self
    }

    /// The same zone with NSEC3 as RFC 9276 wants it: no salt, no iterations.
    #[must_use]
    pub fn nsec3(self) -> Self {
        self.denial(Denial::Nsec3 { iterations: 0, salt: Vec::new(), opt_out: false })
    }

    /// The same zone with NSEC3 and opt-out.
    #[must_use]
    pub fn nsec3_opt_out(self) -> Self {
        self.denial(Denial::Nsec3 { iterations: 0, salt: Vec::new(), opt_out: true })
    }

    /// The same zone with this kind of denial.
    #[must_use]
    pub fn denial(mut self, denial: Denial) -> Self {
        self.denial = denial;
        self
    }

    /// The same zone, about whose key the parent says this.
    #[must_use]
    pub fn parent_ds(mut self, parent_ds: ParentDs) -> Self {
        self.parent_ds = parent_ds;
        self
    }

    /// The same zone, served at this address.
    #[must_use]
    pub fn served_at(mut self, server: Ipv4Addr) -> Self {
        self.server = Some(server);
        self
    }

    /// The same zone with a TTL for the records added from now on.
    #[must_use]
    pub fn ttl(mut self, seconds: u32) -> Self {
        self.ttl_seconds = seconds;
        self
    }

    /// A fault that strikes one name (relative to the apex, see [`Zone::full_name`]) and one type.
    #[must_use]
    pub fn fault_at(mut self, owner: &str, rtype: RecordType, kind: FaultKind) -> Self {
        self.faults.push(Fault { owner: Some(self.full_name(owner)), rtype: Some(rtype), kind });
        self
    }

    /// A fault that strikes every name, for one type.
    #[must_use]
    pub fn fault_of_type(mut self, rtype: RecordType, kind: FaultKind) -> Self {
        self.faults.push(Fault { owner: None, rtype: Some(rtype), kind });
        self
    }

    /// A fault that strikes the whole zone.
    #[must_use]
    pub fn fault(mut self, kind: FaultKind) -> Self {
        self.faults.push(Fault { owner: None, rtype: None, kind });
        self
    }

    /// A record of any type.
    #[must_use]
    pub fn record(mut self, owner: &str, data: RData) -> Self {
        let owner = self.full_name(owner);
        self.records.push(Record::from_rdata(owner, self.ttl_seconds, data));
        self
    }

    /// An A or AAAA record.
    #[must_use]
    pub fn address(self, owner: &str, address: impl Into<IpAddr>) -> Self {
        let data = match address.into() {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        self.record(owner, data)
    }

    /// An MX record; the host is relative to the apex unless it ends with a dot.
    #[must_use]
    pub fn mx(self, owner: &str, preference: u16, host: &str) -> Self {
        let host = self.full_name(host);
        self.record(owner, RData::MX(MX::new(preference, host)))
    }

    /// The null MX: this domain takes no mail (RFC 7505).
    #[must_use]
    pub fn null_mx(self, owner: &str) -> Self {
        self.record(owner, RData::MX(MX::new(0, Name::root())))
    }

    /// A TLSA record for the host at a port; `host` is the base domain.
    #[must_use]
    pub fn tlsa(self, host: &str, port: u16, data: TLSA) -> Self {
        let owner = match host {
            "@" => format!("_{port}._tcp"),
            host => format!("_{port}._tcp.{host}"),
        };
        self.record(&owner, RData::TLSA(data))
    }

    /// A CNAME record; the target is relative to the apex unless it ends with a dot.
    #[must_use]
    pub fn cname(self, owner: &str, target: &str) -> Self {
        let target = self.full_name(target);
        self.record(owner, RData::CNAME(CNAME(target)))
    }

    /// A DNAME record (RFC 6672); the target is relative to the apex unless it ends with a dot.
    #[must_use]
    pub fn dname(self, owner: &str, target: &str) -> Self {
        let target = self.full_name(target);
        self.record(owner, dname_data(&target))
    }

    /// A TXT record of one string.
    #[must_use]
    pub fn txt(self, owner: &str, text: &str) -> Self {
        // RFC 1035 3.3: strings of 255 octets at most.
        let strings = text.as_bytes().chunks(255).map(|piece| String::from_utf8_lossy(piece).into_owned());
        self.record(owner, RData::TXT(TXT::new(strings.collect())))
    }

    /// A delegation to servers outside the laboratory's knowledge (a lame or dead one, say), without a DS record.
    #[must_use]
    pub fn delegation(self, owner: &str, server: &str) -> Self {
        let server = self.full_name(server);
        self.record(owner, RData::NS(NS(server)))
    }

    /// The full name of an owner written relative to the apex: `@` is the apex, a final dot makes it absolute.
    pub fn full_name(&self, owner: &str) -> Name {
        if owner == "@" {
            self.apex.clone()
        } else if owner.ends_with('.') {
            name(owner)
        } else {
            let mut relative = Name::from_ascii(owner).expect("a domain name");
            relative.set_fqdn(false);
            let mut full = relative.append_name(&self.apex).expect("a name of at most 255 octets");
            full.set_fqdn(true);
            full.to_lowercase()
        }
    }

    /// The name of the zone's own name server: `ns1` below the apex.
    pub fn server_name(&self) -> Name {
        self.full_name("ns1")
    }

    /// The SOA record of the zone. Its minimum is the zone's TTL.
    pub fn soa(&self) -> Record {
        let contact = self.full_name("hostmaster");
        let soa = SOA::new(self.server_name(), contact, 1, 3600, 600, 86_400, self.ttl_seconds);
        Record::from_rdata(self.apex.clone(), self.ttl_seconds, RData::SOA(soa))
    }
}

/// The data of a DNAME record, which hickory-proto has no type for.
pub fn dname_data(target: &Name) -> RData {
    RData::Unknown { code: RecordType::DNAME, rdata: NULL::with(wire_name(target)) }
}

/// The target of a DNAME record's data.
pub fn dname_target(data: &RData) -> Option<Name> {
    use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

    let RData::Unknown { code: RecordType::DNAME, rdata } = data else { return None };
    Name::read(&mut BinDecoder::new(&rdata.anything)).ok()
}

/// A name in wire form, lower case and without compression.
pub fn wire_name(name: &Name) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 1);
    for label in name.iter() {
        bytes.push(u8::try_from(label.len()).expect("a label of at most 63 octets"));
        bytes.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    bytes.push(0);
    bytes
}
