//! One question to one server: UDP with EDNS0, TCP where the response was truncated, every response compared with what
//! was asked (RFC 5452 9.1). It chooses no server and judges no content.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_lock::Semaphore;
use futures_lite::StreamExt as _;
use hickory_proto::op::{
    DnsRequest, DnsRequestOptions, Edns, Message, MessageType, OpCode, Query, ResponseCode,
};
use hickory_proto::rr::DNSClass;
use hickory_resolver::net::tcp::TcpClientStream;
use hickory_resolver::net::udp::UdpClientStream;
use hickory_resolver::net::xfer::{DnsHandle as _, DnsRequestSender as _};
use hickory_resolver::net::{DnsError, NetError};
use mta_dane::validator::TransportFailure;

use super::health::Health;
use super::options::Options;
use super::runtime::{SmolProvider, within};
use super::transport::{Budget, Question};

/// What fits an unfragmented datagram nearly everywhere (RFC 9715).
const UDP_PAYLOAD: u16 = 1232;

/// The bits of a query that depend on who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags {
    /// RD: a resolver is asked, not an authority.
    pub(super) recursion_desired: bool,
    /// CD: hand over what does not validate, too (RFC 6840 5.9).
    pub(super) checking_disabled: bool,
    /// AD: say whether it validated (RFC 6840 5.7).
    pub(super) authentic_data: bool,
    /// DO: send signatures and proofs (RFC 3225).
    pub(super) dnssec_ok: bool,
}

impl Flags {
    /// For a resolver, when validation happens here.
    pub(super) const FORWARDER: Self =
        Self { recursion_desired: true, checking_disabled: true, authentic_data: false, dnssec_ok: true };
    /// For an authoritative server.
    pub(super) const AUTHORITY: Self =
        Self { recursion_desired: false, checking_disabled: false, authentic_data: false, dnssec_ok: true };
    /// For a resolver whose AD bit is believed.
    pub(super) const VALIDATOR: Self =
        Self { recursion_desired: true, checking_disabled: false, authentic_data: true, dnssec_ok: false };
}

/// Sends queries. Shared by all lookups: it bounds the sockets in use and remembers which servers do not answer.
#[derive(Debug)]
pub(super) struct Client {
    slots: Semaphore,
    timeout: Duration,
    source: [Option<IpAddr>; 2],
    families: [bool; 2],
    random_case: bool,
    pub(super) health: Health,
}

impl Client {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            slots: Semaphore::new(options.concurrent_queries.max(1)),
            timeout: options.query_timeout,
            source: [options.source_ipv4.map(IpAddr::V4), options.source_ipv6.map(IpAddr::V6)],
            families: [options.ipv4, options.ipv6],
            random_case: options.random_case,
            health: Health::default(),
        }
    }

    /// Whether servers at addresses of this family may be asked.
    pub(super) fn uses(&self, server: IpAddr) -> bool {
        if server.is_ipv4() { self.families[0] } else { self.families[1] }
    }

    /// Whether asking a server is a waste: its family is switched off, or this host has no route for it.
    pub(super) fn is_hopeless(&self, server: SocketAddr) -> bool {
        !self.uses(server.ip()) || self.health.lacks_route(server)
    }

    /// Asks one server once: over UDP, then over TCP if the response is truncated or unreadable.
    pub(super) async fn ask(
        &self,
        server: SocketAddr,
        question: &Question,
        flags: Flags,
        budget: &Budget,
    ) -> Result<Message, TransportFailure> {
        let result = self.ask_inner(server, question, flags, budget).await;
        match &result {
            Ok(_) => {
                self.health.answered(server);
                budget.note(server);
            }
            Err(TransportFailure::GivenUp(_)) => {}
            Err(_) => self.health.failed(server),
        }
        result
    }

    async fn ask_inner(
        &self,
        server: SocketAddr,
        question: &Question,
        flags: Flags,
        budget: &Budget,
    ) -> Result<Message, TransportFailure> {
        let with_edns = self.udp(server, question, flags, true, budget).await;
        let message = match with_edns {
            // A server from before EDNS (RFC 6891 7). What it serves cannot be signed.
            Ok(m)
                if m.edns.is_none()
                    && matches!(m.response_code, ResponseCode::FormErr | ResponseCode::NotImp) =>
            {
                self.udp(server, question, flags, false, budget).await.unwrap_or(m)
            }
            Err(TransportFailure::Malformed(_)) => return self.tcp(server, question, flags, budget).await,
            other => other?,
        };
        if message.truncation { self.tcp(server, question, flags, budget).await } else { Ok(message) }
    }

    async fn udp(
        &self,
        server: SocketAddr,
        question: &Question,
        flags: Flags,
        edns: bool,
        budget: &Budget,
    ) -> Result<Message, TransportFailure> {
        let timeout = budget.spend(self.timeout)?;
        let _slot = self.slots.acquire().await;
        let mut stream = UdpClientStream::builder(server, SmolProvider)
            .with_timeout(Some(timeout))
            .with_bind_addr(self.source_for(server))
            .with_max_retries(0)
            .build();
        let request = request(question, flags, edns, self.random_case);
        let response = stream.send_message(request).next().await.unwrap_or(Err(NetError::Timeout));
        if let Err(NetError::Io(error)) = &response
            && matches!(error.kind(), ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable)
        {
            self.health.has_no_route(server);
            budget.refund();
        }
        check(question, response.map(|r| r.into_message()))
    }

    /// Asks over TCP only.
    pub(super) async fn tcp(
        &self,
        server: SocketAddr,
        question: &Question,
        flags: Flags,
        budget: &Budget,
    ) -> Result<Message, TransportFailure> {
        let timeout = budget.spend(self.timeout)?;
        let _slot = self.slots.acquire().await;
        let source = self.source_for(server);
        // The bound is over opening, sending and receiving together, so that a slow drip does not last.
        let beyond = timeout + Duration::from_secs(1);
        let exchange = within(timeout, async {
            let exchange = TcpClientStream::exchange(server, source, beyond, Some(1), SmolProvider).await;
            Ok(match exchange {
                Ok(exchange) => exchange.send(request(question, flags, true, false)).next().await,
                Err(error) => Some(Err(error)),
            })
        })
        .await;
        let response = match exchange {
            Ok(Some(response)) => response.map(|r| r.into_message()),
            Ok(None) => Err(NetError::Message("connection closed before the response")),
            Err(error) => Err(NetError::from(error)),
        };
        let message = check(question, response)?;
        if message.truncation {
            return Err(TransportFailure::Malformed("truncated over TCP".to_owned()));
        }
        Ok(message)
    }

    fn source_for(&self, server: SocketAddr) -> Option<SocketAddr> {
        let source = if server.is_ipv4() { self.source[0] } else { self.source[1] };
        source.map(|ip| SocketAddr::new(ip, 0))
    }
}

/// The query message: random id, one question.
fn request(question: &Question, flags: Flags, edns: bool, random_case: bool) -> DnsRequest {
    let mut message = Message::query();
    message.metadata.recursion_desired = flags.recursion_desired;
    message.metadata.checking_disabled = flags.checking_disabled;
    message.metadata.authentic_data = flags.authentic_data;
    let mut name = question.name.clone();
    name.set_fqdn(true);
    let plain = Query::query(name, question.rtype);
    let mut sent = plain.clone();
    if random_case {
        sent.name.randomize_label_case();
    }
    message.add_query(sent);
    if edns {
        let mut opt = Edns::new();
        opt.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(flags.dnssec_ok);
        message.set_edns(opt);
    }
    let mut options = DnsRequestOptions::default();
    options.case_randomization = random_case;
    DnsRequest::new(message, options).with_original_query(Some(plain))
}

/// A response to another question, or no response at all, is unreadable.
fn check(question: &Question, response: Result<Message, NetError>) -> Result<Message, TransportFailure> {
    let message = response.map_err(failure)?;
    let wrong = |what: &str| Err(TransportFailure::Malformed(what.to_owned()));
    if message.message_type != MessageType::Response || message.op_code != OpCode::Query {
        return wrong("not a response to a query");
    }
    let [query] = message.queries.as_slice() else { return wrong("not one question in the response") };
    let same = query.query_class == DNSClass::IN
        && query.query_type == question.rtype
        && query.name.eq_ignore_root(&question.name);
    if same { Ok(message) } else { wrong("response to another question") }
}

fn failure(error: NetError) -> TransportFailure {
    match error {
        NetError::Timeout => TransportFailure::Timeout,
        NetError::Io(io) if io.kind() == ErrorKind::TimedOut => TransportFailure::Timeout,
        NetError::Io(io) => TransportFailure::Network(io.to_string()),
        NetError::Busy | NetError::NoConnections => TransportFailure::Network(error.to_string()),
        NetError::Dns(DnsError::ResponseCode(code)) => {
            TransportFailure::Malformed(format!("response code {code}"))
        }
        other => TransportFailure::Malformed(other.to_string()),
    }
}
