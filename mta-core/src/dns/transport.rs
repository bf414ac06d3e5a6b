//! What the validator stands on: one question, one response as it came over the wire, and the budget both share.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};
use mta_dane::validator::TransportFailure;

/// What is asked. The class is always IN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// An absolute name.
    pub name: Name,
    /// The type.
    pub rtype: RecordType,
}

impl Question {
    /// A question.
    pub fn new(name: Name, rtype: RecordType) -> Self {
        Self { name, rtype }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.rtype)
    }
}

/// What one lookup may spend, over all its sub-queries: queries sent to servers, and time.
#[derive(Debug)]
pub struct Budget {
    queries_left: AtomicU32,
    queries: u32,
    deadline: Instant,
    /// Servers that answered within this budget, for a second try to avoid.
    answered: Mutex<Vec<SocketAddr>>,
    avoided: Vec<SocketAddr>,
    second: bool,
}

impl Budget {
    /// So many queries, so much time from now.
    pub fn new(queries: u32, time: Duration) -> Self {
        Self {
            queries_left: AtomicU32::new(queries),
            queries,
            deadline: Instant::now() + time,
            answered: Mutex::default(),
            avoided: Vec::new(),
            second: false,
        }
    }

    /// What is left of this budget, for a second try that asks other servers first: what came did not validate, and one
    /// server may hold old or broken data while another does not.
    pub(super) fn second_try(self) -> Self {
        Self {
            avoided: self.answered.into_inner().unwrap_or_else(PoisonError::into_inner),
            answered: Mutex::default(),
            second: true,
            ..self
        }
    }

    /// Whether this is a second try.
    pub(super) fn is_second(&self) -> bool {
        self.second
    }

    /// Notes that a server answered.
    pub(super) fn note(&self, server: SocketAddr) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if !answered.contains(&server) {
            answered.push(server);
        }
    }

    /// Moves the servers to be avoided to the end; the order of the others stays.
    pub(super) fn order(&self, servers: &mut [SocketAddr]) {
        servers.sort_by_key(|server| self.avoided.contains(server));
    }

    /// Takes one query from the budget and says how long it may last.
    ///
    /// # Errors
    /// Where the queries or the time are used up.
    pub(super) fn spend(&self, query_timeout: Duration) -> Result<Duration, TransportFailure> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(TransportFailure::GivenUp("the lookup's time is used up".to_owned()));
        }
        self.queries_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).map_err(
            |_| TransportFailure::GivenUp(format!("the lookup used up its {} queries", self.queries)),
        )?;
        Ok(query_timeout.min(left))
    }

    /// Gives one back: it was never sent.
    pub(super) fn refund(&self) {
        self.queries_left.fetch_add(1, Ordering::SeqCst);
    }

    /// Queries spent so far.
    pub fn spent(&self) -> u32 {
        self.queries - self.queries_left.load(Ordering::SeqCst)
    }

    /// When the lookup has to be over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// A response on its way.
pub type TransportFuture<'a> = Pin<Box<dyn Future<Output = Result<Message, TransportFailure>> + Send + 'a>>;

/// Fetches raw responses. Id and question of what it returns were compared with what was asked, and nothing is truncated;
/// nothing else about it is vouched for.
pub trait Transport: Send + Sync {
    /// Asks, with the DO bit set. A response with an error code is a response.
    fn ask<'a>(&'a self, question: Question, budget: &'a Budget) -> TransportFuture<'a>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_ends_by_count_and_by_time() {
        let budget = Budget::new(2, Duration::from_secs(60));
        assert_eq!(budget.spend(Duration::from_secs(1)), Ok(Duration::from_secs(1)));
        assert!(budget.spend(Duration::from_secs(3600)).unwrap() <= Duration::from_secs(60));
        assert!(matches!(budget.spend(Duration::from_secs(1)), Err(TransportFailure::GivenUp(_))));
        assert_eq!(budget.spent(), 2);
        let late = Budget::new(2, Duration::ZERO);
        assert!(late.spend(Duration::from_secs(1)).is_err());
    }

    #[test]
    fn a_second_try_keeps_the_bounds_and_avoids_who_answered() {
        let [a, b]: [SocketAddr; 2] = ["192.0.2.1:53", "192.0.2.2:53"].map(|text| text.parse().unwrap());
        let first = Budget::new(3, Duration::from_secs(60));
        let deadline = first.deadline();
        first.spend(Duration::from_secs(1)).unwrap();
        first.note(a);
        let second = first.second_try();
        assert!(second.is_second());
        assert_eq!((second.spent(), second.deadline()), (1, deadline));
        let mut servers = [a, b];
        second.order(&mut servers);
        assert_eq!(servers, [b, a]);
    }
}
