//! How full a Maildir is: the counter file of Maildir++, which Dovecot and Courier keep as well.
//!
//! `maildirsize` begins with the quota (`1000000S`); every further line is a number of octets and of messages, added or taken
//! away. Who finds it missing, of another quota, too long, or too old to believe that the Maildir is full, counts anew.
//! What it does not: it refuses nothing; callers compare.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The name of the counter file.
const FILE: &str = "maildirsize";

/// A counter file that is longer is made anew (Maildir++: 5120).
const MAX_OCTETS: u64 = 5120;

/// How long the word of a counter file counts that says "full" (Maildir++: 15 minutes).
const BELIEVED: Duration = Duration::from_secs(15 * 60);

/// Files counted at most; beyond, what was counted stands for all.
const MAX_FILES: u64 = 1_000_000;

/// The octets in a Maildir. One that does not exist is empty. Blocking.
///
/// # Errors
/// What the system says.
pub fn used(maildir: &Path, quota: u64) -> io::Result<u64> {
    let path = maildir.join(FILE);
    if let Some((octets, age)) = read(&path, quota)?
        && (octets < quota || age < BELIEVED)
    {
        return Ok(octets);
    }
    if !maildir.is_dir() {
        return Ok(0);
    }
    let (octets, messages) = count(maildir)?;
    let new = maildir.join("tmp").join(format!("{FILE}.{}.{}", std::process::id(), fastrand::u64(..)));
    let written =
        write_new(&new, &format!("{quota}S\n{octets} {messages}\n")).and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        // No counter; the next delivery counts again.
        let _ = fs::remove_file(&new);
    }
    Ok(octets)
}

/// Notes a message that was added. Nothing is lost where that fails: the next count finds it.
pub fn added(maildir: &Path, octets: u64) {
    let file = OpenOptions::new().append(true).open(maildir.join(FILE));
    let _ = file.and_then(|mut file| file.write_all(format!("{octets} 1\n").as_bytes()));
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// What the counter file says and how old it is; nothing where it cannot be used.
fn read(path: &Path, quota: u64) -> io::Result<Option<(u64, Duration)>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let found = file.metadata()?;
    if !found.is_file() || found.size() > MAX_OCTETS {
        return Ok(None);
    }
    let age = SystemTime::now().duration_since(found.modified()?).unwrap_or_default();
    let mut text = String::new();
    if file.take(MAX_OCTETS).read_to_string(&mut text).is_err() {
        return Ok(None);
    }
    let mut lines = text.lines();
    if lines.next() != Some(format!("{quota}S").as_str()) {
        return Ok(None);
    }
    let octets = lines.map(|line| line.split_whitespace().next().and_then(|word| word.parse::<i64>().ok()));
    // A line of something else: somebody's half-written file.
    let Some(octets) = octets.collect::<Option<Vec<i64>>>() else { return Ok(None) };
    let sum = octets.into_iter().fold(0_i64, i64::saturating_add);
    Ok(Some((u64::try_from(sum).unwrap_or(0), age)))
}

/// Octets and messages in `new` and `cur`, of the folders below too.
fn count(maildir: &Path) -> io::Result<(u64, u64)> {
    let mut folders = vec![maildir.to_path_buf()];
    for entry in fs::read_dir(maildir)? {
        let entry = entry?;
        // Maildir++: folders are `.Name` beside `new` and `cur`.
        if entry.file_name().as_encoded_bytes().starts_with(b".") && entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    let (mut octets, mut messages) = (0_u64, 0_u64);
    for part in folders.iter().flat_map(|folder| [folder.join("new"), folder.join("cur")]) {
        for entry in fs::read_dir(part).into_iter().flatten() {
            let entry = entry?;
            let named = named_size(&entry.file_name().to_string_lossy());
            // Gone meanwhile: read or deleted.
            let size = named.or_else(|| entry.metadata().ok().map(|found| found.size()));
            octets = octets.saturating_add(size.unwrap_or(0));
            messages += 1;
            if messages >= MAX_FILES {
                return Ok((octets, messages));
            }
        }
    }
    Ok((octets, messages))
}

/// The size that a file's name gives (`,S=1234`).
fn named_size(name: &str) -> Option<u64> {
    let (_, rest) = name.split_once(",S=")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maildir_is_counted_once_and_then_by_its_counter() {
        let folder = tempfile::tempdir().unwrap();
        let maildir = folder.path().join("anna");
        assert_eq!(used(&maildir, 1000).unwrap(), 0);
        for part in ["new", "cur", "tmp", ".Sent/cur", ".Sent/new"] {
            fs::create_dir_all(maildir.join(part)).unwrap();
        }
        fs::write(maildir.join("new/1.x"), "0123456789").unwrap();
        fs::write(maildir.join("cur/2.x,S=500:2,S"), "short").unwrap();
        fs::write(maildir.join(".Sent/cur/3.x"), "01234").unwrap();
        fs::write(maildir.join("tmp/4.x"), "not counted").unwrap();
        assert_eq!(used(&maildir, 1000).unwrap(), 515);
        added(&maildir, 100);
        assert_eq!(fs::read_to_string(maildir.join(FILE)).unwrap(), "1000S\n515 3\n100 1\n");
        assert_eq!(used(&maildir, 1000).unwrap(), 615);
        assert_eq!(used(&maildir, 2000).unwrap(), 515, "another quota: counted anew");
        fs::write(maildir.join(FILE), "2000S\n12 1\nrubbish\n").unwrap();
        assert_eq!(used(&maildir, 2000).unwrap(), 515);
    }

    #[test]
    fn full_is_believed_for_a_while_only() {
        let folder = tempfile::tempdir().unwrap();
        let maildir = folder.path();
        fs::create_dir(maildir.join("tmp")).unwrap();
        fs::write(maildir.join(FILE), "100S\n100 1\n").unwrap();
        assert_eq!(used(maildir, 100).unwrap(), 100);
        let old = SystemTime::now() - BELIEVED - Duration::from_secs(60);
        fs::File::options().write(true).open(maildir.join(FILE)).unwrap().set_modified(old).unwrap();
        assert_eq!(used(maildir, 100).unwrap(), 0, "its owner has deleted mail");
    }
}
