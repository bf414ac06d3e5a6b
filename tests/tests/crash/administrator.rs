//! The administrator: holds, releases, drops and retries through the control socket, whether the daemon is there or not.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fastrand::Rng;
use mta_cli::client::Client;
use mta_core::control::{
    ChangeArguments, Done, HoldRuleArguments, ListArguments, MessageView, Request, Select,
};
use mta_lab::lab::WITHIN;

use crate::load::End;

/// Between two changes, and between two tries to reach the daemon.
const PAUSE: Duration = Duration::from_millis(20);
/// Held messages looked at in one turn.
const MESSAGES_A_TURN: usize = 20;

/// What the administrator did.
#[derive(Default)]
pub(crate) struct ByHand {
    /// Messages whose recipient at `End::Kept` the daemon said it had dropped.
    pub(crate) dropped: BTreeSet<String>,
    /// Those of which no answer came.
    pub(crate) perhaps_dropped: BTreeSet<String>,
    /// Changes that were answered.
    pub(crate) changes: usize,
}

/// The administrator at work.
pub(crate) struct Administrator(JoinHandle<ByHand>);

impl Administrator {
    pub(crate) fn start(socket: &Path, mut rng: Rng, stop: &Arc<AtomicBool>) -> Self {
        let (socket, stop) = (socket.to_owned(), Arc::clone(stop));
        Self(std::thread::spawn(move || {
            let mut by_hand = ByHand::default();
            while !stop.load(Ordering::SeqCst) {
                if let Some(mut client) = connect(&socket) {
                    turn(&mut client, &mut rng, &mut by_hand);
                }
                std::thread::sleep(PAUSE);
            }
            by_hand
        }))
    }

    pub(crate) fn join(self) -> ByHand {
        self.0.join().expect("the administrator does not panic")
    }
}

/// The daemon alone: the tool would work on the queue's files where it is down, and the next start would wait for it.
fn connect(socket: &Path) -> Option<Client> {
    let stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(WITHIN)).ok()?;
    Some(Client::Daemon(BufReader::new(stream)))
}

fn ask(client: &mut Client, request: &Request) -> Option<Done> {
    client.ask(request, &mut |_| ()).ok()
}

fn at(end: End, ids: Vec<String>) -> ChangeArguments {
    let select = Select { ids, domain: Some(end.domain().to_owned()), ..Select::default() };
    ChangeArguments { select, reason: "by hand".to_owned() }
}

/// A few changes. None where the daemon goes away meanwhile.
fn turn(client: &mut Client, rng: &mut Rng, by_hand: &mut ByHand) -> Option<()> {
    let moody = at(End::Moody, Vec::new());
    let request = match rng.u8(0..4) {
        0 => Request::QueueHold(moody),
        1 => Request::QueueRetry(moody),
        _ => Request::QueueRelease(moody),
    };
    ask(client, &request)?;
    by_hand.changes += 1;
    let held = Select {
        status: Some("held".to_owned()),
        domain: Some(End::Kept.domain().to_owned()),
        ..Select::default()
    };
    let list = Request::QueueList(ListArguments { select: held, limit: MESSAGES_A_TURN, after: None });
    let mut ids = Vec::new();
    client.ask_all(&list, &mut |message: MessageView| ids.push(message.id)).ok()?;
    for id in ids {
        let one = at(End::Kept, vec![id.clone()]);
        if rng.bool() {
            ask(client, &Request::QueueRelease(one))?;
        } else {
            by_hand.perhaps_dropped.insert(id.clone());
            let done = ask(client, &Request::QueueDrop(one))?;
            by_hand.perhaps_dropped.remove(&id);
            if done.count == 1 {
                by_hand.dropped.insert(id);
            }
        }
        by_hand.changes += 1;
    }
    Some(())
}

/// A rule holds what will come for `End::Kept`. It stays, whatever happens to the daemon.
pub(crate) fn hold_mail_to_come(socket: &Path) {
    let to = Some(format!("@{}", End::Kept.domain()));
    let rule =
        HoldRuleArguments { to, reason: "looked at by hand".to_owned(), ..HoldRuleArguments::default() };
    let mut client = connect(socket).expect("the daemon runs");
    ask(&mut client, &Request::HoldRuleAdd(rule)).expect("a rule");
}

/// Releases what is still held.
pub(crate) fn release_everything(socket: &Path) {
    let deadline = Instant::now() + WITHIN;
    for end in [End::Kept, End::Moody] {
        let request = Request::QueueRelease(at(end, Vec::new()));
        while connect(socket).and_then(|mut client| ask(&mut client, &request)).is_none() {
            assert!(Instant::now() < deadline, "the daemon does not answer");
            std::thread::sleep(PAUSE);
        }
    }
}
