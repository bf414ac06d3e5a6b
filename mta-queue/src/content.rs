//! Content, streamed in and out.
//!
//! Small content travels in memory and lies in the database, so that it costs no sync of its own. Larger content is
//! written, while it arrives, to a file in the state directory that has no name; `finish` syncs it, gives it its name and
//! syncs the directory, all on the caller's thread, so that nobody waits for it but its own session. The writer then
//! commits a row that names the file. A file that no row names is deleted at the next start. The figures behind this
//! are in DESIGN.md.
//!
//! The front of a message (its header section) is known last, when what stands behind it has been seen: `finish_behind`
//! puts it before what was written. Where that is large, the front lies in the database and the rest in the file.
//!
//! What it does not: nothing here knows SQL, what a message is, or what its bytes mean.

use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, statvfs};
use rustix::io::Errno;

use crate::crash;
use crate::id::{IdSource, QueueId};

/// The directory of large content inside the state directory.
pub(crate) const DIRECTORY: &str = "content";

/// Ends the names of files that are not complete, where the file system knows no unnamed ones.
const INCOMPLETE: &str = ".tmp";

/// Inodes that the file system keeps; on a small one a twentieth of all.
const RESERVE_INODES: u64 = 256;

/// After so many octets of large content the free space is looked at again.
const CHECK_SPACE_EVERY: u64 = 1 << 20;

/// Where large content lies.
#[derive(Debug)]
pub(crate) struct ContentStore {
    directory: PathBuf,
    inline_bytes: usize,
    /// Free space the file system keeps, octets.
    reserve_bytes: u64,
    ids: Arc<IdSource>,
    /// Whether the file system can make files without a name and we can name them later.
    unnamed: bool,
    /// Files synced since the start.
    pub(crate) synced: AtomicUsize,
    /// Octets written to files since the start.
    pub(crate) written: Mutex<u64>,
    /// Whether the reserve was touched when it was last looked at, and who hears when that changes.
    short: AtomicBool,
    on_space: Mutex<Option<OnSpace>>,
}

/// Is told `true` where the reserve is touched and no mail is taken any more, and `false` when there is space again.
#[derive(Clone)]
pub(crate) struct OnSpace(pub(crate) Arc<dyn Fn(bool) + Send + Sync>);

impl std::fmt::Debug for OnSpace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnSpace")
    }
}

impl ContentStore {
    /// The store below `state`, making its directory.
    pub(crate) fn open(
        state: &Path,
        inline_bytes: usize,
        reserve_bytes: u64,
        ids: Arc<IdSource>,
    ) -> io::Result<Arc<Self>> {
        let directory = state.join(DIRECTORY);
        if !directory.is_dir() {
            fs::create_dir_all(&directory)?;
            // A file is only as safe as the name of the directory it lies in.
            File::open(state)?.sync_all()?;
        }
        let unnamed =
            unnamed_file(&directory).is_ok_and(|file| Path::new(&name_of_open_file(&file)).exists());
        let (synced, written) = (AtomicUsize::new(0), Mutex::new(0));
        let (short, on_space) = (AtomicBool::new(false), Mutex::new(None));
        Ok(Arc::new(Self {
            directory,
            inline_bytes,
            reserve_bytes,
            ids,
            unnamed,
            synced,
            written,
            short,
            on_space,
        }))
    }

    /// Whether so many octets fit beside the reserve.
    ///
    /// # Errors
    /// `StorageFull` where they do not; what the file system reports.
    pub(crate) fn check_space(&self, size_bytes: u64) -> io::Result<()> {
        let free = statvfs(&self.directory)?;
        let needed = self.reserve_bytes.saturating_add(size_bytes);
        let few_inodes = are_few_inodes(free.f_files, free.f_favail);
        let free_bytes = free.f_bavail.saturating_mul(free.f_frsize);
        self.tell(free_bytes < self.reserve_bytes || few_inodes);
        if free_bytes < needed || few_inodes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Calls `heard` when the reserve is touched, and when it is free again.
    pub(crate) fn on_space(&self, heard: OnSpace) {
        *self.on_space.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
    }

    fn tell(&self, short: bool) {
        if self.short.swap(short, Ordering::Relaxed) != short {
            let heard = self.on_space.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(OnSpace(heard)) = heard {
                heard(short);
            }
        }
    }

    /// The path of a file that was finished.
    pub(crate) fn path(&self, file: i64) -> PathBuf {
        path_of(&self.directory, file)
    }

    /// Deletes a file. One that is gone already is fine.
    pub(crate) fn delete(&self, file: i64) {
        delete(&self.path(file));
    }

    /// Deletes what a killed process left: incomplete files, and those that `known` does not know.
    pub(crate) fn sweep(&self, mut known: impl FnMut(i64) -> bool) -> io::Result<usize> {
        let mut deleted = 0;
        for entry in read_entries(&self.directory)? {
            let path = match entry? {
                Entry::Content(id) if !known(id) => self.path(id),
                Entry::Incomplete(path) => path,
                Entry::Content(_) | Entry::Foreign(_) => continue,
            };
            delete(&path);
            crash::point("orphan-deleted");
            deleted += 1;
        }
        Ok(deleted)
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

/// Whether no more files should be made: the database's own files, Maildirs and everybody else need some, too. A file
/// system without a fixed number of inodes reports none at all.
fn are_few_inodes(all: u64, free: u64) -> bool {
    all > 0 && free < RESERVE_INODES.min(all / 20).max(1)
}

/// What lies in the content directory.
pub(crate) enum Entry {
    /// A complete file, by its number.
    Content(i64),
    /// A file that was never finished.
    Incomplete(PathBuf),
    /// Nothing of ours.
    Foreign(PathBuf),
}

/// What lies in the content directory of a queue; nothing where there is none.
pub(crate) fn entries(state: &Path) -> io::Result<Vec<Entry>> {
    match read_entries(&state.join(DIRECTORY)) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn read_entries(directory: &Path) -> io::Result<impl Iterator<Item = io::Result<Entry>>> {
    Ok(fs::read_dir(directory)?.map(|entry| {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        Ok(match name.parse::<QueueId>() {
            // An id has one spelling: a file of any other is not ours.
            Ok(id) if id.to_string() == name => Entry::Content(id.as_i64()),
            _ if name.ends_with(INCOMPLETE) => Entry::Incomplete(entry.path()),
            _ => Entry::Foreign(entry.path()),
        })
    }))
}

/// The path of a content file below the state directory, for readers that have no store.
pub(crate) fn stored_path(state: &Path, file: i64) -> PathBuf {
    path_of(&state.join(DIRECTORY), file)
}

fn path_of(directory: &Path, file: i64) -> PathBuf {
    directory.join(QueueId::from_i64(file).to_string())
}

fn delete(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("event=content-not-deleted file={} error={:?}", path.display(), error.kind());
    }
}

fn unnamed_file(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?))
}

fn name_of_open_file(file: &File) -> String {
    use std::os::fd::AsRawFd;

    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Takes the content of one message while it arrives. Memory is bounded: what is larger than
/// `Options::inline_bytes` goes to a file in the state directory that has no name until `finish`.
///
/// Writes block on the disk; call from a thread that may. Dropped before `finish`, it leaves nothing behind.
#[derive(Debug)]
pub struct ContentWriter {
    store: Arc<ContentStore>,
    /// What is not in the file yet; never larger than `inline_bytes`.
    buffer: Vec<u8>,
    spill: Option<Spill>,
    size_bytes: u64,
    /// The size at which the free space is looked at next.
    check_at: u64,
}

/// The file of content that is too large for memory.
#[derive(Debug)]
struct Spill {
    file: File,
    /// Its number once it is finished.
    id: i64,
    /// Its name until then, where it has one; deleted when dropped.
    incomplete: Option<PathBuf>,
}

impl Drop for Spill {
    fn drop(&mut self) {
        if let Some(path) = &self.incomplete {
            delete(path);
        }
    }
}

impl ContentWriter {
    pub(crate) fn new(store: Arc<ContentStore>) -> Self {
        Self { store, buffer: Vec::new(), spill: None, size_bytes: 0, check_at: 0 }
    }

    /// Octets written so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The content is complete. Large content is on stable storage when this returns; blocks for it.
    ///
    /// # Errors
    /// What the disk reports; `StorageFull` where it is full.
    pub fn finish(self) -> io::Result<Content> {
        self.finish_behind(Vec::new())
    }

    /// As `finish`, with `front` before everything that was written.
    ///
    /// # Errors
    /// What the disk reports; `StorageFull` where it is full.
    pub fn finish_behind(mut self, mut front: Vec<u8>) -> io::Result<Content> {
        let size_bytes = self.size_bytes.saturating_add(front.len() as u64);
        if self.spill.is_none() {
            front.extend_from_slice(&std::mem::take(&mut self.buffer));
            return Ok(Content { front: front.into(), file: None, size_bytes });
        }
        self.flush_buffer()?;
        let Some(spill) = self.spill.take() else { return Err(io::Error::other("no spill file")) };
        let file = name_spill(&self.store, spill)?;
        Ok(Content { front: front.into(), file: Some(file), size_bytes })
    }

    fn flush_buffer(&mut self) -> io::Result<()> {
        if self.size_bytes >= self.check_at {
            self.store.check_space(0)?;
            self.check_at = self.size_bytes.saturating_add(CHECK_SPACE_EVERY);
        }
        if self.spill.is_none() {
            self.spill = Some(self.open_spill()?);
        }
        if let Some(spill) = &mut self.spill {
            spill.file.write_all(&self.buffer)?;
            *self.store.written.lock().unwrap_or_else(PoisonError::into_inner) += self.buffer.len() as u64;
            crash::point("content-arriving");
        }
        self.buffer.clear();
        Ok(())
    }

    fn open_spill(&self) -> io::Result<Spill> {
        let id = self.store.ids.next(SystemTime::now()).as_i64();
        if self.store.unnamed {
            return Ok(Spill { file: unnamed_file(&self.store.directory)?, id, incomplete: None });
        }
        let mut path = self.store.path(id).into_os_string();
        path.push(INCOMPLETE);
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        Ok(Spill { file, id, incomplete: Some(path.into()) })
    }
}

/// Syncs a spill file, names it, and syncs the name.
fn name_spill(store: &Arc<ContentStore>, mut spill: Spill) -> io::Result<StoredFile> {
    spill.file.sync_all()?;
    crash::point("content-synced");
    let path = store.path(spill.id);
    match spill.incomplete.take() {
        Some(incomplete) => {
            if let Err(error) = rename_to_new(&incomplete, &path) {
                spill.incomplete = Some(incomplete);
                return Err(error);
            }
        }
        None => rustix::fs::linkat(CWD, name_of_open_file(&spill.file), CWD, &path, AtFlags::SYMLINK_FOLLOW)?,
    }
    crash::point("content-named");
    let stored = StoredFile { store: Arc::clone(store), id: spill.id, keep: false };
    store.sync_directory()?;
    crash::point("content-complete");
    store.synced.fetch_add(1, Ordering::Relaxed);
    Ok(stored)
}

/// Gives a file a name that no other has: what lies there already is mail, whatever the clock said when it was named.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // File systems that do not know this know second names.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

impl Write for ContentWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.store.inline_bytes.saturating_sub(self.buffer.len());
        if bytes.len() > room {
            self.flush_buffer()?;
        }
        // A piece larger than the buffer goes through it in turns; `write` may take less than it was given.
        let taken = bytes.len().min(self.store.inline_bytes.max(1));
        self.buffer.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        self.size_bytes = self.size_bytes.saturating_add(taken as u64);
        Ok(taken)
    }

    /// Does nothing: what is not finished need not survive.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Complete content that no message refers to yet. Dropped without being accepted, it is deleted.
#[derive(Debug)]
pub struct Content {
    /// For the database: all of it, or what comes before the file.
    pub(crate) front: Arc<[u8]>,
    /// The rest, synced and named, where it is large.
    pub(crate) file: Option<StoredFile>,
    size_bytes: u64,
}

/// A complete file, deleted when dropped unless a committed row names it.
#[derive(Debug)]
pub(crate) struct StoredFile {
    store: Arc<ContentStore>,
    pub(crate) id: i64,
    keep: bool,
}

impl Drop for StoredFile {
    fn drop(&mut self) {
        if !self.keep {
            self.store.delete(self.id);
        }
    }
}

impl Content {
    /// Its size in octets.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Reads it from the start, before it is accepted (header checks, signatures).
    ///
    /// # Errors
    /// What the disk reports.
    pub fn open(&self) -> io::Result<ContentReader> {
        match &self.file {
            None => Ok(ContentReader::from_memory(Arc::clone(&self.front))),
            Some(file) => {
                let path = file.store.path(file.id);
                ContentReader::from_file(Arc::clone(&self.front), &path, self.size_bytes)
            }
        }
    }

    /// A committed row refers to it now.
    pub(crate) fn keep(mut self) {
        self.keep_file();
    }

    /// A row may refer to it: its file stays, whatever becomes of this value. The next start deletes it if none does.
    pub(crate) fn keep_file(&mut self) {
        if let Some(file) = &mut self.file {
            file.keep = true;
        }
    }
}

/// Reads stored content from its first octet. Blocks on the disk.
#[derive(Debug)]
pub struct ContentReader {
    front: Cursor<Arc<[u8]>>,
    /// What comes behind the front.
    file: Option<File>,
    size_bytes: u64,
}

impl ContentReader {
    pub(crate) fn from_memory(bytes: Arc<[u8]>) -> Self {
        let size_bytes = bytes.len() as u64;
        Self { front: Cursor::new(bytes), file: None, size_bytes }
    }

    /// # Errors
    /// What the disk reports; `InvalidData` where front and file together have not the size they were stored with.
    pub(crate) fn from_file(front: Arc<[u8]>, path: &Path, size_bytes: u64) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len().checked_add(front.len() as u64) != Some(size_bytes) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the content file has another size than was stored",
            ));
        }
        Ok(Self { front: Cursor::new(front), file: Some(file), size_bytes })
    }

    /// The size of the whole content in octets.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Goes back to the first octet.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn rewind(&mut self) -> io::Result<()> {
        self.front.set_position(0);
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::Start(0))?;
        }
        Ok(())
    }
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.front.read(buffer)?, &mut self.file) {
            (0, Some(file)) => file.read(buffer),
            (octets, _) => Ok(octets),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn store(directory: &Path, unnamed: bool) -> Arc<ContentStore> {
        let ids = Arc::new(IdSource::new(0));
        let mut store = ContentStore::open(directory, 1000, 0, ids).expect("store");
        Arc::get_mut(&mut store).expect("alone").unnamed &= unnamed;
        store
    }

    fn files(directory: &Path) -> usize {
        fs::read_dir(directory.join(DIRECTORY)).expect("directory").count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn what_is_written_in_any_pieces_is_read_back(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..1500), 0..6),
            front in proptest::collection::vec(any::<u8>(), 0..1500),
            unnamed: bool,
        ) {
            let directory = tempfile::tempdir().expect("directory");
            let mut writer = ContentWriter::new(store(directory.path(), unnamed));
            for piece in &pieces {
                writer.write_all(piece).expect("write");
                prop_assert!(writer.buffer.capacity() <= 4096, "memory is bounded");
            }
            let large = pieces.concat().len() > 1000;
            let whole = [front.clone(), pieces.concat()].concat();
            let content = writer.finish_behind(front).expect("finish");
            prop_assert_eq!(content.size_bytes(), whole.len() as u64);
            prop_assert_eq!(files(directory.path()), usize::from(large));
            let mut read = Vec::new();
            let mut reader = content.open().expect("open");
            reader.read_to_end(&mut read).expect("read");
            prop_assert_eq!(&read, &whole);
            reader.rewind().expect("rewind");
            read.clear();
            reader.read_to_end(&mut read).expect("read");
            prop_assert_eq!(&read, &whole);
        }
    }

    #[test]
    fn content_that_is_not_accepted_leaves_no_file() {
        for unnamed in [true, false] {
            let directory = tempfile::tempdir().expect("directory");
            let store = store(directory.path(), unnamed);
            let mut writer = ContentWriter::new(Arc::clone(&store));
            writer.write_all(&[7; 5000]).expect("write");
            drop(writer);
            assert_eq!(files(directory.path()), 0, "cut off");
            let mut writer = ContentWriter::new(store);
            writer.write_all(&[7; 5000]).expect("write");
            drop(writer.finish().expect("finish"));
            assert_eq!(files(directory.path()), 0, "finished, refused");
        }
    }

    /// As after the clock went back: the number was given before.
    #[test]
    fn a_file_that_is_there_is_never_replaced() {
        for unnamed in [true, false] {
            let directory = tempfile::tempdir().expect("directory");
            let mut writer = ContentWriter::new(store(directory.path(), unnamed));
            writer.write_all(&[7; 5000]).expect("write");
            let older = writer.store.path(writer.spill.as_ref().expect("large").id);
            fs::write(&older, "older").expect("write");
            assert_eq!(writer.finish().map(drop).map_err(|e| e.kind()), Err(io::ErrorKind::AlreadyExists));
            assert_eq!(fs::read(&older).expect("read"), b"older");
            assert_eq!(files(directory.path()), 1, "nothing incomplete is left");
        }
    }

    #[test]
    fn some_inodes_are_kept_free() {
        for (all, free, few) in [
            (0, 0, false),
            (1_000_000, 256, false),
            (1_000_000, 255, true),
            (1_000, 50, false),
            (1_000, 49, true),
            (10, 1, false),
            (10, 0, true),
        ] {
            assert_eq!(are_few_inodes(all, free), few, "{free} of {all}");
        }
    }

    #[test]
    fn content_of_unknown_size_does_not_eat_the_reserve() {
        let directory = tempfile::tempdir().expect("directory");
        let store =
            ContentStore::open(directory.path(), 1000, u64::MAX, Arc::new(IdSource::new(0))).expect("store");
        let mut writer = ContentWriter::new(store);
        writer.write_all(&[7; 1000]).expect("memory takes it");
        assert_eq!(writer.write_all(&[7; 1000]).map_err(|e| e.kind()), Err(io::ErrorKind::StorageFull));
        drop(writer);
        assert_eq!(files(directory.path()), 0);
    }

    #[test]
    fn a_sweep_deletes_what_no_row_names_and_nothing_else() {
        let directory = tempfile::tempdir().expect("directory");
        let store = store(directory.path(), true);
        let mut kept = Vec::new();
        for _ in 0..3 {
            let mut writer = ContentWriter::new(Arc::clone(&store));
            writer.write_all(&[7; 5000]).expect("write");
            let content = writer.finish().expect("finish");
            if let Some(file) = &content.file {
                kept.push(file.id);
            }
            content.keep();
        }
        fs::write(store.directory.join("00000000abc.tmp"), "cut off").expect("write");
        fs::write(store.directory.join("README"), "somebody's note").expect("write");
        assert_eq!(store.sweep(|id| id == kept[1]).expect("sweep"), 3);
        assert_eq!(files(directory.path()), 2);
        assert!(store.path(kept[1]).exists());
    }

    #[test]
    fn a_file_of_another_size_is_not_read() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("x");
        fs::write(&path, "short").expect("write");
        for (front, size) in [("", 6), ("1", 5), ("12", 6)] {
            let front: Arc<[u8]> = front.as_bytes().into();
            assert_eq!(
                ContentReader::from_file(front, &path, size).map_err(|e| e.kind()).err(),
                Some(io::ErrorKind::InvalidData)
            );
        }
    }
}
