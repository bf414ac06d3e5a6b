//! What is required of the connection to one host: one named function joins what DNS says (DANE) with local rules.

use std::time::SystemTime;

/// A rule for one destination, from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationRule {
    /// The recipient domain, lower case, A-labels; a leading dot means all its subdomains.
    pub domain: String,
    /// What is changed about TLS.
    pub tls: TlsRule,
    /// When the rule ends by itself.
    pub until: Option<SystemTime>,
    /// Why the rule exists; shown wherever it takes effect.
    pub reason: String,
}

/// What a rule changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsRule {
    /// DANE is mandatory: without usable secure TLSA records behind a secure MX the mail waits (RFC 7672 6).
    DaneMandatory,
    /// DANE is not applied; TLS stays opportunistic (RFC 7672 9.1).
    DaneOff,
    /// TLS is required, any certificate will do where DANE asks for nothing more.
    Encrypt,
    /// TLS is required, and the certificate must be vouched for by DANE or by the system's roots.
    Verify,
}
