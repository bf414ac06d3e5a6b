//! The options of mail out. Every bound on what a remote server may cost us is here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::pool::Reuse;

/// Options of outbound delivery. `Default` is what a mail server on the public Internet wants.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name we give in EHLO, and by which an MX that is ourselves is recognised.
    pub host_name: String,
    /// The SMTP port of MX hosts. The TLSA owner name follows it (RFC 7672 2.2.3).
    pub port: u16,
    /// Whether IPv4 is used.
    pub ipv4: bool,
    /// Whether IPv6 is used.
    pub ipv6: bool,
    /// The address IPv4 connections come from; `None` lets the system choose.
    pub source_ipv4: Option<Ipv4Addr>,
    /// The address IPv6 connections come from; `None` lets the system choose.
    pub source_ipv6: Option<Ipv6Addr>,
    /// Whether MX hosts on loopback addresses are connected to. For laboratories.
    pub allow_loopback: bool,
    /// Whether MX hosts on private, link-local and similar addresses are connected to.
    pub allow_private: bool,
    /// Our own addresses: an MX host with one of them is ourselves.
    pub own_addresses: Vec<IpAddr>,
    /// The port we listen on, for telling ourselves from another server on the same address (laboratories only).
    pub own_ports: Vec<u16>,
    /// Addresses tried per host.
    pub max_addresses_per_host: usize,
    /// MX hosts tried per attempt.
    pub max_hosts: usize,
    /// Transactions begun per attempt: after so many hosts took our MAIL and deferred it, later is better.
    pub max_transactions: usize,
    /// Recipients in one transaction; more go in further transactions on the same connection (RFC 5321 4.5.3.1.8: every
    /// server takes 100).
    pub max_recipients: usize,
    /// How long one attempt may take in all. No connection is begun after this time, and one that is under way is cut; only
    /// the reply to the end of data is still waited for, by its own bound.
    pub attempt_timeout: Duration,
    /// Messages over one session, and sessions between two messages.
    pub reuse: Reuse,
    /// Whether the resolver tells the DNSSEC status of each alias hop. False only with `trust-ad`.
    pub alias_status_known: bool,
    /// How long one TCP connection may take to open.
    pub connect_timeout: Duration,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long the DNS walk for the next-hop or one host may take in all.
    pub discovery_timeout: Duration,
    /// How long to wait for each reply, and how much a session may cost (RFC 5321 4.5.3.2).
    pub smtp: mta_smtp::client::Limits,
    /// What happens to 8-bit content when the server does not offer 8BITMIME.
    pub eight_bit: mta_smtp::client::EightBit,
    /// Mail that a provider refuses by a block of this host is kept and tried again until it is so old. Zero: a refusal is
    /// final (RFC 5321 4.2.1).
    pub retry_blocked: Duration,
    /// How long mail for a destination that has just lost the DANE it had for weeks waits, once; zero: not at all.
    pub dane_loss_delay: Duration,
    /// Whether a message that says `TLS-Required: No` (RFC 8689) is delivered past a failure of what DNS demands.
    pub honour_tls_required_no: bool,
    /// Per-destination rules, looked up by recipient domain: the nearest that fits counts.
    pub destinations: Vec<super::tls_policy::DestinationRule>,
    /// MTA-STS.
    pub sts: crate::sts::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host_name: "localhost".to_owned(),
            port: 25,
            ipv4: true,
            ipv6: true,
            source_ipv4: None,
            source_ipv6: None,
            allow_loopback: false,
            allow_private: false,
            own_addresses: Vec::new(),
            own_ports: vec![25],
            max_addresses_per_host: 5,
            max_hosts: 5,
            max_transactions: 2,
            max_recipients: 100,
            attempt_timeout: Duration::from_secs(3600),
            reuse: Reuse::default(),
            alias_status_known: true,
            connect_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(60),
            discovery_timeout: Duration::from_secs(60),
            smtp: mta_smtp::client::Limits::default(),
            eight_bit: mta_smtp::client::EightBit::Send,
            retry_blocked: Duration::ZERO,
            dane_loss_delay: Duration::ZERO,
            honour_tls_required_no: true,
            destinations: Vec::new(),
            sts: crate::sts::Options::default(),
        }
    }
}
