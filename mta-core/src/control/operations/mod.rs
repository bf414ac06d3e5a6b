//! The operations behind the protocol: on the live queue inside the daemon, or on the files while it is down.
//!
//! All of them block; the server calls them on a thread of their own. Here is the table from request to operation; each
//! group of operations has a file of its own: `queue`, `change`, `alias`, `summary`, `destination`, `recipients`, `trace`, `log`, `report`, `status`;
//! `offline` is for the time without a daemon; `select` finds what a request means.

mod alias;
mod change;
mod destination;
mod log;
mod offline;
mod queue;
mod recipients;
mod report;
mod select;
mod status;
mod summary;
#[cfg(test)]
mod tests;
mod trace;
mod users;

use std::sync::Arc;

use mta_queue::{Queue, QueueError, Reader};
use serde_json::Value;

use super::peer::Peer;
use super::protocol::{Code, Done, Failure, Request};
use super::views::StatusView;
use crate::account::Directory;
use crate::outbound::scheduler::Scheduler;
use crate::pause::Pauses;
use crate::report::send::Sender;
use crate::user;

/// Where rows go: says whether more are wanted.
pub type Rows<'a> = &'a mut dyn FnMut(Value) -> bool;

/// Answers requests. The rows go to a callback, which says whether more are wanted.
pub trait Operations: Send + Sync {
    /// Does what is asked.
    ///
    /// # Errors
    /// A failure, also after some rows were given.
    fn run(&self, peer: &Peer, request: &Request, row: Rows<'_>) -> Result<Done, Failure>;
}

/// The queue as the operations reach it.
pub enum Source {
    /// Open for writing, in this process. The scheduler knows the routes and returns mail to its senders; it need not run.
    Queue(Queue, Arc<Scheduler>),
    /// The files only, read.
    Reader(Reader),
}

/// What the running daemon adds to the queue.
pub struct Daemon {
    /// What it is doing now; `queue` and `running` are filled in here.
    pub status: Box<dyn Fn() -> StatusView + Send + Sync>,
    /// Reads the configuration again: the keys that wait for a restart, or why the old configuration stays.
    pub reload: Box<dyn Fn() -> Result<Vec<&'static str>, String> + Send + Sync>,
    /// What stands still.
    pub pauses: Pauses,
    /// The aliases, as everybody in the daemon sees them.
    pub directory: Directory,
    /// Who logs in.
    pub users: Arc<user::Service>,
    /// What sends reports to other domains.
    pub reports: Arc<Sender>,
}

/// The operations on a queue.
pub struct QueueOperations {
    source: Source,
    daemon: Option<Daemon>,
    reader: Reader,
    /// The reasons of what waits, as they were last gathered.
    reasons: Arc<summary::Reasons>,
}

impl QueueOperations {
    /// Inside the daemon.
    pub fn live(queue: Queue, scheduler: Arc<Scheduler>, daemon: Daemon) -> Self {
        let reader = queue.reader();
        let source = Source::Queue(queue, scheduler);
        Self { source, daemon: Some(daemon), reader, reasons: Arc::default() }
    }

    /// While the daemon is down.
    pub fn offline(source: Source) -> Self {
        let reader = match &source {
            Source::Queue(queue, _) => queue.reader(),
            Source::Reader(reader) => reader.clone(),
        };
        Self { source, daemon: None, reader, reasons: Arc::default() }
    }

    /// The queue, open for writing.
    fn writing(&self) -> Result<(&Queue, &Arc<Scheduler>), Failure> {
        match &self.source {
            Source::Queue(queue, scheduler) => Ok((queue, scheduler)),
            Source::Reader(_) => Err(Failure::new(Code::NotAllowed, "the queue is open for reading only")),
        }
    }

    fn scheduler(&self) -> Option<&Arc<Scheduler>> {
        self.writing().ok().map(|(_, scheduler)| scheduler)
    }
}

impl Operations for QueueOperations {
    fn run(&self, peer: &Peer, request: &Request, row: Rows<'_>) -> Result<Done, Failure> {
        if !peer.is_administrator && !request.is_for_everybody() {
            let message = format!(
                "{} may look at his own mail only: be root, the service user, or in admin_group",
                peer.user
            );
            return Err(Failure::new(Code::NotAllowed, message));
        }
        match request {
            Request::Status => one(self.status()?, row),
            Request::Top => one(self.top()?, row),
            Request::Reload => self.reload(row),
            Request::QueueList(arguments) => self.list(peer, arguments, row),
            Request::QueueSummary(arguments) => self.summary(arguments, row),
            Request::QueueShow(id) => one(self.show(peer, id)?, row),
            Request::QueueContent(arguments) => self.content(arguments, row),
            Request::QueueCount(arguments) => self.count(arguments, row),
            Request::QueueRetry(_)
            | Request::QueueHold(_)
            | Request::QueueRelease(_)
            | Request::QueueDrop(_)
            | Request::QueueBounce(_)
            | Request::QueueRedirect(_)
            | Request::QueueReroute(_) => self.change(peer, request, row),
            Request::HoldRuleList => self.hold_rules(row),
            Request::HoldRuleAdd(rule) => self.add_hold_rule(peer, rule),
            Request::HoldRuleRemove(id) => self.remove_hold_rule(*id),
            Request::DestinationShow(arguments) => self.destinations(arguments, row),
            Request::DestinationReset(name) => self.reset_destination(name),
            Request::DestinationRecipients(arguments) => self.recipients(arguments, row),
            Request::DestinationForget(name) => self.forget_recipients(peer, name),
            Request::Pause(arguments) => self.pause(peer, arguments),
            Request::Resume(name) => self.resume(name),
            Request::Trace(arguments) => self.trace(peer, arguments, row),
            Request::Log(arguments) => self.log(arguments, row),
            Request::AliasList => self.aliases(row),
            Request::AliasReload => self.reload_aliases(row),
            Request::AliasPut(arguments) => self.put_alias(peer, arguments),
            Request::AliasDelete(address) => self.delete_alias(peer, address),
            Request::ReportTls(arguments) => self.report_tls(arguments, row),
            Request::ReportDmarc(arguments) => self.report_dmarc(arguments, row),
            Request::ReportList(arguments) => self.reports(arguments, row),
            Request::ReportSend(arguments) => self.send_reports(peer, arguments, row),
            Request::UserList => self.users(None, row),
            Request::UserShow(name) => self.users(Some(name), row),
            Request::UserAdd(arguments) => self.add_user(peer, arguments),
            Request::UserChange(arguments) => self.change_user(peer, arguments),
            Request::UserRemove(name) => self.remove_user(peer, name),
            Request::UserGrant(arguments) => self.grant(peer, arguments),
            Request::UserRelease(name) => self.release_user(peer, name),
        }
    }
}

/// An answer of one row.
fn one(value: Value, row: Rows<'_>) -> Result<Done, Failure> {
    row(value);
    Ok(Done { count: 1, ..Done::default() })
}

/// A view as JSON. Views are plain data, which always is.
pub(super) fn to_value<T: serde::Serialize>(view: &T) -> Result<Value, Failure> {
    serde_json::to_value(view).map_err(|e| Failure::new(Code::Internal, e.to_string()))
}

/// What a queue error means to the one who asked.
pub(super) fn failed(error: QueueError) -> Failure {
    let code = match error {
        QueueError::Invalid(_) => Code::BadRequest,
        QueueError::NoSpace | QueueError::Closed => Code::Temporary,
        QueueError::Storage(_) | QueueError::Damaged(_) => Code::Internal,
    };
    Failure::new(code, error.to_string())
}
