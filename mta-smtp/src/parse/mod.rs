//! The grammars of SMTP (RFC 5321 4.1.2 and the extensions' ABNF), written with nom over complete inputs.
//!
//! What it does: turns one whole text (an address, a command's argument, a reply line) into a checked value. What it
//! does not: no framing (see `line`), no policy, no repair. Every entry point consumes its whole input or fails, and
//! recursion is bounded by the length of a line that was bounded before.

pub(crate) mod address;
pub(crate) mod command;
pub(crate) mod dsn;
pub(crate) mod reply;
