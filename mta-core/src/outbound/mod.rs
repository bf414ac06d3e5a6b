//! Mail out: from the due recipients of one next-hop to one outcome per recipient and a decision record.
//!
//! - `attempt`: the entry. Discovery, then for each host: policy, addresses, connection, TLS, transaction.
//! - `parts`: a job whose recipients stand under different local rules, split and joined.
//! - `tls_policy`: what is required of the connection to one host, decided in one function.
//! - `connect`: a TCP connection to an address we may connect to.
//! - `ask`: the same walk as far as RCPT, to ask whether a recipient exists.
//! - `examine`: the same walk without a message, for whoever asks what would happen.
//! - `explain`: what such a walk found, told rule by rule.
//! - `served`: a host's TLSA records against what it serves.
//! - `discover`: drives the walk through DNS.
//! - `dane_memory`: which destinations had DANE for weeks, and which of them lost it.
//! - `host`: one host, address by address.
//! - `conversation`: one connection, opened, secured, used and left.
//! - `pool`: sessions that rest between two messages, and who may ride one.
//! - `session`: the driver of `mta_smtp::client` over a stream.
//! - `outcome`: what became of each recipient, typed by reach and permanence.
//! - `triage`: what most likely lies behind a failure, and what either side can do.
//! - `provider`: what the replies of mail providers mean, and what is held against whom; `breaker`: whether it is us.
//! - `decision`: the record of why, and its telling in sentences; `record` fills it in and writes the log lines.
//!
//! What it does not: it neither knows the queue nor decides when to try again (`outbound::scheduler`), and it delivers
//! nothing to local mailboxes (`delivery`).

pub mod ask;
pub mod attempt;
pub mod breaker;
pub mod connect;
mod conversation;
pub mod dane_memory;
pub mod decision;
mod discover;
pub mod examine;
pub mod explain;
mod host;
pub mod options;
pub mod outcome;
mod parts;
mod pool;
pub mod provider;
mod record;
pub mod scheduler;
pub mod served;
mod session;
mod story;
pub mod tls_policy;
pub mod triage;

#[cfg(test)]
mod tests;

pub use attempt::{AttemptReport, ContentSource, Context, Job, attempt};
pub use decision::Decision;
pub use options::Options;
pub use outcome::{Outcome, Reach, RecipientOutcome, Verdict};
pub use pool::{Pool, Reuse};
