//! Aliases: what `/etc/aliases`, `:include:` files, `.forward` files and the database have in common.
//!
//! [`parse`] reads the syntax of aliases(5); [`load`] reads files, with their bounds and the check of their owners. What
//! it does not: it resolves nothing. What a member leads to is [`super::expand`]'s.

pub mod load;
pub mod parse;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use mta_smtp::address::Mailbox;

/// One of those an alias stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Member {
    /// A name of this host, without a domain.
    Name(String),
    /// `\name`: the mailbox of this name, whatever alias or forward there is for it.
    Final(String),
    /// A whole address.
    Address(Mailbox),
    /// A file: mbox, or a Maildir where the name ends in a slash.
    File(PathBuf),
    /// The standard input of a command.
    Pipe(String),
    /// All that another file lists.
    Include(PathBuf),
    /// `@domain`: the same local-part there. In the database only.
    Domain(String),
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Final(name) => write!(f, "\\{name}"),
            Self::Address(mailbox) => mailbox.fmt(f),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Pipe(command) => write!(f, "|{command}"),
            Self::Include(path) => write!(f, ":include:{}", path.display()),
            Self::Domain(domain) => write!(f, "@{domain}"),
        }
    }
}

/// One alias of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, lower case.
    pub name: String,
    /// Whom it stands for; where that cannot be said, mail for it waits until somebody mends it.
    pub members: Result<Vec<Member>, String>,
    /// Where it stands.
    pub place: Place,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 means the file as a whole.
    pub line: usize,
}

/// What is wrong with an alias file: where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasError {
    /// Where.
    pub place: Place,
    /// Cause and remedy.
    pub cause: String,
}

impl fmt::Display for AliasError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.line {
            0 => write!(f, "{}: {}", self.place.file.display(), self.cause),
            line => write!(f, "{}:{line}: {}", self.place.file.display(), self.cause),
        }
    }
}

impl std::error::Error for AliasError {}

/// The aliases of files, by name in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileAliases {
    entries: HashMap<String, Entry>,
    /// What the included files list, by path, as it was read with the rest.
    includes: HashMap<PathBuf, Result<Vec<Member>, String>>,
    /// What keeps names from being known, the first of each file: it cannot be read, or a line whose name cannot.
    doubts: Vec<AliasError>,
}

impl FileAliases {
    /// The alias of this name, in any case.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(&name.to_lowercase())
    }

    /// What an included file lists; nothing where no alias includes it.
    pub fn included(&self, path: &std::path::Path) -> Option<&Result<Vec<Member>, String>> {
        self.includes.get(path)
    }

    /// Why a name that is not here may be an alias all the same: a file, or the name on a line, could not be read. One
    /// for each such file.
    pub fn doubts(&self) -> &[AliasError] {
        &self.doubts
    }

    /// These aliases go on to hold, and what only `newer` knows holds too.
    #[must_use]
    pub(super) fn kept_with(mut self, newer: Self) -> Self {
        for (name, entry) in newer.entries {
            if self.entries.get(&name).is_none_or(|old| old.members.is_err()) {
                self.entries.insert(name, entry);
            }
        }
        for (path, members) in newer.includes {
            if members.is_ok() || !self.includes.contains_key(&path) {
                self.includes.insert(path, members);
            }
        }
        Self { doubts: newer.doubts, ..self }
    }

    /// All aliases, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// How many aliases there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether an alias or an included file names this very member: what the delivery process asks before it opens a
    /// file or runs a command for one.
    pub fn names(&self, wanted: &Member) -> bool {
        let of_entries = self.entries.values().map(|entry| &entry.members);
        of_entries.chain(self.includes.values()).flatten().flatten().any(|member| member == wanted)
    }
}
