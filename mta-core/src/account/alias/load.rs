//! Alias files from disk, with what they include.
//!
//! A file is read only where it belongs to root or to the user we run as and nobody else may write it, so that no user
//! can redirect the mail of others; and only up to a bound. What it does not: `.forward` files, which the delivery
//! process reads as their owner.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{AliasError, Entry, FileAliases, Member, Place, parse};

/// The most of one file that is read, octets.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// How deep files may include each other.
pub const MAX_INCLUDE_DEPTH: usize = 5;

/// Files included in all.
const MAX_INCLUDES: usize = 256;

/// What the files are recognised by when they are looked at again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen(Vec<(PathBuf, Option<Mark>)>);

/// Device, inode, time of change in seconds and nanoseconds, size, mode, owner. A new mode or owner is a change, too: that
/// is how a file that may not be believed is mended.
type Mark = (u64, u64, i64, i64, u64, u32, u32);

impl Seen {
    /// Whether all of the files are still what they were.
    pub fn is_current(&self) -> bool {
        self.0.iter().all(|(path, mark)| mark_of(path) == *mark)
    }
}

/// The mark of a file; nothing where there is none.
fn mark_of(path: &Path) -> Option<Mark> {
    let found = std::fs::metadata(path).ok()?;
    let changed = (found.ctime(), found.ctime_nsec());
    Some((found.dev(), found.ino(), changed.0, changed.1, found.size(), found.mode(), found.uid()))
}

/// What was read.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The aliases. Of two with one name the first counts.
    pub aliases: FileAliases,
    /// All that is wrong, in the order of the files.
    pub errors: Vec<AliasError>,
    /// What to look at to know whether it has changed.
    pub seen: Seen,
    /// When.
    pub at: Option<SystemTime>,
}

/// Reads alias files; one that does not exist is empty. Blocking.
pub fn load(files: &[PathBuf]) -> Loaded {
    let mut loaded = Loaded { at: Some(SystemTime::now()), ..Loaded::default() };
    let mut includes = Vec::new();
    for path in files {
        loaded.seen.0.push((path.clone(), mark_of(path)));
        let text = match read(path) {
            Ok(Some(text)) => text,
            Ok(None) => continue,
            Err(cause) => {
                let error = AliasError { place: Place { file: path.clone(), line: 0 }, cause };
                loaded.aliases.doubts.push(error.clone());
                loaded.errors.push(error);
                continue;
            }
        };
        let (entries, errors) = parse::file(path, &text);
        let named: HashSet<usize> = entries.iter().map(|entry| entry.place.line).collect();
        loaded.aliases.doubts.extend(errors.iter().find(|error| !named.contains(&error.place.line)).cloned());
        loaded.errors.extend(errors);
        for entry in entries {
            collect_includes(entry.members.as_deref().unwrap_or_default(), &entry.place, 1, &mut includes);
            keep(&mut loaded, entry);
        }
    }
    read_includes(&mut loaded, includes);
    find_loops(&mut loaded);
    loaded
}

/// Keeps an entry, unless there is one of that name.
fn keep(loaded: &mut Loaded, entry: Entry) {
    if let Some(first) = loaded.aliases.entries.get(&entry.name) {
        let at = AliasError { place: first.place.clone(), cause: String::new() };
        let at = at.to_string();
        let cause =
            format!("{} is an alias already at {}: that one counts", entry.name, at.trim_end_matches(": "));
        loaded.errors.push(AliasError { place: entry.place, cause });
        return;
    }
    loaded.aliases.entries.insert(entry.name.clone(), entry);
}

/// A file that is included, where, and how deep.
type Included = (PathBuf, Place, usize);

fn collect_includes(members: &[Member], place: &Place, depth: usize, into: &mut Vec<Included>) {
    for member in members {
        if let Member::Include(path) = member {
            into.push((path.clone(), place.clone(), depth));
        }
    }
}

fn read_includes(loaded: &mut Loaded, mut waiting: Vec<Included>) {
    while let Some((path, place, depth)) = waiting.pop() {
        if loaded.aliases.includes.contains_key(&path) {
            continue;
        }
        let found = if depth > MAX_INCLUDE_DEPTH {
            Err(format!("files include each other more than {MAX_INCLUDE_DEPTH} deep"))
        } else if loaded.aliases.includes.len() >= MAX_INCLUDES {
            Err(format!("more than {MAX_INCLUDES} files are included"))
        } else {
            loaded.seen.0.push((path.clone(), mark_of(&path)));
            included(&path)
        };
        match &found {
            Ok(members) => {
                collect_includes(members, &Place { file: path.clone(), line: 0 }, depth + 1, &mut waiting)
            }
            Err(cause) => {
                let cause = format!(":include:{}: {cause}", path.display());
                loaded.errors.push(AliasError { place, cause });
            }
        }
        loaded.aliases.includes.insert(path, found);
    }
}

fn included(path: &Path) -> Result<Vec<Member>, String> {
    let text = read(path)?.ok_or("there is no such file")?;
    parse::list(path, &text).map_err(|error| error.to_string())
}

/// The text of a file that may be believed; nothing where there is none.
///
/// # Errors
/// Why it is not to be had.
fn read(path: &Path) -> Result<Option<String>, String> {
    // Not blocking: a FIFO with nobody behind it would hold us for ever.
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    let file =
        OpenOptions::new().read(true).custom_flags(i32::try_from(flags).unwrap_or_default()).open(path);
    let file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    check_owner(&file)?;
    let mut text = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("it is larger than {MAX_FILE_BYTES} octets"));
    }
    String::from_utf8(text).map(Some).map_err(|_| "it is not UTF-8".to_owned())
}

/// Security decision: whose word about other people's mail counts.
fn check_owner(file: &File) -> Result<(), String> {
    let found = file.metadata().map_err(|error| error.to_string())?;
    let us = nix::unistd::geteuid().as_raw();
    if !found.is_file() {
        return Err("it is no regular file".to_owned());
    }
    if found.uid() != 0 && found.uid() != us {
        let owner = if us == 0 { "root" } else { "root or to the service's user" };
        return Err(format!("it belongs to user {}: it must belong to {owner}", found.uid()));
    }
    if found.mode() & 0o022 != 0 {
        return Err(format!("others may write it (mode {:03o}): chmod go-w", found.mode() & 0o777));
    }
    Ok(())
}

/// Names that stand for each other and for nobody else: found here, so that the administrator hears of it before mail does.
/// A name that is its own member means its mailbox.
fn find_loops(loaded: &mut Loaded) {
    let mut done: HashSet<String> = HashSet::new();
    let mut names: Vec<&String> = loaded.aliases.entries.keys().collect();
    names.sort();
    let mut found: HashMap<String, String> = HashMap::new();
    for start in names {
        let mut path: Vec<&str> = Vec::new();
        walk(&loaded.aliases, start, &mut path, &mut done, &mut found);
    }
    for (name, cause) in found {
        if let Some(entry) = loaded.aliases.entries.get_mut(&name) {
            loaded.errors.push(AliasError { place: entry.place.clone(), cause: cause.clone() });
            entry.members = Err(cause);
        }
    }
}

fn walk<'a>(
    aliases: &'a FileAliases,
    name: &'a str,
    path: &mut Vec<&'a str>,
    done: &mut HashSet<String>,
    found: &mut HashMap<String, String>,
) {
    if let Some(at) = path.iter().position(|known| *known == name) {
        let circle = path.get(at..).unwrap_or_default();
        if circle.len() > 1 {
            let cause = format!("it leads back to itself: {} -> {name}", circle.join(" -> "));
            found.insert(name.to_owned(), cause);
        }
        return;
    }
    if done.contains(name) || path.len() > MAX_DEPTH {
        return;
    }
    let Some(Entry { members: Ok(members), .. }) = aliases.entries.get(name) else { return };
    path.push(name);
    for member in members {
        match member {
            Member::Name(next) => walk(aliases, next, path, done, found),
            Member::Include(file) => {
                for next in aliases.included(file).and_then(|list| list.as_deref().ok()).unwrap_or_default() {
                    if let Member::Name(next) = next {
                        walk(aliases, next, path, done, found);
                    }
                }
            }
            _ => {}
        }
    }
    path.pop();
    done.insert(name.to_owned());
}

/// How deep the search for loops goes; expansion has its own bound below this.
const MAX_DEPTH: usize = 64;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn loaded(text: &str) -> Loaded {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("aliases");
        fs::write(&file, text.replace("DIR", &folder.path().display().to_string())).unwrap();
        fs::write(folder.path().join("list"), "# members\na@else.example, b\nbob\n").unwrap();
        fs::write(folder.path().join("open"), "evil@else.example\n").unwrap();
        fs::set_permissions(folder.path().join("open"), fs::Permissions::from_mode(0o666)).unwrap();
        fs::write(folder.path().join("deep"), ":include:/nowhere/at/all\n").unwrap();
        fs::write(folder.path().join("huge"), "x\n".repeat(600_000)).unwrap();
        symlink("/dev/zero", folder.path().join("zero")).unwrap();
        load(&[file, folder.path().join("missing")])
    }

    #[test]
    fn includes_are_read_with_the_rest() {
        let loaded = loaded("team: :include:DIR/list\n");
        assert_eq!(loaded.errors, []);
        let Ok(members) = &loaded.aliases.get("TEAM").unwrap().members else { panic!() };
        let Member::Include(path) = &members[0] else { panic!() };
        assert_eq!(loaded.aliases.included(path).unwrap().as_ref().map(Vec::len), Ok(3));
        assert!(loaded.seen.is_current() || !path.exists());
    }

    #[test]
    fn what_cannot_be_believed_is_refused_and_named() {
        for (text, cause) in [
            ("x: :include:DIR/open", "others may write it"),
            ("x: :include:DIR/gone", "no such file"),
            ("x: :include:DIR/huge", "larger than"),
            ("x: :include:DIR/zero", "no regular file"),
            ("x: :include:DIR", "no regular file"),
            ("x: a\nX: b", "is an alias already at"),
            ("x: y\ny: z\nz: x", "leads back to itself: x -> y -> z -> x"),
        ] {
            let loaded = loaded(text);
            assert!(
                loaded.errors.iter().any(|e| e.to_string().contains(cause)),
                "{text}: {:?}",
                loaded.errors
            );
        }
    }

    #[test]
    fn a_name_that_is_its_own_member_is_no_loop() {
        for text in ["anna: anna, b@else.example", "anna: \\anna", "a: b, c\nb: c\nc: d"] {
            assert_eq!(loaded(text).errors, [], "{text}");
        }
    }

    #[test]
    fn what_may_hide_a_name_is_kept_in_mind() {
        let doubts = |text: &str| {
            let loaded = loaded(text);
            loaded.aliases.doubts().iter().map(|error| error.place.line).collect::<Vec<_>>()
        };
        assert_eq!(
            doubts("a: b\nx: a b\n"),
            [] as [usize; 0],
            "its name is known: mail for it waits as it is"
        );
        assert_eq!(doubts("a: b\nno colon\nneither\n"), [2]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("aliases");
        fs::write(&file, "a: b\n").unwrap();
        for mode in [0o664, 0o646] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let loaded = load(std::slice::from_ref(&file));
            assert_eq!(loaded.aliases.doubts(), loaded.errors, "{mode:o}");
            assert_eq!(loaded.aliases.doubts().len(), 1, "{mode:o}");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
            assert!(!loaded.seen.is_current(), "it was mended");
        }
        fs::write(&file, [b'a', b':', 0xff, b'\n']).unwrap();
        assert_eq!(load(std::slice::from_ref(&file)).aliases.doubts().len(), 1);
        fs::remove_file(&file).unwrap();
        assert_eq!(load(std::slice::from_ref(&file)).aliases.doubts(), []);
    }

    #[test]
    fn a_change_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("aliases");
        let before = load(std::slice::from_ref(&file));
        assert!(before.seen.is_current() && before.aliases.is_empty());
        fs::write(&file, "a: b\n").unwrap();
        assert!(!before.seen.is_current());
        assert_eq!(load(&[file]).aliases.len(), 1);
    }
}
