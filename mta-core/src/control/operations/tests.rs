//! The operations on a queue of two recipients.

use std::time::SystemTime;

use mta_queue::{Page, QueueId, Selector};

use super::select::before_prefix;
use super::*;
use crate::control::protocol::{ListArguments, Select};

#[test]
fn the_id_below_a_prefix() {
    for (prefix, below) in [
        ("1", Some(Some("0zzzzzzzzzz"))),
        ("00000000001", Some(Some("00000000000"))),
        ("0", Some(None)),
        ("0a", Some(Some("09zzzzzzzzz"))),
        ("0b1", Some(Some("0b0zzzzzzzz"))),
        ("", None),
        ("u", None),
        ("../", None),
        ("000000000000", None),
    ] {
        let expected = below.map(|inner| inner.map(|t| t.parse::<QueueId>().unwrap()));
        assert_eq!(before_prefix(prefix), expected, "{prefix}");
    }
}

/// A queue with one message to two destinations.
fn queue() -> (tempfile::TempDir, Queue, QueueOperations) {
    use mta_smtp::address::{Mailbox, ReversePath};
    use mta_smtp::envelope::Recipient;
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::open(dir.path(), mta_queue::Options::default()).unwrap();
    let mut content = queue.content();
    content.write_all(b"Subject: x\r\n\r\nx\r\n").unwrap();
    let recipients = ["carol@remote.example", "dave@other.example"];
    let envelope = mta_smtp::envelope::Envelope {
        reverse_path: ReversePath::Null,
        parameters: Default::default(),
        recipients: recipients.iter().map(|r| Recipient::new(Mailbox::parse(r).unwrap())).collect(),
    };
    let message = mta_queue::NewMessage {
        id: queue.new_id(),
        envelope,
        received_at: SystemTime::now(),
        origin: mta_queue::Origin::default(),
        content: content.finish().unwrap(),
    };
    let (tell, told) = std::sync::mpsc::channel();
    queue.accept(message, move |result| tell.send(result).unwrap());
    told.recv().unwrap().unwrap();
    let operations = QueueOperations::offline(Source::Queue(queue.clone()));
    (dir, queue, operations)
}

fn to(text: &str) -> Select {
    Select { to: Some(text.into()), ..Select::default() }
}

#[test]
fn what_is_counted_is_what_is_changed() {
    let (_dir, queue, operations) = queue();
    let run = |request: Request| operations.run(&request, &mut |_| true).map(|done| done.count);
    assert_eq!(run(Request::QueueCount(Select::default())), Ok(2));
    let deferred = Select { status: Some("deferred".into()), ..Select::default() };
    assert_eq!(run(Request::QueueCount(deferred)), Ok(0));
    for select in [to("dave"), to("@Other.example"), to("DAVE@other.example")] {
        assert_eq!(run(Request::QueueCount(select)), Ok(1));
    }
    assert_eq!(run(Request::QueueCount(to("ave@other.example"))), Ok(0));
    assert_eq!(run(Request::QueueRetry(Select::default())), Ok(2));
    assert_eq!(run(Request::QueueDrop(to("dave"))), Ok(1));
    assert_eq!(run(Request::QueueDrop(to("dave"))), Ok(0));
    assert_eq!(queue.reader().counts().unwrap().waiting, 1);
}

#[test]
fn a_message_is_found_by_the_beginning_of_its_id() {
    let (_dir, queue, operations) = queue();
    let id = queue.reader().list(&Selector::default(), Page { after: None, limit: 1 }).unwrap()[0].message.id;
    let id = id.to_string();
    for text in [id.as_str(), &id[..4], &id[..1], &id.to_uppercase()] {
        let mut found = None;
        let request = Request::QueueShow(text.to_owned());
        operations
            .run(&request, &mut |row| {
                found = row.get("id").and_then(Value::as_str).map(str::to_owned);
                true
            })
            .unwrap();
        assert_eq!(found.as_deref(), Some(id.as_str()), "{text}");
    }
    for (text, code) in [("zz", Code::NotFound), ("", Code::BadRequest), ("\u{1b}[31m", Code::BadRequest)] {
        let failed = operations.run(&Request::QueueShow(text.into()), &mut |_| true).unwrap_err();
        assert_eq!(failed.code, code, "{text:?}");
        assert!(!failed.message.contains('\u{1b}'));
    }
}

#[test]
fn the_files_alone_can_be_read_and_not_changed() {
    let (dir, queue, _) = queue();
    queue.close();
    let operations = QueueOperations::offline(Source::Reader(Reader::open(dir.path()).unwrap()));
    let mut rows = 0;
    let list = Request::QueueList(ListArguments::default());
    let done = operations.run(&list, &mut |_| {
        rows += 1;
        true
    });
    assert_eq!((done, rows), (Ok(Done { count: 1, more: false }), 1));
    let refused = operations.run(&Request::QueueDrop(Select::default()), &mut |_| true).unwrap_err();
    assert_eq!(refused.code, Code::NotAllowed);
}
