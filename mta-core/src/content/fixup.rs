//! The first stage: what our own users submit is checked and completed (RFC 6409 8).
//!
//! What it does: who stands in From and Sender; a Date, a Message-ID and a From where there is none; Bcc goes. What it does
//! not: it changes nothing else, so that a signature which the user's program made goes on to hold. Bare names have got their
//! domain before (`addresses`).

use mta_queue::QueueId;
use mta_smtp::address::{Domain, Mailbox, ReversePath};
use mta_smtp::envelope::Envelope;
use mta_smtp::reply::Reply;

use crate::content::header::Header;
use crate::content::{Arrival, date};
use crate::inbound::Login;

/// Fields that other recipients must not see (RFC 5322 3.6.3).
const BLIND: [&str; 2] = ["Bcc", "Resent-Bcc"];

/// Comments within comments that are followed.
const MAX_COMMENT_DEPTH: usize = 10;

/// Addresses of one field that are looked at.
const MAX_ADDRESSES: usize = 100;

/// Checks and completes what a user submits.
///
/// # Errors
/// The refusal, where the user may not send this.
pub(super) fn submitted(
    header: &mut Header,
    envelope: &Envelope,
    arrival: &Arrival,
    login: &Login,
) -> Result<(), Reply> {
    author(header, &envelope.reverse_path, login)?;
    complete(header, arrival);
    Ok(())
}

/// What every message has: Date and Message-ID; and what none may show.
fn complete(header: &mut Header, arrival: &Arrival) {
    header.remove(|field| BLIND.iter().any(|name| field.is(name)));
    if header.first("Date").is_none() {
        header.append(&format!("Date: {}\r\n", date(arrival.received_at)));
    }
    if header.first("Message-ID").is_none() {
        header.append(&format!("Message-ID: {}\r\n", message_id(arrival.id, &arrival.hostname)));
    }
}

/// Nobody else makes this one: a queue id is used once.
fn message_id(id: QueueId, hostname: &Domain) -> String {
    format!("<{id}.{:016x}@{hostname}>", fastrand::u64(..))
}

/// Security decision: who may stand in From and Sender. Each address there must be one that the user may send as.
fn author(header: &mut Header, reverse_path: &ReversePath, login: &Login) -> Result<(), Reply> {
    let from: Vec<_> = header.all("From").map(|field| field.text()).collect();
    let from = match from.as_slice() {
        [] => return without_author(header, reverse_path, login),
        [from] => from,
        _ => return Err(Reply::with_status(550, (5, 6, 0), "more than one From field")),
    };
    let authors = addresses(from).filter(|authors| !authors.is_empty());
    let Some(authors) = authors else {
        return Err(Reply::with_status(550, (5, 6, 0), "the From field has no address that can be read"));
    };
    let strange = authors.iter().find(|author| !login.roster.may_send_as(&login.user, author));
    if let (Some(author), true) = (strange, login.check_sender) {
        let text = format!("{} may not send with From {author}", login.user);
        return Err(Reply::with_status(550, (5, 7, 1), text));
    }
    let senders: Vec<_> = header.all("Sender").map(|field| field.text()).collect();
    match senders.as_slice() {
        // RFC 5322 3.6.2: several authors need a sender; RFC 6409 8.1: so does an author who is somebody else.
        [] if authors.len() > 1 || strange.is_some() => {
            if Mailbox::parse(&login.user).is_ok() {
                header.append(&format!("Sender: <{}>\r\n", login.user));
            }
            Ok(())
        }
        [] => Ok(()),
        [sender] => {
            let sender = addresses(sender);
            let own = |sender: &Mailbox| login.roster.may_send_as(&login.user, sender);
            match sender.as_deref() {
                Some([sender]) if own(sender) || !login.check_sender => Ok(()),
                _ => {
                    let text = format!("{} may not send with that Sender", login.user);
                    Err(Reply::with_status(550, (5, 7, 1), text))
                }
            }
        }
        _ => Err(Reply::with_status(550, (5, 6, 0), "more than one Sender field")),
    }
}

/// The envelope's sender, who was checked before, is the author.
fn without_author(header: &mut Header, reverse_path: &ReversePath, login: &Login) -> Result<(), Reply> {
    let author = match reverse_path {
        ReversePath::Mailbox(mailbox) => Some(mailbox.clone()),
        ReversePath::Null => Mailbox::parse(&login.user).ok(),
    };
    let Some(author) = author else {
        return Err(Reply::with_status(550, (5, 6, 0), "no From field"));
    };
    header.append(&format!("From: <{author}>\r\n"));
    Ok(())
}

/// The addresses of a list (RFC 5322 3.4), without names and comments; the members of a group count. `None` where any part
/// of it cannot be read: who is not understood is not let through.
pub(crate) fn addresses(text: &str) -> Option<Vec<Mailbox>> {
    let mut found = Vec::new();
    for part in parts(text)? {
        if part.is_empty() {
            continue; // RFC 5322 4.4: empty elements
        }
        if found.len() == MAX_ADDRESSES {
            return None;
        }
        found.push(Mailbox::parse(&part).ok()?);
    }
    Some(found)
}

/// The address of each element.
fn parts(text: &str) -> Option<Vec<String>> {
    let (mut parts, mut part) = (Vec::new(), Element::default());
    let mut in_group = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '(' => skip_comment(&mut chars)?,
            '"' => part.quoted(&mut chars)?,
            '<' => part.open()?,
            '>' => part.close()?,
            // A literal's colons are none of a group's.
            '[' => part.literal(&mut chars)?,
            ',' => parts.push(std::mem::take(&mut part).finish()?),
            ':' if !in_group && !part.has_angle() => {
                in_group = true;
                part = Element::default();
            }
            ';' if in_group => {
                parts.push(std::mem::take(&mut part).finish()?);
                in_group = false;
            }
            c => part.push(c)?,
        }
    }
    if in_group {
        return None;
    }
    parts.push(part.finish()?);
    Some(parts)
}

/// One element of a list.
#[derive(Default)]
struct Element {
    /// What stands outside angle brackets.
    outside: String,
    /// What stands within them.
    inside: Option<String>,
    closed: bool,
}

impl Element {
    fn open(&mut self) -> Option<()> {
        if self.inside.is_some() {
            return None;
        }
        self.inside = Some(String::new());
        Some(())
    }

    fn close(&mut self) -> Option<()> {
        if self.inside.is_none() || self.closed {
            return None;
        }
        self.closed = true;
        Some(())
    }

    fn has_angle(&self) -> bool {
        self.inside.is_some()
    }

    fn push(&mut self, c: char) -> Option<()> {
        let blank = c == ' ' || c == '\t';
        match &mut self.inside {
            Some(inside) if !self.closed => {
                if !blank {
                    inside.push(c);
                }
            }
            // Nothing but blanks behind the brackets.
            Some(_) => return blank.then_some(()),
            None => self.outside.push(c),
        }
        Some(())
    }

    fn quoted(&mut self, chars: &mut std::str::Chars<'_>) -> Option<()> {
        self.verbatim('"')?;
        loop {
            let c = chars.next()?;
            self.verbatim(c)?;
            match c {
                '\\' => self.verbatim(chars.next()?)?,
                '"' => return Some(()),
                _ => {}
            }
        }
    }

    fn literal(&mut self, chars: &mut std::str::Chars<'_>) -> Option<()> {
        self.verbatim('[')?;
        loop {
            let c = chars.next()?;
            self.verbatim(c)?;
            if c == ']' {
                return Some(());
            }
        }
    }

    fn verbatim(&mut self, c: char) -> Option<()> {
        match &mut self.inside {
            Some(inside) if !self.closed => inside.push(c),
            Some(_) => return None,
            None => self.outside.push(c),
        }
        Some(())
    }

    fn finish(self) -> Option<String> {
        match self.inside {
            Some(inside) if self.closed => Some(inside),
            Some(_) => None,
            None => Some(self.outside.trim().to_owned()),
        }
    }
}

/// Up to the end of a comment, whose beginning was read.
fn skip_comment(chars: &mut std::str::Chars<'_>) -> Option<()> {
    let mut depth = 1;
    loop {
        match chars.next()? {
            '\\' => drop(chars.next()?),
            '(' if depth == MAX_COMMENT_DEPTH => return None,
            '(' => depth += 1,
            ')' if depth == 1 => return Some(()),
            ')' => depth -= 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::inbound::Source;
    use crate::user::Roster;

    fn login(check_sender: bool) -> Login {
        Login {
            user: "anna@one.example".to_owned(),
            roster: Arc::new(Roster::with("anna@one.example", &["info@one.example"])),
            check_sender,
            hide_client: true,
            hold: None,
        }
    }

    fn arrival() -> Arrival {
        Arrival {
            id: "0abcdefghjk".parse().expect("a queue id"),
            received_at: UNIX_EPOCH + Duration::from_secs(1_795_471_428),
            source: Source {
                client: "192.0.2.1".parse().expect("an address"),
                trusted: false,
                local: None,
                login: Some(Arc::new(login(true))),
            },
            client_name: "client.example".to_owned(),
            protocol: "ESMTPSA",
            tls: None,
            hostname: Domain::parse("mx.example").expect("a domain"),
            verifier: None,
            addresses: Default::default(),
            keys: None,
        }
    }

    /// What a section becomes, or how it is refused.
    fn fixed(section: &str, path: &str, check_sender: bool) -> Result<String, String> {
        let (mut header, _) = Header::split(format!("{section}\r\n").as_bytes());
        let envelope = Envelope {
            reverse_path: ReversePath::parse(path).expect("a path"),
            parameters: Default::default(),
            recipients: Vec::new(),
        };
        submitted(&mut header, &envelope, &arrival(), &login(check_sender))
            .map(|()| String::from_utf8_lossy(header.octets()).into_owned())
            .map_err(|reply| reply.to_string())
    }

    const REST: &str = "Date: Mon, 23 Nov 2026 22:03:48 +0000\r\nMessage-ID: <1@one.example>\r\n";

    #[test]
    fn a_whole_message_stays_as_it_is() {
        let section = format!("From: Anna <anna@one.example>\r\n{REST}Subject: x\r\n y\r\n");
        assert_eq!(fixed(&section, "<anna@one.example>", true), Ok(section));
    }

    #[test]
    fn what_is_missing_is_added_and_bcc_goes() {
        let section = "Subject: x\r\nBcc: secret@two.example,\r\n other@two.example\r\nTo: a@b.example\r\nbcc: z@z.example\r\n";
        let made = fixed(section, "<anna@one.example>", true).expect("allowed");
        assert!(made.starts_with("Subject: x\r\nTo: a@b.example\r\nFrom: <anna@one.example>\r\nDate: Mon, 23 Nov 2026 22:03:48 +0000\r\nMessage-ID: <"), "{made}");
        assert!(made.ends_with("@mx.example>\r\n") && !made.contains("secret"), "{made}");
        let of_null = fixed(REST, "<>", true).expect("allowed");
        assert!(of_null.contains("From: <anna@one.example>\r\n"), "{of_null}");
    }

    /// Security decision: who may stand in From.
    #[test]
    fn nobody_writes_as_somebody_else() {
        for (from, good) in [
            ("From: anna@one.example", true),
            ("From: ANNA@one.example", true),
            ("From: \"Anna, the first\" <anna@one.example>", true),
            ("From: Info <info@one.example>", true),
            ("From: anna+shop@one.example (Anna)", true),
            ("From: (x(y)) Anna (z) <anna@one.example> (w)", true),
            ("from : anna@one.example", true),
            ("From: =?utf-8?q?ben=40one.example?= <anna@one.example>", true),
            ("From: us: anna@one.example, info@one.example;", true),
            ("From: ben@one.example", false),
            ("From: Anna <ben@one.example>", false),
            ("From: anna@one.example <ben@one.example>", false),
            ("From: \"anna@one.example\" <ben@one.example>", false),
            ("From: (anna@one.example) ben@one.example", false),
            ("From: anna@one.example, ben@one.example", false),
            ("From: <ben@one.example>, <anna@one.example>", false),
            ("From: us: ben@one.example;", false),
            ("From: <anna@one.example> <ben@one.example>", false),
            ("From: <anna@one.example> ben@one.example", false),
            ("From: <ben@one.example>\r\nFrom: <anna@one.example>", false),
            ("From: <anna@one.example>\r\nfrom: <ben@one.example>", false),
            ("From: ", false),
            ("From: <>", false),
            ("From: Anna", false),
            ("From: \"anna@one.example", false),
            ("From: anna@one.example (", false),
            ("From: <anna@one.example", false),
            ("From: us: anna@one.example", false),
            ("From: <@two.example:anna@one.example>", false),
            ("From: anna@one.example\r\nSender: ben@one.example", false),
            ("From: anna@one.example\r\nSender: info@one.example", true),
            ("From: anna@one.example\r\nSender: info@one.example\r\nSender: ben@one.example", false),
        ] {
            let fixed = fixed(&format!("{from}\r\n{REST}"), "<anna@one.example>", true);
            assert_eq!(fixed.is_ok(), good, "{from}: {fixed:?}");
            let told = fixed.err().unwrap_or_default();
            assert!(told.is_empty() || told.starts_with("550 5."), "{told}");
        }
    }

    /// RFC 6409 8.1.
    #[test]
    fn a_sender_is_named_where_the_author_is_another() {
        let sender = "Sender: <anna@one.example>\r\n";
        let case = |from: &str, check| {
            fixed(&format!("From: {from}\r\n{REST}"), "<anna@one.example>", check).expect("allowed")
        };
        assert!(case("ben@one.example", false).ends_with(sender));
        assert!(case("anna@one.example, info@one.example", true).ends_with(sender));
        assert!(!case("info@one.example", true).contains("Sender"));
    }

    proptest! {
        /// Whatever stands in From: what is let through names nobody else, and no field is forged by what we add.
        #[test]
        fn nothing_strange_gets_through(
            from in "[ \\t]*([a-z<>@.,:;()\"\\\\\\[\\]]|anna@one\\.example|ben@two\\.example){0,12}",
        ) {
            if let Ok(fixed) = fixed(&format!("From:{from}\r\n{REST}"), "<anna@one.example>", true) {
                let read = addresses(&from).expect("what was let through can be read");
                prop_assert!(read.iter().all(|one| one.to_string() != "ben@two.example"));
                prop_assert!(fixed.matches("\r\n").count() <= 4, "{}", fixed);
            }
        }
    }
}
