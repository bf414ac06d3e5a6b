//! The certificates that clients are shown, chosen by what each can use, and read again when their files change.
//!
//! What it does: among the chains that carry the name a client asks for, the first in the order of the configuration whose
//! key signs in a way the client can check, so that ECDSA and RSA can stand side by side. A name that is unknown, or none,
//! gets the first chain that the client can check: nobody is refused for a name (RFC 7672 8.1: senders ask for what they
//! know). Now and then, while handshakes come, the files are looked at; new ones take their place for the handshakes that
//! follow, and no session is dropped. New files that cannot be used change nothing, and the administrator is told. What it
//! does not: no renewal (that is an ACME client's), no timer of its own.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use mta_dane::tlsa::TlsaRecord;
use mta_smtp::address::Domain;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureScheme};

use super::client_certificate::AnyCertificate;
use super::server::{Identity, IdentityError};
use crate::alert::{Alerts, Kind};
use crate::log::Line;

/// Where identities come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Certificate chain and key, PEM files; the first is the default. Empty: our own key.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// Where our own key lies.
    pub state_dir: PathBuf,
    /// The name of our own certificate.
    pub hostname: Domain,
    /// How often, at most, the files are looked at.
    pub watch: Duration,
}

/// One chain with its key, as it is shown.
#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    /// The names it carries, lower case.
    names: Vec<String>,
    tlsa: TlsaRecord,
    /// RFC 5929 4.1.
    end_point: Option<Vec<u8>>,
}

/// All of them at one time.
#[derive(Debug)]
struct Set(Vec<Shown>);

impl Set {
    fn of(identities: &[Identity]) -> Result<Self, IdentityError> {
        let shown = |identity: &Identity| {
            Ok(Shown {
                key: Arc::new(identity.certified_key()?),
                names: identity.names(),
                tlsa: identity.tlsa_record(),
                end_point: identity.end_point(),
            })
        };
        identities.iter().map(shown).collect::<Result<_, _>>().map(Self)
    }

    /// The chain for a client that asks for this name and can check these signatures.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Shown> {
        let usable = |shown: &&Shown| shown.key.key.choose_scheme(schemes).is_some();
        let name = name.map(str::to_ascii_lowercase);
        let named = name.as_ref().and_then(|name| {
            self.0.iter().filter(usable).find(|shown| shown.names.iter().any(|known| matches(known, name)))
        });
        named.or_else(|| self.0.iter().find(usable)).or_else(|| self.0.first())
    }
}

/// Whether a name of a certificate is this one; a star stands for one label (RFC 6125 6.4.3).
fn matches(known: &str, name: &str) -> bool {
    match known.strip_prefix("*.") {
        Some(parent) => name.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => known == name,
    }
}

/// What tells that a file is another one.
type Stamp = Option<(u64, u64, i64, i64)>;

#[derive(Debug)]
struct Watched {
    sources: Sources,
    /// The files as they were when they were read last.
    stamps: Vec<Stamp>,
    looked_at: Instant,
    /// New files that could not be used when they were seen first: they may not all be there yet.
    doubtful: Option<Vec<Stamp>>,
    looking: bool,
}

struct Inner {
    set: RwLock<Arc<Set>>,
    watched: Mutex<Watched>,
    alerts: Mutex<Option<Alerts>>,
}

/// The identities; all clones are one.
#[derive(Clone)]
pub struct Identities(Arc<Inner>);

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identities").field(&self.now().0.len()).finish()
    }
}

impl Identities {
    /// Of what was loaded from these sources.
    ///
    /// # Errors
    /// A key that does not belong to its certificate.
    pub fn new(sources: Sources, loaded: &[Identity]) -> Result<Self, IdentityError> {
        let set = RwLock::new(Arc::new(Set::of(loaded)?));
        let stamps = stamps(&sources);
        let watched = Watched { sources, stamps, looked_at: Instant::now(), doubtful: None, looking: false };
        Ok(Self(Arc::new(Inner { set, watched: Mutex::new(watched), alerts: Mutex::default() })))
    }

    /// Whom to tell of new files that cannot be used.
    pub fn tell(&self, alerts: Alerts) {
        *self.0.alerts.lock().unwrap_or_else(PoisonError::into_inner) = Some(alerts);
    }

    /// Reads these sources from now on, and at once. Blocks.
    ///
    /// # Errors
    /// `IdentityError`; what was shown is shown on.
    pub fn reload(&self, sources: Sources) -> Result<(), IdentityError> {
        let stamps = stamps(&sources);
        self.put(&load(&sources)?)?;
        let mut watched = self.watched();
        (watched.sources, watched.stamps, watched.doubtful) = (sources, stamps, None);
        drop(watched);
        self.clear();
        Ok(())
    }

    /// The `3 1 1` records to publish, one for each key, the default first.
    pub fn tlsa(&self) -> Vec<TlsaRecord> {
        let mut records = Vec::new();
        for shown in &self.now().0 {
            if !records.contains(&shown.tlsa) {
                records.push(shown.tlsa.clone());
            }
        }
        records
    }

    /// What `tls-server-end-point` is (RFC 5929 4), where every client sees the same certificate.
    pub fn end_point(&self) -> Option<Vec<u8>> {
        match self.now().0.as_slice() {
            [only] => only.end_point.clone(),
            _ => None,
        }
    }

    /// The configuration of a server that shows them: TLS 1.2 and 1.3. `ask_clients`: clients are asked for a certificate,
    /// which they may have or not.
    ///
    /// # Errors
    /// `IdentityError::Mismatch`, where the cryptography does not fit; it always does.
    pub fn server_config(&self, ask_clients: bool) -> Result<Arc<ServerConfig>, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| IdentityError::Mismatch { reason: error.to_string() })?;
        let builder = if ask_clients {
            builder.with_client_cert_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            builder.with_no_client_auth()
        };
        Ok(Arc::new(builder.with_cert_resolver(Arc::new(self.clone()))))
    }

    /// Looks at the files, if that is due, on a thread that may block: the handshake at hand does not wait for it.
    fn look_if_due(&self) {
        let mut watched = self.watched();
        let due = watched.looked_at.elapsed() >= watched.sources.watch && !watched.looking;
        if due && !watched.sources.files.is_empty() {
            watched.looking = true;
            drop(watched);
            let identities = self.clone();
            smol::unblock(move || identities.look()).detach();
        }
    }

    /// Reads the files again where one of them has changed.
    fn look(&self) {
        let sources = self.watched().sources.clone();
        let found = stamps(&sources);
        let changed = self.watched().stamps != found;
        let read = changed.then(|| load(&sources).and_then(|loaded| self.put(&loaded)));
        let mut watched = self.watched();
        (watched.looked_at, watched.looking) = (Instant::now(), false);
        match read {
            None => watched.doubtful = None,
            Some(Ok(())) => {
                (watched.stamps, watched.doubtful) = (found, None);
                drop(watched);
                ::log::info!("{}", Line::new("tls-certificates").with("status", "read anew"));
                self.clear();
            }
            // Certificate and key are not replaced at one instant: once more before anybody is alarmed.
            Some(Err(_)) if watched.doubtful.as_ref() != Some(&found) => watched.doubtful = Some(found),
            Some(Err(error)) => {
                drop(watched);
                self.alarm(&error);
            }
        }
    }

    fn alarm(&self, error: &IdentityError) {
        let alerts = self.0.alerts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(alerts) = alerts.as_ref() {
            let text = format!("the new certificate cannot be used, and the old one is shown on: {error}");
            let remedy = "put a chain and its key in place that belong together and that the service user may read; \
                          they are taken up by themselves";
            alerts.raise(Kind::Certificate, "", &text, remedy);
        }
    }

    fn clear(&self) {
        let alerts = self.0.alerts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(alerts) = alerts.as_ref() {
            alerts.clear(Kind::Certificate, "");
        }
    }

    fn put(&self, loaded: &[Identity]) -> Result<(), IdentityError> {
        let set = Arc::new(Set::of(loaded)?);
        *self.0.set.write().unwrap_or_else(PoisonError::into_inner) = set;
        Ok(())
    }

    fn now(&self) -> Arc<Set> {
        Arc::clone(&self.0.set.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.look_if_due();
        let set = self.now();
        set.choose(hello.server_name(), hello.signature_schemes()).map(|shown| Arc::clone(&shown.key))
    }
}

/// Loads the files of the configuration; `None` where it names none. Blocks.
///
/// # Errors
/// `IdentityError`.
pub fn configured(sources: &Sources) -> Result<Option<Vec<Identity>>, IdentityError> {
    if sources.files.is_empty() {
        return Ok(None);
    }
    let load = |(certificate, key): &(PathBuf, PathBuf)| {
        let identity = Identity::load(certificate, key)?;
        identity.certified_key()?;
        Ok(identity)
    };
    sources.files.iter().map(load).collect::<Result<_, _>>().map(Some)
}

/// The configured identities, or our own, made at first start. Blocks.
///
/// # Errors
/// `IdentityError`.
pub fn load(sources: &Sources) -> Result<Vec<Identity>, IdentityError> {
    match configured(sources)? {
        Some(loaded) => Ok(loaded),
        None => Identity::load_or_make(&sources.state_dir, &sources.hostname).map(|own| vec![own]),
    }
}

fn stamps(sources: &Sources) -> Vec<Stamp> {
    let files = sources.files.iter().flat_map(|(certificate, key)| [certificate, key]);
    files
        .map(|file| {
            let data = fs::metadata(file).ok()?;
            Some((data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

    use super::*;

    /// Writes a chain and a key of this kind for these names.
    fn write(
        folder: &std::path::Path,
        name: &str,
        algorithm: &'static rcgen::SignatureAlgorithm,
        names: &[&str],
    ) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let certificate = CertificateParams::new(names).expect("names").self_signed(&key).expect("signed");
        let files = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        fs::write(&files.0, certificate.pem()).expect("written");
        fs::write(&files.1, key.serialize_pem()).expect("written");
        files
    }

    fn sources(folder: &std::path::Path, files: Vec<(PathBuf, PathBuf)>) -> Sources {
        let hostname = Domain::parse("mx.example").expect("a domain");
        Sources { files, state_dir: folder.join("state"), hostname, watch: Duration::ZERO }
    }

    fn identities(sources: &Sources) -> Identities {
        Identities::new(sources.clone(), &load(sources).expect("loaded")).expect("usable")
    }

    const ECDSA: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
    const ED25519: &[SignatureScheme] = &[SignatureScheme::ED25519];
    const BOTH: &[SignatureScheme] = &[SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256];

    #[test]
    fn chosen_by_name_and_kind_of_key_and_nobody_is_refused() {
        let folder = tempfile::tempdir().expect("a directory");
        let files = vec![
            write(folder.path(), "one", &PKCS_ECDSA_P256_SHA256, &["mx.example"]),
            write(folder.path(), "one-ed", &PKCS_ED25519, &["mx.example", "*.one.example"]),
            write(folder.path(), "two", &PKCS_ECDSA_P256_SHA256, &["mx.two.example"]),
        ];
        let identities = identities(&sources(folder.path(), files));
        let set = identities.now();
        for (name, schemes, expected) in [
            (Some("mx.example"), BOTH, 0),
            (Some("MX.example"), ECDSA, 0),
            (Some("mx.example"), ED25519, 1),
            (Some("mx.two.example"), BOTH, 2),
            // Of the right name it has none that this client can check: better another than none.
            (Some("mx.two.example"), ED25519, 1),
            (Some("a.one.example"), BOTH, 1),
            (Some("a.b.one.example"), BOTH, 0),
            (Some("one.example"), BOTH, 0),
            (Some("unknown.example"), BOTH, 0),
            (None, BOTH, 0),
            (None, ED25519, 1),
            (None, &[], 0),
        ] {
            let chosen = set.choose(name, schemes).expect("one");
            let at = set.0.iter().position(|shown| std::ptr::eq(shown, chosen));
            assert_eq!(at, Some(expected), "{name:?} {schemes:?}");
        }
        assert_eq!(identities.tlsa().len(), 3);
        assert_eq!(identities.end_point(), None, "clients see different ones");
    }

    #[test]
    fn one_certificate_has_an_end_point() {
        let folder = tempfile::tempdir().expect("a directory");
        let own = identities(&sources(folder.path(), Vec::new()));
        assert_eq!(own.end_point().map(|hash| hash.len()), Some(32));
    }

    #[test]
    fn new_files_take_their_place_and_broken_ones_do_not() {
        let folder = tempfile::tempdir().expect("a directory");
        let files = write(folder.path(), "one", &PKCS_ECDSA_P256_SHA256, &["mx.example"]);
        let identities = identities(&sources(folder.path(), vec![files.clone()]));
        let alerts = Alerts::default();
        identities.tell(alerts.clone());
        let first = identities.tlsa();
        identities.look();
        assert_eq!(identities.tlsa(), first);

        write(folder.path(), "one", &PKCS_ECDSA_P256_SHA256, &["mx.example"]);
        identities.look();
        let second = identities.tlsa();
        assert_ne!(second, first);

        let key = fs::read(&files.1).expect("readable");
        fs::write(&files.1, "damaged").expect("written");
        identities.look();
        assert!(alerts.open().is_empty(), "perhaps the other file is still to come");
        identities.look();
        assert_eq!(identities.tlsa(), second);
        assert_eq!(alerts.open().first().map(|alert| alert.kind), Some(Kind::Certificate));

        fs::write(&files.1, key).expect("written");
        identities.look();
        assert_eq!(identities.tlsa(), second);
        assert!(alerts.open().is_empty(), "it is over");
    }

    #[test]
    fn a_reload_that_fails_changes_nothing() {
        let folder = tempfile::tempdir().expect("a directory");
        let one = write(folder.path(), "one", &PKCS_ECDSA_P256_SHA256, &["mx.example"]);
        let two = write(folder.path(), "two", &PKCS_ECDSA_P256_SHA256, &["mx.example"]);
        let identities = identities(&sources(folder.path(), vec![one.clone()]));
        let first = identities.tlsa();
        identities.reload(sources(folder.path(), vec![(one.0, two.1.clone())])).expect_err("mixed");
        assert_eq!(identities.tlsa(), first);
        identities.reload(sources(folder.path(), vec![two])).expect("another");
        assert_ne!(identities.tlsa(), first);
    }
}
