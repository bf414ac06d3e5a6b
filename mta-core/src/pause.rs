//! What stands still by the administrator's wish: mail coming in, mail going out, local delivery, single destinations.
//!
//! What it does: answers, from memory, whether something stands still; the queue keeps it across restarts. What it does
//! not: it stops nothing. Sessions and the scheduler ask before they begin something; what is under way goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use mta_queue::Pause;

use crate::routing::Route;

/// Mail coming in by SMTP.
pub const IN: &str = "in";
/// Deliveries to other hosts.
pub const OUT: &str = "out";
/// Deliveries to mailboxes of our own.
pub const LOCAL: &str = "local";
/// Before the name of a destination or next hop.
pub const DESTINATION: &str = "dest:";

/// What stands still is asked about again after this time, should its end ever be missed.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);

/// All pauses. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Pauses {
    pauses: Arc<Mutex<Vec<Pause>>>,
}

impl Pauses {
    /// With what the queue kept.
    pub fn new(kept: Vec<Pause>) -> Self {
        Self { pauses: Arc::new(Mutex::new(kept)) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pause>> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this stands still.
    pub fn set(&self, pause: Pause) {
        let mut pauses = self.lock();
        pauses.retain(|known| known.name != pause.name);
        pauses.push(pause);
        pauses.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// From now on it does not.
    pub fn clear(&self, name: &str) {
        self.lock().retain(|known| known.name != name);
    }

    /// What stands still now.
    pub fn active(&self, now: SystemTime) -> Vec<Pause> {
        self.lock().iter().filter(|pause| is_active(pause, now)).cloned().collect()
    }

    /// Whether something stands still.
    pub fn is_paused(&self, name: &str, now: SystemTime) -> bool {
        self.lock().iter().any(|pause| pause.name == name && is_active(pause, now))
    }

    /// Until when nothing is to be delivered to a destination over its route; `None` where it may be.
    pub fn until(&self, destination: &str, route: &Route, now: SystemTime) -> Option<SystemTime> {
        let pauses = self.lock();
        if pauses.is_empty() {
            return None;
        }
        let kind = if *route == Route::Local { LOCAL } else { OUT };
        let (domain, _) = mta_queue::destination_parts(destination);
        let concerns = |pause: &&Pause| match pause.name.strip_prefix(DESTINATION) {
            None => pause.name == kind,
            Some(name) => name == destination || name == domain || is_next_hop(route, name),
        };
        let concerned = pauses.iter().filter(|pause| is_active(pause, now)).filter(concerns);
        concerned.map(|pause| pause.until.unwrap_or(now + LOOK_AGAIN).min(now + LOOK_AGAIN)).max()
    }
}

/// Whether a route leads to a next hop of this name, with its port or without.
fn is_next_hop(route: &Route, name: &str) -> bool {
    match route {
        Route::Local => false,
        Route::Mx { next_hop } => next_hop.to_string().eq_ignore_ascii_case(name),
        Route::Relay(relay) => {
            relay.host.eq_ignore_ascii_case(name)
                || format!("{}:{}", relay.host, relay.port).eq_ignore_ascii_case(name)
        }
    }
}

fn is_active(pause: &Pause, now: SystemTime) -> bool {
    pause.until.is_none_or(|until| until > now)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use mta_smtp::address::Host;

    use super::*;
    use crate::routing::{RelayHost, RelayTls};

    fn pause(name: &str, until: Option<u64>) -> Pause {
        let until = until.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        Pause { name: name.into(), reason: String::new(), who: "root".into(), since: UNIX_EPOCH, until }
    }

    #[test]
    fn each_pause_stops_what_it_names_and_nothing_else() {
        let mx = |name: &str| Route::Mx { next_hop: Host::parse(name).expect("host") };
        let host = "relay.example".to_owned();
        let relay = Route::Relay(Arc::new(RelayHost { host, port: 25, tls: RelayTls::StartTls, auth: None }));
        let now = UNIX_EPOCH + Duration::from_secs(100);
        for (name, until, destination, route, stops) in [
            ("out", None, "a.example", mx("a.example"), true),
            ("out", None, "own.example", Route::Local, false),
            ("local", None, "own.example", Route::Local, true),
            ("local", None, "a.example", mx("a.example"), false),
            ("in", None, "a.example", mx("a.example"), false),
            ("out", Some(100), "a.example", mx("a.example"), false),
            ("out", Some(101), "a.example", mx("a.example"), true),
            ("dest:a.example", None, "a.example", mx("a.example"), true),
            ("dest:a.example", None, "a.example via b.example", mx("b.example"), true),
            ("dest:a.example", None, "aa.example", mx("aa.example"), false),
            ("dest:relay.example", None, "a.example", relay.clone(), true),
            ("dest:relay.example:25", None, "a.example", relay.clone(), true),
            ("dest:relay.example:26", None, "a.example", relay, false),
        ] {
            let pauses = Pauses::new(vec![pause(name, until)]);
            assert_eq!(pauses.until(destination, &route, now).is_some(), stops, "{name} {destination}");
        }
    }

    #[test]
    fn a_pause_ends_when_it_is_cleared() {
        let pauses = Pauses::default();
        pauses.set(pause("in", None));
        pauses.set(pause("in", Some(10)));
        assert_eq!(pauses.active(UNIX_EPOCH).len(), 1);
        assert!(pauses.is_paused(IN, UNIX_EPOCH) && !pauses.is_paused(OUT, UNIX_EPOCH));
        pauses.clear(IN);
        assert!(!pauses.is_paused(IN, UNIX_EPOCH));
    }
}
