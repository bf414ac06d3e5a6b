//! The rustls verifiers in real handshakes, in memory, for TLS 1.2 and 1.3: rows F5, F8, G5, G6 of the requirement matrix.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use common::*;
use mta_dane::failure::Mismatch;
use mta_dane::policy::Authenticate;
use mta_dane::reference::{ReferenceId, a_labels};
use mta_dane::tlsa::TlsaRecord;
use mta_dane::verifier::{DaneVerifier, UnauthenticatedVerifier, client_config};
use mta_dane::verify::Verdict;
use rcgen::KeyPair;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConnection, Error, HandshakeKind, ServerConfig, ServerConnection, SupportedProtocolVersion,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};

#[derive(Debug)]
struct At(i64);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0 as u64)))
    }
}

#[derive(Debug)]
struct Serve(Arc<CertifiedKey>);

impl ResolvesServerCert for Serve {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A server that presents these certificates and signs with this key, which need not be theirs.
fn server(certs: &[&Cert], key: &KeyPair, version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = ring::sign::any_supported_type(&key).unwrap();
    let certified = Arc::new(CertifiedKey::new(chain(certs), key));
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Serve(certified)));
    Arc::new(config)
}

fn demand(records: Vec<TlsaRecord>) -> Authenticate {
    Authenticate {
        base_domain: a_labels(HOST).unwrap(),
        records,
        unusable: Vec::new(),
        reference_ids: vec![ReferenceId::parse(HOST).unwrap()],
        host_only: false,
    }
}

/// A handshake and one byte each way; how the handshake was done, or the client's error.
fn handshake(
    server: &Arc<ServerConfig>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<HandshakeKind, Error> {
    let mut config = client_config(provider(), verifier).unwrap();
    config.time_provider = Arc::new(At(NOW));
    connect(server, &Arc::new(config))
}

fn connect(server: &Arc<ServerConfig>, config: &Arc<rustls::ClientConfig>) -> Result<HandshakeKind, Error> {
    let name = ServerName::try_from(HOST).unwrap();
    let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    client.writer().write_all(b"c").unwrap();
    server.writer().write_all(b"s").unwrap();
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            // The server's complaint is not the point; the client's is.
            let _ = server.process_new_packets();
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets()?;
        }
    }
    let mut byte = [0];
    client.reader().read_exact(&mut byte).unwrap();
    assert_eq!((client.is_handshaking(), byte), (false, *b"s"));
    Ok(client.handshake_kind().unwrap())
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// F5, G5: matching records pass in both versions; the verifier keeps the judgement.
#[test]
fn f5_matching_records_pass() {
    let f = family();
    for version in VERSIONS {
        let server = server(&[&f.leaf, &f.middle, &f.root], &f.leaf.key, version);
        for (record, depth) in
            [(f.leaf.record(3, 1, 1), 0), (f.middle.record(2, 0, 1), 1), (f.root.record(2, 1, 2), 2)]
        {
            let verifier = DaneVerifier::new(&demand(vec![record]), &provider());
            assert!(verifier.judgement().is_none());
            assert_eq!(handshake(&server, verifier.clone()), Ok(HandshakeKind::Full));
            assert_eq!(verifier.judgement().unwrap().matched().unwrap().depth, depth);
        }
    }
}

/// F2, J1: no match ends the handshake, and the judgement says why and what was seen.
#[test]
fn f2_mismatch_ends_the_handshake() {
    let f = family();
    for version in VERSIONS {
        let server = server(&[&f.leaf, &f.middle], &f.leaf.key, version);
        let verifier = DaneVerifier::new(&demand(vec![f.root.record(3, 1, 1)]), &provider());
        assert!(handshake(&server, verifier.clone()).is_err());
        let judgement = verifier.judgement().unwrap();
        assert_eq!(
            judgement.verdict,
            Verdict::NoMatch(Mismatch::NothingMatches { only_dane_ee: true, hint: None })
        );
        assert_eq!(judgement.seen.len(), 2);
        let verifier = DaneVerifier::new(&demand(Vec::new()), &provider());
        assert!(handshake(&server, verifier).is_err(), "no records authenticate nobody");
    }
}

/// G5: a certificate whose key the server does not hold is worth nothing, matching or not, under every verifier.
#[test]
fn g5_possession_is_proved() {
    let f = family();
    let odd = Spec::leaf(HOST).with(|s| s.version = 1).self_signed();
    for version in VERSIONS {
        for leaf in [&f.leaf, &odd] {
            let server = server(&[leaf], &new_key(), version);
            let verifier = DaneVerifier::new(&demand(vec![leaf.record(3, 1, 1)]), &provider());
            assert!(handshake(&server, verifier).is_err());
            assert!(handshake(&server, UnauthenticatedVerifier::new(&provider())).is_err());
        }
    }
}

/// G6: leaves that a certificate library refuses to read still pass for DANE-EE(3), and without authentication.
#[test]
fn g6_odd_leaves_pass() {
    let cases: [fn(&mut Spec); 5] = [
        |s| s.version = 1,
        |s| s.unknown_critical = true,
        |s| s.raw_san = Some(vec![0x30, 0x7f, 0x82]),
        |s| (s.subject, s.not_after) = (name(""), NOW - DAY),
        |s| s.ca = Some(true),
    ];
    for version in VERSIONS {
        for change in cases {
            let leaf = Spec::leaf(HOST).with(change).self_signed();
            let server = server(&[&leaf], &leaf.key, version);
            let verifier = DaneVerifier::new(&demand(vec![leaf.record(3, 1, 1)]), &provider());
            assert_eq!(handshake(&server, verifier), Ok(HandshakeKind::Full));
            let verifier = UnauthenticatedVerifier::new(&provider());
            assert_eq!(handshake(&server, verifier.clone()), Ok(HandshakeKind::Full));
            assert_eq!(verifier.seen().unwrap()[0].cert_sha256, mta_dane::matching::sha256_hex(&leaf.der));
        }
    }
}

/// Other key types than the default: P-384 and Ed25519.
#[test]
fn other_key_types() {
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = Arc::new(KeyPair::generate_for(algorithm).unwrap());
        let issuer = Spec::ca("root").self_signed();
        let leaf = Spec::leaf(HOST).build(&issuer.subject, &issuer.key, &key);
        for version in VERSIONS {
            let server = server(&[&leaf, &issuer], &key, version);
            for record in [leaf.record(3, 1, 1), issuer.record(2, 1, 1)] {
                let verifier = DaneVerifier::new(&demand(vec![record]), &provider());
                assert_eq!(handshake(&server, verifier), Ok(HandshakeKind::Full));
            }
        }
    }
}

/// RSA keys, of the server and of its issuer: still the most common kind.
#[test]
fn rsa_keys() {
    let issuer = Spec::ca("root").with(|s| s.subject = name("root"));
    let issuer = issuer.build(&name("root"), &rsa_key(), &rsa_key());
    let leaf = Spec::leaf(HOST).build(&issuer.subject, &issuer.key, &rsa_key());
    for version in VERSIONS {
        let server = server(&[&leaf, &issuer], &leaf.key, version);
        for record in [leaf.record(3, 1, 1), issuer.record(2, 0, 1), issuer.record(2, 1, 0)] {
            let verifier = DaneVerifier::new(&demand(vec![record]), &provider());
            assert_eq!(handshake(&server, verifier), Ok(HandshakeKind::Full));
        }
    }
}

/// F8: no session is resumed, which would skip the verifier; not even with one configuration used twice.
#[test]
fn f8_no_resumption() {
    let f = family();
    for version in VERSIONS {
        let server = server(&[&f.leaf], &f.leaf.key, version);
        let verifier = DaneVerifier::new(&demand(vec![f.leaf.record(3, 1, 1)]), &provider());
        let mut config = client_config(provider(), verifier).unwrap();
        config.time_provider = Arc::new(At(NOW));
        let config = Arc::new(config);
        for _ in 0..3 {
            assert_eq!(connect(&server, &config), Ok(HandshakeKind::Full));
        }
        // The control: with resumption on, the same server resumes.
        let mut careless = rustls::ClientConfig::clone(&config);
        careless.resumption = rustls::client::Resumption::default();
        let careless = Arc::new(careless);
        let kinds: Vec<_> = (0..3).map(|_| connect(&server, &careless).unwrap()).collect();
        assert!(kinds.contains(&HandshakeKind::Resumed), "{kinds:?}");
    }
}

/// F3, F4, F5, F6, F8, G7, RFC 7672 8.1, 8.2, RFC 7671 3, 5.1: what our first bytes say. A TLS record, no SSLv2 hello; TLS 1.2 and 1.3;
/// suites with certificates only; the base domain as server name; no ticket, no session id of an earlier session; no raw keys.
#[test]
fn f3_f4_f5_f6_f8_g7_what_the_hello_says() {
    let f = family();
    let verifier = DaneVerifier::new(&demand(vec![f.leaf.record(3, 1, 1)]), &provider());
    let config = client_config(provider(), verifier).unwrap();
    let host = ServerName::try_from(HOST).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), host).unwrap();
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    // Record header: handshake(22), a version that begins with 3, length; then ClientHello(1).
    assert_eq!((wire[0], wire[1], wire[5]), (22, 3, 1));
    let mut at = 5 + 4 + 2 + 32;
    let mut take = |width: usize| {
        let length = wire[at..at + width].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        at += width + length;
        wire[at - length..at].to_vec()
    };
    let (_session_id, suites, _compression, extensions) = (take(1), take(2), take(1), take(2));
    let suites: Vec<u16> = suites.chunks(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect();
    // TLS 1.3, and ECDHE with ECDSA or RSA; 0x00ff signals secure renegotiation (RFC 5746).
    let known = [0x1301, 0x1302, 0x1303, 0xc02b, 0xc02c, 0xcca9, 0xc02f, 0xc030, 0xcca8, 0x00ff];
    assert!(suites.len() > 5 && suites.iter().all(|suite| known.contains(suite)), "{suites:04x?}");
    let (mut kinds, mut rest) = (Vec::new(), extensions.as_slice());
    while let [a, b, c, d, after @ ..] = rest {
        let (value, after) = after.split_at(usize::from(u16::from_be_bytes([*c, *d])));
        kinds.push((u16::from_be_bytes([*a, *b]), value.to_vec()));
        rest = after;
    }
    let value = |kind: u16| kinds.iter().find(|(k, _)| *k == kind).map(|(_, value)| value.as_slice());
    assert!(value(0).is_some_and(|sni| sni.ends_with(HOST.as_bytes())), "server_name");
    assert_eq!(value(43), Some(&[4, 3, 4, 3, 3][..]), "supported_versions");
    for (kind, what) in [(20, "server_certificate_type"), (41, "pre_shared_key"), (42, "early_data")] {
        assert_eq!(value(kind), None, "{what}");
    }
    assert!(value(35).is_none_or(<[u8]>::is_empty), "session_ticket");
}

/// H2: the time that counts for DANE-TA(2) is the handshake's.
#[test]
fn h2_time_is_an_argument() {
    let f = family();
    let server = server(&[&f.leaf, &f.middle, &f.root], &f.leaf.key, &rustls::version::TLS13);
    for (time, good) in [(NOW, true), (NOW + 31 * DAY, false), (NOW - 31 * DAY, false)] {
        let verifier = DaneVerifier::new(&demand(vec![f.root.record(2, 1, 1)]), &provider());
        let mut config = client_config(provider(), verifier).unwrap();
        config.time_provider = Arc::new(At(time));
        assert_eq!(connect(&server, &Arc::new(config)).is_ok(), good);
    }
}
