//! The TXT record at `_smtp._tls.DOMAIN` that says where reports go (RFC 8460 3).

use hickory_proto::rr::{Name, RData, RecordType};

use crate::dns::Resolver;

/// Addresses of one domain at most.
const MAX_ADDRESSES: usize = 10;

/// Why a domain gets no reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAddress {
    /// It has no such record.
    Absent,
    /// It has several.
    Several,
    /// The record breaks the grammar, or names no address that can be used.
    Invalid,
}

/// Why there is no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nowhere {
    /// The domain wants none, in words.
    Never(String),
    /// It cannot be known now, in words.
    Unknown(String),
}

/// Asks where a domain (A-labels) wants its reports.
///
/// # Errors
/// [`Nowhere`].
pub async fn lookup(resolver: &dyn Resolver, domain: &str) -> Result<Vec<String>, Nowhere> {
    let owner = format!("_smtp._tls.{domain}");
    let never = |why: &str| Nowhere::Never(why.to_owned());
    let name = Name::from_ascii(format!("{owner}.")).map_err(|_| never("no name of DNS"))?;
    let answer = resolver.lookup(name, RecordType::TXT).await;
    if answer.status.is_error() {
        let reason = answer.reason.as_deref().unwrap_or_default();
        return Err(Nowhere::Unknown(format!("{owner} could not be looked up: {reason}")));
    }
    let text = |data: &RData| match data {
        RData::TXT(txt) => Some(txt.txt_data.concat()),
        _ => None,
    };
    let texts: Vec<Vec<u8>> = answer.records.iter().filter_map(|record| text(&record.data)).collect();
    addresses(texts.iter().map(Vec::as_slice)).map_err(|why| match why {
        NoAddress::Absent => never("it publishes no _smtp._tls record"),
        NoAddress::Several => never("it publishes several _smtp._tls records"),
        NoAddress::Invalid => never("its _smtp._tls record names no address"),
    })
}

/// The `mailto:` and `https:` addresses of a domain, from all TXT records at the name, each with its strings joined.
///
/// # Errors
/// There are none.
pub fn addresses<'r>(records: impl IntoIterator<Item = &'r [u8]>) -> Result<Vec<String>, NoAddress> {
    let mut ours = records.into_iter().filter(|record| {
        let rest = record.strip_prefix(b"v=TLSRPTv1");
        rest.is_some_and(|rest| rest.trim_ascii_start().first().is_none_or(|next| *next == b';'))
    });
    match (ours.next(), ours.next()) {
        (None, _) => Err(NoAddress::Absent),
        (Some(_), Some(_)) => Err(NoAddress::Several),
        (Some(record), None) => parse(record).ok_or(NoAddress::Invalid),
    }
}

fn parse(record: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(record).ok().filter(|text| text.is_ascii())?;
    let mut fields = text.split(';').map(|field| field.trim_matches([' ', '\t']));
    fields.next().filter(|version| *version == "v=TLSRPTv1")?;
    let mut rua = None;
    for field in fields.filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=')?;
        if name.trim_end() == "rua" && rua.is_none() {
            rua = Some(value);
        }
    }
    let usable = |uri: &&str| {
        let known = uri.starts_with("mailto:") || uri.starts_with("https://");
        known && uri.bytes().all(|b| b.is_ascii_graphic())
    };
    let uris = rua?.split(',').map(str::trim).filter(usable).take(MAX_ADDRESSES);
    let uris: Vec<String> = uris.map(str::to_owned).collect();
    (!uris.is_empty()).then_some(uris)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_rfc8460_3() {
        let read = |records: &[&str]| addresses(records.iter().map(|record| record.as_bytes()));
        for (record, expected) in [
            ("v=TLSRPTv1;rua=mailto:reports@example.com", &["mailto:reports@example.com"][..]),
            (
                "v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt",
                &["https://reporting.example.com/v1/tlsrpt"],
            ),
            (
                "v=TLSRPTv1; rua=mailto:a@b.example, https://c.example/ ; x=y;",
                &["mailto:a@b.example", "https://c.example/"],
            ),
            ("v=TLSRPTv1; rua=ftp://x,mailto:a@b.example", &["mailto:a@b.example"]),
        ] {
            assert_eq!(read(&[record]), Ok(expected.iter().map(ToString::to_string).collect()), "{record}");
        }
        for (records, expected) in [
            (&[][..], NoAddress::Absent),
            (&["v=spf1 -all"], NoAddress::Absent),
            (&["v=TLSRPTv2; rua=mailto:a@b"], NoAddress::Absent),
            (&["v=TLSRPTv1; rua=mailto:a@b", "v=TLSRPTv1; rua=mailto:c@d"], NoAddress::Several),
            (&["v=TLSRPTv1;"], NoAddress::Invalid),
            (&["v=TLSRPTv1; rua="], NoAddress::Invalid),
            (&["v=TLSRPTv1; rua=http://x/"], NoAddress::Invalid),
            (&["v=TLSRPTv1; rua=mailto:a\u{7}@b"], NoAddress::Invalid),
            (&["v=TLSRPTv1; rubbish"], NoAddress::Invalid),
        ] {
            assert_eq!(read(records), Err(expected), "{records:?}");
        }
    }
}
