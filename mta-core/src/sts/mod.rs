//! MTA-STS for mail going out (RFC 8461): which policy a recipient domain has.
//!
//! - `record`: the TXT record that announces a policy. `policy`: the policy file. `fetch`: getting it over HTTPS.
//! - [`Sts`]: what is known, and the one function that finds the policy in force for a domain.
//!
//! A policy that was fetched once holds until its `max_age` is over: whoever blocks DNS or HTTPS afterwards changes nothing
//! (RFC 8461 3.3, 10.2). It is replaced when the TXT record has another id and the new file can be fetched and read, and
//! it is fetched anew long before it ends. It lies in the queue's database, so a restart forgets nothing.
//!
//! What it does not: it applies no policy to a host; `outbound::tls_policy` does, where DANE leaves room.

mod fetch;
mod known;
mod policy;
mod record;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_proto::rr::{Name, RData, RecordType};
use mta_queue::{Queue, StoredStsPolicy};

pub use self::fetch::{Fault, FaultKind};
use self::known::Known;
pub use self::policy::{InvalidPolicy, Mode, Pattern, Policy};
use self::record::NoRecord;
use crate::dns::Resolver;
use crate::log::Line;
use crate::outbound;
use crate::tls::client::Client;

/// A policy that nobody sent mail under for this long is left to end by itself.
const UNUSED: Duration = Duration::from_secs(90 * 86_400);
/// How often at most one policy's use is written down.
const TOUCH_EVERY: Duration = Duration::from_secs(86_400);
/// Rounds of the refresher for one refresh interval, so that none is much late.
const ROUNDS: u32 = 24;
/// The shortest wait between two rounds.
const MIN_ROUND: Duration = Duration::from_secs(60);

/// Options of MTA-STS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether policies are looked for and applied.
    pub enabled: bool,
    /// The port of policy hosts; other than 443 in laboratories.
    pub port: u16,
    /// How long fetching a policy may take in all.
    pub fetch_timeout: Duration,
    /// How long a policy is used before it is fetched anew; at most half of its `max_age`.
    pub refresh: Duration,
    /// How long a failure to fetch is remembered; nobody is asked again meanwhile (RFC 8461 3.3: five minutes or more).
    pub retry: Duration,
    /// Policies kept.
    pub max_policies: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: true,
            port: 443,
            fetch_timeout: Duration::from_secs(30),
            refresh: Duration::from_secs(86_400),
            retry: Duration::from_secs(300),
            max_policies: 2000,
        }
    }
}

/// A policy as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The policy.
    pub policy: Arc<Policy>,
    /// The id in the TXT record when it was fetched.
    pub id: String,
    /// When it was fetched.
    pub fetched_at: SystemTime,
    /// When it ends.
    pub expires_at: SystemTime,
}

impl Found {
    fn is_over(&self, now: SystemTime) -> bool {
        now >= self.expires_at
    }

    /// Whether it should be fetched anew, well before it ends.
    fn is_due(&self, now: SystemTime, refresh: Duration) -> bool {
        let lifetime = self.expires_at.duration_since(self.fetched_at).unwrap_or_default();
        let age = now.duration_since(self.fetched_at).unwrap_or_default();
        // There is nothing to protect in the absence of a policy.
        self.policy.mode != Mode::None && age >= refresh.min(lifetime / 2)
    }
}

/// What was found out about the policy of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The recipient domain, A-labels.
    pub domain: String,
    /// The policy in force.
    pub policy: Option<Found>,
    /// Why there is none, or no newer one.
    pub fault: Option<Fault>,
}

/// The MTA-STS policies that this server knows, and how it learns them.
pub struct Sts {
    resolver: Arc<dyn Resolver>,
    tls: Arc<Client>,
    /// Where policies are kept; without it only in memory.
    queue: Option<Queue>,
    known: Mutex<Known>,
}

impl std::fmt::Debug for Sts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sts").finish_non_exhaustive()
    }
}

impl Sts {
    /// With what the queue's database holds. Blocks on the disk.
    pub fn new(resolver: Arc<dyn Resolver>, tls: Arc<Client>, queue: Option<Queue>) -> Arc<Self> {
        let stored = queue.as_ref().map(|queue| queue.reader().sts_policies());
        let stored = stored.transpose().unwrap_or_else(|error| {
            // Never without a word: until they are fetched again, these domains are as unprotected as on the first day.
            ::log::error!("{}", Line::new("sts-policies-unreadable").with("error", error));
            None
        });
        let known = Known::from_stored(stored.unwrap_or_default(), SystemTime::now());
        Arc::new(Self { resolver, tls, queue, known: Mutex::new(known) })
    }

    /// The TLS client that policies are fetched with.
    pub fn tls_client(&self) -> Arc<Client> {
        Arc::clone(&self.tls)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy in force for a recipient domain (A-labels, lower case; RFC 8461 3.3, 5.1).
    ///
    /// Asks for the TXT record; fetches the file where that announces a policy we do not have. Takes at most the resolver's
    /// deadline and `Options::fetch_timeout`. Never fails: a policy that is known holds until it is over, and without one
    /// there is none.
    pub async fn policy(self: &Arc<Self>, domain: &str, options: &Arc<outbound::Options>) -> Finding {
        let now = SystemTime::now();
        let announced = self.announced(domain).await;
        let known = self.known().get(domain, now);
        let finding = match (announced, known) {
            // RFC 8461 5.1: the lack of a record takes nothing away from a policy that is known.
            (Err(fault), known) => Finding { domain: domain.to_owned(), policy: known, fault },
            (Ok(id), Some(known)) if known.id == id => {
                if known.is_due(now, options.sts.refresh) {
                    self.refresh_aside(domain, id, options);
                }
                Finding { domain: domain.to_owned(), policy: Some(known), fault: None }
            }
            (Ok(id), _) => self.learn(domain, &id, options).await,
        };
        if finding.policy.is_some() {
            self.used(domain, now);
        }
        finding
    }

    /// The id that the domain announces; an error without a fault where it announces nothing.
    async fn announced(&self, domain: &str) -> Result<String, Option<Fault>> {
        let name = Name::from_ascii(format!("_mta-sts.{domain}."));
        // A name so long that there can be no record.
        let Ok(name) = name else { return Err(None) };
        let answer = self.resolver.lookup(name, RecordType::TXT).await;
        if answer.status.is_error() {
            let reason = answer.reason.as_deref().unwrap_or("no answer").escape_debug().to_string();
            let why = format!("the TXT record of _mta-sts.{domain} could not be had: {reason}");
            return Err(Some(Fault::new(FaultKind::Record, why)));
        }
        let texts: Vec<Vec<u8>> = answer
            .records
            .iter()
            .filter_map(|record| match &record.data {
                RData::TXT(txt) => Some(txt.txt_data.concat()),
                _ => None,
            })
            .collect();
        record::policy_id(texts.iter().map(Vec::as_slice)).map_err(|why| {
            let what = match why {
                NoRecord::Absent => return None,
                NoRecord::Several => "there are several",
                NoRecord::Invalid => "it breaks the grammar of RFC 8461 3.1",
            };
            Some(Fault::new(
                FaultKind::Record,
                format!("the TXT record of _mta-sts.{domain} says nothing: {what}"),
            ))
        })
    }

    /// Fetches the policy with this id, unless somebody just did or just failed to.
    async fn learn(&self, domain: &str, id: &str, options: &outbound::Options) -> Finding {
        let turn = self.known().turn(domain);
        let _turn = turn.lock().await;
        let now = SystemTime::now();
        let finding = |policy, fault| Finding { domain: domain.to_owned(), policy, fault };
        let (known, failed) = {
            let mut known = self.known();
            (known.get(domain, now), known.failure(domain, id, now))
        };
        if known.as_ref().is_some_and(|known| known.id == id && !known.is_due(now, options.sts.refresh)) {
            return finding(known, None);
        }
        if let Some(fault) = failed {
            return finding(known, Some(fault));
        }
        match fetch::fetch(&*self.resolver, &self.tls, domain, options).await {
            Ok(policy) => finding(Some(self.keep(domain, id, policy, options)), None),
            Err(fault) => {
                let line = Line::new("sts-fetch-failed").with("domain", domain).with("reason", &fault);
                let effect = if known.is_some() { "the known policy stays in force" } else { "no policy" };
                ::log::warn!("{}", line.with("effect", effect));
                let until = SystemTime::now() + options.sts.retry;
                self.known().failed(domain, id, fault.clone(), until);
                finding(known, Some(fault))
            }
        }
    }

    /// Takes a policy that was just fetched into force.
    fn keep(&self, domain: &str, id: &str, policy: Policy, options: &outbound::Options) -> Found {
        let now = SystemTime::now();
        // One that may not be kept at all would be fetched for each message.
        let lifetime = policy.max_age.max(options.sts.retry);
        let found = Found {
            policy: Arc::new(policy),
            id: id.to_owned(),
            fetched_at: now,
            expires_at: now.checked_add(lifetime).unwrap_or(now),
        };
        let lines = found.policy.lines();
        let is_news = self.known().put(domain, found.clone(), now, options.sts.max_policies);
        if is_news {
            let line = Line::new("sts-policy").with("domain", domain).with("id", id);
            ::log::info!("{}", line.with("policy", lines.join(", ")));
        }
        if let Some(queue) = &self.queue {
            let stored = StoredStsPolicy {
                domain: domain.to_owned(),
                id: id.to_owned(),
                policy: lines.join("\n"),
                fetched_at: now,
                expires_at: found.expires_at,
                used_at: now,
            };
            // A failure is in the log; the policy holds in memory.
            queue.put_sts_policy(stored, |_| {});
        }
        found
    }

    fn used(&self, domain: &str, now: SystemTime) {
        if self.known().touch(domain, now, TOUCH_EVERY)
            && let Some(queue) = &self.queue
        {
            queue.touch_sts_policy(domain, now);
        }
    }

    /// Fetches a policy anew beside the deliveries, which go on under the known one.
    fn refresh_aside(self: &Arc<Self>, domain: &str, id: String, options: &Arc<outbound::Options>) {
        if self.known().failure(domain, &id, SystemTime::now()).is_some() {
            return;
        }
        let (sts, domain, options) = (Arc::clone(self), domain.to_owned(), Arc::clone(options));
        smol::spawn(async move { sts.learn(&domain, &id, &options).await }).detach();
    }

    /// Fetches policies anew before they end, whether or not mail goes to their domains (RFC 8461 3.3). Never ends.
    pub async fn run(self: Arc<Self>, options: impl Fn() -> Arc<outbound::Options>) {
        loop {
            let current = options();
            smol::Timer::after((current.sts.refresh / ROUNDS).max(MIN_ROUND)).await;
            self.refresh_due(&options()).await;
        }
    }

    /// One round of [`Sts::run`].
    async fn refresh_due(&self, options: &outbound::Options) {
        if !options.sts.enabled {
            return;
        }
        let due = self.known().due(SystemTime::now(), options.sts.refresh, UNUSED);
        for (domain, id) in due {
            // A domain that announces a newer policy meanwhile gets that one; the record may also be blocked.
            let id = self.announced(&domain).await.unwrap_or(id);
            self.learn(&domain, &id, options).await;
        }
    }
}
