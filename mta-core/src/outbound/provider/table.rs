//! The table of known replies: which providers there are, what their replies mean, what follows from them.
//!
//! What it does: reads the table (`replies.toml`, and a file of the administrator's before it), names the group that an
//! MX list belongs to, and finds the row that fits a reply. Pure. What it does not: it acts on nothing (`memory`, the
//! scheduler), and it never changes what the reply's code means for a message.

use std::time::Duration;

use mta_smtp::reply::Reply;
use serde::Deserialize;

use crate::config::value::parse_duration;

/// The rows that come with the program.
const BUILT_IN: &str = include_str!("replies.toml");

/// Octets of a file of the administrator's.
pub(crate) const MAX_FILE_BYTES: u64 = 1 << 20;

/// Host names of an MX list that make up its group's name.
const MAX_NAMED_HOSTS: usize = 8;

/// What a reply means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// More mail or more connections than the provider takes from us now.
    RateLimited,
    /// This host, its network or its domain has a bad name there.
    Reputation,
    /// The address that we connected from has no proper reverse name (PTR).
    ReverseName,
    /// Come again in a few minutes, for no other reason than to see whether we do.
    Greylisted,
    /// The recipient's mailbox is full.
    MailboxFull,
    /// The message is taken for spam, or breaks a rule about content.
    Content,
    /// SPF, DKIM or DMARC is missing or failed.
    Authentication,
    /// A block list in DNS lists us.
    Dnsbl,
    /// A passing trouble of the server's own.
    Temporary,
}

/// What a class means if its row says nothing else.
struct Defaults {
    word: &'static str,
    meaning: &'static str,
    advice: &'static str,
    pause: Duration,
    slow: bool,
    alert: bool,
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::RateLimited,
        Self::Reputation,
        Self::ReverseName,
        Self::Greylisted,
        Self::MailboxFull,
        Self::Content,
        Self::Authentication,
        Self::Dnsbl,
        Self::Temporary,
    ];

    fn defaults(self) -> Defaults {
        let quiet = |word, meaning, advice| Defaults {
            word,
            meaning,
            advice,
            pause: Duration::ZERO,
            slow: false,
            alert: false,
        };
        match self {
            Self::RateLimited => Defaults {
                pause: minutes(10),
                slow: true,
                ..quiet(
                    "rate-limited",
                    "it takes no more mail from this host for now",
                    "nothing: this server slows down by itself",
                )
            },
            Self::Reputation => Defaults {
                pause: minutes(60),
                slow: true,
                alert: true,
                ..quiet(
                    "reputation",
                    "this host or its network has a bad name there",
                    "find out what was sent that nobody wanted, then ask the provider to take the block away",
                )
            },
            Self::ReverseName => Defaults {
                pause: minutes(30),
                alert: true,
                ..quiet(
                    "reverse-name",
                    "the address this host connects from has no proper reverse name",
                    "have the PTR record of the address set to this server's name by whoever gave you the address, for \
                     IPv6 too, or switch outbound.ipv6 off",
                )
            },
            Self::Greylisted => quiet(
                "greylisted",
                "it asks unknown senders to come again in a few minutes",
                "nothing: it is tried again soon",
            ),
            Self::MailboxFull => {
                quiet("mailbox-full", "the recipient's mailbox is full", "tell the recipient by another way")
            }
            Self::Content => quiet(
                "content",
                "it takes the message for unwanted",
                "look at the message; where it is wanted mail, ask the provider",
            ),
            Self::Authentication => Defaults {
                alert: true,
                ..quiet(
                    "authentication",
                    "the sender's domain could not be verified by SPF, DKIM or DMARC",
                    "publish an SPF record that names this host for the sender's domain, and sign with DKIM",
                )
            },
            Self::Dnsbl => Defaults {
                pause: minutes(60),
                slow: true,
                alert: true,
                ..quiet(
                    "dnsbl",
                    "a block list names this host",
                    "see the reply for which list, find out why, and ask there for removal",
                )
            },
            Self::Temporary => {
                quiet("temporary", "it has a passing trouble of its own", "nothing: it is tried again")
            }
        }
    }

    /// The word for it in records, logs and JSON.
    pub fn word(self) -> &'static str {
        self.defaults().word
    }

    /// What it means, as half a sentence about the server.
    pub fn meaning(self) -> &'static str {
        self.defaults().meaning
    }
}

/// A mail provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The word for it.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Its hosts.
    mx: Vec<String>,
    /// Where to look or ask.
    pub contact: String,
}

/// One known reply.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    #[serde(default)]
    provider: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    text: Vec<String>,
    /// What it means.
    pub class: Class,
    #[serde(default)]
    advice: Option<String>,
    #[serde(default)]
    pause: Option<String>,
    #[serde(default)]
    alert: Option<bool>,
    /// A 5yz of this row is about us and passes.
    #[serde(default)]
    pub worth_retrying: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    provider: Vec<Provider>,
    #[serde(default)]
    reply: Vec<Row>,
}

/// The table.
#[derive(Debug)]
pub struct Table {
    providers: Vec<Provider>,
    rows: Vec<Row>,
}

impl Default for Table {
    /// The rows that come with the program. That they can be read is tested.
    fn default() -> Self {
        Self::with("").unwrap_or(Self { providers: Vec::new(), rows: Vec::new() })
    }
}

impl Row {
    /// What the administrator can do.
    pub fn advice(&self) -> &str {
        self.advice.as_deref().unwrap_or_else(|| self.class.defaults().advice)
    }

    /// How long the group is left alone.
    pub fn pause(&self) -> Duration {
        let given = self.pause.as_deref().and_then(parse_duration);
        given.unwrap_or_else(|| self.class.defaults().pause)
    }

    /// Whether fewer deliveries at once are tried from now on.
    pub fn slow(&self) -> bool {
        self.class.defaults().slow
    }

    /// Whether the administrator is told.
    pub fn alert(&self) -> bool {
        self.alert.unwrap_or_else(|| self.class.defaults().alert)
    }

    /// What is wrong with the row, if anything.
    fn fault(&self, providers: &[Provider]) -> Option<String> {
        let lower = |text: &String| text.is_empty() || *text != text.to_lowercase();
        if self.code.is_none() && self.status.is_none() && self.text.is_empty() {
            return Some("a [[reply]] needs at least one of code, status and text".to_owned());
        }
        if let Some(name) = &self.provider
            && !providers.iter().any(|provider| provider.name == *name)
        {
            return Some(format!(
                "a [[reply]] names the provider {name:?}, of which there is no [[provider]]"
            ));
        }
        if let Some(code) = &self.code
            && !(matches!(code.len(), 1..=3)
                && code.starts_with(['4', '5'])
                && code.bytes().all(|b| b.is_ascii_digit()))
        {
            return Some(format!(
                "code = {code:?}; expected the beginning of a 4yz or 5yz code, such as \"421\""
            ));
        }
        if let Some(status) = &self.status
            && status_range(status).is_none()
        {
            return Some(format!("status = {status:?}; expected \"7.28\" or a range \"7.606-649\""));
        }
        if let Some(text) = self.text.iter().find(|text| lower(text)) {
            return Some(format!("text = {text:?}; expected lower case"));
        }
        match &self.pause {
            Some(pause) if parse_duration(pause).is_none() => {
                Some(format!("pause = {pause:?}; expected a duration such as \"30m\""))
            }
            _ => None,
        }
    }

    /// Whether it fits a negative reply of a host of this provider.
    fn fits(&self, provider: Option<&Provider>, code: &str, reply: &Reply, text: &str) -> bool {
        let of_provider = match &self.provider {
            None => true,
            Some(name) => provider.is_some_and(|provider| provider.name == *name),
        };
        let status = || match &self.status {
            None => true,
            Some(range) => {
                reply.enhanced.zip(status_range(range)).is_some_and(|(found, (subject, low, high))| {
                    found.subject == subject && (low..=high).contains(&found.detail)
                })
            }
        };
        of_provider
            && self.code.as_deref().is_none_or(|beginning| code.starts_with(beginning))
            && status()
            && self.text.iter().all(|words| text.contains(words.as_str()))
    }
}

/// `subject.detail` or `subject.low-high`.
fn status_range(text: &str) -> Option<(u16, u16, u16)> {
    let (subject, details) = text.split_once('.')?;
    let (low, high) = details.split_once('-').unwrap_or((details, details));
    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
    (low <= high).then_some((subject.parse().ok()?, low, high))
}

impl Table {
    /// The table that comes with the program, behind the rows of `text`, a file of the administrator's.
    ///
    /// # Errors
    /// What of it cannot be read, in words.
    pub fn with(text: &str) -> Result<Self, String> {
        let own: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let built_in: File = toml::from_str(BUILT_IN).map_err(|error| error.to_string())?;
        let mut table = Self { providers: own.provider, rows: own.reply };
        for provider in built_in.provider {
            if !table.providers.iter().any(|own| own.name == provider.name) {
                table.providers.push(provider);
            }
        }
        table.rows.extend(built_in.reply);
        match table.rows.iter().find_map(|row| row.fault(&table.providers)) {
            Some(fault) => Err(fault),
            None => Ok(table),
        }
    }

    /// The provider of a host; the longest fitting name counts.
    pub fn provider(&self, host: &str) -> Option<&Provider> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let fitting = |name: &str| match name.starts_with('.') {
            true => host.ends_with(name),
            false => host == name,
        };
        let length =
            |provider: &Provider| provider.mx.iter().filter(|name| fitting(name)).map(String::len).max();
        self.providers
            .iter()
            .filter_map(|p| Some((length(p)?, p)))
            .max_by_key(|(length, _)| *length)
            .map(|(_, p)| p)
    }

    /// The name of the group that a list of MX hosts belongs to, best host first: its provider, or the hosts themselves.
    pub fn group(&self, hosts: &[&str]) -> Option<String> {
        let first = hosts.first()?;
        Some(self.provider(first).map_or_else(|| host_set(hosts), |provider| provider.name.clone()))
    }

    /// The provider of this name.
    pub fn named(&self, name: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.name == name)
    }

    /// What a reply of a host means. `None` for what is not negative, for what is said of an address (RFC 3463 3.2), and
    /// for what nobody knows.
    pub fn classify(&self, host: &str, reply: &Reply) -> Option<&Row> {
        if !matches!(reply.code, 400..=599) || reply.enhanced.is_some_and(|status| status.subject == 1) {
            return None;
        }
        let provider = self.provider(host);
        let text = reply.lines.join(" ").to_lowercase();
        let code = reply.code.to_string();
        self.rows.iter().find(|row| row.fits(provider, &code, reply, &text))
    }
}

/// A list of hosts as one name, whatever their order.
pub fn host_set(hosts: &[&str]) -> String {
    let mut names: Vec<String> =
        hosts.iter().map(|host| host.trim_end_matches('.').to_ascii_lowercase()).collect();
    names.sort_unstable();
    names.dedup();
    names.truncate(MAX_NAMED_HOSTS);
    names.join(",")
}
