//! Mail coming in from own users, who log in; and how their passwords are kept.

use std::time::Duration;

use crate::config::Size;
use crate::config::table::{OptionSpec, bounded, option};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// The rows of this file.
pub(super) fn rows() -> Vec<OptionSpec> {
    let mut rows = service();
    rows.extend(logins());
    rows.extend(passwords());
    rows.extend(rates());
    rows
}

fn service() -> Vec<OptionSpec> {
    vec![
        option(
            "submission.listen",
            "[]",
            "[\"0.0.0.0:587\", \"[::]:587\"]",
            |c, _| &mut c.submission.listen,
            "Addresses and ports on which users send mail, with STARTTLS (RFC 6409). A socket of the service manager \
             is taken for this service by its name, submission, or by port 587.",
        ),
        option(
            "submission.listen_tls",
            "[]",
            "[\"0.0.0.0:465\", \"[::]:465\"]",
            |c, _| &mut c.submission.listen_tls,
            "The same with TLS from the first octet (RFC 8314), which is to be preferred. The name of such a socket \
             is submissions, its port 465.",
        ),
        option(
            "submission.auth_in_clear",
            "false",
            "true",
            |c, _| &mut c.submission.auth_in_clear,
            "Whether clients on loopback may log in without TLS, for a webmail on this host. Nobody else ever may.",
        ),
        option(
            "submission.client_certificates",
            "false",
            "true",
            |c, _| &mut c.submission.client_certificates,
            "Whether clients are asked for a certificate in the TLS handshake, so that they can log in with it (SASL \
             EXTERNAL). Whose it is, is told by mta-cli user allow NAME --certificate FINGERPRINT; no authority is \
             involved, unless client_ca_file names some.",
        ),
        option(
            "submission.client_ca_file",
            "\"\"",
            "\"/etc/mta/users-ca.pem\"",
            |c, _| &mut c.submission.client_ca_file,
            "Certificate authorities (PEM) of your own: a certificate that one of them issued for clients lets in the \
             user whose address it names (rfc822Name in its subjectAltName), if there is such a user and he is not \
             disabled. Clients are then asked for certificates. The file is read at each such login, so a new one needs \
             no reload. Revocation is not looked up: disable the user. Never name a public authority here.",
        ),
        option(
            "submission.check_sender",
            "true",
            "false",
            |c, _| &mut c.submission.check_sender,
            "Whether a user may send only as his own address and what he was granted (mta-cli user allow). It \
             concerns the envelope's sender and the From field of the header.",
        ),
        option(
            "submission.received_client",
            "false",
            "true",
            |c, _| &mut c.submission.received_client,
            "Whether the trace line of mail from users names the address and name of their machine. It tells where \
             they are to everybody they write to.",
        ),
    ]
}

fn logins() -> Vec<OptionSpec> {
    vec![
        bounded(
            "submission.max_failures_per_client",
            "10",
            (1, 10_000),
            |c, _| &mut c.submission.max_failures_per_client,
            "Failed logins of one client (an IPv6 client counts by its /64) after which it is refused for block_time. \
             Each failure before makes the next attempt wait longer.",
        ),
        bounded(
            "submission.max_failures_per_user",
            "50",
            (1, 100_000),
            |c, _| &mut c.submission.max_failures_per_user,
            "Failed logins as one user after which he is let in only from where he logged in before, for block_time.",
        ),
        bounded(
            "submission.block_time",
            "\"15m\"",
            (SECOND, DAY),
            |c, _| &mut c.submission.block_time,
            "How long both last, and how long a failure is remembered.",
        ),
        option(
            "submission.external_auth",
            "\"\"",
            "\"/run/mta-auth/check.sock\"",
            |c, _| &mut c.submission.external_auth,
            "A Unix socket that is asked about users who are not in the database, for LDAP or PAM. One connection for \
             each login: a line of JSON with v (1), user, password, client and service goes there, a line with ok \
             (true or false) comes back, perhaps with user, the name under which he is known here. An answer with \
             error, or none, is a temporary failure. PLAIN and LOGIN only.",
        ),
        bounded(
            "submission.external_timeout",
            "\"10s\"",
            (SECOND, Duration::from_secs(120)),
            |c, _| &mut c.submission.external_timeout,
            "How long its answer may take.",
        ),
    ]
}

fn passwords() -> Vec<OptionSpec> {
    vec![
        bounded(
            "submission.hash_memory",
            "\"19MB\"",
            (Size(64 << 10), Size(1 << 30)),
            |c, _| &mut c.submission.hash_memory,
            "The memory that one password hash (argon2id) takes, when a password is set and at each login with PLAIN \
             or LOGIN. On a router 4MB, with more passes.",
        ),
        bounded(
            "submission.hash_passes",
            "2",
            (1, 100),
            |c, _| &mut c.submission.hash_passes,
            "Its passes over that memory.",
        ),
        bounded(
            "submission.hash_parallel",
            "2",
            (1, 64),
            |c, _| &mut c.submission.hash_parallel,
            "How many passwords are checked at a time; each takes hash_memory. Needs a restart.",
        ),
        bounded(
            "submission.scram_iterations",
            "65536",
            (4096, 600_000),
            |c, _| &mut c.submission.scram_iterations,
            "The iterations of SCRAM-SHA-256 for passwords set from now on. The client computes them, not the server.",
        ),
    ]
}

fn rates() -> Vec<OptionSpec> {
    vec![
        bounded(
            "submission.max_messages_per_hour",
            "200",
            (0, 1_000_000),
            |c, _| &mut c.submission.max_messages_per_hour,
            "Messages taken from one user within an hour; beyond it he hears to try again later. 0 is no limit.",
        ),
        bounded(
            "submission.max_recipients_per_hour",
            "500",
            (0, 10_000_000),
            |c, _| &mut c.submission.max_recipients_per_hour,
            "Recipients of them. 0 is no limit.",
        ),
        bounded(
            "submission.max_recipients_per_day",
            "2000",
            (0, 10_000_000),
            |c, _| &mut c.submission.max_recipients_per_day,
            "Recipients within 24 hours. 0 is no limit.",
        ),
        bounded(
            "submission.brake_recipients",
            "100",
            (0, 10_000_000),
            |c, _| &mut c.submission.brake_recipients,
            "The brake for a password that was guessed: mail of a user is held, and the administrator is told, when \
             its recipients within an hour are more than this and more than brake_factor times those of his busiest \
             hour in the week before, or when most of them do not exist. mta-cli user release lets it go. 0 is no brake.",
        ),
        bounded(
            "submission.brake_factor",
            "10",
            (1, 10_000),
            |c, _| &mut c.submission.brake_factor,
            "How many times the busiest hour is too many.",
        ),
    ]
}
