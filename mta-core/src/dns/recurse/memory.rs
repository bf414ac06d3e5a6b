//! What own recursion remembers: zone cuts with their servers, and addresses of servers. Nothing here is validated; it
//! only decides who is asked. Bounded in entries, each bounded in size by `response`.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The shortest and longest that anything is remembered: a TTL of 0 would make every lookup begin at the root.
const MIN_AGE: Duration = Duration::from_secs(30);
const MAX_AGE: Duration = Duration::from_secs(86_400);

#[derive(Debug, Clone)]
struct Entry<V> {
    value: V,
    until: Instant,
}

/// A bounded map whose entries expire.
#[derive(Debug)]
pub(super) struct Memory<K, V> {
    entries: Mutex<HashMap<K, Entry<V>>>,
    max_entries: usize,
}

impl<K: Hash + Eq, V: Clone> Memory<K, V> {
    pub(super) fn new(max_entries: usize) -> Self {
        Self { entries: Mutex::new(HashMap::new()), max_entries }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<K, Entry<V>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered and has not expired.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let entries = self.entries();
        entries.get(key).filter(|e| e.until > Instant::now()).map(|e| e.value.clone())
    }

    /// Remembers for `ttl` seconds, within bounds. Where it is full, what has expired goes, and then half of the rest.
    pub(super) fn put(&self, key: K, value: V, ttl: u32) {
        let now = Instant::now();
        let mut entries = self.entries();
        if entries.len() >= self.max_entries && !entries.contains_key(&key) {
            entries.retain(|_, e| e.until > now);
            if entries.len() >= self.max_entries {
                let mut keep = false;
                entries.retain(|_, _| {
                    keep = !keep;
                    keep
                });
            }
        }
        let age = Duration::from_secs(u64::from(ttl)).clamp(MIN_AGE, MAX_AGE);
        entries.insert(key, Entry { value, until: now + age });
    }

    pub(super) fn remove(&self, key: &K) {
        self.entries().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bound_and_keeps_the_newest() {
        let memory = Memory::new(100);
        for i in 0..10_000 {
            memory.put(i, i, 300);
            assert_eq!(memory.get(&i), Some(i));
            assert!(memory.entries().len() <= 100);
        }
        memory.remove(&9_999);
        assert_eq!(memory.get(&9_999), None);
    }
}
