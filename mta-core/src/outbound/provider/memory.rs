//! What is held against a group of MX hosts for now: left alone until a time, IPv4 only until a time. A pure machine.
//!
//! A pause grows with each reply of the kind, and the first message that is taken ends it. What it does not: it reads no
//! clock; it is lost at a restart, after which the first reply teaches it again (the destination that got it keeps its
//! own time in the queue).

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::table::{Class, Row};

/// Groups remembered; beyond it those go that are over, then the one that ends first.
const MAX_GROUPS: usize = 1_024;

/// A pause is never longer, however often it was earned.
const MAX_PAUSE: Duration = Duration::from_secs(12 * 3_600);

/// How long IPv6 is not used with a group that wants a reverse name of us.
const WITHOUT_IPV6: Duration = Duration::from_secs(86_400);

/// A group that was not heard of for so long begins anew.
const FORGET_AFTER: Duration = Duration::from_secs(86_400);

/// What is held against one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Why.
    pub class: Class,
    /// Nothing is tried before.
    pub paused_until: Option<SystemTime>,
    /// IPv4 only until then.
    pub ipv4_until: Option<SystemTime>,
    /// Pauses in a row.
    times: u32,
    heard_at: SystemTime,
}

impl Hold {
    fn ends(&self) -> SystemTime {
        let last = self.paused_until.into_iter().chain(self.ipv4_until).max();
        last.unwrap_or(self.heard_at).max(self.heard_at + FORGET_AFTER)
    }
}

/// What follows from a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// Nothing for the group.
    Nothing,
    /// The group is left alone until then.
    Pause(SystemTime),
    /// The group is tried again over IPv4 at once.
    WithoutIpv6(SystemTime),
}

/// The groups.
#[derive(Debug, Default)]
pub struct Memory {
    groups: HashMap<String, Hold>,
}

impl Memory {
    /// What is held against a group.
    pub fn hold(&self, group: &str) -> Option<&Hold> {
        self.groups.get(group)
    }

    /// All that is held.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Hold)> {
        self.groups.iter().map(|(group, hold)| (group.as_str(), hold))
    }

    /// A host of the group gave a reply of this row. `over_ipv6` is how it was reached, `random` a number drawn anew:
    /// a pause is up to a fifth longer, so that groups do not come back together.
    pub fn heard(
        &mut self,
        group: &str,
        row: &Row,
        over_ipv6: bool,
        now: SystemTime,
        random: u64,
    ) -> Consequence {
        let switch = row.class == Class::ReverseName && over_ipv6;
        if !switch && row.pause().is_zero() {
            return Consequence::Nothing;
        }
        self.make_room(group, now);
        let fresh = Hold { class: row.class, paused_until: None, ipv4_until: None, times: 0, heard_at: now };
        let hold = self.groups.entry(group.to_owned()).or_insert(fresh);
        (hold.class, hold.heard_at) = (row.class, now);
        if switch {
            let until = now + WITHOUT_IPV6;
            hold.ipv4_until = Some(until);
            return Consequence::WithoutIpv6(until);
        }
        // Replies to deliveries that were under way when the pause began earn nothing more.
        if let Some(until) = hold.paused_until
            && until > now
        {
            return Consequence::Pause(until);
        }
        let pause = row.pause().saturating_mul(1 << hold.times.min(8)).min(MAX_PAUSE.max(row.pause()));
        hold.times = hold.times.saturating_add(1);
        let spread = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX) / 5;
        let until = now + pause + Duration::from_millis(random % (spread + 1));
        hold.paused_until = Some(until);
        Consequence::Pause(until)
    }

    /// A host of the group took a message. Whether something was held against it.
    pub fn works(&mut self, group: &str, now: SystemTime) -> bool {
        let Some(hold) = self.groups.get_mut(group) else { return false };
        let was_paused = hold.paused_until.take().is_some();
        hold.times = 0;
        if hold.ipv4_until.is_none_or(|until| until <= now) {
            self.groups.remove(group);
        }
        was_paused
    }

    /// The administrator wants it tried.
    pub fn forget(&mut self, group: &str) {
        self.groups.remove(group);
    }

    /// The administrator wants all tried.
    pub fn forget_all(&mut self) {
        self.groups.clear();
    }

    fn make_room(&mut self, group: &str, now: SystemTime) {
        if self.groups.len() < MAX_GROUPS || self.groups.contains_key(group) {
            return;
        }
        self.groups.retain(|_, hold| hold.ends() > now);
        if self.groups.len() >= MAX_GROUPS
            && let Some(first) =
                self.groups.iter().min_by_key(|(_, hold)| hold.ends()).map(|(name, _)| name.clone())
        {
            self.groups.remove(&first);
        }
    }
}
