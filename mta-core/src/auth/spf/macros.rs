//! Macros of SPF (RFC 7208 7): the text parts of a record, and what they expand to.

use std::net::IpAddr;

use super::{Eval, Evaluation, Stop};

/// Domains are cut to this length from the left (RFC 7208 7.3).
const MAX_DOMAIN_OCTETS: usize = 253;

/// The longest text that macros may expand to. What is longer than a domain is cut, but first it has to be made.
const MAX_EXPANDED_OCTETS: usize = 4 * 1024;

/// Delimiters that a macro may split at (RFC 7208 7.1).
const DELIMITERS: &[u8] = b".-+,/_=";

/// A macro-string (RFC 7208 7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MacroString(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Expand(Macro),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Macro {
    /// Lower case.
    letter: u8,
    /// The letter was upper case: the value is escaped for URLs.
    escaped: bool,
    /// How many parts from the right are kept; 0 is all.
    keep: usize,
    reversed: bool,
    delimiters: Vec<u8>,
}

/// Where a macro-string stands: in an explanation three more letters are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Domain,
    Explanation,
}

impl MacroString {
    /// Reads a macro-string. `None` where the syntax is broken.
    pub(super) fn parse(text: &str, place: Place) -> Option<Self> {
        let (mut parts, mut literal) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some(octet) = rest.bytes().next() {
            let visible = octet.is_ascii_graphic() || (place == Place::Explanation && octet == b' ');
            if !visible {
                return None;
            }
            if octet != b'%' {
                literal.push(octet.into());
                rest = rest.get(1..)?;
                continue;
            }
            match rest.as_bytes().get(1)? {
                b'%' => literal.push('%'),
                b'_' => literal.push(' '),
                b'-' => literal.push_str("%20"),
                b'{' => {
                    let end = rest.find('}')?;
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                    parts.push(Part::Expand(Macro::parse(rest.get(2..end)?, place)?));
                    rest = rest.get(end + 1..)?;
                    continue;
                }
                _ => return None,
            }
            rest = rest.get(2..)?;
        }
        parts.push(Part::Literal(literal));
        Some(Self(parts))
    }

    /// Reads a domain-spec (RFC 7208 7.1): a macro-string that ends in a top label or in a macro.
    pub(super) fn parse_domain(text: &str) -> Option<Self> {
        let parsed = Self::parse(text, Place::Domain)?;
        let ends_well = match parsed.0.as_slice() {
            [.., Part::Expand(_), Part::Literal(last)] if last.is_empty() => true,
            [.., Part::Literal(last)] => ends_in_top_label(last),
            _ => false,
        };
        ends_well.then_some(parsed)
    }

    /// What it expands to.
    pub(super) fn expand(&self, evaluation: &Evaluation<'_>, domain: &str) -> Eval<String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Expand(it) => text.push_str(&it.expand(evaluation, domain)?),
            }
            if text.len() > MAX_EXPANDED_OCTETS {
                return Err(Stop::Permanent("a macro that expands to too much".to_owned()));
            }
        }
        Ok(text)
    }

    /// The domain it expands to, without the last dot. Cut from the left where it is too long (RFC 7208 7.3).
    pub(super) fn expand_domain(&self, evaluation: &Evaluation<'_>, domain: &str) -> Eval<String> {
        let text = self.expand(evaluation, domain)?;
        let mut text = text.strip_suffix('.').unwrap_or(&text);
        while text.len() > MAX_DOMAIN_OCTETS {
            match text.split_once('.') {
                Some((_, right)) => text = right,
                None => break,
            }
        }
        Ok(text.to_owned())
    }
}

/// `domain-end` without a macro: a dot, then a top label, perhaps a last dot.
fn ends_in_top_label(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let Some((_, label)) = text.rsplit_once('.') else {
        return false;
    };
    let alphanumeric = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let octets = label.as_bytes();
    alphanumeric(octets.first())
        && alphanumeric(octets.last())
        && octets.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && octets.iter().any(|b| !b.is_ascii_digit())
}

impl Macro {
    fn parse(text: &str, place: Place) -> Option<Self> {
        let letter = *text.as_bytes().first()?;
        let known: &[u8] = match place {
            Place::Domain => b"slodipvh",
            Place::Explanation => b"slodipvhcrt",
        };
        if !known.contains(&letter.to_ascii_lowercase()) {
            return None;
        }
        let rest = text.get(1..)?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = rest.split_at_checked(digits)?;
        // Zero parts make no sense (RFC 7208 7.3); many are all of them.
        let keep = match number {
            "" => 0,
            _ if number.bytes().all(|b| b == b'0') => return None,
            _ => number.parse().unwrap_or(usize::MAX),
        };
        let (reversed, delimiters) = match rest.as_bytes() {
            [b'r' | b'R', delimiters @ ..] => (true, delimiters),
            delimiters => (false, delimiters),
        };
        if !delimiters.iter().all(|b| DELIMITERS.contains(b)) {
            return None;
        }
        let delimiters = if delimiters.is_empty() { b"." } else { delimiters }.to_vec();
        let escaped = letter.is_ascii_uppercase();
        Some(Self { letter: letter.to_ascii_lowercase(), escaped, keep, reversed, delimiters })
    }

    fn expand(&self, evaluation: &Evaluation<'_>, domain: &str) -> Eval<String> {
        let request = evaluation.request;
        let value = match self.letter {
            b's' => format!("{}@{}", evaluation.local_part(), evaluation.sender_domain()),
            b'l' => evaluation.local_part().to_owned(),
            b'o' => evaluation.sender_domain().to_owned(),
            b'd' => domain.to_owned(),
            b'i' => dotted(evaluation.client),
            b'p' => match evaluation.validated_name(domain) {
                Ok(name) => name,
                Err(Stop::Need(question)) => return Err(Stop::Need(question)),
                Err(_) => "unknown".to_owned(),
            },
            b'v' => if evaluation.client.is_ipv4() { "in-addr" } else { "ip6" }.to_owned(),
            b'h' => request.helo.to_owned(),
            b'c' => evaluation.client.to_string(),
            b'r' => request.receiver.to_owned(),
            b't' => request.now_seconds.to_string(),
            _ => String::new(),
        };
        let value = self.transform(&value);
        Ok(if self.escaped { escape(&value) } else { value })
    }

    fn transform(&self, value: &str) -> String {
        let is_delimiter = |c: char| u8::try_from(c).is_ok_and(|b| self.delimiters.contains(&b));
        let mut parts: Vec<&str> = value.split(is_delimiter).collect();
        if self.reversed {
            parts.reverse();
        }
        let skip = if self.keep == 0 { 0 } else { parts.len().saturating_sub(self.keep) };
        parts.get(skip..).unwrap_or_default().join(".")
    }
}

/// Dotted octets, or dotted nibbles for IPv6 (RFC 7208 7.3).
pub(super) fn dotted(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
            let nibbles: Vec<String> = nibbles.map(|nibble| format!("{nibble:X}")).collect();
            nibbles.join(".")
        }
    }
}

/// Everything but unreserved characters as `%XX` (RFC 3986 2.3).
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            escaped.push(octet.into());
        } else {
            escaped.push_str(&format!("%{octet:02X}"));
        }
    }
    escaped
}
