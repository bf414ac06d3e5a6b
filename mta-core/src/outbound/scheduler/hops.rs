//! Next-hops in memory: how many deliveries each has under way and how many it takes, which domains lead to the same
//! hosts, and the back-off of what many destinations share.
//!
//! A delivery counts for its route, for the set of MX hosts that the route led to last, and for the group that these
//! belong to (a provider, or the hosts themselves). The limit that adapts is the group's, or the relay host's; the back-off
//! after a failure is that of the host set, or of the relay host. What leads where is learnt by the attempts.
//!
//! What it does not: the back-off of a single destination is the queue's, which survives a restart; what is kept here is
//! learnt anew by the first attempt after one. What is idle for a while is forgotten, and all of it is bounded.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use mta_queue::Slot;

use super::limit::{Bounds, Limit, Wave};
use crate::routing::Route;

/// An idle next-hop is forgotten, with the limit that was found out for it, after so long.
const IDLE: Duration = Duration::from_secs(600);

/// Where a route led is remembered for so long.
const LEARNT: Duration = Duration::from_secs(6 * 3_600);

/// Next-hops kept while idle, and routes whose hosts are known; beyond it the oldest go.
const MAX_KEPT: usize = 4_096;

/// How often what is over is looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// What deliveries are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Route(Route),
    /// A set of MX hosts.
    Hosts(String),
    /// A provider, where the hosts are one's.
    Group(String),
}

/// By which keys one delivery counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    route: Key,
    hosts: Option<Key>,
    group: Option<Key>,
}

impl Keys {
    /// Whose limit adapts.
    pub(super) fn limit(&self) -> &Key {
        self.group.as_ref().or(self.hosts.as_ref()).unwrap_or(&self.route)
    }

    /// Whose failure is that of all that lead there.
    fn shared(&self) -> Option<&Key> {
        match &self.route {
            Key::Route(Route::Relay(_)) => Some(&self.route),
            _ => self.hosts.as_ref(),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.route).chain(&self.hosts).chain(&self.group)
    }
}

/// Where a route led.
#[derive(Debug, Clone)]
struct Learnt {
    hosts: String,
    group: String,
    at: SystemTime,
}

#[derive(Debug)]
struct Hop {
    under_way: usize,
    limit: Limit,
    /// Failures in a row as a whole.
    failures: u32,
    /// Nothing is tried before this time.
    not_before: Option<SystemTime>,
    used_at: SystemTime,
}

/// All next-hops that are known.
#[derive(Debug)]
pub(super) struct Hops {
    hops: HashMap<Key, Hop>,
    learnt: HashMap<Route, Learnt>,
    total: usize,
    remote: usize,
    swept_at: SystemTime,
}

impl Default for Hops {
    fn default() -> Self {
        let swept_at = SystemTime::UNIX_EPOCH;
        Self { hops: HashMap::new(), learnt: HashMap::new(), total: 0, remote: 0, swept_at }
    }
}

/// A question for room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) route: &'a Route,
    /// Failures in a row of the destination in the queue.
    pub(super) failures: u32,
    /// What this round gave away already.
    pub(super) given: &'a HashMap<Key, usize>,
    pub(super) bounds: Bounds,
    /// Deliveries that may still begin, over all next-hops.
    pub(super) free: usize,
    /// The group is held back until then.
    pub(super) held_until: Option<SystemTime>,
    /// The group was held back and nothing got through since.
    pub(super) recovering: bool,
    pub(super) now: SystemTime,
}

/// One next-hop as the administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopView {
    /// The relay host, the provider, the host set or the domain.
    pub name: String,
    /// `relay`, `group`, `hosts`, `domain` or `local`.
    pub kind: &'static str,
    /// Deliveries under way.
    pub in_use: usize,
    /// Deliveries at once that it is given now; 0 where nothing is counted by it.
    pub limit: usize,
    /// Failures in a row.
    pub failures: u32,
    /// Nothing is tried before.
    pub not_before: Option<SystemTime>,
    /// What a provider's reply meant, where the group is held back for one.
    pub class: Option<&'static str>,
    /// IPv4 only until then.
    pub ipv4_until: Option<SystemTime>,
}

impl Hops {
    /// Deliveries under way.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Next-hops with deliveries under way, and how many.
    pub(super) fn routes_under_way(&self) -> impl Iterator<Item = (&Route, usize)> {
        self.hops.iter().filter(|(_, hop)| hop.under_way > 0).filter_map(|(key, hop)| match key {
            Key::Route(route) => Some((route, hop.under_way)),
            _ => None,
        })
    }

    /// Those to other hosts.
    pub(super) fn remote(&self) -> usize {
        self.remote
    }

    /// By which keys a delivery to this route counts, as far as is known.
    pub(super) fn keys(&self, route: &Route) -> Keys {
        let learnt = self.learnt.get(route);
        let hosts = learnt.map(|learnt| Key::Hosts(learnt.hosts.clone()));
        let group = learnt
            .filter(|learnt| learnt.group != learnt.hosts)
            .map(|learnt| Key::Group(learnt.group.clone()));
        Keys { route: Key::Route(route.clone()), hosts, group }
    }

    /// Kind and name of that whose limit counts for a route.
    pub(super) fn counted_for(&self, route: &Route) -> (&'static str, String) {
        name_of(self.keys(route).limit())
    }

    /// The group of hosts that a route led to last.
    pub(super) fn group(&self, route: &Route) -> Option<&str> {
        self.learnt.get(route).map(|learnt| learnt.group.as_str())
    }

    /// Failures in a row of what this route shares with others.
    pub(super) fn failures(&self, route: &Route) -> u32 {
        let keys = self.keys(route);
        keys.shared().and_then(|key| self.hops.get(key)).map_or(0, |hop| hop.failures)
    }

    /// Whether one more delivery may start. What failed is probed by one delivery at a time. Where deliveries are scarce
    /// nobody has more of them than are left for the others, so that a few stuck next-hops never take all.
    pub(super) fn slot(&self, ask: Ask<'_>) -> Slot {
        let keys = self.keys(ask.route);
        let shared = keys.shared().and_then(|key| self.hops.get(key));
        let not_before = shared.and_then(|hop| hop.not_before).max(ask.held_until);
        if let Some(not_before) = not_before.filter(|time| *time > ask.now) {
            return Slot::NotBefore(not_before);
        }
        let in_hand = |key: &Key| {
            self.hops.get(key).map_or(0, |hop| hop.under_way)
                + ask.given.get(key).copied().unwrap_or_default()
        };
        let used = in_hand(keys.limit());
        let limit = match (ask.route, self.hops.get(keys.limit())) {
            (Route::Local, _) => ask.bounds.max,
            (_, Some(hop)) => hop.limit.get(ask.bounds),
            (_, None) => Limit::new(ask.bounds).get(ask.bounds),
        };
        let limit = usize::try_from(limit.max(1)).unwrap_or(usize::MAX).min(ask.free);
        let limit = if ask.recovering { limit.min(1) } else { limit };
        let mut room = limit.saturating_sub(used);
        let probed = [
            (ask.failures > 0).then_some(&keys.route),
            keys.shared().filter(|_| shared.is_some_and(|hop| hop.failures > 0)),
        ];
        for key in probed.into_iter().flatten() {
            room = room.min(1_usize.saturating_sub(in_hand(key)));
        }
        match room {
            0 => Slot::Busy,
            room => Slot::Take { room, in_hand: used },
        }
    }

    /// A delivery was given away in this round, and not yet started.
    pub(super) fn give(&self, given: &mut HashMap<Key, usize>, route: &Route) {
        for key in self.keys(route).all() {
            *given.entry(key.clone()).or_default() += 1;
        }
    }

    /// A delivery starts. Returns by what it counts.
    pub(super) fn started(&mut self, route: &Route, bounds: Bounds, now: SystemTime) -> (Keys, Wave) {
        self.sweep(now);
        self.total += 1;
        self.remote += usize::from(*route != Route::Local);
        let keys = self.keys(route);
        for key in keys.all() {
            let hop = self.hop(key, bounds, now);
            hop.under_way += 1;
        }
        let wave = self.hops.get(keys.limit()).map_or_else(Wave::default, |hop| hop.limit.wave());
        (keys, wave)
    }

    /// A delivery ended, whatever came of it.
    pub(super) fn ended(&mut self, keys: &Keys, now: SystemTime) {
        self.total = self.total.saturating_sub(1);
        self.remote = self.remote.saturating_sub(usize::from(keys.route != Key::Route(Route::Local)));
        for key in keys.all() {
            if let Some(hop) = self.hops.get_mut(key) {
                hop.under_way = hop.under_way.saturating_sub(1);
                hop.used_at = now;
            }
        }
    }

    /// How many are under way by the limit that counts for a delivery.
    pub(super) fn under_way(&self, keys: &Keys) -> usize {
        self.hops.get(keys.limit()).map_or(0, |hop| hop.under_way)
    }

    /// A route led to these hosts.
    pub(super) fn learn(&mut self, route: &Route, hosts: String, group: String, now: SystemTime) {
        if self.learnt.len() >= MAX_KEPT
            && !self.learnt.contains_key(route)
            && let Some(oldest) = self.learnt.iter().min_by_key(|(_, l)| l.at).map(|(route, _)| route.clone())
        {
            self.learnt.remove(&oldest);
        }
        self.learnt.insert(route.clone(), Learnt { hosts, group, at: now });
    }

    /// The next-hop took mail, or spoke of a message or a mailbox.
    pub(super) fn took(&mut self, route: &Route, bounds: Bounds, now: SystemTime) {
        let keys = self.keys(route);
        self.hop(keys.limit(), bounds, now).limit.succeeded(bounds);
        if let Some(hop) = keys.shared().and_then(|key| self.hops.get_mut(key)) {
            (hop.failures, hop.not_before) = (0, None);
        }
    }

    /// It said that it was too much, or could not be connected to.
    pub(super) fn too_much(&mut self, route: &Route, began: Wave, bounds: Bounds, now: SystemTime) {
        let keys = self.keys(route);
        self.hop(keys.limit(), bounds, now).limit.failed(began);
    }

    /// A provider asked for less.
    pub(super) fn slow(&mut self, route: &Route, bounds: Bounds, now: SystemTime) {
        let keys = self.keys(route);
        self.hop(keys.limit(), bounds, now).limit.cap(1);
    }

    /// All that lead where this route leads have failed with it.
    pub(super) fn failed(
        &mut self,
        route: &Route,
        failures: u32,
        not_before: SystemTime,
        bounds: Bounds,
        now: SystemTime,
    ) {
        let keys = self.keys(route);
        let Some(key) = keys.shared() else { return };
        let hop = self.hop(key, bounds, now);
        hop.failures = hop.failures.max(failures);
        hop.not_before = hop.not_before.max(Some(not_before));
    }

    /// What is shared may be tried at once: somebody asked for it, or the configuration changed.
    pub(super) fn forgive(&mut self) {
        for hop in self.hops.values_mut() {
            (hop.failures, hop.not_before) = (0, None);
        }
    }

    /// The same for what bears this name, and its limit begins anew. Whether there is anything of it.
    pub(super) fn reset(&mut self, name: &str) -> bool {
        let of_name = |key: &Key| name_of(key).1 == name;
        let mut keys: Vec<Key> = self.hops.keys().filter(|key| of_name(key)).cloned().collect();
        let routes = self.learnt.keys().filter(|route| name_of(&Key::Route((*route).clone())).1 == name);
        let led: Vec<Key> =
            routes.flat_map(|route| self.keys(route).all().cloned().collect::<Vec<_>>()).collect();
        keys.extend(led);
        let found = !keys.is_empty();
        for key in keys {
            if self.hops.get(&key).is_some_and(|hop| hop.under_way == 0) {
                self.hops.remove(&key);
            } else if let Some(hop) = self.hops.get_mut(&key) {
                (hop.failures, hop.not_before) = (0, None);
            }
        }
        found
    }

    /// What is known of each next-hop.
    pub(super) fn views(&self, bounds: Bounds) -> Vec<HopView> {
        let mut views: Vec<HopView> = self
            .hops
            .iter()
            .map(|(key, hop)| {
                let (kind, name) = name_of(key);
                HopView {
                    name,
                    kind,
                    in_use: hop.under_way,
                    limit: usize::try_from(hop.limit.get(bounds)).unwrap_or(usize::MAX),
                    failures: hop.failures,
                    not_before: hop.not_before,
                    class: None,
                    ipv4_until: None,
                }
            })
            .collect();
        views.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        views
    }

    fn hop(&mut self, key: &Key, bounds: Bounds, now: SystemTime) -> &mut Hop {
        self.hops.entry(key.clone()).or_insert_with(|| Hop {
            under_way: 0,
            limit: Limit::new(bounds),
            failures: 0,
            not_before: None,
            used_at: now,
        })
    }

    /// Forgets what is over. Nothing depends on when.
    fn sweep(&mut self, now: SystemTime) {
        let since = now.duration_since(self.swept_at);
        if self.hops.len() < MAX_KEPT && since.is_ok_and(|since| since < SWEEP) {
            return;
        }
        self.swept_at = now;
        let age = |at: SystemTime| now.duration_since(at).unwrap_or_default();
        let over = |time: Option<SystemTime>| time.is_none_or(|time| age(time) > IDLE);
        self.learnt.retain(|_, learnt| age(learnt.at) < LEARNT);
        self.hops.retain(|_, hop| {
            hop.under_way > 0 || (hop.failures > 0 && !over(hop.not_before)) || age(hop.used_at) < IDLE
        });
        let beyond = self.hops.len().saturating_sub(MAX_KEPT / 2);
        if self.hops.len() >= MAX_KEPT {
            let mut idle: Vec<(SystemTime, Key)> = self
                .hops
                .iter()
                .filter(|(_, hop)| hop.under_way == 0)
                .map(|(key, hop)| (hop.used_at.max(hop.not_before.unwrap_or(hop.used_at)), key.clone()))
                .collect();
            idle.sort_by_key(|(at, _)| *at);
            for (_, key) in idle.into_iter().take(beyond) {
                self.hops.remove(&key);
            }
        }
    }
}

/// What kind of next-hop it is, and what it is called.
fn name_of(key: &Key) -> (&'static str, String) {
    match key {
        Key::Hosts(hosts) => ("hosts", hosts.clone()),
        Key::Group(group) => ("group", group.clone()),
        Key::Route(Route::Local) => ("local", "local".to_owned()),
        Key::Route(Route::Mx { next_hop }) => ("domain", next_hop.to_string().to_lowercase()),
        Key::Route(Route::Relay(relay)) => ("relay", format!("{}:{}", relay.host, relay.port)),
    }
}

#[cfg(test)]
mod tests;
