//! DANE-TA(2): which issuers the records name, and whether the server's certificate leads to one of them and has one of
//! the reference identifiers (RFC 7671 5.2, RFC 7672 3.1.2, 3.2).
//!
//! What it does not: it tries no public roots (H3), and never takes the server's certificate for its own issuer (H1a).

use rustls_pki_types::CertificateDer;

use super::names;
use super::path::{Anchor, Search};
use super::{AnchorSource, Matched};
use crate::der::Certificate;
use crate::failure::Mismatch;
use crate::matching::Subject;
use crate::reference::ReferenceId;
use crate::tlsa::{Matching, Selector, TlsaRecord};

/// Judges usable DANE-TA(2) records. The records' order does not matter.
pub(super) fn judge(
    records: &[&TlsaRecord],
    chain: &[CertificateDer<'_>],
    ids: &[ReferenceId],
    now: i64,
) -> Result<Matched, Mismatch> {
    let (leaf_der, others) = chain.split_first().ok_or(Mismatch::NoCertificate)?;
    let leaf = Certificate::parse(leaf_der).map_err(|e| Mismatch::Unreadable { position: 0, field: e.0 })?;
    // A stranger in the chain that cannot be read is no issuer of anything; it is left out (H9).
    let issuers: Vec<(usize, Certificate<'_>)> = others
        .iter()
        .enumerate()
        .filter(|(_, der)| *der != leaf_der)
        .filter_map(|(index, der)| Some((index + 1, Certificate::parse(der).ok()?)))
        .collect();
    let anchors = anchors(records, &issuers, &leaf);
    if anchors.is_empty() {
        return Err(Mismatch::NothingMatches { only_dane_ee: false, hint: None });
    }
    let candidates: Vec<Certificate<'_>> = issuers.iter().map(|(_, certificate)| *certificate).collect();
    let (anchor, depth) = Search::new(&anchors, &candidates, now).find(&leaf)?;
    let name = check_name(&leaf, ids)?;
    let out_of_date = anchor
        .certificate
        .and_then(|certificate| certificate.dates().ok())
        .is_some_and(|(not_before, not_after)| now < not_before || now > not_after);
    Ok(Matched {
        record: anchor.record.clone(),
        depth,
        anchor: Some(anchor.source),
        name: Some(name),
        anchor_out_of_date: out_of_date,
    })
}

/// The issuers named by the records: certificates of the chain first, then those in the records themselves, then bare keys.
/// The server's own certificate is never among them (H1a), sent twice or carried by a record.
fn anchors<'a>(
    records: &[&'a TlsaRecord],
    issuers: &[(usize, Certificate<'a>)],
    leaf: &Certificate<'_>,
) -> Vec<Anchor<'a>> {
    let mut found = Vec::new();
    for (position, certificate) in issuers {
        let subject = Subject::new(certificate.der, certificate.spki);
        if let Some(record) = records.iter().find(|record| subject.is_named_by(record)) {
            let source = AnchorSource::Chain(*position);
            found.push(Anchor { record, source, certificate: Some(*certificate), spki: certificate.spki });
        }
    }
    for record in records.iter().filter(|record| record.matching == Matching::Full) {
        let certificate = match record.selector {
            Selector::Cert => Certificate::parse(&record.data).ok(),
            _ => None,
        };
        // A key that the chain holds as a certificate is judged as that certificate, with its constraints (RFC 7671 5.2.3).
        let known = |anchor: &Anchor<'_>| match certificate {
            Some(certificate) => anchor.certificate.is_some_and(|known| known.der == certificate.der),
            None => anchor.spki == record.data,
        };
        let is_leaf = certificate.is_some_and(|certificate| certificate.der == leaf.der);
        if is_leaf || found.iter().any(known) {
            continue;
        }
        match certificate {
            Some(certificate) => {
                let (source, spki) = (AnchorSource::Record, certificate.spki);
                found.push(Anchor { record, source, certificate: Some(certificate), spki });
            }
            None if record.selector == Selector::Spki => {
                let source = AnchorSource::BareKey;
                found.push(Anchor { record, source, certificate: None, spki: &record.data });
            }
            None => {}
        }
    }
    found
}

/// The name check that only DANE-TA(2) has (RFC 7672 3.2).
fn check_name(leaf: &Certificate<'_>, ids: &[ReferenceId]) -> Result<ReferenceId, Mismatch> {
    let presented = names::presented(leaf).map_err(|e| Mismatch::Unreadable { position: 0, field: e.0 })?;
    names::matching(&presented, ids).ok_or_else(|| Mismatch::Name {
        expected: ids.iter().map(ToString::to_string).collect(),
        presented: names::shown(leaf),
    })
}
