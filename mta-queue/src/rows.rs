//! Rows of the database as values, and what to do with a row that makes none.
//!
//! A row that cannot be read (a damaged file, a hand that changed it) gives `Err` with the reason; the caller sets the
//! message aside and goes on with the others.

use mta_smtp::address::{Mailbox, ReversePath};
use mta_smtp::envelope::{Body, HeaderFacts, MailParameters, Notify, Recipient, Ret};
use rusqlite::Row;
use rusqlite::types::FromSql;

use crate::id::QueueId;
use crate::message::Message;
use crate::recipient::{RecipientKey, RecipientState, StoredRecipient};
use crate::time::from_unix;

/// Columns of `message` in the order that `message` reads them.
pub(crate) const MESSAGE_COLUMNS: &str =
    "m.id, m.reverse_path, m.body, m.smtputf8, m.require_tls, m.ret, m.envid,
    m.size, m.received_at, m.origin, m.delay_notified_at, m.finished_at, m.header_eight_bit, m.tls_required_no";

/// Columns of `recipient` and its destination in the order that `recipient` reads them.
pub(crate) const RECIPIENT_COLUMNS: &str =
    "r.message, r.n, r.mailbox, r.notify, r.orcpt, r.state, r.attempts,
    r.next_at, r.last_at, r.status, r.reply, r.remote, r.via, r.note";

/// Why a row makes no value.
pub(crate) type Damage = &'static str;

/// One column, whatever is wrong with it.
fn column<T: FromSql>(row: &Row<'_>, index: usize, damage: Damage) -> Result<T, Damage> {
    row.get(index).map_err(|_| damage)
}

/// A message from `MESSAGE_COLUMNS`.
pub(crate) fn message(row: &Row<'_>) -> Result<Message, Damage> {
    let path: String = column(row, 1, "reverse-path")?;
    let body: String = column(row, 2, "BODY")?;
    let ret: Option<String> = column(row, 5, "RET")?;
    let origin: String = column(row, 9, "origin")?;
    let parameters = MailParameters {
        size_bytes: None,
        body: Body::parse(&body).ok_or("BODY")?,
        smtputf8: column(row, 3, "SMTPUTF8")?,
        require_tls: column(row, 4, "REQUIRETLS")?,
        ret: ret.map(|ret| Ret::parse(&ret).ok_or("RET")).transpose()?,
        envid: column(row, 6, "ENVID")?,
        header: HeaderFacts {
            eight_bit: column(row, 12, "header")?,
            tls_required_no: column(row, 13, "TLS-Required")?,
        },
    };
    Ok(Message {
        id: QueueId::from_i64(column(row, 0, "id")?),
        reverse_path: ReversePath::parse(&path).map_err(|_| "reverse-path")?,
        parameters,
        size_bytes: u64::try_from(column::<i64>(row, 7, "size")?).map_err(|_| "size")?,
        received_at: from_unix(column(row, 8, "arrival")?),
        // An origin of a later version, or a damaged one, is no reason to keep the message from its recipients.
        origin: serde_json::from_str(&origin).unwrap_or_default(),
        delay_notified_at: column::<Option<i64>>(row, 10, "delay notice")?.map(from_unix),
    })
}

/// The mailbox and parameters of a recipient, from `RECIPIENT_COLUMNS`.
pub(crate) fn recipient(row: &Row<'_>) -> Result<Recipient, Damage> {
    let mailbox: String = column(row, 2, "mailbox")?;
    let notify: Option<String> = column(row, 3, "NOTIFY")?;
    Ok(Recipient {
        mailbox: Mailbox::parse(&mailbox).map_err(|_| "mailbox")?,
        notify: notify.map(|notify| Notify::parse(&notify).ok_or("NOTIFY")).transpose()?,
        orcpt: column(row, 4, "ORCPT")?,
    })
}

/// The key of a recipient, from `RECIPIENT_COLUMNS`.
pub(crate) fn key(row: &Row<'_>) -> Result<RecipientKey, Damage> {
    Ok(RecipientKey { message: column(row, 0, "key")?, n: column(row, 1, "key")? })
}

/// Attempts made, from `RECIPIENT_COLUMNS`.
pub(crate) fn attempts(row: &Row<'_>) -> Result<u32, Damage> {
    u32::try_from(column::<i64>(row, 6, "attempts")?).map_err(|_| "attempts")
}

/// A recipient in full, from `RECIPIENT_COLUMNS`.
pub(crate) fn stored_recipient(row: &Row<'_>) -> Result<StoredRecipient, Damage> {
    let recipient = recipient(row)?;
    let state = RecipientState::from_code(column(row, 5, "state")?);
    let next_at: i64 = column(row, 7, "next attempt")?;
    let via: Option<String> = column(row, 12, "via")?;
    Ok(StoredRecipient {
        key: key(row)?,
        destination: crate::destination::name_with(&recipient.mailbox, via.as_deref()),
        note: column(row, 13, "note")?,
        recipient,
        state,
        attempts: attempts(row)?,
        next_attempt_at: (state == RecipientState::Waiting).then(|| from_unix(next_at)),
        last_attempt_at: column::<Option<i64>>(row, 8, "last attempt")?.map(from_unix),
        last_status: column(row, 9, "status")?,
        last_reply: column(row, 10, "reply")?,
        last_remote: column(row, 11, "remote")?,
    })
}
