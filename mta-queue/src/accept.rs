//! Accepting a message: envelope, recipients and content become rows in one transaction, which is on stable storage
//! before anybody is told.

use std::collections::BTreeMap;

use rusqlite::params;

use crate::crash;
use crate::destination::{self, Change};
use crate::error::QueueError;
use crate::message::NewMessage;
use crate::recipient::RecipientState;
use crate::rules;
use crate::time::unix_seconds;
use crate::writer::{Operation, Tx};

/// Called with the result.
pub(crate) type Done = Box<dyn FnOnce(Result<(), QueueError>) + Send>;

/// The operation.
pub(crate) struct Accept {
    pub(crate) message: NewMessage,
    pub(crate) done: Done,
}

impl Operation for Accept {
    fn durable(&self) -> bool {
        true
    }

    fn weight_bytes(&self) -> u64 {
        weight_bytes(&self.message)
    }

    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), QueueError> {
        store(tx, &self.message)
    }

    fn keep_files(&mut self) {
        self.message.content.keep_file();
    }

    fn finish(self: Box<Self>, result: Result<(), QueueError>) {
        if result.is_ok() {
            self.message.content.keep();
        } else {
            drop(self.message);
        }
        (self.done)(result);
    }
}

/// Content of a message that goes through the write-ahead log.
pub(crate) fn weight_bytes(message: &NewMessage) -> u64 {
    message.content.front.len() as u64
}

/// Writes the rows of a new message.
pub(crate) fn store(tx: &mut Tx<'_>, message: &NewMessage) -> Result<(), QueueError> {
    if message.envelope.recipients.is_empty() {
        return Err(QueueError::Invalid("a message without recipients"));
    }
    store_message(tx, message)?;
    crash::point("accept-message");
    let held = rules::held(tx, message)?;
    let mut changes: BTreeMap<String, (i64, Change)> = BTreeMap::new();
    let id = message.id.as_i64();
    let next_at = unix_seconds(message.received_at);
    for (n, recipient) in (0i64..).zip(&message.envelope.recipients) {
        let name = destination::name_of(&recipient.mailbox);
        let destination = match changes.get(&name) {
            Some((destination, _)) => *destination,
            None => destination::intern(tx, &name)?,
        };
        let note = usize::try_from(n).ok().and_then(|n| held.get(n)).and_then(Option::as_deref);
        let state = if note.is_some() { RecipientState::Held } else { RecipientState::Waiting };
        let change = &mut changes.entry(name).or_insert_with(|| (destination, Change::default())).1;
        change.moved(RecipientState::Dropped, state);
        let notify = recipient.notify.map(|notify| notify.to_string());
        tx.connection
            .prepare_cached(
                "INSERT INTO recipient (message, n, destination, mailbox, notify, orcpt, state, next_at, note)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                id,
                n,
                destination,
                recipient.mailbox.to_string(),
                notify,
                recipient.orcpt,
                state.code(),
                next_at,
                note
            ])?;
        tx.totals.moved(None, state);
    }
    for (destination, change) in changes.into_values() {
        destination::refresh(tx, destination, change)?;
    }
    tx.totals.last_id = tx.totals.last_id.max(id);
    tx.totals.messages += 1;
    tx.totals.accepted_total += 1;
    tx.totals.content_bytes += i64::try_from(message.content.size_bytes()).unwrap_or(0);
    tx.effects.wake = true;
    crash::point("accept-stored");
    Ok(())
}

fn store_message(tx: &Tx<'_>, message: &NewMessage) -> Result<(), QueueError> {
    let id = message.id.as_i64();
    let parameters = &message.envelope.parameters;
    let origin = serde_json::to_string(&message.origin).map_err(|_| QueueError::Invalid("origin"))?;
    let file = message.content.file.as_ref().map(|file| file.id);
    let mut insert = tx.connection.prepare_cached("INSERT INTO content (id, data) VALUES (?1, ?2)")?;
    insert.execute(params![id, &message.content.front[..]]).map_err(taken)?;
    tx.connection
        .prepare_cached(
            "INSERT INTO message (id, reverse_path, body, smtputf8, require_tls, ret, envid, size, content_file,
                                  received_at, origin, open, header_eight_bit, tls_required_no)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            id,
            message.envelope.reverse_path.to_string(),
            parameters.body.as_str(),
            parameters.smtputf8,
            parameters.require_tls,
            parameters.ret.map(|ret| ret.as_str()),
            parameters.envid,
            i64::try_from(message.content.size_bytes()).unwrap_or(i64::MAX),
            file,
            unix_seconds(message.received_at),
            origin,
            i64::try_from(message.envelope.recipients.len()).unwrap_or(i64::MAX),
            parameters.header.eight_bit,
            parameters.header.tls_required_no,
        ])
        .map_err(taken)?;
    Ok(())
}

/// An id that exists is the caller's mistake, not the disk's.
fn taken(error: rusqlite::Error) -> QueueError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => QueueError::Invalid("the queue id is taken"),
        _ => error.into(),
    }
}
