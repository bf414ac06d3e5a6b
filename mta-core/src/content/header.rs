//! The header section of a message (RFC 5322 2.2) as octets that can be looked through and changed.
//!
//! What it does: parts the section from the body while the content streams by, however it is cut; knows where each field
//! begins and ends; takes fields out and puts fields in. Every octet of a field that is not touched stays as it came:
//! signatures cover it. What it does not: it understands no value and repairs nothing. A line that is no field (no colon,
//! an impossible name, a folded line without a field before it) is an entry without a name, which stays where it is.

use memchr::{memchr, memmem};

const EMPTY_LINE: &[u8] = b"\r\n";

/// The header section is longer than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Parts the header section from the body of content that comes in pieces.
#[derive(Debug)]
pub(crate) struct Splitter {
    /// What came of the section.
    octets: Vec<u8>,
    max_octets: usize,
    /// The empty line was seen.
    over: bool,
}

impl Splitter {
    /// For a section of so many octets at most.
    pub(crate) fn new(max_octets: usize) -> Self {
        Self { octets: Vec::new(), max_octets, over: false }
    }

    /// Whether the section is whole.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// What came so far.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Takes the next piece and returns what of it belongs to the body. The empty line between both belongs to neither.
    ///
    /// # Errors
    /// The section is too long.
    pub(crate) fn take<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], TooLong> {
        if self.over {
            return Ok(piece);
        }
        let before = self.octets.len();
        self.octets.extend_from_slice(piece);
        // The end may lie across two pieces.
        let end = end_of_section(&self.octets, before.saturating_sub(3));
        // Without an end the last octet may belong to the empty line.
        let octets = self.octets.len() - usize::from(self.octets.ends_with(b"\r"));
        if end.unwrap_or(octets) > self.max_octets {
            self.octets = Vec::new();
            return Err(TooLong);
        }
        let Some(end) = end else {
            return Ok(&[]);
        };
        self.over = true;
        self.octets.truncate(end);
        Ok(piece.get(end + EMPTY_LINE.len() - before..).unwrap_or_default())
    }

    /// What came of the section.
    pub(crate) fn finish(self) -> Header {
        Header { octets: self.octets, ended: self.over }
    }
}

/// Where the section ends, looked for from an octet on.
fn end_of_section(octets: &[u8], from: usize) -> Option<usize> {
    if octets.starts_with(EMPTY_LINE) {
        return Some(0);
    }
    let at = memmem::find(octets.get(from..)?, b"\r\n\r\n")?;
    Some(from + at + EMPTY_LINE.len())
}

/// A header section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// Lines with their ends.
    octets: Vec<u8>,
    /// An empty line came behind it. Without one there is no body.
    ended: bool,
}

/// One field, or a line that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    /// The name without the colon; empty where this is no field.
    pub(crate) name: &'a [u8],
    /// All its octets: name, colon, value, every folded line, and the line ends.
    pub(crate) octets: &'a [u8],
    /// The octets behind the colon, line ends included; everything where this is no field.
    pub(crate) value: &'a [u8],
}

impl Field<'_> {
    /// Whether it is the field of this name, in any case.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value on one line (RFC 5322 2.2.3), without blanks around it. What is not UTF-8 is replaced.
    pub(crate) fn text(&self) -> String {
        let unfolded: Vec<u8> = self.value.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
        String::from_utf8_lossy(&unfolded).trim().to_owned()
    }
}

impl Header {
    /// The section of a whole message, and its body.
    pub(crate) fn split(message: &[u8]) -> (Self, &[u8]) {
        let Some(end) = end_of_section(message, 0) else {
            return (Self { octets: message.to_vec(), ended: false }, &[]);
        };
        let (octets, body) = message.split_at(end);
        (Self { octets: octets.to_vec(), ended: true }, body.get(EMPTY_LINE.len()..).unwrap_or_default())
    }

    /// All its octets, without the empty line.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The fields from the top, and what lies between them.
    pub(crate) fn fields(&self) -> Fields<'_> {
        fields(&self.octets)
    }

    /// Whether its first line would become a part of whatever field is put above it.
    pub(crate) fn begins_folded(&self) -> bool {
        matches!(self.octets.first(), Some(b' ' | b'\t'))
    }

    /// The fields of one name, from the top.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Field<'a>> {
        self.fields().filter(move |field| field.is(name))
    }

    /// The topmost field of a name.
    pub(crate) fn first<'a>(&'a self, name: &'a str) -> Option<Field<'a>> {
        self.all(name).next()
    }

    /// Puts fields, whole lines with their ends, at the top.
    pub(crate) fn prepend(&mut self, fields: &str) {
        self.octets.splice(0..0, fields.bytes());
    }

    /// Puts fields, whole lines with their ends, at the bottom.
    pub(crate) fn append(&mut self, fields: &str) {
        if !self.octets.is_empty() && !self.octets.ends_with(b"\n") {
            self.octets.extend_from_slice(EMPTY_LINE);
        }
        self.octets.extend_from_slice(fields.as_bytes());
    }

    /// Takes out the fields that are unwanted; how many there were.
    pub(crate) fn remove(&mut self, mut unwanted: impl FnMut(&Field<'_>) -> bool) -> usize {
        // Nothing is copied where nothing goes, which is the rule.
        if !self.fields().any(|field| unwanted(&field)) {
            return 0;
        }
        let (mut kept, mut removed) = (Vec::with_capacity(self.octets.len()), 0);
        for field in self.fields() {
            if unwanted(&field) {
                removed += 1;
            } else {
                kept.extend_from_slice(field.octets);
            }
        }
        self.octets = kept;
        removed
    }

    /// Gives fields another value, colon and name left as they are.
    pub(crate) fn change(&mut self, mut new_value: impl FnMut(&Field<'_>) -> Option<Vec<u8>>) {
        let mut changed = None;
        let mut before = 0;
        for field in self.fields() {
            let value = new_value(&field).filter(|_| !field.name.is_empty());
            if let Some(value) = value {
                let octets =
                    changed.get_or_insert_with(|| self.octets.get(..before).unwrap_or_default().to_vec());
                let name = field.octets.len() - field.value.len();
                octets.extend_from_slice(field.octets.get(..name).unwrap_or_default());
                octets.extend(value);
            } else if let Some(octets) = &mut changed {
                octets.extend_from_slice(field.octets);
            }
            before += field.octets.len();
        }
        if let Some(octets) = changed {
            self.octets = octets;
        }
    }

    /// What comes before the body: the section with its empty line, if one came.
    pub(crate) fn into_front(mut self) -> Vec<u8> {
        if self.ended {
            self.octets.extend_from_slice(EMPTY_LINE);
        }
        self.octets
    }
}

/// The fields of a section, and what lies between them.
pub(crate) fn fields(octets: &[u8]) -> Fields<'_> {
    Fields { rest: octets }
}

/// Goes over the fields of a section.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let mut end = 0;
        loop {
            let line = self.rest.get(end..).unwrap_or_default();
            end += memchr(b'\n', line).map_or(line.len(), |at| at + 1);
            // RFC 5322 2.2.3: a line that begins with a blank belongs to the one before it.
            if !matches!(self.rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (octets, rest) = self.rest.split_at(end);
        self.rest = rest;
        let colon = memchr(b':', octets);
        let parts = colon.and_then(|at| Some((name(octets.get(..at)?)?, octets.get(at + 1..)?)));
        let (name, value) = parts.unwrap_or((&[], octets));
        Some(Field { name, octets, value })
    }
}

/// The name before a colon (RFC 5322 3.6.8); blanks behind it are obsolete syntax (4.5).
fn name(octets: &[u8]) -> Option<&[u8]> {
    let name = octets.trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take(content: &[u8], cut: usize, max: usize) -> Result<(Header, Vec<u8>), TooLong> {
        let mut splitter = Splitter::new(max);
        let mut body = Vec::new();
        for piece in content.chunks(cut) {
            body.extend_from_slice(splitter.take(piece)?);
        }
        Ok((splitter.finish(), body))
    }

    #[test]
    fn the_section_ends_at_the_first_empty_line() {
        for (content, header, body) in [
            ("A: b\r\n\r\nbody\r\n", "A: b\r\n", "body\r\n"),
            ("A: b\r\n\r\n\r\nbody\r\n\r\n", "A: b\r\n", "\r\nbody\r\n\r\n"),
            ("\r\nbody\r\n", "", "body\r\n"),
            ("\r\n\r\n", "", "\r\n"),
            ("A: b\r\n", "A: b\r\n", ""),
            ("A: b", "A: b", ""),
            ("A: b\r\n\r\n", "A: b\r\n", ""),
            ("no field\r\n\r\nx", "no field\r\n", "x"),
            ("", "", ""),
        ] {
            for cut in 1..=content.len().max(1) {
                let (found, found_body) = take(content.as_bytes(), cut, 1000).expect("short");
                assert_eq!(found.octets(), header.as_bytes(), "{content:?} by {cut}");
                assert_eq!(found_body, body.as_bytes(), "{content:?} by {cut}");
            }
            let (whole, rest) = Header::split(content.as_bytes());
            assert_eq!((whole.octets(), rest), (header.as_bytes(), body.as_bytes()));
        }
    }

    #[test]
    fn the_section_is_bounded_and_the_body_is_not() {
        let content = format!("A: {}\r\n\r\n{}", "x".repeat(50), "y".repeat(500));
        assert!(take(content.as_bytes(), 7, 55).is_ok());
        assert_eq!(take(content.as_bytes(), 7, 54).err(), Some(TooLong));
        assert_eq!(take(content.as_bytes(), 1000, 54).err(), Some(TooLong));
    }

    fn header(text: &str) -> Header {
        Header { octets: text.as_bytes().to_vec(), ended: true }
    }

    #[test]
    fn fields_with_folding_and_what_is_no_field() {
        let text = " folded first\r\nFrom: a\r\nSubject : b\r\n\tc\r\n \r\nno colon\r\n with: fold\r\nB\u{e9}: x\r\n: y\r\nsubject:\r\nLast: z";
        let header = header(text);
        let found: Vec<_> = header
            .fields()
            .map(|field| (String::from_utf8_lossy(field.name).into_owned(), field.text()))
            .collect();
        let expected = [
            ("", "folded first"),
            ("From", "a"),
            ("Subject", "b\tc"),
            ("", "no colon with: fold"),
            ("", "B\u{e9}: x"),
            ("", ": y"),
            ("subject", ""),
            ("Last", "z"),
        ];
        assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(header.all("SUBJECT").count(), 2);
        assert_eq!(header.first("subject").expect("there").octets, b"Subject : b\r\n\tc\r\n \r\n");
    }

    #[test]
    fn fields_go_in_and_out_and_the_rest_stays() {
        let mut header = header("A: 1\r\nX: 2\r\n 3\r\nb: 4\r\nx : 5\r\n");
        assert_eq!(header.remove(|field| field.is("x")), 2);
        assert_eq!(header.remove(|field| field.is("x")), 0);
        header.prepend("Top: t\r\n");
        header.append("End: e\r\n");
        assert_eq!(header.into_front(), b"Top: t\r\nA: 1\r\nb: 4\r\nEnd: e\r\n\r\n");
        let (mut header, _) = Header::split(b"A: 1");
        header.append("B: 2\r\n");
        assert_eq!(header.into_front(), b"A: 1\r\nB: 2\r\n");
    }

    proptest! {
        #[test]
        fn no_octet_is_lost_in_any_pieces(content in "(A|:|\r\n| |\t|x|\r|\n|\u{e9}){0,60}", cut in 1usize..20) {
            let (header, body) = take(content.as_bytes(), cut, 1000).expect("short");
            let fields: Vec<u8> = header.fields().flat_map(|field| field.octets.to_vec()).collect();
            prop_assert_eq!(&fields, header.octets());
            let mut whole = header.into_front();
            whole.extend_from_slice(&body);
            prop_assert_eq!(whole, content.as_bytes());
        }
    }
}
