//! Certificate verifiers of ours: each judges the chain in its own way, and none the handshake's signature.
//!
//! What it does: the adapter to rustls, said once. What it does not: it judges nothing itself. That the server holds
//! the key of the certificate it shows is always proved by a stock verifier; no judge can leave that out.

use std::fmt::Debug;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// What a server showed in a handshake.
pub(crate) struct Shown<'a> {
    /// Its own certificate.
    pub(crate) end_entity: &'a CertificateDer<'a>,
    /// The others.
    pub(crate) intermediates: &'a [CertificateDer<'a>],
    /// Whom we wanted to reach.
    pub(crate) server_name: &'a ServerName<'a>,
    /// A stapled OCSP response, empty if there is none.
    pub(crate) ocsp_response: &'a [u8],
    /// The time to judge by.
    pub(crate) now: UnixTime,
}

impl Shown<'_> {
    /// The chain in order, the server's certificate first, of this length at most.
    pub(crate) fn chain(&self, most: usize) -> impl Iterator<Item = &CertificateDer<'_>> {
        std::iter::once(self.end_entity).chain(self.intermediates).take(most)
    }

    /// What a stock verifier says.
    pub(crate) fn ask(
        &self,
        verifier: &dyn ServerCertVerifier,
        name: &ServerName<'_>,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verifier.verify_server_cert(self.end_entity, self.intermediates, name, self.ocsp_response, self.now)
    }
}

/// Judges what a server shows.
pub(crate) trait Judge: Debug + Send + Sync {
    /// Whether this chain will do.
    fn judge(&self, shown: &Shown<'_>) -> Result<ServerCertVerified, rustls::Error>;

    /// The stock verifier that checks the handshake's signature.
    fn signatures(&self) -> &dyn ServerCertVerifier;

    /// The signatures that are offered.
    fn schemes(&self) -> Vec<SignatureScheme> {
        self.signatures().supported_verify_schemes()
    }
}

/// A judge as rustls asks it.
#[derive(Debug)]
pub(crate) struct Judged<J>(pub(crate) J);

impl<J: Judge> ServerCertVerifier for Judged<J> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.judge(&Shown { end_entity, intermediates, server_name, ocsp_response, now })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.signatures().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.signatures().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.schemes()
    }
}
