//! Delivery status notifications (RFC 3461, 3462, 3464; RFC 6533 for internationalized mail): what a sender is told of a
//! message that failed, waits, or was delivered as the sender wanted to know.
//!
//! What it does: writes the content of one notification. What it does not: it decides nothing. Whether a notification is
//! sent at all is `told`'s question, and the notification enters the queue in the same transaction as the outcome.

use std::io::{self, Read, Write};
use std::time::SystemTime;

use mta_smtp::address::encode_utf8_address;
use mta_smtp::reply::EnhancedStatus;

use super::text::{folded, line, paragraph, rfc2822};

/// The header section that is returned is cut here (bytes): a notification never grows with the sender's headers.
pub const MAX_RETURNED_HEADER_BYTES: usize = 32 * 1024;

/// Lines of the explanation for each recipient, at most.
const MAX_STORY_LINES: usize = 40;

/// Content is copied in parts of this size, in bytes.
const COPY_BYTES: usize = 64 * 1024;

/// What became of a recipient (RFC 3464 2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Given up.
    Failed,
    /// Still being tried.
    Delayed,
    /// Delivered here, and the sender wanted to know.
    Delivered,
    /// Handed to a host that sends no reports, and the sender wanted to know (RFC 3461 5.2.2).
    Relayed,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Failed, Self::Delayed, Self::Delivered, Self::Relayed];

    fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Self::Failed => "Undelivered mail: your message could not be delivered",
            Self::Delayed => "Delayed mail: your message is still waiting",
            Self::Delivered => "Delivery report: your message was delivered",
            Self::Relayed => "Delivery report: your message was handed on",
        }
    }

    fn opening(self) -> &'static str {
        match self {
            Self::Failed => {
                "Your message could not be delivered to the recipients below. It will not be tried again; \
                 to try once more, send it again."
            }
            Self::Delayed => {
                "Your message has not been delivered yet to the recipients below. You need not do anything: it \
                 is being tried again."
            }
            Self::Delivered => "Your message was delivered to the recipients below.",
            Self::Relayed => {
                "Your message was handed to the mail servers of the recipients below. These servers send no \
                 reports of delivery, so this is the last you hear of it unless something goes wrong there."
            }
        }
    }
}

/// One recipient of the message the notification is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientReport {
    /// The address as we had it.
    pub final_recipient: String,
    /// ORCPT as `type;address`, decoded (RFC 3461 4.2).
    pub original_recipient: Option<String>,
    /// The enhanced status code.
    pub status: EnhancedStatus,
    /// The last reply of the other side, as one line, code first.
    pub remote_reply: Option<String>,
    /// The host that gave that reply.
    pub remote_mta: Option<String>,
    /// When it was last tried; absent where it never was.
    pub last_attempt: Option<SystemTime>,
    /// Until when it will be tried, for delays.
    pub will_retry_until: Option<SystemTime>,
    /// Why, in one sentence of ours: the diagnostic where no server said anything.
    pub reason: String,
    /// The decision record told in sentences.
    pub story: Vec<String>,
}

/// What comes back of the message.
pub enum Returned<'a> {
    /// The header section, CR LF lines; cut at [`MAX_RETURNED_HEADER_BYTES`].
    Headers(&'a [u8]),
    /// The whole message, of bounded size.
    Full(&'a mut dyn Read),
}

/// Everything a notification is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification<'a> {
    /// Our host name: the reporting MTA.
    pub hostname: &'a str,
    /// The queue id of the notification itself; makes its Message-ID.
    pub own_id: &'a str,
    /// A number nobody can know before: makes the boundary, which no returned content may hold.
    pub nonce: u64,
    /// The queue id of the message it is about.
    pub queue_id: &'a str,
    /// To whom: the reverse-path of that message.
    pub to: &'a str,
    /// When that message arrived.
    pub arrival: SystemTime,
    /// When the notification is written.
    pub now: SystemTime,
    /// ENVID of that message, decoded (RFC 3461 4.4).
    pub envid: Option<&'a str>,
    /// That message came with SMTPUTF8 (RFC 6531), so its sender can read reports in that form (RFC 6533).
    pub smtputf8: bool,
    /// What the notification says of all its recipients.
    pub action: Action,
    /// The recipients, at least one.
    pub recipients: &'a [RecipientReport],
}

impl Notification<'_> {
    /// True where the notification needs SMTPUTF8 itself: its `To` field or its parts hold internationalized addresses.
    pub fn needs_smtputf8(&self) -> bool {
        !self.to.is_ascii() || self.is_global()
    }

    /// Whether the report takes the internationalized forms of RFC 6533.
    fn is_global(&self) -> bool {
        self.smtputf8
            && (!self.to.is_ascii() || self.recipients.iter().any(|r| !r.final_recipient.is_ascii()))
    }

    /// True where the content may hold 8-bit bytes, so that the envelope must say BODY=8BITMIME.
    pub fn is_eight_bit(&self, returned: &Returned<'_>) -> bool {
        let returned = match returned {
            Returned::Headers(header) => !returned_header(header).is_ascii(),
            Returned::Full(_) => true,
        };
        returned || !self.to.is_ascii() || self.has_wide_text()
    }

    fn has_wide_text(&self) -> bool {
        self.recipients.iter().any(|r| {
            let reply = r.remote_reply.as_ref().is_some_and(|reply| !reply.is_ascii());
            reply
                || !r.final_recipient.is_ascii()
                || !r.reason.is_ascii()
                || r.story.iter().any(|line| !line.is_ascii())
        })
    }

    /// Writes the whole content, CR LF lines.
    ///
    /// # Errors
    /// Whatever writing gives, or reading the message that is returned in full.
    pub fn write(&self, returned: Returned<'_>, out: &mut dyn Write) -> io::Result<()> {
        let boundary = format!("mta-report-{}-{:016x}", self.own_id, self.nonce);
        self.write_header(out, &boundary)?;
        self.write_text(out, &boundary)?;
        self.write_status(out, &boundary)?;
        match returned {
            Returned::Headers(header) => self.write_headers(header, out, &boundary)?,
            Returned::Full(message) => self.write_full(message, out, &boundary)?,
        }
        write!(out, "--{boundary}--\r\n")
    }

    fn write_header(&self, out: &mut dyn Write, boundary: &str) -> io::Result<()> {
        write!(
            out,
            "Date: {date}\r\n\
             From: Mail delivery <postmaster@{host}>\r\n\
             To: <{to}>\r\n\
             Subject: {subject}\r\n\
             Message-ID: <{id}@{host}>\r\n\
             Auto-Submitted: auto-replied\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\
             \tboundary=\"{boundary}\"\r\n\
             \r\n\
             This is a delivery status notification in MIME format (RFC 3464).\r\n\r\n",
            date = rfc2822(self.now),
            host = self.hostname,
            to = line(self.to),
            subject = self.action.subject(),
            id = self.own_id,
        )
    }

    fn write_text(&self, out: &mut dyn Write, boundary: &str) -> io::Result<()> {
        let encoding = if self.has_wide_text() { "8bit" } else { "7bit" };
        write!(
            out,
            "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n\
             This is the mail server {}.\r\n\r\n",
            self.hostname
        )?;
        paragraph(out, "", self.action.opening())?;
        for recipient in self.recipients {
            out.write_all(b"\r\n")?;
            recipient.write_text(self.action, out)?;
        }
        write!(out, "\r\nThe message was received {} as {}.\r\n\r\n", rfc2822(self.arrival), self.queue_id)
    }

    fn write_status(&self, out: &mut dyn Write, boundary: &str) -> io::Result<()> {
        let global = self.is_global();
        if global {
            write!(
                out,
                "--{boundary}\r\nContent-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            )?;
        } else {
            write!(out, "--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n")?;
        }
        if let Some(envid) = self.envid {
            write!(out, "Original-Envelope-Id: {}\r\n", line(envid))?;
        }
        write!(out, "Reporting-MTA: dns; {}\r\nX-Queue-Id: {}\r\n", self.hostname, self.queue_id)?;
        write!(out, "Arrival-Date: {}\r\n", rfc2822(self.arrival))?;
        for recipient in self.recipients {
            out.write_all(b"\r\n")?;
            recipient.write_fields(self.action, global, out)?;
        }
        out.write_all(b"\r\n")
    }

    fn write_headers(&self, header: &[u8], out: &mut dyn Write, boundary: &str) -> io::Result<()> {
        let header = returned_header(header);
        let encoding = if header.is_ascii() { "7bit" } else { "8bit" };
        let kind = if self.is_global() { "message/global-headers" } else { "text/rfc822-headers" };
        write!(out, "--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n")?;
        out.write_all(header)?;
        if !header.ends_with(b"\r\n") {
            out.write_all(b"\r\n")?;
        }
        out.write_all(b"\r\n")
    }

    fn write_full(&self, message: &mut dyn Read, out: &mut dyn Write, boundary: &str) -> io::Result<()> {
        let kind = if self.is_global() { "message/global" } else { "message/rfc822" };
        write!(out, "--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")?;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            match message.read(&mut buffer)? {
                0 => break,
                count => out.write_all(buffer.get(..count).unwrap_or_default())?,
            }
        }
        out.write_all(b"\r\n")
    }
}

impl RecipientReport {
    fn write_text(&self, action: Action, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "<{}>: {} (status {})\r\n", line(&self.final_recipient), action.word(), self.status)?;
        if let Some(reply) = &self.remote_reply {
            let host = self.remote_mta.as_deref().map_or_else(|| "the other side".into(), line);
            paragraph(out, "    ", &format!("{host} said: {}", line(reply)))?;
        }
        for told in self.story.iter().take(MAX_STORY_LINES) {
            paragraph(out, "    ", &line(told))?;
        }
        if let Some(until) = self.will_retry_until {
            paragraph(out, "    ", &format!("It will be tried until {}.", rfc2822(until)))?;
        }
        Ok(())
    }

    fn write_fields(&self, action: Action, global: bool, out: &mut dyn Write) -> io::Result<()> {
        if let Some(original) = &self.original_recipient {
            let (kind, address) = original.split_once(';').unwrap_or(("rfc822", original));
            write!(out, "Original-Recipient: {}; {}\r\n", line(kind), in_form(&line(address), global))?;
        }
        // RFC 6533 3: an address with non-ASCII characters has its own address type.
        let kind = if self.final_recipient.is_ascii() { "rfc822" } else { "utf-8" };
        write!(out, "Final-Recipient: {kind}; {}\r\n", in_form(&line(&self.final_recipient), global))?;
        write!(out, "Action: {}\r\nStatus: {}\r\n", action.word(), self.status)?;
        if let Some(remote) = &self.remote_mta {
            write!(out, "Remote-MTA: dns; {}\r\n", line(remote))?;
        }
        match &self.remote_reply {
            Some(reply) => folded(out, "Diagnostic-Code: smtp; ", &ascii(&line(reply), global))?,
            None if self.reason.is_empty() || action == Action::Delivered => {}
            // RFC 3464 2.3.6: what no server said has a type of its own.
            None => folded(out, "Diagnostic-Code: x-mta; ", &ascii(&line(&self.reason), global))?,
        }
        if let Some(last) = self.last_attempt {
            write!(out, "Last-Attempt-Date: {}\r\n", rfc2822(last))?;
        }
        if let Some(until) = self.will_retry_until {
            write!(out, "Will-Retry-Until: {}\r\n", rfc2822(until))?;
        }
        Ok(())
    }
}

/// An address in a report: as it is in the internationalized form, in ASCII else (RFC 6533 3).
fn in_form(address: &str, global: bool) -> String {
    if global || address.is_ascii() { address.to_owned() } else { encode_utf8_address(address) }
}

/// Text in a field of a report that is ASCII unless it has the internationalized form (RFC 3464 2.1, RFC 6533 3).
fn ascii(text: &str, global: bool) -> String {
    if global { text.to_owned() } else { text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect() }
}

/// The part of the header section that is returned: whole lines up to the bound or the empty line.
fn returned_header(header: &[u8]) -> &[u8] {
    let end = header.windows(4).position(|four| four == b"\r\n\r\n").map_or(header.len(), |at| at + 2);
    let header = header.get(..end).unwrap_or(header);
    if header.len() <= MAX_RETURNED_HEADER_BYTES {
        return header;
    }
    let cut = header.get(..MAX_RETURNED_HEADER_BYTES).unwrap_or(header);
    let last_line = cut.windows(2).rposition(|two| two == b"\r\n").map_or(0, |at| at + 2);
    cut.get(..last_line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BOUNDARY: &str = "mta-report-own1-0000000000000007";

    fn recipient() -> RecipientReport {
        RecipientReport {
            final_recipient: "user@dane.example".into(),
            original_recipient: None,
            status: EnhancedStatus::new(4, 7, 5),
            remote_reply: None,
            remote_mta: Some("mx1.dane.example".into()),
            last_attempt: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_100)),
            will_retry_until: None,
            reason: "no TLSA record matches".into(),
            story: vec!["TLSA 3 1 1 did not match the certificate it served: not sent".into()],
        }
    }

    fn notification(recipients: &[RecipientReport]) -> Notification<'_> {
        Notification {
            hostname: "mx.example",
            own_id: "own1",
            nonce: 7,
            queue_id: "orig1",
            to: "s@example.org",
            arrival: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_200),
            envid: None,
            smtputf8: false,
            action: Action::Failed,
            recipients,
        }
    }

    fn written(notification: &Notification<'_>, returned: Returned<'_>) -> String {
        let mut out = Vec::new();
        notification.write(returned, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn text(recipients: &[RecipientReport], header: &[u8]) -> String {
        written(&notification(recipients), Returned::Headers(header))
    }

    #[test]
    fn a_failure_is_a_report_in_three_parts() {
        let text = text(&[recipient()], b"Subject: hello\r\nFrom: s@example.org\r\n\r\nnot returned");
        for expected in [
            "Auto-Submitted: auto-replied\r\n",
            "Content-Type: multipart/report; report-type=delivery-status;\r\n",
            "Reporting-MTA: dns; mx.example\r\n",
            "Final-Recipient: rfc822; user@dane.example\r\nAction: failed\r\nStatus: 4.7.5\r\n",
            "Diagnostic-Code: x-mta; no TLSA record matches\r\n",
            "TLSA 3 1 1 did not match the certificate it served: not sent\r\n",
            "Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 7bit\r\n\r\nSubject: hello\r\n",
            "Date: Tue, 14 Nov 2023 22:16:40 +0000\r\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
        }
        assert!(!text.contains("not returned") && text.is_ascii());
        assert_eq!(text.matches(&format!("--{BOUNDARY}\r\n")).count(), 3);
        assert!(text.ends_with(&format!("--{BOUNDARY}--\r\n")));
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "only CR LF");
    }

    #[test]
    fn what_the_sender_gave_comes_back_rfc3461_6_3() {
        let mut with = recipient();
        with.original_recipient = Some("rfc822;o+x@dane.example".into());
        with.remote_reply = Some("550 5.1.1 no such user".into());
        let recipients = [with];
        let about = Notification { envid: Some("QQ 31"), ..notification(&recipients) };
        let text = written(&about, Returned::Full(&mut &b"Subject: hello\r\n\r\nthe body\r\n"[..]));
        for expected in [
            "\r\n\r\nOriginal-Envelope-Id: QQ 31\r\nReporting-MTA: dns; mx.example\r\n",
            "\r\nOriginal-Recipient: rfc822; o+x@dane.example\r\nFinal-Recipient: rfc822; user@dane.example\r\n",
            "\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
            "\r\nRemote-MTA: dns; mx1.dane.example\r\n",
            "\r\nLast-Attempt-Date: Tue, 14 Nov 2023 22:15:00 +0000\r\n",
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: hello\r\n\r\nthe body\r\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
        }
    }

    #[test]
    fn internationalized_forms_only_for_internationalized_mail_rfc6533() {
        let mut wide = recipient();
        wide.final_recipient = "用户@例え.example".into();
        wide.original_recipient = Some("utf-8;é@x.example".into());
        let recipients = [wide];
        let global = Notification { smtputf8: true, ..notification(&recipients) };
        assert!(global.needs_smtputf8() && global.is_eight_bit(&Returned::Headers(b"")));
        let told = written(&global, Returned::Headers("Subject: é\r\n".as_bytes()));
        for expected in [
            "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n",
            "Original-Recipient: utf-8; é@x.example\r\nFinal-Recipient: utf-8; 用户@例え.example\r\n",
            "Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: é\r\n",
        ] {
            assert!(told.contains(expected), "{expected:?} is missing in\n{told}");
        }
        // A sender without SMTPUTF8 named such an original recipient: it comes back in ASCII.
        let mut plain = recipient();
        plain.original_recipient = Some("utf-8;é@x.example".into());
        let told = text(&[plain], b"");
        assert!(
            told.contains("Original-Recipient: utf-8; \\x{E9}@x.example\r\n") && told.is_ascii(),
            "{told}"
        );
    }

    #[test]
    fn each_kind_says_what_it_is() {
        for (action, word, opening) in [
            (Action::Delayed, "Action: delayed\r\n", "is being tried again"),
            (Action::Delivered, "Action: delivered\r\n", "was delivered to the recipients"),
            (Action::Relayed, "Action: relayed\r\n", "the last you hear of it"),
        ] {
            let recipients = [recipient()];
            let told = written(&Notification { action, ..notification(&recipients) }, Returned::Headers(b""));
            let unfolded = told.replace("\r\n", " ");
            assert!(told.contains(word) && unfolded.contains(opening), "{told}");
        }
    }

    #[test]
    fn nothing_a_stranger_said_begins_a_line_of_ours() {
        let evil = format!("550 no\r\nAction: delivered\r\n\r\n--{BOUNDARY}--");
        let mut bad = recipient();
        bad.remote_reply = Some(evil.clone());
        bad.reason = evil;
        bad.remote_mta = Some("mx\r\nX-Evil: 1".into());
        bad.original_recipient = Some("rfc822;a\nStatus: 2.0.0".into());
        bad.story = vec!["x\r\nBcc: y".into()];
        let text = text(&[bad], b"");
        for line in text.split("\r\n") {
            assert!(
                !line.starts_with("X-Evil") && !line.starts_with("Bcc") && !line.starts_with("Status: 2")
            );
            assert!(line != "Action: delivered");
        }
        assert_eq!(text.matches(&format!("\r\n--{BOUNDARY}--")).count(), 1);
    }

    #[test]
    fn the_returned_header_is_bounded_and_ends_at_a_line() {
        let header = b"X-Long: 0123456789\r\n".repeat(10_000);
        let cut = returned_header(&header);
        assert!(cut.len() <= MAX_RETURNED_HEADER_BYTES && cut.ends_with(b"\r\n"));
    }

    #[test]
    fn long_replies_are_folded_and_bounded() {
        let mut long = recipient();
        long.remote_reply = Some("word ".repeat(100) + &"x".repeat(5_000));
        let text = text(&[long], b"");
        assert!(text.split("\r\n").all(|line| line.len() <= 998));
    }
}
