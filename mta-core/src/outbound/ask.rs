//! The walk of a delivery that only asks whether an address would be taken: the same discovery, the same policy for TLS,
//! the same connections, and at the end MAIL with the null reverse-path and RCPT, never DATA.
//!
//! So a host that fails its DANE check is not believed either. What it does not: it remembers nothing and decides about no
//! mail; that is `inbound::recipients`.

use std::sync::Arc;
use std::time::Duration;

use mta_smtp::address::{Mailbox, ReversePath};
use mta_smtp::envelope::{MailParameters, Recipient};
use mta_smtp::reply::ReplyClass;

use super::attempt::{Purpose, Run};
use super::examine::NoContent;
use super::outcome::{Outcome, Reach, Verdict};
use super::{Context, Job};
use crate::routing::Route;

/// What the next hop says of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It would take mail for it.
    Known(String),
    /// It says that there is no such address; its reply.
    Unknown(String),
    /// It was reached and says neither: it refuses us or the question, or wants to be asked later; why.
    Undecided(String),
    /// No host could be asked; why.
    Unreachable(String),
}

/// Asks the next hop of a route about an address. Ends within the time that is given.
pub async fn ask(context: &Context, route: Route, mailbox: &Mailbox, within: Duration) -> Said {
    let mut context = context.clone();
    let options = Arc::make_mut(&mut context.options);
    options.attempt_timeout = options.attempt_timeout.min(within);
    let job = Job {
        queue_id: "-".to_owned(),
        destination: mailbox.domain().map(ToString::to_string).unwrap_or_default(),
        route,
        reverse_path: ReversePath::Null,
        parameters: MailParameters { smtputf8: !mailbox.is_ascii(), ..MailParameters::default() },
        size_bytes: 0,
        recipients: vec![Recipient::new(mailbox.clone())],
        content: Arc::new(NoContent),
        accepted_at_unix: 0,
    };
    let walk = async {
        let mut run = Run::new(&context, &job, Purpose::Ask);
        match run.deliver().await {
            Err(outcome) => Some(*outcome),
            Ok(()) => run.first_outcome().0,
        }
    };
    let late = async {
        smol::Timer::after(within).await;
        None
    };
    match futures_lite::future::or(walk, late).await {
        Some(outcome) => said(&outcome),
        None => Said::Unreachable("no answer in time".to_owned()),
    }
}

/// What an outcome says of the address. Only a reply to RCPT can say that it does not exist, and not one about policy
/// (RFC 3463 3.8), which is about us.
fn said(outcome: &Outcome) -> Said {
    let text = outcome.text.clone();
    let Some(reply) = &outcome.reply else { return Said::Unreachable(text) };
    match (outcome.verdict, outcome.reach) {
        (Verdict::Delivered, Reach::Recipient) => Said::Known(reply.to_string()),
        (Verdict::Failed, Reach::Recipient)
            if reply.class() == ReplyClass::PermanentNegative && !outcome.is_security() =>
        {
            Said::Unknown(reply.to_string())
        }
        (_, Reach::Recipient | Reach::Message) => Said::Undecided(text),
        _ => Said::Unreachable(text),
    }
}

#[cfg(test)]
mod tests {
    use mta_smtp::client::{Decided, Step};
    use mta_smtp::reply::{EnhancedStatus, Reply};

    use super::super::outcome::of_transaction;
    use super::*;

    #[test]
    fn only_the_reply_to_rcpt_says_that_an_address_does_not_exist() {
        let reply = |code, status: Option<(u8, u16, u16)>| {
            Reply::new(code, status.map(|(a, b, c)| EnhancedStatus::new(a, b, c)), "text")
        };
        let word =
            |decided: &Decided, rcpt: Option<Reply>| match said(&of_transaction(decided, rcpt.as_ref())) {
                Said::Known(_) => "known",
                Said::Unknown(_) => "unknown",
                Said::Undecided(_) => "undecided",
                Said::Unreachable(_) => "unreachable",
            };
        for (rcpt, expected) in [
            (reply(250, None), "known"),
            (reply(251, Some((2, 1, 5))), "known"),
            (reply(550, None), "unknown"),
            (reply(550, Some((5, 1, 1))), "unknown"),
            (reply(553, Some((5, 2, 1))), "unknown"),
            (reply(550, Some((5, 7, 1))), "undecided"),
            (reply(554, Some((5, 7, 606))), "undecided"),
            (reply(450, Some((4, 2, 0))), "undecided"),
            (reply(451, Some((4, 7, 1))), "undecided"),
            (reply(452, Some((4, 2, 2))), "undecided"),
            (reply(552, None), "undecided"),
        ] {
            assert_eq!(word(&Decided::Asked, Some(rcpt.clone())), expected, "{rcpt}");
        }
        let mail = Decided::Refused { step: Step::Mail, reply: reply(550, Some((5, 1, 8))) };
        assert_eq!(word(&mail, Some(reply(550, Some((5, 1, 1))))), "undecided", "the question was refused");
        let no_connection = Outcome::deferred(Reach::Host, (4, 1), "no connection");
        assert!(matches!(said(&no_connection), Said::Unreachable(_)));
        let greeting = Outcome::replied(Verdict::Deferred, Reach::Host, "greeting", &reply(554, None));
        assert!(matches!(said(&greeting), Said::Unreachable(_)));
        let no_mx = Outcome::failed(Reach::NextHop, (1, 10), "null MX");
        assert!(matches!(said(&no_mx), Said::Unreachable(_)));
    }
}
