//! Mail from programs on this machine.

use crate::config::table::{OptionSpec, bounded, option};

/// The rows of this file.
pub(super) fn rows() -> Vec<OptionSpec> {
    vec![
        option(
            "sendmail.maildrop",
            "\"\"",
            "\"/var/spool/mta/maildrop\"",
            |c, _| &mut c.sendmail.maildrop,
            "The directory where sendmail(1) leaves mail while the daemon does not answer. It belongs to the service \
             user, with mode 3733, and is made like that where it is missing. Unset, it is maildrop in the state \
             directory; then only root and the service user reach it.",
        ),
        option(
            "sendmail.origin",
            "\"\"",
            "\"example.org\"",
            |c, _| &mut c.sendmail.origin,
            "The domain that sendmail(1) gives addresses without one, those of local users among them. Unset, it is \
             the first line of /etc/mailname, else the host name.",
        ),
        option(
            "sendmail.any_sender",
            "true",
            "false",
            |c, _| &mut c.sendmail.any_sender,
            "Whether every user of this machine may choose the envelope sender (sendmail -f), as web applications and \
             list managers do. If not, a user sends as his login name in an own domain or in sendmail.origin, and only \
             root, the service user and trusted_users as anybody. The null sender is free for all. What was handed in \
             by whom is in the Received line and in the log in any case.",
        ),
        option(
            "sendmail.trusted_users",
            "[]",
            "[\"www-data\"]",
            |c, _| &mut c.sendmail.trusted_users,
            "Users who may choose any envelope sender where any_sender is off.",
        ),
        bounded(
            "sendmail.max_sessions_per_user",
            "20",
            (1, 10_000),
            |c, _| &mut c.sendmail.max_sessions_per_user,
            "Sessions at a time of one user on the local socket; what comes beyond waits in the maildrop.",
        ),
        option(
            "sendmail.max_messages_per_hour",
            "1000",
            "0",
            |c, _| &mut c.sendmail.max_messages_per_hour,
            "Messages taken from one user of this machine within an hour, against a script that loops or a web \
             application that was taken over. What comes beyond is not refused: it waits in the maildrop until the hour \
             is over, and the log says so once (event=local-rate). Root is not counted. 0 is no bound.",
        ),
    ]
}
