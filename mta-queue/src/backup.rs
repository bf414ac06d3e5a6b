//! Backup and restore: a consistent copy of the whole queue, taken while mail flows, and put back while it does not.
//!
//! A backup is one file or one directory. Both begin with a copy of the database as it was at one instant
//! (`VACUUM INTO`, in a read transaction: the writer is not held up). The directory form has the content files beside it
//! and is a state directory by itself; in the file form they are rows of a table of their own, so that the backup is one
//! SQLite database that `integrity_check` covers. A message that left the queue while its content file was still to be
//! copied is left out of the backup: it was delivered. Either form gets its name only when it is complete and synced.
//!
//! A restore first builds what is to be put in place in a directory of its own, verifies it, and then declares it
//! complete with one rename. From there on it goes forward only: a restore that was killed is finished by the next one, or
//! when the queue is opened. What was there before is kept aside, never deleted.
//!
//! What it does not: it keeps no series of backups and compresses nothing.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, params};

use crate::content::{self, DIRECTORY};
use crate::crash;
use crate::error::{OpenError, QueueError};
use crate::id::QueueId;
use crate::reader::{self, Reader};
use crate::repair;
use crate::store::{DATABASE, lock};
use crate::time::unix_seconds;
use crate::verify::{Problem, ProblemKind, verify};

/// What a restore is being built in. Deleted by the next restore.
const BUILDING: &str = "restore.tmp";

/// What a restore puts in place, once it is complete.
const READY: &str = "restore.ready";

/// The suffix of a backup that is not complete.
const PARTIAL: &str = ".partial";

/// Octets copied at a time.
const PIECE: usize = 64 << 10;

/// Holds the content files in the file form.
const FILE_TABLE: &str = "CREATE TABLE backup_file (file INTEGER PRIMARY KEY, data BLOB NOT NULL)";

/// What a backup or a restore moved.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Moved {
    /// Messages that wait.
    pub messages: u64,
    /// Files of large content.
    pub files: u64,
    /// Octets of the database and of these files.
    pub bytes: u64,
    /// Where the queue that was there before lies now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aside: Option<PathBuf>,
}

/// Why there is no backup, or nothing was restored. Each is one sentence for the administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupError {
    /// The queue or the backup cannot be opened.
    Open(OpenError),
    /// Something is in the way and nobody said that it may be.
    Exists(PathBuf),
    /// The backup is damaged.
    Damaged(PathBuf, Vec<Problem>),
    /// The disk reports something.
    Disk(PathBuf, String),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Exists(path) => write!(f, "{} is there already and not empty", path.display()),
            Self::Damaged(path, problems) => {
                let first = problems.first().map_or("", |problem| &problem.text);
                write!(f, "{} is damaged and was not restored: {first}", path.display())
            }
            Self::Disk(path, reason) => write!(f, "{}: {reason}", path.display()),
        }
    }
}

impl std::error::Error for BackupError {}

impl From<OpenError> for BackupError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

/// Hears what is being done, and of how much: a step, octets done, octets in all (0 where unknown).
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, u64);

type Result<T> = std::result::Result<T, BackupError>;

/// The disk's error at a path.
pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> BackupError {
    |error| BackupError::Disk(path.to_owned(), error.to_string())
}

/// The database's error at a path.
pub(crate) fn in_database(path: &Path) -> impl Fn(rusqlite::Error) -> BackupError {
    |error| BackupError::Disk(path.to_owned(), QueueError::from(error).to_string())
}

/// Copies the queue in `state` to `target`: to a directory where `target` is one or ends with a slash, else to a file.
/// An existing file is replaced only with `overwrite`; a directory must be empty. Works beside the running daemon.
///
/// # Errors
/// `BackupError`; `target` is then as it was before.
pub fn backup(state: &Path, target: &Path, overwrite: bool, progress: Progress<'_>) -> Result<Moved> {
    let as_directory = target.is_dir() || target.as_os_str().as_encoded_bytes().ends_with(b"/");
    if as_directory && is_occupied(target) || target.is_file() && !overwrite {
        return Err(BackupError::Exists(target.to_owned()));
    }
    // Without the slash at its end, if there is one.
    let target: PathBuf = target.components().collect();
    let mut partial = target.clone().into_os_string();
    partial.push(PARTIAL);
    let partial = PathBuf::from(partial);
    remove(&partial)?;
    let database = if as_directory {
        make_directory(&partial)?;
        partial.join(DATABASE)
    } else {
        partial.clone()
    };
    let made = copy_all(state, &database, as_directory, progress).and_then(|moved| {
        progress("writing to disk", moved.bytes, moved.bytes);
        sync(&database)?;
        if as_directory {
            sync(&partial)?;
        }
        crash::point("backup-synced");
        fs::rename(&partial, &target).map_err(at(&target))?;
        sync(&parent(&target))?;
        Ok(moved)
    });
    if made.is_err() {
        let _ = remove(&partial);
    }
    made
}

/// A directory with something in it.
fn is_occupied(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
}

fn copy_all(state: &Path, database: &Path, as_directory: bool, progress: Progress<'_>) -> Result<Moved> {
    let live = Reader::open(state)?;
    progress("database", 0, 0);
    {
        // Nobody else may read a copy of the mail; an empty file is what VACUUM INTO fills.
        File::options().create_new(true).write(true).mode(0o600).open(database).map_err(at(database))?;
        let connection = live.lock();
        connection
            .execute("VACUUM INTO ?1", params![database.to_string_lossy()])
            .map_err(in_database(database))?;
    }
    crash::point("backup-database");
    let copy = Connection::open(database).map_err(in_database(database))?;
    // It is nobody's yet, and synced as a whole at its end.
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
        .map_err(in_database(database))?;
    let sink = if as_directory {
        let directory = database.with_file_name(DIRECTORY);
        make_directory(&directory)?;
        Sink::Directory(directory)
    } else {
        copy.execute_batch(FILE_TABLE).map_err(in_database(database))?;
        Sink::Rows(&copy)
    };
    let named = named_files(&copy).map_err(in_database(database))?;
    let total: u64 = named.iter().map(|named| named.size).sum();
    let (mut done, mut left_out, mut files) = (0, false, 0);
    for named in named {
        progress("content", done, total);
        let path = content::stored_path(state, named.file);
        match File::open(&path) {
            Ok(mut file) => {
                sink.store(&named, &mut file).map_err(at(&path))?;
                crash::point("backup-content");
                done += named.size;
                files += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if is_finished(&live, named.message).map_err(in_database(database))? {
                    repair::forget_message(&copy, named.message).map_err(in_database(database))?;
                    left_out = true;
                } else {
                    log::warn!("event=backup-without-content file={}", path.display());
                }
            }
            Err(error) => return Err(at(&path)(error)),
        }
    }
    if left_out {
        repair::recount(&copy).map_err(in_database(database))?;
    }
    if let Sink::Directory(directory) = &sink {
        sync(directory)?;
    }
    let messages = waiting_messages(&copy).map_err(in_database(database))?;
    drop(sink);
    copy.close().map_err(|(_, error)| in_database(database)(error))?;
    let database_bytes = fs::metadata(database).map_err(at(database))?.len();
    let bytes = if as_directory { database_bytes + done } else { database_bytes };
    Ok(Moved { messages, files, bytes, aside: None })
}

/// A content file that a message names.
struct Named {
    message: i64,
    file: i64,
    size: u64,
}

fn named_files(connection: &Connection) -> rusqlite::Result<Vec<Named>> {
    let mut find = connection.prepare(
        "SELECT m.id, m.content_file, m.size - ifnull(length(c.data), 0)
         FROM message m LEFT JOIN content c ON c.id = m.id
         WHERE m.content_file IS NOT NULL AND m.finished_at IS NULL ORDER BY m.id",
    )?;
    let named = find.query_map([], |row| {
        let size: i64 = row.get(2)?;
        Ok(Named { message: row.get(0)?, file: row.get(1)?, size: u64::try_from(size).unwrap_or(0) })
    })?;
    named.collect()
}

fn is_finished(live: &Reader, message: i64) -> rusqlite::Result<bool> {
    let connection = live.lock();
    let waits = connection
        .prepare_cached("SELECT 1 FROM message WHERE id = ?1 AND finished_at IS NULL")?
        .query_row([message], |_| Ok(()))
        .optional()?;
    Ok(waits.is_none())
}

fn waiting_messages(connection: &Connection) -> rusqlite::Result<u64> {
    let count: i64 =
        connection
            .query_row("SELECT count(*) FROM message WHERE finished_at IS NULL", [], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Where content files go.
enum Sink<'a> {
    Directory(PathBuf),
    Rows(&'a Connection),
}

impl Sink<'_> {
    fn store(&self, named: &Named, from: &mut File) -> io::Result<()> {
        match self {
            Self::Directory(directory) => {
                let path = directory.join(QueueId::from_i64(named.file).to_string());
                let mut to = File::options().create_new(true).write(true).mode(0o600).open(path)?;
                copy_pieces(from, &mut to)?;
                to.sync_all()
            }
            Self::Rows(connection) => {
                let failed = |error: rusqlite::Error| io::Error::other(error.to_string());
                let size = from.metadata()?.len();
                let size = i32::try_from(size).map_err(|_| io::Error::other("larger than 2 GB"))?;
                connection
                    .prepare_cached("INSERT INTO backup_file (file, data) VALUES (?1, zeroblob(?2))")
                    .and_then(|mut insert| insert.execute(params![named.file, size]))
                    .map_err(failed)?;
                let mut blob =
                    connection.blob_open("main", "backup_file", "data", named.file, false).map_err(failed)?;
                copy_pieces(from, &mut blob)?;
                blob.close().map_err(failed)
            }
        }
    }
}

fn copy_pieces(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece)?;
        let Some(read) = piece.get(..length).filter(|read| !read.is_empty()) else { return Ok(()) };
        to.write_all(read)?;
    }
}

/// Puts a backup in place of the queue in `state`, which no daemon may have open. A queue that is there is replaced only
/// with `force`, and kept aside.
///
/// # Errors
/// `BackupError`; the queue in `state` is then as it was before.
pub fn restore(source: &Path, state: &Path, force: bool, progress: Progress<'_>) -> Result<Moved> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(at(state))?;
    let _lock = lock(state)?;
    finish_restore(state).map_err(at(state))?;
    if !force && state.join(DATABASE).exists() && !is_empty_queue(state)? {
        return Err(BackupError::Exists(state.join(DATABASE)));
    }
    let building = begin(state)?;
    let moved = build(source, &building, progress);
    let mut moved = match moved {
        Ok(moved) => moved,
        Err(error) => {
            let _ = remove(&building);
            return Err(error);
        }
    };
    moved.aside = Some(put_in_place(state, "replaced")?).filter(|path| path.exists());
    Ok(moved)
}

/// An empty directory to build in what is to be put in place.
pub(crate) fn begin(state: &Path) -> Result<PathBuf> {
    let building = state.join(BUILDING);
    remove(&building)?;
    make_directory(&building)?;
    Ok(building)
}

/// Declares what was built complete and puts it in place. Returns where what was there before lies, if anything was.
pub(crate) fn put_in_place(state: &Path, word: &str) -> Result<PathBuf> {
    let building = state.join(BUILDING);
    give_to_owner_of(state, &building).map_err(at(&building))?;
    crash::point("restore-built");
    let aside = format!("{word}-{}", unix_seconds(SystemTime::now()));
    fs::write(building.join("aside"), &aside).map_err(at(&building))?;
    sync(&building.join("aside"))?;
    sync(&building)?;
    fs::rename(&building, state.join(READY)).map_err(at(state))?;
    sync(state)?;
    crash::point("restore-ready");
    finish_restore(state).map_err(at(state))?;
    Ok(state.join(aside))
}

/// A queue without a single message, as a daemon makes at its first start.
fn is_empty_queue(state: &Path) -> Result<bool> {
    let counts = Reader::open(state)?.counts();
    let counts = counts.map_err(|error| BackupError::Disk(state.join(DATABASE), error.to_string()))?;
    Ok(counts.messages == 0 && counts.finished == 0)
}

/// Makes a state directory of a backup, verified and synced.
fn build(source: &Path, building: &Path, progress: Progress<'_>) -> Result<Moved> {
    let (from, files) = match source.is_dir() {
        true => (source.join(DATABASE), Some(source.join(DIRECTORY))),
        false => (source.to_owned(), None),
    };
    if !from.exists() {
        return Err(OpenError::Missing { path: from }.into());
    }
    let database = building.join(DATABASE);
    progress("database", 0, 0);
    // Through SQLite: the directory may be a state directory whose last commits are still in its log.
    let original = reader::open_connection(&from)?;
    crate::schema::refuse_foreign(&original, &from)?;
    File::options().create_new(true).write(true).mode(0o600).open(&database).map_err(at(&database))?;
    original.execute("VACUUM INTO ?1", params![database.to_string_lossy()]).map_err(in_database(&from))?;
    drop(original);
    let directory = building.join(DIRECTORY);
    make_directory(&directory)?;
    let copy = Connection::open(&database).map_err(in_database(&database))?;
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
        .map_err(in_database(&database))?;
    let named = named_files(&copy).map_err(in_database(&database))?;
    let total: u64 = named.iter().map(|named| named.size).sum();
    let (mut done, mut count) = (0, 0);
    let sink = Sink::Directory(directory.clone());
    for named in named {
        progress("content", done, total);
        let stored = match &files {
            Some(files) => {
                let path = files.join(QueueId::from_i64(named.file).to_string());
                File::open(path).and_then(|mut file| sink.store(&named, &mut file))
            }
            None => take_out(&copy, &directory, &named),
        };
        match stored {
            Ok(()) => count += 1,
            // It is verified below, and the message is set aside when its turn comes.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&directory)(error)),
        }
        done += named.size;
    }
    copy.execute_batch("DROP TABLE IF EXISTS backup_file; VACUUM").map_err(in_database(&database))?;
    let messages = waiting_messages(&copy).map_err(in_database(&database))?;
    copy.close().map_err(|(_, error)| in_database(&database)(error))?;
    sync(&database)?;
    sync(&directory)?;
    check(source, building, progress)?;
    let bytes = fs::metadata(&database).map_err(at(&database))?.len() + done;
    Ok(Moved { messages, files: count, bytes, aside: None })
}

/// One content file out of the file form.
fn take_out(copy: &Connection, directory: &Path, named: &Named) -> io::Result<()> {
    let Ok(mut blob) = copy.blob_open("main", "backup_file", "data", named.file, true) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let path = directory.join(QueueId::from_i64(named.file).to_string());
    let mut to = File::options().create_new(true).write(true).mode(0o600).open(path)?;
    copy_pieces(&mut blob, &mut to)?;
    to.sync_all()
}

/// A damaged database is not restored. A message that is damaged by itself does not keep the others from coming back.
fn check(source: &Path, building: &Path, progress: Progress<'_>) -> Result<()> {
    let verified = match verify(building, &mut |step| progress(step, 0, 0)) {
        Ok(verified) => verified,
        // An older schema is migrated when the daemon starts, and cannot be judged before.
        Err(OpenError::Older { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let damage = |problem: &&Problem| matches!(problem.kind, ProblemKind::Database | ProblemKind::Books);
    if verified.problems.iter().any(|problem| damage(&problem)) {
        return Err(BackupError::Damaged(source.to_owned(), verified.problems));
    }
    for problem in verified.problems {
        log::warn!(
            "event=restored-as-it-was qid={} reason={:?}",
            problem.message.unwrap_or_default(),
            problem.text
        );
    }
    Ok(())
}

/// Finishes a restore that was declared complete: moves what was there aside and what is new in place. Can be killed at any
/// point and called again. Call with the lock held.
pub(crate) fn finish_restore(state: &Path) -> io::Result<()> {
    let ready = state.join(READY);
    if !ready.is_dir() {
        return Ok(());
    }
    let name = fs::read_to_string(ready.join("aside"))?;
    // The name is ours; whoever could write another here could write the whole queue.
    let aside = state.join(Path::new(name.trim()).file_name().unwrap_or_else(|| "replaced".as_ref()));
    let new = ready.join(DATABASE);
    if new.exists() {
        // The log goes with the database that it belongs to, before the new one takes its place.
        for old in ["queue.db-wal", "queue.db-shm", DATABASE] {
            move_aside(state, old, &aside)?;
        }
        fs::rename(&new, state.join(DATABASE))?;
        File::open(state)?.sync_all()?;
        crash::point("restore-database-placed");
    }
    let new = ready.join(DIRECTORY);
    if new.exists() {
        move_aside(state, DIRECTORY, &aside)?;
        fs::rename(&new, state.join(DIRECTORY))?;
        File::open(state)?.sync_all()?;
        crash::point("restore-content-placed");
    }
    fs::remove_dir_all(&ready)?;
    File::open(state)?.sync_all()?;
    log::info!("event=queue-replaced before={}", aside.display());
    Ok(())
}

fn move_aside(state: &Path, name: &str, aside: &Path) -> io::Result<()> {
    let old = state.join(name);
    if !old.exists() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(aside)?;
    fs::rename(&old, aside.join(name))?;
    File::open(aside)?.sync_all()?;
    crash::point("restore-moved-aside");
    Ok(())
}

/// What root restores belongs to whom the state directory belongs to.
fn give_to_owner_of(state: &Path, path: &Path) -> io::Result<()> {
    let owner = fs::metadata(state)?;
    let own = fs::metadata(path)?;
    if (owner.uid(), owner.gid()) != (own.uid(), own.gid()) {
        std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()))?;
    }
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give_to_owner_of(state, &entry?.path())?;
        }
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(at(path))
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
