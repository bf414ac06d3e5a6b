use std::collections::HashMap;
use std::io;

use mta_smtp::address::Domain;

use super::*;
use crate::account::alias::parse;
use crate::account::{Directory, DomainKind, LocalDomain, Rules};

struct Content;

impl ContentSource for Content {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(&b"Subject: x\r\n\r\nhello\r\n"[..]))
    }
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

/// Users that every system has receive at `host.example`, and whoever is wanted at `own.example`.
fn accounts(aliases: &[(&str, &str)], mailboxes: impl Iterator<Item = String>) -> Accounts {
    let directory = Directory::default();
    let read = |(name, to): &(&str, &str)| ((*name).to_owned(), parse::members(to).unwrap());
    directory.set_database(aliases.iter().map(read).collect());
    let own = LocalDomain {
        mailboxes: mailboxes.collect(),
        maildir: "/m/{mailbox}".into(),
        ..LocalDomain::default()
    };
    let host = LocalDomain { kind: DomainKind::Local, maildir: "/unused".into(), ..LocalDomain::default() };
    let domains = [("host.example", host), ("own.example", own)];
    let domains: HashMap<_, _> =
        domains.into_iter().map(|(name, domain)| (Domain::parse(name).unwrap(), domain)).collect();
    Accounts::new(domains, None)
        .with_rules(Rules { min_uid: 1, ..Rules::default() })
        .with_directory(directory)
}

/// What a place says to a message.
enum Says {
    Takes,
    Waits,
    Never,
    Forward(String),
}

/// Delivers to recipients in turn; their outcomes in one word each, the places that were asked, and what the queue keeps.
fn spread(
    accounts: &Accounts,
    handed: &[&str],
    recipients: &[&str],
    says: impl Fn(&str) -> Says,
) -> (Vec<String>, Vec<String>, LocalResult) {
    let mut spread = Spread::new(accounts, &Content, handed.iter().map(ToString::to_string).collect());
    let mut asked = Vec::new();
    let mut outcomes = Vec::new();
    for (index, recipient) in recipients.iter().enumerate() {
        let mut put = |target: &Target| {
            let key = target.key();
            asked.push(key.clone());
            let text = String::new();
            match says(&key) {
                Says::Takes => Placed::Outcome(outcome(Verdict::Delivered, (2, 0, 0), text)),
                Says::Waits => Placed::Outcome(outcome(Verdict::Deferred, (4, 2, 0), text)),
                Says::Never => Placed::Outcome(outcome(Verdict::Failed, (5, 2, 2), text)),
                Says::Forward(to) => {
                    let name = key.rsplit(['/', ':']).next().unwrap().to_owned();
                    let user = SystemUser { name, uid: 1, gid: 1, home: "/".into() };
                    let members = parse::members(&to).unwrap();
                    Placed::Forward { user, address: mailbox("x@own.example"), members }
                }
            }
        };
        let done = spread.recipient(index, &Recipient::new(mailbox(recipient)), &mut put);
        outcomes.push(done.status.to_string());
    }
    (outcomes, asked, spread.into_result())
}

#[test]
fn as_many_members_as_there_are_may_have_forwards() {
    let names: Vec<String> = (0..30).map(|n| format!("u{n}")).collect();
    let members = names.iter().map(|name| format!("{name}@own.example")).collect::<Vec<_>>().join(", ");
    let boxes = (0..30).map(|n| format!("box{n}"));
    let accounts = accounts(&[("all@own.example", &members)], names.iter().cloned().chain(boxes));
    let (outcomes, asked, _) =
        spread(&accounts, &[], &["all@own.example"], |key| match key.strip_prefix("maildir:/m/u") {
            Some(number) => Says::Forward(format!("box{number}@own.example")),
            None => Says::Takes,
        });
    assert_eq!(outcomes, ["2.0.0"]);
    assert_eq!(asked.iter().filter(|key| key.starts_with("maildir:/m/box")).count(), 30, "{asked:?}");
}

#[test]
fn forwards_that_lead_too_deep_hold_up_nobody_else() {
    let names = (0..100).map(|n| format!("u{n}"));
    let accounts =
        accounts(&[("all@own.example", "u0@own.example, u99@own.example, u98@own.example")], names);
    let (outcomes, asked, result) =
        spread(&accounts, &[], &["all@own.example"], |key| match key.strip_prefix("maildir:/m/u") {
            Some("99" | "98") => Says::Takes,
            number => Says::Forward(format!("u{}@own.example", number.unwrap().parse::<u32>().unwrap() + 1)),
        });
    assert_eq!(outcomes, ["5.4.6"]);
    assert_eq!(asked.len(), 2 + 1 + MAX_DEPTH, "{asked:?}");
    assert_eq!(result.handed, ["maildir:/m/u99", "maildir:/m/u98"]);
}

#[test]
fn a_list_of_lists_has_an_end() {
    let accounts = accounts(&[], (0..200).map(|n| format!("u{n}")));
    let list = |from: u32| (0..900).map(|n| format!("x{n}@far{from}.example")).collect::<Vec<_>>().join(",");
    let (outcomes, _, result) =
        spread(&accounts, &[], &["u0@own.example"], |key| match key.strip_prefix("maildir:/m/u") {
            Some(number) => {
                let next = number.parse::<u32>().unwrap() + 1;
                Says::Forward(format!("u{next}@own.example, {}", list(next)))
            }
            None => Says::Takes,
        });
    assert_eq!(outcomes, ["4.3.5"]);
    assert!(result.handed.len() <= MAX_PLACES);
}

#[test]
fn who_is_named_twice_gets_it_once_and_nobody_is_told_of_a_loop() {
    let accounts = accounts(&[("root@host.example", "daemon@host.example")], ["anna".to_owned()].into_iter());
    let recipients = ["daemon@host.example", "root@host.example", "daemon+x@host.example"];
    let (outcomes, asked, _) = spread(&accounts, &[], &recipients, |_| Says::Takes);
    assert_eq!(outcomes, ["2.0.0"; 3]);
    assert_eq!(asked, ["user:daemon"]);
    // An attempt before this one reached him for one of them.
    let (outcomes, asked, _) = spread(&accounts, &["user:daemon"], &recipients[1..], |_| Says::Takes);
    assert_eq!((outcomes, asked.len()), (vec!["2.0.0".to_owned(); 2], 0));
    // His mail goes elsewhere.
    let (outcomes, asked, _) = spread(&accounts, &[], &recipients, |key| match key {
        "user:daemon" => Says::Forward("anna@own.example".into()),
        _ => Says::Takes,
    });
    assert_eq!(outcomes, ["2.0.0"; 3]);
    assert_eq!(asked.iter().filter(|key| *key == "maildir:/m/anna").count(), 1, "{asked:?}");
}

#[test]
fn forwards_in_a_circle_are_told_to_each_recipient() {
    let accounts = accounts(&[("root@host.example", "daemon@host.example")], std::iter::empty());
    let (outcomes, _, result) =
        spread(&accounts, &[], &["daemon@host.example", "root@host.example"], |key| match key {
            "user:daemon" => Says::Forward("bin@host.example".into()),
            _ => Says::Forward("daemon@host.example".into()),
        });
    assert_eq!(outcomes, ["5.4.6"; 2]);
    assert!(result.handed.is_empty());
}

#[test]
fn a_place_that_refuses_is_asked_once_and_all_who_lead_there_share_its_answer() {
    let accounts = accounts(&[("root@host.example", "daemon@host.example")], ["anna".to_owned()].into_iter());
    let recipients = ["daemon@host.example", "root@host.example"];
    for (says, code) in [(false, "4.2.0"), (true, "5.2.2")] {
        let (outcomes, asked, _) = spread(&accounts, &[], &recipients, |key| match (key, says) {
            ("user:daemon", _) => Says::Forward("anna@own.example".into()),
            (_, false) => Says::Waits,
            (_, true) => Says::Never,
        });
        assert_eq!(outcomes, [code; 2]);
        assert_eq!(asked.iter().filter(|key| *key == "maildir:/m/anna").count(), 1, "{asked:?}");
    }
}

#[test]
fn what_has_it_is_kept_in_mind_whoever_else_waits() {
    let aliases = [("dup@own.example", "anna@own.example, ben@own.example, far@else.example")];
    let accounts = accounts(&aliases, ["anna", "ben"].map(str::to_owned).into_iter());
    let says = |key: &str| if key == "maildir:/m/ben" { Says::Waits } else { Says::Takes };
    let recipients = ["anna@own.example", "dup@own.example"];
    let (outcomes, _, result) = spread(&accounts, &[], &recipients, says);
    assert_eq!(outcomes, ["2.0.0", "4.2.0"]);
    assert_eq!(result.handed, ["maildir:/m/anna", "to:far@else.example"]);
    let handed: Vec<&str> = result.handed.iter().map(String::as_str).collect();
    let (outcomes, asked, result) = spread(&accounts, &handed, &recipients[1..], |_| Says::Takes);
    assert_eq!((outcomes, asked), (vec!["2.0.0".to_owned()], vec!["maildir:/m/ben".to_owned()]));
    assert!(result.forwards.is_empty());
    // A forward that is queued only later finds the places here that have it.
    let (outcomes, _, result) = spread(&accounts, &[], &recipients[1..], |_| Says::Takes);
    assert_eq!(outcomes, ["2.0.0"]);
    assert!(
        ["maildir:/m/anna", "maildir:/m/ben"].iter().all(|key| result.handed.iter().any(|kept| kept == key))
    );
}

#[test]
fn what_cannot_be_said_now_is_our_fault_and_ends_no_message() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aliases");
    std::fs::write(&path, "no colon\n").unwrap();
    let directory = Directory::default();
    directory.read_files(&[path]);
    let accounts = accounts(&[], std::iter::empty()).with_directory(directory);
    let mut spread = Spread::new(&accounts, &Content, Vec::new());
    let done = spread.recipient(0, &Recipient::new(mailbox("nobody-knows@host.example")), &mut |_| {
        panic!("there is no place")
    });
    assert_eq!(
        (done.verdict, done.reach, done.status.to_string().as_str()),
        (Verdict::Deferred, Reach::Site, "4.3.5")
    );
}

#[test]
fn only_the_header_section_tells_of_loops() {
    for (content, expected) in [
        (&b"Subject: x\r\nDelivered-To: anna@own.example\r\n\r\n"[..], true),
        (b"DELIVERED-TO:ANNA@own.example\n\n", true),
        (b"Subject: x\r\n\r\nDelivered-To: anna@own.example\r\n", false),
        (b"Delivered-To: ben@own.example\r\n\r\n", false),
        (b"X-Delivered-To: anna@own.example\r\n\r\n", false),
        (b"", false),
    ] {
        assert_eq!(names_delivered_to(content, "anna@own.example"), expected);
    }
}
