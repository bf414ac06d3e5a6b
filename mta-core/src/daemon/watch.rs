//! What nobody else raises an alert for: damage in the queue, and what stands still for longer than a day.
//!
//! Damage is told at once, when the queue meets it. That it was dealt with, and the age of pauses and hold rules, are
//! looked at once an hour and whenever somebody asks for the status: nothing hurries there. What it does not: it repairs
//! nothing and resumes nothing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use mta_queue::{Damage, Queue, QueueError};
use smol::Timer;

use crate::alert::{Alerts, Kind};
use crate::control::rfc3339;
use crate::log::Line;
use crate::pause::{DESTINATION, Pauses};

/// What stands still for longer than this may have been forgotten.
const LONG_PAUSE: Duration = Duration::from_secs(86_400);

/// How often all is looked at.
const LOOK: Duration = Duration::from_secs(3_600);

/// Pauses and hold rules that have an alert of their own, the oldest; the others are counted in one.
const MAX_NAMED: usize = 50;

/// The alert for what is beyond that.
const OTHERS: &str = "others";

/// The alert for messages that were set aside.
const MESSAGES: &str = "messages";

/// The alert for the database as a whole.
const DATABASE: &str = "database";

/// The alert for the database closes by itself after so long without a further failure: whether damage is still there
/// only a use of the damaged place shows.
const DATABASE_ALERT: Duration = Duration::from_secs(86_400);

/// Failures of the database are told this often at most: writing the alert may be the next of them.
const DATABASE_AGAIN: Duration = Duration::from_secs(60);

/// What to do about messages that were set aside.
const MESSAGES_REMEDY: &str = "see queue list --status damaged and mta-cli verify; with the daemon stopped, verify \
     --repair saves what can be read; or restore from a backup; then queue retry or queue drop those messages";

/// What to do about a database that cannot be written.
const DATABASE_REMEDY: &str = "look at the disk and the system's log; mta-cli verify says what is damaged; with the \
     daemon stopped, verify --repair saves what can be read; or restore from a backup";

/// Looks at the queue and at pauses. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    queue: Queue,
    alerts: Alerts,
}

impl Watch {
    /// Begins to listen for damage.
    pub(super) fn new(queue: &Queue, alerts: &Alerts) -> Self {
        let (heard, last) = (alerts.clone(), Mutex::new(None));
        queue.on_damage(Arc::new(move |damage| damaged(&heard, damage, &last)));
        Self { queue: queue.clone(), alerts: alerts.clone() }
    }

    /// Looks once an hour, for ever.
    pub(super) async fn run(self, pauses: Pauses) {
        loop {
            let (watch, pauses) = (self.clone(), pauses.clone());
            smol::unblock(move || watch.look(&pauses, SystemTime::now())).await;
            Timer::after(LOOK).await;
        }
    }

    /// Raises what is the case now and clears what is no more. Blocks on the disk.
    pub(super) fn look(&self, pauses: &Pauses, now: SystemTime) {
        // An alert of before the start, and one on a server that gets no mail, closes here.
        if self.queue.check_space(0).is_ok() {
            self.alerts.clear(Kind::Disk, "");
        }
        let looked = self.look_at_pauses(pauses, now).and_then(|()| self.look_at_damage());
        if let Err(error) = looked {
            ::log::warn!("{}", Line::new("not-watched").with("error", error));
        }
    }

    fn look_at_damage(&self) -> Result<(), QueueError> {
        let damaged = self.queue.reader().counts()?.damaged;
        if damaged == 0 {
            self.alerts.clear(Kind::Queue, MESSAGES);
        } else if !self.alerts.is_open(Kind::Queue, MESSAGES) {
            let text =
                format!("recipients whose messages were set aside because they cannot be read: {damaged}");
            self.alerts.raise(Kind::Queue, MESSAGES, &text, MESSAGES_REMEDY);
        }
        Ok(())
    }

    fn look_at_pauses(&self, pauses: &Pauses, now: SystemTime) -> Result<(), QueueError> {
        let mut standing = self.standing(pauses, now)?;
        standing.sort_by(|a, b| (a.since, &a.name).cmp(&(b.since, &b.name)));
        let more = standing.len().saturating_sub(MAX_NAMED);
        standing.truncate(MAX_NAMED);
        let mut told: BTreeSet<String> = BTreeSet::new();
        for one in standing {
            let since = rfc3339(one.since);
            let text = format!("{} since {since}, by {}: {}", one.what, one.who, one.reason);
            self.alerts.raise(Kind::Paused, &one.name, &text, &one.remedy);
            told.insert(one.name);
        }
        if more > 0 {
            let text = format!("{more} more pauses and hold rules last longer than a day");
            self.alerts.raise(Kind::Paused, OTHERS, &text, "see mta-cli status and queue hold-rule list");
            told.insert(OTHERS.to_owned());
        }
        let over = self.alerts.open().into_iter().filter(|open| open.kind == Kind::Paused);
        over.filter(|open| !told.contains(&open.subject))
            .for_each(|open| self.alerts.clear(Kind::Paused, &open.subject));
        Ok(())
    }

    /// What stands still for longer than a day.
    fn standing(&self, pauses: &Pauses, now: SystemTime) -> Result<Vec<Standing>, QueueError> {
        let is_long = |since: SystemTime| now.duration_since(since).is_ok_and(|age| age >= LONG_PAUSE);
        let paused = pauses.active(now).into_iter().filter(|pause| is_long(pause.since)).map(|pause| {
            let (what, remedy) = match pause.name.strip_prefix(DESTINATION) {
                Some(name) => {
                    (format!("nothing is delivered to {name}"), format!("mta-cli dest resume {name}"))
                }
                None => (format!("pause {} stands", pause.name), format!("mta-cli resume {}", pause.name)),
            };
            let remedy = format!("when its reason is over: {remedy}");
            Standing {
                name: pause.name,
                what,
                since: pause.since,
                who: pause.who,
                reason: pause.reason,
                remedy,
            }
        });
        let mut standing: Vec<Standing> = paused.collect();
        for rule in self.queue.reader().hold_rules()? {
            let Some(since) = rule.created_at.filter(|&since| is_long(since)) else { continue };
            if rule.until.is_some_and(|until| until <= now) {
                continue;
            }
            standing.push(Standing {
                name: format!("hold-rule {}", rule.id),
                what: format!("hold rule {} holds mail", rule.id),
                since,
                who: rule.who,
                reason: rule.reason,
                remedy: format!(
                    "when its reason is over: mta-cli queue hold-rule remove {}, then queue release what it held",
                    rule.id
                ),
            });
        }
        Ok(standing)
    }
}

/// A pause or a hold rule.
struct Standing {
    name: String,
    what: String,
    since: SystemTime,
    who: String,
    reason: String,
    remedy: String,
}

/// The queue met damage. Called on its writer's thread.
fn damaged(alerts: &Alerts, damage: &Damage, last: &Mutex<Option<SystemTime>>) {
    match damage {
        Damage::SetAside { message, reason } => {
            let text = format!("message {message} was set aside because it cannot be read: {reason}");
            alerts.raise(Kind::Queue, MESSAGES, &text, MESSAGES_REMEDY);
        }
        Damage::Storage(reason) => {
            let now = SystemTime::now();
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            let is_new =
                last.is_none_or(|last| now.duration_since(last).unwrap_or_default() >= DATABASE_AGAIN);
            if is_new {
                *last = Some(now);
                database(alerts, reason, now);
            }
        }
    }
}

/// The database cannot be used.
fn database(alerts: &Alerts, reason: &str, now: SystemTime) {
    let text = format!("the queue's database could not be written: {reason}");
    alerts.raise_until(Kind::Queue, DATABASE, &text, DATABASE_REMEDY, Some(now + DATABASE_ALERT));
}

#[cfg(test)]
mod tests {
    use mta_queue::{HoldRule, Options, Pause};

    use super::*;

    fn open(alerts: &Alerts) -> Vec<String> {
        alerts.open().into_iter().map(|alert| format!("{} {}", alert.kind, alert.subject)).collect()
    }

    fn queue(directory: &std::path::Path) -> Queue {
        Queue::open(directory, Options { reserve_bytes: 0, ..Options::default() }).unwrap()
    }

    #[test]
    fn what_stands_still_for_a_day_is_told_until_it_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let (queue, alerts, now) = (queue(directory.path()), Alerts::default(), SystemTime::now());
        let watch = Watch::new(&queue, &alerts);
        let pause = |name: &str, until| {
            let (reason, who) = ("they move".to_owned(), "root".to_owned());
            Pause { name: name.into(), reason, who, since: now, until }
        };
        let short = Some(now + LONG_PAUSE / 2);
        let pauses = Pauses::new(vec![pause("in", None), pause("dest:a.example", None), pause("out", short)]);
        let rule = HoldRule {
            id: 0,
            recipient: Some("@b.example".into()),
            reverse_path: None,
            reason: "a loop".into(),
            who: "root".into(),
            created_at: None,
            until: None,
        };
        let id = queue.add_hold_rule(rule, now).unwrap();

        watch.look(&pauses, now + LONG_PAUSE / 2);
        assert!(open(&alerts).is_empty(), "not yet");
        let late = now + LONG_PAUSE + Duration::from_secs(1);
        watch.look(&pauses, late);
        watch.look(&pauses, late);
        let mut told = open(&alerts);
        told.sort();
        assert_eq!(told, ["paused dest:a.example", "paused hold-rule 1", "paused in"]);
        let remedies: Vec<String> = alerts.open().into_iter().map(|alert| alert.remedy).collect();
        assert!(
            remedies.iter().any(|remedy| remedy.ends_with("mta-cli dest resume a.example")),
            "{remedies:?}"
        );

        pauses.clear("in");
        queue.remove_hold_rule(i64::try_from(id).unwrap()).unwrap();
        watch.look(&pauses, late);
        assert_eq!(open(&alerts), ["paused dest:a.example"]);
        pauses.clear("dest:a.example");
        watch.look(&pauses, late);
        assert!(open(&alerts).is_empty());
        queue.close();
    }

    #[test]
    fn many_pauses_do_not_push_other_alerts_out() {
        let directory = tempfile::tempdir().unwrap();
        let (queue, alerts, now) = (queue(directory.path()), Alerts::default(), SystemTime::now());
        let watch = Watch::new(&queue, &alerts);
        let (reason, who) = (String::new(), "root".to_owned());
        let pauses = (0..MAX_NAMED + 7).map(|n| Pause {
            name: format!("dest:d{n}.example"),
            reason: reason.clone(),
            who: who.clone(),
            since: now,
            until: None,
        });
        watch.look(&Pauses::new(pauses.collect()), now + LONG_PAUSE);
        let told = alerts.open();
        assert_eq!(told.len(), MAX_NAMED + 1);
        assert!(told.iter().any(|alert| alert.subject == OTHERS && alert.text.starts_with("7 more")));
        queue.close();
    }

    #[test]
    fn a_database_that_fails_again_and_again_is_told_once_a_while() {
        let (alerts, last) = (Alerts::default(), Mutex::new(None));
        for reason in ["disk I/O error", "malformed", "disk I/O error"] {
            damaged(&alerts, &Damage::Storage(reason.into()), &last);
        }
        let told = alerts.open();
        assert_eq!((told.len(), told[0].count), (1, 1), "{told:?}");
        assert!(told[0].text.ends_with("disk I/O error") && told[0].remedy.contains("verify --repair"));
    }
}
