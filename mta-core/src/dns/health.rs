//! Which servers did not answer of late, so that they are asked last. Remembers addresses only, boundedly; a server is
//! never excluded, since it may be the only one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Servers remembered; above it the memory begins anew.
const MAX_SERVERS: usize = 4096;

/// How long a server stays last after its first failure; doubled with each further one.
const FIRST_PENALTY: Duration = Duration::from_secs(15);

/// How long a family without a route is left alone.
const NO_ROUTE: Duration = Duration::from_secs(60);

/// The longest that a server stays last.
const MAX_PENALTY: Duration = Duration::from_secs(900);

#[derive(Debug, Clone, Copy)]
struct Failing {
    times: u32,
    until: Instant,
}

/// The servers that fail, and the address families that this host has no route for.
#[derive(Debug, Default)]
pub(super) struct Health {
    servers: Mutex<HashMap<SocketAddr, Failing>>,
    /// Until when there is said to be no route, for IPv4 and IPv6.
    no_route: Mutex<[Option<Instant>; 2]>,
}

impl Health {
    fn servers(&self) -> MutexGuard<'_, HashMap<SocketAddr, Failing>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn no_route(&self) -> MutexGuard<'_, [Option<Instant>; 2]> {
        self.no_route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The system knows no way to a server: nor will it to others of that family for a while.
    pub(super) fn has_no_route(&self, server: SocketAddr) {
        let until = Some(Instant::now() + NO_ROUTE);
        let [v4, v6] = &mut *self.no_route();
        *(if server.is_ipv4() { v4 } else { v6 }) = until;
    }

    /// Whether asking a server is a waste, since this host has no route for its family.
    pub(super) fn lacks_route(&self, server: SocketAddr) -> bool {
        let [v4, v6] = *self.no_route();
        let until = if server.is_ipv4() { v4 } else { v6 };
        !server.ip().is_loopback() && until.is_some_and(|until| until > Instant::now())
    }

    /// A server answered, whatever it said.
    pub(super) fn answered(&self, server: SocketAddr) {
        self.servers().remove(&server);
    }

    /// A server did not answer, or nothing readable.
    pub(super) fn failed(&self, server: SocketAddr) {
        let mut servers = self.servers();
        if servers.len() >= MAX_SERVERS && !servers.contains_key(&server) {
            servers.clear();
        }
        let now = Instant::now();
        let failing = servers.entry(server).or_insert(Failing { times: 0, until: now });
        failing.times = failing.times.saturating_add(1);
        let penalty = FIRST_PENALTY.saturating_mul(1 << failing.times.min(10).saturating_sub(1));
        failing.until = now + penalty.min(MAX_PENALTY);
    }

    /// Moves failing servers to the end, those that failed most at the very end; the order of the others stays.
    pub(super) fn order(&self, list: &mut [SocketAddr]) {
        let servers = self.servers();
        let now = Instant::now();
        list.sort_by_key(|server| servers.get(server).filter(|f| f.until > now).map_or(0, |f| f.times));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_servers_go_last_until_they_answer() {
        let health = Health::default();
        let [a, b, c]: [SocketAddr; 3] =
            ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"].map(|text| text.parse().unwrap());
        let order = |health: &Health| {
            let mut list = [a, b, c];
            health.order(&mut list);
            list
        };
        health.failed(a);
        health.failed(a);
        health.failed(b);
        assert_eq!(order(&health), [c, b, a]);
        health.answered(a);
        assert_eq!(order(&health), [a, c, b]);
    }

    #[test]
    fn a_family_without_route_is_left_alone_but_loopback_is_not() {
        let health = Health::default();
        let [v4, v6, local]: [SocketAddr; 3] =
            ["192.0.2.1:53", "[2001:db8::1]:53", "[::1]:53"].map(|text| text.parse().unwrap());
        health.has_no_route(v6);
        assert!(health.lacks_route(v6));
        assert!(!health.lacks_route(v4) && !health.lacks_route(local));
    }

    #[test]
    fn memory_is_bounded() {
        let health = Health::default();
        for i in 0..3 * MAX_SERVERS as u32 {
            health.failed(SocketAddr::from((i.to_be_bytes(), 53)));
        }
        assert!(health.servers().len() <= MAX_SERVERS);
    }
}
