//! Properties: nothing a stranger sends makes the judge panic or say more than the bytes do.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::OnceLock;

use common::*;
use mta_dane::der::{Certificate, date_text};
use mta_dane::reference::ReferenceId;
use mta_dane::tlsa::{DigestOrder, Matching, TlsaRecord, Usage, select};
use mta_dane::verify::{Judgement, judge};
use proptest::prelude::*;
use rustls_pki_types::CertificateDer;

fn shared() -> &'static Family {
    static FAMILY: OnceLock<Family> = OnceLock::new();
    FAMILY.get_or_init(family)
}

fn judged(records: &[TlsaRecord], certs: &[Vec<u8>]) -> Judgement {
    let chain: Vec<CertificateDer<'_>> =
        certs.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    judge(records, &chain, &[ReferenceId::parse(HOST).unwrap()], NOW)
}

/// A place and what to do there: replace, insert, remove, cut.
type Mutation = (prop::sample::Index, u8, u8);

fn mutate(bytes: &mut Vec<u8>, (place, what, value): Mutation) {
    if bytes.is_empty() {
        return;
    }
    let at = place.index(bytes.len());
    match what % 4 {
        0 => bytes[at] ^= value | 1,
        1 => bytes.insert(at, value),
        2 => drop(bytes.remove(at)),
        _ => bytes.truncate(at),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// G1, H2: a certificate changed anywhere never satisfies records made for the genuine chain, unless the change leaves
    /// what the record names, and the path to it, untouched.
    #[test]
    fn mutated_chains_do_not_pass(which in 0..3_usize, mutation: Mutation) {
        let f = shared();
        let genuine = [f.leaf.der.clone(), f.middle.der.clone(), f.root.der.clone()];
        let mut certs = genuine.clone();
        mutate(&mut certs[which], mutation);
        prop_assume!(certs != genuine);
        // By whole certificate: the mutated one never matches.
        let named = [&f.leaf, &f.middle, &f.root][which];
        let usage = if which == 0 { 3 } else { 2 };
        prop_assert!(judged(&[named.record(usage, 0, 1)], &certs).matched().is_none());
        // By key of the root: the path below must hold; the root's own certificate is signed by nobody that counts.
        if which < 2 {
            prop_assert!(judged(&[f.root.record(2, 1, 1)], &certs).matched().is_none());
        }
        // By key of the leaf: only if the key can still be found, byte for byte.
        if judged(&[f.leaf.record(3, 1, 1)], &certs).matched().is_some() {
            prop_assert_eq!(Certificate::parse(&certs[0]).unwrap().spki, &f.leaf.spki()[..]);
        }
    }

    /// Several mutations, all kinds of records: no panic, and everything that is said has no control byte.
    #[test]
    fn no_panic_on_broken_chains(mutations in prop::collection::vec((0..3_usize, any::<Mutation>()), 1..6)) {
        let f = shared();
        let mut certs = [f.leaf.der.clone(), f.middle.der.clone(), f.root.der.clone()];
        for (which, mutation) in mutations {
            mutate(&mut certs[which], mutation);
        }
        for (usage, cert) in [(3, &f.leaf), (2, &f.middle), (2, &f.root)] {
            for (selector, matching) in [(0, 0), (0, 1), (1, 0), (1, 2)] {
                let judgement = judged(&[cert.record(usage, selector, matching)], &certs);
                for seen in &judgement.seen {
                    let said = format!("{} {} {}", seen.subject, seen.issuer, seen.names.join(" "));
                    prop_assert!(said.chars().all(|c| c.is_ascii() && !c.is_control()));
                }
            }
        }
    }

    /// Any bytes as certificate, as record data, as extension value.
    #[test]
    fn no_panic_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), usage: u8, selector: u8, matching: u8) {
        let record = TlsaRecord::new(usage, selector, matching, bytes.clone());
        let _ = (record.usable(), record.short(), record.to_string());
        let f = shared();
        judged(std::slice::from_ref(&record), &[f.leaf.der.clone(), bytes.clone()]);
        judged(&[record], &[bytes]);
    }

    /// H7: extensions of an anchor with any content: refused or accepted, never a panic.
    #[test]
    fn no_panic_on_any_extension(which in 0..5_usize, value in prop::collection::vec(any::<u8>(), 0..60), nested: bool) {
        let oid = [OID_SAN, OID_BASIC, OID_USAGE, OID_EKU, OID_CONSTRAINTS][which];
        let value = if nested { tlv(0x30, &tlv(0x30, &tlv(0x82, &value))) } else { value };
        let root = Spec::ca("root").with(|s| (s.ca, s.key_usage, s.more) = (None, None, vec![(oid.to_vec(), true, value)]));
        let f = family_of(&root, &Spec::ca("middle"), &Spec::leaf(HOST));
        judged(&[f.root.record(2, 1, 1)], &[f.leaf.der, f.middle.der, f.root.der]);
    }

    /// E8: whatever the set, in whatever order: the same selection; records that stay are usable, none is lost.
    #[test]
    fn selection_ignores_order(
        set in prop::collection::vec((0..5_u8, 0..3_u8, 0..4_u8, prop::sample::select(vec![0_usize, 32, 64])), 0..12),
        seed: u64,
    ) {
        let mut records: Vec<TlsaRecord> =
            set.iter().map(|(u, s, m, len)| TlsaRecord::new(*u, *s, *m, vec![1; *len])).collect();
        let first = select(&records, &DigestOrder::default());
        let turn = usize::try_from(seed % 12).unwrap();
        if !records.is_empty() {
            let by = turn % records.len();
            records.rotate_left(by);
        }
        prop_assert_eq!(&select(&records, &DigestOrder::default()), &first);
        prop_assert!(first.records.iter().chain(&first.superseded).all(|record| record.usable().is_ok()));
        records.sort();
        records.dedup();
        prop_assert_eq!(first.records.len() + first.superseded.len() + first.unusable.len(), records.len());
        for record in &first.superseded {
            prop_assert!(record.matching == Matching::Sha256);
            let stronger = |other: &TlsaRecord| {
                (other.usage, other.selector, other.matching) == (record.usage, record.selector, Matching::Sha512)
            };
            prop_assert!(first.records.iter().any(stronger));
        }
        prop_assert!(first.records.iter().all(|record| matches!(record.usage, Usage::DaneTa | Usage::DaneEe)));
    }

    /// The text form of a record reads back as the record; any text is read or refused.
    #[test]
    fn record_text_round_trip(usage: u8, selector: u8, matching: u8, data in prop::collection::vec(any::<u8>(), 0..80), junk in ".{0,60}") {
        let record = TlsaRecord::new(usage, selector, matching, data);
        prop_assert_eq!(record.to_string().parse::<TlsaRecord>().unwrap(), record);
        let _ = junk.parse::<TlsaRecord>();
    }

    /// Dates go through DER and back.
    #[test]
    fn dates_round_trip(time in -60_000_000_000_i64..250_000_000_000) {
        let leaf = Spec::leaf(HOST).with(|s| (s.not_before, s.not_after) = (time, time + 1));
        prop_assume!(date_text(time).len() == 20);
        let der = leaf.self_signed().der;
        prop_assert_eq!(Certificate::parse(&der).unwrap().dates().unwrap(), (time, time + 1));
    }

    /// I8, I9: a presented name matches only itself, or a wildcard of exactly one label.
    #[test]
    fn names_match_by_one_label_only(labels in prop::collection::vec("[a-z]{1,4}", 2..5), star in 0..5_usize) {
        let host = labels.join(".");
        let id = ReferenceId::parse(&host).unwrap();
        prop_assert!(id.matches(host.to_ascii_uppercase().as_bytes()));
        let mut presented = labels.clone();
        let place = star % labels.len();
        presented[place] = "*".to_owned();
        prop_assert_eq!(id.matches(presented.join(".").as_bytes()), place == 0 && labels.len() > 2);
        presented[place] = "*a".to_owned();
        prop_assert!(!id.matches(presented.join(".").as_bytes()));
        let below = format!("x.{}", host);
        let above = format!("*.{}", host);
        prop_assert!(!id.matches(below.as_bytes()) && !id.matches(above.as_bytes()));
    }
}
