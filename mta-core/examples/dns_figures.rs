//! What DANE and DNS cost: a cold and a warm walk to the policy of a host, and the memory of the resolver while it walks to ten
//! thousand signed domains, each with MX, addresses and TLSA of its own.
//!
//! `cargo run --release -p mta-core --example dns_figures -- [DOMAINS] [CACHE_MIB]`
//!
//! A second process serves the domains on loopback and signs each answer when it is asked for, so that the memory shown is that of
//! the resolver alone. Memory is what the kernel says (`VmRSS`, and the anonymous part of it).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, clippy::print_stdout)]

use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hickory_proto::dnssec::crypto::EcdsaSigningKey;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, NSEC, RRSIG, SigInput};
use hickory_proto::dnssec::{Algorithm, DigestType, SigningKey, TBS};
use hickory_proto::op::{Edns, Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, MX, SOA, TLSA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, SerialNumber};
use mta_core::clock::SystemClock;
use mta_core::dns::{Options, Resolver as _, Service};
use mta_dane::discovery::{self, HostDiscovery, MxDiscovery, NextHop, Step};
use mta_dane::policy::HostPolicy;
use mta_dane::validator::CacheLimits;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => serve(),
        first => {
            let domains = first.and_then(|text| text.parse().ok()).unwrap_or(10_000);
            let mib = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(8);
            measure(domains, mib);
        }
    }
}

fn measure(domains: u32, cache_mib: usize) {
    let mut child =
        Command::new(std::env::current_exe().unwrap()).arg("serve").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let server: SocketAddr = lines.next().unwrap().unwrap().parse().unwrap();
    let anchor = std::env::temp_dir().join(format!("dns-figures-{}", std::process::id()));
    std::fs::write(&anchor, lines.next().unwrap().unwrap() + "\n").unwrap();
    // As the option `dns.cache_size` divides it.
    let bytes = cache_mib << 20;
    let options = Options {
        forwarders: vec![server],
        trust_anchor_file: Some(anchor.clone()),
        recursion: false,
        cache: CacheLimits { answer_bytes: bytes / 2, zone_bytes: bytes / 4 },
        ..Options::default()
    };
    let service = Service::new(options, SystemClock::shared()).unwrap();
    smol::block_on(async {
        let report = service.self_test().await;
        println!("self-test: {:?}", report.verdict);
        let started = Instant::now();
        walk(&service, 0).await;
        println!("cold walk to the policy of a host: {:?}", started.elapsed());
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..20_000 {
            let started = Instant::now();
            walk(&service, 0).await;
            times.push(started.elapsed());
        }
        times.sort();
        let at = |part: usize| times[times.len() * part / 1000];
        println!("warm, next-hop to policy: median {:?}, 99 % {:?}, 99.9 % {:?}", at(500), at(990), at(999));
        println!("cache of {cache_mib} MiB; before: {}", memory());
        let started = Instant::now();
        for number in 0..domains {
            walk(&service, number).await;
            if (number + 1) % (domains / 5).max(1) == 0 {
                let stats = service.cache_stats();
                println!(
                    "{:>6} domains: {}; cache: {} answers, {} zones, {} KiB",
                    number + 1,
                    memory(),
                    stats.answers,
                    stats.zones,
                    stats.bytes / 1024
                );
            }
        }
        let each = started.elapsed() / domains.max(1);
        println!("{each:?} for each domain's cold walk");
    });
    let _ = std::fs::remove_file(anchor);
    let _ = child.kill();
    let _ = child.wait();
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default()
    };
    format!("RSS {} KiB, anonymous {} KiB", of("VmRSS"), of("RssAnon"))
}

/// From the domain to the policy of its host, as a delivery does it.
async fn walk(service: &Service, number: u32) {
    let options = discovery::Options::default();
    let next_hop = NextHop::MxOf(Name::from_ascii(format!("d{number}.test.")).unwrap());
    let mut machine = MxDiscovery::new(&next_hop, options.clone());
    let list = loop {
        match machine.poll() {
            Step::Ask(question) => {
                let answer = service.lookup(question.name, question.rtype).await;
                machine.answer((*answer).clone());
            }
            Step::Wait => unreachable!("every question was answered"),
            Step::Done(list) => break list.unwrap(),
        }
    };
    let mut machine = HostDiscovery::new(&list, &list.hosts[0], 25, options);
    let result = loop {
        match machine.poll() {
            Step::Ask(question) => {
                let answer = service.lookup(question.name, question.rtype).await;
                machine.answer((*answer).clone());
            }
            Step::Wait => unreachable!("every question was answered"),
            Step::Done(result) => break result,
        }
    };
    assert!(matches!(result.policy, HostPolicy::Authenticate(_)), "{:?}", result.policy);
}

/// The authority: the root, `test.`, and `d0.test.`, `d1.test.` and so on below it, all with the same key.
struct Authority {
    key: EcdsaSigningKey,
    dnskey: DNSKEY,
    now: u32,
}

fn serve() {
    let pkcs8 = EcdsaSigningKey::generate_pkcs8(Algorithm::ECDSAP256SHA256).unwrap();
    let key = EcdsaSigningKey::from_pkcs8(&pkcs8, Algorithm::ECDSAP256SHA256).unwrap();
    let dnskey = DNSKEY::with_flags(257, key.to_public_key().unwrap());
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let authority = Authority { key, dnskey, now: since.as_secs() as u32 };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    println!("{}", socket.local_addr().unwrap());
    let root = authority.ds(&Name::root());
    let digest: String = root.digest().iter().map(|byte| format!("{byte:02X}")).collect();
    println!(". 86400 IN DS {} 13 2 {digest}", root.key_tag());
    std::io::stdout().flush().unwrap();
    let mut buffer = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
        let _ = socket.send_to(&authority.answer(&query).to_vec().unwrap(), from);
    }
}

impl Authority {
    fn ds(&self, apex: &Name) -> DS {
        use hickory_proto::dnssec::Verifier as _;
        let digest = self.dnskey.to_digest(apex, DigestType::SHA256).unwrap().as_ref().to_vec();
        DS::new(self.dnskey.calculate_key_tag().unwrap(), self.dnskey.algorithm(), DigestType::SHA256, digest)
    }

    fn signed(&self, zone: &Name, owner: &Name, data: RData) -> [Record; 2] {
        let record = Record::from_rdata(owner.clone(), 3600, data);
        let input = SigInput {
            type_covered: record.record_type(),
            algorithm: Algorithm::ECDSAP256SHA256,
            num_labels: owner.num_labels(),
            original_ttl: 3600,
            sig_expiration: SerialNumber::new(self.now + 86_400),
            sig_inception: SerialNumber::new(self.now - 3600),
            key_tag: self.dnskey.calculate_key_tag().unwrap(),
            signer_name: zone.clone(),
        };
        let tbs = TBS::from_input(owner, DNSClass::IN, &input, std::iter::once(&record)).unwrap();
        let signature = RRSIG::from_sig(input, self.key.sign(&tbs).unwrap());
        let signature = RData::DNSSEC(DNSSECRData::RRSIG(signature));
        [record, Record::from_rdata(owner.clone(), 3600, signature)]
    }

    fn answer(&self, query: &Message) -> Message {
        let question = query.queries.first().cloned().unwrap_or_default();
        let mut message = Message::new(query.metadata.id, MessageType::Response, query.metadata.op_code);
        let (name, rtype) = (question.name.to_lowercase(), question.query_type);
        message.add_query(question);
        let mut edns = Edns::new();
        edns.set_dnssec_ok(true).set_max_payload(1232).set_version(0);
        message.set_edns(edns);
        let labels = usize::from(name.num_labels());
        // A zone begins at the root, at `test.`, and at each domain.
        let apex = name.trim_to(if rtype == RecordType::DS {
            labels.saturating_sub(1).min(2)
        } else {
            labels.min(2)
        });
        let mx = || apex.prepend_label("mx").unwrap();
        let data = match (rtype, labels) {
            (RecordType::DNSKEY, 0..=2) => Some(RData::DNSSEC(DNSSECRData::DNSKEY(self.dnskey.clone()))),
            (RecordType::DS, 1..=2) => Some(RData::DNSSEC(DNSSECRData::DS(self.ds(&name)))),
            (RecordType::SOA, 0..=2) => Some(soa()),
            (RecordType::MX, 2) => Some(RData::MX(MX::new(10, mx()))),
            (RecordType::A, 3) => Some(RData::A(A::new(192, 0, 2, 1))),
            (RecordType::TLSA, 5) => Some(RData::TLSA(TLSA::new(3.into(), 1.into(), 1.into(), vec![7; 32]))),
            _ => None,
        };
        match data {
            Some(data) => message.add_answers(self.signed(&apex, &name, data)),
            None => {
                if name.iter().next() == Some(b"_25") {
                    message.metadata.response_code = ResponseCode::NXDomain;
                }
                message.add_authorities(self.signed(&apex, &apex, soa()));
                // Whatever the name has, it does not have this.
                let types =
                    [RecordType::A, RecordType::RRSIG, RecordType::NSEC].into_iter().filter(|t| *t != rtype);
                let next = name.prepend_label("_tcp").unwrap_or_else(|_| apex.clone());
                let nsec = RData::DNSSEC(DNSSECRData::NSEC(NSEC::new(next, types)));
                message.add_authorities(self.signed(&apex, &name, nsec))
            }
        };
        message
    }
}

fn soa() -> RData {
    let name = |text: &str| Name::from_ascii(text).unwrap();
    RData::SOA(SOA::new(name("ns.test."), name("admin.test."), 1, 3600, 600, 86_400, 300))
}
