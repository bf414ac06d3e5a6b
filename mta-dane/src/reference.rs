//! Reference identifiers: the names one of which a DANE-TA(2) server must have in its certificate (RFC 7672 3.2.2,
//! 3.2.3), and how a presented name is compared with them.
//!
//! What it does not: it reads no certificate (see `verify::names`) and checks no DANE-EE(3) name, for there is none to check.

use std::fmt;
use std::net::IpAddr;

use hickory_proto::rr::Name;

/// A host name in A-label form, lower case, without the trailing dot (I10, RFC 9525 6.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReferenceId(String);

impl ReferenceId {
    /// From a name of the DNS, which is in A-labels already.
    pub fn from_name(name: &Name) -> Self {
        Self(text(name))
    }

    /// From text, where U-labels are turned into A-labels (B18).
    ///
    /// # Errors
    /// The text is no host name.
    pub fn parse(name: &str) -> Result<Self, NotAName> {
        a_labels(name).map(|name| Self::from_name(&name))
    }

    /// The name as it is compared, and as it goes into SNI.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a DNS-ID or CN-ID of a certificate means this name. `*` counts only as the whole first label and stands
    /// for exactly one label (I8, I9); with fewer than two labels behind it, it would cover a whole registry and is refused.
    pub fn matches(&self, presented: &[u8]) -> bool {
        let Ok(presented) = std::str::from_utf8(presented) else { return false };
        let presented = presented.strip_suffix('.').unwrap_or(presented);
        if let Some(parent) = presented.strip_prefix("*.") {
            let Some((first, rest)) = self.0.split_once('.') else { return false };
            return !first.is_empty()
                && is_host_name(parent)
                && parent.contains('.')
                && rest.eq_ignore_ascii_case(parent);
        }
        is_host_name(presented) && self.0.eq_ignore_ascii_case(presented)
    }
}

impl fmt::Display for ReferenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAName(
    /// The text.
    pub String,
);

impl fmt::Display for NotAName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is no host name", self.0.escape_debug())
    }
}

impl std::error::Error for NotAName {}

/// A host name from text, U-labels turned into A-labels (B18), fully qualified, lower case.
///
/// # Errors
/// The text is no host name.
pub fn a_labels(name: &str) -> Result<Name, NotAName> {
    let error = || NotAName(name.to_owned());
    let parsed = if name.is_ascii() { Name::from_ascii(name) } else { Name::from_utf8(name) };
    let parsed = parsed.map_err(|_| error())?;
    let parsed = normal(&parsed);
    if parsed.is_root() || !is_host_name(&text(&parsed)) { Err(error()) } else { Ok(parsed) }
}

/// Letters, digits, hyphens, underscores in labels of 1 to 63, 253 in all. Underscores are no host names (RFC 952), but they
/// are found in the wild, and refusing them protects nobody.
fn is_host_name(name: &str) -> bool {
    let byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    name.len() <= 253
        && name.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(byte))
}

/// A DNS name as people write host names: A-labels, lower case, without the trailing dot. A name that only shows an address
/// is written as the address literal that it comes from (RFC 5321 4.1.3).
pub fn text(name: &Name) -> String {
    if let Some(literal) = literal(name) {
        return literal;
    }
    let mut text = name.to_ascii();
    text.make_ascii_lowercase();
    if text.len() > 1 && text.ends_with('.') {
        text.pop();
    }
    text
}

/// The literal of an address that stands in the place of a name, as its only label.
fn literal(name: &Name) -> Option<String> {
    let mut labels = name.iter();
    let (Some(label), None) = (labels.next(), labels.next()) else { return None };
    match std::str::from_utf8(label).ok()?.parse().ok()? {
        IpAddr::V4(address) => Some(format!("[{address}]")),
        IpAddr::V6(address) => Some(format!("[IPv6:{address}]")),
    }
}

/// The form in which names are compared and asked: fully qualified and lower case.
pub(crate) fn normal(name: &Name) -> Name {
    let mut name = name.to_lowercase();
    name.set_fqdn(true);
    name
}

/// What of the next-hop enters the reference identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// The host came from MX records that are secure, aliases leading to them included.
    SecureMx {
        /// The domain whose MX was asked for.
        next_hop: &'a Name,
        /// Its fully expanded name where it is an alias.
        expanded: Option<&'a Name>,
    },
    /// The host came from MX records that are not secure.
    InsecureMx {
        /// The host as the MX record names it.
        host: &'a Name,
    },
    /// No MX was used: the next-hop domain itself, or a configured relay host.
    NoMx {
        /// That name, unexpanded.
        next_hop: &'a Name,
    },
}

/// The reference identifiers in order, the TLSA base domain first (RFC 7672 3.2.2):
/// behind a secure MX the next-hop domain and its expansion follow (I2, I3); behind an insecure MX only names of the host
/// count (I4), its unexpanded name being one where the base domain is its secure expansion; without MX the next-hop
/// follows where the base domain is its expansion (I5).
pub fn reference_ids(base_domain: &Name, origin: Origin<'_>) -> Vec<ReferenceId> {
    let mut ids = vec![ReferenceId::from_name(base_domain)];
    let mut add = |name: &Name| {
        let id = ReferenceId::from_name(name);
        if !ids.contains(&id) {
            ids.push(id);
        }
    };
    match origin {
        Origin::SecureMx { next_hop, expanded } => {
            add(next_hop);
            if let Some(expanded) = expanded {
                add(expanded);
            }
        }
        Origin::InsecureMx { host } => add(host),
        Origin::NoMx { next_hop } => add(next_hop),
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_the_literal_that_it_comes_from() {
        for (address, shown) in [("127.0.0.1", "[127.0.0.1]"), ("2001:db8::25", "[IPv6:2001:db8::25]")] {
            let name = Name::from_labels([address.as_bytes()]).expect("one label");
            assert_eq!(text(&name), shown);
        }
        assert_eq!(text(&Name::from_ascii("MX.Example.net.").expect("a name")), "mx.example.net");
    }
}
