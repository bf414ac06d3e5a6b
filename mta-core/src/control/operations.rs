//! The operations behind the protocol: on the live queue inside the daemon, or on the files while it is down.
//!
//! All of them block; the server calls them on a thread of their own. A list is read in pages, so that neither memory nor
//! the database is held for its length.

use std::time::SystemTime;

use mta_queue::{
    Listed, Page, Queue, QueueError, QueueId, Reader, RecipientState, Selector, StoredRecipient,
};
use serde_json::Value;

use super::protocol::{Code, Done, Failure, ListArguments, Request, Select};
use super::views::{MessageView, StatusView, status_word};

/// Rows of a list where no limit is asked for.
const DEFAULT_LIMIT: usize = 1000;

/// Rows of a list at most, whatever is asked for; further ones are had with `after`.
const MAX_LIMIT: usize = 100_000;

/// Messages read at a time.
const PAGE: usize = 200;

/// Ids at most that one selector is made of; the queue binds each as a parameter.
const MAX_IDS: usize = 500;

/// Answers requests. The rows go to a callback, which says whether more are wanted.
pub trait Operations: Send + Sync {
    /// Does what is asked.
    ///
    /// # Errors
    /// A failure, also after some rows were given.
    fn run(&self, request: &Request, row: &mut dyn FnMut(Value) -> bool) -> Result<Done, Failure>;
}

/// The queue as the operations reach it.
pub enum Source {
    /// Open for writing, in this process.
    Queue(Queue),
    /// The files only, read.
    Reader(Reader),
}

/// What the running daemon adds to the queue.
pub struct Daemon {
    /// What it is doing now; `queue` and `running` are filled in here.
    pub status: Box<dyn Fn() -> StatusView + Send + Sync>,
    /// Tells the scheduler that messages became due.
    pub wake: Box<dyn Fn() + Send + Sync>,
}

/// The operations on a queue.
pub struct QueueOperations {
    source: Source,
    daemon: Option<Daemon>,
    reader: Reader,
}

impl QueueOperations {
    /// Inside the daemon.
    pub fn live(queue: Queue, daemon: Daemon) -> Self {
        let reader = queue.reader();
        Self { source: Source::Queue(queue), daemon: Some(daemon), reader }
    }

    /// While the daemon is down.
    pub fn offline(source: Source) -> Self {
        let reader = match &source {
            Source::Queue(queue) => queue.reader(),
            Source::Reader(reader) => reader.clone(),
        };
        Self { source, daemon: None, reader }
    }

    /// What the daemon does and how much waits.
    fn status(&self) -> Result<Value, Failure> {
        let mut status = self.daemon.as_ref().map(|d| (d.status)()).unwrap_or_default();
        status.running = self.daemon.is_some();
        if status.version.is_empty() {
            env!("CARGO_PKG_VERSION").clone_into(&mut status.version);
        }
        status.queue = self.reader.counts().map_err(failed)?.into();
        to_value(&status)
    }

    /// A page after a page, until the limit or the end.
    fn list(&self, arguments: &ListArguments, row: &mut dyn FnMut(Value) -> bool) -> Result<Done, Failure> {
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
    fn each(
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
    fn show(&self, id: &str) -> Result<Value, Failure> {
        let shown = self.reader.show(self.id(id)?).map_err(failed)?;
        to_value(&MessageView::from(&shown.ok_or_else(|| no_such_id(id))?))
    }

    /// Makes messages due or drops them. The ids are gathered first, so that what was counted is what is changed.
    fn change(&self, request: &Request, select: &Select) -> Result<Done, Failure> {
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
    fn concerned(&self, chosen: &Chosen) -> Result<(Vec<QueueId>, u64), Failure> {
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

    /// The queue's own form of a selection.
    fn selector(&self, select: &Select) -> Result<Chosen, Failure> {
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
    fn id(&self, text: &str) -> Result<QueueId, Failure> {
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
struct Chosen {
    selector: Selector,
    /// The status word, where one state of the queue has two of them.
    word: Option<String>,
}

impl Chosen {
    /// How many recipients of the message a change would concern: those that fit and are not final. Where only queued, or
    /// only deferred, ones are meant, a message that has both is left alone: the queue cannot tell them apart, and a
    /// recipient that was not meant must not be dropped.
    fn concerned(&self, listed: &Listed) -> u64 {
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

impl Operations for QueueOperations {
    fn run(&self, request: &Request, row: &mut dyn FnMut(Value) -> bool) -> Result<Done, Failure> {
        match request {
            Request::Status => {
                row(self.status()?);
                Ok(Done { count: 1, more: false })
            }
            Request::QueueList(arguments) => self.list(arguments, row),
            Request::QueueShow(id) => {
                row(self.show(id)?);
                Ok(Done { count: 1, more: false })
            }
            Request::QueueCount(select) => {
                let (_, count) = self.concerned(&self.selector(select)?)?;
                Ok(Done { count, more: false })
            }
            Request::QueueRetry(select) | Request::QueueDrop(select) => self.change(request, select),
        }
    }
}

/// A view as JSON. Views are plain data, which always is.
fn to_value<T: serde::Serialize>(view: &T) -> Result<Value, Failure> {
    serde_json::to_value(view).map_err(|e| Failure::new(Code::Internal, e.to_string()))
}

/// What a queue error means to the one who asked.
fn failed(error: QueueError) -> Failure {
    let code = match error {
        QueueError::Invalid(_) => Code::BadRequest,
        QueueError::NoSpace | QueueError::Closed => Code::Temporary,
        QueueError::Storage(_) | QueueError::Damaged(_) => Code::Internal,
    };
    Failure::new(code, error.to_string())
}

fn no_such_id(id: &str) -> Failure {
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
fn before_prefix(prefix: &str) -> Option<Option<QueueId>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_below_a_prefix() {
        for (prefix, below) in [
            ("1", Some(Some("0zzzzzzzzzz"))),
            ("00000000001", Some(Some("00000000000"))),
            ("0", Some(None)),
            ("0a", Some(Some("09zzzzzzzzz"))),
            ("0b1", Some(Some("0b0zzzzzzzz"))),
            ("", None),
            ("u", None),
            ("../", None),
            ("000000000000", None),
        ] {
            let expected = below.map(|inner| inner.map(|t| t.parse::<QueueId>().unwrap()));
            assert_eq!(before_prefix(prefix), expected, "{prefix}");
        }
    }

    /// A queue with one message to two destinations.
    fn queue() -> (tempfile::TempDir, Queue, QueueOperations) {
        use mta_smtp::address::{Mailbox, ReversePath};
        use mta_smtp::envelope::Recipient;
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let queue = Queue::open(dir.path(), mta_queue::Options::default()).unwrap();
        let mut content = queue.content();
        content.write_all(b"Subject: x\r\n\r\nx\r\n").unwrap();
        let recipients = ["carol@remote.example", "dave@other.example"];
        let envelope = mta_smtp::envelope::Envelope {
            reverse_path: ReversePath::Null,
            parameters: Default::default(),
            recipients: recipients.iter().map(|r| Recipient::new(Mailbox::parse(r).unwrap())).collect(),
        };
        let message = mta_queue::NewMessage {
            id: queue.new_id(),
            envelope,
            received_at: SystemTime::now(),
            origin: mta_queue::Origin::default(),
            content: content.finish().unwrap(),
        };
        let (tell, told) = std::sync::mpsc::channel();
        queue.accept(message, move |result| tell.send(result).unwrap());
        told.recv().unwrap().unwrap();
        let operations = QueueOperations::offline(Source::Queue(queue.clone()));
        (dir, queue, operations)
    }

    fn to(text: &str) -> Select {
        Select { to: Some(text.into()), ..Select::default() }
    }

    #[test]
    fn what_is_counted_is_what_is_changed() {
        let (_dir, queue, operations) = queue();
        let run = |request: Request| operations.run(&request, &mut |_| true).map(|done| done.count);
        assert_eq!(run(Request::QueueCount(Select::default())), Ok(2));
        let deferred = Select { status: Some("deferred".into()), ..Select::default() };
        assert_eq!(run(Request::QueueCount(deferred)), Ok(0));
        for select in [to("dave"), to("@Other.example"), to("DAVE@other.example")] {
            assert_eq!(run(Request::QueueCount(select)), Ok(1));
        }
        assert_eq!(run(Request::QueueCount(to("ave@other.example"))), Ok(0));
        assert_eq!(run(Request::QueueRetry(Select::default())), Ok(2));
        assert_eq!(run(Request::QueueDrop(to("dave"))), Ok(1));
        assert_eq!(run(Request::QueueDrop(to("dave"))), Ok(0));
        assert_eq!(queue.reader().counts().unwrap().waiting, 1);
    }

    #[test]
    fn a_message_is_found_by_the_beginning_of_its_id() {
        let (_dir, queue, operations) = queue();
        let id =
            queue.reader().list(&Selector::default(), Page { after: None, limit: 1 }).unwrap()[0].message.id;
        let id = id.to_string();
        for text in [id.as_str(), &id[..4], &id[..1], &id.to_uppercase()] {
            let mut found = None;
            let request = Request::QueueShow(text.to_owned());
            operations
                .run(&request, &mut |row| {
                    found = row.get("id").and_then(Value::as_str).map(str::to_owned);
                    true
                })
                .unwrap();
            assert_eq!(found.as_deref(), Some(id.as_str()), "{text}");
        }
        for (text, code) in [("zz", Code::NotFound), ("", Code::BadRequest), ("\u{1b}[31m", Code::BadRequest)]
        {
            let failed = operations.run(&Request::QueueShow(text.into()), &mut |_| true).unwrap_err();
            assert_eq!(failed.code, code, "{text:?}");
            assert!(!failed.message.contains('\u{1b}'));
        }
    }

    #[test]
    fn the_files_alone_can_be_read_and_not_changed() {
        let (dir, queue, _) = queue();
        queue.close();
        let operations = QueueOperations::offline(Source::Reader(Reader::open(dir.path()).unwrap()));
        let mut rows = 0;
        let list = Request::QueueList(ListArguments::default());
        let done = operations.run(&list, &mut |_| {
            rows += 1;
            true
        });
        assert_eq!((done, rows), (Ok(Done { count: 1, more: false }), 1));
        let refused = operations.run(&Request::QueueDrop(Select::default()), &mut |_| true).unwrap_err();
        assert_eq!(refused.code, Code::NotAllowed);
    }
}
