//! Guessing passwords is made slow: failed logins are counted by client and by user.
//!
//! What it does: after each failure the next attempt waits longer; after many a client is refused for a while, and so is a
//! user, except from where he logged in before: nobody can lock him out. What it does not: no clock, no waiting, no log.
//!
//! Memory is bounded: at most [`Options::entries`] clients and as many users; the oldest go first. A user counts by a hash of
//! his name, so that a name costs nothing, however long. An IPv6 client counts by its /64.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::net::counted_as;

/// From how many networks that a user logged in from is known.
const GOOD_NETWORKS: usize = 8;

/// The longest wait before an attempt.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The bounds. `Default` gives the values named at each field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Failures of one client after which it is refused; 10.
    pub client_failures: u32,
    /// Failures of one user after which logins from elsewhere than before are refused; 50.
    pub user_failures: u32,
    /// How long both last; also how long a failure is remembered. 15 minutes.
    pub block: Duration,
    /// Clients, and users, that are remembered; 10 000.
    pub entries: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { client_failures: 10, user_failures: 50, block: Duration::from_secs(15 * 60), entries: 10_000 }
    }
}

/// What an attempt is met with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is looked at, after this wait.
    After(Duration),
    /// The client has failed too often.
    ClientBlocked,
    /// Too many have failed as this user.
    UserBlocked,
}

/// What one failure led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// Failures of this client, this one counted.
    pub client_failures: u32,
    /// The client is refused from now on.
    pub client_blocked: bool,
    /// The user is from now on.
    pub user_blocked: bool,
}

#[derive(Debug, Clone)]
struct Count {
    failures: u32,
    last: Instant,
    /// Of a user: from where he logged in.
    good: Vec<IpAddr>,
}

/// The counters.
#[derive(Debug, Default)]
pub struct Guard {
    clients: HashMap<IpAddr, Count>,
    users: HashMap<u64, Count>,
    hasher: RandomState,
}

impl Guard {
    /// Whether a client is refused whatever it says.
    pub fn is_blocked(&self, client: IpAddr, options: &Options, now: Instant) -> bool {
        let failures = fresh(self.clients.get(&counted_as(client)), options, now);
        failures >= options.client_failures
    }

    /// What an attempt of this client as this user is met with. Without a user only the client counts.
    pub fn ask(&self, client: IpAddr, user: Option<&str>, options: &Options, now: Instant) -> Admission {
        if self.is_blocked(client, options, now) {
            return Admission::ClientBlocked;
        }
        let client = counted_as(client);
        let of_client = fresh(self.clients.get(&client), options, now);
        let known = user.and_then(|user| self.users.get(&self.key(user)));
        if known.is_some_and(|count| count.good.contains(&client)) {
            return Admission::After(wait(of_client));
        }
        let of_user = fresh(known, options, now);
        if of_user >= options.user_failures {
            return Admission::UserBlocked;
        }
        Admission::After(wait(of_client).max(wait(of_user / 4)))
    }

    /// Counts a failure. One without a user counts for the client alone, or anybody could lock out all who name none.
    pub fn failed(&mut self, client: IpAddr, user: Option<&str>, options: &Options, now: Instant) -> Failed {
        let client_failures = count(&mut self.clients, counted_as(client), options, now);
        let user = user.map(|user| self.key(user));
        let user_failures = user.map(|key| count(&mut self.users, key, options, now));
        Failed {
            client_failures,
            client_blocked: client_failures == options.client_failures,
            user_blocked: user_failures == Some(options.user_failures),
        }
    }

    /// The client is who it says: its own failures are forgotten, and this is a place from where the user logs in.
    pub fn succeeded(&mut self, client: IpAddr, user: &str, options: &Options, now: Instant) {
        let client = counted_as(client);
        self.clients.remove(&client);
        let key = self.key(user);
        make_room(&mut self.users, &key, options.entries);
        let count =
            self.users.entry(key).or_insert_with(|| Count { failures: 0, last: now, good: Vec::new() });
        count.last = now;
        if !count.good.contains(&client) {
            count.good.truncate(GOOD_NETWORKS - 1);
            count.good.insert(0, client);
        }
    }

    fn key(&self, user: &str) -> u64 {
        self.hasher.hash_one(user)
    }
}

/// Failures that still count.
fn fresh(count: Option<&Count>, options: &Options, now: Instant) -> u32 {
    count
        .filter(|count| now.saturating_duration_since(count.last) < options.block)
        .map_or(0, |count| count.failures)
}

/// Half a second after the first failure, twice as long after each further one.
fn wait(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => Duration::from_millis(500)
            .saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX))
            .min(LONGEST_WAIT),
    }
}

fn count<K: std::hash::Hash + Eq + Copy>(
    counts: &mut HashMap<K, Count>,
    key: K,
    options: &Options,
    now: Instant,
) -> u32 {
    make_room(counts, &key, options.entries);
    let count = counts.entry(key).or_insert_with(|| Count { failures: 0, last: now, good: Vec::new() });
    if now.saturating_duration_since(count.last) >= options.block {
        count.failures = 0;
    }
    count.failures = count.failures.saturating_add(1);
    count.last = now;
    count.failures
}

/// Where it is full and this one is new, the older half goes: rarely, and all at once.
fn make_room<K: std::hash::Hash + Eq + Copy>(counts: &mut HashMap<K, Count>, key: &K, entries: usize) {
    if counts.len() < entries || counts.contains_key(key) {
        return;
    }
    let mut times: Vec<Instant> = counts.values().map(|count| count.last).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    counts.retain(|_, count| count.last > median);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn options() -> Options {
        Options { client_failures: 4, user_failures: 6, entries: 100, ..Options::default() }
    }

    #[test]
    fn each_failure_makes_the_next_attempt_wait_longer_until_none_is_taken() {
        let (mut guard, options, now) = (Guard::default(), options(), Instant::now());
        let client = ip("192.0.2.1");
        let mut waits = Vec::new();
        for failure in 1..=4 {
            let Admission::After(wait) = guard.ask(client, Some("anna"), &options, now) else {
                panic!("not yet refused")
            };
            waits.push(wait.as_millis());
            let failed = guard.failed(client, Some("anna"), &options, now);
            assert_eq!((failed.client_failures, failed.client_blocked), (failure, failure == 4));
        }
        assert_eq!(waits, [0, 500, 1000, 2000]);
        assert_eq!(guard.ask(client, Some("ben"), &options, now), Admission::ClientBlocked);
        assert!(guard.is_blocked(ip("::ffff:192.0.2.1"), &options, now));
        assert!(!guard.is_blocked(ip("192.0.2.2"), &options, now));
        let later = now + options.block;
        assert_eq!(guard.ask(client, Some("anna"), &options, later), Admission::After(Duration::ZERO));
        assert_eq!(guard.failed(client, Some("anna"), &options, later).client_failures, 1);
    }

    #[test]
    fn failures_without_a_name_lock_out_no_other_without_one() {
        let (mut guard, options, now) = (Guard::default(), options(), Instant::now());
        for host in 1..=20 {
            let failed = guard.failed(IpAddr::from([192, 0, 2, host]), None, &options, now);
            assert!(!failed.user_blocked);
        }
        assert_eq!(guard.ask(ip("198.51.100.1"), None, &options, now), Admission::After(Duration::ZERO));
    }

    #[test]
    fn an_ipv6_client_counts_by_its_network() {
        let (mut guard, options, now) = (Guard::default(), options(), Instant::now());
        for host in 1..=4 {
            guard.failed(ip(&format!("2001:db8::{host}")), Some("anna"), &options, now);
        }
        assert!(guard.is_blocked(ip("2001:db8::ffff"), &options, now));
        assert!(!guard.is_blocked(ip("2001:db8:0:1::1"), &options, now));
    }

    #[test]
    fn guesses_from_many_places_do_not_lock_a_user_out() {
        let (mut guard, options, now) = (Guard::default(), options(), Instant::now());
        let home = ip("203.0.113.1");
        guard.succeeded(home, "anna", &options, now);
        for host in 1..=6 {
            guard.failed(ip(&format!("192.0.2.{host}")), Some("anna"), &options, now);
        }
        assert_eq!(guard.ask(ip("198.51.100.1"), Some("anna"), &options, now), Admission::UserBlocked);
        assert_eq!(guard.ask(home, Some("anna"), &options, now), Admission::After(Duration::ZERO));
        assert_eq!(
            guard.ask(ip("198.51.100.1"), Some("ben"), &options, now),
            Admission::After(Duration::ZERO)
        );
    }

    #[test]
    fn a_success_forgets_the_failures_of_its_client() {
        let (mut guard, options, now) = (Guard::default(), options(), Instant::now());
        let client = ip("192.0.2.1");
        guard.failed(client, Some("anna"), &options, now);
        guard.succeeded(client, "anna", &options, now);
        assert_eq!(guard.ask(client, Some("anna"), &options, now), Admission::After(Duration::ZERO));
    }

    #[test]
    fn memory_is_bounded_whoever_tries() {
        let (mut guard, options, now) = (Guard::default(), options(), Instant::now());
        for number in 0..10_000_u32 {
            let time = now + Duration::from_millis(u64::from(number));
            let client = IpAddr::V4(std::net::Ipv4Addr::from(number));
            guard.failed(client, Some(&number.to_string()), &options, time);
            assert!(guard.clients.len() <= options.entries && guard.users.len() <= options.entries);
        }
        let last = IpAddr::V4(std::net::Ipv4Addr::from(9_999));
        assert_eq!(fresh(guard.clients.get(&last), &options, now), 1, "the newest stay");
    }
}
