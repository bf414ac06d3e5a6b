//! The search for a path from the server's certificate to an anchor (RFC 5280 6.1 with the anchor of RFC 7671 5.2):
//! every order, duplicates and strangers in the chain are allowed (H9), the work is bounded (H10).
//!
//! Our own search rather than a library's, because the anchor of DANE is a certificate with constraints of its own (CA bit,
//! path length, H7), may be a bare key (H5), and because a leaf of version 1 or with CA:TRUE is legitimate here.
//! Signatures are checked by webpki's algorithms over ring.
//!
//! What it does not: names of the leaf (see `anchor`), revocation, public roots.

use rustls_pki_types::SignatureVerificationAlgorithm;

use super::extensions::Extensions;
use super::{AnchorSource, MAX_CERTIFICATES, MAX_SIGNATURE_CHECKS, constraints};
use crate::der::{Certificate, Malformed, Reader, SEQUENCE, name_text, same_name, single};
use crate::failure::Mismatch;
use crate::tlsa::TlsaRecord;

/// An issuer that a record names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Anchor<'a> {
    /// The record.
    pub(super) record: &'a TlsaRecord,
    /// Where it was found.
    pub(super) source: AnchorSource,
    /// Its certificate; a bare key has none, and so no name and no constraints.
    pub(super) certificate: Option<Certificate<'a>>,
    /// Its key.
    pub(super) spki: &'a [u8],
}

/// One search.
pub(super) struct Search<'s, 'a> {
    anchors: &'s [Anchor<'a>],
    candidates: &'s [Certificate<'a>],
    now: i64,
    /// Signature checks that are left.
    budget: usize,
    /// The failure that went furthest, to be reported where no path holds.
    best: Option<(usize, Mismatch)>,
}

impl<'s, 'a> Search<'s, 'a> {
    pub(super) fn new(anchors: &'s [Anchor<'a>], candidates: &'s [Certificate<'a>], now: i64) -> Self {
        Self { anchors, candidates, now, budget: MAX_SIGNATURE_CHECKS, best: None }
    }

    /// The anchor that the leaf leads to, and at which depth.
    pub(super) fn find(mut self, leaf: &Certificate<'a>) -> Result<(Anchor<'a>, usize), Mismatch> {
        let mut path = vec![*leaf];
        match self.extend(&mut path) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(self.best.map_or(Mismatch::NotIssuedByAnchor, |(_, why)| why)),
            Err(TooMuchWork) => Err(Mismatch::TooMuchWork),
        }
    }

    /// Looks for an issuer of the path's last certificate: the anchors first, then the chain, depth first.
    fn extend(
        &mut self,
        path: &mut Vec<Certificate<'a>>,
    ) -> Result<Option<(Anchor<'a>, usize)>, TooMuchWork> {
        let Some(head) = path.last().copied() else { return Ok(None) };
        for anchor in self.anchors {
            let named =
                anchor.certificate.is_none_or(|certificate| same_name(certificate.subject, head.issuer));
            if !named || !self.signed_by(&head, anchor.spki)? {
                if named && anchor.certificate.is_some() && !is_supported(&head, anchor.spki) {
                    self.note(
                        path.len(),
                        Mismatch::UnsupportedSignature { subject: name_text(head.subject) },
                    );
                }
                continue;
            }
            match check_path(path, anchor, self.now) {
                Ok(()) => return Ok(Some((*anchor, path.len()))),
                Err(why) => self.note(path.len(), why),
            }
        }
        if path.len() >= MAX_CERTIFICATES {
            return Ok(None);
        }
        for candidate in self.candidates {
            let looping =
                path.iter().any(|known| known.spki == candidate.spki && known.subject == candidate.subject);
            if looping
                || !same_name(candidate.subject, head.issuer)
                || !self.signed_by(&head, candidate.spki)?
            {
                continue;
            }
            path.push(*candidate);
            let found = self.extend(path)?;
            path.pop();
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first failure at the greatest depth is the one that tells most.
    fn note(&mut self, depth: usize, why: Mismatch) {
        if self.best.as_ref().is_none_or(|(known, _)| *known < depth) {
            self.best = Some((depth, why));
        }
    }

    fn signed_by(&mut self, certificate: &Certificate<'_>, spki: &[u8]) -> Result<bool, TooMuchWork> {
        self.budget = self.budget.checked_sub(1).ok_or(TooMuchWork)?;
        Ok(signature_holds(certificate, spki))
    }
}

/// The budget is used up.
struct TooMuchWork;

/// Whether the certificate's signature was made with this key, by an algorithm that is still trusted.
fn signature_holds(certificate: &Certificate<'_>, spki: &[u8]) -> bool {
    // Two different statements of the algorithm would let two readers see two certificates (RFC 5280 4.1.1.2).
    if certificate.algorithm != certificate.inner_algorithm {
        return false;
    }
    let Some((key_algorithm, key)) = key_parts(spki) else { return false };
    algorithms()
        .filter(|known| known.signature_alg_id().as_ref() == certificate.algorithm)
        .filter(|known| known.public_key_alg_id().as_ref() == key_algorithm)
        .any(|known| known.verify_signature(key, certificate.tbs, certificate.signature).is_ok())
}

/// Whether the signature could be checked at all: its algorithm is known for this kind of key, and an RSA key is long enough.
fn is_supported(certificate: &Certificate<'_>, spki: &[u8]) -> bool {
    let Some((key_algorithm, key)) = key_parts(spki) else { return false };
    let known = algorithms().any(|known| {
        known.signature_alg_id().as_ref() == certificate.algorithm
            && known.public_key_alg_id().as_ref() == key_algorithm
    });
    known && (key_algorithm.first_chunk() != Some(RSA_PREFIX) || key.len() >= RSA_2048_KEY_OCTETS)
}

/// The beginning of rsaEncryption's object identifier: tag, length, 1.2.840.113549.1.1.1.
const RSA_PREFIX: &[u8; 11] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// Octets of the smallest RSAPublicKey structure with a modulus of 2048 bits.
const RSA_2048_KEY_OCTETS: usize = 260;

/// The signature algorithms that webpki offers over ring: ECDSA, Ed25519, RSA PKCS#1 and PSS from 2048 bits, SHA-2 only.
fn algorithms() -> impl Iterator<Item = &'static dyn SignatureVerificationAlgorithm> {
    webpki::ALL_VERIFICATION_ALGS.iter().copied()
}

/// Content of the algorithm, and the key's octets.
pub(crate) fn key_parts(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = Reader::new(single(spki, SEQUENCE)?.content);
    let algorithm = fields.next()?.content;
    let key = fields.next()?.content.get(1..)?;
    Some((algorithm, key))
}

/// The rules for the certificates of a path whose signatures hold (H2, H7, H8).
fn check_path(path: &[Certificate<'_>], anchor: &Anchor<'_>, now: i64) -> Result<(), Mismatch> {
    let unreadable = |position: usize, error: Malformed| Mismatch::Unreadable { position, field: error.0 };
    let mut whole: Vec<(Certificate<'_>, Extensions<'_>)> = Vec::new();
    for (position, certificate) in path.iter().copied().chain(anchor.certificate).enumerate() {
        let extensions = Extensions::read(&certificate).map_err(|error| unreadable(position, error))?;
        whole.push((certificate, extensions));
    }
    for (position, (certificate, _)) in whole.iter().enumerate().take(path.len()) {
        check_dates(certificate, position, now)?;
    }
    // Non-self-issued intermediates below the certificate at hand (RFC 5280 4.2.1.9).
    let mut below = 0_u32;
    for (position, (certificate, extensions)) in whole.iter().enumerate() {
        let subject = || name_text(certificate.subject);
        if extensions.unknown_critical {
            return Err(Mismatch::CriticalExtension { subject: subject() });
        }
        if extensions.server_auth == Some(false) {
            return Err(Mismatch::WrongUsage { subject: subject() });
        }
        if position == 0 {
            if !extensions.may_serve_tls() {
                return Err(Mismatch::WrongUsage { subject: subject() });
            }
            continue;
        }
        if !extensions.may_issue(certificate, position + 1 == whole.len()) {
            return Err(Mismatch::NotACertificateAuthority { subject: subject() });
        }
        if extensions.path_length.is_some_and(|most| below > most) {
            return Err(Mismatch::PathTooLong { subject: subject() });
        }
        if !certificate.is_self_issued() {
            below += 1;
        }
    }
    check_constraints(&whole)
}

/// Dates count below the anchor, not at it (H2, H8).
fn check_dates(certificate: &Certificate<'_>, position: usize, now: i64) -> Result<(), Mismatch> {
    let dates = certificate.dates().map_err(|error| Mismatch::Unreadable { position, field: error.0 })?;
    let (not_before, not_after) = dates;
    if now < not_before {
        return Err(Mismatch::NotYetValid { subject: name_text(certificate.subject), not_before });
    }
    if now > not_after {
        return Err(Mismatch::Expired { subject: name_text(certificate.subject), not_after });
    }
    Ok(())
}

/// The name constraints of each issuer bind all certificates below it, self-issued intermediates excepted
/// (RFC 5280 4.2.1.10).
fn check_constraints(path: &[(Certificate<'_>, Extensions<'_>)]) -> Result<(), Mismatch> {
    let mut budget = constraints::MAX_COMPARISONS;
    for (level, (issuer, extensions)) in path.iter().enumerate().skip(1) {
        let Some(value) = extensions.name_constraints else { continue };
        for (position, (certificate, _)) in path.iter().enumerate().take(level) {
            if position > 0 && certificate.is_self_issued() {
                continue;
            }
            match constraints::allowed(value, certificate, position == 0, &mut budget) {
                Ok(true) => {}
                Ok(false) => return Err(Mismatch::NameConstraint { subject: name_text(issuer.subject) }),
                Err(error) => return Err(Mismatch::Unreadable { position: level, field: error.0 }),
            }
        }
    }
    Ok(())
}
