//! Where keys are kept: `dkim/DOMAIN/SELECTOR.pem` in the state directory, readable by its owner alone.
//!
//! The first line of a file says what state its key is in; what follows is PEM as any tool reads it. A file is written
//! whole beside its place and renamed, so a killed process leaves the old one or the new one.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::key::Key;

/// The folder below the state directory.
const FOLDER: &str = "dkim";

/// How the first line of a file begins.
const STATE: &str = "# mta dkim key, state: ";

/// The largest file that is read.
const MAX_FILE_OCTETS: u64 = 64 << 10;

/// What a key is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its record is to be published; it signs once that is seen in DNS.
    New,
    /// It signs.
    Signing,
    /// It signs no more; its record stays published for mail that is under way.
    Old,
}

impl State {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Signing => "signing",
            Self::Old => "old",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::New, Self::Signing, Self::Old].into_iter().find(|state| state.word() == word)
    }
}

/// A key in its place.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The domain it signs for, lower case.
    pub domain: String,
    /// Its selector.
    pub selector: String,
    /// What it is used for.
    pub state: State,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// The key.
    pub key: Arc<Key>,
}

impl Stored {
    /// The name of its record.
    pub fn owner(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain)
    }
}

/// The keys of one state directory.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Below this state directory. Touches nothing yet.
    pub fn new(state_directory: &Path) -> Self {
        Self { folder: state_directory.join(FOLDER) }
    }

    /// All keys, by domain and selector. Files that cannot be used are told, each in words, and left out.
    pub fn load(&self) -> (Vec<Stored>, Vec<String>) {
        let (mut keys, mut problems) = (Vec::new(), Vec::new());
        for domain in entries(&self.folder) {
            for file in entries(&domain) {
                if file.extension().is_none_or(|it| it != "pem") {
                    continue;
                }
                match read(&domain, &file) {
                    Ok(key) => keys.push(key),
                    Err(why) => problems.push(format!("{}: {why}", file.display())),
                }
            }
        }
        keys.sort_by(|a, b| (&a.domain, &a.selector).cmp(&(&b.domain, &b.selector)));
        (keys, problems)
    }

    /// Writes a key, new or changed.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn save(&self, stored: &Stored) -> io::Result<()> {
        let domain = self.folder.join(&stored.domain);
        for folder in [&self.folder, &domain] {
            if !folder.is_dir() {
                DirBuilder::new().mode(0o700).create(folder)?;
                own_as_above(folder)?;
            }
        }
        let path = self.path(stored);
        let new = path.with_extension("new");
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        write!(file, "{STATE}{} since {}\n{}", stored.state.word(), stored.since, stored.key.pem())?;
        file.sync_all()?;
        own_as_above(&new)?;
        fs::rename(&new, &path)?;
        fs::File::open(&domain)?.sync_all()
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn delete(&self, stored: &Stored) -> io::Result<()> {
        fs::remove_file(self.path(stored))
    }

    /// Something that changes when any key does: the newest time of the folders.
    pub(super) fn stamp(&self) -> Option<(i64, i64, usize)> {
        let folders = entries(&self.folder);
        let times = folders.iter().chain([&self.folder]).filter_map(|folder| fs::metadata(folder).ok());
        let newest = times.map(|found| (found.mtime(), found.mtime_nsec())).max()?;
        Some((newest.0, newest.1, folders.len()))
    }

    fn path(&self, stored: &Stored) -> PathBuf {
        self.folder.join(&stored.domain).join(format!("{}.pem", stored.selector))
    }
}

/// What root makes in the folder of the service is the service's.
fn own_as_above(path: &Path) -> io::Result<()> {
    let Some(above) = path.parent() else { return Ok(()) };
    let (own, above) = (fs::metadata(path)?, fs::metadata(above)?);
    if (own.uid(), own.gid()) == (above.uid(), above.gid()) {
        return Ok(());
    }
    chown(path, Some(above.uid()), Some(above.gid()))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn read(domain: &Path, file: &Path) -> Result<Stored, String> {
    let text = |path: &Path| path.file_stem().and_then(|name| name.to_str()).map(str::to_ascii_lowercase);
    let name = domain.file_name().and_then(|name| name.to_str()).map(str::to_ascii_lowercase);
    let (Some(domain), Some(selector)) = (name, text(file)) else {
        return Err("its name is no text".to_owned());
    };
    let found = fs::metadata(file).map_err(|error| error.to_string())?;
    if found.mode() & 0o077 != 0 {
        return Err("others may read it: chmod 600".to_owned());
    }
    if found.len() > MAX_FILE_OCTETS {
        return Err("it is too large for a key".to_owned());
    }
    let content = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let first = content.lines().next().and_then(|line| line.strip_prefix(STATE));
    // A key that somebody put there without a word of ours waits for its record.
    let (state, since) = match first.and_then(|line| line.split_once(" since ")) {
        Some((word, since)) => (State::parse(word).unwrap_or(State::New), since.trim().parse().unwrap_or(0)),
        None => (State::New, 0),
    };
    Ok(Stored { domain, selector, state, since, key: Arc::new(Key::read(&content)?) })
}
