//! The daemon's side of the maildrop: each file is handed in once, and deleted when the queue has it.
//!
//! What it does: looks at what lies there, refuses what is no file of sendmail(1)'s making (links, second names, files
//! moved here, oversize), hands the rest in one after another, the oldest first, and deletes a file only when the
//! queue's commit has returned. A kill at that very instant hands it in twice, never not at all. What is refused for
//! good is set aside under another name, for the administrator and its owner. Every user of the machine writes here, so
//! nothing that one of them puts there keeps the mail of another from its turn. What it does not: it judges no message,
//! the session does.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fd::OwnedFd;
use rustix::fs::{
    Access, AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat, accessat, fstat, fsync, open, openat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::maildrop::{FILE_MODE, MAX_HEAD_OCTETS, NAME_OCTETS, parse_head};
use super::submit::{Commands, Submitted};
use crate::log::Line;

/// Files of one user that are looked at in one pass; his others wait for the next.
const FILES_OF_A_USER: usize = 250;

/// Files that the queue has and that could not be deleted: this process hands them in no second time. They are known by
/// device and number.
static HANDED_IN: Mutex<Option<HashSet<(u64, u64)>>> = Mutex::new(None);

/// A file whose writing was not finished after so long never will be.
const UNFINISHED_FOR: Duration = Duration::from_secs(86_400);

/// What a file that is set aside is called: this and its name.
const ASIDE: &str = "refused-";

/// A message from the maildrop.
#[derive(Debug)]
pub struct Dropped {
    /// The user who owns the file.
    pub uid: u32,
    /// Which file it is: device and number.
    file: (u64, u64),
    /// The envelope.
    pub commands: Commands,
    /// The content, from its beginning.
    pub content: File,
    /// The content's octets.
    pub octets: u64,
}

/// What one pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pass {
    /// Files that the queue has now.
    pub taken: usize,
    /// Files that stay for the next pass.
    pub left: usize,
    /// Files that were set aside.
    pub refused: usize,
}

/// What becomes of a file.
#[derive(Debug)]
enum Fate {
    Taken,
    /// It stays; why.
    Left(String),
    Aside(String),
    /// It is being written, or was: nobody's business yet.
    Unfinished,
}

/// A maildrop.
#[derive(Debug, Clone)]
pub struct Maildrop {
    /// Where it lies.
    pub directory: PathBuf,
    /// The largest file taken, in octets; 0 is no limit.
    pub max_octets: u64,
}

impl Maildrop {
    /// Hands in what lies there. Blocks.
    ///
    /// # Errors
    /// Where the directory cannot be read, or what lies in it could not be deleted: then nothing is handed in. What goes
    /// wrong with one file is in the log, and keeps no other from being handed in.
    pub fn take(&self, now: SystemTime, hand_in: &mut dyn FnMut(Dropped) -> Submitted) -> io::Result<Pass> {
        let folder =
            open(&self.directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        // What cannot be deleted would be handed in again and again.
        accessat(&folder, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?;
        let mut pass = Pass::default();
        let (names, more) = names(&folder, now)?;
        pass.left += usize::from(more);
        let mut told = false;
        for name in names {
            let fate = match self.open(&folder, &name) {
                Err(Fate::Unfinished) => continue,
                Err(fate) => fate,
                Ok(dropped) if is_handed_in(dropped.file) => delete(&folder, &name, dropped.file),
                Ok(dropped) => {
                    let (file, uid) = (dropped.file, dropped.uid);
                    match settle(uid, hand_in(dropped)) {
                        Fate::Taken => delete(&folder, &name, file),
                        fate => fate,
                    }
                }
            };
            let fate = match fate {
                Fate::Aside(reason) => set_aside(&folder, &name, &self.directory, &reason),
                fate => fate,
            };
            match fate {
                Fate::Taken => pass.taken += 1,
                Fate::Aside(_) => pass.refused += 1,
                Fate::Left(reason) => {
                    pass.left += 1;
                    // One of them tells why; mostly it is the same for all.
                    if !std::mem::replace(&mut told, true) {
                        let line =
                            Line::new("maildrop-left").with("file", self.directory.join(&name).display());
                        log::warn!("{}", line.with("reason", reason));
                    }
                }
                Fate::Unfinished => {}
            }
        }
        if pass.taken + pass.refused > 0 {
            fsync(&folder)?;
        }
        Ok(pass)
    }

    /// Opens a file of sendmail(1)'s making and reads its head.
    fn open(&self, folder: &OwnedFd, name: &str) -> Result<Dropped, Fate> {
        // Looked at by name first: what is still being written cannot be opened, and what is gone is its owner's.
        let seen = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| Fate::Unfinished)?;
        if FileType::from_raw_mode(seen.st_mode) != FileType::RegularFile {
            return Err(Fate::Aside("it is no regular file".to_owned()));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(
            openat(folder, name, flags, Mode::empty())
                .map_err(|error| Fate::Aside(format!("it cannot be opened: {error}")))?,
        );
        self.check(folder, &file)?;
        read_head(file)
    }

    /// Security decision: whether this file was made here by the user who owns it, and is nobody else's.
    fn check(&self, folder: &OwnedFd, file: &File) -> Result<(), Fate> {
        let refuse = |text: &str| Err(Fate::Aside(text.to_owned()));
        let (Ok(here), Ok(found)) = (fstat(folder), fstat(file)) else {
            return Err(Fate::Left("it cannot be looked at".to_owned()));
        };
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return refuse("it is no regular file");
        }
        if found.st_nlink != 1 {
            return refuse("it has a second name (a hard link)");
        }
        if found.st_gid != here.st_gid || found.st_mode & 0o7777 != FILE_MODE {
            return refuse("it was not made here: its group or mode is another");
        }
        let octets = u64::try_from(found.st_size).unwrap_or(u64::MAX);
        let most = self.max_octets.saturating_add(MAX_HEAD_OCTETS as u64);
        if self.max_octets > 0 && octets > most {
            return refuse("it is larger than smtp.message_size_limit");
        }
        Ok(())
    }
}

/// Reads the lines in front of the content.
fn read_head(mut file: File) -> Result<Dropped, Fate> {
    use std::os::unix::fs::MetadataExt;
    let read = |file: &mut File| -> io::Result<Option<Dropped>> {
        let metadata = file.metadata()?;
        let mut beginning = Vec::new();
        file.by_ref().take(MAX_HEAD_OCTETS as u64).read_to_end(&mut beginning)?;
        let Some((commands, length)) = parse_head(&beginning) else { return Ok(None) };
        file.seek(SeekFrom::Start(length as u64))?;
        Ok(Some(Dropped {
            uid: metadata.uid(),
            file: (metadata.dev(), metadata.ino()),
            commands,
            octets: metadata.len().saturating_sub(length as u64),
            content: file.try_clone()?,
        }))
    };
    match read(&mut file) {
        Ok(Some(dropped)) => Ok(dropped),
        Ok(None) => Err(Fate::Aside("it does not begin as sendmail(1) would begin it".to_owned())),
        Err(error) => Err(Fate::Left(format!("it cannot be read: {error}"))),
    }
}

fn settle(uid: u32, submitted: Submitted) -> Fate {
    match submitted {
        Submitted::Queued { refused, .. } => {
            for (command, reply) in refused {
                let line = Line::new("maildrop-recipient-refused").with("uid", uid).with("command", command);
                log::warn!("{}", line.with("reply", reply));
            }
            Fate::Taken
        }
        Submitted::Refused(reply) => Fate::Aside(reply.to_string()),
        Submitted::Deferred(reply) => Fate::Left(reply.to_string()),
        Submitted::Unreachable(reason) => Fate::Left(reason),
    }
}

fn handed_in<T>(look: impl FnOnce(&mut HashSet<(u64, u64)>) -> T) -> T {
    look(HANDED_IN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

fn is_handed_in(file: (u64, u64)) -> bool {
    handed_in(|files| files.contains(&file))
}

/// The queue has it. The folder is ours, so the sticky bit lets us.
fn delete(folder: &OwnedFd, name: &str, file: (u64, u64)) -> Fate {
    match unlinkat(folder, name, AtFlags::empty()) {
        // Its owner was faster.
        Ok(()) | Err(Errno::NOENT) => {
            handed_in(|files| files.remove(&file));
            Fate::Taken
        }
        Err(error) => {
            handed_in(|files| files.insert(file));
            Fate::Left(format!("it is in the queue and cannot be deleted: {error}"))
        }
    }
}

/// The names that sendmail(1) would give, oldest first, and whether there are more. What is not finished is none of them.
fn names(folder: &OwnedFd, now: SystemTime) -> io::Result<(Vec<String>, bool)> {
    let (mut found, mut of_user, mut more) = (Vec::new(), HashMap::<u32, usize>::new(), false);
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        let is_ours =
            name.len() == NAME_OCTETS && name.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
        if !is_ours {
            continue;
        }
        let Ok(seen) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if is_unfinished(&seen) {
            if is_given_up(&seen, now) {
                let _ = unlinkat(folder, name, AtFlags::empty());
            }
            continue;
        }
        let count = of_user.entry(seen.st_uid).or_default();
        *count += 1;
        if *count > FILES_OF_A_USER {
            more = true;
            continue;
        }
        found.push((seen.st_mtime, name.to_owned()));
    }
    found.sort();
    Ok((found.into_iter().map(|(_, name)| name).collect(), more))
}

/// Whether it is being written, or was.
fn is_unfinished(seen: &Stat) -> bool {
    FileType::from_raw_mode(seen.st_mode) == FileType::RegularFile && seen.st_mode & 0o077 == 0
}

/// Whether its writing will never end. A time to come is no younger than one that is past: its owner sets it.
fn is_given_up(seen: &Stat, now: SystemTime) -> bool {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let changed = Duration::from_secs(u64::try_from(seen.st_mtime).unwrap_or_default());
    now.abs_diff(changed) > UNFINISHED_FOR
}

/// Out of the way, for whoever wants to know.
fn set_aside(folder: &OwnedFd, name: &str, directory: &Path, reason: &str) -> Fate {
    let owner = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|found| found.st_uid);
    // Whoever has taken the name before keeps it.
    let names = [format!("{ASIDE}{name}"), format!("{ASIDE}{name}-{:016x}", fastrand::u64(..))];
    let mut failure = Errno::EXIST;
    for aside in names {
        match renameat_with(folder, name, folder, &aside, RenameFlags::NOREPLACE) {
            Ok(()) => {
                let line = Line::new("maildrop-refused").with_some("uid", owner).with("reason", reason);
                log::warn!("{}", line.with("file", directory.join(aside).display()));
                return Fate::Aside(String::new());
            }
            Err(Errno::NOENT) => return Fate::Unfinished,
            Err(error) => failure = error,
        }
    }
    Fate::Left(format!("{reason}; it cannot be set aside: {failure}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use mta_smtp::reply::Reply;

    use super::*;
    use crate::sendmail::maildrop;

    struct Rig {
        _top: tempfile::TempDir,
        maildrop: Maildrop,
    }

    fn rig() -> Rig {
        let top = tempfile::tempdir().unwrap();
        let directory = top.path().join("maildrop");
        maildrop::make(&directory, None).unwrap();
        Rig { _top: top, maildrop: Maildrop { directory, max_octets: 1000 } }
    }

    fn commands() -> Commands {
        Commands { mail: "MAIL FROM:<a@b.example>".into(), rcpt: vec!["RCPT TO:<c@d.example>".into()] }
    }

    fn put(rig: &Rig, content: &[u8]) -> PathBuf {
        let before = files(rig);
        maildrop::put(&rig.maildrop.directory, &commands(), &mut &content[..]).unwrap();
        let name = files(rig).into_iter().find(|name| !before.contains(name)).unwrap();
        rig.maildrop.directory.join(name)
    }

    fn files(rig: &Rig) -> Vec<String> {
        let entries = std::fs::read_dir(&rig.maildrop.directory).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A pass that gives each message this answer; the contents seen.
    fn pass(rig: &Rig, answer: impl Fn() -> Submitted) -> (Pass, Vec<String>) {
        let mut seen = Vec::new();
        let mut hand_in = |mut dropped: Dropped| {
            assert_eq!(dropped.commands, commands());
            assert_eq!(dropped.uid, nix::unistd::geteuid().as_raw());
            let mut text = String::new();
            dropped.content.read_to_string(&mut text).unwrap();
            assert_eq!(text.len() as u64, dropped.octets);
            seen.push(text);
            answer()
        };
        let pass = rig.maildrop.take(SystemTime::now(), &mut hand_in).unwrap();
        (pass, seen)
    }

    fn queued() -> Submitted {
        Submitted::Queued { reply: Reply::with_status(250, (2, 0, 0), "queued"), refused: Vec::new() }
    }

    #[test]
    fn each_file_is_taken_once() {
        let rig = rig();
        put(&rig, b"one\r\n\r\n");
        put(&rig, b"two\r\n\r\n");
        let (first, mut seen) = pass(&rig, queued);
        seen.sort();
        assert_eq!((first.taken, first.left, seen.join("")), (2, 0, "one\r\n\r\ntwo\r\n\r\n".to_owned()));
        assert_eq!(pass(&rig, queued), (Pass::default(), Vec::new()));
        assert!(files(&rig).is_empty());
    }

    #[test]
    fn what_is_put_off_stays_and_what_is_refused_is_set_aside() {
        let rig = rig();
        put(&rig, b"x\r\n\r\n");
        let deferred = || Submitted::Deferred(Reply::with_status(451, (4, 3, 0), "later"));
        assert_eq!(pass(&rig, deferred).0, Pass { left: 1, ..Pass::default() });
        assert_eq!(pass(&rig, || Submitted::Unreachable("x".into())).0.left, 1);
        let refused = || Submitted::Refused(Reply::with_status(554, (5, 6, 0), "never"));
        assert_eq!(pass(&rig, refused).0, Pass { refused: 1, ..Pass::default() });
        assert!(files(&rig)[0].starts_with(ASIDE));
        assert_eq!(pass(&rig, queued).0, Pass::default(), "it stays aside");
    }

    /// Hostile files: what any user of the machine can put there.
    #[test]
    fn what_sendmail_did_not_make_is_never_handed_in() {
        let rig = rig();
        let folder = &rig.maildrop.directory;
        let name = |n: u8| folder.join(format!("{n:032x}"));
        let good = maildrop::head(&commands()) + "Subject: x\r\n\r\n";
        let secret = folder.parent().unwrap().join("secret");
        std::fs::write(&secret, &good).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(FILE_MODE)).unwrap();

        symlink(&secret, name(1)).unwrap();
        std::fs::hard_link(&secret, name(2)).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, name(3), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
        std::fs::create_dir(name(4)).unwrap();
        for (n, mode, text) in [
            (5, FILE_MODE, "garbage"),
            (6, FILE_MODE, ""),
            (7, 0o644, &*good),
            (8, 0o4640, &*good),
            (9, FILE_MODE, &*format!("{good}{}", "x".repeat(MAX_HEAD_OCTETS + 2000))),
        ] {
            std::fs::write(name(n), text).unwrap();
            std::fs::set_permissions(name(n), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::write(folder.join("README"), "not ours").unwrap();
        let (done, seen) = pass(&rig, queued);
        assert_eq!((done.taken, done.refused, seen.len()), (0, 9, 0), "{:?}", files(&rig));
        assert_eq!(files(&rig).iter().filter(|f| f.starts_with(ASIDE)).count(), 9);
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), good, "nothing behind a link was touched");
    }

    /// What one user puts there keeps no mail of another from its turn.
    #[test]
    fn nothing_stands_in_the_way_of_others() {
        let rig = rig();
        let folder = &rig.maildrop.directory;
        let bad = folder.join("0".repeat(NAME_OCTETS));
        std::fs::write(&bad, "garbage").unwrap();
        std::fs::set_permissions(&bad, std::fs::Permissions::from_mode(0o644)).unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        File::options().write(true).open(&bad).unwrap().set_modified(old).unwrap();
        std::fs::create_dir(folder.join(format!("{ASIDE}{}", "0".repeat(NAME_OCTETS)))).unwrap();
        let to_come = SystemTime::now() + Duration::from_secs(1_000_000_000);
        for n in 0..FILES_OF_A_USER + 10 {
            let path = folder.join(format!("{:032x}", n + 1));
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(to_come).unwrap();
        }
        put(&rig, b"good\r\n\r\n");
        let (done, seen) = pass(&rig, queued);
        assert_eq!((done.taken, done.refused, done.left), (1, 1, 0));
        assert_eq!(seen, ["good\r\n\r\n"]);
        assert_eq!(files(&rig).len(), 2, "{:?}", files(&rig));
    }

    #[test]
    fn a_file_that_its_owner_takes_back_ends_no_pass() {
        let rig = rig();
        let paths = [put(&rig, b"one\r\n\r\n"), put(&rig, b"two\r\n\r\n")];
        let mut answers =
            [queued(), Submitted::Refused(Reply::with_status(554, (5, 6, 0), "no"))].into_iter();
        let mut hand_in = |_: Dropped| {
            for path in &paths {
                let _ = std::fs::remove_file(path);
            }
            answers.next().unwrap()
        };
        let done = rig.maildrop.take(SystemTime::now(), &mut hand_in).unwrap();
        assert_eq!((done.taken, done.left), (1, 0));
    }

    #[test]
    fn what_cannot_be_deleted_is_handed_in_once() {
        let rig = rig();
        let path = put(&rig, b"x\r\n\r\n");
        let folder = File::open(&rig.maildrop.directory).unwrap();
        let found = rustix::fs::stat(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        // As a file system that fails would leave it.
        handed_in(|files| files.insert((found.st_dev, found.st_ino)));
        let (done, seen) = pass(&rig, queued);
        assert_eq!((done.taken, seen.len()), (1, 0), "deleted at last, and not handed in");
        assert!(matches!(delete(&folder.into(), name, (found.st_dev, found.st_ino)), Fate::Taken));
        assert!(!is_handed_in((found.st_dev, found.st_ino)));
    }

    #[test]
    fn a_file_of_another_group_was_made_elsewhere() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let rig = rig();
        let path = put(&rig, b"x\r\n\r\n");
        std::os::unix::fs::chown(&path, None, Some(12345)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(FILE_MODE)).unwrap();
        assert_eq!(pass(&rig, queued).0, Pass { refused: 1, ..Pass::default() });
    }

    #[test]
    fn what_is_not_finished_is_left_alone_for_a_day() {
        let rig = rig();
        let path = put(&rig, b"x\r\n\r\n");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(pass(&rig, queued), (Pass::default(), Vec::new()));
        assert_eq!(files(&rig).len(), 1);
        let later = SystemTime::now() + UNFINISHED_FOR + Duration::from_secs(2);
        rig.maildrop.take(later, &mut |_| queued()).unwrap();
        assert!(files(&rig).is_empty());
    }
}
