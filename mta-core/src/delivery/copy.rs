//! Copies content from the queue to its final place: line ends become the local ones, trace fields are put in front.
//!
//! The queue holds content as it travels, with CR LF. A Maildir holds lines that end in LF. Content was checked for
//! bare CR and bare LF when it came in, so the change loses nothing; a CR that is not part of a line end is kept.

use std::io::{self, Read, Write};

use memchr::memchr;

/// Bytes read from the content at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// A header field longer than this is passed through unread; we only look for the name at its beginning.
const RETURN_PATH: &[u8] = b"return-path:";

/// Copies `content` to `out` with LF line ends, behind `trace` (whole lines, LF), without any `Return-Path` field that
/// the content brought along: the one in `trace` is the truth (RFC 5321 4.4).
///
/// Memory is one fixed chunk, whatever the size of the content. Returns the number of bytes written.
///
/// # Errors
/// Whatever reading or writing gives.
pub fn copy_local(content: &mut dyn Read, trace: &[u8], out: &mut dyn Write) -> io::Result<u64> {
    out.write_all(trace)?;
    let mut copy =
        Copy { written: trace.len() as u64, state: State::FieldName(Vec::new()), pending_cr: false };
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = match content.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        copy.chunk(chunk.get(..count).unwrap_or_default(), out)?;
    }
    copy.finish(out)?;
    Ok(copy.written)
}

/// Where in the content we are.
enum State {
    /// At the start of a header line; holds what was read of it as long as it may still be `Return-Path:`.
    FieldName(Vec<u8>),
    /// Inside a header line that stays.
    Field,
    /// Inside a `Return-Path` field, which is dropped; `at_start` is true right after a line end, where a blank
    /// would continue the field (folding).
    Dropped { at_start: bool },
    /// Behind the empty line.
    Body,
}

struct Copy {
    written: u64,
    state: State,
    /// A CR was seen and it is not known yet whether an LF follows.
    pending_cr: bool,
}

impl Copy {
    /// Takes a chunk: undoes CR LF, then hands on to `lines`.
    fn chunk(&mut self, mut rest: &[u8], out: &mut dyn Write) -> io::Result<()> {
        if self.pending_cr && !rest.is_empty() {
            self.pending_cr = false;
            if rest.first() != Some(&b'\n') {
                self.lines(b"\r", out)?;
            }
        }
        while let Some(at) = memchr(b'\r', rest) {
            let (before, after) = rest.split_at(at);
            self.lines(before, out)?;
            rest = after.get(1..).unwrap_or_default();
            match rest.first() {
                Some(b'\n') => {}
                Some(_) => self.lines(b"\r", out)?,
                None => self.pending_cr = true,
            }
        }
        self.lines(rest, out)
    }

    /// Takes bytes with LF line ends and filters the header section.
    fn lines(&mut self, mut rest: &[u8], out: &mut dyn Write) -> io::Result<()> {
        while !rest.is_empty() {
            rest = match &mut self.state {
                State::Body => {
                    self.emit(rest, out)?;
                    &[]
                }
                State::Field => self.field(rest, out)?,
                State::FieldName(_) => self.field_name(rest, out)?,
                State::Dropped { .. } => self.dropped(rest),
            };
        }
        Ok(())
    }

    /// Inside a kept header line: passes it on up to its end.
    fn field<'a>(&mut self, rest: &'a [u8], out: &mut dyn Write) -> io::Result<&'a [u8]> {
        let end = memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, after) = rest.split_at(end);
        self.emit(line, out)?;
        if line.last() == Some(&b'\n') {
            self.state = State::FieldName(Vec::new());
        }
        Ok(after)
    }

    /// At the start of a header line: collects until the name is decided.
    fn field_name<'a>(&mut self, rest: &'a [u8], out: &mut dyn Write) -> io::Result<&'a [u8]> {
        let State::FieldName(seen) = &mut self.state else { return Ok(rest) };
        let Some((&byte, after)) = rest.split_first() else { return Ok(rest) };
        seen.push(byte);
        if seen.len() == 1 && byte == b'\n' {
            self.state = State::Body;
            self.emit(b"\n", out)?;
            return Ok(after);
        }
        if seen.eq_ignore_ascii_case(RETURN_PATH) {
            self.state = State::Dropped { at_start: false };
            return Ok(after);
        }
        let may_match = RETURN_PATH.get(..seen.len()).is_some_and(|head| seen.eq_ignore_ascii_case(head));
        if !may_match {
            let line = std::mem::take(seen);
            self.state = if byte == b'\n' { State::FieldName(Vec::new()) } else { State::Field };
            self.emit(&line, out)?;
        }
        Ok(after)
    }

    /// Inside a dropped field: skips to a line that does not continue it.
    fn dropped<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let State::Dropped { at_start } = &mut self.state else { return rest };
        if *at_start {
            if matches!(rest.first(), Some(b' ' | b'\t')) {
                *at_start = false;
            } else {
                self.state = State::FieldName(Vec::new());
            }
            return rest;
        }
        match memchr(b'\n', rest) {
            Some(at) => {
                *at_start = true;
                rest.get(at + 1..).unwrap_or_default()
            }
            None => &[],
        }
    }

    fn emit(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        self.written += bytes.len() as u64;
        out.write_all(bytes)
    }

    /// Writes what was held back, and a final line end where the content had none.
    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.pending_cr {
            self.pending_cr = false;
            self.lines(b"\r", out)?;
        }
        if let State::FieldName(seen) = &mut self.state {
            let rest = std::mem::take(seen);
            self.emit(&rest, out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes in pieces of the given sizes, over and over.
    struct Pieces<'a>(&'a [u8], Vec<usize>, usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let want = self.1[self.2 % self.1.len()].clamp(1, buffer.len()).min(self.0.len());
            self.2 += 1;
            buffer[..want].copy_from_slice(&self.0[..want]);
            self.0 = &self.0[want..];
            Ok(want)
        }
    }

    fn copied(content: &[u8], pieces: Vec<usize>) -> Vec<u8> {
        let mut out = Vec::new();
        let count =
            copy_local(&mut Pieces(content, pieces, 0), b"Return-Path: <a@b.example>\n", &mut out).unwrap();
        assert_eq!(count, out.len() as u64);
        out
    }

    #[test]
    fn one_return_path_ours_and_local_line_ends() {
        for (content, expected) in [
            (&b"Subject: x\r\n\r\nbody\r\n"[..], &b"Subject: x\n\nbody\n"[..]),
            (b"Return-Path: <evil@x>\r\nSubject: x\r\n\r\nb\r\n", b"Subject: x\n\nb\n"),
            (
                b"A: 1\r\nreturn-PATH: <evil@x>\r\n folded\r\n\tmore\r\nB: 2\r\n\r\nb\r\n",
                b"A: 1\nB: 2\n\nb\n",
            ),
            (
                b"Return-Path: one\r\nReturn-Path: two\r\n\r\nReturn-Path: body stays\r\n",
                b"\nReturn-Path: body stays\n",
            ),
            (
                b"Return-Pat: stays\r\nReturn-Pathology: stays\r\n\r\n",
                b"Return-Pat: stays\nReturn-Pathology: stays\n\n",
            ),
            (b"\r\nReturn-Path: body\r\n", b"\nReturn-Path: body\n"),
            (b"Return-", b"Return-"),
            (b"", b""),
        ] {
            let out = copied(content, vec![1024]);
            let expected = [b"Return-Path: <a@b.example>\n", expected].concat();
            assert_eq!(out, expected, "{}", String::from_utf8_lossy(content));
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_bytes(
            content in "(Return-Path: |a: |\r\n|\r\n |x|\r|\n){0,40}",
            pieces in prop::collection::vec(1usize..7, 1..5),
        ) {
            prop_assert_eq!(copied(content.as_bytes(), pieces), copied(content.as_bytes(), vec![4096]));
        }
    }
}
