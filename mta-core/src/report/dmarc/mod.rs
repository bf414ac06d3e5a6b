//! DMARC aggregate reports (RFC 9990): what the owner of a domain should know of the mail that says it is his.
//!
//! - `count`: from the verdicts on a message to its row, gathered in memory and added to the counters once a minute.
//! - `row`: one kind of message, and the policy it came under, as the counters keep them.
//! - `xml`: a day's counters as the document of RFC 9990 appendix A.
//!
//! The counters lie in the queue's database (`mta_queue::DmarcCounts`). What it does not: it sends nothing, `report::send`
//! does.

mod count;
mod row;
mod xml;

pub use self::count::Counter;
pub use self::row::{PublishedPolicy, Reason, Row, Signature, Spf};
pub use self::xml::{Document, xml};
