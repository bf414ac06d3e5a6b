//! Whether a presented chain satisfies usable TLSA records (RFC 7672 3.1, RFC 7671 5): DANE-EE(3) against the server's own
//! certificate and nothing else, DANE-TA(2) through a path of valid signatures to the named issuer.
//!
//! What it does not: it consults no public root, no revocation list and no clock; possession of the key is proved by the
//! handshake signature, which `verifier` checks.

mod anchor;
mod constraints;
mod extensions;
mod names;
mod path;

pub(crate) use path::key_parts;

use std::fmt;

use rustls_pki_types::CertificateDer;

use crate::der::{Certificate, name_text};
use crate::failure::{Hint, Mismatch};
use crate::matching::{Subject, sha256_hex};
use crate::reference::ReferenceId;
use crate::tlsa::{Selector, TlsaRecord, Usage};

/// Where the issuer that a DANE-TA(2) record names was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnchorSource {
    /// In the chain the server sent, at this position (0 is the server's certificate).
    Chain(usize),
    /// In the record itself: `2 0 0`, absent from the chain (H4).
    Record,
    /// In the record itself, as a bare key: `2 1 0`, absent from the chain (H5).
    BareKey,
}

/// A record that the chain satisfies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// The record.
    pub record: TlsaRecord,
    /// 0 for the server's certificate; for DANE-TA(2) how many signatures lead from it to the anchor.
    pub depth: usize,
    /// For DANE-TA(2): where the anchor was found.
    pub anchor: Option<AnchorSource>,
    /// For DANE-TA(2): the reference identifier that was found in the certificate.
    pub name: Option<ReferenceId>,
    /// For DANE-TA(2): the anchor's own dates do not include now. That is accepted and worth a log line (H8).
    pub anchor_out_of_date: bool,
}

impl fmt::Display for Matched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.record.short();
        match (&self.anchor, &self.name) {
            (Some(source), Some(name)) => {
                let at = match source {
                    AnchorSource::Chain(position) => format!("certificate {position} of the chain"),
                    AnchorSource::Record => "the issuer it carries".to_owned(),
                    AnchorSource::BareKey => "the issuer's key it carries".to_owned(),
                };
                write!(
                    f,
                    "TLSA {short} names {at}, which issued the certificate of {name} (depth {})",
                    self.depth
                )?;
            }
            _ => write!(f, "TLSA {short} matches the server's certificate")?,
        }
        if self.anchor_out_of_date {
            f.write_str("; the issuer's own dates are past, which is allowed")
        } else {
            Ok(())
        }
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The server is authenticated.
    Match(Matched),
    /// It is not.
    NoMatch(Mismatch),
}

/// One certificate as it was presented, for stories and reports. Text comes from a stranger; it is escaped already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenCertificate {
    /// Subject name as text.
    pub subject: String,
    /// Issuer name as text.
    pub issuer: String,
    /// The names it could be known by (DNS-IDs, or CN-IDs where there is none), bounded.
    pub names: Vec<String>,
    /// Not before and not after, in seconds since 1970, where readable.
    pub dates: Option<(i64, i64)>,
    /// SHA-256 of the whole certificate in hexadecimal: the data of `x 0 1`.
    pub cert_sha256: String,
    /// SHA-256 of its SubjectPublicKeyInfo in hexadecimal: the data of `x 1 1`. None where no key can be found.
    pub spki_sha256: Option<String>,
}

/// A verdict and what it was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What was decided.
    pub verdict: Verdict,
    /// The chain as it was presented, at most `MAX_SEEN` certificates of it.
    pub seen: Vec<SeenCertificate>,
}

impl Judgement {
    /// The match, if there is one.
    pub fn matched(&self) -> Option<&Matched> {
        match &self.verdict {
            Verdict::Match(matched) => Some(matched),
            Verdict::NoMatch(_) => None,
        }
    }
}

/// Judges a chain (the server's certificate first) against records and reference identifiers at a time in seconds since
/// 1970. DANE-EE(3) is tried first; any one match is enough (H11). Records that are not usable match nothing.
pub fn judge(
    records: &[TlsaRecord],
    chain: &[CertificateDer<'_>],
    ids: &[ReferenceId],
    now: i64,
) -> Judgement {
    Judgement { verdict: verdict(records, chain, ids, now), seen: seen(chain) }
}

fn verdict(records: &[TlsaRecord], chain: &[CertificateDer<'_>], ids: &[ReferenceId], now: i64) -> Verdict {
    let Some(leaf) = chain.first() else { return Verdict::NoMatch(Mismatch::NoCertificate) };
    if let Some(record) = end_entity_match(records, leaf) {
        let record = record.clone();
        return Verdict::Match(Matched {
            record,
            depth: 0,
            anchor: None,
            name: None,
            anchor_out_of_date: false,
        });
    }
    let of_anchors: Vec<&TlsaRecord> =
        records.iter().filter(|record| record.usage == Usage::DaneTa && record.usable().is_ok()).collect();
    if of_anchors.is_empty() {
        return Verdict::NoMatch(nothing_matches(records, chain));
    }
    let bytes = chain.iter().map(|certificate| certificate.len()).sum();
    if chain.len() > MAX_CERTIFICATES || bytes > MAX_CHAIN_BYTES {
        return Verdict::NoMatch(Mismatch::ChainTooLarge { certificates: chain.len(), bytes });
    }
    match anchor::judge(&of_anchors, chain, ids, now) {
        Ok(matched) => Verdict::Match(matched),
        Err(Mismatch::NothingMatches { .. }) => Verdict::NoMatch(nothing_matches(records, chain)),
        Err(why) => Verdict::NoMatch(why),
    }
}

/// DANE-EE(3): the first certificate only (G1); no name (G2), no date (G3), no chain, no extension (G4).
fn end_entity_match<'r>(records: &'r [TlsaRecord], leaf: &CertificateDer<'_>) -> Option<&'r TlsaRecord> {
    let subject = Subject::new(leaf, Certificate::parse(leaf).ok()?.spki);
    records.iter().find(|record| {
        record.usage == Usage::DaneEe && record.usable().is_ok() && subject.is_named_by(record)
    })
}

/// Says that nothing matches, and looks whether a common slip explains it.
fn nothing_matches(records: &[TlsaRecord], chain: &[CertificateDer<'_>]) -> Mismatch {
    let mut hint = None;
    for (position, der) in chain.iter().take(MAX_SEEN).enumerate() {
        let Ok(certificate) = Certificate::parse(der) else { continue };
        let subject = Subject::new(der, certificate.spki);
        for record in records.iter().filter(|record| record.usable().is_ok()) {
            let swapped = match record.selector {
                Selector::Cert => TlsaRecord { selector: Selector::Spki, ..record.clone() },
                _ => TlsaRecord { selector: Selector::Cert, ..record.clone() },
            };
            let named = subject.is_named_by(record);
            let found = match (record.usage, position) {
                (Usage::DaneEe, 1..) if named => Some(Hint::EndEntityNamesIssuer),
                (Usage::DaneTa, 0) if named => Some(Hint::AnchorNamesServer),
                (Usage::DaneEe, 0) | (Usage::DaneTa, 1..) if subject.is_named_by(&swapped) => {
                    Some(Hint::OtherSelector)
                }
                _ => None,
            };
            hint = hint.or(found);
        }
    }
    Mismatch::NothingMatches {
        only_dane_ee: records.iter().all(|record| record.usage == Usage::DaneEe),
        hint,
    }
}

/// Describes a chain for the decision record.
pub fn seen(chain: &[CertificateDer<'_>]) -> Vec<SeenCertificate> {
    let describe = |der: &CertificateDer<'_>| {
        let parsed = Certificate::parse(der).ok();
        SeenCertificate {
            subject: parsed.map_or_else(unreadable, |certificate| name_text(certificate.subject)),
            issuer: parsed.map_or_else(unreadable, |certificate| name_text(certificate.issuer)),
            names: parsed.map(|certificate| names::shown(&certificate)).unwrap_or_default(),
            dates: parsed.and_then(|certificate| certificate.dates().ok()),
            cert_sha256: sha256_hex(der),
            spki_sha256: parsed.map(|certificate| sha256_hex(certificate.spki)),
        }
    };
    chain.iter().take(MAX_SEEN).map(describe).collect()
}

fn unreadable() -> String {
    "(unreadable)".to_owned()
}

/// Most certificates of a chain that DANE-TA(2) looks at (H10).
pub const MAX_CERTIFICATES: usize = 16;
/// Most bytes of a chain that DANE-TA(2) looks at (H10).
pub const MAX_CHAIN_BYTES: usize = 64 * 1024;
/// Most signature checks for one judgement (H10).
pub const MAX_SIGNATURE_CHECKS: usize = 100;
/// Most certificates that are described.
pub const MAX_SEEN: usize = 8;
