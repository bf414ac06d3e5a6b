//! Signing a message (RFC 6376 5): the fields, their canonical form, the signature's own field.
//!
//! Always relaxed/relaxed, since mail is refolded on its way; never `l=`. Fields that a reader sees are covered once more
//! than they are there, so that nobody can add another (RFC 6376 8.15).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::key::Key;
use crate::content::header::{Field, Header};

/// Covered where they are there, and once more.
const OVERSIGNED: [&str; 12] = [
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "reply-to",
    "sender",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "in-reply-to",
];

/// Covered where they are there.
const COVERED: [&str; 11] = [
    "references",
    "list-id",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "list-post",
    "list-help",
    "autocrypt",
    "resent-from",
    // RFC 8460 5.3.
    "tls-report-domain",
    "tls-report-submitter",
    "tls-required",
];

/// Fields of one name that are covered; a message with more of them is signed as far as that.
const MAX_OF_ONE_NAME: usize = 20;

/// Where lines are folded.
const LINE_OCTETS: usize = 72;

/// Who signs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signer<'a> {
    /// `d=`.
    pub(super) domain: &'a str,
    /// `s=`.
    pub(super) selector: &'a str,
    /// The key.
    pub(super) key: &'a Key,
}

/// The field for a message whose body has this hash.
///
/// # Errors
/// The key does not sign, in words.
pub(super) fn signature(
    signer: &Signer<'_>,
    header: &Header,
    body_hash: &[u8],
    now_seconds: u64,
) -> Result<String, String> {
    message_signature("DKIM-Signature: v=1", signer, header, &[], body_hash, now_seconds)
}

/// The field that begins so and covers what [`covered`] says; the form is the same for DKIM and ARC (RFC 8617 4.1.2).
pub(super) fn message_signature(
    begins: &str,
    signer: &Signer<'_>,
    header: &Header,
    more: &[&'static str],
    body_hash: &[u8],
    now_seconds: u64,
) -> Result<String, String> {
    let covered = covered(header, more);
    let names: Vec<&str> = covered.iter().map(|(name, _)| *name).collect();
    let start = format!(
        "{begins}; a={}; c=relaxed/relaxed;\r\n\td={}; s={};\r\n\tt={now_seconds}; bh={};\r\n\th={};\r\n\tb=",
        signer.key.algorithm().tag(),
        signer.domain,
        signer.selector,
        STANDARD.encode(body_hash),
        fold(&names.join(":"), Some(':')),
    );
    let mut data = Vec::new();
    covered.iter().filter_map(|(_, field)| field.as_ref()).for_each(|field| relaxed(field, &mut data));
    seal(&start, signer.key, data)
}

/// Signs `data` and the field that begins so, and ends the field with the signature.
pub(super) fn seal(start: &str, key: &Key, mut data: Vec<u8>) -> Result<String, String> {
    let (own, _) = Header::split(start.as_bytes());
    own.fields().for_each(|field| relaxed(&field, &mut data));
    // RFC 6376 3.7: the signature's own field comes last and without its line end.
    data.truncate(data.trim_ascii_end().len());
    let signature = STANDARD.encode(key.sign(&data)?);
    Ok(format!("{start}{}\r\n", fold(&signature, None)))
}

/// What is covered, in order, and `more` besides: each name with its field, or with none for the one that must not be
/// added.
fn covered<'a>(header: &'a Header, more: &[&'static str]) -> Vec<(&'static str, Option<Field<'a>>)> {
    let mut covered = Vec::new();
    for name in OVERSIGNED.into_iter().chain(COVERED).chain(more.iter().copied()) {
        let mut of_name: Vec<Field<'_>> = header.all(name).collect();
        // RFC 6376 5.4.2: from the bottom up.
        of_name.reverse();
        of_name.truncate(MAX_OF_ONE_NAME);
        covered.extend(of_name.into_iter().map(|field| (name, Some(field))));
        if OVERSIGNED.contains(&name) {
            covered.push((name, None));
        }
    }
    covered
}

/// A field in relaxed canonicalization (RFC 6376 3.4.2).
pub(super) fn relaxed(field: &Field<'_>, out: &mut Vec<u8>) {
    out.extend(field.name.iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let mut blank = false;
    let start = out.len();
    for octet in field.value {
        match octet {
            b' ' | b'\t' | b'\r' | b'\n' => blank = true,
            octet => {
                if blank && out.len() > start {
                    out.push(b' ');
                }
                blank = false;
                out.push(*octet);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// A long value on several lines; broken behind a separator, or anywhere where there is none.
pub(super) fn fold(text: &str, separator: Option<char>) -> String {
    let (mut folded, mut octets) = (String::new(), 0);
    let pieces: Vec<&str> = match separator {
        Some(separator) => text.split_inclusive(separator).collect(),
        None => {
            text.as_bytes().chunks(LINE_OCTETS).filter_map(|piece| std::str::from_utf8(piece).ok()).collect()
        }
    };
    for piece in pieces {
        if octets > 0 && octets + piece.len() > LINE_OCTETS {
            folded.push_str("\r\n\t ");
            octets = 0;
        }
        folded.push_str(piece);
        octets += piece.len();
    }
    folded
}
