//! SMTP without I/O: addresses, envelopes, commands, replies, and the server and client sessions.
//!
//! What it does: everything of RFC 5321 and its extensions that can be said about bytes that came in and bytes that
//! must go out. What it does not: it owns no socket, no clock, no file and no policy. Time is an argument, policy is
//! asked for (`Output::Ask`) and answered by the driver in `mta-core`.

// Tests need a time to begin at, and there is no other way to make an Instant. The library itself is still checked.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod address;
pub mod bdat;
pub mod client;
pub mod command;
pub mod data;
pub mod envelope;
pub mod extension;
pub mod line;
mod parse;
pub mod reply;
pub mod sasl;
pub mod server;
pub mod text;
