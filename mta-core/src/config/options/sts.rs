//! MTA-STS, reports to other domains, and alerts.

use std::time::Duration;

use crate::config::table::{OptionSpec, bounded, option};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// The rows of this file.
pub(super) fn rows() -> Vec<OptionSpec> {
    vec![
        option(
            "sts.enabled",
            "true",
            "false",
            |c, _| &mut c.sts.enabled,
            "Whether policies of recipient domains are looked for and applied. DANE comes first for each host; \
             a policy counts where DANE leaves the host unproven, and never makes up for a failure of DANE.",
        ),
        bounded(
            "sts.fetch_timeout",
            "\"30s\"",
            (SECOND, MINUTE * 5),
            |c, _| &mut c.sts.fetch_timeout,
            "How long fetching a policy over HTTPS may take in all. The first message to a domain waits for it.",
        ),
        bounded(
            "sts.refresh",
            "\"1d\"",
            (SECOND, DAY * 31),
            |c, _| &mut c.sts.refresh,
            "How long a policy is used before it is fetched anew; at most half of its max_age. A policy that \
             cannot be fetched anew stays in force until its max_age is over.",
        ),
        bounded(
            "sts.retry",
            "\"5m\"",
            (SECOND, DAY),
            |c, _| &mut c.sts.retry,
            "How long a failure to fetch a policy is remembered before the domain is asked again.",
        ),
        bounded(
            "sts.max_policies",
            "2000",
            (1, 1_000_000),
            |c, _| &mut c.sts.max_policies,
            "Policies kept. Beyond it those that are over go first, then those that were used longest ago.",
        ),
        bounded(
            "sts.port",
            "443",
            (1, u16::MAX),
            |c, _| &mut c.sts.port,
            "The port of policy hosts; other than 443 only in laboratories.",
        ),
        option(
            "alerts.mail",
            "true",
            "false",
            |c, _| &mut c.alerts.mail,
            "Whether the postmaster gets a mail when an alert opens, and one when it is over after more than an \
             hour; at most ten a day. Where there is no postmaster mailbox, none is sent.",
        ),
    ]
}
