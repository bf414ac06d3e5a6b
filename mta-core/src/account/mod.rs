//! Who receives here: our own domains and their mailboxes.
//!
//! What it does: answers one question, "what is this address to us?", for the RCPT policy and for local delivery, so
//! that the two can never disagree. What it does not: aliases, forwards and users with passwords, which come on top.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use mta_dane::reference::{a_labels, text};
use mta_smtp::address::{Domain, Host, Mailbox};

/// The mailbox that every domain has, whether listed or not (RFC 5321 4.5.1).
const POSTMASTER: &str = "postmaster";

/// What an address is to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// A mailbox of ours: its Maildir.
    Maildir(PathBuf),
    /// Our domain, but nobody of that name.
    Unknown,
    /// Not our domain.
    Foreign,
}

/// A domain of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalDomain {
    /// The local-parts that receive, lower case. Upper and lower case are the same mailbox.
    pub mailboxes: HashSet<String>,
    /// Where a mailbox lies; `{domain}` and `{mailbox}` stand for its parts.
    pub maildir: String,
}

/// All domains of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    domains: HashMap<Domain, LocalDomain>,
    /// Where mail to a postmaster goes who is no listed mailbox.
    postmaster: Option<Mailbox>,
}

impl Accounts {
    /// The accounts of these domains. `postmaster` receives what is sent to the postmaster of a domain that lists
    /// none; where it is not a mailbox of ours, the domain's own Maildir `postmaster` receives it.
    pub fn new(domains: HashMap<Domain, LocalDomain>, postmaster: Option<Mailbox>) -> Self {
        Self { domains, postmaster }
    }

    /// True where this is a domain of ours.
    pub fn is_local(&self, domain: &Domain) -> bool {
        self.known(domain).is_some()
    }

    /// Our domains, in no order.
    pub fn domains(&self) -> impl Iterator<Item = &Domain> {
        self.domains.keys()
    }

    /// What `mailbox` is to us.
    pub fn recipient(&self, mailbox: &Mailbox) -> Recipient {
        let Host::Domain(domain) = mailbox.host() else { return Recipient::Foreign };
        let Some((domain, local)) = self.known(domain) else { return Recipient::Foreign };
        let local_part = mailbox.local_part().to_lowercase();
        if local.mailboxes.contains(&local_part) {
            return Recipient::Maildir(local.maildir(domain, &local_part));
        }
        if local_part == POSTMASTER {
            return Recipient::Maildir(self.postmaster_of(domain, local));
        }
        Recipient::Unknown
    }

    /// One of our domains, by its A-labels or its U-labels (RFC 6531); the configuration knows the former.
    fn known(&self, domain: &Domain) -> Option<(&Domain, &LocalDomain)> {
        if domain.is_ascii() {
            return self.domains.get_key_value(domain);
        }
        let name = a_labels(domain.as_str()).ok()?;
        self.domains.get_key_value(&Domain::parse(&text(&name)).ok()?)
    }

    fn postmaster_of(&self, domain: &Domain, local: &LocalDomain) -> PathBuf {
        let listed = self.postmaster.as_ref().and_then(|mailbox| {
            let Host::Domain(home) = mailbox.host() else { return None };
            let home_domain = self.domains.get(home)?;
            let local_part = mailbox.local_part().to_lowercase();
            home_domain.mailboxes.contains(&local_part).then(|| home_domain.maildir(home, &local_part))
        });
        listed.unwrap_or_else(|| local.maildir(domain, POSTMASTER))
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
