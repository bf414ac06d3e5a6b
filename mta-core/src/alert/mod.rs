//! Alerts: what the administrator has to know and act on, each told once, open until its cause ends.
//!
//! What it does: keeps the open alerts, one for each kind and subject, with when they were first and last raised and how
//! often; writes one log line when an alert opens and one when it closes; hands changes to a store that survives a
//! restart. What it does not: it finds no fault itself. Whoever finds one raises it, as often as it likes, and clears it
//! when the cause has ended; an alert whose end nobody can see is given a time after which it closes by itself.
//!
//! What each kind means and what to do about it is in [`Kind::meaning`], from which the manual is made.

mod kind;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::log::Line;

pub use kind::Kind;
pub use store::{QueueStore, from_stored};

/// Open alerts at most; beyond it the one that was raised last the longest ago makes room.
pub const MAX_OPEN: usize = 200;

/// Octets of a text or remedy; subjects and texts may hold what strangers said.
const MAX_TEXT_BYTES: usize = 1_000;

/// Octets of a subject.
const MAX_SUBJECT_BYTES: usize = 255;

/// How often at most an alert that is raised again and again is written down again.
const WRITE_AGAIN: std::time::Duration = std::time::Duration::from_secs(600);

/// An open alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// What it is about in general.
    pub kind: Kind,
    /// What it is about in particular: a destination, a provider, a directory. Empty where there is only one.
    pub subject: String,
    /// What is wrong, in one sentence.
    pub text: String,
    /// What to do about it, in one sentence.
    pub remedy: String,
    /// When it opened.
    pub first_at: SystemTime,
    /// When it was raised last.
    pub last_at: SystemTime,
    /// How often it was raised.
    pub count: u64,
    /// It closes by itself then, unless it is raised again.
    pub until: Option<SystemTime>,
}

/// Where open alerts are kept over a restart. Calls do not block: what cannot be written is lost, and the alert is
/// raised anew when its cause is seen again.
pub trait Store: Send + Sync {
    /// Those that were open when the program ended.
    fn load(&self) -> Vec<Alert>;
    /// An alert opened, or was raised again.
    fn save(&self, alert: &Alert);
    /// An alert closed.
    fn remove(&self, kind: Kind, subject: &str);
}

/// The open alerts. Shared by all parts of the daemon; cheap to clone.
#[derive(Clone, Default)]
pub struct Alerts(Arc<Inner>);

#[derive(Default)]
struct Inner {
    open: Mutex<BTreeMap<(Kind, String), Entry>>,
    store: Option<Box<dyn Store>>,
}

struct Entry {
    alert: Alert,
    written_at: SystemTime,
}

impl std::fmt::Debug for Alerts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Alerts").field(&self.lock().len()).finish()
    }
}

impl Alerts {
    /// Alerts that are kept in `store`, with those that were open before.
    pub fn kept_in(store: Box<dyn Store>) -> Self {
        let loaded = store.load().into_iter().take(MAX_OPEN).map(|alert| {
            let written_at = alert.last_at;
            ((alert.kind, alert.subject.clone()), Entry { alert, written_at })
        });
        let open = Mutex::new(loaded.collect());
        Self(Arc::new(Inner { open, store: Some(store) }))
    }

    /// Opens an alert, or says that it is still the case. One log line where it opens.
    pub fn raise(&self, kind: Kind, subject: &str, text: &str, remedy: &str) {
        self.raise_until(kind, subject, text, remedy, None);
    }

    /// The same for a cause whose end nobody may see: it closes by itself at `until`.
    pub fn raise_until(
        &self,
        kind: Kind,
        subject: &str,
        text: &str,
        remedy: &str,
        until: Option<SystemTime>,
    ) {
        let now = SystemTime::now();
        let [subject, text, remedy] =
            [(subject, MAX_SUBJECT_BYTES), (text, MAX_TEXT_BYTES), (remedy, MAX_TEXT_BYTES)].map(tidy);
        let mut open = self.lock();
        let key = (kind, subject.clone());
        if let Some(entry) = open.get_mut(&key) {
            let changed = entry.alert.text != text;
            let alert = &mut entry.alert;
            (alert.text, alert.remedy, alert.last_at, alert.until) = (text, remedy, now, until);
            alert.count = alert.count.saturating_add(1);
            let due = now.duration_since(entry.written_at).is_ok_and(|since| since >= WRITE_AGAIN);
            if changed || due {
                entry.written_at = now;
                self.save(&entry.alert);
            }
            return;
        }
        if open.len() >= MAX_OPEN
            && let Some(oldest) =
                open.iter().min_by_key(|(_, entry)| entry.alert.last_at).map(|(key, _)| key.clone())
        {
            open.remove(&oldest);
            self.removed(&oldest);
        }
        let line = Line::new("alert").with("kind", kind).with("subject", &subject);
        ::log::error!("{}", line.with("reason", &text).with("remedy", &remedy));
        let alert = Alert { kind, subject, text, remedy, first_at: now, last_at: now, count: 1, until };
        self.save(&alert);
        open.insert(key, Entry { alert, written_at: now });
    }

    /// The cause has ended. One log line where the alert was open.
    pub fn clear(&self, kind: Kind, subject: &str) {
        let key = (kind, tidy((subject, MAX_SUBJECT_BYTES)));
        let closed = self.lock().remove(&key);
        if let Some(entry) = closed {
            self.closed(&key, &entry, SystemTime::now());
        }
    }

    /// Those that are open, oldest first.
    pub fn open(&self) -> Vec<Alert> {
        self.close_over(SystemTime::now());
        let mut all: Vec<Alert> = self.lock().values().map(|entry| entry.alert.clone()).collect();
        all.sort_by_key(|alert| alert.first_at);
        all
    }

    /// Whether such an alert is open.
    pub fn is_open(&self, kind: Kind, subject: &str) -> bool {
        self.close_over(SystemTime::now());
        self.lock().contains_key(&(kind, tidy((subject, MAX_SUBJECT_BYTES))))
    }

    /// Closes those whose time is over.
    fn close_over(&self, now: SystemTime) {
        let is_over = |entry: &Entry| entry.alert.until.is_some_and(|until| until <= now);
        let over: Vec<_> = self.lock().extract_if(.., |_, entry| is_over(entry)).collect();
        for (key, entry) in over {
            self.closed(&key, &entry, now);
        }
    }

    fn closed(&self, key: &(Kind, String), entry: &Entry, now: SystemTime) {
        let seconds = now.duration_since(entry.alert.first_at).unwrap_or_default().as_secs();
        let line = Line::new("alert-cleared").with("kind", key.0).with("subject", &key.1);
        ::log::info!("{}", line.with("seconds", seconds).with("count", entry.alert.count));
        self.removed(key);
    }

    fn save(&self, alert: &Alert) {
        if let Some(store) = &self.0.store {
            store.save(alert);
        }
    }

    fn removed(&self, key: &(Kind, String)) {
        if let Some(store) = &self.0.store {
            store.remove(key.0, &key.1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Kind, String), Entry>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without control characters, at most so many octets.
fn tidy((text, max_bytes): (&str, usize)) -> String {
    let visible = crate::log::visible(text);
    visible.get(..visible.floor_char_boundary(max_bytes)).unwrap_or_default().to_owned()
}
