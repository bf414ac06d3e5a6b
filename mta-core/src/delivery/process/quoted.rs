//! Marking lines that begin with `From `, so that they begin no message of an mbox (RFC 4155).
//!
//! It looks at each octet once and holds five at most, whatever the lines are made of: they are a stranger's. What it does
//! not: it writes no envelope line.

use std::io::{self, Write};

use super::server::MboxFormat;

/// What a line must not begin with.
const FROM: &[u8] = b"From ";

/// Marks lines that begin with `From `, and ends the message with an empty line.
pub(super) struct Quoted<W> {
    out: W,
    format: MboxFormat,
    /// Whether the line may still be one to be marked.
    in_start: bool,
    /// How many octets of `From ` have been read and not yet written.
    held: usize,
    last: u8,
}

impl<W: Write> Quoted<W> {
    pub(super) fn new(out: W, format: MboxFormat) -> Self {
        Self { out, format, in_start: true, held: 0, last: b'\n' }
    }

    /// The last line end, and the empty line that parts messages.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.let_go()?;
        if self.last != b'\n' {
            self.out.write_all(b"\n")?;
        }
        self.out.write_all(b"\n")
    }

    fn put(&mut self, text: &[u8]) -> io::Result<()> {
        self.last = text.last().copied().unwrap_or(self.last);
        self.out.write_all(text)
    }

    /// Writes what was held back: the line begins otherwise, or ends there.
    fn let_go(&mut self) -> io::Result<()> {
        let held = FROM.get(..std::mem::take(&mut self.held)).unwrap_or_default();
        self.put(held)
    }

    /// Takes octets of the beginning of a line; returns those behind them. It does not matter where among the signs the
    /// one is put that is added, so they are written at once.
    fn at_start<'a>(&mut self, rest: &'a [u8]) -> io::Result<&'a [u8]> {
        if self.held == 0 && self.format == MboxFormat::Mboxrd && rest.starts_with(b">") {
            let end = rest.iter().position(|byte| *byte != b'>').unwrap_or(rest.len());
            let (signs, after) = rest.split_at(end);
            self.put(signs)?;
            return Ok(after);
        }
        if rest.first() != FROM.get(self.held) {
            self.in_start = false;
            self.let_go()?;
            return Ok(rest);
        }
        self.held += 1;
        if self.held == FROM.len() {
            self.in_start = false;
            self.out.write_all(b">")?;
            self.let_go()?;
        }
        Ok(rest.get(1..).unwrap_or_default())
    }
}

impl<W: Write> Write for Quoted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.in_start {
                rest = self.at_start(rest)?;
                continue;
            }
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (line, after) = rest.split_at(end);
            self.put(line)?;
            self.in_start = self.last == b'\n';
            rest = after;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quoted(text: &[u8], format: MboxFormat, piece: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Quoted::new(&mut out, format);
        for part in text.chunks(piece) {
            writer.write_all(part).unwrap();
        }
        writer.finish().unwrap();
        out
    }

    #[test]
    fn a_long_line_of_signs_is_looked_at_once() {
        // 8 MB: where each sign makes the ones before it be counted again, this does not end.
        let signs = vec![b'>'; 8 << 20];
        for format in [MboxFormat::Mboxrd, MboxFormat::Mboxo] {
            let mut out = Quoted::new(io::sink(), format);
            out.write_all(&signs).unwrap();
            out.finish().unwrap();
        }
    }

    #[test]
    fn the_older_format_marks_unmarked_lines_alone() {
        let text = b"From a\n>From b\nFro\nFrom\nFrom";
        assert_eq!(quoted(text, MboxFormat::Mboxo, 3), b">From a\n>From b\nFro\nFrom\nFrom\n\n");
        assert_eq!(quoted(text, MboxFormat::Mboxrd, 3), b">From a\n>>From b\nFro\nFrom\nFrom\n\n");
    }

    proptest! {
        #[test]
        fn marked_lines_can_be_unmarked(text in "(From |>|F|\n|From|x){0,40}", piece in 1usize..9) {
            let marked = quoted(text.as_bytes(), MboxFormat::Mboxrd, piece);
            prop_assert_eq!(&marked, &quoted(text.as_bytes(), MboxFormat::Mboxrd, 1000));
            let marked = String::from_utf8(marked).unwrap();
            let lines = marked.split_inclusive('\n').map(|line| {
                prop_assert!(!line.starts_with("From "));
                let signs = line.len() - line.trim_start_matches('>').len();
                Ok(if signs > 0 && line[signs..].starts_with("From ") { &line[1..] } else { line })
            });
            let mut plain = lines.collect::<Result<String, TestCaseError>>()?;
            prop_assert_eq!(plain.pop(), Some('\n'));
            let mut expected = text;
            if !expected.is_empty() && !expected.ends_with('\n') { expected.push('\n'); }
            prop_assert_eq!(plain, expected);
        }
    }
}
