//! From an address to all places its mail goes: aliases followed to the end.
//!
//! Each place is named once, however many ways lead to it. Depth and number are bounded; what leads in a circle is a
//! problem of the configuration, so mail for it waits and is never lost. What it does not: `.forward` files, which are
//! read at delivery, as their owner; [`Accounts::follow`] takes what they list from there.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use mta_smtp::address::{Domain, Mailbox};

use super::alias::Member;
use super::directory::Snapshot;
use super::lookup::{Aliased, Found, key};
use super::system::{Passwd, SystemUser, Users};
use super::{Accounts, Recipient};
use crate::config::LmtpAddress;

/// A place where mail goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A Maildir that we write ourselves.
    Maildir {
        /// Where it lies.
        path: PathBuf,
        /// Whose it is.
        address: Mailbox,
        /// Octets that it may hold.
        quota: Option<u64>,
    },
    /// A mailbox behind an LMTP server.
    Lmtp {
        /// Where the server listens.
        server: LmtpAddress,
        /// Whose it is.
        address: Mailbox,
    },
    /// The mailbox of a user of the system.
    System {
        /// Who.
        user: SystemUser,
        /// The address.
        address: Mailbox,
        /// Whether the user's `.forward` counts.
        forward: bool,
    },
    /// A file, opened as a user.
    File {
        /// Where it lies; a Maildir where it ends in a slash.
        path: PathBuf,
        /// As whom.
        as_user: String,
        /// Whether it stands in that user's `.forward`, else in an alias file.
        of_forward: bool,
    },
    /// A command, run as a user.
    Pipe {
        /// For the shell.
        command: String,
        /// As whom.
        as_user: String,
        /// Whether it stands in that user's `.forward`, else in an alias file.
        of_forward: bool,
    },
    /// Somebody elsewhere.
    Remote {
        /// Who.
        mailbox: Mailbox,
        /// Who is told of failures in place of the sender.
        owner: Option<Mailbox>,
    },
}

impl Target {
    /// The user of the system who puts the mail there.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::System { user, .. } => Some(&user.name),
            Self::File { as_user, .. } | Self::Pipe { as_user, .. } => Some(as_user),
            Self::Maildir { .. } | Self::Lmtp { .. } | Self::Remote { .. } => None,
        }
    }

    /// The name of the place: one place has one name.
    pub fn key(&self) -> String {
        match self {
            Self::Maildir { path, .. } => format!("maildir:{}", path.display()),
            Self::Lmtp { server, address } => format!("{server}:{address}"),
            Self::System { user, forward: true, .. } => format!("user:{}", user.name),
            Self::System { user, forward: false, .. } => format!("mailbox:{}", user.name),
            Self::File { path, .. } => format!("file:{}", path.display()),
            Self::Pipe { command, as_user, .. } => format!("pipe:{as_user}:{command}"),
            Self::Remote { mailbox, .. } => format!("to:{mailbox}"),
        }
    }
}

/// Why one of several ways leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// Whether it may lead somewhere later: the configuration is broken or the name service silent.
    pub is_temporary: bool,
    /// Whether the fault is this site's alone, and therefore no reason to give a message up.
    pub is_ours: bool,
    /// Cause and remedy.
    pub text: String,
}

/// All places an address leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The places.
    pub targets: Vec<Target>,
    /// What led nowhere.
    pub dead: Vec<Dead>,
    /// Whether an alias was followed.
    pub is_alias: bool,
}

/// Whose list is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// An alias file or the database.
    Alias,
    /// The `.forward` of this user.
    Forward(String),
}

impl Accounts {
    /// All places that mail for `mailbox` goes to. Blocking.
    pub fn expand(&self, mailbox: &Mailbox) -> Expansion {
        self.directory.refresh();
        self.expand_with(mailbox, &Passwd)
    }

    /// All places that the `.forward` of `user` leads to. Blocking.
    pub fn follow(&self, user: &SystemUser, address: &Mailbox, members: &[Member]) -> Expansion {
        self.follow_with(user, address, members, &Passwd)
    }

    pub(super) fn expand_with(&self, mailbox: &Mailbox, users: &dyn Users) -> Expansion {
        let snapshot = self.directory.snapshot();
        let mut walk = Walk::new(self, &snapshot, users, Source::Alias);
        walk.address(mailbox, None);
        walk.expansion
    }

    pub(super) fn follow_with(
        &self,
        user: &SystemUser,
        address: &Mailbox,
        members: &[Member],
        users: &dyn Users,
    ) -> Expansion {
        let snapshot = self.directory.snapshot();
        let mut walk = Walk::new(self, &snapshot, users, Source::Forward(user.name.clone()));
        walk.expansion.is_alias = true;
        if let Some(domain) = address.domain() {
            // The user's own name within his own list means his mailbox.
            walk.path.push(key(&user.name, domain));
            let members = members.iter().map(|member| match member {
                Member::Name(name) if *name == user.name.to_lowercase() => Member::Final(name.clone()),
                Member::Address(other) if is_same(other, &user.name, domain) => {
                    Member::Final(user.name.clone())
                }
                other => other.clone(),
            });
            let members: Vec<Member> = members.collect();
            walk.members(&members, domain, &user.name, None);
        }
        walk.expansion
    }

    /// What `mailbox` is to us, with everything an alias leads to taken into account: mail is taken only for what can be
    /// delivered.
    pub(super) fn judge(&self, mailbox: &Mailbox, users: &dyn Users) -> Recipient {
        let snapshot = self.directory.snapshot();
        match self.find(mailbox, None, &snapshot, users) {
            Found::Here(Target::Maildir { path, .. }) => Recipient::Maildir(path),
            Found::Here(Target::Lmtp { server, .. }) => Recipient::Lmtp(server),
            Found::Here(Target::System { user, .. }) => Recipient::System(user.name),
            Found::Here(other) => Recipient::Alias(vec![other.key()]),
            Found::Relayed => Recipient::Relayed,
            Found::Verified(unasked) => Recipient::Verified(unasked),
            Found::Unclear(cause) => Recipient::Unclear(cause),
            Found::Unknown => Recipient::Unknown,
            Found::Foreign => Recipient::Foreign,
            Found::Alias(_) => {
                let expansion = self.expand_with(mailbox, users);
                let temporary = expansion.dead.iter().find(|dead| dead.is_temporary);
                match (expansion.targets.is_empty(), temporary) {
                    (false, _) => Recipient::Alias(expansion.targets.iter().map(Target::key).collect()),
                    (true, Some(dead)) => Recipient::Unclear(dead.text.clone()),
                    (true, None) => Recipient::Unknown,
                }
            }
        }
    }
}

fn is_same(mailbox: &Mailbox, name: &str, domain: &Domain) -> bool {
    mailbox.domain() == Some(domain) && mailbox.local_part().eq_ignore_ascii_case(name)
}

/// One walk over aliases.
struct Walk<'a> {
    accounts: &'a Accounts,
    snapshot: &'a Snapshot,
    users: &'a dyn Users,
    source: Source,
    /// The aliases that are followed now, outermost first.
    path: Vec<String>,
    /// Aliases that were followed: each once.
    followed: HashSet<String>,
    /// Included files that were followed, and for which local-part: each once.
    included: HashSet<(PathBuf, String)>,
    /// Places that are known already.
    known: HashSet<String>,
    expansion: Expansion,
}

impl<'a> Walk<'a> {
    fn new(accounts: &'a Accounts, snapshot: &'a Snapshot, users: &'a dyn Users, source: Source) -> Self {
        Self {
            accounts,
            snapshot,
            users,
            source,
            path: Vec::new(),
            followed: HashSet::new(),
            included: HashSet::new(),
            known: HashSet::new(),
            expansion: Expansion::default(),
        }
    }

    fn dead(&mut self, is_temporary: bool, text: String) {
        self.expansion.dead.push(Dead { is_temporary, is_ours: false, text });
    }

    /// It cannot be said now what an address is.
    fn unclear(&mut self, text: String) {
        self.expansion.dead.push(Dead { is_temporary: true, is_ours: true, text });
    }

    fn target(&mut self, target: Target) {
        if self.expansion.targets.len() >= self.accounts.rules.max_targets {
            let text =
                format!("more than {} recipients (alias.max_targets)", self.accounts.rules.max_targets);
            if self.expansion.dead.last().is_none_or(|dead| dead.text != text) {
                self.dead(true, text);
            }
            return;
        }
        if self.known.insert(target.key()) {
            self.expansion.targets.push(target);
        }
    }

    fn address(&mut self, mailbox: &Mailbox, owner: Option<&Mailbox>) {
        let within = self.path.last().cloned();
        let found = self.accounts.find(mailbox, within.as_deref(), self.snapshot, self.users);
        match found {
            Found::Here(target) => self.target(target),
            Found::Relayed | Found::Verified(_) | Found::Foreign => {
                self.target(Target::Remote { mailbox: mailbox.clone(), owner: owner.cloned() });
            }
            Found::Unclear(cause) => self.unclear(cause),
            Found::Unknown => self.dead(false, format!("{mailbox}: no such mailbox here")),
            Found::Alias(alias) => self.alias(&alias, mailbox, owner),
        }
    }

    fn alias(&mut self, alias: &Aliased, mailbox: &Mailbox, owner: Option<&Mailbox>) {
        let Some(domain) = mailbox.domain() else { return };
        self.expansion.is_alias = true;
        if self.path.contains(&alias.key) {
            let text = format!("aliases lead in a circle: {} -> {}", self.path.join(" -> "), alias.key);
            return self.dead(true, text);
        }
        if self.path.len() >= self.accounts.rules.max_depth {
            let text =
                format!("aliases lead to aliases more than {} deep (alias.max_depth)", self.path.len());
            return self.dead(true, text);
        }
        // A catch-all is another thing for each name; all else leads to the same places again.
        if !alias.key.starts_with('@') && !self.followed.insert(alias.key.clone()) {
            return;
        }
        self.path.push(alias.key.clone());
        let owner = alias.owner.as_ref().or(owner).cloned();
        self.members(&alias.members, domain, &alias.local_part, owner.as_ref());
        self.path.pop();
    }

    fn members(&mut self, members: &[Member], domain: &Domain, local_part: &str, owner: Option<&Mailbox>) {
        for member in members {
            self.member(member, domain, local_part, owner, 0);
        }
    }

    fn member(
        &mut self,
        member: &Member,
        domain: &Domain,
        local_part: &str,
        owner: Option<&Mailbox>,
        included: usize,
    ) {
        match member {
            Member::Name(name) => match Mailbox::new(name, domain.clone()) {
                Ok(mailbox) => self.address(&mailbox, owner),
                Err(_) => self.dead(false, format!("{name} is no name")),
            },
            Member::Final(name) => self.final_name(name, domain),
            Member::Address(mailbox) => self.address(mailbox, owner),
            Member::Domain(to) => self.same_name(local_part, to, owner),
            Member::File(path) => {
                let (as_user, of_forward) = self.as_user();
                self.target(Target::File { path: path.clone(), as_user, of_forward });
            }
            Member::Pipe(command) if self.accounts.rules.allow_pipes => {
                let (as_user, of_forward) = self.as_user();
                self.target(Target::Pipe { command: command.clone(), as_user, of_forward });
            }
            Member::Pipe(command) => {
                self.dead(true, format!("|{command}: commands are not run here (alias.allow_pipes)"));
            }
            Member::Include(path) => self.include(path, domain, local_part, owner, included),
        }
    }

    /// The mailbox of a name, whatever alias there is for it.
    fn final_name(&mut self, name: &str, domain: &Domain) {
        let Ok(mailbox) = Mailbox::new(name, domain.clone()) else { return };
        let own = key(name, domain);
        match self.accounts.find(&mailbox, Some(&own), self.snapshot, self.users) {
            Found::Here(Target::System { user, address, .. }) => {
                self.target(Target::System { user, address, forward: false });
            }
            Found::Here(target) => self.target(target),
            Found::Unclear(cause) => self.unclear(cause),
            // A user of the system itself, whose mail is root's.
            Found::Alias(_) => self.address(&mailbox, None),
            _ => self.dead(false, format!("\\{name}: no such mailbox here")),
        }
    }

    /// The same local-part in another domain. One that could mean a way of its own there is not passed on.
    fn same_name(&mut self, local_part: &str, domain: &str, owner: Option<&Mailbox>) {
        let to = Domain::parse(domain).ok().and_then(|domain| Mailbox::new(local_part, domain).ok());
        let Some(to) = to else { return };
        let is_ours = to.domain().is_some_and(|domain| self.accounts.known(domain).is_some());
        if !is_ours && local_part.contains(['%', '!', '@', ':', '/', '|']) {
            return self.dead(false, format!("{local_part}: no such mailbox here"));
        }
        self.address(&to, owner);
    }

    fn include(
        &mut self,
        path: &Path,
        domain: &Domain,
        local_part: &str,
        owner: Option<&Mailbox>,
        depth: usize,
    ) {
        if self.source != Source::Alias {
            // The file would be read by this server, with its rights and not with the user's.
            let text = format!(
                ":include:{} is not followed in a .forward: put the addresses into the .forward itself, or have an alias made",
                path.display()
            );
            return self.dead(true, text);
        }
        let snapshot = self.snapshot;
        match snapshot.file.included(path) {
            Some(Ok(members)) if depth < super::alias::load::MAX_INCLUDE_DEPTH => {
                // Files that include themselves or each other many times lead to nobody new.
                if !self.included.insert((path.to_owned(), local_part.to_owned())) {
                    return;
                }
                for member in members {
                    self.member(member, domain, local_part, owner, depth + 1);
                }
            }
            Some(Err(cause)) => self.dead(true, format!(":include:{}: {cause}", path.display())),
            Some(Ok(_)) => {
                self.dead(true, format!(":include:{}: files include each other too deep", path.display()))
            }
            None => self.dead(true, format!(":include:{} was not read", path.display())),
        }
    }

    /// As whom files are opened and commands run.
    fn as_user(&self) -> (String, bool) {
        match &self.source {
            Source::Alias => (self.accounts.rules.alias_user.clone(), false),
            Source::Forward(user) => (user.clone(), true),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
