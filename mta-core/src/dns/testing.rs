//! Servers that do as a test says, on loopback: one thread each for UDP and TCP, all on one free port.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// How often a thread looks whether it shall stop.
const STOP_POLL: Duration = Duration::from_millis(50);

/// What a server does with a query.
#[derive(Debug)]
pub(crate) enum Act {
    /// Sends a response, as it is over both transports.
    Send(Reply),
    /// Sends these bytes over UDP; over TCP with their length before them.
    Raw(Vec<u8>),
    /// Sends several datagrams (UDP only).
    Several(Vec<Vec<u8>>),
    /// Sends the bytes one by one, with this pause (TCP only).
    Drip(Vec<u8>, Duration),
    /// Closes or says nothing.
    Silent,
}

/// A response in the making.
#[derive(Debug, Clone)]
pub(crate) struct Reply(pub(crate) Message);

pub(crate) fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// An authoritative, empty response to a query, with EDNS.
pub(crate) fn reply(query: &Message) -> Reply {
    let mut message = Message::new(query.id, MessageType::Response, OpCode::Query);
    message.add_queries(query.queries.iter().cloned());
    message.metadata.authoritative = true;
    let mut edns = Edns::new();
    edns.set_dnssec_ok(true);
    message.set_edns(edns);
    Reply(message)
}

fn record(owner: &str, rtype: RecordType, data: &str) -> Record {
    Record::from_rdata(name(owner), 300, RData::try_from_str(rtype, data).unwrap())
}

impl Reply {
    pub(crate) fn answer(mut self, owner: &str, rtype: RecordType, data: &str) -> Self {
        self.0.add_answer(record(owner, rtype, data));
        self
    }

    /// A name server in the authority section, which makes it no authoritative answer.
    pub(crate) fn ns(mut self, owner: &str, server: &str) -> Self {
        self.0.add_authority(record(owner, RecordType::NS, server));
        self.not_authoritative()
    }

    pub(crate) fn soa(mut self, owner: &str, data: &str) -> Self {
        self.0.add_authority(record(owner, RecordType::SOA, data));
        self
    }

    pub(crate) fn glue(mut self, owner: &str, address: &str) -> Self {
        self.0.add_additional(record(owner, RecordType::A, address));
        self
    }

    pub(crate) fn code(mut self, code: ResponseCode) -> Self {
        self.0.metadata.response_code = code;
        self
    }

    pub(crate) fn not_authoritative(mut self) -> Self {
        self.0.metadata.authoritative = false;
        self
    }

    pub(crate) fn authentic(mut self) -> Self {
        self.0.metadata.authentic_data = true;
        self
    }

    pub(crate) fn truncated(mut self) -> Self {
        self.0.metadata.truncation = true;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.to_vec().unwrap()
    }
}

type Behaviour = dyn Fn(u8, &Message) -> Act + Send + Sync;
type Asked = (u8, Name, RecordType);

/// Servers at 127.0.0.N. They stop when this is dropped.
pub(crate) struct FakeServers {
    port: u16,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<Asked>>>,
    tcp: Arc<Mutex<usize>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl FakeServers {
    pub(crate) fn start(
        hosts: &[u8],
        behaviour: impl Fn(u8, &Message) -> Act + Send + Sync + 'static,
    ) -> Self {
        let udp_behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let tcp_behaviour = udp_behaviour.clone();
        Self::with_tcp(hosts, move |n, m| udp_behaviour(n, m), move |n, m| tcp_behaviour(n, m))
    }

    pub(crate) fn with_tcp(
        hosts: &[u8],
        udp: impl Fn(u8, &Message) -> Act + Send + Sync + 'static,
        tcp: impl Fn(u8, &Message) -> Act + Send + Sync + 'static,
    ) -> Self {
        let (udp, tcp): (Arc<Behaviour>, Arc<Behaviour>) = (Arc::new(udp), Arc::new(tcp));
        let (port, sockets) = (0..100).find_map(|_| bind(hosts)).expect("a free port on every address");
        let mut servers = Self {
            port,
            stop: Arc::default(),
            asked: Arc::default(),
            tcp: Arc::default(),
            threads: Vec::new(),
        };
        for (host, (datagrams, listener)) in hosts.iter().copied().zip(sockets) {
            let (stop, asked, behaviour) = (servers.stop.clone(), servers.asked.clone(), udp.clone());
            servers.threads.push(std::thread::spawn(move || {
                serve_udp(host, &datagrams, &stop, &asked, &*behaviour);
            }));
            let (stop, count, behaviour) = (servers.stop.clone(), servers.tcp.clone(), tcp.clone());
            servers.threads.push(std::thread::spawn(move || {
                serve_tcp(host, &listener, &stop, &count, &*behaviour);
            }));
        }
        servers
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self, host: u8) -> SocketAddr {
        (Ipv4Addr::new(127, 0, 0, host), self.port).into()
    }

    /// Questions by UDP, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many questions came by TCP.
    pub(crate) fn tcp_questions(&self) -> usize {
        *self.tcp.lock().unwrap()
    }

    pub(crate) fn forget(&self) {
        self.asked.lock().unwrap().clear();
    }
}

impl Drop for FakeServers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn bind(hosts: &[u8]) -> Option<(u16, Vec<(UdpSocket, TcpListener)>)> {
    let mut port = 0;
    let mut sockets = Vec::new();
    for host in hosts {
        let ip = Ipv4Addr::new(127, 0, 0, *host);
        let udp = UdpSocket::bind((ip, port)).ok()?;
        port = udp.local_addr().ok()?.port();
        udp.set_read_timeout(Some(STOP_POLL)).ok()?;
        let tcp = TcpListener::bind((ip, port)).ok()?;
        tcp.set_nonblocking(true).ok()?;
        sockets.push((udp, tcp));
    }
    Some((port, sockets))
}

fn serve_udp(host: u8, socket: &UdpSocket, stop: &AtomicBool, asked: &Mutex<Vec<Asked>>, act: &Behaviour) {
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::SeqCst) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
        if let Some(q) = query.queries.first() {
            asked.lock().unwrap().push((host, q.name().to_lowercase(), q.query_type()));
        }
        let datagrams = match act(host, &query) {
            Act::Send(reply) => vec![reply.bytes()],
            Act::Raw(bytes) => vec![bytes],
            Act::Several(several) => several,
            Act::Drip(..) | Act::Silent => Vec::new(),
        };
        for datagram in datagrams {
            let _ = socket.send_to(&datagram, from);
        }
    }
}

fn serve_tcp(host: u8, listener: &TcpListener, stop: &AtomicBool, count: &Mutex<usize>, act: &Behaviour) {
    while !stop.load(Ordering::SeqCst) {
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            continue;
        }
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut bytes).is_err() {
            continue;
        }
        let Ok(query) = Message::from_vec(&bytes) else { continue };
        *count.lock().unwrap() += 1;
        let (bytes, pause) = match act(host, &query) {
            Act::Send(reply) => (reply.bytes(), None),
            Act::Raw(bytes) => (bytes, None),
            Act::Drip(bytes, pause) => (bytes, Some(pause)),
            Act::Several(_) | Act::Silent => continue,
        };
        let mut framed = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
        framed.extend(bytes);
        match pause {
            None => drop(stream.write_all(&framed)),
            Some(pause) => {
                for byte in framed {
                    if stop.load(Ordering::SeqCst) || stream.write_all(&[byte]).is_err() {
                        break;
                    }
                    std::thread::sleep(pause);
                }
            }
        }
    }
}
