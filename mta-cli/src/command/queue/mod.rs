//! `queue`: look at what waits, and change it.

mod change;
mod list;
mod rules;
mod select;
mod show;
pub(super) mod story;

use std::path::Path;

use mta_core::control::MessageView;
use serde_json::Value;

pub(super) use self::list::list;
pub(super) use self::select::ahead;
use super::{Ended, load};
use crate::args::{HoldRuleVerb, QueueVerb};
use crate::client::{Client, Problem};
use crate::exit::Exit;

pub(super) fn run(file: Option<&Path>, verb: QueueVerb) -> Ended {
    let (config, _) = load(file)?;
    let connect = |writing| Client::connect(&config, writing);
    match verb {
        QueueVerb::List(verb) => {
            let request = list::request(&verb)?;
            list(&mut connect(false)?, &request, &verb)
        }
        QueueVerb::Summary(verb) => {
            let request = list::summary_request(&verb)?;
            list::summary(&mut connect(false)?, &request, &verb)
        }
        QueueVerb::Show(verb) => show::run(&mut connect(false)?, &verb),
        QueueVerb::HoldRule(verb) => match verb.verb {
            HoldRuleVerb::List(verb) => rules::list(&mut connect(false)?, &verb),
            HoldRuleVerb::Add(verb) => {
                let request = rules::add_request(&verb)?;
                rules::add(&mut connect(true)?, &request, &verb)
            }
            HoldRuleVerb::Remove(verb) => rules::remove(&mut connect(true)?, &verb),
        },
        QueueVerb::Retry(verb) => change::run(change::Change::retry(&verb)?, connect),
        QueueVerb::Hold(verb) => change::run(change::Change::hold(&verb)?, connect),
        QueueVerb::Release(verb) => change::run(change::Change::release(&verb)?, connect),
        QueueVerb::Drop(verb) => change::run(change::Change::drop(&verb)?, connect),
        QueueVerb::Bounce(verb) => change::run(change::Change::bounce(&verb)?, connect),
        QueueVerb::Redirect(verb) => change::run(change::Change::redirect(&verb)?, connect),
        QueueVerb::Reroute(verb) => change::run(change::Change::reroute(&verb)?, connect),
    }
}

/// A row as a message.
pub(super) fn view(row: Value) -> Result<MessageView, Problem> {
    serde_json::from_value(row)
        .map_err(|e| Problem::new(Exit::INTERNAL, format!("cannot read the answer: {e}")))
}
