//! One lookup: the machine that hands out sub-queries, keeps the responses and evaluates the question.
//!
//! An evaluation runs from the start each time something arrived. What is dear (signatures, keys, zone cuts) is remembered
//! within the lookup, so that a repeated evaluation costs next to nothing and the work is counted once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};

use super::alias::Trail;
use super::cache::{Cut, ZoneKeys};
use super::limits::Work;
use super::reply::{self, Reply};
use super::rrset::RrSet;
use super::signature::{self, Fault, Verified};
use super::{QueryId, Step, TransportFailure, Validator, names};
use crate::dnssec::{Answer, Status};

/// Why an evaluation did not reach its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// A response is missing; it was asked for.
    Need,
    /// Something came and does not hold.
    Bogus(String),
    /// Something did not come, or a limit was hit.
    Unavailable(String),
}

impl Stop {
    pub(super) fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable(why.into())
    }
}

/// The result of a part of an evaluation.
pub(super) type Eval<T> = Result<T, Stop>;

/// Where in a response a record set stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Section {
    Answer,
    Authority,
}

/// A signature check that was done: question, section, owner, type, zone.
type Checked = ((Name, RecordType), Section, Name, RecordType, Name);

#[derive(Debug)]
enum Slot {
    Asked(QueryId),
    Read(Result<Arc<Reply>, String>),
}

/// One question on its way to an answer.
#[derive(Debug)]
pub struct Lookup {
    pub(super) validator: Arc<Validator>,
    pub(super) name: Name,
    pub(super) rtype: RecordType,
    /// Unix seconds, as the driver said last.
    pub(super) now: u64,
    pub(super) work: Work,
    /// The aliases that the evaluation has followed so far.
    pub(super) trail: Trail,
    slots: HashMap<(Name, RecordType), Slot>,
    outbox: VecDeque<(QueryId, Name, RecordType)>,
    asked: u32,
    checked: HashMap<Checked, Result<Verified, Fault>>,
    keys: HashMap<Name, Arc<ZoneKeys>>,
    cuts: HashMap<Name, (Cut, u32)>,
    /// Names whose keys or cut came from the shared cache, and may be older than the world's.
    from_cache: HashSet<Name>,
    refreshed: HashSet<Name>,
    started: bool,
    dirty: bool,
    done: Option<Answer>,
}

impl Lookup {
    /// Begins a lookup. Nothing is asked before the first [`Lookup::poll`].
    pub fn new(validator: Arc<Validator>, name: Name, rtype: RecordType) -> Self {
        let work = Work::new(validator.limits());
        Self {
            work,
            name: names::normal(&name),
            rtype,
            now: 0,
            trail: Trail::default(),
            slots: HashMap::new(),
            outbox: VecDeque::new(),
            asked: 0,
            checked: HashMap::new(),
            keys: HashMap::new(),
            cuts: HashMap::new(),
            from_cache: HashSet::new(),
            refreshed: HashSet::new(),
            started: false,
            dirty: true,
            done: None,
            validator,
        }
    }

    /// How many sub-queries were handed out so far.
    pub fn queries(&self) -> u32 {
        self.asked
    }

    /// What to do next. `now_unix` is the wall clock in seconds since 1970.
    pub fn poll(&mut self, now_unix: u64) -> Step {
        self.now = now_unix;
        if !self.started {
            self.started = true;
            self.done = self.validator.cache().answer(&self.name, self.rtype, now_unix);
        }
        if self.done.is_none() && self.dirty {
            self.dirty = false;
            self.run();
        }
        if let Some(answer) = &self.done {
            return Step::Done(Box::new(answer.clone()));
        }
        match self.outbox.pop_front() {
            Some((id, name, rtype)) => Step::Query { id, name, rtype },
            None => Step::Wait,
        }
    }

    /// Takes the response to a sub-query, or the reason why there is none. An unknown or repeated id is ignored.
    pub fn handle(&mut self, now_unix: u64, id: QueryId, response: Result<&Message, TransportFailure>) {
        self.now = now_unix;
        let asked = self.slots.iter().find(|(_, slot)| matches!(slot, Slot::Asked(i) if *i == id));
        let Some(question) = asked.map(|(question, _)| question.clone()) else { return };
        let read = reply::read(question.clone(), response, self.validator.limits()).map(Arc::new);
        self.slots.insert(question, Slot::Read(read));
        self.dirty = true;
    }

    fn run(&mut self) {
        let answer = match self.evaluate() {
            Ok(answer) => answer,
            Err(Stop::Need) => return,
            Err(Stop::Bogus(why)) => {
                let mut answer = Answer::error(self.name.clone(), self.rtype, Status::Bogus, why);
                answer.ttl_seconds = self.validator.limits().bogus_ttl;
                answer
            }
            Err(Stop::Unavailable(why)) => {
                Answer::error(self.name.clone(), self.rtype, Status::Unavailable, why)
            }
        };
        let mut answer = answer;
        answer.hops = std::mem::take(&mut self.trail).into_hops();
        self.validator.cache().put_answer(&answer, self.now);
        self.outbox.clear();
        self.done = Some(answer);
    }

    /// The response to a question, which is asked if it was not yet.
    pub(super) fn fetch(&mut self, name: &Name, rtype: RecordType) -> Eval<Arc<Reply>> {
        if !self.ask(name, rtype) {
            return Err(Stop::unavailable(format!(
                "the lookup would need more than {} queries; {rtype} of {name} is not asked any more",
                self.validator.limits().sub_queries
            )));
        }
        match self.slots.get(&(names::normal(name), rtype)) {
            Some(Slot::Read(Ok(reply))) => Ok(Arc::clone(reply)),
            Some(Slot::Read(Err(why))) => {
                Err(Stop::unavailable(format!("the {rtype} records of {name} could not be had: {why}")))
            }
            _ => Err(Stop::Need),
        }
    }

    /// Makes sure that a question was asked; false where the limit forbids it.
    pub(super) fn ask(&mut self, name: &Name, rtype: RecordType) -> bool {
        let question = (names::normal(name), rtype);
        if self.slots.contains_key(&question) {
            return true;
        }
        if self.asked >= self.validator.limits().sub_queries {
            return false;
        }
        self.asked += 1;
        let id = QueryId(self.asked);
        self.outbox.push_back((id, question.0.clone(), rtype));
        self.slots.insert(question, Slot::Asked(id));
        true
    }

    /// Verifies a set with a zone's keys, once.
    pub(super) fn verify(
        &mut self,
        reply: &Reply,
        section: Section,
        set: &RrSet<'_>,
        zone: &ZoneKeys,
    ) -> Result<Verified, Fault> {
        let check = (reply.question.clone(), section, set.owner.clone(), set.rtype, zone.zone.clone());
        if let Some(known) = self.checked.get(&check) {
            return known.clone();
        }
        let result =
            signature::verify(set, &zone.zone, &zone.keys, self.now, self.validator.limits(), &mut self.work);
        self.checked.insert(check, result.clone());
        result
    }

    /// Drops what is known of a zone if it came from the cache, once; true where another try makes sense.
    pub(super) fn refresh(&mut self, zone: &Name) -> bool {
        if !self.from_cache.contains(zone) || !self.refreshed.insert(zone.clone()) {
            return false;
        }
        self.from_cache.remove(zone);
        self.keys.remove(zone);
        self.cuts.remove(zone);
        self.checked.clear();
        self.validator.cache().forget_zone(zone);
        true
    }

    /// The same for every name below `zone` down to `name` of which the cache said that no zone begins there; true where it
    /// said so of one at least.
    pub(super) fn refresh_below(&mut self, zone: &Name, name: &Name) -> bool {
        let between = names::labels(zone) + 1..=names::labels(name);
        // Every one of them, not only the first.
        between.filter(|count| self.refresh(&names::ancestor(name, *count))).count() > 0
    }

    pub(super) fn known_keys(&mut self, zone: &Name) -> Option<Arc<ZoneKeys>> {
        if let Some(keys) = self.keys.get(zone) {
            return Some(Arc::clone(keys));
        }
        let keys = self.validator.cache().keys(zone, self.now)?;
        self.from_cache.insert(zone.clone());
        self.keys.insert(zone.clone(), Arc::clone(&keys));
        Some(keys)
    }

    pub(super) fn keep_keys(&mut self, keys: ZoneKeys) -> Arc<ZoneKeys> {
        let keys = Arc::new(keys);
        self.validator.cache().put_keys(Arc::clone(&keys), self.now);
        self.keys.insert(keys.zone.clone(), Arc::clone(&keys));
        keys
    }

    pub(super) fn known_cut(&mut self, name: &Name) -> Option<(Cut, u32)> {
        if let Some(known) = self.cuts.get(name) {
            return Some(known.clone());
        }
        let (cut, expires_at) = self.validator.cache().cut(name, self.now)?;
        let known = (cut, u32::try_from(expires_at - self.now).unwrap_or(u32::MAX));
        self.from_cache.insert(name.clone());
        self.cuts.insert(name.clone(), known.clone());
        Some(known)
    }

    pub(super) fn keep_cut(&mut self, name: &Name, cut: &Cut, ttl: u32) {
        let expires_at = self.now.saturating_add(u64::from(ttl));
        self.validator.cache().put_cut(name.clone(), cut.clone(), self.now, expires_at);
        self.cuts.insert(name.clone(), (cut.clone(), ttl));
    }
}
