//! What the validator stands on: one question, one response as it came over the wire, and the budget both share.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
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
}

impl Budget {
    /// So many queries, so much time from now.
    pub fn new(queries: u32, time: Duration) -> Self {
        Self { queries_left: AtomicU32::new(queries), queries, deadline: Instant::now() + time }
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
}
