//! Policies found, kept, refreshed and lost, against a policy host in this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use futures_rustls::TlsAcceptor;
use hickory_proto::rr::RecordType::{A, TXT};
use mta_dane::dnssec::Status;
use mta_queue::Queue;
use rustls::RootCertStore;
use rustls_pki_types::PrivateKeyDer;
use smol::net::TcpListener;

use super::*;
use crate::dns::FakeResolver;

const ENFORCE: &str = "version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 86400\n";

/// A policy host that answers every request with what it is told to.
struct PolicyHost {
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    address: SocketAddr,
    client: Client,
    _task: smol::Task<()>,
}

impl PolicyHost {
    fn start() -> Self {
        let identity = rcgen::generate_simple_self_signed(["mta-sts.example".to_owned()]).unwrap();
        let certificate = identity.cert.der().clone();
        let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.clone()], key)
                .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = smol::block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicUsize::new(0)));
        let (answers, count) = (Arc::clone(&answer), Arc::clone(&asked));
        let task = smol::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let Ok(mut tls) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 1024];
                let Ok(_) = tls.read(&mut request).await else { continue };
                let text = answers.lock().unwrap().clone();
                let _ = tls.write_all(text.as_bytes()).await;
                let _ = tls.close().await;
            }
        });
        Self { answer, asked, address, client: Client::with_roots(roots), _task: task }
    }

    fn says(&self, policy: &str) {
        let length = policy.len();
        *self.answer.lock().unwrap() = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{policy}"
        );
    }

    fn says_raw(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().unwrap());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A domain `example` with a policy, and a server that looks for it.
struct Scene {
    host: PolicyHost,
    resolver: FakeResolver,
    options: Arc<outbound::Options>,
    sts: Arc<Sts>,
}

impl Scene {
    fn new(queue: Option<Queue>) -> Self {
        let host = PolicyHost::start();
        host.says(ENFORCE);
        let resolver = FakeResolver::new();
        resolver.insecure("mta-sts.example", A, &["127.0.0.1"]);
        let mut options =
            outbound::Options { allow_loopback: true, ipv6: false, ..outbound::Options::default() };
        options.sts.port = host.address.port();
        options.sts.fetch_timeout = Duration::from_secs(20);
        let sts = Sts::new(Arc::new(resolver.clone()), Arc::new(host.client.clone()), queue);
        let scene = Self { host, resolver, options: Arc::new(options), sts };
        scene.announce("v=STSv1; id=1;");
        scene
    }

    fn announce(&self, record: &str) {
        self.resolver.insecure("_mta-sts.example", TXT, &[record]);
    }

    fn change(&mut self, change: impl FnOnce(&mut Options)) {
        change(&mut Arc::make_mut(&mut self.options).sts);
    }

    fn find(&self) -> Finding {
        smol::block_on(self.sts.policy("example", &self.options))
    }

    fn fault(&self) -> (Option<&'static str>, String) {
        let finding = self.find();
        assert_eq!(finding.policy, None);
        let fault = finding.fault.expect("a fault");
        (fault.kind.result_type(), fault.reason)
    }

    /// A server that knows nothing yet.
    fn forget(&mut self) {
        self.sts = Sts::new(Arc::new(self.resolver.clone()), Arc::new(self.host.client.clone()), None);
    }
}

fn mode(finding: &Finding) -> Option<Mode> {
    finding.policy.as_ref().map(|found| found.policy.mode)
}

#[test]
fn a_policy_is_fetched_once_and_kept() {
    let scene = Scene::new(None);
    assert_eq!(mode(&scene.find()), Some(Mode::Enforce));
    assert_eq!(mode(&scene.find()), Some(Mode::Enforce));
    assert_eq!(scene.host.asked(), 1);
}

/// RFC 8461 3.3, 10.2: who blocks or forges DNS, or blocks HTTPS, does not switch off a policy that is known.
#[test]
fn a_known_policy_survives_the_loss_of_its_record_and_of_its_host() {
    let scene = Scene::new(None);
    scene.find();
    let lost: [&dyn Fn(); 6] = [
        &|| _ = scene.resolver.nodata("_mta-sts.example", TXT, Status::Insecure),
        &|| _ = scene.resolver.unavailable("_mta-sts.example", TXT),
        &|| _ = scene.resolver.bogus("_mta-sts.example", TXT),
        &|| scene.announce("v=STSv1; rubbish"),
        &|| _ = scene.resolver.insecure("_mta-sts.example", TXT, &["v=STSv1; id=1", "v=STSv1; id=2"]),
        &|| {
            scene.announce("v=STSv1; id=2;");
            scene.host.says_raw("HTTP/1.1 500 Down\r\n\r\n");
        },
    ];
    for (number, lose) in lost.iter().enumerate() {
        lose();
        assert_eq!(mode(&scene.find()), Some(Mode::Enforce), "{number}");
    }
    assert!(scene.find().fault.expect("why there is no newer one").reason.contains("HTTP status 500"));
}

#[test]
fn a_new_id_brings_the_new_policy() {
    let scene = Scene::new(None);
    scene.find();
    scene.host.says(&ENFORCE.replace("enforce", "none"));
    assert_eq!(mode(&scene.find()), Some(Mode::Enforce), "the id is still the old one");
    scene.announce("v=STSv1; id=2;");
    assert_eq!(mode(&scene.find()), Some(Mode::None));
    assert_eq!(scene.host.asked(), 2);
}

#[test]
fn without_a_policy_there_is_none_whatever_is_wrong_with_it() {
    let mut scene = Scene::new(None);
    scene.resolver.nodata("_mta-sts.example", TXT, Status::Secure);
    assert_eq!(scene.find(), Finding { domain: "example".into(), policy: None, fault: None });
    assert_eq!(scene.host.asked(), 0, "nobody is asked who announces nothing");
    scene.announce("v=STSv1; id=1;");
    for (answer, result_type, words) in [
        (
            "HTTP/1.1 301 Moved\r\nLocation: https://mta-sts.example/x\r\n\r\n",
            "sts-policy-fetch-error",
            "redirect",
        ),
        ("HTTP/1.1 404 No\r\n\r\n", "sts-policy-fetch-error", "404"),
        ("hello\r\n", "sts-policy-fetch-error", "no HTTP response"),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\nversion: STSv1",
            "sts-policy-fetch-error",
            "text/html",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 65537\r\n\r\n",
            "sts-policy-fetch-error",
            "65536",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nversion: STSv2",
            "sts-policy-invalid",
            "version",
        ),
    ] {
        scene.host.says_raw(answer);
        scene.forget();
        let (found, reason) = scene.fault();
        assert_eq!(found, Some(result_type), "{answer}");
        assert!(reason.contains(words), "{reason}");
    }
}

#[test]
fn a_policy_host_that_nobody_vouches_for_is_not_believed() {
    let mut scene = Scene::new(None);
    scene.sts = Sts::new(Arc::new(scene.resolver.clone()), Arc::new(PolicyHost::start().client), None);
    let (result_type, reason) = scene.fault();
    assert_eq!(result_type, Some("sts-webpki-invalid"), "{reason}");
    // The name counts, too.
    let scene = Scene::new(None);
    scene.resolver.insecure("_mta-sts.other", TXT, &["v=STSv1; id=1"]);
    scene.resolver.insecure("mta-sts.other", A, &["127.0.0.1"]);
    let finding = smol::block_on(scene.sts.policy("other", &scene.options));
    assert_eq!(finding.fault.and_then(|fault| fault.kind.result_type()), Some("sts-webpki-invalid"));
}

#[test]
fn a_failure_is_remembered_for_its_version_and_for_a_while() {
    let mut scene = Scene::new(None);
    scene.host.says_raw("HTTP/1.1 500 Down\r\n\r\n");
    scene.fault();
    scene.fault();
    assert_eq!(scene.host.asked(), 1);
    scene.host.says(ENFORCE);
    scene.announce("v=STSv1; id=2;");
    assert_eq!(mode(&scene.find()), Some(Mode::Enforce), "another version is asked for at once");
    scene.forget();
    scene.change(|options| options.retry = Duration::ZERO);
    scene.host.says_raw("HTTP/1.1 500 Down\r\n\r\n");
    scene.fault();
    let before = scene.host.asked();
    scene.fault();
    assert_eq!(scene.host.asked(), before + 1, "after the wait it is asked again");
}

#[test]
fn no_policy_is_fetched_from_our_own_network() {
    let mut scene = Scene::new(None);
    Arc::make_mut(&mut scene.options).allow_loopback = false;
    let (result_type, reason) = scene.fault();
    assert_eq!(result_type, Some("sts-policy-fetch-error"));
    assert!(reason.contains("loopback"), "{reason}");
    assert_eq!(scene.host.asked(), 0);
}

#[test]
fn a_host_that_hangs_ends_with_the_time_allowed() {
    let mut scene = Scene::new(None);
    let silent = smol::block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let port = silent.local_addr().unwrap().port();
    scene.change(|options| {
        options.port = port;
        options.fetch_timeout = Duration::from_millis(50);
    });
    let (result_type, reason) = scene.fault();
    assert_eq!(result_type, Some("sts-policy-fetch-error"));
    assert!(reason.contains("not done within"), "{reason}");
}

#[test]
fn several_at_once_fetch_once() {
    let scene = Scene::new(None);
    smol::block_on(async {
        // All of them run before the first is waited for.
        let finds: Vec<_> = (0..8)
            .map(|_| {
                let (sts, options) = (Arc::clone(&scene.sts), Arc::clone(&scene.options));
                smol::spawn(async move { sts.policy("example", &options).await })
            })
            .collect();
        assert_eq!(finds.len(), 8);
        for find in finds {
            assert_eq!(mode(&find.await), Some(Mode::Enforce));
        }
    });
    assert_eq!(scene.host.asked(), 1);
}

#[test]
fn policies_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Queue::open(directory.path(), mta_queue::Options::default()).unwrap();
    let queue = open();
    let scene = Scene::new(Some(queue.clone()));
    scene.find();
    queue.close();
    drop((queue, scene));
    let scene = Scene::new(Some(open()));
    scene.resolver.nodata("_mta-sts.example", TXT, Status::Insecure);
    let found = scene.find().policy.expect("known from before");
    assert_eq!((found.policy.mode, found.id.as_str()), (Mode::Enforce, "1"));
    assert!(found.policy.allows("mx.example"));
    assert_eq!(scene.host.asked(), 0);
}

/// RFC 8461 3.3: a policy is fetched anew long before it ends, whether mail goes there or not.
#[test]
fn a_policy_is_refreshed_and_the_old_one_holds_where_that_fails() {
    let mut scene = Scene::new(None);
    let first = scene.find().policy.unwrap();
    smol::block_on(scene.sts.refresh_due(&scene.options));
    assert_eq!(scene.host.asked(), 1, "not due yet");
    scene.change(|options| options.refresh = Duration::ZERO);
    smol::block_on(scene.sts.refresh_due(&scene.options));
    assert_eq!(scene.host.asked(), 2);
    scene.change(|options| options.refresh = Duration::from_secs(60));
    let second = scene.find().policy.unwrap();
    assert!(second.expires_at > first.expires_at);
    scene.change(|options| options.refresh = Duration::ZERO);
    scene.host.says_raw("HTTP/1.1 500 Down\r\n\r\n");
    scene.resolver.unavailable("_mta-sts.example", TXT);
    smol::block_on(scene.sts.refresh_due(&scene.options));
    assert_eq!(scene.host.asked(), 3, "it is fetched although the record cannot be had");
    assert_eq!(scene.find().policy, Some(second));
}

#[test]
fn a_policy_ends_with_its_max_age() {
    let mut scene = Scene::new(None);
    scene.host.says(&ENFORCE.replace("86400", "0"));
    scene.change(|options| options.retry = Duration::ZERO);
    assert_eq!(mode(&scene.find()), Some(Mode::Enforce), "it holds for the message it was fetched for");
    scene.resolver.nodata("_mta-sts.example", TXT, Status::Insecure);
    assert_eq!(scene.find().policy, None);
}

#[test]
fn the_number_of_policies_is_bounded() {
    let now = SystemTime::now();
    let policy = Arc::new(Policy::parse(ENFORCE.as_bytes()).unwrap());
    let found = |lifetime| Found {
        policy: Arc::clone(&policy),
        id: "1".into(),
        fetched_at: now,
        expires_at: now + Duration::from_secs(lifetime),
    };
    let at = |seconds| now + Duration::from_secs(seconds);
    let mut known = Known::default();
    known.put("busy", found(1000), at(0), 3);
    known.put("idle", found(1000), at(1), 3);
    known.put("over", found(10), at(2), 3);
    assert!(known.touch("busy", at(50), Duration::from_secs(10)));
    known.put("new", found(1000), at(60), 3);
    known.put("newer", found(1000), at(61), 3);
    let left = |known: &mut Known, name| known.get(name, at(62)).is_some();
    let names = ["busy", "idle", "over", "new", "newer"];
    assert_eq!(names.map(|name| left(&mut known, name)), [true, false, false, true, true]);
}
