//! What arrived where, compared with what was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use mta_lab::lab::{Lab, OWN_DOMAIN};

use crate::administrator::ByHand;
use crate::load::{End, Sent, digest};

/// The subject stands in the first bytes of a message.
const HEADER_BYTES: usize = 8192;
/// How often the laboratory's own patience is used while the queue empties.
const PATIENCE: usize = 6;

/// One copy: its content, line ends as CR LF.
type Copies = Vec<Vec<u8>>;

/// Everything that arrived, by end and subject.
#[derive(Default)]
pub(crate) struct Ledger {
    copies: BTreeMap<(End, String), Copies>,
    /// How many messages of each host were looked at.
    seen: BTreeMap<End, usize>,
    /// The files that were looked at.
    files: BTreeSet<PathBuf>,
}

/// The end result.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) arrivals: usize,
    pub(crate) notifications: usize,
    pub(crate) away: usize,
    /// Copies beyond the first, at hosts and in mailboxes.
    pub(crate) extra: usize,
    pub(crate) extra_local: usize,
}

impl Ledger {
    /// Waits until everything that has to arrive is there.
    pub(crate) fn when_complete(lab: &Lab, sent: &Sent, by_hand: &ByHand) -> Self {
        assert!(!sent.acknowledged.is_empty(), "the clients did send");
        let ledger = Mutex::new(Self::default());
        let complete = || {
            let mut ledger = ledger.lock().expect("nobody panics");
            ledger.look(lab);
            ledger.missing(sent, by_hand).is_empty()
        };
        let is_complete = (0..PATIENCE).any(|_| lab.wait_for_files(complete));
        let mut ledger = ledger.into_inner().expect("nobody panics");
        ledger.look(lab);
        let missing = ledger.missing(sent, by_hand);
        assert!(is_complete, "G2: {} are missing: {missing:?}", missing.len());
        ledger
    }

    /// Takes in what is new.
    fn look(&mut self, lab: &Lab) {
        for end in [End::Away, End::Moody, End::Kept] {
            lab.mx(end.host()).wait_until(Duration::ZERO, |seen| {
                let known = self.seen.entry(end).or_default();
                for message in &seen.messages[*known..] {
                    let subject = subjects(&message.content, HEADER_BYTES).remove(0);
                    self.copies.entry((end, subject)).or_default().push(message.content.clone());
                }
                *known = seen.messages.len();
                true
            });
        }
        for (end, mailbox) in [(End::Mailbox, "alice"), (End::Notification, "bob")] {
            for content in self.new_files(lab, mailbox) {
                // A notification has a subject of its own, and those of the messages that it returns.
                let limit = if end == End::Mailbox { HEADER_BYTES } else { usize::MAX };
                let subjects = subjects(&content, limit);
                let about = usize::from(end == End::Notification);
                assert!(subjects.len() > about, "{}", String::from_utf8_lossy(&content));
                for subject in subjects.into_iter().skip(about) {
                    self.copies.entry((end, subject)).or_default().push(content.clone());
                }
            }
        }
    }

    fn new_files(&mut self, lab: &Lab, mailbox: &str) -> Vec<Vec<u8>> {
        let folder = lab.directory().join("mail").join(OWN_DOMAIN).join(mailbox).join("new");
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let new: Vec<PathBuf> = files.filter(|file| !self.files.contains(file)).collect();
        self.files.extend(new.iter().cloned());
        new.iter().map(|file| with_cr_lf(&std::fs::read(file).expect("a message"))).collect()
    }

    /// Acknowledged and not there, with its end.
    fn missing<'a>(&self, sent: &'a Sent, by_hand: &ByHand) -> Vec<(End, &'a str)> {
        let ends = |(subject, message): (&'a String, &'a crate::load::Acknowledged)| {
            let may_be_gone =
                by_hand.dropped.contains(&message.id) || by_hand.perhaps_dropped.contains(&message.id);
            let due = message.ends.iter().filter(move |end| **end != End::Kept || !may_be_gone);
            due.map(move |end| (*end, subject.as_str())).collect::<Vec<_>>()
        };
        let all = sent.acknowledged.iter().flat_map(ends);
        all.filter(|(end, subject)| !self.copies.contains_key(&(*end, (*subject).to_owned()))).collect()
    }

    /// Compares everything with what was sent.
    pub(crate) fn judge(&self, sent: &Sent, by_hand: &ByHand) -> Counted {
        let mut counted = Counted::default();
        for ((end, subject), copies) in &self.copies {
            assert!(
                !sent.unfinished.contains(subject),
                "G3: {subject} was never finished, and is at {end:?}"
            );
            counted.arrivals += copies.len();
            let extra = copies.len() - 1;
            match end {
                End::Mailbox => counted.extra_local += extra,
                End::Notification => {
                    counted.extra_local += extra;
                    counted.notifications += 1;
                }
                End::Away | End::Moody | End::Kept => counted.extra += extra,
            }
            counted.away += if *end == End::Away { copies.len() } else { 0 };
            let Some(message) = sent.acknowledged.get(subject) else {
                assert!(sent.unanswered.contains(subject), "{subject:?} was never sent, and is at {end:?}");
                continue;
            };
            assert!(message.ends.contains(end), "{subject} does not belong at {end:?}");
            let is_dropped = *end == End::Kept && by_hand.dropped.contains(&message.id);
            assert!(!is_dropped, "{subject} was dropped by hand, the daemon said so, and it left");
            if *end != End::Notification {
                let (length, hash) = &message.content;
                for copy in copies {
                    let tail = copy.len().checked_sub(*length).map(|start| digest(&copy[start..]));
                    assert_eq!(tail.as_ref(), Some(hash), "G2: {subject} at {end:?} is not byte-whole");
                }
            }
        }
        counted
    }
}

/// The values of all lines that begin as a subject does.
fn subjects(content: &[u8], within: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(content.get(..within).unwrap_or(content));
    text.lines().filter_map(|line| line.strip_prefix("Subject: ")).map(|it| it.trim().to_owned()).collect()
}

fn with_cr_lf(stored: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(stored.len() + stored.len() / 32);
    for line in stored.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
        wire.extend(line);
        wire.extend(b"\r\n");
    }
    wire
}
