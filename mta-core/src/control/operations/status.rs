//! `status`: what the daemon does and how much waits.

use serde_json::Value;

use super::{QueueOperations, failed, to_value};
use crate::control::protocol::Failure;

impl QueueOperations {
    /// What the daemon does and how much waits.
    pub(super) fn status(&self) -> Result<Value, Failure> {
        let mut status = self.daemon.as_ref().map(|d| (d.status)()).unwrap_or_default();
        status.running = self.daemon.is_some();
        if status.version.is_empty() {
            env!("CARGO_PKG_VERSION").clone_into(&mut status.version);
        }
        status.queue = self.reader.counts().map_err(failed)?.into();
        to_value(&status)
    }
}
