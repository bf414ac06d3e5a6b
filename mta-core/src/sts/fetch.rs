//! Fetches a policy file over HTTPS (RFC 8461 3.3): `https://mta-sts.DOMAIN/.well-known/mta-sts.txt`.
//!
//! The certificate must be vouched for by the system's roots for that very name. Everything is bounded: addresses tried,
//! octets, and the time of the whole. What it does not: it keeps nothing and tries nothing a second time.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::{Name, RData, RecordType};
use mta_dane::dnssec::Answer;
use mta_dane::reference::a_labels;

use super::policy::{MAX_POLICY_BYTES, Policy};
use crate::dns::Resolver;
use crate::net::https;
use crate::outbound::{Options, connect};
use crate::tls::client::{Client, Demand, HandshakeError};

/// Addresses of the policy host that are tried.
const MAX_ADDRESSES: usize = 4;

/// Where the file lies on its host.
const PATH: &str = "/.well-known/mta-sts.txt";

/// What went wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its kind.
    pub kind: FaultKind,
    /// In words.
    pub reason: String,
}

/// What kind of fault it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The TXT record could not be had, or says nothing.
    Record,
    /// The file could not be fetched.
    Fetch,
    /// The certificate of the policy host is not vouched for.
    WebPki,
    /// The file is no policy.
    Invalid,
}

impl FaultKind {
    /// The result type in reports (RFC 8460 4.3.2.2). A domain without a usable TXT record has no MTA-STS to report on.
    pub fn result_type(self) -> Option<&'static str> {
        match self {
            Self::Record => None,
            Self::Fetch => Some("sts-policy-fetch-error"),
            Self::WebPki => Some("sts-webpki-invalid"),
            Self::Invalid => Some("sts-policy-invalid"),
        }
    }
}

impl Fault {
    pub(super) fn new(kind: FaultKind, reason: impl fmt::Display) -> Self {
        Self { kind, reason: reason.to_string() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Fetches the policy of a domain (A-labels).
///
/// # Errors
/// What went wrong, at the last of the addresses that were tried.
pub(super) async fn fetch(
    resolver: &dyn Resolver,
    tls: &Client,
    domain: &str,
    options: &Options,
) -> Result<Policy, Fault> {
    let host = format!("mta-sts.{domain}");
    let timeout = options.sts.fetch_timeout;
    let file = async {
        let mut last = None;
        for address in addresses(resolver, &host, options).await? {
            match from_address(tls, &host, address, options).await {
                Ok(file) => return Ok(file),
                Err(fault) => last = Some(fault),
            }
        }
        Err(last.unwrap_or_else(|| Fault::new(FaultKind::Fetch, format!("{host} has no address"))))
    };
    let late = async {
        smol::Timer::after(timeout).await;
        Err(Fault::new(FaultKind::Fetch, format!("{host}: not done within {} s", timeout.as_secs())))
    };
    let file = futures_lite::future::or(file, late).await?;
    Policy::parse(&file)
        .map_err(|why| Fault::new(FaultKind::Invalid, format!("the policy file at {host}: {why}")))
}

/// The policy host's addresses. That they are secured by DNSSEC is not asked: the certificate proves the host.
async fn addresses(resolver: &dyn Resolver, host: &str, options: &Options) -> Result<Vec<SocketAddr>, Fault> {
    let name = a_labels(host).map_err(|error| Fault::new(FaultKind::Fetch, error))?;
    let (v6, v4) = futures_lite::future::zip(
        family(resolver, &name, RecordType::AAAA, options.ipv6),
        family(resolver, &name, RecordType::A, options.ipv4),
    )
    .await;
    let mut found = Vec::new();
    let mut why = None;
    for answer in [v6, v4].into_iter().flatten() {
        if answer.status.is_error() {
            let reason = answer.reason.as_deref().unwrap_or("no answer").escape_debug().to_string();
            why = Some(format!("the {} records of {host}: {reason}", answer.rtype));
        }
        found.extend(answer.records.iter().filter_map(|record| match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        }));
    }
    match (found.is_empty(), why) {
        (true, Some(why)) => Err(Fault::new(FaultKind::Fetch, why)),
        _ => Ok(found
            .into_iter()
            .take(MAX_ADDRESSES)
            .map(|ip| SocketAddr::new(ip, options.sts.port))
            .collect()),
    }
}

async fn family(
    resolver: &dyn Resolver,
    name: &Name,
    rtype: RecordType,
    wanted: bool,
) -> Option<std::sync::Arc<Answer>> {
    if wanted { Some(resolver.lookup(name.clone(), rtype).await) } else { None }
}

/// The file, from one address.
async fn from_address(
    tls: &Client,
    host: &str,
    address: SocketAddr,
    options: &Options,
) -> Result<Vec<u8>, Fault> {
    let failed = |why: &dyn fmt::Display| Fault::new(FaultKind::Fetch, format!("{host} [{address}]: {why}"));
    // A stranger names this address: it is no way into our own network.
    connect::check(address.ip(), address.port(), options, false).map_err(|why| failed(&why))?;
    let tcp = connect::connect(address, options).await.map_err(|error| failed(&error))?;
    let demand = Demand::WebPki { name: host.to_owned() };
    // The deadline of the whole is above.
    let (stream, _) = tls.handshake(tcp, &demand, Duration::MAX).await;
    let stream = stream.map_err(|error| match error {
        HandshakeError::Certificate(why) => {
            Fault::new(FaultKind::WebPki, format!("the certificate of {host} [{address}]: {why}"))
        }
        other => failed(&other),
    })?;
    https::get(stream, host, PATH, MAX_POLICY_BYTES).await.map_err(|error| failed(&error))
}
