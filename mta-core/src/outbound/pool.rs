//! Sessions that rest: open, verified, with nothing to do, kept a few seconds for the next message to the same host.
//!
//! What it does: keeps them within bounds of number, age and idleness, and hands one out again where [`may_ride`] says
//! that the message in hand demands exactly what the session was opened and verified for. What it does not: it connects,
//! verifies and requires nothing (`host`, `tls_policy`), and it knows no queue. The host, its addresses, its TLSA records
//! and the requirement are found out anew for each message before the pool is asked; so records that were changed, or
//! whose time to live is over, make other terms or the same terms again, and never a silent ride.
//!
//! A resting session wakes nobody: one timer for all of them runs while there are any. What a server says meanwhile, or
//! that it left, is seen when the session is taken out, and such a session is not used.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mta_smtp::sasl::Credentials;

use super::decision::TlsRecord;
use super::session::Connection;
use super::tls_policy::Requirement;

/// Bounds on reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reuse {
    /// Messages over one session; 1 is none but the first.
    pub messages: u32,
    /// How long a session rests without a message.
    pub idle: Duration,
    /// How old a session may be when it takes a message. Bounds how long a proof of identity is believed.
    pub age: Duration,
    /// Sessions at rest in all.
    pub sessions: usize,
    /// Sessions at rest with one host at one address.
    pub sessions_per_host: usize,
}

impl Default for Reuse {
    fn default() -> Self {
        Self {
            messages: 100,
            idle: Duration::from_secs(5),
            age: Duration::from_secs(300),
            sessions: 50,
            sessions_per_host: 10,
        }
    }
}

/// All that a message can demand of a connection. A session serves the terms it was opened under and no others: what is
/// not equal is not compared for being weaker or stronger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    /// The host as MX or relay host, A-labels: what an IP address belongs to is not enough.
    pub(super) host: String,
    /// Its address, from an answer for this message, and the port.
    pub(super) address: SocketAddr,
    /// The address we come from, where one is configured.
    pub(super) source: Option<IpAddr>,
    /// The name we give in EHLO.
    pub(super) host_name: String,
    /// What is required: the TLSA base domain, the TLSA set, the names that count, whether the MX was secure.
    pub(super) requirement: Requirement,
    /// Which policy requires it, in words: two policies are not one because they happen to demand the same.
    pub(super) reason: String,
    /// TLS from the first octet.
    pub(super) implicit: bool,
    /// The login.
    pub(super) login: Option<Credentials>,
    /// The message demands REQUIRETLS (RFC 8689).
    pub(super) require_tls: bool,
}

/// What a session turned out to be, beside its terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// TLS is on.
    pub(super) encrypted: bool,
    /// The server's identity was proved in the handshake of this very session.
    pub(super) verified: bool,
    /// Transactions begun on it.
    pub(super) transactions: u32,
    /// The server itself would take one more (MAILMAX, RFC 9422 4.1).
    pub(super) may_begin: bool,
    /// When it was opened.
    pub(super) opened: Instant,
    /// Since when it rests.
    pub(super) resting_since: Instant,
}

/// Why a message does not ride a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRide {
    /// It demands something that the session was not opened under.
    OtherTerms,
    /// TLS is mandatory, and the session has none.
    NotEncrypted,
    /// The server must have proved its identity, and has not.
    NotVerified,
    /// It carried as many messages as it may.
    UsedUp,
    /// It is older than a proof is believed.
    TooOld,
    /// It rested for too long.
    Idle,
}

/// Whether a message with these demands may ride a session: the one place that decides, and it knows only equal.
pub(super) fn may_ride(
    terms: &Terms,
    standing: &Standing,
    wanted: &Terms,
    reuse: &Reuse,
    now: Instant,
) -> Result<(), NoRide> {
    if terms != wanted {
        return Err(NoRide::OtherTerms);
    }
    // The two that follow cannot be, since nothing rests that was not what it had to be. Should it ever be, nothing is sent.
    if wanted.requirement.is_tls_mandatory() && !standing.encrypted {
        return Err(NoRide::NotEncrypted);
    }
    let proof = matches!(wanted.requirement, Requirement::Authenticated(_)) || wanted.login.is_some();
    if (proof || wanted.require_tls) && !standing.verified {
        return Err(NoRide::NotVerified);
    }
    if standing.transactions >= reuse.messages || !standing.may_begin {
        return Err(NoRide::UsedUp);
    }
    if now.saturating_duration_since(standing.opened) >= reuse.age {
        return Err(NoRide::TooOld);
    }
    if now.saturating_duration_since(standing.resting_since) >= reuse.idle {
        return Err(NoRide::Idle);
    }
    Ok(())
}

/// A session between two messages.
pub(super) struct Parked {
    pub(super) connection: Connection,
    pub(super) terms: Terms,
    pub(super) opened: Instant,
    /// When it was opened, seconds since 1970.
    pub(super) opened_at_unix: u64,
    /// What its handshake showed.
    pub(super) tls: Option<TlsRecord>,
    /// Messages it carried.
    pub(super) messages: u32,
}

impl Parked {
    fn standing(&self, resting_since: Instant) -> Standing {
        let session = self.connection.session();
        Standing {
            encrypted: session.is_encrypted(),
            verified: session.is_verified(),
            transactions: session.transactions(),
            may_begin: session.may_begin(),
            opened: self.opened,
            resting_since,
        }
    }
}

/// Where a session leads: never an address alone.
type Door = (String, SocketAddr);

struct Resting {
    parked: Parked,
    since: Instant,
    /// When it is let go.
    until: Instant,
}

#[derive(Default)]
struct State {
    resting: HashMap<Door, Vec<Resting>>,
    count: usize,
    /// The timer runs.
    watched: bool,
    /// Nothing rests any more: the server stops, or there is nobody who would take a session out again.
    closed: bool,
}

/// The sessions at rest. Cheap to clone; clones share them.
#[derive(Clone, Default)]
pub struct Pool {
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("resting", &self.len()).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool in which nothing rests: each message has a session of its own. For a single attempt by hand.
    pub fn none() -> Self {
        let pool = Self::default();
        pool.state().closed = true;
        pool
    }

    /// How many sessions rest.
    pub fn len(&self) -> usize {
        self.state().count
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends all sessions at rest, in good order; others may rest later. For a changed configuration.
    pub fn clear(&self) {
        let all = self.state().take_all();
        all.into_iter().for_each(|resting| resting.parked.connection.quit());
    }

    /// Ends all sessions at rest and lets none rest any more. Waits for nobody: QUIT is said where the system takes it at
    /// once.
    pub fn close(&self) {
        let all = {
            let mut state = self.state();
            state.closed = true;
            state.take_all()
        };
        all.into_iter().for_each(|resting| resting.parked.connection.leave());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a session rest, if it may: where it may not, it is ended in good order.
    pub(super) fn park(&self, parked: Parked, reuse: &Reuse) {
        let now = Instant::now();
        let fits = parked.connection.session().may_rest()
            && may_ride(&parked.terms, &parked.standing(now), &parked.terms, reuse, now).is_ok()
            && reuse.sessions > 0
            && reuse.sessions_per_host > 0;
        if !fits {
            return parked.connection.quit();
        }
        let ends = parked.opened.checked_add(reuse.age).unwrap_or(now);
        let until = now.checked_add(reuse.idle).map_or(ends, |idle| idle.min(ends));
        let (gone, watch) = {
            let mut state = self.state();
            if state.closed {
                drop(state);
                return parked.connection.leave();
            }
            state.insert(Resting { parked, since: now, until }, reuse)
        };
        gone.into_iter().for_each(|resting| resting.parked.connection.quit());
        if watch {
            smol::spawn(watch_over(Arc::clone(&self.state))).detach();
        }
    }

    /// A session that a message with these demands may ride, the one that rested least; it is quiet and was not left by the
    /// server, as far as can be known now.
    pub(super) async fn take(&self, wanted: &Terms, reuse: &Reuse) -> Option<Parked> {
        loop {
            let mut parked = self.state().take(wanted, reuse, Instant::now())?.parked;
            if parked.connection.is_quiet().await {
                return Some(parked);
            }
        }
    }
}

impl State {
    /// What had to go for it, and whether a timer is to be started.
    fn insert(&mut self, resting: Resting, reuse: &Reuse) -> (Vec<Resting>, bool) {
        let mut gone = Vec::new();
        let door = (resting.parked.terms.host.clone(), resting.parked.terms.address);
        let here = self.resting.entry(door).or_default();
        if here.len() >= reuse.sessions_per_host {
            gone.push(here.remove(0));
            self.count -= 1;
        }
        here.push(resting);
        self.count += 1;
        while self.count > reuse.sessions {
            let Some(oldest) = self.remove_oldest() else { break };
            gone.push(oldest);
        }
        (gone, !std::mem::replace(&mut self.watched, true))
    }

    fn take(&mut self, wanted: &Terms, reuse: &Reuse, now: Instant) -> Option<Resting> {
        let door = (wanted.host.clone(), wanted.address);
        let here = self.resting.get_mut(&door)?;
        let index = here.iter().rposition(|resting| {
            let standing = resting.parked.standing(resting.since);
            may_ride(&resting.parked.terms, &standing, wanted, reuse, now).is_ok()
        })?;
        let resting = here.remove(index);
        if here.is_empty() {
            self.resting.remove(&door);
        }
        self.count -= 1;
        Some(resting)
    }

    fn remove_oldest(&mut self) -> Option<Resting> {
        let oldest = self.resting.iter().min_by_key(|(_, here)| here.first().map(|first| first.since));
        let door = oldest.map(|(door, _)| door.clone())?;
        let here = self.resting.get_mut(&door)?;
        let resting = (!here.is_empty()).then(|| here.remove(0));
        if here.is_empty() {
            self.resting.remove(&door);
        }
        self.count -= usize::from(resting.is_some());
        resting
    }

    fn take_all(&mut self) -> Vec<Resting> {
        self.count = 0;
        self.resting.drain().flat_map(|(_, here)| here).collect()
    }

    /// Those whose time is over, and when that of the next is.
    fn expire(&mut self, now: Instant) -> (Vec<Resting>, Option<Instant>) {
        let mut gone = Vec::new();
        self.resting.retain(|_, here| {
            gone.extend(here.extract_if(.., |resting| resting.until <= now));
            !here.is_empty()
        });
        self.count -= gone.len();
        let next = self.resting.values().flatten().map(|resting| resting.until).min();
        self.watched = next.is_some();
        (gone, next)
    }
}

/// Lets sessions go when their time is over. Ends with the last of them.
async fn watch_over(state: Arc<Mutex<State>>) {
    loop {
        let (gone, next) = state.lock().unwrap_or_else(PoisonError::into_inner).expire(Instant::now());
        gone.into_iter().for_each(|resting| resting.parked.connection.quit());
        match next {
            Some(next) => drop(smol::Timer::at(next).await),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests;
