//! The scheduler over a real queue, with deliveries that do as each test says. Nothing here waits for a clock: tests wait
//! for deliveries and for the queue, and make deferred mail due by the administrator's retry.

use std::io::Write;
use std::sync::mpsc::channel;

use mta_queue::{NewMessage, Origin, OriginKind, Page, RecipientState, Selector, Shown};
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
    /// This report.
    Report(fn(&Job) -> AttemptReport),
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
                Play::Report(make) => make(&job),
                Play::Panic => panic!("as the test wants"),
                Play::Nothing => AttemptReport::default(),
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
        reports_passed_on: false,
    };
    let outcomes = job
        .recipients
        .iter()
        .map(|recipient| RecipientOutcome { recipient: recipient.clone(), outcome: outcome.clone() })
        .collect();
    AttemptReport { outcomes, ..AttemptReport::default() }
}

/// A scheduler under test.
struct Bench {
    _directory: tempfile::TempDir,
    queue: Queue,
    scheduler: Arc<Scheduler>,
    site: Site,
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
        let site = Site::default();
        let scheduler = Scheduler::new(queue.clone(), Arc::new(script), options, site.clone());
        Self {
            _directory: directory,
            queue,
            scheduler,
            site,
            started,
            gate: Some(gate_sender),
            running: None,
        }
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
        let message = NewMessage {
            id,
            envelope,
            received_at,
            origin: Origin { kind: OriginKind::Submission, ..Origin::default() },
            content,
            hold: None,
        };
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

/// A decision record as an attempt to these MX hosts leaves it.
fn decision(mx: &[&str], tries: &[(&str, Option<&str>)]) -> Decision {
    use crate::outbound::decision::{HostRecord, MxHost, MxRecord, ReplyRecord, TryRecord};

    let host = |host: &&str| MxHost { preference: Some(10), host: (*host).to_owned() };
    let tries = tries.iter().map(|(address, error)| TryRecord {
        address: (*address).to_owned(),
        connect_error: error.map(ToOwned::to_owned),
        replies: match error {
            Some(_) => Vec::new(),
            None => vec![ReplyRecord { to: "greeting".into(), reply: "220 hello".into(), at_ms: 1 }],
        },
        ..TryRecord::default()
    });
    let record = HostRecord { host: mx[0].to_owned(), tries: tries.collect(), ..HostRecord::default() };
    Decision {
        mx: Some(MxRecord { hosts: mx.iter().map(host).collect(), ..MxRecord::default() }),
        hosts: vec![record],
        ..Decision::default()
    }
}

/// What a host said, or that it could not be connected to.
fn attempt_report(job: &Job, mx: &[&str], address: &str, said: Result<&str, &str>) -> AttemptReport {
    use mta_smtp::reply::Reply;

    let code = said.ok().and_then(|text| text.get(..3)).and_then(|code| code.parse().ok()).unwrap_or(0_u16);
    let verdict = match code {
        200..400 => Verdict::Delivered,
        500.. => Verdict::Failed,
        _ => Verdict::Deferred,
    };
    let reach = match (said, code) {
        (Err(_), _) => Reach::Host,
        (_, 421) => Reach::Session,
        _ => Reach::Message,
    };
    let mut report = report(job, verdict, reach);
    report.decision = decision(mx, &[(address, said.err())]);
    for of in &mut report.outcomes {
        of.outcome.reply = said.ok().map(|text| {
            let (status, words) = EnhancedStatus::split(&text[4..]);
            Reply::new(code, status, words)
        });
        of.outcome.remote =
            Some(crate::outbound::outcome::Remote { host: mx[0].to_owned(), address: address.parse().ok() });
    }
    report
}

#[test]
fn a_throttled_provider_is_left_alone_for_all_its_domains_and_the_administrator_is_told_once() {
    smol::block_on(async {
        let mut bench = Bench::new(|job| match job.destination.as_str() {
            "elsewhere.example" => Play::Outcome(Verdict::Delivered, Reach::Recipient),
            _ => Play::Report(|job| {
                attempt_report(
                    job,
                    &["aspmx.l.google.com"],
                    "192.0.2.1:25",
                    Ok("421 4.7.28 unusual rate of unsolicited mail"),
                )
            }),
        });
        let first = bench.put(&["a@one.example"]);
        bench.run();
        bench.next().await;
        bench.finish().await;
        // It is known now where this domain leads, and that it is held back.
        let second = bench.put(&["b@one.example"]);
        let other = bench.put(&["c@elsewhere.example"]);
        bench.run();
        assert_eq!(bench.next().await.queue_id, other.to_string());
        bench.finish().await;
        assert!(bench.started.is_empty());
        assert_eq!(bench.show(second).listed.recipients[0].attempts, 0);
        assert_eq!(bench.show(first).listed.recipients[0].attempts, 1);
        let alerts = bench.site.alerts.open();
        assert_eq!(alerts.len(), 1);
        assert_eq!((alerts[0].kind, alerts[0].subject.as_str()), (crate::alert::Kind::Provider, "google"));
        let views = bench.scheduler.next_hops();
        let google = views.iter().find(|view| view.name == "google").expect("known");
        assert_eq!((google.class, google.limit), (Some("rate-limited"), 1));
        assert!(google.not_before > Some(SystemTime::now()));
        let hold = bench.site.providers.hold("google", SystemTime::now()).expect("held");
        assert!(hold.paused_until > Some(SystemTime::now() + Duration::from_secs(1_500)));
        assert!(bench.scheduler.reset_next_hop("one.example"), "by the name of the domain");
        assert!(bench.site.providers.hold("google", SystemTime::now()).is_none());
    });
}

#[test]
fn a_failure_of_shared_hosts_moves_what_waits_for_every_domain_that_they_serve() {
    smol::block_on(async {
        let down = Arc::new(AtomicBool::new(false));
        let is_down = Arc::clone(&down);
        let mut bench = Bench::new(move |_| match is_down.load(Ordering::SeqCst) {
            false => Play::Report(|job| {
                attempt_report(job, &["mx.hoster.example"], "192.0.2.1:25", Ok("250 2.0.0 ok"))
            }),
            true => Play::Report(|job| {
                attempt_report(job, &["mx.hoster.example"], "192.0.2.1:25", Err("refused"))
            }),
        });
        bench.run();
        for n in 0..5 {
            bench.put(&[&format!("a@d{n}.example")]);
            bench.next().await;
        }
        bench.finish().await;
        down.store(true, Ordering::SeqCst);
        let ids: Vec<_> = (0..5).map(|n| bench.put(&[&format!("b@d{n}.example")])).collect();
        bench.run();
        bench.next().await;
        bench.finish().await;
        let tried = ids.iter().filter(|id| bench.show(**id).listed.recipients[0].attempts > 0).count();
        assert!(tried <= 2, "{tried}: as many as ran side by side, not one for each domain");
    });
}

#[test]
fn too_many_at_once_is_answered_with_fewer_and_not_with_a_pause_of_the_destination() {
    smol::block_on(async {
        let options = Options { deliveries: 40, deliveries_per_next_hop: 8, ..options() };
        let mut bench = Bench::with(Options { first_deliveries_per_next_hop: 8, ..options }, false, |job| {
            match job.recipients[0].mailbox.to_string().starts_with("busy") {
                true => Play::Report(|job| {
                    attempt_report(
                        job,
                        &["mx.x.example"],
                        "192.0.2.1:25",
                        Ok("421 too many connections from you"),
                    )
                }),
                false => Play::Hang,
            }
        });
        bench.run();
        bench.put(&["slow@x.example"]);
        bench.next().await;
        let busy = bench.put(&["busy@x.example"]);
        bench.next().await;
        // The slow one is under way until the result of the busy one stands.
        while bench.show(busy).listed.recipients[0].attempts == 0 {
            Timer::after(Duration::from_millis(5)).await;
        }
        drop(bench.gate.take());
        bench.finish().await;
        let summary = bench.queue.reader().destinations(1).expect("destinations").remove(0);
        assert_eq!(summary.failures, 0, "the destination as a whole has not failed");
    });
}

#[test]
fn offline_nothing_counts_and_nothing_expires_and_when_it_is_over_all_is_delivered() {
    smol::block_on(async {
        let offline = Arc::new(AtomicBool::new(true));
        let is_offline = Arc::clone(&offline);
        let mut bench =
            Bench::new(move |job| match (is_offline.load(Ordering::SeqCst), job.destination.as_str()) {
                (true, "example.org") => Play::Outcome(Verdict::Delivered, Reach::Recipient),
                (true, _) => Play::Report(|job| {
                    let n = job.destination.as_bytes().get(1).map_or(0, |digit| digit - b'0');
                    attempt_report(job, &["mx.example"], &format!("10.{n}.0.1:25"), Err("timeout"))
                }),
                (false, _) => Play::Report(|job| {
                    attempt_report(job, &["mx.example"], "10.9.0.1:25", Ok("250 2.0.0 ok"))
                }),
            });
        // Short waits, and a lifetime that is over when the outage is.
        let breaker = breaker::Settings { probe: Duration::from_millis(10), ..breaker::Settings::default() };
        let schedule = Schedule { waits: vec![Duration::ZERO], jitter_percent: 0, ..Schedule::default() };
        bench.scheduler.reload(Options { breaker, schedule: schedule.clone(), deliveries: 20, ..options() });
        let ids: Vec<_> = (0..9).map(|n| bench.put(&[&format!("a@d{n}.example")])).collect();
        bench.run();
        while bench.scheduler.site_fault().is_none() {
            bench.next().await;
        }
        bench.finish().await;
        let alerts = bench.site.alerts.open();
        assert_eq!((alerts.len(), alerts[0].kind), (1, crate::alert::Kind::SiteFault));
        while bench.started.try_recv().is_ok() {}
        // As old as the outage, and the lifetime is over by the clock.
        let since = bench.scheduler.site_fault().expect("open").1;
        bench.scheduler.outages().note(
            since - Duration::from_secs(9 * 86_400),
            Some(since),
            Some(breaker::Fault::NoRoute),
        );
        let old = SystemTime::now() - Duration::from_secs(8 * 86_400);
        let aged = bench.put_from("<anna@example.org>", &["a@d8.example"], old);
        bench.run();
        while bench.next().await.queue_id != aged.to_string() {}
        bench.finish().await;
        assert_eq!(bench.states(aged), [RecipientState::Waiting], "it is as young as it was");
        let attempts: u32 = ids.iter().map(|id| bench.show(*id).listed.recipients[0].attempts).sum();
        assert!(attempts <= 9, "{attempts}: only those that opened it, or ran side by side with them");
        assert!(bench.notifications().is_empty(), "and nobody was told anything");
        // A restart changes nothing of that.
        let again = Scheduler::new(
            bench.queue.clone(),
            Arc::clone(&bench.scheduler.deliver),
            Options { breaker, schedule, deliveries: 20, ..options() },
            bench.site.clone(),
        );
        assert_eq!(again.site_fault().map(|(fault, _)| fault), Some(breaker::Fault::Unreachable));
        bench.scheduler = again;
        offline.store(false, Ordering::SeqCst);
        bench.run();
        while bench.queue.reader().counts().expect("counts").waiting > 0 {
            bench.queue.retry(&Selector::default(), SystemTime::now()).expect("retry");
            bench.scheduler.notify();
            let _ = or(async { bench.started.recv().await.ok() }, async {
                Timer::after(Duration::from_millis(20)).await;
                None
            })
            .await;
        }
        bench.finish().await;
        assert!(bench.scheduler.site_fault().is_none());
        assert!(bench.site.alerts.open().is_empty(), "the alert closed by itself");
        let outages = bench.queue.reader().outages().expect("outages");
        assert!(outages.iter().all(|outage| outage.ended_at.is_some()));
    });
}
