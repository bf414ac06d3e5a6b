//! Sockets of the server's side: listeners, bounds on connections, reads and writes with deadlines.
//!
//! What it does: everything about a connection that is the same for each protocol. What it does not: it speaks none.

mod deadline;
mod limit;
mod listener;
mod stream;

pub use deadline::{within, write_all};
pub use limit::{ConnectionLimit, Full, Permit};
pub use listener::{ListenError, Listener, activated};
pub use stream::Stream;
