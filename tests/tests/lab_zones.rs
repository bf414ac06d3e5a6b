//! The laboratory's own zones, judged by an independent validator (unbound) and by plain questions.
//!
//! Whatever the daemon's tests conclude rests on these zones being right, and wrong exactly where they shall be.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_proto::dnssec::Algorithm;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::TLSA;
use mta_lab::dns::{DnsServers, Internet};
use mta_lab::unbound::Unbound;
use mta_lab::zone::{Denial, FaultKind, ParentDs, Zone, name};

const HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

fn tlsa() -> TLSA {
    TLSA::new(3.into(), 1.into(), 1.into(), vec![7; 32])
}

/// A zone with the usual mail records, wildcards, aliases and an empty non-terminal.
fn full(apex: &str) -> Zone {
    Zone::new(apex)
        .mx("@", 10, "mx")
        .address("mx", HOST)
        .tlsa("mx", 25, tlsa())
        .address("*.wild", HOST)
        .cname("*.walias", "mx")
        .cname("alias", "mx")
        .cname("dangling", "nothing")
        .cname("away", "mx.nsec.example.")
        .dname("moved", "nsec.example.")
        .address("deep.down.below", HOST)
        .txt("@", "text")
}

fn internet() -> Internet {
    let hard = Denial::Nsec3 { iterations: 5, salt: vec![0xab, 0xcd], opt_out: false };
    Internet::new([
        full("nsec.example"),
        full("nsec3.example").nsec3(),
        full("salted.example").denial(hard),
        full("optout.example").nsec3_opt_out(),
        full("child.optout.example").unsigned(),
        full("signed.optout.example"),
        full("ed25519.example").algorithm(Algorithm::ED25519),
        full("p384.example").algorithm(Algorithm::ECDSAP384SHA384),
        full("plain.example").unsigned(),
        full("island.example").parent_ds(ParentDs::Missing),
        full("strange.example").parent_ds(ParentDs::UnknownAlgorithm),
        full("wrongds.example").parent_ds(ParentDs::Wrong),
        full("expired.example").fault(FaultKind::Expired),
        full("future.example").fault(FaultKind::NotYetValid),
        full("tampered.example").fault_at("mx", RecordType::A, FaultKind::Tampered),
        full("stripped.example").fault_at("mx", RecordType::A, FaultKind::Stripped),
        full("broken.example").fault_at("mx", RecordType::A, FaultKind::BrokenSignature),
        full("nodenial.example").fault(FaultKind::MissingDenial),
        full("servfail.example").fault_of_type(RecordType::TLSA, FaultKind::Rcode(ResponseCode::ServFail)),
    ])
}

fn ask(server: SocketAddr, qname: &str, rtype: RecordType) -> Message {
    let mut query = Message::new(77, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(name(qname), rtype));
    let mut edns = Edns::new();
    edns.set_dnssec_ok(true).set_max_payload(1232);
    query.set_edns(edns);
    query.metadata.recursion_desired = true;
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    socket.send_to(&query.to_vec().expect("a query"), server).expect("a query sent");
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).expect("an answer");
    Message::from_vec(&buffer[..length]).expect("a DNS message")
}

/// The verdict of a validating resolver.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Secure(ResponseCode, usize),
    Insecure(ResponseCode, usize),
    Failed,
}

fn verdict(unbound: &Unbound, qname: &str, rtype: RecordType) -> Verdict {
    let answer = unbound.ask(qname, rtype);
    let count = answer.answers.iter().filter(|record| record.record_type() == rtype).count();
    match answer.metadata.response_code {
        ResponseCode::ServFail => Verdict::Failed,
        rcode if answer.metadata.authentic_data => Verdict::Secure(rcode, count),
        rcode => Verdict::Insecure(rcode, count),
    }
}

#[test]
fn unbound_agrees_with_every_zone() {
    let internet = internet();
    let servers = DnsServers::start(internet.tree(), 0).expect("servers");
    let Some(unbound) = Unbound::start(servers.forwarder(), &internet.trust_anchor()) else {
        println!("SKIPPED: unbound is not installed");
        return;
    };
    let mut wrong = Vec::new();
    let mut check = |qname: &str, rtype, expected: Verdict| {
        let found = verdict(&unbound, qname, rtype);
        if found != expected {
            wrong.push(format!("{qname} {rtype}: {found:?}, not {expected:?}"));
        }
    };
    let (ok, gone) = (ResponseCode::NoError, ResponseCode::NXDomain);
    for zone in ["nsec", "nsec3", "salted", "ed25519", "p384", "signed.optout"] {
        let at = |owner: &str| format!("{owner}.{zone}.example");
        check(&format!("{zone}.example"), RecordType::MX, Verdict::Secure(ok, 1));
        check(&format!("{zone}.example"), RecordType::AAAA, Verdict::Secure(ok, 0));
        check(&at("mx"), RecordType::A, Verdict::Secure(ok, 1));
        check(&at("mx"), RecordType::AAAA, Verdict::Secure(ok, 0));
        check(&at("_25._tcp.mx"), RecordType::TLSA, Verdict::Secure(ok, 1));
        check(&at("_26._tcp.mx"), RecordType::TLSA, Verdict::Secure(gone, 0));
        check(&at("_tcp.mx"), RecordType::TLSA, Verdict::Secure(ok, 0));
        check(&at("below"), RecordType::A, Verdict::Secure(ok, 0));
        check(&at("nothing"), RecordType::A, Verdict::Secure(gone, 0));
        check(&at("a.b.nothing"), RecordType::A, Verdict::Secure(gone, 0));
        check(&at("any.wild"), RecordType::A, Verdict::Secure(ok, 1));
        check(&at("any.more.wild"), RecordType::A, Verdict::Secure(ok, 1));
        check(&at("any.wild"), RecordType::AAAA, Verdict::Secure(ok, 0));
        check(&at("any.walias"), RecordType::A, Verdict::Secure(ok, 1));
        check(&at("alias"), RecordType::A, Verdict::Secure(ok, 1));
        check(&at("alias"), RecordType::TXT, Verdict::Secure(ok, 0));
        check(&at("dangling"), RecordType::A, Verdict::Secure(gone, 0));
        check(&at("away"), RecordType::A, Verdict::Secure(ok, 1));
        check(&at("mx.moved"), RecordType::A, Verdict::Secure(ok, 1));
    }
    for zone in ["plain", "island", "strange", "child.optout"] {
        let at = |owner: &str| format!("{owner}.{zone}.example");
        check(&at("mx"), RecordType::A, Verdict::Insecure(ok, 1));
        check(&at("nothing"), RecordType::A, Verdict::Insecure(gone, 0));
        check(&at("_25._tcp.mx"), RecordType::TLSA, Verdict::Insecure(ok, 1));
    }
    check("mx.optout.example", RecordType::A, Verdict::Secure(ok, 1));
    check("mx.optout.example", RecordType::AAAA, Verdict::Secure(ok, 0));
    check("nothing.optout.example", RecordType::A, Verdict::Insecure(gone, 0));
    for zone in ["wrongds", "expired", "future", "tampered", "stripped", "broken"] {
        check(&format!("mx.{zone}.example"), RecordType::A, Verdict::Failed);
    }
    check("_25._tcp.mx.tampered.example", RecordType::TLSA, Verdict::Secure(ok, 1));
    check("nothing.nodenial.example", RecordType::A, Verdict::Failed);
    check("mx.nodenial.example", RecordType::AAAA, Verdict::Failed);
    check("_25._tcp.mx.servfail.example", RecordType::TLSA, Verdict::Failed);
    check("mx.servfail.example", RecordType::A, Verdict::Secure(ok, 1));
    check("nothing.nowhere", RecordType::A, Verdict::Secure(gone, 0));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_referral_names_the_child_its_key_and_its_server() {
    let internet = internet();
    let servers = DnsServers::start(internet.tree(), 0).expect("servers");
    let root = SocketAddr::from((mta_lab::dns::ROOT_SERVER, servers.port()));
    let answer = ask(root, "mx.nsec.example", RecordType::A);
    assert!(answer.answers.is_empty() && !answer.metadata.authoritative);
    let types: Vec<RecordType> = answer.authorities.iter().map(|record| record.record_type()).collect();
    assert_eq!(types, [RecordType::NS, RecordType::DS, RecordType::RRSIG]);
    assert_eq!(answer.additionals.len(), 1, "glue");
    let answer = ask(root, "com", RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    assert!(answer.metadata.authoritative);
}

#[test]
fn every_question_is_logged() {
    let servers = DnsServers::start(internet().tree(), 0).expect("servers");
    ask(servers.forwarder(), "mx.nsec.example", RecordType::AAAA);
    let is_ours =
        |query: &mta_lab::dns::LoggedQuery| query.name == name("mx.nsec.example") && query.dnssec_ok;
    assert!(servers.wait_for_query(Duration::from_secs(5), is_ours));
    servers.forget_queries();
    assert!(servers.queries().is_empty());
}
