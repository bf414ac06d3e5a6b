//! Delivery status notifications (RFC 3464): what a sender is told of a message that failed or waits.
//!
//! What it does: writes the content of one notification. What it does not: it decides nothing. Whether a notification
//! may be sent at all (never for a null reverse-path, RFC 5321 4.5.5) is asked of [`wanted`] by whoever records the
//! outcome, and the notification enters the queue in the same transaction.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use mta_smtp::address::ReversePath;
use mta_smtp::envelope::Notify;
use mta_smtp::reply::EnhancedStatus;

/// The header section that is returned is cut here (bytes): a notification never grows with the sender's headers.
pub const MAX_RETURNED_HEADER_BYTES: usize = 32 * 1024;

/// Lines of the explanation for each recipient, at most.
const MAX_STORY_LINES: usize = 40;

/// Columns at which text for people is folded.
const TEXT_COLUMNS: usize = 76;

/// What became of a recipient (RFC 3464 2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Given up.
    Failed,
    /// Still being tried.
    Delayed,
    /// Delivered, and the sender wanted to know.
    Delivered,
    /// Handed to a host that does not report on.
    Relayed,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
        }
    }
}

/// May a notification of this kind about this recipient be sent?
///
/// Never for a null reverse-path: that is what keeps notifications from looping (RFC 5321 4.5.5, RFC 3464 2). Without
/// NOTIFY a sender hears of failures and delays (RFC 3461 4.1).
pub fn wanted(reverse_path: &ReversePath, notify: Option<Notify>, action: Action) -> bool {
    if matches!(reverse_path, ReversePath::Null) {
        return false;
    }
    let Some(notify) = notify else { return matches!(action, Action::Failed | Action::Delayed) };
    if notify.never {
        return false;
    }
    match action {
        Action::Failed => notify.failure,
        Action::Delayed => notify.delay,
        Action::Delivered | Action::Relayed => notify.success,
    }
}

/// One recipient of the message the notification is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientReport {
    /// The address as we had it.
    pub final_recipient: String,
    /// ORCPT as `type;address` (RFC 3461 4.2).
    pub original_recipient: Option<String>,
    /// What became of it.
    pub action: Action,
    /// The enhanced status code.
    pub status: EnhancedStatus,
    /// The last reply of the other side, as one line, code first.
    pub remote_reply: Option<String>,
    /// The host that gave that reply.
    pub remote_mta: Option<String>,
    /// When it was last tried.
    pub last_attempt: Option<SystemTime>,
    /// Until when it will be tried, for delays.
    pub will_retry_until: Option<SystemTime>,
    /// The decision record told in sentences.
    pub story: Vec<String>,
}

/// Everything a notification is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification<'a> {
    /// Our host name: the reporting MTA.
    pub hostname: &'a str,
    /// The queue id of the notification itself; makes its Message-ID and boundary.
    pub own_id: &'a str,
    /// The queue id of the message it is about.
    pub queue_id: &'a str,
    /// To whom: the reverse-path of that message.
    pub to: &'a str,
    /// When that message arrived.
    pub arrival: SystemTime,
    /// When the notification is written.
    pub now: SystemTime,
    /// ENVID of that message (RFC 3461 4.4).
    pub envid: Option<&'a str>,
    /// The header section of that message, CR LF lines; cut at [`MAX_RETURNED_HEADER_BYTES`].
    pub header: &'a [u8],
    /// The recipients, at least one.
    pub recipients: &'a [RecipientReport],
}

impl Notification<'_> {
    /// True where the content holds 8-bit bytes, so that the envelope must say BODY=8BITMIME.
    pub fn is_eight_bit(&self) -> bool {
        !returned_header(self.header).is_ascii()
            || self.recipients.iter().any(|r| {
                !r.final_recipient.is_ascii()
                    || r.story.iter().any(|line| !line.is_ascii())
                    || r.remote_reply.as_ref().is_some_and(|reply| !reply.is_ascii())
            })
    }

    /// Writes the whole content, CR LF lines.
    ///
    /// # Errors
    /// Whatever writing gives.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let boundary = format!("mta-report-{}", self.own_id);
        self.write_header(out, &boundary)?;
        self.write_text(out, &boundary)?;
        self.write_status(out, &boundary)?;
        self.write_returned(out, &boundary)?;
        write!(out, "--{boundary}--\r\n")
    }

    fn failed(&self) -> bool {
        self.recipients.iter().any(|r| r.action == Action::Failed)
    }

    fn subject(&self) -> &'static str {
        match self.recipients.first().map(|r| r.action) {
            _ if self.failed() => "Undelivered mail: your message could not be delivered",
            Some(Action::Delayed) => "Delayed mail: your message is still waiting",
            _ => "Delivery report: your message was delivered",
        }
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
            subject = self.subject(),
            id = self.own_id,
        )
    }

    fn write_text(&self, out: &mut dyn Write, boundary: &str) -> io::Result<()> {
        write!(
            out,
            "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
             This is the mail server {}.\r\n\r\n",
            self.hostname
        )?;
        let opening = match self.recipients.first().map(|r| r.action) {
            _ if self.failed() => {
                "Your message could not be delivered to the recipients below. It will not be tried again; \
                 to try once more, send it again."
            }
            Some(Action::Delayed) => {
                "Your message has not been delivered yet to the recipients below. You need not do anything: it \
                 is being tried again."
            }
            _ => "Your message was delivered to the recipients below.",
        };
        paragraph(out, "", opening)?;
        for recipient in self.recipients {
            out.write_all(b"\r\n")?;
            recipient.write_text(out)?;
        }
        write!(out, "\r\nThe message was received {} as {}.\r\n\r\n", rfc2822(self.arrival), self.queue_id)
    }

    fn write_status(&self, out: &mut dyn Write, boundary: &str) -> io::Result<()> {
        write!(out, "--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n")?;
        if let Some(envid) = self.envid {
            write!(out, "Original-Envelope-Id: {}\r\n", line(envid))?;
        }
        write!(out, "Reporting-MTA: dns; {}\r\nX-Queue-Id: {}\r\n", self.hostname, self.queue_id)?;
        write!(out, "Arrival-Date: {}\r\n", rfc2822(self.arrival))?;
        for recipient in self.recipients {
            out.write_all(b"\r\n")?;
            recipient.write_fields(out)?;
        }
        out.write_all(b"\r\n")
    }

    /// The header section of the message; never its body, whose size belongs to a stranger (and RET=FULL is a wish,
    /// RFC 3461 4.3).
    fn write_returned(&self, out: &mut dyn Write, boundary: &str) -> io::Result<()> {
        let header = returned_header(self.header);
        let encoding = if header.is_ascii() { "7bit" } else { "8bit" };
        write!(
            out,
            "--{boundary}\r\nContent-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        )?;
        out.write_all(header)?;
        if !header.ends_with(b"\r\n") {
            out.write_all(b"\r\n")?;
        }
        out.write_all(b"\r\n")
    }
}

impl RecipientReport {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(
            out,
            "<{}>: {} (status {})\r\n",
            line(&self.final_recipient),
            self.action.word(),
            self.status
        )?;
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

    fn write_fields(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(original) = &self.original_recipient {
            write!(out, "Original-Recipient: {}\r\n", line(original))?;
        }
        // RFC 6533 3: an address with non-ASCII characters has its own address type.
        let kind = if self.final_recipient.is_ascii() { "rfc822" } else { "utf-8" };
        write!(out, "Final-Recipient: {kind}; {}\r\n", line(&self.final_recipient))?;
        write!(out, "Action: {}\r\nStatus: {}\r\n", self.action.word(), self.status)?;
        if let Some(remote) = &self.remote_mta {
            write!(out, "Remote-MTA: dns; {}\r\n", line(remote))?;
        }
        if let Some(reply) = &self.remote_reply {
            folded(out, "Diagnostic-Code: smtp; ", &line(reply))?;
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

/// A date as mail writes it (RFC 5322 3.3), in UTC. Out-of-range times come out as 1970.
pub fn rfc2822(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let timestamp = i64::try_from(since.as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH);
    jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_string(&timestamp)
        .map_or_else(|_| "Thu, 1 Jan 1970 00:00:00 +0000".into(), |text| text.replace("-0000", "+0000"))
}

/// One line without control characters: nothing a stranger said may begin a line of ours.
fn line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c })
        .collect()
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

/// Text for people, folded at blanks; a word longer than a line stands alone.
fn paragraph(out: &mut dyn Write, indent: &str, text: &str) -> io::Result<()> {
    for row in rows(text, TEXT_COLUMNS.saturating_sub(indent.len())) {
        write!(out, "{indent}{row}\r\n")?;
    }
    Ok(())
}

/// A field, folded as RFC 5322 2.2.3 says.
fn folded(out: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    for (index, row) in rows(value, TEXT_COLUMNS.saturating_sub(name.len())).iter().enumerate() {
        let before = if index == 0 { name } else { "\t" };
        write!(out, "{before}{row}\r\n")?;
    }
    Ok(())
}

fn rows(text: &str, columns: usize) -> Vec<String> {
    // RFC 5321 4.5.3.1.6: a line has 998 octets at most; a word of a stranger may be longer than that.
    const MAX_WORD_CHARS: usize = 200;
    let mut rows = vec![String::new()];
    for word in text.split_whitespace() {
        let word: String = word.chars().take(MAX_WORD_CHARS).collect();
        match rows.last_mut() {
            Some(row) if row.is_empty() => row.push_str(&word),
            Some(row) if row.chars().count() + 1 + word.chars().count() <= columns => {
                row.push(' ');
                row.push_str(&word);
            }
            _ => rows.push(word),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient() -> RecipientReport {
        RecipientReport {
            final_recipient: "user@dane.example".into(),
            original_recipient: None,
            action: Action::Failed,
            status: EnhancedStatus::new(4, 7, 5),
            remote_reply: None,
            remote_mta: Some("mx1.dane.example".into()),
            last_attempt: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_100)),
            will_retry_until: None,
            story: vec!["TLSA 3 1 1 did not match the certificate it served: not sent".into()],
        }
    }

    fn text(recipients: &[RecipientReport], header: &[u8]) -> String {
        let notification = Notification {
            hostname: "mx.example",
            own_id: "own1",
            queue_id: "orig1",
            to: "s@example.org",
            arrival: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_200),
            envid: None,
            header,
            recipients,
        };
        let mut out = Vec::new();
        notification.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_failure_is_a_report_in_three_parts() {
        let text = text(&[recipient()], b"Subject: hello\r\nFrom: s@example.org\r\n\r\nnot returned");
        for expected in [
            "Auto-Submitted: auto-replied\r\n",
            "Content-Type: multipart/report; report-type=delivery-status;\r\n",
            "Reporting-MTA: dns; mx.example\r\n",
            "Final-Recipient: rfc822; user@dane.example\r\nAction: failed\r\nStatus: 4.7.5\r\n",
            "TLSA 3 1 1 did not match the certificate it served: not sent\r\n",
            "Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 7bit\r\n\r\nSubject: hello\r\n",
            "Date: Tue, 14 Nov 2023 22:16:40 +0000\r\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
        }
        assert!(!text.contains("not returned"));
        assert_eq!(text.matches("--mta-report-own1\r\n").count(), 3);
        assert!(text.ends_with("--mta-report-own1--\r\n"));
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "only CR LF");
    }

    #[test]
    fn nothing_a_stranger_said_begins_a_line_of_ours() {
        let evil = "550 no\r\nAction: delivered\r\n\r\n--mta-report-own1--";
        let mut bad = recipient();
        bad.remote_reply = Some(evil.into());
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
        assert_eq!(text.matches("\r\n--mta-report-own1--").count(), 1);
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

    #[test]
    fn never_for_a_null_reverse_path() {
        let all = Notify { never: false, success: true, failure: true, delay: true };
        for action in [Action::Failed, Action::Delayed, Action::Delivered, Action::Relayed] {
            assert!(!wanted(&ReversePath::Null, Some(all), action));
            assert!(!wanted(&ReversePath::Null, None, action));
        }
    }
}
