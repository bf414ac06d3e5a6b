//! OpenSSL's own DANE verifier as an oracle: chains by the dozen and, from a seed, by the hundred are served on 127.0.0.1 and
//! judged twice, by `openssl s_client -dane_tlsa_domain ... -dane_tlsa_rrdata ...` and by this crate. SMTP rules on both
//! sides: no name checks for DANE-EE(3), usages 0 and 1 left out.
//!
//! `MTA_ORACLE_CASES` sets how many random chains of each kind are compared (default 60), `MTA_ORACLE_SEED` which ones.
//! Where openssl is missing, the test prints so and passes.
//!
//! Known differences, each excused by `excuse` and by nothing else:
//! - a wildcard with text beside the star ("mx*.example.net"): s_client accepts it, RFC 7672 3.2.3 forbids it (I9);
//! - an anchor whose own dates are past: OpenSSL checks them where the anchor is self-signed and not where it is an
//!   intermediate; this crate never does, and says so in the match (H8);
//! - a path that a search finds and OpenSSL's walk, which takes the first issuer of the right name, does not: a namesake of the
//!   issuer is in the chain that did not sign (H9 asks to build, not to walk). Excused only where OpenSSL accepts the chain
//!   once namesakes are left out;
//! - an issuer that bears its own issuer's name and no key identifiers: OpenSSL takes it for self-signed and walks no
//!   further, RFC 5280 6.1 calls it self-issued.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::type_complexity)]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::chains::{Generated, random_case, wild_case};
use common::*;
use mta_dane::judge::{Outcome, judge};
use mta_dane::reference::ReferenceId;
use mta_dane::tlsa::{TlsaRecord, Usage};
use mta_dane::verify::Matched;
use rcgen::KeyPair;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Ways to choose among namesakes that are tried.
const WALKS: usize = 256;

/// What either judge may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Match,
    NoMatch,
    Unusable,
}

/// One chain with the records to judge it by.
struct Case {
    what: String,
    records: Vec<TlsaRecord>,
    certs: Vec<Cert>,
}

impl From<Generated> for Case {
    fn from((what, records, certs): Generated) -> Self {
        Self { what, records, certs }
    }
}

impl Case {
    fn new(what: impl Into<String>, records: Vec<TlsaRecord>, certs: &[&Cert]) -> Self {
        Self { what: what.into(), records, certs: certs.iter().map(|cert| (*cert).clone()).collect() }
    }

    /// The chain's certificates in hexadecimal, to be judged again by hand.
    fn hex(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for cert in &self.certs {
            cert.der.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
            text.push('\n');
        }
        text
    }

    /// What this crate says of it.
    fn report(&self) -> (Option<Matched>, Says) {
        let certs: Vec<&Cert> = self.certs.iter().collect();
        let ids = [ReferenceId::parse(HOST).unwrap()];
        match judge(&self.records, &chain(&certs), &ids, NOW).outcome {
            Outcome::Match(matched) => (Some(matched), Says::Match),
            Outcome::NoMatch(_) => (None, Says::NoMatch),
            Outcome::Unusable(_) => (None, Says::Unusable),
        }
    }

    /// The same case by its matching record alone, with at most one certificate of each issuer's name, in every way to choose them (no more than `WALKS`).
    fn walks(&self) -> Vec<Self> {
        let mut choices: Vec<Vec<&Cert>> = Vec::new();
        for cert in &self.certs[1..] {
            match choices.iter_mut().find(|namesakes| namesakes[0].subject == cert.subject) {
                Some(namesakes) if namesakes.iter().any(|known| known.der == cert.der) => {}
                Some(namesakes) => namesakes.push(cert),
                None => choices.push(vec![cert]),
            }
        }
        let mut chains: Vec<Vec<&Cert>> = vec![vec![&self.certs[0]]];
        for namesakes in choices {
            let mut longer = Vec::new();
            for chain in &chains {
                longer.extend(namesakes.iter().map(|cert| [&chain[..], &[*cert]].concat()));
                // None of them: the anchor of that name is a bare key in DNS.
                longer.push(chain.clone());
            }
            longer.truncate(WALKS);
            chains = longer;
        }
        // A whole certificate in DNS is one of the namesakes too, so the record that matched is judged by itself.
        let records = self.report().0.map_or_else(|| self.records.clone(), |matched| vec![matched.record]);
        let case = |chain: Vec<&Cert>| Self::new(self.what.clone(), records.clone(), &chain);
        chains.into_iter().map(case).collect()
    }

    /// The reason for which the two may differ here.
    fn excuse(&self, ours: Says, theirs: Says, server: &Server) -> Option<&'static str> {
        // Only where OpenSSL itself accepts the path once the namesakes are out of its way.
        if (ours, theirs) == (Says::Match, Says::NoMatch)
            && self.walks().iter().any(|walk| self::theirs(walk, server) == Says::Match)
        {
            return Some("a namesake of the issuer: a search finds what a walk does not");
        }
        if (ours, theirs) == (Says::Match, Says::NoMatch)
            && self.certs[1..].iter().any(|cert| cert.self_issued_only)
        {
            return Some("a self-issued issuer is taken for self-signed");
        }
        if (ours, theirs) == (Says::Match, Says::NoMatch)
            && self.report().0.is_some_and(|m| m.anchor_out_of_date)
        {
            return Some("dates of a self-signed anchor");
        }
        if (ours, theirs) == (Says::NoMatch, Says::Match) && self.what.contains("partial wildcard") {
            return Some("partial wildcards");
        }
        None
    }
}

fn ours(case: &Case) -> Says {
    case.report().1
}

/// Serves the chain of the case at hand to whoever connects.
struct Server {
    address: SocketAddr,
    current: Arc<Mutex<Arc<CertifiedKey>>>,
}

#[derive(Debug)]
struct Current(Arc<Mutex<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().unwrap()))
    }
}

fn certified(certs: &[Cert]) -> Arc<CertifiedKey> {
    let key: &KeyPair = &certs[0].key;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let certs: Vec<&Cert> = certs.iter().collect();
    Arc::new(CertifiedKey::new(chain(&certs), ring::sign::any_supported_type(&key).unwrap()))
}

impl Server {
    fn start(first: &[Cert]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let current = Arc::new(Mutex::new(certified(first)));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Current(Arc::clone(&current))));
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let config = Arc::clone(&config);
                std::thread::spawn(move || serve(stream, config));
            }
        });
        Self { address, current }
    }

    fn present(&self, certs: &[Cert]) {
        *self.current.lock().unwrap() = certified(certs);
    }
}

/// One handshake; the peer closes. What goes wrong is the client's verdict, not ours.
fn serve(mut stream: TcpStream, config: Arc<ServerConfig>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
    let mut connection = ServerConnection::new(config).unwrap();
    let mut tls = rustls::Stream::new(&mut connection, &mut stream);
    let _ = tls.write_all(b"done\n");
    let _ = tls.flush();
    let _ = tls.read(&mut [0; 16]);
}

/// Asks OpenSSL, whose answer must be one of the three; anything else fails the test.
fn theirs(case: &Case, server: &Server) -> Says {
    server.present(&case.certs);
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-brief", "-verify_return_error", "-no-CAfile", "-no-CApath", "-no-CAstore"])
        .args(["-connect", &server.address.to_string(), "-attime", &NOW.to_string()])
        .args(["-dane_tlsa_domain", HOST, "-dane_ee_no_namechecks"])
        .stdin(Stdio::null());
    let for_smtp = |record: &&TlsaRecord| !matches!(record.usage, Usage::PkixTa | Usage::PkixEe);
    for record in case.records.iter().filter(for_smtp) {
        command.args(["-dane_tlsa_rrdata", &record.to_string()]);
    }
    let output = command.output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if text.contains("Failed to import any TLSA records") || text.contains("All TLSA RRs unusable") {
        Says::Unusable
    } else if text.contains("Verification: OK") && text.contains("DANE TLSA") {
        Says::Match
    } else if text.contains("certificate verify failed") || text.contains("Verification error") {
        Says::NoMatch
    } else {
        panic!("{}: openssl says neither yes nor no (status {:?}):\n{text}", case.what, output.status)
    }
}

/// All records that make sense for a certificate.
fn records_of(cert: &Cert, usage: u8) -> Vec<TlsaRecord> {
    [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)].map(|(s, m)| cert.record(usage, s, m)).to_vec()
}

/// The table: one oddity each.
fn table() -> Vec<Case> {
    let mut cases = Vec::new();
    let f = family();
    let all = [&f.leaf, &f.middle, &f.root];
    for (who, cert) in [("leaf", &f.leaf), ("middle", &f.middle), ("root", &f.root)] {
        for usage in [2, 3] {
            for record in records_of(cert, usage) {
                let what = format!("{who} as {:?}", record.numbers());
                cases.push(Case::new(format!("{what}, whole chain"), vec![record.clone()], &all));
                cases.push(Case::new(format!("{what}, without root"), vec![record.clone()], &all[..2]));
                cases.push(Case::new(format!("{what}, leaf alone"), vec![record], &all[..1]));
            }
        }
    }
    let leaf: [(&str, fn(&mut Spec)); 28] = [
        ("other name", |s| s.dns = vec!["elsewhere.example".into()]),
        ("expired", |s| s.not_after = NOW - DAY),
        ("not yet valid", |s| s.not_before = NOW + DAY),
        ("client only", |s| s.eku = vec![EKU_CLIENT]),
        ("any EKU", |s| s.eku = vec![EKU_ANY]),
        ("server EKU", |s| s.eku = vec![EKU_SERVER]),
        ("CA:TRUE", |s| s.ca = Some(true)),
        ("CA:FALSE", |s| s.ca = Some(false)),
        ("CA:TRUE with signing usage only", |s| (s.ca, s.key_usage) = (Some(true), Some(KU_CA.into()))),
        ("unknown critical extension", |s| s.unknown_critical = true),
        ("version 1", |s| s.version = 1),
        ("version 1 with the name as CN", |s| (s.version, s.subject) = (1, name(HOST))),
        ("broken SAN", |s| s.raw_san = Some(vec![0x30, 0x7f, 0x82])),
        ("SAN that is no sequence", |s| s.raw_san = Some(vec![0x04, 0x00])),
        ("empty subject, no names", |s| (s.subject, s.dns) = (name(""), Vec::new())),
        ("empty subject", |s| s.subject = name("")),
        ("CN only", |s| (s.subject, s.dns) = (name(HOST), Vec::new())),
        ("wildcard CN only", |s| (s.subject, s.dns) = (name("*.example.net"), Vec::new())),
        ("CN right, SAN wrong", |s| (s.subject, s.dns) = (name(HOST), vec!["x.example".into()])),
        ("CN right, SAN an address", |s| {
            (s.subject, s.dns, s.raw_san) = (name(HOST), vec![], Some(seq(&[&tlv(0x87, &[192, 0, 2, 1])])));
        }),
        ("wildcard", |s| s.dns = vec!["*.example.net".into()]),
        ("wildcard of the registry", |s| s.dns = vec!["*.net".into()]),
        ("wildcard below", |s| s.dns = vec!["*.mx1.example.net".into()]),
        ("partial wildcard", |s| s.dns = vec!["mx*.example.net".into()]),
        ("star in the middle", |s| s.dns = vec!["mx1.*.net".into()]),
        ("upper case", |s| s.dns = vec!["MX1.EXAMPLE.NET".into()]),
        ("broken signature", |s| s.break_signature = true),
        ("two signature algorithms", |s| s.two_algorithms = true),
    ];
    for (what, change) in leaf {
        let f = family_of(&Spec::ca("root"), &Spec::ca("middle"), &Spec::leaf(HOST).with(change));
        let sent = [&f.leaf, &f.middle, &f.root];
        cases.push(Case::new(format!("leaf: {what}, 3 1 1"), vec![f.leaf.record(3, 1, 1)], &sent));
        cases.push(Case::new(format!("leaf: {what}, 2 1 1"), vec![f.root.record(2, 1, 1)], &sent));
        cases.push(Case::new(format!("leaf: {what}, 2 0 0"), vec![f.root.record(2, 0, 0)], &sent[..2]));
        cases.push(Case::new(format!("leaf: {what}, 2 1 0"), vec![f.root.record(2, 1, 0)], &sent[..2]));
    }
    let issuer: [(&str, fn(&mut Spec)); 20] = [
        ("expired", |s| s.not_after = NOW - DAY),
        ("not yet valid", |s| s.not_before = NOW + DAY),
        ("CA:FALSE", |s| (s.ca, s.key_usage) = (Some(false), None)),
        ("no basic constraints", |s| (s.ca, s.key_usage) = (None, None)),
        ("no basic constraints, signing usage", |s| s.ca = None),
        ("may not sign", |s| s.key_usage = Some(KU_SIGN.into())),
        ("no key usage", |s| s.key_usage = None),
        ("path length 0", |s| s.path_length = Some(0)),
        ("path length 1", |s| s.path_length = Some(1)),
        ("client only", |s| s.eku = vec![EKU_CLIENT]),
        ("server EKU", |s| s.eku = vec![EKU_SERVER]),
        ("any EKU", |s| s.eku = vec![EKU_ANY]),
        ("unknown critical extension", |s| s.unknown_critical = true),
        ("version 1", |s| s.version = 1),
        ("name permitted", |s| s.constraints = Some(dns_constraints(&["example.net"], &[]))),
        ("name not permitted", |s| s.constraints = Some(dns_constraints(&["example.org"], &[]))),
        ("name excluded", |s| s.constraints = Some(dns_constraints(&[], &["example.net"]))),
        ("subtree with a dot", |s| s.constraints = Some(dns_constraints(&[".example.net"], &[]))),
        ("other excluded", |s| s.constraints = Some(dns_constraints(&[], &["example.org", "xexample.net"]))),
        ("broken signature", |s| s.break_signature = true),
    ];
    for (what, change) in issuer {
        let plain = (Spec::ca("root"), Spec::ca("middle"));
        let odd = (plain.0.clone().with(change), plain.1.clone().with(change));
        for (place, root, middle) in [("root", &odd.0, &plain.1), ("middle", &plain.0, &odd.1)] {
            for (kind, leaf) in [
                ("SAN", Spec::leaf(HOST)),
                ("CN", Spec::leaf("").with(|s| (s.dns, s.subject) = (vec![], name(HOST)))),
            ] {
                let f = family_of(root, middle, &leaf);
                let sent = [&f.leaf, &f.middle, &f.root];
                let what = format!("{place}: {what}, {kind}");
                cases.push(Case::new(format!("{what}, root 2 1 1"), vec![f.root.record(2, 1, 1)], &sent));
                cases.push(Case::new(format!("{what}, root 2 0 1"), vec![f.root.record(2, 0, 1)], &sent));
                cases.push(Case::new(
                    format!("{what}, root 2 0 0 not sent"),
                    vec![f.root.record(2, 0, 0)],
                    &sent[..2],
                ));
                cases.push(Case::new(
                    format!("{what}, root 2 1 0 not sent"),
                    vec![f.root.record(2, 1, 0)],
                    &sent[..2],
                ));
                cases.push(Case::new(
                    format!("{what}, middle 2 1 1"),
                    vec![f.middle.record(2, 1, 1)],
                    &sent[..2],
                ));
            }
        }
    }
    cases.extend(shapes());
    cases.extend(constraint_forms());
    cases.extend(name_spellings());
    cases.extend(unusable());
    cases
}

/// The same name written in different ways, which RFC 5280 7.1 calls equal, and names that are not.
fn name_spellings() -> Vec<Case> {
    let spelled = |tag: u8, text: &str| {
        let pair = seq(&[&tlv(0x06, &[0x55, 0x04, 0x03]), &tlv(tag, text.as_bytes())]);
        seq(&[&tlv(0x31, &pair)])
    };
    let root = Spec::ca("x").with(|s| s.subject = spelled(0x0c, "Example Root")).self_signed();
    let spellings = [
        (0x0c, "Example Root"),
        (0x13, "Example Root"),
        (0x13, "EXAMPLE root"),
        (0x0c, " Example  Root "),
        (0x0c, "ExampleRoot"),
    ];
    let mut cases = Vec::new();
    for (tag, text) in spellings {
        let leaf = Spec::leaf(HOST).build(&spelled(tag, text), &root.key, &new_key());
        for (record, sent) in
            [(root.record(2, 1, 1), vec![&leaf, &root]), (root.record(2, 0, 0), vec![&leaf])]
        {
            cases.push(Case::new(
                format!("issuer spelled {tag} {text:?}, {:?}", record.numbers()),
                vec![record],
                &sent,
            ));
        }
    }
    cases
}

/// Name constraints of every form, against names of every form.
fn constraint_forms() -> Vec<Case> {
    let org = |value: &str| {
        let pair = seq(&[&tlv(0x06, &[0x55, 0x04, 0x0a]), &tlv(0x0c, value.as_bytes())]);
        tlv(0x31, &pair)
    };
    let common =
        |value: &str| tlv(0x31, &seq(&[&tlv(0x06, &[0x55, 0x04, 0x03]), &tlv(0x0c, value.as_bytes())]));
    let subjects = [
        seq(&[&org("Example"), &common("server")]),
        seq(&[&org("EXAMPLE"), &common("server")]),
        seq(&[&org("Other"), &common("server")]),
        name("server"),
        name(""),
    ];
    let host = tlv(0x82, HOST.as_bytes());
    let names = [
        host.clone(),
        [&host[..], &tlv(0x87, &[192, 0, 2, 7])].concat(),
        [&host[..], &tlv(0x81, b"postmaster@example.net")].concat(),
        [&host[..], &tlv(0x82, b"mail.example.org")].concat(),
        [&host[..], &tlv(0x86, b"https://example.net/")].concat(),
        [&host[..], &tlv(0x86, b"https://www.example.net:8080/path?q#f")].concat(),
        [&host[..], &tlv(0x86, b"urn:example:net")].concat(),
        [&host[..], &tlv(0x88, &[0x2a, 0x03])].concat(),
        [&host[..], &tlv(0xa4, &seq(&[&org("Example")]))].concat(),
    ];
    let bases = [
        tlv(0x82, b"example.net"),
        tlv(0x82, b"net"),
        tlv(0x82, b"ample.net"),
        tlv(0x82, b""),
        tlv(0x87, &[192, 0, 2, 0, 255, 255, 255, 0]),
        tlv(0x87, &[10, 0, 0, 0, 255, 0, 0, 0]),
        tlv(0x81, b"example.net"),
        tlv(0x81, b"postmaster@example.net"),
        tlv(0x81, b".example.net"),
        tlv(0x86, b"example.net"),
        tlv(0x86, b".example.net"),
        tlv(0x88, &[0x2a, 0x03]),
        tlv(0xa4, &seq(&[&org("Example")])),
        tlv(0xa4, &seq(&[&org("Example"), &common("server")])),
    ];
    let mut cases = Vec::new();
    for (i, base) in bases.iter().enumerate() {
        for tag in [0xa0, 0xa1] {
            let constraints = seq(&[&tlv(tag, &seq(&[base]))]);
            let root = Spec::ca("root").with(|s| s.constraints = Some(constraints)).self_signed();
            for (j, subject) in subjects.iter().enumerate() {
                for (k, san) in names.iter().enumerate() {
                    if j > 0 && k > 0 {
                        continue;
                    }
                    let leaf = Spec::leaf(HOST)
                        .with(|s| (s.subject, s.raw_san) = (subject.clone(), Some(tlv(0x30, san))));
                    let leaf = leaf.signed_by(&root);
                    let what = format!("constraint {i} in {tag:x}, subject {j}, names {k}");
                    cases.push(Case::new(what, vec![root.record(2, 1, 1)], &[&leaf, &root]));
                }
            }
        }
    }
    cases
}

/// Order, strangers, cross-certificates, several records.
fn shapes() -> Vec<Case> {
    let f = family();
    let stranger = Spec::ca("stranger").self_signed();
    let foreign = Spec::ca("foreign").self_signed();
    let cross = Spec::ca("root").build(&foreign.subject, &foreign.key, &f.root.key);
    let namesake = Spec::ca("middle").self_signed();
    let alone = Spec::leaf(HOST).with(|s| s.ca = Some(true)).self_signed();
    let root = || vec![f.root.record(2, 1, 1)];
    let bound =
        Spec::ca("root").with(|s| s.constraints = Some(dns_constraints(&["example.org"], &[]))).self_signed();
    let namesake_leaf = Spec::leaf(HOST).with(|s| s.subject = name("root")).signed_by(&bound);
    let root0 = Spec::ca("root").with(|s| s.path_length = Some(0)).self_signed();
    let next = Spec::ca("root").signed_by(&root0);
    let below = Spec::leaf(HOST).signed_by(&next);
    vec![
        Case::new("out of order", root(), &[&f.leaf, &f.root, &f.middle]),
        Case::new("stranger between", root(), &[&f.leaf, &stranger, &f.middle, &f.root]),
        Case::new("stranger last", root(), &[&f.leaf, &f.middle, &f.root, &stranger]),
        Case::new("doubled", root(), &[&f.leaf, &f.middle, &f.middle, &f.root, &f.root]),
        Case::new("leaf doubled", root(), &[&f.leaf, &f.leaf, &f.middle, &f.root]),
        Case::new(
            "appended anchor",
            vec![stranger.record(2, 1, 1)],
            &[&f.leaf, &f.middle, &f.root, &stranger],
        ),
        Case::new("appended anchor, 2 0 0", vec![stranger.record(2, 0, 0)], &[&f.leaf, &f.middle, &f.root]),
        Case::new("appended anchor, 2 1 0", vec![stranger.record(2, 1, 0)], &[&f.leaf, &f.middle, &f.root]),
        Case::new("namesake", vec![namesake.record(2, 1, 1)], &[&f.leaf, &namesake]),
        Case::new("namesake first", root(), &[&f.leaf, &namesake, &f.middle, &f.root]),
        Case::new("missing middle", vec![f.root.record(2, 0, 0)], &[&f.leaf]),
        Case::new("cross-certificate, 2 0 0", vec![f.root.record(2, 0, 0)], &[&f.leaf, &f.middle, &cross]),
        Case::new("cross-certificate, 2 1 1", vec![f.root.record(2, 1, 1)], &[&f.leaf, &f.middle, &cross]),
        Case::new("cross-certificate, 2 0 1", vec![f.root.record(2, 0, 1)], &[&f.leaf, &f.middle, &cross]),
        Case::new(
            "cross-certificate, foreign root",
            vec![foreign.record(2, 1, 1)],
            &[&f.leaf, &f.middle, &cross, &foreign],
        ),
        Case::new("self-signed, 2 1 1", vec![alone.record(2, 1, 1)], &[&alone]),
        Case::new("self-signed, 2 0 0", vec![alone.record(2, 0, 0)], &[&alone]),
        Case::new("self-signed, 2 1 0", vec![alone.record(2, 1, 0)], &[&alone]),
        Case::new("self-signed, 3 1 1", vec![alone.record(3, 1, 1)], &[&alone]),
        Case::new(
            "self-issued leaf under constraints",
            vec![bound.record(2, 1, 1)],
            &[&namesake_leaf, &bound],
        ),
        Case::new("self-issued intermediate", vec![root0.record(2, 1, 1)], &[&below, &next, &root0]),
        Case::new(
            "EE stale, TA good",
            vec![stranger.record(3, 1, 1), f.root.record(2, 1, 1)],
            &[&f.leaf, &f.middle, &f.root],
        ),
        Case::new("TA stale, EE good", vec![stranger.record(2, 1, 1), f.leaf.record(3, 1, 1)], &[&f.leaf]),
        Case::new(
            "agility: strong digest wrong, weak one right",
            vec![stranger.record(3, 1, 2), f.leaf.record(3, 1, 1)],
            &[&f.leaf],
        ),
        Case::new(
            "agility: strong digest of the other selector wrong",
            vec![stranger.record(3, 0, 2), f.leaf.record(3, 1, 1)],
            &[&f.leaf],
        ),
        Case::new(
            "agility: full data beside a wrong digest",
            vec![stranger.record(3, 1, 2), f.leaf.record(3, 1, 0)],
            &[&f.leaf],
        ),
    ]
}

/// Records that are no records.
fn unusable() -> Vec<Case> {
    let f = family();
    let broken: [(&str, TlsaRecord); 9] = [
        ("short digest", TlsaRecord::new(3, 1, 1, vec![1; 31])),
        ("long digest", TlsaRecord::new(3, 1, 2, vec![1; 65])),
        ("garbage certificate", TlsaRecord::new(2, 0, 0, vec![0x30; 40])),
        ("garbage key", TlsaRecord::new(2, 1, 0, vec![0xaa; 40])),
        ("trailing byte", TlsaRecord::new(3, 0, 0, [&f.leaf.der[..], &[0]].concat())),
        ("key as certificate", TlsaRecord::new(3, 0, 0, f.leaf.spki())),
        ("unknown selector", TlsaRecord::new(3, 2, 1, vec![1; 32])),
        ("unknown matching type", TlsaRecord::new(3, 1, 9, vec![1; 32])),
        ("unknown usage", TlsaRecord::new(7, 1, 1, vec![1; 32])),
    ];
    let mut cases = Vec::new();
    for (what, record) in broken {
        cases.push(Case::new(format!("{what} alone"), vec![record.clone()], &[&f.leaf]));
        cases.push(Case::new(
            format!("{what} beside a good one"),
            vec![record.clone(), f.leaf.record(3, 1, 1)],
            &[&f.leaf],
        ));
        cases.push(Case::new(
            format!("{what} beside a wrong one"),
            vec![record, f.root.record(3, 1, 1)],
            &[&f.leaf],
        ));
    }
    cases
}

fn judge_reason(case: &Case) -> String {
    let certs: Vec<&Cert> = case.certs.iter().collect();
    judge(&case.records, &chain(&certs), &[ReferenceId::parse(HOST).unwrap()], NOW).outcome.reason()
}

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// G1 to G6, H1 to H9, I7 to I10, E2, E8 of RFC 7671 and RFC 7672 against OpenSSL: the same verdict on every chain.
#[test]
fn verdicts_equal_openssl() {
    let present = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    if !present {
        println!("skipped: there is no openssl command to compare with");
        return;
    }
    let seed = number_from("MTA_ORACLE_SEED", 1);
    let mut cases = table();
    let count = number_from("MTA_ORACLE_CASES", 60);
    cases.extend(
        (0..count).flat_map(|number| [random_case(number, seed), wild_case(number, seed)]).map(Case::from),
    );
    let server = Server::start(&cases[0].certs);
    let mut unexplained = Vec::new();
    let mut matches = 0;
    let mut excused: BTreeMap<&str, usize> = BTreeMap::new();
    for case in &cases {
        let (ours, theirs) = (ours(case), theirs(case, &server));
        matches += usize::from(ours == Says::Match);
        if ours == theirs {
            continue;
        }
        match case.excuse(ours, theirs, &server) {
            Some(reason) => *excused.entry(reason).or_default() += 1,
            None => unexplained.push(format!(
                "{}: we say {ours:?}, OpenSSL says {theirs:?}; {:?}\n{}",
                case.what,
                judge_reason(case),
                case.hex()
            )),
        }
    }
    println!("{} chains compared, {matches} of them match, known differences: {excused:?}", cases.len());
    assert!(unexplained.is_empty(), "{} unexplained:\n{}", unexplained.len(), unexplained.join("\n"));
    assert!(
        matches > 100 && matches < cases.len() - 100,
        "the chains are one-sided: {matches} of {}",
        cases.len()
    );
}
