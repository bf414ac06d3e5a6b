//! Delivery on this machine.
//!
//! What it does: hands content to its final place and reports one typed outcome. What it does not: it decides nothing
//! about who receives (`routing`), and it knows nothing of the queue.

pub mod copy;
pub mod lmtp;
pub mod local;
pub mod maildir;
mod place;
pub mod process;
pub mod quota;
mod socket;
mod spread;
mod turns;
