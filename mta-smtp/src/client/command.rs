//! MAIL and RCPT with the parameters that the server at hand understands.

use super::{Capabilities, EightBit, NotSent, Transaction};
use crate::address::{encode_orcpt, encode_xtext};
use crate::envelope::{Body, Recipient};

/// The longest command line sent, CR LF included: 512 and what the extensions we use add (RFC 5321 4.5.3.1.4).
const MAX_COMMAND_BYTES: usize = 2048;

/// The longest ORCPT of our own making (RFC 3461 4.2).
const MAX_ORCPT_OCTETS: usize = 500;

/// Whether this message can go to this server at all.
pub(super) fn check(
    transaction: &Transaction,
    offer: &Capabilities,
    eight_bit: EightBit,
    tls: bool,
) -> Result<(), NotSent> {
    let parameters = &transaction.parameters;
    if transaction.recipients.is_empty() {
        return Err(NotSent::Unrepresentable);
    }
    if let Some(limit_bytes) = offer.size_limit_bytes
        && transaction.size_bytes > limit_bytes
    {
        return Err(NotSent::TooLarge { limit_bytes });
    }
    if transaction.needs_smtputf8() && !offer.smtputf8 {
        return Err(NotSent::NeedsSmtpUtf8 { addresses: transaction.has_wide_addresses() });
    }
    if parameters.require_tls && !(offer.require_tls && tls) {
        return Err(NotSent::NeedsRequireTls);
    }
    match parameters.body {
        Body::BinaryMime => Err(NotSent::Binary),
        Body::EightBitMime if !offer.eight_bit_mime && eight_bit == EightBit::Refuse => {
            Err(NotSent::NeedsEightBitMime)
        }
        _ => Ok(()),
    }
}

/// The MAIL command.
pub(super) fn mail(transaction: &Transaction, offer: &Capabilities) -> Result<String, NotSent> {
    let parameters = &transaction.parameters;
    let mut line = format!("MAIL FROM:{}", transaction.reverse_path);
    if offer.size {
        line.push_str(&format!(" SIZE={}", transaction.size_bytes));
    }
    if offer.eight_bit_mime && parameters.body == Body::EightBitMime {
        line.push_str(" BODY=8BITMIME");
    }
    if offer.smtputf8 && (parameters.smtputf8 || transaction.needs_smtputf8()) {
        line.push_str(" SMTPUTF8");
    }
    if parameters.require_tls {
        line.push_str(" REQUIRETLS");
    }
    if offer.dsn {
        if let Some(ret) = parameters.ret {
            line.push_str(&format!(" RET={}", ret.as_str()));
        }
        if let Some(envid) = &parameters.envid {
            line.push_str(&format!(" ENVID={}", encode_xtext(envid)));
        }
    }
    finish(line)
}

/// The RCPT command.
pub(super) fn rcpt(recipient: &Recipient, offer: &Capabilities) -> Result<String, NotSent> {
    let mut line = format!("RCPT TO:<{}>", recipient.mailbox);
    if offer.dsn {
        if let Some(notify) = &recipient.notify {
            line.push_str(&format!(" NOTIFY={notify}"));
        }
        if let Some(orcpt) = original_recipient(recipient) {
            line.push_str(&format!(" ORCPT={orcpt}"));
        }
    }
    finish(line)
}

/// The original recipient as it came (RFC 3461 5.2.1 d); where none came, the recipient as we have it (5.2.1 e), so that
/// whoever gets a report about an alias further on still knows whom it is about.
fn original_recipient(recipient: &Recipient) -> Option<String> {
    if let Some(orcpt) = &recipient.orcpt {
        return encode_orcpt(orcpt);
    }
    let kind = if recipient.mailbox.is_ascii() { "rfc822" } else { "utf-8" };
    encode_orcpt(&format!("{kind};{}", recipient.mailbox)).filter(|value| value.len() <= MAX_ORCPT_OCTETS)
}

/// The last guard before the wire: whatever the types promise, no control byte and no endless line leaves here.
fn finish(mut line: String) -> Result<String, NotSent> {
    if line.bytes().any(|byte| byte.is_ascii_control()) || line.len() > MAX_COMMAND_BYTES - 2 {
        return Err(NotSent::Unrepresentable);
    }
    line.push_str("\r\n");
    Ok(line)
}
