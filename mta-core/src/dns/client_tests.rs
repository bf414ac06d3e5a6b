//! One question to servers of every kind of bad behaviour.

use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::RecordType;
use mta_dane::validator::TransportFailure;

use super::client::{Client, Flags};
use super::options::Options;
use super::testing::{Act, FakeServers, Reply, name, reply};
use super::transport::{Budget, Question};

const HOST: u8 = 1;

fn options() -> Options {
    Options { query_timeout: Duration::from_millis(400), ..Options::default() }
}

fn ask_with(options: &Options, servers: &FakeServers) -> Result<Message, TransportFailure> {
    let client = Client::new(options);
    let budget = Budget::new(10, Duration::from_secs(10));
    let question = Question::new(name("www.example."), RecordType::A);
    let asked_at = Instant::now();
    let response = smol::block_on(client.ask(servers.address(HOST), &question, Flags::FORWARDER, &budget));
    assert!(asked_at.elapsed() < Duration::from_secs(8), "no bound held");
    response
}

fn ask(udp: impl Fn(u8, &Message) -> Act + Send + Sync + 'static) -> Result<Message, TransportFailure> {
    ask_with(&options(), &FakeServers::start(&[HOST], udp))
}

fn good(query: &Message) -> Reply {
    reply(query).answer("www.example.", RecordType::A, "192.0.2.1")
}

/// A13, RFC 7671 10.1.1.
#[test]
fn a_query_asks_for_dnssec_within_1232_bytes_and_disables_checking() {
    let response = ask(|_, query| {
        let edns = query.edns.clone().unwrap();
        assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (1232, true));
        assert!(query.checking_disabled && query.recursion_desired && !query.authentic_data);
        assert_eq!(query.queries.len(), 1);
        Act::Send(good(query))
    });
    assert_eq!(response.unwrap().answers.len(), 1);
}

#[test]
fn ids_differ_from_query_to_query() {
    use std::sync::{Arc, Mutex};
    let ids: Arc<Mutex<Vec<u16>>> = Arc::default();
    let seen = ids.clone();
    let servers = FakeServers::start(&[HOST], move |_, query| {
        seen.lock().unwrap().push(query.id);
        Act::Send(good(query))
    });
    for _ in 0..8 {
        ask_with(&options(), &servers).unwrap();
    }
    let mut ids = ids.lock().unwrap().clone();
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() >= 6, "{ids:?}");
}

#[test]
fn truncated_responses_are_fetched_over_tcp() {
    let servers =
        FakeServers::with_tcp(&[HOST], |_, q| Act::Send(reply(q).truncated()), |_, q| Act::Send(good(q)));
    assert_eq!(ask_with(&options(), &servers).unwrap().answers.len(), 1);
    assert_eq!(servers.tcp_questions(), 1);
}

#[test]
fn truncated_over_tcp_too_is_unreadable() {
    let response = ask(|_, q| Act::Send(reply(q).truncated()));
    assert!(matches!(response, Err(TransportFailure::Malformed(_))), "{response:?}");
}

#[test]
fn a_large_answer_comes_over_tcp_whole() {
    let large = |q: &Message| {
        (0..2000u32).fold(reply(q), |r, i| {
            r.answer("www.example.", RecordType::A, &std::net::Ipv4Addr::from(i).to_string())
        })
    };
    let servers = FakeServers::with_tcp(
        &[HOST],
        |_, q| Act::Send(reply(q).truncated()),
        move |_, q| Act::Send(large(q)),
    );
    assert_eq!(ask_with(&options(), &servers).unwrap().answers.len(), 2000);
}

#[test]
fn error_codes_are_responses() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp, ResponseCode::NXDomain]
    {
        let response = ask(move |_, q| Act::Send(reply(q).code(code)));
        assert_eq!(response.unwrap().response_code, code);
    }
}

#[test]
fn a_wrong_id_is_ignored_and_the_right_one_behind_it_counts() {
    let wrong = |q: &Message| {
        let mut forged = reply(q).answer("www.example.", RecordType::A, "192.0.2.66");
        forged.0.metadata.id = q.id.wrapping_add(1);
        forged.bytes()
    };
    let both = ask(move |_, q| Act::Several(vec![wrong(q), good(q).bytes()])).unwrap();
    assert!(both.answers.first().unwrap().to_string().contains("192.0.2.1"));
    let only = ask(move |_, q| Act::Several(vec![wrong(q)]));
    assert_eq!(only, Err(TransportFailure::Timeout));
}

#[test]
fn another_question_is_never_accepted() {
    let other = |q: &Message| {
        let mut forged = good(q);
        forged.0.queries = vec![Query::query(name("other.example."), RecordType::A)];
        forged
    };
    let udp = ask(move |_, q| Act::Send(other(q)));
    assert_eq!(udp, Err(TransportFailure::Timeout));
    let servers = FakeServers::with_tcp(
        &[HOST],
        |_, q| Act::Send(reply(q).truncated()),
        move |_, q| Act::Send(other(q)),
    );
    let tcp = ask_with(&options(), &servers);
    assert!(matches!(tcp, Err(TransportFailure::Malformed(_))), "{tcp:?}");
    let another_type = ask(|_, q| {
        let mut forged = good(q);
        forged.0.queries = vec![Query::query(name("www.example."), RecordType::AAAA)];
        Act::Send(forged)
    });
    assert_eq!(another_type, Err(TransportFailure::Timeout));
}

#[test]
fn silence_is_a_timeout_and_a_closed_port_is_known_at_once() {
    assert_eq!(ask(|_, _| Act::Silent), Err(TransportFailure::Timeout));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let client = Client::new(&Options { query_timeout: Duration::from_secs(60), ..Options::default() });
    let budget = Budget::new(10, Duration::from_secs(60));
    let question = Question::new(name("www.example."), RecordType::A);
    let refused = smol::block_on(client.ask(address, &question, Flags::FORWARDER, &budget));
    assert!(matches!(refused, Err(TransportFailure::Network(_))), "{refused:?}");
}

#[test]
fn garbage_is_unreadable_or_ignored_and_never_an_answer() {
    for length in [0, 1, 2, 11, 12, 13, 100, 1232, 4000] {
        let response = ask(move |_, q| {
            let mut bytes: Vec<u8> = (0..length).map(|i| (i * 37 % 251) as u8).collect();
            let id = q.id.to_be_bytes();
            bytes.iter_mut().zip(id).for_each(|(byte, id)| *byte = id);
            Act::Raw(bytes)
        });
        assert!(response.is_err(), "{length} bytes: {response:?}");
    }
}

#[test]
fn a_datagram_larger_than_announced_is_asked_for_over_tcp() {
    let oversized = |q: &Message| {
        (0..200u32).fold(reply(q), |r, i| {
            r.answer("www.example.", RecordType::A, &std::net::Ipv4Addr::from(i).to_string())
        })
    };
    let servers =
        FakeServers::with_tcp(&[HOST], move |_, q| Act::Send(oversized(q)), |_, q| Act::Send(good(q)));
    assert_eq!(ask_with(&options(), &servers).unwrap().answers.len(), 1);
    assert_eq!(servers.tcp_questions(), 1);
}

#[test]
fn a_slow_drip_over_tcp_ends_with_the_timeout() {
    let servers = FakeServers::with_tcp(
        &[HOST],
        |_, q| Act::Send(reply(q).truncated()),
        |_, q| Act::Drip(good(q).bytes(), Duration::from_millis(60)),
    );
    assert_eq!(ask_with(&options(), &servers), Err(TransportFailure::Timeout));
}

#[test]
fn a_connection_closed_before_the_response_is_an_error() {
    let servers = FakeServers::with_tcp(&[HOST], |_, q| Act::Send(reply(q).truncated()), |_, _| Act::Silent);
    assert!(ask_with(&options(), &servers).is_err());
}

#[test]
fn a_server_from_before_edns_is_asked_without_it() {
    let response = ask(|_, query| {
        let mut r = good(query);
        r.0.edns = None;
        if query.edns.is_some() {
            r.0.answers.clear();
            r.0.metadata.response_code = ResponseCode::FormErr;
        }
        Act::Send(r)
    });
    assert_eq!(response.unwrap().answers.len(), 1);
}

#[test]
fn random_case_is_compared_and_taken_out_again() {
    let options = Options { random_case: true, ..options() };
    let servers = FakeServers::start(&[HOST], |_, q| Act::Send(good(q)));
    let response = ask_with(&options, &servers).unwrap();
    assert!(response.queries.first().unwrap().name().eq_case(&name("www.example.")));
    // A forger who does not know the case: over UDP it is refused, and TCP is asked.
    let forger = |q: &Message| {
        let mut r = reply(q).answer("www.example.", RecordType::A, "192.0.2.66");
        r.0.queries = vec![Query::query(name("WwW.eXaMpLe."), RecordType::A)];
        r
    };
    let servers = FakeServers::with_tcp(&[HOST], move |_, q| Act::Send(forger(q)), |_, q| Act::Send(good(q)));
    let honest = (0..4)
        .map(|_| ask_with(&options, &servers).unwrap())
        .filter(|m| m.answers.first().unwrap().to_string().contains("192.0.2.1"));
    assert!(honest.count() >= 3, "forged responses were taken");
}

#[test]
fn a_used_up_budget_sends_nothing() {
    let servers = FakeServers::start(&[HOST], |_, q| Act::Send(good(q)));
    let client = Client::new(&options());
    let budget = Budget::new(0, Duration::from_secs(10));
    let question = Question::new(name("www.example."), RecordType::A);
    let response = smol::block_on(client.ask(servers.address(HOST), &question, Flags::FORWARDER, &budget));
    assert!(matches!(response, Err(TransportFailure::GivenUp(_))));
    assert_eq!(servers.asked(), []);
}
