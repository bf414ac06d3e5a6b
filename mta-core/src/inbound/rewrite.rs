//! Sender rewriting for a host that only sends: `root@router.lan` leaves as `root@example.org`, so that bounces find back.
//!
//! What it does: the domain of a reverse-path, for clients of the relay networks alone. What it does not: the null
//! reverse-path, strangers' mail, header fields.

use mta_smtp::address::{Domain, Host, Mailbox, ReversePath};

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
