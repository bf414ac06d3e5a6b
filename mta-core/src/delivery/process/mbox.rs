//! Appending to an mbox (RFC 4155), as its owner.
//!
//! The file is a regular file of the user, with one name, reached without a link. It is locked by fcntl and by a lock file
//! beside it, as Debian wants it. A message is on stable storage when `Delivered` is answered. Whatever goes wrong
//! before that, the file is cut back to what it was; where the process is killed instead, the lock file that it leaves
//! says how long the file was, and the next delivery cuts it back: the message comes again, whole.
//!
//! What it does not: it repairs nothing that others wrote.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, OFlags, fcntl_lock};

use super::child::Letter;
use super::protocol::Answer;
use super::quoted::Quoted;
use super::server::MboxFormat;
use crate::delivery::copy::copy_local;

/// How long a lock is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// The pause between two looks at a lock; short in tests, so that they meet at the lock often.
const LOCK_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 100 });

/// A lock file that is older belongs to nobody any more.
const STALE_AFTER: Duration = Duration::from_secs(600);

/// The beginning of what our lock files say.
const LOCK_MARK: &[u8] = b"mta";

/// A mailbox that is open and locked.
///
/// The order of the fields matters: the lock file goes first, while the lock of the file itself still holds. The other
/// way round the next delivery would come in between and read a lock file of the living as one of the dead.
pub(super) struct Mbox {
    path: PathBuf,
    lock: Option<LockFile>,
    file: File,
    /// How long it was.
    size: u64,
    /// What the message begins with.
    head: Vec<u8>,
}

impl Mbox {
    /// Opens, checks and locks a mailbox, which is made where there is none.
    pub(super) fn open(path: &Path, letter: &Letter<'_>) -> Result<Self, Answer> {
        let until = Instant::now() + LOCK_WAIT;
        loop {
            let file = open(path).map_err(|error| trouble(path, &error))?;
            check(path, &file)?;
            let locked = match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => LockFile::take(path).map_err(|error| trouble(path, &error))?,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Lock::Busy,
                Err(error) => return Err(trouble(path, &error.into())),
            };
            // Whoever read the mailbox may have put another file in its place meanwhile.
            let same = is_same(path, &file);
            match locked {
                Lock::Busy => {}
                // The lock file first, as below.
                locked if !same => drop(locked),
                locked => return Self::locked(path, file, locked, letter),
            }
            if Instant::now() > until {
                return Err(Answer::deferred(
                    (2, 0),
                    format!("{} is locked by somebody else", path.display()),
                ));
            }
            drop(file);
            std::thread::sleep(LOCK_PAUSE);
        }
    }

    fn locked(path: &Path, file: File, lock: Lock, letter: &Letter<'_>) -> Result<Self, Answer> {
        let (lock, left) = match lock {
            Lock::Taken(lock, left) => (Some(lock), left),
            Lock::NotPossible | Lock::Busy => (None, None),
        };
        let mut mbox = Self { path: path.to_owned(), lock, file, size: 0, head: Vec::new() };
        let prepared = mbox.prepare(left, letter);
        prepared.map_err(|error| trouble(path, &error))?;
        Ok(mbox)
    }

    /// Cuts off what a killed delivery left, and notes how long the file is.
    fn prepare(&mut self, left: Option<Left>, letter: &Letter<'_>) -> io::Result<()> {
        self.size = self.file.metadata()?.len();
        if let Some(left) = left
            && left.size < self.size
            && self.is_our_remainder(&left)?
        {
            self.file.set_len(left.size)?;
            self.file.sync_all()?;
            self.size = left.size;
        }
        self.head = self.head(letter)?;
        match &mut self.lock {
            Some(lock) => lock.note(&Left { size: self.size, head: self.head.clone() }),
            None => Ok(()),
        }
    }

    /// The lines in front of a message's own header. A message of others may end without a line end; what follows must
    /// begin on a line.
    fn head(&mut self, letter: &Letter<'_>) -> io::Result<Vec<u8>> {
        let line_end = if self.needs_line_end()? { "\n" } else { "" };
        let (envelope, mark) = (envelope_line(letter), mark(letter.unique));
        Ok(format!("{line_end}{envelope}{}{mark}\n", letter.trace()).into_bytes())
    }

    /// Whether what stands behind the noted end is the message that was being written, and nothing of anybody else: other
    /// programs append to a mailbox, or write it anew, without a look at the lock file that stayed.
    fn is_our_remainder(&mut self, left: &Left) -> io::Result<bool> {
        const MOST: u64 = 1 << 30;

        if self.size - left.size > MOST {
            return Ok(false);
        }
        self.file.seek(SeekFrom::Start(left.size))?;
        let mut reader = io::BufReader::new(&self.file);
        let mut start = Vec::new();
        reader.by_ref().take(left.head.len() as u64).read_to_end(&mut start)?;
        if start != left.head {
            return Ok(!start.is_empty() && left.head.starts_with(&start));
        }
        let mut line = Vec::new();
        while read_line(&mut reader, &mut line)? {
            // Of a line that is not read whole nobody knows what stands in it.
            if line.len() > MAX_LINE || is_envelope_within(&line) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Appends the message.
    pub(super) fn append(&mut self, format: MboxFormat, content: &mut dyn Read) -> Result<Answer, Answer> {
        let mut content = Tagged { inner: content, failed: false };
        let written = self.write(format, &mut content).and_then(|()| self.nothing_is_left());
        let failed = content.failed;
        match written {
            Ok(()) => Ok(Answer::Delivered(format!("delivered to {}", self.path.display()))),
            Err(error) => {
                self.take_back();
                if failed {
                    return Err(Answer::deferred((3, 0), format!("the content did not come whole: {error}")));
                }
                Err(trouble(&self.path, &error))
            }
        }
    }

    fn write(&mut self, format: MboxFormat, content: &mut dyn Read) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.size))?;
        let mut out = BufWriter::with_capacity(64 * 1024, &self.file);
        out.write_all(&self.head)?;
        let mut quoted = Quoted::new(&mut out, format);
        copy_local(content, b"", &mut quoted)?;
        quoted.finish()?;
        out.flush()?;
        drop(out);
        self.file.sync_all()?;
        self.entry()
    }

    /// A mailbox that held nothing may have been made just now: its entry has to be on stable storage, too.
    fn entry(&self) -> io::Result<()> {
        if self.size > 0 {
            return Ok(());
        }
        match self.path.parent().map(File::open) {
            Some(Ok(folder)) => folder.sync_all(),
            // A folder that may be written and not read.
            Some(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                Ok(rustix::fs::syncfs(&self.file)?)
            }
            Some(Err(error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Takes back the note of the lock file, on stable storage like the message: neither a kill nor a power cut from here
    /// on may leave anything by which the next delivery would cut off what was answered.
    fn nothing_is_left(&self) -> io::Result<()> {
        self.lock.as_ref().map_or(Ok(()), LockFile::nothing_is_left)
    }

    fn needs_line_end(&mut self) -> io::Result<bool> {
        if self.size == 0 {
            return Ok(false);
        }
        self.file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        self.file.read_exact(&mut last)?;
        Ok(last != *b"\n")
    }

    /// The file as it was.
    fn take_back(&self) {
        let cut = self.file.set_len(self.size).and_then(|()| self.file.sync_all());
        if let Err(error) = cut {
            // The lock file stays and says how long the file was; the next delivery tries again.
            eprintln!(
                "mta-cli deliver: {}: cannot cut off an unfinished message: {error}",
                self.path.display()
            );
            if let Some(lock) = &self.lock {
                lock.keep();
            }
        }
    }
}

/// Whether an envelope line (RFC 4155: `From `, and a time of day further on) begins in this line, other than one that
/// we marked by a `>`. Not only at its start: the line before may have lacked its end.
fn is_envelope_within(line: &[u8]) -> bool {
    let signs = line.iter().take_while(|byte| **byte == b'>').count();
    let text = line.get(signs..).unwrap_or_default();
    memchr::memmem::find_iter(text, b"From ").any(|at| {
        let rest = text.get(at..).unwrap_or_default();
        let starts_line = at == 0 && signs == 0;
        let has_time = rest.windows(6).any(|six| {
            matches!(six, [b' ', a, b, b':', c, d] if [a, b, c, d].iter().all(|digit| digit.is_ascii_digit()))
        });
        starts_line || (at > 0 && has_time)
    })
}

/// The line by which our own message is known again.
fn mark(unique: &str) -> String {
    let unique: String =
        unique.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    format!("X-Delivery-Id: {unique}")
}

fn open(path: &Path) -> io::Result<File> {
    // Never through a link, and never waiting for the other end of a FIFO.
    let flags =
        i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits()).unwrap_or_default();
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)
}

/// Security decision: which file is taken for a mailbox.
fn check(path: &Path, file: &File) -> Result<(), Answer> {
    let found = file.metadata().map_err(|error| trouble(path, &error))?;
    let us = nix::unistd::geteuid().as_raw();
    let refused = |why: &str| Err(Answer::deferred((2, 0), format!("{}: {why}", path.display())));
    if !found.is_file() {
        return refused("it is no regular file");
    }
    if found.uid() != us {
        return refused("it belongs to somebody else: chown it to the user");
    }
    if found.nlink() != 1 {
        return refused("it has a second name (a hard link): remove that");
    }
    Ok(())
}

/// Whether the name still leads to this file.
fn is_same(path: &Path, file: &File) -> bool {
    match (std::fs::symlink_metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
        _ => false,
    }
}

fn trouble(path: &Path, error: &io::Error) -> Answer {
    let status = match error.kind() {
        io::ErrorKind::StorageFull => (3, 1),
        io::ErrorKind::QuotaExceeded => (2, 2),
        _ => (2, 0),
    };
    let error = match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => "it is a symbolic link".to_owned(),
        _ => error.to_string(),
    };
    Answer::deferred(status, format!("{}: {error}", path.display()))
}

/// What came of an attempt to lock.
enum Lock {
    /// Ours, with what a killed delivery left noted.
    Taken(LockFile, Option<Left>),
    /// Somebody else's.
    Busy,
    /// The folder takes no lock file: the lock of the file itself has to do.
    NotPossible,
}

/// What a lock file of ours says behind its first line, from before the first octet is written to the mailbox until the
/// last one is on stable storage.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Left {
    /// How long the mailbox was.
    size: u64,
    /// The first octets of the message that is written behind that.
    head: Vec<u8>,
}

impl Left {
    fn parse(text: &[u8]) -> Option<Self> {
        let end = memchr::memchr(b'\n', text)?;
        let (numbers, head) = text.split_at_checked(end + 1)?;
        let mut numbers = std::str::from_utf8(numbers).ok()?.split_whitespace();
        let size = numbers.next()?.parse().ok()?;
        let length = numbers.next()?.parse::<usize>().ok()?;
        // What is not there whole was never followed by anything in the mailbox.
        (head.len() == length && length > 0).then(|| Self { size, head: head.to_owned() })
    }

    fn to_text(&self) -> Vec<u8> {
        let mut text = format!("{} {}\n", self.size, self.head.len()).into_bytes();
        text.extend_from_slice(&self.head);
        text
    }
}

/// `PATH.lock`, removed when this goes.
struct LockFile {
    path: PathBuf,
    file: File,
    kept: std::cell::Cell<bool>,
}

impl LockFile {
    fn take(mailbox: &Path) -> io::Result<Lock> {
        let mut name = mailbox.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let mut left = None;
        for _ in 0..2 {
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    return Ok(Lock::Taken(Self { path, file, kept: std::cell::Cell::new(false) }, left));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                    ) =>
                {
                    return Ok(Lock::NotPossible);
                }
                Err(error) => return Err(error),
            }
            let text = read_lock(&path).unwrap_or_default();
            let end = memchr::memchr(b'\n', &text).map_or(0, |at| at + 1);
            let (first, rest) = text.split_at_checked(end).unwrap_or_default();
            // We hold the lock of the file itself, which a living delivery of ours would have.
            let ours = first.strip_prefix(LOCK_MARK).is_some_and(|pid| pid.starts_with(b" "));
            if !ours && !is_old(&path) {
                return Ok(Lock::Busy);
            }
            left = Left::parse(rest).filter(|_| ours);
            match std::fs::remove_file(&path) {
                // Whoever left it has removed it himself: as good.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(Lock::Busy)
    }

    /// Notes what is going to be written, before anything is.
    fn note(&mut self, left: &Left) -> io::Result<()> {
        let mut text = own_line();
        text.extend(left.to_text());
        self.file.write_all(&text)?;
        self.file.sync_all()
    }

    /// What was noted holds no more.
    fn nothing_is_left(&self) -> io::Result<()> {
        self.file.set_len(own_line().len() as u64)?;
        self.file.sync_all()
    }

    fn keep(&self) {
        self.kept.set(true);
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Another program may have taken ours for a stale one and made its own.
        if !self.kept.get() && is_same(&self.path, &self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The first line of a lock file: whose it is.
fn own_line() -> Vec<u8> {
    let mut line = LOCK_MARK.to_owned();
    line.extend_from_slice(format!(" {}\n", std::process::id()).as_bytes());
    line
}

fn read_lock(path: &Path) -> Option<Vec<u8>> {
    /// More than a head has, which is two addresses and three names.
    const MOST: u64 = 256 * 1024;

    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let mut text = Vec::new();
    file.take(MOST).read_to_end(&mut text).ok()?;
    Some(text)
}

fn is_old(path: &Path) -> bool {
    let changed = std::fs::symlink_metadata(path).and_then(|found| found.modified());
    changed.is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or_default() > STALE_AFTER)
}

/// RFC 4155: `From sender date`, the date as asctime(3) writes it, in UTC.
pub(super) fn envelope_line(letter: &Letter<'_>) -> String {
    let sender = letter.reverse_path.trim_matches(['<', '>']);
    let sender: String =
        sender.chars().map(|c| if c.is_whitespace() || c.is_control() { '-' } else { c }).collect();
    let sender = if sender.is_empty() { "MAILER-DAEMON" } else { &sender };
    let seconds = i64::try_from(letter.received_at).unwrap_or_default();
    let at = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let date = at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a %b %e %H:%M:%S %Y").to_string();
    format!("From {sender} {date}\n")
}

/// Remembers whether it was the reading that failed.
struct Tagged<'a> {
    inner: &'a mut dyn Read,
    failed: bool,
}

impl Read for Tagged<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|error| self.failed |= error.kind() != io::ErrorKind::Interrupted)
    }
}

/// Octets of a line that are looked at.
const MAX_LINE: usize = 4096;

/// The next line, cut one octet behind that bound.
fn read_line(from: &mut dyn io::BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    loop {
        let (used, ended) = {
            let buffer = from.fill_buf()?;
            if buffer.is_empty() {
                return Ok(!line.is_empty());
            }
            let end = memchr::memchr(b'\n', buffer).map(|at| at + 1);
            let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            let room = (MAX_LINE + 1).saturating_sub(line.len()).min(part.len());
            line.extend_from_slice(part.get(..room).unwrap_or_default());
            (part.len(), end.is_some())
        };
        from.consume(used);
        if ended {
            return Ok(true);
        }
    }
}

#[cfg(test)]
#[path = "mbox_tests.rs"]
mod tests;
