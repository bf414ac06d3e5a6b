//! TLSA records: rows E of the requirement matrix, and their text form.
#![allow(clippy::unwrap_used, clippy::type_complexity)]

mod common;

use common::*;
use mta_dane::tlsa::{DigestOrder, Matching, ParseError, Selector, TlsaRecord, Unusable, Usage, select};

fn digest_record(usage: u8, selector: u8, matching: u8) -> TlsaRecord {
    TlsaRecord::new(usage, selector, matching, vec![7; if matching == 2 { 64 } else { 32 }])
}

/// E1, E4, E5, RFC 6698 4.1, RFC 7672 3.1.3: usages, selectors and matching types that SMTP does not have.
#[test]
fn e1_e4_e5_undefined_parameters_are_unusable() {
    let cases = [
        ((3, 1, 1), Ok(())),
        ((2, 0, 2), Ok(())),
        ((0, 1, 1), Err(Unusable::PkixUsage(Usage::PkixTa))),
        ((1, 1, 1), Err(Unusable::PkixUsage(Usage::PkixEe))),
        ((4, 1, 1), Err(Unusable::Usage(4))),
        ((255, 1, 1), Err(Unusable::Usage(255))),
        ((3, 2, 1), Err(Unusable::Selector(2))),
        ((3, 255, 1), Err(Unusable::Selector(255))),
        ((3, 1, 3), Err(Unusable::Matching(3))),
        ((3, 1, 255), Err(Unusable::Matching(255))),
    ];
    for ((usage, selector, matching), expected) in cases {
        assert_eq!(
            digest_record(usage, selector, matching).usable(),
            expected,
            "{usage} {selector} {matching}"
        );
    }
}

/// E2, E3, RFC 6698 4.1: wrong lengths, garbage and trailing bytes.
#[test]
fn e2_e3_malformed_data_is_unusable() {
    let f = family();
    let with = |matching, data: Vec<u8>| TlsaRecord::new(3, 1, matching, data).usable();
    for matching in [0, 1, 2] {
        assert_eq!(with(matching, vec![]), Err(Unusable::Empty));
    }
    assert_eq!(with(1, vec![0; 31]), Err(Unusable::DigestLength { expected: 32, length: 31 }));
    assert_eq!(with(1, vec![0; 64]), Err(Unusable::DigestLength { expected: 32, length: 64 }));
    assert_eq!(with(2, vec![0; 32]), Err(Unusable::DigestLength { expected: 64, length: 32 }));
    for usage in [2, 3] {
        let full = |selector, data: Vec<u8>| TlsaRecord::new(usage, selector, 0, data).usable();
        assert_eq!(full(0, f.leaf.der.clone()), Ok(()));
        assert_eq!(full(1, f.leaf.spki()), Ok(()));
        assert_eq!(full(0, f.leaf.spki()), Err(Unusable::NotACertificate));
        assert_eq!(full(1, f.leaf.der.clone()), Err(Unusable::NotAPublicKey));
        assert_eq!(full(0, [&f.leaf.der[..], &[0]].concat()), Err(Unusable::NotACertificate));
        assert_eq!(full(1, [&f.leaf.spki()[..], &[0]].concat()), Err(Unusable::NotAPublicKey));
        assert_eq!(full(0, f.leaf.der[..f.leaf.der.len() - 1].to_vec()), Err(Unusable::NotACertificate));
        assert_eq!(full(1, vec![0xaa; 32]), Err(Unusable::NotAPublicKey));
    }
}

/// E7, E8, RFC 7671 9, RFC 7672 5: for each usage and selector, Full(0) and the strongest digest.
#[test]
fn e7_e8_digest_agility() {
    let f = family();
    let all: Vec<TlsaRecord> = [2, 3]
        .into_iter()
        .flat_map(|usage| {
            [0, 1].map(|selector| [0, 1, 2].map(|matching| f.leaf.record(usage, selector, matching)))
        })
        .flatten()
        .collect();
    let selection = select(&all, &DigestOrder::default());
    assert!(selection.unusable.is_empty());
    assert_eq!(selection.superseded.len(), 4);
    assert!(selection.superseded.iter().all(|record| record.matching == Matching::Sha256));
    assert_eq!(selection.records.len(), 8);
    assert!(
        selection.records.iter().take(4).all(|record| record.usage == Usage::DaneEe),
        "H11: DANE-EE first"
    );
    // The order is local policy.
    let order = DigestOrder::new([Matching::Sha256, Matching::Sha512]);
    assert!(select(&all, &order).superseded.iter().all(|record| record.matching == Matching::Sha512));
}

/// E8: a strong digest supersedes only within its usage and selector, and only where it is well formed.
#[test]
fn e8_agility_looks_at_usable_records_only() {
    let weak = digest_record(3, 1, 1);
    for other in [
        digest_record(3, 0, 2),
        digest_record(2, 1, 2),
        TlsaRecord::new(3, 1, 2, vec![1; 63]),
        digest_record(1, 1, 2),
    ] {
        let selection = select(&[weak.clone(), other.clone()], &DigestOrder::default());
        assert!(selection.records.contains(&weak), "{other}");
    }
    let selection = select(&[weak.clone(), digest_record(3, 1, 2)], &DigestOrder::default());
    assert_eq!(selection.superseded, [weak]);
}

/// E11, RFC 6698 4.1: a digest that local policy does not list is too weak; Full(0) never is.
#[test]
fn e11_local_policy_may_drop_a_digest() {
    let f = family();
    let order = DigestOrder::new([Matching::Sha512]);
    let records = [f.leaf.record(3, 1, 1), f.leaf.record(3, 1, 0)];
    let selection = select(&records, &order);
    assert_eq!(selection.records, [records[1].clone()]);
    assert_eq!(selection.unusable, [(records[0].clone(), Unusable::TooWeak(Matching::Sha256))]);
}

/// E12, RFC 7218 2: the acronyms.
#[test]
fn e12_acronyms() {
    let usages = [0, 1, 2, 3, 255].map(|value| Usage::from(value).to_string());
    assert_eq!(usages, ["PKIX-TA(0)", "PKIX-EE(1)", "DANE-TA(2)", "DANE-EE(3)", "PrivCert(255)"]);
    assert_eq!(
        [0, 1, 255].map(|value| Selector::from(value).to_string()),
        ["Cert(0)", "SPKI(1)", "PrivSel(255)"]
    );
    let matching = [0, 1, 2, 255].map(|value| Matching::from(value).to_string());
    assert_eq!(matching, ["Full(0)", "SHA2-256(1)", "SHA2-512(2)", "PrivMatch(255)"]);
    for value in 0..=255_u8 {
        assert_eq!(u8::from(Usage::from(value)), value);
        assert_eq!(u8::from(Selector::from(value)), value);
        assert_eq!(u8::from(Matching::from(value)), value);
    }
}

/// RFC 6698 2.2: the presentation form, both ways.
#[test]
fn text_form() {
    let record: TlsaRecord = " 3 1 1\t00FFab\n cd ".parse().unwrap();
    assert_eq!(record, TlsaRecord::new(3, 1, 1, vec![0x00, 0xff, 0xab, 0xcd]));
    assert_eq!(record.to_string(), "3 1 1 00ffabcd");
    assert_eq!("3 1 1".parse::<TlsaRecord>().unwrap().data, []);
    let error = |text: &str| text.parse::<TlsaRecord>().unwrap_err();
    assert_eq!(error("3 1"), ParseError::MissingField("matching type"));
    assert_eq!(error(""), ParseError::MissingField("usage"));
    assert_eq!(error("256 1 1 00"), ParseError::BadNumber { field: "usage", text: "256".into() });
    assert_eq!(error("3 x 1 00"), ParseError::BadNumber { field: "selector", text: "x".into() });
    assert_eq!(error("3 1 1 0"), ParseError::OddHex);
    assert_eq!(error("3 1 1 0g"), ParseError::BadHex);
    assert_eq!(error(&format!("3 1 1 {}", "00".repeat(65_533))), ParseError::TooLong);
}
