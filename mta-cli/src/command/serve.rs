//! `serve`: the daemon in the foreground.

use std::path::Path;

use super::{Ended, load};
use crate::exit::Exit;

pub(super) fn run(file: Option<&Path>) -> Ended {
    let (config, path) = load(file)?;
    Ok(Exit(mta_core::daemon::run(config, path)))
}
