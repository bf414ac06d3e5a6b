//! The parameters of the DSN extension (RFC 3461 4) and the address types of RFC 3461 4.2 and RFC 6533 3.
//!
//! What it does: one value of a parameter in, one checked value out. What it does not: whether the parameter may stand
//! where it does (`command`).

use nom::branch::alt;
use nom::bytes::complete::{tag_no_case, take_while1};
use nom::character::complete::char;
use nom::combinator::{map_opt, value};
use nom::multi::separated_list1;
use nom::sequence::separated_pair;
use nom::{IResult, Parser};

use crate::envelope::{Notify, Ret};
use crate::parse::address::{is_safe_non_ascii, xtext};

/// The longest ENVID as it stands on the line (RFC 3461 4.4).
const MAX_ENVID_OCTETS: usize = 100;

/// The longest ORCPT as it stands on the line (RFC 3461 4.2).
const MAX_ORCPT_OCTETS: usize = 500;

/// The address type of internationalized addresses (RFC 6533 3).
pub(crate) const UTF8_TYPE: &str = "utf-8";

/// `ret-value = "FULL" / "HDRS"` (RFC 3461 4.3).
pub(crate) fn ret(input: &str) -> IResult<&str, Ret> {
    alt((value(Ret::Full, tag_no_case("FULL")), value(Ret::Headers, tag_no_case("HDRS")))).parse(input)
}

/// `notify-esmtp-value = "NEVER" / 1#notify-list-element` (RFC 3461 4.1): `NEVER` stands alone, the others once each.
pub(crate) fn notify(input: &str) -> IResult<&str, Notify> {
    let never = value(Notify { never: true, ..Notify::default() }, tag_no_case("NEVER"));
    let element = alt((
        value(Notify { success: true, ..Notify::default() }, tag_no_case("SUCCESS")),
        value(Notify { failure: true, ..Notify::default() }, tag_no_case("FAILURE")),
        value(Notify { delay: true, ..Notify::default() }, tag_no_case("DELAY")),
    ));
    let list = map_opt(separated_list1(char(','), element), |elements| {
        let mut all = Notify::default();
        for one in elements {
            let twice =
                (all.success && one.success) || (all.failure && one.failure) || (all.delay && one.delay);
            if twice {
                return None;
            }
            all.success |= one.success;
            all.failure |= one.failure;
            all.delay |= one.delay;
        }
        Some(all)
    });
    alt((never, list)).parse(input)
}

/// `envid-parameter`, decoded: printable ASCII (RFC 3461 4.4).
pub(crate) fn envid(input: &str) -> IResult<&str, String> {
    map_opt(xtext, |text| {
        (input.len() <= MAX_ENVID_OCTETS && !text.is_empty() && text.is_ascii()).then_some(text)
    })
    .parse(input)
}

/// `original-recipient-address = addr-type ";" xtext` (RFC 3461 4.2), as `type;address`, decoded. Behind the type `utf-8`
/// stands the encoding of RFC 6533 3; every other type is ASCII.
pub(crate) fn orcpt(input: &str) -> IResult<&str, String> {
    let raw = take_while1(|c: char| matches!(c, '!'..='~') || is_safe_non_ascii(c));
    map_opt(separated_pair(addr_type, char(';'), raw), |(kind, raw)| {
        if input.len() > MAX_ORCPT_OCTETS {
            return None;
        }
        let address = original_address(kind, raw)?;
        Some(format!("{kind};{address}"))
    })
    .parse(input)
}

/// `addr-type = atom` (RFC 3461 4.2), without the `=` that no value of a parameter may hold.
pub(crate) fn addr_type(input: &str) -> IResult<&str, &str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/?^_`{|}~".contains(c);
    take_while1(allowed).parse(input)
}

fn original_address(kind: &str, raw: &str) -> Option<String> {
    if !kind.eq_ignore_ascii_case(UTF8_TYPE) {
        let (rest, text) = xtext(raw).ok()?;
        return (rest.is_empty() && !text.is_empty() && text.is_ascii()).then_some(text);
    }
    // `utf-8-addr-unitext` holds the characters themselves, `utf-8-addr-xtext` ASCII alone; both `\x{HEX}`.
    let mut address = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        let (left, c) = if rest.starts_with('\\') {
            embedded(rest)?
        } else if rest.starts_with('+') {
            xtext_octet(rest)?
        } else {
            (rest.get(c.len_utf8()..)?, c)
        };
        if c == '=' && rest.starts_with('=') {
            return None;
        }
        address.push(c);
        rest = left;
    }
    (!address.is_empty()).then_some(address)
}

/// `\x{HEXPOINT}` (RFC 6533 3). What it hides must be harmless.
fn embedded(input: &str) -> Option<(&str, char)> {
    let (hex, rest) = input.strip_prefix("\\x{")?.split_once('}')?;
    let digits = (2..=6).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit());
    let point = digits.then(|| u32::from_str_radix(hex, 16).ok()).flatten()?;
    let c = char::from_u32(point)?;
    (matches!(c, ' '..='~') || is_safe_non_ascii(c)).then_some((rest, c))
}

/// `+HH` for an ASCII character.
fn xtext_octet(input: &str) -> Option<(&str, char)> {
    let (head, rest) = input.split_at_checked(3)?;
    let (_, text) = xtext(head).ok()?;
    let mut characters = text.chars();
    let c = characters.next()?;
    (characters.next().is_none() && c.is_ascii()).then_some((rest, c))
}

/// The whole value as the given grammar reads it.
pub(crate) fn whole<'a, T>(input: &'a str, grammar: impl Fn(&'a str) -> IResult<&'a str, T>) -> Option<T> {
    grammar(input).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::address::{encode_orcpt, encode_xtext};

    #[test]
    fn original_recipients_by_rfc3461_4_2_and_rfc6533_3() {
        for (value, decoded) in [
            ("rfc822;a+2Bb@c.example", "rfc822;a+b@c.example"),
            ("RFC822;\"a+20b\"@c", "RFC822;\"a b\"@c"),
            ("x-400;/C=us/".replace('=', "+3D").as_str(), "x-400;/C=us/"),
            ("utf-8;\\x{7528}\\x{6237}@c.example", "utf-8;用户@c.example"),
            ("utf-8;用户@c.example", "utf-8;用户@c.example"),
            ("utf-8;a+2Bb\\x{e9}@c", "utf-8;a+bé@c"),
            ("utf-8;a\\x{5C}b@c", "utf-8;a\\b@c"),
        ] {
            assert_eq!(whole(value, orcpt).as_deref(), Some(decoded), "{value}");
        }
        let long = format!("rfc822;{}", "a".repeat(494));
        for bad in [
            "rfc822",
            "rfc822;",
            ";a@b",
            "rf c;a",
            "rfc822;a b",
            "rfc822;a=b",
            "rfc822;a+2b@c",
            "rfc822;a+0D+0AEvil:",
            "rfc822;a+00",
            "rfc822;\u{7528}@c",
            "rfc822;a+C3+A9@c",
            "utf-8;\\x{0d}\\x{0a}",
            "utf-8;\\x{D800}",
            "utf-8;\\x{110000}",
            "utf-8;\\x{2028}",
            "utf-8;\\x{}",
            "utf-8;\\x{7528",
            "utf-8;\\",
            "utf-8;a+0A",
            "utf-8;a=b",
            "",
            &long,
        ] {
            assert_eq!(whole(bad, orcpt), None, "{bad:?}");
        }
    }

    #[test]
    fn envelope_ids_are_printable_ascii_of_bounded_length() {
        assert_eq!(whole("QQ314159+20x", envid).as_deref(), Some("QQ314159 x"));
        let long = "a".repeat(101);
        for bad in ["", "a=b", "a+0A", "a+C3+A9", "a+", "é", &long] {
            assert_eq!(whole(bad, envid), None, "{bad}");
        }
        assert!(whole(&long[1..], envid).is_some());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(kind in "rfc822|x-y", address in "[ -~]{1,60}", wide in "[!-~é用]{1,30}") {
            let value = format!("{kind};{}", encode_xtext(&address));
            let decoded = format!("{kind};{address}");
            prop_assert_eq!(whole(&value, orcpt), Some(decoded.clone()));
            prop_assert_eq!(encode_orcpt(&decoded), Some(value));
            let decoded = format!("utf-8;{wide}");
            let value = encode_orcpt(&decoded).expect("a type and an address");
            prop_assert!(value.is_ascii());
            prop_assert_eq!(whole(&value, orcpt), Some(decoded));
        }

        #[test]
        fn reading_never_panics(text in any::<String>(), tail in "[a-z0-9+;{}x\\\\=,]{0,40}") {
            for text in [text.clone(), format!("utf-8;{text}"), format!("utf-8;\\x{{{tail}"), tail] {
                let _ = (whole(&text, orcpt), whole(&text, envid), whole(&text, notify), whole(&text, ret));
            }
        }
    }
}
