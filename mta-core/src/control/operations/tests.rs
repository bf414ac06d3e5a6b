//! The operations on a queue of two recipients.

use std::time::SystemTime;

use mta_queue::{Page, QueueId, Selector};

use super::select::before_prefix;
use super::*;
use crate::config::Config;
use crate::control::protocol::{
    ChangeArguments, ChangeWord, ContentArguments, CountArguments, EditArguments, HoldRuleArguments,
    ListArguments, PauseArguments, Select, SummaryArguments, SummaryBy, TraceArguments,
};

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
        reverse_path: ReversePath::Mailbox(Mailbox::parse("alice@sender.example").unwrap()),
        parameters: Default::default(),
        recipients: recipients.iter().map(|r| Recipient::new(Mailbox::parse(r).unwrap())).collect(),
    };
    let message = mta_queue::NewMessage {
        id: queue.new_id(),
        envelope,
        received_at: SystemTime::now(),
        origin: mta_queue::Origin {
            kind: mta_queue::OriginKind::Local,
            user: Some("ann".into()),
            message_id: Some("m1@sender.example".into()),
            ..mta_queue::Origin::default()
        },
        content: content.finish().unwrap(),
        hold: None,
    };
    let (tell, told) = std::sync::mpsc::channel();
    queue.accept(message, move |result| tell.send(result).unwrap());
    told.recv().unwrap().unwrap();
    let operations = QueueOperations::writing_offline(queue.clone(), &Config::default());
    (dir, queue, operations)
}

fn to(text: &str) -> Select {
    Select { to: Some(text.into()), ..Select::default() }
}

fn root() -> Peer {
    Peer { user: "root".into(), is_administrator: true }
}

fn change(select: Select) -> ChangeArguments {
    ChangeArguments { select, reason: "because".into() }
}

fn drop_all() -> Request {
    Request::QueueDrop(ChangeArguments::default())
}

/// The rows of an answer, and its end.
fn rows(operations: &QueueOperations, peer: &Peer, request: &Request) -> (Vec<Value>, Result<Done, Failure>) {
    let mut rows = Vec::new();
    let end = operations.run(peer, request, &mut |row| {
        rows.push(row);
        true
    });
    (rows, end)
}

#[test]
fn what_is_counted_is_what_is_changed() {
    let (_dir, queue, operations) = queue();
    let run = |request: Request| operations.run(&root(), &request, &mut |_| true).map(|done| done.count);
    let count = |select, change| run(Request::QueueCount(CountArguments { select, change }));
    assert_eq!(count(Select::default(), ChangeWord::Drop), Ok(2));
    let status = |word: &str| Select { status: Some(word.into()), ..Select::default() };
    assert_eq!(count(status("deferred"), ChangeWord::Retry), Ok(0));
    assert_eq!(count(status("queued"), ChangeWord::Retry), Ok(2));
    for select in [to("dave"), to("@Other.example"), to("DAVE@other.example")] {
        assert_eq!(count(select, ChangeWord::Drop), Ok(1));
    }
    let domain = Select { domain: Some("Other.example".into()), ..Select::default() };
    assert_eq!(count(domain.clone(), ChangeWord::Hold), Ok(1));
    assert_eq!(
        count(Select { to: Some("@remote.example".into()), ..domain }, ChangeWord::Hold).unwrap_err().code,
        Code::BadRequest
    );
    assert_eq!(count(to("ave@other.example"), ChangeWord::Drop), Ok(0));
    assert_eq!(run(Request::QueueRetry(change(Select::default()))), Ok(2));
    assert_eq!(run(Request::QueueHold(change(to("dave")))), Ok(1));
    assert_eq!(count(Select::default(), ChangeWord::Retry), Ok(1), "what is held is not tried again");
    assert_eq!(run(Request::QueueRelease(change(Select::default()))), Ok(1));
    assert_eq!(run(Request::QueueDrop(change(to("dave")))), Ok(1));
    assert_eq!(run(Request::QueueDrop(change(to("dave")))), Ok(0));
    assert_eq!(queue.reader().counts().unwrap().waiting, 1);
}

#[test]
fn mail_is_returned_with_a_notification_and_the_reason() {
    let (_dir, queue, operations) = queue();
    let bounce = |select| rows(&operations, &root(), &Request::QueueBounce(change(select))).1.unwrap().count;
    assert_eq!(bounce(Select::default()), 2, "and not the notification that it made");
    let listed = queue.reader().list(&Selector::default(), Page { after: None, limit: 9 }).unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].message.reverse_path.is_null());
    let id = listed[0].message.id.to_string();
    let content = ContentArguments { id: id.clone(), ..ContentArguments::default() };
    let text = |arguments| {
        let (rows, end) = rows(&operations, &root(), &Request::QueueContent(arguments));
        end.unwrap();
        rows.iter().filter_map(|row| row.get("octets").and_then(Value::as_str)).collect::<String>()
    };
    let whole = text(content.clone());
    assert!(whole.contains("the administrator returned the message: because"), "{whole}");
    let header = text(ContentArguments { headers: true, ..content.clone() });
    assert!(
        whole.starts_with(&header) && header.ends_with("\r\n") && !header.contains("\r\n\r\n"),
        "{header:?}"
    );
    assert_eq!(text(ContentArguments { max_bytes: 10, ..content }).len(), 10);
    // A notification that is returned goes nowhere: nobody is told (RFC 5321 4.5.5).
    assert_eq!(bounce(Select { ids: vec![id], ..Select::default() }), 1);
    assert_eq!(queue.reader().counts().unwrap().messages, 0);
}

#[test]
fn edits_and_who_made_them_are_in_the_history() {
    let (_dir, _queue, operations) = queue();
    let run = |request: Request| rows(&operations, &root(), &request);
    let edit = |select, new: &str| EditArguments { select, new: new.into(), reason: String::new() };
    assert_eq!(run(Request::QueueRedirect(edit(to("carol"), "caroline@new.example"))).1.unwrap().count, 1);
    assert_eq!(run(Request::QueueReroute(edit(to("dave"), "relay.example:26"))).1.unwrap().count, 1);
    for (request, wrong) in [
        (Request::QueueRedirect(edit(to("dave"), "no address")), "no address"),
        (Request::QueueRedirect(edit(to("dave"), "@")), "@"),
        (Request::QueueReroute(edit(to("dave"), "a b")), "a b"),
        (Request::QueueReroute(edit(to("dave"), "a:99999")), "a:99999"),
    ] {
        let failure = run(request).1.unwrap_err();
        assert_eq!(failure.code, Code::BadRequest, "{wrong}");
        assert!(failure.message.contains(wrong), "{failure}");
    }
    let trace = TraceArguments { select: to("dave"), ..TraceArguments::default() };
    let (found, _) = run(Request::Trace(trace));
    let events: Vec<&str> =
        found[0]["events"].as_array().unwrap().iter().filter_map(|e| e["what"].as_str()).collect();
    assert_eq!(events, ["redirected", "rerouted"]);
    assert_eq!(found[0]["events"][0]["by"], "root");
    assert_eq!(found[0]["recipients"][1]["destination"], "other.example via relay.example:26");
    let message_id = |id: &str| TraceArguments { message_id: Some(id.into()), ..TraceArguments::default() };
    assert_eq!(run(Request::Trace(message_id("<m1@sender.example>"))).0.len(), 1);
    assert_eq!(run(Request::Trace(message_id("m2@sender.example"))).0.len(), 0);
    assert_eq!(run(Request::Trace(TraceArguments::default())).1.unwrap_err().code, Code::BadRequest);
}

#[test]
fn a_plain_user_sees_his_own_mail_alone_and_changes_nothing() {
    let (_dir, queue, operations) = queue();
    let list = Request::QueueList(ListArguments::default());
    let guest = |user: &str| Peer { user: user.into(), is_administrator: false };
    let id = queue.reader().list(&Selector::default(), Page { after: None, limit: 1 }).unwrap()[0].message.id;
    let show = Request::QueueShow(id.to_string());
    assert_eq!(rows(&operations, &guest("ann"), &list).0.len(), 1);
    assert!(rows(&operations, &guest("ann"), &show).1.is_ok());
    assert_eq!(rows(&operations, &guest("ben"), &list).0.len(), 0);
    assert_eq!(rows(&operations, &guest("ben"), &show).1.unwrap_err().code, Code::NotFound);
    let trace = TraceArguments { select: to("dave"), ..TraceArguments::default() };
    assert_eq!(rows(&operations, &guest("ben"), &Request::Trace(trace)).0.len(), 0);
    for request in [
        Request::Status,
        Request::Top,
        Request::QueueSummary(SummaryArguments::default()),
        Request::QueueContent(ContentArguments { id: id.to_string(), ..ContentArguments::default() }),
        Request::QueueRetry(change(Select::default())),
        drop_all(),
        Request::Pause(PauseArguments { name: "in".into(), ..PauseArguments::default() }),
        Request::HoldRuleList,
        Request::Log(crate::control::protocol::LogArguments::default()),
    ] {
        let refused = rows(&operations, &guest("ann"), &request).1.unwrap_err();
        assert_eq!(refused.code, Code::NotAllowed, "{request:?}");
    }
}

#[test]
fn summaries_group_what_waits() {
    let (_dir, _queue, operations) = queue();
    let summary = |by| {
        let (rows, _) = rows(&operations, &root(), &Request::QueueSummary(SummaryArguments { by, limit: 0 }));
        rows.iter()
            .map(|row| format!("{} {}", row["key"].as_str().unwrap(), row["recipients"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(summary(SummaryBy::Domain), ["other.example 1", "remote.example 1"]);
    assert_eq!(summary(SummaryBy::Reason), ["(not tried yet) 2"]);
    assert_eq!(summary(SummaryBy::Age), ["under 5m 2"]);
    assert_eq!(summary(SummaryBy::Sender), ["alice@sender.example 2"]);
    assert_eq!(summary(SummaryBy::Mx), ["(none yet) 2"]);
}

#[test]
fn rules_and_pauses_are_kept_by_name() {
    let (_dir, queue, operations) = queue();
    let run = |request: Request| rows(&operations, &root(), &request);
    let rule = HoldRuleArguments {
        to: Some("@x.example".into()),
        reason: "r".into(),
        ..HoldRuleArguments::default()
    };
    assert_eq!(run(Request::HoldRuleAdd(rule)).1.unwrap().count, 1);
    assert_eq!(run(Request::HoldRuleList).0[0]["to"], "@x.example");
    assert_eq!(run(Request::HoldRuleAdd(HoldRuleArguments::default())).1.unwrap_err().code, Code::BadRequest);
    assert!(run(Request::HoldRuleRemove(1)).1.is_ok());
    assert_eq!(run(Request::HoldRuleRemove(1)).1.unwrap_err().code, Code::NotFound);
    let pause =
        |name: &str| Request::Pause(PauseArguments { name: name.into(), ..PauseArguments::default() });
    for name in ["in", "dest:Other.example"] {
        assert!(run(pause(name)).1.is_ok());
    }
    for name in ["sideways", "dest:", "dest:a b", ""] {
        assert_eq!(run(pause(name)).1.unwrap_err().code, Code::BadRequest, "{name:?}");
    }
    let names: Vec<String> = queue.reader().pauses().unwrap().into_iter().map(|p| p.name).collect();
    assert_eq!(names, ["dest:other.example", "in"]);
    let (status, _) = run(Request::Status);
    assert_eq!(status[0]["paused"][1]["by"], "root");
    let resume = |name: &str| run(Request::Resume(name.into())).1.unwrap().count;
    assert_eq!((resume("in"), resume("in"), resume("dest:other.example")), (1, 0, 1));
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
            .run(&root(), &request, &mut |row| {
                found = row.get("id").and_then(Value::as_str).map(str::to_owned);
                true
            })
            .unwrap();
        assert_eq!(found.as_deref(), Some(id.as_str()), "{text}");
    }
    for (text, code) in [("zz", Code::NotFound), ("", Code::BadRequest), ("\u{1b}[31m", Code::BadRequest)] {
        let failed = operations.run(&root(), &Request::QueueShow(text.into()), &mut |_| true).unwrap_err();
        assert_eq!(failed.code, code, "{text:?}");
        assert!(!failed.message.contains('\u{1b}'));
    }
}

#[test]
fn the_files_alone_can_be_read_and_not_changed() {
    let (dir, queue, _) = queue();
    queue.close();
    let operations = QueueOperations::reading(Reader::open(dir.path()).unwrap());
    let mut rows = 0;
    let list = Request::QueueList(ListArguments::default());
    let done = operations.run(&root(), &list, &mut |_| {
        rows += 1;
        true
    });
    assert_eq!((done, rows), (Ok(Done { count: 1, ..Done::default() }), 1));
    let refused = operations.run(&root(), &drop_all(), &mut |_| true).unwrap_err();
    assert_eq!(refused.code, Code::NotAllowed);
}
