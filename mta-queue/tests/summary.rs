//! The summary of what waits.

mod common;

use common::*;
use mta_queue::*;

#[test]
fn what_waits_is_summed_up_by_domain_host_reason_and_age() {
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
            result.reply = format!("450 4.2.1 {}: busy for {} seconds", claim.message.id, result.reply.len());
        }
        record(&queue, claim, what).expect("recorded");
    }
    put(&queue, &["new@one.example"], now());
    let done = put(&queue, &["done@three.example"], now());
    let only = Selector { ids: vec![done], ..Selector::default() };
    queue.drop_messages(&only, now()).expect("dropped");
    let summary = queue.reader().summary(now() + MINUTE, 10).expect("summary");
    let groups = |groups: &[Group]| -> Vec<(String, u64)> {
        groups.iter().map(|group| (group.name.clone(), group.recipients)).collect()
    };
    let text = |name: &str, count: u64| (name.to_owned(), count);
    assert_eq!(groups(&summary.domains), [text("one.example", 4), text("two.example", 2)]);
    assert_eq!(groups(&summary.hosts), [text("mx.example.net", 5), text(summary::NOT_TRIED, 1)]);
    assert_eq!(
        groups(&summary.reasons),
        [text("450 4.2.1 … busy for … seconds", 5), text(summary::NOT_TRIED, 1)]
    );
    assert_eq!(groups(&summary.ages), [text("5m", 6)]);
    assert_eq!(summary.counts.waiting, 6);
    let later = queue.reader().summary(now() + 100 * MINUTE, 1).expect("summary");
    assert_eq!(groups(&later.ages), [text("6h", 6)]);
    assert_eq!(later.domains.len(), 1, "as many groups as asked for");
}
