//! TLS: the configurations of both roles. Which requirement applies to a connection is decided in
//! `outbound::tls_policy`, not here.

pub mod client;
pub mod client_certificate;
pub mod identities;
pub(crate) mod judged;
pub mod server;
