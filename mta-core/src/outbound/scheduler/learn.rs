//! What the scheduler makes of an attempt besides the states of its recipients: how much the next-hop takes, what a
//! provider's reply asks for, whether the fault is ours; and what it tells the administrator.
//!
//! What it does not: it reads no outcome itself (`signs`) and decides nothing about a message (`settle`).

use std::time::{Duration, SystemTime};

use mta_queue::{Claim, DestinationResult, Outage};

use super::alert_mail::ALERT;
use super::limit::Wave;
use super::settle::Attempted;
use super::signs::{self, Seen, Sign};
use super::{HopView, Scheduler};
use crate::alert::{Alerts, Kind};
use crate::log::Line;
use crate::outbound::breaker::{Breaker, Change, Evidence, Fault, Outages, Room};
use crate::outbound::provider::{Consequence, Row};
use crate::outbound::{AttemptReport, connect};
use crate::routing::Route;

/// A provider's alert closes by itself after so long without a further reply of its kind.
const PROVIDER_ALERT: Duration = Duration::from_secs(7 * 86_400);

/// What was put off for a fault of ours is due again so soon; the breaker says when it has its turn.
const PUT_OFF: Duration = Duration::from_secs(5);

impl Scheduler {
    /// The outages of before, and the breaker as it stood.
    pub(super) fn recall(&self, now: SystemTime) {
        let stored = match self.queue.reader().outages() {
            Ok(stored) => stored,
            Err(error) => return ::log::error!("{}", Line::new("outages-not-read").with("error", error)),
        };
        let settings = self.options().breaker;
        for outage in stored {
            let fault = Fault::from_word(&outage.fault);
            self.outages().note(outage.began_at, outage.ended_at, fault);
            if let (Some(fault), None) = (fault, outage.ended_at) {
                *self.breaker() = Breaker::open_since(fault, outage.began_at, now, settings);
            }
        }
    }

    /// Reads an attempt, and does at once what does not wait for its record.
    pub(super) fn attempted(
        &self,
        claim: &Claim<Route>,
        report: &AttemptReport,
        failures: u32,
        wave: Wave,
        others_under_way: bool,
    ) -> Attempted {
        let now = SystemTime::now();
        let route = &claim.next_hop;
        if *route == Route::Local {
            let until = report.decision.held_until_unix.map(Duration::from_secs);
            return Attempted::local(failures, until.map(|until| SystemTime::UNIX_EPOCH + until));
        }
        let options = self.options();
        let table = self.site.providers.table();
        let seen = signs::read(&table, report, failures == 0, || connect::has_route(&options.outbound));
        if let Some((hosts, group)) = &seen.hosts {
            self.hops().learn(route, hosts.clone(), group.clone(), now);
        }
        let settings = options.breaker;
        let change = self.breaker().seen(now, &seen.key, seen.evidence, settings);
        if let Some(change) = change {
            self.changed(change, now);
        }
        // What an alert mail runs into must not lead to another.
        let alerts = match claim.message.origin.about.as_deref() {
            Some(ALERT) => self.site.alerts.without_mail(),
            _ => self.site.alerts.clone(),
        };
        let consequence = self.heard(route, &seen, &alerts, now);
        let ours = self.breaker().is_open().is_some() && matches!(seen.evidence, Evidence::Fault { .. });
        let put_off_until = match (consequence, seen.held_until) {
            _ if ours => Some(now + PUT_OFF),
            (Consequence::WithoutIpv6(_), _) => Some(now + PUT_OFF),
            (_, Some(until)) => Some(SystemTime::UNIX_EPOCH + Duration::from_secs(until)),
            _ => None,
        };
        Attempted { failures, seen: Some(seen), wave, others_under_way, consequence, put_off_until, ours }
    }

    /// What an attempt says of how much its next-hop takes.
    pub(super) fn learn(
        &self,
        route: &Route,
        attempted: &Attempted,
        destination: DestinationResult,
        now: SystemTime,
    ) {
        let Some(seen) = &attempted.seen else { return };
        let bounds = self.options().bounds();
        let mut hops = self.hops();
        match seen.sign {
            Sign::Took => hops.took(route, bounds, now),
            Sign::TooMuch | Sign::Broken => hops.too_much(route, attempted.wave, bounds, now),
            Sign::Nothing => {}
        }
        if matches!(attempted.consequence, Consequence::Pause(_)) && seen.sign == Sign::TooMuch {
            hops.slow(route, bounds, now);
        }
        if let DestinationResult::Failed { failures, not_before } = destination {
            // What is wrong with the name of one domain, or with its security, is not the fault of those beside it.
            let is_shared =
                matches!(route, Route::Relay(_)) || matches!(seen.sign, Sign::Broken | Sign::TooMuch);
            let is_pause =
                matches!(attempted.consequence, Consequence::Pause(_)) || seen.held_until.is_some();
            if is_shared && !is_pause {
                hops.failed(route, failures, not_before, bounds, now);
            }
        }
    }

    /// What a known reply leads to.
    fn heard(&self, route: &Route, seen: &Seen, alerts: &Alerts, now: SystemTime) -> Consequence {
        let Some(group) = self.group(route) else { return Consequence::Nothing };
        if seen.delivered && self.site.providers.memory().works(&group, now) {
            alerts.clear(Kind::Provider, &group);
        }
        let Some((row, over_ipv6)) = &seen.heard else { return Consequence::Nothing };
        let consequence = self.site.providers.memory().heard(&group, row, *over_ipv6, now, fastrand::u64(..));
        if row.alert() {
            self.tell(&group, row, consequence, alerts, now);
        }
        consequence
    }

    fn tell(&self, group: &str, row: &Row, consequence: Consequence, alerts: &Alerts, now: SystemTime) {
        let table = self.site.providers.table();
        let (title, contact) = match table.named(group) {
            Some(provider) => (provider.title.clone(), format!(" ({})", provider.contact)),
            None => (group.to_owned(), String::new()),
        };
        let done = match consequence {
            Consequence::Nothing => "",
            Consequence::Pause(_) => "; its hosts are left alone for a while",
            Consequence::WithoutIpv6(_) => "; its hosts are reached over IPv4 only for a day",
        };
        let text = format!("{title} says ({}): {}{done}", row.class.word(), row.class.meaning());
        let remedy = format!("{}{contact}", row.advice());
        alerts.raise_until(Kind::Provider, group, &text, &remedy, Some(now + PROVIDER_ALERT));
    }

    /// The breaker opened or closed.
    fn changed(&self, change: Change, now: SystemTime) {
        let (fault, since, ended_at) = match change {
            Change::Opened { fault, since } => (fault, since, None),
            Change::Closed { fault, since } => (fault, since, Some(now)),
        };
        self.outages().note(since, ended_at, Some(fault));
        self.queue.put_outage(Outage { began_at: since, ended_at, fault: fault.word().to_owned() });
        if ended_at.is_none() {
            self.site.alerts.raise(Kind::SiteFault, fault.word(), fault.text(), fault.remedy());
        } else {
            self.site.alerts.clear(Kind::SiteFault, fault.word());
            self.hops().forgive();
        }
        self.notify();
    }

    /// The name of the group that a route leads to, as far as is known.
    pub(super) fn group(&self, route: &Route) -> Option<String> {
        match route {
            Route::Local => None,
            Route::Relay(relay) => Some(relay.host.clone()),
            Route::Mx { .. } => self.hops().group(route).map(ToOwned::to_owned),
        }
    }

    /// Remote deliveries that may begin now, given those under way; nothing where there is no bound.
    pub(super) fn remote_room(&self, now: SystemTime) -> (Option<usize>, Option<SystemTime>) {
        match self.breaker().room(now) {
            Room::Free => (None, None),
            Room::AtMost(at_once) => (Some(at_once.saturating_sub(self.hops().remote())), None),
            Room::Probe => (Some(1), None),
            Room::Nothing(until) => (Some(0), until),
        }
    }

    /// What is known of each next-hop: what it is given, what is under way, and what is held against it.
    pub fn next_hops(&self) -> Vec<HopView> {
        let mut views = self.hops().views(self.options().bounds());
        let memory = self.site.providers.memory();
        for (group, hold) in memory.all() {
            let paused = hold.paused_until;
            let known = views.iter_mut().find(|view| view.name == group);
            let (class, ipv4_until) = (Some(hold.class.word()), hold.ipv4_until);
            match known {
                Some(view) => {
                    view.not_before = view.not_before.max(paused);
                    (view.class, view.ipv4_until) = (class, ipv4_until);
                }
                None => views.push(HopView {
                    name: group.to_owned(),
                    kind: "group",
                    in_use: 0,
                    limit: 1,
                    failures: 0,
                    not_before: paused,
                    class,
                    ipv4_until,
                }),
            }
        }
        views
    }

    /// Kind and name of the next-hop, among `next_hops`, whose limit counts for a route.
    pub fn counted_for(&self, route: &Route) -> (&'static str, String) {
        self.hops().counted_for(route)
    }

    /// Forgets what is held in memory against a next-hop, by the name that `next_hops` gives it or by a recipient domain.
    /// Whether there was any.
    pub fn reset_next_hop(&self, name: &str) -> bool {
        let route = self.deliver.route(name);
        let group = self.group(&route).unwrap_or_else(|| name.to_owned());
        let found = self.hops().reset(name);
        let held = {
            let mut memory = self.site.providers.memory();
            let held = memory.hold(name).is_some() || memory.hold(&group).is_some();
            memory.forget(name);
            memory.forget(&group);
            held
        };
        self.site.alerts.clear(Kind::Provider, &group);
        self.notify();
        found || held
    }

    /// The fault of this host for which nothing is tried, and since when.
    pub fn site_fault(&self) -> Option<(Fault, SystemTime)> {
        self.breaker().is_open()
    }

    /// The times that do not count. Held for a moment only.
    pub(super) fn outages(&self) -> std::sync::MutexGuard<'_, Outages> {
        self.outages.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The breaker. Held for a moment only.
    pub(super) fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
