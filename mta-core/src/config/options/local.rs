//! Users of the system, and alias files.

use std::time::Duration;

use crate::config::table::{OptionSpec, bounded, option};

/// The rows of this file.
pub(super) fn rows() -> Vec<OptionSpec> {
    let mut rows = local();
    rows.extend(alias());
    rows
}

fn local() -> Vec<OptionSpec> {
    vec![
        option(
            "local.enable",
            "false",
            "true",
            |c, _| &mut c.local.enable,
            "Whether the host name and localhost are domains of kind \"local\": their mailboxes are the users of this \
             system, and the names of alias.files. Needs the delivery process, mta-cli deliver, which root starts.",
        ),
        option(
            "local.socket",
            "\"/run/mta-deliver.sock\"",
            "\"/run/mta/deliver.sock\"",
            |c, _| &mut c.local.socket,
            "The socket of the delivery process.",
        ),
        option(
            "local.mailbox",
            "\"/var/mail/{user}\"",
            "\"{home}/Maildir/\"",
            |c, _| &mut c.local.mailbox,
            "Where the mailbox of a user lies: an mbox, or a Maildir where the name ends in a slash. {user} and {home} \
             are filled in. It is opened with the user's own rights.",
        ),
        option(
            "local.mbox_format",
            "\"mboxrd\"",
            "\"mboxo\"",
            |c, _| &mut c.local.mbox_format,
            "How lines that begin with From are marked in an mbox: \"mboxrd\" so that it can be undone, \"mboxo\" as \
             older programs do.",
        ),
        option(
            "local.mbox_group",
            "\"mail\"",
            "\"\"",
            |c, _| &mut c.local.mbox_group,
            "The group that may write the folder of mailboxes outside of home directories, to make lock files there. \
             Empty, or where there is no such group: the user's own.",
        ),
        option(
            "local.forward",
            "true",
            "false",
            |c, _| &mut c.local.forward,
            "Whether a user's ~/.forward says where his mail goes. It is read with his rights, and has the syntax of the \
             right side of an alias; \\name keeps a copy in the own mailbox. :include: is not followed there: this server would read the file, and not \
             the user; mail waits where one stands there.",
        ),
        bounded(
            "local.min_uid",
            "1000",
            (1, u32::MAX),
            |c, _| &mut c.local.min_uid,
            "Users with a smaller number are of the system itself and have no mailbox: their mail goes where root's goes.",
        ),
        option(
            "local.allowed_users",
            "[]",
            "[\"www-data\"]",
            |c, _| &mut c.local.allowed_users,
            "Users with a smaller number who have a mailbox all the same.",
        ),
        option(
            "local.root_maildir",
            "\"{state_dir}/mail/root\"",
            "\"/srv/mail/root\"",
            |c, _| &mut c.local.root_maildir,
            "The Maildir of root's mail as long as no alias says who reads it. Nothing is ever delivered as root.",
        ),
        bounded(
            "local.max_processes",
            "10",
            (1, 1000),
            |c, _| &mut c.local.max_processes,
            "Deliveries to users at once; of one user, a third of them at most.",
        ),
        bounded(
            "local.timeout",
            "\"10m\"",
            (Duration::from_secs(1), Duration::from_secs(86_400)),
            |c, _| &mut c.local.timeout,
            "How long one delivery to a user may take before it is ended and the message waits for another attempt.",
        ),
    ]
}

fn alias() -> Vec<OptionSpec> {
    vec![
        option(
            "alias.files",
            "[\"/etc/aliases\"]",
            "[\"/etc/aliases\", \"/etc/mta/lists\"]",
            |c, _| &mut c.alias.files,
            "Files with the aliases of domains of kind \"local\", in the syntax of aliases(5). They are read again when \
             they have changed. Each must belong to root and be writable by nobody else; one that names no files and no \
             commands may belong to the service user. One that is missing is empty; while one cannot be read, mail for \
             names that are not known waits. mta-cli alias check says what is wrong with them.",
        ),
        option(
            "alias.user",
            "\"nobody\"",
            "\"list\"",
            |c, _| &mut c.alias.user,
            "The user as whom files that an alias names are written, and commands are run.",
        ),
        option(
            "alias.allow_pipes",
            "false",
            "true",
            |c, _| &mut c.alias.allow_pipes,
            "Whether |command in an alias file or a .forward is run. Without, mail for it waits and the log says why.",
        ),
        bounded(
            "alias.max_depth",
            "10",
            (1, 50),
            |c, _| &mut c.alias.max_depth,
            "How deep aliases lead to aliases.",
        ),
        bounded(
            "alias.max_targets",
            "1000",
            (1, 100_000),
            |c, _| &mut c.alias.max_targets,
            "Recipients that one address stands for, at most.",
        ),
    ]
}
