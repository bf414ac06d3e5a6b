//! The certificate judge on any bytes for a certificate: no panic, and never a match by the key of something unparsed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mta_dane::judge::{judge, parse_records};
use rustls_pki_types::CertificateDer;

fuzz_target!(|data: &[u8]| {
    let record = "3 1 1 0000000000000000000000000000000000000000000000000000000000000000";
    let Ok(records) = parse_records([record]) else { return };
    let half = data.len() / 2;
    let chain = [CertificateDer::from(&data[..half]), CertificateDer::from(&data[half..])];
    let report = judge(&records, &chain, &[], 1_800_000_000);
    assert!(!matches!(report.outcome, mta_dane::judge::Outcome::Match(_)), "SHA2-256 of zeros was matched");
});
