//! The resolver that believes the AD bit of a validating resolver on this host. It validates nothing.
//!
//! Used only where the administrator says so, and only with loopback addresses: anybody between here and a distant
//! resolver can set one bit (RFC 7672 2.1.1, RFC 4035 4.9.3).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use futures_lite::FutureExt as _;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use mta_dane::dnssec::{Answer, Hop, Kind, Status};
use mta_dane::validator::TransportFailure;

use super::client::{Client, Flags};
use super::extended_error::{ExtendedError, explanation, extended_errors};
use super::forward::Forward;
use super::options::Options;
use super::transport::{Budget, Question, Transport};
use super::{LookupFuture, Resolver};

/// Aliases followed (RFC 7672 2.1.3 leaves the number open).
const MAX_HOPS: usize = 10;

/// The longest that a denial is reused, in seconds.
const MAX_NEGATIVE_TTL: u32 = 300;

/// Trusts a loopback resolver.
#[derive(Debug)]
pub(super) struct AdTrust {
    forward: Forward,
    queries: u32,
    time: Duration,
}

/// The security decision of this mode, in one place: whose AD bit may be believed.
pub(super) fn may_be_trusted(server: SocketAddr) -> bool {
    server.ip().to_canonical().is_loopback()
}

impl AdTrust {
    /// Servers that may not be trusted are left out, whoever passed them.
    pub(super) fn new(client: Arc<Client>, servers: Vec<SocketAddr>, options: &Options) -> Self {
        let servers = servers.into_iter().filter(|s| may_be_trusted(*s)).collect();
        let forward = Forward::new(client, servers, options.attempts, Flags::VALIDATOR);
        Self { forward, queries: options.upstream_queries, time: options.lookup_timeout }
    }

    async fn bounded(&self, name: Name, rtype: RecordType) -> Answer {
        let budget = Budget::new(self.queries, self.time);
        let late = async {
            Timer::at(budget.deadline()).await;
            let why = format!("no answer within {} s", self.time.as_secs_f32());
            Answer::error(name.clone(), rtype, Status::Unavailable, why)
        };
        self.follow(name.clone(), rtype, &budget).or(late).await
    }

    /// Asks, and asks again for the target where the resolver stopped at an alias (RFC 7672 2.1.3).
    async fn follow(&self, name: Name, rtype: RecordType, budget: &Budget) -> Answer {
        let mut answer = empty(name.clone(), rtype);
        let mut next = name.clone();
        loop {
            let response = self.forward.ask(Question::new(next.clone(), rtype), budget).await;
            let message = match usable(response) {
                Ok(message) => message,
                Err((status, why)) => {
                    return Answer { hops: answer.hops, ..Answer::error(name, rtype, status, why) };
                }
            };
            match take(&mut answer, &message, &next) {
                Taken::All => break,
                Taken::UpTo(target) => next = target,
                Taken::TooMany => {
                    let why = format!("more than {MAX_HOPS} aliases, or a loop of them");
                    return Answer {
                        hops: answer.hops,
                        ..Answer::error(name, rtype, Status::Unavailable, why)
                    };
                }
            }
        }
        if answer.status == Status::Insecure && rtype != RecordType::CNAME {
            return self.first_hop(answer, budget).await;
        }
        answer
    }

    /// An insecure answer reached through an alias says nothing about the first hop; that one is asked for itself
    /// (RFC 7672 2.1.3).
    async fn first_hop(&self, mut answer: Answer, budget: &Budget) -> Answer {
        let Some(hop) = answer.hops.first_mut().filter(|hop| hop.status == Status::Insecure) else {
            return answer;
        };
        let question = Question::new(hop.owner.clone(), RecordType::CNAME);
        match usable(self.forward.ask(question, budget).await) {
            Ok(message) if message.authentic_data => hop.status = Status::Secure,
            Ok(_) => {}
            Err((status, why)) => {
                hop.status = status;
                let error = Answer::error(answer.name, answer.rtype, status, format!("first alias: {why}"));
                return Answer { hops: answer.hops, ..error };
            }
        }
        answer
    }
}

impl Resolver for AdTrust {
    fn lookup(&self, name: Name, rtype: RecordType) -> LookupFuture<'_> {
        Box::pin(async move { Arc::new(self.bounded(name, rtype).await) })
    }
}

fn empty(name: Name, rtype: RecordType) -> Answer {
    Answer {
        name,
        rtype,
        status: Status::Secure,
        kind: Kind::NoData,
        hops: Vec::new(),
        records: Vec::new(),
        ttl_seconds: u32::MAX,
        reason: None,
    }
}

/// What was taken from one response.
enum Taken {
    All,
    /// The chain ends at an alias whose target the response says nothing about.
    UpTo(Name),
    TooMany,
}

/// Follows the chain from `from` through a response and adds what it finds to the answer.
fn take(answer: &mut Answer, message: &Message, from: &Name) -> Taken {
    let status = if message.authentic_data { Status::Secure } else { Status::Insecure };
    answer.status = answer.status.weakest(status);
    let mut here = from.to_lowercase();
    let mut moved = false;
    if answer.rtype != RecordType::CNAME {
        while let Some((target, ttl)) = alias(&message.answers, &here) {
            if answer.hops.len() >= MAX_HOPS {
                return Taken::TooMany;
            }
            answer.ttl_seconds = answer.ttl_seconds.min(ttl);
            answer.hops.push(Hop { owner: here, target: target.clone(), status });
            here = target;
            moved = true;
        }
    }
    let of_name = |r: &&Record| r.record_type() == answer.rtype && r.name == here;
    answer.records = message.answers.iter().filter(of_name).cloned().collect();
    if !answer.records.is_empty() {
        answer.kind = Kind::Data;
        let ttl = answer.records.iter().map(|r| r.ttl).min().unwrap_or(0);
        answer.ttl_seconds = answer.ttl_seconds.min(ttl);
        return Taken::All;
    }
    let denial = negative_ttl(message);
    if moved && message.response_code == ResponseCode::NoError && denial.is_none() {
        return Taken::UpTo(here);
    }
    answer.kind = if message.response_code == ResponseCode::NXDomain { Kind::NxDomain } else { Kind::NoData };
    answer.ttl_seconds = answer.ttl_seconds.min(denial.unwrap_or(0));
    Taken::All
}

fn alias(answers: &[Record], owner: &Name) -> Option<(Name, u32)> {
    answers.iter().filter(|r| r.name == *owner).find_map(|r| match &r.data {
        RData::CNAME(cname) => Some((cname.0.to_lowercase(), r.ttl)),
        _ => None,
    })
}

/// How long a denial holds (RFC 2308 5), capped. `None` where it carries no SOA.
fn negative_ttl(message: &Message) -> Option<u32> {
    message.authorities.iter().find_map(|r| match &r.data {
        RData::SOA(soa) => Some(soa.minimum.min(r.ttl).min(MAX_NEGATIVE_TTL)),
        _ => None,
    })
}

/// Answers and denials are usable; all else is an error, bogus where the resolver says that it is.
fn usable(response: Result<Message, TransportFailure>) -> Result<Message, (Status, String)> {
    let message = response.map_err(|failure| (Status::Unavailable, failure.to_string()))?;
    match message.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(message),
        code => {
            let errors = extended_errors(&message);
            let status =
                if errors.iter().any(ExtendedError::is_bogus) { Status::Bogus } else { Status::Unavailable };
            Err((status, format!("the resolver answered {code}{}", explanation(&errors))))
        }
    }
}

#[cfg(test)]
mod tests;
