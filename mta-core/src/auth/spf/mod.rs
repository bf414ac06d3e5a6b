//! SPF (RFC 7208): whether a client may send for a domain.
//!
//! What it does: evaluates the records of a domain for one client, as a function of what DNS said ([`Facts`]). What it
//! does not: it asks no DNS and knows no clock; a question that is open ends the evaluation with its name, and the caller
//! runs it again with the answer.

mod macros;
mod record;

use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;

use hickory_proto::rr::{Name, RData, RecordType};
use serde::{Deserialize, Serialize};

use self::macros::{MacroString, Place};
use self::record::{Cidr, Mechanism, Qualifier, Record};
use super::facts::{Facts, Found, Question, name};

/// Terms of all records together that cause a DNS query (RFC 7208 4.6.4).
const MAX_LOOKUPS: u32 = 10;

/// Queries for them that find nothing (RFC 7208 4.6.4).
const MAX_VOID_LOOKUPS: u32 = 2;

/// Hosts of one `mx`, and names of one `ptr` (RFC 7208 4.6.4).
const MAX_NAMES: usize = 10;

/// Octets of an explanation that are kept.
const MAX_EXPLANATION_OCTETS: usize = 400;

/// The result (RFC 7208 2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpfResult {
    /// There is no record, or no domain to look one up for.
    None,
    /// The domain says nothing about this client.
    Neutral,
    /// The client may.
    Pass,
    /// The client may not.
    Fail,
    /// The client probably may not.
    SoftFail,
    /// It cannot be known now.
    TempError,
    /// The domain's records are broken.
    PermError,
}

impl fmt::Display for SpfResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        })
    }
}

/// Who wants to send.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// What it called itself.
    pub helo: &'a str,
    /// The identity that is checked, as `local@domain`: the reverse-path, or `postmaster@` the name of HELO.
    pub sender: &'a str,
    /// Our name, for explanations.
    pub receiver: &'a str,
    /// The time, in seconds since 1970, for explanations.
    pub now_seconds: u64,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The result.
    pub result: SpfResult,
    /// The domain that was checked.
    pub domain: String,
    /// What the domain's owner says of a failure. A stranger's text: plain ASCII of bounded length.
    pub explanation: Option<String>,
    /// Why it is an error.
    pub reason: Option<String>,
}

/// Checks one identity.
///
/// # Errors
/// The question that has to be answered first.
pub fn check(facts: &Facts, request: &Request<'_>) -> Result<Checked, Question> {
    let (local, domain) = request.sender.rsplit_once('@').unwrap_or(("", request.sender));
    let client = request.client.to_canonical();
    let (lookups, voids) = (Cell::new(0), Cell::new(0));
    let local = if local.is_empty() { "postmaster" } else { local };
    let evaluation = Evaluation { facts, request, client, local, domain, lookups, voids };
    let (result, explanation, reason) = match evaluation.check_host(domain) {
        Ok((SpfResult::Fail, exp)) => (SpfResult::Fail, evaluation.explain(exp)?, None),
        Ok((result, _)) => (result, None, None),
        Err(Stop::Need(question)) => return Err(question),
        Err(Stop::Temporary(reason)) => (SpfResult::TempError, None, Some(reason)),
        Err(Stop::Permanent(reason)) => (SpfResult::PermError, None, Some(reason)),
    };
    Ok(Checked { result, domain: domain.to_owned(), explanation, reason })
}

/// Why an evaluation ends early.
enum Stop {
    Need(Question),
    Temporary(String),
    Permanent(String),
}

type Eval<T> = Result<T, Stop>;

/// The explanation that goes with a failure, and the domain whose record names it.
type Exp = Option<(MacroString, String)>;

/// One evaluation.
struct Evaluation<'a> {
    facts: &'a Facts,
    request: &'a Request<'a>,
    /// The client; an IPv4 address inside IPv6 is one of IPv4 (RFC 7208 5).
    client: IpAddr,
    local: &'a str,
    domain: &'a str,
    lookups: Cell<u32>,
    voids: Cell<u32>,
}

impl Evaluation<'_> {
    fn local_part(&self) -> &str {
        self.local
    }

    fn sender_domain(&self) -> &str {
        self.domain
    }

    fn ask(&self, name: Name, rtype: RecordType) -> Eval<&Found> {
        let question = (name, rtype);
        match self.facts.get(&question) {
            Some(found) => Ok(found),
            None => Err(Stop::Need(question)),
        }
    }

    /// A query for a term: what finds nothing counts (RFC 7208 4.6.4).
    fn ask_for_term(&self, name: Name, rtype: RecordType) -> Eval<&[RData]> {
        match self.ask(name.clone(), rtype)? {
            Found::Records(records) => Ok(records),
            Found::NoData | Found::NoName => {
                self.voids.set(self.voids.get() + 1);
                if self.voids.get() > MAX_VOID_LOOKUPS {
                    return Err(Stop::Permanent(format!(
                        "more than {MAX_VOID_LOOKUPS} lookups find nothing"
                    )));
                }
                Ok(&[])
            }
            Found::Failed(reason) => Err(Stop::Temporary(format!("{name} {rtype}: {reason}"))),
        }
    }

    /// A term that causes a query.
    fn count(&self) -> Eval<()> {
        self.lookups.set(self.lookups.get() + 1);
        if self.lookups.get() > MAX_LOOKUPS {
            return Err(Stop::Permanent(format!("more than {MAX_LOOKUPS} terms need DNS")));
        }
        Ok(())
    }

    /// The function of RFC 7208 4, with the explanation that goes with a failure. Recursion is bounded by `count`.
    fn check_host(&self, domain: &str) -> Eval<(SpfResult, Exp)> {
        let Some(record) = self.record(domain)? else {
            return Ok((SpfResult::None, None));
        };
        for (qualifier, mechanism) in &record.directives {
            if !self.matches(mechanism, domain)? {
                continue;
            }
            let result = match qualifier {
                Qualifier::Pass => SpfResult::Pass,
                Qualifier::Fail => SpfResult::Fail,
                Qualifier::SoftFail => SpfResult::SoftFail,
                Qualifier::Neutral => SpfResult::Neutral,
            };
            return Ok((result, record.exp.map(|exp| (exp, domain.to_owned()))));
        }
        let Some(redirect) = &record.redirect else {
            return Ok((SpfResult::Neutral, None));
        };
        self.count()?;
        let target = redirect.expand_domain(self, domain)?;
        match self.check_host(&target)? {
            (SpfResult::None, _) => {
                Err(Stop::Permanent(format!("redirect to {target}, which has no record")))
            }
            found => Ok(found),
        }
    }

    /// The one record of a domain (RFC 7208 4.3 to 4.5).
    fn record(&self, domain: &str) -> Eval<Option<Record>> {
        let Some(name) = fqdn(domain) else { return Ok(None) };
        let found = self.ask(name, RecordType::TXT)?;
        if let Found::Failed(reason) = found {
            return Err(Stop::Temporary(format!("{domain} TXT: {reason}")));
        }
        let mut records = found.texts();
        records.retain(|text| record::is_spf(text));
        match records.as_slice() {
            [] => Ok(None),
            [one] => {
                let parsed = Record::parse(one).map_err(|why| Stop::Permanent(format!("{domain}: {why}")))?;
                Ok(Some(parsed))
            }
            _ => Err(Stop::Permanent(format!("{domain} has more than one record"))),
        }
    }

    fn matches(&self, mechanism: &Mechanism, domain: &str) -> Eval<bool> {
        match mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip4(address, length) => Ok(self.within((*address).into(), *length)),
            Mechanism::Ip6(address, length) => Ok(self.within((*address).into(), *length)),
            Mechanism::Include(target) => self.include(&target.expand_domain(self, domain)?),
            Mechanism::A(target, cidr) => self.a(&self.target(target.as_ref(), domain)?, *cidr),
            Mechanism::Mx(target, cidr) => self.mx(&self.target(target.as_ref(), domain)?, *cidr),
            Mechanism::Ptr(target) => self.ptr(&self.target(target.as_ref(), domain)?),
            Mechanism::Exists(target) => {
                self.count()?;
                let Some(name) = fqdn(&target.expand_domain(self, domain)?) else { return Ok(false) };
                // RFC 7208 5.7: an A record, whatever family the client is of.
                Ok(!self.ask_for_term(name, RecordType::A)?.is_empty())
            }
        }
    }

    fn target(&self, target: Option<&MacroString>, domain: &str) -> Eval<String> {
        target.map_or_else(|| Ok(domain.to_owned()), |target| target.expand_domain(self, domain))
    }

    fn include(&self, target: &str) -> Eval<bool> {
        self.count()?;
        // RFC 7208 5.2: the table of what a result of the included record means.
        match self.check_host(target)?.0 {
            SpfResult::Pass => Ok(true),
            SpfResult::None => Err(Stop::Permanent(format!("include of {target}, which has no record"))),
            _ => Ok(false),
        }
    }

    fn a(&self, target: &str, cidr: Cidr) -> Eval<bool> {
        self.count()?;
        let Some(name) = fqdn(target) else { return Ok(false) };
        Ok(self.any_within(self.ask_for_term(name, self.address_type())?, cidr))
    }

    fn mx(&self, target: &str, cidr: Cidr) -> Eval<bool> {
        self.count()?;
        let Some(name) = fqdn(target) else { return Ok(false) };
        let hosts: Vec<&Name> = self
            .ask_for_term(name, RecordType::MX)?
            .iter()
            .filter_map(|record| match record {
                RData::MX(mx) if !mx.exchange.is_root() => Some(&mx.exchange),
                _ => None,
            })
            .collect();
        if hosts.len() > MAX_NAMES {
            return Err(Stop::Permanent(format!("{target} has more than {MAX_NAMES} MX hosts")));
        }
        for host in hosts {
            match self.ask(host.to_lowercase(), self.address_type())? {
                Found::Records(records) if self.any_within(records, cidr) => return Ok(true),
                Found::Failed(reason) => return Err(Stop::Temporary(format!("{host}: {reason}"))),
                _ => {}
            }
        }
        Ok(false)
    }

    fn ptr(&self, target: &str) -> Eval<bool> {
        self.count()?;
        let reverse = self.ask_for_term(self.client.into(), RecordType::PTR);
        match reverse {
            Ok(_) => {}
            // RFC 7208 5.5: an error here is no match.
            Err(Stop::Temporary(_)) => return Ok(false),
            Err(stop) => return Err(stop),
        }
        let mut names = self.validated_names()?;
        names.retain(|name| is_within(name, target));
        Ok(!names.is_empty())
    }

    /// The names of the client that lead back to it (RFC 7208 5.5).
    fn validated_names(&self) -> Eval<Vec<String>> {
        let Found::Records(records) = self.ask(self.client.into(), RecordType::PTR)? else {
            return Ok(Vec::new());
        };
        let names = records.iter().filter_map(|record| match record {
            RData::PTR(name) => Some(name.to_lowercase()),
            _ => None,
        });
        let mut validated = Vec::new();
        for name in names.take(MAX_NAMES) {
            if let Found::Records(addresses) = self.ask(name.clone(), self.address_type())?
                && self.any_within(addresses, Cidr { v4: 32, v6: 128 })
            {
                validated.push(name.to_ascii().trim_end_matches('.').to_owned());
            }
        }
        Ok(validated)
    }

    /// The name for `%{p}` (RFC 7208 7.3): the domain itself, one within it, any, `unknown`.
    fn validated_name(&self, domain: &str) -> Eval<String> {
        let names = self.validated_names()?;
        let same = names.iter().find(|name| name.eq_ignore_ascii_case(domain));
        let within = names.iter().find(|name| is_within(name, domain));
        let found = same.or(within).or_else(|| names.first());
        Ok(found.map_or_else(|| "unknown".to_owned(), String::clone))
    }

    fn address_type(&self) -> RecordType {
        if self.client.is_ipv4() { RecordType::A } else { RecordType::AAAA }
    }

    fn any_within(&self, records: &[RData], cidr: Cidr) -> bool {
        records.iter().any(|record| match record {
            RData::A(address) => self.within(address.0.into(), cidr.v4),
            RData::AAAA(address) => self.within(address.0.into(), cidr.v6),
            _ => false,
        })
    }

    /// Whether the client is in the network.
    fn within(&self, network: IpAddr, length: u8) -> bool {
        match (self.client, network) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
                (a.to_bits() ^ b.to_bits()) & mask == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
                (a.to_bits() ^ b.to_bits()) & mask == 0
            }
            _ => false,
        }
    }

    /// The domain owner's explanation (RFC 7208 6.2). Whatever goes wrong with it, the result stands without.
    fn explain(&self, exp: Exp) -> Result<Option<String>, Question> {
        let Some((exp, domain)) = exp else { return Ok(None) };
        match self.explanation(&exp, &domain) {
            Ok(text) => Ok(text),
            Err(Stop::Need(question)) => Err(question),
            Err(_) => Ok(None),
        }
    }

    fn explanation(&self, exp: &MacroString, domain: &str) -> Eval<Option<String>> {
        let Some(name) = fqdn(&exp.expand_domain(self, domain)?) else { return Ok(None) };
        let texts = self.ask(name, RecordType::TXT)?.texts();
        let [text] = texts.as_slice() else { return Ok(None) };
        let parsed =
            std::str::from_utf8(text).ok().and_then(|text| MacroString::parse(text, Place::Explanation));
        let Some(parsed) = parsed else { return Ok(None) };
        let text = parsed.expand(self, domain)?;
        let plain = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        Ok((plain && text.len() <= MAX_EXPLANATION_OCTETS).then_some(text))
    }
}

/// A domain that can have records: two labels at least, and no address literal (RFC 7208 4.3).
fn fqdn(domain: &str) -> Option<Name> {
    name(domain).filter(|name| name.num_labels() >= 2 && !domain.starts_with('['))
}

/// Whether a name is the domain or below it.
fn is_within(name: &str, domain: &str) -> bool {
    let domain = domain.trim_end_matches('.').to_ascii_lowercase();
    name == domain || name.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests;
