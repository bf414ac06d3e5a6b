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

/// The longest that a server stays last.
const MAX_PENALTY: Duration = Duration::from_secs(900);

#[derive(Debug, Clone, Copy)]
struct Failing {
    times: u32,
    until: Instant,
}

/// The servers that fail.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<HashMap<SocketAddr, Failing>>);

impl Health {
    fn servers(&self) -> MutexGuard<'_, HashMap<SocketAddr, Failing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn memory_is_bounded() {
        let health = Health::default();
        for i in 0..3 * MAX_SERVERS as u32 {
            health.failed(SocketAddr::from((i.to_be_bytes(), 53)));
        }
        assert!(health.servers().len() <= MAX_SERVERS);
    }
}
