//! Certificates of the laboratory's MX hosts, and the TLSA records that vouch for them (or do not).

use std::time::{Duration, SystemTime};

use hickory_proto::rr::rdata::TLSA;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use ring::digest::{SHA256, SHA512, digest};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// One certificate with the public key that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The whole certificate, DER.
    pub der: CertificateDer<'static>,
    /// Its SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
}

impl Certificate {
    /// A TLSA record that describes this certificate (RFC 6698 2.1). The numbers are those of the record: usage as
    /// given, selector 0 certificate or 1 public key, matching type 0 whole, 1 SHA2-256, 2 SHA2-512.
    pub fn tlsa(&self, usage: u8, selector: u8, matching: u8) -> TLSA {
        let selected: &[u8] = if selector == 0 { &self.der } else { &self.spki };
        let data = match matching {
            1 => digest(&SHA256, selected).as_ref().to_vec(),
            2 => digest(&SHA512, selected).as_ref().to_vec(),
            _ => selected.to_vec(),
        };
        TLSA::new(usage.into(), selector.into(), matching.into(), data)
    }
}

/// What a server presents: its chain, leaf first, and the leaf's key.
#[derive(Debug)]
pub struct Identity {
    /// The chain, leaf first.
    pub chain: Vec<Certificate>,
    /// The leaf's private key, PKCS #8.
    key: Vec<u8>,
    /// Another chain, for clients that cannot verify a key of the first one's kind.
    pub second: Option<Box<Self>>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone(), second: self.second.clone() }
    }
}

impl Identity {
    /// A self-signed certificate with a new key, for these names.
    pub fn self_signed(names: &[&str]) -> Self {
        Self::self_signed_with(names, |_| ())
    }

    /// A self-signed certificate whose parameters are changed first.
    pub fn self_signed_with(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = leaf_params(names);
        change(&mut params);
        Self::around(&new_key(), &params)
    }

    /// A self-signed certificate around a key in PEM (PKCS #8), for these names.
    pub fn self_signed_for_key(names: &[&str], key_pem: &str) -> Self {
        Self::around(&KeyPair::from_pem(key_pem).expect("a private key"), &leaf_params(names))
    }

    fn around(key: &KeyPair, params: &CertificateParams) -> Self {
        let certificate = params.self_signed(key).expect("a certificate");
        Self { chain: vec![described(&certificate, key)], key: key.serialize_der(), second: None }
    }

    /// The same server with a second chain, for clients that cannot verify a key of the first one's kind.
    #[must_use]
    pub fn with_second(self, second: Self) -> Self {
        Self { second: Some(Box::new(second)), ..self }
    }

    /// The server's own certificate.
    pub fn leaf(&self) -> &Certificate {
        &self.chain[0]
    }

    /// The chain as rustls takes it.
    pub fn rustls_chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.iter().map(|certificate| certificate.der.clone()).collect()
    }

    /// The chain as a PEM file.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|certificate| pem("CERTIFICATE", &certificate.der)).collect()
    }

    /// The key as a PEM file.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }

    /// The key as rustls takes it.
    pub fn rustls_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }
}

/// A certificate authority.
pub struct Ca {
    /// Its own certificate.
    pub certificate: Certificate,
    /// The certificates above it, next one first, the root last.
    above: Vec<Certificate>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// A self-signed authority.
    pub fn new(common_name: &str) -> Self {
        let key = new_key();
        let params = ca_params(common_name);
        let certificate = params.self_signed(&key).expect("a certificate");
        let certificate = described(&certificate, &key);
        Self { certificate, above: Vec::new(), issuer: Issuer::new(params, key) }
    }

    /// An intermediate authority signed by this one.
    pub fn intermediate(&self, common_name: &str) -> Self {
        let key = new_key();
        let params = ca_params(common_name);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let certificate = described(&certificate, &key);
        Self { certificate, above: self.chain(), issuer: Issuer::new(params, key) }
    }

    /// The authority's own certificate as a PEM file.
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate.der)
    }

    /// A server certificate for these names, presented with the whole chain.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.issue_with(names, |_| ())
    }

    /// A server certificate whose validity ended a day ago.
    pub fn issue_expired(&self, names: &[&str]) -> Identity {
        self.issue_with(names, |params| {
            let day = Duration::from_secs(86_400);
            params.not_before = (SystemTime::now() - 30 * day).into();
            params.not_after = (SystemTime::now() - day).into();
        })
    }

    /// A server certificate whose parameters are changed first.
    pub fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = new_key();
        let mut params = leaf_params(names);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let mut chain = vec![described(&certificate, &key)];
        chain.extend(self.chain());
        Identity { chain, key: key.serialize_der(), second: None }
    }

    /// This authority's certificate and those above it.
    fn chain(&self) -> Vec<Certificate> {
        std::iter::once(&self.certificate).chain(&self.above).cloned().collect()
    }
}

/// Bytes in PEM (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = encoded
        .as_bytes()
        .chunks(64)
        .map(|chunk| std::str::from_utf8(chunk).expect("base64 is ASCII"))
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a random key")
}

fn described(certificate: &rcgen::Certificate, key: &KeyPair) -> Certificate {
    Certificate { der: certificate.der().clone(), spki: key.subject_public_key_info() }
}

fn leaf_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("DNS names");
    params.distinguished_name.push(DnType::CommonName, "laboratory");
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    params.use_authority_key_identifier_extension = true;
    params
}

fn ca_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages.extend([KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature]);
    params
}
