//! The record of SPF (RFC 7208 4.5, 4.6.1, 12): text in, terms out.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::macros::{MacroString, Place};

/// What a mechanism says when it matches (RFC 7208 4.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Qualifier {
    Pass,
    Fail,
    SoftFail,
    Neutral,
}

/// Prefix lengths for both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cidr {
    pub(super) v4: u8,
    pub(super) v6: u8,
}

/// A mechanism (RFC 7208 5). A missing domain is the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mechanism {
    All,
    Include(MacroString),
    A(Option<MacroString>, Cidr),
    Mx(Option<MacroString>, Cidr),
    Ptr(Option<MacroString>),
    Ip4(Ipv4Addr, u8),
    Ip6(Ipv6Addr, u8),
    Exists(MacroString),
}

/// A record that was read as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Record {
    pub(super) directives: Vec<(Qualifier, Mechanism)>,
    pub(super) redirect: Option<MacroString>,
    pub(super) exp: Option<MacroString>,
}

/// Whether a text record is one of SPF: the version, then a blank or the end (RFC 7208 4.5).
pub(super) fn is_spf(text: &[u8]) -> bool {
    const VERSION: &[u8] = b"v=spf1";
    match text.split_at_checked(VERSION.len()) {
        Some((version, rest)) => {
            version.eq_ignore_ascii_case(VERSION) && matches!(rest.first(), None | Some(b' '))
        }
        None => false,
    }
}

/// The longest record that is read. Those of large providers have a few hundred octets (RFC 7208 3.4 wants 450), and each
/// may be read again for each answer of DNS.
const MAX_RECORD_OCTETS: usize = 4 * 1024;

impl Record {
    /// Reads a record behind its version.
    ///
    /// # Errors
    /// The term that cannot be read. One is enough to make the whole a permanent error (RFC 7208 4.6).
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        if text.len() > MAX_RECORD_OCTETS {
            return Err("a record that is too long".to_owned());
        }
        let Some(text) = text.get("v=spf1".len()..).filter(|text| text.is_ascii()) else {
            return Err("a record that is not plain ASCII".to_owned());
        };
        let text = String::from_utf8_lossy(text);
        let mut record = Self::default();
        for term in text.split(' ').filter(|term| !term.is_empty()) {
            record.term(term).ok_or_else(|| format!("cannot read the term {:?}", shown(term)))?;
        }
        Ok(record)
    }

    fn term(&mut self, term: &str) -> Option<()> {
        if let Some((name, value)) = term.split_once('=')
            && is_modifier_name(name)
        {
            return self.modifier(name, value);
        }
        let (qualifier, rest) = match term.as_bytes().first()? {
            b'+' => (Qualifier::Pass, term.get(1..)?),
            b'-' => (Qualifier::Fail, term.get(1..)?),
            b'~' => (Qualifier::SoftFail, term.get(1..)?),
            b'?' => (Qualifier::Neutral, term.get(1..)?),
            _ => (Qualifier::Pass, term),
        };
        self.directives.push((qualifier, mechanism(rest)?));
        Some(())
    }

    fn modifier(&mut self, name: &str, value: &str) -> Option<()> {
        // RFC 7208 6: each of the two at most once.
        let slot = match name.to_ascii_lowercase().as_str() {
            "redirect" => &mut self.redirect,
            "exp" => &mut self.exp,
            // Unknown ones mean nothing, but their syntax must hold.
            _ => return MacroString::parse(value, Place::Domain).map(drop),
        };
        if slot.is_some() {
            return None;
        }
        *slot = Some(MacroString::parse_domain(value)?);
        Some(())
    }
}

/// A term for the log: bounded, since strangers write it.
fn shown(term: &str) -> String {
    term.chars().take(60).collect()
}

fn is_modifier_name(name: &str) -> bool {
    name.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn mechanism(text: &str) -> Option<Mechanism> {
    let end = text.find([':', '/']).unwrap_or(text.len());
    let (name, argument) = text.split_at_checked(end)?;
    let name = name.to_ascii_lowercase();
    Some(match name.as_str() {
        "all" if argument.is_empty() => Mechanism::All,
        "include" => Mechanism::Include(MacroString::parse_domain(argument.strip_prefix(':')?)?),
        "exists" => Mechanism::Exists(MacroString::parse_domain(argument.strip_prefix(':')?)?),
        "a" => {
            let (domain, cidr) = domain_and_cidr(argument)?;
            Mechanism::A(domain, cidr)
        }
        "mx" => {
            let (domain, cidr) = domain_and_cidr(argument)?;
            Mechanism::Mx(domain, cidr)
        }
        "ptr" => Mechanism::Ptr(match argument {
            "" => None,
            _ => Some(MacroString::parse_domain(argument.strip_prefix(':')?)?),
        }),
        "ip4" => {
            let (address, prefix) = address_and_prefix(argument)?;
            Mechanism::Ip4(address.parse().ok()?, prefix_length(prefix, 32)?)
        }
        "ip6" => {
            let (address, prefix) = address_and_prefix(argument)?;
            Mechanism::Ip6(address.parse().ok()?, prefix_length(prefix, 128)?)
        }
        _ => return None,
    })
}

fn address_and_prefix(argument: &str) -> Option<(&str, Option<&str>)> {
    let argument = argument.strip_prefix(':')?;
    Some(match argument.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (argument, None),
    })
}

/// A prefix length without leading zeros; the longest where there is none.
fn prefix_length(text: Option<&str>, longest: u8) -> Option<u8> {
    let Some(text) = text else { return Some(longest) };
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if !plain {
        return None;
    }
    text.parse().ok().filter(|length| *length <= longest)
}

/// `[":" domain-spec] ["/" length] ["//" length]`. A domain may hold slashes: only what is a length at the end is one.
fn domain_and_cidr(argument: &str) -> Option<(Option<MacroString>, Cidr)> {
    let (rest, v6) = split_length(argument, "//");
    let (rest, v4) = split_length(rest, "/");
    let cidr = Cidr { v4: prefix_length(v4, 32)?, v6: prefix_length(v6, 128)? };
    let domain = match rest {
        "" => None,
        _ => Some(MacroString::parse_domain(rest.strip_prefix(':')?)?),
    };
    Some((domain, cidr))
}

fn split_length<'a>(text: &'a str, separator: &str) -> (&'a str, Option<&'a str>) {
    match text.rsplit_once(separator) {
        Some((rest, length)) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
            (rest, Some(length))
        }
        _ => (text, None),
    }
}
