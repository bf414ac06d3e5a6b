//! TLS reports (RFC 8460): what the operators of other domains should know of our TLS sessions with their hosts.
//!
//! - `count`: which sessions an attempt had, under which policies, and how they failed; from its decision record.
//! - `report`: a day's counters as the report of RFC 8460 4.4.
//! - `address`: where a domain wants its reports.
//!
//! The counters lie in the queue's database (`mta_queue::TlsSession`). What it does not: it sends nothing, `report::send`
//! does.

mod address;
mod count;
mod report;
#[cfg(test)]
mod tests;

pub use self::address::{NoAddress, Nowhere, addresses, lookup};
pub use self::count::sessions;
pub use self::report::{
    Addressed, DateRange, FailureDetail, Identity, Policy, PolicyEntry, Report, Row, Summary, day_text,
    end_of, parse_day, reports, rows,
};
