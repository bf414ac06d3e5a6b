//! Who may do what: the one place that decides which recipients are taken from whom.
//!
//! What it does: answers MAIL and RCPT from the client's address, our domains and the relay networks. What it does
//! not: it reads no local-part. `user%other@ours`, `other!user@ours`, `"user@other"@ours` are mailboxes of ours like
//! any other and exist only if they are listed; source routes never come here (the grammar refuses them). So nothing
//! but the domain behind the last `@` decides where a message goes, and only a relay network reaches foreign ones.

use std::net::IpAddr;

use mta_smtp::address::{ForwardPath, Mailbox};
use mta_smtp::envelope::Envelope;
use mta_smtp::reply::Reply;

use crate::account::{Recipient, Room, Unasked};
use crate::auth::dkim::now_seconds;
use crate::auth::srs::Decoded;
use crate::inbound::recipients::Answer;
use crate::inbound::{Settings, postmaster};
use crate::log::Line;

/// What a recipient is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RcptDecision {
    /// Taken.
    Accept,
    /// Our domain, but nobody of that name.
    Unknown,
    /// A mailbox of ours that is full, or that the size announced does not fit into now.
    Full,
    /// A mailbox of ours that may never hold so much as is announced.
    TooLarge,
    /// Nobody can say now who that is: an alias is broken, or the system's users cannot be asked.
    Unclear,
    /// Not our domain, and the client may not relay.
    RelayDenied,
    /// A domain that is relayed: its next hop knows whether there is such an address. What follows where it cannot be asked.
    Ask(Unasked),
    /// It is being asked, which takes longer than a client waits.
    BeingAsked,
    /// It cannot be asked now.
    Unasked,
}

impl RcptDecision {
    /// The refusal, unless the recipient is taken.
    pub(super) fn refusal(self) -> Option<Reply> {
        match self {
            Self::Accept => None,
            Self::Unknown => Some(Reply::with_status(550, (5, 1, 1), "no such mailbox here")),
            // RFC 3463 3.3: its owner can make room, so the client keeps the message and comes again.
            Self::Full => Some(Reply::with_status(452, (4, 2, 2), "the mailbox is full, try again later")),
            // Not 552, which says "too many recipients" here (RFC 5321 4.5.3.1.10), so that clients come again.
            Self::TooLarge => {
                let text = "the message is larger than this mailbox may ever be";
                Some(Reply::with_status(550, (5, 2, 3), text))
            }
            Self::Unclear => Some(Reply::with_status(
                451,
                (4, 3, 5),
                "the mailbox cannot be looked up now, try again later",
            )),
            Self::RelayDenied => Some(Reply::with_status(550, (5, 7, 1), "relaying denied")),
            Self::BeingAsked => {
                let text = "whether this address exists is being asked, try again in some minutes";
                Some(Reply::with_status(450, (4, 1, 1), text))
            }
            // Whoever comes here without having asked is not let in.
            Self::Unasked | Self::Ask(_) => {
                let text = "whether this address exists cannot be found out now, try again later";
                Some(Reply::with_status(450, (4, 1, 1), text))
            }
        }
    }
}

impl Settings {
    /// Whether a recipient is a sender that was rewritten here when its mail was forwarded (SRS), and if so the refusal, if
    /// it is refused. Only bounces come back to such an address, and only to one that was made here and lately: so nobody
    /// can send through it.
    pub(super) fn returned(&self, path: &ForwardPath, null_sender: bool) -> Option<Option<Reply>> {
        let (Some(srs), ForwardPath::Mailbox(mailbox)) = (&self.options.srs, path) else { return None };
        let text = match srs.decode(mailbox, now_seconds()) {
            Decoded::No => return None,
            Decoded::Mailbox(_) if null_sender => return Some(None),
            Decoded::Mailbox(_) => "this address takes bounces only",
            Decoded::Forged => "this address was not made here",
            Decoded::Expired => "this address is too old",
        };
        Some(Some(Reply::with_status(550, (5, 1, 1), text)))
    }

    /// A bounce to a rewritten sender goes on to the sender.
    pub(super) fn unwrap_senders(&self, envelope: &mut Envelope) {
        let Some(srs) = self.options.srs.as_ref().filter(|_| envelope.reverse_path.is_null()) else { return };
        for recipient in &mut envelope.recipients {
            if let Decoded::Mailbox(sender) = srs.decode(&recipient.mailbox, now_seconds()) {
                recipient.mailbox = sender;
            }
        }
    }

    /// Whether this client may send to any domain.
    pub(super) fn may_relay(&self, client: IpAddr) -> bool {
        self.options.relay_networks.iter().any(|network| network.contains(client))
    }

    /// Whether the decision may take a while, so that it belongs on a thread that may block.
    pub(super) fn may_block(&self, path: &ForwardPath) -> bool {
        match path {
            ForwardPath::Postmaster => self.accounts.may_block(&self.session.postmaster),
            ForwardPath::Mailbox(mailbox) => self.accounts.may_block(mailbox),
        }
    }

    /// Decides about a recipient.
    #[cfg(test)]
    fn recipient(&self, client: IpAddr, path: &ForwardPath) -> RcptDecision {
        self.recipient_for(self.may_relay(client), path, 0)
    }

    /// Decides about a recipient of a message of so many octets, as far as the client has announced it. `may_relay`: the
    /// client is in a relay network, or has logged in.
    pub(super) fn recipient_for(
        &self,
        may_relay: bool,
        path: &ForwardPath,
        size_octets: u64,
    ) -> RcptDecision {
        match path {
            ForwardPath::Postmaster => self.postmaster(),
            ForwardPath::Mailbox(mailbox) => self.mailbox(may_relay, mailbox, size_octets),
        }
    }

    fn mailbox(&self, may_relay: bool, mailbox: &Mailbox, size_octets: u64) -> RcptDecision {
        match self.accounts.recipient(mailbox) {
            Recipient::Maildir(_) | Recipient::Alias(_) => match self.accounts.room(mailbox, size_octets) {
                Room::Enough => RcptDecision::Accept,
                Room::NotNow => RcptDecision::Full,
                Room::Never => RcptDecision::TooLarge,
            },
            Recipient::Lmtp(_) | Recipient::System(_) | Recipient::Relayed => RcptDecision::Accept,
            Recipient::Verified(unasked) => RcptDecision::Ask(unasked),
            Recipient::Unclear(reason) => {
                ::log::warn!(
                    "{}",
                    Line::new("recipient-unclear").with("rcpt", mailbox).with("reason", reason)
                );
                RcptDecision::Unclear
            }
            Recipient::Unknown => RcptDecision::Unknown,
            Recipient::Foreign if may_relay => RcptDecision::Accept,
            Recipient::Foreign => RcptDecision::RelayDenied,
        }
    }

    /// Asks the next hop of a relayed domain, where the decision is its.
    pub(super) async fn asked(&self, decision: RcptDecision, path: &ForwardPath) -> RcptDecision {
        let (RcptDecision::Ask(unasked), ForwardPath::Mailbox(mailbox)) = (decision, path) else {
            return decision;
        };
        let answer = match &self.options.relayed {
            Some(relayed) => relayed.answer(mailbox).await,
            None => Answer::Unclear,
        };
        match (answer, unasked) {
            (Answer::Known, _) | (Answer::Unclear, Unasked::Accept) => RcptDecision::Accept,
            (Answer::Unknown, _) => RcptDecision::Unknown,
            (Answer::BeingAsked, _) => RcptDecision::BeingAsked,
            (Answer::Unclear, Unasked::Defer) => RcptDecision::Unasked,
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
    use crate::account::alias::parse;
    use crate::account::{Accounts, Directory, DomainKind, LocalDomain, RelayRecipients};
    use crate::inbound::Options;

    const STRANGER: &str = "203.0.113.9";

    fn settings() -> Arc<Settings> {
        let domain = |text: &str| Domain::parse(text).expect("a domain");
        let local = LocalDomain {
            mailboxes: HashSet::from(["alice".to_owned(), "odd%name".to_owned()]),
            maildir: "/nowhere/{domain}/{mailbox}".to_owned(),
            ..LocalDomain::default()
        };
        let relayed = |kind, mailboxes: &[&str]| LocalDomain {
            kind: DomainKind::Relay(kind),
            mailboxes: mailboxes.iter().map(ToString::to_string).collect(),
            ..LocalDomain::default()
        };
        let domains = HashMap::from([
            (domain("our.example"), local),
            (domain("old.example"), LocalDomain::default()),
            (domain("moved.example"), LocalDomain::default()),
            (domain("listed.example"), relayed(RelayRecipients::Listed, &["carol"])),
            (domain("any.example"), relayed(RelayRecipients::Any, &[])),
            (domain("asked.example"), relayed(RelayRecipients::Verified(Unasked::Defer), &["carol"])),
        ]);
        let directory = Directory::default();
        let alias =
            |address: &str, members: &str| (address.to_owned(), parse::members(members).expect("members"));
        directory.set_database(HashMap::from([
            alias("info@our.example", "alice@our.example, friend@else.example"),
            alias("dead@our.example", "nobody@our.example"),
            alias("circle@our.example", "circle2@our.example"),
            alias("circle2@our.example", "circle@our.example"),
            alias("@old.example", "@our.example"),
            alias("@moved.example", "@else.example"),
        ]));
        let accounts = Accounts::new(domains, None).with_directory(directory);
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
            "<alice+shop@our.example>",
            "<info@our.example>",
            "<Info+x@our.example>",
            "<alice@old.example>",
            "<alice+x@old.example>",
            "<anyone@moved.example>",
            "<carol@listed.example>",
            "<carol+x@listed.example>",
            "<postmaster@listed.example>",
            "<anyone@any.example>",
            "<carol+x@asked.example>",
            "<postmaster@asked.example>",
        ] {
            assert_eq!(rcpt(STRANGER, good), Some(RcptDecision::Accept), "{good}");
        }
        assert_eq!(rcpt(STRANGER, "<bob@our.example>"), Some(RcptDecision::Unknown));
        assert_eq!(rcpt(STRANGER, "<bob@asked.example>"), Some(RcptDecision::Ask(Unasked::Defer)));
    }

    #[test]
    fn what_nobody_was_asked_about_is_not_taken() {
        let path = |text| ForwardPath::Mailbox(Mailbox::parse(text).expect("a mailbox"));
        for (unasked, expected) in
            [(Unasked::Defer, RcptDecision::Unasked), (Unasked::Accept, RcptDecision::Accept)]
        {
            let (settings, path) = (settings(), path("bob@asked.example"));
            assert_eq!(smol::block_on(settings.asked(RcptDecision::Ask(unasked), &path)), expected);
        }
        for decision in [RcptDecision::Ask(Unasked::Accept), RcptDecision::BeingAsked, RcptDecision::Unasked]
        {
            assert_eq!(decision.refusal().map(|reply| reply.code), Some(450), "{decision:?}");
        }
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
            // Sub-addresses, whole-domain aliases and relayed domains.
            "<victim+other.example@our.example>",
            "<+alice@our.example>",
            "<+@our.example>",
            "<victim%other.example+x@our.example>",
            "<victim@other.example+our.example>",
            "<victim%other.example@old.example>",
            "<bob@old.example>",
            "<victim%other.example@moved.example>",
            "<other.example!victim@moved.example>",
            "<\"victim@other.example\"@moved.example>",
            "<\"|/bin/sh\"@our.example>",
            "<\"/etc/passwd\"@our.example>",
            "<\":include:/etc/passwd\"@our.example>",
            "<\"\\\\alice\"@our.example>",
            "<dead@our.example>",
            "<circle@our.example>",
            "<bob@listed.example>",
            "<bob@asked.example>",
            "<friend@else.example>",
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
