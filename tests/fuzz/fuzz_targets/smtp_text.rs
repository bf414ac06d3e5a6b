//! Everything of SMTP that is read as text: commands, addresses, xtext. What is accepted must survive its own writing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mta_smtp::address::{Mailbox, decode_xtext, encode_orcpt};
use mta_smtp::command::{Command, Parameter, mail_parameters, rcpt_parameters};
use mta_smtp::extension::Extensions;

/// What stands in ORCPT must be written so that it is read back as it was.
fn original_recipient(parameters: &[Parameter], offered: &Extensions) {
    let Ok(read) = rcpt_parameters(parameters, offered) else { return };
    let Some(orcpt) = read.orcpt else { return };
    let Some(value) = encode_orcpt(&orcpt) else { panic!("{orcpt:?} cannot be written") };
    assert!(value.is_ascii() && !value.bytes().any(|byte| byte.is_ascii_control() || byte == b' '));
    // What came as characters may be too long as their numbers.
    if value.len() <= 500 {
        let parameter = Parameter { keyword: "ORCPT".to_owned(), value: Some(value) };
        assert_eq!(rcpt_parameters(&[parameter], offered).map(|read| read.orcpt), Ok(Some(orcpt)));
    }
}

fuzz_target!(|data: &[u8]| {
    let offered =
        Extensions { starttls: false, size_limit: 1000, dsn: true, smtputf8: true, require_tls: true };
    match Command::parse(data) {
        Ok(Command::Mail(_, parameters)) => drop(mail_parameters(&parameters, &offered)),
        Ok(Command::Rcpt(_, parameters)) => original_recipient(&parameters, &offered),
        _ => {}
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = decode_xtext(text);
        if let Ok(mailbox) = Mailbox::parse(text) {
            assert_eq!(Mailbox::parse(&mailbox.to_string()).as_ref(), Ok(&mailbox));
        }
    }
});
