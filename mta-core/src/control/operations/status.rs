//! `status`: what the daemon does and how much waits; `reload`.

use serde_json::{Value, json};

use super::{QueueOperations, Rows, Source, failed, to_value};
use crate::alert::from_stored;
use crate::control::protocol::{Code, Done, Failure};
use crate::control::views::{AlertView, StatusView};

impl QueueOperations {
    /// What the daemon does and how much waits.
    pub(super) fn status(&self) -> Result<Value, Failure> {
        to_value(&self.status_view()?)
    }

    pub(super) fn status_view(&self) -> Result<StatusView, Failure> {
        let mut status = self.daemon.as_ref().map(|d| (d.status)()).unwrap_or_default();
        status.running = self.daemon.is_some();
        if status.version.is_empty() {
            env!("CARGO_PKG_VERSION").clone_into(&mut status.version);
        }
        if self.daemon.is_none() {
            let stored = self.reader.alerts().map_err(failed)?;
            status.alerts =
                stored.iter().filter_map(from_stored).map(|alert| AlertView::from(&alert)).collect();
        }
        if let Source::Queue(queue, _) = &self.source
            && self.daemon.is_some()
        {
            status.written_bytes = Some(queue.statistics().written_bytes());
        }
        status.paused = self.pauses()?;
        status.queue = self.reader.counts().map_err(failed)?.into();
        Ok(status)
    }

    /// Has the daemon read its configuration again; a row for each key that waits for a restart.
    pub(super) fn reload(&self, row: Rows<'_>) -> Result<Done, Failure> {
        let Some(daemon) = &self.daemon else {
            let text = "the daemon does not run: it reads its configuration when it starts";
            return Err(Failure::new(Code::Unreachable, text));
        };
        let keys = (daemon.reload)().map_err(|reason| {
            Failure::new(Code::Configuration, format!("the configuration in force stays: {reason}"))
        })?;
        for key in &keys {
            row(json!({ "key": key, "effect": "needs a restart" }));
        }
        Ok(Done { count: keys.len() as u64, ..Done::default() })
    }
}
