//! One handshake that only looks: which chain does this address serve to a client of this kind?
//!
//! What it does not: it judges nothing, and whatever it sees is used for nothing else. The session ends with it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_lite::AsyncWriteExt;
use futures_rustls::TlsConnector;
use mta_dane::verifier::{UnauthenticatedVerifier, client_config};
use mta_smtp::client::{Protocol, Settings, TlsUse};
use rustls::SignatureScheme;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName};
use smol::net::TcpStream;

use super::super::examine::NoContent;
use super::super::session::{Connection, Event, Message, Stream};
use super::super::{Options, outcome};
use super::connect;
use crate::tls::judged::{Judge, Judged};

/// Certificates of one chain that are kept.
const MAX_CHAIN: usize = 16;

/// The kind of key a client can verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// ECDSA and Ed25519.
    Ecdsa,
    /// RSA.
    Rsa,
}

impl Key {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ecdsa => "ECDSA",
            Self::Rsa => "RSA",
        }
    }

    fn allows(self, scheme: SignatureScheme) -> bool {
        let text = format!("{scheme:?}");
        let is_rsa = text.starts_with("RSA");
        is_rsa == (self == Self::Rsa)
    }
}

/// What one handshake showed.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) address: SocketAddr,
    pub(super) key: Key,
    pub(super) sni: Option<String>,
    /// The chain, the server's certificate first; or why there is none.
    pub(super) chain: Result<Vec<CertificateDer<'static>>, Missing>,
}

/// Why no chain was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    /// The address cannot be spoken to, or offers no TLS.
    Unreachable(String),
    /// It speaks TLS, and has no certificate of this kind.
    NoneOfThisKind(String),
}

/// Connects, asks for TLS and looks.
pub(super) async fn show(
    address: SocketAddr,
    key: Key,
    sni: Option<&str>,
    implicit: bool,
    options: &Options,
) -> Shown {
    let chain = look(address, key, sni, implicit, options).await;
    Shown { address, key, sni: sni.map(str::to_owned), chain }
}

async fn look(
    address: SocketAddr,
    key: Key,
    sni: Option<&str>,
    implicit: bool,
    options: &Options,
) -> Result<Vec<CertificateDer<'static>>, Missing> {
    let unreachable = |why: String| Missing::Unreachable(why);
    let tcp = connect::connect(address, options)
        .await
        .map_err(|error| unreachable(format!("no connection: {error}")))?;
    let tcp = if implicit { tcp } else { starttls(tcp, options).await.map_err(unreachable)? };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let collector = Arc::new(Judged(Collector {
        inner: UnauthenticatedVerifier::new(&provider),
        key,
        chain: Mutex::default(),
    }));
    let setup = |error: String| Missing::Unreachable(format!("TLS not possible: {error}"));
    let mut config = client_config(provider, collector.clone()).map_err(|error| setup(error.to_string()))?;
    config.enable_sni = sni.is_some();
    let name = ServerName::try_from(sni.unwrap_or("invalid").to_owned());
    let name = name.map_err(|error| setup(error.to_string()))?;
    let connected = futures_lite::future::or(
        async {
            TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|error| error.to_string())
        },
        async {
            smol::Timer::after(options.handshake_timeout).await;
            Err("TLS handshake not done in time".to_owned())
        },
    )
    .await;
    match connected {
        Ok(mut stream) => {
            // Good manners; nothing depends on it.
            let goodbye = async { stream.write_all(b"QUIT\r\n").await.and(stream.close().await) };
            let patience = async {
                smol::Timer::after(options.smtp.command).await;
                Ok(())
            };
            let _ = futures_lite::future::or(goodbye, patience).await;
            Ok(collector.0.chain.lock().unwrap_or_else(PoisonError::into_inner).clone())
        }
        Err(why) => Err(Missing::NoneOfThisKind(why)),
    }
}

/// Greeting, EHLO, STARTTLS, as a delivery does them.
async fn starttls(tcp: TcpStream, options: &Options) -> Result<TcpStream, String> {
    let settings = Settings {
        protocol: Protocol::Smtp,
        host_name: options.host_name.clone(),
        tls: TlsUse::Required,
        credentials: None,
        eight_bit: options.eight_bit,
        limits: options.smtp,
    };
    // Greeting, EHLO and STARTTLS, each within its time.
    let until = Instant::now() + options.smtp.greeting + options.smtp.command * 2;
    let nothing = Message { content: Arc::new(NoContent), size_bytes: 0, until };
    let mut connection = Connection::new(Stream::Plain(tcp), settings, &nothing);
    match connection.next().await {
        Event::StartTls => connection.take_plain().ok_or_else(|| "no connection".to_owned()),
        Event::Failed(failure) => {
            let why = outcome::told(&failure);
            connection.goodbye().await;
            Err(why)
        }
        Event::Closed => Err("the server closed the connection".to_owned()),
        Event::Ready | Event::Done(_) => Err("no STARTTLS came about".to_owned()),
    }
}

/// Takes every certificate, keeps the chain, and offers signatures of one kind alone.
#[derive(Debug)]
struct Collector {
    inner: Arc<UnauthenticatedVerifier>,
    key: Key,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl Judge for Collector {
    fn judge(&self, shown: &crate::tls::judged::Shown<'_>) -> Result<ServerCertVerified, rustls::Error> {
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) =
            shown.chain(MAX_CHAIN).map(|der| der.clone().into_owned()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn signatures(&self) -> &dyn ServerCertVerifier {
        &*self.inner
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.inner.supported_verify_schemes();
        schemes.retain(|scheme| self.key.allows(*scheme));
        schemes
    }
}
