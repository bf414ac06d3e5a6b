//! Alerts in the queue's database.

use mta_queue::{Queue, StoredAlert};

use super::{Alert, Kind, Store};
use crate::log::Line;

/// Keeps alerts beside the mail.
pub struct QueueStore(pub Queue);

impl Store for QueueStore {
    fn load(&self) -> Vec<Alert> {
        match self.0.reader().alerts() {
            // A kind that a newer program knew is none of ours.
            Ok(stored) => stored.iter().filter_map(from_stored).collect(),
            Err(error) => {
                ::log::error!("{}", Line::new("alerts-not-read").with("error", error));
                Vec::new()
            }
        }
    }

    fn save(&self, alert: &Alert) {
        self.0.put_alert(StoredAlert {
            kind: alert.kind.word().to_owned(),
            subject: alert.subject.clone(),
            text: alert.text.clone(),
            remedy: alert.remedy.clone(),
            first_at: alert.first_at,
            last_at: alert.last_at,
            count: alert.count,
            until: alert.until,
            mailed_at: alert.mailed_at,
        });
    }

    fn remove(&self, kind: Kind, subject: &str) {
        self.0.remove_alert(kind.word(), subject);
    }
}

/// An alert as it is kept. `None` for a kind that is not known here.
pub fn from_stored(stored: &StoredAlert) -> Option<Alert> {
    Some(Alert {
        kind: Kind::from_word(&stored.kind)?,
        subject: stored.subject.clone(),
        text: stored.text.clone(),
        remedy: stored.remedy.clone(),
        first_at: stored.first_at,
        last_at: stored.last_at,
        count: stored.count,
        until: stored.until,
        mailed_at: stored.mailed_at,
    })
}
