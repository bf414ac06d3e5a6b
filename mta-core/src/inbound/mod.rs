//! Mail coming in by SMTP: the driver of `mta_smtp::server::Session`, its policy, and the way into the queue.
//!
//! The life of a connection: `server` accepts it within the bounds on connections and gives it a task; `driver` does
//! what the session says, a loop of one screen; `login` adds what a user's session needs; `policy` answers the session's questions about clients and recipients;
//! `receive` streams the content into the queue, lets the stages of `content` work on it, and answers 250 only after the
//! queue's commit. What this module does not: it never looks into a message, and it knows no protocol rule.
//!
//! `local` is the other door: programs on this machine, on a Unix socket and through the maildrop (`sendmail`).
//!
//! `recipients` knows who exists in relayed domains.
//!
//! Everything that a reload changes is in `Settings`; open sessions keep those they began with.

mod driver;
mod local;
mod login;
mod options;
mod policy;
mod receive;
pub mod recipients;
mod rewrite;
mod server;
mod submission;

pub use local::{LocalOptions, LocalUser};
pub use options::{Options, Settings, postmaster};
pub(crate) use receive::{Login, Source};
pub use rewrite::SenderRewrite;
pub use server::{Server, Service};
pub use submission::{Options as SubmissionOptions, Submission, Tls as SubmissionTls};
