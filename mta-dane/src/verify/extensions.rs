//! The extensions that decide whether a certificate may stand in a DANE-TA(2) path (RFC 5280 4.2, 6.1).
//!
//! What it does not: certificate policies are not evaluated; no policy is demanded, so none can fail.

use crate::der::{
    BIT_STRING, BOOLEAN, Certificate, Extension, INTEGER, Malformed, OID, Reader, SEQUENCE, single,
};

/// What the extensions of one certificate say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Extensions<'a> {
    /// cA of the basic constraints; `None` without that extension.
    pub(super) ca: Option<bool>,
    /// Path length constraint: how many non-self-issued intermediates may follow.
    pub(super) path_length: Option<u32>,
    /// The first two octets of the key usage bits, if there is that extension.
    pub(super) key_usage: Option<u16>,
    /// Whether TLS servers are among the extended key usages, if there is that extension.
    pub(super) server_auth: Option<bool>,
    /// The name constraints, unread.
    pub(super) name_constraints: Option<&'a [u8]>,
    /// A critical extension that is not understood.
    pub(super) unknown_critical: bool,
}

impl<'a> Extensions<'a> {
    /// Reads what counts.
    pub(super) fn read(certificate: &Certificate<'a>) -> Result<Self, Malformed> {
        let mut read = Self::default();
        for extension in certificate.extensions()? {
            read.take(extension)?;
        }
        Ok(read)
    }

    fn take(&mut self, extension: Extension<'a>) -> Result<(), Malformed> {
        match extension.oid {
            BASIC_CONSTRAINTS => self.basic_constraints(extension.value)?,
            KEY_USAGE => self.key_usage = Some(key_usage(extension.value)?),
            EXTENDED_KEY_USAGE => self.server_auth = Some(has_server_auth(extension.value)?),
            NAME_CONSTRAINTS => self.name_constraints = Some(extension.value),
            // Names are read where they are compared; a list that cannot be read is refused there and here.
            SUBJECT_ALT_NAME => super::names::general_names(extension.value).map(|_| ())?,
            oid => self.unknown_critical |= extension.critical && !HARMLESS.contains(&oid),
        }
        Ok(())
    }

    fn basic_constraints(&mut self, value: &[u8]) -> Result<(), Malformed> {
        const FIELD: Malformed = Malformed("basic constraints");
        let mut fields = Reader::new(single(value, SEQUENCE).ok_or(FIELD)?.content);
        self.ca = Some(fields.optional(BOOLEAN).is_some_and(|flag| flag.content != [0]));
        if let Some(length) = fields.optional(INTEGER) {
            // A negative length cannot be met; one that fills four octets limits nothing.
            self.path_length = match length.content {
                [] => return Err(FIELD),
                [first, ..] if first & 0x80 != 0 => return Err(FIELD),
                octets if octets.len() <= 4 => {
                    Some(octets.iter().fold(0, |sum, octet| sum << 8 | u32::from(*octet)))
                }
                _ => Some(u32::MAX),
            };
        }
        if fields.is_empty() { Ok(()) } else { Err(FIELD) }
    }

    /// Whether the certificate may issue others: basic constraints say so and key usage, if stated, agrees
    /// (RFC 5280 6.1.4). At the top of the path, which the record vouches for, key usage alone is enough, and so is the old form of
    /// a root (version 1, self-issued): OpenSSL draws the same line.
    pub(super) fn may_issue(&self, certificate: &Certificate<'_>, top: bool) -> bool {
        let signs = self.key_usage.map(|bits| bits & KEY_CERT_SIGN != 0);
        match (self.ca, signs) {
            (_, Some(false)) | (Some(false), _) => false,
            (Some(true), _) => true,
            (None, Some(true)) => top,
            (None, None) => top && certificate.version == 1 && certificate.is_self_issued(),
        }
    }

    /// Whether a TLS server may use the key: one of the three usages of a TLS key where key usage is stated (RFC 5280 4.2.1.3).
    pub(super) fn may_serve_tls(&self) -> bool {
        self.key_usage.is_none_or(|bits| bits & TLS_SERVER_USAGES != 0)
    }
}

/// One extension of a certificate.
pub(super) fn find<'a>(
    certificate: &Certificate<'a>,
    oid: &[u8],
) -> Result<Option<Extension<'a>>, Malformed> {
    Ok(certificate.extensions()?.into_iter().find(|extension| extension.oid == oid))
}

fn key_usage(value: &[u8]) -> Result<u16, Malformed> {
    match single(value, BIT_STRING).map(|bits| bits.content) {
        Some([0..=7, first, rest @ ..]) => {
            Ok(u16::from(*first) << 8 | u16::from(*rest.first().unwrap_or(&0)))
        }
        Some([0]) => Ok(0),
        _ => Err(Malformed("key usage")),
    }
}

fn has_server_auth(value: &[u8]) -> Result<bool, Malformed> {
    const FIELD: Malformed = Malformed("extended key usage");
    let mut list = Reader::new(single(value, SEQUENCE).ok_or(FIELD)?.content);
    let mut found = false;
    while !list.is_empty() {
        found |= list.expect(OID, FIELD.0)?.content == SERVER_AUTH;
    }
    Ok(found)
}

/// The bit for certificate signing, counted in the first octet of two.
const KEY_CERT_SIGN: u16 = 0x0400;
/// digitalSignature, keyEncipherment, keyAgreement.
const TLS_SERVER_USAGES: u16 = 0x8000 | 0x2000 | 0x0800;

const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
pub(super) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// id-kp-serverAuth, 1.3.6.1.5.5.7.3.1.
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// Extensions that may be critical and change nothing here: certificate policies, policy mappings, policy constraints,
/// inhibit-any-policy (no policy is demanded), CRL distribution points (no revocation), OCSP no-check.
const HARMLESS: &[&[u8]] = &[
    &[0x55, 0x1d, 0x20],
    &[0x55, 0x1d, 0x21],
    &[0x55, 0x1d, 0x24],
    &[0x55, 0x1d, 0x36],
    &[0x55, 0x1d, 0x1f],
    &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x05],
];
