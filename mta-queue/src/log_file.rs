//! The write-ahead log as a file: making it good after a sync that failed, or that another process may have seen fail.
//!
//! Linux reports a page that could not be written to the disk once: to the `fsync` that meets it. Then it takes the page for
//! clean, and the next `fsync` succeeds without it. SQLite tries a commit again as if nothing had happened, behind a hole in
//! the chain of frames at which a recovery after power loss ends, whatever was synced behind it. And the frames of the commit
//! that failed are still in the file: a process that is killed now finds them, complete, and takes them for committed.
//!
//! So after such a failure nothing is committed until the log was made good: all its octets are written once more, so that
//! they are written to the disk again; they are synced; one commit takes the place of the one that failed, and with that
//! everything behind it has lost its place in the chain; and the chain is read back to its end. A file system that gives
//! back the old octets of a page it could not write (Btrfs does) is found out so: what is then on the disk is the log up to
//! the last sync that succeeded, and only a recovery, by a new process, gets there.
//!
//! The format is that of <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>. What it does not: it decides nothing
//! (`writer` does).

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::Connection;

use crate::error::QueueError;

/// Octets of the log's own header.
const HEADER: usize = 32;

/// Octets in front of each page.
const FRAME_HEADER: usize = 24;

/// The first octets of a log; the last bit says in which order of octets its checksums are made.
const MAGIC: u32 = 0x377f_0682;

/// Pages of a database have this many octets at most.
const MAX_PAGE: usize = 65_536;

/// Octets written again at once.
const PIECE: usize = 64 << 10;

/// A commit for its sync alone, which takes in the whole log before it. A change that changes nothing would commit nothing.
pub(crate) const SYNC: &str = "UPDATE totals SET last_id = last_id + 1";

/// Why a log could not be made good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotGood {
    /// It could not be written or synced: as before, nothing may be committed.
    Disk(QueueError),
    /// It does not hold what was committed. Only a new process gets to what the disk has.
    Broken,
}

impl<E: Into<QueueError>> From<E> for NotGood {
    fn from(error: E) -> Self {
        Self::Disk(error.into())
    }
}

/// The log of a database.
pub(crate) fn path_of(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

/// Whether there is anything in the log.
pub(crate) fn is_used(log: &Path) -> bool {
    log.metadata().is_ok_and(|found| found.len() > 0)
}

/// Makes the log good. The connection must be the one that writes, outside a transaction, with `synchronous=FULL`;
/// `pages` is where it says how many pages the log has. `totals.last_id` is one more afterwards.
pub(crate) fn make_good(connection: &Connection, log: &Path, pages: &AtomicUsize) -> Result<(), NotGood> {
    write_again(log)?;
    connection.execute(SYNC, [])?;
    if !is_whole(log, pages.load(Ordering::Relaxed))? {
        return Err(NotGood::Broken);
    }
    Ok(())
}

/// Writes every octet of a file to where it is, and syncs it.
fn write_again(path: &Path) -> io::Result<()> {
    let file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut piece, at)?;
        if read == 0 {
            break;
        }
        file.write_all_at(piece.get(..read).unwrap_or_default(), at)?;
        at += read as u64;
    }
    file.sync_data()
}

/// Whether the first so many frames are a chain, each with the checksum that follows from all before it.
fn is_whole(path: &Path, frames: usize) -> io::Result<bool> {
    let mut file = io::BufReader::with_capacity(PIECE, File::open(path)?);
    let mut header = [0; HEADER];
    if !filled(file.read_exact(&mut header))? {
        return Ok(frames == 0);
    }
    let magic = number(&header, 0);
    let page = number(&header, 8) as usize;
    if magic & !1 != MAGIC || !page.is_power_of_two() || page > MAX_PAGE {
        return Ok(frames == 0);
    }
    let mut sum = Checksum { big_endian: magic & 1 == 1, value: (0, 0) };
    sum.add(part(&header, 0, 24));
    if !sum.is(&header, 24) {
        return Ok(frames == 0);
    }
    let mut frame = vec![0; FRAME_HEADER + page];
    for _ in 0..frames {
        if !filled(file.read_exact(&mut frame))? {
            return Ok(false);
        }
        sum.add(part(&frame, 0, 8));
        sum.add(part(&frame, FRAME_HEADER, FRAME_HEADER + page));
        // The salts are those of the log as it was begun last: other frames are left over from before.
        if part(&frame, 8, 16) != part(&header, 16, 24) || !sum.is(&frame, 16) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// False where the file ended before.
fn filled(read: io::Result<()>) -> io::Result<bool> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|()| true),
    }
}

fn part(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    bytes.get(from..to).unwrap_or_default()
}

fn word(bytes: &[u8], at: usize) -> [u8; 4] {
    part(bytes, at, at + 4).try_into().unwrap_or_default()
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(word(bytes, at))
}

/// The running checksum of a log.
struct Checksum {
    big_endian: bool,
    value: (u32, u32),
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        let read = if self.big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
        for pair in bytes.chunks_exact(8) {
            self.value.0 = self.value.0.wrapping_add(read(word(pair, 0))).wrapping_add(self.value.1);
            self.value.1 = self.value.1.wrapping_add(read(word(pair, 4))).wrapping_add(self.value.0);
        }
    }

    /// Whether it is the one that stands there.
    fn is(&self, bytes: &[u8], at: usize) -> bool {
        self.value == (number(bytes, at), number(bytes, at + 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of some commits, in a database whose connection is still open.
    fn some_log(directory: &Path) -> (Connection, PathBuf, usize) {
        let path = directory.join("some.db");
        let connection = Connection::open(&path).expect("a database");
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x);
                 CREATE TABLE totals (last_id INTEGER); INSERT INTO totals VALUES (1);",
            )
            .expect("made");
        for _ in 0..5 {
            connection.execute("INSERT INTO t VALUES (zeroblob(9000))", []).expect("filled");
        }
        let log = path_of(&path);
        let frames = (log.metadata().expect("a log").len() as usize - HEADER) / (FRAME_HEADER + 4096);
        (connection, log, frames)
    }

    #[test]
    fn a_chain_is_as_long_as_sqlite_made_it_and_ends_at_the_first_wrong_octet() {
        let directory = tempfile::tempdir().expect("directory");
        let (_connection, log, frames) = some_log(directory.path());
        assert!(frames > 10);
        assert!(is_whole(&log, frames).expect("read"));
        assert!(!is_whole(&log, frames + 1).expect("read"), "there is no more");
        let whole = std::fs::read(&log).expect("read");
        for at in (0..whole.len()).step_by(97) {
            let mut wrong = whole.clone();
            wrong[at] ^= 1;
            std::fs::write(&log, &wrong).expect("written");
            let before = at.saturating_sub(HEADER) / (FRAME_HEADER + 4096);
            assert!(!is_whole(&log, frames).expect("read"), "octet {at}");
            assert!(at < HEADER || is_whole(&log, before).expect("read"), "octet {at}: those before it");
        }
        std::fs::write(&log, &whole).expect("written");
    }

    #[test]
    fn a_log_is_the_same_when_it_was_written_again() {
        let directory = tempfile::tempdir().expect("directory");
        let (connection, log, frames) = some_log(directory.path());
        let before = std::fs::read(&log).expect("read");
        write_again(&log).expect("written");
        assert_eq!(std::fs::read(&log).expect("read"), before);
        assert_eq!(make_good(&connection, &log, &AtomicUsize::new(frames)), Ok(()));
        assert!(
            is_whole(&log, frames + 1).expect("read"),
            "the commit that takes the place of the failed one"
        );
        assert_eq!(make_good(&connection, &log, &AtomicUsize::new(999)), Err(NotGood::Broken));
    }
}
