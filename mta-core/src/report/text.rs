//! Text in mail that this server writes: dates, folding, and what a stranger said made harmless.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use mta_smtp::address::Mailbox;
use mta_smtp::text::is_harmful;

/// Columns at which text for people is folded.
const TEXT_COLUMNS: usize = 76;

/// A date as mail writes it (RFC 5322 3.3), in UTC. Out-of-range times come out as 1970.
pub(super) fn rfc2822(time: SystemTime) -> String {
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
pub(super) fn line(text: &str) -> String {
    text.chars().map(|c| if is_harmful(c) { ' ' } else { c }).collect()
}

/// The header section of mail to the postmaster, with the empty line that ends it and who writes. RFC 3834 5: nothing answers
/// it automatically.
pub(super) fn postmaster_header(
    out: &mut dyn Write,
    hostname: &str,
    to: &Mailbox,
    subject: &str,
    id: &str,
    now: SystemTime,
) -> io::Result<()> {
    write!(
        out,
        "Date: {}\r\nFrom: Mail delivery <postmaster@{hostname}>\r\nTo: <{}>\r\n\
         Subject: {subject}\r\nMessage-ID: <{id}@{hostname}>\r\n\
         Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\n\
         This is the mail server {hostname}.\r\n\r\n",
        rfc2822(now),
        line(&to.to_string()),
    )
}

/// Text for people, folded at blanks; a word longer than a line stands alone.
pub(super) fn paragraph(out: &mut dyn Write, indent: &str, text: &str) -> io::Result<()> {
    for row in rows(text, TEXT_COLUMNS.saturating_sub(indent.len())) {
        write!(out, "{indent}{row}\r\n")?;
    }
    Ok(())
}

/// A field, folded as RFC 5322 2.2.3 says.
pub(super) fn folded(out: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
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
