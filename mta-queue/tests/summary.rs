//! What waits, in groups.

mod common;

use common::*;
use mta_queue::*;

#[test]
fn what_waits_is_summed_up_by_domain_host_reason_age_and_sender() {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    for n in 0..5 {
        let recipient = format!("user{n}@{}", if n < 3 { "one.example" } else { "two.example" });
        put(&queue, &[&recipient], now());
    }
    for claim in claim_all(&queue, now()) {
        let mut what =
            record_of(&claim, now(), RecipientOutcome::Deferred { next_attempt_at: now() + 10 * MINUTE });
        for result in &mut what.results {
            result.reply = format!("450 4.2.1 {}: busy, try again in 1{} seconds", claim.message.id, 400);
        }
        record(&queue, claim, what).expect("recorded");
    }
    put(&queue, &["new@one.example"], now());
    let held = put(&queue, &["held@two.example", "held@three.example"], now());
    let done = put(&queue, &["done@three.example"], now());
    let only = |id| Selector { ids: vec![id], ..Selector::default() };
    queue.hold(&only(held), now()).expect("held");
    queue.drop_messages(&only(done), now()).expect("dropped");
    let reader = queue.reader();
    let groups = |by, later: u32, limit| -> Vec<(String, u64, u64)> {
        let groups = reader.groups(by, std::time::SystemTime::now() + later * MINUTE, limit).expect("groups");
        groups.into_iter().map(|group| (group.name, group.waiting, group.held)).collect()
    };
    let text = |name: &str, waiting: u64, held: u64| (name.to_owned(), waiting, held);
    let domains = [text("one.example", 4, 0), text("two.example", 2, 1), text("three.example", 0, 1)];
    assert_eq!(groups(GroupBy::Domain, 0, 10), domains);
    assert_eq!(groups(GroupBy::Host, 0, 10), [text("mx.example.net", 5, 0), text(summary::NO_HOST, 1, 2)]);
    assert_eq!(
        groups(GroupBy::Reason, 0, 10),
        [text("450 4.2.1 ID: busy, try again in N seconds", 5, 0), text(summary::NOT_TRIED, 1, 2)]
    );
    assert_eq!(groups(GroupBy::Age, 0, 10), [text("under 5m", 6, 2)]);
    assert_eq!(groups(GroupBy::Age, 100, 10), [text("1h to 4h", 6, 2)]);
    assert_eq!(groups(GroupBy::Sender, 0, 10), [text("sender@example.org", 6, 2)]);
    assert_eq!(groups(GroupBy::Domain, 0, 1).len(), 1, "as many groups as asked for");
    let of = |by| reader.groups(by, now(), 10).expect("groups");
    for by in [GroupBy::Domain, GroupBy::Host, GroupBy::Reason, GroupBy::Sender] {
        let all = of(by);
        let first = all.first().expect("a group");
        assert!(first.oldest.is_some(), "{by:?}");
        assert!(first.next_attempt_at.is_some(), "{by:?}");
    }
    let held_only = of(GroupBy::Domain).pop().expect("a group");
    assert!(held_only.oldest.is_some() && held_only.next_attempt_at.is_none(), "{held_only:?}");
}
