//! One identity of the TLS server: a key and its certificate chain.
//!
//! What it does: loads the configured certificate, or makes a key and a self-signed certificate at first start; tells
//! the `3 1 1` TLSA record that vouches for it. What it does not: which identity a client is shown (`identities`), no
//! renewal by ACME.
//!
//! The own key is made once and stays: the published record names it. Only the certificate around it is made anew when
//! the host name changes.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mta_dane::tlsa::TlsaRecord;
use mta_smtp::address::Domain;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// The directory of the own key within the state directory.
const OWN_DIRECTORY: &str = "tls";

/// The own key.
const OWN_KEY: &str = "key.pem";

/// The certificate around it.
const OWN_CERTIFICATE: &str = "certificate.pem";

/// Why there is no identity. Each is one sentence for the administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityError {
    /// A file cannot be read, written or made.
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key does not belong to the certificate, or its kind is not supported.
    Mismatch {
        /// What rustls said.
        reason: String,
    },
    /// No certificate could be made.
    Make {
        /// What went wrong.
        reason: String,
    },
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::Mismatch { reason } => write!(f, "certificate and key cannot be used together: {reason}"),
            Self::Make { reason } => write!(f, "cannot make a certificate: {reason}"),
        }
    }
}

impl std::error::Error for IdentityError {}

/// A private key and the certificate chain that goes with it.
#[derive(Debug)]
pub struct Identity {
    /// The leaf first.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// The leaf's public key as it stands in the certificate (SubjectPublicKeyInfo, DER).
    spki: Vec<u8>,
}

impl Identity {
    /// Loads a chain, leaf first, and its key from PEM files.
    ///
    /// # Errors
    /// `IdentityError::File` where a file cannot be read or holds something else.
    pub fn load(certificate_file: &Path, key_file: &Path) -> Result<Self, IdentityError> {
        let chain: Vec<_> = CertificateDer::pem_file_iter(certificate_file)
            .and_then(Iterator::collect)
            .map_err(|error| file_error(certificate_file, error))?;
        let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| file_error(key_file, error))?;
        let Some(leaf) = chain.first() else {
            return Err(file_error(certificate_file, "holds no certificate"));
        };
        let spki = spki_of(leaf).ok_or_else(|| file_error(certificate_file, "holds no X.509 certificate"))?;
        Ok(Self { chain, key, spki })
    }

    /// Loads the own key and certificate from the state directory, making what is not there: the key at first start,
    /// the certificate also when it does not carry this host name.
    ///
    /// # Errors
    /// `IdentityError`; in particular a key that is there and cannot be read is never replaced.
    pub fn load_or_make(state_directory: &Path, hostname: &Domain) -> Result<Self, IdentityError> {
        let directory = state_directory.join(OWN_DIRECTORY);
        let (key_file, certificate_file) = (directory.join(OWN_KEY), directory.join(OWN_CERTIFICATE));
        if !exists(&key_file)? {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)
                .map_err(|error| file_error(&directory, error))?;
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make_error)?;
            write_private(&key_file, key.serialize_pem().as_bytes())?;
        }
        if let Ok(identity) = Self::load(&certificate_file, &key_file)
            && identity.chain.first().is_some_and(|leaf| names(leaf, hostname))
            && identity.server_config().is_ok()
        {
            return Ok(identity);
        }
        let key = fs::read_to_string(&key_file).map_err(|error| file_error(&key_file, error))?;
        let key = KeyPair::from_pem(&key).map_err(|error| file_error(&key_file, error))?;
        write_private(&certificate_file, self_signed(&key, hostname)?.as_bytes())?;
        Self::load(&certificate_file, &key_file)
    }

    /// The record to publish at `_25._tcp.<MX host>`: DANE-EE, the public key, SHA2-256. It stays right for as long as
    /// the key does.
    pub fn tlsa_record(&self) -> TlsaRecord {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.spki);
        TlsaRecord::new(3, 1, 1, digest.as_ref())
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The configuration of the server: TLS 1.2 and 1.3, this chain for every client.
    ///
    /// # Errors
    /// `IdentityError::Mismatch` where the key is not the certificate's, or of a kind that is not supported.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(mismatch)?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(mismatch)?;
        Ok(Arc::new(config))
    }

    /// Chain and key as rustls shows them.
    ///
    /// # Errors
    /// As [`Identity::server_config`].
    pub(super) fn certified_key(&self) -> Result<CertifiedKey, IdentityError> {
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), &provider).map_err(mismatch)
    }

    /// The DNS names that the certificate carries, lower case.
    pub(super) fn names(&self) -> Vec<String> {
        self.chain.first().map(|leaf| dns_names(leaf)).unwrap_or_default()
    }

    /// The hash that `tls-server-end-point` is (RFC 5929 4.1): SHA-256 where the certificate is signed with it or something
    /// older, else the hash of its signature. `None` for a signature without one, such as Ed25519.
    pub(super) fn end_point(&self) -> Option<Vec<u8>> {
        let leaf = self.chain.first()?;
        let certificate = x509_cert::Certificate::from_der(leaf).ok()?;
        let algorithm = match certificate.signature_algorithm.oid.to_string().as_str() {
            // RSA with MD5, SHA-1 and SHA-256; ECDSA with SHA-1 and SHA-256.
            "1.2.840.113549.1.1.4"
            | "1.2.840.113549.1.1.5"
            | "1.2.840.113549.1.1.11"
            | "1.2.840.10045.4.1"
            | "1.2.840.10045.4.3.2" => &ring::digest::SHA256,
            "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &ring::digest::SHA384,
            "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &ring::digest::SHA512,
            _ => return None,
        };
        Some(ring::digest::digest(algorithm, leaf).as_ref().to_vec())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err wants it")]
fn mismatch(error: rustls::Error) -> IdentityError {
    IdentityError::Mismatch { reason: error.to_string() }
}

fn file_error(path: &Path, reason: impl fmt::Display) -> IdentityError {
    IdentityError::File { path: path.to_owned(), reason: reason.to_string() }
}

fn make_error(error: rcgen::Error) -> IdentityError {
    IdentityError::Make { reason: error.to_string() }
}

fn exists(path: &Path) -> Result<bool, IdentityError> {
    path.try_exists().map_err(|error| file_error(path, error))
}

/// A certificate for this name around this key, as PEM. It names no CA and lasts as long as dates allow: who verifies
/// by DANE-EE looks at neither (RFC 7671 5.1).
fn self_signed(key: &KeyPair, hostname: &Domain) -> Result<String, IdentityError> {
    let mut parameters = CertificateParams::new(vec![hostname.to_string()]).map_err(make_error)?;
    parameters.distinguished_name.push(DnType::CommonName, common_name(hostname));
    Ok(parameters.self_signed(key).map_err(make_error)?.pem())
}

/// A common name has at most 64 characters (RFC 5280 A.1); the full name stands in the subject alternative name.
fn common_name(hostname: &Domain) -> &str {
    hostname.as_str().get(..64).unwrap_or(hostname.as_str())
}

/// Writes a file only we can read, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    };
    write().map_err(|error| file_error(path, error))
}

fn spki_of(certificate: &[u8]) -> Option<Vec<u8>> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    certificate.tbs_certificate.subject_public_key_info.to_der().ok()
}

/// Whether the certificate carries this name.
fn names(certificate: &[u8], hostname: &Domain) -> bool {
    dns_names(certificate).iter().any(|name| name == hostname.as_str())
}

/// The DNS names that a certificate carries, lower case.
fn dns_names(certificate: &[u8]) -> Vec<String> {
    let Ok(certificate) = x509_cert::Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let Ok(Some((_, names))) = certificate.tbs_certificate.get::<SubjectAltName>() else {
        return Vec::new();
    };
    let dns = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        _ => None,
    };
    names.0.iter().filter_map(dns).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).expect("a domain")
    }

    #[test]
    fn the_key_stays_and_the_certificate_follows_the_host_name() {
        let state = tempfile::tempdir().expect("a directory");
        let first = Identity::load_or_make(state.path(), &domain("mx.example")).expect("made");
        let again = Identity::load_or_make(state.path(), &domain("mx.example")).expect("loaded");
        assert_eq!(first.chain(), again.chain());
        let renamed = Identity::load_or_make(state.path(), &domain("mail.example")).expect("made anew");
        assert_ne!(first.chain(), renamed.chain());
        assert_eq!(first.tlsa_record(), renamed.tlsa_record());
        assert_eq!(first.tlsa_record().numbers(), (3, 1, 1));
        renamed.server_config().expect("usable");
    }

    #[test]
    fn only_we_can_read_the_key() {
        let state = tempfile::tempdir().expect("a directory");
        Identity::load_or_make(state.path(), &domain("mx.example")).expect("made");
        let mode =
            |name: &str| fs::metadata(state.path().join(name)).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode("tls"), mode("tls/key.pem")), (0o700, 0o600));
    }

    #[test]
    fn a_damaged_key_is_never_replaced() {
        let state = tempfile::tempdir().expect("a directory");
        Identity::load_or_make(state.path(), &domain("mx.example")).expect("made");
        let key_file = state.path().join("tls/key.pem");
        fs::write(&key_file, "damaged").expect("written");
        let error = Identity::load_or_make(state.path(), &domain("mx.example")).expect_err("refused");
        assert!(matches!(&error, IdentityError::File { path, .. } if *path == key_file), "{error}");
        assert_eq!(fs::read_to_string(&key_file).expect("there"), "damaged");
    }

    #[test]
    fn a_foreign_key_is_noticed() {
        let (one, two) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        for state in [&one, &two] {
            Identity::load_or_make(state.path(), &domain("mx.example")).expect("made");
        }
        let mixed = Identity::load(&one.path().join("tls/certificate.pem"), &two.path().join("tls/key.pem"));
        assert!(matches!(mixed.expect("both readable").server_config(), Err(IdentityError::Mismatch { .. })));
    }

    /// The chain that a client sees, asking for this name or for none.
    fn shown(identity: &Identity, name: Option<&str>) -> Vec<CertificateDer<'static>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = mta_dane::verifier::UnauthenticatedVerifier::new(&provider);
        let mut config = mta_dane::verifier::client_config(provider, verifier).expect("usable");
        config.enable_sni = name.is_some();
        let name = name.unwrap_or("nobody.example").to_owned().try_into().expect("a name");
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("usable");
        let mut server =
            rustls::ServerConnection::new(identity.server_config().expect("usable")).expect("usable");
        let mut rounds = 0;
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).expect("into memory");
            }
            server.read_tls(&mut wire.as_slice()).expect("from memory");
            server.process_new_packets().expect("a handshake");
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).expect("into memory");
            }
            client.read_tls(&mut wire.as_slice()).expect("from memory");
            client.process_new_packets().expect("a handshake");
            rounds += 1;
            assert!(rounds < 20, "no handshake came about");
        }
        client.peer_certificates().expect("a chain").to_vec()
    }

    /// Matrix row M2 (RFC 7672 8.1): a name that is unknown, or none, gets the chain as well, and no alert.
    #[test]
    fn every_name_and_none_gets_the_one_chain() {
        let state = tempfile::tempdir().expect("a directory");
        let identity = Identity::load_or_make(state.path(), &domain("mx.example")).expect("made");
        for name in [Some("mx.example"), Some("other.example"), Some("xn--bcher-kva.example"), None] {
            assert_eq!(shown(&identity, name), identity.chain(), "{name:?}");
        }
    }
}
