//! DNS for the runtime: questions in, answers out that carry their DNSSEC status, hop by hop.
//!
//! Everything above asks through the [`Resolver`] trait and never learns where an answer came from. It reads no MX rules and no
//! TLSA rules: that is `mta_dane::discovery`. It validates nothing itself: that is `mta_dane::validator`, which this
//! module drives over a transport.

mod ad_trust;
mod client;
#[cfg(test)]
mod client_tests;
mod extended_error;
pub mod fake;
mod forward;
mod health;
mod options;
mod pending;
mod recurse;
mod report;
mod runtime;
mod selftest;
mod service;
#[cfg(test)]
mod testing;
mod transport;
mod validating;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};
use mta_dane::dnssec::Answer;

pub use self::fake::FakeResolver;
pub use self::options::{Mode, Options, RootHints};
pub use self::report::{
    HopReport, InvalidQuestion, LookupReport, ZoneReport, lookup_report, question, report,
};
pub use self::selftest::{Candidate, SelfTestReport, Verdict};
pub use self::service::{ConfigError, Service};
pub use self::transport::{Budget, Question, Transport, TransportFuture};
pub use self::validating::ValidatingResolver;

/// A lookup under way. It ends within the deadline of [`Options::lookup_timeout`], always with an answer.
pub type LookupFuture<'a> = Pin<Box<dyn Future<Output = Arc<Answer>> + Send + 'a>>;

/// Answers questions, with the DNSSEC status of what it answers.
///
/// Names are absolute (no search list, no hosts file). There is no error type: what goes wrong is an answer whose
/// status is `Bogus` or `Unavailable`, with the reason (RFC 7672 2.1.1, 2.1.2). Dropping the future cancels the lookup.
pub trait Resolver: Send + Sync {
    /// Looks up the records of one type at one name, following aliases (except for type CNAME itself).
    fn lookup(&self, name: Name, rtype: RecordType) -> LookupFuture<'_>;

    /// Forgets what is remembered of this question, so that the next lookup asks again. For a TLSA set that does not
    /// match what the host served: it may have been replaced since.
    fn forget(&self, _name: &Name, _rtype: RecordType) {}

    /// Why no lookup can work now, where that lies on this host: no resolver answers, or the clock is wrong. Mail waits
    /// then for as long as that lasts, and no destination is to blame.
    fn site_fault(&self) -> Option<String> {
        None
    }
}

impl<R: Resolver + ?Sized> Resolver for Arc<R> {
    fn lookup(&self, name: Name, rtype: RecordType) -> LookupFuture<'_> {
        (**self).lookup(name, rtype)
    }

    fn forget(&self, name: &Name, rtype: RecordType) {
        (**self).forget(name, rtype);
    }

    fn site_fault(&self) -> Option<String> {
        (**self).site_fault()
    }
}
