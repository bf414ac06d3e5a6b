//! The resolver that validates: drives `mta_dane::validator` over a transport. Identical lookups at the same time are one.
//!
//! It judges nothing itself. What it adds are the bounds of a lookup (queries, time) and the sharing.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::FutureExt as _;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use mta_dane::dnssec::{Answer, Status};
use mta_dane::validator::{Lookup, Step, TransportFailure, Validator};

use super::extended_error::{explanation, extended_errors};
use super::pending::Pending;
use super::transport::{Budget, Question, Transport};
use super::{LookupFuture, Resolver};
use crate::clock::Clock;

/// A lookup under way. Whoever holds the lock runs it; if it is cancelled, the next waiter takes over.
#[derive(Debug, Default)]
struct Flight(async_lock::Mutex<Option<Arc<Answer>>>);

type Flights = HashMap<(Name, RecordType), Arc<Flight>>;

/// Validates every answer in this process.
pub struct ValidatingResolver {
    validator: Arc<Validator>,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    queries: u32,
    time: Duration,
    flights: Mutex<Flights>,
}

impl fmt::Debug for ValidatingResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidatingResolver")
            .field("queries", &self.queries)
            .field("time", &self.time)
            .finish()
    }
}

impl ValidatingResolver {
    /// A resolver whose lookups send at most `queries` queries and take at most `time`.
    pub fn new(
        validator: Arc<Validator>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        queries: u32,
        time: Duration,
    ) -> Self {
        Self { validator, transport, clock, queries, time, flights: Mutex::default() }
    }

    /// The validator with its cache.
    pub fn validator(&self) -> &Arc<Validator> {
        &self.validator
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The deadline holds for everybody: for who runs the lookup, and for who waits for it.
    async fn bounded(&self, name: Name, rtype: RecordType) -> Arc<Answer> {
        let deadline = Instant::now() + self.time;
        let late = async {
            Timer::at(deadline).await;
            let why = format!("no answer within {} s", self.time.as_secs_f32());
            Arc::new(Answer::error(name.clone(), rtype, Status::Unavailable, why))
        };
        self.shared(name.clone(), rtype, deadline).or(late).await
    }

    async fn shared(&self, name: Name, rtype: RecordType, deadline: Instant) -> Arc<Answer> {
        let key = (name.to_lowercase(), rtype);
        let seat =
            Seat { resolver: self, flight: self.flights().entry(key.clone()).or_default().clone(), key };
        let mut answer = seat.flight.0.lock().await;
        if let Some(answer) = &*answer {
            return answer.clone();
        }
        let budget = Budget::new(self.queries, deadline.saturating_duration_since(Instant::now()));
        let done = Arc::new(self.try_twice(name, rtype, budget).await);
        *answer = Some(done.clone());
        drop(answer);
        done
    }

    /// What is bogus is asked for once more, of other servers first: one of several may hold old signatures. A second
    /// answer counts only if it is good; it is validated like the first.
    async fn try_twice(&self, name: Name, rtype: RecordType, budget: Budget) -> Answer {
        let first = self.drive(name.clone(), rtype, &budget).await;
        // Nothing was asked: the cache remembers a bogus answer, and that it was tried twice.
        if first.status != Status::Bogus || budget.spent() == 0 {
            return first;
        }
        self.validator.forget(&name, rtype);
        let second = self.drive(name, rtype, &budget.second_try()).await;
        if second.status.is_error() { first } else { second }
    }

    async fn drive(&self, name: Name, rtype: RecordType, budget: &Budget) -> Answer {
        let mut machine = Lookup::new(self.validator.clone(), name.clone(), rtype);
        let mut pending = Pending::new();
        loop {
            match machine.poll(self.clock.unix_seconds()) {
                Step::Done(answer) => return *answer,
                Step::Query { id, name, rtype } => {
                    let transport = &self.transport;
                    pending
                        .push(async move { (id, transport.ask(Question::new(name, rtype), budget).await) });
                }
                Step::Wait => match pending.next().await {
                    Some((id, response)) => {
                        let response = response.and_then(explained);
                        let response = response.as_ref().map_err(Clone::clone);
                        machine.handle(self.clock.unix_seconds(), id, response);
                    }
                    None => {
                        let why = "the validator waits for nothing (a defect)";
                        return Answer::error(name, rtype, Status::Unavailable, why);
                    }
                },
            }
        }
    }
}

impl Resolver for ValidatingResolver {
    fn lookup(&self, name: Name, rtype: RecordType) -> LookupFuture<'_> {
        Box::pin(self.bounded(name, rtype))
    }

    fn forget(&self, name: &Name, rtype: RecordType) {
        self.validator.forget(name, rtype);
    }
}

/// An error that the server explains (RFC 8914) becomes a failure that carries the explanation; either way what depends on
/// it is unavailable.
fn explained(response: Message) -> Result<Message, TransportFailure> {
    if matches!(response.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Ok(response);
    }
    match extended_errors(&response) {
        errors if errors.is_empty() => Ok(response),
        errors => Err(TransportFailure::GivenUp(format!(
            "the server answered {}{}",
            response.response_code,
            explanation(&errors)
        ))),
    }
}

/// A place in a flight; the last one to leave takes the flight off the table.
struct Seat<'a> {
    resolver: &'a ValidatingResolver,
    flight: Arc<Flight>,
    key: (Name, RecordType),
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut flights = self.resolver.flights();
        let same = flights.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
        // Done: whoever comes now asks anew (and finds the cache). Or the last: only the table and this seat hold it.
        let over = self.flight.0.try_lock().is_some_and(|answer| answer.is_some());
        if same && (over || Arc::strong_count(&self.flight) <= 2) {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests;
