//! What can change about addresses while the server runs: the aliases of files and of the database.
//!
//! One snapshot in memory, replaced as a whole when a file or a table has changed; whoever looks something up takes the
//! snapshot and keeps it for that one question. A file with an error takes nothing away: what it said before holds until
//! it is mended. Where nothing was said before, as at the start, what it may say is in doubt, and mail for names that are
//! not known waits; the administrator is alerted. What it does not: it decides nothing.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::alias::load::{self, Loaded};
use super::alias::{AliasError, FileAliases, Member, parse};
use crate::alert::{Alerts, Kind};
use crate::log::Line;
use crate::user::Users;

/// How often, at most, the files are looked at for a change.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a file that cannot be read is tried again although it looks the same: its disk may have been at fault.
const AGAIN_EVERY: Duration = Duration::from_secs(30);

/// What the alert for an alias file is called, before its path.
const ALIAS_FILE: &str = "alias file ";

/// What to do about it.
const REMEDY: &str = "mend it, and see what mta-cli alias check says; it is read again by itself, and what waits is \
     delivered then";

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
    /// Where the administrator is told of files that cannot be read.
    alerts: OnceLock<Alerts>,
}

/// The alias files as they were last read.
#[derive(Debug, Default)]
struct Files {
    paths: Vec<PathBuf>,
    loaded: Loaded,
    looked_at: Option<Instant>,
    read_at: Option<Instant>,
}

/// Why files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// These are the files from now on.
    New,
    /// The same files, as somebody asked for it or one has changed.
    Changed,
    /// One of them could not be read.
    Again,
}

impl Directory {
    /// The users of the database.
    pub fn users(&self) -> Users {
        self.0.users.clone()
    }

    /// Tells of alias files that cannot be read from now on, and of the end of that.
    pub fn tell(&self, alerts: Alerts) {
        // Whoever is told first is told.
        let _ = self.0.alerts.set(alerts);
    }

    /// What is known now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads these files from now on, and at once. What is wrong is in the result and in the log. Blocking.
    pub fn read_files(&self, paths: &[PathBuf]) -> Vec<AliasError> {
        let mut files = self.0.files.lock().unwrap_or_else(PoisonError::into_inner);
        let why = if files.paths == paths { Why::Changed } else { Why::New };
        files.paths = paths.to_vec();
        self.read(&mut files, why)
    }

    /// Reads the same files again, changed or not. What is wrong is in the result and in the log. Blocking.
    pub fn reread_files(&self) -> Vec<AliasError> {
        let mut files = self.0.files.lock().unwrap_or_else(PoisonError::into_inner);
        self.read(&mut files, Why::Changed)
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
        let long_ago = files.read_at.is_none_or(|at| now.duration_since(at) >= AGAIN_EVERY);
        if !files.loaded.seen.is_current() {
            self.read(&mut files, Why::Changed);
        } else if long_ago && !files.loaded.aliases.doubts().is_empty() {
            self.read(&mut files, Why::Again);
        }
    }

    fn read(&self, files: &mut Files, why: Why) -> Vec<AliasError> {
        let loaded = load::load(&files.paths);
        let now = Some(Instant::now());
        (files.looked_at, files.read_at) = (now, now);
        let errors = loaded.errors.clone();
        let is_news = why != Why::Again || errors != files.loaded.errors;
        for error in errors.iter().filter(|_| is_news) {
            ::log::error!("{}", Line::new("alias-error").with("reason", error));
        }
        let old = std::mem::take(&mut files.loaded.aliases);
        // What held only because a file could not be read holds no more once all of them can.
        let is_doubt_over = !old.doubts().is_empty() && loaded.aliases.doubts().is_empty();
        let keeps_old = why != Why::New && !errors.is_empty() && !old.is_empty() && !is_doubt_over;
        let (status, aliases) = match keeps_old {
            true => ("old ones kept", old.kept_with(loaded.aliases)),
            false => ("read", loaded.aliases),
        };
        if !files.paths.is_empty() && is_news {
            let line = Line::new("aliases").with("status", status).with("count", aliases.len());
            ::log::info!("{}", line.with("errors", errors.len()));
        }
        self.alert(aliases.doubts());
        files.loaded = Loaded { aliases: aliases.clone(), ..loaded };
        self.change(|snapshot| snapshot.file = aliases);
        errors
    }

    /// One alert for each file that names may stand in which nobody can read.
    fn alert(&self, doubts: &[AliasError]) {
        let Some(alerts) = self.0.alerts.get() else { return };
        let subject = |doubt: &AliasError| format!("{ALIAS_FILE}{}", doubt.place.file.display());
        let still: Vec<String> = doubts.iter().map(subject).collect();
        for open in alerts.open() {
            let is_over = open.subject.starts_with(ALIAS_FILE) && !still.contains(&open.subject);
            if open.kind == Kind::Local && is_over {
                alerts.clear(Kind::Local, &open.subject);
            }
        }
        for (subject, doubt) in still.iter().zip(doubts) {
            let text = format!("{doubt}; mail for names of this host that are not known waits");
            alerts.raise(Kind::Local, subject, &text, REMEDY);
        }
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
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn set_mode(path: &std::path::Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    impl Directory {
        /// Looks at once.
        fn look(&self) -> Arc<Snapshot> {
            self.0.files.lock().unwrap().looked_at = None;
            self.refresh();
            self.snapshot()
        }
    }

    #[test]
    fn a_file_that_cannot_be_believed_is_in_doubt_until_it_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aliases");
        let (directory, alerts) = (Directory::default(), Alerts::default());
        directory.tell(alerts.clone());
        std::fs::write(&path, "root: anna\n").unwrap();
        set_mode(&path, 0o664);
        // As at the start of the server.
        assert_eq!(directory.read_files(std::slice::from_ref(&path)).len(), 1);
        assert_eq!(directory.look().file.doubts().len(), 1);
        let open = alerts.open();
        assert_eq!((open.len(), open[0].kind, open[0].count), (1, Kind::Local, 1));
        assert_eq!(open[0].subject, format!("alias file {}", path.display()));
        assert!(open[0].text.contains("others may write it (mode 664): chmod go-w"), "{}", open[0].text);
        // Nothing but its mode changes, and nobody asks for a reload.
        set_mode(&path, 0o644);
        let now = directory.look();
        assert!(now.file.get("root").is_some() && now.file.doubts().is_empty());
        assert_eq!(alerts.open().len(), 0);
        // What was read before holds while it cannot be read again, and names that were not in it are in doubt.
        set_mode(&path, 0o666);
        let now = directory.look();
        assert!(now.file.get("root").is_some());
        assert_eq!((now.file.doubts().len(), alerts.open().len()), (1, 1));
    }

    #[test]
    fn what_one_file_hid_holds_once_it_is_read_whatever_is_wrong_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["one", "two"].map(|name| folder.path().join(name));
        let directory = Directory::default();
        std::fs::write(&paths[0], "root: anna\n").unwrap();
        set_mode(&paths[0], 0o666);
        std::fs::write(&paths[1], "team: anna\nteam: ben\nbroken: a b\n").unwrap();
        directory.read_files(&paths);
        assert!(directory.snapshot().file.get("root").is_none());
        set_mode(&paths[0], 0o600);
        let now = directory.look();
        assert!(now.file.get("root").is_some() && now.file.get("team").is_some());
        assert!(now.file.doubts().is_empty());
        // A name that is new counts beside the mistakes of others.
        std::fs::write(&paths[1], "team: anna\nteam: ben\nbroken: a b\nnew: anna\n").unwrap();
        assert!(directory.look().file.get("new").is_some());
    }

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
