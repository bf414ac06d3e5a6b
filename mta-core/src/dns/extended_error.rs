//! Extended DNS errors (RFC 8914): what a server says about why it answered an error. Anybody can say anything here, so it
//! serves to explain, and to call an error bogus rather than unavailable, which for DANE is the same class.

use std::fmt::Write as _;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::EdnsOption;
use mta_smtp::text::is_harmful;

/// The number of the option (RFC 8914 2).
const OPTION: u16 = 15;

/// Errors of one response that are read.
const MAX_ERRORS: usize = 4;

/// Longest extra text that is passed on, in bytes.
const MAX_TEXT: usize = 200;

/// One extended error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExtendedError {
    /// The info code.
    pub(super) code: u16,
    /// The extra text, without control characters.
    pub(super) text: String,
}

impl ExtendedError {
    /// The codes that say that validation failed: bogus, expired, not yet valid, keys, signatures, zone key bit or
    /// denials missing (RFC 8914 4.7 to 4.13).
    pub(super) fn is_bogus(&self) -> bool {
        (6..=12).contains(&self.code)
    }

    /// The names of RFC 8914 4 that matter for mail.
    fn name(&self) -> Option<&'static str> {
        Some(match self.code {
            1 => "unsupported DNSKEY algorithm",
            2 => "unsupported DS digest type",
            3 => "stale answer",
            5 => "DNSSEC indeterminate",
            6 => "DNSSEC bogus",
            7 => "signature expired",
            8 => "signature not yet valid",
            9 => "DNSKEY missing",
            10 => "RRSIGs missing",
            11 => "no zone key bit set",
            12 => "NSEC missing",
            22 => "no reachable authority",
            23 => "network error",
            _ => return None,
        })
    }
}

/// The extended errors of a response.
pub(super) fn extended_errors(message: &Message) -> Vec<ExtendedError> {
    let Some(edns) = &message.edns else { return Vec::new() };
    let options = edns.options().as_ref().iter();
    let read = options.filter_map(|(_, option)| match option {
        EdnsOption::Unknown(OPTION, data) => {
            let (code, text) = data.split_first_chunk::<2>()?;
            let text = text.get(..text.len().min(MAX_TEXT))?;
            let text = String::from_utf8_lossy(text).chars().filter(|c| !is_harmful(*c)).collect();
            Some(ExtendedError { code: u16::from_be_bytes(*code), text })
        }
        _ => None,
    });
    read.take(MAX_ERRORS).collect()
}

/// `; signature expired: "…"` for each of them; empty where there is none.
pub(super) fn explanation(errors: &[ExtendedError]) -> String {
    let mut out = String::new();
    for error in errors {
        // Writing into a string cannot fail.
        let _ = match error.name() {
            Some(name) => write!(out, "; {name}"),
            None => write!(out, "; extended error {}", error.code),
        };
        if !error.text.is_empty() {
            let _ = write!(out, " ({})", error.text);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Edns, MessageType, OpCode};

    use super::*;

    fn with(options: &[&[u8]]) -> Message {
        let mut message = Message::new(0, MessageType::Response, OpCode::Query);
        let mut edns = Edns::new();
        for data in options {
            edns.options_mut().insert(EdnsOption::Unknown(OPTION, data.to_vec()));
        }
        message.set_edns(edns);
        Message::from_vec(&message.to_vec().unwrap()).unwrap()
    }

    #[test]
    fn codes_and_texts_are_read_and_made_harmless() {
        let errors = extended_errors(&with(&[b"\0\x07sig\x1b[2J old", b"\0\x16", b"\0", b""]));
        assert_eq!(explanation(&errors), "; signature expired (sig[2J old); no reachable authority");
        assert!(errors.first().unwrap().is_bogus());
        assert!(!errors.get(1).unwrap().is_bogus());
    }

    #[test]
    fn number_and_length_are_bounded() {
        let long = [b'x'; 1000];
        let many = vec![&long[..]; 20];
        let errors = extended_errors(&with(&many));
        assert_eq!(errors.len(), MAX_ERRORS);
        assert!(errors.iter().all(|e| e.text.len() <= MAX_TEXT));
    }
}
