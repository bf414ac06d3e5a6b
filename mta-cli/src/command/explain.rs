//! `explain` and `probe`: what would happen to mail for a destination, with the code of a delivery, in this process.

use std::path::Path;
use std::time::Duration;

use mta_core::inspect;
use mta_core::outbound::explain::Question;
use serde_json::json;

use super::{Ended, load};
use crate::args::{Explain, Probe};
use crate::client::Problem;
use crate::exit::Exit;
use crate::output;

pub(super) fn explain(file: Option<&Path>, verb: &Explain) -> Ended {
    let question = Question {
        subject: &verb.subject,
        probe: false,
        step_timeout: Duration::ZERO,
        deadline: Duration::from_secs(u64::from(u32::MAX)),
    };
    tell(file, "explain", &question, verb.json)
}

pub(super) fn probe(file: Option<&Path>, verb: &Probe) -> Ended {
    let question = Question {
        subject: &verb.subject,
        probe: true,
        step_timeout: Duration::from_secs(verb.timeout.max(1)),
        deadline: Duration::from_secs(verb.deadline.max(1)),
    };
    tell(file, "probe", &question, verb.json)
}

fn tell(file: Option<&Path>, name: &str, question: &Question<'_>, json: bool) -> Ended {
    let (config, _) = load(file)?;
    let told = inspect::explain(&config, question).map_err(|error| match error {
        inspect::ExplainError::Subject(why) => Problem::new(Exit::USAGE, format!("{name}: {why}")),
        inspect::ExplainError::Resolver(why) => Problem::new(Exit::CONFIGURATION, format!("{name}: {why}")),
    })?;
    if json {
        output::print_json(json!(told));
    } else {
        output::print(&told.text(output::text_columns()));
    }
    Ok(Exit(told.fate.exit_code()))
}
