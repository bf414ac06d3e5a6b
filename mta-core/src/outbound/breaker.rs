//! The site-fault breaker: tells "they are down" from "we are down". A pure state machine.
//!
//! | state | means | leaves it by |
//! |---|---|---|
//! | closed | mail flows | a fault that the system itself reports, once; or the same fault at several unrelated destinations that were not failing before, with nothing working meanwhile |
//! | open | one real delivery at a time, spaced, finds out whether it is over; nothing else is tried | a delivery that gets through to a mail server |
//! | ramping | few deliveries at once, more with each success | as many successes as make it as wide as it can be; or a fault |
//!
//! While it is open no attempt counts and no message grows older (`Outages`). What it does not: it reads no clock, knows
//! no queue and raises no alert; the scheduler does, as [`Change`] tells it.
//!
//! Destinations are told apart by a key that the scheduler makes: provider, network of the host's address, or domain, so
//! that neither one dead provider nor one dead hoster opens it, however many domains it serves.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

/// Failures remembered while closed, at most.
const MAX_RECENT: usize = 64;

/// Of those that failed of late so many percent must have failed alike.
const ALIKE_PERCENT: usize = 80;

/// The longest time between two probes.
const LONGEST_PROBE_WAIT: Duration = Duration::from_secs(300);

/// With so many deliveries at once the ramp ends.
const RAMP_END: usize = 64;

/// Deliveries at once at the beginning of the ramp.
const RAMP_BEGIN: usize = 2;

/// What can be wrong with this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The system knows no way to anywhere.
    NoRoute,
    /// No name can be looked up.
    Resolver,
    /// The system has no file descriptors, ports or buffers left.
    Resources,
    /// Connections are not answered anywhere.
    Unreachable,
    /// TLS fails everywhere.
    Tls,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::NoRoute, Self::Resolver, Self::Resources, Self::Unreachable, Self::Tls];

    /// The word for it in the log and the database.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoRoute => "no-route",
            Self::Resolver => "resolver",
            Self::Resources => "resources",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
        }
    }

    /// The fault of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.word() == word)
    }

    /// What is known, and no more.
    pub fn text(self) -> &'static str {
        match self {
            Self::NoRoute => "no mail leaves: this host has no route to the network",
            Self::Resolver => "no mail leaves: names cannot be looked up",
            Self::Resources => "no mail leaves: the system has no file descriptors or ports left",
            Self::Unreachable => {
                "no mail leaves: no mail host that was tried of late answers, at destinations that have nothing to do with \
                 each other"
            }
            Self::Tls => {
                "no mail leaves: TLS fails with every mail host that was tried of late, at destinations that have nothing \
                 to do with each other"
            }
        }
    }

    /// What to do.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NoRoute => {
                "look at the network: ip route, the cable, the router; mail goes on by itself then"
            }
            Self::Resolver => {
                "look at the resolver (mta-cli dns lookup example.org MX says what is wrong) and at the clock; mail goes on \
                 by itself then"
            }
            Self::Resources => {
                "raise the limit of open files (LimitNOFILE), or lower outbound.max_deliveries"
            }
            Self::Unreachable => {
                "look at the network and its firewall; where only port 25 is closed, ask the network's operator to open it \
                 or send through a relay host ([relay])"
            }
            Self::Tls => {
                "look at the clock, and whether something on the way rewrites connections to port 25; mail goes on by \
                 itself then"
            }
        }
    }

    /// Shown by the system itself, not by others that do not answer.
    fn is_shown_here(self) -> bool {
        matches!(self, Self::NoRoute | Self::Resources | Self::Resolver)
    }
}

/// What one attempt showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// A mail server was reached and spoke; `tls` says whether TLS stood.
    Works {
        /// TLS stood.
        tls: bool,
    },
    /// It failed in a way that may be our fault. `fresh`: nothing was known against this destination before.
    Fault {
        /// In which way.
        fault: Fault,
        /// Its last attempt had not failed.
        fresh: bool,
        /// The system itself says so: once is enough.
        certain: bool,
    },
    /// Neither.
    Nothing,
}

/// What can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// So many unrelated destinations must fail alike.
    pub destinations: usize,
    /// In so short a time.
    pub window: Duration,
    /// The time between the first probes; it doubles.
    pub probe: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { destinations: 4, window: Duration::from_secs(1_800), probe: Duration::from_secs(30) }
    }
}

/// What the scheduler has to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Write down an outage and raise the alert.
    Opened {
        /// What is wrong.
        fault: Fault,
        /// Since when, as far as is known.
        since: SystemTime,
    },
    /// Write down its end and clear the alert.
    Closed {
        /// What was wrong.
        fault: Fault,
        /// Since when.
        since: SystemTime,
    },
}

/// How much may be tried now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// As much as there is.
    Free,
    /// So many deliveries at once, over all destinations.
    AtMost(usize),
    /// One delivery, to see.
    Probe,
    /// Nothing before this time; `None`: before the probe under way has ended.
    Nothing(Option<SystemTime>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { fault: Fault, since: SystemTime, next_probe: SystemTime, wait: Duration, probing: bool },
    Ramping { at_once: usize },
}

/// The breaker.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    /// The latest failures at destinations that were not failing before; one for each destination.
    recent: VecDeque<(SystemTime, String, Fault)>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed, recent: VecDeque::new() }
    }
}

impl Breaker {
    /// As it was when the program ended: open, and to be probed at once.
    pub fn open_since(fault: Fault, since: SystemTime, now: SystemTime, settings: Settings) -> Self {
        let state = State::Open { fault, since, next_probe: now, wait: settings.probe, probing: false };
        Self { state, recent: VecDeque::new() }
    }

    /// The fault it is open for, and since when.
    pub fn is_open(&self) -> Option<(Fault, SystemTime)> {
        match self.state {
            State::Open { fault, since, .. } => Some((fault, since)),
            State::Closed | State::Ramping { .. } => None,
        }
    }

    /// How much may be tried now.
    pub fn room(&self, now: SystemTime) -> Room {
        match self.state {
            State::Closed => Room::Free,
            State::Open { probing: true, .. } => Room::Nothing(None),
            State::Open { next_probe, .. } if next_probe > now => Room::Nothing(Some(next_probe)),
            State::Open { .. } => Room::Probe,
            State::Ramping { at_once } => Room::AtMost(at_once),
        }
    }

    /// A delivery that the room allowed begins.
    pub fn started(&mut self) {
        if let State::Open { probing, .. } = &mut self.state {
            *probing = true;
        }
    }

    /// A delivery ended without a word: it was cut off.
    pub fn cut_off(&mut self, now: SystemTime) {
        self.inconclusive(now);
    }

    /// Somebody says that it is over: the next delivery shows it.
    pub fn try_now(&mut self, now: SystemTime) {
        if let State::Open { next_probe, .. } = &mut self.state {
            *next_probe = (*next_probe).min(now);
        }
    }

    /// What an attempt showed. `key` tells destinations apart that may fail for different reasons.
    pub fn seen(
        &mut self,
        now: SystemTime,
        key: &str,
        evidence: Evidence,
        settings: Settings,
    ) -> Option<Change> {
        match evidence {
            Evidence::Nothing => {
                self.inconclusive(now);
                None
            }
            Evidence::Works { tls } => self.works(now, tls),
            Evidence::Fault { fault, certain: true, .. } => self.fails(now, settings, |_| Some((fault, now))),
            Evidence::Fault { fault, fresh, .. } => {
                self.fails(now, settings, |this| Some((fault, this.count(now, key, fault, fresh, settings)?)))
            }
        }
    }

    fn works(&mut self, now: SystemTime, tls: bool) -> Option<Change> {
        // Plain text that gets through says nothing about TLS.
        self.recent.retain(|(_, _, fault)| *fault == Fault::Tls && !tls);
        match self.state {
            State::Closed => None,
            State::Open { fault: Fault::Tls, .. } if !tls => {
                self.inconclusive(now);
                None
            }
            State::Open { fault, since, .. } => {
                self.state = State::Ramping { at_once: RAMP_BEGIN };
                Some(Change::Closed { fault, since })
            }
            State::Ramping { at_once } => {
                let at_once = at_once + 1;
                self.state = if at_once >= RAMP_END { State::Closed } else { State::Ramping { at_once } };
                None
            }
        }
    }

    fn fails(
        &mut self,
        now: SystemTime,
        settings: Settings,
        is_enough: impl FnOnce(&mut Self) -> Option<(Fault, SystemTime)>,
    ) -> Option<Change> {
        if let State::Open { next_probe, wait, probing, .. } = &mut self.state {
            if *probing {
                *probing = false;
                *next_probe = now + *wait;
                *wait = wait.saturating_mul(2).min(LONGEST_PROBE_WAIT.max(settings.probe));
            }
            return None;
        }
        let (fault, since) = is_enough(self)?;
        self.recent.clear();
        self.state = State::Open {
            fault,
            since,
            next_probe: now + settings.probe,
            wait: settings.probe.saturating_mul(2),
            probing: false,
        };
        Some(Change::Opened { fault, since })
    }

    /// Counts a failure that alone says little. When it is one too many: since when.
    fn count(
        &mut self,
        now: SystemTime,
        key: &str,
        fault: Fault,
        fresh: bool,
        settings: Settings,
    ) -> Option<SystemTime> {
        // What failed before says nothing new: a queue of dead destinations is no fault of ours.
        if !fresh {
            return None;
        }
        let old = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age > settings.window) || at > now;
        self.recent.retain(|(at, known, _)| known != key && !old(*at));
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((now, key.to_owned(), fault));
        let alike = self.recent.iter().filter(|(_, _, known)| *known == fault);
        let count = alike.clone().count();
        let enough =
            count >= settings.destinations.max(2) && count * 100 >= self.recent.len() * ALIKE_PERCENT;
        if enough { alike.map(|(at, _, _)| *at).min() } else { None }
    }

    fn inconclusive(&mut self, now: SystemTime) {
        if let State::Open { next_probe, wait, probing, .. } = &mut self.state
            && *probing
        {
            *probing = false;
            *next_probe = now + *wait / 2;
        }
    }
}

/// The longest that a fault which others only seem to show can keep messages young; one that the system itself reports
/// has no end but its own.
pub const LONGEST_LIKELY: Duration = Duration::from_secs(5 * 86_400);

/// The times in which this host could send nothing.
#[derive(Debug, Clone, Default)]
pub struct Outages(Vec<(SystemTime, Option<SystemTime>, Option<Fault>)>);

impl Outages {
    /// Adds one, or gives the one that began then its end.
    pub fn note(&mut self, began_at: SystemTime, ended_at: Option<SystemTime>, fault: Option<Fault>) {
        self.0.retain(|(began, _, _)| *began != began_at);
        self.0.push((began_at, ended_at, fault));
        // As many as the database keeps.
        let beyond = self.0.len().saturating_sub(64);
        self.0.drain(..beyond);
    }

    /// How much of a message's time since its arrival does not count.
    pub fn frozen(&self, arrived: SystemTime, now: SystemTime) -> Duration {
        let one = |(began, ended, fault): &(SystemTime, Option<SystemTime>, Option<Fault>)| {
            let (from, to) = ((*began).max(arrived), ended.unwrap_or(now).min(now));
            let time = to.duration_since(from).unwrap_or_default();
            if fault.is_some_and(Fault::is_shown_here) { time } else { time.min(LONGEST_LIKELY) }
        };
        let age = now.duration_since(arrived).unwrap_or_default();
        self.0.iter().map(one).sum::<Duration>().min(age)
    }

    /// When a message would have arrived if there had been no outages.
    pub fn arrival(&self, arrived: SystemTime, now: SystemTime) -> SystemTime {
        arrived + self.frozen(arrived, now)
    }
}

#[cfg(test)]
mod tests;
