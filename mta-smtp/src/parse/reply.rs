//! Reading a peer's replies (RFC 5321 4.2), a chunk at a time, in bounded memory.
//!
//! What it does: joins the lines of a reply, checks that their codes agree, takes the enhanced status code off the
//! text, and makes the text harmless (control characters and broken UTF-8 replaced). Lenient where no harm comes of it:
//! a bare LF ends a line, a code may stand alone. What it does not: it gives no meaning to a code.

use std::fmt;

use crate::reply::{EnhancedStatus, Reply};
use crate::text::is_harmful;

/// Octets of one line that are kept. RFC 5321 4.5.3.1.5 allows 512; what is longer is read on and forgotten.
const MAX_KEPT_LINE_BYTES: usize = 2048;
/// Octets of the text of one reply that are kept; many recipients may each keep a copy.
const MAX_KEPT_BYTES: usize = 8 * 1024;
/// Lines of one reply that are kept. What comes behind is read on and forgotten.
const MAX_KEPT_LINES: usize = 128;

/// Why the bytes of a peer are no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyError {
    /// A line does not begin with a code from 200 to 599 and a space, a hyphen or the line's end. The line, cleaned.
    NoCode(String),
    /// The lines of one reply carry different codes (RFC 5321 4.2.1).
    CodesDisagree {
        /// The code of the first line.
        first: u16,
        /// The first other code.
        then: u16,
    },
    /// The reply has more octets than allowed.
    TooLong,
    /// The reply has more lines than allowed.
    TooManyLines,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCode(line) => write!(f, "no reply code in \"{line}\""),
            Self::CodesDisagree { first, then } => write!(f, "reply codes {first} and {then} in one reply"),
            Self::TooLong => f.write_str("endless reply"),
            Self::TooManyLines => f.write_str("reply of too many lines"),
        }
    }
}

impl std::error::Error for ReplyError {}

/// Reads replies from chunks of bytes, however these are cut.
#[derive(Debug)]
pub struct ReplyReader {
    max_bytes: usize,
    max_lines: usize,
    /// Octets of the reply so far, line ends included.
    bytes: usize,
    /// Lines of the reply so far.
    lines: usize,
    /// Octets of text kept of the reply so far.
    kept: usize,
    /// The line in hand, at most `MAX_KEPT_LINE_BYTES` of it.
    line: Vec<u8>,
    /// The reply in hand, from its first line on.
    reply: Option<Reply>,
}

impl ReplyReader {
    /// A reader that allows so many octets and lines in one reply.
    pub fn new(max_bytes: usize, max_lines: usize) -> Self {
        Self { max_bytes, max_lines, bytes: 0, lines: 0, kept: 0, line: Vec::new(), reply: None }
    }

    /// Whether nothing of a next reply was seen.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Reads on: a whole reply if there is one, and the bytes behind it. Without a reply all bytes were taken.
    ///
    /// # Errors
    ///
    /// When these bytes are no reply. The connection is out of step then, and the reader of no more use.
    pub fn read<'a>(&mut self, mut input: &'a [u8]) -> Result<(Option<Reply>, &'a [u8]), ReplyError> {
        while !input.is_empty() {
            let end = memchr::memchr(b'\n', input);
            let (piece, rest) = input.split_at(end.map_or(input.len(), |end| end + 1));
            input = rest;
            self.bytes = self.bytes.saturating_add(piece.len());
            if self.bytes > self.max_bytes {
                return Err(ReplyError::TooLong);
            }
            let room = MAX_KEPT_LINE_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(piece.get(..room).unwrap_or(piece));
            if end.is_some() && self.end_line()? {
                return Ok((self.take(), input));
            }
        }
        Ok((None, input))
    }

    /// A line is complete. Says whether it was the reply's last.
    fn end_line(&mut self) -> Result<bool, ReplyError> {
        let bytes = std::mem::take(&mut self.line);
        let line = bytes.trim_ascii_end();
        let Some((code, last, text)) = split_line(line) else {
            return Err(ReplyError::NoCode(clean(line.get(..80).unwrap_or(line))));
        };
        self.lines += 1;
        if self.lines > self.max_lines {
            return Err(ReplyError::TooManyLines);
        }
        let text = clean(text);
        self.kept = self.kept.saturating_add(text.len());
        match &mut self.reply {
            None => {
                let (enhanced, text) = split_status(code, &text);
                self.reply = Some(Reply { code, enhanced, lines: vec![text.to_owned()] });
            }
            Some(reply) if reply.code != code => {
                return Err(ReplyError::CodesDisagree { first: reply.code, then: code });
            }
            Some(reply) if reply.lines.len() < MAX_KEPT_LINES && self.kept <= MAX_KEPT_BYTES => {
                // The status is repeated on each line (RFC 2034 4); one that differs is left standing as text.
                let (enhanced, rest) = split_status(code, &text);
                let same = enhanced.is_some() && enhanced == reply.enhanced;
                reply.lines.push(if same { rest.to_owned() } else { text });
            }
            Some(_) => {}
        }
        Ok(last)
    }

    fn take(&mut self) -> Option<Reply> {
        self.bytes = 0;
        self.lines = 0;
        self.kept = 0;
        self.reply.take()
    }
}

/// Code, whether it is the last line, text.
fn split_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    if !(200..=599).contains(&code) {
        return None;
    }
    match rest.split_first() {
        None => Some((code, true, rest)),
        Some((b' ' | b'\t', text)) => Some((code, true, text)),
        Some((b'-', text)) => Some((code, false, text)),
        Some(_) => None,
    }
}

/// Takes the enhanced status code off the text, if its class agrees with the code (RFC 2034 4).
fn split_status(code: u16, text: &str) -> (Option<EnhancedStatus>, &str) {
    match EnhancedStatus::split(text) {
        (Some(status), rest) if u16::from(status.class) == code / 100 => (Some(status), rest),
        _ => (None, text),
    }
}

/// Text that can stand in a log line, a database and a notification: whatever is no printable text becomes `?`.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .map(|c| {
            if c == '\t' {
                ' '
            } else if is_harmful(c) {
                '?'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Option<Reply>, ReplyError> {
        ReplyReader::new(10_000, 50).read(bytes).map(|(reply, _)| reply)
    }

    fn lines(reply: &Reply) -> Vec<&str> {
        reply.lines.iter().map(String::as_str).collect()
    }

    #[test]
    fn one_and_several_lines_rfc5321_4_2_1() {
        let reply = read(b"250 2.1.5 fine\r\n").unwrap().unwrap();
        assert_eq!((reply.code, reply.enhanced), (250, Some(EnhancedStatus::new(2, 1, 5))));
        assert_eq!(lines(&reply), ["fine"]);
        let reply = read(b"550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.1.1 three\r\n").unwrap().unwrap();
        assert_eq!(lines(&reply), ["one", "two", "5.1.1 three"]);
        assert_eq!(lines(&read(b"250\r\n").unwrap().unwrap()), [""]);
        assert_eq!(lines(&read(b"250 ok\n").unwrap().unwrap()), ["ok"]);
        assert_eq!(read(b"250-more\r\n").unwrap(), None);
        assert_eq!(read(b"250 unended").unwrap(), None);
    }

    #[test]
    fn what_is_behind_a_reply_is_handed_back() {
        let mut reader = ReplyReader::new(100, 5);
        let (reply, rest) = reader.read(b"220 go\r\n250 injected\r\n").unwrap();
        assert_eq!((reply.unwrap().code, rest), (220, b"250 injected\r\n".as_slice()));
        assert!(reader.is_empty());
        reader.read(b"2").unwrap();
        assert!(!reader.is_empty());
    }

    #[test]
    fn what_is_no_reply() {
        for bytes in [
            b"hello\r\n".as_slice(),
            b"\r\n",
            b"25\r\n",
            b"250ok\r\n",
            b"150 x\r\n",
            b"650 x\r\n",
            b"2 50 x\r\n",
        ] {
            assert!(matches!(read(bytes), Err(ReplyError::NoCode(_))), "{bytes:?}");
        }
        assert_eq!(read(b"250-a\r\n550 b\r\n"), Err(ReplyError::CodesDisagree { first: 250, then: 550 }));
        // A status whose class contradicts the code is only text.
        assert_eq!(read(b"450 5.1.1 x\r\n").unwrap().unwrap().enhanced, None);
    }

    #[test]
    fn endless_replies_are_bounded_in_bytes_and_lines() {
        assert_eq!(read(&[b'2'; 10_001]), Err(ReplyError::TooLong));
        assert_eq!(read(&b"250-x\r\n".repeat(51)), Err(ReplyError::TooManyLines));
        assert_eq!(
            read(&b"250-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(10_000)),
            Err(ReplyError::TooManyLines)
        );
        // A refusal of 60 kB is still a refusal; most of its text is forgotten.
        let mut long = b"550 ".to_vec();
        long.resize(60_000, b'x');
        long.extend_from_slice(b"\r\n");
        let reply = ReplyReader::new(64_000, 50).read(&long).unwrap().0.unwrap();
        assert_eq!(reply.code, 550);
        assert!(reply.lines.iter().map(String::len).sum::<usize>() <= MAX_KEPT_LINE_BYTES);
    }

    #[test]
    fn text_is_made_harmless() {
        let reply = read(b"550 a\x1b[31mb\0c\rd\xc2\x85e\xfff\xe2\x80\xae\r\n").unwrap().unwrap();
        assert_eq!(lines(&reply), ["a?[31mb?c?d?e\u{fffd}f?"]);
        assert_eq!(lines(&read(b"550 a\tb\r\n").unwrap().unwrap()), ["a b"]);
    }

    proptest! {
        /// Any cut of the input gives the same replies, and no input makes it panic or grow.
        #[test]
        fn any_split_reads_the_same(
            input in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..300),
                proptest::string::bytes_regex("((250|550)[ -]([245]\\.[0-9]\\.[0-9] )?[a-z\\x80-\\xff]{0,9}\r?\n){0,12}").unwrap(),
            ],
            cuts in proptest::collection::vec(0usize..300, 0..10),
        ) {
            prop_assert_eq!(replies(&input, &[]), replies(&input, &cuts));
        }
    }

    fn replies(input: &[u8], cuts: &[usize]) -> (Vec<Reply>, Option<ReplyError>) {
        let mut cuts: Vec<usize> =
            cuts.iter().map(|cut| cut % (input.len() + 1)).chain([0, input.len()]).collect();
        cuts.sort_unstable();
        let (mut reader, mut found) = (ReplyReader::new(200, 8), Vec::new());
        for window in cuts.windows(2) {
            let mut rest = &input[window[0]..window[1]];
            while !rest.is_empty() {
                match reader.read(rest) {
                    Ok((reply, behind)) => {
                        found.extend(reply);
                        rest = behind;
                    }
                    Err(error) => return (found, Some(error)),
                }
            }
        }
        (found, None)
    }
}
