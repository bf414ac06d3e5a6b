//! Checks by hand: one lookup, one judgement, with the very code of a delivery, and their results in words.
//!
//! It sends no mail and keeps no state.

mod make;

use std::sync::Arc;

use mta_dane::judge::{self, Outcome};
use mta_dane::reference::ReferenceId;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;

use crate::auth::dkim::{Published, Stored, published};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::control::rfc3339_of;
use crate::dns::{InvalidQuestion, LookupReport, Resolver, Service, lookup_report};
use crate::outbound::{explain, served};
use crate::report::tlsrpt::{self, Nowhere};

pub(crate) use self::make::own_certificate;
pub use self::make::{Made, MakeQuestion, Source, tlsa_make};
pub use crate::outbound::served::{CheckQuestion, Checked};

/// Certificates read from one file at most; a server that sends more is refused in a delivery too.
const MAX_CHAIN: usize = 100;

/// What is to be judged.
#[derive(Debug, Clone, Copy)]
pub struct TlsaQuestion<'a> {
    /// Records as text, `usage selector matching-type hex`.
    pub records: &'a [String],
    /// The chain as PEM, the server's certificate first.
    pub chain: &'a [u8],
    /// Names the certificate may have.
    pub reference_ids: &'a [String],
    /// When, as RFC 3339; now if not given.
    pub time: Option<&'a str>,
}

/// The verdict on a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TlsaVerdict {
    /// `match`, `no-match` or `unusable`.
    pub verdict: &'static str,
    /// The record that matched.
    pub matched_record: Option<String>,
    /// At which depth: 0 is the server's certificate.
    pub depth: Option<usize>,
    /// Why, in a sentence.
    pub reason: String,
    /// When it was judged for.
    pub time: String,
    /// Records that were not used, with the reason.
    pub unusable: Vec<UnusableRecord>,
    /// Records left aside because a stronger digest is there.
    pub superseded: Vec<String>,
    /// The chain.
    pub chain: Vec<ChainCertificate>,
    /// How the verb ends: 0, 1 or 3.
    #[serde(skip)]
    pub exit_code: u8,
}

/// A record that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnusableRecord {
    /// The record.
    pub record: String,
    /// Why not.
    pub reason: String,
}

/// One certificate of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainCertificate {
    /// Its subject.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// The names it is good for.
    pub names: Vec<String>,
    /// From when.
    pub not_before: Option<String>,
    /// Until when.
    pub not_after: Option<String>,
    /// The data of a record `x 0 1`.
    pub cert_sha256: String,
    /// The data of a record `x 1 1`.
    pub spki_sha256: Option<String>,
}

/// Judges a chain.
///
/// # Errors
/// What of the question cannot be read.
pub fn tlsa_verify(question: &TlsaQuestion<'_>) -> Result<TlsaVerdict, String> {
    let records =
        judge::parse_records(question.records.iter().map(String::as_str)).map_err(|(index, error)| {
            let text = question.records.get(index).map_or("", String::as_str);
            format!(
                "--tlsa \"{}\": {error}; expected USAGE SELECTOR MATCHING HEX such as \"3 1 1 2bb1...\"",
                crate::log::visible(text)
            )
        })?;
    let chain = certificates(question.chain)?;
    let ids =
        question.reference_ids.iter().map(|name| ReferenceId::parse(name)).collect::<Result<Vec<_>, _>>();
    let ids = ids.map_err(|error| format!("--reference-id: {error}"))?;
    let now = time(question.time)?;
    let report = judge::judge(&records, &chain, &ids, now);
    let (matched_record, depth) = match &report.outcome {
        Outcome::Match(matched) => (Some(matched.record.to_string()), Some(matched.depth)),
        _ => (None, None),
    };
    Ok(TlsaVerdict {
        verdict: report.outcome.word(),
        matched_record,
        depth,
        reason: report.outcome.reason(),
        time: rfc3339_of(now),
        unusable: report
            .selection
            .unusable
            .iter()
            .map(|(record, why)| UnusableRecord { record: record.to_string(), reason: why.to_string() })
            .collect(),
        superseded: report.selection.superseded.iter().map(ToString::to_string).collect(),
        chain: report.seen.iter().map(chain_certificate).collect(),
        exit_code: report.outcome.exit_code(),
    })
}

impl TlsaVerdict {
    /// The verdict for a person.
    pub fn text(&self) -> String {
        let mut lines = vec![format!("{}: {}", self.verdict, self.reason)];
        if let Some(record) = &self.matched_record {
            lines.push(format!("  record    {record}"));
        }
        if let Some(depth) = self.depth {
            lines.push(format!("  depth     {depth}"));
        }
        lines.push(format!("  judged at {}", self.time));
        lines.extend(self.unusable.iter().map(|u| format!("  unusable  {} ({})", u.record, u.reason)));
        lines.extend(self.superseded.iter().map(|r| format!("  left aside for a stronger digest: {r}")));
        for (i, certificate) in self.chain.iter().enumerate() {
            lines.push(format!("  chain {i}   {}", crate::log::visible(&certificate.subject)));
            lines.push(format!("            cert sha256 {}", certificate.cert_sha256));
            let key = certificate.spki_sha256.as_deref().unwrap_or("cannot be read");
            lines.push(format!("            spki sha256 {key}"));
        }
        lines.join("\n") + "\n"
    }
}

/// The certificates of a PEM file, in their order.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        chain.push(certificate.map_err(|e| format!("--chain: not a PEM file: {e}"))?);
        if chain.len() > MAX_CHAIN {
            return Err(format!("--chain: more than {MAX_CHAIN} certificates"));
        }
    }
    if chain.is_empty() {
        return Err("--chain: no certificate in the file; expected -----BEGIN CERTIFICATE-----".to_owned());
    }
    Ok(chain)
}

/// A time in seconds since 1970.
fn time(text: Option<&str>) -> Result<i64, String> {
    let Some(text) = text else {
        return Ok(jiff::Timestamp::now().as_second());
    };
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    parsed.map(|t| t.as_second()).map_err(|_| {
        format!(
            "--time: found \"{}\"; expected RFC 3339 such as \"2026-11-23T12:00:00Z\"",
            crate::log::visible(text)
        )
    })
}

/// A certificate as it is shown.
fn chain_certificate(seen: &mta_dane::verify::SeenCertificate) -> ChainCertificate {
    ChainCertificate {
        subject: seen.subject.clone(),
        issuer: seen.issuer.clone(),
        names: seen.names.clone(),
        not_before: seen.dates.map(|(from, _)| rfc3339_of(from)),
        not_after: seen.dates.map(|(_, to)| rfc3339_of(to)),
        cert_sha256: seen.cert_sha256.clone(),
        spki_sha256: seen.spki_sha256.clone(),
    }
}

// ---- DNS ---------------------------------------------------------------------------------------------------------

/// Why a lookup could not even begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupError {
    /// Name or type cannot be read.
    Question(InvalidQuestion),
    /// The resolver cannot work as it is configured.
    Resolver(String),
}

/// Looks up a name through the configured resolver, in this process: the self-test first, as the daemon does at start.
///
/// # Errors
/// [`LookupError`]; an answer that is bogus or unavailable is no error.
pub fn dns_lookup(config: &Config, name: &str, rtype: &str) -> Result<LookupReport, LookupError> {
    crate::dns::question(name, rtype).map_err(LookupError::Question)?;
    let service = Service::new(config.dns_options(), SystemClock::shared())
        .map_err(|error| LookupError::Resolver(error.to_string()))?;
    smol::block_on(async {
        service.self_test().await;
        let mut report = lookup_report(&service, name, rtype).await.map_err(LookupError::Question)?;
        let mut names = vec![report.name.clone()];
        names.extend(report.hops.iter().map(|hop| hop.target.clone()));
        for name in names {
            if let Ok((name, _)) = crate::dns::question(&name, rtype) {
                report.add_zones(service.zones(&name));
            }
        }
        Ok(report)
    })
}

/// What DNS has of each key, through the configured resolver.
///
/// # Errors
/// Options of DNS that cannot work, in words.
pub fn dkim_published(config: &Config, keys: &[Stored]) -> Result<Vec<Published>, String> {
    let service =
        Service::new(config.dns_options(), SystemClock::shared()).map_err(|error| error.to_string())?;
    Ok(smol::block_on(async {
        service.self_test().await;
        let mut found = Vec::new();
        for key in keys {
            found.push(published(&service, key).await);
        }
        found
    }))
}

/// Where a domain wants its TLS reports (RFC 8460 3), or why it gets none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportAddresses {
    /// The domain.
    pub domain: String,
    /// `mailto:` and `https:` addresses.
    pub rua: Vec<String>,
    /// Why there are none, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub none_because: Option<String>,
}

/// Asks DNS where each domain (A-labels) wants its TLS reports, one after the other.
///
/// # Errors
/// The resolver cannot work as it is configured.
pub fn report_addresses(config: &Config, domains: &[String]) -> Result<Vec<ReportAddresses>, String> {
    let service =
        Service::new(config.dns_options(), SystemClock::shared()).map_err(|error| error.to_string())?;
    smol::block_on(async {
        service.self_test().await;
        let mut found = Vec::new();
        for domain in domains {
            found.push(report_addresses_of(&service, domain).await);
        }
        Ok(found)
    })
}

async fn report_addresses_of(resolver: &dyn Resolver, domain: &str) -> ReportAddresses {
    let domain = domain.to_owned();
    match tlsrpt::lookup(resolver, &domain).await {
        Ok(rua) => ReportAddresses { domain, rua, none_because: None },
        Err(Nowhere::Never(why) | Nowhere::Unknown(why)) => {
            ReportAddresses { domain, rua: Vec::new(), none_because: Some(why) }
        }
    }
}

/// Why there is no explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExplainError {
    /// What was asked about is no destination.
    Subject(String),
    /// The resolver cannot work as it is configured.
    Resolver(String),
}

/// Says what would happen to mail for a destination, with the configuration and the code of a delivery, in this process.
///
/// # Errors
/// [`ExplainError`]; mail that would not leave is no error.
pub fn explain(
    config: &Config,
    question: &explain::Question<'_>,
) -> Result<explain::Explanation, ExplainError> {
    let service = Service::new(config.dns_options(), SystemClock::shared())
        .map_err(|error| ExplainError::Resolver(error.to_string()))?;
    smol::block_on(async {
        service.self_test().await;
        explain::explain(config, Arc::new(service), question).await.map_err(ExplainError::Subject)
    })
}

/// Compares what a host publishes with what it serves.
///
/// # Errors
/// [`ExplainError`]; whatever is wrong with the host is no error.
pub fn tlsa_check(config: &Config, question: &CheckQuestion<'_>) -> Result<Checked, ExplainError> {
    let service = Service::new(config.dns_options(), SystemClock::shared())
        .map_err(|error| ExplainError::Resolver(error.to_string()))?;
    smol::block_on(async {
        service.self_test().await;
        served::check(config, &service, question).await.map_err(ExplainError::Subject)
    })
}

/// An answer for a person.
pub fn lookup_text(report: &LookupReport) -> String {
    let mut lines = vec![format!(
        "{} {}: {}{}",
        report.name,
        report.rtype,
        report.status,
        report.answer.map(|answer| format!(", {answer}")).unwrap_or_default()
    )];
    lines.extend(
        report.hops.iter().map(|hop| format!("  alias   {} -> {} ({})", hop.owner, hop.target, hop.status)),
    );
    lines.extend(report.records.iter().map(|record| format!("  record  {record}")));
    lines.extend(report.reason.iter().map(|reason| format!("  reason  {reason}")));
    lines.extend(
        report.zones.iter().map(|zone| format!("  zone    {} {}: {}", zone.zone, zone.status, zone.proof)),
    );
    if report.status == "bogus" {
        lines.push("  so      no mail leaves on this answer, and none is taken for \"no such record\" (RFC 7672 2.1.2)".into());
    }
    if report.answer.is_some() {
        lines.push(format!("  ttl     {} s", report.ttl));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A self-signed certificate as PEM.
    fn certificate() -> String {
        rcgen::generate_simple_self_signed(vec!["mx.example.org".to_owned()]).unwrap().cert.pem()
    }

    fn verify(records: &[&str], pem: &str, time: Option<&str>) -> Result<TlsaVerdict, String> {
        let records: Vec<String> = records.iter().map(ToString::to_string).collect();
        let ids = ["mx.example.org".to_owned()];
        tlsa_verify(&TlsaQuestion { records: &records, chain: pem.as_bytes(), reference_ids: &ids, time })
    }

    #[test]
    fn verdicts_have_their_exit_codes() {
        let pem = certificate();
        let seen = verify(&["3 1 1 00"], &pem, None).unwrap();
        assert_eq!((seen.verdict, seen.exit_code, seen.matched_record.is_none()), ("unusable", 3, true));
        let key = seen.chain[0].spki_sha256.clone().unwrap();
        let good = format!("3 1 1 {key}");
        let seen = verify(&[&good], &pem, None).unwrap();
        assert_eq!((seen.verdict, seen.exit_code, seen.depth), ("match", 0, Some(0)));
        assert_eq!(seen.matched_record.as_deref(), Some(good.as_str()));
        let wrong = format!("3 0 1 {key}");
        assert_eq!(verify(&[&wrong], &pem, None).unwrap().exit_code, 1);
        // One record that matches is enough, in any order.
        assert_eq!(verify(&[&wrong, "1 1 1 00", &good], &pem, None).unwrap().exit_code, 0);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let pem = certificate();
        for (records, chain, time, named) in [
            (&["3 1"][..], pem.as_str(), None, "--tlsa"),
            (&["3 1 1 xy"], &pem, None, "--tlsa"),
            (&["3 1 1 00"], "no PEM", None, "--chain"),
            (&["3 1 1 00"], &pem, Some("yesterday"), "--time"),
        ] {
            let told = verify(records, chain, time).unwrap_err();
            assert!(told.starts_with(named), "{told}");
        }
        let many = pem.repeat(MAX_CHAIN + 1);
        assert!(verify(&["3 1 1 00"], &many, None).unwrap_err().contains("more than"));
    }
}
