//! What a server session offers, and every bound it sets to a stranger.

use std::time::Duration;

use crate::address::{Domain, Mailbox};
use crate::extension::Extensions;

/// What one session is made with. Sessions share it; a reload makes a new one for those that follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The name we give ourselves in the greeting and in the reply to EHLO.
    pub hostname: Domain,
    /// Who receives what is sent to `<Postmaster>` without a domain (RFC 5321 4.5.1).
    pub postmaster: Mailbox,
    /// What is offered.
    pub extensions: Extensions,
    /// Whether a client has to log in before it sends (RFC 6409 4.3).
    pub require_auth: bool,
    /// The bounds.
    pub limits: Limits,
}

/// The bounds of a session. `Default` gives the values named at each field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Recipients of one message (RFC 5321 4.5.3.1.8 asks for 100 at least); 1000.
    pub recipients: usize,
    /// Transactions in one session; 1000.
    pub transactions: usize,
    /// Permanently refused commands, recipients and messages before the session is closed; 20.
    pub errors: usize,
    /// Failed logins before the session is closed; 3.
    pub auth_failures: usize,
    /// Commands that bring no mail further (NOOP, RSET, VRFY, HELP, a second EHLO) between two messages; 100.
    pub idle_commands: usize,
    /// The longest line of content, in octets without its CR LF; 1 MiB.
    pub content_line_octets: usize,
    /// The largest header section, in octets; 256 KiB.
    pub header_octets: usize,
    /// The lines of the header section; 10 000.
    pub header_lines: usize,
    /// The `Received:` lines after which a message is taken to loop (RFC 5321 6.3); 50.
    pub received_lines: usize,
    /// How long a whole command may take to come, counted from our last reply (RFC 5321 4.5.3.2.7); 5 minutes.
    pub command_timeout: Duration,
    /// How long the next part of the content may take to come (RFC 5321 4.5.3.2.5); 3 minutes.
    pub content_block_timeout: Duration,
    /// How long the content of one message may take in all; 1 hour.
    pub content_timeout: Duration,
    /// How long a TLS handshake may take; 1 minute.
    pub tls_timeout: Duration,
    /// How long a session may last; it ends between two messages. 4 hours.
    pub session_lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            recipients: 1000,
            transactions: 1000,
            errors: 20,
            auth_failures: 3,
            idle_commands: 100,
            content_line_octets: 1024 * 1024,
            header_octets: 256 * 1024,
            header_lines: 10_000,
            received_lines: 50,
            command_timeout: Duration::from_secs(300),
            content_block_timeout: Duration::from_secs(180),
            content_timeout: Duration::from_secs(3600),
            tls_timeout: Duration::from_secs(60),
            session_lifetime: Duration::from_secs(4 * 3600),
        }
    }
}
