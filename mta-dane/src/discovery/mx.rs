//! From a next-hop to an ordered list of hosts (RFC 5321 5.1, RFC 7672 2.2.1, RFC 7505).

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::rr::rdata::MX;
use hickory_proto::rr::{Name, RData, RecordType};

use super::{NextHop, Options, Question, Questions, Shuffle, Step};
use crate::dnssec::{Answer, Kind, Status};
use crate::failure::NextHopFailure;
use crate::reference::{Origin, normal, text};

/// One host to try.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MxHost {
    /// Its preference; lower is better. 0 where no MX record named it.
    pub preference: u16,
    /// Its name, unexpanded, lower case.
    pub name: Name,
}

/// How the hosts were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NextHopKind {
    /// By MX records.
    Mx,
    /// There are no MX records: the domain is its own only host (B9).
    ImplicitMx,
    /// By configuration (B13).
    Configured,
    /// By configuration, as an address.
    Address(IpAddr),
}

/// An MX record that is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ignored {
    /// "." beside other records (B12).
    Root {
        /// Its preference.
        preference: u16,
    },
    /// An IP address where a name should stand (B11).
    IpAddress {
        /// Its preference.
        preference: u16,
        /// What stands there.
        name: Name,
    },
    /// One of our own names, or not better than one (B15).
    NotBetterThanUs(MxHost),
    /// More hosts than are kept.
    OverLimit(MxHost),
}

/// The hosts of a next-hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MxList {
    /// The next-hop as it was given; the address in brackets-free text form where it is one.
    pub next_hop: Name,
    /// Its fully expanded name where it is an alias (B4).
    pub expanded: Option<Name>,
    /// How the hosts were found.
    pub kind: NextHopKind,
    /// The status of the MX records or of their denial, aliases included; `Secure` for a configured host (B13).
    pub status: Status,
    /// The hosts in the order to try them, never empty.
    pub hosts: Vec<MxHost>,
    /// What was left out, and why.
    pub ignored: Vec<Ignored>,
}

impl MxList {
    /// What of this next-hop enters the reference identifiers of one of its hosts.
    pub(super) fn origin<'a>(&'a self, host: &'a Name) -> Origin<'a> {
        match self.kind {
            NextHopKind::Mx if self.status == Status::Secure => {
                Origin::SecureMx { next_hop: &self.next_hop, expanded: self.expanded.as_ref() }
            }
            NextHopKind::Mx => Origin::InsecureMx { host },
            NextHopKind::ImplicitMx | NextHopKind::Configured | NextHopKind::Address(_) => {
                Origin::NoMx { next_hop: &self.next_hop }
            }
        }
    }
}

/// The machine that asks for MX records.
#[derive(Debug, Clone)]
pub struct MxDiscovery {
    options: Options,
    domain: Name,
    questions: Questions,
    result: Option<Result<MxList, NextHopFailure>>,
}

impl MxDiscovery {
    /// Starts a walk. A configured host or address is done at once, without a question.
    pub fn new(next_hop: &NextHop, options: Options) -> Self {
        let mut questions = Questions::default();
        let configured = |name: &Name, kind| {
            let name = normal(name);
            Ok(MxList {
                hosts: vec![MxHost { preference: 0, name: name.clone() }],
                next_hop: name,
                expanded: None,
                kind,
                status: Status::Secure,
                ignored: Vec::new(),
            })
        };
        let (domain, result) = match next_hop {
            NextHop::MxOf(domain) => {
                questions.add(domain, RecordType::MX);
                (normal(domain), None)
            }
            NextHop::Host(name) => (normal(name), Some(configured(name, NextHopKind::Configured))),
            NextHop::Address(address) => {
                let name = address_name(*address);
                (name.clone(), Some(configured(&name, NextHopKind::Address(*address))))
            }
        };
        Self { options, domain, questions, result }
    }

    /// What to do next.
    pub fn poll(&mut self) -> Step<Result<MxList, NextHopFailure>> {
        if let Some(result) = &self.result {
            return Step::Done(result.clone());
        }
        match self.questions.next() {
            Some(question) => Step::Ask(question),
            None => Step::Wait,
        }
    }

    /// Takes an answer; one that was not asked for is ignored.
    pub fn answer(&mut self, answer: Answer) {
        self.questions.take(answer);
        if self.result.is_none()
            && let Some(answer) = self.questions.answered(&self.domain, RecordType::MX)
        {
            self.result = Some(match answer {
                Err(error) => Err(NextHopFailure::Lookup(error.clone())),
                Ok(answer) => hosts_of(&self.domain, answer, &self.options),
            });
        }
    }

    /// The question this machine asks, if any: for callers that want to show it.
    pub fn question(&self) -> Option<Question> {
        self.questions.entries.first().map(|(question, _)| question.clone())
    }
}

/// Turns an MX answer that is no error into hosts.
fn hosts_of(domain: &Name, answer: &Answer, options: &Options) -> Result<MxList, NextHopFailure> {
    let expanded = Some(normal(answer.final_name())).filter(|name| name != domain);
    let mut list = MxList {
        next_hop: domain.clone(),
        expanded,
        kind: NextHopKind::Mx,
        status: answer.status,
        hosts: Vec::new(),
        ignored: Vec::new(),
    };
    match answer.kind {
        Kind::NxDomain => Err(NextHopFailure::NxDomain { domain: domain.clone(), status: answer.status }),
        Kind::NoData => {
            list.kind = NextHopKind::ImplicitMx;
            list.hosts.push(MxHost { preference: 0, name: domain.clone() });
            without_us(list, options)
        }
        Kind::Data => {
            let records: Vec<&MX> = answer
                .records
                .iter()
                .filter_map(|record| if let RData::MX(mx) = &record.data { Some(mx) } else { None })
                .collect();
            if !records.is_empty() && records.iter().all(|mx| mx.exchange.is_root()) {
                return Err(NextHopFailure::NullMx { domain: domain.clone(), status: answer.status });
            }
            sort_in(&mut list, &records, options);
            without_us(list, options)
        }
    }
}

/// Fills in the hosts: names only, each once with its best preference, best first, equals shuffled.
fn sort_in(list: &mut MxList, records: &[&MX], options: &Options) {
    let mut hosts: Vec<MxHost> = Vec::new();
    for mx in records {
        let (preference, name) = (mx.preference, normal(&mx.exchange));
        if name.is_root() {
            list.ignored.push(Ignored::Root { preference });
        } else if looks_like_address(&name) {
            list.ignored.push(Ignored::IpAddress { preference, name });
        } else if let Some(known) = hosts.iter_mut().find(|host| host.name == name) {
            known.preference = known.preference.min(preference);
        } else {
            hosts.push(MxHost { preference, name });
        }
    }
    hosts.sort_unstable();
    let mut shuffle = Shuffle(options.seed);
    for equals in hosts.chunk_by_mut(|a, b| a.preference == b.preference) {
        shuffle.order(equals);
    }
    list.hosts = hosts;
}

/// Loop prevention before security: our own name and everything not better is dropped (B15, RFC 5321 5.1). Then the limit.
fn without_us(mut list: MxList, options: &Options) -> Result<MxList, NextHopFailure> {
    let is_us = |host: &&MxHost| options.own_names.iter().any(|own| normal(own) == host.name);
    let us = list.hosts.iter().filter(is_us).min().cloned();
    if let Some(us) = &us {
        let (better, rest): (Vec<_>, Vec<_>) =
            list.hosts.into_iter().partition(|host| host.preference < us.preference);
        list.hosts = better;
        list.ignored.extend(rest.into_iter().map(Ignored::NotBetterThanUs));
    }
    let over = list.hosts.split_off(list.hosts.len().min(options.max_mx_hosts.max(1)));
    list.ignored.extend(over.into_iter().map(Ignored::OverLimit));
    if !list.hosts.is_empty() {
        return Ok(list);
    }
    Err(match us {
        Some(us) => NextHopFailure::OwnMx { domain: list.next_hop, own: us.name },
        None => NextHopFailure::NoUsableMx { domain: list.next_hop },
    })
}

/// "192.0.2.1." and the like: an address written where a name belongs. No top-level domain is a number (RFC 3696 2).
fn looks_like_address(name: &Name) -> bool {
    let text = text(name);
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<Ipv4Addr>().is_ok() || text.contains(':') || text.rsplit('.').next().is_some_and(all_digits)
}

fn all_digits(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit())
}

/// A name that only shows the address; it is never asked for.
fn address_name(address: IpAddr) -> Name {
    let label = address.to_string();
    Name::from_labels([label.as_bytes()]).unwrap_or_default()
}
