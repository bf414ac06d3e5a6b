//! sendmail(1): how programs on this machine hand in mail.
//!
//! ```text
//! arguments (options) ─┐
//! standard input ──────┴─> message: line ends put right, Bcc taken out, From, Date, Message-ID added (header, address)
//!                            │
//!                            ├─ the daemon answers ─> one SMTP transaction on submit.sock (submit), 250 after its commit
//!                            └─ it does not ────────> one file in the maildrop (maildrop), synced
//! daemon: at its start and when somebody connects, each file of the maildrop (take) is handed in the same way
//! ```
//!
//! What it promises: exit status 0 only when the message is on stable storage. What it needs: no setuid and no setgid
//! program. On the socket the kernel tells the daemon who asks; in the maildrop a file's owner does. Nothing that a
//! user writes into either is believed: the daemon reads it with the grammar and the limits of any SMTP session.
//!
//! What it does not: it looks nothing up, knows no mailbox and delivers nothing.

pub mod address;
pub mod header;
pub mod maildrop;
pub mod message;
pub mod options;
pub mod run;
pub mod submit;
pub mod take;

/// Exit codes of sysexits(3), which programs that call sendmail(1) know.
pub mod exit {
    /// Done: the message is on stable storage.
    pub const OK: u8 = 0;
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
    /// The message is wrong.
    pub const DATA: u8 = 65;
    /// A recipient is refused.
    pub const NO_USER: u8 = 67;
    /// The message is refused.
    pub const UNAVAILABLE: u8 = 69;
    /// Reading the message failed.
    pub const IO: u8 = 74;
    /// A temporary failure; try again.
    pub const TEMPORARY: u8 = 75;
    /// This user may not do that.
    pub const NOT_ALLOWED: u8 = 77;
    /// The configuration is wrong.
    pub const CONFIGURATION: u8 = 78;
}

/// Why a message was not taken: an exit code of sysexits(3), and one sentence with cause and remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The exit code.
    pub exit: u8,
    /// Cause and remedy.
    pub text: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(exit: u8, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}
