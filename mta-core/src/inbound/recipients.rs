//! Whether a recipient of a relayed domain exists: its next hop is asked, and its answers are kept.
//!
//! What it does: answers from what is kept as long as that is good, asks anew in the background when it gets old, lets
//! everybody who wants to know the same wait for one question, and bounds how many are under way for one domain and how
//! long a client waits. A next hop that cannot be reached is remembered, so that only the first client waits for that.
//! What it does not: it speaks no SMTP (`outbound::ask`), and what follows where nothing is known is the domain's option.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_io::Timer;
use futures_lite::future::or;
use mta_dane::reference::{a_labels, text};
use mta_queue::{Queue, StoredAnswer};
use mta_smtp::address::Mailbox;

use crate::log::Line;
use crate::outbound::ask::Said;

/// A next hop that could not be reached is asked again in the background after this time.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// For so long nobody waits for a next hop that could not be reached.
const NOT_WAITED_FOR: Duration = Duration::from_secs(600);

/// What can be set about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long it is believed that an address exists. 31 days.
    pub keep_known: Duration,
    /// After which time that is asked anew. 7 days.
    pub refresh_known: Duration,
    /// How long it is believed that an address does not exist. 3 days.
    pub keep_unknown: Duration,
    /// After which time that is asked anew. 3 hours.
    pub refresh_unknown: Duration,
    /// Questions at a time about one domain. 5.
    pub parallel: usize,
    /// How long a client waits for an answer. 10 s.
    pub wait: Duration,
    /// How long one question may take. 60 s.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            keep_known: Duration::from_secs(31 * DAY),
            refresh_known: Duration::from_secs(7 * DAY),
            keep_unknown: Duration::from_secs(3 * DAY),
            refresh_unknown: Duration::from_secs(3 * 3600),
            parallel: 5,
            wait: Duration::from_secs(10),
            timeout: Duration::from_secs(60),
        }
    }
}

/// A question under way.
pub type Asking = Pin<Box<dyn Future<Output = Said> + Send>>;

/// Asks next hops.
pub trait Ask: Send + Sync {
    /// Asks the next hop of an address about it; ends within the time that is given.
    fn ask(&self, mailbox: &Mailbox, within: Duration) -> Asking;
}

/// What is known of an address now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It exists.
    Known,
    /// It does not.
    Unknown,
    /// It is being asked, and the client has waited long enough.
    BeingAsked,
    /// It cannot be found out now.
    Unclear,
}

/// How good a kept answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// Good.
    Good(bool),
    /// Good still, and to be asked anew.
    Old(bool),
    /// There is none, or none that is good.
    Nothing,
}

fn kept(answer: Option<&StoredAnswer>, now: SystemTime, options: &Options) -> Kept {
    let Some(answer) = answer else { return Kept::Nothing };
    let (keep, refresh) = match answer.known {
        true => (options.keep_known, options.refresh_known),
        false => (options.keep_unknown, options.refresh_unknown),
    };
    // Of an answer from the future nothing is known but that the clock was set.
    match now.duration_since(answer.asked_at) {
        Ok(age) if age < refresh => Kept::Good(answer.known),
        Ok(age) if age < keep => Kept::Old(answer.known),
        Ok(_) => Kept::Nothing,
        Err(_) => Kept::Old(answer.known),
    }
}

/// A question under way, or its answer on the way into the database.
#[derive(Debug, Clone)]
struct Flight {
    said: Arc<Mutex<Option<Said>>>,
    /// Closed when it was said.
    landed: async_channel::Receiver<()>,
}

/// A next hop that could not be reached.
#[derive(Debug, Clone, Copy)]
struct Down {
    /// When that was last found.
    found_at: Instant,
}

#[derive(Debug, Default)]
struct State {
    /// By domain and address.
    flights: HashMap<String, HashMap<String, Flight>>,
    /// By domain; each is one of ours.
    down: HashMap<String, Down>,
}

/// Who knows the recipients of relayed domains. One for the process.
pub struct Recipients {
    queue: Queue,
    state: Mutex<State>,
}

impl std::fmt::Debug for Recipients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recipients")
    }
}

/// What a session asks with.
#[derive(Clone)]
pub struct Relayed {
    /// Who knows.
    pub recipients: Arc<Recipients>,
    /// Who asks.
    pub ask: Arc<dyn Ask>,
    /// What is set.
    pub options: Options,
}

impl std::fmt::Debug for Relayed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relayed").field("options", &self.options).finish_non_exhaustive()
    }
}

/// An address as it is kept. The local-part is the next hop's to understand; upper and lower case may matter there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    domain: String,
    address: String,
}

impl Key {
    fn of(mailbox: &Mailbox) -> Option<Self> {
        let domain = text(&a_labels(mailbox.domain()?.as_str()).ok()?).to_lowercase();
        let address = format!("{}@{domain}", mailbox.local_part());
        Some(Self { domain, address })
    }
}

impl Relayed {
    /// What is known of an address, asking where that is needed.
    pub async fn answer(&self, mailbox: &Mailbox) -> Answer {
        let Some(key) = Key::of(mailbox) else { return Answer::Unclear };
        match self.stored(&key).await {
            Kept::Good(known) => return of_known(known),
            Kept::Old(known) => {
                self.begin(&key, mailbox);
                return of_known(known);
            }
            Kept::Nothing => {}
        }
        let down = self.recipients.state().down.get(&key.domain).copied();
        if let Some(down) = down.filter(|down| down.found_at.elapsed() < NOT_WAITED_FOR) {
            if down.found_at.elapsed() >= ASK_AGAIN {
                self.begin(&key, mailbox);
            }
            return Answer::Unclear;
        }
        let Some(flight) = self.begin(&key, mailbox) else { return Answer::BeingAsked };
        let landed = async {
            // An error says that the channel is closed, which is what is waited for.
            let _ = flight.landed.recv().await;
        };
        let late = async {
            Timer::after(self.options.wait).await;
        };
        or(landed, late).await;
        let said = flight.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match said {
            Some(Said::Known(_)) => Answer::Known,
            Some(Said::Unknown(_)) => Answer::Unknown,
            Some(Said::Undecided(_) | Said::Unreachable(_)) => Answer::Unclear,
            // A host that could not be reached before is not waited for in vain each time.
            None if down.is_some() => Answer::Unclear,
            None => Answer::BeingAsked,
        }
    }

    async fn stored(&self, key: &Key) -> Kept {
        let (reader, address) = (self.recipients.queue.reader(), key.address.clone());
        match smol::unblock(move || reader.recipient_answer(&address)).await {
            Ok(answer) => kept(answer.as_ref(), SystemTime::now(), &self.options),
            Err(error) => {
                ::log::warn!("{}", Line::new("recipient-answers").with("reason", error));
                Kept::Nothing
            }
        }
    }

    /// The question about an address, which is begun where nobody asks it yet. `None` where too many are under way.
    fn begin(&self, key: &Key, mailbox: &Mailbox) -> Option<Flight> {
        let mut state = self.recipients.state();
        let flights = state.flights.entry(key.domain.clone()).or_default();
        if let Some(flight) = flights.get(&key.address) {
            return Some(flight.clone());
        }
        if flights.len() >= self.options.parallel {
            return None;
        }
        let (lands, landed) = async_channel::bounded(1);
        let flight = Flight { said: Arc::default(), landed };
        flights.insert(key.address.clone(), flight.clone());
        drop(state);
        let asking = self.ask.ask(mailbox, self.options.timeout);
        let (recipients, key, said) = (Arc::clone(&self.recipients), key.clone(), Arc::clone(&flight.said));
        smol::spawn(async move {
            let ended = Ended { recipients, key };
            let answer = asking.await;
            *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer.clone());
            drop(lands);
            ended.learn(answer);
        })
        .detach();
        Some(flight)
    }
}

fn of_known(known: bool) -> Answer {
    if known { Answer::Known } else { Answer::Unknown }
}

/// Takes a question out of those under way, however it ends.
struct Ended {
    recipients: Arc<Recipients>,
    key: Key,
}

impl Ended {
    /// Remembers an answer. The question counts as under way until the answer can be read from the database.
    fn learn(self, said: Said) {
        let (word, why) = match &said {
            Said::Known(reply) => ("known", reply),
            Said::Unknown(reply) => ("unknown", reply),
            Said::Undecided(why) => ("undecided", why),
            Said::Unreachable(why) => ("unreachable", why),
        };
        let line = Line::new("recipient-asked").with("rcpt", format_args!("<{}>", self.key.address));
        let line = line.with("status", word).with("reason", why);
        match &said {
            Said::Known(_) | Said::Unknown(_) => ::log::info!("{line}"),
            Said::Undecided(_) | Said::Unreachable(_) => ::log::warn!("{line}"),
        }
        let mut state = self.recipients.state();
        match said {
            Said::Unreachable(_) => {
                state.down.insert(self.key.domain.clone(), Down { found_at: Instant::now() });
            }
            _ => drop(state.down.remove(&self.key.domain)),
        }
        drop(state);
        let (Said::Known(reply) | Said::Unknown(reply)) = &said else { return };
        let answer = StoredAnswer {
            address: self.key.address.clone(),
            known: matches!(said, Said::Known(_)),
            reply: reply.clone(),
            asked_at: SystemTime::now(),
        };
        self.recipients.queue.clone().put_recipient_answer(answer, move |_| drop(self));
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let mut state = self.recipients.state();
        if let Some(flights) = state.flights.get_mut(&self.key.domain) {
            flights.remove(&self.key.address);
            if flights.is_empty() {
                state.flights.remove(&self.key.domain);
            }
        }
    }
}

impl Recipients {
    /// With the queue whose database keeps the answers.
    pub fn new(queue: Queue) -> Arc<Self> {
        Arc::new(Self { queue, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "recipients_tests.rs"]
mod tests;
