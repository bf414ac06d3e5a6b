//! Memory of DANE for the destinations of this server: what each attempt saw of a domain is kept, and where one that had DANE for
//! weeks has none any more, an alert opens (shown by `status`, one line in the log) and, if so configured, its mail waits a while.
//!
//! The rules are `mta_dane::memory`'s, the rows `mta_queue`'s. All destinations that have DANE are held in memory, bounded as in the
//! database. What it does not: it never lets mail pass that DANE holds back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mta_dane::discovery::{HostResult, MxList};
use mta_dane::dnssec::Status;
use mta_dane::failure::{HostFault, NoDane};
use mta_dane::memory::{self, Event, FORGOTTEN_SECONDS, Known};
use mta_dane::policy::HostPolicy;
use mta_dane::reference::text;
use mta_queue::{Queue, StoredDane};

use super::attempt::{Purpose, Run};
use super::outcome::{Outcome, Reach};
use crate::alert::{Alerts, Kind};

/// Where sights are kept over a restart. Calls do not block; what cannot be written is seen again at the next attempt.
pub trait Store: Send + Sync {
    /// Keeps what is known of a domain.
    fn put(&self, domain: &str, known: Known);
    /// Forgets a domain.
    fn forget(&self, domain: &str);
}

/// What is remembered. Cheap to clone; the default one remembers nothing over a restart and tells nobody.
#[derive(Clone, Default)]
pub struct DaneMemory(Arc<Inner>);

#[derive(Default)]
struct Inner {
    known: Mutex<HashMap<String, Known>>,
    store: Option<Box<dyn Store>>,
    alerts: Option<Alerts>,
}

/// Destinations held at most; the database keeps as many.
const MAX_DESTINATIONS: usize = 5_000;

/// A loss as the attempt that met it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// When it was first seen.
    pub lost_at: SystemTime,
    /// What is lost, in one sentence.
    pub text: String,
}

impl DaneMemory {
    /// The memory that lies in the queue's database; losses become alerts.
    pub fn kept_in(queue: &Queue, alerts: Alerts) -> Self {
        let stored = queue.reader().dane_memory().unwrap_or_else(|error| {
            log::warn!("event=dane-memory-not-read error={:?}", error.to_string());
            Vec::new()
        });
        let known = stored.into_iter().take(MAX_DESTINATIONS).map(|row| {
            let known = Known {
                first_at: unix(row.first_at),
                last_at: unix(row.last_at),
                lost_at: row.lost_at.map(unix),
            };
            (row.domain, known)
        });
        Self::new(known.collect(), Box::new(queue.clone()), alerts)
    }

    fn new(known: HashMap<String, Known>, store: Box<dyn Store>, alerts: Alerts) -> Self {
        Self(Arc::new(Inner { known: Mutex::new(known), store: Some(store), alerts: Some(alerts) }))
    }

    /// Notes what was seen of a domain (A-labels, lower case); the loss, where DANE was there for weeks and is not now. `why` says
    /// what was seen instead of DANE.
    pub fn seen(&self, domain: &str, sight: &Sight, now: SystemTime) -> Option<Loss> {
        let has_dane = *sight == Sight::Dane;
        let mut all = self.lock();
        let before = all.get(domain).copied();
        let (after, event) = memory::seen(before, has_dane, unix(now));
        if memory::is_worth_writing(before, after) {
            self.keep(&mut all, domain, after);
        }
        drop(all);
        match (event, sight) {
            (Event::Lost { first_at, lost_at }, Sight::None(why)) => {
                Some(self.lost(domain, first_at, lost_at, why))
            }
            (Event::Back, _) => {
                self.0.alerts.as_ref().inspect(|alerts| alerts.clear(Kind::Dane, domain));
                None
            }
            _ => None,
        }
    }

    fn keep(&self, all: &mut HashMap<String, Known>, domain: &str, after: Option<Known>) {
        let store = self.0.store.as_ref();
        let Some(known) = after else {
            all.remove(domain);
            store.inspect(|store| store.forget(domain));
            return;
        };
        // Full: what was known for the shortest time makes room, as in the database.
        if all.len() >= MAX_DESTINATIONS
            && !all.contains_key(domain)
            && let Some(newest) = all
                .iter()
                .min_by_key(|(_, k)| (k.last_at - k.first_at, k.last_at))
                .map(|(name, _)| name.clone())
        {
            all.remove(&newest);
        }
        all.insert(domain.to_owned(), known);
        store.inspect(|store| store.put(domain, known));
    }

    fn lost(&self, domain: &str, first_at: u64, lost_at: u64, why: &str) -> Loss {
        let date = |seconds: u64| mta_dane::der::date_text(i64::try_from(seconds).unwrap_or(i64::MAX));
        let day = |seconds: u64| date(seconds).chars().take(10).collect::<String>();
        let text = format!(
            "{domain} had DANE since {} at least, and is without since {}: {why}",
            day(first_at),
            date(lost_at)
        );
        if let Some(alerts) = &self.0.alerts {
            let remedy = format!(
                "ask the operator of {domain}; if it should have DANE, set destination.\"{domain}\".dane = \"mandatory\""
            );
            let until = UNIX_EPOCH + Duration::from_secs(lost_at.saturating_add(FORGOTTEN_SECONDS));
            alerts.raise_until(Kind::Dane, domain, &text, &remedy, Some(until));
        }
        Loss { lost_at: UNIX_EPOCH + Duration::from_secs(lost_at), text }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run<'_> {
    /// Remembers what a host says about the DANE of its domain. The outcome, where the mail has to wait because the domain had
    /// DANE for weeks and has none any more.
    pub(super) fn remember_dane(&mut self, list: &MxList, found: &HostResult) -> Option<Outcome> {
        if self.purpose != Purpose::Deliver || self.job.relay().is_some() {
            return None;
        }
        let sight = sight(list.status, &found.policy)?;
        // Of a mixed set one host with DANE is enough, and the others say nothing new.
        if self.dane_seen {
            return None;
        }
        self.dane_seen = sight == Sight::Dane;
        let now = SystemTime::now();
        let loss = self.context.dane_memory.seen(&text(&list.next_hop), &sight, now)?;
        let delay = self.context.options.dane_loss_delay;
        let waits = now.duration_since(loss.lost_at).is_ok_and(|since| since < delay);
        waits.then(|| {
            Outcome::deferred(Reach::NextHop, (7, 5), format!("{}; the mail waits a while", loss.text))
        })
    }
}

/// What an attempt saw of a domain at one of its hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Secure MX records, and secure TLSA records of the host.
    Dane,
    /// None; why.
    None(String),
}

/// What a host's policy says about the DANE of the domain. `None` where it says nothing: lookups failed, or nobody looked.
pub fn sight(mx: Status, policy: &HostPolicy) -> Option<Sight> {
    let insecure_mx = || Sight::None("its MX records are not secure".to_owned());
    match policy {
        HostPolicy::Authenticate(_) | HostPolicy::EncryptOnly { .. } if mx == Status::Secure => {
            Some(Sight::Dane)
        }
        HostPolicy::Authenticate(_) | HostPolicy::EncryptOnly { .. } => Some(insecure_mx()),
        HostPolicy::NotApplicable(NoDane::SwitchedOff | NoDane::AddressLiteral) => None,
        HostPolicy::NotApplicable(_) if mx != Status::Secure => Some(insecure_mx()),
        HostPolicy::NotApplicable(why) => Some(Sight::None(why.to_string())),
        HostPolicy::Unavailable(HostFault::DaneRequired(why)) => Some(Sight::None(why.to_string())),
        HostPolicy::Unavailable(_) => None,
    }
}

impl Store for Queue {
    fn put(&self, domain: &str, known: Known) {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let row = StoredDane {
            domain: domain.to_owned(),
            first_at: at(known.first_at),
            last_at: at(known.last_at),
            lost_at: known.lost_at.map(at),
        };
        self.put_dane(row, |_| {});
    }

    fn forget(&self, domain: &str) {
        self.forget_dane(domain, |_| {});
    }
}

fn unix(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn day(number: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + number * DAY)
    }

    fn none() -> Sight {
        Sight::None("no TLSA records".to_owned())
    }

    #[test]
    fn a_loss_is_told_once_lasts_over_a_restart_and_ends_when_dane_is_back() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Queue::open(directory.path(), mta_queue::Options::default()).unwrap();
        let (queue, alerts) = (open(), Alerts::default());
        let memory = DaneMemory::kept_in(&queue, alerts.clone());
        for number in [0, 7, 15] {
            assert_eq!(memory.seen("example.org", &Sight::Dane, day(number)), None);
            assert_eq!(memory.seen("other.example", &none(), day(number)), None);
        }
        let loss = memory.seen("example.org", &none(), day(16)).expect("a loss");
        assert_eq!(loss.lost_at, day(16));
        assert!(
            loss.text.contains("had DANE since 2027-01-15") && loss.text.contains("no TLSA records"),
            "{loss:?}"
        );
        assert_eq!(memory.seen("example.org", &none(), day(17)).expect("still").lost_at, day(16));
        let open_alerts = alerts.open();
        assert_eq!((open_alerts.len(), open_alerts[0].kind, open_alerts[0].count), (1, Kind::Dane, 2));
        queue.close();
        drop((queue, memory));
        let queue = open();
        let memory = DaneMemory::kept_in(&queue, alerts.clone());
        assert_eq!(memory.seen("example.org", &none(), day(18)).expect("still").lost_at, day(16));
        assert_eq!(memory.seen("example.org", &Sight::Dane, day(19)), None);
        assert!(alerts.open().is_empty());
    }

    #[test]
    fn what_is_held_is_bounded_and_the_long_known_stays() {
        let memory = DaneMemory::default();
        memory.seen("example.org", &Sight::Dane, day(0));
        memory.seen("example.org", &Sight::Dane, day(20));
        for number in 0..MAX_DESTINATIONS + 10 {
            memory.seen(&format!("s{number}.example"), &Sight::Dane, day(21));
        }
        assert_eq!(memory.lock().len(), MAX_DESTINATIONS);
        assert!(memory.seen("example.org", &none(), day(22)).is_some());
    }
}
