//! The operations behind the protocol: on the live queue inside the daemon, or on the files while it is down.
//!
//! All of them block; the server calls them on a thread of their own. Here is the table from request to operation; each
//! group of operations has a file of its own: `queue`, `report` and `status`; `select` finds what a request means.

mod queue;
mod report;
mod select;
mod status;
#[cfg(test)]
mod tests;

use mta_queue::{Queue, QueueError, Reader};
use serde_json::Value;

use super::protocol::{Code, Done, Failure, Request};
use super::views::StatusView;

/// Answers requests. The rows go to a callback, which says whether more are wanted.
pub trait Operations: Send + Sync {
    /// Does what is asked.
    ///
    /// # Errors
    /// A failure, also after some rows were given.
    fn run(&self, request: &Request, row: &mut dyn FnMut(Value) -> bool) -> Result<Done, Failure>;
}

/// The queue as the operations reach it.
pub enum Source {
    /// Open for writing, in this process.
    Queue(Queue),
    /// The files only, read.
    Reader(Reader),
}

/// What the running daemon adds to the queue.
pub struct Daemon {
    /// What it is doing now; `queue` and `running` are filled in here.
    pub status: Box<dyn Fn() -> StatusView + Send + Sync>,
    /// Tells the scheduler that messages became due.
    pub wake: Box<dyn Fn() + Send + Sync>,
}

/// The operations on a queue.
pub struct QueueOperations {
    source: Source,
    daemon: Option<Daemon>,
    reader: Reader,
}

impl QueueOperations {
    /// Inside the daemon.
    pub fn live(queue: Queue, daemon: Daemon) -> Self {
        let reader = queue.reader();
        Self { source: Source::Queue(queue), daemon: Some(daemon), reader }
    }

    /// While the daemon is down.
    pub fn offline(source: Source) -> Self {
        let reader = match &source {
            Source::Queue(queue) => queue.reader(),
            Source::Reader(reader) => reader.clone(),
        };
        Self { source, daemon: None, reader }
    }
}

impl Operations for QueueOperations {
    fn run(&self, request: &Request, row: &mut dyn FnMut(Value) -> bool) -> Result<Done, Failure> {
        match request {
            Request::Status => {
                row(self.status()?);
                Ok(Done { count: 1, more: false })
            }
            Request::QueueList(arguments) => self.list(arguments, row),
            Request::QueueShow(id) => {
                row(self.show(id)?);
                Ok(Done { count: 1, more: false })
            }
            Request::QueueCount(select) => {
                let (_, count) = self.concerned(&self.selector(select)?)?;
                Ok(Done { count, more: false })
            }
            Request::QueueRetry(select) | Request::QueueDrop(select) => self.change(request, select),
            Request::ReportTls(arguments) => self.report_tls(arguments, row),
        }
    }
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
