//! Who may do what: the one place that decides which recipients are taken from whom.
//!
//! What it does: answers MAIL and RCPT from the client's address, our domains and the relay networks. What it does
//! not: it reads no local-part. `user%other@ours`, `other!user@ours`, `"user@other"@ours` are mailboxes of ours like
//! any other and exist only if they are listed; source routes never come here (the grammar refuses them). So nothing
//! but the domain behind the last `@` decides where a message goes, and only a relay network reaches foreign ones.

use std::net::IpAddr;

use mta_smtp::address::{ForwardPath, Mailbox};
use mta_smtp::reply::Reply;

use crate::account::Recipient;
use crate::inbound::{Settings, postmaster};

/// What a recipient is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RcptDecision {
    /// Taken.
    Accept,
    /// Our domain, but nobody of that name.
    Unknown,
    /// Not our domain, and the client may not relay.
    RelayDenied,
}

impl RcptDecision {
    /// The refusal, unless the recipient is taken.
    pub(super) fn refusal(self) -> Option<Reply> {
        match self {
            Self::Accept => None,
            Self::Unknown => Some(Reply::with_status(550, (5, 1, 1), "no such mailbox here")),
            Self::RelayDenied => Some(Reply::with_status(550, (5, 7, 1), "relaying denied")),
        }
    }
}

impl Settings {
    /// Whether this client may send to any domain.
    pub(super) fn may_relay(&self, client: IpAddr) -> bool {
        self.options.relay_networks.iter().any(|network| network.contains(client))
    }

    /// Decides about a recipient.
    pub(super) fn recipient(&self, client: IpAddr, path: &ForwardPath) -> RcptDecision {
        match path {
            ForwardPath::Postmaster => self.postmaster(),
            ForwardPath::Mailbox(mailbox) => self.mailbox(client, mailbox),
        }
    }

    fn mailbox(&self, client: IpAddr, mailbox: &Mailbox) -> RcptDecision {
        match self.accounts.recipient(mailbox) {
            Recipient::Maildir(_) => RcptDecision::Accept,
            Recipient::Unknown => RcptDecision::Unknown,
            Recipient::Foreign if self.may_relay(client) => RcptDecision::Accept,
            Recipient::Foreign => RcptDecision::RelayDenied,
        }
    }

    /// `<Postmaster>` is always taken (RFC 5321 4.5.1) where somebody stands behind the name: a mailbox of ours, or
    /// the address the administrator gave. A host with neither has nobody to give it to.
    fn postmaster(&self) -> RcptDecision {
        match postmaster(&self.options, &self.accounts) {
            Some(_) => RcptDecision::Accept,
            None => RcptDecision::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::sync::Arc;

    use mta_smtp::address::Domain;
    use mta_smtp::command::Command;

    use super::*;
    use crate::account::{Accounts, LocalDomain};
    use crate::inbound::Options;

    const STRANGER: &str = "203.0.113.9";

    fn settings() -> Arc<Settings> {
        let domain = |text: &str| Domain::parse(text).expect("a domain");
        let local = LocalDomain {
            mailboxes: HashSet::from(["alice".to_owned(), "odd%name".to_owned()]),
            maildir: "/nowhere/{domain}/{mailbox}".to_owned(),
        };
        let accounts = Accounts::new(HashMap::from([(domain("our.example"), local)]), None);
        Settings::new(Options::new(domain("mx.our.example")), Arc::new(accounts), None)
    }

    /// What becomes of a RCPT line: `None` where the grammar already refuses it.
    fn rcpt(client: &str, argument: &str) -> Option<RcptDecision> {
        match Command::parse(format!("RCPT TO:{argument}").as_bytes()) {
            Ok(Command::Rcpt(path, _)) => {
                Some(settings().recipient(client.parse().expect("an address"), &path))
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        }
    }

    #[test]
    fn own_mailboxes_are_taken_from_anybody() {
        for good in [
            "<alice@our.example>",
            "<ALICE@OUR.example>",
            "<\"alice\"@our.example>",
            "<postmaster@our.example>",
            "<Postmaster>",
            "<odd%name@our.example>",
        ] {
            assert_eq!(rcpt(STRANGER, good), Some(RcptDecision::Accept), "{good}");
        }
        assert_eq!(rcpt(STRANGER, "<bob@our.example>"), Some(RcptDecision::Unknown));
    }

    /// The tricks of open relay testers (guarantee: relaying for configured networks only).
    #[test]
    fn no_trick_makes_us_relay_for_a_stranger() {
        let tricks = [
            "<victim@other.example>",
            "<victim%other.example@our.example>",
            "<victim%other.example@mx.our.example>",
            "<victim%other.example>",
            "<victim@other.example@our.example>",
            "<\"victim@other.example\"@our.example>",
            "<\"victim@other.example\">",
            "<\"victim%other.example\"@our.example>",
            "<other.example!victim@our.example>",
            "<other.example!victim>",
            "<@our.example:victim@other.example>",
            "<@our.example,@other.example:victim@third.example>",
            "<victim@our.example.other.example>",
            "<victim@other-our.example>",
            "<victim@ourxexample>",
            "<victim@xour.example>",
            "<alice@sub.our.example>",
            "<alice@our.example.>",
            "<alice@our.example\0.other.example>",
            "<victim@[203.0.113.7]>",
            "<victim@[127.0.0.1]>",
            "<victim@127.0.0.1>",
            "<victim@localhost>",
            "<victim@mx.our.example>",
            "<victim>",
            "victim@other.example",
            "<victim@other.example> alice@our.example",
            "<\"alice@our.example\"@other.example>",
        ];
        for trick in tricks {
            assert_ne!(rcpt(STRANGER, trick), Some(RcptDecision::Accept), "{trick:?}");
        }
    }

    #[test]
    fn relay_networks_reach_any_domain_but_no_unknown_mailbox_of_ours() {
        for client in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(rcpt(client, "<any@other.example>"), Some(RcptDecision::Accept), "{client}");
            assert_eq!(rcpt(client, "<bob@our.example>"), Some(RcptDecision::Unknown), "{client}");
        }
        for client in ["128.0.0.1", "::2", "10.0.0.1", "::127.0.0.1"] {
            assert_eq!(rcpt(client, "<any@other.example>"), Some(RcptDecision::RelayDenied), "{client}");
        }
    }

    #[test]
    fn refusals_are_permanent() {
        let status = |decision: RcptDecision| {
            decision.refusal().map(|reply| reply.to_string().chars().take(9).collect::<String>())
        };
        assert_eq!(status(RcptDecision::Unknown).as_deref(), Some("550 5.1.1"));
        assert_eq!(status(RcptDecision::RelayDenied).as_deref(), Some("550 5.7.1"));
        assert_eq!(status(RcptDecision::Accept), None);
    }
}
