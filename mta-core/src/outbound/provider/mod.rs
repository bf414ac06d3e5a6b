//! Mail providers: which hosts belong together, what their replies mean, and what is held against whom for now.
//!
//! - `table`: the known replies (`replies.toml`) and the groups of hosts. Pure.
//! - `memory`: which group is left alone, or reached over IPv4 only, until when. Pure.
//! - `explain`: writes the meaning of an attempt's replies into its decision record.
//!
//! This file is the handle that all attempts and the scheduler share. What it does not: it never makes a refusal final or
//! a final one passing, with one exception that the administrator has to ask for (`outbound.retry_blocked`).

mod explain;
mod memory;
mod table;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

pub use memory::{Consequence, Hold, Memory};
pub use table::{Class, Provider, Row, Table, host_set};

/// What is known of providers, shared.
#[derive(Debug, Default)]
pub struct Providers {
    table: Mutex<Arc<Table>>,
    memory: Mutex<Memory>,
}

impl Providers {
    /// With this table and an empty memory.
    pub fn new(table: Table) -> Self {
        Self { table: Mutex::new(Arc::new(table)), memory: Mutex::default() }
    }

    /// The table in force.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this table; what is held stays.
    pub fn reload(&self, table: Table) {
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    /// What is held against a group at this time.
    pub fn hold(&self, group: &str, now: SystemTime) -> Option<Hold> {
        let over = |until: Option<SystemTime>| until.is_none_or(|until| until <= now);
        let hold = self.memory().hold(group).copied()?;
        (!over(hold.paused_until) || !over(hold.ipv4_until)).then_some(hold)
    }

    /// The memory. Held for a moment only.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The table, with the rows of the administrator's file before it where there is one.
///
/// # Errors
/// What of the file cannot be read, with its name.
pub fn load(file: Option<&Path>) -> Result<Table, String> {
    let Some(path) = file else { return Ok(Table::default()) };
    let named = |why: String| format!("{}: {why}", path.display());
    let opened = std::fs::File::open(path).map_err(|error| named(error.to_string()))?;
    let mut text = String::new();
    let mut bounded = std::io::Read::take(opened, table::MAX_FILE_BYTES);
    std::io::Read::read_to_string(&mut bounded, &mut text).map_err(|error| named(error.to_string()))?;
    Table::with(&text).map_err(named)
}
