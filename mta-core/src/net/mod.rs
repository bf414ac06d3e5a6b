//! Sockets: listeners, bounds on connections, reads and writes with deadlines; a small HTTPS client.
//!
//! What it does: everything about a connection that is the same for each protocol. What it does not: it speaks none.

mod deadline;
pub mod https;
mod limit;
mod listener;
mod stream;

pub use deadline::{within, write_all};
pub(crate) use limit::counted_as;
pub use limit::{ConnectionLimit, Full, Permit};
pub use listener::{ListenError, Listener, activated};
pub use stream::Stream;
