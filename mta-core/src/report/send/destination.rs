//! Where a domain wants its reports: the URIs of a `rua`, read (RFC 8460 3, RFC 9990 3.5).
//!
//! A stranger writes them, so that what is not plainly an address or an HTTPS resource is refused, with the reason.

use std::fmt;

use mta_dane::reference::a_labels;
use mta_smtp::address::Mailbox;

/// Places of one report, at most: a record of a stranger's must not make us send to many.
pub const MAX_DESTINATIONS: usize = 5;

/// Octets of one URI that is read.
const MAX_URI_BYTES: usize = 1_000;

/// A place that takes reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `mailto:`
    Mail(Mailbox),
    /// `https:`
    Https {
        /// The host, A-labels.
        host: String,
        /// The port, where the URI says one.
        port: Option<u16>,
        /// Path and query, `/` at least.
        path: String,
    },
}

impl Destination {
    /// Reads a URI.
    ///
    /// # Errors
    /// Why no report goes there.
    pub fn parse(uri: &str) -> Result<Self, &'static str> {
        if uri.len() > MAX_URI_BYTES || !uri.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("it is too long, or holds what no URI may");
        }
        match uri.split_once(':') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("mailto") => mail(rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => https(rest),
            _ => Err("reports leave by mailto: and https: only"),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mail(mailbox) => write!(f, "mailto:{mailbox}"),
            Self::Https { host, port: None, path } => write!(f, "https://{host}{path}"),
            Self::Https { host, port: Some(port), path } => write!(f, "https://{host}:{port}{path}"),
        }
    }
}

/// RFC 6068: one address. Fields behind it (subject and the like) have no meaning here.
fn mail(rest: &str) -> Result<Destination, &'static str> {
    let address = rest.split('?').next().unwrap_or_default();
    let decoded = decoded(address).ok_or("a % that encodes nothing")?;
    let mailbox = Mailbox::parse(&decoded).map_err(|_| "it is no mail address")?;
    if !mailbox.is_ascii() || mailbox.domain().is_none() {
        return Err("it is no mail address of a domain in ASCII");
    }
    Ok(Destination::Mail(mailbox))
}

/// RFC 3986 3.2: no user, no fragment, no address in place of a name.
fn https(rest: &str) -> Result<Destination, &'static str> {
    let rest = rest.strip_prefix("//").ok_or("it names no host")?;
    let rest = rest.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).ok_or("it names no host")?;
    let (host, port) = match authority.split_once(':') {
        None => (authority, None),
        Some((host, port)) => (host, Some(port.parse().map_err(|_| "its port is no number")?)),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    if !host.bytes().all(plain) || last.is_empty() || last.bytes().all(|b| b.is_ascii_digit()) {
        return Err("its host is no name");
    }
    a_labels(host).map_err(|_| "its host is no name")?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(Destination::Https { host: host.to_ascii_lowercase(), port, path: format!("{slash}{path}") })
}

/// Percent-encoding (RFC 3986 2.1) undone.
fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        octets.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_and_what_is_none() {
        for (uri, expected) in [
            ("mailto:a@b.example", "mailto:a@b.example"),
            ("MAILTO:a@b.example?subject=x", "mailto:a@b.example"),
            ("mailto:a%21b%2Bc@b.example", "mailto:a!b+c@b.example"),
            ("https://R.example", "https://r.example/"),
            ("https://r.example:8443/v1?k=1#x", "https://r.example:8443/v1?k=1"),
            ("https://r.example?k", "https://r.example/?k"),
        ] {
            let read = Destination::parse(uri).map(|it| it.to_string());
            assert_eq!(read.as_deref(), Ok(expected), "{uri}");
        }
        let long = format!("https://r.example/{}", "x".repeat(MAX_URI_BYTES));
        for uri in [
            "",
            "a@b.example",
            "http://r.example/",
            "mailto:",
            "mailto:a",
            "mailto:a@[192.0.2.1]",
            "mailto:a@b.example,c@d.example",
            "mailto:a%0d%0abcc:x@y.example",
            "mailto:a%4@b.example",
            "mailto:\u{e4}@b.example",
            "mailto:%C3%A4@b.example",
            "mailto:a%2Cb@b.example",
            "https:r.example",
            "https:///x",
            "https://u@r.example/",
            "https://192.0.2.1/",
            "https://[2001:db8::1]/",
            "https://r.example:99999/",
            "https://r.example/\r\nHost: x",
            "https://r..example/",
            &long,
        ] {
            assert!(Destination::parse(uri).is_err(), "{uri} {:?}", Destination::parse(uri));
        }
    }
}
