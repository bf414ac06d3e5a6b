//! What can be set about DNS. Reads no file: the configuration module fills this.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use mta_dane::validator::{CacheLimits, Limits};

/// Who decides what is secure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// This process validates every answer. A self-test at start chooses the transport.
    #[default]
    Auto,
    /// The AD bit of a resolver on a loopback address is believed (RFC 7672 2.1.1, RFC 4035 4.9.3). Any other
    /// address is a configuration error.
    TrustAd,
}

/// Where own recursion begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RootHints {
    /// The thirteen root servers of the Internet.
    #[default]
    BuiltIn,
    /// A hints file in zone file format: NS records of the root with A and AAAA records.
    File(PathBuf),
    /// Plain addresses with ports, for a private tree.
    Servers(Vec<SocketAddr>),
}

/// Everything that can be set about DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Validate here, or trust the AD bit.
    pub mode: Mode,
    /// Resolvers to forward to. Empty means those of [`Options::resolv_conf`].
    pub forwarders: Vec<SocketAddr>,
    /// The system's list of resolvers, read where `forwarders` is empty.
    pub resolv_conf: PathBuf,
    /// Whether authoritative servers may be asked directly where the forwarders cannot carry DNSSEC.
    pub recursion: bool,
    /// Where own recursion begins.
    pub root_hints: RootHints,
    /// The port of authoritative servers found by referral.
    pub authoritative_port: u16,
    /// A file of trust anchors that takes the place of the built-in ones.
    pub trust_anchor_file: Option<PathBuf>,
    /// How long one server may take for one query.
    pub query_timeout: Duration,
    /// How often each forwarder is asked before the question fails.
    pub attempts: u32,
    /// How long a whole lookup may take, with all its sub-queries.
    pub lookup_timeout: Duration,
    /// How many queries one lookup may send to servers, repetitions included. A cold lookup by own recursion needs about
    /// a dozen.
    pub upstream_queries: u32,
    /// How many queries of all lookups may be under way at once; each is a socket.
    pub concurrent_queries: usize,
    /// How much memory validated keys and answers may take.
    pub cache: CacheLimits,
    /// The work a stranger's zone may cause.
    pub limits: Limits,
    /// Whether servers are asked over IPv4.
    pub ipv4: bool,
    /// Whether servers are asked over IPv6.
    pub ipv6: bool,
    /// The address that queries come from, for IPv4.
    pub source_ipv4: Option<Ipv4Addr>,
    /// The address that queries come from, for IPv6.
    pub source_ipv6: Option<Ipv6Addr>,
    /// Whether the letters of a name are sent in random case over UDP, and compared in the response, as a further
    /// obstacle to forgery. A few servers change the case, so it is off by default.
    pub random_case: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            forwarders: Vec::new(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            recursion: true,
            root_hints: RootHints::BuiltIn,
            authoritative_port: 53,
            trust_anchor_file: None,
            query_timeout: Duration::from_secs(3),
            attempts: 2,
            lookup_timeout: Duration::from_secs(30),
            upstream_queries: 60,
            concurrent_queries: 128,
            cache: CacheLimits::default(),
            limits: Limits::default(),
            ipv4: true,
            ipv6: true,
            source_ipv4: None,
            source_ipv6: None,
            random_case: false,
        }
    }
}
