//! What the administrator does by hand: holds, edits, ends, pauses, and what is kept of it.

mod common;

use common::*;
use mta_queue::*;
use mta_smtp::address::Domain;

const BY: By<'static> = By { who: "carol", reason: "moved house" };

fn open() -> (tempfile::TempDir, Queue) {
    let directory = tempfile::tempdir().expect("directory");
    let queue = Queue::open(directory.path(), options()).expect("open");
    (directory, queue)
}

fn shown(queue: &Queue, id: QueueId) -> Shown {
    queue.reader().show(id).expect("read").expect("there")
}

fn ids(id: QueueId) -> Selector {
    Selector { ids: vec![id], ..Selector::default() }
}

fn pairs(shown: &Shown) -> Vec<(String, String)> {
    let pair = |r: &StoredRecipient| (r.recipient.mailbox.to_string(), r.destination.clone());
    shown.listed.recipients.iter().map(pair).collect()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// The numbers of a destination are those of its recipients, whatever was done.
fn waiting_for(queue: &Queue, name: &str) -> (u64, u64) {
    let found = queue.reader().destinations(100).expect("read");
    found.iter().find(|d| d.destination == name).map_or((0, 0), |d| (d.waiting, d.held))
}

#[test]
fn a_redirected_recipient_waits_at_its_new_place_and_remembers_the_old_one() {
    let (_directory, queue) = open();
    let id = put(&queue, &["bob@old.example", "eve@other.example"], now());
    let which = Selector { recipient: text("bob@old.example"), ..Selector::default() };
    let edit = Edit::Mailbox(mailbox("robert@new.example"));
    let changed = queue.edit_step(&edit, &which, None, BY, now()).expect("edited");
    assert_eq!((changed.recipients, changed.busy), (1, 0));
    let after = shown(&queue, id);
    assert_eq!(pairs(&after)[0], ("robert@new.example".to_owned(), "new.example".to_owned()));
    assert_eq!(after.listed.recipients[0].recipient.orcpt.as_deref(), Some("rfc822;bob@old.example"));
    assert_eq!((waiting_for(&queue, "old.example"), waiting_for(&queue, "new.example")), ((0, 0), (1, 0)));
    let event = &after.events[0];
    assert_eq!((event.what.as_str(), event.who.as_str()), ("redirected", "carol"));
    assert_eq!(event.detail.as_deref(), Some("bob@old.example to robert@new.example: moved house"));
    // A second time the original recipient stays the first one.
    let edit = Edit::Domain(Domain::parse("third.example").expect("domain"));
    let which = Selector { destination: text("new.example"), ..Selector::default() };
    queue.edit_step(&edit, &which, None, BY, now()).expect("edited");
    let after = shown(&queue, id);
    assert_eq!(pairs(&after)[0].0, "robert@third.example");
    assert_eq!(after.listed.recipients[0].recipient.orcpt.as_deref(), Some("rfc822;bob@old.example"));
    let claims = claim_all(&queue, now());
    let mut hops: Vec<&str> = claims.iter().map(|claim| claim.next_hop.as_str()).collect();
    hops.sort_unstable();
    assert_eq!(hops, ["other.example", "third.example"]);
}

#[test]
fn a_rerouted_recipient_waits_apart_from_its_domain() {
    let (_directory, queue) = open();
    let id = put(&queue, &["bob@one.example"], now());
    let other = put(&queue, &["bob@one.example"], now());
    let via = Edit::Via(text("relay.example:26"));
    assert_eq!(queue.edit_step(&via, &ids(id), None, BY, now()).expect("edited").recipients, 1);
    assert_eq!(queue.edit_step(&via, &ids(id), None, BY, now()).expect("again").recipients, 0);
    let name = "one.example via relay.example:26";
    assert_eq!(pairs(&shown(&queue, id))[0].1, name);
    assert_eq!(pairs(&shown(&queue, other))[0].1, "one.example");
    assert_eq!(queue.reader().destination("one.example").expect("read").len(), 2);
    assert_eq!(destination_parts(name), ("one.example", Some("relay.example:26")));
    let claims = claim_all(&queue, now());
    let hop = |id| claims.iter().find(|c| c.message.id == id).map(|c| c.next_hop.as_str());
    assert_eq!((hop(id), hop(other)), (Some(name), Some("one.example")));
    drop(claims);
    let found = Selector { next_hop: text("relay.example"), ..Selector::default() };
    assert_eq!(list(&queue, &found), [id]);
    queue.edit_step(&Edit::Via(None), &ids(id), None, BY, now()).expect("edited");
    assert_eq!((waiting_for(&queue, "one.example"), waiting_for(&queue, name)), ((2, 0), (0, 0)));
}

/// A result of the attempt to the old place must never be written to the new one.
#[test]
fn what_a_delivery_holds_is_not_edited_and_not_ended() {
    let (_directory, queue) = open();
    let id = put(&queue, &["bob@one.example"], now());
    let claims = claim_all(&queue, now());
    let edit = Edit::Mailbox(mailbox("eve@other.example"));
    let changed = queue.edit_step(&edit, &ids(id), None, BY, now()).expect("answered");
    assert_eq!((changed.recipients, changed.busy), (0, 1));
    let (mine, changed) = queue.claim_selected(&ids(id), None, &()).expect("claimed");
    assert_eq!((mine.len(), changed.busy), (0, 1));
    drop(claims);
    let (mine, changed) = queue.claim_selected(&ids(id), None, &()).expect("claimed");
    assert_eq!((mine.len(), changed.busy), (1, 0));
    assert!(claim_all(&queue, now()).is_empty(), "held by hand");
    let end = record_of(&mine[0], now(), RecipientOutcome::Failed);
    record(&queue, mine.into_iter().next().expect("one"), end).expect("recorded");
    assert!(shown(&queue, id).listed.finished_at.is_some());
}

#[test]
fn held_mail_says_why_and_a_release_forgets_it() {
    let (_directory, queue) = open();
    let id = put(&queue, &["bob@one.example"], now());
    let step = |kind| {
        let which = ids(id);
        let mut change = queue.piecewise(kind, &which, BY, now());
        std::iter::from_fn(|| change.step().expect("changed")).map(|piece| piece.recipients).sum::<u64>()
    };
    assert_eq!(step(ChangeKind::Hold), 1);
    assert_eq!(shown(&queue, id).listed.recipients[0].note.as_deref(), Some("moved house"));
    assert_eq!((step(ChangeKind::Hold), step(ChangeKind::Retry)), (0, 0));
    // Held mail can be ended by hand.
    assert_eq!(queue.claim_selected(&ids(id), None, &()).expect("claimed").0.len(), 1);
    assert_eq!(step(ChangeKind::Release), 1);
    let after = shown(&queue, id);
    assert_eq!(after.listed.recipients[0].note, None);
    let events: Vec<&str> = after.events.iter().map(|event| event.what.as_str()).collect();
    assert_eq!(events, ["held", "released"]);
}

#[test]
fn a_hold_rule_holds_mail_to_come_until_its_end() {
    let (directory, queue) = open();
    let rule = |recipient: Option<&str>, reverse_path: Option<&str>, until| HoldRule {
        recipient: recipient.map(str::to_owned),
        reverse_path: reverse_path.map(str::to_owned),
        reason: "a test".to_owned(),
        until,
        ..HoldRule::default()
    };
    let all = queue.add_hold_rule(rule(None, None, None), now());
    assert!(matches!(all, Err(QueueError::Invalid(_))), "{all:?}");
    let over =
        queue.add_hold_rule(rule(Some("@two.example"), None, Some(now() - MINUTE)), now()).expect("added");
    let id =
        queue.add_hold_rule(rule(Some("@One.example"), Some("@example.org"), None), now()).expect("added");
    assert!(id > over);
    let message = put(&queue, &["bob@one.example", "bob@two.example", "bob@xone.example"], now());
    let states: Vec<RecipientState> =
        shown(&queue, message).listed.recipients.iter().map(|r| r.state).collect();
    assert_eq!(states, [RecipientState::Held, RecipientState::Waiting, RecipientState::Waiting]);
    assert_eq!(shown(&queue, message).listed.recipients[0].note.as_deref(), Some("rule 2: a test"));
    assert_eq!(waiting_for(&queue, "one.example"), (0, 1));
    let counts = queue.reader().counts().expect("read");
    assert_eq!((counts.waiting, counts.held), (2, 1));
    // The rule outlives the process.
    queue.close();
    drop(queue);
    let queue = Queue::open(directory.path(), options()).expect("open");
    assert_eq!(queue.reader().hold_rules().expect("read").len(), 1, "the one that was over made room");
    assert_eq!(queue.remove_hold_rule(i64::try_from(id).expect("small")), Ok(true));
    assert_eq!(queue.remove_hold_rule(i64::try_from(id).expect("small")), Ok(false));
    let message = put(&queue, &["bob@one.example"], now());
    assert_eq!(shown(&queue, message).listed.recipients[0].state, RecipientState::Waiting);
}

/// A planner for which one destination stands still.
struct Still {
    plan: Plan,
    name: &'static str,
}

impl Planner for Still {
    type NextHop = String;

    fn next_hop(&mut self, _destination: &str) -> String {
        "relay.example".to_owned()
    }

    fn slot(&mut self, next_hop: &String, due: Due<'_>) -> Slot {
        self.plan.slot(next_hop, due)
    }

    fn paused(&mut self, destination: &str, _next_hop: &String) -> Option<std::time::SystemTime> {
        (destination == self.name).then(|| now() + 60 * MINUTE)
    }

    fn claimed(&mut self, next_hop: &String) {
        self.plan.claimed(next_hop);
    }
}

#[test]
fn what_stands_still_is_not_claimed_not_even_together_with_others_and_wakes_as_it_was() {
    let (_directory, queue) = open();
    put(&queue, &["a@still.example", "b@moves.example"], now());
    let mut planner = Still { plan: Plan::new(10), name: "still.example" };
    let claimed = queue.claim(now(), 10, &mut planner).expect("claim");
    let to: Vec<&str> =
        claimed.claims.iter().flat_map(|c| &c.recipients).map(|r| r.destination.as_str()).collect();
    assert_eq!(to, ["moves.example"]);
    // It is not asked about again before its time, and nothing is lost when it moves on.
    queue.wake_destinations().expect("woken");
    let mut planner = Still { plan: Plan::new(10), name: "" };
    let claimed = queue.claim(now(), 10, &mut planner).expect("claim");
    let to: Vec<&str> =
        claimed.claims.iter().flat_map(|c| &c.recipients).map(|r| r.destination.as_str()).collect();
    assert_eq!(to, ["still.example"]);
}

#[test]
fn pauses_outlive_the_process() {
    let (directory, queue) = open();
    let pause = Pause {
        name: "out".to_owned(),
        reason: "maintenance".to_owned(),
        who: "carol".to_owned(),
        since: now(),
        until: None,
    };
    queue.pause(pause.clone()).expect("kept");
    queue.pause(Pause { reason: "longer".to_owned(), ..pause.clone() }).expect("changed");
    queue.close();
    drop(queue);
    let queue = Queue::open(directory.path(), options()).expect("open");
    let kept = queue.reader().pauses().expect("read");
    assert_eq!(kept, [Pause { reason: "longer".to_owned(), ..pause }]);
    assert_eq!((queue.resume("out"), queue.resume("out")), (Ok(true), Ok(false)));
}

#[test]
fn reasons_select_by_text_and_by_class() {
    let (_directory, queue) = open();
    let id = put(&queue, &["bob@one.example"], now());
    let claim = claim_all(&queue, now()).remove(0);
    let mut record_ =
        record_of(&claim, now(), RecipientOutcome::Deferred { next_attempt_at: now() + MINUTE });
    record_.results[0].status = mta_smtp::reply::EnhancedStatus::new(4, 7, 28);
    record_.results[0].reply = "421 4.7.28 Slow down".to_owned();
    record(&queue, claim, record_).expect("recorded");
    put(&queue, &["bob@two.example"], now());
    for (reason, expected) in [
        ("slow", true),
        ("4.7.28", true),
        ("4.7", true),
        ("4.7.", true),
        ("4.7.2", true), // part of the reply's text
        ("policy", true),
        ("security", true),
        ("network", false),
        ("4.4", false),
        ("5.7", false),
        ("*", false),
    ] {
        let found = list(&queue, &Selector { reason: text(reason), ..Selector::default() });
        assert_eq!(found == [id], expected, "{reason}");
        assert!(found.len() < 2, "{reason}");
    }
    let tried = |attempted| list(&queue, &Selector { attempted: Some(attempted), ..Selector::default() });
    assert_eq!((tried(true), tried(false).len()), (vec![id], 1));
    let host = Selector { next_hop: text("MX.example"), ..Selector::default() };
    assert_eq!(list(&queue, &host), [id]);
}

/// A change to everything is made in pieces, between which mail is taken as ever; what comes meanwhile is not meant.
#[test]
fn a_change_to_20_000_recipients_goes_in_pieces_and_lets_mail_in_between() {
    let (_directory, queue) = open();
    let to: Vec<String> = (0..10).map(|n| format!("r{n}@d{n}.example")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let (done, accepted) = std::sync::mpsc::channel();
    for _ in 0..2_000 {
        let done = done.clone();
        queue.accept(message(&queue, &to, now(), b"x"), move |result| done.send(result).expect("test waits"));
    }
    assert!(accepted.iter().take(2_000).all(|result| result.is_ok()));
    let all = Selector { up_to: Some(queue.new_id()), ..Selector::default() };
    let (mut after, mut steps, mut counted, mut held) = (None, 0, 0, 0);
    loop {
        let (count, last) =
            queue.reader().count(ChangeKind::Hold, &all, Page { after, limit: 1_000 }).expect("read");
        counted += count;
        after = last;
        if last.is_none() {
            break;
        }
    }
    assert_eq!(counted, 20_000);
    let mut change = queue.piecewise(ChangeKind::Hold, &all, BY, now());
    while let Some(step) = change.step().expect("changed") {
        held += step.recipients;
        steps += 1;
        put(&queue, &["new@new.example"], now());
        assert!(step.recipients <= 1_040, "a piece is bounded");
    }
    assert_eq!(held, 20_000);
    assert!(steps >= 8, "{steps}");
    assert_eq!(queue.reader().counts().expect("read").waiting, steps);
    // What is looked for and not there is looked for in bounded steps too.
    let nowhere = Selector { reason: text("no such reply"), ..Selector::default() };
    assert_eq!(list(&queue, &nowhere), []);
    let domains = queue.reader().groups(GroupBy::Domain, now(), 100).expect("read");
    assert_eq!(domains.iter().map(|group| group.waiting + group.held).sum::<u64>(), 20_000 + steps);
}
