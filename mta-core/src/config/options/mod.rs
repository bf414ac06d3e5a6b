//! The rows of the table of options, by section. See `super::table` for what a row is.

mod auth;
mod destination;
mod local;
mod outbound;
mod recipients;
mod report;
mod sendmail;
mod site;
mod smtp;
mod sts;
mod submission;

use super::table::OptionSpec;

/// The sections in the order of the manual, with what each is about.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("", "The host itself."),
    ("log", "Log output: one line per event, key=value, queue id first."),
    ("smtp", "Mail coming in by SMTP on the relay service."),
    (
        "submission",
        "Mail coming in from own users, who log in (RFC 6409): mta-cli user add makes them. Nothing listens unless an \
         address is given. A message is completed where it has no Date, Message-ID or From, and Bcc is taken out.",
    ),
    (
        "auth",
        "Who sent this: verification of mail that comes from outside. Each result stands in \
         Authentication-Results, in the log (auth=) and in `mta-cli queue show`; the options below say what else \
         follows from a failure: \"accept\" nothing, \"mark\" a field X-Spam-Flag: YES that filters and mail readers go \
         by, \"reject\" a refusal in the session. Mail of smtp.relay_networks and of users is not verified. A failure of \
         DNS never refuses anything, and the null sender is never refused but marked.",
    ),
    (
        "dkim",
        "Signing of outgoing mail (RFC 6376, RFC 8463). Keys are made by `mta-cli dkim make DOMAIN`, lie in dkim/ of \
         state_dir, and sign once their records are seen in DNS.",
    ),
    ("srs", "The sender of mail that is forwarded to somebody elsewhere."),
    (
        "tls",
        "The certificate shown to clients. With neither file set the server makes its own key and a \
         self-signed certificate at first start and keeps both in the state directory; senders then verify \
         it by DANE.",
    ),
    (
        "sendmail",
        "Mail from programs on this machine, by the command sendmail: cron, at, mail(1), web applications. They hand it in \
         over submit.sock in the runtime directory.",
    ),
    (
        "domain.*",
        "A domain whose mail is taken here, by name: [domain.\"example.org\"]. \
                  A recipient that is neither listed nor an alias is refused in the session.",
    ),
    (
        "recipients",
        "Asking the next hop of a relayed domain whether an address exists, where domain.*.recipients is \"verified\": with the \
         null sender and RCPT, over the same connections and under the same rules for TLS as its mail. Its answers are kept in the queue's \
         database; `mta-cli dest recipients` shows them. Only a permanent refusal of RCPT that is not about policy (5.7.z) says that \
         an address does not exist.",
    ),
    (
        "local",
        "Mail for the users of this system: /var/mail, ~/.forward, cron. It is delivered by a process of its own, mta-cli \
         deliver, which root starts and which becomes the user before it opens a file.",
    ),
    ("alias", "Alias files, of which /etc/aliases is the usual one."),
    ("rewrite", "Rewriting of senders, for a host that only sends."),
    ("dns", "How names are looked up and validated. DANE stands and falls with it."),
    ("outbound", "Mail going out to the MX hosts of other domains."),
    (
        "sts",
        "MTA-STS (RFC 8461): domains without DANE can say by HTTPS which hosts their mail goes to, and that these \
         have verified TLS.",
    ),
    ("alerts", "How the administrator hears of what needs him, besides the log and mta-cli status."),
    (
        "report",
        "What is counted for the operators of other domains, and reported to those who ask for it. What was sent: `mta-cli \
         report list`.",
    ),
    (
        "relay",
        "A relay host for everything that no destination rule routes elsewhere. Its certificate is always \
         verified: by DANE where secure TLSA records exist, else by the system's certificate authorities.",
    ),
    (
        "destination.*",
        "Rules for one recipient domain, by name: [destination.\"example.net\"], or \
                       [destination.\".example.net\"] for all its subdomains.",
    ),
    ("destination.*.relay", "A relay host for this destination alone; the keys are those of [relay]."),
    ("queue", "Retries, lifetime, notices."),
];

/// Every row, in the order of the manual.
pub(super) fn all() -> Vec<OptionSpec> {
    let mut rows = site::rows();
    rows.extend(recipients::rows());
    rows.extend(local::rows());
    rows.extend(smtp::rows());
    rows.extend(submission::rows());
    rows.extend(sendmail::rows());
    rows.extend(auth::rows());
    rows.extend(outbound::rows());
    rows.extend(sts::rows());
    rows.extend(report::rows());
    rows.extend(destination::rows());
    rows
}
