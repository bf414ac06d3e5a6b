//! Who may ride whose session, as a table that tries to break it; and what becomes of sessions at rest.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use hickory_proto::rr::Name;
use mta_dane::policy::Authenticate;
use mta_dane::tlsa::TlsaRecord;
use mta_smtp::client::{EightBit, Limits, Protocol, Settings, TlsUse};

use super::*;
use crate::outbound::ContentSource;
use crate::outbound::session::{Event, Message, Stream};
use crate::tls::client::Demand;

fn dane(base: &str, key: u8, host_only: bool) -> Requirement {
    Requirement::Authenticated(Demand::Dane(Box::new(Authenticate {
        base_domain: Name::from_ascii(base).unwrap(),
        records: vec![TlsaRecord::new(3, 1, 1, [key; 32])],
        unusable: Vec::new(),
        reference_ids: Vec::new(),
        host_only,
    })))
}

fn any() -> Demand {
    Demand::Any { sni: "mx.example".into() }
}

fn terms(requirement: Requirement) -> Terms {
    Terms {
        host: "mx.example".into(),
        address: "192.0.2.1:25".parse().unwrap(),
        source: None,
        host_name: "client.example".into(),
        requirement,
        reason: "secure TLSA records".into(),
        implicit: false,
        login: None,
        require_tls: false,
    }
}

fn standing(encrypted: bool, verified: bool, now: Instant) -> Standing {
    Standing { encrypted, verified, transactions: 1, may_begin: true, opened: now, resting_since: now }
}

type Change = fn(&mut Terms);

/// F9: whatever is changed about a demand, weaker or stronger: the session was opened for something else.
#[test]
fn only_the_same_demand_rides() {
    let now = Instant::now();
    let changes: [(&str, Change); 18] = [
        ("another host at the same address", |t| t.host = "mx2.example".into()),
        ("another address of the host", |t| t.address = "192.0.2.2:25".parse().unwrap()),
        ("the other family", |t| t.address = "[2001:db8::1]:25".parse().unwrap()),
        ("another port", |t| t.address.set_port(26)),
        ("another source address", |t| t.source = Some("192.0.2.9".parse().unwrap())),
        ("another name of ours", |t| t.host_name = "other.example".into()),
        ("another TLSA set", |t| t.requirement = dane("mx.example.", 8, false)),
        ("a TLSA set with one more record", |t| {
            if let Requirement::Authenticated(Demand::Dane(demand)) = &mut t.requirement {
                demand.records.push(TlsaRecord::new(3, 1, 1, [9; 32]));
            }
        }),
        ("another TLSA base domain", |t| t.requirement = dane("alias.example.", 7, false)),
        ("the MX records are no longer secure", |t| t.requirement = dane("mx.example.", 7, true)),
        ("no usable TLSA record any more", |t| t.requirement = Requirement::Encrypted(any())),
        ("no TLSA any more", |t| t.requirement = Requirement::Opportunistic(any())),
        ("TLS switched off", |t| t.requirement = Requirement::Plaintext),
        ("the system's authorities instead", |t| {
            t.requirement = Requirement::Authenticated(Demand::WebPki { name: "mx.example".into() });
        }),
        ("another policy that demands the same", |t| t.reason = "MTA-STS".into()),
        ("TLS from the first octet", |t| t.implicit = true),
        ("a login", |t| t.login = Credentials::new("user", "pencil").ok()),
        ("REQUIRETLS", |t| t.require_tls = true),
    ];
    let kinds = [
        dane("mx.example.", 7, false),
        dane("mx.example.", 7, true),
        Requirement::Authenticated(Demand::WebPki { name: "mx.example".into() }),
        Requirement::Encrypted(any()),
        Requirement::Opportunistic(any()),
        Requirement::Plaintext,
    ];
    let reuse = Reuse::default();
    for kind in kinds {
        let opened = terms(kind);
        let standing = standing(true, true, now);
        assert_eq!(may_ride(&opened, &standing, &opened.clone(), &reuse, now), Ok(()));
        for (what, change) in changes {
            let mut wanted = opened.clone();
            change(&mut wanted);
            if wanted != opened {
                let verdict = may_ride(&opened, &standing, &wanted, &reuse, now);
                assert_eq!(verdict, Err(NoRide::OtherTerms), "{what}: {opened:?}");
            }
        }
    }
    let logged_in = |secret: &str| Terms {
        login: Credentials::new("user", secret).ok(),
        ..terms(dane("mx.example.", 7, false))
    };
    let ride = may_ride(&logged_in("old"), &standing(true, true, now), &logged_in("new"), &reuse, now);
    assert_eq!(ride, Err(NoRide::OtherTerms), "a changed secret");
}

/// Should a session ever rest that is not what it had to be, nothing is sent over it.
#[test]
fn what_was_not_proved_carries_nothing_that_needs_proof() {
    let now = Instant::now();
    let reuse = Reuse::default();
    for (requirement, encrypted, verified, expected) in [
        (dane("mx.example.", 7, false), true, false, Err(NoRide::NotVerified)),
        (dane("mx.example.", 7, false), false, false, Err(NoRide::NotEncrypted)),
        (Requirement::Encrypted(any()), true, false, Ok(())),
        (Requirement::Encrypted(any()), false, false, Err(NoRide::NotEncrypted)),
        (Requirement::Opportunistic(any()), false, false, Ok(())),
        (Requirement::Plaintext, false, false, Ok(())),
    ] {
        let terms = terms(requirement);
        let standing = standing(encrypted, verified, now);
        assert_eq!(may_ride(&terms, &standing, &terms, &reuse, now), expected, "{terms:?}");
        for needy in [
            Terms { require_tls: true, ..terms.clone() },
            Terms { login: Credentials::new("user", "pencil").ok(), ..terms.clone() },
        ] {
            assert!(may_ride(&needy, &standing, &needy, &reuse, now).is_err(), "{needy:?}");
        }
    }
}

#[test]
fn number_age_and_rest_are_bounded() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let terms = terms(Requirement::Plaintext);
    let reuse = Reuse { messages: 3, idle: second * 5, age: second * 60, ..Reuse::default() };
    let ride = |change: &dyn Fn(&mut Standing), at: Duration| {
        let mut standing = standing(false, false, now);
        change(&mut standing);
        may_ride(&terms, &standing, &terms, &reuse, now + at)
    };
    assert_eq!(ride(&|s| s.transactions = 2, second), Ok(()));
    assert_eq!(ride(&|s| s.transactions = 3, second), Err(NoRide::UsedUp));
    assert_eq!(ride(&|s| s.may_begin = false, second), Err(NoRide::UsedUp));
    assert_eq!(ride(&|_| (), second * 5), Err(NoRide::Idle));
    assert_eq!(ride(&|s| s.resting_since = now + second * 59, second * 59), Ok(()));
    assert_eq!(ride(&|s| s.resting_since = now + second * 59, second * 60), Err(NoRide::TooOld));
}

struct Nothing;

impl ContentSource for Nothing {
    fn open(&self) -> std::io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(std::io::empty()))
    }
}

/// A session in the clear that is ready, and the server's end of it.
fn session(host: &str) -> (Parked, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"220 mx.example\r\n250 mx.example\r\n").unwrap();
    let settings = Settings {
        protocol: Protocol::Smtp,
        host_name: "client.example".into(),
        tls: TlsUse::Never,
        credentials: None,
        eight_bit: EightBit::Send,
        limits: Limits::default(),
    };
    let tcp = smol::net::TcpStream::from(async_io::Async::new(stream).unwrap());
    let until = Instant::now() + Duration::from_secs(60);
    let message = Message { content: Arc::new(Nothing), size_bytes: 0, until };
    let mut connection = Connection::new(Stream::Plain(tcp), settings, &message);
    assert!(matches!(smol::block_on(connection.next()), Event::Ready));
    connection.rest();
    let terms = Terms { host: host.into(), ..terms(Requirement::Plaintext) };
    let parked =
        Parked { connection, terms, opened: Instant::now(), opened_at_unix: 0, tls: None, messages: 1 };
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    server.read_exact(&mut [0; "EHLO client.example\r\n".len()]).unwrap();
    (parked, server)
}

fn heard(server: &mut TcpStream) -> String {
    let mut text = String::new();
    server.read_to_string(&mut text).unwrap();
    text
}

fn take(pool: &Pool, host: &str, reuse: &Reuse) -> bool {
    let wanted = Terms { host: host.into(), ..terms(Requirement::Plaintext) };
    smol::block_on(pool.take(&wanted, reuse)).is_some()
}

#[test]
fn a_session_that_rests_is_taken_once() {
    let (pool, reuse) = (Pool::default(), Reuse::default());
    let (parked, _server) = session("mx.example");
    pool.park(parked, &reuse);
    assert!(!take(&pool, "mx2.example", &reuse));
    assert!(take(&pool, "mx.example", &reuse));
    assert!(!take(&pool, "mx.example", &reuse) && pool.is_empty());
}

#[test]
fn a_server_that_spoke_or_left_meanwhile_is_not_used() {
    let (pool, reuse) = (Pool::default(), Reuse::default());
    let acts: [fn(&mut TcpStream); 4] = [
        |server| server.write_all(b"421 4.4.2 idle for too long\r\n").unwrap(),
        |server| server.write_all(b"2").unwrap(),
        |server| server.shutdown(Shutdown::Write).unwrap(),
        |server| server.shutdown(Shutdown::Both).unwrap(),
    ];
    for act in acts {
        let (parked, mut server) = session("mx.example");
        pool.park(parked, &reuse);
        act(&mut server);
        assert!(!take(&pool, "mx.example", &reuse) && pool.is_empty());
    }
    // The one below it is still good.
    let ((first, _good), (second, bad)) = (session("mx.example"), session("mx.example"));
    pool.park(first, &reuse);
    pool.park(second, &reuse);
    drop(bad);
    assert!(take(&pool, "mx.example", &reuse));
}

#[test]
fn sessions_at_rest_are_bounded_and_the_oldest_goes() {
    let pool = Pool::default();
    let reuse = Reuse { sessions: 3, sessions_per_host: 2, ..Reuse::default() };
    let mut servers = Vec::new();
    for host in ["a", "a", "a", "b", "c"] {
        let (parked, server) = session(host);
        pool.park(parked, &reuse);
        servers.push(server);
    }
    assert_eq!(pool.len(), 3);
    // Of `a` the first went when the third came, the second when `c` did.
    for server in servers.iter_mut().take(2) {
        let mut line = [0; 6];
        server.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"QUIT\r\n");
    }
    assert!(take(&pool, "a", &reuse) && !take(&pool, "a", &reuse));
    assert!(take(&pool, "b", &reuse) && take(&pool, "c", &reuse) && pool.is_empty());
}

#[test]
fn one_whose_time_is_over_leaves_in_good_order() {
    let pool = Pool::default();
    let reuse = Reuse { idle: Duration::from_millis(30), ..Reuse::default() };
    let (parked, mut server) = session("mx.example");
    pool.park(parked, &reuse);
    let mut line = [0; 6];
    server.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"QUIT\r\n");
    assert!(pool.is_empty());
    // The timer is gone with it, and comes again with the next.
    let (parked, mut server) = session("mx.example");
    pool.park(parked, &reuse);
    server.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"QUIT\r\n");
}

#[test]
fn a_closed_pool_says_quit_and_keeps_nothing() {
    let (pool, reuse) = (Pool::default(), Reuse::default());
    let (parked, mut server) = session("mx.example");
    pool.park(parked, &reuse);
    pool.close();
    assert_eq!(heard(&mut server), "QUIT\r\n");
    let (parked, mut server) = session("mx.example");
    pool.park(parked, &reuse);
    assert!(pool.is_empty());
    assert_eq!(heard(&mut server), "QUIT\r\n");
}

#[test]
fn without_reuse_nothing_rests() {
    let pool = Pool::default();
    for reuse in [
        Reuse { messages: 0, ..Reuse::default() },
        Reuse { idle: Duration::ZERO, ..Reuse::default() },
        Reuse { sessions: 0, ..Reuse::default() },
        Reuse { sessions_per_host: 0, ..Reuse::default() },
    ] {
        let (parked, mut server) = session("mx.example");
        pool.park(parked, &reuse);
        assert!(pool.is_empty(), "{reuse:?}");
        let mut line = [0; 6];
        server.read_exact(&mut line).unwrap();
    }
}
