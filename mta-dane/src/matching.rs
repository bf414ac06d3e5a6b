//! Whether a record's data names a certificate (RFC 6698 2.1, RFC 7671 5).
//!
//! What it does not: it asks neither whether the record is usable nor what a match is worth; `verify` does.

use std::cell::OnceCell;

use ring::digest::{Algorithm, Digest, SHA256, SHA512, digest};

use crate::tlsa::{Matching, Selector, TlsaRecord};

/// A certificate's two selectable parts with their digests, each computed once however many records ask for it: a zone may
/// publish hundreds, a server may send 64 KiB.
#[derive(Debug)]
pub struct Subject<'a> {
    certificate: Part<'a>,
    spki: Part<'a>,
}

#[derive(Debug)]
struct Part<'a> {
    bytes: &'a [u8],
    sha256: OnceCell<Digest>,
    sha512: OnceCell<Digest>,
}

impl<'a> Part<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, sha256: OnceCell::new(), sha512: OnceCell::new() }
    }

    fn hashed<'s>(&'s self, cell: &'s OnceCell<Digest>, algorithm: &'static Algorithm) -> &'s [u8] {
        cell.get_or_init(|| digest(algorithm, self.bytes)).as_ref()
    }
}

impl<'a> Subject<'a> {
    /// From the whole DER of a certificate and of its SubjectPublicKeyInfo.
    pub fn new(certificate: &'a [u8], spki: &'a [u8]) -> Self {
        Self { certificate: Part::new(certificate), spki: Part::new(spki) }
    }

    /// Whether a record's data names it. An undefined selector or matching type, or empty data, names nothing.
    pub fn is_named_by(&self, record: &TlsaRecord) -> bool {
        let part = match record.selector {
            Selector::Cert => &self.certificate,
            Selector::Spki => &self.spki,
            Selector::Unassigned(_) | Selector::PrivSel => return false,
        };
        if record.data.is_empty() {
            return false;
        }
        match record.matching {
            Matching::Full => record.data == part.bytes,
            Matching::Sha256 => record.data == part.hashed(&part.sha256, &SHA256),
            Matching::Sha512 => record.data == part.hashed(&part.sha512, &SHA512),
            Matching::Unassigned(_) | Matching::PrivMatch => false,
        }
    }
}

/// The data of the `3 1 1` (or any other digest) record that would name these bytes, in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
