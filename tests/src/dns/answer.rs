//! What a correct name server says: referrals, data, aliases, wildcards and denials with their proofs.
//!
//! RFC 1034 4.3.2 with RFC 4035 3.1, RFC 5155 7.2, RFC 6672. Faults of the server ([`FaultKind::Rcode`] and the like)
//! are found here and reported, the servers act on them.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::internet::Tree;
use crate::sign::{Node, RrSet, SignedZone};
use crate::zone::{FaultKind, dname_target};

/// How many aliases are followed for one question.
const MAX_ALIASES: usize = 16;

/// The sections of a response.
#[derive(Debug, Default)]
pub struct Sections {
    /// The response code.
    pub rcode: ResponseCode,
    /// Whether the server has authority over the name that was asked for.
    pub authoritative: bool,
    /// Answer section.
    pub answers: Vec<Record>,
    /// Authority section.
    pub authorities: Vec<Record>,
    /// Additional section, without OPT.
    pub additionals: Vec<Record>,
    /// A fault of the server that this question meets.
    pub fault: Option<FaultKind>,
}

impl Sections {
    fn failure(rcode: ResponseCode) -> Self {
        Self { rcode, ..Self::default() }
    }

    fn answer(&mut self, set: &RrSet) {
        self.answers.extend(set.records.iter().chain(&set.signatures).cloned());
    }

    fn authority(&mut self, set: &RrSet) {
        if !self.authorities.contains(&set.records[0]) {
            self.authorities.extend(set.records.iter().chain(&set.signatures).cloned());
        }
    }
}

/// What came of a question to one zone.
enum Step {
    /// Answered or denied.
    Done,
    /// An alias; go on with this name.
    Alias(Name),
    /// The name lies below a delegation; the sections hold the referral.
    Referral,
}

/// The answer of the server at an address that has authority over some of the zones.
pub fn authoritative(tree: &Tree, server: std::net::Ipv4Addr, qname: &Name, qtype: RecordType) -> Sections {
    let is_ds = qtype == RecordType::DS;
    let Some(zone) = tree.zone_for(qname, is_ds, |apex| tree.addresses.get(apex) == Some(&server)) else {
        return Sections::failure(ResponseCode::Refused);
    };
    let mut sections = Sections { fault: server_fault(zone, qname, qtype), ..Sections::default() };
    let mut name = qname.clone();
    for _ in 0..MAX_ALIASES {
        match look_up(zone, &name, qtype, &mut sections) {
            Step::Alias(target) if zone.zone.apex.zone_of(&target) && zone.cut_above(&target).is_none() => {
                name = target;
            }
            Step::Referral => return sections,
            Step::Done | Step::Alias(_) => break,
        }
    }
    sections.authoritative = true;
    sections
}

/// The answer of a resolver that knows the whole tree, follows aliases and validates nothing.
pub fn resolved(tree: &Tree, qname: &Name, qtype: RecordType) -> Sections {
    let mut sections = Sections::default();
    let mut name = qname.clone();
    for _ in 0..MAX_ALIASES {
        let Some(zone) = tree.zone_for(&name, qtype == RecordType::DS, |_| true) else {
            return Sections::failure(ResponseCode::ServFail);
        };
        // A resolver turns what its own questions meet into a failure, or into silence of its own.
        match server_fault(zone, &name, qtype) {
            Some(FaultKind::Rcode(_)) => return Sections::failure(ResponseCode::ServFail),
            fault @ Some(_) => sections.fault = fault,
            None => {}
        }
        match look_up(zone, &name, qtype, &mut sections) {
            Step::Done => return sections,
            Step::Alias(target) => name = target,
            Step::Referral => return Sections::failure(ResponseCode::ServFail),
        }
    }
    Sections::failure(ResponseCode::ServFail)
}

/// The fault of the server that strikes this question, if any.
fn server_fault(zone: &SignedZone, qname: &Name, qtype: RecordType) -> Option<FaultKind> {
    let is_of_server = |kind| {
        matches!(kind, FaultKind::Rcode(_) | FaultKind::Silence | FaultKind::Truncate | FaultKind::WrongId)
    };
    zone.zone
        .faults
        .iter()
        .find(|fault| is_of_server(fault.kind) && fault.strikes(qname, qtype))
        .map(|f| f.kind)
}

/// Looks a name up in one zone and adds what belongs into the response.
fn look_up(zone: &SignedZone, qname: &Name, qtype: RecordType, sections: &mut Sections) -> Step {
    if let Some(cut) = zone.cut_above(qname).filter(|cut| *cut != qname || qtype != RecordType::DS) {
        refer(zone, cut, sections);
        return Step::Referral;
    }
    if let Some(step) = follow_dname(zone, qname, sections) {
        return step;
    }
    if let Some(node) = zone.nodes.get(qname) {
        if let Some(step) = positive(node, qname, qtype, sections) {
            return step;
        }
        sections.authority(&zone.nodes[&zone.zone.apex][&RecordType::SOA]);
        if proves(zone, qname, qtype) {
            deny_type(zone, qname, sections);
        }
        return Step::Done;
    }
    let encloser = closest_encloser(zone, qname);
    let wildcard = encloser.prepend_label("*").expect("room for an asterisk");
    if let Some(node) = zone.nodes.get(&wildcard) {
        return from_wildcard(zone, node, &encloser, qname, qtype, sections);
    }
    sections.rcode = ResponseCode::NXDomain;
    sections.authority(&zone.nodes[&zone.zone.apex][&RecordType::SOA]);
    if proves(zone, qname, qtype) {
        add_cover(zone, &encloser, qname, sections);
        if let Some(set) = covering(zone, &wildcard) {
            sections.authority(set);
        }
    }
    Step::Done
}

/// Whether denials in this zone come with proofs for this question.
fn proves(zone: &SignedZone, qname: &Name, qtype: RecordType) -> bool {
    let strikes =
        |fault: &crate::zone::Fault| fault.kind == FaultKind::MissingDenial && fault.strikes(qname, qtype);
    !zone.zone.faults.iter().any(strikes)
}

/// A referral: the delegation, the DS set or the proof that there is none, glue.
fn refer(zone: &SignedZone, cut: &Name, sections: &mut Sections) {
    let node = &zone.nodes[cut];
    sections.authority(&node[&RecordType::NS]);
    match node.get(&RecordType::DS) {
        Some(ds) => sections.authority(ds),
        None if proves(zone, cut, RecordType::DS) => deny_type(zone, cut, sections),
        None => {}
    }
    for ns in &node[&RecordType::NS].records {
        let RData::NS(host) = &ns.data else { continue };
        let glue = zone.nodes.get(&host.0).into_iter().flat_map(Node::values);
        sections.additionals.extend(glue.flat_map(|set| set.records.iter().cloned()));
    }
}

/// The DNAME at the nearest ancestor that has one, and the CNAME made of it.
fn follow_dname(zone: &SignedZone, qname: &Name, sections: &mut Sections) -> Option<Step> {
    let mut above = qname.clone();
    while above.num_labels() > zone.zone.apex.num_labels() {
        above = above.base_name();
        let Some(set) = zone.nodes.get(&above).and_then(|node| node.get(&RecordType::DNAME)) else {
            continue;
        };
        let target = dname_target(&set.records[0].data)?;
        let depth = usize::from(above.num_labels());
        let below: Vec<&[u8]> = qname.iter().take(qname.iter().count() - depth).collect();
        let mut new_name = Name::from_labels(below).ok()?.append_name(&target).ok()?;
        new_name.set_fqdn(true);
        sections.answer(set);
        let cname = RData::CNAME(CNAME(new_name.clone()));
        sections.answers.push(Record::from_rdata(qname.clone(), set.records[0].ttl, cname));
        return Some(Step::Alias(new_name));
    }
    None
}

/// Data of the type, or an alias, at a node.
fn positive(node: &Node, qname: &Name, qtype: RecordType, sections: &mut Sections) -> Option<Step> {
    let renamed = |set: &RrSet| {
        let rename = |record: &Record| {
            let mut record = record.clone();
            record.name = qname.clone();
            record
        };
        RrSet {
            records: set.records.iter().map(rename).collect(),
            signatures: set.signatures.iter().map(rename).collect(),
        }
    };
    if let Some(set) = node.get(&qtype) {
        sections.answer(&renamed(set));
        return Some(Step::Done);
    }
    let set = node.get(&RecordType::CNAME)?;
    sections.answer(&renamed(set));
    let RData::CNAME(target) = &set.records[0].data else { return None };
    Some(Step::Alias(target.0.clone()))
}

/// An answer made of a wildcard, with the proof that nothing closer exists (RFC 4035 3.1.3.3, 3.1.3.4).
fn from_wildcard(
    zone: &SignedZone,
    node: &Node,
    encloser: &Name,
    qname: &Name,
    qtype: RecordType,
    sections: &mut Sections,
) -> Step {
    let step = positive(node, qname, qtype, sections);
    let is_data = step.is_some();
    if !is_data {
        sections.authority(&zone.nodes[&zone.zone.apex][&RecordType::SOA]);
    }
    if proves(zone, qname, qtype) {
        match zone.hash(qname) {
            Some(_) if is_data => {
                if let Some(set) = covering(zone, &next_closer(encloser, qname)) {
                    sections.authority(set);
                }
            }
            _ => add_cover(zone, encloser, qname, sections),
        }
        if !is_data {
            deny_type(zone, &encloser.prepend_label("*").expect("room for an asterisk"), sections);
        }
    }
    step.unwrap_or(Step::Done)
}

/// The proof that a name exists without the type: its own NSEC or NSEC3; for an empty non-terminal the NSEC that leads
/// over it; for an unsigned delegation left out by opt-out, the closest provable encloser.
fn deny_type(zone: &SignedZone, qname: &Name, sections: &mut Sections) {
    match zone.hash(qname) {
        None => {
            if let Some(set) = covering(zone, qname) {
                sections.authority(set);
            }
        }
        Some(hash) => match zone.nsec3.get(&hash) {
            Some(set) => sections.authority(set),
            None => {
                let mut encloser = qname.base_name();
                while !matching_nsec3(zone, &encloser) && encloser != zone.zone.apex {
                    encloser = encloser.base_name();
                }
                add_cover(zone, &encloser, qname, sections);
            }
        },
    }
}

/// The proof that `qname` does not exist below its closest encloser.
fn add_cover(zone: &SignedZone, encloser: &Name, qname: &Name, sections: &mut Sections) {
    match zone.hash(encloser) {
        None => {
            if let Some(set) = covering(zone, qname) {
                sections.authority(set);
            }
        }
        Some(hash) => {
            if let Some(set) = zone.nsec3.get(&hash) {
                sections.authority(set);
            }
            if let Some(set) = covering(zone, &next_closer(encloser, qname)) {
                sections.authority(set);
            }
        }
    }
}

fn matching_nsec3(zone: &SignedZone, name: &Name) -> bool {
    zone.hash(name).is_some_and(|hash| zone.nsec3.contains_key(&hash))
}

/// The name one label longer than the closest encloser, on the way to `qname` (RFC 5155 1.3).
fn next_closer(encloser: &Name, qname: &Name) -> Name {
    qname.trim_to(usize::from(encloser.num_labels()) + 1)
}

/// The nearest ancestor that exists.
fn closest_encloser(zone: &SignedZone, qname: &Name) -> Name {
    let mut above = qname.base_name();
    while !zone.nodes.contains_key(&above) && above != zone.zone.apex {
        above = above.base_name();
    }
    above
}

/// The NSEC or NSEC3 set whose interval holds this name (or that stands at it).
fn covering<'a>(zone: &'a SignedZone, name: &Name) -> Option<&'a RrSet> {
    match zone.hash(name) {
        None => {
            let before = zone.nodes.range(..=name).rev().find_map(|(_, node)| node.get(&RecordType::NSEC));
            before.or_else(|| zone.nodes.values().rev().find_map(|node| node.get(&RecordType::NSEC)))
        }
        Some(hash) => {
            let before = zone.nsec3.range(..=hash).next_back().map(|(_, set)| set);
            before.or_else(|| zone.nsec3.values().next_back())
        }
    }
}
