//! Drives the discovery machines of `mta_dane` over the resolver: questions out, side by side, answers in.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use mta_dane::discovery::{HostDiscovery, HostResult, MxDiscovery, MxList, Question, Step};
use mta_dane::dnssec::{Answer, Status};
use mta_dane::failure::{HostFault, LookupError, NextHopFailure};

use crate::dns::{LookupFuture, Resolver};

/// What both machines can do.
trait Machine {
    type Result;
    fn poll(&mut self) -> Step<Self::Result>;
    fn answer(&mut self, answer: Answer);
}

impl Machine for MxDiscovery {
    type Result = Result<MxList, NextHopFailure>;
    fn poll(&mut self) -> Step<Self::Result> {
        Self::poll(self)
    }
    fn answer(&mut self, answer: Answer) {
        Self::answer(self, answer);
    }
}

impl Machine for HostDiscovery {
    type Result = HostResult;
    fn poll(&mut self) -> Step<Self::Result> {
        Self::poll(self)
    }
    fn answer(&mut self, answer: Answer) {
        Self::answer(self, answer);
    }
}

/// Finds the hosts of a next-hop. Beyond the time limit it is a lookup error, as is a walk that gets stuck.
pub(super) async fn hosts(
    resolver: &dyn Resolver,
    mut machine: MxDiscovery,
    timeout: Duration,
) -> Result<MxList, NextHopFailure> {
    let question = machine.question();
    match drive(resolver, &mut machine, timeout).await {
        Ok(result) => result,
        Err(why) => Err(NextHopFailure::Lookup(lookup_error(question, why))),
    }
}

/// Finds out about one host. Beyond the time limit the host is unavailable, never "no DANE".
pub(super) async fn host(
    resolver: &dyn Resolver,
    mut machine: HostDiscovery,
    timeout: Duration,
) -> Result<HostResult, HostFault> {
    match drive(resolver, &mut machine, timeout).await {
        Ok(result) => Ok(result),
        Err(why) => Err(HostFault::Addresses(lookup_error(machine.questions().last().cloned(), why))),
    }
}

fn lookup_error(question: Option<Question>, why: &str) -> LookupError {
    let (name, rtype) =
        question.map_or_else(Default::default, |question| (question.name, Some(question.rtype)));
    let rtype = rtype.unwrap_or(hickory_proto::rr::RecordType::ANY);
    LookupError { name, rtype, status: Status::Unavailable, reason: why.to_owned() }
}

/// The loop. Lookups may be dropped at any time, so the whole of it is raced against the clock.
async fn drive<M: Machine>(
    resolver: &dyn Resolver,
    machine: &mut M,
    timeout: Duration,
) -> Result<M::Result, &'static str> {
    let walk = async {
        let mut lookups: Vec<LookupFuture<'_>> = Vec::new();
        loop {
            match machine.poll() {
                Step::Done(result) => return Ok(result),
                Step::Ask(question) => lookups.push(resolver.lookup(question.name, question.rtype)),
                Step::Wait if lookups.is_empty() => return Err("the walk through DNS got stuck"),
                Step::Wait => {
                    let answer = first(&mut lookups).await;
                    machine.answer(Arc::unwrap_or_clone(answer));
                }
            }
        }
    };
    let late = async {
        smol::Timer::after(timeout).await;
        Err("not all answers came in time")
    };
    futures_lite::future::or(walk, late).await
}

/// The first of these lookups that has an answer; it is taken out.
async fn first(lookups: &mut Vec<LookupFuture<'_>>) -> Arc<Answer> {
    std::future::poll_fn(|context| {
        for (index, lookup) in lookups.iter_mut().enumerate() {
            if let Poll::Ready(answer) = Pin::new(lookup).poll(context) {
                drop(lookups.swap_remove(index));
                return Poll::Ready(answer);
            }
        }
        Poll::Pending
    })
    .await
}
