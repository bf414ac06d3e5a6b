//! `dest …`, `pause`, `resume` and `queue hold-rule …`: destinations and next hops as a whole, what stands still, and mail
//! to come.

use std::collections::HashMap;
use std::time::SystemTime;

use mta_queue::{DestinationSummary, HoldRule, Pause};

use super::change::reason;
use super::select::time;
use super::{QueueOperations, Rows, failed, to_value};
use crate::control::peer::Peer;
use crate::control::protocol::{
    Code, DestinationArguments, Done, Failure, HoldRuleArguments, PauseArguments,
};
use crate::control::views::{DestinationView, HoldRuleView, PauseView, rfc3339};
use crate::log::Line;
use crate::outbound::scheduler::HopView;
use crate::pause::{DESTINATION, IN, LOCAL, OUT};
use crate::routing::Route;

/// What is known of next-hops, by kind and name.
pub(super) type NextHops = HashMap<(&'static str, String), HopView>;

/// Destinations where no limit is asked for.
const DEFAULT_LIMIT: usize = 50;

/// Destinations at most.
const MAX_LIMIT: usize = 100_000;

/// Octets of a name.
const MAX_NAME: usize = 255;

impl QueueOperations {
    /// A row for each destination, those with the most waiting first.
    pub(super) fn destinations(
        &self,
        arguments: &DestinationArguments,
        row: Rows<'_>,
    ) -> Result<Done, Failure> {
        let limit = if arguments.limit == 0 { DEFAULT_LIMIT } else { arguments.limit.min(MAX_LIMIT) };
        let found = match &arguments.name {
            None => self.reader.destinations(limit + 1).map_err(failed)?,
            Some(name) => self.named(name)?,
        };
        let mut done = Done { more: found.len() > limit, ..Done::default() };
        let now = SystemTime::now();
        let hops = self.next_hops();
        for destination in found.iter().take(limit) {
            done.count += 1;
            if !row(to_value(&self.destination_view(destination, &hops, now))?) {
                break;
            }
        }
        Ok(done)
    }

    /// The destination of this name; where nothing is known of it, as one for which nothing waits.
    fn named(&self, name: &str) -> Result<Vec<DestinationSummary>, Failure> {
        let name = destination_name(name)?;
        let found = self.reader.destination(&name).map_err(failed)?;
        if !found.is_empty() {
            return Ok(found);
        }
        let nothing = DestinationSummary {
            destination: name,
            waiting: 0,
            held: 0,
            failures: 0,
            not_before: None,
            due_at: None,
            last_reply: None,
        };
        Ok(vec![nothing])
    }

    /// What the daemon found out about each next-hop, by kind and name.
    pub(super) fn next_hops(&self) -> NextHops {
        let views =
            self.daemon.as_ref().and_then(|_| self.scheduler()).map(|scheduler| scheduler.next_hops());
        views.unwrap_or_default().into_iter().map(|view| ((view.kind, view.name.clone()), view)).collect()
    }

    pub(super) fn destination_view(
        &self,
        found: &DestinationSummary,
        hops: &NextHops,
        now: SystemTime,
    ) -> DestinationView {
        let route = self.scheduler().map(|scheduler| scheduler.route(&found.destination));
        let hop = route.as_ref().map(ToString::to_string);
        let under_way = self.scheduler().zip(hop.as_ref()).and_then(|(scheduler, hop)| {
            scheduler.under_way().into_iter().find(|(name, _)| name == hop).map(|(_, count)| count as u64)
        });
        let is_paused = match (&self.daemon, &route) {
            (Some(daemon), Some(route)) => daemon.pauses.until(&found.destination, route, now).is_some(),
            _ => false,
        };
        let counted = self.scheduler().zip(route.as_ref());
        let counted = counted.and_then(|(scheduler, route)| hops.get(&scheduler.counted_for(route)));
        let counted = counted.filter(|_| route != Some(Route::Local));
        let later = |time: Option<SystemTime>| time.filter(|time| *time > now).map(rfc3339);
        DestinationView {
            at_once: counted.map(|view| view.limit as u64),
            counted_for: counted.map(|view| view.name.clone()),
            slowed_by: counted.and_then(|view| view.class).map(str::to_owned),
            held_back_until: counted.and_then(|view| later(view.not_before)),
            ipv4_only_until: counted.and_then(|view| later(view.ipv4_until)),
            destination: found.destination.clone(),
            next_hop: hop,
            waiting: found.waiting,
            held: found.held,
            under_way: under_way.unwrap_or(0),
            failures: found.failures,
            back_off_until: found.not_before.filter(|until| *until > now).map(rfc3339),
            due_at: found.due_at.map(rfc3339),
            last_reply: found.last_reply.clone(),
            paused: is_paused,
        }
    }

    /// Forgets that a destination failed; what waits for it is due by its own time.
    pub(super) fn reset_destination(&self, name: &str) -> Result<Done, Failure> {
        let (queue, scheduler) = self.writing()?;
        let name = destination_name(name)?;
        let mut known = queue.reset_destination(&name).map_err(failed)?;
        if self.daemon.is_some() {
            known |= scheduler.reset_next_hop(&name);
            scheduler.retry_next_hops();
        }
        Ok(Done { count: u64::from(known), ..Done::default() })
    }

    /// Lets something stand still, across restarts.
    pub(super) fn pause(&self, peer: &Peer, arguments: &PauseArguments) -> Result<Done, Failure> {
        let (queue, _) = self.writing()?;
        let pause = Pause {
            name: pause_name(&arguments.name)?,
            reason: reason(&arguments.reason),
            who: peer.user.clone(),
            since: SystemTime::now(),
            until: arguments.until.as_deref().map(time).transpose()?,
        };
        queue.pause(pause.clone()).map_err(failed)?;
        let line = Line::new("paused").with("what", &pause.name).with("by", &pause.who);
        ::log::warn!("{}", line.with("reason", &pause.reason).with_some("until", arguments.until.as_ref()));
        if let Some(daemon) = &self.daemon {
            daemon.pauses.set(pause);
        }
        Ok(Done { count: 1, ..Done::default() })
    }

    /// Lets it move on.
    pub(super) fn resume(&self, name: &str) -> Result<Done, Failure> {
        let (queue, scheduler) = self.writing()?;
        let name = pause_name(name)?;
        let was_paused = queue.resume(&name).map_err(failed)?;
        if let Some(daemon) = &self.daemon {
            daemon.pauses.clear(&name);
        }
        if was_paused {
            queue.wake_destinations().map_err(failed)?;
            if self.daemon.is_some() {
                scheduler.notify();
            }
        }
        Ok(Done { count: u64::from(was_paused), ..Done::default() })
    }

    /// A row for each rule.
    pub(super) fn hold_rules(&self, row: Rows<'_>) -> Result<Done, Failure> {
        let mut done = Done::default();
        for rule in self.reader.hold_rules().map_err(failed)? {
            done.count += 1;
            row(to_value(&HoldRuleView::from(rule))?);
        }
        Ok(done)
    }

    /// Adds a rule; `count` is its number.
    pub(super) fn add_hold_rule(&self, peer: &Peer, arguments: &HoldRuleArguments) -> Result<Done, Failure> {
        let (queue, _) = self.writing()?;
        let bounded = |text: &Option<String>| text.as_ref().is_none_or(|text| text.len() <= MAX_NAME);
        if !bounded(&arguments.to) || !bounded(&arguments.from) {
            return Err(Failure::new(Code::BadRequest, format!("an address has at most {MAX_NAME} octets")));
        }
        let rule = HoldRule {
            recipient: arguments.to.clone(),
            reverse_path: arguments.from.clone(),
            reason: reason(&arguments.reason),
            who: peer.user.clone(),
            until: arguments.until.as_deref().map(time).transpose()?,
            ..HoldRule::default()
        };
        let count = queue.add_hold_rule(rule, SystemTime::now()).map_err(failed)?;
        Ok(Done { count, ..Done::default() })
    }

    /// Removes a rule.
    pub(super) fn remove_hold_rule(&self, id: i64) -> Result<Done, Failure> {
        let (queue, _) = self.writing()?;
        if queue.remove_hold_rule(id).map_err(failed)? {
            return Ok(Done { count: 1, ..Done::default() });
        }
        let message =
            format!("there is no hold rule {id}; `mta-cli queue hold-rule list` shows those there are");
        Err(Failure::new(Code::NotFound, message))
    }

    /// What stands still, from memory or from the files.
    pub(super) fn pauses(&self) -> Result<Vec<PauseView>, Failure> {
        let now = SystemTime::now();
        let pauses = match &self.daemon {
            Some(daemon) => daemon.pauses.active(now),
            None => self.reader.pauses().map_err(failed)?,
        };
        Ok(pauses
            .into_iter()
            .filter(|p| p.until.is_none_or(|until| until > now))
            .map(PauseView::from)
            .collect())
    }
}

/// The name of a destination or next hop: one word.
fn destination_name(text: &str) -> Result<String, Failure> {
    let name = text.trim().trim_start_matches('@').trim_end_matches('.').to_lowercase();
    let plain = |c: char| !c.is_control() && !c.is_whitespace();
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
        let shown = crate::log::visible(text);
        return Err(Failure::new(Code::BadRequest, format!("{shown:?} is no name of a destination")));
    }
    Ok(name)
}

/// What can stand still.
fn pause_name(text: &str) -> Result<String, Failure> {
    match text.strip_prefix(DESTINATION) {
        Some(name) => Ok(format!("{DESTINATION}{}", destination_name(name)?)),
        None if [IN, OUT, LOCAL].contains(&text) => Ok(text.to_owned()),
        None => {
            let shown = crate::log::visible(text);
            let message =
                format!("{shown:?} cannot be paused; expected in, out or local, or dest pause NAME");
            Err(Failure::new(Code::BadRequest, message))
        }
    }
}
