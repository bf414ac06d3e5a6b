//! Delivery through the delivery process and LMTP servers, which are the test's own.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mta_smtp::address::{Domain, Mailbox};

use super::*;
use crate::account::{Directory, DomainKind, LocalDomain, Rules};
use crate::delivery::process::protocol::{ALL_TAKEN, Answer, Request, receive, send};
use crate::outbound::Reach;

struct Content;

impl ContentSource for Content {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(&b"Subject: x\r\n\r\nhello\r\n"[..]))
    }
}

/// Who receives: users that every system has, and carol behind an LMTP server.
struct Place {
    folder: tempfile::TempDir,
    hands: Hands,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host =
            LocalDomain { kind: DomainKind::Local, maildir: "/unused".into(), ..LocalDomain::default() };
        let store = LocalDomain {
            mailboxes: HashSet::from(["carol".to_owned()]),
            lmtp: Some(LmtpAddress::Unix(folder.path().join("lmtp"))),
            ..LocalDomain::default()
        };
        let domains = [("host.example", host), ("store.example", store)];
        let domains: HashMap<_, _> =
            domains.into_iter().map(|(name, domain)| (Domain::parse(name).unwrap(), domain)).collect();
        let accounts = Accounts::new(domains, None)
            .with_rules(Rules { min_uid: 1, ..Rules::default() })
            .with_directory(Directory::default());
        let hands = Hands {
            accounts: Arc::new(accounts),
            hostname: "mx.example".into(),
            process: Process { socket: folder.path().join("deliver"), timeout: Duration::from_secs(60) },
            lmtp_limits: Limits::default(),
            alerts: Alerts::default(),
            turns: Turns::default(),
            deliveries: 4,
        };
        Self { folder, hands }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn deliver(&self, recipients: &[&str]) -> Vec<Outcome> {
        let recipients: Vec<Recipient> =
            recipients.iter().map(|text| Recipient::new(Mailbox::parse(text).unwrap())).collect();
        let job = LocalJob {
            queue_id: "abc",
            reverse_path: &ReversePath::Null,
            parameters: &MailParameters::default(),
            size_bytes: 21,
            accepted_at_unix: 1_700_000_000,
            recipients: &recipients,
            content: &Content,
        };
        deliver(&self.hands, &job).0.into_iter().map(|of| of.outcome).collect()
    }
}

/// A delivery process that gives each request this answer.
fn process(socket: &Path, answer: Answer) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            receive::<Request>(&mut stream).unwrap();
            send(&mut stream, &answer).unwrap();
        }
    });
}

/// A mail store that takes everything.
fn store(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Whoever goes away in the middle goes.
            let _ = converse(&stream.unwrap());
        }
    });
}

fn converse(mut stream: &UnixStream) -> io::Result<()> {
    stream.write_all(b"220 store\r\n")?;
    let mut in_data = false;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply = match (in_data, line.as_str(), verb.as_str()) {
            (true, ".", _) => "250 2.0.0 stored",
            (true, ..) => continue,
            (_, _, "DATA") => "354 go on",
            (_, _, "QUIT") => "221 bye",
            _ => "250 ok",
        };
        in_data = reply.starts_with("354");
        write!(stream, "{reply}\r\n")?;
    }
    Ok(())
}

fn status(outcome: &Outcome) -> String {
    outcome.status.to_string()
}

#[test]
fn a_forward_may_lead_to_a_mailbox_behind_lmtp() {
    let place = Place::new();
    process(&place.path("deliver"), Answer::Forward("carol@store.example".into()));
    store(&place.path("lmtp"));
    let done = place.deliver(&["daemon@host.example"]);
    assert_eq!((done[0].verdict, status(&done[0]).as_str()), (Verdict::Delivered, "2.0.0"), "{done:?}");
}

#[test]
fn a_delivery_process_that_is_away_ends_no_message_and_is_told() {
    let place = Place::new();
    let done = place.deliver(&["daemon@host.example"]);
    let of = (done[0].verdict, done[0].reach, status(&done[0]));
    assert_eq!(of, (Verdict::Deferred, Reach::Site, "4.3.0".to_owned()), "{done:?}");
    let open = place.hands.alerts.open();
    assert_eq!(
        (open.len(), open[0].kind, open[0].subject.as_str()),
        (1, alert::Kind::Local, "delivery process")
    );
    process(&place.path("deliver"), Answer::Delivered("there".into()));
    assert_eq!(place.deliver(&["daemon@host.example"])[0].verdict, Verdict::Delivered);
    assert_eq!(place.hands.alerts.open(), []);
}

#[test]
fn a_delivery_process_whose_places_are_all_taken_ends_no_message_and_is_told() {
    let place = Place::new();
    let socket = place.path("deliver");
    process(&socket, Answer::deferred(ALL_TAKEN, "all 3 places for deliveries are taken (anna:1,ben:2)"));
    let done = place.deliver(&["daemon@host.example"]);
    let of = (done[0].verdict, done[0].reach, status(&done[0]));
    assert_eq!(of, (Verdict::Deferred, Reach::Site, "4.3.2".to_owned()), "{done:?}");
    assert!(place.hands.alerts.is_open(alert::Kind::Local, "places for deliveries"));
    std::fs::remove_file(&socket).unwrap();
    process(&socket, Answer::Delivered("there".into()));
    assert_eq!(place.deliver(&["daemon@host.example"])[0].verdict, Verdict::Delivered);
    assert_eq!(place.hands.alerts.open(), []);
}

#[test]
fn a_mail_store_that_is_away_ends_no_message_and_is_told() {
    let place = Place::new();
    let done = place.deliver(&["carol@store.example"]);
    assert_eq!((done[0].verdict, done[0].reach), (Verdict::Deferred, Reach::Site), "{done:?}");
    let subject = format!("LMTP server {}", LmtpAddress::Unix(place.path("lmtp")));
    assert!(place.hands.alerts.is_open(alert::Kind::Local, &subject));
    store(&place.path("lmtp"));
    assert_eq!(place.deliver(&["carol@store.example"])[0].verdict, Verdict::Delivered);
    assert_eq!(place.hands.alerts.open(), []);
}

#[test]
fn a_mail_store_that_hangs_leaves_room_for_others() {
    let place = Place::new();
    let server = LmtpAddress::Unix(place.path("lmtp"));
    process(&place.path("deliver"), Answer::Delivered("there".into()));
    // Three of four deliveries are with it, and have been for long.
    let owner = format!("LMTP server {server}");
    let hanging: Vec<_> = (0..3).map(|_| place.hands.turns.hang(&owner)).collect();
    let done = place.deliver(&["carol@store.example", "daemon@host.example"]);
    assert_eq!((done[0].verdict, status(&done[0]).as_str()), (Verdict::Deferred, "4.3.2"), "{done:?}");
    assert_eq!(done[1].verdict, Verdict::Delivered, "{done:?}");
    let subject = format!("deliveries to {owner}");
    assert!(place.hands.alerts.is_open(alert::Kind::Local, &subject));
    let of = |outcome: &Outcome| RecipientOutcome {
        recipient: Recipient::new(Mailbox::parse("x@store.example").unwrap()),
        outcome: outcome.clone(),
    };
    assert!(is_put_off(&[of(&done[0]), of(&done[1])]), "it is no attempt");
    assert!(!is_put_off(&[of(&done[1])]));
    drop(hanging);
    store(&place.path("lmtp"));
    assert_eq!(place.deliver(&["carol@store.example"])[0].verdict, Verdict::Delivered);
    assert_eq!(place.hands.alerts.open(), []);
}

#[test]
fn a_user_whose_deliveries_hang_leaves_room_for_others() {
    let place = Place::new();
    process(&place.path("deliver"), Answer::Delivered("there".into()));
    let _hanging = place.hands.turns.hang("user daemon");
    let done = place.deliver(&["daemon@host.example", "bin@host.example"]);
    let verdicts: Vec<Verdict> = done.iter().map(|of| of.verdict).collect();
    assert_eq!(verdicts, [Verdict::Deferred, Verdict::Delivered], "{done:?}");
}
