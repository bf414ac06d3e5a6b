//! Relay hosts, rules for single destinations, and the queue.

use std::time::Duration;

use crate::config::Size;
use crate::config::table::{OptionSpec, bounded, destination, option};

const YEAR: Duration = Duration::from_secs(31_536_000);

/// The rows of this file.
pub(super) fn rows() -> Vec<OptionSpec> {
    let mut rows = relay();
    rows.extend(rules());
    rows.extend(rule_relay());
    rows.extend(queue());
    rows
}

fn relay() -> Vec<OptionSpec> {
    vec![
        option(
            "relay.host",
            "\"\"",
            "\"smtp.example.net\"",
            |c, _| &mut c.relay.host,
            "The relay host, by name (or address, if no name can be verified anyway). Unset, mail goes to \
             the MX hosts of its domain.",
        ),
        option(
            "relay.port",
            "\"\"",
            "587",
            |c, _| &mut c.relay.port,
            "Its port. Unset, 587 with STARTTLS, 465 with implicit TLS, else 25.",
        ),
        option(
            "relay.tls",
            "\"starttls\"",
            "\"implicit\"",
            |c, _| &mut c.relay.tls,
            "How TLS begins. With \"starttls\" and \"implicit\" nothing is sent without TLS and a verified \
             certificate. \"opportunistic\" takes what the server offers and verifies by DANE alone; \
             \"never\" is for a relay on this very host. Neither of these can be had together with AUTH.",
        ),
        option(
            "relay.user",
            "\"\"",
            "\"alice@example.net\"",
            |c, _| &mut c.relay.user,
            "The user name for AUTH. Unset, no AUTH is done.",
        ),
        option(
            "relay.secret_file",
            "\"\"",
            "\"/etc/mta/relay.secret\"",
            |c, _| &mut c.relay.secret_file,
            "A file whose first line is the secret; readable by root or the service user only.",
        ),
        option(
            "relay.secret_credential",
            "\"\"",
            "\"relay\"",
            |c, _| &mut c.relay.secret_credential,
            "In place of secret_file: the name of a systemd credential (LoadCredential=) that holds the \
             secret.",
        ),
    ]
}

fn rules() -> Vec<OptionSpec> {
    vec![
        option(
            "destination.*.next_hop",
            "\"\"",
            "\"mx.example.net:2525\"",
            |c, n| &mut destination(c, n).next_hop,
            "A host, with a port if not the usual one, that is asked instead of the domain's MX. DANE \
             applies to that host's name. In brackets or not, no MX is looked up for it.",
        ),
        option(
            "destination.*.dane",
            "\"opportunistic\"",
            "\"mandatory\"",
            |c, n| &mut destination(c, n).dane,
            "\"opportunistic\" applies DANE wherever secure TLSA records exist (RFC 7672). \"mandatory\" \
             delivers to no host that DANE does not authenticate. \"off\" ignores TLSA records, needs until \
             and reason, and ends by itself.",
        ),
        option(
            "destination.*.sts",
            "true",
            "false",
            |c, n| &mut destination(c, n).sts,
            "Whether an MTA-STS policy of the domain is applied. False needs until and reason, and ends by itself.",
        ),
        option(
            "destination.*.until",
            "\"\"",
            "\"2027-01-31\"",
            |c, n| &mut destination(c, n).until,
            "The last day on which dane = \"off\" or sts = false holds.",
        ),
        option(
            "destination.*.reason",
            "\"\"",
            "\"their TLSA is stale, ticket 4711\"",
            |c, n| &mut destination(c, n).reason,
            "Why DANE or MTA-STS is off. It is logged with each delivery that it concerns.",
        ),
    ]
}

fn rule_relay() -> Vec<OptionSpec> {
    vec![
        option(
            "destination.*.relay.host",
            "\"\"",
            "\"smtp.example.net\"",
            |c, n| &mut destination(c, n).relay.host,
            "The relay host for this destination.",
        ),
        option(
            "destination.*.relay.port",
            "\"\"",
            "587",
            |c, n| &mut destination(c, n).relay.port,
            "Its port. Unset, 587 with STARTTLS, 465 with implicit TLS, else 25.",
        ),
        option(
            "destination.*.relay.tls",
            "\"starttls\"",
            "\"implicit\"",
            |c, n| &mut destination(c, n).relay.tls,
            "How TLS begins.",
        ),
        option(
            "destination.*.relay.user",
            "\"\"",
            "\"alice@example.net\"",
            |c, n| &mut destination(c, n).relay.user,
            "The user name for AUTH.",
        ),
        option(
            "destination.*.relay.secret_file",
            "\"\"",
            "\"/etc/mta/relay2.secret\"",
            |c, n| &mut destination(c, n).relay.secret_file,
            "A file whose first line is the secret.",
        ),
        option(
            "destination.*.relay.secret_credential",
            "\"\"",
            "\"relay2\"",
            |c, n| &mut destination(c, n).relay.secret_credential,
            "In place of secret_file: the name of a systemd credential.",
        ),
    ]
}

fn queue() -> Vec<OptionSpec> {
    vec![
        option(
            "queue.retry",
            "[\"5m\", \"10m\", \"20m\", \"40m\", \"1h20m\", \"2h40m\", \"4h\"]",
            "[\"1m\", \"5m\", \"1h\"]",
            |c, _| &mut c.queue.retry,
            "The waits between attempts, first to last; the last one repeats until the lifetime ends. Each \
             is spread a little at random.",
        ),
        bounded(
            "queue.lifetime",
            "\"5d\"",
            (Duration::from_secs(1), YEAR),
            |c, _| &mut c.queue.lifetime,
            "How long a message may wait before it is returned to its sender (RFC 5321 4.5.4.1: 4 to 5 \
             days).",
        ),
        bounded(
            "queue.notification_lifetime",
            "\"2d\"",
            (Duration::from_secs(1), YEAR),
            |c, _| &mut c.queue.notification_lifetime,
            "How long a notification (null reverse-path) may wait before it is dropped.",
        ),
        bounded(
            "queue.delay_notice",
            "\"4h\"",
            (Duration::ZERO, YEAR),
            |c, _| &mut c.queue.delay_notice,
            "When the sender is told that a message waits. \"0s\" means never.",
        ),
        bounded(
            "queue.max_returned",
            "\"1MB\"",
            (Size(0), Size(1 << 30)),
            |c, _| &mut c.queue.max_returned,
            "The largest message that comes back whole with the notice of its failure, where its sender asked \
             for that (RET=FULL, RFC 3461 4.3). Of larger ones the header section comes back.",
        ),
        bounded(
            "queue.reports_to_strangers",
            "20",
            (0, 100_000),
            |c, _| &mut c.queue.reports_to_strangers,
            "Notifications an hour, at most, about mail that came from outside the relay networks. Such mail is \
             refused while its sender is connected; only what fails here later for a reason of our own is \
             reported, since senders from outside are easily forged. What is beyond goes to the postmaster.",
        ),
        bounded(
            "queue.digest",
            "\"1d\"",
            (Duration::ZERO, YEAR),
            |c, _| &mut c.queue.digest,
            "How long failures that no sender is told of are collected before the postmaster gets them in one \
             mail: notifications that could not be delivered, and mail from outside that failed here. \"0s\" \
             means never.",
        ),
        bounded(
            "queue.min_free_space",
            "\"100MB\"",
            (Size(0), Size(1 << 50)),
            |c, _| &mut c.queue.min_free_space,
            "Free space on the file system of the state directory below which no mail is accepted: clients \
             get 452 and keep it. The size that a client announces has to fit beside it, and a little for the \
             queue's log.",
        ),
        bounded(
            "queue.history",
            "\"30d\"",
            (Duration::ZERO, YEAR),
            |c, _| &mut c.queue.history,
            "How long a finished message and its attempts can still be looked up.",
        ),
        bounded(
            "queue.history_messages",
            "10000",
            (0, 10_000_000),
            |c, _| &mut c.queue.history_messages,
            "How many finished messages can still be looked up, at most; beyond it the oldest are forgotten. One takes \
             about 2 KB of disk, and more where it had many attempts.",
        ),
    ]
}
