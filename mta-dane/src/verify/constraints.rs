//! Name constraints (RFC 5280 4.2.1.10): whether an issuer's permitted and excluded subtrees allow the names of a
//! certificate below it. DNS names, directory names, mail addresses, URIs and IP addresses are compared; a name of any other
//! form is refused where the constraints speak of that form at all.
//!
//! What it does not: minimum and maximum of a subtree are refused, as RFC 5280 demands them to be 0 and absent.

use super::extensions::{SUBJECT_ALT_NAME, find};
use super::names::{DIRECTORY_NAME, DNS_NAME, EMAIL, IP_ADDRESS, URI, general_names, presented};
use crate::der::{Certificate, Malformed, Reader, SEQUENCE, SET, attributes, same_set, single};

/// Most comparisons of a name with a subtree within one path.
pub(super) const MAX_COMPARISONS: usize = 20_000;

const FIELD: Malformed = Malformed("name constraints");
const PERMITTED: u8 = 0xa0;
const EXCLUDED: u8 = 0xa1;

/// Whether the constraints allow all names of the certificate. A certificate that is the server's own (`leaf`) and has no
/// DNS-ID is also held to them by its common names, since these then count as host names.
pub(super) fn allowed(
    constraints: &[u8],
    certificate: &Certificate<'_>,
    leaf: bool,
    budget: &mut usize,
) -> Result<bool, Malformed> {
    let (permitted, excluded) = subtrees(constraints)?;
    let mut names = Vec::new();
    if !certificate.subject.is_empty() {
        names.push((DIRECTORY_NAME, certificate.subject));
    }
    for (oid, value) in attributes(certificate.subject) {
        if oid == EMAIL_ADDRESS {
            names.push((EMAIL, value));
        }
    }
    if let Some(extension) = find(certificate, SUBJECT_ALT_NAME)? {
        for (tag, content) in general_names(extension.value)? {
            let content = match tag {
                DIRECTORY_NAME => single(content, SEQUENCE).ok_or(FIELD)?.content,
                _ => content,
            };
            names.push((tag, content));
        }
    }
    if leaf {
        let presented = presented(certificate)?;
        if presented.common {
            // Only what looks like a host name; "Example Mail Server" is no DNS name and cannot match one.
            let host_like = |name: &&[u8]| name.contains(&b'.') && !name.contains(&b' ');
            names.extend(presented.names.into_iter().filter(host_like).map(|name| (DNS_NAME, name)));
        }
    }
    for (tag, name) in names {
        *budget = budget.checked_sub(permitted.len() + excluded.len()).ok_or(FIELD)?;
        if !name_allowed(tag, name, &permitted, &excluded)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A subtree: the form's tag and the base.
type Subtree<'a> = (u8, &'a [u8]);

fn subtrees(constraints: &[u8]) -> Result<(Vec<Subtree<'_>>, Vec<Subtree<'_>>), Malformed> {
    let mut fields = Reader::new(single(constraints, SEQUENCE).ok_or(FIELD)?.content);
    let mut list = |tag: u8| -> Result<Vec<Subtree<'_>>, Malformed> {
        let mut found = Vec::new();
        let Some(trees) = fields.optional(tag) else { return Ok(found) };
        let mut trees = Reader::new(trees.content);
        while !trees.is_empty() {
            let mut tree = Reader::new(trees.expect(SEQUENCE, FIELD.0)?.content);
            let base = tree.next().ok_or(FIELD)?;
            let content = match base.tag {
                DIRECTORY_NAME => single(base.content, SEQUENCE).ok_or(FIELD)?.content,
                _ => base.content,
            };
            if !tree.is_empty() {
                return Err(FIELD);
            }
            found.push((base.tag, content));
        }
        Ok(found)
    };
    let (permitted, excluded) = (list(PERMITTED)?, list(EXCLUDED)?);
    if fields.is_empty() { Ok((permitted, excluded)) } else { Err(FIELD) }
}

/// No excluded subtree holds the name, and one permitted subtree of its form does, if there is any of that form.
fn name_allowed(
    tag: u8,
    name: &[u8],
    permitted: &[Subtree<'_>],
    excluded: &[Subtree<'_>],
) -> Result<bool, Malformed> {
    let mut any_of_form = false;
    let mut within = false;
    for (_, base) in permitted.iter().filter(|(form, _)| *form == tag) {
        any_of_form = true;
        // A name whose form cannot be compared is within nothing.
        within |= is_within(tag, name, base)?.unwrap_or(false);
    }
    for (_, base) in excluded.iter().filter(|(form, _)| *form == tag) {
        if is_within(tag, name, base)?.unwrap_or(true) {
            return Ok(false);
        }
    }
    Ok(within || !any_of_form)
}

/// Whether a subtree holds a name; `None` where names of this form are not compared here.
fn is_within(tag: u8, name: &[u8], base: &[u8]) -> Result<Option<bool>, Malformed> {
    Ok(match tag {
        DNS_NAME => Some(dns_within(name, base)),
        DIRECTORY_NAME => Some(directory_within(name, base)?),
        EMAIL => Some(email_within(name, base)),
        IP_ADDRESS => Some(address_within(name, base)),
        URI => uri_host(name).map(|host| host_within(host, base)),
        _ => None,
    })
}

/// "host.example" and everything below it; with a leading dot only what is below; empty means all. A wildcard name is
/// compared as the text it is, so that `*.example` lies below `example` and never outside of it.
fn dns_within(name: &[u8], base: &[u8]) -> bool {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let base = base.strip_suffix(b".").unwrap_or(base);
    if base.is_empty() {
        return true;
    }
    let Some(start) = name.len().checked_sub(base.len()) else { return false };
    let (before, end) = name.split_at(start);
    let boundary = before.is_empty() || before.ends_with(b".") || base.starts_with(b".");
    end.eq_ignore_ascii_case(base) && boundary && !(before.is_empty() && base.starts_with(b"."))
}

/// The base's relative names are the first of the name's.
fn directory_within(name: &[u8], base: &[u8]) -> Result<bool, Malformed> {
    let mut name = Reader::new(name);
    let mut base = Reader::new(base);
    while !base.is_empty() {
        let wanted = base.expect(SET, FIELD.0)?;
        match name.next() {
            Some(found) if same_set(found.content, wanted.content) => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// A mailbox, a host, or (with a leading dot) a domain's hosts.
fn email_within(name: &[u8], base: &[u8]) -> bool {
    let Some(at) = name.iter().rposition(|byte| *byte == b'@') else { return false };
    let (local, host) = name.split_at(at);
    let host = host.get(1..).unwrap_or_default();
    if let Some(base_at) = base.iter().rposition(|byte| *byte == b'@') {
        let (base_local, base_host) = base.split_at(base_at);
        return local == base_local && host.eq_ignore_ascii_case(base_host.get(1..).unwrap_or_default());
    }
    base.is_empty() || host_within(host, base)
}

/// One host, or (with a leading dot) all hosts of a domain: the rule for mail addresses and URIs.
fn host_within(host: &[u8], base: &[u8]) -> bool {
    if base.starts_with(b".") { dns_within(host, base) } else { host.eq_ignore_ascii_case(base) }
}

/// The host of a URI with an authority, `scheme://user@host:port/path`.
fn uri_host(uri: &[u8]) -> Option<&[u8]> {
    let start = uri.windows(3).position(|window| window == b"://")?;
    let authority = uri.get(start + 3..)?.split(|byte| matches!(byte, b'/' | b'?' | b'#')).next()?;
    let host = authority.rsplit(|byte| *byte == b'@').next()?.split(|byte| *byte == b':').next()?;
    (!host.is_empty()).then_some(host)
}

/// An address, in a base of address and mask.
fn address_within(name: &[u8], base: &[u8]) -> bool {
    if !matches!(name.len(), 4 | 16) || base.len() != name.len() * 2 {
        return false;
    }
    let (address, mask) = base.split_at(name.len());
    name.iter().zip(address).zip(mask).all(|((name, address), mask)| name & mask == address & mask)
}

/// emailAddress, 1.2.840.113549.1.9.1.
const EMAIL_ADDRESS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01];
