//! Writes into a decision record what the replies of an attempt mean.

use std::time::Duration;

use super::table::Table;
use crate::outbound::decision::{Decision, ExplainedReply};
use crate::outbound::outcome::{Outcome, RecipientOutcome, Verdict, short};

/// Explanations in one record.
const MAX_EXPLAINED: usize = 8;

impl Table {
    /// Explains the replies of an attempt's outcomes. `age` is that of the message. A refusal that the table calls a block
    /// of this host, worth retrying, is put off where the message is younger than `retry_blocked`: the only place where a
    /// 5yz is not final, and only where the administrator set that time.
    pub fn explain(
        &self,
        outcomes: &mut [RecipientOutcome],
        decision: &mut Decision,
        age: Duration,
        retry_blocked: Duration,
    ) {
        for of in outcomes {
            let outcome = &mut of.outcome;
            let Some((host, reply)) = remote_reply(outcome) else { continue };
            let Some(row) = self.classify(host, reply) else { continue };
            let kept = outcome.verdict == Verdict::Failed && row.worth_retrying && age < retry_blocked;
            let text = short(reply);
            if decision.explained.len() < MAX_EXPLAINED
                && !decision.explained.iter().any(|known| known.reply == text && known.host == host)
            {
                decision.explained.push(ExplainedReply {
                    host: host.to_owned(),
                    reply: text,
                    class: row.class.word().to_owned(),
                    provider: self.provider(host).map(|provider| provider.title.clone()),
                    meaning: row.class.meaning().to_owned(),
                    advice: row.advice().to_owned(),
                    kept,
                });
            }
            if kept {
                outcome.verdict = Verdict::Deferred;
                outcome.status.class = 4;
            }
        }
    }
}

/// Who refused, and how.
fn remote_reply(outcome: &Outcome) -> Option<(&str, &mta_smtp::reply::Reply)> {
    if outcome.verdict == Verdict::Delivered {
        return None;
    }
    Some((outcome.remote.as_ref()?.host.as_str(), outcome.reply.as_ref()?))
}
