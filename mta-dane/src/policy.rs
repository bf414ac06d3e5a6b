//! What DANE demands of a connection to one host (RFC 7672 2.2), and what a destination for which DANE is mandatory, or
//! switched off, makes of that.
//!
//! What it does not: it finds nothing out (see `discovery`) and verifies nothing (see `verify`).

use hickory_proto::rr::Name;

use crate::dnssec::Status;
use crate::failure::{HostFault, NoDane, RequiredFault, ResultType};
use crate::reference::{ReferenceId, text};
use crate::tlsa::{TlsaRecord, Unusable};

/// The demand on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPolicy {
    /// TLS is mandatory and the host must satisfy a TLSA record; else it is not used (F1, F2).
    Authenticate(Authenticate),
    /// TLS is mandatory, authentication impossible: secure TLSA records exist and none is usable (D7, E9).
    EncryptOnly {
        /// The TLSA base domain: what goes into SNI.
        base_domain: Name,
        /// The records, each with what makes it unusable.
        unusable: Vec<(TlsaRecord, Unusable)>,
    },
    /// DANE demands nothing: opportunistic TLS, plaintext allowed, other policies may demand more (J6).
    NotApplicable(NoDane),
    /// The host may not be used at this attempt.
    Unavailable(HostFault),
}

/// What a host must satisfy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticate {
    /// The TLSA base domain: what goes into SNI, and the first reference identifier.
    pub base_domain: Name,
    /// The records to match against, never empty: usable, digest agility applied, DANE-EE(3) first.
    pub records: Vec<TlsaRecord>,
    /// Records left out as unusable, for the decision record.
    pub unusable: Vec<(TlsaRecord, Unusable)>,
    /// The names one of which a DANE-TA(2) server must have.
    pub reference_ids: Vec<ReferenceId>,
    /// The MX records were not secure: the host is authenticated, the next-hop domain is not, and no log line or report may
    /// say so (B6, B7).
    pub host_only: bool,
}

/// How a destination stands to DANE by local policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Requirement {
    /// DANE where the destination publishes it.
    #[default]
    Opportunistic,
    /// DANE or nothing: no usable secure TLSA means delay (RFC 7672 2.2.1, 6).
    Mandatory,
    /// DANE is not looked at (J9). The caller owns the end date and the warning.
    Off,
}

impl HostPolicy {
    /// Whether the connection may go on without TLS. The only policy that says yes is `NotApplicable`.
    pub fn plaintext_allowed(&self) -> bool {
        matches!(self, Self::NotApplicable(_))
    }

    /// The TLSA base domain, which goes into SNI instead of the host's name (F3).
    pub fn base_domain(&self) -> Option<&Name> {
        match self {
            Self::Authenticate(demand) => Some(&demand.base_domain),
            Self::EncryptOnly { base_domain, .. } => Some(base_domain),
            Self::NotApplicable(_) | Self::Unavailable(_) => None,
        }
    }

    /// The base domain as it stands in SNI: A-labels, no trailing dot (F3).
    pub fn sni(&self) -> Option<String> {
        self.base_domain().map(text)
    }

    /// The TLSRPT result type that this policy alone already means (L8).
    pub fn result_type(&self) -> Option<ResultType> {
        match self {
            Self::Authenticate(_) | Self::NotApplicable(_) => None,
            Self::EncryptOnly { .. } => Some(ResultType::TlsaInvalid),
            Self::Unavailable(fault) => fault.result_type(),
        }
    }

    /// Applies a destination's requirement (K1 to K3): under `Mandatory` everything but a domain-wide `Authenticate` becomes
    /// unavailable. `mx` is the status of the MX records, `Secure` for a configured relay host.
    #[must_use]
    pub fn under(self, requirement: Requirement, mx: Status) -> Self {
        if requirement != Requirement::Mandatory {
            return self;
        }
        let fault = match self {
            Self::Unavailable(_) => return self,
            _ if mx != Status::Secure => RequiredFault::InsecureMx,
            Self::Authenticate(demand) if demand.host_only => RequiredFault::InsecureMx,
            Self::Authenticate(_) => return self,
            Self::NotApplicable(why) => RequiredFault::NotApplicable(why),
            Self::EncryptOnly { unusable, .. } => RequiredFault::AllUnusable(unusable),
        };
        Self::Unavailable(HostFault::DaneRequired(fault))
    }
}
