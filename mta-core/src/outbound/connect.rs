//! A TCP connection to one address of a host: which addresses may be connected to, from where, and for how long.
//!
//! What it does not: it chooses no host and no order; discovery gave the addresses in the order to try them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smol::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::Options;

/// Why an address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forbidden {
    /// It is one of ours, on a port we listen on.
    Own,
    /// It is a loopback address.
    Loopback,
    /// It is private, link-local or shared (RFC 1918, 3927, 4193, 4291, 6598).
    Private,
    /// No host can have it: unspecified, multicast, broadcast.
    NoHost,
    /// Its family is switched off.
    Family,
}

impl std::fmt::Display for Forbidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Own => "is an address of this server: mail loops back",
            Self::Loopback => "is a loopback address, to which no mail from outside is sent",
            Self::Private => "is a private address, to which no mail is sent unless configured",
            Self::NoHost => "is not the address of a host",
            Self::Family => "is of an address family that is switched off",
        })
    }
}

/// Whether an address may be connected to. A relay host was named by the administrator: where it stands is up to him, so
/// only our own door is closed to it.
///
/// # Errors
///
/// Why it may not.
pub fn check(address: IpAddr, port: u16, options: &Options, configured: bool) -> Result<(), Forbidden> {
    let plain = plain(address);
    let family_on = if plain.is_ipv4() { options.ipv4 } else { options.ipv6 };
    if no_host(plain) {
        return Err(Forbidden::NoHost);
    }
    if options.own_ports.contains(&port) && options.own_addresses.iter().any(|own| is_ours(*own, plain)) {
        return Err(Forbidden::Own);
    }
    if plain.is_loopback() && !options.allow_loopback && !configured {
        return Err(Forbidden::Loopback);
    }
    if is_private(plain) && !options.allow_private && !configured {
        return Err(Forbidden::Private);
    }
    if family_on { Ok(()) } else { Err(Forbidden::Family) }
}

/// Who listens on every address listens on every loopback address; which others we have shows on the connection
/// (`is_own`).
fn is_ours(listening: IpAddr, address: IpAddr) -> bool {
    let own = plain(listening);
    own == address || (own.is_unspecified() && own.is_ipv4() == address.is_ipv4() && address.is_loopback())
}

/// An IPv4 address in IPv6 clothing is an IPv4 address.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

fn no_host(address: IpAddr) -> bool {
    match address {
        // 0.0.0.0/8 reaches this host on Linux; 240.0.0.0/4 is reserved.
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_multicast() || v4.octets()[0] >= 240,
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && (64..128).contains(&v4.octets()[1]);
            v4.is_private() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80
        }
    }
}

/// The system knows no way to the address.
pub const NO_ROUTE: &str = "no-route";

/// The system has no descriptors, ports or buffers left.
pub const RESOURCES: &str = "resources";

/// Why a connection was not made, in a word for the decision record.
pub fn error_word(error: &io::Error) -> &'static str {
    use rustix::io::Errno;

    const NONE_LEFT: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    let raw = error.raw_os_error();
    let is_one_of = |of: &[Errno]| of.iter().any(|errno| raw == Some(errno.raw_os_error()));
    match error.kind() {
        _ if is_one_of(&NONE_LEFT) => RESOURCES,
        _ if is_one_of(&[Errno::NETUNREACH, Errno::ADDRNOTAVAIL]) => NO_ROUTE,
        _ if is_one_of(&[Errno::HOSTUNREACH]) => "unreachable",
        io::ErrorKind::ConnectionRefused => "refused",
        io::ErrorKind::TimedOut => "timeout",
        _ => "failed",
    }
}

/// Whether the system knows a way to the network at large, by the families that are on. It looks into the routing table
/// and sends nothing: root name servers stand for everybody.
pub fn has_route(options: &Options) -> bool {
    const FAR: [(&str, &str, bool); 4] = [
        ("0.0.0.0:0", "198.41.0.4:53", true),
        ("0.0.0.0:0", "193.0.14.129:53", true),
        ("[::]:0", "[2001:503:ba3e::2:30]:53", false),
        ("[::]:0", "[2001:7fd::1]:53", false),
    ];
    let known =
        |from: &str, to: &str| std::net::UdpSocket::bind(from).and_then(|socket| socket.connect(to)).is_ok();
    FAR.iter().any(|(from, to, v4)| if *v4 { options.ipv4 } else { options.ipv6 } && known(from, to))
}

/// Opens a connection, from the configured source address where there is one.
///
/// # Errors
///
/// `TimedOut` when it is not open in time, what the system says otherwise.
pub async fn connect(address: SocketAddr, options: &Options) -> io::Result<TcpStream> {
    connect_within(address, options, options.connect_timeout).await
}

/// The same within another time.
///
/// # Errors
///
/// As for `connect`.
pub async fn connect_within(
    address: SocketAddr,
    options: &Options,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let open = async {
        let stream = match source(address, options) {
            None => TcpStream::connect(address).await?,
            Some(source) => connect_from(source, address).await?,
        };
        // Each command and its reply are one round trip; nothing is gained by waiting for more to send.
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let late = async {
        smol::Timer::after(timeout).await;
        Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time"))
    };
    futures_lite::future::or(open, late).await
}

/// The address a connection to `address` comes from, where one is configured.
pub fn source(address: SocketAddr, options: &Options) -> Option<SocketAddr> {
    match address {
        SocketAddr::V4(_) => options.source_ipv4.map(|source| (source, 0).into()),
        SocketAddr::V6(_) => options.source_ipv6.map(|source| (source, 0).into()),
    }
}

/// Binds before it connects, which the simple interface cannot.
async fn connect_from(source: SocketAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&source.into())?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            return Err(error);
        }
        _ => {}
    }
    let stream = async_io::Async::new_nonblocking(std::net::TcpStream::from(socket))?;
    stream.writable().await?;
    if let Some(error) = stream.get_ref().take_error()? {
        return Err(error);
    }
    // Writable without an error and without a peer: the connection is not there.
    stream.get_ref().peer_addr()?;
    Ok(stream.into())
}

/// Whether a connection led back to this host: its two ends have the same address. Catches our own addresses that
/// nobody configured (another interface, a NAT that turns us around).
pub fn is_own(stream: &TcpStream, options: &Options) -> bool {
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return false };
    local.ip() == peer.ip() && !peer.ip().is_loopback() && options.own_ports.contains(&peer.port())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn verdict(address: &str, change: impl Fn(&mut Options), configured: bool) -> Result<(), Forbidden> {
        let own_addresses = vec!["198.51.100.7".parse().unwrap()];
        let mut options = Options { own_addresses, ..Options::default() };
        change(&mut options);
        check(address.parse().unwrap(), 25, &options, configured)
    }

    #[test]
    fn addresses_that_no_stranger_may_send_us_to() {
        for (address, expected) in [
            ("192.0.2.1", Ok(())),
            ("2001:db8::1", Ok(())),
            ("198.51.100.7", Err(Forbidden::Own)),
            ("::ffff:198.51.100.7", Err(Forbidden::Own)),
            ("127.0.0.1", Err(Forbidden::Loopback)),
            ("127.9.9.9", Err(Forbidden::Loopback)),
            ("::1", Err(Forbidden::Loopback)),
            ("::ffff:127.0.0.1", Err(Forbidden::Loopback)),
            ("0.0.0.0", Err(Forbidden::NoHost)),
            ("0.1.2.3", Err(Forbidden::NoHost)),
            ("::", Err(Forbidden::NoHost)),
            ("224.0.0.1", Err(Forbidden::NoHost)),
            ("255.255.255.255", Err(Forbidden::NoHost)),
            ("ff02::1", Err(Forbidden::NoHost)),
            ("10.0.0.1", Err(Forbidden::Private)),
            ("172.16.0.1", Err(Forbidden::Private)),
            ("172.32.0.1", Ok(())),
            ("192.168.1.1", Err(Forbidden::Private)),
            ("169.254.1.1", Err(Forbidden::Private)),
            ("100.64.0.1", Err(Forbidden::Private)),
            ("100.128.0.1", Ok(())),
            ("fd00::1", Err(Forbidden::Private)),
            ("fe80::1", Err(Forbidden::Private)),
            ("::ffff:10.0.0.1", Err(Forbidden::Private)),
        ] {
            assert_eq!(verdict(address, |_| {}, false), expected, "{address}");
        }
    }

    #[test]
    fn what_the_administrator_may_open() {
        assert_eq!(verdict("127.0.0.1", |o| o.allow_loopback = true, false), Ok(()));
        assert_eq!(verdict("10.0.0.1", |o| o.allow_private = true, false), Ok(()));
        assert_eq!(verdict("127.0.0.1", |_| {}, true), Ok(()));
        assert_eq!(verdict("198.51.100.7", |_| {}, true), Err(Forbidden::Own));
        assert_eq!(verdict("198.51.100.7", |o| o.own_ports = vec![2525], false), Ok(()));
        assert_eq!(verdict("192.0.2.1", |o| o.ipv4 = false, false), Err(Forbidden::Family));
        assert_eq!(verdict("2001:db8::1", |o| o.ipv6 = false, false), Err(Forbidden::Family));
    }

    #[test]
    fn who_listens_everywhere_is_found_on_loopback_too() {
        let everywhere = |v4: bool| {
            move |options: &mut Options| {
                options.own_addresses = vec![if v4 { "0.0.0.0" } else { "::" }.parse().unwrap()];
                options.allow_loopback = true;
            }
        };
        for (address, v4, expected) in [
            ("127.0.0.1", true, Err(Forbidden::Own)),
            ("127.9.9.9", true, Err(Forbidden::Own)),
            ("::ffff:127.0.0.1", true, Err(Forbidden::Own)),
            ("::1", false, Err(Forbidden::Own)),
            ("::1", true, Ok(())),
            ("127.0.0.1", false, Ok(())),
            ("192.0.2.1", true, Ok(())),
        ] {
            for configured in [false, true] {
                assert_eq!(verdict(address, everywhere(v4), configured), expected, "{address}");
            }
        }
        let elsewhere = |options: &mut Options| {
            everywhere(true)(options);
            options.own_ports = vec![2525];
        };
        assert_eq!(verdict("127.0.0.1", elsewhere, true), Ok(()));
    }

    #[test]
    fn a_source_address_is_used() {
        smol::block_on(async {
            let listener = smol::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let options = Options { source_ipv4: Some(Ipv4Addr::new(127, 0, 0, 9)), ..Options::default() };
            let stream = connect(address, &options).await.unwrap();
            assert_eq!(stream.local_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 9]));
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 9]));
            // A port nobody listens on is told at once.
            drop(listener);
            assert_eq!(
                connect(address, &options).await.unwrap_err().kind(),
                io::ErrorKind::ConnectionRefused
            );
        });
    }
}
