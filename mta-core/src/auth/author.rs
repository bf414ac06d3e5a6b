//! Whose message it is: the one domain of its From field, where every reader comes to the same (RFC 5322 3.6.2).
//!
//! DMARC protects what a person reads. A field that one parser reads so and another otherwise, or a section in which
//! readers disagree about where it ends, would let a stranger pass for one domain and show another. What it does: it says
//! whether there is one answer. What it does not: it judges nothing; that is `policy`.

use super::results::bare;
use crate::content::fixup::addresses;
use crate::content::header::{Field, fields};

/// Whether every line of a header section belongs to a field. Behind a line that does not, some readers take the body to
/// begin and others go on; what a signature covers is then not what is read.
pub(super) fn is_sound(header: &[u8]) -> bool {
    fields(header).all(|field| !field.name.is_empty())
}

/// How many fields there are.
pub(super) fn count(header: &[u8]) -> usize {
    fields(header).count()
}

/// Security decision: whether the author's domain is beyond doubt, given the domains that the evaluator of DMARC goes by.
///
/// # Errors
/// Why nobody can say who the author is.
pub(super) fn check(header: &[u8], seen: &[String]) -> Result<(), &'static str> {
    let from: Vec<Field<'_>> = fields(header).filter(|field| field.is("From")).collect();
    // RFC 5322 3.6: one From field.
    let [from] = from.as_slice() else {
        return Err(if from.is_empty() { "no From field" } else { "more than one From field" });
    };
    let [domain] = seen else {
        return Err(if seen.is_empty() {
            "no author that can be read"
        } else {
            "authors of several domains"
        });
    };
    let text = from.text();
    let read = match addresses(&text) {
        Some(_) if has_group(&text) => return Err("a group is no author"),
        Some(authors) => authors.iter().map(|author| author.host().to_string()).collect(),
        // Names that should stand in quotes are common. Any other address among them is not.
        None => domains(&text),
    };
    let same = |other: &String| is_same(other, domain);
    if !read.is_empty() && read.iter().all(same) {
        Ok(())
    } else {
        Err("a From field that can be read in more than one way")
    }
}

fn is_same(one: &str, other: &str) -> bool {
    one.trim_end_matches('.').to_lowercase() == other.trim_end_matches('.').to_lowercase()
}

/// Whether there is a group (RFC 5322 3.4): a colon that is in no literal.
fn has_group(text: &str) -> bool {
    let mut literal = false;
    bare(text).chars().any(|c| {
        literal = (literal || c == '[') && c != ']';
        c == ':' && !literal
    })
}

/// Whatever stands behind an `@`.
fn domains(text: &str) -> Vec<String> {
    let belongs = |c: char| c.is_alphanumeric() || "-._[]:".contains(c);
    let parts = bare(text);
    parts
        .split('@')
        .skip(1)
        .map(|rest| rest.trim_start().chars().take_while(|c| belongs(*c)).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::library;
    use super::*;

    /// With the domains that the library goes by.
    fn judged(from: &str) -> Result<(), &'static str> {
        let header = format!("Subject: x\r\nFrom: {from}\r\nTo: b@b.example\r\n");
        check(header.as_bytes(), &library::authors(header.as_bytes()))
    }

    #[test]
    fn authors_of_one_domain() {
        for from in [
            "a@evil.example",
            "Ann <a@evil.example>",
            "\"ceo@victim.example\" <a@evil.example>",
            "Ann (of victim.example) <a@Evil.example>",
            "a@evil.example, b@evil.example",
            "Ann, Inc. <a@evil.example>",
            "=?utf-8?q?ceo=40victim=2Eexample?= <a@evil.example>",
            "Ann\r\n\t<a@evil.example>",
            "\"a b\"@evil.example",
        ] {
            assert_eq!(judged(from), Ok(()), "{from}");
        }
    }

    #[test]
    fn what_can_be_read_otherwise_is_nobodys() {
        for from in [
            "",
            "Ann",
            "\"ceo@victim.example\"",
            "ceo@victim.example <>",
            "=?utf-8?q?ceo=40victim.example?=",
            "ceo at victim.example",
            "<ceo@victim.example> <a@evil.example>",
            "ceo@victim.example a@evil.example",
            "ceo@victim.example:a@evil.example;",
            "\"x\\\"y\" ceo@victim.example:a@evil.example;",
            "(\\() ceo@victim.example:a@evil.example;",
            "ceo@victim.example, a@evil.example",
            "friends:;",
            "ceo@victim.example\u{0}<a@evil.example>x@y.example",
        ] {
            assert!(judged(from).is_err(), "{from}");
        }
        for header in ["Subject: x\r\n", "From: a@a.example\r\nfrom : a@a.example\r\n"] {
            assert!(check(header.as_bytes(), &["a.example".to_owned()]).is_err(), "{header}");
        }
    }

    #[test]
    fn sections_in_which_readers_disagree() {
        for (header, sound) in [
            ("A: b\r\n c\r\nB:\r\n", true),
            ("", true),
            ("A: b\r\ngarbage\r\nFrom: x@y.example\r\n", false),
            (" c\r\nA: b\r\n", false),
            ("From x Mon Nov 23 22:03:48 2026\r\nA: b\r\n", false),
            (": b\r\n", false),
        ] {
            assert_eq!(is_sound(header.as_bytes()), sound, "{header}");
        }
    }
}
