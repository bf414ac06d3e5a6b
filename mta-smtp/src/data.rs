//! Content as DATA carries it (RFC 5321 4.5.2): taking it off the wire and putting it on, as byte machines.
//!
//! What it does: finds the one end of data, CR LF . CR LF; removes and adds the dots; notices what no content may
//! hold (a bare CR, a bare LF, NUL, an overlong line). What it does not: it keeps nothing but a few octets of state,
//! and never repairs what it takes in. A fault does not move the end of data: it is still found where it stands,
//! so that nothing in refused content is ever read as a command.

use memchr::{memchr2, memchr3};

/// What content may not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A carriage return without a line feed.
    BareCr,
    /// A line feed without a carriage return.
    BareLf,
    /// A NUL octet.
    Nul,
    /// A line longer than the limit.
    LineTooLong,
}

/// Where in a line the decoder stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first octet of a line.
    LineStart,
    /// After a dot that began the line.
    Dot,
    /// After a dot that began the line and a carriage return.
    DotCr,
    /// Within a line.
    Text,
    /// After a carriage return within a line.
    Cr,
}

/// What one call of `Decoder::decode` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// How many octets of the input were used.
    pub consumed: usize,
    /// Whether the end of data was among them.
    pub ended: bool,
}

/// Takes content off the wire.
#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    /// The first fault met. From there on nothing is put out.
    fault: Option<Fault>,
    /// Octets of the current line so far.
    line_octets: usize,
    /// The longest line let through, without its CR LF.
    line_limit: usize,
}

impl Decoder {
    /// A decoder that stands before the first line and lets lines of up to `line_limit` octets through.
    pub fn new(line_limit: usize) -> Self {
        Self { state: State::LineStart, fault: None, line_octets: 0, line_limit }
    }

    /// The first fault met.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Reads input up to its end or the end of data, and appends the content to `content`.
    pub fn decode(&mut self, input: &[u8], content: &mut Vec<u8>) -> Decoded {
        let mut rest = input;
        while let Some((&byte, tail)) = rest.split_first() {
            if self.state == State::Text {
                rest = self.text(rest, content);
                continue;
            }
            rest = tail;
            if self.octet(byte, content) {
                return Decoded { consumed: input.len() - rest.len(), ended: true };
            }
        }
        Decoded { consumed: input.len(), ended: false }
    }

    /// Copies a run of ordinary octets and takes the special one behind it. Returns what is left.
    fn text<'a>(&mut self, input: &'a [u8], content: &mut Vec<u8>) -> &'a [u8] {
        let run = memchr3(b'\r', b'\n', 0, input).unwrap_or(input.len());
        let (run, rest) = input.split_at(run);
        self.put(run, content);
        let Some((&special, rest)) = rest.split_first() else {
            return rest;
        };
        self.within_line(special, content);
        rest
    }

    /// Takes one octet outside a run of text. True at the end of data.
    fn octet(&mut self, byte: u8, content: &mut Vec<u8>) -> bool {
        match (self.state, byte) {
            (State::LineStart, b'.') => self.state = State::Dot,
            (State::Dot, b'\r') => self.state = State::DotCr,
            (State::DotCr, b'\n') => return true,
            (State::Cr, b'\n') => {
                self.emit(b"\r\n", content);
                self.line_octets = 0;
                self.state = State::LineStart;
            }
            (State::DotCr | State::Cr, _) => {
                self.fail(Fault::BareCr);
                self.within_line(byte, content);
            }
            (State::LineStart | State::Dot | State::Text, _) => self.within_line(byte, content),
        }
        false
    }

    /// Takes an octet that neither begins nor ends anything special.
    fn within_line(&mut self, byte: u8, content: &mut Vec<u8>) {
        self.state = State::Text;
        match byte {
            b'\r' => self.state = State::Cr,
            b'\n' => self.fail(Fault::BareLf),
            0 => self.fail(Fault::Nul),
            _ => self.put(&[byte], content),
        }
    }

    /// Puts out octets of the current line, up to the limit and no further.
    fn put(&mut self, octets: &[u8], content: &mut Vec<u8>) {
        let room = self.line_limit.saturating_sub(self.line_octets);
        self.line_octets = self.line_octets.saturating_add(octets.len());
        self.emit(octets.get(..room).unwrap_or(octets), content);
        if octets.len() > room {
            self.fail(Fault::LineTooLong);
        }
    }

    fn emit(&self, octets: &[u8], content: &mut Vec<u8>) {
        if self.fault.is_none() {
            content.extend_from_slice(octets);
        }
    }

    fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

/// Puts content on the wire: doubles the dots at line beginnings and writes the end of data.
///
/// Content of our queue has CR LF line ends throughout and passes unchanged. Should a bare CR or LF come all the
/// same, it leaves as CR LF: no other form of it may ever stand beside a dot (message smuggling).
#[derive(Debug, Clone)]
pub struct Encoder {
    line_start: bool,
    after_cr: bool,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { line_start: true, after_cr: false }
    }
}

impl Encoder {
    /// An encoder that stands before the first line.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the wire form of the next part of the content to `wire`.
    pub fn encode(&mut self, content: &[u8], wire: &mut Vec<u8>) {
        let mut rest = content;
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.after_cr) {
                wire.extend_from_slice(b"\r\n");
                self.line_start = true;
                if first == b'\n' {
                    rest = rest.get(1..).unwrap_or_default();
                }
                continue;
            }
            if self.line_start && first == b'.' {
                wire.push(b'.');
            }
            let (run, tail) = rest.split_at(memchr2(b'\r', b'\n', rest).unwrap_or(rest.len()));
            wire.extend_from_slice(run);
            self.line_start = self.line_start && run.is_empty();
            let Some((&special, tail)) = tail.split_first() else {
                return;
            };
            rest = tail;
            if special == b'\r' {
                self.after_cr = true;
            } else {
                wire.extend_from_slice(b"\r\n");
                self.line_start = true;
            }
        }
    }

    /// Appends the end of data, ending an unended last line first.
    pub fn finish(self, wire: &mut Vec<u8>) {
        if self.after_cr || !self.line_start {
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(pieces: &[&[u8]]) -> (Vec<u8>, Option<Fault>, Option<usize>) {
        let (mut decoder, mut content, mut before) = (Decoder::new(100), Vec::new(), 0);
        for piece in pieces {
            let decoded = decoder.decode(piece, &mut content);
            before += decoded.consumed;
            if decoded.ended {
                return (content, decoder.fault(), Some(before));
            }
        }
        (content, decoder.fault(), None)
    }

    fn encode(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut encoder, mut wire) = (Encoder::new(), Vec::new());
        pieces.iter().for_each(|piece| encoder.encode(piece, &mut wire));
        encoder.finish(&mut wire);
        wire
    }

    #[test]
    fn the_one_end_of_data() {
        assert_eq!(decode(&[b".\r\nrest"]), (Vec::new(), None, Some(3)));
        assert_eq!(decode(&[b"a\r\n.\r\nQUIT\r\n"]), (b"a\r\n".to_vec(), None, Some(6)));
        assert_eq!(decode(&[b"..\r\n.a\r\n.\r\n"]), (b".\r\na\r\n".to_vec(), None, Some(11)));
        assert_eq!(decode(&[b"a.\r\n"]), (b"a.\r\n".to_vec(), None, None));
    }

    #[test]
    fn faults_do_not_move_the_end() {
        assert_eq!(decode(&[b"a\n.\nb\r\n.\r\n"]), (b"a".to_vec(), Some(Fault::BareLf), Some(10)));
        assert_eq!(decode(&[b"a\r\r\n.\r\n"]), (b"a".to_vec(), Some(Fault::BareCr), Some(7)));
        assert_eq!(decode(&[b"a\r\n.\0\r\n.\r\n"]), (b"a\r\n".to_vec(), Some(Fault::Nul), Some(10)));
        assert_eq!(decode(&[b"a\r\n.\r.\r\n"]).2, None);
        let long = [vec![b'x'; 101], b"\r\n.\r\n".to_vec()].concat();
        assert_eq!(decode(&[&long]), (vec![b'x'; 100], Some(Fault::LineTooLong), Some(106)));
        let edge = [vec![b'x'; 100], b"\r\n.\r\n".to_vec()].concat();
        assert_eq!(decode(&[&edge]).1, None);
    }

    /// The end-of-data look-alikes of message smuggling, and every pair of line-end look-alikes around a dot.
    #[test]
    fn no_lookalike_ends_data() {
        let ends: [&[u8]; 8] = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\0\n", b"\0\r\n", b"\r\n\0"];
        for before in ends {
            for after in ends {
                let wire = [b"text", before, b".", after, b"MAIL FROM:<x@y>\r\n"].concat();
                let canonical = before.ends_with(b"\r\n") && after.starts_with(b"\r\n");
                let (_, fault, end) = decode(&[&wire]);
                assert_eq!(end.is_some(), canonical, "{before:?} . {after:?}");
                assert_eq!(
                    fault.is_some(),
                    before != b"\r\n" || after != b"\r\n" && !canonical,
                    "{before:?} . {after:?}"
                );
            }
        }
    }

    #[test]
    fn encoding_leaves_no_bare_line_end() {
        assert_eq!(encode(&[b"a\r\n.b\r\n"]), b"a\r\n..b\r\n.\r\n");
        assert_eq!(encode(&[b""]), b".\r\n");
        assert_eq!(encode(&[b"a"]), b"a\r\n.\r\n");
        assert_eq!(encode(&[b"a\n.\nb\r.\r"]), b"a\r\n..\r\nb\r\n..\r\n.\r\n");
        assert_eq!(encode(&[b"a\r", b"\n.", b"."]), b"a\r\n...\r\n.\r\n");
    }

    fn octets() -> impl Strategy<Value = Vec<u8>> {
        let octet = prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a'), Just(0)];
        proptest::collection::vec(octet, 0..60)
    }

    fn lines() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec("[.a ]{0,6}", 0..12)
            .prop_map(|lines| lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect())
    }

    proptest! {
        #[test]
        fn any_split_decodes_the_same(wire in octets(), cut in 1usize..9) {
            let pieces: Vec<&[u8]> = wire.chunks(cut).collect();
            prop_assert_eq!(decode(&pieces), decode(&[&wire]));
        }

        #[test]
        fn any_split_encodes_the_same(content in octets(), cut in 1usize..9) {
            let pieces: Vec<&[u8]> = content.chunks(cut).collect();
            prop_assert_eq!(encode(&pieces), encode(&[&content]));
        }

        #[test]
        fn what_is_encoded_decodes_to_itself(content in lines()) {
            let wire = encode(&[&content]);
            prop_assert_eq!(decode(&[&wire]), (content, None, Some(wire.len())));
        }

        #[test]
        fn encoded_octets_hold_one_end_and_no_bare_line_end(content in octets()) {
            let wire = encode(&[&content]);
            let (_, fault, end) = decode(&[&wire]);
            prop_assert_eq!(end, Some(wire.len()));
            prop_assert!(matches!(fault, None | Some(Fault::Nul)));
        }
    }
}
