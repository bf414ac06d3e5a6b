//! One form for replies that differ only in what belongs to one copy: ids, addresses, times, links. A thousand copies of
//! one reason are one row. What it does not: it knows no provider and no meaning of a reply.

/// Octets of the normal form.
const MAX_OCTETS: usize = 160;

/// Digits from which on a number is no code of SMTP any more.
const LONG_NUMBER: usize = 4;

/// Characters from which on a word with digits in it is an id.
const ID_LENGTH: usize = 7;

/// What stands around a word and is no part of it.
const AROUND: &[u8] = b"<>()[]{}\"',;:!?.";

/// The normal form of a reply.
#[cfg(test)]
pub(crate) fn reason(reply: &str) -> String {
    let mut out = String::new();
    write_reason(reply, &mut out);
    out
}

/// Puts the normal form of a reply behind what is in `out`. A summary does this for each of a million replies: most words
/// are plain ones, and no memory is asked for.
pub(crate) fn write_reason(reply: &str, out: &mut String) {
    let begin = out.len();
    for word in reply.split_ascii_whitespace() {
        if out.len() > begin {
            out.push(' ');
        }
        let is_plain = !word.bytes().any(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'@'));
        let (before, bare, after) = if is_plain { ("", word, "") } else { parts(word) };
        match if is_plain { None } else { placeholder(bare) } {
            Some(placeholder) => [before, placeholder, after].iter().for_each(|part| out.push_str(part)),
            None => out.push_str(word),
        }
        if out.len() - begin > MAX_OCTETS {
            out.truncate(out.floor_char_boundary(begin + MAX_OCTETS));
            out.push_str("...");
            break;
        }
    }
}

/// A word without the signs around it, and these.
fn parts(word: &str) -> (&str, &str, &str) {
    let is_around = |byte: &u8| AROUND.contains(byte);
    let begin = word.bytes().take_while(|byte| is_around(byte)).count();
    let rest = word.get(begin..).unwrap_or_default();
    let end = rest.len() - rest.bytes().rev().take_while(|byte| is_around(byte)).count();
    // Only ASCII was counted, so these are boundaries of characters.
    (
        word.get(..begin).unwrap_or_default(),
        rest.get(..end).unwrap_or_default(),
        rest.get(end..).unwrap_or_default(),
    )
}

/// What stands for a word that belongs to one copy.
fn placeholder(word: &str) -> Option<&'static str> {
    if !word.bytes().any(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'@')) {
        return None;
    }
    if word.contains("://") {
        return Some("URL");
    }
    if word.contains('@') {
        return Some("ADDRESS");
    }
    let may_be_ip = word.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'.' | b':'));
    if may_be_ip && word.parse::<std::net::IpAddr>().is_ok() {
        return Some("IP");
    }
    let digits = word.bytes().any(|byte| byte.is_ascii_digit());
    if !digits || is_status(word) {
        return None;
    }
    if word.bytes().all(|b| b.is_ascii_digit()) {
        return (word.len() >= LONG_NUMBER).then_some("N");
    }
    // A host name with a number in it says which of a provider's hosts answered: that is no part of the reason.
    let is_host = word.matches('.').count() >= 2 && word.bytes().any(|b| b.is_ascii_alphabetic());
    if is_host && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')) {
        return Some("HOST");
    }
    (word.chars().count() >= ID_LENGTH || word.contains('=')).then_some("ID")
}

/// An enhanced status code (RFC 3463 2), which is the reason itself; also behind a hyphen: `550-5.7.1`.
fn is_status(word: &str) -> bool {
    let word = word.rsplit('-').next().unwrap_or(word);
    let is_number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    word.split('.').count() == 3 && word.split('.').all(is_number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn copies_of_one_reason_are_one() {
        for (reply, expected) in [
            (
                "421-4.7.28 Gmail has detected an unusual rate of mail. d2e1a72fcca58-72f1a2b3c4d - gsmtp",
                "421-4.7.28 Gmail has detected an unusual rate of mail. ID - gsmtp",
            ),
            ("450 4.2.0 <bob@example.net>: Greylisted", "450 4.2.0 <ADDRESS>: Greylisted"),
            (
                "550 5.7.1 [192.0.2.7] is listed, see https://x.example/q?ip=1",
                "550 5.7.1 [IP] is listed, see URL",
            ),
            ("451 try again in 3600 seconds", "451 try again in N seconds"),
            ("452 4.3.1 no space", "452 4.3.1 no space"),
            ("mx3.big.example: connection timed out", "HOST: connection timed out"),
            ("no TLSA record matched", "no TLSA record matched"),
            ("450 4.1.1   two  spaces", "450 4.1.1 two spaces"),
            (
                "451 4.7.651 slow (S844) [DB8EUR05FT012.eop-eur05.prod.example 2026-11-24T10:00:00.123Z 08DE2A]",
                "451 4.7.651 slow (S844) [HOST ID 08DE2A]",
            ),
        ] {
            assert_eq!(reason(reply), expected);
        }
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_stays_as_it_is(reply in "\\PC*") {
            let once = reason(&reply);
            prop_assert!(once.len() <= reply.len().max(MAX_OCTETS) + 300);
        }
    }
}
