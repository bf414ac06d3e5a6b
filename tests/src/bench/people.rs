//! What mail of people costs: signatures, the checks of strangers' mail, TLS handshakes, logins.
//!
//! Signing and checking are measured in this process, through the code of the daemon: in it the rest of an accept would
//! hide them. Handshakes and logins are made into a running server, over its port for TLS from the start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mta_core::auth::dkim::{Algorithm, Key, KeyRing, State, Store, Stored};
use mta_core::auth::verdict::Word;
use mta_core::auth::{BodyHashes, Options, Subject, Verifier};
use mta_core::clock::SystemClock;
use mta_core::dns::{Options as DnsOptions, Service};
use mta_smtp::address::{Mailbox, ReversePath};
use rustls::ClientConfig;
use rustls::client::Resumption;

use super::measure::{Peak, Usage, sync_probe};
use super::server::Server;
use super::{BenchError, Dns, Result, Say, failed};
use crate::client::{SmtpClient, trusting_config};
use crate::daemon::Settings;
use crate::zone::Zone;

/// Where the server under test speaks TLS from the start.
pub(super) const TLS_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2635);

/// Sessions at once.
const CLIENTS: usize = 4;

const DOMAIN: &str = "people.example";
const USER: &str = "anna@people.example";
const PASSWORD: &str = "correct horse battery staple";

/// The client of the messages that are checked.
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// A message as people write them: 4 KiB of text and the usual fields.
fn message() -> String {
    let line = "Twelve words of plain text make a line of about this many octets.\r\n";
    format!(
        "From: Anna <{USER}>\r\nTo: Bob <bob@bench.example>\r\nSubject: What we talked about\r\n\
         Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@{DOMAIN}>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\n{}",
        line.repeat(4096 / line.len())
    )
}

/// A new key that signs for the domain.
fn key(algorithm: Algorithm) -> Result<Stored> {
    let key = Arc::new(Key::make(algorithm).map_err(BenchError)?);
    let selector = algorithm.word().to_owned();
    Ok(Stored { domain: DOMAIN.to_owned(), selector, state: State::Signing, since: 1, key })
}

/// The keys in the folder of a state directory, as the daemon reads them.
fn ring(state: &std::path::Path, keys: &[&Stored]) -> Result<Arc<KeyRing>> {
    let store = Store::new(state);
    keys.iter().try_for_each(|key| store.save(key))?;
    Ok(KeyRing::new(state))
}

/// Signatures a second of one thread, with each kind of key.
pub(super) fn dkim(messages: usize, say: Say<'_>) -> Result<()> {
    let probe = sync_probe(&std::env::temp_dir())?;
    let message = message();
    for algorithm in Algorithm::ALL {
        let folder = tempfile::tempdir()?;
        let ring = ring(folder.path(), &[&key(algorithm)?])?;
        if ring.sign_message(message.as_bytes()).is_empty() {
            return Err(BenchError("no signature".into()));
        }
        let started = Instant::now();
        for _ in 0..messages {
            std::hint::black_box(ring.sign_message(message.as_bytes()));
        }
        let rate = messages as f64 / started.elapsed().as_secs_f64();
        say(&format!("DKIM signatures of 4 KiB, {}", algorithm.word()), rate, "a second", probe);
    }
    Ok(())
}

/// CPU of all checks of a message from outside that passes them, with one signature of each kind; what it asks of DNS is
/// in the resolver's cache.
pub(super) fn checks(messages: usize, say: Say<'_>) -> Result<()> {
    let probe = sync_probe(&std::env::temp_dir())?;
    for algorithm in Algorithm::ALL {
        let key = key(algorithm)?;
        let zone = Zone::new(DOMAIN)
            .txt("@", "v=spf1 mx include:_spf.people.example -all")
            .txt("_spf", "v=spf1 ip4:192.0.2.0/24 ~all")
            .txt("_dmarc", "v=DMARC1; p=reject")
            .txt(&format!("{}._domainkey", key.selector), &key.key.record())
            .mx("@", 10, "mx")
            .address("mx", Ipv4Addr::new(192, 0, 2, 1));
        let dns = Dns::start([zone])?;
        let folder = tempfile::tempdir()?;
        let message = message();
        let message = format!("{}{message}", ring(folder.path(), &[&key])?.sign_message(message.as_bytes()));
        let milliseconds = check(&dns, &message, messages)?;
        say(
            &format!("SPF, DKIM ({}), DMARC, warm DNS, CPU", algorithm.word()),
            milliseconds,
            "ms/msg",
            probe,
        );
    }
    Ok(())
}

/// Checks a message so many times; the CPU of each, in milliseconds.
fn check(dns: &Dns, message: &str, messages: usize) -> Result<f64> {
    let options = DnsOptions {
        forwarders: vec![dns.servers.forwarder()],
        trust_anchor_file: Some(dns.anchor.clone()),
        recursion: false,
        ..DnsOptions::default()
    };
    let resolver = Service::new(options, SystemClock::shared()).map_err(failed)?;
    let own = std::process::id();
    smol::block_on(async {
        resolver.self_test().await;
        let verifier = Verifier::new(Arc::new(resolver), Options::default(), "bench.example".to_owned());
        let header_octets = message.find("\r\n\r\n").map_or(message.len(), |end| end + 2);
        let header = message.as_bytes().get(..header_octets).unwrap_or_default();
        let reverse_path =
            ReversePath::Mailbox(Mailbox::parse(USER).map_err(|_| BenchError("a user".into()))?);
        let mut before = Usage::of(own)?;
        for number in 0..=messages {
            let bodies = BodyHashes::of(message.as_bytes());
            let (client, helo) = (CLIENT.into(), "mx.people.example");
            let subject = Subject { client, helo, reverse_path: &reverse_path, header, bodies: &bodies };
            let verdicts = verifier.verify(&subject).await;
            if verdicts.dmarc.word != Word::Pass || verdicts.dkim.iter().any(|it| it.word != Word::Pass) {
                return Err(BenchError(format!("the message does not pass: {verdicts:?}")));
            }
            // The first one has warmed the cache.
            if number == 0 {
                before = Usage::of(own)?;
            }
        }
        Ok((Usage::of(own)?.cpu_ms - before.cpu_ms) / messages as f64)
    })
}

/// The settings of a server for people.
pub(super) fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.set("submission.listen_tls", &format!("[\"{TLS_SERVER}\"]"));
    settings.set(&format!("domain.\"{DOMAIN}\".mailboxes"), "[]");
    settings
}

/// A client that begins each session anew: TLS 1.3, no tickets.
pub(super) fn full_handshakes() -> Arc<ClientConfig> {
    let mut config = trusting_config();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Opens sessions over TLS, waits for the greeting and an EHLO reply in each, and keeps them open.
pub(super) fn greeted_sessions(count: usize) -> Result<Vec<SmtpClient>> {
    let config = full_handshakes();
    let open = |_| {
        let mut client = SmtpClient::connect_tls(TLS_SERVER, Arc::clone(&config))?;
        client.reply()?;
        client.ask("EHLO bench.example")?;
        Ok(client)
    };
    (0..count).map(open).collect()
}

/// Does something `count` times with a few clients at once; how many a second that were.
fn at_once(count: usize, one: impl Fn() -> std::io::Result<()> + Sync) -> Result<f64> {
    let each = count.div_ceil(CLIENTS);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let work = || (0..each).try_for_each(|_| one());
        // All of them are started before the first is waited for.
        let mut threads = Vec::new();
        threads.extend((0..CLIENTS).map(|_| scope.spawn(work)));
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| BenchError("a client panicked".into()))?.map_err(BenchError::from)
        })
    })?;
    Ok((each * CLIENTS) as f64 / started.elapsed().as_secs_f64())
}

/// Full handshakes of TLS 1.3 with the server's own key (ECDSA P-256), each over a connection of its own, until its
/// greeting is read.
pub(super) fn tls(handshakes: usize, say: Say<'_>) -> Result<()> {
    let probe = sync_probe(&std::env::temp_dir())?;
    let server = Server::start_with(&settings())?;
    let config = full_handshakes();
    let before = Usage::of(server.pid())?;
    let rate =
        at_once(handshakes, || SmtpClient::connect_tls(TLS_SERVER, Arc::clone(&config))?.reply().map(drop))?;
    let made = (handshakes.div_ceil(CLIENTS) * CLIENTS) as f64;
    let cpu = (Usage::of(server.pid())?.cpu_ms - before.cpu_ms) / made;
    say(&format!("TLS handshakes, {CLIENTS} clients"), rate, "a second", probe);
    say("TLS handshakes, CPU of the server", cpu, "ms each", probe);
    Ok(())
}

/// Logins with a password that is right, by AUTH PLAIN, each over a connection of its own; and the memory meanwhile.
pub(super) fn login(logins: usize, say: Say<'_>) -> Result<()> {
    let probe = sync_probe(&std::env::temp_dir())?;
    let server = Server::start_with(&settings())?;
    server.cli(&["user", "add", USER], &format!("{PASSWORD}\n"))?;
    let config = full_handshakes();
    let auth = format!("AUTH PLAIN {}", BASE64.encode(format!("\0{USER}\0{PASSWORD}")));
    let idle = Usage::of(server.pid())?.pss_kib;
    let peak = Peak::watch(server.pid());
    let before = Usage::of(server.pid())?;
    let rate = at_once(logins, || {
        let mut client = SmtpClient::connect_tls(TLS_SERVER, Arc::clone(&config))?;
        client.reply()?;
        client.ask("EHLO bench.example")?;
        client.ask(&auth).map(drop)
    })?;
    let made = (logins.div_ceil(CLIENTS) * CLIENTS) as f64;
    let cpu = (Usage::of(server.pid())?.cpu_ms - before.cpu_ms) / made;
    let peak = peak.stop();
    say(&format!("logins by AUTH PLAIN, {CLIENTS} clients"), rate, "a second", probe);
    say("logins by AUTH PLAIN, CPU of the server", cpu, "ms each", probe);
    say("memory before the logins", idle / 1024.0, "MiB PSS", probe);
    say("memory while passwords are hashed", peak / 1024.0, "MiB PSS", probe);
    std::thread::sleep(AFTERWARDS);
    say("memory after the logins", Usage::of(server.pid())?.pss_kib / 1024.0, "MiB PSS", probe);
    Ok(())
}

/// How long after the last login the memory is looked at again.
const AFTERWARDS: Duration = Duration::from_secs(2);
