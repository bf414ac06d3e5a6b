//! What waits for the writer, and how much more is about to.
//!
//! Where the disk syncs as fast as messages come, "commit what waits" commits them one by one, and each costs a sync and
//! a transaction of its own. So whoever serves a client says so (`Presence`), and before a durable commit the writer waits
//! for the clients that are at work just now. There is no fixed delay in this:
//!
//! - With nobody else at work there is no wait: a client alone is answered as soon as the disk allows.
//! - It ends when the last of those at work has handed in its message, or has gone.
//! - It ends when none of them was heard for as long as a commit takes. Those it waited for in vain count again only once
//!   they are heard again, so a client that stalls costs the others one commit's time, once.
//! - In all it takes no longer than committing one by one what it waits for would have, and never longer than
//!   `GATHER_AT_MOST`.
//!
//! What it does not: it does not know what the operations do, and it syncs nothing.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::writer::Operation;

/// Operations in one commit, at most: bounds the time the first of them waits for the last.
const MAX_BATCH: usize = 256;

/// Octets of content in one commit, at most, give or take one message: bounds the write-ahead log.
const MAX_BATCH_BYTES: u64 = 8 << 20;

/// The longest that a message waits for others, however slow the disk is and however many are at work.
const GATHER_AT_MOST: Duration = Duration::from_millis(25);

/// For how long none of those at work may be silent: what a commit takes, within these bounds. A process that waits for
/// its turn on a processor that others want too is silent for longer than the fastest disks need: with less than this
/// patience batches fell apart on a machine of two cores, and each message had a sync of its own.
const SILENCE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(5));

/// What the writer is about to do.
pub(crate) enum Next {
    /// Commit these.
    Batch(Vec<Box<dyn Operation>>),
    /// Nothing came in the time given.
    Nothing,
    /// End: everything that was handed in before has been taken.
    Close,
}

/// How long those at work are waited for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For each of them.
    each: Duration,
    /// For all.
    in_all: Duration,
    /// While none of them is heard.
    silence: Duration,
}

impl Patience {
    fn of(commit: Duration) -> Self {
        Self { each: commit, in_all: GATHER_AT_MOST, silence: commit.clamp(SILENCE.0, SILENCE.1) }
    }
}

/// The way to the writer.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Box<dyn Operation>>,
    /// Content in what waits, octets.
    bytes: u64,
    /// One of those that wait wants a sync.
    durable: bool,
    /// Nothing is taken in any more.
    closed: bool,
    /// What the writer sleeps for.
    sleep: Sleep,
    /// Clients at work: those heard since `round` began.
    at_work: usize,
    /// Counts the times that waiting was in vain.
    round: u64,
    /// Counts how often anybody was heard.
    heard: u64,
}

/// What the writer sleeps for. Who would wake it looks here first, for a wake-up is a call of the kernel.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Sleep {
    /// It is at work.
    #[default]
    No,
    /// Anything.
    Idle,
    /// Those at work.
    Gathering,
}

impl State {
    /// Whether the writer has to be woken; it is once.
    fn wakes(&mut self) -> bool {
        let wakes = match self.sleep {
            Sleep::No => false,
            Sleep::Idle => true,
            Sleep::Gathering => self.is_complete(),
        };
        if wakes {
            self.sleep = Sleep::No;
        }
        wakes
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_BATCH || self.bytes >= MAX_BATCH_BYTES
    }

    /// There is nothing to wait for.
    fn is_complete(&self) -> bool {
        self.at_work == 0 || !self.durable || self.is_full() || self.closed
    }

    fn leave(&mut self, round: &mut Option<u64>) {
        if round.take() == Some(self.round) {
            self.at_work = self.at_work.saturating_sub(1);
        }
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an operation to the writer; gives it back where that has ended.
    pub(crate) fn send(&self, operation: Box<dyn Operation>) -> Result<(), Box<dyn Operation>> {
        self.push(operation, None)
    }

    /// The same for a client that now waits for the answer.
    pub(crate) fn send_from(
        &self,
        presence: &mut Presence,
        operation: Box<dyn Operation>,
    ) -> Result<(), Box<dyn Operation>> {
        self.push(operation, Some(&mut presence.round))
    }

    fn push(
        &self,
        operation: Box<dyn Operation>,
        round: Option<&mut Option<u64>>,
    ) -> Result<(), Box<dyn Operation>> {
        let mut state = self.lock();
        if state.closed {
            return Err(operation);
        }
        state.bytes += operation.weight_bytes();
        state.durable |= operation.durable();
        state.waiting.push_back(operation);
        if let Some(round) = round {
            state.leave(round);
        }
        if state.wakes() {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Takes nothing in any more. `false` where that was so before.
    pub(crate) fn close(&self) -> bool {
        let was_open = !std::mem::replace(&mut self.lock().closed, true);
        self.changed.notify_one();
        was_open
    }

    /// The writer is gone, however that came: what it has not taken is dropped.
    pub(crate) fn abandon(&self) {
        let left = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        drop(left);
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// The next batch: waits until there is something, for so long at most, and then for those at work. `commit` is how
    /// long a commit takes.
    pub(crate) fn next(&self, at_most: Option<Duration>, commit: Duration) -> Next {
        self.next_within(at_most, Patience::of(commit))
    }

    fn next_within(&self, at_most: Option<Duration>, patience: Patience) -> Next {
        let mut state = self.lock();
        let until = at_most.map(|time| Instant::now() + time);
        while state.waiting.is_empty() {
            if state.closed {
                return Next::Close;
            }
            state.sleep = Sleep::Idle;
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    state.sleep = Sleep::No;
                    return Next::Nothing;
                }
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let mut state = self.gather(state, patience);
        state.sleep = Sleep::No;
        let mut batch = Vec::with_capacity(state.waiting.len().min(MAX_BATCH));
        let mut bytes = 0;
        while batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            let Some(operation) = state.waiting.pop_front() else { break };
            bytes += operation.weight_bytes();
            batch.push(operation);
        }
        state.bytes = state.bytes.saturating_sub(bytes);
        state.durable = state.waiting.iter().any(|operation| operation.durable());
        Next::Batch(batch)
    }

    /// Waits for those at work, as the head of this module says.
    fn gather<'a>(&'a self, mut state: MutexGuard<'a, State>, patience: Patience) -> MutexGuard<'a, State> {
        if state.is_complete() {
            return state;
        }
        let others = u32::try_from(state.at_work).unwrap_or(u32::MAX);
        let until = Instant::now() + patience.each.saturating_mul(others).min(patience.in_all);
        loop {
            let heard = state.heard;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return state;
            }
            state.sleep = Sleep::Gathering;
            let waited = self.changed.wait_timeout(state, left.min(patience.silence));
            let (woken, time) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if state.is_complete() {
                return state;
            }
            if time.timed_out() && state.heard == heard {
                state.at_work = 0;
                state.round += 1;
                return state;
            }
        }
    }
}

/// Says that somebody serves a client whose messages go into the queue, for as long as it lives. Whether it counts as at
/// work is seen from how lately it was heard.
pub struct Presence {
    inbox: Arc<Inbox>,
    /// The round in which it counts.
    round: Option<u64>,
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("round", &self.round).finish_non_exhaustive()
    }
}

impl Presence {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, round: None }
    }

    /// The client was heard, or just answered: it is at work, and a message of it may be near.
    pub fn heard(&mut self) {
        let mut state = self.inbox.lock();
        state.heard += 1;
        if self.round != Some(state.round) {
            self.round = Some(state.round);
            state.at_work += 1;
        }
    }

    /// Nobody need wait for it: its content is large, or it is not going to hand in anything soon.
    pub fn rest(&mut self) {
        if self.round.is_none() {
            return;
        }
        let mut state = self.inbox.lock();
        state.leave(&mut self.round);
        if state.wakes() {
            self.inbox.changed.notify_one();
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::QueueError;
    use crate::writer::Tx;

    /// Changes nothing.
    struct Nothing {
        durable: bool,
    }

    impl Operation for Nothing {
        fn durable(&self) -> bool {
            self.durable
        }

        fn apply(&mut self, _: &mut Tx<'_>) -> Result<(), QueueError> {
            Ok(())
        }

        fn finish(self: Box<Self>, _: Result<(), QueueError>) {}
    }

    fn durable() -> Box<dyn Operation> {
        Box::new(Nothing { durable: true })
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    /// A test that waits in vain hangs.
    const LONG: Patience = Patience { each: HOUR, in_all: HOUR, silence: HOUR };

    fn size(next: Next) -> usize {
        match next {
            Next::Batch(batch) => batch.len(),
            Next::Nothing | Next::Close => 0,
        }
    }

    #[test]
    fn a_client_alone_is_not_kept_waiting() {
        let inbox = Arc::new(Inbox::default());
        let mut presence = Presence::new(Arc::clone(&inbox));
        presence.heard();
        assert!(inbox.send_from(&mut presence, durable()).is_ok());
        assert_eq!(size(inbox.next_within(None, LONG)), 1);
    }

    #[test]
    fn those_at_work_are_committed_together_and_who_leaves_is_not_waited_for() {
        let inbox = Arc::new(Inbox::default());
        let mut clients: Vec<_> = (0..4).map(|_| Presence::new(Arc::clone(&inbox))).collect();
        clients.iter_mut().for_each(Presence::heard);
        let writer = std::thread::spawn({
            let inbox = Arc::clone(&inbox);
            move || size(inbox.next_within(None, LONG))
        });
        let (leaves, rests) = (clients.pop(), clients.pop());
        for mut presence in clients {
            assert!(inbox.send_from(&mut presence, durable()).is_ok());
        }
        drop(leaves);
        rests.expect("a presence").rest();
        assert_eq!(writer.join().expect("a batch"), 2);
        assert_eq!(inbox.lock().at_work, 0);
    }

    #[test]
    fn who_is_silent_is_waited_for_once_and_counts_again_when_heard() {
        let inbox = Arc::new(Inbox::default());
        let mut silent = Presence::new(Arc::clone(&inbox));
        silent.heard();
        assert!(inbox.send(durable()).is_ok());
        let short = Patience { silence: Duration::from_millis(1), ..LONG };
        assert_eq!(size(inbox.next_within(None, short)), 1);
        assert!(inbox.send(durable()).is_ok());
        assert_eq!(size(inbox.next_within(None, LONG)), 1, "it is not waited for again");
        silent.heard();
        silent.heard();
        assert_eq!(inbox.lock().at_work, 1);
        drop(silent);
        assert_eq!(inbox.lock().at_work, 0);
    }

    #[test]
    fn results_alone_and_a_full_batch_wait_for_nobody() {
        let inbox = Arc::new(Inbox::default());
        let mut busy = Presence::new(Arc::clone(&inbox));
        busy.heard();
        assert!(inbox.send(Box::new(Nothing { durable: false })).is_ok());
        assert_eq!(size(inbox.next_within(None, LONG)), 1);
        for _ in 0..=MAX_BATCH {
            assert!(inbox.send(durable()).is_ok());
        }
        assert_eq!(size(inbox.next_within(None, LONG)), MAX_BATCH);
        drop(busy);
        assert_eq!(size(inbox.next_within(None, LONG)), 1);
    }

    #[test]
    fn the_wait_is_bounded_by_what_it_saves() {
        let [fast, slow] = [Duration::from_micros(100), Duration::from_secs(1)].map(Patience::of);
        assert_eq!((fast.each, fast.silence), (Duration::from_micros(100), SILENCE.0));
        assert_eq!((slow.in_all, slow.silence), (GATHER_AT_MOST, SILENCE.1));
    }

    #[test]
    fn a_closed_inbox_gives_out_what_it_has_and_takes_no_more() {
        let inbox = Inbox::default();
        assert!(inbox.send(durable()).is_ok());
        assert!(inbox.close());
        assert!(!inbox.close());
        assert!(inbox.send(durable()).is_err());
        assert_eq!(size(inbox.next_within(None, LONG)), 1);
        assert!(matches!(inbox.next_within(None, LONG), Next::Close));
    }
}
