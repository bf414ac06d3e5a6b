//! A disk that loses what was not synced: the calls that the real program made (read from strace, with all their bytes),
//! and what a power cut at any instant of them may leave behind.
//!
//! The model is the harsh reading of POSIX: until a file is synced, each 4 KiB block of it may be as it was after the last
//! sync or as any later write made it, in any mixture, and so may its length; until a directory is synced, each name made
//! or taken away in it may or may not be there. Only what `fsync` or `fdatasync` returned for is certain.
//!
//! A sync of a file that failed is told once, as Linux does it: what it should have written counts as clean from then on, and
//! no later sync makes it certain, until something is written to the same block again.

#![allow(dead_code, unreachable_pub)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::load::Random;

const BLOCK: usize = 4096;

/// The calls that change files, and those that say which.
/// (The question mark: not every machine has each of them.)
const CALLS: &str = "?open,openat,write,pwrite64,ftruncate,fsync,fdatasync,?rename,?renameat,renameat2,?unlink,unlinkat,linkat,?mkdir,mkdirat";

/// strace, where it is there and may trace.
pub fn strace() -> Option<&'static str> {
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    works.is_ok_and(|output| output.status.success()).then_some("strace")
}

/// Arguments for strace that write all calls of the program behind them to `file`.
pub fn arguments(file: &Path) -> Vec<String> {
    let file = file.display().to_string();
    let fixed = ["-f", "--seccomp-bpf", "-xx", "-s", "300000", "-e", "signal=none", "-o", &file, "-e"]
        .map(str::to_owned);
    fixed.into_iter().chain([format!("trace={CALLS}")]).collect()
}

/// One call, when it returned.
#[derive(Debug, Clone)]
pub enum Event {
    /// A file by number was opened, perhaps made; without a name where it has none yet.
    Open {
        inode: usize,
        made_at: Option<PathBuf>,
        emptied: bool,
    },
    Write {
        inode: usize,
        offset: usize,
        data: Vec<u8>,
    },
    Truncate {
        inode: usize,
        length: usize,
    },
    /// Covers what had returned when the call began: the first so many events.
    Sync {
        inode: usize,
        began: usize,
    },
    /// It reported an error.
    SyncFailed {
        inode: usize,
        began: usize,
    },
    SyncDirectory {
        path: PathBuf,
        began: usize,
    },
    Link {
        inode: usize,
        path: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    MakeDirectory {
        path: PathBuf,
    },
    /// The program said this.
    Said(String),
}

/// A file descriptor of the program.
#[derive(Clone)]
enum Open {
    File { inode: usize, position: usize },
    Directory(PathBuf),
}

/// Reads a trace.
#[derive(Default)]
pub struct Trace {
    pub events: Vec<Event>,
    /// The first name of each file, for choosing kinds of files in a test.
    pub names: Vec<PathBuf>,
    open: HashMap<i64, Open>,
    by_path: BTreeMap<PathBuf, usize>,
    /// Calls that began and did not return yet: text, and the events before them.
    unfinished: HashMap<String, (String, usize)>,
    top: PathBuf,
    /// What was there, for certain, before: files with their content, and directories.
    before: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

/// Everything below a directory, itself left out.
pub fn snapshot(directory: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("directory") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            all.append(&mut snapshot(&path));
            all.insert(path, None);
        } else {
            all.insert(path.clone(), Some(std::fs::read(path).expect("read")));
        }
    }
    all
}

impl Trace {
    /// The events below `top`, where this was there before.
    pub fn read(text: &str, top: &Path, before: BTreeMap<PathBuf, Option<Vec<u8>>>) -> Self {
        let mut trace = Self { top: top.to_owned(), before, ..Self::default() };
        for (path, content) in &trace.before {
            if content.is_some() {
                trace.by_path.insert(path.clone(), trace.names.len());
                trace.names.push(path.clone());
            }
        }
        for line in text.lines() {
            let Some((process, rest)) = line.split_once(' ') else { continue };
            let rest = rest.trim_start();
            if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
                let before = trace.events.len();
                trace.unfinished.insert(process.to_owned(), (begun.to_owned(), before));
            } else if rest.starts_with("<...") {
                let Some((begun, before)) = trace.unfinished.remove(process) else { continue };
                let end = rest.split_once("resumed>").map_or("", |(_, end)| end);
                trace.call(&format!("{begun}{end}"), before);
            } else {
                let before = trace.events.len();
                trace.call(rest, before);
            }
        }
        trace
    }

    fn call(&mut self, text: &str, began: usize) {
        let Some((name, rest)) = text.split_once('(') else { return };
        let Some((arguments, result)) = rest.rsplit_once(" = ") else { return };
        let arguments = arguments.trim_end().trim_end_matches(')');
        let result: i64 = result.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(-1);
        let arguments = split(arguments);
        let number = |n: usize| arguments.get(n).and_then(|text| text.parse::<i64>().ok()).unwrap_or(-1);
        if result < 0 {
            if let ("fsync" | "fdatasync", Some(Open::File { inode, .. })) = (name, self.open.get(&number(0)))
            {
                self.events.push(Event::SyncFailed { inode: *inode, began });
            }
            return;
        }
        let bytes = |n: usize| arguments.get(n).map(|text| unhex(text)).unwrap_or_default();
        let path = |n: usize| plain(Path::new(&*String::from_utf8_lossy(&bytes(n))));
        let written = usize::try_from(result).expect("not negative");
        match name {
            "open" => self.opened(&path(0), arguments.get(1).map_or("", String::as_str), result),
            "openat" => self.opened(&path(1), arguments.get(2).map_or("", String::as_str), result),
            "write" if number(0) == 1 => {
                let said = String::from_utf8_lossy(&bytes(1)).into_owned();
                self.events
                    .extend(said.lines().filter(|line| !line.is_empty()).map(|l| Event::Said(l.to_owned())));
            }
            "write" => {
                if let Some(Open::File { inode, position }) = self.open.get_mut(&number(0)) {
                    let data = bytes(1)[..written].to_vec();
                    let event = Event::Write { inode: *inode, offset: *position, data };
                    *position += written;
                    self.events.push(event);
                }
            }
            "pwrite64" => {
                if let Some(Open::File { inode, .. }) = self.open.get(&number(0)) {
                    let (data, offset) = (bytes(1)[..written].to_vec(), number(3));
                    let offset = usize::try_from(offset).expect("an offset");
                    self.events.push(Event::Write { inode: *inode, offset, data });
                }
            }
            "ftruncate" => {
                if let Some(Open::File { inode, .. }) = self.open.get(&number(0)) {
                    let length = usize::try_from(number(1)).expect("a length");
                    self.events.push(Event::Truncate { inode: *inode, length });
                }
            }
            "fsync" | "fdatasync" => match self.open.get(&number(0)) {
                Some(Open::File { inode, .. }) => self.events.push(Event::Sync { inode: *inode, began }),
                Some(Open::Directory(path)) => {
                    self.events.push(Event::SyncDirectory { path: path.clone(), began });
                }
                None => {}
            },
            "rename" => self.renamed(path(0), path(1)),
            "renameat" | "renameat2" => self.renamed(path(1), path(3)),
            "unlink" => self.unlinked(path(0)),
            "unlinkat" => self.unlinked(path(1)),
            "linkat" => {
                let from = path(1);
                let fd = from.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(-1);
                if let Some(Open::File { inode, .. }) = self.open.get(&fd) {
                    let (inode, path) = (*inode, path(3));
                    self.by_path.insert(path.clone(), inode);
                    self.names[inode].clone_from(&path);
                    self.events.push(Event::Link { inode, path });
                }
            }
            "mkdir" => self.made_directory(path(0)),
            "mkdirat" => self.made_directory(path(1)),
            _ => {}
        }
    }

    fn opened(&mut self, path: &Path, flags: &str, fd: i64) {
        self.open.remove(&fd);
        if !path.starts_with(&self.top) {
            return;
        }
        if flags.contains("O_TMPFILE") {
            self.names.push(PathBuf::new());
            let inode = self.names.len() - 1;
            self.open.insert(fd, Open::File { inode, position: 0 });
            self.events.push(Event::Open { inode, made_at: None, emptied: false });
            return;
        }
        let known = self.by_path.get(path).copied();
        if known.is_none() && !flags.contains("O_CREAT") {
            self.open.insert(fd, Open::Directory(path.to_owned()));
            return;
        }
        let inode = known.unwrap_or_else(|| {
            self.names.push(path.to_owned());
            self.by_path.insert(path.to_owned(), self.names.len() - 1);
            self.names.len() - 1
        });
        self.open.insert(fd, Open::File { inode, position: 0 });
        let made_at = known.is_none().then(|| path.to_owned());
        self.events.push(Event::Open { inode, made_at, emptied: flags.contains("O_TRUNC") });
    }

    fn renamed(&mut self, from: PathBuf, to: PathBuf) {
        if from.starts_with(&self.top) {
            let below: Vec<PathBuf> =
                self.by_path.keys().filter(|path| path.starts_with(&from)).cloned().collect();
            for path in below {
                let inode = self.by_path.remove(&path).expect("listed");
                let rest = path.strip_prefix(&from).expect("below");
                let new = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                self.by_path.insert(new, inode);
            }
            self.events.push(Event::Rename { from, to });
        }
    }

    fn unlinked(&mut self, path: PathBuf) {
        if path.starts_with(&self.top) {
            self.by_path.remove(&path);
            self.events.push(Event::Unlink { path });
        }
    }

    fn made_directory(&mut self, path: PathBuf) {
        if path.starts_with(&self.top) {
            self.events.push(Event::MakeDirectory { path });
        }
    }
}

/// A path without `..`: SQLite asks for files by such paths, whatever it was given.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

/// Arguments of a call; commas inside strings do not part them, for strings are all hexadecimal.
fn split(arguments: &str) -> Vec<String> {
    arguments.split(", ").map(str::to_owned).collect()
}

/// The bytes of `"\x61\x62"`.
fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim_matches('"').split("\\x").skip(1);
    digits.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

/// A file: as it is for certain, and what was done since.
#[derive(Default, Clone)]
struct File {
    certain: Vec<u8>,
    since: Vec<Pending>,
}

/// A change that is not certain.
#[derive(Clone)]
struct Pending {
    at: usize,
    change: Change,
    /// The system takes it for written, for it told that it could not write it.
    is_given_up: bool,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone)]
enum NameChange {
    Link(PathBuf, Node),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Clone, Copy)]
enum Node {
    File(usize),
    Directory,
}

/// How the power cut treats what is not certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All of it is lost.
    Lost,
    /// All of it is there: the process was killed, not the machine.
    Kept,
    /// Anything may have happened to each part.
    Mixed,
}

/// The disk at an instant of a trace.
pub struct Disk {
    files: Vec<File>,
    names: BTreeMap<PathBuf, Node>,
    names_since: Vec<(usize, NameChange)>,
}

impl Disk {
    /// The disk after the first `count` events. Syncs for which `ignored` holds did nothing.
    pub fn after(trace: &Trace, count: usize, ignored: &dyn Fn(&Event) -> bool) -> Self {
        let files = vec![File::default(); trace.names.len()];
        let mut disk = Self { files, names: BTreeMap::new(), names_since: Vec::new() };
        let mut inode = 0;
        for (path, content) in &trace.before {
            let node = content.as_ref().map_or(Node::Directory, |content| {
                disk.files[inode].certain.clone_from(content);
                inode += 1;
                Node::File(inode - 1)
            });
            disk.names.insert(path.clone(), node);
        }
        for (at, event) in trace.events.iter().take(count).enumerate() {
            if !ignored(event) {
                disk.event(at, event);
            }
        }
        disk
    }

    fn event(&mut self, at: usize, event: &Event) {
        match event {
            Event::Open { inode, made_at, emptied } => {
                if let Some(path) = made_at {
                    self.names_since.push((at, NameChange::Link(path.clone(), Node::File(*inode))));
                }
                if *emptied {
                    self.files[*inode].changed(at, Change::Truncate(0));
                }
            }
            Event::Write { inode, offset, data } => {
                self.files[*inode].changed(at, Change::Write(*offset, data.clone()));
            }
            Event::Truncate { inode, length } => {
                self.files[*inode].changed(at, Change::Truncate(*length));
            }
            Event::Sync { inode, began } => {
                let file = &mut self.files[*inode];
                let (covered, rest): (Vec<_>, Vec<_>) =
                    file.since.drain(..).partition(|pending| pending.at < *began && !pending.is_given_up);
                covered.into_iter().for_each(|pending| apply(&mut file.certain, &pending.change));
                file.since = rest;
            }
            Event::SyncFailed { inode, began } => self.files[*inode].give_up(*began),
            Event::SyncDirectory { path, began } => {
                let (covered, rest): (Vec<_>, Vec<_>) = self
                    .names_since
                    .drain(..)
                    .partition(|(at, change)| at < began && change.directories().contains(&path.as_path()));
                covered.into_iter().for_each(|(_, change)| rename(&mut self.names, &change));
                self.names_since = rest;
            }
            Event::Link { inode, path } => {
                self.names_since.push((at, NameChange::Link(path.clone(), Node::File(*inode))));
            }
            Event::Unlink { path } => self.names_since.push((at, NameChange::Unlink(path.clone()))),
            Event::Rename { from, to } => {
                self.names_since.push((at, NameChange::Rename(from.clone(), to.clone())));
            }
            Event::MakeDirectory { path } => {
                self.names_since.push((at, NameChange::Link(path.clone(), Node::Directory)));
            }
            Event::Said(_) => {}
        }
    }

    /// Writes what is left of the disk to `target`, which stands for `top`.
    pub fn leave(&self, top: &Path, target: &Path, fate: Fate, random: &mut Random) {
        let mut names = self.names.clone();
        for (_, change) in &self.names_since {
            if fate.survives(random) {
                rename(&mut names, change);
            }
        }
        for (path, node) in &names {
            let Ok(below) = path.strip_prefix(top) else { continue };
            // The index of the log is memory that processes share; after a power cut it holds anything.
            let is_index = path.extension().is_some_and(|extension| extension == "db-shm");
            let path = target.join(below);
            match node {
                Node::Directory => drop(std::fs::create_dir(&path)),
                Node::File(_) if is_index => drop(std::fs::write(&path, [0x5a; 32 << 10])),
                // A name whose directory was lost is lost.
                Node::File(inode) => drop(std::fs::write(&path, self.files[*inode].left(fate, random))),
            }
        }
    }
}

impl Fate {
    fn survives(self, random: &mut Random) -> bool {
        match self {
            Self::Lost => false,
            Self::Kept => true,
            Self::Mixed => random.below(2) == 0,
        }
    }
}

impl File {
    fn changed(&mut self, at: usize, change: Change) {
        // The system writes whole blocks: with a new write of one goes what it had given up of it.
        if let Change::Write(offset, data) = &change {
            let blocks = offset / BLOCK..=(offset + data.len().max(1) - 1) / BLOCK;
            for pending in self.since.iter_mut().filter(|pending| pending.is_given_up) {
                if pending.change.block().is_some_and(|block| blocks.contains(&block)) {
                    (pending.at, pending.is_given_up) = (at, false);
                }
            }
        }
        self.since.push(Pending { at, change, is_given_up: false });
    }

    fn give_up(&mut self, began: usize) {
        let since = std::mem::take(&mut self.since);
        self.since = since
            .into_iter()
            .flat_map(|pending| {
                let is_given_up =
                    pending.is_given_up || pending.at < began && pending.change.block().is_some();
                let parts = if is_given_up { pieces(&pending.change) } else { vec![pending.change] };
                parts.into_iter().map(move |change| Pending { at: pending.at, change, is_given_up })
            })
            .collect();
    }

    fn left(&self, fate: Fate, random: &mut Random) -> Vec<u8> {
        let mut content = self.certain.clone();
        if fate != Fate::Mixed {
            let kept = self.since.iter().filter(|_| fate == Fate::Kept);
            kept.for_each(|pending| apply(&mut content, &pending.change));
            return content;
        }
        // Each block of each write by itself. Which of two writes of a block is the later one does not matter to the disk.
        let pieces = self.since.iter().flat_map(|pending| pieces(&pending.change));
        let kept: Vec<Change> = pieces.filter(|_| random.below(2) == 0).collect();
        kept.iter().for_each(|change| apply(&mut content, change));
        content
    }
}

impl NameChange {
    fn directories(&self) -> Vec<&Path> {
        let paths = match self {
            Self::Link(path, _) | Self::Unlink(path) => vec![path],
            Self::Rename(from, to) => vec![from, to],
        };
        paths.into_iter().filter_map(|path| path.parent()).collect()
    }
}

impl Change {
    /// The block where a write begins.
    fn block(&self) -> Option<usize> {
        match self {
            Self::Truncate(_) => None,
            Self::Write(offset, _) => Some(offset / BLOCK),
        }
    }
}

/// The parts of a change in each block.
fn pieces(change: &Change) -> Vec<Change> {
    let Change::Write(offset, data) = change else { return vec![change.clone()] };
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let end = ((offset + at) / BLOCK + 1) * BLOCK - offset;
        let end = end.min(data.len());
        pieces.push(Change::Write(offset + at, data[at..end].to_vec()));
        at = end;
    }
    pieces
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Truncate(length) => content.resize(*length, 0),
        Change::Write(offset, data) => {
            let end = offset + data.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*offset..end].copy_from_slice(data);
        }
    }
}

fn rename(names: &mut BTreeMap<PathBuf, Node>, change: &NameChange) {
    match change {
        NameChange::Link(path, node) => drop(names.insert(path.clone(), *node)),
        NameChange::Unlink(path) => drop(names.remove(path)),
        NameChange::Rename(from, to) => {
            let moved: Vec<PathBuf> = names.keys().filter(|path| path.starts_with(from)).cloned().collect();
            for path in moved {
                let node = names.remove(&path).expect("listed");
                let rest = path.strip_prefix(from).expect("below");
                let new = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                names.insert(new, node);
            }
        }
    }
}
