//! The DNSSEC validator on any response: it ends, within its bounds, and calls nothing secure.
#![no_main]

use std::str::FromStr;
use std::sync::Arc;

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::BinDecodable;
use libfuzzer_sys::fuzz_target;
use mta_dane::dnssec::Status;
use mta_dane::validator::{CacheLimits, Limits, Lookup, Step, TransportFailure, TrustAnchors, Validator};

const NOW: u64 = 1_800_000_000;

fuzz_target!(|data: &[u8]| {
    let Ok(name) = Name::from_str("mx.example.") else { return };
    let message = Message::from_bytes(data);
    let validator = Arc::new(Validator::new(TrustAnchors::built_in(), Limits::default(), CacheLimits::default()));
    let mut lookup = Lookup::new(validator, name, RecordType::TLSA);
    loop {
        match lookup.poll(NOW) {
            Step::Query { id, .. } => {
                let response = message.as_ref().map_err(|_| TransportFailure::Timeout);
                lookup.handle(NOW, id, response);
            }
            Step::Wait => panic!("it waits although every query was answered"),
            Step::Done(answer) => {
                assert_ne!(answer.status, Status::Secure, "nobody here has the root's key");
                return;
            }
        }
    }
});
