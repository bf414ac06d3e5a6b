//! From the configuration to the options of each part of the server.
//!
//! What it does: one function per part, so that a reader finds in one place what each key does. What it does not: it
//! opens nothing and starts nothing.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use mta_dane::validator::CacheLimits;
use mta_smtp::address::{Domain, Mailbox};
use mta_smtp::client;
use mta_smtp::server;

use super::{Config, DaneMode, Destination, DnsMode, OwnDomain, Relay, RelayTls, Size};
use crate::account::{Accounts, LocalDomain};
use crate::outbound::tls_policy::{DestinationRule, TlsRule};
use crate::routing::table::RoutingTable;
use crate::routing::{self, RelayAuth, RelayHost};
use crate::{dns, inbound, outbound};

/// Memory for one cached answer, about: `dns.cache_entries` counts entries, the cache counts bytes.
const BYTES_PER_CACHE_ENTRY: usize = 1024;

impl Config {
    /// Our host name as an SMTP domain. The configuration checked it; a name of the system that is none falls back.
    pub fn host_domain(&self) -> Domain {
        Domain::parse(&self.effective_hostname())
            .or_else(|_| Domain::parse("localhost"))
            .unwrap_or_else(|_| unreachable!("localhost is a domain"))
    }

    /// Our domains and mailboxes.
    pub fn accounts(&self) -> Accounts {
        let domains = self.domains.iter().filter_map(|(name, domain)| {
            let domain = self.local_domain(domain);
            Domain::parse(name).ok().map(|name| (name, domain))
        });
        Accounts::new(domains.collect::<HashMap<_, _>>(), self.postmaster_mailbox())
    }

    fn local_domain(&self, domain: &OwnDomain) -> LocalDomain {
        LocalDomain {
            mailboxes: domain.mailboxes.iter().map(|mailbox| mailbox.to_lowercase()).collect(),
            maildir: domain.maildir.replace("{state_dir}", &self.state_dir.to_string_lossy()),
        }
    }

    fn postmaster_mailbox(&self) -> Option<Mailbox> {
        self.postmaster.as_ref().and_then(|address| Mailbox::parse(address).ok())
    }

    /// Mail coming in.
    pub fn inbound_options(&self) -> inbound::Options {
        let smtp = &self.smtp;
        inbound::Options {
            postmaster: self.postmaster_mailbox(),
            relay_networks: smtp.relay_networks.clone(),
            message_size_limit: smtp.message_size_limit.0,
            limits: self.session_limits(),
            sessions: smtp.max_sessions as usize,
            sessions_per_client: smtp.max_sessions_per_client as usize,
            write_timeout: smtp.write_timeout,
            ..inbound::Options::new(self.host_domain())
        }
    }

    fn session_limits(&self) -> server::Limits {
        let smtp = &self.smtp;
        server::Limits {
            recipients: smtp.max_recipients as usize,
            transactions: smtp.max_messages_per_session as usize,
            errors: smtp.max_errors as usize,
            idle_commands: smtp.max_idle_commands as usize,
            content_line_octets: bytes(smtp.max_line),
            header_octets: bytes(smtp.max_header),
            received_lines: smtp.max_received as usize,
            command_timeout: smtp.command_timeout,
            content_block_timeout: smtp.data_timeout,
            tls_timeout: smtp.tls_timeout,
            session_lifetime: smtp.session_timeout,
            ..server::Limits::default()
        }
    }

    /// How names are looked up.
    pub fn dns_options(&self) -> dns::Options {
        let dns = &self.dns;
        let root_hints = match (&dns.root_hints_file, dns.root_servers.as_slice()) {
            (None, []) => dns::RootHints::BuiltIn,
            (Some(file), []) => dns::RootHints::File(file.clone()),
            (_, servers) => dns::RootHints::Servers(servers.iter().map(|server| server.0).collect()),
        };
        dns::Options {
            mode: match dns.mode {
                DnsMode::Auto => dns::Mode::Auto,
                DnsMode::TrustAd => dns::Mode::TrustAd,
            },
            forwarders: dns.servers.iter().map(|server| server.0).collect(),
            recursion: dns.recursion,
            root_hints,
            authoritative_port: dns.authoritative_port,
            trust_anchor_file: dns.trust_anchor_file.clone(),
            query_timeout: dns.query_timeout,
            lookup_timeout: dns.lookup_timeout,
            cache: CacheLimits {
                answer_bytes: dns.cache_entries as usize * BYTES_PER_CACHE_ENTRY,
                ..CacheLimits::default()
            },
            ipv4: self.outbound.ipv4,
            ipv6: self.outbound.ipv6,
            source_ipv4: self.outbound.source_ipv4,
            source_ipv6: self.outbound.source_ipv6,
            ..dns::Options::default()
        }
    }

    /// Mail going out.
    pub fn outbound_options(&self) -> outbound::Options {
        let out = &self.outbound;
        outbound::Options {
            host_name: self.effective_hostname().to_string(),
            port: out.port,
            ipv4: out.ipv4,
            ipv6: out.ipv6,
            source_ipv4: out.source_ipv4,
            source_ipv6: out.source_ipv6,
            allow_loopback: out.allow_loopback,
            allow_private: out.allow_private,
            own_addresses: self.smtp.listen.iter().map(std::net::SocketAddr::ip).collect(),
            own_ports: self.smtp.listen.iter().map(std::net::SocketAddr::port).collect(),
            max_addresses_per_host: out.max_addresses_per_host as usize,
            max_hosts: out.max_hosts as usize,
            connect_timeout: out.connect_timeout,
            handshake_timeout: out.tls_timeout,
            smtp: client::Limits {
                greeting: out.greeting_timeout,
                command: out.command_timeout,
                mail: out.command_timeout,
                rcpt: out.command_timeout,
                data_start: out.data_timeout,
                data_block: out.block_timeout,
                data_end: out.end_of_data_timeout,
                total_wait: out.attempt_timeout,
                reply_bytes: bytes(out.max_reply),
                ..client::Limits::default()
            },
            destinations: self.destination_rules(),
            ..outbound::Options::default()
        }
    }

    fn destination_rules(&self) -> Vec<DestinationRule> {
        self.destinations
            .iter()
            .filter_map(|(pattern, destination)| {
                let tls = match destination.dane {
                    DaneMode::Opportunistic => return None,
                    DaneMode::Mandatory => TlsRule::DaneMandatory,
                    DaneMode::Off => TlsRule::DaneOff,
                };
                Some(DestinationRule {
                    domain: pattern.to_string(),
                    tls,
                    until: destination.until.and_then(end_of_day),
                    reason: destination.reason.clone().unwrap_or_default(),
                })
            })
            .collect()
    }

    /// Where mail goes that is not for a domain of ours.
    pub fn routing_table(&self) -> RoutingTable {
        let mut table = RoutingTable::new(relay_host(&self.relay));
        for (pattern, destination) in &self.destinations {
            if let Some(relay) = destination_relay(destination) {
                table.insert(pattern, relay);
            }
        }
        table
    }

    /// The queue.
    pub fn queue_options(&self) -> mta_queue::Options {
        mta_queue::Options {
            reserve_bytes: self.queue.min_free_space.0,
            history_age: self.queue.history,
            ..mta_queue::Options::default()
        }
    }
}

fn bytes(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

/// The last moment of a day, UTC: a rule "until" a day still holds on it.
fn end_of_day(day: jiff::civil::Date) -> Option<SystemTime> {
    let midnight = day.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(midnight.timestamp().as_second()).ok()?))
}

/// The rule's own relay host, or its next hop: a host that is asked instead of the domain's MX hosts and is held to
/// nothing but DANE, like those.
fn destination_relay(destination: &Destination) -> Option<RelayHost> {
    relay_host(&destination.relay).or_else(|| {
        destination.next_hop.as_ref().map(|hop| RelayHost {
            host: hop.host.to_string(),
            port: hop.port.unwrap_or(25),
            tls: routing::RelayTls::Opportunistic,
            auth: None,
        })
    })
}

fn relay_host(relay: &Relay) -> Option<RelayHost> {
    let host = relay.host.as_ref()?;
    let tls = match relay.tls {
        RelayTls::Starttls => routing::RelayTls::StartTls,
        RelayTls::Implicit => routing::RelayTls::Implicit,
        RelayTls::Opportunistic => routing::RelayTls::Opportunistic,
        RelayTls::Never => routing::RelayTls::Never,
    };
    let port = relay.port.unwrap_or(match tls {
        routing::RelayTls::StartTls => 587,
        routing::RelayTls::Implicit => 465,
        routing::RelayTls::Opportunistic | routing::RelayTls::Never => 25,
    });
    let auth = relay
        .user
        .as_ref()
        .zip(secret_path(relay))
        .map(|(username, secret_file)| RelayAuth { username: username.clone(), secret_file });
    Some(RelayHost { host: host.to_string(), port, tls, auth })
}

/// A credential is a file that systemd puts into a folder of its own for the service (systemd.exec(5)).
fn secret_path(relay: &Relay) -> Option<PathBuf> {
    relay.secret_file.clone().or_else(|| {
        let folder = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?);
        Some(folder.join(relay.secret_credential.as_ref()?))
    })
}

/// Shared by the tasks of the daemon: what a reload makes anew.
#[derive(Debug, Clone)]
pub struct Applied {
    /// Our domains and mailboxes.
    pub accounts: Arc<Accounts>,
    /// Routes.
    pub routing: Arc<RoutingTable>,
    /// Options of mail out.
    pub outbound: Arc<outbound::Options>,
}

impl Applied {
    /// From a configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            accounts: Arc::new(config.accounts()),
            routing: Arc::new(config.routing_table()),
            outbound: Arc::new(config.outbound_options()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mta.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn the_last_day_of_a_rule_counts_in_full() {
        let day = jiff::civil::date(2026, 12, 31);
        let end = end_of_day(day).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        // 2027-01-01T00:00:00Z
        assert_eq!(end.as_secs(), 1_798_761_600);
    }

    #[test]
    fn routes_come_from_relay_and_destinations() {
        let config = config(
            "hostname = \"mx.example\"\n[relay]\nhost = \"smart.example\"\ntls = \"implicit\"\n\
             [destination.\"a.example\"]\nnext_hop = \"mx9.example:2525\"\n",
        );
        let (table, accounts) = (config.routing_table(), config.accounts());
        let route = |host: &str| {
            let host = mta_smtp::address::Host::parse(host).unwrap();
            table.route(&accounts, &host).to_string()
        };
        assert_eq!(route("b.example"), "relay:smart.example:465");
        assert_eq!(route("a.example"), "relay:mx9.example:2525");
    }

    #[test]
    fn a_mailbox_lies_below_the_state_directory() {
        let config = config(
            "hostname = \"mx.example\"\nstate_dir = \"/srv/mta\"\n[domain.\"one.example\"]\nmailboxes = [\"Anna\"]\n\
             maildir = \"{state_dir}/mail/{domain}/{mailbox}\"\n",
        );
        let found = config.accounts().recipient(&Mailbox::parse("anna@one.example").unwrap());
        assert_eq!(found, crate::account::Recipient::Maildir("/srv/mta/mail/one.example/anna".into()));
    }
}
