//! `trace`: messages from their arrival to their end, in the queue or its history.

use std::collections::VecDeque;

use mta_queue::{Page, QueueId, Selector};

use super::{QueueOperations, Rows, failed, to_value};
use crate::control::peer::Peer;
use crate::control::protocol::{Code, Done, Failure, TraceArguments};
use crate::control::views::MessageView;

/// Messages where no limit is asked for.
const DEFAULT_LIMIT: usize = 10;

/// Messages at most.
const MAX_LIMIT: usize = 1_000;

/// Messages read at a time.
const PAGE: usize = 200;

impl QueueOperations {
    /// The latest messages that fit, oldest first.
    pub(super) fn trace(
        &self,
        peer: &Peer,
        arguments: &TraceArguments,
        row: Rows<'_>,
    ) -> Result<Done, Failure> {
        if arguments.select == <_>::default() && arguments.message_id.is_none() {
            return Err(Failure::new(Code::BadRequest, "trace: say what: an id, an address or a Message-ID"));
        }
        let limit = if arguments.limit == 0 { DEFAULT_LIMIT } else { arguments.limit.min(MAX_LIMIT) };
        let wanted = arguments.message_id.as_deref().map(|id| id.trim().trim_matches(['<', '>']));
        let selector = Selector {
            finished: true,
            message_id: wanted.map(str::to_owned),
            ..self.selector_for(peer, &arguments.select)?
        };
        let mut done = Done::default();
        let mut latest: VecDeque<QueueId> = VecDeque::new();
        let mut after = None;
        loop {
            let page = Page { after, limit: PAGE };
            let (ids, last) = self.reader.ids_step(&selector, page).map_err(failed)?;
            for id in ids {
                latest.push_back(id);
                if latest.len() > limit {
                    latest.pop_front();
                    done.more = true;
                }
            }
            if last.is_none() {
                break;
            }
            after = last;
        }
        for id in latest {
            let Some(shown) = self.reader.show(id).map_err(failed)? else { continue };
            done.count += 1;
            if !row(to_value(&MessageView::from(&shown))?) {
                break;
            }
        }
        Ok(done)
    }
}
