//! The types of option values: how each is written in TOML, checked, and shown again.
//!
//! Each type says in words what it expects, so that every error can. No type looks anything up.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;

/// A domain or host name: lower case, no trailing dot, letters, digits and hyphens (A-labels for an IDN).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainName(String);

/// A host to connect to: a name as in [`DomainName`], or an IP address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

/// A recipient domain, or `.domain` for all its subdomains.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainPattern(String);

/// The local-part of an own mailbox, lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxName(String);

/// A whole address, `local-part@domain`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailAddress(String);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Size(pub u64);

/// A range of client addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// The lowest address of the range; bits beyond the prefix are zero.
    pub address: IpAddr,
    /// How many leading bits count.
    pub prefix: u8,
}

/// The address of a DNS server; port 53 is meant where none is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DnsServer(pub SocketAddr);

impl DnsServer {
    /// Reads an address, with or without port.
    pub fn parse(text: &str) -> Option<Self> {
        let with_default = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53));
        text.parse().ok().or_else(with_default).map(Self)
    }
}

/// Where an LMTP server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LmtpAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// A host and port.
    Tcp {
        /// Name or address.
        host: String,
        /// The port.
        port: u16,
    },
}

impl LmtpAddress {
    /// `lmtp:unix:/path` or `lmtp:host:port`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("lmtp:").ok_or("it begins with lmtp:")?;
        if let Some(path) = rest.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err("the socket's path is absolute".to_owned())
            };
        }
        let hop = HostPort::parse(rest)?;
        let port = hop.port.ok_or("a host needs a port: lmtp:127.0.0.1:24")?;
        Ok(Self::Tcp { host: hop.host.to_string(), port })
    }
}

impl fmt::Display for LmtpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "lmtp:unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "lmtp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "lmtp:{host}:{port}"),
        }
    }
}

/// A host and perhaps a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Host name or address.
    pub host: HostName,
    /// The port, where another than the usual one is meant.
    pub port: Option<u16>,
}

/// How DNSSEC is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsMode {
    /// Validate in this process; a start-up self-test chooses the transport.
    #[default]
    Auto,
    /// Trust the AD bit of a resolver on loopback.
    TrustAd,
}

/// DANE for one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DaneMode {
    /// Where secure TLSA records exist (RFC 7672 2.2).
    #[default]
    Opportunistic,
    /// No delivery without a successful DANE authentication.
    Mandatory,
    /// Not applied; TLS stays opportunistic. Needs an end date and a reason.
    Off,
}

/// What kind of domain it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DomainKind {
    /// Mailboxes of the configuration and the database.
    #[default]
    Virtual,
    /// The users of this system, and alias files.
    Local,
    /// Taken and handed on.
    Relay,
}

/// How lines that begin with `From ` are marked in an mbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MboxFormat {
    /// So that it can be undone.
    #[default]
    Mboxrd,
    /// As older programs do.
    Mboxo,
}

/// Which recipients of a relayed domain are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelayRecipients {
    /// Those that are listed.
    #[default]
    Listed,
    /// All.
    Any,
    /// Those that are listed, and those that the next hop takes when it is asked.
    Verified,
}

/// What follows where the next hop cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unasked {
    /// Mail is taken.
    #[default]
    Accept,
    /// The client comes again.
    Defer,
}

/// What follows where a check of strangers' mail fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthAction {
    /// Nothing but the word in Authentication-Results.
    #[default]
    Accept,
    /// A mark in the header section, for filters.
    Mark,
    /// The message is refused in the session.
    Reject,
}

/// How TLS begins with a relay host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelayTls {
    /// STARTTLS on a plain connection (RFC 3207).
    #[default]
    Starttls,
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// STARTTLS where it works, verified only by DANE; not together with AUTH.
    Opportunistic,
    /// No TLS: a relay on this very host; not together with AUTH.
    Never,
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogTarget {
    /// Standard error, with priorities where it is the journal.
    #[default]
    Stderr,
    /// The datagram socket /dev/log, facility mail.
    Syslog,
}

/// The least severe level that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only what needs somebody to act.
    Error,
    /// What may need somebody to act.
    Warn,
    /// One line per event in the life of a message.
    #[default]
    Info,
    /// Each step of a session.
    Debug,
    /// Each command and reply.
    Trace,
}

impl DomainName {
    /// Checks and lower-cases a name (RFC 5321 4.1.2, RFC 1035 2.3.4); the error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() || name.len() > 253 {
            return Err("a name has 1 to 253 characters".to_owned());
        }
        if name.parse::<IpAddr>().is_ok() {
            return Err("this is an address, not a name".to_owned());
        }
        for label in name.split('.') {
            check_label(label)?;
        }
        Ok(Self(name))
    }

    /// `localhost`, the last resort of a host without a name.
    pub(crate) fn localhost() -> Self {
        Self("localhost".to_owned())
    }
}

impl HostName {
    /// A name, or an IP address written plainly.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self(address.to_string())),
            Err(_) => DomainName::parse(text).map(|name| Self(name.0)),
        }
    }

    /// The address, where the host was given as one.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }
}

/// One label of a domain name: letters, digits, hyphens inside, and underscores, which private names have.
fn check_label(label: &str) -> Result<(), String> {
    if label.is_empty() || label.len() > 63 {
        return Err("each part between dots has 1 to 63 characters".to_owned());
    }
    if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err("only letters, digits, hyphens and dots (an IDN in its xn-- form)".to_owned());
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err("no part begins or ends with a hyphen".to_owned());
    }
    Ok(())
}

impl DomainPattern {
    /// Never used for a name that was checked; see `table::destination`.
    pub(crate) fn localhost() -> Self {
        Self("localhost".to_owned())
    }

    /// A domain, or `.domain` for its subdomains.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix('.') {
            Some(rest) => DomainName::parse(rest).map(|d| Self(format!(".{d}"))),
            None => DomainName::parse(text).map(|d| Self(d.0)),
        }
    }
}

impl MailboxName {
    /// A local-part that is safe as a folder name: no slash, no leading dot, no control character, not empty.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > 64 {
            return Err("a mailbox name has 1 to 64 characters".to_owned());
        }
        if text.starts_with('.') || !text.bytes().all(is_mailbox_byte) {
            return Err("a mailbox name is made of letters, digits and !#$%&'*+-=?^_`{|}~. and does not begin with a dot"
                .to_owned());
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// RFC 5322 atext without the slash, and the dot.
fn is_mailbox_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-=?^_`{|}~.".contains(&byte)
}

impl MailAddress {
    /// `local-part@domain`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((local, domain)) = text.rsplit_once('@') else {
            return Err("an address has an @".to_owned());
        };
        let local = MailboxName::parse(local)?;
        let domain = DomainName::parse(domain)?;
        Ok(Self(format!("{local}@{domain}")))
    }

    /// The part before the `@`.
    pub fn local_part(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(local, _)| local)
    }

    /// The part behind the `@`.
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl Network {
    /// `address/prefix`, or a single address.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| "the part before the slash is no address".to_owned())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(p) => {
                p.parse().ok().filter(|p| *p <= most).ok_or_else(|| format!("the prefix is 0 to {most}"))?
            }
        };
        let network = Self { address, prefix };
        if network.masked(address) != network.bits() {
            return Err("bits are set behind the prefix".to_owned());
        }
        Ok(network)
    }

    /// Whether `client` lies in the range. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        client.is_ipv4() == self.address.is_ipv4() && self.masked(client) == self.bits()
    }

    /// The address of the range as left-aligned bits.
    fn bits(&self) -> u128 {
        left_aligned(self.address)
    }

    /// `address` as left-aligned bits, those behind the prefix cleared.
    fn masked(&self, address: IpAddr) -> u128 {
        let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
        left_aligned(address) & mask
    }
}

/// The bits of an address, the first one highest.
fn left_aligned(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    }
}

impl HostPort {
    /// `host`, `host:port`, `[v6]:port`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self { host: HostName::parse(&socket.ip().to_string())?, port: Some(socket.port()) });
        }
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if bare.parse::<IpAddr>().is_ok() {
            return Ok(Self { host: HostName::parse(bare)?, port: None });
        }
        match text.rsplit_once(':') {
            None => Ok(Self { host: HostName::parse(text)?, port: None }),
            Some((host, port)) => {
                let port = port
                    .parse()
                    .ok()
                    .filter(|p| *p > 0)
                    .ok_or_else(|| "the port is 1 to 65535".to_owned())?;
                Ok(Self { host: HostName::parse(host)?, port: Some(port) })
            }
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.host.address()) {
            (None, _) => self.host.fmt(f),
            (Some(port), Some(IpAddr::V6(v6))) => write!(f, "[{v6}]:{port}"),
            (Some(port), _) => write!(f, "{}:{port}", self.host),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// What every text newtype can do: show itself and be read as text.
macro_rules! text_type {
    ($($name:ident),*) => {$(
        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text_type!(DomainName, HostName, DomainPattern, MailboxName, MailAddress);
