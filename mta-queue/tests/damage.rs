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

/// Overwrites the first page of this kind (SQLite's number: 10 is a leaf of keys, 13 one of rows) that holds `text`.
fn spoil_leaf(directory: &Path, kind: u8, text: &[u8]) {
    let path = directory.join("queue.db");
    let database = std::fs::read(&path).expect("read");
    let is_it = |page: &[u8]| page[0] == kind && page.windows(text.len()).any(|window| window == text);
    let page = database.chunks(4096).position(is_it).expect("a leaf");
    let mut file = std::fs::File::options().write(true).open(path).expect("open");
    file.seek(SeekFrom::Start(page as u64 * 4096)).expect("seek");
    file.write_all(&[0xff; 4096]).expect("written");
}

/// Everything is there after the repair, whole; returns what was named, which `verify` names, too.
fn repair_all(directory: &Path, ids: &[QueueId]) -> Vec<(QueueId, String)> {
    let repaired = repair(directory, &options(), &mut |_| {}).expect("repaired");
    assert!(repaired.has_losses() && repaired.rows_lost);
    let lost: Vec<(QueueId, String)> = repaired
        .messages_lost
        .into_iter()
        .map(|lost| (lost.message.parse().expect("an id"), lost.what))
        .collect();
    let verified = verify(directory, &mut |_| {}).expect("verified");
    let of_message = |id: &QueueId| {
        let id = Some(id.to_string());
        verified.problems.iter().filter(|p| p.message == id).map(|p| p.kind).collect::<Vec<_>>()
    };
    for (id, what) in lost.iter().take(50) {
        assert_eq!(of_message(id), [ProblemKind::SetAside], "{what}");
    }
    assert_eq!(kinds(directory), [ProblemKind::SetAside], "the next one names them, too");
    let queue = Queue::open(directory, options()).expect("open");
    assert_eq!(list(&queue, &Selector::default()), ids, "no message is taken for finished");
    ids.iter().for_each(|id| drop(queue.content_reader(*id).expect("content is kept")));
    queue.close();
    lost
}

fn only(id: QueueId) -> Selector {
    Selector { ids: vec![id], ..Selector::default() }
}

#[test]
fn a_message_whose_recipients_are_on_a_spoiled_page_is_named_and_set_aside_with_its_content() {
    let (directory, ids) = queue_of(300);
    spoil_leaf(directory.path(), 10, b"a@d3.example");
    let lost = repair_all(directory.path(), &ids);
    assert!(lost.len() > 20 && lost.len() < 200, "{}", lost.len());
    assert!(lost.iter().all(|(_, what)| what == "a recipient of it is lost"), "{lost:?}");

    let queue = Queue::open(directory.path(), options()).expect("open");
    let claims = claim_all(&queue, now());
    assert_eq!(claims.len() + lost.len(), ids.len(), "the others go on");
    assert!(claims.iter().all(|claim| lost.iter().all(|(id, _)| *id != claim.message.id)));
    drop(claims);
    let (first, second) = (lost[0].0, lost[1].0);
    let shown = queue.reader().show(first).expect("read").expect("there");
    let recipient = &shown.listed.recipients[0];
    assert_eq!(shown.listed.recipients.len(), 1);
    assert_eq!(recipient.state, RecipientState::Damaged);
    assert_eq!(recipient.last_reply.as_deref(), Some("a recipient of it is lost"));
    // Nothing is sent to nobody.
    assert_eq!(queue.retry(&only(first), now()), Ok(0));
    // The administrator knows from the log where it was to go.
    let by = By { who: "carol", reason: "" };
    let edit = Edit::Mailbox(mailbox("a@found.example"));
    assert_eq!(
        queue
            .reader()
            .count(ChangeKind::Redirect, &only(first), Page { after: None, limit: 9 })
            .expect("read")
            .0,
        1
    );
    assert_eq!(queue.edit_step(&edit, &only(first), None, by, now()).expect("edited").recipients, 1);
    let claim = claim_all(&queue, now()).into_iter().find(|claim| claim.message.id == first).expect("due");
    assert_eq!((claim.next_hop.as_str(), &claim.recipients[0].recipient.orcpt), ("found.example", &None));
    end(&queue, claim, now(), RecipientOutcome::Delivered);
    assert_eq!(queue.drop_messages(&only(second), now()), Ok(1));
    let counts = queue.reader().counts().expect("counts");
    assert_eq!(counts.damaged, lost.len() as u64 - 2);
    queue.close();
    assert_eq!(kinds(directory.path()), [ProblemKind::SetAside], "the books are right");
}

#[test]
fn a_message_that_lost_some_of_its_recipients_keeps_the_others() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    let many: Vec<String> = (0..200).map(|n| format!("r{n}@one.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let id = put(&queue, &many, now());
    queue.close();
    drop(queue);
    spoil_leaf(directory.path(), 10, b"r99@one.example");
    let lost = repair_all(directory.path(), &[id]);
    let queue = Queue::open(directory.path(), options()).expect("open");
    let kept: usize = claim_all(&queue, now()).iter().map(|claim| claim.recipients.len()).sum();
    assert_eq!(lost, [(id, format!("{} recipients of it are lost", 200 - kept))]);
    assert!(kept > 50);
}

#[test]
fn a_message_whose_own_row_is_on_a_spoiled_page_gets_one_again() {
    let (directory, ids) = queue_of(300);
    spoil_leaf(directory.path(), 13, b"sender@example.org");
    let lost = repair_all(directory.path(), &ids);
    assert!(lost.len() > 5 && lost.len() < 100, "{}", lost.len());
    assert!(lost.iter().all(|(_, what)| what == "its sender and what it asked for are lost"), "{lost:?}");
    let queue = Queue::open(directory.path(), options()).expect("open");
    let first = lost[0].0;
    let shown = queue.reader().show(first).expect("read").expect("there");
    assert_eq!(
        shown.listed.message.reverse_path.to_string(),
        mta_smtp::address::ReversePath::Null.to_string()
    );
    assert!(now().duration_since(shown.listed.message.received_at).expect("past") < 10 * MINUTE);
    // Its recipients are known: the administrator lets it go on.
    assert_eq!(queue.retry(&only(first), now()), Ok(1));
    let claim = claim_all(&queue, now()).into_iter().find(|claim| claim.message.id == first).expect("due");
    assert_eq!(read(queue.content_reader(first).expect("content")), b"Subject: test\r\n\r\ntext\r\n");
    end(&queue, claim, now(), RecipientOutcome::Delivered);
}

/// Of a large message only the header section lies in the database: it must not go out as the whole.
#[test]
fn a_large_message_without_its_row_is_never_sent_cut() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    let mut large = queue.content();
    large.write_all(&[b'x'; 100_000]).expect("written");
    let large = large.finish_behind(b"Subject: large\r\n\r\n".to_vec()).expect("finished");
    let id = accept(&queue, NewMessage { content: large, ..message(&queue, &["a@one.example"], now(), b"") });
    let id = id.expect("accepted");
    queue.close();
    drop(queue);
    spoil_leaf(directory.path(), 13, b"sender@example.org");
    let repaired = repair(directory.path(), &options(), &mut |_| {}).expect("repaired");
    let aside = repaired.aside.expect("set aside");
    assert_eq!(std::fs::read_dir(aside.join("content")).expect("kept").count(), 1);
    assert_eq!(repaired.messages_lost.len(), 1);
    assert!(
        repaired.messages_lost[0].what.contains("lies with the old database"),
        "{repaired:?}",
        repaired = repaired.messages_lost
    );
    assert_eq!(kinds(directory.path()), [ProblemKind::Content, ProblemKind::SetAside]);
    let queue = Queue::open(directory.path(), options()).expect("open");
    assert_eq!(queue.retry(&only(id), now()), Ok(1));
    assert!(queue.content_reader(id).is_err());
}

/// A database without damage whose rows somebody took out.
#[test]
fn a_message_without_recipients_is_set_aside_in_place() {
    let (directory, ids) = queue_of(5);
    by_hand(directory.path(), "DELETE FROM recipient WHERE message = (SELECT min(id) FROM message)");
    let repaired = repair(directory.path(), &options(), &mut |_| {}).expect("repaired");
    assert_eq!((repaired.aside, repaired.rows_lost), (None, false));
    assert_eq!(repaired.messages_lost.len(), 1);
    assert_eq!(repaired.messages_lost[0].message, ids[0].to_string());
    assert_eq!(kinds(directory.path()), [ProblemKind::SetAside]);
    let queue = Queue::open(directory.path(), options()).expect("open");
    assert_eq!(list(&queue, &Selector::default()), ids);
    drop(queue.content_reader(ids[0]).expect("content is kept"));
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
