//! The exact bytes that a signature covers (RFC 4034 3.1.8.1 and 6, RFC 6840 5.1).
//!
//! It is built here, and not by hickory-proto, so that records whose TTLs differ and records that came twice are put in
//! order by their data alone, and so that the target of a DNAME is lower-cased too.

use hickory_proto::dnssec::rdata::RRSIG;
use hickory_proto::rr::{Name, RData};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};

use super::names;

/// The RDATA of a record in canonical form; `None` where it cannot be written.
pub(super) fn rdata(data: &RData) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_canonical_form(true);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    data.emit(&mut encoder).ok()?;
    // Types whose names hickory-proto does not know as names (RFC 4034 6.2). Length octets are below 64, so lower-casing
    // every byte of a name touches letters of labels only; some names stand behind a 16-bit number.
    match u16::from(data.record_type()) {
        DNAME | MINFO | RP => bytes.make_ascii_lowercase(),
        AFSDB | RT | PX | KX => bytes.iter_mut().skip(2).for_each(u8::make_ascii_lowercase),
        _ => {}
    }
    Some(bytes)
}

/// The data that `rrsig` signs, for a set of records given in canonical RDATA form, sorted and without duplicates.
/// `None` where the label count of the signature exceeds the owner's, or something cannot be written.
pub(super) fn signed_data(owner: &Name, rrsig: &RRSIG, rdata: &[Vec<u8>]) -> Option<Vec<u8>> {
    let input = rrsig.input();
    let owner = signed_owner(owner, input.num_labels)?;
    let mut bytes = Vec::new();
    {
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_canonical_form(true);
        encoder.set_name_encoding(NameEncoding::Uncompressed);
        input.emit(&mut encoder).ok()?;
    }
    let mut head = lowercase_wire(&owner)?;
    head.extend_from_slice(&u16::from(input.type_covered).to_be_bytes());
    head.extend_from_slice(&CLASS_IN.to_be_bytes());
    head.extend_from_slice(&input.original_ttl.to_be_bytes());
    for one in rdata {
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&u16::try_from(one.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(one);
    }
    Some(bytes)
}

const MINFO: u16 = 14;
const RP: u16 = 17;
const AFSDB: u16 = 18;
const RT: u16 = 21;
const PX: u16 = 26;
const KX: u16 = 36;
const DNAME: u16 = 39;

/// Class IN; no other class is looked up or accepted.
const CLASS_IN: u16 = 1;

/// The owner as it was when it was signed: the name itself, or the wildcard that it was expanded from (RFC 4035 5.3.2).
fn signed_owner(owner: &Name, signed_labels: u8) -> Option<Name> {
    let own = owner.num_labels();
    match signed_labels.cmp(&own) {
        std::cmp::Ordering::Equal => Some(owner.clone()),
        std::cmp::Ordering::Less => {
            names::wildcard_below(&names::ancestor(owner, usize::from(signed_labels)))
        }
        std::cmp::Ordering::Greater => None,
    }
}

/// A name in uncompressed, lower-case wire form.
fn lowercase_wire(name: &Name) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::UncompressedLowercase);
    name.emit(&mut encoder).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::RecordType;
    use hickory_proto::rr::rdata::{CNAME, MX, NULL, TXT};

    use super::*;

    #[test]
    fn names_in_data_are_lowered_where_rfc_4034_6_2_says_so() {
        let name = || Name::from_ascii("MiXed.Z.").unwrap();
        let wire = b"\x05mixed\x01z\x00".to_vec();
        assert_eq!(rdata(&RData::CNAME(CNAME(name()))).unwrap(), wire);
        assert_eq!(
            rdata(&RData::MX(MX::new(10, name()))).unwrap(),
            [b"\x00\x0a".to_vec(), wire.clone()].concat()
        );
        let raw = NULL::with(b"\x05MiXed\x01Z\x00".to_vec());
        let unknown = |code| RData::Unknown { code, rdata: raw.clone() };
        assert_eq!(rdata(&unknown(RecordType::DNAME)).unwrap(), wire);
        assert_eq!(rdata(&unknown(RecordType::Unknown(RP))).unwrap(), wire);
        let numbered = NULL::with(b"AB\x05MiXed\x01Z\x00".to_vec());
        let afsdb = RData::Unknown { code: RecordType::Unknown(AFSDB), rdata: numbered };
        assert_eq!(rdata(&afsdb).unwrap(), [b"AB".to_vec(), wire].concat());
        assert_eq!(rdata(&unknown(RecordType::Unknown(1000))).unwrap(), raw.anything);
        assert_eq!(rdata(&RData::TXT(TXT::new(vec!["MiXed".into()]))).unwrap(), b"\x05MiXed");
    }

    #[test]
    fn the_owner_is_what_was_signed() {
        let owner =
            |name: &str, labels| signed_owner(&Name::from_ascii(name).unwrap(), labels).map(|n| n.to_ascii());
        assert_eq!(owner("a.b.z.", 3).as_deref(), Some("a.b.z."));
        assert_eq!(owner("a.b.z.", 1).as_deref(), Some("*.z."));
        assert_eq!(owner("*.b.z.", 2).as_deref(), Some("*.b.z."));
        assert_eq!(owner("a.z.", 0).as_deref(), Some("*."));
        assert_eq!(owner("a.z.", 3), None);
    }
}
