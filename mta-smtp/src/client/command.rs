//! MAIL and RCPT with the parameters that the server at hand understands.

use super::{Capabilities, EightBit, NotSent, Transaction};
use crate::address::encode_xtext;
use crate::envelope::{Body, Recipient};

/// The longest command line sent, CR LF included: 512 and what the extensions we use add (RFC 5321 4.5.3.1.4).
const MAX_COMMAND_BYTES: usize = 2048;

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
        return Err(NotSent::NeedsSmtpUtf8);
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
    if offer.smtputf8 && transaction.needs_smtputf8() {
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
        if let Some((kind, address)) = recipient.orcpt.as_deref().and_then(split_orcpt) {
            line.push_str(&format!(" ORCPT={kind};{}", encode_xtext(address)));
        }
    }
    finish(line)
}

/// Address type and address; the type must be an atom, or it could smuggle in a parameter of its own.
fn split_orcpt(orcpt: &str) -> Option<(&str, &str)> {
    let (kind, address) = orcpt.split_once(';')?;
    let atom = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    atom.then_some((kind, address))
}

/// The last guard before the wire: whatever the types promise, no control byte and no endless line leaves here.
fn finish(mut line: String) -> Result<String, NotSent> {
    if line.bytes().any(|byte| byte.is_ascii_control()) || line.len() > MAX_COMMAND_BYTES - 2 {
        return Err(NotSent::Unrepresentable);
    }
    line.push_str("\r\n");
    Ok(line)
}
