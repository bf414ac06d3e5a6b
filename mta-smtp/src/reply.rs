//! Replies (RFC 5321 4.2): the three-digit code, the enhanced status code (RFC 3463), the text.
//!
//! Building and writing them; reading a peer's replies is `parse::reply`. Whatever text goes into a `Reply` through
//! `new` or `push_line` is cleaned there: no control byte and no line end leaves in a reply's text.

use crate::text::is_harmful;
use std::fmt;

/// The longest reply line we write, code and CR LF included (RFC 5321 4.5.3.1.5).
pub const MAX_REPLY_LINE_OCTETS: usize = 512;

/// An enhanced status code, class.subject.detail (RFC 3463).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedStatus {
    /// 2 success, 4 persistent transient failure, 5 permanent failure.
    pub class: u8,
    /// What area the status is about.
    pub subject: u16,
    /// What happened.
    pub detail: u16,
}

impl EnhancedStatus {
    /// The status `class.subject.detail`.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// Reads `class.subject.detail` (RFC 3463 2): class 2, 4 or 5, the others 0 to 999 without leading zeros.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
        let class = match class {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        if parts.next().is_some() {
            return None;
        }
        Some(Self::new(class, status_number(subject)?, status_number(detail)?))
    }

    /// Splits a leading status code and the space behind it off a reply's text.
    pub fn split(text: &str) -> (Option<Self>, &str) {
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        match Self::parse(first) {
            Some(status) => (Some(status), rest),
            None => (None, text),
        }
    }
}

/// One of the numbers behind the class: `1*3DIGIT`, no leading zeros.
fn status_number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// What a reply means for what comes next (RFC 5321 4.2.1, first digit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyClass {
    /// 2yz: done.
    PositiveCompletion,
    /// 3yz: go on.
    PositiveIntermediate,
    /// 4yz: not now.
    TransientNegative,
    /// 5yz: not at all.
    PermanentNegative,
}

/// A reply. The lines hold no control bytes and no line ends: what came from a stranger was cleaned before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three-digit code, 200 to 599.
    pub code: u16,
    /// The enhanced status code, where there is one.
    pub enhanced: Option<EnhancedStatus>,
    /// The text, a line each, without codes. At least one, possibly empty.
    pub lines: Vec<String>,
}

impl Reply {
    /// A reply of one line. Control characters in the text become `?`.
    pub fn new(code: u16, enhanced: impl Into<Option<EnhancedStatus>>, text: impl AsRef<str>) -> Self {
        Self { code, enhanced: enhanced.into(), lines: vec![clean(text.as_ref())] }
    }

    /// A reply with an enhanced status code given as its three numbers.
    pub fn with_status(code: u16, status: (u8, u16, u16), text: impl AsRef<str>) -> Self {
        Self::new(code, EnhancedStatus::new(status.0, status.1, status.2), text)
    }

    /// Adds one more line of text, cleaned in the same way.
    #[must_use]
    pub fn push_line(mut self, text: impl AsRef<str>) -> Self {
        self.lines.push(clean(text.as_ref()));
        self
    }

    /// What the first digit says. A code that no reply may have counts as a permanent refusal.
    pub fn class(&self) -> ReplyClass {
        match self.code / 100 {
            2 => ReplyClass::PositiveCompletion,
            3 => ReplyClass::PositiveIntermediate,
            4 => ReplyClass::TransientNegative,
            _ => ReplyClass::PermanentNegative,
        }
    }

    /// Whether the reply is 2yz.
    pub fn is_positive(&self) -> bool {
        self.class() == ReplyClass::PositiveCompletion
    }

    /// The wire form: one line, or several with `-` behind the code; the enhanced status code begins each line
    /// (RFC 2034 4). Lines that would be too long are cut.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 * self.lines.len());
        let last = self.lines.len().saturating_sub(1);
        for (index, line) in self.lines.iter().enumerate() {
            let separator = if index == last { ' ' } else { '-' };
            let text = match self.enhanced {
                Some(status) => format!("{:03}{separator}{status} {line}", self.code),
                None => format!("{:03}{separator}{line}", self.code),
            };
            bytes.extend_from_slice(cut(&text, MAX_REPLY_LINE_OCTETS - 2).as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }
}

/// One line for people and logs: the code, the status, the text lines joined by spaces.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.code)?;
        if let Some(status) = self.enhanced {
            write!(f, " {status}")?;
        }
        for line in &self.lines {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

/// Puts `?` in the place of controls and of characters that end a line somewhere.
fn clean(text: &str) -> String {
    text.chars().map(|c| if is_harmful(c) { '?' } else { c }).collect()
}

/// The longest prefix of at most `limit` octets that ends between two characters.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_form_of_one_and_several_lines() {
        assert_eq!(Reply::with_status(250, (2, 1, 0), "ok").to_bytes(), b"250 2.1.0 ok\r\n");
        let reply = Reply::new(250, None, "mx.example.org").push_line("PIPELINING").push_line("SIZE 10");
        assert_eq!(reply.to_bytes(), b"250-mx.example.org\r\n250-PIPELINING\r\n250 SIZE 10\r\n");
        assert_eq!(reply.to_string(), "250 mx.example.org PIPELINING SIZE 10");
    }

    #[test]
    fn no_text_ends_a_line_early() {
        let reply = Reply::new(550, None, "no such user x\r\n250 ok\u{2028}");
        assert_eq!(reply.to_bytes(), b"550 no such user x??250 ok?\r\n");
        let long = Reply::with_status(550, (5, 1, 1), "é".repeat(400)).to_bytes();
        assert!(
            long.len() <= MAX_REPLY_LINE_OCTETS
                && long.ends_with(b"\r\n")
                && std::str::from_utf8(&long).is_ok()
        );
    }

    #[test]
    fn enhanced_status_by_rfc3463() {
        assert_eq!(EnhancedStatus::parse("5.7.1"), Some(EnhancedStatus::new(5, 7, 1)));
        assert_eq!(EnhancedStatus::parse("4.999.0"), Some(EnhancedStatus::new(4, 999, 0)));
        for bad in ["", "5", "5.7", "3.7.1", "5.07.1", "5.7.1.1", "5.7.1000", "5.7.", "5.-1.2", "55.1.1"] {
            assert_eq!(EnhancedStatus::parse(bad), None, "{bad}");
        }
        assert_eq!(EnhancedStatus::split("2.0.0 ok"), (Some(EnhancedStatus::new(2, 0, 0)), "ok"));
        assert_eq!(EnhancedStatus::split("5 apples"), (None, "5 apples"));
    }

    #[test]
    fn classes_by_first_digit() {
        let class = |code| Reply::new(code, None, "").class();
        assert_eq!(class(250), ReplyClass::PositiveCompletion);
        assert_eq!(class(354), ReplyClass::PositiveIntermediate);
        assert_eq!(class(451), ReplyClass::TransientNegative);
        assert_eq!(class(550), ReplyClass::PermanentNegative);
        assert_eq!(class(999), ReplyClass::PermanentNegative);
    }
}
