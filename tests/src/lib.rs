//! The laboratory: a private Internet on loopback in which the real daemon runs.
//!
//! - [`zone`], [`sign`], [`dns`]: zones described in code, signed in process, served by UDP and TCP, with faults on demand.
//! - [`cert`]: certificate authorities, chains, and the TLSA records for them.
//! - [`mx`]: scripted MX hosts that keep what they receive.
//! - [`client`], [`dialog`]: an SMTP client of its own, and dialogs written as text files.
//! - [`policy_host`]: hosts of MTA-STS policies.
//! - [`netns`]: a network namespace in which ports 25 and 53 are free.
//! - [`daemon`], [`lab`]: the real daemon under test, and everything together.
//! - [`unbound`]: an independent validator, where it is installed.
//! - [`show`]: the show for a newcomer.
//! - [`system`]: a system with users of its own, in a mount namespace.
//! - [`peers`]: real software: Postfix, nsd, unbound.
//! - [`cargo`]: what cargo says of the workspace.
//! - [`mod@bench`]: this server and Postfix side by side.
//!
//! What a test of the laboratory finds is what the daemon and its peers really did, never what a mock assumed.

pub mod bench;
pub mod cargo;
pub mod cert;
pub mod client;
pub mod daemon;
pub mod dialog;
pub mod dkimpy;
pub mod dns;
pub mod lab;
pub mod mx;
pub mod netns;
pub mod peers;
pub mod policy_host;
pub mod show;
pub mod sign;
pub mod system;
pub mod unbound;
pub mod zone;
