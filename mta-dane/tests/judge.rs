//! The offline judge of `mta-cli tlsa verify`: its three outcomes and the words for them.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use mta_dane::failure::Mismatch;
use mta_dane::judge::{Outcome, judge, parse_records};
use mta_dane::reference::ReferenceId;
use mta_dane::tlsa::{ParseError, TlsaRecord};

fn outcome(records: &[TlsaRecord], names: &[&str], certs: &[&Cert]) -> Outcome {
    let ids: Vec<ReferenceId> = names.iter().map(|name| ReferenceId::parse(name).unwrap()).collect();
    judge(records, &chain(certs), &ids, NOW).outcome
}

/// 0 match, 1 no match, 3 unusable: as the manual promises.
#[test]
fn words_and_exit_codes() {
    let f = family();
    let sent = [&f.leaf, &f.middle, &f.root];
    let cases = [
        (vec![f.leaf.record(3, 1, 1)], vec![], "match", 0),
        (vec![f.root.record(2, 1, 1)], vec![HOST], "match", 0),
        (vec![f.root.record(2, 1, 1)], vec![], "no-match", 1),
        (vec![f.root.record(3, 1, 1)], vec![HOST], "no-match", 1),
        (vec![f.leaf.record(1, 1, 1)], vec![HOST], "unusable", 3),
        (vec![TlsaRecord::new(3, 1, 1, vec![0; 5])], vec![HOST], "unusable", 3),
        (vec![], vec![HOST], "unusable", 3),
    ];
    for (records, names, word, code) in cases {
        let outcome = outcome(&records, &names, &sent);
        assert_eq!((outcome.word(), outcome.exit_code()), (word, code), "{records:?}");
        assert!(!outcome.reason().is_empty());
    }
}

/// E7, E8: the judge applies digest agility as a delivery does.
#[test]
fn e8_judge_applies_agility() {
    let f = family();
    let records = [f.root.record(3, 1, 2), f.leaf.record(3, 1, 1)];
    let report = judge(&records, &chain(&[&f.leaf]), &[], NOW);
    assert_eq!(report.outcome, Outcome::NoMatch(Mismatch::NothingMatches { only_dane_ee: true, hint: None }));
    assert_eq!(report.selection.superseded, [records[1].clone()]);
    assert_eq!(report.seen.len(), 1);
}

/// Which of several texts is wrong, and why.
#[test]
fn parse_records_names_the_culprit() {
    assert_eq!(parse_records(["3 1 1 00", "2 0 1 ff"]).unwrap().len(), 2);
    assert_eq!(
        parse_records(["3 1 1 00", "3 1"]).unwrap_err(),
        (1, ParseError::MissingField("matching type"))
    );
}

/// The reasons are sentences that name what to look at.
#[test]
fn reasons_read_as_sentences() {
    let f = family();
    let sent = [&f.leaf, &f.middle, &f.root];
    let reason = |records: &[TlsaRecord], names: &[&str]| outcome(records, names, &sent).reason();
    assert!(reason(&[f.leaf.record(3, 1, 1)], &[]).contains("matches the server's certificate"));
    assert!(reason(&[f.root.record(2, 1, 1)], &[HOST]).contains(HOST));
    assert!(reason(&[f.root.record(2, 1, 1)], &["other.example"]).contains("other.example"));
    assert!(reason(&[f.root.record(0, 1, 1)], &[HOST]).contains("PKIX-TA(0)"));
}
