//! What a remote server may cost us: the deadlines of RFC 5321 4.5.3.2 and the bounds on its replies.

use std::time::Duration;

/// Deadlines and bounds of a client session.
///
/// A deadline runs from the moment the command left us to the end of the reply, whatever trickles in between. On top of
/// these, `total_wait` and `session_reply_bytes` bound the session as a whole, so that a server cannot feed us for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For the greeting (RFC 5321 4.5.3.2.1: 5 minutes).
    pub greeting: Duration,
    /// For the replies to EHLO, HELO, STARTTLS, AUTH and RSET.
    pub command: Duration,
    /// For the replies to MAIL (4.5.3.2.2: 5 minutes).
    pub mail: Duration,
    /// For the reply to each RCPT (4.5.3.2.3: 5 minutes).
    pub rcpt: Duration,
    /// For the reply to DATA (4.5.3.2.4: 2 minutes).
    pub data_start: Duration,
    /// For each block of content to be taken (4.5.3.2.5: 3 minutes).
    pub data_block: Duration,
    /// For the reply to the end of the content (4.5.3.2.6: 10 minutes).
    pub data_end: Duration,
    /// For the reply to QUIT. Nothing depends on it.
    pub quit: Duration,
    /// How long one session may make us wait for replies, all waits added up.
    pub total_wait: Duration,
    /// The content must leave at this rate on the whole, after one `data_block` of grace.
    pub min_bytes_per_second: u64,
    /// Octets in one reply.
    pub reply_bytes: usize,
    /// Lines in one reply.
    pub reply_lines: usize,
    /// Octets in all replies of a session, besides 1 KiB for each recipient.
    pub session_reply_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            greeting: Duration::from_secs(300),
            command: Duration::from_secs(300),
            mail: Duration::from_secs(300),
            rcpt: Duration::from_secs(300),
            data_start: Duration::from_secs(120),
            data_block: Duration::from_secs(180),
            data_end: Duration::from_secs(600),
            quit: Duration::from_secs(5),
            total_wait: Duration::from_secs(1200),
            min_bytes_per_second: 512,
            reply_bytes: 128 * 1024,
            reply_lines: 1024,
            session_reply_bytes: 512 * 1024,
        }
    }
}
