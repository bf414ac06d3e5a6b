//! Alerts by mail: one to the postmaster for each that opened, one more where it was open for long and is over.
//!
//! They lie in the queue like other mail, so that they wait while nothing can be delivered; the space kept free is open to
//! them, or a full disk could not be told. Never more than [`MAX_A_DAY`]: what is beyond waits, and is told when there is
//! room if it is still the case. Mail that fails tells nobody anything (`report::told`), and what an alert mail ran into is
//! only in `status` and the log. What it does not: which alerts are untold is `alert`'s knowledge, the words are `report`'s.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use mta_queue::QueueError;
use mta_smtp::address::Mailbox;

use super::{Options, Scheduler};
use crate::alert::News;
use crate::log::Line;
use crate::report::alert::AlertMail;

/// Mails about alerts within a day, counted since the start of the program.
pub(super) const MAX_A_DAY: usize = 10;

/// The day over which they are counted.
const DAY: Duration = Duration::from_secs(86_400);

/// After a mail could not be stored, so long until the next try.
const PAUSE: Duration = Duration::from_secs(60);

/// What such a mail is "about", in place of a queue id.
pub(super) const ALERT: &str = "alert";

impl Scheduler {
    /// Stores the mails that are due; when to come back.
    pub(super) async fn mail_alerts(self: &Arc<Self>) -> SystemTime {
        let now = SystemTime::now();
        let options = self.options();
        let Some(postmaster) = options.postmaster.clone().filter(|_| options.alert_mail) else {
            return now + DAY;
        };
        while let Some(news) = self.site.alerts.untold() {
            if let Some(free) = self.mail_room(now) {
                return free;
            }
            let (scheduler, options, postmaster) =
                (Arc::clone(self), Arc::clone(&options), postmaster.clone());
            let (stored, news) = smol::unblock(move || {
                let stored = scheduler.mail_alert(&options, &postmaster, &news, now);
                (stored, news)
            })
            .await;
            if let Err(error) = stored {
                ::log::warn!("{}", Line::new("alert-not-mailed").with("reason", error));
                return now + PAUSE;
            }
            self.site.alerts.told(&news, now);
            self.alert_mails.lock().unwrap_or_else(PoisonError::into_inner).push(now);
        }
        now + DAY
    }

    /// When there is room for another mail; nothing where there is now.
    fn mail_room(&self, now: SystemTime) -> Option<SystemTime> {
        let mut mails = self.alert_mails.lock().unwrap_or_else(PoisonError::into_inner);
        mails.retain(|&at| at + DAY > now);
        let oldest = mails.iter().min().copied();
        oldest.filter(|_| mails.len() >= MAX_A_DAY).map(|at| at + DAY)
    }

    /// Blocks until it is stored.
    fn mail_alert(
        &self,
        options: &Options,
        to: &Mailbox,
        news: &News,
        now: SystemTime,
    ) -> Result<(), QueueError> {
        let id = self.queue.new_id();
        let (alert, cleared_at) = match news {
            News::Opened(alert) => (alert, None),
            News::Cleared(alert, at) => (alert, Some(*at)),
        };
        let own_id = id.to_string();
        let mail = AlertMail { hostname: &options.hostname, id: &own_id, to, alert, cleared_at, now };
        let message = self.postmaster_message(id, to, ALERT, now, |out| mail.write(out))?;
        let (done, stored) = std::sync::mpsc::channel();
        self.queue.accept_into_reserve(message, move |result| {
            let _ = done.send(result);
        });
        stored.recv().unwrap_or(Err(QueueError::Closed))?;
        let line = Line::new("alert-mailed").with("qid", id).with("kind", alert.kind);
        ::log::info!("{}", line.with("subject", &alert.subject).with("rcpt", format!("<{to}>")));
        Ok(())
    }
}
