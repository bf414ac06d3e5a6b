//! What one address is to us, before any alias is followed.
//!
//! The order is the same for every kind of domain: the address itself comes before the address without its detail
//! (`anna+shop` before `anna`), an alias before a mailbox, the catch-all last. The local-part is compared as a whole and
//! never taken apart otherwise: `victim%other@ours` is a name like any other.

use mta_smtp::address::{Domain, Host, Mailbox};

use super::alias::Member;
use super::directory::Snapshot;
use super::system::{SystemUser, Users};
use super::{Accounts, DomainKind, LocalDomain, POSTMASTER, RelayRecipients, Target, Unasked};

/// What an address is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Mail for it is put here.
    Here(Target),
    /// It stands for others.
    Alias(Aliased),
    /// Handed on to its next hop, as it is.
    Relayed,
    /// The same, where the next hop says that there is such an address.
    Verified(Unasked),
    /// It cannot be said now.
    Unclear(String),
    /// Our domain, but nobody of that name.
    Unknown,
    /// Not our domain.
    Foreign,
}

/// An alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aliased {
    /// Its members.
    pub(super) members: Vec<Member>,
    /// What it is called, in the one spelling that tells loops.
    pub(super) key: String,
    /// The local-part that was asked for, for members that keep it.
    pub(super) local_part: String,
    /// Who is told of failures in place of the sender, where there is such an address (`owner-NAME`).
    pub(super) owner: Option<Mailbox>,
}

/// Names that are followed now: an alias that is a member of itself means its mailbox.
pub(super) fn key(local_part: &str, domain: &Domain) -> String {
    format!("{}@{domain}", local_part.to_lowercase())
}

impl Accounts {
    /// What `mailbox` is. `within` is the alias whose member it is.
    pub(super) fn find(
        &self,
        mailbox: &Mailbox,
        within: Option<&str>,
        snapshot: &Snapshot,
        users: &dyn Users,
    ) -> Found {
        let Host::Domain(domain) = mailbox.host() else { return Found::Foreign };
        let Some((domain, known)) = self.known(domain) else { return Found::Foreign };
        let look = Look { accounts: self, domain, known, within, snapshot, users };
        if let DomainKind::Relay(recipients) = known.kind {
            return look.relayed(mailbox.local_part(), recipients);
        }
        look.found(&mailbox.local_part().to_lowercase())
    }

    /// The user of this name who has a mailbox.
    pub(super) fn has_mailbox(&self, user: &SystemUser) -> bool {
        user.uid != 0 && (user.uid >= self.rules.min_uid || self.rules.allowed_users.contains(&user.name))
    }
}

/// One look-up.
struct Look<'a> {
    accounts: &'a Accounts,
    domain: &'a Domain,
    known: &'a LocalDomain,
    within: Option<&'a str>,
    snapshot: &'a Snapshot,
    users: &'a dyn Users,
}

impl Look<'_> {
    fn relayed(&self, local_part: &str, recipients: RelayRecipients) -> Found {
        let lower = local_part.to_lowercase();
        let listed = || {
            self.known.mailboxes.contains(&lower)
                || self.base(&lower).is_some_and(|base| self.known.mailboxes.contains(base))
        };
        match recipients {
            RelayRecipients::Any => Found::Relayed,
            // RFC 5321 4.5.1: every domain has a postmaster, and the next hop knows him.
            RelayRecipients::Listed | RelayRecipients::Verified(_) if lower == POSTMASTER || listed() => {
                Found::Relayed
            }
            RelayRecipients::Listed => Found::Unknown,
            RelayRecipients::Verified(unasked) => Found::Verified(unasked),
        }
    }

    fn found(&self, name: &str) -> Found {
        let whole = self.exact(name, name);
        let base = || self.base(name).and_then(|base| self.exact(base, name));
        let postmaster = || (name == POSTMASTER).then(|| self.postmaster());
        let known = whole.or_else(base).or_else(|| self.doubt());
        known.or_else(postmaster).or_else(|| self.catch_all(name)).unwrap_or(Found::Unknown)
    }

    /// A name of this host that is not known may stand in what could not be read: mail for it waits and is not refused.
    fn doubt(&self) -> Option<Found> {
        let of_files = self.known.kind == DomainKind::Local;
        let error = self.snapshot.file.doubts().first().filter(|_| of_files)?;
        Some(Found::Unclear(format!("{error}; until that is mended nobody can say who is an alias")))
    }

    /// The name without its detail.
    fn base<'n>(&self, name: &'n str) -> Option<&'n str> {
        let (base, _) = name.split_once(self.accounts.rules.delimiter?)?;
        (!base.is_empty()).then_some(base)
    }

    /// The alias or mailbox of exactly this name.
    fn exact(&self, name: &str, asked: &str) -> Option<Found> {
        let key = key(name, self.domain);
        // An alias that is its own member means the mailbox.
        if self.within != Some(key.as_str()) {
            if let Some(members) = self.snapshot.database.get(&key) {
                return Some(self.alias(members.clone(), key, asked, None));
            }
            if self.known.kind == DomainKind::Local
                && let Some(entry) = self.snapshot.file.get(name)
            {
                let owner = self.owner(name);
                return Some(match &entry.members {
                    Ok(members) => self.alias(members.clone(), key, asked, owner),
                    Err(cause) => {
                        let at = format!("{}:{}", entry.place.file.display(), entry.place.line);
                        Found::Unclear(format!("the alias {name} ({at}) is broken: {cause}"))
                    }
                });
            }
        }
        match self.known.kind {
            DomainKind::Local => self.user(name).or_else(|| self.mailbox(name)),
            _ => self.mailbox(name),
        }
    }

    /// The mailbox of the configuration, or of a user who logs in, of this name.
    fn mailbox(&self, name: &str) -> Option<Found> {
        let users = self.accounts.directory.users().now();
        let user = users.mailbox(name, self.domain.as_str());
        (self.known.mailboxes.contains(name) || user.is_some()).then(|| {
            let address = self.address(name);
            Found::Here(match &self.known.lmtp {
                Some(server) => Target::Lmtp { server: server.clone(), address },
                None => {
                    let quota = user.and_then(|user| user.quota).or(self.known.quota);
                    Target::Maildir { path: self.known.maildir(self.domain, name), address, quota }
                }
            })
        })
    }

    fn alias(&self, members: Vec<Member>, key: String, asked: &str, owner: Option<Mailbox>) -> Found {
        Found::Alias(Aliased { members, key, local_part: asked.to_owned(), owner })
    }

    /// `owner-NAME`, where that is an alias.
    fn owner(&self, name: &str) -> Option<Mailbox> {
        let owner = format!("owner-{name}");
        self.snapshot.file.get(&owner).and_then(|_| Mailbox::new(&owner, self.domain.clone()).ok())
    }

    /// The mailbox of a user of the system.
    fn user(&self, name: &str) -> Option<Found> {
        let user = match self.users.find(name) {
            Ok(found) => found?,
            Err(error) => return Some(Found::Unclear(error)),
        };
        let address = self.address(&user.name);
        if self.accounts.has_mailbox(&user) {
            return Some(Found::Here(Target::System { user, address, forward: true }));
        }
        // Whose mail somebody else reads, as a rule: who, may stand in what could not be read.
        if self.within != Some(key(name, self.domain).as_str())
            && let Some(doubt) = self.doubt()
        {
            return Some(doubt);
        }
        if user.uid == 0 || self.within == Some(key("root", self.domain).as_str()) {
            let path = self.accounts.rules.root_maildir.clone();
            return Some(Found::Here(Target::Maildir { path, address, quota: None }));
        }
        // A user of the system itself: whoever has root's mail reads his.
        let key = key(name, self.domain);
        Some(self.alias(vec![Member::Name("root".to_owned())], key, name, None))
    }

    fn postmaster(&self) -> Found {
        if self.known.kind == DomainKind::Local {
            let members = vec![match &self.accounts.postmaster {
                Some(mailbox) if mailbox.domain() != Some(self.domain) => Member::Address(mailbox.clone()),
                _ => Member::Name("root".to_owned()),
            }];
            return self.alias(members, key(POSTMASTER, self.domain), POSTMASTER, None);
        }
        let (path, address) = self.accounts.postmaster_of(self.domain, self.known);
        Found::Here(Target::Maildir { path, address, quota: self.known.quota })
    }

    /// What the domain as a whole stands for.
    fn catch_all(&self, name: &str) -> Option<Found> {
        let key = format!("@{}", self.domain);
        if self.within == Some(key.as_str()) {
            return None;
        }
        let members = self.snapshot.database.get(&key)?;
        Some(self.alias(members.clone(), key, name, None))
    }

    fn address(&self, name: &str) -> Mailbox {
        Mailbox::new(name, self.domain.clone()).unwrap_or_else(|_| Mailbox::postmaster(self.domain.clone()))
    }
}
