//! `serve`: the daemon in the foreground.

use std::path::Path;

use super::{Ended, load};
use crate::exit::Exit;

pub(super) fn run(file: Option<&Path>) -> Ended {
    let (config, path) = load(file)?;
    let _ = (config, path);
    Err(crate::client::Problem::new(Exit::INTERNAL, "serve: not in this build yet"))
}
