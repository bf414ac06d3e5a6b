//! Listening sockets: made by us, or handed over by the service manager.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::log::Line;
use async_io::{Async, Timer};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel completes before we take them. The kernel bounds it by net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// How long accepting pauses after the process ran out of something (files, memory), so that it does not spin.
const PAUSE: Duration = Duration::from_millis(200);

/// Why we cannot listen.
#[derive(Debug)]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.source.kind() {
            io::ErrorKind::AddrInUse => "another program listens there already".to_owned(),
            io::ErrorKind::PermissionDenied => {
                "no permission (ports below 1024 need root or CAP_NET_BIND_SERVICE)".to_owned()
            }
            io::ErrorKind::AddrNotAvailable => "this host has no such address".to_owned(),
            _ => self.source.to_string(),
        };
        write!(f, "cannot listen on {}: {reason}", self.address)
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Async<TcpListener>,
    address: SocketAddr,
}

impl Listener {
    /// Listens on this address. `[::]` takes IPv6 only, whatever the system's default.
    ///
    /// # Errors
    /// `ListenError`, one sentence for the administrator.
    pub fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let socket = open(address).map_err(|source| ListenError { address, source })?;
        Self::from_std(socket).map_err(|source| ListenError { address, source })
    }

    /// Takes over a socket that listens already.
    ///
    /// # Errors
    /// What the system reports when it is made non-blocking or asked for its address.
    pub fn from_std(socket: TcpListener) -> io::Result<Self> {
        let address = socket.local_addr()?;
        Ok(Self { socket: Async::new(socket)?, address })
    }

    /// Where it listens; with port 0 asked for, the port that was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection and who is at its other end. Does not return before there is one: when the process has
    /// run out of something it says so in the log, pauses, and tries again.
    pub async fn accept(&self) -> (Async<TcpStream>, SocketAddr) {
        loop {
            let error = match self.socket.accept().await {
                Ok((stream, peer)) => match stream.get_ref().set_nodelay(true) {
                    Ok(()) => return (stream, SocketAddr::new(canonical(peer.ip()), peer.port())),
                    Err(_) => continue, // gone before we looked at it
                },
                Err(error) => error,
            };
            if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
                continue;
            }
            let line = Line::new("accept-failed").with("address", self.address);
            ::log::error!("{}", line.with("reason", error));
            Timer::after(PAUSE).await;
        }
    }
}

/// An IPv4 client that came by an IPv6 socket is an IPv4 client.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The sockets the service manager hands over (LISTEN_FDS), by name (`FileDescriptorName=`). A socket that has no
/// name carries an empty one. Can be asked once: the sockets are taken, and so are the variables.
///
/// # Errors
/// What the system reports about a socket that is none or does not listen.
pub fn activated() -> io::Result<Vec<(String, Listener)>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut handed_over = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..handed_over.len() {
        let name = names.next().unwrap_or_default().to_owned();
        if let Some(socket) = handed_over.take_tcp_listener(index)? {
            listeners.push((name, Listener::from_std(socket)?));
        }
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_one_sentence() {
        let first = Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        // Reuse of addresses does not let two listeners share a port.
        let error = Listener::bind(first.address()).expect_err("taken");
        assert_eq!(
            error.to_string(),
            format!("cannot listen on {}: another program listens there already", first.address())
        );
    }

    #[test]
    fn an_ipv6_listener_leaves_ipv4_alone() {
        let Ok(listener) = Listener::bind("[::]:0".parse().expect("an address")) else {
            return; // no IPv6 on this host
        };
        assert_eq!(socket2::SockRef::from(listener.socket.get_ref()).only_v6().ok(), Some(true));
    }
}
