//! From one recipient to all places its mail goes, and back to one outcome.
//!
//! A recipient that is an alias has one outcome: delivered when every place has the message, deferred while one of them
//! waits, failed when one of them never will. What was handed over is remembered (`AttemptReport::local`), so that a
//! later attempt repeats nothing. Places elsewhere become a message of their own, queued together with this outcome.
//! What it does not: it writes to no place itself (`place`).

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Read;

use mta_smtp::address::Mailbox;
use mta_smtp::envelope::Recipient;

use super::place::outcome;
use crate::account::alias::Member;
use crate::account::system::SystemUser;
use crate::account::{Accounts, Expansion, Target};
use crate::outbound::attempt::{Forward, LocalResult};
use crate::outbound::{ContentSource, Outcome, Reach, Verdict};

/// The header section is searched for our own `Delivered-To` up to so many octets.
const MAX_HEADER_OCTETS: u64 = 1 << 20;

/// How deep forwards may lead to forwards.
const MAX_DEPTH: usize = 20;

/// Places that are tried for one recipient, forwards included. One list of members has a bound of its own.
const MAX_PLACES: usize = 10_000;

/// What came of one place.
pub(super) enum Placed {
    /// This.
    Outcome(Outcome),
    /// Its owner wants it elsewhere.
    Forward {
        /// Who.
        user: SystemUser,
        /// His address.
        address: Mailbox,
        /// Where to.
        members: Vec<Member>,
    },
}

/// The state of one job.
pub(super) struct Spread<'a> {
    accounts: &'a Accounts,
    content: &'a dyn ContentSource,
    /// Where the message was handed to: in attempts before this one, and in this one.
    handed: HashSet<String>,
    /// Places that did not take it in this attempt, and why: none is asked twice, however many recipients lead there.
    refused: HashMap<String, Outcome>,
    result: LocalResult,
}

impl<'a> Spread<'a> {
    pub(super) fn new(accounts: &'a Accounts, content: &'a dyn ContentSource, handed: Vec<String>) -> Self {
        let handed = handed.into_iter().collect();
        Self { accounts, content, handed, refused: HashMap::new(), result: LocalResult::default() }
    }

    /// What the queue has to keep beside the outcomes.
    pub(super) fn into_result(self) -> LocalResult {
        self.result
    }

    /// Delivers to one recipient; `put` delivers to one place.
    pub(super) fn recipient(
        &mut self,
        index: usize,
        recipient: &Recipient,
        put: &mut dyn FnMut(&Target) -> Placed,
    ) -> Outcome {
        let mut tally = Tally::default();
        let mut waiting = VecDeque::new();
        // What this recipient's own walk has met: a forward that leads back to where it came from is no place.
        let mut met = HashSet::new();
        tally.take(self.accounts.expand(&recipient.mailbox), 0, &mut waiting);
        while let Some((target, depth)) = waiting.pop_front() {
            let key = target.key();
            if !met.insert(key.clone()) {
                continue;
            }
            if self.handed.contains(&key) {
                tally.repeated += 1;
                continue;
            }
            if let Some(problem) = self.refused.get(&key) {
                tally.problems.push(problem.clone());
                continue;
            }
            if let Target::Remote { mailbox, owner } = target {
                tally.remote.push((mailbox, owner, key));
                continue;
            }
            match put(&target) {
                // The rest of the recipient's places have nothing to do with it.
                Placed::Forward { .. } if depth >= MAX_DEPTH => {
                    let text = format!("forwards lead to forwards more than {MAX_DEPTH} deep");
                    tally.problems.push(outcome(Verdict::Failed, (5, 4, 6), text));
                }
                // Not a place that has it: another recipient that leads here shares in what becomes of the forward.
                Placed::Forward { user, address, members } => {
                    let expansion = self.accounts.follow(&user, &address, &members);
                    tally.take(expansion, depth + 1, &mut waiting);
                }
                Placed::Outcome(done) if done.verdict == Verdict::Delivered => {
                    self.handed.insert(key.clone());
                    // Kept even where this recipient is done: another may lead here too and wait for something else, and
                    // what is forwarded may still turn out not to be queued.
                    self.result.handed.push(key);
                    tally.delivered.push(done);
                }
                Placed::Outcome(problem) => {
                    self.refused.insert(key, problem.clone());
                    tally.problems.push(problem);
                }
            }
        }
        self.finish(index, recipient, tally)
    }

    fn finish(&mut self, index: usize, recipient: &Recipient, mut tally: Tally) -> Outcome {
        if !tally.remote.is_empty() && self.is_loop(&recipient.mailbox) {
            let text =
                format!("mail for {} comes back to it: it was forwarded from here before", recipient.mailbox);
            tally.remote.clear();
            tally.problems.push(outcome(Verdict::Failed, (5, 4, 6), text));
        }
        let forwarded = tally.remote.len();
        let passes_on = tally.delivered.is_empty() && tally.repeated == 0 && tally.problems.is_empty();
        let passes_on = passes_on && tally.remote.iter().all(|(_, owner, _)| owner.is_none());
        let names: Vec<String> = tally.remote.iter().map(|(mailbox, ..)| mailbox.to_string()).collect();
        self.queue_forwards(index, recipient, std::mem::take(&mut tally.remote));
        let places = tally.delivered.len() + tally.repeated + forwarded;
        tally.problems.sort_by_key(|problem| problem.verdict != Verdict::Deferred);
        if let Some(problem) = tally.problems.into_iter().next() {
            let text = match places {
                0 => problem.text,
                _ => format!("{} (of several recipients; {places} have it)", problem.text),
            };
            return Outcome { text, ..problem };
        }
        if places == 0 {
            let text = format!("forwards of {} lead to nobody but each other", recipient.mailbox);
            return outcome(Verdict::Failed, (5, 4, 6), text);
        }
        let text = match (forwarded, tally.delivered.len()) {
            (0, 1) => tally.delivered.into_iter().next().map(|done| done.text).unwrap_or_default(),
            (0, 0) => "delivered already, by another way".to_owned(),
            (0, count) => format!("delivered to {count} places"),
            (_, 0) => format!("forwarded to {}", short(&names)),
            (_, count) => format!("delivered to {count} places, forwarded to {}", short(&names)),
        };
        let mut done = outcome(Verdict::Delivered, (2, 0, 0), text);
        done.reports_passed_on = forwarded > 0 && passes_on;
        done
    }

    /// One message for each sender that the alias wants.
    fn queue_forwards(
        &mut self,
        index: usize,
        recipient: &Recipient,
        remote: Vec<(Mailbox, Option<Mailbox>, String)>,
    ) {
        let mut groups: Vec<Forward> = Vec::new();
        for (mailbox, owner, key) in remote {
            self.handed.insert(key.clone());
            self.result.handed.push(key.clone());
            let group = match groups.iter_mut().find(|group| group.owner == owner) {
                Some(group) => group,
                None => {
                    let recipient = recipient.clone();
                    groups.push(Forward { index, recipient, owner, to: Vec::new(), places: Vec::new() });
                    let Some(last) = groups.last_mut() else { return };
                    last
                }
            };
            group.to.push(mailbox);
            group.places.push(key);
        }
        self.result.forwards.extend(groups);
    }

    /// Whether the message was forwarded for this very address before.
    fn is_loop(&self, address: &Mailbox) -> bool {
        let Ok(content) = self.content.open() else { return false };
        let mut header = Vec::new();
        // What cannot be read is found out when it is copied.
        let _ = content.take(MAX_HEADER_OCTETS).read_to_end(&mut header);
        names_delivered_to(&header, &address.to_string())
    }
}

/// Whether a header section has a `Delivered-To` field with this address.
fn names_delivered_to(content: &[u8], address: &str) -> bool {
    const NAME: &[u8] = b"delivered-to:";
    content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).take_while(|line| !line.is_empty()).any(
        |line| {
            let Some((name, value)) = line.split_at_checked(NAME.len()) else { return false };
            name.eq_ignore_ascii_case(NAME) && value.trim_ascii().eq_ignore_ascii_case(address.as_bytes())
        },
    )
}

/// The first few names.
fn short(names: &[String]) -> String {
    const MOST: usize = 5;
    let mut text = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        text.push_str(&format!(" and {} more", names.len() - MOST));
    }
    text
}

/// What the places of one recipient came to.
#[derive(Default)]
struct Tally {
    delivered: Vec<Outcome>,
    /// Places that had the message before.
    repeated: usize,
    remote: Vec<(Mailbox, Option<Mailbox>, String)>,
    problems: Vec<Outcome>,
    /// Places in all, whatever came of them.
    taken: usize,
}

impl Tally {
    /// Takes the places of a list that stands `depth` forwards away from the recipient.
    fn take(&mut self, expansion: Expansion, depth: usize, waiting: &mut VecDeque<(Target, usize)>) {
        for dead in expansion.dead {
            let reach = if dead.is_ours { Reach::Site } else { Reach::Recipient };
            self.problems.push(match dead.is_temporary {
                true => Outcome { reach, ..outcome(Verdict::Deferred, (4, 3, 5), dead.text) },
                false => outcome(Verdict::Failed, (5, 1, 1), dead.text),
            });
        }
        let room = MAX_PLACES - self.taken;
        if expansion.targets.len() > room {
            let text = format!("aliases and forwards lead to more than {MAX_PLACES} places");
            self.problems.push(outcome(Verdict::Deferred, (4, 3, 5), text));
        }
        self.taken += expansion.targets.len().min(room);
        waiting.extend(expansion.targets.into_iter().take(room).map(|target| (target, depth)));
    }
}

#[cfg(test)]
#[path = "spread_tests.rs"]
mod tests;
