//! Where a message goes next: the route of one recipient domain.
//!
//! A route is decided anew at each attempt and never stored in the envelope, so that a changed configuration takes
//! effect on mail that already waits. This module holds the types; what a route leads to is `outbound` and `delivery`.

pub mod table;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use mta_smtp::address::Host;

/// What to do with the mail for one recipient domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Route {
    /// The domain is ours: deliver here.
    Local,
    /// Look up the MX hosts of this domain, or connect to this address literal (RFC 5321 5.1).
    Mx {
        /// The next-hop domain; usually the recipient domain itself.
        next_hop: Host,
    },
    /// Hand everything to a relay host, which is not subject to MX lookup.
    Relay(Arc<RelayHost>),
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Mx { next_hop: Host::Domain(domain) } => write!(f, "mx:{domain}"),
            Self::Mx { next_hop: Host::Literal(address) } => write!(f, "mx:[{address}]"),
            Self::Relay(relay) => write!(f, "relay:{}:{}", relay.host, relay.port),
        }
    }
}

/// A configured relay host (smarthost).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RelayHost {
    /// Its name in A-labels without a trailing dot, or an IP address as text.
    pub host: String,
    /// The port: usually 587 with STARTTLS, 465 with implicit TLS, or 25.
    pub port: u16,
    /// How TLS is used with it. A relay host with secure TLSA records is verified by these in every mode but `Never`.
    pub tls: RelayTls,
    /// The login, where it wants one. Never sent before the server's certificate was verified, whatever `tls` says.
    pub auth: Option<RelayAuth>,
}

/// How TLS is used with a relay host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RelayTls {
    /// TLS from the first byte (RFC 8314 3.3); the certificate is verified.
    Implicit,
    /// STARTTLS is required and the certificate is verified. The default.
    #[default]
    StartTls,
    /// STARTTLS where it works, unverified; plaintext else. Not possible together with a login.
    Opportunistic,
    /// Plaintext always: a relay on this very host. Not possible together with a login.
    Never,
}

/// The login at a relay host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RelayAuth {
    /// The user name.
    pub username: String,
    /// The file with the password: its first line, without the line end. Read at each use, so a changed secret needs
    /// no restart; the secret itself is never part of the configuration or of any record.
    pub secret_file: PathBuf,
}
