//! Hashes of a body while it streams by (RFC 6376 3.4, 3.7), so that no signature needs the message in memory.
//!
//! Both canonicalizations leave out the empty lines at the end, so line ends are held back until something follows them.

use ring::digest::{Context, SHA256};

use crate::content::header::Header;

const LINE_END: &[u8] = b"\r\n";

/// Line ends written at once.
const MANY_LINE_ENDS: &[u8] = b"\r\n\r\n\r\n\r\n";

/// Hashes a body in the canonicalizations that are wanted.
#[derive(Debug)]
pub(crate) struct BodyDigest {
    relaxed: Option<Relaxed>,
    simple: Option<Simple>,
}

/// What came out; absent where it was not wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BodyHashes {
    /// SHA-256 of the body in relaxed canonicalization.
    pub relaxed: Option<Vec<u8>>,
    /// SHA-256 of the body in simple canonicalization.
    pub simple: Option<Vec<u8>>,
}

impl BodyHashes {
    /// Of a whole message in memory, in the canonicalizations that its signatures need.
    pub fn of(message: &[u8]) -> Self {
        let (header, body) = Header::split(message);
        let mut digest = super::digest_for(header.octets());
        digest.update(body);
        digest.finish()
    }
}

impl BodyDigest {
    /// For these canonicalizations.
    pub(crate) fn new(relaxed: bool, simple: bool) -> Self {
        Self { relaxed: relaxed.then(Relaxed::new), simple: simple.then(Simple::new) }
    }

    /// Takes the next part of the body.
    pub(crate) fn update(&mut self, octets: &[u8]) {
        if let Some(relaxed) = &mut self.relaxed {
            relaxed.update(octets);
        }
        if let Some(simple) = &mut self.simple {
            simple.update(octets);
        }
    }

    /// The body is whole.
    pub(crate) fn finish(self) -> BodyHashes {
        BodyHashes { relaxed: self.relaxed.map(Relaxed::finish), simple: self.simple.map(Simple::finish) }
    }
}

/// The hash, with line ends that are held back.
struct Held {
    context: Context,
    line_ends: u64,
    /// A carriage return came last.
    carriage_return: bool,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

impl Held {
    fn new() -> Self {
        Self { context: Context::new(&SHA256), line_ends: 0, carriage_return: false }
    }

    /// Octets of a line, and not only of its end.
    fn text(&mut self, octets: &[u8]) {
        while self.line_ends > 4 {
            self.context.update(MANY_LINE_ENDS);
            self.line_ends -= 4;
        }
        for _ in 0..self.line_ends {
            self.context.update(LINE_END);
        }
        self.line_ends = 0;
        self.context.update(octets);
    }
}

/// Simple canonicalization (RFC 6376 3.4.3).
#[derive(Debug)]
struct Simple(Held);

impl Simple {
    fn new() -> Self {
        Self(Held::new())
    }

    fn update(&mut self, mut octets: &[u8]) {
        let held = &mut self.0;
        while let Some(first) = octets.first() {
            if held.carriage_return {
                held.carriage_return = false;
                if *first == b'\n' {
                    held.line_ends += 1;
                    octets = octets.get(1..).unwrap_or_default();
                    continue;
                }
                held.text(b"\r");
            }
            let text = memchr::memchr(b'\r', octets).unwrap_or(octets.len());
            let (line, rest) = octets.split_at(text);
            if !line.is_empty() {
                held.text(line);
            }
            held.carriage_return = !rest.is_empty();
            octets = rest.get(1..).unwrap_or_default();
        }
    }

    fn finish(mut self) -> Vec<u8> {
        if self.0.carriage_return {
            self.0.text(b"\r");
        }
        // RFC 6376 3.4.3: one line end, also where there is nothing at all.
        self.0.context.update(LINE_END);
        self.0.context.finish().as_ref().to_vec()
    }
}

/// Relaxed canonicalization (RFC 6376 3.4.4).
#[derive(Debug)]
struct Relaxed {
    held: Held,
    /// Blanks came last; they count only if something of the line follows.
    blank: bool,
    /// The body, or what is left of it, is not empty.
    any: bool,
    /// What is to be hashed of the piece in hand.
    buffer: Vec<u8>,
}

impl Relaxed {
    fn new() -> Self {
        Self { held: Held::new(), blank: false, any: false, buffer: Vec::new() }
    }

    fn update(&mut self, octets: &[u8]) {
        for &octet in octets {
            if self.held.carriage_return {
                self.held.carriage_return = false;
                if octet == b'\n' {
                    self.blank = false;
                    self.flush();
                    self.held.line_ends += 1;
                    continue;
                }
                self.push(b'\r');
            }
            match octet {
                b' ' | b'\t' => self.blank = true,
                b'\r' => self.held.carriage_return = true,
                octet => self.push(octet),
            }
        }
        self.flush();
    }

    fn push(&mut self, octet: u8) {
        if std::mem::take(&mut self.blank) {
            self.buffer.push(b' ');
        }
        self.buffer.push(octet);
    }

    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.held.text(&self.buffer);
            self.buffer.clear();
            self.any = true;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        if self.held.carriage_return {
            self.push(b'\r');
            self.flush();
        }
        // RFC 6376 3.4.4: an empty body stays empty.
        if self.any {
            self.held.context.update(LINE_END);
        }
        self.held.context.finish().as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(body: &[u8], cut: usize) -> BodyHashes {
        let mut digest = BodyDigest::new(true, true);
        body.chunks(cut).for_each(|piece| digest.update(piece));
        digest.finish()
    }

    fn sha256(text: &str) -> Option<Vec<u8>> {
        Some(ring::digest::digest(&SHA256, text.as_bytes()).as_ref().to_vec())
    }

    #[test]
    fn bodies_by_rfc6376_3_4() {
        for (body, relaxed, simple) in [
            ("", "", "\r\n"),
            ("\r\n\r\n", "", "\r\n"),
            (" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n", " C \r\nD \t E\r\n"),
            ("x", "x\r\n", "x\r\n"),
            ("a\r\n\r\nb\r\n", "a\r\n\r\nb\r\n", "a\r\n\r\nb\r\n"),
            (" \t \r\n", "", " \t \r\n"),
            ("a\r\n \r\n\t\r\n", "a\r\n", "a\r\n \r\n\t\r\n"),
            ("a\rb\r\n", "a\rb\r\n", "a\rb\r\n"),
            ("a \r \r\n", "a \r\r\n", "a \r \r\n"),
            ("a\r", "a\r\r\n", "a\r\r\n"),
            (
                "a\r\n\r\n\r\n\r\n\r\n\r\n\r\nb",
                "a\r\n\r\n\r\n\r\n\r\n\r\n\r\nb\r\n",
                "a\r\n\r\n\r\n\r\n\r\n\r\n\r\nb\r\n",
            ),
        ] {
            for cut in 1..=body.len().max(1) {
                let hashes = digest(body.as_bytes(), cut);
                assert_eq!(hashes.relaxed, sha256(relaxed), "{body:?} relaxed by {cut}");
                assert_eq!(hashes.simple, sha256(simple), "{body:?} simple by {cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(body in "(\r\n| |\t|x|\r|\n|é){0,60}", cut in 1usize..20) {
            prop_assert_eq!(digest(body.as_bytes(), cut), digest(body.as_bytes(), 10_000));
        }
    }
}
