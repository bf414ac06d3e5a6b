//! Delivery to users of the system: a process of its own, started by root, that becomes the user before it opens a file.
//!
//! The mail server runs as a user without rights and cannot write other users' files. So it asks this process, over a
//! Unix socket, to put one message to one place as one user:
//!
//! ```text
//! mta-cli serve ──socket──> mta-cli deliver (root) ──exec──> mta-cli deliver --child (the user)
//!      client.rs                 server.rs                        child.rs: mbox, Maildir, .forward, command
//! ```
//!
//! The root process reads one request, of bounded size, checks who asks (peer credentials), who the user is (never root,
//! no system account unless allowed) and whether the place is one that an alias file or the user's own `.forward` names,
//! starts a child, and ends it where it takes too long. It reads no mail and writes no file. The child is the same program,
//! executed anew: it takes the user's groups and numbers for good, makes sure that there is no way back, and only then
//! opens anything. Root's mail cannot be delivered this way at all.
//!
//! # The protocol
//!
//! Every frame is a length (four octets, most significant first) and so many octets. The client sends a [`protocol::Request`]
//! (JSON); the answer is a [`protocol::Answer`]: `Go`, upon which the client sends the content in frames, ended by an
//! empty one, and gets the last answer; or an end at once. One connection is one place. A connection that ends
//! before the empty frame leaves nothing: what was written is taken back.
//!
//! What it does not: it knows no queue, no alias beyond the check, and decides about no retry.

mod child;
mod client;
mod mbox;
mod pipe;
mod places;
pub mod protocol;
mod quoted;
mod server;
mod watch;

pub use child::run as run_child;
pub use client::Process;
pub(crate) use server::owner_of;
pub use server::{MboxFormat, Settings, run};

/// The variable of the environment by which the root process tells the child its work.
const JOB_VARIABLE: &str = "MTA_DELIVER_JOB";
