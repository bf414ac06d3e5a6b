//! Everything of SMTP that is read as text: commands, addresses, xtext. What is accepted must survive its own writing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mta_smtp::address::{Mailbox, decode_xtext};
use mta_smtp::command::Command;

fuzz_target!(|data: &[u8]| {
    let _ = Command::parse(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = decode_xtext(text);
        if let Ok(mailbox) = Mailbox::parse(text) {
            assert_eq!(Mailbox::parse(&mailbox.to_string()).as_ref(), Ok(&mailbox));
        }
    }
});
