//! The driver of verification: asks the daemon's resolver what the evaluators need, within bounds, until all is known.
//!
//! It decides nothing about the message; that is `policy`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_io::Timer;
use futures_lite::FutureExt as _;
use futures_lite::future::zip;
use hickory_proto::rr::{Name, RData, RecordType};
use mta_smtp::address::ReversePath;

use super::body::BodyHashes;
use super::facts::{Facts, Found, Question};
use super::library::{self, DmarcInput, Signatures};
use super::spf::{self, Checked};
use super::verdict::{Dmarc, Iprev, Verdicts, Word};
use super::{Options, author};
use crate::dns::Resolver;
use crate::report::dmarc::Counter;

/// Names of an address that are looked at for iprev.
const MAX_REVERSE_NAMES: usize = 3;

/// What is known of a message and its client.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// What it called itself.
    pub helo: &'a str,
    /// The reverse-path.
    pub reverse_path: &'a ReversePath,
    /// The header section as it came.
    pub header: &'a [u8],
    /// The body's hashes.
    pub bodies: &'a BodyHashes,
}

/// Verifies messages.
#[derive(Clone)]
pub struct Verifier {
    /// Where results are counted for reports to the domains' owners.
    counter: Option<Arc<Counter>>,
    resolver: Arc<dyn Resolver>,
    options: Options,
    /// Our name, for SPF's explanations.
    receiver: String,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What one message may still ask.
struct Asking<'a> {
    resolver: &'a dyn Resolver,
    until: Instant,
    left: usize,
    facts: Facts,
}

impl Verifier {
    /// With the daemon's resolver.
    pub fn new(resolver: Arc<dyn Resolver>, options: Options, receiver: String) -> Self {
        Self { resolver, options, receiver, counter: None }
    }

    /// The same, and each message is counted.
    #[must_use]
    pub fn counting(self, counter: Option<Arc<Counter>>) -> Self {
        Self { counter, ..self }
    }

    /// Where messages are counted.
    pub(crate) fn counter(&self) -> Option<&Counter> {
        self.counter.as_deref()
    }

    /// What is set.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Checks everything about a message. Ends within the time that is set, whatever DNS does.
    pub async fn verify(&self, subject: &Subject<'_>) -> Verdicts {
        let (origin, signatures) = zip(self.origin(subject), self.signatures(subject)).await;
        let (spf_helo, spf_from, iprev) = origin;
        let (signatures, asking) = signatures;
        let dmarc = dmarc(subject, &signatures, spf_from.as_ref().unwrap_or(&spf_helo), asking).await;
        Verdicts { spf_helo, spf_from, dkim: signatures.dkim, arc: signatures.arc, dmarc, iprev }
    }

    fn asking(&self) -> Asking<'_> {
        let until = Instant::now() + self.options.timeout;
        Asking { resolver: &*self.resolver, until, left: self.options.max_lookups, facts: Facts::default() }
    }

    /// What the client's address and names say.
    async fn origin(&self, subject: &Subject<'_>) -> (Checked, Option<Checked>, Iprev) {
        let mut asking = self.asking();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let postmaster = format!("postmaster@{}", subject.helo);
        let mail_from = subject
            .reverse_path
            .mailbox()
            .map(|mailbox| format!("{}@{}", mailbox.local_part(), mailbox.host()));
        let check = |facts: &Facts, sender: &str| {
            let (client, helo, receiver) = (subject.client, subject.helo, self.receiver.as_str());
            spf::check(facts, &spf::Request { client, helo, sender, receiver, now_seconds: since.as_secs() })
        };
        loop {
            let helo = check(&asking.facts, &postmaster);
            let from = mail_from.as_ref().map(|sender| check(&asking.facts, sender)).transpose();
            let iprev = iprev(subject.client, &asking.facts);
            match (helo, from, iprev) {
                (Ok(helo), Ok(from), Ok(iprev)) => return (helo, from, iprev),
                (helo, from, iprev) => {
                    let mut wanted: Vec<Question> = helo.err().into_iter().chain(from.err()).collect();
                    wanted.extend(iprev.err().unwrap_or_default());
                    asking.ask(wanted).await;
                }
            }
        }
    }

    /// What the signatures say.
    async fn signatures(&self, subject: &Subject<'_>) -> (Signatures, Asking<'_>) {
        let mut asking = self.asking();
        if !author::is_sound(subject.header) {
            return (Signatures::unsound(subject.header), asking);
        }
        loop {
            let max = self.options.max_signatures;
            match library::signatures(subject.header, subject.bodies, &asking.facts, max) {
                // What the library did not read it did not judge.
                Ok(it) if it.fields != author::count(subject.header) => {
                    return (Signatures::unsound(subject.header), asking);
                }
                Ok(signatures) => return (signatures, asking),
                Err(wanted) => asking.ask(wanted).await,
            }
        }
    }
}

/// DMARC, which needs the others' results.
async fn dmarc(
    subject: &Subject<'_>,
    signatures: &Signatures,
    spf: &Checked,
    mut asking: Asking<'_>,
) -> Dmarc {
    let checked = match signatures.unsound {
        true => Err(library::UNSOUND),
        false => author::check(subject.header, &signatures.authors),
    };
    if let Err(reason) = checked {
        return Dmarc { word: Word::PermError, reason: reason.to_owned(), ..Dmarc::default() };
    }
    let input = DmarcInput {
        header: subject.header,
        dkim: &signatures.dkim,
        spf: spf.result,
        spf_domain: &spf.domain,
    };
    loop {
        match library::dmarc(&input, &asking.facts) {
            Ok(dmarc) => return dmarc,
            Err(wanted) => asking.ask(wanted).await,
        }
    }
}

/// The client's name (RFC 8601 3): one that leads back to the address.
fn iprev(client: IpAddr, facts: &Facts) -> Result<Iprev, Vec<Question>> {
    let client = client.to_canonical();
    let reverse = (Name::from(client), RecordType::PTR);
    let word = |word| Ok(Iprev { word, name: None });
    let records = match facts.get(&reverse) {
        None => return Err(vec![reverse]),
        Some(Found::Records(records)) => records,
        Some(Found::Failed(_)) => return word(Word::TempError),
        Some(_) => return word(Word::PermError),
    };
    let names = records.iter().filter_map(|record| match record {
        RData::PTR(name) => Some(name.to_lowercase()),
        _ => None,
    });
    let rtype = if client.is_ipv4() { RecordType::A } else { RecordType::AAAA };
    let (mut wanted, mut failed) = (Vec::new(), false);
    for name in names.take(MAX_REVERSE_NAMES) {
        let question = (name, rtype);
        match facts.get(&question) {
            None => wanted.push(question),
            Some(Found::Records(addresses)) if addresses.iter().any(|it| it.ip_addr() == Some(client)) => {
                let name = question.0.to_ascii().trim_end_matches('.').to_owned();
                return Ok(Iprev { word: Word::Pass, name: Some(name) });
            }
            Some(Found::Failed(_)) => failed = true,
            Some(_) => {}
        }
    }
    if wanted.is_empty() { word(if failed { Word::TempError } else { Word::Fail }) } else { Err(wanted) }
}

impl Asking<'_> {
    /// Asks everything at once and learns what came, or that nothing did.
    async fn ask(&mut self, mut wanted: Vec<Question>) {
        let mut lookups = Vec::new();
        while let Some(question) = wanted.pop() {
            if wanted.contains(&question) {
                continue;
            }
            if self.left == 0 {
                let why = "this message needs more lookups than are made for one".to_owned();
                self.facts.learn(question, Found::Failed(why));
                continue;
            }
            self.left -= 1;
            let (resolver, until) = (self.resolver, self.until);
            lookups.push(async move {
                let answer = async { Found::of(&*resolver.lookup(question.0.clone(), question.1).await) };
                let late = async {
                    Timer::at(until).await;
                    Found::Failed("no answer in time".to_owned())
                };
                let found = answer.or(late).await;
                (question, found)
            });
        }
        let mut lookups: Vec<_> = lookups.into_iter().map(Box::pin).collect();
        let mut found = Vec::new();
        std::future::poll_fn(|context| {
            lookups.retain_mut(|lookup| match lookup.as_mut().poll(context) {
                std::task::Poll::Ready(one) => {
                    found.push(one);
                    false
                }
                std::task::Poll::Pending => true,
            });
            if lookups.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        for (question, one) in found {
            self.facts.learn(question, one);
        }
    }
}
