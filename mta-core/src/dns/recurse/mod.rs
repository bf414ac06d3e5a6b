//! The transport by own recursion: from the root servers down, following referrals (RFC 1034 5.3.3).
//!
//! It fetches one raw response for one question and follows no alias: the validator asks for the target itself. It
//! validates nothing; a false referral leads to answers that do not validate, or to no answer, never to "secure". `response`
//! reads single responses, `memory` keeps zone cuts, `hints` knows the root.
//!
//! Bounds: referrals in a row, name servers tried for a zone, nesting of lookups for name server addresses, and the
//! lookup's [`Budget`] over all of it.

mod hints;
mod memory;
mod response;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};
use mta_dane::validator::TransportFailure;

pub(super) use self::hints::root_servers;
use self::memory::Memory;
use self::response::{Meaning, NameServer, Referral, meaning};
use super::client::{Client, Flags};
use super::transport::{Budget, Question, Transport, TransportFuture};

/// Referrals followed for one question: a name has at most 127 labels, honest trees a handful.
const MAX_REFERRALS: usize = 16;

/// Addresses of one zone that are asked for one question.
const MAX_SERVERS_ASKED: usize = 8;

/// Name servers of one zone whose addresses are looked up for one question.
const MAX_NAMES_RESOLVED: usize = 4;

/// Lookups of name server addresses within lookups of name server addresses.
const MAX_DEPTH: usize = 5;

/// Zone cuts remembered.
const MAX_ZONES: usize = 4096;

/// Name servers whose addresses are remembered.
const MAX_NAMES: usize = 4096;

/// How long the DS records of a referral stand in for a DS question: long enough for the lookup that met it.
const DS_FROM_REFERRAL: Duration = Duration::from_secs(10);

/// A zone and who serves it.
#[derive(Debug)]
struct Zone {
    name: Name,
    servers: Vec<NameServer>,
    /// The root's servers are given with ports, and without names.
    fixed: Vec<SocketAddr>,
    ds_response: Option<Message>,
    learnt_at: Instant,
}

/// Asks authoritative servers, beginning at the root.
#[derive(Debug)]
pub(super) struct Recurse {
    client: Arc<Client>,
    root: Arc<Zone>,
    port: u16,
    zones: Memory<Name, Arc<Zone>>,
    addresses: Memory<Name, Vec<IpAddr>>,
}

type Found<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Recurse {
    /// `port` is that of servers found by referral.
    pub(super) fn new(client: Arc<Client>, root_servers: Vec<SocketAddr>, port: u16) -> Self {
        let root = Arc::new(Zone {
            name: Name::root(),
            servers: Vec::new(),
            fixed: root_servers,
            ds_response: None,
            learnt_at: Instant::now(),
        });
        Self { client, root, port, zones: Memory::new(MAX_ZONES), addresses: Memory::new(MAX_NAMES) }
    }

    /// Boxed, since finding a name server's address may need another walk.
    fn resolve<'a>(
        &'a self,
        question: &'a Question,
        budget: &'a Budget,
        depth: usize,
    ) -> Found<'a, Result<Message, TransportFailure>> {
        Box::pin(async move {
            if let Some(response) = self.ds_from_referral(question).filter(|_| !budget.is_second()) {
                return Ok(response);
            }
            let zone = self.closest_zone(question);
            let remembered = !zone.name.is_root();
            match self.walk(zone.clone(), question, budget, depth).await {
                Err(TransportFailure::GivenUp(why)) => Err(TransportFailure::GivenUp(why)),
                // What was remembered of the zone may be out of date: once more from above.
                Err(_) if remembered => {
                    self.zones.remove(&zone.name);
                    let zone = self.closest_zone(&Question::new(zone.name.base_name(), RecordType::NS));
                    self.walk(zone, question, budget, depth).await
                }
                done => done,
            }
        })
    }

    /// Follows referrals down from a zone until one of its servers settles the question.
    async fn walk(
        &self,
        mut zone: Arc<Zone>,
        question: &Question,
        budget: &Budget,
        depth: usize,
    ) -> Result<Message, TransportFailure> {
        for _ in 0..MAX_REFERRALS {
            match self.ask_zone(&zone, question, budget, depth).await? {
                Meaning::Answer(message) => return Ok(message),
                Meaning::Referral(referral) => zone = self.learn(referral),
                Meaning::Lame(why) => {
                    return Err(TransportFailure::Network(format!("servers of {}: {why}", zone.name)));
                }
            }
        }
        Err(TransportFailure::GivenUp(format!("more than {MAX_REFERRALS} referrals")))
    }

    /// Asks the servers of a zone in turn until one is of use. Those with known addresses come first.
    async fn ask_zone(
        &self,
        zone: &Zone,
        question: &Question,
        budget: &Budget,
        depth: usize,
    ) -> Result<Meaning, TransportFailure> {
        let mut last = Err(TransportFailure::Network(format!(
            "no server of {} has an address that can be reached",
            zone.name
        )));
        let mut asked = 0;
        let mut nameless: Vec<&Name> = Vec::new();
        let mut known = zone.fixed.clone();
        for server in &zone.servers {
            match self.known_addresses(server) {
                Some(addresses) => known.extend(self.with_port(&addresses)),
                None => nameless.push(&server.name),
            }
        }
        fastrand::shuffle(&mut nameless);
        let mut nameless = nameless.into_iter().take(MAX_NAMES_RESOLVED);
        loop {
            fastrand::shuffle(&mut known);
            self.client.health.order(&mut known);
            budget.order(&mut known);
            for server in known.drain(..) {
                if self.client.is_hopeless(server) {
                    continue;
                }
                if asked == MAX_SERVERS_ASKED {
                    return last;
                }
                asked += 1;
                match self.client.ask(server, question, Flags::AUTHORITY, budget).await {
                    Ok(message) => match meaning(message, &zone.name, question) {
                        Meaning::Lame(why) => last = Ok(Meaning::Lame(why)),
                        useful => return Ok(useful),
                    },
                    Err(given_up @ TransportFailure::GivenUp(_)) => return Err(given_up),
                    Err(error) => last = Err(error),
                }
            }
            let Some(name) = nameless.next() else { return last };
            let addresses = self.find_addresses(zone, name, budget, depth).await;
            known.extend(self.with_port(&addresses));
        }
    }

    fn with_port(&self, addresses: &[IpAddr]) -> impl Iterator<Item = SocketAddr> {
        addresses.iter().map(|ip| SocketAddr::new(*ip, self.port))
    }

    /// Glue, or what was found before. `None` where it has to be looked up.
    fn known_addresses(&self, server: &NameServer) -> Option<Vec<IpAddr>> {
        if server.addresses.iter().any(|ip| self.client.uses(*ip)) {
            return Some(server.addresses.clone());
        }
        self.addresses.get(&server.name)
    }

    /// Looks up the addresses of a name server. A server whose name lies in the zone it serves cannot be found without
    /// glue.
    async fn find_addresses(&self, zone: &Zone, name: &Name, budget: &Budget, depth: usize) -> Vec<IpAddr> {
        if depth >= MAX_DEPTH || zone.name.zone_of(name) {
            return Vec::new();
        }
        let mut found = Vec::new();
        let mut ttl = u32::MAX;
        for rtype in [RecordType::A, RecordType::AAAA] {
            let example: IpAddr = match rtype {
                RecordType::A => std::net::Ipv4Addr::LOCALHOST.into(),
                _ => std::net::Ipv6Addr::LOCALHOST.into(),
            };
            if !found.is_empty() || !self.client.uses(example) {
                continue;
            }
            let question = Question::new(name.clone(), rtype);
            let Ok(message) = self.resolve(&question, budget, depth + 1).await else { continue };
            for record in message.answers.iter().filter(|r| r.name == *name && r.record_type() == rtype) {
                ttl = ttl.min(record.ttl);
                found.extend(record.data.ip_addr());
            }
        }
        found.truncate(MAX_SERVERS_ASKED);
        if !found.is_empty() {
            self.addresses.put(name.clone(), found.clone(), ttl);
        }
        found
    }

    /// The closest zone at or above the name whose servers are known. DS records belong to the parent (RFC 4035 3.1.4.1).
    fn closest_zone(&self, question: &Question) -> Arc<Zone> {
        let mut name = question.name.to_lowercase();
        name.set_fqdn(true);
        if question.rtype == RecordType::DS {
            name = name.base_name();
        }
        while !name.is_root() {
            if let Some(zone) = self.zones.get(&name) {
                return zone;
            }
            name = name.base_name();
        }
        self.root.clone()
    }

    fn learn(&self, referral: Referral) -> Arc<Zone> {
        let zone = Arc::new(Zone {
            name: referral.zone.clone(),
            servers: referral.servers,
            fixed: Vec::new(),
            ds_response: referral.ds_response,
            learnt_at: Instant::now(),
        });
        self.zones.put(referral.zone, zone.clone(), referral.ttl);
        zone
    }

    /// The DS records that a referral just brought save a query.
    fn ds_from_referral(&self, question: &Question) -> Option<Message> {
        if question.rtype != RecordType::DS {
            return None;
        }
        let zone = self.zones.get(&question.name.to_lowercase())?;
        if zone.learnt_at.elapsed() > DS_FROM_REFERRAL {
            return None;
        }
        zone.ds_response.clone()
    }
}

impl Transport for Recurse {
    fn ask<'a>(&'a self, question: Question, budget: &'a Budget) -> TransportFuture<'a> {
        Box::pin(async move { self.resolve(&question, budget, 0).await })
    }
}

#[cfg(test)]
mod tests;
