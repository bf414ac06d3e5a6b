//! One delivery attempt: the recipients of one message that share a next-hop, from routing to outcomes.
//!
//! What it does: the stages discover, policy, addresses, connect, TLS, transaction, host by host, and what a failure at
//! each stage means for the next. What it does not: no queue, no schedule, no retry across attempts.

use std::io;
use std::sync::Arc;

use mta_smtp::address::ReversePath;
use mta_smtp::envelope::{MailParameters, Recipient};

use super::{Decision, Options, RecipientOutcome};
use crate::routing::Route;

/// Where the content of a message is read from. It may be opened several times: another host gets it from the start.
pub trait ContentSource: Send + Sync {
    /// Opens the content at its first byte. Called on a thread that may block, as are the reads.
    ///
    /// # Errors
    ///
    /// What the store reports; the recipients are deferred then.
    fn open(&self) -> io::Result<Box<dyn io::Read + Send>>;
}

/// One attempt's work: the recipients of one message that share a route.
#[derive(Clone)]
pub struct Job {
    /// The queue id, for log lines and the decision record.
    pub queue_id: String,
    /// The domain for which per-destination rules are looked up: that of the recipients.
    pub destination: String,
    /// Where to. `Route::Local` is not for us: the recipients are deferred with a site fault.
    pub route: Route,
    /// The reverse-path.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL as they came in.
    pub parameters: MailParameters,
    /// Content size in octets, as stored.
    pub size_bytes: u64,
    /// Who receives.
    pub recipients: Vec<Recipient>,
    /// The content, opened only when a server is ready for it.
    pub content: Arc<dyn ContentSource>,
    /// When the message was accepted, seconds since 1970, for `delay=` in the log line.
    pub accepted_at_unix: u64,
}

/// What an attempt needs besides its job. Shared by all attempts; rebuilt when the configuration changes.
#[derive(Clone)]
pub struct Context {
    /// The options.
    pub options: Arc<Options>,
    /// TLS provider, system roots and the like.
    pub tls: Arc<crate::tls::client::Client>,
}

/// What an attempt led to.
#[derive(Debug, Clone)]
pub struct AttemptReport {
    /// One outcome per recipient, in the order of the job.
    pub outcomes: Vec<RecipientOutcome>,
    /// Why, for `queue show`, the log, DSN and `explain`.
    pub decision: Decision,
}

/// Tries to hand the job's message to its next-hop. Never fails: what went wrong is in the outcomes.
///
/// Bounded in time by the options; dropping the future drops the connection, and nothing is sent then that was not
/// sent before.
pub async fn attempt(context: &Context, job: &Job) -> AttemptReport {
    let _ = (context, job);
    todo!("lands with the driver")
}
