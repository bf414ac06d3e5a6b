//! Trust in the AD bit: what each answer of the trusted resolver means.

use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::EdnsOption;

use super::*;
use crate::dns::testing::{Act, FakeServers, Reply, name, reply};

const SOA: &str = "ns.example. admin.example. 1 2 3 4 7200";

fn ask(owner: &str, rtype: RecordType, behaviour: fn(&Message, Reply) -> Reply) -> Answer {
    let servers = FakeServers::start(&[1], move |_, query| {
        assert!(query.authentic_data && !query.checking_disabled, "the query does not ask for validation");
        Act::Send(behaviour(query, reply(query)))
    });
    let options = Options { query_timeout: Duration::from_millis(500), attempts: 1, ..Options::default() };
    let trust = AdTrust::new(Arc::new(Client::new(&options)), vec![servers.address(1)], &options);
    Answer::clone(&smol::block_on(trust.lookup(name(owner), rtype)))
}

fn asks_for(query: &Message, owner: &str, rtype: RecordType) -> bool {
    query.queries.first().is_some_and(|q| q.name == name(owner) && q.query_type == rtype)
}

/// A6, RFC 7672 2.1.1.
#[test]
fn only_loopback_addresses_are_trusted() {
    for good in ["127.0.0.1:53", "127.9.9.9:5300", "[::1]:53", "[::ffff:127.0.0.1]:53"] {
        assert!(may_be_trusted(good.parse().unwrap()), "{good}");
    }
    for bad in
        ["192.168.1.1:53", "0.0.0.0:53", "[::]:53", "10.0.0.1:53", "[::ffff:10.0.0.1]:53", "[fe80::1]:53"]
    {
        assert!(!may_be_trusted(bad.parse().unwrap()), "{bad}");
    }
    // Whatever the caller passes, another one is never asked.
    let options = Options::default();
    let trust =
        AdTrust::new(Arc::new(Client::new(&options)), vec!["192.0.2.1:53".parse().unwrap()], &options);
    let answer = smol::block_on(trust.lookup(name("a.example."), RecordType::A));
    assert_eq!(answer.status, Status::Unavailable);
    assert!(answer.reason.as_deref().unwrap().contains("no resolver"), "{answer:?}");
}

#[test]
fn the_bit_decides_for_data_and_denials() {
    let secure = ask("a.example.", RecordType::A, |_, r| {
        r.authentic().answer("a.example.", RecordType::A, "192.0.2.1").answer(
            "b.example.",
            RecordType::A,
            "192.0.2.9",
        )
    });
    assert_eq!((secure.status, secure.kind, secure.records.len()), (Status::Secure, Kind::Data, 1));
    let insecure =
        ask("a.example.", RecordType::A, |_, r| r.answer("a.example.", RecordType::A, "192.0.2.1"));
    assert_eq!(insecure.status, Status::Insecure);
    let nodata = ask("a.example.", RecordType::TLSA, |_, r| r.authentic().soa("example.", SOA));
    assert_eq!((nodata.status, nodata.kind, nodata.ttl_seconds), (Status::Secure, Kind::NoData, 300));
    let none =
        ask("a.example.", RecordType::TLSA, |_, r| r.code(ResponseCode::NXDomain).soa("example.", SOA));
    assert_eq!((none.status, none.kind), (Status::Insecure, Kind::NxDomain));
}

#[test]
fn an_insecure_answer_behind_an_alias_asks_for_the_first_hop() {
    let answer = ask("a.example.", RecordType::A, |query, r| {
        let r = r.answer("a.example.", RecordType::CNAME, "b.test.");
        if asks_for(query, "a.example.", RecordType::CNAME) {
            r.authentic()
        } else {
            r.answer("b.test.", RecordType::A, "192.0.2.1")
        }
    });
    assert_eq!((answer.status, answer.kind), (Status::Insecure, Kind::Data));
    assert_eq!(answer.hops.first().unwrap().status, Status::Secure);
    let error = ask("a.example.", RecordType::A, |query, r| {
        if asks_for(query, "a.example.", RecordType::CNAME) {
            r.code(ResponseCode::ServFail)
        } else {
            r.answer("a.example.", RecordType::CNAME, "b.test.").answer("b.test.", RecordType::A, "192.0.2.1")
        }
    });
    assert_eq!(error.status, Status::Unavailable);
}

#[test]
fn an_alias_without_its_target_is_followed_by_another_question() {
    let answer = ask("a.example.", RecordType::A, |query, r| {
        if asks_for(query, "a.example.", RecordType::A) {
            r.authentic().answer("a.example.", RecordType::CNAME, "b.test.")
        } else {
            r.answer("b.test.", RecordType::A, "192.0.2.1")
        }
    });
    // The second part is insecure, so the whole is; the first hop is known to be secure.
    assert_eq!((answer.status, answer.kind, answer.hops.len()), (Status::Insecure, Kind::Data, 1));
    assert_eq!(answer.hops.first().unwrap().status, Status::Secure);
    let looping = ask("a.example.", RecordType::A, |_, r| {
        r.authentic().answer("a.example.", RecordType::CNAME, "b.example.").answer(
            "b.example.",
            RecordType::CNAME,
            "a.example.",
        )
    });
    assert_eq!(looping.status, Status::Unavailable);
}

#[test]
fn error_codes_are_errors_and_the_extended_error_says_which() {
    for code in [ResponseCode::Refused, ResponseCode::NotImp, ResponseCode::FormErr, ResponseCode::ServFail] {
        let answer = match code {
            ResponseCode::Refused => ask("a.example.", RecordType::A, |_, r| r.code(ResponseCode::Refused)),
            ResponseCode::NotImp => ask("a.example.", RecordType::A, |_, r| r.code(ResponseCode::NotImp)),
            ResponseCode::FormErr => ask("a.example.", RecordType::A, |_, r| r.code(ResponseCode::FormErr)),
            _ => ask("a.example.", RecordType::A, |_, r| r.code(ResponseCode::ServFail)),
        };
        assert_eq!(answer.status, Status::Unavailable, "{code}");
    }
    // The AD bit on an error means nothing.
    let bogus = ask("a.example.", RecordType::A, |_, r| {
        let mut r = r.authentic().code(ResponseCode::ServFail);
        if let Some(edns) = &mut r.0.edns {
            edns.options_mut().insert(EdnsOption::Unknown(15, b"\0\x06".to_vec()));
        }
        r
    });
    assert_eq!(bogus.status, Status::Bogus);
    assert!(bogus.reason.unwrap().contains("DNSSEC bogus"));
}
