//! Sender rewriting for a host that only sends: `root@router.lan` leaves as `root@example.org`, so that bounces find back.
//!
//! What it does: the domain of a reverse-path, for programs here and clients of the relay networks alone; and it says what
//! `content` is to change in header fields. What it does not: the null reverse-path, strangers' mail.

use mta_smtp::address::{Domain, Host, Mailbox, ReversePath};

use crate::content::addresses::AddressRules;
use crate::inbound::{Settings, Source};

impl Settings {
    /// What is changed in the addresses of a message's header. Bare names are completed for programs here and for users, who
    /// mean their own domain; of the relay networks nobody knows which one they mean.
    pub(super) fn address_rules(&self, source: &Source, login: Option<&str>) -> AddressRules {
        let local = &self.options.local.origin;
        let origin = match login {
            Some(login) => login.rsplit_once('@').and_then(|(_, domain)| Domain::parse(domain).ok()),
            None => None,
        };
        let ours = source.local.is_some() || login.is_some();
        let rewrite =
            self.options.sender_rewrite.clone().filter(|_| source.trusted && self.options.rewrite_header);
        AddressRules { origin: ours.then(|| origin.unwrap_or_else(|| local.clone())), rewrite }
    }
}

/// Which domains become which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderRewrite {
    /// The domains that are replaced.
    pub from: Vec<Domain>,
    /// The domain put in their place.
    pub to: Domain,
}

impl SenderRewrite {
    /// The reverse-path as it is accepted. Everything that is not to be rewritten stays as it is.
    #[must_use]
    pub fn apply(&self, path: ReversePath) -> ReversePath {
        let ReversePath::Mailbox(mailbox) = &path else {
            return path;
        };
        let Host::Domain(domain) = mailbox.host() else {
            return path;
        };
        if !self.from.contains(domain) {
            return path;
        }
        Mailbox::new(mailbox.local_part(), self.to.clone()).map_or(path, ReversePath::Mailbox)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_domains_are_replaced() {
        let domain = |text| Domain::parse(text).unwrap();
        let rewrite = SenderRewrite {
            from: vec![domain("router.lan"), domain("localhost")],
            to: domain("example.org"),
        };
        for (path, expected) in [
            ("<root@router.lan>", "<root@example.org>"),
            ("<root@LOCALHOST>", "<root@example.org>"),
            ("<\"a b\"@localhost>", "<\"a b\"@example.org>"),
            ("<root@other.lan>", "<root@other.lan>"),
            ("<root@x.router.lan>", "<root@x.router.lan>"),
            ("<root@[192.0.2.1]>", "<root@[192.0.2.1]>"),
            ("<>", "<>"),
        ] {
            let path = ReversePath::parse(path).unwrap();
            assert_eq!(rewrite.apply(path).to_string(), expected);
        }
    }
}
