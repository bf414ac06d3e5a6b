//! Lets hickory's connection level (UDP and TCP to one server) run on smol. It chooses no server and repeats nothing.
//!
//! A UDP socket is connected to its server, so that the kernel drops what others send and reports a closed port at once.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_io::{Async, Timer};
use async_trait::async_trait;
use futures_lite::{AsyncRead, AsyncWrite, FutureExt as _};
use hickory_resolver::net::runtime::{DnsTcpStream, DnsUdpSocket, RuntimeProvider, Spawn, Time};
use socket2::{Domain, Protocol, Socket, Type};

/// How long a TCP connection may take to open where hickory names no time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sockets, timers and tasks of smol, for hickory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SmolProvider;

/// Runs hickory's background work: one task for each TCP connection, ended with it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SmolHandle;

/// Timers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SmolTime;

/// A UDP socket that is connected to one server.
pub(super) struct SmolUdp(Async<UdpSocket>);

/// A TCP connection to one server.
pub(super) struct SmolTcp(Async<TcpStream>);

impl Spawn for SmolHandle {
    fn spawn_bg(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(future).detach();
    }
}

#[async_trait]
impl Time for SmolTime {
    async fn delay_for(duration: Duration) {
        Timer::after(duration).await;
    }

    async fn timeout<F: 'static + Future + Send>(
        duration: Duration,
        future: F,
    ) -> Result<F::Output, io::Error> {
        within(duration, async { Ok(future.await) }).await
    }
}

impl RuntimeProvider for SmolProvider {
    type Handle = SmolHandle;
    type Timer = SmolTime;
    type Udp = SmolUdp;
    type Tcp = SmolTcp;

    fn create_handle(&self) -> SmolHandle {
        SmolHandle
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        bind: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<SmolTcp>>>> {
        Box::pin(within(timeout.unwrap_or(CONNECT_TIMEOUT), connect(server, bind)))
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<SmolUdp>>>> {
        Box::pin(async move {
            let socket = Async::<UdpSocket>::bind(local)?;
            socket.get_ref().connect(server)?;
            Ok(SmolUdp(socket))
        })
    }
}

async fn connect(server: SocketAddr, bind: Option<SocketAddr>) -> io::Result<SmolTcp> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(local) = bind {
        socket.bind(&local.into())?;
    }
    match socket.connect(&server.into()) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(e) => return Err(e),
    }
    let stream = Async::new(TcpStream::from(socket))?;
    stream.writable().await?;
    match stream.get_ref().take_error()? {
        Some(error) => Err(error),
        None => Ok(SmolTcp(stream)),
    }
}

/// Ends with `TimedOut` where the future takes longer.
pub(super) async fn within<T>(
    duration: Duration,
    future: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    future
        .or(async {
            Timer::after(duration).await;
            Err(io::ErrorKind::TimedOut.into())
        })
        .await
}

impl DnsUdpSocket for SmolUdp {
    type Time = SmolTime;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            match self.0.get_ref().recv_from(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_readable(cx))?,
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], _: SocketAddr) -> Poll<io::Result<usize>> {
        loop {
            match self.0.get_ref().send(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_writable(cx))?,
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncRead for SmolTcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for SmolTcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

impl DnsTcpStream for SmolTcp {
    type Time = SmolTime;
}
