//! Certificates of clients, for logins by SASL EXTERNAL.
//!
//! What it does: asks for one, takes any, and has the client prove that the key is his; and says whom a certificate names
//! for which an authority of the administrator's own vouches. What it does not: the handshake trusts no authority and decides
//! nothing. Whose certificate it is says its fingerprint (`user::Roster::by_certificate`), or at the login that authority.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Authorities of one file that are read.
const MAX_AUTHORITIES: usize = 100;

/// Addresses of one certificate that are looked at.
const MAX_NAMES: usize = 20;

/// What a client has shown, whose key it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The SHA-256 fingerprint, in hexadecimal.
    pub fingerprint: String,
    /// The chain as it came, the client's own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
}

impl ClientCertificate {
    /// From the chain of a handshake; `None` where it is empty.
    pub fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let digest = ring::digest::digest(&ring::digest::SHA256, chain.first()?);
        Some(Self {
            fingerprint: digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
            chain: chain.iter().map(|it| it.clone().into_owned()).collect(),
        })
    }

    /// The mail addresses that the certificate names (rfc822Name, RFC 5280 4.2.1.6), where an authority of this file (PEM)
    /// vouches for it now, for clients. Reads the file: blocks.
    ///
    /// # Errors
    /// Why it names nobody, for the log. Fails closed: without authorities nobody is named.
    pub fn addresses(&self, ca_file: &Path, now: UnixTime) -> Result<Vec<String>, String> {
        let (own, above) = self.chain.split_first().ok_or("no certificate")?;
        let file = ca_file.display();
        let mut roots = RootCertStore::empty();
        let read = CertificateDer::pem_file_iter(ca_file).map_err(|error| format!("{file}: {error}"))?;
        for authority in read.take(MAX_AUTHORITIES) {
            let authority = authority.map_err(|error| format!("{file}: {error}"))?;
            roots.add(authority).map_err(|error| format!("{file}: {error}"))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| format!("{file}: {error}"))?;
        verifier
            .verify_client_cert(own, above, now)
            .map_err(|error| format!("no authority of {file} vouches for it: {error}"))?;
        let certificate = x509_cert::Certificate::from_der(own).map_err(|error| error.to_string())?;
        let names = certificate.tbs_certificate.get::<SubjectAltName>().map_err(|error| error.to_string())?;
        let names = names.map(|(_, names)| names.0).unwrap_or_default();
        let address = |name: GeneralName| match name {
            GeneralName::Rfc822Name(address) => Some(address.to_string()),
            _ => None,
        };
        let addresses: Vec<String> = names.into_iter().filter_map(address).take(MAX_NAMES).collect();
        if addresses.is_empty() { Err("it names no mail address".to_owned()) } else { Ok(addresses) }
    }
}

/// Takes any certificate whose key the client has.
#[derive(Debug)]
pub(super) struct AnyCertificate(pub(super) Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
        date_time_ymd,
    };

    use super::*;

    /// An authority, for tests of logins too.
    pub(crate) struct Authority {
        issuer: Issuer<'static, KeyPair>,
        pem: String,
    }

    impl Authority {
        pub(crate) fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key");
            let pem = params.self_signed(&key).expect("a certificate").pem();
            Self { issuer: Issuer::new(params, key), pem }
        }

        pub(crate) fn pem(&self) -> &str {
            &self.pem
        }

        /// A client's certificate that names these addresses.
        pub(crate) fn issue_to(&self, addresses: &[&str]) -> ClientCertificate {
            let name = |address: &&str| SanType::Rfc822Name((*address).try_into().expect("ASCII"));
            self.issue(&addresses.iter().map(name).collect::<Vec<_>>(), |_| ())
        }

        fn issue(&self, names: &[SanType], change: impl FnOnce(&mut CertificateParams)) -> ClientCertificate {
            let mut params = CertificateParams::default();
            params.subject_alt_names = names.to_vec();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            change(&mut params);
            let key = KeyPair::generate().expect("a key");
            let own = params.signed_by(&key, &self.issuer).expect("a certificate");
            ClientCertificate::of(std::slice::from_ref(own.der())).expect("a chain")
        }
    }

    /// Security decision: whom a certificate names.
    #[test]
    fn a_certificate_names_whom_an_authority_vouches_for_and_nobody_else() {
        let (ours, other) = (Authority::new(), Authority::new());
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, ours.pem()).expect("written");
        // In 2026.
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_795_471_428));
        let anna = SanType::Rfc822Name("Anna@one.example".try_into().expect("an address"));
        let host = SanType::DnsName("anna.one.example".try_into().expect("a name"));
        let named = ours.issue(&[host.clone(), anna.clone()], |_| ());
        assert_eq!(named.addresses(&file, now), Ok(vec!["Anna@one.example".to_owned()]));
        assert_eq!(named.fingerprint.len(), 64);
        let refused = [
            ("of another authority", other.issue(std::slice::from_ref(&anna), |_| ())),
            ("without an address", ours.issue(&[host], |_| ())),
            (
                "for servers",
                ours.issue(std::slice::from_ref(&anna), |params| {
                    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                }),
            ),
            (
                "over",
                ours.issue(std::slice::from_ref(&anna), |params| {
                    params.not_after = date_time_ymd(2026, 1, 1)
                }),
            ),
            (
                "to come",
                ours.issue(std::slice::from_ref(&anna), |params| {
                    params.not_before = date_time_ymd(2027, 1, 1)
                }),
            ),
            ("none", ClientCertificate { fingerprint: String::new(), chain: Vec::new() }),
            ("rubbish", ClientCertificate { fingerprint: String::new(), chain: vec![vec![0x30; 9].into()] }),
        ];
        for (what, certificate) in refused {
            assert!(certificate.addresses(&file, now).is_err(), "{what}");
        }
        // Without authorities nobody is named.
        for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&file, text).expect("written");
            assert!(named.addresses(&file, now).is_err(), "{text}");
        }
        assert!(named.addresses(&folder.path().join("none.pem"), now).is_err());
    }
}
