//! The header guard: bounds on the header section while content streams by, and the count of `Received:` lines.
//!
//! What it does: reads the header section octet by octet and remembers counts only. What it does not: it does not
//! parse header fields, and it looks at nothing behind the empty line.

use crate::server::Limits;

/// The name of the trace field (RFC 5321 4.4).
const RECEIVED: &[u8] = b"received";

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
    /// The first octets of the line equal so many of `received`.
    Name(usize),
    /// The name is whole; white space may stand before the colon (obsolete syntax, RFC 5322 4.5).
    Colon,
    /// Nothing more to learn from this line.
    Rest,
    /// The header section is over.
    Done,
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
}

impl HeaderGuard {
    pub(crate) fn new() -> Self {
        Self { state: State::Name(0), octets: 0, lines: 0, received: 0, empty_line: false }
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
        self.state = match (self.state, byte) {
            (_, b'\n') if self.empty_line => State::Done,
            (_, b'\n') => {
                self.lines += 1;
                State::Name(0)
            }
            (State::Name(0), b'\r') => {
                self.empty_line = true;
                return;
            }
            (State::Name(at), byte) if RECEIVED.get(at) == Some(&byte.to_ascii_lowercase()) => {
                if at + 1 == RECEIVED.len() { State::Colon } else { State::Name(at + 1) }
            }
            (State::Colon, b' ' | b'\t') => State::Colon,
            (State::Colon, b':') => {
                self.received += 1;
                State::Rest
            }
            _ => State::Rest,
        };
        self.empty_line = false;
    }
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
}
