//! The Message-ID of a message, for the history (RFC 5322 3.6.4).
//!
//! What it does: reads the first Message-ID of a header section. What it does not: it changes nothing and refuses nothing;
//! one that is too long or not plain text counts as none.

use crate::content::header::Header;

/// Octets of the field at most, folding included.
const MAX_FIELD_OCTETS: usize = 600;

/// The id without its brackets; `None` where there is none or it is no plain text.
pub(crate) fn message_id(header: &Header) -> Option<String> {
    let field = header.first("Message-ID").filter(|field| field.octets.len() < MAX_FIELD_OCTETS)?;
    let text = field.text();
    let id = text.strip_prefix('<').and_then(|text| text.split('>').next()).unwrap_or(&text);
    let plain = !id.is_empty() && id.chars().all(|c| c.is_ascii_graphic());
    plain.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(content: &str) -> Option<String> {
        message_id(&Header::split(content.as_bytes()).0)
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
            assert_eq!(find(content).as_deref(), expected, "{content:?}");
        }
        assert_eq!(find(&format!("Message-ID: <{}@b>\r\n\r\n", "x".repeat(2_000))), None);
    }
}
