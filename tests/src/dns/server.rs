//! The servers: UDP and TCP threads on loopback addresses, a log of every question.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, OpCode, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};

use super::answer::{Sections, authoritative, resolved};
use super::internet::Tree;
use crate::zone::FaultKind;

/// Where the forwarder listens.
const FORWARDER: Ipv4Addr = Ipv4Addr::new(127, 53, 0, 53);
/// The largest UDP response without EDNS, in bytes (RFC 1035 2.3.4).
const PLAIN_UDP_BYTES: usize = 512;
/// The largest UDP response we send at all, in bytes.
const MAX_UDP_BYTES: usize = 1232;
/// How often a UDP thread looks whether it shall stop.
const STOP_POLL: Duration = Duration::from_millis(100);
/// How long a TCP connection may be idle.
const TCP_IDLE: Duration = Duration::from_secs(5);
/// How often a common free port is tried for, where the port is not given.
const PORT_ATTEMPTS: usize = 50;

/// How the forwarder treats what it passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwarderMode {
    /// As a resolver without validation: DNSSEC records where asked for, AD never set.
    Plain,
    /// As a box that knows no DNSSEC: no signatures, no denials, no keys, no EDNS.
    Stripping,
    /// As a resolver that sets AD on whatever it says, true or not.
    AlwaysAd,
    /// Every question fails.
    Failing,
    /// No question is answered.
    Silent,
}

/// By what a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

/// One question that a server was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedQuery {
    /// The server's address.
    pub server: SocketAddr,
    /// By what it came.
    pub transport: Transport,
    /// The name.
    pub name: Name,
    /// The type.
    pub rtype: RecordType,
    /// Whether DNSSEC records were asked for (DO).
    pub dnssec_ok: bool,
    /// Whether the resolver was asked not to validate (CD).
    pub checking_disabled: bool,
}

struct State {
    tree: RwLock<Arc<Tree>>,
    mode: Mutex<ForwarderMode>,
    log: Mutex<Vec<LoggedQuery>>,
    asked: Condvar,
    stopped: AtomicBool,
}

/// The running servers. Dropping it stops them.
pub struct DnsServers {
    state: Arc<State>,
    port: u16,
    listeners: Vec<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
}

impl DnsServers {
    /// Serves the tree at each address its zones name, and the forwarder, all on one port; 0 chooses a free one.
    pub fn start(tree: Tree, port: u16) -> io::Result<Self> {
        let mut addresses: Vec<Ipv4Addr> = tree.addresses.values().copied().collect();
        addresses.push(FORWARDER);
        addresses.sort_unstable();
        addresses.dedup();
        let sockets = bind_all(&addresses, port)?;
        let state = Arc::new(State {
            tree: RwLock::new(Arc::new(tree)),
            mode: Mutex::new(ForwarderMode::Plain),
            log: Mutex::new(Vec::new()),
            asked: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let mut servers = Self { state, port: 0, listeners: Vec::new(), threads: Vec::new() };
        for (udp, tcp) in sockets {
            let address = udp.local_addr()?;
            servers.port = address.port();
            servers.listeners.push(address);
            udp.set_read_timeout(Some(STOP_POLL))?;
            let state = Arc::clone(&servers.state);
            servers.threads.push(std::thread::spawn(move || serve_udp(&udp, address, &state)));
            let state = Arc::clone(&servers.state);
            servers.threads.push(std::thread::spawn(move || serve_tcp(&tcp, address, &state)));
        }
        Ok(servers)
    }

    /// The forwarder's address.
    pub fn forwarder(&self) -> SocketAddr {
        (FORWARDER, self.port).into()
    }

    /// The port all servers listen on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Serves another tree from now on. It must not name addresses the first one did not.
    pub fn reload(&self, tree: Tree) {
        *self.state.tree.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tree);
    }

    /// Changes how the forwarder treats what it passes on.
    pub fn set_mode(&self, mode: ForwarderMode) {
        *self.state.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    /// Every question so far, in order.
    pub fn queries(&self) -> Vec<LoggedQuery> {
        self.state.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets the questions so far.
    pub fn forget_queries(&self) {
        self.state.log.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits until a question of this kind was asked; false when the time is over.
    pub fn wait_for_query(&self, within: Duration, mut wanted: impl FnMut(&LoggedQuery) -> bool) -> bool {
        let deadline = Instant::now() + within;
        let mut log = self.state.log.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if log.iter().any(&mut wanted) {
                return true;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            log = self.state.asked.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for DnsServers {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        for address in &self.listeners {
            // Wakes the thread that waits for a connection.
            drop(TcpStream::connect_timeout(address, STOP_POLL));
        }
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// Binds UDP and TCP on the same port of every address.
fn bind_all(addresses: &[Ipv4Addr], port: u16) -> io::Result<Vec<(UdpSocket, TcpListener)>> {
    let attempt = || {
        let mut port = port;
        let mut sockets = Vec::new();
        for address in addresses {
            let udp = UdpSocket::bind((*address, port))?;
            port = udp.local_addr()?.port();
            sockets.push((udp, TcpListener::bind((*address, port))?));
        }
        Ok(sockets)
    };
    let attempts = if port == 0 { PORT_ATTEMPTS } else { 1 };
    let mut result = attempt();
    for _ in 1..attempts {
        if result.is_ok() {
            break;
        }
        result = attempt();
    }
    result
}

fn serve_udp(socket: &UdpSocket, server: SocketAddr, state: &State) {
    let mut buffer = [0_u8; 4096];
    while !state.stopped.load(Ordering::SeqCst) {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
        if let Some(response) = respond(&buffer[..length], server, Transport::Udp, state) {
            // A client that has gone is no fault of ours.
            drop(socket.send_to(&response, client));
        }
    }
}

fn serve_tcp(listener: &TcpListener, server: SocketAddr, state: &Arc<State>) {
    for stream in listener.incoming() {
        if state.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let state = Arc::clone(state);
        std::thread::spawn(move || serve_stream(stream, server, &state));
    }
}

/// Answers the questions of one TCP connection until it ends (RFC 7766).
fn serve_stream(mut stream: TcpStream, server: SocketAddr, state: &State) {
    if stream.set_read_timeout(Some(TCP_IDLE)).is_err() {
        return;
    }
    let mut length = [0_u8; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut query = vec![0_u8; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut query).is_err() {
            return;
        }
        let Some(response) = respond(&query, server, Transport::Tcp, state) else { return };
        let Ok(prefix) = u16::try_from(response.len()) else { return };
        let mut framed = prefix.to_be_bytes().to_vec();
        framed.extend(response);
        if stream.write_all(&framed).is_err() {
            return;
        }
    }
}

/// The response to one query; nothing for what is no query and where a fault demands silence.
fn respond(query: &[u8], server: SocketAddr, transport: Transport, state: &State) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first()?;
    let dnssec_ok = query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
    let qname = question.name().to_lowercase();
    log_query(state, server, transport, &query, &qname, dnssec_ok);
    let tree = Arc::clone(&state.tree.read().unwrap_or_else(PoisonError::into_inner));
    let IpAddr::V4(address) = server.ip() else { return None };
    let mode = *state.mode.lock().unwrap_or_else(PoisonError::into_inner);
    let is_forwarder = address == FORWARDER;
    let mut sections = if query.metadata.op_code != OpCode::Query {
        Sections { rcode: ResponseCode::NotImp, ..Sections::default() }
    } else if !is_forwarder {
        authoritative(&tree, address, &qname, question.query_type())
    } else {
        match mode {
            ForwarderMode::Silent => return None,
            ForwarderMode::Failing => Sections { rcode: ResponseCode::ServFail, ..Sections::default() },
            _ => resolved(&tree, &qname, question.query_type()),
        }
    };
    match sections.fault {
        Some(FaultKind::Silence) => return None,
        Some(FaultKind::Rcode(rcode)) => sections = Sections { rcode, ..Sections::default() },
        _ => {}
    }
    let strips = is_forwarder && mode == ForwarderMode::Stripping;
    if !dnssec_ok || strips {
        strip(&mut sections, question.query_type(), strips);
    }
    let fault = sections.fault;
    let mut response = assemble(&query, sections, dnssec_ok && !strips);
    response.metadata.recursion_available = is_forwarder;
    response.metadata.authentic_data = is_forwarder && mode == ForwarderMode::AlwaysAd;
    if strips {
        response.edns = None;
    }
    if fault == Some(FaultKind::WrongId) {
        response.metadata.id = response.metadata.id.wrapping_add(1);
    }
    let room = query.edns.as_ref().map_or(PLAIN_UDP_BYTES, |edns| usize::from(edns.max_payload()));
    let bytes = response.to_vec().ok()?;
    let truncates =
        bytes.len() > room.clamp(PLAIN_UDP_BYTES, MAX_UDP_BYTES) || fault == Some(FaultKind::Truncate);
    if transport == Transport::Udp && truncates { response.truncate().to_vec().ok() } else { Some(bytes) }
}

fn log_query(
    state: &State,
    server: SocketAddr,
    transport: Transport,
    query: &Message,
    name: &Name,
    dnssec_ok: bool,
) {
    let rtype = query.queries.first().map_or(RecordType::ZERO, |question| question.query_type());
    let checking_disabled = query.metadata.checking_disabled;
    let logged = LoggedQuery { server, transport, name: name.clone(), rtype, dnssec_ok, checking_disabled };
    state.log.lock().unwrap_or_else(PoisonError::into_inner).push(logged);
    state.asked.notify_all();
}

/// The response message; its question is the query's own, spelt as it was.
fn assemble(query: &Message, sections: Sections, dnssec_ok: bool) -> Message {
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.checking_disabled = query.metadata.checking_disabled;
    response.metadata.authoritative = sections.authoritative;
    response.metadata.response_code = sections.rcode;
    response.queries.clone_from(&query.queries);
    response.answers = sections.answers;
    response.authorities = sections.authorities;
    response.additionals = sections.additionals;
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(u16::try_from(MAX_UDP_BYTES).unwrap_or(u16::MAX));
        edns.set_dnssec_ok(dnssec_ok);
        response.set_edns(edns);
    }
    response
}

/// Leaves out DNSSEC records: those nobody asked for, or with `all` even those that were asked for.
fn strip(sections: &mut Sections, qtype: RecordType, all: bool) {
    let is_dnssec = |rtype: RecordType| {
        matches!(
            rtype,
            RecordType::RRSIG | RecordType::NSEC | RecordType::NSEC3 | RecordType::DS | RecordType::DNSKEY
        )
    };
    let stays = |record: &Record| {
        let rtype = record.record_type();
        !is_dnssec(rtype) || (!all && rtype == qtype)
    };
    sections.answers.retain(stays);
    sections.authorities.retain(stays);
    sections.additionals.retain(stays);
}
