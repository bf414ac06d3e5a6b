//! One kind of message, and the policy it came under, as text for the counters: two messages of one kind give the same text.

use std::net::IpAddr;

use mta_smtp::text::is_harmful;
use serde::{Deserialize, Serialize};

use crate::auth::policy::Evaluated;
use crate::auth::verdict::{Dkim, Published, Verdicts, Word};

/// Signatures of one message that are told, the most telling first (RFC 9990 3.1).
const MAX_SIGNATURES: usize = 6;

/// Octets of a name of a stranger's that are told.
const MAX_NAME_BYTES: usize = 120;

/// One kind of message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The client's address.
    pub source_ip: IpAddr,
    /// What was done with it: `none`, `pass`, `quarantine` or `reject`.
    pub disposition: String,
    /// A signature of the author's own passed.
    pub dkim: bool,
    /// So did SPF.
    pub spf: bool,
    /// Why that was not what the policy asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The author's domain.
    pub header_from: String,
    /// The domain of the reverse-path; empty for the null one.
    pub envelope_from: String,
    /// The signatures.
    pub signatures: Vec<Signature>,
    /// What SPF said.
    pub spf_result: Spf,
}

/// Why a policy was not followed (RFC 9990 3.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Its type, a word of RFC 9990.
    pub word: String,
    /// In words of ours.
    pub comment: String,
}

/// A signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// `d=`
    pub domain: String,
    /// `s=`
    pub selector: String,
    /// RFC 8601 2.7.1.
    pub result: String,
}

/// What SPF said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spf {
    /// The domain that was asked.
    pub domain: String,
    /// It is that of HELO.
    pub helo: bool,
    /// RFC 8601 2.7.2.
    pub result: String,
}

/// The policy of a domain, and where it wants its reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPolicy {
    /// `adkim=s`
    pub adkim_strict: bool,
    /// `aspf=s`
    pub aspf_strict: bool,
    /// `p=`
    pub policy: String,
    /// `sp=`
    pub subdomain_policy: String,
    /// `t=y`
    pub testing: bool,
    /// `rua=`: addresses, each with the largest report it takes in octets (0: any).
    pub rua: Vec<(String, usize)>,
}

impl Row {
    /// The kind that a message is of.
    pub(crate) fn of(
        client: IpAddr,
        envelope_from: Option<&str>,
        verdicts: &Verdicts,
        evaluated: &Evaluated,
    ) -> Self {
        let (dmarc, spf) = (&verdicts.dmarc, verdicts.spf());
        Self {
            source_ip: client.to_canonical(),
            disposition: evaluated.disposition.to_owned(),
            dkim: dmarc.dkim_aligned,
            spf: dmarc.spf_aligned,
            reason: evaluated
                .reason
                .map(|(word, comment)| Reason { word: word.to_owned(), comment: comment.to_owned() }),
            header_from: name(&dmarc.domain),
            envelope_from: name(envelope_from.unwrap_or_default()),
            signatures: signatures(&verdicts.dkim, &dmarc.domain),
            spf_result: Spf {
                domain: name(&spf.domain),
                helo: verdicts.spf_from.is_none(),
                result: spf.result.to_string(),
            },
        }
    }
}

impl From<&Published> for PublishedPolicy {
    fn from(published: &Published) -> Self {
        Self {
            adkim_strict: published.adkim_strict,
            aspf_strict: published.aspf_strict,
            policy: published.policy.to_string(),
            subdomain_policy: published.subdomain_policy.to_string(),
            testing: published.testing,
            rua: published.rua.clone(),
        }
    }
}

/// RFC 9990 3.1: those that pass for the author's own domain first, then those near it, then the others that pass.
fn signatures(all: &[Dkim], author: &str) -> Vec<Signature> {
    let rank = |signature: &Dkim| {
        let domain = signature.domain.to_ascii_lowercase();
        match signature.word {
            Word::Pass if domain == author => 0,
            Word::Pass if is_related(&domain, author) => 1,
            Word::Pass => 2,
            _ => 3,
        }
    };
    let mut sorted: Vec<&Dkim> = all.iter().filter(|it| !it.domain.is_empty()).collect();
    sorted.sort_by_key(|signature| rank(signature));
    let told = sorted.into_iter().take(MAX_SIGNATURES).map(|signature| Signature {
        domain: name(&signature.domain),
        selector: name(&signature.selector),
        result: signature.word.to_string(),
    });
    told.collect()
}

/// One is the other, or stands below it.
fn is_related(one: &str, other: &str) -> bool {
    let below = |lower: &str, upper: &str| lower.strip_suffix(upper).is_some_and(|rest| rest.ends_with('.'));
    one == other || below(one, other) || below(other, one)
}

/// A name as a stranger has it: lower case, in one piece, of bounded length.
fn name(text: &str) -> String {
    let text = text.to_lowercase();
    let cut = text.get(..text.floor_char_boundary(MAX_NAME_BYTES)).unwrap_or_default();
    cut.chars().map(|c| if is_harmful(c) { '?' } else { c }).collect()
}
