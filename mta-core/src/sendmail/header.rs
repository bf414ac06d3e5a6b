//! The header section of a message that a local program hands in.
//!
//! What it does: takes out what must not travel (Bcc, and what other mail systems leave behind), and adds what every
//! message must have (RFC 5322 3.6): From, from the user of the system; Date; Message-ID. A message that is sent again
//! (Resent- fields, RFC 5322 3.6.6) gets those of its block in front. What it does not: it changes no field that is there.

use std::fmt::Write;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use mta_smtp::address::{Domain, Mailbox};

use super::address::{ListError, parse_list};
use super::message::Field;

/// Fields that are taken out: blind copies are nobody's to see, the others are written at delivery alone.
const DROPPED: &[&str] = &["bcc", "resent-bcc", "return-path", "content-length"];

/// Octets of a name in an encoded word, so that the word stays below 75 characters (RFC 2047 2).
const ENCODED_WORD_OCTETS: usize = 42;

/// Who sends.
#[derive(Debug, Clone)]
pub struct Author {
    /// The address for a From line.
    pub address: Mailbox,
    /// The name for it; may be empty.
    pub full_name: String,
}

/// Whether the message is sent again.
fn is_resent(fields: &[Field]) -> bool {
    fields.iter().any(|field| field.name.starts_with("resent-"))
}

/// The recipients that the header names, for `-t`: those of the Resent- fields if there are any.
///
/// # Errors
/// What is no address.
pub fn recipients(fields: &[Field], origin: &Domain) -> Result<Vec<Mailbox>, ListError> {
    let names =
        if is_resent(fields) { ["resent-to", "resent-cc", "resent-bcc"] } else { ["to", "cc", "bcc"] };
    let mut found = Vec::new();
    for field in fields.iter().filter(|field| names.contains(&field.name.as_str())) {
        found.extend(parse_list(&field.value(), origin)?);
        if found.len() > super::address::MAX_ADDRESSES {
            return Err(ListError::TooMany);
        }
    }
    Ok(found)
}

/// The header section as it is sent, with the empty line behind it.
pub fn compose(fields: &[Field], author: &Author, now: SystemTime, origin: &Domain) -> Vec<u8> {
    let has = |name: &str| fields.iter().any(|field| field.name == name);
    let mut added = String::new();
    let mut add_missing = |prefix: &str| {
        let lower = prefix.to_ascii_lowercase();
        if !has(&format!("{lower}message-id")) {
            let _ = write!(added, "{prefix}Message-ID: {}\r\n", message_id(now, origin));
        }
        if !has(&format!("{lower}date")) {
            let _ = write!(added, "{prefix}Date: {}\r\n", date(now));
        }
        if !has(&format!("{lower}from")) {
            let _ = write!(added, "{prefix}From: {}\r\n", from(author));
        }
        std::mem::take(&mut added)
    };
    let mut header = Vec::new();
    if is_resent(fields) {
        header.extend_from_slice(add_missing("Resent-").as_bytes());
    }
    for field in fields.iter().filter(|field| !DROPPED.contains(&field.name.as_str())) {
        header.extend_from_slice(&field.raw);
    }
    header.extend_from_slice(add_missing("").as_bytes());
    header.extend_from_slice(b"\r\n");
    header
}

/// The time as RFC 5322 3.3 writes it, in UTC.
fn date(time: SystemTime) -> String {
    let timestamp = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    jiff::fmt::rfc2822::to_string(&timestamp.to_zoned(TimeZone::UTC)).unwrap_or_default()
}

/// A Message-ID that nobody has used: the time and 64 random bits.
fn message_id(now: SystemTime, origin: &Domain) -> String {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    // RFC 5322 allows no UTF-8 here, and A-labels are as good as any.
    let right = if origin.is_ascii() { origin.as_str() } else { "localhost" };
    format!("<{seconds:x}.{:016x}@{right}>", fastrand::u64(..))
}

/// The author as a From line has him.
fn from(author: &Author) -> String {
    match display_name(&author.full_name) {
        name if name.is_empty() => author.address.to_string(),
        name => format!("{name} <{}>", author.address),
    }
}

/// A name as a display name: atoms, a quoted string, or encoded words (RFC 2047) where it is not ASCII. Control
/// characters go.
fn display_name(name: &str) -> String {
    let clean: String = name.chars().filter(|c| !c.is_control()).take(200).collect();
    let clean = clean.trim();
    let is_atoms = clean.chars().all(|c| c.is_ascii_alphanumeric() || " !#$%&'*+-/=?^_`{|}~".contains(c));
    if clean.is_empty() || (is_atoms && !clean.contains("=?")) {
        return clean.to_owned();
    }
    if clean.is_ascii() && !clean.contains("=?") {
        return format!("\"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\""));
    }
    let mut words = Vec::new();
    let mut rest = clean;
    while !rest.is_empty() {
        let at = rest.floor_char_boundary(ENCODED_WORD_OCTETS);
        let (word, after) = rest.split_at(at);
        words.push(format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
        rest = after;
    }
    words.join("\r\n ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sendmail::message::{Limits, Message};

    fn fields(text: &str) -> Vec<Field> {
        let limits = Limits { size_octets: 0, line_octets: 1000, ignore_dots: true };
        Message::read(text.as_bytes(), limits).unwrap().fields
    }

    fn composed(text: &str, full_name: &str) -> String {
        let origin = Domain::parse("host.example").unwrap();
        let address = Mailbox::parse("anna@host.example").unwrap();
        let author = Author { address, full_name: full_name.to_owned() };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_471_428);
        let header = String::from_utf8(compose(&fields(text), &author, now, &origin)).unwrap();
        let id = header.find(": <6b04 ").or_else(|| header.find(": <6b04"));
        match id {
            Some(at) => {
                let end = header[at..].find('>').unwrap() + at;
                format!("{}: <ID{}", &header[..at], &header[end..])
            }
            None => header,
        }
    }

    #[test]
    fn what_is_missing_is_added() {
        assert_eq!(
            composed("To: a\nSubject: x\n y\n", "Anna Example"),
            "To: a\r\nSubject: x\r\n y\r\nMessage-ID: <ID>\r\nDate: Mon, 23 Nov 2026 22:03:48 +0000\r\n\
             From: Anna Example <anna@host.example>\r\n\r\n"
        );
        let whole = "From: x\r\nDATE : y\r\nMessage-Id: z\r\n";
        assert_eq!(composed(whole, "Anna"), format!("{whole}\r\n"));
    }

    #[test]
    fn what_must_not_travel_is_taken_out() {
        let header = composed(
            "From: x\nBcc: secret@b.example,\n other@b.example\nbcc: z\nReturn-Path: <q>\nContent-Length: 3\nTo: a\n",
            "",
        );
        assert!(header.starts_with("From: x\r\nTo: a\r\nMessage-ID:"), "{header}");
        assert!(!header.contains("secret") && !header.contains("other"), "{header}");
    }

    #[test]
    fn a_message_sent_again_by_rfc5322_3_6_6() {
        let text = "Resent-To: c@d.example\nResent-Bcc: e\nFrom: x\nDate: y\nMessage-ID: z\nTo: a\nBcc: b\n";
        let header = composed(text, "");
        assert!(
            header.starts_with(
                "Resent-Message-ID: <ID>\r\nResent-Date: Mon, 23 Nov 2026 22:03:48 +0000\r\n\
                 Resent-From: anna@host.example\r\nResent-To: c@d.example\r\nFrom: x\r\n"
            ),
            "{header}"
        );
        let origin = Domain::parse("host.example").unwrap();
        let to = recipients(&fields(text), &origin).unwrap();
        assert_eq!(to.iter().map(ToString::to_string).collect::<Vec<_>>(), ["c@d.example", "e@host.example"]);
    }

    #[test]
    fn recipients_of_a_header() {
        let origin = Domain::parse("host.example").unwrap();
        let text = "To: a,\n Anna <b@c.example>\nCC: d\nBcc: e@f.example\nReply-To: no\nX-To: no\n";
        let found = recipients(&fields(text), &origin).unwrap();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["a@host.example", "b@c.example", "d@host.example", "e@f.example"]);
        assert!(recipients(&fields("To: a b c\n"), &origin).is_err());
    }

    #[test]
    fn names() {
        for (name, expected) in [
            ("", ""),
            ("root", "root"),
            ("O'Neil & Sons", "O'Neil & Sons"),
            ("John Q. Public", "\"John Q. Public\""),
            ("a \"b\" \\", "\"a \\\"b\\\" \\\\\""),
            ("Jörg", "=?utf-8?B?SsO2cmc=?="),
            ("=?utf-8?B?YQ==?=", "=?utf-8?B?PT91dGYtOD9CP1lRPT0/PQ==?="),
            ("x\r\nBcc: y@z", "\"xBcc: y@z\""),
        ] {
            assert_eq!(display_name(name), expected, "{name:?}");
        }
        let long = display_name(&"ö".repeat(60));
        assert!(long.split("\r\n ").all(|word| word.len() <= 75 && word.ends_with("?=")), "{long}");
    }
}
