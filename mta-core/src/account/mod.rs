//! Who receives here: our own domains, their mailboxes, aliases and the system's users.
//!
//! What it does: answers one question, "what is this address to us?", for the RCPT policy, for local delivery and for
//! `explain`, so that these can never disagree. `lookup` finds what one address is, [`expand`] follows aliases to the
//! end, [`directory`] holds what changes while the server runs, [`alias`] reads alias files, [`system`] asks the system.
//! What it does not: logins (`user`); delivery.

pub mod alias;
pub mod directory;
pub mod expand;
mod lookup;
pub mod system;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use mta_dane::reference::{a_labels, text};
use mta_smtp::address::{Domain, Host, Mailbox};

pub use self::directory::Directory;
pub use self::expand::{Expansion, Target};
use self::system::Passwd;
use crate::config::LmtpAddress;
use crate::delivery::quota;

/// The mailbox that every domain has, whether listed or not (RFC 5321 4.5.1).
const POSTMASTER: &str = "postmaster";

/// What an address is to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// A mailbox of ours: its Maildir.
    Maildir(PathBuf),
    /// A mailbox of ours behind an LMTP server.
    Lmtp(LmtpAddress),
    /// The mailbox of a user of the system.
    System(String),
    /// Whom this alias stands for, in words.
    Alias(Vec<String>),
    /// A domain whose mail we take for another host.
    Relayed,
    /// The same, and that host is asked whether there is such an address; what follows where it cannot be asked.
    Verified(Unasked),
    /// It cannot be said now; why.
    Unclear(String),
    /// Our domain, but nobody of that name.
    Unknown,
    /// Not our domain.
    Foreign,
}

impl Recipient {
    /// Whether mail for it is taken from anybody, as far as is known here.
    pub fn is_taken(&self) -> bool {
        match self {
            Self::Maildir(_) | Self::Lmtp(_) | Self::System(_) | Self::Alias(_) | Self::Relayed => true,
            Self::Verified(_) | Self::Unclear(_) | Self::Unknown | Self::Foreign => false,
        }
    }
}

/// Whether a message fits into a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// It does.
    Enough,
    /// It will when its owner makes room.
    NotNow,
    /// It is larger than the mailbox may ever be.
    Never,
}

/// What kind of domain it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DomainKind {
    /// Mailboxes of the configuration and the database.
    #[default]
    Virtual,
    /// The users of this system, and the aliases of files.
    Local,
    /// Mail is taken and handed on.
    Relay(RelayRecipients),
}

/// Which recipients of a relayed domain are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelayRecipients {
    /// Those that are listed.
    #[default]
    Listed,
    /// All: the next hop says which of them exist, and what it refuses is returned to its sender.
    Any,
    /// Those that are listed, and those that the next hop takes when it is asked before.
    Verified(Unasked),
}

/// What follows where the next hop of a relayed domain cannot be asked whether an address exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unasked {
    /// Mail for it is taken, and waits for the next hop.
    #[default]
    Accept,
    /// The client is told to come again.
    Defer,
}

/// A domain of ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalDomain {
    /// Where its recipients come from.
    pub kind: DomainKind,
    /// The local-parts that receive, lower case. Upper and lower case are the same mailbox.
    pub mailboxes: HashSet<String>,
    /// Where a mailbox lies; `{domain}` and `{mailbox}` stand for its parts.
    pub maildir: String,
    /// Octets that each mailbox may hold.
    pub quota: Option<u64>,
    /// Who takes the mail of its mailboxes in place of Maildirs.
    pub lmtp: Option<LmtpAddress>,
}

/// What holds for all domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// What stands between a name and its detail, `anna+shop`; nothing: no sub-addresses.
    pub delimiter: Option<char>,
    /// Users of the system with a smaller number have no mailbox of their own: what they get goes to root's.
    pub min_uid: u32,
    /// Users who have one all the same.
    pub allowed_users: HashSet<String>,
    /// The Maildir of root's mail where no alias says whose it is: nothing is delivered as root.
    pub root_maildir: PathBuf,
    /// The user as whom the files and commands of alias files are opened and run.
    pub alias_user: String,
    /// Whether commands are run.
    pub allow_pipes: bool,
    /// Targets of one address, at most.
    pub max_targets: usize,
    /// How deep aliases lead to aliases.
    pub max_depth: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            delimiter: Some('+'),
            min_uid: 1000,
            allowed_users: HashSet::new(),
            root_maildir: PathBuf::from("/var/lib/mta/mail/root"),
            alias_user: "nobody".into(),
            allow_pipes: false,
            max_targets: 1000,
            max_depth: 10,
        }
    }
}

/// All domains of ours.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    domains: HashMap<Domain, LocalDomain>,
    /// Where mail to a postmaster goes who is no listed mailbox.
    postmaster: Option<Mailbox>,
    rules: Rules,
    directory: Directory,
}

impl Accounts {
    /// The accounts of these domains. `postmaster` receives what is sent to the postmaster of a domain that lists
    /// none; where it is not a mailbox of ours, the domain's own Maildir `postmaster` receives it.
    pub fn new(domains: HashMap<Domain, LocalDomain>, postmaster: Option<Mailbox>) -> Self {
        Self { domains, postmaster, ..Self::default() }
    }

    /// The same accounts under other rules.
    #[must_use]
    pub fn with_rules(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// The same accounts with these aliases.
    #[must_use]
    pub fn with_directory(self, directory: Directory) -> Self {
        Self { directory, ..self }
    }

    /// True where mail for this domain is delivered here.
    pub fn is_local(&self, domain: &Domain) -> bool {
        self.known(domain).is_some_and(|(_, known)| !matches!(known.kind, DomainKind::Relay(_)))
    }

    /// The domains delivered here, in no order.
    pub fn domains(&self) -> impl Iterator<Item = &Domain> {
        let here = self.domains.iter().filter(|(_, known)| !matches!(known.kind, DomainKind::Relay(_)));
        here.map(|(domain, _)| domain)
    }

    /// Whether to find out what `mailbox` is may take a while: files are looked at, or the system's users.
    pub fn may_block(&self, mailbox: &Mailbox) -> bool {
        let Some((_, domain)) = mailbox.domain().and_then(|domain| self.known(domain)) else { return false };
        // A user of the database may have a quota of his own, which is read from his mailbox.
        domain.kind == DomainKind::Local
            || domain.quota.is_some()
            || !self.directory.users().now().is_empty()
            || !self.directory.snapshot().is_empty()
    }

    /// What `mailbox` is to us, aliases followed to the end. May block ([`Accounts::may_block`]).
    pub fn recipient(&self, mailbox: &Mailbox) -> Recipient {
        self.directory.refresh();
        self.judge(mailbox, &Passwd)
    }

    /// Whether a message of so many octets, 0 where that is not known, fits into what `mailbox` leads to. May block. One place
    /// with room is enough, and a place that cannot be looked at has room: delivery tells.
    pub fn room(&self, mailbox: &Mailbox, size_octets: u64) -> Room {
        let room = |target: &Target| match target {
            Target::Maildir { quota: Some(quota), .. } if size_octets > *quota => Room::Never,
            Target::Maildir { path, quota: Some(quota), .. } => match quota::used(path, *quota) {
                Ok(used) if used >= *quota || used.saturating_add(size_octets) > *quota => Room::NotNow,
                _ => Room::Enough,
            },
            _ => Room::Enough,
        };
        self.expand(mailbox).targets.iter().map(room).min().unwrap_or(Room::Enough)
    }

    /// What an address is to us, as a person writes it; nothing where it is no address. May block.
    pub fn recipient_of(&self, address: &str) -> Option<Recipient> {
        Mailbox::parse(address).ok().map(|mailbox| self.recipient(&mailbox))
    }

    /// Whether mail for the domain of an address, or of `@domain`, is delivered here.
    pub fn is_own(&self, address: &str) -> bool {
        let domain = address.rsplit_once('@').and_then(|(_, domain)| Domain::parse(domain).ok());
        domain.is_some_and(|domain| self.is_local(&domain))
    }

    /// One of our domains, by its A-labels or its U-labels (RFC 6531); the configuration knows the former.
    fn known(&self, domain: &Domain) -> Option<(&Domain, &LocalDomain)> {
        if domain.is_ascii() {
            return self.domains.get_key_value(domain);
        }
        let name = a_labels(domain.as_str()).ok()?;
        self.domains.get_key_value(&Domain::parse(&text(&name)).ok()?)
    }

    fn postmaster_of(&self, domain: &Domain, local: &LocalDomain) -> (PathBuf, Mailbox) {
        let listed = self.postmaster.as_ref().and_then(|mailbox| {
            let Host::Domain(home) = mailbox.host() else { return None };
            let home_domain = self.domains.get(home).filter(|known| known.kind == DomainKind::Virtual)?;
            let local_part = mailbox.local_part().to_lowercase();
            let path = home_domain
                .mailboxes
                .contains(&local_part)
                .then(|| home_domain.maildir(home, &local_part))?;
            Some((path, mailbox.clone()))
        });
        listed.unwrap_or_else(|| (local.maildir(domain, POSTMASTER), Mailbox::postmaster(domain.clone())))
    }
}

impl LocalDomain {
    fn maildir(&self, domain: &Domain, local_part: &str) -> PathBuf {
        let path = self.maildir.replace("{domain}", &file_name(domain.as_str()));
        PathBuf::from(path.replace("{mailbox}", &file_name(local_part)))
    }
}

/// An address part as a name in a folder: nothing in it can leave the folder or hide.
fn file_name(part: &str) -> String {
    let mut name = String::with_capacity(part.len());
    for (index, c) in part.chars().enumerate() {
        let plain = c.is_alphanumeric() || matches!(c, '-' | '_' | '+' | '=') || (c == '.' && index > 0);
        if plain {
            name.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                name.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    name
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_domain_is_ours_in_both_its_spellings() {
        let local = LocalDomain {
            mailboxes: HashSet::from(["a".to_owned()]),
            maildir: "/m/{domain}/{mailbox}".into(),
            ..LocalDomain::default()
        };
        let domains = HashMap::from([(Domain::parse("xn--bcher-kva.example").unwrap(), local)]);
        let accounts = Accounts::new(domains, None);
        for name in ["xn--bcher-kva.example", "b\u{fc}cher.example", "B\u{dc}CHER.example"] {
            let mailbox = Mailbox::parse(&format!("a@{name}")).unwrap();
            let expected = Recipient::Maildir("/m/xn--bcher-kva.example/a".into());
            assert_eq!(accounts.recipient(&mailbox), expected, "{name}");
            assert!(accounts.is_local(mailbox.domain().unwrap()));
        }
        let other = Mailbox::parse("a@m\u{fc}cher.example").unwrap();
        assert_eq!(accounts.recipient(&other), Recipient::Foreign);
    }

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    fn accounts(postmaster: Option<&str>) -> Accounts {
        let domain = |mailboxes: &[&str]| LocalDomain {
            mailboxes: mailboxes.iter().map(ToString::to_string).collect(),
            maildir: "/mail/{domain}/{mailbox}".into(),
            ..LocalDomain::default()
        };
        let domains =
            [("one.example", domain(&["anna", "o'neil"])), ("two.example", domain(&["postmaster"]))]
                .map(|(name, domain)| (Domain::parse(name).unwrap(), domain));
        Accounts::new(HashMap::from(domains), postmaster.map(mailbox))
    }

    #[test]
    fn an_address_is_ours_unknown_or_foreign() {
        for (address, expected) in [
            ("anna@one.example", Recipient::Maildir("/mail/one.example/anna".into())),
            ("ANNA@ONE.example", Recipient::Maildir("/mail/one.example/anna".into())),
            ("o'neil@one.example", Recipient::Maildir("/mail/one.example/o%27neil".into())),
            ("ben@one.example", Recipient::Unknown),
            ("anna@two.example", Recipient::Unknown),
            ("anna@sub.one.example", Recipient::Foreign),
            ("anna@xone.example", Recipient::Foreign),
            ("anna@one.example.evil.example", Recipient::Foreign),
            ("anna@[127.0.0.1]", Recipient::Foreign),
        ] {
            assert_eq!(accounts(None).recipient(&mailbox(address)), expected, "{address}");
        }
    }

    #[test]
    fn a_postmaster_is_always_there() {
        for (configured, address, expected) in [
            (None, "PostMaster@one.example", "/mail/one.example/postmaster"),
            (None, "postmaster@two.example", "/mail/two.example/postmaster"),
            (Some("anna@one.example"), "postmaster@one.example", "/mail/one.example/anna"),
            (Some("anna@one.example"), "postmaster@two.example", "/mail/two.example/postmaster"),
            (Some("admin@elsewhere.example"), "postmaster@one.example", "/mail/one.example/postmaster"),
        ] {
            let found = accounts(configured).recipient(&mailbox(address));
            assert_eq!(found, Recipient::Maildir(expected.into()), "{configured:?} {address}");
        }
    }

    #[test]
    fn a_name_stays_in_its_folder() {
        assert_eq!(file_name("../a/b"), "%2E.%2Fa%2Fb");
        assert_eq!(file_name("a\0b"), "a%00b");
    }
}
