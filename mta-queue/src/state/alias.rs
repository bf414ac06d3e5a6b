//! Aliases that the administrator keeps in the database: an address, or `@domain`, and whom it stands for.
//!
//! Bounded by `MAX_ALIASES`; nothing is ever pushed out. What it does not: it knows no syntax but text, and resolves
//! nothing.

use std::time::SystemTime;

use rusqlite::{OptionalExtension, Row, params};

use crate::error::QueueError;
use crate::reader::Reader;
use crate::store::Queue;
use crate::time::{from_unix, unix_seconds};

/// Aliases at most: they are held in memory.
pub(crate) const MAX_ALIASES: i64 = 100_000;

/// An alias as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAlias {
    /// The address, or `@domain`; lower case, the domain in A-labels.
    pub address: String,
    /// Whom it stands for, in order.
    pub targets: Vec<String>,
    /// When it was last changed.
    pub changed_at: SystemTime,
    /// By whom.
    pub who: String,
}

const COLUMNS: &str = "address, targets, changed_at, who";

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredAlias> {
    let targets: String = row.get(1)?;
    Ok(StoredAlias {
        address: row.get(0)?,
        // A damaged list stands for nobody, which delivery says.
        targets: serde_json::from_str(&targets).unwrap_or_default(),
        changed_at: from_unix(row.get(2)?),
        who: row.get(3)?,
    })
}

impl Queue {
    /// Keeps an alias in place of the one of that address. Blocks until it is on stable storage.
    ///
    /// # Errors
    /// `Invalid` for one too many; what the database reports.
    pub fn put_alias(&self, alias: &StoredAlias) -> Result<(), QueueError> {
        let targets = serde_json::to_string(&alias.targets).map_err(|_| QueueError::Invalid("alias"))?;
        let alias = alias.clone();
        self.write(move |tx| {
            let known: i64 = tx.connection.query_row(
                "SELECT count(*) FROM alias WHERE address <> ?1",
                [&alias.address],
                |row| row.get(0),
            )?;
            if known >= MAX_ALIASES {
                return Err(QueueError::Invalid("too many aliases; delete some"));
            }
            let changed = tx.connection.execute(
                &format!("INSERT OR REPLACE INTO alias ({COLUMNS}) VALUES (?1, ?2, ?3, ?4)"),
                params![alias.address, targets, unix_seconds(alias.changed_at), alias.who],
            )?;
            Ok(changed as u64)
        })
        .map(|_| ())
    }

    /// Deletes an alias; false where there is none. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn delete_alias(&self, address: &str) -> Result<bool, QueueError> {
        let address = address.to_owned();
        let delete = "DELETE FROM alias WHERE address = ?1";
        self.write(move |tx| Ok(tx.connection.execute(delete, [&address])? as u64)).map(|count| count > 0)
    }
}

impl Reader {
    /// All aliases, by address.
    ///
    /// # Errors
    /// What the database reports.
    pub fn aliases(&self) -> Result<Vec<StoredAlias>, QueueError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached(&format!("SELECT {COLUMNS} FROM alias ORDER BY address"))?;
        Ok(statement.query_map([], stored)?.collect::<Result<_, _>>()?)
    }

    /// The alias of an address.
    ///
    /// # Errors
    /// What the database reports.
    pub fn alias(&self, address: &str) -> Result<Option<StoredAlias>, QueueError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached(&format!("SELECT {COLUMNS} FROM alias WHERE address = ?1"))?;
        Ok(statement.query_row([address], stored).optional()?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::store::Options;

    #[test]
    fn aliases_survive_a_restart_and_a_new_one_replaces_the_old() {
        let directory = tempfile::tempdir().expect("directory");
        let queue = Queue::open(directory.path(), Options::default()).expect("open");
        let alias = |targets: &[&str]| StoredAlias {
            address: "info@own.example".into(),
            targets: targets.iter().map(ToString::to_string).collect(),
            changed_at: UNIX_EPOCH + Duration::from_secs(7),
            who: "root".into(),
        };
        queue.put_alias(&alias(&["a@own.example"])).expect("put");
        queue.put_alias(&alias(&["b@own.example", "c@else.example"])).expect("put");
        queue.close();
        drop(queue);
        let reader = Reader::open(directory.path()).expect("read while the daemon is down");
        assert_eq!(reader.aliases(), Ok(vec![alias(&["b@own.example", "c@else.example"])]));
        drop(reader);
        let queue = Queue::open(directory.path(), Options::default()).expect("open");
        assert_eq!(queue.delete_alias("info@own.example"), Ok(true));
        assert_eq!(queue.delete_alias("info@own.example"), Ok(false));
        assert_eq!(queue.reader().alias("info@own.example"), Ok(None));
    }
}
