//! The offline judge behind `mta-cli tlsa verify`: TLSA records as text, a chain, names and a time in; a verdict out.
//! It is the delivery's own code path: the same selection of records and the same verification.
//!
//! What it does not: read files, arguments or clocks.

use rustls_pki_types::CertificateDer;

use crate::failure::Mismatch;
use crate::reference::ReferenceId;
use crate::tlsa::{DigestOrder, ParseError, Selection, TlsaRecord, Unusable, select};
use crate::verify::{self, Matched, SeenCertificate, Verdict};

/// What the judge says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The chain satisfies this record.
    Match(Matched),
    /// It satisfies none of the usable records.
    NoMatch(Mismatch),
    /// No record is usable: a sender would demand TLS and could authenticate nothing (RFC 7672 2.2).
    Unusable(Vec<(TlsaRecord, Unusable)>),
}

impl Outcome {
    /// `match`, `no-match` or `unusable`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Match(_) => "match",
            Self::NoMatch(_) => "no-match",
            Self::Unusable(_) => "unusable",
        }
    }

    /// The exit code of the verb: 0, 1 or 3.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Match(_) => 0,
            Self::NoMatch(_) => 1,
            Self::Unusable(_) => 3,
        }
    }

    /// One sentence that says why.
    pub fn reason(&self) -> String {
        match self {
            Self::Match(matched) => matched.to_string(),
            Self::NoMatch(why) => why.to_string(),
            Self::Unusable(records) => {
                let reasons: Vec<String> =
                    records.iter().map(|(record, why)| format!("\"{}\": {why}", record.short())).collect();
                format!("no record is usable: {}", reasons.join("; "))
            }
        }
    }
}

/// A verdict with what it was reached from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What the judge says.
    pub outcome: Outcome,
    /// Which records were matched against, superseded by a stronger digest, or unusable.
    pub selection: Selection,
    /// The chain as presented.
    pub seen: Vec<SeenCertificate>,
}

/// Reads the records of a command line.
///
/// # Errors
/// Which text is no record, counted from 0, and why.
pub fn parse_records<'a>(
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<TlsaRecord>, (usize, ParseError)> {
    texts.into_iter().enumerate().map(|(index, text)| text.parse().map_err(|error| (index, error))).collect()
}

/// Judges a chain (the server's certificate first) at a time in seconds since 1970. Without reference identifiers no
/// DANE-TA(2) record can match, as no name can.
pub fn judge(records: &[TlsaRecord], chain: &[CertificateDer<'_>], ids: &[ReferenceId], now: i64) -> Report {
    let selection = select(records, &DigestOrder::default());
    let judgement = verify::judge(&selection.records, chain, ids, now);
    let outcome = match judgement.verdict {
        _ if selection.records.is_empty() => Outcome::Unusable(selection.unusable.clone()),
        Verdict::Match(matched) => Outcome::Match(matched),
        Verdict::NoMatch(why) => Outcome::NoMatch(why),
    };
    Report { outcome, selection, seen: judgement.seen }
}
