//! How many connections at a time, in all and from one client address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts open connections. Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub struct ConnectionLimit {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    /// By client; an entry is never 0.
    clients: HashMap<IpAddr, usize>,
}

/// Why a connection is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Too many in all.
    Total,
    /// Too many from this client.
    Client,
}

/// The right to one connection, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    counts: Arc<Mutex<Counts>>,
    client: IpAddr,
}

impl ConnectionLimit {
    /// Counts one more connection, unless that would exceed `total` in all or `per_client` from this client.
    ///
    /// # Errors
    /// Which of the two is full.
    pub fn acquire(&self, client: IpAddr, total: usize, per_client: usize) -> Result<Permit, Full> {
        let client = counted_as(client);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= total {
            return Err(Full::Total);
        }
        let of_client = counts.clients.get(&client).copied().unwrap_or_default();
        if of_client >= per_client {
            return Err(Full::Client);
        }
        counts.total += 1;
        counts.clients.insert(client, of_client + 1);
        Ok(Permit { counts: Arc::clone(&self.counts), client })
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total = counts.total.saturating_sub(1);
        if let Some(of_client) = counts.clients.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                counts.clients.remove(&self.client);
            }
        }
    }
}

/// The address a client counts by: an IPv6 client has a /64 to itself, so that is one client.
pub(crate) fn counted_as(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn both_bounds_hold_and_permits_come_back() {
        let limit = ConnectionLimit::default();
        let a = limit.acquire(ip("192.0.2.1"), 3, 2).expect("first");
        let _b = limit.acquire(ip("192.0.2.1"), 3, 2).expect("second");
        assert_eq!(limit.acquire(ip("::ffff:192.0.2.1"), 3, 2).err(), Some(Full::Client));
        let _c = limit.acquire(ip("2001:db8::1"), 3, 2).expect("another client");
        assert_eq!(limit.acquire(ip("192.0.2.2"), 3, 2).err(), Some(Full::Total));
        drop(a);
        assert_eq!(limit.open(), 2);
        limit.acquire(ip("192.0.2.1"), 3, 2).expect("given back");
    }

    #[test]
    fn an_ipv6_client_counts_by_its_network() {
        let limit = ConnectionLimit::default();
        let _a = limit.acquire(ip("2001:db8::1"), 9, 1).expect("first");
        assert_eq!(limit.acquire(ip("2001:db8::2:3:4:5"), 9, 1).err(), Some(Full::Client));
        limit.acquire(ip("2001:db8:0:1::1"), 9, 1).expect("another network");
    }

    #[test]
    fn nothing_is_kept_of_clients_that_left() {
        let limit = ConnectionLimit::default();
        drop(limit.acquire(ip("192.0.2.1"), 9, 9));
        assert!(limit.counts.lock().expect("not poisoned").clients.is_empty());
    }
}
