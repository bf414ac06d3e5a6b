//! Reports to other domains.

use std::time::Duration;

use crate::config::table::{OptionSpec, bounded, option};

/// The rows of this file.
pub(super) fn rows() -> Vec<OptionSpec> {
    vec![
        bounded(
            "report.tls_days",
            "30",
            (0, 400),
            |c, _| &mut c.report.tls_days,
            "Days (UTC) for which TLS sessions with other servers are counted, today included, for `mta-cli \
             report tls` (RFC 8460). 0 counts none.",
        ),
        option(
            "report.tls_send",
            "true",
            "false",
            |c, _| &mut c.report.tls_send,
            "Whether the domains that ask for it by a TXT record at _smtp._tls are sent a report of the TLS sessions with \
             their hosts, once a day, by mail or by HTTPS (RFC 8460). Nothing leaves unless a DKIM key signs for the \
             domain of report.from, since unsigned reports are ignored; `mta-cli report list` says so.",
        ),
        bounded(
            "report.dmarc_days",
            "7",
            (0, 60),
            |c, _| &mut c.report.dmarc_days,
            "Days (UTC) for which mail from outside is counted for DMARC aggregate reports, today included, where its \
             author's domain asks for them (rua). 0 counts none. See `mta-cli report dmarc`.",
        ),
        option(
            "report.dmarc_send",
            "true",
            "false",
            |c, _| &mut c.report.dmarc_send,
            "Whether these domains are sent such a report, once a day, by mail (RFC 9990): how many messages of which \
             client addresses came, what SPF and DKIM said, and what was done. An address outside the domain's own \
             organization gets none unless it agreed to in DNS. Signed like the others.",
        ),
        option(
            "report.from",
            "\"\"",
            "\"reports@example.org\"",
            |c, _| &mut c.report.from,
            "The author of reports by mail. Unset, it is the postmaster. Bounces do not come here: such mail has the null \
             sender.",
        ),
        option(
            "report.contact",
            "\"\"",
            "\"postmaster@example.org\"",
            |c, _| &mut c.report.contact,
            "Whom to ask about a report; its domain is the one that reports. Unset, it is report.from.",
        ),
        bounded(
            "report.delay",
            "\"4h\"",
            (Duration::ZERO, Duration::from_secs(12 * 3_600)),
            |c, _| &mut c.report.delay,
            "Reports of a day leave at times of their own within this time after midnight (UTC), so that not all servers \
             report at once.",
        ),
    ]
}
