//! Delivery into a Maildir: write to `tmp`, sync, link into `new`, sync the folder.
//!
//! The file's name is made of the queue id and the recipient, so that a delivery that is repeated because the record
//! of the first one was lost (a kill between the two) finds its own file and is not delivered twice.
//!
//! What it does not: folders, quotas, flags. Those belong to whoever reads the Maildir.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::copy::copy_local;

/// Why a delivery did not happen. All are transient: the message stays in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaildirError {
    /// The file system is full.
    Full {
        /// The file or folder that could not be written.
        path: PathBuf,
    },
    /// The owner's quota of the file system is used up.
    OverQuota {
        /// The file or folder that could not be written.
        path: PathBuf,
    },
    /// We may not write there.
    NotAllowed {
        /// The file or folder that could not be written.
        path: PathBuf,
    },
    /// Anything else that the system said.
    Io {
        /// The file or folder it was said about.
        path: PathBuf,
        /// The system's own words.
        error: String,
    },
    /// The content could not be read from the queue.
    Content {
        /// The queue's own words.
        error: String,
    },
}

impl MaildirError {
    fn at(path: &Path, error: &io::Error) -> Self {
        let path = path.to_path_buf();
        match error.kind() {
            io::ErrorKind::StorageFull => Self::Full { path },
            io::ErrorKind::QuotaExceeded => Self::OverQuota { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::NotAllowed { path },
            _ => Self::Io { path, error: error.to_string() },
        }
    }
}

impl std::fmt::Display for MaildirError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full { path } => {
                write!(f, "no space left for {}: free some, the message waits", path.display())
            }
            Self::OverQuota { path } => {
                write!(f, "{}: the owner's disk quota is used up, the message waits", path.display())
            }
            Self::NotAllowed { path } => write!(
                f,
                "may not write {}: the service's user must own the Maildir or be allowed to create it",
                path.display()
            ),
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Content { error } => write!(f, "the content could not be read from the queue: {error}"),
        }
    }
}

impl std::error::Error for MaildirError {}

/// What a delivery is called, and what goes in front of it.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// Unique for this message and recipient, the same at every attempt: letters, digits, `-` and `_` only.
    pub unique: &'a str,
    /// When the message was received, in seconds since 1970. The same at every attempt.
    pub received_at: u64,
    /// Our host name.
    pub hostname: &'a str,
    /// Trace fields, each a line that ends in LF: `Return-Path`, `Delivered-To`.
    pub trace: &'a str,
}

impl Item<'_> {
    /// The file's name: time, a part that is unique on this host, host name; no `/` and no `:` (those mean something
    /// in a Maildir), and never a leading dot.
    fn file_name(&self) -> String {
        let clean = |text: &str, allowed: &[char]| -> String {
            text.chars()
                .map(|c| if c.is_ascii_alphanumeric() || allowed.contains(&c) { c } else { '_' })
                .collect()
        };
        let unique = clean(self.unique, &['-', '_']);
        let hostname = clean(self.hostname, &['-', '_', '.']);
        format!("{}.Q{unique}.{hostname}", self.received_at)
    }
}

/// Delivers `content` into the Maildir at `maildir`, which is created where it is missing. Blocking.
///
/// After `Ok` the message is on stable storage: the file and its folder entry were synced.
///
/// # Errors
/// See [`MaildirError`]; nothing is left behind in `new`, and the file in `tmp` is removed.
pub fn deliver(maildir: &Path, item: &Item<'_>, content: &mut dyn Read) -> Result<PathBuf, MaildirError> {
    deliver_by(maildir, item, content, &mut sync_folder)
}

/// What brings a folder's entries to stable storage.
type Sync<'a> = &'a mut dyn FnMut(&Path) -> Result<(), MaildirError>;

fn deliver_by(
    maildir: &Path,
    item: &Item<'_>,
    content: &mut dyn Read,
    sync: Sync<'_>,
) -> Result<PathBuf, MaildirError> {
    create(maildir, sync)?;
    let name = item.file_name();
    let new = maildir.join("new").join(&name);
    if let Some(folder) = already_delivered(maildir, &name) {
        // The attempt that put it there may have ended before its entry was on stable storage.
        sync(&folder)?;
        return Ok(new);
    }
    let (tmp, file) = attempt(&maildir.join("tmp"), &name)?;
    let result = write(&tmp, file, item, content).and_then(|()| publish(&tmp, &new));
    // Also after success: `new` holds a second link by then. A reader of the Maildir clears `tmp` in any case.
    let _ = fs::remove_file(&tmp);
    result?;
    sync(&maildir.join("new"))?;
    Ok(new)
}

/// The folder that holds this very delivery, made before: still new, or moved to `cur` by a reader that added flags.
fn already_delivered(maildir: &Path, name: &str) -> Option<PathBuf> {
    let (new, cur) = (maildir.join("new"), maildir.join("cur"));
    if new.join(name).exists() {
        return Some(new);
    }
    // Readers move a message to `cur` as `name:2,FLAGS`. The two that appear at once are looked up by name; a full
    // search of a large folder for a rare repeat is not worth it.
    let is_read = ["", ":2,", ":2,S"].iter().any(|suffix| cur.join(format!("{name}{suffix}")).exists());
    is_read.then_some(cur)
}

fn create(maildir: &Path, sync: Sync<'_>) -> Result<(), MaildirError> {
    if maildir.join("new").is_dir() && maildir.join("tmp").is_dir() {
        return Ok(());
    }
    // All that are missing are made here, so all their entries are.
    let missing = maildir.ancestors().take_while(|folder| !folder.exists()).count();
    let changed = maildir.ancestors().skip(1).take(missing.max(1));
    for folder in [maildir.to_path_buf(), maildir.join("tmp"), maildir.join("new"), maildir.join("cur")] {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| MaildirError::at(&folder, &error))?;
    }
    // The folder's own entry must survive a power cut as well as what will lie in it.
    sync(maildir)?;
    changed.filter(|folder| !folder.as_os_str().is_empty()).try_for_each(sync)
}

/// A new file in `tmp`, of this attempt alone: another one for the same name may be under way, whose file must not become
/// ours when it has been linked into `new`. What a killed attempt left is cleared by the readers of the Maildir.
fn attempt(folder: &Path, name: &str) -> Result<(PathBuf, File), MaildirError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    /// Left by processes of our own number, at most.
    const TRIES: usize = 100;

    let mut tries = 0;
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let tmp = folder.join(format!("{name}.P{}N{number}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&tmp) {
            Ok(file) => return Ok((tmp, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < TRIES => tries += 1,
            Err(error) => return Err(MaildirError::at(&tmp, &error)),
        }
    }
}

fn write(tmp: &Path, file: File, item: &Item<'_>, content: &mut dyn Read) -> Result<(), MaildirError> {
    let mut reader = Tagged { inner: content, error: None };
    let mut out = BufWriter::with_capacity(64 * 1024, file);
    let copied = copy_local(&mut reader, item.trace.as_bytes(), &mut out);
    if let Some(error) = reader.error {
        return Err(MaildirError::Content { error });
    }
    let file = copied
        .and_then(|_| out.flush())
        .and_then(|()| out.into_inner().map_err(io::IntoInnerError::into_error))
        .map_err(|error| MaildirError::at(tmp, &error))?;
    file.sync_all().map_err(|error| MaildirError::at(tmp, &error))
}

/// Links the finished file into `new`. A link never replaces: what is there already is this delivery.
fn publish(tmp: &Path, new: &Path) -> Result<(), MaildirError> {
    match fs::hard_link(tmp, new) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // File systems without hard links (some router flash): a rename is atomic as well.
        Err(_) => fs::rename(tmp, new).map_err(|error| MaildirError::at(new, &error)),
    }
}

fn sync_folder(folder: &Path) -> Result<(), MaildirError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| MaildirError::at(folder, &error))
}

/// Remembers whether it was the reading that failed: the queue's fault is not the Maildir's.
struct Tagged<'a> {
    inner: &'a mut dyn Read,
    error: Option<String>,
}

impl Read for Tagged<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.error = Some(error.to_string());
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: Item<'_> = Item {
        unique: "abc-1",
        received_at: 1_700_000_000,
        hostname: "mx.example",
        trace: "Return-Path: <s@example.org>\nDelivered-To: u@example.com\n",
    };

    #[test]
    fn a_message_lies_in_new_and_nothing_in_tmp() {
        let folder = tempfile::tempdir().unwrap();
        let maildir = folder.path().join("u");
        let path = deliver(&maildir, &ITEM, &mut &b"Subject: x\r\n\r\nbody\r\n"[..]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "Return-Path: <s@example.org>\nDelivered-To: u@example.com\nSubject: x\n\nbody\n");
        assert_eq!(fs::read_dir(maildir.join("tmp")).unwrap().count(), 0);
        assert!(maildir.join("cur").is_dir());
    }

    #[test]
    fn a_repeated_delivery_is_one_message() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            deliver(folder.path(), &ITEM, &mut &b"a\r\n"[..]).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1);
        // Read by its owner in between: still not delivered again.
        let name = ITEM.file_name();
        fs::rename(
            folder.path().join("new").join(&name),
            folder.path().join("cur").join(format!("{name}:2,S")),
        )
        .unwrap();
        deliver(folder.path(), &ITEM, &mut &b"a\r\n"[..]).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 0);
    }

    #[test]
    fn a_broken_content_leaves_nothing_behind() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("row missing"))
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let error = deliver(folder.path(), &ITEM, &mut Broken).unwrap_err();
        assert_eq!(error, MaildirError::Content { error: "row missing".into() });
        for sub in ["tmp", "new"] {
            assert_eq!(fs::read_dir(folder.path().join(sub)).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_name_never_leaves_the_folder() {
        let item = Item { unique: "../../x:y", hostname: "../h", ..ITEM };
        assert_eq!(item.file_name(), "1700000000.Q______x_y..._h");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("u");
        fs::write(&file, "").unwrap();
        let error = deliver(&file, &ITEM, &mut &b""[..]).unwrap_err();
        assert!(matches!(error, MaildirError::Io { path, .. } if path == file));
    }

    #[test]
    fn what_an_attempt_left_is_synced_before_it_counts() {
        let folder = tempfile::tempdir().unwrap();
        let maildir = folder.path().join("u");
        let new = maildir.join("new");
        let mut broken = |folder: &Path| match folder == new {
            true => Err(MaildirError::at(folder, &io::Error::other("power cut"))),
            false => Ok(()),
        };
        assert!(deliver_by(&maildir, &ITEM, &mut &b"a\r\n"[..], &mut broken).is_err());
        // Its file is there, and the disk still takes no entry.
        assert_eq!(fs::read_dir(&new).unwrap().count(), 1);
        assert!(deliver_by(&maildir, &ITEM, &mut &b"a\r\n"[..], &mut broken).is_err());
        fs::rename(new.join(ITEM.file_name()), maildir.join("cur").join(ITEM.file_name())).unwrap();
        let mut synced = Vec::new();
        let mut note = |folder: &Path| {
            synced.push(folder.to_path_buf());
            Ok(())
        };
        deliver_by(&maildir, &ITEM, &mut &b"a\r\n"[..], &mut note).unwrap();
        assert_eq!(synced, [maildir.join("cur")]);
    }

    #[test]
    fn the_entry_of_each_folder_that_is_made_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let maildir = folder.path().join("a/b/u");
        let mut synced = Vec::new();
        let mut note = |folder: &Path| {
            synced.push(folder.to_path_buf());
            Ok(())
        };
        deliver_by(&maildir, &ITEM, &mut &b"a\r\n"[..], &mut note).unwrap();
        let expected = ["a/b/u", "a/b", "a", "", "a/b/u/new"].map(|name| folder.path().join(name));
        assert_eq!(synced.len(), expected.len());
        assert!(synced.iter().zip(&expected).all(|(synced, expected)| synced == expected), "{synced:?}");
        // There already: nothing but what the message itself takes.
        synced.clear();
        let mut note = |folder: &Path| {
            synced.push(folder.to_path_buf());
            Ok(())
        };
        let second = Item { unique: "abc-2", ..ITEM };
        deliver_by(&maildir, &second, &mut &b"a\r\n"[..], &mut note).unwrap();
        assert_eq!(synced, [maildir.join("new")]);
    }

    #[test]
    fn two_attempts_at_once_are_one_whole_message() {
        /// While the first is read, the second is made from its beginning to its end.
        struct Second<'a>(&'a Path, &'a [u8]);
        impl Read for Second<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let path = deliver(self.0, &ITEM, &mut &b"Subject: x\r\n\r\nbody\r\n"[..]).unwrap();
                assert!(fs::read_to_string(path).unwrap().ends_with("Subject: x\n\nbody\n"));
                self.1.read(buffer)
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = deliver(folder.path(), &ITEM, &mut Second(folder.path(), b"Subject: x\r\n\r\nbody\r\n"));
        let text = fs::read_to_string(path.unwrap()).unwrap();
        assert_eq!(text.matches("Subject: x\n\nbody\n").count(), 1, "{text}");
        for (sub, count) in [("tmp", 0), ("new", 1)] {
            assert_eq!(fs::read_dir(folder.path().join(sub)).unwrap().count(), count, "{sub}");
        }
    }
}
