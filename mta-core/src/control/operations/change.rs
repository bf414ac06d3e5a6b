//! `queue retry|hold|release|drop|bounce|redirect|reroute`: changes to what is selected, a piece at a time, so that the
//! mail goes on meanwhile. After each piece a row says how far it is.

use std::time::SystemTime;

use mta_queue::{By, ChangeKind, Changed, Edit, Page, Queue, QueueId, Selector};
use mta_smtp::address::{Domain, Mailbox};
use serde_json::json;

use super::{QueueOperations, Rows, failed};
use crate::config::HostPort;
use crate::control::peer::Peer;
use crate::control::protocol::{
    ChangeArguments, ChangeWord, Code, CountArguments, Done, EditArguments, Failure, Request, Select,
};
use crate::routing::Route;

/// Messages counted at a time.
const COUNT_STEP: usize = 1_000;

/// Octets of a reason.
const MAX_REASON: usize = 500;

impl QueueOperations {
    /// How many recipients a change would concern.
    pub(super) fn count(&self, arguments: &CountArguments, row: Rows<'_>) -> Result<Done, Failure> {
        let kind = match arguments.change {
            ChangeWord::Retry => ChangeKind::Retry,
            ChangeWord::Hold => ChangeKind::Hold,
            ChangeWord::Release => ChangeKind::Release,
            ChangeWord::Drop => ChangeKind::Drop,
            ChangeWord::Edit => ChangeKind::Edit,
            ChangeWord::Redirect => ChangeKind::Redirect,
        };
        let selector = self.selector(&arguments.select)?;
        steps(row, |after| {
            let page = Page { after, limit: COUNT_STEP };
            let (recipients, last) = self.reader.count(kind, &selector, page).map_err(failed)?;
            Ok(Changed { recipients, busy: 0, last })
        })
    }

    /// Does a change. What arrives meanwhile is not meant: only what was there when it began.
    pub(super) fn change(&self, peer: &Peer, request: &Request, row: Rows<'_>) -> Result<Done, Failure> {
        let (queue, scheduler) = self.writing()?;
        let now = SystemTime::now();
        let done = match request {
            Request::QueueRetry(a) => self.kind(queue, ChangeKind::Retry, peer, a, now, row),
            Request::QueueHold(a) => self.kind(queue, ChangeKind::Hold, peer, a, now, row),
            Request::QueueRelease(a) => self.kind(queue, ChangeKind::Release, peer, a, now, row),
            Request::QueueDrop(a) => self.kind(queue, ChangeKind::Drop, peer, a, now, row),
            Request::QueueRedirect(a) => self.edit(queue, address(&a.new)?, peer, a, now, row),
            Request::QueueReroute(a) => self.edit(queue, next_hop(&a.new)?, peer, a, now, row),
            Request::QueueBounce(a) => self.bounce(peer, a, row),
            _ => return Err(Failure::new(Code::Internal, "no change")),
        };
        if self.daemon.is_some() {
            scheduler.retry_next_hops();
        }
        done
    }

    fn kind(
        &self,
        queue: &Queue,
        kind: ChangeKind,
        peer: &Peer,
        arguments: &ChangeArguments,
        now: SystemTime,
        row: Rows<'_>,
    ) -> Result<Done, Failure> {
        let selector = self.until_now(queue, &arguments.select)?;
        let reason = reason(&arguments.reason);
        let by = By { who: &peer.user, reason: &reason };
        let mut change = queue.piecewise(kind, &selector, by, now);
        let mut done = Done::default();
        while let Some(changed) = change.step().map_err(failed)? {
            done.count += changed.recipients;
            if !row(json!({ "progress": done.count })) {
                break;
            }
        }
        Ok(done)
    }

    fn edit(
        &self,
        queue: &Queue,
        edit: Edit,
        peer: &Peer,
        arguments: &EditArguments,
        now: SystemTime,
        row: Rows<'_>,
    ) -> Result<Done, Failure> {
        let selector = self.until_now(queue, &arguments.select)?;
        let reason = reason(&arguments.reason);
        let by = By { who: &peer.user, reason: &reason };
        steps(row, |after| queue.edit_step(&edit, &selector, after, by, now).map_err(failed))
    }

    /// Ends what is selected as failed; each message's sender is told in the same transaction.
    fn bounce(&self, peer: &Peer, arguments: &ChangeArguments, row: Rows<'_>) -> Result<Done, Failure> {
        let (queue, scheduler) = self.writing()?;
        // Notifications that come of it are newer: a change to all does not return them too.
        let selector = self.until_now(queue, &arguments.select)?;
        let reason = reason(&arguments.reason);
        let by = By { who: &peer.user, reason: &reason };
        steps(row, |after| {
            let (claims, mut changed) =
                queue.claim_selected(&selector, after, &Route::Local).map_err(failed)?;
            for claim in claims {
                changed.recipients += scheduler.bounce(claim, by).map_err(failed)?;
            }
            Ok(changed)
        })
    }

    /// What is selected and there already.
    fn until_now(&self, queue: &Queue, select: &Select) -> Result<Selector, Failure> {
        Ok(Selector { up_to: Some(queue.new_id()), ..self.selector(select)? })
    }
}

/// Step after step, telling how far it is, until the end or until nobody listens any more.
fn steps(
    row: Rows<'_>,
    mut step: impl FnMut(Option<QueueId>) -> Result<Changed, Failure>,
) -> Result<Done, Failure> {
    let mut done = Done::default();
    let mut after = None;
    loop {
        let changed = step(after)?;
        done.count += changed.recipients;
        done.busy += changed.busy;
        if changed.last.is_none() || !row(json!({ "progress": done.count })) {
            return Ok(done);
        }
        after = changed.last;
    }
}

/// A reason as it is kept: one line of bounded length.
pub(super) fn reason(text: &str) -> String {
    let text = crate::log::visible(text.trim());
    text.get(..text.floor_char_boundary(MAX_REASON)).unwrap_or_default().to_owned()
}

/// A new address, or another domain.
fn address(text: &str) -> Result<Edit, Failure> {
    let wrong = || {
        let shown = crate::log::visible(text);
        Failure::new(
            Code::BadRequest,
            format!("{shown:?} is no address; give one as user@example.org, or @example.org"),
        )
    };
    match text.strip_prefix('@') {
        Some(domain) => Domain::parse(domain).map(Edit::Domain).map_err(|_| wrong()),
        None => Mailbox::parse(text).map(Edit::Mailbox).map_err(|_| wrong()),
    }
}

/// A next hop, or the usual way.
fn next_hop(text: &str) -> Result<Edit, Failure> {
    if text.is_empty() {
        return Ok(Edit::Via(None));
    }
    let hop = HostPort::parse(text).map_err(|why| {
        let shown = crate::log::visible(text);
        Failure::new(Code::BadRequest, format!("{shown:?} is no next hop ({why}); give HOST or HOST:PORT"))
    })?;
    Ok(Edit::Via(Some(hop.to_string())))
}
