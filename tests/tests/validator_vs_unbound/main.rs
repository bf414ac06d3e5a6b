//! The validator and unbound over the same zones, verdict by verdict; differences only where listed.
//!
//! BIND's tools sign the zones, `named` and `nsd` serve all of them, each from one loopback port. `unbound` validates what it
//! fetches from `named`, our validator what it fetches from either. Nothing of ours made the data.
#![allow(clippy::unwrap_used)]

mod zones;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::RecordType::{self, A, MX, TLSA};
use hickory_proto::rr::{Name, RData, Record};
use mta_dane::dnssec::{Answer, Kind, Status};
use mta_dane::validator::{CacheLimits, Limits, Lookup, Step, TransportFailure, TrustAnchors, Validator};

use self::zones::{DIFFERENCES, EXTRA, Keys, Parent, QUESTIONS, RECORDS, SERVERS_DIFFER, Spec, specs};

const PROGRAMS: [&str; 7] =
    ["named", "nsd", "unbound", "dnssec-keygen", "dnssec-signzone", "dnssec-dsfromkey", "dnssec-revoke"];

fn run(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(find(program).expect("was looked for"))
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn stamp(offset: i64) -> String {
    let at = jiff::Timestamp::from_second(i64::try_from(now()).unwrap() + offset).unwrap();
    at.strftime("%Y%m%d%H%M%S").to_string()
}

/// Writes and signs one zone; the DS lines for its parent.
fn make_zone(dir: &Path, zone: &str, spec: &Spec, delegations: &str) -> String {
    let mut text =
        format!("$ORIGIN {zone}\n$TTL 300\n@ SOA ns.lab. admin.lab. 1 3600 600 86400 300\n@ NS ns.lab.\n");
    text.push_str(if zone == "." || zone == "lab." { "" } else { RECORDS });
    text.push_str(spec.more);
    text.push_str(delegations);
    let file = if zone == "." { "root".to_owned() } else { zone.to_owned() };
    let keygen = |algorithm: &str, flags: &[&str]| {
        let bits: &[&str] = if algorithm.contains("RSA") { &["-b", "1024"] } else { &[] };
        run(dir, "dnssec-keygen", &[&["-a", algorithm, "-q"], flags, bits, &[zone]].concat())
    };
    let keys: Vec<String> =
        spec.algorithms.iter().map(|algorithm| keygen(algorithm, &["-f", "KSK"])).collect();
    if keys.is_empty() {
        std::fs::write(dir.join(format!("{file}.signed")), text).unwrap();
        return String::new();
    }
    let first = spec.algorithms.first().copied().unwrap_or_default();
    let mut signing = keys.clone();
    let mut published = keys.clone();
    match spec.keys {
        Keys::Single => {}
        Keys::Split => signing.push(keygen(first, &[])),
        Keys::Prepublished => published.extend([keygen(first, &[]), keygen(first, &["-f", "KSK"])]),
        Keys::Revoked => {
            let old = keygen(first, &["-f", "KSK"]);
            // Prints the path of the key as it is called now that its tag has changed.
            let revoked = run(dir, "dnssec-revoke", &[&old]);
            signing.push(revoked.trim_end_matches(".private").trim_end_matches(".key").to_owned());
        }
    }
    published.extend(signing.iter().filter(|key| !keys.contains(key)).cloned());
    for key in &published {
        text.push_str(&std::fs::read_to_string(dir.join(format!("{key}.key"))).unwrap());
    }
    std::fs::write(dir.join(&file), text).unwrap();
    let signed = format!("{file}.signed");
    let mut arguments = vec!["-q", "-P", "-O", "full", "-o", zone, "-f", &signed];
    arguments.extend((spec.keys != Keys::Split).then_some("-z"));
    let window = spec.window.map(|(from, to)| (stamp(from), stamp(to)));
    if let Some((from, to)) = &window {
        arguments.extend(["-s", from, "-e", to]);
    }
    arguments.extend(spec.sign);
    arguments.push(&file);
    arguments.extend(signing.iter().map(String::as_str));
    run(dir, "dnssec-signzone", &arguments);
    let path = dir.join(&signed);
    let damaged = (spec.damage)(std::fs::read_to_string(&path).unwrap());
    std::fs::write(&path, damaged).unwrap();
    ds_lines(dir, zone, spec, &keys)
}

fn ds_lines(dir: &Path, zone: &str, spec: &Spec, keys: &[String]) -> String {
    let digest = if let Parent::Digest(digest) = spec.parent { digest } else { "SHA-256" };
    let right = |digest: &str| {
        keys.iter()
            .fold(String::new(), |all, key| all + &run(dir, "dnssec-dsfromkey", &["-a", digest, key]) + "\n")
    };
    match spec.parent {
        Parent::Nothing => String::new(),
        Parent::Wrong => format!("{zone} DS 12345 13 2 {}\n", "AB".repeat(32)),
        Parent::UnknownAlgorithm => format!("{zone} DS 12345 200 2 {}\n", "AB".repeat(32)),
        Parent::UnknownDigest => format!("{zone} DS 12345 13 200 {}\n", "AB".repeat(32)),
        Parent::Right | Parent::Digest(_) => right(digest),
        Parent::Standby => format!("{}{zone} DS 12345 13 2 {}\n", right(digest), "AB".repeat(32)),
        Parent::AndUnknown => format!("{}{zone} DS 12345 200 2 {}\n", right(digest), "AB".repeat(32)),
        Parent::Sha1BesideWrong => {
            // The right SHA-1 digest, and a SHA-256 digest for the same key that is wrong.
            let sha1 = right("SHA-1");
            let tag = sha1.split_whitespace().nth(3).unwrap().to_owned();
            format!("{sha1}{zone} DS {tag} 13 2 {}\n", "AB".repeat(32))
        }
    }
}

/// All zones; the names of their files and the root's trust anchor.
fn make_tree(dir: &Path) -> (Vec<String>, String) {
    let mut zones = Vec::new();
    // Delegations and DS lines by parent.
    let mut owed: Vec<(String, String)> = Vec::new();
    let owed_to = |owed: &[(String, String)], parent: &str| {
        owed.iter().filter(|(to, _)| to == parent).fold(String::new(), |all, (_, lines)| all + lines)
    };
    for spec in specs() {
        let zone = format!("{}.lab.", spec.name);
        let ds = make_zone(dir, &zone, &spec, &owed_to(&owed, &zone));
        let above = |other: &Spec| zone.ends_with(&format!(".{}.lab.", other.name));
        let parent = specs().iter().filter(|other| above(other)).map(|other| other.name.len()).max();
        // The deepest zone above it, which need not be one label up.
        let parent =
            parent.map_or_else(|| "lab.".to_owned(), |length| zone[zone.len() - length - 5..].to_owned());
        owed.push((parent, format!("{zone} NS ns.lab.\n{ds}")));
        if spec.served {
            zones.push(zone);
        }
    }
    let lab = Spec::new("lab").holding("ns A 127.0.0.1\n");
    let ds = make_zone(dir, "lab.", &lab, &owed_to(&owed, "lab."));
    let root = Spec::new(".");
    let anchor = make_zone(dir, ".", &root, &format!("lab. NS ns.lab.\nns.lab. A 127.0.0.1\n{ds}"));
    zones.extend(["lab.".to_owned(), ".".to_owned()]);
    (zones, anchor)
}

/// A daemon that ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path, program: &str, arguments: &[&str]) -> Daemon {
    let log = std::fs::File::create(dir.join(format!("{program}.log"))).unwrap();
    let child = Command::new(find(program).expect("was looked for"))
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    Daemon(child)
}

fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn start_named(dir: &Path, zones: &[String], port: u16) -> Daemon {
    let path = dir.display();
    let mut conf = format!(
        "options {{ directory \"{path}\"; pid-file none; session-keyfile \"{path}/session.key\"; recursion no;\n\
         listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; allow-query {{ any; }}; dnssec-validation no; \
         max-udp-size 1232; querylog yes; }};\ncontrols {{ }};\n"
    );
    for zone in zones {
        let file = if zone == "." { "root" } else { zone };
        writeln!(conf, "zone \"{zone}\" {{ type primary; file \"{file}.signed\"; check-names ignore; }};")
            .unwrap();
    }
    std::fs::write(dir.join("named.conf"), conf).unwrap();
    start(dir, "named", &["-g", "-n", "1", "-c", &dir.join("named.conf").display().to_string()])
}

/// A second kind of server over the same files: it puts proofs together in its own way.
fn start_nsd(dir: &Path, zones: &[String], port: u16) -> Daemon {
    let path = dir.display();
    let mut conf = format!(
        "server:\n ip-address: 127.0.0.1@{port}\n port: {port}\n username: \"\"\n zonesdir: \"{path}\"\n database: \"\"\n\
         pidfile: \"{path}/nsd.pid\"\n xfrdfile: \"{path}/xfrd.state\"\n xfrdir: \"{path}\"\n\
         zonelistfile: \"{path}/zone.list\"\n server-count: 1\n rrl-ratelimit: 0\n minimal-responses: no\n\
         remote-control:\n control-enable: no\n"
    );
    for zone in zones {
        let file = if zone == "." { "root" } else { zone };
        writeln!(conf, "zone:\n name: \"{zone}\"\n zonefile: \"{file}.signed\"").unwrap();
    }
    std::fs::write(dir.join("nsd.conf"), conf).unwrap();
    start(dir, "nsd", &["-d", "-c", &dir.join("nsd.conf").display().to_string()])
}

fn start_unbound(dir: &Path, anchor: &str, upstream: u16, port: u16) -> Daemon {
    let path = dir.display();
    std::fs::write(dir.join("anchor.ds"), anchor).unwrap();
    let conf = format!(
        "server:\n interface: 127.0.0.1@{port}\n port: {port}\n do-daemonize: no\n chroot: \"\"\n username: \"\"\n\
         directory: \"{path}\"\n pidfile: \"\"\n use-syslog: no\n verbosity: 1\n val-log-level: 2\n\
         do-not-query-localhost: no\n do-ip6: no\n trust-anchor-file: \"{path}/anchor.ds\"\n qname-minimisation: no\n\
         aggressive-nsec: no\n module-config: \"validator iterator\"\n num-threads: 1\n\
         remote-control:\n control-enable: no\n\
         forward-zone:\n name: \".\"\n forward-addr: 127.0.0.1@{upstream}\n"
    );
    std::fs::write(dir.join("unbound.conf"), conf).unwrap();
    start(dir, "unbound", &["-d", "-c", &dir.join("unbound.conf").display().to_string()])
}

/// One question over UDP, then TCP where it came truncated.
fn ask(port: u16, name: &Name, rtype: RecordType, recursive: bool) -> Result<Message, TransportFailure> {
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    let mut message = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name.clone(), rtype));
    message.metadata.recursion_desired = recursive;
    message.metadata.authentic_data = recursive;
    let mut edns = Edns::new();
    edns.set_dnssec_ok(true).set_max_payload(1232).set_version(0);
    message.set_edns(edns);
    let bytes = message.to_vec().unwrap();
    let answer = by_udp(server, &bytes).map_err(|e| TransportFailure::Network(e.to_string()))?;
    let mut answer = Message::from_vec(&answer).map_err(|e| TransportFailure::Malformed(e.to_string()))?;
    if answer.metadata.truncation {
        let whole = by_tcp(server, &bytes).map_err(|e| TransportFailure::Network(e.to_string()))?;
        answer = Message::from_vec(&whole).map_err(|e| TransportFailure::Malformed(e.to_string()))?;
    }
    assert_eq!(answer.metadata.id, message.metadata.id);
    Ok(answer)
}

fn by_udp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.send(query)?;
    let mut buffer = vec![0; 4096];
    let length = socket.recv(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn by_tcp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&u16::try_from(query.len()).unwrap().to_be_bytes())?;
    stream.write_all(query)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut buffer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut buffer)?;
    Ok(buffer)
}

/// Waits until a server answers at all.
fn await_server(port: u16, dir: &Path, program: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    // A name that unbound answers by itself, so that its cache stays cold.
    let name = Name::from_ascii("localhost.").unwrap();
    while ask(port, &name, A, false).is_err() {
        let log = || std::fs::read_to_string(dir.join(format!("{program}.log"))).unwrap_or_default();
        assert!(Instant::now() < until, "{program} does not answer: {}", log());
        // A refused port answers at once, so this does not spin faster than the program can start.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A verdict as both sides can give it.
#[derive(Debug, PartialEq)]
struct Verdict {
    status: Status,
    kind: Option<Kind>,
    data: BTreeSet<String>,
}

fn data(records: &[Record], rtype: RecordType) -> BTreeSet<String> {
    records
        .iter()
        .filter(|r| r.record_type() == rtype)
        .map(|r| match &r.data {
            // Servers write the names in them in any case.
            RData::Unknown { rdata, .. } => format!("{:?}", rdata.anything.to_ascii_lowercase()),
            data => data.to_string().to_ascii_lowercase(),
        })
        .collect()
}

fn by_unbound(port: u16, name: &Name, rtype: RecordType) -> Verdict {
    let message = ask(port, name, rtype, true).unwrap_or_else(|e| panic!("unbound, {name} {rtype}: {e}"));
    let data = data(&message.answers, rtype);
    let kind = match message.metadata.response_code {
        ResponseCode::NoError if data.is_empty() => Kind::NoData,
        ResponseCode::NoError => Kind::Data,
        ResponseCode::NXDomain => Kind::NxDomain,
        _ => return Verdict { status: Status::Bogus, kind: None, data: BTreeSet::new() },
    };
    let status = if message.metadata.authentic_data { Status::Secure } else { Status::Insecure };
    Verdict { status, kind: Some(kind), data }
}

/// Our answer and how many queries it took.
fn by_us(validator: &Arc<Validator>, port: u16, name: &Name, rtype: RecordType) -> (Answer, u32) {
    let mut lookup = Lookup::new(Arc::clone(validator), name.clone(), rtype);
    let mut waiting = Vec::new();
    loop {
        match lookup.poll(now()) {
            Step::Query { id, name, rtype } => waiting.push((id, name, rtype)),
            Step::Wait => {
                let (id, name, rtype) = waiting.pop().expect("something to wait for");
                let response = ask(port, &name, rtype, false);
                lookup.handle(now(), id, response.as_ref().map_err(Clone::clone));
            }
            Step::Done(answer) => return (*answer, lookup.queries()),
        }
    }
}

fn verdict(answer: &Answer) -> Verdict {
    if answer.status.is_error() {
        return Verdict { status: Status::Bogus, kind: None, data: BTreeSet::new() };
    }
    Verdict { status: answer.status, kind: Some(answer.kind), data: data(&answer.records, answer.rtype) }
}

/// A difference that is listed.
fn is_listed(name: &Name, ours: &Answer, theirs: &Verdict) -> bool {
    DIFFERENCES.iter().any(|(zone, our_status, their_status, _)| {
        Name::from_ascii(zone).unwrap().zone_of(name)
            && ours.status == *our_status
            && theirs.status == *their_status
    })
}

fn questions() -> Vec<(Name, RecordType)> {
    let mut all = Vec::new();
    for spec in specs() {
        for (name, rtype) in QUESTIONS {
            let text = if name == "@" {
                format!("{}.lab.", spec.name)
            } else {
                format!("{name}.{}.lab.", spec.name)
            };
            all.push((Name::from_ascii(text).unwrap(), rtype));
        }
    }
    all.extend(EXTRA.map(|(name, rtype)| (Name::from_ascii(name).unwrap(), rtype)));
    all
}

/// The tree with `named` serving it.
struct Lab {
    dir: tempfile::TempDir,
    anchor: String,
    named_port: u16,
    nsd_port: u16,
    _servers: [Daemon; 2],
}

impl Lab {
    /// `None`, said aloud, where the programs are not installed.
    fn new() -> Option<Self> {
        let missing: Vec<&str> = PROGRAMS.into_iter().filter(|program| find(program).is_none()).collect();
        if !missing.is_empty() {
            eprintln!("SKIPPED: the comparison with unbound needs {missing:?}");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let (zones, anchor) = make_tree(dir.path());
        let named_port = free_port();
        let named = start_named(dir.path(), &zones, named_port);
        await_server(named_port, dir.path(), "named");
        let nsd_port = free_port();
        let nsd = start_nsd(dir.path(), &zones, nsd_port);
        await_server(nsd_port, dir.path(), "nsd");
        Some(Self { dir, anchor, named_port, nsd_port, _servers: [named, nsd] })
    }

    fn unbound(&self) -> (u16, Daemon) {
        let port = free_port();
        let unbound = start_unbound(self.dir.path(), &self.anchor, self.named_port, port);
        await_server(port, self.dir.path(), "unbound");
        (port, unbound)
    }

    fn validator(&self) -> Arc<Validator> {
        let anchors = TrustAnchors::parse(&self.anchor).unwrap();
        Arc::new(Validator::new(anchors, Limits::default(), CacheLimits::default()))
    }

    /// Queries that `named` has logged so far.
    fn logged_queries(&self) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join("named.log")).unwrap();
        log.lines().filter(|line| line.contains(" query: ") && !line.contains("localhost")).count()
    }
}

/// The cost of a cold lookup of each kind, in queries, against unbound with an empty cache.
#[test]
fn a_cold_lookup_costs_little_more_than_with_unbound() {
    let Some(lab) = Lab::new() else { return };
    let (mut ours, mut theirs) = (0, 0);
    for (name, rtype) in [
        ("_25._tcp.mail.p256.lab.", TLSA),
        ("_25._tcp.mail.nsec3.lab.", TLSA),
        ("p256.lab.", MX),
        ("mail.p256.lab.", TLSA),
        ("none.nsec3.lab.", A),
        ("_25._tcp.host.salted.lab.", TLSA),
        ("plain.lab.", MX),
        ("mail.plain.lab.", TLSA),
        ("mail.plain.optout.lab.", A),
        ("_25._tcp.mail.sub.parent.lab.", TLSA),
        ("_25._tcp.mail.plain.parent.lab.", TLSA),
        ("_25._tcp.alias.p256.lab.", TLSA),
        ("to-rsa7.aliases.lab.", A),
        ("to-plain.aliases.lab.", A),
    ] {
        let name = Name::from_ascii(name).unwrap();
        let before = lab.logged_queries();
        by_us(&lab.validator(), lab.named_port, &name, rtype);
        let between = lab.logged_queries();
        let (port, _unbound) = lab.unbound();
        by_unbound(port, &name, rtype);
        let after = lab.logged_queries();
        println!("{name} {rtype}: {} queries, unbound {}", between - before, after - between);
        ours += between - before;
        theirs += after - between;
    }
    println!("altogether {ours}, unbound {theirs}");
    assert!(theirs > 40 && ours * 10 <= theirs * 13, "{ours} queries, unbound {theirs}");
}

#[test]
fn every_verdict_is_that_of_unbound() {
    let Some(lab) = Lab::new() else { return };
    let (unbound_port, _unbound) = lab.unbound();
    let named_port = lab.named_port;
    let warm = lab.validator();
    let (mut faults, mut listed, mut cold_queries, mut warm_queries) = (String::new(), 0, 0, 0);
    let mut seen = [Status::Secure, Status::Insecure, Status::Bogus].map(|status| (status, 0));
    let questions = questions();
    for (name, rtype) in &questions {
        let theirs = by_unbound(unbound_port, name, *rtype);
        seen.iter_mut().filter(|(status, _)| *status == theirs.status).for_each(|(_, count)| *count += 1);
        let (cold_answer, queries) = by_us(&lab.validator(), named_port, name, *rtype);
        cold_queries += queries;
        let (warm_answer, queries) = by_us(&warm, named_port, name, *rtype);
        warm_queries += queries;
        let (by_nsd, _) = by_us(&lab.validator(), lab.nsd_port, name, *rtype);
        for (how, ours) in [("cold", &cold_answer), ("warm", &warm_answer), ("from nsd", &by_nsd)] {
            let skipped = how == "from nsd"
                && SERVERS_DIFFER.iter().any(|zone| Name::from_ascii(zone).unwrap().zone_of(name));
            if verdict(ours) == theirs || skipped {
                continue;
            }
            if is_listed(name, ours, &theirs) {
                listed += 1;
                continue;
            }
            let reason = ours.reason.as_deref().unwrap_or("no reason");
            writeln!(
                faults,
                "{name} {rtype} ({how}): {} {:?}, unbound {theirs:?}: {reason}",
                ours.status, ours.kind
            )
            .unwrap();
        }
    }
    println!(
        "{} questions, unbound {seen:?}, {listed} listed differences; queries cold {cold_queries}, warm {warm_queries}",
        questions.len()
    );
    assert!(seen.iter().all(|(_, count)| *count > 100), "the zones do not show every status: {seen:?}");
    assert!(faults.is_empty(), "{faults}");
    assert!(listed > 10, "the listed differences are gone: {DIFFERENCES:?}");
}
