//! Alerts: what the administrator has to know and act on, each told once, open until its cause ends.
//!
//! What it does: keeps the open alerts, one for each kind and subject, with when they were first and last raised and how
//! often; writes one log line when an alert opens and one when it closes; hands changes to a store that survives a
//! restart. What the postmaster was not told of yet it knows, and hands to whoever writes the mail: each that opened, and
//! the end of what was told and open for [`LONG_OPEN`] (an end is forgotten with the program). What it does not: it finds no fault itself. Whoever finds one raises it, as often as it likes, and clears it
//! when the cause has ended; an alert whose end nobody can see is given a time after which it closes by itself.
//!
//! What each kind means and what to do about it is in [`Kind::meaning`], from which the manual is made.

mod kind;
mod store;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
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

/// The end of an alert is mailed where it was open for so long: of a shorter one the mail that it opened may not be read yet.
pub const LONG_OPEN: std::time::Duration = std::time::Duration::from_secs(3_600);

/// Ends that wait to be told, at most.
const MAX_ENDS: usize = 20;

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
    /// When the postmaster was told by mail.
    pub mailed_at: Option<SystemTime>,
}

/// What the postmaster is still to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It opened.
    Opened(Alert),
    /// It was told, open for long, and is over since then.
    Cleared(Alert, SystemTime),
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
pub struct Alerts(Arc<Inner>, Mail);

/// Whether what is raised through a handle is mailed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mail {
    #[default]
    Yes,
    /// It was an alert mail that met it.
    No,
}

#[derive(Default)]
struct Inner {
    open: Mutex<BTreeMap<(Kind, String), Entry>>,
    store: Option<Box<dyn Store>>,
    /// What was told and is over.
    ended: Mutex<VecDeque<News>>,
    /// Called when there may be something to tell.
    on_news: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

struct Entry {
    alert: Alert,
    mail: Mail,
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
            ((alert.kind, alert.subject.clone()), Entry { alert, mail: Mail::Yes, written_at })
        });
        let open = Mutex::new(loaded.collect());
        Self(Arc::new(Inner { open, store: Some(store), ..Inner::default() }), Mail::Yes)
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
            let is_news = entry.mail == Mail::No && self.1 == Mail::Yes;
            if is_news {
                entry.mail = Mail::Yes;
            }
            let alert = &mut entry.alert;
            (alert.text, alert.remedy, alert.last_at, alert.until) = (text, remedy, now, until);
            alert.count = alert.count.saturating_add(1);
            let due = now.duration_since(entry.written_at).is_ok_and(|since| since >= WRITE_AGAIN);
            if changed || due {
                entry.written_at = now;
                self.save(&entry.alert);
            }
            drop(open);
            if is_news {
                self.announce();
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
        let alert = Alert {
            kind,
            subject,
            text,
            remedy,
            first_at: now,
            last_at: now,
            count: 1,
            until,
            mailed_at: None,
        };
        self.save(&alert);
        open.insert(key, Entry { alert, mail: self.1, written_at: now });
        drop(open);
        self.announce();
    }

    /// A handle whose alerts are not mailed: for what the mail about an alert runs into. Where others meet the same, it is.
    #[must_use]
    pub fn without_mail(&self) -> Self {
        Self(Arc::clone(&self.0), Mail::No)
    }

    /// Calls `heard` whenever there may be something to tell by mail. It must not block, nor use these alerts.
    pub fn on_news(&self, heard: Arc<dyn Fn() + Send + Sync>) {
        *self.0.on_news.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
    }

    /// What the postmaster was not told of yet; of several, what opened first, then ends.
    pub fn untold(&self) -> Option<News> {
        self.close_over(SystemTime::now());
        let open = self.lock();
        let untold = open.values().filter(|entry| entry.mail == Mail::Yes && entry.alert.mailed_at.is_none());
        if let Some(entry) = untold.min_by_key(|entry| entry.alert.first_at) {
            return Some(News::Opened(entry.alert.clone()));
        }
        self.ended().front().cloned()
    }

    /// The postmaster was told.
    pub fn told(&self, news: &News, now: SystemTime) {
        match news {
            News::Opened(alert) => {
                if let Some(entry) = self.lock().get_mut(&(alert.kind, alert.subject.clone())) {
                    entry.alert.mailed_at = Some(now);
                    self.save(&entry.alert);
                }
            }
            News::Cleared(..) => self.ended().retain(|ended| ended != news),
        }
    }

    fn ended(&self) -> MutexGuard<'_, VecDeque<News>> {
        self.0.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self) {
        let heard = self.0.on_news.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(heard) = heard {
            heard();
        }
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
        if entry.alert.mailed_at.is_some() && seconds >= LONG_OPEN.as_secs() {
            let mut ended = self.ended();
            if ended.len() >= MAX_ENDS {
                ended.pop_front();
            }
            ended.push_back(News::Cleared(entry.alert.clone(), now));
            drop(ended);
            self.announce();
        }
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
