//! The field Authentication-Results (RFC 8601): ours written, forged ones found.
//!
//! Values in it come from strangers. They are written as plain ASCII without anything that could end a value, a line or
//! the field.

use crate::content::header::{Field, Header};

use super::verdict::{Verdicts, Word};

/// A stranger's value is cut here.
const MAX_VALUE_OCTETS: usize = 255;

/// Writes the field about a message.
pub(crate) fn field(
    server: &str,
    verdicts: &Verdicts,
    client: std::net::IpAddr,
    mail_from: Option<&str>,
) -> String {
    let mut parts = Vec::new();
    if let (Some(checked), Some(address)) = (&verdicts.spf_from, mail_from) {
        let reason = comment(checked.reason.as_deref());
        parts.push(format!("spf={}{reason} smtp.mailfrom={}", checked.result, value(address)));
    }
    let helo = &verdicts.spf_helo;
    parts.push(format!(
        "spf={}{} smtp.helo={}",
        helo.result,
        comment(helo.reason.as_deref()),
        value(&helo.domain)
    ));
    if verdicts.dkim.is_empty() {
        parts.push("dkim=none".to_owned());
    }
    for it in &verdicts.dkim {
        let mut part = format!("dkim={}{}", it.word, comment(Some(&it.reason)));
        for (name, text) in [
            ("header.d", it.domain.as_str()),
            ("header.s", &it.selector),
            ("header.a", it.algorithm),
            ("header.b", &it.start),
        ] {
            if !text.is_empty() {
                part.push_str(&format!(" {name}={}", value(text)));
            }
        }
        parts.push(part);
    }
    let dmarc = &verdicts.dmarc;
    let policy = if dmarc.published.is_some() { format!(" (p={})", dmarc.policy) } else { String::new() };
    let author = if dmarc.domain.is_empty() {
        String::new()
    } else {
        format!(" header.from={}", value(&dmarc.domain))
    };
    parts.push(format!("dmarc={}{policy}{}{author}", dmarc.word, comment(Some(&dmarc.reason))));
    if verdicts.arc.word != Word::None {
        let arc = &verdicts.arc;
        parts.push(format!("arc={}{} header.d={}", arc.word, comment(Some(&arc.reason)), value(&arc.sealer)));
    }
    let name = verdicts.iprev.name.as_deref().map(|name| format!(" ({})", plain(name))).unwrap_or_default();
    parts.push(format!("iprev={}{name} policy.iprev={client}", verdicts.iprev.word));
    format!("Authentication-Results: {server};\r\n\t{}\r\n", parts.join(";\r\n\t"))
}

/// Takes out what claims to be said by us (RFC 8601 5): only we may, and only now.
pub(crate) fn remove_forged(header: &mut Header, server: &str) -> usize {
    header.remove(|field| is_of(field, server))
}

/// Whether this is a field of ours. Only where the header section went through [`remove_forged`] is it: then no other is
/// left.
pub(crate) fn is_of(field: &Field<'_>, server: &str) -> bool {
    field.is("Authentication-Results") && claims_to_be(field, server)
}

/// What a field of ours says of the ARC chain. Comments may hold a stranger's words, so nothing in them counts.
pub(crate) fn arc_word(field: &Field<'_>) -> Word {
    let words = words(&field.text());
    match words.iter().find(|(method, _)| method == "arc").map(|(_, word)| word.as_str()) {
        None | Some("none") => Word::None,
        Some("pass") => Word::Pass,
        Some("temperror") => Word::TempError,
        Some(_) => Word::Fail,
    }
}

/// Methods with their results (RFC 8601 2.2). Nothing in a comment or in quotes counts: strangers write there.
pub(crate) fn words(text: &str) -> Vec<(String, String)> {
    let bare = bare(text);
    let word = |part: &str| {
        let (method, rest) = part.split_once('=')?;
        let word = rest.split_ascii_whitespace().next()?;
        Some((method.trim().to_owned(), word.to_owned()))
    };
    bare.split(';').filter_map(word).collect()
}

/// A text outside of quotes and comments (RFC 5322 3.2.2, 3.2.4), where a backslash takes the meaning of what follows it.
/// What is not closed goes to the end.
pub(super) fn bare(text: &str) -> String {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let mut bare = String::new();
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted || depth > 0 => escaped = true,
            '"' if depth == 0 => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted && depth > 0 => depth -= 1,
            c if depth == 0 && !quoted => bare.push(c),
            _ => {}
        }
    }
    bare
}

/// Whether the authserv-id of a field is ours. A field whose id cannot be made out and that names us at all before its first
/// result counts as forged.
fn claims_to_be(field: &Field<'_>, server: &str) -> bool {
    let text = field.text().to_ascii_lowercase();
    let server = server.to_ascii_lowercase();
    let bare = without_comments(&text);
    let id = bare.split(';').next().unwrap_or_default();
    let id = id.trim().trim_start_matches('"');
    let word: String = id.chars().take_while(|c| !c.is_whitespace() && *c != '"').collect();
    let clear = !word.is_empty() && !word.contains(['(', ')', '\\']);
    if clear { word.trim_end_matches('.') == server } else { text.contains(&server) }
}

/// A text without its comments (RFC 5322 3.2.2), which may nest.
fn without_comments(text: &str) -> String {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let mut bare = String::new();
    for c in text.chars() {
        if escaped {
            escaped = false;
            if depth == 0 {
                bare.push(c);
            }
            continue;
        }
        match c {
            '\\' => escaped = true,
            '"' if depth == 0 => {
                quoted = !quoted;
                bare.push(c);
            }
            '(' if !quoted => depth += 1,
            ')' if !quoted && depth > 0 => depth -= 1,
            _ if depth == 0 => bare.push(c),
            _ => {}
        }
    }
    bare
}

/// A stranger's text with nothing but printable ASCII in it, bounded.
pub(crate) fn plain(text: &str) -> String {
    let allowed = |c: char| if c.is_ascii_graphic() && !"();\"\\".contains(c) { c } else { '?' };
    text.chars().take(MAX_VALUE_OCTETS).map(allowed).collect()
}

/// A value (RFC 8601 2.2): as it is where it is made of plain name characters, else quoted.
fn value(text: &str) -> String {
    let text = plain(text);
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._@+/=".contains(&b);
    let token = !text.is_empty() && text.bytes().all(is_plain) && !text.contains('=');
    if token { text } else { format!("\"{text}\"") }
}

/// A reason as a comment.
fn comment(reason: Option<&str>) -> String {
    let Some(reason) = reason.filter(|reason| !reason.is_empty()) else {
        return String::new();
    };
    let allowed = |c: char| if (c.is_ascii_graphic() || c == ' ') && !"()\\".contains(c) { c } else { '?' };
    let text: String = reason.chars().take(120).map(allowed).collect();
    format!(" ({text})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_claims_to_be_ours_goes_and_the_rest_stays() {
        let forged = [
            "Authentication-Results: mx.example; spf=pass smtp.mailfrom=x",
            "authentication-results : MX.Example 1; dkim=pass",
            "Authentication-Results:\r\n\t(hello; (nested) there) mx.example\r\n\t; none",
            "Authentication-Results: \"mx.example\"; spf=pass",
            "Authentication-Results: mx.example.; spf=pass",
            "Authentication-Results: (open mx.example; spf=pass",
            "Authentication-Results: mx.example",
        ];
        let foreign = [
            "Authentication-Results: other.example; spf=pass",
            "Authentication-Results: mx.example.evil.example; spf=pass",
            "Authentication-Results: other.example; spf=pass smtp.helo=mx.example",
            "ARC-Authentication-Results: i=1; mx.example; spf=pass",
            "X-Authentication-Results: mx.example; spf=pass",
            "Subject: Authentication-Results: mx.example; spf=pass",
        ];
        let text: String = forged.iter().chain(&foreign).map(|line| format!("{line}\r\n")).collect();
        let (mut header, _) = Header::split(format!("{text}\r\n").as_bytes());
        assert_eq!(remove_forged(&mut header, "mx.example"), forged.len());
        let kept: String = foreign.iter().map(|line| format!("{line}\r\n")).collect();
        assert_eq!(String::from_utf8_lossy(header.octets()), kept);
    }

    #[test]
    fn words_in_comments_and_quotes_count_for_nothing() {
        let text = "mx.example; spf=pass smtp.mailfrom=\"x;dmarc=pass\"@evil.example (;arc=pass;);\r\n\tarc=fail (x); dkim=none";
        let expected = [("spf", "pass"), ("arc", "fail"), ("dkim", "none")];
        let escaped = "mx.example; spf=pass smtp.mailfrom=\"x\\\";dmarc=pass\"@evil.example (\\);arc=pass);arc=fail; dkim=none";
        assert_eq!(words(escaped), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(words(text), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn values_cannot_break_out() {
        for (text, expected) in [
            ("a@b.example", "a@b.example"),
            ("a b@c", "\"a?b@c\""),
            ("x;y=pass", "\"x?y=pass\""),
            ("x\r\nEvil: y", "\"x??Evil:?y\""),
            ("\"q\\\"(c)", "\"?q???c?\""),
            ("", "\"\""),
            ("é", "\"?\""),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
        assert_eq!(comment(Some("a)b\r\nc\u{1b}")), " (a?b??c?)");
        assert!(plain(&"x".repeat(10_000)).len() <= MAX_VALUE_OCTETS);
    }
}
