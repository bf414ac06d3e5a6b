//! The control protocol: how the administrator's tool asks the running daemon, over a Unix socket.
//!
//! One request is one line of JSON; the answer is any number of `row` lines and then one `done` or `error` line. Every
//! line carries the protocol's version. Who may ask is decided by the peer's credentials, not by the socket's mode alone.
//! The operations behind it are the same functions that the tool calls itself while the daemon is down ([`Operations`]).
//! Nothing here decides about mail.

mod operations;
mod protocol;
mod server;
mod views;

pub use self::operations::{Daemon, Operations, QueueOperations, Source};
pub use self::protocol::{
    Code, Done, Failure, ListArguments, MAX_REQUEST_BYTES, ReportTlsArguments, Request, Response, Select,
    VERSION,
};
pub use self::server::{Access, bind, serve};
pub use self::views::{
    AlertView, AttemptView, CountsView, MessageView, RecipientView, ResultView, StatusView, rfc3339,
    rfc3339_of,
};
