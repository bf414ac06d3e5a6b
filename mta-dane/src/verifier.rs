//! The rustls side: a certificate verifier that judges by TLSA records, and one that only looks. Both keep what the peer
//! presented, for the decision record, and both check the handshake signature, which proves possession of the key (G5).
//!
//! What it does not: it configures no connection except through `client_config`, which exists so that session resumption
//! (it would skip the verifier, F8) and raw public keys (G7) cannot be switched on by accident.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::der::Certificate;
use crate::policy::Authenticate;
use crate::reference::ReferenceId;
use crate::tlsa::TlsaRecord;
use crate::verify::{self, Judgement, SeenCertificate, Verdict};

/// Accepts a server if and only if it satisfies the records. One per connection.
pub struct DaneVerifier {
    records: Vec<TlsaRecord>,
    ids: Vec<ReferenceId>,
    algorithms: WebPkiSupportedAlgorithms,
    judgement: Mutex<Option<Judgement>>,
}

impl DaneVerifier {
    /// A verifier for one connection to a host with this demand.
    pub fn new(demand: &Authenticate, provider: &CryptoProvider) -> Arc<Self> {
        Arc::new(Self {
            records: demand.records.clone(),
            ids: demand.reference_ids.clone(),
            algorithms: provider.signature_verification_algorithms,
            judgement: Mutex::new(None),
        })
    }

    /// What was decided; `None` until the server's certificate came.
    pub fn judgement(&self) -> Option<Judgement> {
        self.judgement.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for DaneVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DaneVerifier")
            .field("records", &self.records)
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for DaneVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|der| CertificateDer::from(der.as_ref()))
            .collect();
        let judgement = verify::judge(&self.records, &chain, &self.ids, unix_seconds(now));
        let matched = matches!(judgement.verdict, Verdict::Match(_));
        *self.judgement.lock().unwrap_or_else(PoisonError::into_inner) = Some(judgement);
        if matched {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        handshake_signature(message, cert, dss, &self.algorithms, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        handshake_signature(message, cert, dss, &self.algorithms, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Accepts every server that proves possession of its key, and keeps what it presented: for TLS without authentication,
/// opportunistic or mandatory (all TLSA records unusable). One per connection.
pub struct UnauthenticatedVerifier {
    algorithms: WebPkiSupportedAlgorithms,
    seen: Mutex<Option<Vec<SeenCertificate>>>,
}

impl UnauthenticatedVerifier {
    /// A verifier for one connection.
    pub fn new(provider: &CryptoProvider) -> Arc<Self> {
        Arc::new(Self { algorithms: provider.signature_verification_algorithms, seen: Mutex::new(None) })
    }

    /// What the server presented; `None` until it did.
    pub fn seen(&self) -> Option<Vec<SeenCertificate>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for UnauthenticatedVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnauthenticatedVerifier").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for UnauthenticatedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(end_entity)
            .chain(intermediates)
            .take(verify::MAX_SEEN)
            .map(|der| CertificateDer::from(der.as_ref()))
            .collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(verify::seen(&chain));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        handshake_signature(message, cert, dss, &self.algorithms, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        handshake_signature(message, cert, dss, &self.algorithms, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A client configuration with this verifier: TLS 1.2 and 1.3 (F5), no session resumption (F8), no client certificate.
///
/// # Errors
/// The provider cannot do these versions.
pub fn client_config(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

fn unix_seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// Verifies the handshake signature with the key of the presented certificate, found by our own tolerant walk: a library that
/// also judges the certificate would refuse odd ones (version 1, unknown critical extensions, broken names) that
/// DANE-EE(3) allows (G6).
fn handshake_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
    tls13: bool,
) -> Result<HandshakeSignatureValid, Error> {
    let offered = algorithms.mapping.iter().find(|(scheme, _)| *scheme == dss.scheme).map(|(_, list)| *list);
    let offered = offered.filter(|_| !tls13 || allowed_in_tls13(dss.scheme));
    let offered = offered.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    // TLS 1.3 ties a scheme to one curve: only the first algorithm counts. TLS 1.2 does not.
    let candidates = if tls13 { offered.get(..1).unwrap_or_default() } else { offered };
    let certificate =
        Certificate::parse(cert).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let (key_algorithm, key) = verify::key_parts(certificate.spki)
        .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let holds = candidates
        .iter()
        .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == key_algorithm)
        .any(|algorithm| algorithm.verify_signature(key, message, dss.signature()).is_ok());
    if holds {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }
}

/// RFC 8446 4.2.3: PKCS#1 v1.5 and SHA-1 sign no TLS 1.3 handshake.
fn allowed_in_tls13(scheme: SignatureScheme) -> bool {
    matches!(
        scheme,
        SignatureScheme::ECDSA_NISTP256_SHA256
            | SignatureScheme::ECDSA_NISTP384_SHA384
            | SignatureScheme::ECDSA_NISTP521_SHA512
            | SignatureScheme::RSA_PSS_SHA256
            | SignatureScheme::RSA_PSS_SHA384
            | SignatureScheme::RSA_PSS_SHA512
            | SignatureScheme::ED25519
            | SignatureScheme::ED448
    )
}
