//! Mail coming in by SMTP, and the certificate shown to clients.

use std::time::Duration;

use crate::config::Size;
use crate::config::table::{OptionSpec, bounded, option};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// The rows of this file.
pub(super) fn rows() -> Vec<OptionSpec> {
    let mut rows = service();
    rows.extend(limits());
    rows.extend(timeouts());
    rows.extend(tls());
    rows
}

fn service() -> Vec<OptionSpec> {
    vec![
        option(
            "smtp.listen",
            "[\"127.0.0.1:25\", \"[::1]:25\"]",
            "[\"0.0.0.0:25\", \"[::]:25\"]",
            |c, _| &mut c.smtp.listen,
            "Addresses and ports to listen on. [::] takes IPv6 only, so both families are always named. \
             Empty means that nothing listens.",
        ),
        option(
            "smtp.relay_networks",
            "[]",
            "[\"127.0.0.0/8\", \"::1/128\", \"192.168.1.0/24\"]",
            |c, _| &mut c.smtp.relay_networks,
            "Clients that may send to any domain. Everybody else reaches own domains only. No network is \
             trusted unless it is listed here, loopback neither.",
        ),
        bounded(
            "smtp.message_size_limit",
            "\"35MB\"",
            (Size(64 << 10), Size(1 << 40)),
            |c, _| &mut c.smtp.message_size_limit,
            "The largest content accepted, announced with SIZE (RFC 1870). Attachments grow by a third in \
             transport.",
        ),
        option(
            "smtp.dsn_for_strangers",
            "false",
            "true",
            |c, _| &mut c.smtp.dsn_for_strangers,
            "Whether DSN (RFC 3461) is offered to clients outside the relay networks too. They could then ask for \
             reports of success, which go to whomever they name as the sender.",
        ),
    ]
}

fn limits() -> Vec<OptionSpec> {
    vec![
        bounded(
            "smtp.max_recipients",
            "1000",
            (100, 100_000),
            |c, _| &mut c.smtp.max_recipients,
            "Recipients accepted in one transaction; further ones get 452. RFC 5321 4.5.3.1.8 asks for at \
             least 100.",
        ),
        bounded(
            "smtp.max_sessions",
            "500",
            (1, 100_000),
            |c, _| &mut c.smtp.max_sessions,
            "Sessions at a time over all clients; further ones get 421.",
        ),
        bounded(
            "smtp.max_sessions_per_client",
            "100",
            (1, 100_000),
            |c, _| &mut c.smtp.max_sessions_per_client,
            "Sessions at a time from one client address; an IPv6 client counts by its /64.",
        ),
        bounded(
            "smtp.max_transactions",
            "1000",
            (1, 1_000_000),
            |c, _| &mut c.smtp.max_transactions,
            "Transactions in one session, after which it is ended with 421.",
        ),
        bounded(
            "smtp.max_errors",
            "20",
            (1, 10_000),
            |c, _| &mut c.smtp.max_errors,
            "Commands, recipients and messages refused for good in one session, after which it is ended with \
             421.",
        ),
        bounded(
            "smtp.max_idle_commands",
            "100",
            (1, 100_000),
            |c, _| &mut c.smtp.max_idle_commands,
            "Commands that lead nowhere (NOOP, RSET, VRFY, EHLO again) between two messages, after which the \
             session is ended.",
        ),
        bounded(
            "smtp.max_received",
            "50",
            (10, 1000),
            |c, _| &mut c.smtp.max_received,
            "Received lines in a message, beyond which it is refused as looping (RFC 5321 6.3).",
        ),
        bounded(
            "smtp.max_line",
            "\"1MB\"",
            (Size(1000), Size(1 << 24)),
            |c, _| &mut c.smtp.max_line,
            "The longest line of content that is passed on unchanged; a longer one is refused.",
        ),
        bounded(
            "smtp.max_header",
            "\"256kB\"",
            (Size(16 << 10), Size(1 << 24)),
            |c, _| &mut c.smtp.max_header,
            "The longest header section accepted.",
        ),
        bounded(
            "smtp.max_header_lines",
            "10000",
            (100, 1_000_000),
            |c, _| &mut c.smtp.max_header_lines,
            "The most lines of a header section.",
        ),
    ]
}

fn timeouts() -> Vec<OptionSpec> {
    vec![
        bounded(
            "smtp.command_timeout",
            "\"5m\"",
            (SECOND, DAY),
            |c, _| &mut c.smtp.command_timeout,
            "How long a whole command may take to come. RFC 5321 4.5.3.2.7 asks for at least 5 minutes.",
        ),
        bounded(
            "smtp.block_timeout",
            "\"3m\"",
            (SECOND, DAY),
            |c, _| &mut c.smtp.block_timeout,
            "How long the next part of the content may take to come (RFC 5321 4.5.3.2.5).",
        ),
        bounded(
            "smtp.content_timeout",
            "\"1h\"",
            (SECOND, DAY),
            |c, _| &mut c.smtp.content_timeout,
            "How long the content of one message may take in all.",
        ),
        bounded(
            "smtp.write_timeout",
            "\"1m\"",
            (SECOND, DAY),
            |c, _| &mut c.smtp.write_timeout,
            "How long a client may leave a reply unread before the session is dropped.",
        ),
        bounded(
            "smtp.tls_timeout",
            "\"1m\"",
            (SECOND, DAY),
            |c, _| &mut c.smtp.tls_timeout,
            "How long a TLS handshake may take.",
        ),
        bounded(
            "smtp.session_timeout",
            "\"4h\"",
            (SECOND, DAY * 7),
            |c, _| &mut c.smtp.session_timeout,
            "How long a session may last in all; it ends between two messages.",
        ),
        bounded(
            "smtp.greeting_wait",
            "\"0s\"",
            (Duration::ZERO, SECOND * 30),
            |c, _| &mut c.smtp.greeting_wait,
            "How long the greeting waits for clients that speak before it, which are then refused: programs \
             that send spam often do. Clients in relay_networks do not wait.",
        ),
    ]
}

fn tls() -> Vec<OptionSpec> {
    vec![
        option(
            "tls.certificate_file",
            "\"\"",
            "\"/etc/mta/tls/chain.pem\"",
            |c, _| &mut c.tls.certificate_file,
            "PEM file with the certificate chain, leaf first. Needs key_file.",
        ),
        option(
            "tls.key_file",
            "\"\"",
            "\"/etc/mta/tls/key.pem\"",
            |c, _| &mut c.tls.key_file,
            "PEM file with the private key. Keep the key when the certificate is renewed, or the published \
             TLSA record no longer matches.",
        ),
        option(
            "tls.certificate_dirs",
            "[]",
            "[\"/etc/letsencrypt/live/mail.example.org\", \"/etc/letsencrypt/live/mail.example.com\"]",
            |c, _| &mut c.tls.certificate_dirs,
            "Folders with certificates, each with fullchain.pem and privkey.pem, as ACME clients keep them. Beside \
             certificate_file, which comes first. A client is shown the first chain that carries the name it asks for \
             and whose kind of key it knows, so that one with ECDSA and one with RSA can stand side by side; with \
             another name, or none, the first it can use. The service user must be able to read them for a renewal to \
             be taken up without a restart.",
        ),
        bounded(
            "tls.watch_interval",
            "\"10s\"",
            (SECOND, DAY),
            |c, _| &mut c.tls.watch_interval,
            "How often, at most, and only while handshakes come, the files are looked at for new certificates. New ones \
             that cannot be used change nothing and raise an alert.",
        ),
    ]
}
