//! Mail that tells the postmaster of an alert: what, since when, what to do, where more is to be seen; or that it is over.
//!
//! What it does not: it decides neither whether nor when an alert is mailed (`outbound::scheduler`).

use std::io::{self, Write};
use std::time::SystemTime;

use mta_smtp::address::Mailbox;

use super::text::{line, paragraph, postmaster_header, rfc2822};
use crate::alert::Alert;

/// Characters of an alert's subject that go into the Subject field.
const MAX_SUBJECT_CHARS: usize = 60;

/// Everything such a mail is made of.
#[derive(Debug, Clone, Copy)]
pub struct AlertMail<'a> {
    /// Our host name.
    pub hostname: &'a str,
    /// The queue id of the mail; makes its Message-ID.
    pub id: &'a str,
    /// The postmaster.
    pub to: &'a Mailbox,
    /// What it tells.
    pub alert: &'a Alert,
    /// When it was over; nothing where it is not.
    pub cleared_at: Option<SystemTime>,
    /// When the mail is written.
    pub now: SystemTime,
}

impl AlertMail<'_> {
    /// Writes the whole content, CR LF lines.
    ///
    /// # Errors
    /// Whatever writing gives.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { hostname, alert, .. } = self;
        // A field is ASCII; what strangers named may be longer and stranger than a subject should be.
        let about: String =
            line(&alert.subject).chars().filter(|c| matches!(c, ' '..='~')).take(MAX_SUBJECT_CHARS).collect();
        let about = if about.is_empty() { about } else { format!(" {about}") };
        let over = if self.cleared_at.is_some() { "Over: " } else { "" };
        let subject = format!("{over}alert {}{about} on {hostname}", alert.kind);
        postmaster_header(out, hostname, self.to, &subject, self.id, self.now)?;
        if let Some(at) = self.cleared_at {
            let (first, at) = (rfc2822(alert.first_at), rfc2822(at));
            return paragraph(out, "", &format!("Over since {at}; it began {first}: {}", line(&alert.text)));
        }
        paragraph(out, "", &format!("What is wrong: {}", line(&alert.text)))?;
        out.write_all(b"\r\n")?;
        paragraph(out, "", &format!("What to do: {}", line(&alert.remedy)))?;
        write!(out, "\r\nSince: {}\r\n\r\n", rfc2822(alert.first_at))?;
        paragraph(out, "", alert.kind.meaning())?;
        out.write_all(b"\r\n")?;
        let more = "It stays open until its cause has ended; no other mail comes of it meanwhile. Whether it still is: \
                    mta-cli status. What happened: the log, event=alert and what is around it. No such mails: \
                    alerts.mail = false.";
        paragraph(out, "", more)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::alert::Kind;

    #[test]
    fn what_why_and_what_to_do_and_no_line_of_a_stranger() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let alert = Alert {
            kind: Kind::Provider,
            subject: "mx.b\u{fc}ro.example\r\nBcc: x@y.example".into(),
            text: "blocked\r\n.\r\nQUIT".into(),
            remedy: "ask them".into(),
            first_at: at,
            last_at: at,
            count: 1,
            until: None,
            mailed_at: None,
        };
        let to = &Mailbox::parse("postmaster@example.org").unwrap();
        for (cleared_at, parts) in [
            (None, ["What is wrong: blocked . QUIT\r\n", "What to do: ask them\r\n", "mta-cli status"]),
            (
                Some(at),
                ["Subject: Over: alert provider ", "Over since Tue, 14 Nov 2023", "Auto-Submitted: auto-"],
            ),
        ] {
            let mut out = Vec::new();
            let mail = AlertMail { hostname: "mx.example", id: "a1", to, alert: &alert, cleared_at, now: at };
            mail.write(&mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            for part in parts {
                assert!(text.contains(part), "{part:?} is missing in\n{text}");
            }
            assert!(!text.contains("\r\nBcc:") && !text.contains("\r\n.\r\n"), "{text}");
            assert!(text.is_ascii() && !text.replace("\r\n", "").contains(['\r', '\n']), "only CR LF");
        }
    }
}
