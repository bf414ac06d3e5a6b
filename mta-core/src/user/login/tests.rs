//! Logins: who is let in, what it costs to find out, and what is kept of it.

use std::num::NonZeroU32;

use mta_queue::{GrantKind, StoredGrant, StoredSecret, UserChange};

use super::*;
use crate::tls::client_certificate::tests::Authority;
use crate::user::Service;
use crate::user::rate::Limits;

struct Site {
    _state: tempfile::TempDir,
    queue: Queue,
    logins: Arc<Logins>,
    options: Options,
}

const SHA_CRYPT: &str =
    "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";

fn site() -> Site {
    let state = tempfile::tempdir().expect("a directory");
    let queue = Queue::open(state.path(), mta_queue::Options::default()).expect("a queue");
    let scram_iterations = NonZeroU32::new(4096).expect("not zero");
    let cost = Cost { memory_kib: 64, passes: 1, scram_iterations };
    let guard = guard::Options { client_failures: 100, user_failures: 100, ..guard::Options::default() };
    let options = Options { cost, guard, ..Options::default() };
    let add = |name: &str, secret: StoredSecret, disabled: bool| {
        let created_at = Some(SystemTime::UNIX_EPOCH);
        let user = StoredUser { name: name.to_owned(), secret, disabled, created_at, ..Default::default() };
        queue.add_user(user).expect("added");
    };
    let secret = |text: &str| password::secret(text, cost, true).expect("made");
    add("anna@one.example", secret("right"), false);
    add("gone@one.example", secret("right"), true);
    add("old@one.example", password::imported(SHA_CRYPT).expect("known"), false);
    let users = Users::default();
    users.refresh(&queue.reader()).expect("read");
    let logins = Logins::new(users, queue.clone(), 2).expect("logins");
    Site { _state: state, queue, logins, options }
}

fn attempt(user: &str, host: u8) -> Attempt<'_> {
    let client = IpAddr::from([192, 0, 2, host]);
    Attempt { client, user, mechanism: "PLAIN" }
}

fn login(site: &Site, user: &str, host: u8, text: &str) -> Outcome {
    smol::block_on(site.logins.password(attempt(user, host), &Password::new(text), &site.options))
}

#[test]
fn right_and_wrong_passwords() {
    let site = site();
    let anna = Outcome::LoggedIn("anna@one.example".to_owned());
    assert_eq!(login(&site, "Anna@One.Example", 1, "right"), anna);
    for (host, (user, text)) in (2..).zip([
        ("anna@one.example", "wrong"),
        ("nobody@one.example", "right"),
        ("gone@one.example", "right"),
        ("not a name", "right"),
        ("", "right"),
    ]) {
        assert_eq!(login(&site, user, host, text), Outcome::Refused, "{user}");
    }
}

/// Whoever does not exist cannot be told from who does by how long the answer takes: the work is the same.
#[test]
fn whoever_does_not_exist_costs_the_same_work() {
    let site = site();
    let cost = Cost { memory_kib: 128, passes: 3, ..site.options.cost };
    let secret = password::secret("right", cost, true).expect("made");
    let kept = |name: &str, secret: StoredSecret| {
        let created_at = Some(SystemTime::UNIX_EPOCH);
        StoredUser { name: name.to_owned(), secret, created_at, ..StoredUser::default() }
    };
    let work = |kept: StoredUser, text: &str, expected: &str| {
        let before = password::work();
        let came = checked(&site.queue, kept, &Password::new(text), cost);
        assert_eq!(came.map(|user| user.name).map_err(str::to_owned), Err(expected.to_owned()));
        password::work() - before
    };
    let known = work(kept("anna@one.example", secret.clone()), "wrong", "wrong-password");
    assert_eq!(known, 128 * 3);
    let disabled = StoredUser { disabled: true, ..kept("gone@one.example", secret) };
    assert_eq!(work(disabled, "right", "disabled"), known);
    assert_eq!(work(StoredUser::default(), "right", "unknown-user"), known);
    // One who has no password, and one whose hash would cost a gigabyte.
    assert_eq!(work(kept("cert@one.example", StoredSecret::default()), "x", "wrong-password"), known);
    let huge = "$argon2id$v=19$m=1000000,t=9,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA";
    let huge = StoredSecret { password: Some(huge.to_owned()), scram: None };
    assert_eq!(work(kept("huge@one.example", huge), "x", "unusable-hash"), known);
}

#[test]
fn an_imported_user_gets_all_keys_at_the_first_login() {
    let site = site();
    let kept = || site.queue.reader().user("old@one.example").expect("read").expect("there").secret;
    let keys =
        || smol::block_on(site.logins.keys(attempt("old@one.example", 1), &site.options)).expect("keys");
    let nobody = keys();
    let old = Outcome::LoggedIn("old@one.example".to_owned());
    assert_eq!(login(&site, "old@one.example", 1, "Hello world!"), old);
    // What was given to the writer before is written before.
    site.queue.change_user("old@one.example", UserChange::default()).expect("written");
    assert!(kept().password.is_some_and(|hash| hash.starts_with("$argon2id$")));
    assert_ne!(keys(), nobody);
    assert_eq!(login(&site, "old@one.example", 1, "Hello world!"), old);
}

#[test]
fn nobody_has_keys_too_and_always_the_same() {
    let site = site();
    let keys = |name| smol::block_on(site.logins.keys(attempt(name, 1), &site.options)).expect("keys");
    assert_eq!(keys("nobody@one.example"), keys("nobody@one.example"));
    assert_eq!(keys("nobody@one.example"), keys("NOBODY@one.example"));
    assert_ne!(keys("nobody@one.example").salt, keys("nobody@two.example").salt);
    let (real, none) = (keys("anna@one.example"), keys("nobody@one.example"));
    assert_eq!((real.salt.len(), real.iterations), (none.salt.len(), none.iterations));
    // And after a restart.
    let again = Logins::new(Users::default(), site.queue.clone(), 1).expect("logins");
    let after = smol::block_on(again.keys(attempt("nobody@one.example", 1), &site.options)).expect("keys");
    assert_eq!(after, none);
}

#[test]
fn a_proof_lets_in_only_whom_it_may() {
    let site = site();
    let proof = |user, proven| smol::block_on(site.logins.proof(attempt(user, 1), proven, &site.options));
    assert_eq!(proof("gone@one.example", true), Outcome::Refused);
    assert_eq!(proof("nobody@one.example", true), Outcome::Refused);
    assert_eq!(proof("anna@one.example", false), Outcome::Refused);
    assert_eq!(proof("anna@one.example", true), Outcome::LoggedIn("anna@one.example".to_owned()));
}

#[test]
fn a_certificate_is_its_owners_alone() {
    let site = site();
    let print = "ab".repeat(32);
    let grant = |user: &str, value: &str| StoredGrant {
        user: user.to_owned(),
        kind: GrantKind::Certificate,
        value: value.to_owned(),
    };
    site.queue.grant(grant("anna@one.example", &print)).expect("granted");
    site.queue.grant(grant("gone@one.example", &"cd".repeat(32))).expect("granted");
    site.logins.users().refresh(&site.queue.reader()).expect("read");
    let anna = Outcome::LoggedIn("anna@one.example".to_owned());
    for (host, (user, print, expected)) in (1..).zip([
        ("", Some("ab"), &anna),
        ("anna@one.example", Some("ab"), &anna),
        ("gone@one.example", Some("ab"), &Outcome::Refused),
        ("", Some("cd"), &Outcome::Refused),
        ("anna@one.example", Some("ef"), &Outcome::Refused),
        ("anna@one.example", None, &Outcome::Refused),
    ]) {
        let shown = print.map(|print| {
            let (fingerprint, chain) = (print.repeat(32), Vec::new());
            Arc::new(ClientCertificate { fingerprint, chain })
        });
        let came = smol::block_on(site.logins.certificate(attempt(user, host), shown, &site.options));
        assert_eq!(came, *expected, "{user} {print:?}");
    }
}

/// Security decision: whom a certificate lets in for which an authority vouches.
#[test]
fn a_certificate_of_an_own_authority_lets_in_the_user_it_names() {
    let mut site = site();
    let (ours, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, ours.pem()).expect("written");
    let anna = Outcome::LoggedIn("anna@one.example".to_owned());
    let of_anna = ours.issue_to(&["Anna@One.example"]);
    let login = |site: &Site, user: &str, host: u8, shown: &ClientCertificate| {
        let shown = Some(Arc::new(shown.clone()));
        smol::block_on(site.logins.certificate(attempt(user, host), shown, &site.options))
    };
    assert_eq!(login(&site, "", 1, &of_anna), Outcome::Refused, "no authority is trusted by default");
    site.options.client_ca_file = Some(file);
    let two = ours.issue_to(&["anna@one.example", "old@one.example"]);
    for (host, (user, shown, expected)) in (2..).zip([
        ("", &of_anna, &anna),
        ("anna@one.example", &of_anna, &anna),
        ("old@one.example", &of_anna, &Outcome::Refused),
        ("anna@one.example", &two, &anna),
        ("", &two, &Outcome::Refused),
        ("", &other.issue_to(&["anna@one.example"]), &Outcome::Refused),
        ("", &ours.issue_to(&["gone@one.example"]), &Outcome::Refused),
        ("", &ours.issue_to(&["nobody@one.example"]), &Outcome::Refused),
        ("", &ours.issue_to(&["not a name"]), &Outcome::Refused),
    ]) {
        assert_eq!(login(&site, user, host, shown), *expected, "{user} {host}");
    }
}

#[test]
fn after_too_many_failures_even_the_right_password_is_refused() {
    let mut site = site();
    site.options.guard.client_failures = 1;
    assert_eq!(login(&site, "anna@one.example", 1, "wrong"), Outcome::Refused);
    assert_eq!(login(&site, "anna@one.example", 1, "right"), Outcome::Blocked);
    assert!(site.logins.is_blocked(IpAddr::from([192, 0, 2, 1]), &site.options));
    let anna = Outcome::LoggedIn("anna@one.example".to_owned());
    assert_eq!(login(&site, "anna@one.example", 2, "right"), anna, "elsewhere it goes on");
}

#[test]
fn guesses_at_the_same_time_are_no_more_than_one_after_the_other() {
    let mut site = site();
    site.options.guard.client_failures = 3;
    let guess = || async {
        let password = Password::new("wrong");
        site.logins.password(attempt("anna@one.example", 1), &password, &site.options).await
    };
    let outcomes = smol::block_on(async {
        let executor = smol::LocalExecutor::new();
        let guesses: Vec<_> = (0..20).map(|_| executor.spawn(guess())).collect();
        let all = async {
            let mut outcomes = Vec::new();
            for guess in guesses {
                outcomes.push(guess.await);
            }
            outcomes
        };
        executor.run(all).await
    });
    let refused = outcomes.iter().filter(|outcome| **outcome == Outcome::Refused).count();
    // Two are checked at a time.
    assert!((3..=4).contains(&refused), "{outcomes:?}");
    assert!(outcomes.iter().all(|it| matches!(it, Outcome::Refused | Outcome::Blocked)), "{outcomes:?}");
    let proof = smol::block_on(site.logins.proof(attempt("anna@one.example", 1), true, &site.options));
    assert_eq!(proof, Outcome::Blocked, "an exchange that began before ends in nothing");
}

#[test]
fn whoever_is_not_here_may_be_known_outside() {
    let mut site = site();
    site.options.external =
        Some(External { socket: "/nonexistent/check.sock".into(), timeout: Duration::from_secs(1) });
    assert_eq!(login(&site, "ben@ldap.example", 1, "x"), Outcome::Unavailable, "nobody is let in blindly");
    assert_eq!(login(&site, "anna@one.example", 2, "wrong"), Outcome::Refused, "users here are asked here");
}

#[test]
fn no_answer_from_outside_lets_in_whoever_is_disabled_here() {
    use std::io::{BufRead, BufReader, Write};

    let mut site = site();
    let folder = tempfile::tempdir().expect("a directory");
    let socket = folder.path().join("check.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let answers = ["gone@one.example", "anna@one.example", "ben@ldap.example"];
    let asked = std::thread::spawn(move || {
        for name in answers {
            let (mut stream, _) = listener.accept().expect("a question");
            BufReader::new(&stream).read_line(&mut String::new()).expect("a line");
            writeln!(stream, "{{\"ok\":true,\"user\":\"{name}\"}}").expect("an answer");
        }
    });
    site.options.external = Some(External { socket, timeout: Duration::from_secs(10) });
    let came = answers.map(|_| login(&site, "ben@ldap.example", 1, "x"));
    let let_in = |name: &str| Outcome::LoggedIn(name.to_owned());
    assert_eq!(came, [Outcome::Refused, let_in("anna@one.example"), let_in("ben@ldap.example")]);
    asked.join().expect("three questions");
}

#[test]
fn whoever_is_known_outside_is_held_released_and_disabled_as_users_are() {
    use std::io::{BufRead, BufReader, Write};

    let mut site = site();
    let folder = tempfile::tempdir().expect("a directory");
    let socket = folder.path().join("check.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let outside = std::thread::spawn(move || {
        for answer in ["{\"ok\":true}", "{\"ok\":false}", "{\"ok\":true}"] {
            let (mut stream, _) = listener.accept().expect("a question");
            BufReader::new(&stream).read_line(&mut String::new()).expect("a line");
            writeln!(stream, "{answer}").expect("an answer");
        }
    });
    site.options.external = Some(External { socket, timeout: Duration::from_secs(10) });
    let ben = "ben@ldap.example";
    let queue = &site.queue;
    let service = Service::new(site.logins.users().clone(), queue, Default::default(), 2).expect("a service");
    let limits = Limits { brake_recipients: 1, ..Limits::default() };
    let count = || smol::block_on(service.count(ben, 5, &limits));
    assert!(count().is_some_and(|reason| reason.starts_with("user ben@ldap.example is held: 5 recipients")));
    let kept = || queue.reader().user(ben).expect("read").expect("he is known here from now on");
    assert!(kept().outside && kept().held.is_some() && !kept().mailbox);
    // Who he is is still known outside alone.
    assert_eq!(login(&site, ben, 1, "x"), Outcome::LoggedIn(ben.to_owned()));
    assert_eq!(login(&site, ben, 2, "x"), Outcome::Refused);
    // Released: what he sends is held no more.
    queue.change_user(ben, UserChange { held: Some(None), ..UserChange::default() }).expect("released");
    site.logins.users().refresh(&queue.reader()).expect("read");
    service.released(ben);
    assert_eq!(count(), None);
    // Disabled: the yes from outside does not count.
    queue.change_user(ben, UserChange { disabled: Some(true), ..UserChange::default() }).expect("disabled");
    assert_eq!(login(&site, ben, 3, "x"), Outcome::Refused);
    outside.join().expect("three questions");
    // With a password of his own he is a user like any other.
    let secret = Some(password::secret("own", site.options.cost, true).expect("made"));
    let change = UserChange { secret, disabled: Some(false), ..UserChange::default() };
    queue.change_user(ben, change).expect("changed");
    assert!(!kept().outside);
    assert_eq!(login(&site, ben, 4, "own"), Outcome::LoggedIn(ben.to_owned()));
}
