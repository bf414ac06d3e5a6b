//! The laboratory: a private Internet on loopback in which the real daemon runs.

pub mod bench;
