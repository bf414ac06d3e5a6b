//! What the driver adds to the validator: one lookup for many askers, cancellation, deadline, explained errors.

use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Edns, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use mta_dane::validator::{CacheLimits, Limits, TrustAnchors};

use super::*;
use crate::clock::ManualClock;
use crate::dns::testing::name;
use crate::dns::transport::TransportFuture;

/// Answers every question with SERVFAIL once its gate is open, and counts.
struct Gated {
    asked: AtomicUsize,
    gate: async_channel::Receiver<()>,
    explains: bool,
}

impl Transport for Gated {
    fn ask<'a>(&'a self, question: Question, _: &'a Budget) -> TransportFuture<'a> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let _ = self.gate.recv().await;
            let mut message = Message::new(1, MessageType::Response, OpCode::Query);
            message.add_query(Query::query(question.name, question.rtype));
            message.metadata.response_code = ResponseCode::ServFail;
            let mut edns = Edns::new();
            if self.explains {
                edns.options_mut().insert(EdnsOption::Unknown(15, b"\0\x07too old".to_vec()));
            }
            message.set_edns(edns);
            Ok(message)
        })
    }
}

fn resolver(
    explains: bool,
    time: Duration,
) -> (Arc<ValidatingResolver>, Arc<Gated>, async_channel::Sender<()>) {
    let (open, gate) = async_channel::bounded(1);
    let transport = Arc::new(Gated { asked: AtomicUsize::new(0), gate, explains });
    let validator = Validator::new(TrustAnchors::built_in(), Limits::default(), CacheLimits::default());
    let clock = ManualClock::at(1_800_000_000);
    let resolver = ValidatingResolver::new(Arc::new(validator), transport.clone(), clock, 60, time);
    (Arc::new(resolver), transport, open)
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn lookups_of_one_question_at_one_time_are_one() {
    let (alone, counted, open) = resolver(false, LONG);
    drop(open);
    smol::block_on(alone.lookup(name("www.example."), RecordType::A));
    let for_one = counted.asked.load(Ordering::SeqCst);

    let (resolver, transport, open) = resolver(false, LONG);
    smol::block_on(async {
        let mut all = Pending::new();
        for owner in ["www.example.", "WWW.example.", "www.EXAMPLE."] {
            all.push(resolver.lookup(name(owner), RecordType::A));
        }
        assert!(futures_lite::future::poll_once(all.next()).await.is_none());
        drop(open);
        for _ in 0..3 {
            assert_eq!(all.next().await.unwrap().status, Status::Unavailable);
        }
    });
    assert_eq!(transport.asked.load(Ordering::SeqCst), for_one);
    assert!(resolver.flights().is_empty(), "flights are left behind");
}

#[test]
fn a_waiter_takes_over_when_the_first_is_cancelled() {
    let (resolver, _, open) = resolver(false, LONG);
    smol::block_on(async {
        let mut first = resolver.lookup(name("www.example."), RecordType::A);
        assert!(futures_lite::future::poll_once(&mut first).await.is_none());
        let mut second = resolver.lookup(name("www.example."), RecordType::A);
        assert!(futures_lite::future::poll_once(&mut second).await.is_none());
        drop(first);
        drop(open);
        assert_eq!(second.await.status, Status::Unavailable);
    });
    assert!(resolver.flights().is_empty(), "flights are left behind");
}

#[test]
fn cancelled_lookups_leave_nothing_behind() {
    let (resolver, _, _open) = resolver(false, LONG);
    smol::block_on(async {
        let mut first = resolver.lookup(name("www.example."), RecordType::A);
        let mut second = resolver.lookup(name("www.example."), RecordType::A);
        assert!(futures_lite::future::poll_once(&mut first).await.is_none());
        assert!(futures_lite::future::poll_once(&mut second).await.is_none());
        assert_eq!(resolver.flights().len(), 1);
    });
    assert!(resolver.flights().is_empty(), "flights are left behind");
}

#[test]
fn the_deadline_holds_where_the_transport_does_not_come_back() {
    let (resolver, _, _open) = resolver(false, Duration::from_millis(50));
    let answer = smol::block_on(resolver.lookup(name("www.example."), RecordType::A));
    assert_eq!(answer.status, Status::Unavailable);
    assert!(answer.reason.as_deref().unwrap().contains("0.05 s"), "{answer:?}");
}

#[test]
fn the_deadline_holds_for_who_waits_for_another() {
    let (resolver, _, _open) = resolver(false, Duration::from_millis(80));
    smol::block_on(async {
        let mut first = resolver.lookup(name("www.example."), RecordType::A);
        let second = resolver.lookup(name("www.example."), RecordType::A);
        assert!(futures_lite::future::poll_once(&mut first).await.is_none());
        // The first is never polled again, and holds the flight.
        assert_eq!(second.await.status, Status::Unavailable);
        drop(first);
    });
}

#[test]
fn the_explanation_of_an_error_reaches_the_reason() {
    let (resolver, _, open) = resolver(true, LONG);
    drop(open);
    let answer = smol::block_on(resolver.lookup(name("www.example."), RecordType::A));
    assert_eq!(answer.status, Status::Unavailable);
    let reason = answer.reason.clone().unwrap();
    assert!(reason.contains("signature expired (too old)"), "{reason}");
}
