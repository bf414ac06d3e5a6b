//! The Message-ID of a message that streams by, for the history (RFC 5322 3.6.4).
//!
//! What it does: looks at the header section, however it is cut into pieces, and remembers the first Message-ID. What it
//! does not: it changes nothing and refuses nothing; one that is too long or not plain text counts as none.

/// Octets of the field at most, folding included.
const MAX_FIELD_OCTETS: usize = 600;

/// Octets of the header section that are looked through.
const MAX_HEADER_OCTETS: usize = 64 << 10;

const NAME: &[u8] = b"message-id:";

/// Looks for the field.
#[derive(Debug, Default)]
pub(super) struct MessageId {
    /// The line that is arriving, as far as it matters.
    line: Vec<u8>,
    /// The field, once it began.
    field: Option<Vec<u8>>,
    seen_octets: usize,
    over: bool,
}

impl MessageId {
    /// Takes the next part of the content.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        if self.over {
            return;
        }
        self.seen_octets += bytes.len();
        for byte in bytes {
            match byte {
                b'\n' => self.end_of_line(),
                byte if self.line.len() < MAX_FIELD_OCTETS => self.line.push(*byte),
                _ => {}
            }
            if self.over {
                break;
            }
        }
        if self.seen_octets > MAX_HEADER_OCTETS {
            self.over = true;
        }
        if self.over {
            self.line = Vec::new();
        }
    }

    fn end_of_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let is_folded = line.first().is_some_and(|b| matches!(b, b' ' | b'\t'));
        match &mut self.field {
            Some(field) if is_folded => field.extend_from_slice(line),
            // The field is whole, or the header section is.
            Some(_) => self.over = true,
            None if line.is_empty() => self.over = true,
            None => {
                let value =
                    line.split_at_checked(NAME.len()).filter(|(name, _)| name.eq_ignore_ascii_case(NAME));
                self.field = value.map(|(_, value)| value.to_vec());
            }
        }
    }

    /// The id without its brackets; `None` where there is none or it is no plain text.
    pub(super) fn finish(self) -> Option<String> {
        let field = self.field.filter(|field| NAME.len() + field.len() < MAX_FIELD_OCTETS)?;
        let text = std::str::from_utf8(&field).ok()?.trim();
        let id = text.strip_prefix('<').and_then(|text| text.split('>').next()).unwrap_or(text);
        let plain = !id.is_empty() && id.chars().all(|c| c.is_ascii_graphic());
        plain.then(|| id.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find(content: &[u8], cut: usize) -> Option<String> {
        let mut id = MessageId::default();
        let (a, b) = content.split_at(cut.min(content.len()));
        id.read(a);
        id.read(b);
        id.finish()
    }

    #[test]
    fn the_first_field_of_the_header_section_counts() {
        for (content, expected) in [
            ("Received: x\r\n\ty\r\nMessage-ID: <a@b>\r\n\r\nx", Some("a@b")),
            ("MESSAGE-id:\r\n <a@b>\r\nSubject: x\r\n\r\n", Some("a@b")),
            ("Message-Id: bare@id\r\n\r\n", Some("bare@id")),
            ("Message-ID: <a@b> (comment)\r\n\r\n", Some("a@b")),
            ("Message-ID: <one@b>\r\nMessage-ID: <two@b>\r\n\r\n", Some("one@b")),
            ("Subject: x\r\n\r\nMessage-ID: <body@b>\r\n", None),
            ("Subject: x\r\n Message-ID: <folded@b>\r\n\r\n", None),
            ("Message-ID: <\u{1b}[31m@b>\r\n\r\n", None),
            ("Message-ID: <>\r\n\r\n", None),
            ("X-Message-ID: <a@b>\r\n\r\n", None),
            ("", None),
        ] {
            for cut in 0..content.len().max(1) {
                assert_eq!(find(content.as_bytes(), cut).as_deref(), expected, "{content:?} at {cut}");
            }
        }
        let long = format!("Message-ID: <{}@b>\r\n\r\n", "x".repeat(2_000));
        assert_eq!(find(long.as_bytes(), 7), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, cut: usize) {
            let _ = find(&bytes, cut);
        }
    }
}
