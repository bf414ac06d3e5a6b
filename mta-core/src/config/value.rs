//! How each type of value is written in TOML: reading, writing back, and saying what was expected.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::types::AuthAction;
use super::types::{
    DaneMode, DnsMode, DnsServer, DomainKind, DomainName, HostName, HostPort, LmtpAddress, LogLevel,
    LogTarget, MailAddress, MailboxName, MboxFormat, Network, RelayRecipients, RelayTls, Size, Unasked,
};

/// A value that does not fit: what was found, and where in the file's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The value in words, perhaps with what is wrong with it.
    pub(crate) found: String,
    /// Byte range in the file.
    pub(crate) span: Range<usize>,
}

/// A type that an option can have.
pub(crate) trait OptionType: Clone + PartialEq + 'static {
    /// The type's name in the manual: "duration", "list of addresses".
    fn type_name() -> String;
    /// What to write, in words, with an example.
    fn expected() -> String;
    /// Reads the value.
    fn read(value: &Spanned<DeValue<'_>>) -> Result<Self, Problem>;
    /// Writes it as TOML.
    fn write(&self) -> String;
}

/// The problem "found this value", with a reason if there is one to give.
fn problem(value: &Spanned<DeValue<'_>>, why: Option<String>) -> Problem {
    let shown = show(value.get_ref());
    let found = match why {
        Some(why) => format!("found {shown} ({why})"),
        None => format!("found {shown}"),
    };
    Problem { found, span: value.span() }
}

/// A value as a person would name it, short and without control characters.
pub(crate) fn show(value: &DeValue<'_>) -> String {
    /// Longer text is cut in messages.
    const MOST: usize = 80;
    match value {
        DeValue::String(s) => {
            let cut: String = s.chars().take(MOST).collect();
            let dots = if cut.len() < s.len() { "..." } else { "" };
            format!("{cut:?}{dots}")
        }
        DeValue::Integer(i) => format!("the integer {}", i.as_str()),
        DeValue::Float(x) => format!("the number {}", x.as_str()),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::Datetime(d) => format!("the date {d}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// `text` as a TOML basic string.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl OptionType for bool {
    fn type_name() -> String {
        "true or false".to_owned()
    }
    fn expected() -> String {
        "true or false".to_owned()
    }
    fn read(value: &Spanned<DeValue<'_>>) -> Result<Self, Problem> {
        value.get_ref().as_bool().ok_or_else(|| problem(value, None))
    }
    fn write(&self) -> String {
        self.to_string()
    }
}

/// An integer of the TOML file.
fn integer(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

macro_rules! integer_type {
    ($($type:ty),*) => {$(
        impl OptionType for $type {
            fn type_name() -> String {
                "integer".to_owned()
            }
            fn expected() -> String {
                "an integer".to_owned()
            }
            fn read(value: &Spanned<DeValue<'_>>) -> Result<Self, Problem> {
                integer(value.get_ref()).and_then(|n| n.try_into().ok()).ok_or_else(|| problem(value, None))
            }
            fn write(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

integer_type!(u16, u32);

/// A type that is written as a string: its name, what is expected, how it is read and shown.
macro_rules! string_type {
    ($($type:ty: $name:literal, $expected:literal, $parse:expr, $show:expr;)*) => {$(
        impl OptionType for $type {
            fn type_name() -> String {
                $name.to_owned()
            }
            fn expected() -> String {
                $expected.to_owned()
            }
            fn read(value: &Spanned<DeValue<'_>>) -> Result<Self, Problem> {
                let parse: fn(&str) -> Result<$type, Option<String>> = $parse;
                let Some(text) = value.get_ref().as_str() else {
                    return Err(problem(value, None));
                };
                parse(text).map_err(|why| problem(value, why))
            }
            fn write(&self) -> String {
                let show: fn(&$type) -> String = $show;
                quote(&show(self))
            }
        }
    )*};
}

string_type! {
    String: "text", "text that is not empty", |t| non_empty(t).map(str::to_owned), Self::clone;
    PathBuf: "path", "a path such as \"/etc/mta/key.pem\"", |t| non_empty(t).map(PathBuf::from), |p| p.display().to_string();
    DomainName: "domain name", "a name such as \"mail.example.org\"", |t| DomainName::parse(t).map_err(Some), |d| d.to_string();
    HostName: "host", "a name such as \"mail.example.org\", or an address", |t| HostName::parse(t).map_err(Some), |d| d.to_string();
    MailboxName: "mailbox name", "a local-part such as \"alice\"", |t| MailboxName::parse(t).map_err(Some), |m| m.to_string();
    MailAddress: "mail address", "an address such as \"admin@example.org\"", |t| MailAddress::parse(t).map_err(Some), |m| m.to_string();
    Network: "network", "a network such as \"192.0.2.0/24\" or \"2001:db8::/32\"", |t| Network::parse(t).map_err(Some), |n| n.to_string();
    HostPort: "host and port", "a host such as \"mx.example.org\" or \"mx.example.org:2525\"", |t| HostPort::parse(t).map_err(Some), |h| h.to_string();
    LmtpAddress: "LMTP server", "a server such as \"lmtp:unix:/run/dovecot/lmtp\" or \"lmtp:127.0.0.1:24\"", |t| LmtpAddress::parse(t).map_err(Some), |a| a.to_string();
    SocketAddr: "address and port", "an address and port such as \"192.0.2.1:53\" or \"[2001:db8::1]:53\"", |t| t.parse().map_err(|_| None), |a| a.to_string();
    DnsServer: "address", "an address such as \"192.0.2.1\" or \"[2001:db8::1]:5353\"", |t| DnsServer::parse(t).ok_or(None), |a| a.0.to_string();
    Ipv4Addr: "IPv4 address", "an address such as \"192.0.2.1\"", |t| t.parse().map_err(|_| None), |a| a.to_string();
    Ipv6Addr: "IPv6 address", "an address such as \"2001:db8::1\"", |t| t.parse().map_err(|_| None), |a| a.to_string();
    Duration: "duration", "a duration such as \"30s\", \"5m\", \"1h30m\" or \"4d\"", |t| parse_duration(t).ok_or(None), |d| write_duration(*d);
    jiff::civil::Date: "date", "a date such as \"2027-01-31\"", |t| t.parse().map_err(|_| None), |d| d.to_string();
}

/// Text as it is, unless it is empty.
fn non_empty(text: &str) -> Result<&str, Option<String>> {
    if text.is_empty() || text.contains('\0') { Err(None) } else { Ok(text) }
}

impl Size {
    /// Reads "25MB", "64kB" or a number of bytes.
    pub fn parse(text: &str) -> Option<Self> {
        parse_size(text).map(Self)
    }
}

impl OptionType for Size {
    fn type_name() -> String {
        "size".to_owned()
    }
    fn expected() -> String {
        "a size such as \"25MB\" or \"64kB\", or a number of bytes".to_owned()
    }
    fn read(value: &Spanned<DeValue<'_>>) -> Result<Self, Problem> {
        let size = match value.get_ref() {
            DeValue::String(text) => parse_size(text),
            other => integer(other),
        };
        size.map(Size).ok_or_else(|| problem(value, None))
    }
    fn write(&self) -> String {
        quote(&write_size(self.0))
    }
}

/// Units of sizes, largest first: powers of 1024, as everywhere in mail.
const SIZE_UNITS: [(&str, u64); 4] = [("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)];

/// "25MB", "64k", "100".
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit.trim_start().to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// The shortest exact way to write a size.
pub(crate) fn write_size(bytes: u64) -> String {
    SIZE_UNITS
        .iter()
        .find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor))
        .map_or_else(|| bytes.to_string(), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

/// Units of durations in milliseconds, largest first.
const TIME_UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// "5m", "1h30m", "250ms", "0s".
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total: u64 = 0;
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let after_number = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = rest.strip_suffix(after_number)?;
        let after_unit = after_number.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let unit = after_number.strip_suffix(after_unit)?;
        let (_, factor) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = after_unit;
    }
    Some(Duration::from_millis(total))
}

/// A duration in its units, largest first, without weeks.
pub(crate) fn write_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, factor) in TIME_UNITS.iter().skip(1) {
        if rest >= *factor {
            out.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    out
}

/// An optional value: the empty string unsets it.
impl<T: OptionType> OptionType for Option<T> {
    fn type_name() -> String {
        T::type_name()
    }
    fn expected() -> String {
        T::expected()
    }
    fn read(value: &Spanned<DeValue<'_>>) -> Result<Self, Problem> {
        if value.get_ref().as_str() == Some("") { Ok(None) } else { T::read(value).map(Some) }
    }
    fn write(&self) -> String {
        self.as_ref().map_or_else(|| "\"\"".to_owned(), T::write)
    }
}

/// A list. One value alone stands for a list of one.
impl<T: OptionType> OptionType for Vec<T> {
    fn type_name() -> String {
        format!("list of {} values", T::type_name())
    }
    fn expected() -> String {
        format!("a list, each entry {}", T::expected())
    }
    fn read(value: &Spanned<DeValue<'_>>) -> Result<Self, Problem> {
        match value.get_ref() {
            DeValue::Array(entries) => entries.iter().map(T::read).collect(),
            DeValue::Table(_) => Err(problem(value, None)),
            _ => T::read(value).map(|one| vec![one]),
        }
    }
    fn write(&self) -> String {
        let entries: Vec<String> = self.iter().map(T::write).collect();
        format!("[{}]", entries.join(", "))
    }
}

/// A type with a few values, each a word.
macro_rules! word_type {
    ($($type:ident { $($variant:ident = $word:literal),* })*) => {$(
        impl $type {
            /// The word for it in the configuration.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl OptionType for $type {
            fn type_name() -> String {
                [$($word),*].join("|")
            }
            fn expected() -> String {
                let words: Vec<String> = [$($word),*].iter().map(|w| format!("{w:?}")).collect();
                format!("one of {}", words.join(", "))
            }
            fn read(value: &Spanned<DeValue<'_>>) -> Result<Self, Problem> {
                match value.get_ref().as_str() {
                    $(Some($word) => Ok(Self::$variant),)*
                    _ => Err(problem(value, None)),
                }
            }
            fn write(&self) -> String {
                quote(self.as_str())
            }
        }
    )*};
}

word_type! {
    AuthAction { Accept = "accept", Mark = "mark", Reject = "reject" }
    DnsMode { Auto = "auto", TrustAd = "trust-ad" }
    DaneMode { Opportunistic = "opportunistic", Mandatory = "mandatory", Off = "off" }
    RelayTls { Starttls = "starttls", Implicit = "implicit", Opportunistic = "opportunistic", Never = "never" }
    DomainKind { Virtual = "virtual", Local = "local", Relay = "relay" }
    MboxFormat { Mboxrd = "mboxrd", Mboxo = "mboxo" }
    RelayRecipients { Listed = "listed", Any = "any", Verified = "verified" }
    Unasked { Accept = "accept", Defer = "defer" }
    LogTarget { Stderr = "stderr", Syslog = "syslog" }
    LogLevel { Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip() {
        for (text, ms, written) in [
            ("5m", 300_000, "5m"),
            ("90s", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1w", 604_800_000, "7d"),
            ("250ms", 250, "250ms"),
            ("0", 0, "0s"),
            ("4d", 345_600_000, "4d"),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(ms), "{text}");
            assert_eq!(write_duration(duration), written);
        }
        for text in ["", "5", "m", "5 m", "-5m", "5x", "1.5h", "99999999999999999999s", "99999999999999999w"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_round_trip() {
        for (text, bytes, written) in [
            ("25MB", 26_214_400, "25MB"),
            ("64k", 65_536, "64kB"),
            ("64KiB", 65_536, "64kB"),
            ("1000", 1000, "1000"),
            ("0", 0, "0"),
            ("1 GB", 1 << 30, "1GB"),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(write_size(bytes), written);
        }
        for text in ["", "MB", "-1", "1.5MB", "5XB", "99999999999999TB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn quoted_text_holds_no_control_character() {
        assert_eq!(quote("a\"b\\c\n\u{1b}"), r#""a\"b\\c\u000A\u001B""#);
    }
}
