//! The TLS client: one rustls configuration per connection, because the verifier holds that connection's demand.
//!
//! What it does: turns a demand (`outbound::tls_policy`) into a configuration, does the handshake, and keeps what the
//! server presented, whether or not it was good enough. What it does not: it decides no demand, and it never makes a
//! weaker one out of a stronger one. Sessions are never resumed: a resumed one would pass by the verifier.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use mta_dane::failure::ResultType;
use mta_dane::policy::Authenticate;
use mta_dane::verifier::{DaneVerifier, UnauthenticatedVerifier, client_config};
use mta_dane::verify::{self, SeenCertificate, Verdict};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use smol::net::TcpStream;

use super::judged::{Judge, Judged, Shown};

/// Stands in for a name that cannot be sent in SNI; it is not sent then, and nothing is compared with it.
const NO_NAME: &str = "invalid";

/// What is demanded of the server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// It must satisfy one of these TLSA records.
    Dane(Box<Authenticate>),
    /// It must be vouched for by the system's roots, for this name.
    WebPki {
        /// The name, in A-labels, or an IP address.
        name: String,
    },
    /// Any certificate will do; it is only looked at.
    Any {
        /// The name to send in SNI.
        sni: String,
    },
    /// Any certificate will do; whether the system's roots vouch for it is noted (`Seen::webpki`).
    Observed {
        /// The name to send in SNI.
        sni: String,
        /// The name it should have, in A-labels.
        name: String,
    },
}

impl Demand {
    /// Whether a handshake under this demand proves who the server is.
    pub fn authenticates(&self) -> bool {
        matches!(self, Self::Dane(_) | Self::WebPki { .. })
    }
}

/// What is known of a TLS session, or of an attempt at one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: Option<String>,
    /// The cipher suite.
    pub cipher: Option<String>,
    /// The name sent in SNI, if one was.
    pub sni: Option<String>,
    /// The certificates presented, leaf first.
    pub chain: Vec<SeenCertificate>,
    /// What proved the server's identity.
    pub authenticated_by: Option<String>,
    /// Which DNS records did not match, where that was the cause.
    pub mismatch: Option<mta_dane::failure::Mismatch>,
    /// What the system's roots say of the certificate, where they were asked.
    pub webpki: Option<Result<(), WebPkiFault>>,
}

/// Why the system's roots do not vouch for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebPkiFault {
    /// Its kind, for reports (RFC 8460 4.3).
    pub result_type: ResultType,
    /// In words.
    pub reason: String,
}

impl WebPkiFault {
    fn new(error: &rustls::Error) -> Self {
        use rustls::CertificateError as E;

        let result_type = match error {
            rustls::Error::InvalidCertificate(why) => match why {
                E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => {
                    ResultType::CertificateExpired
                }
                E::NotValidForName | E::NotValidForNameContext { .. } => ResultType::CertificateHostMismatch,
                E::UnknownIssuer | E::Revoked | E::BadSignature => ResultType::CertificateNotTrusted,
                E::InvalidPurpose | E::InvalidPurposeContext { .. } => ResultType::CertificateNotTrusted,
                _ => ResultType::ValidationFailure,
            },
            _ => ResultType::ValidationFailure,
        };
        let reason = match error {
            rustls::Error::InvalidCertificate(why) => why.to_string(),
            other => other.to_string(),
        };
        Self { result_type, reason }
    }
}

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeError {
    /// Not done in time.
    Timeout,
    /// The server's certificate is not what is demanded. The reason.
    Certificate(String),
    /// The two sides could not agree, or the server speaks no TLS. The reason.
    Protocol(String),
    /// The connection ended.
    Closed(String),
    /// We could not begin: no roots, or a name no certificate can have. The reason.
    Setup(String),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("TLS handshake not done in time"),
            Self::Certificate(why) => f.write_str(why),
            Self::Protocol(why) => write!(f, "TLS handshake failed: {why}"),
            Self::Closed(why) => write!(f, "connection ended in the TLS handshake: {why}"),
            Self::Setup(why) => write!(f, "TLS not possible: {why}"),
        }
    }
}

/// What all outbound TLS connections share: the crypto provider and the roots. Cheap to clone; clones share the roots.
#[derive(Clone)]
pub struct Client {
    provider: Arc<CryptoProvider>,
    /// The roots, read when they are first needed: most mail servers never need them.
    roots: Arc<Mutex<Option<Arc<RootCertStore>>>>,
    /// Where they are read from in place of the system's.
    ca_file: Option<PathBuf>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Default for Client {
    fn default() -> Self {
        Self {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            roots: Arc::default(),
            ca_file: None,
        }
    }
}

impl Client {
    /// A client that trusts the roots of this file (PEM) in place of the system's.
    pub fn with_ca_file(ca_file: Option<PathBuf>) -> Self {
        Self { ca_file, ..Self::default() }
    }

    /// A client that trusts these roots in place of the system's.
    pub fn with_roots(roots: RootCertStore) -> Self {
        Self { roots: Arc::new(Mutex::new(Some(Arc::new(roots)))), ..Self::default() }
    }

    /// Does the handshake on a connection, under a demand. What the server presented comes back in both cases.
    ///
    /// # Errors
    ///
    /// Why there is no TLS session, or none that meets the demand.
    pub async fn handshake(
        &self,
        tcp: TcpStream,
        demand: &Demand,
        timeout: Duration,
    ) -> (Result<Box<TlsStream<TcpStream>>, HandshakeError>, Seen) {
        let (config, verifier, name, sni) = match self.prepare(demand).await {
            Ok(prepared) => prepared,
            Err(error) => return (Err(HandshakeError::Setup(error)), Seen::default()),
        };
        let mut seen = Seen { sni, ..Seen::default() };
        // Racing the handshake is safe: when time is up the future is dropped, and the connection with it.
        let connected = futures_lite::future::or(
            async { TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(Some) },
            async {
                smol::Timer::after(timeout).await;
                Err(None)
            },
        )
        .await;
        verifier.report(&mut seen);
        match connected {
            Ok(stream) => {
                let (_, session) = stream.get_ref();
                seen.version = session.protocol_version().map(version_text);
                seen.cipher = session
                    .negotiated_cipher_suite()
                    .and_then(|suite| suite.suite().as_str())
                    .map(str::to_owned);
                (Ok(Box::new(stream)), seen)
            }
            Err(None) => (Err(HandshakeError::Timeout), seen),
            Err(Some(error)) => (Err(handshake_error(&error, &seen)), seen),
        }
    }

    async fn prepare(
        &self,
        demand: &Demand,
    ) -> Result<(ClientConfig, Verifier, ServerName<'static>, Option<String>), String> {
        let (verifier, name) = match demand {
            Demand::Dane(demand) => {
                let name = mta_dane::reference::text(&demand.base_domain);
                (Verifier::Dane(DaneVerifier::new(demand, &self.provider)), name)
            }
            Demand::Any { sni } => (Verifier::Any(UnauthenticatedVerifier::new(&self.provider)), sni.clone()),
            Demand::Observed { sni, name } => {
                let any = UnauthenticatedVerifier::new(&self.provider);
                // Nothing is demanded, so nothing fails where the roots or the name cannot be used.
                let webpki = match ServerName::try_from(name.clone()) {
                    Ok(name) => self.webpki().await.map(|inner| (inner, name)),
                    Err(_) => Err(format!("{name} is no server name")),
                };
                let verifier = ObservingVerifier { any, webpki, verdict: Mutex::new(None) };
                (Verifier::Observed(Arc::new(Judged(verifier))), sni.clone())
            }
            Demand::WebPki { name } => {
                let inner = self.webpki().await?;
                let verifier = WebPkiVerifier { inner, seen: Mutex::new(None) };
                (Verifier::WebPki(Arc::new(Judged(verifier))), name.clone())
            }
        };
        let mut config =
            client_config(self.provider.clone(), verifier.as_rustls()).map_err(|error| error.to_string())?;
        let server_name = match ServerName::try_from(name.clone()) {
            Ok(server_name) => server_name,
            // Names that DNS allows and SNI does not. The records decide under DANE, and nothing is compared under
            // `Any`; only against a root the name is what counts.
            Err(_) if matches!(demand, Demand::WebPki { .. }) => {
                return Err(format!("{name} is no server name"));
            }
            Err(_) => {
                config.enable_sni = false;
                ServerName::try_from(NO_NAME).map_err(|error| error.to_string())?
            }
        };
        let sni = (config.enable_sni && matches!(server_name, ServerName::DnsName(_))).then_some(name);
        Ok((config, verifier, server_name, sni))
    }

    /// The stock verifier over the roots.
    async fn webpki(&self) -> Result<Arc<WebPkiServerVerifier>, String> {
        WebPkiServerVerifier::builder_with_provider(self.roots().await?, self.provider.clone())
            .build()
            .map_err(|error| format!("no usable certificate authorities on this system: {error}"))
    }

    async fn roots(&self) -> Result<Arc<RootCertStore>, String> {
        if let Some(roots) = self.roots.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(roots);
        }
        let ca_file = self.ca_file.clone();
        let (certificates, errors) = smol::unblock(move || load_roots(ca_file.as_deref())).await;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates);
        if roots.is_empty() {
            return Err(format!("no certificate authorities on this system: {errors}"));
        }
        let roots = Arc::new(roots);
        *self.roots.lock().unwrap_or_else(PoisonError::into_inner) = Some(roots.clone());
        Ok(roots)
    }
}

/// The certificates of the roots, and what went wrong with some.
fn load_roots(ca_file: Option<&Path>) -> (Vec<CertificateDer<'static>>, String) {
    let Some(path) = ca_file else {
        let loaded = rustls_native_certs::load_native_certs();
        let errors: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
        return (loaded.certs, errors.join("; "));
    };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) => (certificates, format!("{} holds none", path.display())),
        Err(error) => (Vec::new(), format!("{}: {error}", path.display())),
    }
}

/// The verifier of one connection.
enum Verifier {
    Dane(Arc<DaneVerifier>),
    Any(Arc<UnauthenticatedVerifier>),
    Observed(Arc<Judged<ObservingVerifier>>),
    WebPki(Arc<Judged<WebPkiVerifier>>),
}

impl Verifier {
    fn as_rustls(&self) -> Arc<dyn ServerCertVerifier> {
        match self {
            Self::Dane(verifier) => verifier.clone(),
            Self::Any(verifier) => verifier.clone(),
            Self::Observed(verifier) => verifier.clone(),
            Self::WebPki(verifier) => verifier.clone(),
        }
    }

    /// Writes down what was presented and what came of it.
    fn report(&self, seen: &mut Seen) {
        match self {
            Self::Dane(verifier) => {
                let Some(judgement) = verifier.judgement() else { return };
                match judgement.verdict {
                    Verdict::Match(matched) => seen.authenticated_by = Some(matched.to_string()),
                    Verdict::NoMatch(mismatch) => seen.mismatch = Some(mismatch),
                }
                seen.chain = judgement.seen;
            }
            Self::Any(verifier) => seen.chain = verifier.seen().unwrap_or_default(),
            Self::Observed(verifier) => {
                seen.chain = verifier.0.any.seen().unwrap_or_default();
                seen.webpki.clone_from(&verifier.0.verdict.lock().unwrap_or_else(PoisonError::into_inner));
            }
            Self::WebPki(verifier) => {
                let Some((chain, verdict)) =
                    verifier.0.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
                else {
                    return;
                };
                seen.chain = chain;
                seen.authenticated_by =
                    verdict.is_ok().then(|| "the system's certificate authorities".to_owned());
                seen.webpki = Some(verdict);
            }
        }
    }
}

/// The stock verifier, which also keeps what was presented.
#[derive(Debug)]
struct WebPkiVerifier {
    inner: Arc<WebPkiServerVerifier>,
    /// The chain, and the verdict on it.
    #[allow(clippy::type_complexity)]
    seen: Mutex<Option<(Vec<SeenCertificate>, Result<(), WebPkiFault>)>>,
}

impl Judge for WebPkiVerifier {
    fn judge(&self, shown: &Shown<'_>) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = shown.ask(&*self.inner, shown.server_name);
        let chain: Vec<CertificateDer<'_>> =
            shown.chain(verify::MAX_SEEN).map(|der| CertificateDer::from(der.as_ref())).collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((verify::seen(&chain), noted(&verdict)));
        verdict
    }

    fn signatures(&self) -> &dyn ServerCertVerifier {
        &*self.inner
    }
}

/// Accepts any certificate, and notes what the stock verifier says of it.
#[derive(Debug)]
struct ObservingVerifier {
    any: Arc<UnauthenticatedVerifier>,
    /// The stock verifier and the name, or why it cannot be asked.
    webpki: Result<(Arc<WebPkiServerVerifier>, ServerName<'static>), String>,
    verdict: Mutex<Option<Result<(), WebPkiFault>>>,
}

impl Judge for ObservingVerifier {
    fn judge(&self, shown: &Shown<'_>) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = match &self.webpki {
            Ok((webpki, name)) => noted(&shown.ask(&**webpki, name)),
            Err(why) => Err(WebPkiFault { result_type: ResultType::ValidationFailure, reason: why.clone() }),
        };
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
        shown.ask(&*self.any, shown.server_name)
    }

    fn signatures(&self) -> &dyn ServerCertVerifier {
        &*self.any
    }
}

fn noted(verdict: &Result<ServerCertVerified, rustls::Error>) -> Result<(), WebPkiFault> {
    verdict.as_ref().map(|_| ()).map_err(WebPkiFault::new)
}

fn handshake_error(error: &io::Error, seen: &Seen) -> HandshakeError {
    if let Some(mismatch) = &seen.mismatch {
        return HandshakeError::Certificate(mismatch.to_string());
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            HandshakeError::Certificate(format!("the server's certificate is not trusted: {why}"))
        }
        // What a server sends here may hold anything; rustls prints it escaped and bounded.
        Some(other) => HandshakeError::Protocol(other.to_string()),
        None => HandshakeError::Closed(error.to_string()),
    }
}

fn version_text(version: rustls::ProtocolVersion) -> String {
    match version {
        rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2".to_owned(),
        rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3".to_owned(),
        other => format!("{other:?}"),
    }
}
