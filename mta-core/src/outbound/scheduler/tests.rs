//! The scheduler over a real queue, with deliveries that do as each test says. Nothing here waits for a clock: tests wait
//! for deliveries and for the queue, and make deferred mail due by the administrator's retry.

use std::io::Write;
use std::sync::mpsc::channel;

use mta_queue::{NewMessage, Origin, Page, RecipientState, Selector, Shown};
use mta_smtp::address::{Host, Mailbox, ReversePath};
use mta_smtp::envelope::{Envelope, Recipient};

use super::*;
use crate::routing::{RelayHost, RelayTls};
use crate::stop::{Stopper, stop};

/// What the scripted deliveries share.
struct Script {
    /// Says what becomes of a job.
    play: Box<dyn Fn(&Job) -> Play + Send + Sync>,
    /// Every job that was started.
    started: async_channel::Sender<Job>,
    /// What hangs ends when this closes.
    gate: async_channel::Receiver<()>,
    relay: bool,
}

enum Play {
    Outcome(Verdict, Reach),
    Hang,
    /// The same after the content was asked for.
    HangSending,
    Panic,
    /// A report that names no recipient.
    Nothing,
}

impl Deliver for Script {
    fn route(&self, destination: &str) -> Route {
        if self.relay {
            let host = "relay.example".to_owned();
            return Route::Relay(Arc::new(RelayHost { host, port: 25, tls: RelayTls::StartTls, auth: None }));
        }
        Route::Mx { next_hop: Host::parse(destination).expect("host") }
    }

    fn deliver(&self, job: Job) -> Delivery {
        let play = (self.play)(&job);
        let (started, gate) = (self.started.clone(), self.gate.clone());
        Box::pin(async move {
            started.try_send(job.clone()).expect("test listens");
            match play {
                Play::Outcome(verdict, reach) => report(&job, verdict, reach),
                Play::Hang | Play::HangSending => {
                    let _content = matches!(play, Play::HangSending).then(|| job.content.open());
                    let _ = gate.recv().await;
                    report(&job, Verdict::Delivered, Reach::Recipient)
                }
                Play::Panic => panic!("as the test wants"),
                Play::Nothing => AttemptReport { outcomes: Vec::new(), decision: Decision::default() },
            }
        })
    }
}

fn report(job: &Job, verdict: Verdict, reach: Reach) -> AttemptReport {
    let class = match verdict {
        Verdict::Delivered => 2,
        Verdict::Deferred => 4,
        Verdict::Failed => 5,
    };
    let outcome = Outcome {
        verdict,
        reach,
        status: EnhancedStatus::new(class, 4, 1),
        text: "as the test wants".into(),
        reply: None,
        remote: None,
    };
    let outcomes = job
        .recipients
        .iter()
        .map(|recipient| RecipientOutcome { recipient: recipient.clone(), outcome: outcome.clone() })
        .collect();
    AttemptReport { outcomes, decision: Decision::default() }
}

/// A scheduler under test.
struct Bench {
    _directory: tempfile::TempDir,
    queue: Queue,
    scheduler: Arc<Scheduler>,
    started: async_channel::Receiver<Job>,
    gate: Option<async_channel::Sender<()>>,
    running: Option<(Stopper, smol::Task<()>)>,
}

fn options() -> Options {
    Options {
        deliveries: 6,
        deliveries_per_next_hop: 2,
        hostname: "mx.example.org".into(),
        ..Options::default()
    }
}

impl Bench {
    fn new(play: impl Fn(&Job) -> Play + Send + Sync + 'static) -> Self {
        Self::with(options(), false, play)
    }

    fn with(options: Options, relay: bool, play: impl Fn(&Job) -> Play + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let queue_options = mta_queue::Options { reserve_bytes: 0, ..mta_queue::Options::default() };
        let queue = Queue::open(directory.path(), queue_options).expect("open");
        let (sender, started) = async_channel::unbounded();
        let (gate_sender, gate) = async_channel::bounded(1);
        let script = Script { play: Box::new(play), started: sender, gate, relay };
        let scheduler = Scheduler::new(queue.clone(), Arc::new(script), options);
        Self { _directory: directory, queue, scheduler, started, gate: Some(gate_sender), running: None }
    }

    fn run(&mut self) {
        let (stopper, stopping) = stop();
        let run = Arc::clone(&self.scheduler).run(stopping, Duration::from_secs(60));
        self.running = Some((stopper, smol::spawn(run)));
    }

    /// Ends the scheduler when all that is under way has ended.
    async fn finish(&mut self) {
        let (stopper, task) = self.running.take().expect("it runs");
        stopper.fire();
        task.await;
    }

    fn put(&self, recipients: &[&str]) -> QueueId {
        self.put_from("<anna@example.org>", recipients, SystemTime::now())
    }

    fn put_from(&self, from: &str, recipients: &[&str], received_at: SystemTime) -> QueueId {
        let mut envelope = Envelope::new(ReversePath::parse(from).expect("path"));
        envelope.recipients =
            recipients.iter().map(|text| Recipient::new(Mailbox::parse(text).expect("mailbox"))).collect();
        let mut content = self.queue.content();
        content.write_all(b"Subject: hello\r\n\r\ntext\r\n").expect("write");
        let content = content.finish().expect("finish");
        let id = self.queue.new_id();
        let message = NewMessage { id, envelope, received_at, origin: Origin::default(), content };
        let (done, answer) = channel();
        self.queue.accept(message, move |result| done.send(result).expect("waits"));
        answer.recv().expect("answered").expect("accepted");
        id
    }

    async fn next(&self) -> Job {
        self.started.recv().await.expect("a delivery starts")
    }

    fn show(&self, id: QueueId) -> Shown {
        self.queue.reader().show(id).expect("show").expect("there")
    }

    fn states(&self, id: QueueId) -> Vec<RecipientState> {
        self.show(id).listed.recipients.iter().map(|r| r.state).collect()
    }

    /// Notifications in the queue: to whom and what.
    fn notifications(&self) -> Vec<(String, String)> {
        let all =
            self.queue.reader().list(&Selector::default(), Page { after: None, limit: 100 }).expect("list");
        let notification = |listed: &mta_queue::Listed| {
            let mut text = String::new();
            let mut content = self.queue.content_reader(listed.message.id).expect("content");
            std::io::Read::read_to_string(&mut content, &mut text).expect("read");
            (listed.recipients[0].recipient.mailbox.to_string(), text)
        };
        all.iter().filter(|listed| listed.message.reverse_path.is_null()).map(notification).collect()
    }
}

fn destination_is(job: &Job, name: &str) -> bool {
    job.destination == name
}

#[test]
fn mail_that_waits_and_mail_that_comes_is_delivered_once() {
    smol::block_on(async {
        let mut bench = Bench::new(|_| Play::Outcome(Verdict::Delivered, Reach::Recipient));
        let early = bench.put(&["a@one.example", "b@one.example", "c@two.example"]);
        bench.run();
        let mut sizes = vec![bench.next().await.recipients.len(), bench.next().await.recipients.len()];
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 2], "recipients of one next-hop go together");
        let late = bench.put(&["d@three.example"]);
        assert_eq!(bench.next().await.destination, "three.example");
        bench.finish().await;
        assert_eq!(bench.states(early), [RecipientState::Delivered; 3]);
        assert_eq!(bench.states(late), [RecipientState::Delivered]);
        assert!(bench.started.is_empty(), "each once");
        assert!(bench.notifications().is_empty());
    });
}

#[test]
fn a_stuck_destination_takes_its_share_and_no_more() {
    smol::block_on(async {
        let stuck = |job: &Job| destination_is(job, "stuck.example");
        let mut bench = Bench::new(move |job| match stuck(job) {
            true => Play::Hang,
            false => Play::Outcome(Verdict::Delivered, Reach::Recipient),
        });
        for n in 0..20 {
            bench.put(&[&format!("u{n}@stuck.example")]);
        }
        bench.run();
        assert!(stuck(&bench.next().await) && stuck(&bench.next().await));
        for n in 0..20 {
            let id = bench.put(&[&format!("u@other{n}.example")]);
            assert_eq!(bench.next().await.queue_id, id.to_string());
        }
        assert!(bench.started.is_empty(), "the stuck destination has two at once");
        drop(bench.gate.take());
        for _ in 0..18 {
            assert!(stuck(&bench.next().await));
        }
        bench.finish().await;
        assert_eq!(bench.queue.reader().counts().expect("counts").waiting, 0);
    });
}

#[test]
fn a_panic_and_a_report_without_outcomes_defer_the_mail() {
    for play in [|_: &Job| Play::Panic, |_: &Job| Play::Nothing] {
        smol::block_on(async {
            let mut bench = Bench::new(play);
            let id = bench.put(&["a@one.example", "b@one.example"]);
            bench.run();
            bench.next().await;
            bench.finish().await;
            assert_eq!(bench.states(id), [RecipientState::Waiting; 2]);
            let shown = bench.show(id);
            assert_eq!(shown.listed.recipients[0].attempts, 1);
            assert!(shown.listed.recipients[0].next_attempt_at > Some(SystemTime::now()));
            assert_eq!(bench.scheduler.deliveries(), 0);
        });
    }
}

#[test]
fn a_failed_destination_is_probed_by_one_delivery() {
    smol::block_on(async {
        let mut bench = Bench::new(|_| Play::Outcome(Verdict::Deferred, Reach::NextHop));
        let ids: Vec<QueueId> = (0..10).map(|n| bench.put(&[&format!("u{n}@down.example")])).collect();
        bench.run();
        bench.next().await;
        bench.next().await;
        bench.finish().await;
        let tried = ids.iter().filter(|id| bench.show(**id).listed.recipients[0].attempts > 0).count();
        assert_eq!(tried, 2, "as many as may run side by side");
        let summary = bench.queue.reader().destinations(1).expect("destinations").remove(0);
        assert_eq!((summary.failures, summary.waiting), (1, 10), "side by side they are one failure");
        assert!(summary.not_before > Some(SystemTime::now()));
    });
}

#[test]
fn a_failed_relay_host_is_not_asked_for_each_destination() {
    smol::block_on(async {
        let mut bench = Bench::with(options(), true, |_| Play::Outcome(Verdict::Deferred, Reach::Host));
        for n in 0..30 {
            bench.put(&[&format!("u@d{n}.example")]);
        }
        bench.run();
        bench.next().await;
        bench.next().await;
        // Everything else is postponed, and new mail with it.
        bench.put(&["late@late.example"]);
        bench.finish().await;
        assert!(bench.started.is_empty());
        bench.queue.retry(&Selector::default(), SystemTime::now()).expect("retry");
        bench.scheduler.retry_next_hops();
        bench.run();
        bench.next().await;
        bench.finish().await;
    });
}

#[test]
fn a_permanent_failure_is_reported_to_the_sender_and_never_to_nobody() {
    smol::block_on(async {
        let mut bench = Bench::new(|job| match job.destination.as_str() {
            "bad.example" => Play::Outcome(Verdict::Failed, Reach::Recipient),
            _ => Play::Outcome(Verdict::Deferred, Reach::Recipient),
        });
        let id = bench.put(&["a@bad.example"]);
        let null = bench.put_from("<>", &["a@bad.example"], SystemTime::now());
        bench.run();
        let mut jobs = vec![bench.next().await, bench.next().await, bench.next().await];
        bench.finish().await;
        assert_eq!(bench.states(id), [RecipientState::Failed]);
        assert_eq!(bench.states(null), [RecipientState::Failed]);
        let notifications = bench.notifications();
        assert_eq!(notifications.len(), 1, "and it was attempted at once");
        assert_eq!(notifications[0].0, "anna@example.org");
        assert!(notifications[0].1.contains("a@bad.example"));
        assert!(notifications[0].1.contains("Subject: hello"), "the header comes back");
        jobs.retain(|job| job.destination == "example.org");
        assert_eq!(jobs.len(), 1);
        assert!(jobs[0].reverse_path.is_null());
    });
}

#[test]
fn at_the_end_of_its_lifetime_mail_expires_but_not_for_our_own_faults() {
    smol::block_on(async {
        let mut bench = Bench::new(|job| match job.destination.as_str() {
            "site.example" => Play::Outcome(Verdict::Deferred, Reach::Site),
            "down.example" => Play::Outcome(Verdict::Deferred, Reach::NextHop),
            _ => Play::Outcome(Verdict::Delivered, Reach::Recipient),
        });
        let old = SystemTime::now() - Duration::from_secs(6 * 86_400);
        let over = bench.put_from("<anna@example.org>", &["a@down.example"], old);
        let site = bench.put_from("<anna@example.org>", &["a@site.example"], old);
        bench.run();
        for _ in 0..4 {
            bench.next().await;
        }
        bench.finish().await;
        assert_eq!(bench.states(over), [RecipientState::Expired]);
        assert_eq!(bench.states(site), [RecipientState::Waiting]);
        let told = "one message that it failed, one that it waits";
        assert_eq!(bench.queue.reader().counts().expect("counts").accepted_total, 4, "{told}");
    });
}

#[test]
fn one_failure_ends_all_that_is_overdue_for_the_destination() {
    smol::block_on(async {
        let mut bench = Bench::new(|job| match job.destination.as_str() {
            "down.example" => Play::Outcome(Verdict::Deferred, Reach::NextHop),
            _ => Play::Outcome(Verdict::Delivered, Reach::Recipient),
        });
        let zero = Duration::ZERO;
        let schedule = Schedule { lifetime: zero, notification_lifetime: zero, ..Schedule::default() };
        bench.scheduler.reload(Options { schedule, ..options() });
        let arrived = SystemTime::now() - Duration::from_secs(10);
        let from = |n| if n % 2 == 0 { "<>" } else { "<anna@example.org>" };
        let put = |n| bench.put_from(from(n), &[&format!("u{n}@down.example")], arrived);
        let ids: Vec<QueueId> = (0..40).map(put).collect();
        bench.queue.hold(&Selector { ids: vec![ids[7]], ..Selector::default() }, arrived).expect("hold");
        bench.run();
        let mut tried = 0;
        for _ in 0..19 {
            while bench.next().await.destination == "down.example" {
                tried += 1;
            }
        }
        bench.finish().await;
        let expired = ids.iter().filter(|id| bench.states(**id) == [RecipientState::Expired]).count();
        assert_eq!(expired, 39, "all but the held one");
        assert!(tried <= 2, "{tried} were tried");
    });
}

#[test]
fn the_sender_is_told_once_that_mail_waits() {
    smol::block_on(async {
        let mut bench = Bench::new(|job| match job.destination.as_str() {
            "slow.example" => Play::Outcome(Verdict::Deferred, Reach::Recipient),
            _ => Play::Outcome(Verdict::Delivered, Reach::Recipient),
        });
        let old = SystemTime::now() - Duration::from_secs(5 * 3_600);
        let id = bench.put_from("<anna@example.org>", &["a@slow.example"], old);
        bench.run();
        bench.next().await;
        let notice = bench.next().await;
        assert_eq!(notice.destination, "example.org");
        bench
            .queue
            .retry(&Selector { ids: vec![id], ..Selector::default() }, SystemTime::now())
            .expect("retry");
        assert_eq!(bench.next().await.queue_id, id.to_string());
        bench.finish().await;
        assert!(bench.started.is_empty(), "the second deferral says nothing");
        assert!(bench.show(id).listed.message.delay_notified_at.is_some());
        assert_eq!(bench.states(id), [RecipientState::Waiting]);
    });
}

#[test]
fn stopping_cuts_what_takes_too_long_and_it_is_due_again() {
    smol::block_on(async {
        let mut bench = Bench::new(|_| Play::HangSending);
        let id = bench.put(&["a@one.example"]);
        let (stopper, stopping) = stop();
        let run = Arc::clone(&bench.scheduler).run(stopping, Duration::ZERO);
        let task = smol::spawn(run);
        bench.next().await;
        stopper.fire();
        task.await;
        assert_eq!(bench.scheduler.deliveries(), 0);
        assert_eq!(bench.states(id), [RecipientState::Waiting]);
        assert_eq!(bench.show(id).listed.recipients[0].attempts, 0);
        bench.run();
        assert_eq!(bench.next().await.queue_id, id.to_string());
        drop(bench.gate.take());
        bench.finish().await;
        assert_eq!(bench.states(id), [RecipientState::Delivered]);
    });
}

#[test]
fn stopping_waits_for_nobody_who_was_sent_nothing() {
    smol::block_on(async {
        let bench = Bench::new(|_| Play::Hang);
        let id = bench.put(&["a@one.example"]);
        let (stopper, stopping) = stop();
        let run = Arc::clone(&bench.scheduler).run(stopping, Duration::from_secs(3600));
        let task = smol::spawn(run);
        bench.next().await;
        stopper.fire();
        task.await; // not after an hour
        assert_eq!(bench.scheduler.deliveries(), 0);
        assert_eq!(bench.states(id), [RecipientState::Waiting]);
        assert_eq!(bench.show(id).listed.recipients[0].attempts, 0);
    });
}

#[test]
fn stopping_waits_for_content_under_way() {
    smol::block_on(async {
        let mut bench = Bench::new(|_| Play::HangSending);
        let id = bench.put(&["a@one.example"]);
        bench.run();
        bench.next().await;
        let (stopper, task) = bench.running.take().expect("it runs");
        stopper.fire();
        smol::future::yield_now().await;
        assert_eq!(bench.scheduler.deliveries(), 1);
        drop(bench.gate.take());
        task.await;
        assert_eq!(bench.states(id), [RecipientState::Delivered]);
    });
}
