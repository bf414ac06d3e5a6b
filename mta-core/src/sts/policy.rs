//! The policy file: its grammar, and which hosts it allows (RFC 8461 3.2, 4.1).
//!
//! What it does not: it fetches nothing and keeps nothing.

use std::fmt;
use std::time::Duration;

use mta_dane::reference::{a_labels, text};

/// Octets of a policy file at most (RFC 8461 3.3 suggests this very bound).
pub(super) const MAX_POLICY_BYTES: usize = 64 << 10;
/// Patterns of MX hosts in one policy at most. Real ones have a handful.
pub(super) const MAX_PATTERNS: usize = 500;
/// The longest lifetime, a year; a longer one means this (RFC 8461 3.2).
pub(super) const MAX_AGE: Duration = Duration::from_secs(31_557_600);

/// How a policy is applied (RFC 8461 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing goes to a host that does not satisfy it.
    Enforce,
    /// Failures are counted for the domain's report, and the mail goes out all the same.
    Testing,
    /// The domain has no policy (any more).
    None,
}

impl Mode {
    /// The word of the policy file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Testing => "testing",
            Self::None => "none",
        }
    }
}

/// The MX hosts that one `mx` line allows: lower case, A-labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A host name, or one whose left-most label is `*`.
    fn parse(value: &str) -> Option<Self> {
        // A wildcard for everything below a top-level domain would be no statement about a host.
        let (star, name) = match value.strip_prefix("*.") {
            Some(parent) if parent.contains('.') => ("*.", parent),
            Some(_) => return None,
            None => ("", value),
        };
        if name.is_empty() || name.ends_with('.') || name.contains('*') || !name.is_ascii() {
            return None;
        }
        Some(Self(format!("{star}{}", text(&a_labels(name).ok()?))))
    }

    /// Whether it allows a host (A-labels, no last dot). `*` stands for exactly one label (RFC 8461 4.1).
    pub fn matches(&self, host: &str) -> bool {
        match self.0.strip_prefix("*.") {
            Some(parent) => {
                let rest = host.split_once('.').filter(|(first, _)| !first.is_empty());
                rest.is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent))
            }
            None => self.0.eq_ignore_ascii_case(host),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How it is applied.
    pub mode: Mode,
    /// The hosts it allows. Empty only with `Mode::None`.
    pub mx: Vec<Pattern>,
    /// How long it may be kept.
    pub max_age: Duration,
}

/// What is wrong with a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPolicy(String);

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidPolicy {}

impl Policy {
    /// Reads a policy file.
    ///
    /// Lines end with CR LF or LF. Unknown keys are ignored; of a key that may stand once the first counts (RFC 8461 3.2).
    ///
    /// # Errors
    /// What is wrong, naming the key.
    pub fn parse(file: &[u8]) -> Result<Self, InvalidPolicy> {
        let invalid = |what: String| Err(InvalidPolicy(what));
        if file.len() > MAX_POLICY_BYTES {
            return invalid(format!("it is larger than {MAX_POLICY_BYTES} bytes"));
        }
        let Ok(file) = std::str::from_utf8(file) else { return invalid("it is not UTF-8".to_owned()) };
        let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
        for line in file.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line).trim_end_matches([' ', '\t']);
            if line.is_empty() {
                continue;
            }
            let Some((key, value)) = line.split_once(':') else {
                return invalid(format!("a line without a colon: {}", shown(line)));
            };
            let value = value.trim_start_matches([' ', '\t']);
            match key {
                "version" => version = version.or(Some(value)),
                "mode" => mode = mode.or(Some(value)),
                "max_age" => max_age = max_age.or(Some(value)),
                "mx" if mx.len() >= MAX_PATTERNS => {
                    return invalid(format!("more than {MAX_PATTERNS} mx lines"));
                }
                "mx" => match Pattern::parse(value) {
                    Some(pattern) => mx.push(pattern),
                    None => return invalid(format!("mx: {} names no host", shown(value))),
                },
                _ if is_key(key) => {}
                _ => return invalid(format!("{} is no key", shown(key))),
            }
        }
        match version {
            Some("STSv1") => {}
            Some(other) => return invalid(format!("version: {} is not STSv1", shown(other))),
            None => return invalid("version is missing".to_owned()),
        }
        let mode = match mode {
            Some("enforce") => Mode::Enforce,
            Some("testing") => Mode::Testing,
            Some("none") => Mode::None,
            Some(other) => return invalid(format!("mode: {} is not known", shown(other))),
            None => return invalid("mode is missing".to_owned()),
        };
        let Some(max_age) = max_age else { return invalid("max_age is missing".to_owned()) };
        let digits = (1..=10).contains(&max_age.len()) && max_age.bytes().all(|b| b.is_ascii_digit());
        let Some(seconds) = digits.then(|| max_age.parse().ok()).flatten() else {
            return invalid(format!("max_age: {} is no number of seconds", shown(max_age)));
        };
        if mx.is_empty() && mode != Mode::None {
            return invalid("mx is missing".to_owned());
        }
        Ok(Self { mode, mx, max_age: Duration::from_secs(seconds).min(MAX_AGE) })
    }

    /// Whether it allows a host (A-labels, no last dot).
    pub fn allows(&self, host: &str) -> bool {
        self.mx.iter().any(|pattern| pattern.matches(host))
    }

    /// The policy as lines, as a file of it may look and as a report names it (RFC 8460 4.4, `policy-string`).
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec!["version: STSv1".to_owned(), format!("mode: {}", self.mode.as_str())];
        lines.extend(self.mx.iter().map(|pattern| format!("mx: {pattern}")));
        lines.push(format!("max_age: {}", self.max_age.as_secs()));
        lines
    }
}

/// `sts-policy-ext-name`.
fn is_key(key: &str) -> bool {
    key.len() <= 32
        && key.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// A stranger's text, short and without control characters.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    format!("\"{}\"", short.escape_debug())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str =
        "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmax_age: 604800\n";

    #[test]
    fn the_example_of_rfc8461_3_2() {
        let text = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\n\
                    mx: backupmx.example.com\r\nmax_age: 604800\r\n";
        let policy = Policy::parse(text.as_bytes()).unwrap();
        assert_eq!((policy.mode, policy.max_age), (Mode::Enforce, Duration::from_secs(604_800)));
        for (host, allowed) in [
            ("mail.example.com", true),
            ("MAIL.example.COM", true),
            ("backupmx.example.com", true),
            ("x.mail.example.com", false),
            ("example.com", false),
            ("mx1.example.net", true),
            ("a.mx1.example.net", false),
            ("example.net", false),
            (".example.net", false),
            ("mx1.example.net.evil", false),
        ] {
            assert_eq!(policy.allows(host), allowed, "{host}");
        }
    }

    #[test]
    fn what_is_allowed() {
        for (text, mode, seconds) in [
            ("version: STSv1\nmode: none\nmax_age: 86400", Mode::None, 86_400),
            ("mode:testing\nmax_age:\t0\nmx:a.example\nversion:STSv1", Mode::Testing, 0),
            ("version: STSv1  \nmode: testing\t\nmx: a.example \nmax_age: 9 \n\n", Mode::Testing, 9),
            (
                "version: STSv1\nmode: none\nmode: enforce\nversion: X\nmax_age: 1\nmax_age: x\n",
                Mode::None,
                1,
            ),
            ("version: STSv1\nmode: none\nmax_age: 1\nx-new_1.y: anything: at all\n", Mode::None, 1),
            ("version: STSv1\nmode: none\nmax_age: 9999999999\n", Mode::None, MAX_AGE.as_secs()),
        ] {
            let policy = Policy::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((policy.mode, policy.max_age.as_secs()), (mode, seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_policy() {
        let many = "mx: a.example\n".repeat(MAX_PATTERNS + 1);
        for (from, to, word) in [
            ("version: STSv1\n", "", "version is missing"),
            ("STSv1", "STSv2", "version"),
            ("STSv1", "stsv1", "version"),
            ("mode: enforce\n", "", "mode is missing"),
            ("enforce", "Enforce", "mode"),
            ("enforce", "report", "mode"),
            ("max_age: 604800\n", "", "max_age is missing"),
            ("604800", "-1", "max_age"),
            ("604800", "1d", "max_age"),
            ("604800", "+5", "max_age"),
            ("604800", "99999999999", "max_age"),
            ("604800", "", "max_age"),
            ("mail.example.com", "", "mx"),
            ("mail.example.com", "mx*.example.com", "mx"),
            ("mail.example.com", "*", "mx"),
            ("mail.example.com", "*.com", "mx"),
            ("mail.example.com", "a.*.example.com", "mx"),
            ("mail.example.com", "mail.example.com.", "mx"),
            ("mail.example.com", "a b.example", "mx"),
            ("mail.example.com", "m\u{e4}il.example", "mx"),
            ("mx: mail", "mx = mail", "colon"),
            ("mx: mail", "\u{1f}: x\nmx: mail", "key"),
            ("mx: mail.example.com\n", &many, "more than"),
        ] {
            let text = GOOD.replace(from, to);
            let error = Policy::parse(text.as_bytes()).expect_err(&text).to_string();
            assert!(error.contains(word), "{text}: {error}");
            assert!(!error.contains(char::is_control));
        }
        let html = "<html><body>Not found</body></html>";
        assert!(Policy::parse(html.as_bytes()).is_err());
        assert!(Policy::parse(b"").is_err());
        assert!(Policy::parse(b"\xff\xfe").is_err());
        assert!(Policy::parse(&vec![b'\n'; MAX_POLICY_BYTES + 1]).is_err());
        let none = GOOD.replace("mx: mail.example.com\nmx: *.example.net\n", "");
        assert_eq!(Policy::parse(none.as_bytes()).unwrap_err().to_string(), "mx is missing");
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_is_read_reads_back(bytes in any::<Vec<u8>>(), from in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let _ = Policy::parse(&bytes);
            let mut text = GOOD.as_bytes().to_vec();
            let at = from.index(text.len());
            text[at] = byte;
            if let Ok(policy) = Policy::parse(&text) {
                let lines = policy.lines().join("\n");
                prop_assert_eq!(Policy::parse(lines.as_bytes()), Ok(policy));
            }
        }
    }
}
