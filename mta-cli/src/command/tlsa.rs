//! `tlsa`: the record to publish, a chain judged offline, and a host checked, all with the code of a delivery.

use std::path::Path;
use std::time::Duration;

use mta_core::inspect::{self, CheckQuestion, MakeQuestion, Source, TlsaQuestion};
use serde_json::json;

use super::{Ended, load};
use crate::args::{TlsaCheck, TlsaMake, TlsaVerb, TlsaVerify};
use crate::client::Problem;
use crate::exit::Exit;
use crate::output;

pub(super) fn run(file: Option<&Path>, verb: &TlsaVerb) -> Ended {
    match verb {
        TlsaVerb::Make(verb) => make(file, verb),
        TlsaVerb::Verify(verb) => verify(verb),
        TlsaVerb::Check(verb) => check(file, verb),
    }
}

fn make(file: Option<&Path>, verb: &TlsaMake) -> Ended {
    let (config, _) = load(file)?;
    let source = match (&verb.cert, &verb.key) {
        (Some(_), Some(_)) => {
            return Err(Problem::new(Exit::USAGE, "tlsa make: give --cert or --key, not both"));
        }
        (Some(file), None) => Source::Chain(file.clone()),
        (None, Some(file)) => Source::Key(file.clone()),
        (None, None) => Source::Own,
    };
    let question = MakeQuestion {
        source: &source,
        host: verb.host.as_deref(),
        port: verb.port,
        numbers: (verb.usage, verb.selector, verb.matching),
        force: verb.force,
    };
    let made = inspect::tlsa_make(&config, &question)
        .map_err(|why| Problem::new(Exit::USAGE, format!("tlsa make: {why}")))?;
    if verb.json {
        output::print_json(json!(made));
    } else {
        // The line alone goes to a zone file.
        made.warnings.iter().for_each(|warning| eprintln!("mta-cli: {warning}"));
        output::print(&format!("{}\n", made.line));
    }
    Ok(Exit::DONE)
}

fn check(file: Option<&Path>, verb: &TlsaCheck) -> Ended {
    let (config, _) = load(file)?;
    let question = CheckQuestion {
        target: verb.host.as_deref(),
        step_timeout: Duration::from_secs(verb.timeout.max(1)),
    };
    let checked = inspect::tlsa_check(&config, &question).map_err(|error| match error {
        inspect::ExplainError::Subject(why) => Problem::new(Exit::USAGE, format!("tlsa check: {why}")),
        inspect::ExplainError::Resolver(why) => {
            Problem::new(Exit::CONFIGURATION, format!("tlsa check: {why}"))
        }
    })?;
    if verb.json {
        output::print_json(json!(checked));
    } else {
        output::print(&checked.text(output::text_columns()));
    }
    Ok(Exit(checked.exit_code))
}

fn verify(verb: &TlsaVerify) -> Ended {
    if verb.tlsa.is_empty() {
        return Err(Problem::new(
            Exit::USAGE,
            "tlsa verify: give at least one --tlsa \"USAGE SELECTOR MATCHING HEX\"",
        ));
    }
    let chain = std::fs::read(&verb.chain).map_err(|e| {
        Problem::new(Exit::USAGE, format!("tlsa verify: --chain {}: {e}", verb.chain.display()))
    })?;
    let question = TlsaQuestion {
        records: &verb.tlsa,
        chain: &chain,
        reference_ids: &verb.reference_id,
        time: verb.time.as_deref(),
    };
    let verdict = inspect::tlsa_verify(&question)
        .map_err(|why| Problem::new(Exit::USAGE, format!("tlsa verify: {why}")))?;
    if verb.json {
        output::print_json(json!(verdict));
    } else {
        output::print(&verdict.text());
    }
    Ok(Exit(verdict.exit_code))
}
