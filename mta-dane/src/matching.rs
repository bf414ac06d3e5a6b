//! Whether a record's data names a certificate (RFC 6698 2.1, RFC 7671 5).
//!
//! What it does not: it asks neither whether the record is usable nor what a match is worth; `verify` does.

use ring::digest::{SHA256, SHA512, digest};

use crate::tlsa::{Matching, Selector, TlsaRecord};

/// Compares a record with a certificate, given as its whole DER and its SubjectPublicKeyInfo's DER. An undefined selector
/// or matching type matches nothing.
pub fn matches(record: &TlsaRecord, certificate: &[u8], spki: &[u8]) -> bool {
    let selected = match record.selector {
        Selector::Cert => certificate,
        Selector::Spki => spki,
        Selector::Unassigned(_) | Selector::PrivSel => return false,
    };
    if record.data.is_empty() {
        return false;
    }
    match record.matching {
        Matching::Full => record.data == selected,
        Matching::Sha256 => record.data == digest(&SHA256, selected).as_ref(),
        Matching::Sha512 => record.data == digest(&SHA512, selected).as_ref(),
        Matching::Unassigned(_) | Matching::PrivMatch => false,
    }
}

/// The data of the `3 1 1` (or any other digest) record that would name these bytes, in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
