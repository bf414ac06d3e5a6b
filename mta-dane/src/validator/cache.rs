//! What was proven and may be used again: the keys of zones, zone cuts, and whole answers, negative ones too.
//!
//! Every entry carries the wall-clock time until which it holds, which is never later than the expiry of a signature it
//! rests on (RFC 4035 5.3.3). Memory is bounded by an estimate in bytes; what was not used since it last came up goes first.
//! It validates nothing: whoever inserts has proven it.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use hickory_proto::dnssec::rdata::{DNSKEY, DS};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::dnssec::{Answer, Hop};

/// Fixed cost of an entry besides its content, in bytes: key in the map and in the queue, the map's and the allocator's slack.
const ENTRY_OVERHEAD: usize = 2 * size_of::<(Name, RecordType)>() + size_of::<Entry<Arc<Answer>>>() + 128;

/// Cost of an answer besides its records and texts, in bytes.
const ANSWER_OVERHEAD: usize = ENTRY_OVERHEAD + size_of::<Answer>();

/// Cost of a record besides what its data allocates, in bytes.
const RECORD_OVERHEAD: usize = size_of::<Record>() + 32;

/// How much memory the cache may take, each an estimate in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// For answers.
    pub answer_bytes: usize,
    /// For zone keys and zone cuts, each.
    pub zone_bytes: usize,
}

impl Default for CacheLimits {
    /// 4 MiB of answers and twice 2 MiB of zones: some thousand domains in use, fit for a small router.
    fn default() -> Self {
        Self { answer_bytes: 4 << 20, zone_bytes: 2 << 20 }
    }
}

/// What the cache holds and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Answers held.
    pub answers: usize,
    /// Zones held with their keys.
    pub zones: usize,
    /// Zone cuts (and places without one) held.
    pub cuts: usize,
    /// Estimated bytes held.
    pub bytes: usize,
    /// Lookups answered from the cache.
    pub hits: u64,
    /// Lookups that had to ask.
    pub misses: u64,
}

/// A validated key set of a secure zone.
#[derive(Debug)]
pub(crate) struct ZoneKeys {
    /// The zone's apex.
    pub(crate) zone: Name,
    /// Usable keys (zone flag, not revoked, supported algorithm) with their tags.
    pub(crate) keys: Vec<(u16, DNSKEY)>,
    /// Unix seconds.
    pub(crate) expires_at: u64,
}

/// What a name is within the zone above it.
#[derive(Debug, Clone)]
pub(crate) enum Cut {
    /// A delegation with validated DS records.
    Secure(Arc<Vec<DS>>),
    /// A delegation that is proven to be insecure, and how.
    Insecure(Arc<str>),
    /// No delegation: the name belongs to the zone above it, or does not exist.
    None,
}

/// The shared cache.
#[derive(Debug)]
pub struct Cache {
    keys: Store<Name, Arc<ZoneKeys>>,
    cuts: Store<Name, Cut>,
    answers: Store<(Name, RecordType), Arc<Answer>>,
    hits: u64,
    misses: u64,
}

impl Cache {
    /// An empty cache.
    pub fn new(limits: CacheLimits) -> Self {
        Self {
            keys: Store::new(limits.zone_bytes),
            cuts: Store::new(limits.zone_bytes),
            answers: Store::new(limits.answer_bytes),
            hits: 0,
            misses: 0,
        }
    }

    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats {
            answers: self.answers.entries.len(),
            zones: self.keys.entries.len(),
            cuts: self.cuts.entries.len(),
            bytes: self.keys.cost + self.cuts.cost + self.answers.cost,
            hits: self.hits,
            misses: self.misses,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.cuts.clear();
        self.answers.clear();
    }

    pub(crate) fn answer(&mut self, name: &Name, rtype: RecordType, now: u64) -> Option<Answer> {
        let key = (name.to_lowercase(), rtype);
        let found = self.answers.get(&key, now).map(|(answer, expires_at)| {
            let mut answer = Answer::clone(&answer);
            answer.ttl_seconds = u32::try_from(expires_at - now).unwrap_or(u32::MAX);
            answer
        });
        if found.is_some() {
            self.hits += 1;
        } else {
            self.misses += 1;
        }
        found
    }

    pub(crate) fn put_answer(&mut self, answer: &Answer, now: u64) {
        let cost = ANSWER_OVERHEAD
            + answer.reason.as_ref().map_or(0, String::len)
            + answer.hops.len() * size_of::<Hop>()
            + answer.records.iter().map(|r| RECORD_OVERHEAD + rdata_cost(&r.data)).sum::<usize>();
        let key = (answer.name.to_lowercase(), answer.rtype);
        let expires_at = now.saturating_add(u64::from(answer.ttl_seconds));
        self.answers.put(key, Arc::new(answer.clone()), now, expires_at, cost);
    }

    pub(crate) fn forget_answer(&mut self, name: &Name, rtype: RecordType) {
        self.answers.remove(&(name.to_lowercase(), rtype));
    }

    pub(crate) fn keys(&mut self, zone: &Name, now: u64) -> Option<Arc<ZoneKeys>> {
        self.keys.get(zone, now).map(|(keys, _)| keys)
    }

    pub(crate) fn put_keys(&mut self, keys: Arc<ZoneKeys>, now: u64) {
        let bytes: usize =
            keys.keys.iter().map(|(_, key)| 64 + public_bytes(key)).sum::<usize>() + ENTRY_OVERHEAD;
        let expires_at = keys.expires_at;
        self.keys.put(keys.zone.to_lowercase(), keys, now, expires_at, bytes);
    }

    /// Forgets what is known of a zone's keys and of the delegation to it.
    pub(crate) fn forget_zone(&mut self, zone: &Name) {
        let zone = zone.to_lowercase();
        self.keys.remove(&zone);
        self.cuts.remove(&zone);
    }

    /// Forgets a zone's keys and keeps its delegation, as if their TTL were the shorter.
    #[cfg(test)]
    pub(crate) fn forget_keys_only(&mut self, zone: &Name) {
        self.keys.remove(&zone.to_lowercase());
    }

    pub(crate) fn cut(&mut self, name: &Name, now: u64) -> Option<(Cut, u64)> {
        self.cuts.get(name, now)
    }

    pub(crate) fn put_cut(&mut self, name: Name, cut: Cut, now: u64, expires_at: u64) {
        let bytes = match &cut {
            Cut::Secure(ds) => ds.iter().map(|ds| 64 + ds.digest().len()).sum(),
            Cut::Insecure(reason) => reason.len(),
            Cut::None => 0,
        };
        self.cuts.put(name, cut, now, expires_at, ENTRY_OVERHEAD + bytes);
    }
}

fn public_bytes(key: &DNSKEY) -> usize {
    use hickory_proto::dnssec::PublicKey as _;
    key.public_key().public_bytes().len()
}

fn rdata_cost(data: &RData) -> usize {
    match data {
        RData::TLSA(tlsa) => tlsa.cert_data.len(),
        RData::TXT(txt) => txt.txt_data.iter().map(|part| part.len() + 16).sum(),
        RData::Unknown { rdata, .. } => rdata.anything.len(),
        _ => 64,
    }
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    inserted_at: u64,
    expires_at: u64,
    cost: usize,
    used: bool,
    /// Tells this entry's place in the queue from a stale one of the same key.
    serial: u64,
}

/// A bounded map with expiry. Eviction gives every entry that was used since it last came up a second round.
#[derive(Debug)]
struct Store<K, V> {
    entries: HashMap<K, Entry<V>>,
    order: VecDeque<(K, u64)>,
    cost: usize,
    max_cost: usize,
    serial: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Store<K, V> {
    fn new(max_cost: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), cost: 0, max_cost, serial: 0 }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
        self.cost = 0;
    }

    /// The value and when it expires. An entry from the future is worthless: the clock was set back.
    fn get(&mut self, key: &K, now: u64) -> Option<(V, u64)> {
        let entry = self.entries.get_mut(key)?;
        if now < entry.inserted_at || now >= entry.expires_at {
            self.remove(key);
            return None;
        }
        entry.used = true;
        Some((entry.value.clone(), entry.expires_at))
    }

    fn put(&mut self, key: K, value: V, now: u64, expires_at: u64, cost: usize) {
        self.remove(&key);
        if expires_at <= now || cost > self.max_cost {
            return;
        }
        self.serial += 1;
        self.order.push_back((key.clone(), self.serial));
        let serial = self.serial;
        self.entries.insert(key, Entry { value, inserted_at: now, expires_at, cost, used: false, serial });
        self.cost += cost;
        self.evict(now);
    }

    fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.cost -= entry.cost;
        }
        // Queue slots of removed entries are skipped by `evict`; many of them are swept here.
        if self.order.len() > 64 + 2 * self.entries.len() {
            let entries = &self.entries;
            self.order.retain(|(key, serial)| entries.get(key).is_some_and(|e| e.serial == *serial));
        }
    }

    fn evict(&mut self, now: u64) {
        // Each round either drops an entry or takes away its second chance, so two rounds are enough.
        let mut rounds = 2 * self.order.len();
        while self.cost > self.max_cost && rounds > 0 {
            rounds -= 1;
            let Some((key, serial)) = self.order.pop_front() else { break };
            let Some(entry) = self.entries.get_mut(&key).filter(|e| e.serial == serial) else { continue };
            if entry.used && entry.expires_at > now {
                entry.used = false;
                self.order.push_back((key, serial));
            } else {
                self.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(max: usize) -> Store<u32, u32> {
        Store::new(max)
    }

    #[test]
    fn an_entry_ends_at_its_expiry_and_when_the_clock_goes_back() {
        let mut s = store(1000);
        s.put(1, 10, 100, 200, 1);
        assert_eq!(s.get(&1, 199), Some((10, 200)));
        assert_eq!(s.get(&1, 200), None);
        s.put(1, 10, 100, 200, 1);
        assert_eq!(s.get(&1, 99), None);
        assert_eq!(s.cost, 0);
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let mut s = store(100);
        s.put(0, 0, 1, 1000, 10);
        for i in 1..10_000 {
            assert!(s.get(&0, 1).is_some(), "the entry in use was dropped at {i}");
            s.put(i, i, 1, 1000, 10);
            assert!(s.cost <= 100);
            assert!(s.order.len() <= 64 + 2 * s.entries.len() + 1);
        }
        assert_eq!(s.entries.len(), 10);
    }

    #[test]
    fn replacing_an_entry_counts_it_once() {
        let mut s = store(100);
        for _ in 0..1000 {
            s.put(1, 1, 1, 1000, 60);
        }
        assert_eq!((s.cost, s.entries.len()), (60, 1));
        assert!(s.order.len() <= 67);
    }
}
