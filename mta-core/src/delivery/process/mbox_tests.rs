use std::fs;
use std::os::unix::fs::symlink;

use super::*;

const LETTER: Letter<'_> = Letter {
    unique: "abc-1",
    reverse_path: "<sender@else.example>",
    recipient: "anna@own.example",
    received_at: 1_700_000_000,
    hostname: "mx.example",
};

fn appended(path: &Path, content: &[u8]) -> Result<Answer, Answer> {
    Mbox::open(path, &LETTER)?.append(MboxFormat::Mboxrd, &mut &content[..])
}

const HEAD: &str = "From sender@else.example Tue Nov 14 22:13:20 2023\nReturn-Path: <sender@else.example>\n\
                    Delivered-To: anna@own.example\nX-Delivery-Id: abc-1\n";

#[test]
fn messages_are_parted_and_lines_marked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anna");
    fs::write(&path, "From old\n\nno line end").unwrap();
    for content in ["Subject: x\r\n\r\nFrom me\r\n>From you\r\n", "Subject: y\r\n\r\nno end"] {
        assert!(matches!(appended(&path, content.as_bytes()), Ok(Answer::Delivered(_))));
    }
    let text = fs::read_to_string(&path).unwrap();
    let expected = format!(
        "From old\n\nno line end\n{HEAD}Subject: x\n\n>From me\n>>From you\n\n{HEAD}Subject: y\n\nno end\n\n"
    );
    assert_eq!(text, expected);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no lock file stays");
}

struct Broken(&'static [u8]);

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.0.read(buffer)
    }
}

#[test]
fn a_content_that_breaks_off_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anna");
    fs::write(&path, "From old\n\nx\n\n").unwrap();
    let mut mbox = Mbox::open(&path, &LETTER).ok().unwrap();
    let answer = mbox.append(MboxFormat::Mboxrd, &mut Broken(b"Subject: x\r\n\r\nhalf"));
    assert!(matches!(answer, Err(Answer::Deferred { status: (3, 0), .. })), "{answer:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "From old\n\nx\n\n");
}

#[test]
fn what_a_killed_delivery_left_is_cut_off_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (path, lock) = (folder.path().join("anna"), folder.path().join("anna.lock"));
    let old = "From old\n\nx\n\n";
    let theirs = "From other Tue Nov 14 22:13:20 2023\n\ntheirs\n\n";
    for (left, stays) in [
        // The message that was being written, killed anywhere in it.
        ("From send".to_owned(), false),
        (HEAD[..HEAD.len() - 1].to_owned(), false),
        (HEAD.to_owned(), false),
        (format!("{HEAD}Subject: half a mess"), false),
        (format!("{HEAD}Subject: From me at ten\n\n>From you Tue Nov 14 22:13:20 2023\nFrom"), false),
        // Killed before that: somebody else has written a message, short or long.
        ("From brok".to_owned(), true),
        (theirs.to_owned(), true),
        (format!("From other Tue Nov 14 22:13:20 2023\n\n{}\n\n", "theirs ".repeat(1000)), true),
        // Somebody has put more fields into the old messages.
        ("Status: RO\n\nthe end of the old message\n\n".to_owned(), true),
        (format!("the end of the old message\n\n{HEAD}Subject: half\n"), true),
        // Killed in the middle, and somebody has written behind it, on a line of its own or not.
        (format!("{HEAD}Subject: half\n\n{theirs}"), true),
        (format!("{HEAD}Subject: half{theirs}"), true),
        (format!("{HEAD}Subject: {}{theirs}", "x".repeat(MAX_LINE)), true),
        (format!("From sen{theirs}"), true),
    ] {
        let noted = Left { size: old.len() as u64, head: HEAD.into() }.to_text();
        fs::write(&lock, [b"mta 999999\n", &noted[..]].concat()).unwrap();
        fs::write(&path, format!("{old}{left}")).unwrap();
        assert!(matches!(appended(&path, b"Subject: y\r\n\r\n"), Ok(Answer::Delivered(_))));
        let text = fs::read_to_string(&path).unwrap();
        let line_end = if left.ends_with('\n') { "" } else { "\n" };
        let kept = if stays { format!("{left}{line_end}") } else { String::new() };
        assert_eq!(text, format!("{old}{kept}{HEAD}Subject: y\n\n\n"), "{left}");
        assert!(!lock.exists());
    }
}

#[test]
fn only_an_own_regular_file_with_one_name_is_a_mailbox() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("target"), "x").unwrap();
    symlink(path("target"), path("link")).unwrap();
    symlink(path("nowhere"), path("dangling")).unwrap();
    fs::hard_link(path("target"), path("second")).unwrap();
    fs::create_dir(path("folder")).unwrap();
    nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    for (name, why) in [
        ("link", "symbolic link"),
        ("dangling", "symbolic link"),
        ("second", "second name"),
        ("folder", "irectory"),
        ("fifo", "no regular file"),
        ("missing/anna", "No such file"),
    ] {
        match appended(&path(name), b"x\r\n") {
            Err(Answer::Deferred { text, .. }) => assert!(text.contains(why), "{name}: {text}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(fs::read_to_string(path("target")).unwrap(), "x");
    assert!(!path("nowhere").exists());
}

#[test]
fn a_note_that_is_not_whole_notes_nothing() {
    let whole = Left { size: 13, head: HEAD.into() }.to_text();
    assert_eq!(Left::parse(&whole), Some(Left { size: 13, head: HEAD.into() }));
    for end in 0..whole.len() {
        assert_eq!(Left::parse(&whole[..end]), None, "{end}");
    }
}

#[test]
fn a_delivery_killed_behind_its_end_is_not_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anna");
    let mut mbox = Mbox::open(&path, &LETTER).ok().unwrap();
    assert!(mbox.append(MboxFormat::Mboxrd, &mut &b"Subject: first\r\n\r\n"[..]).is_ok());
    // As where the process dies between the last sync and the unlocking: its lock file stays.
    std::mem::forget(mbox);
    assert!(folder.path().join("anna.lock").exists());
    assert!(matches!(appended(&path, b"Subject: second\r\n\r\n"), Ok(Answer::Delivered(_))));
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("Subject: first\n") && text.contains("Subject: second\n"), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// By which the test below tells its processes where they deliver to, and who they are.
const SHARED: &str = "MTA_TEST_SHARED_MBOX";

const PROCESSES: usize = 6;
const MESSAGES: usize = 80;

#[test]
#[ignore = "a part of the next test, which runs it in processes of their own: locks of one process exclude nobody"]
fn one_of_several_processes() {
    let Ok(path) = std::env::var(SHARED) else { return };
    let own = std::process::id();
    for number in 0..MESSAGES {
        let content = format!("Subject: {own} {number}\r\n\r\nbody\r\n");
        let answer = appended(Path::new(&path), content.as_bytes());
        assert!(matches!(answer, Ok(Answer::Delivered(_))), "{answer:?}");
    }
}

#[test]
fn what_several_processes_deliver_at_once_is_all_there() {
    // In memory, where it can be had: a sync of the disk is not what is tried here.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = folder.path().join("anna");
    let started: Vec<_> = (0..PROCESSES)
        .map(|_| {
            let name = concat!(module_path!(), "::one_of_several_processes");
            std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--ignored", "--exact", name.split_once("::").unwrap().1])
                .env(SHARED, &path)
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let pids: Vec<_> = started.iter().map(std::process::Child::id).collect();
    for process in started {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let text = fs::read_to_string(&path).unwrap();
    for pid in pids {
        for number in 0..MESSAGES {
            let line = format!("\nSubject: {pid} {number}\n");
            assert_eq!(text.matches(&line).count(), 1, "{line}");
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no lock file stays");
}

#[test]
fn another_lock_file_is_waited_for_until_it_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let (path, lock) = (folder.path().join("anna"), folder.path().join("anna.lock"));
    fs::write(&lock, "4711\n").unwrap();
    assert!(matches!(LockFile::take(&path), Ok(Lock::Busy)));
    let old = SystemTime::now() - STALE_AFTER - Duration::from_secs(60);
    File::options().write(true).open(&lock).unwrap().set_modified(old).unwrap();
    assert!(matches!(LockFile::take(&path), Ok(Lock::Taken(_, None))));
}
