//! One lookup told in full, for `mta-cli dns lookup`: the same lookup that a delivery makes.

use hickory_proto::rr::{Name, RecordType};
use mta_dane::dnssec::{Answer, Kind, Status};
use mta_dane::validator::{KnownZone, ZoneProof};
use serde::Serialize;

use super::Resolver;
use mta_smtp::text::is_harmful;

/// A question that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidQuestion {
    /// Not a domain name.
    Name {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// Not a record type.
    Type(String),
}

impl std::fmt::Display for InvalidQuestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name { text, why } => write!(f, "{text:?} is no domain name: {why}"),
            Self::Type(text) => {
                write!(f, "{text:?} is no record type; expected one like MX, A, AAAA, TLSA, TXT")
            }
        }
    }
}

impl std::error::Error for InvalidQuestion {}

/// A lookup and all that is known of it. Texts hold no control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LookupReport {
    /// The name, with its last dot.
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// `secure`, `insecure`, `bogus` or `unavailable`.
    pub status: String,
    /// `data`, `nodata` or `nxdomain`; none where the status is an error.
    pub answer: Option<&'static str>,
    /// The records in presentation format.
    pub records: Vec<String>,
    /// The aliases followed, in order.
    pub hops: Vec<HopReport>,
    /// The zones that the answer lies in, from the root down, as far as they were proven; those of aliases too.
    pub zones: Vec<ZoneReport>,
    /// How long the answer may be reused, in seconds.
    pub ttl: u32,
    /// Why, where there is something to say.
    pub reason: Option<String>,
}

/// One alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HopReport {
    /// The alias.
    pub owner: String,
    /// What it stands for.
    pub target: String,
    /// The status of this hop alone.
    pub status: String,
}

/// One zone on the chain of trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ZoneReport {
    /// Its apex.
    pub zone: String,
    /// `secure`, `insecure`, or `unproven` where its keys did not hold or did not come.
    pub status: &'static str,
    /// Tags of its validated keys, or of the keys that its DS records name.
    pub key_tags: Vec<u16>,
    /// In words.
    pub proof: String,
}

impl ZoneReport {
    /// What is known of a zone.
    pub fn new(known: &KnownZone) -> Self {
        let tags = |tags: &[u16]| tags.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let (status, key_tags, proof) = match &known.proof {
            ZoneProof::Keys(keys) => ("secure", keys.clone(), format!("keys {} are validated", tags(keys))),
            ZoneProof::Delegated(ds) => {
                let proof = format!(
                    "the zone above says that key {} signs it (DS), and no such key was validated",
                    tags(ds)
                );
                ("unproven", ds.clone(), proof)
            }
            ZoneProof::Insecure(how) => ("insecure", Vec::new(), how.clone()),
        };
        Self { zone: printable(&known.zone.to_ascii()), status, key_tags, proof: printable(&proof) }
    }
}

impl LookupReport {
    /// Adds the zones of the name and of everything it is an alias for.
    pub fn add_zones(&mut self, known: impl IntoIterator<Item = KnownZone>) {
        for zone in known {
            let zone = ZoneReport::new(&zone);
            if !self.zones.iter().any(|there| there.zone == zone.zone) {
                self.zones.push(zone);
            }
        }
    }

    /// The exit code of `mta-cli dns lookup`: 0 for secure and insecure, 1 for bogus, 75 for unavailable.
    pub fn exit_code(&self) -> i32 {
        match self.status.as_str() {
            "secure" | "insecure" => 0,
            "bogus" => 1,
            _ => 75,
        }
    }
}

/// Looks up and reports. International names are converted (RFC 5891).
///
/// # Errors
/// Name or type cannot be read.
pub async fn lookup_report(
    resolver: &dyn Resolver,
    name: &str,
    rtype: &str,
) -> Result<LookupReport, InvalidQuestion> {
    let (name, rtype) = question(name, rtype)?;
    let answer = resolver.lookup(name, rtype).await;
    Ok(report(&answer))
}

/// Reads a name and a type as a person writes them. The name is absolute, with or without its last dot.
///
/// # Errors
/// Name or type cannot be read.
pub fn question(name: &str, rtype: &str) -> Result<(Name, RecordType), InvalidQuestion> {
    let invalid = |why: String| InvalidQuestion::Name { text: name.to_owned(), why };
    if name.is_empty() {
        return Err(invalid("it is empty".to_owned()));
    }
    let mut parsed = Name::from_str_relaxed(name).map_err(|e| invalid(e.to_string()))?;
    parsed.set_fqdn(true);
    let upper = rtype.to_ascii_uppercase();
    let number = upper.strip_prefix("TYPE").and_then(|n| n.parse::<u16>().ok()).map(RecordType::from);
    let rtype =
        number.or_else(|| upper.parse().ok()).ok_or_else(|| InvalidQuestion::Type(rtype.to_owned()))?;
    Ok((parsed, rtype))
}

/// An answer as a report.
pub fn report(answer: &Answer) -> LookupReport {
    let kind = match answer.kind {
        Kind::Data => "data",
        Kind::NoData => "nodata",
        Kind::NxDomain => "nxdomain",
    };
    LookupReport {
        name: printable(&answer.name.to_ascii()),
        rtype: answer.rtype.to_string(),
        status: answer.status.to_string(),
        answer: (!answer.status.is_error()).then_some(kind),
        records: answer.records.iter().map(|r| printable(&r.to_string())).collect(),
        hops: answer.hops.iter().map(|h| hop(&h.owner, &h.target, h.status)).collect(),
        zones: Vec::new(),
        ttl: answer.ttl_seconds,
        reason: answer.reason.as_deref().map(printable),
    }
}

fn hop(owner: &Name, target: &Name, status: Status) -> HopReport {
    HopReport {
        owner: printable(&owner.to_ascii()),
        target: printable(&target.to_ascii()),
        status: status.to_string(),
    }
}

/// Control characters as `\DDD`, as in zone files, so that a record cannot write to a terminal.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            out.push_str(&format!("\\{:03}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::FakeResolver;

    #[test]
    fn a_report_tells_status_records_and_hops() {
        let fake = FakeResolver::new();
        fake.cname("mx.example", "real.example", Status::Secure)
            .insecure("real.example", RecordType::A, &["192.0.2.1"])
            .bogus("bad.example", RecordType::MX);
        let got = smol::block_on(lookup_report(&fake, "MX.example", "a")).unwrap();
        assert_eq!((got.status.as_str(), got.answer, got.exit_code()), ("insecure", Some("data"), 0));
        assert_eq!(got.hops.len(), 1);
        assert!(got.records.iter().all(|r| r.contains("192.0.2.1")), "{got:?}");
        let bad = smol::block_on(lookup_report(&fake, "bad.example.", "MX")).unwrap();
        assert_eq!((bad.status.as_str(), bad.answer, bad.exit_code()), ("bogus", None, 1));
        let json = serde_json::to_value(&bad).unwrap();
        assert_eq!(json["type"], "MX");
    }

    #[test]
    fn questions_are_read_as_people_write_them() {
        assert_eq!(question("example.org", "tlsa").unwrap().1, RecordType::TLSA);
        assert!(question("example.org", "tlsa").unwrap().0.is_fqdn());
        assert_eq!(question("bücher.example", "MX").unwrap().0.to_ascii(), "xn--bcher-kva.example.");
        assert_eq!(question("_25._tcp.mx.example", "TYPE52").unwrap().1, RecordType::TLSA);
        assert!(matches!(question("", "A"), Err(InvalidQuestion::Name { .. })));
        assert!(matches!(question("a..b", "A"), Err(InvalidQuestion::Name { .. })));
        assert!(matches!(question("example.org", "mxx"), Err(InvalidQuestion::Type(_))));
    }

    #[test]
    fn nothing_writes_to_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\u{9b}\u{2028}c"), "a\\027[2Jb\\155\\8232c");
    }
}
