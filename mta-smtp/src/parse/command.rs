//! Commands (RFC 5321 4.1.1): a verb, and an argument whose grammar the verb decides.

use nom::branch::alt;
use nom::bytes::complete::{tag_no_case, take_while_m_n, take_while1};
use nom::character::complete::{alpha1, char, digit1};
use nom::combinator::{all_consuming, map, map_opt, opt, rest};
use nom::multi::many0;
use nom::sequence::{pair, preceded, terminated};
use nom::{IResult, Parser};

use crate::parse::address::{Path, esmtp_parameter, path};

/// The longest name a client may give itself: a domain or an address literal.
const MAX_CLIENT_NAME_OCTETS: usize = 255;

/// The longest name of a SASL mechanism (RFC 4422 3.1).
const MAX_MECHANISM_OCTETS: usize = 20;

/// A verb and whatever follows its space.
pub(crate) fn verb(input: &str) -> IResult<&str, (&str, Option<&str>)> {
    all_consuming(pair(alpha1, opt(preceded(char(' '), rest)))).parse(input)
}

/// The argument of HELO and EHLO. Wider than RFC 5321 4.1.1.1: what clients put there is often no domain (an
/// underscore, a bare word), and 4.1.4 forbids to refuse mail for that. Nothing but name and literal characters.
pub(crate) fn client_name(input: &str) -> IResult<&str, &str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    all_consuming(take_while_m_n(1, MAX_CLIENT_NAME_OCTETS, allowed)).parse(input)
}

/// A path and the parameters behind it.
pub(crate) type PathAndParameters<'a> = (Path, Vec<(&'a str, Option<&'a str>)>);

/// `"FROM:" Reverse-path [SP Mail-parameters]`, or the same after `TO:`.
pub(crate) fn path_argument<'a>(
    keyword: &'static str,
) -> impl Parser<&'a str, Output = PathAndParameters<'a>, Error = nom::error::Error<&'a str>> {
    let parameters = many0(preceded(char(' '), esmtp_parameter));
    all_consuming(preceded(tag_no_case(keyword), pair(path, parameters)))
}

/// Whether the argument is right up to the end of its path: tells a bad parameter from a bad address.
pub(crate) fn begins_with_path(keyword: &'static str, input: &str) -> bool {
    let end = alt((map(char(' '), |_| ()), map(nom::combinator::eof, |_| ())));
    let parsed: IResult<&str, Path> = preceded(tag_no_case(keyword), terminated(path, end)).parse(input);
    parsed.is_ok()
}

/// `sasl-mech [SP initial-response]`, the argument of AUTH (RFC 4954 8, RFC 4422 3.1). The response is base64 or `=`.
pub(crate) fn auth(input: &str) -> IResult<&str, (&str, Option<&str>)> {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mechanism = take_while_m_n(1, MAX_MECHANISM_OCTETS, letter);
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    all_consuming(pair(mechanism, opt(preceded(char(' '), take_while1(base64))))).parse(input)
}

/// `chunk-size [SP "LAST"]`, the argument of BDAT (RFC 3030 2). Sizes beyond 64 bits are none.
pub(crate) fn chunk(input: &str) -> IResult<&str, (u64, bool)> {
    let size = map_opt(digit1, |digits: &str| digits.parse().ok());
    let last = map(opt(preceded(char(' '), tag_no_case("LAST"))), |last| last.is_some());
    all_consuming(pair(size, last)).parse(input)
}
