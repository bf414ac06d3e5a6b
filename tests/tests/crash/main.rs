//! The daemon is killed (SIGKILL) at random moments under mixed load, again and again; guarantees G2, G3 and G4.
//!
//! Several clients send messages of all sizes (`load`); they go to a mailbox, to hosts that take them over connections
//! that are used again, to a host that is busy every other round, to a recipient that is refused, whereupon a notification
//! goes to the sender, and to a domain whose mail a rule holds. Meanwhile an administrator holds, releases, drops and
//! retries (`administrator`). Kills fall while clients send and while the queue empties. In the end (`arrivals`):
//!
//! - every message that was answered 250 has reached each of its ends at least once and byte-whole, or was dropped by hand;
//! - what was dropped by hand, and answered, never left; no message whose end of data was not sent arrived anywhere;
//! - extra copies are no more than kills times parallel deliveries, and there are none in mailboxes;
//! - the queue is empty and `verify` finds nothing.
//!
//! `MTA_CRASH_ROUNDS` sets the number of kills under load (3), `MTA_CRASH_SEED` repeats a run.

mod administrator;
mod arrivals;
mod load;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use mta_lab::lab::{Lab, Plan};
use mta_lab::mx::{Behaviour, Moment};
use mta_lab::zone::Zone;

use self::administrator::{Administrator, ByHand};
use self::arrivals::Ledger;
use self::load::{Clients, End};

/// Deliveries at a time, as configured here: to one destination, and altogether.
const PARALLEL: usize = 4;
const PARALLEL_IN_ALL: usize = 8;
/// For one kill while the queue empties, so many under load.
const LOADED_PER_DRAINING: u64 = 3;

fn number_from_environment(key: &str, default: u64) -> u64 {
    std::env::var(key).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// The host that is busy now and then, in sessions that are open too.
fn set_busy(lab: &Lab, busy: bool) {
    let ready = Behaviour::plain(End::Moody.host());
    let behaviour = if busy { ready.reply_at(Moment::Rcpt, "450 4.2.0 come back later") } else { ready };
    lab.mx(End::Moody.host()).change_open_sessions(behaviour);
}

fn laboratory() -> Lab {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1s\"]");
    plan.set("outbound.max_deliveries", &PARALLEL_IN_ALL.to_string());
    plan.set("outbound.max_deliveries_per_destination", &PARALLEL.to_string());
    let refusing = Behaviour::plain(End::Away.host()).reply_to(load::REFUSED, "550 5.1.1 no such user here");
    plan.site_with(End::Away.domain(), Some(refusing), &[], Zone::unsigned);
    for end in [End::Moody, End::Kept] {
        plan.site_with(end.domain(), Some(Behaviour::plain(end.host())), &[], Zone::unsigned);
    }
    plan.start().expect("a laboratory")
}

/// Kills the daemon some time from now, and starts it again.
fn kill_soon(lab: &mut Lab, rng: &mut Rng) {
    // The moment is what this test varies; a seed repeats it as well as a clock can.
    std::thread::sleep(Duration::from_millis(rng.u64(50..700)));
    lab.daemon_mut().kill();
    lab.daemon_mut().launch().expect("a start after a kill, with no operator step");
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_unfinished_is_delivered() {
    let rounds = number_from_environment("MTA_CRASH_ROUNDS", 3);
    let seed = number_from_environment("MTA_CRASH_SEED", fastrand::u64(..));
    println!("MTA_CRASH_SEED={seed} MTA_CRASH_ROUNDS={rounds}");
    let mut rng = Rng::with_seed(seed);
    let mut lab = laboratory();
    let socket = lab.directory().join("state/control.sock");
    administrator::hold_mail_to_come(&socket);
    let stop = Arc::new(AtomicBool::new(false));
    let administrator = Administrator::start(&socket, rng.fork(), &stop);
    let clients = Clients::start(lab.daemon().address(), &mut rng, &stop);
    for round in 0..rounds {
        set_busy(&lab, round % 2 == 0);
        kill_soon(&mut lab, &mut rng);
    }
    std::thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::SeqCst);
    let sent = clients.join();
    let by_hand = administrator.join();
    let draining = rounds.div_ceil(LOADED_PER_DRAINING);
    for _ in 0..draining {
        kill_soon(&mut lab, &mut rng);
    }
    set_busy(&lab, false);
    administrator::release_everything(&socket);
    let kills = usize::try_from(rounds + draining).expect("a small number");
    judge(&mut lab, &sent, &by_hand, kills);
}

fn judge(lab: &mut Lab, sent: &load::Sent, by_hand: &ByHand, kills: usize) {
    let ledger = Ledger::when_complete(lab, sent, by_hand);
    let counted = ledger.judge(sent, by_hand);
    let bound = kills * PARALLEL_IN_ALL;
    let deferrals = lab.daemon().log().iter().filter(|line| line.contains("event=deferred")).count();
    println!(
        "{} kills: {} acknowledged, {} unanswered, {} unfinished; {} dropped by hand, {} changes by hand; \
         {} arrivals, {} notifications, {deferrals} deferrals; {} connections for {} messages away; {} extra copies (at most {bound})",
        kills,
        sent.acknowledged.len(),
        sent.unanswered.len(),
        sent.unfinished.len(),
        by_hand.dropped.len(),
        by_hand.changes,
        counted.arrivals,
        counted.notifications,
        lab.mx(End::Away.host()).seen().connections,
        counted.away,
        counted.extra,
    );
    assert!(counted.extra <= bound, "G4: {} extra copies for {kills} kills", counted.extra);
    assert_eq!(counted.extra_local, 0, "a mailbox has each message once, however often it is delivered");
    // What has arrived is recorded a moment later.
    assert!(lab.wait_for_files(|| lab.list().is_empty()), "the queue is not empty: {:#?}", lab.list());
    assert!(lab.daemon_mut().stop().expect("an end").success());
    let verified = lab.daemon().cli(["verify"]).expect("mta-cli verify");
    let told = String::from_utf8_lossy(&verified.stdout);
    assert_eq!(verified.status.code(), Some(0), "{told}");
    println!("verify: {}", told.trim());
}
