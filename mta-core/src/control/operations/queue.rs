//! `queue`: lists, one message in full, its content. A list is read in steps, so that neither memory nor the database is
//! held for its length.

use std::io::Read;

use mta_queue::{Page, QueueId, Selector, Shown};
use serde_json::{Value, json};

use super::select::no_such_id;
use super::{QueueOperations, Rows, failed, to_value};
use crate::control::peer::Peer;
use crate::control::protocol::{Code, ContentArguments, Done, Failure, ListArguments};
use crate::control::views::MessageView;

/// Rows of a list where no limit is asked for.
const DEFAULT_LIMIT: usize = 1000;

/// Rows of a list at most, whatever is asked for; further ones are had with `after`.
const MAX_LIMIT: usize = 100_000;

/// Messages read at a time.
const PAGE: usize = 200;

/// Octets of content in one row.
const CONTENT_ROW: usize = 16 << 10;

impl QueueOperations {
    /// A step after a step, until the limit or the end.
    pub(super) fn list(
        &self,
        peer: &Peer,
        arguments: &ListArguments,
        row: Rows<'_>,
    ) -> Result<Done, Failure> {
        let selector = self.selector_for(peer, &arguments.select)?;
        let limit = match arguments.limit {
            0 => DEFAULT_LIMIT,
            n => n.min(MAX_LIMIT),
        };
        let mut done = Done::default();
        let mut after = arguments.after.as_deref().map(|id| self.id(id)).transpose()?;
        let mut left = limit;
        loop {
            // One more than is asked for tells whether there is more.
            let page = Page { after, limit: PAGE.min(left + 1) };
            let (listed, last) = self.reader.list_step(&selector, page).map_err(failed)?;
            for message in &listed {
                if left == 0 {
                    done.more = true;
                    return Ok(done);
                }
                left -= 1;
                done.count += 1;
                if !row(to_value(&MessageView::from(message))?) {
                    return Ok(done);
                }
            }
            if last.is_none() {
                return Ok(done);
            }
            after = last;
        }
    }

    /// One message with its attempts and what was done to it.
    pub(super) fn show(&self, peer: &Peer, id: &str) -> Result<Value, Failure> {
        to_value(&MessageView::from(&self.shown(peer, id)?))
    }

    fn shown(&self, peer: &Peer, id: &str) -> Result<Shown, Failure> {
        let found = self.id(id)?;
        let own = Selector { ids: vec![found], finished: true, ..self.selector_for(peer, &<_>::default())? };
        let page = Page { after: None, limit: 1 };
        let is_visible = peer.is_administrator || !self.reader.list(&own, page).map_err(failed)?.is_empty();
        let shown = if is_visible { self.reader.show(found).map_err(failed)? } else { None };
        shown.ok_or_else(|| no_such_id(id))
    }

    /// The content as rows of text. Octets that are no text are given as U+FFFD, unless all of it is asked for.
    pub(super) fn content(&self, arguments: &ContentArguments, row: Rows<'_>) -> Result<Done, Failure> {
        let id: QueueId = self.id(&arguments.id)?;
        let content = self.reader.content(id).map_err(failed)?;
        let gone = || {
            let message = format!("the content of {id} is gone: it is kept only while the message waits");
            Failure::new(Code::NotFound, message)
        };
        let content = content.ok_or_else(gone)?;
        let limit = if arguments.max_bytes == 0 { u64::MAX } else { arguments.max_bytes };
        let mut content = content.take(limit);
        let mut done = Done::default();
        let mut end = HeaderEnd::default();
        loop {
            let mut chunk = Vec::with_capacity(CONTENT_ROW);
            let read = (&mut content).take(CONTENT_ROW as u64).read_to_end(&mut chunk);
            read.map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
            if chunk.is_empty() {
                return Ok(done);
            }
            let is_last = arguments.headers && end.find(&mut chunk);
            done.count += chunk.len() as u64;
            // Latin-1 in both directions: any octet comes back as it was.
            let text: String = chunk.iter().map(|octet| char::from(*octet)).collect();
            if !row(json!({ "octets": text })) || is_last {
                return Ok(done);
            }
        }
    }
}

/// Finds the empty line behind the header section.
#[derive(Default)]
struct HeaderEnd {
    /// Octets of `\r\n\r\n` seen at the end of what came before.
    seen: usize,
}

impl HeaderEnd {
    /// Cuts the chunk behind the header section; true where it ends here.
    fn find(&mut self, chunk: &mut Vec<u8>) -> bool {
        const END: &[u8] = b"\r\n\r\n";
        for (at, octet) in chunk.iter().enumerate() {
            self.seen = match END.get(self.seen) {
                Some(expected) if expected == octet => self.seen + 1,
                _ => usize::from(*octet == b'\r'),
            };
            if self.seen == END.len() {
                // The empty line itself is no header field.
                chunk.truncate((at + 1).saturating_sub(2));
                return true;
            }
        }
        false
    }
}
