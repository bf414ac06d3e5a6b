use std::collections::HashMap;

use mta_smtp::address::Domain;
use proptest::prelude::*;

use super::*;
use crate::account::alias::parse;
use crate::account::{Directory, DomainKind, LocalDomain, Rules};

/// A system whose users are in the test's hand.
struct Fake;

impl Users for Fake {
    fn find(&self, name: &str) -> Result<Option<SystemUser>, String> {
        let uid = match name {
            "root" => 0,
            "daemon" => 1,
            "anna" => 1000,
            "ben" => 1001,
            "anna+list" => 1002,
            "silent" => return Err("the name service is silent".into()),
            _ => return Ok(None),
        };
        Ok(Some(SystemUser { name: name.into(), uid, gid: uid, home: format!("/home/{name}").into() }))
    }
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn accounts(file: &str, database: &[(&str, &str)]) -> Accounts {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aliases");
    std::fs::write(&path, file).unwrap();
    std::fs::write(folder.path().join("list"), "ben, far@else.example\n").unwrap();
    let directory = Directory::default();
    std::fs::write(&path, file.replace("DIR", &folder.path().display().to_string())).unwrap();
    directory.read_files(&[path]);
    let database = database.iter().map(|(name, to)| ((*name).to_owned(), parse::members(to).unwrap()));
    directory.set_database(database.collect());
    let domain = |text: &str| Domain::parse(text).unwrap();
    let virtual_domain = LocalDomain {
        mailboxes: ["carol", "dora", "dora+x"].map(str::to_owned).into(),
        maildir: "/m/{mailbox}".into(),
        ..LocalDomain::default()
    };
    let local = LocalDomain { kind: DomainKind::Local, maildir: "/unused".into(), ..LocalDomain::default() };
    let domains = HashMap::from([
        (domain("host.example"), local),
        (domain("own.example"), virtual_domain),
        (domain("old.example"), LocalDomain::default()),
    ]);
    let rules = Rules { root_maildir: "/m/root".into(), max_depth: 5, max_targets: 20, ..Rules::default() };
    Accounts::new(domains, None).with_rules(rules).with_directory(directory)
}

/// The places in one line; what leads nowhere behind an exclamation mark.
fn places(accounts: &Accounts, address: &str) -> String {
    let expansion = accounts.expand_with(&mailbox(address), &Fake);
    let mut parts: Vec<String> = expansion.targets.iter().map(Target::key).collect();
    parts.extend(
        expansion.dead.iter().map(|d| format!("!{}", if d.is_temporary { "later" } else { "never" })),
    );
    parts.join(" ")
}

#[test]
fn names_of_this_host() {
    let accounts = accounts(
        "postmaster: root\nteam: anna, ben, anna\nowner-team: ben\nlist: :include:DIR/list\nben: \\ben, far@else.example\n\
         self: self2\nself2: anna\nmix: carol@own.example, team@host.example, gone\nbroken: a b\npipe: |/bin/cat\n\
         file: /var/log/mail.copy\n",
        &[],
    );
    for (address, expected) in [
        ("anna@host.example", "user:anna"),
        ("ANNA@HOST.example", "user:anna"),
        ("anna+shop@host.example", "user:anna"),
        ("anna+list@host.example", "user:anna+list"),
        ("root@host.example", "maildir:/m/root"),
        ("daemon@host.example", "maildir:/m/root"),
        ("postmaster@host.example", "maildir:/m/root"),
        ("team@host.example", "user:anna mailbox:ben to:far@else.example"),
        ("list@host.example", "mailbox:ben to:far@else.example"),
        ("ben@host.example", "mailbox:ben to:far@else.example"),
        ("self@host.example", "user:anna"),
        ("mix@host.example", "maildir:/m/carol user:anna mailbox:ben to:far@else.example !never"),
        ("broken@host.example", "!later"),
        ("pipe@host.example", "!later"),
        ("file@host.example", "file:/var/log/mail.copy"),
        ("gone@host.example", "!never"),
        ("silent@host.example", "!later"),
        ("anna@own.example", "!never"),
    ] {
        assert_eq!(places(&accounts, address), expected, "{address}");
    }
    let expansion = accounts.expand_with(&mailbox("team@host.example"), &Fake);
    let owner = Some(mailbox("owner-team@host.example"));
    assert!(expansion.targets.iter().any(|t| matches!(t, Target::Remote { owner: o, .. } if *o == owner)));
}

#[test]
fn mail_for_names_that_nobody_could_read_waits() {
    let accounts = accounts(
        "root: anna\nteam: ben\nthis line has no colon\n",
        &[("@host.example", "anna@host.example")],
    );
    for (address, expected) in [
        ("anna@host.example", "user:anna"),
        ("anna+detail@host.example", "user:anna"),
        ("root@host.example", "user:anna"),
        ("team@host.example", "user:ben"),
        ("postmaster@host.example", "!later"),
        ("daemon@host.example", "!later"),
        ("gone@host.example", "!later"),
        ("gone@own.example", "!never"),
    ] {
        assert_eq!(places(&accounts, address), expected, "{address}");
    }
    for name in ["postmaster", "gone", "gone+detail", "daemon"] {
        let found = accounts.judge(&mailbox(&format!("{name}@host.example")), &Fake);
        let Recipient::Unclear(cause) = found else { panic!("{name}: {found:?}") };
        assert!(cause.contains("aliases:3: no colon behind the name"), "{cause}");
    }
    let dead = accounts.expand_with(&mailbox("gone@host.example"), &Fake).dead;
    assert!(dead.iter().all(|dead| dead.is_ours));
}

#[test]
fn addresses_of_the_database() {
    let accounts = accounts(
        "",
        &[
            ("info@own.example", "carol@own.example, x@else.example"),
            ("carol@own.example", "carol@own.example, copy@else.example"),
            ("dora@own.example", "new@else.example"),
            ("@own.example", "carol@own.example"),
            ("@old.example", "@own.example"),
            ("round@own.example", "round2@own.example"),
            ("round2@own.example", "round@own.example"),
            ("anna@host.example", "carol@own.example"),
        ],
    );
    for (address, expected) in [
        ("info@own.example", "maildir:/m/carol to:copy@else.example to:x@else.example"),
        ("carol@own.example", "maildir:/m/carol to:copy@else.example"),
        ("dora@own.example", "to:new@else.example"),
        ("dora+x@own.example", "maildir:/m/dora+x"),
        ("dora+y@own.example", "to:new@else.example"),
        ("anything@own.example", "maildir:/m/carol to:copy@else.example"),
        ("victim%else.example@own.example", "maildir:/m/carol to:copy@else.example"),
        ("dora@old.example", "to:new@else.example"),
        ("postmaster@own.example", "maildir:/m/postmaster"),
        ("round@own.example", "!later"),
        ("anna@host.example", "maildir:/m/carol to:copy@else.example"),
        ("x@foreign.example", "to:x@foreign.example"),
    ] {
        assert_eq!(places(&accounts, address), expected, "{address}");
    }
}

#[test]
fn depth_and_number_are_bounded() {
    let chain: String = (0..9).map(|n| format!("a{n}: a{}\n", n + 1)).collect::<String>() + "a9: anna\n";
    let many: Vec<String> = (0..50).map(|n| format!("x{n}@else.example")).collect();
    let accounts = accounts(&format!("{chain}many: {}\n", many.join(", ")), &[]);
    assert_eq!(places(&accounts, "a0@host.example"), "!later");
    assert_eq!(places(&accounts, "a6@host.example"), "user:anna");
    let expansion = accounts.expand_with(&mailbox("many@host.example"), &Fake);
    assert_eq!((expansion.targets.len(), expansion.dead.len()), (20, 1));
}

#[test]
fn an_included_file_is_followed_once() {
    let folder = tempfile::tempdir().unwrap();
    let (list, aliases) = (folder.path().join("list"), folder.path().join("aliases"));
    let itself = format!(":include:{}\n", list.display()).repeat(60);
    std::fs::write(&list, format!("{itself}far@else.example\n")).unwrap();
    std::fs::write(&aliases, format!("list: :include:{}\n", list.display())).unwrap();
    let accounts = accounts("", &[]);
    accounts.directory.read_files(&[aliases]);
    // Each of sixty followed five deep would be 777 million.
    assert_eq!(places(&accounts, "list@host.example"), "to:far@else.example");
}

#[test]
fn a_forward_leads_where_its_owner_says() {
    let accounts = accounts("team: anna, ben\n", &[]);
    let anna = Fake.find("anna").unwrap().unwrap();
    for (text, expected) in [
        ("\\anna, far@else.example", "mailbox:anna to:far@else.example"),
        ("anna", "mailbox:anna"),
        ("anna@host.example", "mailbox:anna"),
        ("ben", "user:ben"),
        ("/home/anna/box", "file:/home/anna/box"),
        ("|/bin/sh", "!later"),
        (":include:/etc/passwd", "!later"),
        ("team", "user:anna user:ben"),
    ] {
        let members = parse::members(text).unwrap();
        let expansion = accounts.follow_with(&anna, &mailbox("anna@host.example"), &members, &Fake);
        let mut parts: Vec<String> = expansion.targets.iter().map(Target::key).collect();
        parts.extend(
            expansion.dead.iter().map(|d| format!("!{}", if d.is_temporary { "later" } else { "never" })),
        );
        assert_eq!(parts.join(" "), expected, "{text}");
    }
}

proptest! {
    /// Whatever the aliases: it ends, within the bounds, and nobody is named twice.
    #[test]
    fn every_expansion_ends(edges in prop::collection::vec((0usize..8, 0usize..10), 0..40), from in 0usize..8) {
        let mut map: HashMap<String, Vec<String>> = HashMap::new();
        for (a, b) in edges {
            let to = if b < 8 { format!("n{b}@own.example") } else { format!("n{b}@else.example") };
            map.entry(format!("n{a}@own.example")).or_default().push(to);
        }
        let list: Vec<(String, String)> = map.into_iter().map(|(k, v)| (k, v.join(","))).collect();
        let list: Vec<(&str, &str)> = list.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let accounts = accounts("", &list);
        let expansion = accounts.expand_with(&mailbox(&format!("n{from}@own.example")), &Fake);
        let mut keys: Vec<String> = expansion.targets.iter().map(Target::key).collect();
        let count = keys.len();
        keys.sort();
        keys.dedup();
        prop_assert_eq!(keys.len(), count);
        prop_assert!(count <= 20);
    }
}

#[test]
fn files_are_never_looked_at_unannounced() {
    let directory = Directory::default();
    let domain = Domain::parse("own.example").unwrap();
    let own = LocalDomain { mailboxes: ["carol".to_owned()].into(), ..LocalDomain::default() };
    let accounts = |own: &LocalDomain| {
        let domains = HashMap::from([(domain.clone(), own.clone())]);
        Accounts::new(domains, None).with_directory(directory.clone())
    };
    let carol = mailbox("carol@own.example");
    assert!(!accounts(&own).may_block(&carol), "nothing but the configuration is asked");
    assert!(accounts(&LocalDomain { quota: Some(1), ..own.clone() }).may_block(&carol));
    directory.users().replace(crate::user::Roster::with("anna@own.example", &[]));
    assert!(accounts(&own).may_block(&mailbox("anna@own.example")), "she may have a quota of her own");
    assert!(!accounts(&own).may_block(&mailbox("anna@else.example")));
}
