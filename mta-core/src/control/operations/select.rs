//! What a request selects: the queue's own form of it, and ids by their beginning.

use mta_queue::{Listed, Page, QueueId, RecipientState, Selector, StoredRecipient};

use super::{QueueOperations, failed};
use crate::control::protocol::{Code, Failure, Select};
use crate::control::views::status_word;

/// Ids at most that one selector is made of; the queue binds each as a parameter.
pub(super) const MAX_IDS: usize = 500;

impl QueueOperations {
    /// The queue's own form of a selection.
    pub(super) fn selector(&self, select: &Select) -> Result<Chosen, Failure> {
        if select.ids.len() > MAX_IDS {
            let message = format!("{} ids in one request; the most is {MAX_IDS}", select.ids.len());
            return Err(Failure::new(Code::BadRequest, message));
        }
        let mut selector = Selector { ids: Vec::new(), ..Selector::default() };
        for text in &select.ids {
            selector.ids.push(self.id(text)?);
        }
        selector.recipient.clone_from(&select.to);
        selector.reverse_path.clone_from(&select.from);
        if let Some(domain) = select.to.as_deref().and_then(|to| to.strip_prefix('@')) {
            selector.recipient = None;
            selector.destination = Some(domain.to_ascii_lowercase());
        }
        let mut word = None;
        match select.status.as_deref() {
            None => {}
            Some("queued" | "deferred") => {
                selector.state = Some(RecipientState::Waiting);
                word.clone_from(&select.status);
            }
            Some(text) => {
                let state = RecipientState::ALL.into_iter().find(|state| state.as_str() == text);
                selector.state = Some(state.ok_or_else(|| unknown_status(text))?);
            }
        }
        selector.finished = selector.state.is_some_and(RecipientState::is_final) || !selector.ids.is_empty();
        Ok(Chosen { selector, word })
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
            [a, b, ..] => {
                let message =
                    format!("{text} is the beginning of several ids ({a}, {b}...): give more of it");
                Err(Failure::new(Code::Ambiguous, message))
            }
        }
    }
}

/// A selection as the queue knows it, and what it cannot know.
pub(super) struct Chosen {
    pub(super) selector: Selector,
    /// The status word, where one state of the queue has two of them.
    pub(super) word: Option<String>,
}

impl Chosen {
    /// How many recipients of the message a change would concern: those that fit and are not final. Where only queued, or
    /// only deferred, ones are meant, a message that has both is left alone: the queue cannot tell them apart, and a
    /// recipient that was not meant must not be dropped.
    pub(super) fn concerned(&self, listed: &Listed) -> u64 {
        let fitting: Vec<&StoredRecipient> =
            listed.recipients.iter().filter(|r| !r.state.is_final() && self.fits(r)).collect();
        let meant = |r: &&StoredRecipient| self.word.as_deref().is_none_or(|word| status_word(r) == word);
        if fitting.iter().all(meant) { fitting.len() as u64 } else { 0 }
    }

    /// Whether a recipient fits, by the rules of [`Selector`].
    fn fits(&self, recipient: &StoredRecipient) -> bool {
        let address = recipient.recipient.mailbox.to_string().to_ascii_lowercase();
        let mailbox = |wanted: &str| {
            let wanted = wanted.to_ascii_lowercase();
            if wanted.contains('@') { address == wanted } else { address.contains(&wanted) }
        };
        self.selector.state.is_none_or(|state| recipient.state == state)
            && self.selector.destination.as_deref().is_none_or(|wanted| recipient.destination == wanted)
            && self.selector.recipient.as_deref().is_none_or(mailbox)
    }
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
