//! Content as BDAT carries it (RFC 3030): octets by count, without dots and without an end of data.
//!
//! What it does: lets lines with CR LF through and notices what no content may hold, over the borders of chunks, exactly as
//! `data` does: BINARYMIME is not offered, so these are lines of text all the same. What it does not: it counts no chunk
//! (`server::content`), keeps nothing but a few octets of state, and never repairs what it takes in.

use memchr::memchr3;

use crate::data::Fault;

/// Checks content that comes in chunks.
#[derive(Debug, Clone)]
pub struct Checker {
    /// The first fault met. From there on nothing is put out.
    fault: Option<Fault>,
    /// The octet before was a carriage return, which is not put out yet.
    after_cr: bool,
    /// Octets of the current line so far.
    line_octets: usize,
    /// The longest line let through, without its CR LF.
    line_limit: usize,
}

impl Checker {
    /// A checker that stands before the first line and lets lines of up to `line_limit` octets through.
    pub fn new(line_limit: usize) -> Self {
        Self { fault: None, after_cr: false, line_octets: 0, line_limit }
    }

    /// The first fault met.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Takes the next octets and appends the content to `content`.
    pub fn check(&mut self, input: &[u8], content: &mut Vec<u8>) {
        let mut rest = input;
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.after_cr) {
                if first == b'\n' {
                    self.emit(b"\r\n", content);
                    self.line_octets = 0;
                    rest = rest.get(1..).unwrap_or_default();
                } else {
                    self.fail(Fault::BareCr);
                }
                continue;
            }
            let (run, tail) = rest.split_at(memchr3(b'\r', b'\n', 0, rest).unwrap_or(rest.len()));
            self.put(run, content);
            let Some((&special, tail)) = tail.split_first() else { return };
            match special {
                b'\r' => self.after_cr = true,
                b'\n' => self.fail(Fault::BareLf),
                _ => self.fail(Fault::Nul),
            }
            rest = tail;
        }
    }

    /// The last chunk is over. A last line without its end gets one, as every message of the queue has.
    pub fn finish(&mut self, content: &mut Vec<u8>) {
        if std::mem::take(&mut self.after_cr) {
            self.fail(Fault::BareCr);
        }
        if self.line_octets > 0 {
            self.emit(b"\r\n", content);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::Encoder;

    fn check(pieces: &[&[u8]]) -> (Vec<u8>, Option<Fault>) {
        let (mut checker, mut content) = (Checker::new(20), Vec::new());
        pieces.iter().for_each(|piece| checker.check(piece, &mut content));
        checker.finish(&mut content);
        (content, checker.fault())
    }

    #[test]
    fn lines_pass_and_dots_mean_nothing() {
        let text: &[u8] = b"a\r\n.\r\nQUIT\r\n..b\r\n";
        assert_eq!(check(&[text]), (text.to_vec(), None));
        assert_eq!(check(&[b"a\r", b"\nb"]), (b"a\r\nb\r\n".to_vec(), None));
        assert_eq!(check(&[]), (Vec::new(), None));
    }

    #[test]
    fn what_no_content_may_hold() {
        for (text, fault) in [
            (b"a\nb\r\n".as_slice(), Fault::BareLf),
            (b"a\rb\r\n", Fault::BareCr),
            (b"a\r\r\nb", Fault::BareCr),
            (b"a\r", Fault::BareCr),
            (b"a\0b\r\n", Fault::Nul),
            (b"123456789012345678901\r\n", Fault::LineTooLong),
        ] {
            assert_eq!(check(&[text]).1, Some(fault), "{text:?}");
        }
        assert_eq!(check(&[b"12345678901234567890\r\n"]).1, None);
    }

    proptest! {
        #[test]
        fn any_split_checks_the_same(
            text in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a'), Just(0)], 0..60),
            cut in 1usize..9,
        ) {
            let pieces: Vec<&[u8]> = text.chunks(cut).collect();
            prop_assert_eq!(check(&pieces), check(&[&text]));
        }

        /// What passes has no line end but CR LF, so that it goes on by DATA unchanged and dot-stuffed.
        #[test]
        fn what_passes_goes_on_by_data(text in "([.a]{0,5}\r\n){0,9}[.a]{0,3}") {
            let (content, fault) = check(&[text.as_bytes()]);
            prop_assert_eq!(fault, None);
            let (mut encoder, mut wire) = (Encoder::new(), Vec::new());
            encoder.encode(&content, &mut wire);
            encoder.finish(&mut wire);
            let ends = wire.windows(5).filter(|five| *five == b"\r\n.\r\n").count() + usize::from(wire.starts_with(b".\r\n"));
            prop_assert_eq!(ends, 1);
        }
    }
}
