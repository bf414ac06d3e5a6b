//! TLSA records (RFC 6698 2, RFC 7671, names of RFC 7218): their fields, their text form, whether SMTP may use them,
//! and which of a set are left after digest agility.
//!
//! What it does not: it compares nothing with a certificate (see `matching`) and judges no DNS status (see `discovery`).

use std::fmt;
use std::str::FromStr;

use hickory_proto::rr::rdata::TLSA;

use crate::der;

/// Certificate usage (RFC 6698 2.1.1, names of RFC 7218 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Usage {
    /// 0: undefined for SMTP, unusable here (RFC 7672 3.1.3).
    PkixTa,
    /// 1: undefined for SMTP, unusable here (RFC 7672 3.1.3).
    PkixEe,
    /// 2: names an issuer above the server's certificate (RFC 7672 3.1.2).
    DaneTa,
    /// 3: names the server's own certificate or key (RFC 7672 3.1.1).
    DaneEe,
    /// 4 to 254: nobody defined it.
    Unassigned(u8),
    /// 255: private use.
    PrivCert,
}

impl From<u8> for Usage {
    fn from(value: u8) -> Self {
        match value {
            0 => Self::PkixTa,
            1 => Self::PkixEe,
            2 => Self::DaneTa,
            3 => Self::DaneEe,
            255 => Self::PrivCert,
            other => Self::Unassigned(other),
        }
    }
}

impl From<Usage> for u8 {
    fn from(usage: Usage) -> Self {
        match usage {
            Usage::PkixTa => 0,
            Usage::PkixEe => 1,
            Usage::DaneTa => 2,
            Usage::DaneEe => 3,
            Usage::Unassigned(other) => other,
            Usage::PrivCert => 255,
        }
    }
}

impl fmt::Display for Usage {
    /// The acronym of RFC 7218 with the number, for example `DANE-EE(3)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::PkixTa => "PKIX-TA",
            Self::PkixEe => "PKIX-EE",
            Self::DaneTa => "DANE-TA",
            Self::DaneEe => "DANE-EE",
            Self::Unassigned(_) => "unassigned usage ",
            Self::PrivCert => "PrivCert",
        };
        write!(f, "{name}({})", u8::from(*self))
    }
}

/// Selector (RFC 6698 2.1.2, names of RFC 7218 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// 0: the whole certificate.
    Cert,
    /// 1: the SubjectPublicKeyInfo.
    Spki,
    /// 2 to 254: nobody defined it.
    Unassigned(u8),
    /// 255: private use.
    PrivSel,
}

impl From<u8> for Selector {
    fn from(value: u8) -> Self {
        match value {
            0 => Self::Cert,
            1 => Self::Spki,
            255 => Self::PrivSel,
            other => Self::Unassigned(other),
        }
    }
}

impl From<Selector> for u8 {
    fn from(selector: Selector) -> Self {
        match selector {
            Selector::Cert => 0,
            Selector::Spki => 1,
            Selector::Unassigned(other) => other,
            Selector::PrivSel => 255,
        }
    }
}

impl fmt::Display for Selector {
    /// The acronym of RFC 7218 with the number, for example `SPKI(1)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Cert => "Cert",
            Self::Spki => "SPKI",
            Self::Unassigned(_) => "unassigned selector ",
            Self::PrivSel => "PrivSel",
        };
        write!(f, "{name}({})", u8::from(*self))
    }
}

/// Matching type (RFC 6698 2.1.3, names of RFC 7218 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Matching {
    /// 0: the selected bytes themselves.
    Full,
    /// 1: their SHA-256 digest.
    Sha256,
    /// 2: their SHA-512 digest.
    Sha512,
    /// 3 to 254: nobody defined it.
    Unassigned(u8),
    /// 255: private use.
    PrivMatch,
}

impl From<u8> for Matching {
    fn from(value: u8) -> Self {
        match value {
            0 => Self::Full,
            1 => Self::Sha256,
            2 => Self::Sha512,
            255 => Self::PrivMatch,
            other => Self::Unassigned(other),
        }
    }
}

impl From<Matching> for u8 {
    fn from(matching: Matching) -> Self {
        match matching {
            Matching::Full => 0,
            Matching::Sha256 => 1,
            Matching::Sha512 => 2,
            Matching::Unassigned(other) => other,
            Matching::PrivMatch => 255,
        }
    }
}

impl fmt::Display for Matching {
    /// The acronym of RFC 7218 with the number, for example `SHA2-256(1)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Full => "Full",
            Self::Sha256 => "SHA2-256",
            Self::Sha512 => "SHA2-512",
            Self::Unassigned(_) => "unassigned matching type ",
            Self::PrivMatch => "PrivMatch",
        };
        write!(f, "{name}({})", u8::from(*self))
    }
}

/// One TLSA record's data.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TlsaRecord {
    /// What kind of certificate the record names.
    pub usage: Usage,
    /// Which part of it is compared.
    pub selector: Selector,
    /// In which form.
    pub matching: Matching,
    /// The certificate association data, as it came.
    pub data: Vec<u8>,
}

impl TlsaRecord {
    /// A record from its four fields as they stand in DNS.
    pub fn new(usage: u8, selector: u8, matching: u8, data: impl Into<Vec<u8>>) -> Self {
        Self { usage: usage.into(), selector: selector.into(), matching: matching.into(), data: data.into() }
    }

    /// Whether SMTP may use this record (RFC 6698 4.1, RFC 7672 3.1), and if not, why.
    ///
    /// # Errors
    /// The first rule that the record breaks.
    pub fn usable(&self) -> Result<(), Unusable> {
        match self.usage {
            Usage::DaneTa | Usage::DaneEe => {}
            Usage::PkixTa | Usage::PkixEe => return Err(Unusable::PkixUsage(self.usage)),
            Usage::Unassigned(_) | Usage::PrivCert => return Err(Unusable::Usage(self.usage.into())),
        }
        if matches!(self.selector, Selector::Unassigned(_) | Selector::PrivSel) {
            return Err(Unusable::Selector(self.selector.into()));
        }
        match self.matching {
            Matching::Full => self.full_data_usable(),
            Matching::Sha256 => self.digest_usable(SHA256_LENGTH),
            Matching::Sha512 => self.digest_usable(SHA512_LENGTH),
            Matching::Unassigned(_) | Matching::PrivMatch => Err(Unusable::Matching(self.matching.into())),
        }
    }

    /// Full data must be exactly one certificate or one key, nothing behind it.
    fn full_data_usable(&self) -> Result<(), Unusable> {
        if self.data.is_empty() {
            return Err(Unusable::Empty);
        }
        match self.selector {
            Selector::Cert => {
                der::Certificate::parse(&self.data).map(|_| ()).map_err(|_| Unusable::NotACertificate)
            }
            _ => der::is_spki(&self.data).then_some(()).ok_or(Unusable::NotAPublicKey),
        }
    }

    fn digest_usable(&self, expected: usize) -> Result<(), Unusable> {
        match self.data.len() {
            0 => Err(Unusable::Empty),
            length if length != expected => Err(Unusable::DigestLength { expected, length }),
            _ => Ok(()),
        }
    }

    /// The three numbers and at most the first 16 bytes of the data: for log lines and stories.
    pub fn short(&self) -> String {
        let (usage, selector, matching) = self.numbers();
        let head: String =
            self.data.iter().take(SHORT_DATA_BYTES).map(|byte| format!("{byte:02x}")).collect();
        let dots = if self.data.len() > SHORT_DATA_BYTES { "..." } else { "" };
        format!("{usage} {selector} {matching} {head}{dots}")
    }

    /// Usage, selector and matching type as numbers.
    pub fn numbers(&self) -> (u8, u8, u8) {
        (self.usage.into(), self.selector.into(), self.matching.into())
    }
}

impl From<&TLSA> for TlsaRecord {
    fn from(rdata: &TLSA) -> Self {
        Self::new(
            u8::from(rdata.cert_usage),
            u8::from(rdata.selector),
            u8::from(rdata.matching),
            rdata.cert_data.clone(),
        )
    }
}

impl fmt::Display for TlsaRecord {
    /// Presentation form of RFC 6698 2.2 without spaces in the hex: `3 1 1 0123...` (also RFC 8460 4.4).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (usage, selector, matching) = self.numbers();
        write!(f, "{usage} {selector} {matching} ")?;
        self.data.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a text is no TLSA record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseError {
    /// Fewer than the three leading numbers.
    MissingField(&'static str),
    /// A field that is no number from 0 to 255.
    BadNumber {
        /// Which field.
        field: &'static str,
        /// What stood there.
        text: String,
    },
    /// The data has a character that is no hexadecimal digit.
    BadHex,
    /// The data has an odd number of digits.
    OddHex,
    /// More data than a DNS record can hold.
    TooLong,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingField(field) => {
                write!(f, "the {field} is missing; expected \"USAGE SELECTOR MATCHING HEX\"")
            }
            Self::BadNumber { field, text } => {
                write!(f, "the {field} \"{}\" is no number from 0 to 255", text.escape_debug())
            }
            Self::BadHex => f.write_str("the certificate association data is not hexadecimal"),
            Self::OddHex => {
                f.write_str("the certificate association data has an odd number of hexadecimal digits")
            }
            Self::TooLong => f.write_str("the certificate association data does not fit into a DNS record"),
        }
    }
}

impl std::error::Error for ParseError {}

impl FromStr for TlsaRecord {
    type Err = ParseError;

    /// `USAGE SELECTOR MATCHING HEX`, numbers in decimal, white space allowed within the hex (RFC 6698 2.2).
    /// Data may be empty here: that record exists in DNS too, and is unusable (E3).
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut fields = text.split_ascii_whitespace();
        let mut number = |field: &'static str| {
            let text = fields.next().ok_or(ParseError::MissingField(field))?;
            text.parse::<u8>().map_err(|_| ParseError::BadNumber { field, text: text.to_owned() })
        };
        let (usage, selector, matching) = (number("usage")?, number("selector")?, number("matching type")?);
        let digits: Vec<u8> = fields.flat_map(str::bytes).collect();
        if digits.len() > 2 * MAX_DATA_BYTES {
            return Err(ParseError::TooLong);
        }
        Ok(Self::new(usage, selector, matching, decode_hex(&digits)?))
    }
}

fn decode_hex(digits: &[u8]) -> Result<Vec<u8>, ParseError> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|v| u8::try_from(v).ok());
    if digits.iter().any(|digit| value(*digit).is_none()) {
        return Err(ParseError::BadHex);
    }
    if !digits.len().is_multiple_of(2) {
        return Err(ParseError::OddHex);
    }
    digits
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => {
                value(*high).zip(value(*low)).map(|(high, low)| high << 4 | low).ok_or(ParseError::BadHex)
            }
            _ => Err(ParseError::OddHex),
        })
        .collect()
}

/// Why SMTP cannot use a record (RFC 6698 4.1). The reasons are for people: an unusable record is simply left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Unusable {
    /// PKIX-TA(0) or PKIX-EE(1): undefined for SMTP (RFC 7672 3.1.3).
    PkixUsage(Usage),
    /// A usage that nobody defined, or private use.
    Usage(u8),
    /// A selector that nobody defined, or private use.
    Selector(u8),
    /// A matching type that nobody defined, or private use.
    Matching(u8),
    /// No data at all.
    Empty,
    /// A digest of the wrong length.
    DigestLength {
        /// Bytes that the matching type demands.
        expected: usize,
        /// Bytes that the record has.
        length: usize,
    },
    /// Matching type Full, selector Cert, and the data is not exactly one certificate.
    NotACertificate,
    /// Matching type Full, selector SPKI, and the data is not exactly one public key.
    NotAPublicKey,
    /// Local policy calls the matching type too weak (E11).
    TooWeak(Matching),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PkixUsage(usage) => {
                write!(f, "{usage} is not defined for SMTP; publish DANE-EE(3) or DANE-TA(2)")
            }
            Self::Usage(value) => write!(f, "certificate usage {value} is not defined"),
            Self::Selector(value) => write!(f, "selector {value} is not defined"),
            Self::Matching(value) => write!(f, "matching type {value} is not defined"),
            Self::Empty => f.write_str("it has no certificate association data"),
            Self::DigestLength { expected, length } => {
                write!(f, "its digest has {length} bytes, the matching type needs {expected}")
            }
            Self::NotACertificate => f.write_str("its data is not exactly one DER certificate"),
            Self::NotAPublicKey => {
                f.write_str("its data is not exactly one DER public key (SubjectPublicKeyInfo)")
            }
            Self::TooWeak(matching) => write!(f, "local policy does not accept {matching}"),
        }
    }
}

/// The digests that may be used, strongest first (RFC 7671 9). A matching type that is not listed is too weak (E11).
/// Full(0) is no digest, is never superseded, and is always allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestOrder(Vec<Matching>);

impl DigestOrder {
    /// An order of one's own, strongest first. Entries other than SHA2-256 and SHA2-512 have no effect.
    pub fn new(strongest_first: impl IntoIterator<Item = Matching>) -> Self {
        Self(strongest_first.into_iter().collect())
    }

    fn rank(&self, matching: Matching) -> Option<usize> {
        self.0.iter().position(|known| *known == matching)
    }
}

impl Default for DigestOrder {
    /// SHA2-512 before SHA2-256.
    fn default() -> Self {
        Self(vec![Matching::Sha512, Matching::Sha256])
    }
}

/// What is left of a TLSA RRset after the rules of usability and digest agility.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// The records to match against: DANE-EE(3) first, as it is the cheapest to check (H11).
    pub records: Vec<TlsaRecord>,
    /// Usable, but a stronger digest exists for the same usage and selector (RFC 7671 9).
    pub superseded: Vec<TlsaRecord>,
    /// The rest, each with its reason.
    pub unusable: Vec<(TlsaRecord, Unusable)>,
}

/// Splits a TLSA RRset: malformed and undefined records first (RFC 6698 4.1), then, for each (usage, selector), Full(0)
/// and only the strongest digest stay (RFC 7671 9, RFC 7672 5). The order of the input does not matter.
pub fn select(records: &[TlsaRecord], order: &DigestOrder) -> Selection {
    let mut sorted = records.to_vec();
    // Highest usage first, so that DANE-EE(3) comes before DANE-TA(2).
    sorted.sort_by(|a, b| b.usage.cmp(&a.usage).then_with(|| a.cmp(b)));
    sorted.dedup();
    let mut selection = Selection::default();
    let mut usable = Vec::new();
    for record in sorted {
        let verdict = record.usable().and_then(|()| {
            let allowed = record.matching == Matching::Full || order.rank(record.matching).is_some();
            allowed.then_some(()).ok_or(Unusable::TooWeak(record.matching))
        });
        match verdict {
            Ok(()) => usable.push(record),
            Err(why) => selection.unusable.push((record, why)),
        }
    }
    let strongest = |of: &TlsaRecord| {
        usable
            .iter()
            .filter(|other| other.usage == of.usage && other.selector == of.selector)
            .filter_map(|other| order.rank(other.matching))
            .min()
    };
    for record in &usable {
        if record.matching == Matching::Full || order.rank(record.matching) == strongest(record) {
            selection.records.push(record.clone());
        } else {
            selection.superseded.push(record.clone());
        }
    }
    selection
}

/// Bytes of a SHA-256 digest.
const SHA256_LENGTH: usize = 32;
/// Bytes of a SHA-512 digest.
const SHA512_LENGTH: usize = 64;
/// RDATA has at most 65535 bytes, three of which are the numbers.
const MAX_DATA_BYTES: usize = 65_532;
/// How much of the data `short` shows.
const SHORT_DATA_BYTES: usize = 16;
