//! What can change about addresses while the server runs: the aliases of files and of the database.
//!
//! One snapshot in memory, replaced as a whole when a file or a table has changed; whoever looks something up takes the
//! snapshot and keeps it for that one question. A file with an error takes nothing away: what it said before holds until
//! it is mended. What it does not: it decides nothing.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::alias::load::{self, Loaded};
use super::alias::{AliasError, FileAliases, Member, parse};
use crate::log::Line;
use crate::user::Users;

/// How often, at most, the files are looked at for a change.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is known at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The aliases of files: names of this host.
    pub file: FileAliases,
    /// The aliases of the database, by address in lower case, or by `@domain`.
    pub database: HashMap<String, Vec<Member>>,
}

impl Snapshot {
    /// Whether there is no alias at all.
    pub fn is_empty(&self) -> bool {
        self.file.is_empty() && self.database.is_empty()
    }
}

/// The directory; a handle that all who look something up share.
#[derive(Debug, Clone, Default)]
pub struct Directory(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Those who log in, whose names are mailboxes, too.
    users: Users,
    current: RwLock<Arc<Snapshot>>,
    files: Mutex<Files>,
}

/// The alias files as they were last read.
#[derive(Debug, Default)]
struct Files {
    paths: Vec<PathBuf>,
    loaded: Loaded,
    looked_at: Option<Instant>,
}

impl Directory {
    /// The users of the database.
    pub fn users(&self) -> Users {
        self.0.users.clone()
    }

    /// What is known now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads these files from now on, and at once. What is wrong is in the result and in the log. Blocking.
    pub fn read_files(&self, paths: &[PathBuf]) -> Vec<AliasError> {
        let mut files = self.0.files.lock().unwrap_or_else(PoisonError::into_inner);
        let same = files.paths == paths;
        files.paths = paths.to_vec();
        self.read(&mut files, same)
    }

    /// Reads the same files again, changed or not. What is wrong is in the result and in the log. Blocking.
    pub fn reread_files(&self) -> Vec<AliasError> {
        let mut files = self.0.files.lock().unwrap_or_else(PoisonError::into_inner);
        self.read(&mut files, true)
    }

    /// Reads the files again where one of them has changed. Blocking, and cheap where none has.
    pub fn refresh(&self) {
        let mut files = self.0.files.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let recent = files.looked_at.is_some_and(|at| now.duration_since(at) < LOOK_EVERY);
        if files.paths.is_empty() || recent {
            return;
        }
        files.looked_at = Some(now);
        if !files.loaded.seen.is_current() {
            self.read(&mut files, true);
        }
    }

    fn read(&self, files: &mut Files, keep_old: bool) -> Vec<AliasError> {
        let mut loaded = load::load(&files.paths);
        files.looked_at = Some(Instant::now());
        for error in &loaded.errors {
            ::log::error!("{}", Line::new("alias-error").with("reason", error));
        }
        let errors = loaded.errors.clone();
        if keep_old && !errors.is_empty() && !files.loaded.aliases.is_empty() {
            let line = Line::new("aliases").with("status", "old ones kept").with("errors", errors.len());
            ::log::error!("{}", line);
            // Not again before the next change.
            files.loaded.seen = loaded.seen;
            return errors;
        }
        if !files.paths.is_empty() {
            ::log::info!(
                "{}",
                Line::new("aliases").with("status", "read").with("count", loaded.aliases.len())
            );
        }
        let aliases = std::mem::take(&mut loaded.aliases);
        files.loaded = Loaded { aliases: aliases.clone(), ..loaded };
        self.change(|snapshot| snapshot.file = aliases);
        errors
    }

    /// From now on these are the aliases of the database.
    pub fn set_database(&self, aliases: HashMap<String, Vec<Member>>) {
        self.change(|snapshot| snapshot.database = aliases);
    }

    /// From now on the aliases of the database are those that it holds now. Blocking.
    ///
    /// # Errors
    /// What the database reports; what was known before holds.
    pub fn read_database(&self, reader: &mta_queue::Reader) -> Result<(), mta_queue::QueueError> {
        let stored = reader.aliases()?;
        self.set_database(database(stored.into_iter().map(|alias| (alias.address, alias.targets))));
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Snapshot::clone(&current);
        change(&mut next);
        *current = Arc::new(next);
    }
}

/// The aliases of the database from their texts. A member that cannot be read is left out, loudly; such a one is refused
/// when it is given.
pub fn database(stored: impl Iterator<Item = (String, Vec<String>)>) -> HashMap<String, Vec<Member>> {
    let read = |address: &str, target: String| match parse::member(&target) {
        Ok(member) => Some(member),
        Err(cause) => {
            ::log::error!("{}", Line::new("alias-error").with("alias", address).with("reason", cause));
            None
        }
    };
    stored
        .map(|(address, targets)| {
            let members = targets.into_iter().filter_map(|target| read(&address, target)).collect();
            (address, members)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_takes_nothing_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aliases");
        let directory = Directory::default();
        std::fs::write(&path, "root: anna\n").unwrap();
        assert_eq!(directory.read_files(std::slice::from_ref(&path)), []);
        std::fs::write(&path, "root anna\nother: x\n").unwrap();
        assert_eq!(directory.read_files(std::slice::from_ref(&path)).len(), 1);
        assert!(directory.snapshot().file.get("root").is_some());
        std::fs::write(&path, "root: ben\nother: x\n").unwrap();
        assert_eq!(directory.read_files(std::slice::from_ref(&path)), []);
        assert!(directory.snapshot().file.get("other").is_some());
    }
}
