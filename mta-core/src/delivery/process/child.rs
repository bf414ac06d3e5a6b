//! The child of the delivery process: becomes the user, then puts one message to one place.
//!
//! It is started as root with the connection as its input and output, and nothing else open. Before it opens any file it
//! takes the user's groups and numbers for good and proves that there is no way back; every file is then opened with the
//! user's own rights, so that no link or folder of his can lead to what he could not write himself.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Group, Uid, geteuid, getresgid, getresuid, initgroups, setgroups, setresgid, setresuid, setuid,
};

use super::protocol::{Answer, Frames, Place, send};
use super::server::Job;
use super::{JOB_VARIABLE, mbox, pipe};
use crate::account::alias::{Member, parse};
use crate::delivery::maildir::{self, Item, MaildirError};

/// How long the content may pause on its way from the mail server.
const CONTENT_TIMEOUT: Duration = Duration::from_secs(120);

/// The largest `.forward`, octets.
const MAX_FORWARD: u64 = 64 * 1024;

/// The message as the place gets it: the content still to be read.
pub(super) struct Letter<'a> {
    pub(super) unique: &'a str,
    pub(super) reverse_path: &'a str,
    pub(super) recipient: &'a str,
    pub(super) received_at: u64,
    pub(super) hostname: &'a str,
}

impl Letter<'_> {
    /// RFC 5321 4.4: the final delivery puts the reverse-path on record.
    pub(super) fn trace(&self) -> String {
        format!("Return-Path: {}\nDelivered-To: {}\n", self.reverse_path, self.recipient)
    }
}

/// Does the work that the environment names; the exit status.
pub fn run() -> u8 {
    const INTERNAL: u8 = 70;

    let Ok(input) = io::stdin().as_fd().try_clone_to_owned() else { return INTERNAL };
    let mut stream = UnixStream::from(input);
    let Ok(text) = std::env::var(JOB_VARIABLE) else {
        eprintln!("mta-cli deliver --child is started by mta-cli deliver, not by hand");
        return INTERNAL;
    };
    let answer = match serde_json::from_str::<Job>(&text) {
        Ok(job) => work(&job, &stream),
        Err(error) => Answer::deferred((3, 0), format!("the delivery process: {error}")),
    };
    match send(&mut stream, &answer) {
        Ok(()) => 0,
        Err(_) => INTERNAL,
    }
}

fn work(job: &Job, stream: &UnixStream) -> Answer {
    if let Err(why) = become_user(job) {
        return Answer::deferred((3, 0), format!("cannot become {}: {why}", job.request.user));
    }
    let _ = stream.set_read_timeout(Some(CONTENT_TIMEOUT));
    let letter = Letter {
        unique: &job.request.letter.unique,
        reverse_path: &job.request.letter.reverse_path,
        recipient: &job.request.letter.recipient,
        received_at: job.request.letter.received_at,
        hostname: &job.request.letter.hostname,
    };
    let done = match &job.request.place {
        Place::Mailbox { forward } => mailbox(job, &letter, *forward, stream),
        Place::File { path, of_forward } => named(job, *of_forward, &Member::File(path.clone()))
            .and_then(|()| into_file(job, &letter, path, stream)),
        Place::Pipe { command, of_forward } => named(job, *of_forward, &Member::Pipe(command.clone()))
            .and_then(|()| {
                go(stream)?;
                pipe::run(command, &job.home, &job.request.user, &letter, &mut Frames::new(stream))
            }),
    };
    done.unwrap_or_else(|refused| refused)
}

/// Security decision: takes the user's rights for good.
fn become_user(job: &Job) -> Result<(), String> {
    let refused = |step: &'static str| move |error: nix::Error| format!("{step}: {error}");
    umask(Mode::from_bits_truncate(0o077));
    // No dump of somebody's mail, and no more files than one delivery takes.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(refused("setrlimit"))?;
    setrlimit(Resource::RLIMIT_NOFILE, 256, 256).map_err(refused("setrlimit"))?;
    let (uid, gid) = (Uid::from_raw(job.uid), Gid::from_raw(effective_group(job)));
    if uid.is_root() || gid.as_raw() == 0 {
        return Err("nothing is delivered as root".to_owned());
    }
    if !geteuid().is_root() {
        // Started by an unprivileged user, for himself alone.
        return if geteuid() == uid { Ok(()) } else { Err("the delivery process is not root".to_owned()) };
    }
    let name = CString::new(job.request.user.as_str()).map_err(|_| "no name".to_owned())?;
    setgroups(&[]).map_err(refused("setgroups"))?;
    initgroups(&name, Gid::from_raw(job.gid)).map_err(refused("initgroups"))?;
    setresgid(gid, gid, gid).map_err(refused("setresgid"))?;
    setresuid(uid, uid, uid).map_err(refused("setresuid"))?;
    let users = getresuid().map_err(refused("getresuid"))?;
    let groups = getresgid().map_err(refused("getresgid"))?;
    let all_users = [users.real, users.effective, users.saved].iter().all(|is| *is == uid);
    let all_groups = [groups.real, groups.effective, groups.saved].iter().all(|is| *is == gid);
    if !all_users || !all_groups || setuid(Uid::from_raw(0)).is_ok() {
        return Err("the change did not hold".to_owned());
    }
    Ok(())
}

/// The folder of mailboxes belongs to a group (Debian: mail), which may make lock files in it.
fn effective_group(job: &Job) -> u32 {
    let of_mailbox = matches!(job.request.place, Place::Mailbox { .. });
    let group = job.mbox_group.as_ref().filter(|_| of_mailbox);
    let found = group.and_then(|name| Group::from_name(name).ok().flatten()).map(|group| group.gid.as_raw());
    let path = PathBuf::from(mailbox_path(job));
    found.filter(|group| is_spool(&path, job.uid, *group)).unwrap_or(job.gid)
}

/// Security decision: whether a mailbox lies in a folder of that group, and no folder or link on the way there belongs to
/// the user himself, who could let it lead anywhere.
fn is_spool(mailbox: &Path, user: u32, group: u32) -> bool {
    let Some(folder) = mailbox.parent() else { return false };
    let is_others = |part: &Path| std::fs::symlink_metadata(part).is_ok_and(|found| found.uid() != user);
    std::fs::metadata(folder).is_ok_and(|found| found.uid() != user && found.gid() == group)
        && folder.ancestors().all(is_others)
}

/// Where the configuration says that the user's mailbox lies.
fn mailbox_path(job: &Job) -> String {
    let path = job.mailbox.replace("{user}", &job.request.user);
    match path.strip_prefix("{home}") {
        Some(rest) => format!("{}{rest}", job.home.display()),
        None => path,
    }
}

/// Tells the mail server that the content is wanted.
fn go(mut stream: &UnixStream) -> Result<(), Answer> {
    send(&mut stream, &Answer::Go)
        .map_err(|error| Answer::deferred((3, 0), format!("the connection: {error}")))
}

fn mailbox(job: &Job, letter: &Letter<'_>, forward: bool, stream: &UnixStream) -> Result<Answer, Answer> {
    if forward
        && job.forward
        && let Some(text) = read_forward(&job.home)?
    {
        return Ok(Answer::Forward(text));
    }
    let path = mailbox_path(job);
    if !path.starts_with('/') || path.contains("{home}") || path.split('/').any(|part| part == "..") {
        return Err(Answer::deferred((3, 5), format!("{path} is no place for a mailbox (local.mailbox)")));
    }
    into_file(job, letter, Path::new(&path), stream)
}

/// Into an mbox, or into a Maildir where the name ends in a slash.
fn into_file(job: &Job, letter: &Letter<'_>, path: &Path, stream: &UnixStream) -> Result<Answer, Answer> {
    // Nothing that is run from here on gains rights by a file's mode.
    nix::sys::prctl::set_no_new_privs()
        .map_err(|error| Answer::deferred((3, 0), format!("no_new_privs: {error}")))?;
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        go(stream)?;
        return into_maildir(letter, path, &mut Frames::new(stream));
    }
    let mut opened = mbox::Mbox::open(path, letter)?;
    go(stream)?;
    opened.append(job.mbox_format, &mut Frames::new(stream))
}

fn into_maildir(letter: &Letter<'_>, path: &Path, content: &mut dyn Read) -> Result<Answer, Answer> {
    let trace = letter.trace();
    let item = Item {
        unique: letter.unique,
        received_at: letter.received_at,
        hostname: letter.hostname,
        trace: &trace,
    };
    match maildir::deliver(path, &item, content) {
        Ok(_) => Ok(Answer::Delivered(format!("delivered to {}", path.display()))),
        Err(error) => {
            let status = match error {
                MaildirError::Full { .. } => (3, 1),
                MaildirError::OverQuota { .. } => (2, 2),
                MaildirError::NotAllowed { .. } | MaildirError::Io { .. } => (2, 0),
                MaildirError::Content { .. } => (3, 0),
            };
            Err(Answer::deferred(status, error.to_string()))
        }
    }
}

/// The user's `.forward`; nothing where there is none or it says nothing.
fn read_forward(home: &Path) -> Result<Option<String>, Answer> {
    let path = home.join(".forward");
    let refused = |why: String| Answer::deferred((3, 5), format!("{}: {why}", path.display()));
    let Some(file) = open_plain(&path).map_err(|error| refused(error.to_string()))? else { return Ok(None) };
    let found = file.metadata().map_err(|error| refused(error.to_string()))?;
    let us = geteuid().as_raw();
    if !found.is_file() {
        return Err(refused("it is no regular file".to_owned()));
    }
    if found.uid() != us && found.uid() != 0 {
        return Err(refused(format!("it belongs to user {}, not to its owner", found.uid())));
    }
    if found.mode() & 0o022 != 0 {
        return Err(refused("others may write it: chmod go-w".to_owned()));
    }
    let mut text = Vec::new();
    file.take(MAX_FORWARD + 1).read_to_end(&mut text).map_err(|error| refused(error.to_string()))?;
    if text.len() as u64 > MAX_FORWARD {
        return Err(refused(format!("it is larger than {MAX_FORWARD} octets")));
    }
    let text = String::from_utf8(text).map_err(|_| refused("it is not UTF-8".to_owned()))?;
    let says = text.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(says.then_some(text))
}

/// Opens a file for reading without waiting for anybody and without following a link.
fn open_plain(path: &Path) -> io::Result<Option<File>> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What a `.forward` is said to name stands there.
fn named(job: &Job, of_forward: bool, member: &Member) -> Result<(), Answer> {
    if matches!(member, Member::Pipe(_)) && !job.allow_pipes {
        return Err(Answer::deferred((3, 5), "commands are not run here (alias.allow_pipes)"));
    }
    if !of_forward {
        // The root process has looked into the alias files.
        return Ok(());
    }
    let path: PathBuf = job.home.join(".forward");
    let text = read_forward(&job.home)?.unwrap_or_default();
    let members = parse::list(&path, &text).map_err(|error| Answer::deferred((3, 5), error.to_string()))?;
    match members.contains(member) {
        true => Ok(()),
        false => Err(Answer::deferred((3, 5), format!("{} no longer names {member}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn the_group_is_for_its_own_folder_alone() {
        let us = geteuid().as_raw();
        if us != 0 {
            eprintln!("skipped: only root can give folders away");
            return;
        }
        const ANNA: u32 = 7001;
        const MAIL: u32 = 7008;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, uid, gid) in [
            ("mail", 0, MAIL),
            ("other", 0, 0),
            ("home", 0, 0),
            ("home/anna", ANNA, ANNA),
            ("home/anna/mail", ANNA, ANNA),
            ("home/given", ANNA, MAIL),
            ("home/anna/roots", 0, MAIL),
        ] {
            std::fs::create_dir(at(name)).unwrap();
            chown(at(name), Some(uid), Some(gid)).unwrap();
        }
        for (name, uid) in [("spool", 0), ("home/anna/spool", ANNA)] {
            symlink(at("mail"), at(name)).unwrap();
            std::os::unix::fs::lchown(at(name), Some(uid), None).unwrap();
        }
        for (mailbox, expected) in [
            ("mail/anna", true),
            ("spool/anna", true),
            ("other/anna", false),
            ("missing/anna", false),
            ("home/anna/mail/box", false),
            ("home/given/box", false),
            ("home/anna/roots/box", false),
            ("home/anna/spool/box", false),
        ] {
            assert_eq!(is_spool(&at(mailbox), ANNA, MAIL), expected, "{mailbox}");
        }
    }
}
