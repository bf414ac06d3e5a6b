//! Address lists of header fields and of the command line (RFC 5322 3.4), as far as an envelope needs them.
//!
//! What it does: finds the addr-spec of each address, past display names, comments, groups and obsolete routes, and
//! gives local names our domain. What it does not: it keeps no display name, and it decodes nothing.

use mta_smtp::address::{Domain, Mailbox};

/// Addresses of one message at most, from header and command line together.
pub const MAX_ADDRESSES: usize = 10_000;

/// How deep comments may nest.
const MAX_COMMENT_DEPTH: usize = 16;

/// Why a list is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListError {
    /// A quoted string, comment or angle bracket that does not end.
    Unended,
    /// What stands where an address should, cut and harmless.
    Address(String),
    /// More addresses than are taken.
    TooMany,
}

impl std::fmt::Display for ListError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unended => f.write_str("a quote, comment or bracket in an address list does not end"),
            Self::Address(text) => write!(f, "{text:?} is no mail address"),
            Self::TooMany => write!(f, "more than {MAX_ADDRESSES} addresses"),
        }
    }
}

/// A piece of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A word, or a quoted string with its quotes, or a domain literal with its brackets. Whether space stood before.
    Word(String, bool),
    /// One of `<>,;:@.`
    Special(char),
}

/// Reads a list; bare local names get `origin` as their domain.
///
/// # Errors
/// The first thing in the list that is no address.
pub fn parse_list(text: &str, origin: &Domain) -> Result<Vec<Mailbox>, ListError> {
    let tokens = tokens(text)?;
    let mut found = Vec::new();
    let mut rest = tokens.as_slice();
    loop {
        let (address, then) = next_address(rest)?;
        if let Some(address) = address {
            if found.len() >= MAX_ADDRESSES {
                return Err(ListError::TooMany);
            }
            found.push(qualify(&address, origin)?);
        }
        match then {
            Some(then) => rest = then,
            None => return Ok(found),
        }
    }
}

/// Reads one address: of the command line (`-f`), perhaps in angle brackets. `None` is the null sender.
///
/// # Errors
/// What is no address, or more than one.
pub fn parse_sender(text: &str, origin: &Domain) -> Result<Option<Mailbox>, ListError> {
    if matches!(text.trim(), "" | "<>") {
        return Ok(None);
    }
    let list = parse_list(text, origin)?;
    match <[Mailbox; 1]>::try_from(list) {
        Ok([one]) => Ok(Some(one)),
        Err(_) => Err(bad(text)),
    }
}

/// The next address, if there is one before the separator, and what follows the separator.
#[allow(clippy::type_complexity, reason = "what was found, and the rest")]
fn next_address(tokens: &[Token]) -> Result<(Option<String>, Option<&[Token]>), ListError> {
    let mut spec = String::new();
    let mut words_apart = 0usize;
    let mut last_was_word = false;
    for (n, token) in tokens.iter().enumerate() {
        let behind = || tokens.get(n + 1..).unwrap_or_default();
        match token {
            Token::Word(word, spaced) => {
                words_apart += usize::from(last_was_word && *spaced);
                last_was_word = true;
                spec.push_str(word);
            }
            Token::Special('<') => {
                let (address, rest) = in_brackets(behind())?;
                return Ok((Some(address), after_separator(rest)?));
            }
            // The name of a group (RFC 5322 3.4); its members follow.
            Token::Special(':') if !spec.contains('@') => {
                spec.clear();
                (words_apart, last_was_word) = (0, false);
            }
            Token::Special(',' | ';') => return Ok((plain(spec, words_apart)?, Some(behind()))),
            Token::Special(c @ ('@' | '.')) => {
                last_was_word = false;
                spec.push(*c);
            }
            Token::Special(c) => return Err(ListError::Address(c.to_string())),
        }
    }
    Ok((plain(spec, words_apart)?, None))
}

/// An address without brackets; words side by side would be a name without an address, or several local names.
fn plain(spec: String, words_apart: usize) -> Result<Option<String>, ListError> {
    match (spec.is_empty(), words_apart) {
        (true, _) => Ok(None),
        (false, 0) => Ok(Some(spec)),
        (false, _) => Err(bad(&spec)),
    }
}

/// What stands in angle brackets, without an obsolete route (RFC 5322 4.4), and what follows them.
fn in_brackets(tokens: &[Token]) -> Result<(String, &[Token]), ListError> {
    let mut spec = String::new();
    for (n, token) in tokens.iter().enumerate() {
        match token {
            Token::Special('>') => {
                let rest = tokens.get(n + 1..).unwrap_or_default();
                return if spec.is_empty() { Err(bad("<>")) } else { Ok((spec, rest)) };
            }
            Token::Special(':') if spec.starts_with('@') => spec.clear(),
            Token::Special(',') if spec.starts_with('@') => {}
            Token::Special(c @ ('@' | '.')) => spec.push(*c),
            Token::Special(c) => return Err(ListError::Address(c.to_string())),
            Token::Word(word, _) => spec.push_str(word),
        }
    }
    Err(ListError::Unended)
}

/// Behind an address in brackets there may be the end or a separator, and nothing else.
fn after_separator(tokens: &[Token]) -> Result<Option<&[Token]>, ListError> {
    match tokens.first() {
        None => Ok(None),
        Some(Token::Special(',' | ';')) => Ok(Some(tokens.get(1..).unwrap_or_default())),
        Some(Token::Word(word, _)) => Err(bad(word)),
        Some(Token::Special(c)) => Err(ListError::Address(c.to_string())),
    }
}

/// The mailbox, with our domain where it has none.
fn qualify(spec: &str, origin: &Domain) -> Result<Mailbox, ListError> {
    let has_domain = !spec.ends_with('"') && spec.contains('@');
    let full = if has_domain { spec.to_owned() } else { format!("{spec}@{origin}") };
    // Never taken for an option by a program further on.
    if spec.starts_with('-') || spec.contains(char::REPLACEMENT_CHARACTER) {
        return Err(bad(spec));
    }
    Mailbox::parse(&full).map_err(|_| bad(spec))
}

fn bad(text: &str) -> ListError {
    ListError::Address(text.chars().filter(|c| !c.is_control()).take(100).collect())
}

/// Cuts a list into tokens; comments and space go away.
fn tokens(text: &str) -> Result<Vec<Token>, ListError> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    let mut spaced = false;
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => spaced = true,
            '(' => {
                comment(&mut chars)?;
                spaced = true;
            }
            '<' | '>' | ',' | ';' | ':' | '@' | '.' => {
                tokens.push(Token::Special(c));
                spaced = false;
            }
            '"' => {
                tokens.push(Token::Word(enclosed(&mut chars, '"')?, spaced));
                spaced = false;
            }
            '[' => {
                tokens.push(Token::Word(enclosed(&mut chars, ']')?, spaced));
                spaced = false;
            }
            _ => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| !" \t\r\n(<>,;:@.\"[".contains(*c)) {
                    word.push(c);
                }
                tokens.push(Token::Word(word, spaced));
                spaced = false;
            }
        }
    }
    Ok(tokens)
}

/// The rest of a quoted string or a domain literal, as it stands, with both ends.
fn enclosed(chars: &mut impl Iterator<Item = char>, end: char) -> Result<String, ListError> {
    let mut text = String::from(if end == '"' { '"' } else { '[' });
    while let Some(c) = chars.next() {
        text.push(c);
        if c == '\\' {
            text.push(chars.next().ok_or(ListError::Unended)?);
        } else if c == end {
            return Ok(text);
        }
    }
    Err(ListError::Unended)
}

/// Skips the rest of a comment.
fn comment(chars: &mut impl Iterator<Item = char>) -> Result<(), ListError> {
    let mut depth = 1;
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(());
        }
        if depth > MAX_COMMENT_DEPTH {
            return Err(ListError::Unended);
        }
    }
    Err(ListError::Unended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<String, ListError> {
        let found = parse_list(text, &Domain::parse("host.example").unwrap())?;
        Ok(found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn lists_by_rfc5322() {
        for (text, expected) in [
            ("root", "root@host.example"),
            ("a@b.example, c", "a@b.example c@host.example"),
            (
                "Anna Example <anna@b.example>, \"Doe, John\" <j.doe@c.example>",
                "anna@b.example j.doe@c.example",
            ),
            ("=?utf-8?B?w6Q=?= <a@b.example>", "a@b.example"),
            ("a@b.example (a comment, with \\) (nested) commas)", "a@b.example"),
            ("(comment) a (x) @ (y) b . example", "a@b.example"),
            ("team: a@b.example, c@d.example;, e", "a@b.example c@d.example e@host.example"),
            ("undisclosed-recipients:;", ""),
            ("undisclosed-recipients: ;", ""),
            ("<@x.example,@y.example:a@b.example>", "a@b.example"),
            ("\"a b\"@c.example", "\"a b\"@c.example"),
            ("\"a@b\"", "\"a@b\"@host.example"),
            ("x <\"a,b\"@c.example>", "\"a,b\"@c.example"),
            ("a@[192.0.2.1]", "a@[192.0.2.1]"),
            ("a@b.example,\r\n\tc@d.example", "a@b.example c@d.example"),
            ("John Q. Public <j@b.example>", "j@b.example"),
            ("ümlaut@b.example", "ümlaut@b.example"),
            (",,a,", "a@host.example"),
            ("", ""),
        ] {
            assert_eq!(list(text).as_deref(), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_list() {
        for text in [
            "a b",
            "Anna Example",
            "<>",
            "<a@b.example",
            "a@b.example> c",
            "\"a@b.example",
            "(a@b.example",
            "a@b@c.example",
            "a@",
            "@b.example",
            "<a@b.example> <c@d.example>",
            "a@b..example",
            "-oQ/tmp@b.example",
            "<-f@b.example>",
            "a\u{0}b@c.example",
            "a\u{7f}b@c.example",
        ] {
            assert!(list(text).is_err(), "{text:?}: {:?}", list(text));
        }
    }

    #[test]
    fn senders() {
        let origin = Domain::parse("host.example").unwrap();
        let sender = |text: &str| parse_sender(text, &origin).map(|s| s.map(|m| m.to_string()));
        assert_eq!(sender(""), Ok(None));
        assert_eq!(sender("<>"), Ok(None));
        assert_eq!(sender("root"), Ok(Some("root@host.example".into())));
        assert_eq!(sender("<a@b.example>"), Ok(Some("a@b.example".into())));
        assert!(sender("a@b.example, c").is_err() && sender("a b").is_err() && sender("<a>, <>").is_err());
    }

    #[test]
    fn any_text_gives_addresses_or_an_error() {
        proptest::proptest!(|(text in "[ -~\\t\\n\\r\u{80}-\u{ff}]{0,80}")| {
            if let Ok(found) = parse_list(&text, &Domain::parse("host.example").unwrap()) {
                for mailbox in found {
                    let written = mailbox.to_string();
                    assert!(!written.chars().any(char::is_control) && !written.starts_with('-'));
                    assert_eq!(Mailbox::parse(&written), Ok(mailbox));
                }
            }
        });
    }
}
