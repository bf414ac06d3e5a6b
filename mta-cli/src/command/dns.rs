//! `dns lookup`: one question through the configured resolver, in this process.

use std::path::Path;

use mta_core::inspect::{self, LookupError};
use serde_json::json;

use super::{Ended, load};
use crate::args::{DnsLookup, DnsVerb};
use crate::client::Problem;
use crate::exit::Exit;
use crate::output;

pub(super) fn run(file: Option<&Path>, verb: &DnsVerb) -> Ended {
    let DnsVerb::Lookup(verb) = verb;
    lookup(file, verb)
}

fn lookup(file: Option<&Path>, verb: &DnsLookup) -> Ended {
    let (config, _) = load(file)?;
    let report = inspect::dns_lookup(&config, &verb.name, &verb.rtype).map_err(|error| match error {
        LookupError::Question(why) => Problem::new(Exit::USAGE, format!("dns lookup: {why}")),
        LookupError::Resolver(why) => Problem::new(Exit::CONFIGURATION, format!("dns lookup: {why}")),
    })?;
    let exit = Exit(u8::try_from(report.exit_code()).unwrap_or(Exit::INTERNAL.0));
    if verb.json {
        output::print_json(json!(report));
    } else {
        output::print(&inspect::lookup_text(&report));
    }
    Ok(exit)
}
