//! The kinds of alerts, their words, and what each means: the rows that the manual is made from.

use std::fmt;

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// This host cannot send: no network, no DNS, port 25 closed, clock wrong, out of descriptors.
    SiteFault,
    /// A provider refuses or slows mail from this host because of its reputation or its set-up.
    Provider,
    /// A pause or a hold rule of the administrator's lasts longer than a day.
    Paused,
    /// The disk reserve is touched: no mail is taken in.
    Disk,
    /// A destination that had DANE for long has none any more.
    Dane,
    /// Part of the queue is damaged and set aside, or cannot be written.
    Queue,
    /// A user sends so much more than ever that his mail is held.
    Runaway,
    /// A new certificate cannot be used; the old one is shown on.
    Certificate,
    /// Mail for this host waits: an alias file, the delivery process or a mail store is at fault.
    Local,
}

impl Kind {
    /// All kinds, in the order of the manual.
    pub const ALL: [Self; 9] = [
        Self::SiteFault,
        Self::Provider,
        Self::Paused,
        Self::Disk,
        Self::Dane,
        Self::Queue,
        Self::Runaway,
        Self::Certificate,
        Self::Local,
    ];

    /// The word for it in the log, in JSON and in the database.
    pub fn word(self) -> &'static str {
        match self {
            Self::SiteFault => "site-fault",
            Self::Provider => "provider",
            Self::Paused => "paused",
            Self::Disk => "disk",
            Self::Dane => "dane",
            Self::Queue => "queue",
            Self::Runaway => "runaway",
            Self::Certificate => "certificate",
            Self::Local => "local",
        }
    }

    /// The kind of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// What it means, and what to do: one paragraph for the manual.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::SiteFault => {
                "Destinations that have nothing to do with each other fail alike, or the system itself says that \
                 nothing can be sent. Mail waits; attempts are not counted and no message grows older towards its \
                 lifetime until a delivery works again. Look at the network, the name service, the clock; where \
                 connections to port 25 time out everywhere, the network's operator blocks them: ask for them to \
                 be opened, or send through a relay host."
            }
            Self::Provider => {
                "A mail provider answered that it slows or blocks mail from this host, by a reply that the table of \
                 known replies explains. Its hosts are left alone for a while as the alert says. Do what the alert \
                 names: a reverse name, SPF and DKIM, a request to be taken off a list; sending faster does not help."
            }
            Self::Paused => {
                "Mail coming in, mail going out, local delivery or a destination was paused, or mail is held by a rule, \
                 for longer than a day now. Resume it, or remove the rule, when the reason is over."
            }
            Self::Disk => {
                "So little space or so few inodes are left that no mail is taken in; clients are told to come again \
                 later. Make room, or lower queue.min_free_space."
            }
            Self::Dane => {
                "A destination had secure TLSA records for long and has none any more. Its operator may have given up \
                 DANE, or somebody interferes with its DNS. Mail goes on without DANE; make it mandatory for the \
                 destination if that must not be."
            }
            Self::Queue => {
                "The queue could not be written, or messages were set aside because they cannot be read. Look at the \
                 log for the reason and at queue list --status damaged. mta-cli verify says what is damaged; with the \
                 daemon stopped, verify --repair saves what can be read, and restore puts a backup in its place."
            }
            Self::Runaway => {
                "A user sends to far more recipients than ever before, or most of them do not exist: as a rule somebody \
                 has guessed the password. What the user sends is taken and held. Give another password (user passwd), \
                 drop what is held if it is not the user's, and let the rest go with user release."
            }
            Self::Certificate => {
                "The files of a certificate were replaced by some that cannot be used: they do not belong together, or \
                 the service user may not read them. What was shown before is shown on. Put a chain and its key in \
                 place that belong together; they are taken up by themselves."
            }
            Self::Local => {
                "Mail for this host waits: an alias file cannot be read, the delivery process does not answer, or a mail \
                 store or mailbox takes nothing for long. Nothing is lost or returned. Do what the alert names; it \
                 closes by itself, and what waits is delivered."
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
