//! `deliver`: the delivery process.

use std::path::Path;

use mta_core::delivery::process;

use super::{Ended, load};
use crate::args::Deliver;
use crate::client::Problem;
use crate::exit::Exit;

pub(super) fn run(file: Option<&Path>, verb: &Deliver) -> Ended {
    if verb.child {
        // No configuration is read any more: all it has to know comes from the process that started it.
        return Ok(Exit(process::run_child()));
    }
    let (config, _) = load(file)?;
    if let Err(error) = mta_core::log::init(config.log.target, config.log.level) {
        eprintln!("mta-cli: {error}");
    }
    let settings = config.delivery_settings().map_err(|text| Problem::new(Exit::CONFIGURATION, text))?;
    process::run(settings).map_err(|text| Problem::new(Exit::TEMPORARY, text))?;
    Ok(Exit::DONE)
}
