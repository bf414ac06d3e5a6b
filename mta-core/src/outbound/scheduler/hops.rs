//! Next-hops in memory: how many deliveries each has under way, and the back-off of those that many destinations share.
//!
//! What it does: answers whether there is room for one more. What it does not: the back-off of a single destination is
//! the queue's, which survives a restart; a relay host's is learnt anew by the first attempt after one. Only next-hops
//! with something under way, and relay hosts that failed, take memory.

use std::collections::HashMap;
use std::time::SystemTime;

use mta_queue::{DestinationResult, Slot};

use crate::routing::Route;

/// All next-hops that are known.
#[derive(Debug, Default)]
pub(super) struct Hops {
    hops: HashMap<Route, Hop>,
    total: usize,
}

#[derive(Debug, Default)]
struct Hop {
    /// Deliveries under way.
    under_way: usize,
    /// Failures in a row of the next-hop as a whole, where destinations share it.
    failures: u32,
    /// Nothing is tried before this time.
    not_before: Option<SystemTime>,
}

/// Whether destinations share this next-hop, so that its failure is not that of one of them.
pub(super) fn is_shared(route: &Route) -> bool {
    matches!(route, Route::Relay(_))
}

impl Hops {
    /// Deliveries under way.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Failures in a row of a shared next-hop.
    pub(super) fn failures(&self, route: &Route) -> u32 {
        self.hops.get(route).map_or(0, |hop| hop.failures)
    }

    /// Whether one more delivery may start. `destination_failures` are those of the destination in the queue, `given` is
    /// what this round gave away already. What failed is probed by one delivery at a time.
    pub(super) fn slot(
        &self,
        route: &Route,
        destination_failures: u32,
        given: usize,
        limit: usize,
        now: SystemTime,
    ) -> Slot {
        let hop = self.hops.get(route);
        if let Some(not_before) = hop.and_then(|hop| hop.not_before)
            && not_before > now
        {
            return Slot::NotBefore(not_before);
        }
        let is_failing = destination_failures > 0 || hop.is_some_and(|hop| hop.failures > 0);
        let limit = if is_failing { 1 } else { limit.max(1) };
        let in_hand = hop.map_or(0, |hop| hop.under_way) + given;
        match limit.saturating_sub(in_hand) {
            0 => Slot::Busy,
            room => Slot::Take { room, in_hand },
        }
    }

    /// A delivery starts.
    pub(super) fn started(&mut self, route: &Route) {
        self.total += 1;
        self.hops.entry(route.clone()).or_default().under_way += 1;
    }

    /// A delivery ended, whatever came of it.
    pub(super) fn ended(&mut self, route: &Route) {
        self.total = self.total.saturating_sub(1);
        if let Some(hop) = self.hops.get_mut(route) {
            hop.under_way = hop.under_way.saturating_sub(1);
            self.forget(route);
        }
    }

    /// What an attempt said of a shared next-hop.
    pub(super) fn judged(&mut self, route: &Route, result: DestinationResult) {
        if !is_shared(route) {
            return;
        }
        match result {
            DestinationResult::Unknown => {}
            DestinationResult::Works => {
                if let Some(hop) = self.hops.get_mut(route) {
                    (hop.failures, hop.not_before) = (0, None);
                    self.forget(route);
                }
            }
            DestinationResult::Failed { failures, not_before } => {
                let hop = self.hops.entry(route.clone()).or_default();
                hop.failures = hop.failures.max(failures);
                hop.not_before = Some(hop.not_before.map_or(not_before, |known| known.max(not_before)));
            }
        }
    }

    /// Shared next-hops may be tried at once: somebody asked for it, or the configuration changed.
    pub(super) fn forgive(&mut self) {
        self.hops.retain(|_, hop| hop.under_way > 0);
        for hop in self.hops.values_mut() {
            (hop.failures, hop.not_before) = (0, None);
        }
    }

    fn forget(&mut self, route: &Route) {
        if self.hops.get(route).is_some_and(|hop| hop.under_way == 0 && hop.failures == 0) {
            self.hops.remove(route);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use mta_smtp::address::Host;

    use super::*;
    use crate::routing::{RelayHost, RelayTls};

    fn mx(name: &str) -> Route {
        Route::Mx { next_hop: Host::parse(name).expect("host") }
    }

    fn relay() -> Route {
        let host = "relay.example".to_owned();
        Route::Relay(Arc::new(RelayHost { host, port: 25, tls: RelayTls::StartTls, auth: None }))
    }

    #[test]
    fn a_next_hop_has_so_many_at_once_and_a_failing_one_a_single_probe() {
        let mut hops = Hops::default();
        let (one, now) = (mx("one.example"), UNIX_EPOCH);
        assert_eq!(hops.slot(&one, 0, 0, 2, now), Slot::Take { room: 2, in_hand: 0 });
        hops.started(&one);
        assert_eq!(hops.slot(&one, 0, 0, 2, now), Slot::Take { room: 1, in_hand: 1 });
        assert_eq!(hops.slot(&one, 0, 1, 2, now), Slot::Busy, "what this round gave counts");
        assert_eq!(hops.slot(&one, 3, 0, 2, now), Slot::Busy, "a probe is under way");
        assert_eq!(hops.slot(&mx("two.example"), 3, 0, 2, now), Slot::Take { room: 1, in_hand: 0 });
        hops.ended(&one);
        assert_eq!(hops.total(), 0);
        assert!(hops.hops.is_empty(), "what is idle takes no memory");
        assert_eq!(
            hops.slot(&one, 0, 0, 0, now),
            Slot::Take { room: 1, in_hand: 0 },
            "a limit of none is one"
        );
    }

    #[test]
    fn a_relay_host_that_failed_waits_as_a_whole() {
        let mut hops = Hops::default();
        let (relay, now) = (relay(), UNIX_EPOCH);
        let later = now + Duration::from_secs(60);
        hops.started(&relay);
        hops.judged(&relay, DestinationResult::Failed { failures: 1, not_before: later });
        hops.ended(&relay);
        assert_eq!(hops.slot(&relay, 0, 0, 9, now), Slot::NotBefore(later));
        assert_eq!(hops.slot(&relay, 0, 0, 9, later), Slot::Take { room: 1, in_hand: 0 }, "one probe");
        hops.judged(&relay, DestinationResult::Failed { failures: 2, not_before: now });
        assert_eq!(hops.failures(&relay), 2);
        assert_eq!(
            hops.slot(&relay, 0, 0, 9, now),
            Slot::NotBefore(later),
            "an older answer shortens nothing"
        );
        hops.judged(&relay, DestinationResult::Works);
        assert_eq!(hops.slot(&relay, 0, 0, 9, now), Slot::Take { room: 9, in_hand: 0 });
        assert!(hops.hops.is_empty());
    }

    #[test]
    fn the_back_off_of_a_single_destination_is_not_kept_here() {
        let mut hops = Hops::default();
        hops.judged(&mx("one.example"), DestinationResult::Failed { failures: 1, not_before: UNIX_EPOCH });
        assert!(hops.hops.is_empty());
    }

    #[test]
    fn forgiving_keeps_what_is_under_way() {
        let mut hops = Hops::default();
        let relay = relay();
        hops.started(&relay);
        hops.judged(
            &relay,
            DestinationResult::Failed { failures: 1, not_before: UNIX_EPOCH + Duration::from_secs(9) },
        );
        hops.forgive();
        assert_eq!(hops.slot(&relay, 0, 0, 2, UNIX_EPOCH), Slot::Take { room: 1, in_hand: 1 });
    }
}
