//! Reasons: why a next-hop has no hosts, why a host may not be used, why DANE does not apply, why a certificate does not
//! satisfy the TLSA records. Each reason prints as a sentence a mail administrator can act on, and knows its
//! enhanced status (RFC 3463) and its TLSRPT result type (RFC 8460 4.3).
//!
//! What it does not: it decides nothing about retry or bounce beyond saying which few reasons are permanent.

use std::fmt;
use std::net::IpAddr;

use hickory_proto::rr::{Name, RecordType};

use crate::dnssec::Status;
use crate::reference::text;
use crate::tlsa::{TlsaRecord, Unusable};

/// TLSRPT result types (RFC 8460 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResultType {
    /// STARTTLS was not offered or was refused.
    StarttlsNotSupported,
    /// No name in the certificate is one of the reference identifiers.
    CertificateHostMismatch,
    /// A certificate is expired or not yet valid.
    CertificateExpired,
    /// No chain to a trusted issuer.
    CertificateNotTrusted,
    /// Any other failure; a reason code says which.
    ValidationFailure,
    /// All TLSA records are unusable.
    TlsaInvalid,
    /// DNS answers were bogus or could not be had.
    DnssecInvalid,
    /// DANE is mandatory by local policy and could not be had.
    DaneRequired,
}

impl ResultType {
    /// The word that stands in a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StarttlsNotSupported => "starttls-not-supported",
            Self::CertificateHostMismatch => "certificate-host-mismatch",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateNotTrusted => "certificate-not-trusted",
            Self::ValidationFailure => "validation-failure",
            Self::TlsaInvalid => "tlsa-invalid",
            Self::DnssecInvalid => "dnssec-invalid",
            Self::DaneRequired => "dane-required",
        }
    }
}

impl fmt::Display for ResultType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A DNS question that ended in an error: bogus, an error code, a timeout, a malformed answer, a limit (A3, A4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupError {
    /// The name asked for.
    pub name: Name,
    /// The type asked for.
    pub rtype: RecordType,
    /// `Bogus` or `Unavailable`.
    pub status: Status,
    /// What the resolver said: which record set, which rule.
    pub reason: String,
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.status {
            Status::Bogus => "is bogus (its DNSSEC signatures do not hold)",
            _ => "could not be had",
        };
        write!(f, "the {} record of {} {what}", self.rtype, text(&self.name))?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason.escape_debug()) }
    }
}

/// Why a next-hop domain has no host to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextHopFailure {
    /// The domain says that it accepts no mail (RFC 7505).
    NullMx {
        /// The next-hop domain.
        domain: Name,
        /// The status of that record: secure or insecure.
        status: Status,
    },
    /// The domain does not exist.
    NxDomain {
        /// The next-hop domain.
        domain: Name,
        /// The status of that denial: secure or insecure.
        status: Status,
    },
    /// The MX lookup, or an alias leading to it, ended in an error: delay, never fall back to addresses (RFC 7672 2.1.2).
    Lookup(LookupError),
    /// We are the best MX host ourselves: delivering would loop (RFC 5321 5.1).
    OwnMx {
        /// The next-hop domain.
        domain: Name,
        /// Which of our names it was.
        own: Name,
    },
    /// There are MX records, and none of them names a host.
    NoUsableMx {
        /// The next-hop domain.
        domain: Name,
    },
}

impl NextHopFailure {
    /// Whether trying again later makes no sense.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::NullMx { .. } | Self::NxDomain { .. } | Self::OwnMx { .. } => true,
            Self::Lookup(_) | Self::NoUsableMx { .. } => false,
        }
    }

    /// The enhanced status code (RFC 3463, RFC 7505 4.1).
    pub fn enhanced_status(&self) -> &'static str {
        match self {
            Self::NullMx { .. } => "5.1.10",
            Self::NxDomain { .. } => "5.1.2",
            Self::Lookup(error) => lookup_status(error),
            Self::OwnMx { .. } => "5.4.6",
            Self::NoUsableMx { .. } => "4.4.4",
        }
    }

    /// The TLSRPT result type, where the failure is one of security.
    pub fn result_type(&self) -> Option<ResultType> {
        match self {
            Self::Lookup(error) if error.status == Status::Bogus => Some(ResultType::DnssecInvalid),
            _ => None,
        }
    }
}

impl fmt::Display for NextHopFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NullMx { domain, .. } => {
                write!(f, "{} accepts no mail: it publishes a null MX (RFC 7505)", text(domain))
            }
            Self::NxDomain { domain, status } => {
                write!(f, "the domain {} does not exist ({status} DNS answer)", text(domain))
            }
            Self::Lookup(error) => write!(f, "{error}; without it the hosts of this domain are unknown"),
            Self::OwnMx { domain, own } => {
                write!(
                    f,
                    "mail for {} loops back: its best MX host {} is this server",
                    text(domain),
                    text(own)
                )
            }
            Self::NoUsableMx { domain } => {
                write!(f, "no MX record of {} names a host: all hold \".\" or an IP address", text(domain))
            }
        }
    }
}

impl std::error::Error for NextHopFailure {}

/// Why one host may not be used at this attempt. The next host is tried, then the message is delayed (RFC 7672 2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostFault {
    /// No address could be learnt because the lookup ended in an error.
    Addresses(LookupError),
    /// The host has no address (in the families that are on).
    NoAddress {
        /// The MX host.
        host: Name,
        /// Whether the name itself does not exist.
        nxdomain: bool,
    },
    /// Whether the alias at the host name is secure could not be learnt (RFC 7672 2.1.3).
    Alias(LookupError),
    /// The TLSA lookup ended in an error (RFC 7672 2.1.2). Never taken for "no DANE".
    Tlsa(LookupError),
    /// The TLSA RRset is larger than we process (D10).
    TlsaTooLarge {
        /// The owner asked for.
        owner: Name,
        /// How many records it has.
        records: usize,
    },
    /// The host's address is one of ours: mail would loop.
    OwnAddress {
        /// Which address.
        address: IpAddr,
    },
    /// DANE is mandatory for this destination and cannot be had at this host (RFC 7672 2.2.1, 6).
    DaneRequired(RequiredFault),
}

impl HostFault {
    /// The enhanced status code of a delay for this reason.
    pub fn enhanced_status(&self) -> &'static str {
        match self {
            Self::Addresses(error) | Self::Alias(error) => lookup_status(error),
            Self::Tlsa(_) | Self::TlsaTooLarge { .. } | Self::DaneRequired(_) => "4.7.5",
            Self::NoAddress { .. } => "4.4.4",
            Self::OwnAddress { .. } => "4.4.6",
        }
    }

    /// The TLSRPT result type, where the fault is one of security.
    pub fn result_type(&self) -> Option<ResultType> {
        match self {
            Self::Tlsa(_) | Self::TlsaTooLarge { .. } => Some(ResultType::DnssecInvalid),
            Self::Addresses(error) | Self::Alias(error) => {
                (error.status == Status::Bogus).then_some(ResultType::DnssecInvalid)
            }
            Self::DaneRequired(_) => Some(ResultType::DaneRequired),
            Self::NoAddress { .. } | Self::OwnAddress { .. } => None,
        }
    }
}

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(error) => write!(f, "{error}; the host cannot be reached without an address"),
            Self::NoAddress { host, nxdomain: true } => {
                write!(f, "the MX host {} does not exist", text(host))
            }
            Self::NoAddress { host, nxdomain: false } => {
                write!(f, "the MX host {} has no address of a family that is enabled here", text(host))
            }
            Self::Alias(error) => {
                write!(f, "{error}; it decides whether DANE applies to this host, so the host is not used")
            }
            Self::Tlsa(error) => write!(
                f,
                "{error}; it may say that this host must be authenticated, so the host is not used. Its operator should \
                 repair the DNS of that zone"
            ),
            Self::TlsaTooLarge { owner, records } => {
                write!(f, "{} has {records} TLSA records, more than are processed here", text(owner))
            }
            Self::OwnAddress { address } => {
                write!(f, "mail loops back: {address} is an address of this server")
            }
            Self::DaneRequired(fault) => write!(f, "DANE is mandatory for this destination, but {fault}"),
        }
    }
}

impl std::error::Error for HostFault {}

/// What is missing where DANE is mandatory (K1 to K3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequiredFault {
    /// The MX records are not secure, so the host's authentication would prove nothing about the domain (K1).
    InsecureMx,
    /// DANE does not apply to the host (K2).
    NotApplicable(NoDane),
    /// There are secure TLSA records and none is usable (K3).
    AllUnusable(Vec<(TlsaRecord, Unusable)>),
}

impl fmt::Display for RequiredFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsecureMx => f.write_str("its MX records are not secured by DNSSEC"),
            Self::NotApplicable(why) => write!(f, "{why}"),
            Self::AllUnusable(records) => {
                f.write_str("none of its secure TLSA records is usable")?;
                for (record, why) in records.iter().take(MAX_SHOWN) {
                    write!(f, "; \"{}\": {why}", record.short())?;
                }
                Ok(())
            }
        }
    }
}

/// Why DANE does not apply to a host, so that opportunistic TLS is what remains (J6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoDane {
    /// The next-hop is an address, not a name (RFC 7672 2.2).
    AddressLiteral,
    /// The host's address records are not secure: TLSA is not even asked (C3).
    InsecureAddress {
        /// The host.
        host: Name,
    },
    /// The host is an alias, and the alias itself is not secure (C7).
    InsecureAlias {
        /// The host.
        host: Name,
    },
    /// All candidates were asked, none has TLSA records (RFC 7672 2.2.3).
    NoTlsa {
        /// The owners asked for, in order.
        owners: Vec<Name>,
    },
    /// There are TLSA records, but they (or an alias leading to them) are not secure (D2, D6).
    InsecureTlsa {
        /// The owner asked for.
        owner: Name,
    },
    /// Local policy switched DANE off for this destination (J9).
    SwitchedOff,
}

impl fmt::Display for NoDane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressLiteral => f.write_str("the next-hop is an IP address, DANE needs a name"),
            Self::InsecureAddress { host } => {
                write!(f, "the address of {} is not secured by DNSSEC", text(host))
            }
            Self::InsecureAlias { host } => {
                write!(f, "{} is an alias that is not secured by DNSSEC", text(host))
            }
            Self::NoTlsa { owners } => {
                let owners: Vec<String> = owners.iter().map(text).collect();
                write!(f, "there is no TLSA record at {}", owners.join(" nor at "))
            }
            Self::InsecureTlsa { owner } => {
                write!(f, "the TLSA records at {} are not secured by DNSSEC", text(owner))
            }
            Self::SwitchedOff => f.write_str("DANE is switched off for this destination by local policy"),
        }
    }
}

/// A slip in publishing TLSA records that the presented chain gives away. It changes no verdict; it tells the operator of the
/// host what to repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hint {
    /// A DANE-EE(3) record holds the data of a certificate sent behind the first: DANE-TA(2) was meant, or the order is wrong.
    EndEntityNamesIssuer,
    /// A DANE-TA(2) record holds the data of the server's own certificate: DANE-EE(3) was meant.
    AnchorNamesServer,
    /// A record holds the data that belongs to the other selector.
    OtherSelector,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndEntityNamesIssuer => {
                "a DANE-EE(3) record holds the data of a certificate that the server sends behind its own; its operator \
                 meant DANE-TA(2), or the server sends its chain in the wrong order"
            }
            Self::AnchorNamesServer => {
                "a DANE-TA(2) record holds the data of the server's own certificate; its operator most likely meant \
                 DANE-EE(3)"
            }
            Self::OtherSelector => {
                "a record holds the right digest under the wrong selector; its operator exchanged Cert(0) and SPKI(1)"
            }
        })
    }
}

/// Why a presented chain does not satisfy the usable TLSA records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// The server sent no certificate.
    NoCertificate,
    /// More certificates or bytes than are looked at (H10).
    ChainTooLarge {
        /// Certificates in the chain.
        certificates: usize,
        /// Bytes of all of them.
        bytes: usize,
    },
    /// No record matches any certificate it may name.
    NothingMatches {
        /// All records say DANE-EE(3): the key was changed and the records were not, most often.
        only_dane_ee: bool,
        /// A slip of the publisher that would explain it.
        hint: Option<Hint>,
    },
    /// A DANE-TA(2) record names a certificate, but nothing links the server's certificate to it by valid signatures.
    NotIssuedByAnchor,
    /// A certificate in the path is signed in a way that is not supported here: SHA-1, RSA below 2048 bits, rare curves.
    UnsupportedSignature {
        /// Its subject.
        subject: String,
    },
    /// A certificate cannot be read.
    Unreadable {
        /// 0 is the server's certificate, others count upwards along the chain as it was sent.
        position: usize,
        /// Which field.
        field: &'static str,
    },
    /// A certificate below the anchor is past its date.
    Expired {
        /// Its subject.
        subject: String,
        /// The last second it was valid, in seconds since 1970.
        not_after: i64,
    },
    /// A certificate below the anchor is not valid yet.
    NotYetValid {
        /// Its subject.
        subject: String,
        /// The first second it will be valid, in seconds since 1970.
        not_before: i64,
    },
    /// An issuer in the path is no certification authority.
    NotACertificateAuthority {
        /// Its subject.
        subject: String,
    },
    /// An issuer's path length constraint is exceeded (H7).
    PathTooLong {
        /// The subject of the issuer that limits it.
        subject: String,
    },
    /// An issuer's name constraints exclude a name (H7).
    NameConstraint {
        /// The subject of the issuer that excludes it.
        subject: String,
    },
    /// A certificate has a critical extension that is not understood.
    CriticalExtension {
        /// Its subject.
        subject: String,
    },
    /// A certificate is not meant for TLS servers (key usage or extended key usage).
    WrongUsage {
        /// Its subject.
        subject: String,
    },
    /// The path holds, but no name in the server's certificate is a reference identifier (RFC 7672 3.2.2).
    Name {
        /// The names that would do.
        expected: Vec<String>,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// The search for a path was given up (H10).
    TooMuchWork,
}

impl Mismatch {
    /// The TLSRPT result type (RFC 8460 4.3).
    pub fn result_type(&self) -> ResultType {
        match self {
            Self::NothingMatches { .. }
            | Self::NoCertificate
            | Self::ChainTooLarge { .. }
            | Self::TooMuchWork
            | Self::Unreadable { .. } => ResultType::ValidationFailure,
            Self::Expired { .. } | Self::NotYetValid { .. } => ResultType::CertificateExpired,
            Self::Name { .. } => ResultType::CertificateHostMismatch,
            Self::NotIssuedByAnchor
            | Self::UnsupportedSignature { .. }
            | Self::NotACertificateAuthority { .. }
            | Self::PathTooLong { .. }
            | Self::NameConstraint { .. }
            | Self::CriticalExtension { .. }
            | Self::WrongUsage { .. } => ResultType::CertificateNotTrusted,
        }
    }

    /// A short word for logs and the `failure-reason-code` of RFC 8460 4.4.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::ChainTooLarge { .. } => "chain-too-large",
            Self::NothingMatches { .. } => "no-tlsa-record-matches",
            Self::NotIssuedByAnchor => "not-issued-by-anchor",
            Self::UnsupportedSignature { .. } => "unsupported-signature",
            Self::Unreadable { .. } => "unreadable-certificate",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not-yet-valid",
            Self::NotACertificateAuthority { .. } => "issuer-not-a-ca",
            Self::PathTooLong { .. } => "path-length",
            Self::NameConstraint { .. } => "name-constraint",
            Self::CriticalExtension { .. } => "critical-extension",
            Self::WrongUsage { .. } => "key-usage",
            Self::Name { .. } => "name-mismatch",
            Self::TooMuchWork => "too-much-work",
        }
    }

    /// A DANE failure delays, it does not bounce (RFC 7672 2.2, 6).
    pub fn enhanced_status(&self) -> &'static str {
        "4.7.5"
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("the server sent no certificate"),
            Self::ChainTooLarge { certificates, bytes } => {
                write!(f, "the server sent {certificates} certificates with {bytes} bytes, more than are looked at")
            }
            Self::NothingMatches { hint: Some(hint), .. } => write!(f, "no TLSA record matches: {hint}"),
            Self::NothingMatches { only_dane_ee: true, .. } => f.write_str(
                "no TLSA record matches the server's certificate; most often its key was renewed and the new record was \
                 not published",
            ),
            Self::NothingMatches { only_dane_ee: false, .. } => f.write_str(
                "no TLSA record matches the server's certificate or an issuer it sent; a DANE-TA(2) digest needs the \
                 issuer's certificate in the chain",
            ),
            Self::NotIssuedByAnchor => f.write_str(
                "a TLSA record names an issuer, but the server's certificate does not lead to it by valid signatures",
            ),
            Self::UnsupportedSignature { subject } => write!(
                f,
                "the certificate of {subject} is signed in a way that is not accepted any more (SHA-1, RSA below 2048 \
                 bits) or not supported here"
            ),
            Self::Unreadable { position, field } => {
                write!(f, "cannot read the {field} of certificate {position} of the chain")
            }
            Self::Expired { subject, not_after } => {
                write!(f, "the certificate of {subject} expired at {}", crate::der::date_text(*not_after))
            }
            Self::NotYetValid { subject, not_before } => {
                write!(f, "the certificate of {subject} is not valid before {}", crate::der::date_text(*not_before))
            }
            Self::NotACertificateAuthority { subject } => {
                write!(f, "the issuer {subject} is no certification authority")
            }
            Self::PathTooLong { subject } => {
                write!(f, "the issuer {subject} allows fewer intermediate certificates than there are")
            }
            Self::NameConstraint { subject } => {
                write!(f, "the name constraints of the issuer {subject} exclude this server's certificate")
            }
            Self::CriticalExtension { subject } => {
                write!(f, "the certificate of {subject} has a critical extension that is not understood here")
            }
            Self::WrongUsage { subject } => {
                write!(f, "the certificate of {subject} is not meant for TLS servers (key usage)")
            }
            Self::Name { expected, presented } => {
                let presented: Vec<&str> = presented.iter().map(String::as_str).take(MAX_SHOWN).collect();
                write!(
                    f,
                    "DANE-TA(2) needs one of the names {} in the server's certificate, which has {}",
                    expected.join(", "),
                    if presented.is_empty() { "none".to_owned() } else { presented.join(", ") }
                )
            }
            Self::TooMuchWork => f.write_str("the chain asks for too many signature checks"),
        }
    }
}

impl std::error::Error for Mismatch {}

/// 4.7.5 where security failed, 4.4.3 (directory server failure) where the DNS did not answer.
fn lookup_status(error: &LookupError) -> &'static str {
    if error.status == Status::Bogus { "4.7.5" } else { "4.4.3" }
}

/// How many records or names a sentence lists.
const MAX_SHOWN: usize = 8;
