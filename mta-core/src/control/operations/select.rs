//! What a request selects: the queue's own form of it, and ids by their beginning.

use std::time::SystemTime;

use mta_queue::{Page, QueueId, RecipientState, Selector};

use super::{QueueOperations, failed};
use crate::control::peer::Peer;
use crate::control::protocol::{Code, Failure, Select};

/// Ids at most that one selector is made of.
pub(super) const MAX_IDS: usize = 500;

impl QueueOperations {
    /// The queue's own form of a selection, as far as this peer may see: everything, or what he handed in himself.
    pub(super) fn selector_for(&self, peer: &Peer, select: &Select) -> Result<Selector, Failure> {
        let owner = (!peer.is_administrator).then(|| peer.user.clone());
        Ok(Selector { owner, ..self.selector(select)? })
    }

    /// The queue's own form of a selection.
    pub(super) fn selector(&self, select: &Select) -> Result<Selector, Failure> {
        if select.ids.len() > MAX_IDS {
            let message = format!("{} ids in one request; the most is {MAX_IDS}", select.ids.len());
            return Err(Failure::new(Code::BadRequest, message));
        }
        let mut selector = Selector::default();
        for text in &select.ids {
            selector.ids.push(self.id(text)?);
        }
        selector.recipient.clone_from(&select.to);
        selector.reverse_path.clone_from(&select.from);
        selector.reason.clone_from(&select.reason);
        selector.next_hop.clone_from(&select.next_hop);
        selector.received_before = select.before.as_deref().map(time).transpose()?;
        selector.received_since = select.since.as_deref().map(time).transpose()?;
        let domain = |text: &str| text.strip_prefix('@').unwrap_or(text).to_ascii_lowercase();
        selector.destination = select.domain.as_deref().map(domain);
        if let Some(to) = select.to.as_deref().filter(|to| to.starts_with('@')) {
            let to = domain(to);
            if selector.destination.as_ref().is_some_and(|other| *other != to) {
                return Err(Failure::new(Code::BadRequest, "two different domains: nothing can match"));
            }
            selector.recipient = None;
            selector.destination = Some(to);
        }
        match select.status.as_deref() {
            None => {}
            Some(word @ ("queued" | "deferred")) => {
                selector.state = Some(RecipientState::Waiting);
                selector.attempted = Some(word == "deferred");
            }
            Some(text) => {
                let state = RecipientState::ALL.into_iter().find(|state| state.as_str() == text);
                selector.state = Some(state.ok_or_else(|| unknown_status(text))?);
            }
        }
        selector.finished = selector.state.is_some_and(RecipientState::is_final) || !selector.ids.is_empty();
        Ok(selector)
    }

    /// The id that `text` is, or is the beginning of.
    pub(super) fn id(&self, text: &str) -> Result<QueueId, Failure> {
        let text = text.to_ascii_lowercase();
        if let Ok(id) = text.parse::<QueueId>() {
            return Ok(id);
        }
        let (Some(before), Some(_)) = (before_prefix(&text), first_with_prefix(&text)) else {
            let shown = crate::log::visible(&text);
            return Err(Failure::new(
                Code::BadRequest,
                format!("{shown:?} is no queue id and no beginning of one"),
            ));
        };
        let all = Selector { finished: true, ..Selector::default() };
        let found = self.reader.list(&all, Page { after: before, limit: 2 }).map_err(failed)?;
        let fits: Vec<QueueId> =
            found.iter().map(|l| l.message.id).filter(|id| id.to_string().starts_with(&text)).collect();
        match fits.as_slice() {
            [] => Err(no_such_id(&text)),
            [id] => Ok(*id),
            // Which ones is not said: not all may be for this peer to know.
            _ => {
                let message = format!("{text} is the beginning of several ids: give more of it");
                Err(Failure::new(Code::Ambiguous, message))
            }
        }
    }
}

/// A time of the protocol.
pub(super) fn time(text: &str) -> Result<SystemTime, Failure> {
    let wrong = |_| {
        let shown = crate::log::visible(text);
        Failure::new(
            Code::BadRequest,
            format!("{shown:?} is no time; expected RFC 3339, 2026-11-23T22:00:00Z"),
        )
    };
    text.parse::<jiff::Timestamp>().map(SystemTime::from).map_err(wrong)
}

pub(super) fn no_such_id(id: &str) -> Failure {
    let message =
        format!("no message with id {}; `mta-cli queue list` shows those there are", crate::log::visible(id));
    Failure::new(Code::NotFound, message)
}

fn unknown_status(text: &str) -> Failure {
    let message = format!(
        "unknown status {:?}; expected queued, deferred, held, delivered, failed, expired, dropped or damaged",
        crate::log::visible(text)
    );
    Failure::new(Code::BadRequest, message)
}

/// Digits of a queue id in their order.
const DIGITS: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of a queue id.
const ID_LENGTH: usize = 11;

/// The lowest id that begins with `prefix`; nothing where no id can.
fn first_with_prefix(prefix: &str) -> Option<QueueId> {
    if prefix.is_empty() || prefix.len() > ID_LENGTH {
        return None;
    }
    format!("{prefix:0<ID_LENGTH$}").parse().ok()
}

/// The id right below those that begin with `prefix`, to list from; the inner `None` where that is the very beginning.
pub(super) fn before_prefix(prefix: &str) -> Option<Option<QueueId>> {
    first_with_prefix(prefix)?;
    let mut digits: Vec<u8> = format!("{prefix:0<ID_LENGTH$}").into_bytes();
    for digit in digits.iter_mut().rev() {
        let value = DIGITS.iter().position(|d| d == digit)?;
        match value.checked_sub(1) {
            Some(less) => {
                *digit = *DIGITS.get(less)?;
                return Some(String::from_utf8(digits).ok()?.parse().ok());
            }
            None => *digit = b'z',
        }
    }
    Some(None)
}
