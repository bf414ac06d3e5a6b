//! Parts of an address (RFC 5321 4.1.2): domain, local-part, mailbox, reverse-path and forward-path.
//!
//! These are values that were already checked; the grammar lives in `parse`. Nothing here looks anything up. What is
//! written by `Display` is read back by `parse` to an equal value.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use nom::Parser;
use nom::combinator::all_consuming;

use crate::parse::address as grammar;
use crate::parse::dsn;

/// The longest domain we take, in octets (RFC 1035 3.1 without the root label and the length octet).
pub const MAX_DOMAIN_OCTETS: usize = 253;

/// The longest local-part we take, in octets, unquoted. RFC 5321 4.5.3.1.1 asks for 64 at least; longer ones are in
/// use for variable envelope return paths.
pub const MAX_LOCAL_PART_OCTETS: usize = 255;

/// Why a text is not the address it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressError {
    /// Not a domain name by RFC 5321 4.1.2.
    Domain,
    /// Not a domain name nor an address literal.
    Host,
    /// Not `local-part@domain`.
    Mailbox,
    /// Not a path in angle brackets, or of a kind that may not stand here.
    Path,
    /// Not text in the xtext encoding of RFC 3461 4.
    Xtext,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Domain => "not a domain name",
            Self::Host => "neither a domain name nor an address literal",
            Self::Mailbox => "not a mailbox (local-part@domain)",
            Self::Path => "not a path in angle brackets",
            Self::Xtext => "not xtext",
        })
    }
}

impl std::error::Error for AddressError {}

/// A domain name as SMTP uses it: lower case, no trailing dot, each label at most 63 octets, at most 253 in all.
///
/// A name that came in as U-labels (RFC 6531) is kept as U-labels; the caller converts before DNS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(pub(crate) String);

impl Domain {
    /// Reads a domain name: letters, digits and hyphens, or U-labels. No trailing dot, and not an IPv4 address.
    ///
    /// # Errors
    /// `AddressError::Domain` for anything else.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        whole(text, grammar::domain, AddressError::Domain)
    }

    /// The name, lower case and without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether DNS can take the name as it is: no U-labels.
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

/// What stands behind the `@`: a domain or an address literal (RFC 5321 4.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A domain name.
    Domain(Domain),
    /// An address literal, `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
    Literal(IpAddr),
}

impl Host {
    /// Reads a domain name or an address literal in its brackets.
    ///
    /// # Errors
    /// `AddressError::Host` for anything else.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        whole(text, grammar::host, AddressError::Host)
    }

    /// The domain, unless it is an address literal.
    pub fn domain(&self) -> Option<&Domain> {
        match self {
            Self::Domain(domain) => Some(domain),
            Self::Literal(_) => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::Literal(IpAddr::V4(address)) => write!(f, "[{address}]"),
            Self::Literal(IpAddr::V6(address)) => write!(f, "[IPv6:{address}]"),
        }
    }
}

impl From<Domain> for Host {
    fn from(domain: Domain) -> Self {
        Self::Domain(domain)
    }
}

/// A mailbox, `local-part@domain`. The local-part is held unquoted; writing it out quotes it where needed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mailbox {
    pub(crate) local_part: String,
    pub(crate) host: Host,
}

impl Mailbox {
    /// Reads `local-part@domain`, the local-part quoted or not.
    ///
    /// # Errors
    /// `AddressError::Mailbox` where the whole text is not one mailbox by RFC 5321 4.1.2 (RFC 6531 for UTF-8).
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        whole(text, grammar::mailbox, AddressError::Mailbox)
    }

    /// Builds a mailbox from a local-part, unquoted, and a host.
    ///
    /// # Errors
    /// `AddressError::Mailbox` where the local-part holds controls or is too long.
    pub fn new(local_part: &str, host: impl Into<Host>) -> Result<Self, AddressError> {
        let allowed = |c: char| matches!(c, ' '..='~') || grammar::is_safe_non_ascii(c);
        if local_part.len() > MAX_LOCAL_PART_OCTETS || !local_part.chars().all(allowed) {
            return Err(AddressError::Mailbox);
        }
        Ok(Self { local_part: local_part.to_owned(), host: host.into() })
    }

    /// The postmaster of a domain, who always exists (RFC 5321 4.5.1).
    pub fn postmaster(domain: Domain) -> Self {
        Self { local_part: "postmaster".to_owned(), host: Host::Domain(domain) }
    }

    /// The local-part, unquoted.
    pub fn local_part(&self) -> &str {
        &self.local_part
    }

    /// What stands behind the `@`.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The domain, unless the host is an address literal.
    pub fn domain(&self) -> Option<&Domain> {
        self.host.domain()
    }

    /// Whether the mailbox can travel without SMTPUTF8 (RFC 6531).
    pub fn is_ascii(&self) -> bool {
        self.local_part.is_ascii() && self.host.domain().is_none_or(Domain::is_ascii)
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local_part) {
            return write!(f, "{}@{}", self.local_part, self.host);
        }
        f.write_str("\"")?;
        for c in self.local_part.chars() {
            if c == '"' || c == '\\' {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        write!(f, "\"@{}", self.host)
    }
}

impl FromStr for Mailbox {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

/// Whether a local-part needs no quotes (`Dot-string`).
fn is_dot_string(local_part: &str) -> bool {
    local_part.split('.').all(|atom| !atom.is_empty() && atom.chars().all(grammar::is_atext))
}

/// The argument of MAIL: a mailbox, or the null reverse-path `<>` of a notification (RFC 5321 4.5.5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: a notification; nobody is told when it cannot be delivered.
    Null,
    /// Where notifications about this message go.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// Reads a path in its angle brackets, as `Display` writes it.
    ///
    /// # Errors
    /// `AddressError::Path` for anything else, source routes included.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        whole(text, grammar::reverse_path, AddressError::Path)
    }

    /// The mailbox, unless the path is null.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }

    /// Whether this is the null reverse-path.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

/// With its angle brackets, as it stands in MAIL and in Return-Path.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

/// The argument of RCPT.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ForwardPath {
    /// `<Postmaster>` without a domain, which every server must accept (RFC 5321 4.5.1).
    Postmaster,
    /// An ordinary recipient.
    Mailbox(Mailbox),
}

impl ForwardPath {
    /// Reads a path in its angle brackets, as `Display` writes it.
    ///
    /// # Errors
    /// `AddressError::Path` for anything else, source routes included.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        whole(text, grammar::forward_path, AddressError::Path)
    }
}

/// With its angle brackets, as it stands in RCPT.
impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postmaster => f.write_str("<Postmaster>"),
            Self::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

/// Encodes a text as xtext (RFC 3461 4): printable ASCII stays, all else becomes `+` and two capital hex digits.
pub fn encode_xtext(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b'!'..=b'~') && byte != b'+' && byte != b'=' {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("+{byte:02X}"));
        }
    }
    encoded
}

/// Encodes an original recipient, `type;address`, as the ASCII value of ORCPT (RFC 3461 4.2; RFC 6533 3 for the type
/// `utf-8`). Nothing where the text is no type and address.
pub fn encode_orcpt(orcpt: &str) -> Option<String> {
    let (kind, address) = orcpt.split_once(';')?;
    if dsn::whole(kind, dsn::addr_type).is_none() || address.is_empty() {
        return None;
    }
    if !kind.eq_ignore_ascii_case(dsn::UTF8_TYPE) {
        return address.is_ascii().then(|| format!("{kind};{}", encode_xtext(address)));
    }
    Some(format!("{kind};{}", encode_utf8_address(address)))
}

/// An internationalized address in ASCII: `utf-8-addr-xtext` of RFC 6533 3.
pub fn encode_utf8_address(address: &str) -> String {
    let mut encoded = String::with_capacity(address.len());
    for c in address.chars() {
        match c {
            '!'..='~' if c != '+' && c != '=' && c != '\\' => encoded.push(c),
            _ => encoded.push_str(&format!("\\x{{{:02X}}}", u32::from(c))),
        }
    }
    encoded
}

/// Decodes xtext (RFC 3461 4).
///
/// # Errors
/// `AddressError::Xtext` where it is none, or hides controls or broken UTF-8.
pub fn decode_xtext(text: &str) -> Result<String, AddressError> {
    whole(text, grammar::xtext, AddressError::Xtext)
}

/// Runs a grammar over the whole text.
fn whole<'a, T>(
    text: &'a str,
    grammar: impl Parser<&'a str, Output = T, Error = nom::error::Error<&'a str>>,
    error: AddressError,
) -> Result<T, AddressError> {
    all_consuming(grammar).parse(text).map(|(_, value)| value).map_err(|_| error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn domains_by_the_grammar() {
        for good in ["example.org", "a", "xn--bcher-kva.example", "1a.2b", "bücher.example", "EXAMPLE.Org"] {
            assert_eq!(Domain::parse(good).map(|d| d.0), Ok(good.to_lowercase()), "{good}");
        }
        let long = format!("{}.org", "a".repeat(64));
        let longer = vec!["abcdefghi"; 26].join(".");
        let bad = [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "-a.b",
            "a-.b",
            "a_b.c",
            "a b",
            "192.0.2.1",
            "a.b\0",
            "a\r\n",
            "a。b",
            &long,
            &longer,
        ];
        for bad in bad {
            assert_eq!(Domain::parse(bad), Err(AddressError::Domain), "{bad:?}");
        }
    }

    #[test]
    fn literals_by_rfc5321_4_1_3() {
        for good in ["[192.0.2.1]", "[IPv6:2001:db8::1]"] {
            assert_eq!(Host::parse(good).map(|h| h.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "[192.0.2.256]",
            "[2001:db8::1]",
            "[IPv6:192.0.2.1]",
            "[]",
            "[x:y]",
            "192.0.2.1",
            "[192.0.2.1",
            "[IPv6:::1%1]",
        ] {
            assert_eq!(Host::parse(bad), Err(AddressError::Host), "{bad}");
        }
    }

    #[test]
    fn mailboxes_and_their_quoting() {
        let same = [
            "a@b.c",
            "a.b+c=d@b.c",
            "\"a b\"@b.c",
            "\"a@b\"@c.d",
            "\"\"@b.c",
            "\"a\\\"b\\\\\"@b.c",
            "用户@例え.jp",
            "a%b!c@d",
        ];
        for same in same {
            assert_eq!(Mailbox::parse(same).map(|m| m.to_string()), Ok(same.to_owned()), "{same}");
        }
        assert_eq!(Mailbox::parse("\"plain\"@B.C").map(|m| m.to_string()), Ok("plain@b.c".to_owned()));
        let bad = [
            "a",
            "@b",
            "a@",
            ".a@b",
            "a.@b",
            "a..b@c",
            "a b@c",
            "a@b@c",
            "\"a@b",
            "a\"b\"@c",
            "\"a\tb\"@c",
            "a\u{85}@c",
            "a\u{2028}@c",
        ];
        for bad in bad {
            assert_eq!(Mailbox::parse(bad), Err(AddressError::Mailbox), "{bad:?}");
        }
    }

    #[test]
    fn paths_refuse_source_routes() {
        assert_eq!(ReversePath::parse("<>"), Ok(ReversePath::Null));
        assert_eq!(ForwardPath::parse("<POSTMASTER>"), Ok(ForwardPath::Postmaster));
        assert_eq!(ForwardPath::parse("<a@b>").map(|p| p.to_string()), Ok("<a@b>".to_owned()));
        for bad in ["", "a@b", "<a@b", "<@x:a@b>", "<@x,@y:a@b>", "<a@b>>", "<<a@b>>", "< a@b>"] {
            assert_eq!(ForwardPath::parse(bad), Err(AddressError::Path), "{bad}");
            assert_eq!(ReversePath::parse(bad), Err(AddressError::Path), "{bad}");
        }
    }

    #[test]
    fn xtext_refuses_what_hides() {
        assert_eq!(encode_xtext("a+b=c d"), "a+2Bb+3Dc+20d");
        for bad in ["+2b", "+0D+0A", "+2", "+", "a=b", "+00", "+FF", "a b"] {
            assert_eq!(decode_xtext(bad), Err(AddressError::Xtext), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_local_part_is_read_back(local_part in "[ -~]{0,60}") {
            let mailbox = Mailbox::new(&local_part, Domain::parse("example.org").expect("a domain")).expect("printable");
            prop_assert_eq!(Mailbox::parse(&mailbox.to_string()), Ok(mailbox));
        }

        #[test]
        fn any_text_survives_xtext(text in "[ -~é用]{0,60}") {
            prop_assert_eq!(decode_xtext(&encode_xtext(&text)), Ok(text));
        }

        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            let _ = (Domain::parse(&text), Host::parse(&text), Mailbox::parse(&text), ReversePath::parse(&text), decode_xtext(&text));
        }
    }
}
