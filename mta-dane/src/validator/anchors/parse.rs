//! The trust anchor file formats that distributions ship.
//!
//! It reads zone-file records (`. 86400 IN DS 20326 8 2 E06D…`, with comments after `;`, parentheses over several lines
//! and base64 in pieces) and BIND's statements (`trust-anchors { . initial-key 257 3 8 "…"; };`). It does not read the XML
//! of the root zone's managers.

use hickory_proto::dnssec::rdata::{DNSKEY, DS};
use hickory_proto::dnssec::{Algorithm, DigestType, PublicKeyBuf};
use hickory_proto::rr::Name;

use super::{AnchorError, TrustAnchors};

/// A word with the line it stands in.
type Token = (usize, String);

pub(super) fn parse(text: &str) -> Result<TrustAnchors, AnchorError> {
    let mut anchors = TrustAnchors::empty();
    for entry in entries(text) {
        add(&mut anchors, &entry)?;
    }
    if anchors.is_empty() {
        return Err(AnchorError { line: 1, what: "no DS or DNSKEY record in the file".into() });
    }
    Ok(anchors)
}

/// Splits the text into entries: one per line outside parentheses and braces, one per `;` inside braces.
fn entries(text: &str) -> Vec<Vec<Token>> {
    let mut scan = Scan::default();
    for (index, line) in text.lines().enumerate() {
        scan.line(index + 1, line);
    }
    scan.end_entry();
    scan.entries
}

#[derive(Default)]
struct Scan {
    entries: Vec<Vec<Token>>,
    entry: Vec<Token>,
    word: String,
    round: usize,
    braces: usize,
    in_comment: bool,
    in_quotes: bool,
}

impl Scan {
    fn line(&mut self, number: usize, line: &str) {
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            let next = chars.peek().copied();
            if self.in_comment {
                if c == '*' && next == Some('/') {
                    chars.next();
                    self.in_comment = false;
                }
                continue;
            }
            match c {
                '"' => self.in_quotes = !self.in_quotes,
                // Base64 may be broken over lines inside BIND's quotes, and holds '/' itself.
                c if self.in_quotes => {
                    if !c.is_whitespace() {
                        self.word.push(c);
                    }
                }
                '#' => break,
                // A piece of base64 may begin with two slashes; a comment does so only where a record could begin.
                '/' if next == Some('/') && self.between_records() => break,
                '/' if next == Some('*') && self.between_records() => {
                    chars.next();
                    self.in_comment = true;
                }
                ';' if self.braces == 0 => break,
                ';' => {
                    self.end_word(number);
                    self.end_entry();
                }
                '{' => {
                    self.braces += 1;
                    // The statement's name is no entry.
                    self.word.clear();
                    self.entry.clear();
                }
                '}' => {
                    self.end_word(number);
                    self.end_entry();
                    self.braces = self.braces.saturating_sub(1);
                    // The semicolon after a statement's brace must not read as a comment's beginning only.
                    if chars.peek() == Some(&';') {
                        chars.next();
                    }
                }
                '(' => self.round += 1,
                ')' => self.round = self.round.saturating_sub(1),
                c if c.is_whitespace() => self.end_word(number),
                c => self.word.push(c),
            }
        }
        if !self.in_quotes {
            self.end_word(number);
        }
        if self.round == 0 && self.braces == 0 {
            self.end_entry();
        }
    }

    fn between_records(&self) -> bool {
        self.word.is_empty() && self.entry.is_empty()
    }

    fn end_word(&mut self, line: usize) {
        if !self.word.is_empty() {
            self.entry.push((line, std::mem::take(&mut self.word)));
        }
    }

    fn end_entry(&mut self) {
        if !self.entry.is_empty() {
            self.entries.push(std::mem::take(&mut self.entry));
        }
    }
}

/// The words BIND puts between the name and the fields.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Form {
    Ds,
    Key,
}

fn add(anchors: &mut TrustAnchors, entry: &[Token]) -> Result<(), AnchorError> {
    let Some((line, first)) = entry.first() else { return Ok(()) };
    let line = *line;
    // Directives of a zone file ($TTL, $ORIGIN) and unbound's own state carry no anchor; a brace-less statement name
    // (`trust-anchors` with the brace on the next line) carries none either.
    if first.starts_with('$') || (entry.len() == 1 && is_statement(first)) {
        return Ok(());
    }
    let name = Name::from_ascii(first).map_err(|e| error(line, format!("{first:?} is no zone name: {e}")))?;
    let (form, fields) = form_of(line, entry.get(1..).unwrap_or_default())?;
    let words: Vec<&str> = fields.iter().map(|(_, word)| word.as_str()).collect();
    match form {
        Form::Ds => anchors.add_ds(name, ds(line, &words)?),
        Form::Key => anchors.add_key(name, key(line, &words)?),
    }
    Ok(())
}

fn is_statement(word: &str) -> bool {
    matches!(word, "trust-anchors" | "managed-keys" | "trusted-keys")
}

/// Skips TTL and class and reads the type word, which `trusted-keys` leaves out.
fn form_of(line: usize, tokens: &[Token]) -> Result<(Form, &[Token]), AnchorError> {
    for (index, (_, word)) in tokens.iter().enumerate() {
        let rest = tokens.get(index + 1..).unwrap_or_default();
        match word.to_ascii_uppercase().as_str() {
            "DS" | "INITIAL-DS" | "STATIC-DS" => return Ok((Form::Ds, rest)),
            "DNSKEY" | "INITIAL-KEY" | "STATIC-KEY" => return Ok((Form::Key, rest)),
            "IN" => {}
            w if w.bytes().all(|b| b.is_ascii_digit()) => {
                // `trusted-keys { . 257 3 8 "…" }`: flags, protocol 3; a TTL is followed by a class or a type.
                if tokens.get(index + 1).is_some_and(|(_, next)| next == "3") {
                    return Ok((Form::Key, tokens.get(index..).unwrap_or_default()));
                }
            }
            other => return Err(error(line, format!("expected DS or DNSKEY, found {other:?}"))),
        }
    }
    Err(error(line, "expected a DS or DNSKEY record"))
}

fn ds(line: usize, words: &[&str]) -> Result<DS, AnchorError> {
    let [tag, algorithm, digest_type, digest @ ..] = words else {
        return Err(error(line, "a DS needs key tag, algorithm, digest type and digest"));
    };
    let tag = number::<u16>(line, tag, "key tag")?;
    let algorithm = Algorithm::from_u8(number::<u8>(line, algorithm, "algorithm number")?);
    let digest_type = DigestType::from(number::<u8>(line, digest_type, "digest type number")?);
    let digest = hex(&digest.concat()).ok_or_else(|| error(line, "the digest is not hexadecimal"))?;
    if !digest_length_fits(digest_type, digest.len()) {
        return Err(error(line, "the digest has the wrong length for its type"));
    }
    Ok(DS::new(tag, algorithm, digest_type, digest))
}

fn digest_length_fits(digest_type: DigestType, len: usize) -> bool {
    match digest_type {
        DigestType::SHA1 => len == 20,
        DigestType::SHA256 => len == 32,
        DigestType::SHA384 => len == 48,
        _ => len > 0,
    }
}

fn key(line: usize, words: &[&str]) -> Result<DNSKEY, AnchorError> {
    let [flags, protocol, algorithm, data @ ..] = words else {
        return Err(error(line, "a DNSKEY needs flags, protocol, algorithm and key"));
    };
    let flags = number::<u16>(line, flags, "flags")?;
    if *protocol != "3" {
        return Err(error(line, "the protocol field of a DNSKEY must be 3 (RFC 4034 2.1.2)"));
    }
    let algorithm = Algorithm::from_u8(number::<u8>(line, algorithm, "algorithm number")?);
    let data = base64(&data.concat()).ok_or_else(|| error(line, "the key is not base64"))?;
    let key = DNSKEY::with_flags(flags, PublicKeyBuf::new(data, algorithm));
    if !key.zone_key() || key.revoke() {
        return Err(error(line, "the key is no zone key, or revoked"));
    }
    Ok(key)
}

fn number<T: std::str::FromStr>(line: usize, word: &str, what: &str) -> Result<T, AnchorError> {
    word.parse().map_err(|_| error(line, format!("expected the {what}, found {word:?}")))
}

fn error(line: usize, what: impl Into<String>) -> AnchorError {
    AnchorError { line, what: what.into() }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Base64 with padding (RFC 4648 4), strict about everything except the unused bits of the last letter.
fn base64(text: &str) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=');
    if body.is_empty() || !text.len().is_multiple_of(4) || text.len() - body.len() > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(body.len() * 3 / 4);
    let mut bits = 0_u32;
    let mut count = 0_u32;
    for c in body.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0x3fff;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(out)
}
