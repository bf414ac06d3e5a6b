//! DANE for SMTP without I/O (RFC 7672, 7671, 6698): what to ask DNS, what the answers demand, and whether a
//! certificate satisfies them; and the DNSSEC validation underneath.
//!
//! What it does not: it owns no socket, no clock and no resolver. It emits queries and takes answers; time is an
//! argument.

pub mod base_domain;
pub mod der;
pub mod discovery;
pub mod dnssec;
pub mod failure;
pub mod judge;
pub mod matching;
pub mod memory;
pub mod policy;
pub mod reference;
pub mod tlsa;
pub mod validator;
pub mod verifier;
pub mod verify;
