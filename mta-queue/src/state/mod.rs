//! State that is not mail: what the server has learnt and must still know after a restart. It lies in the queue's database,
//! so that backup, recovery and the one writer serve it, too.
//!
//! # The pattern
//!
//! One file per kind of state, which holds all of it:
//!
//! 1. its type with public fields, in plain strings and numbers: what they mean is known to mta-core;
//! 2. its table, in a migration of `schema` (a comment there says what a row is); each table has a bound in
//!    [`Options`](crate::Options), kept by the same change that adds a row, and a rule which row goes first;
//! 3. writes: methods of [`Queue`] that call `write_state` with a closure over the transaction. The closure may run more than
//!    once and must change nothing but rows. It shares a commit with whatever else waits; the commit is not synced by
//!    itself: a killed process keeps it, power loss may take the last moments. What must not be lost is no such state;
//! 4. reads: methods of [`Reader`](crate::Reader), which work while the daemon is down;
//! 5. tests beside it, on a real database.
//!
//! What it does not: it holds nothing in memory and knows no protocol.

pub(crate) mod alert;
pub(crate) mod alias;
pub(crate) mod dane;
pub(crate) mod dmarc;
pub(crate) mod handed;
pub(crate) mod outage;
pub(crate) mod relayed;
pub(crate) mod report;
pub(crate) mod sts;
pub(crate) mod tls_report;
pub(crate) mod user;

use crate::error::QueueError;
use crate::store::Queue;
use crate::writer::{Operation, Tx};

type Done = Box<dyn FnOnce(Result<(), QueueError>) + Send>;

/// A change to state, as the writer takes it.
struct WriteState<F> {
    /// What is written, for the log.
    what: &'static str,
    change: F,
    done: Done,
}

impl<F> Operation for WriteState<F>
where
    F: FnMut(&mut Tx<'_>) -> Result<(), QueueError> + Send,
{
    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), QueueError> {
        (self.change)(tx)
    }

    fn finish(self: Box<Self>, result: Result<(), QueueError>) {
        if let Err(error) = &result {
            log::warn!("event=state-not-written what={} error={:?}", self.what, error.to_string());
        }
        (self.done)(result);
    }
}

impl Queue {
    /// Hands a change of state to the writer. `done` is called on its thread after the commit and must not block; a
    /// failure is logged whatever `done` makes of it.
    pub(crate) fn write_state(
        &self,
        what: &'static str,
        change: impl FnMut(&mut Tx<'_>) -> Result<(), QueueError> + Send + 'static,
        done: impl FnOnce(Result<(), QueueError>) + Send + 'static,
    ) {
        self.send(Box::new(WriteState { what, change, done: Box::new(done) }));
    }
}
