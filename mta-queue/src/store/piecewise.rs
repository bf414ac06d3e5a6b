//! A change by the administrator to much of the queue, a piece at a time: other work of the queue goes on between pieces.
//!
//! Messages lie in the database by their age, the indexes of what waits and of what is held by destination: in the order of
//! one of them a change of everything touches a page of the others for each recipient. So the selection is read in bounded
//! windows, by age, and each window is changed by destination.

use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

use super::Queue;
use crate::admin::{By, Changed, Page, Selector};
use crate::change::{ChangeRecipients, Kind};
use crate::error::QueueError;
use crate::id::QueueId;
use crate::recipient::RecipientKey;
use crate::time::unix_seconds;

/// A piece of a change should take about so long: whoever hands mail in waits for one at most.
const PIECE_TIME: std::ops::Range<Duration> = Duration::from_millis(8)..Duration::from_millis(25);

/// Recipients in the first piece of a change.
pub(super) const FIRST_PIECE: usize = 256;

/// Recipients in each further piece: as many as the time allows, within these bounds. The upper one is for the disk that
/// was quick until now.
const PIECE_RECIPIENTS: std::ops::RangeInclusive<usize> = 32..=1_024;

/// Recipients in a window; beyond it by those of one page at most. One takes 32 octets of memory.
const WINDOW: usize = 65_536;

/// Messages that are read at a time, and how often for one window: a selection that fits little is not waited for longer.
const PAGE: usize = 1_024;
const PAGES: usize = 64;

/// A change that is under way.
pub struct Piecewise<'a> {
    queue: &'a Queue,
    kind: Kind,
    which: &'a Selector,
    by: By<'a>,
    now: i64,
    /// What is still to be changed of the window, the next at the end, under what it is sorted by.
    window: Vec<(i64, RecipientKey)>,
    /// Up to where was read.
    after: Option<QueueId>,
    read_to_the_end: bool,
    /// Something was changed that is not synced yet.
    unsynced: bool,
}

impl Queue {
    /// Begins a change to what is selected; `Piecewise::step` does it. What is synced is said there.
    pub fn piecewise<'a>(
        &'a self,
        kind: Kind,
        which: &'a Selector,
        by: By<'a>,
        now: SystemTime,
    ) -> Piecewise<'a> {
        Piecewise {
            queue: self,
            kind,
            which,
            by,
            now: unix_seconds(now),
            window: Vec::new(),
            after: None,
            read_to_the_end: false,
            unsynced: false,
        }
    }
}

impl Piecewise<'_> {
    /// The next piece; `None` when all is done. What was changed is on stable storage when the last piece is answered, the
    /// one before `None`; until then power loss may undo it. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn step(&mut self) -> Result<Option<Changed>, QueueError> {
        if self.window.is_empty() && !self.read_to_the_end {
            self.read()?;
        }
        let is_last = self.read_to_the_end;
        let limit = self.queue.inner.piece.load(Ordering::Relaxed);
        let keys = self.take(limit);
        let is_last = is_last && self.window.is_empty();
        if keys.is_empty() && !(is_last && self.unsynced) {
            // Nothing of these pages fits.
            return Ok((!is_last).then(Changed::default));
        }
        let (done, result) = channel();
        let begun = Instant::now();
        self.queue.send(Box::new(ChangeRecipients {
            kind: self.kind,
            keys,
            now: self.now,
            who: self.by.who.to_owned(),
            reason: self.by.reason.to_owned(),
            // The end is synced for what the pieces before it did.
            is_last,
            changed: 0,
            done,
        }));
        let recipients = result.recv().unwrap_or(Err(QueueError::Closed))?;
        self.queue.inner.piece.store(next_piece(limit, begun.elapsed()), Ordering::Relaxed);
        self.unsynced = !is_last;
        Ok(Some(Changed { recipients, busy: 0, last: None }))
    }

    /// Reads the next window.
    fn read(&mut self) -> Result<(), QueueError> {
        for _ in 0..PAGES {
            let page = Page { after: self.after, limit: PAGE };
            let (keys, last) = self.queue.inner.admin.keys(self.kind, self.which, page)?;
            self.window.extend(keys.into_iter().map(|(key, destination)| (destination, key)));
            self.after = last;
            self.read_to_the_end = last.is_none();
            if self.read_to_the_end || self.window.len() >= WINDOW {
                break;
            }
        }
        // A message stays together, under the destination of its first recipient: its history has one line of the change.
        let mut first = (0, 0);
        for (destination, key) in &mut self.window {
            if first.0 != key.message {
                first = (key.message, *destination);
            }
            *destination = first.1;
        }
        self.window.sort_unstable_by_key(|(destination, key)| std::cmp::Reverse((*destination, *key)));
        Ok(())
    }

    /// Whole messages of the window, as many as hold so many recipients or the first that holds more.
    fn take(&mut self, limit: usize) -> Vec<RecipientKey> {
        let mut keys: Vec<RecipientKey> = Vec::with_capacity(limit.min(self.window.len()));
        while let Some((_, next)) = self.window.last() {
            if keys.len() >= limit && keys.last().is_none_or(|last| last.message != next.message) {
                break;
            }
            keys.extend(self.window.pop().map(|(_, key)| key));
        }
        keys
    }
}

/// How many recipients the next piece has, after one of `limit` took so long.
fn next_piece(limit: usize, took: Duration) -> usize {
    let next = if took < PIECE_TIME.start {
        limit.saturating_mul(2)
    } else if took > PIECE_TIME.end {
        limit / 2
    } else {
        limit
    };
    next.clamp(*PIECE_RECIPIENTS.start(), *PIECE_RECIPIENTS.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_grow_and_shrink_within_their_bounds() {
        let of = |limit, millis| next_piece(limit, Duration::from_millis(millis));
        assert_eq!((of(256, 5), of(256, 15), of(256, 30)), (512, 256, 128));
        assert_eq!((of(1_024, 1), of(32, 5_000)), (1_024, 32));
    }
}
