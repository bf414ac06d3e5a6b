//! Replies (RFC 5321 4.2): the three-digit code, the enhanced status code (RFC 3463), the text.

use std::fmt;

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
