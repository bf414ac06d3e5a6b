//! How much a user sends: bounds for an hour and a day, and the brake that holds what a runaway sender sends.
//!
//! What it does: counts by hour, sums, compares. What it does not: no clock, no database (the caller loads what was sent
//! before and writes down what is sent now), no holding.
//!
//! The brake: an account whose password was guessed sends many times what it ever sent. Its mail is then taken and held, and
//! the administrator is told: nothing is lost, and the name of this server is not burned. It pulls when the recipients of an
//! hour are more than [`Limits::brake_recipients`] and at the same time more than [`Limits::brake_factor`] times those of the
//! busiest hour of the week before; or when of at least `BRAKE_BAD_SAMPLE` recipients in an hour more than half did not
//! exist, as guessed and bought addresses do not: here, or as the servers of their domains say when the mail is delivered.
//! Bounces that other servers send later are not counted: anybody can make one up and so have a user held.

use std::collections::{HashMap, VecDeque};

use mta_queue::{RATE_HOURS, SentHour};

/// Users of whom counters are held in memory; those of others are read again when they send.
const USERS: usize = 2_000;

/// How many recipients are looked at before their share of bad ones says anything.
const BRAKE_BAD_SAMPLE: u64 = 20;

/// The bounds for one user; 0 is none. `Default` gives the values named at each field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages in an hour; 200.
    pub messages_per_hour: u64,
    /// Recipients in an hour; 500.
    pub recipients_per_hour: u64,
    /// Recipients in a day; 2000.
    pub recipients_per_day: u64,
    /// Recipients in an hour from which on the brake may pull; 100.
    pub brake_recipients: u64,
    /// How many times the busiest hour of the week before; 10.
    pub brake_factor: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages_per_hour: 200,
            recipients_per_hour: 500,
            recipients_per_day: 2_000,
            brake_recipients: 100,
            brake_factor: 10,
        }
    }
}

/// Why no more is taken for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// Messages in an hour.
    MessagesPerHour,
    /// Recipients in an hour.
    RecipientsPerHour,
    /// Recipients in a day.
    RecipientsPerDay,
}

impl Exceeded {
    /// What was exceeded, for people and logs.
    pub fn text(self) -> &'static str {
        match self {
            Self::MessagesPerHour => "messages in an hour",
            Self::RecipientsPerHour => "recipients in an hour",
            Self::RecipientsPerDay => "recipients in a day",
        }
    }
}

/// The counters of one user.
#[derive(Debug, Clone, Default)]
struct Sent {
    /// Oldest first.
    hours: VecDeque<SentHour>,
    /// Recipients tried in the hour of `bad_hour`, and those of them that did not exist.
    bad_hour: i64,
    tried: u64,
    bad: u64,
    /// When it was looked at last.
    used: u64,
}

/// The counters of all users who send.
#[derive(Debug, Default)]
pub struct Rates {
    users: HashMap<String, Sent>,
    clock: u64,
}

impl Rates {
    /// Whether the counters of this user have to be loaded first.
    pub fn knows(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// What a user sent before, oldest first.
    pub fn load(&mut self, user: &str, hours: Vec<SentHour>) {
        if self.users.len() >= USERS
            && let Some(oldest) =
                self.users.iter().min_by_key(|(_, sent)| sent.used).map(|(name, _)| name.clone())
        {
            self.users.remove(&oldest);
        }
        let sent = Sent { hours: hours.into(), used: self.tick(), ..Sent::default() };
        self.users.insert(user.to_owned(), sent);
    }

    /// Whether a message may begin, or take one more recipient when it has `recipients` already.
    ///
    /// # Errors
    /// What would be exceeded.
    pub fn ask(&mut self, user: &str, recipients: u64, limits: &Limits, hour: i64) -> Result<(), Exceeded> {
        let Some(sent) = self.users.get(user) else { return Ok(()) };
        let beyond = |limit: u64, count: u64| limit > 0 && count > limit;
        let this_hour = sent.within(hour, 1);
        if beyond(limits.messages_per_hour, this_hour.messages + 1) {
            return Err(Exceeded::MessagesPerHour);
        }
        let more = recipients + 1;
        if beyond(limits.recipients_per_hour, this_hour.recipients + more) {
            return Err(Exceeded::RecipientsPerHour);
        }
        if beyond(limits.recipients_per_day, sent.within(hour, 24).recipients + more) {
            return Err(Exceeded::RecipientsPerDay);
        }
        Ok(())
    }

    /// Counts a recipient that was tried.
    pub fn tried(&mut self, user: &str, exists: bool, hour: i64) {
        let used = self.tick();
        if let Some(sent) = self.users.get_mut(user) {
            sent.used = used;
            if sent.bad_hour != hour {
                (sent.bad_hour, sent.tried, sent.bad) = (hour, 0, 0);
            }
            sent.tried += 1;
            sent.bad += u64::from(!exists);
        }
    }

    /// Counts that a recipient who was tried before does not exist, as the server of another domain says.
    pub fn refused_elsewhere(&mut self, user: &str, hour: i64) {
        if let Some(sent) = self.users.get_mut(user).filter(|sent| sent.bad_hour == hour) {
            // Nobody is counted as bad who was not tried in the same hour.
            sent.bad = sent.tried.min(sent.bad + 1);
        }
    }

    /// Counts a message that is about to be taken; why its sender is to be held, where he is.
    pub fn count(&mut self, user: &str, recipients: u64, limits: &Limits, hour: i64) -> Option<String> {
        let used = self.tick();
        let sent = self.users.get_mut(user)?;
        sent.used = used;
        match sent.hours.back_mut() {
            Some(last) if last.hour == hour => {
                last.messages += 1;
                last.recipients += recipients;
            }
            _ => sent.hours.push_back(SentHour { hour, messages: 1, recipients }),
        }
        while sent.hours.front().is_some_and(|first| first.hour <= hour - RATE_HOURS) {
            sent.hours.pop_front();
        }
        sent.brake(limits, hour)
    }

    /// Forgets why the brake pulled: what was sent until now counts as usual.
    pub fn forgive(&mut self, user: &str, hour: i64) {
        if let Some(sent) = self.users.get_mut(user) {
            (sent.tried, sent.bad) = (0, 0);
            // The hour that was too much is the measure from now on.
            if let Some(last) = sent.hours.back_mut().filter(|last| last.hour == hour) {
                last.hour = hour - 1;
            }
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

impl Sent {
    /// What was sent in the last `hours` hours, this one counted.
    fn within(&self, hour: i64, hours: i64) -> SentHour {
        let recent = self.hours.iter().filter(|sent| sent.hour > hour - hours && sent.hour <= hour);
        recent.fold(SentHour { hour, ..SentHour::default() }, |sum, sent| SentHour {
            messages: sum.messages + sent.messages,
            recipients: sum.recipients + sent.recipients,
            ..sum
        })
    }

    fn brake(&self, limits: &Limits, hour: i64) -> Option<String> {
        if limits.brake_recipients == 0 {
            return None;
        }
        let recipients = self.within(hour, 1).recipients;
        let busiest =
            self.hours.iter().filter(|sent| sent.hour < hour).map(|sent| sent.recipients).max().unwrap_or(0);
        if recipients > limits.brake_recipients && recipients > busiest.saturating_mul(limits.brake_factor) {
            return Some(format!(
                "{recipients} recipients within an hour, where {busiest} was the most of an hour in the week before"
            ));
        }
        let suspicious = self.bad_hour == hour && self.tried >= BRAKE_BAD_SAMPLE && self.bad * 2 > self.tried;
        suspicious.then(|| format!("{} of {} recipients within an hour do not exist", self.bad, self.tried))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: &str = "anna@one.example";

    fn rates(hours: &[(i64, u64, u64)]) -> Rates {
        let mut rates = Rates::default();
        let hours = hours.iter().map(|&(hour, messages, recipients)| SentHour { hour, messages, recipients });
        rates.load(ANNA, hours.collect());
        rates
    }

    fn limits() -> Limits {
        Limits { messages_per_hour: 3, recipients_per_hour: 10, recipients_per_day: 20, ..Limits::default() }
    }

    #[test]
    fn bounds_of_an_hour_and_a_day() {
        for (sent, recipients, expected) in [
            (&[][..], 0, Ok(())),
            (&[(100, 2, 2)], 0, Ok(())),
            (&[(100, 3, 3)], 0, Err(Exceeded::MessagesPerHour)),
            (&[(99, 3, 3)], 0, Ok(())),
            (&[(100, 1, 9)], 0, Ok(())),
            (&[(100, 1, 10)], 0, Err(Exceeded::RecipientsPerHour)),
            (&[], 9, Ok(())),
            (&[], 10, Err(Exceeded::RecipientsPerHour)),
            (&[(77, 1, 10), (90, 1, 9)], 0, Ok(())),
            (&[(77, 1, 10), (90, 1, 10)], 0, Err(Exceeded::RecipientsPerDay)),
            (&[(76, 1, 10), (90, 1, 10)], 0, Ok(())),
        ] {
            assert_eq!(rates(sent).ask(ANNA, recipients, &limits(), 100), expected, "{sent:?} {recipients}");
        }
        let none = Limits { messages_per_hour: 0, recipients_per_hour: 0, recipients_per_day: 0, ..limits() };
        assert_eq!(rates(&[(100, 999, 999_999)]).ask(ANNA, 999, &none, 100), Ok(()));
    }

    #[test]
    fn the_brake_pulls_for_a_leap_and_not_for_much_mail_as_ever() {
        let limits = Limits::default();
        for (before, recipients, pulls) in [
            (&[][..], 100, false),
            (&[], 101, true),
            (&[(50, 1, 11)], 110, false),
            (&[(50, 1, 11)], 111, true),
            (&[(50, 1, 400)], 450, false),
            // What was sent in this very hour is no measure of it.
            (&[(100, 1, 60)], 60, true),
        ] {
            let reason = rates(before).count(ANNA, recipients, &limits, 100);
            assert_eq!(reason.is_some(), pulls, "{before:?} {recipients}: {reason:?}");
        }
        let off = Limits { brake_recipients: 0, ..limits };
        assert_eq!(rates(&[]).count(ANNA, 100_000, &off, 100), None);
    }

    #[test]
    fn the_brake_pulls_where_most_recipients_do_not_exist() {
        let mut rates = rates(&[]);
        for number in 0..19 {
            rates.tried(ANNA, number % 3 == 0, 100);
        }
        assert_eq!(rates.count(ANNA, 1, &Limits::default(), 100), None, "too few to tell");
        rates.tried(ANNA, false, 100);
        let reason = rates.count(ANNA, 1, &Limits::default(), 100);
        assert_eq!(reason.as_deref(), Some("13 of 20 recipients within an hour do not exist"));
        assert_eq!(rates.count(ANNA, 1, &Limits::default(), 101), None, "another hour");
    }

    #[test]
    fn recipients_that_other_servers_refuse_count_as_well() {
        let mut rates = rates(&[]);
        let limits = Limits::default();
        for n in 0..BRAKE_BAD_SAMPLE {
            rates.tried(ANNA, true, 1000);
            assert_eq!(rates.count(ANNA, 1, &limits, 1000), None);
            // Nobody is held for what he sent in another hour, or for more refusals than recipients.
            rates.refused_elsewhere(ANNA, 999);
            if n % 2 == 0 {
                rates.refused_elsewhere(ANNA, 1000);
            }
        }
        rates.refused_elsewhere(ANNA, 1000);
        let held = rates.count(ANNA, 1, &limits, 1000);
        assert_eq!(held.as_deref(), Some("11 of 20 recipients within an hour do not exist"));
        (0..100).for_each(|_| rates.refused_elsewhere(ANNA, 1000));
        let held = rates.count(ANNA, 1, &limits, 1000);
        assert_eq!(held.as_deref(), Some("20 of 20 recipients within an hour do not exist"));
        rates.refused_elsewhere("nobody", 1000);
    }

    #[test]
    fn whoever_is_released_may_go_on_as_he_did() {
        let mut rates = rates(&[]);
        assert!(rates.count(ANNA, 150, &Limits::default(), 100).is_some());
        rates.forgive(ANNA, 100);
        assert_eq!(rates.count(ANNA, 150, &Limits::default(), 100), None);
    }

    #[test]
    fn counters_are_kept_for_a_week_and_of_so_many_users() {
        let mut rates = rates(&[(1, 1, 1)]);
        rates.count(ANNA, 1, &Limits::default(), RATE_HOURS + 1);
        assert_eq!(rates.users[ANNA].hours.len(), 1);
        for number in 0..USERS {
            rates.load(&number.to_string(), Vec::new());
        }
        assert_eq!(rates.users.len(), USERS);
        assert!(!rates.knows(ANNA), "the one that was quiet for longest");
    }
}
