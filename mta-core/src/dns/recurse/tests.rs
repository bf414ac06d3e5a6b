//! Recursion over a private tree on several loopback addresses with one port.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use mta_dane::validator::TransportFailure;

use super::Recurse;
use crate::dns::client::Client;
use crate::dns::options::Options;
use crate::dns::testing::{Act, FakeServers, name, reply};
use crate::dns::transport::{Budget, Question, Transport as _};

const SOA: &str = "ns. admin. 1 2 3 4 5";

const ROOT: u8 = 1;
const TLD: u8 = 2;
const LEAF: u8 = 3;
const OTHER: u8 = 4;

/// What the servers of a small tree answer: root, `test.`, `leaf.test.` with glue, `far.test.` served by a name
/// in another zone, `loop1.test.` and `loop2.test.` whose servers are named in each other.
fn tree(server: u8, query: &Message) -> Act {
    let Some(question) = query.queries.first() else { return Act::Silent };
    let (qname, rtype) = (question.name().to_lowercase(), question.query_type());
    let below = |zone: &str| name(zone).zone_of(&qname);
    let r = reply(query);
    Act::Send(match server {
        ROOT if below("test.") => r.ns("test.", "ns.test.").glue("ns.test.", "127.0.0.2"),
        ROOT => r.code(ResponseCode::NXDomain).soa(".", SOA),
        TLD if qname == name("leaf.test.") && rtype == RecordType::DS => r.soa("test.", SOA),
        TLD if below("leaf.test.") => {
            // The first server is lame, and glue for a name outside of the zone is poison.
            r.ns("leaf.test.", "lame.leaf.test.")
                .ns("leaf.test.", "ns.leaf.test.")
                .ns("leaf.test.", "victim.")
                .glue("lame.leaf.test.", "127.0.0.4")
                .glue("ns.leaf.test.", "127.0.0.3")
                .glue("victim.", "127.0.0.4")
        }
        TLD if below("far.test.") => r.ns("far.test.", "ns.leaf.test."),
        TLD if below("loop1.test.") => r.ns("loop1.test.", "ns.loop2.test."),
        TLD if below("loop2.test.") => r.ns("loop2.test.", "ns.loop1.test."),
        TLD if below("glueless.test.") => r.ns("glueless.test.", "ns.glueless.test."),
        TLD if below("up.test.") => r.ns("up.test.", "ns.up.test.").glue("ns.up.test.", "127.0.0.4"),
        TLD => r.code(ResponseCode::NXDomain).soa("test.", SOA),
        LEAF if qname == name("ns.leaf.test.") && rtype == RecordType::A => {
            r.answer("ns.leaf.test.", RecordType::A, "127.0.0.3")
        }
        LEAF if below("leaf.test.") && rtype == RecordType::A => r
            .answer(&qname.to_ascii(), RecordType::A, "192.0.2.1")
            .answer("victim.", RecordType::A, "192.0.2.66"),
        LEAF if below("leaf.test.") => r.soa("leaf.test.", SOA),
        LEAF if below("far.test.") => r.answer(&qname.to_ascii(), RecordType::A, "192.0.2.2"),
        OTHER if below("up.test.") => r.not_authoritative().ns(".", "ns."),
        _ => r.code(ResponseCode::Refused),
    })
}

fn recurse(servers: &FakeServers) -> Recurse {
    let options = Options { query_timeout: Duration::from_millis(500), ipv6: false, ..Options::default() };
    let client = Arc::new(Client::new(&options));
    Recurse::new(client, vec![servers.address(ROOT)], servers.port())
}

fn ask(recurse: &Recurse, owner: &str, rtype: RecordType) -> (Result<Message, TransportFailure>, u32) {
    let budget = Budget::new(40, Duration::from_secs(10));
    let response = smol::block_on(recurse.ask(Question::new(name(owner), rtype), &budget));
    (response, budget.spent())
}

fn servers() -> FakeServers {
    FakeServers::start(&[ROOT, TLD, LEAF, OTHER], tree)
}

#[test]
fn it_walks_down_past_lame_servers_and_remembers_the_way() {
    let servers = servers();
    let recurse = recurse(&servers);
    let (response, spent) = ask(&recurse, "www.leaf.test.", RecordType::A);
    let response = response.unwrap();
    assert_eq!(response.answers.len(), 1, "a record out of the zone was kept: {response:?}");
    assert!(spent <= 4, "{spent} queries");
    for _ in 0..3 {
        let (response, spent) = ask(&recurse, "mail.leaf.test.", RecordType::A);
        assert_eq!(response.unwrap().answers.len(), 1);
        assert!(spent <= 2, "the zone cut was not remembered: {spent} queries");
    }
    assert!(servers.asked().iter().all(|(_, owner, _)| *owner != name("victim.")));
}

#[test]
fn a_server_with_a_name_elsewhere_is_found() {
    let servers = servers();
    let (response, _) = ask(&recurse(&servers), "www.far.test.", RecordType::A);
    assert_eq!(response.unwrap().answers.len(), 1);
}

#[test]
fn denials_come_back_as_they_are() {
    let servers = servers();
    let recurse = recurse(&servers);
    let (none, _) = ask(&recurse, "nothing.test.", RecordType::A);
    assert_eq!(none.unwrap().response_code, ResponseCode::NXDomain);
    let (nodata, _) = ask(&recurse, "www.leaf.test.", RecordType::MX);
    let nodata = nodata.unwrap();
    assert_eq!((nodata.response_code, nodata.answers.len()), (ResponseCode::NoError, 0));
}

#[test]
fn the_ds_question_goes_to_the_parent_even_when_the_child_is_known() {
    let servers = servers();
    let recurse = recurse(&servers);
    ask(&recurse, "www.leaf.test.", RecordType::A).0.unwrap();
    servers.forget();
    let (ds, _) = ask(&recurse, "leaf.test.", RecordType::DS);
    assert!(ds.unwrap().authorities.iter().any(|r| r.name == name("test.")), "not the parent's answer");
    assert_eq!(servers.asked(), [(TLD, name("leaf.test."), RecordType::DS)]);
}

#[test]
fn loops_dead_ends_and_upward_referrals_end() {
    let servers = servers();
    let recurse = recurse(&servers);
    for owner in ["www.loop1.test.", "www.glueless.test.", "www.up.test."] {
        let (response, spent) = ask(&recurse, owner, RecordType::A);
        assert!(response.is_err(), "{owner}: {response:?}");
        assert!(spent <= 40, "{owner}: {spent} queries");
    }
}

#[test]
fn an_endless_chain_of_referrals_ends_within_its_bounds() {
    // Every server refers one label further down, to itself.
    let servers = FakeServers::start(&[ROOT], |_, query| {
        let Some(question) = query.queries.first() else { return Act::Silent };
        let labels = ENDLESS.load(std::sync::atomic::Ordering::SeqCst);
        ENDLESS.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let zone = question.name().trim_to(labels + 1).to_ascii();
        Act::Send(reply(query).not_authoritative().ns(&zone, "ns.").glue("ns.", "127.0.0.1"))
    });
    static ENDLESS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let deep = Name::from_labels(vec![&b"a"[..]; 60]).unwrap();
    let (response, spent) = ask(&recurse(&servers), &deep.to_ascii(), RecordType::A);
    assert!(response.is_err());
    assert!(spent <= 40, "{spent} queries");
}

#[test]
fn a_zone_whose_servers_moved_is_found_again() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static MOVED: AtomicBool = AtomicBool::new(false);
    let servers = FakeServers::start(&[ROOT, LEAF, OTHER], |server, query| {
        let r = reply(query);
        let moved = MOVED.load(Ordering::SeqCst);
        Act::Send(match server {
            ROOT => {
                let address = if moved { "127.0.0.4" } else { "127.0.0.3" };
                r.not_authoritative().ns("leaf.", "ns.leaf.").glue("ns.leaf.", address)
            }
            LEAF if moved => r.code(ResponseCode::Refused),
            _ => r.answer("www.leaf.", RecordType::A, "192.0.2.1"),
        })
    });
    let recurse = recurse(&servers);
    ask(&recurse, "www.leaf.", RecordType::A).0.unwrap();
    MOVED.store(true, Ordering::SeqCst);
    assert_eq!(ask(&recurse, "www.leaf.", RecordType::A).0.unwrap().answers.len(), 1);
}
