//! A resolver that answers from a table, for tests: of this crate and of those that build on it.
//!
//! What is not in the table does not exist (a secure NXDOMAIN). It follows aliases as the real one does and composes the
//! status of the whole; it sends nothing and validates nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_channel::{Receiver, Sender};
use hickory_proto::rr::rdata::{CNAME, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use mta_dane::dnssec::{Answer, Hop, Kind, Status};

use super::{LookupFuture, Resolver};

/// Aliases followed before a lookup fails; as many as the real resolver follows.
const MAX_HOPS: usize = 10;

/// The TTL of every answer.
const TTL: u32 = 300;

type Key = (Name, RecordType);

#[derive(Debug, Clone)]
enum Entry {
    Data(Status, Vec<RData>),
    NoData(Status),
    Error(Status, String),
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Key, Entry>,
    denied: HashMap<Name, Status>,
    aliases: HashMap<Name, (Name, Status)>,
    whole: HashMap<Key, Arc<Answer>>,
    held: HashMap<Key, Receiver<()>>,
    asked: Vec<Key>,
    site_fault: Option<String>,
    forgotten: Vec<Key>,
}

/// A table of answers. Cheap to clone; clones share the table, so answers can be changed while it is in use.
///
/// Names are given as text, with or without the last dot; record data in presentation format, TXT as it is.
///
/// # Panics
/// The builders panic on a name or on data that cannot be read: the test is wrong.
#[derive(Debug, Clone, Default)]
pub struct FakeResolver(Arc<Mutex<Table>>);

/// Holds an answer back for as long as it lives.
#[derive(Debug)]
#[must_use = "the answer is released when this is dropped"]
pub struct Held(#[allow(dead_code, reason = "closing the channel is what releases")] Sender<()>);

impl FakeResolver {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, owner: &str, rtype: RecordType, entry: Entry) -> &Self {
        self.table().entries.insert((name(owner), rtype), entry);
        self
    }

    /// Secure records: `secure("mx.example", RecordType::A, &["192.0.2.1"])`.
    pub fn secure(&self, owner: &str, rtype: RecordType, data: &[&str]) -> &Self {
        self.data(owner, rtype, Status::Secure, data)
    }

    /// Records of an unsigned zone.
    pub fn insecure(&self, owner: &str, rtype: RecordType, data: &[&str]) -> &Self {
        self.data(owner, rtype, Status::Insecure, data)
    }

    /// Records of a status.
    pub fn data(&self, owner: &str, rtype: RecordType, status: Status, data: &[&str]) -> &Self {
        let data = data.iter().map(|text| rdata(rtype, text)).collect();
        self.put(owner, rtype, Entry::Data(status, data))
    }

    /// Signatures exist and do not hold.
    pub fn bogus(&self, owner: &str, rtype: RecordType) -> &Self {
        self.put(owner, rtype, Entry::Error(Status::Bogus, "the signature does not hold".to_owned()))
    }

    /// No usable answer.
    pub fn unavailable(&self, owner: &str, rtype: RecordType) -> &Self {
        self.put(owner, rtype, Entry::Error(Status::Unavailable, "no response in time".to_owned()))
    }

    /// The name exists, the type does not.
    pub fn nodata(&self, owner: &str, rtype: RecordType, status: Status) -> &Self {
        self.put(owner, rtype, Entry::NoData(status))
    }

    /// The name does not exist, whatever the type. (Without an entry a name does not exist securely.)
    pub fn nxdomain(&self, owner: &str, status: Status) -> &Self {
        self.table().denied.insert(name(owner), status);
        self
    }

    /// The name is an alias; this hop has the given status.
    pub fn cname(&self, owner: &str, target: &str, status: Status) -> &Self {
        self.table().aliases.insert(name(owner), (name(target), status));
        self
    }

    /// No lookup can work, for this reason, which lies on this host.
    pub fn break_site(&self, why: &str) -> &Self {
        self.table().site_fault = Some(why.to_owned());
        self
    }

    /// Any answer, as it is.
    pub fn answer(&self, answer: Answer) -> &Self {
        self.table().whole.insert((lower(answer.name.clone()), answer.rtype), Arc::new(answer));
        self
    }

    /// Lookups of this question wait until what is returned is dropped.
    pub fn hold(&self, owner: &str, rtype: RecordType) -> Held {
        let (sender, receiver) = async_channel::bounded(1);
        self.table().held.insert((name(owner), rtype), receiver);
        Held(sender)
    }

    /// Every question so far, in order.
    pub fn asked(&self) -> Vec<(Name, RecordType)> {
        self.table().asked.clone()
    }

    /// Every question that was to be forgotten, in order.
    pub fn forgotten(&self) -> Vec<(Name, RecordType)> {
        self.table().forgotten.clone()
    }
}

impl Table {
    fn resolve(&self, asked: &Name, rtype: RecordType) -> Answer {
        if let Some(answer) = self.whole.get(&(lower(asked.clone()), rtype)) {
            return Answer::clone(answer);
        }
        let mut answer = Answer {
            name: asked.clone(),
            rtype,
            status: Status::Secure,
            kind: Kind::NxDomain,
            hops: Vec::new(),
            records: Vec::new(),
            ttl_seconds: TTL,
            reason: None,
        };
        let mut here = lower(asked.clone());
        while let Some((target, status)) = self.aliases.get(&here) {
            if rtype == RecordType::CNAME {
                let data = RData::CNAME(CNAME(target.clone()));
                answer.records = vec![Record::from_rdata(here, TTL, data)];
                answer.kind = Kind::Data;
                answer.status = *status;
                return answer;
            }
            answer.status = answer.status.weakest(*status);
            answer.hops.push(Hop { owner: here, target: target.clone(), status: *status });
            if answer.status.is_error() || answer.hops.len() > MAX_HOPS {
                let status = answer.status.weakest(Status::Bogus);
                return Answer {
                    hops: answer.hops,
                    ..error(asked, rtype, status, "the alias chain does not hold")
                };
            }
            here = target.clone();
        }
        self.finish(answer, &here)
    }

    fn finish(&self, mut answer: Answer, last: &Name) -> Answer {
        let exists = self.entries.keys().any(|(owner, _)| last.zone_of(owner));
        match self.entries.get(&(last.clone(), answer.rtype)) {
            Some(Entry::Data(status, data)) => {
                answer.status = answer.status.weakest(*status);
                answer.kind = Kind::Data;
                answer.records =
                    data.iter().map(|data| Record::from_rdata(last.clone(), TTL, data.clone())).collect();
            }
            Some(Entry::NoData(status)) => {
                answer.status = answer.status.weakest(*status);
                answer.kind = Kind::NoData;
            }
            Some(Entry::Error(status, reason)) => {
                return Answer { hops: answer.hops, ..error(&answer.name, answer.rtype, *status, reason) };
            }
            None => {
                if let Some(status) = self.denied.get(last) {
                    answer.status = answer.status.weakest(*status);
                } else if exists {
                    answer.kind = Kind::NoData;
                }
            }
        }
        answer
    }
}

impl Resolver for FakeResolver {
    fn lookup(&self, name: Name, rtype: RecordType) -> LookupFuture<'_> {
        Box::pin(async move {
            let held = {
                let mut table = self.table();
                table.asked.push((name.clone(), rtype));
                table.held.get(&(lower(name.clone()), rtype)).cloned()
            };
            if let Some(held) = held {
                // Nothing is ever sent: this ends when the holder is dropped.
                let _ = held.recv().await;
            }
            let answer = self.table().resolve(&name, rtype);
            Arc::new(answer)
        })
    }

    fn forget(&self, name: &Name, rtype: RecordType) {
        self.table().forgotten.push((name.clone(), rtype));
    }

    fn site_fault(&self) -> Option<String> {
        self.table().site_fault.clone()
    }
}

fn error(name: &Name, rtype: RecordType, status: Status, reason: &str) -> Answer {
    Answer::error(name.clone(), rtype, status, reason)
}

fn lower(mut name: Name) -> Name {
    name.set_fqdn(true);
    name.to_lowercase()
}

#[allow(clippy::unwrap_used, reason = "a table that cannot be read is a wrong test")]
fn name(text: &str) -> Name {
    lower(Name::from_ascii(text).unwrap())
}

#[allow(clippy::panic, reason = "a table that cannot be read is a wrong test")]
fn rdata(rtype: RecordType, text: &str) -> RData {
    if rtype == RecordType::TXT {
        return RData::TXT(TXT::new(vec![text.to_owned()]));
    }
    RData::try_from_str(rtype, text).unwrap_or_else(|e| panic!("{rtype} {text:?}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(resolver: &FakeResolver, owner: &str, rtype: RecordType) -> Arc<Answer> {
        smol::block_on(resolver.lookup(name(owner), rtype))
    }

    #[test]
    fn what_is_not_there_does_not_exist_and_siblings_make_nodata() {
        let fake = FakeResolver::new();
        fake.secure("mx.example", RecordType::A, &["192.0.2.1"]);
        assert_eq!(ask(&fake, "MX.example.", RecordType::A).kind, Kind::Data);
        assert_eq!(ask(&fake, "mx.example", RecordType::AAAA).kind, Kind::NoData);
        assert_eq!(ask(&fake, "example", RecordType::A).kind, Kind::NoData);
        let none = ask(&fake, "other.example", RecordType::A);
        assert_eq!((none.kind, none.status), (Kind::NxDomain, Status::Secure));
        assert_eq!(fake.asked().len(), 4);
    }

    #[test]
    fn aliases_are_followed_and_the_weakest_hop_decides() {
        let fake = FakeResolver::new();
        fake.cname("a.example", "b.example", Status::Secure)
            .cname("b.example", "c.example", Status::Insecure)
            .secure("c.example", RecordType::A, &["192.0.2.1"])
            .cname("loop.example", "loop.example", Status::Secure);
        let answer = ask(&fake, "a.example", RecordType::A);
        assert_eq!((answer.status, answer.hops.len()), (Status::Insecure, 2));
        assert_eq!(answer.hops.first().unwrap().status, Status::Secure);
        assert_eq!(answer.final_name(), &name("c.example"));
        let first = ask(&fake, "a.example", RecordType::CNAME);
        assert_eq!((first.status, first.kind, first.hops.len()), (Status::Secure, Kind::Data, 0));
        assert!(ask(&fake, "loop.example", RecordType::A).status.is_error());
    }

    #[test]
    fn errors_keep_their_status_and_a_held_answer_waits() {
        let fake = FakeResolver::new();
        fake.bogus("b.example", RecordType::TLSA).unavailable("u.example", RecordType::TLSA).cname(
            "alias.example",
            "b.example",
            Status::Secure,
        );
        assert_eq!(ask(&fake, "b.example", RecordType::TLSA).status, Status::Bogus);
        assert_eq!(ask(&fake, "u.example", RecordType::TLSA).status, Status::Unavailable);
        assert_eq!(ask(&fake, "alias.example", RecordType::TLSA).status, Status::Bogus);
        let held = fake.hold("b.example", RecordType::TLSA);
        smol::block_on(async {
            let mut lookup = fake.lookup(name("b.example"), RecordType::TLSA);
            assert!(futures_lite::future::poll_once(&mut lookup).await.is_none());
            drop(held);
            assert_eq!(lookup.await.status, Status::Bogus);
        });
    }
}
