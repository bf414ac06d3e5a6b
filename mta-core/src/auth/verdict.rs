//! What came out of verifying a message: values only.

use std::fmt;

use super::spf::{Checked, SpfResult};

/// A result in the words of RFC 8601 2.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Word {
    /// There was nothing to check.
    #[default]
    None,
    /// It holds.
    Pass,
    /// It does not hold.
    Fail,
    /// It is there, and we do not go by it.
    Policy,
    /// It is there and says nothing.
    Neutral,
    /// It cannot be known now.
    TempError,
    /// It is broken.
    PermError,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Policy => "policy",
            Self::Neutral => "neutral",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        })
    }
}

/// One DKIM signature (RFC 6376). Texts are the stranger's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dkim {
    /// The result.
    pub word: Word,
    /// Why it is not `pass`.
    pub reason: String,
    /// `d=`.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// `a=`; empty where the signature could not be read.
    pub algorithm: &'static str,
    /// The first octets of `b=`, by which signatures are told from each other (RFC 6008).
    pub start: String,
}

impl Dkim {
    /// The beginning of a signature as it stands in the field.
    pub(super) fn start_of(signature: &[u8]) -> String {
        use base64::Engine as _;
        let mut text =
            base64::engine::general_purpose::STANDARD.encode(signature.get(..6).unwrap_or(signature));
        text.truncate(8);
        text
    }

    /// Whether it is about this signature.
    pub(super) fn is_of(&self, signature: &[u8]) -> bool {
        self.start == Self::start_of(signature)
    }
}

/// The ARC chain (RFC 8617).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arc {
    /// The result; `none` where there is no chain.
    pub word: Word,
    /// Sets in the chain.
    pub sets: usize,
    /// The domain of the last seal.
    pub sealer: String,
    /// Why it is not `pass`.
    pub reason: String,
    /// What the last sealer says it saw: the value of its ARC-Authentication-Results.
    pub saw: Vec<u8>,
}

/// What a domain owner wants done with what fails (RFC 9989 4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// Nothing.
    #[default]
    None,
    /// To be treated as suspicious.
    Quarantine,
    /// To be refused.
    Reject,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        })
    }
}

/// What of a DMARC record goes into reports about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Published {
    /// The domain that publishes it: the author's, or the one above that it counts for. Lower case.
    pub domain: String,
    /// `t=y`.
    pub testing: bool,
    /// `adkim=s`.
    pub adkim_strict: bool,
    /// `aspf=s`.
    pub aspf_strict: bool,
    /// `p=`.
    pub policy: Policy,
    /// `sp=`.
    pub subdomain_policy: Policy,
    /// `rua=`: addresses, each with the largest report it takes in octets (0: any).
    pub rua: Vec<(String, usize)>,
}

/// DMARC (RFC 9989).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dmarc {
    /// The result; `none` where the author's domain publishes nothing.
    pub word: Word,
    /// Why it is not `pass`.
    pub reason: String,
    /// The author's domain.
    pub domain: String,
    /// What its owner asks for.
    pub policy: Policy,
    /// SPF passed for a domain that belongs to the author's.
    pub spf_aligned: bool,
    /// So did a DKIM signature.
    pub dkim_aligned: bool,
    /// The record, where there is one.
    pub published: Option<Published>,
}

/// Whether the client's address and a name lead to each other (RFC 8601 2.7.3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Iprev {
    /// The result.
    pub word: Word,
    /// The name, where they do.
    pub name: Option<String>,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdicts {
    /// SPF of the name given in HELO.
    pub spf_helo: Checked,
    /// SPF of the reverse-path; absent for the null one.
    pub spf_from: Option<Checked>,
    /// Each DKIM signature.
    pub dkim: Vec<Dkim>,
    /// The ARC chain.
    pub arc: Arc,
    /// DMARC.
    pub dmarc: Dmarc,
    /// The client's name.
    pub iprev: Iprev,
}

impl Verdicts {
    /// The SPF result that counts: of the reverse-path, or of HELO where that is null (RFC 7208 2.4).
    pub fn spf(&self) -> &Checked {
        self.spf_from.as_ref().unwrap_or(&self.spf_helo)
    }

    /// The DKIM result as one word: the best of the signatures.
    pub fn dkim_word(&self) -> Word {
        let best = [Word::Pass, Word::TempError, Word::Fail, Word::Policy, Word::PermError, Word::Neutral];
        let found = best.into_iter().find(|word| self.dkim.iter().any(|it| it.word == *word));
        found.unwrap_or_default()
    }

    /// All of it in a few words, for the log and the history. Plain ASCII without blanks.
    pub fn summary(&self) -> String {
        let mut text = format!("spf={}", self.spf().result);
        if self.spf_from.is_some() && self.spf_helo.result != SpfResult::None {
            text.push_str(&format!(",spf-helo={}", self.spf_helo.result));
        }
        text.push_str(&format!(",dkim={}", self.dkim_word()));
        if let Some(signer) = self.dkim.iter().find(|it| it.word == Word::Pass) {
            text.push_str(&format!("({})", super::results::plain(&signer.domain)));
        }
        text.push_str(&format!(",dmarc={}", self.dmarc.word));
        if self.dmarc.published.is_some() {
            text.push_str(&format!("(p={})", self.dmarc.policy));
        }
        if self.arc.word != Word::None {
            text.push_str(&format!(",arc={}", self.arc.word));
        }
        text.push_str(&format!(",iprev={}", self.iprev.word));
        text
    }
}
