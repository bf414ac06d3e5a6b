//! Trust anchors: where every chain of signatures has to begin.
//!
//! The root's key-signing keys are built in (as DS records, RFC 7958); a file of a distribution, of unbound or of BIND
//! overrides them, and private anchors for other zones may be added. It does not roll keys by itself (RFC 5011): the
//! distribution's file or an update of this program does.

mod parse;

use std::collections::BTreeMap;
use std::fmt;

use hickory_proto::dnssec::rdata::{DNSKEY, DS};
use hickory_proto::dnssec::{Algorithm, DigestType};
use hickory_proto::rr::Name;

/// Digest of the root's key-signing key of 2017, key tag 20326.
const ROOT_20326: [u8; 32] = [
    0xe0, 0x6d, 0x44, 0xb8, 0x0b, 0x8f, 0x1d, 0x39, 0xa9, 0x5c, 0x0b, 0x0d, 0x7c, 0x65, 0xd0, 0x84, 0x58,
    0xe8, 0x80, 0x40, 0x9b, 0xbc, 0x68, 0x34, 0x57, 0x10, 0x42, 0x37, 0xc7, 0xf8, 0xec, 0x8d,
];

/// Digest of the root's key-signing key of 2024, key tag 38696.
const ROOT_38696: [u8; 32] = [
    0x68, 0x3d, 0x2d, 0x0a, 0xcb, 0x8c, 0x9b, 0x71, 0x2a, 0x19, 0x48, 0xb2, 0x7f, 0x74, 0x12, 0x19, 0x29,
    0x8d, 0x0a, 0x45, 0x0d, 0x61, 0x2c, 0x48, 0x3a, 0xf4, 0x44, 0xa4, 0xc0, 0xfb, 0x2b, 0x16,
];

/// The anchors of one zone: a key of the zone is trusted if one of these names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ZoneAnchors {
    pub(crate) ds: Vec<DS>,
    pub(crate) keys: Vec<DNSKEY>,
}

/// A set of trust anchors. An empty set is allowed and makes every answer unavailable: nothing can be secure, and
/// nothing can be proven insecure either.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustAnchors {
    zones: BTreeMap<Name, ZoneAnchors>,
}

/// A trust anchor file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorError {
    /// Line number, from 1.
    pub line: usize,
    /// What was wrong, and what was expected.
    pub what: String,
}

impl fmt::Display for AnchorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for AnchorError {}

impl TrustAnchors {
    /// No anchors at all.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The root's keys 20326 and 38696, as the root zone's managers publish them.
    pub fn built_in() -> Self {
        let mut anchors = Self::empty();
        for (tag, digest) in [(20326, ROOT_20326), (38696, ROOT_38696)] {
            anchors.add_ds(
                Name::root(),
                DS::new(tag, Algorithm::RSASHA256, DigestType::SHA256, digest.to_vec()),
            );
        }
        anchors
    }

    /// Reads a file's text: DS and DNSKEY records in presentation format (TTL and class optional, comments and
    /// parentheses allowed: Debian's and unbound's `root.key`), and BIND's `trust-anchors`, `managed-keys` and `trusted-keys`
    /// statements.
    ///
    /// # Errors
    /// The first line that is neither, or that holds no key or digest; and a text without any anchor.
    pub fn parse(text: &str) -> Result<Self, AnchorError> {
        parse::parse(text)
    }

    /// Adds a DS anchor for a zone.
    pub fn add_ds(&mut self, zone: Name, ds: DS) {
        self.zone_mut(zone).ds.push(ds);
    }

    /// Adds a key as an anchor for a zone.
    pub fn add_key(&mut self, zone: Name, key: DNSKEY) {
        self.zone_mut(zone).keys.push(key);
    }

    /// Adds all of another set.
    pub fn extend(&mut self, other: Self) {
        for (zone, mut more) in other.zones {
            let here = self.zone_mut(zone);
            here.ds.append(&mut more.ds);
            here.keys.append(&mut more.keys);
        }
    }

    /// True where there is no anchor at all.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    /// The zones that have an anchor.
    pub fn zones(&self) -> impl Iterator<Item = &Name> {
        self.zones.keys()
    }

    /// The closest zone at or above `name` that has an anchor.
    pub(crate) fn closest(&self, name: &Name) -> Option<(&Name, &ZoneAnchors)> {
        self.zones.iter().filter(|(zone, _)| zone.zone_of(name)).max_by_key(|(zone, _)| zone.num_labels())
    }

    fn zone_mut(&mut self, mut zone: Name) -> &mut ZoneAnchors {
        zone.set_fqdn(true);
        self.zones.entry(zone.to_lowercase()).or_default()
    }
}
