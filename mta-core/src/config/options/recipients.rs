//! Asking the next hops of relayed domains who exists.

use std::time::Duration;

use crate::config::table::{OptionSpec, bounded};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const YEAR: Duration = Duration::from_secs(31_536_000);

/// The rows of this file.
pub(super) fn rows() -> Vec<OptionSpec> {
    vec![
        bounded(
            "recipients.keep_known",
            "\"31d\"",
            (SECOND, YEAR),
            |c, _| &mut c.recipients.keep_known,
            "How long it is believed that an address exists, where it cannot be asked anew.",
        ),
        bounded(
            "recipients.refresh_known",
            "\"7d\"",
            (SECOND, YEAR),
            |c, _| &mut c.recipients.refresh_known,
            "After which time that is asked anew, when mail comes for it; nobody waits for that.",
        ),
        bounded(
            "recipients.keep_unknown",
            "\"3d\"",
            (SECOND, YEAR),
            |c, _| &mut c.recipients.keep_unknown,
            "How long it is believed that an address does not exist, where it cannot be asked anew.",
        ),
        bounded(
            "recipients.refresh_unknown",
            "\"3h\"",
            (SECOND, YEAR),
            |c, _| &mut c.recipients.refresh_unknown,
            "After which time that is asked anew. One that was made since is refused once more, and taken then; `mta-cli \
             dest forget ADDRESS` spares it that.",
        ),
        bounded(
            "recipients.max_answers",
            "20000",
            (1, 10_000_000),
            |c, _| &mut c.recipients.max_answers,
            "Answers kept. Beyond it the oldest of addresses that do not exist go first. A change needs a restart.",
        ),
        bounded(
            "recipients.max_questions",
            "5",
            (1, 1000),
            |c, _| &mut c.recipients.max_questions,
            "Questions at a time about one domain. Who comes beyond that is told to come again (450 4.1.1).",
        ),
        bounded(
            "recipients.wait",
            "\"10s\"",
            (Duration::ZERO, MINUTE * 4),
            |c, _| &mut c.recipients.wait,
            "How long a client waits for an answer before it is told to come again (450 4.1.1); the question goes on. Clients \
             give up after 5 minutes (RFC 5321 4.5.3.2.3).",
        ),
        bounded(
            "recipients.timeout",
            "\"1m\"",
            (SECOND, MINUTE * 10),
            |c, _| &mut c.recipients.timeout,
            "How long one question may take in all before the next hop counts as one that cannot be asked.",
        ),
    ]
}
