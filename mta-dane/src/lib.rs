//! DANE for SMTP without I/O (RFC 7672, 7671, 6698): what to ask DNS, what the answers demand, and whether a
//! certificate satisfies them; and the DNSSEC validation underneath.
//!
//! What it does not: it owns no socket, no clock and no resolver. It emits queries and takes answers; time is an
//! argument.

pub mod dnssec;
pub mod validator;
