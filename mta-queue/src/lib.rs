//! The persistent mail queue: one SQLite database, one writer thread, group commit.
//!
//! # The promise
//!
//! A message whose [`Queue::accept`] answered `Ok` is on stable storage and stays there until each of its recipients is
//! final. A killed process loses nothing that was answered and never delivers what was not wholly received. Power loss
//! does the same; at worst it repeats deliveries whose results came after the last synced commit.
//!
//! # States of a message
//!
//! | state | on disk | promise | what recovery does |
//! |---|---|---|---|
//! | arriving | large content: a file without a name (or `*.tmp`); small: nothing | none; the client has no 250 | the unnamed file is gone with the process; `*.tmp` is deleted at open |
//! | complete | large content: a synced, named file that no row names | none | the file is deleted at open |
//! | committed, not answered | rows, and the file if there is one | delivered; the client may send it again (RFC 5321 6.1) | nothing to do |
//! | queued | the same; `message.finished_at` is NULL | delivered or reported, each recipient at least once | nothing to do: due work is found by index |
//! | in hand | the same as queued: a claim is in memory only | the same | forgotten; its recipients are due again |
//! | finished | the message, its recipients and attempts without content; `finished_at` set; a file waits for its deletion | nothing is sent any more | a file that is left is deleted at open |
//! | history | the same without the file | bounded in number and age | nothing |
//!
//! The queue as a whole, besides: *being made* and *being migrated* (each step one transaction; a copy first; killed, the
//! next start goes on), *being restored* (complete in `restore.ready`, then moved in place; killed, the next start or
//! restore finishes it), *being backed up* (a reader like others; the copy has its name when it is whole and synced).
//! Which test kills the process, or cuts the power, at which of these steps is in `GUARANTEES.md`.
//!
//! The file of a finished message is deleted only after a synced commit: before that, power loss could bring back the
//! row as queued, and it must find its content.
//!
//! # States of a recipient
//!
//! | state | means | leaves it by |
//! |---|---|---|
//! | waiting | due at the later of its `next_at` and its destination's `not_before` | a record: delivered, failed, expired, or waiting again (put off where the fault was ours: no attempt is counted); hold; drop; damage |
//! | held | waits for the administrator | release, drop, damage; a result of an attempt that was under way |
//! | delivered, failed, expired, dropped | final; the message is finished with its last one | its history's end |
//! | damaged | a row or the content cannot be read; logged, shown, stops nothing else | retry or drop by the administrator |
//!
//! States, next attempts, the attempt's decision record, the destination's back-off and the notifications that follow
//! change in one transaction ([`Queue::record`]): a bounce is in the queue exactly when its recipient is final.
//!
//! # Commits
//!
//! All changes go through one thread, which commits together whatever waits; there is no timer. A batch with an accept
//! (or a change by the administrator) is committed with `synchronous=FULL`, and answered after that; results of
//! deliveries alone with `NORMAL`, which a killed process survives and the next accept makes durable.
//! Large content is synced by the thread that received it, so a small message never waits for a large one.
//!
//! # Map
//!
//! `schema` the layout and its migrations; `store` the open queue; `writer` the thread; `accept`, `record`, `change`,
//! `by_hand`, `rules` what it writes; `notice` what is still to be told; `claim` due work; `reader` lists and content;
//! `content` streaming; `destination` back-off as a whole; `schedule` when to try again (pure); `summary` what waits, in
//! groups; `reason` one form for replies that differ only in their copy; `verify` and `repair` the whole; `backup` copies of it; `state` what is known besides mail; `id`, `message`,
//! `recipient`, `admin` the types; `rows`, `totals`, `time` helpers.
//!
//! What it does not: it knows no SMTP dialog, no route, no DNS; it decides nothing about retries; it reads no clock but
//! for its ids. It blocks: call it from threads that may.

pub mod admin;
pub mod backup;
pub mod claim;
pub mod content;
pub mod error;
pub mod id;
pub mod message;
pub mod notice;
pub mod reader;
pub mod recipient;
pub mod record;
pub mod repair;
pub mod schedule;
pub mod state;
pub mod store;
pub mod summary;
pub mod verify;

mod accept;
mod by_hand;
mod change;
mod crash;
mod destination;
#[cfg(test)]
mod faults;
mod inbox;
mod log_file;
mod lost;
mod reason;
mod rows;
mod rules;
mod schema;
mod select;
mod time;
mod totals;
mod writer;

pub use admin::{
    By, Changed, Counts, DestinationSummary, Edit, HoldRule, Listed, Page, Pause, Selector, Shown,
    StoredAttempt, StoredEvent, StoredResult,
};
pub use backup::{BackupError, Moved, backup, restore};
pub use change::Kind as ChangeKind;
pub use claim::{Claim, Claimed, ClaimedRecipient, Due, Planner, Slot};
pub use content::{Content, ContentReader, ContentWriter};
pub use destination::parts as destination_parts;
pub use error::{Damage, OpenError, QueueError};
pub use id::QueueId;
pub use inbox::Presence;
pub use lost::Lost;
pub use message::{Message, NewMessage, Origin, OriginKind};
pub use notice::{Pending, Unnoticed, Unreported, Walk};
pub use reader::Reader;
pub use recipient::{RecipientKey, RecipientState, StoredRecipient};
pub use record::{AttemptRecord, DestinationResult, RecipientOutcome, RecipientResult};
pub use repair::{Repaired, repair};
pub use schedule::Schedule;
pub use state::alert::StoredAlert;
pub use state::alias::StoredAlias;
pub use state::dane::StoredDane;
pub use state::dmarc::{DmarcCounts, MAX_DMARC_POLICY_BYTES, MAX_DMARC_ROW_BYTES, MAX_DMARC_ROWS_PER_DOMAIN};
pub use state::outage::Outage;
pub use state::relayed::StoredAnswer;
pub use state::report::{KEEP_DAYS as REPORT_KEEP_DAYS, ReportKind, ReportPlan, ReportState, StoredReport};
pub use state::sts::StoredStsPolicy;
pub use state::tls_report::{
    TlsDay, TlsFailure, TlsPolicy, TlsPolicyCount, TlsPolicyType, TlsSession, day_of, start_of,
};
pub use state::user::{
    GrantKind, MAX_GRANTS, MAX_USERS, RATE_HOURS, SentHour, StoredGrant, StoredScram, StoredSecret,
    StoredUser, UserChange,
};
pub use store::{Options, Piecewise, Queue, Statistics};
pub use summary::{Group, GroupBy};
pub use verify::{Problem, ProblemKind, Verified, verify};
