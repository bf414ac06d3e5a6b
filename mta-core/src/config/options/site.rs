//! The host itself, log output, own domains, sender rewriting.

use crate::config::Size;
use crate::config::table::{OptionSpec, bounded, option, own_domain};

/// The rows of this file.
pub(super) fn rows() -> Vec<OptionSpec> {
    let mut rows = host();
    rows.extend(domains());
    rows
}

fn host() -> Vec<OptionSpec> {
    vec![
        option(
            "hostname",
            "\"\"",
            "\"mail.example.org\"",
            |c, _| &mut c.hostname,
            "The name this host gives itself in the greeting, in EHLO and in Received lines. It should \
             resolve to this host's addresses, and their reverse names to it. Unset, it is the first line of \
             /etc/mailname, else the system's host name.",
        ),
        option(
            "postmaster",
            "\"\"",
            "\"admin@example.org\"",
            |c, _| &mut c.postmaster,
            "Who gets mail for postmaster of an own domain that lists no such mailbox, and for <postmaster> \
             without a domain. Unset, it is delivered to a mailbox postmaster of the domain itself.",
        ),
        option(
            "recipient_delimiter",
            "\"+\"",
            "\"-\"",
            |c, _| &mut c.recipient_delimiter,
            "What stands between a name and a detail of the sender's choice: mail for alice+shop goes to alice, \
             unless there is a mailbox or alias alice+shop. One character; empty, no address has a detail.",
        ),
        option(
            "state_dir",
            "\"/var/lib/mta\"",
            "\"/srv/mta\"",
            |c, _| &mut c.state_dir,
            "The directory of the queue, of the server's own key and of temporary files. It must survive a \
             reboot, be writable by the service user and readable by nobody else.",
        ),
        option(
            "runtime_dir",
            "\"\"",
            "\"/run/mta\"",
            |c, _| &mut c.runtime_dir,
            "The directory of the control socket, control.sock. Unset, it is the state directory; then only \
             root and the service user reach it.",
        ),
        option(
            "user",
            "\"\"",
            "\"mta\"",
            |c, _| &mut c.user,
            "The user the daemon becomes once its ports are bound, when it was started by root. It takes \
             that user's groups. Unset, it stays who it is, as under systemd or procd.",
        ),
        option(
            "admin_group",
            "\"\"",
            "\"adm\"",
            |c, _| &mut c.admin_group,
            "Members of this group may use mta-cli against the running daemon, besides root and the service \
             user.",
        ),
        option(
            "log.target",
            "\"stderr\"",
            "\"syslog\"",
            |c, _| &mut c.log.target,
            "Where log lines go: \"stderr\" (with priorities where that is the journal), or \"syslog\", the \
             socket /dev/log with facility mail.",
        ),
        option(
            "log.level",
            "\"info\"",
            "\"debug\"",
            |c, _| &mut c.log.level,
            "The least severe level that is written.",
        ),
    ]
}

fn domains() -> Vec<OptionSpec> {
    vec![
        option(
            "domain.*.kind",
            "\"virtual\"",
            "\"relay\"",
            |c, n| &mut own_domain(c, n).kind,
            "\"virtual\": its mailboxes are those listed here and the aliases of the database, which mta-cli alias \
             keeps. \"local\": the users of this system and the aliases of alias.files; see local.enable. \"relay\": its mail is taken from anybody and handed on, as a backup MX does or for a host \
             further inside.",
        ),
        bounded(
            "domain.*.quota",
            "\"0\"",
            (Size(0), Size(1 << 50)),
            |c, n| &mut own_domain(c, n).quota,
            "How much each Maildir of the domain may hold, as counted in its maildirsize file (Maildir++). A full one, and one \
             that the size announced does not fit into, is answered 452 4.2.2, so that the sender tries again; a message that \
             can never fit is refused where its size was announced (550 5.2.3), else returned. A user's own quota goes before. \
             0 means no bound.",
        ),
        option(
            "domain.*.deliver",
            "\"\"",
            "\"lmtp:unix:/run/dovecot/lmtp\"",
            |c, n| &mut own_domain(c, n).deliver,
            "An LMTP server (RFC 2033) that the mail of this domain's mailboxes is handed to, in place of Maildirs: a mail \
             store such as Dovecot, by its Unix socket or by host and port. Its verdict on each recipient counts. Nothing is \
             encrypted on the way, so it must be this host or a network of your own.",
        ),
        option(
            "domain.*.recipients",
            "\"listed\"",
            "\"any\"",
            |c, n| &mut own_domain(c, n).recipients,
            "Of a relayed domain, which recipients are taken: those that mailboxes lists; \"verified\", those as well that \
             the next hop takes when it is asked, before the client is answered (see recipients.keep_known); or \"any\", where what the next \
             hop refuses later is told to the postmaster alone.",
        ),
        option(
            "domain.*.unasked",
            "\"accept\"",
            "\"defer\"",
            |c, n| &mut own_domain(c, n).unasked,
            "With recipients = \"verified\", what follows for an address of which nothing is known while the next hop cannot be asked. \
             \"accept\" takes the mail: that is when a backup MX is needed, and what turns out to be for nobody is told to the \
             postmaster, never to a sender who may be forged. \"defer\" answers 450.",
        ),
        option(
            "domain.*.next_hop",
            "\"\"",
            "\"mail.lan:25\"",
            |c, n| &mut own_domain(c, n).next_hop,
            "Of a relayed domain, the host that its mail is handed to, as destination.*.next_hop. Unset, its MX hosts, \
             as a backup MX does.",
        ),
        option(
            "domain.*.mailboxes",
            "[]",
            "[\"alice\", \"bob\"]",
            |c, n| &mut own_domain(c, n).mailboxes,
            "The local-parts that exist in this domain; upper and lower case are the same. postmaster always \
             exists besides.",
        ),
        option(
            "domain.*.maildir",
            "\"{state_dir}/mail/{domain}/{mailbox}\"",
            "\"/srv/mail/{domain}/{mailbox}\"",
            |c, n| &mut own_domain(c, n).maildir,
            "Where a mailbox's Maildir lies. {state_dir}, {domain} and {mailbox} are filled in; {mailbox} \
             must occur. Folders are made as needed.",
        ),
        option(
            "rewrite.sender_domain",
            "\"\"",
            "\"example.org\"",
            |c, _| &mut c.rewrite.sender_domain,
            "The domain put in place of the host's own in mail of programs on this host and of \
             relay_networks: in the reverse-path, so that bounces find their way back to a host that receives nothing \
             itself, and in the header, so that answers do. Unset, nothing is rewritten.",
        ),
        option(
            "rewrite.from_domains",
            "[]",
            "[\"router.lan\"]",
            |c, _| &mut c.rewrite.from_domains,
            "The domains that are replaced. Empty means the host name, localhost and localhost.localdomain.",
        ),
        option(
            "rewrite.header",
            "true",
            "false",
            |c, _| &mut c.rewrite.header,
            "Whether they are replaced in the address fields of the header too (From, Sender, Reply-To, To, Cc and \
             their Resent- forms). Bare names, as programs on this host write them, get a domain in any case.",
        ),
    ]
}
