//! DNS and mail going out.

use std::time::Duration;

use crate::config::Size;
use crate::config::table::{OptionSpec, bounded, option};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const TENTH: Duration = Duration::from_millis(100);

/// The rows of this file.
pub(super) fn rows() -> Vec<OptionSpec> {
    let mut rows = dns();
    rows.extend(addresses());
    rows.extend(limits());
    rows.extend(sessions());
    rows.extend(faults());
    rows.extend(timeouts());
    rows
}

fn dns() -> Vec<OptionSpec> {
    vec![
        option(
            "dns.mode",
            "\"auto\"",
            "\"trust-ad\"",
            |c, _| &mut c.dns.mode,
            "\"auto\" validates DNSSEC in this process, whatever the resolvers say. \"trust-ad\" believes \
             the AD bit instead; that is sound only for a validating resolver on this host, so every server \
             must then be a loopback address.",
        ),
        option(
            "dns.servers",
            "[]",
            "[\"192.0.2.53\", \"127.0.0.1:5353\"]",
            |c, _| &mut c.dns.servers,
            "Resolvers to ask, in order; the port is 53 unless given. Empty means those of /etc/resolv.conf.",
        ),
        option(
            "dns.recursion",
            "true",
            "false",
            |c, _| &mut c.dns.recursion,
            "Whether the daemon may ask the authoritative servers itself, from the root down, where no \
             resolver carries DNSSEC. Off, mail to other domains waits in that case.",
        ),
        option(
            "dns.trust_anchor_file",
            "\"\"",
            "\"/usr/share/dns/root.key\"",
            |c, _| &mut c.dns.trust_anchor_file,
            "Trust anchors (DS or DNSKEY records, as in a zone file) in place of the built-in ones of the \
             root.",
        ),
        option(
            "dns.root_hints_file",
            "\"\"",
            "\"/usr/share/dns/root.hints\"",
            |c, _| &mut c.dns.root_hints_file,
            "Root servers for own recursion (a hints file) in place of the built-in ones.",
        ),
        option(
            "dns.root_servers",
            "[]",
            "[\"127.0.0.2:5300\"]",
            |c, _| &mut c.dns.root_servers,
            "Root servers for own recursion by address, in place of both; for private roots.",
        ),
        bounded(
            "dns.authoritative_port",
            "53",
            (1, u16::MAX),
            |c, _| &mut c.dns.authoritative_port,
            "The port of the authoritative servers that own recursion finds; for private roots.",
        ),
        bounded(
            "dns.query_timeout",
            "\"3s\"",
            (TENTH, MINUTE),
            |c, _| &mut c.dns.query_timeout,
            "How long one query to one server may take before it is repeated or another server is asked.",
        ),
        bounded(
            "dns.lookup_timeout",
            "\"30s\"",
            (TENTH, MINUTE * 5),
            |c, _| &mut c.dns.lookup_timeout,
            "How long a whole lookup may take, with all that is needed to validate it. Beyond it the answer \
             is unavailable and mail waits.",
        ),
        bounded(
            "dns.cache_size",
            "\"8MB\"",
            (Size(256 << 10), Size(1 << 32)),
            |c, _| &mut c.dns.cache_size,
            "Memory for validated answers and keys. The default serves some thousand domains.",
        ),
    ]
}

fn addresses() -> Vec<OptionSpec> {
    vec![
        option(
            "outbound.ipv4",
            "true",
            "false",
            |c, _| &mut c.outbound.ipv4,
            "Whether mail goes out over IPv4.",
        ),
        option(
            "outbound.ipv6",
            "true",
            "false",
            |c, _| &mut c.outbound.ipv6,
            "Whether mail goes out over IPv6. Switch it off where the address has no reverse name.",
        ),
        option(
            "outbound.source_ipv4",
            "\"\"",
            "\"192.0.2.25\"",
            |c, _| &mut c.outbound.source_ipv4,
            "The address IPv4 connections come from. Unset, the system chooses.",
        ),
        option(
            "outbound.source_ipv6",
            "\"\"",
            "\"2001:db8::25\"",
            |c, _| &mut c.outbound.source_ipv6,
            "The address IPv6 connections come from. Unset, the system chooses.",
        ),
        option(
            "outbound.honour_tls_required_no",
            "true",
            "false",
            |c, _| &mut c.outbound.honour_tls_required_no,
            "Whether a message with the header field TLS-Required: No (RFC 8689) is delivered where DANE or \
             MTA-STS would hold it back. TLS is still tried first. Rules of this configuration are never passed over.",
        ),
        bounded(
            "outbound.port",
            "25",
            (1, u16::MAX),
            |c, _| &mut c.outbound.port,
            "The port of MX hosts. The TLSA owner name follows it: _25._tcp.host.",
        ),
        option(
            "outbound.allow_loopback",
            "false",
            "true",
            |c, _| &mut c.outbound.allow_loopback,
            "Whether an MX host may have a loopback address; for tests. A domain whose MX points at \
             127.0.0.1 would otherwise make the server talk to itself.",
        ),
        option(
            "outbound.allow_private",
            "false",
            "true",
            |c, _| &mut c.outbound.allow_private,
            "Whether an MX host may have a private address (RFC 1918, RFC 4193, link-local); for networks \
             with mail hosts of their own. Relay hosts and next hops that are configured may always have \
             one.",
        ),
        option(
            "outbound.ca_file",
            "\"\"",
            "\"/etc/mta/ca.pem\"",
            |c, _| &mut c.outbound.ca_file,
            "Certificate authorities (PEM) that vouch for relay hosts, for hosts under an MTA-STS policy and for \
             policy hosts, in place of the system's.",
        ),
    ]
}

fn limits() -> Vec<OptionSpec> {
    vec![
        bounded(
            "outbound.max_deliveries",
            "50",
            (1, 10_000),
            |c, _| &mut c.outbound.max_deliveries,
            "Deliveries at a time over all destinations.",
        ),
        bounded(
            "outbound.max_deliveries_per_destination",
            "20",
            (1, 1000),
            |c, _| &mut c.outbound.max_deliveries_per_destination,
            "Deliveries at a time to one destination, at most: a relay host, a provider, or the MX hosts that domains \
             share. How many it takes is found out: more with each round of successes, half as many when it says \
             421, refuses on connecting, or cannot be connected to.",
        ),
        bounded(
            "outbound.first_deliveries_per_destination",
            "5",
            (1, 1000),
            |c, _| &mut c.outbound.first_deliveries_per_destination,
            "Deliveries at a time to a destination of which nothing is known yet.",
        ),
        bounded(
            "outbound.max_hosts",
            "5",
            (1, 100),
            |c, _| &mut c.outbound.max_hosts,
            "MX hosts tried in one attempt, best first.",
        ),
        bounded(
            "outbound.max_addresses_per_host",
            "5",
            (1, 100),
            |c, _| &mut c.outbound.max_addresses_per_host,
            "Addresses tried of one MX host.",
        ),
        bounded(
            "outbound.max_transactions",
            "2",
            (1, 100),
            |c, _| &mut c.outbound.max_transactions,
            "Transactions begun in one attempt: after so many hosts took a message's MAIL and deferred it, a \
             later attempt is better than a further host.",
        ),
        bounded(
            "outbound.max_reply",
            "\"128kB\"",
            (Size(4096), Size(1 << 20)),
            |c, _| &mut c.outbound.max_reply,
            "The largest reply taken from a server, over all its lines; beyond it the connection is dropped.",
        ),
    ]
}

fn sessions() -> Vec<OptionSpec> {
    vec![
        bounded(
            "outbound.max_messages_per_session",
            "100",
            (1, 100_000),
            |c, _| &mut c.outbound.max_messages_per_session,
            "Messages over one session to a server; with 1 each has a session of its own. A server that names \
             a limit of its own (LIMITS, RFC 9422) is given no more. A message uses a session again only where \
             it demands exactly what the session was opened and verified for.",
        ),
        bounded(
            "outbound.idle_timeout",
            "\"5s\"",
            (Duration::ZERO, MINUTE * 5),
            |c, _| &mut c.outbound.idle_timeout,
            "How long a session is kept open for a further message to the same server. 0 keeps none.",
        ),
        bounded(
            "outbound.session_lifetime",
            "\"5m\"",
            (SECOND, DAY),
            |c, _| &mut c.outbound.session_lifetime,
            "How old a session may be when it takes a message. It bounds how long one proof of the server's \
             identity is believed.",
        ),
        bounded(
            "outbound.max_idle_sessions",
            "50",
            (0, 10_000),
            |c, _| &mut c.outbound.max_idle_sessions,
            "Sessions kept open without a message, in all.",
        ),
        bounded(
            "outbound.max_idle_sessions_per_host",
            "10",
            (0, 1000),
            |c, _| &mut c.outbound.max_idle_sessions_per_host,
            "Sessions kept open without a message, with one host at one address.",
        ),
    ]
}

fn faults() -> Vec<OptionSpec> {
    vec![
        option(
            "outbound.provider_replies_file",
            "\"\"",
            "\"/etc/mta/replies.toml\"",
            |c, _| &mut c.outbound.provider_replies_file,
            "Own rows for the table of known replies of mail providers, read before those that come with the program; \
             mta-core/src/outbound/provider/replies.toml in the source shows the form. What a row leads to (a pause, \
             fewer deliveries at once, IPv4 only, an alert) holds for all domains with the same MX hosts.",
        ),
        bounded(
            "outbound.retry_blocked",
            "\"0s\"",
            (Duration::ZERO, DAY * 5),
            |c, _| &mut c.outbound.retry_blocked,
            "For how long after its arrival mail is kept and tried again that a provider refuses for good by a block of \
             this host (a row marked worth_retrying). Zero, the default: a 5yz is final (RFC 5321 4.2.1) and the sender \
             is told at once.",
        ),
        bounded(
            "outbound.site_fault_destinations",
            "4",
            (2, 60),
            |c, _| &mut c.outbound.site_fault_destinations,
            "So many destinations that have nothing to do with each other must fail alike within half an hour, with \
             nothing working meanwhile, before the fault is thought to be here. Then mail waits without growing older, \
             an alert is raised, and single deliveries find out when it is over. What the system itself reports (no \
             route, no DNS, no file descriptors) needs no such number.",
        ),
        bounded(
            "outbound.site_fault_probe",
            "\"30s\"",
            (SECOND, MINUTE * 10),
            |c, _| &mut c.outbound.site_fault_probe,
            "The time between the first such deliveries; it doubles, up to five minutes.",
        ),
    ]
}

fn timeouts() -> Vec<OptionSpec> {
    vec![
        bounded(
            "outbound.connect_timeout",
            "\"30s\"",
            (SECOND, MINUTE * 10),
            |c, _| &mut c.outbound.connect_timeout,
            "How long a connection may take to be made.",
        ),
        bounded(
            "outbound.greeting_timeout",
            "\"5m\"",
            (SECOND, DAY),
            |c, _| &mut c.outbound.greeting_timeout,
            "How long to wait for the greeting. The defaults of this and the following are those of RFC 5321 \
             4.5.3.2.",
        ),
        bounded(
            "outbound.command_timeout",
            "\"5m\"",
            (SECOND, DAY),
            |c, _| &mut c.outbound.command_timeout,
            "How long to wait for the whole reply to EHLO, AUTH, MAIL or RCPT.",
        ),
        bounded(
            "outbound.tls_timeout",
            "\"1m\"",
            (SECOND, DAY),
            |c, _| &mut c.outbound.tls_timeout,
            "How long a TLS handshake may take.",
        ),
        bounded(
            "outbound.data_timeout",
            "\"2m\"",
            (SECOND, DAY),
            |c, _| &mut c.outbound.data_timeout,
            "How long to wait for the reply to DATA.",
        ),
        bounded(
            "outbound.block_timeout",
            "\"3m\"",
            (SECOND, DAY),
            |c, _| &mut c.outbound.block_timeout,
            "How long the server may leave a block of content unread.",
        ),
        bounded(
            "outbound.end_of_data_timeout",
            "\"10m\"",
            (SECOND, DAY),
            |c, _| &mut c.outbound.end_of_data_timeout,
            "How long to wait for the reply after the end of data. Too short a wait makes duplicates.",
        ),
        bounded(
            "outbound.session_timeout",
            "\"20m\"",
            (SECOND, DAY),
            |c, _| &mut c.outbound.session_timeout,
            "How long one session may make us wait for replies, all waits added up.",
        ),
        bounded(
            "outbound.discovery_timeout",
            "\"1m\"",
            (SECOND, DAY),
            |c, _| &mut c.outbound.discovery_timeout,
            "How long the lookups for a destination, or for one of its hosts, may take in all.",
        ),
        bounded(
            "outbound.attempt_timeout",
            "\"1h\"",
            (SECOND, DAY),
            |c, _| &mut c.outbound.attempt_timeout,
            "How long one attempt to deliver a message may take in all; then its connection is cut and the \
             message waits for the next. Only the reply after the end of data is waited for beyond it. A \
             server so slow that its largest message takes longer needs more.",
        ),
        bounded(
            "outbound.min_rate",
            "\"512\"",
            (Size(1), Size(1 << 30)),
            |c, _| &mut c.outbound.min_rate,
            "Octets a second that a server must take of the content, on the whole and after the first \
             block_timeout. One that is slower is left.",
        ),
        bounded(
            "outbound.dane_loss_delay",
            "\"0s\"",
            (Duration::ZERO, DAY),
            |c, _| &mut c.outbound.dane_loss_delay,
            "How long mail waits for a destination that had secure TLSA records for two weeks or more and has \
             none any more, counted from when that was first seen. It is told in any case (see status); \
             \"1h\" gives its operator time to repair a slip. \"0s\": mail goes on without DANE at once.",
        ),
    ]
}
