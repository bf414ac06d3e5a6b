//! A message as a program writes it to sendmail(1): header fields, and a body that may be large.
//!
//! What it does: reads lines however they end (LF, CR LF, a CR alone, which progress bars leave in the output of cron
//! jobs), gives each CR LF, drops NUL octets, which no mail system passes on, and breaks a line only where it is longer
//! than the server takes. So nothing that a program prints is a reason to lose its mail. The body lies in memory up to
//! 1 MiB, beyond in an unnamed temporary file. What it does not: it changes no field (see `header`).

use std::io::{self, BufRead, Write};

use tempfile::SpooledTempFile;

use super::{Refusal, exit};

/// The body lies in memory up to here.
const IN_MEMORY_OCTETS: usize = 1024 * 1024;

/// The header section may have so many octets.
pub const MAX_HEADER_OCTETS: usize = 200 * 1024;

/// What bounds the reading of a message.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Octets of the message; 0 is no limit.
    pub size_octets: u64,
    /// Octets of a line without its end; a longer one is broken.
    pub line_octets: usize,
    /// Whether a lone dot is a line like any other.
    pub ignore_dots: bool,
}

/// A header field as it came, folded or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name, lower case.
    pub name: String,
    /// The whole field with its line ends.
    pub raw: Vec<u8>,
}

impl Field {
    /// The value, unfolded; what is no UTF-8 is replaced.
    pub fn value(&self) -> String {
        let at = self.raw.iter().position(|b| *b == b':').map_or(self.raw.len(), |at| at + 1);
        let text = String::from_utf8_lossy(self.raw.get(at..).unwrap_or_default());
        text.replace(['\r', '\n'], "")
    }
}

/// A message that was read to its end.
#[derive(Debug)]
pub struct Message {
    /// The header section.
    pub fields: Vec<Field>,
    /// The body, from its beginning.
    pub body: SpooledTempFile,
    /// The body's octets.
    pub body_octets: u64,
    /// Whether any octet is outside ASCII.
    pub is_eight_bit: bool,
}

impl Message {
    /// Reads a message to its end.
    ///
    /// # Errors
    /// `DATA` where it is larger than a limit, `IO` where reading or the temporary file fails.
    pub fn read(input: impl BufRead, limits: Limits) -> Result<Self, Refusal> {
        let mut reader = Reader { lines: Lines::new(input, limits.line_octets), limits, octets: 0 };
        let (fields, first) = reader.header()?;
        let mut message = Self {
            is_eight_bit: fields.iter().any(|field| !field.raw.is_ascii()),
            fields,
            body: SpooledTempFile::new(IN_MEMORY_OCTETS),
            body_octets: 0,
        };
        let mut line = first;
        while let Some(text) = line {
            message.push(&text).map_err(|error| failed(&error))?;
            line = reader.line()?;
        }
        io::Seek::rewind(&mut message.body).map_err(|error| failed(&error))?;
        Ok(message)
    }

    fn push(&mut self, line: &[u8]) -> io::Result<()> {
        self.is_eight_bit |= !line.is_ascii();
        self.body_octets += line.len() as u64 + 2;
        self.body.write_all(line)?;
        self.body.write_all(b"\r\n")
    }
}

/// Reads lines and counts.
struct Reader<R> {
    lines: Lines<R>,
    limits: Limits,
    octets: u64,
}

impl<R: BufRead> Reader<R> {
    /// The next line of the message.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        let mut line = Vec::new();
        if !self.lines.next(&mut line).map_err(|error| failed(&error))? {
            return Ok(None);
        }
        if !self.limits.ignore_dots && line == b"." {
            return Ok(None);
        }
        self.octets += line.len() as u64 + 2;
        if self.limits.size_octets > 0 && self.octets > self.limits.size_octets {
            let limit = self.limits.size_octets;
            let text = format!("the message has more than {limit} octets (smtp.message_size_limit)");
            return Err(Refusal::new(exit::DATA, text));
        }
        Ok(Some(line))
    }

    /// The header section, and the line behind it that belongs to the body already. The empty line between them is
    /// neither's; where it is missing, the header ends before the first line that is no field.
    fn header(&mut self) -> Result<(Vec<Field>, Option<Vec<u8>>), Refusal> {
        let mut fields: Vec<Field> = Vec::new();
        let mut is_first = true;
        while let Some(line) = self.line()? {
            if self.octets > MAX_HEADER_OCTETS as u64 {
                let text = format!("the header section has more than {MAX_HEADER_OCTETS} octets");
                return Err(Refusal::new(exit::DATA, text));
            }
            let is_separator = is_first && (line.starts_with(b"From ") || line.starts_with(b">From "));
            if is_separator {
                // The line that mbox files put in front of a message.
                continue;
            }
            is_first = false;
            let is_folded = matches!(line.first(), Some(b' ' | b'\t'));
            match (line.is_empty(), fields.last_mut()) {
                (true, _) => return Ok((fields, self.line()?)),
                (false, Some(last)) if is_folded => {
                    last.raw.extend_from_slice(&line);
                    last.raw.extend_from_slice(b"\r\n");
                }
                _ => match field_name(&line) {
                    Some(name) => fields.push(Field { name, raw: [&line, &b"\r\n"[..]].concat() }),
                    None => return Ok((fields, Some(line))),
                },
            }
        }
        Ok((fields, None))
    }
}

/// The name of the field that begins with this line (RFC 5322 2.2, and 4.5 for space before the colon), lower case.
fn field_name(line: &[u8]) -> Option<String> {
    let at = memchr::memchr(b':', line)?;
    let name = line.get(..at)?.trim_ascii_end();
    let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    is_name.then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

/// Cuts octets into lines.
struct Lines<R> {
    input: R,
    max_octets: usize,
    /// The line before ended with CR: its LF, and further CRs, belong to that end.
    after_cr: bool,
    /// The line before was cut for its length: an end that follows at once is its own, and no empty line.
    cut: bool,
}

impl<R: BufRead> Lines<R> {
    fn new(input: R, max_octets: usize) -> Self {
        Self { input, max_octets: max_octets.max(1), after_cr: false, cut: false }
    }

    /// Reads the next line into `line`, without its end. False at the end of the input.
    fn next(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let buffer = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                buffer => buffer?,
            };
            let Some(first) = buffer.first().copied() else {
                return Ok(!line.is_empty());
            };
            if self.after_cr && matches!(first, b'\r' | b'\n') {
                self.after_cr = first == b'\r';
                self.input.consume(1);
                continue;
            }
            self.after_cr = false;
            if std::mem::take(&mut self.cut) && matches!(first, b'\r' | b'\n') {
                self.after_cr = first == b'\r';
                self.input.consume(1);
                continue;
            }
            let room = buffer.len().min(self.max_octets - line.len());
            let part = buffer.get(..room).unwrap_or_default();
            match memchr::memchr3(b'\n', b'\r', 0, part).map(|at| (at, part.get(at).copied())) {
                Some((at, end)) => {
                    line.extend_from_slice(part.get(..at).unwrap_or_default());
                    self.input.consume(at + 1);
                    self.after_cr = end == Some(b'\r');
                    if end != Some(0) {
                        return Ok(true);
                    }
                }
                None => {
                    line.extend_from_slice(part);
                    self.input.consume(room);
                    if line.len() >= self.max_octets {
                        self.cut = true;
                        return Ok(true);
                    }
                }
            }
        }
    }
}

fn failed(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            Refusal::new(exit::TEMPORARY, format!("no space for a temporary file: {error}"))
        }
        _ => Refusal::new(exit::IO, format!("cannot read the message: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const LIMITS: Limits = Limits { size_octets: 0, line_octets: 1000, ignore_dots: false };

    fn limits_of(line_octets: usize) -> Limits {
        Limits { line_octets, ..LIMITS }
    }

    /// The header's names, and the body.
    fn read(input: &[u8], limits: Limits) -> Result<(String, String), Refusal> {
        let mut message = Message::read(input, limits)?;
        let mut body = Vec::new();
        message.body.read_to_end(&mut body).unwrap();
        assert_eq!(body.len() as u64, message.body_octets);
        let names: Vec<_> = message.fields.iter().map(|f| f.name.as_str()).collect();
        Ok((names.join(" "), String::from_utf8_lossy(&body).into_owned()))
    }

    #[test]
    fn line_ends_of_every_kind_become_crlf() {
        for input in [
            &b"To: a\nX: b\n c\n\none\n\ntwo\n"[..],
            b"To: a\r\nX: b\r\n c\r\n\r\none\r\n\r\ntwo",
            b"To: a\nX: b\n\tc\n\none\n\ntw\0o\n.\nignored\n",
            b"To: a\r\r\nX: b\r\r\n c\r\n\none\r\n\ntwo",
            b"From root Mon Nov 23 22:03:48 2026\nTo: a\nX : b\n\none\n\ntwo\n",
        ] {
            let (names, body) = read(input, LIMITS).unwrap();
            assert_eq!((names.as_str(), body.as_str()), ("to x", "one\r\n\r\ntwo\r\n"), "{input:?}");
        }
        assert_eq!(read(b"\n10%\r50%\r100%\ndone", LIMITS).unwrap().1, "10%\r\n50%\r\n100%\r\ndone\r\n");
    }

    #[test]
    fn a_header_ends_where_no_field_stands() {
        for (input, names, body) in [
            (&b"hello world\nX: y\n"[..], "", "hello world\r\nX: y\r\n"),
            (b"To: a\nhello world\n", "to", "hello world\r\n"),
            (b" folded: nothing\n", "", " folded: nothing\r\n"),
            (b"", "", ""),
            (b"\n", "", ""),
            (b"\n\nTo: a\n", "", "\r\nTo: a\r\n"),
            (b"To: a", "to", ""),
            (b": x\n", "", ": x\r\n"),
        ] {
            assert_eq!(read(input, LIMITS).unwrap(), (names.to_owned(), body.to_owned()), "{input:?}");
        }
    }

    #[test]
    fn a_lone_dot_ends_unless_told_otherwise() {
        let input = b"To: a\n\none\n.\ntwo\n";
        assert_eq!(read(input, LIMITS).unwrap().1, "one\r\n");
        let limits = Limits { ignore_dots: true, ..LIMITS };
        assert_eq!(read(input, limits).unwrap().1, "one\r\n.\r\ntwo\r\n");
        assert_eq!(read(b"To: a\n\n..\r\n.\r\nx", LIMITS).unwrap().1, "..\r\n");
    }

    #[test]
    fn bounds() {
        let limits = Limits { size_octets: 20, ..LIMITS };
        assert_eq!(read(b"To: a\n\n0123456789\nx\n", limits).unwrap_err().exit, exit::DATA);
        assert!(read(b"To: a\n\n012345\n", limits).is_ok());
        let limits = Limits { line_octets: 4, ..LIMITS };
        assert_eq!(read(b"\n0123456789\nx\n", limits).unwrap().1, "0123\r\n4567\r\n89\r\nx\r\n");
        // A line that is just as long as it may be has its end, and no empty line after it.
        for input in
            [&b"X: 4\nBcc: a\n\nbody\n"[..], b"X: 4\r\nBcc: a\r\n\r\nbody\r\n", b"X: 4\rBcc: a\r\rbody\r"]
        {
            let limits = Limits { line_octets: 4, ..LIMITS };
            let (names, body) = read(input, Limits { line_octets: 6, ..limits }).unwrap();
            assert_eq!((names.as_str(), body.as_str()), ("x bcc", "body\r\n"), "{input:?}");
            assert_eq!(read(&input[..6], limits).unwrap().0, "x");
        }
        assert_eq!(read(b"\n0123\n4567\r\n\n89", limits_of(4)).unwrap().1, "0123\r\n4567\r\n\r\n89\r\n");
        let long = format!("X: {}\n", "y".repeat(MAX_HEADER_OCTETS));
        let limits = Limits { line_octets: usize::MAX, ..LIMITS };
        assert_eq!(read(long.as_bytes(), limits).unwrap_err().exit, exit::DATA);
    }

    #[test]
    fn a_large_body_leaves_memory_and_comes_back_whole() {
        let text = format!("\n{}", "0123456789abcdef\n".repeat(200_000));
        let (_, body) = read(text.as_bytes(), LIMITS).unwrap();
        assert_eq!(body.len(), 200_000 * 18);
    }
}
