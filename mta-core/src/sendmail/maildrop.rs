//! The maildrop: where sendmail(1) leaves mail while the daemon does not answer. No program needs setuid or setgid for it.
//!
//! A directory of the service user with mode 3733: everybody may put files in, nobody but the service user may list it,
//! and by the sticky bit nobody but him and a file's owner may rename or delete one. Its setgid bit gives each new file
//! the directory's group, the service's own, so that a file of mode 0640 is read by its owner and the daemon and by
//! nobody else. Names are 128 random bits.
//!
//! A file is written under mode 0600, synced, and only then given mode 0640: what the daemon can read is whole. The mode
//! is synced too, and the file system with the directory's entry (a directory that cannot be listed cannot be opened to
//! sync it alone). Then, and not before, sendmail(1) ends with 0.
//!
//! What proves who sent: a file's owner, because only root can give files away; its group, because only a file made
//! here has it, so a file of somebody else that was moved here is refused; and a link count of 1, because a file with a
//! second name is not ours alone. What is inside is believed as little as what comes over a socket. A user can fill the
//! file system with files of his own, as in /tmp; they count against his quota.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{AtFlags, Mode, OFlags, fchmod, fstat, fsync, open, openat, syncfs, unlinkat};

use super::submit::Commands;

/// The first line of each file: what it is, in which version.
pub const MAGIC: &str = "mta-maildrop 1";

/// The directory's mode.
pub const DIRECTORY_MODE: u32 = 0o3733;

/// A file's mode when it is whole.
pub const FILE_MODE: u32 = 0o640;

/// While it is written.
const WRITING_MODE: u32 = 0o600;

/// Octets of the lines in front of the content at most.
pub const MAX_HEAD_OCTETS: usize = 128 * 1024;

/// The letters of a file's name.
pub const NAME_OCTETS: usize = 32;

/// The lines in front of the content.
pub fn head(commands: &Commands) -> String {
    let rcpt: String = commands.rcpt.iter().map(|line| format!("{line}\n")).collect();
    format!("{MAGIC}\n{}\n{rcpt}\n", commands.mail)
}

/// Reads those lines back, with no trust: `None` for anything but what `head` writes. What the commands say is the
/// session's to judge. Gives the octets that they take, too.
pub fn parse_head(bytes: &[u8]) -> Option<(Commands, usize)> {
    let end = memchr::memmem::find(bytes, b"\n\n")?;
    let text = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut lines = text.split('\n');
    if lines.next()? != MAGIC {
        return None;
    }
    let is_command = |line: &str, verb: &str| line.starts_with(verb) && !line.contains(char::is_control);
    let mail = lines.next().filter(|line| is_command(line, "MAIL FROM:"))?.to_owned();
    let rcpt: Vec<String> = lines.map(ToOwned::to_owned).collect();
    let are_good = !rcpt.is_empty() && rcpt.iter().all(|line| is_command(line, "RCPT TO:"));
    are_good.then_some((Commands { mail, rcpt }, end + 2))
}

/// Puts a message into the maildrop. When this returns it is on stable storage.
///
/// # Errors
/// As the system reports; then nothing is left behind.
pub fn put(directory: &Path, commands: &Commands, content: &mut dyn Read) -> io::Result<()> {
    let folder = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    check_directory(&folder)?;
    let name = new_name()?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(&folder, &name, flags, Mode::from_raw_mode(WRITING_MODE))?);
    let written = write(&file, commands, content);
    if written.is_err() {
        // The file is ours, so the sticky bit lets us.
        let _ = unlinkat(&folder, &name, AtFlags::empty());
    }
    written
}

fn write(mut file: &File, commands: &Commands, content: &mut dyn Read) -> io::Result<()> {
    file.write_all(head(commands).as_bytes())?;
    io::copy(content, &mut file)?;
    fsync(file)?;
    // Not what umask left of it.
    fchmod(file, Mode::from_raw_mode(FILE_MODE))?;
    fsync(file)?;
    Ok(syncfs(file)?)
}

/// A folder without these bits would show mail to others, or hide it from the daemon.
fn check_directory(folder: &OwnedFd) -> io::Result<()> {
    let mode = fstat(folder)?.st_mode & 0o7777;
    if mode & 0o3044 != 0o3000 {
        let text = format!("its mode is {mode:04o} and must be {DIRECTORY_MODE:04o}");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

fn new_name() -> io::Result<String> {
    let mut bytes = [0; NAME_OCTETS / 2];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Makes the directory where it is missing, and gives it its mode. `owner` is the service user, where this process is
/// root and will become him.
///
/// # Errors
/// As the system reports.
pub fn make(directory: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
    if !directory.is_dir() {
        if let Some(above) = directory.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(above)?;
        }
        std::fs::DirBuilder::new().mode(0o700).create(directory)?;
        if let Some((uid, gid)) = owner {
            chown(directory, Some(uid), Some(gid))?;
        }
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(DIRECTORY_MODE))?;
    }
    let folder = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    check_directory(&folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn commands() -> Commands {
        Commands {
            mail: "MAIL FROM:<a@b.example> BODY=8BITMIME".into(),
            rcpt: vec!["RCPT TO:<c@d.example>".into(), "RCPT TO:<e@f.example>".into()],
        }
    }

    #[test]
    fn a_head_comes_back_and_nothing_else_does() {
        let head = head(&commands());
        let content = format!("{head}Subject: x\n\nfoo");
        assert_eq!(parse_head(content.as_bytes()), Some((commands(), head.len())));
        for bad in [
            "",
            "\n\n",
            "mta-maildrop 1\n\n",
            "mta-maildrop 2\nMAIL FROM:<>\nRCPT TO:<a>\n\n",
            "mta-maildrop 1\nMAIL FROM:<>\n\nRCPT TO:<a>\n\n",
            "mta-maildrop 1\nRCPT TO:<a>\nMAIL FROM:<>\n\n",
            "mta-maildrop 1\nMAIL FROM:<>\nDATA\n\n",
            "mta-maildrop 1\nMAIL FROM:<>\r\nRCPT TO:<a>\r\n\n\n",
            "mta-maildrop 1\nMAIL FROM:<>\nRCPT TO:<a>\rRCPT TO:<b>\n\n",
            "mta-maildrop 1\nMAIL FROM:<>\nRCPT TO:<a\0>\n\n",
            "mta-maildrop 1\nMAIL FROM:<>\nRCPT TO:<a>\n",
        ] {
            assert_eq!(parse_head(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(parse_head(b"mta-maildrop 1\nMAIL FROM:<\xff>\nRCPT TO:<a>\n\n"), None);
    }

    #[test]
    fn a_file_has_its_mode_and_group_whatever_the_umask() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("maildrop");
        make(&folder, None).unwrap();
        make(&folder, None).unwrap();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o7777, DIRECTORY_MODE);
        put(&folder, &commands(), &mut &b"Subject: x\r\n\r\n"[..]).unwrap();
        let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, FILE_MODE);
        assert_eq!(metadata.gid(), folder.metadata().unwrap().gid());
        assert_eq!(file.file_name().len(), NAME_OCTETS);
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(text, head(&commands()) + "Subject: x\r\n\r\n");
    }

    #[test]
    fn what_fails_leaves_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("maildrop");
        assert!(put(&folder, &commands(), &mut Broken).is_err(), "no folder");
        make(&folder, None).unwrap();
        assert!(put(&folder, &commands(), &mut Broken).is_err());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_shows_mail_is_not_used() {
        let top = tempfile::tempdir().unwrap();
        for mode in [0o700, 0o777, 0o1777, 0o3777, 0o1733, 0o2733] {
            let folder = top.path().join(format!("{mode:o}"));
            std::fs::create_dir(&folder).unwrap();
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = put(&folder, &commands(), &mut io::empty()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{mode:o}");
            assert!(make(&folder, None).is_err(), "{mode:o}");
        }
    }
}
