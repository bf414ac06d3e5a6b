//! One key of DKIM: made, read, written, told to DNS (RFC 6376 3.6.1, RFC 8463).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use super::rsa;

/// The object identifier rsaEncryption with its NULL parameter, as an AlgorithmIdentifier (RFC 3279 2.3.1).
const RSA_ENCRYPTION: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// Strings of a text record at most (RFC 1035 3.3).
const MAX_STRING_OCTETS: usize = 255;

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// RSA with 2048 bits, which everybody verifies.
    Rsa,
    /// Ed25519 (RFC 8463): short records and fast signatures; not everybody verifies it.
    Ed25519,
}

impl Algorithm {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Rsa, Self::Ed25519];

    /// The word for it in `a=`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Rsa => "rsa-sha256",
            Self::Ed25519 => "ed25519-sha256",
        }
    }

    /// The word for it in `k=` and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
        }
    }
}

/// A private key.
#[derive(Debug)]
pub struct Key {
    pair: Pair,
    pem: String,
}

#[derive(Debug)]
enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl Key {
    /// Makes one. RSA takes up to some seconds.
    ///
    /// # Errors
    /// The system has no random numbers, in words.
    pub fn make(algorithm: Algorithm) -> Result<Self, String> {
        match algorithm {
            Algorithm::Rsa => {
                let der = rsa::make().ok_or("no RSA key could be made")?;
                let pair =
                    RsaKeyPair::from_der(&der).map_err(|error| format!("the new key is refused: {error}"))?;
                Ok(Self { pair: Pair::Rsa(Box::new(pair)), pem: pem("RSA PRIVATE KEY", &der) })
            }
            Algorithm::Ed25519 => {
                let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
                    .map_err(|_| "the system gives no random numbers".to_owned())?;
                Self::read(&pem("PRIVATE KEY", der.as_ref()))
            }
        }
    }

    /// Reads PEM: PKCS #1 or PKCS #8, RSA or Ed25519. Text around it is skipped.
    ///
    /// # Errors
    /// Why it cannot be used, in words.
    pub fn read(text: &str) -> Result<Self, String> {
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|error| format!("no private key in PEM: {error}"))?;
        let unusable = |error: ring::error::KeyRejected| format!("the key cannot be used: {error}");
        let pair = match &key {
            PrivateKeyDer::Pkcs1(der) => {
                RsaKeyPair::from_der(der.secret_pkcs1_der()).map(|it| Pair::Rsa(Box::new(it)))
            }
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                // OpenSSL leaves the public half of an Ed25519 key out.
                match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
                    Ok(pair) => Ok(Pair::Ed25519(Box::new(pair))),
                    Err(_) => RsaKeyPair::from_pkcs8(der).map(|it| Pair::Rsa(Box::new(it))),
                }
            }
            _ => return Err("neither an RSA nor an Ed25519 key".to_owned()),
        };
        let label = if matches!(key, PrivateKeyDer::Pkcs1(_)) { "RSA PRIVATE KEY" } else { "PRIVATE KEY" };
        Ok(Self { pair: pair.map_err(unusable)?, pem: pem(label, key.secret_der()) })
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Rsa(_) => Algorithm::Rsa,
            Pair::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// The private key in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The text of its record.
    pub fn record(&self) -> String {
        let public = match &self.pair {
            // RFC 6376 3.6.1 means a SubjectPublicKeyInfo, as everybody reads it.
            Pair::Rsa(pair) => {
                let bits = [&[0][..], pair.public_key().as_ref()].concat();
                rsa::tlv(0x30, &[RSA_ENCRYPTION, &rsa::tlv(0x03, &bits)].concat())
            }
            // RFC 8463 4: the bare key.
            Pair::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        };
        format!("v=DKIM1; k={}; p={}", self.algorithm().word(), STANDARD.encode(public))
    }

    /// Signs what is to be signed (RFC 6376 3.7, RFC 8463 3).
    ///
    /// # Errors
    /// The library refuses, which it does for no input of ours.
    pub(super) fn sign(&self, data: &[u8]) -> Result<Vec<u8>, String> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), data, &mut signature)
                    .map_err(|_| "the RSA key does not sign".to_owned())?;
                Ok(signature)
            }
            Pair::Ed25519(pair) => Ok(pair.sign(digest(&SHA256, data).as_ref()).as_ref().to_vec()),
        }
    }
}

/// A record's text as the strings of a zone file.
pub fn zone_strings(text: &str) -> String {
    let strings = text.as_bytes().chunks(MAX_STRING_OCTETS).map(String::from_utf8_lossy);
    strings.map(|string| format!("\"{string}\"")).collect::<Vec<_>>().join(" ")
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
