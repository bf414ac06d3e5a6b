//! `alias list|add|delete|check`: the aliases of the database, and a new look at those of files.

use std::time::SystemTime;

use mta_dane::reference::{a_labels, text};
use mta_queue::StoredAlias;
use mta_smtp::address::{Domain, Mailbox};
use serde_json::json;

use super::{QueueOperations, Rows, failed, to_value};
use crate::account::alias::{Member, parse};
use crate::control::peer::Peer;
use crate::control::protocol::{AliasArguments, Code, Done, Failure};
use crate::control::views::AliasView;
use crate::log::Line;

/// Targets of one alias, at most; a request has room for a few hundred.
const MAX_TARGETS: usize = 500;

impl QueueOperations {
    /// A row for each alias.
    pub(super) fn aliases(&self, row: Rows<'_>) -> Result<Done, Failure> {
        let mut done = Done::default();
        for alias in self.reader.aliases().map_err(failed)? {
            done.count += 1;
            if !row(to_value(&AliasView::from(alias))?) {
                break;
            }
        }
        Ok(done)
    }

    /// Reads the alias files again; the daemon alone has them in memory.
    pub(super) fn reload_aliases(&self, row: Rows<'_>) -> Result<Done, Failure> {
        let Some(daemon) = &self.daemon else {
            return Err(Failure::new(
                Code::Unreachable,
                "the daemon does not run: it reads the files when it starts",
            ));
        };
        for error in daemon.directory.reread_files() {
            row(json!({ "error": error.to_string() }));
        }
        Ok(Done { count: daemon.directory.snapshot().file.len() as u64, ..Done::default() })
    }

    /// Keeps an alias.
    pub(super) fn put_alias(&self, peer: &Peer, arguments: &AliasArguments) -> Result<Done, Failure> {
        let (queue, _) = self.writing()?;
        let address = alias_address(&arguments.address)?;
        if arguments.targets.is_empty() || arguments.targets.len() > MAX_TARGETS {
            let message = format!("an alias stands for 1 to {MAX_TARGETS} addresses");
            return Err(Failure::new(Code::BadRequest, message));
        }
        let whole_domain = address.starts_with('@');
        let targets = arguments.targets.iter().map(|target| target_of(target, whole_domain));
        let alias = StoredAlias {
            address,
            targets: targets.collect::<Result<_, _>>()?,
            changed_at: SystemTime::now(),
            who: peer.user.clone(),
        };
        queue.put_alias(&alias).map_err(failed)?;
        self.renew_aliases()?;
        let line = Line::new("alias").with("status", "kept").with("alias", &alias.address);
        ::log::info!("{}", line.with("targets", alias.targets.join(",")).with("by", &alias.who));
        Ok(Done { count: 1, ..Done::default() })
    }

    /// Deletes an alias.
    pub(super) fn delete_alias(&self, peer: &Peer, address: &str) -> Result<Done, Failure> {
        let (queue, _) = self.writing()?;
        let address = alias_address(address)?;
        let known = queue.delete_alias(&address).map_err(failed)?;
        self.renew_aliases()?;
        if known {
            let line = Line::new("alias").with("status", "deleted").with("alias", &address);
            ::log::info!("{}", line.with("by", &peer.user));
        }
        Ok(Done { count: u64::from(known), ..Done::default() })
    }

    fn renew_aliases(&self) -> Result<(), Failure> {
        match &self.daemon {
            Some(daemon) => daemon.directory.read_database(&self.reader).map_err(failed),
            None => Ok(()),
        }
    }
}

fn wrong(text: &str, why: &str) -> Failure {
    Failure::new(Code::BadRequest, format!("{:?} {why}", crate::log::visible(text)))
}

/// The one spelling of an alias's address.
fn alias_address(address: &str) -> Result<String, Failure> {
    let no_alias = || wrong(address, "is no address for an alias; give user@example.org or @example.org");
    let (local_part, domain) = match address.strip_prefix('@') {
        Some(domain) => (String::new(), Domain::parse(domain).map_err(|_| no_alias())?),
        None => {
            let mailbox = Mailbox::parse(address).map_err(|_| no_alias())?;
            let domain = mailbox.domain().ok_or_else(no_alias)?.clone();
            (mailbox.local_part().to_lowercase(), domain)
        }
    };
    let domain = match domain.is_ascii() {
        true => domain.to_string(),
        false => text(&a_labels(domain.as_str()).map_err(|_| no_alias())?),
    };
    Ok(format!("{local_part}@{domain}"))
}

/// A target as it is kept.
fn target_of(target: &str, whole_domain: bool) -> Result<String, Failure> {
    match parse::member(target) {
        Ok(member @ Member::Address(_)) => Ok(member.to_string()),
        Ok(member @ Member::Domain(_)) if whole_domain => Ok(member.to_string()),
        Ok(Member::Domain(_)) => Err(wrong(target, "is a domain: only @domain can stand for one")),
        Ok(_) => Err(wrong(target, "is no address: files, commands and names belong into alias.files")),
        Err(cause) => Err(wrong(target, &format!("is no target: {cause}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_and_nothing_but_addresses() {
        for (address, expected) in [
            ("Info@Own.Example", "info@own.example"),
            ("@Own.Example", "@own.example"),
            ("a@b\u{fc}cher.example", "a@xn--bcher-kva.example"),
        ] {
            assert_eq!(alias_address(address).unwrap(), expected);
        }
        for address in ["", "@", "info", "a@[192.0.2.1]", "|x"] {
            assert!(alias_address(address).is_err(), "{address}");
        }
        assert_eq!(target_of("a@b.example", false).unwrap(), "a@b.example");
        assert_eq!(target_of("@b.example", true).unwrap(), "@b.example");
        for target in ["@b.example", "|/bin/sh", "/etc/passwd", "root", ":include:/x", ""] {
            assert!(target_of(target, false).is_err(), "{target}");
        }
    }
}
