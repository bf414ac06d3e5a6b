//! The private Internet: every zone from the root down, their keys, and the tree of signed zones made of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::dnssec::PublicKey;
use hickory_proto::rr::Name;

use crate::sign::{Child, SignedZone, ZoneKey, sign_zone};
use crate::zone::{Signing, Zone, name};

/// Where the root zone is served.
pub const ROOT_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 0, 1);
/// Where top-level zones are served.
const TLD_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 0, 2);
/// The first of the addresses among which all other zones are spread.
const LEAF_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 0, 3);
/// How many addresses the zones below the top level are spread over.
const LEAF_SERVERS: u32 = 4;

/// All zones of the laboratory and their keys. Keys stay when zones change, so the trust anchor stays too.
pub struct Internet {
    zones: BTreeMap<Name, Zone>,
    keys: BTreeMap<Name, Arc<ZoneKey>>,
}

impl Internet {
    /// The Internet of these zones; the root and top-level zones that are missing are added, signed with NSEC.
    pub fn new(zones: impl IntoIterator<Item = Zone>) -> Self {
        let mut internet = Self { zones: BTreeMap::new(), keys: BTreeMap::new() };
        internet.set(Zone::new("."));
        for zone in zones {
            let top = zone.apex.trim_to(1);
            if !internet.zones.contains_key(&top) {
                internet.set(Zone::new(&top.to_ascii()));
            }
            internet.set(zone);
        }
        internet
    }

    /// Adds a zone, or takes it in place of the one of the same apex. A key of the same algorithm is kept.
    pub fn set(&mut self, zone: Zone) {
        if let Signing::With(algorithm) = zone.signing {
            let known = self.keys.get(&zone.apex);
            if known.is_none_or(|key| key.dnskey().public_key().algorithm() != algorithm) {
                self.keys.insert(zone.apex.clone(), Arc::new(ZoneKey::generate(algorithm)));
            }
        }
        self.zones.insert(zone.apex.clone(), zone);
    }

    /// Changes a zone through a function from the old description to the new.
    pub fn change(&mut self, apex: &str, change: impl FnOnce(Zone) -> Zone) {
        let zone = self.zones.get(&name(apex)).expect("a zone of the laboratory").clone();
        self.set(change(zone));
    }

    /// Gives a zone a new key (its parent's DS follows at the next signing).
    pub fn new_key(&mut self, apex: &str) {
        let apex = name(apex);
        if let Some(Signing::With(algorithm)) = self.zones.get(&apex).map(|zone| zone.signing) {
            self.keys.insert(apex, Arc::new(ZoneKey::generate(algorithm)));
        }
    }

    /// The description of a zone.
    pub fn zone(&self, apex: &str) -> Option<&Zone> {
        self.zones.get(&name(apex))
    }

    /// The zones signed as of now.
    pub fn tree(&self) -> Tree {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        self.tree_at(now.as_secs())
    }

    /// The zones signed as of this time, in Unix seconds.
    pub fn tree_at(&self, now: u64) -> Tree {
        let addresses = self.server_addresses();
        let zones = self.zones.values().map(|zone| {
            let children: Vec<Child<'_>> = self
                .zones
                .values()
                .filter(|child| self.parent_of(&child.apex) == Some(&zone.apex))
                .map(|child| Child {
                    zone: child,
                    server: addresses[&child.apex],
                    key: self.key_in_use(child),
                })
                .collect();
            let signed = sign_zone(zone, self.key_in_use(zone), addresses[&zone.apex], &children, now);
            (zone.apex.clone(), signed)
        });
        Tree { zones: zones.collect(), addresses: addresses.clone() }
    }

    /// The root's key as a trust anchor file: one DNSKEY and one DS record in zone file form.
    pub fn trust_anchor(&self) -> String {
        let root = Name::root();
        let key = &self.keys[&root];
        let public = base64(key.dnskey().public_key().public_bytes());
        let algorithm = u8::from(key.dnskey().public_key().algorithm());
        format!(". 86400 IN DNSKEY {} 3 {algorithm} {public}\n", key.dnskey().flags())
    }

    /// The root's key as a DS record in zone file form.
    pub fn trust_anchor_ds(&self) -> String {
        let ds = self.keys[&Name::root()].ds(&Name::root());
        let mut text = format!(". 86400 IN DS {} {} 2 ", ds.key_tag(), u8::from(ds.algorithm()));
        for byte in ds.digest() {
            write!(text, "{byte:02X}").expect("writing into a string");
        }
        text.push('\n');
        text
    }

    /// The root's server as a root hints file.
    pub fn root_hints(&self) -> String {
        let address = self.server_addresses()[&Name::root()];
        format!(". 3600000 IN NS ns1.\nns1. 3600000 IN A {address}\n")
    }

    fn key_in_use(&self, zone: &Zone) -> Option<&ZoneKey> {
        match zone.signing {
            Signing::Unsigned => None,
            Signing::With(_) => self.keys.get(&zone.apex).map(Arc::as_ref),
        }
    }

    /// The zone that delegates to this one.
    fn parent_of(&self, apex: &Name) -> Option<&Name> {
        self.zones
            .keys()
            .filter(|candidate| *candidate != apex && candidate.zone_of(apex))
            .max_by_key(|candidate| candidate.num_labels())
    }

    fn server_addresses(&self) -> BTreeMap<Name, Ipv4Addr> {
        let mut leaves = 0;
        self.zones
            .values()
            .map(|zone| {
                let chosen = match zone.apex.num_labels() {
                    0 => ROOT_SERVER,
                    1 => TLD_SERVER,
                    _ => {
                        leaves += 1;
                        Ipv4Addr::from(u32::from(LEAF_SERVER) + (leaves - 1) % LEAF_SERVERS)
                    }
                };
                (zone.apex.clone(), zone.server.unwrap_or(chosen))
            })
            .collect()
    }
}

/// Every zone, signed and ready to be served.
pub struct Tree {
    /// The zones by apex.
    pub zones: BTreeMap<Name, SignedZone>,
    /// Where each zone is served.
    pub addresses: BTreeMap<Name, Ipv4Addr>,
}

impl Tree {
    /// The zone in whose authority a name and type lie, among those the filter lets through. A DS record belongs to
    /// the zone above the delegation (RFC 4035 3.1.4.1).
    pub fn zone_for(
        &self,
        qname: &Name,
        is_ds: bool,
        mut serves: impl FnMut(&Name) -> bool,
    ) -> Option<&SignedZone> {
        let holds = |(apex, _): &(&Name, &SignedZone)| apex.zone_of(qname) && serves(apex);
        let mut enclosing: Vec<(&Name, &SignedZone)> = self.zones.iter().filter(holds).collect();
        enclosing.sort_by_key(|(apex, _)| apex.num_labels());
        let (deepest, zone) = enclosing.pop()?;
        if is_ds && deepest == qname {
            Some(enclosing.pop().map_or(zone, |(_, parent)| parent))
        } else {
            Some(zone)
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
