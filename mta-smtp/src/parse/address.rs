//! Addresses (RFC 5321 4.1.2, 4.1.3; RFC 6531 3.3 for the internationalized forms).
//!
//! The parsers read the wider, internationalized grammar; whether non-ASCII may be used at all is the caller's
//! question (it depends on the SMTPUTF8 parameter, which comes after the address).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nom::branch::alt;
use nom::bytes::complete::{tag, tag_no_case, take_while, take_while1};
use nom::character::complete::char;
use nom::combinator::{map, map_opt, opt, recognize, value};
use nom::error::{Error, ErrorKind};
use nom::multi::{fold_many0, separated_list1};
use nom::sequence::{delimited, pair, preceded, separated_pair, terminated};
use nom::{IResult, Parser};

use crate::address::{
    Domain, ForwardPath, Host, MAX_DOMAIN_OCTETS, MAX_LOCAL_PART_OCTETS, Mailbox, ReversePath,
};
use crate::text::is_harmful;

/// `atext` of RFC 5322 3.2.3, widened by UTF8-non-ascii (RFC 6531 3.3).
pub(crate) fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || is_safe_non_ascii(c)
}

/// Non-ASCII characters we let into an address: none that a terminal or a log reader takes for control or a line end.
pub(crate) fn is_safe_non_ascii(c: char) -> bool {
    !c.is_ascii() && !is_harmful(c)
}

/// `qtextSMTP`: what may stand unescaped between the quotes.
fn is_qtext(c: char) -> bool {
    matches!(c, ' '..='~' if c != '"' && c != '\\') || is_safe_non_ascii(c)
}

/// What may follow the backslash of a quoted pair.
fn is_quoted_pair(c: char) -> bool {
    matches!(c, ' '..='~')
}

fn dot_string(input: &str) -> IResult<&str, String> {
    map(recognize(separated_list1(char('.'), take_while1(is_atext))), str::to_owned).parse(input)
}

fn quoted_string(input: &str) -> IResult<&str, String> {
    let quoted_pair = preceded(char('\\'), nom::character::complete::satisfy(is_quoted_pair));
    let piece = alt((quoted_pair, nom::character::complete::satisfy(is_qtext)));
    delimited(
        char('"'),
        fold_many0(piece, String::new, |mut text, c| {
            text.push(c);
            text
        }),
        char('"'),
    )
    .parse(input)
}

/// `Local-part`, returned unquoted.
pub(crate) fn local_part(input: &str) -> IResult<&str, String> {
    map_opt(alt((dot_string, quoted_string)), |text| (text.len() <= MAX_LOCAL_PART_OCTETS).then_some(text))
        .parse(input)
}

/// One label: letters, digits and hyphens, no hyphen at either end, at most 63 octets; or a U-label.
fn is_label(label: &str) -> bool {
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || c == '-' || (is_safe_non_ascii(c) && !is_dot_lookalike(c));
    !label.is_empty()
        && label.len() <= 63
        && label.chars().all(allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The three characters IDNA maps to a full stop; in a label they would hide a boundary.
fn is_dot_lookalike(c: char) -> bool {
    matches!(c, '\u{3002}' | '\u{ff0e}' | '\u{ff61}')
}

/// `Domain`. A name whose last label is all digits is no domain (RFC 3696 2): it would be mistaken for an address.
pub(crate) fn domain(input: &str) -> IResult<&str, Domain> {
    let text =
        take_while1(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || is_safe_non_ascii(c));
    map_opt(text, |text: &str| {
        let numeric_end =
            text.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
        let well_formed = text.len() <= MAX_DOMAIN_OCTETS && text.split('.').all(is_label) && !numeric_end;
        let lower = text.to_lowercase();
        // The Kelvin sign is a letter of its own that becomes an ASCII k: no name may become ours in that way.
        let disguised = lower.is_ascii() && !text.is_ascii();
        (well_formed && !disguised).then_some(Domain(lower))
    })
    .parse(input)
}

/// An address literal between its brackets (RFC 5321 4.1.3). General literals with other tags are refused.
pub(crate) fn address_literal(input: &str) -> IResult<&str, IpAddr> {
    let inner = take_while1(|c: char| c.is_ascii_hexdigit() || c == '.' || c == ':');
    let v6 = map_opt(preceded(tag_no_case("IPv6:"), inner), |text: &str| {
        text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    });
    let inner = take_while1(|c: char| c.is_ascii_digit() || c == '.');
    let v4 = map_opt(inner, |text: &str| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4));
    delimited(char('['), alt((v6, v4)), char(']')).parse(input)
}

/// What may stand behind the `@`.
pub(crate) fn host(input: &str) -> IResult<&str, Host> {
    alt((map(address_literal, Host::Literal), map(domain, Host::Domain))).parse(input)
}

/// `Mailbox`.
pub(crate) fn mailbox(input: &str) -> IResult<&str, Mailbox> {
    map(separated_pair(local_part, char('@'), host), |(local_part, host)| Mailbox { local_part, host })
        .parse(input)
}

/// What stood between the angle brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Path {
    Null,
    Postmaster,
    Mailbox(Mailbox),
    /// A source route (RFC 5321 appendix C) before the mailbox; we decline to relay by it (section 3.6.1).
    Routed(Mailbox),
}

/// `A-d-l ":"`: the obsolete source route.
fn source_route(input: &str) -> IResult<&str, &str> {
    recognize(terminated(separated_list1(char(','), pair(char('@'), domain)), char(':'))).parse(input)
}

/// A path in angle brackets, whatever kind it is.
pub(crate) fn path(input: &str) -> IResult<&str, Path> {
    let routed = map(pair(opt(source_route), mailbox), |(route, mailbox)| match route {
        Some(_) => Path::Routed(mailbox),
        None => Path::Mailbox(mailbox),
    });
    let postmaster = value(Path::Postmaster, tag_no_case("postmaster"));
    let (rest, path) = delimited(char('<'), opt(alt((routed, postmaster))), char('>')).parse(input)?;
    Ok((rest, path.unwrap_or(Path::Null)))
}

/// `Reverse-path` without a source route.
pub(crate) fn reverse_path(input: &str) -> IResult<&str, ReversePath> {
    map_opt(path, |path| match path {
        Path::Null => Some(ReversePath::Null),
        Path::Mailbox(mailbox) => Some(ReversePath::Mailbox(mailbox)),
        Path::Postmaster | Path::Routed(_) => None,
    })
    .parse(input)
}

/// `Forward-path` without a source route.
pub(crate) fn forward_path(input: &str) -> IResult<&str, ForwardPath> {
    map_opt(path, |path| match path {
        Path::Postmaster => Some(ForwardPath::Postmaster),
        Path::Mailbox(mailbox) => Some(ForwardPath::Mailbox(mailbox)),
        Path::Null | Path::Routed(_) => None,
    })
    .parse(input)
}

/// `xtext` (RFC 3461 4), decoded. What decodes to a control byte or to broken UTF-8 is refused.
pub(crate) fn xtext(input: &str) -> IResult<&str, String> {
    let (rest, raw) = take_while(|c: char| matches!(c, '!'..='~') && c != '=').parse(input)?;
    let decoded = decode_xtext(raw).ok_or_else(|| nom::Err::Error(Error::new(input, ErrorKind::Verify)))?;
    Ok((rest, decoded))
}

fn decode_xtext(raw: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'+' {
            octets.push(upper_hex(rest.next()?)? * 16 + upper_hex(rest.next()?)?);
        } else {
            octets.push(byte);
        }
    }
    let text = String::from_utf8(octets).ok()?;
    text.chars().all(|c| matches!(c, ' '..='~') || is_safe_non_ascii(c)).then_some(text)
}

/// `hexchar` of RFC 3461 knows capital letters only.
fn upper_hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The keyword of an ESMTP parameter or an EHLO line: `(ALPHA / DIGIT) *(ALPHA / DIGIT / "-")`.
pub(crate) fn esmtp_keyword(input: &str) -> IResult<&str, &str> {
    recognize(pair(
        take_while1(|c: char| c.is_ascii_alphanumeric()),
        take_while(|c: char| c.is_ascii_alphanumeric() || c == '-'),
    ))
    .parse(input)
}

/// `Keyword ["=" value]`; the value holds no space, no `=` and no control.
pub(crate) fn esmtp_parameter(input: &str) -> IResult<&str, (&str, Option<&str>)> {
    let text = take_while1(|c: char| (matches!(c, '!'..='~') && c != '=') || is_safe_non_ascii(c));
    pair(esmtp_keyword, opt(preceded(tag("="), text))).parse(input)
}
