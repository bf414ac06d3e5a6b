//! A report by HTTPS (RFC 8460 5.4).
//!
//! Whatever certificate the host shows is taken: RFC 8460 3 lets whoever reports ignore it, since it may be what the report is
//! about. A stranger names the host, so that neither an address of our own networks nor a port other than that of HTTPS is
//! ever connected to. What it does not: it follows no redirect and tries nothing a second time.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_lite::future::{or, zip};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::dns::Resolver;
use crate::net::https;
use crate::outbound::{Options, connect};
use crate::tls::client::{Client, Demand};

/// Addresses that are tried.
const MAX_ADDRESSES: usize = 4;

/// How long one report may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is sent where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Post<'a> {
    /// The host.
    pub(super) host: &'a str,
    /// The port, where the URI names one.
    pub(super) port: Option<u16>,
    /// Path and query.
    pub(super) path: &'a str,
    /// What the document is.
    pub(super) media_type: &'a str,
    /// The document.
    pub(super) document: &'a [u8],
}

/// Sends it.
///
/// # Errors
/// Why it was not taken, at the last of the addresses that were tried.
pub(super) async fn post(
    resolver: &dyn Resolver,
    tls: &Client,
    posting: &Post<'_>,
    options: &Options,
) -> Result<(), String> {
    let https = options.sts.port;
    let sending = async {
        let mut last = format!("{} has no address", posting.host);
        for ip in addresses(resolver, posting.host, options).await? {
            match to_address(tls, posting, SocketAddr::new(ip, https), options).await {
                Ok(()) => return Ok(()),
                Err(why) => last = why,
            }
        }
        Err(last)
    };
    let late = async {
        smol::Timer::after(TIMEOUT).await;
        Err(format!("not done within {} s", TIMEOUT.as_secs()))
    };
    or(sending, late).await
}

async fn addresses(resolver: &dyn Resolver, host: &str, options: &Options) -> Result<Vec<IpAddr>, String> {
    let name = Name::from_ascii(format!("{}.", host.trim_end_matches('.'))).map_err(|e| e.to_string())?;
    let ask = |rtype, wanted: bool| {
        let name = name.clone();
        async move { if wanted { Some(resolver.lookup(name, rtype).await) } else { None } }
    };
    let (v6, v4) = zip(ask(RecordType::AAAA, options.ipv6), ask(RecordType::A, options.ipv4)).await;
    let (mut found, mut why) = (Vec::new(), None);
    for answer in [v6, v4].into_iter().flatten() {
        if answer.status.is_error() {
            why = Some(answer.reason.clone().unwrap_or_else(|| answer.status.to_string()));
        }
        found.extend(answer.records.iter().filter_map(|record| match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        }));
    }
    match why {
        Some(why) if found.is_empty() => Err(format!("{host} could not be looked up: {why}")),
        _ => Ok(found.into_iter().take(MAX_ADDRESSES).collect()),
    }
}

async fn to_address(
    tls: &Client,
    posting: &Post<'_>,
    address: SocketAddr,
    options: &Options,
) -> Result<(), String> {
    let failed = |why: String| format!("[{address}]: {why}");
    // Security decision: a stranger names this address; it is no way into our own network.
    connect::check(address.ip(), address.port(), options, false).map_err(|why| failed(why.to_string()))?;
    let tcp = connect::connect(address, options).await.map_err(|error| failed(error.to_string()))?;
    let demand = Demand::Any { sni: posting.host.to_owned() };
    // The deadline of the whole is above.
    let (stream, _) = tls.handshake(tcp, &demand, Duration::MAX).await;
    let stream = stream.map_err(|error| failed(error.to_string()))?;
    let Post { host, path, media_type, document, .. } = *posting;
    // RFC 9110 7.2: the authority as the URI has it.
    let authority = posting.port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    https::post(stream, &authority, path, media_type, document)
        .await
        .map_err(|error| failed(error.to_string()))
}
