//! The self-test of a transport: does it carry what validation needs? It chooses nothing; `service` does.
//!
//! Three questions per candidate: the keys of the trust anchor's zone with their signatures (which also tells whether the
//! system clock can be right), a record of that zone, and a proof that a name does not exist. A forwarder is asked
//! for the keys over TCP too, since large TLSA sets need it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use mta_dane::dnssec::{Answer, Kind, Status};
use mta_dane::validator::{CacheLimits, ClockVerdict, Limits, TrustAnchors, Validator, clock_verdict};
use serde::Serialize;

use super::Resolver as _;
use super::transport::{Budget, Question, Transport};
use super::validating::ValidatingResolver;
use crate::clock::Clock;

/// How long the test of one candidate may take.
const TEST_TIME: Duration = Duration::from_secs(15);

/// Queries that each question of the test may cost.
const TEST_QUERIES: u32 = 60;

/// A name that does not exist, below a zone of the trust anchor. In the public tree `arpa` is signed, so the walk to it
/// tests a DS record, too.
const ABSENT_IN_ROOT: &str = "dnssec-self-test.arpa.";

/// How the transport was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The test has not ended yet.
    Pending,
    /// Forwarders carry DNSSEC and are used.
    Forwarders,
    /// Own recursion is used.
    Recursion,
    /// The AD bit of a loopback resolver is believed, by the administrator's word.
    TrustAd,
    /// Nothing works: every lookup is unavailable and mail waits. A fault of this site.
    Failed,
}

/// One candidate: a forwarder, or own recursion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// The forwarder's address; none for own recursion.
    pub address: Option<SocketAddr>,
    /// Why it cannot be used; none where it can.
    pub problem: Option<String>,
    /// What does not work with it but is no reason against it.
    pub warning: Option<String>,
}

/// The result of the self-test, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SelfTestReport {
    /// How lookups are done now.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub reason: String,
    /// When the test ended, Unix seconds by the system clock; 0 before.
    pub at: u64,
    /// True where the system clock cannot be right. Nothing is secure then.
    pub wrong_clock: bool,
    /// All that was tested, in order.
    pub candidates: Vec<Candidate>,
}

impl SelfTestReport {
    /// Before the first test has ended.
    pub(super) fn pending() -> Self {
        Self {
            verdict: Verdict::Pending,
            reason: "the self-test has not ended yet".to_owned(),
            at: 0,
            wrong_clock: false,
            candidates: Vec::new(),
        }
    }
}

/// What is wrong with a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// It does not carry DNSSEC, or does not answer.
    Transport(String),
    /// The system clock cannot be right; no candidate can help.
    Clock(String),
}

/// What every test of a candidate needs.
#[derive(Debug, Clone)]
pub(super) struct Tester {
    pub(super) anchors: TrustAnchors,
    pub(super) limits: Limits,
    pub(super) clock: Arc<dyn Clock>,
}

impl Tester {
    /// Tests a transport with a validator that remembers nothing.
    pub(super) async fn test(&self, transport: Arc<dyn Transport>) -> Result<(), Problem> {
        let Some(zone) = self.zone() else {
            return Err(Problem::Transport("there is no trust anchor".to_owned()));
        };
        let cache = CacheLimits { answer_bytes: 1 << 20, zone_bytes: 1 << 20 };
        let validator = Arc::new(Validator::new(self.anchors.clone(), self.limits.clone(), cache));
        let budget = Budget::new(TEST_QUERIES, TEST_TIME);
        let keys = transport.ask(Question::new(zone.clone(), RecordType::DNSKEY), &budget).await;
        let keys = keys.map_err(|failure| Problem::Transport(failure.to_string()))?;
        carries_keys(&keys).map_err(Problem::Transport)?;
        let verdict = clock_verdict(&validator, &zone, &keys, self.clock.unix_seconds());
        if matches!(verdict, ClockVerdict::Behind { .. } | ClockVerdict::Ahead { .. }) {
            return Err(Problem::Clock(verdict.to_string()));
        }
        let resolver =
            ValidatingResolver::new(validator, transport, self.clock.clone(), TEST_QUERIES, TEST_TIME);
        let soa = resolver.lookup(zone.clone(), RecordType::SOA).await;
        expect(&soa, soa.status == Status::Secure && soa.kind == Kind::Data, "a signed record")?;
        let denial = resolver.lookup(absent(&zone), RecordType::TXT).await;
        expect(&denial, !denial.status.is_error() && denial.kind != Kind::Data, "a proof of non-existence")
    }

    /// The zone whose keys are trusted: the root, or else the first one there is.
    pub(super) fn zone(&self) -> Option<Name> {
        let mut zones = self.anchors.zones();
        let root = self.anchors.zones().find(|zone| zone.is_root());
        root.or_else(|| zones.next()).cloned()
    }
}

fn absent(zone: &Name) -> Name {
    let root = || Name::from_ascii(ABSENT_IN_ROOT).unwrap_or_else(|_| Name::root());
    if zone.is_root() {
        return root();
    }
    zone.prepend_label("dnssec-self-test").unwrap_or_else(|_| root())
}

fn expect(answer: &Answer, holds: bool, what: &str) -> Result<(), Problem> {
    if holds {
        return Ok(());
    }
    let why = answer.reason.as_deref().unwrap_or("no reason given");
    Err(Problem::Transport(format!(
        "does not carry {what}: {} {} is {}: {why}",
        answer.name, answer.rtype, answer.status
    )))
}

/// Whether a response to DNSKEY has keys and signatures at all.
pub(super) fn carries_keys(response: &Message) -> Result<(), String> {
    if response.response_code != ResponseCode::NoError {
        return Err(format!("answers {} to a DNSKEY question", response.response_code));
    }
    if !response.answers.iter().any(|r| r.record_type() == RecordType::DNSKEY) {
        return Err("strips DNSSEC: it answers a DNSKEY question without keys".to_owned());
    }
    if !has_signatures(response) {
        return Err("strips DNSSEC: it sends keys without their signatures".to_owned());
    }
    Ok(())
}

/// Whether there is any signature in a response.
pub(super) fn has_signatures(response: &Message) -> bool {
    response.answers.iter().chain(&response.authorities).any(|r| r.record_type() == RecordType::RRSIG)
}
