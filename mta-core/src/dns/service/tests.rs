//! Options that cannot work, waiting for the first self-test, and watching the transport.

use hickory_proto::op::{MessageType, OpCode, Query};

use super::*;
use crate::clock::SystemClock;
use crate::dns::options::RootHints;
use crate::dns::testing::name;

fn service(options: Options) -> Result<Service, ConfigError> {
    Service::new(options, SystemClock::shared())
}

/// Nobody to ask at all.
fn nobody() -> Options {
    Options { resolv_conf: "/nonexistent/resolv.conf".into(), recursion: false, ..Options::default() }
}

#[test]
fn options_that_cannot_work_are_refused_with_the_reason() {
    let distant = Options {
        mode: Mode::TrustAd,
        forwarders: vec!["127.0.0.1:53".parse().unwrap(), "192.0.2.1:53".parse().unwrap()],
        ..Options::default()
    };
    let error = service(distant).unwrap_err();
    assert_eq!(error, ConfigError::NotLoopback("192.0.2.1:53".parse().unwrap()));
    assert!(error.to_string().contains("192.0.2.1:53"));

    let no_file = Options { trust_anchor_file: Some("/nonexistent/anchor".into()), ..Options::default() };
    assert!(service(no_file).unwrap_err().to_string().contains("/nonexistent/anchor"));

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("anchor");
    std::fs::write(&file, "nonsense\n").unwrap();
    let nonsense = Options { trust_anchor_file: Some(file), ..Options::default() };
    assert!(matches!(service(nonsense).unwrap_err(), ConfigError::Anchors { .. }));

    let hints = Options { root_hints: RootHints::File("/nonexistent/hints".into()), ..Options::default() };
    assert!(matches!(service(hints).unwrap_err(), ConfigError::Hints(_)));
}

#[test]
fn a_resolver_of_resolv_conf_that_is_not_local_is_not_trusted_either() {
    let directory = tempfile::tempdir().unwrap();
    let resolv_conf = directory.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 192.0.2.1\n").unwrap();
    let options = Options { mode: Mode::TrustAd, resolv_conf, ..Options::default() };
    assert!(matches!(service(options), Err(ConfigError::NotLoopback(_))));
}

#[test]
fn without_any_resolver_lookups_are_unavailable_and_say_why() {
    for mode in [Mode::Auto, Mode::TrustAd] {
        let service = service(Options { mode, ..nobody() }).unwrap();
        assert_eq!(service.report().verdict, Verdict::Pending);
        let report = smol::block_on(service.self_test());
        assert_eq!(report.verdict, Verdict::Failed);
        assert!(service.is_site_fault());
        let answer = smol::block_on(service.lookup(name("www.example."), RecordType::A));
        assert_eq!(answer.status, Status::Unavailable);
        assert!(answer.reason.as_deref().unwrap().contains("no resolver is configured"), "{answer:?}");
        assert!(answer.reason.as_deref().unwrap().contains("/nonexistent/resolv.conf"), "{answer:?}");
    }
}

/// A15.
#[test]
fn lookups_wait_for_the_first_self_test() {
    let service = service(nobody()).unwrap();
    smol::block_on(async {
        let mut lookup = service.lookup(name("www.example."), RecordType::A);
        assert!(futures_lite::future::poll_once(&mut lookup).await.is_none(), "answered before the test");
        service.self_test().await;
        assert_eq!(lookup.await.status, Status::Unavailable);
    });
}

#[test]
fn a_lookup_ends_even_where_nobody_runs_the_self_test() {
    for mode in [Mode::Auto, Mode::TrustAd] {
        let lookup_timeout = Duration::from_millis(50);
        let service = service(Options { mode, lookup_timeout, ..nobody() }).unwrap();
        let answer = smol::block_on(service.lookup(name("www.example."), RecordType::A));
        assert_eq!(answer.status, Status::Unavailable);
    }
}

#[test]
fn run_tests_and_goes_on_after_a_failure() {
    let service = service(nobody()).unwrap();
    smol::block_on(async {
        let ends = async {
            service.run().await;
        };
        let tested = async {
            while service.report().verdict == Verdict::Pending {
                futures_lite::future::yield_now().await;
            }
        };
        ends.or(tested).await;
    });
    assert_eq!(service.report().verdict, Verdict::Failed);
}

fn response(question: &Question, code: ResponseCode) -> Result<Message, TransportFailure> {
    let mut message = Message::new(1, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(question.name.clone(), question.rtype));
    message.metadata.response_code = code;
    Ok(message)
}

#[test]
fn a_transport_that_stops_carrying_dnssec_is_suspected() {
    let keys = Question::new(name("example."), RecordType::DNSKEY);
    let mail = Question::new(name("example."), RecordType::MX);
    let watched = |question: &Question, result: &Result<Message, TransportFailure>| {
        let (sender, receiver) = async_channel::bounded(1);
        let switch = Switch::new(sender);
        for _ in 0..SUSPICIOUS {
            switch.watch(question, result);
        }
        receiver.try_recv().is_ok()
    };
    assert!(watched(&keys, &response(&keys, ResponseCode::NoError)), "keys without signatures");
    assert!(watched(&mail, &response(&mail, ResponseCode::ServFail)), "errors");
    assert!(watched(&mail, &Err(TransportFailure::Timeout)), "silence");
    assert!(!watched(&mail, &response(&mail, ResponseCode::NoError)), "an unsigned zone is no reason");
    assert!(
        !watched(&mail, &Err(TransportFailure::GivenUp("budget".to_owned()))),
        "our own bound is no reason"
    );
}

#[test]
fn bogus_answers_in_a_row_raise_suspicion() {
    let (sender, receiver) = async_channel::bounded(1);
    let switch = Switch::new(sender);
    for _ in 1..SUSPICIOUS {
        switch.suspect();
        assert!(receiver.try_recv().is_err());
    }
    switch.suspect();
    assert!(receiver.try_recv().is_ok());
}
