//! Damage of every kind (guarantee G6): it is set aside or refused in words, and stops nothing else; `verify` finds it,
//! `repair` keeps what can be read, and nothing ever panics.

mod common;

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use common::load::Random;
use common::*;
use mta_queue::*;

fn kinds(directory: &Path) -> Vec<ProblemKind> {
    let verified = verify(directory, &mut |_| {}).expect("verified");
    let mut kinds: Vec<ProblemKind> = verified.problems.iter().map(|problem| problem.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

fn by_hand(directory: &Path, sql: &str) {
    let database = rusqlite::Connection::open(directory.join("queue.db")).expect("open");
    database.execute_batch(sql).expect("damage");
}

/// A closed queue of `small` small messages and a large one.
fn queue_of(small: usize) -> (tempfile::TempDir, Vec<QueueId>) {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    let mut ids: Vec<QueueId> =
        (0..small).map(|n| put(&queue, &[&format!("a@d{}.example", n % 7)], now())).collect();
    let large = message(&queue, &["large@one.example"], now(), &[b'x'; 100_000]);
    ids.push(accept(&queue, large).expect("accepted"));
    queue.close();
    (directory, ids)
}

#[test]
fn verify_tells_each_kind_of_damage_from_the_others() {
    let cases: [(&str, &str, ProblemKind); 9] = [
        ("a wrong total", "UPDATE totals SET waiting = waiting + 1", ProblemKind::Books),
        ("a wrong count of open recipients", "UPDATE message SET open = 7", ProblemKind::Books),
        ("a destination that is never due", "UPDATE destination SET due_at = NULL", ProblemKind::Books),
        ("a destination that is due late", "UPDATE destination SET due_at = due_at + 9", ProblemKind::Books),
        ("recipients without a message", "DELETE FROM message", ProblemKind::Books),
        ("content nobody needs", "INSERT INTO content VALUES (1, x'00')", ProblemKind::Books),
        ("an unreadable mailbox", "UPDATE recipient SET mailbox = 'no mailbox'", ProblemKind::Row),
        ("cut content", "UPDATE content SET data = x'00'", ProblemKind::Content),
        ("something set aside", "UPDATE recipient SET state = 6", ProblemKind::SetAside),
    ];
    for (what, sql, kind) in cases {
        let (directory, _) = queue_of(3);
        assert_eq!(kinds(directory.path()), [], "{what}: all is well before");
        by_hand(directory.path(), sql);
        assert!(kinds(directory.path()).contains(&kind), "{what}: {:?}", kinds(directory.path()));
    }
    let (directory, _) = queue_of(3);
    let content = directory.path().join("content");
    std::fs::write(content.join("README"), "a note").expect("written");
    std::fs::write(content.join("00000000001"), "nobody's").expect("written");
    let large = std::fs::read_dir(&content).expect("directory").map(|entry| entry.expect("entry").path());
    let large = large.filter(|path| path.metadata().expect("there").len() == 100_000);
    large.for_each(|path| std::fs::remove_file(path).expect("removed"));
    assert_eq!(kinds(directory.path()), [ProblemKind::Content, ProblemKind::Orphan, ProblemKind::Foreign]);
}

#[test]
fn beside_a_running_daemon_what_is_arriving_is_no_orphan() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    let arriving = content(&queue, &[b'x'; 100_000]);
    assert_eq!(kinds(directory.path()), []);
    drop(arriving);
}

#[test]
fn books_are_counted_again_by_a_repair() {
    let (directory, ids) = queue_of(5);
    by_hand(
        directory.path(),
        "UPDATE totals SET waiting = 99, messages = 0; UPDATE message SET open = 3;
         DELETE FROM destination WHERE name = 'd1.example'; UPDATE destination SET due_at = NULL, waiting = 0;
         INSERT INTO content VALUES (1, x'00');",
    );
    assert_eq!(kinds(directory.path()), [ProblemKind::Books]);
    let repaired = repair(directory.path(), &options(), &mut |_| {}).expect("repaired");
    assert_eq!(repaired, Repaired::default());
    assert_eq!(kinds(directory.path()), []);
    let queue = Queue::open(directory.path(), options()).expect("open");
    assert_eq!(claim_all(&queue, now()).len(), ids.len(), "all of it is due again");
}

#[test]
fn a_repair_waits_for_the_daemon_to_be_down() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    let refused = repair(directory.path(), &options(), &mut |_| {});
    assert!(matches!(refused, Err(BackupError::Open(OpenError::InUse { .. }))), "{refused:?}");
    drop(queue);
}

/// Overwrites a page of the database.
fn spoil(directory: &Path, page: u64, random: &mut Random) {
    let mut bytes = [0u8; 4096];
    if random.below(2) == 0 {
        bytes.fill_with(|| u8::try_from(random.below(256)).expect("a byte"));
    }
    let mut file = std::fs::File::options().write(true).open(directory.join("queue.db")).expect("open");
    file.seek(SeekFrom::Start((page - 1) * 4096)).expect("seek");
    file.write_all(&bytes).expect("written");
}

#[test]
fn any_spoiled_page_is_noticed_and_repaired_and_the_rest_of_the_mail_goes_on() {
    const ROUNDS: usize = 24;
    let mut random = Random(0x5eed);
    let mut much_lost = 0;
    for round in 0..ROUNDS {
        let (directory, ids) = queue_of(120);
        let pages = std::fs::metadata(directory.path().join("queue.db")).expect("database").len() / 4096;
        let page = 2 + random.below(pages - 1);
        spoil(directory.path(), page, &mut random);
        // The daemon: whatever it meets, it answers, and sets aside what cannot be read.
        if let Ok(queue) = Queue::open(directory.path(), options()) {
            for _ in 0..3 {
                let claimed = queue.claim(now(), 1000, &mut Plan::new(1000));
                for claim in claimed.map(|claimed| claimed.claims).unwrap_or_default() {
                    drop(queue.content_reader(claim.message.id));
                }
            }
            drop(accept(&queue, message(&queue, &["new@d1.example"], now(), b"x")));
            drop(queue.reader().counts());
            queue.close();
        }
        let before = verify(directory.path(), &mut |_| {}).map(|verified| verified.problems);
        let repaired = repair(directory.path(), &options(), &mut |_| {});
        let Ok(repaired) = repaired else {
            // The page that describes the tables: only a backup helps, and what is there stays as it is.
            much_lost += 1;
            assert!(before.is_err(), "{round}, page {page}: {repaired:?}");
            continue;
        };
        let noticed = before.as_ref().is_ok_and(|problems| !problems.is_empty()) || before.is_err();
        assert!(noticed || repaired.aside.is_none(), "{round}, page {page}: damaged and not noticed");
        let left = kinds(directory.path());
        let of_mail = [ProblemKind::Content, ProblemKind::Row, ProblemKind::SetAside];
        assert!(left.iter().all(|kind| of_mail.contains(kind)), "{round}, page {page}: {left:?}");
        let queue = Queue::open(directory.path(), options()).expect("opens after the repair");
        let there = list(&queue, &Selector::default()).len();
        // A leaf holds the rows of some messages only; the root of a table leads to all of them.
        much_lost += usize::from(there + 60 < ids.len());
        put(&queue, &["new@d1.example"], now());
    }
    assert!(much_lost <= ROUNDS / 4, "in {much_lost} of {ROUNDS} rounds most of the mail was lost");
}

#[test]
fn content_on_a_spoiled_page_is_set_aside_alone() {
    let (directory, ids) = queue_of(3);
    // Content of a whole page: its overflow page holds nothing else.
    let queue = Queue::open(directory.path(), options()).expect("open");
    let marked =
        accept(&queue, message(&queue, &["m@one.example"], now(), &[0xa5; 12_000])).expect("accepted");
    queue.close();
    drop(queue);
    let path = directory.path().join("queue.db");
    let database = std::fs::read(&path).expect("read");
    let page = database.chunks(4096).position(|page| page[100..4000].iter().all(|byte| *byte == 0xa5));
    let page = page.expect("the overflow page") as u64 + 1;
    // Its first four octets lead to the next page; now they lead nowhere.
    let mut file = std::fs::File::options().write(true).open(&path).expect("open");
    file.seek(SeekFrom::Start((page - 1) * 4096)).expect("seek");
    file.write_all(&[0xff; 4]).expect("written");
    drop(file);
    let queue = Queue::open(directory.path(), options()).expect("open");
    let claims = claim_all(&queue, now());
    assert_eq!(claims.len(), ids.len() + 1);
    for claim in &claims {
        let content = queue.content_reader(claim.message.id);
        assert_eq!(content.is_err(), claim.message.id == marked, "{content:?}");
    }
    drop(claims);
    put(&queue, &["next@one.example"], now());
    assert_eq!(claim_all(&queue, now()).len(), ids.len() + 1, "the others and the new one");
    assert_eq!(queue.reader().counts().expect("counts").damaged, 1);
}

#[test]
fn a_cut_log_loses_its_end_and_nothing_else() {
    let (directory, _) = queue_of(5);
    let queue = Queue::open(directory.path(), options()).expect("open");
    for _ in 0..20 {
        put(&queue, &["a@one.example"], now());
    }
    // As it lies on the disk while the daemon runs, with the end of its log cut off.
    let copy = tempfile::tempdir().expect("directory");
    for name in ["queue.db", "queue.db-wal"] {
        std::fs::copy(directory.path().join(name), copy.path().join(name)).expect("copied");
    }
    std::fs::create_dir(copy.path().join("content")).expect("directory");
    let log = std::fs::File::options().write(true).open(copy.path().join("queue.db-wal")).expect("open");
    log.set_len(log.metadata().expect("log").len() / 2 + 77).expect("cut");
    drop(log);
    let cut = Queue::open(copy.path(), options()).expect("open");
    let there = list(&cut, &Selector::default()).len();
    assert!(there > 6 && there < 26, "{there}");
    put(&cut, &["a@one.example"], now());
    cut.close();
    // The large one's file was not copied.
    assert_eq!(kinds(copy.path()), [ProblemKind::Content]);
}

#[test]
fn a_cut_database_is_refused_in_words_or_repaired() {
    for part in [2, 3, 10] {
        let (directory, _) = queue_of(120);
        let file =
            std::fs::File::options().write(true).open(directory.path().join("queue.db")).expect("open");
        file.set_len(file.metadata().expect("database").len() / part / 4096 * 4096).expect("cut");
        drop(file);
        drop(Queue::open(directory.path(), options()).map(|queue| claim_count(&queue)));
        match repair(directory.path(), &options(), &mut |_| {}) {
            Ok(repaired) => {
                assert!(repaired.aside.is_some_and(|aside| aside.join("queue.db").exists()));
                let queue = Queue::open(directory.path(), options()).expect("opens after the repair");
                put(&queue, &["a@one.example"], now());
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

fn claim_count(queue: &Queue) -> usize {
    queue.claim(now(), 1000, &mut Plan::new(1000)).map_or(0, |claimed| claimed.claims.len())
}

#[test]
fn a_damaged_backup_is_not_restored() {
    let (directory, ids) = queue_of(120);
    let top = tempfile::tempdir().expect("directory");
    let copy = top.path().join("copy.db");
    let moved = backup(directory.path(), &copy, false, &mut |_, _, _| {}).expect("backup");
    assert_eq!((moved.messages, moved.files), (121, 1));
    let refused = backup(directory.path(), &copy, false, &mut |_, _, _| {});
    assert_eq!(refused, Err(BackupError::Exists(copy.clone())));
    let refused = restore(&copy, directory.path(), false, &mut |_, _, _| {});
    assert!(matches!(refused, Err(BackupError::Exists(_))), "{refused:?}");
    // A table of the content: the books of the copy are wrong.
    let database = rusqlite::Connection::open(&copy).expect("open");
    database.execute_batch("DELETE FROM recipient WHERE n = 0").expect("damage");
    drop(database);
    let refused = restore(&copy, directory.path(), true, &mut |_, _, _| {});
    assert!(matches!(refused, Err(BackupError::Damaged(..))), "{refused:?}");
    let queue = Queue::open(directory.path(), options()).expect("the old one is there");
    assert_eq!(list(&queue, &Selector::default()), ids);
    let running = restore(&copy, directory.path(), true, &mut |_, _, _| {});
    assert!(matches!(running, Err(BackupError::Open(OpenError::InUse { .. }))), "{running:?}");
}

#[test]
fn a_backup_taken_while_mail_flows_is_consistent() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    let top = tempfile::tempdir().expect("directory");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                if stop.load(std::sync::atomic::Ordering::SeqCst) {
                    return;
                }
                let size = if n % 3 == 0 { 70_000 } else { 500 };
                accept(&queue, message(&queue, &["a@one.example"], now(), &vec![b'x'; size]))
                    .expect("accepted");
                for claim in claim_all(&queue, now()).into_iter().skip(2) {
                    end(&queue, claim, now(), RecipientOutcome::Delivered);
                }
            }
        });
        for n in 0..12 {
            let target = top.path().join(if n % 2 == 0 { format!("{n}.db") } else { format!("{n}/") });
            backup(directory.path(), &target, false, &mut |_, _, _| {}).expect("backup");
            let other = top.path().join(format!("restored{n}"));
            restore(&target, &other, false, &mut |_, _, _| {}).expect("restored");
            assert_eq!(kinds(&other), [], "{n}");
            let restored = Queue::open(&other, options()).expect("open");
            for id in list(&restored, &Selector::default()) {
                restored.content_reader(id).expect("whole");
            }
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
}
