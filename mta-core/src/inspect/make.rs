//! The TLSA record for a certificate, a key, or what this server serves; and whether it is one that would work.
//!
//! A record is judged before it is printed, with the judge of a delivery: one that no sender could use is refused with
//! the reason. What it does not: it publishes nothing.

use std::path::PathBuf;

use mta_dane::der;
use mta_dane::judge::{self, Outcome};
use mta_dane::reference::{ReferenceId, a_labels, text};
use mta_dane::tlsa::TlsaRecord;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde::Serialize;

use crate::config::Config;

/// The time to live that is suggested, in seconds: short enough for an emergency.
const TTL_SECONDS: u32 = 3600;

/// What the record is made from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A PEM file with the chain as it is served, the server's certificate first.
    Chain(PathBuf),
    /// A PEM file with a private or public key.
    Key(PathBuf),
    /// The certificate that this server serves.
    Own,
}

/// Which record is wanted.
#[derive(Debug, Clone)]
pub struct MakeQuestion<'a> {
    /// From what.
    pub source: &'a Source,
    /// The name of the MX host; this server's if not given.
    pub host: Option<&'a str>,
    /// Its port.
    pub port: u16,
    /// Usage, selector and matching type.
    pub numbers: (u8, u8, u8),
    /// Print it even where it makes no sense.
    pub force: bool,
}

/// A record to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Made {
    /// Where it belongs: `_25._tcp.mx.example.org.`
    pub owner: String,
    /// The record's data: `3 1 1 HEX`.
    pub record: String,
    /// The whole line for a zone file.
    pub line: String,
    /// What to think of before it is published.
    pub warnings: Vec<String>,
}

/// Makes a record.
///
/// # Errors
/// What cannot be read, or why the record would not work and is only made with `force`.
pub fn tlsa_make(config: &Config, question: &MakeQuestion<'_>) -> Result<Made, String> {
    let host = match question.host {
        Some(host) => a_labels(host).map_err(|error| format!("--host: {error}"))?,
        None => a_labels(&config.host_domain().to_string())
            .map_err(|error| format!("hostname: {error}; name the MX host with --host"))?,
    };
    let material = Material::read(config, question.source)?;
    let record = material.record(question.numbers)?;
    let objections = objections(&record, &material, &text(&host));
    if let Some(why) = objections.first().filter(|_| !question.force) {
        return Err(format!("{why}. With --force it is made all the same"));
    }
    let mut warnings = warnings(&record);
    warnings.extend(objections);
    let owner = format!("_{}._tcp.{}.", question.port, text(&host));
    let line = format!("{owner} {TTL_SECONDS} IN TLSA {record}");
    Ok(Made { owner, record: record.to_string(), line, warnings })
}

/// What there is to name.
struct Material {
    /// The chain as served; empty where only a key is known.
    chain: Vec<CertificateDer<'static>>,
    /// The server's own public key.
    spki: Vec<u8>,
}

impl Material {
    fn read(config: &Config, source: &Source) -> Result<Self, String> {
        match source {
            Source::Chain(file) => {
                Self::of_chain(&read("--cert", file)?, &format!("--cert {}", file.display()))
            }
            Source::Key(file) => Self::of_key(&read("--key", file)?, &format!("--key {}", file.display())),
            Source::Own => {
                let file = own_certificate(config);
                let bytes = std::fs::read(&file).map_err(|error| {
                    format!(
                        "{}: {error}. It is the certificate that this server serves; the daemon makes one at its first \
                         start if none is configured, and only it and root may read that",
                        file.display()
                    )
                })?;
                Self::of_chain(&bytes, &file.display().to_string())
            }
        }
    }

    fn of_chain(pem: &[u8], named: &str) -> Result<Self, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let chain = chain.map_err(|error| format!("{named}: not a PEM file: {error}"))?;
        let leaf = chain.first().ok_or_else(|| format!("{named}: holds no certificate"))?;
        let spki = der::Certificate::parse(leaf)
            .map_err(|_| format!("{named}: the first certificate cannot be read"))?
            .spki
            .to_vec();
        Ok(Self { chain, spki })
    }

    fn of_key(pem: &[u8], named: &str) -> Result<Self, String> {
        if let Ok(public) = SubjectPublicKeyInfoDer::from_pem_slice(pem) {
            return Ok(Self { chain: Vec::new(), spki: public.to_vec() });
        }
        let key = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|error| format!("{named}: no key in PEM form: {error}"))?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key)
            .map_err(|error| format!("{named}: a key of a kind that is not supported: {error}"))?;
        let spki =
            key.public_key().ok_or_else(|| format!("{named}: its public key cannot be told"))?.to_vec();
        Ok(Self { chain: Vec::new(), spki })
    }

    /// The record of these numbers. Usage 2 names the last certificate of the chain, the one nearest to the root.
    fn record(&self, (usage, selector, matching): (u8, u8, u8)) -> Result<TlsaRecord, String> {
        let certificate = if usage == 2 || usage == 0 { self.chain.last() } else { self.chain.first() };
        let selected = match (selector, certificate) {
            (0, Some(certificate)) => certificate.to_vec(),
            (0, None) => {
                return Err("selector 0 names a whole certificate: give --cert in place of --key".to_owned());
            }
            (1, Some(certificate)) => der::Certificate::parse(certificate)
                .map_err(|_| "the certificate to name cannot be read".to_owned())?
                .spki
                .to_vec(),
            (1, None) => self.spki.clone(),
            (other, _) => {
                return Err(format!("selector {other}: expected 0 (certificate) or 1 (public key)"));
            }
        };
        let data = match matching {
            0 => selected,
            1 => ring::digest::digest(&ring::digest::SHA256, &selected).as_ref().to_vec(),
            2 => ring::digest::digest(&ring::digest::SHA512, &selected).as_ref().to_vec(),
            other => {
                return Err(format!("matching type {other}: expected 0 (full), 1 (SHA-256) or 2 (SHA-512)"));
            }
        };
        Ok(TlsaRecord::new(usage, selector, matching, data))
    }
}

fn read(option: &str, file: &std::path::Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{option} {}: {error}", file.display()))
}

/// The file with the chain that this server serves.
pub(crate) fn own_certificate(config: &Config) -> PathBuf {
    config.tls.certificate_file.clone().unwrap_or_else(|| config.state_dir.join("tls/certificate.pem"))
}

/// Why the record would not work.
fn objections(record: &TlsaRecord, material: &Material, host: &str) -> Vec<String> {
    let (usage, ..) = record.numbers();
    if usage < 2 {
        return vec![format!(
            "usage {usage} means public certification authorities, which SMTP does not have: senders ignore the record (RFC \
             7672 3.1.3). Use 3 1 1"
        )];
    }
    if let Err(why) = record.usable() {
        return vec![format!("no sender can use the record: {why}")];
    }
    if usage == 2 && material.chain.is_empty() {
        return vec![
            "usage 2 names an issuer, and a key file holds the server's own key: give --cert with the chain as it is served"
                .to_owned(),
        ];
    }
    if usage != 2 {
        return Vec::new();
    }
    let ids: Vec<ReferenceId> = ReferenceId::parse(host).into_iter().collect();
    let now = jiff::Timestamp::now().as_second();
    match judge::judge(std::slice::from_ref(record), &material.chain, &ids, now).outcome {
        Outcome::Match(_) => Vec::new(),
        _ if material.chain.len() == 1 => vec![
            "the file holds one certificate, the server's own, which usage 2 can never name: the issuer's certificate has to \
             be in the chain that is served, even a root (RFC 7671 5.2.2). Add it to the chain, or use 3 1 1"
                .to_owned(),
        ],
        other => vec![format!("this chain would not satisfy it at {host}: {}", other.reason())],
    }
}

/// What works and has its price.
fn warnings(record: &TlsaRecord) -> Vec<String> {
    let (usage, selector, matching) = record.numbers();
    let mut warnings = Vec::new();
    if usage == 3 && selector == 0 {
        warnings.push(
            "selector 0 names the whole certificate: publish a new record before every renewal, even where the key stays"
                .to_owned(),
        );
    }
    if usage == 2 {
        warnings.push(
            "usage 2 checks dates and the name: the certificate must stay in date, be for this host, and come with its issuer"
                .to_owned(),
        );
    }
    if matching == 0 {
        warnings.push(
            "matching type 0 puts all of it into DNS: answers get large; a digest does as well".to_owned(),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        folder: tempfile::TempDir,
        config: Config,
    }

    impl Files {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let config = Config { state_dir: folder.path().to_owned(), ..Config::development_default() };
            Self { folder, config }
        }

        fn file(&self, name: &str, pem: &str) -> PathBuf {
            let path = self.folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, pem).unwrap();
            path
        }

        fn make(&self, source: &Source, numbers: (u8, u8, u8), force: bool) -> Result<Made, String> {
            let question = MakeQuestion { source, host: Some("mx.example.org"), port: 25, numbers, force };
            tlsa_make(&self.config, &question)
        }
    }

    /// A chain of two for mx.example.org, and the leaf's key.
    fn chain() -> (String, String, String) {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.distinguished_name.push(rcgen::DnType::CommonName, "Test CA");
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["mx.example.org".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap().pem();
        (leaf, ca_pem, key.serialize_pem())
    }

    #[test]
    fn certificate_key_and_own_certificate_give_the_same_3_1_1() {
        let files = Files::new();
        let (leaf, ca, key) = chain();
        let cert = Source::Chain(files.file("chain.pem", &format!("{leaf}{ca}")));
        let key = Source::Key(files.file("key.pem", &key));
        files.file("tls/certificate.pem", &leaf);
        let made: Vec<Made> =
            [&cert, &key, &Source::Own].map(|source| files.make(source, (3, 1, 1), false).unwrap()).into();
        assert_eq!(made[0], made[1]);
        assert_eq!(made[0], made[2]);
        assert!(made[0].line.starts_with("_25._tcp.mx.example.org. 3600 IN TLSA 3 1 1 "), "{made:?}");
        assert!(made[0].warnings.is_empty());
    }

    /// dane.md M3, M4; RFC 7672 3.1.3, RFC 7671 5.2.2.
    #[test]
    fn silly_records_are_refused_with_the_reason_m3_m4() {
        let files = Files::new();
        let (leaf, ca, key) = chain();
        let whole = Source::Chain(files.file("chain.pem", &format!("{leaf}{ca}")));
        let alone = Source::Chain(files.file("leaf.pem", &leaf));
        let key = Source::Key(files.file("key.pem", &key));
        for (source, numbers, word) in [
            (&whole, (0, 1, 1), "3.1.3"),
            (&whole, (1, 0, 1), "3.1.3"),
            (&alone, (2, 0, 1), "5.2.2"),
            (&alone, (2, 1, 1), "5.2.2"),
            (&key, (2, 1, 1), "usage 2 names an issuer"),
            (&whole, (7, 1, 1), "no sender can use"),
        ] {
            let why = files.make(source, numbers, false).unwrap_err();
            assert!(why.contains(word) && why.contains("--force"), "{numbers:?}: {why}");
            let made = files.make(source, numbers, true).unwrap();
            assert!(made.warnings.iter().any(|warning| warning.contains(word)), "{numbers:?}: {made:?}");
        }
        for numbers in [(2, 0, 1), (2, 1, 1), (2, 1, 2), (2, 0, 0), (3, 0, 1)] {
            let made = files.make(&whole, numbers, false).unwrap();
            assert!(!made.warnings.is_empty(), "{numbers:?}");
        }
        for numbers in [(3, 0, 1), (3, 2, 1), (3, 1, 9)] {
            assert!(files.make(&key, numbers, true).is_err(), "{numbers:?}");
        }
    }

    /// Matrix rows M3 and M4, every combination of numbers: what no sender could use, or would not match the chain, is not
    /// made; `2 x 0|1|2` only where the chain brings its issuer. M7: an hour is suggested.
    #[test]
    fn every_combination_of_numbers_is_made_only_where_it_works() {
        let files = Files::new();
        let (leaf, ca, _) = chain();
        let whole = Source::Chain(files.file("chain.pem", &format!("{leaf}{ca}")));
        let alone = Source::Chain(files.file("leaf.pem", &leaf));
        for (usage, selector, matching) in
            (0..5).flat_map(|u| (0..3).flat_map(move |s| (0..4).map(move |m| (u, s, m))))
        {
            let defined = (2..4).contains(&usage) && selector < 2 && matching < 3;
            for (source, has_issuer) in [(&whole, true), (&alone, false)] {
                let made = files.make(source, (usage, selector, matching), false);
                let wanted = defined && (usage == 3 || has_issuer);
                assert_eq!(made.is_ok(), wanted, "{usage} {selector} {matching}: {made:?}");
                let Ok(made) = made else { continue };
                assert!(made.line.contains(" 3600 IN TLSA "), "{made:?}");
                // `3 1 1` and `3 1 2` alone ask for nothing to be thought of.
                let is_plain = usage == 3 && selector == 1 && matching > 0;
                assert_eq!(made.warnings.is_empty(), is_plain, "{made:?}");
            }
        }
    }
}
