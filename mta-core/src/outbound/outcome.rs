//! What became of each recipient in one attempt: a value, typed by reach and permanence, never an error.
//!
//! The classification is here and nowhere else. Whoever reads an outcome (queue, log line, DSN) needs no text parsing.

use std::net::SocketAddr;

use mta_smtp::client::{Cause, Decided, Failure, NotSent, Step};
use mta_smtp::envelope::Recipient;
use mta_smtp::reply::{EnhancedStatus, Reply, ReplyClass};

/// Octets of a remote reply that a text or record repeats.
const MAX_TEXT_BYTES: usize = 600;

/// What is to happen with the recipient now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The remote server took responsibility for this recipient.
    Delivered,
    /// Try again later.
    Deferred,
    /// It will never work: tell the sender.
    Failed,
}

/// How far the cause reaches. A cause that reaches further concerns other mail too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reach {
    /// This recipient alone.
    Recipient,
    /// This message, for all its recipients here.
    Message,
    /// This connection: the next one may fare better.
    Session,
    /// This MX host or relay host.
    Host,
    /// The next-hop as a whole: all its hosts, or its DNS.
    NextHop,
    /// We ourselves: no resolver, no network, an unreadable secret. Says nothing about the destination.
    Site,
}

/// Which remote server was spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// The MX host or relay host, A-labels without a trailing dot.
    pub host: String,
    /// The address and port, where a connection was tried.
    pub address: Option<SocketAddr>,
}

/// The outcome for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Delivered, deferred or failed.
    pub verdict: Verdict,
    /// How far the cause reaches.
    pub reach: Reach,
    /// The enhanced status code for DSN and log: the remote one where it fits the verdict, else ours.
    pub status: EnhancedStatus,
    /// One sentence without control characters: why.
    pub text: String,
    /// The remote reply that decided, where one did.
    pub reply: Option<Reply>,
    /// The remote server that decided, where one did.
    pub remote: Option<Remote>,
    /// The remote server took the wish for reports over (it offers DSN): what it accepted is its to report on.
    pub reports_passed_on: bool,
}

/// One recipient and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientOutcome {
    /// The recipient as the job named it.
    pub recipient: Recipient,
    /// What became of it.
    pub outcome: Outcome,
}

impl Outcome {
    /// To be tried again, for a reason found on our side of the conversation.
    pub fn deferred(reach: Reach, status: (u16, u16), text: impl Into<String>) -> Self {
        Self::new(Verdict::Deferred, reach, EnhancedStatus::new(4, status.0, status.1), text.into())
    }

    /// Never to be tried again, for a reason found on our side of the conversation.
    pub fn failed(reach: Reach, status: (u16, u16), text: impl Into<String>) -> Self {
        Self::new(Verdict::Failed, reach, EnhancedStatus::new(5, status.0, status.1), text.into())
    }

    fn new(verdict: Verdict, reach: Reach, status: EnhancedStatus, text: String) -> Self {
        Self { verdict, reach, status, text, reply: None, remote: None, reports_passed_on: false }
    }

    /// Whether security was what failed (RFC 3463 3.8).
    pub fn is_security(&self) -> bool {
        self.status.subject == 7
    }

    pub(super) fn at(mut self, remote: &Remote) -> Self {
        self.remote = Some(remote.clone());
        self
    }

    /// By what a server said. The remote status counts where its class fits the verdict.
    pub(crate) fn replied(verdict: Verdict, reach: Reach, to: &str, reply: &Reply) -> Self {
        let class = match verdict {
            Verdict::Delivered => 2,
            Verdict::Deferred => 4,
            Verdict::Failed => 5,
        };
        let remote = reply.enhanced.filter(|status| status.class == class);
        // A 5yz that we do not take as final keeps its subject and detail.
        let softened = reply.enhanced.map(|status| EnhancedStatus { class, ..status });
        let status = remote.or(softened).unwrap_or_else(|| EnhancedStatus::new(class, 0, 0));
        let text = match verdict {
            Verdict::Delivered => short(reply),
            _ => format!("server answered {to}: {}", short(reply)),
        };
        Self { reply: Some(reply.clone()), ..Self::new(verdict, reach, status, text) }
    }
}

/// A reply as one line of bounded length, for texts and records.
pub(super) fn short(reply: &Reply) -> String {
    let mut text = reply.to_string();
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push_str("...");
    }
    text
}

/// By the class of a reply to a command about a message or recipient: 5yz fails, all else is to be tried again.
fn verdict_of(reply: &Reply) -> Verdict {
    match reply.class() {
        ReplyClass::PermanentNegative => Verdict::Failed,
        _ => Verdict::Deferred,
    }
}

/// What a failed session means. `trusted` says whether what the server said may be believed to be final: not where TLS is
/// mandatory and was not there yet, since anybody on the path may have said it (RFC 7672 2.2).
pub(crate) fn of_failure(failure: &Failure, trusted: bool) -> Outcome {
    let text = told(failure);
    let deferred = |reach, status| Outcome::deferred(reach, status, text.clone());
    match &failure.cause {
        Cause::Refused(reply) => refused(failure.step, reply, trusted),
        Cause::ServiceClosing(reply) => {
            let step = failure.step.to_string();
            or_status(Outcome::replied(Verdict::Deferred, Reach::Session, &step, reply), (3, 2))
        }
        Cause::Unexpected(reply) => {
            Outcome { reply: Some(reply.clone()), ..deferred(Reach::Session, (5, 0)) }
        }
        Cause::Malformed(_) => deferred(Reach::Session, (5, 0)),
        Cause::Timeout
        | Cause::WaitedTooLong
        | Cause::TimeIsUp
        | Cause::TooManyReplyBytes
        | Cause::Closed
        | Cause::WriteFailed => deferred(Reach::Session, (4, 2)),
        Cause::StartTlsNotOffered | Cause::InjectedPlaintext => deferred(Reach::Host, (7, 5)),
        Cause::NoMechanism | Cause::LoginUnprotected | Cause::Sasl(_) => deferred(Reach::Host, (7, 0)),
        Cause::ContentFailed => deferred(Reach::Site, (3, 0)),
    }
}

/// A failure as one sentence of bounded length.
pub(super) fn told(failure: &Failure) -> String {
    match &failure.cause {
        Cause::Refused(reply) => format!("{} refused: {}", failure.step, short(reply)),
        Cause::ServiceClosing(reply) => {
            format!("server closed the service at {}: {}", failure.step, short(reply))
        }
        Cause::Unexpected(reply) => format!("reply to {} makes no sense: {}", failure.step, short(reply)),
        _ => failure.to_string(),
    }
}

fn refused(step: Step, reply: &Reply, trusted: bool) -> Outcome {
    let at = step.to_string();
    let soft = |status| or_status(Outcome::replied(Verdict::Deferred, Reach::Host, &at, reply), status);
    match step {
        // 521 means that no mail is taken here, ever (RFC 7504 3). Other 5yz greetings are mostly passing blocks.
        Step::Greeting if reply.code == 521 && trusted => {
            Outcome::replied(Verdict::Failed, Reach::Host, &at, reply)
        }
        Step::Greeting => soft((3, 2)),
        Step::Ehlo | Step::Helo if trusted => Outcome::replied(verdict_of(reply), Reach::Host, &at, reply),
        // A refusal of STARTTLS is never final where TLS is mandatory (RFC 7672 2.2).
        Step::StartTls => {
            let outcome =
                Outcome::deferred(Reach::Host, (7, 5), format!("server refused STARTTLS: {}", short(reply)));
            Outcome { reply: Some(reply.clone()), ..outcome }
        }
        // A wrong password is ours to mend; the mail waits for that.
        Step::Auth => soft((7, 8)),
        Step::Content | Step::EndOfData => Outcome::replied(verdict_of(reply), Reach::Message, &at, reply),
        _ => soft((0, 0)),
    }
}

/// Our status where the server named none.
fn or_status(outcome: Outcome, status: (u16, u16)) -> Outcome {
    let named = outcome.reply.as_ref().is_some_and(|reply| reply.enhanced.is_some());
    if named {
        return outcome;
    }
    Outcome { status: EnhancedStatus::new(outcome.status.class, status.0, status.1), ..outcome }
}

/// What a transaction means for one recipient, given the reply to its RCPT.
pub(crate) fn of_transaction(decided: &Decided, rcpt: Option<&Reply>) -> Outcome {
    // Where MAIL was refused, what the server says of a pipelined RCPT (503, say) is only an echo of that.
    if let Decided::Refused { step: step @ Step::Mail, reply } = decided {
        return Outcome::replied(verdict_of(reply), Reach::Message, &step.to_string(), reply);
    }
    if let Some(reply) = rcpt
        && !reply.is_positive()
    {
        // 552 to RCPT says "too many recipients" (RFC 5321 4.5.3.1.10).
        let verdict = if reply.code == 552 { Verdict::Deferred } else { verdict_of(reply) };
        return Outcome::replied(verdict, Reach::Recipient, "RCPT", reply);
    }
    match decided {
        Decided::Accepted(reply) if rcpt.is_some() => {
            Outcome::replied(Verdict::Delivered, Reach::Recipient, "", reply)
        }
        Decided::Refused { step, reply } => {
            Outcome::replied(verdict_of(reply), Reach::Message, &step.to_string(), reply)
        }
        // Of a question, that it would be taken.
        Decided::Asked if let Some(reply) = rcpt => {
            Outcome::replied(Verdict::Delivered, Reach::Recipient, "RCPT", reply)
        }
        Decided::NotSent(why) => not_sent(*why),
        Decided::Broken(failure) => of_failure(failure, true),
        // Cannot be: a server that accepted answered each RCPT. If it ever is, nothing was delivered.
        Decided::Accepted(_) | Decided::NoRecipients | Decided::Asked => {
            Outcome::deferred(Reach::Session, (5, 0), "the server did not answer RCPT")
        }
    }
}

fn not_sent(why: NotSent) -> Outcome {
    let text = why.to_string();
    match why {
        NotSent::TooLarge { .. } => Outcome::failed(Reach::Message, (3, 4), text),
        // RFC 6531 3.5 and RFC 5248's registry: 6.7 for addresses, 6.9 for what cannot be made ASCII.
        NotSent::NeedsSmtpUtf8 { addresses } => {
            Outcome::failed(Reach::Host, (6, if addresses { 7 } else { 9 }), text)
        }
        NotSent::NeedsRequireTls => Outcome::failed(Reach::Host, (7, 30), text),
        NotSent::NeedsEightBitMime => Outcome::failed(Reach::Message, (6, 3), text),
        NotSent::Binary => Outcome::failed(Reach::Message, (6, 1), text),
        NotSent::Unrepresentable => Outcome::failed(Reach::Message, (5, 4), text),
    }
}

/// Whether this is the last word for the recipient at this attempt, or another host may still be asked.
pub(super) fn is_final(outcome: &Outcome) -> bool {
    match outcome.verdict {
        Verdict::Delivered => true,
        Verdict::Failed => outcome.reach <= Reach::Message || outcome.reach >= Reach::NextHop,
        Verdict::Deferred => outcome.reach == Reach::Site,
    }
}

/// Which of two outcomes at different hosts speaks for the attempt. One that can be tried again beats one that cannot;
/// then one about security beats the rest, because it is the one somebody must act on; then the later one.
pub(super) fn stronger(earlier: Option<Outcome>, later: Outcome) -> Outcome {
    let Some(earlier) = earlier else { return later };
    let rank = |outcome: &Outcome| (outcome.verdict == Verdict::Deferred, outcome.is_security());
    if rank(&earlier) > rank(&later) { earlier } else { later }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, status: Option<(u8, u16, u16)>) -> Reply {
        Reply::new(code, status.map(|(c, s, d)| EnhancedStatus::new(c, s, d)), "text")
    }

    fn seen(outcome: &Outcome) -> (Verdict, Reach, String) {
        (outcome.verdict, outcome.reach, outcome.status.to_string())
    }

    #[test]
    fn a_refused_mail_decides_whatever_is_said_of_the_recipients() {
        for (code, verdict) in [(451, Verdict::Deferred), (550, Verdict::Failed)] {
            let refused = Decided::Refused { step: Step::Mail, reply: reply(code, None) };
            for rcpt in [503, 250, 451] {
                assert_eq!(
                    of_transaction(&refused, Some(&reply(rcpt, None))).verdict,
                    verdict,
                    "{code} {rcpt}"
                );
            }
        }
    }

    #[test]
    fn recipients_by_their_own_reply_first() {
        use Verdict::{Deferred, Delivered, Failed};
        let ok = Decided::Accepted(reply(250, Some((2, 6, 0))));
        let yes = reply(250, Some((2, 1, 5)));
        let cases = [
            (&ok, Some(yes.clone()), (Delivered, Reach::Recipient, "2.6.0")),
            (&ok, Some(reply(550, Some((5, 1, 1)))), (Failed, Reach::Recipient, "5.1.1")),
            (&ok, Some(reply(550, None)), (Failed, Reach::Recipient, "5.0.0")),
            (&ok, Some(reply(450, Some((4, 2, 0)))), (Deferred, Reach::Recipient, "4.2.0")),
            (&ok, Some(reply(552, Some((5, 5, 3)))), (Deferred, Reach::Recipient, "4.5.3")),
            // Not even "accepted" delivers to somebody whose RCPT was not answered.
            (&ok, None, (Deferred, Reach::Session, "4.5.0")),
        ];
        for (decided, rcpt, (verdict, reach, status)) in cases {
            let outcome = of_transaction(decided, rcpt.as_ref());
            assert_eq!(seen(&outcome), (verdict, reach, status.to_owned()), "{rcpt:?}");
        }
        for (code, verdict) in [(450, Deferred), (554, Failed)] {
            let refused = Decided::Refused { step: Step::EndOfData, reply: reply(code, None) };
            let outcome = of_transaction(&refused, Some(&yes));
            assert_eq!((outcome.verdict, outcome.reach), (verdict, Reach::Message));
        }
    }

    #[test]
    fn a_lost_final_reply_is_never_sent_g5() {
        for cause in [Cause::Timeout, Cause::Closed, Cause::WriteFailed, Cause::WaitedTooLong] {
            let broken = Decided::Broken(Failure { step: Step::EndOfData, cause });
            let outcome = of_transaction(&broken, Some(&reply(250, None)));
            assert_eq!(seen(&outcome), (Verdict::Deferred, Reach::Session, "4.4.2".to_owned()));
        }
    }

    #[test]
    fn nothing_said_before_mandatory_tls_is_final_rfc7672_2_2() {
        for step in [Step::Greeting, Step::Ehlo, Step::StartTls] {
            for code in [450, 500, 521, 550, 554] {
                let failure = Failure { step, cause: Cause::Refused(reply(code, Some((5, 7, 1)))) };
                assert_eq!(of_failure(&failure, false).verdict, Verdict::Deferred, "{step} {code}");
            }
        }
        let failure = Failure { step: Step::StartTls, cause: Cause::StartTlsNotOffered };
        assert_eq!(seen(&of_failure(&failure, false)), (Verdict::Deferred, Reach::Host, "4.7.5".to_owned()));
    }

    #[test]
    fn a_greeting_of_5yz_is_a_passing_block_but_521_is_meant_rfc7504_3() {
        let at = |step, code| {
            of_failure(&Failure { step, cause: Cause::Refused(reply(code, None)) }, true).verdict
        };
        assert_eq!(at(Step::Greeting, 554), Verdict::Deferred);
        assert_eq!(at(Step::Greeting, 521), Verdict::Failed);
        assert_eq!(at(Step::Ehlo, 550), Verdict::Failed);
        assert_eq!(at(Step::Auth, 535), Verdict::Deferred);
        assert_eq!(at(Step::Content, 552), Verdict::Failed);
    }

    #[test]
    fn what_speaks_for_the_attempt() {
        let security = Outcome::deferred(Reach::Host, (7, 5), "wrong key");
        let network = Outcome::deferred(Reach::Host, (4, 1), "refused");
        let fatal = Outcome::failed(Reach::Host, (5, 0), "go away");
        assert_eq!(stronger(Some(security.clone()), network.clone()), security);
        assert_eq!(stronger(Some(network.clone()), security.clone()), security);
        assert_eq!(stronger(Some(network.clone()), fatal.clone()), network);
        assert_eq!(stronger(Some(fatal), network.clone()), network);
        assert!(!is_final(&network) && !is_final(&security));
    }
}
