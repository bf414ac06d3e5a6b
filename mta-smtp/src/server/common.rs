//! What all states of a session share: the clock's last word, the replies to be written, the counters.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::reply::{Reply, ReplyClass};
use crate::server::{Options, TlsInfo};

/// The part of a session that outlives its states.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) options: Arc<Options>,
    /// The time of the last input.
    pub(crate) now: Instant,
    /// When the session has lasted long enough.
    pub(crate) end_by: Instant,
    /// When the next command, block or handshake must be here.
    pub(crate) wait_until: Instant,
    /// What TLS agreed on, once it is active.
    pub(crate) tls: Option<TlsInfo>,
    /// The client's name and whether it came by EHLO.
    pub(crate) client: Option<Client>,
    /// Who the client has proven to be.
    pub(crate) login: Option<String>,
    /// Logins that failed.
    pub(crate) auth_failures: usize,
    /// Replies not yet handed to the driver: a pipelined group is answered in one write.
    pub(crate) replies: Vec<u8>,
    /// Refusals of our own, for the log.
    pub(crate) refusals: Vec<Reply>,
    /// Commands, recipients and messages refused for good.
    pub(crate) errors: usize,
    /// Commands since the last message that brought no mail further.
    pub(crate) idle_commands: usize,
    /// Transactions begun.
    pub(crate) transactions: usize,
    /// The server stops.
    pub(crate) stopping: bool,
    /// The client gave up content that the driver already has a part of.
    pub(crate) dropped: bool,
}

/// Who the client says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) esmtp: bool,
}

impl Common {
    pub(crate) fn new(now: Instant, options: Arc<Options>, tls: Option<TlsInfo>) -> Self {
        Self {
            now,
            end_by: now + options.limits.session_lifetime,
            wait_until: now + options.limits.command_timeout,
            options,
            tls,
            client: None,
            login: None,
            auth_failures: 0,
            replies: Vec::new(),
            refusals: Vec::new(),
            errors: 0,
            idle_commands: 0,
            transactions: 0,
            stopping: false,
            dropped: false,
        }
    }

    /// Queues a reply. The client's time for its next command begins anew.
    pub(crate) fn reply(&mut self, reply: &Reply) {
        self.replies.extend_from_slice(&reply.to_bytes());
        if reply.class() == ReplyClass::PermanentNegative {
            self.errors += 1;
        }
        self.wait_until = self.now + self.options.limits.command_timeout;
    }

    /// Queues a challenge of a login, which may be longer than a reply line (RFC 4954 4).
    pub(crate) fn challenge(&mut self, challenge: &[u8]) {
        self.replies.extend_from_slice(format!("334 {}\r\n", BASE64.encode(challenge)).as_bytes());
        self.wait_until = self.now + self.options.limits.command_timeout;
    }

    /// Queues a refusal that the session decided by itself, and remembers it for the log.
    pub(crate) fn refuse(&mut self, reply: Reply) {
        self.reply(&reply);
        self.refusals.push(reply);
    }

    /// Queues a reply to a command that brings no mail further.
    pub(crate) fn idle_reply(&mut self, reply: &Reply) {
        self.idle_commands += 1;
        self.reply(reply);
    }

    /// Why the session has to end before the next command is read, if it has to.
    ///
    /// A wish to stop waits while a message is `half_taken`: none is cut short by it.
    pub(crate) fn must_end(&self, half_taken: bool) -> Option<Reply> {
        let limits = &self.options.limits;
        let reply = |status, text| Some(Reply::with_status(421, status, text));
        if self.stopping && !half_taken {
            return reply((4, 3, 2), "service is stopping");
        }
        if self.errors > limits.errors {
            return reply((4, 7, 0), "too many errors");
        }
        if self.idle_commands > limits.idle_commands {
            return reply((4, 7, 0), "too many commands without mail");
        }
        if self.now >= self.end_by {
            return reply((4, 4, 2), "session has lasted too long");
        }
        None
    }
}
