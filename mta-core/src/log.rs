//! Log output: one line per event, `key=value`, queue id first, and no control character of a stranger in it ever.
//!
//! [`Line`] builds such lines with the keys in a fixed order; [`escape`] makes any text one harmless value. The backend
//! writes to standard error (with `<N>` priorities where that is the journal, with the time elsewhere) or to syslog.
//! It does not rotate files or store anything but the latest lines in memory (`recent`).

pub mod recent;

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Mutex, Once, PoisonError};

use ::log::{Level, LevelFilter, Metadata, Record};

use crate::config::{LogLevel, LogTarget};

pub use mta_smtp::text::is_harmful;

/// Keys that come first, in this order; all others follow in the order in which they were set.
const ORDER: &[&str] =
    &["qid", "client", "helo", "mailfrom", "rcpt", "mx", "dnssec", "tls", "dane", "status", "dsn", "delay"];

/// Longest value written, in characters; a stranger's text beyond it is cut.
const MAX_VALUE: usize = 1000;

/// Longest line written, in bytes; a datagram to syslog must stay below the usual limit of 8 KiB.
const MAX_LINE: usize = 7000;

/// The socket of the system's log daemon.
const SYSLOG_SOCKET: &str = "/dev/log";

// ---- Line --------------------------------------------------------------------------------------------------------

/// One event: a word for what happened and its facts. `log::info!("{}", Line::new("delivered").with("qid", id))`.
#[derive(Debug, Clone)]
pub struct Line {
    event: &'static str,
    fields: Vec<(&'static str, String)>,
}

impl Line {
    /// An event of this name: lower case, a few words joined by hyphens.
    pub fn new(event: &'static str) -> Self {
        Self { event, fields: Vec::new() }
    }

    /// The same facts of another event.
    #[must_use]
    pub fn renamed(self, event: &'static str) -> Self {
        Self { event, ..self }
    }

    /// Adds a fact. The value may come from a stranger.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.fields.push((key, value.to_string()));
        self
    }

    /// Adds a fact if there is one.
    #[must_use]
    pub fn with_some(self, key: &'static str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rank = |key: &str| ORDER.iter().position(|k| *k == key).unwrap_or(ORDER.len());
        let mut fields: Vec<&(&'static str, String)> = self.fields.iter().collect();
        fields.sort_by_key(|(key, _)| rank(key));
        let mut fields = fields.into_iter().peekable();
        if let Some((key, value)) = fields.next_if(|(key, _)| *key == "qid") {
            write!(f, "{key}={} ", escape(value))?;
        }
        write!(f, "event={}", escape(self.event))?;
        for (key, value) in fields {
            write!(f, " {key}={}", escape(value))?;
        }
        Ok(())
    }
}

/// `value` as one value of a log line: as it is where that is harmless, else in quotes with everything escaped that is
/// not plainly visible: controls, line and paragraph separators, bidirectional and other format characters, quotes.
pub fn escape(value: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'=');
    if !value.is_empty() && value.len() <= MAX_VALUE && value.bytes().all(plain) {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    push_visible(&mut out, value, true);
    out.push('"');
    Cow::Owned(out)
}

/// Appends `value` with everything escaped that is not plainly visible; quotes and backslashes too, if asked.
fn push_visible(out: &mut String, value: &str, quotes: bool) {
    for (i, c) in value.chars().enumerate() {
        if quotes && i == MAX_VALUE {
            out.push_str("...");
            return;
        }
        match c {
            '"' | '\\' if !quotes => out.push(c),
            '\'' => out.push(c),
            // Some of these are visible to Rust's own rule.
            _ if !c.is_ascii() && is_harmful(c) => out.extend(c.escape_unicode()),
            _ => out.extend(c.escape_debug()),
        }
    }
}

/// `text` for a terminal or a mail to a person: visible characters as they are, all others escaped.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_visible(&mut out, text, false);
    out
}

// ---- Backend -----------------------------------------------------------------------------------------------------

/// Where lines go now.
enum Sink {
    /// Nothing was set up yet.
    Nowhere,
    /// Standard error; the time is written unless it is the journal.
    Stderr { journal: bool },
    /// The system's log daemon.
    Syslog(UnixDatagram),
}

/// The process's only logger.
struct Logger {
    sink: Mutex<Sink>,
}

static LOGGER: Logger = Logger { sink: Mutex::new(Sink::Nowhere) };

/// Starts logging, or changes it after a reload.
///
/// # Errors
/// One sentence, when syslog is wanted and cannot be reached; lines then go to standard error.
pub fn init(target: LogTarget, level: LogLevel) -> Result<(), String> {
    static ONCE: Once = Once::new();
    let stderr = Sink::Stderr { journal: stderr_is_journal() };
    let (sink, result) = match target {
        LogTarget::Stderr => (stderr, Ok(())),
        LogTarget::Syslog => match connect_syslog(Path::new(SYSLOG_SOCKET)) {
            Ok(socket) => (Sink::Syslog(socket), Ok(())),
            Err(e) => (stderr, Err(format!("log.target = \"syslog\": cannot reach {SYSLOG_SOCKET}: {e}"))),
        },
    };
    *LOGGER.sink.lock().unwrap_or_else(PoisonError::into_inner) = sink;
    ONCE.call_once(|| {
        // Fails only where a logger exists already, in a program that has its own.
        let _ = ::log::set_logger(&LOGGER);
    });
    ::log::set_max_level(filter(level));
    result
}

/// The level as the log crate has it.
fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}

/// A socket to the log daemon that never blocks the mail.
fn connect_syslog(path: &Path) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether standard error is the journal: JOURNAL_STREAM names its device and inode.
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(std::io::stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

impl ::log::Log for Logger {
    /// Libraries speak only when something is wrong, unless everything is wanted.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("mta")
            || metadata.level() <= Level::Warn
            || ::log::max_level() == LevelFilter::Trace
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = one_line(&record.args().to_string());
        recent::RECENT.push(now(), record.level(), &text);
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        write(&mut sink, record.level(), &text);
    }

    fn flush(&self) {}
}

/// The last line of defence: whatever a message holds, it is one line without control characters.
fn one_line(text: &str) -> String {
    let cut = text.get(..text.floor_char_boundary(MAX_LINE)).unwrap_or_default();
    if cut.chars().any(|c| c != ' ' && (c.is_control() || !c.is_ascii())) {
        visible(cut)
    } else {
        cut.to_owned()
    }
}

/// Writes one line. A log that cannot be written is no reason to stop the mail.
fn write(sink: &mut Sink, level: Level, text: &str) {
    match sink {
        Sink::Nowhere => {}
        Sink::Stderr { journal: true } => {
            let _ = writeln!(std::io::stderr().lock(), "<{}>{text}", priority(level));
        }
        Sink::Stderr { journal: false } => {
            let _ = writeln!(std::io::stderr().lock(), "{} {} {text}", now(), level_word(level));
        }
        Sink::Syslog(socket) => {
            let line = syslog_line(level, text);
            if socket.send(line.as_bytes()).is_err()
                && let Ok(fresh) = connect_syslog(Path::new(SYSLOG_SOCKET))
            {
                // The log daemon was restarted.
                let _ = fresh.send(line.as_bytes());
                *socket = fresh;
            }
        }
    }
}

/// A line as the log daemon reads it on its socket (RFC 3164 4.1, the time left to it), facility mail.
fn syslog_line(level: Level, text: &str) -> String {
    /// Facility mail, times eight.
    const MAIL: u8 = 16;
    format!("<{}>mta[{}]: {text}", MAIL + priority(level), std::process::id())
}

/// The syslog severity.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// The level as it is written.
fn level_word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// The time in UTC with milliseconds.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_queue_id_comes_first_and_keys_keep_their_order() {
        let line = Line::new("deferred")
            .with("reply", "4.2.0 try again")
            .with("rcpt", "a@example.org")
            .with("qid", "ABC")
            .with_some("mx", None::<&str>)
            .with("client", "192.0.2.1");
        assert_eq!(
            line.to_string(),
            "qid=ABC event=deferred client=192.0.2.1 rcpt=a@example.org reply=\"4.2.0 try again\""
        );
    }

    #[test]
    fn strangers_cannot_forge_a_line_or_reach_the_terminal() {
        for (text, escaped) in [
            ("plain", "plain"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a=b", "\"a=b\""),
            ("x\nqid=1 event=delivered", "\"x\\nqid=1 event=delivered\""),
            ("\u{1b}[31m", "\"\\u{1b}[31m\""),
            ("\u{9b}31m", "\"\\u{9b}31m\""),
            ("\u{202e}gro", "\"\\u{202e}gro\""),
            ("\u{2028}", "\"\\u{2028}\""),
            ("a\"b\\", "\"a\\\"b\\\\\""),
            ("\u{0}", "\"\\0\""),
            ("m\u{fc}ller", "\"m\u{fc}ller\""),
            ("\u{feff}", "\"\\u{feff}\""),
            ("\u{ad}", "\"\\u{ad}\""),
            ("\u{e0041}", "\"\\u{e0041}\""),
        ] {
            assert_eq!(escape(text), escaped, "{text:?}");
        }
        assert!(escape(&"x".repeat(100_000)).len() < MAX_VALUE + 10);
    }

    proptest! {
        #[test]
        fn no_value_breaks_out_of_its_quotes(text in any::<String>()) {
            let escaped = escape(&text);
            prop_assert!(!escaped.chars().any(is_harmful));
            if let Some(inner) = escaped.strip_prefix('"') {
                let inner = inner.strip_suffix('"').unwrap();
                let mut chars = inner.chars();
                while let Some(c) = chars.next() {
                    prop_assert_ne!(c, '"');
                    if c == '\\' {
                        prop_assert!(chars.next().is_some());
                    }
                }
            } else {
                prop_assert!(!escaped.contains([' ', '=', '"', '\\']));
            }
        }

        #[test]
        fn no_message_is_more_than_a_line(text in any::<String>()) {
            prop_assert!(!one_line(&text).chars().any(is_harmful));
        }
    }

    #[test]
    fn syslog_lines_have_facility_mail() {
        let line = syslog_line(Level::Warn, "x");
        assert!(line.starts_with("<20>mta[") && line.ends_with("]: x"), "{line}");
    }
}
