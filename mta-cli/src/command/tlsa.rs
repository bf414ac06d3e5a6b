//! `tlsa verify`: judge a chain by records, offline, with the code of a delivery.

use mta_core::inspect::{self, TlsaQuestion};
use serde_json::json;

use super::Ended;
use crate::args::{TlsaVerb, TlsaVerify};
use crate::client::Problem;
use crate::exit::Exit;
use crate::output;

pub(super) fn run(verb: &TlsaVerb) -> Ended {
    let TlsaVerb::Verify(verb) = verb;
    verify(verb)
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
