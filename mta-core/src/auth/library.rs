//! The one place that knows mail-auth: DKIM, ARC and DMARC.
//!
//! The library looks records up through caches first and then through a resolver of its own, on tokio. Here the caches
//! always answer, from [`Facts`] or with "not known yet", so its resolver is never asked, no tokio runtime exists, and
//! what it needs from DNS is asked by the daemon's own resolver. Bodies are hashed as they stream by (`body`); the
//! library sees header sections alone. A panic inside it is an error of this one check.
//!
//! What is decided here and not left to the library: rsa-sha1 proves nothing (RFC 8301 3.1), how many signatures are
//! looked at, how many fields one may cover, and the policy for subdomains that do not exist.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures_lite::future::{block_on, poll_once};
use hickory_proto::rr::RecordType;
use mail_auth::common::crypto::{Algorithm, HashAlgorithm};
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::{DomainKey, VerifySignature};
use mail_auth::dkim::{Atps, Canonicalization, DomainKeyReport};
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::dmarc::{Dmarc, Policy as Published};
use mail_auth::hickory_resolver::TokioResolver;
use mail_auth::hickory_resolver::config::{ResolverConfig, ResolverOpts};
use mail_auth::hickory_resolver::net::runtime::TokioRuntimeProvider;
use mail_auth::hickory_resolver::proto::op::ResponseCode;
use mail_auth::{
    AuthenticatedMessage, DkimOutput, DkimResult, DmarcResult, DnsError, Error, MX, MessageAuthenticator,
    Parameters, RecordSet, ResolverCache, SpfOutput, Txt,
};

use super::body::BodyHashes;
use super::facts::{Facts, Found, Question, name};
use super::spf::SpfResult;
use super::verdict::{Arc as ArcVerdict, Dkim, Dmarc as DmarcVerdict, Policy, Word};
use crate::content::header::fields;

/// Fields that one signature may cover; a list beyond it is work for us and good for nobody.
const MAX_COVERED_FIELDS: usize = 300;

/// Sets of an ARC chain (RFC 8617 4.2.1).
const MAX_ARC_SETS: usize = 50;

/// Which canonicalizations of the body the signatures of a header section need: relaxed, simple.
pub(super) fn canonicalizations(header: &[u8]) -> (bool, bool) {
    let wanted = guarded(|| {
        let message = AuthenticatedMessage::parse(header)?;
        let wants = |kind| message.body_hashes.iter().any(|(body, ..)| *body == kind);
        Some((wants(Canonicalization::Relaxed), wants(Canonicalization::Simple)))
    });
    wanted.flatten().unwrap_or_default()
}

/// The domains of the From field, each once.
pub(super) fn authors(header: &[u8]) -> Vec<String> {
    let message = guarded(|| AuthenticatedMessage::parse(header)).flatten();
    message.map(|message| authors_of(&message)).unwrap_or_default()
}

fn authors_of(message: &AuthenticatedMessage<'_>) -> Vec<String> {
    let domains = message.from.iter().filter_map(|from| from.rsplit_once('@'));
    let mut authors: Vec<String> = domains.map(|(_, domain)| domain.to_owned()).collect();
    authors.sort();
    authors.dedup();
    authors
}

/// The signatures of a message.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Signatures {
    pub(super) dkim: Vec<Dkim>,
    pub(super) arc: ArcVerdict,
    /// The domains of From, each once.
    pub(super) authors: Vec<String>,
    /// How many fields the header section has, as far as it was read.
    pub(super) fields: usize,
    /// The header section is none that every reader reads alike; nothing in it proves anything.
    pub(super) unsound: bool,
}

/// Why nothing in a header section proves anything.
pub(super) const UNSOUND: &str = "a line of the header section is no field";

impl Signatures {
    /// Of a header section that readers read differently: what is signed is not what is shown.
    pub(super) fn unsound(header: &[u8]) -> Self {
        let has = |name| fields(header).any(|field| field.is(name));
        let dkim = has("DKIM-Signature").then(|| Dkim {
            word: Word::Policy,
            reason: UNSOUND.to_owned(),
            ..Dkim::default()
        });
        let word = if has("ARC-Seal") { Word::Fail } else { Word::None };
        let arc = ArcVerdict { word, reason: UNSOUND.to_owned(), ..ArcVerdict::default() };
        Self { dkim: dkim.into_iter().collect(), arc, unsound: true, ..Self::default() }
    }
}

/// Judges DKIM and ARC, or names what has to be asked first.
pub(super) fn signatures(
    header: &[u8],
    bodies: &BodyHashes,
    facts: &Facts,
    max_signatures: usize,
) -> Result<Signatures, Vec<Question>> {
    let known = Known::new(facts);
    let judged = guarded(|| {
        let Some(mut message) = AuthenticatedMessage::parse(header) else {
            return Signatures::default();
        };
        let mut dkim = take_hopeless(&mut message, max_signatures);
        fill_bodies(&mut message, bodies);
        let outputs = ready(authenticator().map(|it| it.verify_dkim(known.parameters(&message))));
        dkim.extend(outputs.unwrap_or_default().iter().map(dkim_verdict));
        let arc = arc_verdict(&message, &known);
        let authors = authors_of(&message);
        let fields = message.headers.len();
        Signatures { dkim, arc, authors, fields, unsound: false }
    });
    let wanted = known.wanted.into_inner();
    if !wanted.is_empty() {
        return Err(wanted);
    }
    Ok(judged.unwrap_or_else(|| Signatures {
        arc: ArcVerdict { word: Word::TempError, ..ArcVerdict::default() },
        unsound: true,
        ..Signatures::default()
    }))
}

/// What DMARC goes by besides the header section.
#[derive(Debug, Clone, Copy)]
pub(super) struct DmarcInput<'a> {
    pub(super) header: &'a [u8],
    pub(super) dkim: &'a [Dkim],
    pub(super) spf: SpfResult,
    /// The domain that SPF was about.
    pub(super) spf_domain: &'a str,
}

/// Judges DMARC (RFC 9989), or names what has to be asked first.
pub(super) fn dmarc(input: &DmarcInput<'_>, facts: &Facts) -> Result<DmarcVerdict, Vec<Question>> {
    let known = Known::new(facts);
    let judged = guarded(|| {
        let message = AuthenticatedMessage::parse(input.header)?;
        // What was judged before is told again, by the signature it was about.
        let found = |verdict: &Dkim| {
            message.dkim_headers.iter().map(|header| &header.header).find(|signature| {
                signature.d == verdict.domain
                    && signature.s == verdict.selector
                    && verdict.is_of(&signature.b)
            })
        };
        let outputs: Vec<DkimOutput<'_>> = input
            .dkim
            .iter()
            .filter_map(|verdict| match verdict.word {
                Word::Pass => Some(DkimOutput::pass().with_signature(found(verdict)?)),
                Word::TempError => Some(DkimOutput::temp_err(unknown()).with_signature(found(verdict)?)),
                _ => None,
            })
            .collect();
        let spf_output = SpfOutput::new(input.spf_domain.to_owned()).with_result(spf_result(input.spf));
        let parameters = DmarcParameters {
            message: &message,
            dkim_output: &outputs,
            dkim2_output: None,
            rfc5321_mail_from_domain: input.spf_domain,
            spf_output: &spf_output,
        };
        let output = ready(authenticator().map(|it| it.verify_dmarc(known.parameters(parameters))))?;
        Some(dmarc_verdict(&output, &known))
    });
    let wanted = known.wanted.into_inner();
    if !wanted.is_empty() {
        return Err(wanted);
    }
    Ok(judged.flatten().unwrap_or_else(|| DmarcVerdict { word: Word::TempError, ..DmarcVerdict::default() }))
}

/// Takes out the signatures that prove nothing whatever they say, so that the library does no work for them.
fn take_hopeless(message: &mut AuthenticatedMessage<'_>, max_signatures: usize) -> Vec<Dkim> {
    let mut hopeless = Vec::new();
    let mut kept = 0;
    message.dkim_headers.retain_mut(|header| {
        let signature = &mut header.header;
        // Reports and third-party signatures (RFC 6651, RFC 6541) would only be further questions.
        (signature.r, signature.atps) = (false, None);
        kept += 1;
        let reason = if kept > max_signatures {
            "more signatures than are looked at"
        } else if signature.a == Algorithm::RsaSha1 {
            "rsa-sha1 proves nothing (RFC 8301)"
        } else if signature.h.len() > MAX_COVERED_FIELDS {
            "covers too many fields"
        } else {
            return true;
        };
        if hopeless.len() < max_signatures {
            hopeless.push(Dkim { word: Word::Policy, reason: reason.to_owned(), ..of_signature(signature) });
        }
        false
    });
    message.errors.truncate(max_signatures);
    hopeless
}

/// Puts in the body hashes that were made while the body streamed by.
fn fill_bodies(message: &mut AuthenticatedMessage<'_>, bodies: &BodyHashes) {
    for (kind, algorithm, _, hash) in &mut message.body_hashes {
        let made = match (&kind, &algorithm) {
            (Canonicalization::Relaxed, HashAlgorithm::Sha256) => &bodies.relaxed,
            (Canonicalization::Simple, HashAlgorithm::Sha256) => &bodies.simple,
            _ => &None,
        };
        *hash = made.clone().unwrap_or_default();
    }
}

fn of_signature(signature: &mail_auth::dkim::Signature) -> Dkim {
    Dkim {
        domain: signature.d.clone(),
        selector: signature.s.clone(),
        algorithm: signature.a.name(),
        start: Dkim::start_of(&signature.b),
        ..Dkim::default()
    }
}

fn dkim_verdict(output: &DkimOutput<'_>) -> Dkim {
    let (word, reason) = word(output.result());
    Dkim { word, reason, ..output.signature().map(of_signature).unwrap_or_default() }
}

/// The word of RFC 8601 2.7.1 for a result of the library.
fn word(result: &DkimResult) -> (Word, String) {
    use mail_auth::arc::ArcError;
    use mail_auth::dkim::DkimError;
    match result {
        DkimResult::Pass => (Word::Pass, String::new()),
        DkimResult::None => (Word::None, String::new()),
        DkimResult::Fail(error) => (Word::Fail, error.to_string()),
        DkimResult::TempError(error) => (Word::TempError, error.to_string()),
        DkimResult::PermError(error) => (Word::PermError, error.to_string()),
        DkimResult::Neutral(error) => {
            let word = match error {
                Error::Dkim(DkimError::FailedBodyHashMatch) | Error::Arc(ArcError::FailedBodyHashMatch) => {
                    Word::Fail
                }
                // RFC 6376 8.2: a signature over a part of the body lets anybody add the rest.
                Error::Dkim(DkimError::SignatureLength) | Error::Arc(ArcError::SignatureLength) => {
                    Word::Policy
                }
                _ => Word::Neutral,
            };
            (word, error.to_string())
        }
    }
}

fn arc_verdict(message: &AuthenticatedMessage<'_>, known: &Known<'_>) -> ArcVerdict {
    let sets = message.as_headers.len().max(message.ams_headers.len()).max(message.aar_headers.len());
    let hopeless = sets > MAX_ARC_SETS
        || message.ams_headers.iter().any(|header| header.header.h.len() > MAX_COVERED_FIELDS)
        || message.ams_headers.iter().any(|header| header.header.a == Algorithm::RsaSha1)
        || message.as_headers.iter().any(|header| header.header.a == Algorithm::RsaSha1);
    let sealer = message.as_headers.last().map(|header| header.header.d.clone()).unwrap_or_default();
    if hopeless {
        return ArcVerdict {
            word: Word::Fail,
            sets,
            sealer,
            reason: "more than is looked at".to_owned(),
            saw: Vec::new(),
        };
    }
    // All keys of the chain at once, where the library would ask for one after the other.
    for key in message.as_headers.iter().map(|header| header.header.domain_key()) {
        known.text(&key);
    }
    let Some(output) = ready(authenticator().map(|it| it.verify_arc(known.parameters(message)))) else {
        return ArcVerdict { word: Word::TempError, sets, sealer, ..ArcVerdict::default() };
    };
    let (word, reason) = word(output.result());
    // RFC 8617 5.2: a chain that is broken in whatever way failed.
    let word = if matches!(word, Word::Neutral | Word::Policy) { Word::Fail } else { word };
    let saw = message.aar_headers.last().map(|header| header.value.to_vec()).unwrap_or_default();
    ArcVerdict { word, sets, sealer, reason, saw }
}

fn dmarc_verdict(output: &mail_auth::DmarcOutput, known: &Known<'_>) -> DmarcVerdict {
    let (word, reason) = match output.result() {
        DmarcResult::Pass => (Word::Pass, String::new()),
        DmarcResult::None => (Word::None, String::new()),
        DmarcResult::Fail(error) => (Word::Fail, error.to_string()),
        DmarcResult::TempError(error) => (Word::TempError, error.to_string()),
        DmarcResult::PermError(error) => (Word::PermError, error.to_string()),
    };
    let aligned = |result: &DmarcResult| *result == DmarcResult::Pass;
    let mut verdict = DmarcVerdict {
        word,
        reason,
        domain: output.domain().to_owned(),
        policy: policy(output.policy()),
        spf_aligned: aligned(output.spf_result()),
        dkim_aligned: aligned(output.dkim_result()),
        published: None,
    };
    let Some(record) = output.dmarc_record() else { return verdict };
    let own = known.text(&format!("_dmarc.{}.", verdict.domain));
    // RFC 9989 4.10.1: for a subdomain that does not exist its own tag, which the library cannot be told of.
    if !matches!(own, Txt::Dmarc(_)) && record.np != record.sp && known.is_missing(&verdict.domain) {
        verdict.policy = policy(match (record.np, record.t) {
            (Published::Reject, true) => Published::Quarantine,
            (Published::Quarantine, true) => Published::None,
            (policy, _) => policy,
        });
    }
    let domain = publisher(&verdict.domain, record, known);
    verdict.published = Some(super::verdict::Published {
        domain,
        testing: record.t,
        adkim_strict: record.adkim == mail_auth::dmarc::Alignment::Strict,
        aspf_strict: record.aspf == mail_auth::dmarc::Alignment::Strict,
        policy: policy(record.p),
        subdomain_policy: policy(record.sp),
        rua: record.rua.iter().map(|uri| (uri.uri.clone(), uri.max_size)).collect(),
    });
    verdict
}

/// The domain that publishes the record: the author's own, else of those above it the last that has just this one, which is
/// the organization's (RFC 9989 4.10.1). What the library has not asked for is not asked for here.
fn publisher(author: &str, record: &Dmarc, known: &Known<'_>) -> String {
    let has_it = |domain: &str| {
        let question = name(&format!("_dmarc.{domain}")).map(|name| (name, RecordType::TXT));
        let texts = question.and_then(|question| known.facts.get(&question)).map(Found::texts);
        matches!(texts.as_deref().map(first::<Dmarc>), Some(Txt::Dmarc(found)) if *found == *record)
    };
    let author = author.to_ascii_lowercase();
    if has_it(&author) {
        return author;
    }
    let above = std::iter::successors(author.split_once('.'), |(_, above)| above.split_once('.'));
    let last = above.map(|(_, above)| above).filter(|above| has_it(above)).last();
    last.map_or_else(|| author.clone(), str::to_owned)
}

fn policy(policy: Published) -> Policy {
    match policy {
        Published::Reject => Policy::Reject,
        Published::Quarantine => Policy::Quarantine,
        Published::None | Published::Unspecified => Policy::None,
    }
}

fn spf_result(result: SpfResult) -> mail_auth::SpfResult {
    match result {
        SpfResult::None => mail_auth::SpfResult::None,
        SpfResult::Neutral => mail_auth::SpfResult::Neutral,
        SpfResult::Pass => mail_auth::SpfResult::Pass,
        SpfResult::Fail => mail_auth::SpfResult::Fail,
        SpfResult::SoftFail => mail_auth::SpfResult::SoftFail,
        SpfResult::TempError => mail_auth::SpfResult::TempError,
        SpfResult::PermError => mail_auth::SpfResult::PermError,
    }
}

/// A panic in code that reads strangers' octets is an error of this check and no more.
fn guarded<T>(judge: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(judge)).ok()
}

/// The library's future, which never waits: its caches always answer.
fn ready<T>(future: Option<impl Future<Output = T>>) -> Option<T> {
    block_on(poll_once(future?))
}

/// The library's way in, with a resolver that knows no server.
fn authenticator() -> Option<&'static MessageAuthenticator> {
    static ONE: OnceLock<Option<MessageAuthenticator>> = OnceLock::new();
    ONE.get_or_init(|| {
        let config = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.with_options(ResolverOpts::default()).build().ok().map(MessageAuthenticator)
    })
    .as_ref()
}

fn unknown() -> Error {
    Error::Dns(DnsError::Resolver(String::new()))
}

/// The facts as the library's caches.
struct Known<'a> {
    facts: &'a Facts,
    wanted: RefCell<Vec<Question>>,
}

impl<'a> Known<'a> {
    fn new(facts: &'a Facts) -> Self {
        Self { facts, wanted: RefCell::default() }
    }

    fn parameters<P>(&self, params: P) -> Parameters<'_, P, Self, Self, Self, Self, Nothing> {
        Parameters {
            params,
            cache_txt: Some(self),
            cache_mx: Some(self),
            cache_ptr: None,
            cache_ipv4: Some(self),
            cache_ipv6: Some(self),
        }
    }

    /// What is known, noting down what is not.
    fn find(&self, text: &str, rtype: RecordType) -> Option<&Found> {
        let question = (name(text)?, rtype);
        let found = self.facts.get(&question);
        let mut wanted = self.wanted.borrow_mut();
        if found.is_none() && !wanted.contains(&question) {
            wanted.push(question);
        }
        found
    }

    /// The text record of a name, read as what its name says it is.
    fn text(&self, key: &str) -> Txt {
        if name(key).is_none() {
            return Txt::Error(Error::ParseError);
        }
        let found = match self.find(key, RecordType::TXT) {
            None => return Txt::Error(unknown()),
            Some(Found::Failed(reason)) => return Txt::Error(Error::Dns(DnsError::Resolver(reason.clone()))),
            Some(Found::NoName) => {
                return Txt::Error(Error::Dns(DnsError::RecordNotFound(ResponseCode::NXDomain)));
            }
            Some(Found::NoData) => {
                return Txt::Error(Error::Dns(DnsError::RecordNotFound(ResponseCode::NoError)));
            }
            Some(found) => found.texts(),
        };
        if key.starts_with("_report._domainkey.") {
            first::<DomainKeyReport>(&found)
        } else if key.contains("._domainkey.") {
            first::<DomainKey>(&found)
        } else if key.contains("._atps.") {
            first::<Atps>(&found)
        } else {
            first::<Dmarc>(&found)
        }
    }

    /// Whether a domain does not exist (RFC 8020).
    fn is_missing(&self, domain: &str) -> bool {
        self.find(domain, RecordType::A) == Some(&Found::NoName)
    }
}

/// The first record that can be read.
fn first<T: TxtRecordParser + Into<Txt>>(texts: &[Vec<u8>]) -> Txt {
    let mut result = Err(Error::Dns(DnsError::InvalidRecordType));
    for text in texts {
        result = T::parse(text);
        if result.is_ok() {
            break;
        }
    }
    result.into()
}

/// The text of a key, which the library hands over as something that can be hashed.
fn text_of<Q: Hash + ?Sized>(key: &Q) -> String {
    struct Capture(Vec<u8>);
    impl Hasher for Capture {
        fn write(&mut self, octets: &[u8]) {
            self.0.extend_from_slice(octets);
        }
        /// The octet behind a string's own.
        fn write_u8(&mut self, _: u8) {}
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut capture = Capture(Vec::new());
    key.hash(&mut capture);
    String::from_utf8_lossy(&capture.0).into_owned()
}

macro_rules! cache {
    ($value:ty, $get:expr) => {
        impl ResolverCache<Box<str>, $value> for Known<'_> {
            fn get<Q>(&self, key: &Q) -> Option<$value>
            where
                Box<str>: Borrow<Q>,
                Q: Hash + Eq + ?Sized,
            {
                let get: fn(&Self, &str) -> $value = $get;
                Some(get(self, &text_of(key)))
            }

            fn remove<Q>(&self, _: &Q) -> Option<$value>
            where
                Box<str>: Borrow<Q>,
                Q: Hash + Eq + ?Sized,
            {
                None
            }

            fn insert(&self, _: Box<str>, _: $value, _: Instant) {}
        }
    };
}

cache!(Txt, |known, key| known.text(key));
// The library asks for addresses only to learn whether a domain exists, which `dmarc_verdict` finds out by itself.
cache!(RecordSet<Ipv4Addr>, |_, _| empty());
cache!(RecordSet<std::net::Ipv6Addr>, |_, _| empty());
cache!(RecordSet<MX>, |_, _| empty());

fn empty<T>() -> RecordSet<T> {
    RecordSet { rrset: Arc::new([]), dnssec_status: mail_auth::DnssecStatus::Indeterminate }
}

/// No names of addresses: the library is never asked for any.
type Nothing = mail_auth::common::cache::NoCache<std::net::IpAddr, RecordSet<Box<str>>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_hands_over_the_names_it_looks_for() {
        assert_eq!(text_of::<str>("_dmarc.example.org."), "_dmarc.example.org.");
    }
}
