//! The laboratory's DNS: the private Internet's tree of zones, authoritative servers for it, and a forwarder.
//!
//! [`Internet`] holds the descriptions of all zones and their keys; [`Internet::tree`] signs them; [`DnsServers`] serves
//! the tree by UDP and TCP on loopback addresses, so that real iteration from the root works, and as a forwarder that
//! answers any question the way a resolver without validation does. Zones can be changed and served anew at any time.

pub mod answer;
mod internet;
mod server;

pub use internet::{Internet, ROOT_SERVER, Tree};
pub use server::{DnsServers, ForwarderMode, LoggedQuery, Transport};
