//! The decision record of one attempt: what DNS said, what was required, what each connection showed, what came of it.
//!
//! It is written as JSON beside the attempt and read by `queue show`, the log, notifications and `explain`;
//! `Decision::story` tells it in sentences. The format is versioned: fields may be added, never change their meaning.
//! What it does not: it decides nothing; it is filled in by the stages of `attempt`.

use serde::{Deserialize, Serialize};

/// The version this program writes.
pub const VERSION: u32 = 1;

/// Begins a line of a triage that is meant to be copied as it stands: a record to publish.
pub const COPIED: &str = "    ";

/// Why an attempt ended as it did. Strings hold no control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Decision {
    /// Format version.
    pub version: u32,
    /// When the attempt began, seconds since 1970.
    pub started_at_unix: u64,
    /// How long it took in milliseconds.
    pub elapsed_ms: u64,
    /// Where to: `mx:example.org`, `relay:smtp.example.net:587`.
    pub route: String,
    /// The recipient domain whose rules applied.
    pub destination: String,
    /// The local rule that took effect, with its reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The MX lookup, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mx: Option<MxRecord>,
    /// The domain's MTA-STS policy, where it was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sts: Option<StsRecord>,
    /// Why it ended before any host was considered: null MX, no such domain, lookup error, loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_early: Option<String>,
    /// What that is about, and what can be done, where it is a matter of security or of DNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triage: Option<TriageRecord>,
    /// The TLSRPT result type of that, where it is one of security (RFC 8460 4.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_type: Option<String>,
    /// The hosts considered, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostRecord>,
    /// The group that the MX hosts belong to: a provider's name, or the hosts themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The group is held back until then, seconds since 1970, and nobody was connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_until_unix: Option<u64>,
    /// What the replies mean that the table of known replies explains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub explained: Vec<ExplainedReply>,
    /// What it came to: `delivered`, `deferred`, `failed`, or a mixture such as `delivered 2, deferred 1`.
    pub result: String,
}

impl Default for Decision {
    fn default() -> Self {
        Self {
            version: VERSION,
            started_at_unix: 0,
            elapsed_ms: 0,
            route: String::new(),
            destination: String::new(),
            rule: None,
            mx: None,
            sts: None,
            ended_early: None,
            triage: None,
            result_type: None,
            hosts: Vec::new(),
            group: None,
            held_until_unix: None,
            explained: Vec::new(),
            result: String::new(),
        }
    }
}

/// A reply that the table of known replies explains (see `outbound::provider`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExplainedReply {
    /// The host that gave it.
    pub host: String,
    /// The reply in one line.
    pub reply: String,
    /// `rate-limited`, `reputation`, `reverse-name`, `greylisted`, `mailbox-full`, `content`, `authentication`, `dnsbl` or
    /// `temporary`.
    pub class: String,
    /// Whose host it is, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What it means, half a sentence about the server.
    pub meaning: String,
    /// What the administrator can do.
    pub advice: String,
    /// A final refusal that is tried again all the same, because `outbound.retry_blocked` says so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
}

/// The MX lookup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MxRecord {
    /// The domain that was asked for.
    pub domain: String,
    /// `secure`, `insecure`, `bogus` or `unavailable`.
    pub status: String,
    /// The hosts with their preference, in the order in which they are tried. One without preference where the domain
    /// has no MX and is its own host.
    pub hosts: Vec<MxHost>,
    /// The name after all aliases, where it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expanded: Option<String>,
    /// What the validator said about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One MX.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MxHost {
    /// The preference; `None` for the implicit MX.
    pub preference: Option<u16>,
    /// The host.
    pub host: String,
}

/// The MTA-STS policy of the recipient domain (RFC 8461).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StsRecord {
    /// `enforce`, `testing` or `none`; empty where no policy is in force.
    pub mode: String,
    /// The id in the TXT record when the policy was fetched.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The hosts it lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mx: Vec<String>,
    /// How long it may be kept, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
    /// When it was fetched, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetched_at_unix: Option<u64>,
    /// Why there is no policy, or no newer one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// The TLSRPT result type of that (RFC 8460 4.3.2.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_type: Option<String>,
}

/// One host and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostRecord {
    /// The host's name as the MX gives it.
    pub host: String,
    /// DNSSEC status of its addresses: `secure`, `insecure`, `bogus`, `unavailable`; `literal` for an address.
    pub address_status: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// The name after all aliases, where it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expanded: Option<String>,
    /// The aliases from the host's name to its addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<HopRecord>,
    /// The address family whose lookup failed while the other was good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family_error: Option<String>,
    /// The TLSA lookups in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tlsa: Vec<TlsaLookup>,
    /// The TLSA base domain, where secure records were found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_domain: Option<String>,
    /// The names one of which a DANE-TA(2) server must have, where such a record is in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reference_ids: Vec<String>,
    /// The MX records were not secure: what DANE proves here is the host, not that it is the domain's (RFC 7672 2.2.1).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host_only: bool,
    /// After a mismatch the TLSA records were asked for again past our cache: `same` or `changed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_again: Option<String>,
    /// What is required of the connection: `dane`, `encrypt`, `verify`, `opportunistic`, `plaintext`, `none-possible`.
    pub requirement: String,
    /// Why that is required.
    pub requirement_reason: String,
    /// Whether the domain's MTA-STS policy lists the host: `listed` or `not listed`. `None` where the policy has no say
    /// about it: DANE decides, a local rule, a relay host, or there is no policy with mode enforce or testing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sts: Option<String>,
    /// Why the host was not connected to at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// The TLSRPT result type of that, where it is one of security (RFC 8460 4.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_type: Option<String>,
    /// The class of the failure that kept mail from the host (see `outbound::triage`); of the whole host, where several
    /// addresses failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triage: Option<TriageRecord>,
    /// The connections.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tries: Vec<TryRecord>,
}

/// One alias.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HopRecord {
    /// The alias.
    pub owner: String,
    /// What it stands for.
    pub target: String,
    /// DNSSEC status of this hop alone.
    pub status: String,
}

/// A failure as far as it could be understood, and what either side can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TriageRecord {
    /// One word: `stale-tlsa`, `anchor-not-sent`, `name-mismatch`... (see `outbound::triage`).
    pub class: String,
    /// The cause in a clause: "the server's key was changed and its TLSA record was not".
    pub cause: String,
    /// What speaks for it, or against it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// What the operator of the host can do; lines that begin with [`COPIED`] are to be copied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operator: Vec<String>,
    /// What the administrator of this server can do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub here: Vec<String>,
    /// The lines for the configuration that make an exception, with its end date, where one is possible.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exception: Vec<String>,
}

/// One TLSA lookup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsaLookup {
    /// The owner name, `_25._tcp.mx.example.org`.
    pub owner: String,
    /// DNSSEC status of the answer.
    pub status: String,
    /// The records, each as `usage selector matching-type hex`, with ` (unusable: why)` behind those that are.
    pub records: Vec<String>,
    /// What the validator said about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TryRecord {
    /// Address and port.
    pub address: String,
    /// Our own address on this connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How long the connection took to open, in milliseconds; `None` where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<u64>,
    /// Why it did not, in a word: `no-route`, `unreachable`, `refused`, `timeout`, `resources` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_error: Option<String>,
    /// The session was there already: it had carried other messages, and rested. What is said of TLS is from its opening.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reused: Option<ReuseRecord>,
    /// What the server called itself in its reply to EHLO.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub greeting: Option<String>,
    /// `implicit`, `done`, `not offered`, `not used`, `refused` or `failed`.
    pub starttls: String,
    /// The TLS session, or as much of it as there was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsRecord>,
    /// The remote replies that mattered, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replies: Vec<ReplyRecord>,
    /// What this connection came to, in words.
    pub result: String,
    /// The TLSRPT result type, where TLS or the proof of identity failed (RFC 8460 4.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_type: Option<String>,
    /// The class of that failure (see `outbound::triage`): the `failure-reason-code` of RFC 8460 4.4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<String>,
    /// How long it was used, in milliseconds.
    pub elapsed_ms: u64,
}

/// A session that was used again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReuseRecord {
    /// When it was opened and, where that was demanded, the server's identity proved; seconds since 1970.
    pub opened_at_unix: u64,
    /// How old it was, in seconds.
    pub age_seconds: u64,
    /// Which message on it this one is: 2 is the first that rode.
    pub message: u32,
}

/// A TLS session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsRecord {
    /// `TLSv1.2` or `TLSv1.3`; `None` where the handshake did not get so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The cipher suite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
    /// The name sent in SNI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// The certificates presented, leaf first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<CertificateRecord>,
    /// Whether the peer's identity was proved, by which record or root, and at which depth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authenticated_by: Option<String>,
    /// The MX records were not secure: the host is proved to be what it says, not to be the domain's (RFC 7672 2.2.1).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host_only: bool,
    /// Why authentication or the handshake failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Why the system's certificate authorities do not vouch for the certificate, where that was only looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untrusted: Option<String>,
    /// The TLSRPT result type of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untrusted_type: Option<String>,
}

/// One certificate that was presented.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateRecord {
    /// SHA-256 of the SubjectPublicKeyInfo, hex: the data of a `x 1 1` record. `None` where it could not be found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spki_sha256: Option<String>,
    /// SHA-256 of the certificate, hex: the data of a `x 0 1` record.
    pub sha256: String,
    /// Who it is for; kept, as the fields below, where the server was not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Who signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The first names in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// From when it is valid, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<i64>,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<i64>,
}

/// One reply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplyRecord {
    /// To what: `greeting`, `EHLO`, `STARTTLS`, `AUTH`, `MAIL`, `RCPT <address>`, `DATA`, `end of data`.
    pub to: String,
    /// The reply in one line.
    pub reply: String,
    /// Milliseconds since the connection was begun.
    pub at_ms: u64,
}

impl Decision {
    /// The record as JSON text, for the database.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|error| format!("{{\"version\":{VERSION},\"result\":\"{error}\"}}"))
    }

    /// Reads a record that this or an older version wrote.
    ///
    /// # Errors
    ///
    /// When the text is no such record.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}
