//! The names in a server's certificate (RFC 7672 3.2.3, RFC 9525): DNS-IDs, and CN-IDs only where there is no DNS-ID.
//!
//! What it does not: IP addresses, URIs and everything else in a certificate never count (I10).

use super::extensions::{SUBJECT_ALT_NAME, find};
use crate::der::{COMMON_NAME, Certificate, Malformed, Reader, SEQUENCE, attributes, single};
use crate::reference::ReferenceId;

/// The presented identifiers of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Presented<'a> {
    /// The names.
    pub(super) names: Vec<&'a [u8]>,
    /// Whether they are CN-IDs, for want of a DNS-ID.
    pub(super) common: bool,
}

/// Reads the presented identifiers (I7).
pub(super) fn presented<'a>(certificate: &Certificate<'a>) -> Result<Presented<'a>, Malformed> {
    let mut names = Vec::new();
    if let Some(extension) = find(certificate, SUBJECT_ALT_NAME)? {
        for (tag, content) in general_names(extension.value)? {
            if tag == DNS_NAME {
                names.push(content);
            }
        }
    }
    if !names.is_empty() {
        return Ok(Presented { names, common: false });
    }
    let common = attributes(certificate.subject).into_iter().filter(|(oid, _)| *oid == COMMON_NAME);
    Ok(Presented { names: common.map(|(_, value)| value).collect(), common: true })
}

/// The first reference identifier that the certificate has.
pub(super) fn matching(presented: &Presented<'_>, ids: &[ReferenceId]) -> Option<ReferenceId> {
    ids.iter().find(|id| presented.names.iter().any(|name| id.matches(name))).cloned()
}

/// The presented identifiers as text for people: escaped and bounded.
pub(super) fn shown(certificate: &Certificate<'_>) -> Vec<String> {
    let presented = presented(certificate).map(|presented| presented.names).unwrap_or_default();
    presented
        .into_iter()
        .take(MAX_SHOWN_NAMES)
        .map(|name| {
            name.get(..name.len().min(MAX_SHOWN_BYTES)).unwrap_or_default().escape_ascii().to_string()
        })
        .collect()
}

/// The (tag, content) pairs of a GeneralNames sequence.
pub(super) fn general_names(value: &[u8]) -> Result<Vec<(u8, &[u8])>, Malformed> {
    const FIELD: Malformed = Malformed("subject alternative names");
    let mut list = Reader::new(single(value, SEQUENCE).ok_or(FIELD)?.content);
    let mut names = Vec::new();
    while !list.is_empty() {
        let element = list.next().ok_or(FIELD)?;
        names.push((element.tag, element.content));
    }
    Ok(names)
}

/// GeneralName choices by tag (RFC 5280 4.2.1.6).
pub(super) const EMAIL: u8 = 0x81;
pub(super) const DNS_NAME: u8 = 0x82;
pub(super) const DIRECTORY_NAME: u8 = 0xa4;
pub(super) const URI: u8 = 0x86;
pub(super) const IP_ADDRESS: u8 = 0x87;

const MAX_SHOWN_NAMES: usize = 16;
const MAX_SHOWN_BYTES: usize = 255;
