//! `queue`: lists, one message in full, and changes to what is selected. A list is read in pages, so that neither memory
//! nor the database is held for its length.

use std::time::SystemTime;

use mta_queue::{Listed, Page, QueueId, Selector};
use serde_json::Value;

use super::select::{Chosen, MAX_IDS, no_such_id};
use super::{QueueOperations, Source, failed, to_value};
use crate::control::protocol::{Code, Done, Failure, ListArguments, Request, Select};
use crate::control::views::MessageView;

/// Rows of a list where no limit is asked for.
const DEFAULT_LIMIT: usize = 1000;

/// Rows of a list at most, whatever is asked for; further ones are had with `after`.
const MAX_LIMIT: usize = 100_000;

/// Messages read at a time.
const PAGE: usize = 200;

impl QueueOperations {
    /// A page after a page, until the limit or the end.
    pub(super) fn list(
        &self,
        arguments: &ListArguments,
        row: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Done, Failure> {
        let chosen = self.selector(&arguments.select)?;
        let limit = match arguments.limit {
            0 => DEFAULT_LIMIT,
            n => n.min(MAX_LIMIT),
        };
        let mut done = Done::default();
        let mut full = false;
        let after = arguments.after.as_deref().map(|id| self.id(id)).transpose()?;
        self.each(&chosen, after, &mut |listed| {
            let view = MessageView::from(listed);
            if !chosen.word.as_deref().is_none_or(|word| view.recipients.iter().any(|r| r.status == word)) {
                return Ok(true);
            }
            if usize::try_from(done.count).is_ok_and(|count| count >= limit) {
                full = true;
                return Ok(false);
            }
            done.count += 1;
            Ok(row(to_value(&view)?))
        })?;
        done.more = full;
        Ok(done)
    }

    /// Calls `visit` with each message that fits, until it answers false.
    pub(super) fn each(
        &self,
        chosen: &Chosen,
        mut after: Option<QueueId>,
        visit: &mut dyn FnMut(&Listed) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        loop {
            let page = self.reader.list(&chosen.selector, Page { after, limit: PAGE }).map_err(failed)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.message.id);
            for listed in &page {
                if !visit(listed)? {
                    return Ok(());
                }
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// One message with its attempts.
    pub(super) fn show(&self, id: &str) -> Result<Value, Failure> {
        let shown = self.reader.show(self.id(id)?).map_err(failed)?;
        to_value(&MessageView::from(&shown.ok_or_else(|| no_such_id(id))?))
    }

    /// Makes messages due or drops them. The ids are gathered first, so that what was counted is what is changed.
    pub(super) fn change(&self, request: &Request, select: &Select) -> Result<Done, Failure> {
        let Source::Queue(queue) = &self.source else {
            return Err(Failure::new(Code::NotAllowed, "the queue is open for reading only"));
        };
        let chosen = self.selector(select)?;
        let (ids, _) = self.concerned(&chosen)?;
        let now = SystemTime::now();
        let mut done = Done::default();
        for some in ids.chunks(MAX_IDS) {
            let selector = Selector { ids: some.to_vec(), ..chosen.selector.clone() };
            done.count += match request {
                Request::QueueDrop(_) => queue.drop_messages(&selector, now),
                _ => queue.retry(&selector, now),
            }
            .map_err(failed)?;
        }
        if let Some(daemon) = &self.daemon {
            (daemon.wake)();
        }
        Ok(done)
    }

    /// The messages a change would concern, and how many of their recipients.
    pub(super) fn concerned(&self, chosen: &Chosen) -> Result<(Vec<QueueId>, u64), Failure> {
        let mut ids = Vec::new();
        let mut recipients = 0;
        self.each(chosen, None, &mut |listed| {
            let count = chosen.concerned(listed);
            if count > 0 {
                ids.push(listed.message.id);
                recipients += count;
            }
            Ok(true)
        })?;
        Ok((ids, recipients))
    }
}
