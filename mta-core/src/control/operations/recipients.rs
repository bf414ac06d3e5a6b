//! `dest recipients|forget`: what the next hops of relayed domains said about their recipients.

use mta_dane::reference::{a_labels, text};
use mta_smtp::address::{Domain, Mailbox};

use super::{QueueOperations, Rows, failed, to_value};
use crate::control::peer::Peer;
use crate::control::protocol::{Code, DestinationArguments, Done, Failure};
use crate::control::views::AnswerView;
use crate::log::Line;

/// Rows where no limit is asked for.
const DEFAULT_LIMIT: usize = 100;

/// Rows at most.
const MAX_LIMIT: usize = 100_000;

impl QueueOperations {
    /// A row for each answer that is kept: of all, of a domain, or of one address.
    pub(super) fn recipients(
        &self,
        arguments: &DestinationArguments,
        row: Rows<'_>,
    ) -> Result<Done, Failure> {
        let limit = if arguments.limit == 0 { DEFAULT_LIMIT } else { arguments.limit.min(MAX_LIMIT) };
        let found = match arguments.name.as_deref().map(name_of).transpose()? {
            Some(Name::Address(address)) => {
                self.reader.recipient_answer(&address).map_err(failed)?.into_iter().collect()
            }
            Some(Name::Domain(domain)) => {
                self.reader.recipient_answers(Some(&domain), limit + 1).map_err(failed)?
            }
            None => self.reader.recipient_answers(None, limit + 1).map_err(failed)?,
        };
        let mut done = Done { more: found.len() > limit, ..Done::default() };
        for answer in found.into_iter().take(limit) {
            done.count += 1;
            if !row(to_value(&AnswerView::from(answer))?) {
                break;
            }
        }
        Ok(done)
    }

    /// Forgets the answer for an address, or those for a domain.
    pub(super) fn forget_recipients(&self, peer: &Peer, name: &str) -> Result<Done, Failure> {
        let (queue, _) = self.writing()?;
        let name = match name_of(name)? {
            Name::Address(address) => address,
            Name::Domain(domain) => format!("@{domain}"),
        };
        let count = queue.forget_recipient_answers(&name).map_err(failed)?;
        if count > 0 {
            let line = Line::new("recipient-answers").with("status", "forgotten").with("name", &name);
            ::log::info!("{}", line.with("answers", count).with("by", &peer.user));
        }
        Ok(Done { count, ..Done::default() })
    }
}

/// What answers are looked for by.
enum Name {
    Address(String),
    Domain(String),
}

/// An address, a domain, or `@domain`, in the spelling in which answers are kept.
fn name_of(text: &str) -> Result<Name, Failure> {
    let wrong = || {
        let shown = crate::log::visible(text);
        Failure::new(Code::BadRequest, format!("{shown:?} is neither an address nor a domain"))
    };
    let spelt =
        |domain: &Domain| a_labels(domain.as_str()).map(|name| self::text(&name)).map_err(|_| wrong());
    match text.rsplit_once('@') {
        Some((local_part, _)) if !local_part.is_empty() => {
            let mailbox = Mailbox::parse(text).map_err(|_| wrong())?;
            let domain = spelt(mailbox.domain().ok_or_else(wrong)?)?;
            Ok(Name::Address(format!("{}@{domain}", mailbox.local_part())))
        }
        _ => {
            let domain = Domain::parse(text.trim_start_matches('@')).map_err(|_| wrong())?;
            Ok(Name::Domain(spelt(&domain)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelt_as_they_are_kept() {
        for (text, expected) in [
            ("x.example", Some("@x.example")),
            ("@X.Example", Some("@x.example")),
            ("B\u{fc}cher.example", Some("@xn--bcher-kva.example")),
            ("Anna@X.example", Some("Anna@x.example")),
            ("a@b\u{fc}cher.example", Some("a@xn--bcher-kva.example")),
            ("", None),
            ("@", None),
            ("a@", None),
            ("a b@x.example", None),
            ("a@[192.0.2.1]", None),
        ] {
            let found = name_of(text).ok().map(|name| match name {
                Name::Address(address) => address,
                Name::Domain(domain) => format!("@{domain}"),
            });
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
