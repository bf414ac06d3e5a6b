//! Certificates for tests, built field by field so that odd ones can be made too: version 1, broken extensions, bare issuers.
//! A happy default; each test changes one thing.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

pub mod chains;

use std::sync::Arc;

use mta_dane::tlsa::TlsaRecord;
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use ring::digest::{SHA256, SHA512, digest};
use rustls_pki_types::CertificateDer;

/// The time at which tests judge: 2027-01-15.
pub const NOW: i64 = 1_800_000_000;
pub const DAY: i64 = 86_400;

pub const OID_SAN: &[u8] = &[0x55, 0x1d, 0x11];
pub const OID_BASIC: &[u8] = &[0x55, 0x1d, 0x13];
pub const OID_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
pub const OID_EKU: &[u8] = &[0x55, 0x1d, 0x25];
pub const OID_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
pub const OID_UNKNOWN: &[u8] = &[0x2a, 0x03, 0x04];
pub const EKU_SERVER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
pub const EKU_CLIENT: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
pub const EKU_ANY: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

/// keyCertSign and cRLSign.
pub const KU_CA: &[u8] = &[0x03, 0x02, 0x01, 0x06];
/// digitalSignature.
pub const KU_SIGN: &[u8] = &[0x03, 0x02, 0x07, 0x80];

pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        length @ 0..=0x7f => out.push(length as u8),
        length @ 0x80..=0xff => out.extend([0x81, length as u8]),
        length => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend(content);
    out
}

pub fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// A distinguished name with one common name, or an empty one.
pub fn name(common: &str) -> Vec<u8> {
    if common.is_empty() {
        return seq(&[]);
    }
    let pair = seq(&[&tlv(0x06, &[0x55, 0x04, 0x03]), &tlv(0x0c, common.as_bytes())]);
    seq(&[&tlv(0x31, &pair)])
}

fn utc(time: i64) -> Vec<u8> {
    let text = mta_dane::der::date_text(time);
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    tlv(0x18, format!("{digits}Z").as_bytes())
}

/// A certificate to be.
#[derive(Clone)]
pub struct Spec {
    pub version: u8,
    pub subject: Vec<u8>,
    pub not_before: i64,
    pub not_after: i64,
    /// DNS names; empty for no such extension.
    pub dns: Vec<String>,
    /// Replaces the whole SAN value.
    pub raw_san: Option<Vec<u8>>,
    pub ca: Option<bool>,
    pub path_length: Option<u8>,
    pub key_usage: Option<Vec<u8>>,
    pub eku: Vec<&'static [u8]>,
    pub constraints: Option<Vec<u8>>,
    pub unknown_critical: bool,
    /// Further extensions: OID, critical, value.
    pub more: Vec<(Vec<u8>, bool, Vec<u8>)>,
    /// States another algorithm inside the signed part than outside.
    pub two_algorithms: bool,
    /// Changes the signature after it was made.
    pub break_signature: bool,
    serial: u8,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Cert {
    pub der: Vec<u8>,
    pub subject: Vec<u8>,
    /// The issuer's name is its own, its key is not.
    pub self_issued_only: bool,
    pub key: Arc<KeyPair>,
}

impl Spec {
    pub fn leaf(dns: &str) -> Self {
        Self {
            version: 3,
            subject: name("server"),
            not_before: NOW - 30 * DAY,
            not_after: NOW + 30 * DAY,
            dns: vec![dns.to_owned()],
            raw_san: None,
            ca: None,
            path_length: None,
            key_usage: None,
            eku: Vec::new(),
            constraints: None,
            unknown_critical: false,
            more: Vec::new(),
            two_algorithms: false,
            break_signature: false,
            serial: 1,
        }
    }

    pub fn ca(common: &str) -> Self {
        Self {
            subject: name(common),
            dns: Vec::new(),
            ca: Some(true),
            key_usage: Some(KU_CA.to_vec()),
            serial: 2,
            ..Self::leaf("")
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn self_signed(&self) -> Cert {
        let key = new_key();
        self.build(&self.subject, &key, &key)
    }

    pub fn signed_by(&self, issuer: &Cert) -> Cert {
        self.build(&issuer.subject, &issuer.key, &new_key())
    }

    pub fn build(&self, issuer: &[u8], issuer_key: &Arc<KeyPair>, key: &Arc<KeyPair>) -> Cert {
        let signed_with = issuer_key.algorithm();
        let algorithm = if signed_with == &rcgen::PKCS_RSA_SHA256 {
            seq(&[&tlv(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b]), &[5, 0]])
        } else if signed_with == &rcgen::PKCS_ED25519 {
            seq(&[&tlv(0x06, &[0x2b, 0x65, 0x70])])
        } else if signed_with == &rcgen::PKCS_ECDSA_P384_SHA384 {
            seq(&[&tlv(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03])])
        } else {
            // ecdsa-with-SHA256.
            seq(&[&tlv(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02])])
        };
        let mut tbs = Vec::new();
        if self.version > 1 {
            tbs.extend(tlv(0xa0, &tlv(0x02, &[self.version - 1])));
        }
        tbs.extend(tlv(0x02, &[self.serial]));
        if self.two_algorithms {
            // ecdsa-with-SHA384.
            tbs.extend(seq(&[&tlv(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03])]));
        } else {
            tbs.extend(&algorithm);
        }
        tbs.extend(issuer);
        tbs.extend(seq(&[&utc(self.not_before), &utc(self.not_after)]));
        tbs.extend(&self.subject);
        tbs.extend(key.subject_public_key_info());
        let extensions = self.extensions();
        if self.version == 3 && !extensions.is_empty() {
            tbs.extend(tlv(0xa3, &tlv(0x30, &extensions)));
        }
        let tbs = tlv(0x30, &tbs);
        let mut signature = issuer_key.sign(&tbs).unwrap();
        if self.break_signature {
            *signature.last_mut().unwrap() ^= 1;
        }
        let bits = tlv(0x03, &[&[0][..], &signature].concat());
        let self_signed = key.subject_public_key_info() == issuer_key.subject_public_key_info();
        Cert {
            der: seq(&[&tbs, &algorithm, &bits]),
            subject: self.subject.clone(),
            self_issued_only: issuer == self.subject && !self_signed,
            key: Arc::clone(key),
        }
    }

    fn extensions(&self) -> Vec<u8> {
        let mut list: Vec<(Vec<u8>, bool, Vec<u8>)> = Vec::new();
        if let Some(ca) = self.ca {
            let mut content = if ca { tlv(0x01, &[0xff]) } else { Vec::new() };
            if let Some(length) = self.path_length {
                content.extend(tlv(0x02, &[length]));
            }
            list.push((OID_BASIC.to_vec(), true, tlv(0x30, &content)));
        }
        if let Some(usage) = &self.key_usage {
            list.push((OID_USAGE.to_vec(), true, usage.clone()));
        }
        if !self.eku.is_empty() {
            let oids: Vec<u8> = self.eku.iter().flat_map(|oid| tlv(0x06, oid)).collect();
            list.push((OID_EKU.to_vec(), false, tlv(0x30, &oids)));
        }
        let san = self.raw_san.clone().or_else(|| (!self.dns.is_empty()).then(|| san_value(&self.dns)));
        if let Some(value) = san {
            list.push((OID_SAN.to_vec(), false, value));
        }
        if let Some(constraints) = &self.constraints {
            list.push((OID_CONSTRAINTS.to_vec(), true, constraints.clone()));
        }
        if self.unknown_critical {
            list.push((OID_UNKNOWN.to_vec(), true, vec![0x05, 0x00]));
        }
        list.extend(self.more.iter().cloned());
        let encode = |(oid, critical, value): &(Vec<u8>, bool, Vec<u8>)| {
            let critical = if *critical { tlv(0x01, &[0xff]) } else { Vec::new() };
            seq(&[&tlv(0x06, oid), &critical, &tlv(0x04, value)])
        };
        list.iter().flat_map(encode).collect()
    }
}

pub fn san_value(dns: &[String]) -> Vec<u8> {
    let names: Vec<u8> = dns.iter().flat_map(|name| tlv(0x82, name.as_bytes())).collect();
    tlv(0x30, &names)
}

/// Name constraints with DNS subtrees.
pub fn dns_constraints(permitted: &[&str], excluded: &[&str]) -> Vec<u8> {
    let list = |tag: u8, names: &[&str]| {
        let trees: Vec<u8> = names.iter().flat_map(|name| seq(&[&tlv(0x82, name.as_bytes())])).collect();
        if trees.is_empty() { Vec::new() } else { tlv(tag, &trees) }
    };
    seq(&[&list(0xa0, permitted), &list(0xa1, excluded)])
}

pub fn new_key() -> Arc<KeyPair> {
    Arc::new(KeyPair::generate().unwrap())
}

/// An RSA key of 2048 bits, made for these tests: the crypto library here makes none itself.
pub fn rsa_key() -> Arc<KeyPair> {
    Arc::new(KeyPair::from_pem(include_str!("rsa2048.pem")).unwrap())
}

impl Cert {
    pub fn spki(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }

    /// A record that names this certificate.
    pub fn record(&self, usage: u8, selector: u8, matching: u8) -> TlsaRecord {
        let selected = if selector == 0 { self.der.clone() } else { self.spki() };
        let data = match matching {
            1 => digest(&SHA256, &selected).as_ref().to_vec(),
            2 => digest(&SHA512, &selected).as_ref().to_vec(),
            _ => selected,
        };
        TlsaRecord::new(usage, selector, matching, data)
    }
}

pub fn chain(certs: &[&Cert]) -> Vec<CertificateDer<'static>> {
    certs.iter().map(|cert| CertificateDer::from(cert.der.clone())).collect()
}

/// A root, an intermediate below it, and a server certificate below that.
pub struct Family {
    pub root: Cert,
    pub middle: Cert,
    pub leaf: Cert,
}

pub const HOST: &str = "mx1.example.net";

pub fn family() -> Family {
    family_of(&Spec::ca("root"), &Spec::ca("middle"), &Spec::leaf(HOST))
}

pub fn family_of(root: &Spec, middle: &Spec, leaf: &Spec) -> Family {
    let root = root.self_signed();
    let middle = middle.signed_by(&root);
    let leaf = leaf.signed_by(&middle);
    Family { root, middle, leaf }
}
