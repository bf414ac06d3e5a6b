//! The header guard: bounds on the header section while content streams by, the count of `Received:` lines, and what the
//! section says about how the message may travel.
//!
//! What it does: reads the header section octet by octet and remembers counts and two facts. What it does not: it parses
//! no other field, and it looks at nothing behind the empty line.

use crate::envelope::HeaderFacts;
use crate::server::Limits;

/// The name of the trace field (RFC 5321 4.4).
const RECEIVED: &[u8] = b"received";

/// The name of the field by which a sender prefers delivery to protection (RFC 8689 3).
const TLS_REQUIRED: &[u8] = b"tls-required";

/// The one value it has, and how much of a value is looked at.
const NO: &[u8] = b"no";
const MAX_VALUE_OCTETS: usize = 64;

/// What is wrong with a header section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum HeaderFault {
    /// As many `Received:` lines as a loop makes.
    Loop,
    /// More octets or lines than allowed.
    TooBig,
}

/// Where in a line the guard stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first octets of the line equal so many of a field's name.
    Name(Field, usize),
    /// The name is whole; white space may stand before the colon (obsolete syntax, RFC 5322 4.5).
    Colon(Field),
    /// Within the value of TLS-Required.
    Value,
    /// Nothing more to learn from this line.
    Rest,
    /// The header section is over.
    Done,
}

/// The fields that are looked for. Their names begin differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Received,
    TlsRequired,
}

impl Field {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Received => RECEIVED,
            Self::TlsRequired => TLS_REQUIRED,
        }
    }
}

/// Watches the header section of one message.
#[derive(Debug, Clone)]
pub(crate) struct HeaderGuard {
    state: State,
    octets: usize,
    lines: usize,
    received: usize,
    /// Whether only a carriage return was seen of this line so far.
    empty_line: bool,
    eight_bit: bool,
    /// TLS-Required fields.
    tls_required: usize,
    /// The value of the first of them, without blanks.
    value: Vec<u8>,
}

impl HeaderGuard {
    pub(crate) fn new() -> Self {
        Self {
            state: State::LINE_START,
            octets: 0,
            lines: 0,
            received: 0,
            empty_line: false,
            eight_bit: false,
            tls_required: 0,
            value: Vec::new(),
        }
    }

    /// What is known of the section so far.
    pub(crate) fn facts(&self) -> HeaderFacts {
        let no = self.value.eq_ignore_ascii_case(NO);
        // RFC 8689 3: the field comes once. Two of them say nothing that could be relied on.
        HeaderFacts { eight_bit: self.eight_bit, tls_required_no: self.tls_required == 1 && no }
    }

    /// Looks at the next part of the content.
    pub(crate) fn watch(&mut self, content: &[u8], limits: &Limits) -> Result<(), HeaderFault> {
        for &byte in content {
            if self.state == State::Done {
                return Ok(());
            }
            self.octets += 1;
            self.octet(byte);
            if self.received >= limits.received_lines {
                return Err(HeaderFault::Loop);
            }
            if self.octets > limits.header_octets || self.lines > limits.header_lines {
                return Err(HeaderFault::TooBig);
            }
        }
        Ok(())
    }

    fn octet(&mut self, byte: u8) {
        self.eight_bit |= !byte.is_ascii();
        let lower = byte.to_ascii_lowercase();
        self.state = match (self.state, byte) {
            (_, b'\n') if self.empty_line => State::Done,
            (_, b'\n') => {
                self.lines += 1;
                State::LINE_START
            }
            (State::Name(_, 0), b'\r') => {
                self.empty_line = true;
                return;
            }
            (State::Name(_, 0), _) if lower == b'r' => State::Name(Field::Received, 1),
            (State::Name(_, 0), _) if lower == b't' => State::Name(Field::TlsRequired, 1),
            (State::Name(field, at), _) if at > 0 && field.name().get(at) == Some(&lower) => {
                if at + 1 == field.name().len() { State::Colon(field) } else { State::Name(field, at + 1) }
            }
            (State::Colon(field), b' ' | b'\t') => State::Colon(field),
            (State::Colon(Field::Received), b':') => {
                self.received += 1;
                State::Rest
            }
            (State::Colon(Field::TlsRequired), b':') => {
                self.tls_required += 1;
                State::Value
            }
            (State::Value, b' ' | b'\t' | b'\r') => State::Value,
            (State::Value, _) => {
                if self.value.len() < MAX_VALUE_OCTETS {
                    self.value.push(byte);
                }
                State::Value
            }
            _ => State::Rest,
        };
        self.empty_line = false;
    }
}

impl State {
    /// Before the first octet of a line.
    const LINE_START: Self = Self::Name(Field::Received, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(content: &str, cut: usize, limits: &Limits) -> Result<(), HeaderFault> {
        let mut guard = HeaderGuard::new();
        content.as_bytes().chunks(cut).try_for_each(|piece| guard.watch(piece, limits))
    }

    #[test]
    fn received_lines_are_counted_in_the_header_section_only() {
        let limits = Limits { received_lines: 3, ..Limits::default() };
        let cases = [
            ("Received: a\r\nreceived: b\r\nRECEIVED \t: c\r\n\r\n", Err(HeaderFault::Loop)),
            ("Received: a\r\nReceived: b\r\n\r\nReceived: c\r\n", Ok(())),
            ("Received-SPF: a\r\nXReceived: b\r\n Received: c\r\nReceive: d\r\nReceived a: e\r\n", Ok(())),
            ("\r\nReceived: a\r\nReceived: b\r\nReceived: c\r\n", Ok(())),
        ];
        for (content, expected) in cases {
            for cut in [1, 2, 7, 1000] {
                assert_eq!(watch(content, cut, &limits), expected, "{content:?} by {cut}");
            }
        }
    }

    #[test]
    fn the_header_section_is_bounded_and_the_body_is_not() {
        let limits = Limits { header_octets: 100, header_lines: 5, ..Limits::default() };
        assert_eq!(watch(&"a: b\r\n".repeat(6), 10, &limits), Err(HeaderFault::TooBig));
        assert_eq!(watch(&"x".repeat(101), 10, &limits), Err(HeaderFault::TooBig));
        assert_eq!(watch(&format!("a: b\r\n\r\n{}", "x\r\n".repeat(1000)), 10, &limits), Ok(()));
    }

    fn facts(content: &str, cut: usize) -> HeaderFacts {
        let (mut guard, limits) = (HeaderGuard::new(), Limits::default());
        content.as_bytes().chunks(cut).for_each(|piece| guard.watch(piece, &limits).expect("within bounds"));
        guard.facts()
    }

    #[test]
    fn tls_required_no_rfc8689_3() {
        for (header, expected) in [
            ("TLS-Required: No\r\n", true),
            ("tls-required:no\r\n", true),
            ("To: x\r\nTLS-Required : NO \t\r\nFrom: y\r\n", true),
            ("", false),
            ("TLS-Required: Yes\r\n", false),
            ("TLS-Required: No way\r\n", false),
            ("TLS-Required: Not\r\n", false),
            ("TLS-Required:\r\n", false),
            ("TLS-Required: No\r\nTLS-Required: No\r\n", false),
            ("TLS-Required: Yes\r\nTLS-Required: No\r\n", false),
            ("X-TLS-Required: No\r\n", false),
            ("TLS-Required-X: No\r\n", false),
            ("Subject: TLS-Required: No\r\n", false),
            ("Subject: x\r\n TLS-Required: No\r\n", false),
            ("\r\nTLS-Required: No\r\n", false),
        ] {
            for cut in [1, 3, 1000] {
                let told = facts(&format!("{header}\r\nTLS-Required: No\r\n"), cut).tls_required_no;
                assert_eq!(told, expected, "{header:?}");
            }
        }
    }

    #[test]
    fn eight_bit_counts_in_the_header_section_only() {
        assert!(facts("Subject: é\r\n\r\nx\r\n", 1).eight_bit);
        assert!(!facts("Subject: e\r\n\r\né\r\n", 1).eight_bit);
    }
}
