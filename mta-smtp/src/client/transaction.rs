//! One transaction: MAIL, RCPT, DATA, the content, the final reply (RFC 5321 3.3), pipelined where the server can
//! (RFC 2920).
//!
//! The rules that keep it in step: each command sent stands in a queue until its reply came; a group in flight is
//! bounded, so that neither side can fill the other's buffers and wait; a server that takes DATA although it took no
//! recipient gets a lone dot. A message counts as sent after a 2yz reply to the end of data and in no other case.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::session::{Next, Shared, State};
use super::{Cause, Failure, NotSent, Protocol, Step, command};
use crate::address::ReversePath;
use crate::data::Encoder;
use crate::envelope::{MailParameters, Recipient};
use crate::reply::{Reply, ReplyClass};

/// Octets of commands in flight: the replies to them fit into any socket buffer.
const MAX_GROUP_BYTES: usize = 8 * 1024;

/// A message for one server.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// The reverse-path.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL; each is passed on where the server understands it.
    pub parameters: MailParameters,
    /// The recipients.
    pub recipients: Vec<Recipient>,
    /// Content size in octets, for SIZE and for the time the content may take.
    pub size_bytes: u64,
    /// The server is only asked whom it would take: neither DATA nor content is ever sent.
    pub envelope_only: bool,
}

impl Transaction {
    /// Whether the message can only go to a server that offers SMTPUTF8 (RFC 6531 3.5): the client of before may have asked
    /// for the extension without any need of it.
    pub fn needs_smtputf8(&self) -> bool {
        self.has_wide_addresses() || (self.parameters.smtputf8 && self.parameters.header.eight_bit)
    }

    /// Whether an address of the envelope has characters outside ASCII.
    pub fn has_wide_addresses(&self) -> bool {
        self.reverse_path.mailbox().is_some_and(|mailbox| !mailbox.is_ascii())
            || self.recipients.iter().any(|recipient| !recipient.mailbox.is_ascii())
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionReport {
    /// The reply to each RCPT, in the order of the recipients; `None` where none came, or MAIL had been refused before.
    pub recipients: Vec<Option<Reply>>,
    /// What decided. With LMTP, `Accepted` means that every verdict came, whatever it was.
    pub decided: Decided,
    /// LMTP: the reply to the end of data for each recipient, in their order; `None` where none came, which is the case
    /// for all with SMTP. What was answered with 2yz here is the server's, even if the session broke afterwards.
    pub verdicts: Vec<Option<Reply>>,
}

impl TransactionReport {
    /// A report without verdicts for single recipients.
    pub fn new(recipients: Vec<Option<Reply>>, decided: Decided) -> Self {
        Self { recipients, decided, verdicts: Vec::new() }
    }
}

/// What decided a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    /// 2yz to the end of data: the server is responsible for every recipient it took.
    Accepted(Reply),
    /// 4yz or 5yz to MAIL, DATA or the end of data, for every recipient not refused on its own.
    Refused {
        /// To what.
        step: Step,
        /// The reply.
        reply: Reply,
    },
    /// No recipient was taken.
    NoRecipients,
    /// The envelope was all there was to send (`Transaction::envelope_only`): each recipient has its reply, and nobody
    /// receives anything.
    Asked,
    /// It was not begun.
    NotSent(NotSent),
    /// The session broke in the middle. Recipients not refused on their own are to be tried again: it is not known,
    /// and must not be guessed, whether the server took the message.
    Broken(Failure),
}

/// Waiting for replies to MAIL, RCPT, DATA.
#[derive(Debug)]
pub(super) struct Envelope {
    transaction: Transaction,
    expected: VecDeque<Step>,
    replies: Vec<Option<Reply>>,
    accepted: usize,
    next_recipient: usize,
    mail_sent: bool,
    mail_accepted: bool,
    data_sent: bool,
    /// The refusal of MAIL or DATA.
    refused: Option<(Step, Reply)>,
}

/// The content is on its way.
#[derive(Debug)]
pub(super) struct Content {
    replies: Vec<Option<Reply>>,
    encoder: Encoder,
    begun: Instant,
    /// Octets of content taken so far.
    sent_bytes: u64,
}

/// The end of data was sent.
#[derive(Debug)]
pub(super) struct EndOfData {
    replies: Vec<Option<Reply>>,
    /// What to report when the dot only served to get out of DATA.
    lone_dot: Option<Decided>,
    /// LMTP: the recipients whose verdicts are still to come, in order.
    awaited: VecDeque<usize>,
    /// LMTP: the verdicts so far.
    verdicts: Vec<Option<Reply>>,
}

impl Envelope {
    pub(super) fn begin(shared: &mut Shared, now: Instant, transaction: Transaction) -> State {
        let replies = vec![None; transaction.recipients.len()];
        shared.allow_replies_of(transaction.recipients.len());
        let mut envelope = Self {
            transaction,
            expected: VecDeque::new(),
            replies,
            accepted: 0,
            next_recipient: 0,
            mail_sent: false,
            mail_accepted: false,
            data_sent: false,
            refused: None,
        };
        match envelope.send_group(shared, now) {
            Ok(()) => State::Envelope(envelope),
            Err(reason) => {
                let decided = Decided::NotSent(reason);
                shared.done(TransactionReport::new(envelope.replies, decided));
                State::Ready
            }
        }
    }

    /// Sends the next commands: all that fit where the server pipelines, one at a time else.
    fn send_group(&mut self, shared: &mut Shared, now: Instant) -> Result<(), NotSent> {
        let offer = &shared.offer;
        let mut bytes = String::new();
        if !self.mail_sent {
            // Every command is written once before the first is sent, so that nothing turns out impossible half-way.
            command::check(&self.transaction, offer, shared.settings.eight_bit, shared.tls)?;
            for recipient in &self.transaction.recipients {
                command::rcpt(recipient, offer)?;
            }
            let mail = command::mail(&self.transaction, offer)?;
            if shared.needs_rset {
                bytes.push_str("RSET\r\n");
                self.expected.push_back(Step::Rset);
            }
            bytes.push_str(&mail);
            self.expected.push_back(Step::Mail);
            self.mail_sent = true;
            shared.transactions = shared.transactions.saturating_add(1);
        }
        while self.may_send(offer.pipelining, bytes.len()) {
            match self.transaction.recipients.get(self.next_recipient) {
                Some(recipient) => {
                    bytes.push_str(&command::rcpt(recipient, offer)?);
                    self.expected.push_back(Step::Rcpt(self.next_recipient));
                    self.next_recipient += 1;
                }
                None if self.transaction.envelope_only => break,
                None => {
                    bytes.push_str("DATA\r\n");
                    self.expected.push_back(Step::Data);
                    self.data_sent = true;
                }
            }
        }
        shared.needs_rset = false;
        shared.send(now, bytes.into_bytes(), shared.settings.limits.data_block);
        self.expect_next(shared, now);
        Ok(())
    }

    /// Whether one more command may go into the group that has so many octets.
    fn may_send(&self, pipelining: bool, group_bytes: usize) -> bool {
        !self.data_sent && if pipelining { group_bytes < MAX_GROUP_BYTES } else { self.expected.is_empty() }
    }

    fn expect_next(&self, shared: &mut Shared, now: Instant) {
        let limits = shared.settings.limits;
        let limit = match self.expected.front() {
            Some(Step::Rcpt(_)) => limits.rcpt,
            Some(Step::Data) => limits.data_start,
            Some(Step::Mail) => limits.mail,
            _ => limits.command,
        };
        shared.expect(now, limit);
    }

    pub(super) fn step(&self) -> Step {
        self.expected.front().copied().unwrap_or(Step::Mail)
    }

    pub(super) fn replied(mut self, shared: &mut Shared, now: Instant, reply: Reply) -> Next {
        let Some(step) = self.expected.pop_front() else {
            return self.broken(Step::Mail, Cause::Unexpected(reply));
        };
        if reply.code == 421 {
            return self.broken(step, Cause::ServiceClosing(reply));
        }
        let class = reply.class();
        match (step, class) {
            (Step::Data, ReplyClass::PositiveIntermediate) => {
                return Next::State(self.data_taken(shared, now));
            }
            // A 2yz to DATA or a 3yz to anything else: the two sides no longer speak of the same thing.
            (Step::Data, ReplyClass::PositiveCompletion) | (_, ReplyClass::PositiveIntermediate) => {
                return self.broken(step, Cause::Unexpected(reply));
            }
            (Step::Rset, ReplyClass::PositiveCompletion) => {}
            (Step::Rset, _) => return self.broken(step, Cause::Refused(reply)),
            (Step::Mail, ReplyClass::PositiveCompletion) => self.mail_accepted = true,
            (Step::Mail, _) => self.refused = Some((step, reply)),
            // After it refused MAIL, a server's 503 to a pipelined RCPT only repeats that, and its 250 means nothing.
            (Step::Rcpt(_), _) if !self.mail_accepted => {}
            (Step::Rcpt(index), _) => {
                self.accepted += usize::from(class == ReplyClass::PositiveCompletion);
                if let Some(slot) = self.replies.get_mut(index) {
                    *slot = Some(reply);
                }
            }
            // What it says of DATA after it refused all before is only an echo of that.
            (_, _) if self.accepted == 0 => {}
            (_, _) => self.refused = Some((step, reply)),
        }
        self.go_on(shared, now)
    }

    fn go_on(mut self, shared: &mut Shared, now: Instant) -> Next {
        if !self.expected.is_empty() {
            self.expect_next(shared, now);
            return Next::State(State::Envelope(self));
        }
        let all_answered = self.next_recipient == self.transaction.recipients.len();
        let nobody = self.accepted == 0 || self.transaction.envelope_only;
        let over = self.refused.is_some() || self.data_sent || (all_answered && nobody);
        if over {
            // MAIL stands open only where DATA was not refused; RSET does no harm in the other cases.
            shared.needs_rset = self.mail_accepted;
            let decided = self.without_content();
            shared.done(TransactionReport::new(self.replies, decided));
            return Next::State(State::Ready);
        }
        match self.send_group(shared, now) {
            Ok(()) => Next::State(State::Envelope(self)),
            Err(reason) => {
                shared.needs_rset = true;
                shared.done(TransactionReport::new(self.replies, Decided::NotSent(reason)));
                Next::State(State::Ready)
            }
        }
    }

    /// What decided, where no content was sent.
    fn without_content(&mut self) -> Decided {
        match self.refused.take() {
            Some((step, reply)) => Decided::Refused { step, reply },
            None if self.transaction.envelope_only => Decided::Asked,
            None => Decided::NoRecipients,
        }
    }

    /// 354: the server now reads content, whether or not it took a recipient.
    fn data_taken(mut self, shared: &mut Shared, now: Instant) -> State {
        if self.accepted > 0 && self.refused.is_none() {
            shared.stop_waiting(now);
            return State::Content(Content {
                replies: self.replies,
                encoder: Encoder::new(),
                begun: now,
                sent_bytes: 0,
            });
        }
        // RFC 2920 3.1: end the content at once; whatever the server says to that, nobody receives anything. An LMTP
        // server says nothing at all then (RFC 2033 4.2), so its session ends with this.
        let decided = self.without_content();
        shared.send(now, b".\r\n".to_vec(), shared.settings.limits.data_block);
        shared.expect(now, shared.settings.limits.data_end);
        State::EndOfData(EndOfData {
            replies: self.replies,
            lone_dot: Some(decided),
            awaited: VecDeque::new(),
            verdicts: Vec::new(),
        })
    }

    pub(super) fn broken(self, step: Step, cause: Cause) -> Next {
        broken(self.replies, step, cause)
    }
}

impl Content {
    pub(super) fn part(mut self, shared: &mut Shared, now: Instant, bytes: &[u8], last: bool) -> State {
        let limits = shared.settings.limits;
        let mut wire = Vec::with_capacity(bytes.len() + bytes.len() / 32 + 8);
        self.encoder.encode(bytes, &mut wire);
        self.sent_bytes = self.sent_bytes.saturating_add(bytes.len() as u64);
        // A server may be slow, but not for ever: what was sent so far earns the time spent so far.
        let earned = Duration::from_secs(self.sent_bytes / limits.min_bytes_per_second.max(1));
        let overall = self.begun.checked_add(limits.data_block.saturating_add(earned));
        let block = now + limits.data_block;
        let until = overall.map_or(block, |overall| overall.min(block));
        if !last {
            shared.send_until(wire, until);
            return State::Content(self);
        }
        self.encoder.finish(&mut wire);
        shared.send_until(wire, until);
        shared.needs_rset = false;
        shared.expect_verdict(now);
        let (mut awaited, mut verdicts) = (VecDeque::new(), Vec::new());
        if shared.settings.protocol == Protocol::Lmtp {
            let taken = |reply: &Option<Reply>| {
                reply.as_ref().is_some_and(|reply| reply.class() == ReplyClass::PositiveCompletion)
            };
            awaited.extend(self.replies.iter().enumerate().filter(|(_, r)| taken(r)).map(|(index, _)| index));
            verdicts = vec![None; self.replies.len()];
        }
        State::EndOfData(EndOfData { replies: self.replies, lone_dot: None, awaited, verdicts })
    }

    /// A reply before the end of data. A refusal is to be believed, anything else means that we are out of step.
    pub(super) fn replied(self, reply: Reply) -> Next {
        match reply.class() {
            _ if reply.code == 421 => self.broken(Cause::ServiceClosing(reply)),
            ReplyClass::TransientNegative | ReplyClass::PermanentNegative => {
                self.broken(Cause::Refused(reply))
            }
            _ => self.broken(Cause::Unexpected(reply)),
        }
    }

    pub(super) fn broken(self, cause: Cause) -> Next {
        broken(self.replies, Step::Content, cause)
    }
}

impl EndOfData {
    pub(super) fn replied(mut self, shared: &mut Shared, now: Instant, reply: Reply) -> Next {
        if reply.code == 421 {
            return self.broken(Cause::ServiceClosing(reply));
        }
        if let Some(index) = self.awaited.pop_front() {
            return self.verdict(shared, now, index, reply);
        }
        let decided = match (self.lone_dot.take(), reply.class()) {
            (Some(decided), _) => decided,
            (None, ReplyClass::PositiveCompletion) => Decided::Accepted(reply),
            (None, ReplyClass::PositiveIntermediate) => {
                return self.broken_with(None, Cause::Unexpected(reply));
            }
            (None, _) => Decided::Refused { step: Step::EndOfData, reply },
        };
        shared.done(TransactionReport::new(self.replies, decided));
        Next::State(State::Ready)
    }

    /// RFC 2033 4.2: one reply for each recipient that was taken, in their order.
    fn verdict(mut self, shared: &mut Shared, now: Instant, index: usize, reply: Reply) -> Next {
        if reply.class() == ReplyClass::PositiveIntermediate {
            return self.broken(Cause::Unexpected(reply));
        }
        if let Some(slot) = self.verdicts.get_mut(index) {
            *slot = Some(reply.clone());
        }
        if !self.awaited.is_empty() {
            shared.expect_verdict(now);
            return Next::State(State::EndOfData(self));
        }
        let report = TransactionReport {
            verdicts: self.verdicts,
            ..TransactionReport::new(self.replies, Decided::Accepted(reply))
        };
        shared.done(report);
        Next::State(State::Ready)
    }

    pub(super) fn broken(mut self, cause: Cause) -> Next {
        let lone_dot = self.lone_dot.take();
        self.broken_with(lone_dot, cause)
    }

    fn broken_with(self, lone_dot: Option<Decided>, cause: Cause) -> Next {
        // After a lone dot nothing was at stake any more: what decided stands, and the session is over all the same.
        let broken = || Decided::Broken(Failure { step: Step::EndOfData, cause });
        let decided = lone_dot.unwrap_or_else(broken);
        Next::Over(TransactionReport { recipients: self.replies, decided, verdicts: self.verdicts })
    }
}

fn broken(replies: Vec<Option<Reply>>, step: Step, cause: Cause) -> Next {
    Next::Over(TransactionReport::new(replies, Decided::Broken(Failure { step, cause })))
}
