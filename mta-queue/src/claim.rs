//! Claims: due work in the hands of the scheduler.
//!
//! What it does: finds by index the destinations whose time has come and, in each, the due recipients, grouped by message
//! and next-hop. What it does not: it decides nothing about how many at once or where to; the caller says so (`Planner`).
//! A claim is in memory only: a killed process forgets it and the recipients are due again.
//!
//! Two things could hand out a recipient twice, and both are ruled out by one lock: it is taken before the snapshot of the
//! database is, and a claim is released under it only after the commit of its results.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use mta_smtp::envelope::Recipient;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::crash;
use crate::error::{QueueError, is_damage};
use crate::id::QueueId;
use crate::message::Message;
use crate::recipient::RecipientKey;
use crate::rows::{self, MESSAGE_COLUMNS, RECIPIENT_COLUMNS};
use crate::time::{from_unix, unix_micros, unix_seconds, unix_seconds_up};

/// Due destinations looked at in one call, at most. Beyond it the call is `unfinished`.
const MAX_LOOKED_AT: usize = 4_096;

/// Due destinations read at a time.
const PAGE: usize = 128;

/// Messages passed over, at most: beyond it the database needs a repair before anything else.
const MAX_UNREADABLE: usize = 10_000;

/// Recipients of one claim, at most: RFC 5321 4.5.3.1.8 has every server take 100.
pub const MAX_RECIPIENTS: usize = 100;

/// Due destinations behind one, in the order in which they fell due.
const NEXT_DESTINATIONS: &str =
    "SELECT due_at, id, name, failures FROM destination WHERE due_at <= ?1 AND (due_at, id) > (?2, ?3)
    ORDER BY due_at, id LIMIT ?4";

/// What is due of a destination.
const DUE_OF: &str = "SELECT message, n FROM recipient WHERE destination = ?1 AND state = 0 AND next_at <= ?2
    ORDER BY next_at, message, n";

/// When the next destination falls due.
const NEXT_DUE: &str = "SELECT min(due_at) FROM destination WHERE due_at > ?1";

/// When the next recipient of a destination falls due.
const NEXT_DUE_OF: &str = "SELECT max(d.not_before, (SELECT min(next_at) FROM recipient
    WHERE destination = ?1 AND state = 0 AND next_at > ?2))
    FROM destination d WHERE d.id = ?1";

/// What waits for a destination and arrived before a time.
const OLDER_OF: &str = "SELECT DISTINCT r.message FROM recipient r JOIN message m ON m.id = r.message
    WHERE r.destination = ?1 AND r.state = 0 AND r.message < ?2 AND m.received_at < ?3
    ORDER BY r.message";

/// A due destination, as the planner is asked about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due<'a> {
    /// The recipient domain, lower case, or an address literal in brackets.
    pub destination: &'a str,
    /// Attempts in a row in which the destination as a whole failed.
    pub failures: u32,
}

/// What the planner answers about a due destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// There is room.
    Take {
        /// How many more messages may be claimed for its next-hop, at least one.
        room: usize,
        /// How many are in hand for it already; those with the fewest have the first of the further turns.
        in_hand: usize,
    },
    /// Not now; it is asked about again at the next call.
    Busy,
    /// Its next-hop is not to be tried before this time. Written down, so that it is not asked about before.
    NotBefore(SystemTime),
}

/// Whoever asks for work says where it leads and how much of it he can take.
pub trait Planner {
    /// Names a next-hop. Recipients of one message whose destinations lead to an equal one come in one claim.
    type NextHop: Clone + PartialEq;

    /// Where a destination leads now.
    fn next_hop(&mut self, destination: &str) -> Self::NextHop;

    /// Whether there is room for work to a due destination.
    fn slot(&mut self, next_hop: &Self::NextHop, due: Due<'_>) -> Slot;

    /// Until when a destination stands still by the administrator's wish, where it does. Asked before anything else; what
    /// is claimed for a next-hop has no recipient of a destination that stands still.
    fn paused(&mut self, _destination: &str, _next_hop: &Self::NextHop) -> Option<SystemTime> {
        None
    }

    /// A claim was made; `slot` counts it from now on.
    fn claimed(&mut self, next_hop: &Self::NextHop);
}

/// One message's due recipients for one next-hop. Dropping it releases the recipients as they were: they are due again.
#[derive(Debug)]
pub struct Claim<K> {
    /// The message.
    pub message: Message,
    /// Where its recipients lead.
    pub next_hop: K,
    /// The recipients, at least one.
    pub recipients: Vec<ClaimedRecipient>,
    /// Keeps others from claiming the same.
    pub(crate) guard: ClaimGuard,
}

/// A recipient in a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedRecipient {
    /// Its key, for the record of the attempt.
    pub key: RecipientKey,
    /// The mailbox with the parameters of RCPT.
    pub recipient: Recipient,
    /// The destination under which it waits.
    pub destination: String,
    /// Attempts made before.
    pub attempts: u32,
    /// Failures in a row of its destination as a whole.
    pub destination_failures: u32,
    /// The reply or reason of the attempt before, or of its destination's last failure.
    pub last_reply: Option<String>,
}

/// What a call for due work gave.
#[derive(Debug)]
pub struct Claimed<K> {
    /// The claims.
    pub claims: Vec<Claim<K>>,
    /// There is more due than was asked for, or than there was room for.
    pub more: bool,
    /// Not all that is due was looked at, and there is room left: call again at once.
    pub unfinished: bool,
    /// When the next work falls due, of what is not due now.
    pub next_due: Option<SystemTime>,
}

/// The recipients in hand.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    in_hand: Mutex<InHand>,
}

/// Where the round over the due destinations stands. Destinations have their turns in the order in which they fell due,
/// each one message a turn, and a round takes in only what was due when it began: so what comes later never keeps what
/// waits from its turn, and a destination with a million messages no more than one turn from a destination with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Round {
    /// The `due_at` and id of the last destination that had its turn.
    after: (i64, i64),
    /// When it began, seconds since 1970.
    began: i64,
    /// There were claims in it.
    fruitful: bool,
}

impl Round {
    fn new(now: i64) -> Self {
        Self { after: (i64::MIN, i64::MIN), began: now, fruitful: false }
    }
}

/// What is in hand: never more than the scheduler works on at once.
#[derive(Debug, Default)]
pub(crate) struct InHand {
    round: Option<Round>,
    recipients: HashSet<RecipientKey>,
    /// Messages that cannot be read and could not be set aside either: passed over until the next start.
    unreadable: HashSet<i64>,
    /// Recipients in hand of each destination.
    destinations: HashMap<i64, usize>,
}

impl InHand {
    fn take(&mut self, recipients: &[(ClaimedRecipient, i64)]) {
        for (recipient, destination) in recipients {
            self.recipients.insert(recipient.key);
            *self.destinations.entry(*destination).or_default() += 1;
        }
    }
}

impl Claims {
    /// Takes of these recipients those that are not in hand, with their destinations. The second value counts the others.
    pub(crate) fn take_idle(self: &Arc<Self>, keys: &[(RecipientKey, i64)]) -> (ClaimGuard, usize) {
        let mut in_hand = self.lock();
        let idle: Vec<_> =
            keys.iter().filter(|(key, _)| !in_hand.recipients.contains(key)).copied().collect();
        for (key, destination) in &idle {
            in_hand.recipients.insert(*key);
            *in_hand.destinations.entry(*destination).or_default() += 1;
        }
        let busy = keys.len() - idle.len();
        (ClaimGuard { claims: Arc::clone(self), keys: idle }, busy)
    }

    /// Passes a message over from now on.
    pub(crate) fn pass_over(&self, message: QueueId) {
        let mut in_hand = self.lock();
        if in_hand.unreadable.len() < MAX_UNREADABLE {
            in_hand.unreadable.insert(message.as_i64());
        }
    }

    /// Whether a recipient is in hand.
    pub(crate) fn is_in_hand(&self, key: RecipientKey) -> bool {
        self.lock().recipients.contains(&key)
    }

    fn lock(&self) -> MutexGuard<'_, InHand> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Releases recipients when dropped.
#[derive(Debug)]
pub(crate) struct ClaimGuard {
    claims: Arc<Claims>,
    keys: Vec<(RecipientKey, i64)>,
}

impl ClaimGuard {
    /// The recipients it keeps.
    pub(crate) fn keys(&self) -> &[(RecipientKey, i64)] {
        &self.keys
    }

    /// Gives up a part of them.
    pub(crate) fn split(&mut self, keep: impl Fn(&RecipientKey) -> bool) -> Self {
        let (kept, given) = std::mem::take(&mut self.keys).into_iter().partition(|(key, _)| keep(key));
        self.keys = kept;
        Self { claims: Arc::clone(&self.claims), keys: given }
    }
}

impl Drop for ClaimGuard {
    fn drop(&mut self) {
        let mut in_hand = self.claims.lock();
        for (key, destination) in &self.keys {
            in_hand.recipients.remove(key);
            if let Some(count) = in_hand.destinations.get_mut(destination) {
                *count -= 1;
                if *count == 0 {
                    in_hand.destinations.remove(destination);
                }
            }
        }
    }
}

/// What a search found besides the claims.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Destinations to postpone.
    pub(crate) postponed: Vec<(i64, i64)>,
    /// Destinations that stand still, and until when they need not be asked about.
    pub(crate) paused: Vec<(i64, i64)>,
    /// Messages with rows that cannot be read.
    pub(crate) damaged: Vec<(QueueId, &'static str)>,
}

/// A due destination.
struct DueRow {
    due_at: i64,
    id: i64,
    name: String,
    failures: u32,
}

/// Why a message is not claimed.
enum GatherError {
    /// It cannot be read; others can.
    Damage(&'static str),
    /// The queue cannot be read.
    Queue(QueueError),
}

impl From<rusqlite::Error> for GatherError {
    fn from(error: rusqlite::Error) -> Self {
        if is_damage(&error) { Self::Damage("page of the database") } else { Self::Queue(error.into()) }
    }
}

/// A due destination with room.
struct Candidate<K> {
    id: i64,
    next_hop: K,
    failures: u32,
    name: String,
    in_hand: usize,
    exhausted: bool,
}

/// One search for due work.
struct Search<'a, P: Planner> {
    connection: &'a Connection,
    in_hand: MutexGuard<'a, InHand>,
    planner: &'a mut P,
    now: i64,
    findings: Findings,
    more: bool,
    unfinished: bool,
}

/// Finds and claims due work, `limit` claims at most.
pub(crate) fn claim<P: Planner>(
    connection: &Connection,
    claims: &Arc<Claims>,
    now: SystemTime,
    limit: usize,
    planner: &mut P,
) -> Result<(Claimed<P::NextHop>, Findings), QueueError> {
    let in_hand = claims.lock();
    let snapshot = connection.unchecked_transaction()?;
    let now = unix_seconds(now);
    let findings = Findings::default();
    let mut search =
        Search { connection: &snapshot, in_hand, planner, now, findings, more: false, unfinished: false };
    let mut found = Vec::new();
    let next_due = search.run(limit, &mut found);
    let Search { in_hand, findings, more, unfinished, .. } = search;
    // A guard that is dropped, as all are after an error, takes this lock.
    drop(in_hand);
    let claims = found.into_iter().map(|found| found.guarded(claims)).collect();
    crash::point("claimed");
    Ok((Claimed { claims, more, unfinished, next_due: next_due? }, findings))
}

/// Claims waiting recipients of one destination whose message arrived before `received_before`, oldest first, due or not:
/// their time in the queue is over.
pub(crate) fn claim_older<K: Clone>(
    connection: &Connection,
    claims: &Arc<Claims>,
    destination: &str,
    received_before: SystemTime,
    limit: usize,
    next_hop: &K,
) -> Result<Vec<Claim<K>>, QueueError> {
    let mut in_hand = claims.lock();
    let mut found = Vec::new();
    let result =
        find_older(connection, &mut in_hand, destination, received_before, limit, next_hop, &mut found);
    // A guard that is dropped, as all are after an error, takes this lock.
    drop(in_hand);
    let claims = found.into_iter().map(|found| found.guarded(claims)).collect();
    result.map(|()| claims)
}

/// Fills `found`. What is in hand elsewhere is passed over and does not count: fewer than `limit` means that there is no
/// more.
fn find_older<K: Clone>(
    connection: &Connection,
    in_hand: &mut InHand,
    destination: &str,
    received_before: SystemTime,
    limit: usize,
    next_hop: &K,
    found: &mut Vec<Found<K>>,
) -> Result<(), QueueError> {
    let snapshot = connection.unchecked_transaction()?;
    let mut find = snapshot.prepare_cached("SELECT id, failures FROM destination WHERE name = ?1")?;
    let known = find.query_row([destination], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?)));
    let Some((id, failures)) = known.optional()? else { return Ok(()) };
    let mut oldest = snapshot.prepare_cached(OLDER_OF)?;
    // Ids are times: the first condition ends the search in the index, the second is the rule.
    let mut ids = oldest.query(params![id, unix_micros(received_before), unix_seconds(received_before)])?;
    while found.len() < limit {
        let Some(row) = ids.next()? else { break };
        let message: i64 = row.get(0)?;
        let Ok(Some(stored)) = load_message(&snapshot, message) else { continue };
        let mut statement = snapshot.prepare_cached(&format!(
            "SELECT {RECIPIENT_COLUMNS} FROM recipient r WHERE r.message = ?1 AND r.destination = ?2 AND r.state = 0"
        ))?;
        let mut rows = statement.query(params![message, id])?;
        let mut group = Vec::new();
        while let Some(row) = rows.next()? {
            let Ok(recipient) = claimed_recipient(row, destination, failures) else { continue };
            if !in_hand.recipients.contains(&recipient.key) {
                group.push((recipient, id));
            }
        }
        if !group.is_empty() {
            in_hand.take(&group);
            found.push(Found { message: stored, next_hop: next_hop.clone(), recipients: group });
        }
    }
    Ok(())
}

/// A claim before it has its guard.
struct Found<K> {
    message: Message,
    next_hop: K,
    recipients: Vec<(ClaimedRecipient, i64)>,
}

impl<K> Found<K> {
    fn guarded(self, claims: &Arc<Claims>) -> Claim<K> {
        let keys =
            self.recipients.iter().map(|(recipient, destination)| (recipient.key, *destination)).collect();
        let guard = ClaimGuard { claims: Arc::clone(claims), keys };
        let recipients = self.recipients.into_iter().map(|(recipient, _)| recipient).collect();
        Claim { message: self.message, next_hop: self.next_hop, recipients, guard }
    }
}

impl<P: Planner> Search<'_, P> {
    /// Fills `found`: one message of each destination in the round, then further ones in turns. Returns when the next work
    /// falls due.
    fn run(
        &mut self,
        limit: usize,
        found: &mut Vec<Found<P::NextHop>>,
    ) -> Result<Option<SystemTime>, QueueError> {
        let mut candidates = self.first_turns(limit, found)?;
        candidates.sort_by_key(|candidate| candidate.in_hand);
        let mut progress = true;
        while progress && found.len() < limit {
            progress = false;
            for candidate in &mut candidates {
                if found.len() >= limit {
                    break;
                }
                if let Some(claim) = self.one(candidate)? {
                    found.push(claim);
                    progress = true;
                }
            }
        }
        self.more |= candidates.iter().any(|candidate| !candidate.exhausted);
        self.next_due()
    }

    /// Goes on with the round from where the last call left it, through new ones if need be, until there are `limit`
    /// claims, a whole round gave none, or enough were looked at. Returns the destinations that had room.
    fn first_turns(
        &mut self,
        limit: usize,
        found: &mut Vec<Found<P::NextHop>>,
    ) -> Result<Vec<Candidate<P::NextHop>>, QueueError> {
        // A clock that was set back must not hide what is due behind a round from the future.
        let known = self.in_hand.round.take().filter(|round| round.began <= self.now);
        let mut round = known.unwrap_or_else(|| Round::new(self.now));
        let mut is_new = known.is_none();
        let mut candidates = Vec::new();
        let mut looked_at = HashSet::new();
        'rounds: while found.len() < limit {
            let page = self.page(round, limit)?;
            if page.is_empty() {
                if is_new || !round.fruitful {
                    // All that is due was looked at. The next call begins a new round.
                    return Ok(candidates);
                }
                (round, is_new) = (Round::new(self.now), true);
                continue;
            }
            for due in page {
                if found.len() >= limit {
                    break 'rounds;
                }
                if looked_at.len() >= MAX_LOOKED_AT {
                    self.unfinished = true;
                    break 'rounds;
                }
                round.after = (due.due_at, due.id);
                if !looked_at.insert(due.id) {
                    continue;
                }
                if let Some(mut candidate) = self.candidate(due) {
                    let claim = self.one(&mut candidate)?;
                    round.fruitful |= claim.is_some();
                    found.extend(claim);
                    candidates.push(candidate);
                }
            }
        }
        self.more = true;
        self.in_hand.round = Some(round);
        Ok(candidates)
    }

    /// The next destinations of a round.
    fn page(&self, round: Round, limit: usize) -> Result<Vec<DueRow>, QueueError> {
        let mut statement = self.connection.prepare_cached(NEXT_DESTINATIONS)?;
        let (due_at, id) = round.after;
        // Where little is wanted, mostly little has to be looked at.
        let count = limit.clamp(8, PAGE) as i64;
        let rows = statement.query_map(params![round.began, due_at, id, count], |row| {
            Ok(DueRow { due_at: row.get(0)?, id: row.get(1)?, name: row.get(2)?, failures: row.get(3)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A due destination, if there is room for it.
    fn candidate(&mut self, due: DueRow) -> Option<Candidate<P::NextHop>> {
        let DueRow { id, name, failures, .. } = due;
        let next_hop = self.planner.next_hop(&name);
        if let Some(until) = self.planner.paused(&name, &next_hop) {
            self.findings.paused.push((id, unix_seconds_up(until)));
            return None;
        }
        match self.planner.slot(&next_hop, Due { destination: &name, failures }) {
            Slot::Busy => {
                self.more = true;
                None
            }
            Slot::NotBefore(time) => {
                self.findings.postponed.push((id, unix_seconds_up(time)));
                None
            }
            Slot::Take { in_hand, .. } => {
                Some(Candidate { id, next_hop, failures, name, in_hand, exhausted: false })
            }
        }
    }

    /// The next message of a destination, if there is room and there is one.
    fn one(
        &mut self,
        candidate: &mut Candidate<P::NextHop>,
    ) -> Result<Option<Found<P::NextHop>>, QueueError> {
        if candidate.exhausted {
            return Ok(None);
        }
        let due = Due { destination: &candidate.name, failures: candidate.failures };
        let Slot::Take { room: 1.., .. } = self.planner.slot(&candidate.next_hop, due) else {
            candidate.exhausted = true;
            self.more = true;
            return Ok(None);
        };
        // Copies the reference, so that the rows do not borrow the whole search.
        let connection = self.connection;
        let mut statement = connection.prepare_cached(DUE_OF)?;
        let mut rows = statement.query(params![candidate.id, self.now])?;
        let mut damaged = None;
        while let Some(row) = rows.next()? {
            let key = RecipientKey { message: row.get(0)?, n: row.get(1)? };
            let passed_over = self.in_hand.unreadable.contains(&key.message) || damaged == Some(key.message);
            if passed_over || self.in_hand.recipients.contains(&key) {
                continue;
            }
            let gathered = match self.gather(key.message, candidate.id, &candidate.next_hop) {
                Err(GatherError::Damage(damage)) => Err(damage),
                Err(GatherError::Queue(error)) => return Err(error),
                Ok(found) => Ok(found),
            };
            match gathered {
                Ok(found) => {
                    self.planner.claimed(&candidate.next_hop);
                    return Ok(Some(found));
                }
                Err(damage) => {
                    damaged = Some(key.message);
                    self.findings.damaged.push((QueueId::from_i64(key.message), damage));
                }
            }
        }
        candidate.exhausted = true;
        Ok(None)
    }

    /// All due recipients of a message that lead to one next-hop: those of `seed`, the destination that was asked about,
    /// and of others for which the planner names an equal one.
    fn gather(
        &mut self,
        message: i64,
        seed: i64,
        next_hop: &P::NextHop,
    ) -> Result<Found<P::NextHop>, GatherError> {
        let Some(stored) = load_message(self.connection, message)? else {
            return Err(GatherError::Damage("message"));
        };
        let connection = self.connection;
        let mut statement = connection.prepare_cached(&due_of_message())?;
        let mut rows = statement.query(params![message, self.now])?;
        let mut recipients = Vec::new();
        while let Some(row) = rows.next()? {
            let (destination, name, failures): (i64, String, u32) =
                (row.get(14)?, row.get(15)?, row.get(16)?);
            // The seed is not asked about again: the answer may have changed with the configuration.
            if destination != seed
                && (self.planner.next_hop(&name) != *next_hop
                    || self.planner.paused(&name, next_hop).is_some())
            {
                continue;
            }
            let mut recipient = match claimed_recipient(row, &name, failures) {
                Ok(recipient) => recipient,
                Err(damage) => return Err(GatherError::Damage(damage)),
            };
            recipient.last_reply = row.get::<_, Option<String>>(17)?.or(recipient.last_reply);
            if self.in_hand.recipients.contains(&recipient.key) {
                continue;
            }
            if recipients.len() == MAX_RECIPIENTS {
                self.more = true;
                break;
            }
            recipients.push((recipient, destination));
        }
        if recipients.is_empty() {
            return Err(GatherError::Damage("recipients"));
        }
        self.in_hand.take(&recipients);
        Ok(Found { message: stored, next_hop: next_hop.clone(), recipients })
    }

    /// When something that is not due now falls due. A destination with something in hand is due by that already, so its
    /// other recipients are asked for one by one.
    fn next_due(&self) -> Result<Option<SystemTime>, QueueError> {
        let mut statement = self.connection.prepare_cached(NEXT_DUE)?;
        let mut next: Option<i64> = statement.query_row([self.now], |row| row.get(0))?;
        let mut within = self.connection.prepare_cached(NEXT_DUE_OF)?;
        for destination in self.in_hand.destinations.keys() {
            let later: Option<i64> =
                within.query_row(params![destination, self.now], |row| row.get(0)).optional()?.flatten();
            next = [next, later].into_iter().flatten().min();
        }
        Ok(next.map(from_unix))
    }
}

/// A recipient of a claim from `RECIPIENT_COLUMNS`.
pub(crate) fn claimed_recipient(
    row: &Row<'_>,
    destination: &str,
    failures: u32,
) -> Result<ClaimedRecipient, &'static str> {
    Ok(ClaimedRecipient {
        key: rows::key(row)?,
        recipient: rows::recipient(row)?,
        destination: destination.to_owned(),
        attempts: rows::attempts(row)?,
        destination_failures: failures,
        last_reply: row.get(10).map_err(|_| "reply")?,
    })
}

/// What is due of a message, with its destinations.
fn due_of_message() -> String {
    format!(
        "SELECT {RECIPIENT_COLUMNS}, d.id, d.name, d.failures, d.last_reply
         FROM recipient r JOIN destination d ON d.id = r.destination
         WHERE r.message = ?1 AND r.state = 0 AND r.next_at <= ?2 AND d.due_at <= ?2"
    )
}

/// A message's row; `None` where there is none or it makes no message.
pub(crate) fn load_message(connection: &Connection, id: i64) -> rusqlite::Result<Option<Message>> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {MESSAGE_COLUMNS} FROM message m WHERE m.id = ?1"))?;
    let mut rows = statement.query([id])?;
    Ok(rows.next()?.and_then(|row| rows::message(row).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests::plan;

    #[test]
    fn due_work_is_found_by_index_at_any_length() {
        for sql in [NEXT_DESTINATIONS, DUE_OF, NEXT_DUE, NEXT_DUE_OF, OLDER_OF, &due_of_message()] {
            let plan = plan(sql);
            assert!(!plan.is_empty(), "{sql}");
            for step in plan {
                assert!(step.starts_with("SEARCH") || !step.contains("SCAN"), "{step} in {sql}");
                assert!(!step.contains("TEMP B-TREE"), "{step} in {sql}");
            }
        }
        assert!(plan("SELECT n FROM recipient WHERE reply = ''").iter().any(|step| step.contains("SCAN")));
    }
}
