//! A tolerant walk over the DER of X.509 certificates: it finds the fields DANE needs and refuses as little as it can,
//! because for DANE-EE(3) the key matters and nothing else (RFC 7671 5.1).
//!
//! What it does not: it judges nothing. Extensions are read only when asked for, and only DANE-TA asks.

use std::fmt;

/// The bytes are not what was expected there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Malformed(
    /// Which field could not be read.
    pub &'static str,
);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read its {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// One tag-length-value element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    /// The identifier octet. Multi-byte tags do not occur in certificates and are refused.
    pub(crate) tag: u8,
    /// The content alone.
    pub(crate) content: &'a [u8],
    /// Tag, length and content.
    pub(crate) whole: &'a [u8],
}

/// Reads elements one behind the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, or `None` where the bytes end or are no element.
    pub(crate) fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, mut rest) = rest.split_first()?;
        let length = match first {
            0..=0x7f => usize::from(first),
            0x81..=0x84 => {
                let (octets, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
                rest = after;
                octets.iter().fold(0_usize, |length, octet| length << 8 | usize::from(*octet))
            }
            // Indefinite lengths are no DER; longer ones do not fit anywhere.
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        let (whole, _) = self.0.split_at_checked(self.0.len().checked_sub(after.len())?)?;
        self.0 = after;
        Some(Element { tag, content, whole })
    }

    /// The next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8, field: &'static str) -> Result<Element<'a>, Malformed> {
        self.next().filter(|element| element.tag == tag).ok_or(Malformed(field))
    }

    /// The next element if it has this tag; nothing is consumed otherwise.
    pub(crate) fn optional(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.next().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element)
    }
}

/// The only element in these bytes, with nothing behind it.
pub(crate) fn single(bytes: &[u8], tag: u8) -> Option<Element<'_>> {
    let mut reader = Reader::new(bytes);
    reader.next().filter(|element| element.tag == tag && reader.is_empty())
}

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// Whether the bytes are exactly one SubjectPublicKeyInfo (RFC 5280 4.1.2.7): an algorithm with an OID, and a bit
/// string with whole octets. The key itself is not looked into: an algorithm unknown to us is still a key.
pub fn is_spki(bytes: &[u8]) -> bool {
    let Some(outer) = single(bytes, SEQUENCE) else { return false };
    let mut fields = Reader::new(outer.content);
    let Ok(algorithm) = fields.expect(SEQUENCE, "key algorithm") else { return false };
    if Reader::new(algorithm.content).expect(OID, "key algorithm").is_err() {
        return false;
    }
    let Ok(key) = fields.expect(BIT_STRING, "key") else { return false };
    fields.is_empty() && matches!(key.content, [0, _, ..])
}

/// A certificate as far as any certificate can be read. The references point into the caller's bytes.
#[derive(Debug, Clone, Copy)]
pub struct Certificate<'a> {
    /// The whole certificate.
    pub der: &'a [u8],
    /// The part that is signed, with its header.
    pub tbs: &'a [u8],
    /// 1, 2 or 3 as in "X.509 v3"; odd ones are no error here.
    pub version: u8,
    /// The serial number's octets.
    pub serial: &'a [u8],
    /// Content of the signature algorithm inside the signed part.
    pub inner_algorithm: &'a [u8],
    /// Content of the issuer name.
    pub issuer: &'a [u8],
    /// Content of the validity sequence.
    pub validity: &'a [u8],
    /// Content of the subject name.
    pub subject: &'a [u8],
    /// The SubjectPublicKeyInfo with its header: what selector SPKI(1) selects.
    pub spki: &'a [u8],
    /// Everything behind the key: unique identifiers and extensions, unread.
    tail: &'a [u8],
    /// Content of the signature algorithm outside the signed part.
    pub algorithm: &'a [u8],
    /// The signature's octets.
    pub signature: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads a certificate that fills the bytes exactly.
    ///
    /// # Errors
    /// Which field is not there. Odd versions, extensions, names and dates are no error here.
    pub fn parse(der: &'a [u8]) -> Result<Self, Malformed> {
        let outer = single(der, SEQUENCE).ok_or(Malformed("outer structure"))?;
        let mut outer = Reader::new(outer.content);
        let tbs = outer.expect(SEQUENCE, "signed part")?;
        let algorithm = outer.expect(SEQUENCE, "signature algorithm")?;
        let signature = outer.expect(BIT_STRING, "signature")?;
        let mut fields = Reader::new(tbs.content);
        let version = match fields.optional(VERSION) {
            Some(element) => match single(element.content, INTEGER).map(|version| version.content) {
                Some([version]) => version.saturating_add(1),
                _ => return Err(Malformed("version")),
            },
            None => 1,
        };
        let serial = fields.expect(INTEGER, "serial number")?;
        let inner_algorithm = fields.expect(SEQUENCE, "inner signature algorithm")?;
        let issuer = fields.expect(SEQUENCE, "issuer")?;
        let validity = fields.expect(SEQUENCE, "validity")?;
        let subject = fields.expect(SEQUENCE, "subject")?;
        let spki = fields.expect(SEQUENCE, "public key")?;
        if !is_spki(spki.whole) || !outer.is_empty() {
            return Err(Malformed("public key"));
        }
        Ok(Self {
            der,
            tbs: tbs.whole,
            version,
            serial: serial.content,
            inner_algorithm: inner_algorithm.content,
            issuer: issuer.content,
            validity: validity.content,
            subject: subject.content,
            spki: spki.whole,
            tail: fields.0,
            algorithm: algorithm.content,
            // A signature with unused bits is none; it stays empty and holds for nothing.
            signature: signature.content.strip_prefix(&[0]).unwrap_or_default(),
        })
    }

    /// Not before and not after, in seconds since 1970.
    ///
    /// # Errors
    /// A date that cannot be read.
    pub fn dates(&self) -> Result<(i64, i64), Malformed> {
        let mut dates = Reader::new(self.validity);
        let mut date = || dates.next().and_then(|date| unix_time(date.tag, date.content));
        let not_before = date().ok_or(Malformed("not-before date"))?;
        let not_after = date().ok_or(Malformed("not-after date"))?;
        Ok((not_before, not_after))
    }

    /// Whether issuer and subject are the same name.
    pub fn is_self_issued(&self) -> bool {
        same_name(self.issuer, self.subject)
    }

    /// The extensions as (OID content, critical, value), unread beyond that. Empty for certificates without any.
    ///
    /// # Errors
    /// The list is not a list of extensions.
    pub(crate) fn extensions(&self) -> Result<Vec<Extension<'a>>, Malformed> {
        const FIELD: Malformed = Malformed("extensions");
        let mut tail = Reader::new(self.tail);
        let mut list = None;
        while !tail.is_empty() {
            let element = tail.next().ok_or(FIELD)?;
            match element.tag {
                ISSUER_UNIQUE_ID | SUBJECT_UNIQUE_ID if list.is_none() => {}
                EXTENSIONS if list.is_none() => list = Some(single(element.content, SEQUENCE).ok_or(FIELD)?),
                _ => return Err(FIELD),
            }
        }
        let mut items = Reader::new(list.map_or(&[][..], |list| list.content));
        let mut extensions: Vec<Extension<'a>> = Vec::new();
        while !items.is_empty() {
            let mut item = Reader::new(items.expect(SEQUENCE, "extensions")?.content);
            let oid = item.expect(OID, "extensions")?.content;
            let critical = item.optional(BOOLEAN).is_some_and(|flag| flag.content != [0]);
            let value = item.expect(OCTET_STRING, "extensions")?.content;
            // The same extension twice would let two readers see two certificates (RFC 5280 4.2).
            if !item.is_empty() || extensions.iter().any(|known| known.oid == oid) {
                return Err(FIELD);
            }
            extensions.push(Extension { oid, critical, value });
        }
        Ok(extensions)
    }
}

/// One X.509 extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extension<'a> {
    /// Content octets of its object identifier.
    pub(crate) oid: &'a [u8],
    /// Whether a reader that does not know it must refuse the certificate.
    pub(crate) critical: bool,
    /// The value, DER of its own.
    pub(crate) value: &'a [u8],
}

const VERSION: u8 = 0xa0;
const ISSUER_UNIQUE_ID: u8 = 0x81;
const SUBJECT_UNIQUE_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;

/// A UTCTime or GeneralizedTime in the form RFC 5280 4.1.2.5 demands, in seconds since 1970.
fn unix_time(tag: u8, text: &[u8]) -> Option<i64> {
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year = decimal(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (decimal(year)?, rest)
        }
        _ => return None,
    };
    let (digits, zone) = rest.split_at_checked(10)?;
    if zone != b"Z" {
        return None;
    }
    let mut parts = digits.chunks_exact(2).map(decimal);
    let mut part =
        |least: i64, most: i64| parts.next().flatten().filter(|value| (least..=most).contains(value));
    let (month, day, hour) = (part(1, 12)?, part(1, 31)?, part(0, 23)?);
    let (minute, second) = (part(0, 59)?, part(0, 59)?);
    Some(((days_since_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

fn decimal(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0_i64, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. A day that the month does not have counts on into the next.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March put the leap day at their end.
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + day_of_year - DAYS_FROM_YEAR_ZERO
}

/// Days from 0000-03-01 to 1970-01-01.
const DAYS_FROM_YEAR_ZERO: i64 = 719_468;

/// A date and time in seconds since 1970 as RFC 3339 text in UTC, for stories and log lines.
pub fn date_text(unix_seconds: i64) -> String {
    let (days, rest) = (unix_seconds.div_euclid(86_400), unix_seconds.rem_euclid(86_400));
    let shifted = days + DAYS_FROM_YEAR_ZERO;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// A distinguished name as people read it: `CN=mx1.example.net, O=Example`. Control bytes and non-ASCII are escaped,
/// unknown attributes shown as `?`; it is for display, never for comparison.
pub fn name_text(name: &[u8]) -> String {
    let mut parts = Vec::new();
    for (oid, value) in attributes(name).into_iter().take(MAX_SHOWN_ATTRIBUTES) {
        let label = match oid {
            COMMON_NAME => "CN",
            [0x55, 0x04, 0x06] => "C",
            [0x55, 0x04, 0x07] => "L",
            [0x55, 0x04, 0x08] => "ST",
            [0x55, 0x04, 0x0a] => "O",
            [0x55, 0x04, 0x0b] => "OU",
            _ => "?",
        };
        let shown = value.get(..value.len().min(MAX_SHOWN_BYTES)).unwrap_or_default();
        parts.push(format!("{label}={}", shown.escape_ascii()));
    }
    if parts.is_empty() { "(empty name)".to_owned() } else { parts.join(", ") }
}

/// The (type, value) pairs of a distinguished name in order; what cannot be read ends the list.
pub(crate) fn attributes(name: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut found = Vec::new();
    let mut sets = Reader::new(name);
    while let Some(set) = sets.next().filter(|set| set.tag == SET) {
        let mut pairs = Reader::new(set.content);
        while let Some(pair) = pairs.next().filter(|pair| pair.tag == SEQUENCE) {
            let mut pair = Reader::new(pair.content);
            let Some(oid) = pair.optional(OID) else { continue };
            let Some(value) = pair.next() else { continue };
            found.push((oid.content, value.content));
        }
    }
    found
}

/// Whether two distinguished names are the same: byte for byte, or attribute by attribute without regard to string types,
/// letter case and runs of spaces (RFC 5280 7.1). Signatures, not names, are what binds a path together.
pub(crate) fn same_name(a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    let (mut a, mut b) = (Reader::new(a), Reader::new(b));
    while !a.is_empty() && !b.is_empty() {
        match (a.next(), b.next()) {
            (Some(a), Some(b)) if a.tag == SET && b.tag == SET && same_set(a.content, b.content) => {}
            _ => return false,
        }
    }
    a.is_empty() && b.is_empty()
}

/// The same for one relative name.
pub(crate) fn same_set(a: &[u8], b: &[u8]) -> bool {
    let pairs = |set: &[u8]| -> Option<Vec<(Vec<u8>, String)>> {
        let mut pairs = Vec::new();
        let mut list = Reader::new(set);
        while !list.is_empty() {
            let mut pair = Reader::new(list.next()?.content);
            let (oid, value) = (pair.next()?, pair.next()?);
            let value = String::from_utf8_lossy(value.content).to_lowercase();
            pairs.push((oid.content.to_vec(), value.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
        pairs.sort();
        Some(pairs)
    };
    a == b || matches!((pairs(a), pairs(b)), (Some(a), Some(b)) if a == b)
}

/// id-at-commonName, 2.5.4.3.
pub(crate) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const MAX_SHOWN_ATTRIBUTES: usize = 8;
const MAX_SHOWN_BYTES: usize = 128;
