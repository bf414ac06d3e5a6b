//! The runtime: the only crate that knows sockets, DNS, TLS streams, time and users.

pub mod account;
pub mod clock;
pub mod config;
pub mod control;
pub mod delivery;
pub mod dns;
pub mod inbound;
pub mod inspect;
pub mod log;
pub mod net;
pub mod outbound;
pub mod privilege;
pub mod report;
pub mod routing;
pub mod stop;
pub mod tls;
