//! Addresses in header fields of our own mail: bare names get a domain, and the domains of a host that receives nothing
//! become the one it writes as (RFC 6409 8.8, RFC 5321 2.3.4 asks for full domains).
//!
//! What it does: finds each address of a list (RFC 5322 3.4) and changes the octets of its domain alone; names, comments,
//! groups and folds stay as they are. What it does not: a field that cannot be read wholly stays as it came, strangers' mail
//! never comes here, and it decides nothing: what it has changed is checked afterwards like any other (`fixup`).

use mta_smtp::address::{Domain, Mailbox};

use crate::content::header::Header;
use crate::inbound::SenderRewrite;

/// The fields that hold addresses.
const FIELDS: [&str; 12] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Resent-From",
    "Resent-Sender",
    "Resent-To",
    "Resent-Cc",
    "Resent-Bcc",
    "Disposition-Notification-To",
];

/// How deep comments may nest.
const MAX_COMMENT_DEPTH: usize = 10;

/// What is changed in the mail of one source.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddressRules {
    /// The domain of bare names.
    pub(crate) origin: Option<Domain>,
    /// Domains that are replaced.
    pub(crate) rewrite: Option<SenderRewrite>,
}

/// Applies the rules. Domains that are not ASCII are put into messages that may hold them alone (RFC 6532).
pub(super) fn apply(header: &mut Header, rules: &AddressRules, smtputf8: bool) {
    let usable = |domain: &Domain| smtputf8 || domain.is_ascii();
    let origin = rules.origin.as_ref().filter(|domain| usable(domain));
    let rewrite = rules.rewrite.as_ref().filter(|rewrite| usable(&rewrite.to));
    if origin.is_none() && rewrite.is_none() {
        return;
    }
    // A bare name gets the domain that is put in the place of its own.
    let replaced =
        |origin| rewrite.filter(|rewrite| rewrite.from.contains(origin)).map(|rewrite| &rewrite.to);
    let origin = origin.map(|origin| replaced(origin).unwrap_or(origin));
    header.change(|field| {
        if !FIELDS.iter().any(|name| field.is(name)) {
            return None;
        }
        let edits = edits(field.value, origin, rewrite)?;
        let mut value = field.value.to_vec();
        for Edit { from, to, text } in edits.into_iter().rev() {
            value.splice(from..to, text.into_bytes());
        }
        Some(value)
    });
}

/// These octets of a value become that.
#[derive(Debug, PartialEq, Eq)]
struct Edit {
    from: usize,
    to: usize,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An atom, a quoted string with its quotes, or a literal with its brackets.
    Word,
    /// One of `<>,;:@.`
    Special(u8),
}

#[derive(Debug, Clone, Copy)]
struct Token {
    kind: Kind,
    from: usize,
    to: usize,
}

impl Token {
    fn is(&self, special: u8) -> bool {
        self.kind == Kind::Special(special)
    }
}

/// What is to be changed, in order; `None` where nothing is, or where the value cannot be read.
fn edits(value: &[u8], origin: Option<&Domain>, rewrite: Option<&SenderRewrite>) -> Option<Vec<Edit>> {
    let tokens = tokens(value)?;
    let mut edits = Vec::new();
    let mut element: Vec<Token> = Vec::new();
    let mut in_angle = false;
    let end = Token { kind: Kind::Special(b','), from: value.len(), to: value.len() };
    for token in tokens.into_iter().chain([end]) {
        match token.kind {
            Kind::Special(b'<') if in_angle => return None,
            Kind::Special(b'<') => in_angle = true,
            Kind::Special(b'>') if !in_angle => return None,
            Kind::Special(b'>') => in_angle = false,
            Kind::Special(b',' | b';') if !in_angle => {
                edits.extend(edit(value, address(&element)?, origin, rewrite)?);
                element.clear();
                continue;
            }
            // The name of a group; its members follow.
            Kind::Special(b':') if !in_angle => {
                if element.iter().any(|it| it.is(b'@') || it.is(b'<')) {
                    return None;
                }
                element.clear();
                continue;
            }
            _ => {}
        }
        element.push(token);
    }
    (!in_angle && !edits.is_empty()).then_some(edits)
}

/// The tokens of one address: those in angle brackets, else all. `None` where something stands behind the brackets.
fn address(element: &[Token]) -> Option<&[Token]> {
    let Some(open) = element.iter().position(|it| it.is(b'<')) else { return Some(element) };
    let inside = element.get(open + 1..)?;
    match inside.iter().position(|it| it.is(b'>')) {
        Some(close) if close + 1 == inside.len() => inside.get(..close),
        _ => None,
    }
}

/// What is to be changed in one address; nothing where there is none. `None` where it cannot be read.
fn edit(
    value: &[u8],
    address: &[Token],
    origin: Option<&Domain>,
    rewrite: Option<&SenderRewrite>,
) -> Option<Option<Edit>> {
    let (Some(first), Some(last)) = (address.first(), address.last()) else { return Some(None) };
    // An obsolete route stays.
    if first.is(b'@') {
        return Some(None);
    }
    let at = address.iter().position(|it| it.is(b'@'));
    let (local, domain) = match at {
        Some(at) => (address.get(..at)?, address.get(at + 1..)?),
        None => (address, &[][..]),
    };
    if !is_dotted(local) || (at.is_some() && !is_dotted(domain)) {
        return None;
    }
    let text = |tokens: &[Token]| -> Option<String> {
        let octets: Vec<u8> =
            tokens.iter().flat_map(|it| value.get(it.from..it.to)).flatten().copied().collect();
        String::from_utf8(octets).ok()
    };
    let local = text(local)?;
    let (from, to, new, text) = match (at, domain.first()) {
        (None, _) => {
            let Some(origin) = origin else { return Some(None) };
            (last.to, last.to, origin, format!("@{origin}"))
        }
        (Some(_), Some(first)) => {
            let found = text(domain).and_then(|text| Domain::parse(&text).ok());
            let applies = |rewrite: &&SenderRewrite| found.is_some_and(|found| rewrite.from.contains(&found));
            let Some(rewrite) = rewrite.filter(applies) else { return Some(None) };
            (first.from, last.to, &rewrite.to, rewrite.to.to_string())
        }
        (Some(_), None) => return None,
    };
    // What is no address even so is left to whoever reads it.
    Mailbox::parse(&format!("{local}@{new}")).ok()?;
    Some(Some(Edit { from, to, text }))
}

/// Words with a dot between each two.
fn is_dotted(tokens: &[Token]) -> bool {
    tokens.len() % 2 == 1
        && tokens
            .iter()
            .enumerate()
            .all(|(n, it)| if n % 2 == 0 { it.kind == Kind::Word } else { it.is(b'.') })
}

/// The tokens of a value, without blanks and comments. `None` where something does not end.
fn tokens(value: &[u8]) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(octet) = value.get(at) {
        let from = at;
        let kind = match octet {
            b' ' | b'\t' | b'\r' | b'\n' => {
                at += 1;
                continue;
            }
            b'(' => {
                at = end_of_comment(value, at)?;
                continue;
            }
            b'"' => {
                at = end_of_quoted(value, at, b'"')?;
                Kind::Word
            }
            b'[' => {
                at = end_of_quoted(value, at, b']')?;
                Kind::Word
            }
            b'<' | b'>' | b',' | b';' | b':' | b'@' | b'.' => {
                at += 1;
                Kind::Special(*octet)
            }
            b')' | b']' | b'\\' | 0..=0x1f | 0x7f => return None,
            _ => {
                let is_end = |it: &u8| b" \t\r\n()<>,;:@.\"[]\\".contains(it) || it.is_ascii_control();
                at = value.iter().skip(from).position(is_end).map_or(value.len(), |length| from + length);
                Kind::Word
            }
        };
        tokens.push(Token { kind, from, to: at });
    }
    Some(tokens)
}

/// Behind what began at `from` and ends with `end`, past quoted pairs.
fn end_of_quoted(value: &[u8], from: usize, end: u8) -> Option<usize> {
    let mut at = from + 1;
    loop {
        match value.get(at)? {
            b'\\' => at += 2,
            octet if *octet == end => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// Behind a comment, which may hold others.
fn end_of_comment(value: &[u8], from: usize) -> Option<usize> {
    let (mut at, mut depth) = (from + 1, 1);
    while depth > 0 {
        match value.get(at)? {
            b'\\' => at += 1,
            b'(' if depth == MAX_COMMENT_DEPTH => return None,
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).expect("a domain")
    }

    fn rules() -> AddressRules {
        let from = vec![domain("router.lan"), domain("localhost")];
        let rewrite = SenderRewrite { from, to: domain("example.org") };
        AddressRules { origin: Some(domain("host.example")), rewrite: Some(rewrite) }
    }

    fn applied(section: &str, rules: &AddressRules) -> String {
        let (mut header, _) = Header::split(format!("{section}\r\n\r\n").as_bytes());
        apply(&mut header, rules, false);
        String::from_utf8_lossy(header.octets()).trim_end().to_owned()
    }

    #[test]
    fn bare_names_get_a_domain_and_domains_are_replaced() {
        for (field, expected) in [
            ("To: root", "To: root@host.example"),
            ("From: root (Cron Daemon)", "From: root@host.example (Cron Daemon)"),
            ("From: \"Cron, Daemon\" <root>", "From: \"Cron, Daemon\" <root@host.example>"),
            ("From: Cron <root@router.lan>", "From: Cron <root@example.org>"),
            (
                "cc : a.b, C <d> , e@else.example",
                "cc : a.b@host.example, C <d@host.example> , e@else.example",
            ),
            ("To: a,\r\n b@LOCALHOST,\r\n\tc", "To: a@host.example,\r\n b@example.org,\r\n\tc@host.example"),
            ("To: us: a, b@router.lan; c", "To: us: a@host.example, b@example.org; c@host.example"),
            ("To: \"a b\", \"c\\\"d\"@localhost", "To: \"a b\"@host.example, \"c\\\"d\"@example.org"),
            ("To: a@(x)router(y).(z)lan", "To: a@(x)example.org"),
            ("To: Jörg <jörg@router.lan>", "To: Jörg <jörg@example.org>"),
            ("Resent-To: (only (a) comment) a", "Resent-To: (only (a) comment) a@host.example"),
        ] {
            assert_eq!(applied(field, &rules()), expected);
        }
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        for field in [
            "To: a@else.example, <b@else.example>",
            "To: a@router.lan.else.example, b@[192.0.2.1], c@x.router.lan",
            "To: undisclosed-recipients:;",
            "To: ",
            "To: <>",
            "Subject: root",
            "X-To: root",
            "To: a b",
            "To: <a> b",
            "To: a@",
            "To: @router.lan",
            "To: <@router.lan:a@router.lan>",
            "To: a..b",
            "To: .a",
            "To: \"a",
            "To: (a",
            "To: <a",
            "To: a>",
            "To: <<a>>",
            "To: a\\b",
            "To: a@b@router.lan",
            "To: [root]",
        ] {
            assert_eq!(applied(field, &rules()), field.trim_end());
        }
        assert_eq!(applied("To: a@router.lan, b", &AddressRules::default()), "To: a@router.lan, b");
        let at_home = AddressRules { origin: Some(domain("router.lan")), ..rules() };
        assert_eq!(applied("To: a, b@router.lan", &at_home), "To: a@example.org, b@example.org");
        // What a message without SMTPUTF8 may not hold is not put into it.
        let wide = AddressRules { origin: Some(domain("bücher.example")), rewrite: None };
        assert_eq!(applied("To: a", &wide), "To: a");
    }

    proptest! {
        /// Whatever stands there: nothing but domains changes, and applying the rules again changes nothing.
        #[test]
        fn names_comments_and_folds_stay(value in "([ a-c<>@.,:;()\"\\\\\\[\\]]|router\\.lan|\r\n ){0,20}") {
            let section = format!("To:{value}");
            let once = applied(&section, &rules());
            prop_assert_eq!(&applied(&once, &rules()), &once);
            let without = |text: &str| {
                let text = text.replace("@host.example", "").replace("example.org", "router.lan");
                text.trim_end().to_owned()
            };
            // Comments and folds within a domain that is replaced go with it.
            if !section.contains('(') && !section.contains("\r\n") && !section.contains(". ") && !section.contains(" .") {
                prop_assert_eq!(without(&once), without(section.trim_end()));
            }
        }
    }
}
