//! The walk of a delivery without a message: the same discovery, the same policy, the same connections and the same
//! verification, and at the end the decision record that a delivery would have left.
//!
//! It sends no MAIL and logs in nowhere: a connection ends behind EHLO, inside TLS where there is TLS. What it does not:
//! it tells nothing (see `explain`).

use std::io;
use std::sync::Arc;

use mta_smtp::address::ReversePath;
use mta_smtp::envelope::MailParameters;

use super::attempt::{Purpose, Run};
use super::{ContentSource, Context, Decision, Job, Outcome};
use crate::routing::Route;

/// What the record says of a connection on which mail could have been sent.
pub const READY: &str = "ready for mail";

/// What the walk found.
#[derive(Debug, Clone)]
pub struct Examined {
    /// The record, as a delivery leaves it.
    pub decision: Decision,
    /// What every recipient would get at once, where no host was considered at all.
    pub ended: Option<Outcome>,
}

/// Walks to a destination as a delivery at this moment would. Bounded in time by the context's options.
pub async fn examine(context: &Context, destination: &str, route: Route, purpose: Purpose) -> Examined {
    debug_assert!(purpose != Purpose::Deliver);
    let job = Job {
        queue_id: "-".to_owned(),
        destination: destination.to_owned(),
        route,
        reverse_path: ReversePath::Null,
        parameters: MailParameters::default(),
        size_bytes: 0,
        recipients: Vec::new(),
        content: Arc::new(NoContent),
        accepted_at_unix: 0,
    };
    let mut run = Run::new(context, &job, purpose);
    let ended = run.deliver().await.err().map(|outcome| *outcome);
    let mut decision = run.decision;
    if let Some(outcome) = &ended {
        decision.ended_early.get_or_insert_with(|| outcome.text.clone());
    }
    Examined { decision, ended }
}

/// There is no message, so nothing can be sent of it.
pub(super) struct NoContent;

impl ContentSource for NoContent {
    fn open(&self) -> io::Result<Box<dyn io::Read + Send>> {
        Err(io::ErrorKind::NotFound.into())
    }
}
