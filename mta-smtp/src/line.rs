//! Framing of command lines (RFC 5321 2.3.8): a line ends with CR LF and with nothing else.
//!
//! What it does: finds the next whole line in a buffer, keeps memory flat when a line is too long, and reports bare
//! line feeds. What it does not: it never looks at what a line says, and it does not frame content (see `data`).

use std::ops::Range;

use memchr::memchr;

/// How much of an overlong line is read and thrown away before the peer is given up.
pub const MAX_DISCARD_OCTETS: usize = 64 * 1024;

/// What the buffer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framed {
    /// No whole line yet. The first `discard` octets are of an overlong line and may be dropped.
    Incomplete {
        /// How many octets to drop from the buffer.
        discard: usize,
    },
    /// A line, without its CR LF.
    Line {
        /// Where the line is in the buffer.
        text: Range<usize>,
        /// How many octets to drop from the buffer once the line was used.
        consumed: usize,
    },
    /// The end of a line that was longer than the limit.
    TooLong {
        /// How many octets to drop from the buffer.
        consumed: usize,
    },
    /// A line feed without a carriage return. The peer does not speak SMTP; nothing after it can be trusted.
    BareLf,
    /// A line that did not end within `MAX_DISCARD_OCTETS` beyond the limit.
    Endless,
}

/// Finds lines of limited length in a buffer that grows at its end.
#[derive(Debug, Clone, Default)]
pub struct Framer {
    /// Octets of an overlong line dropped so far; 0 while no line is overlong.
    discarded: usize,
    /// Whether the last octet dropped was a carriage return.
    after_cr: bool,
}

impl Framer {
    /// Looks for a line of at most `limit` octets, CR LF included, at the beginning of `buffer`.
    pub fn next(&mut self, buffer: &[u8], limit: usize) -> Framed {
        let Some(end) = memchr(b'\n', buffer) else {
            return self.incomplete(buffer, limit);
        };
        let before = buffer.get(..end).unwrap_or_default();
        let after_cr = before.last().map_or(self.after_cr, |&last| last == b'\r');
        let overlong = self.discarded > 0 || end + 1 > limit;
        *self = Self::default();
        match (after_cr, overlong) {
            (false, _) => Framed::BareLf,
            (true, true) => Framed::TooLong { consumed: end + 1 },
            (true, false) => Framed::Line { text: 0..end.saturating_sub(1), consumed: end + 1 },
        }
    }

    fn incomplete(&mut self, buffer: &[u8], limit: usize) -> Framed {
        if self.discarded == 0 && buffer.len() < limit {
            return Framed::Incomplete { discard: 0 };
        }
        self.discarded += buffer.len();
        if self.discarded > limit + MAX_DISCARD_OCTETS {
            return Framed::Endless;
        }
        if let Some(&last) = buffer.last() {
            self.after_cr = last == b'\r';
        }
        Framed::Incomplete { discard: buffer.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a reader of the lines sees.
    #[derive(Debug, PartialEq, Eq)]
    enum Seen {
        Line(Vec<u8>),
        TooLong,
        BareLf,
        Endless,
    }

    fn read(pieces: &[&[u8]], limit: usize) -> Vec<Seen> {
        let (mut framer, mut buffer, mut seen) = (Framer::default(), Vec::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match framer.next(&buffer, limit) {
                    Framed::Incomplete { discard } => {
                        buffer.drain(..discard);
                        assert!(buffer.len() <= limit);
                        break;
                    }
                    Framed::Line { text, consumed } => {
                        seen.push(Seen::Line(buffer[text].to_vec()));
                        buffer.drain(..consumed);
                    }
                    Framed::TooLong { consumed } => {
                        seen.push(Seen::TooLong);
                        buffer.drain(..consumed);
                    }
                    Framed::BareLf => {
                        seen.push(Seen::BareLf);
                        return seen;
                    }
                    Framed::Endless => {
                        seen.push(Seen::Endless);
                        return seen;
                    }
                }
            }
        }
        seen
    }

    #[test]
    fn lines_end_with_cr_lf_only() {
        assert_eq!(
            read(&[b"a\r\n\r\nb\rc\r\n"], 20),
            [Seen::Line(b"a".to_vec()), Seen::Line(Vec::new()), Seen::Line(b"b\rc".to_vec())]
        );
        assert_eq!(read(&[b"a\nb\r\n"], 20), [Seen::BareLf]);
        assert_eq!(read(&[b"\n"], 20), [Seen::BareLf]);
    }

    #[test]
    fn the_limit_counts_the_line_end() {
        assert_eq!(read(&[b"12345678\r\n"], 10), [Seen::Line(b"12345678".to_vec())]);
        assert_eq!(read(&[b"123456789\r\nx\r\n"], 10), [Seen::TooLong, Seen::Line(b"x".to_vec())]);
    }

    #[test]
    fn an_endless_line_ends() {
        let piece = vec![b'a'; 10_000];
        let pieces: Vec<&[u8]> = (0..10).map(|_| piece.as_slice()).collect();
        assert_eq!(read(&pieces, 512), [Seen::Endless]);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(
            text in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a'), Just(0)], 0..80),
            cut in 1usize..9,
        ) {
            let pieces: Vec<&[u8]> = text.chunks(cut).collect();
            prop_assert_eq!(read(&pieces, 6), read(&[&text], 6));
        }
    }
}
